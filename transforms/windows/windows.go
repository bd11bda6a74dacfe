// Package windows computes what recommenders ask of the latest events, by windows of event time: sessions, what is trending, funnels,
// and items that go together. Beam says when, the lake says what.
//
// When: each commit of interactions says which windows it touches. These notices have the time at which their window is due as their
// event time, and Beam's watermark and triggers make panes of them: early, on time, late, and settled.
//
// What: a result is a function of the files of interactions that the lake holds, by their digests (package digest). So it does not
// matter how often a window is computed, by whom, or what was killed in between.
//
// # Layout
//
//	trending/dt=2026-11-22/20261122T140000Z-1h.parquet                       the settled result of a window
//	trending_live/dt=2026-11-22/20261122T140000Z-1h-r0000000007.parquet      a result before that, by its revision
//	interactions/dt=2026-11-22/hour=14/_windows-8b1f03c2d4e5a697-0000000003  all windows of the partition's 3 files are settled
//
// # Revisions
//
// The revision of a result is twice the number of files that it was made of (see view.count), and one more once the window is over. Files are only ever
// added, so results of one revision are the same, a greater one is made of more, and whether a result is up to date is
// seen by counting. The file name of a live result is its commit. A settled result is in one file of one name, so that no reader sees a
// window twice: when events come later still, that file is removed and made again.
//
// # Guarantees
//
// When no more events come and the watermark has passed, each window has one settled result, which is made of all its events. After a
// kill the next start finds the partitions whose windows may not be up to date.
//
// # Metrics
//
// windows/early, windows/on_time, windows/late, windows/settled: results that were committed.
//
// # Limits
//
// The result of a window, and the cells or events that it is made of, are held in memory.
package windows

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake"
	"backbone/transforms/pubsub"
	"backbone/transforms/sessions"
	"backbone/transforms/trending"
)

// Tables are the tables that there are.
var Tables = []string{schemas.Sessions.Name, schemas.Trending.Name, schemas.Funnels.Name, schemas.CoOccurrences.Name}

// Options say what is computed, and when. All are in the graph, so they have to survive JSON.
type Options struct {
	// URL of the lake.
	URL string
	// RunID names the launch.
	RunID string
	// Layout of the table of interactions; see lake.Layout.String.
	Layout string
	// Tables that are computed, of Tables. Sessions come with co_occurrence, which is made of them.
	Tables []string
	// Windows of the tables other than sessions; see ParseSpec.
	Windows []string
	// SessionGap and SessionBy are what a session is; see package sessions.
	SessionGap time.Duration
	SessionBy  sessions.By
	// Weights, HalfLife and Top are those of package trending.
	Weights  map[string]float64
	HalfLife time.Duration
	Top      int
	// TopPairs is how many items are kept that go with an item.
	TopPairs int
	// Early is how often a window that is not over is computed.
	Early time.Duration
	// Grace is how long after it is due a window is settled.
	Grace time.Duration
	// Topic takes updates of what is trending: projects/P/topics/T. Empty: there are none.
	Topic string
	// Bounded says that the input ends: then all windows are settled.
	Bounded bool
	// Remote says that the launcher is in another process; see lake.Signal.
	Remote bool
}

// Defaults returns the options that hold where nothing else is said: no tables.
func Defaults() Options {
	return Options{
		Windows: []string{"1h", "24h/1h"}, SessionGap: 30 * time.Minute, SessionBy: sessions.ByUser,
		Weights: trending.Weights(), HalfLife: 6 * time.Hour, Top: 100, TopPairs: 20,
		Early: time.Minute, Grace: 15 * time.Minute,
	}
}

// Validate reports every mistake at once.
func (o Options) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, t := range o.Tables {
		if !slices.Contains(Tables, t) {
			fail("aggregate is %q; it must be of %s", t, strings.Join(Tables, ", "))
		}
	}
	if len(o.Windows) == 0 {
		fail("windows is empty; it must have one at least, such as 1h or 24h/1h")
	}
	for _, text := range o.Windows {
		if _, err := ParseSpec(text); err != nil {
			errs = append(errs, err)
		}
	}
	if o.SessionGap < time.Second || o.SessionGap > 24*time.Hour {
		fail("session_gap is %v; it must be between 1s and 24h", o.SessionGap)
	}
	if o.SessionBy != sessions.ByUser && o.SessionBy != sessions.ByVisitor {
		fail("session_by is %q; it must be %s or %s", o.SessionBy, sessions.ByUser, sessions.ByVisitor)
	}
	if o.HalfLife <= 0 {
		fail("half_life is %v; it must be more than 0", o.HalfLife)
	}
	if o.Top < 1 || o.TopPairs < 1 {
		fail("top is %d and top_pairs is %d; both must be at least 1", o.Top, o.TopPairs)
	}
	if o.Early < time.Second {
		fail("early is %v; it must be at least 1s", o.Early)
	}
	if _, ok := pubsub.ProjectOf(o.Topic); o.Topic != "" && !ok {
		fail("publish_topic is %q; it must be projects/PROJECT/topics/TOPIC", o.Topic)
	}
	for name, w := range o.Weights {
		if math.IsNaN(w) || math.IsInf(w, 0) {
			fail("weights has %s=%v; a weight is a number", name, w)
		}
	}
	if o.Topic != "" && !slices.Contains(o.Tables, schemas.Trending.Name) {
		fail("publish_topic is %q, but aggregate does not have %s, which is what would be published", o.Topic, schemas.Trending.Name)
	}
	return errors.Join(errs...)
}

