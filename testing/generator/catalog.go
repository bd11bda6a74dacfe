package generator

import (
	"errors"
	"fmt"
	"time"

	"backbone/schemas"
)

// CatalogDir is the folder, beside the events, that holds the exports of users and items.
const CatalogDir = "catalog"

// The two modes of an export.
const (
	Full  = "full"  // all that there is; what is missing is deleted
	Delta = "delta" // what has changed since the day before, deletions included
)

// dayMicros is a day in microseconds.
const dayMicros = int64(24 * time.Hour / time.Microsecond)

// CatalogOptions say how many users and items there are, and what happens to them. A share of 0 is its default, a
// negative one none.
type CatalogOptions struct {
	// Days is how many exports of each mode there are, one a day, of which the first is as of Start and a day. Required.
	Days int
	// Users is how many users there are over all the days. Default: 100.
	Users int
	// Items is how many items there are over all the days. Default: 100.
	Items int
	// Seed chooses one of the possible shops: that of the events with the same seed.
	Seed uint64
	// Start is when the first day begins, in whole seconds. Default: 2026-03-01T00:00:00Z.
	Start time.Time

	// NewShare is the share of all users and items that come on each day after the first. Default: 0.01.
	NewShare float64
	// ChangeShare is the share of those there are that change in a day. Default: 0.05.
	ChangeShare float64
	// DeleteShare is the share of those there are that are deleted in a day. Default: 0.01.
	DeleteShare float64
	// RecreateShare is the share of the deleted that come back in a day. Default: 0.1.
	RecreateShare float64

	// DuplicateShare is the share of rows that are there again, byte for byte. Default: 0.01.
	DuplicateShare float64
	// OlderShare is the share of rows that have an older version of theirs beside them, if there is one. Default: 0.01.
	OlderShare float64
	// BrokenShare is the number of broken rows in proportion to all others. Default: 0.005.
	BrokenShare float64
	// OddShare is the share of rows that are not in normal form. Default: 0.25.
	OddShare float64

	// Dimensions is the length of an embedding. Default: 8. Negative: there are none.
	Dimensions int
	// Files is over how many files an export is spread. Default: 1.
	Files int
	// Progress is called now and then with the number of lines written so far, by one goroutine at a time; nil: not.
	Progress func(lines int)
}

// Defaults returns o with the default of each option that is not set.
func (o CatalogOptions) Defaults() CatalogOptions {
	number := func(n *int, other int) {
		if *n == 0 {
			*n = other
		}
	}
	number(&o.Users, 100)
	number(&o.Items, 100)
	number(&o.Files, 1)
	number(&o.Dimensions, 8)
	o.Dimensions = max(o.Dimensions, 0)
	if o.Start.IsZero() {
		o.Start = time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	}
	for _, s := range o.shares() {
		switch {
		case *s.share == 0:
			*s.share = s.other
		case *s.share < 0:
			*s.share = 0
		}
	}
	return o
}

// shareOption is one of the options that is a share, its name and its default.
type shareOption struct {
	name  string
	share *float64
	other float64
}

func (o *CatalogOptions) shares() []shareOption {
	return []shareOption{
		{"new share", &o.NewShare, 0.01},
		{"change share", &o.ChangeShare, 0.05},
		{"delete share", &o.DeleteShare, 0.01},
		{"recreate share", &o.RecreateShare, 0.1},
		{"duplicate share", &o.DuplicateShare, 0.01},
		{"older share", &o.OlderShare, 0.01},
		{"broken share", &o.BrokenShare, 0.005},
		{"odd share", &o.OddShare, 0.25},
	}
}

