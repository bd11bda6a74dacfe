package command

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"

	"backbone/runners/flink"
)

// InitBeam hands the process over to Beam if args, the command line without the program's name, are those of a
// worker; else it returns, ready to launch. It must run first in main.
//
// A runner starts a worker by running this binary again with --worker, --id, --logging_endpoint and
// --control_endpoint. Those are flags of package flag, and Beam reads them in beam.Init, so they have to be
// parsed before; a launcher's flags are left to the command tree. A worker ends the process itself.
//
// A task manager of Flink starts it with --id and --provision_endpoint, to ask for the rest.
func InitBeam(args []string) {
	if flink.IsBoot(args) {
		err := flink.Boot(args)
		_, _ = fmt.Fprintln(os.Stderr, err) // the task manager's log has nothing else
		os.Exit(exitFailed)                 //nolint:forbidigo // as a worker of Beam does: there is no main to go back to
	}
	if isWorker(args) {
		tuneMemory(false, 512<<20)                   // what it has to remember is said in its job, which it does not know yet
		flink.Attend(func() { os.Exit(exitFailed) }) //nolint:forbidigo // nobody is left who could be told
		// An unknown flag ends the process with exit code 2: flag.CommandLine is made so.
		_ = flag.CommandLine.Parse(args)
	}
	// Only makes the direct runner say where a line of a worker was logged; see quietHandler. What is logged is up to
	// --log_level.
	beamlog.LogLevel = "debug"
	beam.Init()
}

// isWorker says whether args have the flag --worker ahead of any argument that is not a flag.
func isWorker(args []string) bool {
	for _, arg := range args {
		if arg == "--" || !strings.HasPrefix(arg, "-") {
			return false
		}
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name != "worker" {
			continue
		}
		on, err := strconv.ParseBool(value)
		return !given || (err == nil && on)
	}
	return false
}
