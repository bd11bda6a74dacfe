package audit

import (
	"fmt"
	"time"
)

// window is the span of time that one partition holds.
type window struct {
	span   time.Duration // 0: a month
	layout string        // of the folder, as package time has it
}

// parseWindow reads a window as the table's layout has it: month, day, or a duration of whole minutes that divides a day.
func parseWindow(s string) (window, error) {
	if s == "month" {
		return window{layout: "month=2006-01"}, nil
	}
	const day = 24 * time.Hour
	w := window{span: day}
	if s != "day" {
		var err error
		if w.span, err = time.ParseDuration(s); err != nil || w.span < time.Minute || day%w.span != 0 || w.span%time.Minute != 0 {
			return window{}, fmt.Errorf("window %q is neither month, day, nor a duration of whole minutes that divides 24h", s)
		}
	}
	switch {
	case w.span == day:
		w.layout = "dt=2006-01-02"
	case w.span%time.Hour == 0:
		w.layout = "dt=2006-01-02/hour=15"
	default:
		w.layout = "dt=2006-01-02/hour=15/minute=04"
	}
	return w, nil
}

// partition returns the first microsecond of a partition, and the first after it.
func (w window) partition(folder string) (start, end int64, err error) {
	t, err := time.Parse(w.layout, folder)
	if err != nil || t.Format(w.layout) != folder {
		return 0, 0, fmt.Errorf("a partition of this table is called %q", w.layout)
	}
	if w.span == 0 {
		return t.UnixMicro(), t.AddDate(0, 1, 0).UnixMicro(), nil
	}
	if t.UnixMicro()%w.span.Microseconds() != 0 {
		return 0, 0, fmt.Errorf("a partition of this table holds %v, and begins at a multiple of that", w.span)
	}
	return t.UnixMicro(), t.Add(w.span).UnixMicro(), nil
}
