package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
)

// itemRow is a row of a test: nil is null.
type itemRow struct {
	ID      *string `parquet:"item_id,optional"` // as a writer with mistakes might have it
	Updated *int64  `parquet:"updated_time,optional,timestamp(microsecond)"`
	Deleted *bool   `parquet:"is_deleted,optional"`
	From    *int64  `parquet:"valid_from,optional,timestamp(microsecond)"`
	To      *int64  `parquet:"valid_to,optional,timestamp(microsecond)"`
	Hash    *string `parquet:"content_hash,optional"`
	Title   *string `parquet:"title,optional"`
}

// day returns noon of a day of November 2026.
func day(d int) int64 { return time.Date(2026, 11, d, 12, 0, 0, 0, time.UTC).UnixMicro() }

// live returns a version that begins on a day; to is 0 where it is current.
func live(id, title string, from, to int) itemRow {
	r := itemRow{ID: &id, Updated: new(day(from)), Deleted: new(false), From: new(day(from)), Hash: new("hash of " + title), Title: &title}
	if to > 0 {
		r.To = new(day(to))
	}
	return r
}

// gone returns a version in which the row is deleted.
func gone(id string, from, to int) itemRow {
	r := live(id, "", from, to)
	r.Deleted, r.Hash, r.Title = new(true), nil, nil
	return r
}

// itemFile is a file of a test.
type itemFile struct {
	rows []itemRow
	meta map[string]string
}

// The ids of a test, named after their shards of 2; those of shard 0 are also of shard 0 of 1.
var (
	even1, even2, odd1 = itemIn(0, "a"), itemIn(0, "b"), itemIn(1, "c")
	odd2               = itemIn(1, "d")
)

func itemIn(shard uint64, name string) string {
	for n := 0; ; n++ {
		if id := fmt.Sprintf("%s-%d", name, n); xxh3.HashString(id)%2 == shard {
			return id
		}
	}
}

const (
	state1 = "items/as_of=20261110T120000Z/part-00000-of-00001.parquet"
	state2 = "items/as_of=20261115T120000Z/part-00000-of-00001.parquet"
	past2  = "items_history/as_of=20261115T120000Z/part-00000-of-00001.parquet"
	even3  = "items/as_of=20261120T120000Z/part-00000-of-00002.parquet"
	odd3   = "items/as_of=20261120T120000Z/part-00001-of-00002.parquet"
	past3  = "items_history/as_of=20261120T120000Z/part-00000-of-00002.parquet"

	line1, line2, line3 = "items/_versions/000001.json", "items/_versions/000002.json", "items/_versions/000003.json"
)

// versionLake is three versions of items, as the log has them, and their files.
type versionLake struct {
	log    map[string]*logged
	files  map[string]*itemFile
	others map[string]string
}

// goodVersions: the first two versions have one shard, the third has two.
func goodVersions() *versionLake {
	l := &versionLake{files: map[string]*itemFile{}, others: map[string]string{}, log: map[string]*logged{
		line1: {Number: 1, AsOf: "20261110T120000Z", Shards: 1, Histories: []string{}},
		line2: {Number: 2, AsOf: "20261115T120000Z", Shards: 1, Histories: []string{"20261115T120000Z"}},
		line3: {Number: 3, AsOf: "20261120T120000Z", Shards: 2, Histories: []string{"20261115T120000Z", "20261120T120000Z"}},
	}}
	put := func(key string, rows ...itemRow) {
		l.files[key] = &itemFile{rows: rows}
		l.others[filepath.ToSlash(filepath.Dir(key))+"/_SUCCESS"] = ""
	}
	put(state1, live(even1, "A1", 1, 0), live(even2, "B1", 2, 0), live(odd1, "C1", 3, 0))
	put(state2, live(even1, "A3", 12, 0), gone(even2, 15, 0), live(odd1, "C1", 3, 0))
	put(past2, live(even1, "A1", 1, 12), live(even2, "B1", 2, 15))
	// even1 has an update, and another one that came late; even2 is there again as it was; odd2 is new.
	back := live(even2, "B1", 20, 0)
	back.Updated = new(day(2))
	put(even3, live(even1, "A4", 18, 0), back)
	put(odd3, live(odd1, "C1", 3, 0), live(odd2, "D1", 19, 0))
	put(past3, live(even1, "A2", 5, 12), live(even1, "A3", 12, 18), gone(even2, 15, 20))
	for _, v := range l.log {
		l.others[fmt.Sprintf("items/as_of=%s/_plan-%06d.json", v.AsOf, v.Number)] = "{}"
	}
	return l
}

