package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"backbone/testing/ledger"
	"backbone/testing/pubsubserver"
)

// contextsOf writes a context for each session of a day, from before its first event on, and for every third session another
// one in the middle of it. It returns the file.
func (w *world) contextsOf() string {
	w.Helper()
	type event struct {
		SessionID string    `json:"session_id"`
		EventTime time.Time `json:"event_time"`
	}
	first, last := map[string]time.Time{}, map[string]time.Time{}
	var order []string
	for n := range quarters {
		file, err := os.Open(w.quarter(n))
		if err != nil {
			w.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) != nil || e.SessionID == "" || e.EventTime.Year() != 2026 {
				continue // a broken one
			}
			if at, known := first[e.SessionID]; !known || e.EventTime.Before(at) {
				if !known {
					order = append(order, e.SessionID)
				}
				first[e.SessionID] = e.EventTime
			}
			if e.EventTime.After(last[e.SessionID]) {
				last[e.SessionID] = e.EventTime
			}
		}
		if err := lines.Err(); err != nil {
			w.Fatal(err)
		}
		_ = file.Close() // only read
	}
	var out strings.Builder
	write := func(session string, at time.Time, weather string) {
		text, err := json.Marshal(map[string]any{
			"event_id": session + "-" + weather, "session_id": session, "event_time": at.UTC(), "context": map[string]any{"network": "wifi"},
			"attributes": map[string]string{"weather": weather},
		})
		if err != nil {
			w.Fatal(err)
		}
		out.Write(append(text, '\n'))
	}
	for i, session := range order {
		if strings.ContainsAny(session, "/\n") || len(session) > 100 {
			continue // a broken event has it
		}
		write(session, first[session].Add(-time.Second), "sun")
		if i%3 == 0 {
			write(session, first[session].Add(last[session].Sub(first[session])/2), "rain")
		}
	}
	path := filepath.Join(w.TempDir(), "contexts.jsonl")
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// The topic and the subscription of contexts.
const (
	contextTopic        = "projects/shop/topics/contexts"
	contextSubscription = "projects/shop/subscriptions/contexts"
)

// Interactions that are joined to a context stream are the same in a batch, and in a stream that is killed again and again; and so are
// their windows.
func TestContextsKilledAtRandom(t *testing.T) {
	slow(t)
	day := dayOf(t, *eventsFlag)
	rand := seeded(t)
	batch := &world{T: t, day: day, lake: filepath.Join(t.TempDir(), "lake"), rand: rand}
	contexts := batch.contextsOf()
	s := batch.start(batch.files(), append(slices.Clip(aggregate), "--context", contexts)...).finish()
	if s.DeadLettered != int64(day.total.Broken) {
		t.Errorf("%d dead letters, want %d: all contexts are good", s.DeadLettered, day.total.Broken)
	}
	want, wantWindows := joinedHash(t, batch.lake), batch.windowsAreTheModel()

	w := &world{T: t, day: day, lake: filepath.Join(t.TempDir(), "lake"), rand: rand}
	server := w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	if err := server.Create(t.Context(), contextTopic, contextSubscription); err != nil {
		t.Fatal(err)
	}
	start := func() *job {
		args := []string{"--context", "pubsub://shop/contexts", "--context_flush", "200ms", "--context_wait", "500ms"}
		return w.startStream(append(args, settleSoon...)...)
	}
	backlog := func() int64 { return server.Stats().Subscriptions[contextSubscription].Backlog }
	stream := start()
	w.publishTo(contextTopic, contexts)
	kills := 0
	kill := func(most time.Duration) {
		time.Sleep(time.Duration(rand.Int64N(int64(most))))
		stream.kill()
		kills++
		stream = start()
	}
	kill(2 * time.Second)
	until(t, "the contexts are committed", func() bool { return backlog() == 0 })
	publisher := w.startPublishing(max(200, w.options.Events/30))
	for publisher.running() {
		kill(5 * time.Second)
	}
	publisher.wantExit(0)
	w.settleStream(stream)
	if got := w.windowsAreTheModel(); got != wantWindows {
		t.Errorf("after %d kills the windows have hash %s, want %s as in a batch", kills, got, wantWindows)
	}
	if got := joinedHash(t, w.lake); got != want {
		t.Errorf("after %d kills the rows have hash %v, want %v as in a batch", kills, got, want)
	}
	runCommand(t, "verify", "verify", "--lake", w.lake)
	if kills < 5 {
		t.Errorf("it was killed %d times, want at least 5", kills)
	}
	t.Logf("%v after %d kills", want, kills)
}

// joinedHash returns the hash of the interactions and contexts of a lake.
func joinedHash(t *testing.T, lake string) string {
	t.Helper()
	var out []string
	for _, table := range []string{"interactions", "contexts"} {
		h, err := ledger.RowHash(t.Context(), lake, table)
		if err != nil {
			t.Fatal(err)
		}
		if h.Rows == 0 {
			t.Fatalf("there are no %s", table)
		}
		out = append(out, fmt.Sprintf("%s: %v", table, h))
	}
	return strings.Join(out, ", ")
}
