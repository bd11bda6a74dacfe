// Package child starts programs that do not outlive this process.
//
// Each is the leader of a process group of its own, so that what it starts ends with it. On Linux the kernel kills it when
// this process dies, however that happens; elsewhere only Stop does.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs.
type Process struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // of Wait; to be read after ended
}

// Start runs cmd under a name for people. What it prints is appended to the file at log, or, if that is "", goes where cmd says.
func Start(name, log string, cmd *exec.Cmd) (*Process, error) {
	if log != "" {
		out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("log of %s: %w", name, err)
		}
		defer func() { _ = out.Close() }() // the process has its own
		cmd.Stdout, cmd.Stderr = out, out
	}
	cmd.SysProcAttr = attributes()
	p := &Process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel looks at the thread that started a process, not at the whole of its parent: this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// PID is the id of the process, and of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the process to end, and kills it and all of its group after grace. To stop it again does nothing.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(grace):
	}
	if err := syscall.Kill(-p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.ended
	return nil
}

// Signal sends the process a signal, and not what it has started.
func (p *Process) Signal(s os.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have ended
}

// Kill ends the process as the kernel does where memory is short: at once, and not what it has started.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Await calls ready until it returns nil, every 200 ms. It gives up with an error that has the end of the log when the process has
// ended, and with ready's last error when ctx is done.
func (p *Process) Await(ctx context.Context, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s has ended (%w); its log %s ends with: %s", p.name, p.Exit(), p.log, p.Tail(5))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w): %w; its log is %s", p.name, context.Cause(ctx), err, p.log)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Exit says how the process has ended, also where that was well. It may be called when Ended is closed.
func (p *Process) Exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// ExitCode is that of the process, and 128 and the number of the signal where one has ended it, as shells say it. It may be called when Ended
// is closed.
func (p *Process) ExitCode() int {
	state := p.cmd.ProcessState
	if state == nil {
		return -1
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// Tail returns the last lines of the log that say something: stack traces are left out.
func (p *Process) Tail(lines int) string {
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }() // only read
	const most = 64 << 10
	if info, err := file.Stat(); err == nil && info.Size() > most {
		_, _ = file.Seek(-most, io.SeekEnd) // else it is read from its beginning
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	var said []string
	for line := range bytes.Lines(text) {
		if s := strings.TrimSpace(string(line)); s != "" && !strings.HasPrefix(s, "at ") && !strings.HasPrefix(s, "... ") {
			said = append(said, s)
		}
	}
	return strings.Join(said[max(0, len(said)-lines):], "; ")
}
