package lake

import (
	"encoding/json"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/google/go-cmp/cmp"

	"backbone/testing/faults"
	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

const grace = 15 * time.Minute

// receiptAt returns the receipt of the hour that a time is in.
func receiptAt(t testing.TB, at time.Time) []byte {
	t.Helper()
	slot := Layout{Window: Hour, Shards: 1}.Slot("interactions", "x", at.UnixMicro())
	_, end := Hour.bounds(slot.Bucket)
	b, err := json.Marshal(Receipt{Slot: slot, Folder: folderOf(slot), Due: end.Add(grace).UnixMicro()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func completeOptions(t testing.TB) Options {
	t.Helper()
	o := Options{URL: t.TempDir(), RunID: t.Name(), Layouts: map[string]Layout{"interactions": {Window: Hour, Shards: 1}}}
	t.Cleanup(func() { _ = run.Of(o.RunID).Close() })
	return o
}

func marked(t testing.TB, o Options) []string {
	t.Helper()
	got, err := filepath.Glob(filepath.Join(o.URL, "interactions", "*", "*", successName))
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i], err = filepath.Rel(filepath.Join(o.URL, "interactions"), filepath.Dir(got[i])); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// At the end of its input a bounded run marks the partitions that are due: those of 2020, but not that of the current
// hour, since its time has not come.
func TestMarkComplete(t *testing.T) {
	for _, bounded := range []bool{true, false} {
		t.Run(map[bool]string{true: "bounded", false: "unbounded"}[bounded], func(t *testing.T) {
			o := completeOptions(t)
			o.Bounded = bounded
			receipts := [][]byte{
				receiptAt(t, day(10, 30)), receiptAt(t, day(11, 30)), receiptAt(t, day(10, 45)), receiptAt(t, time.Now()),
			}
			p, s := beam.NewPipelineWithRoot()
			MarkComplete(s, beam.CreateList(s, receipts), o)
			ptest.RunAndValidate(t, p)
			if diff := cmp.Diff([]string{"dt=2020-01-01/hour=10", "dt=2020-01-01/hour=11"}, marked(t, o)); diff != "" {
				t.Errorf("complete partitions (-want +got):\n%s", diff)
			}
			if n := run.Of(o.RunID).Counts()["lake/complete"]; n < 2 {
				t.Errorf("lake/complete is %d, want 2 or more", n)
			}
		})
	}
}

func day(hour, minute int) time.Time { return time.Date(2020, 1, 1, hour, minute, 0, 0, time.UTC) }

// A run that is drained marks nothing: the watermark says that the input has ended, but it goes on with the next start.
func TestDrainedRunMarksNothing(t *testing.T) {
	o := completeOptions(t)
	run.Of(o.RunID).Drain()
	p, s := beam.NewPipelineWithRoot()
	MarkComplete(s, beam.CreateList(s, [][]byte{receiptAt(t, day(10, 30))}), o)
	ptest.RunAndValidate(t, p)
	if got := marked(t, o); len(got) != 0 {
		t.Errorf("complete partitions %q, want none", got)
	}
}

// A partition that is marked already stays so, and is not written again.
func TestMarkCompleteAgain(t *testing.T) {
	for range 2 {
		o := Options{URL: t.TempDir(), RunID: t.Name(), Bounded: true, Layouts: map[string]Layout{"interactions": {Window: Hour, Shards: 1}}}
		for range 2 {
			p, s := beam.NewPipelineWithRoot()
			MarkComplete(s, beam.CreateList(s, [][]byte{receiptAt(t, day(10, 30))}), o)
			ptest.RunAndValidate(t, p)
			if err := run.Of(o.RunID).Close(); err != nil {
				t.Fatal(err)
			}
		}
		if got := marked(t, o); len(got) != 1 {
			t.Errorf("complete partitions %q, want one", got)
		}
	}
}

// stream is a story told to a pipeline: receipts come, and the watermark moves. The runner waits after each step
// until all is quiet.
type stream struct {
	t      testing.TB
	config teststream.Config
}

func (s *stream) receipts(of ...time.Time) {
	s.t.Helper()
	for _, at := range of {
		// Receipts are of no particular time, as Write gives them.
		if err := s.config.AddElements(day(0, 0).UnixMilli(), receiptAt(s.t, at)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stream) watermark(at time.Time) {
	s.t.Helper()
	if err := s.config.AdvanceWatermark(at.UnixMilli()); err != nil {
		s.t.Fatal(err)
	}
}

// Partitions are marked in the order in which the watermark passes their end and the grace period, whatever the order
// of their receipts; one that is due already is marked after its next receipt.
func TestMarkCompleteFollowsTheWatermark(t *testing.T) {
	o := completeOptions(t)

	// The order of marks, as the lake's storage sees it.
	var mu sync.Mutex
	var order []string
	_, err := run.Shared(run.Of(o.RunID), "lake/store/"+o.URL, func() (*store.Store, error) {
		d, err := store.OpenDriver(t.Context(), o.URL)
		if err != nil {
			return nil, err
		}
		return store.New(faults.Wrap(d, func(_ int, op faults.Op, key string) faults.Fault {
			if op == faults.Create && path.Base(key) == successName {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, path.Base(path.Dir(key)))
			}
			return faults.Fault{}
		}), store.Defaults())
	})
	if err != nil {
		t.Fatal(err)
	}

	story := &stream{t, teststream.NewConfig()}
	story.receipts(day(12, 10), day(10, 59), day(11, 0), day(10, 0))
	story.watermark(day(11, 13)) // the end of hour 10 has passed, but not its grace period
	story.receipts(day(3, 0))    // of an hour that ended long ago: marked with the next move of the watermark
	story.watermark(day(11, 14))
	story.watermark(day(11, 17)) // hour 10 is due
	story.receipts(day(4, 0))
	story.watermark(day(12, 14)) // hour 11 is not, by a minute
	story.receipts(day(10, 30))  // late: its hour is marked, and stays so
	story.watermark(day(12, 17))
	story.receipts(day(5, 0))
	story.watermark(day(13, 14))
	story.watermark(day(13, 17))
	story.receipts(day(6, 0))

	p, s := beam.NewPipelineWithRoot()
	receipts := teststream.Create(s, story.config)
	MarkComplete(s, receipts, o)
	ptest.RunAndValidate(t, p)

	mu.Lock()
	defer mu.Unlock()
	want := []string{"hour=03", "hour=10", "hour=04", "hour=11", "hour=05", "hour=12", "hour=06"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order of marks (-want +got):\n%s", diff)
	}
	if got := marked(t, o); len(got) != len(want) || !slices.IsSorted(got) {
		t.Errorf("complete partitions %q, want %d", got, len(want))
	}
}

func TestMarkCompleteRefusesWhatIsNoReceipt(t *testing.T) {
	for _, receipt := range []string{"{", `{"Slot":{"Table":"users"}}`} {
		o := completeOptions(t)
		p, s := beam.NewPipelineWithRoot()
		MarkComplete(s, beam.CreateList(s, [][]byte{[]byte(receipt)}), o)
		if err := ptest.Run(p); err == nil {
			t.Errorf("receipt %q was taken", receipt)
		}
	}
}
