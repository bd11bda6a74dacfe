package files_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/testing/objectservers"
	"backbone/transforms/files"
	"backbone/transforms/lake/store"
)

// Globs match the same names on object stores as on a disk, and files have the same records.
func TestObjectStores(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{"gs": objectservers.StartGCS, "s3": objectservers.StartS3} {
		t.Run(name, func(t *testing.T) {
			root := start(t)
			ctx := context.Background()
			s, err := store.Open(ctx, root)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat("{\"n\":1}\n\n{\"n\":22}\n", 1000)
			put := func(name, body string) {
				t.Helper()
				if outcome, err := s.Commit(ctx, name, []byte(body)); err != nil || outcome != store.Created {
					t.Fatalf("commit %q: %v, %v", name, outcome, err)
				}
			}
			for _, name := range names {
				put(name, "1\n")
			}
			for ext, pack := range packs {
				put("data/all.jsonl"+ext, pack(text))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			url, params, _ := strings.Cut(root, "?")
			glob := func(pattern string) string {
				if params != "" {
					pattern += "?" + params
				}
				return strings.TrimSuffix(url, "/") + "/" + pattern
			}
			for _, tc := range globs {
				var full []string
				for _, g := range tc.globs {
					full = append(full, glob(g))
				}
				tasks, err := files.Plan(ctx, full, files.Defaults())
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, task := range tasks {
					if name := strings.TrimPrefix(task.URL, strings.TrimSuffix(url, "/")+"/"); !strings.HasPrefix(name, "data/") {
						got = append(got, name)
					}
					if task.Modified == 0 {
						t.Errorf("%q has no time", task.URL)
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s: files (-want +got):\n%s", tc.name, diff)
				}
			}

			want := read(t, files.Defaults(), write(t, "all.jsonl", text))
			for ext := range packs {
				for _, rangeBytes := range []int64{5000, 8 << 20} {
					o := files.Defaults()
					o.RangeBytes = rangeBytes
					if diff := cmp.Diff(want, read(t, o, glob("data/all.jsonl"+ext))); diff != "" {
						t.Errorf("records of %q (-disk +store):\n%.1000s", ext, diff)
					}
				}
			}
			if _, err := files.Plan(ctx, []string{glob("no/*.jsonl")}, files.Defaults()); err == nil || !strings.Contains(err.Error(), "no file matches") {
				t.Errorf("error is %v, want that no file matches", err)
			}
		})
	}
}
