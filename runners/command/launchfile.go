package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	launches "backbone/runners/launch"
	"backbone/runners/launch/schedulers"
	"backbone/transforms/lake/store"
)

// launchOptions are what launch was asked for.
type launchOptions struct {
	file         string
	tick         string
	from, to     string
	parallel     int
	catchUp      bool
	again, wait  bool
	dryRun       bool
	history      bool
	limit        int
	json         bool
	runner       string
	workerBinary string
}

func newLaunchCommand(env *environment) *cobra.Command {
	o := launchOptions{parallel: 1, limit: 30}
	cmd := &cobra.Command{
		Use:         "launch FILE",
		GroupID:     groupSchedules,
		Annotations: map[string]string{byFlag: "yes"},
		Short:       "Run a pipeline for a tick of its schedule, once, whoever else launches it",
		Long: `Launch runs the pipeline of a launch file for one tick of its schedule: the latest one, or --tick. A run is known by the name of the
launch and its tick. It is recorded in the lake, below _runs/, and of several that launch the same tick at once one runs it: the
others say who does, and end with 0, or wait for the end with --wait. A tick that has succeeded is not run again, but with --again. Who dies in
the middle is replaced: the next launch runs the tick as soon as the lease of the other has run out.

What fails is tried again as the file says. Wrong usage is not, since it would fail again. The first SIGTERM or SIGINT is passed on: a stream
drains, a batch stops, and nothing more is begun; the second ends all at once.

With --from and --to all ticks from the one to before the other are run, --parallel of them at a time. Ticks that are done are skipped, so the
same command goes on where it was stopped; those that have failed are said at the end. --catch_up runs the ticks that were missed since the last
success, as many as the file allows, and then the latest.

A pipeline on Flink or Dataflow is a job of its tick there. One that goes on after its launcher has died is waited for by the next launch, and
not submitted again.

Launchers that can pass flags only say --pipeline=launch --file=FILE. --runner, --worker_binary and --labels are for them: the runner has to be
that of the file. docs/scheduling.md has the form of launch files.`,
		Example: `  backbone launch nightly.yaml
  backbone launch nightly.yaml --tick 2026-11-22T03:00:00Z --again
  backbone launch nightly.yaml --from 2026-10-01 --to 2026-11-01 --parallel 4
  backbone launch nightly.yaml --dry_run
  backbone launch nightly.yaml --history
  backbone --pipeline=launch --file=/etc/backbone/nightly.yaml --wait`,
		Args: cobra.MaximumNArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "launch `FILE`, where it is no argument")
	f.StringVar(&o.tick, "tick", "", "`TIME` of the tick in RFC 3339, or a date that has one tick (default the latest)")
	f.StringVar(&o.from, "from", "", "`TIME` or date from which on all ticks are run")
	f.StringVar(&o.to, "to", "", "`TIME` or date before which all ticks are run")
	f.IntVar(&o.parallel, "parallel", o.parallel, "ticks that run at a time, with --from and --to")
	f.BoolVar(&o.catchUp, "catch_up", false, "run the ticks that were missed since the last success, too")
	f.BoolVar(&o.wait, "wait", false, "wait for who else runs the tick, and take over where they die")
	f.BoolVar(&o.again, "again", false, "run a tick that has succeeded once more")
	f.BoolVar(&o.dryRun, "dry_run", false, "print what would run, and run nothing")
	f.BoolVar(&o.history, "history", false, "print what has run, when and how it ended, and what was missed; run nothing")
	f.IntVar(&o.limit, "limit", o.limit, "ticks that --history shows, the last ones")
	f.BoolVar(&o.json, "json", false, "print --history in JSON, for programs")
	f.StringVar(&o.runner, "runner", "", "`RUNNER` of the launch file, for schedulers that always name one")
	f.StringVar(&o.workerBinary, "worker_binary", "", "Beam: `FILE` of the worker, passed on to jobs on a cluster")
	f.String("labels", "", "Beam: `LABELS` of jobs, which only Dataflow has; not used")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runLaunch(cmd.Context(), env, o, args, cmd.Flags())
	}
	return cmd
}

// mostTicks is how many ticks one command runs.
const mostTicks = 10_000

