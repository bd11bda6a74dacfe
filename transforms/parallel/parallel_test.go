package parallel_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"backbone/transforms/parallel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each item comes to one worker once, and each worker ends once, after its last item.
func TestAllItemsOnce(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 7} {
		var mu sync.Mutex
		var got []int
		started, ended := 0, 0
		pool := parallel.Start(workers, func() (func(int) error, func() error) {
			var own []int // needs no lock: a worker is one goroutine
			mu.Lock()
			started++
			mu.Unlock()
			return func(i int) error {
					own = append(own, i)
					return nil
				}, func() error {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, own...)
					ended++
					return nil
				}
		})
		const items = 1000
		for i := range items {
			if err := pool.Submit(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		if err := pool.Wait(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if len(got) != items || len(slices.Compact(got)) != items {
			t.Errorf("%d workers: %d items came, want %d, each once", workers, len(got), items)
		}
		if started != ended || workers > 0 && started != workers {
			t.Errorf("%d workers: %d started and %d ended", workers, started, ended)
		}
	}
}

func TestNoItems(t *testing.T) {
	ended := atomic.Int32{}
	pool := parallel.Start(3, func() (func(int) error, func() error) {
		return nil, func() error { ended.Add(1); return nil }
	})
	if err := pool.Wait(); err != nil || ended.Load() != 3 {
		t.Errorf("error %v with %d ended, want 3", err, ended.Load())
	}
}

// After an error nothing more is worked on: whoever submits is told soon, and Wait tells it for sure.
func TestErrorStops(t *testing.T) {
	const workers = 2
	var worked, ended atomic.Int32
	pool := parallel.Start(workers, func() (func(int) error, func() error) {
		return func(i int) error {
				if i == 3 {
					return io.ErrUnexpectedEOF
				}
				worked.Add(1)
				return nil
			}, func() error {
				ended.Add(1)
				return nil
			}
	})
	submitted := 0
	var err error
	for err == nil { // endless if no error came back
		err = pool.Submit(t.Context(), submitted)
		submitted++
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Submit: %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if err := pool.Wait(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Wait: %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if n := int(worked.Load()); n >= submitted {
		t.Errorf("worked on %d of %d items, one of which fails", n, submitted)
	}
	if n := ended.Load(); n >= workers {
		t.Errorf("%d of %d workers came to their end, though one failed", n, workers)
	}
}

func TestErrorAtTheEnd(t *testing.T) {
	pool := parallel.Start(2, func() (func(int) error, func() error) {
		return func(int) error { return nil }, func() error { return io.ErrShortWrite }
	})
	if err := pool.Submit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := pool.Wait(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Wait: %v, want %v", err, io.ErrShortWrite)
	}
}

// All errors are told, not only the first.
func TestSeveralErrors(t *testing.T) {
	var both sync.WaitGroup // both workers have an item before either fails
	both.Add(2)
	pool := parallel.Start(2, func() (func(error) error, func() error) {
		return func(err error) error {
			both.Done()
			both.Wait()
			return err
		}, nil
	})
	for _, err := range []error{io.ErrClosedPipe, io.ErrNoProgress} {
		if err := pool.Submit(t.Context(), err); err != nil {
			t.Fatal(err)
		}
	}
	if err := pool.Wait(); !errors.Is(err, io.ErrClosedPipe) || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Wait: %v, want both errors", err)
	}
}

// Submit gives up when its context ends while all workers are busy.
func TestContextEnds(t *testing.T) {
	goOn := make(chan struct{})
	pool := parallel.Start(1, func() (func(int) error, func() error) {
		return func(int) error { <-goOn; return nil }, nil
	})
	cause := errors.New("the runner gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	told := make(chan error)
	go func() {
		for {
			if err := pool.Submit(ctx, 1); err != nil {
				told <- err
				return
			}
		}
	}()
	cancel(cause)
	if err := <-told; !errors.Is(err, cause) {
		t.Errorf("Submit: %v, want %v", err, cause)
	}
	close(goOn)
	if err := pool.Wait(); err != nil {
		t.Errorf("Wait: %v, since no worker failed", err)
	}
}
