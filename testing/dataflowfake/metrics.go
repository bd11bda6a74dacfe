package dataflowfake

import (
	"context"
	"fmt"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/protobuf/encoding/protowire"
)

// tally is what the bundles of an attempt have counted that have ended well.
type tally struct {
	mu     sync.Mutex
	values map[string][]int64                // by the ids that its worker calls metrics by
	infos  map[string]*pipepb.MonitoringInfo // what those ids mean
}

func newTally() *tally {
	return &tally{values: map[string][]int64{}, infos: map[string]*pipepb.MonitoringInfo{}}
}

// add adds what a bundle has counted, and returns the ids whose names are not known.
func (t *tally) add(data map[string][]byte) (unknown []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, payload := range data {
		if t.infos[id] == nil {
			unknown = append(unknown, id)
		}
		values, err := valuesOf(payload)
		if err != nil {
			continue // not of counters
		}
		sum := t.values[id]
		switch {
		case len(values) > len(sum):
			t.values[id] = values
		case len(values) < len(sum): // a distribution of nothing has no more than its count
		case len(values) == 1:
			sum[0] += values[0]
		case len(values) == 4 && sum[0] == 0:
			copy(sum, values)
		case len(values) == 4 && values[0] > 0: // count, sum, least, most
			sum[0], sum[1], sum[2], sum[3] = sum[0]+values[0], sum[1]+values[1], min(sum[2], values[2]), max(sum[3], values[3])
		}
	}
	return unknown
}

func (t *tally) name(infos map[string]*pipepb.MonitoringInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, info := range infos {
		t.infos[id] = info
	}
}

func (t *tally) updates() (all []*df.MetricUpdate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, values := range t.values {
		if u := updateOf(t.infos[id], values, false); u != nil {
			all = append(all, u)
		}
	}
	return all
}

// begin notes the attempt at work, and what prism calls it.
func (j *job) begin(a *attempt, id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempt, j.counted = id, a.tally
}

// rest notes that no attempt is at work.
func (j *job) rest() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempt = ""
}

// metricsOf returns what a job has counted: what is committed, and of the attempt at work what is tentative.
func (s *Server) metricsOf(j *job) (all []*df.MetricUpdate, err error) {
	j.mu.Lock()
	attempt, counted := j.attempt, j.counted
	j.mu.Unlock()
	if s.options.Idle {
		return []*df.MetricUpdate{{Name: &df.MetricStructuredName{Origin: "user", Name: "jobs", Context: map[string]string{"namespace": "fake", "step": "none"}}, Scalar: 1}}, nil
	}
	if counted != nil {
		all = counted.updates()
	}
	if attempt == "" {
		return all, nil
	}
	r, err := s.prism.GetJobMetrics(context.Background(), &jobpb.GetJobMetricsRequest{JobId: attempt})
	if err != nil {
		return nil, err
	}
	for _, info := range r.GetMetrics().GetAttempted() {
		values, err := valuesOf(info.GetPayload())
		if err != nil {
			continue // not of counters
		}
		if u := updateOf(info, values, true); u != nil {
			all = append(all, u)
		}
	}
	return all, nil
}

// valuesOf decodes the payload of a counter, or of a distribution.
func valuesOf(payload []byte) (values []int64, err error) {
	for len(payload) > 0 {
		v, n := protowire.ConsumeVarint(payload)
		if n < 0 {
			return nil, fmt.Errorf("payload of a metric: %w", protowire.ParseError(n))
		}
		values, payload = append(values, int64(v)), payload[n:]
	}
	return values, nil
}

// updateOf is a metric of a function as Dataflow has it; nil for others.
func updateOf(info *pipepb.MonitoringInfo, values []int64, tentative bool) *df.MetricUpdate {
	labels := info.GetLabels()
	if labels["NAMESPACE"] == "" || labels["PTRANSFORM"] == "" {
		return nil
	}
	about := map[string]string{"step": labels["PTRANSFORM"], "namespace": labels["NAMESPACE"]}
	if tentative {
		about["tentative"] = "true"
	}
	u := &df.MetricUpdate{Name: &df.MetricStructuredName{Origin: "user", Name: labels["NAME"], Context: about}, Cumulative: true}
	switch {
	case info.GetType() == "beam:metrics:sum_int64:v1" && len(values) == 1:
		u.Scalar = values[0]
	case info.GetType() == "beam:metrics:distribution_int64:v1" && len(values) == 4:
		u.Distribution = map[string]int64{"count": values[0], "sum": values[1], "min": values[2], "max": values[3]}
	default:
		return nil
	}
	return u
}
