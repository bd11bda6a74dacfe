// Package localstore keeps the lake in a folder of a local disk.
//
// A create writes a file without a name (O_TMPFILE), flushes it, gives it its name with link(2), which fails if the name
// is taken, and flushes the folder. Where files without a name are not possible, a hidden file ".tmp-..." beside the data
// takes their place; Sweep removes those that a kill has left.
//
// # Guarantees
//
//   - One create of many wins, on one machine, across processes.
//   - What Create has returned nil for outlives a loss of power, new folders included.
//   - A kill at any moment leaves the whole object or none; at most a hidden file, which no list shows.
//
// # Limits
//
//   - The disk has to honour fsync and link(2): ext4, XFS, Btrfs, ZFS, APFS and NTFS do. On Windows a folder cannot be flushed. NFS and other
//     network file systems were not tried.
//   - A name is a file or a folder, not both: with an object "a" there can be no "a/b". Where the file system folds case, so do keys.
package localstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"backbone/transforms/lake/store/driver"
)

// Op names a storage call.
type Op string

// The storage calls that change something, in the order of a create.
const (
	OpMkdir   Op = "mkdir"    // make a folder
	OpTmpfile Op = "tmpfile"  // open a file without a name in a folder
	OpTemp    Op = "temp"     // open a hidden file
	OpWrite   Op = "write"    // write the body
	OpSync    Op = "sync"     // flush the file
	OpLink    Op = "link"     // give it its name
	OpSyncDir Op = "sync dir" // flush a folder
	OpUnlink  Op = "unlink"   // remove a name
)

// Options change how a Driver works. The zero value is right for all but tests.
type Options struct {
	// HiddenFiles makes hidden files the only way to write, as on systems without O_TMPFILE. Default: where they are needed.
	HiddenFiles bool
	// Before is called before each storage call with the path relative to the root ("." for the root); the call fails with the error
	// it returns. Default: none.
	Before func(op Op, path string) error
}

// Driver is a folder.
type Driver struct {
	root    string
	options Options
	hidden  atomic.Bool // O_TMPFILE was refused

	mu   sync.Mutex
	made map[string]struct{} // folders that are there and durable
}

var _ driver.Driver = (*Driver)(nil)

// maxMade bounds Driver.made, to some 10 MB. A folder that was forgotten costs a mkdir and a flush.
const maxMade = 100_000

// New returns a driver for the folder root. The folder is made by the first Create.
func New(root string, o Options) (*Driver, error) {
	if root == "" {
		return nil, errors.New("the path of a local store is empty")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", root, err)
	}
	d := &Driver{root: abs, options: o, made: map[string]struct{}{}}
	d.hidden.Store(o.HiddenFiles)
	return d, nil
}

// URL returns the absolute path.
func (d *Driver) URL() string { return d.root }

// Close does nothing.
func (d *Driver) Close() error { return nil }

// Create implements driver.Driver.
func (d *Driver) Create(ctx context.Context, key string, body []byte) error {
	dir, name := path.Split(key)
	dir = path.Clean(dir) // "." for the root
	err := d.create(ctx, dir, name, body)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody has removed a folder that was there: forget what was, so that it is made again.
		d.forget()
		if err = d.create(ctx, dir, name, body); errors.Is(err, fs.ErrNotExist) {
			return driver.Mark(driver.ErrTransient, err)
		}
	}
	return classify(err)
}

func (d *Driver) create(ctx context.Context, dir, name string, body []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.ensure(dir); err != nil {
		return err
	}
	if !d.hidden.Load() {
		err := d.createNameless(ctx, dir, name, body)
		if !errors.Is(err, errNoNameless) {
			return err
		}
		d.hidden.Store(true)
	}
	return d.createHidden(ctx, dir, name, body)
}

// errNoNameless says that the file system, or the system, has no files without a name.
var errNoNameless = errors.New("no files without a name here")

