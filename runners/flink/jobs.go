package flink

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"backbone/runners/jobs"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
)

// Jobs are the jobs of a cluster, by the REST service of its job manager. It implements [jobs.Service].
type Jobs struct {
	manager rest
	// drain tells a run, by its lake, to drain.
	drain func(ctx context.Context, st *store.Store, runID string) error
	// settle is how long a job manager is given to ask its tasks.
	settle time.Duration
}

// NewJobs returns the jobs of the cluster whose REST service is at master, HOST:PORT.
func NewJobs(master string) (*Jobs, error) {
	if err := validAddress("flink_master", master); err != nil {
		return nil, err
	}
	return &Jobs{manager: rest{master}, drain: lake.RequestDrain, settle: time.Second}, nil
}

// states are Flink's words for what a job does.
var states = map[string]jobs.State{
	"INITIALIZING": jobs.Starting, "CREATED": jobs.Starting, "RECONCILING": jobs.Starting,
	stateRunning: jobs.Running, stateRestarting: jobs.Restarting, "FAILING": jobs.Restarting, "SUSPENDED": jobs.Restarting,
	"CANCELLING": jobs.Stopping, stateCancelled: jobs.Cancelled, stateFinished: jobs.Done, stateFailed: jobs.Failed,
}

func (j job) public() jobs.Job {
	p := jobs.Job{ID: j.ID, Name: j.Name, State: states[j.State], Started: time.UnixMilli(j.Start).UTC()}
	if p.State == "" {
		p.State = jobs.State(strings.ToLower(j.State)) // a word that came later than this program
	}
	if j.ended() && j.End > 0 {
		end := time.UnixMilli(j.End).UTC()
		p.Ended = &end
	}
	return p
}

// List implements [jobs.Service].
func (s *Jobs) List(ctx context.Context) ([]jobs.Job, error) {
	all, err := s.manager.jobs(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]jobs.Job, len(all))
	for i, j := range all {
		list[i] = j.public()
	}
	slices.SortFunc(list, func(x, y jobs.Job) int { return y.Started.Compare(x.Started) })
	return list, nil
}

// Show implements [jobs.Service].
func (s *Jobs) Show(ctx context.Context, id string) (jobs.Job, error) {
	var about job
	if err := s.manager.get(ctx, "/jobs/"+id, &about); err != nil {
		return jobs.Job{}, err
	}
	c, err := s.manager.config(ctx, id)
	if err != nil {
		return jobs.Job{}, err
	}
	var exceptions struct {
		Root    string `json:"root-exception"`
		History struct {
			Entries []struct {
				Stack string `json:"stacktrace"`
			} `json:"entries"`
		} `json:"exceptionHistory"`
	}
	if err := s.manager.get(ctx, "/jobs/"+id+"/exceptions", &exceptions); err != nil {
		return jobs.Job{}, err
	}
	shown := about.public()
	shown.RunID, shown.Lake = c.option(tagPrefix+RunTag), c.option(tagPrefix+LakeTag)
	shown.Streaming, shown.Parallelism = c.option("streaming") == "true", c.Execution.Parallelism
	trace := exceptions.Root
	if entries := exceptions.History.Entries; trace == "" && len(entries) > 0 {
		trace = entries[0].Stack // the latest
	}
	if shown.State != jobs.Cancelled && trace != "" {
		shown.Failure = causeOf(trace)
	}
	return shown, nil
}

// runID is what the id of a launch looks like. It comes from the job manager, and becomes the name of a file.
var runID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)

// Drain implements [jobs.Service]. What a run is told is told by its lake, which this process must be able to write to.
func (s *Jobs) Drain(ctx context.Context, id string) (err error) {
	j, err := s.Show(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case j.State.Ended():
		return fmt.Errorf("job %q (%s) is not running: it is %s", j.Name, id, j.State)
	case !j.Streaming:
		return fmt.Errorf("job %q (%s) reads files and ends by itself; to end it sooner, cancel it", j.Name, id)
	case j.Lake == "" || !runID.MatchString(j.RunID):
		return fmt.Errorf("job %q (%s) says neither of which launch nor of which lake it is, so it is not Backbone's; it can only be cancelled", j.Name, id)
	}
	st, err := store.Open(ctx, j.Lake)
	if err != nil {
		return fmt.Errorf("the lake of job %q: %w", j.Name, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := s.drain(ctx, st, j.RunID); err != nil {
		return fmt.Errorf("tell job %q to drain: %w", j.Name, err)
	}
	return nil
}

// AwaitDrained implements [jobs.Service].
func (s *Jobs) AwaitDrained(ctx context.Context, id string) error {
	return finishDrained(ctx, s.manager, id)
}

// Cancel implements [jobs.Service].
func (s *Jobs) Cancel(ctx context.Context, id string) error { return s.manager.cancel(ctx, id) }

// Savepoint implements [jobs.Service].
func (s *Jobs) Savepoint(ctx context.Context, id string, o jobs.SavepointOptions) (string, error) {
	if o.Stop {
		return s.manager.stop(ctx, id, o.Dir)
	}
	return s.manager.save(ctx, id, o.Dir)
}

// pause waits, and returns why it was given up, if it was.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// finishDrained waits until a streaming job that was told to drain has, and ends it, since such a job does not end by itself: it has when no
// watermark can rise any more, those that its last steps have sent on included, by which what was read is committed and acknowledged. A
// job that somebody else ends then has drained, too. The job manager asks its tasks for watermarks every 10 seconds unless it is told
// otherwise, and that much later than the last commit this returns.
func finishDrained(ctx context.Context, manager rest, id string) error {
	for {
		state, err := manager.state(ctx, id)
		if err != nil {
			return err
		}
		through, err := manager.isThrough(ctx, id)
		if err != nil {
			return err
		}
		switch ended := (job{State: state}).ended(); {
		case ended && through:
			return nil
		case ended:
			return fmt.Errorf("job %s was drained, but ended before all was committed: it is %s", id, states[state])
		case through && state == stateRunning:
			return manager.cancel(ctx, id)
		}
		if err := pause(ctx, time.Second); err != nil {
			return fmt.Errorf("job %s has not drained yet: %w", id, err)
		}
	}
}
