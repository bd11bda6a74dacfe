package flink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"backbone/runners/jobs"
	"backbone/transforms/lake"
	"backbone/transforms/run"
)

const (
	// patience is how long a job may take to end that was cancelled.
	patience = time.Minute
	// lag is how much later than a job server takes a job it can be in Flink.
	lag = 10 * time.Second
	// absence is how long a job manager may not answer: another one has to take over, where there is high availability.
	absence = 5 * time.Minute
	// every is the time between two questions to a job manager.
	every = 500 * time.Millisecond
)

// What may become of a job.
var (
	// errUnfinished says that it has not ended.
	errUnfinished = errors.New("the job has not ended")
	// errDetached says that it runs, and is left alone.
	errDetached = errors.New("the job is left alone")
	// errCancelled says that it was cancelled, by whomever.
	errCancelled = errors.New("the job was cancelled")
	// errFailed says that Flink, or the job server, has given it up.
	errFailed = errors.New("job failed")
	// errStopped says that it was stopped with a savepoint, by whomever.
	errStopped = errors.New("the job was stopped with a savepoint")
	// errTwice says that another of its name was there before.
	errTwice = errors.New("a job of that name runs already")
)

// watcher follows a job to its end.
type watcher struct {
	Options
	client  jobpb.JobServiceClient // nil where it is the job of another launch
	manager rest
	id      string   // the job server's
	found   chan job // has the job once it is in Flink
	resumed bool     // it began again, or may have: another job manager does not know
}

// watch returns nil when the job has ended well, and errDetached when it runs and is to be left. When ctx is cancelled it cancels the job,
// waits for the end of that, and returns ctx's cause.
//
// The job manager knows what becomes of a job. The job server knows of jobs that never come so far, and why one has failed; it may end
// before the job does.
func (w *watcher) watch(ctx context.Context) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var server chan error
	if w.client != nil {
		server = make(chan error, 1)
		go func() { server <- listenOn(following, w.client, w.id) }()
	}
	manager := make(chan error, 1)
	if w.manager.master != "" {
		go func() { manager <- w.follow(following) }()
	}
	var said error // by the job server
	for {
		select {
		case said = <-server:
			// A stream that has ended well was stopped with a savepoint, which only the job manager says.
			if w.manager.master == "" || said == nil && !w.Streaming || errors.Is(said, errFailed) && !w.isThere(following) {
				return said
			}
			server = nil
			slog.Debug("the job server is done with the job, the job manager is not", "job", w.Name, "said", said)
		case err := <-manager:
			// A job server that nobody listens to does not get over the end of a job that fails: it would keep the worker binary.
			failed := errors.Is(err, errFailed) || errors.Is(err, errCancelled) || errors.Is(err, errTwice)
			if failed && said == nil && server != nil {
				select {
				case said = <-server:
				case <-time.After(lag):
				}
			}
			if errors.Is(err, errFailed) && errors.Is(said, errFailed) {
				return said // it has the whole trace
			}
			return err
		case <-ctx.Done():
			cancelling, release := context.WithTimeout(following, patience)
			defer release()
			if err := w.cancel(cancelling); err != nil {
				slog.Warn("the job may still run: it could not be cancelled", "job", w.Name, "error", err)
			}
			return context.Cause(ctx)
		}
	}
}

// isThere tells whether the job has come to Flink. It may be gone again.
func (w *watcher) isThere(ctx context.Context) bool {
	if len(w.found) > 0 {
		return true
	}
	_, ok, err := w.manager.find(ctx, w.Name, w.RunID)
	return ok || err != nil // then the job manager is asked on
}

// cancel cancels the job, and waits for its end. The job server says that a job is cancelled as soon as it waits for it no longer; in Flink, it
// would go on. A job that is not there may be on its way from the job server: it is waited for.
func (w *watcher) cancel(ctx context.Context) error {
	var err error
	if w.client != nil {
		_, err = w.client.Cancel(ctx, &jobpb.CancelJobRequest{JobId: w.id})
	}
	if w.manager.master == "" {
		return errors.Join(err, errors.New("flink_master is not given, and a job server does not cancel jobs of files"))
	}
	select {
	case j := <-w.found:
		return w.manager.cancel(ctx, j.ID)
	case <-time.After(lag):
		return err
	}
}

