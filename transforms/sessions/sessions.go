// Package sessions makes sessions of interactions, and finds the items that go together in them.
//
// A session is what one user, or visitor, did without a pause. It belongs to the partition of its last event: when the watermark has
// passed the end of a partition and the gap, all its sessions are known, however long ago they began.
//
// # Guarantees
//
// Sessions are a function of the events, not of their order or the files that they are in. An event belongs to exactly one session.
//
// # Limits
//
// The events of one partition are held in memory while its sessions are made, 40 bytes each and their items.
package sessions

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake/digest"
)

// By is whose sessions are made.
type By string

// Sessions are of users, or of visitors where there is no user; or the other way round.
const (
	ByUser    By = "user"
	ByVisitor By = "visitor"
)

// Options say what a session is.
type Options struct {
	// Gap ends a session: the next event comes as much later, or more.
	Gap time.Duration
	// By is whose they are.
	By By
}

// MaxItems bounds the items of a session.
const MaxItems = 1000

// Partition is a span of event time and what the lake has of it. Times are microseconds since 1970.
type Partition struct {
	Start, End int64
	Digests    []*digest.Digest
}

// Timeline returns the partition of a time.
type Timeline func(ctx context.Context, micros int64) (Partition, error)

// Of returns the sessions that ended in the partition of a time, sorted by who and time, and the span that was looked at for them: from
// where the longest of them began, until where another event would not have been part of any.
func Of(ctx context.Context, at int64, o Options, timeline Timeline) (all []schemas.Session, from, to int64, err error) {
	if o.By != ByUser && o.By != ByVisitor {
		return nil, 0, 0, fmt.Errorf("sessions are by %q or %q, not by %q", ByUser, ByVisitor, o.By)
	}
	gap := o.Gap.Microseconds()
	own, err := timeline(ctx, at)
	if err != nil {
		return nil, 0, 0, err
	}
	c := collector{by: o.By, ids: map[who]int{}}
	if err := c.add(own, own.End, nil); err != nil {
		return nil, 0, 0, err
	}
	for i := range c.people {
		c.sort(&c.people[i])
	}
	anybody := func(*person) bool { return true }
	to = own.End + gap
	for next := own.End; next < to; { // what goes on is not over
		p, err := timeline(ctx, next)
		if err != nil {
			return nil, 0, 0, err
		}
		if err := c.add(p, to, anybody); err != nil {
			return nil, 0, 0, err
		}
		next = p.End
	}
	for i := range c.people {
		p := &c.people[i]
		c.sort(p)
		p.chain = p.events[0].time
	}
	for from = own.Start; from > 0; {
		// What is earlier could be part of a session of these.
		open := func(p *person) bool { return p.chain < from+gap }
		if !slices.ContainsFunc(c.people, func(p person) bool { return open(&p) }) {
			break
		}
		p, err := timeline(ctx, from-1)
		if err != nil {
			return nil, 0, 0, err
		}
		if err := c.add(p, p.End, open); err != nil {
			return nil, 0, 0, err
		}
		for i := range c.people {
			if p := &c.people[i]; open(p) {
				c.extend(p, gap)
			}
		}
		from = p.Start
	}
	for i := range c.people {
		all = c.cut(all, i, own.Start, own.End, gap)
	}
	slices.SortFunc(all, func(a, b schemas.Session) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.VisitorID, b.VisitorID), cmp.Compare(a.StartTime.V, b.StartTime.V))
	})
	return all, from, to, nil
}

// who is a user or a visitor.
type who struct {
	id      string
	visitor bool
}

// person is the events of somebody.
type person struct {
	who
	events []event
	sorted int   // how many of the events, from the first, are in order
	chain  int64 // time of the earliest event from which on there is no pause until the first one in the partition
}

// event is an event; its numbers are places in the dictionaries of its digest.
type event struct {
	time          int64
	digest        uint32
	kind, surface uint32
	items, end    uint32 // places in collector.items
}

// collector gathers events by person.
type collector struct {
	by      By
	digests []*digest.Digest
	ids     map[who]int
	people  []person
	items   []uint32
}

