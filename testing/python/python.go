// Package python gives tests a Python interpreter that has DuckDB and pyarrow, so that the lake can be read by somebody
// else's code.
//
// The interpreter is in a virtual environment below the user's cache folder, made with pip on first use and shared by
// all work trees that want the same packages (requirements.txt).
package python

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"backbone/testing/provision"
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
	dir, err := provision.Once("python", append([]byte(system+"\n"), requirements...), func(dir string) error {
		wanted := filepath.Join(dir, "requirements.txt")
		if err := provision.Run(ctx, dir, system, "-m", "venv", dir); err != nil {
			return err
		}
		if err := os.WriteFile(wanted, requirements, 0o600); err != nil {
			return err
		}
		return provision.Run(ctx, dir, filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
			"--only-binary=:all:", "-r", wanted)
	})
	return filepath.Join(dir, "bin", "python"), err
}