// drop removes a folder.
func (l *versionLake) drop(folder string) {
	maps.DeleteFunc(l.files, func(key string, _ *itemFile) bool { return strings.HasPrefix(key, folder+"/") })
	maps.DeleteFunc(l.others, func(key, _ string) bool { return strings.HasPrefix(key, folder+"/") })
}

// encode returns the bytes of all objects. The log says what is in the files.
func (l *versionLake) encode(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, f := range l.files {
		table, _, _ := strings.Cut(key, "/")
		meta := map[string]string{"backbone.table": table, "backbone.schema_version": "1", "backbone.rows": strconv.Itoa(len(f.rows))}
		maps.Copy(meta, f.meta)
		var out bytes.Buffer
		w := parquet.NewGenericWriter[itemRow](&out)
		for name, value := range meta {
			w.SetKeyValueMetadata(name, value)
		}
		if _, err := w.Write(f.rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[key] = out.String()
	}
	before := int64(0)
	for _, key := range []string{line1, line2, line3} {
		v := l.log[key]
		v.Mode, v.Input, v.Schema, v.Counts.Before = "full", "of a test", 1, before
		for _, file := range slices.Sorted(maps.Keys(l.files)) {
			shard := slices.Index([]string{"items/as_of=" + v.AsOf + "/" + pieceName(0, v.Shards), "items/as_of=" + v.AsOf + "/" + pieceName(1, v.Shards)}, file)
			p := piece{Shard: max(0, shard), Rows: int64(len(l.files[file].rows)), Bytes: int64(len(all[file]))}
			switch {
			case shard >= 0:
				for _, r := range l.files[file].rows {
					if r.Deleted == nil || !*r.Deleted {
						p.Live++
					}
				}
				v.Current = append(v.Current, p)
				v.Counts.Live += p.Live
				v.Counts.Deleted += p.Rows - p.Live
			case file == "items_history/as_of="+v.AsOf+"/"+pieceName(0, v.Shards):
				v.History = append(v.History, p)
				v.Counts.Closed += p.Rows
			}
		}
		before = v.Counts.Live
	}
	return all
}

// audit writes a lake, after spoil has changed its log, and audits it.
func (l *versionLake) audit(t *testing.T, spoil func(l *versionLake, objects map[string]string)) Report {
	t.Helper()
	objects := l.encode(t)
	if spoil != nil {
		spoil(l, objects)
	}
	for key, v := range l.log {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		objects[key] = string(body)
	}
	maps.Copy(objects, l.others)
	report, err := Audit(t.Context(), write(t, nil, objects), Options{Table: "items"})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestGoodVersions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*versionLake, map[string]string)
		want   Versioned
	}{
		{"all", nil, Versioned{Kept: 3, Files: 6}},
		{"an old version was removed", func(l *versionLake, objects map[string]string) {
			delete(objects, state1)
			l.drop("items/as_of=20261110T120000Z")
		}, Versioned{Kept: 2, Files: 5}},
		{"a run is at work", func(l *versionLake, objects map[string]string) {
			l.others["items/as_of=20261121T120000Z/_plan-000004.json"] = "{}"
			objects["items/as_of=20261121T120000Z/part-00000-of-00002.parquet"] = "not to be looked at"
			objects["items_history/as_of=20261121T120000Z/part-00000-of-00002.parquet"] = "not to be looked at"
		}, Versioned{Kept: 3, Files: 6, Unfinished: []string{"items/as_of=20261121T120000Z"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			report := goodVersions().audit(t, tc.change)
			asOf := time.UnixMicro(day(20)).UTC()
			want := tc.want
			want.Name, want.Versions, want.AsOf, want.Shards = "items", 3, &asOf, 2
			want.Live, want.Closed = 4, 5
			if len(report.Versioned) != 1 || report.Versioned[0].Bytes == 0 {
				t.Fatalf("tables of versions are %v, want items with some bytes", report.Versioned)
			}
			report.Versioned[0].Bytes = 0
			if diff := gocmp.Diff(want, report.Versioned[0]); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			if report.Wrong != 0 || len(report.Tables) != 0 {
				t.Errorf("findings are %v and other tables %v, want none", report.Findings, report.Tables)
			}
		})
	}
}

