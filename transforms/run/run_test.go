package run_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/transforms/run"
)

// resource notes in a log that it was closed.
type resource struct {
	name string
	log  *[]string
	err  error
}

func (r *resource) Close() error {
	*r.log = append(*r.log, r.name)
	return r.err
}

// open returns the run of a test, which is forgotten after it.
func open(t *testing.T) *run.Run {
	t.Helper()
	r := run.Of(t.Name())
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestOf(t *testing.T) {
	r := open(t)
	if r.ID != t.Name() || run.Of(t.Name()) != r {
		t.Error("the same id is not the same run")
	}
	if run.Of("another") == r {
		t.Error("another id is the same run")
	}
	if err := run.Of("another").Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if again := run.Of(t.Name()); again == r {
		t.Error("a closed run is found")
	} else if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// However many ask at once, all get the one value, which is opened once.
func TestSharedOpensOnce(t *testing.T) {
	r := open(t)
	var opened atomic.Int32
	var all sync.WaitGroup
	got := make([]*resource, 50)
	log := []string{}
	for i := range got {
		all.Go(func() {
			v, err := run.Shared(run.Of(t.Name()), "key", func() (*resource, error) {
				opened.Add(1)
				return &resource{name: "one", log: &log}, nil
			})
			if err != nil {
				t.Error(err)
			}
			got[i] = v
		})
	}
	all.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
	for _, v := range got {
		if v == nil || v != got[0] {
			t.Fatal("not all have the same value")
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(log, []string{"one"}) {
		t.Errorf("closed: %q", log)
	}
}

// A failed opening is an error for whoever waited for it; the next call tries again.
func TestSharedTriesAgain(t *testing.T) {
	r := open(t)
	calls := 0
	get := func() (int, error) {
		return run.Shared(r, "key", func() (int, error) {
			if calls++; calls < 3 {
				return 0, io.ErrUnexpectedEOF
			}
			return calls, nil
		})
	}
	for range 2 {
		if _, err := get(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v, want %v", err, io.ErrUnexpectedEOF)
		}
	}
	for range 2 {
		if v, err := get(); v != 3 || err != nil {
			t.Errorf("%v and error %v, want 3", v, err)
		}
	}
}

// A key stands for one type.
func TestSharedOfAnotherType(t *testing.T) {
	r := open(t)
	if _, err := run.Shared(r, "key", func() (int, error) { return 1, nil }); err != nil {
		t.Fatal(err)
	}
	if v, err := run.Shared(r, "key", func() (string, error) { return "text", nil }); err == nil || v != "" {
		t.Errorf("%q and error %v, want an error", v, err)
	}
}

// Opening may ask for what it is made of.
func TestSharedWithin(t *testing.T) {
	r := open(t)
	log := []string{}
	_, err := run.Shared(r, "outer", func() (*resource, error) {
		_, err := run.Shared(r, "inner", func() (*resource, error) { return &resource{name: "inner", log: &log}, nil })
		return &resource{name: "outer", log: &log}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"outer", "inner"}, log); diff != "" {
		t.Errorf("closed in the order (-want +got):\n%s", diff)
	}
}

// Close closes the newest first, each once, and goes on after an error.
func TestClose(t *testing.T) {
	r := run.Of(t.Name())
	log := []string{}
	for _, v := range []*resource{{name: "a", log: &log}, {name: "b", log: &log, err: io.ErrClosedPipe}, {name: "c", log: &log}} {
		if _, err := run.Shared(r, v.name, func() (*resource, error) { return v, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run.Shared(r, "failed", func() (*resource, error) { return &resource{name: "failed", log: &log}, io.EOF }); err == nil {
		t.Error("no error")
	}
	if err := r.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want %v", err, io.ErrClosedPipe)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if diff := cmp.Diff([]string{"c", "b", "a"}, log); diff != "" {
		t.Errorf("closed in the order (-want +got):\n%s", diff)
	}
}

func TestDrain(t *testing.T) {
	r := open(t)
	select {
	case <-r.Draining():
		t.Error("draining before it was asked to")
	default:
	}
	if r.IsDraining() {
		t.Error("draining before it was asked to")
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(r.Drain)
	}
	<-r.Draining()
	all.Wait()
	if !run.Of(t.Name()).IsDraining() {
		t.Error("not draining")
	}
}

func TestCounters(t *testing.T) {
	r := open(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				r.Counter("lake", "committed").Add(context.Background(), int64(i))
			}
		})
	}
	r.Counter("lake", "dropped").Add(context.Background(), 0)
	all.Wait()
	want := map[string]int64{"lake/committed": 2800, "lake/dropped": 0} // 100 * (0 + ... + 7)
	if diff := cmp.Diff(want, r.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if n := r.Counter("lake", "committed").Value(); n != 2800 {
		t.Errorf("committed is %d, want 2800", n)
	}
}

// A distribution is counted in this process by its number and sum, also when a DoFn asks for it again.
func TestDistribution(t *testing.T) {
	r := run.Of(t.Name())
	r.Distribution("lake", "commit_milliseconds").Update(t.Context(), 30)
	r.Distribution("lake", "commit_milliseconds").Update(t.Context(), 12)
	want := map[string]int64{"lake/commit_milliseconds_count": 2, "lake/commit_milliseconds_sum": 42}
	if diff := cmp.Diff(want, r.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
