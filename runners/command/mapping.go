package command

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
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
		Long:    `List prints the name of each preset, the table that it fills, the format of its files, and what it is for.`,
		Example: `  backbone mapping list`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
			for _, name := range mappings.Presets() {
				m, err := mappings.Load(name)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, m.Table, m.Format, m.Doc); err != nil {
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
		Long: `Check reads sample files by a mapping, as a pipeline would (but for the database of IP addresses), and writes nothing. The
mapping says whether they become events, users or items. It prints for each field of the sample an example, the column
that it fills and the value there; what is kept in extra and what is ignored; which columns stay empty; and each record
that would become a dead letter, with its place, field, code and reason. Side files, which the mapping joins, have a report
of their own.

It ends with exit code 1 if any record is refused.`,
		Example: `  backbone mapping check movielens-ratings ratings.csv
  backbone mapping check shop.yaml 'exports/*.jsonl.gz'
  backbone mapping check movielens-movies movies.csv tags.csv
  backbone mapping check --problems 3 native events.jsonl`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completePresets,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := mappings.Load(args[0])
			if err == nil {
				err = m.Validate()
			}
			if err != nil {
				return &UsageError{Err: err}
			}
			return checkMapping(cmd.Context(), env, m, args[1:], problems)
		},
	}
	cmd.Flags().IntVar(&problems, "problems", problems, "how many refused records to print, `N`")
	return cmd
}

// completePresets completes the first argument; a file may stand there too.
func completePresets(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return mappings.Presets(), cobra.ShellCompDirectiveDefault
}

// checkMapping reports on the samples, those of each part of the mapping together.
func checkMapping(ctx context.Context, env *environment, m *mappings.Mapping, samples []string, problems int) (err error) {
	tasks, err := files.PlanParts(ctx, samples, m, files.Defaults())
	if err != nil {
		return &UsageError{Err: err}
	}
	now := time.Now().UnixMicro()
	var errs []error
	for part, tasks := range tasks {
		if len(tasks) == 0 {
			continue
		}
		s := sampleOf(m, part, tasks, samples, problems)
		if part > 0 {
			if _, err := fmt.Fprintln(env.stdout); err != nil {
				return err
			}
		}
		switch m.Table {
		case schemas.Contexts.Name:
			deriver, err := contextjoin.New(contextjoin.Options{})
			if err != nil {
				return err
			}
			rules := schemas.Rules{Now: now}
			errs = append(errs, checkSample(ctx, env, s, schemas.Contexts, (*schemas.ContextEvent).Reset, func(r *schemas.ContextEvent) *schemas.FieldError {
				deriver.ContextEvent(r)
				return r.Check(rules)
			}), deriver.Close())
		case schemas.Users.Name:
			errs = append(errs, checkSample(ctx, env, s, schemas.Users, (*schemas.User).Reset, func(r *schemas.User) *schemas.FieldError {
				r.Clean()
				defer r.Arrange()
				return r.Check(schemas.CatalogRules{AsOf: now})
			}))
		case schemas.Items.Name:
			rules := schemas.CatalogRules{AsOf: now, Dimensions: m.Dimensions()}
			errs = append(errs, checkSample(ctx, env, s, schemas.Items, (*schemas.Item).Reset, func(r *schemas.Item) *schemas.FieldError {
				r.Clean()
				defer r.Arrange()
				return r.Check(rules)
			}))
		default:
			deriver, err := contextjoin.New(contextjoin.Options{})
			if err != nil {
				return err
			}
			rules := schemas.Rules{Now: now, Types: m.EventTypes}
			errs = append(errs, checkSample(ctx, env, s, schemas.Interactions, (*schemas.Interaction).Reset, func(r *schemas.Interaction) *schemas.FieldError {
				deriver.Interaction(r)
				return r.Check(rules)
			}), deriver.Close())
		}
	}
	return errors.Join(errs...)
}

// sample is what one part of a mapping reads.
type sample struct {
	mapping  *mappings.Mapping
	title    string
	tasks    []files.Task
	names    string
	problems int
}

func sampleOf(m *mappings.Mapping, part int, tasks []files.Task, samples []string, problems int) sample {
	s := sample{mapping: m, title: m.Name, tasks: tasks, names: strings.Join(samples, ", "), problems: problems}
	if len(m.Join) == 0 {
		return s
	}
	names := make([]string, 0, len(tasks))
	for _, t := range tasks {
		names = append(names, path.Base(filepath.ToSlash(t.URL)))
	}
	names = slices.Compact(names) // a large file is several tasks
	s.names = strings.Join(names, ", ")
	s.mapping, _ = m.For(tasks[0].URL)
	if part > 0 {
		s.title = fmt.Sprintf("%s, join %q", m.Name, m.Join[part-1].Files)
	}
	return s
}

// checkSample reports on one sample. judge makes of a decoded row what a pipeline would, and says what is wrong with it.
func checkSample[R any](ctx context.Context, env *environment, s sample, table *schemas.Table[R], reset func(*R), judge func(*R) *schemas.FieldError) (err error) {
	decoder, err := decode.New(s.mapping, table, reset)
	if err != nil {
		return &UsageError{Err: err}
	}
	check := newMappingReport(s.mapping, table, s.title, s.problems)
	reader := files.NewReader(files.For(s.mapping))
	defer func() { err = errors.Join(err, reader.Close()) }()
	for _, task := range s.tasks {
		err := reader.Each(ctx, task, func(rec *source.Record) error {
			check.record(rec)
			decoder.Decode(rec, func(row *R, fault *schemas.FieldError) {
				if fault == nil {
					fault = judge(row)
				}
				check.event(rec, row, fault)
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := check.print(env.stdout, s.names); err != nil {
		return err
	}
	if check.refused > 0 {
		return fmt.Errorf("%d of %s would become dead letters", check.refused, count(check.events, check.noun))
	}
	if check.events == 0 {
		return fmt.Errorf("the sample has no %ss", check.noun)
	}
	return nil
}
