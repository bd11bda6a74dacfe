package launch

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode"
)

// maxOption is how long the value of an option may be once its macros are filled in, in bytes.
const maxOption = 64 << 10

// moment is a time as macros write it.
type moment struct{ time.Time }

func (m moment) String() string { return m.Format(time.RFC3339) }

// tickData is what macros know of a run.
type tickData struct {
	Date string // of the tick in the time zone of the schedule, YYYY-MM-DD
	Time moment // the tick in the time zone of the schedule
	AsOf string // the tick in RFC 3339, in UTC
	Name string // of the launch

	previous func() (time.Time, error) // the tick of the success before, zero where there is none
}

func newTickData(name string, tick time.Time, location *time.Location, previous func() (time.Time, error)) *tickData {
	local := tick.In(location)
	return &tickData{
		Date: local.Format(time.DateOnly), Time: moment{local}, AsOf: tick.UTC().Format(time.RFC3339), Name: name,
		previous: func() (time.Time, error) {
			t, err := previous()
			if err != nil || t.IsZero() {
				return time.Time{}, err
			}
			return t.In(location), nil
		},
	}
}

// HasPrevious tells whether there is a success before this tick.
func (d *tickData) HasPrevious() (bool, error) {
	t, err := d.previous()
	return !t.IsZero(), err
}

// Previous returns the tick of the success before this one. It is an error where there is none: a time that nobody has meant must not get
// into a path.
func (d *tickData) Previous() (moment, error) {
	t, err := d.previous()
	if err == nil && t.IsZero() {
		err = errors.New("there is no success before this tick: write {{ .PreviousOr (addDays -1 .Time) }} or {{ if .HasPrevious }}")
	}
	return moment{t}, err
}

// PreviousOr is Previous, or another time where there is none.
func (d *tickData) PreviousOr(other any) (moment, error) {
	t, err := d.previous()
	if err != nil || !t.IsZero() {
		return moment{t}, err
	}
	return d.at(other)
}

// at returns a time that a macro was given: one of ours, or a text.
func (d *tickData) at(t any) (moment, error) {
	switch t := t.(type) {
	case moment:
		return t, nil
	case string:
		for _, layout := range []string{time.DateOnly, time.RFC3339} {
			if parsed, err := time.ParseInLocation(layout, t, d.Time.Location()); err == nil {
				return moment{parsed}, nil
			}
		}
		return moment{}, fmt.Errorf("%q is no time such as 2026-11-22 or 2026-11-22T00:00:00Z", t)
	default:
		return moment{}, fmt.Errorf("%v is no time", t)
	}
}

// functions are the macros that take arguments: the time comes last.
func (d *tickData) functions() template.FuncMap {
	change := func(f func(time.Time) time.Time, t any) (moment, error) {
		m, err := d.at(t)
		return moment{f(m.Time)}, err
	}
	return template.FuncMap{
		"addDays": func(n int, t any) (moment, error) {
			return change(func(t time.Time) time.Time { return t.AddDate(0, 0, n) }, t)
		},
		"addMonths": func(n int, t any) (moment, error) {
			return change(func(t time.Time) time.Time { return t.AddDate(0, n, 0) }, t)
		},
		"add": func(duration string, t any) (moment, error) {
			by, err := time.ParseDuration(duration)
			if err != nil {
				return moment{}, err
			}
			return change(func(t time.Time) time.Time { return t.Add(by) }, t)
		},
		"startOfHour": func(t any) (moment, error) {
			return change(func(t time.Time) time.Time { // not of the clock's hour: zones may be half an hour apart
				return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
			}, t)
		},
		"startOfDay": func(t any) (moment, error) {
			return change(func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location()) }, t)
		},
		"startOfMonth": func(t any) (moment, error) {
			return change(func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, t.Location()) }, t)
		},
		"utc": func(t any) (moment, error) { return change(time.Time.UTC, t) },
		"date": func(t any) (string, error) {
			m, err := d.at(t)
			return m.Format(time.DateOnly), err
		},
		"format": func(layout string, t any) (string, error) {
			m, err := d.at(t)
			return m.Format(layout), err
		},
	}
}

// hasMacro tells whether a value is another at each tick.
func hasMacro(text string) bool { return strings.Contains(text, "{{") }

// fill fills the macros of a value in.
func (d *tickData) fill(text string) (string, error) {
	filled := text
	if hasMacro(text) {
		t, err := template.New("option").Option("missingkey=error").Funcs(d.functions()).Parse(text)
		if err != nil {
			return "", inMacro(err)
		}
		var b bounded
		if err := t.Execute(&b, d); err != nil {
			return "", inMacro(err)
		}
		filled = b.String()
	}
	if strings.ContainsFunc(filled, unicode.IsControl) {
		return "", errors.New("line breaks and other control characters are not allowed")
	}
	return filled, nil
}

// inMacro says what package template says without its own names.
func inMacro(err error) error {
	message := strings.TrimPrefix(err.Error(), "template: option:")
	if _, after, ok := strings.Cut(message, ": "); ok {
		message = after
	}
	message = strings.TrimPrefix(message, `executing "option" at `)
	return fmt.Errorf("macro: %s", message)
}

// bounded refuses to grow beyond maxOption.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOption {
		return 0, fmt.Errorf("the value is longer than %d bytes", maxOption)
	}
	return b.Buffer.Write(p)
}
