package flink

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	jar := filepath.Join(t.TempDir(), "job-server.jar")
	if err := os.WriteFile(jar, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string // in the error; none if empty
	}{
		{"Endpoint", func(*Options) {}, ""},
		{"Jar", func(o *Options) { o.Endpoint, o.Jar, o.Master = "", jar, "localhost:8081" }, ""},
		{"NoJobServer", func(o *Options) { o.Endpoint = "" }, "--flink_job_server JAR"},
		{"TwoJobServers", func(o *Options) { o.Jar = jar }, "one of them must be left out"},
		{"JarWithoutMaster", func(o *Options) { o.Endpoint, o.Jar = "", jar }, "flink_master is required"},
		{"NoJar", func(o *Options) { o.Endpoint, o.Jar, o.Master = "", jar+"x", "localhost:8081" }, "which is no file"},
		{"Endpoint without a port", func(o *Options) { o.Endpoint = "localhost" }, `endpoint is "localhost"; it must be HOST:PORT`},
		{"Master without a host", func(o *Options) { o.Master = ":8081" }, `flink_master is ":8081"`},
		{"Parallelism", func(o *Options) { o.Parallelism = 0 }, "parallelism is 0"},
		{"Checkpoints", func(o *Options) { o.Checkpoints = time.Millisecond }, "flink_checkpoints is 1ms"},
		{"Options", func(o *Options) { o.More = map[string]string{"max-bundle-size": "1"} }, `"max-bundle-size"`},
		{"Follow a stream", func(o *Options) { o.Follow, o.Streaming, o.Master = true, true, "localhost:8081" }, "follow is set"},
		{"Follow without a master", func(o *Options) { o.Follow = true }, ""},
		{"Kind", func(o *Options) { o.Worker.Kind = "THREAD" }, "PROCESS, EXTERNAL, DOCKER or LOOPBACK"},
		{"Config of a process", func(o *Options) { o.Worker = Worker{Kind: "PROCESS", Config: "/bin/backbone"} }, `{"command": "/path/of/backbone"`},
		{"Config of a pool", func(o *Options) { o.Worker.Kind = "external" }, "HOST:PORT of the worker pool"},
		{"Remote without a kind", func(o *Options) { o.Master = "flink.example.com:8081" }, "environment_type is required"},
		{"Remote loopback", func(o *Options) { o.Endpoint, o.Worker.Kind = "10.0.0.7:8099", "LOOPBACK" }, "cannot reach this process"},
		{"Remote process", func(o *Options) {
			o.Endpoint, o.Worker = "10.0.0.7:8099", Worker{Kind: "PROCESS", Config: `{"command":"/opt/backbone"}`}
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Defaults()
			o.Endpoint = "127.0.0.1:8099"
			test.change(&o)
			err := o.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

// Without these options, jobs look healthy and do nothing.
func TestRunnerOptions(t *testing.T) {
	o := Defaults()
	always := map[string]string{
		"job_name": "", "backbone_run_id": "", "backbone_lake": "", "checkpointing_interval": "10000",
		"finish_bundle_before_checkpointing": "true", "object_reuse": "true",
	}
	if diff := cmp.Diff(always, o.runner()); diff != "" {
		t.Errorf("of files (-want +got):\n%s", diff)
	}
	o.Streaming, o.Master, o.StateBackend, o.Savepoint, o.Restarts = true, "m:1", "rocksdb", "file:///s", 3
	o.CheckpointDir = "file:///c"
	o.Name, o.RunID, o.Lake = "a day", "7", "/lake"
	o.More = map[string]string{"max_bundle_size": "1", "checkpointing_interval": "700"}
	want := map[string]string{
		"checkpointing_interval": "700", "finish_bundle_before_checkpointing": "true", "streaming": "true", "flink_master": "m:1", "state_backend": "rocksdb", "state_backend_storage_path": "file:///c",
		"savepoint_path": "file:///s", "number_of_execution_retries": "3", "execution_retry_delay": "10000", "max_bundle_size": "1",
		"job_name": "a day", "backbone_run_id": "7", "backbone_lake": "/lake", "max_bundle_time_mills": "100",
	}
	if diff := cmp.Diff(want, o.runner()); diff != "" {
		t.Errorf("of a stream (-want +got):\n%s", diff)
	}
}

func TestProcess(t *testing.T) {
	t.Setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Worker{}.process()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(process{Command: self, Env: map[string]string{"PUBSUB_EMULATOR_HOST": "localhost:8085"}}, got); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
	if got, err = (Worker{Config: `{"command":"/opt/backbone","env":{"PUBSUB_EMULATOR_HOST":"other:1"}}`}).process(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(process{Command: "/opt/backbone", Env: map[string]string{"PUBSUB_EMULATOR_HOST": "other:1"}}, got); diff != "" {
		t.Errorf("as it was said (-want +got):\n%s", diff)
	}
}

func TestIsBoot(t *testing.T) {
	for _, test := range []struct {
		args []string
		want bool
	}{
		{[]string{"--id=1-1", "--provision_endpoint=localhost:1"}, true},
		{[]string{"--provision_endpoint", "localhost:1", "--id=1"}, true},
		{[]string{"--worker=true", "--id=1"}, false},
		{[]string{"interactions", "--provision_endpoint=x"}, false},
		{[]string{"--", "--provision_endpoint=x"}, false},
		{nil, false},
	} {
		if got := IsBoot(test.args); got != test.want {
			t.Errorf("IsBoot(%q) = %v, want %v", test.args, got, test.want)
		}
	}
}
