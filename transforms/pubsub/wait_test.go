package pubsub

import (
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"pgregory.net/rapid"
)

// Of what arrives while a block waits, only that of its slice waits with it: nothing leaves before its time.
func TestWaitKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delay := time.Duration(rapid.Int64Range(int64(3*time.Second), int64(5*time.Minute)).Draw(t, "delay"))
		slice := sliceOf(delay)
		fn := &arriveFn{SliceMillis: slice.Milliseconds()}
		first := time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "first"))
		later := first.Add(time.Duration(rapid.Int64Range(0, int64(delay+2*slice)).Draw(t, "later")))
		a, b := fn.key(first)/spread, fn.key(later)/spread
		same := first.UnixMilli()/slice.Milliseconds() == later.UnixMilli()/slice.Milliseconds()
		if (a == b) != same {
			t.Errorf("%v and %v wait by %d and %d; slices of %v", first, later, a, b, slice)
		}
		if a < 0 || a >= sliceKeys {
			t.Errorf("%d is none of %d slices", a, sliceKeys)
		}
	})
}

// All blocks come out of it, also where the input ends while they wait.
func TestWait(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	blocks := [][]byte{[]byte("a"), []byte("b"), []byte("b"), []byte("c")}
	waited := wait(s, beam.CreateList(s, blocks), time.Minute)
	passert.Equals(s, waited, beam.CreateList(s, blocks))
	if err := ptest.Run(p); err != nil {
		t.Fatal(err)
	}
}
