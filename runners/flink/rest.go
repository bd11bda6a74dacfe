package flink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// rest is the REST service of a job manager.
type rest struct {
	master string // HOST:PORT
}

// errNotThere says that a job manager does not know what it was asked for.
var errNotThere = errors.New("not there")

// call makes a request with what is sent as JSON, unless that is nil, and decodes its answer into answer, unless that is nil.
func (r rest) call(ctx context.Context, method, path string, sent, answer any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("job manager %s: %s %s: %w", r.master, method, path, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var body io.Reader
	if sent != nil {
		text, err := json.Marshal(sent)
		if err != nil {
			return err
		}
		body = strings.NewReader(string(text))
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+r.master+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		if failed := new(url.Error); errors.As(err, &failed) {
			return failed.Err // the method and the address are said already
		}
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return err
	}
	switch {
	// Of a job that it does not know, it tells some things as an error of its own.
	case response.StatusCode == http.StatusNotFound, response.StatusCode >= http.StatusInternalServerError && bytes.Contains(text, []byte("FlinkJobNotFoundException")):
		return fmt.Errorf("%w: %s", errNotThere, refusal(text))
	case response.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s: %s", response.Status, refusal(text))
	case answer == nil:
		return nil
	}
	return json.Unmarshal(text, answer)
}

// refusal is what is wrong, by the body of an answer: a list of stack traces.
func refusal(body []byte) string {
	var said struct {
		Errors []string `json:"errors"`
	}
	if err := json.Unmarshal(body, &said); err != nil || len(said.Errors) == 0 {
		return fmt.Sprintf("%.300s", body)
	}
	return fmt.Sprintf("%.1000s", causeOf(said.Errors[len(said.Errors)-1]))
}

func (r rest) get(ctx context.Context, path string, answer any) error {
	return r.call(ctx, http.MethodGet, path, nil, answer)
}

// job is a job as Flink knows it.
type job struct {
	ID    string `json:"jid"`
	Name  string `json:"name"`
	State string `json:"state"`
	Start int64  `json:"start-time"` // milliseconds since 1970
	End   int64  `json:"end-time"`   // -1 where it has not ended
}

// The states of a job that are of interest; there are more.
const (
	stateRunning    = "RUNNING"
	stateRestarting = "RESTARTING"
	stateFinished   = "FINISHED"
	stateCancelled  = "CANCELED"
	stateFailed     = "FAILED"
)

// ended tells whether the job runs no longer, and will not again.
func (j job) ended() bool {
	return j.State == stateFinished || j.State == stateCancelled || j.State == stateFailed
}

// jobs returns all jobs that the job manager remembers, in the order of their start.
func (r rest) jobs(ctx context.Context) ([]job, error) {
	var overview struct {
		Jobs []job `json:"jobs"`
	}
	if err := r.get(ctx, "/jobs/overview", &overview); err != nil {
		return nil, err
	}
	slices.SortFunc(overview.Jobs, func(a, b job) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID)) })
	return overview.Jobs, nil
}

// running returns the first job of a name that has not ended; ok is false where there is none.
func (r rest) running(ctx context.Context, name string) (found job, ok bool, err error) {
	all, err := r.jobs(ctx)
	for _, j := range all {
		if j.Name == name && !j.ended() {
			return j, true, nil
		}
	}
	return job{}, false, err
}

// config is what a job was submitted with.
type config struct {
	Execution struct {
		Parallelism int               `json:"job-parallelism"`
		User        map[string]string `json:"user-config"`
	} `json:"execution-config"`
}

func (r rest) config(ctx context.Context, id string) (c config, err error) {
	return c, r.get(ctx, "/jobs/"+id+"/config", &c)
}

// option returns an option of Beam's.
func (c config) option(name string) string { return c.Execution.User[camel(name)] }

// tags returns what a job says of itself, by RunTag and LakeTag.
func (r rest) tags(ctx context.Context, id string) (map[string]string, error) {
	c, err := r.config(ctx, id)
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, name := range []string{RunTag, LakeTag} {
		tags[name] = c.option(tagPrefix + name)
	}
	return tags, nil
}

