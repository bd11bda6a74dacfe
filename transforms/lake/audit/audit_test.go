package audit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
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
	"backbone/transforms/lake/store"
)

// event is a row of a test: nil is null.
type event struct {
	ID      *string
	Time    *int64
	User    *string
	Visitor *string
	Type    *string
	Item    *string
}

// part is a file of a test.
type part struct {
	events []event
	meta   map[string]string
	schema parquet.Node
}

var columnsOf = parquet.Group{
	"event_id":   parquet.Optional(parquet.String()), // as a writer with mistakes might have it
	"event_time": parquet.Optional(parquet.Timestamp(parquet.Microsecond)),
	"user_id":    parquet.Optional(parquet.String()),
	"visitor_id": parquet.Optional(parquet.String()),
	"event_type": parquet.Optional(parquet.String()),
}

// encode makes a Parquet file of a part.
func (p part) encode(t *testing.T) []byte {
	t.Helper()
	schema := parquet.NewSchema("interactions", p.schema)
	var out bytes.Buffer
	w := parquet.NewWriter(&out, schema)
	for key, value := range p.meta {
		w.SetKeyValueMetadata(key, value)
	}
	for _, e := range p.events {
		var row parquet.Row
		for i, path := range schema.Columns() {
			v := parquet.NullValue()
			switch text := (map[string]*string{"event_id": e.ID, "user_id": e.User, "visitor_id": e.Visitor, "event_type": e.Type, "item_id": e.Item})[path[0]]; {
			case path[0] == "event_time" && e.Time != nil:
				v = parquet.Int64Value(*e.Time)
			case text != nil:
				v = parquet.ByteArrayValue([]byte(*text))
			}
			definition := 1
			if v.IsNull() {
				definition = 0
			}
			row = append(row, v.Level(0, definition, i))
		}
		if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const shards = 2

var hour14 = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)

// goodLake is two hours of 2 shards, with two files each in the first one.
func goodLake() map[string]*part {
	lake := map[string]*part{}
	for hour, files := range map[int]int{14: 2, 15: 1} {
		for shard := range shards {
			for seq := range files {
				var events []event
				for minute := range 5 {
					at := hour14.Add(time.Duration(hour-14)*time.Hour + time.Duration(10*seq+minute)*time.Minute)
					id := idIn(shard, fmt.Sprintf("%d-%d-%d", hour, seq, minute))
					events = append(events, event{ID: &id, Time: new(at.UnixMicro()), User: new(fmt.Sprintf("user-%d", minute/2)), Type: new("view")})
				}
				key := fmt.Sprintf("interactions/dt=2026-11-22/hour=%d/part-%05d-of-%05d-%06d.parquet", hour, shard, shards, seq)
				lake[key] = &part{events: events, schema: columnsOf, meta: map[string]string{
					"backbone.run_id": "run-1", "backbone.writer_id": "w-1", "backbone.table": "interactions", "backbone.schema_version": "1", "backbone.rows": "5",
				}}
			}
		}
	}
	return lake
}

// idIn returns an id that belongs to a shard.
func idIn(shard int, name string) string {
	for n := 0; ; n++ {
		if id := fmt.Sprintf("%s-%d", name, n); xxh3.HashString(id)%shards == uint64(shard) {
			return id
		}
	}
}

const (
	a0 = "interactions/dt=2026-11-22/hour=14/part-00000-of-00002-000000.parquet"
	a1 = "interactions/dt=2026-11-22/hour=14/part-00000-of-00002-000001.parquet"
	b0 = "interactions/dt=2026-11-22/hour=14/part-00001-of-00002-000000.parquet"
	c0 = "interactions/dt=2026-11-22/hour=15/part-00000-of-00002-000000.parquet"
)

const tableFile = `{"table":"interactions","window":"1h","shards":2}` + "\n"

// write puts a lake on disk and returns its store.
func write(t *testing.T, lake map[string]*part, others map[string]string) *store.Store {
	t.Helper()
	dir := t.TempDir()
	put := func(key string, body []byte) {
		file := filepath.Join(dir, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for key, p := range lake {
		put(key, p.encode(t))
	}
	for key, body := range others {
		put(key, []byte(body))
	}
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func TestGoodLake(t *testing.T) {
	lake := goodLake()
	st := write(t, lake, map[string]string{
		"interactions/_table.json":                            tableFile,
		"interactions/dt=2026-11-22/hour=14/_SUCCESS":         "",
		"interactions/dt=2026-11-22/hour=14/.tmp-young":       "being written",
		"interactions/dt=2026-11-22/hour=14/_sidecar.parquet": "readers skip it",
		"_spill/chunk":          "not a table",
		"something_else/x.json": "{}",
	})
	rows := int64(0)
	got, err := Audit(t.Context(), st, Options{Parallel: 1, Progress: func(n int64) { rows += n }})
	if err != nil {
		t.Fatal(err)
	}
	first, last := hour14, hour14.Add(time.Hour+4*time.Minute)
	want := Report{Lake: st.URL(), Skipped: []string{"something_else"}, Tables: []Table{{
		Name: "interactions", Window: "1h", Shards: 2, Partitions: 2, Complete: 1, Files: 6, Rows: 30, // 2 shards * (2 + 1 files) * 5 rows
		First: &first, Last: &last,
	}}}
	for i := range got.Tables {
		if got.Tables[i].Bytes == 0 {
			t.Error("the table has no bytes")
		}
		got.Tables[i].Bytes = 0
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if rows != 30 {
		t.Errorf("progress was told of %d rows, want 30", rows)
	}
}

// Each defect is found where it is, and nothing else is.
func TestDefects(t *testing.T) {
	rename := func(lake map[string]*part, from, to string) {
		lake[to] = lake[from]
		delete(lake, from)
	}
	for _, tc := range []struct {
		name   string
		lake   func(map[string]*part)
		others func(map[string]string)
		want   []string // kind and file
		says   string
	}{
		{
			name:   "no layout",
			others: func(o map[string]string) { delete(o, "interactions/_table.json") },
			want:   []string{"layout interactions/_table.json"},
		},
		{
			name:   "an unknown window",
			others: func(o map[string]string) { o["interactions/_table.json"] = `{"window":"7h","shards":2}` },
			want:   []string{"layout interactions/_table.json"}, says: `"7h"`,
		},
		{
			name:   "no shards",
			others: func(o map[string]string) { o["interactions/_table.json"] = `{"window":"1h"}` },
			want:   []string{"layout interactions/_table.json"},
		},
		{
			name:   "a layout that is no JSON",
			others: func(o map[string]string) { o["interactions/_table.json"] = `window: 1h` },
			want:   []string{"layout interactions/_table.json"},
		},
		{
			name: "a name without leading zeros",
			lake: func(l map[string]*part) {
				rename(l, c0, "interactions/dt=2026-11-22/hour=15/part-0-of-2-0.parquet")
			},
			want: []string{"file_name interactions/dt=2026-11-22/hour=15/part-0-of-2-0.parquet"},
		},
		{
			name:   "something else beside the data",
			others: func(o map[string]string) { o["interactions/dt=2026-11-22/hour=14/notes.txt"] = "by hand" },
			want:   []string{"file_name interactions/dt=2026-11-22/hour=14/notes.txt", "unreadable interactions/dt=2026-11-22/hour=14/notes.txt"},
		},
		{
			name: "a file that is not in a partition",
			lake: func(l map[string]*part) { rename(l, c0, "interactions/part-00000-of-00002-000000.parquet") },
			want: []string{"folder interactions"}, says: "dt=2006-01-02/hour=15",
		},
		{
			name: "a partition of another window",
			lake: func(l map[string]*part) {
				rename(l, c0, "interactions/dt=2026-11-22/part-00000-of-00002-000000.parquet")
			},
			want: []string{"folder interactions/dt=2026-11-22"},
		},
		{
			name: "a day that there is not",
			lake: func(l map[string]*part) {
				rename(l, c0, "interactions/dt=2026-11-31/hour=15/part-00000-of-00002-000000.parquet")
			},
			want: []string{"folder interactions/dt=2026-11-31/hour=15"},
		},
		{
			name: "another number of shards",
			lake: func(l map[string]*part) {
				rename(l, c0, "interactions/dt=2026-11-22/hour=15/part-00000-of-00004-000000.parquet")
			},
			want: []string{"shards interactions/dt=2026-11-22/hour=15/part-00000-of-00004-000000.parquet"},
		},
		{
			name: "a shard beyond the last",
			lake: func(l map[string]*part) {
				rename(l, c0, "interactions/dt=2026-11-22/hour=15/part-00002-of-00002-000000.parquet")
			},
			want: []string{
				"shards interactions/dt=2026-11-22/hour=15/part-00002-of-00002-000000.parquet",
				"wrong_shard interactions/dt=2026-11-22/hour=15/part-00002-of-00002-000000.parquet",
			},
		},
		{
			name: "a file is missing",
			lake: func(l map[string]*part) { delete(l, a0) },
			want: []string{"gap " + a1}, says: "no number 0",
		},
		{
			name: "files are missing in between",
			lake: func(l map[string]*part) { rename(l, a1, strings.Replace(a1, "000001.", "000004.", 1)) },
			want: []string{"gap " + strings.Replace(a1, "000001.", "000004.", 1)}, says: "no number 1",
		},
		{
			name:   "not Parquet",
			others: func(o map[string]string) { o[a0] = "this is not a Parquet file" },
			want:   []string{"unreadable " + a0},
		},
		{
			name:   "empty",
			others: func(o map[string]string) { o[a0] = "" },
			want:   []string{"unreadable " + a0},
		},
		{
			name: "no metadata",
			lake: func(l map[string]*part) { l[a0].meta = nil },
			want: []string{"metadata " + a0, "metadata " + a0, "metadata " + a0, "metadata " + a0, "metadata " + a0},
		},
		{
			name: "no run",
			lake: func(l map[string]*part) { delete(l[a0].meta, "backbone.run_id") },
			want: []string{"metadata " + a0}, says: "backbone.run_id",
		},
		{
			name: "the file of another table",
			lake: func(l map[string]*part) { l[a0].meta["backbone.table"] = "contexts" },
			want: []string{"metadata " + a0}, says: `"contexts"`,
		},
		{
			name: "a version that is none",
			lake: func(l map[string]*part) { l[a0].meta["backbone.schema_version"] = "new" },
			want: []string{"metadata " + a0}, says: `"new"`,
		},
		{
			name: "rows were lost",
			lake: func(l map[string]*part) { l[a0].events = l[a0].events[1:] },
			want: []string{"row_count " + a0}, says: "backbone.rows is 5 in the footer, but the file has 4 rows",
		},
		{
			name: "no column of ids",
			lake: func(l map[string]*part) {
				without := maps.Clone(columnsOf)
				delete(without, "event_id")
				l[a0].schema = without
			},
			want: []string{"column " + a0}, says: `"event_id"`,
		},
		{
			name: "a required column is missing",
			lake: func(l map[string]*part) {
				without := maps.Clone(columnsOf)
				delete(without, "event_type")
				l[a0].schema = without
			},
			want: []string{"column " + a0}, says: `"event_type"`,
		},
		{
			name: "times in milliseconds",
			lake: func(l map[string]*part) {
				other := maps.Clone(columnsOf)
				other["event_time"] = parquet.Optional(parquet.Timestamp(parquet.Millisecond))
				l[a0].schema = other
			},
			want: []string{"column " + a0}, says: "MICROS",
		},
		{
			name: "times of no zone",
			lake: func(l map[string]*part) {
				other := maps.Clone(columnsOf)
				other["event_time"] = parquet.Optional(parquet.TimestampAdjusted(parquet.Microsecond, false))
				l[a0].schema = other
			},
			want: []string{"column " + a0}, says: "UTC",
		},
		{
			name: "no type",
			lake: func(l map[string]*part) { l[a0].events[1].Type, l[a0].events[3].Type = nil, nil },
			want: []string{"null " + a0}, says: "2 rows, the first is row 1: event_type",
		},
		{
			name: "an empty id",
			lake: func(l map[string]*part) { l[a0].events[2].ID = new("") },
			want: []string{"null " + a0}, says: "row 2: event_id",
		},
		{
			name: "no time",
			lake: func(l map[string]*part) { l[a0].events[2].Time = nil },
			want: []string{"null " + a0}, says: "event_time",
		},
		{
			name: "the first instant of the next hour",
			lake: func(l map[string]*part) { l[a0].events[4].Time = new(hour14.Add(time.Hour).UnixMicro()) },
			want: []string{"wrong_partition " + a0}, says: "1 rows, the first is row 4: its time 2026-11-22T15:00:00Z",
		},
		{
			name: "the last instant of the hour before",
			lake: func(l map[string]*part) { l[a0].events[0].Time = new(hour14.UnixMicro() - 1) },
			want: []string{"wrong_partition " + a0}, says: "13:59:59.999999Z",
		},
		{
			name: "an id of the other shard",
			lake: func(l map[string]*part) { l[a0].events[0].ID = new(idIn(1, "lost")) },
			want: []string{"wrong_shard " + a0}, says: "belongs to shard 1",
		},
		{
			name: "an id twice in a file",
			lake: func(l map[string]*part) { l[a0].events[3].ID = l[a0].events[1].ID },
			want: []string{"duplicate_id " + a0}, says: "row 3: the id is that of row 1 of " + a0,
		},
		{
			name: "an id twice in a partition",
			lake: func(l map[string]*part) { l[a1].events[0].ID = l[a0].events[4].ID },
			want: []string{"duplicate_id " + a1}, says: "row 0: the id is that of row 4 of " + a0,
		},
		{
			name: "an id twice, in the wrong shard",
			lake: func(l map[string]*part) { l[b0].events[0].ID = l[a0].events[4].ID },
			want: []string{"wrong_shard " + b0},
		},
		{
			name: "users not in order",
			lake: func(l map[string]*part) { l[a0].events[0].User = new("zoe") },
			want: []string{"unsorted " + a0}, says: `1 rows, the first is row 1`,
		},
		{
			name: "times of a user not in order",
			lake: func(l map[string]*part) {
				e := l[a0].events
				e[0].Time, e[1].Time = e[1].Time, e[0].Time
			},
			want: []string{"unsorted " + a0},
		},
		{
			name: "visitors count where there is no user",
			lake: func(l map[string]*part) {
				for i := range l[a0].events {
					e := &l[a0].events[i]
					e.User, e.Visitor = e.Visitor, e.User
				}
				l[a0].events[0].Visitor = new("zoe")
			},
			want: []string{"unsorted " + a0},
		},
		{
			name: "several defects of a file",
			lake: func(l map[string]*part) {
				l[a0].events[0].Time, l[a0].events[4].Type = new(int64(0)), nil
			},
			want: []string{"null " + a0, "wrong_partition " + a0},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lake, others := goodLake(), map[string]string{"interactions/_table.json": tableFile}
			if tc.lake != nil {
				tc.lake(lake)
			}
			if tc.others != nil {
				tc.others(others)
			}
			report, err := Audit(t.Context(), write(t, lake, others), Options{})
			if err != nil {
				t.Fatal(err)
			}
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
			if report.Wrong != int64(len(report.Findings)) {
				t.Errorf("%d are wrong, but %d are listed", report.Wrong, len(report.Findings))
			}
		})
	}
}

// However a file is damaged, the audit ends, and says so where the reader of Parquet files can tell.
func TestDamagedFiles(t *testing.T) {
	lake := goodLake()
	body := lake[a0].encode(t)
	delete(lake, a0)
	others := map[string]string{"interactions/_table.json": tableFile}
	for _, cut := range []int{1, 8, len(body) / 2, len(body) - 1} {
		others[a0] = string(body[:len(body)-cut])
		report, err := Audit(t.Context(), write(t, lake, others), Options{})
		if err != nil || len(report.Findings) == 0 {
			t.Errorf("%d bytes cut off: %v, %v; want findings", cut, report.Findings, err)
		}
	}
	// Pages have checksums, so a bit that flips in their values is found. In a page of 500 rows, values are nearly all there is.
	large := lake[b0]
	large.events = nil
	for i := range 500 {
		large.events = append(large.events, event{ID: new(idIn(1, strconv.Itoa(i))), Time: new(hour14.UnixMicro() + int64(i)), User: new("ann"), Type: new("view")})
	}
	large.meta["backbone.rows"] = "500"
	body = large.encode(t)
	others = map[string]string{"interactions/_table.json": tableFile, b0: string(body)}
	if report, err := Audit(t.Context(), write(t, nil, others), Options{}); err != nil || report.Wrong != 0 {
		t.Fatalf("%v, %v; want nothing", report.Findings, err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	tried, found := 0, 0
	for _, chunk := range f.Metadata().RowGroups[0].Columns {
		if chunk.MetaData.TotalCompressedSize < 1000 {
			continue
		}
		start := chunk.MetaData.DataPageOffset + 100 // behind the header
		for at := start; at < chunk.MetaData.DataPageOffset+chunk.MetaData.TotalCompressedSize; at += 101 {
			flipped := bytes.Clone(body)
			flipped[at] ^= 0x10
			others[b0] = string(flipped)
			report, err := Audit(t.Context(), write(t, nil, others), Options{})
			if err != nil {
				t.Fatal(err)
			}
			tried++
			if report.Wrong > 0 {
				found++
			}
		}
	}
	if tried < 50 || found != tried {
		t.Errorf("%d of %d flipped bits were found, want all", found, tried)
	}
}

func TestLeftoverTemporaryFile(t *testing.T) {
	st := write(t, goodLake(), map[string]string{
		"interactions/_table.json":                        tableFile,
		"interactions/dt=2026-11-22/hour=14/.tmp-old-1":   "half",
		"interactions/dt=2026-11-22/hour=14/.tmp-young-1": "half",
	})
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(st.URL(), "interactions/dt=2026-11-22/hour=14/.tmp-old-1"), old, old); err != nil {
		t.Fatal(err)
	}
	report, err := Audit(t.Context(), st, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 1 || report.Findings[0].Kind != KindTemporary || report.Findings[0].File != "interactions/dt=2026-11-22/hour=14/.tmp-old-1" {
		t.Errorf("findings are %v, want the one old temporary file", report.Findings)
	}
}

// The same id in two hours is no finding, since its event came with two times, but it is counted.
func TestRepeatedIDs(t *testing.T) {
	lake := goodLake()
	lake[c0].events[0].ID, lake[c0].events[1].ID = lake[a0].events[0].ID, lake[a1].events[1].ID
	report, err := Audit(t.Context(), write(t, lake, map[string]string{"interactions/_table.json": tableFile}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Wrong != 0 || report.Tables[0].Repeated != 2 || report.Tables[0].Estimated {
		t.Errorf("%d findings %v, %d ids repeated, estimated %v; want 0, 2, false", report.Wrong, report.Findings, report.Tables[0].Repeated, report.Tables[0].Estimated)
	}
}

func TestRepeatsEstimate(t *testing.T) {
	const each, twice = 20_000, 5_000
	r := newRepeats(4096)
	add := func(from, to int) {
		var ids []idAt
		for i := from; i < to; i++ {
			ids = append(ids, idAt{id: xxh3.HashString128(strconv.Itoa(i))})
		}
		r.add(ids)
	}
	add(0, each)
	add(each-twice, 2*each)
	got, estimated := r.count()
	if len(r.ids) > 4096 || !estimated {
		t.Errorf("%d ids held, estimated %v", len(r.ids), estimated)
	}
	// About 5,000 of 35,000 ids, of which 1 in 16 is in the sample: some 310, give or take 18 (one standard deviation), times 16.
	if got < twice*7/10 || got > twice*13/10 {
		t.Errorf("about %d ids repeated, want about %d", got, twice)
	}
}

func TestDeadLetters(t *testing.T) {
	id := func(i int) string { return idIn(0, strconv.Itoa(i)) }
	type letter struct {
		ID       string    `parquet:"dead_letter_id"`
		Received time.Time `parquet:"received_time,timestamp(microsecond)"`
		Type     string    `parquet:"failure_type"`
		Code     string    `parquet:"error_code"`
		Path     string    `parquet:"field_path,optional"`
		Source   string    `parquet:"source,optional"`
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[letter](&out, parquet.KeyValueMetadata("backbone.table", "dead_letters"), parquet.KeyValueMetadata("backbone.run_id", "r"),
		parquet.KeyValueMetadata("backbone.writer_id", "w"), parquet.KeyValueMetadata("backbone.rows", "4"), parquet.KeyValueMetadata("backbone.schema_version", "1"))
	if _, err := w.Write([]letter{
		{id(0), hour14, "validate", "missing", "items[0].item_id", "a.jsonl"},
		{id(1), hour14, "validate", "missing", "items[17].item_id", "a.jsonl"},
		{id(2), hour14, "decode", "syntax", "", "b.jsonl"},
		{id(3), hour14.Add(time.Minute), "validate", "invalid_id", "user_id", "b.jsonl"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := Audit(t.Context(), write(t, nil, map[string]string{
		"dead_letters/_table.json":                                      `{"table":"dead_letters","window":"day","shards":1}`,
		"dead_letters/dt=2026-11-22/part-00000-of-00001-000000.parquet": out.String(),
	}), Options{Table: "dead_letters"})
	if err != nil {
		t.Fatal(err)
	}
	if report.Wrong != 0 {
		t.Errorf("findings are %v, want none", report.Findings)
	}
	got := report.Tables[0]
	if diff := gocmp.Diff(map[string]int64{"missing": 2, "syntax": 1, "invalid_id": 1}, got.Codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(map[string]int64{"items[].item_id": 2, "user_id": 1}, got.Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestNothingToLookAt(t *testing.T) {
	good := write(t, goodLake(), map[string]string{"interactions/_table.json": tableFile, "extra/x": ""})
	ended, end := context.WithCancel(t.Context())
	end()
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		store   *store.Store
		options Options
		says    string
	}{
		{"an empty lake", t.Context(), write(t, nil, nil), Options{}, "no table"},
		{"no such table", t.Context(), good, Options{Table: "interaction"}, `"interactions"`},
		{"a table that is not known", t.Context(), good, Options{Table: "extra"}, "dead_letters"},
		{"the caller has given up", ended, good, Options{}, "canceled"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Audit(tc.ctx, tc.store, tc.options); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Audit() = %v, want it to say %q", err, tc.says)
			}
		})
	}
}

func TestMaxFindings(t *testing.T) {
	lake := goodLake()
	for _, p := range lake {
		p.meta = nil
	}
	report, err := Audit(t.Context(), write(t, lake, map[string]string{"interactions/_table.json": tableFile}), Options{MaxFindings: 7})
	if err != nil || report.Wrong != 30 || len(report.Findings) != 7 { // 6 files * 5 entries
		t.Errorf("%d wrong, %d listed, %v; want 30, 7", report.Wrong, len(report.Findings), err)
	}
}

func TestWindow(t *testing.T) {
	for _, tc := range []struct {
		window, folder string
		start, end     string // empty: refused
	}{
		{"1h", "dt=2026-11-22/hour=14", "2026-11-22T14:00:00Z", "2026-11-22T15:00:00Z"},
		{"6h", "dt=2026-11-22/hour=18", "2026-11-22T18:00:00Z", "2026-11-23T00:00:00Z"},
		{"6h", "dt=2026-11-22/hour=14", "", ""},
		{"day", "dt=2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"},
		{"24h", "dt=2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"},
		{"day", "dt=2026-02-29", "", ""},
		{"month", "month=2024-12", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"},
		{"month", "month=2024-13", "", ""},
		{"15m", "dt=2026-11-22/hour=14/minute=45", "2026-11-22T14:45:00Z", "2026-11-22T15:00:00Z"},
		{"15m", "dt=2026-11-22/hour=14/minute=40", "", ""},
		{"90m", "dt=2026-11-22/hour=13/minute=30", "2026-11-22T13:30:00Z", "2026-11-22T15:00:00Z"},
		{"1h", "dt=2026-11-22/hour=9", "", ""},
		{"1h", "dt=2026-11-22", "", ""},
		{"1h", "dt=2026-11-22/hour=14/more", "", ""},
		{"1h", "", "", ""},
	} {
		w, err := parseWindow(tc.window)
		if err != nil {
			t.Fatal(err)
		}
		start, end, err := w.partition(tc.folder)
		if tc.start == "" {
			if err == nil {
				t.Errorf("window %s: folder %q is taken for %v to %v", tc.window, tc.folder, at(start), at(end))
			}
			continue
		}
		if err != nil || at(start) != tc.start || at(end) != tc.end {
			t.Errorf("window %s: folder %q is %v to %v, %v; want %v to %v", tc.window, tc.folder, at(start), at(end), err, tc.start, tc.end)
		}
	}
	for _, window := range []string{"", "7h", "30s", "48h", "week", "-1h", "90s"} {
		if _, err := parseWindow(window); err == nil {
			t.Errorf("window %q is accepted", window)
		}
	}
}

// The columns that are looked at are those that the tables say.
func TestSpecsAgreeWithTheTables(t *testing.T) {
	i := schemas.Interaction{EventID: "id", EventTime: schemas.Some[int64](7), UserID: "user", VisitorID: "visitor"}
	holds(t, schemas.Interactions, &i, "user")
	i.UserID = ""
	holds(t, schemas.Interactions, &i, "visitor")
	holds(t, schemas.DeadLetters, &schemas.DeadLetter{DeadLetterID: "id", ReceivedTime: schemas.Some[int64](7), Source: "source"}, "source")
}

func holds[R any](t *testing.T, table *schemas.Table[R], r *R, sortedBy string) {
	t.Helper()
	s := specs[table.Name]
	text := func(name string) string {
		c, ok := table.Column(name)
		if !ok || c.Str == nil {
			t.Fatalf("table %q has no text %q", table.Name, name)
		}
		return *c.Str(r)
	}
	time, _ := table.Column(s.time)
	if id, micros := table.Slot(r); id != text(s.id) || micros != time.Int(r).V {
		t.Errorf("table %q: a row belongs where %q, %d says; the columns say %q, %d", table.Name, id, micros, text(s.id), time.Int(r).V)
	}
	by := ""
	for _, name := range s.sort {
		by = cmp.Or(by, text(name))
	}
	if by != sortedBy || table.SortBy(r) != sortedBy {
		t.Errorf("table %q: rows are sorted by %q; the columns say %q, want %q", table.Name, table.SortBy(r), by, sortedBy)
	}
}
