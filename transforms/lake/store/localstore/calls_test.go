//go:build unix

package localstore_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/localstore"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/*.golden anew; read the difference before you commit it")

// The order of storage calls is what a commit's durability is made of: a missing flush is a difference in testdata.
func TestStorageCalls(t *testing.T) {
	for _, test := range []struct {
		name    string
		options localstore.Options
	}{
		{"nameless", localstore.Options{}},
		{"hidden", localstore.Options{HiddenFiles: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls strings.Builder
			o := test.options
			o.Before = func(op localstore.Op, path string) error {
				if before, _, hidden := strings.Cut(path, ".tmp-"); hidden {
					path = before + ".tmp-*"
				}
				_, err := fmt.Fprintf(&calls, "\t%s %s\n", op, path)
				return err
			}
			base := t.TempDir()
			s := newStore(t, open(t, filepath.Join(base, "new", "lake"), o))
			commit := func(story, key, body string) {
				t.Helper()
				fmt.Fprintf(&calls, "%s\n", story)
				outcome, err := s.Commit(t.Context(), key, []byte(body))
				fmt.Fprintf(&calls, "\t-> %v %v\n\n", outcome, err)
			}
			commit("the first file of a lake: each new folder is flushed into its parent", "interactions/dt=1/part-0", "a")
			commit("a second file beside it: no folder is looked at again", "interactions/dt=1/part-1", "b")
			commit("a new partition: only its own folder is made", "interactions/dt=2/part-0", "c")
			commit("a name that is taken: the folder is flushed, before anybody relies on the other's file", "interactions/dt=2/part-0", "d")
			commit("the same bytes again: ours, and durable", "interactions/dt=2/part-0", "c")
			commit("a file at the top", "part-0", "e")

			if err := os.RemoveAll(filepath.Join(base, "new", "lake", "interactions")); err != nil {
				t.Fatal(err)
			}
			commit("somebody has removed the folder: it is made again", "interactions/dt=1/part-0", "a")

			s = newStore(t, open(t, filepath.Join(base, "new", "lake"), o))
			commit("a new process: it cannot know whether folders that are there were flushed", "interactions/dt=1/part-2", "f")

			golden := filepath.Join("testdata", test.name+".golden")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(calls.String()), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), calls.String()); diff != "" {
				t.Errorf("storage calls have changed (-want +got); if that is right, go test -rewrite:\n%s", diff)
			}
		})
	}
}

// Storage call 0, 1, 2, ... of a commit fails, as on a broken or full disk, until none does. After each there is a whole file or none.
func TestEachStorageCallFails(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EINTR, errors.New("unknown")} {
		for _, hidden := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/hidden=%v", errno, hidden), func(t *testing.T) {
				for n := 0; ; n++ {
					root, calls, failed := filepath.Join(t.TempDir(), "lake"), 0, localstore.Op("")
					s := newStore(t, open(t, root, localstore.Options{
						HiddenFiles: hidden,
						Before: func(op localstore.Op, _ string) error {
							calls++
							if calls-1 != n {
								return nil
							}
							failed = op
							return errno
						},
					}))
					const key, ours = "dt=1/part-0", "ours"
					outcome, err := s.Commit(t.Context(), key, []byte(ours))
					if failed == "" {
						if err != nil || outcome != store.Created || n < 7 {
							t.Fatalf("no call of %d has failed, but got %v, %v", calls, outcome, err)
						}
						return
					}
					after := newStore(t, open(t, root, localstore.Options{}))
					there, existsErr := after.Exists(t.Context(), key)
					if existsErr != nil || there != (err == nil) {
						t.Errorf("%s (call %d) fails: got %v, %v; but the file is there: %v, %v", failed, n, outcome, err, there, existsErr)
					}
					if outcome, err := after.Commit(t.Context(), key, []byte(ours)); err != nil || outcome != store.Created {
						t.Errorf("%s (call %d) fails: then a new process got %v, %v", failed, n, outcome, err)
					}
					if got, err := after.ReadAll(t.Context(), key, 100); err != nil || string(got) != ours {
						t.Errorf("%s (call %d) fails: then read %q, %v", failed, n, got, err)
					}
					left := hiddenFiles(t, root)
					if failed != localstore.OpUnlink && len(left) > 0 {
						t.Errorf("%s (call %d) fails: %q are left", failed, n, left)
					}
				}
			})
		}
	}
}

func TestSweepRemovesOldHiddenFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "lake")
	d := open(t, root, localstore.Options{HiddenFiles: true})
	if n, err := d.Sweep(t.Context(), 0); n != 0 || err != nil {
		t.Fatalf("sweep of no lake at all: %d, %v", n, err)
	}
	for i := range 2 {
		killBeforeLink(t, root, localstore.Options{HiddenFiles: true}, fmt.Sprintf("dt=%d/part", i), []byte("killed"))
	}
	s := newStore(t, d)
	if outcome, err := s.Commit(t.Context(), "dt=0/part", []byte("ours")); err != nil || outcome != store.Created {
		t.Fatalf("commit: %v, %v", outcome, err)
	}
	left := hiddenFiles(t, root)
	if len(left) != 2 {
		t.Fatalf("two processes were killed, but %q are left", left)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(left[0], hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Sweep(t.Context(), 30*time.Minute); n != 1 || err != nil {
		t.Errorf("sweep removed %d, %v; want 1: the other one may be a write that goes on", n, err)
	}
	if diff := cmp.Diff(left[1:], hiddenFiles(t, root)); diff != "" {
		t.Errorf("after the sweep (-want +got):\n%s", diff)
	}
	if got, err := s.ReadAll(t.Context(), "dt=0/part", 100); err != nil || string(got) != "ours" {
		t.Errorf("read %q, %v", got, err)
	}
}

// A kill leaves nothing at all where files need no name.
func TestKillLeavesNothing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "lake")
	killBeforeLink(t, root, localstore.Options{}, "dt=0/part", []byte("killed"))
	entries, err := os.ReadDir(filepath.Join(root, "dt=0"))
	if err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v; want an empty folder", entries, err)
	}
}

func hiddenFiles(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), ".tmp-") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func newStore(t testing.TB, d store.Driver) *store.Store {
	t.Helper()
	o := store.Defaults()
	o.BaseDelay, o.MaxDelay = time.Microsecond, time.Millisecond
	s, err := store.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// One 64 KiB file after the other into one folder.
func BenchmarkCommit64KiB(b *testing.B) {
	s := newStore(b, open(b, b.TempDir(), localstore.Options{}))
	body := make([]byte, 64<<10)
	b.SetBytes(int64(len(body)))
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := s.Commit(b.Context(), fmt.Sprintf("dt=1/part-%d", len(took)), body); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// 10,000 small files into 10,000 new folders, by several writers: a backfill's worth of partitions.
func BenchmarkCommit10kPartitions(b *testing.B) {
	const files, writers = 10_000, 8
	body := make([]byte, 1000)
	for b.Loop() {
		s := newStore(b, open(b, b.TempDir(), localstore.Options{}))
		next := make(chan int)
		done := make(chan error, writers)
		for range writers {
			go func() {
				var errs []error
				for i := range next {
					_, err := s.Commit(b.Context(), fmt.Sprintf("interactions/dt=%d/hour=%d/part-0", i/24, i%24), body)
					errs = append(errs, err)
				}
				done <- errors.Join(errs...)
			}()
		}
		for i := range files {
			next <- i
		}
		close(next)
		for range writers {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*files), "µs/commit")
}
