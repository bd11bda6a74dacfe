// Package run holds what the parts of one launch share inside one process: the signal to drain, counters,
// and resources that outlive a bundle, such as a connection or a cache.
//
// A DoFn is serialised, so it cannot hold a pointer to any of these. It holds the run's id and asks here.
// On the direct runner the launcher and all DoFns are in one process; on Flink and Dataflow each worker process
// has a Run of its own, made at first use. Nothing here has to survive: the lake does.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Run is what one launch shares inside this process.
type Run struct {
	ID string

	drain     chan struct{}
	drainOnce sync.Once

	mu       sync.Mutex
	opened   []io.Closer // in the order of opening
	values   map[string]*value
	counters map[string]*Counter
}

type value struct {
	once sync.Once
	v    any
	err  error
}

// runs finds a Run by its id, since that is all a DoFn can carry.
var runs sync.Map // string -> *Run

// Of returns the run with that id, and makes it where there is none yet.
func Of(id string) *Run {
	if r, ok := runs.Load(id); ok {
		return r.(*Run)
	}
	r, _ := runs.LoadOrStore(id, &Run{ID: id, drain: make(chan struct{}), values: map[string]*value{}, counters: map[string]*Counter{}})
	return r.(*Run)
}

// Drain asks the sources to stop reading: what was read is committed and acknowledged, then the job ends.
func (r *Run) Drain() { r.drainOnce.Do(func() { close(r.drain) }) }

// Draining is closed once Drain was called.
func (r *Run) Draining() <-chan struct{} { return r.drain }

// IsDraining reports whether Drain was called.
func (r *Run) IsDraining() bool {
	select {
	case <-r.drain:
		return true
	default:
		return false
	}
}

// Close closes what was opened, the newest first, and forgets the run.
func (r *Run) Close() error {
	runs.Delete(r.ID)
	r.mu.Lock()
	opened := r.opened
	r.opened = nil
	r.mu.Unlock()
	var errs []error
	for i := len(opened) - 1; i >= 0; i-- {
		errs = append(errs, opened[i].Close())
	}
	return errors.Join(errs...)
}

// Shared returns the one value of that key, opened at first use. A value that is an io.Closer is closed with
// the run. A failed opening is tried again by the next call.
func Shared[T any](r *Run, key string, open func() (T, error)) (T, error) {
	r.mu.Lock()
	v := r.values[key]
	if v == nil {
		v = &value{}
		r.values[key] = v
	}
	r.mu.Unlock()
	v.once.Do(func() {
		t, err := open()
		v.v, v.err = t, err
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			delete(r.values, key)
		} else if c, ok := v.v.(io.Closer); ok {
			r.opened = append(r.opened, c)
		}
	})
	t, ok := v.v.(T)
	if v.err == nil && !ok {
		return t, fmt.Errorf("run %q: %q is a %T", r.ID, key, v.v)
	}
	return t, v.err
}

// Counter counts for Beam's metrics, which every runner shows, and for this process, where a terminal's
// progress and the summary read it while the job runs.
type Counter struct {
	n    atomic.Int64
	beam beam.Counter
}

// Counter returns the counter of that name, such as "lake/committed".
func (r *Run) Counter(namespace, name string) *Counter {
	key := namespace + "/" + name
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counters[key]
	if c == nil {
		c = &Counter{beam: beam.NewCounter(namespace, name)}
		r.counters[key] = c
	}
	return c
}

// Add counts n. The context is that of a DoFn's method, called from its own goroutine.
func (c *Counter) Add(ctx context.Context, n int64) {
	if n != 0 {
		c.n.Add(n)
		c.beam.Inc(ctx, n)
	}
}

// Distribution tells how a value is spread, such as how long something takes. Beam's metrics have its number, sum, least and greatest value; its
// number and sum are counters besides, since not all that shows counters shows distributions.
type Distribution struct {
	beam       beam.Distribution
	count, sum *Counter
}

// Distribution returns the distribution of that name, such as "lake/commit_milliseconds". Its counters are called "lake/commit_milliseconds_count"
// and "lake/commit_milliseconds_sum".
func (r *Run) Distribution(namespace, name string) *Distribution {
	return &Distribution{beam.NewDistribution(namespace, name), r.Counter(namespace, name+"_count"), r.Counter(namespace, name+"_sum")}
}

// Update adds a value. The context is that of a DoFn's method, called from its own goroutine.
func (d *Distribution) Update(ctx context.Context, value int64) {
	d.beam.Update(ctx, value)
	d.count.Add(ctx, 1)
	d.sum.Add(ctx, value)
}

// Value returns what this process has counted.
func (c *Counter) Value() int64 { return c.n.Load() }

// Counts returns all counters of this process by "namespace/name".
func (r *Run) Counts() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]int64, len(r.counters))
	for k, c := range r.counters {
		out[k] = c.Value()
	}
	return out
}
