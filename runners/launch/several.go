package launch

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// RunAll runs ticks, in their order and parallel of them at a time, and returns what became of each. An error of one is in its report. Where the
// launch is ordered, one that has not succeeded is the last.
func (l *Launcher) RunAll(ctx context.Context, ticks []time.Time, parallel int, o Options) []Report {
	reports := make([]Report, len(ticks))
	slots := make(chan struct{}, max(1, parallel))
	var running sync.WaitGroup
	var mu sync.Mutex
	over := false
	for i, tick := range ticks {
		reports[i] = Report{Tick: tick.UTC(), Outcome: NotBegun}
		select {
		case slots <- struct{}{}:
		case <-l.Stop:
			continue
		}
		mu.Lock()
		skip := over || ctx.Err() != nil || l.stopped()
		mu.Unlock()
		if skip {
			<-slots
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			r, err := l.Run(ctx, tick, o)
			if err != nil {
				if r.Outcome == NotBegun || r.Outcome == Unknown {
					r.Outcome, r.ExitCode = Failed, 1
				}
				r.Error = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			reports[i] = r
			// Where somebody else runs it, it is not known yet how that ends.
			over = over || l.File.Ordered() && r.Outcome != Succeeded
		})
		if l.File.Ordered() {
			running.Wait()
		}
	}
	running.Wait()
	return reports
}

func (l *Launcher) stopped() bool {
	select {
	case <-l.Stop:
		return true
	default:
		return false
	}
}

// Due returns the ticks that are to be run at a time: the latest one and, of those missed since the last success, the last ones, as many as the
// file has for catch_up. More is how many older ones are left out. Where there was no success yet, none was missed.
func (l *Launcher) Due(ctx context.Context, now time.Time) (ticks []time.Time, more int, err error) {
	s := l.File.Schedule
	if s == nil {
		return nil, 0, fmt.Errorf("%w: %s has no schedule", ErrNoTick, l.File.Path)
	}
	latest := s.Latest(now)
	if latest.IsZero() {
		return nil, 0, fmt.Errorf("%w: %q has had none until now", ErrNoTick, s.Expression())
	}
	previous, err := l.Record().Previous(ctx, now.Add(time.Nanosecond))
	if err != nil {
		return nil, 0, err
	}
	if previous.IsZero() {
		return []time.Time{latest}, 0, nil
	}
	ticks, more = s.Between(previous, now, l.File.CatchUp+1)
	return ticks, more, nil
}

// Follow runs each tick of the schedule when it comes, until Stop is closed, and returns when what runs has ended. Ticks that pass while
// another runs are run after it, as many as catch_up has besides the latest one. Those that were missed before it began are said, and run
// where catchUp is set.
func (l *Launcher) Follow(ctx context.Context, catchUp bool) {
	now := l.clock().Now()
	log := l.Log.With("launch", l.File.Name)
	cursor := now
	previous, err := l.Record().Previous(ctx, now.Add(time.Nanosecond))
	switch {
	case err != nil:
		log.Warn("what was missed is not known", "error", err)
	case !previous.IsZero():
		missed, more := l.File.Schedule.Between(previous, now, max(1, l.File.CatchUp))
		if len(missed) > 0 {
			said := "ticks were missed"
			if !catchUp {
				said += ", and stay so; --catch_up runs them, as many as catch_up in the launch file says"
			}
			log.Warn(said, "number", len(missed)+more, "since", previous, "last", missed[len(missed)-1])
		}
		if catchUp {
			cursor = previous
		}
	}
	for {
		next := l.File.Schedule.Next(cursor)
		if next.IsZero() {
			log.Warn("the schedule has no tick any more")
			return
		}
		if !l.reach(ctx, next) {
			return
		}
		due, more := l.File.Schedule.Between(cursor, l.clock().Now(), 1+l.File.CatchUp)
		if more > 0 {
			log.Warn("ticks are left out: they have passed while others ran, or before", "number", more, "until", due[0])
		}
		for _, tick := range due {
			cursor = tick
			// Who waits takes over where another, on another machine, dies.
			r, err := l.Run(ctx, tick, Options{Wait: true})
			switch {
			case err != nil:
				log.Error("launch has failed", "tick", tick, "error", err)
			case r.Already:
				log.Info("it was run before", "tick", tick, "outcome", r.Outcome, "owner", r.Owner.String())
			}
			if ctx.Err() != nil || l.stopped() {
				return
			}
		}
	}
}

// reach waits until the clock shows a time; false: it is to end. It looks again and again, since clocks are set, and machines sleep.
func (l *Launcher) reach(ctx context.Context, t time.Time) bool {
	for {
		left := t.Sub(l.clock().Now())
		if left <= 0 {
			return ctx.Err() == nil && !l.stopped()
		}
		if l.sleep(ctx, min(left, 10*time.Second)) != nil {
			return false
		}
	}
}
