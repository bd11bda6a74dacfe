package e2e

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"backbone/schemas"
	"backbone/testing/generator"
	"backbone/testing/ledger"
)

// day is a generated day: events in files, and the truth about them.
type day struct {
	options generator.Options
	dir     string // with the truth
	total   generator.Summary
	want    *hashes // of the lake; nil as long as nobody has asked
}

// hashes are of what both tables hold.
type hashes struct{ rows, deadLetters ledger.Hash }

// quarters is over how many files a day is spread.
const quarters = 4

var days struct {
	sync.Mutex
	made map[int]*day
}

// dayOf returns the day of so many events, which is made once.
func dayOf(t *testing.T, events int) *day {
	t.Helper()
	days.Lock()
	defer days.Unlock()
	if d := days.made[events]; d != nil {
		return d
	}
	// 1 % repeated, 0.5 % broken, 2 % late: the generator's defaults.
	d := &day{options: generator.Options{Events: events, Seed: 1, Files: quarters}, dir: filepath.Join(scratch, fmt.Sprintf("day-%d", events))}
	g, err := generator.New(d.options)
	if err != nil {
		t.Fatal(err)
	}
	if d.total, err = g.WriteFiles(t.Context(), d.dir); err != nil {
		t.Fatal(err)
	}
	if d.total.Repeated == 0 || d.total.Broken == 0 || d.total.Late == 0 {
		t.Fatalf("the day has not all that it needs: %+v", d.total)
	}
	if days.made == nil {
		days.made = map[int]*day{}
	}
	days.made[events] = d
	return d
}

// files is the glob of all files of the day.
func (d *day) files() string { return filepath.Join(d.dir, generator.EventsDir, "part-*.jsonl") }

// quarter is one of its files: what arrives in one quarter of the day.
func (d *day) quarter(n int) string {
	return filepath.Join(d.dir, generator.EventsDir, fmt.Sprintf("part-%04d.jsonl", n))
}

// brokenIn counts the broken events of a quarter.
func (d *day) brokenIn(t *testing.T, quarter int) int {
	t.Helper()
	n, broken := 0, 0
	from, to := d.total.Events*quarter/quarters, d.total.Events*(quarter+1)/quarters
	err := generator.ReadTruth(d.dir, func(truth *generator.Truth) error {
		if n >= from && n < to && truth.Verdict == generator.Broken.String() {
			broken++
		}
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return broken
}

// hash returns the hashes of a lake's tables.
func hash(t *testing.T, lake string) hashes {
	t.Helper()
	var h hashes
	var err error
	if h.rows, err = ledger.RowHash(t.Context(), lake, schemas.Interactions.Name); err != nil {
		t.Fatal(err)
	}
	if h.deadLetters, err = ledger.DeadLetterHash(t.Context(), lake); err != nil {
		t.Fatal(err)
	}
	return h
}

// wanted returns the hashes that the lake of the day must have, however the day came there: those of a lake that one
// run makes of its files.
func (d *day) wanted(t *testing.T) hashes {
	t.Helper()
	if d.want == nil {
		lake := filepath.Join(t.TempDir(), "lake")
		runCommand(t, "the run to compare with", "interactions", "--input", d.files(), "--lake", lake, "--spill_dir", t.TempDir())
		h := hash(t, lake)
		d.want = &h
	}
	return *d.want
}
