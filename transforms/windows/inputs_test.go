package windows

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"backbone/schemas"
	"backbone/testing/faults"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
	"backbone/transforms/lake/store/localstore"
)

// Digests are all there, or there is an error: also when the run ends while they are read.
func TestDigestsOfARunThatEnds(t *testing.T) {
	st := openStore(t, t.TempDir())
	var files []string
	for n := range 20 {
		r, err := commit(t.Context(), st, true, event(fmt.Sprintf("10:%d ann view cup", n)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, r.Folder+"/"+r.Files[0])
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newInputs(st, lake.Hour, false).loadAll(ctx, files); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want %v", err, context.Canceled)
	}
}

// A result that is replaced while it is read is the one that is there then.
func TestResultIsReplacedWhileItIsRead(t *testing.T) {
	local, err := localstore.New(t.TempDir(), localstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	st, err := store.New(faults.Wrap(local, func(_ int, op faults.Op, _ string) faults.Fault {
		if op != faults.ReadAt {
			return faults.Fault{}
		}
		if reads++; reads != 2 { // the first one is that of who made it
			return faults.Fault{}
		}
		return faults.Fault{Err: driver.Mark(driver.ErrNotFound, faults.ErrInjected)}
	}), store.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{store: st}
	u := Unit{schemas.Sessions.Name, at(10, 0).UnixMicro(), at(11, 0).UnixMicro()}
	r := &result{revision: 3, from: u.Start, to: u.End}
	if err := encode(schemas.Sessions, nil, func(s *schemas.Session) *schemas.Pane { return &s.Pane }, schemas.Pane{}, r); err != nil {
		t.Fatal(err)
	}
	if err := e.settle(t.Context(), u, r); err != nil {
		t.Fatal(err)
	}
	got, err := e.read(t.Context(), u.key())
	if err != nil || got == nil || got.revision != 3 {
		t.Errorf("read %+v, %v; want the result", got, err)
	}
	if reads < 3 {
		t.Errorf("it was read %d times; was there a fault?", reads)
	}
}
