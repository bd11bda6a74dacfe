package pubsubserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
)

// session is a server on a folder, to be closed and opened again within a test.
type session struct {
	*pubsubserver.Server
	served chan error
	sub    pubsubpb.SubscriberClient
	pub    pubsubpb.PublisherClient
}

func open(t *testing.T, o pubsubserver.Options) *session {
	t.Helper()
	s, err := pubsubserver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	conn := pubsubtest.Dial(t, s.Addr())
	x := &session{Server: s, served: make(chan error, 1), sub: pubsubpb.NewSubscriberClient(conn), pub: pubsubpb.NewPublisherClient(conn)}
	go func() { x.served <- s.Serve() }()
	return x
}

func (x *session) end(t *testing.T) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if err := <-x.served; err != nil {
		t.Error(err)
	}
}

func data(list []*pubsubpb.ReceivedMessage) []string {
	var out []string
	for _, m := range list {
		out = append(out, string(m.GetMessage().GetData()))
	}
	slices.Sort(out)
	return out
}

func TestRestartKeepsState(t *testing.T) {
	o := pubsubserver.Options{DataDir: t.TempDir()}
	s := open(t, o)
	ctx := t.Context()
	if _, err := s.pub.CreateTopic(ctx, &pubsubpb.Topic{Name: topic, Labels: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sub.CreateSubscription(ctx, &pubsubpb.Subscription{Name: subscription, Topic: topic, RetainAckedMessages: true}); err != nil {
		t.Fatal(err)
	}
	publish(t, s.Server, "a", "b", "c", "d")
	first := pull(t, s.sub, 2)
	ackAll(t, s.sub, first)
	const snapshot = "projects/p/snapshots/two"
	if _, err := s.sub.CreateSnapshot(ctx, &pubsubpb.CreateSnapshotRequest{Name: snapshot, Subscription: subscription}); err != nil {
		t.Fatal(err)
	}
	before := pull(t, s.sub, 1) // leased when the server ends

	// A restart reads a log of changes, the one after it a checkpoint: both must say the same.
	for i := range 3 {
		s.end(t)
		s = open(t, o)
		got := pull(t, s.sub, 10)
		if d := cmp.Diff([]string{"c", "d"}, data(got)); d != "" {
			t.Fatalf("restart %d (-want +got):\n%s", i, d)
		}
	}
	if got, err := s.pub.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: topic}); err != nil || got.GetLabels()["k"] != "v" {
		t.Errorf("get topic: %v, %v", got, err)
	}
	ackAll(t, s.sub, before) // the ack id of an earlier life still names its message
	if got := s.Stats().Subscriptions[subscription].Backlog; got != 1 {
		t.Errorf("the backlog is %d, want 1", got)
	}
	id := first[0].GetMessage().GetMessageId()
	ids, err := s.Publish(ctx, topic, &pubsubpb.PubsubMessage{Data: []byte("e")})
	if err != nil || ids[0] <= id {
		t.Errorf("got id %v, %v; want one after %v", ids, err, id)
	}

	s.end(t)
	s = open(t, o)
	if _, err := s.sub.Seek(ctx, &pubsubpb.SeekRequest{Subscription: subscription, Target: &pubsubpb.SeekRequest_Snapshot{Snapshot: snapshot}}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"c", "d", "e"}, data(pull(t, s.sub, 10))); d != "" {
		t.Errorf("after a seek to the snapshot (-want +got):\n%s", d)
	}
	s.end(t)
	s = open(t, o)
	if d := cmp.Diff([]string{"c", "d", "e"}, data(pull(t, s.sub, 10))); d != "" {
		t.Errorf("after the seek and a restart (-want +got):\n%s", d)
	}
	s.end(t)
}

func TestSeekBackAfterRestart(t *testing.T) {
	o := pubsubserver.Options{DataDir: t.TempDir()}
	s := open(t, o)
	if _, err := s.pub.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sub.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscription, Topic: topic, RetainAckedMessages: true}); err != nil {
		t.Fatal(err)
	}
	publish(t, s.Server, "a", "b")
	ackAll(t, s.sub, pull(t, s.sub, 2))
	for range 2 {
		s.end(t)
		s = open(t, o)
	}
	if got := pull(t, s.sub, 10); len(got) > 0 {
		t.Errorf("acknowledged, and there again: %v", got)
	}
	if _, err := s.sub.Seek(t.Context(), &pubsubpb.SeekRequest{Subscription: subscription, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.New(time.Unix(1, 0))}}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a", "b"}, data(pull(t, s.sub, 10))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	s.end(t)
}

