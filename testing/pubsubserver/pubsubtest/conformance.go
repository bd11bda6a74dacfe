package pubsubtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Harness is a server under test. Each subtest gets one of its own.
type Harness struct {
	// Addr is where the server listens, host:port.
	Addr string
	// Skip names guarantees that the server is known not to give, with the reason for each.
	Skip map[string]string
}

// Names in all subtests.
const (
	project      = "conformance"
	topicName    = "projects/conformance/topics/events"
	subscription = "projects/conformance/subscriptions/reader"
	deadTopic    = "projects/conformance/topics/dead"
	deadReader   = "projects/conformance/subscriptions/dead-reader"
)

// patience is how long a subtest waits for what has to come. Nothing is asserted about time.
const patience = 20 * time.Second

// quiet is how long a subtest looks for what must not come.
const quiet = 100 * time.Millisecond

// env is one subtest with its server and clients.
type env struct {
	*testing.T
	ctx     context.Context
	harness Harness
	conn    *grpc.ClientConn
	pub     pubsubpb.PublisherClient
	sub     pubsubpb.SubscriberClient
}

// RunConformance checks that a server is a Pub/Sub server: each subtest is one guarantee.
func RunConformance(t *testing.T, newHarness func(t *testing.T) Harness) {
	guarantees := []struct {
		name string
		test func(e env)
	}{
		{"TopicsAreCreatedReadListedUpdatedDeleted", topics},
		{"SubscriptionsAreCreatedReadListedUpdatedDeleted", subscriptions},
		{"WrongRequestsHaveTheRightCodes", wrongRequests},
		{"WrongMessagesAreRefused", wrongMessages},
		{"MessagesArriveAsPublished", arriveAsPublished},
		{"MessageIDsAreUnique", uniqueIDs},
		{"EachSubscriptionGetsEachMessage", eachSubscription},
		{"MessagesBeforeTheSubscriptionAreNotForIt", beforeSubscription},
		{"StreamsShareTheMessagesOfASubscription", sharedStreams},
		{"AcknowledgedMessagesDoNotComeAgain", acknowledged},
		{"RefusedMessagesComeAgain", refused},
		{"ExpiredLeasesComeAgain", expiredLease},
		{"ProlongedLeasesDoNotComeAgain", prolongedLease},
		{"LateNegativeAcknowledgementsHaveNoEffect", lateNack},
		{"AcknowledgementsOnTheStreamCount", streamAck},
		{"StreamsHoldTheirMessageAllowance", messageAllowance},
		{"StreamsHoldTheirByteAllowance", byteAllowance},
		{"PullReturnsAtMostMaxMessages", pullLimit},
		{"PullOfNothingReturnsEmpty", pullNothing},
		{"OrderingKeysKeepTheirOrder", orderedKeys},
		{"OrderingKeysKeepTheirOrderWhenRefused", orderedRefused},
		{"DeliveryAttemptsAreCounted", attempts},
		{"MessagesThatFailTooOftenGoToTheDeadLetterTopic", deadLetterTopic},
		{"SeekForwardAcknowledges", seekForward},
		{"SeekBackRedeliversRetainedMessages", seekBack},
		{"SeekToSnapshotRestoresTheBacklog", seekSnapshot},
		{"DeletedTopicsLeaveTheirSubscriptionsTheBacklog", orphans},
		{"DeletedSubscriptionsEndTheirStreams", deletedStream},
		{"ClientLibraryPublishesAndReceives", clientLibrary},
		{"ClientLibraryReceivesInOrder", clientLibraryOrdered},
		{"LargeMessagesPass", largeMessages},
	}
	for _, g := range guarantees {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			if reason := h.Skip[g.name]; reason != "" {
				t.Skip(reason)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			t.Cleanup(cancel)
			conn := Dial(t, h.Addr)
			g.test(env{T: t, ctx: ctx, harness: h, conn: conn, pub: pubsubpb.NewPublisherClient(conn), sub: pubsubpb.NewSubscriberClient(conn)})
		})
	}
}

// Helpers

func (e env) create(settings *pubsubpb.Subscription) {
	e.Helper()
	Create(e.T, e.conn, topicName, subscription, settings)
}

func (e env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e env) wantCode(what string, err error, want codes.Code) {
	e.Helper()
	if got := status.Code(err); got != want {
		e.Errorf("%s: got %v (%v), want %v", what, got, err, want)
	}
}

