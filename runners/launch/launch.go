// Package launch runs pipelines by schedules: a launch file says what runs, with which options and when, and a record in the lake says what
// has run, so that of any number of schedulers, retries and people who launch the same, one does.
//
//	launch file + tick --> lease --> attempts --> result
//
// A tick is a time at which the schedule says that the pipeline runs. A run is known by the name of its launch and its tick, whoever starts
// it, and however often.
//
// # Guarantees
//
//   - A tick has one result at a time. Each result is one conditional create; of two runs that end at once, one makes it, and the other says
//     what that was.
//   - A tick that has succeeded is not run again, unless that is asked for.
//   - While the holder of the lease lives, nobody else runs the tick. When it dies, another takes the tick over as soon as the lease has run
//     out, or as soon as nobody was seen to renew it for as long.
//   - Clocks that are wrong may let two run the same tick for a moment. Pipelines commit each row once, so that is harmless for the lake; the
//     one that has lost its lease finds out when it renews it, ends its run and records that.
//   - A job of files on a cluster has the name of its tick. One that goes on after its launcher has died is waited for by the next, and not
//     submitted again.
//
// # The record
//
// It is in <lake>/_runs/<launch>/<tick>/, of objects that are made once and never changed:
//
//   - lease-000001, lease-000002, ...: who runs the tick, and until when that holds. The one with the highest number counts.
//   - attempt-000001.json: an attempt has begun. attempt-000001-ended.json: how it has ended; without it, its launcher has died.
//   - result-000001.json: what became of the tick. Others follow where it is run again, after a failure or on request.
//
// # Limits
//
// A launch does not see what a person runs without it. A job that is left alone on a cluster (detach) has succeeded when it was submitted.
package launch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"
)

// Clock tells the time, and waits. Leases compare the times of several machines, so nothing here relies on what it says.
type Clock interface {
	// Now returns the time of the wall clock.
	Now() time.Time
	// Sleep waits, or returns the error of ctx.
	Sleep(ctx context.Context, d time.Duration) error
}

// SystemClock is that of this machine.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// Sleep implements Clock.
func (SystemClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Owner is who runs a tick: one launch, on one machine.
type Owner struct {
	ID   string `json:"id"` // of this launch alone
	Host string `json:"host"`
	PID  int    `json:"pid"`
}

// NewOwner returns this process as an owner that no other equals.
func NewOwner() Owner {
	var b [8]byte
	_, _ = rand.Read(b[:])     // never fails
	host, err := os.Hostname() // for people only
	if err != nil || host == "" {
		host = "unknown"
	}
	return Owner{ID: hex.EncodeToString(b[:]), Host: host, PID: os.Getpid()}
}

func (o Owner) String() string { return fmt.Sprintf("process %d on %s", o.PID, o.Host) }

// tickLayout is how a tick is written in the names of the record: UTC, so that names sort as times do.
const tickLayout = "20060102T150405Z"

// ErrNoTick says that the schedule has no tick where one was asked for.
var ErrNoTick = errors.New("there is no such tick")
