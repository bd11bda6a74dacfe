//go:build e2e

package flinkcluster_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"backbone/testing/flinkcluster"
)

// A cluster comes up with all that was asked for, and nothing of it is left when it was closed.
func TestCluster(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := flinkcluster.Start(t.Context(), flinkcluster.Options{TaskManagers: 2, WorkerPool: self})
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
	managers = append(managers, c.Process(flinkcluster.WorkerPool))
	conn, err := net.Dial("tcp", c.WorkerPool)
	if err != nil {
		t.Error(err)
	} else {
		conn.Close()
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