// publish sends messages with the given data, each with its key if keys has one at its place, and returns their ids.
func (e env) publish(topic string, data []string, keys ...string) []string {
	e.Helper()
	req := &pubsubpb.PublishRequest{Topic: topic}
	for i, d := range data {
		m := &pubsubpb.PubsubMessage{Data: []byte(d)}
		if len(keys) > 0 {
			m.OrderingKey = keys[i%len(keys)]
		}
		req.Messages = append(req.Messages, m)
	}
	r, err := e.pub.Publish(e.ctx, req)
	e.must(err)
	if len(r.GetMessageIds()) != len(data) {
		e.Fatalf("publish: got %d ids for %d messages", len(r.GetMessageIds()), len(data))
	}
	return r.GetMessageIds()
}

// pullN pulls until n messages have come.
func (e env) pullN(sub string, n int) []*pubsubpb.ReceivedMessage {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	var got []*pubsubpb.ReceivedMessage
	for len(got) < n {
		r, err := e.sub.Pull(ctx, &pubsubpb.PullRequest{Subscription: sub, MaxMessages: int32(n - len(got))})
		if err != nil {
			e.Fatalf("pull: %v, after %d of %d messages", err, len(got), n)
		}
		got = append(got, r.GetReceivedMessages()...)
	}
	return got
}

// wantNone checks that a subscription has nothing to give now.
func (e env) wantNone(sub string) {
	e.Helper()
	time.Sleep(quiet)
	//lint:ignore SA1019 what is asked is what there is now
	r, err := e.sub.Pull(e.ctx, &pubsubpb.PullRequest{Subscription: sub, MaxMessages: 1000, ReturnImmediately: true}) //nolint:staticcheck // deprecated, and still asked for by clients
	e.must(err)
	if n := len(r.GetReceivedMessages()); n > 0 {
		e.Errorf("got %d messages, such as %v; want none", n, r.GetReceivedMessages()[0])
	}
}

func (e env) ack(sub string, list []*pubsubpb.ReceivedMessage) {
	e.Helper()
	_, err := e.sub.Acknowledge(e.ctx, &pubsubpb.AcknowledgeRequest{Subscription: sub, AckIds: ackIDs(list)})
	e.must(err)
}

func (e env) modify(sub string, list []*pubsubpb.ReceivedMessage, seconds int32) {
	e.Helper()
	_, err := e.sub.ModifyAckDeadline(e.ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: sub, AckIds: ackIDs(list), AckDeadlineSeconds: seconds})
	e.must(err)
}

func ackIDs(list []*pubsubpb.ReceivedMessage) []string {
	ids := make([]string, len(list))
	for i, m := range list {
		ids[i] = m.GetAckId()
	}
	return ids
}

func dataOf(list []*pubsubpb.ReceivedMessage) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = string(m.GetMessage().GetData())
	}
	return out
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func (e env) wantData(what string, got []*pubsubpb.ReceivedMessage, want []string) {
	e.Helper()
	if d := cmp.Diff(sorted(want), sorted(dataOf(got))); d != "" {
		e.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return out
}

// stream opens a StreamingPull whose messages come out of a channel, which is closed at its end.
func (e env) stream(first *pubsubpb.StreamingPullRequest) (pubsubpb.Subscriber_StreamingPullClient, <-chan *pubsubpb.ReceivedMessage, func() error) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	s, err := e.sub.StreamingPull(ctx)
	e.must(err)
	if first.GetStreamAckDeadlineSeconds() == 0 {
		first.StreamAckDeadlineSeconds = 60
	}
	e.must(s.Send(first))
	out := make(chan *pubsubpb.ReceivedMessage, 10_000)
	var end error
	var done sync.WaitGroup
	done.Go(func() {
		defer close(out)
		for {
			r, err := s.Recv()
			if err != nil {
				end = err
				return
			}
			for _, m := range r.GetReceivedMessages() {
				out <- m
			}
		}
	})
	e.Cleanup(func() { cancel(); done.Wait() })
	return s, out, func() error { done.Wait(); return end }
}

// receive takes n messages from a stream.
func (e env) receive(in <-chan *pubsubpb.ReceivedMessage, n int) []*pubsubpb.ReceivedMessage {
	e.Helper()
	late := time.After(patience)
	var got []*pubsubpb.ReceivedMessage
	for len(got) < n {
		select {
		case m, ok := <-in:
			if !ok {
				e.Fatalf("the stream ended after %d of %d messages", len(got), n)
			}
			got = append(got, m)
		case <-late:
			e.Fatalf("got %d of %d messages", len(got), n)
		}
	}
	return got
}

// wantQuiet checks that nothing comes from a stream for a while.
func (e env) wantQuiet(in <-chan *pubsubpb.ReceivedMessage) {
	e.Helper()
	select {
	case m, ok := <-in:
		if ok {
			e.Errorf("got message %q, want none", m.GetMessage().GetData())
		}
	case <-time.After(quiet):
	}
}

// Administration

