package command

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backbone/pipelines/interactions"
	"backbone/runners/dataflow/template"
	"backbone/runners/direct"
	"backbone/runners/jobs"
	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/lake"
	"backbone/transforms/run"
	"backbone/transforms/windows"
)

// interactionsOptions are what interactions was asked for.
type interactionsOptions struct {
	interactions.Options
	mapping  string
	context  string
	window   string
	summary  string
	profiles profiles
	clusters clusterOptions
}

func newInteractionsCommand(env *environment) *cobra.Command {
	options := interactionsOptions{
		Options: interactions.Defaults(), mapping: mappings.NativeName, context: mappings.NativeName + "-" + schemas.Contexts.Name,
		clusters: clusterDefaults(),
	}
	options.SpillDir = direct.SpillDir()
	cmd := &cobra.Command{
		Use:     "interactions",
		GroupID: groupPipelines,
		Short:   "Carry what users did into the lake, from files or from Pub/Sub",
		Long: `Interactions reads events, checks them, derives their context and commits them to the table interactions of the
lake, each once. What can't become a row is in the table dead_letters, with the reason, the field and the bytes as
they came.

From files it reads to their end; the same files again add nothing. From a Pub/Sub subscription it reads until SIGTERM
or SIGINT: then it stops pulling, commits what it holds, acknowledges it and exits with 0; a second signal stops at
once. Whatever kills it, nothing is lost: a message is acknowledged after its rows are committed, and what comes
again is known by its event_id. A backfill and a stream may write to the same lake at the same time.

With --context, events of another input say where and how somebody was from a time on: an interaction gets the latest of its
session, or of its visitor where it has no session, at or before its own time, within --context_ttl. What it says itself wins;
without one it goes on, with context_joined = false. Contexts are a table of the lake. In a stream, a context may come up to
--context_wait after its interaction.

With --aggregate, results of windows are computed of what is committed: sessions, trending, funnel, co_occurrence, each a table of the
lake. See docs/windows.md.

Partitions are hours of event time unless --window says otherwise for a new table: a day or a month suits sparse
history. A partition gets a file _SUCCESS once the watermark is --grace past its end.`,
		Example: `  backbone interactions --input 'events/*.jsonl.gz' --lake /data/lake
  backbone interactions --input ratings.csv --mapping movielens-ratings --window month --lake /data/lake
  backbone interactions --input pubsub://my-project/my-subscription --lake gs://my-lake --flush_interval 1m
  backbone interactions --input 'events/*.jsonl' --context 'contexts/*.jsonl' --context_ttl 30m --lake /data/lake
  backbone interactions --input 'events/*.jsonl' --aggregate sessions,trending --windows 1h,24h/1h --lake /data/lake
  backbone --pipeline=interactions --input=gs://exports/2026-11-22/*.jsonl --lake=gs://my-lake --summary=run.json`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringSliceVar(&options.Input, "input", nil, "files to read, as `GLOB`s (local, gs://, s3://; JSONL, JSON, CSV, TSV, Parquet; .gz, .zst), or pubsub://PROJECT/SUBSCRIPTION")
	f.StringVar(&options.mapping, "mapping", options.mapping, "`NAME` of a preset or path of a file that says how records become interactions; see backbone mapping")
	f.StringSliceVar(&options.Context, "context", nil, "contexts to join interactions to, as `GLOB`s or pubsub://PROJECT/SUBSCRIPTION: files where input is files, a subscription where it is one")
	f.StringVar(&options.context, "context_mapping", options.context, "`NAME` of a preset or path of a file that says how records become contexts")
	f.DurationVar(&options.ContextTTL, "context_ttl", options.ContextTTL, "how long a context holds, if no other follows")
	f.DurationVar(&options.ContextWait, "context_wait", options.ContextWait, "how much later than an interaction its context may come in a stream; all of its interactions wait for that")
	f.DurationVar(&options.ContextFlush, "context_flush", options.ContextFlush, "how long a context of a stream waits for its commit, at most")
	f.Int64Var(&options.ContextMemory, "context_memory", 0, "`BYTES` that the contexts which interactions are joined to may take, about 150 for a session: enough for those of one context_ttl (default 268435456)")
	f.StringVar(&options.Lake, "lake", "", "`URL` of the lake: a folder, gs://bucket/prefix or s3://bucket/prefix")
	f.StringVar(&options.window, "window", "", "event time that one partition holds: 15m, 1h, day, month (default that of the table, or 1h for a new one)")
	f.IntVar(&options.Shards, "shards", 0, "files that a partition is written to side by side (default those of the table, or 1 for a new one)")
	f.DurationVar(&options.FlushInterval, "flush_interval", options.FlushInterval, "how long a row of a stream waits for its commit, at most")
	f.DurationVar(&options.Grace, "grace", options.Grace, "how long after its end a partition awaits rows until it is marked complete")
	f.StringVar(&options.GeoDB, "geo", "", "MaxMind database `FILE` (.mmdb) from which places are derived; addresses themselves are never stored")
	f.StringVar(&options.SpillDir, "spill_dir", options.SpillDir, "local `FOLDER` where rows wait for their commit (default one of this user among the temporary files)")
	f.Lookup("spill_dir").DefValue = "" // which differs from machine to machine
	f.IntVar(&options.MaxRecordBytes, "max_record_bytes", options.MaxRecordBytes, "size of the largest record; a longer one is a dead letter")
	f.StringVar(&options.TimestampAttribute, "timestamp_attribute", "", "message attribute with the event time, where the event has none")
	f.StringVar(&options.IDAttribute, "id_attribute", "", "message attribute with the event id, where the event has none")
	f.DurationVar(&options.Disorder, "disorder", options.Disorder, "how much earlier than the latest event another of a stream may be without being late")
	f.DurationVar(&options.Idle, "idle", options.Idle, "how long a stream has to be silent until its watermark follows the clock")
	f.Int64Var(&options.IDMemory, "id_memory", 0, "`BYTES` that remembered event ids may take, 16 for each: enough for the partitions that are written to at a time (default 134217728)")
	f.Int64Var(&options.MaxOutstanding, "max_outstanding", 0, "messages that may be received and not yet acknowledged (default 2000000)")
	windowFlags(f, &options.Windows)
	f.DurationVar(&options.Windows.Early, "early", options.Windows.Early, "how often trending and funnel are computed of a window that is not over, in a stream")
	f.StringVar(&options.Windows.Topic, "publish_topic", "", "`TOPIC` of Pub/Sub for updates of what is trending: projects/PROJECT/topics/TOPIC")
	f.StringVar(&options.summary, "summary", "", "`FILE` for a summary in JSON")
	options.profiles.flags(f)
	noteInteractions(f)
	leaveFiles(f)
	clusterFlags(f, &options.clusters)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runInteractions(cmd.Context(), env, options, cmd.Flags())
	}
	return cmd
}

