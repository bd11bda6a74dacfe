package windowmodel

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
)

// The rows of files, with the columns of docs/schemas.md.
type (
	interactionRow struct {
		EventTime int64     `parquet:"event_time,timestamp(microsecond)"`
		UserID    string    `parquet:"user_id,optional"`
		VisitorID string    `parquet:"visitor_id,optional"`
		EventType string    `parquet:"event_type,dict"`
		Kind      string    `parquet:"feedback_kind,optional"`
		ItemID    string    `parquet:"item_id,optional"`
		Items     []itemRef `parquet:"items,list"`
		Context   struct {
			Country string `parquet:"country,optional,dict"`
			Surface string `parquet:"surface,optional,dict"`
		} `parquet:"context"`
	}
	itemRef struct {
		ItemID string `parquet:"item_id"`
	}
	itemRow struct {
		ItemID     string   `parquet:"item_id"`
		Categories []string `parquet:"categories,list"`
	}
	paneRow struct {
		WindowStart int64  `parquet:"window_start,timestamp(microsecond)"`
		WindowEnd   int64  `parquet:"window_end,timestamp(microsecond)"`
		Revision    int64  `parquet:"revision"`
		Pane        string `parquet:"pane"`
	}
	sessionRow struct {
		SessionKey   string             `parquet:"session_key"`
		StartTime    int64              `parquet:"start_time,timestamp(microsecond)"`
		EndTime      int64              `parquet:"end_time,timestamp(microsecond)"`
		UserID       string             `parquet:"user_id,optional"`
		VisitorID    string             `parquet:"visitor_id,optional"`
		Duration     float64            `parquet:"duration"`
		Events       int64              `parquet:"events"`
		EventsByType map[string]float64 `parquet:"events_by_type"`
		Items        []string           `parquet:"items,list"`
		EntrySurface string             `parquet:"entry_surface,optional"`
		Converted    bool               `parquet:"converted"`
		paneRow
	}
	trendRow struct {
		Scope        string             `parquet:"scope"`
		ScopeValue   string             `parquet:"scope_value,optional"`
		Rank         int64              `parquet:"rank"`
		ItemID       string             `parquet:"item_id"`
		Popularity   float64            `parquet:"popularity"`
		Score        float64            `parquet:"score"`
		Events       int64              `parquet:"events"`
		EventsByType map[string]float64 `parquet:"events_by_type"`
		paneRow
	}
	funnelRow struct {
		ItemID      string   `parquet:"item_id"`
		Impressions int64    `parquet:"impressions"`
		Views       int64    `parquet:"views"`
		Clicks      int64    `parquet:"clicks"`
		Carts       int64    `parquet:"carts"`
		Purchases   int64    `parquet:"purchases"`
		CTR         *float64 `parquet:"ctr,optional"`
		CTRLow      *float64 `parquet:"ctr_low,optional"`
		CTRHigh     *float64 `parquet:"ctr_high,optional"`
		paneRow
	}
	pairRow struct {
		ItemID        string  `parquet:"item_id"`
		OtherItemID   string  `parquet:"other_item_id"`
		Rank          int64   `parquet:"rank"`
		Sessions      int64   `parquet:"sessions"`
		ItemSessions  int64   `parquet:"item_sessions"`
		OtherSessions int64   `parquet:"other_sessions"`
		Similarity    float64 `parquet:"similarity"`
		paneRow
	}
)

// tinyLake is what is in which file.
type tinyLake struct {
	interactions map[string][]interactionRow
	items        map[string][]itemRow
	sessions     map[string][]sessionRow
	trending     map[string][]trendRow
	funnel       map[string][]funnelRow
	pairs        map[string][]pairRow
}

func (l *tinyLake) write(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	writeAll(t, dir, l.interactions)
	writeAll(t, dir, l.items)
	writeAll(t, dir, l.sessions)
	writeAll(t, dir, l.trending)
	writeAll(t, dir, l.funnel)
	writeAll(t, dir, l.pairs)
	return dir
}

func writeAll[R any](t *testing.T, dir string, files map[string][]R) {
	t.Helper()
	for name, rows := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_SUCCESS") {
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if err := parquet.WriteFile(name, rows); err != nil {
			t.Fatal(err)
		}
	}
}

// settled is the pane of the window of 2026-11-22 that begins at a time.
func settled(clock string, size time.Duration) paneRow {
	start := at(clock)
	return paneRow{start, start + size.Microseconds(), 7, "settled"}
}

