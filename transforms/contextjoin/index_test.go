package contextjoin_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/testing/faults"
	"backbone/transforms/contextjoin"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/rows"
)

// contexts is a table of contexts in a lake.
type contexts struct {
	dir       string
	store     *store.Store
	committer *lake.Committer
	layout    lake.Layout
}

type fataler interface{ Fatal(args ...any) }

func newContexts(t *testing.T) *contexts {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	c := &contexts{dir: dir, store: st, layout: lake.Layout{Window: lake.Hour, Shards: 1}}
	c.committer, err = lake.NewCommitter(st, schemas.Contexts.Name, lake.Options{Layouts: map[string]lake.Layout{schemas.Contexts.Name: c.layout}, RunID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// commit makes a file of a context.
func (c *contexts) commit(ctx context.Context, t fataler, r schemas.ContextEvent) {
	codec := rows.NewCodec(schemas.Contexts.Columns)
	chunk := codec.Append(codec.AppendHeader(nil), &r)
	if _, err := c.committer.Commit(ctx, c.layout.Slot(schemas.Contexts.Name, r.EventID, r.EventTime.V), [][]byte{chunk}); err != nil {
		t.Fatal(err)
	}
}

func (c *contexts) index(ttl, refresh time.Duration) *contextjoin.Index {
	return contextjoin.NewIndex(c.store, contextjoin.IndexOptions{Layout: c.layout, TTL: ttl, Refresh: refresh})
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// minute is a time of the afternoon.
func minute(n int) schemas.Time {
	return schemas.Some(noon.Add(time.Duration(n) * time.Minute).UnixMicro())
}

func TestIndex(t *testing.T) {
	c := newContexts(t)
	commit := func(id, session, visitor string, at int, country string) {
		c.commit(t.Context(), t, schemas.ContextEvent{
			EventID: id, EventTime: minute(at), SessionID: session, VisitorID: visitor, Context: schemas.Context{Country: country, City: "c" + country},
			Attributes: []schemas.Pair{{Key: "weather", Value: "w" + country}},
		})
	}
	commit("1", "s", "", 10, "AT")
	commit("2", "s", "", 50, "DE")
	commit("4", "s", "", 90, "FR") // of the next hour
	commit("3", "s", "", 90, "ES") // at the same time, of a smaller id
	commit("5", "", "v", 10, "IT")
	commit("6", "v", "", 10, "PL") // a session that is called like a visitor
	tests := []struct {
		name             string
		session, visitor string
		at               int
		want             string // country; empty: none
	}{
		{"before", "s", "", 9, ""},
		{"at", "s", "", 10, "AT"},
		{"after", "s", "", 49, "AT"},
		{"at the next", "s", "", 50, "DE"},
		{"of the hour before", "s", "", 80, "DE"},
		{"two at the same time", "s", "", 90, "FR"},
		{"within the time it holds", "s", "", 150, "FR"},
		{"after the time it holds", "s", "", 151, ""},
		{"of the visitor", "", "v", 20, "IT"},
		{"of a session, not of its visitor", "t", "v", 20, ""},
		{"session of that name", "v", "", 20, "PL"},
		{"of nobody", "", "", 20, ""},
	}
	x := c.index(time.Hour, 0)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			row := schemas.Interaction{SessionID: test.session, VisitorID: test.visitor, EventTime: minute(test.at)}
			if err := x.Join(t.Context(), &row); err != nil {
				t.Fatal(err)
			}
			if row.Context.Country != test.want || row.ContextJoined != schemas.Some(test.want != "") {
				t.Errorf("country %q, joined %v; want %q", row.Context.Country, row.ContextJoined, test.want)
			}
			if test.want != "" && !slices.Equal(row.ContextAttributes, []schemas.Pair{{Key: "weather", Value: "w" + test.want}}) {
				t.Errorf("attributes %v", row.ContextAttributes)
			}
		})
	}
}

// What the event says itself wins.
func TestJoinKeepsWhatTheEventSays(t *testing.T) {
	c := newContexts(t)
	c.commit(t.Context(), t, schemas.ContextEvent{EventID: "1", EventTime: minute(1), SessionID: "s", Context: schemas.Context{
		Country: "AT", City: "Vienna", DeviceClass: "mobile", IsBot: schemas.Some(false), LocalHour: schemas.Some[int64](13),
	}})
	row := schemas.Interaction{SessionID: "s", EventTime: minute(2), Context: schemas.Context{Country: "DE", IsBot: schemas.Some(true)}}
	if err := c.index(time.Hour, 0).Join(t.Context(), &row); err != nil {
		t.Fatal(err)
	}
	want := schemas.Context{Country: "DE", City: "Vienna", DeviceClass: "mobile", IsBot: schemas.Some(true), LocalHour: schemas.Some[int64](13)}
	if diff := cmp.Diff(want, row.Context); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A context that is committed later is found once the list of files is old enough.
func TestIndexSeesNewFiles(t *testing.T) {
	c := newContexts(t)
	x := c.index(time.Hour, 10*time.Millisecond)
	join := func() bool {
		row := schemas.Interaction{SessionID: "s", EventTime: minute(5)}
		if err := x.Join(t.Context(), &row); err != nil {
			t.Fatal(err)
		}
		return row.ContextJoined.V
	}
	if join() {
		t.Error("joined to nothing")
	}
	for n := range 3 {
		c.commit(t.Context(), t, schemas.ContextEvent{EventID: fmt.Sprint(n), EventTime: minute(n), SessionID: fmt.Sprint("s", n)})
	}
	c.commit(t.Context(), t, schemas.ContextEvent{EventID: "mine", EventTime: minute(4), SessionID: "s"})
	for deadline := time.Now().Add(10 * time.Second); !join(); {
		if time.Now().After(deadline) {
			t.Fatal("not joined")
		}
	}
}

// The index finds what a walk over all contexts finds.
func TestIndexIsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newContexts(t)
		ttl := time.Duration(rapid.IntRange(1, 200).Draw(rt, "ttl")) * time.Minute
		var all []schemas.ContextEvent
		for n := range rapid.IntRange(0, 12).Draw(rt, "contexts") {
			r := schemas.ContextEvent{
				EventID: fmt.Sprintf("%03d", n), EventTime: minute(rapid.IntRange(0, 240).Draw(rt, "minute")),
				SessionID: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "session"), Context: schemas.Context{City: fmt.Sprint(n)},
			}
			all = append(all, r)
			c.commit(t.Context(), rt, r)
		}
		// Whatever it may remember.
		x := contextjoin.NewIndex(c.store, contextjoin.IndexOptions{Layout: c.layout, TTL: ttl, Memory: rapid.SampledFrom([]int64{0, 2000}).Draw(rt, "memory")})
		for range 8 {
			row := schemas.Interaction{SessionID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "of"), EventTime: minute(rapid.IntRange(0, 300).Draw(rt, "at"))}
			var want *schemas.ContextEvent
			for i := range all {
				m := &all[i]
				if m.SessionID == row.SessionID && m.EventTime.V <= row.EventTime.V && m.EventTime.V >= row.EventTime.V-ttl.Microseconds() &&
					(want == nil || m.EventTime.V >= want.EventTime.V) {
					want = m
				}
			}
			if err := x.Join(t.Context(), &row); err != nil {
				rt.Fatal(err)
			}
			switch {
			case row.ContextJoined.V != (want != nil):
				rt.Fatalf("joined is %v, want %v", row.ContextJoined.V, want)
			case want != nil && row.Context.City != want.Context.City:
				rt.Fatalf("joined to %s, want %s", row.Context.City, want.Context.City)
			}
		}
	})
}

