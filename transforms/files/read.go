package files

import "github.com/apache/beam/sdks/v2/go/pkg/beam"

// Read gives encoded tasks to all workers, as a PCollection<[]byte>. There must be one at least.
func Read(s beam.Scope, tasks [][]byte) beam.PCollection {
	s = s.Scope("files.Read")
	return beam.Reshuffle(s, beam.CreateList(s, tasks))
}
