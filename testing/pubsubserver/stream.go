package pubsubserver

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	maxAckIDs   = 10_000 // in one request
	maxDeadline = 600    // seconds
	minDeadline = 10     // seconds, of a subscription or stream
	pullWait    = 5 * time.Second
)

var errClosing = status.Error(codes.Unavailable, "the server is closing: try again")

// streamingPull sends messages as they come, and takes acknowledgements, until either side ends it.
func (s *Server) streamingPull(stream grpc.ServerStream) error {
	var first pubsubpb.StreamingPullRequest
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	sub, err := s.subscription(first.GetSubscription())
	if err != nil {
		return err
	}
	if err := checkStreamDeadline(first.GetStreamAckDeadlineSeconds()); err != nil {
		return err
	}
	ctx, quit := context.WithCancelCause(stream.Context())
	defer quit(nil)
	defer context.AfterFunc(s.closing, func() { quit(errClosing) })()
	t := &taker{
		flow: flow{maxMessages: first.GetMaxOutstandingMessages(), maxBytes: first.GetMaxOutstandingBytes()},
		wake: make(chan struct{}, 1), quit: quit,
	}
	if err := sub.join(t); err != nil {
		return err
	}
	defer sub.leave(t)

	p := &puller{server: s, sub: sub, taker: t, stream: stream, pongs: first.GetProtocolVersion() >= 1}
	p.lease.Store(first.GetStreamAckDeadlineSeconds())
	if err := p.handle(&first, true); err != nil {
		return err
	}
	// The receiver ends with the stream: RecvMsg returns once this method has.
	go func() { quit(p.receive()) }()
	return p.send(ctx)
}

// puller is one StreamingPull call.
type puller struct {
	server *Server
	sub    *subscription
	taker  *taker
	stream grpc.ServerStream
	pongs  bool         // the client wants its pings answered
	ping   atomic.Bool  // one is to be answered
	lease  atomic.Int32 // seconds
}

func (p *puller) send(ctx context.Context) error {
	var list []delivery
	for ctx.Err() == nil {
		list = p.sub.take(p.taker, cut(p.lease.Load(), p.server.options.MaxLease), maxResponseMessages, list[:0])
		if len(list) == 0 && !p.ping.Swap(false) {
			select {
			case <-p.taker.wake:
			case <-ctx.Done():
			}
			continue
		}
		withAttempts, ordered := p.sub.settings()
		if err := p.stream.SendMsg(encodeReceived(p.sub.id, list, withAttempts, properties(ordered))); err != nil {
			p.sub.giveBack(list)
			return err
		}
		clear(list) // it must not keep messages alive until the next delivery
	}
	if err := context.Cause(ctx); !errors.Is(err, io.EOF) {
		return err
	}
	return nil // the client has closed its side
}

// properties encodes the SubscriptionProperties of a StreamingPullResponse, where they are not the default.
func properties(ordered bool) []byte {
	if !ordered {
		return nil
	}
	const fieldProperties, fieldOrdered = 4, 2
	return []byte{fieldProperties<<3 | byte(protowire.BytesType), 2, fieldOrdered << 3, 1}
}

// receive handles what the client sends, and returns why that ended.
func (p *puller) receive() error {
	for {
		var req pubsubpb.StreamingPullRequest
		if err := p.stream.RecvMsg(&req); err != nil {
			return err
		}
		if err := p.handle(&req, false); err != nil {
			return err
		}
	}
}

