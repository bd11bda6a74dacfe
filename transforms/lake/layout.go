package lake

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Window is the span of event time that one partition holds: a part of a day, a day, or a month.
type Window struct {
	span  time.Duration // up to 24 h
	month bool
}

// Hour is the window of a partition by default; Day is that of dead letters.
var (
	Hour = Window{span: time.Hour}
	Day  = Window{span: 24 * time.Hour}
)

// ParseWindow reads a window: a duration that divides 24h in whole minutes, "day" or "month".
func ParseWindow(s string) (Window, error) {
	switch s {
	case "month":
		return Window{month: true}, nil
	case "day":
		return Window{span: 24 * time.Hour}, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Minute || (24*time.Hour)%d != 0 || d%time.Minute != 0 {
		return Window{}, fmt.Errorf("window is %q; it must be a duration of whole minutes that divides 24h, such as 15m, 1h or 24h, or day, or month", s)
	}
	return Window{span: d}, nil
}

func (w Window) String() string {
	switch {
	case w.month:
		return "month"
	case w.span == 24*time.Hour:
		return "day"
	}
	if w.span%time.Hour == 0 {
		return fmt.Sprintf("%dh", w.span/time.Hour)
	}
	return fmt.Sprintf("%dm", w.span/time.Minute)
}

// bucket numbers the partition of an event time in microseconds since 1970. The zero Window holds all time in one.
func (w Window) bucket(micros int64) int64 {
	if w == (Window{}) {
		return 0
	}
	if w.month {
		t := time.UnixMicro(micros).UTC()
		return int64(t.Year())*12 + int64(t.Month()) - 1
	}
	n := w.span.Microseconds()
	if micros < 0 {
		return (micros - n + 1) / n
	}
	return micros / n
}

// Bounds returns the first instant of the partition of an event time, in microseconds since 1970, and the first after it.
func (w Window) Bounds(micros int64) (start, end time.Time) { return w.bounds(w.bucket(micros)) }

// Folder returns the folder of the partition that begins at a time, within its table.
func (w Window) Folder(start time.Time) string { return w.folder(w.bucket(start.UnixMicro())) }

// bounds returns the first instant of a partition and the first after it.
func (w Window) bounds(bucket int64) (start, end time.Time) {
	if w.month {
		start = time.Date(int(bucket/12), time.Month(bucket%12+1), 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	}
	start = time.UnixMicro(bucket * w.span.Microseconds()).UTC()
	return start, start.Add(w.span)
}

// folder returns the folder of a partition within its table: dt=2026-11-22/hour=14 and the like.
func (w Window) folder(bucket int64) string {
	start, _ := w.bounds(bucket)
	switch {
	case w.month:
		return start.Format("month=2006-01")
	case w.span == 24*time.Hour:
		return start.Format("dt=2006-01-02")
	case w.span%time.Hour == 0:
		return start.Format("dt=2006-01-02/hour=15")
	}
	return start.Format("dt=2006-01-02/hour=15/minute=04")
}

// Slot is where a row belongs: a table, a partition of event time, and one of its shards. Rows of one slot are written
// one after the other; those of different slots have nothing to do with each other.
type Slot struct {
	Table  string
	Bucket int64
	Shard  int
}

// Key returns the slot as a key for a shuffle.
func (s Slot) Key() string {
	return s.Table + "|" + strconv.FormatInt(s.Bucket, 10) + "|" + strconv.Itoa(s.Shard)
}

// ParseKey reads what Key wrote.
func ParseKey(key string) (Slot, error) {
	parts := strings.Split(key, "|")
	if len(parts) == 3 {
		bucket, err1 := strconv.ParseInt(parts[1], 10, 64)
		shard, err2 := strconv.Atoi(parts[2])
		if err1 == nil && err2 == nil {
			return Slot{Table: parts[0], Bucket: bucket, Shard: shard}, nil
		}
	}
	return Slot{}, fmt.Errorf("%q is not the key of a slot", key)
}

// fileName returns the name of file number seq of a shard.
func fileName(shard, shards, seq int) string {
	return fmt.Sprintf("part-%05d-of-%05d-%06d.parquet", shard, shards, seq)
}

// parseFileName reads what fileName wrote.
func parseFileName(name string) (shard, shards, seq int, ok bool) {
	if n, err := fmt.Sscanf(name, "part-%d-of-%d-%d.parquet", &shard, &shards, &seq); err != nil || n != 3 {
		return 0, 0, 0, false
	}
	return shard, shards, seq, shard >= 0 && seq >= 0 && name == fileName(shard, shards, seq)
}

// successName marks a partition that is complete: the watermark passed its end and the grace period.
const successName = "_SUCCESS"
