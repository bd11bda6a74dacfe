package pubsub

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"pgregory.net/rapid"

	"backbone/transforms/lake"
	"backbone/transforms/run"
)

const testSubscription = "projects/shop/subscriptions/lake"

// ackServer notes requests to acknowledge.
type ackServer struct {
	pubsubpb.UnimplementedSubscriberServer
	refuse error

	mu       sync.Mutex
	requests []*pubsubpb.AcknowledgeRequest
}

func (s *ackServer) Acknowledge(_ context.Context, r *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if s.refuse != nil {
		return nil, s.refuse
	}
	return &emptypb.Empty{}, nil
}

// startAckServer makes s the Pub/Sub of the test.
func startAckServer(t *testing.T, s *ackServer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pubsubpb.RegisterSubscriberServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Setenv("PUBSUB_EMULATOR_HOST", l.Addr().String())
}

func closeRun(t testing.TB, id string) *run.Run {
	t.Helper()
	r := run.Of(id)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// acknowledge runs Acknowledge over tokens of parcels.
func acknowledge(t *testing.T, id string, tokens ...[]byte) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	Acknowledge(s, beam.CreateList(s, tokens), Options{Subscription: testSubscription, RunID: id})
	ptest.RunAndValidate(t, p)
}

// The messages of a bundle are acknowledged in few requests, none larger than Pub/Sub takes.
func TestAcknowledgeInBatches(t *testing.T) {
	for _, tc := range []struct {
		name        string
		tokens      int
		size        int // of an id
		maxRequests int
	}{
		{"one request", 100, 10, 1},
		{"many ids", 6000, 10, 3},    // 2500 + 2500 + 1000
		{"long ids", 3000, 400, 3},   // 404 * 3000 / 450 KiB = 2.6
		{"longer ids", 600, 4000, 6}, // 4004 * 600 / 450 KiB = 5.2
	} {
		t.Run(tc.name, func(t *testing.T) {
			var server ackServer
			startAckServer(t, &server)
			r := closeRun(t, t.Name())
			var parcels [][]byte
			want := map[string]bool{}
			for i := range tc.tokens {
				id := fmt.Sprintf("%0*d", tc.size, i)
				want[id] = true
				if i%10 == 0 { // several tokens in a parcel
					parcels = append(parcels, nil)
				}
				parcels[len(parcels)-1] = lake.AppendToken(parcels[len(parcels)-1], id, 1)
			}
			acknowledge(t, t.Name(), parcels...)
			if len(server.requests) > tc.maxRequests {
				t.Errorf("%d requests, want %d at most", len(server.requests), tc.maxRequests)
			}
			got := map[string]bool{}
			for _, request := range server.requests {
				if size := proto.Size(request); size > 512<<10 || request.Subscription != testSubscription {
					t.Errorf("a request of %d bytes for %q", size, request.Subscription)
				}
				for _, id := range request.AckIds {
					if got[id] {
						t.Errorf("%q is acknowledged twice", id)
					}
					got[id] = true
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("acknowledged (-want +got):\n%s", diff)
			}
			if n := r.Counts()["pubsub/acknowledged"]; n != int64(tc.tokens) {
				t.Errorf("pubsub/acknowledged is %d, want %d", n, tc.tokens)
			}
		})
	}
}

// A message that came apart is acknowledged when the last of its parcels is durable, even if another bundle has it.
func TestAcknowledgeWaitsForAllParts(t *testing.T) {
	var server ackServer
	startAckServer(t, &server)
	closeRun(t, t.Name())
	parcel := func(tokens ...string) (b []byte) {
		for _, token := range tokens {
			b = lake.AppendToken(b, token, 3)
		}
		return b
	}
	acknowledge(t, t.Name(), parcel("a", "b"))
	acknowledge(t, t.Name(), parcel("a"), parcel("b"))
	if len(server.requests) != 0 {
		t.Errorf("acknowledged %v, though a third of each message is not durable", server.requests)
	}
	acknowledge(t, t.Name(), parcel("b"))
	if len(server.requests) != 1 || !slices.Equal(server.requests[0].AckIds, []string{"b"}) {
		t.Errorf("acknowledged %v, want b", server.requests)
	}
}

// What can't be acknowledged comes again: that is no failure of the run, and is not counted as acknowledged.
func TestRefusedAcknowledgement(t *testing.T) {
	server := ackServer{refuse: status.Error(codes.InvalidArgument, "not today")}
	startAckServer(t, &server)
	r := closeRun(t, t.Name())
	acknowledge(t, t.Name(), lake.AppendToken(nil, "a", 1))
	if len(server.requests) != 1 {
		t.Errorf("%d requests, want 1", len(server.requests))
	}
	if n := r.Counts()["pubsub/acknowledged"]; n != 0 {
		t.Errorf("pubsub/acknowledged is %d", n)
	}
}

func TestDamagedTokens(t *testing.T) {
	startAckServer(t, &ackServer{})
	closeRun(t, t.Name())
	p, s := beam.NewPipelineWithRoot()
	Acknowledge(s, beam.Create(s, []byte{1, 200, 'x'}), Options{Subscription: testSubscription, RunID: t.Name()})
	if err := ptest.Run(p); err == nil {
		t.Error("damaged tokens were taken")
	}
}

// Of each message, exactly the last of its parts says so, in whatever order the parts come.
func TestPartsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &parts{left: map[string]waiting{}}
		var all []string
		left := map[string]int{}
		for i := range rapid.IntRange(1, 6).Draw(t, "messages") {
			id := fmt.Sprint(i)
			left[id] = rapid.IntRange(1, 4).Draw(t, "parts")
			all = append(all, slices.Repeat([]string{id}, left[id])...)
		}
		total := map[string]int{}
		for id, n := range left {
			total[id] = n
		}
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		for _, id := range rapid.Permutation(all).Draw(t, "order") {
			left[id]--
			if got, want := p.last(id, total[id], now), left[id] == 0; got != want {
				t.Fatalf("a part of %q, %d left: last is %v", id, left[id], got)
			}
			now = now.Add(time.Second)
		}
		if len(p.left) != 0 {
			t.Fatalf("%v is remembered after all parts", p.left)
		}
	})
}

// A message of which a part never comes has come back by then under another id: it is forgotten.
func TestPartsAreForgotten(t *testing.T) {
	p := &parts{left: map[string]waiting{}}
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	p.last("old", 2, start)
	p.last("new", 2, start.Add(2*ackDeadline))
	if len(p.left) != 2 {
		t.Errorf("%v is remembered, want both", p.left)
	}
	p.last("newer", 2, start.Add(3*ackDeadline+time.Second))
	if _, ok := p.left["old"]; ok || len(p.left) != 2 {
		t.Errorf("%v is remembered, want new and newer", p.left)
	}
}
