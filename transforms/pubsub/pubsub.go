// Package pubsub reads Google Pub/Sub, and acknowledges what the lake holds.
//
// # Guarantees
//
// A message is acknowledged after all rows that it became are durable, never before. Whatever is not acknowledged comes
// back: a crash at any moment costs work that is done again, and loses nothing.
//
// A run that drains stops pulling, hands on what it has received, and ends; its rows are committed and acknowledged.
//
// # Limits
//
// Messages that were received must be acknowledged within ten minutes, so the time that rows wait for their commit has
// to be well below that.
//
// The environment variable PUBSUB_EMULATOR_HOST names another server, such as that of `backbone pubsub`.
//
// # Metrics
//
//   - pubsub/acknowledged: messages acknowledged.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/transforms/lake"
	"backbone/transforms/run"
)

func init() {
	register.DoFn2x0[[]byte, func(int)](&lanesFn{})
	register.DoFn5x2[context.Context, *estimator, *sdf.LockRTracker, int, func([]byte), sdf.ProcessContinuation, error](&readFn{})
	register.Emitter1[int]()
	register.Emitter1[[]byte]()
	beam.RegisterType(reflect.TypeFor[estimator]())
	beam.RegisterType(reflect.TypeFor[Lane]())
	beam.RegisterType(reflect.TypeFor[laneTracker]())
}

// Options say what to read, and how.
type Options struct {
	// Subscription is projects/PROJECT/subscriptions/SUBSCRIPTION. Required.
	Subscription string
	// Lanes are restrictions that are read side by side, on different workers where there are some. Default: 1.
	Lanes int
	// Streams are the streaming pulls of one process. Default: one for each core.
	Streams int
	// MaxOutstanding bounds the messages that were received and not acknowledged. Default: 2,000,000.
	MaxOutstanding int64
	// MaxOutstandingBytes bounds their size in bytes. Default: 2 GiB. They wait on disk where there is a spill folder.
	MaxOutstandingBytes int64
	// Disorder is how much earlier than the latest event another may be that is not late. Default: 10 s.
	Disorder time.Duration
	// Idle is how long nothing has to come until the watermark follows the clock. Default: 30 s.
	Idle time.Duration
	// Hold is how long the watermark lags, so that rows are committed before it passes them. Default: 0.
	Hold time.Duration
	// Delay is how long a message waits, once it is received, until it is handed on. Default: 0.
	Delay time.Duration
	// RunID names the launch.
	RunID string
	// Lake is where the run is asked to drain, if the launcher is in another process; see lake.Signal. Default: it is in this one.
	Lake string
}

// WithDefaults returns o with what was not set.
func (o Options) WithDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Disorder, 10*time.Second)
	set(&o.Idle, 30*time.Second)
	if o.Lanes == 0 {
		o.Lanes = 1
	}
	if o.Streams == 0 {
		o.Streams = runtime.GOMAXPROCS(0)
	}
	if o.MaxOutstanding == 0 {
		o.MaxOutstanding = 2_000_000
	}
	if o.MaxOutstandingBytes == 0 {
		o.MaxOutstandingBytes = 2 << 30
	}
	return o
}

// Validate reports every mistake.
func (o Options) Validate() error {
	var errs []error
	if !subscriptionName.MatchString(o.Subscription) {
		errs = append(errs, fmt.Errorf("subscription is %q; it must be projects/PROJECT/subscriptions/SUBSCRIPTION", o.Subscription))
	}
	for name, n := range map[string]int64{"lanes": int64(o.Lanes), "streams": int64(o.Streams), "max outstanding": o.MaxOutstanding, "max outstanding bytes": o.MaxOutstandingBytes} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is %d; it must not be negative", name, n))
		}
	}
	return errors.Join(errs...)
}

var subscriptionName = regexp.MustCompile(`^projects/[^/]+/subscriptions/[^/]+$`)

// ParseURL returns the name of the subscription of pubsub://PROJECT/SUBSCRIPTION; ok is false for any other URL.
func ParseURL(url string) (subscription string, ok bool, err error) {
	rest, ok := strings.CutPrefix(url, "pubsub://")
	if !ok {
		return "", false, nil
	}
	project, name, found := strings.Cut(rest, "/")
	if !found || project == "" || name == "" || strings.Contains(name, "/") {
		return "", true, fmt.Errorf("%q is no subscription; want pubsub://PROJECT/SUBSCRIPTION", url)
	}
	return "projects/" + project + "/subscriptions/" + name, true, nil
}

var topicName = regexp.MustCompile(`^projects/([^/]+)/topics/[^/]+$`)

