package flink

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/runners/jobs"
	"backbone/transforms/lake/store"
)

// fakeREST is the REST service of a job manager: it answers a request, which is a method and a path with its query, with what was laid down
// for it, the next each time and the last for ever, and notes what it was asked to change.
type fakeREST struct {
	t       *testing.T
	answers map[string][]string
	mu      sync.Mutex
	changes []string
	address string
}

func newFakeREST(t *testing.T, answers map[string][]string) *fakeREST {
	t.Helper()
	m := &fakeREST{t: t, answers: answers}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.address = strings.TrimPrefix(server.URL, "http://")
	return m
}

func (m *fakeREST) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := r.Method + " " + r.URL.Path
	if get := r.URL.Query().Get("get"); get != "" {
		request += "?" + get
	}
	if r.Method != http.MethodGet {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			m.t.Error(err)
		}
		m.changes = append(m.changes, strings.TrimSpace(request+" "+string(body)))
	}
	answers := m.answers[request]
	if len(answers) == 0 {
		w.WriteHeader(http.StatusNotFound)
		m.write(w, `{"errors":["org.apache.flink.runtime.rest.NotFoundException: there is no `+request+`\n\tat a.B.c(B.java:1)\n"]}`)
		return
	}
	if len(answers) > 1 {
		m.answers[request] = answers[1:]
	}
	m.write(w, answers[0])
}

func (m *fakeREST) write(w io.Writer, text string) {
	if _, err := io.WriteString(w, text); err != nil {
		m.t.Error(err)
	}
}

// jobs returns the jobs of the fake.
func (m *fakeREST) jobs() *Jobs {
	m.t.Helper()
	s, err := NewJobs(m.address)
	if err != nil {
		m.t.Fatal(err)
	}
	s.settle = 0
	return s
}

func (m *fakeREST) wantChanges(want ...string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if diff := cmp.Diff(want, m.changes); diff != "" {
		m.t.Errorf("changes asked for (-want +got):\n%s", diff)
	}
}

// wantError fails unless err has a part.
func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want %q in it", err, part)
	}
}

const overview = `{"jobs":[
	{"jid":"a1","name":"stream","start-time":1000,"end-time":2000,"state":"CANCELED"},
	{"jid":"a2","name":"stream","start-time":3000,"end-time":-1,"state":"RUNNING"},
	{"jid":"a3","name":"nightly","start-time":2000,"end-time":-1,"state":"HALF_LIT"}]}`

func TestJobs(t *testing.T) {
	m := newFakeREST(t, map[string][]string{
		"GET /jobs/overview": {overview},
		"GET /jobs/a2":       {`{"jid":"a2","name":"stream","start-time":3000,"end-time":-1,"state":"RESTARTING"}`},
		"GET /jobs/a2/config": {`{"execution-config":{"job-parallelism":2,
			"user-config":{"backboneRunId":"run-1","backboneLake":"/data/lake","streaming":"true"}}}`},
		"GET /jobs/a2/exceptions": {`{"root-exception":null,"exceptionHistory":{"entries":[
			{"stacktrace":"java.lang.RuntimeException: x\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: no space\n\tat a.B.c(B.java:2)\n"}]}}`},
	})
	list, err := m.jobs().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	end := at(2)
	want := []jobs.Job{
		{ID: "a2", Name: "stream", State: jobs.Running, Started: at(3)},
		{ID: "a3", Name: "nightly", State: "half_lit", Started: at(2)},
		{ID: "a1", Name: "stream", State: jobs.Cancelled, Started: at(1), Ended: &end},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("List() (-want +got):\n%s", diff)
	}
	shown, err := m.jobs().Show(t.Context(), "a2")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(jobs.Job{
		ID: "a2", Name: "stream", State: jobs.Restarting, Started: at(3), RunID: "run-1", Lake: "/data/lake", Streaming: true, Parallelism: 2,
		Failure: "java.io.IOException: no space",
	}, shown); diff != "" {
		t.Errorf("Show() (-want +got):\n%s", diff)
	}
	_, err = m.jobs().Show(t.Context(), "a9")
	wantError(t, err, m.address+": GET /jobs/a9: not there: org.apache.flink.runtime.rest.NotFoundException: there is no GET /jobs/a9")
	if strings.Contains(err.Error(), "B.java") {
		t.Errorf("the error has a stack trace: %v", err)
	}
}

