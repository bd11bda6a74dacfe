package flink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/coder"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"backbone/runners/jobs"
)

// A job manager has what functions count in two places. Accumulators are exact, but come from tasks that have ended: a stream has none while
// it runs. Metrics of tasks come from those that run, some seconds late, and never from one that was quicker than that. So both are taken.

// counted is what functions have counted, by "namespace/name".
type counted struct {
	counts        map[string]int64
	distributions map[string]jobs.Distribution
}

func newCounted() counted {
	return counted{counts: map[string]int64{}, distributions: map[string]jobs.Distribution{}}
}

// merge takes from other what it knows more of.
func (c counted) merge(other counted) {
	for name, n := range other.counts {
		c.counts[name] = max(c.counts[name], n)
	}
	for name, d := range other.distributions {
		if d.Count > c.distributions[name].Count {
			c.distributions[name] = d
		}
	}
}

// reading is what a job tells of itself at a time.
type reading struct {
	counted
	watermarks     watermarks
	backpressure   float64 // of the step that waits most, from 0 to 1; -1 where none is known
	backpressureAt string
}

// read reads what a job has counted and how far it is.
func (r rest) read(ctx context.Context, id string) (reading, error) {
	all, err := r.tasks(ctx, id)
	if err != nil {
		return all, err
	}
	infos, err := r.accumulators(ctx, id)
	if err != nil {
		return all, err
	}
	ended, err := countedBy(infos)
	if err != nil {
		return all, fmt.Errorf("metrics of job %s: %w", id, err)
	}
	all.merge(ended)
	return all, nil
}

// tasks reads what the tasks of a job that run tell.
func (r rest) tasks(ctx context.Context, id string) (reading, error) {
	all := reading{counted: newCounted(), backpressure: -1, watermarks: watermarks{least: math.MaxInt64, whole: true}}
	var about struct {
		Vertices []vertex `json:"vertices"`
	}
	if err := r.get(ctx, "/jobs/"+id, &about); err != nil {
		return all, err
	}
	for _, v := range about.Vertices {
		if err := r.readVertex(ctx, id, v, &all); err != nil {
			return all, err
		}
	}
	return all, nil
}

// vertex is a step of a job: functions that are fused, at all of its places.
type vertex struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Parallelism int    `json:"parallelism"`
	Status      string `json:"status"`
}

// userMetric is the name of a metric of Beam as Flink has it: place, operator, namespace and name. Those of Beam itself have other forms, and
// Flink's own have no underscore.
var userMetric = regexp.MustCompile(`^\d+\.(?:.*\.)?([a-z]+)_([a-z][a-z0-9_]*)$`)

const (
	outputWatermark = ".currentOutputWatermark"
	backpressured   = ".backPressuredTimeMsPerSecond"
)

// mostAsked is how many metrics are asked for at once: their names are part of an address.
const mostAsked = 40

// readVertex adds what a vertex tells.
func (r rest) readVertex(ctx context.Context, id string, v vertex, all *reading) error {
	path := "/jobs/" + id + "/vertices/" + v.ID + "/metrics"
	type metric struct {
		ID    string `json:"id"`
		Value string `json:"value"`
	}
	var listed []metric
	if err := r.get(ctx, path, &listed); err != nil {
		return err
	}
	var wanted []string
	outputs := 0
	for _, m := range listed {
		isOutput := strings.HasSuffix(m.ID, outputWatermark)
		if isOutput {
			outputs++
		}
		if isOutput || strings.HasSuffix(m.ID, backpressured) || userMetric.MatchString(m.ID) {
			wanted = append(wanted, m.ID)
		}
	}
	slices.Sort(wanted)
	for part := range slices.Chunk(wanted, mostAsked) {
		var values []metric
		if err := r.get(ctx, path+"?get="+url.QueryEscape(strings.Join(part, ",")), &values); err != nil {
			return err
		}
		for _, m := range values {
			all.take(m.ID, m.Value, v.Name)
		}
	}
	all.watermarks.reported(v, outputs)
	return nil
}

