package files

import (
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	register.Function1x2(task)
	register.Function2x0(await)
	register.Function3x0(release)
	register.Iter1[[]byte]()
	register.Emitter1[[]byte]()
	register.Emitter2[string, []byte]()
}

// Read gives encoded tasks to all workers, as a PCollection<[]byte>. There must be one at least.
func Read(s beam.Scope, tasks [][]byte) beam.PCollection {
	s = s.Scope("files.Read")
	return beam.Reshuffle(s, beam.CreateList(s, tasks))
}

// ReadAfter is Read when all elements of another collection are there.
//
//	after  PCollection<[]byte>: nothing is read in it
func ReadAfter(s beam.Scope, tasks [][]byte, after beam.PCollection) beam.PCollection {
	s = s.Scope("files.ReadAfter")
	// A group is complete when all that goes into it is.
	waiting := beam.Flatten(s, beam.ParDo(s, task, beam.CreateList(s, tasks)), beam.ParDo(s, await, after))
	return beam.Reshuffle(s, beam.ParDo(s, release, beam.GroupByKey(s, waiting)))
}

const waitingKey = "tasks"

func task(t []byte) (string, []byte) { return waitingKey, t }

func await(_ []byte, emit func(string, []byte)) { emit(waitingKey, nil) }

func release(_ string, waiting func(*[]byte) bool, emit func([]byte)) {
	for t := []byte(nil); waiting(&t); t = nil {
		if len(t) > 0 {
			emit(t)
		}
	}
}
