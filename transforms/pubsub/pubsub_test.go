package pubsub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
	"backbone/transforms/lake"
	"backbone/transforms/run"
	"backbone/transforms/source"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

func init() {
	register.DoFn2x1[[]byte, func([]byte), error](&noteFn{})
}

func TestParseURL(t *testing.T) {
	for _, tc := range []struct {
		url  string
		want string
		ok   bool // it is one of Pub/Sub
		bad  bool
	}{
		{"pubsub://shop/events", "projects/shop/subscriptions/events", true, false},
		{"pubsub://shop", "", true, true},
		{"pubsub://shop/", "", true, true},
		{"pubsub:///events", "", true, true},
		{"pubsub://shop/events/more", "", true, true},
		{"pubsub:/shop/events", "", false, false},
		{"gs://shop/events", "", false, false},
		{"", "", false, false},
	} {
		got, ok, err := ParseURL(tc.url)
		if got != tc.want || ok != tc.ok || (err != nil) != tc.bad {
			t.Errorf("ParseURL(%q) = %q, %v, %v", tc.url, got, ok, err)
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", tc.url)) {
			t.Errorf("ParseURL(%q): %v; want the URL in it", tc.url, err)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Options{Subscription: "projects/shop/subscriptions/events"}
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   []string // in the error
	}{
		{"good", func(*Options) {}, nil},
		{"with defaults", func(o *Options) { *o = o.WithDefaults() }, nil},
		{"no subscription", func(o *Options) { o.Subscription = "" }, []string{`subscription is ""`}},
		{"a topic", func(o *Options) { o.Subscription = "projects/shop/topics/events" }, []string{`subscription is "projects/shop/topics/events"`}},
		{"all at once", func(o *Options) {
			*o = Options{Subscription: "x", Lanes: -1, Streams: -2, MaxOutstanding: -3, MaxOutstandingBytes: -4}
		},
			[]string{`"x"`, "lanes is -1", "streams is -2", "max outstanding is -3", "max outstanding bytes is -4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := good
			tc.change(&o)
			err := o.Validate()
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("Validate() = %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Validate() = %v, want %q in it", err, want)
				}
			}
		})
	}
}

// A lane is given back whole, is never cut in two, and is at its end when that was claimed.
func TestLaneTracker(t *testing.T) {
	tracker := func() *laneTracker { return &laneTracker{Lane: Lane{Number: 3}} }

	t.Run("goes on", func(t *testing.T) {
		lane := tracker()
		for range 3 {
			if !lane.TryClaim(next) || lane.IsDone() || lane.IsBounded() {
				t.Fatal("a lane ends by itself")
			}
		}
		if done, remaining := lane.GetProgress(); done != 0 || remaining != 1 {
			t.Errorf("progress is %v done, %v remaining", done, remaining)
		}
	})
	t.Run("is not cut", func(t *testing.T) {
		lane := tracker()
		for _, fraction := range []float64{0.01, 0.5, 1} {
			primary, residual, err := lane.TrySplit(fraction)
			if err != nil || residual != nil || primary != (Lane{Number: 3}) {
				t.Errorf("split at %v: %v, %v, %v", fraction, primary, residual, err)
			}
		}
		if !lane.TryClaim(next) {
			t.Error("a refused split has ended the lane")
		}
	})
	t.Run("is given back", func(t *testing.T) {
		lane := tracker()
		primary, residual, err := lane.TrySplit(0)
		if err != nil || primary != (Lane{Number: 3, Done: true}) || residual != (Lane{Number: 3}) {
			t.Errorf("split at 0: %v, %v, %v", primary, residual, err)
		}
		if lane.TryClaim(next) || !lane.IsDone() {
			t.Error("a lane that was given back goes on")
		}
		if _, residual, _ := lane.TrySplit(0); residual != nil {
			t.Errorf("it is given back twice, the second time as %v", residual)
		}
	})
	t.Run("ends", func(t *testing.T) {
		lane := tracker()
		if !lane.TryClaim(last) || !lane.IsDone() || !lane.IsBounded() || lane.TryClaim(next) {
			t.Error("a lane goes on after its end was claimed")
		}
		if _, residual, _ := lane.TrySplit(0); residual != nil {
			t.Errorf("split after the end leaves %v", residual)
		}
		if done, remaining := lane.GetProgress(); done != 1 || remaining != 0 {
			t.Errorf("progress is %v done, %v remaining", done, remaining)
		}
	})
	t.Run("drained by the runner", func(t *testing.T) {
		fn := &readFn{}
		lane := fn.TruncateRestriction(sdf.NewLockRTracker(tracker()), 0)
		if fn.RestrictionSize(0, lane) != 0 || fn.CreateTracker(lane).TryClaim(next) {
			t.Errorf("%v is read on", lane)
		}
	})
}

