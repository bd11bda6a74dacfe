package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// asProgram makes the test binary behave as backbone itself.
const asProgram = "BACKBONE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// backbone is the command with args.
func backbone(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

func TestLauncher(t *testing.T) {
	out, err := backbone(t, "version").Output()
	if err != nil || !bytes.HasPrefix(out, []byte("backbone ")) {
		t.Errorf("got %q, %v", out, err)
	}
	if err := backbone(t, "no-such-command").Run(); exitCode(err) != 2 {
		t.Errorf("got %v, want exit code 2", err)
	}
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// TestWorker plays the runner: it starts the binary as Beam's boot program does, and asks it something as a runner
// would. The worker has to connect under its id and to answer.
func TestWorker(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runner := &runner{answers: make(chan answer, 1)}
	server := grpc.NewServer()
	fnpb.RegisterBeamFnControlServer(server, runner)
	fnpb.RegisterBeamFnLoggingServer(server, runner)
	go func() { _ = server.Serve(listener) }() // it ends with server.Stop
	defer server.Stop()

	endpoint := listener.Addr().String()
	worker := backbone(t, "--worker=true", "--id=worker-7",
		"--logging_endpoint="+endpoint, "--control_endpoint="+endpoint, "--semi_persist_dir="+t.TempDir())
	var output bytes.Buffer
	worker.Stdout, worker.Stderr = &output, &output
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- worker.Wait() }()
	defer func() { _ = worker.Process.Kill() }()

	select {
	case got := <-runner.answers:
		if got.worker != "worker-7" {
			t.Errorf("the worker calls itself %q, want %q", got.worker, "worker-7")
		}
		if got.response.GetInstructionId() != "question" || got.response.GetError() != "" || got.response.GetMonitoringInfos() == nil {
			t.Errorf("the worker answered %v", got.response)
		}
	case err := <-ended:
		t.Fatalf("the worker ended before it answered: %v\n%s", err, &output)
	}
}

// runner is the runner's side of Beam's Fn API, as far as a worker needs it to be up.
type runner struct {
	fnpb.UnimplementedBeamFnControlServer
	fnpb.UnimplementedBeamFnLoggingServer
	answers chan answer
}

type answer struct {
	worker   string
	response *fnpb.InstructionResponse
}

// Control asks the worker one thing.
func (r *runner) Control(stream fnpb.BeamFnControl_ControlServer) error {
	err := stream.Send(&fnpb.InstructionRequest{
		InstructionId: "question",
		Request: &fnpb.InstructionRequest_MonitoringInfos{
			MonitoringInfos: &fnpb.MonitoringInfosMetadataRequest{},
		},
	})
	if err != nil {
		return err
	}
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	headers, _ := metadata.FromIncomingContext(stream.Context())
	var worker string
	if ids := headers.Get("worker_id"); len(ids) == 1 {
		worker = ids[0]
	}
	r.answers <- answer{worker, response}
	return nil
}

// Logging takes the worker's log.
func (r *runner) Logging(stream fnpb.BeamFnLogging_LoggingServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}
