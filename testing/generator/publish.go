package generator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"cloud.google.com/go/pubsub/v2"
)

// The attributes of a published message: the event's id, and the time when it happened in RFC 3339. Those of a broken
// event are right.
const (
	IDAttribute   = "event_id"
	TimeAttribute = "event_time"
)

// PublishOptions say how fast events are published, and where the truth about them is kept.
type PublishOptions struct {
	// Rate is how many events are published in a second at most. Default: no bound.
	Rate float64
	// Realtime publishes each event when it arrives, so that a run lasts Options.Duration when Options.Start is now.
	// What is still under way at the end is published then, without waiting.
	Realtime bool
	// TruthDir is the folder for truth.parquet and truth.json; it is made. Default: the truth is not kept.
	TruthDir string
}

// PublishSettings are settings of a publisher that suit many small messages: large batches, and a bound on memory.
func PublishSettings() pubsub.PublishSettings {
	s := pubsub.DefaultPublishSettings
	s.CountThreshold = 1000
	s.ByteThreshold = 1 << 20
	s.DelayThreshold = 20 * time.Millisecond
	s.FlowControlSettings = pubsub.FlowControlSettings{
		MaxOutstandingMessages: 50_000,
		MaxOutstandingBytes:    64 << 20,
		LimitExceededBehavior:  pubsub.FlowControlBlock,
	}
	return s
}

// Publish publishes all events and waits until the service has all of them. It is to be called once, before any Next;
// it stops the publisher.
//
// When ctx is cancelled, no more events are published, and the truth is about those that were. When publishing
// fails, what became of the events under way is not known: the truth then speaks of some that were not published.
func (g *Generator) Publish(ctx context.Context, publisher *pubsub.Publisher, o PublishOptions) (total Summary, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("generator: %w", err)
		}
	}()
	if o.Rate < 0 {
		return total, fmt.Errorf("rate is %v; it must not be negative", o.Rate)
	}
	count := newTally(g.options)
	keep := func(e *Event) error { count.add(e); return nil }
	if o.TruthDir != "" {
		if err := os.MkdirAll(o.TruthDir, 0o755); err != nil {
			return total, fmt.Errorf("make the folder of the truth: %w", err)
		}
		truth, err := newTruthWriter(o.TruthDir, g.options)
		if err != nil {
			return total, err
		}
		defer func() {
			_, closeErr := truth.close()
			err = errors.Join(err, closeErr)
		}()
		count, keep = truth.tally, truth.add
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	acks := watch(cancel)
	err = g.publishAll(ctx, publisher, o, keep, acks.results, &count.summary.Events)
	publisher.Stop()
	if failed := acks.wait(); failed != nil { // then ctx was cancelled for it, and err only says that
		err = failed
	}
	return count.result(), err
}

// publishAll hands all events to the publisher.
func (g *Generator) publishAll(ctx context.Context, publisher *pubsub.Publisher, o PublishOptions, keep func(*Event) error, results chan<- *pubsub.PublishResult, done *int) error {
	pace := pacer{start: time.Now(), rate: o.Rate}
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		if o.Realtime {
			if err := sleepUntil(ctx, time.UnixMicro(min(e.ArrivalMicros, g.end))); err != nil {
				return err
			}
		}
		if err := pace.wait(ctx, *done); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped after %d events: %w", *done, err)
		}
		if err := keep(&e); err != nil {
			return err
		}
		// What was handed over is published even if ctx ends: the truth speaks of it.
		results <- publisher.Publish(context.WithoutCancel(ctx), &pubsub.Message{
			Data: slices.Clone(e.Data),
			Attributes: map[string]string{
				IDAttribute:   e.ID,
				TimeAttribute: time.UnixMicro(e.EventMicros).UTC().Format(time.RFC3339Nano),
			},
		})
		if *done%progressEvery == 0 {
			g.progress(*done)
		}
	}
	return nil
}

// watcher waits for the service to have each message.
type watcher struct {
	results chan *pubsub.PublishResult
	done    chan struct{}
	err     error // the first there was
}

// watch starts a watcher, which cancels the publishing once a message could not be published.
func watch(cancel context.CancelCauseFunc) *watcher {
	w := &watcher{results: make(chan *pubsub.PublishResult, 10_000), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for result := range w.results {
			if _, err := result.Get(context.Background()); err != nil && w.err == nil {
				w.err = fmt.Errorf("publish: %w", err)
				cancel(w.err)
			}
		}
	}()
	return w
}

// wait ends the watcher after the last result and returns the first error.
func (w *watcher) wait() error {
	close(w.results)
	<-w.done
	return w.err
}

// pacer bounds how many events pass in a second.
type pacer struct {
	start time.Time
	rate  float64
}

// wait returns when event number n, from 0, may pass.
func (p pacer) wait(ctx context.Context, n int) error {
	if p.rate == 0 {
		return nil
	}
	return sleepUntil(ctx, p.start.Add(time.Duration(float64(n)/p.rate*float64(time.Second))))
}

// sleepUntil returns at a time, or at once if it is less than a millisecond ahead.
func sleepUntil(ctx context.Context, at time.Time) error {
	ahead := time.Until(at)
	if ahead < time.Millisecond {
		return nil
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", ctx.Err())
	}
}
