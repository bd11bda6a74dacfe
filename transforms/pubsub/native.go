package pubsub

import (
	"context"
	"fmt"
	"log/slog"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/typex"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/reflectx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func init() {
	register.DoFn3x1[beam.EventTime, []byte, func(beam.EventTime, []byte), error](&packFn{})
	register.Emitter2[beam.EventTime, []byte]()
}

// urnRead is the source of Pub/Sub that a runner has of its own, as Dataflow does.
const urnRead = "beam:transform:pubsub_read:v1"

// ReadNative reads a subscription by the source that the runner has of its own, until the runner drains the job.
//
// It returns a PCollection<[]byte> of blocks (see EachRecord), as Read does. Their messages have no ids to acknowledge them by: the runner does
// that as soon as it has them in a state of its own that survives. Of o, only the subscription and the delay count: the runner's watermark is
// that of the times at which messages were published.
func ReadNative(s beam.Scope, o Options) beam.PCollection {
	s = s.Scope("pubsub.ReadNative")
	payload, err := proto.Marshal(&pipepb.PubSubReadPayload{Subscription: o.Subscription, WithAttributes: true})
	if err != nil {
		panic(fmt.Sprintf("pubsub.ReadNative: %v", err)) // two plain fields
	}
	messages := beam.External(s, urnRead, payload, nil, []beam.FullType{typex.New(reflectx.ByteSlice)}, false)
	blocks := beam.ParDo(s, &packFn{}, messages[0])
	if o.Delay > 0 {
		blocks = wait(s, blocks, o.Delay)
	}
	return blocks
}

// packFn packs messages that come in one bundle into blocks: encoded, each with its attributes, its id and its time.
type packFn struct {
	messages []*pubsubpb.ReceivedMessage
	bytes    int
	earliest beam.EventTime
}

// blockBytes is about how large a block becomes.
const blockBytes = 512 << 10

func (fn *packFn) StartBundle(_ func(beam.EventTime, []byte)) { fn.messages, fn.bytes = nil, 0 }

func (fn *packFn) ProcessElement(at beam.EventTime, encoded []byte, emit func(beam.EventTime, []byte)) error {
	m := &pubsubpb.PubsubMessage{}
	if err := proto.Unmarshal(encoded, m); err != nil {
		return fmt.Errorf("message of the runner's source, %d bytes: %w", len(encoded), err)
	}
	if m.GetPublishTime() == nil {
		m.PublishTime = timestamppb.New(at.ToTime())
	}
	if len(fn.messages) == 0 || at < fn.earliest {
		fn.earliest = at
	}
	fn.messages = append(fn.messages, &pubsubpb.ReceivedMessage{Message: m})
	if fn.bytes += len(encoded); fn.bytes >= blockBytes {
		fn.emit(emit)
	}
	return nil
}

// FinishBundle emits the rest.
func (fn *packFn) FinishBundle(emit func(beam.EventTime, []byte)) { fn.emit(emit) }

func (fn *packFn) emit(emit func(beam.EventTime, []byte)) {
	if len(fn.messages) == 0 {
		return
	}
	emit(max(fn.earliest, mtime.MinTimestamp), AppendBlock(make([]byte, 0, fn.bytes+64), fn.messages))
	fn.messages, fn.bytes = nil, 0
}

// Check returns an error if a subscription is not there. Who may not know that is not told: whoever reads it may.
func Check(ctx context.Context, subscription string) error {
	c, err := newClient(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing is on its way
	_, err = c.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subscription})
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.PermissionDenied:
		if answer, ok := apierror.FromError(err); ok && answer.Reason() == "SERVICE_DISABLED" {
			return fmt.Errorf("subscription %s: the API is not enabled: gcloud services enable pubsub.googleapis.com: %s", subscription, answer.GRPCStatus().Message())
		}
		slog.Warn("whether the subscription is there cannot be asked by this account; that of the workers has to read it", "subscription", subscription)
		return nil
	case codes.NotFound:
		return fmt.Errorf("subscription %s: it is not there, make it first: %w", subscription, err)
	}
	return fmt.Errorf("subscription %s: %w", subscription, err)
}