func TestNewJobs(t *testing.T) {
	for _, master := range []string{"", "flink", "flink:0", "http://flink:8081", ":8081"} {
		if _, err := NewJobs(master); err == nil {
			t.Errorf("%q is taken", master)
		}
	}
	s, err := NewJobs("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.List(t.Context())
	wantError(t, err, "job manager 127.0.0.1:1: GET /jobs/overview: dial tcp 127.0.0.1:1: ")
}

func TestSavepoint(t *testing.T) {
	const busy = `{"status":{"id":"IN_PROGRESS"},"operation":null}`
	const done = `{"status":{"id":"COMPLETED"},"operation":{"location":"file:/savepoints/1"}}`
	const failed = `{"status":{"id":"COMPLETED"},"operation":{"failure-cause":{"class":"c","stack-trace":"a.B: x\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: no such bucket\n\tat a.B.c(B.java:1)"}}}`
	for _, test := range []struct {
		name    string
		options jobs.SavepointOptions
		answers []string
		change  string
		want    string
		err     string
	}{
		{"goes on", jobs.SavepointOptions{}, []string{busy, done}, "POST /jobs/a2/savepoints {}", "file:/savepoints/1", ""},
		{"elsewhere", jobs.SavepointOptions{Dir: "s3://b/s"}, []string{done}, `POST /jobs/a2/savepoints {"target-directory":"s3://b/s"}`, "file:/savepoints/1", ""},
		{"stops", jobs.SavepointOptions{Stop: true}, []string{done}, `POST /jobs/a2/stop {"drain":false}`, "file:/savepoints/1", ""},
		{"stops elsewhere", jobs.SavepointOptions{Stop: true, Dir: "s3://b/s"}, []string{done}, `POST /jobs/a2/stop {"drain":false,"targetDirectory":"s3://b/s"}`, "file:/savepoints/1", ""},
		{"fails", jobs.SavepointOptions{}, []string{busy, failed}, "POST /jobs/a2/savepoints {}", "", "savepoint: java.io.IOException: no such bucket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFakeREST(t, map[string][]string{
				"POST /jobs/a2/savepoints": {`{"request-id":"r1"}`}, "POST /jobs/a2/stop": {`{"request-id":"r1"}`}, "GET /jobs/a2/savepoints/r1": test.answers,
				"GET /jobs/a2/status": {`{"status":"FINISHED"}`},
			})
			got, err := m.jobs().Savepoint(t.Context(), "a2", test.options)
			if got != test.want || (err != nil) != (test.err != "") {
				t.Errorf("Savepoint() = %q, %v, want %q", got, err, test.want)
			}
			if test.err != "" {
				wantError(t, err, test.err)
			}
			m.wantChanges(test.change)
		})
	}
}

