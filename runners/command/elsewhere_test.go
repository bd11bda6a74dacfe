package command

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/runners/jobs"
)

// fakeMeter counts how often it is asked.
type fakeMeter struct {
	asked int64
	err   error
}

func (m *fakeMeter) Metrics(ctx context.Context) (map[string]int64, time.Time, error) {
	m.asked++
	return map[string]int64{"events/read": 100 * m.asked, "events/bytes": 1000, "lake/dead_lettered": m.asked}, time.Unix(m.asked, 0), errors.Join(m.err, ctx.Err())
}

// A job is asked now and then, and what it said is kept when it cannot be asked; in the end it is asked once more, also by who was stopped.
func TestElsewhere(t *testing.T) {
	meter := &fakeMeter{}
	e := &elsewhere{meter: meter, every: time.Hour}
	of := func(counts map[string]int64, watermark time.Time) progress {
		return progressOf(counts, watermark, 5000)
	}
	want := progress{Rows: 100, Total: 500, DeadLetters: 1, Watermark: time.Unix(1, 0), Every: standStill}
	for range 3 {
		if diff := cmp.Diff(want, e.progress(t.Context(), of)); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	result := jobs.Result{Counts: map[string]int64{"events/read": 7}}
	for _, test := range []struct {
		name   string
		e      *elsewhere
		failed error
		silent error
		want   int64
	}{
		{"stopped", e, context.Canceled, nil, 200},
		{"stopped, and nobody answers", e, context.Canceled, errors.New("nobody"), 200},
		{"ended well", e, nil, nil, 7},
		{"nobody sees it", nil, context.Canceled, nil, 7},
	} {
		meter.err = test.silent
		if counts, _ := (&backend{seen: test.e}).last(stopped, result, test.failed); counts["events/read"] != test.want {
			t.Errorf("%s: %v, want %d events", test.name, counts, test.want)
		}
	}
}

// While rows stand still because nobody has looked, their rate does; after that there are none.
func TestRateOfRowsThatStandStill(t *testing.T) {
	rate := newRate()
	if got := rate(progress{Rows: 1000, Every: time.Hour}); got <= 0 {
		t.Errorf("%d rows a second, want more than none", got)
	}
	first := rate(progress{Rows: 1000, Every: time.Hour})
	if first <= 0 || rate(progress{Rows: 1000, Every: time.Hour}) != first {
		t.Errorf("%d rows a second, and then another number", first)
	}
	if got := rate(progress{Rows: 1000}); got != 0 {
		t.Errorf("%d rows a second, want none", got)
	}
}
