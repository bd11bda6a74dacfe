package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/asof"
	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

// world is a lake, and the exports that go into it.
type world struct {
	*testing.T
	lake string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{T: t, lake: t.TempDir()}
}

// day returns the nth day of March 2026.
func day(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }

// export makes a file of lines, modified on 2026-03-01.
func export(t testing.TB, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, day(1), day(1)); err != nil {
		t.Fatal(err)
	}
	return path
}

// item is a line of an export: an id, an hour of March 2026 at which it was updated, and its title; "" deletes it.
func item(id string, hour int, title string) string {
	at := day(1).Add(time.Duration(hour) * time.Hour).Format(time.RFC3339)
	if title == "" {
		return fmt.Sprintf(`{"item_id":%q,"updated_time":%q,"is_deleted":true}`, id, at)
	}
	return fmt.Sprintf(`{"item_id":%q,"updated_time":%q,"title":%q}`, id, at, title)
}

// options for a run over items in the native format.
func (w *world) options(asOf time.Time, items ...string) Options {
	w.Helper()
	native, err := mappings.NativeFor(schemas.Items.Name)
	if err != nil {
		w.Fatal(err)
	}
	o := Defaults()
	o.Items, o.ItemsMapping, o.AsOf, o.Lake = items, native, asOf, w.lake
	return o
}

var launches struct {
	sync.Mutex
	n int
}

// run runs the pipeline and returns what it counted.
func (w *world) run(o Options) (map[string]int64, error) {
	w.Helper()
	launches.Lock()
	launches.n++
	o.RunID = fmt.Sprintf("%s/%d", w.Name(), launches.n)
	launches.Unlock()
	if err := o.Validate(); err != nil {
		w.Fatal(err)
	}
	r := run.Of(o.RunID)
	defer func() {
		if err := r.Close(); err != nil {
			w.Error(err)
		}
	}()
	plan, err := Prepare(w.Context(), o)
	if err != nil || len(plan.Tables) == 0 {
		return nil, err
	}
	p, s := beam.NewPipelineWithRoot()
	Build(s, plan)
	err = ptest.Run(p)
	c := r.Counts()
	settled := c["lake/dead_lettered"] + c["lake/duplicate"]
	for _, t := range plan.Tables {
		for _, name := range []string{"inserted", "updated", "removed", "late", "unchanged", "joined", "unjoined"} {
			settled += c[t.Table+"/"+name]
		}
	}
	if err == nil && c["catalog/read"] != settled {
		w.Errorf("%d rows are read, and %d accounted for: %v", c["catalog/read"], settled, c)
	}
	return c, err
}

func (w *world) mustRun(o Options) map[string]int64 {
	w.Helper()
	c, err := w.run(o)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) store() *store.Store {
	w.Helper()
	st, err := store.Open(w.Context(), w.lake)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = st.Close() })
	return st
}

