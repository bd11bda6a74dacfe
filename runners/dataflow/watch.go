package dataflow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"

	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/jobs"
)

// States of jobs.
const (
	stateQueued     = "JOB_STATE_QUEUED"
	stateRunning    = "JOB_STATE_RUNNING"
	stateDone       = "JOB_STATE_DONE"
	stateFailed     = "JOB_STATE_FAILED"
	stateCancelled  = "JOB_STATE_CANCELLED"
	stateDrained    = "JOB_STATE_DRAINED"
	stateUpdated    = "JOB_STATE_UPDATED"
	stateDraining   = "JOB_STATE_DRAINING"
	stateCancelling = "JOB_STATE_CANCELLING"
)

// What may become of a job that was not meant.
var (
	// errCancelled says that it was cancelled, by whomever.
	errCancelled = errors.New("the job was cancelled")
	// errFailed says that Dataflow has given it up.
	errFailed = errors.New("job failed")
)

// patience is how long a job may take to end that was cancelled, until it is left to that.
const patience = 2 * time.Minute

// levels of the log by the importance of messages.
var levels = map[string]slog.Level{
	"JOB_MESSAGE_DEBUG": slog.LevelDebug, "JOB_MESSAGE_DETAILED": slog.LevelDebug, "JOB_MESSAGE_BASIC": slog.LevelInfo,
	"JOB_MESSAGE_WARNING": slog.LevelWarn, importanceError: slog.LevelWarn, // an error of the job is that of the command
}

const importanceError = "JOB_MESSAGE_ERROR"

// watcher follows a job to its end.
type watcher struct {
	Options
	rest rest
	id   string

	state string
	since string            // the time of the last message
	told  map[string]string // messages of that time by their ids
	wrong []string          // errors in their order
}

// watch returns what has become of the job. When ctx is cancelled it cancels the job, waits for the end of that, and returns ctx's cause.
func (w *watcher) watch(ctx context.Context) (jobs.Outcome, error) {
	following := context.WithoutCancel(ctx)
	wait := backoff()
	began := time.Now()
	for {
		state := w.state
		outcome, ended, err := w.look(following)
		switch {
		case codeOf(err) == http.StatusNotFound && time.Since(began) < time.Minute: // it is on its way
		case err != nil:
			return 0, fmt.Errorf("job %s (%s) may still run: %w", w.Name, w.id, err)
		case ended != nil:
			return 0, ended
		case outcome != nil:
			return *outcome, nil
		case w.state != state:
			wait = backoff() // more may follow
		}
		if err := pause(ctx, wait.Pause()+100*time.Millisecond); err != nil {
			w.cancel(following)
			return 0, err
		}
	}
}

// look asks for the job once. Of one that has ended, either outcome is set, or ended.
func (w *watcher) look(ctx context.Context) (outcome *jobs.Outcome, ended, err error) {
	j, err := w.rest.get(ctx, w.id, false)
	if err != nil {
		return nil, nil, err
	}
	if err := w.listen(ctx); err != nil {
		slog.Debug("what Dataflow has logged of the job is not known", "error", err)
	}
	if j.CurrentState != w.state {
		slog.Debug("dataflow: state of the job", "id", w.id, "state", j.CurrentState)
		w.state = j.CurrentState
	}
	is := func(o jobs.Outcome) (*jobs.Outcome, error, error) { return &o, nil, nil }
	switch j.CurrentState {
	case stateDone, stateDrained:
		return is(jobs.Ended)
	case stateUpdated:
		return is(jobs.Stopped)
	case stateCancelled:
		return nil, fmt.Errorf("%w: %s (%s)", errCancelled, w.Name, w.id), nil
	case stateFailed:
		return nil, w.failure(ctx), nil
	case stateRunning, stateQueued:
		if w.Detach {
			return is(jobs.Detached)
		}
	}
	return nil, nil, nil
}

// listen logs what Dataflow has logged since it was asked last.
func (w *watcher) listen(ctx context.Context) error {
	all, err := w.rest.messages(ctx, w.id, w.since, "JOB_MESSAGE_DETAILED")
	if err != nil {
		return err
	}
	for _, m := range all {
		key := m.Id + m.MessageText
		if w.told[key] == m.Time && m.Time != "" {
			continue
		}
		if m.Time != w.since || w.told == nil {
			w.since, w.told = m.Time, map[string]string{}
		}
		w.told[key] = m.Time
		text := brief(m.MessageText)
		slog.Log(ctx, levels[m.MessageImportance], "dataflow: "+text)
		if m.MessageImportance == importanceError {
			w.wrong = append(w.wrong, text)
		}
	}
	return nil
}

// failedFn is how Beam says which function has failed.
var failedFn = regexp.MustCompile(`^DoFn\[UID:\S+ PID:\S+ Name: ([^\]]+)\] failed:\s`)

// brief is a message in one line. Of what has failed in a worker it is the function, and why: ahead of that, Beam lists all steps around it.
func brief(text string) string {
	const causedBy = "caused by:"
	if i := strings.LastIndex(text, causedBy); i >= 0 {
		text = failedFn.ReplaceAllString(strings.TrimSpace(text[i+len(causedBy):]), "$1: ")
		text = strings.ReplaceAll(text, "\n", "; ") // several errors
	}
	return strings.Join(strings.Fields(text), " ")
}

