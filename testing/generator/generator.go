// Package generator makes the events of a shop that does not exist, and the truth about each of them.
//
// Users come in sessions: they open the shop, search or browse, are shown lists, click, look, fill a cart, buy, rate,
// watch. A few items and a few users make most of the events, days are busier than nights, and Sundays than Tuesdays.
// The events are in Backbone's native JSON format, one object each. Some of them are what real producers send: the
// same bytes twice, hours late, out of order, or broken in one of the ways that dead letters have a code for.
//
// The users and items of the shop change from day to day. WriteCatalog writes what its systems export of them, and the truth
// about each of their versions.
//
// # Guarantees
//
// The same Options give the same bytes on the same processor architecture. Events come in the order of their arrival.
// An event that is not broken has an id that no other has, except its own repetitions, which are byte for byte the
// same. A broken event breaks one rule only, and no two broken events are the same bytes. Exactly Options.Events
// events come out, and all of them have happened within [Start, Start+Duration).
//
// # Limits
//
// Memory holds the sessions that are going on and the events under way: tens of megabytes for 8 million events a day. Of
// users and items it holds nothing, but for the broken rows of a day.
package generator

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"backbone/schemas"
)

// Options say how much is made and how much of it is wrong. Shares are of all events.
type Options struct {
	// Events is how many events come out, repeated and broken ones included. Required.
	Events int
	// Users is how many users there are. Default: a tenth of Events, at least 100.
	Users int
	// Items is how many items there are. Default: a hundredth of Events, at least 100.
	Items int
	// Seed chooses one of the possible shops. Any value is good.
	Seed uint64
	// Start is when the first event may happen. Default: 2026-03-01T00:00:00Z, a Sunday.
	Start time.Time
	// Duration is how long the shop is watched, at least a second. Default: 24h.
	Duration time.Duration

	// DuplicateShare is the share of events that repeat an earlier one. Default: 0.01. Negative: none.
	DuplicateShare float64
	// BrokenShare is the share of events that must become dead letters. Default: 0.005. Negative: none.
	BrokenShare float64
	// LateShare is the share of events that arrive long after they happened. Default: 0.02. Negative: none.
	LateShare float64
	// MaxLate is the longest that an event, or its repetition, is under way. Late events take at least 20 minutes, or
	// half of MaxLate if that is less. Default: 6h.
	MaxLate time.Duration

	// Files is over how many files WriteFiles spreads the events. Default: 1.
	Files int
	// Progress is called now and then with the number of events written or published so far; nil: not.
	Progress func(events int)
}

