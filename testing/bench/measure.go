package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Sample is what one run of a program took.
type Sample struct {
	Wall float64 `json:"wall_seconds"`
	CPU  float64 `json:"cpu_seconds"` // user and system
	RSS  int64   `json:"rss_bytes"`   // the most there was
}

func (s Sample) String() string {
	return fmt.Sprintf("%.2f s, %.2f s of CPU, %d MB", s.Wall, s.CPU, s.RSS/1e6)
}

// measure runs a program to its end.
func measure(ctx context.Context, name string, args ...string) (Sample, []byte, error) {
	p, err := start(ctx, nil, name, args...)
	if err != nil {
		return Sample{}, nil, err
	}
	return p.wait()
}

// process is a program that runs.
type process struct {
	cmd      *exec.Cmd
	began    time.Time
	out      bytes.Buffer
	complain bytes.Buffer
}

// start starts a program. environ is added to the environment.
//
// The operating system lets a process begin with the resident set of the one that made it, as far as its maximum goes.
// So this program must stay small: whatever needs memory is a process of its own.
func start(ctx context.Context, environ []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, name, args...), began: time.Now()}
	p.cmd.Env = append(os.Environ(), environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.complain
	return p, p.cmd.Start()
}

// wait waits for the end of the program and returns what it took and what it printed.
func (p *process) wait() (Sample, []byte, error) {
	err := p.cmd.Wait()
	wall := time.Since(p.began)
	if err != nil {
		return Sample{}, nil, fmt.Errorf("%s: %w\n%s", filepath.Base(p.cmd.Path), err, tail(p.complain.Bytes(), 4000))
	}
	usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return Sample{}, nil, fmt.Errorf("%s: the operating system does not tell what it took", filepath.Base(p.cmd.Path))
	}
	cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return Sample{Wall: wall.Seconds(), CPU: cpu.Seconds(), RSS: usage.Maxrss * 1024}, p.out.Bytes(), nil
}

// end asks a program to finish what it holds and waits for its end.
func (p *process) end() (Sample, []byte, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return Sample{}, nil, err
	}
	return p.wait()
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
