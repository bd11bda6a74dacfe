// Package store is where the lake keeps its files: a folder of a local disk, or a prefix of a GCS or S3 bucket.
//
// It knows one way to write: Commit makes an object of a new name, whole, only if nobody has that name, and says
// whether the object that has the name now is the caller's. Nothing is ever overwritten or appended to.
//
// # Guarantees
//
//   - Of any number of writers of one key, in any number of processes, exactly one is told Created; all others are told Taken.
//   - Created is said only when the object is durable and was read back. A reply that was lost, a refusal of the writer's own
//     object, a timeout, an error 409, 412, 429 or 503 are settled by reading back: they end as Created or Taken, not as a guess.
//   - A reader sees whole objects only, at every moment, also after a kill at any point.
//   - A key cannot leave the store, whatever data it was made of.
//
// # Limits
//
//   - Commit compares bytes: two writers that commit the same bytes to one key are both told Created. Where that matters, the
//     bytes carry the id of their writer.
//   - An object is one []byte, on S3 of at most 5 GiB.
//   - An error (neither Created nor Taken) leaves open whether the object exists: commit the same bytes again, to the same key.
//
// # Metrics
//
// See Metrics.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"backbone/transforms/lake/store/driver"
)

// The types of package driver that callers need.
type (
	// Driver is what a backend implements.
	Driver = driver.Driver
	// Object is an open object: ReadAt, Size, Close.
	Object = driver.Object
	// Entry is one line of a list.
	Entry = driver.Entry
)

// The errors of package driver; each says there what its caller does with it.
var (
	ErrExists    = driver.ErrExists
	ErrNotFound  = driver.ErrNotFound
	ErrTransient = driver.ErrTransient
	ErrPermanent = driver.ErrPermanent
)

// CheckKey says what is wrong with a key; see driver.CheckKey.
func CheckKey(key string) error { return driver.CheckKey(key) }

// Outcome says whose object has the name after a commit.
type Outcome int

const (
	// Unknown comes with an error: the object may or may not exist.
	Unknown Outcome = iota
	// Created: the object is the caller's, durable, and was read back.
	Created
	// Taken: the object is somebody else's, and durable. The caller reads it, and takes another name.
	Taken
)

func (o Outcome) String() string {
	switch o {
	case Created:
		return "created"
	case Taken:
		return "taken"
	default:
		return "unknown"
	}
}

// Metrics counts what a Store has done. All counters only grow, and may be read at any time.
type Metrics struct {
	// Creates is the number of commits that ended as Created.
	Creates atomic.Int64
	// Refused is the number of commits that ended as Taken.
	Refused atomic.Int64
	// SettledAsOwn is the number of Creates that were known only by reading back, after a refusal or an error.
	SettledAsOwn atomic.Int64
	// Retries is the number of operations that were done again after an error.
	Retries atomic.Int64
	// Bytes is the sum of the sizes of Creates.
	Bytes atomic.Int64
}

// Options say how patient a Store is.
type Options struct {
	// MaxAttempts is how often an operation is tried before its error is returned, at least 1. Default: 10.
	MaxAttempts int
	// BaseDelay is the wait before the second attempt; it doubles each time, and a random half of it is left out. Default: 100 ms.
	BaseDelay time.Duration
	// MaxDelay is the longest wait between two attempts, at least BaseDelay. Default: 10 s.
	MaxDelay time.Duration
	// AttemptTimeout is how long one attempt may take before it counts as failed, above 0. It has to be enough for the largest
	// object on the slowest connection. Default: 5 minutes.
	AttemptTimeout time.Duration
}

// Defaults returns the options that Open uses.
func Defaults() Options {
	return Options{
		MaxAttempts:    10,
		BaseDelay:      100 * time.Millisecond,
		MaxDelay:       10 * time.Second,
		AttemptTimeout: 5 * time.Minute,
	}
}

// Validate returns all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.MaxAttempts < 1 {
		errs = append(errs, fmt.Errorf("MaxAttempts (%d) must be at least 1", o.MaxAttempts))
	}
	if o.BaseDelay < 0 {
		errs = append(errs, fmt.Errorf("BaseDelay (%v) must not be negative", o.BaseDelay))
	}
	if o.MaxDelay < o.BaseDelay {
		errs = append(errs, fmt.Errorf("MaxDelay (%v) must be at least BaseDelay (%v)", o.MaxDelay, o.BaseDelay))
	}
	if o.AttemptTimeout <= 0 {
		errs = append(errs, fmt.Errorf("AttemptTimeout (%v) must be above 0", o.AttemptTimeout))
	}
	return errors.Join(errs...)
}

// Store is a place for objects. Its methods are safe for many goroutines.
type Store struct {
	driver  driver.Driver
	options Options
	metrics Metrics
}

// New returns a store on a driver, which it owns from now on. Open is what most callers want.
func New(d driver.Driver, o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("store %q: %w", d.URL(), err)
	}
	return &Store{driver: d, options: o}, nil
}

