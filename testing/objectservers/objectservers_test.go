package objectservers_test

import (
	"os"
	"testing"

	"backbone/testing/objectservers"
	"backbone/transforms/lake/store"
)

func TestServersKeepObjects(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{
		"GCS": objectservers.StartGCS,
		"S3":  objectservers.StartS3,
	} {
		t.Run(name, func(t *testing.T) {
			before, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			// Two at once are two lakes.
			bodies := []string{"first", "second"}
			var stores []*store.Store
			for range bodies {
				stores = append(stores, open(t, start(t)))
			}
			const key = "dt=2026-11-22/part"
			for i, s := range stores {
				if outcome, err := s.Commit(t.Context(), key, []byte(bodies[i])); err != nil || outcome != store.Created {
					t.Fatalf("commit: %v, %v", outcome, err)
				}
			}
			for i, s := range stores {
				if body, err := s.ReadAll(t.Context(), key, 1<<10); err != nil || string(body) != bodies[i] {
					t.Errorf("read %q, %v; want %q", body, err, bodies[i])
				}
			}
			if after, err := os.Getwd(); err != nil || after != before {
				t.Errorf("the server has changed the working directory from %q to %q, %v", before, after, err)
			}
		})
	}
}

func open(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
