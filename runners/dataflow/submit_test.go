package dataflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/pstest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

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
		{"Right by name", dataflowfake.Fault{Call: "list", Code: 403, Message: "no", Reason: "IAM_PERMISSION_DENIED", Details: map[string]string{"permission": "dataflow.jobs.list"}}, nil, "403 PERMISSION_DENIED: no; whoever submits a job needs the permission dataflow.jobs.list: "},
		{"Right by name, in words", dataflowfake.Fault{Call: "create", Code: 403, Message: "Permission 'dataflow.jobs.create' denied on project: 'my-shop'"}, nil, "needs the permission dataflow.jobs.create: "},
		{"API", dataflowfake.Fault{Call: "list", Code: 403, Message: "off", Reason: "SERVICE_DISABLED", Details: map[string]string{"service": "dataflow.googleapis.com"}}, nil, "403 PERMISSION_DENIED: off; the API is not enabled: gcloud services enable dataflow.googleapis.com"},
		{"Quota as a right", dataflowfake.Fault{Call: "list", Code: 403, Message: "too many", Reason: "quotaExceeded"}, nil, "403 PERMISSION_DENIED: too many; a quota of the project is used up"},
		{"Bucket of temporary files", dataflowfake.Fault{}, func(o *Options) { o.TempLocation = "gs://nowhere/a" }, "temp_location gs://nowhere/a cannot be written to: the bucket is not there, make it first"},
		{"Bucket of the lake", dataflowfake.Fault{}, func(o *Options) { o.Lake = "gs://nowhere/a" }, "lake gs://nowhere/a cannot be read: the bucket is not there, make it first"},
		{"Bucket of the template", dataflowfake.Fault{}, func(o *Options) { o.TemplateLocation = "gs://nowhere/a" }, "template_location gs://nowhere/a cannot be written to: the bucket is not there, make it first"},
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

// What Cloud Storage forbids, and a subscription that is not there, end a launch before its binary is sent, or built.
func TestForbidden(t *testing.T) {
	denied := func(permission string) string {
		return `{"error":{"code":403,"message":"me@shop does not have ` + permission + ` access to the Google Cloud Storage object.","errors":[{"reason":"forbidden"}]}}`
	}
	quota := `{"error":{"code":403,"message":"The quota is used up.","errors":[{"reason":"quotaExceeded"}]}}`
	off := `{"error":{"code":403,"message":"Cloud Storage JSON API has not been used in project 1 before.","errors":[{"reason":"accessNotConfigured"}],"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"SERVICE_DISABLED","metadata":{"service":"storage.googleapis.com"}}]}}`
	for _, test := range []struct {
		name   string
		method string
		path   string // what is asked for has it in its URL
		body   string
		want   string
	}{
		{"Staging", http.MethodPost, "staging%2Fjobs", denied("storage.objects.create"), "staging_location gs://shop/staging/ cannot be written to: 403 FORBIDDEN: me@shop does not have storage.objects.create access to the Google Cloud Storage object.; whoever submits a job needs the permission storage.objects.create: "},
		{"Temporary files", http.MethodPost, "staging%2Ftmp", denied("storage.objects.create"), "temp_location gs://shop/staging/tmp cannot be written to: 403 FORBIDDEN"},
		{"Lake", http.MethodGet, "prefix=lake", denied("storage.objects.list"), "lake gs://shop/lake cannot be read: 403 FORBIDDEN: me@shop does not have storage.objects.list access to the Google Cloud Storage object.; whoever submits a job needs the permission storage.objects.list: "},
		{"Quota", http.MethodPost, "staging%2Fjobs", quota, "403 FORBIDDEN: The quota is used up.; a quota of the project is used up"},
		{"API", http.MethodPost, "staging%2Fjobs", off, "the API is not enabled: gcloud services enable storage.googleapis.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := service(t)
			behind, err := url.Parse("http://" + os.Getenv("STORAGE_EMULATOR_HOST"))
			if err != nil {
				t.Fatal(err)
			}
			proxy := httputil.NewSingleHostReverseProxy(behind)
			var refused atomic.Int64
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				asked := r.URL.RawQuery + " " + url.QueryEscape(string(body)) // the name of an object is in one of them
				if r.Method == test.method && strings.Contains(asked, test.path) {
					refused.Add(1)
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusForbidden)
					_, _ = io.WriteString(w, test.body) // whoever asked is there
					return
				}
				proxy.ServeHTTP(w, r)
			}))
			defer front.Close()
			t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(front.URL, "http://"))
			o := batch(t, s)
			_, err = New(o).Submit(t.Context(), pipeline())
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Submit() = %v, want %q in it, in a line", err, test.want)
			}
			if n := len(s.Requests()); n != 0 || refused.Load() == 0 {
				t.Errorf("%d jobs after %d refusals, want none", n, refused.Load())
			}
			nothingSent(t, s)
		})
	}
	t.Run("Subscription", func(t *testing.T) {
		s := service(t)
		broker := pstest.NewServer()
		defer func() { _ = broker.Close() }()
		t.Setenv("PUBSUB_EMULATOR_HOST", broker.Addr)
		o := good(t, s.Endpoint())
		o.Subscriptions = []string{"projects/my-shop/subscriptions/nothing"}
		_, err := New(o).Submit(t.Context(), pipeline())
		if err == nil || !strings.Contains(err.Error(), "subscription projects/my-shop/subscriptions/nothing: it is not there") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Submit() = %v", err)
		}
		nothingSent(t, s)
	})
}

