package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"backbone/transforms/lake/store"
)

// lease says who runs a tick, and until when that holds.
type lease struct {
	Owner Owner     `json:"owner"`
	Taken time.Time `json:"taken"`
	Until time.Time `json:"until"`
	// Seconds is how long it holds: what counts where clocks differ.
	Seconds  float64 `json:"seconds"`
	Released bool    `json:"released,omitempty"` // its owner has ended

	number int
}

// clockSkew is by how much clocks of machines may differ without anybody losing a lease that it holds.
func clockSkew(ttl time.Duration) time.Duration { return ttl / 2 }

// free tells whether the lease keeps nobody off at a time.
func (l lease) free(now time.Time) bool {
	return l.number == 0 || l.Released || now.After(l.Until.Add(clockSkew(l.ttl())))
}

// plausible tells whether the clock of the owner can be right: a lease never holds longer than it was taken for.
func (l lease) plausible(now time.Time) bool {
	return !l.Until.After(now.Add(l.ttl() + clockSkew(l.ttl())))
}

func (l lease) ttl() time.Duration { return time.Duration(l.Seconds * float64(time.Second)) }

// keeper holds the lease of a tick.
type keeper struct {
	record *Record
	tick   time.Time
	clock  Clock
	owner  Owner
	ttl    time.Duration
	held   lease // the newest of ours
}

// errLost says that somebody else has taken the lease.
var errLost = errors.New("the lease is lost")

// take makes the lease of the next number, and tells whether it is now the newest. Of a number that was there it is not.
func (k *keeper) take(ctx context.Context, after int, released bool) (bool, error) {
	now := k.clock.Now().UTC()
	next := lease{Owner: k.owner, Taken: now, Until: now.Add(k.ttl), Seconds: k.ttl.Seconds(), Released: released, number: after + 1}
	outcome, err := k.record.commit(ctx, k.record.key(k.tick, fmt.Sprintf("lease-%06d", next.number)), next)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // somebody else has made it, and has removed it by now, when there was a newer one
	}
	if err != nil || outcome != store.Created {
		return false, err
	}
	if released { // who waits for that may have taken the next one already
		return true, nil
	}
	// Old leases are removed. One who has slept for long may have made a number once more that was there before: the newest counts.
	f, err := k.record.folder(ctx, k.tick)
	if err != nil {
		return false, err
	}
	if f.lease != next.number {
		return false, nil
	}
	k.held = next
	return true, nil
}

// release gives the lease back. Where somebody else has it, there is nothing to give.
func (k *keeper) release(ctx context.Context) error {
	err := k.renewed(ctx, true)
	if errors.Is(err, errLost) {
		return nil
	}
	return err
}

// renew takes the number after ours. It is errLost where somebody else has it.
func (k *keeper) renew(ctx context.Context) error { return k.renewed(ctx, false) }

func (k *keeper) renewed(ctx context.Context, released bool) error {
	for {
		before := k.held.number
		ok, err := k.take(ctx, before, released)
		if err != nil {
			return err
		}
		if ok {
			if before > 1 { // the one before the last stays, for who is reading it
				_ = k.record.store.Remove(ctx, k.record.key(k.tick, fmt.Sprintf("lease-%06d", before-1))) // it does no harm
			}
			return nil
		}
		newest, err := k.record.newestLease(ctx, k.tick)
		switch {
		case err != nil:
			return err
		case newest.Owner != k.owner:
			return fmt.Errorf("%w: %s has taken this tick over", errLost, newest.Owner)
		}
		k.held = newest // a renewal of ours whose answer was lost: the next number is free for us
	}
}

// keep renews the lease until ctx ends, and returns errLost when somebody else has it. A store that does not answer is asked again.
func (k *keeper) keep(ctx context.Context, warn func(error)) error {
	for {
		if k.clock.Sleep(ctx, k.ttl/3) != nil {
			return nil //nolint:nilerr // it is kept no longer
		}
		err := k.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // as above
		case errors.Is(err, errLost):
			return err
		case err != nil:
			warn(err)
		}
	}
}

// newestLease returns the lease that counts, one with number 0 where there is none.
func (r *Record) newestLease(ctx context.Context, tick time.Time) (lease, error) {
	for range 10 { // it may be removed while it is read, when its owner has a newer one
		f, err := r.folder(ctx, tick)
		if err != nil || f.lease == 0 {
			return lease{}, err
		}
		body, err := r.store.ReadAll(ctx, r.key(tick, fmt.Sprintf("lease-%06d", f.lease)), maxObject)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return lease{}, err
		}
		l := lease{number: f.lease}
		if err := json.Unmarshal(body, &l); err != nil {
			return lease{}, fmt.Errorf("lease %d of %s: %w; remove %s", f.lease, tick.Format(time.RFC3339), err, r.key(tick, ""))
		}
		return l, nil
	}
	return lease{}, fmt.Errorf("lease of %s: it was renewed faster than it can be read", tick.Format(time.RFC3339))
}
