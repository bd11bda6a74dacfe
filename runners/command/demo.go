package command

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"backbone/pipelines/catalog"
	"backbone/pipelines/interactions"
	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/generator"
	"backbone/testing/ledger"
	"backbone/testing/pubsubserver"
	"backbone/transforms/asof"
	"backbone/transforms/lake/audit"
	"backbone/transforms/lake/store"
	"backbone/transforms/windows"
)

// demoOptions are what demo was asked for.
type demoOptions struct {
	dir    string
	events int
	keep   bool
}

func newDemoCommand(env *environment) *cobra.Command {
	options := demoOptions{events: 200_000, keep: true}
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: groupLocal,
		Short:   "See everything at work on this machine, in about a minute",
		Long: `Demo makes a day of events in a shop that does not exist, some of them repeated, broken or hours late, and carries them
into a lake on this machine: the first half from a file, and the second half, with some of the first, from a Pub/Sub
server of its own, both at the same time. Then it reads the first half once more, drains, and compares each event with what
had to become of it. Of three days of exports it makes versions of users and items, one day as a delta, and compares them with
what each user and item was at any time. The stream computes what is trending, funnels, sessions and items that go together
while events come; then all windows of the day are settled. In the end it opens every file of the lake. Each step says what it does and what
came out.

It needs no account and no network, and ends with the place of the lake and queries to try. Its exit code is 0 if all was
as it must be. The events and the lake are in a new folder among the temporary files, or in --dir; a lake that an
earlier demo left there is made again. Ctrl-C stops it.`,
		Example: `  backbone demo
  backbone demo --dir /tmp/shop --events 1000000
  backbone demo --keep=false`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), env, options) },
	}
	flags := cmd.Flags()
	flags.StringVar(&options.dir, "dir", "", "`FOLDER` for the events and the lake: a new or an empty one, or that of an earlier demo (default a new one among the temporary files)")
	flags.IntVar(&options.events, "events", options.events, "how many events the day has")
	flags.BoolVar(&options.keep, "keep", options.keep, "leave the events and the lake there at the end")
	return cmd
}

// What a demo makes in its folder.
const (
	demoShop     = "shop"
	demoHalfShop = ".shop" // not yet all of it
	demoLake     = "lake"
	demoSpill    = ".spill"
)

const (
	demoTopic        = "projects/demo/topics/events"
	demoSubscription = "projects/demo/subscriptions/lake"
	demoFlush        = 2 * time.Second
	demoEarly        = 5 * time.Second
	demoDays         = 3 // of exports of users and items
	minDemoEvents    = 100
	maxDemoEvents    = 5_000_000
)

func runDemo(ctx context.Context, env *environment, o demoOptions) (err error) {
	if o.events < minDemoEvents || o.events > maxDemoEvents {
		return usageErrorf("events is %d; it must be %d to %d", o.events, minDemoEvents, maxDemoEvents)
	}
	asked, ctx, stop := notifyDrain(ctx)
	defer stop()
	go func() {
		select {
		case <-asked:
			stop()
		case <-ctx.Done():
		}
	}()
	d := &demo{env: env, log: env.log, events: o.events}
	if env.logLevel == "info" { // the steps say what there is to say
		if d.log, err = newLogger(env.stderr, env.logFormat, "warn", ""); err != nil {
			return err
		}
		useLogger(d.log)
		defer useLogger(env.log)
	}
	made, err := d.open(o.dir)
	if err != nil {
		return err
	}
	tuneMemory(true, windows.Memory)
	err = d.run(ctx)
	switch {
	case ctx.Err() != nil:
		err = errors.New("stopped before the end")
		if o.dir == "" || !o.keep {
			err = errors.Join(err, d.remove(made))
		}
	case !o.keep:
		err = errors.Join(err, d.remove(made))
	case err != nil:
		err = fmt.Errorf("%w; what there is of it is in %q", err, d.dir)
	default:
		d.showResult()
	}
	return errors.Join(err, d.unsaid)
}

