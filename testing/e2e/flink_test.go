//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"backbone/testing/flinkcluster"
	"backbone/testing/windowmodel"
)

// flinkWorld is a world with a cluster.
type flinkWorld struct {
	*world
	cluster *flinkcluster.Cluster
	binary  string // this program, under the name of the command
	tmp     string // where task managers and workers have their temporary files
}

// copyTo copies this program, with a tail that makes it another binary.
func copyTo(t *testing.T, path, tail string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, io.MultiReader(from, strings.NewReader(tail)))
	if err = errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
}

// newFlinkWorld starts a cluster. Its task managers, and so their workers, have the environment of the test as it is now.
func newFlinkWorld(t *testing.T, taskManagers int) *flinkWorld {
	t.Helper()
	return startFlink(t, flinkcluster.Options{TaskManagers: taskManagers})
}

// startFlink starts a cluster of a certain kind.
func startFlink(t *testing.T, o flinkcluster.Options) *flinkWorld {
	t.Helper()
	w := &flinkWorld{world: &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)}, binary: filepath.Join(t.TempDir(), program), tmp: t.TempDir()}
	copyTo(t, w.binary, "")
	var err error
	o.Env = append(o.Env, "TMPDIR="+w.tmp)
	w.cluster, err = flinkcluster.Start(t.Context(), o)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// submit starts the pipeline on the cluster.
func (w *flinkWorld) submit(lake string, args ...string) *job {
	w.Helper()
	w.n++
	j := &job{summary: filepath.Join(w.TempDir(), "summary.json")}
	args = slices.Concat([]string{"interactions", "--input", w.files(), "--lake", lake, "--summary", j.summary}, w.flags(), args)
	j.process = start(w.T, fmt.Sprintf("run %d", w.n), nil, args...)
	return j
}

// submitStream starts the stream on the cluster. It commits often, and has checkpoints often.
func (w *flinkWorld) submitStream(args ...string) *job {
	w.Helper()
	w.n++
	j := &job{summary: filepath.Join(w.TempDir(), "summary.json")}
	args = slices.Concat([]string{"interactions", "--input", source, "--lake", w.lake, "--summary", j.summary, "--flush_interval=1s", "--flink_checkpoints=2s"},
		w.flags(), w.endpoint(), args)
	j.process = start(w.T, fmt.Sprintf("run %d", w.n), w.env(), args...)
	return j
}

// flags are those by which a command runs on the cluster, but for the job server.
func (w *flinkWorld) flags() []string {
	return []string{"--runner=flink", "--flink_master", w.cluster.Master, "--environment_config", fmt.Sprintf(`{"command":%q}`, w.binary)}
}

// endpoint is the flag that names the cluster's job server.
func (w *flinkWorld) endpoint() []string { return []string{"--endpoint", w.cluster.Endpoint} }

// workers returns the ids of processes that a task manager has started.
func (w *flinkWorld) workers() (ids []string) {
	w.Helper()
	for _, m := range w.cluster.TaskManagers() {
		out, err := exec.CommandContext(w.Context(), "pgrep", "-g", fmt.Sprint(m.PID()), "-f", "--", "--worker=true").Output()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) { // which says that there is none
			w.Fatal(err)
		}
		ids = append(ids, strings.Fields(string(out))...)
	}
	return ids
}

// pool is a pool of workers that is not of the binary of the jobs.
type pool struct {
	*process
	address string
}

// startPool starts a pool that has its temporary files in tmp.
func (w *flinkWorld) startPool(tmp string) *pool {
	w.Helper()
	binary := filepath.Join(w.TempDir(), program)
	copyTo(w.T, binary, "of a pool")
	p := &pool{process: startBinary(w.T, binary, "the pool", []string{"TMPDIR=" + tmp}, "worker-pool", "--addr=127.0.0.1:0")}
	until(w.T, "the pool has said where it is", func() bool {
		_, address, said := strings.Cut(p.read(p.stdout), "--environment_config=")
		p.address = strings.TrimSpace(address)
		return said && strings.HasSuffix(address, "\n")
	})
	return p
}

