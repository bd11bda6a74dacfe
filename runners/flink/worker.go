package flink

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/extworker"
)

// The ways to start a worker.
const (
	// Process is a process that a task manager starts.
	Process = "PROCESS"
	// External is a pool that runs beside each task manager and starts processes when it is asked to.
	External = "EXTERNAL"
	// Docker is a container that a task manager starts.
	Docker = "DOCKER"
	// Loopback is the process that submits the job: for tests, and for debugging.
	Loopback = "LOOPBACK"
)

// Worker says how workers are started.
type Worker struct {
	// Kind is PROCESS, EXTERNAL, DOCKER or LOOPBACK. Default: PROCESS where the cluster is on this machine.
	Kind string
	// Config is a JSON object for PROCESS: {"command": PATH, "env": {NAME: VALUE}}, with the path of backbone on the machines of the task
	// managers (default: that of this process); HOST:PORT of the pool for EXTERNAL; an image for DOCKER.
	Config string
	// Binary is sent to workers that are not the same. Default: that of this process.
	Binary string
}

// process is the configuration of PROCESS.
type process struct {
	Command string            `json:"command"`
	Env     map[string]string `json:"env,omitempty"`
	OS      string            `json:"os,omitempty"`
	Arch    string            `json:"arch,omitempty"`
}

// emulators are the variables by which clients find servers of a developer's machine instead of Google's. Workers are on the same
// machine then, but in the environment of a task manager.
var emulators = []string{"PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"}

func (w Worker) validate(cluster string) error {
	switch kind := strings.ToUpper(w.Kind); {
	case kind == "" && !isLocal(cluster):
		return fmt.Errorf(`environment_type is required, since the cluster at %s is not on this machine: PROCESS with `+
			`--environment_config '{"command":"/path/of/backbone"}' where the program is on all of its machines, EXTERNAL with HOST:PORT of a worker pool, `+
			`or DOCKER with an image`, cluster)
	case kind == "", kind == Process:
		_, err := w.process()
		return err
	case kind == External:
		if _, _, err := net.SplitHostPort(w.Config); err != nil {
			return fmt.Errorf("environment_config is %q; for EXTERNAL it must be HOST:PORT of the worker pool, as a task manager reaches it", w.Config)
		}
	case kind == Docker:
		if w.Config == "" {
			return fmt.Errorf("environment_config is required for DOCKER: an image that starts backbone")
		}
	case kind == Loopback:
		if !isLocal(cluster) {
			return fmt.Errorf("environment_type is LOOPBACK, and the cluster at %s is not on this machine: its task managers cannot reach this process", cluster)
		}
	default:
		return fmt.Errorf("environment_type is %q; it must be PROCESS, EXTERNAL, DOCKER or LOOPBACK", w.Kind)
	}
	return nil
}

// isLocal tells whether an address is one of this machine only.
func isLocal(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// process returns the configuration of PROCESS.
func (w Worker) process() (p process, err error) {
	if w.Config != "" {
		decoder := json.NewDecoder(strings.NewReader(w.Config))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&p); err != nil {
			return p, fmt.Errorf(`environment_config is %q; for PROCESS it must be {"command": "/path/of/backbone", "env": {"NAME": "VALUE"}}: %w`, w.Config, err)
		}
	}
	if p.Command == "" {
		if p.Command, err = os.Executable(); err != nil {
			return p, err
		}
	}
	for _, name := range emulators {
		value := os.Getenv(name)
		if _, said := p.Env[name]; value == "" || said {
			continue
		}
		if p.Env == nil {
			p.Env = map[string]string{}
		}
		p.Env[name] = value
	}
	return p, nil
}

// start returns the environment of the pipeline, and ends what had to be started for it with stop.
func (w Worker) start(ctx context.Context) (e *pipepb.Environment, stop func(), err error) {
	stop = func() {}
	kind, config := strings.ToUpper(w.Kind), w.Config
	switch kind {
	case "", Process:
		p, err := w.process()
		if err != nil {
			return nil, stop, err
		}
		text, err := json.Marshal(p)
		if err != nil {
			return nil, stop, err
		}
		kind, config = Process, string(text)
	case Loopback:
		server, err := extworker.StartLoopback(ctx, 0)
		if err != nil {
			return nil, stop, fmt.Errorf("loopback workers: %w", err)
		}
		stop = func() { _ = server.Stop(ctx) } // never fails
		kind, config = External, server.EnvironmentConfig(ctx)
	}
	e, err = graphx.CreateEnvironment(ctx, "beam:env:"+strings.ToLower(kind)+":v1", func(context.Context) string { return config })
	return e, stop, err
}
