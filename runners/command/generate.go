package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/spf13/cobra"

	"backbone/testing/generator"
)

// generateOptions are what generate was asked for.
type generateOptions struct {
	generator.Options
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

The same flags give the same bytes, but for --realtime.`,
		Example: `  backbone generate --events 1000000 --users 50000 --items 5000 --seed 1 --out /tmp/shop
  backbone generate --events 100000 --broken_share 0.05 --files 8 --out /tmp/shop --force
  PUBSUB_EMULATOR_HOST=localhost:8085 backbone generate --events 600000 --topic projects/shop/topics/events --rate 1000 --realtime
  duckdb -c "SELECT verdict, code, count(*) FROM '/tmp/shop/truth.parquet' GROUP BY ALL"`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Events, "events", options.Events, "how many events, repeated and broken ones included")
	flags.IntVar(&options.Users, "users", 0, "how many users there are (default a tenth of the events, at least 100)")
	flags.IntVar(&options.Items, "items", 0, "how many items there are (default a hundredth of the events, at least 100)")
	flags.Uint64Var(&options.Seed, "seed", 0, "which of the possible shops")
	flags.StringVar(&options.start, "start", options.Start.Format(time.RFC3339), "`TIME` of the first event, in RFC 3339; not with --realtime")
	flags.DurationVar(&options.Duration, "duration", options.Duration, "how much time the events span (with --realtime and --rate: events / rate)")
	flags.Float64Var(&options.DuplicateShare, "duplicate_share", options.DuplicateShare, "share of events that repeat an earlier one")
	flags.Float64Var(&options.BrokenShare, "broken_share", options.BrokenShare, "share of events that are broken")
	flags.Float64Var(&options.LateShare, "late_share", options.LateShare, "share of events that arrive long after they happened")
	flags.DurationVar(&options.MaxLate, "max_late", options.MaxLate, "longest that an event is under way (with --realtime: half of duration)")
	flags.IntVar(&options.Files, "files", options.Files, "over how many files the events are spread")
	flags.StringVar(&options.out, "out", "", "`DIR` for events and truth; it must be empty or absent")
	flags.BoolVar(&options.force, "force", false, "replace the events and the truth that are in DIR")
	flags.StringVar(&options.topic, "topic", "", "`TOPIC` to publish to: projects/PROJECT/topics/TOPIC")
	flags.Float64Var(&options.rate, "rate", 0, "how many events a second are published at most (default no bound)")
	flags.BoolVar(&options.realtime, "realtime", false, "let the events happen from now on, and publish each when it arrives")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runGenerate(cmd.Context(), env, options, cmd.Flags().Changed)
	}
	return cmd
}

// topicName is the full name of a topic; its group is the project.
var topicName = regexp.MustCompile(`^projects/([^/]+)/topics/[^/]+$`)

func runGenerate(ctx context.Context, env *environment, o generateOptions, given func(flag string) bool) error {
	if err := o.complete(given); err != nil {
		return &UsageError{Err: err}
	}
	var done atomic.Int64
	o.Progress = func(events int) { done.Store(int64(events)) }
	g, err := generator.New(o.Options)
	if err != nil {
		return &UsageError{Err: err}
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
		return progress{Rows: done.Load(), Total: int64(o.Events)}
	})
	defer stopProgress()

	var total generator.Summary
	if o.topic == "" {
		total, err = g.WriteFiles(ctx, o.out)
	} else {
		total, err = publish(ctx, g, o)
	}
	stopProgress()
	if o.topic != "" && errors.Is(err, context.Canceled) {
		// Not a failure: the topic has just what the truth says.
		env.log.Info("stopped early", "published", total.Events)
		err = nil
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(total, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the totals: %w", err)
	}
	_, err = fmt.Fprintf(env.stdout, "%s\n", text)
	return err
}

// publish publishes the events of g.
func publish(ctx context.Context, g *generator.Generator, o generateOptions) (total generator.Summary, err error) {
	// The client outlives ctx: what was handed to it is published.
	client, err := pubsub.NewClient(context.WithoutCancel(ctx), topicName.FindStringSubmatch(o.topic)[1])
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
	if o.topic != "" && !topicName.MatchString(o.topic) {
		refuse("topic is %q; it must be projects/PROJECT/topics/TOPIC", o.topic)
	}
	if o.topic == "" && (o.realtime || o.rate != 0) {
		refuse("rate and realtime are for a topic: set topic too")
	}
	if o.rate < 0 {
		refuse("rate is %v; it must not be negative", o.rate)
	}
	for name, share := range map[string]*float64{"duplicate_share": &o.DuplicateShare, "broken_share": &o.BrokenShare, "late_share": &o.LateShare} {
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
	return errors.Join(errs...)
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
	old, err := filepath.Glob(filepath.Join(o.out, generator.EventsDir, "part-*.jsonl"))
	if err != nil {
		return fmt.Errorf("look into out: %w", err)
	}
	for _, name := range append(old, filepath.Join(o.out, generator.TruthFile), filepath.Join(o.out, generator.SummaryFile)) {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("clear out: %w", err)
		}
	}
	return nil
}
