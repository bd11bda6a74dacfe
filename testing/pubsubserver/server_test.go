package pubsubserver_test

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
)

const (
	topic        = "projects/p/topics/t"
	subscription = "projects/p/subscriptions/s"
)

func TestMain(m *testing.M) {
	if dir := crashDir(); dir != "" {
		serveUntilKilled(dir)
	}
	// The guarantees wait more than they work. A -parallel on the command line still wins: it is parsed later.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// Not ours: the first starts with the process, the second is what Google's client leaves behind after Receive.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreTopFunction("cloud.google.com/go/pubsub/v2.(*messageIterator).streamKeepAliveHandler"),
	)
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		pubsubtest.RunConformance(t, func(t *testing.T) pubsubtest.Harness {
			t.Helper()
			return pubsubtest.Harness{Addr: pubsubtest.Start(t, pubsubserver.Options{}).Addr()}
		})
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		pubsubtest.RunConformance(t, func(t *testing.T) pubsubtest.Harness {
			t.Helper()
			return pubsubtest.Harness{Addr: pubsubtest.Start(t, pubsubserver.Options{DataDir: t.TempDir()}).Addr()}
		})
	})
}

// TestEmulatorHost uses the client library as a program does that knows nothing of this server.
func TestEmulatorHost(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	t.Setenv("PUBSUB_EMULATOR_HOST", s.Addr())
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	c, err := pubsub.NewClient(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.TopicAdminClient.CreateTopic(ctx, &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SubscriptionAdminClient.CreateSubscription(ctx, &pubsubpb.Subscription{Name: subscription, Topic: topic}); err != nil {
		t.Fatal(err)
	}
	p := c.Publisher("t")
	defer p.Stop()
	if _, err := p.Publish(ctx, &pubsub.Message{Data: []byte("hello")}).Get(ctx); err != nil {
		t.Fatal(err)
	}
	var got string
	err = c.Subscriber("s").Receive(ctx, func(_ context.Context, m *pubsub.Message) {
		got = string(m.Data)
		m.Ack()
		stop()
	})
	if err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestUnsupportedSettingsAreRefusedByName(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	for _, c := range []struct {
		name string
		sub  *pubsubpb.Subscription
		code codes.Code
	}{
		{"filter", &pubsubpb.Subscription{Filter: `attributes.a = "b"`}, codes.InvalidArgument},
		{"push_config", &pubsubpb.Subscription{PushConfig: &pubsubpb.PushConfig{PushEndpoint: "https://example.com"}}, codes.Unimplemented},
		{"enable_exactly_once_delivery", &pubsubpb.Subscription{EnableExactlyOnceDelivery: true}, codes.Unimplemented},
		{"BigQuery", &pubsubpb.Subscription{BigqueryConfig: &pubsubpb.BigQueryConfig{Table: "p.d.t"}}, codes.Unimplemented},
		{"Cloud Storage", &pubsubpb.Subscription{CloudStorageConfig: &pubsubpb.CloudStorageConfig{Bucket: "b"}}, codes.Unimplemented},
		{"message_transforms", &pubsubpb.Subscription{MessageTransforms: []*pubsubpb.MessageTransform{{}}}, codes.Unimplemented},
		{"max_delivery_attempts", &pubsubpb.Subscription{DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: topic, MaxDeliveryAttempts: 3}}, codes.InvalidArgument},
		{"ack deadline", &pubsubpb.Subscription{AckDeadlineSeconds: 601}, codes.InvalidArgument},
	} {
		c.sub.Name, c.sub.Topic = "projects/p/subscriptions/refused", topic
		_, err := pubsubpb.NewSubscriberClient(conn).CreateSubscription(t.Context(), c.sub)
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: got %v, want %v that names it", c.name, err, c.code)
		}
	}
}

// pull returns what there is now, up to n messages.
func pull(t *testing.T, sub pubsubpb.SubscriberClient, n int32) []*pubsubpb.ReceivedMessage {
	t.Helper()
	//nolint:staticcheck // what is asked is what there is now
	r, err := sub.Pull(t.Context(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: n, ReturnImmediately: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetReceivedMessages()
}

func ackAll(t *testing.T, sub pubsubpb.SubscriberClient, list []*pubsubpb.ReceivedMessage) {
	t.Helper()
	req := &pubsubpb.AcknowledgeRequest{Subscription: subscription}
	for _, m := range list {
		req.AckIds = append(req.AckIds, m.GetAckId())
	}
	if _, err := sub.Acknowledge(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, s *pubsubserver.Server, data ...string) {
	t.Helper()
	var list []*pubsubpb.PubsubMessage
	for _, d := range data {
		list = append(list, &pubsubpb.PubsubMessage{Data: []byte(d)})
	}
	if _, err := s.Publish(t.Context(), topic, list...); err != nil {
		t.Fatal(err)
	}
}

func TestFaults(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	sub, pub := pubsubpb.NewSubscriberClient(conn), pubsubpb.NewPublisherClient(conn)
	one := &pubsubpb.PublishRequest{Topic: topic, Messages: []*pubsubpb.PubsubMessage{{Data: []byte("x")}}}

	// Two acknowledgements of three are dropped: the leases go on, and what they hold comes again.
	publish(t, s, "a", "b", "c")
	s.DropAcks(2)
	ackAll(t, sub, pull(t, sub, 3))
	if got := s.Stats().Subscriptions[subscription]; got.Acked != 1 || got.Outstanding != 2 {
		t.Errorf("after two acknowledgements were dropped: %+v", got)
	}
	if n, err := s.ExpireLeases(subscription); n != 2 || err != nil {
		t.Errorf("expired %d leases, %v; want 2", n, err)
	}
	again := pull(t, sub, 3)
	if len(again) != 2 {
		t.Errorf("got %d messages again, want 2", len(again))
	}
	ackAll(t, sub, again)

	// A refused publish leaves nothing, a lost reply leaves its message.
	s.RefusePublishes(1)
	if _, err := pub.Publish(t.Context(), one); status.Code(err) != codes.Unavailable {
		t.Errorf("refused publish: got %v", err)
	}
	if got := s.Stats().Subscriptions[subscription].Backlog; got != 0 {
		t.Errorf("after a refused publish the backlog is %d", got)
	}
	s.LosePublishReplies(1)
	if _, err := pub.Publish(t.Context(), one); status.Code(err) != codes.Unavailable {
		t.Errorf("lost reply: got %v", err)
	}
	if got := s.Stats().Subscriptions[subscription].Backlog; got != 1 {
		t.Errorf("after a lost reply the backlog is %d", got)
	}

	stream, err := sub.StreamingPull(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pubsubpb.StreamingPullRequest{Subscription: subscription, StreamAckDeadlineSeconds: 60}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if n := s.CloseStreams(); n != 1 {
		t.Errorf("closed %d streams, want 1", n)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("closed stream: got %v", err)
	}

	want := pubsubserver.SubscriptionStats{Delivered: 6, Redelivered: 2, Acked: 3, Backlog: 1, Outstanding: 1}
	got := s.Stats()
	if d := cmp.Diff(want, got.Subscriptions[subscription]); d != "" {
		t.Errorf("stats (-want +got):\n%s", d)
	}
	if n := got.Published[topic]; n != 4 { // 3 + the one whose reply was lost
		t.Errorf("published %d, want 4", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{MaxBytes: 10_000, PublishPatience: time.Millisecond})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	sub, pub := pubsubpb.NewSubscriberClient(conn), pubsubpb.NewPublisherClient(conn)
	req := &pubsubpb.PublishRequest{Topic: topic, Messages: []*pubsubpb.PubsubMessage{{Data: make([]byte, 3000)}}}
	stored := 0
	var err error
	for ; err == nil; stored++ {
		_, err = pub.Publish(t.Context(), req)
	}
	stored--
	if status.Code(err) != codes.ResourceExhausted || stored != 3 { // 3 * 3000 + 128 each, and no room for a fourth
		t.Errorf("stored %d, then %v", stored, err)
	}
	ackAll(t, sub, pull(t, sub, 1))
	if _, err := pub.Publish(t.Context(), req); err != nil {
		t.Errorf("after an acknowledgement: %v", err)
	}
	ackAll(t, sub, pull(t, sub, 10))
	if got := s.Stats().MemoryBytes; got != 0 {
		t.Errorf("all is acknowledged, and %d bytes are in use", got)
	}
}

// TestPublishWaitsForMemory fills the server and frees it while a publisher waits.
func TestPublishWaitsForMemory(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{MaxBytes: 1000, PublishPatience: time.Minute})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	sub := pubsubpb.NewSubscriberClient(conn)
	text := strings.Repeat("x", 600)
	publish(t, s, text)
	published := make(chan error, 1)
	go func() {
		_, err := s.Publish(t.Context(), topic, &pubsubpb.PubsubMessage{Data: []byte(text)})
		published <- err
	}()
	select {
	case err := <-published:
		t.Fatalf("published into a full server: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	ackAll(t, sub, pull(t, sub, 1))
	if err := <-published; err != nil {
		t.Error(err)
	}
}

func TestMaxLeaseCutsDeadlines(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{MaxLease: 100 * time.Millisecond})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, &pubsubpb.Subscription{AckDeadlineSeconds: 600})
	sub := pubsubpb.NewSubscriberClient(conn)
	publish(t, s, "a")
	first := pull(t, sub, 1)
	if _, err := sub.ModifyAckDeadline(t.Context(), &pubsubpb.ModifyAckDeadlineRequest{
		Subscription: subscription, AckIds: []string{first[0].GetAckId()}, AckDeadlineSeconds: 600,
	}); err != nil {
		t.Fatal(err)
	}
	r, err := sub.Pull(t.Context(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1})
	if err != nil || len(r.GetReceivedMessages()) != 1 {
		t.Errorf("got %v, %v; want the message again", r, err)
	}
}

func TestAckIDsOfOthersAreRefused(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	sub := pubsubpb.NewSubscriberClient(conn)
	const other = "projects/p/subscriptions/other"
	if _, err := sub.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: other, Topic: topic}); err != nil {
		t.Fatal(err)
	}
	publish(t, s, "a")
	id := pull(t, sub, 1)[0].GetAckId()
	for _, id := range []string{id, "nonsense", "1-2", ""} {
		_, err := sub.Acknowledge(t.Context(), &pubsubpb.AcknowledgeRequest{Subscription: other, AckIds: []string{id}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("ack id %q: got %v, want InvalidArgument", id, err)
		}
	}
	if got := s.Stats().Subscriptions[other].Backlog; got != 1 {
		t.Errorf("the backlog is %d, want 1", got)
	}
}

func TestRetryPolicyDelaysRedelivery(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, &pubsubpb.Subscription{RetryPolicy: &pubsubpb.RetryPolicy{}}) // 10 s to 600 s
	sub := pubsubpb.NewSubscriberClient(conn)
	publish(t, s, "a")
	if _, err := sub.ModifyAckDeadline(t.Context(), &pubsubpb.ModifyAckDeadlineRequest{
		Subscription: subscription, AckIds: []string{pull(t, sub, 1)[0].GetAckId()},
	}); err != nil {
		t.Fatal(err)
	}
	if got := pull(t, sub, 1); len(got) > 0 {
		t.Errorf("refused, and comes again at once: %v", got)
	}
	if got := s.Stats().Subscriptions[subscription]; got.Backlog != 1 || got.Outstanding != 0 {
		t.Errorf("while it backs off: %+v", got)
	}
}

func TestDetachedSubscriptionsEnd(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	publish(t, s, "a")
	if _, err := pubsubpb.NewPublisherClient(conn).DetachSubscription(t.Context(), &pubsubpb.DetachSubscriptionRequest{Subscription: subscription}); err != nil {
		t.Fatal(err)
	}
	publish(t, s, "b")
	_, err := pubsubpb.NewSubscriberClient(conn).Pull(t.Context(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("pull: got %v, want FailedPrecondition", err)
	}
	if got := s.Stats(); got.MemoryBytes != 0 {
		t.Errorf("nobody needs a message, and %d bytes are in use", got.MemoryBytes)
	}
}

func TestOptions(t *testing.T) {
	_, err := pubsubserver.New(pubsubserver.Options{MaxBytes: -1, MaxLease: -1})
	if err == nil || !strings.Contains(err.Error(), "max bytes is -1") || !strings.Contains(err.Error(), "max lease is -1") {
		t.Errorf("got %v, want both mistakes", err)
	}
	if _, err := pubsubserver.New(pubsubserver.Options{Addr: "nowhere"}); err == nil {
		t.Error("listened nowhere")
	}
	s, err := pubsubserver.New(pubsubserver.Options{}) // never served
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// TestUndeliveredMessagesComeBack ends a stream whose client does not read: what never left the server is not held back
// until the leases end, which would be in 10 minutes.
func TestUndeliveredMessagesComeBack(t *testing.T) {
	s := pubsubtest.Start(t, pubsubserver.Options{})
	conn := pubsubtest.Dial(t, s.Addr())
	pubsubtest.Create(t, conn, topic, subscription, nil)
	sub := pubsubpb.NewSubscriberClient(conn)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sub.StreamingPull(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pubsubpb.StreamingPullRequest{Subscription: subscription, StreamAckDeadlineSeconds: 600}); err != nil {
		t.Fatal(err)
	}
	texts := make([]string, 2000) // two responses: the second does not fit into the window of the connection
	for i := range texts {
		texts[i] = strings.Repeat("x", 900)
	}
	publish(t, s, texts...)
	wait := func(what string, done func(pubsubserver.SubscriptionStats) bool) {
		t.Helper()
		for range 2000 {
			if done(s.Stats().Subscriptions[subscription]) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%s: not so after a long time: %+v", what, s.Stats().Subscriptions[subscription])
	}
	wait("all are leased", func(c pubsubserver.SubscriptionStats) bool { return c.Outstanding == 2000 })
	cancel()
	wait("some are back", func(c pubsubserver.SubscriptionStats) bool { return c.Outstanding < 2000 && c.Streams == 0 })
	if got := s.Stats().Subscriptions[subscription].Backlog; got != 2000 {
		t.Errorf("the backlog is %d, want 2000", got)
	}
}
