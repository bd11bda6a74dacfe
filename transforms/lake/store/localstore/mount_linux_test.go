package localstore_test

import (
	"fmt"
	"syscall"
)

// mount makes dir a file system of size bytes, if the test may do that.
func mount(dir string, size int) (unmount func() error, err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, err
	}
	return func() error { return syscall.Unmount(dir, 0) }, nil
}
