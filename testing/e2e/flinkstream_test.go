//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"backbone/testing/flinkcluster"
	"backbone/testing/pubsubserver"
)

// On a cluster, a stream gives the lake that a batch gives on one machine: the same rows, dead letters and results of windows. Whoever starts it
// a second time is told that it is there.
func TestFlinkStream(t *testing.T) {
	slow(t)
	shared := newFlinkWorld(t, 2)
	type streamWorld struct {
		flinkWorld
		server *pubsubserver.Server
	}
	in := func(t *testing.T) *streamWorld {
		t.Helper()
		w := &streamWorld{flinkWorld: *shared}
		w.world = emptyLake(t, shared.day)
		w.server = w.startBroker(pubsubserver.Options{MaxLease: shortLease})
		return w
	}

	t.Run("Day", func(t *testing.T) {
		w := in(t)
		stream := w.submitStream()
		w.startPublishing(0).wantExit(0)
		w.untilAllAcked(stream)
		again := w.submitStream().finish()
		if again.Outcome != "there" || again.Read != 0 {
			t.Errorf("a second launch ends as %+v", again)
		}
		w.wantCounts(stream.drain(), summary{
			Outcome: "drained", Read: int64(w.total.Events), Committed: int64(w.total.Rows),
			Duplicate: int64(w.total.Repeated), DeadLettered: int64(w.total.Broken),
		})
		w.isTheTruth(0)
		w.nothingIsLeft()
	})

	t.Run("StateBackend", func(t *testing.T) {
		w := in(t)
		stream := w.submitStream("--flink_state_backend=hashmap")
		w.startPublishing(0).wantExit(0)
		w.untilAllAcked(stream)
		stream.drain()
		w.isTheTruth(0)
		w.nothingIsLeft()
	})

	t.Run("Windows", func(t *testing.T) {
		w := in(t)
		batch := emptyLake(t, w.day)
		contexts := batch.contextsOf()
		batch.start(batch.files(), append(slices.Clip(aggregate), "--context", contexts)...).finish()
		want, wantRows := batch.windowsAreTheModel(), joinedHash(t, batch.lake)

		if err := w.server.Create(t.Context(), contextTopic, contextSubscription); err != nil {
			t.Fatal(err)
		}
		stream := w.submitStream(append(slices.Clip(settleSoon), "--context", "pubsub://shop/contexts", "--context_flush", "200ms", "--context_wait", "500ms")...)
		w.publishTo(contextTopic, contexts)
		until(t, "the contexts are committed", func() bool { return w.server.Stats().Subscriptions[contextSubscription].Backlog == 0 })
		w.startPublishing(0).wantExit(0)
		w.settleStream(stream)
		if got := w.windowsAreTheModel(); got != want {
			t.Errorf("the windows have hash %s, want %s as in a batch", got, want)
		}
		if got := joinedHash(t, w.lake); got != wantRows {
			t.Errorf("the rows have hash %s, want %s as in a batch", got, wantRows)
		}
		runCommand(t, "verify", "verify", "--lake", w.lake)
		w.nothingIsLeft()
	})
}

