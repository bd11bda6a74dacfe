package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	pubsubapi "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"backbone/schemas"
	"backbone/transforms/lake"
	"backbone/transforms/source"
)

// The same as those of the pipeline.
const (
	maxOutstanding      = 2_000_000
	maxOutstandingBytes = 2 << 30
	ackDeadlineSeconds  = 600
	maxAckIDs           = 2500
)

// lane is what one stream has received since the last flush.
type lane struct {
	mu    sync.Mutex
	maker *maker
	acks  []string
}

// subscribe reads a subscription of the server at PUBSUB_EMULATOR_HOST until ctx ends, one stream for each core. What
// was received is committed every flush interval, and acknowledged after that.
func (j *job) subscribe(ctx context.Context, subscription string, flushInterval time.Duration) error {
	working := context.WithoutCancel(ctx)
	client, err := pubsubapi.NewSubscriptionAdminClient(working,
		option.WithEndpoint(os.Getenv("PUBSUB_EMULATOR_HOST")), option.WithoutAuthentication(), option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20))))
	if err != nil {
		return err
	}
	streaming, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	lanes := make([]*lane, runtime.GOMAXPROCS(0))
	var receiving sync.WaitGroup
	for i := range lanes {
		m, err := newMaker(j)
		if err != nil {
			return errors.Join(err, client.Close())
		}
		lanes[i] = &lane{maker: m}
		receiving.Go(func() {
			err := lanes[i].receive(streaming, client, subscription, len(lanes))
			if streaming.Err() == nil {
				stop(err)
			}
		})
	}
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for streaming.Err() == nil && err == nil {
		select {
		case <-tick.C:
			err = j.flush(working, client, subscription, lanes)
		case <-streaming.Done():
		}
	}
	if cause := context.Cause(streaming); ctx.Err() == nil && cause != nil {
		err = errors.Join(err, cause)
	}
	stop(nil)
	receiving.Wait()
	if err == nil {
		err = j.flush(working, client, subscription, lanes)
	}
	for _, l := range lanes {
		j.counts.Read += l.maker.read
	}
	return errors.Join(err, client.Close())
}

// receive makes rows of messages until the stream ends.
func (l *lane) receive(ctx context.Context, client *pubsubapi.SubscriptionAdminClient, subscription string, lanes int) error {
	stream, err := client.StreamingPull(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&pubsubpb.StreamingPullRequest{
		Subscription: subscription, StreamAckDeadlineSeconds: ackDeadlineSeconds,
		MaxOutstandingMessages: maxOutstanding / int64(lanes), MaxOutstandingBytes: maxOutstandingBytes / int64(lanes),
	})
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the reason is what Recv returns
		return err
	}
	rec := source.Record{Source: subscription, Offset: -1}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.maker.rules.Now = time.Now().UnixMicro()
		for _, received := range response.GetReceivedMessages() {
			l.message(&rec, received)
		}
		l.mu.Unlock()
	}
}

func (l *lane) message(rec *source.Record, received *pubsubpb.ReceivedMessage) {
	msg := received.GetMessage()
	rec.Data, rec.MessageID, rec.Size, rec.Err = msg.GetData(), msg.GetMessageId(), 0, nil
	rec.Received = msg.GetPublishTime().AsTime().UnixMicro()
	rec.Attributes = rec.Attributes[:0]
	for k, v := range msg.GetAttributes() {
		rec.Attributes = append(rec.Attributes, schemas.Pair{Key: k, Value: v})
	}
	if n := len(rec.Data); n > maxPayload {
		rec.Data, rec.Size = rec.Data[:maxPayload], int64(n)
		rec.Err = &schemas.FieldError{Code: schemas.CodeTooLarge, Message: fmt.Sprintf("the message is longer than %d bytes", maxPayload)}
	}
	l.maker.record(rec)
	l.acks = append(l.acks, received.GetAckId())
}

// flush commits what the lanes have, and acknowledges it.
func (j *job) flush(ctx context.Context, client *pubsubapi.SubscriptionAdminClient, subscription string, lanes []*lane) error {
	slots := map[lake.Slot][][]byte{}
	var acks [][]string // of one request each
	for _, l := range lanes {
		l.mu.Lock()
		l.maker.take(slots)
		for ids := l.acks; len(ids) > 0; {
			n := min(len(ids), maxAckIDs)
			acks = append(acks, ids[:n])
			ids = ids[n:]
		}
		l.acks = nil
		l.mu.Unlock()
	}
	if err := j.commit(ctx, slots, false); err != nil {
		return err
	}
	return onAllCores(acks, func() (func([]string) error, func() error) {
		return func(ids []string) error {
			return client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ids})
		}, nil
	})
}