// demo is a demonstration under way.
type demo struct {
	env    *environment
	log    *slog.Logger
	events int
	dir    string
	total  generator.Summary
	broken []bool // events that cannot become a row, in the order of arrival
	step   int
	unsaid error // the first thing that could not be printed
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// say prints for people.
func (d *demo) say(format string, args ...any) {
	if _, err := fmt.Fprintf(d.env.stdout, format+"\n", args...); err != nil && d.unsaid == nil {
		d.unsaid = err
	}
}

// begin prints the title of a step.
func (d *demo) begin(title string, args ...any) {
	d.step++
	d.say("%d. "+title, append([]any{d.step}, args...)...)
}

// open makes the folder, or takes that of an earlier demo. It tells whether it has made it.
func (d *demo) open(dir string) (made bool, err error) {
	if dir == "" {
		d.dir, err = os.MkdirTemp("", "backbone-demo-")
		return true, err
	}
	if d.dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	there, err := os.ReadDir(d.dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, os.MkdirAll(d.dir, 0o755)
	}
	if err != nil {
		return false, err
	}
	for _, entry := range there {
		if !slices.Contains([]string{demoShop, demoHalfShop, demoLake, demoSpill}, entry.Name()) {
			return false, usageErrorf("dir is %q, which has %q in it: choose a new folder, or that of an earlier demo", dir, entry.Name())
		}
	}
	summary, err := generator.ReadSummary(d.path(demoShop))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(d.path(demoLake)); err == nil { // a demo begins with the shop
			return false, usageErrorf("dir is %q, which has a lake that is not of a demo: choose a new folder", dir)
		}
		return false, nil
	case err != nil:
		return false, err
	case summary.Events != d.events:
		return false, usageErrorf("dir is %q, which has a demo of %d events: choose another folder, or --events %d", dir, summary.Events, summary.Events)
	}
	return false, nil
}

// remove removes what the demo has made.
func (d *demo) remove(folderToo bool) error {
	var errs []error
	for _, name := range []string{demoLake, demoSpill, demoHalfShop, demoShop} {
		errs = append(errs, os.RemoveAll(d.path(name)))
	}
	if folderToo {
		errs = append(errs, os.Remove(d.dir))
	}
	return errors.Join(errs...)
}

// run takes all steps.
func (d *demo) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(d.path(demoSpill))) }()
	for _, step := range []func(context.Context) error{d.makeShop, d.load, d.loadAgain, d.compare, d.catalog, d.windows, d.verify} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// makeShop makes the events and the truth about them, unless an earlier demo has.
func (d *demo) makeShop(ctx context.Context) error {
	d.begin("A day in a shop that does not exist, in %s", d.path(demoShop))
	var err error
	if d.total, err = generator.ReadSummary(d.path(demoShop)); errors.Is(err, os.ErrNotExist) {
		d.total, err = d.generate(ctx)
	} else {
		d.say("   is there from an earlier demo")
	}
	if err != nil {
		return err
	}
	err = generator.ReadTruth(d.path(demoShop), func(t *generator.Truth) error {
		d.broken = append(d.broken, t.Verdict == generator.Broken.String())
		return nil
	})
	d.say("   %s events, as real producers send them: %s come twice, %s are broken, %s are late",
		humanize.Comma(int64(d.total.Events)), comma(d.total.Repeated), comma(d.total.Broken), comma(d.total.Late))
	return err
}

// generate writes the events to two files, one for each half of the day. The folder gets its name when all is in it.
func (d *demo) generate(ctx context.Context) (generator.Summary, error) {
	if err := os.RemoveAll(d.path(demoHalfShop)); err != nil {
		return generator.Summary{}, err
	}
	g, err := generator.New(generator.Options{Events: d.events, Files: 2})
	if err != nil {
		return generator.Summary{}, err
	}
	total, err := g.WriteFiles(ctx, d.path(demoHalfShop))
	if err != nil {
		return total, err
	}
	_, err = generator.WriteCatalog(ctx, d.path(demoHalfShop), generator.CatalogOptions{Days: demoDays, Users: max(100, d.events/10), Items: max(100, d.events/100)})
	if err != nil {
		return total, err
	}
	return total, os.Rename(d.path(demoHalfShop), d.path(demoShop))
}

// half is the file with the first or the second half of the events.
func (d *demo) half(n int) string {
	return filepath.Join(d.path(demoShop), generator.EventsDir, fmt.Sprintf("part-%04d.jsonl", n))
}

