package pubsubserver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"backbone/testing/pubsubserver/pubsubtest"
)

// benchmarkMessages is one full Publish request of messages of about 400 bytes.
func benchmarkMessages() *pubsubpb.PublishRequest {
	req := &pubsubpb.PublishRequest{Topic: topic}
	for i := range 1000 {
		req.Messages = append(req.Messages, &pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, `{"event_id":"%08d",%s}`, i, strings.Repeat("x", 380))})
	}
	return req
}

// serverFor starts the server of a benchmark: a process of its own, as it is used.
func serverFor(b *testing.B, dir string) (addr string, kill func()) {
	b.Helper()
	addr, kill = process(b, dir, segmentEnv+"=usual")
	conn := pubsubtest.Dial(b, addr)
	pubsubtest.Create(b, conn, topic, subscription, nil)
	return addr, kill
}

// fill publishes n thousand messages by several calls at a time.
func fill(b *testing.B, addr string, thousands int) {
	b.Helper()
	req := benchmarkMessages()
	left := make(chan struct{}, thousands)
	for range thousands {
		left <- struct{}{}
	}
	close(left)
	var calls sync.WaitGroup
	for range 4 {
		conn := pubsubtest.Dial(b, addr)
		calls.Go(func() {
			pub := pubsubpb.NewPublisherClient(conn)
			for range left {
				if _, err := pub.Publish(context.Background(), req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	calls.Wait()
}

func perSecond(b *testing.B, messages int, d time.Duration) {
	b.Helper()
	b.ReportMetric(float64(messages)/d.Seconds(), "msgs/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPublish publishes from one process to a server in another, 1000 messages a call.
func BenchmarkPublish(b *testing.B) {
	for _, where := range []string{"memory", "disk"} {
		b.Run(where, func(b *testing.B) {
			addr, _ := serverFor(b, dirFor(b, where))
			for b.Loop() {
				start := time.Now()
				fill(b, addr, 200)
				perSecond(b, 200_000, time.Since(start))
			}
		})
	}
}

func dirFor(b *testing.B, where string) string {
	b.Helper()
	if where == "memory" {
		return inMemory
	}
	return b.TempDir()
}

// BenchmarkStreamingPull receives and acknowledges a backlog of 500,000 messages by a plain gRPC client.
func BenchmarkStreamingPull(b *testing.B) {
	const n = 500_000
	for _, where := range []string{"memory", "disk"} {
		for _, streams := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/streams=%d", where, streams), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					// A new server each time: the old one may still give messages to the streams that just ended.
					addr, kill := serverFor(b, dirFor(b, where))
					fill(b, addr, n/1000)
					b.StartTimer()
					start := time.Now()
					drain(b, addr, streams, n)
					perSecond(b, n, time.Since(start))
					b.StopTimer()
					kill()
					b.StartTimer()
				}
			})
		}
	}
}

// drain takes n messages by streams, and acknowledges each response with one call.
func drain(b *testing.B, addr string, streams, n int) {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	counts := make(chan int)
	var readers sync.WaitGroup
	for range streams {
		sub := pubsubpb.NewSubscriberClient(pubsubtest.Dial(b, addr))
		s, err := sub.StreamingPull(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Send(&pubsubpb.StreamingPullRequest{Subscription: subscription, StreamAckDeadlineSeconds: 600}); err != nil {
			b.Fatal(err)
		}
		acks := make(chan []string, 64)
		readers.Go(func() {
			defer close(acks)
			for {
				r, err := s.Recv()
				if err != nil {
					return // at the end, when it is stopped
				}
				ids := make([]string, len(r.GetReceivedMessages()))
				for i, m := range r.GetReceivedMessages() {
					ids[i] = m.GetAckId()
				}
				acks <- ids
			}
		})
		readers.Go(func() {
			for ids := range acks {
				if _, err := sub.Acknowledge(context.Background(), &pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ids}); err != nil {
					b.Error(err)
				}
				counts <- len(ids)
			}
		})
	}
	for got := 0; got < n; {
		got += <-counts
	}
	stop()
	readers.Wait()
}
