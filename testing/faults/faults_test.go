package faults_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"backbone/testing/faults"
	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/localstore"
)

var keys = []string{"dt=2026-11-22/part-0", "dt=2026-11-22/part-1", "dt=2026-11-23/part-0"}

// Storage operation 0, 1, 2, ... goes wrong, until a run meets no fault any more. After each the lake must be right, and a second
// writer must find what is there, and fill in what is not.
func TestCommitSurvivesAFaultAtEachOperation(t *testing.T) {
	for _, test := range []struct {
		name string
		plan func(n int) faults.Plan
		// commits tells if the first writer gets through all the same.
		commits bool
	}{
		{"Unknown", func(n int) faults.Plan { return faults.FailAt(n, faults.ErrInjected) }, true},
		{"Throttled", func(n int) faults.Plan { return faults.FailAt(n, faults.ErrThrottled) }, true},
		{"Refused", func(n int) faults.Plan { return faults.FailAt(n, driver.Mark(driver.ErrExists, faults.ErrInjected)) }, true},
		{"LostReply", faults.LoseReplyAt, true},
		{"NotAllowed", func(n int) faults.Plan { return faults.FailAt(n, driver.Mark(driver.ErrPermanent, faults.ErrInjected)) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for n := 0; ; n++ {
				root := t.TempDir()
				faulty := faults.Wrap(local(t, root), test.plan(n))
				first := newStore(t, faulty)
				failed := 0
				for _, key := range keys {
					switch outcome, err := first.Commit(t.Context(), key, body("first", key)); {
					case err == nil && outcome != store.Created:
						t.Fatalf("operation %d: %s: got %v, but nobody else has written", n, key, outcome)
					case err != nil && test.commits:
						t.Fatalf("operation %d: %s: %v", n, key, err)
					case err != nil && (!errors.Is(err, faults.ErrInjected) || !errors.Is(err, store.ErrPermanent)):
						t.Fatalf("operation %d: %s: got %v, want the error that was injected, as it was marked", n, key, err)
					case err != nil:
						failed++
					}
				}
				if failed > 1 {
					t.Fatalf("operation %d: %d commits have failed of one fault", n, failed)
				}
				second := newStore(t, local(t, root))
				present := list(t, second)
				if missing := len(keys) - len(present); missing > failed {
					t.Fatalf("operation %d: there are only %q", n, present)
				}
				for _, key := range keys {
					want, writer := store.Created, "second"
					if slices.Contains(present, key) {
						want, writer = store.Taken, "first"
					}
					if got, err := second.Commit(t.Context(), key, body("second", key)); err != nil || got != want {
						t.Fatalf("operation %d: %s: the second writer got %v, %v; want %v", n, key, got, err, want)
					}
					if got, err := second.ReadAll(t.Context(), key, 1<<20); err != nil || !bytes.Equal(got, body(writer, key)) {
						t.Fatalf("operation %d: %s: not the bytes of the %s writer (%v)", n, key, writer, err)
					}
				}
				if got := list(t, second); !slices.Equal(got, keys) {
					t.Fatalf("operation %d: listed %q, want %q", n, got, keys)
				}
				if n >= faulty.Operations() {
					// A commit is at least a create, an open, and a read of the last bytes.
					if n < 3*len(keys) {
						t.Fatalf("the loop ended after %d operations: were they counted?", n)
					}
					return
				}
			}
		})
	}
}

