package flink

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/runners/jobs"
)

// accumulatorsOf is the answer of a job manager that has counted some metrics, in the JSON of Beam's protocol.
func accumulatorsOf(t *testing.T, metrics string) string {
	t.Helper()
	value, err := json.Marshal(`{"metrics":{"attempted":[` + metrics + `]}}`)
	if err != nil {
		t.Fatal(err)
	}
	return `{"user-task-accumulators":[{"name":"another","value":"?"},{"name":"__metricscontainers","type":"MetricsAccumulator","value":` + string(value) + `}]}`
}

func user(kind, namespace, name, payload string) string {
	return `{"urn":"beam:metric:user:` + kind + `_int64:v1","payload":"` + payload + `","labels":{"NAMESPACE":"` + namespace + `","NAME":"` + name + `","PTRANSFORM":"e1"}}`
}

// Metrics of tasks and accumulators are put together: what is known more of counts.
func TestMetrics(t *testing.T) {
	read := []string{ // of two places, which count together
		`{"id":"0.[2]interactions/{processFn__WindowInto}.events_read","value":"998"}`,
		`{"id":"1.[2]interactions/{processFn__WindowInto}.events_read","value":"2"}`,
		`{"id":"0.[2]interactions/{processFn__WindowInto}.currentOutputWatermark","value":"9223372036854775807"}`,
		`{"id":"1.[2]interactions/{processFn__WindowInto}.currentOutputWatermark","value":"1795646239000"}`,
		`{"id":"0.backPressuredTimeMsPerSecond","value":"250"}`,
		`{"id":"1.backPressuredTimeMsPerSecond","value":"NaN"}`,
	}
	write := []string{
		`{"id":"0.[1]lake_Write/lake_writeFn.lake_committed","value":"900"}`,
		`{"id":"0.[1]lake_Write/lake_writeFn.lake_commit_milliseconds","value":"DistributionResult{sum=120, count=16, min=2, max=15}"}`,
		`{"id":"1.[1]lake_Write/lake_writeFn.lake_commit_milliseconds","value":"DistributionResult{sum=40, count=4, min=1, max=30}"}`,
		`{"id":"0.[1]lake_Write/lake_writeFn.currentOutputWatermark","value":"1795646249000"}`,
		`{"id":"0.backPressuredTimeMsPerSecond","value":"100"}`,
	}
	names := func(metrics []string) string {
		var ids []string
		for _, m := range append(metrics, `{"id":"0.numRecordsIn","value":"1"}`, `{"id":"0.w.n6_metric_element_count_v1","value":"7"}`, `{"id":"0.w.lake_Write.numBytesIn","value":"7"}`) {
			ids = append(ids, strings.Split(m, `","value`)[0]+`"}`)
		}
		return "[" + strings.Join(ids, ",") + "]"
	}
	ask := func(metrics []string) string {
		var ids []string
		for _, m := range metrics {
			ids = append(ids, strings.TrimPrefix(strings.Split(m, `","value`)[0], `{"id":"`))
		}
		slices.Sort(ids)
		return "?" + strings.Join(ids, ",")
	}
	m := newFakeREST(t, map[string][]string{
		"GET /jobs/a2": {`{"jid":"a2","name":"shop","state":"RUNNING","vertices":[
			{"id":"v1","name":"read","parallelism":2,"status":"RUNNING"},{"id":"v2","name":"write","parallelism":1,"status":"RUNNING"}]}`},
		"GET /jobs/a2/vertices/v1/metrics":              {names(read)},
		"GET /jobs/a2/vertices/v1/metrics" + ask(read):  {"[" + strings.Join(read, ",") + "]"},
		"GET /jobs/a2/vertices/v2/metrics":              {names(write)},
		"GET /jobs/a2/vertices/v2/metrics" + ask(write): {"[" + strings.Join(write, ",") + "]"},
		"GET /jobs/a2/accumulators": {accumulatorsOf(t, strings.Join([]string{
			user("sum", "lake", "committed", "hAc="),         // 900 is 0x84 0x07: the same
			user("sum", "lake", "dead_lettered", "BQ=="),     // 5, of a task that was quick
			user("sum", "events", "read", "AQ=="),            // 1, of a task of two
			user("distribution", "lake", "wait", "AgoDBw=="), // 2 values, 10 in all, from 3 to 7
			user("distribution", "lake", "wait", "AQQEBA=="), // another step's: 1 value, 4
			user("latest", "lake", "unknown", "AQQEBA=="),    // no form that is known
			`{"urn":"beam:metric:element_count:v1","type":"beam:metrics:sum_int64:v1","payload":"AQ==","labels":{"PCOLLECTION":"n1"}}`,
		}, ","))},
		"GET /jobs/a2/checkpoints": {`{"counts":{"completed":7,"failed":2},"latest":{"completed":{"latest_ack_timestamp":1795646239181,
			"end_to_end_duration":1072,"state_size":397471,"external_path":"file:/chk-4"}}}`},
		"GET /jobs/a2/metrics?numRestarts,uptime": {`[{"id":"numRestarts","value":"3"},{"id":"uptime","value":"31549"}]`},
	})
	got, err := m.jobs().Metrics(t.Context(), "a2")
	if err != nil {
		t.Fatal(err)
	}
	watermark, pressure := time.UnixMilli(1795646239000).UTC(), 0.25
	want := jobs.Metrics{
		Counts: map[string]int64{"events/read": 1000, "lake/committed": 900, "lake/dead_lettered": 5},
		Distributions: map[string]jobs.Distribution{
			"lake/commit_milliseconds": {Count: 20, Sum: 160, Min: 1, Max: 30}, "lake/wait": {Count: 3, Sum: 14, Min: 3, Max: 7},
		},
		Watermark: &watermark, Backpressure: &pressure, BackpressureAt: "read",
		Checkpoints: &jobs.Checkpoints{Completed: 7, Failed: 2, Last: &jobs.Checkpoint{
			Completed: time.UnixMilli(1795646239181).UTC(), Seconds: 1.072, Bytes: 397471, Path: "file:/chk-4",
		}},
		Restarts: 3, UptimeSeconds: 31.549,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Metrics() (-want +got):\n%s", diff)
	}
}