// camel is the name of an option as Java has it: camel_case is camelCase.
func camel(name string) string {
	first, rest, _ := strings.Cut(name, "_")
	for _, word := range strings.Split(rest, "_") {
		if word != "" {
			first += strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return first
}

// find returns the job of a launch, by its name and its tag; ok is false where there is none.
func (r rest) find(ctx context.Context, name, runID string) (found job, ok bool, err error) {
	all, err := r.jobs(ctx)
	if err != nil {
		return job{}, false, err
	}
	for _, j := range slices.Backward(all) {
		if j.Name != name {
			continue
		}
		tags, err := r.tags(ctx, j.ID)
		if errors.Is(err, errNotThere) {
			continue // it is just being made, or forgotten
		}
		if err != nil {
			return job{}, false, err
		}
		if tags[RunTag] == runID {
			return j, true, nil
		}
	}
	return job{}, false, nil
}

// state returns the state of a job.
func (r rest) state(ctx context.Context, id string) (string, error) {
	var status struct {
		Status string `json:"status"`
	}
	err := r.get(ctx, "/jobs/"+id+"/status", &status)
	return status.Status, err
}

// cause returns why a job has failed, as a stack trace, as far as the job manager tells.
func (r rest) cause(ctx context.Context, id string) (string, error) {
	var answer struct {
		Root string `json:"root-exception"`
	}
	err := r.get(ctx, "/jobs/"+id+"/exceptions?maxExceptions=1", &answer)
	return answer.Root, err
}

// checkpointDir returns the URL of the folder that a cluster has for checkpoints.
func (r rest) checkpointDir(ctx context.Context) (string, error) {
	var settings []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	if err := r.get(ctx, "/jobmanager/config", &settings); err != nil {
		return "", err
	}
	for _, s := range settings {
		if s.Key == "state.checkpoints.dir" || s.Key == "execution.checkpointing.dir" { // before Flink 1.20, and since
			return s.Value, nil
		}
	}
	return "", fmt.Errorf("the cluster at %s has no folder for checkpoints, which flink_state_backend needs: --flink_checkpoint_dir URL", r.master)
}

// accumulated returns Beam's metrics of a job that has ended.
func (r rest) accumulated(ctx context.Context, id string) (all []*pipepb.MonitoringInfo, err error) {
	// A job manager answers from what it has looked up some seconds ago.
	for {
		var known job
		if err := r.get(ctx, "/jobs/"+id, &known); err != nil {
			return nil, err
		}
		if known.ended() {
			return r.accumulators(ctx, id)
		}
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
	}
}

// accumulators returns Beam's metrics of tasks of a job that have ended.
func (r rest) accumulators(ctx context.Context, id string) (all []*pipepb.MonitoringInfo, err error) {
	var answer struct {
		All []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"user-task-accumulators"`
	}
	if err := r.get(ctx, "/jobs/"+id+"/accumulators", &answer); err != nil {
		return nil, err
	}
	for _, a := range answer.All {
		if a.Name != "__metricscontainers" {
			continue
		}
		var results struct {
			Metrics json.RawMessage `json:"metrics"`
		}
		var metrics jobpb.MetricResults
		if err := json.Unmarshal([]byte(a.Value), &results); err != nil {
			return nil, fmt.Errorf("metrics of job %s: %w", id, err)
		}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(results.Metrics, &metrics); err != nil {
			return nil, fmt.Errorf("metrics of job %s: %w", id, err)
		}
		all = append(all, metrics.GetAttempted()...)
	}
	return all, nil
}

// isResumed tells whether a job was begun again, or from a savepoint. A job manager knows of no more than what was in its own time.
func (r rest) isResumed(ctx context.Context, id string) (bool, error) {
	var restarts []struct {
		Value string `json:"value"`
	}
	if err := r.get(ctx, "/jobs/"+id+"/metrics?get=numRestarts", &restarts); err != nil {
		return false, err
	}
	var checkpoints struct {
		Counts struct {
			Restored int `json:"restored"`
		} `json:"counts"`
	}
	err := r.get(ctx, "/jobs/"+id+"/checkpoints", &checkpoints)
	return checkpoints.Counts.Restored > 0 || len(restarts) > 0 && restarts[0].Value != "0", err
}

// isThrough tells whether all that the sources of a job have read is through, and nothing more comes.
func (r rest) isThrough(ctx context.Context, id string) (bool, error) {
	known, err := r.tasks(ctx, id)
	return known.watermarks.through(), err
}

// cancel cancels a job, and waits for its end.
func (r rest) cancel(ctx context.Context, id string) error {
	if err := r.call(ctx, http.MethodPatch, "/jobs/"+id+"?mode=cancel", nil, nil); err != nil {
		return err
	}
	return r.gone(ctx, id)
}

// gone waits for the end of a job.
func (r rest) gone(ctx context.Context, id string) error {
	for {
		state, err := r.state(ctx, id)
		switch {
		case errors.Is(err, errNotThere) || err == nil && (job{State: state}).ended():
			return nil
		case err != nil && ctx.Err() == nil:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("job %s has not ended: %w", id, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