// Each defect of a table of versions is found where it is, and nothing else is.
func TestVersionDefects(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lake  func(*versionLake)                    // before the log is made of it
		spoil func(*versionLake, map[string]string) // after that
		want  []string                              // kind and file
		says  string
	}{
		// The log.
		{
			name:  "a line is missing",
			spoil: func(l *versionLake, _ map[string]string) { delete(l.log, line2) },
			want:  []string{"version_log " + line2}, says: "without a gap",
		},
		{
			name: "a line is no JSON",
			spoil: func(l *versionLake, _ map[string]string) {
				delete(l.log, line2)
				l.others[line2] = "{"
			},
			want: []string{"version_log " + line2}, says: "cannot be read",
		},
		{
			name:  "something else is in the log",
			spoil: func(l *versionLake, _ map[string]string) { l.others["items/_versions/4.json"] = "{}" },
			want:  []string{"file_name items/_versions/4.json"},
		},
		{
			name:  "another number",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line1].Number = 7 },
			want:  []string{"version_log " + line1}, says: "number is 7, want 1",
		},
		{
			name:  "no such mode",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line3].Mode = "half" },
			want:  []string{"version_log " + line3}, says: `"half"`,
		},
		{
			name:  "no time",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line2].AsOf = "2026-11-15" },
			want:  []string{"version_log " + line2}, says: `as_of is "2026-11-15"`,
		},
		{
			name:  "no power of two",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line3].Shards = 3 },
			want:  []string{"version_log " + line3}, says: "power of two",
		},
		{
			name:  "a shard is missing in the log",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line3].Current = l.log[line3].Current[:1] },
			want:  []string{"version_log " + line3}, says: "one for each shard",
		},
		{
			name:  "counts that do not add up",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line3].Counts.Closed++ },
			want:  []string{"version_log " + line3}, says: "but its files have",
		},
		{
			name:  "not built on the version before",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line2].Counts.Before = 2 },
			want:  []string{"version_log " + line2}, says: "2 rows were live before",
		},
		{
			name:  "history is not carried on",
			spoil: func(l *versionLake, _ map[string]string) { l.log[line3].Histories = l.log[line3].Histories[1:] },
			want:  []string{"version_log " + line3}, says: "histories is",
		},
		{
			name: "versions of the same time",
			lake: func(l *versionLake) {
				l.drop("items/as_of=20261110T120000Z")
				l.files["items/as_of=20261115T120000Z/part-00000-of-00001.parquet"] = l.files[state2]
				l.log[line1].AsOf = l.log[line2].AsOf
				l.log[line1].Histories, l.log[line2].Histories = l.log[line2].Histories, []string{"20261115T120000Z", "20261115T120000Z"}
				l.log[line3].Histories = []string{"20261115T120000Z", "20261115T120000Z", "20261120T120000Z"}
			},
			// The history is read twice, so all that is in it is there twice.
			want: []string{"duplicate_id " + past2, "version_log " + line2}, says: "is 20261115T120000Z already",
		},

		// Folders and files.
		{
			name:  "no mark",
			spoil: func(l *versionLake, _ map[string]string) { delete(l.others, "items/as_of=20261120T120000Z/_SUCCESS") },
			want:  []string{"not_marked items/as_of=20261120T120000Z"},
		},
		{
			name: "no mark of history",
			spoil: func(l *versionLake, _ map[string]string) {
				delete(l.others, "items_history/as_of=20261115T120000Z/_SUCCESS")
			},
			want: []string{"not_marked items_history/as_of=20261115T120000Z"},
		},
		{
			name: "the newest version is not there",
			spoil: func(l *versionLake, objects map[string]string) {
				l.drop("items/as_of=20261120T120000Z")
				delete(objects, even3)
				delete(objects, odd3)
			},
			want: []string{"missing items/as_of=20261120T120000Z"},
		},
		{
			name:  "a file is missing",
			spoil: func(_ *versionLake, objects map[string]string) { delete(objects, odd3) },
			want:  []string{"missing " + odd3},
		},
		{
			name: "history is missing",
			spoil: func(l *versionLake, objects map[string]string) {
				l.drop("items_history/as_of=20261115T120000Z")
				delete(objects, past2)
			},
			want: []string{"missing items_history/as_of=20261115T120000Z"},
		},
		{
			name: "a removal that was not finished",
			spoil: func(l *versionLake, objects map[string]string) {
				delete(l.others, "items/as_of=20261110T120000Z/_SUCCESS")
				delete(objects, state1)
			},
			want: []string{"left_behind items/as_of=20261110T120000Z"}, says: "0 of the 1 files",
		},
		{
			name:  "another file than was committed",
			spoil: func(_ *versionLake, objects map[string]string) { objects[past2] = objects[past3] },
			want:  []string{"size " + past2},
		},
		{
			name: "no Parquet file",
			spoil: func(_ *versionLake, objects map[string]string) {
				objects[even3] = strings.Repeat("x", len(objects[even3]))
			},
			want: []string{"unreadable " + even3},
		},
		{
			name: "a file that the log does not name",
			spoil: func(_ *versionLake, objects map[string]string) {
				objects["items/as_of=20261120T120000Z/notes.txt"] = "by hand"
			},
			want: []string{"file_name items/as_of=20261120T120000Z/notes.txt"},
		},
		{
			name: "a file of other shards",
			spoil: func(_ *versionLake, objects map[string]string) {
				objects["items/as_of=20261120T120000Z/part-00000-of-00001.parquet"] = ""
			},
			want: []string{"shards items/as_of=20261120T120000Z/part-00000-of-00001.parquet"},
		},
		{
			name:  "a file beside the folders",
			spoil: func(_ *versionLake, objects map[string]string) { objects["items/items.parquet"] = "" },
			want:  []string{"folder items"},
		},
		{
			name: "an old run was not finished",
			spoil: func(l *versionLake, objects map[string]string) {
				l.others["items/as_of=20261117T120000Z/_plan-000003.json"] = "{}"
				objects["items/as_of=20261117T120000Z/part-00000-of-00001.parquet"] = ""
			},
			want: []string{"left_behind items/as_of=20261117T120000Z"},
		},
		{
			name: "old history that no version names",
			spoil: func(_ *versionLake, objects map[string]string) {
				objects["items_history/as_of=20261117T120000Z/part-00000-of-00001.parquet"] = ""
			},
			want: []string{"left_behind items_history/as_of=20261117T120000Z"},
		},
		{
			name: "marked, but not in the log",
			spoil: func(l *versionLake, _ map[string]string) {
				l.others["items/as_of=20261121T120000Z/_plan-000004.json"] = "{}"
				l.others["items/as_of=20261121T120000Z/_SUCCESS"] = ""
			},
			want: []string{"folder items/as_of=20261121T120000Z"}, says: "has _SUCCESS",
		},
		{
			name: "begun by nobody",
			spoil: func(_ *versionLake, objects map[string]string) {
				objects["items/as_of=20261121T120000Z/part-00000-of-00001.parquet"] = ""
			},
			want: []string{"folder items/as_of=20261121T120000Z"}, says: "no run has begun one",
		},

		// Rows.
		{
			name: "fewer rows than the log says",
			spoil: func(l *versionLake, _ map[string]string) {
				l.log[line3].History[0].Rows++
				l.log[line3].Counts.Closed++
			},
			want: []string{"row_count " + past3}, says: "3 rows, but 4 by the log",
		},
		{
			name: "fewer live rows than the log says",
			spoil: func(l *versionLake, _ map[string]string) {
				l.log[line3].Current[0].Live--
				l.log[line3].Counts.Live--
				l.log[line3].Counts.Deleted++
			},
			want: []string{"row_count " + even3}, says: "2 of its rows are live, but 1 by the log",
		},
		{
			name: "the file of another table",
			lake: func(l *versionLake) { l.files[even3].meta = map[string]string{"backbone.table": "users"} },
			want: []string{"metadata " + even3}, says: `"users"`,
		},
		{
			name: "another schema than the log says",
			lake: func(l *versionLake) { l.files[even3].meta = map[string]string{"backbone.schema_version": "2"} },
			want: []string{"metadata " + even3}, says: "1 by the log",
		},
		{
			name: "no valid_from",
			lake: func(l *versionLake) { l.files[state1].rows[1].From = nil },
			want: []string{"null " + state1}, says: "row 1: valid_from",
		},
		{
			name: "an empty id",
			lake: func(l *versionLake) { l.files[state1].rows[1].ID = new("") },
			want: []string{"null " + state1}, says: "row 1: item_id",
		},
		{
			name: "an id of the other shard",
			lake: func(l *versionLake) {
				l.files[even3].rows = append(l.files[even3].rows, live(itemIn(1, "z"), "Z", 19, 0))
			},
			want: []string{"wrong_shard " + even3}, says: "belongs to shard 1",
		},
		{
			name: "ids not in order",
			lake: func(l *versionLake) { slices.Reverse(l.files[even3].rows) },
			want: []string{"unsorted " + even3},
		},
		{
			name: "versions of an id not in order",
			lake: func(l *versionLake) { slices.Reverse(l.files[past3].rows[:2]) },
			want: []string{"unsorted " + past3},
		},
		{
			name: "an id twice",
			lake: func(l *versionLake) { l.files[state1].rows[1].ID = l.files[state1].rows[0].ID },
			want: []string{"duplicate_id " + state1},
		},
		{
			name: "updated after it began",
			lake: func(l *versionLake) { *l.files[odd3].rows[0].Updated = day(4) },
			want: []string{"times " + odd3}, says: "was updated at 2026-11-04T12:00:00Z, after its valid_from 2026-11-03T12:00:00Z",
		},
		{
			name: "a state that has ended",
			lake: func(l *versionLake) { l.files[odd3].rows[0].To = new(day(5)) },
			want: []string{"times " + odd3}, says: "of the current state",
		},
		{
			name: "ended before it began",
			lake: func(l *versionLake) { *l.files[past3].rows[0].To = day(5) },
			want: []string{"times " + past3}, says: "not after its valid_from",
		},
		{
			name: "from the future",
			lake: func(l *versionLake) {
				*l.files[odd3].rows[1].Updated, *l.files[odd3].rows[1].From = day(22), day(22)
			},
			want: []string{"times " + odd3}, says: "a day after as_of",
		},
		{
			name: "history that did not end",
			lake: func(l *versionLake) { l.files[past3].rows[1].To = nil },
			want: []string{"null " + past3}, says: "valid_to",
		},
		{
			name: "deleted with content",
			lake: func(l *versionLake) { l.files[state2].rows[1].Title = new("B1") },
			want: []string{"content " + state2}, says: "is deleted, but has content",
		},
		{
			name: "deleted with a hash",
			lake: func(l *versionLake) { l.files[state2].rows[1].Hash = new("hash of B1") },
			want: []string{"content " + state2}, says: "is deleted, but has a content_hash",
		},
		{
			name: "content without a hash",
			lake: func(l *versionLake) { l.files[state1].rows[1].Hash = nil },
			want: []string{"content " + state1}, says: "is not deleted, but has no content_hash",
		},

		// Versions of an id.
		{
			name: "a version twice in one history",
			lake: func(l *versionLake) {
				l.files[past3].rows = slices.Insert(l.files[past3].rows, 1, l.files[past3].rows[1])
			},
			want: []string{"duplicate_id " + past3}, says: "is that of row 1 of " + past3,
		},
		{
			name: "a version twice in all history",
			lake: func(l *versionLake) {
				l.files[past3].rows = slices.Insert(l.files[past3].rows, 0, l.files[past2].rows[0])
			},
			want: []string{"duplicate_id " + past3}, says: "is that of row 0 of " + past2,
		},
		{
			name: "the current version in the history",
			lake: func(l *versionLake) {
				l.files[past3].rows = slices.Insert(l.files[past3].rows, 2, live(even1, "A4", 18, 20))
			},
			want: []string{"duplicate_id " + past3}, says: "is that of row 0 of " + even3,
		},
		{
			name: "a version was lost",
			lake: func(l *versionLake) { l.files[past3].rows = slices.Delete(l.files[past3].rows, 2, 3) },
			want: []string{"history_hole " + past2}, says: "ended at 2026-11-15T12:00:00Z, but the next one begins at 2026-11-20T12:00:00Z",
		},
		{
			name: "a version was lost where others are",
			lake: func(l *versionLake) {
				l.files[past3].rows = slices.Delete(l.files[past3].rows, 1, 2)
				*l.files[past3].rows[0].To = day(18)
			},
			want: []string{"history_hole " + past2}, says: "the version that began then is not there",
		},
		{
			name: "history after the current version",
			lake: func(l *versionLake) {
				l.files[past3].rows = slices.Insert(l.files[past3].rows, 2, live(even1, "A5", 19, 20))
			},
			want: []string{"history_order " + past3}, says: "not before the current one",
		},
		{
			name: "an id that only the history has",
			lake: func(l *versionLake) { l.files[even3].rows = l.files[even3].rows[:1] },
			want: []string{"history_only " + past2},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := goodVersions()
			if tc.lake != nil {
				tc.lake(l)
			}
			report := l.audit(t, tc.spoil)
			var got []string
			said := ""
			for _, f := range report.Findings {
				got = append(got, string(f.Kind)+" "+f.File)
				said += f.String() + "\n"
			}
			slices.Sort(got)
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s\n%s", diff, said)
			}
			if !strings.Contains(said, tc.says) {
				t.Errorf("the report says\n%swant it to say %q", said, tc.says)
			}
		})
	}
}

