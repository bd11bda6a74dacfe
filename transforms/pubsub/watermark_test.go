package pubsub

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is a time of the day on which all stories are told; "" is none.
func clock(t testing.TB, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse("15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return at.AddDate(2026, 10, 21).UTC()
}

func TestWatermarkStories(t *testing.T) {
	// A step is the clock, the event time that is decoded then (or none), and the watermark that is reported then.
	type step struct{ now, event, want string }
	for _, tc := range []struct {
		name  string
		o     Options
		steps []step
	}{
		{"nothing has come", Options{Disorder: 10 * time.Second, Idle: 30 * time.Second}, []step{
			{"12:00:00", "", ""},
			{"12:00:29", "", ""},
			{"12:00:30", "", "12:00:20"}, // silent from the start: read up to now
		}},
		{"events out of order", Options{Disorder: 10 * time.Second, Idle: 30 * time.Second}, []step{
			{"12:00:01", "12:00:00", "11:59:50"},
			{"12:00:02", "11:59:55", "11:59:50"}, // earlier, but not late
			{"12:00:03", "11:00:00", "11:59:50"}, // late
			{"12:00:04", "12:00:03", "11:59:53"},
		}},
		{"a clock that is ahead", Options{Disorder: 10 * time.Second, Idle: 30 * time.Second}, []step{
			{"12:00:01", "12:00:00", "11:59:50"},
			{"12:00:02", "18:00:00", "11:59:52"}, // counts as now
			{"12:00:05", "12:00:04", "11:59:54"}, // the others go on
		}},
		{"a backlog", Options{Disorder: 10 * time.Second, Idle: 30 * time.Second}, []step{
			{"12:00:01", "03:00:00", "02:59:50"}, // far behind the clock
			{"12:00:02", "03:10:00", "03:09:50"},
			{"12:00:25", "03:20:00", "03:19:50"}, // slow, not idle
			{"12:00:50", "", "03:19:50"},
			{"12:00:55", "", "12:00:45"}, // silent for 30 s
			{"12:01:00", "04:00:00", "12:00:45"},
		}},
		{"rows are committed first", Options{Disorder: 10 * time.Second, Idle: time.Hour, Hold: 5 * time.Second}, []step{
			{"12:00:00", "12:00:00", ""},
			{"12:00:03", "12:00:03", ""},
			{"12:00:05", "12:00:05", "11:59:50"}, // what was known at 12:00:00
			{"12:00:07", "", "11:59:50"},
			{"12:00:08", "", "11:59:53"}, // what was known at 12:00:03
			{"12:00:30", "", "11:59:55"},
		}},
		{"idle, and held", Options{Disorder: 10 * time.Second, Idle: 30 * time.Second, Hold: 5 * time.Second}, []step{
			{"12:00:00", "", ""},
			{"12:00:30", "", ""},
			{"12:00:35", "", "12:00:20"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWatermark(tc.o, clock(t, "12:00:00"))
			for i, s := range tc.steps {
				now := clock(t, s.now)
				if s.event != "" {
					w.Observe(now, clock(t, s.event).UnixMicro())
				}
				if got, want := w.Report(now), clock(t, s.want); !got.Equal(want) {
					t.Errorf("step %d, %s: watermark is %v, want %v", i, s.now, got, want)
				}
			}
		})
	}
}

// Whatever comes, the watermark never goes back, nor ahead of the clock.
func TestWatermarkNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := func(name string, low, high int) time.Duration {
			return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Second
		}
		o := Options{Disorder: seconds("disorder", 0, 20), Idle: seconds("idle", 0, 60), Hold: seconds("hold", 0, 20)}
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		w := newWatermark(o, now)
		var last time.Time
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 10_000).Draw(t, "wait")) * time.Millisecond)
			if rapid.Bool().Draw(t, "an event") {
				w.Observe(now, now.Add(seconds("event", -100_000, 100_000)).UnixMicro())
			}
			got := w.Report(now)
			if got.Before(last) || got.After(now.Add(-o.Disorder)) {
				t.Fatalf("step %d: watermark is %v after %v, at %v", i, got, last, now)
			}
			last = got
		}
	})
}

// One lane of a process reads, until it is not seen for a while.
func TestTurns(t *testing.T) {
	var turn turn
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		lane  int
		after time.Duration
		want  bool
	}{
		{3, 0, true}, {1, time.Second, false}, {3, time.Second, true}, {1, 9 * time.Second, false}, {1, time.Second, true}, {3, time.Second, false}, {1, time.Hour, true},
	} {
		now = now.Add(step.after)
		if got := turn.take(step.lane, now); got != step.want {
			t.Errorf("step %d: lane %d reads: %v, want %v", i, step.lane, got, step.want)
		}
	}
}
