// Package command is the command tree of backbone: one file a subcommand, its help beside its flags.
//
// # Adding a command
//
// Write a file named after the command with its constructor, and add the constructor to the list in newRoot:
//
//	func newXCommand(env *environment) *cobra.Command {
//		options := x.Defaults()
//		cmd := &cobra.Command{
//			Use:     "x",
//			GroupID: groupPipelines,
//			Short:   "One line, for the list of commands",
//			Long:    "X does ...: a paragraph or two.",
//			Example: "  backbone x --lake /tmp/lake",
//			Args:    cobra.NoArgs,
//			RunE:    func(cmd *cobra.Command, _ []string) error { return runX(cmd.Context(), env, options) },
//		}
//		cmd.Flags().StringVar(&options.Lake, "lake", options.Lake, "`URL` of the lake")
//		return cmd
//	}
//
// The rest comes by itself:
//
//   - Flags are snake_case. Each can also be given in the configuration file and as BACKBONE_<FLAG>; a flag wins over
//     the environment, which wins over the file. By the time RunE runs, all of it is in the variables of the flags.
//     Mark a flag required with MarkFlagRequired: the file and the environment count. A command must not have a
//     PersistentPreRun of its own.
//   - A command of groupPipelines launches a job: it gets Beam's own flags, and --pipeline=x equals x.
//   - Write results to env.stdout, and all else to env.log, which is on stderr, or show it with env.startProgress.
//     Do not print errors, return them. An error from before RunE, and a UsageError (usageErrorf) from within, is
//     wrong usage and ends with exit code 2; any other error ends with 1. Options that do not pass Validate are
//     wrong usage: return &UsageError{Err: err}.
//   - A command that runs until it is stopped calls notifyDrain: the first SIGTERM or SIGINT asks it to finish what it
//     holds, the second cancels its context.
//   - A run that counts rows ends with env.finish (summary.go), which writes --summary and refuses counts that do not balance.
package command

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

//go:generate go run ./internal/docgen

// The groups of commands in help. Commands of groupPipelines launch a Beam job.
const (
	groupPipelines = "pipelines"
	groupSchedules = "schedules"
	groupJobs      = "jobs"
	groupLake      = "lake"
	groupLocal     = "local"
)

var groups = []cobra.Group{
	{ID: groupPipelines, Title: "Pipelines:"},
	{ID: groupSchedules, Title: "By schedule:"},
	{ID: groupJobs, Title: "Jobs on a cluster:"},
	{ID: groupLake, Title: "The lake:"},
	{ID: groupLocal, Title: "On this machine:"},
}

// environment is what all commands share: where they print and how they log.
type environment struct {
	stdin   io.Reader
	stdout  io.Writer       // results
	stderr  *screen         // logs, progress, errors
	environ func() []string // as os.Environ
	log     *slog.Logger    // ready when a command's RunE runs

	config    string
	logFormat string
	logLevel  string
	running   bool // a command's RunE was reached: from here on, an error is no wrong usage by itself
}

// Main runs the command line of the process and returns its exit code: 0 if all was done, 1 if the data or the job
// failed, 2 if the command was called wrongly. InitBeam must have run before.
func Main() int {
	env := &environment{stdin: os.Stdin, stdout: os.Stdout, stderr: newScreen(os.Stderr), environ: os.Environ}
	return execute(context.Background(), env, newRoot(env), os.Args[1:])
}

// Tree is the command tree, to be looked at and not to be run: for documentation, and for tests of what is promised of
// every command.
func Tree() *cobra.Command {
	return newRoot(&environment{stdin: strings.NewReader(""), stdout: io.Discard, stderr: newScreen(io.Discard), environ: os.Environ})
}

// run runs root with args, prints the error there may be, and returns the exit code.
func execute(ctx context.Context, env *environment, root *cobra.Command, args []string) int {
	env.log = slog.New(slog.NewTextHandler(env.stderr, nil))
	cmd := root
	args, err := pipelineAsCommand(root, args)
	if err == nil {
		root.SetArgs(args)
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return exitDone
	}
	var usage *UsageError
	if !env.running && !errors.As(err, &usage) {
		err = &UsageError{Err: err}
	}
	env.log.Debug("the error in full", "error", err)
	env.printError(cmd, err)
	return exitCode(err)
}

