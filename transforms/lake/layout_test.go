package lake

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseWindow(t *testing.T) {
	for _, tc := range []struct {
		text string
		want string // how it is written; empty: refused
	}{
		{"1h", "1h"},
		{"60m", "1h"},
		{"1m", "1m"},
		{"10m", "10m"},
		{"15m", "15m"},
		{"30m", "30m"},
		{"90m", "90m"},
		{"1h30m", "90m"},
		{"2h40m", "160m"},
		{"12h", "12h"},
		{"24h", "day"},
		{"1440m", "day"},
		{"day", "day"},
		{"month", "month"},

		{"", ""},
		{"0", ""},
		{"0s", ""},
		{"-1h", ""},
		{"7h", ""},    // days would not begin with a partition
		{"48h", ""},   // a partition belongs to one day
		{"30s", ""},   // folders name minutes
		{"1m30s", ""}, // divides 24h, but not in whole minutes
		{"hour", ""},
		{"Day", ""},
		{"1h ", ""},
	} {
		t.Run(tc.text, func(t *testing.T) {
			w, err := ParseWindow(tc.text)
			if (err == nil) != (tc.want != "") {
				t.Fatalf("ParseWindow(%q) = %v, %v", tc.text, w, err)
			}
			if err == nil && w.String() != tc.want {
				t.Errorf("ParseWindow(%q) is written %q, want %q", tc.text, w, tc.want)
			}
		})
	}
}

func TestFolder(t *testing.T) {
	for _, tc := range []struct{ window, time, want string }{
		{"1h", "2026-11-22T14:59:59.999999Z", "dt=2026-11-22/hour=14"},
		{"1h", "2026-11-22T15:00:00Z", "dt=2026-11-22/hour=15"},
		{"1h", "2026-11-22T01:30:00+02:00", "dt=2026-11-21/hour=23"},
		{"6h", "2026-11-22T17:59:59Z", "dt=2026-11-22/hour=12"},
		{"15m", "2026-11-22T14:44:59Z", "dt=2026-11-22/hour=14/minute=30"},
		{"90m", "2026-11-22T14:29:59Z", "dt=2026-11-22/hour=13/minute=30"},
		{"day", "2024-02-29T23:59:59Z", "dt=2024-02-29"},
		{"month", "2024-02-29T23:59:59Z", "month=2024-02"},
		{"month", "2025-01-01T00:00:00Z", "month=2025-01"},
		{"1h", "1969-12-31T23:59:59.999999Z", "dt=1969-12-31/hour=23"},
		{"day", "1969-12-31T00:00:00Z", "dt=1969-12-31"},
		{"month", "1969-12-31T00:00:00Z", "month=1969-12"},
	} {
		t.Run(tc.window+" "+tc.time, func(t *testing.T) {
			w, err := ParseWindow(tc.window)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.folder(w.bucket(micros(t, tc.time))); got != tc.want {
				t.Errorf("folder is %q, want %q", got, tc.want)
			}
		})
	}
}

func micros(t testing.TB, rfc3339 string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, rfc3339)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMicro()
}

// windows draws any window that there is.
func windows() *rapid.Generator[Window] {
	all := []Window{{month: true}}
	for d := time.Minute; d <= 24*time.Hour; d += time.Minute {
		if (24*time.Hour)%d == 0 {
			all = append(all, Window{span: d})
		}
	}
	return rapid.SampledFrom(all)
}

// The years that a folder can name.
const (
	year1    = -62_135_596_800_000_000 // 0001-01-01 in microseconds
	year9999 = 253_402_300_799_999_999
)

func TestWindowIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windows().Draw(t, "window")
		if got, err := ParseWindow(w.String()); err != nil || got != w {
			t.Fatalf("%q is read as %q, %v", w, got, err)
		}
	})
}

// Partitions follow each other without a gap, each time lies in its own, and no two share a folder.
func TestPartitionsDivideTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windows().Draw(t, "window")
		at := rapid.Int64Range(year1, year9999).Draw(t, "micros")
		b := w.bucket(at)
		start, end := w.bounds(b)
		if at < start.UnixMicro() || at >= end.UnixMicro() {
			t.Fatalf("%v is in the partition from %v to %v", time.UnixMicro(at).UTC(), start, end)
		}
		if first, last := w.bucket(start.UnixMicro()), w.bucket(end.UnixMicro()-1); first != b || last != b {
			t.Fatalf("partition %d begins in %d and ends in %d", b, first, last)
		}
		if next, _ := w.bounds(b + 1); !next.Equal(end) {
			t.Fatalf("partition %d ends at %v, the next begins at %v", b, end, next)
		}
		if w.folder(b) >= w.folder(b+1) && end.UnixMicro() <= year9999 {
			t.Fatalf("folder %q comes before %q", w.folder(b), w.folder(b+1))
		}
	})
}

func TestKeyIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Slot{
			Table:  rapid.SampledFrom([]string{"interactions", "dead_letters"}).Draw(t, "table"),
			Bucket: rapid.Int64().Draw(t, "bucket"),
			Shard:  rapid.IntRange(0, 999).Draw(t, "shard"),
		}
		if got, err := ParseKey(s.Key()); err != nil || got != s {
			t.Fatalf("%q is read as %+v, %v", s.Key(), got, err)
		}
	})
}

func TestParseKeyRefuses(t *testing.T) {
	for _, key := range []string{"", "interactions", "interactions|1", "interactions|x|0", "interactions|1|x", "interactions|1|0|0", "interactions|9223372036854775808|0"} {
		if got, err := ParseKey(key); err == nil {
			t.Errorf("ParseKey(%q) = %+v, want an error", key, got)
		}
	}
}

func TestFileNameIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 1000).Draw(t, "shards")
		shard := rapid.IntRange(0, shards-1).Draw(t, "shard")
		seq := rapid.IntRange(0, 2_000_000).Draw(t, "seq")
		name := fileName(shard, shards, seq)
		if gotShard, gotShards, gotSeq, ok := parseFileName(name); !ok || gotShard != shard || gotShards != shards || gotSeq != seq {
			t.Fatalf("%q is read as %d, %d, %d, %v", name, gotShard, gotShards, gotSeq, ok)
		}
	})
}

// Only names that fileName writes are those of files.
func TestParseFileNameRefuses(t *testing.T) {
	if got, want := fileName(3, 16, 42), "part-00003-of-00016-000042.parquet"; got != want {
		t.Errorf("fileName is %q, want %q", got, want)
	}
	for _, name := range []string{
		"", successName, layoutName, "part-3-of-16-42.parquet", "part-00003-of-00016-000042.parquet.tmp",
		"x-part-00003-of-00016-000042.parquet", "part-00003-of-00016-.parquet", "part--0003-of-00016-000042.parquet",
		"part-00003-of-00016--00042.parquet", "part-00003-of-00016-000042.csv",
	} {
		if shard, shards, seq, ok := parseFileName(name); ok {
			t.Errorf("%q is read as %d, %d, %d", name, shard, shards, seq)
		}
	}
}