// Defaults returns o with the default of each option that is not set.
func (o Options) Defaults() Options {
	if o.Users == 0 {
		o.Users = max(100, o.Events/10)
	}
	if o.Items == 0 {
		o.Items = max(100, o.Events/100)
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Duration == 0 {
		o.Duration = 24 * time.Hour
	}
	if o.MaxLate == 0 {
		o.MaxLate = 6 * time.Hour
	}
	if o.Files == 0 {
		o.Files = 1
	}
	share := func(s *float64, other float64) {
		switch {
		case *s == 0:
			*s = other
		case *s < 0:
			*s = 0
		}
	}
	share(&o.DuplicateShare, 0.01)
	share(&o.BrokenShare, 0.005)
	share(&o.LateShare, 0.02)
	return o
}

// Validate reports every mistake at once; each names the option, its value and what would do. Options that are not
// set are right.
func (o Options) Validate() error {
	set := o.Defaults()
	var errs []error
	if o.Events < 1 {
		errs = append(errs, fmt.Errorf("events is %d; it must be at least 1", o.Events))
	}
	if o.Users < 0 || o.Users > maxCount {
		errs = append(errs, fmt.Errorf("users is %d; it must be 1 to %d", o.Users, maxCount))
	}
	if o.Items < 0 || o.Items > maxCount {
		errs = append(errs, fmt.Errorf("items is %d; it must be 1 to %d", o.Items, maxCount))
	}
	if y := set.Start.UTC().Year(); y < 1971 || y > 2099 {
		errs = append(errs, fmt.Errorf("start is %s; it must be in the years 1971 to 2099", set.Start.Format(time.RFC3339)))
	}
	if set.Duration < time.Second || set.Duration > maxDuration {
		errs = append(errs, fmt.Errorf("duration is %v; it must be 1s to %v", set.Duration, maxDuration))
	}
	if set.MaxLate < time.Second {
		errs = append(errs, fmt.Errorf("max late is %v; it must be at least 1s", set.MaxLate))
	}
	if set.Files < 1 || set.Files > 10_000 {
		errs = append(errs, fmt.Errorf("files is %d; it must be 1 to 10000", set.Files))
	}
	// 0.5: repetitions are of events that are not broken, so there must be enough of those.
	if sum := set.DuplicateShare + set.BrokenShare + set.LateShare; !(sum <= 0.5) {
		errs = append(errs, fmt.Errorf("the shares of repeated, broken and late events sum to %v; they must not exceed 0.5", sum))
	}
	return errors.Join(errs...)
}

const (
	maxCount    = 20_000_000
	maxDuration = 10 * 366 * 24 * time.Hour
)

// Verdict is what must become of an event.
type Verdict uint8

// The verdicts.
const (
	Good     Verdict = iota // a row
	Late                    // a row, though it arrives long after it happened
	Repeated                // no row: it was there before, byte for byte
	Broken                  // a dead letter
)

var verdictNames = [...]string{Good: "good", Late: "late", Repeated: "repeated", Broken: "broken"}

func (v Verdict) String() string { return verdictNames[v] }

// Event is one event as it arrives, and what must become of it.
type Event struct {
	Data          []byte // JSON, or what was made of it, without line end; valid until the next call of Next
	ID            string // event_id; that of a broken event may not be readable from Data
	EventMicros   int64  // when it happened, in microseconds since 1970; a broken event may claim another time
	ArrivalMicros int64  // when it arrives
	Verdict       Verdict
	Code          schemas.Code // of a broken event
	FieldPath     string       // of a broken event; empty where no certain field is at fault
}

// Generator makes events. It is not safe for concurrent use.
type Generator struct {
	options Options
	shop    *shop
	rand    *rand.Rand

	start, end int64 // microseconds
	rhythm     rhythm
	passed     float64 // share of the rhythm that has passed at the start of the next session, in [0, 1)
	next       int64   // when the next session starts
	delays     []int64 // of the events of trials sessions since the session's start, in order
	planned    int     // events that have been planned, repetitions included
	broken     int     // broken events that have been planned, giants not counted
	giants     int     // broken events larger than 1 MiB that have been planned

	repeatChance, brokenChance, lateChance float64 // of an event that is no repetition

	going    queue // sessions, by the time of their next event
	sessions []*session
	idle     []int32 // indices of sessions that are over

	underway queue // events, by arrival
	parcels  []parcel
	empty    []int32 // indices of parcels that have arrived
	last     int32   // the parcel that the caller is looking at; -1: none

	made uint64 // events that were encoded: the source of ids
}

// parcel is an event under way.
type parcel struct {
	data   []byte
	id     string
	time   int64
	broken int16 // index in brokenKinds
	first  Verdict
	copies int8 // arrivals still to come
	seen   bool // has arrived once
}

// New returns a generator; the Options must be valid.
func New(o Options) (*Generator, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("generator: %w", err)
	}
	o = o.Defaults()
	g := &Generator{
		options: o,
		start:   o.Start.UnixMicro(),
		end:     o.Start.Add(o.Duration).UnixMicro(),
		last:    -1,
	}
	g.shop = newShop(o)
	g.newRhythm()
	g.rand = rand.New(rand.NewPCG(o.Seed, 0))
	g.next = g.rhythm.from
	originals := 1 - o.DuplicateShare
	g.brokenChance = o.BrokenShare / originals
	g.lateChance = o.LateShare / originals
	g.repeatChance = o.DuplicateShare / (originals - o.BrokenShare)
	g.scheduleSession()
	return g, nil
}

// Options returns the options of g with their defaults.
func (g *Generator) Options() Options { return g.options }

