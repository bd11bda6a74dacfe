//go:build !linux

package localstore

import (
	"context"
	"errors"
	"os"
	"runtime"
)

// createNameless is not possible here.
func (d *Driver) createNameless(context.Context, string, string, []byte) error { return errNoNameless }

// flushDir makes the names in a folder durable. Windows cannot.
func flushDir(dir string) (err error) {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if runtime.GOOS == "windows" {
		return nil
	}
	return folder.Sync()
}
