package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backbone/runners/dataflow"
	"backbone/runners/dataflow/template"
)

func newTemplateCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "template",
		GroupID: groupJobs,
		Short:   "Make templates of Dataflow, by which others launch jobs",
		Long: `Template makes what Dataflow launches jobs of when its console, its API or Cloud Scheduler say so. A classic template is one job, prepared to
be run again as it is. A Flex Template is a pipeline with its options as parameters.`,
		Example: `  backbone template flex interactions --image europe-west1-docker.pkg.dev/my-shop/images/backbone:1 --template_location gs://my-shop-lake/interactions.json`,
		Args:    noSuchCommand,
		RunE:    env.helpOnly,
	}
	cmd.AddCommand(newTemplateClassicCommand(env), newTemplateFlexCommand(env))
	return cmd
}

// helpOnly is what a command does that only has others below it.
func (e *environment) helpOnly(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(e.stderr)
	if err := cmd.Help(); err != nil {
		return err
	}
	return usageErrorf("a command is missing")
}

func newTemplateClassicCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "classic",
		Short: "Make a classic template: one job, prepared to be run again as it is",
		Long: `Classic does all that a launch on Dataflow does, but for the last step: the request for the job is written to --template_location, and no job is
made. It is "backbone PIPELINE --runner=dataflow --template_location=...", and takes the flags of that.

All options are those of its making: which files there are, too. Only where it runs, on what, and under which name is said at a launch. What was
staged has to be kept as long as the template.`,
		Example: `  backbone template classic interactions --input 'gs://my-shop-lake/exports/*.jsonl' --lake gs://my-shop-lake/lake --project=my-shop --region=europe-west1 --staging_location=gs://my-shop-lake/staging --template_location=gs://my-shop-lake/templates/backfill`,
		Args:    noSuchCommand,
		RunE:    env.helpOnly,
	}
	cmd.AddGroup(&cobra.Group{ID: groupPipelines, Title: "Pipelines:"})
	cmd.AddCommand(classic(newCatalogCommand(env), "--items 'gs://my-shop-lake/exports/items.jsonl' --as_of 2026-11-22T00:00:00Z"),
		classic(newInteractionsCommand(env), "--input pubsub://my-shop/events"))
	return cmd
}

// classic turns the command of a pipeline into one that makes a template of it. Help shows the flags that only this needs; the others are in that of the pipeline.
func classic(cmd *cobra.Command, example string) *cobra.Command {
	name, run := cmd.Name(), cmd.RunE
	needed := []string{"project", "region", "staging_location", "template_location"}
	cmd.Short = "Make a classic template of the pipeline " + name
	cmd.Long = fmt.Sprintf(`%s makes a classic template of the pipeline. It takes all flags of "backbone %s", which are shown there; its runner is Dataflow.`,
		strings.ToUpper(name[:1])+name[1:], name)
	cmd.Example = fmt.Sprintf("  backbone template classic %s %s --lake gs://my-shop-lake/lake --project=my-shop --region=europe-west1 --staging_location=gs://my-shop-lake/staging --template_location=gs://my-shop-lake/templates/%s",
		name, example, name)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || !slices.Contains(needed, f.Name) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if at, ok := given(cmd.Flags(), "template_location"); !ok || at == "" {
			return usageErrorf("template_location is required: the gs:// URL of an object that gets the template")
		}
		if runner, ok := given(cmd.Flags(), "runner"); ok && !isDataflow(runner) {
			return usageErrorf("runner is %q; templates are of Dataflow: leave --runner out", runner)
		}
		if err := cmd.Flags().Set("runner", runnerDataflow); err != nil {
			return err
		}
		return run(cmd, args)
	}
	return cmd
}

// templatePipelines are those that there are Flex Templates of.
var templatePipelines = []string{"catalog", "interactions"}

// flexOptions are what flex was asked for.
type flexOptions struct {
	template.Template
	location    string
	dockerfile  string
	cluster     dataflowOptions
	experiments []string
}

