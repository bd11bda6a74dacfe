package flink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/artifact"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/protox"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"backbone/runners/graph"
	"backbone/runners/jobs"
)

// Submit runs p to its end, or as far as o says. Cancelling ctx cancels the job. Where another job of the name runs, nothing is submitted: with
// Follow, its end is waited for instead, and what it has counted is the result. o must have passed Validate.
func Submit(ctx context.Context, p *beam.Pipeline, o Options) (result jobs.Result, failed error) {
	defer func() {
		if failed != nil && ctx.Err() == nil {
			failed = fmt.Errorf("flink runner: %w", failed)
		}
	}()
	manager := rest{o.Master}
	if o.Follow && o.Master == "" {
		slog.Warn("whether a job of that name runs already cannot be seen: set flink_master, HOST:PORT of the job manager's REST service", "job", o.Name)
	}
	if err := answers(ctx, o.Master); err != nil {
		// A job server elsewhere may reach what this process does not. One that is here would try for a minute, and not say where.
		if o.Jar != "" || o.Streaming || o.Detach || o.Follow && o.Master != "" || isLocal(o.Master) && isLocal(o.Endpoint) {
			return result, fmt.Errorf("no job manager answers at flink_master %s: %w", o.Master, err)
		}
		manager = rest{}
	}
	var before *job // that this one takes the place of
	if manager.master != "" {
		switch first, ok, err := manager.running(ctx, o.Name); {
		case err != nil:
			return result, err
		case ok && o.Follow:
			return o.follow(ctx, manager, first)
		case ok && !o.Upgrade:
			slog.Info("nothing is submitted: " + twice(first).Error())
			return jobs.Result{Outcome: jobs.There}, nil
		case ok:
			before = &first
		}
	}
	if o.StateBackend != "" && o.CheckpointDir == "" {
		dir, err := manager.checkpointDir(ctx)
		if err != nil {
			return result, err
		}
		o.CheckpointDir = dir
	}
	if o.Jar != "" {
		server, stop, err := startJobServer(ctx, o.Jar, o.Master)
		if err != nil {
			return result, err
		}
		o.Endpoint = server.Endpoint()
		defer func() { failed = errors.Join(server.explain(failed), stop(failed != nil)) }()
	}
	if err := answers(ctx, o.Endpoint); err != nil {
		return result, fmt.Errorf("no job server answers at endpoint %s: %w", o.Endpoint, err)
	}
	environment, stop, err := o.Worker.start(ctx)
	if err != nil {
		return result, err
	}
	defer stop()
	pipeline, err := graph.Marshal(p, environment)
	if err != nil {
		return result, err
	}
	steps := graph.Of(pipeline)
	if o.Streaming {
		if err := graph.Save(ctx, o.Lake, o.RunID, steps); err != nil {
			return result, err
		}
	}
	connection, err := grpcx.Dial(ctx, o.Endpoint, time.Minute)
	if err != nil {
		return result, fmt.Errorf("job server %s: %w", o.Endpoint, err)
	}
	defer func() { failed = errors.Join(failed, connection.Close()) }()
	if o.Worker.Binary == "" {
		if o.Worker.Binary, err = os.Executable(); err != nil {
			return result, err
		}
	}
	hash, err := hashOf(o.Worker.Binary)
	if err != nil {
		return result, fmt.Errorf("worker binary: %w", err)
	}
	if before != nil {
		if o.Savepoint, err = o.stop(ctx, manager, *before, steps); err != nil {
			return result, err
		}
		defer func() {
			if failed != nil {
				failed = fmt.Errorf("%w; what job %s had read is in its savepoint: start it again with --flink_savepoint=%s", failed, o.Name, o.Savepoint)
			}
		}()
	}
	client := optionsClient{jobpb.NewJobServiceClient(connection), o.runner()}
	client.options[tagPrefix+workerTag] = hash
	id, err := o.run(ctx, client, pipeline)
	if err != nil {
		return result, err
	}
	w := watcher{Options: o, client: client, manager: manager, id: id, found: make(chan job, 1)}
	switch err := w.watch(ctx); {
	case errors.Is(err, errDetached):
		return jobs.Result{Outcome: jobs.Detached}, nil
	case errors.Is(err, errTwice):
		slog.Info("the job was cancelled before it began: " + err.Error())
		if first, ok, err := manager.running(ctx, o.Name); o.Follow && (err != nil || ok) {
			if err != nil {
				return result, err
			}
			return o.follow(ctx, manager, first)
		}
		return jobs.Result{Outcome: jobs.There}, nil
	case errors.Is(err, errStopped):
		return w.result(ctx, jobs.Stopped)
	case err != nil:
		return result, err
	}
	return w.result(ctx, jobs.Ended)
}

