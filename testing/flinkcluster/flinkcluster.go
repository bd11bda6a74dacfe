// Package flinkcluster runs a Flink cluster on this machine, for tests and for a first look: a job manager, task managers and Beam's
// job server, each a process of its own and none of them changed. Any of them can be killed and started again ([Cluster.Kill], [Cluster.Start]).
//
// It needs Java 17, Maven and Python, and takes about 1.5 GB of memory with one task manager. The first use fetches the software
// ([Fetch]).
//
// The job manager listens on 127.0.0.1 only. Beam's job server, the services that task managers have for workers, and those for Prometheus listen
// on every interface of the machine and know no authentication: behind a firewall, or in a network namespace (unshare -n), that is no matter.
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
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/runners/child"
	"backbone/runners/flink"
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
	// Env is added to the environment of the task managers and of the pool, and so to that of workers: NAME=VALUE.
	Env []string
	// Restarts is how often a job that fails is begun again, 2 s later, unless it says so itself. Default: 3; -1 for never.
	Restarts int
	// WorkerPool is the path of a backbone, of which a pool of workers is run. Default: no pool.
	WorkerPool string
	// WorkerPoolPort is where the pool listens. Default: one that is free.
	WorkerPoolPort int
	// Prometheus has Flink tell its metrics to Prometheus, as [Cluster.Metrics] says.
	Prometheus bool
	// PrometheusPort is that of the job manager; task managers have the ports after it. Default: ports that are free.
	PrometheusPort int
	// StateBackend keeps the state of jobs: hashmap or rocksdb. Default: hashmap.
	StateBackend string
	// HighAvailability has ZooKeeper keep what the job manager knows, so that its jobs go on when it was started again.
	HighAvailability bool
}

// Names of processes.
const (
	ZooKeeper  = "zookeeper"
	JobManager = "job-manager"
	WorkerPool = "worker-pool"
	JobServer  = "job-server"
)

// TaskManager is the name of a task manager, of which the first is 0.
func TaskManager(n int) string { return "task-manager-" + strconv.Itoa(n) }

// Cluster is a cluster that runs. Its methods must not be called at the same time.
type Cluster struct {
	// Master is HOST:PORT of the REST service.
	Master string
	// Endpoint is HOST:PORT of the job server.
	Endpoint string
	// WorkerPool is HOST:PORT of the pool of workers, "" if there is none.
	WorkerPool string
	// Metrics are HOST:PORT of what Prometheus reads, by the names of processes.
	Metrics map[string]string
	// Dir has the logs.
	Dir string
	// Software is what runs.
	Software Software

	options   Options
	temporary bool
	zookeeper int // its port
	jobServer *flink.JobServer
	managers  int       // how many task managers there are
	members   []*member // in the order of their start, without the job server
}

// member is a process of the cluster, as it is started.
type member struct {
	name    string
	cmd     func() *exec.Cmd
	ready   func(context.Context) error
	process *child.Process
}

// Start starts a cluster, and waits until it takes jobs. When it does not come up, the error says which of its processes, and what that said.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	software, err := Fetch(ctx)
	if err != nil {
		return nil, err
	}
	o.TaskManagers, o.Slots, o.Restarts = cmp.Or(o.TaskManagers, 1), cmp.Or(o.Slots, 2), cmp.Or(o.Restarts, 3)
	c := &Cluster{Dir: o.Dir, Software: software, Metrics: map[string]string{}, options: o}
	if c.Dir == "" {
		c.temporary = true
		if c.Dir, err = os.MkdirTemp("", "backbone-flink-"); err != nil {
			return nil, err
		}
	} else if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		c.temporary = false // for its logs
		return nil, errors.Join(fmt.Errorf("flink cluster: %w", err), c.Close())
	}
	return c, nil
}

// startTime is how long a process may take to start, on a machine that has other things to do.
const startTime = 2 * time.Minute

