//go:build e2e

package flinkcluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/runners/flink"
	"backbone/testing/flinkcluster"
)

func init() {
	register.DoFn3x1[*sdf.LockRTracker, []byte, func(int64), sdf.ProcessContinuation](&tick{})
	register.Emitter1[int64]()
	register.Function1x0(forget)
}

// TestMain makes the test binary a pool of workers where a cluster starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker-pool" {
		pool, err := flink.NewPool(strings.TrimPrefix(os.Args[2], "--addr="))
		if err == nil {
			err = pool.Serve()
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	beam.Init()
	os.Exit(m.Run())
}

// tick is a source that never ends: it emits 0, 1, 2, ...
type tick struct{}

func (*tick) CreateInitialRestriction([]byte) offsetrange.Restriction {
	return offsetrange.Restriction{End: math.MaxInt64}
}

func (*tick) SplitRestriction(_ []byte, r offsetrange.Restriction) []offsetrange.Restriction {
	return []offsetrange.Restriction{r}
}

func (*tick) RestrictionSize([]byte, offsetrange.Restriction) float64 { return 1 }

func (*tick) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

func (*tick) ProcessElement(rt *sdf.LockRTracker, _ []byte, emit func(int64)) sdf.ProcessContinuation {
	n := rt.GetRestriction().(offsetrange.Restriction).Start
	if !rt.TryClaim(n) {
		return sdf.StopProcessing()
	}
	emit(n)
	return sdf.ResumeProcessingIn(100 * time.Millisecond)
}

func forget(int64) {}

func ask(ctx context.Context, url string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	if text, ok := answer.(*string); ok {
		all, err := io.ReadAll(response.Body)
		*text = string(all)
		return err
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// checkpoints are what a job manager says of the checkpoints of a job, since its own start.
type checkpoints struct {
	Counts struct{ Completed, Restored int }
}

func until(t *testing.T, what string, done func() error) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// A stream goes on after each part of its cluster was killed and started again, and its last checkpoint is there when it was cancelled.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	c, err := flinkcluster.Start(t.Context(), flinkcluster.Options{HighAvailability: true, Prometheus: true, Restarts: 20, Dir: dir})
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})

	p, s := beam.NewPipelineWithRoot()
	beam.ParDo0(s, forget, beam.ParDo(s, &tick{}, beam.Impulse(s)))
	o := flink.Defaults()
	o.Name, o.Streaming, o.Master, o.Endpoint, o.Parallelism, o.Checkpoints = "ticks", true, c.Master, c.Endpoint, 1, time.Second
	o.Worker.Kind, o.RunID, o.Lake = flink.Loopback, "ticks", t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := flink.Submit(ctx, p, o)
		ended <- err
	}()
	var id string
	running := func() error {
		var jobs struct {
			Jobs []struct{ JID, Name, State string }
		}
		if err := ask(t.Context(), "http://"+c.Master+"/jobs/overview", &jobs); err != nil {
			return err
		}
		for _, j := range jobs.Jobs {
			if id = j.JID; j.Name == o.Name && j.State == "RUNNING" {
				return nil
			}
		}
		return fmt.Errorf("jobs are %v", jobs.Jobs)
	}
	until(t, "the job runs", func() error {
		select {
		case err := <-ended:
			t.Fatalf("the job has ended: %v", err)
		default:
		}
		return running()
	})
	var seen checkpoints
	goesOn := func(completed, restored int) func() error {
		return func() error {
			if err := errors.Join(running(), ask(t.Context(), "http://"+c.Master+"/jobs/"+id+"/checkpoints", &seen)); err != nil {
				return err
			}
			if seen.Counts.Completed < completed || seen.Counts.Restored < restored {
				return fmt.Errorf("%+v, want %d completed and %d restored", seen, completed, restored)
			}
			return nil
		}
	}
	until(t, "there is a checkpoint", goesOn(1, 0))

	for name, want := range map[string]string{flinkcluster.JobManager: "flink_jobmanager_numRunningJobs", flinkcluster.TaskManager(0): "flink_taskmanager_"} {
		until(t, name+" tells its metrics", func() error {
			var text string
			if err := ask(t.Context(), "http://"+c.Metrics[name]+"/metrics", &text); err != nil {
				return err
			}
			if !strings.Contains(text, want) {
				return fmt.Errorf("%d bytes, and %s is not in them", len(text), want)
			}
			return nil
		})
	}

	kill := func(name string) {
		t.Helper()
		old := c.Process(name).PID()
		if err := c.Start(t.Context(), name); err == nil {
			t.Errorf("%s was started twice", name)
		}
		if err := c.Kill(name); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(old, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s is still there: %v", name, err)
		}
		if err := c.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	kill(flinkcluster.TaskManager(0))
	until(t, "the job goes on in the new task manager", goesOn(seen.Counts.Completed+1, 1))
	kill(flinkcluster.JobManager) // it counts from 0 again
	until(t, "the job goes on with the new job manager", goesOn(1, 1))

	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the job has ended: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "checkpoints", id, "chk-*", "_metadata")); err != nil || len(left) == 0 {
		t.Errorf("no checkpoint of job %s is left: %v, error %v", id, left, err)
	}

	kill(flinkcluster.JobServer)
	if conn, err := net.Dial("tcp", c.Endpoint); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	if name, err := c.AddTaskManager(t.Context()); name != flinkcluster.TaskManager(1) || err != nil {
		t.Errorf("the new task manager is %s, error %v", name, err)
	}
	if err := c.Kill("nobody"); err == nil || !strings.Contains(err.Error(), flinkcluster.TaskManager(1)) {
		t.Errorf("nobody was killed: %v", err)
	}
}
