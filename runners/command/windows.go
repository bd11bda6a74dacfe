package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backbone/transforms/lake/store"
	"backbone/transforms/windows"
)

// windowFlags adds the flags that say what is computed of windows.
func windowFlags(f *pflag.FlagSet, o *windows.Options) {
	f.StringSliceVar(&o.Tables, "aggregate", nil, "`TABLES` to compute of windows: "+strings.Join(windows.Tables, ", "))
	f.StringSliceVar(&o.Windows, "windows", o.Windows, "windows of trending, and of funnel and co_occurrence where they do not overlap: a `SIZE`, or a SIZE/PERIOD")
	f.DurationVar(&o.SessionGap, "session_gap", o.SessionGap, "pause after which another session begins")
	f.StringVar((*string)(&o.SessionBy), "session_by", string(o.SessionBy), "whose sessions: `user` (or visitor where there is no user), or visitor")
	f.Var((*weights)(&o.Weights), "weights", "what an event counts for trending, as `TYPE=NUMBER`s; other types count 0")
	f.DurationVar(&o.HalfLife, "half_life", o.HalfLife, "age at which an event counts half for popularity")
	f.IntVar(&o.Top, "top", o.Top, "items that trending keeps of each scope")
	f.IntVar(&o.TopPairs, "top_pairs", o.TopPairs, "items that co_occurrence keeps for each item")
}

// weights is a flag of weights by event type.
type weights map[string]float64

func (w *weights) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(*w)) {
		parts = append(parts, name+"="+strconv.FormatFloat((*w)[name], 'g', -1, 64))
	}
	return strings.Join(parts, ",")
}

func (w *weights) Type() string { return "weights" }

func (w *weights) Set(text string) error {
	all := weights{}
	for part := range strings.SplitSeq(text, ",") {
		name, number, ok := strings.Cut(part, "=")
		value, err := strconv.ParseFloat(number, 64)
		if !ok || name == "" || err != nil {
			return fmt.Errorf("%q is no TYPE=NUMBER", part)
		}
		all[name] = value
	}
	*w = all
	return nil
}

// rebuildOptions are what windows was asked for.
type rebuildOptions struct {
	windows.Options
	rebuild bool
}

func newWindowsCommand(env *environment) *cobra.Command {
	o := rebuildOptions{Options: windows.Defaults()}
	cmd := &cobra.Command{
		Use:     "windows --rebuild FROM TO",
		GroupID: groupLake,
		Short:   "Compute the results of windows again",
		Long: `Windows computes sessions, trending, funnel and co_occurrence of the interactions in the lake, with the function that
backbone interactions --aggregate computes them with, and settles them: of all partitions that overlap the time from FROM to before TO, and of
all windows that these touch. Results that are there are replaced.

It is for history that was written before there were windows, for other --windows or --weights, and for a newer table of items. It may run while a
stream writes to the lake; a window that is not over is settled again when it is.`,
		Example: `  backbone windows --rebuild 2026-11-01T00:00:00Z 2026-12-01T00:00:00Z --lake /data/lake --aggregate sessions,trending`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runWindows(cmd.Context(), env, args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.rebuild, "rebuild", false, "compute them again; there is nothing else that it does")
	f.StringVar(&o.URL, "lake", "", "`URL` of the lake: a path, gs://... or s3://...")
	windowFlags(f, &o.Options)
	for _, name := range []string{"lake", "rebuild", "aggregate"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is such a flag
		}
	}
	return cmd
}

func runWindows(ctx context.Context, env *environment, first, last string, o rebuildOptions) (err error) {
	var span [2]time.Time
	for i, text := range []string{first, last} {
		if span[i], err = time.Parse(time.RFC3339, text); err != nil {
			return usageErrorf("%q is no time such as 2026-11-01T00:00:00Z", text)
		}
	}
	if !span[0].Before(span[1]) {
		return usageErrorf("FROM is %s and TO is %s; TO must be later", first, last)
	}
	if !o.rebuild {
		return usageErrorf("rebuild is false; there is nothing to do")
	}
	if err := o.Validate(); err != nil {
		return &UsageError{Err: err}
	}
	st, err := store.Open(ctx, o.URL)
	if err != nil {
		return &UsageError{Err: err}
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	began := time.Now()
	n, err := windows.Rebuild(ctx, st, o.Options, span[0], span[1], func(folder string) { env.log.Debug("computed", "partition", folder) })
	if err != nil {
		return err
	}
	env.log.Info("windows rebuilt", "partitions", n, "seconds", time.Since(began).Seconds())
	return nil
}
