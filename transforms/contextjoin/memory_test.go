package contextjoin

import (
	"fmt"
	"runtime"
	"testing"

	"backbone/schemas"
	"backbone/transforms/dedup"
)

// What contexts are said to take in memory is about what they take, whether many say the same or none does, and where they say the same
// a million sessions fit into the memory that an index may take.
func TestMomentsKnowTheirSize(t *testing.T) {
	const n = 200_000
	for _, test := range []struct {
		name      string
		different int
		mostEach  int64
	}{{"a thousand kinds", 1000, 180}, {"all different", n, 800}} {
		t.Run(test.name, func(t *testing.T) {
			before := heap()
			h := newMoments()
			part := make([]schemas.ContextEvent, 100)
			for i := 0; i < n; i += len(part) {
				for k := range part {
					kind := fmt.Sprint((i + k) % test.different)
					part[k] = schemas.ContextEvent{
						EventID: fmt.Sprintf("01890a5d-ac96-774b-bcce-b302%08d", i+k), EventTime: schemas.Some(int64(i + k)), SessionID: fmt.Sprint("s", i+k),
						Context:    schemas.Context{Country: "AT", City: "city " + kind, DeviceClass: "mobile", OS: "ios", Locale: "de-AT"},
						Attributes: []schemas.Pair{{Key: "weather", Value: "w" + kind}},
					}
				}
				h.add(part, map[dedup.ID]struct{}{})
			}
			took := heap() - before
			t.Logf("%d bytes a session, said to be %d", took/n, h.bytes/n)
			if h.bytes < took*2/3 || h.bytes > took*3/2 {
				t.Errorf("%d bytes are said to be %d", took, h.bytes)
			}
			if took/n > test.mostEach {
				t.Errorf("a session takes %d bytes, want at most %d", took/n, test.mostEach)
			}
			runtime.KeepAlive(h)
		})
	}
}

// heap is what is in use of it.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
