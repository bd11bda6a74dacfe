package command

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestWorkerPool runs a pool as a person would: it says where it is, answers there, and ends by a signal.
func TestWorkerPool(t *testing.T) {
	out, in := io.Pipe()
	var errs bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: in, stderr: newScreen(&errs), environ: func() []string { return nil }}
	ended := make(chan int, 1)
	go func() {
		defer in.Close()
		ended <- execute(t.Context(), env, assemble(env, newWorkerPoolCommand(env)), []string{"worker-pool", "--addr=127.0.0.1:0"})
	}()
	stdout := bufio.NewReader(out)
	line, err := stdout.ReadString('\n')
	match := regexp.MustCompile(`^--environment_type=EXTERNAL --environment_config=(127\.0\.0\.1:\d+)\n$`).FindStringSubmatch(line)
	if err != nil || match == nil {
		t.Fatalf("printed %q, %v; exit code %d, %s", line, err, <-ended, errs.String())
	}
	conn, err := net.Dial("tcp", match[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	kill(t, syscall.SIGTERM)
	rest, err := io.ReadAll(stdout)
	if code := <-ended; code != 0 || len(rest) > 0 || err != nil {
		t.Errorf("exit code %d, then printed %q, %v; %s", code, rest, err, errs.String())
	}
}

func TestWorkerPoolWrongUsage(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, test := range []struct {
		addr string
		code int
		want string
	}{
		{"50000", exitUsage, `addr is "50000"; it must be HOST:PORT`},
		{"127.0.0.1:70000", exitUsage, `addr is "127.0.0.1:70000"; it must be HOST:PORT`},
		{"127.0.0.1:http", exitUsage, "it must be HOST:PORT"},
		{listener.Addr().String(), exitFailed, "worker pool: listen tcp"},
	} {
		var out, errs bytes.Buffer
		env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(&errs), environ: func() []string { return nil }}
		code := execute(t.Context(), env, assemble(env, newWorkerPoolCommand(env)), []string{"worker-pool", "--addr", test.addr})
		if code != test.code || !strings.Contains(errs.String(), test.want) {
			t.Errorf("%s: exit code %d, want %d; got %q, want %q in it", test.addr, code, test.code, errs.String(), test.want)
		}
	}
}
