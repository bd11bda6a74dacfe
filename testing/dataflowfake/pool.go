package dataflowfake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
)

// runParameter names the attempt to a pool that is asked for a worker of it.
const runParameter = "attempt"

// pool starts the staged binaries as workers.
type pool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
	addr   string
	server *grpc.Server
	env    []string
	output io.Writer
	// control is what workers are told that prism's is.
	control *control

	mu       sync.Mutex
	closed   bool
	attempts map[string]*attempt
	workers  map[string]*exec.Cmd
	waiting  sync.WaitGroup
}

// attempt is one try to do the work of a job.
type attempt struct {
	id      string
	binary  string
	options string        // path of a file
	lost    chan struct{} // closed when its worker has ended by itself
	tally   *tally
}

func startPool(o Options) (*pool, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c, err := startControl()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p := &pool{control: c, addr: l.Addr().String(), server: grpc.NewServer(), env: slices.Clone(o.Env), output: o.Output, attempts: map[string]*attempt{}, workers: map[string]*exec.Cmd{}}
	fnpb.RegisterBeamFnExternalWorkerPoolServer(p.server, p)
	go func() { _ = p.server.Serve(l) }() // until close stops it
	return p, nil
}

func (p *pool) add(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts[a.id] = a
}

// end kills the worker of an attempt, and waits until it is gone.
func (p *pool) end(a *attempt) {
	p.mu.Lock()
	delete(p.attempts, a.id)
	c := p.workers[a.id]
	if c != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // it may be gone
	}
	p.mu.Unlock()
	if c != nil {
		<-a.lost
	}
}

func (p *pool) pids() (all []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.workers {
		all = append(all, c.Process.Pid)
	}
	return all
}

// StartWorker implements fnpb.BeamFnExternalWorkerPoolServer. Prism ends its process where it is told of an error. So a worker that cannot be
// started is one that was lost.
func (p *pool) StartWorker(_ context.Context, r *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.attempts[r.GetParams()[runParameter]]
	if a == nil || p.closed {
		return &fnpb.StartWorkerResponse{}, nil // the job has ended meanwhile
	}
	p.control.expect(r.GetWorkerId(), r.GetControlEndpoint().GetUrl(), a.tally)
	// As the boot program in the containers of Dataflow does.
	cmd := exec.Command(a.binary, "--worker=true", "--id="+r.GetWorkerId(), "--logging_endpoint="+r.GetLoggingEndpoint().GetUrl(),
		"--control_endpoint="+p.control.addr, "--semi_persist_dir="+os.TempDir())
	cmd.Env = append(append(os.Environ(), p.env...), "PIPELINE_OPTIONS_FILE="+a.options)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		if p.output != nil {
			_, _ = fmt.Fprintln(p.output, "start a worker:", err)
		}
		close(a.lost)
		return &fnpb.StartWorkerResponse{}, nil
	}
	p.workers[a.id] = cmd
	p.waiting.Go(func() {
		_ = cmd.Wait() // how it ended makes no difference
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.workers, a.id)
		p.control.forget(r.GetWorkerId())
		close(a.lost)
	})
	return &fnpb.StartWorkerResponse{}, nil
}

// StopWorker implements fnpb.BeamFnExternalWorkerPoolServer. Workers are stopped with their attempt.
func (p *pool) StopWorker(context.Context, *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	return &fnpb.StopWorkerResponse{}, nil
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.workers {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // it may be gone
	}
	p.mu.Unlock()
	p.waiting.Wait()
	p.server.Stop()
	p.control.close()
}
