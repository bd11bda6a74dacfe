package dataflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/jobs"
)

// Jobs are the jobs of a project in a region. It implements [jobs.Service].
type Jobs struct{ rest rest }

var _ jobs.Service = (*Jobs)(nil)

// NewJobs returns the jobs of a project in a region, by the REST service at endpoint, Google's where that is "".
func NewJobs(ctx context.Context, project, region, endpoint string) (*Jobs, error) {
	var errs []error
	if !projectIDs.MatchString(project) {
		errs = append(errs, fmt.Errorf("project is %q; it must be the id of a project, such as my-shop", project))
	}
	if !regionNames.MatchString(region) {
		errs = append(errs, fmt.Errorf("region is %q; it must be a region, such as europe-west1", region))
	}
	if err := errors.Join(append(errs, validEndpoint(endpoint))...); err != nil {
		return nil, err
	}
	r, err := dial(ctx, project, region, endpoint)
	return &Jobs{r}, err
}

// states are Dataflow's words for what a job does.
var states = map[string]jobs.State{
	"JOB_STATE_PENDING": jobs.Starting, stateQueued: jobs.Starting, "JOB_STATE_STOPPED": jobs.Starting, "JOB_STATE_RESOURCE_CLEANING_UP": jobs.Stopping,
	stateRunning: jobs.Running, stateDraining: jobs.Stopping, stateCancelling: jobs.Stopping,
	stateDone: jobs.Done, stateDrained: jobs.Done, stateUpdated: jobs.Done, stateCancelled: jobs.Cancelled, stateFailed: jobs.Failed,
}

func public(j *df.Job) jobs.Job {
	p := jobs.Job{ID: j.Id, Name: j.Name, State: states[j.CurrentState], Streaming: j.Type == "JOB_TYPE_STREAMING"}
	if p.State == "" {
		p.State = jobs.State(strings.ToLower(strings.TrimPrefix(j.CurrentState, "JOB_STATE_"))) // a word that came later than this program
	}
	p.Started, _ = time.Parse(time.RFC3339Nano, j.CreateTime) // the zero time where it is not known
	if p.State.Ended() {
		if end, err := time.Parse(time.RFC3339Nano, j.CurrentStateTime); err == nil {
			p.Ended = &end
		}
	}
	return p
}

// List implements [jobs.Service].
func (s *Jobs) List(ctx context.Context) ([]jobs.Job, error) {
	all, err := s.rest.list(ctx, "", "ALL")
	if err != nil {
		return nil, err
	}
	list := make([]jobs.Job, len(all))
	for i, j := range all {
		list[i] = public(j)
	}
	slices.SortStableFunc(list, func(x, y jobs.Job) int { return y.Started.Compare(x.Started) })
	return list, nil
}

// Show implements [jobs.Service].
func (s *Jobs) Show(ctx context.Context, id string) (jobs.Job, error) {
	j, err := s.rest.get(ctx, id, true)
	if err != nil {
		return jobs.Job{}, err
	}
	p := public(j)
	p.RunID, p.Lake = shownOf(j, runItem), shownOf(j, lakeItem)
	if p.State != jobs.Failed {
		return p, nil
	}
	said, err := s.rest.messages(ctx, id, "", importanceError)
	if err != nil {
		return p, err
	}
	var wrong []string
	for _, m := range said {
		wrong = append(wrong, brief(m.MessageText))
	}
	p.Failure = causeOf(wrong)
	return p, nil
}

// Metrics implements [jobs.Service].
func (s *Jobs) Metrics(ctx context.Context, id string) (jobs.Metrics, error) {
	j, err := s.rest.get(ctx, id, false)
	if err != nil {
		return jobs.Metrics{}, err
	}
	m, err := s.rest.metrics(ctx, id)
	if err != nil {
		return jobs.Metrics{}, err
	}
	all := countedBy(m)
	p := public(j)
	all.Drained = j.CurrentState == stateDrained || j.CurrentState == stateDone
	end := time.Now()
	if p.Ended != nil {
		end = *p.Ended
	}
	all.UptimeSeconds = max(0, end.Sub(p.Started).Seconds())
	return all, nil
}

// Drain implements [jobs.Service].
func (s *Jobs) Drain(ctx context.Context, id string) error {
	j, err := s.rest.get(ctx, id, false)
	if err != nil {
		return err
	}
	switch p := public(j); {
	case p.State.Ended():
		return fmt.Errorf("job %q (%s) is not running: it is %s", j.Name, id, p.State)
	case !p.Streaming:
		return fmt.Errorf("job %q (%s) reads files and ends by itself; to end it sooner, cancel it", j.Name, id)
	}
	return s.rest.ask(ctx, id, stateDrained)
}

// AwaitDrained implements [jobs.Service].
func (s *Jobs) AwaitDrained(ctx context.Context, id string) error {
	state, err := awaitEnd(ctx, s.rest, id)
	if err != nil {
		return err
	}
	if state != stateDrained && state != stateDone {
		return fmt.Errorf("job %s was drained, but ended before all was committed: it is %s", id, states[state])
	}
	return nil
}

// Cancel implements [jobs.Service].
func (s *Jobs) Cancel(ctx context.Context, id string) error { return cancelJob(ctx, s.rest, id) }

// Savepoint implements [jobs.Service]: Dataflow has none.
func (s *Jobs) Savepoint(context.Context, string, jobs.SavepointOptions) (string, error) {
	return "", errors.New("dataflow has no savepoints: to take over the state of a stream, submit another of the same name with --update")
}
