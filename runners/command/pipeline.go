package command

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// pipelineFlag names a pipeline where only flags can be passed.
const pipelineFlag = "pipeline"

// byFlag is the annotation of commands that launch no job by themselves, and can be named by --pipeline all the same.
const byFlag = "by_flag"

// isPipeline says whether cmd launches a Beam job.
func isPipeline(cmd *cobra.Command) bool { return cmd.GroupID == groupPipelines }

// pipelineAsCommand turns --pipeline=NAME, wherever it is among args, into the command NAME ahead of the others:
// schedulers such as Airflow and Dataflow's templates can pass flags to a launcher, but no command.
func pipelineAsCommand(root *cobra.Command, args []string) ([]string, error) {
	for i, arg := range args {
		if arg == "--" {
			return args, nil
		}
		flag, name, given := strings.Cut(arg, "=")
		if flag != "--"+pipelineFlag {
			continue
		}
		rest := args[i+1:]
		if !given {
			if len(rest) == 0 {
				return nil, usageErrorf("flag needs an argument: --%s", pipelineFlag)
			}
			name, rest = rest[0], rest[1:]
		}
		var pipelines []string
		for _, cmd := range root.Commands() {
			if isPipeline(cmd) || cmd.Annotations[byFlag] != "" {
				pipelines = append(pipelines, cmd.Name())
			}
		}
		if !slices.Contains(pipelines, name) {
			return nil, usageErrorf("--%s is %q, which is no pipeline%s; there is: %s",
				pipelineFlag, name, didYouMean("", name, pipelines), strings.Join(pipelines, ", "))
		}
		return slices.Concat([]string{name}, args[:i], rest), nil
	}
	return args, nil
}