// A job of files has no watermark, no checkpoint and, when it has ended, only accumulators.
func TestMetricsOfFiles(t *testing.T) {
	m := newFakeREST(t, map[string][]string{
		"GET /jobs/a2":                            {`{"jid":"a2","state":"FINISHED","vertices":[{"id":"v1","name":"read","parallelism":2,"status":"FINISHED"}]}`},
		"GET /jobs/a2/vertices/v1/metrics":        {"[]"},
		"GET /jobs/a2/accumulators":               {accumulatorsOf(t, user("sum", "events", "read", "AQ=="))},
		"GET /jobs/a2/metrics?numRestarts,uptime": {`[]`},
	})
	got, err := m.jobs().Metrics(t.Context(), "a2")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(jobs.Metrics{Counts: map[string]int64{"events/read": 1}, Distributions: map[string]jobs.Distribution{}}, got); diff != "" {
		t.Errorf("Metrics() (-want +got):\n%s", diff)
	}
}

func TestDamagedAccumulators(t *testing.T) {
	for name, answer := range map[string]string{
		"value":   `{"user-task-accumulators":[{"name":"__metricscontainers","value":"?"}]}`,
		"payload": accumulatorsOf(t, user("distribution", "lake", "wait", "AgoD")),
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeREST(t, map[string][]string{"GET /jobs/a2": {`{}`}, "GET /jobs/a2/accumulators": {answer}})
			_, err := rest{m.address}.read(t.Context(), "a2")
			wantError(t, err, "of job a2: ")
		})
	}
}

func TestWatermarks(t *testing.T) {
	running := vertex{Parallelism: 2, Status: "RUNNING"}
	const flinkMin, flinkMax, beamMin, beamMax, now = -1 << 63, 1<<63 - 1, -9223372036854775, 9223372036854775, 1795646239000
	for _, test := range []struct {
		name     string
		marks    []int64
		reported int
		at       int64 // 0: none
		drained  bool
	}{
		{"none", nil, 0, 0, false},
		{"one reader is idle", []int64{now, flinkMax}, 2, now, false},
		{"nothing yet", []int64{now, flinkMin}, 2, 0, false},
		{"nothing yet, in Beam's words", []int64{now, beamMin}, 2, 0, false},
		{"the end", []int64{flinkMax, flinkMax}, 2, 0, true},
		{"the end, in Beam's words", []int64{beamMax, flinkMax}, 2, 0, true},
		{"the end of the global window", []int64{beamMax, beamMax - 24*3600*1000}, 2, 0, false},
		{"one of two has told", []int64{flinkMax}, 1, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watermarks{least: 1<<63 - 1, whole: true}
			for _, m := range test.marks {
				w.add(m)
			}
			w.reported(running, test.reported)
			var at int64
			if got := w.at(); got != nil {
				at = got.UnixMilli()
			}
			if at != test.at || w.through() != test.drained {
				t.Errorf("at %d, drained %v, want %d, %v", at, w.through(), test.at, test.drained)
			}
		})
	}
}

// A meter finds its own job among others of its name, and keeps what it knew when it cannot ask.
func TestMeter(t *testing.T) {
	config := func(run string) []string {
		return []string{`{"execution-config":{"user-config":{"backboneRunId":"` + run + `"}}}`}
	}
	answers := map[string][]string{
		"GET /jobs/overview":  {`{"jobs":[]}`, `{"jobs":[{"jid":"a1","name":"shop","start-time":1},{"jid":"a2","name":"shop","start-time":2},{"jid":"a3","name":"other","start-time":3}]}`},
		"GET /jobs/a1/config": config("mine"), "GET /jobs/a2/config": config("another's"),
		"GET /jobs/a1":              {`{"jid":"a1","vertices":[]}`},
		"GET /jobs/a1/accumulators": {accumulatorsOf(t, user("sum", "events", "read", "BQ=="))},
	}
	m := newFakeREST(t, answers)
	meter := NewMeter(Options{Master: m.address, Name: "shop", RunID: "mine"})
	for n, want := range []map[string]int64{{}, {"events/read": 5}, {"events/read": 5}} {
		counts, _, err := meter.Metrics(t.Context())
		if diff := cmp.Diff(want, counts); diff != "" || (err != nil) != (n == 2) {
			t.Errorf("call %d: error %v, counts (-want +got):\n%s", n, err, diff)
		}
		if n == 1 {
			m.mu.Lock()
			delete(m.answers, "GET /jobs/a1")
			m.mu.Unlock()
		}
	}
	if NewMeter(Options{}) != nil {
		t.Error("there is a meter of an unknown job manager")
	}
}