func topics(e env) {
	_, err := e.pub.CreateTopic(e.ctx, &pubsubpb.Topic{Name: topicName, Labels: map[string]string{"team": "data"}})
	e.must(err)
	_, err = e.pub.CreateTopic(e.ctx, &pubsubpb.Topic{Name: topicName})
	e.wantCode("create again", err, codes.AlreadyExists)
	got, err := e.pub.GetTopic(e.ctx, &pubsubpb.GetTopicRequest{Topic: topicName})
	e.must(err)
	if got.GetName() != topicName || got.GetLabels()["team"] != "data" {
		e.Errorf("get: got %v", got)
	}
	got, err = e.pub.UpdateTopic(e.ctx, &pubsubpb.UpdateTopicRequest{
		Topic: &pubsubpb.Topic{Name: topicName, Labels: map[string]string{"team": "ml"}}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels"}},
	})
	e.must(err)
	if got.GetLabels()["team"] != "ml" {
		e.Errorf("update: got %v", got)
	}
	for _, id := range []string{"a", "b", "c"} {
		_, err := e.pub.CreateTopic(e.ctx, &pubsubpb.Topic{Name: "projects/other/topics/" + id})
		e.must(err)
	}
	var names []string
	for token := ""; ; {
		page, err := e.pub.ListTopics(e.ctx, &pubsubpb.ListTopicsRequest{Project: "projects/other", PageSize: 2, PageToken: token})
		e.must(err)
		for _, t := range page.GetTopics() {
			names = append(names, t.GetName())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"projects/other/topics/a", "projects/other/topics/b", "projects/other/topics/c"}, names); d != "" {
		e.Errorf("list (-want +got):\n%s", d)
	}
	_, err = e.pub.DeleteTopic(e.ctx, &pubsubpb.DeleteTopicRequest{Topic: topicName})
	e.must(err)
	_, err = e.pub.GetTopic(e.ctx, &pubsubpb.GetTopicRequest{Topic: topicName})
	e.wantCode("get after delete", err, codes.NotFound)
}

func subscriptions(e env) {
	e.create(&pubsubpb.Subscription{AckDeadlineSeconds: 20, Labels: map[string]string{"team": "data"}})
	_, err := e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{Name: subscription, Topic: topicName, AckDeadlineSeconds: 20})
	e.wantCode("create again", err, codes.AlreadyExists)
	got, err := e.sub.GetSubscription(e.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subscription})
	e.must(err)
	if got.GetTopic() != topicName || got.GetAckDeadlineSeconds() != 20 || got.GetMessageRetentionDuration().AsDuration() != 7*24*time.Hour {
		e.Errorf("get: got %v", got)
	}
	got, err = e.sub.UpdateSubscription(e.ctx, &pubsubpb.UpdateSubscriptionRequest{
		Subscription: &pubsubpb.Subscription{Name: subscription, AckDeadlineSeconds: 30, Labels: map[string]string{"ignored": "not in the mask"}},
		UpdateMask:   &fieldmaskpb.FieldMask{Paths: []string{"ack_deadline_seconds"}},
	})
	e.must(err)
	if got.GetAckDeadlineSeconds() != 30 || got.GetLabels()["team"] != "data" {
		e.Errorf("update: got %v", got)
	}
	list, err := e.sub.ListSubscriptions(e.ctx, &pubsubpb.ListSubscriptionsRequest{Project: "projects/" + project})
	e.must(err)
	if len(list.GetSubscriptions()) != 1 || list.GetSubscriptions()[0].GetName() != subscription {
		e.Errorf("list: got %v", list)
	}
	byTopic, err := e.pub.ListTopicSubscriptions(e.ctx, &pubsubpb.ListTopicSubscriptionsRequest{Topic: topicName})
	e.must(err)
	if d := cmp.Diff([]string{subscription}, byTopic.GetSubscriptions()); d != "" {
		e.Errorf("list by topic (-want +got):\n%s", d)
	}
	_, err = e.sub.DeleteSubscription(e.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subscription})
	e.must(err)
	_, err = e.sub.GetSubscription(e.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subscription})
	e.wantCode("get after delete", err, codes.NotFound)
}

