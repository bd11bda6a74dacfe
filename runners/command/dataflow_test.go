package command

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/iterator"

	"backbone/testing/dataflowfake"
)

// stored returns what Cloud Storage has, with the generation of each object.
func stored(t *testing.T, s *dataflowfake.Server) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	for all := s.Storage().Bucket("shop").Objects(t.Context(), nil); ; {
		o, err := all.Next()
		if errors.Is(err, iterator.Done) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[o.Name] = o.Generation
	}
}

// What a job would be is printed, and nothing is written: in a lake that is new, in one that is there, and to no service.
func TestDryRunOfDataflow(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the worker binary would have to be built")
	}
	s, err := dataflowfake.Start(t.Context(), dataflowfake.Options{Idle: true, Buckets: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, variable := range s.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	put := func(name, text string) {
		w := s.Storage().Bucket("shop").Object(name).NewWriter(t.Context())
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put("in/events.jsonl", `{"event_id":"a","event_type":"view","event_time":"2026-11-20T10:00:00Z","user_id":"u1","item_id":"i1"}`+"\n")
	put("in/contexts.jsonl", `{"event_time":"2026-11-20T09:00:00Z","session_id":"s","attributes":{"weather":"sun"}}`+"\n")
	put("in/items.jsonl", `{"item_id":"i1","title":"Mug","item_type":"product","updated_at":"2026-11-20T10:00:00Z"}`+"\n")
	items := []string{"catalog", "--items=gs://shop/in/items.jsonl", "--as_of=2026-11-22T00:00:00Z", "--lake=gs://shop/there"}
	if code, _, stderr := runLine(t, append(items, "--spill_dir", t.TempDir())...); code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	// As where a run was killed before it has marked its version: the next one that is no dry run does.
	if err := s.Storage().Bucket("shop").Object("there/items/as_of=20261122T000000Z/_SUCCESS").Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := stored(t, s)
	for _, test := range []struct {
		name string
		args []string
		kind string // of the job; "": there is none to make
	}{
		{"Files", []string{"interactions", "--input=gs://shop/in/events.jsonl", "--lake=gs://shop/new"}, "JOB_TYPE_BATCH"},
		{"Contexts", []string{"interactions", "--input=gs://shop/in/events.jsonl", "--context=gs://shop/in/contexts.jsonl", "--lake=gs://shop/new"}, "JOB_TYPE_BATCH"},
		{"Stream", []string{"interactions", "--input=pubsub://shop/events", "--lake=gs://shop/new", "--window=day"}, "JOB_TYPE_STREAMING"},
		{"Catalog", []string{"catalog", "--items=gs://shop/in/items.jsonl", "--as_of=2026-11-22T00:00:00Z", "--lake=gs://shop/new"}, "JOB_TYPE_BATCH"},
		{"A version later", []string{"catalog", "--items=gs://shop/in/items.jsonl", "--as_of=2026-11-23T00:00:00Z", "--lake=gs://shop/there"}, "JOB_TYPE_BATCH"},
		{"A version that is there", items, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			keepBeamFlags(t)
			code, stdout, stderr := runLine(t, append(test.args, "--runner=dataflow", "--dry_run", "--project=shop", "--region=europe-west1",
				"--staging_location=gs://shop/staging", "--dataflow_endpoint="+s.Endpoint())...)
			if code != exitDone {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			var job df.Job
			if test.kind != "" {
				if err := json.Unmarshal([]byte(stdout), &job); err != nil {
					t.Fatalf("%v: %s", err, stdout)
				}
			}
			if job.Type != test.kind {
				t.Errorf("job of type %q, want %q", job.Type, test.kind)
			}
			if diff := cmp.Diff(before, stored(t, s)); diff != "" {
				t.Errorf("something was written (-before +after):\n%s", diff)
			}
			if n := s.Calls("list") + s.Calls("create") + s.Calls("get"); n > 0 {
				t.Errorf("%d calls, want none", n)
			}
		})
	}
}
