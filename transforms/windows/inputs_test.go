package windows

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"backbone/transforms/lake"
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
