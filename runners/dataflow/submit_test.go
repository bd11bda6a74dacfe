package dataflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"

	"backbone/runners/jobs"
	"backbone/testing/dataflowfake"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// pipeline is the smallest that there is.
func pipeline() *beam.Pipeline {
	p, s := beam.NewPipelineWithRoot()
	beam.Impulse(s)
	return p
}

// service starts a fake whose jobs have no work.
func service(t *testing.T) *dataflowfake.Server {
	t.Helper()
	s, err := dataflowfake.Start(t.Context(), dataflowfake.Options{Idle: true, Buckets: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, variable := range s.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	return s
}

// batch is a job of files.
func batch(t *testing.T, s *dataflowfake.Server) Options {
	t.Helper()
	o := good(t, s.Endpoint())
	o.Streaming = false
	return o
}

// The request names each option that was set, and nothing of the environment.
func TestRequest(t *testing.T) {
	const canary = "c4n4ry"
	t.Setenv("BACKBONE_CANARY", canary)
	t.Setenv("AWS_SECRET_ACCESS_KEY", canary)
	var got bytes.Buffer
	o := everything(good(t, "").WorkerBinary)
	o.DryRun = &got
	result, err := New(o).Submit(t.Context(), pipeline())
	if err != nil || result.Outcome != jobs.Planned {
		t.Fatalf("Submit() = %+v, %v", result, err)
	}
	if strings.Contains(got.String(), canary) {
		t.Error("the request has a secret")
	}
	golden := filepath.Join("testdata", "request.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var wanted, made any
	if err := errors.Join(json.Unmarshal(text, &wanted), json.Unmarshal(got.Bytes(), &made)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, made); diff != "" {
		t.Errorf("request (-golden +made; go test -update rewrites it):\n%s", diff)
	}
}

// Whatever happens to the replies, a launch makes one job, and sends its binary once.
func TestOneJob(t *testing.T) {
	for _, test := range []struct {
		name   string
		faults []dataflowfake.Fault
	}{
		{"Nothing", nil},
		{"Cut before", []dataflowfake.Fault{{Call: "create"}}},
		{"Cut after", []dataflowfake.Fault{{Call: "create", Done: true}}},
		{"Unavailable before", []dataflowfake.Fault{{Call: "create", Code: 503, Times: 2}}},
		{"Unavailable after", []dataflowfake.Fault{{Call: "create", Code: 503, Done: true}}},
		{"Cut after, and not found at first", []dataflowfake.Fault{{Call: "create", Done: true}, {Call: "list", Code: 503, Times: 2}}},
		{"A quota, and then not", []dataflowfake.Fault{{Call: "create", Code: 429}}},
		{"All others now and then", []dataflowfake.Fault{{Call: "list", Code: 500}, {Call: "get"}, {Call: "messages", Code: 503}, {Call: "metrics", Code: 429}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := service(t)
			for _, f := range test.faults {
				s.Order(f)
			}
			result, err := New(batch(t, s)).Submit(t.Context(), pipeline())
			if err != nil || result.Outcome != jobs.Ended {
				t.Errorf("Submit() = %+v, %v", result, err)
			}
			if n := len(s.Requests()); n != 1 {
				t.Errorf("%d jobs, want 1", n)
			}
		})
	}
}

// What is refused is an error that says what and why, and no job is made.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  dataflowfake.Fault
		change func(o *Options)
		want   string
	}{
		{"Credentials", dataflowfake.Fault{Call: "list", Code: 401, Message: "no"}, nil, "jobs of project my-shop in europe-west1: 401 UNAUTHENTICATED: no; the credentials are refused"},
		{"Rights", dataflowfake.Fault{Call: "list", Code: 403, Message: "no"}, nil, "403 PERMISSION_DENIED: no; whoever submits a job needs the role"},
		{"Rights to create", dataflowfake.Fault{Call: "create", Code: 403, Message: "no"}, nil, "create job backbone-stream in project my-shop, europe-west1: 403 PERMISSION_DENIED: no"},
		{"Quota", dataflowfake.Fault{Call: "create", Code: 429, Message: "too many", Times: -1}, nil, "429 RESOURCE_EXHAUSTED: too many; a quota"},
		{"Several lines", dataflowfake.Fault{Call: "create", Code: 400, Message: "one\n two"}, nil, "400 INVALID_ARGUMENT: one two"},
		{"Bucket", dataflowfake.Fault{}, func(o *Options) { o.StagingLocation = "gs://nowhere/a" }, "staging_location gs://nowhere/a cannot be written to: the bucket is not there, make it first"},
		{"Nothing to update", dataflowfake.Fault{}, func(o *Options) { o.Update, o.Streaming = true, true }, "update is set, and no job backbone-stream runs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := service(t)
			o := batch(t, s)
			if test.change != nil {
				test.change(&o)
			}
			if test.fault.Call != "" {
				s.Order(test.fault)
			}
			_, err := New(o).Submit(t.Context(), pipeline())
			if err == nil || !strings.HasPrefix(err.Error(), "dataflow runner: ") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Submit() = %v, want %q in it, in a line", err, test.want)
			}
			if n := len(s.Requests()); n != 0 {
				t.Errorf("%d jobs, want none", n)
			}
		})
	}
}

