package dataflowfake

import (
	"sync"
	_ "unsafe" // for go:linkname

	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness" // which has what is linked to
)

// shortIDs is what the SDK calls metrics by, in this process. Its fields are those of the SDK's type.
type shortIDs struct {
	sync.Mutex
	_, _ map[struct{}]struct{}
	last int64
}

//go:linkname defaultShortIDCache github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness.defaultShortIDCache
var defaultShortIDCache *shortIDs

// offsetShortIDs has this process count the ids of metrics from another number on than workers do. Prism keeps those of all processes of a job in one
// place, and metrics with the same id would be lost.
func offsetShortIDs() {
	defaultShortIDCache.Lock()
	defer defaultShortIDCache.Unlock()
	defaultShortIDCache.last = max(defaultShortIDCache.last, 1<<30)
}