// add takes the events of a partition before a time: of everybody if of is nil, or else of those who are known and for whom it is true.
func (c *collector) add(p Partition, before int64, of func(*person) bool) error {
	for _, d := range p.Digests {
		number := uint32(len(c.digests))
		c.digests = append(c.digests, d)
		users, visitors := make([]int, len(d.Users())), make([]int, len(d.Visitors())) // places in people, from 1
		err := d.Each(func(e *digest.Event) error {
			if e.Time >= before {
				return nil
			}
			places, place, w := &users, e.User, who{visitor: false}
			if e.User == 0 || c.by == ByVisitor && e.Visitor != 0 {
				places, place, w.visitor = &visitors, e.Visitor, true
			}
			n := (*places)[place]
			if n == 0 {
				if w.id = d.Users()[e.User]; w.visitor {
					w.id = d.Visitors()[e.Visitor]
				}
				n = c.place(w, of)
				(*places)[place] = n
			}
			if n == nobody {
				return nil
			}
			first := uint32(len(c.items))
			c.items = append(c.items, e.Items...)
			who := &c.people[n-1]
			who.events = append(who.events, event{time: e.Time, digest: number, kind: e.Type, surface: e.Surface, items: first, end: uint32(len(c.items))})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// nobody is the place of those whose events are not asked for.
const nobody = -1

// place returns where somebody is in people, from 1.
func (c *collector) place(w who, of func(*person) bool) int {
	n, ok := c.ids[w]
	switch {
	case ok && (of == nil || of(&c.people[n-1])):
		return n
	case of != nil:
		return nobody
	}
	c.people = append(c.people, person{who: w})
	c.ids[w] = len(c.people)
	return len(c.people)
}

// sort puts the events of somebody in order. Those that came last are all before the others, or all after them.
func (c *collector) sort(p *person) {
	last := p.events[p.sorted:]
	if len(last) == 0 {
		return
	}
	if !slices.IsSortedFunc(last, c.compare) {
		slices.SortFunc(last, c.compare)
	}
	if p.sorted > 0 && last[0].time < p.events[0].time {
		p.events = slices.Concat(last, p.events[:p.sorted])
	}
	p.sorted = len(p.events)
}

// compare orders events by time, and those of one time by what they are, so that their order is always the same.
func (c *collector) compare(a, b event) int {
	if a.time != b.time {
		return cmp.Compare(a.time, b.time)
	}
	x, y := c.digests[a.digest], c.digests[b.digest]
	if n := strings.Compare(x.Types()[a.kind], y.Types()[b.kind]); n != 0 {
		return n
	}
	n := slices.CompareFunc(c.items[a.items:a.end], c.items[b.items:b.end], func(i, k uint32) int { return strings.Compare(x.Items()[i], y.Items()[k]) })
	return cmp.Or(n, strings.Compare(x.Surfaces()[a.surface], y.Surfaces()[b.surface]))
}

// extend follows the chain of somebody back.
func (c *collector) extend(p *person, gap int64) {
	c.sort(p)
	n, _ := slices.BinarySearchFunc(p.events, p.chain, func(e event, at int64) int { return cmp.Compare(e.time, at) })
	for n--; n >= 0 && p.chain-p.events[n].time < gap; n-- {
		p.chain = p.events[n].time
	}
}

// cut makes sessions of the events of somebody, and keeps those that ended in [start, end).
func (c *collector) cut(all []schemas.Session, i int, start, end, gap int64) []schemas.Session {
	p := &c.people[i]
	for first := 0; first < len(p.events); {
		last := first + 1
		for last < len(p.events) && p.events[last].time-p.events[last-1].time < gap {
			last++
		}
		if at := p.events[last-1].time; at >= start && at < end {
			all = append(all, c.session(p, p.events[first:last]))
		}
		first = last
	}
	return all
}

// session describes some events of somebody.
func (c *collector) session(p *person, events []event) schemas.Session {
	first, last := events[0], events[len(events)-1]
	s := schemas.Session{
		SessionKey: key(p.who, first.time), StartTime: schemas.Some(first.time), EndTime: schemas.Some(last.time),
		Duration: schemas.Some(float64(last.time-first.time) / 1e6), Events: schemas.Some(int64(len(events))),
		EntrySurface: c.digests[first.digest].Surfaces()[first.surface], Converted: schemas.Some(false),
	}
	if p.visitor {
		s.VisitorID = p.id
	} else {
		s.UserID = p.id
	}
	for _, e := range events {
		d := c.digests[e.digest]
		schemas.AddNumber(&s.EventsByType, d.Types()[e.kind], 1)
		if d.Types()[e.kind] == "purchase" {
			s.Converted.V = true
		}
		for _, item := range c.items[e.items:e.end] {
			id := d.Items()[item]
			if n := len(s.Items); n < MaxItems && (n == 0 || s.Items[n-1] != id) {
				s.Items = append(s.Items, id)
			}
		}
	}
	slices.SortFunc(s.EventsByType, func(a, b schemas.Number) int { return strings.Compare(a.Key, b.Key) })
	return s
}

// key identifies a session.
func key(w who, start int64) string {
	kind := "user"
	if w.visitor {
		kind = "visitor"
	}
	h := xxh3.HashString128(kind + "/" + w.id + "/" + strconv.FormatInt(start, 10)).Bytes()
	return hex.EncodeToString(h[:])
}
