package audit

import (
	"bytes"
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

	"backbone/schemas"
)

// The rows of a test have what the columns of the tables have that are looked at, and nothing that is not; nil is null, as a writer
// with mistakes might have it.
type (
	paneRow struct {
		Start    *int64  `parquet:"window_start,optional,timestamp(microsecond)"`
		End      *int64  `parquet:"window_end,optional,timestamp(microsecond)"`
		Revision *int64  `parquet:"revision,optional"`
		Pane     *string `parquet:"pane,optional"`
	}
	sessionRow struct {
		Key       *string  `parquet:"session_key,optional"`
		From      *int64   `parquet:"start_time,optional,timestamp(microsecond)"`
		To        *int64   `parquet:"end_time,optional,timestamp(microsecond)"`
		User      *string  `parquet:"user_id,optional"`
		Visitor   *string  `parquet:"visitor_id,optional"`
		Duration  *float64 `parquet:"duration,optional"`
		Events    *int64   `parquet:"events,optional"`
		Surface   *string  `parquet:"entry_surface,optional"`
		Converted *bool    `parquet:"converted,optional"`
		paneRow
	}
	trendRow struct {
		Scope      *string  `parquet:"scope,optional"`
		Value      *string  `parquet:"scope_value,optional"`
		Rank       *int64   `parquet:"rank,optional"`
		Item       *string  `parquet:"item_id,optional"`
		Popularity *float64 `parquet:"popularity,optional"`
		Score      *float64 `parquet:"score,optional"`
		Events     *int64   `parquet:"events,optional"`
		paneRow
	}
)

// result is a result of a test; other is a file that is none.
type result struct {
	meta     map[string]string
	sessions []sessionRow
	trends   []trendRow
	other    []byte
}

// hour returns a time of the 22nd of November 2026, with minutes.
func hour(h, m int) int64 {
	return hour14.Add(time.Duration(h-14)*time.Hour + time.Duration(m)*time.Minute).UnixMicro()
}

// window is the window of a row: hours from one to another.
func windowOf(from, to int, revision int64, pane string) paneRow {
	return paneRow{new(hour(from, 0)), new(hour(to, 0)), &revision, &pane}
}

// trendsOf are the trends of a window: two items of all, one of a country.
func trendsOf(p paneRow) (rows []trendRow) {
	for _, r := range []struct {
		scope, value, item string
		rank               int64
	}{{"all", "", "a", 1}, {"all", "", "b", 2}, {"country", "AT", "b", 1}} {
		row := trendRow{Scope: &r.scope, Rank: &r.rank, Item: &r.item, Popularity: new(1.5), Score: new(2.0), Events: new(int64(2)), paneRow: p}
		if r.value != "" {
			row.Value = &r.value
		}
		rows = append(rows, row)
	}
	return rows
}

// sessionOf is a session of a user.
func sessionOf(user string, from, to int64, p paneRow) sessionRow {
	return sessionRow{
		Key: new("key of " + user), From: &from, To: &to, User: &user, Duration: new(float64(to-from) / 1e6), Events: new(int64(2)), Converted: new(false), paneRow: p,
	}
}