// What does not fit into memory is read again for those who have a context there, and for nobody else.
func TestIndexReadsAgainWhatItLetGo(t *testing.T) {
	c := newContexts(t)
	const hours = 12
	for n := range hours {
		c.commit(t.Context(), t, schemas.ContextEvent{EventID: fmt.Sprint(n), EventTime: minute(60 * n), SessionID: fmt.Sprint("s", n)})
	}
	driver, err := store.OpenDriver(t.Context(), c.dir)
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	st, err := store.New(faults.Wrap(driver, func(_ int, op faults.Op, _ string) faults.Fault {
		if op == faults.Open {
			opened++
		}
		return faults.Fault{}
	}), store.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	x := contextjoin.NewIndex(st, contextjoin.IndexOptions{Layout: c.layout, TTL: 24 * time.Hour, Memory: 2000}) // of four partitions
	join := func(session string, want bool) {
		t.Helper()
		row := schemas.Interaction{SessionID: session, EventTime: minute(60 * hours)}
		if err := x.Join(t.Context(), &row); err != nil {
			t.Fatal(err)
		}
		if row.ContextJoined.V != want {
			t.Errorf("%s is joined: %v, want %v", session, row.ContextJoined.V, want)
		}
	}
	wantOpened := func(what string, least, most int) {
		t.Helper()
		if opened < least || opened > most {
			t.Errorf("%s: %d files were opened, want %d to %d", what, opened, least, most)
		}
		opened = 0
	}
	for n := range hours {
		join(fmt.Sprint("s", n), true)
	}
	wantOpened("all sessions", 2*hours, 2*hours) // whose contexts they hold, and the contexts
	for range 100 {
		join("nobody", false)
	}
	wantOpened("a session without a context", 0, 0)
	for range 100 {
		join(fmt.Sprint("s", hours-1), true)
	}
	wantOpened("the latest session", 0, 1)
	join("s0", true)
	wantOpened("a session of long ago", 1, 1)
}
