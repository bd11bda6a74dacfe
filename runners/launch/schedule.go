package launch

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // time zones, also where the machine has none

	"github.com/robfig/cron/v3"
)

// Schedule is a cron expression in a time zone.
type Schedule struct {
	expression string
	location   *time.Location
	spec       *cron.SpecSchedule
}

// shorthands are the names that cron has for expressions. Not all schedulers know them.
var shorthands = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

var (
	cronCharacters = regexp.MustCompile(`^[0-9A-Za-z*,/ -]+$`)
	openStep       = regexp.MustCompile(`(^|[ ,])\d+/`)
)

// ParseSchedule reads a cron expression of five fields, or a name such as @daily, and an IANA time zone, where "" is UTC.
//
// It takes what all schedulers understand in the same way, and so refuses what only some of them know: @every, seconds, TZ=, "?", and steps
// without an end such as 5/15.
func ParseSchedule(expression, zone string) (*Schedule, error) {
	location, err := parseZone(zone)
	if err != nil {
		return nil, fmt.Errorf("time zone %w", err)
	}
	spec, fields, err := parseCron(expression)
	if err != nil {
		return nil, fmt.Errorf("cron expression %w", err)
	}
	spec.Location = location
	return &Schedule{expression: fields, location: location, spec: spec}, nil
}

// parseZone returns the location of an IANA name.
func parseZone(zone string) (*time.Location, error) {
	location, err := time.LoadLocation(zone) // "" is UTC
	if err != nil || zone == "Local" {       // which is another one on each machine
		return nil, fmt.Errorf("%q must be a name of the IANA database such as Europe/Berlin", zone)
	}
	return location, nil
}

// parseCron returns an expression as five fields, and what they mean in UTC.
func parseCron(expression string) (*cron.SpecSchedule, string, error) {
	fields := strings.Join(strings.Fields(expression), " ")
	if long, ok := shorthands[strings.ToLower(fields)]; ok {
		fields = long
	}
	switch {
	case strings.Count(fields, " ") != 4 || !cronCharacters.MatchString(fields):
		return nil, "", fmt.Errorf("%q must be five fields, minute hour day month weekday, such as 0 3 * * *, or one of @hourly, @daily, @weekly, @monthly, @yearly", expression)
	case openStep.MatchString(fields):
		return nil, "", fmt.Errorf("%q has a step without its range: write 5-59/15 for 5/15, say", expression)
	}
	parsed, err := cron.ParseStandard(fields)
	if err != nil {
		return nil, "", fmt.Errorf("%q: %w", expression, err)
	}
	spec := parsed.(*cron.SpecSchedule) // of five fields, it is nothing else
	spec.Location = time.UTC
	if spec.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, "", fmt.Errorf("%q is never: there is no such day", expression)
	}
	return spec, fields, nil
}

// Expression returns the five fields.
func (s *Schedule) Expression() string { return s.expression }

// Zone returns the name of the time zone.
func (s *Schedule) Zone() string { return s.location.String() }

// Location returns the time zone.
func (s *Schedule) Location() *time.Location { return s.location }

// Next returns the first tick after t, in UTC. In an hour that there is twice, since clocks are set back, a schedule with fixed hours has its ticks
// once; in one that there is not, it has none.
func (s *Schedule) Next(t time.Time) time.Time {
	for {
		next := s.spec.Next(t.In(s.location))
		if next.IsZero() {
			return next
		}
		if !s.again(next) {
			return next.UTC()
		}
		t = next
	}
}

// anyHour is the bit by which package cron notes that a field is *.
const anyHour = 1 << 63

// again tells whether the clocks on the wall have shown this time before, and the schedule names the hour.
func (s *Schedule) again(t time.Time) bool {
	if s.spec.Hour&anyHour != 0 {
		return false
	}
	for _, back := range []time.Duration{30 * time.Minute, time.Hour} {
		before := t.Add(-back)
		if before.Hour() == t.Hour() && before.Minute() == t.Minute() && before.Day() == t.Day() {
			return true
		}
	}
	return false
}

// Latest returns the last tick at or before t, in UTC; the zero time where there is none in the ten years before.
func (s *Schedule) Latest(t time.Time) time.Time {
	for back := time.Minute; back < 10*366*24*time.Hour; back *= 2 {
		first := s.Next(t.Add(-back - time.Nanosecond))
		if first.IsZero() || first.After(t) {
			continue
		}
		for next := s.Next(first); !next.IsZero() && !next.After(t); next = s.Next(first) {
			first = next
		}
		return first
	}
	return time.Time{}
}

// Between returns the ticks after from, up to to and with it, in their order, and at most limit of them, the last ones: more says how many
// are left out.
func (s *Schedule) Between(from, to time.Time, limit int) (ticks []time.Time, more int) {
	for t := s.Next(from); !t.IsZero() && !t.After(to); t = s.Next(t) {
		ticks = append(ticks, t)
		if len(ticks) >= 2*limit+1000 { // what is kept is bounded, however long the time
			more += len(ticks) - limit
			ticks = append(ticks[:0], ticks[len(ticks)-limit:]...)
		}
	}
	if left := len(ticks) - limit; left > 0 {
		return ticks[left:], more + left
	}
	return ticks, more
}

// IsTick tells whether t is one.
func (s *Schedule) IsTick(t time.Time) bool { return s.Next(t.Add(-time.Nanosecond)).Equal(t) }