func TestOneServerHasAFolder(t *testing.T) {
	o := pubsubserver.Options{DataDir: t.TempDir()}
	s := open(t, o)
	if _, err := pubsubserver.New(o); err == nil {
		t.Error("a second server opened the folder of the first")
	}
	s.end(t)
	open(t, o).end(t)
}

// TestTornEnd cuts the log at every byte of its end: what was before the cut must be there, and the server must go on.
func TestTornEnd(t *testing.T) {
	from := t.TempDir()
	s := open(t, pubsubserver.Options{DataDir: from})
	if _, err := s.pub.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sub.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscription, Topic: topic}); err != nil {
		t.Fatal(err)
	}
	publish(t, s.Server, "kept")
	kept := logBytes(t, from)
	publish(t, s.Server, "torn")
	s.end(t)
	whole := logBytes(t, from)
	for _, damage := range []struct {
		name string
		make func(b []byte, i int) []byte
	}{
		{"cut", func(b []byte, i int) []byte { return b[:i] }},
		{"zeros", func(b []byte, i int) []byte { return append(b[:i:i], make([]byte, len(b)-i+100)...) }},
		{"flipped", func(b []byte, i int) []byte { b = slices.Clone(b); b[i] ^= 1; return b }},
	} {
		for i := len(kept); i < len(whole); i++ {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, logFile(t, from)), damage.make(whole, i), 0o600); err != nil {
				t.Fatal(err)
			}
			lives := 1
			if i%10 == 0 {
				lives = 2 // once cut off, it must not be in the way of the next start
			}
			for life := range lives {
				s, err := pubsubserver.New(pubsubserver.Options{DataDir: dir})
				if err != nil {
					t.Fatalf("%s at %d, life %d: %v", damage.name, i, life, err)
				}
				if got := s.Stats().Subscriptions[subscription].Backlog; got != 1 {
					t.Errorf("%s at %d, life %d: the backlog is %d, want 1", damage.name, i, life, got)
				}
				if err := s.Close(); err != nil {
					t.Errorf("%s at %d, life %d: %v", damage.name, i, life, err)
				}
			}
		}
	}
}

// TestDamageIsNotIgnored flips a byte in a segment that is not the newest: that is no crash, and must not pass for one.
func TestDamageIsNotIgnored(t *testing.T) {
	dir := t.TempDir()
	o := pubsubserver.Options{DataDir: dir}
	s := open(t, o)
	if _, err := s.pub.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sub.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscription, Topic: topic}); err != nil {
		t.Fatal(err)
	}
	publish(t, s.Server, "a")
	s.end(t)
	name := logFile(t, dir)
	open(t, o).end(t) // begins a second segment
	b := logBytesOf(t, filepath.Join(dir, name))
	b[len(b)-1] ^= 1
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pubsubserver.New(o); err == nil {
		t.Error("a damaged log was opened")
	}
}

func logFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the log has files %v, %v; want one", files, err)
	}
	return filepath.Base(files[0])
}

func logBytes(t *testing.T, dir string) []byte {
	t.Helper()
	return logBytesOf(t, filepath.Join(dir, logFile(t, dir)))
}

func logBytesOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLogShrinks publishes and acknowledges many segments' worth: the log must not keep them, nor lose what is left.
func TestLogShrinks(t *testing.T) {
	o := pubsubserver.Options{DataDir: t.TempDir(), SegmentBytes: 20_000}
	s := open(t, o)
	if _, err := s.pub.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sub.CreateSubscription(t.Context(), &pubsubpb.Subscription{Name: subscription, Topic: topic}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("%03d%01000d", i, 0)
		publish(t, s.Server, name)
		if i == 13 || i == 77 { // stays, so its segment must
			pull(t, s.sub, 1)
			want = append(want, name)
			continue
		}
		ackAll(t, s.sub, pull(t, s.sub, 1))
	}
	if n := s.Stats().LogBytes; n > 80_000 { // two segments with a message, the newest, and one just sealed
		t.Errorf("the log has %d bytes for 2 messages of 1 kB", n)
	}
	for range 2 {
		s.end(t)
		s = open(t, o)
		if d := cmp.Diff(want, data(pull(t, s.sub, 100))); d != "" {
			t.Fatalf("after a restart (-want +got):\n%s", d)
		}
	}
	s.end(t)
}

