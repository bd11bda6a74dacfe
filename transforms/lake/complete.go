package lake

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/transforms/lake/store"
	"backbone/transforms/parallel"
	"backbone/transforms/run"
)

func init() {
	register.Function2x1(notice)
	register.DoFn4x1[context.Context, string, func(*int64) bool, func(beam.EventTime, string), error](&completeFn{})
	register.Function1x0(discard)
	register.Iter1[int64]()
	register.Emitter2[beam.EventTime, string]()
	register.Emitter3[beam.EventTime, string, int64]()
}

// neverTooLate is longer than any stream lives: Beam drops what is later than that, and nothing may be dropped.
const neverTooLate = 100 * 365 * 24 * time.Hour

// WhenDue puts notices into windows of a minute, so that what is grouped by its key after it has a pane when the watermark passes the minute of its
// event time, and one for each notice after that.
//
// There are no early panes: they would take the notices, and without any there would be no pane on time.
func WhenDue(s beam.Scope, notices beam.PCollection) beam.PCollection {
	return beam.WindowInto(s, window.NewFixedWindows(time.Minute), notices,
		beam.Trigger(trigger.AfterEndOfWindow().EarlyFiring(trigger.Never()).LateFiring(trigger.AfterCount(1))),
		beam.PanesDiscard(),
		beam.AllowedLateness(neverTooLate))
}

// MarkComplete writes an empty file _SUCCESS into each partition of the receipts once the watermark has passed the
// partition's end plus Options.Grace.
//
// A partition is never marked before that time has come on the clock, nor while the run is being drained: then the
// watermark says that the input has ended, but it goes on with the next start.
//
//	receipts  PCollection<[]byte>: what Write returns
func MarkComplete(s beam.Scope, receipts beam.PCollection, o Options) {
	s = s.Scope("lake.MarkComplete")
	notices := beam.ParDo(s, notice, receipts)

	// A notice has the time at which its partition may be marked as its event time. A partition that is due already is marked by
	// the late pane of its next notice.
	due := WhenDue(s, notices)
	if o.Bounded {
		// At the end of the input the watermark is beyond all lateness, and the notices come after it. All of them are
		// due, so they need no windows.
		due = beam.WindowInto(s, window.NewGlobalWindows(), notices, beam.Trigger(trigger.Default()))
	}
	marked := beam.ParDo(s, &completeFn{URL: o.URL, RunID: o.RunID, Remote: o.Remote}, beam.GroupByKey(s, due))
	beam.ParDo0(s, discard, beam.Reshuffle(s, marked)) // prism spins while a stage without a consumer runs
}

// notice tells for a receipt when its partition may be marked.
func notice(receipt []byte, emit func(beam.EventTime, string, int64)) error {
	var r Receipt
	if err := json.Unmarshal(receipt, &r); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	emit(mtime.FromTime(time.UnixMicro(r.Due)), r.Folder, r.Due)
	return nil
}

// completeFn marks partitions, several at a time.
type completeFn struct {
	URL    string
	RunID  string
	Remote bool

	signal   *Signal
	store    *store.Store
	complete *run.Counter
	pool     *parallel.Pool[string]
}

func (fn *completeFn) Setup(ctx context.Context) (err error) {
	r := run.Of(fn.RunID)
	fn.complete = r.Counter("lake", "complete")
	if fn.signal, err = SignalOf(ctx, r, fn.URL, fn.Remote); err != nil {
		return err
	}
	fn.store, err = OpenStore(ctx, r, fn.URL)
	return err
}

func (fn *completeFn) StartBundle(ctx context.Context, _ func(beam.EventTime, string)) {
	fn.pool = parallel.Start(2*runtime.GOMAXPROCS(0), func() (func(string) error, func() error) {
		return func(folder string) error { return fn.mark(ctx, folder) }, nil
	})
}

func (fn *completeFn) ProcessElement(ctx context.Context, folder string, at func(*int64) bool, emit func(beam.EventTime, string)) error {
	var due int64
	at(&due)
	if time.Now().UnixMicro() < due {
		return nil
	}
	if draining, err := fn.signal.IsDraining(ctx); draining || err != nil {
		return err
	}
	emit(mtime.FromTime(time.UnixMicro(due)), folder)
	fn.complete.Add(ctx, 1)
	return fn.pool.Submit(ctx, folder)
}

// FinishBundle waits until the partitions of the bundle are marked.
func (fn *completeFn) FinishBundle(context.Context, func(beam.EventTime, string)) error {
	return fn.pool.Wait()
}

func (fn *completeFn) mark(ctx context.Context, folder string) error {
	key := folder + "/" + successName
	exists, err := fn.store.Exists(ctx, key)
	if err != nil || exists {
		return err
	}
	_, err = fn.store.Commit(ctx, key, nil)
	return err
}

func discard(string) {}
