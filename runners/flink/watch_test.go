package flink

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
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
			if diff := cmp.Diff(test.want, failure(test.said).Error()); diff != "" {
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
		name string
		says []*jobpb.JobMessagesResponse
		want string
	}{
		{"Done", []*jobpb.JobMessagesResponse{running, done}, ""},
		{"Failed, then why", []*jobpb.JobMessagesResponse{running, failed, message("a.B: x")}, "job failed: a.B: x"},
		{"Why, then failed", []*jobpb.JobMessagesResponse{running, message("a.B: x"), failed}, "job failed: a.B: x"},
		{"A trace, and its last cause", []*jobpb.JobMessagesResponse{running, trace("a.B: x\n\tat a.B.c(B.java:1)\nCaused by: a.IOException: no /bin/y\n\tat a.B.c(B.java:2)\nCaused by: a.IOException: /bin/y\n\tat a.B.c(B.java:3)\n"),
			message("a.IOException: /bin/y"), failed}, "job failed: a.IOException: no /bin/y"},
		{"Failed at once", []*jobpb.JobMessagesResponse{running, nil, running, message("a.B: x"), failed}, "job failed: a.B: x"},
		{"Failed", []*jobpb.JobMessagesResponse{running, failed}, "does not say why"},
		{"Cancelled", []*jobpb.JobMessagesResponse{running, state(jobpb.JobState_CANCELLED)}, "was cancelled"},
		{"Gone", []*jobpb.JobMessagesResponse{running}, "may still run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := &fakeServer{says: make(chan *jobpb.JobMessagesResponse, len(test.says))}
			for _, m := range test.says {
				server.says <- m // nil: the stream ends here, and there is another
			}
			close(server.says)
			err := watch(t.Context(), server, rest{}, "job")
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

// Who is stopped takes the job along: what the job server says of it is not enough, since it says so of jobs that go on.
func TestWatchCancels(t *testing.T) {
	server := &fakeServer{says: make(chan *jobpb.JobMessagesResponse), cancelled: make(chan string, 1)}
	asked, states := 0, []string{"", "RUNNING", "CANCELLING", "CANCELED"} // the first: it is not there yet
	manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + r.URL.String() {
		case "GET/jobs/overview":
			jobs := `{"jid":"1","name":"another","state":"RUNNING"}`
			if states[0] != "" {
				jobs += `,{"jid":"2","name":"root-job","state":"` + states[0] + `"}`
			}
			states = states[min(1, len(states)-1):]
			_, _ = io.WriteString(w, `{"jobs":[`+jobs+`]}`)
		case "PATCH/jobs/2?mode=cancel":
			asked++
			_, _ = io.WriteString(w, "{}")
		default:
			http.Error(w, "no such thing", http.StatusNotFound)
		}
	}))
	defer manager.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	err := watch(ctx, server, rest{manager.Listener.Addr().String()}, "root-job_8c7d")
	close(server.says)
	if !errors.Is(err, stopped) {
		t.Errorf("error %v, want %v", err, stopped)
	}
	if id := <-server.cancelled; id != "root-job_8c7d" || asked != 1 || states[0] != "CANCELED" {
		t.Errorf("%q was cancelled, and in Flink %d times; its state is %s", id, asked, states[0])
	}
}

// Parts of a job count the same, each for itself.
func TestCounts(t *testing.T) {
	counter := func(transform, name string, payload ...byte) *pipepb.MonitoringInfo {
		return &pipepb.MonitoringInfo{Urn: "beam:metric:user:sum_int64:v1", Payload: payload, Labels: map[string]string{"PTRANSFORM": transform, "NAMESPACE": "lake", "NAME": name}}
	}
	server := &fakeServer{metrics: &jobpb.MetricResults{Attempted: []*pipepb.MonitoringInfo{
		counter("a", "committed", 3), counter("b", "committed", 0x80, 1), counter("a", "duplicate", 0),
		{Urn: "beam:metric:element_count:v1", Payload: []byte{9}, Labels: map[string]string{"PCOLLECTION": "c"}},
	}}}
	if _, err := countsOf(t.Context(), &fakeServer{}, "job"); err == nil {
		t.Error("no counts at all are no error: nobody would see that nothing was counted")
	}
	got, err := countsOf(t.Context(), server, "job")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"lake/committed": 131, "lake/duplicate": 0}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
