package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/contextjoin"
	"backbone/transforms/decode"
	"backbone/transforms/files"
	"backbone/transforms/source"
)

func newMappingCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mapping",
		GroupID: groupLocal,
		Short:   "Mappings: how records of other formats become rows",
		Long: `A mapping says for each column where its value is found in a record: in one of the presets, or in a YAML file of
your own. "mapping check" shows what becomes of a sample before a pipeline runs.`,
		Example: `  backbone mapping list
  backbone mapping show otto > shop.yaml
  backbone mapping check shop.yaml events.jsonl`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(env.stderr)
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("a subcommand is missing: list, show or check")
		},
	}
	cmd.AddCommand(newMappingListCommand(env), newMappingShowCommand(env), newMappingCheckCommand(env))
	return cmd
}

func newMappingListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "The presets",
		Long:    `List prints the name of each preset, the format of its files, and what it is for.`,
		Example: `  backbone mapping list`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
			for _, name := range mappings.Presets() {
				m, err := mappings.Load(name)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Format, m.Doc); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
}

func newMappingShowCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "The YAML of a preset",
		Long:  `Show prints a preset as the YAML file that it is: a start for a mapping of your own.`,
		Example: `  backbone mapping show movielens-ratings
  backbone mapping show otto > shop.yaml`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completePresets,
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := mappings.PresetText(args[0])
			if err != nil {
				return &UsageError{Err: err}
			}
			_, err = env.stdout.Write(text)
			return err
		},
	}
}

func newMappingCheckCommand(env *environment) *cobra.Command {
	problems := 20
	cmd := &cobra.Command{
		Use:   "check NAME|FILE SAMPLE...",
		Short: "What becomes of a sample, and what is wrong with it",
		Long: `Check reads sample files by a mapping, as a pipeline would (but for the database of IP addresses), and writes nothing. It prints for each field of the sample
an example, the column that it fills and the value there; what is kept in extra and what is ignored; which columns stay
empty; and each event that would become a dead letter, with its place, field, code and reason.

It ends with exit code 1 if any event is refused.`,
		Example: `  backbone mapping check movielens-ratings ratings.csv
  backbone mapping check shop.yaml 'exports/*.jsonl.gz'
  backbone mapping check --problems 3 native events.jsonl`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completePresets,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := mappings.Load(args[0])
			if err == nil {
				err = mappings.Validate(m, schemas.Interactions)
			}
			if err != nil {
				return &UsageError{Err: err}
			}
			return checkMapping(cmd.Context(), env, m, args[1:], problems)
		},
	}
	cmd.Flags().IntVar(&problems, "problems", problems, "how many refused events to print, `N`")
	return cmd
}

// completePresets completes the first argument; a file may stand there too.
func completePresets(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return mappings.Presets(), cobra.ShellCompDirectiveDefault
}

func checkMapping(ctx context.Context, env *environment, m *mappings.Mapping, samples []string, problems int) (err error) {
	options := files.For(m)
	tasks, err := files.Plan(ctx, samples, options)
	if err != nil {
		return &UsageError{Err: err}
	}
	decoder, err := decode.New(m, schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		return &UsageError{Err: err}
	}
	deriver, err := contextjoin.New(contextjoin.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deriver.Close()) }()
	check := newMappingReport(m, problems)
	rules := schemas.Rules{Now: time.Now().UnixMicro(), Types: m.EventTypes}
	reader := files.NewReader(options)
	defer func() { err = errors.Join(err, reader.Close()) }()
	for _, task := range tasks {
		err := reader.Each(ctx, task, func(rec *source.Record) error {
			check.record(rec)
			decoder.Decode(rec, func(row *schemas.Interaction, fault *schemas.FieldError) {
				if fault == nil {
					deriver.Interaction(row)
					fault = row.Check(rules)
				}
				check.event(rec, row, fault)
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := check.print(env.stdout, strings.Join(samples, ", ")); err != nil {
		return err
	}
	if check.refused > 0 {
		return fmt.Errorf("%d of %d events would become dead letters", check.refused, check.events)
	}
	if check.events == 0 {
		return fmt.Errorf("the sample has no events")
	}
	return nil
}
