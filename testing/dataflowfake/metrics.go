package dataflowfake

import (
	"context"
	"fmt"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/protobuf/encoding/protowire"
)

// begin notes the attempt at work.
func (j *job) begin(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempt = id
}

// count notes what an attempt has counted that has ended.
func (j *job) count(all []*df.MetricUpdate, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempt = ""
	if err == nil {
		j.counted = all
	}
}

func (s *Server) metricsOf(j *job) ([]*df.MetricUpdate, error) {
	j.mu.Lock()
	attempt, counted := j.attempt, j.counted
	j.mu.Unlock()
	if s.options.Idle {
		return []*df.MetricUpdate{{Name: &df.MetricStructuredName{Origin: "user", Name: "jobs", Context: map[string]string{"namespace": "fake", "step": "none"}}, Scalar: 1}}, nil
	}
	if attempt == "" {
		return counted, nil
	}
	return s.countedBy(attempt)
}

// countedBy returns what a job of prism has counted: for each counter what is committed, and what is tentative.
func (s *Server) countedBy(id string) (all []*df.MetricUpdate, err error) {
	r, err := s.prism.GetJobMetrics(context.Background(), &jobpb.GetJobMetricsRequest{JobId: id})
	if err != nil {
		return nil, err
	}
	for _, part := range []struct {
		infos     []*pipepb.MonitoringInfo
		tentative bool
	}{{r.GetMetrics().GetCommitted(), false}, {r.GetMetrics().GetAttempted(), true}} {
		for _, info := range part.infos {
			update, err := updateOf(info, part.tentative)
			if err != nil {
				return nil, err
			}
			if update != nil {
				all = append(all, update)
			}
		}
	}
	return all, nil
}

// updateOf is a metric of a function as Dataflow has it; nil for others.
func updateOf(info *pipepb.MonitoringInfo, tentative bool) (*df.MetricUpdate, error) {
	labels := info.GetLabels()
	if labels["NAMESPACE"] == "" || labels["PTRANSFORM"] == "" {
		return nil, nil
	}
	about := map[string]string{"step": labels["PTRANSFORM"], "namespace": labels["NAMESPACE"]}
	if tentative {
		about["tentative"] = "true"
	}
	u := &df.MetricUpdate{Name: &df.MetricStructuredName{Origin: "user", Name: labels["NAME"], Context: about}, Cumulative: true}
	var values []int64
	for payload := info.GetPayload(); len(payload) > 0; {
		v, n := protowire.ConsumeVarint(payload)
		if n < 0 {
			return nil, fmt.Errorf("metric %s: %w", labels["NAME"], protowire.ParseError(n))
		}
		values, payload = append(values, int64(v)), payload[n:]
	}
	switch {
	case info.GetType() == "beam:metrics:sum_int64:v1" && len(values) == 1:
		u.Scalar = values[0]
	case info.GetType() == "beam:metrics:distribution_int64:v1" && len(values) == 4:
		u.Distribution = map[string]int64{"count": values[0], "sum": values[1], "min": values[2], "max": values[3]}
	default:
		return nil, nil
	}
	return u, nil
}
