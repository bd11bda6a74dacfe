package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/spf13/cobra"

	"backbone/schemas"
	"backbone/testing/generator"
	source "backbone/transforms/pubsub"
)

// generateOptions are what generate was asked for.
type generateOptions struct {
	generator.Options
	catalog  generator.CatalogOptions
	start    string
	out      string
	topic    string
	rate     float64
	realtime bool
	force    bool
}

func newGenerateCommand(env *environment) *cobra.Command {
	options := generateOptions{Options: generator.Options{Events: 100_000}.Defaults()}
	options.Users, options.Items = 0, 0
	options.catalog = generator.CatalogOptions{}.Defaults()
	cmd := &cobra.Command{
		Use:     "generate",
		GroupID: groupLocal,
		Short:   "Make the events of a shop, good and bad, and the truth about them",
		Long: `Generate makes interaction events of a shop that does not exist: sessions of users who search, are shown lists,
click, look, buy, rate and watch, by day more than by night. Some events are what real producers send: repeated, hours
late, out of order, or broken in one of the ways that dead letters have a code for.

With --out DIR, the events are written to DIR/interactions/part-0000.jsonl and so on, one JSON object a line in
Backbone's native format, in the order of their arrival. What has to become of each of them is in DIR/truth.parquet
(event_id, event_time, arrival_time, verdict, and code, field_path and payload hash of broken ones); the totals are
in DIR/truth.json, and are printed.

With --topic, the events are published to a Pub/Sub topic instead, with the attributes event_id and event_time; --out is
then only for the truth. PUBSUB_EMULATOR_HOST names a local server. With --realtime, events happen from now on,
and each is published when it arrives. SIGINT or SIGTERM ends it: what was published is what the truth speaks of.

With --days N, the events are those of N days, and DIR/catalog has what the shop's systems tell of its users and items: at
the end of each day an export of all there is, and one of what has changed since the day before. Rows are new, changed,
deleted and come back; some are there twice, beside an older version, or broken. What has to become of them is in
DIR/catalog/truth.parquet (each version of each user and item), truth_broken.parquet and truth.json:

  DIR/catalog/users/full/as_of=20260302T000000Z/part-0000.jsonl    all users at the end of the first day
  DIR/catalog/users/delta/as_of=20260302T000000Z/part-0000.jsonl   those that have changed in it
  DIR/catalog/items/...                                            as users

The same flags give the same bytes, but for --realtime.`,
		Example: `  backbone generate --events 1000000 --users 50000 --items 5000 --seed 1 --out /tmp/shop
  backbone generate --events 100000 --broken_share 0.05 --files 8 --out /tmp/shop --force
  backbone generate --events 1000000 --days 10 --users 50000 --items 5000 --out /tmp/shop
  backbone generate --events 0 --days 10 --users 100000 --items 1000000 --change_share 0.02 --out /tmp/catalog
  PUBSUB_EMULATOR_HOST=localhost:8085 backbone generate --events 600000 --topic projects/shop/topics/events --rate 1000 --realtime
  duckdb -c "SELECT verdict, code, count(*) FROM '/tmp/shop/truth.parquet' GROUP BY ALL"`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Events, "events", options.Events, "how many events, repeated and broken ones included; 0 with --days: none")
	flags.IntVar(&options.Users, "users", 0, "how many users there are (default a tenth of the events, at least 100)")
	flags.IntVar(&options.Items, "items", 0, "how many items there are (default a hundredth of the events, at least 100)")
	flags.Uint64Var(&options.Seed, "seed", 0, "which of the possible shops")
	flags.StringVar(&options.start, "start", options.Start.Format(time.RFC3339), "`TIME` of the first event, in RFC 3339; not with --realtime")
	flags.DurationVar(&options.Duration, "duration", options.Duration, "how much time the events span (with --realtime and --rate: events / rate; with --days: those)")
	flags.Float64Var(&options.DuplicateShare, "duplicate_share", options.DuplicateShare, "share of events, and of exported rows, that repeat an earlier one")
	flags.Float64Var(&options.BrokenShare, "broken_share", options.BrokenShare, "share of events, and of exported rows, that are broken")
	flags.Float64Var(&options.LateShare, "late_share", options.LateShare, "share of events that arrive long after they happened")
	flags.DurationVar(&options.MaxLate, "max_late", options.MaxLate, "longest that an event is under way (with --realtime: half of duration)")
	flags.IntVar(&options.Files, "files", options.Files, "over how many files the events, and those of an export, are spread")
	flags.IntVar(&options.catalog.Days, "days", 0, "for how many days users and items are exported; 0: not at all")
	flags.Float64Var(&options.catalog.NewShare, "new_share", options.catalog.NewShare, "share of all users and items that come on each day after the first; this and what follows with --days")
	flags.Float64Var(&options.catalog.ChangeShare, "change_share", options.catalog.ChangeShare, "share of users and items that change in a day")
	flags.Float64Var(&options.catalog.DeleteShare, "delete_share", options.catalog.DeleteShare, "share of users and items that are deleted in a day")
	flags.Float64Var(&options.catalog.RecreateShare, "recreate_share", options.catalog.RecreateShare, "share of what is deleted that comes back in a day")
	flags.Float64Var(&options.catalog.OlderShare, "older_share", options.catalog.OlderShare, "share of exported rows that have an older version beside them")
	flags.Float64Var(&options.catalog.OddShare, "odd_share", options.catalog.OddShare, "share of exported rows that are not in normal form")
	flags.StringVar(&options.out, "out", "", "`DIR` for events and truth; it must be empty or absent")
	flags.BoolVar(&options.force, "force", false, "replace the events, the exports and the truth that are in DIR")
	flags.StringVar(&options.topic, "topic", "", "`TOPIC` to publish to: projects/PROJECT/topics/TOPIC")
	flags.Float64Var(&options.rate, "rate", 0, "how many events a second are published at most (default no bound)")
	flags.BoolVar(&options.realtime, "realtime", false, "let the events happen from now on, and publish each when it arrives")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runGenerate(cmd.Context(), env, options, cmd.Flags().Changed)
	}
	return cmd
}

