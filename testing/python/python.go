// Package python gives tests a Python interpreter that has DuckDB and pyarrow, so that the lake can be read by somebody
// else's code.
//
// The interpreter is in a virtual environment below the user's cache folder, made with pip on first use and shared by
// all work trees that want the same packages (requirements.txt).
package python

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

//go:embed requirements.txt
var requirements []byte

//go:embed bytewax.txt
var bytewax []byte

// Path returns the path of the interpreter, and makes its environment where it is not there yet, which takes a minute
// and needs the Python Package Index. It skips the test with -short, and where there is no python3.
func Path(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Python with DuckDB and pyarrow: run it without -short")
	}
	path, err := Find(t.Context())
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Find is Path for programs. Its error Is exec.ErrNotFound where there is no python3.
func Find(ctx context.Context) (string, error) {
	system, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("needs Python with DuckDB and pyarrow: there is no python3 in the PATH: %w", err)
	}
	path, err := environment(ctx, system, requirements)
	if err != nil {
		return "", fmt.Errorf("making a Python environment with DuckDB and pyarrow: %w", err)
	}
	return path, nil
}

// FindBytewax is Find for an environment of its own that has Bytewax, which nothing but a benchmark needs.
func FindBytewax(ctx context.Context) (string, error) {
	system, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("needs Python with Bytewax: there is no python3 in the PATH: %w", err)
	}
	path, err := environment(ctx, system, bytewax)
	if err != nil {
		return "", fmt.Errorf("making a Python environment with Bytewax: %w", err)
	}
	return path, nil
}

// Run runs script with args, without a shell, and returns what it prints. The test fails where the script does.
func Run(t testing.TB, script string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Path(t), append([]string{"-c", script}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, &stderr)
	}
	return string(out)
}

// environment returns the interpreter of an environment with the required packages, made with the interpreter system.
func environment(ctx context.Context, system string, requirements []byte) (path string, err error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(system+"\n"), requirements...))
	dir := filepath.Join(caches, "backbone", "python-"+hex.EncodeToString(sum[:8]))
	path = filepath.Join(dir, "bin", "python")
	made := filepath.Join(dir, "made") // written last: without it, the environment is not whole
	if exists(made) {
		return path, nil
	}

	// Packages are tested by processes of their own, at the same time: one makes the environment, the others wait.
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if exists(made) {
		return path, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	wanted := filepath.Join(dir, "requirements.txt")
	if err := command(ctx, system, "-m", "venv", dir); err != nil {
		return "", err
	}
	if err := os.WriteFile(wanted, requirements, 0o600); err != nil {
		return "", err
	}
	if err := command(ctx, path, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "-r", wanted); err != nil {
		return "", err
	}
	return path, os.WriteFile(made, nil, 0o600)
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

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