func (c *Cluster) start(ctx context.Context) error {
	ports, err := flink.FreePorts(4)
	if err != nil {
		return err
	}
	c.Master = address(cmp.Or(c.options.Port, ports[0]))
	c.zookeeper = ports[2]
	if err := c.configure(ports[1]); err != nil {
		return err
	}
	if c.options.HighAvailability {
		if err := c.startZooKeeper(ctx); err != nil {
			return err
		}
	}
	if err := c.startJobManager(ctx); err != nil {
		return err
	}
	for range c.options.TaskManagers { // they come up together
		if _, err := c.launchTaskManager(); err != nil {
			return err
		}
	}
	for _, m := range c.members {
		if err := m.await(ctx); err != nil {
			return err
		}
	}
	if c.options.WorkerPool != "" {
		if err := c.startWorkerPool(ctx, cmp.Or(c.options.WorkerPoolPort, ports[3])); err != nil {
			return err
		}
	}
	c.jobServer = &flink.JobServer{Jar: c.Software.JobServer, Master: c.Master, Conf: c.conf(), Dir: c.Dir, Port: c.options.JobServerPort}
	if err := c.jobServer.Start(ctx); err != nil {
		return err
	}
	c.Endpoint = c.jobServer.Endpoint()
	return nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (c *Cluster) startZooKeeper(ctx context.Context) error {
	config := filepath.Join(c.conf(), "zoo.cfg")
	text := fmt.Sprintf("dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\ntickTime=500\n",
		filepath.Join(c.Dir, ZooKeeper), c.zookeeper)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	m, err := c.java(ZooKeeper, nil, []string{"-Xmx128m"}, "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer", "--zkConfigFile", config, "--peerId", "1")
	if err != nil {
		return err
	}
	m.ready = func(ctx context.Context) error { return listens(ctx, address(c.zookeeper)) }
	return c.run(ctx, m)
}

func (c *Cluster) startJobManager(ctx context.Context) error {
	metrics, err := c.prometheus(JobManager, 0)
	if err != nil {
		return err
	}
	m, err := c.java(JobManager, nil, []string{"-Xmx384m"}, "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
		append([]string{"--configDir", c.conf(), "--executionMode", "cluster"}, metrics...)...)
	if err != nil {
		return err
	}
	m.ready = func(ctx context.Context) error { return c.knows(ctx, "") }
	return c.run(ctx, m)
}

// launchTaskManager starts one more task manager and does not wait for it.
func (c *Cluster) launchTaskManager() (*member, error) {
	name := TaskManager(c.managers)
	metrics, err := c.prometheus(name, 1+c.managers)
	if err != nil {
		return nil, err
	}
	// What Flink is told of memory it does not set itself.
	memory := []string{"-Xmx640m", "-XX:MaxDirectMemorySize=384m", "-XX:MaxMetaspaceSize=256m"}
	m, err := c.java(name, c.options.Env, memory, "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", append([]string{"--configDir", c.conf()}, metrics...)...)
	if err != nil {
		return nil, err
	}
	// Each life has an id of its own: a job manager takes a while to see that one is dead.
	again, life := m.cmd, 0
	id := func() string { return fmt.Sprintf("%s.%d", name, life) }
	m.cmd = func() *exec.Cmd {
		life++
		cmd := again()
		cmd.Args = append(slices.Clip(cmd.Args), "-Dtaskmanager.resource-id="+id())
		return cmd
	}
	m.ready = func(ctx context.Context) error { return c.knows(ctx, id()) }
	c.managers++
	return m, m.launch(c.Dir)
}

// AddTaskManager starts one more task manager, waits until it has come, and returns its name.
func (c *Cluster) AddTaskManager(ctx context.Context) (name string, err error) {
	m, err := c.launchTaskManager()
	if err != nil {
		return "", err
	}
	return m.name, m.await(ctx)
}

func (c *Cluster) startWorkerPool(ctx context.Context, port int) error {
	c.WorkerPool = address(port)
	path, err := filepath.Abs(c.options.WorkerPool)
	if err != nil {
		return err
	}
	m := c.add(WorkerPool, func() *exec.Cmd {
		return &exec.Cmd{Path: path, Args: []string{"backbone", "worker-pool", "--addr=" + c.WorkerPool}, Env: append(os.Environ(), c.options.Env...)}
	})
	m.ready = func(ctx context.Context) error { return listens(ctx, c.WorkerPool) }
	return c.run(ctx, m)
}

// prometheus returns the arguments by which the n-th process of Flink tells its metrics, none if it need not.
func (c *Cluster) prometheus(name string, n int) ([]string, error) {
	if !c.options.Prometheus {
		return nil, nil
	}
	port := c.options.PrometheusPort + n
	if c.options.PrometheusPort == 0 {
		ports, err := flink.FreePorts(1)
		if err != nil {
			return nil, err
		}
		port = ports[0]
	}
	c.Metrics[name] = address(port)
	return []string{
		"-Dmetrics.reporters=prometheus", "-Dmetrics.reporter.prometheus.factory.class=org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
		"-Dmetrics.reporter.prometheus.port=" + strconv.Itoa(port),
	}, nil
}

func (c *Cluster) conf() string { return filepath.Join(c.Dir, "conf") }

func (c *Cluster) add(name string, cmd func() *exec.Cmd) *member {
	m := &member{name: name, cmd: cmd}
	c.members = append(c.members, m)
	return m
}

// java adds a process of Flink.
func (c *Cluster) java(name string, env, options []string, class string, args ...string) (*member, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, err
	}
	argv := append([]string{"java"}, flink.JavaOptions()...)
	argv = append(argv, options...)
	argv = append(argv, "-XX:+UseSerialGC", "-Djava.io.tmpdir="+filepath.Join(c.Dir, "tmp"), "-Dlog4j.configurationFile=file:"+filepath.Join(c.conf(), "log4j.properties"),
		"-cp", filepath.Join(c.Software.Libraries, "*")+":"+c.Software.JobServer, class)
	argv = append(argv, args...)
	return c.add(name, func() *exec.Cmd { return &exec.Cmd{Path: java, Args: argv, Env: append(os.Environ(), env...)} }), nil
}

// launch starts the process of a member.
func (m *member) launch(dir string) (err error) {
	m.process, err = child.Start(m.name, filepath.Join(dir, m.name+".log"), m.cmd())
	return err
}