// noteInteractions notes of flags what a template says of them, and which of them are none of its parameters.
func noteInteractions(f *pflag.FlagSet) {
	template.Form{
		Required: true, Regex: "^(gs://[^,]+(,gs://[^,]+)*|pubsub://[^/,]+/[^/,]+)$",
		Help: "files to read, as globs gs://BUCKET/PATTERN with commas between them (JSONL, JSON, CSV, TSV, Parquet; .gz, .zst), or a subscription, as pubsub://PROJECT/SUBSCRIPTION",
	}.Note(f, "input")
	template.Form{
		Regex: "^(gs://[^,]+(,gs://[^,]+)*|pubsub://[^/,]+/[^/,]+)$",
		Help:  "contexts to join interactions to: of files, as globs gs://BUCKET/PATTERN with commas between them; of a subscription, as pubsub://PROJECT/SUBSCRIPTION",
	}.Note(f, "context")
	template.Form{Required: true, Regex: "^gs://[^/]+(/.*)?$", Type: template.WriteFolder, Help: "the lake, as gs://BUCKET/FOLDER"}.Note(f, "lake")
	template.Form{Regex: "^([0-9]+(m|h)|([0-9]+h)?[0-9]+m|day|month)$"}.Note(f, "window")
	template.Form{Regex: "^projects/[^/]+/topics/[^/]+$", Type: template.Topic}.Note(f, "publish_topic")
	template.Form{Regex: "^(" + strings.Join(windows.Tables, "|") + ")(,(" + strings.Join(windows.Tables, "|") + "))*$"}.Note(f, "aggregate")
	template.Form{Values: []string{"user", "visitor"}}.Note(f, "session_by")
	for name, why := range map[string]string{
		"geo":             "workers of Dataflow have no files of their own",
		"disorder":        "it is for Pub/Sub as others than Dataflow read it",
		"idle":            "it is for Pub/Sub as others than Dataflow read it",
		"max_outstanding": "it is for Pub/Sub as others than Dataflow read it",
	} {
		template.Leave(f.Lookup(name), why)
	}
}

