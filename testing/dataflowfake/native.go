package dataflowfake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	pubsubapi "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/extworker"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func init() {
	register.DoFn5x2[context.Context, *sdf.ManualWatermarkEstimator, *sdf.LockRTracker, []byte, func(beam.EventTime, []byte), sdf.ProcessContinuation, error](&readFn{})
	register.Emitter2[beam.EventTime, []byte]()
}

// nativePool runs the functions that stand for sources of Dataflow's own, in this process.
type nativePool struct{ workers *extworker.Loopback }

func startNative(ctx context.Context) (*nativePool, error) {
	offsetShortIDs()
	w, err := extworker.StartLoopback(context.WithoutCancel(ctx), 0)
	return &nativePool{w}, err
}

func (n *nativePool) addr(ctx context.Context) string { return n.workers.EnvironmentConfig(ctx) }

func (n *nativePool) close() error { return n.workers.Stop(context.Background()) }

// inlet takes the messages of a subscription out of Pub/Sub, for one job. It acknowledges them, and keeps all of them.
type inlet struct {
	name         string
	subscription string
	timestamps   string // the attribute that has the event time; "": that of publishing
	whole        bool   // messages, not their data only
	client       *pubsubapi.SubscriptionAdminClient
	stop         context.CancelFunc
	stopped      sync.WaitGroup

	mu       sync.Mutex
	elements []element
	seen     map[string]bool
	quiet    time.Time // the latest time at which there was nothing
	drained  bool
	err      error
}

// element is a message as functions get it.
type element struct {
	at   time.Time
	data []byte
}

// inlets finds those of this process by their names, which is all that a function can carry.
var inlets sync.Map // string -> *inlet

