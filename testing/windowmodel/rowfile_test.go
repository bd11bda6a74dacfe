package windowmodel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake/rowfile"
)

// writeRows writes a file as Backbone does.
func writeRows[R any](t *testing.T, name string, table *schemas.Table[R], reset func(*R), rows []*R) {
	t.Helper()
	w, err := rowfile.NewWriter(table, reset)
	if err != nil {
		t.Fatal(err)
	}
	w.Begin()
	for _, r := range rows {
		if err := w.AddRow(r); err != nil {
			t.Fatal(err)
		}
	}
	body, err := w.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeWindows writes the rows of a table, a file for each window.
func writeWindows[R any](t *testing.T, lake string, table *schemas.Table[R], reset func(*R), rows []R, pane func(*R) *schemas.Pane) {
	t.Helper()
	windows := map[Span][]*R{}
	for i := range rows {
		p := pane(&rows[i])
		p.Revision, p.Timing = schemas.Some[int64](1), schemas.PaneSettled
		windows[spanOf(p)] = append(windows[spanOf(p)], &rows[i])
	}
	for w, rows := range windows {
		name := time.UnixMicro(w.Start).UTC().Format("dt=2006-01-02/20060102T150405Z-") + fmt.Sprint((w.End-w.Start)/minute, "m.parquet")
		writeRows(t, filepath.Join(lake, table.Name, name), table, reset, rows)
	}
}

// writeResults writes all tables.
func writeResults(t *testing.T, lake string, r Results) {
	t.Helper()
	for i := range r.Sessions {
		s := &r.Sessions[i]
		s.SessionKey = fmt.Sprint(s.UserID, s.VisitorID, s.StartTime.V)
	}
	writeWindows(t, lake, schemas.Sessions, (*schemas.Session).Reset, r.Sessions, func(r *schemas.Session) *schemas.Pane { return &r.Pane })
	writeWindows(t, lake, schemas.Trending, (*schemas.Trend).Reset, r.Trending, func(r *schemas.Trend) *schemas.Pane { return &r.Pane })
	writeWindows(t, lake, schemas.Funnels, (*schemas.Funnel).Reset, r.Funnel, func(r *schemas.Funnel) *schemas.Pane { return &r.Pane })
	writeWindows(t, lake, schemas.CoOccurrences, (*schemas.CoOccurrence).Reset, r.CoOccurrence, func(r *schemas.CoOccurrence) *schemas.Pane { return &r.Pane })
}

// drawEvents makes events of three hours, of which many are of one time, visitor or item.
func drawEvents(seed uint64, n int) (all []Event) {
	r := rand.New(rand.NewPCG(seed, 1))
	types := []string{"impression", "impression", "view", "click", "add_to_cart", "purchase", "search", "like", "dwell"}
	for range n {
		e := Event{
			Time: at("13:00:00") + r.Int64N(180)*minute + r.Int64N(3), Visitor: fmt.Sprint("v", r.IntN(n/20)), Type: types[r.IntN(len(types))],
			Country: []string{"", "DE", "AT"}[r.IntN(3)], Surface: []string{"", "home", "search"}[r.IntN(3)],
		}
		if r.IntN(2) == 0 {
			e.User = fmt.Sprint("u", r.IntN(n/20))
		}
		if e.Kind = schemas.EventTypes[e.Type].Kind; e.Type != "search" {
			e.Item = fmt.Sprint("i", r.IntN(40))
			for range r.IntN(4) {
				e.Items = append(e.Items, fmt.Sprint("i", r.IntN(40)))
			}
		}
		all = append(all, e)
	}
	return all
}

// What Backbone's own files have is read back as it was, in lists of every length, and many rows.
func TestFilesOfBackbone(t *testing.T) {
	lake := t.TempDir()
	events := drawEvents(1, 5000)
	interactions := make([]*schemas.Interaction, len(events))
	for i, e := range events {
		row := &schemas.Interaction{
			EventID: fmt.Sprint(i), EventTime: schemas.Some(e.Time), UserID: e.User, VisitorID: e.Visitor, EventType: e.Type, FeedbackKind: e.Kind,
			ItemID: e.Item, Context: schemas.Context{Country: e.Country, Surface: e.Surface},
		}
		for _, item := range e.Items {
			row.Items = append(row.Items, schemas.LineItem{ItemID: item})
		}
		interactions[i] = row
	}
	writeRows(t, filepath.Join(lake, "interactions/dt=2026-11-22/part-00000-of-00001-000000.parquet"), schemas.Interactions, (*schemas.Interaction).Reset, interactions)
	categories := map[string][]string{"i1": {"A > B > C", "D"}, "i2": {"A"}, "i3": {"A > B"}}
	var items []*schemas.Item
	for i := range 40 {
		id := fmt.Sprint("i", i)
		items = append(items, &schemas.Item{ItemID: id, Categories: categories[id]})
	}
	version := filepath.Join(lake, "items/as_of=20261122T000000Z")
	writeRows(t, filepath.Join(version, "part-00000-of-00001.parquet"), schemas.Items, (*schemas.Item).Reset, items)
	if err := os.WriteFile(filepath.Join(version, "_SUCCESS"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := Settings{Top: 10, TopPairs: 5, Categories: Always(categories)}
	writeResults(t, lake, Compute(events, s))
	s.Categories = nil
	r, err := Check(t.Context(), Options{Lake: lake, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Events != len(events) {
		t.Errorf("%d events, want %d; differences:\n%v", r.Events, len(events), r)
	}
}
