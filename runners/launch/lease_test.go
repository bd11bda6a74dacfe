package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backbone/testing/objectservers"
	"backbone/transforms/lake/store"
)

// A lease is held by one at a time in each kind of store.
func TestLeases(t *testing.T) {
	for name, lake := range map[string]func(testing.TB) string{
		"Local": func(t testing.TB) string { t.Helper(); return filepath.Join(t.TempDir(), "lake") },
		"GCS":   objectservers.StartGCS,
		"S3":    objectservers.StartS3,
	} {
		t.Run(name, func(t *testing.T) {
			l := &leases{t: t, lake: lake(t), ticks: map[time.Time]bool{}}
			t.Run("OneHolder", l.with(testOneHolder))
			t.Run("OneTakesOver", l.with(testOneTakesOver))
			t.Run("History", l.with(func(t *testing.T, l *leases) {
				t.Helper()
				if name == "Local" { // which is fast, and so has many short ones
					rapid.Check(t, func(t *rapid.T) {
						length := rapid.IntRange(1, 30).Draw(t, "length")
						testHistory(t, l, length, func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) })
					})
					return
				}
				for seed := range uint64(5) {
					r := rand.New(rand.NewPCG(seed, 0))
					testHistory(t, l, 30, func(_ string, n int) int { return r.IntN(n) })
				}
			}))
		})
	}
}

// leaseTime is for how long a lease is taken.
const leaseTime = time.Hour

// leases is a lake with leases of ticks.
type leases struct {
	t    *testing.T
	lake string

	mu    sync.Mutex
	ticks map[time.Time]bool
}

func (l *leases) with(test func(*testing.T, *leases)) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		l := &leases{t: t, lake: l.lake, ticks: l.ticks}
		test(t, l)
	}
}

// tick returns one of which there is nothing yet.
func (l *leases) tick() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	tick := someTick.AddDate(0, 0, len(l.ticks))
	l.ticks[tick] = true
	return tick
}

// keeper returns somebody who wants the lease of a tick. Each has a connection of its own to the store, as processes have.
func (l *leases) keeper(name int, tick time.Time, c Clock) *keeper {
	st, err := store.Open(l.t.Context(), l.lake)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := st.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return &keeper{record: NewRecord(st, "nightly"), tick: tick, clock: c, owner: Owner{ID: fmt.Sprint(name), Host: "here", PID: name}, ttl: leaseTime}
}

// settableClock shows what it is set to. Who sleeps does so for an instant.
type settableClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *settableClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *settableClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *settableClock) Sleep(ctx context.Context, _ time.Duration) error {
	return SystemClock{}.Sleep(ctx, time.Millisecond)
}