func newTemplateFlexCommand(env *environment) *cobra.Command {
	o := flexOptions{cluster: dataflowDefaults()}
	cmd := &cobra.Command{
		Use:   "flex PIPELINE",
		Short: "Make a Flex Template: a pipeline with its options as parameters",
		Long: `Flex writes the specification of a Flex Template: the image, and the parameters of a launch, which are the flags of the pipeline. The image is built
with the file that --dockerfile writes; it has this program in it, which is both the launcher and what is staged for workers.

What a launch gives in its environment is no parameter, such as the machines of workers. What is said here of it holds where a launch says
nothing else.`,
		Example: `  backbone template flex interactions --dockerfile Dockerfile.flex --image europe-west1-docker.pkg.dev/my-shop/images/backbone:1 --template_location gs://my-shop-lake/interactions.json
  backbone template flex catalog --image europe-west1-docker.pkg.dev/my-shop/images/backbone:1 --template_location catalog.json --staging_location gs://my-shop-lake/staging --max_num_workers 8`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: templatePipelines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return makeFlexTemplate(cmd.Context(), env, args[0], o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Image, "image", "", "`IMAGE` of the launcher, where Dataflow finds it")
	f.StringVar(&o.location, "template_location", "", "gs:// `URL` or path of the specification")
	f.StringVar(&o.dockerfile, "dockerfile", "", "`FILE` for what builds the image")
	f.StringVar(&o.Name, "name", "", "`NAME` of the template (default that of the pipeline)")
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.SortFlags = false
	dataflowFlags(all, &o.cluster)
	all.VisitAll(func(flag *pflag.Flag) {
		if why, _ := template.Left(flag); why == ofEnvironment {
			f.AddFlag(flag)
		}
	})
	f.StringSliceVar(&o.experiments, "experiments", nil, "Dataflow: `EXPERIMENTS` of the service")
	return cmd
}

func makeFlexTemplate(ctx context.Context, env *environment, pipeline string, o flexOptions) error {
	var errs []error
	if !slices.Contains(templatePipelines, pipeline) {
		errs = append(errs, fmt.Errorf("%q is no pipeline%s; there is: %s", pipeline, didYouMean("", pipeline, slices.Clone(templatePipelines)), strings.Join(templatePipelines, ", ")))
	}
	if o.Image == "" {
		errs = append(errs, errors.New("image is required: the image of the launcher, such as europe-west1-docker.pkg.dev/my-shop/images/backbone:1"))
	}
	if o.location == "" {
		errs = append(errs, errors.New("template_location is required: the gs:// URL of an object, or the path of a file"))
	}
	o.Environment = o.cluster.Options
	o.Environment.Experiments, o.Environment.NoPublicIPs = o.experiments, !o.cluster.publicIPs
	if err := errors.Join(append(errs, o.Environment.ValidateEnvironment())...); err != nil {
		return &UsageError{Err: err}
	}
	of := newInteractionsCommand
	if pipeline == "catalog" {
		of = newCatalogCommand
	}
	cmd := of(env)
	cmd.Flags().SortFlags = false // they come as they are defined, what matters first
	o.Parameters = template.Parameters(pipeline, cmd.Flags())
	o.Description, o.Streaming = cmd.Short+".", pipeline == "interactions"
	if o.Name == "" {
		o.Name = "Backbone: " + pipeline
	}
	spec, err := o.Spec()
	if err != nil {
		return err
	}
	if o.dockerfile != "" {
		if err := os.WriteFile(o.dockerfile, template.Dockerfile, 0o644); err != nil {
			return fmt.Errorf("dockerfile: %w", err)
		}
	}
	if strings.HasPrefix(o.location, "gs://") {
		err = dataflow.WriteObject(ctx, o.location, spec)
	} else {
		err = os.WriteFile(o.location, spec, 0o644)
	}
	if err != nil {
		return fmt.Errorf("template_location %s cannot be written to: %w", o.location, err)
	}
	env.log.Info("the template is written", "template", o.location, "image", o.Image, "parameters", len(o.Parameters))
	return nil
}

// leaveFiles notes of flags of a pipeline which name files of the machine that launches it that they are no parameters of a template.
func leaveFiles(f *pflag.FlagSet) {
	const why = "it is a file of the launcher, which is gone after the launch"
	for _, name := range []string{"summary", "cpu_profile", "heap_profile"} {
		template.Leave(f.Lookup(name), why)
	}
	template.Leave(f.Lookup("spill_dir"), "workers of Dataflow have no folder of their own")
}
