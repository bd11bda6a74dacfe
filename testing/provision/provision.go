// Package provision keeps what tests need and the repository does not have, made on first use: environments, distributions of software. It
// is below the user's cache folder, and shared by all work trees that want the same.
package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Once returns the folder of a thing that has a name and is made of key. Where it is not there as a whole, fill fills it, an empty folder of
// that path; of several processes one makes it, and the others wait.
func Once(name string, key []byte, fill func(dir string) error) (dir string, err error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(key)
	dir = filepath.Join(caches, "backbone", name+"-"+hex.EncodeToString(sum[:8]))
	made := filepath.Join(dir, "made") // written last: without it, the thing is not whole
	if exists(made) {
		return dir, nil
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if exists(made) {
		return dir, nil
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return "", err
	}
	if err := fill(dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(made, nil, 0o600)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lock takes the lock that path stands for, and waits for it. The operating system gives it back if the process dies.
func lock(path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %q: %w", path, err), file.Close())
	}
	return file.Close, nil
}

// Run runs a program in dir. The end of what it prints is in the error.
func Run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("%s: %w\n%s", name, err, bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
	}
	return nil
}
