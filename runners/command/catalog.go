package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backbone/pipelines/catalog"
	"backbone/runners/dataflow/template"
	"backbone/runners/direct"
	"backbone/runners/jobs"
	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/asof"
	"backbone/transforms/run"
)

// catalogOptions are what catalog was asked for.
type catalogOptions struct {
	catalog.Options
	usersMapping string
	itemsMapping string
	mode         string
	asOf         string
	summary      string
	profiles     profiles
	clusters     clusterOptions
}

func newCatalogCommand(env *environment) *cobra.Command {
	options := catalogOptions{
		Options: catalog.Defaults(), mode: string(asof.Full),
		usersMapping: mappings.NativeName + "-" + schemas.Users.Name, itemsMapping: mappings.NativeName + "-" + schemas.Items.Name,
		clusters: clusterDefaults(),
	}
	options.SpillDir = direct.SpillDir()
	cmd := &cobra.Command{
		Use:     "catalog",
		GroupID: groupPipelines,
		Short:   "Carry users and items into versioned tables of the lake, from periodic exports",
		Long: `Catalog reads exports of users and items, brings them into one form, checks them, and makes a new version of each table:
the complete state as of a time in <lake>/items/as_of=.../, and the versions of rows that it has closed in
<lake>/items_history/as_of=.../. What can't become a row is in the table dead_letters, with file, place and field.

An export is full, and what it does not have is deleted; or it is a delta (--mode delta), and only what it has changes. A row is
deleted by a delta that says is_deleted. Updates may come in any order: one that is older than what is known goes where
it belongs in the history, and never undoes it. A source that does not say when a row was updated is taken to have
updated it at --as_of, if its content is another.

The same exports again change nothing, and a run that is killed leaves no version: the next one finishes what it began. Each
version is as of a later time than the one before.`,
		Example: `  backbone catalog --items 'exports/items-*.jsonl.gz' --users 'exports/users-*.jsonl.gz' --as_of 2026-03-02T00:00:00Z --lake /data/lake
  backbone catalog --items 'ml/movies.csv,ml/tags.csv,ml/links.csv' --items_mapping movielens-movies --as_of 2018-09-26T00:00:00Z --lake /data/lake
  backbone catalog --items 's3://shop/changes/2026-03-02/*.jsonl' --mode delta --as_of 2026-03-02T06:00:00Z --lake s3://shop/lake --retain 7`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringSliceVar(&options.Users, "users", nil, "exports of users, as `GLOB`s (local, gs://, s3://; JSONL, JSON, CSV, TSV, YAML, Parquet; .gz, .zst)")
	f.StringVar(&options.usersMapping, "users_mapping", options.usersMapping, "`NAME` of a preset or path of a file that says how records become users; see backbone mapping")
	f.StringSliceVar(&options.Items, "items", nil, "exports of items, as `GLOB`s")
	f.StringVar(&options.itemsMapping, "items_mapping", options.itemsMapping, "`NAME` of a preset or path of a file that says how records become items")
	f.StringVar(&options.mode, "mode", options.mode, "what becomes of rows that an export does not have: full deletes them, delta leaves them")
	f.StringVar(&options.asOf, "as_of", "", "`TIME` at which the exports show the world, in RFC 3339, whole seconds")
	f.StringVar(&options.Lake, "lake", "", "`URL` of the lake: a folder, gs://bucket/prefix or s3://bucket/prefix")
	f.Float64Var(&options.MaxDeleteFraction, "max_delete_fraction", options.MaxDeleteFraction, "share of the rows that a full export may delete by not having them; above it, nothing is changed")
	f.IntVar(&options.Retain, "retain", 0, "how many versions keep their files, the newest ones; history is kept always (default all)")
	f.IntVar(&options.Shards, "shards", 0, "files that a version has at least, a power of two (default as many as are of use)")
	f.StringVar(&options.SpillDir, "spill_dir", options.SpillDir, "local `FOLDER` where rows wait to be merged (default one of this user among the temporary files)")
	f.Lookup("spill_dir").DefValue = "" // which differs from machine to machine
	f.IntVar(&options.MaxRecordBytes, "max_record_bytes", options.MaxRecordBytes, "size of the largest record; a longer one is a dead letter")
	f.StringVar(&options.summary, "summary", "", "`FILE` for a summary in JSON")
	options.profiles.flags(f)
	template.Form{Regex: "^gs://[^,]+(,gs://[^,]+)*$", Type: template.ReadFile, Help: "exports of users, as globs gs://BUCKET/PATTERN with commas between them"}.Note(f, "users")
	template.Form{Regex: "^gs://[^,]+(,gs://[^,]+)*$", Type: template.ReadFile, Help: "exports of items, as globs gs://BUCKET/PATTERN with commas between them"}.Note(f, "items")
	template.Form{Values: []string{string(asof.Full), string(asof.Delta)}}.Note(f, "mode")
	template.Form{Required: true, Regex: "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})$"}.Note(f, "as_of")
	template.Form{Required: true, Regex: "^gs://[^/]+(/.*)?$", Type: template.WriteFolder, Help: "the lake, as gs://BUCKET/FOLDER"}.Note(f, "lake")
	leaveFiles(f)
	clusterFlags(f, &options.clusters)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runCatalog(cmd.Context(), env, options, cmd.Flags())
	}
	return cmd
}