func (o *launchOptions) validate(args []string, flags *pflag.FlagSet) error {
	var errs []error
	switch {
	case len(args) == 1 && o.file != "":
		errs = append(errs, fmt.Errorf("file is %q, and the argument %q: give one of them", o.file, args[0]))
	case len(args) == 1:
		o.file = args[0]
	case o.file == "":
		errs = append(errs, errors.New("a launch file is missing"))
	}
	ranged := o.from != "" || o.to != ""
	switch {
	case ranged && (o.from == "" || o.to == ""):
		errs = append(errs, errors.New("from and to come together: --from 2026-10-01 --to 2026-11-01"))
	case ranged && (o.tick != "" || o.catchUp):
		errs = append(errs, errors.New("from and to say which ticks run: leave --tick and --catch_up out"))
	case !ranged && flags.Changed("parallel"):
		errs = append(errs, errors.New("parallel is for --from and --to: without them, ticks run in their order"))
	}
	if o.parallel < 1 || o.parallel > 100 {
		errs = append(errs, fmt.Errorf("parallel is %d; it must be from 1 to 100", o.parallel))
	}
	if o.limit < 1 || o.limit > mostTicks {
		errs = append(errs, fmt.Errorf("limit is %d; it must be from 1 to %d", o.limit, mostTicks))
	}
	return errors.Join(errs...)
}

// loadLaunch reads a launch file, and looks whether the pipeline has such options.
func loadLaunch(path string) (*launches.File, error) {
	f, err := launches.Load(path, checkOption)
	if err != nil {
		return nil, &UsageError{Err: err}
	}
	return f, nil
}

// checkOption says what is wrong with an option of a launch file: a flag of the pipeline, given once or as a list.
func checkOption(pipeline string, o launches.Option) error {
	cmd, _, err := Tree().Find([]string{pipeline})
	if err != nil {
		return err
	}
	f := cmd.LocalNonPersistentFlags().Lookup(o.Name)
	if f == nil || f.Name == "help" {
		var all []string
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
		return fmt.Errorf("backbone %s has no such flag%s", pipeline, didYouMean("", o.Name, all))
	}
	if o.List {
		several, ok := f.Value.(pflag.SliceValue)
		if !ok {
			return fmt.Errorf("it takes one value, not a list of %d", len(o.Values))
		}
		return several.Replace(o.Values)
	}
	if _, ofTheProcess := f.Value.(*beamFlag); ofTheProcess {
		return nil // to set it to see what it takes would change this process
	}
	if err := f.Value.Set(o.Values[0]); err != nil {
		return fmt.Errorf("%q is no value of it: %w", o.Values[0], err)
	}
	return nil
}

// launcher returns what runs the ticks of a file. Close its store.
func (e *environment) launcher(ctx context.Context, f *launches.File, workerBinary string, stop <-chan struct{}) (*launches.Launcher, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, f.Lake())
	if err != nil {
		return nil, usageErrorf("%s: options.lake: %w", f.Path, err)
	}
	common := []string{"--log_format=" + e.logFormat, "--log_level=" + e.logLevel}
	if e.config != "" {
		common = append(common, "--config="+e.config)
	}
	return &launches.Launcher{
		File: f, Store: st, Output: e.stderr, Log: e.log, Stop: stop,
		Program: func(args []string) *exec.Cmd {
			all := slices.Concat([]string{"backbone"}, common, args[:1])
			if workerBinary != "" && f.Clustered() && !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--worker_binary=") }) {
				all = append(all, "--worker_binary="+workerBinary)
			}
			return &exec.Cmd{Path: self, Args: append(all, args[1:]...), Env: e.environ()}
		},
	}, nil
}

func runLaunch(ctx context.Context, env *environment, o launchOptions, args []string, flags *pflag.FlagSet) (err error) {
	if err := o.validate(args, flags); err != nil {
		return &UsageError{Err: err}
	}
	f, err := loadLaunch(o.file)
	if err != nil {
		return err
	}
	if want := cmp.Or(f.Runner, launches.RunnerDirect); o.runner != "" && o.runner != want {
		return usageErrorf("runner is %q, but %s is for %s: change the file", o.runner, f.Path, want)
	}
	drain, hard, stop := notifyDrain(ctx)
	defer stop()
	l, err := env.launcher(hard, f, o.workerBinary, drain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Store.Close()) }()
	now := time.Now()
	if o.history {
		return printHistory(hard, env.stdout, l, now, o.limit, o.json)
	}
	ticks, err := o.ticks(hard, env, l, now)
	if err != nil {
		return err
	}
	if o.dryRun {
		return printTicks(hard, env.stdout, l, ticks)
	}
	how := launches.Options{Wait: o.wait, Again: o.again}
	if o.from != "" || len(ticks) > 1 {
		return env.several(l, l.RunAll(hard, ticks, o.parallel, how))
	}
	if len(ticks) == 0 {
		env.log.Info("there is nothing to do: no tick has come since the last success", "launch", f.Name)
		return nil
	}
	r, err := l.Run(hard, ticks[0], how)
	var macro *launches.MacroError
	switch {
	case errors.As(err, &macro):
		return &UsageError{Err: err}
	case err != nil:
		return err
	}
	return env.tell(l, r)
}

