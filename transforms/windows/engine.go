package windows

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"backbone/schemas"
	"backbone/transforms/dedup"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/sessions"
	"backbone/transforms/trending"
)

// engine computes results of windows and commits them. Its methods are safe for many goroutines.
type engine struct {
	store   *store.Store
	options Options
	marks   string // what the names of its marks begin with
	in      *inputs
	items   *categories
	updates *publisher // nil: nobody wants any
	force   bool       // a result is replaced by one of the same revision

	locks sync.Map // Unit -> *sync.Mutex
	made  *dedup.Cache[*madeSessions]

	// done is what is settled in an input that has ended, so that it is not looked at again for each partition that touches it.
	done sync.Map // Unit -> bool
}

// newEngine returns the engine of a lake.
func newEngine(st *store.Store, o Options) (*engine, error) {
	layout, err := lake.ParseLayout(o.Layout)
	if err != nil {
		return nil, err
	}
	return &engine{
		store: st, options: o, marks: markPrefix + o.fingerprint() + "-", in: newInputs(st, layout.Window, o.Bounded), items: newCategories(st),
		made: dedup.NewCache[*madeSessions](sessionMemory),
	}, nil
}

// The reasons to compute a window.
type reason int

const (
	early   reason = iota // it is not over
	over                  // it is over: on time, or later
	settled               // what is late has had its time
)

// tally counts the results that were committed, by their pane.
type tally map[string]int64

// ensure has the newest result of a unit made of all files that there are, if it is not yet so, for a reason, and counts it.
func (e *engine) ensure(ctx context.Context, u Unit, why reason, count tally) error {
	if u.Table == schemas.Interactions.Name {
		return e.settlePartition(ctx, u.Start, count)
	}
	lock := e.lock(u)
	lock.Lock()
	defer lock.Unlock()
	return e.ensureLocked(ctx, u, why, count)
}

// lock returns the lock of a unit in this process. Who holds one takes only those of units before it.
func (e *engine) lock(u Unit) *sync.Mutex {
	lock, _ := e.locks.LoadOrStore(u, &sync.Mutex{})
	return lock.(*sync.Mutex)
}

func (e *engine) ensureLocked(ctx context.Context, u Unit, why reason, count tally) error {
	if _, ok := e.done.Load(u); ok {
		return nil
	}
	for {
		again, err := e.ensureOnce(ctx, u, why, count)
		if err != nil {
			return fmt.Errorf("compute %v: %w", u, err)
		}
		if !again {
			break
		}
	}
	if e.options.Bounded && why == settled {
		e.done.Store(u, true)
	}
	return nil
}

// ensureOnce computes a unit. again says that files have come while it was settled.
func (e *engine) ensureOnce(ctx context.Context, u Unit, why reason, count tally) (again bool, err error) {
	have, err := e.find(ctx, u, !e.options.Bounded)
	if err != nil {
		return false, err
	}
	v := e.in.view()
	if err := v.list(ctx, u.Start, u.End); err != nil {
		return false, err
	}
	if have != nil {
		n, err := v.count(ctx, have.from, have.to)
		if err != nil {
			return false, err
		}
		upToDate := n == have.files() && !e.force
		switch {
		case have.settled && why == early, have.over() && why == early: // what is late has its own notice
			return false, nil
		case have.settled:
			why = settled
			if upToDate {
				return false, e.removeLive(ctx, u)
			}
		case upToDate && why != settled && (have.over() || why == early):
			return false, nil
		}
	}
	timing := schemas.PaneEarly
	switch {
	case why == settled:
		timing = schemas.PaneSettled
	case why == over && have != nil && have.over():
		timing = schemas.PaneLate
	case why == over:
		timing = schemas.PaneOnTime
	}
	r, err := e.compute(ctx, v, u, have, timing)
	if err != nil {
		return false, err
	}
	if r.rows == 0 && have == nil {
		return false, nil // there is nothing to say, and nobody has said anything else
	}
	count[timing]++
	if why != settled {
		return false, e.commitLive(ctx, u, r)
	}
	if u.Table == schemas.Sessions.Name {
		if err := e.settleBefore(ctx, v, u, r, count); err != nil {
			return false, err
		}
	}
	if err := e.settle(ctx, u, r); err != nil {
		return false, err
	}
	if e.options.Bounded {
		return false, nil
	}
	// Whoever settled a newer result meanwhile may have lost it to this one.
	n, err := e.in.view().count(ctx, r.from, r.to)
	return n != r.files(), err
}

// settleBefore has the sessions settled again of the partitions that a result looked back at, where they were and more has come: a session
// which has moved on from one of them must be gone there before it is in the result, or a reader would see it twice.
func (e *engine) settleBefore(ctx context.Context, v *view, u Unit, r *result, count tally) error {
	for at := r.from; at < u.Start; {
		p, err := v.partition(ctx, at)
		if err != nil {
			return err
		}
		if err := e.settleAgain(ctx, Unit{schemas.Sessions.Name, p.start, p.end}, count); err != nil {
			return err
		}
		at = p.end
	}
	return nil
}

