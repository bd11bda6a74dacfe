package sessions_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/lake/digest"
	"backbone/transforms/sessions"
)

// hour is the partition of the tests, and begin the first of them.
const hour = int64(time.Hour / time.Microsecond)

var begin = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).UnixMicro()

// files is a lake: some files in each partition. timeline reads it, and notes what was looked at.
type files struct {
	t      interface{ Fatal(...any) }
	parts  map[int64][][]schemas.Interaction
	lowest int64
	most   int64
}

func (f *files) timeline(_ context.Context, micros int64) (sessions.Partition, error) {
	start := micros - micros%hour
	f.lowest, f.most = min(f.lowest, start), max(f.most, start+hour)
	p := sessions.Partition{Start: start, End: start + hour}
	for _, rows := range f.parts[start] {
		b := digest.NewBuilder()
		for i := range rows {
			b.Add(&rows[i])
		}
		body, err := b.Encode()
		if err != nil {
			f.t.Fatal(err)
		}
		d, err := digest.Decode(body)
		if err != nil {
			f.t.Fatal(err)
		}
		p.Digests = append(p.Digests, d)
	}
	return p, nil
}

// put adds a row to one of the files of its partition.
func (f *files) put(file int, row schemas.Interaction) {
	start := row.EventTime.V - row.EventTime.V%hour
	for len(f.parts[start]) <= file {
		f.parts[start] = append(f.parts[start], nil)
	}
	f.parts[start][file] = append(f.parts[start][file], row)
}

// of returns the sessions of the partition that begins at start.
func (f *files) of(start int64, o sessions.Options) (all []schemas.Session, from, to int64) {
	f.lowest, f.most = start, start
	all, from, to, err := sessions.Of(context.Background(), start, o, f.timeline)
	if err != nil {
		f.t.Fatal(err)
	}
	return all, from, to
}

func row(minute float64, user, visitor, kind, item string) schemas.Interaction {
	return schemas.Interaction{
		EventTime: schemas.Some(begin + int64(minute*60e6)), UserID: user, VisitorID: visitor, EventType: kind,
		FeedbackKind: schemas.EventTypes[kind].Kind, ItemID: item, Context: schemas.Context{Surface: "home"},
	}
}

// In any partition, the sessions that ended in it are those of all events together, whatever files these are in.
func TestOfAnyFiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := sessions.Options{
			Gap: time.Duration(rapid.SampledFrom([]int{1, 20, 30, 60, 90, 150}).Draw(t, "gap")) * time.Minute,
			By:  rapid.SampledFrom([]sessions.By{sessions.ByUser, sessions.ByVisitor}).Draw(t, "by"),
		}
		f := &files{t: t, parts: map[int64][][]schemas.Interaction{}}
		people := map[string][]int64{}
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			r := row(float64(rapid.IntRange(0, 6*60-1).Draw(t, "minute")), rapid.SampledFrom([]string{"", "u", "w"}).Draw(t, "user"), rapid.SampledFrom([]string{"u", "v"}).Draw(t, "visitor"), "view", "a")
			f.put(rapid.IntRange(0, 2).Draw(t, "file"), r)
			who := "user " + r.UserID
			if r.UserID == "" || o.By == sessions.ByVisitor {
				who = "visitor " + r.VisitorID
			}
			people[who] = append(people[who], r.EventTime.V)
		}
		want := map[string]int64{} // who, start and end: events
		for who, times := range people {
			slices.Sort(times)
			first := 0
			for i := range times {
				if i+1 == len(times) || times[i+1]-times[i] >= o.Gap.Microseconds() {
					want[fmt.Sprint(who, times[first], times[i])] = int64(i + 1 - first)
					first = i + 1
				}
			}
		}
		got := map[string]int64{}
		for start := begin; start < begin+6*hour; start += hour {
			all, from, to := f.of(start, o)
			if f.lowest < from || f.most-hour >= to {
				t.Fatalf("looked at %d to %d, and says %d to %d", f.lowest, f.most, from, to)
			}
			for _, s := range all {
				who := "user " + s.UserID
				if s.UserID == "" {
					who = "visitor " + s.VisitorID
				}
				if s.EndTime.V < start || s.EndTime.V >= start+hour {
					t.Fatalf("a session of the partition of %d ended at %d", start, s.EndTime.V)
				}
				got[fmt.Sprint(who, s.StartTime.V, s.EndTime.V)] += s.Events.V
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("sessions (-want +got):\n%s", diff)
		}
	})
}

