package lake

import (
	"errors"
	"testing"
	"time"

	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

// A part of a run in another process learns of the request from the lake; who asks learns of it at once.
func TestSignal(t *testing.T) {
	dir := t.TempDir()
	st := openStore(t, dir)
	r := run.Of(t.Name())
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := SignalOf(t.Context(), r, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := SignalOf(t.Context(), r, dir, true); err != nil || again != s {
		t.Errorf("a process asks twice, error %v", err)
	}
	want := func(want bool) {
		t.Helper()
		if got, err := s.IsDraining(t.Context()); got != want || err != nil {
			t.Errorf("it drains: %v, want %v; error %v", got, want, err)
		}
	}
	want(false)
	if err := RequestDrain(t.Context(), st, "another"); err != nil {
		t.Fatal(err)
	}
	want(false)
	for range 2 {
		if err := RequestDrain(t.Context(), st, r.ID); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-r.Draining(): // nobody has asked
	case <-time.After(time.Minute):
		t.Fatal("the run does not see that it is to be drained")
	}
	want(true)
}

// Where all is in one process, the lake is not asked.
func TestSignalOfOneProcess(t *testing.T) {
	r := run.Of(t.Name())
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := SignalOf(t.Context(), r, "nowhere://", false)
	if err != nil {
		t.Fatal(err)
	}
	if draining, err := s.IsDraining(t.Context()); draining || err != nil {
		t.Errorf("it drains: %v, error %v", draining, err)
	}
	r.Drain()
	if draining, err := s.IsDraining(t.Context()); !draining || err != nil {
		t.Errorf("it drains: %v, error %v", draining, err)
	}
}

// Of two notes of a name the first stays, and a run id does not lead out of its folder.
func TestNotes(t *testing.T) {
	st := openStore(t, t.TempDir())
	if _, err := NoteOf(t.Context(), st, "run", "graph"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v, want that there is none", err)
	}
	for _, text := range []string{"first", "second"} {
		if err := Note(t.Context(), st, "run", "graph", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if body, err := NoteOf(t.Context(), st, "run", "graph"); err != nil || string(body) != "first" {
		t.Errorf("the note is %q, error %v", body, err)
	}
	for _, id := range []string{"", "..", ".", "a/b", "../interactions", "/"} {
		if err := RequestDrain(t.Context(), st, id); err == nil {
			t.Errorf("run id %q was taken", id)
		}
	}
}
