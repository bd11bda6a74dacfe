package dataflow

import (
	"bytes"
	"debug/elf"
	endian "encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// good returns options that pass, of a job that is submitted to a service at endpoint.
func good(t *testing.T, endpoint string) Options {
	t.Helper()
	return Options{
		Name: "backbone-stream", RunID: strings.NewReplacer("/", "-", ",", "").Replace(t.Name()), // each test has a store of its own
		Lake: "gs://shop/lake", Streaming: true,
		Project: "my-shop", Region: "europe-west1", StagingLocation: "gs://shop/staging/", Endpoint: endpoint,
		WorkerBinary: program(t, elf.EM_X86_64),
	}
}

// program writes a file that looks like a program for Linux.
func program(t *testing.T, machine elf.Machine) string {
	t.Helper()
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var text bytes.Buffer
	if err := endian.Write(&text, endian.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(path, text.Bytes(), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(o *Options)
		want   string // in the error; "": there is none
	}{
		{"Good", func(*Options) {}, ""},
		{"All that can be set", func(o *Options) { *o = everything(o.WorkerBinary) }, ""},
		{"Project missing", func(o *Options) { o.Project = "" }, "project is required on Dataflow"},
		{"Project", func(o *Options) { o.Project = "My Shop" }, `project is "My Shop"`},
		{"Region missing", func(o *Options) { o.Region = "" }, "region is required"},
		{"Region", func(o *Options) { o.Region = "europe-west1-b" }, "it must be a region"},
		{"Staging missing", func(o *Options) { o.StagingLocation = "" }, "staging_location is required"},
		{"Staging", func(o *Options) { o.StagingLocation = "/tmp" }, "gs://BUCKET/FOLDER"},
		{"Bucket", func(o *Options) { o.TempLocation = "gs:///tmp" }, "is no name of a bucket"},
		{"Lake", func(o *Options) { o.Lake = "/data/lake" }, `lake is "/data/lake"`},
		{"Lake elsewhere", func(o *Options) { o.Lake = "s3://shop/lake" }, "it does not begin with gs://"},
		{"Name", func(o *Options) { o.Name = "Shop_Stream" }, "job_name"},
		{"Service account", func(o *Options) { o.ServiceAccount = "worker" }, "e-mail address"},
		{"Key", func(o *Options) { o.KMSKey = "key" }, "keyRings"},
		{"Subnetwork", func(o *Options) { o.Subnetwork = "default" }, "regions/REGION/subnetworks/NAME"},
		{"Zone", func(o *Options) { o.WorkerZone = "europe-west1" }, "a zone"},
		{"Zone and region", func(o *Options) { o.WorkerZone, o.WorkerRegion = "europe-west1-b", "europe-west1" }, "one of them must be left out"},
		{"Labels", func(o *Options) { o.Labels = map[string]string{"Team": "a"} }, `labels has "Team"`},
		{"Own labels", func(o *Options) { o.Labels = map[string]string{"backbone_run": "a"} }, "Backbone's own"},
		{"Negative", func(o *Options) { o.Workers = -1 }, "num_workers is -1"},
		{"More than at most", func(o *Options) { o.Workers, o.MaxWorkers = 3, 2 }, "it must not be more"},
		{"Autoscaling", func(o *Options) { o.Autoscaling = "SOME" }, "NONE or THROUGHPUT_BASED"},
		{"FlexRS", func(o *Options) { o.FlexRS, o.Streaming = "SLOW", false }, "COST_OPTIMIZED or SPEED_OPTIMIZED"},
		{"FlexRS of a stream", func(o *Options) { o.FlexRS = "COST_OPTIMIZED" }, "a stream cannot wait"},
		{"No Streaming Engine", func(o *Options) { o.NoStreamingEngine = true }, "streams in Go need it"},
		{"Prime and machines", func(o *Options) { o.Prime, o.MachineType = true, "n2-standard-4" }, "Prime chooses machines"},
		{"Runner v1", func(o *Options) { o.Experiments = []string{"disable_runner_v2"} }, "need Runner v2"},
		{"Update of files", func(o *Options) { o.Streaming, o.Update = false, true }, "update is set; it is for streams"},
		{"Names without update", func(o *Options) { o.TransformNames = map[string]string{"a": "b"} }, "add --update"},
		{"Follow a job that is left alone", func(o *Options) { o.Streaming, o.Follow, o.Detach = false, true, true }, "follow is set"},
		{"Follow a stream", func(o *Options) { o.Streaming, o.Follow = true, true }, "follow is set"},
		{"Dry run, detached", func(o *Options) { o.DryRun, o.Detach = io.Discard, true }, "dry_run and detach"},
		{"Template", func(o *Options) { o.TemplateLocation = "gs://shop/templates/one" }, ""},
		{"Template without a name", func(o *Options) { o.TemplateLocation = "gs://shop/" }, "it must be an object in Cloud Storage"},
		{"Template, detached", func(o *Options) { o.TemplateLocation, o.Detach = "gs://shop/t", true }, "leave them out"},
		{"Endpoint in the clear", func(o *Options) { o.Endpoint = "http://dataflow.example.com/" }, "https://"},
		{"Endpoint", func(o *Options) { o.Endpoint = "dataflow.example.com" }, "https://"},
		{"No binary", func(o *Options) { o.WorkerBinary = "/nowhere" }, "which is no program for Linux"},
		{"No program", func(o *Options) { o.WorkerBinary = "options.go" }, "which is no program for Linux"},
		{"Arm", func(o *Options) { o.MachineType = "t2a-standard-4" }, "need one for linux/arm64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := good(t, "http://127.0.0.1:1/")
			test.change(&o)
			err := o.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Validate() = %v, want %q in it", err, test.want)
			}
		})
	}
	// All at once.
	err := Options{Streaming: true, FlexRS: "NOW"}.Validate()
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 5 {
		t.Errorf("mistakes: %q, want 5", lines)
	}
}