// Crashes

const (
	crashEnv   = "BACKBONE_PUBSUB_TEST_DIR"
	segmentEnv = "BACKBONE_PUBSUB_TEST_SEGMENTS" // not empty: of the usual size
)

// inMemory stands for a folder where there is to be none.
const inMemory = "memory"

func crashDir() string { return os.Getenv(crashEnv) }

// serveUntilKilled is the other process: a server on dir which prints its address.
func serveUntilKilled(dir string) {
	o := pubsubserver.Options{DataDir: dir, SegmentBytes: 200_000, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if os.Getenv(segmentEnv) != "" {
		o.SegmentBytes = 0
	}
	if dir == inMemory {
		o.DataDir = ""
	}
	s, err := pubsubserver.New(o)
	if err == nil {
		fmt.Println(s.Addr())
		err = s.Serve()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process starts a server process and returns its address and a function that kills it with -9.
func process(t testing.TB, dir string, env ...string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), crashEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // it was killed: that is its error
	})
	t.Cleanup(kill)
	addr, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server process did not start: %v", err)
	}
	return addr[:len(addr)-1], kill
}

// TestKill9 kills the server again and again while clients publish and acknowledge. Each message whose Publish returned OK
// must be delivered until an acknowledgement for it was sent.
func TestKill9(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	var mu sync.Mutex
	confirmed, acked := map[string]bool{}, map[string]bool{} // ids of messages; the ledger
	random := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		addr, kill := process(t, dir)
		conn := pubsubtest.Dial(t, addr)
		pub, sub := pubsubpb.NewPublisherClient(conn), pubsubpb.NewSubscriberClient(conn)
		if round == 0 {
			pubsubtest.Create(t, conn, topic, subscription, nil)
		}
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for p := range 3 {
			clients.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					req := &pubsubpb.PublishRequest{Topic: topic}
					for k := range 1 + i%20 {
						req.Messages = append(req.Messages, &pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, "%d/%d/%d/%d%0200d", round, p, i, k, 0)})
					}
					r, err := pub.Publish(ctx, req)
					if err != nil {
						return
					}
					mu.Lock()
					for _, id := range r.GetMessageIds() {
						if confirmed[id] {
							t.Errorf("id %q was given twice", id)
						}
						confirmed[id] = true
					}
					mu.Unlock()
				}
			})
		}
		clients.Go(func() {
			for ctx.Err() == nil {
				r, err := sub.Pull(ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 50})
				if err != nil {
					return
				}
				var ids []string
				mu.Lock()
				for i, m := range r.GetReceivedMessages() {
					if i%3 > 0 { // what is acknowledged here may be lost, so it counts from before the call
						acked[m.GetMessage().GetMessageId()] = true
						ids = append(ids, m.GetAckId())
					}
				}
				mu.Unlock()
				if len(ids) == 0 {
					continue
				}
				if _, err := sub.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ids}); err != nil {
					return
				}
			}
		})
		time.Sleep(time.Duration(50+random.IntN(250)) * time.Millisecond)
		kill()
		stop()
		clients.Wait()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}

	addr, kill := process(t, dir)
	sub := pubsubpb.NewSubscriberClient(pubsubtest.Dial(t, addr))
	delivered := map[string]bool{}
	for {
		got := pull(t, sub, 1000)
		if len(got) == 0 {
			break
		}
		for _, m := range got {
			delivered[m.GetMessage().GetMessageId()] = true
		}
	}
	kill()
	lost, again := 0, 0
	for id := range confirmed {
		switch {
		case !acked[id] && !delivered[id]:
			lost++
		case acked[id] && delivered[id]:
			again++
		}
	}
	t.Logf("%d messages confirmed in %d lives, %d acknowledged, %d of these delivered again", len(confirmed), rounds, len(acked), again)
	if lost > 0 {
		t.Errorf("%d of %d confirmed messages were lost", lost, len(confirmed))
	}
	if len(confirmed) < 100 || len(acked) < 100 {
		t.Errorf("too little happened: %d confirmed, %d acknowledged", len(confirmed), len(acked))
	}
	if again > len(acked)/2 {
		t.Errorf("%d of %d acknowledged messages came again: acknowledgements are not kept", again, len(acked))
	}
}
