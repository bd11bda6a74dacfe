package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"backbone/testing/faults"
	"backbone/testing/objectservers"
	"backbone/testing/pubsubserver"
	"backbone/testing/windowmodel"
)

// windowStories are what happens to the day when windows are computed of it. Each ends with the windows of the model, and a lake that
// is the truth; so many dead letters may be there twice.
var windowStories = []struct {
	name   string
	setups string // "all", or the only one
	tell   func(w *world) (deadTwice int)
}{
	{"StreamKilledAtRandom", "all", windowsKilledAtRandom},
	{"BatchKilledAtRandom", "all", windowsOfABatchKilledAtRandom},
	{"TwoStreamsAtOnce", "local", windowsOfTwoStreams},
	{"StreamAndBatchAtOnce", "local", windowsOfStreamAndBatch},
}

func TestWindowStories(t *testing.T) {
	slow(t)
	for _, setup := range setups {
		for _, story := range windowStories {
			if story.setups != "all" && story.setups != setup.name {
				continue
			}
			t.Run(fmt.Sprintf("store=%s/%s", setup.name, story.name), func(t *testing.T) {
				lake, heal := open(t, setup.serve)
				w := &world{T: t, day: dayOf(t, windowEvents()), lake: lake, heal: sync.OnceFunc(heal), rand: seeded(t)}
				end := func() {}
				if setup.serve == nil {
					end = startWindowsReader(t, lake).end
				}
				deadTwice := story.tell(w)
				w.heal()
				end()
				w.isTheTruth(deadTwice)
				w.windowsAreTheModel()
			})
		}
	}
}

// While messages flow, and until their windows are settled, the stream is killed at random moments.
func windowsKilledAtRandom(w *world) int {
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	publisher := w.startPublishing(w.options.Events / 15)
	kills := 0
	life := func(most time.Duration) {
		stream := w.startStream(settleSoon...)
		time.Sleep(time.Duration(w.rand.Int64N(int64(most))))
		if !stream.running() {
			w.Fatalf("%s has ended by itself", stream.name)
		}
		stream.kill()
		kills++
	}
	for publisher.running() {
		life(6 * time.Second)
	}
	publisher.wantExit(0)
	for range 2 { // the subscription is silent for two seconds before windows are settled, and rows wait for their commit
		life(8 * time.Second)
	}
	w.Logf("%d kills, %d partitions are not settled", kills, len(w.unsettled(w.openStore())))
	w.heal() // it takes many requests to settle a day
	w.settleStream(w.startStream(settleSoon...))
	return 0
}

// A batch is killed again and again, and once is not. What it was killed at is done by the last.
func windowsOfABatchKilledAtRandom(w *world) int {
	w.start(w.quarter(0)+","+w.quarter(2), aggregate...).finish() // so that results are replaced, too
	for range 5 {
		batch := w.start(w.files(), aggregate...)
		select {
		case <-time.After(time.Duration(w.rand.Int64N(int64(4 * time.Second)))):
		case <-batch.ended:
		}
		batch.kill()
	}
	w.heal()
	w.start(w.files(), aggregate...).finish()
	return 0
}

// Two launches of the same stream share the messages, and compute the same windows.
func windowsOfTwoStreams(w *world) int {
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	part := append([]string{"--max_outstanding", strconv.Itoa(w.options.Events / 10)}, settleSoon...)
	one, other := w.startStream(part...), w.startStream(part...)
	until(w.T, "both read", func() bool { return w.broker.stats().Streams == 2*runtime.GOMAXPROCS(0) })
	w.startPublishing(w.options.Events / 8).wantExit(0)
	w.untilSettled(one, other)
	first, second := one.drain(), other.drain()
	if first.Read == 0 || second.Read == 0 {
		w.Error("one of them has read all")
	}
	w.wantTogether(first, second)
	return 0
}

