package flink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"backbone/runners/jobs"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

func TestFailure(t *testing.T) {
	for _, test := range []struct{ name, said, want string }{
		{"Worker", "java.util.concurrent.ExecutionException: org.apache.flink.client.program.ProgramInvocationException: Job failed (JobID: 1)\n" +
			"\tat org.apache.flink.client.program.ContextEnvironment.execute(ContextEnvironment.java:1)\n" +
			"Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 4: process bundle failed\n\tcaused by:\nDoFn failed:\nno space\n" +
			"\tat org.apache.beam.fn.Client.on(Client.java:9)\n\t... 8 more\n",
			"job failed: process bundle failed\n\tcaused by:\nDoFn failed:\nno space"},
		{"Program", "java.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: Cannot run program \"/nowhere\": error=2, No such file\n" +
			"\tat java.base/java.lang.ProcessBuilder.start(ProcessBuilder.java:1)\nCaused by: java.io.IOException: error=2, No such file\n\tat java.base/a.b(c.java)\n",
			"job failed: java.io.IOException: Cannot run program \"/nowhere\": error=2, No such file"},
		{"Translation", "java.lang.ClassCastException: class A cannot be cast to class B\n\tat a.B.<init>(B.java:1)\n", "job failed: java.lang.ClassCastException: class A cannot be cast to class B"},
		{"Repeated", "java.lang.RuntimeException: java.net.ConnectException: refused\n\tat a.B.c(B.java)\nCaused by: java.net.ConnectException: refused\n\tat a.B.c(B.java)\n",
			"job failed: java.net.ConnectException: refused"},
		{"NoMessage", "java.lang.RuntimeException: x\n\tat a.B.c(B.java)\nCaused by: java.lang.NullPointerException\n\tat a.B.c(B.java)\n", "job failed: java.lang.NullPointerException"},
		{"Nothing", "", "job failed: the job server does not say why; see its log, and those of the job manager and the task managers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := gocmp.Diff(test.want, failure(test.said).Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// fakeServer is a job server that says what it was told to.
type fakeServer struct {
	jobpb.JobServiceClient
	jobpb.JobService_GetMessageStreamClient
	says      chan *jobpb.JobMessagesResponse // closed at the end
	cancelled chan string
	metrics   *jobpb.MetricResults
	state     jobpb.JobState_Enum // when it is asked; of none, it knows no job
}

func (s *fakeServer) GetMessageStream(context.Context, *jobpb.JobMessagesRequest, ...grpc.CallOption) (jobpb.JobService_GetMessageStreamClient, error) {
	return s, nil
}

func (s *fakeServer) Recv() (*jobpb.JobMessagesResponse, error) {
	m, ok := <-s.says
	if !ok || m == nil {
		return nil, io.EOF
	}
	return m, nil
}

func (s *fakeServer) GetState(context.Context, *jobpb.GetJobStateRequest, ...grpc.CallOption) (*jobpb.JobStateEvent, error) {
	if s.state == jobpb.JobState_UNSPECIFIED {
		return nil, status.Error(codes.NotFound, "no such job")
	}
	return &jobpb.JobStateEvent{State: s.state}, nil
}

func (s *fakeServer) Cancel(_ context.Context, in *jobpb.CancelJobRequest, _ ...grpc.CallOption) (*jobpb.CancelJobResponse, error) {
	s.cancelled <- in.GetJobId()
	return &jobpb.CancelJobResponse{}, nil
}

func (s *fakeServer) GetJobMetrics(context.Context, *jobpb.GetJobMetricsRequest, ...grpc.CallOption) (*jobpb.GetJobMetricsResponse, error) {
	return &jobpb.GetJobMetricsResponse{Metrics: s.metrics}, nil
}

func state(s jobpb.JobState_Enum) *jobpb.JobMessagesResponse {
	return &jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_StateResponse{StateResponse: &jobpb.JobStateEvent{State: s}}}
}

func trace(text string) *jobpb.JobMessagesResponse {
	m := message(text)
	m.GetMessageResponse().Importance = jobpb.JobMessage_JOB_MESSAGE_DEBUG
	return m
}

func message(text string) *jobpb.JobMessagesResponse {
	return &jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_MessageResponse{
		MessageResponse: &jobpb.JobMessage{MessageText: text, Importance: jobpb.JobMessage_JOB_MESSAGE_ERROR},
	}}
}

func TestWatch(t *testing.T) {
	running, done, failed := state(jobpb.JobState_RUNNING), state(jobpb.JobState_DONE), state(jobpb.JobState_FAILED)
	for _, test := range []struct {
		name  string
		says  []*jobpb.JobMessagesResponse
		want  string
		state jobpb.JobState_Enum // when the job server is asked
	}{
		{"Done", []*jobpb.JobMessagesResponse{running, done}, "", 0},
		{"Failed, then why", []*jobpb.JobMessagesResponse{running, failed, message("a.B: x")}, "job failed: a.B: x", 0},
		{"Why, then failed", []*jobpb.JobMessagesResponse{running, message("a.B: x"), failed}, "job failed: a.B: x", 0},
		{"A trace, and its last cause", []*jobpb.JobMessagesResponse{running, trace("a.B: x\n\tat a.B.c(B.java:1)\nCaused by: a.IOException: no /bin/y\n\tat a.B.c(B.java:2)\nCaused by: a.IOException: /bin/y\n\tat a.B.c(B.java:3)\n"),
			message("a.IOException: /bin/y"), failed}, "job failed: a.IOException: no /bin/y", 0},
		{"Failed at once", []*jobpb.JobMessagesResponse{running, nil, running, message("a.B: x"), failed}, "job failed: a.B: x", 0},
		{"Failed", []*jobpb.JobMessagesResponse{running, failed}, "does not say why", 0},
		{"Failed before it was listened to", []*jobpb.JobMessagesResponse{message("a.B: x"), state(jobpb.JobState_STOPPED), nil, message("a.B: x"), state(jobpb.JobState_STOPPED)}, "job failed: a.B: x", jobpb.JobState_FAILED},
		{"Done before it was listened to", []*jobpb.JobMessagesResponse{state(jobpb.JobState_STOPPED)}, "", jobpb.JobState_DONE},
		{"The stream breaks", []*jobpb.JobMessagesResponse{running, nil, running, done}, "", jobpb.JobState_RUNNING},
		{"Cancelled", []*jobpb.JobMessagesResponse{running, state(jobpb.JobState_CANCELLED)}, "was cancelled", 0},
		{"Gone", []*jobpb.JobMessagesResponse{running}, "may still run", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := &fakeServer{says: make(chan *jobpb.JobMessagesResponse, len(test.says)), state: test.state}
			for _, m := range test.says {
				server.says <- m // nil: the stream ends here, and there is another
			}
			close(server.says)
			w := watcher{client: server, id: "job", found: make(chan job, 1)}
			err := w.watch(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

// fakeManager is a job manager that knows one job of a launch, and another before it of the same name, which has ended.
type fakeManager struct {
	mu        sync.Mutex
	states    []string // of the job, one for each time it is asked; "": it is not there; "down": nobody answers. The last stays.
	first     string   // state of the other
	watermark string
	cancelled []string

	accumulators string
	asked        int // for its state
}

func (m *fakeManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	state := m.states[0]
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	if state == "down" {
		m.states = m.states[1:]
		http.Error(w, "nobody", http.StatusServiceUnavailable)
		return
	}
	switch r.Method + r.URL.String() {
	case "GET/jobs/overview":
		jobs := fmt.Sprintf(`{"jid":"1","name":"events","state":%q,"start-time":1000}`, cmp.Or(m.first, "FINISHED"))
		if state == "" {
			m.states = m.states[1:]
		} else {
			jobs = fmt.Sprintf(`{"jid":"2","name":"events","state":%q,"start-time":2000},%s`, state, jobs)
		}
		say(`{"jobs":[%s]}`, jobs)
	case "GET/jobs/1/config":
		say(`{"execution-config":{"user-config":{"backboneRunId":"before"}}}`)
	case "GET/jobs/2/config":
		say(`{"execution-config":{"user-config":{"backboneRunId":"now"}}}`)
	case "GET/jobs/2/status":
		m.asked++
		if len(m.states) > 1 {
			m.states = m.states[1:]
		}
		if state == "" {
			http.Error(w, `{"errors":["Internal server error.","<Exception on server side:\norg.apache.flink.runtime.messages.FlinkJobNotFoundException: x"]}`, http.StatusInternalServerError)
			return
		}
		say(`{"status":%q}`, state)
	case "GET/jobs/2/exceptions?maxExceptions=1":
		say(`{"root-exception":"a.B: boom\n\tat a.B.c(B.java:1)\n"}`)
	case "GET/jobs/2/accumulators":
		say("%s", m.accumulators)
	case "GET/jobs/2/checkpoints":
		say(`{"latest":{"completed":{"external_path":"file:/chk-7"}}}`)
	case "GET/jobs/2":
		if state == "FINISHED" {
			say(`{"jid":"2","state":"FINISHED"}`)
			return
		}
		say(`{"vertices":[{"id":"a","parallelism":1,"status":"FINISHED"},{"id":"b","parallelism":2,"status":"RUNNING"}]}`)
	case "GET/jobs/2/vertices/a/metrics":
		say(`[]`) // a source that has ended
	case "GET/jobs/2/vertices/b/metrics", "GET/jobs/2/vertices/b/metrics?get=0.b.currentOutputWatermark%2C1.b.currentOutputWatermark":
		say(`[{"id":"0.b.currentOutputWatermark","value":"9223372036854775807"},{"id":"1.b.currentOutputWatermark","value":%q}]`, m.watermark)
	case "PATCH/jobs/2?mode=cancel":
		m.cancelled = append(m.cancelled, "2")
		m.states = []string{"CANCELLING", "CANCELED"}
		say("{}")
	default:
		http.Error(w, r.Method+r.URL.String(), http.StatusNotImplemented)
	}
}

// manage starts a job manager, and makes a watcher of a job that it has.
func manage(t *testing.T, m *fakeManager, server *fakeServer, o Options) *watcher {
	t.Helper()
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	o.Name, o.RunID = "events", "now"
	t.Cleanup(func() {
		if err := run.Of(o.RunID).Close(); err != nil {
			t.Error(err)
		}
	})
	if o.Lake == "" {
		o.Lake = t.TempDir()
	}
	return &watcher{Options: o, client: server, manager: rest{s.Listener.Addr().String()}, id: "events_8c7d", found: make(chan job, 1)}
}

// What becomes of a job is what the job manager says, also where there is no job server any more.
func TestWatchManager(t *testing.T) {
	drained := t.TempDir() // a lake that says so
	st, err := store.Open(t.Context(), drained)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := lake.RequestDrain(t.Context(), st, "now"); err != nil {
		t.Fatal(err)
	}
	const last, global = "9223372036854775", "9223371950454775"
	for _, test := range []struct {
		name      string
		states    []string
		first     string
		watermark string
		says      []*jobpb.JobMessagesResponse
		o         Options
		want      string
		cancelled bool
	}{
		{name: "Ends", states: []string{"", "CREATED", "RUNNING", "down", "RUNNING", "FINISHED"}},
		{name: "The job server takes its end for a failure", states: []string{"RUNNING", "RUNNING", "FINISHED"}, says: []*jobpb.JobMessagesResponse{message("a.B: gone"), state(jobpb.JobState_FAILED)}},
		{name: "Restarts", states: []string{"RUNNING", "RESTARTING", "RUNNING", "FINISHED"}},
		{name: "Cancelled", states: []string{"RUNNING", "CANCELED"}, want: "was cancelled"},
		{name: "Ended by who has asked it to drain", states: []string{"RUNNING", "CANCELED"}, o: Options{Streaming: true, Lake: drained}, watermark: "0"},
		{name: "Fails", states: []string{"RUNNING", "FAILED"}, want: "job failed: a.B: boom"},
		{name: "Stopped", states: []string{"RUNNING", "FINISHED"}, o: Options{Streaming: true}, watermark: "0", want: errStopped.Error()},
		{name: "Stopped, and the job server says first that it is done", states: []string{"RUNNING", "RUNNING", "FINISHED"}, o: Options{Streaming: true}, watermark: "0", says: []*jobpb.JobMessagesResponse{state(jobpb.JobState_DONE)}, want: errStopped.Error()},
		{name: "Drained", states: []string{"RUNNING"}, o: Options{Streaming: true, Lake: drained}, watermark: last, cancelled: true},
		{name: "Not yet drained", states: []string{"RUNNING", "RUNNING", "FAILED"}, o: Options{Streaming: true, Lake: drained}, watermark: global, want: "boom"},
		{name: "Forgotten, and the job server takes it for a failure", states: []string{"RUNNING", "RUNNING", ""}, o: Options{Streaming: true}, says: []*jobpb.JobMessagesResponse{message("a.B: gone"), state(jobpb.JobState_FAILED)}, want: "--flink_savepoint=file:/chk-7"},
		{name: "Forgotten", states: []string{"RUNNING", "RUNNING", ""}, o: Options{Streaming: true}, want: "--flink_savepoint=file:/chk-7"},
		{name: "Detached", states: []string{"", "CREATED", "RUNNING"}, o: Options{Detach: true}, want: errDetached.Error()},
		{name: "Twice", states: []string{"RUNNING"}, first: "RUNNING", want: "runs already: events (1), since 1970-01-01T00:00:01Z", cancelled: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := &fakeServer{says: make(chan *jobpb.JobMessagesResponse, len(test.says))}
			for _, m := range test.says {
				server.says <- m
			}
			if test.says == nil {
				close(server.says) // it is gone
			}
			m := &fakeManager{states: test.states, first: test.first, watermark: test.watermark}
			w := manage(t, m, server, test.o)
			err := w.watch(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
			if got := len(m.cancelled) > 0; got != test.cancelled {
				t.Errorf("cancelled: %v, want %v", got, test.cancelled)
			}
		})
	}
}

// Who is stopped takes the job along: what the job server says of it is not enough, since it says so of jobs that go on.
func TestWatchCancels(t *testing.T) {
	server := &fakeServer{says: make(chan *jobpb.JobMessagesResponse), cancelled: make(chan string, 1)}
	m := &fakeManager{states: []string{"", "RUNNING"}}
	w := manage(t, m, server, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	err := w.watch(ctx)
	close(server.says)
	if !errors.Is(err, stopped) {
		t.Errorf("error %v, want %v", err, stopped)
	}
	if id := <-server.cancelled; id != "events_8c7d" || len(m.cancelled) != 1 || m.states[0] != "CANCELED" {
		t.Errorf("%q was cancelled, and in Flink %v; its state is %v", id, m.cancelled, m.states)
	}
}

// Who follows waits for the end of the job of that name that runs, without its job server, and has its counts.
func TestFollow(t *testing.T) {
	for _, test := range []struct {
		name   string
		states []string
		cancel bool
		want   string
	}{
		{name: "Ends", states: []string{"RUNNING", "RUNNING", "down", "RUNNING", "FINISHED"}},
		{name: "Fails", states: []string{"RUNNING", "FAILED"}, want: "job failed: a.B: boom"},
		{name: "Cancelled", states: []string{"RUNNING", "CANCELED"}, want: "was cancelled"},
		{name: "Stopped", states: []string{"RUNNING"}, cancel: true, want: "context canceled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &fakeManager{states: test.states, accumulators: accumulatorsOf(t, user("sum", "events", "read", "AQ=="))}
			s := httptest.NewServer(m)
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.cancel {
				go func() {
					for asked := false; !asked && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
						m.mu.Lock()
						asked = m.asked > 1
						m.mu.Unlock()
					}
					cancel()
				}()
			}
			o := Defaults()
			o.Name, o.RunID, o.Lake, o.Follow = "events", "another", t.TempDir(), true
			o.Master, o.Endpoint = s.Listener.Addr().String(), "127.0.0.1:1"
			p, scope := beam.NewPipelineWithRoot()
			beam.Impulse(scope)
			result, err := Submit(ctx, p, o)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || test.cancel != (len(m.cancelled) > 0) {
					t.Errorf("error %v, want %q; cancelled %v", err, test.want, m.cancelled)
				}
				return
			}
			if err != nil || result.Outcome != jobs.Ended || result.Counts["events/read"] != 1 {
				t.Errorf("Submit() = %+v, %v", result, err)
			}
		})
	}
}

// Without a job manager, it is not seen whether there is a job to follow: it is submitted. One that is named has to answer.
func TestFollowUnseen(t *testing.T) {
	for master, want := range map[string]string{"": "no job server answers at endpoint 127.0.0.1:1", "127.0.0.1:2": "no job manager answers at flink_master 127.0.0.1:2"} {
		o := Defaults()
		o.Name, o.RunID, o.Lake, o.Follow, o.Endpoint, o.Master = "events", "another", t.TempDir(), true, "127.0.0.1:1", master
		p, scope := beam.NewPipelineWithRoot()
		beam.Impulse(scope)
		if _, err := Submit(t.Context(), p, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// Parts of a job count the same, each for itself.
func TestCounts(t *testing.T) {
	counter := func(transform, name string, payload ...byte) *pipepb.MonitoringInfo {
		return &pipepb.MonitoringInfo{Urn: "beam:metric:user:sum_int64:v1", Payload: payload, Labels: map[string]string{"PTRANSFORM": transform, "NAMESPACE": "lake", "NAME": name}}
	}
	all := []*pipepb.MonitoringInfo{
		counter("a", "committed", 3), counter("b", "committed", 0x80, 1), counter("a", "duplicate", 0),
		{Urn: "beam:metric:element_count:v1", Payload: []byte{9}, Labels: map[string]string{"PCOLLECTION": "c"}},
	}
	if _, err := countsOf("job", nil); err == nil {
		t.Error("no counts at all are no error: nobody would see that nothing was counted")
	}
	got, err := countsOf("job", all)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(map[string]int64{"lake/committed": 131, "lake/duplicate": 0}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
