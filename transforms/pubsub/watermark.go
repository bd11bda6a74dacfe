package pubsub

import (
	"sync"
	"time"

	"backbone/transforms/run"
)

// Watermark follows the event times of a subscription: all events up to it are assumed to have come.
//
// It is the latest event time seen, less the disorder that is expected, and never ahead of the clock less that. A
// subscription that has been idle counts as read up to now.
//
// What it reports lags by Hold: in that time the rows that made it move are committed, so whoever acts on the watermark
// finds them in the lake.
type Watermark struct {
	disorder, idle, hold time.Duration

	mu       sync.Mutex
	latest   time.Time // event time
	lastSeen time.Time // on the clock
	samples  []sample
	reported time.Time
}

type sample struct{ at, watermark time.Time }

// WatermarkOf returns the watermark of a subscription in this process.
func WatermarkOf(r *run.Run, o Options) *Watermark {
	w, _ := run.Shared(r, "pubsub/watermark/"+o.Subscription, func() (*Watermark, error) {
		return newWatermark(o, time.Now()), nil
	})
	return w
}

func newWatermark(o Options, now time.Time) *Watermark {
	return &Watermark{disorder: o.Disorder, idle: o.Idle, hold: o.Hold, lastSeen: now}
}

// Observe notes that events were decoded, the latest at that time in microseconds since 1970.
func (w *Watermark) Observe(now time.Time, latestMicros int64) {
	latest := time.UnixMicro(latestMicros)
	if latest.After(now) {
		latest = now // a clock that is ahead must not close windows for all others
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastSeen = now
	if latest.After(w.latest) {
		w.latest = latest
	}
}

// Report returns the watermark to tell the runner; the zero time as long as there is none.
func (w *Watermark) Report(now time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	estimate := w.latest
	if now.Sub(w.lastSeen) >= w.idle {
		estimate = now
	}
	if !estimate.IsZero() {
		estimate = estimate.Add(-w.disorder)
		if n := len(w.samples); n == 0 || now.Sub(w.samples[n-1].at) >= 100*time.Millisecond {
			w.samples = append(w.samples, sample{now, estimate})
		}
	}
	for len(w.samples) > 0 && now.Sub(w.samples[0].at) >= w.hold {
		if s := w.samples[0].watermark; s.After(w.reported) {
			w.reported = s
		}
		w.samples = w.samples[1:]
	}
	return w.reported
}