// ProjectOf returns the project of a topic by its full name, projects/PROJECT/topics/TOPIC; ok is false where that is none.
func ProjectOf(topic string) (project string, ok bool) {
	m := topicName.FindStringSubmatch(topic)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// Read reads a subscription until the run is drained.
//
// It returns a PCollection<[]byte> of blocks (see EachRecord). Their timestamp says nothing; the watermark follows what
// is told to WatermarkOf.
func Read(s beam.Scope, o Options) beam.PCollection {
	s = s.Scope("pubsub.Read")
	o = o.WithDefaults()
	lanes := beam.ParDo(s, &lanesFn{Lanes: o.Lanes}, beam.Impulse(s))
	return beam.ParDo(s, &readFn{Options: o}, lanes)
}

// lanesFn makes the lanes. Each is an element, since there are runners that spread elements over workers, and not what they are split into.
type lanesFn struct{ Lanes int }

func (fn *lanesFn) ProcessElement(_ []byte, emit func(int)) {
	for n := range fn.Lanes {
		emit(n)
	}
}

// readFn reads a lane.
type readFn struct {
	Options Options

	run       *run.Run
	watermark *Watermark
}

const (
	// selfCheckpoint is how long a bundle lasts: what it read goes on to the sink when it ends.
	selfCheckpoint = time.Second
	// turnAway is how long a lane rests whose turn it is not. Each time costs, on Flink also memory (see docs/flink.md).
	turnAway = 3 * time.Second
)

// Lane is a restriction. It has no positions, since a subscription has none: it is read until it is done.
type Lane struct {
	Number int
	Done   bool
}

func (fn *readFn) CreateInitialRestriction(n int) Lane { return Lane{Number: n} }

func (fn *readFn) SplitRestriction(_ int, l Lane) []Lane { return []Lane{l} }

func (fn *readFn) RestrictionSize(_ int, l Lane) float64 {
	if l.Done {
		return 0
	}
	return 1
}

func (fn *readFn) CreateTracker(l Lane) *sdf.LockRTracker {
	return sdf.NewLockRTracker(&laneTracker{Lane: l})
}

// TruncateRestriction says what is left to read when a runner drains the job: nothing.
func (fn *readFn) TruncateRestriction(_ *sdf.LockRTracker, _ int) Lane { return Lane{Done: true} }

func (fn *readFn) InitialWatermarkEstimatorState(_ beam.EventTime, _ Lane, _ int) int64 {
	return int64(mtime.MinTimestamp)
}

func (fn *readFn) CreateWatermarkEstimator(state int64) *estimator { return &estimator{State: state} }

func (fn *readFn) WatermarkEstimatorState(e *estimator) int64 { return e.State }

func (fn *readFn) Setup(ctx context.Context) error {
	fn.run = run.Of(fn.Options.RunID)
	fn.watermark = WatermarkOf(fn.run, fn.Options)
	_, err := lake.SignalOf(ctx, fn.run, fn.Options.Lake, fn.Options.Lake != "")
	return err
}

// ProcessElement hands on blocks for a second, then gives the lane back. The streams stay open.
//
// A runner may hand several lanes to one worker, and one after the other. One of them is enough to read all that its process can work on, so
// the others are given back at once.
func (fn *readFn) ProcessElement(ctx context.Context, e *estimator, rt *sdf.LockRTracker, _ int, emit func([]byte)) (sdf.ProcessContinuation, error) {
	p, err := pull(ctx, fn.run, fn.Options)
	if err != nil {
		return nil, err
	}
	lane := rt.GetRestriction().(Lane).Number
	if !p.turn.take(lane, time.Now()) {
		if !rt.TryClaim(next) {
			return sdf.StopProcessing(), nil
		}
		if p.ended() {
			return fn.finish(rt, p)
		}
		fn.report(e)
		return sdf.ResumeProcessingIn(turnAway), nil
	}
	end := time.NewTimer(selfCheckpoint)
	defer end.Stop()
	for {
		if !rt.TryClaim(next) {
			return sdf.StopProcessing(), nil
		}
		select {
		case block, ok := <-p.blocks:
			if !ok {
				return fn.finish(rt, p)
			}
			emit(block)
		case <-end.C:
			p.turn.take(lane, time.Now())
			fn.report(e)
			return sdf.ResumeProcessingIn(0), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// report tells the runner the watermark.
func (fn *readFn) report(e *estimator) {
	if at := fn.watermark.Report(time.Now()); !at.IsZero() {
		e.State = max(e.State, int64(mtime.FromTime(at)))
	}
}

// finish ends the lane: the run drains, or nothing more can come.
func (fn *readFn) finish(rt *sdf.LockRTracker, p *puller) (sdf.ProcessContinuation, error) {
	if err := p.failed(); err != nil {
		return nil, err
	}
	rt.TryClaim(last)
	return sdf.StopProcessing(), nil
}

// estimator reports what it is told.
type estimator struct{ State int64 }

// CurrentWatermark returns the watermark.
func (e *estimator) CurrentWatermark() time.Time { return mtime.Time(e.State).ToTime() }

// position is what is claimed of a lane.
type position bool

const (
	next position = false // go on
	last position = true  // the end
)

// laneTracker lets a lane be given back as a whole, and not be cut in two: a runner that finds a lane slow would
// otherwise make more and more readers of it.
type laneTracker struct {
	Lane    Lane
	Stopped bool
}

func (t *laneTracker) TryClaim(pos any) bool {
	if t.Stopped || t.Lane.Done {
		return false
	}
	t.Lane.Done = pos == last
	return true
}

func (t *laneTracker) GetError() error { return nil }

func (t *laneTracker) TrySplit(fraction float64) (primary, residual any, err error) {
	if fraction > 0 || t.Stopped || t.Lane.Done {
		return t.Lane, nil, nil
	}
	t.Stopped = true
	return Lane{Number: t.Lane.Number, Done: true}, t.Lane, nil
}

func (t *laneTracker) GetProgress() (done, remaining float64) {
	if t.IsDone() {
		return 1, 0
	}
	return 0, 1
}

func (t *laneTracker) IsDone() bool        { return t.Stopped || t.Lane.Done }
func (t *laneTracker) GetRestriction() any { return t.Lane }
func (t *laneTracker) IsBounded() bool     { return t.Lane.Done }
