package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"backbone/transforms/lake/audit"
	"backbone/transforms/lake/store"
)

// verifyOptions are what verify was asked for.
type verifyOptions struct {
	audit.Options
	lake    string
	summary string
}

func newVerifyCommand(env *environment) *cobra.Command {
	var options verifyOptions
	cmd := &cobra.Command{
		Use:     "verify",
		GroupID: groupLake,
		Short:   "Open every file of a lake and say what is wrong",
		Long: `Verify opens every file of a lake, or of one of its tables, and looks at every row: files can be read, hold as many rows
as they say and are numbered without a gap; each row has its required columns and is in the partition of its time and the
shard of its id; no id is twice in a partition; rows are sorted; nothing was left behind by a writer that was killed.

Of users and items it also looks at their versions: the log has no gap and each version builds on the one before; the files of
the newest version, of those that were kept and of all history are those that the log says; what is deleted has no
content; and the versions of each row follow each other without a hole and without one that is there twice.

Of results of windows (sessions, trending, funnel, co_occurrence) it looks at the settled and at the live ones: the window and the
revision of a file are those of its rows, no window and no session is there twice, ranks go from 1 on, and results are made of
all files of interactions where the marks of the partitions say so. Elsewhere a stream may be at work, and what is not made
of all files is counted.

It prints what is in each table, dead letters by reason and field, and each thing that is wrong with its file. It exits with 1 if
anything is wrong. Ids that are in more than one partition are counted, but are not wrong: their event came with
different times. A version that is not finished is named, but is not wrong: a run may be at work on it.

It only reads, and may run while the lake is written to.`,
		Example: `  backbone verify --lake /tmp/lake
  backbone verify --lake gs://shop/lake --table interactions --summary verify.json
  backbone verify --lake /tmp/lake --table items
  backbone verify --lake /tmp/lake --table trending`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVerify(cmd.Context(), env, options) },
	}
	flags := cmd.Flags()
	flags.StringVar(&options.lake, "lake", "", "`URL` of the lake: a path, gs://... or s3://...")
	flags.StringVar(&options.Table, "table", "", "the only table to look at; users and items with their history, results of windows with their live ones (default all)")
	flags.StringVar(&options.summary, "summary", "", "`FILE` for the report as JSON, with up to 1,000 findings")
	if err := cmd.MarkFlagRequired("lake"); err != nil {
		panic(err) // there is such a flag
	}
	return cmd
}

func runVerify(ctx context.Context, env *environment, o verifyOptions) (err error) {
	st, err := store.Open(ctx, o.lake)
	if err != nil {
		return &UsageError{Err: err}
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	var rows atomic.Int64
	o.Progress = func(n int64) { rows.Add(n) }
	stopProgress := env.startProgress(ctx, "verify", func() progress { return progress{Rows: rows.Load()} })
	defer stopProgress()
	report, err := audit.Audit(ctx, st, o.Options)
	stopProgress()
	if err != nil {
		return err
	}
	if err := printReport(env.stdout, report); err != nil {
		return err
	}
	if o.summary != "" {
		if err := writeSummary(o.summary, report); err != nil {
			return err
		}
	}
	if report.Wrong > 0 {
		return fmt.Errorf("%s wrong in lake %q, the first is %v", things(report.Wrong), report.Lake, report.Findings[0])
	}
	return nil
}

func things(n int64) string {
	if n == 1 {
		return "1 thing is"
	}
	return humanize.Comma(n) + " things are"
}

// maxShown is how many findings, codes or fields are printed.
const maxShown = 50

// printReport writes a report for people.
func printReport(out io.Writer, r audit.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := printer{w: w}
	if len(r.Tables) > 0 {
		p.printf("table\tpartitions\tcomplete\tfiles\tsize\trows\tfrom\tto\n")
	}
	for _, t := range r.Tables {
		p.printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, humanize.Comma(t.Partitions), humanize.Comma(t.Complete), humanize.Comma(t.Files),
			humanize.Bytes(uint64(t.Bytes)), humanize.Comma(t.Rows), instant(t.First), instant(t.Last))
	}
	p.flush(w)
	if len(r.Tables) > 0 && len(r.Versioned) > 0 {
		p.printf("\n")
	}
	p.versions(w, r.Versioned)
	if len(r.Tables)+len(r.Versioned) > 0 && len(r.Windowed) > 0 {
		p.printf("\n")
	}
	p.windows(w, r.Windowed)
	for _, t := range r.Tables {
		p.counts(w, t.Name+" by reason", t.Codes)
		p.counts(w, t.Name+" by field", t.Fields)
	}
	for _, t := range r.Tables {
		if t.Repeated > 0 {
			about := ""
			if t.Estimated {
				about = "about "
			}
			p.printf("\n%s: %s%s ids are in more than one partition: their events came with different times\n", t.Name, about, humanize.Comma(t.Repeated))
		}
	}
	for _, name := range r.Skipped {
		p.printf("\n%s: not looked at: this version knows no such table\n", name)
	}
	p.printf("\n")
	if r.Wrong == 0 {
		p.printf("nothing is wrong\n")
	}
	for _, f := range r.Findings[:min(len(r.Findings), maxShown)] {
		p.printf("%v\n", f)
	}
	if more := r.Wrong - maxShown; more > 0 {
		p.printf("... and %s more: --summary lists up to 1,000\n", humanize.Comma(more))
	}
	p.flush(w)
	return p.err
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) flush(w *tabwriter.Writer) { p.err = cmp.Or(p.err, w.Flush()) }