func (o *catalogOptions) complete() error {
	var errs []error
	load := func(globs []string, name string, check func(*mappings.Mapping) error) *mappings.Mapping {
		if len(globs) == 0 {
			return nil
		}
		m, err := mappings.Load(name)
		if err == nil {
			err = check(m)
		}
		errs = append(errs, err)
		return m
	}
	o.UsersMapping = load(o.Users, o.usersMapping, func(m *mappings.Mapping) error { return validFor(m, schemas.Users) })
	o.ItemsMapping = load(o.Items, o.itemsMapping, func(m *mappings.Mapping) error { return validFor(m, schemas.Items) })
	o.Mode = asof.Mode(o.mode)
	if o.asOf != "" {
		at, err := time.Parse(time.RFC3339, o.asOf)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("as_of is %q; it must be a time such as 2026-03-01T00:00:00Z", o.asOf))...)
		}
		o.AsOf = at.UTC()
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, o.Validate())
	}
	return errors.Join(errs...)
}

func validFor[R any](m *mappings.Mapping, table *schemas.Table[R]) error {
	if m.Table != table.Name {
		return fmt.Errorf("mapping %q is for %s, not for %s", m.Name, m.Table, table.Name)
	}
	return mappings.Validate(m, table)
}

func runCatalog(ctx context.Context, env *environment, o catalogOptions, flags *pflag.FlagSet) error {
	o.RunID = newRunID()
	// Before o is checked: a runner may have its say in it.
	b, err := runnerOf(flags, o.clusters, request{
		command: "catalog", runID: o.RunID, lake: &o.Lake, spillDir: &o.SpillDir, paths: slices.Concat(pointers(o.Users), pointers(o.Items)),
		stdout: env.stdout,
	})
	o.DryRun = b != nil && b.dryRun
	if err = errors.Join(o.complete(), err); err != nil {
		return &UsageError{Err: err}
	}
	return env.launch(ctx, launch{
		command: "catalog", unseen: b != nil && b.seen == nil, cpuProfile: o.profiles.cpu, summary: o.summary,
		stopped: "stopped before the end: there is no new version; the same command begins again", refused: asof.ErrConflict,
		run: func(ctx context.Context, _ <-chan struct{}, w watcher) (summary, error) {
			return makeVersions(ctx, env.log, o, b, w)
		},
	})
}

// makeVersions runs the pipeline; b is nil for the direct runner. The summary is true also where there is an error.
func makeVersions(ctx context.Context, log *slog.Logger, o catalogOptions, b *backend, watch watcher) (s summary, err error) {
	s = summary{Command: "catalog", Started: time.Now()}
	r := run.Of(o.RunID)
	defer func() { err = errors.Join(err, r.Close()) }()
	plan, err := catalog.Prepare(ctx, o.Options)
	if err != nil {
		return s, err
	}
	for _, table := range plan.Done {
		log.Info("there is nothing to do: the version is there, made of the same exports", "table", table, "as_of", o.AsOf.Format(time.RFC3339))
	}
	if len(plan.Tables) == 0 {
		return s, nil
	}
	for _, t := range plan.Tables {
		log.Info("making a version", "table", t.Table, "number", t.Version.Number, "as_of", o.AsOf.Format(time.RFC3339), "mode", o.Mode,
			"shards", t.Version.Shards, "lake", o.Lake)
	}
	p, root := beam.NewPipelineWithRoot()
	catalog.Build(root, plan)
	unwatch := func() {}
	if watch != nil {
		unwatch = watch(func() progress {
			if b != nil {
				return b.seen.progress(ctx, func(counts map[string]int64, _ time.Time) progress { return catalogProgress(counts, plan) })
			}
			return catalogProgress(r.Counts(), plan)
		})
	}
	defer unwatch()
	result, err := submitterOf(b, r)(ctx, p)
	unwatch()
	counts, _ := b.last(ctx, result, err)
	s.Outcome = outcomes[result.Outcome]
	err = errors.Join(err, heapProfile(o.profiles.heap))
	s.Read, s.DeadLettered, s.Duplicate = counts["catalog/read"], counts["lake/dead_lettered"], counts["lake/duplicate"]
	s.Files, s.Bytes = counts["lake/files"], counts["lake/bytes"]
	for _, t := range plan.Tables {
		n := func(name string) int64 { return counts[t.Table+"/"+name] }
		s.Committed += n("inserted") + n("updated") + n("removed") + n("late") + n("joined")
		s.Duplicate += n("unchanged")
		s.Unjoined += n("unjoined")
		s.Late += n("late")
		s.Files += n("files")
		s.Bytes += n("bytes")
		if err == nil && result.Outcome == jobs.Ended {
			log.Info("version is committed", "table", t.Table, "number", t.Version.Number, "inserted", n("inserted"), "updated", n("updated"),
				"removed", n("removed"), "absent", n("absent"), "late", n("late"), "unchanged", n("unchanged"), "joined", n("joined"),
				"unjoined", n("unjoined"), "closed", n("closed"))
		}
	}
	return s, err
}

func catalogProgress(c map[string]int64, p *catalog.Plan) progress {
	now := progress{Rows: c["catalog/read"], DeadLetters: c["lake/dead_lettered"]}
	if read := c["catalog/bytes"]; read > 0 && p.Bytes > 0 {
		now.Total = max(now.Rows, now.Rows*p.Bytes/read)
	}
	return now
}
