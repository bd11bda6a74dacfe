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

//go:embed airflow.txt
var airflow []byte

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
	path, err := environment(ctx, "python", system, requirements, withPip)
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
	path, err := environment(ctx, "python", system, bytewax, withPip)
	if err != nil {
		return "", fmt.Errorf("making a Python environment with Bytewax: %w", err)
	}
	return path, nil
}

// FindAirflow is Find for an environment of its own that has Airflow with its operators for Beam, of the requirements that their modules import, and no more. It
// has a hundred packages and 300 MB: uv installs them within seconds, and pip within minutes.
func FindAirflow(ctx context.Context) (string, error) {
	system, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("needs Python with Airflow: there is no python3 in the PATH: %w", err)
	}
	path, err := environment(ctx, "airflow", system, airflow, func(python, wanted string) []string {
		return []string{"-m", "uv", "pip", "install", "--quiet", "--python", python, "--no-deps", "--only-binary=:all:", "-r", wanted}
	}, "uv==0.13.9")
	if err != nil {
		return "", fmt.Errorf("making a Python environment with Airflow: %w", err)
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

// withPip is the command line by which pip installs what is wanted.
func withPip(_, wanted string) []string {
	return []string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "-r", wanted}
}

// environment returns the interpreter of an environment with the required packages, made with the interpreter system. Install returns the command
// line of the interpreter that installs them; it may need tools, which pip installs before.
func environment(ctx context.Context, name, system string, requirements []byte, install func(python, wanted string) []string, tools ...string) (path string, err error) {
	dir, err := provision.Once(name, append([]byte(system+"\n"), requirements...), func(dir string) error {
		wanted, python := filepath.Join(dir, "requirements.txt"), filepath.Join(dir, "bin", "python")
		if err := provision.Run(ctx, dir, system, "-m", "venv", dir); err != nil {
			return err
		}
		if err := os.WriteFile(wanted, requirements, 0o600); err != nil {
			return err
		}
		for _, tool := range tools {
			if err := provision.Run(ctx, dir, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", tool); err != nil {
				return err
			}
		}
		return provision.Run(ctx, dir, python, install(python, wanted)...)
	})
	return filepath.Join(dir, "bin", "python"), err
}
