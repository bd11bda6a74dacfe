//go:build e2e

package docker

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// provision is a task manager that says nothing.
type provision struct {
	fnpb.UnimplementedProvisionServiceServer
}

// GetProvisionInfo implements fnpb.ProvisionServiceServer.
func (provision) GetProvisionInfo(context.Context, *fnpb.GetProvisionInfoRequest) (*fnpb.GetProvisionInfoResponse, error) {
	return nil, status.Error(codes.NotFound, "no such job")
}

// The build's steps work, and what they make is a worker, a pool of workers and the command.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	for _, step := range stages(t)[0] {
		if step.name != "RUN" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(step.text, "/out/", dir+"/"))
		cmd.Dir = filepath.Join("..", "..", "..")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("RUN %s: %v\n%s", step.text, err, out)
		}
	}
	binary := filepath.Join(dir, "backbone")
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" {
			t.Error("the binary needs a C library, which is not in the image")
		}
	}

	// As a task manager starts a container.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	fnpb.RegisterProvisionServiceServer(server, provision{})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	address := listener.Addr().String()
	out, err := exec.CommandContext(t.Context(), binary, "--id=1-1", "--provision_endpoint="+address).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "worker 1-1: what is to be run: ") || !strings.Contains(string(out), "no such job") {
		t.Errorf("a worker without a job ends with %v: %s", err, out)
	}

	pool := exec.CommandContext(t.Context(), binary, "worker-pool", "--addr=127.0.0.1:0")
	pool.Env = append(os.Environ(), "HOME=/nowhere")
	stdout, err := pool.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "--environment_type=EXTERNAL ") {
		t.Errorf("the pool says %q, error %v", line, err)
	}
	if err := pool.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := pool.Wait(); err != nil {
		t.Errorf("the pool ends with %v", err)
	}
}
