package command

import (
	"context"
	"syscall"
	"testing"
)

func TestNotifyDrain(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			drain, hard, stop := notifyDrain(t.Context())
			defer stop()

			// The first signal asks for a drain, and nothing is cut off.
			kill(t, signal)
			<-drain
			if hard.Err() != nil {
				t.Error("the first signal cancelled the context; it must only close drain")
			}

			// The second stops at once.
			kill(t, signal)
			<-hard.Done()
		})
	}
}

func TestNotifyDrainEnds(t *testing.T) {
	drain, hard, stop := notifyDrain(context.Background())
	stop()
	stop()
	<-hard.Done()
	select {
	case <-drain:
		t.Error("stop closed drain; only a signal may")
	default:
	}

	// A context that ends by itself ends hard too.
	ctx, cancel := context.WithCancel(context.Background())
	_, hard, stop = notifyDrain(ctx)
	defer stop()
	cancel()
	<-hard.Done()
}

func kill(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
		t.Fatal(err)
	}
}
