//go:build e2e

package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mainVariable makes the test binary the command.
const mainVariable = "FLINKCLUSTER_TEST_MAIN"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "dial" {
		conn, err := net.Dial("tcp", os.Args[2])
		if err != nil {
			os.Exit(1)
		}
		conn.Close()
		return
	}
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A cluster in a namespace of its own is reached by who enters it, and by nobody else; and it ends as another does.
func TestIsolated(t *testing.T) {
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Command(self, "-isolated", "-port=0", "-job_server_port=0")
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	said := func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if readErr != nil {
		err := cmd.Wait()
		if strings.Contains(said(), "allows no network namespace") || strings.Contains(said(), "executable file not found") {
			t.Skip(said())
		}
		t.Fatalf("the command has ended: %v: %s", err, said())
	}
	defer func() { _ = cmd.Process.Kill() }() // if the test has failed
	endpoint := regexp.MustCompile(`--endpoint=(\S+)`).FindStringSubmatch(line)
	var enter []string
	for deadline := time.Now().Add(time.Minute); enter == nil; time.Sleep(10 * time.Millisecond) {
		if _, after, ok := strings.Cut(said(), "run them by: "); ok && strings.Contains(after, "\n") {
			command, _, _ := strings.Cut(after, "\n")
			enter = strings.Fields(command)
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not say how to enter: %s", said())
		}
	}
	if endpoint == nil {
		t.Fatalf("it does not say where it takes jobs: %s", line)
	}
	if conn, err := net.Dial("tcp", endpoint[1]); err == nil {
		conn.Close()
		t.Errorf("%s is reached from outside", endpoint[1])
	}
	if out, err := exec.Command(enter[0], append(enter[1:], self, "dial", endpoint[1])...).CombinedOutput(); err != nil {
		t.Errorf("%s is not reached by %v: %v: %s", endpoint[1], enter, err, out)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the command ends with %v: %s", err, said())
	}
}
