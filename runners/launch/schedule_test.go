package launch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func mustSchedule(t *testing.T, expression, zone string) *Schedule {
	t.Helper()
	s, err := ParseSchedule(expression, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseSchedule(t *testing.T) {
	for expression, want := range map[string]string{
		" 0  3 * * * ": "0 3 * * *", "@daily": "0 0 * * *", "*/5 8-18 * JAN-MAR mon-fri": "*/5 8-18 * JAN-MAR mon-fri",
	} {
		if got := mustSchedule(t, expression, "").Expression(); got != want {
			t.Errorf("%q is %q, want %q", expression, got, want)
		}
	}
	for expression, want := range map[string]string{
		"": "five fields", "* * * * * *": "five fields", "@every 1h": "five fields", "TZ=UTC 0 3 * * *": "five fields", "0 3 ? * *": "five fields",
		"61 * * * *": "above maximum", "0 0 31 2 *": "never", "5/15 * * * *": "without its range", "0 0 * * 7": "above maximum", "0 3 * * *\n* * * * *": "five fields",
	} {
		if _, err := ParseSchedule(expression, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", expression, err, want)
		}
	}
	for _, zone := range []string{"Local", "Berlin", "../../etc/passwd"} {
		if _, err := ParseSchedule("@daily", zone); err == nil || !strings.Contains(err.Error(), "IANA") {
			t.Errorf("%q: error %v", zone, err)
		}
	}
}

// When clocks are set, a tick at a fixed hour that there is twice comes once, and one at an hour that there is not does not come. Each hour is each hour.
func TestClocksAreSet(t *testing.T) {
	s := mustSchedule(t, "30 2 * * *", "Europe/Berlin")
	day, more := mustSchedule(t, "@hourly", "Europe/Berlin").Between(time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 23, 0, 0, 0, time.UTC), 100)
	if len(day) != 25 || more != 0 {
		t.Errorf("the day has %d hours, want 25", len(day)+more)
	}
	for _, test := range []struct {
		name     string
		from, to time.Time
		want     []string
	}{
		{"Forward", time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC), []string{"2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"}},
		{"Back", time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 27, 0, 0, 0, 0, time.UTC), []string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
	} {
		ticks, _ := s.Between(test.from, test.to, 10)
		var got []string
		for _, tick := range ticks {
			got = append(got, tick.Format(time.RFC3339))
		}
		if !cmp.Equal(got, test.want) {
			t.Errorf("%s: ticks %v, want %v", test.name, got, test.want)
		}
	}
}

// Latest, Between and IsTick agree with Next.
func TestTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expression := fmt.Sprintf("%s %s %s %s %s",
			rapid.SampledFrom([]string{"*", "0", "*/7", "13,44", "5-50/9"}).Draw(t, "minute"), rapid.SampledFrom([]string{"*", "2", "3", "*/5"}).Draw(t, "hour"),
			rapid.SampledFrom([]string{"*", "1", "29", "31"}).Draw(t, "day"), rapid.SampledFrom([]string{"*", "2", "*/3"}).Draw(t, "month"),
			rapid.SampledFrom([]string{"*", "MON", "1-5"}).Draw(t, "weekday"))
		s, err := ParseSchedule(expression, rapid.SampledFrom([]string{"", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"}).Draw(t, "zone"))
		if err != nil {
			t.Skip(err) // 31 of February
		}
		now := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "now"), 0)
		latest := s.Latest(now)
		if latest.IsZero() || latest.After(now) || !s.IsTick(latest) || !s.Next(latest).After(now) {
			t.Fatalf("%q in %s: the latest tick at %v is %v, and the one after it %v", expression, s.Zone(), now, latest, s.Next(latest))
		}
		to := now.Add(time.Duration(rapid.Int64Range(1, 3000).Draw(t, "minutes")) * time.Minute)
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		ticks, more := s.Between(now, to, limit)
		n := 0
		for tick := s.Next(now); !tick.After(to); tick = s.Next(tick) {
			n++
		}
		if len(ticks) != min(n, limit) || len(ticks)+more != n || n > 0 && !ticks[len(ticks)-1].Equal(s.Latest(to)) {
			t.Fatalf("%q in %s has %d ticks from %v to %v, but %d of at most %d and %d more", expression, s.Zone(), n, now, to, len(ticks), limit, more)
		}
	})
}
