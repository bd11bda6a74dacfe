package flink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"

	"backbone/runners/child"
)

// Pool is a pool of workers, for EXTERNAL: task managers ask it to start a worker, and to stop it. Each worker is a process of this binary.
//
// None outlives its pool, nor the task manager that has asked for it. A task manager that is killed cannot say so: a worker is stopped, too,
// when nobody listens any longer where it gets its work.
//
// There is no authentication in Beam's protocol: who reaches a pool runs programs on its machine.
type Pool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer

	program  string
	listener net.Listener
	server   *grpc.Server

	mu      sync.Mutex
	closed  bool
	workers map[key]*pooled // those that run
	attends sync.WaitGroup
}

// key tells workers apart. Task managers count theirs alike, also one that takes the place of another.
type key struct{ id, control string }

// pooled is a worker of a pool.
type pooled struct {
	*child.Process
	folder string // of its binary, where that has to be fetched
}

const (
	// workerGrace is how long a worker may take to end.
	workerGrace = 5 * time.Second
	// workerCheck is how often a pool looks whether a worker is still needed.
	workerCheck = 2 * time.Second
	// mostWorkers is how many a pool has at once: far more than a task manager has slots.
	mostWorkers = 1000
)

// NewPool returns a pool that listens at HOST:PORT; with port 0, at one that is free.
func NewPool(address string) (*Pool, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("worker pool: %w", err)
	}
	p := &Pool{program: program, listener: listener, server: grpc.NewServer(), workers: map[key]*pooled{}}
	fnpb.RegisterBeamFnExternalWorkerPoolServer(p.server, p)
	return p, nil
}

// Addr is HOST:PORT where the pool listens.
func (p *Pool) Addr() string { return p.listener.Addr().String() }

// Serve answers task managers until the pool is closed.
func (p *Pool) Serve() error { return p.server.Serve(p.listener) }

// Close stops all workers, and the pool.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	var errs []error
	for _, w := range p.workers {
		errs = append(errs, w.Stop(workerGrace))
	}
	p.mu.Unlock()
	p.attends.Wait()
	p.server.Stop()
	return errors.Join(errs...)
}

// StartWorker implements Beam's worker pool. It returns when the worker runs, or with the reason why it doesn't: Flink would wait for ever for
// one that has ended before it called.
func (p *Pool) StartWorker(_ context.Context, request *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	response := &fnpb.StartWorkerResponse{}
	if err := p.start(request); err != nil {
		slog.Error("no worker", "id", request.GetWorkerId(), "error", err)
		response.Error = err.Error()
	}
	return response, nil
}

// StopWorker implements Beam's worker pool. That there is no such worker is no error: it may have ended. Where several task managers have one
// of the id, the request does not say whose is meant: it ends when nobody listens any longer where it gets its work.
func (p *Pool) StopWorker(_ context.Context, request *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	p.mu.Lock()
	var meant []*pooled
	for k, w := range p.workers {
		if k.id == request.GetWorkerId() {
			meant = append(meant, w)
		}
	}
	p.mu.Unlock()
	response := &fnpb.StopWorkerResponse{}
	if len(meant) != 1 {
		return response, nil
	}
	if err := meant[0].Stop(workerGrace); err != nil {
		response.Error = err.Error()
	}
	return response, nil
}

// start starts a worker and waits until it is one.
func (p *Pool) start(request *fnpb.StartWorkerRequest) (err error) {
	id, control := request.GetWorkerId(), request.GetControlEndpoint().GetUrl()
	switch {
	case id == "":
		return errors.New("worker pool: a worker needs an id")
	case request.GetProvisionEndpoint().GetUrl() == "" || control == "":
		return fmt.Errorf("worker pool: worker %s: the provision endpoint is %q and the control endpoint is %q; both are needed", id, request.GetProvisionEndpoint().GetUrl(), control)
	case request.GetProvisionEndpoint().GetAuthentication() != nil || request.GetControlEndpoint().GetAuthentication() != nil:
		return fmt.Errorf("worker pool: worker %s: endpoints with authentication are not supported", id)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, read.Close()) }()
	w, err := p.run(request, write)
	if err = errors.Join(err, write.Close()); err != nil { // the worker has its own
		return err
	}
	const most = 4 << 10
	said, err := io.ReadAll(io.LimitReader(read, most))
	if err != nil {
		return errors.Join(err, w.Stop(0))
	}
	if status, starts := strings.CutPrefix(string(said), starting); !starts || status != "" {
		err := w.Stop(workerGrace)
		if status == "" {
			status = fmt.Sprintf("worker %s has ended at its start (%v)", id, w.Exit())
		}
		return errors.Join(errors.New(status), err)
	}
	return nil
}

// run starts the process of a worker, which writes into status, and attends to it.
func (p *Pool) run(request *fnpb.StartWorkerRequest, status *os.File) (*pooled, error) {
	id, control := request.GetWorkerId(), request.GetControlEndpoint().GetUrl()
	k := key{id, control}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, errors.New("worker pool: it is being stopped")
	case p.workers[k] != nil:
		return nil, fmt.Errorf("worker pool: there is a worker %s already", id)
	case len(p.workers) == mostWorkers:
		return nil, fmt.Errorf("worker pool: %d workers run, no more are started", mostWorkers)
	}
	folder, err := os.MkdirTemp("", "backbone-worker-")
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: p.program,
		Args: []string{
			p.program, "--id=" + id, "--" + bootFlag + "=" + request.GetProvisionEndpoint().GetUrl(), "--control_endpoint=" + control,
			"--logging_endpoint=" + request.GetLoggingEndpoint().GetUrl(), "--artifact_endpoint=" + request.GetArtifactEndpoint().GetUrl(),
			"--" + statusFlag + "=3", // the first of ExtraFiles
		},
		Env:        append(os.Environ(), folderVariable+"="+folder),
		Stdout:     os.Stderr, // results of the command are on stdout
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{status},
	}
	process, err := child.Start("worker "+id, "", cmd)
	if err != nil {
		return nil, errors.Join(err, remove(folder))
	}
	w := &pooled{Process: process, folder: folder}
	p.workers[k] = w
	p.attends.Go(func() { p.attend(k, w) })
	slog.Info("worker started", "id", id, "pid", w.PID(), "control_endpoint", control)
	return w, nil
}

// attend waits for the end of a worker, which it brings about when nobody listens at the control endpoint, and clears up after it.
func (p *Pool) attend(k key, w *pooled) {
	check := time.NewTicker(workerCheck)
	defer check.Stop()
	for ended := false; !ended; {
		select {
		case <-w.Ended():
			ended = true
		case <-check.C:
			if err := answers(context.Background(), k.control); errors.Is(err, syscall.ECONNREFUSED) {
				slog.Warn("a worker's task manager is gone", "id", k.id, "error", err)
				ended = true
			}
		}
	}
	err := errors.Join(w.Stop(workerGrace), remove(w.folder)) // a worker that has run has removed it
	p.mu.Lock()
	delete(p.workers, k)
	p.mu.Unlock()
	slog.Info("worker ended", "id", k.id, "pid", w.PID(), "exit", w.Exit().Error())
	if err != nil {
		slog.Error("a worker has left something", "id", k.id, "error", err)
	}
}