// take adds a metric of a vertex.
func (all *reading) take(id, value, vertex string) {
	switch {
	case strings.HasSuffix(id, outputWatermark):
		if at, err := strconv.ParseInt(value, 10, 64); err == nil {
			all.watermarks.add(at)
		}
		return
	case strings.HasSuffix(id, backpressured):
		// Not a number where nothing was measured yet.
		if ms, err := strconv.ParseFloat(value, 64); err == nil && !math.IsNaN(ms) && ms/1000 > all.backpressure {
			all.backpressure, all.backpressureAt = min(ms/1000, 1), vertex
		}
		return
	}
	name := userMetric.FindStringSubmatch(id)
	if name == nil {
		return
	}
	key := name[1] + "/" + name[2]
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		all.counts[key] += n
		return
	}
	var d jobs.Distribution
	if n, err := fmt.Sscanf(value, "DistributionResult{sum=%d, count=%d, min=%d, max=%d}", &d.Sum, &d.Count, &d.Min, &d.Max); err == nil && n == 4 {
		all.distributions[key] = all.distributions[key].Add(d)
	}
}

// watermarks are those that the operators of a job have sent on.
type watermarks struct {
	least int64 // in milliseconds since 1970
	known bool  // at least one
	whole bool  // each vertex has told of each of its places
}

// The bounds of event time in Beam, in milliseconds. Those of Flink are beyond.
const (
	firstWatermark = math.MinInt64 / 1000
	lastWatermark  = math.MaxInt64 / 1000
	// globalEnd is when the global window ends.
	globalEnd = lastWatermark - int64(24*time.Hour/time.Millisecond)
)

func (w *watermarks) add(at int64) { w.least, w.known = min(w.least, at), true }

// reported notes how many of a vertex's operators have told theirs. One that has ended may have told none.
func (w *watermarks) reported(v vertex, outputs int) {
	if v.Status != "FINISHED" && outputs < v.Parallelism {
		w.whole = false
	}
}

// at returns the time up to which all is done; nil where there is none.
func (w *watermarks) at() *time.Time {
	if !w.known || w.least <= firstWatermark || w.least >= globalEnd {
		return nil
	}
	t := time.UnixMilli(w.least).UTC()
	return &t
}

// through tells whether all that there is to come has gone through all operators.
func (w *watermarks) through() bool { return w.known && w.whole && w.least >= lastWatermark }

// The forms of metrics in Beam's protocol.
const (
	urnSum          = "beam:metric:user:sum_int64:v1"
	urnDistribution = "beam:metric:user:distribution_int64:v1"
)

// countedBy returns what metrics of Beam say.
func countedBy(all []*pipepb.MonitoringInfo) (counted, error) {
	sums := newCounted()
	for _, info := range all {
		if info.GetUrn() != urnSum && info.GetUrn() != urnDistribution {
			continue
		}
		key := info.GetLabels()["NAMESPACE"] + "/" + info.GetLabels()["NAME"]
		payload := bytes.NewReader(info.GetPayload())
		var values [4]int64
		var err error
		for i := range values {
			if i == 0 || info.GetUrn() == urnDistribution {
				values[i], err = readVarInt(payload, err)
			}
		}
		if err != nil {
			return sums, fmt.Errorf("%s: %w", key, err)
		}
		if info.GetUrn() == urnSum {
			sums.counts[key] += values[0]
			continue
		}
		d := jobs.Distribution{Count: values[0], Sum: values[1], Min: values[2], Max: values[3]}
		sums.distributions[key] = sums.distributions[key].Add(d)
	}
	return sums, nil
}

// readVarInt reads a number, unless something has failed before.
func readVarInt(from *bytes.Reader, failed error) (int64, error) {
	if failed != nil {
		return 0, failed
	}
	return coder.DecodeVarInt(from)
}

