// Package faults breaks storage and networks on purpose, so that tests can show what is left whole.
//
// Wrap puts a plan of faults in front of a driver of the lake's store: operation 0 fails, the reply of operation 3 is lost, one in
// ten is throttled. Proxy does it one layer below, between an HTTP client and its server.
package faults

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"backbone/transforms/lake/store/driver"
)

// Op names an operation of a driver.
type Op string

// The operations that a plan is asked about.
const (
	Create  Op = "create"
	Open    Op = "open"
	ReadAt  Op = "read"
	List    Op = "list"
	ListDir Op = "list folder"
	Sync    Op = "sync"
	Remove  Op = "remove"
)

// Fault says what happens to one operation. The zero value lets it pass.
type Fault struct {
	// Delay is waited first, or until the operation's ctx ends.
	Delay time.Duration
	// Err is what the operation returns, if not nil.
	Err error
	// After performs the operation before it returns Err: the reply is lost, not the request. A list yields its first entry.
	After bool
}

// Plan says what happens to the n-th operation (from 0) of a driver. It is asked by many goroutines at once.
type Plan func(n int, op Op, key string) Fault

// ErrInjected is in every error of this package's plans. By itself it is an unknown error: the operation may or may not have happened.
var ErrInjected = errors.New("injected fault")

// The errors that a service gives under load.
var (
	ErrThrottled   = driver.Markf(driver.ErrTransient, "%w: 429 too many requests", ErrInjected)
	ErrUnavailable = driver.Markf(driver.ErrTransient, "%w: 503 service unavailable", ErrInjected)
)

// FailAt makes operation n fail with err, before it has done anything.
func FailAt(n int, err error) Plan {
	return func(i int, _ Op, _ string) Fault {
		if i != n {
			return Fault{}
		}
		return Fault{Err: err}
	}
}

// LoseReplyAt performs operation n and then returns ErrInjected.
func LoseReplyAt(n int) Plan {
	return func(i int, _ Op, _ string) Fault {
		if i != n {
			return Fault{}
		}
		return Fault{Err: ErrInjected, After: true}
	}
}

// Randomly gives each operation, with the probability p, one of faults. The same seed gives the same faults to the same operations.
func Randomly(seed uint64, p float64, faults ...Fault) Plan {
	return func(n int, _ Op, _ string) Fault {
		// A generator for each n, so that it does not matter which goroutine asks first.
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		if len(faults) == 0 || r.Float64() >= p {
			return Fault{}
		}
		return faults[r.IntN(len(faults))]
	}
}

// Driver is a driver with faults.
type Driver struct {
	driver.Driver
	plan     Plan
	n        atomic.Int64
	mu       sync.Mutex
	injected map[Op]int
}

// Wrap puts plan in front of d.
func Wrap(d driver.Driver, plan Plan) *Driver {
	return &Driver{Driver: d, plan: plan, injected: map[Op]int{}}
}

// Operations returns how many operations there were.
func (d *Driver) Operations() int { return int(d.n.Load()) }

// Injected returns how many operations of a kind were made to fail.
func (d *Driver) Injected(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.injected[op]
}

// do runs perform as the plan says.
func (d *Driver) do(ctx context.Context, op Op, key string, perform func() error) error {
	n := int(d.n.Add(1) - 1)
	fault := d.plan(n, op, key)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fault.Err == nil {
		return perform()
	}
	d.mu.Lock()
	d.injected[op]++
	d.mu.Unlock()
	err := fmt.Errorf("operation %d, %s %q: %w", n, op, key, fault.Err)
	if fault.After {
		err = &lost{error: err, really: perform()}
	}
	return err
}

// lost is the error of a lost reply. What the operation really returned is for who debugs a test, and hidden from errors.Is.
type lost struct {
	error
	really error
}

func (l *lost) Error() string { return fmt.Sprintf("%v (reply lost: %v)", l.error, l.really) }
func (l *lost) Unwrap() error { return l.error }

// Create implements driver.Driver.
func (d *Driver) Create(ctx context.Context, key string, body []byte) error {
	return d.do(ctx, Create, key, func() error { return d.Driver.Create(ctx, key, body) })
}

// Open implements driver.Driver.
func (d *Driver) Open(ctx context.Context, key string) (driver.Object, error) {
	var o driver.Object
	err := d.do(ctx, Open, key, func() (err error) {
		o, err = d.Driver.Open(ctx, key)
		return err
	})
	if err != nil {
		if o != nil {
			err = errors.Join(err, o.Close())
		}
		return nil, err
	}
	return &object{Object: o, ctx: ctx, driver: d, key: key}, nil
}

type object struct {
	driver.Object
	ctx    context.Context
	driver *Driver
	key    string
}

func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	err = o.driver.do(o.ctx, ReadAt, o.key, func() error {
		n, err = o.Object.ReadAt(p, off)
		return err
	})
	return n, err
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Entry, error] {
	return d.list(ctx, List, prefix, d.Driver.List(ctx, prefix))
}

// ListDir implements driver.Driver.
func (d *Driver) ListDir(ctx context.Context, dir string) iter.Seq2[driver.Entry, error] {
	return d.list(ctx, ListDir, dir, d.Driver.ListDir(ctx, dir))
}

func (d *Driver) list(ctx context.Context, op Op, prefix string, entries iter.Seq2[driver.Entry, error]) iter.Seq2[driver.Entry, error] {
	return func(yield func(driver.Entry, error) bool) {
		passed := false
		err := d.do(ctx, op, prefix, func() error {
			passed = true
			return nil
		})
		if err != nil && !passed {
			yield(driver.Entry{}, err)
			return
		}
		for e, listErr := range entries {
			if !yield(e, listErr) || listErr != nil {
				return
			}
			if err != nil {
				break
			}
		}
		if err != nil {
			yield(driver.Entry{}, err)
		}
	}
}

// Sync implements driver.Driver.
func (d *Driver) Sync(ctx context.Context, dir string) error {
	return d.do(ctx, Sync, dir, func() error { return d.Driver.Sync(ctx, dir) })
}

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, key string) error {
	return d.do(ctx, Remove, key, func() error { return d.Driver.Remove(ctx, key) })
}