func (o *interactionsOptions) complete() error {
	var errs []error
	m, err := mappings.Load(o.mapping)
	if err == nil {
		err = mappings.Validate(m, schemas.Interactions)
	}
	errs = append(errs, err)
	o.Mapping = m
	if len(o.Context) > 0 {
		c, err := mappings.Load(o.context)
		if err == nil {
			err = validFor(c, schemas.Contexts)
		}
		errs = append(errs, err)
		o.ContextMapping = c
	}
	if o.window != "" {
		if o.Window, err = lake.ParseWindow(o.window); err != nil {
			errs = append(errs, err)
		}
	}
	if m != nil {
		errs = append(errs, o.Validate())
	}
	return errors.Join(errs...)
}

// runner returns what runs the pipeline as flags say, nil for the direct runner, and changes in o what the runner cannot do.
func (o *interactionsOptions) runner(flags *pflag.FlagSet, stdout io.Writer) (*backend, error) {
	b, err := runnerOf(flags, o.clusters, request{
		command: "interactions", runID: o.RunID, streaming: o.Streaming(), lake: &o.Lake, spillDir: &o.SpillDir,
		paths: slices.Concat(pointers(o.Input), pointers(o.Context), []*string{&o.GeoDB}), stdout: stdout,
	})
	if b != nil {
		o.Remote, o.Native, o.DryRun, o.Lanes = true, b.native, b.dryRun, lanes(*jobopts.Parallelism)
		if b.native && o.GeoDB != "" {
			err = fmt.Errorf("geo is %q; workers of this runner have no files of their own: leave it out", o.GeoDB)
		}
	}
	return b, err
}

func runInteractions(ctx context.Context, env *environment, o interactionsOptions, flags *pflag.FlagSet) error {
	o.RunID = newRunID()
	// Before o is checked: a runner may have its say in it.
	b, err := o.runner(flags, env.stdout)
	if err = errors.Join(o.complete(), err); err != nil {
		return &UsageError{Err: err}
	}
	return env.launch(ctx, launch{
		command: "interactions", streaming: o.Streaming(), remembered: o.Remembered(), unseen: b != nil && b.seen == nil, cpuProfile: o.profiles.cpu, summary: o.summary,
		stopped: "stopped before the end; what was not committed is read again by the next run", refused: lake.ErrLayout,
		run: func(ctx context.Context, drain <-chan struct{}, w watcher) (summary, error) {
			s, err := carry(ctx, journey{Options: o.Options, log: env.log, drain: drain, watch: w, heap: o.profiles.heap, backend: b})
			if s.Files > 1000 && s.Committed/s.Files < 1000 && !o.Streaming() {
				env.log.Warn("the files are tiny: history this sparse reads faster in a lake with wider partitions",
					"files", s.Files, "rows_per_file", s.Committed/s.Files, "try", "--window day or --window month, with a new lake")
			}
			return s, err
		},
	})
}

// journey is one run of the pipeline interactions.
type journey struct {
	interactions.Options
	log   *slog.Logger
	drain <-chan struct{} // closed when a stream has to commit what it holds and end
	watch watcher
	heap  string // file for a profile of the memory at the end; empty: none
	// backend runs the pipeline; nil: the direct runner.
	backend *backend
}