// follow asks the job manager until it says what became of the job.
func (w *watcher) follow(ctx context.Context) error {
	var known job
	var checkpoint string // the last
	began := time.Now()
	for answered := began; ; {
		err := w.ask(ctx, &known, &checkpoint)
		switch {
		case err == nil, errors.Is(err, errDetached), errors.Is(err, errStopped), errors.Is(err, errCancelled), errors.Is(err, errFailed), errors.Is(err, errTwice):
			return err
		case errors.Is(err, errUnfinished):
			answered = time.Now()
			if known.ID == "" && time.Since(began) > 2*startTime {
				return fmt.Errorf("job %s is not in Flink at %s, %v after the job server has taken it", w.Name, w.manager.master, 2*startTime)
			}
		case errors.Is(err, errNotThere):
			return fmt.Errorf("the job manager at %s knows job %s (%s) no more, as one that was started again without high availability; nothing is lost: %s",
				w.manager.master, w.Name, known.ID, goOn(checkpoint))
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(answered) > absence:
			return fmt.Errorf("the job manager has not answered for %v, and job %s may still run: %w", absence, w.Name, err)
		default:
			w.resumed = w.resumed || known.ID != ""
			slog.Debug("the job manager does not answer, asking again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

// goOn says how a job is begun again.
func goOn(checkpoint string) string {
	if checkpoint == "" {
		return "start it again"
	}
	return "start it again, from its last checkpoint with --flink_savepoint=" + checkpoint
}

// ask asks the job manager once. It notes the job when it is there, and its last checkpoint.
func (w *watcher) ask(ctx context.Context, known *job, checkpoint *string) error {
	if known.ID == "" {
		found, ok, err := w.manager.find(ctx, w.Name, w.RunID)
		if err != nil || !ok {
			return cmp.Or(err, errUnfinished)
		}
		*known = found
		w.found <- found
		slog.Info("the job is in Flink", "job", w.Name, "flink_id", found.ID, "flink_master", w.manager.master)
		if err := w.alone(ctx, found); err != nil {
			return err
		}
	}
	state, err := w.manager.state(ctx, known.ID)
	if err != nil {
		return err
	}
	if state != known.State {
		w.changed(ctx, *known, state)
		known.State = state
	}
	switch state {
	case stateFinished:
		if !w.Streaming {
			return nil
		}
		return errStopped // it does not end by itself
	case stateCancelled:
		if !w.Streaming {
			return errCancelled
		}
		if drained, err := w.isDrained(ctx); drained || err != nil {
			return err // whoever has asked for it has ended it
		}
		return errCancelled
	case stateFailed:
		why, err := w.manager.cause(ctx, known.ID)
		return cmp.Or(err, failure(why))
	case stateRunning:
		if w.Detach {
			return errDetached
		}
		if w.Streaming {
			return w.askStream(ctx, known.ID, checkpoint)
		}
	}
	return errUnfinished
}

// askStream ends the job where it has drained: a streaming job of Beam does not end by itself, not even where all of its sources have.
func (w *watcher) askStream(ctx context.Context, id string, checkpoint *string) error {
	checkpoints, err := w.manager.checkpoints(ctx, id)
	if err != nil {
		return err
	}
	if checkpoints != nil && checkpoints.Last != nil {
		*checkpoint = checkpoints.Last.Path
	}
	drained, err := w.isDrained(ctx)
	if err != nil || !drained {
		return cmp.Or(err, errUnfinished)
	}
	through, err := w.manager.isThrough(ctx, id)
	if err != nil || !through {
		return cmp.Or(err, errUnfinished)
	}
	return w.manager.cancel(ctx, id)
}

// changed tells of a new state.
func (w *watcher) changed(ctx context.Context, j job, state string) {
	if state != stateRestarting {
		slog.Debug("flink: state of the job", "flink_id", j.ID, "state", state)
		return
	}
	w.resumed = true
	why, err := w.manager.cause(ctx, j.ID)
	if err != nil {
		why = err.Error()
	}
	slog.Warn("Flink begins the job again, from its last checkpoint", "job", w.Name, "flink_id", j.ID, "why", causeOf(why))
}

// isDrained tells whether the job was asked to drain.
func (w *watcher) isDrained(ctx context.Context) (bool, error) {
	st, err := lake.OpenStore(ctx, run.Of(w.RunID), w.Lake)
	if err != nil {
		return false, err
	}
	return lake.IsDrainRequested(ctx, st, w.RunID)
}

// alone cancels the job if another of its name began before it. Of two launches at the same time, both come here, and both see the same.
func (w *watcher) alone(ctx context.Context, own job) error {
	first, ok, err := w.manager.running(ctx, w.Name)
	if err != nil || !ok || first.ID == own.ID {
		return err
	}
	return cmp.Or(w.manager.cancel(ctx, own.ID), twice(first))
}

func twice(j job) error {
	return fmt.Errorf("%w: %s (%s), since %s", errTwice, j.Name, j.ID, time.UnixMilli(j.Start).UTC().Format(time.RFC3339))
}

// listenOn waits for what a job server says of the end of a job.
func listenOn(ctx context.Context, client jobpb.JobServiceClient, id string) error {
	const most = 5
	var state jobpb.JobState_Enum // the last of which was told
	for tries := 1; ; tries++ {
		now, said, err := listen(ctx, client, id)
		if err != nil {
			// The stream of a job that ended before it has the state in which the job began as its only one.
			if asked, err := client.GetState(ctx, &jobpb.GetJobStateRequest{JobId: id}); err == nil {
				now = asked.GetState()
			}
		}
		state = cmp.Or(now, state)
		switch {
		case state == jobpb.JobState_DONE:
			return nil
		case state == jobpb.JobState_CANCELLED:
			return errCancelled
		case state == jobpb.JobState_FAILED && (said != "" || tries == most):
			return failure(said)
		case tries == most:
			return fmt.Errorf("job %s: the job server says no more, and the job may still run: %w", id, err)
		}
		// A job server ends the stream of a job that fails as soon as it has begun, and says all that there was to the next who asks.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// listen logs what a job server says of a job, from the beginning. It returns the last state of the job and the last error that was told of:
// when the job has ended, and with an error when the stream has.
func listen(ctx context.Context, client jobpb.JobServiceClient, id string) (state jobpb.JobState_Enum, said string, err error) {
	stream, err := client.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: id})
	if err != nil {
		return state, "", err
	}
	var trace string // the last stack trace: it comes ahead of an error that is only its last cause
	for {
		message, err := stream.Recv()
		if err != nil {
			return state, said, err
		}
		if m := message.GetMessageResponse(); m != nil {
			if stack.MatchString(m.GetMessageText()) {
				trace = m.GetMessageText()
			}
			if m.GetImportance() >= jobpb.JobMessage_JOB_MESSAGE_ERROR {
				if said = m.GetMessageText(); strings.Contains(trace, said) {
					said = trace
				}
			}
			slog.Debug("flink: "+m.GetMessageText(), "importance", m.GetImportance().String())
		}
		if s := message.GetStateResponse(); s != nil {
			state = s.GetState()
			slog.Debug("flink: state of the job", "id", id, "state", state.String())
		}
		switch {
		case state == jobpb.JobState_DONE, state == jobpb.JobState_CANCELLED, state == jobpb.JobState_FAILED && said != "":
			return state, said, nil
		}
	}
}

// result returns what a job has counted that has ended.
func (w *watcher) result(ctx context.Context, outcome jobs.Outcome) (r jobs.Result, err error) {
	r.Outcome, r.Partial = outcome, outcome == jobs.Stopped
	var all []*pipepb.MonitoringInfo
	select {
	case j := <-w.found:
		if all, err = w.manager.accumulated(ctx, j.ID); err != nil {
			return r, err
		}
		if w.Streaming { // a job of files reads all of them again
			resumed, err := w.manager.isResumed(ctx, j.ID)
			if err != nil {
				return r, err
			}
			r.Partial = r.Partial || resumed || w.resumed
		}
	default:
		response, err := w.client.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: w.id})
		if err != nil {
			return r, fmt.Errorf("counts of job %s: %w", w.id, err)
		}
		all = response.GetMetrics().GetAttempted()
	}
	r.Counts, err = countsOf(w.id, all)
	return r, err
}

// countsOf returns counters of a job, by "namespace/name".
func countsOf(id string, all []*pipepb.MonitoringInfo) (map[string]int64, error) {
	if len(all) == 0 { // a job that read nothing has counted elements, at least
		return nil, fmt.Errorf("job %s has ended well, but the job server has no counts of it; the lake has what it should", id)
	}
	c, err := countedBy(all)
	if err != nil {
		return nil, fmt.Errorf("counts of job %s: %w", id, err)
	}
	return c.counts, nil
}
