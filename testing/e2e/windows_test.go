package e2e

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"backbone/schemas"
	"backbone/testing/generator"
	"backbone/testing/pubsubserver"
	"backbone/testing/windowmodel"
	"backbone/transforms/lake/store"
)

// aggregate has all results of windows computed.
var aggregate = []string{"--aggregate", "sessions,trending,funnel,co_occurrence"}

// settleSoon is for streams: the day lies months back, so that all windows are settled once the subscription is silent.
var settleSoon = append(slices.Clip(aggregate), "--early", "1s", "--grace", "1s", "--idle", "2s")

// windowEvents is the size of a day whose windows are computed again and again.
func windowEvents() int { return *eventsFlag / 6 }

// emptyLake is a world with a lake of its own on the local disk.
func emptyLake(t *testing.T, d *day) *world {
	t.Helper()
	return &world{T: t, day: d, lake: filepath.Join(t.TempDir(), "lake"), rand: seeded(t)}
}

// settleStream waits until a stream has taken all that was published and settled all windows of it, and drains it.
func (w *world) settleStream(stream *job, others ...*job) {
	w.Helper()
	w.untilSettled(append(others, stream)...)
	stream.drain()
}

// untilSettled waits until all that was published is acknowledged, and all windows of it are settled.
func (w *world) untilSettled(streams ...*job) {
	w.Helper()
	w.untilAllAcked(streams...)
	st := w.openStore()
	defer func() {
		if w.Failed() {
			w.Logf("not settled: %q", w.unsettled(st))
		}
	}()
	until(w.T, "all windows are settled", func() bool {
		for _, j := range streams {
			if !j.running() {
				w.Fatalf("%s has ended by itself", j.name)
			}
		}
		return len(w.unsettled(st)) == 0
	})
}

func (w *world) openStore() *store.Store {
	w.Helper()
	st, err := store.Open(w.Context(), w.lake)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := st.Close(); err != nil {
			w.Error(err)
		}
	})
	return st
}

// unsettled returns the partitions of interactions without a mark that says that the windows of all their files are settled.
func (w *world) unsettled(st *store.Store) (folders []string) {
	w.Helper()
	files, settled := map[string]int{}, map[string]int{}
	for entry, err := range st.List(w.Context(), schemas.Interactions.Name+"/") {
		if err != nil {
			w.Fatal(err)
		}
		folder, name := path.Split(entry.Key)
		switch {
		case strings.HasSuffix(name, ".parquet"):
			files[folder]++
		case strings.HasPrefix(name, "_windows-"):
			n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
			if err != nil {
				w.Fatal(err)
			}
			settled[folder] = max(settled[folder], n)
		}
	}
	for folder, n := range files {
		if settled[folder] != n {
			folders = append(folders, folder)
		}
	}
	return folders
}

// windowsAreTheModel compares the tables of windows with the model, and returns their hash. None has a live result left.
func (w *world) windowsAreTheModel() string {
	w.Helper()
	report := w.windows()
	if !report.OK() {
		w.Errorf("the windows are not those of the model: %v", report)
	}
	for name, live := range report.Live {
		if live.Settled > 0 {
			w.Errorf("%d windows of %s are settled, and live too", live.Settled, name)
		}
	}
	if report.Events == 0 || report.Tables[schemas.CoOccurrences.Name].Rows == 0 {
		w.Errorf("there is nothing to compare: %v", report)
	}
	return report.Hash
}

// windows compares the tables of windows with the model.
func (w *world) windows() *windowmodel.Report {
	w.Helper()
	return w.windowsWith("1h,24h/1h")
}

// windowsWith does that for a run that has other windows than the default ones.
func (w *world) windowsWith(list string) *windowmodel.Report {
	w.Helper()
	windows, err := windowmodel.ParseWindows(list)
	if err != nil {
		w.Fatal(err)
	}
	report, err := windowmodel.Check(w.Context(), windowmodel.Options{Lake: w.lake, Settings: windowmodel.Settings{Windows: windows}})
	if err != nil {
		w.Fatal(err)
	}
	return report
}

// shuffled returns all events of the day in disorder, every tenth of them again. Broken ones are there once: each message that is
// broken has its dead letter.
func (w *world) shuffled() (all [][]byte) {
	w.Helper()
	var broken []bool
	err := generator.ReadTruth(w.dir, func(truth *generator.Truth) error {
		broken = append(broken, truth.Verdict == generator.Broken.String())
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	all = w.lines()
	for range len(all) / 10 {
		if n := w.rand.IntN(len(broken)); !broken[n] {
			all = append(all, all[n])
		}
	}
	w.rand.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all
}

// publishAll publishes events to the topic of all stories.
func (w *world) publishAll(events ...[]byte) {
	w.Helper()
	w.publish(topic, func(add func([]byte)) {
		for _, e := range events {
			add(e)
		}
	})
}

// lines returns all events of the day, as they arrive.
func (w *world) lines() (all [][]byte) {
	w.Helper()
	for n := range quarters {
		file, err := os.Open(w.quarter(n))
		if err != nil {
			w.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			all = append(all, slices.Clone(lines.Bytes()))
		}
		if err := lines.Err(); err != nil {
			w.Fatal(err)
		}
		_ = file.Close() // only read
	}
	return all
}

// However the events of a day come, the windows are the same.
func TestWindowsAreTheSame(t *testing.T) {
	day := dayOf(t, *eventsFlag)
	batch := emptyLake(t, day)
	batch.start(batch.files(), aggregate...).finish()
	batch.isTheTruth(0)
	want := batch.windowsAreTheModel()
	for _, test := range []struct {
		name string
		tell func(w *world)
	}{
		{"Stream", func(w *world) {
			w.startBroker(pubsubserver.Options{})
			stream := w.startStream(settleSoon...)
			w.startPublishing(0).wantExit(0)
			w.settleStream(stream)
		}},
		{"StreamInDisorder", func(w *world) {
			w.startBroker(pubsubserver.Options{})
			stream := w.startStream(settleSoon...)
			all := w.shuffled()
			for part := range slices.Chunk(all, len(all)/4+1) {
				w.publishAll(part...)
				time.Sleep(time.Second) // by then windows are over, and settled; what comes after that is late
			}
			w.settleStream(stream)
		}},
		// What comes second is late: the results of windows that are settled are replaced.
		{"Halves", func(w *world) {
			w.start(w.quarter(1)+","+w.quarter(3), aggregate...).finish()
			w.start(w.quarter(0)+","+w.quarter(2), aggregate...).finish()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := emptyLake(t, day)
			test.tell(w)
			w.isTheTruth(0)
			if got := w.windowsAreTheModel(); got != want {
				t.Errorf("the windows have hash %s, want %s as in a batch", got, want)
			}
		})
	}
}
