// Package jobs is what can be asked of the jobs that run on a service, whichever it is: which there are, how far they are, and to end. A
// runner whose jobs outlive the command that has submitted them implements [Service].
package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Service is where jobs run. Its methods take the id of a job.
type Service interface {
	// List returns the jobs that the service knows, those included that have ended, the latest first.
	List(ctx context.Context) ([]Job, error)
	// Show returns all that is known of a job.
	Show(ctx context.Context, id string) (Job, error)
	// Metrics returns what a job has counted, and how it is doing. Of a job that has ended it has what is known of it.
	Metrics(ctx context.Context, id string) (Metrics, error)
	// Drain asks a job to read no more, to commit and acknowledge what it has, and to end. It does not wait for that: see AwaitDrained.
	// A job that reads files is refused, since it ends by itself.
	Drain(ctx context.Context, id string) error
	// AwaitDrained waits until a job that was asked to drain has ended. An error says that it has ended before all was committed.
	AwaitDrained(ctx context.Context, id string) error
	// Cancel ends a job at once, and waits until it has. What was not committed is read again by the next.
	Cancel(ctx context.Context, id string) error
	// Savepoint writes the state of a job, from which another may begin, waits until it is written and returns its URL.
	Savepoint(ctx context.Context, id string, o SavepointOptions) (url string, err error)
}

// SavepointOptions say what becomes of a savepoint, and of its job.
type SavepointOptions struct {
	// Dir is the URL of the folder that it is written to. Default: what the service was set up with.
	Dir string
	// Stop ends the job at the savepoint.
	Stop bool
}

// State is what a job does.
type State string

// States of jobs.
const (
	Starting   State = "starting"
	Running    State = "running"
	Restarting State = "restarting" // it has failed, and begins again
	Stopping   State = "stopping"
	Done       State = "done"
	Cancelled  State = "cancelled" // also a stream that was drained, where the service has no word of its own for that
	Failed     State = "failed"
)

// Ended tells whether a job in this state runs no longer, and will not again.
func (s State) Ended() bool { return s == Done || s == Cancelled || s == Failed }

// Job is a job of a service.
type Job struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	State   State      `json:"state"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	// What follows is known to Show.
	RunID       string `json:"run_id,omitempty"` // of the launch
	Lake        string `json:"lake,omitempty"`   // URL
	Streaming   bool   `json:"streaming"`
	Parallelism int    `json:"parallelism,omitempty"`
	// Failure is why the job has failed, or why it began again the last time.
	Failure string `json:"failure,omitempty"`
}

// Metrics say what a job has done, and how it is doing.
type Metrics struct {
	// Counts are the counters of the job's functions, by "namespace/name". Where a job began again, they are those of the last attempt.
	Counts map[string]int64 `json:"counts"`
	// Distributions are those of the job's functions, by "namespace/name".
	Distributions map[string]Distribution `json:"distributions,omitempty"`
	// Watermark is the event time up to which all is done; nil where there is none, or none yet.
	Watermark *time.Time `json:"watermark,omitempty"`
	// Drained says that no source reads any more, and that all that was read is done.
	Drained bool `json:"drained"`
	// Backpressure is the share of its time, from 0 to 1, that a step waits for those after it: that of the step where it is the highest.
	Backpressure *float64 `json:"backpressure,omitempty"`
	// BackpressureAt names that step, where there is one that waits.
	BackpressureAt string `json:"backpressure_at,omitempty"`
	// Checkpoints are nil where the job has none, as one of files.
	Checkpoints *Checkpoints `json:"checkpoints,omitempty"`
	// Restarts is how often the job failed and began again.
	Restarts int64 `json:"restarts"`
	// UptimeSeconds is how long the job has run without one.
	UptimeSeconds float64 `json:"uptime_seconds"`
}

// Distribution sums up values.
type Distribution struct {
	Count int64 `json:"count"`
	Sum   int64 `json:"sum"`
	Min   int64 `json:"min"`
	Max   int64 `json:"max"`
}

// Mean returns the mean value, 0 where there is none.
func (d Distribution) Mean() float64 {
	if d.Count == 0 {
		return 0
	}
	return float64(d.Sum) / float64(d.Count)
}

// Add returns the distribution of both's values.
func (d Distribution) Add(o Distribution) Distribution {
	switch {
	case d.Count == 0:
		return o
	case o.Count == 0:
		return d
	}
	return Distribution{Count: d.Count + o.Count, Sum: d.Sum + o.Sum, Min: min(d.Min, o.Min), Max: max(d.Max, o.Max)}
}

// Checkpoints are what a job has kept of its state.
type Checkpoints struct {
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	// Last is the last that was completed, nil where there is none.
	Last *Checkpoint `json:"last,omitempty"`
}

// Checkpoint is a state that a job can begin again from.
type Checkpoint struct {
	Completed time.Time `json:"completed"`
	Seconds   float64   `json:"seconds"` // what it took
	Bytes     int64     `json:"bytes"`
	Path      string    `json:"path,omitempty"`
}

// Find returns the job that is meant: by its id, by its name, or by a beginning of its id that no other job has. Of several jobs of one
// name it is the one that has not ended, or else the last that began.
func Find(all []Job, which string) (Job, error) {
	var named, begun []Job
	for _, j := range all {
		switch {
		case j.ID == which:
			return j, nil
		case j.Name == which:
			named = append(named, j)
		case which != "" && strings.HasPrefix(j.ID, which):
			begun = append(begun, j)
		}
	}
	if len(named) == 0 {
		switch len(begun) {
		case 0:
			return Job{}, fmt.Errorf("there is no job %q; there %s", which, listing(all))
		case 1:
			return begun[0], nil
		}
		return Job{}, fmt.Errorf("the ids of several jobs begin with %q: there %s", which, listing(begun))
	}
	running := slices.DeleteFunc(slices.Clone(named), func(j Job) bool { return j.State.Ended() })
	switch len(running) {
	case 0:
		return slices.MaxFunc(named, func(x, y Job) int { return x.Started.Compare(y.Started) }), nil
	case 1:
		return running[0], nil
	}
	return Job{}, fmt.Errorf("several jobs named %q run, say which by its id: there %s", which, listing(running))
}

// listing names jobs, for an error.
func listing(all []Job) string {
	if len(all) == 0 {
		return "is none"
	}
	const most = 10
	names := make([]string, 0, most+1)
	for _, j := range all[:min(len(all), most)] {
		names = append(names, fmt.Sprintf("%q (%s, %s)", j.Name, j.ID, j.State))
	}
	if more := len(all) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	verb := "are "
	if len(all) == 1 {
		verb = "is "
	}
	return verb + strings.Join(names, ", ")
}