func TestDrain(t *testing.T) {
	lake := t.TempDir()
	config := func(options map[string]string) string {
		text, err := json.Marshal(map[string]any{"execution-config": map[string]any{"user-config": options}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ours := map[string]string{"streaming": "true", "backboneRunId": "20261122T140000Z-0a1b2c3d", "backboneLake": lake}
	for _, test := range []struct {
		name, state string
		options     map[string]string
		told        []string
		err         string
	}{
		{"a stream", "RUNNING", ours, []string{lake + " 20261122T140000Z-0a1b2c3d"}, ""},
		{"has ended", "CANCELED", ours, nil, `job "shop" (a2) is not running: it is cancelled`},
		{"files", "RUNNING", map[string]string{"backboneRunId": "r", "backboneLake": lake}, nil, `job "shop" (a2) reads files and ends by itself`},
		{"another's", "RUNNING", map[string]string{"streaming": "true"}, nil, "so it is not Backbone's"},
		{"a path for an id", "RUNNING", map[string]string{"streaming": "true", "backboneRunId": "../x", "backboneLake": lake}, nil, "so it is not Backbone's"},
		{"no lake", "RUNNING", map[string]string{"streaming": "true", "backboneRunId": "r", "backboneLake": "ftp://x"}, nil, `the lake of job "shop": `},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFakeREST(t, map[string][]string{
				"GET /jobs/a2":            {`{"jid":"a2","name":"shop","state":"` + test.state + `"}`},
				"GET /jobs/a2/config":     {config(test.options)},
				"GET /jobs/a2/exceptions": {`{}`},
			})
			var told []string
			s := m.jobs()
			s.drain = func(_ context.Context, st *store.Store, runID string) error {
				told = append(told, st.URL()+" "+runID)
				return nil
			}
			err := s.Drain(t.Context(), "a2")
			if diff := cmp.Diff(test.told, told); diff != "" || (err != nil) != (test.err != "") {
				t.Errorf("Drain() = %v; told (-want +got):\n%s", err, diff)
			}
			if test.err != "" {
				wantError(t, err, test.err)
			}
			m.wantChanges()
		})
	}
}

// The parts of a job with two steps, of which the first is done and the second has two places.
const (
	twoSteps = `"vertices":[{"id":"v1","name":"read","parallelism":1,"status":"FINISHED"},{"id":"v2","name":"write","parallelism":2,"status":"RUNNING"}]`
	least    = `{"id":"0.w.currentOutputWatermark","value":"1795646239000"}`
	most0    = `{"id":"0.w.currentOutputWatermark","value":"9223372036854775807"}`
	most1    = `{"id":"1.w.currentOutputWatermark","value":"9223372036854775807"}`
	get      = "GET /jobs/a2/vertices/v2/metrics"
	both     = get + "?0.w.currentOutputWatermark,1.w.currentOutputWatermark"
)

func TestFinishDrained(t *testing.T) {
	job := func(state string) string { return `{"status":"` + state + `"}` }
	for _, test := range []struct {
		name    string
		states  []string // as it is asked for them
		metrics map[string][]string
		changes []string
		err     string
	}{
		{
			"cancelled when both places are at the end", []string{job("RUNNING"), job("RUNNING"), job("CANCELED")},
			map[string][]string{get: {"[" + least + "," + most1 + "]"}, both: {"[" + least + "," + most1 + "]", "[" + most0 + "," + most1 + "]"}},
			[]string{"PATCH /jobs/a2"}, "",
		},
		{
			"ended by somebody else at the end", []string{job("CANCELED")},
			map[string][]string{get: {"[" + most0 + "," + most1 + "]"}, both: {"[" + most0 + "," + most1 + "]"}}, nil, "",
		},
		{
			"ended by somebody else before", []string{job("RUNNING"), job("CANCELED")},
			map[string][]string{get: {"[" + least + "," + most1 + "]"}, both: {"[" + least + "," + most1 + "]"}}, nil,
			"job a2 was drained, but ended before all was committed: it is cancelled",
		},
		{"failed", []string{job("FAILED")}, map[string][]string{get: {"[]"}}, nil, "it is failed"},
		{ // and so not at the end
			"a place says nothing", []string{job("RUNNING"), job("CANCELED")},
			map[string][]string{get: {"[" + most0 + "]"}, get + "?0.w.currentOutputWatermark": {"[" + most0 + "]"}}, nil, "ended before all was committed",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			answers := map[string][]string{
				"GET /jobs/a2/status": test.states, "GET /jobs/a2": {"{" + twoSteps + "}"}, "GET /jobs/a2/vertices/v1/metrics": {"[]"}, "PATCH /jobs/a2": {"{}"},
			}
			for request, answer := range test.metrics {
				answers[request] = answer
			}
			m := newFakeREST(t, answers)
			err := m.jobs().AwaitDrained(t.Context(), "a2")
			if (err != nil) != (test.err != "") {
				t.Errorf("AwaitDrained() = %v", err)
			}
			if test.err != "" {
				wantError(t, err, test.err)
			}
			m.wantChanges(test.changes...)
		})
	}
}

func TestFinishDrainedIsGivenUp(t *testing.T) {
	m := newFakeREST(t, map[string][]string{"GET /jobs/a2": {`{}`}, "GET /jobs/a2/status": {`{"status":"RUNNING"}`}})
	late := errors.New("it takes too long")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second/2, late)
	defer cancel()
	if err := finishDrained(ctx, rest{m.address}, "a2"); !errors.Is(err, late) {
		t.Errorf("error %v, want %v in it", err, late)
	}
	m.wantChanges()
}