// follow waits for the end of a job that another launch has submitted. No job server is asked: that of the other may be gone.
func (o Options) follow(ctx context.Context, manager rest, j job) (result jobs.Result, err error) {
	slog.Info("nothing is submitted, its end is waited for: " + twice(j).Error())
	tags, err := manager.tags(ctx, j.ID)
	if err != nil {
		return result, err
	}
	o.RunID = tags[RunTag]
	w := watcher{Options: o, manager: manager, id: j.ID, found: make(chan job, 1)}
	if err := w.watch(ctx); err != nil {
		return result, err
	}
	return w.result(ctx, jobs.Ended)
}

// startJobServer starts the job server of one job. Its log is kept if the job has failed.
func startJobServer(ctx context.Context, jar, master string) (server *JobServer, stop func(failed bool) error, err error) {
	dir, err := os.MkdirTemp("", "backbone-job-server-")
	if err != nil {
		return nil, nil, err
	}
	server = &JobServer{Jar: jar, Master: master, Dir: dir}
	if err := server.Start(ctx); err != nil {
		return nil, nil, err // it names its log
	}
	return server, func(failed bool) error {
		err := server.Close()
		if failed {
			slog.Info("the log of the job server is kept", "dir", dir)
			return err
		}
		return errors.Join(err, os.RemoveAll(dir))
	}, nil
}

// errRefused says that a job server does not take a job. Why is in its log only.
var errRefused = errors.New("the job server refuses the job, and its log says why")

// run has a pipeline run, and returns the id of its job.
func (o Options) run(ctx context.Context, client jobpb.JobServiceClient, pipeline *pipepb.Pipeline) (id string, err error) {
	binary := o.Worker.Binary
	if err := runnerlib.UpdateGoEnvironmentWorker(binary, pipeline); err != nil {
		return "", fmt.Errorf("worker binary: %w", err)
	}
	if !o.Streaming { // whose workers may need it after the job server takes the job for ended
		stageAs(pipeline, "worker")
	}
	prepared, endpoint, token, err := runnerlib.Prepare(ctx, client, pipeline, &runnerlib.JobOptions{
		Name: o.Name, Experiments: jobopts.GetExperiments(), Worker: binary, Parallelism: o.Parallelism,
	})
	if err != nil {
		return "", fmt.Errorf("%w: job server %s: %w", errRefused, o.Endpoint, err)
	}
	if token, err = runnerlib.Stage(ctx, prepared, endpoint, binary, token); err != nil {
		return "", fmt.Errorf("send the worker binary %s to %s: %w", binary, endpoint, err)
	}
	if id, err = runnerlib.Submit(ctx, client, prepared, token); err != nil {
		return "", fmt.Errorf("%w: job server %s: %w", errRefused, o.Endpoint, err)
	}
	slog.Info("job submitted to Flink", "job", o.Name, "id", id, "endpoint", o.Endpoint, "flink_master", o.Master, "streaming", o.Streaming)
	return id, nil
}

// stageAs gives the worker binary a name in the job server. One that is known by its path only is kept in folders of a folder, and is not
// found when the job server clears up after the job: 200 MB stay, of each.
func stageAs(pipeline *pipepb.Pipeline, name string) {
	for _, e := range pipeline.GetComponents().GetEnvironments() {
		for _, d := range e.GetDependencies() {
			d.RoleUrn = artifact.URNStagingTo
			d.RolePayload = protox.MustEncode(&pipepb.ArtifactStagingToRolePayload{StagedName: name})
		}
	}
}

// optionsClient adds options of Beam's Flink runner to jobs, for which the SDK has no flags.
type optionsClient struct {
	jobpb.JobServiceClient
	options map[string]string
}

// Prepare implements jobpb.JobServiceClient.
func (c optionsClient) Prepare(ctx context.Context, in *jobpb.PrepareJobRequest, o ...grpc.CallOption) (*jobpb.PrepareJobResponse, error) {
	for name, value := range c.options {
		in.PipelineOptions.Fields[beamOption(name)] = structpb.NewStringValue(value)
	}
	return c.JobServiceClient.Prepare(ctx, in, o...)
}

// beamOption is the full name of an option.
func beamOption(name string) string { return "beam:option:" + name + ":v1" }
