// Package parallel runs work inside one bundle on several cores.
//
// A runner gives a DoFn one bundle on one goroutine; the direct runner makes everything that waits one bundle. So a
// DoFn that has much to do for an element hands it to a Pool, and emits results from its own goroutine, as Beam
// demands: in ProcessElement what is ready, in FinishBundle the rest.
package parallel

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// Pool runs a function over items on several goroutines, each with a state of its own.
type Pool[T any] struct {
	items  chan T
	done   sync.WaitGroup
	mu     sync.Mutex
	errs   []error
	failed chan struct{}
}

// Start starts n workers, or one for each core if n is 0. worker is called once on each goroutine and returns the
// function that is called for each item, and one that is called after the last item, which may be nil.
func Start[T any](n int, worker func() (each func(T) error, end func() error)) *Pool[T] {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	p := &Pool[T]{items: make(chan T, n), failed: make(chan struct{})}
	for range n {
		p.done.Go(func() {
			each, end := worker()
			for item := range p.items {
				if p.hasFailed() {
					continue
				}
				if err := each(item); err != nil {
					p.fail(err)
				}
			}
			if end != nil && !p.hasFailed() {
				if err := end(); err != nil {
					p.fail(err)
				}
			}
		})
	}
	return p
}

// Submit hands an item to a worker and waits until one has room for it. It returns an error once a worker failed.
func (p *Pool[T]) Submit(ctx context.Context, item T) error {
	select {
	case p.items <- item:
		return nil
	case <-p.failed:
		return p.err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Wait lets the workers finish and returns what went wrong. Nothing may be submitted after it.
func (p *Pool[T]) Wait() error {
	close(p.items)
	p.done.Wait()
	return p.err()
}

func (p *Pool[T]) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) == 0 {
		close(p.failed)
	}
	p.errs = append(p.errs, err)
}

func (p *Pool[T]) hasFailed() bool {
	select {
	case <-p.failed:
		return true
	default:
		return false
	}
}

func (p *Pool[T]) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs...)
}
