//go:build e2e

package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"backbone/testing/objectservers"
)

// Two task managers join a day to its contexts and compute its windows as one process does, in a lake of each kind. Their workers have the
// address and the credentials of a store from the environment of the task managers.
func TestFlinkContexts(t *testing.T) {
	slow(t)
	stores := []struct{ name, lake string }{
		{"local", filepath.Join(t.TempDir(), "lake")}, {"s3", objectservers.StartS3(t)}, {"gs", objectservers.StartGCS(t)},
	}
	shared := newFlinkWorld(t, 2)
	args := append(slices.Clip(aggregate), "--context", shared.contextsOf())
	direct := &world{T: t, day: shared.day, lake: filepath.Join(t.TempDir(), "lake")}
	want := direct.start(direct.files(), args...).finish()
	wantRows, wantWindows, wantLetters := joinedHash(t, direct.lake), direct.windowsAreTheModel(), hash(t, direct.lake).deadLetters

	for _, store := range stores {
		t.Run("store="+store.name, func(t *testing.T) {
			w := *shared
			w.world = &world{T: t, day: shared.day, lake: store.lake}
			flags := append(w.endpoint(), args...)
			w.wantCounts(w.submit(w.lake, flags...).finish(), summary{
				Outcome: "done", Read: want.Read, Committed: want.Committed, Duplicate: want.Duplicate, DeadLettered: want.DeadLettered,
			})
			if got := joinedHash(t, w.lake); got != wantRows {
				t.Errorf("rows have hash %s, want %s", got, wantRows)
			}
			if got := w.windowsAreTheModel(); got != wantWindows {
				t.Errorf("results of windows have hash %s, want %s", got, wantWindows)
			}
			if got := hash(t, w.lake).deadLetters; got != wantLetters {
				t.Errorf("dead letters have hash %v, want %v", got, wantLetters)
			}
			runCommand(t, "verify", "verify", "--lake", w.lake)

			// The same again finds nothing new.
			w.wantCounts(w.submit(w.lake, flags...).finish(), summary{Outcome: "done", Read: want.Read, Duplicate: want.Read})
			if got := joinedHash(t, w.lake); got != wantRows {
				t.Errorf("rows have hash %s after the same again, want %s", got, wantRows)
			}
			w.nothingIsLeft()
		})
	}
}
