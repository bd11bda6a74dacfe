package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/spf13/pflag"

	"backbone/runners/dataflow/template"
	"backbone/runners/direct"
	"backbone/runners/flink"
	"backbone/runners/jobs"
	"backbone/transforms/run"
)

const runnerFlink = "flink"

// flinkFlags are of the Flink runner, which has them from Beam where Beam has them. Each begins with its name, so that nobody takes them
// for another's.
func flinkFlags(f *pflag.FlagSet, o *flink.Options) {
	f.StringVar(&o.Master, "flink_master", "", "Flink: `HOST:PORT` of the job manager's REST service (default what the job server was told)")
	f.StringVar(&o.Jar, "flink_job_server", "", "Flink: `JAR` of Beam's job server, to start one for this job; or name one that runs with --endpoint")
	f.DurationVar(&o.Checkpoints, "flink_checkpoints", o.Checkpoints, "Flink: time from one checkpoint of a stream to the next")
	f.StringVar(&o.StateBackend, "flink_state_backend", "", "Flink: `BACKEND` that keeps the state: hashmap, rocksdb (default that of the cluster)")
	f.StringVar(&o.CheckpointDir, "flink_checkpoint_dir", "", "Flink: `URL` of a folder for checkpoints, with --flink_state_backend (default that of the cluster)")
	f.StringVar(&o.Savepoint, "flink_savepoint", "", "Flink: `URL` of a savepoint, or of a checkpoint, to begin from")
	f.StringVar(&o.SavepointDir, "flink_savepoint_dir", "", "Flink: `URL` of a folder for savepoints (default that of the cluster)")
	f.BoolVar(&o.Upgrade, "flink_upgrade", false, "Flink: take the place of the stream of that name that runs, with its state; refused before it is stopped where the graph is another")
	f.IntVar(&o.Restarts, "flink_restarts", o.Restarts, "Flink: how often a job that fails is begun again (-1: as the cluster says)")
	f.DurationVar(&o.RestartDelay, "flink_restart_delay", o.RestartDelay, "Flink: how long it waits before it does")
	f.BoolVar(&o.Detach, "detach", false, "on a cluster: leave the job alone as soon as it runs; see backbone jobs")
	f.BoolVar(&o.Follow, "follow", false, "on a cluster: where a job of files of that name runs, wait for its end as for that of this one; launches do")
	f.StringToStringVar(&o.More, "flink_options", nil, "Flink: other options of Beam's runner, as `NAME=VALUE`,...")
}

// submitter runs a pipeline to its end and returns what was counted.
type submitter func(context.Context, *beam.Pipeline) (jobs.Result, error)

// submitterOf returns that of b, or where b is nil the direct runner, whose parts share r with this process.
func submitterOf(b *backend, r *run.Run) submitter {
	if b != nil {
		return b.submit
	}
	return func(ctx context.Context, p *beam.Pipeline) (jobs.Result, error) {
		err := direct.Submit(ctx, p)
		return jobs.Result{Counts: r.Counts()}, err
	}
}

// backend runs a pipeline elsewhere than in this process.
type backend struct {
	submit submitter
	// seen sees how far the job is; nil: nobody does.
	seen *elsewhere
	// native says that it reads Pub/Sub by a source of its own.
	native bool
	// drain has a stream end in order; nil: it is told so by its lake.
	drain func(context.Context) error
	// dryRun says that nothing is to be written, in the lake neither.
	dryRun bool
}

// request is what a command has to tell of its pipeline before a runner is chosen.
type request struct {
	command   string
	runID     string
	streaming bool
	lake      *string
	spillDir  *string
	paths     []*string // of what is read
	stdout    io.Writer
}

// clusterOptions are those of the runners that are no part of this process.
type clusterOptions struct {
	flink    flink.Options
	dataflow dataflowOptions
}

func clusterDefaults() clusterOptions {
	return clusterOptions{flink: flink.Defaults(), dataflow: dataflowDefaults()}
}

func clusterFlags(f *pflag.FlagSet, o *clusterOptions) {
	flinkFlags(f, &o.flink)
	f.VisitAll(func(flag *pflag.Flag) {
		if strings.HasPrefix(flag.Name, "flink_") {
			template.Leave(flag, "it is for Flink")
		}
	})
	for _, name := range []string{"detach", "follow"} {
		template.Leave(f.Lookup(name), "the launcher of a template follows no job")
	}
	dataflowFlags(f, &o.dataflow)
}

// runnerOf returns what runs a pipeline as flags say, nil for the direct runner. It changes in r what the runner cannot do, and where that is of another
// machine.
func runnerOf(flags *pflag.FlagSet, o clusterOptions, r request) (*backend, error) {
	switch name, _ := given(flags, "runner"); {
	case name == runnerFlink:
		return flinkOf(flags, o.flink, r)
	case isDataflow(name):
		return dataflowOf(flags, o.dataflow, r)
	}
	return nil, refuseRunner(flags)
}