// settleAgain settles a unit if it is settled, and waits if it is just being: that may be of fewer files.
func (e *engine) settleAgain(ctx context.Context, u Unit, count tally) error {
	lock := e.lock(u)
	lock.Lock()
	defer lock.Unlock()
	have, err := e.find(ctx, u, false)
	if err != nil || have == nil {
		return err
	}
	return e.ensureLocked(ctx, u, settled, count)
}

// compute makes the result of a unit of the files that v has seen.
func (e *engine) compute(ctx context.Context, v *view, u Unit, have *result, timing string) (*result, error) {
	o := &e.options
	r := &result{from: u.Start, to: u.End}
	var all []schemas.Session
	var parts []*trending.Sums
	counts := trending.Options{Weights: o.Weights, HalfLife: o.HalfLife, Top: o.Top}
	switch u.Table {
	case schemas.Sessions.Name, schemas.CoOccurrences.Name:
		var err error
		if all, err = e.sessions(ctx, v, u, r); err != nil {
			return nil, err
		}
	case schemas.Trending.Name, schemas.Funnels.Name:
		var err error
		if parts, err = v.sums(ctx, u.Start, u.End, counts); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("table %q is none of windows", u.Table)
	}
	if have != nil { // the span never shrinks, so that revisions grow
		r.from, r.to = min(r.from, have.from), max(r.to, have.to)
	}
	n, err := v.count(ctx, r.from, r.to)
	if err != nil {
		return nil, err
	}
	r.revision = 2 * n
	if timing != schemas.PaneEarly {
		r.revision++
	}
	pane := schemas.Pane{WindowStart: schemas.Some(u.Start), WindowEnd: schemas.Some(u.End), Revision: schemas.Some(r.revision), Timing: timing}
	switch u.Table {
	case schemas.Sessions.Name:
		return r, encode(schemas.Sessions, slices.Clone(all), func(s *schemas.Session) *schemas.Pane { return &s.Pane }, pane, r)
	case schemas.CoOccurrences.Name:
		pairs := sessions.NewPairs()
		for i := range all {
			if end := all[i].EndTime.V; end >= u.Start && end < u.End {
				pairs.Add(all[i].Items)
			}
		}
		return r, encode(schemas.CoOccurrences, pairs.Top(o.TopPairs), func(c *schemas.CoOccurrence) *schemas.Pane { return &c.Pane }, pane, r)
	case schemas.Funnels.Name:
		return r, encode(schemas.Funnels, trending.Funnels(parts), func(f *schemas.Funnel) *schemas.Pane { return &f.Pane }, pane, r)
	}
	if counts.Categories, err = e.items.at(ctx, u.End); err != nil {
		return nil, err
	}
	trends := trending.Trending(parts, u.End, counts)
	if e.updates != nil && (have == nil || have.revision < r.revision) {
		// Before the commit: after it nobody would know that nobody was told.
		if err := e.updates.publish(ctx, u, pane, trends); err != nil {
			return nil, err
		}
	}
	return r, encode(schemas.Trending, trends, func(t *schemas.Trend) *schemas.Pane { return &t.Pane }, pane, r)
}

// madeSessions are the sessions of a partition, as they were made of so many files.
type madeSessions struct {
	mu       sync.Mutex
	all      []schemas.Session
	from, to int64
	files    int64 // 0: none were made
}

// sessionMemory is what sessions may take that are remembered for who needs them next, in bytes.
const sessionMemory = 32 << 20

// sessions returns the sessions that ended in the partitions of a unit, and widens the span of r to what they were made of.
func (e *engine) sessions(ctx context.Context, v *view, u Unit, r *result) (all []schemas.Session, err error) {
	for at := u.Start; at < u.End; {
		p, err := v.partition(ctx, at)
		if err != nil {
			return nil, err
		}
		part, err := e.sessionsOf(ctx, v, p, r)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = part
		} else {
			all = append(slices.Clip(all), part...)
		}
		at = p.end
	}
	return all, nil
}

func (e *engine) sessionsOf(ctx context.Context, v *view, p *partition, r *result) ([]schemas.Session, error) {
	m, release := e.made.Get(p.folder, func() *madeSessions { return &madeSessions{} })
	m.mu.Lock()
	size := int64(0)
	defer func() {
		m.mu.Unlock()
		release(size)
	}()
	fresh := m.files > 0
	if fresh {
		n, err := v.count(ctx, m.from, m.to)
		if err != nil {
			return nil, err
		}
		fresh = n == m.files
	}
	if !fresh {
		all, from, to, err := sessions.Of(ctx, p.start, sessions.Options{Gap: e.options.SessionGap, By: e.options.SessionBy}, v.timeline)
		if err != nil {
			return nil, err
		}
		n, err := v.count(ctx, from, to)
		if err != nil {
			return nil, err
		}
		m.all, m.from, m.to, m.files = all, from, to, n
	}
	for i := range m.all {
		size += int64(300 + 32*len(m.all[i].EventsByType) + 16*len(m.all[i].Items))
	}
	r.from, r.to = min(r.from, m.from), max(r.to, m.to)
	return m.all, nil
}