// newInlet begins to read. What kept is has come already.
func newInlet(addr string, in *inlet, kept *inlet) (*inlet, error) {
	if addr == "" {
		return nil, errors.New("the fake knows no Pub/Sub server")
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	in.stop, in.seen, in.quiet = stop, map[string]bool{}, time.Now().Add(-time.Second)
	if in.client, err = pubsubapi.NewSubscriptionAdminClient(ctx, option.WithGRPCConn(conn), option.WithoutAuthentication(), option.WithTelemetryDisabled()); err != nil {
		stop()
		return nil, errors.Join(err, conn.Close())
	}
	if kept != nil {
		kept.mu.Lock()
		in.elements, in.seen = kept.elements, kept.seen
		kept.mu.Unlock()
	}
	in.stopped.Go(func() { in.pull(ctx) })
	return in, nil
}

func (in *inlet) pull(ctx context.Context) {
	for ctx.Err() == nil {
		asked, cancel := context.WithTimeout(ctx, 2*time.Second)
		began := time.Now()
		r, err := in.client.Pull(asked, &pubsubpb.PullRequest{Subscription: in.subscription, MaxMessages: 5000})
		cancel()
		switch code := status.Code(err); {
		case err == nil && len(r.GetReceivedMessages()) > 0:
			in.keep(ctx, r.GetReceivedMessages())
		case err == nil || code == codes.DeadlineExceeded:
			in.mu.Lock()
			in.quiet = began
			in.mu.Unlock()
		case ctx.Err() != nil:
		case code == codes.NotFound, code == codes.PermissionDenied:
			in.mu.Lock()
			in.err = fmt.Errorf("subscription %s: %w", in.subscription, err)
			in.mu.Unlock()
			return
		default:
			slog.Debug("the fake of Dataflow pulls again", "error", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// keep keeps messages, and acknowledges them.
func (in *inlet) keep(ctx context.Context, messages []*pubsubpb.ReceivedMessage) {
	ids := make([]string, 0, len(messages))
	in.mu.Lock()
	for _, r := range messages {
		ids = append(ids, r.GetAckId())
		m := r.GetMessage()
		if in.seen[m.GetMessageId()] {
			continue // it has come again
		}
		in.seen[m.GetMessageId()] = true
		e := element{at: m.GetPublishTime().AsTime(), data: m.GetData()}
		if text, ok := m.GetAttributes()[in.timestamps]; ok {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				e.at = at
			}
		}
		if in.whole {
			data, err := proto.Marshal(m)
			if err != nil {
				in.err = err
			}
			e.data = data
		}
		in.elements = append(in.elements, e)
	}
	in.mu.Unlock()
	for len(ids) > 0 {
		n := min(len(ids), 2000)
		if err := in.client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: in.subscription, AckIds: ids[:n]}); err != nil {
			slog.Debug("the fake of Dataflow did not acknowledge: messages come again", "error", err)
		}
		ids = ids[n:]
	}
}

// drain takes in nothing more.
func (in *inlet) drain() {
	in.stop()
	in.stopped.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.drained = true
}

func (in *inlet) close() {
	in.drain()
	inlets.CompareAndDelete(in.name, in)
	_ = in.client.Close() // nothing is on its way
}

// from returns elements from a position on, and whether nothing comes after them. The watermark is that of what follows.
func (in *inlet) from(at int64, most int) (next []element, watermark time.Time, end bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	next = in.elements[min(at, int64(len(in.elements))):]
	if len(next) > most {
		return next[:most], next[0].at, false, in.err
	}
	return next, in.quiet, in.drained, in.err
}

// readFn reads an inlet, as a stream of bytes.
type readFn struct{ Inlet string }

// lane is what is left of an inlet.
type lane struct {
	Start int64
	Done  bool
}

func (fn *readFn) CreateInitialRestriction([]byte) lane     { return lane{} }
func (fn *readFn) SplitRestriction(_ []byte, l lane) []lane { return []lane{l} }
func (fn *readFn) RestrictionSize(_ []byte, _ lane) float64 { return 1 }
func (fn *readFn) CreateTracker(l lane) *sdf.LockRTracker {
	return sdf.NewLockRTracker(&tracker{Lane: l})
}
func (fn *readFn) TruncateRestriction(*sdf.LockRTracker, []byte) lane { return lane{Done: true} }

func (fn *readFn) InitialWatermarkEstimatorState(beam.EventTime, lane, []byte) int64 {
	return int64(mtime.MinTimestamp)
}

func (fn *readFn) CreateWatermarkEstimator(ms int64) *sdf.ManualWatermarkEstimator {
	return &sdf.ManualWatermarkEstimator{State: mtime.Time(ms).ToTime()}
}

func (fn *readFn) WatermarkEstimatorState(e *sdf.ManualWatermarkEstimator) int64 {
	return int64(mtime.FromTime(e.State))
}

func (fn *readFn) ProcessElement(_ context.Context, e *sdf.ManualWatermarkEstimator, rt *sdf.LockRTracker, _ []byte, emit func(beam.EventTime, []byte)) (sdf.ProcessContinuation, error) {
	found, ok := inlets.Load(fn.Inlet)
	if !ok {
		return sdf.StopProcessing(), nil // its attempt is over
	}
	const most = 5000
	at := rt.GetRestriction().(lane).Start
	next, watermark, end, err := found.(*inlet).from(at, most)
	if err != nil {
		return nil, err
	}
	for _, m := range next {
		if !rt.TryClaim(at) {
			return sdf.StopProcessing(), nil
		}
		at++
		emit(mtime.FromTime(m.at), m.data)
	}
	if end {
		rt.TryClaim(int64(math.MaxInt64))
		return sdf.StopProcessing(), nil
	}
	if watermark.After(e.State) {
		e.UpdateWatermark(watermark)
	}
	if len(next) == most {
		return sdf.ResumeProcessingIn(0), nil
	}
	return sdf.ResumeProcessingIn(100 * time.Millisecond), nil
}

// tracker is of a lane that is given back as a whole, and not cut in two.
type tracker struct {
	Lane    lane
	Stopped bool
}

func (t *tracker) TryClaim(pos any) bool {
	at := pos.(int64)
	if t.Stopped || t.Lane.Done {
		return false
	}
	if at == math.MaxInt64 {
		t.Lane.Done = true
		return true
	}
	t.Lane.Start = at + 1
	return true
}

func (t *tracker) GetError() error { return nil }

func (t *tracker) TrySplit(fraction float64) (primary, residual any, err error) {
	if fraction > 0 || t.Stopped || t.Lane.Done {
		return t.Lane, nil, nil
	}
	t.Stopped = true
	return lane{Start: t.Lane.Start, Done: true}, t.Lane, nil
}

func (t *tracker) GetProgress() (done, remaining float64) {
	if t.IsDone() {
		return 1, 0
	}
	return 0, 1
}

func (t *tracker) IsDone() bool        { return t.Stopped || t.Lane.Done }
func (t *tracker) GetRestriction() any { return t.Lane }
func (t *tracker) IsBounded() bool     { return t.Lane.Done }
