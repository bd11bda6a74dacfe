package command

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"backbone/schemas"
	"backbone/transforms/asof"
	"backbone/transforms/lake/store"
)

// showOptions are what show was asked for.
type showOptions struct {
	lake string
	id   string
	asOf string
}

func newShowCommand(env *environment) *cobra.Command {
	var options showOptions
	cmd := &cobra.Command{
		Use:     "show users|items",
		GroupID: groupLake,
		Short:   "Show a user or an item as it was at a time",
		Long: `Show reads a user or an item from the lake, as it was at a time, and prints what was known of it: a line for each column that
has a value. It exits with 1 if there was no such user or item at that time.`,
		Example: `  backbone show items --id 00096972-5f6b --lake /data/lake
  backbone show users --id u42 --as_of 2026-03-01T12:00:00Z --lake gs://shop/lake`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{schemas.Users.Name, schemas.Items.Name},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runShow(cmd.Context(), env, args[0], options)
		},
	}
	f := cmd.Flags()
	f.StringVar(&options.lake, "lake", "", "`URL` of the lake: a path, gs://... or s3://...")
	f.StringVar(&options.id, "id", "", "`ID` of the user or item")
	f.StringVar(&options.asOf, "as_of", "", "`TIME` in RFC 3339 (default now)")
	for _, name := range []string{"lake", "id"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // there is such a flag
		}
	}
	return cmd
}

func runShow(ctx context.Context, env *environment, table string, o showOptions) (err error) {
	at := time.Now()
	if o.asOf != "" {
		if at, err = time.Parse(time.RFC3339, o.asOf); err != nil {
			return usageErrorf("as_of is %q; it must be a time such as 2026-03-01T00:00:00Z", o.asOf)
		}
	}
	st, err := store.Open(ctx, o.lake)
	if err != nil {
		return &UsageError{Err: err}
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if table == schemas.Users.Name {
		return show(ctx, env, st, schemas.Users, o.id, at)
	}
	return show(ctx, env, st, schemas.Items, o.id, at)
}

func show[R any](ctx context.Context, env *environment, st *store.Store, table *schemas.Table[R], id string, at time.Time) error {
	row, err := asof.Find(ctx, st, table, id, at)
	if err != nil {
		return err
	}
	if row == nil {
		return fmt.Errorf("there was no %q in %s as of %s", id, table.Name, at.UTC().Format(time.RFC3339))
	}
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	p := printer{w: w}
	for _, c := range table.Columns {
		if text := c.Text(row); text != "" {
			p.printf("%s\t%s\n", c.Name, text)
		}
	}
	p.flush(w)
	return p.err
}