// Metrics implements [jobs.Service].
func (s *Jobs) Metrics(ctx context.Context, id string) (m jobs.Metrics, err error) {
	var about job
	if err := s.manager.get(ctx, "/jobs/"+id, &about); err != nil {
		return m, err
	}
	if m.Restarts, m.UptimeSeconds, err = s.manager.health(ctx, id); err != nil {
		return m, err
	}
	if !about.ended() {
		// A job manager asks its tasks because somebody asks it, and answers at once with what it knew before: nothing, or what is hours old.
		if err := pause(ctx, s.settle); err != nil {
			return m, err
		}
		if m.Restarts, m.UptimeSeconds, err = s.manager.health(ctx, id); err != nil {
			return m, err
		}
	}
	all, err := s.manager.read(ctx, id)
	if err != nil {
		return m, err
	}
	m.Counts, m.Distributions, m.Watermark, m.Drained = all.counts, all.distributions, all.watermarks.at(), all.watermarks.through()
	if all.backpressure >= 0 {
		m.Backpressure = &all.backpressure
		if all.backpressure > 0 {
			m.BackpressureAt = all.backpressureAt
		}
	}
	m.Checkpoints, err = s.manager.checkpoints(ctx, id)
	return m, err
}

// health returns how often a job began again, and for how long it has run since.
func (r rest) health(ctx context.Context, id string) (restarts int64, uptimeSeconds float64, err error) {
	var values []struct {
		ID    string `json:"id"`
		Value string `json:"value"`
	}
	if err := r.get(ctx, "/jobs/"+id+"/metrics?get=numRestarts,uptime", &values); err != nil {
		return 0, 0, err
	}
	for _, v := range values {
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			continue // there is no value of a job that has ended
		}
		switch v.ID {
		case "numRestarts":
			restarts = max(n, 0)
		case "uptime":
			uptimeSeconds = max(time.Duration(n)*time.Millisecond, 0).Seconds()
		}
	}
	return restarts, uptimeSeconds, nil
}

// checkpoints returns those of a job, nil where it has none.
func (r rest) checkpoints(ctx context.Context, id string) (*jobs.Checkpoints, error) {
	var answer struct {
		Counts struct {
			Completed int64 `json:"completed"`
			Failed    int64 `json:"failed"`
		} `json:"counts"`
		Latest struct {
			Completed *struct {
				Acknowledged int64  `json:"latest_ack_timestamp"` // milliseconds, as the duration
				Duration     int64  `json:"end_to_end_duration"`
				Size         int64  `json:"state_size"`
				Path         string `json:"external_path"`
			} `json:"completed"`
		} `json:"latest"`
	}
	err := r.get(ctx, "/jobs/"+id+"/checkpoints", &answer)
	if errors.Is(err, errNotThere) { // a job of files has none
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := &jobs.Checkpoints{Completed: answer.Counts.Completed, Failed: answer.Counts.Failed}
	if last := answer.Latest.Completed; last != nil {
		all.Last = &jobs.Checkpoint{
			Completed: time.UnixMilli(last.Acknowledged).UTC(), Seconds: float64(last.Duration) / 1000, Bytes: last.Size, Path: last.Path,
		}
	}
	return all, nil
}

// Meter follows the counts of one job while it runs, and knows them when it has ended. It is safe for concurrent use.
type Meter struct {
	manager rest
	name    string
	run     string // its launch, to tell it from others of its name

	mu        sync.Mutex
	id        string // as soon as it is known
	counts    map[string]int64
	watermark time.Time
}

// NewMeter returns the meter of the job that is submitted with o; nil where the job manager is not known.
func NewMeter(o Options) *Meter {
	if o.Master == "" {
		return nil
	}
	return &Meter{manager: rest{o.Master}, name: o.Name, run: o.RunID, counts: map[string]int64{}}
}

// Metrics returns what the job has counted by "namespace/name", and the event time up to which all is done, zero where there is none. With
// an error, and while the job is not there, they are those that were known last.
func (m *Meter) Metrics(ctx context.Context) (counts map[string]int64, watermark time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.id == "" {
		found, ok, err := m.manager.find(ctx, m.name, m.run)
		if err != nil || !ok {
			return m.counts, m.watermark, err
		}
		m.id = found.ID
	}
	now, err := m.manager.read(ctx, m.id)
	if err != nil {
		return m.counts, m.watermark, err
	}
	m.counts = now.counts
	if at := now.watermarks.at(); at != nil {
		m.watermark = *at
	}
	return m.counts, m.watermark, nil
}