// Many who wait have it one after the other, never two at a time.
func testOneHolder(t *testing.T, l *leases) {
	t.Helper()
	const keepers, times = 8, 3
	tick := l.tick()
	clock := &settableClock{now: someTick} // it stands still: no lease runs out, each is given back
	var holders, held atomic.Int64
	var all sync.WaitGroup
	for i := range keepers {
		k := l.keeper(i, tick, clock)
		launcher := &Launcher{File: &File{Name: "nightly"}, Store: k.record.store, Clock: clock, Log: slog.New(slog.DiscardHandler)}
		all.Go(func() {
			for range times {
				if report, err := launcher.acquire(t.Context(), k, 0, true); report != nil || err != nil {
					t.Errorf("keeper %d: report %+v, error %v, want the lease", i, report, err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lease", n)
				}
				held.Add(1)
				for range 2 {
					if err := k.renew(t.Context()); err != nil {
						t.Errorf("keeper %d: %v", i, err)
					}
				}
				holders.Add(-1)
				if err := k.release(t.Context()); err != nil {
					t.Errorf("keeper %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	if n := held.Load(); n != keepers*times {
		t.Errorf("it was held %d times, want %d", n, keepers*times)
	}
}

// Of many who see at once that a lease has run out one takes it over. The others see that it is held, and who held it before has lost it.
func testOneTakesOver(t *testing.T, l *leases) {
	t.Helper()
	const keepers, rounds = 8, 5
	clock := &settableClock{now: someTick}
	tick := l.tick()
	all := make([]*keeper, keepers)
	for i := range all {
		all[i] = l.keeper(i, tick, clock)
	}
	holder := -1
	for round := range rounds {
		clock.move(leaseTime + clockSkew(leaseTime) - time.Second)
		if newest, err := all[0].record.newestLease(t.Context(), tick); err != nil || holder >= 0 && newest.free(clock.Now()) {
			t.Errorf("round %d: %+v is free before clocks could say so, error %v", round, newest, err)
		}
		clock.move(2 * time.Second)
		newest, err := all[0].record.newestLease(t.Context(), tick)
		if err != nil || !newest.free(clock.Now()) {
			t.Fatalf("round %d: %+v is not free, error %v", round, newest, err)
		}
		took := make([]bool, keepers)
		var at sync.WaitGroup
		begin := make(chan struct{})
		for i, k := range all {
			if i == holder {
				continue // it is dead
			}
			at.Go(func() {
				<-begin
				var err error
				if took[i], err = k.take(t.Context(), newest.number, false); err != nil {
					t.Errorf("keeper %d: %v", i, err)
				}
			})
		}
		close(begin)
		at.Wait()
		before, winners := holder, 0
		for i, ok := range took {
			if ok {
				holder, winners = i, winners+1
			}
		}
		if winners != 1 {
			t.Fatalf("round %d: %d have taken it over: %v", round, winners, took)
		}
		if now, err := all[0].record.newestLease(t.Context(), tick); err != nil || now.Owner != all[holder].owner || now.free(clock.Now()) {
			t.Errorf("round %d: the lease is %+v, error %v, want it held by %d", round, now, err, holder)
		}
		if before >= 0 {
			if err := all[before].renew(t.Context()); !errors.Is(err, errLost) {
				t.Errorf("round %d: who held it before renews it: %v, want that it is lost", round, err)
			}
		}
		if err := all[holder].renew(t.Context()); err != nil {
			t.Errorf("round %d: who holds it renews it: %v", round, err)
		}
	}
}

// testHistory has some keepers do things in a certain order, while time passes and clocks are wrong. Pick returns a number below n.
//
// Who holds the newest lease can renew it, and nobody else can: that is so whatever clocks say. While they differ by no more than they may, nobody takes a
// lease from one whose clock says that it still holds.
func testHistory(t interface {
	Context() context.Context
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, l *leases, length int, pick func(what string, n int) int,
) {
	const keepers = 3
	tick := l.tick()
	clocks := make([]*settableClock, keepers)
	all := make([]*keeper, keepers)
	holds := make([]bool, keepers) // as they think, until they are told that they do not
	for i := range all {
		wrong := time.Duration(pick("clock", 5)-2) * clockSkew(leaseTime) / 4 // two differ by what they may, at most
		clocks[i] = &settableClock{now: someTick.Add(wrong)}
		all[i] = l.keeper(i, tick, clocks[i])
	}
	trusted := true // no clock has jumped
	for range length {
		i := pick("keeper", keepers)
		k := all[i]
		before, err := k.record.newestLease(t.Context(), tick)
		if err != nil {
			t.Fatalf("%v", err)
		}
		switch action := pick("action", 9); action {
		case 0, 1, 2:
			if !before.free(clocks[i].Now()) {
				continue
			}
			if ok, err := k.take(t.Context(), before.number, false); !ok || err != nil {
				t.Fatalf("keeper %d cannot take %+v, which is free: error %v", i, before, err)
			}
			for j := range all {
				if j != i && trusted && holds[j] && !clocks[j].Now().After(all[j].held.Until) {
					t.Fatalf("keeper %d takes the lease of %d, by whose clock it holds until %s: it is %s", i, j, all[j].held.Until, clocks[j].Now())
				}
			}
			holds[i] = true
		case 3, 4, 5:
			if !holds[i] {
				continue
			}
			ours := before.Owner == k.owner
			if action == 5 {
				if err := k.release(t.Context()); err != nil {
					t.Fatalf("keeper %d gives its lease back: %v", i, err)
				}
				holds[i] = false
				if newest, err := k.record.newestLease(t.Context(), tick); err != nil || ours != newest.Released && !before.Released || !ours && newest.number != before.number {
					t.Fatalf("keeper %d gives its lease back, and after %+v there is %+v, error %v", i, before, newest, err)
				}
				continue
			}
			err := k.renew(t.Context())
			switch {
			case ours && err != nil:
				t.Fatalf("keeper %d has the newest lease, and renews it: %v", i, err)
			case !ours && !errors.Is(err, errLost):
				t.Fatalf("keeper %d has lost its lease to %s, and renews it: %v", i, before.Owner, err)
			}
			holds[i] = err == nil
		case 6, 7: // time passes
			d := time.Duration(pick("quarters", 9)) * leaseTime / 4
			for _, c := range clocks {
				c.move(d)
			}
		case 8:
			trusted = false
			clocks[i].move(time.Duration(pick("jump", 9)-4) * leaseTime)
		}
		after, err := k.record.newestLease(t.Context(), tick)
		if err != nil || after.number < before.number {
			t.Fatalf("after lease %d there is %d, error %v", before.number, after.number, err)
		}
	}
}
