package command

import (
	"context"
	"log/slog"
	"time"

	"backbone/runners/flink"
	"backbone/runners/jobs"
)

const (
	// lookEvery is how often a job elsewhere is asked how far it is.
	lookEvery = 3 * time.Second
	// standStill is how long it may say the same although it goes on: a job manager asks its tasks every 10 seconds.
	standStill = 15 * time.Second
	// lookTime is how long it may take to answer.
	lookTime = 10 * time.Second
)

// elsewhere knows how far a job is that runs on a cluster. It is used by one goroutine at a time.
type elsewhere struct {
	meter interface {
		Metrics(ctx context.Context) (counts map[string]int64, watermark time.Time, err error)
	}
	every time.Duration

	looked    time.Time
	counts    map[string]int64
	watermark time.Time
}

// newElsewhere returns what knows of the job that is submitted with o; nil where nobody does.
func newElsewhere(o flink.Options) *elsewhere {
	if meter := flink.NewMeter(o); meter != nil {
		return &elsewhere{meter: meter, every: lookEvery}
	}
	return nil
}

// look asks the job. What cannot be asked keeps what was known: the command follows the job by other means, and says what is wrong.
func (e *elsewhere) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	counts, watermark, err := e.meter.Metrics(ctx)
	if err != nil {
		slog.Debug("the progress of the job is not known", "error", err)
		return
	}
	e.counts, e.watermark = counts, watermark
}

// progress says how far the job is, of what it has counted.
func (e *elsewhere) progress(ctx context.Context, of func(counts map[string]int64, watermark time.Time) progress) progress {
	if now := time.Now(); now.Sub(e.looked) >= e.every {
		e.looked = now
		e.look(ctx)
	}
	p := of(e.counts, e.watermark)
	p.Every = standStill
	return p
}

// last returns what a job has counted in the end, and its watermark: where it was cancelled or has failed, as far as they are known. ctx may be
// cancelled. Where nobody has seen it, the result is all that is known. b may be nil.
func (b *backend) last(ctx context.Context, result jobs.Result, failed error) (counts map[string]int64, watermark time.Time) {
	if b == nil || b.seen == nil {
		return result.Counts, time.Time{}
	}
	if failed != nil {
		b.seen.look(context.WithoutCancel(ctx))
		return b.seen.counts, b.seen.watermark
	}
	return result.Counts, b.seen.watermark
}
