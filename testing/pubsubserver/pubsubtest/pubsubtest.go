// Package pubsubtest has what tests need of a Pub/Sub server: one that lasts as long as a test, clients of it, and
// the suite that says what such a server has to do.
package pubsubtest

import (
	"context"
	"testing"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/api/option/internaloption"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"backbone/testing/pubsubserver"
)

// Start runs a server until the test ends.
func Start(t testing.TB, o pubsubserver.Options) *pubsubserver.Server {
	t.Helper()
	s, err := pubsubserver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("the Pub/Sub server did not close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("the Pub/Sub server did not serve: %v", err)
		}
	})
	return s
}

// Dial opens a connection to a server until the test ends.
func Dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// NewClient is the client library of Google for a project on a server, until the test ends. Programs that
// are not tests set PUBSUB_EMULATOR_HOST instead.
func NewClient(t testing.TB, addr, project string) *pubsub.Client {
	t.Helper()
	c, err := pubsub.NewClient(t.Context(), project,
		option.WithEndpoint(addr), option.WithoutAuthentication(), option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		internaloption.SkipDialSettingsValidation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("the Pub/Sub client did not close: %v", err)
		}
	})
	return c
}

// Create makes a topic with a subscription. Their names are projects/PROJECT/topics/ID and projects/PROJECT/subscriptions/ID;
// settings, which may be nil, are those of the subscription.
func Create(t testing.TB, conn grpc.ClientConnInterface, topic, subscription string, settings *pubsubpb.Subscription) {
	t.Helper()
	ctx := context.Background()
	if _, err := pubsubpb.NewPublisherClient(conn).CreateTopic(ctx, &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if settings == nil {
		settings = &pubsubpb.Subscription{}
	}
	settings.Name, settings.Topic = subscription, topic
	if settings.AckDeadlineSeconds == 0 {
		settings.AckDeadlineSeconds = 60
	}
	if _, err := pubsubpb.NewSubscriberClient(conn).CreateSubscription(ctx, settings); err != nil {
		t.Fatal(err)
	}
}
