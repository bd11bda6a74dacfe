package lake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/testing/faults"
	"backbone/transforms/dedup"
	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
)

// memory is a driver for the thousands of lakes of a property test. All drivers of one place share its objects, as
// processes do.
type memory struct{ *place }

type place struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func newPlace() *place { return &place{objects: map[string][]byte{}} }

func (m memory) Create(_ context.Context, key string, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok {
		return driver.Markf(driver.ErrExists, "%q is taken", key)
	}
	m.objects[key] = bytes.Clone(body)
	return nil
}

func (m memory) Open(_ context.Context, key string) (driver.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.objects[key]
	if !ok {
		return nil, driver.Markf(driver.ErrNotFound, "there is no %q", key)
	}
	return object{bytes.NewReader(body)}, nil
}

type object struct{ *bytes.Reader }

func (object) Close() error { return nil }

func (m memory) List(_ context.Context, prefix string) iter.Seq2[driver.Entry, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []driver.Entry
	for _, key := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(key, prefix) {
			found = append(found, driver.Entry{Key: key, Size: int64(len(m.objects[key]))})
		}
	}
	return func(yield func(driver.Entry, error) bool) {
		for _, e := range found {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// ListDir is good for folders without folders.
func (m memory) ListDir(ctx context.Context, dir string) iter.Seq2[driver.Entry, error] {
	return m.List(ctx, dir+"/")
}

func (m memory) Sync(context.Context, string) error { return nil }

func (m memory) Remove(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func (m memory) URL() string { return "memory" }

func (m memory) Close() error { return nil }

// nothing lets every operation pass.
func nothing(int, faults.Op, string) faults.Fault { return faults.Fault{} }

// newCommitter returns the committer of a process of its own on a place.
func newCommitter(t testing.TB, at *place, plan faults.Plan) *committer {
	t.Helper()
	c, _ := newFaultyCommitter(t, at, plan)
	return c
}

func newFaultyCommitter(t testing.TB, at *place, plan faults.Plan) (*committer, *faults.Driver) {
	t.Helper()
	d := faults.Wrap(memory{at}, plan)
	// One attempt, so that the committer sees the faults that the store would have got over.
	st, err := store.New(d, store.Options{MaxAttempts: 1, AttemptTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return &committer{
		store: st, layout: Layout{Window: Hour, Shards: 1}, table: interactionTable, runID: "run", writer: newWriterID(),
		limits: Limits{Bytes: 1 << 20, Rows: 1 << 20}, slots: dedup.NewCache[*slot](1 << 20),
	}, d
}

// interactionTable is for all tests: setting up an encoder takes a while.
var interactionTable = newInteractions()

var aSlot = Slot{Table: schemas.Interactions.Name, Bucket: 500_000}

// paneOf returns a chunk of rows with these ids.
func paneOf(ids ...string) []byte {
	all := make([]schemas.Interaction, len(ids))
	for i, id := range ids {
		all[i] = schemas.Interaction{EventID: id, EventTime: schemas.Some(aSlot.Bucket * time.Hour.Microseconds()), EventType: "view", UserID: "u" + id}
	}
	return chunkOf(schemas.Interactions, all...)
}

func idsOf(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("id-%d", i)
	}
	return ids
}

// contents reads the ids of each file of a place as any reader does, remembering those of files that it has read.
type contents struct{ files map[string][]string }

func (c *contents) of(t testing.TB, at *place) map[string][]string {
	t.Helper()
	if c.files == nil {
		c.files = map[string][]string{}
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	out := map[string][]string{}
	for key, body := range at.objects {
		if path.Ext(key) != ".parquet" {
			continue
		}
		if c.files[key] == nil {
			c.files[key] = parquetIDs(t, bytes.NewReader(body), int64(len(body)))
		}
		out[key] = c.files[key]
	}
	return out
}

func parquetIDs(t testing.TB, r io.ReaderAt, size int64) []string {
	t.Helper()
	type row struct {
		ID string `parquet:"event_id"`
	}
	all, err := parquet.Read[row](r, size)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	return ids
}

// model is what a lake must hold: the ids of each folder.
type model map[string]map[string]bool

func (m model) add(folder string, ids []string) {
	if m[folder] == nil {
		m[folder] = map[string]bool{}
	}
	for _, id := range ids {
		m[folder][id] = true
	}
}

// rows returns how many there must be.
func (m model) rows() (n int64) {
	for _, ids := range m {
		n += int64(len(ids))
	}
	return n
}

// check reports the first way in which the files of a lake are not those of the model. Of pending, which an attempt has
// left open, any may be there.
func (m model) check(files map[string][]string, pending model) error {
	seen := map[string]map[string]bool{}
	seqs := map[string][]int{}
	for key, ids := range files {
		folder := path.Dir(key)
		_, _, seq, ok := parseFileName(path.Base(key))
		if !ok {
			return fmt.Errorf("there is a file %q", key)
		}
		seqs[folder] = append(seqs[folder], seq)
		if len(ids) == 0 {
			return fmt.Errorf("%q has no rows", key)
		}
		if seen[folder] == nil {
			seen[folder] = map[string]bool{}
		}
		for _, id := range ids {
			if seen[folder][id] {
				return fmt.Errorf("%q is twice in %s", id, folder)
			}
			seen[folder][id] = true
			if !m[folder][id] && !pending[folder][id] {
				return fmt.Errorf("%q is in %s, where nobody has put it", id, folder)
			}
		}
	}
	for folder, ids := range m {
		for id := range ids {
			if !seen[folder][id] {
				return fmt.Errorf("%q is missing in %s", id, folder)
			}
		}
	}
	for folder, numbers := range seqs {
		slices.Sort(numbers)
		for i, seq := range numbers {
			if seq != i {
				return fmt.Errorf("the files of %s are %v: there is a gap", folder, numbers)
			}
		}
	}
	return nil
}

func folderOf(at Slot) string { return path.Join(at.Table, Hour.folder(at.Bucket)) }

// The faults that a service has, and those after which nobody knows what has happened.
var anyFault = []faults.Fault{
	{Err: faults.ErrInjected}, {Err: faults.ErrInjected, After: true},
	{Err: faults.ErrThrottled}, {Err: faults.ErrUnavailable, After: true},
}

// Whatever panes come to whichever process, and whatever fails: each id is there once. A pane that failed is given to
// any process again, as runners do.
func TestCommitAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		at := newPlace()
		share := rapid.SampledFrom([]float64{0, 0.02, 0.05}).Draw(rt, "share of faults")
		committers := make([]*committer, rapid.IntRange(1, 3).Draw(rt, "processes"))
		for i := range committers {
			committers[i] = newCommitter(t, at, faults.Randomly(rapid.Uint64().Draw(rt, "seed"), share, anyFault...))
			committers[i].limits.Rows = rapid.SampledFrom([]int{3, 1000}).Draw(rt, "rows in a file")
			// Slots are forgotten always, sometimes or never.
			committers[i].slots = dedup.NewCache[*slot](rapid.SampledFrom([]int64{1, 500, 1 << 20}).Draw(rt, "memory"))
		}
		want, files := model{}, contents{}
		var committed int64
		failures := 0
		for range rapid.IntRange(1, 8).Draw(rt, "panes") {
			slot := Slot{Table: schemas.Interactions.Name, Bucket: 500_000 + rapid.Int64Range(0, 1).Draw(rt, "hour")}
			ids := rapid.SliceOfN(rapid.SampledFrom(idsOf(12)), 1, 8).Draw(rt, "ids")
			cut := rapid.IntRange(0, len(ids)).Draw(rt, "first chunk")
			chunks := [][]byte{paneOf(ids[:cut]...), paneOf(ids[cut:]...)}
			pending := model{}
			pending.add(folderOf(slot), ids)
			for attempt := 0; ; attempt++ {
				c := rapid.SampledFrom(committers).Draw(rt, "process")
				receipt, err := c.commit(t.Context(), slot, chunks)
				if err != nil {
					if !errors.Is(err, faults.ErrInjected) || attempt > 1000 {
						rt.Fatalf("attempt %d: %v", attempt, err)
					}
					failures++
					if err := want.check(files.of(t, at), pending); err != nil {
						rt.Fatalf("after a failed attempt: %v", err)
					}
					continue
				}
				want.add(folderOf(slot), ids)
				if err := want.check(files.of(t, at), nil); err != nil {
					rt.Fatal(err)
				}
				if receipt.Rows+receipt.Duplicates != int64(len(ids)) {
					rt.Fatalf("%d rows and %d duplicates of %d", receipt.Rows, receipt.Duplicates, len(ids))
				}
				if receipt.Folder != folderOf(slot) || receipt.Slot != slot {
					rt.Fatalf("receipt of %+v in %q", receipt.Slot, receipt.Folder)
				}
				committed += receipt.Rows
				break
			}
		}
		// What a failed attempt has committed is in no receipt.
		if committed > want.rows() || failures == 0 && committed != want.rows() {
			rt.Fatalf("receipts say %d rows after %d failures, the lake has %d", committed, failures, want.rows())
		}
	})
}

// Several processes at once, on the same slots with overlapping rows.
func TestCommitInParallel(t *testing.T) {
	const processes, panes, hours = 4, 12, 2
	for _, share := range []float64{0, 0.03} {
		t.Run(fmt.Sprintf("faults=%v", share), func(t *testing.T) {
			at := newPlace()
			want := model{}
			receipts := make([]int64, processes)
			var all sync.WaitGroup
			for p := range processes {
				c := newCommitter(t, at, faults.Randomly(uint64(p), share, anyFault...))
				c.slots = dedup.NewCache[*slot](int64(1000 * p)) // process 0 remembers nothing
				for n := range panes {
					slot := Slot{Table: schemas.Interactions.Name, Bucket: 500_000 + int64(n%hours)}
					ids := idsOf(40)[(7*p+3*n)%30:][:10]
					want.add(folderOf(slot), ids)
				}
				all.Go(func() {
					for n := range panes {
						slot := Slot{Table: schemas.Interactions.Name, Bucket: 500_000 + int64(n%hours)}
						ids := idsOf(40)[(7*p+3*n)%30:][:10]
						for {
							r, err := c.commit(t.Context(), slot, [][]byte{paneOf(ids...)})
							if err == nil {
								receipts[p] += r.Rows
								break
							}
							if !errors.Is(err, faults.ErrInjected) {
								t.Error(err)
								return
							}
						}
					}
				})
			}
			all.Wait()
			if err := want.check((&contents{}).of(t, at), nil); err != nil {
				t.Error(err)
			}
			sum := int64(0)
			for _, n := range receipts {
				sum += n
			}
			if sum > want.rows() || share == 0 && sum != want.rows() {
				t.Errorf("receipts say %d rows, the lake has %d", sum, want.rows())
			}
		})
	}
}

// One process has the slot in memory when another one commits to it; then its storage fails at operation 0, 1, 2 and so on.
func TestCommitSurvivesAFaultAtEachOperation(t *testing.T) {
	for name, plan := range map[string]func(n int) faults.Plan{
		"failed":      func(n int) faults.Plan { return faults.FailAt(n, faults.ErrInjected) },
		"reply lost":  faults.LoseReplyAt,
		"unavailable": func(n int) faults.Plan { return faults.FailAt(n, faults.ErrUnavailable) },
		"failed for a while": func(n int) faults.Plan {
			return func(i int, _ faults.Op, _ string) faults.Fault {
				if i < n || i > n+5 {
					return faults.Fault{}
				}
				return faults.Fault{Err: faults.ErrUnavailable, After: i%2 == 0}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for n := 0; ; n++ {
				at, want, files := newPlace(), model{}, contents{}
				folder := folderOf(aSlot)
				other := newCommitter(t, at, nothing)
				mustCommit(t, other, "a", "b")
				c, d := newFaultyCommitter(t, at, plan(n))
				var rows int64
				for _, pane := range [][]string{{"b", "c"}, {"c", "d", "e"}, {"e"}} {
					for attempts := 0; ; attempts++ {
						r, err := c.commit(t.Context(), aSlot, [][]byte{paneOf(pane...)})
						if err == nil {
							if r.Rows+r.Duplicates != int64(len(pane)) {
								t.Errorf("operation %d: %d rows and %d duplicates of %d", n, r.Rows, r.Duplicates, len(pane))
							}
							rows += r.Rows
							break
						}
						failed++
						if !errors.Is(err, faults.ErrInjected) || attempts > 20 {
							t.Fatalf("operation %d: %v", n, err)
						}
					}
					mustCommit(t, other, "d", "f") // takes the next name
				}
				want.add(folder, []string{"a", "b", "c", "d", "e", "f"})
				if err := want.check(files.of(t, at), nil); err != nil {
					t.Fatalf("operation %d: %v", n, err)
				}
				if d.Operations() <= n {
					t.Logf("%d operations, %d failed attempts", d.Operations(), failed)
					return
				}
			}
		})
	}
}

func mustCommit(t testing.TB, c *committer, ids ...string) Receipt {
	t.Helper()
	r, err := c.commit(t.Context(), aSlot, [][]byte{paneOf(ids...)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// calls notes the operations of a store, several equal ones in a row as one.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) plan(_ int, op faults.Op, key string) faults.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	key = strings.TrimPrefix(strings.TrimPrefix(key, folderOf(aSlot)), "/")
	call := strings.TrimSpace(string(op) + " " + key)
	if n := len(c.list); n == 0 || c.list[n-1] != call {
		c.list = append(c.list, call)
	}
	return faults.Fault{}
}

func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

const part0, part1, part2 = "part-00000-of-00001-000000.parquet", "part-00000-of-00001-000001.parquet", "part-00000-of-00001-000002.parquet"

// The order of storage calls. Rows are dropped because of another process's file only after its folder was synced: its
// name may not be durable yet, and what is dropped is acknowledged.
func TestStorageCalls(t *testing.T) {
	at := newPlace()
	other := newCommitter(t, at, nothing)
	var log calls
	c := newCommitter(t, at, log.plan)
	expect := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, log.take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}

	mustCommit(t, c, "a")
	expect("the first file of a slot",
		"list folder",
		"create "+part0, "open "+part0, "read "+part0, // read back
		"open "+successName)

	mustCommit(t, c, "a", "b")
	expect("what is known is not read again",
		"create "+part1, "open "+part1, "read "+part1, "open "+successName)

	mustCommit(t, c, "b")
	expect("nothing new") // no call at all

	mustCommit(t, other, "c")
	mustCommit(t, c, "c", "d")
	expect("another process has taken the name",
		"create "+part2, "open "+part2, "sync", // of another size, so not ours; and durable now
		"open "+part2, "read "+part2, // its ids
		"create part-00000-of-00001-000003.parquet", "open part-00000-of-00001-000003.parquet", "read part-00000-of-00001-000003.parquet",
		"open "+successName)

	fresh := newCommitter(t, at, log.plan)
	if r := mustCommit(t, fresh, "a", "d"); r.Duplicates != 2 {
		t.Errorf("%d duplicates, want 2", r.Duplicates)
	}
	expect("a process that finds files, and all its rows in them",
		"list folder",
		"open "+part0, "read "+part0, "open "+part1, "read "+part1, "open "+part2, "read "+part2,
		"open part-00000-of-00001-000003.parquet", "read part-00000-of-00001-000003.parquet",
		"sync")
}

// What a failed sync leaves uncertain is not counted as a duplicate.
func TestFailedSyncFailsTheCommit(t *testing.T) {
	at := newPlace()
	mustCommit(t, newCommitter(t, at, nothing), "a")
	broken := true
	c := newCommitter(t, at, func(_ int, op faults.Op, _ string) faults.Fault {
		if op == faults.Sync && broken {
			return faults.Fault{Err: faults.ErrInjected}
		}
		return faults.Fault{}
	})
	if r, err := c.commit(t.Context(), aSlot, [][]byte{paneOf("a")}); !errors.Is(err, faults.ErrInjected) {
		t.Errorf("commit = %+v, %v; want the error of the sync", r, err)
	}
	broken = false
	if r := mustCommit(t, c, "a"); r.Duplicates != 1 {
		t.Errorf("%d duplicates after the disk is well again, want 1", r.Duplicates)
	}
}

// After an error nobody knows what the lake holds, so it is read again: rows that were not committed are no duplicates.
func TestSlotIsReadAgainAfterAnError(t *testing.T) {
	at := newPlace()
	broken := true
	var log calls
	c := newCommitter(t, at, func(n int, op faults.Op, key string) faults.Fault {
		log.plan(n, op, key)
		if op == faults.Create && broken {
			return faults.Fault{Err: faults.ErrInjected}
		}
		return faults.Fault{}
	})
	if r, err := c.commit(t.Context(), aSlot, [][]byte{paneOf("a", "b")}); !errors.Is(err, faults.ErrInjected) {
		t.Fatalf("commit = %+v, %v; want an error", r, err)
	}
	broken = false
	log.take()
	if r := mustCommit(t, c, "a", "b"); r.Rows != 2 || r.Duplicates != 0 {
		t.Errorf("%d rows and %d duplicates, want 2 and 0", r.Rows, r.Duplicates)
	}
	if got := log.take(); len(got) == 0 || got[0] != "list folder" {
		t.Errorf("calls %q, want the folder to be read first", got)
	}
}

// A damaged chunk is an error that says where, and commits nothing of the rows behind it.
func TestDamagedChunk(t *testing.T) {
	at := newPlace()
	chunk := paneOf("a", "b")
	_, err := newCommitter(t, at, nothing).commit(t.Context(), aSlot, [][]byte{chunk[:len(chunk)-3]})
	if err == nil || !strings.Contains(err.Error(), folderOf(aSlot)) {
		t.Errorf("commit of a damaged chunk: %v; want an error that names the partition", err)
	}
	if files := (&contents{}).of(t, at); len(files) != 0 {
		t.Errorf("files %v", files)
	}
}

func TestLimitsCutFiles(t *testing.T) {
	rowBytes := int64(len(paneOf("id-0")) - len(paneOf()) - 4) // without the length before it
	for _, tc := range []struct {
		name   string
		limits Limits
		want   []int // rows of the files
	}{
		{"none is reached", Limits{Bytes: 1 << 20, Rows: 100}, []int{10}},
		{"rows", Limits{Bytes: 1 << 20, Rows: 4}, []int{4, 4, 2}},
		{"rows, exactly", Limits{Bytes: 1 << 20, Rows: 5}, []int{5, 5}},
		{"bytes", Limits{Bytes: 3 * rowBytes, Rows: 100}, []int{3, 3, 3, 1}},
		{"bytes within a row", Limits{Bytes: 3*rowBytes - 1, Rows: 100}, []int{3, 3, 3, 1}},
		{"one row is more", Limits{Bytes: 1, Rows: 100}, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := newPlace()
			c := newCommitter(t, at, nothing)
			c.limits = tc.limits
			ids := idsOf(10)
			r, err := c.commit(t.Context(), aSlot, [][]byte{paneOf(ids[:7]...), paneOf(ids[2:]...)})
			if err != nil {
				t.Fatal(err)
			}
			if r.Rows != 10 || r.Duplicates != 5 { // 2 to 6 are in both
				t.Errorf("%d rows and %d duplicates, want 10 and 5", r.Rows, r.Duplicates)
			}
			files := (&contents{}).of(t, at)
			var got []int
			bytes := int64(0)
			for i, name := range r.Files {
				if want := fileName(0, 1, i); name != want {
					t.Errorf("file %d is %q, want %q", i, name, want)
				}
				got = append(got, len(files[path.Join(r.Folder, name)]))
				bytes += int64(len(at.objects[path.Join(r.Folder, name)]))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || len(files) != len(got) {
				t.Errorf("rows of files (-want +got):\n%s", diff)
			}
			if bytes != r.Bytes {
				t.Errorf("the receipt says %d bytes, the files have %d", r.Bytes, bytes)
			}
		})
	}
}

func TestLateRowsAreCountedAndCommitted(t *testing.T) {
	at := newPlace()
	c := newCommitter(t, at, nothing)
	if r := mustCommit(t, c, "a"); r.Late != 0 {
		t.Errorf("%d late rows in a partition that is not complete", r.Late)
	}
	if _, err := c.store.Commit(t.Context(), folderOf(aSlot)+"/"+successName, nil); err != nil {
		t.Fatal(err)
	}
	if r := mustCommit(t, c, "a", "b", "c"); r.Late != 2 || r.Rows != 2 || r.Duplicates != 1 {
		t.Errorf("%d rows, of which %d late, and %d duplicates; want 2, 2, 1", r.Rows, r.Late, r.Duplicates)
	}
	if r := mustCommit(t, c, "a"); r.Late != 0 {
		t.Errorf("%d late rows, but a duplicate is none", r.Late)
	}
}

// Files of another number of shards would hold rows that are looked for elsewhere.
func TestForeignShardsAreRefused(t *testing.T) {
	at := newPlace()
	mustCommit(t, newCommitter(t, at, nothing), "a")
	c := newCommitter(t, at, nothing)
	c.layout.Shards = 2
	if _, err := c.commit(t.Context(), aSlot, [][]byte{paneOf("b")}); err == nil || !strings.Contains(err.Error(), part0) {
		t.Errorf("commit: %v; want an error that names %s", err, part0)
	}
}

// Shards do not see each other's rows, and number their files by themselves.
func TestShardsAreSeparate(t *testing.T) {
	at := newPlace()
	c := newCommitter(t, at, nothing)
	c.layout.Shards = 2
	for _, s := range []int{0, 1, 0} {
		slot := aSlot
		slot.Shard = s
		r, err := c.commit(t.Context(), slot, [][]byte{paneOf("a")})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r.Files, r.Rows, r.Duplicates)
	}
	got := slices.Sorted(maps.Keys((&contents{}).of(t, at)))
	want := []string{folderOf(aSlot) + "/" + fileName(0, 2, 0), folderOf(aSlot) + "/" + fileName(1, 2, 0)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A cache with room for nothing reads the lake for each pane; one with room reads it once.
func TestMemoryBoundsWhatIsRemembered(t *testing.T) {
	for _, tc := range []struct {
		memory int64
		lists  int
	}{{1, 3}, {1 << 20, 1}} {
		lists := 0
		c := newCommitter(t, newPlace(), func(_ int, op faults.Op, _ string) faults.Fault {
			if op == faults.ListDir {
				lists++
			}
			return faults.Fault{}
		})
		c.slots = dedup.NewCache[*slot](tc.memory)
		for range 3 {
			mustCommit(t, c, "a", "b")
		}
		if lists != tc.lists {
			t.Errorf("with a memory of %d bytes the folder was listed %d times, want %d", tc.memory, lists, tc.lists)
		}
	}
}

// Two stores on a folder of this machine, as two launches have.
func TestCommitToADisk(t *testing.T) {
	dir := t.TempDir()
	committers := make([]*committer, 2)
	for i := range committers {
		committers[i] = newCommitter(t, newPlace(), nothing)
		committers[i].store = openStore(t, dir)
	}
	var all sync.WaitGroup
	for _, c := range committers {
		all.Go(func() {
			for n := range 5 {
				if _, err := c.commit(t.Context(), aSlot, [][]byte{paneOf(idsOf(20)[3*n:][:8]...)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	at := newPlace()
	for e, err := range openStore(t, dir).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := committers[0].store.ReadAll(t.Context(), e.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		at.objects[e.Key] = body
	}
	want := model{}
	want.add(folderOf(aSlot), idsOf(20)) // 3*4+8
	if err := want.check((&contents{}).of(t, at), nil); err != nil {
		t.Error(err)
	}
}
