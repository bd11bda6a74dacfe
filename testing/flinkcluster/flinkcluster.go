// Package flinkcluster runs a Flink cluster on this machine, for tests and for a first look: a job manager, task managers and Beam's
// job server, each a process of its own and none of them changed.
//
// It needs Java 17, Maven and Python, and takes about 1.5 GB of memory with one task manager. The first use fetches the software
// ([Fetch]).
//
// The job manager listens on 127.0.0.1 only. Beam's job server, and the services that task managers have for workers, listen on every
// interface of the machine and know no authentication: behind a firewall, or in a network namespace (unshare -n), that is no matter.
package flinkcluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"backbone/runners/flink"
	"backbone/runners/flink/child"
)

// Options of a cluster.
type Options struct {
	// TaskManagers is how many there are. Default: 1.
	TaskManagers int
	// Slots is how many parts of jobs a task manager works on at once. Default: 2.
	Slots int
	// Port is that of the REST service, and of Flink's web pages. Default: one that is free.
	Port int
	// JobServerPort is where jobs are taken. Default: one that is free.
	JobServerPort int
	// Dir is a folder for configuration, logs, checkpoints and savepoints, made where it is not there. Default: a temporary one, which
	// is removed at the end.
	Dir string
	// Env is added to the environment of the task managers, and so to that of workers: NAME=VALUE.
	Env []string
}

// Cluster is a cluster that runs.
type Cluster struct {
	// Master is HOST:PORT of the REST service.
	Master string
	// Endpoint is HOST:PORT of the job server.
	Endpoint string
	// Dir has the logs.
	Dir string
	// Software is what runs.
	Software Software

	temporary bool
	jobServer *flink.JobServer
	processes []*child.Process // in the order of their start
}

// Start starts a cluster, and waits until it takes jobs. When it does not come up, the error says which of its processes, and what that said.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	software, err := Fetch(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: o.Dir, Software: software}
	if c.Dir == "" {
		c.temporary = true
		if c.Dir, err = os.MkdirTemp("", "backbone-flink-"); err != nil {
			return nil, err
		}
	} else if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, err
	}
	if err := c.start(ctx, o); err != nil {
		c.temporary = false // for its logs
		return nil, errors.Join(fmt.Errorf("flink cluster: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o Options) error {
	o.TaskManagers, o.Slots = cmp.Or(o.TaskManagers, 1), cmp.Or(o.Slots, 2)
	ports, err := flink.FreePorts(2)
	if err != nil {
		return err
	}
	if o.Port == 0 {
		o.Port = ports[0]
	}
	c.Master = net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port))
	if err := c.configure(o, ports[1]); err != nil {
		return err
	}
	manager, err := c.java("job-manager", nil, []string{"-Xmx384m"},
		"org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint", "--configDir", c.conf(), "--executionMode", "cluster")
	if err != nil {
		return err
	}
	var last *child.Process
	for n := range o.TaskManagers {
		// What Flink is told of memory it does not set itself.
		memory := []string{"-Xmx640m", "-XX:MaxDirectMemorySize=384m", "-XX:MaxMetaspaceSize=256m"}
		if last, err = c.java(fmt.Sprintf("task-manager-%d", n), o.Env, memory, "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", "--configDir", c.conf()); err != nil {
			return err
		}
	}
	const most = 2 * time.Minute
	limited, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("after %v", most))
	defer cancel()
	if err := manager.Await(limited, func() error { return c.registered(limited, 0) }); err != nil {
		return err
	}
	if err := last.Await(limited, func() error { return c.registered(limited, o.TaskManagers) }); err != nil {
		return err
	}
	c.jobServer = &flink.JobServer{Jar: c.Software.JobServer, Master: c.Master, Conf: c.conf(), Dir: c.Dir, Port: o.JobServerPort}
	if err := c.jobServer.Start(ctx); err != nil {
		return err
	}
	c.Endpoint = c.jobServer.Endpoint()
	return nil
}

