//go:build !unix

package pubsubserver

import "os"

// lockDir only opens the file: there is no lock to be had that is the same everywhere.
func lockDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
}