// titlesAt returns the items that were there at a time, as "id title".
func (w *world) titlesAt(t time.Time) []string {
	w.Helper()
	var out []string
	err := asof.At(w.Context(), w.store(), schemas.Items, t, func(r *schemas.Item) error {
		out = append(out, r.ItemID+" "+r.Title)
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func (w *world) wantAt(hour int, want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.titlesAt(day(1).Add(time.Duration(hour)*time.Hour))); diff != "" {
		w.Errorf("items in hour %d (-want +got):\n%s", hour, diff)
	}
}

// filesOf returns a hash of each file of a lake, by its name.
func filesOf(t testing.TB, lake string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(lake, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		name, _ := filepath.Rel(lake, path)
		all[name] = fmt.Sprintf("%x", sha256.Sum256(body))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func namesOf(all map[string]string) []string { return slices.Sorted(maps.Keys(all)) }

// Three days of full exports: what changes, goes away and comes back.
func TestFullExports(t *testing.T) {
	w := newWorld(t)
	w.mustRun(w.options(day(2), export(t, "1.jsonl", item("cup", 1, "Cup"), item("mug", 2, "Mug"), item("pot", 3, "Pot"))))
	o := w.options(day(3), export(t, "2.jsonl", item("cup", 1, "Cup"), item("mug", 30, "Big mug"), item("jar", 31, "Jar")))
	o.MaxDeleteFraction = 0.4 // one of three
	c := w.mustRun(o)
	for name, want := range map[string]int64{"inserted": 1, "updated": 1, "absent": 1, "unchanged": 1, "closed": 2} {
		if got := c["items/"+name]; got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	w.mustRun(w.options(day(4), export(t, "3.jsonl", item("cup", 1, "Cup"), item("mug", 30, "Big mug"), item("jar", 31, "Jar"), item("pot", 3, "Pot"))))

	w.wantAt(0)
	w.wantAt(2, "cup Cup", "mug Mug")
	w.wantAt(24, "cup Cup", "mug Mug", "pot Pot")
	w.wantAt(30, "cup Cup", "mug Big mug", "pot Pot")
	w.wantAt(48, "cup Cup", "jar Jar", "mug Big mug") // the second export has no pot
	w.wantAt(72, "cup Cup", "jar Jar", "mug Big mug", "pot Pot")

	if diff := cmp.Diff([]string{
		"dead_letters/_table.json",
		"items/_versions/000001.json", "items/_versions/000002.json", "items/_versions/000003.json",
		"items/as_of=20260302T000000Z/_SUCCESS", "items/as_of=20260302T000000Z/_plan-000001.json", "items/as_of=20260302T000000Z/part-00000-of-00001.parquet",
		"items/as_of=20260303T000000Z/_SUCCESS", "items/as_of=20260303T000000Z/_plan-000002.json", "items/as_of=20260303T000000Z/part-00000-of-00001.parquet",
		"items/as_of=20260304T000000Z/_SUCCESS", "items/as_of=20260304T000000Z/_plan-000003.json", "items/as_of=20260304T000000Z/part-00000-of-00001.parquet",
		"items_history/as_of=20260303T000000Z/_SUCCESS", "items_history/as_of=20260303T000000Z/part-00000-of-00001.parquet",
		"items_history/as_of=20260304T000000Z/_SUCCESS", "items_history/as_of=20260304T000000Z/part-00000-of-00001.parquet",
	}, namesOf(filesOf(t, w.lake))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	mug, err := asof.Find(t.Context(), w.store(), schemas.Items, "mug", day(2))
	if err != nil || mug == nil || mug.Title != "Mug" || mug.Stamp.ValidTo.V != day(1).Add(30*time.Hour).UnixMicro() {
		t.Errorf("mug on March 2 is %+v, %v", mug, err)
	}
}

// Deltas in any order, some twice, end with the same.
func TestDeltasInAnyOrder(t *testing.T) {
	deltas := [][]string{
		{item("cup", 1, "Cup"), item("mug", 2, "Mug")},
		{item("mug", 10, "Big mug"), item("pot", 11, "Pot")},
		{item("mug", 20, ""), item("cup", 21, "Blue cup")},
		{item("mug", 40, "New mug")},
		{item("pot", 50, "Old pot"), item("pot", 60, "New pot")},
		{item("pot", 50, "")}, // deleted at the time of an update: the deletion counts
	}
	for _, order := range [][]int{{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {2, 0, 5, 2, 3, 1, 0, 4}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			w := newWorld(t)
			for i, n := range order {
				o := w.options(day(5+i), export(t, "delta.jsonl", deltas[n]...))
				o.Mode = asof.Delta
				w.mustRun(o)
			}
			w.wantAt(1, "cup Cup")
			w.wantAt(9, "cup Cup", "mug Mug")
			w.wantAt(11, "cup Cup", "mug Big mug", "pot Pot")
			w.wantAt(20, "cup Cup", "pot Pot")
			w.wantAt(30, "cup Blue cup", "pot Pot")
			w.wantAt(49, "cup Blue cup", "mug New mug", "pot Pot")
			w.wantAt(50, "cup Blue cup", "mug New mug")
			w.wantAt(100, "cup Blue cup", "mug New mug", "pot New pot")
		})
	}
}

// The same exports again change nothing; in another lake they make the same bytes.
func TestSameBytes(t *testing.T) {
	first := export(t, "items.jsonl", item("cup", 1, "Cup"), item("mug", 2, "Mug"), `{"item_id":"x/y"}`)
	second := export(t, "items.jsonl", item("cup", 30, "Blue cup"), item("jar", 31, "Jar"), item("mug", 2, "Mug"))
	twoVersions := func(t *testing.T) *world {
		t.Helper()
		w := newWorld(t)
		for i, path := range []string{first, second} {
			o := w.options(day(2+i), path)
			o.Shards = 4
			w.mustRun(o)
		}
		return w
	}
	w, other := twoVersions(t), twoVersions(t)
	before := filesOf(t, w.lake)
	for name := range before {
		if strings.HasPrefix(name, "dead_letters/dt=") {
			delete(before, name) // it says which run has written it
		}
	}
	got := filesOf(t, other.lake)
	for name, hash := range before {
		if got[name] != hash {
			t.Errorf("%s differs between two lakes", name)
		}
	}
	for i, path := range []string{first, second} {
		o := w.options(day(2+i), path)
		o.Shards = 4
		if c := w.mustRun(o); len(c) != 0 {
			t.Errorf("version %d was made again: %v", i+1, c)
		}
	}
	again := filesOf(t, w.lake)
	for name, hash := range before {
		if again[name] != hash {
			t.Errorf("%s was changed", name)
		}
	}
}

// Users and items at once; what is wrong with either is a dead letter.
func TestUsersAndDeadLetters(t *testing.T) {
	w := newWorld(t)
	native, err := mappings.NativeFor(schemas.Users.Name)
	if err != nil {
		t.Fatal(err)
	}
	o := w.options(day(2), export(t, "items.jsonl", item("cup", 1, "Cup"), `{"item_id":`, `{"item_id":"mug","price":-1,"currency":"EUR"}`))
	o.Users = []string{export(t, "users.jsonl", `{"user_id":"ann","country":"AT","segments":["b","a","b"]}`, `{"user_id":"bob","country":"Austria"}`)}
	o.UsersMapping = native
	c := w.mustRun(o)
	if c["items/inserted"] != 1 || c["users/inserted"] != 1 || c["lake/dead_lettered"] != 3 {
		t.Errorf("counted %v", c)
	}
	ann, err := asof.Find(t.Context(), w.store(), schemas.Users, "ann", day(2))
	if err != nil || ann == nil || !slices.Equal(ann.Segments, []string{"a", "b"}) {
		t.Errorf("ann is %+v, %v", ann, err)
	}
	if ann != nil && ann.Stamp.ValidFrom.V != day(2).UnixMicro() {
		t.Error("who was updated at an unknown time is not valid from the time of the export")
	}
}

// A row that the export has in a form that can't be taken is not deleted.
func TestRefusedRowsAreNotDeleted(t *testing.T) {
	w := newWorld(t)
	w.mustRun(w.options(day(2), export(t, "1.jsonl", item("cup", 1, "Cup"), item("mug", 2, "Mug"))))
	w.mustRun(w.options(day(3), export(t, "2.jsonl", item("cup", 1, "Cup"), `{"item_id":"mug","updated_time":"2026-03-02T01:00:00Z","availability":"perhaps"}`)))
	w.wantAt(48, "cup Cup", "mug Mug")
}

// A full export that is suspiciously small changes nothing.
func TestSmallExports(t *testing.T) {
	w := newWorld(t)
	var ten []string
	for i := range 10 {
		ten = append(ten, item(fmt.Sprint("i", i), 1, "Thing"))
	}
	w.mustRun(w.options(day(2), export(t, "1.jsonl", ten...)))
	before := filesOf(t, w.lake)
	for name, lines := range map[string][]string{"seven of ten": ten[:7], "none": nil, "only broken ones": {"{", "{"}} {
		t.Run(name, func(t *testing.T) {
			_, err := w.run(w.options(day(3), export(t, "2.jsonl", lines...)))
			if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%v, want it refused", err)
			}
			after := filesOf(t, w.lake)
			maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, "dead_letters") })
			maps.DeleteFunc(before, func(name, _ string) bool { return strings.HasPrefix(name, "dead_letters") })
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("files (-before +after):\n%s", diff)
			}
		})
	}
	w.mustRun(w.options(day(3), export(t, "2.jsonl", ten[:8]...)))
	o := w.options(day(4), export(t, "3.jsonl", ten[:1]...))
	o.MaxDeleteFraction = 1
	w.mustRun(o)
	w.wantAt(72, "i0 Thing")
}