func TestLanesAreNumbered(t *testing.T) {
	var got []Lane
	(&lanesFn{Lanes: 3}).ProcessElement(nil, func(n int) {
		got = append(got, (&readFn{}).SplitRestriction(n, (&readFn{}).CreateInitialRestriction(n))...)
	})
	if want := []Lane{{Number: 0}, {Number: 1}, {Number: 2}}; !slices.Equal(got, want) {
		t.Errorf("lanes %v, want %v", got, want)
	}
}

// noteFn notes the messages of blocks, and gives out their tokens.
type noteFn struct{ RunID string }

// notes is what noteFn has seen, in a run.
type notes struct {
	mu    sync.Mutex
	times map[string]int // by data
	heard chan struct{}  // gets a value, if there is room, when something has come
}

func notesOf(r *run.Run) *notes {
	n, _ := run.Shared(r, "notes", func() (*notes, error) {
		return &notes{times: map[string]int{}, heard: make(chan struct{}, 1)}, nil
	})
	return n
}

func (fn *noteFn) ProcessElement(block []byte, emit func([]byte)) error {
	n := notesOf(run.Of(fn.RunID))
	var tokens []byte
	err := EachRecord(block, testSubscription, func(rec *source.Record, ackID string) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.times[string(rec.Data)]++
		tokens = lake.AppendToken(tokens, ackID, 1)
		return nil
	})
	select {
	case n.heard <- struct{}{}:
	default:
	}
	emit(tokens)
	return err
}

// waitFor waits until so many different messages have come.
func (n *notes) waitFor(ctx context.Context, messages int) error {
	for {
		n.mu.Lock()
		have := len(n.times)
		n.mu.Unlock()
		if have >= messages {
			return nil
		}
		select {
		case <-n.heard:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages: %w", have, messages, ctx.Err())
		}
	}
}

// startPubSub starts a server with a topic, its subscription, and messages.
func startPubSub(t *testing.T, messages int) *pubsubserver.Server {
	t.Helper()
	server := pubsubtest.Start(t, pubsubserver.Options{})
	t.Setenv("PUBSUB_EMULATOR_HOST", server.Addr())
	if err := server.Create(t.Context(), "projects/shop/topics/events", testSubscription); err != nil {
		t.Fatal(err)
	}
	publish(t, server, 0, messages)
	return server
}