// Spec is how a table is cut into windows: of a size, one beginning in each period.
type Spec struct{ Size, Period time.Duration }

// ParseSpec reads a spec: a size such as 1h, or a size and a period such as 24h/1h. Both are whole minutes.
func ParseSpec(text string) (Spec, error) {
	first, second, sliding := strings.Cut(text, "/")
	size, err := time.ParseDuration(first)
	period := size
	if err == nil && sliding {
		period, err = time.ParseDuration(second)
	}
	if err != nil || period < time.Minute || size < period || size%period != 0 || size%time.Minute != 0 || period%time.Minute != 0 || size > 31*24*time.Hour {
		return Spec{}, fmt.Errorf("windows has %q; it must be a size such as 1h, or a size and a period such as 24h/1h: whole minutes, at most 744h, the size a multiple of the period", text)
	}
	return Spec{size, period}, nil
}

// fixed tells if the windows do not overlap.
func (s Spec) fixed() bool { return s.Size == s.Period }

// of calls fn with the bounds of each window that a time is in.
func (s Spec) of(micros int64, fn func(start, end int64)) {
	size, period := s.Size.Microseconds(), s.Period.Microseconds()
	last := micros - mod(micros, period)
	for start := last - size + period; start <= last; start += period {
		fn(start, start+size)
	}
}

func mod(a, n int64) int64 { return (a%n + n) % n }

// Unit is a result that is computed and committed as a whole: of a table and a window. Times are microseconds since 1970.
//
// The unit of the table of interactions is a partition of it: computed means that all windows it touches are settled.
type Unit struct {
	Table      string
	Start, End int64
}

// Key returns the unit as a key for a shuffle.
func (u Unit) Key() string {
	return u.Table + "|" + strconv.FormatInt(u.Start, 10) + "|" + strconv.FormatInt(u.End, 10)
}

// ParseUnit reads what Key wrote.
func ParseUnit(key string) (Unit, error) {
	parts := strings.Split(key, "|")
	if len(parts) == 3 {
		start, err1 := strconv.ParseInt(parts[1], 10, 64)
		end, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err1 == nil && err2 == nil {
			return Unit{parts[0], start, end}, nil
		}
	}
	return Unit{}, fmt.Errorf("%q is not the key of a window", key)
}

func (u Unit) compare(o Unit) int {
	return cmp.Or(cmp.Compare(u.End, o.End), cmp.Compare(u.Start, o.Start), strings.Compare(u.Table, o.Table))
}

// String describes the unit for logs and errors.
func (u Unit) String() string {
	const form = "2006-01-02T15:04Z"
	return fmt.Sprintf("%s of %s to %s", u.Table, time.UnixMicro(u.Start).UTC().Format(form), time.UnixMicro(u.End).UTC().Format(form))
}

// name returns the unit's file name without its ending: when it begins, and how long it is.
func (u Unit) name() string {
	start := time.UnixMicro(u.Start).UTC()
	size := time.Duration(u.End-u.Start) * time.Microsecond
	text := fmt.Sprintf("%dm", size/time.Minute)
	switch {
	case start.AddDate(0, 1, 0).UnixMicro() == u.End && start.Day() == 1:
		text = "month"
	case size%time.Hour == 0:
		text = fmt.Sprintf("%dh", size/time.Hour)
	}
	return start.Format("20060102T150405Z") + "-" + text
}

// folder returns the folder of the unit in a table.
func (u Unit) folder(table string) string {
	return table + "/" + lake.Day.Folder(time.UnixMicro(u.Start))
}

// key returns the key of the settled result.
func (u Unit) key() string { return u.folder(u.Table) + "/" + u.name() + ".parquet" }

// livePrefix is what the keys of all live results of the unit begin with, and livekey the key of one.
func (u Unit) livePrefix() string { return u.folder(schemas.LiveOf(u.Table)) + "/" + u.name() + "-r" }

func (u Unit) liveKey(revision int64) string {
	return fmt.Sprintf("%s%010d.parquet", u.livePrefix(), revision)
}

// due returns when a unit is over: nothing that is on time can change it.
func (o *Options) due(u Unit) int64 {
	switch u.Table {
	case schemas.Sessions.Name, schemas.CoOccurrences.Name:
		return u.End + o.SessionGap.Microseconds()
	case schemas.Interactions.Name: // all windows that it touches are over
		longest := u.End
		for _, s := range o.specs() {
			longest = max(longest, u.End+s.Size.Microseconds())
		}
		return longest + o.SessionGap.Microseconds()
	}
	return u.End
}

// specs returns the windows, which Validate has seen.
func (o *Options) specs() (all []Spec) {
	for _, text := range o.Windows {
		if s, err := ParseSpec(text); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// has tells if a table is to be computed.
func (o *Options) has(table string) bool {
	return slices.Contains(o.Tables, table) || table == schemas.Sessions.Name && slices.Contains(o.Tables, schemas.CoOccurrences.Name)
}

// fingerprint is of all that decides what is computed. Partitions are marked by it, so that runs which compute something else
// have marks of their own.
func (o *Options) fingerprint() string {
	tables := slices.Sorted(slices.Values(o.Tables))
	windows := slices.Sorted(slices.Values(o.Windows))
	text := fmt.Sprintf("%v %v %v %v %v %d %d", tables, windows, o.SessionGap, o.SessionBy, o.HalfLife, o.Top, o.TopPairs)
	for _, t := range slices.Sorted(maps.Keys(o.Weights)) {
		text += fmt.Sprintf(" %s=%v", t, o.Weights[t])
	}
	return fmt.Sprintf("%016x", xxh3.HashString(text))
}