// workers returns the ids of the processes that the pool has started, and that have become workers.
func (p *pool) workers() []string {
	p.t.Helper()
	out, err := exec.CommandContext(p.t.Context(), "pgrep", "-P", fmt.Sprint(p.cmd.Process.Pid), "-f", "--", "--worker=true").Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) { // which says that there is none
		p.t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// nothingIsLeft waits until no worker is there, and sees that none has left a file.
func (w *flinkWorld) nothingIsLeft() {
	w.Helper()
	until(w.T, "no worker is left", func() bool { return len(w.workers()) == 0 })
	if left := w.left(); len(left) > 0 {
		w.Errorf("workers have left %v", left)
	}
}

// nothingIsStaged waits until the job server has no worker binary.
func (w *flinkWorld) nothingIsStaged() {
	w.Helper()
	until(w.T, "the job server has no worker binary", func() bool {
		staged, err := filepath.Glob(filepath.Join(w.cluster.Dir, "job-server", "artifacts", "*", "*"))
		if err != nil {
			w.Fatal(err)
		}
		return len(staged) == 0
	})
}

// left are the temporary files of workers.
func (w *flinkWorld) left() []string {
	w.Helper()
	left, err := filepath.Glob(filepath.Join(w.tmp, "backbone-*"))
	if err != nil {
		w.Fatal(err)
	}
	return left
}

// On a cluster of Flink, a day ends in the same lake as on the direct runner, with the same results of windows; what goes wrong is told in a
// line, and nothing is left of workers.
func TestFlink(t *testing.T) {
	slow(t)
	w := newFlinkWorld(t, 1)
	w.lake = filepath.Join(t.TempDir(), "lake")
	endpoint := w.endpoint()
	aggregate := []string{"--aggregate", "sessions,trending,funnel,co_occurrence"}

	t.Run("Day", func(t *testing.T) {
		w := *w
		w.world = &world{T: t, day: w.day, lake: w.lake}
		w.wantCounts(w.submit(w.lake, append(endpoint, aggregate...)...).finish(), summary{
			Outcome: "done", Read: int64(w.total.Events), Committed: int64(w.total.Rows),
			Duplicate: int64(w.total.Repeated), DeadLettered: int64(w.total.Broken),
		})
		w.isTheTruth(0)
		direct := filepath.Join(t.TempDir(), "lake")
		runCommand(t, "the direct runner", append([]string{"interactions", "--input", w.files(), "--lake", direct, "--spill_dir", t.TempDir()}, aggregate...)...)
		want, got := windowsOf(t, direct), windowsOf(t, w.lake)
		if got != want {
			t.Errorf("results of windows have hash %s, want %s", got, want)
		}
		w.nothingIsLeft()
		w.nothingIsStaged()
	})

	// The same again, by a job server of its own and with a worker that has to be sent: nothing is new.
	t.Run("Again", func(t *testing.T) {
		w := *w
		w.world = &world{T: t, day: w.day, lake: w.lake}
		other := filepath.Join(t.TempDir(), program)
		copyTo(t, other, "another")
		before := dataFiles(t, w.lake)
		w.wantCounts(w.submit(w.lake, "--flink_job_server", w.cluster.Software.JobServer, "--environment_config", fmt.Sprintf(`{"command":%q}`, other)).finish(),
			summary{Outcome: "done", Read: int64(w.total.Events), Duplicate: int64(w.total.Events)})
		w.wantFiles(before)
		w.nothingIsLeft()
		w.nothingIsStaged()
	})

	// Whoever is interrupted takes the job along.
	t.Run("Cancel", func(t *testing.T) {
		w := *w
		w.world = &world{T: t, day: w.day}
		j := w.submit(filepath.Join(t.TempDir(), "lake"), endpoint...)
		until(t, "a worker runs", func() bool { return len(w.workers()) > 0 })
		j.signal(syscall.SIGINT)
		j.wantExit(1)
		w.nothingIsLeft()
		w.nothingIsStaged()
		if log := j.log(); !strings.Contains(log, "backbone interactions: stopped before the end") || strings.Contains(log, "may still run") {
			t.Errorf("it has said: %s", log)
		}
	})

	// So does who cancels it from elsewhere.
	t.Run("CancelledElsewhere", func(t *testing.T) {
		w := *w
		w.world = &world{T: t, day: w.day}
		j := w.submit(filepath.Join(t.TempDir(), "lake"), append(slices.Clip(endpoint), "--job_name=elsewhere")...)
		until(t, "a worker runs", func() bool { return len(w.workers()) > 0 })
		w.jobs("cancel", "elsewhere")
		j.wantExit(1)
		w.nothingIsLeft()
		w.nothingIsStaged()
	})

	// A pool starts the workers instead, of a binary that has to be sent to it. None is left when the job has ended, or the pool was killed.
	t.Run("Pool", func(t *testing.T) {
		w := *w
		w.world = &world{T: t, day: w.day, lake: filepath.Join(t.TempDir(), "lake")}
		pool := w.startPool(w.tmp)
		external := append([]string{"--environment_type=EXTERNAL", "--environment_config", pool.address}, endpoint...)
		w.wantCounts(w.submit(w.lake, external...).finish(), summary{
			Outcome: "done", Read: int64(w.total.Events), Committed: int64(w.total.Rows),
			Duplicate: int64(w.total.Repeated), DeadLettered: int64(w.total.Broken),
		})
		w.isTheTruth(0)
		if log := pool.log(); !strings.Contains(log, "worker started") {
			t.Errorf("the pool has started nothing: %s", log)
		}
		until(t, "no worker of the pool is left", func() bool { return len(pool.workers()) == 0 })
		w.nothingIsLeft()
		w.nothingIsStaged()

		j := w.submit(filepath.Join(t.TempDir(), "lake"), external...)
		var workers []string
		until(t, "a worker of the pool runs and has removed its folder", func() bool {
			workers = pool.workers()
			return len(workers) > 0 && len(w.left()) == 0 || !j.running()
		})
		pool.kill()
		until(t, "its workers have ended", func() bool {
			return exec.CommandContext(t.Context(), "ps", append([]string{"-o", "pid=", "-p"}, workers...)...).Run() != nil
		})
		j.signal(syscall.SIGINT)
		j.exit() // it may have been done just before
		w.nothingIsLeft()
		w.nothingIsStaged()
	})

	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, test := range []struct {
		name string
		args []string
		want string // in the last line
	}{
		{"PoolCannot", append(endpoint, "--environment_type=EXTERNAL", "--environment_config", w.startPool(nowhere).address), nowhere},
		{"NoPool", append(endpoint, "--environment_type=EXTERNAL", "--environment_config=127.0.0.1:1"), "Connection refused"},
		{"Translation", append(endpoint, "--flink_options=execution_mode_for_batch=SIDEWAYS"), "flink runner: job failed: java.lang.IllegalArgumentException: No enum constant"},
		{"Refused", []string{"--flink_job_server", w.cluster.Software.JobServer, "--flink_options=parallelism=many"}, `Cannot deserialize value of type`},
		{"Worker", append(endpoint, "--environment_config", `{"command":"/nowhere/backbone"}`), `Cannot run program "/nowhere/backbone"`},
		{"Unreachable", append(endpoint, "--flink_master=127.0.0.1:1"), "no job manager answers at flink_master 127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.world = &world{T: t, day: w.day}
			j := w.submit(filepath.Join(t.TempDir(), "lake"), test.args...)
			j.wantExit(1)
			if last := tail(j.log(), 1); !strings.HasPrefix(last, "backbone interactions: ") || !strings.Contains(last, test.want) {
				t.Errorf("the last line is %s\nwant %q in it", last, test.want)
			}
			w.nothingIsLeft()
			w.nothingIsStaged()
		})
	}
}

// windowsOf returns the hash of the results of windows in a lake, which have to be those of the model.
func windowsOf(t *testing.T, lake string) string {
	t.Helper()
	report, err := windowmodel.Check(t.Context(), windowmodel.Options{Lake: lake})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Errorf("%s: the results are not those of the model: %v", lake, report)
	}
	return report.Hash
}