// Two runs at once leave one version: over the same exports both are content, over others one is told.
func TestTwoRunsAtOnce(t *testing.T) {
	for name, others := range map[string]bool{"same exports": false, "other exports": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			one := export(t, "1.jsonl", item("cup", 1, "Cup"))
			two := one
			if others {
				two = export(t, "2.jsonl", item("mug", 1, "Another mug"))
			}
			errs := make([]error, 2)
			var both sync.WaitGroup
			for i, path := range []string{one, two} {
				both.Go(func() { _, errs[i] = w.run(w.options(day(2), path)) })
			}
			both.Wait()
			failed := 0
			for _, err := range errs {
				if err != nil {
					failed++
					if !strings.Contains(err.Error(), asof.ErrConflict.Error()) {
						t.Error(err)
					}
				}
			}
			if others != (failed == 1) || failed > 1 {
				t.Errorf("%d runs failed: %v", failed, errs)
			}
			if got := w.titlesAt(day(3)); len(got) != 1 {
				t.Errorf("there are %q, want one", got)
			}
			versions, err := asof.Versions(t.Context(), w.store(), "items")
			if err != nil || len(versions) != 1 {
				t.Errorf("there are %d versions, %v", len(versions), err)
			}
		})
	}
}

// A version is as of a later time than the one before.
func TestConflicts(t *testing.T) {
	w := newWorld(t)
	w.mustRun(w.options(day(3), export(t, "1.jsonl", item("cup", 1, "Cup"))))
	for name, asOf := range map[string]time.Time{"same time": day(3), "earlier": day(2)} {
		if _, err := w.run(w.options(asOf, export(t, "2.jsonl", item("mug", 1, "Big mug")))); !errors.Is(err, asof.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", name, err)
		}
	}
}

