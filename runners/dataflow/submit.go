package dataflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/graph"
	"backbone/runners/jobs"
	"backbone/transforms/pubsub"
)

// Launcher submits one job, and follows it. Its methods may be called at the same time.
type Launcher struct {
	o Options

	mu    sync.Mutex
	rest  rest
	id    string // of the job, as soon as it is known
	asked bool   // to drain
}

// New returns a launcher. o must have passed Validate.
func New(o Options) *Launcher { return &Launcher{o: o} }

// Submit runs p to its end, or as far as the options say. Cancelling ctx cancels the job. Where another job of the name runs, nothing is submitted:
// with Follow, its end is waited for instead, and what it has counted is the result.
func (l *Launcher) Submit(ctx context.Context, p *beam.Pipeline) (result jobs.Result, failed error) {
	defer func() {
		if failed != nil && ctx.Err() == nil {
			failed = fmt.Errorf("dataflow runner: %w", failed)
		}
	}()
	o := l.o
	environment, err := graphx.CreateEnvironment(ctx, urnDocker, func(context.Context) string { return o.image() })
	if err != nil {
		return result, err
	}
	pipeline, err := graph.Marshal(p, environment)
	if err != nil {
		return result, err
	}
	steps := graph.Of(pipeline)
	if o.DryRun == nil { // what needs no binary
		switch there, err := l.prepare(ctx, steps); {
		case err != nil:
			return result, err
		case there != nil:
			return l.isThere(ctx, there)
		}
	}
	worker, stop, err := o.worker(ctx)
	if err != nil {
		return result, err
	}
	defer stop()
	s, err := o.plan(pipeline, worker)
	if err != nil {
		return result, err
	}
	request, err := o.request(pipeline, s)
	if err != nil {
		return result, err
	}
	if o.DryRun != nil {
		encoder := json.NewEncoder(o.DryRun)
		encoder.SetIndent("", "  ")
		return jobs.Result{Outcome: jobs.Planned}, encoder.Encode(request)
	}
	if o.Update && o.TemplateLocation == "" {
		running, _, err := l.running(ctx)
		if err != nil {
			return result, err
		}
		request.ReplaceJobId = running.Id
	}
	if err := o.stage(ctx, s); err != nil {
		return result, err
	}
	if o.Streaming {
		if err := graph.Save(ctx, o.Lake, o.RunID, steps); err != nil {
			return result, err
		}
	}
	if o.TemplateLocation != "" {
		return jobs.Result{Outcome: jobs.Planned}, o.writeTemplate(ctx, request)
	}
	job, there, err := l.create(ctx, request)
	switch {
	case there != nil:
		return l.isThere(ctx, there)
	case err != nil:
		return result, fmt.Errorf("create job %s in project %s, %s: %w", o.Name, o.Project, o.Region, err)
	}
	slog.Info("job submitted to Dataflow", "job", o.Name, "id", job.Id, "project", o.Project, "region", o.Region, "streaming", o.Streaming,
		"console", fmt.Sprintf("https://console.cloud.google.com/dataflow/jobs/%s/%s?project=%s", o.Region, job.Id, o.Project))
	return l.follow(ctx, job.Id)
}

// follow waits for the end of a job, and returns what it has counted.
func (l *Launcher) follow(ctx context.Context, id string) (result jobs.Result, err error) {
	if err := l.begun(ctx, id); err != nil {
		return result, err
	}
	w := watcher{Options: l.o, rest: l.rest, id: id}
	outcome, err := w.watch(ctx)
	if err != nil {
		return result, err
	}
	if outcome == jobs.Detached {
		return jobs.Result{Outcome: outcome}, nil
	}
	return w.result(ctx, outcome)
}

// isThere does what is to be done where another job of the name runs.
func (l *Launcher) isThere(ctx context.Context, j *df.Job) (jobs.Result, error) {
	about := fmt.Sprintf("a job of that name runs already: %s (%s), since %s", j.Name, j.Id, j.CreateTime)
	if !l.o.Follow {
		slog.Info("nothing is submitted: " + about)
		return jobs.Result{Outcome: jobs.There}, nil
	}
	slog.Info("nothing is submitted, its end is waited for: " + about)
	return l.follow(ctx, j.Id)
}

// prepare sees that a job can be submitted, by what can be asked before anything large is sent. It returns the job of the name that is there already, nil
// where there is none.
func (l *Launcher) prepare(ctx context.Context, steps []string) (there *df.Job, err error) {
	if l.o.TemplateLocation == "" { // of a template, nobody knows when it is launched, and whether a job of its name runs then
		if there, err = l.inTheWay(ctx, steps); err != nil || there != nil {
			return there, err
		}
	}
	for _, subscription := range l.o.Subscriptions {
		if err := pubsub.Check(ctx, subscription); err != nil {
			return nil, err
		}
	}
	return nil, l.o.probe(ctx)
}