// everything has all options that have an effect on the request.
func everything(worker string) Options {
	return Options{
		Name: "shop-stream", RunID: "20261126T003302Z-3D1ecdb3", Lake: "gs://shop/lake", Streaming: true,
		Subscriptions: []string{"projects/my-shop/subscriptions/events"},
		Project:       "my-shop", Region: "europe-west1", StagingLocation: "gs://shop/staging", TempLocation: "gs://shop/temporary",
		ServiceAccount: "workers@my-shop.iam.gserviceaccount.com", Labels: map[string]string{"team": "search"},
		KMSKey:  "projects/my-shop/locations/europe-west1/keyRings/ring/cryptoKeys/key",
		Network: "private", Subnetwork: "regions/europe-west1/subnetworks/workers", NoPublicIPs: true, WorkerZone: "europe-west1-b",
		MachineType: "n2-standard-4", DiskSizeGB: 50, Workers: 2, MaxWorkers: 8, Autoscaling: "THROUGHPUT_BASED", Threads: 12,
		ContainerImage: "europe-docker.pkg.dev/my-shop/images/beam:1", Experiments: []string{"min_cpu_platform=Intel Ice Lake"}, ServiceOptions: []string{"enable_google_cloud_profiler"},
		WorkerBinary: worker, Update: true, TransformNames: map[string]string{"before": "after"},
	}
}

func TestParseURL(t *testing.T) {
	type parts struct{ Bucket, Folder string }
	for url, want := range map[string]parts{
		"gs://shop":           {"shop", ""},
		"gs://shop/":          {"shop", ""},
		"gs://shop/a/b/":      {"shop", "a/b"},
		"gs://my.shop_1/a":    {"my.shop_1", "a"},
		"gs://":               {},
		"gs://S/a":            {},
		"gs://shop?x=1/a":     {},
		"s3://shop":           {},
		"https://example.com": {},
	} {
		bucket, folder, err := parseURL(url)
		if diff := cmp.Diff(want, parts{bucket, folder}); diff != "" || (err == nil) != (want != parts{}) {
			t.Errorf("parseURL(%q): %v (-want +got)\n%s", url, err, diff)
		}
	}
}