func (c *Cluster) conf() string { return filepath.Join(c.Dir, "conf") }

// java starts a process of Flink.
func (c *Cluster) java(name string, env, options []string, class string, args ...string) (*child.Process, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, err
	}
	argv := append([]string{"java"}, flink.JavaOptions()...)
	argv = append(argv, options...)
	argv = append(argv, "-XX:+UseSerialGC", "-Djava.io.tmpdir="+filepath.Join(c.Dir, "tmp"), "-Dlog4j.configurationFile=file:"+filepath.Join(c.conf(), "log4j.properties"),
		"-cp", filepath.Join(c.Software.Libraries, "*")+":"+c.Software.JobServer, class)
	p, err := child.Start(name, filepath.Join(c.Dir, name+".log"), &exec.Cmd{Path: java, Args: append(argv, args...), Env: append(os.Environ(), env...)})
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

// TaskManagers are the processes of the task managers.
func (c *Cluster) TaskManagers() []*child.Process { return c.processes[1:] }

// registered tells whether so many task managers have come to the job manager.
func (c *Cluster) registered(ctx context.Context, want int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Master+"/overview", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	var overview struct {
		TaskManagers int `json:"taskmanagers"`
	}
	if err := json.NewDecoder(response.Body).Decode(&overview); err != nil {
		return fmt.Errorf("%s says %s: %w", c.Master, response.Status, err)
	}
	if overview.TaskManagers < want {
		return fmt.Errorf("%d of %d task managers have come", overview.TaskManagers, want)
	}
	return nil
}

// Close ends all processes, and the workers that task managers have started. Jobs that run are lost.
func (c *Cluster) Close() error {
	var errs []error
	if c.jobServer != nil {
		errs = append(errs, c.jobServer.Close())
	}
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].Stop(5*time.Second))
	}
	errs = append(errs, os.RemoveAll(filepath.Join(c.Dir, "tmp"))) // copies of jars
	if c.temporary {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

// configure writes the configuration of all processes.
func (c *Cluster) configure(o Options, rpcPort int) error {
	for _, name := range []string{"conf", "tmp", "checkpoints", "savepoints"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, name), 0o700); err != nil {
			return err
		}
	}
	// What Flink's scripts would compute of its memory is said in full, since there are no scripts.
	// A batch with many shuffles needs the least number of buffers for each of them at once: 512 by default, of 32 KiB.
	config := fmt.Sprintf(`jobmanager.rpc.address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.port: %d
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: %d
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: %d
parallelism.default: %d
taskmanager.cpu.cores: %d
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.task.heap.size: 512m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.off-heap.size: 128m
taskmanager.memory.managed.size: 256m
taskmanager.memory.network.min: 128m
taskmanager.memory.network.max: 128m
taskmanager.network.sort-shuffle.min-buffers: 64
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
heartbeat.interval: 2000
heartbeat.timeout: 10000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 3
restart-strategy.fixed-delay.delay: 2 s
state.backend.type: hashmap
state.checkpoints.dir: %s
state.savepoints.dir: %s
io.tmp.dirs: %s
classloader.resolve-order: parent-first
`, rpcPort, o.Port, o.Slots, o.Slots*o.TaskManagers, o.Slots, c.url("checkpoints"), c.url("savepoints"), filepath.Join(c.Dir, "tmp"))
	log := strings.Join([]string{
		"rootLogger.level = INFO", "rootLogger.appenderRef.out.ref = out", "appender.out.name = out", "appender.out.type = CONSOLE",
		"appender.out.layout.type = PatternLayout", "appender.out.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} - %m%n", "",
	}, "\n")
	return errors.Join(
		os.WriteFile(filepath.Join(c.conf(), "config.yaml"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(c.conf(), "log4j.properties"), []byte(log), 0o600),
	)
}

func (c *Cluster) url(name string) string { return "file://" + filepath.Join(c.Dir, name) }
