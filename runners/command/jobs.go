package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"backbone/runners/dataflow"
	"backbone/runners/flink"
	"backbone/runners/jobs"
)

// jobsOptions are what the commands about jobs were asked for.
type jobsOptions struct {
	runner   string
	master   string
	project  string
	region   string
	endpoint string
	json     bool
	detach   bool
	jobs.SavepointOptions
}

// service returns where the jobs run.
func (o *jobsOptions) service(ctx context.Context) (jobs.Service, error) {
	var s jobs.Service
	var err error
	switch o.runner {
	case runnerFlink:
		if o.project != "" || o.region != "" || o.endpoint != "" {
			return nil, usageErrorf("project is %q, region is %q, dataflow_endpoint is %q, but the runner is flink: add --runner=dataflow, or leave them out", o.project, o.region, o.endpoint)
		}
		s, err = flink.NewJobs(o.master)
	case runnerDataflow:
		s, err = dataflow.NewJobs(ctx, cmp.Or(o.project, os.Getenv("GOOGLE_CLOUD_PROJECT"), os.Getenv("CLOUDSDK_CORE_PROJECT")),
			cmp.Or(o.region, os.Getenv("CLOUDSDK_COMPUTE_REGION")), o.endpoint)
	default:
		return nil, usageErrorf("runner is %q; jobs that outlive their command run on flink or dataflow", o.runner)
	}
	if err != nil {
		return nil, &UsageError{Err: err}
	}
	return s, nil
}

// find returns where the jobs run, and the one that is meant.
func (o *jobsOptions) find(ctx context.Context, which string) (jobs.Service, jobs.Job, error) {
	s, err := o.service(ctx)
	if err != nil {
		return nil, jobs.Job{}, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, jobs.Job{}, err
	}
	j, err := jobs.Find(all, which)
	return s, j, err
}

func newJobsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "jobs",
		GroupID: groupJobs,
		Short:   "Jobs that run on a cluster: which there are, how they do, and to end them",
		Long: `Jobs says what runs on a cluster of Flink, what it has counted and how it is doing, and drains, cancels or saves it. It asks
the job manager's REST service (--flink_master), and works from any machine that reaches it: the command that has
submitted the job need not run any more. With --runner=dataflow it asks Google Cloud Dataflow, for the jobs of a project
in a region; that has no savepoints.

A job is meant by its id, by a beginning of its id that no other has, or by its name (--job_name of the command that has
submitted it). Of several of one name it is the one that has not ended, or else the last that began.

Exit code 1 says that there is no such job, or that it could not be asked or ended.`,
		Example: `  backbone jobs list --flink_master flink:8081
  backbone jobs list --runner dataflow --project my-shop --region europe-west1
  backbone jobs metrics shop-stream
  backbone jobs drain shop-stream`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(env.stderr)
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("a command is missing")
		},
	}
	cmd.AddCommand(newJobsListCommand(env), newJobsShowCommand(env), newJobsMetricsCommand(env), newJobsDrainCommand(env), newJobsCancelCommand(env), newJobsSavepointCommand(env))
	return cmd
}

// aJob is the argument of commands about one job.
func aJob(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageErrorf("%s takes one job: its id, a beginning of it, or its name; backbone jobs list says which there are", cmd.Name())
	}
	return nil
}

// with adds the flags that all commands about jobs have.
func (o *jobsOptions) with(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&o.runner, "runner", runnerFlink, "`RUNNER` of the jobs: flink or dataflow")
	cmd.Flags().StringVar(&o.project, "project", "", "Dataflow: Google Cloud `PROJECT` of the jobs (default GOOGLE_CLOUD_PROJECT)")
	cmd.Flags().StringVar(&o.region, "region", "", "Dataflow: `REGION` where they run (default CLOUDSDK_COMPUTE_REGION)")
	cmd.Flags().StringVar(&o.endpoint, "dataflow_endpoint", "", "Dataflow: `URL` of the REST service (default Google's)")
	cmd.Flags().StringVar(&o.master, "flink_master", "127.0.0.1:8081", "Flink: `HOST:PORT` of the job manager's REST service")
	return cmd
}

// printing is with, and a flag for programs.
func (o *jobsOptions) printing(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON, for programs")
	return o.with(cmd)
}