// The files of rightLake.
const (
	sessions15 = "sessions/dt=2026-11-22/20261122T150000Z-1h.parquet"
	trending14 = "trending/dt=2026-11-22/20261122T140000Z-1h.parquet"
	trending15 = "trending/dt=2026-11-22/20261122T150000Z-1h.parquet"
	sliding14  = "trending/dt=2026-11-22/20261122T140000Z-2h.parquet"
	funnel14   = "funnel/dt=2026-11-22/20261122T140000Z-1h.parquet"
	funnel15   = "funnel/dt=2026-11-22/20261122T150000Z-1h.parquet"
	pairs15    = "co_occurrence/dt=2026-11-22/20261122T150000Z-1h.parquet"
)

// rightSettings are those of rightLake. Half-lives of 30 minutes make round numbers.
var rightSettings = Settings{Windows: []Windows{{time.Hour, time.Hour}, {2 * time.Hour, time.Hour}}, HalfLife: 30 * time.Minute, Top: 2}

// rightLake is a lake of one session: at 14:30 a and b were shown, a was clicked, and at 15:00 b was viewed in Austria. All of
// it is written down by hand.
func rightLake() *tinyLake {
	impression, click := schemas.EventTypes["impression"].Kind, schemas.EventTypes["click"].Kind
	all, low, high := 1.0, 0.20654931437723745, 1.0
	none, noneHigh := 0.0, 0.7934506856227626
	l := &tinyLake{
		interactions: map[string][]interactionRow{
			"interactions/dt=2026-11-22/hour=14/part-00000-of-00001-000000.parquet": {
				{EventTime: at("14:30:00"), UserID: "u", EventType: "impression", Kind: impression, Items: []itemRef{{"a"}, {"b"}}},
				{EventTime: at("14:30:30"), UserID: "u", EventType: "click", Kind: click, ItemID: "a"},
			},
			"interactions/dt=2026-11-22/hour=15/part-00000-of-00001-000000.parquet": {
				{EventTime: at("15:00:00"), UserID: "u", EventType: "view", Kind: click, ItemID: "b"},
			},
		},
		items: map[string][]itemRow{
			"items/as_of=20261122T150000Z/part-00000-of-00001.parquet": {{"a", []string{"A > B"}}, {"b", nil}},
			"items/as_of=20261122T150000Z/_SUCCESS":                    nil,
			"items/as_of=20261122T160000Z/part-00000-of-00001.parquet": {{"a", nil}, {"b", nil}},
			"items/as_of=20261122T160000Z/_SUCCESS":                    nil,
			"items/as_of=20261122T160001Z/part-00000-of-00001.parquet": {{"a", []string{"later"}}},
			"items/as_of=20261122T160001Z/_SUCCESS":                    nil,
			"items/as_of=20261122T155959Z/part-00000-of-00001.parquet": {{"a", []string{"not complete"}}},
		},
		sessions: map[string][]sessionRow{sessions15: {
			{"k", at("14:30:00"), at("15:00:00"), "u", "", 1800, 3, map[string]float64{"click": 1, "impression": 1, "view": 1}, []string{"a", "b"}, "", false, settled("15:00:00", time.Hour)},
		}},
		trending: map[string][]trendRow{
			trending14: {
				{"all", "", 1, "a", 0.5, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("14:00:00", time.Hour)},
				{"category", "A", 1, "a", 0.5, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("14:00:00", time.Hour)},
				{"category", "A > B", 1, "a", 0.5, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("14:00:00", time.Hour)},
			},
			trending15: {
				{"all", "", 1, "b", 0.25, 1, 1, map[string]float64{"view": 1}, settled("15:00:00", time.Hour)},
				{"country", "AT", 1, "b", 0.25, 1, 1, map[string]float64{"view": 1}, settled("15:00:00", time.Hour)},
			},
			"trending/dt=2026-11-22/20261122T130000Z-2h.parquet": {
				{"all", "", 1, "a", 0.5, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("13:00:00", 2*time.Hour)},
				{"category", "A", 1, "a", 0.5, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("13:00:00", 2*time.Hour)},
				{"category", "A > B", 1, "a", 0.5, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("13:00:00", 2*time.Hour)},
			},
			sliding14: {
				{"all", "", 1, "b", 0.25, 1, 2, map[string]float64{"impression": 1, "view": 1}, settled("14:00:00", 2*time.Hour)},
				{"all", "", 2, "a", 0.125, 1, 2, map[string]float64{"click": 1, "impression": 1}, settled("14:00:00", 2*time.Hour)},
				{"country", "AT", 1, "b", 0.25, 1, 1, map[string]float64{"view": 1}, settled("14:00:00", 2*time.Hour)},
			},
			"trending/dt=2026-11-22/20261122T150000Z-2h.parquet": {
				{"all", "", 1, "b", 0.0625, 1, 1, map[string]float64{"view": 1}, settled("15:00:00", 2*time.Hour)},
				{"country", "AT", 1, "b", 0.0625, 1, 1, map[string]float64{"view": 1}, settled("15:00:00", 2*time.Hour)},
			},
			"trending_live/dt=2026-11-22/20261122T160000Z-1h-r0000000003.parquet": {
				{"all", "", 1, "a", 1, 1, 1, nil, paneRow{at("16:00:00"), at("17:00:00"), 3, "early"}},
			},
			"trending_live/dt=2026-11-22/20261122T160000Z-1h-r0000000004.parquet": {
				{"all", "", 1, "a", 1, 1, 1, nil, paneRow{at("16:00:00"), at("17:00:00"), 4, "on_time"}},
			},
		},
		funnel: map[string][]funnelRow{
			funnel14: {
				{"a", 1, 0, 1, 0, 0, &all, &low, &high, settled("14:00:00", time.Hour)},
				{"b", 1, 0, 0, 0, 0, &none, &none, &noneHigh, settled("14:00:00", time.Hour)},
			},
			funnel15: {{"b", 0, 1, 0, 0, 0, nil, nil, nil, settled("15:00:00", time.Hour)}},
		},
		pairs: map[string][]pairRow{pairs15: {
			{"a", "b", 1, 1, 1, 1, 1, settled("15:00:00", time.Hour)},
			{"b", "a", 1, 1, 1, 1, 1, settled("15:00:00", time.Hour)},
		}},
	}
	l.interactions["interactions/dt=2026-11-22/hour=15/part-00000-of-00001-000000.parquet"][0].Context.Country = "AT"
	return l
}