// footer is the metadata of a result.
func footer(table, revision string, rows int, from, to int64) map[string]string {
	return map[string]string{
		"backbone.table": table, "backbone.schema_version": "1", "backbone.rows": strconv.Itoa(rows), "backbone.revision": revision,
		"backbone.inputs_from": number(from), "backbone.inputs_to": number(to),
	}
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

const (
	trend14 = "trending/dt=2026-11-22/20261122T140000Z-1h.parquet"
	trend15 = "trending/dt=2026-11-22/20261122T150000Z-1h.parquet"
	live15  = "trending_live/dt=2026-11-22/20261122T150000Z-1h-r0000000002.parquet"
	live15b = "trending_live/dt=2026-11-22/20261122T150000Z-1h-r0000000005.parquet"
	sess13  = "sessions/dt=2026-11-22/20261122T130000Z-1h.parquet"
	sess14  = "sessions/dt=2026-11-22/20261122T140000Z-1h.parquet"
	mark14  = "interactions/dt=2026-11-22/hour=14/_windows-8b1f03c2d4e5a697-0000000004"
	mark15  = "interactions/dt=2026-11-22/hour=15/_windows-8b1f03c2d4e5a697-0000000002"
)

// goodResults are results of what goodLake has, 4 files of 14:00 and 2 of 15:00: 14:00 is settled, 15:00 is not.
func goodResults() (results map[string]*result, others map[string]string) {
	results = map[string]*result{
		trend14: {trends: trendsOf(windowOf(14, 15, 9, "settled")), meta: footer("trending", "9", 3, hour(14, 0), hour(15, 0))},
		live15:  {trends: trendsOf(windowOf(15, 16, 2, "early")), meta: footer("trending", "2", 3, hour(15, 0), hour(16, 0))},
		live15b: {trends: trendsOf(windowOf(15, 16, 5, "late")), meta: footer("trending", "5", 3, hour(15, 0), hour(16, 0))},
		sess14: {
			sessions: []sessionRow{
				sessionOf("ann", hour(13, 50), hour(14, 20), windowOf(14, 15, 13, "settled")),
				sessionOf("bob", hour(14, 10), hour(14, 59), windowOf(14, 15, 13, "settled")),
			},
			meta: footer("sessions", "13", 2, hour(13, 0), hour(16, 0)),
		},
	}
	return results, map[string]string{"interactions/_table.json": tableFile}
}

// panes returns what all rows have.
func (r *result) panes() (all []*paneRow) {
	for i := range r.trends {
		all = append(all, &r.trends[i].paneRow)
	}
	for i := range r.sessions {
		all = append(all, &r.sessions[i].paneRow)
	}
	return all
}

// revise gives the result another revision.
func (r *result) revise(revision int64) {
	for _, p := range r.panes() {
		p.Revision = &revision
	}
	r.meta["backbone.revision"] = number(revision)
}

// time gives the result another pane.
func (r *result) time(pane string) {
	for _, p := range r.panes() {
		p.Pane = &pane
	}
}

// encode makes the file of a result.
func (r *result) encode(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	switch {
	case r.other != nil:
		return string(r.other)
	case r.trends != nil:
		writeTestRows(t, &out, r.trends, r.meta)
	default:
		writeTestRows(t, &out, r.sessions, r.meta)
	}
	return out.String()
}

func writeTestRows[R any](t *testing.T, out *bytes.Buffer, rows []R, meta map[string]string) {
	t.Helper()
	w := parquet.NewGenericWriter[R](out)
	for key, value := range meta {
		w.SetKeyValueMetadata(key, value)
	}
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// withItems gives all events of a lake an item, which is what trending is made of.
func withItems(lake map[string]*part) {
	columns := maps.Clone(columnsOf)
	columns["item_id"] = parquet.Optional(parquet.String())
	for _, p := range lake {
		p.schema = columns
		for i := range p.events {
			p.events[i].Item = new("a")
		}
	}
}

func TestGoodResults(t *testing.T) {
	lake := goodLake()
	withItems(lake)
	results, others := goodResults()
	for key, r := range results {
		others[key] = r.encode(t)
	}
	others[mark14] = ""
	others["interactions/dt=2026-11-22/hour=14/_part-00000-of-00002-000001.digest"] = "a digest"
	others["trending/dt=2026-11-22/_notes.txt"] = "readers skip it"
	got, err := Audit(t.Context(), write(t, lake, others), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Wrong != 0 {
		t.Errorf("findings are %v, want none", got.Findings)
	}
	for i := range got.Windowed {
		if got.Windowed[i].Bytes == 0 {
			t.Error("a table has no bytes")
		}
		got.Windowed[i].Bytes = 0
	}
	first, last := hour14, hour14.Add(time.Hour)
	want := []Windowed{
		{Name: "sessions", Windows: 1, Files: 1, Rows: 2, First: &first, Last: &last},
		{Name: "trending", Windows: 1, Files: 1, Rows: 3, First: &first, Last: &last, Live: 1},
	}
	if diff := gocmp.Diff(want, got.Windowed); diff != "" {
		t.Errorf("tables of windows (-want +got):\n%s", diff)
	}
	for _, name := range []string{"trending", "trending_live"} {
		one, err := Audit(t.Context(), write(t, lake, others), Options{Table: name})
		if err != nil || len(one.Tables) != 0 || len(one.Windowed) != 1 || one.Windowed[0].Name != "trending" || one.Wrong != 0 {
			t.Errorf("table %s alone: %+v, %v", name, one, err)
		}
	}
}

// Each defect of results is found where it is, and nothing else is.
func TestDefectsOfResults(t *testing.T) {
	rename := func(r map[string]*result, from, to string) {
		r[to] = r[from]
		delete(r, from)
	}
	for _, tc := range []struct {
		name   string
		spoil  func(results map[string]*result)
		others func(map[string]string)
		want   []string // kind and file
		says   string
	}{
		// Names.
		{
			name:  "a name without a size",
			spoil: func(r map[string]*result) { rename(r, trend14, "trending/dt=2026-11-22/20261122T140000Z.parquet") },
			want:  []string{"file_name trending/dt=2026-11-22/20261122T140000Z.parquet"}, says: "20261122T140000Z-1h.parquet",
		},
		{
			name: "an hour in minutes",
			spoil: func(r map[string]*result) {
				rename(r, trend14, "trending/dt=2026-11-22/20261122T140000Z-60m.parquet")
			},
			want: []string{"file_name trending/dt=2026-11-22/20261122T140000Z-60m.parquet"}, says: "sizes of whole hours are in h",
		},
		{
			name: "a month from its middle",
			spoil: func(r map[string]*result) {
				rename(r, sess14, "sessions/dt=2026-11-22/20261122T140000Z-month.parquet")
			},
			want: []string{"file_name sessions/dt=2026-11-22/20261122T140000Z-month.parquet"}, says: "first day",
		},
		{
			name: "a revision in a main table",
			spoil: func(r map[string]*result) {
				rename(r, trend14, "trending/dt=2026-11-22/20261122T140000Z-1h-r0000000009.parquet")
			},
			want: []string{"file_name trending/dt=2026-11-22/20261122T140000Z-1h-r0000000009.parquet"},
		},
		{
			name: "no revision in a live table",
			spoil: func(r map[string]*result) {
				rename(r, live15, "trending_live/dt=2026-11-22/20261122T150000Z-1h.parquet")
			},
			want: []string{"file_name trending_live/dt=2026-11-22/20261122T150000Z-1h.parquet"}, says: "and its revision",
		},
		{
			name:  "the folder of another day",
			spoil: func(r map[string]*result) { rename(r, trend14, "trending/dt=2026-11-23/20261122T140000Z-1h.parquet") },
			want:  []string{"folder trending/dt=2026-11-23/20261122T140000Z-1h.parquet"}, says: "is in dt=2026-11-22",
		},
		{
			name:  "a window in two files",
			spoil: func(r map[string]*result) { r["trending/dt=2026-11-23/20261122T140000Z-1h.parquet"] = r[trend14] },
			want: []string{
				"duplicate_window trending/dt=2026-11-23/20261122T140000Z-1h.parquet", "folder trending/dt=2026-11-23/20261122T140000Z-1h.parquet",
			}, says: "the same is in " + trend14,
		},

		// Files and footers.
		{
			name:  "no Parquet file",
			spoil: func(r map[string]*result) { r[trend14].other = []byte("this is not a Parquet file") },
			want:  []string{"unreadable " + trend14},
		},
		{
			name:  "a live result that is empty",
			spoil: func(r map[string]*result) { r[live15].other = []byte{} },
			want:  []string{"unreadable " + live15},
		},
		{
			name:  "no footer",
			spoil: func(r map[string]*result) { r[trend14].meta = nil },
			want:  slices.Repeat([]string{"metadata " + trend14}, 6),
		},
		{
			name:  "the result of another table",
			spoil: func(r map[string]*result) { r[live15].meta["backbone.table"] = "trending_live" },
			want:  []string{"metadata " + live15}, says: `want "trending"`,
		},
		{
			name:  "rows were lost",
			spoil: func(r map[string]*result) { r[trend14].trends = r[trend14].trends[:2] },
			want:  []string{"row_count " + trend14}, says: "backbone.rows is 3 in the footer, but the file has 2 rows",
		},
		{
			name:  "a revision that is no number",
			spoil: func(r map[string]*result) { r[trend14].meta["backbone.revision"] = "last" },
			want:  []string{"metadata " + trend14}, says: `"last"`,
		},
		{
			name:  "settled before it was over",
			spoil: func(r map[string]*result) { r[trend14].revise(8) },
			want:  []string{"metadata " + trend14}, says: "is odd",
		},
		{
			name:  "another revision than the name says",
			spoil: func(r map[string]*result) { r[live15].revise(4) },
			want:  []string{"metadata " + live15}, says: "want 2 as in the name",
		},
		{
			name:  "made of half of its window",
			spoil: func(r map[string]*result) { r[trend14].meta["backbone.inputs_from"] = number(hour(14, 30)) },
			want:  []string{"metadata " + trend14}, says: "less than its window",
		},

		// Rows.
		{
			name:  "no item",
			spoil: func(r map[string]*result) { r[trend14].trends[1].Item = nil },
			want:  []string{"null " + trend14}, says: "row 1: item_id",
		},
		{
			name:  "no pane",
			spoil: func(r map[string]*result) { r[sess14].sessions[1].Pane = new("") },
			want:  []string{"null " + sess14, "pane " + sess14}, says: "row 1: pane",
		},
		{
			name:  "a row of the next window",
			spoil: func(r map[string]*result) { r[trend14].trends[2].paneRow = windowOf(15, 16, 9, "settled") },
			want:  []string{"wrong_window " + trend14}, says: "row 2: its window is from 2026-11-22T15:00:00Z to 2026-11-22T16:00:00Z",
		},
		{
			name:  "two revisions",
			spoil: func(r map[string]*result) { r[trend14].trends[2].Revision = new(int64(7)) },
			want:  []string{"revision " + trend14}, says: "is 7, but that of the file is 9",
		},
		{
			name:  "a live result in the main table",
			spoil: func(r map[string]*result) { r[trend14].time("late") },
			want:  []string{"pane " + trend14}, says: `3 rows, the first is row 0: its pane is "late"`,
		},
		{
			name:  "a settled result in the live table",
			spoil: func(r map[string]*result) { r[live15b].time("settled") },
			want:  []string{"pane " + live15b},
		},
		{
			name:  "early, though it is over",
			spoil: func(r map[string]*result) { r[live15b].time("early") },
			want:  []string{"pane " + live15b}, says: "odd",
		},
		{
			name:  "two panes",
			spoil: func(r map[string]*result) { r[live15b].trends[1].Pane = new("on_time") },
			want:  []string{"pane " + live15b}, says: `that of row 0 is "late"`,
		},
		{
			name:  "a rank is missing",
			spoil: func(r map[string]*result) { r[trend14].trends[1].Rank = new(int64(3)) },
			want:  []string{"ranks " + trend14}, says: `among "all" "", 3 should be 2`,
		},
		{
			name:  "a rank is there twice",
			spoil: func(r map[string]*result) { r[trend14].trends[1].Rank = new(int64(1)) },
			want:  []string{"ranks " + trend14},
		},
		{
			name:  "an item twice in a scope",
			spoil: func(r map[string]*result) { r[trend14].trends[1].Item = new("a") },
			want:  []string{"duplicate_id " + trend14}, says: "row 1: the id is that of row 0",
		},
		{
			name:  "a session twice in a file",
			spoil: func(r map[string]*result) { r[sess14].sessions[1] = r[sess14].sessions[0] },
			want:  []string{"duplicate_id " + sess14},
		},
		{
			name: "a session in two windows",
			spoil: func(r map[string]*result) {
				again := sessionOf("ann", hour(13, 50), hour(13, 55), windowOf(13, 14, 5, "settled"))
				r[sess13] = &result{sessions: []sessionRow{again}, meta: footer("sessions", "9", 1, hour(12, 0), hour(15, 0))}
				r[sess13].sessions[0].Revision = new(int64(9))
			},
			want: []string{"duplicate_id " + sess14}, says: "row 0 of " + sess13,
		},
		{
			name:  "a session that ends later",
			spoil: func(r map[string]*result) { r[sess14].sessions[1].To = new(hour(15, 0)) },
			want:  []string{"times " + sess14}, says: "ends at 2026-11-22T15:00:00Z, which is outside of the window",
		},
		{
			name:  "a session that ends before it begins",
			spoil: func(r map[string]*result) { r[sess14].sessions[1].From = new(hour(15, 0)) },
			want:  []string{"times " + sess14}, says: "after its end",
		},
		{
			name:  "a session of two",
			spoil: func(r map[string]*result) { r[sess14].sessions[1].Visitor = new("v") },
			want:  []string{"content " + sess14}, says: "one of user_id and visitor_id",
		},

		// What they are made of.
		{
			name:  "too few files, and all is marked",
			spoil: func(r map[string]*result) { r[trend14].revise(7) },
			others: func(o map[string]string) {
				o[mark14] = ""
			},
			want: []string{"stale " + trend14}, says: "made of 3 files, but there are 4",
		},
		{
			name:  "more files than there are, and all is marked",
			spoil: func(r map[string]*result) { r[trend14].revise(11) },
			others: func(o map[string]string) {
				o[mark14] = ""
			},
			want: []string{"stale " + trend14}, says: "made of 5 files, but there are only 4",
		},
		{
			name: "sessions that lack a file, and all is marked",
			spoil: func(r map[string]*result) {
				r[sess14].revise(7)
			},
			others: func(o map[string]string) { o[mark14], o[mark15] = "", "" },
			want:   []string{"stale " + sess14},
		},
		{
			name: "a digest of a file that is not there",
			others: func(o map[string]string) {
				o["interactions/dt=2026-11-22/hour=15/_part-00000-of-00002-000001.digest"] = ""
			},
			want: []string{"digest interactions/dt=2026-11-22/hour=15/part-00000-of-00002-000001.parquet"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lake := goodLake()
			withItems(lake)
			results, others := goodResults()
			if tc.spoil != nil {
				tc.spoil(results)
			}
			for key, r := range results {
				others[key] = r.encode(t)
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
		})
	}
}

// A column that is missing, or of another type, is found in a file of each table.
func TestColumnsOfResults(t *testing.T) {
	type without struct {
		Item  string `parquet:"item_id"`
		Score int64  `parquet:"score"`
	}
	var out bytes.Buffer
	writeTestRows(t, &out, []without{{"a", 1}}, footer("trending", "9", 1, hour(14, 0), hour(15, 0)))
	report, err := Audit(t.Context(), write(t, nil, map[string]string{trend14: out.String()}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, f := range report.Findings {
		if f.Kind != KindColumn || f.File != trend14 {
			t.Errorf("there is a finding %v", f)
		}
		said += f.Detail + "\n"
	}
	for _, want := range []string{`no column "scope"`, `no column "scope_value"`, `no column "window_end"`, `no column "revision"`, `column "score" is of type INT(64`} {
		if !strings.Contains(said, want) {
			t.Errorf("the report says\n%swant it to say %q", said, want)
		}
	}
}

// While a run is at work, what is not made of all files is counted, and is not wrong.
func TestStaleResults(t *testing.T) {
	const other = "interactions/dt=2026-11-22/hour=14/_windows-aaaaaaaaaaaaaaaa-0000000004"
	for _, tc := range []struct {
		name  string
		spoil func(results map[string]*result, lake map[string]*part, others map[string]string)
		want  []int64 // of sessions and of trending
	}{
		{"nothing is marked", func(r map[string]*result, _ map[string]*part, _ map[string]string) {
			r[trend14].revise(7)
			r[sess14].revise(7)
		}, []int64{1, 1}},
		{"marked with fewer files", func(r map[string]*result, _ map[string]*part, o map[string]string) {
			o[strings.Replace(mark14, "04", "03", 1)] = ""
			r[trend14].revise(7)
		}, []int64{0, 1}},
		{"another computation is not done", func(r map[string]*result, _ map[string]*part, o map[string]string) {
			o[mark14], o[strings.Replace(other, "04", "03", 1)] = "", ""
			r[trend14].revise(7)
		}, []int64{0, 1}},
		{"the hour after has files, of which sessions need none", func(r map[string]*result, _ map[string]*part, o map[string]string) {
			o[mark14], o[mark15] = "", ""
			r[sess14].revise(9)
		}, []int64{0, 0}},
		{"files without items are not missing", func(r map[string]*result, l map[string]*part, o map[string]string) {
			o[mark14] = ""
			for _, p := range l {
				for i := range p.events {
					p.events[i].Item = nil
				}
			}
			r[trend14].revise(7)
		}, []int64{0, 0}},
		{"more files than there are", func(r map[string]*result, _ map[string]*part, _ map[string]string) { r[trend14].revise(11) }, []int64{0, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lake := goodLake()
			withItems(lake)
			results, others := goodResults()
			tc.spoil(results, lake, others)
			for key, r := range results {
				others[key] = r.encode(t)
			}
			report, err := Audit(t.Context(), write(t, lake, others), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if report.Wrong != 0 {
				t.Errorf("findings are %v, want none", report.Findings)
			}
			got := []int64{report.Windowed[0].Stale, report.Windowed[1].Stale}
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stale (-want +got):\n%s", diff)
			}
		})
	}
}

// A live result of a window that is settled was left behind, and is no harm.
func TestLiveResultsLeftBehind(t *testing.T) {
	results, others := goodResults()
	results[trend15] = &result{trends: trendsOf(windowOf(15, 16, 5, "settled")), meta: footer("trending", "5", 3, hour(15, 0), hour(16, 0))}
	for key, r := range results {
		others[key] = r.encode(t)
	}
	old := "sessions/dt=2026-11-22/.tmp-old-1"
	others[old] = "half"
	st := write(t, goodLake(), others)
	then := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(st.URL(), filepath.FromSlash(old)), then, then); err != nil {
		t.Fatal(err)
	}
	report, err := Audit(t.Context(), st, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Windowed[1]; got.LeftBehind != 2 || got.Live != 0 || got.Windows != 2 {
		t.Errorf("trending is %+v, want 2 live results left behind, and no live window", got)
	}
	if len(report.Findings) != 1 || report.Findings[0].Kind != KindTemporary || report.Findings[0].File != old {
		t.Errorf("findings are %v, want the one old temporary file", report.Findings)
	}
}

// A session that moves on to the next window while the lake is looked at is not there twice.
func TestSessionMovesOn(t *testing.T) {
	results, others := goodResults()
	before := &result{
		sessions: []sessionRow{sessionOf("ann", hour(13, 50), hour(13, 55), windowOf(13, 14, 9, "settled"))},
		meta:     footer("sessions", "9", 1, hour(12, 0), hour(15, 0)),
	}
	for key, r := range results {
		others[key] = r.encode(t)
	}
	others[sess13] = before.encode(t)
	st := write(t, goodLake(), others)
	before.sessions[0] = sessionOf("zoe", hour(13, 10), hour(13, 15), windowOf(13, 14, 9, "settled"))
	before.revise(11)
	after := before.encode(t)
	move := func(int64) { // when a file was read, the first of them that of 13:00
		if err := os.WriteFile(filepath.Join(st.URL(), filepath.FromSlash(sess13)), []byte(after), 0o600); err != nil {
			t.Error(err)
		}
	}
	report, err := Audit(t.Context(), st, Options{Table: "sessions", Parallel: 1, Progress: move})
	if err != nil {
		t.Fatal(err)
	}
	if report.Wrong != 0 || report.Windowed[0].Rows != 3 {
		t.Errorf("findings are %v in %+v, want none", report.Findings, report.Windowed)
	}
}

// The columns that rows are looked at by are those of the tables.
func TestSpecsOfResultsAgreeWithTheTables(t *testing.T) {
	for name, s := range resultSpecs {
		has := map[string]bool{}
		for _, c := range s.columns {
			has[c.name] = true
		}
		needed := slices.Concat(s.key, s.ranked, []string{"window_start", "window_end", "revision", "pane"})
		switch {
		case s.isSessions:
			needed = append(needed, "start_time", "end_time")
		case s.ranked != nil:
			needed = append(needed, "rank")
		}
		for _, column := range needed {
			if !has[column] {
				t.Errorf("table %q has no column %q", name, column)
			}
		}
		if liveTables[schemas.LiveOf(name)] != name {
			t.Errorf("table %q has no live table", name)
		}
	}
}
