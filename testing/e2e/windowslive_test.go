package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
	"backbone/testing/pubsubserver"
	"backbone/transforms/windows"
)

// paneOf is what the rows of a result say of it.
type paneOf struct {
	Revision int64  `parquet:"revision"`
	Timing   string `parquet:"pane"`
}

// panes returns the results of windows in a table, by their file names without dates and endings; of a window that is live, the latest.
func (w *world) panes(table string) map[string]paneOf {
	w.Helper()
	paths, err := filepath.Glob(filepath.Join(w.lake, table, "dt=*", "*.parquet"))
	if err != nil {
		w.Fatal(err)
	}
	all := map[string]paneOf{}
	for _, path := range paths { // by revision
		rows, err := parquet.ReadFile[paneOf](path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			w.Fatalf("%s: %v", path, err)
		}
		if len(rows) > 0 { // it may have had some before
			name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".parquet"), "-r")
			all[name] = rows[0]
		}
	}
	return all
}

// untilPane waits until the latest result of a window is of a kind, and newer than a revision. It returns its revision.
func (w *world) untilPane(table string, hour int, timing string, after int64) (revision int64) {
	w.Helper()
	name := hourOf(hour, 0).Format("20060102T150405Z") + "-1h"
	until(w.T, fmt.Sprintf("the result %s of %s is %s, and newer than %d", name, table, timing, after), func() bool {
		pane := w.panes(table)[name]
		revision = pane.Revision
		return pane.Timing == timing && revision > after
	})
	return revision
}

// A window is computed early while it is open, on time when the watermark passes its end, and late when events come after that. When
// it is settled, none of this is left.
func TestLiveWindows(t *testing.T) {
	slow(t)
	w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
	w.startBroker(pubsubserver.Options{})
	// Only events move the watermark.
	args := append([]string{"--windows", "1h", "--early", "1s", "--grace", "10m", "--disorder", "1s", "--idle", "10m"}, aggregate...)
	stream := w.startStream(args...)
	live := func(hour int, timing string, after int64) (revision int64) {
		t.Helper()
		revision = w.untilPane("trending_live", hour, timing, after)
		w.untilPane("funnel_live", hour, timing, after)
		return revision
	}
	w.publishAll(viewBy("ann", hourOf(10, 1), "cup"), viewBy("bob", hourOf(10, 2), "cup"))
	first := live(10, schemas.PaneEarly, 0)
	w.publishAll(viewBy("ann", hourOf(10, 31), "tea"), viewBy("ann", hourOf(10, 32), "pot"))
	second := live(10, schemas.PaneEarly, first)

	w.publishAll(viewBy("bob", hourOf(11, 5), "tea")) // the first hour is over
	onTime := live(10, schemas.PaneOnTime, second)
	live(11, schemas.PaneEarly, 0)
	if all := w.panes("sessions_live"); len(all) > 0 {
		t.Errorf("there are sessions that may not be over: %v", all)
	}
	w.publishAll(viewBy("eve", hourOf(10, 40), "tea"), viewBy("eve", hourOf(10, 41), "cup"))
	late := live(10, schemas.PaneLate, onTime)
	if all := w.panes("trending"); len(all) > 0 {
		t.Errorf("%v are settled", all)
	}

	w.publishAll(viewBy("bob", hourOf(11, 35), "cup")) // it is settled, but for its sessions, which had until 11:30 and have until 11:40
	w.untilPane("trending", 10, schemas.PaneSettled, late-1)
	w.untilPane("funnel", 10, schemas.PaneSettled, late-1)
	w.untilPane("sessions_live", 10, schemas.PaneOnTime, 0)
	w.untilPane("co_occurrence_live", 10, schemas.PaneOnTime, 0)
	w.publishAll(viewBy("bob", hourOf(11, 45), "cup"))
	for _, table := range windows.Tables {
		w.untilPane(table, 10, schemas.PaneSettled, 0)
		until(t, "its live results are gone", func() bool {
			_, there := w.panes(table + "_live")[hourOf(10, 0).Format("20060102T150405Z")+"-1h"]
			return !there
		})
	}
	stream.drain()

	// What is open when a stream ends is settled by the next one, once it is over.
	w.settleStream(w.startStream(append(settleSoon, "--windows", "1h")...))
	report := w.windowsWith("1h")
	if !report.OK() {
		t.Errorf("the windows are not those of the model: %v", report)
	}
	for name, live := range report.Live {
		if len(live.Revisions) > 0 {
			t.Errorf("%s has live results: %v", name, live)
		}
	}
}

// Events that come when their windows are settled have the results replaced, by ones with a greater revision, and no others.
func TestEventsAfterWindowsAreSettled(t *testing.T) {
	slow(t)
	w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
	w.startBroker(pubsubserver.Options{})
	reader := startWindowsReader(t, w.lake)
	stream := w.startStream(append(settleSoon, "--windows", "1h")...)
	w.publishAll(
		viewBy("ann", hourOf(10, 10), "cup"), viewBy("ann", hourOf(10, 15), "tea"), viewBy("ann", hourOf(10, 46), "pot"), // two sessions
		viewBy("bob", hourOf(11, 50), "cup"), viewBy("bob", hourOf(12, 25), "tea"), // two more, which end in two hours
		viewBy("eve", hourOf(14, 10), "cup"), viewBy("eve", hourOf(14, 15), "tea"),
	)
	w.untilSettled(stream)
	sessions := func() (rows int) {
		t.Helper()
		report := w.windowsWith("1h")
		if !report.OK() {
			t.Errorf("the windows are not those of the model: %v", report)
		}
		for name, live := range report.Live {
			if len(live.Revisions) > 0 {
				t.Errorf("%s has live results: %v", name, live)
			}
		}
		return report.Tables["sessions"].Rows
	}
	if n := sessions(); n != 5 {
		t.Errorf("there are %d sessions, want 5", n)
	}
	before := map[string]map[string]paneOf{}
	for _, table := range windows.Tables {
		before[table] = maps.Clone(w.panes(table))
	}

	w.publishAll(viewBy("ann", hourOf(10, 30), "cup"), viewBy("bob", hourOf(12, 10), "pot"))
	w.untilSettled(stream)
	if n := sessions(); n != 3 {
		t.Errorf("there are %d sessions, want 3: two pairs of them were joined", n)
	}
	for _, table := range windows.Tables {
		after := w.panes(table)
		for name, was := range before[table] {
			now := after[name]
			hour, err := time.Parse("20060102T150405Z-1h", name)
			if err != nil {
				t.Fatal(err)
			}
			switch h := hour.Hour(); {
			case h == 14 && now != was:
				t.Errorf("%s of %s was %v, is %v, and has no new event", name, table, was, now)
			case (h == 10 || h == 12) && now.Revision <= was.Revision:
				t.Errorf("%s of %s has revision %d, and had %d", name, table, now.Revision, was.Revision)
			}
		}
	}
	stream.drain()
	reader.end()
	if reader.gone == 0 {
		t.Error("the reader has seen no file that was replaced")
	}
}