// versions prints tables of versions, and what of them is not finished.
func (p *printer) versions(w *tabwriter.Writer, tables []audit.Versioned) {
	if len(tables) == 0 {
		return
	}
	p.printf("table\tversions\tkept\tfiles\tsize\tlive\tdeleted\tclosed\tas of\n")
	for _, t := range tables {
		p.printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, humanize.Comma(t.Versions), humanize.Comma(t.Kept), humanize.Comma(t.Files),
			humanize.Bytes(uint64(t.Bytes)), humanize.Comma(t.Live), humanize.Comma(t.Deleted), humanize.Comma(t.Closed), instant(t.AsOf))
	}
	p.flush(w)
	for _, t := range tables {
		for _, folder := range t.Unfinished {
			p.printf("\n%s: not finished: a run is at work on this version, or was killed\n", folder)
		}
	}
}

// windows prints tables of results of windows, and what of them may not be up to date.
func (p *printer) windows(w *tabwriter.Writer, tables []audit.Windowed) {
	if len(tables) == 0 {
		return
	}
	p.printf("table\twindows\tlive\tfiles\tsize\trows\tfrom\tto\n")
	for _, t := range tables {
		p.printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, humanize.Comma(t.Windows), humanize.Comma(t.Live), humanize.Comma(t.Files),
			humanize.Bytes(uint64(t.Bytes)), humanize.Comma(t.Rows), instant(t.First), instant(t.Last))
	}
	p.flush(w)
	for _, t := range tables {
		if t.Stale > 0 {
			p.printf("\n%s: %s windows are not made of all files that there are now: a run is at work, or they need backbone windows --rebuild\n", t.Name, humanize.Comma(t.Stale))
		}
		if t.LeftBehind > 0 {
			p.printf("\n%s: %s live results are of windows that are settled: they may be removed\n", t.Name, humanize.Comma(t.LeftBehind))
		}
	}
}

// counts prints names with their counts, the most frequent first.
func (p *printer) counts(w *tabwriter.Writer, title string, counts map[string]int64) {
	if len(counts) == 0 {
		return
	}
	names := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y))
	})
	p.printf("\n%s\trows\n", title)
	for _, name := range names[:min(len(names), maxShown)] {
		p.printf("%s\t%s\n", name, humanize.Comma(counts[name]))
	}
	if len(names) > maxShown {
		p.printf("... and %d more\t\n", len(names)-maxShown)
	}
	p.flush(w)
}

func instant(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}