// journey is a run of the pipeline into the lake.
func (d *demo) journey(input string, drain <-chan struct{}) journey {
	o := interactions.Defaults()
	o.Input, o.Lake, o.SpillDir, o.RunID, o.FlushInterval = []string{input}, d.path(demoLake), d.path(demoSpill), newRunID(), demoFlush
	return journey{Options: o, log: d.log, drain: drain}
}

// carry makes a run and refuses one whose counts do not balance.
func (d *demo) carry(ctx context.Context, j journey) (summary, error) {
	s, err := carry(ctx, j)
	if err == nil {
		err = s.balance()
	}
	return s, err
}

// load carries both halves into the lake at the same time.
func (d *demo) load(ctx context.Context) (err error) {
	if err := os.RemoveAll(d.path(demoLake)); err != nil {
		return err
	}
	server, err := pubsubserver.New(pubsubserver.Options{Logger: d.log})
	if err != nil {
		return err
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = server.Serve() }) // what is wrong with it, its clients see
	defer func() {
		err = errors.Join(err, server.Close())
		tasks.Wait()
	}()
	if err := server.Create(ctx, demoTopic, demoSubscription); err != nil {
		return err
	}
	restore, err := setEnvironment("PUBSUB_EMULATOR_HOST", server.Addr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	state := func() pubsubserver.SubscriptionStats { return server.Stats().Subscriptions[demoSubscription] }

	d.begin("Into the lake from two sides at once, with one and the same pipeline")
	// The first thing that fails ends all that goes on.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	attempt := func(group *sync.WaitGroup, f func() error) {
		group.Go(func() {
			if err := f(); err != nil {
				fail(err)
			}
		})
	}
	var streaming, feeding sync.WaitGroup
	var batch, stream summary
	var overlap, published int
	drain := make(chan struct{})
	attempt(&streaming, func() (err error) {
		j := d.journey("pubsub://demo/lake", drain)
		j.Windows.Tables, j.Windows.Early = windows.Tables, demoEarly
		stream, err = d.carry(ctx, j)
		return err
	})
	waitUntil(ctx, func() bool { return state().Streams > 0 })
	attempt(&feeding, func() (err error) {
		overlap, published, err = d.publish(ctx)
		return err
	})
	attempt(&feeding, func() (err error) {
		batch, err = d.carry(ctx, d.journey(d.half(0), nil))
		return err
	})
	feeding.Wait()
	waitUntil(ctx, func() bool { return state().Backlog == 0 })
	close(drain)
	streaming.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.say("   from a file, the first half:          %s", counts(batch))
	d.say("   from Pub/Sub, the rest and %s of the first half once more:", comma(overlap))
	d.say("                                         %s", counts(stream))
	d.say("   then drained: of %s messages, %s are acknowledged, each after its commit", comma(published), humanize.Comma(state().Acked))
	if left := state().Backlog; left > 0 || stream.Outcome != outcomeDrained {
		return fmt.Errorf("the stream ended as %s with %d messages that are not acknowledged", stream.Outcome, left)
	}
	return nil
}

// publish publishes the second half of the events, and before them the last tenth of the first half again. Of that, broken
// ones are left out: what has no id that can be read is a dead letter of each place it comes from.
func (d *demo) publish(ctx context.Context) (overlap, published int, err error) {
	client, err := pubsub.NewClient(context.WithoutCancel(ctx), "demo")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	publisher := client.Publisher(demoTopic)
	publisher.PublishSettings = generator.PublishSettings()
	var results []*pubsub.PublishResult
	n, middle := 0, d.events/2
	send := func(line []byte) {
		again := n < middle
		if !again || n >= middle-d.events/20 && !d.broken[n] {
			results = append(results, publisher.Publish(ctx, &pubsub.Message{Data: line}))
			if again {
				overlap++
			}
		}
		n++
	}
	for half := range 2 {
		if err := eachLine(ctx, d.half(half), send); err != nil {
			return 0, 0, err
		}
	}
	publisher.Stop()
	for _, result := range results {
		if _, err := result.Get(ctx); err != nil {
			return 0, 0, fmt.Errorf("publish: %w", err)
		}
	}
	return overlap, len(results), nil
}

