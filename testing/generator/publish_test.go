package generator

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const topic = "projects/shop/topics/events"

// newPublisher returns a publisher to a server in memory, which has the topic if made is set.
func newPublisher(t *testing.T, made bool) (*pstest.Server, *pubsub.Publisher) {
	t.Helper()
	server := pstest.NewServer()
	conn, err := grpc.NewClient(server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := pubsub.NewClient(context.Background(), "shop", option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Error(err)
		}
	})
	if made {
		if _, err := client.TopicAdminClient.CreateTopic(context.Background(), &pubsubpb.Topic{Name: topic}); err != nil {
			t.Fatal(err)
		}
	}
	publisher := client.Publisher(topic)
	publisher.PublishSettings = PublishSettings()
	return server, publisher
}

func TestPublish(t *testing.T) {
	server, publisher := newPublisher(t, true)
	o := Options{Events: 3_000, Seed: 5}
	dir := t.TempDir()
	total, err := mustNew(t, o).Publish(context.Background(), publisher, PublishOptions{TruthDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if total.Events != o.Events || total.Repeated == 0 || total.Broken == 0 {
		t.Errorf("totals are %+v", total)
	}

	type key struct{ id, data string }
	got := map[key]int{}
	times := map[string]string{}
	for _, m := range server.Messages() {
		got[key{m.Attributes[IDAttribute], string(m.Data)}]++
		times[m.Attributes[IDAttribute]] = m.Attributes[TimeAttribute]
	}
	again := mustNew(t, o)
	for e, ok := again.Next(); ok; e, ok = again.Next() {
		got[key{e.ID, string(bytes.Clone(e.Data))}]--
		if at, err := time.Parse(time.RFC3339Nano, times[e.ID]); err != nil || at.UnixMicro() != e.EventMicros {
			t.Fatalf("attribute %s of %s is %q (%v), want %d", TimeAttribute, e.ID, times[e.ID], err, e.EventMicros)
		}
	}
	for k, n := range got {
		if n != 0 {
			t.Errorf("event %s was published %d times more often than it was made", k.id, n)
		}
	}

	rows := 0
	if err := ReadTruth(dir, func(*Truth) error { rows++; return nil }); err != nil || rows != o.Events {
		t.Errorf("the truth has %d rows (%v), want %d", rows, err, o.Events)
	}
}

func TestPublishFails(t *testing.T) {
	_, publisher := newPublisher(t, false)
	if _, err := mustNew(t, Options{Events: 100}).Publish(context.Background(), publisher, PublishOptions{}); err == nil {
		t.Error("publishing to a topic that does not exist gave no error")
	}
}

func TestPublishStops(t *testing.T) {
	server, publisher := newPublisher(t, true)
	ctx, cancel := context.WithCancel(context.Background())
	o := Options{Events: 50_000, BrokenShare: -1, Progress: func(int) { cancel() }}
	total, err := mustNew(t, o).Publish(ctx, publisher, PublishOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	if got := len(server.Messages()); got != total.Events || got != progressEvery {
		t.Errorf("%d messages were published and %d counted, want %d", got, total.Events, progressEvery)
	}
}

func TestPublishInRealtime(t *testing.T) {
	server, publisher := newPublisher(t, true)
	start := time.Now()
	o := Options{Events: 200, Start: start, Duration: time.Second, MaxLate: time.Second}
	if _, err := mustNew(t, o).Publish(context.Background(), publisher, PublishOptions{Realtime: true}); err != nil {
		t.Fatal(err)
	}
	for _, m := range server.Messages() {
		at, err := time.Parse(time.RFC3339Nano, m.Attributes[TimeAttribute])
		if err != nil || m.PublishTime.Add(time.Millisecond).Before(at) || at.Before(start.Truncate(time.Microsecond)) {
			t.Errorf("an event of %v (%v) was published at %v", at, err, m.PublishTime)
		}
	}
}
