package command

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// notifyDrain turns SIGTERM and SIGINT into the two ways of stopping.
//
// The first signal closes drain: the command takes in nothing more, commits what it holds and ends with exit code 0.
// The second cancels hard, which is made from ctx: the command ends at once and what was not committed comes back
// from its source. A third ends the process. Calling stop gives the signals back and cancels hard; it must be
// called, and may be called more than once.
func notifyDrain(ctx context.Context) (drain <-chan struct{}, hard context.Context, stop func()) {
	hard, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	asked := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
			close(asked)
		case <-hard.Done():
			return
		}
		select {
		case <-signals:
			cancel()
		case <-hard.Done():
		}
	})
	return asked, hard, func() {
		cancel()
		watcher.Wait()
	}
}