// isDataflow tells whether a runner is Dataflow, by its name here or the other one that it has in Beam, which Dataflow's launchers use.
func isDataflow(name string) bool { return name == runnerDataflow || name == "DataflowRunner" }

func flinkOf(flags *pflag.FlagSet, o flink.Options, r request) (*backend, error) {
	errs := []error{refuseOthers(flags, runnerFlink)}
	if dir, ok := given(flags, "spill_dir"); ok {
		errs = append(errs, fmt.Errorf("spill_dir is %q; on Flink, rows wait in its own memory and files: leave --spill_dir out", dir))
	}
	if *jobopts.Async {
		errs = append(errs, errors.New("async is set, which says less than --detach: leave --async out"))
	}
	for _, path := range append(r.paths, r.lake) {
		errs = append(errs, makeAbsolute(path))
	}
	*r.spillDir = "" // a worker that ends takes what it has spilled with it, and Flink starts another
	o.Name, o.Streaming = *jobopts.JobName, r.streaming
	if o.Name == "" {
		o.Name = "backbone-" + r.command + "-" + strings.ToLower(r.runID)
		if r.streaming { // one stream reads a subscription
			o.Name = "backbone-" + r.command + "-" + path.Base(*r.paths[0])
		}
	}
	o.RunID, o.Lake = r.runID, *r.lake
	o.Endpoint, o.Parallelism = *jobopts.Endpoint, *jobopts.Parallelism
	o.Worker = flink.Worker{Kind: *jobopts.EnvironmentType, Config: *jobopts.EnvironmentConfig, Binary: *jobopts.WorkerBinary}
	errs = append(errs, o.Validate())
	return &backend{
		submit: func(ctx context.Context, p *beam.Pipeline) (jobs.Result, error) { return flink.Submit(ctx, p, o) },
		seen:   newElsewhere(o),
	}, errors.Join(errs...)
}

// lanes returns how many readers of a subscription there are, so that each part of a job has one and, since Flink spreads them by
// chance, some more.
func lanes(parallelism int) int { return 4 * max(parallelism, 4) }

func pointers(all []string) (p []*string) {
	for i := range all {
		p = append(p, &all[i])
	}
	return p
}

// makeAbsolute changes a path of this machine to one that means the same to a worker, which has another working directory.
func makeAbsolute(path *string) (err error) {
	if *path != "" && !strings.Contains(*path, "://") {
		*path, err = filepath.Abs(*path)
	}
	return err
}

// given returns the value of a flag; ok is false where nobody has set it.
func given(flags *pflag.FlagSet, name string) (value string, ok bool) {
	f := flags.Lookup(name)
	if f == nil || !f.Changed {
		return "", false
	}
	return f.Value.String(), true
}

// refuseRunner refuses flags that ask for what the direct runner is not: another runner, or another process.
func refuseRunner(flags *pflag.FlagSet) error {
	var errs []error
	if runner, ok := given(flags, "runner"); ok && runner != "direct" && runner != "prism" {
		errs = append(errs, fmt.Errorf("runner is %q; pipelines run on direct, flink or dataflow", runner))
	}
	if endpoint, ok := given(flags, "endpoint"); ok && endpoint != "" {
		errs = append(errs, fmt.Errorf("endpoint is %q; the direct runner has no job server, it runs in this process: leave --endpoint out", endpoint))
	}
	if kind, ok := given(flags, "environment_type"); ok && !strings.EqualFold(kind, "loopback") {
		errs = append(errs, fmt.Errorf("environment_type is %q; the workers of the direct runner are in this process: leave --environment_type out", kind))
	}
	for _, name := range []string{"detach", "follow"} {
		if _, ok := given(flags, name); ok {
			errs = append(errs, fmt.Errorf("%s is set; the direct runner is this process: leave --%s out", name, name))
		}
	}
	return errors.Join(append(errs, refuseOthers(flags, ""))...)
}

// refuseOthers refuses flags that only other runners than this one have a use for.
func refuseOthers(flags *pflag.FlagSet, runner string) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		of := ""
		if strings.HasPrefix(f.Name, "flink_") {
			of = runnerFlink
		} else if marks := f.Annotations[forRunner]; len(marks) > 0 {
			of = marks[0]
		}
		if f.Changed && of != "" && of != runner {
			errs = append(errs, fmt.Errorf("%s is %q, but the runner is not %s: add --runner=%s, or leave it out", f.Name, f.Value, of, of))
		}
	})
	return errors.Join(errs...)
}