// nothingSent sees that no binary was sent, and that nothing is left of what was tried.
func nothingSent(t *testing.T, s *dataflowfake.Server) {
	t.Helper()
	for all := s.Storage().Bucket("shop").Objects(t.Context(), nil); ; {
		o, err := all.Next()
		if errors.Is(err, iterator.Done) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s was written", o.Name)
	}
}

// A template is the request, but for what makes it one of a launch; no job is made, and none is asked for.
func TestTemplate(t *testing.T) {
	s := service(t)
	o := batch(t, s)
	o.TemplateLocation = "gs://shop/templates/nightly"
	if result, err := New(o).Submit(t.Context(), pipeline()); err != nil || result.Outcome != jobs.Planned {
		t.Fatalf("Submit() = %+v, %v", result, err)
	}
	if n := len(s.Requests()) + s.Calls("list") + s.Calls("create"); n != 0 {
		t.Errorf("%d jobs and calls, want none", n)
	}
	launch := func(name string) *df.Job {
		answer, err := clientOf(t, s).Templates.Launch(o.Project, o.Region, &df.LaunchTemplateParameters{
			JobName: name, Environment: &df.RuntimeEnvironment{MaxWorkers: 7, AdditionalUserLabels: map[string]string{"team": "search"}},
		}).GcsPath(o.TemplateLocation).Do()
		if err != nil {
			t.Fatal(err)
		}
		return answer.Job
	}
	first, second := launch("one"), launch("two")
	if first.Id == second.Id {
		t.Error("the second launch is the job of the first")
	}
	made := s.Requests()
	if len(made) != 2 {
		t.Fatalf("%d jobs, want 2", len(made))
	}
	for i, name := range []string{"one", "two"} {
		r := made[i]
		if r.Name != name || r.ClientRequestId != "" || r.Labels["team"] != "search" || r.Environment.WorkerPools[0].AutoscalingSettings.MaxNumWorkers != 7 {
			t.Errorf("job %d is %+v", i, r)
		}
	}
	// By the other call, and what is refused.
	if _, err := clientOf(t, s).Templates.Create(o.Project, o.Region, &df.CreateJobFromTemplateRequest{JobName: "three", GcsPath: o.TemplateLocation}).Do(); err != nil {
		t.Error(err)
	}
	if _, err := clientOf(t, s).Templates.Launch(o.Project, o.Region, &df.LaunchTemplateParameters{JobName: "four", Parameters: map[string]string{"input": "x"}}).GcsPath(o.TemplateLocation).Do(); err == nil || !strings.Contains(err.Error(), "Unrecognized parameter") {
		t.Errorf("a launch with a parameter: %v", err)
	}
	if _, err := clientOf(t, s).Templates.Launch(o.Project, o.Region, &df.LaunchTemplateParameters{JobName: "five"}).GcsPath("gs://shop/nothing").Do(); err == nil {
		t.Error("a template that is not there was launched")
	}
}

// clientOf is a client of a fake, as that of Google is made.
func clientOf(t *testing.T, s *dataflowfake.Server) *df.ProjectsLocationsService {
	t.Helper()
	client, err := df.NewService(t.Context(), option.WithEndpoint(s.Endpoint()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	return client.Projects.Locations
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
