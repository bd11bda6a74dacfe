package pubsub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	pubsubapi "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"backbone/transforms/run"
)

// ackDeadline is how long a message that was received stays ours without further word: the longest that Pub/Sub gives.
const ackDeadline = 600 * time.Second

// maxResponse bounds one response of a streaming pull.
const maxResponse = 64 << 20

// newClient connects to Pub/Sub, or to the server at PUBSUB_EMULATOR_HOST.
func newClient(ctx context.Context) (*pubsubapi.SubscriptionAdminClient, error) {
	options := []option.ClientOption{option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))}
	if host := os.Getenv("PUBSUB_EMULATOR_HOST"); host != "" {
		options = append(options, option.WithEndpoint(host), option.WithoutAuthentication(), option.WithTelemetryDisabled(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	c, err := pubsubapi.NewSubscriptionAdminClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	return c, nil
}

// client returns the one connection of this process.
func client(ctx context.Context, r *run.Run) (*pubsubapi.SubscriptionAdminClient, error) {
	return run.Shared(r, "pubsub/client", func() (*pubsubapi.SubscriptionAdminClient, error) { return newClient(context.WithoutCancel(ctx)) })
}

// puller keeps streaming pulls open, over all bundles, until the run drains or ends.
type puller struct {
	turn   turn
	blocks chan []byte
	cancel context.CancelFunc
	done   sync.WaitGroup
	closed chan struct{} // what was received is not handed on any more
	over   chan struct{} // closed with blocks

	mu  sync.Mutex
	err error // why nothing more will come
}

// pull returns the one puller of a subscription in this process.
func pull(ctx context.Context, r *run.Run, o Options) (*puller, error) {
	return run.Shared(r, "pubsub/puller/"+o.Subscription, func() (*puller, error) {
		c, err := client(ctx, r)
		if err != nil {
			return nil, err
		}
		p := &puller{blocks: make(chan []byte, 2*o.Streams), closed: make(chan struct{}), over: make(chan struct{})}
		streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p.cancel = cancel
		for range o.Streams {
			p.done.Go(func() {
				out, wait := p.delayed(o.Delay)
				p.stream(streaming, c, o, out)
				wait()
			})
		}
		go func() {
			select {
			case <-r.Draining():
			case <-streaming.Done():
			}
			cancel()
			p.done.Wait()
			close(p.blocks)
			close(p.over)
		}()
		return p, nil
	})
}

// ended tells whether all that was received is handed on, and nothing more comes.
func (p *puller) ended() bool {
	select {
	case <-p.over:
		return len(p.blocks) == 0
	default:
		return false
	}
}

// turn is which of the lanes of a process reads.
type turn struct {
	mu   sync.Mutex
	lane int
	last time.Time // when it was taken
}

// absence is how long after its last turn a lane is given up: a runner may have moved it to another worker.
const absence = 10 * time.Second

// take tells whether it is a lane's turn to read.
func (t *turn) take(lane int, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if lane != t.lane && now.Sub(t.last) < absence {
		return false
	}
	t.lane, t.last = lane, now
	return true
}

// Close ends the streams. What was received and not acknowledged comes back to whoever asks next.
func (p *puller) Close() error {
	p.cancel()
	close(p.closed)
	for range p.blocks { // until the streams have ended
	}
	return nil
}

// delayed returns where blocks are put that are to be handed on after a delay. What is put there is handed on also when the
// stream has ended; wait, to be called then, returns after that. How much waits is bounded by what may be outstanding.
func (p *puller) delayed(delay time.Duration) (in chan<- []byte, wait func()) {
	if delay == 0 {
		return p.blocks, func() {}
	}
	type held struct {
		block []byte
		until time.Time
	}
	blocks, ended := make(chan []byte), make(chan struct{})
	go func() {
		defer close(ended)
		var queue []held
		incoming := blocks
		for incoming != nil || len(queue) > 0 {
			var due <-chan time.Time
			if len(queue) > 0 {
				due = time.After(time.Until(queue[0].until))
			}
			select {
			case block, ok := <-incoming:
				if !ok {
					incoming = nil
					continue
				}
				queue = append(queue, held{block, time.Now().Add(delay)})
			case <-due:
				select {
				case p.blocks <- queue[0].block:
				case <-p.closed:
					return
				}
				queue[0] = held{} // its bytes are not held any more
				queue = queue[1:]
			case <-p.closed:
				return
			}
		}
	}()
	return blocks, func() {
		close(blocks)
		<-ended
	}
}

func (p *puller) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *puller) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// stream receives until ctx ends. A stream that breaks, as Pub/Sub's do every half hour or so, is opened again.
func (p *puller) stream(ctx context.Context, c *pubsubapi.SubscriptionAdminClient, o Options, out chan<- []byte) {
	wait := firstWait
	for ctx.Err() == nil {
		received, err := p.streamOnce(ctx, c, o, out)
		if ctx.Err() != nil {
			return
		}
		if isFinal(err) {
			p.fail(fmt.Errorf("subscription %q: %w", o.Subscription, err))
			p.cancel()
			return
		}
		if received {
			wait = firstWait
		} else {
			slog.Debug("streaming pull broke, trying again", "subscription", o.Subscription, "error", err, "wait", wait)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, maxWait)
	}
}

const (
	firstWait = 100 * time.Millisecond
	maxWait   = 10 * time.Second
)

// isFinal reports whether an error will not pass by itself.
func isFinal(err error) bool {
	switch status.Code(err) {
	case codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
		return true
	}
	return false
}

func (p *puller) streamOnce(ctx context.Context, c *pubsubapi.SubscriptionAdminClient, o Options, out chan<- []byte) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.StreamingPull(ctx)
	if err != nil {
		return false, err
	}
	err = s.Send(&pubsubpb.StreamingPullRequest{
		Subscription:             o.Subscription,
		StreamAckDeadlineSeconds: int32(ackDeadline / time.Second),
		MaxOutstandingMessages:   o.MaxOutstanding / int64(o.Streams),
		MaxOutstandingBytes:      o.MaxOutstandingBytes / int64(o.Streams),
	})
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the reason is what Recv returns
		return false, err
	}
	for {
		response, err := s.Recv()
		if err != nil {
			return received, err
		}
		received = true
		if len(response.GetReceivedMessages()) == 0 {
			continue
		}
		size := 64
		for _, m := range response.GetReceivedMessages() {
			size += len(m.GetMessage().GetData()) + len(m.GetAckId()) + 64
		}
		block := AppendBlock(make([]byte, 0, size), response.GetReceivedMessages())
		select {
		case out <- block:
		case <-ctx.Done():
			return received, ctx.Err()
		}
	}
}
