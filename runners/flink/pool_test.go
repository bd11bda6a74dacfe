package flink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/artifact"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// TestMain makes the test binary what a pool starts: a boot, and then a worker that waits to be stopped.
func TestMain(m *testing.M) {
	if IsBoot(os.Args[1:]) {
		fmt.Fprintln(os.Stderr, Boot(os.Args[1:]))
		os.Exit(1)
	}
	if slices.Contains(os.Args[1:], "--worker=true") {
		Attend(func() { os.Exit(1) })
		time.Sleep(time.Hour)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// provision is the service of a task manager that says what a worker runs.
type provision struct {
	fnpb.UnimplementedProvisionServiceServer
	info  *fnpb.ProvisionInfo
	err   error
	asked func() // called before it answers
}

// GetProvisionInfo implements fnpb.ProvisionServiceServer.
func (p provision) GetProvisionInfo(context.Context, *fnpb.GetProvisionInfoRequest) (*fnpb.GetProvisionInfoResponse, error) {
	if p.asked != nil {
		p.asked()
	}
	return &fnpb.GetProvisionInfoResponse{Info: p.info}, p.err
}

// serve serves what a task manager says, and returns where, and what ends it.
func serve(t *testing.T, p provision) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	fnpb.RegisterProvisionServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server.Stop
}

// ours is what a task manager says of a job that was submitted with this binary.
func ours(t *testing.T) *fnpb.ProvisionInfo {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hashOf(self)
	if err != nil {
		t.Fatal(err)
	}
	options, err := structpb.NewStruct(map[string]any{beamOption(tagPrefix + workerTag): sum})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := proto.Marshal(&pipepb.ArtifactFilePayload{Path: self, Sha256: sum})
	if err != nil {
		t.Fatal(err)
	}
	return &fnpb.ProvisionInfo{PipelineOptions: options, Dependencies: []*pipepb.ArtifactInformation{
		{TypeUrn: artifact.URNFileArtifact, TypePayload: payload, RoleUrn: artifact.URNGoWorkerBinaryRole},
	}}
}

// poolWorld is a pool, a client, and a folder for temporary files of its own.
type poolWorld struct {
	*Pool
	fnpb.BeamFnExternalWorkerPoolClient
	t   *testing.T
	tmp string
}

func newPoolWorld(t *testing.T) poolWorld {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	pool, err := NewPool("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- pool.Serve() }()
	t.Cleanup(func() {
		if err := errors.Join(pool.Close(), <-served); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
			t.Errorf("the pool has left %v, error %v", left, err)
		}
	})
	connection, err := grpc.NewClient(pool.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return poolWorld{pool, fnpb.NewBeamFnExternalWorkerPoolClient(connection), t, tmp}
}

func request(id, provision, control string) *fnpb.StartWorkerRequest {
	return &fnpb.StartWorkerRequest{
		WorkerId: id, ProvisionEndpoint: &pipepb.ApiServiceDescriptor{Url: provision}, ControlEndpoint: &pipepb.ApiServiceDescriptor{Url: control},
	}
}

// start starts a worker, which has to be one, and returns its process.
func (w poolWorld) start(id, provision, control string) int {
	w.t.Helper()
	response, err := w.BeamFnExternalWorkerPoolClient.StartWorker(w.t.Context(), request(id, provision, control))
	if err != nil || response.GetError() != "" {
		w.t.Fatalf("start worker %s: %q, %v", id, response.GetError(), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.workers[key{id, control}].PID()
}

// gone waits until there is no process group of an id.
func (w poolWorld) gone(pid int) {
	w.t.Helper()
	for range 1000 {
		if errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Errorf("process group %d is still there", pid)
}

// A worker runs until it is stopped; to stop it again is no mistake, and its id can be used again.
func TestPool(t *testing.T) {
	w := newPoolWorld(t)
	address, _ := serve(t, provision{info: ours(t)})
	first, second := w.start("1", address, address), w.start("2", address, address)
	for _, pid := range []int{first, second} {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if errors.Is(err, os.ErrNotExist) {
			continue // not Linux
		}
		if args := strings.Split(string(line), "\x00"); err != nil || !slices.Contains(args, "--worker=true") || !slices.Contains(args, "--control_endpoint="+address) {
			t.Errorf("process %d is %q, error %v; want a worker", pid, args, err)
		}
	}
	for range 2 {
		response, err := w.BeamFnExternalWorkerPoolClient.StopWorker(t.Context(), &fnpb.StopWorkerRequest{WorkerId: "1"})
		if err != nil || response.GetError() != "" {
			t.Fatalf("stop: %q, %v", response.GetError(), err)
		}
		w.gone(first)
	}
	if err := syscall.Kill(second, 0); err != nil {
		t.Errorf("the other worker: %v", err)
	}
	for range 500 { // it is forgotten a moment after it has ended
		w.mu.Lock()
		known := w.workers[key{"1", address}] != nil
		w.mu.Unlock()
		if !known {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.start("1", address, address)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w.gone(second)
}

// Whoever asks for what cannot be is told why.
func TestPoolRefuses(t *testing.T) {
	w := newPoolWorld(t)
	address, _ := serve(t, provision{info: ours(t)})
	broken, _ := serve(t, provision{err: status.Error(codes.NotFound, "no such worker")})
	w.start("taken", address, address)
	secret := request("secret", address, address)
	secret.ControlEndpoint.Authentication = &pipepb.AuthenticationSpec{Urn: "beam:authentication:oauth2_client_credentials_grant:v1"}
	for _, test := range []struct {
		request *fnpb.StartWorkerRequest
		want    string
	}{
		{request("taken", address, address), "there is a worker taken already"},
		{request("", address, address), "needs an id"},
		{request("1", "", address), `the provision endpoint is ""`},
		{request("2", address, ""), `the control endpoint is ""`},
		{secret, "authentication"},
		{request("lost", broken, address), "worker lost: what is to be run: "},
	} {
		response, err := w.BeamFnExternalWorkerPoolClient.StartWorker(t.Context(), test.request)
		if err != nil || !strings.Contains(response.GetError(), test.want) {
			t.Errorf("%v: %q, %v, want %q", test.request, response.GetError(), err, test.want)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if response, err := w.Pool.StartWorker(t.Context(), request("late", address, address)); err != nil || !strings.Contains(response.GetError(), "is being stopped") {
		t.Errorf("a pool that is closed says %q, %v", response.GetError(), err)
	}
}

// A task manager that is killed stops no worker: the pool sees that nobody is there.
func TestPoolTaskManagerIsKilled(t *testing.T) {
	w := newPoolWorld(t)
	address, stop := serve(t, provision{info: ours(t)})
	staying, _ := serve(t, provision{info: ours(t)})
	pid, other := w.start("1", address, address), w.start("2", staying, staying)
	stop()
	w.gone(pid)
	if err := syscall.Kill(other, 0); err != nil {
		t.Errorf("the worker of another: %v", err)
	}
}

// Task managers count their workers alike, also one that takes the place of another. None ends those of others.
func TestPoolOfTwo(t *testing.T) {
	w := newPoolWorld(t)
	one, stop := serve(t, provision{info: ours(t)})
	other, _ := serve(t, provision{info: ours(t)})
	first, second := w.start("1-1", one, one), w.start("1-1", other, other)
	response, err := w.BeamFnExternalWorkerPoolClient.StopWorker(t.Context(), &fnpb.StopWorkerRequest{WorkerId: "1-1"})
	if err != nil || response.GetError() != "" {
		t.Fatalf("stop: %q, %v", response.GetError(), err)
	}
	stop() // as it does next
	w.gone(first)
	if err := syscall.Kill(second, 0); err != nil {
		t.Errorf("the worker of the other: %v", err)
	}
}

// Who starts a worker may be gone before it is one: it is not taken for a child of whoever has adopted it.
func TestOrphanedBoot(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	address, _ := serve(t, provision{info: ours(t), asked: func() { close(asked); <-answer }})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command("sh", "-c", `"$@" & echo $!; wait`, "sh", self, "--id=1", "--provision_endpoint="+address, "--control_endpoint="+address)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // if the test has failed
	<-asked
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	close(answer)
	for range 1000 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

func TestNewPoolInUse(t *testing.T) {
	w := newPoolWorld(t)
	if _, err := NewPool(w.Addr()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v, want %v", err, syscall.EADDRINUSE)
	}
}