// Next returns the next event to arrive. It returns false after the last.
func (g *Generator) Next() (Event, bool) {
	g.release()
	// Nothing that has yet to happen can arrive before it happens: only when the first arrival is ahead of all
	// that is still to happen is it really the first.
	for {
		when, more := g.nextToHappen()
		if len(g.underway) > 0 && (!more || g.underway[0].at <= when) {
			break
		}
		if !more {
			return Event{}, false
		}
		g.happen()
	}
	arrival := g.underway.pop()
	p := &g.parcels[arrival.ref]
	e := Event{Data: p.data, ID: p.id, EventMicros: p.time, ArrivalMicros: arrival.at, Verdict: p.first}
	if p.seen {
		e.Verdict = Repeated
	}
	if e.Verdict == Broken {
		kind := brokenKinds[p.broken]
		e.Code, e.FieldPath = kind.Code, kind.Path
	}
	p.seen = true
	p.copies--
	if p.copies == 0 {
		g.last = arrival.ref
	}
	return e, true
}

// release makes the parcel that the caller has looked at free for the next event.
func (g *Generator) release() {
	if g.last < 0 {
		return
	}
	p := &g.parcels[g.last]
	if cap(p.data) > 1<<16 {
		p.data = nil // it is not worth keeping the room for a rare giant
	}
	g.empty = append(g.empty, g.last)
	g.last = -1
}

// nextToHappen returns the earliest time at which something may yet happen, and whether anything will.
func (g *Generator) nextToHappen() (int64, bool) {
	starting := g.planned < g.options.Events
	switch {
	case len(g.going) > 0 && (!starting || g.going[0].at <= g.next):
		return g.going[0].at, true
	case starting:
		return g.next, true
	default:
		return 0, false
	}
}

// happen lets the next thing happen: a session starts, or an event of one occurs.
func (g *Generator) happen() {
	if g.planned < g.options.Events && (len(g.going) == 0 || g.next < g.going[0].at) {
		g.startSession()
		return
	}
	top := g.going[0]
	s := g.sessions[top.ref]
	e := &s.events[s.done]
	s.done++
	g.send(s, e)
	if s.done == len(s.events) {
		g.going.pop()
		g.idle = append(g.idle, top.ref)
		return
	}
	g.going[0].at = s.events[s.done].time
	g.going.down(0)
}

// send encodes an event and puts it, and its repetition, under way.
func (g *Generator) send(s *session, e *event) {
	ref := g.emptyParcel()
	p := &g.parcels[ref]
	*p = parcel{data: p.data[:0], time: e.time, broken: e.broken, first: e.verdict, copies: 1}
	p.id = g.newID()
	p.data = g.encode(p.data, s, e, p.id)

	arrival := e.time + g.latency()
	if e.verdict == Late {
		arrival = e.time + g.between(min(20*time.Minute, g.options.MaxLate/2), g.options.MaxLate)
	}
	g.underway.push(entry{at: arrival, seq: g.made, ref: ref})
	if e.repeated {
		p.copies++
		g.underway.push(entry{at: arrival + g.between(min(time.Second, g.options.MaxLate/2), g.options.MaxLate), seq: g.made, ref: ref})
	}
	g.made++
}

func (g *Generator) emptyParcel() int32 {
	if n := len(g.empty); n > 0 {
		ref := g.empty[n-1]
		g.empty = g.empty[:n-1]
		return ref
	}
	g.parcels = append(g.parcels, parcel{})
	return int32(len(g.parcels) - 1)
}

// latency returns how long an ordinary event is under way, in microseconds: under a second mostly, at most 15.
func (g *Generator) latency() int64 {
	us := 30_000 + g.rand.ExpFloat64()*600_000
	if g.rand.Uint32()%100 == 0 {
		us *= 5
	}
	return int64(min(us, 15_000_000))
}

// between returns microseconds from low to high, short ones being as likely as long ones ten times their length.
func (g *Generator) between(low, high time.Duration) int64 {
	a, b := float64(low.Microseconds()), float64(high.Microseconds())
	return int64(a * math.Exp(g.rand.Float64()*math.Log(b/a)))
}

// trials is how many sessions are planned to see how many events a session has, and when.
const trials = 400

// warmUp is how long before the start the first sessions begin, so that there are as many at the start as later. Only
// what happens after the start counts.
const warmUp = 15 * time.Minute

// newRhythm plans when sessions start.
func (g *Generator) newRhythm() {
	g.rand = rand.New(rand.NewPCG(g.options.Seed, 1))
	var s session
	for range trials {
		g.plan(&s, g.start)
		for _, e := range s.events {
			g.delays = append(g.delays, e.time-g.start)
		}
	}
	slices.Sort(g.delays)
	g.rhythm = newRhythm(g.start-min(warmUp, g.options.Duration).Microseconds(), g.end, g.yield)
}