// loadAgain carries the first half once more: nothing is added.
func (d *demo) loadAgain(ctx context.Context) error {
	d.begin("The first half once more, as after a crash or by mistake")
	s, err := d.carry(ctx, d.journey(d.half(0), nil))
	if err != nil {
		return err
	}
	d.say("   from the file:                        %s", counts(s))
	if s.Committed > 0 || s.Files > 0 {
		return fmt.Errorf("%d rows were committed that are in the lake already", s.Committed)
	}
	return nil
}

// verify opens every file of the lake.
func (d *demo) verify(ctx context.Context) (err error) {
	d.begin("Every file of the lake opened, every row looked at, as by backbone verify")
	st, err := store.Open(ctx, d.path(demoLake))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	report, err := audit.Audit(ctx, st, audit.Options{})
	if err != nil {
		return err
	}
	for _, t := range report.Versioned {
		d.say("   %-14s %s rows, %s deleted, %s closed versions in %s files, %s", t.Name+":", humanize.Comma(t.Live), humanize.Comma(t.Deleted), humanize.Comma(t.Closed), humanize.Comma(t.Files), humanize.Bytes(uint64(t.Bytes)))
	}
	for _, t := range report.Windowed {
		d.say("   %-14s %s rows of %s windows, %s", t.Name+":", humanize.Comma(t.Rows), humanize.Comma(t.Windows), humanize.Bytes(uint64(t.Bytes)))
	}
	for _, t := range report.Tables {
		d.say("   %-14s %s rows in %s files, %s partitions, %s", t.Name+":", humanize.Comma(t.Rows), humanize.Comma(t.Files), humanize.Comma(t.Partitions), humanize.Bytes(uint64(t.Bytes)))
	}
	if report.Wrong > 0 {
		return fmt.Errorf("%s wrong, the first is %v", things(report.Wrong), report.Findings[0])
	}
	for _, t := range report.Windowed {
		if open := t.Stale + t.Live + t.LeftBehind; open > 0 {
			return fmt.Errorf("%s: %d windows are not settled, or not with all events", t.Name, open)
		}
	}
	d.say("   nothing is wrong")
	return nil
}

// windows settles all windows of the day: the stream was stopped before it could.
func (d *demo) windows(ctx context.Context) (err error) {
	d.begin("What is trending, funnels, sessions, and items that go together, in all windows of the day")
	st, err := store.Open(ctx, d.path(demoLake))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	live := 0
	for _, table := range windows.Tables {
		for _, err := range st.List(ctx, schemas.LiveOf(table)+"/") {
			if err != nil {
				return err
			}
			live++
		}
	}
	d.say("   from the stream, while events came:   %s results of windows that were open", comma(live))
	o := windows.Defaults()
	o.Tables = windows.Tables
	began := time.Now()
	n, err := windows.Rebuild(ctx, st, o, d.total.FirstEvent, d.total.LastEvent.Add(time.Second), nil)
	if err != nil {
		return err
	}
	d.say("   of all that came:                     the windows of %d hours are settled, in %v", n, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// compare holds the lake against the truth.
func (d *demo) compare(ctx context.Context) error {
	d.begin("Each event compared with what had to become of it")
	report, err := ledger.Check(ctx, ledger.Options{Truth: d.path(demoShop), Lake: d.path(demoLake)})
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("the lake is not as it must be: %v", report)
	}
	d.say("   %s good events: each is a row, once", comma(report.Rows))
	d.say("   %s broken events: each is a dead letter, once, with the reason and the field", comma(report.DeadLetters))
	d.say("   %s repetitions: none is a row", comma(d.total.Repeated))
	return nil
}

// catalog makes versions of users and items: of two full exports, and of a delta.
func (d *demo) catalog(ctx context.Context) error {
	d.begin("Users and items, from the exports of %d days: a version of each table a day", demoDays)
	total, err := generator.ReadCatalogSummary(d.path(demoShop))
	if err != nil {
		return err
	}
	modes := map[time.Time]asof.Mode{}
	for day := range demoDays {
		at := total.Start.AddDate(0, 0, day+1)
		modes[at] = asof.Full
		if day == 1 {
			modes[at] = asof.Delta
		}
		s, err := d.version(ctx, modes[at], at)
		if err != nil {
			return err
		}
		d.say("   as of %s, %-5s export:      %s", at.Format(time.DateOnly), modes[at], counts(s))
	}
	report, err := ledger.CheckCatalog(ctx, ledger.CatalogOptions{
		Truth: d.path(demoShop), Lake: d.path(demoLake),
		Loaded: func(_, mode string, at time.Time) bool { return string(modes[at]) == mode },
	})
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("users and items are not as they must be: %v", report)
	}
	d.say("   %s versions of users and items: each is there once, and at %d random times each of them is what it was",
		comma(report.Versions), len(report.Times))
	return nil
}

