package trending_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/lake/digest"
	"backbone/transforms/trending"
)

const minute = int64(60_000_000)

var begin = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).UnixMicro()

func row(at int64, kind, item, country string) schemas.Interaction {
	return schemas.Interaction{
		EventTime: schemas.Some(begin + at*minute), UserID: "u", EventType: kind, FeedbackKind: schemas.EventTypes[kind].Kind, ItemID: item,
		Context: schemas.Context{Country: country},
	}
}

// cells are those of rows.
func cells(t interface{ Fatal(...any) }, rows []schemas.Interaction) *digest.Cells {
	b := digest.NewBuilder()
	for i := range rows {
		b.Add(&rows[i])
	}
	body, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := digest.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	return d.Cells()
}

// show is a trend in a line.
func show(t schemas.Trend) string {
	var types []string
	for _, n := range t.EventsByType {
		types = append(types, fmt.Sprintf("%s=%v", n.Key, n.Value))
	}
	return fmt.Sprintf("%s %s %d. %s %.6g of %.6g, %d: %s", t.Scope, t.ScopeValue, t.Rank.V, t.ItemID, t.Popularity.V, t.Score.V, t.Events.V, strings.Join(types, " "))
}

func TestTrending(t *testing.T) {
	o := trending.Options{Weights: map[string]float64{"view": 1, "purchase": 10, "hide": -2}, HalfLife: 10 * time.Minute, Top: 2}
	categories := func(item string) []string {
		return map[string][]string{"a": {"Home", "Home > Kitchen"}, "b": {"Home"}}[item]
	}
	tests := []struct {
		name string
		rows []schemas.Interaction
		with func(string) []string
		want []string
	}{
		{"half the weight a half-life ago", []schemas.Interaction{row(0, "view", "a", ""), row(10, "view", "b", "")}, nil, []string{
			"all  1. b 0.5 of 1, 1: view=1", "all  2. a 0.25 of 1, 1: view=1",
		}},
		{"only the best", []schemas.Interaction{row(19, "view", "a", ""), row(19, "purchase", "b", ""), row(19, "view", "c", ""), row(19, "view", "c", "")}, nil, []string{
			"all  1. b 9.33033 of 10, 1: purchase=1", "all  2. c 1.86607 of 2, 2: view=2",
		}},
		{"of two that are alike, the lesser id", []schemas.Interaction{row(0, "view", "b", ""), row(0, "view", "c", ""), row(0, "view", "a", "")}, nil, []string{
			"all  1. a 0.25 of 1, 1: view=1", "all  2. b 0.25 of 1, 1: view=1",
		}},
		{"what has no weight is counted where there is some", []schemas.Interaction{row(10, "impression", "a", ""), row(10, "view", "a", ""), row(10, "impression", "b", "")}, nil, []string{
			"all  1. a 0.5 of 1, 2: impression=1 view=1",
		}},
		{"what has less than none is left out", []schemas.Interaction{row(10, "view", "a", ""), row(10, "hide", "a", "")}, nil, nil},
		{"by country, where it is known", []schemas.Interaction{row(10, "view", "a", "DE"), row(10, "view", "a", ""), row(10, "view", "b", "AT")}, nil, []string{
			"all  1. a 1 of 2, 2: view=2", "all  2. b 0.5 of 1, 1: view=1", "country AT 1. b 0.5 of 1, 1: view=1", "country DE 1. a 0.5 of 1, 1: view=1",
		}},
		{"by category", []schemas.Interaction{row(10, "view", "a", ""), row(10, "view", "b", ""), row(10, "purchase", "b", ""), row(10, "view", "c", "")}, categories, []string{
			"all  1. b 5.5 of 11, 2: purchase=1 view=1", "all  2. a 0.5 of 1, 1: view=1",
			"category Home 1. b 5.5 of 11, 2: purchase=1 view=1", "category Home 2. a 0.5 of 1, 1: view=1", "category Home > Kitchen 1. a 0.5 of 1, 1: view=1",
		}},
		{"nothing outside of the window", []schemas.Interaction{row(20, "view", "a", ""), row(-1, "view", "a", "")}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := o
			o.Categories = test.with
			end := begin + 20*minute
			var got []string
			for _, trend := range trending.Trending([]*trending.Sums{trending.Sum(cells(t, test.rows), begin, end, o)}, end, o) {
				got = append(got, show(trend))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("trends (-want +got):\n%s", diff)
			}
		})
	}
}

