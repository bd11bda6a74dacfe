package windowmodel

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"backbone/schemas"
)

// at returns a time of 2026-11-22, such as 14:00:00.5, in microseconds.
func at(clock string) int64 {
	t, err := time.Parse("2006-01-02 15:04:05", "2026-11-22 "+clock)
	if err != nil {
		panic(err)
	}
	return t.UnixMicro()
}

// event makes an event of user u; items are separated by spaces.
func event(clock, eventType, items string) Event {
	return Event{Time: at(clock), User: "u", Type: eventType, Kind: schemas.EventTypes[eventType].Kind, Items: strings.Fields(items)}
}

// events makes events of lines such as "14:00:00 view a b", all of one user.
func events(lines ...string) (all []Event) {
	for _, line := range lines {
		clock, rest, _ := strings.Cut(line, " ")
		eventType, items, _ := strings.Cut(rest, " ")
		all = append(all, event(clock, eventType, items))
	}
	return all
}

// with changes an event.
func with(e Event, change func(*Event)) Event {
	change(&e)
	return e
}

// clock is the opposite of at.
func clock(t schemas.Time) string { return time.UnixMicro(t.V).UTC().Format("02 15:04:05.999999") }

func window(p schemas.Pane) string { return clock(p.WindowStart) + "-" + clock(p.WindowEnd) }

func byTypeText(all []schemas.Number) string {
	var words []string
	for _, n := range all {
		words = append(words, fmt.Sprint(n.Key, ":", n.Value))
	}
	return strings.Join(words, " ")
}

func sessionTexts(all []schemas.Session) (lines []string) {
	for _, r := range all {
		lines = append(lines, fmt.Sprintf("%s: %s%s %s-%s %gs %d (%s) %v %q %v", window(r.Pane), r.UserID, r.VisitorID, clock(r.StartTime), clock(r.EndTime),
			r.Duration.V, r.Events.V, byTypeText(r.EventsByType), r.Items, r.EntrySurface, r.Converted.V))
	}
	slices.Sort(lines)
	return lines
}