func wrongRequests(e env) {
	e.create(nil)
	const none, noneSub = "projects/conformance/topics/none", "projects/conformance/subscriptions/none"
	message := []*pubsubpb.PubsubMessage{{Data: []byte("x")}}
	calls := []struct {
		name string
		want codes.Code
		call func() error
	}{
		{"publish to no topic", codes.NotFound, func() error {
			_, err := e.pub.Publish(e.ctx, &pubsubpb.PublishRequest{Topic: none, Messages: message})
			return err
		}},
		{"delete no topic", codes.NotFound, func() error {
			_, err := e.pub.DeleteTopic(e.ctx, &pubsubpb.DeleteTopicRequest{Topic: none})
			return err
		}},
		{"subscribe to no topic", codes.NotFound, func() error {
			_, err := e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{Name: noneSub, Topic: none, AckDeadlineSeconds: 10})
			return err
		}},
		{"subscription without a topic", codes.InvalidArgument, func() error {
			_, err := e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{Name: noneSub, AckDeadlineSeconds: 10})
			return err
		}},
		{"unknown dead-letter topic", codes.NotFound, func() error {
			_, err := e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{
				Name: noneSub, Topic: topicName, AckDeadlineSeconds: 10,
				DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: none, MaxDeliveryAttempts: 5},
			})
			return err
		}},
		{"retention too short", codes.InvalidArgument, func() error {
			_, err := e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{
				Name: noneSub, Topic: topicName, AckDeadlineSeconds: 10, MessageRetentionDuration: durationpb.New(time.Second),
			})
			return err
		}},
		{"pull from no subscription", codes.NotFound, func() error {
			_, err := e.sub.Pull(e.ctx, &pubsubpb.PullRequest{Subscription: noneSub, MaxMessages: 1})
			return err
		}},
		{"pull from the empty name", codes.InvalidArgument, func() error {
			_, err := e.sub.Pull(e.ctx, &pubsubpb.PullRequest{MaxMessages: 1})
			return err
		}},
		{"pull fewer than none", codes.InvalidArgument, func() error {
			_, err := e.sub.Pull(e.ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: -1})
			return err
		}},
		{"acknowledge on no subscription", codes.NotFound, func() error {
			_, err := e.sub.Acknowledge(e.ctx, &pubsubpb.AcknowledgeRequest{Subscription: noneSub, AckIds: []string{"x"}})
			return err
		}},
		{"modify on no subscription", codes.NotFound, func() error {
			_, err := e.sub.ModifyAckDeadline(e.ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: noneSub, AckIds: []string{"x"}})
			return err
		}},
		{"stream from no subscription", codes.NotFound, func() error {
			_, _, end := e.stream(&pubsubpb.StreamingPullRequest{Subscription: noneSub})
			return end()
		}},
		{"seek without a target", codes.InvalidArgument, func() error {
			_, err := e.sub.Seek(e.ctx, &pubsubpb.SeekRequest{Subscription: subscription})
			return err
		}},
		{"seek on no subscription", codes.NotFound, func() error {
			_, err := e.sub.Seek(e.ctx, &pubsubpb.SeekRequest{Subscription: noneSub, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.Now()}})
			return err
		}},
		{"update an unknown field", codes.InvalidArgument, func() error {
			_, err := e.sub.UpdateSubscription(e.ctx, &pubsubpb.UpdateSubscriptionRequest{
				Subscription: &pubsubpb.Subscription{Name: subscription}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"colour"}},
			})
			return err
		}},
	}
	for _, c := range calls {
		e.wantCode(c.name, c.call(), c.want)
	}
}

func wrongMessages(e env) {
	e.create(nil)
	long := string(make([]byte, 2000))
	many := map[string]string{}
	for i := range 101 {
		many[fmt.Sprint("k", i)] = "v"
	}
	thousandAndOne := slices.Repeat([]*pubsubpb.PubsubMessage{{Data: []byte("x")}}, 1001)
	for _, c := range []struct {
		name     string
		messages []*pubsubpb.PubsubMessage
	}{
		{"no messages", nil},
		{"an empty message", []*pubsubpb.PubsubMessage{{}}},
		{"an ordering key alone", []*pubsubpb.PubsubMessage{{OrderingKey: "k"}}},
		{"1001 messages", thousandAndOne},
		{"101 attributes", []*pubsubpb.PubsubMessage{{Attributes: many}}},
		{"a long attribute key", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{long: "v"}}}},
		{"a long attribute value", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{"k": long}}}},
		{"a reserved attribute key", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{"googclient": "v"}}}},
		{"an empty attribute key", []*pubsubpb.PubsubMessage{{Attributes: map[string]string{"": "v"}}}},
		{"a long ordering key", []*pubsubpb.PubsubMessage{{Data: []byte("x"), OrderingKey: long}}},
		{"more than 10 MB", []*pubsubpb.PubsubMessage{{Data: make([]byte, 10_000_001)}}},
		{"a good and a bad message", []*pubsubpb.PubsubMessage{{Data: []byte("good")}, {}}},
	} {
		_, err := e.pub.Publish(e.ctx, &pubsubpb.PublishRequest{Topic: topicName, Messages: c.messages})
		e.wantCode(c.name, err, codes.InvalidArgument)
	}
	e.wantNone(subscription)
}