// The same events come through Pub/Sub and from files, and both compute the windows.
func windowsOfStreamAndBatch(w *world) int {
	w.startBroker(pubsubserver.Options{})
	stream := w.startStream(settleSoon...)
	publisher := w.startPublishing(w.options.Events / 8)
	w.start(w.files(), aggregate...).finish()
	publisher.wantExit(0)
	w.settleStream(stream)
	return w.total.Broken
}

// hourOf is a time of the day that events are written for by hand, which is over.
func hourOf(hour, minute int) time.Time {
	return time.Date(2026, time.March, 1, hour, minute, 0, 0, time.UTC)
}

// viewBy is an event of somebody who looks at an item.
func viewBy(user string, at time.Time, item string) []byte {
	return fmt.Appendf(nil, `{"event_id":"%s-%s","event_type":"view","event_time":%q,"user_id":%q,"item_id":%q}`, user, at.Format("150405"), at.Format(time.RFC3339), user, item)
}

// writeEvents makes an input file of events.
func writeEvents(t *testing.T, events ...[]byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(name, append(bytes.Join(events, []byte("\n")), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A run has committed a late event when it was killed, before anybody computed its windows, or when it had removed a result that
// it was about to replace. The next start finds that, without any message.
func TestWindowsThatAKillHasLeft(t *testing.T) {
	day := [][]byte{
		viewBy("ann", hourOf(10, 55), "kettle"), viewBy("ann", hourOf(11, 20), "cup"), viewBy("ann", hourOf(11, 45), "tea"), viewBy("ann", hourOf(12, 10), "pot"),
		viewBy("bob", hourOf(10, 5), "cup"), viewBy("bob", hourOf(12, 30), "tea"), viewBy("bob", hourOf(12, 40), "cup"),
		viewBy("eve", hourOf(13, 10), "tea"), viewBy("eve", hourOf(13, 15), "pot"),
	}
	for _, test := range []struct {
		name    string
		late    []byte
		removed []string
	}{
		{"BeforeAnything", viewBy("bob", hourOf(10, 10), "tea"), nil},
		// No session ended in the hour between.
		{"LongSession", viewBy("ann", hourOf(10, 30), "tea"), nil},
		{"Sessions", viewBy("bob", hourOf(12, 50), "pot"), []string{"sessions/dt=2026-03-01/20260301T120000Z-1h"}},
		// The session of the next hour begins earlier now.
		{"SessionsOfTheNextHour", viewBy("eve", hourOf(12, 50), "pot"), []string{"sessions/dt=2026-03-01/20260301T130000Z-1h"}},
		{"All", viewBy("eve", hourOf(12, 50), "pot"), []string{
			"sessions/dt=2026-03-01/20260301T120000Z-1h", "sessions/dt=2026-03-01/20260301T130000Z-1h",
			"co_occurrence/dt=2026-03-01/20260301T120000Z-1h", "co_occurrence/dt=2026-03-01/20260301T130000Z-1h",
			"trending/dt=2026-03-01/20260301T120000Z-1h", "trending/dt=2026-02-28/20260228T130000Z-24h", "funnel/dt=2026-03-01/20260301T120000Z-1h",
		}},
	} {
		for _, kind := range []string{"Stream", "Batch"} {
			t.Run(test.name+"/"+kind, func(t *testing.T) {
				if kind == "Stream" {
					slow(t)
				}
				t.Parallel()
				w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
				w.start(writeEvents(t, day...), aggregate...).finish()
				w.windowsAreTheModel()
				late := writeEvents(t, test.late)
				if s := w.start(late).finish(); s.Committed != 1 {
					t.Fatalf("the late event is not committed: %+v", s)
				}
				for _, key := range test.removed {
					if err := os.Remove(filepath.Join(w.lake, key+".parquet")); err != nil {
						t.Fatal(err)
					}
				}
				if kind == "Batch" {
					w.start(late, aggregate...).finish()
				} else {
					w.startBroker(pubsubserver.Options{})
					w.settleStream(w.startStream(settleSoon...))
				}
				w.windowsAreTheModel()
			})
		}
	}
}

// A run has committed a file when it is killed, so late that the next one has already looked for what is left to do. Its messages
// come again, and tell.
func TestWindowsOfAFileThatSomebodyElseCommits(t *testing.T) {
	slow(t)
	w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
	w.startBroker(pubsubserver.Options{})
	stream := w.startStream(settleSoon...)
	w.publishAll(viewBy("ann", hourOf(10, 10), "cup"), viewBy("ann", hourOf(10, 15), "tea"))
	w.untilSettled(stream)
	late := viewBy("bob", hourOf(10, 20), "pot")
	w.start(writeEvents(t, late)).finish()
	w.publishAll(late)
	w.settleStream(stream)
	w.windowsAreTheModel()
}

// results are the folders of a lake that hold results of windows.
var results = regexp.MustCompile(`/(sessions|trending|funnel|co_occurrence)(_live)?/`)

// A run has committed the data of messages, which are acknowledged, and is killed before it has committed anything else: a digest, a
// result, a mark. Nothing more comes, and the next start computes the windows.
func TestWindowsKilledAfterTheCommit(t *testing.T) {
	slow(t)
	lake, network := faults.InFront(t, objectservers.StartS3(t))
	w := &world{T: t, day: dayOf(t, windowEvents()), lake: lake, rand: seeded(t)}
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	for quarter := range quarters {
		network.HoldWhere(func(r *http.Request) bool {
			return r.Method == http.MethodPut && (results.MatchString(r.URL.Path) || strings.Contains(r.URL.Path, "/_windows-"))
		})
		stream := w.startStream(settleSoon...)
		w.publishFile(w.quarter(quarter))
		w.untilAllAcked(stream)
		stream.kill()
		network.Heal()
		if len(w.unsettled(w.openStore())) == 0 {
			t.Fatal("nothing was left undone")
		}
	}
	w.settleStream(w.startStream(settleSoon...))
	w.isTheTruth(0)
	w.windowsAreTheModel()
}

// A run is killed when it has removed a settled result, and before it makes the one that is to replace it. The next start does.
func TestWindowsKilledBetweenRemoveAndCreate(t *testing.T) {
	slow(t)
	lake, network := faults.InFront(t, objectservers.StartS3(t))
	w := &world{T: t, lake: lake, rand: seeded(t)}
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	var day [][]byte
	for hour := range 4 {
		for n := range 6 {
			day = append(day, viewBy(fmt.Sprintf("user-%d-%d", hour, n), hourOf(10+hour, 5+9*n), "cup"), viewBy(fmt.Sprintf("user-%d-%d", hour, n), hourOf(10+hour, 6+9*n), "tea"))
		}
	}
	stream := w.startStream(settleSoon...)
	w.publishAll(day...)
	w.untilSettled(stream)
	for n, table := range []string{"sessions", "co_occurrence"} {
		// What was removed is not made again.
		removed, held := map[string]bool{}, make(chan struct{})
		network.HoldWhere(func(r *http.Request) bool {
			key := r.URL.Path
			switch {
			case !strings.Contains(key, "/"+table+"/"):
			case r.Method == http.MethodDelete:
				removed[key] = true
			case r.Method == http.MethodPut && removed[key]:
				select {
				case <-held:
				default:
					close(held)
				}
				return true
			}
			return false
		})
		// One joins sessions, of the hour before and of its own.
		w.publishAll(viewBy("user-1-5", hourOf(12, 1+n), "pot"), viewBy("user-2-0", hourOf(12, 1+n), "pot"), viewBy("user-3-0", hourOf(12, 50+n), "pot"))
		select {
		case <-held:
		case <-time.After(patience):
			t.Fatalf("no result of %s was replaced", table)
		}
		w.untilAllAcked(stream)
		stream.kill()
		network.Heal()
		if report := w.windows(); report.Counts[windowmodel.WindowMissing] == 0 {
			t.Errorf("%s: no window is missing: %v", table, report)
		}
		stream = w.startStream(settleSoon...)
		w.untilSettled(stream)
		w.windowsAreTheModel()
	}
	stream.drain()
}