// A stream is found by its name, drained, cancelled, and replaced by one of the same graph.
func TestStream(t *testing.T) {
	s := service(t)
	o := good(t, s.Endpoint())
	type end struct {
		result jobs.Result
		err    error
	}
	launch := func(ctx context.Context, l *Launcher) chan end {
		ended := make(chan end, 1)
		before := len(s.Requests())
		go func() {
			result, err := l.Submit(ctx, pipeline())
			ended <- end{result, err}
		}()
		for deadline := time.Now().Add(time.Minute); len(s.Requests()) == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) || len(ended) > 0 {
				t.Fatal("the job was not submitted")
			}
		}
		return ended
	}
	wait := func(what string, ended chan end, outcome jobs.Outcome) {
		t.Helper()
		select {
		case e := <-ended:
			if e.err != nil || e.result.Outcome != outcome {
				t.Errorf("%s: Submit() = %+v, %v", what, e.result, e.err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s does not end", what)
		}
	}
	first := New(o)
	ended := launch(t.Context(), first)

	other := o
	other.RunID = "other"
	if result, err := New(other).Submit(t.Context(), pipeline()); err != nil || result.Outcome != jobs.There || len(s.Requests()) != 1 {
		t.Errorf("a second launch: Submit() = %+v, %v", result, err)
	}
	other.Update, other.TransformNames = true, map[string]string{"nowhere": ""}
	if _, err := New(other).Submit(t.Context(), pipeline()); err == nil || !strings.Contains(err.Error(), "goes on, and cannot be updated: its graph is another (nowhere is mapped") {
		t.Errorf("an update to another graph: %v", err)
	}
	other.TransformNames = nil
	second := New(other)
	replaced := launch(t.Context(), second)
	wait("the first", ended, jobs.Stopped)
	if got := s.Requests()[1].ReplaceJobId; got == "" {
		t.Error("the request does not name the job that is updated")
	}
	if err := second.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait("the second", replaced, jobs.Ended)

	// Drained before it is there.
	third := New(o)
	third.o.RunID = "third"
	if err := third.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait("the third", launch(t.Context(), third), jobs.Ended)

	ctx, cancel := context.WithCancel(t.Context())
	fourth := New(o)
	fourth.o.RunID = "fourth"
	cancelled := launch(ctx, fourth)
	cancel()
	if e := <-cancelled; !errors.Is(e.err, context.Canceled) {
		t.Errorf("the fourth: %v", e.err)
	}
	service, err := NewJobs(t.Context(), o.Project, o.Region, o.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	list, err := service.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []jobs.State
	for _, j := range list {
		got = append(got, j.State)
	}
	if diff := cmp.Diff([]jobs.State{jobs.Cancelled, jobs.Done, jobs.Done, jobs.Done}, got); diff != "" {
		t.Errorf("states, the latest first (-want +got):\n%s", diff)
	}
	shown, err := service.Show(t.Context(), list[1].ID)
	if err != nil || shown.RunID != "third" || shown.Lake != o.Lake || !shown.Streaming {
		t.Errorf("Show() = %+v, %v", shown, err)
	}
	if err := service.Drain(t.Context(), list[1].ID); err == nil || !strings.Contains(err.Error(), "is not running: it is done") {
		t.Errorf("Drain() = %v", err)
	}
	if err := service.Cancel(t.Context(), list[1].ID); err != nil {
		t.Errorf("Cancel() of one that has ended = %v", err)
	}
	if _, err := service.Savepoint(t.Context(), list[1].ID, jobs.SavepointOptions{}); err == nil || !strings.Contains(err.Error(), "no savepoints") {
		t.Errorf("Savepoint() = %v", err)
	}
}

// Who does not follow a job leaves it as it runs.
func TestDetach(t *testing.T) {
	s := service(t)
	o := good(t, s.Endpoint())
	o.Detach = true
	if result, err := New(o).Submit(t.Context(), pipeline()); err != nil || result.Outcome != jobs.Detached {
		t.Errorf("Submit() = %+v, %v", result, err)
	}
	service, err := NewJobs(t.Context(), o.Project, o.Region, o.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	list, err := service.List(t.Context())
	if err != nil || len(list) != 1 || list[0].State != jobs.Running {
		t.Fatalf("List() = %+v, %v", list, err)
	}
	if err := service.Drain(t.Context(), list[0].ID); err != nil {
		t.Error(err)
	}
	if err := service.AwaitDrained(t.Context(), list[0].ID); err != nil {
		t.Error(err)
	}
}

// Who follows waits for the end of the job of that name that runs, whoever has submitted it, and takes it along where it is ended itself.
func TestFollow(t *testing.T) {
	s := service(t)
	submit := func(ctx context.Context, o Options) chan error {
		ended := make(chan error, 1)
		go func() {
			result, err := New(o).Submit(ctx, pipeline())
			if err == nil && result.Outcome != jobs.Ended {
				err = fmt.Errorf("Submit() = %+v", result)
			}
			ended <- err
		}()
		return ended
	}
	service, err := NewJobs(t.Context(), "my-shop", "europe-west1", s.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	await := func(jobs int) string {
		t.Helper()
		for t.Context().Err() == nil {
			list, err := service.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == jobs && !list[0].State.Ended() {
				return list[0].ID
			}
			time.Sleep(5 * time.Millisecond)
		}
		return ""
	}
	// looked waits until the job has been asked for some times: who submits asks seldom by then, and so it is who follows.
	looked := func() {
		for calls := s.Calls("get"); s.Calls("get") < calls+6 && t.Context().Err() == nil; {
			time.Sleep(5 * time.Millisecond)
		}
	}
	first := good(t, s.Endpoint()) // a stream, since jobs of files have no work here, and are done at once
	second := batch(t, s)
	second.RunID, second.Follow = "other", true

	ended := submit(t.Context(), first)
	id := await(1)
	followed := submit(t.Context(), second)
	looked()
	if err := service.Drain(t.Context(), id); err != nil {
		t.Error(err)
	}
	if err := errors.Join(<-ended, <-followed); err != nil {
		t.Error(err)
	}

	first.RunID = "again"
	ended = submit(t.Context(), first)
	await(2)
	ctx, cancel := context.WithCancel(t.Context())
	followed = submit(ctx, second)
	looked()
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Errorf("Submit() = %v, want that it was cancelled", err)
	}
	if err := <-ended; !errors.Is(err, errCancelled) {
		t.Errorf("Submit() of the first = %v, want that its job was cancelled", err)
	}

	// Where none runs, it is submitted.
	if err := <-submit(t.Context(), second); err != nil {
		t.Error(err)
	}
	if n := len(s.Requests()); n != 3 {
		t.Errorf("%d jobs, want 3", n)
	}
}