// Delivery

func arriveAsPublished(e env) {
	e.create(nil)
	before := time.Now().Add(-time.Second)
	sent := []*pubsubpb.PubsubMessage{
		{Data: []byte("plain")},
		{Attributes: map[string]string{"a": "1", "b": "zwei", "c": ""}},
		{Data: []byte{0, 255, 128}, Attributes: map[string]string{"k": "v"}, OrderingKey: "user-1"},
		{Data: []byte("forged"), MessageId: "mine", PublishTime: timestamppb.New(time.Unix(1, 1))},
	}
	r, err := e.pub.Publish(e.ctx, &pubsubpb.PublishRequest{Topic: topicName, Messages: sent})
	e.must(err)
	got := map[string]*pubsubpb.PubsubMessage{}
	for _, m := range e.pullN(subscription, len(sent)) {
		if at := m.GetMessage().GetPublishTime().AsTime(); at.Before(before) || at.After(time.Now().Add(time.Second)) {
			e.Errorf("message %v has publish time %v", m, at)
		}
		got[m.GetMessage().GetMessageId()] = m.GetMessage()
	}
	for i, id := range r.GetMessageIds() {
		if d := cmp.Diff(sent[i], got[id], protocmp.Transform(), protocmp.IgnoreFields(sent[i], "message_id", "publish_time")); d != "" {
			e.Errorf("message %d (-sent +received):\n%s", i, d)
		}
	}
}

func uniqueIDs(e env) {
	e.create(nil)
	seen := map[string]bool{}
	for range 10 {
		for _, id := range e.publish(topicName, numbered("m", 100)) {
			if seen[id] || id == "" {
				e.Fatalf("id %q came twice, or is empty", id)
			}
			seen[id] = true
		}
	}
}

func eachSubscription(e env) {
	e.create(nil)
	const second = "projects/conformance/subscriptions/second"
	_, err := e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{Name: second, Topic: topicName, AckDeadlineSeconds: 60})
	e.must(err)
	want := numbered("m", 50)
	e.publish(topicName, want)
	first := e.pullN(subscription, 50)
	e.wantData("first", first, want)
	e.ack(subscription, first)
	e.wantData("second", e.pullN(second, 50), want)
}

func beforeSubscription(e env) {
	_, err := e.pub.CreateTopic(e.ctx, &pubsubpb.Topic{Name: topicName})
	e.must(err)
	e.publish(topicName, []string{"before"})
	_, err = e.sub.CreateSubscription(e.ctx, &pubsubpb.Subscription{Name: subscription, Topic: topicName, AckDeadlineSeconds: 60})
	e.must(err)
	e.publish(topicName, []string{"after"})
	e.wantData("pull", e.pullN(subscription, 1), []string{"after"})
	e.wantNone(subscription)
}

func sharedStreams(e env) {
	e.create(nil)
	_, a, _ := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription})
	_, b, _ := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription})
	want := numbered("m", 200)
	e.publish(topicName, want)
	var got []*pubsubpb.ReceivedMessage
	late := time.After(patience)
	for len(got) < len(want) {
		select {
		case m := <-a:
			got = append(got, m)
		case m := <-b:
			got = append(got, m)
		case <-late:
			e.Fatalf("got %d of %d messages", len(got), len(want))
		}
	}
	e.wantData("both streams", got, want)
	e.wantQuiet(a)
	e.wantQuiet(b)
}

func acknowledged(e env) {
	e.create(nil)
	e.publish(topicName, numbered("m", 20))
	got := e.pullN(subscription, 20)
	e.ack(subscription, got[:10])
	e.modify(subscription, got, 0)
	e.wantData("after the rest was refused", e.pullN(subscription, 10), dataOf(got[10:]))
	e.wantNone(subscription)
}

func refused(e env) {
	e.create(nil)
	e.publish(topicName, []string{"a"})
	for i := range 5 {
		got := e.pullN(subscription, 1)
		e.wantData(fmt.Sprint("delivery ", i), got, []string{"a"})
		e.wantNone(subscription)
		e.modify(subscription, got, 0)
	}
}

func expiredLease(e env) {
	e.create(nil)
	e.publish(topicName, numbered("m", 10))
	got := e.pullN(subscription, 10)
	e.modify(subscription, got, 1)
	again := e.pullN(subscription, 10)
	e.wantData("after a second", again, dataOf(got))
	e.ack(subscription, again)
	e.wantNone(subscription)
}

func prolongedLease(e env) {
	e.create(nil)
	e.publish(topicName, []string{"a"})
	got := e.pullN(subscription, 1)
	e.modify(subscription, got, 1)
	e.modify(subscription, got, 60)
	time.Sleep(1500 * time.Millisecond)
	e.wantNone(subscription)
}