// URL returns the place in the form that Open takes, absolute and never with credentials. A local place is a plain path.
func (s *Store) URL() string { return s.driver.URL() }

// Metrics returns the counters of this store.
func (s *Store) Metrics() *Metrics { return &s.metrics }

// Close frees the driver. Call it once, after all else.
func (s *Store) Close() error { return s.driver.Close() }

// Commit makes the object key with exactly body, unless the name is taken, and says whose object has the name now.
//
// Created and Taken come with a nil error, and the object is durable then. All errors that may pass are tried again, with growing
// waits; what is returned after that is ErrTransient, ErrPermanent, or the end of ctx.
func (s *Store) Commit(ctx context.Context, key string, body []byte) (Outcome, error) {
	if err := driver.CheckKey(key); err != nil {
		return Unknown, s.wrap("commit", key, err)
	}
	outcome, settled := Unknown, false
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		outcome, settled, err = s.commitOnce(ctx, key, body)
		return err
	})
	if err != nil {
		return Unknown, s.wrap("commit", key, err)
	}
	if outcome == Taken {
		s.metrics.Refused.Add(1)
		return Taken, nil
	}
	s.metrics.Creates.Add(1)
	s.metrics.Bytes.Add(int64(len(body)))
	if settled {
		s.metrics.SettledAsOwn.Add(1)
	}
	return Created, nil
}

// commitOnce creates the object and, whatever the answer is, finds out by reading what has the name now.
// settled says that it was the reading that told.
func (s *Store) commitOnce(ctx context.Context, key string, body []byte) (outcome Outcome, settled bool, err error) {
	created := s.driver.Create(ctx, key, body)
	if created == nil {
		return Created, false, s.verify(ctx, key, body)
	}
	if ctx.Err() != nil {
		// Reading back would fail too. retry knows whether the attempt or the caller has run out of time.
		return Unknown, false, created
	}
	same, err := s.same(ctx, key, body)
	switch {
	case errors.Is(err, ErrNotFound) && errors.Is(created, ErrExists):
		return Unknown, false, driver.Markf(ErrTransient, "the name was taken, but there is no object now: %v", err) // %v: for this caller it is not ErrNotFound.
	case errors.Is(err, ErrNotFound):
		return Unknown, false, created // Nothing has landed: the same name may be tried again.
	case err != nil:
		return Unknown, false, fmt.Errorf("read back after %q: %w", created.Error(), err)
	}
	if err := s.driver.Sync(ctx, dirOf(key)); err != nil {
		return Unknown, false, err
	}
	if same {
		return Created, true, nil
	}
	return Taken, true, nil
}

// tail is how many of the last bytes are read back after a create: enough for the end of a Parquet footer.
const tail = 64

// verify reads size and last bytes of an object that was just created.
func (s *Store) verify(ctx context.Context, key string, body []byte) error {
	o, err := s.driver.Open(ctx, key)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	n := min(tail, len(body))
	same, err := equal(o, body, len(body)-n)
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !same {
		return driver.Markf(ErrPermanent, "read back: %d bytes were written, but the store shows %d bytes, or others: do not trust this storage", len(body), o.Size())
	}
	return nil
}

// same tells if the object has exactly these bytes.
func (s *Store) same(ctx context.Context, key string, body []byte) (bool, error) {
	o, err := s.driver.Open(ctx, key)
	if err != nil {
		return false, err
	}
	same, err := equal(o, body, 0)
	return same, errors.Join(err, o.Close())
}

// equal compares sizes, then the bytes from offset on, a piece at a time.
func equal(o driver.Object, body []byte, offset int) (bool, error) {
	if o.Size() != int64(len(body)) {
		return false, nil
	}
	piece := make([]byte, min(4<<20, len(body)-offset))
	for offset < len(body) {
		p := piece[:min(len(piece), len(body)-offset)]
		if n, err := o.ReadAt(p, int64(offset)); n < len(p) {
			return false, fmt.Errorf("read %d bytes at %d: %w", len(p), offset, err)
		}
		if !bytes.Equal(p, body[offset:offset+len(p)]) {
			return false, nil
		}
		offset += len(p)
	}
	return true, nil
}

// Open returns a reader of the object; ErrNotFound if there is none. ctx bounds the reading too. Close it once.
func (s *Store) Open(ctx context.Context, key string) (Object, error) {
	if err := driver.CheckKey(key); err != nil {
		return nil, s.wrap("open", key, err)
	}
	var o driver.Object
	err := s.retry(ctx, func(context.Context) (err error) {
		o, err = s.driver.Open(ctx, key) // The caller's ctx: it outlives the attempt.
		return err
	})
	if err != nil {
		return nil, s.wrap("open", key, err)
	}
	return &object{Object: o, ctx: ctx, store: s, key: key}, nil
}

