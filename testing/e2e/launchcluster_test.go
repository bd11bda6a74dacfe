//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"backbone/runners/launch"
	"backbone/testing/pubsubserver"
)

// clusterLaunch writes a launch file whose pipeline runs on a cluster, with options of some lines.
func clusterLaunch(t *testing.T, runner, input, lake string, options ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "launch.yaml")
	text := fmt.Sprintf("name: events\npipeline: interactions\nrunner: %s\nlease: 1s\noptions:\n  input: %q\n  lake: %q\n  %s\n", runner, input, lake, strings.Join(options, "\n  "))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// launchOptions are the options by which a launch runs on the cluster.
func (w *flinkWorld) launchOptions() []string {
	return []string{"flink_master: " + w.cluster.Master, "endpoint: " + w.cluster.Endpoint, fmt.Sprintf(`environment_config: '{"command":%q}'`, w.binary)}
}

// launchOptions are the options by which a launch runs on the fake.
func (d *dataflowWorld) launchOptions() []string {
	return []string{
		"dataflow_endpoint: " + d.fake.Endpoint(), "project: " + project, "region: europe-west1", "staging_location: gs://" + dataflowBucket + "/staging",
	}
}

// freeze stops processes, and returns what lets them go on.
func freeze(t *testing.T, pids []int) (thaw func()) {
	t.Helper()
	send := func(signal syscall.Signal) {
		for _, pid := range pids {
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Errorf("send %v to worker %d: %v", signal, pid, err)
			}
		}
	}
	send(syscall.SIGSTOP)
	t.Cleanup(func() { send(syscall.SIGCONT) })
	return func() { send(syscall.SIGCONT) }
}

// followsTheJob kills a launch in the middle of its job, which goes on in the cluster, and sees that the next launch of the tick waits for the end of that
// job, and records what it has counted. Workers are the processes that do the work of the job; they stand still until the next launch is there.
func (w *world) followsTheJob(path string, workers func() []int) {
	w.Helper()
	killed := start(w.T, "the launch that is killed", nil, "launch", path, "--tick", tickOfLaunch)
	var at []int
	until(w.T, "a worker is at work", func() bool { at = workers(); return len(at) > 0 || !killed.running() })
	thaw := freeze(w.T, at)
	killed.kill()
	next := start(w.T, "the next launch", nil, "launch", path, "--tick", tickOfLaunch, "--wait")
	until(w.T, "the job is followed", func() bool { return strings.Contains(next.log(), "its end is waited for") || !next.running() })
	thaw()
	next.wantExit(0)
	runs := history(w.T, path)
	if len(runs) != 1 || runs[0].State != "succeeded" || len(runs[0].Attempts) != 2 || runs[0].Attempts[0].End != nil || runs[0].Attempts[1].End.Outcome != launch.Succeeded {
		w.Fatalf("the history is %+v, want a success after an attempt whose end nobody has seen", runs)
	}
	var counted summary
	if err := json.Unmarshal(runs[0].Result.Summary, &counted); err != nil {
		w.Fatal(err)
	}
	w.wantCounts(counted, summary{
		Outcome: "done", Read: int64(w.total.Events), Committed: int64(w.total.Rows), Duplicate: int64(w.total.Repeated), DeadLettered: int64(w.total.Broken),
	})
	w.isTheTruth(0)

	// What is done is not run again, unless that is asked for; then it is another job, which finds all rows in the lake.
	done := start(w.T, "a launch of what is done", nil, "launch", path, "--tick", tickOfLaunch)
	done.wantExit(0)
	if log := done.log(); !strings.Contains(log, "this tick has been run") {
		w.Errorf("it has said: %s", log)
	}
	again := start(w.T, "the same again", nil, "launch", path, "--tick", tickOfLaunch, "--again")
	again.wantExit(0)
	if err := json.Unmarshal(history(w.T, path)[0].Result.Summary, &counted); err != nil {
		w.Fatal(err)
	}
	w.wantCounts(counted, summary{Outcome: "done", Read: int64(w.total.Events), Duplicate: int64(w.total.Events)})
}

// A launch whose pipeline runs on the fake of Dataflow has one job at a time, also where its launcher is killed.
func TestLaunchOnDataflow(t *testing.T) {
	slow(t)
	d := newDataflowWorld(t, &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)})
	path := clusterLaunch(t, "dataflow", d.upload(d.files(), "in"), d.lake, append(d.launchOptions(), "labels: team=search")...)
	d.followsTheJob(path, d.fake.Workers)
	requests := d.fake.Requests()
	if len(requests) != 2 {
		t.Errorf("%d jobs were created, want the first and that of --again", len(requests))
	}
	for _, r := range requests {
		if !strings.HasPrefix(r.Name, "backbone-events-20261122t030000z-") || r.Labels["team"] != "search" {
			t.Errorf("job %q with labels %v", r.Name, r.Labels)
		}
	}
}

// As on Dataflow, on a cluster of Flink.
func TestLaunchOnFlink(t *testing.T) {
	slow(t)
	w := newFlinkWorld(t, 1)
	w.lake = filepath.Join(t.TempDir(), "lake")
	path := clusterLaunch(t, "flink", w.files(), w.lake, w.launchOptions()...)
	w.followsTheJob(path, func() (pids []int) {
		for _, id := range w.workers() {
			pid, err := strconv.Atoi(id)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return pids
	})
	w.nothingIsLeft()
}

// A stream that is left alone on a cluster is one for all ticks: a launch that finds it is done, and where it has ended, the next begins it again.
func TestLaunchStream(t *testing.T) {
	slow(t)
	w := newFlinkWorld(t, 1)
	w.lake = filepath.Join(t.TempDir(), "lake")
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	path := clusterLaunch(t, "flink", source, w.lake,
		append(w.launchOptions(), "detach: true", "flush_interval: 500ms", "flink_checkpoints: 2s", "job_name: shop-stream")...)
	tick := 0
	wantLaunch := func(outcome string) {
		t.Helper()
		tick++
		at := asOfDay(tick).Format(time.RFC3339)
		start(t, "the launch at "+at, w.env(), "launch", path, "--tick", at).wantExit(0)
		for _, r := range history(t, path) {
			if r.Tick.Equal(asOfDay(tick)) {
				var s summary
				if err := json.Unmarshal(r.Result.Summary, &s); err != nil {
					t.Fatal(err)
				}
				if r.State != "succeeded" || s.Outcome != outcome {
					t.Errorf("the launch at %s is %s with %+v, want %s", at, r.State, s, outcome)
				}
				return
			}
		}
		t.Errorf("there is no record of the launch at %s", at)
	}
	wantLaunch("submitted")
	w.publishFile(w.quarter(0))
	w.untilAllAcked()
	wantLaunch("there")
	w.publishFile(w.quarter(1))
	w.untilAllAcked()
	w.jobs("drain", "shop-stream")
	for n := 2; n < quarters; n++ {
		w.publishFile(w.quarter(n))
	}
	wantLaunch("submitted")
	w.untilAllAcked()
	w.jobs("drain", "shop-stream")
	w.isTheTruth(0)
	if list := w.jobs("list"); strings.Count(list, "shop-stream") != 2 {
		t.Errorf("the jobs are\n%s\nwant two", list)
	}
	w.nothingIsLeft()
}