func lateNack(e env) {
	e.create(nil)
	e.publish(topicName, []string{"a"})
	first := e.pullN(subscription, 1)
	e.modify(subscription, first, 0)
	second := e.pullN(subscription, 1)
	e.modify(subscription, first, 0)
	e.wantNone(subscription)
	e.ack(subscription, second)
	e.modify(subscription, second, 0)
	e.wantNone(subscription)
}

func streamAck(e env) {
	e.create(nil)
	s, in, end := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription})
	e.publish(topicName, numbered("m", 10))
	got := e.receive(in, 10)
	e.must(s.Send(&pubsubpb.StreamingPullRequest{AckIds: ackIDs(got[:5])}))
	e.must(s.Send(&pubsubpb.StreamingPullRequest{ModifyDeadlineAckIds: ackIDs(got), ModifyDeadlineSeconds: make([]int32, 10)}))
	again := e.receive(in, 5)
	e.wantData("refused", again, dataOf(got[5:]))
	e.must(s.Send(&pubsubpb.StreamingPullRequest{AckIds: ackIDs(again)}))
	e.wantQuiet(in)
	e.must(s.CloseSend())
	if err := end(); !errors.Is(err, io.EOF) {
		e.Errorf("the stream ended with %v, want EOF", err)
	}
}

func messageAllowance(e env) {
	e.create(nil)
	e.publish(topicName, numbered("m", 30))
	_, in, _ := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription, MaxOutstandingMessages: 10})
	got := e.receive(in, 10)
	e.wantQuiet(in)
	e.ack(subscription, got[:4])
	got = append(got, e.receive(in, 4)...)
	e.wantQuiet(in)
	e.ack(subscription, got[4:])
	got = append(got, e.receive(in, 10)...)
	e.ack(subscription, got[14:])
	got = append(got, e.receive(in, 6)...)
	e.wantData("all", got, numbered("m", 30))
}

func byteAllowance(e env) {
	e.create(nil)
	big := string(make([]byte, 1000))
	e.publish(topicName, slices.Repeat([]string{big}, 10))
	_, in, _ := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription, MaxOutstandingBytes: 2500})
	got := e.receive(in, 2) // the third may begin below the limit
	time.Sleep(quiet)
	for len(in) > 0 {
		got = append(got, <-in)
	}
	if len(got) > 3 {
		e.Errorf("got %d messages of 1000 bytes with an allowance of 2500", len(got))
	}
	for len(got) < 10 {
		e.ack(subscription, got)
		got = append(got, e.receive(in, 1)...)
	}
}

func pullLimit(e env) {
	e.create(nil)
	e.publish(topicName, numbered("m", 30))
	r, err := e.sub.Pull(e.ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 7})
	e.must(err)
	if n := len(r.GetReceivedMessages()); n < 1 || n > 7 {
		e.Errorf("got %d messages, want 1 to 7", n)
	}
}

func pullNothing(e env) {
	e.create(nil)
	ctx, cancel := context.WithTimeout(e.ctx, 2*time.Second)
	defer cancel()
	r, err := e.sub.Pull(ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 7})
	e.must(err)
	if n := len(r.GetReceivedMessages()); n != 0 {
		e.Errorf("got %d messages, want none", n)
	}
}

// Order

// byKey is the data of messages by ordering key, in the order of the list.
func byKey(list []*pubsubpb.ReceivedMessage) map[string][]string {
	out := map[string][]string{}
	for _, m := range list {
		k := m.GetMessage().GetOrderingKey()
		out[k] = append(out[k], string(m.GetMessage().GetData()))
	}
	return out
}

func orderedKeys(e env) {
	e.create(&pubsubpb.Subscription{EnableMessageOrdering: true})
	keys := []string{"a", "b", "c"}
	want := map[string][]string{}
	for i := range 30 {
		d := fmt.Sprintf("m%03d", i)
		e.publish(topicName, []string{d}, keys[i%3])
		want[keys[i%3]] = append(want[keys[i%3]], d)
	}
	var got []*pubsubpb.ReceivedMessage
	for len(got) < 30 {
		part := e.pullN(subscription, 1)
		e.ack(subscription, part)
		got = append(got, part...)
	}
	if d := cmp.Diff(want, byKey(got)); d != "" {
		e.Errorf("(-want +got):\n%s", d)
	}
}

