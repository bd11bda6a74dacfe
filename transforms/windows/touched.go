package windows

import (
	"context"
	"maps"
	"slices"

	"backbone/schemas"
	"backbone/transforms/lake/digest"
)

// touched returns the units, but for that of the partition itself, which files of a partition are part of; and of each, if it is worth
// being computed early. Of a window that slides, this is so in its last period: before that, another one is over sooner.
func (e *engine) touched(ctx context.Context, v *view, p *partition, files []string) (units map[Unit]bool, err error) {
	o := &e.options
	units = map[Unit]bool{}
	digests, err := e.in.loadAll(ctx, files)
	if err != nil {
		return nil, err
	}
	specs := o.specs()
	for _, at := range minutes(digests) {
		for _, s := range specs {
			s.of(at, func(start, end int64) {
				early := at >= end-s.Period.Microseconds()
				if u := (Unit{schemas.Trending.Name, start, end}); o.has(u.Table) {
					units[u] = units[u] || early
				}
				if u := (Unit{schemas.Funnels.Name, start, end}); o.has(u.Table) && s.fixed() {
					units[u] = units[u] || early
				}
			})
		}
	}
	if o.has(schemas.Sessions.Name) {
		partitions, err := e.withSessions(ctx, v, p, digests)
		if err != nil {
			return nil, err
		}
		for _, s := range partitions {
			units[Unit{schemas.Sessions.Name, s.start, s.end}] = false
			for _, spec := range specs {
				if !spec.fixed() || !o.has(schemas.CoOccurrences.Name) {
					continue
				}
				for at := s.start; at < s.end; {
					spec.of(at, func(start, end int64) {
						units[Unit{schemas.CoOccurrences.Name, start, end}] = false
						at = end
					})
				}
			}
		}
	}
	return units, nil
}

// minutes returns when digests have cells, in microseconds since 1970.
func minutes(digests []*digest.Digest) []int64 {
	seen := map[int64]bool{}
	for _, d := range digests {
		d.EachMinute(func(micros int64) { seen[micros] = true })
	}
	return slices.Sorted(maps.Keys(seen))
}

// withSessions returns the partitions in which sessions ended, or may have ended, that events of a partition are part of.
func (e *engine) withSessions(ctx context.Context, v *view, p *partition, digests []*digest.Digest) ([]*partition, error) {
	gap := e.options.SessionGap.Microseconds()
	first := p.end
	for _, d := range digests {
		if d.Len() > 0 {
			first = min(first, d.Earliest())
		}
	}
	if first == p.end {
		return nil, nil
	}
	all := []*partition{p}
	// A session that ended before now goes on.
	for at := p.start - 1; at > first-gap && at >= 0; {
		before, err := v.partition(ctx, at)
		if err != nil {
			return nil, err
		}
		if len(before.files) > 0 {
			all = append(all, before)
		}
		at = before.start - 1
	}
	// A session that ended after it has now begun earlier: those who made it have looked this far back.
	for at := p.end; ; {
		after, err := v.partition(ctx, at)
		if err != nil {
			return nil, err
		}
		have, err := e.find(ctx, Unit{schemas.Sessions.Name, after.start, after.end}, true)
		if err != nil {
			return nil, err
		}
		// Without a result, no session has ended in it, or one was removed to be replaced when a run was killed. If it is not yet
		// settled, its own notice is to come.
		done, _ := e.marked(after)
		if have == nil && !done && after.start-p.end >= gap || have != nil && have.from > p.start {
			return all, nil
		}
		if have != nil || done {
			all = append(all, after)
		}
		at = after.end
	}
}
