package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"backbone/testing/faults"
	"backbone/testing/ledger"
	"backbone/testing/objectservers"
	"backbone/testing/pubsubserver"
)

// A stream that is asked to end in the middle of its work commits and acknowledges what it has taken. The next launch
// goes on from there.
func TestDrain(t *testing.T) {
	slow(t)
	w := &world{T: t, day: dayOf(t, *eventsFlag), lake: filepath.Join(t.TempDir(), "lake"), rand: seeded(t)}
	server := w.startBroker(pubsubserver.Options{})
	publisher := w.startPublishing(w.options.Events / 8)
	var read, acked int64
	for range 3 {
		// Nothing would be committed before the end if it were not for the signal.
		stream := w.start(source, "--flush_interval", "5m")
		until(t, "rows wait for their commit", func() bool { return stream.spilled() > 0 })
		time.Sleep(time.Duration(w.rand.Int64N(int64(time.Second))))
		s := stream.drain()
		until(t, "the Pub/Sub server has seen that the stream is gone", func() bool { return w.broker.stats().Streams == 0 })
		now := w.broker.stats()
		if taken := now.Acked - acked; taken != s.Read || taken == 0 {
			t.Errorf("%d messages were acknowledged, and %d were read: %+v", taken, s.Read, s)
		}
		acked, read = now.Acked, read+s.Read
		// What was on its way when the stream ended has a lease for ten minutes.
		if _, err := server.ExpireLeases(subscription); err != nil {
			t.Fatal(err)
		}
	}
	// The lake holds what was acknowledged, before the rest comes.
	report, err := ledger.Check(t.Context(), ledger.Options{Truth: w.dir, Lake: w.lake})
	if err != nil {
		t.Fatal(err)
	}
	if got := int64(report.Rows + report.DeadLetters); got > read || got == 0 {
		t.Errorf("%d messages were read, and the lake has %d rows and dead letters", read, got)
	}
	for kind := range report.Counts {
		if kind != ledger.RowMissing && kind != ledger.DeadLetterMissing {
			t.Errorf("the lake holds what it must not: %v", report)
		}
	}
	publisher.wantExit(0)
	stream := w.startStream()
	until(t, "the stream pulls", func() bool { return w.broker.stats().Streams > 0 }) // it may have nothing to do
	w.untilAllAcked(stream)
	stream.drain()
	w.isTheTruth(0)
}

// A second signal ends a drain that cannot end, since the lake takes nothing. Nothing is lost.
func TestSecondSignal(t *testing.T) {
	slow(t)
	lake, network := faults.InFront(t, objectservers.StartGCS(t))
	w := &world{T: t, day: dayOf(t, *eventsFlag), lake: lake}
	server := w.startBroker(pubsubserver.Options{})
	w.startPublishing(0).wantExit(0)
	stream := w.start(source, "--flush_interval", "5m")
	// Messages that are on their way to the process are not yet its own.
	until(t, "rows wait for their commit", func() bool { return stream.spilled() > 0 })
	network.Answer(-1, http.StatusServiceUnavailable)
	tried := network.Writes()
	stream.signal(syscall.SIGTERM)
	until(t, "the stream tries to commit", func() bool { return network.Writes() > tried })
	if !stream.running() {
		t.Fatal("the stream has ended, although nothing can be committed")
	}
	stream.signal(syscall.SIGTERM)
	stream.wantExit(1)
	if stats := w.broker.stats(); stats.Acked != 0 {
		t.Errorf("messages are acknowledged: %+v", stats)
	}
	network.Heal()
	until(t, "the Pub/Sub server has seen that the stream is gone", func() bool { return w.broker.stats().Streams == 0 })
	if _, err := server.ExpireLeases(subscription); err != nil {
		t.Fatal(err)
	}
	stream = w.startStream()
	w.untilAllAcked(stream)
	stream.drain()
	w.isTheTruth(0)
}