func newJobsListCommand(env *environment) *cobra.Command {
	var o jobsOptions
	return o.printing(&cobra.Command{
		Use:   "list",
		Short: "List the jobs of a cluster",
		Long: `List prints the jobs that the cluster knows, the latest first: also those that have ended, as long as its job manager remembers
them.`,
		Example: `  backbone jobs list
  backbone jobs list --flink_master flink:8081 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := o.service(cmd.Context())
			if err != nil {
				return err
			}
			all, err := s.List(cmd.Context())
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(env.stdout, all)
			}
			return printJobs(env.stdout, all)
		},
	})
}

func newJobsShowCommand(env *environment) *cobra.Command {
	var o jobsOptions
	return o.printing(&cobra.Command{
		Use:     "show JOB",
		Short:   "Show what a job is, which launch and which lake it is of, and why it failed",
		Long:    `Show prints what is known of a job: its state, its launch and its lake, and why it has failed, or began again the last time.`,
		Example: "  backbone jobs show shop-stream\n  backbone jobs show 7ce09d --json",
		Args:    aJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, j, err := o.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if j, err = s.Show(cmd.Context(), j.ID); err != nil {
				return err
			}
			if o.json {
				return printJSON(env.stdout, j)
			}
			return printJob(env.stdout, j)
		},
	})
}

func newJobsMetricsCommand(env *environment) *cobra.Command {
	var o jobsOptions
	return o.printing(&cobra.Command{
		Use:   "metrics JOB",
		Short: "Print what a job has counted, and how it is doing",
		Long: `Metrics prints what a job has counted up to now, its watermark, how long commits take, where it waits, its checkpoints, and
how often it began again. A job manager asks its tasks every 10 seconds, unless metrics.fetcher.update-interval
says otherwise: what is printed is that old, and of a job that has just begun there is nothing.

Where a job began again, its counts are those of the last attempt. A job that was restored has counted what it did since.`,
		Example: `  backbone jobs metrics shop-stream
  backbone jobs metrics shop-stream --json | jq '.counts["lake/committed"]'`,
		Args: aJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, j, err := o.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			m, err := s.Metrics(cmd.Context(), j.ID)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(env.stdout, struct {
					Job jobs.Job `json:"job"`
					jobs.Metrics
				}{j, m})
			}
			return printMetrics(env.stdout, j, m, time.Now())
		},
	})
}

func newJobsDrainCommand(env *environment) *cobra.Command {
	var o jobsOptions
	cmd := o.with(&cobra.Command{
		Use:   "drain JOB",
		Short: "Have a stream read no more, commit and acknowledge what it has, and end",
		Long: `Drain ends a stream in order: it takes in nothing more, commits and acknowledges what it has, and ends. The job is told by
an object in its lake, so this command has to reach the lake, with the right to write. Dataflow is asked for it instead.

It waits until the job has ended. That takes a flush interval and some seconds, and up to 10 more until the job manager has
seen it. A job that has drained is cancelled: on Flink a stream does not end by itself. With --detach, drain does not
wait: the command that has submitted the job ends it, if it still runs, and otherwise another drain does.`,
		Example: `  backbone jobs drain shop-stream
  backbone jobs drain 7ce09d --flink_master flink:8081 --detach`,
		Args: aJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, j, err := o.find(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.Drain(ctx, j.ID); err != nil {
				return err
			}
			env.log.Info("draining: the job reads no more, and commits what it has", "job", j.Name, "id", j.ID)
			if o.detach {
				return nil
			}
			if err := s.AwaitDrained(ctx, j.ID); err != nil {
				return err
			}
			env.log.Info("drained: all that was read is committed", "job", j.Name, "id", j.ID)
			return nil
		},
	})
	cmd.Flags().BoolVar(&o.detach, "detach", false, "do not wait for the end of the job")
	return cmd
}

func newJobsCancelCommand(env *environment) *cobra.Command {
	var o jobsOptions
	return o.with(&cobra.Command{
		Use:   "cancel JOB",
		Short: "End a job at once",
		Long: `Cancel ends a job at once, and waits until it has. Files are read again by the next job, which knows what was committed. On Flink nothing
of a stream is lost: what it has not committed is not acknowledged, and comes again. On Dataflow it is: what Dataflow has acknowledged and the lake
does not have yet is gone, so a stream there is better drained.`,
		Example: "  backbone jobs cancel shop-stream\n  backbone jobs cancel 7ce09d --flink_master flink:8081",
		Args:    aJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, j, err := o.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if j.State.Ended() {
				env.log.Info("there is nothing to cancel: the job has ended", "job", j.Name, "id", j.ID, "state", j.State)
				return nil
			}
			if err := s.Cancel(cmd.Context(), j.ID); err != nil {
				return err
			}
			env.log.Info("cancelled", "job", j.Name, "id", j.ID)
			return nil
		},
	})
}

func newJobsSavepointCommand(env *environment) *cobra.Command {
	var o jobsOptions
	cmd := o.with(&cobra.Command{
		Use:   "savepoint JOB",
		Short: "Write the state of a stream, from which another job may begin",
		Long: `Savepoint has a stream write its state, waits until it is written, and prints its URL, which a later job takes as
--flink_savepoint. With --stop, the job ends at the savepoint: what it holds is in there, and is neither committed nor
acknowledged until a job begins from it. To upgrade, drain is simpler, and needs no savepoint.`,
		Example: `  backbone jobs savepoint shop-stream
  backbone jobs savepoint shop-stream --stop --savepoint_dir s3://shop/savepoints`,
		Args: aJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, j, err := o.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if j.State.Ended() {
				return fmt.Errorf("job %q (%s) has ended: it is %s", j.Name, j.ID, j.State)
			}
			path, err := s.Savepoint(cmd.Context(), j.ID, o.SavepointOptions)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(env.stdout, path)
			return err
		},
	})
	cmd.Flags().BoolVar(&o.Stop, "stop", false, "end the job at the savepoint")
	cmd.Flags().StringVar(&o.Dir, "savepoint_dir", "", "`URL` of the folder for the savepoint, as the job manager sees it (default that of the cluster)")
	return cmd
}

