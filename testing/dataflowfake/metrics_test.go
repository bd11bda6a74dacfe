package dataflowfake

import (
	"slices"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/protobuf/encoding/protowire"
)

// What bundles count is added up, also of those that end before the names of their metrics are known.
func TestTally(t *testing.T) {
	payload := func(values ...int64) (all []byte) {
		for _, v := range values {
			all = protowire.AppendVarint(all, uint64(v))
		}
		return all
	}
	tally := newTally()
	for i, bundle := range []map[string][]byte{
		{"1": payload(5000), "2": payload(2, 30, 10, 20)},
		{"1": payload(7), "2": payload(0)}, // nothing
		{"1": payload(-1), "2": payload(1, 5, 5, 5), "3": {0xff}},
	} {
		unknown := tally.add(bundle)
		if slices.Sort(unknown); strings.Join(unknown, "") != []string{"12", "12", "3"}[i] {
			t.Errorf("of bundle %d, %q are not known", i, unknown)
		}
		if i == 1 {
			about := func(kind, name string) *pipepb.MonitoringInfo {
				return &pipepb.MonitoringInfo{Type: kind, Labels: map[string]string{"NAMESPACE": "lake", "PTRANSFORM": "e3", "NAME": name}}
			}
			tally.name(map[string]*pipepb.MonitoringInfo{"1": about("beam:metrics:sum_int64:v1", "read"), "2": about("beam:metrics:distribution_int64:v1", "milliseconds")})
		}
	}
	got := tally.updates()
	slices.SortFunc(got, func(x, y *df.MetricUpdate) int { return strings.Compare(x.Name.Name, y.Name.Name) })
	name := func(name string) *df.MetricStructuredName {
		return &df.MetricStructuredName{Origin: "user", Name: name, Context: map[string]string{"step": "e3", "namespace": "lake"}}
	}
	want := []*df.MetricUpdate{
		{Name: name("milliseconds"), Cumulative: true, Distribution: map[string]int64{"count": 3, "sum": 35, "min": 5, "max": 20}},
		{Name: name("read"), Cumulative: true, Scalar: int64(5006)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("updates() (-want +got):\n%s", diff)
	}
}