func runGenerate(ctx context.Context, env *environment, o generateOptions, given func(flag string) bool) error {
	if err := o.complete(given); err != nil {
		return &UsageError{Err: err}
	}
	var done, exported atomic.Int64
	o.Progress = func(events int) { done.Store(int64(events)) }
	o.catalog.Progress = func(lines int) { exported.Store(int64(lines)) }
	var g *generator.Generator
	if o.Events > 0 || o.catalog.Days == 0 {
		var err error
		if g, err = generator.New(o.Options); err != nil {
			return &UsageError{Err: err}
		}
	}
	if o.catalog.Days > 0 {
		if err := o.catalog.Validate(); err != nil {
			return &UsageError{Err: err}
		}
	}
	if err := o.clear(); err != nil {
		return err
	}

	drain, ctx, stop := notifyDrain(ctx)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-drain:
			cancel()
		case <-ctx.Done():
		}
	}()
	stopProgress := env.startProgress(ctx, "generate", func() progress {
		p := progress{Rows: done.Load() + exported.Load(), Total: int64(o.Events)}
		if o.catalog.Days > 0 {
			p.Total = 0 // how many rows all exports have is not known ahead
		}
		return p
	})
	defer stopProgress()

	var totals []any
	if o.catalog.Days > 0 {
		total, err := generator.WriteCatalog(ctx, o.out, o.catalog)
		if err != nil {
			return err
		}
		totals = append(totals, total)
	}
	if g != nil {
		total, err := o.events(ctx, env, g)
		if err != nil {
			return err
		}
		totals = append([]any{total}, totals...)
	}
	stopProgress()
	for _, total := range totals {
		text, err := json.MarshalIndent(total, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the totals: %w", err)
		}
		if _, err := fmt.Fprintf(env.stdout, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// events writes or publishes the events of g.
func (o *generateOptions) events(ctx context.Context, env *environment, g *generator.Generator) (generator.Summary, error) {
	if o.topic == "" {
		return g.WriteFiles(ctx, o.out)
	}
	total, err := publish(ctx, g, *o)
	if errors.Is(err, context.Canceled) {
		// Not a failure: the topic has just what the truth says.
		env.log.Info("stopped early", "published", total.Events)
		err = nil
	}
	return total, err
}

// publish publishes the events of g.
func publish(ctx context.Context, g *generator.Generator, o generateOptions) (total generator.Summary, err error) {
	project, _ := source.ProjectOf(o.topic) // complete has seen it
	// The client outlives ctx: what was handed to it is published.
	client, err := pubsub.NewClient(context.WithoutCancel(ctx), project)
	if err != nil {
		return total, fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	publisher := client.Publisher(o.topic)
	publisher.PublishSettings = generator.PublishSettings()
	return g.Publish(ctx, publisher, generator.PublishOptions{Rate: o.rate, Realtime: o.realtime, TruthDir: o.out})
}

// complete fills in what follows from other flags, and refuses what contradicts itself.
func (o *generateOptions) complete(given func(flag string) bool) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.out == "" && o.topic == "" {
		refuse("neither out nor topic is set: where should the events go?")
	}
	if _, ok := source.ProjectOf(o.topic); o.topic != "" && !ok {
		refuse("topic is %q; it must be projects/PROJECT/topics/TOPIC", o.topic)
	}
	if o.topic == "" && (o.realtime || o.rate != 0) {
		refuse("rate and realtime are for a topic: set topic too")
	}
	if o.rate < 0 {
		refuse("rate is %v; it must not be negative", o.rate)
	}
	for name, share := range map[string]*float64{
		"duplicate_share": &o.DuplicateShare, "broken_share": &o.BrokenShare, "late_share": &o.LateShare,
		"new_share": &o.catalog.NewShare, "change_share": &o.catalog.ChangeShare, "delete_share": &o.catalog.DeleteShare,
		"recreate_share": &o.catalog.RecreateShare, "older_share": &o.catalog.OlderShare, "odd_share": &o.catalog.OddShare,
	} {
		switch {
		case *share < 0:
			refuse("%s is %v; it must not be negative", name, *share)
		case *share == 0:
			*share = -1 // of the generator: none
		}
	}
	start, err := time.Parse(time.RFC3339, o.start)
	if err != nil {
		refuse("start is %q; it must be a time such as 2026-03-01T00:00:00Z", o.start)
	}
	o.Start = start
	if o.realtime {
		if given("start") {
			refuse("start and realtime exclude each other")
		}
		o.Start = time.Now()
		if o.rate > 0 && !given("duration") {
			o.Duration = max(time.Second, time.Duration(float64(o.Events)/o.rate*float64(time.Second)))
		}
		if !given("max_late") {
			o.MaxLate = max(time.Second, o.Duration/2)
		}
	}
	o.completeCatalog(given, refuse)
	return errors.Join(errs...)
}

// completeCatalog fills in what the catalogue has in common with the events.
func (o *generateOptions) completeCatalog(given func(flag string) bool, refuse func(format string, args ...any)) {
	c := &o.catalog
	switch {
	case c.Days < 0:
		refuse("days is %d; it must be 0 to 366", c.Days)
	case c.Days == 0:
		for _, name := range []string{"new_share", "change_share", "delete_share", "recreate_share", "older_share", "odd_share"} {
			if given(name) {
				refuse("%s is for users and items: set days too", name)
			}
		}
		return
	}
	if o.realtime {
		refuse("days and realtime exclude each other")
	}
	if o.out == "" {
		refuse("days needs out: exports are files")
	}
	if !given("duration") {
		o.Duration = time.Duration(c.Days) * 24 * time.Hour
	}
	set := o.Defaults() // users and items are those of the events
	c.Users, c.Items, c.Seed, c.Start, c.Files = set.Users, set.Items, o.Seed, o.Start, o.Files
	c.DuplicateShare, c.BrokenShare = o.DuplicateShare, o.BrokenShare
}

// clear sees to it that the folder for the events holds none. With force, it removes what an earlier run left there,
// and nothing else.
func (o *generateOptions) clear() error {
	if o.out == "" {
		return nil
	}
	there, err := os.ReadDir(o.out)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look into out: %w", err)
	case len(there) == 0:
		return nil
	case !o.force:
		return usageErrorf("out is %q, which is not empty: choose another folder, or replace what is in it with --force", o.out)
	}
	// File by file: a folder of that name may be the table of a lake, given by mistake.
	catalog := filepath.Join(o.out, generator.CatalogDir)
	patterns := []string{
		filepath.Join(o.out, generator.EventsDir, "part-*.jsonl"), filepath.Join(o.out, generator.TruthFile), filepath.Join(o.out, generator.SummaryFile),
		filepath.Join(catalog, generator.TruthFile), filepath.Join(catalog, generator.BrokenFile), filepath.Join(catalog, generator.SummaryFile),
	}
	var folders []string
	for _, table := range []string{schemas.Users.Name, schemas.Items.Name} {
		for _, mode := range []string{generator.Full, generator.Delta} {
			patterns = append(patterns, filepath.Join(catalog, table, mode, "as_of=*", "part-*.jsonl"))
			folders = append(folders, filepath.Join(catalog, table, mode, "as_of=*"), filepath.Join(catalog, table, mode))
		}
		folders = append(folders, filepath.Join(catalog, table))
	}
	for i, pattern := range append(patterns, folders...) {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("look into out: %w", err)
		}
		for _, name := range names {
			// Folders are removed if nothing else is in them.
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) && i < len(patterns) {
				return fmt.Errorf("clear out: %w", err)
			}
		}
	}
	return nil
}