func (p *puller) handle(req *pubsubpb.StreamingPullRequest, first bool) error {
	acks, modified, seconds := req.GetAckIds(), req.GetModifyDeadlineAckIds(), req.GetModifyDeadlineSeconds()
	switch {
	case !first && req.GetSubscription() != "":
		return invalid("streaming pull: the subscription is given again: only the first request may")
	case len(modified) != len(seconds):
		return invalid("streaming pull: %d ack ids to modify, but %d deadlines", len(modified), len(seconds))
	}
	for _, d := range seconds {
		if err := checkDeadline(d); err != nil {
			return err
		}
	}
	if d := req.GetStreamAckDeadlineSeconds(); d != 0 {
		if err := checkStreamDeadline(d); err != nil {
			return err
		}
		p.lease.Store(d)
	}
	if !first && p.pongs && len(acks) == 0 && len(modified) == 0 {
		p.ping.Store(true)
		p.taker.nudge()
	}
	if len(acks) > 0 {
		if err := p.server.acknowledge(p.sub, acks); err != nil {
			return err
		}
	}
	if len(modified) > 0 {
		return p.sub.modify(modified, func(i int) time.Duration { return cut(seconds[i], p.server.options.MaxLease) })
	}
	return nil
}

// pull is the unary form: it waits a while for the first message.
func (s *Server) pull(ctx context.Context, req *pubsubpb.PullRequest) (encoded, error) {
	sub, err := s.subscription(req.GetSubscription())
	if err != nil {
		return encoded{}, err
	}
	if req.GetMaxMessages() <= 0 {
		return encoded{}, invalid("pull: max messages is %d: at least 1", req.GetMaxMessages())
	}
	// Well before the deadline of the client: an empty answer is better than none.
	wait := pullWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ctx, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	defer context.AfterFunc(s.closing, func() { quit(errClosing) })()
	t := &taker{wake: make(chan struct{}, 1), quit: quit}
	if err := sub.join(t); err != nil {
		return encoded{}, err
	}
	defer sub.leave(t)
	for {
		list := sub.take(t, 0, int(min(req.GetMaxMessages(), maxResponseMessages)), nil)
		//nolint:staticcheck // deprecated, yet part of the API that clients may call
		if len(list) > 0 || req.GetReturnImmediately() {
			withAttempts, _ := sub.settings()
			return encodeReceived(sub.id, list, withAttempts, nil), nil
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
				return encoded{}, err
			}
			return encodeReceived(sub.id, nil, false, nil), nil
		}
	}
}

// settings says whether deliveries tell their attempt, and whether keys are ordered.
func (sub *subscription) settings() (withAttempts, ordered bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return sub.queue.policy.maxAttempts > 0, sub.queue.policy.ordered
}

// acknowledge settles deliveries. It does not wait until that is on disk.
func (s *Server) acknowledge(sub *subscription, ids []string) error {
	settled, err := sub.ack(ids, s.faults.dropAck)
	if s.journal != nil && len(settled) > 0 {
		s.journal.ack(sub.id, settled)
	}
	return err
}

func (x subscriber) Acknowledge(_ context.Context, req *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	sub, err := x.server.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	if err := checkAckIDs(req.GetAckIds()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, x.server.acknowledge(sub, req.GetAckIds())
}

func (x subscriber) ModifyAckDeadline(_ context.Context, req *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	sub, err := x.server.subscription(req.GetSubscription())
	if err != nil {
		return nil, err
	}
	if err := checkAckIDs(req.GetAckIds()); err != nil {
		return nil, err
	}
	if err := checkDeadline(req.GetAckDeadlineSeconds()); err != nil {
		return nil, err
	}
	d := cut(req.GetAckDeadlineSeconds(), x.server.options.MaxLease)
	return &emptypb.Empty{}, sub.modify(req.GetAckIds(), func(int) time.Duration { return d })
}

func checkAckIDs(ids []string) error {
	if len(ids) == 0 {
		return invalid("no ack ids are given")
	}
	if len(ids) > maxAckIDs {
		return invalid("%d ack ids in a request: at most %d", len(ids), maxAckIDs)
	}
	return nil
}

func checkDeadline(seconds int32) error {
	if seconds < 0 || seconds > maxDeadline {
		return invalid("an ack deadline is %d s: at least 0, at most %d", seconds, maxDeadline)
	}
	return nil
}

func checkStreamDeadline(seconds int32) error {
	if seconds < minDeadline || seconds > maxDeadline {
		return invalid("the ack deadline of a stream or subscription is %d s: at least %d, at most %d", seconds, minDeadline, maxDeadline)
	}
	return nil
}
