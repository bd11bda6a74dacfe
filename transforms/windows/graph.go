package windows

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/schemas"
	"backbone/transforms/lake"
	"backbone/transforms/parallel"
	"backbone/transforms/run"
)

func init() {
	register.DoFn3x1[context.Context, []byte, func(beam.EventTime, string, bool), error](&touchedFn{})
	register.DoFn3x1[context.Context, []byte, func(beam.EventTime, string, bool), error](&staleFn{})
	register.DoFn4x1[beam.EventTime, string, bool, func(beam.EventTime, string, bool), error](&selectFn{})
	register.DoFn4x1[context.Context, string, func(*bool) bool, func(string), error](&ensureFn{})
	register.Function2x1(partitionOf)
	register.Function1x0(discard)
	register.Emitter3[beam.EventTime, string, bool]()
	register.Emitter2[string, bool]()
	register.Emitter1[string]()
	register.Iter1[bool]()
}

// Compute computes the windows that commits of interactions touch.
//
//	receipts  PCollection<[]byte>: what lake.Write returns
func Compute(s beam.Scope, receipts beam.PCollection, o Options) {
	s = s.Scope("windows.Compute")
	if o.Bounded {
		// When the input has ended, all rows are committed, and each partition is looked at once.
		partitions := beam.ParDo(s, partitionOf, receipts)
		finish(s, ensure(s, partitions, o, settled))
		return
	}
	touched := beam.ParDo(s, &touchedFn{Options: o}, receipts)
	stale := beam.ParDo(s, &staleFn{Options: o}, beam.Impulse(s)) // by the run before, which may have been killed
	results(s, beam.Flatten(s, touched, stale), o)
}

// results computes the windows that there are notices of.
func results(s beam.Scope, notices beam.PCollection, o Options) {
	finish(s,
		ensure(s, everySoOften(s, choose(s, notices, o, early), o.Early), o, early),
		ensure(s, lake.WhenDue(s, choose(s, notices, o, over)), o, over),
		ensure(s, lake.WhenDue(s, choose(s, notices, o, settled)), o, settled))
}

// finish takes what was computed: prism spins while a stage without a consumer runs.
func finish(s beam.Scope, computed ...beam.PCollection) {
	beam.ParDo0(s, discard, beam.Reshuffle(s, beam.Flatten(s, computed...)))
}

// choose takes the notices of the windows that are computed for a reason, with the time when that is as their event time.
func choose(s beam.Scope, notices beam.PCollection, o Options, why reason) beam.PCollection {
	return beam.ParDo(s, &selectFn{Why: why, GraceMicros: o.Grace.Microseconds()}, notices)
}

// everySoOften has a pane of each window when some time has passed since a notice.
func everySoOften(s beam.Scope, notices beam.PCollection, every time.Duration) beam.PCollection {
	return beam.WindowInto(s, window.NewGlobalWindows(), notices,
		beam.Trigger(trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(every))), beam.PanesDiscard())
}

// ensure has a result computed for each pane of a window, and returns what all of them are in: the global window.
func ensure(s beam.Scope, notices beam.PCollection, o Options, why reason) beam.PCollection {
	computed := beam.ParDo(s, &ensureFn{Options: o, Why: why}, beam.GroupByKey(s, notices))
	return beam.WindowInto(s, window.NewGlobalWindows(), computed)
}

// open returns the one engine of a computation in this process.
func open(ctx context.Context, o Options) (*engine, error) {
	r := run.Of(o.RunID)
	return run.Shared(r, "windows/engine/"+o.URL, func() (*engine, error) {
		st, err := lake.OpenStore(ctx, r, o.URL)
		if err != nil {
			return nil, err
		}
		e, err := newEngine(st, o)
		if err != nil || o.Topic == "" {
			return e, err
		}
		e.updates, err = run.Shared(r, "windows/publisher/"+o.Topic, func() (*publisher, error) { return openPublisher(ctx, o.Topic) })
		return e, err
	})
}

// touchedFn says which units the files of a receipt touch.
type touchedFn struct {
	Options Options

	engine *engine
}

func (fn *touchedFn) Setup(ctx context.Context) (err error) {
	fn.engine, err = open(ctx, fn.Options)
	return err
}

func (fn *touchedFn) ProcessElement(ctx context.Context, receipt []byte, emit func(beam.EventTime, string, bool)) error {
	r, err := parseReceipt(receipt)
	if err != nil || r.Slot.Table != schemas.Interactions.Name || len(r.Files) == 0 && !r.Others {
		return err
	}
	v := fn.engine.in.view()
	p, err := v.partition(ctx, r.Start)
	if err != nil {
		return err
	}
	files := make([]string, len(r.Files))
	for i, name := range r.Files {
		files[i] = r.Folder + "/" + name
	}
	if _, all := fn.engine.marked(p); r.Others && !all {
		files = p.files // whoever committed them may have been killed before it could give notice
	}
	if len(files) == 0 {
		return nil
	}
	return fn.engine.notify(ctx, v, p, files, emit)
}