// createHidden is create by a hidden file beside the data.
func (d *Driver) createHidden(ctx context.Context, dir, name string, body []byte) error {
	key, temp := path.Join(dir, name), path.Join(dir, driver.TempPrefix+strconv.FormatUint(rand.Uint64(), 36))
	var f *os.File
	err := d.call(OpTemp, dir, func() (err error) {
		f, err = os.OpenFile(d.path(temp), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	if err != nil {
		return err
	}
	// Sweep would remove it too: not a reason to fail.
	defer func() { _ = d.unlink(temp) }()
	if err = errors.Join(d.fill(f, key, body), f.Close()); err != nil {
		return err
	}
	if err = ctx.Err(); err != nil {
		return err
	}
	if err = d.call(OpLink, key, func() error { return os.Link(d.path(temp), d.path(key)) }); err != nil {
		return err
	}
	return d.syncDir(dir)
}

// fill writes and flushes a new file; key is what it is going to be.
func (d *Driver) fill(f *os.File, key string, body []byte) error {
	err := d.call(OpWrite, key, func() error {
		_, err := f.Write(body)
		return err
	})
	if err != nil {
		return err
	}
	return d.call(OpSync, key, f.Sync)
}

// ensure makes the folder dir and those above it, and makes them durable. It asks the disk only about folders that it has not seen yet.
func (d *Driver) ensure(dir string) error {
	d.mu.Lock()
	_, made := d.made[dir]
	d.mu.Unlock()
	if made {
		return nil
	}
	if dir == "." {
		if err := d.ensureRoot(d.root); err != nil {
			return err
		}
	} else {
		parent := path.Dir(dir)
		if err := d.ensure(parent); err != nil {
			return err
		}
		if err := d.mkdir(dir); err != nil {
			return err
		}
		// Also if it was there: who made it may not have flushed its parent yet.
		if err := d.syncDir(parent); err != nil {
			return err
		}
	}
	d.mu.Lock()
	if len(d.made) >= maxMade {
		clear(d.made)
	}
	d.made[dir] = struct{}{}
	d.mu.Unlock()
	return nil
}

// ensureRoot makes the root and what is missing above it. What was there is left alone: it may belong to others.
func (d *Driver) ensureRoot(root string) error {
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(root)
	if err := d.ensureRoot(parent); err != nil {
		return err
	}
	rel, err := filepath.Rel(d.root, root)
	if err != nil {
		return err
	}
	dir := filepath.ToSlash(rel) // ".", "..", "../..": d.path takes them too
	if err := d.mkdir(dir); err != nil {
		return err
	}
	return d.syncDir(path.Join(dir, ".."))
}

func (d *Driver) forget() {
	d.mu.Lock()
	clear(d.made)
	d.mu.Unlock()
}

// mkdir makes a folder that may be there.
func (d *Driver) mkdir(dir string) error {
	err := d.call(OpMkdir, dir, func() error { return os.Mkdir(d.path(dir), 0o777) })
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// syncDir flushes the names in a folder.
func (d *Driver) syncDir(dir string) error {
	return d.call(OpSyncDir, dir, func() error { return flushDir(d.path(dir)) })
}

func (d *Driver) unlink(key string) error {
	return d.call(OpUnlink, key, func() error { return os.Remove(d.path(key)) })
}

// call makes one storage call. All that change something go through here, so that a test can see and break each.
func (d *Driver) call(op Op, path string, do func() error) error {
	if d.options.Before != nil {
		if err := d.options.Before(op, path); err != nil {
			return err
		}
	}
	return do()
}

func (d *Driver) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// Open implements driver.Driver.
func (d *Driver) Open(ctx context.Context, key string) (driver.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(d.path(key))
	if missing(err) {
		return nil, driver.Mark(driver.ErrNotFound, err)
	}
	if err != nil {
		return nil, classify(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = driver.Markf(driver.ErrNotFound, "%q is a folder or a device, not a file", f.Name())
	}
	if err != nil {
		return nil, errors.Join(classify(err), f.Close())
	}
	return &object{File: f, size: info.Size()}, nil
}

type object struct {
	*os.File
	size int64
}

func (o *object) Size() int64 { return o.size }

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Entry, error] {
	return func(yield func(driver.Entry, error) bool) {
		dir := path.Dir(prefix + "x") // The last folder that prefix names in full.
		if err := d.walk(ctx, dir, prefix, yield); err != nil && !errors.Is(err, errStop) {
			yield(driver.Entry{}, classify(err))
		}
	}
}

// errStop says that the reader of a list wants no more.
var errStop = errors.New("stop")

// walk yields the files under dir that start with prefix.
func (d *Driver) walk(ctx context.Context, dir, prefix string, yield func(driver.Entry, error) bool) error {
	entries, err := d.read(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case !strings.HasPrefix(e.Key, prefix):
		case strings.HasSuffix(e.Key, "/"):
			if err := d.walk(ctx, path.Clean(e.Key), prefix, yield); err != nil {
				return err
			}
		default:
			if !yield(e, nil) {
				return errStop
			}
		}
	}
	return nil
}

// ListDir implements driver.Driver.
func (d *Driver) ListDir(ctx context.Context, dir string) iter.Seq2[driver.Entry, error] {
	return func(yield func(driver.Entry, error) bool) {
		entries, err := d.read(ctx, path.Clean(dir))
		if err != nil {
			yield(driver.Entry{}, classify(err))
			return
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// read returns what stands in a folder, sorted by key, where folders end in "/": "a-b" comes before "a/".
func (d *Driver) read(ctx context.Context, dir string) ([]driver.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(d.path(dir))
	if err != nil && !missing(err) {
		return nil, err
	}
	entries := make([]driver.Entry, 0, len(files))
	for _, f := range files {
		if strings.HasPrefix(f.Name(), driver.TempPrefix) {
			continue
		}
		key := path.Join(dir, f.Name())
		if f.IsDir() {
			entries = append(entries, driver.Entry{Key: key + "/"})
			continue
		}
		info, err := f.Info()
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			info, err = os.Stat(d.path(key)) // Partitions moved to another disk still belong to the lake.
		}
		switch {
		case missing(err): // Removed since.
		case err != nil:
			return nil, err
		case info.IsDir():
			entries = append(entries, driver.Entry{Key: key + "/"})
		case info.Mode().IsRegular():
			entries = append(entries, driver.Entry{Key: key, Size: info.Size(), Modified: info.ModTime()})
		}
	}
	slices.SortFunc(entries, func(a, b driver.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return entries, nil
}

// Sync implements driver.Driver.
func (d *Driver) Sync(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The folder and each one above it, up to the root: another process may have made them a moment ago.
	for dir = path.Clean(dir); ; dir = path.Dir(dir) {
		if err := d.syncDir(dir); err != nil && !missing(err) {
			return classify(err)
		}
		if d.durable(dir) {
			return nil
		}
	}
}

// durable tells if the names of dir and of all above it are known to be flushed.
func (d *Driver) durable(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, made := d.made[dir]
	return made || dir == "."
}

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := os.Stat(d.path(key))
	if err == nil && info.IsDir() {
		return nil // os.Remove would remove an empty folder.
	}
	if err == nil {
		err = d.unlink(key)
	}
	if missing(err) {
		return nil
	}
	return classify(err)
}

// Sweep removes the hidden files that kills have left and that are older than age. An age of an hour is safe: no write takes as long.
// It returns how many it has removed.
func (d *Driver) Sweep(ctx context.Context, age time.Duration) (removed int, err error) {
	err = filepath.WalkDir(d.root, func(file string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), driver.TempPrefix) {
			return err
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < age {
			return err
		}
		if err := os.Remove(file); err != nil {
			return err
		}
		removed++
		return nil
	})
	if missing(err) {
		err = nil
	}
	if err != nil {
		return removed, fmt.Errorf("sweep %q: %w", d.root, classify(err))
	}
	return removed, nil
}

// missing tells if there is no such file, or if what should be a folder above it is a file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// classify marks an error with what a caller can do about it.
func classify(err error) error {
	switch {
	case err == nil, errors.Is(err, driver.ErrNotFound):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrExist):
		return driver.Mark(driver.ErrExists, err)
	case errors.Is(err, syscall.ENOSPC):
		return driver.Markf(driver.ErrPermanent, "the disk is full, free some space and start again: %w", err)
	case errors.Is(err, syscall.EDQUOT):
		return driver.Markf(driver.ErrPermanent, "the quota is used up, free some space and start again: %w", err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return driver.Mark(driver.ErrTransient, err)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return driver.Mark(driver.ErrPermanent, err)
	}
	return err
}