// carry runs the pipeline until its input ends, or until what it holds is committed after drain was
// closed. Cancelling ctx ends it at once. The summary is true also where there is an error, but for its Outcome,
// Error and Seconds, which finish fills in. An error that Is lake.ErrLayout says that nothing was started.
func carry(ctx context.Context, j journey) (s summary, err error) {
	s = summary{Command: "interactions", Started: time.Now()}
	r := run.Of(j.RunID)
	defer func() { err = errors.Join(err, r.Close()) }()
	plan, err := interactions.Prepare(ctx, j.Options)
	if err != nil {
		return s, err
	}
	j.log.Info("reading", "input", strings.Join(j.Input, ","), "lake", j.Lake, "run_id", j.RunID, "bytes", plan.Bytes)
	if j.Streaming() {
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			select {
			case <-j.drain:
				j.log.Info("draining: committing what was received; a second signal stops at once")
				if err := j.requestDrain(ctx, r); err != nil {
					j.log.Error("the run cannot be drained; a second signal stops it at once", "error", err)
				}
			case <-ended:
			}
		}()
	}
	p, root := beam.NewPipelineWithRoot()
	interactions.Build(root, plan)
	unwatch := func() {}
	if j.watch != nil {
		unwatch = j.watch(func() progress {
			if j.backend != nil {
				return j.backend.seen.progress(ctx, func(counts map[string]int64, watermark time.Time) progress {
					return progressOf(counts, watermark, plan.Bytes)
				})
			}
			return progressOf(r.Counts(), interactions.Watermark(r, plan), plan.Bytes)
		})
	}
	defer unwatch()
	result, err := submitterOf(j.backend, r)(ctx, p)
	unwatch()
	counts, watermark := j.backend.last(ctx, result, err)
	if !watermark.IsZero() {
		s.Watermark = &watermark
	}
	s.Outcome, s.Partial = outcomes[result.Outcome], result.Partial
	err = errors.Join(err, heapProfile(j.heap))
	if err == nil && s.Outcome == "" && j.Streaming() { // else it has no end
		s.Outcome = outcomeDrained
	}
	if at := interactions.Watermark(r, plan); !at.IsZero() {
		s.Watermark = &at
	}
	s.Read, s.Committed, s.Duplicate = counts["events/read"], counts["lake/committed"], counts["lake/duplicate"]
	s.DeadLettered, s.Late, s.Files, s.Bytes = counts["lake/dead_lettered"], counts["lake/late"], counts["lake/files"], counts["lake/bytes"]
	if len(j.Context) > 0 {
		j.log.Info("contexts of interactions", "joined", counts["context/joined"], "unjoined", counts["context/unjoined"])
	}
	if len(j.Windows.Tables) > 0 {
		j.log.Info("results of windows", "early", counts["windows/early"], "on_time", counts["windows/on_time"],
			"late", counts["windows/late"], "settled", counts["windows/settled"])
	}
	if j.GeoDB != "" {
		j.log.Info("places from addresses", "located", counts["context/located"], "unknown", counts["context/unknown"],
			"private", counts["context/private"], "garbage", counts["context/garbage"], "failed", counts["context/failed"])
	}
	return s, err
}

// outcomes are those of a summary, by what became of a job.
var outcomes = map[jobs.Outcome]string{jobs.Detached: outcomeSubmitted, jobs.Stopped: outcomeStopped, jobs.There: outcomeThere, jobs.Planned: outcomePlanned}

// requestDrain has the run commit what it holds and end, wherever its parts are.
func (j journey) requestDrain(ctx context.Context, r *run.Run) error {
	r.Drain()
	switch {
	case !j.Remote:
		return nil
	case j.backend.drain != nil:
		return j.backend.drain(ctx)
	}
	st, err := lake.OpenStore(ctx, r, j.Lake)
	if err != nil {
		return err
	}
	return lake.RequestDrain(ctx, st, r.ID)
}

// progressOf says how far a run is, by what it has counted. Bytes are those of its input, 0 where nobody knows.
func progressOf(counts map[string]int64, watermark time.Time, bytes int64) progress {
	now := progress{Rows: counts["events/read"], DeadLetters: counts["lake/dead_lettered"], Watermark: watermark}
	if read := counts["events/bytes"]; read > 0 && bytes > 0 { // what is left is like what was read
		now.Total = max(now.Rows, now.Rows*bytes/read)
	}
	return now
}

// newRunID names a launch: the time for people, and chance so that two at once differ.
func newRunID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s-%s", time.Now().UTC().Format("20060102T150405Z"), hex.EncodeToString(b[:]))
}
