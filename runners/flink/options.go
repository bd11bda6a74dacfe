package flink

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options of a job.
type Options struct {
	// Name of the job, in Flink's pages and for `backbone jobs`. Required.
	Name string
	// RunID names the launch. Required.
	RunID string
	// Lake is the URL of the lake that the job writes to, where what processes of a launch tell each other is kept. Required.
	Lake string
	// Streaming says that the job has a source that never ends.
	Streaming bool
	// Master is HOST:PORT of the job manager's REST service. Default: what the job server was told.
	Master string
	// Endpoint is HOST:PORT of a job server that runs. Either it or Jar is required.
	Endpoint string
	// Jar is that of a job server that is started for the job, and stopped after it.
	Jar string
	// Parallelism is how many parts of the job run at once. Default: that of the cluster.
	Parallelism int
	// Checkpoints is the time from one checkpoint to the next, of a streaming job.
	Checkpoints time.Duration
	// StateBackend is hashmap or rocksdb. Default: that of the cluster.
	StateBackend string
	// CheckpointDir is the URL of a folder for checkpoints, for StateBackend. Default: that of the cluster, as the job manager tells.
	CheckpointDir string
	// Savepoint is the URL of a savepoint, or of a checkpoint, to begin from. Default: none.
	Savepoint string
	// SavepointDir is the URL of a folder for savepoints. Default: that of the cluster.
	SavepointDir string
	// Upgrade takes the place of the job of that name that runs: it is stopped with a savepoint, from which this one begins.
	Upgrade bool
	// Restarts is how often a job that fails is begun again, from its last checkpoint. Default: as the cluster says.
	Restarts int
	// RestartDelay is how long Flink waits before it does.
	RestartDelay time.Duration
	// More are options of Beam's Flink runner by their names, as max_bundle_time_mills. They win.
	More map[string]string
	// Worker says how workers are started.
	Worker Worker
	// Detach leaves the job alone as soon as it runs.
	Detach bool
	// Follow is, where a job of files of that name runs, to wait for its end as for that of this one. Without Master, none is seen.
	Follow bool
}

// Defaults returns the options that hold where nothing else is said.
func Defaults() Options {
	return Options{Parallelism: -1, Checkpoints: 10 * time.Second, Restarts: -1, RestartDelay: 10 * time.Second}
}

// What a job manager tells of a job.
const (
	// RunTag is the id of the launch.
	RunTag = "run_id"
	// LakeTag is the URL of the lake.
	LakeTag = "lake"
)

// workerTag is the hash of the binary that the job was submitted with.
const workerTag = "worker"

// tagPrefix begins the names of tags among Beam's options, of which a job manager shows all that are no lists, known to Beam or not.
const tagPrefix = "backbone_"

// backends are what Beam calls Flink's state backends.
var backends = map[string]string{"hashmap": "filesystem", "rocksdb": "rocksdb"}