// newRoot is the tree of all commands.
func newRoot(env *environment) *cobra.Command {
	return assemble(
		env,
		// One line a command, in alphabetical order.
		newCatalogCommand(env),
		newCompletionCommand(env),
		newDemoCommand(env),
		newGenerateCommand(env),
		newInteractionsCommand(env),
		newJobsCommand(env),
		newLaunchCommand(env),
		newMappingCommand(env),
		newPubSubCommand(env),
		newScheduleCommand(env),
		newShowCommand(env),
		newTemplateCommand(env),
		newWindowsCommand(env),
		newVerifyCommand(env),
		newVersionCommand(env),
		newWorkerPoolCommand(env),
	)
}

// assemble puts subcommands below a root, and gives them what all commands have.
func assemble(env *environment, subcommands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "backbone",
		Short: "The data backbone of a recommender: events, users and items into a Parquet lake",
		Long: `Backbone takes what users do on a site, who they are and what they can be shown, and carries it into a data lake
of plain Parquet files, each event there once: from a stream or from files, through the same Apache Beam pipeline.

Settings. Every flag can also be given in a YAML file (--config FILE, one "flag: value" a line) and in the environment
(BACKBONE_LAKE for --lake). A flag wins over the environment, and the environment over the file. One file may serve
several commands: each takes the flags it has. Beam's standard flags pass through to the runner.

Schedulers that can pass flags only call "backbone --pipeline=interactions ...": the same as "backbone interactions ...".

Exit codes: 0 all done; 1 the data or the job failed; 2 wrong usage, nothing was started.`,
		Example: `  backbone generate --events 100000 --out /tmp/shop
  backbone interactions --input '/tmp/shop/interactions/*.jsonl' --lake /tmp/lake
  backbone verify --lake /tmp/lake
  backbone --config /etc/backbone.yaml --log_format json interactions --input pubsub://my-project/events
  BACKBONE_LAKE=gs://my-bucket/lake backbone verify`,
		Args:          noSuchCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := env.configure(cmd); err != nil {
				return err
			}
			var runner string
			if f := cmd.Flags().Lookup("runner"); f != nil {
				runner = f.Value.String()
			}
			logger, err := newLogger(env.stderr, env.logFormat, env.logLevel, runner)
			if err != nil {
				return err
			}
			env.log = logger
			useLogger(logger)
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(env.stderr)
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("a command is missing")
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(flagError)

	flags := root.PersistentFlags()
	flags.StringVar(&env.config, "config", "", "YAML `FILE` with settings, one flag: value a line")
	flags.StringVar(&env.logFormat, "log_format", "text", "how log lines are written to stderr: text or json")
	flags.StringVar(&env.logLevel, "log_level", "info", "lowest `LEVEL` that is logged: debug, info, warn or error")
	root.Flags().String(pipelineFlag, "", "`NAME` of the pipeline command to run, for launchers that pass flags only")

	root.AddCommand(subcommands...)
	root.SetHelpCommand(newHelpCommand())

	for _, group := range groups {
		inGroup := func(cmd *cobra.Command) bool { return cmd.GroupID == group.ID }
		if slices.ContainsFunc(root.Commands(), inGroup) {
			root.AddGroup(&group)
		}
	}
	for _, cmd := range commands(root) {
		if isPipeline(cmd) {
			cmd.Flags().SortFlags = false // a command's own flags first, then Beam's
			addBeamFlags(cmd, flag.CommandLine)
		}
		noteRun(env, cmd)
	}
	return root
}

// commands lists root and all commands below it.
func commands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, child := range root.Commands() {
		all = append(all, commands(child)...)
	}
	return all
}

// noteRun makes cmd note in env that it has begun.
func noteRun(env *environment, cmd *cobra.Command) {
	run := cmd.RunE
	if run == nil {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		env.running = true
		return run(cmd, args)
	}
}

// noSuchCommand refuses arguments to a command that only has subcommands.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			names = append(names, child.Name())
		}
	}
	return usageErrorf("unknown command %q%s", args[0], didYouMean("", args[0], names))
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about a command",
		Long:    `Help shows what a command does, its flags and examples: the same as COMMAND --help.`,
		Example: "  backbone help version",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return &UsageError{Err: err}
			}
			if len(rest) > 0 {
				return noSuchCommand(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