// Validate reports every mistake at once; each names the option, its value and what would do. Options that are not
// set are right, but for Days.
func (o CatalogOptions) Validate() error {
	o = o.Defaults()
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Days < 1 || o.Days > 366 {
		refuse("days is %d; it must be 1 to 366", o.Days)
	}
	if o.Users < 1 || o.Users > maxCount {
		refuse("users is %d; it must be 1 to %d", o.Users, maxCount)
	}
	if o.Items < 1 || o.Items > maxCount {
		refuse("items is %d; it must be 1 to %d", o.Items, maxCount)
	}
	if y := o.Start.UTC().Year(); y < 1971 || y > 2099 || o.Start.Nanosecond() != 0 {
		refuse("start is %s; it must be in the years 1971 to 2099, in whole seconds", o.Start.Format(time.RFC3339Nano))
	}
	for _, s := range o.shares() {
		if !(*s.share <= 1) {
			refuse("%s is %v; it must not exceed 1", s.name, *s.share)
		}
	}
	if sum := o.ChangeShare + o.DeleteShare; sum > 1 {
		refuse("the shares of what is changed and of what is deleted sum to %v; they must not exceed 1", sum)
	}
	if sum := o.NewShare * float64(o.Days-1); sum > 1 {
		refuse("new share is %v on each of %d days; together they must not exceed 1", o.NewShare, o.Days-1)
	}
	if o.Dimensions > schemas.MaxEmbedding {
		refuse("dimensions is %d; it must not exceed %d", o.Dimensions, schemas.MaxEmbedding)
	}
	if o.Files < 1 || o.Files > 1000 {
		refuse("files is %d; it must be 1 to 1000", o.Files)
	}
	return errors.Join(errs...)
}

// asOf returns the time that the exports of a day are as of. That of day -1 is the start.
func (o *CatalogOptions) asOf(day int) int64 { return o.Start.UnixMicro() + int64(day+1)*dayMicros }

// stage is one version of a user or an item. What it says depends on nothing but the seed, its number and its edition,
// so that nothing is kept of the millions that there are.
type stage struct {
	from    int64 // microseconds
	day     int
	edition int // of what is said of it: the same edition says the same
	deleted bool
	again   bool // comes back after a deletion
}

// The purposes for which dice are rolled, so that one says nothing about another.
const (
	forFate = iota + 1
	forRow
	forChange
	forExport
	forOrder
)

// dice gives random-looking bits that depend on nothing but where it was begun.
type dice uint64

// newDice returns dice that are the same for the same numbers.
func newDice(seed uint64, numbers ...uint64) dice {
	for _, n := range numbers {
		seed = mix(seed ^ mix(n+1))
	}
	return dice(seed)
}

func (d *dice) roll() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

// below returns a number from 0 to n-1.
func (d *dice) below(n int) int { return int(d.roll() >> 1 % uint64(n)) }

// unit returns a number from 0 to 1, below 1.
func (d *dice) unit() float64 { return float64(d.roll()>>11) / (1 << 53) }

// one tells, in one of n cases, that it is so.
func (d *dice) one(n int) bool { return d.roll()>>1%uint64(n) == 0 }

// stages appends the versions that a user or an item has had up to the end of a day. Which table it is in, kind says.
func (o *CatalogOptions) stages(stages []stage, kind, n uint64, last int) []stage {
	fate := newDice(mix(o.Seed+1), kind, n, forFate)
	birth := 0
	if u := fate.unit(); u < o.NewShare*float64(o.Days-1) {
		birth = 1 + int(u/o.NewShare)
	}
	alive, born, edition := false, false, 0
	for day := range last + 1 {
		u, at := fate.unit(), o.asOf(day-1)+1+int64(fate.roll()>>1%uint64(dayMicros))
		same := fate.one(2)
		switch {
		case day < birth:
		case day == birth:
			alive, born = true, true
			stages = append(stages, stage{from: at, day: day})
		case alive && u < o.DeleteShare:
			// The time that an export finds it missing at: both modes agree on it.
			alive = false
			stages = append(stages, stage{from: o.asOf(day), day: day, edition: edition, deleted: true})
		case alive && u < o.DeleteShare+o.ChangeShare:
			edition++
			stages = append(stages, stage{from: at, day: day, edition: edition})
		case born && !alive && u < o.RecreateShare:
			if alive = true; !same {
				edition++
			}
			stages = append(stages, stage{from: at, day: day, edition: edition, again: true})
		}
	}
	return stages
}