// What a run has left that was overtaken goes away, and so do versions that are not to be kept.
func TestRetainAndLeftovers(t *testing.T) {
	w := newWorld(t)
	left := filepath.Join(w.lake, "items", "as_of=20260303T000000Z")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"_plan-000001.json", "part-00000-of-00002.parquet"} {
		if err := os.WriteFile(filepath.Join(left, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	titles := []string{"A", "B", "C", "D"}
	for i, title := range titles {
		o := w.options(day(2+2*i), export(t, "items.jsonl", item("cup", 1+48*i, title)))
		o.Retain = 2
		w.mustRun(o)
	}
	got := namesOf(filesOf(t, w.lake))
	got = slices.DeleteFunc(got, func(name string) bool { return !strings.HasPrefix(name, "items/as_of=") })
	if diff := cmp.Diff([]string{
		"items/as_of=20260306T000000Z/_SUCCESS", "items/as_of=20260306T000000Z/_plan-000003.json", "items/as_of=20260306T000000Z/part-00000-of-00001.parquet",
		"items/as_of=20260308T000000Z/_SUCCESS", "items/as_of=20260308T000000Z/_plan-000004.json", "items/as_of=20260308T000000Z/part-00000-of-00001.parquet",
	}, got); diff != "" {
		t.Errorf("files of the state (-want +got):\n%s", diff)
	}
	for i, title := range titles { // the history is all there
		w.wantAt(2+48*i, "cup "+title)
	}
}

// A table that grows gets more shards, and its history stays.
func TestMoreShards(t *testing.T) {
	w := newWorld(t)
	var old, changed, want []string
	for i := range 50 {
		id := fmt.Sprintf("i%02d", i)
		old, changed, want = append(old, item(id, 1, "Old")), append(changed, item(id, 30, "New")), append(want, id+" Old")
	}
	for i, lines := range [][]string{old, changed, append([]string{item("i00", 10, "Between")}, changed...)} {
		o := w.options(day(2+i), export(t, "items.jsonl", lines...))
		o.Shards, o.Mode = 1<<i, asof.Delta
		w.mustRun(o)
	}
	w.wantAt(9, want...)
	want[0] = "i00 Between"
	w.wantAt(10, want...)
	for i := range want {
		want[i] = fmt.Sprintf("i%02d New", i)
	}
	w.wantAt(30, want...)
}

// A run that was killed after it had written files is finished by the next one, byte by byte.
func TestUnfinishedRunIsFinished(t *testing.T) {
	path := export(t, "items.jsonl", item("cup", 1, "Cup"), item("mug", 2, "Mug"), item("pot", 2, "Pot"), item("jar", 2, "Jar"))
	w := newWorld(t)
	o := w.options(day(2), path)
	o.Shards = 4
	w.mustRun(o)
	want := filesOf(t, w.lake)
	// As a kill leaves it: the log and the mark are missing, and the later half of the parts.
	for _, name := range []string{"_versions/000001.json", "as_of=20260302T000000Z/_SUCCESS", "as_of=20260302T000000Z/part-00002-of-00004.parquet", "as_of=20260302T000000Z/part-00003-of-00004.parquet"} {
		if err := os.Remove(filepath.Join(w.lake, "items", filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := asof.Find(context.Background(), w.store(), schemas.Items, "cup", day(3)); !errors.Is(err, asof.ErrNoVersion) {
		t.Errorf("%v: there is a version", err)
	}
	w.mustRun(o)
	if diff := cmp.Diff(want, filesOf(t, w.lake)); diff != "" {
		t.Errorf("files (-undisturbed +finished):\n%s", diff)
	}
	// Killed between the log and the mark: the mark comes with the next run, though there is nothing to do for it.
	mark := filepath.Join(w.lake, "items", "as_of=20260302T000000Z", "_SUCCESS")
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if c := w.mustRun(o); len(c) > 0 {
		t.Errorf("the version was made again: %v", c)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
}