// Whatever the network does to six writers of the same names: each name has one winner, who was told so, and its bytes.
func TestOneWriterWinsUnderRandomFaults(t *testing.T) {
	const writers, names = 6, 10
	trouble := []faults.Fault{
		{Err: faults.ErrThrottled},
		{Err: faults.ErrUnavailable},
		{Err: faults.ErrInjected},
		{Err: faults.ErrInjected, After: true},
		{Err: faults.ErrUnavailable, After: true},
		{Delay: time.Millisecond},
	}
	injected, settled := 0, int64(0)
	for seed := range uint64(10) {
		root := t.TempDir()
		outcomes := make([][]store.Outcome, writers)
		var drivers []*faults.Driver
		var stores []*store.Store
		var group sync.WaitGroup
		for w := range writers {
			faulty := faults.Wrap(local(t, root), faults.Randomly(seed*100+uint64(w), 0.3, trouble...))
			s := newStore(t, faulty)
			drivers, stores = append(drivers, faulty), append(stores, s)
			group.Go(func() {
				for k := range names {
					outcome, err := s.Commit(t.Context(), fmt.Sprint("part-", k), body(fmt.Sprint(w), fmt.Sprint("part-", k)))
					if err != nil {
						t.Errorf("seed %d: writer %d: %v", seed, w, err)
					}
					outcomes[w] = append(outcomes[w], outcome)
				}
			})
		}
		group.Wait()
		for w := range writers {
			injected += drivers[w].Injected(faults.Create)
			settled += stores[w].Metrics().SettledAsOwn.Load()
		}
		s := newStore(t, local(t, root))
		for k := range names {
			key := fmt.Sprint("part-", k)
			var winners []int
			for w := range writers {
				if outcomes[w][k] == store.Created {
					winners = append(winners, w)
				}
			}
			if len(winners) != 1 {
				t.Fatalf("seed %d: %s: writers %v have won, want one", seed, key, winners)
			}
			if got, err := s.ReadAll(t.Context(), key, 1<<20); err != nil || !bytes.Equal(got, body(fmt.Sprint(winners[0]), key)) {
				t.Errorf("seed %d: %s: not the bytes of writer %d (%v)", seed, key, winners[0], err)
			}
		}
	}
	if injected == 0 || settled == 0 {
		t.Errorf("%d creates were made to fail, %d were settled as own: the test has tested nothing", injected, settled)
	}
}

// Lists and reads go on where a fault has broken them off.
func TestReadersSurviveFaults(t *testing.T) {
	root := t.TempDir()
	writer := newStore(t, local(t, root))
	for _, key := range keys {
		if _, err := writer.Commit(t.Context(), key, body("first", key)); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; ; n++ {
		for _, plan := range []faults.Plan{faults.FailAt(n, faults.ErrUnavailable), faults.LoseReplyAt(n)} {
			faulty := faults.Wrap(local(t, root), plan)
			s := newStore(t, faulty)
			if got := list(t, s); !slices.Equal(got, keys) {
				t.Fatalf("operation %d: listed %q, want %q", n, got, keys)
			}
			for _, key := range keys {
				if got, err := s.ReadAll(t.Context(), key, 1<<20); err != nil || !bytes.Equal(got, body("first", key)) {
					t.Fatalf("operation %d: read %q: %d bytes, %v", n, key, len(got), err)
				}
			}
			if err := errors.Join(s.Sync(t.Context(), "dt=2026-11-22"), s.Remove(t.Context(), "dt=2026-11-22/none")); err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
			if n > faulty.Operations() {
				return
			}
		}
	}
}

func TestRandomlyIsTheSameForTheSameSeed(t *testing.T) {
	plan := func() faults.Plan { return faults.Randomly(7, 0.5, faults.Fault{Err: faults.ErrThrottled}) }
	a, b, hits := plan(), plan(), 0
	for n := range 1000 {
		first, second := a(n, faults.Create, "key"), b(n, faults.Open, "another")
		if (first.Err == nil) != (second.Err == nil) {
			t.Fatalf("operation %d: %v, then %v", n, first, second)
		}
		if first.Err != nil {
			hits++
		}
	}
	if hits < 400 || hits > 600 { // 500 +- 6 standard deviations of 16
		t.Errorf("%d faults in 1000 operations, want about 500", hits)
	}
}

func body(writer, key string) []byte { return bytes.Repeat([]byte(writer+" of "+key+"\n"), 100) }

func local(t *testing.T, root string) driver.Driver {
	t.Helper()
	d, err := localstore.New(root, localstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// newStore is as patient as Open's, but waits less.
func newStore(t *testing.T, d driver.Driver) *store.Store {
	t.Helper()
	o := store.Defaults()
	o.MaxAttempts, o.BaseDelay, o.MaxDelay = 30, time.Microsecond, time.Millisecond
	s, err := store.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func list(t *testing.T, s *store.Store) []string {
	t.Helper()
	var got []string
	for e, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Key)
	}
	return got
}