// A disk that is full ends the run with what is wrong. When there is room, the same command completes the work.
func TestFullDisk(t *testing.T) {
	slow(t)
	tests := []struct {
		name      string
		spill     bool // it is the disk of the spill folder, and not of the lake
		inMessage []string
	}{
		{"Lake", false, []string{"no space left on device"}},
		{"Spill", true, []string{"no space left on device", "--spill_dir"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			small, grow := smallDisk(t, 1<<20)
			w := &world{T: t, day: dayOf(t, *eventsFlag), lake: filepath.Join(t.TempDir(), "lake")}
			args := []string{"--spill_dir", t.TempDir()}
			if test.spill {
				args[1] = small
			} else {
				w.lake = filepath.Join(small, "lake")
			}
			first := w.start(w.files(), args...)
			first.wantExit(1)
			for _, want := range test.inMessage {
				if !strings.Contains(tail(first.log(), 1), want) {
					t.Errorf("the last line says nothing of %q: %s", want, tail(first.log(), 1))
				}
			}
			if left := dataFiles(t, w.lake); !test.spill && len(left) == 0 {
				t.Error("nothing was committed before the disk was full")
			}
			grow()
			w.start(w.files(), args...).finish()
			w.isTheTruth(0)
		})
	}
}

// An archive that is cut short ends the run with its name. When it is whole, the same command completes the work.
func TestTruncatedArchive(t *testing.T) {
	w := &world{T: t, day: dayOf(t, *eventsFlag), lake: filepath.Join(t.TempDir(), "lake")}
	dir := t.TempDir()
	for n := range quarters {
		text, err := os.ReadFile(w.quarter(n))
		if err != nil {
			t.Fatal(err)
		}
		var archive bytes.Buffer
		z := gzip.NewWriter(&archive)
		if _, err := z.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("part-%d.jsonl.gz", n)), archive.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cut := filepath.Join(dir, "part-2.jsonl.gz")
	whole, err := os.ReadFile(cut)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, whole[:len(whole)*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	first := w.start(filepath.Join(dir, "*.gz"))
	first.wantExit(1)
	if last := tail(first.log(), 1); !strings.Contains(last, cut) {
		t.Errorf("the last line says nothing of %q: %s", cut, last)
	}
	if err := os.WriteFile(cut, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(filepath.Join(dir, "*.gz")).finish()
	w.isTheTruth(0)
}

// Partitions are marked complete when the watermark has passed their end, and never before. A row that comes later is
// there all the same, and is counted.
func TestLateRows(t *testing.T) {
	w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
	server := w.startBroker(pubsubserver.Options{})
	stream := w.startStream("--grace", "0s", "--disorder", "1ms", "--idle", "1s")

	event := func(id string, at time.Time) []byte {
		return fmt.Appendf(nil, `{"event_id":%q,"event_type":"view","event_time":%q,"user_id":"u1","item_id":"i1"}`, id, at.UTC().Format(time.RFC3339))
	}
	publish := func(all ...[]byte) {
		t.Helper()
		w.publish(topic, func(add func([]byte)) {
			for _, e := range all {
				add(e)
			}
		})
		w.untilAllAcked(stream)
	}
	success := func(at time.Time) bool {
		t.Helper()
		_, err := os.Stat(filepath.Join(w.lake, "interactions", at.UTC().Format("dt=2006-01-02/hour=15"), "_SUCCESS"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return err == nil
	}

	// Two days ago, an hour that is over; and an hour of tomorrow, which is open for as long as the test can last.
	past, open := time.Now().Add(-48*time.Hour), time.Now().Add(12*time.Hour)
	publish(event("past-1", past), event("open-1", open))
	// A silent subscription has the watermark of the clock.
	until(t, "the partition of the past is complete", func() bool { return success(past) })
	if success(open) {
		t.Error("the partition that is open was marked complete")
	}

	publish(event("past-2", past), event("past-3", past.Add(time.Second)), event("open-2", open))
	s := stream.drain()
	w.wantCounts(s, summary{Outcome: "drained", Read: 5, Committed: 5})
	if s.Late != 2 {
		t.Errorf("%d rows were late, want past-2 and past-3: %+v", s.Late, s)
	}
	if success(open) {
		t.Error("the partition that is open was marked complete by the drain")
	}
	if h := hash(t, w.lake); h.rows.Rows != 5 {
		t.Errorf("the lake has %v", h.rows)
	}
	if stats := server.Stats().Subscriptions[subscription]; stats.Acked != 5 {
		t.Errorf("not all is acknowledged: %+v", stats)
	}
	runCommand(t, "verify", "verify", "--lake", w.lake)
}