func orderedRefused(e env) {
	e.create(&pubsubpb.Subscription{EnableMessageOrdering: true})
	want := numbered("m", 10)
	e.publish(topicName, want, "key")
	_, in, _ := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription})
	got := e.receive(in, 10)
	e.ack(subscription, got[:3])
	e.modify(subscription, got[5:6], 0) // comes again, and 6 to 9 after it
	e.ack(subscription, got[7:8])       // of no use: it has to come after the one refused
	e.wantQuiet(in)                     // 3 and 4 are still out
	e.ack(subscription, got[3:5])
	again := e.receive(in, 5)
	if d := cmp.Diff(want[5:], dataOf(again)); d != "" {
		e.Errorf("(-want +got):\n%s", d)
	}
	e.ack(subscription, again)
	e.wantQuiet(in)
}

// Dead letters

func attempts(e env) {
	_, err := e.pub.CreateTopic(e.ctx, &pubsubpb.Topic{Name: deadTopic})
	e.must(err)
	e.create(&pubsubpb.Subscription{DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: deadTopic, MaxDeliveryAttempts: 5}})
	e.publish(topicName, []string{"a"})
	for want := int32(1); want <= 3; want++ {
		got := e.pullN(subscription, 1)
		if got[0].GetDeliveryAttempt() != want {
			e.Errorf("got attempt %d, want %d", got[0].GetDeliveryAttempt(), want)
		}
		e.modify(subscription, got, 0)
	}
}

func deadLetterTopic(e env) {
	Create(e.T, e.conn, deadTopic, deadReader, nil)
	e.create(&pubsubpb.Subscription{DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: deadTopic, MaxDeliveryAttempts: 5}})
	e.publish(topicName, []string{"poison"})
	for range 5 {
		e.modify(subscription, e.pullN(subscription, 1), 0)
	}
	e.wantNone(subscription)
	got := e.pullN(deadReader, 1)
	e.wantData("dead letters", got, []string{"poison"})
	e.wantNone(subscription)
}

// Seek

func seekForward(e env) {
	e.create(nil)
	e.publish(topicName, numbered("old", 10))
	leased := e.pullN(subscription, 3)
	time.Sleep(20 * time.Millisecond)
	_, err := e.sub.Seek(e.ctx, &pubsubpb.SeekRequest{Subscription: subscription, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.Now()}})
	e.must(err)
	e.modify(subscription, leased, 0)
	e.wantNone(subscription)
	e.publish(topicName, []string{"new"})
	e.wantData("after the seek", e.pullN(subscription, 1), []string{"new"})
	e.wantNone(subscription)
}

func seekBack(e env) {
	e.create(&pubsubpb.Subscription{RetainAckedMessages: true})
	e.publish(topicName, []string{"before"})
	e.ack(subscription, e.pullN(subscription, 1))
	time.Sleep(20 * time.Millisecond)
	now := timestamppb.Now()
	time.Sleep(20 * time.Millisecond)
	want := numbered("m", 10)
	e.publish(topicName, want)
	e.ack(subscription, e.pullN(subscription, 10))
	e.wantNone(subscription)
	_, err := e.sub.Seek(e.ctx, &pubsubpb.SeekRequest{Subscription: subscription, Target: &pubsubpb.SeekRequest_Time{Time: now}})
	e.must(err)
	got := e.pullN(subscription, 10)
	e.wantData("after the seek", got, want)
	e.ack(subscription, got)
	e.wantNone(subscription)
}

func seekSnapshot(e env) {
	e.create(nil)
	e.publish(topicName, numbered("m", 10))
	got := e.pullN(subscription, 10)
	e.ack(subscription, got[:4])
	const name = "projects/conformance/snapshots/before"
	_, err := e.sub.CreateSnapshot(e.ctx, &pubsubpb.CreateSnapshotRequest{Name: name, Subscription: subscription})
	e.must(err)
	_, err = e.sub.CreateSnapshot(e.ctx, &pubsubpb.CreateSnapshotRequest{Name: name, Subscription: subscription})
	e.wantCode("create again", err, codes.AlreadyExists)
	e.publish(topicName, []string{"later"})
	e.ack(subscription, got[4:])
	e.ack(subscription, e.pullN(subscription, 1))
	e.wantNone(subscription)
	for range 2 { // a snapshot may be used again
		_, err = e.sub.Seek(e.ctx, &pubsubpb.SeekRequest{Subscription: subscription, Target: &pubsubpb.SeekRequest_Snapshot{Snapshot: name}})
		e.must(err)
		again := e.pullN(subscription, 7)
		e.wantData("after the seek", again, append(dataOf(got[4:]), "later"))
		e.ack(subscription, again)
		e.wantNone(subscription)
	}
	_, err = e.sub.DeleteSnapshot(e.ctx, &pubsubpb.DeleteSnapshotRequest{Snapshot: name})
	e.must(err)
	_, err = e.sub.Seek(e.ctx, &pubsubpb.SeekRequest{Subscription: subscription, Target: &pubsubpb.SeekRequest_Snapshot{Snapshot: name}})
	e.wantCode("seek to a deleted snapshot", err, codes.NotFound)
}