func check(t *testing.T, l *tinyLake, s Settings) *Report {
	t.Helper()
	r, err := Check(t.Context(), Options{Lake: l.write(t), Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRightLake(t *testing.T) {
	r := check(t, rightLake(), rightSettings)
	if !r.OK() {
		t.Errorf("differences:\n%v", r)
	}
	for name, table := range r.Tables {
		table.Hash = ""
		r.Tables[name] = table
	}
	want := map[string]Table{
		"sessions": {Files: 1, Windows: 1, Rows: 1, Want: 1}, "trending": {Files: 5, Windows: 5, Rows: 13, Want: 13},
		"funnel": {Files: 2, Windows: 2, Rows: 3, Want: 3}, "co_occurrence": {Files: 1, Windows: 1, Rows: 2, Want: 2},
	}
	if diff := cmp.Diff(want, r.Tables); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	live := Live{Revisions: map[Span]int64{{at("16:00:00"), at("17:00:00")}: 4}, Panes: []string{"early", "on_time"}}
	if diff := cmp.Diff(live, r.Live["trending"]); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name   string
		change func(l *tinyLake)
		want   map[Kind]int
	}{
		{"a missing window", func(l *tinyLake) { delete(l.funnel, funnel14) }, map[Kind]int{WindowMissing: 1}},
		{"no table", func(l *tinyLake) { l.trending = nil }, map[Kind]int{WindowMissing: 5}},
		{"an extra window", func(l *tinyLake) {
			l.funnel["funnel/dt=2026-11-22/20261122T180000Z-1h.parquet"] = []funnelRow{{ItemID: "a", Views: 1, paneRow: settled("18:00:00", time.Hour)}, {ItemID: "b", Views: 1, paneRow: settled("18:00:00", time.Hour)}}
		}, map[Kind]int{WindowExtra: 1}},
		{"a sliding window of a funnel", func(l *tinyLake) {
			l.funnel["funnel/dt=2026-11-22/20261122T140000Z-2h.parquet"] = []funnelRow{{ItemID: "a", Impressions: 1, paneRow: settled("14:00:00", 2*time.Hour)}}
		}, map[Kind]int{WindowExtra: 1}},
		{"a window in two files", func(l *tinyLake) {
			l.trending["trending/dt=2026-11-22/20261122T140000Z-1h-r0000000007.parquet"] = l.trending[trending14]
		}, map[Kind]int{WindowTwice: 1}},
		{"two windows in a file", func(l *tinyLake) {
			l.funnel[funnel14] = append(l.funnel[funnel14], l.funnel[funnel15]...)
			delete(l.funnel, funnel15)
		}, map[Kind]int{FileMixed: 1, FileMisnamed: 1}},
		{"another day", func(l *tinyLake) {
			l.trending[strings.Replace(trending14, "dt=2026-11-22", "dt=2026-11-23", 1)] = l.trending[trending14]
			delete(l.trending, trending14)
		}, map[Kind]int{FileMisnamed: 1}},
		{"a missing row", func(l *tinyLake) { l.funnel[funnel14] = l.funnel[funnel14][:1] }, map[Kind]int{RowMissing: 1}},
		{"a missing session", func(l *tinyLake) { l.sessions = nil }, map[Kind]int{WindowMissing: 1}},
		{"an extra row", func(l *tinyLake) {
			l.funnel[funnel15] = append(l.funnel[funnel15], funnelRow{ItemID: "c", Views: 1, paneRow: settled("15:00:00", time.Hour)})
		}, map[Kind]int{RowExtra: 1}},
		{"a row twice", func(l *tinyLake) { l.pairs[pairs15] = append(l.pairs[pairs15], l.pairs[pairs15][0]) }, map[Kind]int{RowTwice: 1}},
		{"a session in two windows", func(l *tinyLake) {
			again := l.sessions[sessions15][0]
			again.paneRow = settled("16:00:00", time.Hour)
			l.sessions["sessions/dt=2026-11-22/20261122T160000Z-1h.parquet"] = []sessionRow{again}
		}, map[Kind]int{RowTwice: 1, WindowExtra: 1}},
		{"a session that is as it was before a later event", func(l *tinyLake) {
			before := l.sessions[sessions15][0]
			before.EndTime, before.Duration, before.Events, before.paneRow = at("14:30:30"), 30, 2, settled("14:00:00", time.Hour)
			l.sessions["sessions/dt=2026-11-22/20261122T140000Z-1h.parquet"] = []sessionRow{before}
		}, map[Kind]int{RowDifferent: 1, RowTwice: 1, WindowExtra: 1}},
		{"two sessions of one key", func(l *tinyLake) {
			other := l.sessions[sessions15][0]
			other.UserID = "other"
			l.sessions[sessions15] = append(l.sessions[sessions15], other)
		}, map[Kind]int{RowTwice: 1}},
		{"another count", func(l *tinyLake) { l.funnel[funnel15][0].Views++ }, map[Kind]int{RowDifferent: 1}},
		{"another count of a type", func(l *tinyLake) { l.trending[trending14][0].EventsByType["click"]++ }, map[Kind]int{RowDifferent: 1}},
		{"another popularity", func(l *tinyLake) { l.trending[trending15][0].Popularity *= 1 + 1e-8 }, map[Kind]int{RowDifferent: 1}},
		{"a popularity with rounding", func(l *tinyLake) { l.trending[trending15][0].Popularity *= 1 + 1e-11 }, map[Kind]int{}},
		{"another item of a session", func(l *tinyLake) { l.sessions[sessions15][0].Items[1] = "c" }, map[Kind]int{RowDifferent: 1}},
		{"a rate that must be absent", func(l *tinyLake) { l.funnel[funnel15][0].CTR = new(float64) }, map[Kind]int{RowDifferent: 1}},
		{"another rank of a pair", func(l *tinyLake) { l.pairs[pairs15][0].Rank = 2 }, map[Kind]int{RowDifferent: 1}},
		{"ranks in another order", func(l *tinyLake) { l.trending[sliding14][0].Rank, l.trending[sliding14][1].Rank = 2, 1 }, map[Kind]int{RowMisranked: 2}},
		{"categories of a first version that is later", func(l *tinyLake) {
			l.items = map[string][]itemRow{
				"items/as_of=20261123T000000Z/part-00000-of-00001.parquet": {{"a", []string{"A > B"}}},
				"items/as_of=20261123T000000Z/_SUCCESS":                    nil,
				"items/as_of=20261124T000000Z/part-00000-of-00001.parquet": {{"a", []string{"later"}}},
				"items/as_of=20261124T000000Z/_SUCCESS":                    nil,
			}
		}, map[Kind]int{RowMissing: 2}}, // of A and of A > B, from 14:00 to 16:00
		{"an open pane in a main table", func(l *tinyLake) { l.funnel[funnel15][0].Pane = "late" }, map[Kind]int{RowUnsettled: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := rightLake()
			test.change(l)
			r := check(t, l, rightSettings)
			if diff := cmp.Diff(test.want, r.Counts); diff != "" {
				t.Errorf("differences (-want +got):\n%s\n%v", diff, r)
			}
		})
	}
}

// The last of the top may be another one that is as popular but for rounding, and is never one that is less popular.
func TestEndOfTheTop(t *testing.T) {
	tests := []struct {
		name   string
		second trendRow
		want   map[Kind]int
	}{
		{"the lesser id", trendRow{ItemID: "b", Popularity: 0.5, Score: 1}, map[Kind]int{}},
		{"as popular", trendRow{ItemID: "c", Popularity: 0.5 * (1 + 1e-12), Score: 1}, map[Kind]int{}},
		{"less popular", trendRow{ItemID: "d", Popularity: 0.25, Score: 1}, map[Kind]int{RowMissing: 1}},
		{"not as popular as it says", trendRow{ItemID: "d", Popularity: 0.5, Score: 1}, map[Kind]int{RowDifferent: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := &tinyLake{interactions: map[string][]interactionRow{"interactions/dt=2026-11-22/hour=14/part-00000-of-00001-000000.parquet": {}}}
			for name, part := range l.interactions {
				for clock, items := range map[string]string{"14:30:00": "a a b c", "14:30:01": "a", "14:00:00": "d"} {
					for item := range strings.FieldsSeq(items) {
						part = append(part, interactionRow{EventTime: at(clock), UserID: "u", EventType: "view", ItemID: item})
					}
				}
				l.interactions[name] = part
			}
			first := trendRow{"all", "", 1, "a", 1.5, 3, 3, map[string]float64{"view": 3}, settled("14:00:00", time.Hour)}
			second := test.second
			second.Scope, second.Rank, second.Events, second.EventsByType, second.paneRow = "all", 2, 1, map[string]float64{"view": 1}, first.paneRow
			l.trending = map[string][]trendRow{trending14: {first, second}}
			s := rightSettings
			s.Windows = s.Windows[:1]
			r := check(t, l, s)
			maps.DeleteFunc(r.Counts, func(k Kind, _ int) bool { return k == WindowMissing }) // of the other tables
			if diff := cmp.Diff(test.want, r.Counts); diff != "" {
				t.Errorf("differences (-want +got):\n%s\n%v", diff, r)
			}
		})
	}
}

func TestHash(t *testing.T) {
	right := check(t, rightLake(), rightSettings).Hash
	moved := rightLake()
	for i := range moved.pairs[pairs15] {
		moved.pairs[pairs15][i].Revision = 99
	}
	moved.pairs[pairs15][0], moved.pairs[pairs15][1] = moved.pairs[pairs15][1], moved.pairs[pairs15][0]
	moved.trending[trending15][0].Popularity *= 1 + 1e-14
	if got := check(t, moved, rightSettings).Hash; got != right {
		t.Errorf("with other revisions, another order and another rounding the hash is %s, want %s", got, right)
	}
	for i, change := range []func(l *tinyLake){
		func(l *tinyLake) { l.pairs[pairs15][0].Sessions++ },
		func(l *tinyLake) { l.sessions[sessions15][0].SessionKey = "other" },
		func(l *tinyLake) { l.funnel[funnel15][0].CTR = new(float64) },
		func(l *tinyLake) { l.trending[trending15][0].Popularity *= 1 + 1e-10 },
		func(l *tinyLake) { l.trending[trending15][0].EventsByType["view"] = 2 },
	} {
		l := rightLake()
		change(l)
		if got := check(t, l, rightSettings).Hash; got == right {
			t.Errorf("change %d makes no other hash", i)
		}
	}
}

func TestReportTellsDifferences(t *testing.T) {
	l := rightLake()
	l.funnel[funnel15][0].Views = 5
	text := check(t, l, rightSettings).String()
	for _, want := range []string{"1 rows that differ", `funnel: 2026-11-22T15:00:00Z+1h0m0s ["b" "" ""]`, "5", "trending: 13 rows of 5 windows"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the report:\n%s", want, text)
		}
	}
	fmt.Fprintln(t.Output(), text)
}
