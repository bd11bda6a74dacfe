package localstore

import (
	"context"
	"errors"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// createNameless is create by a file that has no name until it is whole: a kill before that leaves nothing at all.
func (d *Driver) createNameless(ctx context.Context, dir, name string, body []byte) (err error) {
	folder, err := open(unix.AT_FDCWD, d.path(dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.close()) }()

	var file fd
	err = d.call(OpTmpfile, dir, func() (err error) {
		file, err = open(folder.n, ".", unix.O_WRONLY|unix.O_TMPFILE)
		return err
	})
	if refused(err) {
		return errNoNameless
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.close()) }()

	key := path.Join(dir, name)
	file.name = key
	if err := d.call(OpWrite, key, func() error { return file.write(body) }); err != nil {
		return err
	}
	if err := d.call(OpSync, key, file.flush); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.call(OpLink, key, func() error { return file.link(folder, name) }); err != nil {
		return err
	}
	return d.call(OpSyncDir, dir, folder.flush)
}

// refused tells if an error of open means that there are no files without a name: the kernel, or the file system, does not know O_TMPFILE.
func refused(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// fd is an open file or folder: plain system calls, as an os.File costs an allocation, a finalizer and a poller each time.
type fd struct {
	n    int
	name string // for errors
}

func open(at int, path string, flags int) (fd, error) {
	for {
		n, err := unix.Openat(at, path, flags|unix.O_CLOEXEC, 0o666)
		if err != unix.EINTR {
			return fd{n, path}, wrap("open", path, err)
		}
	}
}

func (f fd) write(body []byte) error {
	for len(body) > 0 {
		n, err := unix.Write(f.n, body)
		if err != nil && err != unix.EINTR {
			return wrap("write", f.name, err)
		}
		body = body[max(n, 0):]
	}
	return nil
}

func (f fd) flush() error {
	for {
		err := unix.Fsync(f.n)
		if err != unix.EINTR {
			return wrap("fsync", f.name, err)
		}
	}
}

// link gives a file without a name its name in folder.
func (f fd) link(folder fd, name string) error {
	const proc = "/proc/self/fd/"
	err := unix.Linkat(unix.AT_FDCWD, proc+strconv.Itoa(f.n), folder.n, name, unix.AT_SYMLINK_FOLLOW)
	if err == unix.ENOENT {
		if _, err := os.Stat(proc); err != nil {
			return errNoNameless // Without /proc only root can link an open file.
		}
	}
	return wrap("link", name, err)
}

func (f fd) close() error { return wrap("close", f.name, unix.Close(f.n)) }

func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

// flushDir makes the names in a folder durable.
func flushDir(dir string) (err error) {
	folder, err := open(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.close()) }()
	return folder.flush()
}
