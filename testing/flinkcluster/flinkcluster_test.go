//go:build e2e

package flinkcluster_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"backbone/testing/flinkcluster"
)

// A cluster comes up with all that was asked for, and nothing of it is left when it was closed.
func TestCluster(t *testing.T) {
	c, err := flinkcluster.Start(t.Context(), flinkcluster.Options{TaskManagers: 2})
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	managers := c.TaskManagers()
	if len(managers) != 2 {
		t.Errorf("%d task managers, want 2", len(managers))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, m := range managers {
		if err := syscall.Kill(-m.PID(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the group of process %d is still there: %v", m.PID(), err)
		}
	}
	if _, err := os.Stat(c.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}