// While messages flow, each part of the cluster is killed, and started again. Nothing is lost, nothing is there twice, and the command that has
// submitted the stream sees it through.
func TestFlinkKilled(t *testing.T) {
	slow(t)
	w := startFlink(t, flinkcluster.Options{HighAvailability: true, Restarts: 1000})
	w.lake = filepath.Join(t.TempDir(), "lake")
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	stream := w.submitStream()
	publisher := w.startPublishing(w.total.Events / 90) // it takes longer than all of this
	acked := func() int64 { return w.broker.stats().Acked }
	goesOn := func(what string, before int64) {
		t.Helper()
		began := time.Now()
		until(t, "messages are acknowledged after "+what, func() bool {
			if !stream.running() {
				t.Fatalf("%s: the command has ended: %s", what, tail(stream.log(), 3))
			}
			return acked() > before
		})
		t.Logf("%s: messages are acknowledged again after %v", what, time.Since(began).Round(100*time.Millisecond))
	}
	goesOn("the start", 0)
	kill := func(name string, wait time.Duration) {
		t.Helper()
		if err := w.cluster.Kill(name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		if err := w.cluster.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}

	workers := w.workers()
	if len(workers) == 0 {
		t.Fatal("there is no worker")
	}
	for _, id := range workers {
		pid, err := strconv.Atoi(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the workers are gone", func() bool { return !overlap(workers, w.workers()) })
	goesOn("kill -9 of the worker", acked())

	kill(flinkcluster.TaskManager(0), 0)
	goesOn("kill -9 of the task manager", acked())
	kill(flinkcluster.JobManager, 0)
	goesOn("kill -9 of the job manager", acked())
	kill(flinkcluster.JobServer, 0)
	goesOn("kill -9 of the job server", acked())

	publisher.wantExit(0)
	w.untilAllAcked(stream)
	if s := stream.drain(); !s.Partial {
		t.Errorf("the counts %+v are not marked as those of the last attempt", s)
	}
	w.isTheTruth(0)
	w.nothingIsLeft()
	if log := stream.log(); !strings.Contains(log, "Flink begins the job again") {
		t.Errorf("the command does not tell that the job began again: %s", log)
	}
}

func overlap(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// A job manager without high availability forgets its jobs, whose state is in RocksDB here. The command says from where to go on, and that is what is done.
func TestFlinkForgets(t *testing.T) {
	slow(t)
	w := startFlink(t, flinkcluster.Options{StateBackend: "rocksdb"})
	w.lake = filepath.Join(t.TempDir(), "lake")
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	stream := w.submitStream("--flink_checkpoints=10s")
	publisher := w.startPublishing(w.total.Events / 60)
	until(t, "a checkpoint is there", func() bool {
		found, err := filepath.Glob(filepath.Join(w.cluster.Dir, "checkpoints", "*", "chk-*", "_metadata"))
		return err == nil && len(found) > 0 && w.broker.stats().Acked > 0
	})
	time.Sleep(5 * time.Second) // a job manager tells of it some seconds later; the next one takes its place after 10
	if err := w.cluster.Kill(flinkcluster.JobManager); err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.Start(t.Context(), flinkcluster.JobManager); err != nil {
		t.Fatal(err)
	}
	stream.wantExit(1)
	_, checkpoint, said := strings.Cut(tail(stream.log(), 1), "--flink_savepoint=")
	if !said {
		t.Fatalf("the command does not say from where to go on: %s", tail(stream.log(), 2))
	}
	began := time.Now()
	before := w.broker.stats().Acked
	stream = w.submitStream("--flink_savepoint=" + strings.TrimSpace(checkpoint))
	until(t, "messages are acknowledged again", func() bool { return w.broker.stats().Acked > before })
	t.Logf("begun again from its last checkpoint, messages are acknowledged after %v", time.Since(began).Round(100*time.Millisecond))
	publisher.wantExit(0)
	w.untilAllAcked(stream)
	stream.drain()
	w.isTheTruth(0)
	w.nothingIsLeft()
}

// While messages flow, another binary takes the place of the stream, with its state; then it is spread over two task managers. Another graph is
// refused before anything is stopped.
func TestFlinkUpgrade(t *testing.T) {
	slow(t)
	w := newFlinkWorld(t, 1)
	w.lake = filepath.Join(t.TempDir(), "lake")
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	first := w.submitStream("--parallelism=2")
	publisher := w.startPublishing(w.total.Events / 60)
	goesOn := func() {
		t.Helper()
		before := w.broker.stats().Acked
		until(t, "messages are acknowledged", func() bool { return w.broker.stats().Acked > before })
	}
	goesOn()

	refused := w.submitStream("--parallelism=2", "--flink_upgrade", "--aggregate=trending")
	refused.wantExit(1)
	if last := tail(refused.log(), 1); !strings.Contains(last, "goes on, and cannot be replaced: its graph is another") || !strings.Contains(last, "+ interactions/windows.Compute/") {
		t.Errorf("the last line is %s", last)
	}
	goesOn()

	other := filepath.Join(t.TempDir(), program)
	copyTo(t, other, "newer")
	second := w.submitStream("--parallelism=2", "--flink_upgrade", "--environment_config", fmt.Sprintf(`{"command":%q}`, other), "--worker_binary", other)
	if s := first.finish(); s.Outcome != "stopped" || !s.Partial {
		t.Errorf("the first ends as %+v", s)
	}
	goesOn()

	if _, err := w.cluster.AddTaskManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := w.submitStream("--parallelism=4", "--flink_upgrade")
	second.finish()
	goesOn()
	until(t, "each task manager has a worker", func() bool { return len(w.workers()) == 2 })

	publisher.wantExit(0)
	w.untilAllAcked(third)
	third.drain()
	w.isTheTruth(0)
	w.nothingIsLeft()
}
