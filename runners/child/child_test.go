package child

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentEnv makes the test binary a parent that starts a shell which logs to the file it names, and waits to be killed.
const parentEnv = "CHILD_TEST_LOG"

func TestMain(m *testing.M) {
	if log := os.Getenv(parentEnv); log != "" {
		p, err := Start("the grandchild", log, shell("sleep 60"))
		if err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		return
	}
	os.Exit(m.Run())
}

func shell(script string) *exec.Cmd {
	return &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", script}}
}

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start("the shell", filepath.Join(t.TempDir(), "log"), shell(script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(time.Second); err != nil {
			t.Error(err)
		}
	})
	return p
}

// gone waits until there is no process of an id, or of a group if it is negative.
func gone(t *testing.T, id int) {
	t.Helper()
	for range 500 {
		if errors.Is(syscall.Kill(id, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d is still there", id)
}

// What the process has started ends with it, also where neither of them wants to.
func TestStop(t *testing.T) {
	p := start(t, "trap '' TERM; (trap '' TERM; sleep 60) & echo ready; sleep 60; sleep 60")
	err := p.Await(t.Context(), func() error {
		if p.Tail(1) != "ready" {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(50 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	gone(t, -p.PID())
	if err := p.Stop(time.Second); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}

func TestExitCode(t *testing.T) {
	for script, want := range map[string]int{"true": 0, "exit 3": 3, "kill -9 $$": 137} {
		p := start(t, script)
		<-p.Ended()
		if got := p.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d", script, got, want)
		}
	}
	p := start(t, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
	if err := p.Await(t.Context(), func() error {
		if p.Tail(1) != "ready" {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGTERM)
	<-p.Ended()
	if got := p.ExitCode(); got != 7 {
		t.Errorf("exit code %d, want 7", got)
	}
}

func TestAwait(t *testing.T) {
	never := errors.New("not yet")
	p := start(t, `printf 'starting\njava.lang.Exception: no room\n\tat a.B.c(B.java:1)\n'; exit 3`)
	err := p.Await(t.Context(), func() error { return never })
	if err == nil || !strings.Contains(err.Error(), "the shell has ended (exit status 3)") || !strings.HasSuffix(err.Error(), "starting; java.lang.Exception: no room") {
		t.Errorf("error %v, want how it has ended and what it has said", err)
	}
	p = start(t, "sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Await(ctx, func() error { return never }); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, never) {
		t.Errorf("error %v, want %v and %v", err, context.DeadlineExceeded, never)
	}
}

// A process does not outlive the one that started it, even if that is killed.
func TestParentIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends processes whose parent is gone")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self)
	parent.Env = append(os.Environ(), parentEnv+"="+filepath.Join(t.TempDir(), "log"))
	if _, err := parent.StdinPipe(); err != nil { // held open: it waits
		t.Fatal(err)
	}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	gone(t, id)
}
