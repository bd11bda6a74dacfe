package windows

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/parallel"
)

// settlePartition has all units settled that a partition touches, and marks it.
func (e *engine) settlePartition(ctx context.Context, start int64, count tally) error {
	v := e.in.view()
	p, err := v.partition(ctx, start)
	if err != nil {
		return err
	}
	if _, all := e.marked(p); all && !e.force {
		return nil
	}
	units, err := e.touched(ctx, v, p, p.files)
	if err != nil {
		return fmt.Errorf("windows of %s: %w", p.folder, err)
	}
	// Neighbours have windows in common: what one of them is at, the other leaves for later, instead of waiting for it.
	var busy []Unit
	for _, u := range slices.SortedFunc(maps.Keys(units), Unit.compare) {
		lock := e.lock(u)
		if !lock.TryLock() {
			busy = append(busy, u)
			continue
		}
		err := e.ensureLocked(ctx, u, settled, count)
		lock.Unlock()
		if err != nil {
			return err
		}
	}
	for _, u := range busy {
		if err := e.ensure(ctx, u, settled, count); err != nil {
			return err
		}
	}
	return e.mark(ctx, p)
}

// stale calls each for the partitions whose windows may not be up to date: those that were marked, but not with all their files; and of
// those that were not, the ones of the latest time, and the ones with digests that nobody has marked.
func (e *engine) stale(ctx context.Context, each func(p *partition) error) error {
	span := e.options.due(Unit{Table: schemas.Interactions.Name}) + e.options.Grace.Microseconds() + (24 * time.Hour).Microseconds()
	var late []*partition // that were not marked, and may be of the latest time
	newest := int64(0)
	err := e.in.partitions(ctx, func(p *partition) error {
		newest = max(newest, p.end)
		ever, all := e.marked(p)
		switch {
		case all:
			return nil
		case ever, p.digested && len(p.marks) == 0:
			return each(p)
		}
		late = slices.DeleteFunc(append(late, p), func(p *partition) bool { return p.end < newest-span })
		return nil
	})
	for _, p := range late {
		if err == nil && p.end >= newest-span {
			err = each(p)
		}
	}
	return err
}

// Rebuild computes all windows again that the partitions of interactions overlapping [from, to) touch, and settles them. Progress, if
// set, is called when a partition is done. It returns how many partitions there were. Of o, URL, Layout and Bounded are not looked at.
func Rebuild(ctx context.Context, st *store.Store, o Options, from, to time.Time, progress func(folder string)) (partitions int, err error) {
	layout, err := lake.LayoutOf(ctx, st, schemas.Interactions.Name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, fmt.Errorf("there is no table %q in %q", schemas.Interactions.Name, st.URL())
	}
	if err != nil {
		return 0, err
	}
	o.Layout, o.Bounded = layout.String(), true
	e, err := newEngine(st, o)
	if err != nil {
		return 0, err
	}
	e.force = true
	pool := parallel.Start(runtime.GOMAXPROCS(0), func() (func(*partition) error, func() error) {
		return func(p *partition) error {
			if err := e.settlePartition(ctx, p.start, tally{}); err != nil {
				return err
			}
			if progress != nil {
				progress(p.folder)
			}
			return nil
		}, nil
	})
	err = e.in.partitions(ctx, func(p *partition) error {
		if p.end <= from.UnixMicro() || p.start >= to.UnixMicro() {
			return nil
		}
		partitions++
		return pool.Submit(ctx, p)
	})
	return partitions, errors.Join(err, pool.Wait())
}