// yield returns how many events can be expected of a session that starts at a time: those before the end, without
// those before the start.
func (g *Generator) yield(at int64) float64 {
	until := func(delay int64) int {
		n, _ := slices.BinarySearch(g.delays, delay)
		return n
	}
	n := until(max(g.end-at, 1)) - until(max(g.start-at, 0))
	return (float64(n) + 0.5) / trials // never 0
}

// scheduleSession draws when the next session starts. The steps are made in the mass of the rhythm, so that busy hours
// have more of them, and so that what is still to be planned fits into what is left of the time.
func (g *Generator) scheduleSession() {
	left := float64(g.options.Events - g.planned)
	if left <= 0 {
		return
	}
	step := g.rand.ExpFloat64() * g.yield(g.next) / left
	g.passed = 1 - (1-g.passed)*math.Exp(-step)
	g.next = min(max(g.rhythm.at(g.passed), g.next), g.end-1)
}

// startSession plans all events of a session and lets it begin.
func (g *Generator) startSession() {
	var ref int32
	if n := len(g.idle); n > 0 {
		ref, g.idle = g.idle[n-1], g.idle[:n-1]
	} else {
		ref = int32(len(g.sessions))
		g.sessions = append(g.sessions, &session{})
	}
	s := g.sessions[ref]
	g.plan(s, g.next)

	// The fate of each event is settled here, where it is known how many are still wanted.
	for ; s.done < len(s.events) && s.events[s.done].time < g.start; s.done++ {
	}
	for i := s.done; i < len(s.events); i++ {
		if g.planned == g.options.Events || s.events[i].time >= g.end {
			s.events = s.events[:i]
			break
		}
		g.judge(&s.events[i])
	}
	if s.done < len(s.events) {
		g.going.push(entry{at: s.events[s.done].time, seq: uint64(ref), ref: ref})
	} else {
		g.idle = append(g.idle, ref)
	}
	g.scheduleSession()
}

// judge settles what is to become of an event, and counts it and its repetition as planned.
func (g *Generator) judge(e *event) {
	g.planned++
	switch draw := g.rand.Float64(); {
	case draw < g.brokenChance:
		e.verdict = Broken
		e.broken = g.nextBroken()
		return
	case draw < g.brokenChance+g.lateChance:
		e.verdict = Late
	}
	if g.planned < g.options.Events && g.rand.Float64() < g.repeatChance {
		e.repeated = true
		g.planned++
	}
}

// newID returns an event id in the form of a UUID of version 4.
func (g *Generator) newID() string {
	// Both halves are one-to-one functions of the count, so most of the 122 free bits differ for certain.
	hi := mix(g.made ^ g.options.Seed*0x9e3779b97f4a7c15)
	lo := mix(hi + g.made)
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 2<<62
	var b [36]byte
	hex(b[0:8], hi>>32)
	b[8] = '-'
	hex(b[9:13], hi>>16)
	b[13] = '-'
	hex(b[14:18], hi)
	b[18] = '-'
	hex(b[19:23], lo>>48)
	b[23] = '-'
	hex(b[24:36], lo)
	return string(b[:])
}

// entry is something that will happen at a time.
type entry struct {
	at  int64
	seq uint64 // orders what is at the same time
	ref int32
}

func (a entry) before(b entry) bool {
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

// queue is a binary heap: the first entry is the earliest.
type queue []entry

func (q *queue) push(e entry) {
	*q = append(*q, e)
	h := *q
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

func (q *queue) pop() entry {
	h := *q
	top := h[0]
	n := len(h) - 1
	h[0] = h[n]
	*q = h[:n]
	if n > 0 {
		q.down(0)
	}
	return top
}

// down restores the order after entry i has become later.
func (q queue) down(i int) {
	e := q[i]
	for {
		child := 2*i + 1
		if child >= len(q) {
			break
		}
		if child+1 < len(q) && q[child+1].before(q[child]) {
			child++
		}
		if !q[child].before(e) {
			break
		}
		q[i] = q[child]
		i = child
	}
	q[i] = e
}
