package command

import (
	"flag"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

// InitBeam hands the process over to Beam if args, the command line without the program's name, are those of a
// worker; else it returns, ready to launch. It must run first in main.
//
// A runner starts a worker by running this binary again with --worker, --id, --logging_endpoint and
// --control_endpoint. Those are flags of package flag, and Beam reads them in beam.Init, so they have to be
// parsed before; a launcher's flags are left to the command tree. A worker ends the process itself.
func InitBeam(args []string) {
	if isWorker(args) {
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