// version makes a version of both tables of the exports of a day.
func (d *demo) version(ctx context.Context, mode asof.Mode, at time.Time) (summary, error) {
	o := catalogOptions{Options: catalog.Defaults()}
	glob := func(table string) []string {
		return []string{filepath.Join(d.path(demoShop), generator.CatalogDir, table, string(mode), asof.FolderOf(at), "*.jsonl")}
	}
	o.Users, o.Items, o.Mode, o.AsOf, o.Lake = glob(schemas.Users.Name), glob(schemas.Items.Name), mode, at, d.path(demoLake)
	o.SpillDir, o.RunID = d.path(demoSpill), newRunID()
	var err error
	if o.UsersMapping, err = mappings.NativeFor(schemas.Users.Name); err != nil {
		return summary{}, err
	}
	if o.ItemsMapping, err = mappings.NativeFor(schemas.Items.Name); err != nil {
		return summary{}, err
	}
	s, err := makeVersions(ctx, d.log, o, nil, nil)
	if err == nil {
		err = s.balance()
	}
	return s, err
}

// showResult says where everything is, and what can be done with it.
func (d *demo) showResult() {
	d.say("\nThe lake is only files, for any program that reads Parquet:")
	d.say("   %s", d.path(demoLake))
	d.say("Try:")
	for _, query := range demoQueries(d.path(demoLake)) {
		d.say("   %s", query)
	}
	d.say("   backbone verify --lake %q", d.path(demoLake))
	d.say("   backbone show items --id p000000 --lake %q", d.path(demoLake))
}

// demoQueries are command lines that look into a lake: what there is of each type, and what was trending in the last hour, by country.
func demoQueries(lake string) []string {
	root := strings.ReplaceAll(filepath.ToSlash(lake), "'", "''")
	return []string{
		fmt.Sprintf(`duckdb -c "SELECT event_type, count(*) AS events, count(DISTINCT item_id) AS items FROM '%s/interactions/**/*.parquet' GROUP BY ALL ORDER BY events DESC"`, root),
		fmt.Sprintf(`duckdb -c "SELECT scope_value AS country, rank, item_id, popularity FROM '%s/trending/*/*-1h.parquet' WHERE scope = 'country' AND rank <= 3 QUALIFY window_start = max(window_start) OVER () ORDER BY ALL"`, root),
	}
}

func comma(n int) string { return humanize.Comma(int64(n)) }

// counts is what a run has done with what it read.
func counts(s summary) string {
	return fmt.Sprintf("%s read = %s committed + %s duplicate + %s dead letters",
		humanize.Comma(s.Read), humanize.Comma(s.Committed), humanize.Comma(s.Duplicate), humanize.Comma(s.DeadLettered))
}

// eachLine calls f with each line of a file, without its end, which f may keep.
func eachLine(ctx context.Context, path string, f func(line []byte)) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for r := bufio.NewReaderSize(file, 1<<20); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		f(bytes.TrimSuffix(line, []byte("\n")))
	}
}

// setEnvironment sets a variable of this process until restore is called.
func setEnvironment(name, value string) (restore func() error, err error) {
	before, was := os.LookupEnv(name)
	restore = func() error {
		if was {
			return os.Setenv(name, before)
		}
		return os.Unsetenv(name)
	}
	return restore, os.Setenv(name, value)
}

// waitUntil returns when a condition holds, or when ctx ends.
func waitUntil(ctx context.Context, holds func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
