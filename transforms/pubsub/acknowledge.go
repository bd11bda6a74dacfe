package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pubsubapi "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/zeebo/xxh3"

	"backbone/transforms/lake"
	"backbone/transforms/rows"
	"backbone/transforms/run"
)

func init() {
	register.DoFn2x1[context.Context, []byte, error](&acknowledgeFn{})
	register.DoFn3x1[context.Context, int, func(*[]byte) bool, error](&acknowledgePartsFn{})
	register.Function3x1(sortTokens)
	register.Emitter1[[]byte]()
	register.Emitter2[int, []byte]()
	register.Iter1[[]byte]()
}

// Acknowledge acknowledges messages.
//
//	tokens  PCollection<[]byte>: tokens of parcels whose rows are durable, as lake.Write returns them
func Acknowledge(s beam.Scope, tokens beam.PCollection, o Options) {
	s = s.Scope("pubsub.Acknowledge")
	whole, parts := beam.ParDo2(s, sortTokens, tokens)
	ack := acknowledger{Subscription: o.Subscription, RunID: o.RunID}
	beam.ParDo0(s, &acknowledgeFn{ack}, whole)

	// The parcels of a message may be committed by different workers. Who counts them sees all of them.
	counted := beam.WindowInto(s, window.NewGlobalWindows(), parts, beam.Trigger(trigger.Repeat(trigger.AfterCount(1))), beam.PanesDiscard())
	beam.ParDo0(s, &acknowledgePartsFn{ack}, beam.GroupByKey(s, counted))
}

// partKeys is how many workers may count parcels.
const partKeys = 16

// sortTokens parts tokens of messages that are one parcel from those of messages that came apart, which have a key by their message.
func sortTokens(tokens []byte, whole func([]byte), parts func(int, []byte)) error {
	var one []byte
	var of [partKeys][]byte
	err := lake.EachToken(tokens, func(token []byte, n int) {
		if n <= 1 {
			one = lake.AppendToken(one, rows.Alias(token), n)
			return
		}
		key := xxh3.Hash(token) % partKeys
		of[key] = lake.AppendToken(of[key], rows.Alias(token), n)
	})
	if err != nil {
		return fmt.Errorf("tokens to acknowledge: %w", err)
	}
	if one != nil {
		whole(one)
	}
	for key, some := range of {
		if some != nil {
			parts(key, some)
		}
	}
	return nil
}

// acknowledgeFn acknowledges messages that are one parcel.
type acknowledgeFn struct{ acknowledger }

func (fn *acknowledgeFn) ProcessElement(ctx context.Context, tokens []byte) error {
	return fn.each(ctx, tokens)
}

// acknowledgePartsFn acknowledges messages that came apart, when the last of their parcels is durable.
type acknowledgePartsFn struct{ acknowledger }

func (fn *acknowledgePartsFn) ProcessElement(ctx context.Context, _ int, parcels func(*[]byte) bool) error {
	for tokens := []byte(nil); parcels(&tokens); tokens = nil {
		if err := fn.each(ctx, tokens); err != nil {
			return err
		}
	}
	return nil
}

// acknowledger acknowledges the messages of a bundle in as few requests as it can.
type acknowledger struct {
	Subscription string
	RunID        string

	client       *pubsubapi.SubscriptionAdminClient
	parts        *parts
	acknowledged *run.Counter
	ids          []string
	bytes        int
}

// The most that is put into one request; Pub/Sub takes 512 KiB.
const (
	maxIDs      = 2500
	maxIDsBytes = 450 << 10
)

func (fn *acknowledger) Setup(ctx context.Context) (err error) {
	r := run.Of(fn.RunID)
	fn.acknowledged = r.Counter("pubsub", "acknowledged")
	if fn.client, err = client(ctx, r); err != nil {
		return err
	}
	fn.parts, err = run.Shared(r, "pubsub/parts/"+fn.Subscription, func() (*parts, error) { return &parts{left: map[string]waiting{}}, nil })
	return err
}

// each acknowledges what can be of the tokens of some parcels.
func (fn *acknowledger) each(ctx context.Context, tokens []byte) error {
	var failed error
	err := lake.EachToken(tokens, func(token []byte, n int) {
		id := string(token)
		if failed != nil || !fn.parts.last(id, n, time.Now()) {
			return
		}
		fn.ids = append(fn.ids, id)
		fn.bytes += len(id) + 4
		if len(fn.ids) == maxIDs || fn.bytes > maxIDsBytes {
			failed = fn.send(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("tokens to acknowledge: %w", err)
	}
	return failed
}

// FinishBundle sends the rest.
func (fn *acknowledger) FinishBundle(ctx context.Context) error { return fn.send(ctx) }

// send acknowledges. What can't be acknowledged comes back, and is dropped then as already committed: that costs time
// and loses nothing, so it is no failure.
func (fn *acknowledger) send(ctx context.Context) error {
	if len(fn.ids) == 0 {
		return nil
	}
	ids := fn.ids
	fn.ids, fn.bytes = fn.ids[:0:0], 0
	sending, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := fn.client.Acknowledge(sending, &pubsubpb.AcknowledgeRequest{Subscription: fn.Subscription, AckIds: ids})
	if err != nil {
		slog.Warn("messages were committed but not acknowledged: they come again and are dropped then", "messages", len(ids), "subscription", fn.Subscription, "error", err)
		return nil
	}
	fn.acknowledged.Add(ctx, int64(len(ids)))
	return nil
}

// parts counts the parcels of messages that came apart into several.
type parts struct {
	mu    sync.Mutex
	left  map[string]waiting
	swept time.Time
}

type waiting struct {
	left  int
	since time.Time
}

// last notes that one of n parcels of a message is durable, and reports whether it was the last.
func (p *parts) last(id string, n int, now time.Time) bool {
	if n <= 1 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.left[id]
	if !ok {
		w = waiting{left: n, since: now}
	}
	if w.left--; w.left <= 0 {
		delete(p.left, id)
		return true
	}
	p.left[id] = w
	p.sweep(now)
	return false
}

// sweep forgets messages that have come back by now, under another id.
func (p *parts) sweep(now time.Time) {
	if now.Sub(p.swept) < ackDeadline {
		return
	}
	p.swept = now
	for id, w := range p.left {
		if now.Sub(w.since) > 2*ackDeadline {
			delete(p.left, id)
		}
	}
}
