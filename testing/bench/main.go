// Command bench measures "backbone interactions" against the same job in plain Go (testing/bench/plain) and in
// DuckDB's SQL (sql.py), "backbone catalog" against DuckDB's SQL (catalog.py), its join of contexts against Bytewax (join.py), and a cluster of
// Flink on this machine against the direct runner, and prints tables of ratios.
//
//	go run ./testing/bench
//	go run ./testing/bench -events 300000 -rounds 1 -only batch,stream -json bench.json
//
// Programs are measured as whole processes: wall time, processor time (user and system) and the largest resident set,
// as the operating system tells them when a process ends. They run one after the other, all programs of a comparison in
// each round, so that what else the machine does strikes all of them; figures are medians over the rounds, and a ratio is
// the median of the ratios within each round. After each run its output is compared with the truth about the input, and
// that of plain Go with the pipeline's, row by row.
//
// A stream on a cluster of Flink is also watched for long, at a steady rate: what each process takes of memory, and how large its checkpoints are.
//
//	go run ./testing/bench flinksoak -minutes 60 -rate 300
//
// Input is generated once for each size and kept in the user's cache folder (backbone/bench). What runs write is
// removed after each of them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what was asked for.
type options struct {
	events   int
	rounds   int
	messages int
	items    int
	sessions int
	flush    time.Duration
	seed     uint64
	only     []string
	json     string
	cache    string
	profiles string
}

// parts are what can be measured, in their order.
var parts = []struct {
	name    string
	measure func(*bench, context.Context) ([]*Section, error)
}{
	{"batch", one((*bench).batch)},
	{"scaling", one((*bench).scaling)},
	{"sparse", one((*bench).sparse)},
	{"stream", one((*bench).stream)},
	{"catalog", (*bench).catalog},
	{"join", (*bench).join},
	{"windows", one((*bench).windows)},
	{"flink", one((*bench).flink)},
	{"flinkstream", one((*bench).flinkStream)},
}

// one is for a part of one section.
func one(measure func(*bench, context.Context) (*Section, error)) func(*bench, context.Context) ([]*Section, error) {
	return func(b *bench, ctx context.Context) ([]*Section, error) {
		s, err := measure(b, ctx)
		return []*Section{s}, err
	}
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&o.events, "events", 2_000_000, "events of a batch; scaling takes half, once, twice and four times as many")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each program runs")
	flags.IntVar(&o.messages, "messages", 500_000, "messages that wait when a subscriber begins")
	flags.IntVar(&o.items, "items", 5_000_000, "items of a catalog")
	flags.IntVar(&o.sessions, "sessions", 1_000_000, "sessions that are open at a time when interactions are joined to their contexts")
	flags.DurationVar(&o.flush, "flush_interval", time.Second, "flush interval of subscribers")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of the generated events")
	flags.StringVar(&o.json, "json", "", "`FILE` for the figures in JSON")
	flags.StringVar(&o.cache, "cache", "", "`FOLDER` for generated events (default backbone/bench in the user's cache folder)")
	flags.StringVar(&o.profiles, "cpu_profiles", "", "`FOLDER` for CPU profiles of the Go programs; they cost a little")
	only := flags.String("only", strings.Join(names, ","), "what is measured")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.events < 1000 || o.rounds < 1 || o.messages < 1000 || o.items < 1000 || o.sessions < 1000 {
		return o, fmt.Errorf("events is %d, rounds is %d, messages is %d, items is %d, sessions is %d; want at least 1000, 1, 1000, 1000, 1000",
			o.events, o.rounds, o.messages, o.items, o.sessions)
	}
	o.only = strings.Split(*only, ",")
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("only: %q is not measured here; want some of %s", name, strings.Join(names, ","))
		}
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, err
		}
		o.cache = filepath.Join(dir, "backbone", "bench")
	}
	return o, nil
}

// bench is a measurement under way.
type bench struct {
	options
	work     string // folder of this run, removed at its end
	backbone string // path of the program
	plain    string // path of the program
	self     string // path of this program, which checks outputs in processes of its own
	log      io.Writer
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	if len(args) > 1 && args[0] == hashCommand {
		return printHashes(ctx, args[1], out)
	}
	if len(args) > 0 && args[0] == soakCommand {
		return soak(ctx, args[1:], out)
	}
	o, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	b := &bench{options: o, log: os.Stderr}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()

	report := Report{Machine: machine(), Started: time.Now().UTC().Truncate(time.Second), Revision: revision(ctx), Options: strings.Join(args, " ")}
	for _, p := range parts {
		if !slices.Contains(o.only, p.name) {
			continue
		}
		sections, err := p.measure(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		report.Sections = append(report.Sections, sections...)
		for _, section := range sections {
			if err := section.Write(out); err != nil {
				return err
			}
		}
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}

// prepare makes the folders and builds the programs.
func (b *bench) prepare(ctx context.Context) (err error) {
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(b.cache, "run-"); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.profiles != "" {
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return err
		}
	}
	b.backbone, b.plain = filepath.Join(b.work, "backbone"), filepath.Join(b.work, "plain")
	for program, pkg := range map[string]string{b.backbone: "backbone", b.plain: "backbone/testing/bench/plain"} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, pkg).CombinedOutput(); err != nil {
			return errors.Join(fmt.Errorf("build %s: %w\n%s", pkg, err, out), os.RemoveAll(b.work))
		}
	}
	return nil
}

// machine says what all this was measured on.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s %s", model, runtime.NumCPU(), runtime.GOOS, runtime.Version())
}

// revision is what is measured, as git calls it; empty where that cannot be told.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
