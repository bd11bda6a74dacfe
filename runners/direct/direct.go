// Package direct runs a pipeline in this process, on Beam's prism runner: the default, for one machine.
//
// # Limits
//
// Prism keeps what waits between two stages in memory; rows wait in spill files instead (package exchange). It has no
// checkpoints: after a crash, what was not committed is read again from its source.
package direct

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism" // the runner "prism"
)

// Submit runs p to its end. Cancelling ctx ends it at once: what was not committed is read again by the next run.
func Submit(ctx context.Context, p *beam.Pipeline) error {
	_, err := beam.Run(ctx, "prism", p)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("direct runner: %w", err)
	}
	return nil
}

// SpillDir is where chunks wait if nothing else is said: a folder of this user among the temporary files.
func SpillDir() string {
	return filepath.Join(os.TempDir(), "backbone-spill-"+strconv.Itoa(os.Getuid()))
}
