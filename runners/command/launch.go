package command

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
)

// launch is one run of a pipeline by its command.
type launch struct {
	command    string
	streaming  bool   // the first signal drains it; otherwise, it ends it
	remembered int64  // bytes that it needs besides those of rows
	remote     bool   // rows are counted in other processes, so nobody here sees how far it is
	cpuProfile string // file; empty: none
	summary    string // file; empty: none
	stopped    string // what a person is told whose signal has ended it
	refused    error  // nothing was started where an error Is this one: it is for who has typed the command
	run        func(ctx context.Context, drain <-chan struct{}, w watcher) (summary, error)
}

// watcher shows how far a run is, until stop is called; nil: nobody looks.
type watcher func(state func() progress) (stop func())

// launch does around a run what all pipelines need: signals, memory, profiles, progress and the summary.
func (e *environment) launch(ctx context.Context, l launch) error {
	drain, hard, stop := notifyDrain(ctx)
	defer stop()
	if !l.streaming {
		go func() {
			select {
			case <-drain:
				stop() // a bounded run begins again from its files
			case <-hard.Done():
			}
		}()
	}
	tuneMemory(l.streaming, l.remembered)
	stopProfile, err := startProfile(l.cpuProfile)
	if err != nil {
		return err
	}
	var watch watcher
	if !l.remote {
		watch = func(state func() progress) (stop func()) { return e.startProgress(hard, l.command, state) }
	}
	s, err := l.run(hard, drain, watch)
	if err != nil && hard.Err() != nil {
		err = errors.New(l.stopped)
	}
	err = errors.Join(err, stopProfile())
	if errors.Is(err, l.refused) {
		return &UsageError{Err: err}
	}
	return e.finish(l.summary, s, err)
}

// tuneMemory trades memory for time where a run ends, and time for memory where it goes on: the collector runs when the heap
// has grown by more than Go's default, or by less, and harder when it nears what a run should stay below. GOGC and
// GOMEMLIMIT win over it.
// What is remembered besides rows is on top of that, in bytes.
func tuneMemory(streaming bool, remembered int64) {
	if os.Getenv("GOGC") == "" {
		percent := 200
		if streaming {
			percent = 50
		}
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(512<<20 + remembered)
	}
}