// A history that comes without its table is looked at, too.
func TestHistoryWithoutTable(t *testing.T) {
	report, err := Audit(t.Context(), write(t, nil, map[string]string{"users_history/as_of=20261120T120000Z/part-00000-of-00001.parquet": ""}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 1 || report.Findings[0].Kind != KindFolder || report.Versioned[0].Name != "users" {
		t.Errorf("findings are %v in %v, want the one folder", report.Findings, report.Versioned)
	}
}

// The columns of a stamp, which are looked at by their names, stand before the content, and no column of the content is required.
func TestStampColumns(t *testing.T) {
	stampOf(t, schemas.Users, "user_id")
	stampOf(t, schemas.Items, "item_id")
}

func stampOf[R any](t *testing.T, table *schemas.Table[R], id string) {
	t.Helper()
	var got, needed []string
	for i, c := range table.Columns {
		if i < table.KeyColumns {
			got = append(got, c.Name)
		}
		if c.Required {
			needed = append(needed, c.Name)
		}
	}
	if diff := gocmp.Diff([]string{id, "updated_time", "is_deleted", "valid_from", "valid_to", "content_hash"}, got); diff != "" {
		t.Errorf("stamp of table %q (-want +got):\n%s", table.Name, diff)
	}
	if diff := gocmp.Diff([]string{id, "updated_time", "is_deleted", "valid_from"}, needed); diff != "" {
		t.Errorf("required columns of table %q (-want +got):\n%s", table.Name, diff)
	}
	if spec := versionSpecs[table.Name]; spec.id != id {
		t.Errorf("table %q: the id is in %q, want %q", table.Name, spec.id, id)
	}
}
