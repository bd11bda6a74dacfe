// Package schedulers writes what other schedulers take of a launch file: a crontab, a CronJob of Kubernetes, a DAG of Airflow and a job of
// Cloud Scheduler.
//
// The first three call "backbone launch" with the launch file, so that leases, retries and the record are the same whoever calls: a scheduler
// only says when, and one that calls twice, or late, does no harm. Cloud Scheduler calls Dataflow by itself, without the record.
package schedulers

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"backbone/runners/launch"
)

// Options say where things are on the machine that the scheduler runs on.
type Options struct {
	// Binary is the path of the command.
	Binary string
	// Path is that of the launch file, absolute.
	Path string
}

// Validate returns all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	for _, p := range []struct{ name, value string }{{"binary", o.Binary}, {"path", o.Path}} {
		switch {
		case !path.IsAbs(p.value):
			errs = append(errs, fmt.Errorf("%s is %q; it must be an absolute path: a scheduler begins elsewhere", p.name, p.value))
		case !utf8.ValidString(p.value) || strings.ContainsFunc(p.value, unicode.IsControl):
			errs = append(errs, fmt.Errorf("%s is %q; it must be text without control characters", p.name, p.value))
		}
	}
	return errors.Join(errs...)
}

// scheduled refuses a file that says no time.
func scheduled(f *launch.File) error {
	if f.Schedule == nil {
		return fmt.Errorf("%s: schedule: it is missing, so there is nothing to schedule", f.Path)
	}
	return nil
}

// args is the command line of a launch, without the program. It waits for others, since a scheduler that tries again may come while the lease
// of what has died still holds.
func args(f *launch.File, file string) []string {
	args := []string{"launch", file, "--wait"}
	if f.CatchUp > 0 {
		args = append(args, "--catch_up")
	}
	return args
}
