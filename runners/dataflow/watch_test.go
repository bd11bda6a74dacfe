package dataflow

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/jobs"
)

func TestIncompatible(t *testing.T) {
	before := []string{"a/read: x, [] -> [bytes]", "a/write: y, [bytes] -> []"}
	for _, test := range []struct {
		name  string
		after []string
		names map[string]string
		want  string // in what is said; "": nothing
	}{
		{"Same", before, nil, ""},
		{"One more", append([]string{"b: z"}, before...), nil, ""},
		{"Gone", before[:1], nil, "- a/write"},
		{"Given up", before[:1], map[string]string{"a/write": ""}, ""},
		{"Another coder", []string{before[0], "a/write: y, [rows] -> []"}, nil, "a/write was y, [bytes] -> [], and is y, [rows] -> []"},
		{"Renamed", []string{before[0], "a/sink: y, [bytes] -> []"}, map[string]string{"a/write": "a/sink"}, ""},
		{"Renamed around", []string{"b/read: x, [] -> [bytes]", "b/write: y, [bytes] -> []"}, map[string]string{"a": "b"}, ""},
		{"Mapped from nowhere", before, map[string]string{"c": "a"}, "c is mapped, and is no step"},
		{"Mapped to nowhere", before, map[string]string{"a/write": "c"}, "a/write is mapped to c, which is no step"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(incompatible(before, test.after, test.names), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("incompatible() = %q, want %q in it", got, test.want)
			}
		})
	}
}

func TestBrief(t *testing.T) {
	for text, want := range map[string]string{
		"one\n  two": "one two",
		"bundle failed:\n\tcaused by:\nsource failed\n\tcaused by:\nDoFn[UID:6, PID:e4, Name: backbone/lake.writeFn] failed:\nno such\nbucket": "backbone/lake.writeFn: no such; bucket",
		"": "",
	} {
		if got := brief(text); got != want {
			t.Errorf("brief(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestCauseOf(t *testing.T) {
	const last = "Workflow failed. Causes: a work item has failed 4 times."
	for _, test := range []struct {
		wrong []string
		want  string
	}{
		{[]string{"first", "second", last}, "second"},
		{[]string{last}, last},
		{nil, "Dataflow says no more; see the log of its workers in the console"},
	} {
		if got := causeOf(test.wrong); got != test.want {
			t.Errorf("causeOf(%q) = %q, want %q", test.wrong, got, test.want)
		}
	}
}

// Counters of several steps are added up. What is committed counts, and what is tentative only where nothing is.
func TestCountedBy(t *testing.T) {
	const text = `{"metrics": [
		{"name": {"origin": "dataflow/v1b3", "name": "ElementCount", "context": {}}, "scalar": 7},
		{"name": {"origin": "user", "name": "read", "context": {"namespace": "events", "step": "e3", "tentative": "true"}}, "scalar": 9},
		{"name": {"origin": "user", "name": "read", "context": {"namespace": "events", "step": "e3"}}, "scalar": 5},
		{"name": {"origin": "user", "name": "read", "context": {"namespace": "events", "step": "e8"}}, "scalar": "2"},
		{"name": {"origin": "user", "name": "read", "context": {"namespace": "events", "step": "e8", "tentative": "true"}}, "scalar": 3},
		{"name": {"origin": "user", "name": "late", "context": {"namespace": "lake", "step": "e9", "tentative": "true"}}, "scalar": 1},
		{"name": {"origin": "user", "name": "milliseconds", "context": {"namespace": "lake", "step": "e9"}}, "distribution": {"count": 2, "sum": 30, "min": 10, "max": 20}}
	]}`
	var m df.JobMetrics
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	got := countedBy(&m)
	want := jobs.Metrics{
		Counts:        map[string]int64{"events/read": 5 + 2, "lake/late": 1},
		Distributions: map[string]jobs.Distribution{"lake/milliseconds": {Count: 2, Sum: 30, Min: 10, Max: 20}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("countedBy() (-want +got):\n%s", diff)
	}
}

// The watermark of a job is the earliest of its stages'.
func TestWatermarkOf(t *testing.T) {
	early, late := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC), time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC)
	metric := func(name string, value any) *df.MetricUpdate {
		return &df.MetricUpdate{Name: &df.MetricStructuredName{Origin: "dataflow/v1b3", Name: name}, Scalar: value}
	}
	for _, test := range []struct {
		name    string
		metrics []*df.MetricUpdate
		want    *time.Time
	}{
		{"None", []*df.MetricUpdate{metric("ElementCount", 7.0)}, nil},
		{"Earliest", []*df.MetricUpdate{
			metric("F1-windmill-data-watermark", float64(late.UnixMicro())), metric("F2-windmill-data-watermark", float64(early.UnixMicro())), metric("F3-DataWatermark", -2.0),
		}, &early},
		{"NotKnownYet", []*df.MetricUpdate{metric("DataWatermark", float64(late.UnixMicro())), metric("DataWatermark", -1.0)}, nil},
		{"Over", []*df.MetricUpdate{metric("F1-windmill-data-watermark", -2.0)}, nil},
		{"OfAFunction", []*df.MetricUpdate{{Name: &df.MetricStructuredName{Origin: "user", Name: "MyDataWatermark"}, Scalar: 7.0}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, watermarkOf(&df.JobMetrics{Metrics: test.metrics})); diff != "" {
				t.Errorf("watermarkOf() (-want +got):\n%s", diff)
			}
		})
	}
}
