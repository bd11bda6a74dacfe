package pubsub

import (
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	register.DoFn2x0[[]byte, func(int64, []byte)](&arriveFn{})
	register.DoFn3x0[int64, func(*[]byte) bool, func([]byte)](&leaveFn{})
	register.Emitter1[[]byte]()
	register.Emitter2[int64, []byte]()
	register.Iter1[[]byte]()
}

// wait hands blocks on, PCollection<[]byte>, when each has waited for a delay: in the state of the runner, so that it is no message's lease that waits.
//
// Those that arrive in the same slice of time wait together, from the first of them on, so that none leaves before its time, and
// none waits for longer than a slice more. What is drained leaves at once.
func wait(s beam.Scope, blocks beam.PCollection, delay time.Duration) beam.PCollection {
	s = s.Scope("pubsub.wait")
	slice := sliceOf(delay)
	arrived := beam.ParDo(s, &arriveFn{SliceMillis: slice.Milliseconds()}, blocks)
	leave := trigger.Repeat(trigger.AfterProcessingTime().PlusDelay(delay + slice))
	windowed := beam.WindowInto(s, window.NewGlobalWindows(), arrived, beam.Trigger(leave), beam.PanesDiscard())
	return beam.ParDo(s, &leaveFn{}, beam.GroupByKey(s, windowed))
}

// sliceOf is the time in which what arrives waits together.
func sliceOf(delay time.Duration) time.Duration {
	return min(max(delay/16, 100*time.Millisecond), time.Second)
}

const (
	// sliceKeys are the numbers that slices of time have, again and again, so that the keys of a stream that never ends are not without end. By the
	// time that one comes again, what waited by it has left: a delay has 16 slices, or as many as it has seconds, which are some minutes.
	sliceKeys = 1024
	// spread is by how many keys the blocks of a slice wait, so that several workers go on with them.
	spread = 8
)

// arriveFn gives a block the key by which it waits.
type arriveFn struct {
	SliceMillis int64

	n int64
}

func (fn *arriveFn) ProcessElement(block []byte, emit func(int64, []byte)) {
	emit(fn.key(time.Now()), block)
}

func (fn *arriveFn) key(now time.Time) int64 {
	fn.n++
	return now.UnixMilli()/fn.SliceMillis%sliceKeys*spread + fn.n%spread
}

// leaveFn hands on what has waited.
type leaveFn struct{}

func (fn *leaveFn) ProcessElement(_ int64, blocks func(*[]byte) bool, emit func([]byte)) {
	var block []byte
	for blocks(&block) {
		emit(block)
	}
}
