package pubsub_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/testing/pubsubserver"
	"backbone/transforms/lake"
	"backbone/transforms/pubsub"
	"backbone/transforms/run"
	"backbone/transforms/source"
)

func init() { register.Function2x1(printMessages) }

var printed atomic.Int32

// printMessages prints the messages of a block, and returns the tokens that acknowledge them. A real pipeline lets the
// tokens go on only when what the messages became is durable.
func printMessages(block []byte, emit func([]byte)) error {
	var tokens []byte
	err := pubsub.EachRecord(block, "projects/shop/subscriptions/lake", func(rec *source.Record, ackID string) error {
		fmt.Println(string(rec.Data))
		tokens = lake.AppendToken(tokens, ackID, 1)
		if printed.Add(1) == 2 {
			run.Of("example").Drain()
		}
		return nil
	})
	emit(tokens)
	return err
}

// Two messages are read from a local server, and acknowledged; then the run is drained.
func Example() {
	ctx := context.Background()
	server, err := pubsubserver.New(pubsubserver.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	go server.Serve() //nolint:errcheck // it ends with Close
	if err := os.Setenv("PUBSUB_EMULATOR_HOST", server.Addr()); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.Unsetenv("PUBSUB_EMULATOR_HOST") }() // a name that can be set can be unset

	const topic, subscription = "projects/shop/topics/events", "projects/shop/subscriptions/lake"
	if err := server.Create(ctx, topic, subscription); err != nil {
		fmt.Println(err)
		return
	}
	for _, text := range []string{"ann views a kettle", "bob views a mug"} {
		if _, err := server.Publish(ctx, topic, &pubsubpb.PubsubMessage{Data: []byte(text)}); err != nil {
			fmt.Println(err)
			return
		}
	}

	options := pubsub.Options{Subscription: subscription, RunID: "example"}
	p, s := beam.NewPipelineWithRoot()
	blocks := pubsub.Read(s, options)
	tokens := beam.ParDo(s, printMessages, blocks)
	pubsub.Acknowledge(s, tokens, options)
	if _, err := beam.Run(ctx, "prism", p); err != nil {
		fmt.Println(err)
	}
	if err := run.Of("example").Close(); err != nil {
		fmt.Println(err)
	}
	fmt.Println("acknowledged:", server.Stats().Subscriptions[subscription].Acked)
	// Unordered output:
	// ann views a kettle
	// bob views a mug
	// acknowledged: 2
}