// object tries reads again.
type object struct {
	driver.Object
	ctx   context.Context
	store *Store
	key   string
}

func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	end := false
	err = o.store.retry(o.ctx, func(context.Context) error {
		n, err = o.Object.ReadAt(p, off)
		switch {
		case err == io.EOF: //nolint:errorlint // only this very error is the end
			end = true
			return nil
		case errors.Is(err, io.EOF): // of a connection that broke; who reads must not take it for the end
			return fmt.Errorf("the connection broke: %s", err.Error())
		}
		return err
	})
	if err != nil {
		return n, o.store.wrap("read", o.key, err)
	}
	if end {
		return n, io.EOF
	}
	return n, nil
}

// ReadAll returns all bytes of an object; ErrPermanent if they are more than limit, ErrNotFound if there is none.
func (s *Store) ReadAll(ctx context.Context, key string, limit int64) ([]byte, error) {
	o, err := s.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	if o.Size() > limit {
		_ = o.Close() // It was only read from.
		return nil, s.wrap("read", key, driver.Markf(ErrPermanent, "%d bytes are more than the limit of %d", o.Size(), limit))
	}
	body := make([]byte, o.Size())
	n, err := o.ReadAt(body, 0)
	if errors.Is(err, io.EOF) && n == len(body) {
		err = nil
	}
	if err = errors.Join(err, o.Close()); err != nil {
		return nil, s.wrap("read", key, err)
	}
	return body, nil
}

// Exists tells if there is an object of that name.
func (s *Store) Exists(ctx context.Context, key string) (bool, error) {
	o, err := s.Open(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, o.Close()
}

// List yields every object whose key starts with prefix (plain text, "" is all), sorted by key, whole ones only. Names that are not
// keys (see CheckKey) are left out. After an error it yields nothing more.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return s.list(ctx, "list", prefix, s.driver.List, driver.CheckKey)
}

// ListDir yields what stands directly in the folder dir ("" is the top), sorted by key; folders have a key that ends in "/".
// It may show a folder that holds no object.
func (s *Store) ListDir(ctx context.Context, dir string) iter.Seq2[Entry, error] {
	return s.list(ctx, "list folder", strings.TrimSuffix(dir, "/"), s.driver.ListDir, driver.CheckPrefix)
}

func (s *Store) list(ctx context.Context, op, prefix string, list func(context.Context, string) iter.Seq2[Entry, error], check func(string) error) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := driver.CheckPrefix(prefix); err != nil {
			yield(Entry{}, s.wrap(op, prefix, err))
			return
		}
		last, stopped := "", false // A second attempt goes on after last: lists are sorted.
		err := s.retry(ctx, func(context.Context) error {
			for e, err := range list(ctx, prefix) { // The caller's ctx: a list may take longer than an attempt.
				if err != nil {
					return err
				}
				if e.Key <= last || check(e.Key) != nil {
					continue
				}
				last = e.Key
				if stopped = !yield(e, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Entry{}, s.wrap(op, prefix, err))
		}
	}
}

// Sync makes durable every object of the folder dir ("" is the top) that can already be seen. A writer calls it before it relies on objects
// that others have just made: that it drops rows because they are there, say.
func (s *Store) Sync(ctx context.Context, dir string) error {
	dir = strings.TrimSuffix(dir, "/")
	if err := driver.CheckPrefix(dir); err != nil {
		return s.wrap("sync", dir, err)
	}
	return s.wrap("sync", dir, s.retry(ctx, func(ctx context.Context) error { return s.driver.Sync(ctx, dir) }))
}

// Remove deletes the object. A missing one is no error.
func (s *Store) Remove(ctx context.Context, key string) error {
	if err := driver.CheckKey(key); err != nil {
		return s.wrap("remove", key, err)
	}
	return s.wrap("remove", key, s.retry(ctx, func(ctx context.Context) error { return s.driver.Remove(ctx, key) }))
}

// retry calls attempt until it returns nil or an error that trying again does not change, with growing random waits between.
func (s *Store) retry(ctx context.Context, attempt func(context.Context) error) error {
	delay := s.options.BaseDelay
	for n := 1; ; n++ {
		err := s.attempt(ctx, attempt)
		switch {
		case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrPermanent):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case n >= s.options.MaxAttempts:
			return driver.Markf(ErrTransient, "gave up after %d attempts: %w", n, err)
		}
		s.metrics.Retries.Add(1)
		if err := sleep(ctx, delay/2+rand.N(delay/2+1)); err != nil {
			return err
		}
		delay = min(2*delay, s.options.MaxDelay)
	}
}

func (s *Store) attempt(ctx context.Context, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.AttemptTimeout)
	defer cancel()
	return attempt(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dirOf returns the folder of a key, "" for the top.
func dirOf(key string) string {
	if dir := path.Dir(key); dir != "." {
		return dir
	}
	return ""
}

func (s *Store) wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store %q: %s %q: %w", s.URL(), op, key, err)
}