// ticks returns those that are asked for.
func (o *launchOptions) ticks(ctx context.Context, env *environment, l *launches.Launcher, now time.Time) ([]time.Time, error) {
	f := l.File
	if o.from != "" {
		return o.ranged(f, now)
	}
	at := now
	if o.tick != "" {
		var err error
		if at, err = parseTick(f, o.tick, now); err != nil {
			return nil, &UsageError{Err: err}
		}
		if !o.catchUp {
			return []time.Time{at}, nil
		}
	}
	switch {
	case f.Schedule == nil:
		return nil, usageErrorf("%s has no schedule: name the tick with --tick TIME", f.Path)
	case o.catchUp && f.CatchUp == 0:
		return nil, usageErrorf("%s does not say how many ticks may be caught up: add catch_up: 7, say", f.Path)
	case o.catchUp:
		ticks, more, err := l.Due(ctx, at)
		if more > 0 {
			env.log.Warn("ticks stay missed: there are more than catch_up says; launch them with --from and --to", "launch", f.Name, "number", more, "until", ticks[0])
		}
		return ticks, err
	}
	latest := f.Schedule.Latest(now)
	if latest.IsZero() {
		return nil, usageErrorf("%s: %q had no tick until now", f.Path, f.Schedule.Expression())
	}
	return []time.Time{latest}, nil
}

func (o *launchOptions) ranged(f *launches.File, now time.Time) ([]time.Time, error) {
	if f.Schedule == nil {
		return nil, usageErrorf("%s has no schedule: name one tick with --tick TIME", f.Path)
	}
	if o.parallel > 1 && f.Ordered() {
		return nil, usageErrorf("parallel is %d, but versions of a catalog are made one after the other: leave it out", o.parallel)
	}
	var span [2]time.Time
	for i, text := range []string{o.from, o.to} {
		t, _, err := parseTime(f, text)
		if err != nil {
			return nil, &UsageError{Err: err}
		}
		span[i] = t
	}
	switch {
	case !span[0].Before(span[1]):
		return nil, usageErrorf("from is %s and to is %s; to must be later", o.from, o.to)
	case span[1].After(now):
		span[1] = now.Add(time.Nanosecond) // what has not come yet is not run
	}
	ticks, more := f.Schedule.Between(span[0].Add(-time.Nanosecond), span[1].Add(-time.Nanosecond), mostTicks)
	switch {
	case more > 0:
		return nil, usageErrorf("there are %d ticks from %s to %s; at most %d are run at a time", len(ticks)+more, o.from, o.to, mostTicks)
	case len(ticks) == 0:
		return nil, usageErrorf("there is no tick from %s to %s, and before now", o.from, o.to)
	}
	return ticks, nil
}

// parseTime reads a time, or a date, which is midnight in the time zone of the launch.
func parseTime(f *launches.File, text string) (t time.Time, isDate bool, err error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), false, nil
	}
	t, err = time.ParseInLocation(time.DateOnly, text, f.Location())
	if err != nil {
		return t, false, fmt.Errorf("%q is no time such as 2026-11-22T03:00:00Z, and no date such as 2026-11-22", text)
	}
	return t.UTC(), true, nil
}

// aheadOfUs is by how much the clock of a scheduler may be ahead of ours.
const aheadOfUs = 5 * time.Minute

// parseTick reads a tick of the schedule: a time, or a date that has one.
func parseTick(f *launches.File, text string, now time.Time) (time.Time, error) {
	t, isDate, err := parseTime(f, text)
	if err != nil {
		return t, err
	}
	switch s := f.Schedule; {
	case s == nil && t.Nanosecond() != 0:
		return t, fmt.Errorf("tick is %s; it must be in whole seconds", text)
	case s == nil:
	case isDate:
		day, _ := s.Between(t.Add(-time.Nanosecond), t.In(f.Location()).AddDate(0, 0, 1).Add(-time.Nanosecond), 2)
		if len(day) != 1 {
			return t, fmt.Errorf("tick is %s, a day on which %q in %s does not have just one tick: give the time, too", text, s.Expression(), s.Zone())
		}
		t = day[0]
	case !s.IsTick(t):
		return t, fmt.Errorf("tick is %s, which is none of %q in %s; the one before is %s, the next is %s", text, s.Expression(), s.Zone(),
			s.Latest(t).Format(time.RFC3339), s.Next(t).Format(time.RFC3339))
	}
	if t.After(now.Add(aheadOfUs)) {
		return t, fmt.Errorf("tick is %s, which has not come yet", text)
	}
	return t, nil
}

