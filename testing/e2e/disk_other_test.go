//go:build !linux

package e2e

import "testing"

// smallDisk skips the test: it mounts a small file system in memory on Linux.
func smallDisk(t *testing.T, _ int) (dir string, grow func()) {
	t.Helper()
	t.Skip("needs Linux, to mount a small disk")
	return "", nil
}
