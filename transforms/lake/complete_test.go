package lake

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"backbone/transforms/run"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

// A partition that ended long ago is marked; that of the current hour is not, since its time has not come.
func TestMarkComplete(t *testing.T) {
	o := Options{URL: t.TempDir(), RunID: t.Name(), Layouts: map[string]Layout{"interactions": {Window: Hour, Shards: 1}}}
	r := run.Of(o.RunID)
	var receipts [][]byte
	for _, at := range []time.Time{time.Date(2020, 1, 1, 10, 30, 0, 0, time.UTC), time.Date(2020, 1, 1, 11, 30, 0, 0, time.UTC), time.Now()} {
		slot := o.Layouts["interactions"].Slot("interactions", "x", at.UnixMicro())
		b, err := json.Marshal(Receipt{Slot: slot, Folder: "interactions/" + Hour.folder(slot.Bucket)})
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, b)
	}
	p, s := beam.NewPipelineWithRoot()
	MarkComplete(s, beam.CreateList(s, receipts), o, 15*time.Minute)
	ptest.RunAndValidate(t, p)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	got, _ := filepath.Glob(filepath.Join(o.URL, "interactions", "*", "*", successName))
	if len(got) != 2 {
		t.Errorf("marked %q, want the two hours of 2020", got)
	}
}