func parseReceipt(body []byte) (r lake.Receipt, err error) {
	if err := json.Unmarshal(body, &r); err != nil {
		return r, fmt.Errorf("receipt: %w", err)
	}
	return r, nil
}

// notify gives notice of the units that files of a partition touch, and of the partition itself. A notice is a unit, by its key, and if it is
// worth being computed early; its event time is when the unit is due.
func (e *engine) notify(ctx context.Context, v *view, p *partition, files []string, emit func(beam.EventTime, string, bool)) error {
	units, err := e.touched(ctx, v, p, files)
	if err != nil {
		return fmt.Errorf("windows of %s: %w", p.folder, err)
	}
	units[Unit{schemas.Interactions.Name, p.start, p.end}] = false
	for u, early := range units {
		emit(mtime.FromTime(time.UnixMicro(e.options.due(u))), u.Key(), early)
	}
	return nil
}

// staleFn says which units may not be up to date when a stream begins.
type staleFn struct {
	Options Options

	engine *engine
}

func (fn *staleFn) Setup(ctx context.Context) (err error) {
	fn.engine, err = open(ctx, fn.Options)
	return err
}

func (fn *staleFn) ProcessElement(ctx context.Context, _ []byte, emit func(beam.EventTime, string, bool)) error {
	return fn.engine.stale(ctx, func(p *partition) error {
		return fn.engine.notify(ctx, fn.engine.in.view(), p, p.files, emit)
	})
}

// selectFn selects notices by the reason to compute a window.
type selectFn struct {
	Why         reason
	GraceMicros int64
}

func (fn *selectFn) ProcessElement(due beam.EventTime, key string, worth bool, emit func(beam.EventTime, string, bool)) error {
	u, err := ParseUnit(key)
	if err != nil {
		return err
	}
	partition := u.Table == schemas.Interactions.Name
	switch {
	case fn.Why == early && !worth, fn.Why == over && partition:
		return nil
	case fn.Why == settled:
		due = due.Add(time.Duration(fn.GraceMicros) * time.Microsecond)
	}
	if partition {
		due = due.Add(time.Minute) // by then its windows are settled, and there is only to be seen that they are
	}
	// The last instant before it is due: when the watermark is at the end of that minute, it is.
	emit(due.Subtract(time.Millisecond), key, worth)
	return nil
}

// ensureFn computes units, several at a time.
type ensureFn struct {
	Options Options
	Why     reason

	engine *engine
	signal *lake.Signal
	panes  map[string]*run.Counter
	pool   *parallel.Pool[Unit]
	mu     sync.Mutex
	done   tally
}

func (fn *ensureFn) Setup(ctx context.Context) (err error) {
	r := run.Of(fn.Options.RunID)
	fn.panes = map[string]*run.Counter{}
	for _, pane := range []string{schemas.PaneEarly, schemas.PaneOnTime, schemas.PaneLate, schemas.PaneSettled} {
		fn.panes[pane] = r.Counter("windows", pane)
	}
	if fn.signal, err = lake.SignalOf(ctx, r, fn.Options.URL, fn.Options.Remote); err != nil {
		return err
	}
	fn.engine, err = open(ctx, fn.Options)
	return err
}

func (fn *ensureFn) StartBundle(ctx context.Context, _ func(string)) {
	fn.done = tally{}
	// More than there are cores: some wait until their results are durable.
	fn.pool = parallel.Start(2*runtime.GOMAXPROCS(0), func() (func(Unit) error, func() error) {
		own := tally{}
		return func(u Unit) error { return fn.engine.ensure(ctx, u, fn.Why, own) }, func() error {
			fn.mu.Lock()
			defer fn.mu.Unlock()
			for pane, n := range own {
				fn.done[pane] += n
			}
			return nil
		}
	})
}

func (fn *ensureFn) ProcessElement(ctx context.Context, key string, _ func(*bool) bool, emit func(string)) error {
	if fn.Why != early {
		// Then the watermark says that all time has come, but the next start goes on.
		if draining, err := fn.signal.IsDraining(ctx); draining || err != nil {
			return err
		}
	}
	u, err := ParseUnit(key)
	if err != nil {
		return err
	}
	emit(key)
	return fn.pool.Submit(ctx, u)
}

// FinishBundle waits until the results of the bundle are committed.
func (fn *ensureFn) FinishBundle(ctx context.Context, _ func(string)) error {
	if err := fn.pool.Wait(); err != nil {
		return err
	}
	for pane, n := range fn.done {
		fn.panes[pane].Add(ctx, n)
	}
	return nil
}

// partitionOf gives the partition of a receipt as a unit.
func partitionOf(receipt []byte, emit func(string, bool)) error {
	r, err := parseReceipt(receipt)
	if err == nil && r.Slot.Table == schemas.Interactions.Name {
		emit(Unit{schemas.Interactions.Name, r.Start, r.End}.Key(), false)
	}
	return err
}

func discard(string) {}