// failure says why a job has failed. Messages may be later than the state.
func (w *watcher) failure(ctx context.Context) error {
	for range 5 {
		if err := w.listen(ctx); err != nil {
			slog.Debug("what Dataflow has logged of the job is not known", "error", err)
		}
		if len(w.wrong) > 0 {
			break
		}
		if pause(ctx, time.Second) != nil {
			break
		}
	}
	return fmt.Errorf("%w: %s (%s): %s", errFailed, w.Name, w.id, causeOf(w.wrong))
}

// causeOf is the cause among the errors of a job: the last one that says more than that the job has failed.
func causeOf(wrong []string) string {
	for i := len(wrong) - 1; i >= 0; i-- {
		if !strings.HasPrefix(strings.ToLower(wrong[i]), "workflow failed") {
			return wrong[i]
		}
	}
	if len(wrong) > 0 {
		return wrong[len(wrong)-1]
	}
	return "Dataflow says no more; see the log of its workers in the console"
}

// cancel cancels the job, and waits for its end.
func (w *watcher) cancel(ctx context.Context) {
	ctx, release := context.WithTimeout(ctx, patience)
	defer release()
	if err := cancelJob(ctx, w.rest, w.id); err != nil {
		slog.Warn("the job may still run: it could not be cancelled", "job", w.Name, "id", w.id, "error", err)
	}
}

// cancelJob cancels a job, and waits for its end.
func cancelJob(ctx context.Context, r rest, id string) error {
	if err := r.ask(ctx, id, stateCancelled); err != nil {
		if j, getErr := r.get(ctx, id, false); getErr != nil || !states[j.CurrentState].Ended() {
			return err
		}
		return nil // it has ended meanwhile
	}
	_, err := awaitEnd(ctx, r, id)
	return err
}

// awaitEnd waits until a job has ended, and returns its state.
func awaitEnd(ctx context.Context, r rest, id string) (string, error) {
	wait := backoff()
	for {
		j, err := r.get(ctx, id, false)
		if err != nil {
			return "", err
		}
		if states[j.CurrentState].Ended() {
			return j.CurrentState, nil
		}
		if err := pause(ctx, wait.Pause()+100*time.Millisecond); err != nil {
			return j.CurrentState, fmt.Errorf("job %s is %s: %w", id, states[j.CurrentState], err)
		}
	}
}

// result returns what a job has counted that has ended. Dataflow may be late with that: it is asked until it says the same twice.
func (w *watcher) result(ctx context.Context, outcome jobs.Outcome) (jobs.Result, error) {
	const most = 10
	r := jobs.Result{Outcome: outcome, Partial: w.Streaming} // those of a stream are not promised to be exact
	for n := range most {
		m, err := w.rest.metrics(ctx, w.id)
		if err != nil {
			return r, fmt.Errorf("job %s (%s) has ended well, but what it has counted is not known: %w", w.Name, w.id, err)
		}
		counts := countedBy(m).Counts
		if n > 0 && len(counts) > 0 && maps.Equal(counts, r.Counts) {
			break
		}
		r.Counts = counts
		if err := pause(ctx, 300*time.Millisecond*time.Duration(n+1)); err != nil {
			return r, err
		}
	}
	return r, nil
}

// countedBy returns what a job has counted, over all of its steps. What is committed counts where there is that; else what is tentative.
func countedBy(m *df.JobMetrics) jobs.Metrics {
	type key struct{ namespace, name, step string }
	sums, spreads := map[key]int64{}, map[key]jobs.Distribution{}
	committed := map[key]bool{}
	for _, u := range m.Metrics {
		if u.Name == nil || u.Name.Origin != "user" {
			continue
		}
		k := key{u.Name.Context["namespace"], u.Name.Name, u.Name.Context["step"]}
		if u.Name.Context["tentative"] == "true" {
			if committed[k] {
				continue
			}
		} else {
			committed[k] = true
		}
		switch {
		case u.Scalar != nil:
			sums[k] = number(u.Scalar)
		case u.Distribution != nil:
			if d, ok := u.Distribution.(map[string]any); ok {
				spreads[k] = jobs.Distribution{Count: number(d["count"]), Sum: number(d["sum"]), Min: number(d["min"]), Max: number(d["max"])}
			}
		}
	}
	all := jobs.Metrics{Counts: map[string]int64{}, Distributions: map[string]jobs.Distribution{}, Watermark: watermarkOf(m)}
	for k, n := range sums {
		all.Counts[k.namespace+"/"+k.name] += n
	}
	for k, d := range spreads {
		name := k.namespace + "/" + k.name
		all.Distributions[name] = all.Distributions[name].Add(d)
	}
	return all
}

// watermarkOf returns the event time up to which all steps are done; nil where there is none yet, or none any more. Each stage tells its own, in
// microseconds since 1970, -1 where it is not known and -2 where nothing is to come, by a name with one of two ends: so Beam's own
// TestDataflowRunner (for Java) reads it.
func watermarkOf(m *df.JobMetrics) (least *time.Time) {
	const unknown, done = -1, -2
	for _, u := range m.Metrics {
		if u.Name == nil || u.Name.Origin == "user" || u.Scalar == nil || !strings.HasSuffix(u.Name.Name, "windmill-data-watermark") && !strings.HasSuffix(u.Name.Name, "DataWatermark") {
			continue
		}
		us := number(u.Scalar)
		if us == unknown {
			return nil
		}
		if at := time.UnixMicro(us).UTC(); us != done && (least == nil || at.Before(*least)) {
			least = &at
		}
	}
	return least
}

// number is one of JSON, as a number or as text.
func number(value any) (n int64) {
	switch v := value.(type) {
	case float64:
		return int64(v)
	case string:
		_, _ = fmt.Sscan(v, &n) // 0 where it is none
	}
	return n
}