// inTheWay returns the job of the name that runs, nil where there is none, or one to take the place of.
func (l *Launcher) inTheWay(ctx context.Context, steps []string) (there *df.Job, err error) {
	r, err := dial(ctx, l.o.Project, l.o.Region, l.o.Endpoint)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.rest = r
	l.mu.Unlock()
	running, ok, err := l.running(ctx)
	switch {
	case err != nil:
		return nil, err
	case ok && !l.o.Update:
		return running, nil
	case !ok && l.o.Update:
		return nil, fmt.Errorf("update is set, and no job %s runs in project %s, %s: leave --update out to start it", l.o.Name, l.o.Project, l.o.Region)
	case l.o.Update:
		if err := l.o.canReplace(ctx, r, running, steps); err != nil {
			return nil, fmt.Errorf("job %s (%s) goes on, and cannot be updated: %w", running.Name, running.Id, err)
		}
	}
	return nil, nil
}

// running returns the job of the name that runs.
func (l *Launcher) running(ctx context.Context) (j *df.Job, ok bool, err error) {
	all, err := l.rest.list(ctx, l.o.Name, "ACTIVE")
	if err != nil || len(all) == 0 {
		return &df.Job{}, false, err
	}
	return all[0], true, nil
}

// create has Dataflow create the job, once. Where a reply is lost, the job is looked for before it is asked for again, with the same id of the request: one
// that was created meanwhile is found then. Where another job of its name is there, that is the second result.
func (l *Launcher) create(ctx context.Context, request *df.Job) (created, there *df.Job, err error) {
	const most = 5
	wait := backoff()
	for n := 1; ; n++ {
		created, err = l.rest.jobs.Create(l.o.Project, l.o.Region, request).Context(ctx).Do()
		err = plain(err)
		if err == nil {
			if ours, err := l.isOurs(ctx, created); err != nil || ours {
				return created, nil, err
			}
			return nil, created, nil
		}
		if ctx.Err() == nil && !passes(err) && codeOf(err) != http.StatusConflict {
			return nil, nil, err
		}
		// Also where ctx is cancelled: the request may have come through.
		looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		found, lookErr := l.find(looking)
		cancel()
		switch {
		case lookErr == nil && found != nil:
			return found, nil, nil
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case n == most:
			return nil, nil, errors.Join(err, lookErr)
		}
		if codeOf(err) == http.StatusConflict && lookErr == nil && !l.o.Update {
			if other, ok, err := l.running(ctx); err == nil && ok {
				return nil, other, nil
			}
		}
		slog.Info("asking for the job again", "job", l.o.Name, "error", err)
		if err := pause(ctx, wait.Pause()); err != nil {
			return nil, nil, err
		}
	}
}

// find returns the job of this launch, nil where there is none.
func (l *Launcher) find(ctx context.Context) (*df.Job, error) {
	all, err := l.rest.list(ctx, l.o.Name, "ALL")
	if err != nil {
		return nil, err
	}
	const latest = 10 // of the name; the one that is looked for is a minute old at most
	for _, j := range all[:min(len(all), latest)] {
		if ours, err := l.isOurs(ctx, j); err != nil || ours {
			return j, err
		}
	}
	return nil, nil
}

// isOurs tells whether a job is that of this launch. Not all views of a job have its labels.
func (l *Launcher) isOurs(ctx context.Context, j *df.Job) (bool, error) {
	if label := j.Labels[runLabel]; label != "" {
		return label == l.o.label(), nil
	}
	whole, err := l.rest.get(ctx, j.Id, true)
	if err != nil {
		return false, err
	}
	return whole.Labels[runLabel] == l.o.label(), nil
}

// begun notes the job, and has it drain if that was asked for before it was there.
func (l *Launcher) begun(ctx context.Context, id string) error {
	l.mu.Lock()
	l.id = id
	asked := l.asked
	l.mu.Unlock()
	if asked {
		return l.rest.ask(ctx, id, stateDrained)
	}
	return nil
}

// Drain has the job read no more, commit what it has, and end, which Submit waits for. A job that is not there yet drains as soon as it is.
func (l *Launcher) Drain(ctx context.Context) error {
	l.mu.Lock()
	l.asked = true
	id, r := l.id, l.rest
	l.mu.Unlock()
	if id == "" {
		return nil
	}
	return r.ask(ctx, id, stateDrained)
}

// Metrics returns what the job has counted so far, and its watermark, the zero time where there is none. It implements what shows progress.
func (l *Launcher) Metrics(ctx context.Context) (counts map[string]int64, watermark time.Time, err error) {
	l.mu.Lock()
	id, r := l.id, l.rest
	l.mu.Unlock()
	if id == "" {
		return nil, watermark, nil
	}
	m, err := r.metrics(ctx, id)
	if err != nil {
		return nil, watermark, err
	}
	counted := countedBy(m)
	if counted.Watermark != nil {
		watermark = *counted.Watermark
	}
	return counted.Counts, watermark, nil
}
