//go:build e2e

package e2e

// full tells that all stories are wanted, and a day of a size that has several files under way at any moment.
const (
	full          = true
	defaultEvents = 60_000
)
