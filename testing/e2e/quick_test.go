//go:build !e2e

package e2e

// Without the build tag e2e, there is time for the quick stories and a small day only.
const (
	full          = false
	defaultEvents = 4_000
)