// tell says what became of a tick, and returns an error where it is not done.
func (e *environment) tell(l *launches.Launcher, r launches.Report) error {
	at := []any{"launch", l.File.Name, "tick", r.Tick.Format(time.RFC3339)}
	switch {
	case r.Outcome == launches.Running:
		e.log.Info("somebody else runs this tick; --wait waits for them, and takes over where they have died", append(at, "owner", r.Owner.String())...)
		return nil
	case r.Outcome == launches.Succeeded && r.Already:
		e.log.Info("this tick has been run; --again runs it once more", append(at, "owner", r.Owner.String())...)
		return nil
	case r.Outcome == launches.Succeeded:
		return nil
	}
	err := fmt.Errorf("%s at %s: %s: %s", l.File.Name, r.Tick.Format(time.RFC3339), strings.ReplaceAll(string(r.Outcome), "_", " "), r.Error)
	if r.Outcome == launches.Refused {
		return &UsageError{Err: err}
	}
	return err
}

// several says what became of ticks. The error names those that are not done; it is wrong usage where all of them were.
func (e *environment) several(l *launches.Launcher, reports []launches.Report) error {
	done, skipped, left, refused := 0, 0, 0, 0
	var failed []string
	for _, r := range reports {
		switch {
		case r.Outcome == launches.Succeeded && r.Already:
			skipped++
		case r.Outcome == launches.Running: // it is not known how that ends
			left++
			e.log.Warn("somebody else runs this tick, it is left to them; --wait waits for them, and takes over where they have died",
				"launch", l.File.Name, "tick", r.Tick.Format(time.RFC3339), "owner", r.Owner.String())
		case r.Done():
			done++
		default:
			why := strings.ReplaceAll(string(r.Outcome), "_", " ")
			if r.Error != "" {
				why += " (" + r.Error + ")"
			}
			failed = append(failed, r.Tick.Format(time.RFC3339)+" "+why)
		}
		if r.Outcome == launches.Refused {
			refused++
		}
	}
	e.log.Info("ticks are launched", "launch", l.File.Name, "done", done, "skipped", skipped, "left_to_others", left, "failed", len(failed))
	if len(failed) == 0 {
		return nil
	}
	const most = 20
	if more := len(failed) - most; more > 0 {
		failed = append(failed[:most], fmt.Sprintf("and %d more", more))
	}
	err := fmt.Errorf("%s: of %d ticks, %d are not done: %s", l.File.Name, len(reports), len(reports)-done-skipped-left, strings.Join(failed, "; "))
	if refused == len(reports)-done-skipped-left {
		return &UsageError{Err: err}
	}
	return err
}

// printTicks prints the command line of each tick.
func printTicks(ctx context.Context, w io.Writer, l *launches.Launcher, ticks []time.Time) error {
	for _, tick := range ticks {
		args, err := l.Args(ctx, tick)
		if err != nil {
			return &UsageError{Err: err}
		}
		words := []string{"backbone"}
		for _, arg := range args {
			words = append(words, schedulers.Quote(arg))
		}
		if _, err := fmt.Fprintf(w, "# %s at %s\n%s\n", l.File.Name, tick.Format(time.RFC3339), strings.Join(words, " ")); err != nil {
			return err
		}
	}
	return nil
}

// printHistory prints what became of the last ticks.
func printHistory(ctx context.Context, w io.Writer, l *launches.Launcher, now time.Time, limit int, asJSON bool) error {
	runs, err := l.Record().History(ctx, l.File.Schedule, now, limit)
	if err != nil {
		return err
	}
	if asJSON {
		if runs == nil {
			runs = []launches.Run{}
		}
		return printJSON(w, runs)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "tick\tstate\tattempts\tstarted\tended\twho\terror") // Flush says what went wrong
	for _, r := range runs {
		started, ended, who, why := "-", "-", "-", ""
		if len(r.Attempts) > 0 {
			started = r.Attempts[0].Started.Format(time.RFC3339)
		}
		if r.Owner != nil {
			who = r.Owner.String()
		}
		if r.Result != nil && r.State == string(r.Result.Outcome) {
			ended, why = r.Result.Ended.Format(time.RFC3339), r.Result.Error
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Tick.Format(time.RFC3339), r.State, len(r.Attempts), started, ended, legible(who), legible(why))
	}
	return t.Flush()
}