func TestSessions(t *testing.T) {
	ofVisitor := func(e Event) Event { return with(e, func(e *Event) { e.User, e.Visitor = "", "v" }) }
	both := func(e Event) Event { return with(e, func(e *Event) { e.Visitor = "v" }) }
	on := func(surface string, e Event) Event { return with(e, func(e *Event) { e.Surface = surface }) }
	many, thousand := make([]string, 1100), make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprint("i", i)
	}
	copy(thousand, many)
	tests := []struct {
		name   string
		events []Event
		s      Settings
		want   []string
	}{
		{"less than the gap", events("14:00:00 view a", "14:29:59.999999 click b"), Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:29:59.999999 1799.999999s 2 (click:1 view:1) [a b] "" false`,
		}},
		{"the gap", events("14:00:00 view a", "14:30:00 click b"), Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [a] "" false`,
			`22 14:00:00-22 15:00:00: u 22 14:30:00-22 14:30:00 0s 1 (click:1) [b] "" false`,
		}},
		{"another gap", events("14:00:00 view a", "14:10:00 view b", "14:19:59 view c"), Settings{Gap: 10 * time.Minute}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [a] "" false`,
			`22 14:00:00-22 15:00:00: u 22 14:10:00-22 14:19:59 599s 2 (view:2) [b c] "" false`,
		}},
		{"across partitions, in any order", events("16:05:00 purchase d", "14:50:00 view a", "15:35:00 view c", "15:15:00 view b"), Settings{}, []string{
			`22 15:00:00-22 16:00:00: u 22 14:50:00-22 15:35:00 2700s 3 (view:3) [a b c] "" false`,
			`22 16:00:00-22 17:00:00: u 22 16:05:00-22 16:05:00 0s 1 (purchase:1) [d] "" true`,
		}},
		{"ends with the partition", events("14:59:00 view a", "15:00:00 view b"), Settings{}, []string{
			`22 15:00:00-22 16:00:00: u 22 14:59:00-22 15:00:00 60s 2 (view:2) [a b] "" false`,
		}},
		{"partitions of months", events("14:59:00 view a"), Settings{Partition: Month}, []string{
			`01 00:00:00-01 00:00:00: u 22 14:59:00-22 14:59:00 0s 1 (view:1) [a] "" false`,
		}},
		{"equal times", []Event{
			on("late", event("14:00:00", "view", "z")), on("second", event("14:00:00", "click", "c b")),
			on("b", event("14:00:00", "click", "c a")), on("a", event("14:00:00", "click", "c a")),
		}, Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 4 (click:3 view:1) [c a c a c b z] "a" false`,
		}},
		{"only shown", events("14:00:00 impression a b"), Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (impression:1) [] "" false`,
		}},
		{"shown in between", events("14:00:00 view a", "14:01:00 impression b", "14:02:00 click a", "14:03:00 view b", "14:04:00 view a"), Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:04:00 240s 5 (click:1 impression:1 view:3) [a b a] "" false`,
		}},
		{"kind before type", []Event{with(event("14:00:00", "view", "a"), func(e *Event) { e.Kind = schemas.Exposure })}, Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [] "" false`,
		}},
		{"item_id and items", []Event{with(event("14:00:00", "view", "a b c b"), func(e *Event) { e.Item = "b" })}, Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [b a c] "" false`,
		}},
		{"no items", events("14:00:00 search"), Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (search:1) [] "" false`,
		}},
		{"a thousand items", events("14:00:00 view " + strings.Join(many, " ")), Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [` + strings.Join(thousand, " ") + `] "" false`,
		}},
		{"visitor where there is no user", []Event{event("14:00:00", "view", "a"), both(event("14:01:00", "view", "b")), ofVisitor(event("14:02:00", "view", "c"))}, Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:01:00 60s 2 (view:2) [a b] "" false`,
			`22 14:00:00-22 15:00:00: v 22 14:02:00-22 14:02:00 0s 1 (view:1) [c] "" false`,
		}},
		{"user where there is no visitor", []Event{event("14:00:00", "view", "a"), both(event("14:01:00", "view", "b")), ofVisitor(event("14:02:00", "view", "c"))}, Settings{ByVisitor: true}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [a] "" false`,
			`22 14:00:00-22 15:00:00: v 22 14:01:00-22 14:02:00 60s 2 (view:2) [b c] "" false`,
		}},
		{"a user and a visitor of one name", []Event{event("14:00:00", "view", "a"), with(event("14:01:00", "view", "b"), func(e *Event) { e.User, e.Visitor = "", "u" })}, Settings{}, []string{
			`22 14:00:00-22 15:00:00: u 22 14:00:00-22 14:00:00 0s 1 (view:1) [a] "" false`,
			`22 14:00:00-22 15:00:00: u 22 14:01:00-22 14:01:00 0s 1 (view:1) [b] "" false`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sessionTexts(Compute(test.events, test.s).Sessions)); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTrending(t *testing.T) {
	hour := Settings{Windows: []Windows{{time.Hour, time.Hour}}, HalfLife: 30 * time.Minute}
	from := func(country string, e Event) Event { return with(e, func(e *Event) { e.Country = country }) }
	tests := []struct {
		name   string
		events []Event
		s      func(*Settings)
		want   []string
	}{
		// The end of the window is 15:00: from 14:30 it is one half-life, from 14:00 it is two.
		{"half-lives", events("14:30:00 view a", "14:30:59.9 view b", "14:00:00 purchase c", "14:00:00 view d"), nil, []string{
			"22 14:00:00-22 15:00:00 all  1 c 2.5 10 1 (purchase:1)",
			"22 14:00:00-22 15:00:00 all  2 a 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 all  3 b 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 all  4 d 0.25 1 1 (view:1)",
		}},
		{"what counts 0", events("14:30:00 view a", "14:00:00 impression a b", "14:01:00 dwell a", "14:02:00 dwell c"), nil, []string{
			"22 14:00:00-22 15:00:00 all  1 a 0.5 1 3 (dwell:1 impression:1 view:1)",
		}},
		{"what counts less than 0", events("14:30:00 view a", "14:30:00 hide a", "14:00:00 like b", "14:30:00 hide b"), func(s *Settings) {
			s.Weights = map[string]float64{"view": 1, "hide": -1, "like": 4}
		}, []string{
			"22 14:00:00-22 15:00:00 all  1 b 0.5 3 2 (hide:1 like:1)",
		}},
		{"the top", events("14:30:00 view c b a", "14:30:00 click b"), func(s *Settings) { s.Top = 2 }, []string{
			"22 14:00:00-22 15:00:00 all  1 b 1 2 2 (click:1 view:1)",
			"22 14:00:00-22 15:00:00 all  2 a 0.5 1 1 (view:1)",
		}},
		{"countries", []Event{from("DE", event("14:30:00", "view", "a")), from("AT", event("14:30:00", "view", "a b")), event("14:30:00", "click", "b"), from("FR", event("14:30:00", "impression", "b"))}, nil, []string{
			"22 14:00:00-22 15:00:00 all  1 a 1 2 2 (view:2)",
			"22 14:00:00-22 15:00:00 all  2 b 1 2 3 (click:1 impression:1 view:1)",
			"22 14:00:00-22 15:00:00 country AT 1 a 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 country AT 2 b 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 country DE 1 a 0.5 1 1 (view:1)",
		}},
		{"categories", events("14:30:00 view a b", "14:30:00 like b", "14:30:00 view c"), func(s *Settings) {
			s.Categories = Always(map[string][]string{"a": {"A > B", "A > C"}, "b": {"A"}})
		}, []string{
			"22 14:00:00-22 15:00:00 all  1 b 2 4 2 (like:1 view:1)",
			"22 14:00:00-22 15:00:00 all  2 a 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 all  3 c 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 category A 1 b 2 4 2 (like:1 view:1)",
			"22 14:00:00-22 15:00:00 category A 2 a 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 category A > B 1 a 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 category A > C 1 a 0.5 1 1 (view:1)",
		}},
		{"categories of a time", events("14:30:00 view a", "15:30:00 view a"), func(s *Settings) {
			s.Categories = func(end int64) map[string][]string {
				return map[string][]string{"a": {"until " + time.UnixMicro(end).UTC().Format("15")}}
			}
		}, []string{
			"22 14:00:00-22 15:00:00 all  1 a 0.5 1 1 (view:1)",
			"22 14:00:00-22 15:00:00 category until 15 1 a 0.5 1 1 (view:1)",
			"22 15:00:00-22 16:00:00 all  1 a 0.5 1 1 (view:1)",
			"22 15:00:00-22 16:00:00 category until 16 1 a 0.5 1 1 (view:1)",
		}},
		// 14:30 is in 13:00-15:00 and 14:00-16:00, and 15:00 in 14:00-16:00 and 15:00-17:00.
		{"sliding", events("14:30:00 view a", "15:00:00 view a"), func(s *Settings) {
			s.Windows, s.HalfLife = []Windows{{2 * time.Hour, time.Hour}}, time.Hour
		}, []string{
			"22 13:00:00-22 15:00:00 all  1 a 0.707106781187 1 1 (view:1)",
			"22 14:00:00-22 16:00:00 all  1 a 0.853553390593 2 2 (view:2)",
			"22 15:00:00-22 17:00:00 all  1 a 0.25 1 1 (view:1)",
		}},
		{"a window of two lists is one", events("00:30:00 view a"), func(s *Settings) {
			s.Windows, s.HalfLife = []Windows{{time.Hour, 30 * time.Minute}, {time.Hour, time.Hour}}, 30*time.Minute
		}, []string{
			"22 00:00:00-22 01:00:00 all  1 a 0.5 1 1 (view:1)",
			"22 00:30:00-22 01:30:00 all  1 a 0.25 1 1 (view:1)",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := hour
			if test.s != nil {
				test.s(&s)
			}
			var got []string
			for _, r := range Compute(test.events, s).Trending {
				got = append(got, fmt.Sprintf("%s %s %s %d %s %.12g %g %d (%s)", window(r.Pane), r.Scope, r.ScopeValue, r.Rank.V, r.ItemID,
					r.Popularity.V, r.Score.V, r.Events.V, byTypeText(r.EventsByType)))
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("trending (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFunnel(t *testing.T) {
	var shown []Event
	for i := range 100 { // the bounds of 10 of 100 are those of many textbooks: 5.52 % and 17.44 %
		shown = append(shown, event("14:00:00", "impression", "a"))
		if i < 10 {
			shown = append(shown, event("14:00:01", "click", "a"))
		}
	}
	type row = schemas.Funnel
	some := schemas.Some[int64]
	share := schemas.Some[float64]
	hour := pane(Span{at("14:00:00"), at("15:00:00")})
	tests := []struct {
		name   string
		events []Event
		want   []row
	}{
		{"10 of 100", shown, []row{
			{ItemID: "a", Impressions: some(100), Views: some(0), Clicks: some(10), Carts: some(0), Purchases: some(0), CTR: share(0.1), CTRLow: share(0.0552), CTRHigh: share(0.1744), Pane: hour},
		}},
		{"none of 1, and none of none", events("14:00:00 impression a", "14:59:59.999999 view b", "14:30:00 like c", "14:30:00 search"), []row{
			{ItemID: "a", Impressions: some(1), Views: some(0), Clicks: some(0), Carts: some(0), Purchases: some(0), CTR: share(0), CTRLow: share(0), CTRHigh: share(0.7935), Pane: hour},
			{ItemID: "b", Impressions: some(0), Views: some(1), Clicks: some(0), Carts: some(0), Purchases: some(0), Pane: hour},
		}},
		{"more clicks than impressions", events("14:00:00 impression a", "14:00:00 click a", "14:00:00 click a", "14:00:00 add_to_cart a a", "14:01:00 purchase a"), []row{
			{ItemID: "a", Impressions: some(1), Views: some(0), Clicks: some(2), Carts: some(1), Purchases: some(1), CTR: share(2), CTRLow: share(0.2065), CTRHigh: share(1), Pane: hour},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Compute(test.events, Settings{}).Funnel // of the default windows, those of 24 hours overlap
			if diff := cmp.Diff(test.want, got, cmpopts.EquateApprox(0, 5e-5), cmpopts.SortSlices(func(a, b row) bool { return a.ItemID < b.ItemID })); diff != "" {
				t.Errorf("funnel (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCoOccurrence(t *testing.T) {
	// Sessions of one user, an hour apart from each other, within 24 hours.
	abc := events("10:00:00 view a b c", "11:00:00 view a b", "12:00:00 view a c a", "13:00:00 view a", "14:00:00 view b d", "14:01:00 impression e")
	hundred := make([]string, 101)
	for i := range hundred {
		hundred[i] = fmt.Sprintf("i%03d", i)
	}
	root := math.Sqrt
	tests := []struct {
		name   string
		events []Event
		s      Settings
		want   []string
	}{
		{"ranks", abc, Settings{Windows: []Windows{{24 * time.Hour, 24 * time.Hour}, {24 * time.Hour, time.Hour}}}, []string{
			fmt.Sprintf("a 1 c 2 4 2 %.12f", 2/root(4*2)),
			fmt.Sprintf("a 2 b 2 4 3 %.12f", 2/root(4*3)),
			fmt.Sprintf("b 1 a 2 3 4 %.12f", 2/root(3*4)),
			fmt.Sprintf("b 2 d 1 3 1 %.12f", 1/root(3*1)),
			fmt.Sprintf("b 3 c 1 3 2 %.12f", 1/root(3*2)),
			fmt.Sprintf("c 1 a 2 2 4 %.12f", 2/root(2*4)),
			fmt.Sprintf("c 2 b 1 2 3 %.12f", 1/root(2*3)),
			fmt.Sprintf("d 1 b 1 1 3 %.12f", 1/root(1*3)),
		}},
		{"the top", events("10:00:00 view c b a"), Settings{TopPairs: 1}, []string{
			"a 1 b 1 1 1 1.000000000000", "b 1 a 1 1 1 1.000000000000", "c 1 a 1 1 1 1.000000000000",
		}},
		{"where the session ended", events("10:50:00 view a", "11:10:00 view b"), Settings{Windows: []Windows{{time.Hour, time.Hour}}}, []string{
			"a 1 b 1 1 1 1.000000000000", "b 1 a 1 1 1 1.000000000000",
		}},
		{"the first hundred", events("10:00:00 view " + strings.Join(hundred, " ")), Settings{TopPairs: 100}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rows := Compute(test.events, test.s).CoOccurrence
			if test.want == nil {
				if len(rows) != 100*99 {
					t.Errorf("%d pairs, want %d", len(rows), 100*99)
				}
				return
			}
			var got []string
			for _, r := range rows {
				got = append(got, fmt.Sprintf("%s %d %s %d %d %d %.12f", r.ItemID, r.Rank.V, r.OtherItemID, r.Sessions.V, r.ItemSessions.V, r.OtherSessions.V, r.Similarity.V))
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("co_occurrence (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseWindows(t *testing.T) {
	got, err := ParseWindows("1h, 24h/1h,10m")
	if err != nil {
		t.Fatal(err)
	}
	want := []Windows{{time.Hour, time.Hour}, {24 * time.Hour, time.Hour}, {10 * time.Minute, 10 * time.Minute}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "1h/", "90s", "-1h", "1h,2x"} {
		if _, err := ParseWindows(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