// Validate reports every mistake at once; each names the flag, its value and what would do.
func (o Options) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	address := func(flag, value string) { errs = append(errs, validAddress(flag, value)) }
	switch {
	case o.Endpoint == "" && o.Jar == "":
		fail("Flink needs Beam's job server: --endpoint HOST:PORT of one that runs, or --flink_job_server JAR to start one")
	case o.Endpoint != "" && o.Jar != "":
		fail("endpoint is %q and flink_job_server is %q; one of them must be left out", o.Endpoint, o.Jar)
	case o.Endpoint != "":
		address("endpoint", o.Endpoint)
	case o.Master == "":
		fail("flink_master is required with --flink_job_server: HOST:PORT of the job manager's REST service")
	}
	if o.Jar != "" {
		if info, err := os.Stat(o.Jar); err != nil || !info.Mode().IsRegular() {
			fail("flink_job_server is %q, which is no file", o.Jar)
		}
	}
	if o.Master != "" {
		address("flink_master", o.Master)
	}
	if o.Master == "" && (o.Streaming || o.Detach) {
		fail("flink_master is required for a stream, and with --detach: HOST:PORT of the job manager's REST service")
	}
	if o.Upgrade && (!o.Streaming || o.Savepoint != "") {
		fail("flink_upgrade is set; it is for streams, and begins from a savepoint that it makes: leave it out, or flink_savepoint")
	}
	if o.Follow && (o.Streaming || o.Detach) {
		fail("follow is set; it is for jobs of files, whose end is waited for: leave it out, or detach")
	}
	if o.Detach && strings.EqualFold(o.Worker.Kind, Loopback) {
		fail("environment_type is LOOPBACK, and detach is set; the process that submits the job works for it: leave one of them out")
	}
	if o.StateBackend != "" && backends[o.StateBackend] == "" {
		fail("flink_state_backend is %q; it must be hashmap or rocksdb, or be left out for that of the cluster", o.StateBackend)
	}
	if o.StateBackend != "" && o.CheckpointDir == "" && o.Master == "" {
		fail("flink_checkpoint_dir is required with flink_state_backend where flink_master is not given: the URL of a folder for checkpoints")
	}
	if o.Parallelism == 0 || o.Parallelism < -1 {
		fail("parallelism is %d; it must be 1 or more, or -1 for that of the cluster", o.Parallelism)
	}
	if o.Checkpoints < 100*time.Millisecond {
		fail("flink_checkpoints is %v; it must be 100ms or more", o.Checkpoints)
	}
	if o.Restarts < -1 {
		fail("flink_restarts is %d; it must be 0 or more, or -1 for what the cluster says", o.Restarts)
	}
	if o.RestartDelay < 0 {
		fail("flink_restart_delay is %v; it must not be negative", o.RestartDelay)
	}
	for _, name := range slices.Sorted(maps.Keys(o.More)) {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			fail("flink_options has %q; a name is that of an option of Beam's Flink runner, such as max_bundle_size", name)
		}
	}
	if cluster := o.address(); cluster != "" {
		errs = append(errs, o.Worker.validate(cluster))
	}
	return errors.Join(errs...)
}

// validAddress refuses what is no HOST:PORT.
func validAddress(flag, value string) error {
	host, port, err := net.SplitHostPort(value)
	if n, numErr := strconv.Atoi(port); err != nil || host == "" || numErr != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%s is %q; it must be HOST:PORT", flag, value)
	}
	return nil
}

// address is one of the cluster's, as far as it is known.
func (o Options) address() string {
	if o.Master != "" {
		return o.Master
	}
	return o.Endpoint
}

// runner returns the options of Beam's Flink runner, which takes all of them as text.
func (o Options) runner() map[string]string {
	all := map[string]string{
		"job_name":                           o.Name, // otherwise, it would be the app's with time and chance
		"checkpointing_interval":             milliseconds(o.Checkpoints),
		"finish_bundle_before_checkpointing": "true",
	}
	if o.Streaming {
		all["streaming"] = "true"
		// A subscription is read for a second, and what was read goes on, and is read on, when the bundle ends: by default up to a second and a
		// half later, in which nothing is read. Twice as many messages a second are acknowledged of a backlog when it ends at once.
		all["max_bundle_time_mills"] = "100"
	} else {
		// Chunks of rows are not copied from one step to the next, which takes a sixth of the processor time.
		all["object_reuse"] = "true"
	}
	if o.Master != "" {
		all["flink_master"] = o.Master
	}
	if o.StateBackend != "" {
		all["state_backend"] = backends[o.StateBackend]
		all["state_backend_storage_path"] = o.CheckpointDir
	}
	if o.Savepoint != "" {
		all["savepoint_path"] = o.Savepoint
	}
	if o.Restarts >= 0 {
		all["number_of_execution_retries"] = strconv.Itoa(o.Restarts)
		all["execution_retry_delay"] = milliseconds(o.RestartDelay)
	}
	for name, value := range map[string]string{RunTag: o.RunID, LakeTag: o.Lake} {
		all[tagPrefix+name] = value
	}
	maps.Copy(all, o.More)
	return all
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
