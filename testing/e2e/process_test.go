package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"backbone/runners/command"
)

var (
	eventsFlag = flag.Int("e2e.events", defaultEvents, "events of the generated day")
	seedFlag   = flag.Uint64("e2e.seed", 0, "seed of what happens at random (default one of the clock, which is printed)")
)

// patience is how long is waited for what has to come, on a machine that has other things to do.
const patience = 3 * time.Minute

// program is the name by which this test binary is the backbone command instead.
const program = "backbone"

// scratch is a folder for what tests share.
var scratch string

func TestMain(m *testing.M) {
	// As in main.go. A worker may have any name.
	if filepath.Base(os.Args[0]) == program || slices.Contains(os.Args[1:], "--worker=true") {
		command.InitBeam(os.Args[1:])
		os.Exit(command.Main())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "backbone-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }() // it is among the temporary files
		scratch = dir
		return m.Run()
	}())
}

// slow skips a test that takes its time, unless all of them are wanted.
func slow(t *testing.T) {
	t.Helper()
	if !full {
		t.Skip("this one takes its time: make e2e runs it")
	}
}

// process is a backbone command in a process of its own. At the end of the test it is killed if it still runs, and what
// it printed last is shown if the test has failed.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdout string // paths of what it prints
	stderr string
	ended  chan struct{}
	err    error // of Wait; to be read after ended
}

// start starts the command. Env is added to that of the test.
func start(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startBinary(t, self, name, env, args...)
}

// startBinary is start for a binary of the command that is not this one.
func startBinary(t *testing.T, path, name string, env []string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, name: name, stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr"), ended: make(chan struct{})}
	p.cmd = &exec.Cmd{Path: path, Args: append([]string{program}, args...), Env: append(os.Environ(), env...)}
	stdout, err := os.Create(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	if err := errors.Join(stdout.Close(), stderr.Close()); err != nil { // the process has its own
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.ended
		if t.Failed() {
			t.Logf("%s (%s) has ended: %v; its log ends with\n%s", name, strings.Join(args, " "), p.err, tail(p.read(p.stderr), 40))
		}
	})
	return p
}

// runCommand runs the command to its end, which has to be good.
func runCommand(t *testing.T, name string, args ...string) {
	t.Helper()
	start(t, name, nil, args...).wantExit(0)
}

// signal sends a signal to the process, if it still runs.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("send %v to %s: %v", s, p.name, err)
	}
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// running tells whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exit waits for the end of the process, and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	// What a large day takes is in proportion to its size.
	deadline := time.After(patience + time.Duration(*eventsFlag)*time.Millisecond)
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-deadline:
		p.signal(syscall.SIGQUIT) // for the stacks of its goroutines
		time.Sleep(time.Second)
		p.t.Fatalf("%s does not end", p.name)
		return 0
	}
}

func (p *process) wantExit(want int) {
	p.t.Helper()
	if got := p.exit(); got != want {
		p.t.Fatalf("%s has ended with exit code %d, want %d", p.name, got, want)
	}
}

// read returns what the process has printed so far.
func (p *process) read(path string) string {
	p.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// log returns what the process has logged so far.
func (p *process) log() string { return p.read(p.stderr) }

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// until waits until done returns true. What is waited for is in the message when it does not come.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience + time.Duration(*eventsFlag)*time.Millisecond)
	for !done() {
		if t.Failed() {
			t.FailNow()
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// summary is what a run says of itself (--summary).
type summary struct {
	Outcome      string
	Error        string
	Read         int64
	Committed    int64
	Duplicate    int64
	DeadLettered int64 `json:"dead_lettered"`
	Late         int64
	Files        int64
	Partial      bool
}

func readSummary(t *testing.T, path string) summary {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s summary
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&s); err != nil {
		t.Fatalf("summary %q: %v", path, err)
	}
	if !s.Partial && s.Read != s.Committed+s.Duplicate+s.DeadLettered {
		t.Errorf("the summary does not balance: %+v", s)
	}
	return s
}
