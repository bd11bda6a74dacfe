// Package datasets is the one place that knows where real data sets lie on a developer's machine.
//
// The sets themselves (MovieLens, OTTO, Google Retail and others) have licences of their own and are
// not part of this repository. A test that needs one asks for it here and is skipped where it is absent.
package datasets

import (
	"os"
	"path/filepath"
	"testing"
)

// Env names the environment variable that points to the folder with the data sets, one folder a set.
const Env = "BACKBONE_DATASETS"

// Dir returns the folder of the data set called name, and skips the test where it is not there.
//
// It looks in $BACKBONE_DATASETS, or else in shared/data beside the repository.
func Dir(t testing.TB, name string) string {
	t.Helper()
	root := os.Getenv(Env)
	if root == "" {
		root = beside()
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the data set %q is not in %q: set %s to the folder that holds the data sets", name, root, Env)
	}
	return dir
}

// beside returns the folder shared/data next to the one that holds go.mod.
func beside() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
	return filepath.Join(filepath.Dir(dir), "shared", "data")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
