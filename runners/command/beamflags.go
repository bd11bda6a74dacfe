package command

import (
	"cmp"
	"flag"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backbone/runners/dataflow/template"

	// The standard runners, and with them the standard flags.
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx"
)

// shownBeamFlags are those of Beam's flags that help shows, with what they mean here. The others work too.
var shownBeamFlags = map[string]string{
	"runner":           "Beam: `RUNNER` that runs the job: direct, flink, dataflow, or another of Beam's (default direct)",
	"endpoint":         "Beam: `ADDRESS` of the job server, for runners that have one",
	"job_name":         "Beam: `NAME` of the job",
	"parallelism":      "Beam: how many parts of the job run at once on Flink (-1: the cluster's default)",
	"environment_type": "Beam: how workers are started: LOOPBACK, PROCESS, EXTERNAL or DOCKER",
	"project":          "Beam: Google Cloud `PROJECT`",
	"region":           "Beam: Google Cloud `REGION`",
	"staging_location": "Beam: gs:// `URL` where Dataflow finds the worker binary",
	"temp_location":    "Beam: gs:// `URL` for Dataflow's temporary files",
}

// notParameters are those of Beam's flags that the Dataflow runner has a use for, and why they are no parameters of a template.
var notParameters = map[string]string{
	"runner": "Dataflow gives it", "job_name": "Dataflow gives it", "experiments": ofEnvironment, "worker_binary": "it is the launcher itself",
	"worker_harness_container_image": ofEnvironment, "worker_machine_type": ofEnvironment, "zone": ofEnvironment, "no_use_public_ips": ofEnvironment,
}

// workerFlags are set by a runner for its workers, never by a person.
var workerFlags = map[string]bool{
	"worker": true, "id": true, "logging_endpoint": true, "control_endpoint": true, "semi_persist_dir": true, "options": true,
}

// addBeamFlags gives cmd the flags that Beam's packages defined in goflags, where cmd has none of that name.
func addBeamFlags(cmd *cobra.Command, goflags *flag.FlagSet) {
	goflags.VisitAll(func(f *flag.Flag) {
		if workerFlags[f.Name] || strings.HasPrefix(f.Name, "test.") || cmd.Flags().Lookup(f.Name) != nil {
			return
		}
		bridged := pflag.PFlagFromGoFlag(f)
		bridged.Value = &beamFlag{Value: bridged.Value, name: f.Name, set: goflags.Set}
		usage, shown := shownBeamFlags[f.Name]
		bridged.Hidden = !shown
		if shown {
			bridged.Usage = usage
		}
		template.Leave(bridged, cmp.Or(notParameters[f.Name], "it is Beam's, for other runners"))
		cmd.Flags().AddFlag(bridged)
	})
}

// beamFlag is one of Beam's flags. It is set through its own flag set and not directly, because a runner sends to
// its workers just the flags that package flag knows to have been set.
type beamFlag struct {
	pflag.Value
	name string
	set  func(name, value string) error
}

func (f *beamFlag) Set(value string) error { return f.set(f.name, value) }