// printJSON prints v for programs.
func printJSON(out io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = out.Write(append(text, '\n'))
	return err
}

func printJobs(out io.Writer, all []jobs.Job) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := printer{w: w}
	p.printf("id\tname\tstate\tstarted\tended\n")
	for _, j := range all {
		p.printf("%s\t%s\t%s\t%s\t%s\n", legible(j.ID), legible(j.Name), j.State, j.Started.Format(time.RFC3339), instant(j.Ended))
	}
	p.flush(w)
	return p.err
}

func printJob(out io.Writer, j jobs.Job) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := printer{w: w}
	line := func(name, value string) {
		if value != "" {
			p.printf("%s\t%s\n", name, legible(value))
		}
	}
	line("id", j.ID)
	line("name", j.Name)
	line("state", string(j.State))
	line("started", j.Started.Format(time.RFC3339))
	if j.Ended != nil {
		line("ended", instant(j.Ended))
	}
	line("run", j.RunID)
	line("lake", j.Lake)
	kind := "files"
	if j.Streaming {
		kind = "a stream"
	}
	line("reads", kind)
	line("parallelism", fmt.Sprint(j.Parallelism))
	line("failure", j.Failure)
	p.flush(w)
	return p.err
}

// commitLatency is the distribution of how long commits take.
const commitLatency = "lake/commit_milliseconds"

// printMetrics prints metrics as of now: first what one looks at, then all that was counted.
func printMetrics(out io.Writer, j jobs.Job, m jobs.Metrics, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := printer{w: w}
	p.printf("job\t%s (%s), %s\n", legible(j.Name), legible(j.ID), j.State)
	for _, c := range []struct{ title, name string }{
		{"read", "events/read"}, {"committed", "lake/committed"}, {"duplicates", "lake/duplicate"}, {"dead letters", "lake/dead_lettered"},
	} {
		if n, ok := m.Counts[c.name]; ok {
			p.printf("%s\t%s\n", c.title, humanize.Comma(n))
		}
	}
	if m.Watermark != nil {
		behind := ""
		if !j.State.Ended() {
			behind = fmt.Sprintf(", %v behind", max(now.Sub(*m.Watermark), 0).Round(time.Second))
		}
		p.printf("watermark\t%s%s\n", instant(m.Watermark), behind)
	}
	if m.Drained {
		p.printf("watermark\tat the end: no source reads any more, and all that was read is done\n")
	}
	if d, ok := m.Distributions[commitLatency]; ok {
		p.printf("commits\t%s, %.0f ms each, the longest %s ms\n", humanize.Comma(d.Count), d.Mean(), humanize.Comma(d.Max))
	}
	if m.Backpressure != nil {
		at := ""
		if m.BackpressureAt != "" {
			at = " at " + legible(m.BackpressureAt)
		}
		p.printf("backpressure\t%.0f %%%s\n", *m.Backpressure*100, at)
	}
	if c := m.Checkpoints; c != nil {
		p.printf("checkpoints\t%s completed, %s failed\n", humanize.Comma(c.Completed), humanize.Comma(c.Failed))
		if c.Last != nil {
			p.printf("last checkpoint\t%s, took %.1fs, %s, %s\n", c.Last.Completed.Format(time.RFC3339), c.Last.Seconds, humanize.Bytes(uint64(max(c.Last.Bytes, 0))), legible(c.Last.Path))
		}
	}
	p.printf("restarts\t%d\n", m.Restarts)
	p.printf("uptime\t%v\n", time.Duration(m.UptimeSeconds*float64(time.Second)).Round(time.Second))
	p.flush(w)
	if len(m.Counts) > 0 {
		p.printf("\ncounter\tvalue\n")
		for _, name := range slices.Sorted(maps.Keys(m.Counts)) {
			p.printf("%s\t%s\n", legible(name), humanize.Comma(m.Counts[name]))
		}
		p.flush(w)
	}
	return p.err
}

// legible is text from elsewhere, without what would move the cursor of a terminal or break a table.
func legible(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
