// Package windowmodel says what the tables of windows must hold (docs/windows.md): sessions, trending, funnel and
// co_occurrence. Compute does it in the most obvious way for events in memory; Check compares that with what a lake has.
//
// It shares nothing with the code that writes these tables but the way to open a store.
//
// # Limits
//
// All events are in memory, and all rows, both of the model and of the lake: for two million events of a day, with the
// defaults, about 4 GiB. They take a minute on one core.
package windowmodel

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"backbone/schemas"
)

// Event is what the model has to know of an interaction. Absent texts are empty.
type Event struct {
	Time          int64 // microseconds since 1970
	User, Visitor string
	Type, Kind    string // event_type, feedback_kind
	Item          string // item_id
	Items         []string
	Country       string
	Surface       string
}

// Windows are all windows of one size. Both are whole minutes.
type Windows struct {
	Size time.Duration
	// Period is from the beginning of one to that of the next.
	Period time.Duration
}

// Span is one window, in microseconds since 1970: from Start, before End.
type Span struct{ Start, End int64 }

// String is such as 2026-11-22T14:00:00Z+1h0m0s.
func (s Span) String() string {
	return fmt.Sprintf("%s+%v", time.UnixMicro(s.Start).UTC().Format(time.RFC3339), time.Duration(s.End-s.Start)*time.Microsecond)
}

// Settings say what is counted, and how. Of what is zero, the default counts.
type Settings struct {
	// Windows are those of trending, funnel and co_occurrence. Default: 1h, and 24h every 1h.
	Windows []Windows
	// Partition returns the partition of the table of interactions that a time, in microseconds, is in: the window of
	// sessions. Default: Every(time.Hour).
	Partition func(micros int64) Span
	// Gap is the pause that ends a session. Default: 30m.
	Gap time.Duration
	// ByVisitor makes sessions of visitors, and of users only where there is no visitor.
	ByVisitor bool
	// Weights of event types; 0 of those that are not there. Default: DefaultWeights.
	Weights map[string]float64
	// HalfLife is after which time a weight is half of what it was. Default: 6h.
	HalfLife time.Duration
	// Top is how many items a scope has. Default: 100.
	Top int
	// TopPairs is how many others an item has. Default: 20.
	TopPairs int
	// Categories returns the categories of all items for windows that end at a time, in microseconds. Nil: Compute has
	// none, Check those of the lake.
	Categories func(windowEnd int64) map[string][]string
}

// DefaultWeights are the weights of event types where nothing else is said.
var DefaultWeights = map[string]float64{
	"purchase": 10, "add_to_cart": 4, "like": 3, "save": 3, "share": 3, "play_complete": 3, "comment": 2,
	"view": 1, "click": 1, "rate": 1, "play_start": 1,
}

func (s Settings) withDefaults() Settings {
	if s.Windows == nil {
		s.Windows = []Windows{{time.Hour, time.Hour}, {24 * time.Hour, time.Hour}}
	}
	if s.Partition == nil {
		s.Partition = Every(time.Hour)
	}
	if s.Weights == nil {
		s.Weights = DefaultWeights
	}
	if s.Categories == nil {
		s.Categories = Always(nil)
	}
	s.Gap = cmp.Or(s.Gap, 30*time.Minute)
	s.HalfLife = cmp.Or(s.HalfLife, 6*time.Hour)
	s.Top = cmp.Or(s.Top, 100)
	s.TopPairs = cmp.Or(s.TopPairs, 20)
	return s
}

// Always returns the same categories for all windows.
func Always(categories map[string][]string) func(int64) map[string][]string {
	return func(int64) map[string][]string { return categories }
}

// Every returns the partitions of a length that begin at multiples of it.
func Every(length time.Duration) func(micros int64) Span {
	n := length.Microseconds()
	return func(micros int64) Span {
		start := floor(micros, n)
		return Span{start, start + n}
	}
}

// Month returns the month of a time, in UTC.
func Month(micros int64) Span {
	t := time.UnixMicro(micros).UTC()
	start := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Span{start.UnixMicro(), start.AddDate(0, 1, 0).UnixMicro()}
}

// ParseWindows reads a list of sizes, or sizes with a period, such as "1h,24h/1h". An error tells all that is wrong.
func ParseWindows(list string) (all []Windows, err error) {
	minutes := func(text string) time.Duration {
		d, bad := time.ParseDuration(text)
		if bad != nil || d < time.Minute || d%time.Minute != 0 {
			err = errors.Join(err, fmt.Errorf("windows %q: %q is not a duration of whole minutes, such as 10m or 24h", list, text))
		}
		return d
	}
	for one := range strings.SplitSeq(list, ",") {
		size, period, sliding := strings.Cut(strings.TrimSpace(one), "/")
		w := Windows{Size: minutes(size)}
		if w.Period = w.Size; sliding {
			w.Period = minutes(period)
		}
		all = append(all, w)
	}
	return all, err
}

// Results are the rows of all windows, in no order. SessionKey, and Revision and Timing of panes, are absent.
type Results struct {
	Sessions     []schemas.Session
	Trending     []schemas.Trend
	Funnel       []schemas.Funnel
	CoOccurrence []schemas.CoOccurrence
}

const minute = int64(time.Minute / time.Microsecond)

// floor returns the last multiple of n up to t.
func floor(t, n int64) int64 { return t - (t%n+n)%n }

// distinct returns the texts that are not empty, each once, in their order.
func distinct(list []string) (all []string) {
	for _, s := range list {
		if s != "" && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// paths returns all beginnings of categories: of "A > B" both "A" and "A > B".
func paths(categories []string) (all []string) {
	for _, category := range categories {
		parts := strings.Split(category, " > ")
		for i := range parts {
			all = append(all, strings.Join(parts[:i+1], " > "))
		}
	}
	return distinct(all)
}

// within returns the rows of a window, of rows in the order of time.
func within[R any](sorted []R, w Span, at func(R) int64) []R {
	if len(sorted) == 0 || at(sorted[0]) >= w.End || at(sorted[len(sorted)-1]) < w.Start {
		return nil
	}
	first := sort.Search(len(sorted), func(i int) bool { return at(sorted[i]) >= w.Start })
	end := sort.Search(len(sorted), func(i int) bool { return at(sorted[i]) >= w.End })
	return sorted[first:end]
}

// byType counts events by their type, sorted by that.
func byType[E any](events []E, typeOf func(E) string) (all []schemas.Number) {
	for _, e := range events {
		key := typeOf(e)
		i := slices.IndexFunc(all, func(n schemas.Number) bool { return n.Key == key })
		if i < 0 {
			i, all = len(all), append(all, schemas.Number{Key: key})
		}
		all[i].Value++
	}
	slices.SortFunc(all, func(a, b schemas.Number) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

func pane(w Span) schemas.Pane {
	return schemas.Pane{WindowStart: schemas.Some(w.Start), WindowEnd: schemas.Some(w.End)}
}

// wilson returns the bounds of a share, hits of all, at 95 %: E. B. Wilson's, without a correction for continuity.
func wilson(hits, all float64) (low, high float64) {
	const z = 1.959963984540054 // of the normal distribution, 95 % lie within
	p := hits / all
	middle := (p + z*z/(2*all)) / (1 + z*z/all)
	half := z / (1 + z*z/all) * math.Sqrt(p*(1-p)/all+z*z/(4*all*all))
	return middle - half, middle + half
}
