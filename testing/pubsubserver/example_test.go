package pubsubserver_test

import (
	"context"
	"fmt"
	"log"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"backbone/testing/pubsubserver"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	// With DataDir set, what is published survives a crash of the server.
	server, err := pubsubserver.New(pubsubserver.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	go server.Serve() //nolint:errcheck // it ends with Close

	const topic, subscription = "projects/shop/topics/events", "projects/shop/subscriptions/lake"
	if err := server.Create(ctx, topic, subscription); err != nil {
		log.Fatal(err)
	}
	if _, err := server.Publish(ctx, topic, &pubsubpb.PubsubMessage{Data: []byte("hello")}); err != nil {
		log.Fatal(err)
	}

	// Programs that know nothing of this server set PUBSUB_EMULATOR_HOST to server.Addr() instead of these options.
	client, err := pubsub.NewClient(ctx, "shop",
		option.WithEndpoint(server.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	err = client.Subscriber(subscription).Receive(ctx, func(_ context.Context, m *pubsub.Message) {
		fmt.Println(string(m.Data))
		m.Ack()
		stop()
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("acknowledged:", server.Stats().Subscriptions[subscription].Acked)
	// Output:
	// hello
	// acknowledged: 1
}
