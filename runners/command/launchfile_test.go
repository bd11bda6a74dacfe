package command

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	launches "backbone/runners/launch"
)

// What was left to others is neither done nor failed, since nobody knows yet.
func TestSeveral(t *testing.T) {
	tick := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	owner := launches.Owner{Host: "elsewhere", PID: 7}
	done := launches.Report{Tick: tick, Outcome: launches.Succeeded}
	before := launches.Report{Tick: tick, Outcome: launches.Succeeded, Already: true}
	running := launches.Report{Tick: tick, Outcome: launches.Running, Owner: owner}
	failed := launches.Report{Tick: tick, Outcome: launches.Failed, Error: "no space"}
	refused := launches.Report{Tick: tick, Outcome: launches.Refused}
	for _, test := range []struct {
		name    string
		reports []launches.Report
		log     string
		want    string // the error; empty: none
		usage   bool
	}{
		{"Done", []launches.Report{done, before}, "done=1 skipped=1 left_to_others=0 failed=0", "", false},
		{"Left", []launches.Report{done, running, running}, "done=1 skipped=0 left_to_others=2 failed=0", "", false},
		{"Failed", []launches.Report{done, running, failed}, "done=1 skipped=0 left_to_others=1 failed=1", "of 3 ticks, 1 are not done: 2026-11-22T03:00:00Z failed (no space)", false},
		{"Refused", []launches.Report{running, refused, refused}, "done=0 skipped=0 left_to_others=1 failed=2", "of 3 ticks, 2 are not done", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			env := &environment{log: slog.New(slog.NewTextHandler(&log, nil))}
			err := env.several(&launches.Launcher{File: &launches.File{Name: "daily"}}, test.reports)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if usage := new(UsageError); errors.As(err, &usage) != test.usage {
				t.Errorf("error %v, want wrong usage: %v", err, test.usage)
			}
			if !strings.Contains(log.String(), test.log) || strings.Count(log.String(), "takes over where they have died") != strings.Count(log.String(), "owner=") {
				t.Errorf("it has logged %s\nwant %s", &log, test.log)
			}
		})
	}
}