// A window that is made of parts is the window of all.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := trending.Options{Weights: trending.Weights(), HalfLife: 7 * time.Minute, Top: 100}
		rows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) schemas.Interaction {
			pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
			return row(rapid.Int64Range(0, 59).Draw(t, "minute"), pick("type", "view", "impression", "click", "add_to_cart", "purchase"), pick("item", "a", "b", "c", "d", "e", "f"), pick("country", "", "DE", "AT"))
		}), 0, 80).Draw(t, "rows")
		end := begin + 60*minute
		whole := []*trending.Sums{trending.Sum(cells(t, rows), begin, end, o)}
		var parts []*trending.Sums
		step := rapid.SampledFrom([]int64{5, 20, 30}).Draw(t, "step") * minute
		for at := begin; at < end; at += step {
			in := slices.DeleteFunc(slices.Clone(rows), func(r schemas.Interaction) bool { return r.EventTime.V < at || r.EventTime.V >= at+step })
			parts = append(parts, trending.Sum(cells(t, in), at, at+step, o))
		}
		text := func(parts []*trending.Sums) (lines []string) {
			for _, trend := range trending.Trending(parts, end, o) {
				trend.Rank.V = 0 // of two that differ in the last bit only, either may be the first
				lines = append(lines, show(trend))
			}
			slices.Sort(lines)
			return lines
		}
		if diff := cmp.Diff(text(whole), text(parts)); diff != "" {
			t.Fatalf("trends (-whole +parts):\n%s", diff)
		}
		if diff := cmp.Diff(trending.Funnels(whole), trending.Funnels(parts)); diff != "" {
			t.Fatalf("funnels (-whole +parts):\n%s", diff)
		}
	})
}

func TestFunnels(t *testing.T) {
	var rows []schemas.Interaction
	add := func(n int, kind, item string) {
		for i := range n {
			rows = append(rows, row(int64(i%60), kind, item, "DE"))
		}
	}
	add(100, "impression", "a")
	add(10, "click", "a")
	add(3, "add_to_cart", "a")
	add(1, "purchase", "a")
	add(2, "click", "b")
	add(5, "like", "c")
	add(1, "impression", "d")
	add(2, "click", "d")
	var got [][]any
	for _, f := range trending.Funnels([]*trending.Sums{trending.Sum(cells(t, rows), begin, begin+60*minute, trending.Options{HalfLife: time.Hour})}) {
		got = append(got, []any{f.ItemID, f.Impressions.V, f.Views.V, f.Clicks.V, f.Carts.V, f.Purchases.V, f.CTR.Set, f.CTR.V, f.CTRLow.V, f.CTRHigh.V})
	}
	want := [][]any{
		{"a", int64(100), int64(0), int64(10), int64(3), int64(1), true, 0.1, 0.05522914, 0.17436566},
		{"b", int64(0), int64(0), int64(2), int64(0), int64(0), false, 0.0, 0.0, 0.0},
		{"d", int64(1), int64(0), int64(2), int64(0), int64(0), true, 2.0, 0.20654931, 1.0},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-7)); diff != "" {
		t.Errorf("funnels (-want +got):\n%s", diff)
	}
}

func TestPaths(t *testing.T) {
	tests := []struct{ in, want []string }{
		{nil, nil},
		{[]string{"A"}, []string{"A"}},
		{[]string{"A > B > C"}, []string{"A", "A > B", "A > B > C"}},
		{[]string{"A > B", "A > C", "A"}, []string{"A", "A > B", "A > C"}},
		{[]string{"A>B"}, []string{"A>B"}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, trending.Paths(test.in)); diff != "" {
			t.Errorf("paths of %q (-want +got):\n%s", test.in, diff)
		}
	}
}

// An item with a third of all events is one item, and takes what one item takes.
func TestHotItem(t *testing.T) {
	var rows []schemas.Interaction
	for i := range 100_000 {
		item := "hot"
		if i%10 >= 3 {
			item = fmt.Sprint(i)
		}
		rows = append(rows, row(int64(i%60), "view", item, "DE"))
	}
	c := cells(t, rows)
	if want := 70_000 + 60; len(c.List) > want {
		t.Errorf("there are %d cells, want %d at most", len(c.List), want)
	}
	o := trending.Options{Weights: trending.Weights(), HalfLife: time.Hour, Top: 1}
	end := begin + 60*minute
	got := trending.Trending([]*trending.Sums{trending.Sum(c, begin, end, o)}, end, o)
	if len(got) != 2 || got[0].ItemID != "hot" || got[0].Events.V != 30_000 || math.Abs(got[0].Score.V-30_000) > 1e-6 {
		t.Errorf("got %v", got)
	}
}