func publish(t *testing.T, server *pubsubserver.Server, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := server.Publish(t.Context(), "projects/shop/topics/events", &pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, "message %d", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs a pipeline that reads and acknowledges.
func start(id string, o Options) (ended chan error) {
	o.Subscription, o.RunID = testSubscription, id
	p, s := beam.NewPipelineWithRoot()
	Acknowledge(s, beam.ParDo(s, &noteFn{RunID: id}, Read(s, o)), o)
	ended = make(chan error, 1)
	go func() { ended <- ptest.Run(p) }()
	return ended
}

// All messages come, once each since nothing fails; a drain ends the pipeline, with all acknowledged.
func TestReadAndDrain(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		t.Run(fmt.Sprintf("lanes=%d", lanes), func(t *testing.T) {
			const messages = 500
			server := startPubSub(t, messages)
			r := closeRun(t, t.Name())
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			ended := start(t.Name(), Options{Lanes: lanes, Streams: 2})
			if err := notesOf(r).waitFor(ctx, messages); err != nil {
				t.Fatal(err)
			}
			r.Drain()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			for data, n := range notesOf(r).times {
				if n != 1 {
					t.Errorf("%q came %d times", data, n)
				}
			}
			if stats := server.Stats().Subscriptions[testSubscription]; stats.Acked != messages || stats.Backlog != 0 || stats.Streams != 0 {
				t.Errorf("the server says %+v, want all acknowledged and no stream left", stats)
			}
			if n := r.Counts()["pubsub/acknowledged"]; n != messages {
				t.Errorf("pubsub/acknowledged is %d, want %d", n, messages)
			}
		})
	}
}

// A drain ends a pipeline that has nothing to read.
func TestDrainOfNothing(t *testing.T) {
	server := startPubSub(t, 0)
	r := closeRun(t, t.Name())
	ended := start(t.Name(), Options{})
	r.Drain()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if stats := server.Stats().Subscriptions[testSubscription]; stats.Streams != 0 {
		t.Errorf("%d streams are left", stats.Streams)
	}
}

// Streams that break, as those of Pub/Sub do now and then, are opened again.
func TestBrokenStreamsAreOpenedAgain(t *testing.T) {
	const messages = 50
	server := startPubSub(t, messages)
	r := closeRun(t, t.Name())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := start(t.Name(), Options{Streams: 2})
	for round := 1; round <= 3; round++ {
		if err := notesOf(r).waitFor(ctx, round*messages); err != nil {
			t.Fatal(err)
		}
		if n := server.CloseStreams(); n == 0 && round == 1 {
			t.Error("there was no stream to break")
		}
		publish(t, server, round*messages, (round+1)*messages)
	}
	if err := notesOf(r).waitFor(ctx, 4*messages); err != nil {
		t.Fatal(err)
	}
	r.Drain()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if stats := server.Stats().Subscriptions[testSubscription]; stats.Backlog != 0 {
		t.Errorf("%d messages were not acknowledged", stats.Backlog)
	}
}

// What won't pass by itself ends the job, with the name of the subscription.
func TestMissingSubscriptionEndsTheJob(t *testing.T) {
	server := pubsubtest.Start(t, pubsubserver.Options{})
	t.Setenv("PUBSUB_EMULATOR_HOST", server.Addr())
	closeRun(t, t.Name())
	err := <-start(t.Name(), Options{})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("subscription %q", testSubscription)) || !strings.Contains(err.Error(), "NotFound") {
		t.Errorf("the job ended with %v, want NotFound and the subscription in it", err)
	}
}

// A subscription that is deleted under way ends the job too.
func TestDeletedSubscriptionEndsTheJob(t *testing.T) {
	server := startPubSub(t, 10)
	r := closeRun(t, t.Name())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := start(t.Name(), Options{Streams: 1})
	if err := notesOf(r).waitFor(ctx, 10); err != nil {
		t.Fatal(err)
	}
	admin := pubsubpb.NewSubscriberClient(pubsubtest.Dial(t, server.Addr()))
	if _, err := admin.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: testSubscription}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), testSubscription) {
		t.Errorf("the job ended with %v, want the subscription in it", err)
	}
}

// What was received and not acknowledged is not lost when a run ends without it.
func TestUnacknowledgedMessagesComeAgain(t *testing.T) {
	const messages = 20
	server := startPubSub(t, messages)
	for round := range 2 {
		id := fmt.Sprintf("%s/%d", t.Name(), round)
		r := closeRun(t, id)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o := Options{Subscription: testSubscription, RunID: id}
		p, s := beam.NewPipelineWithRoot()
		beam.ParDo(s, &noteFn{RunID: id}, Read(s, o)) // nothing acknowledges
		ended := make(chan error, 1)
		go func() { ended <- ptest.Run(p) }()
		if err := notesOf(r).waitFor(ctx, messages); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		r.Drain()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if _, err := server.ExpireLeases(testSubscription); err != nil { // ten minutes later
			t.Fatal(err)
		}
	}
	if stats := server.Stats().Subscriptions[testSubscription]; stats.Backlog != messages {
		t.Errorf("%d messages are left, want %d", stats.Backlog, messages)
	}
}