// Ends

func orphans(e env) {
	e.create(nil)
	e.publish(topicName, numbered("m", 5))
	_, err := e.pub.DeleteTopic(e.ctx, &pubsubpb.DeleteTopicRequest{Topic: topicName})
	e.must(err)
	got, err := e.sub.GetSubscription(e.ctx, &pubsubpb.GetSubscriptionRequest{Subscription: subscription})
	e.must(err)
	if got.GetTopic() != "_deleted-topic_" {
		e.Errorf("the subscription has topic %q", got.GetTopic())
	}
	e.wantData("after the delete", e.pullN(subscription, 5), numbered("m", 5))
}

func deletedStream(e env) {
	e.create(nil)
	_, _, end := e.stream(&pubsubpb.StreamingPullRequest{Subscription: subscription})
	time.Sleep(quiet) // until the stream is open
	_, err := e.sub.DeleteSubscription(e.ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: subscription})
	e.must(err)
	e.wantCode("stream", end(), codes.NotFound)
}

// Client library

func clientLibrary(e env) {
	e.create(nil)
	c := NewClient(e.T, e.harness.Addr, project)
	publisher := c.Publisher(topicName)
	defer publisher.Stop()
	want := numbered("m", 100)
	var results []*pubsub.PublishResult
	for i, d := range want {
		results = append(results, publisher.Publish(e.ctx, &pubsub.Message{Data: []byte(d), Attributes: map[string]string{"n": fmt.Sprint(i)}}))
	}
	ids := map[string]string{}
	for i, r := range results {
		id, err := r.Get(e.ctx)
		e.must(err)
		ids[id] = want[i]
	}
	ctx, stop := context.WithTimeout(e.ctx, patience)
	defer stop()
	var mu sync.Mutex
	got, refusedOnce := map[string]string{}, map[string]bool{}
	err := c.Subscriber(subscription).Receive(ctx, func(_ context.Context, m *pubsub.Message) {
		mu.Lock()
		defer mu.Unlock()
		if m.Attributes["n"] == "7" && !refusedOnce[m.ID] {
			refusedOnce[m.ID] = true
			m.Nack()
			return
		}
		m.Ack()
		got[m.ID] = string(m.Data)
		if len(got) == len(want) {
			stop()
		}
	})
	e.must(err)
	if d := cmp.Diff(ids, got); d != "" {
		e.Errorf("(-published +received):\n%s", d)
	}
	e.wantNone(subscription)
}

func clientLibraryOrdered(e env) {
	e.create(&pubsubpb.Subscription{EnableMessageOrdering: true})
	c := NewClient(e.T, e.harness.Addr, project)
	publisher := c.Publisher(topicName)
	publisher.EnableMessageOrdering = true
	defer publisher.Stop()
	want := map[string][]string{}
	var last []*pubsub.PublishResult
	for i := range 100 {
		key, d := fmt.Sprint("key", i%5), fmt.Sprintf("m%03d", i)
		want[key] = append(want[key], d)
		last = append(last, publisher.Publish(e.ctx, &pubsub.Message{Data: []byte(d), OrderingKey: key}))
	}
	for _, r := range last {
		_, err := r.Get(e.ctx)
		e.must(err)
	}
	ctx, stop := context.WithTimeout(e.ctx, patience)
	defer stop()
	var mu sync.Mutex
	n, got := 0, map[string][]string{}
	err := c.Subscriber(subscription).Receive(ctx, func(_ context.Context, m *pubsub.Message) {
		mu.Lock()
		defer mu.Unlock()
		m.Ack()
		got[m.OrderingKey] = append(got[m.OrderingKey], string(m.Data))
		if n++; n == 100 {
			stop()
		}
	})
	e.must(err)
	if d := cmp.Diff(want, got); d != "" {
		e.Errorf("(-published +received):\n%s", d)
	}
}

func largeMessages(e env) {
	e.create(nil)
	sizes := []int{9_900_000, 3_000_000, 1}
	for _, n := range sizes {
		_, err := e.pub.Publish(e.ctx, &pubsubpb.PublishRequest{Topic: topicName, Messages: []*pubsubpb.PubsubMessage{{Data: make([]byte, n)}}})
		e.must(err)
	}
	var got []int
	for _, m := range e.pullN(subscription, len(sizes)) {
		got = append(got, len(m.GetMessage().GetData()))
	}
	slices.Sort(got)
	if d := cmp.Diff([]int{1, 3_000_000, 9_900_000}, got); d != "" {
		e.Errorf("(-want +got):\n%s", d)
	}
}