func TestOf(t *testing.T) {
	type session struct {
		Start, End float64 // minutes
		Items      []string
		Types      string
		Converted  bool
		Surface    string
	}
	late := row(5, "u", "", "view", "b")
	late.Context.Surface = "cart"
	list := row(1, "u", "", "impression", "")
	list.Items = []schemas.LineItem{{ItemID: "x"}, {ItemID: "y"}}
	order := row(2, "u", "", "purchase", "a")
	order.Items = []schemas.LineItem{{ItemID: "a"}, {ItemID: "b"}}
	tests := []struct {
		name string
		rows []schemas.Interaction
		hour int64
		want []session
	}{
		{"one event", []schemas.Interaction{row(1, "u", "", "view", "a")}, 0, []session{{1, 1, []string{"a"}, "view=1", false, "home"}}},
		{"just before the gap is over", []schemas.Interaction{row(0, "u", "", "view", "a"), row(29.99, "u", "", "view", "b")}, 0, []session{{0, 29.99, []string{"a", "b"}, "view=2", false, "home"}}},
		{"when the gap is over", []schemas.Interaction{row(0, "u", "", "view", "a"), row(30, "u", "", "view", "b")}, 0, []session{{0, 0, []string{"a"}, "view=1", false, "home"}, {30, 30, []string{"b"}, "view=1", false, "home"}}},
		{"it belongs to where it ended", []schemas.Interaction{row(50, "u", "", "view", "a"), row(70, "u", "", "view", "b")}, 0, nil},
		{"and that is here", []schemas.Interaction{row(50, "u", "", "view", "a"), row(70, "u", "", "view", "b")}, 1, []session{{50, 70, []string{"a", "b"}, "view=2", false, "home"}}},
		{"back over several partitions", []schemas.Interaction{row(10, "u", "", "view", "a"), row(35, "u", "", "view", "a"), row(58, "u", "", "view", "a"), row(80, "u", "", "view", "a"), row(105, "u", "", "view", "a"), row(125, "u", "", "purchase", "a")}, 2, []session{{10, 125, []string{"a"}, "purchase=1 view=5", true, "home"}}},
		{"what was shown is no item of it", []schemas.Interaction{list, row(3, "u", "", "click", "x")}, 0, []session{{1, 3, []string{"x"}, "click=1 impression=1", false, "home"}}},
		{"all items of an order", []schemas.Interaction{order}, 0, []session{{2, 2, []string{"a", "b"}, "purchase=1", true, "home"}}},
		{"events of one time have an order", []schemas.Interaction{late, row(5, "u", "", "view", "a"), row(5, "u", "", "click", "c")}, 0, []session{{5, 5, []string{"c", "a", "b"}, "click=1 view=2", false, "home"}}},
		{"an item that comes back", []schemas.Interaction{row(0, "u", "", "view", "a"), row(1, "u", "", "click", "a"), row(2, "u", "", "view", "b"), row(3, "u", "", "view", "a")}, 0, []session{{0, 3, []string{"a", "b", "a"}, "click=1 view=3", false, "home"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &files{t: t, parts: map[int64][][]schemas.Interaction{}}
			for i, r := range test.rows {
				f.put(i%2, r)
			}
			all, _, _ := f.of(begin+test.hour*hour, sessions.Options{Gap: 30 * time.Minute, By: sessions.ByUser})
			var got []session
			for _, s := range all {
				types := ""
				for i, n := range s.EventsByType {
					if i > 0 {
						types += " "
					}
					types += fmt.Sprintf("%s=%v", n.Key, n.Value)
				}
				got = append(got, session{float64(s.StartTime.V-begin) / 60e6, float64(s.EndTime.V-begin) / 60e6, s.Items, types, s.Converted.V, s.EntrySurface})
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
		})
	}
}

// A session is known by who it was and when it began: more events at its end do not make it another.
func TestKey(t *testing.T) {
	key := func(rows ...schemas.Interaction) string {
		f := &files{t: t, parts: map[int64][][]schemas.Interaction{}}
		for _, r := range rows {
			f.put(0, r)
		}
		all, _, _ := f.of(begin, sessions.Options{Gap: 30 * time.Minute, By: sessions.ByUser})
		if len(all) != 1 {
			t.Fatalf("got %d sessions, want 1", len(all))
		}
		return all[0].SessionKey
	}
	one := key(row(1, "x", "", "view", "a"))
	if longer := key(row(1, "x", "", "view", "a"), row(2, "x", "", "view", "a")); longer != one {
		t.Errorf("a longer session is %q, want %q", longer, one)
	}
	for name, other := range map[string]string{"a visitor of the same id": key(row(1, "", "x", "view", "a")), "one that began later": key(row(2, "x", "", "view", "a"))} {
		if other == one {
			t.Errorf("%s has the same key", name)
		}
	}
}

func TestPairs(t *testing.T) {
	p := sessions.NewPairs()
	for _, items := range [][]string{{"a", "b"}, {"a", "b", "a"}, {"a", "c"}, {"d"}, {"b", "c"}} {
		p.Add(items)
	}
	type pair struct {
		Item, Other     string
		Rank, Sessions  int64
		OfItem, OfOther int64
		Similarity      float64
	}
	var got []pair
	for _, c := range p.Top(2) {
		got = append(got, pair{c.ItemID, c.OtherItemID, c.Rank.V, c.Sessions.V, c.ItemSessions.V, c.OtherSessions.V, c.Similarity.V})
	}
	want := []pair{
		{"a", "b", 1, 2, 3, 3, 2.0 / 3}, {"a", "c", 2, 1, 3, 2, 0.408248},
		{"b", "a", 1, 2, 3, 3, 2.0 / 3}, {"b", "c", 2, 1, 3, 2, 0.408248},
		{"c", "a", 1, 1, 2, 3, 0.408248}, {"c", "b", 2, 1, 2, 3, 0.408248},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Errorf("pairs (-want +got):\n%s", diff)
	}
}

// A session with very many items is paired by the first of them only.
func TestPairsAreBounded(t *testing.T) {
	var items []string
	for i := range 1000 {
		items = append(items, fmt.Sprintf("item %03d", i))
	}
	p := sessions.NewPairs()
	p.Add(items)
	all := p.Top(1000)
	if want := sessions.MaxPaired * (sessions.MaxPaired - 1); len(all) != want {
		t.Errorf("got %d pairs, want %d", len(all), want)
	}
	last := slices.MaxFunc(all, func(a, b schemas.CoOccurrence) int { return strings.Compare(a.ItemID, b.ItemID) })
	if last.ItemID != "item 099" {
		t.Errorf("the last item is %q", last.ItemID)
	}
}
