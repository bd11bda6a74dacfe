package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"backbone/testing/pubsubserver"
)

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