// run starts the process of a member, and waits until it is ready.
func (c *Cluster) run(ctx context.Context, m *member) error {
	if err := m.launch(c.Dir); err != nil {
		return err
	}
	return m.await(ctx)
}

// await waits until the process of a member is ready.
func (m *member) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("after %v", startTime))
	defer cancel()
	return m.process.Await(ctx, func() error { return m.ready(ctx) })
}

func (c *Cluster) member(name string) (*member, error) {
	var names []string
	for _, m := range c.members {
		if m.name == name {
			return m, nil
		}
		names = append(names, m.name)
	}
	return nil, fmt.Errorf("flink cluster: there is no process %q; there are %s and %s", name, strings.Join(names, ", "), JobServer)
}

// Process is the process of a name, which may have ended, or nil where there is none of it.
func (c *Cluster) Process(name string) *child.Process {
	if name == JobServer {
		return c.jobServer.Process()
	}
	if m, err := c.member(name); err == nil {
		return m.process
	}
	return nil
}

// Kill ends a process with SIGKILL, and waits until it has ended. What it has started is left alone, as it is when a machine kills a process.
func (c *Cluster) Kill(name string) error {
	if name == JobServer {
		c.jobServer.Process().Kill()
		return nil
	}
	m, err := c.member(name)
	if err != nil {
		return err
	}
	m.process.Kill()
	return nil
}

// Start starts a process again that was killed or has ended, with the configuration and at the ports that it had, and waits until it is
// ready: a task manager until the job manager knows it.
func (c *Cluster) Start(ctx context.Context, name string) error {
	p := c.Process(name)
	if p == nil {
		_, err := c.member(name)
		return err
	}
	select {
	case <-p.Ended():
	default:
		return fmt.Errorf("flink cluster: %s runs; kill it first", name)
	}
	if name == JobServer {
		return c.jobServer.Start(ctx)
	}
	m, err := c.member(name)
	if err != nil {
		return err
	}
	return c.run(ctx, m)
}

// TaskManagers are the processes of the task managers.
func (c *Cluster) TaskManagers() (all []*child.Process) {
	for n := range c.managers {
		all = append(all, c.Process(TaskManager(n)))
	}
	return all
}

// knows tells whether the job manager answers, and whether a task manager has come to it, if id is not "".
func (c *Cluster) knows(ctx context.Context, id string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Master+"/taskmanagers", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s", c.Master, response.Status)
	}
	var known struct {
		TaskManagers []struct {
			ID string `json:"id"`
		} `json:"taskmanagers"`
	}
	if err := json.NewDecoder(response.Body).Decode(&known); err != nil {
		return fmt.Errorf("%s says %s: %w", c.Master, response.Status, err)
	}
	for _, m := range known.TaskManagers {
		if m.ID == id {
			return nil
		}
	}
	if id == "" {
		return nil
	}
	return fmt.Errorf("%d task managers have come to %s, and %s is none of them", len(known.TaskManagers), c.Master, id)
}

// listens tells whether somebody listens at an address.
func listens(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Close ends all processes, and the workers that task managers have started. Jobs that run are lost.
func (c *Cluster) Close() error {
	var errs []error
	if c.jobServer != nil {
		errs = append(errs, c.jobServer.Close())
	}
	for i := len(c.members) - 1; i >= 0; i-- {
		if p := c.members[i].process; p != nil {
			errs = append(errs, p.Stop(5*time.Second))
		}
	}
	errs = append(errs, os.RemoveAll(filepath.Join(c.Dir, "tmp"))) // copies of jars
	if c.temporary {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

// configure writes the configuration of all processes.
func (c *Cluster) configure(rpcPort int) error {
	for _, name := range []string{"conf", "tmp", "checkpoints", "savepoints"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, name), 0o700); err != nil {
			return err
		}
	}
	_, port, err := net.SplitHostPort(c.Master)
	if err != nil {
		return err
	}
	o := c.options
	// What Flink's scripts would compute of its memory is said in full, since there are no scripts.
	// A batch with many shuffles needs the least number of buffers for each of them at once: 512 by default, of 32 KiB.
	config := fmt.Sprintf(`jobmanager.rpc.address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.port: %d
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: %s
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
restart-strategy.fixed-delay.attempts: %d
restart-strategy.fixed-delay.delay: 2 s
state.backend.type: %s
state.checkpoints.dir: %s
state.savepoints.dir: %s
execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION
io.tmp.dirs: %s
classloader.resolve-order: parent-first
`, rpcPort, port, o.Slots, o.Slots*o.TaskManagers, o.Slots, max(o.Restarts, 0), cmp.Or(o.StateBackend, "hashmap"), c.url("checkpoints"), c.url("savepoints"), filepath.Join(c.Dir, "tmp"))
	if o.HighAvailability {
		config += fmt.Sprintf(`high-availability.type: zookeeper
high-availability.zookeeper.quorum: %s
high-availability.storageDir: %s
high-availability.jobmanager.port: %d
`, address(c.zookeeper), c.url("high-availability"), rpcPort)
	}
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
