//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/iterator"

	"backbone/runners/dataflow"
	"backbone/runners/jobs"
	"backbone/testing/dataflowfake"
	"backbone/testing/generator"
	"backbone/testing/pubsubserver"
)

// dataflowWorld is a world with a fake of Dataflow, whose Cloud Storage has the lake.
type dataflowWorld struct {
	*world
	fake *dataflowfake.Server
}

const dataflowBucket = "shop"

// newDataflowWorld starts a fake, which reads the Pub/Sub server of w if there is one.
func newDataflowWorld(t *testing.T, w *world) *dataflowWorld {
	t.Helper()
	return newDataflowWorldWith(t, w, dataflowfake.Options{})
}

// newDataflowWorldWith is newDataflowWorld with options of the fake.
func newDataflowWorldWith(t *testing.T, w *world, o dataflowfake.Options) *dataflowWorld {
	t.Helper()
	o.Buckets = []string{dataflowBucket}
	if w.broker != nil {
		o.PubSub = w.broker.addr
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "workers"))
	if err != nil {
		t.Fatal(err)
	}
	o.Output = log
	d := &dataflowWorld{world: w}
	if d.fake, err = dataflowfake.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.fake.Close(), log.Close()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("workers have said\n%s", tail(string(text), 40))
		}
	})
	for _, variable := range d.fake.Env() {
		if name, value, _ := strings.Cut(variable, "="); name == "STORAGE_EMULATOR_HOST" {
			t.Setenv(name, value)
		}
	}
	w.lake = "gs://" + dataflowBucket + "/lake"
	return d
}

// flags are those by which a command runs on the fake. Its worker is this program, as it is.
func (d *dataflowWorld) flags() []string {
	return []string{
		"--runner=dataflow", "--dataflow_endpoint", d.fake.Endpoint(), "--project=" + project, "--region=europe-west1",
		"--staging_location=gs://" + dataflowBucket + "/staging",
	}
}

// upload puts the files of a glob into a folder of Cloud Storage, and returns their glob.
func (d *dataflowWorld) upload(glob, folder string) string {
	d.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		d.Fatalf("%s: %d files, %v", glob, len(files), err)
	}
	for _, path := range files {
		body, err := os.ReadFile(path)
		if err != nil {
			d.Fatal(err)
		}
		w := d.fake.Storage().Bucket(dataflowBucket).Object(folder + "/" + filepath.Base(path)).NewWriter(d.Context())
		if _, err := w.Write(body); err != nil {
			d.Fatal(err)
		}
		if err := w.Close(); err != nil {
			d.Fatal(err)
		}
	}
	return "gs://" + dataflowBucket + "/" + folder + "/*" + filepath.Ext(glob)
}

// objects returns the checksums of what is below a folder of Cloud Storage, but for notes of runs, by their names without it.
func (d *dataflowWorld) objects(folder string) map[string]uint32 {
	d.Helper()
	all := map[string]uint32{}
	list := d.fake.Storage().Bucket(dataflowBucket).Objects(d.Context(), &storage.Query{Prefix: folder + "/"})
	for {
		o, err := list.Next()
		if errors.Is(err, iterator.Done) {
			return all
		}
		if err != nil {
			d.Fatal(err)
		}
		if !strings.Contains(o.Name, "/_") {
			all[strings.TrimPrefix(o.Name, folder+"/")] = o.CRC32C
		}
	}
}

// versions returns the objects of a lake but for dead letters, whose names have the id of the run.
func (d *dataflowWorld) versions(lake string) map[string]uint32 {
	d.Helper()
	all := d.objects(lake)
	maps.DeleteFunc(all, func(name string, _ uint32) bool { return strings.HasPrefix(name, "dead_letters/") })
	return all
}

// submit starts the pipeline on the fake.
func (d *dataflowWorld) submit(input string, args ...string) *job {
	d.Helper()
	d.n++
	j := &job{summary: filepath.Join(d.TempDir(), "summary.json")}
	args = slices.Concat([]string{"interactions", "--input", input, "--lake", d.lake, "--summary", j.summary}, d.flags(), args)
	j.process = start(d.T, fmt.Sprintf("run %d", d.n), d.env(), args...)
	return j
}

// killWorker ends a worker with SIGKILL, if there is one.
func (d *dataflowWorld) killWorker() bool {
	d.Helper()
	for _, pid := range d.fake.Workers() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			d.Logf("worker %d is killed", pid)
			return true
		}
	}
	return false
}

// On the fake of Dataflow, a day of files ends in the same lake as on the direct runner, also where workers are killed; the same again adds nothing and sends no
// binary; what goes wrong is told in a line.
func TestDataflow(t *testing.T) {
	slow(t)
	d := newDataflowWorld(t, &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)})
	input := d.upload(d.files(), "in")
	in := func(t *testing.T, lake string) *dataflowWorld {
		t.Helper()
		return &dataflowWorld{&world{T: t, day: d.day, lake: "gs://" + dataflowBucket + "/" + lake}, d.fake}
	}
	whole := summary{
		Outcome: "done", Read: int64(d.total.Events), Committed: int64(d.total.Rows),
		Duplicate: int64(d.total.Repeated), DeadLettered: int64(d.total.Broken),
	}

	t.Run("Day", func(t *testing.T) {
		d := in(t, "lake")
		d.wantCounts(d.submit(input).finish(), whole)
		d.isTheTruth(0)
		again := d.submit(input)
		d.wantCounts(again.finish(), summary{Outcome: "done", Read: int64(d.total.Events), Duplicate: int64(d.total.Events)})
		if log := again.log(); !strings.Contains(log, "the worker binary is there") {
			t.Errorf("the binary was sent again: %s", log)
		}
		if n := len(d.fake.Workers()); n > 0 {
			t.Errorf("%d workers are left", n)
		}
	})

	// Its work is done again, and what was committed of it is known.
	t.Run("Killed", func(t *testing.T) {
		d := in(t, "killed")
		j := d.submit(input)
		until(t, "a worker is killed", d.killWorker)
		until(t, "another has committed", func() bool { return !j.running() || len(d.objects("killed/interactions")) > 0 })
		twice := d.killWorker()
		s := j.finish()
		if s.Read != whole.Read || s.DeadLettered+s.Committed+s.Duplicate != whole.Read {
			t.Errorf("the summary is %+v", s)
		}
		if log := j.log(); !strings.Contains(log, "work is done again: ") {
			t.Errorf("nothing was done again: %s", log)
		}
		t.Logf("killed again while it committed: %v; %+v", twice, s)
		d.isTheTruth(0)
	})

	// Whoever is interrupted takes the job along.
	t.Run("Cancel", func(t *testing.T) {
		d := in(t, "cancelled")
		j := d.submit(input)
		until(t, "a worker runs", func() bool { return len(d.fake.Workers()) > 0 })
		j.signal(syscall.SIGINT)
		j.wantExit(1)
		if log := j.log(); !strings.Contains(log, "backbone interactions: stopped before the end") || strings.Contains(log, "may still run") {
			t.Errorf("it has said: %s", log)
		}
		if n := len(d.fake.Workers()); n > 0 {
			t.Errorf("%d workers are left", n)
		}
	})

	// A job whose creation was not answered is found, and no second one is started. Replies that fail now and then change nothing.
	t.Run("LostReplies", func(t *testing.T) {
		d := in(t, "lost")
		before := len(d.fake.Requests())
		d.fake.Order(dataflowfake.Fault{Call: "create", Done: true})
		d.fake.Order(dataflowfake.Fault{Call: "get", Code: 503, Times: 2})
		d.fake.Order(dataflowfake.Fault{Call: "messages", Code: 500, Times: 2})
		d.fake.Order(dataflowfake.Fault{Call: "metrics", Times: 2})
		d.wantCounts(d.submit(input).finish(), whole)
		d.fake.Heal()
		if n := len(d.fake.Requests()) - before; n != 1 {
			t.Errorf("%d jobs were created, want 1", n)
		}
		d.isTheTruth(0)
	})

	for _, test := range []struct {
		name  string
		fault dataflowfake.Fault
		args  []string
		want  string // in the last line
	}{
		{name: "Unauthenticated", fault: dataflowfake.Fault{Call: "list", Code: 401, Message: "Request had invalid authentication credentials."}, want: "401 UNAUTHENTICATED: Request had invalid authentication credentials.; the credentials are refused"},
		{name: "Forbidden", fault: dataflowfake.Fault{Call: "list", Code: 403, Message: "The caller does not have permission"}, want: "403 PERMISSION_DENIED: The caller does not have permission; whoever submits a job needs the role roles/dataflow.developer"},
		{name: "CreateForbidden", fault: dataflowfake.Fault{Call: "create", Code: 403, Message: "Current user cannot act as service account"}, want: "create job broken in project shop, europe-west1: 403 PERMISSION_DENIED: Current user cannot act as service account"},
		{name: "Invalid", fault: dataflowfake.Fault{Call: "create", Code: 400, Message: "(id): The workflow could not be created.\nCauses: no zone"}, want: "400 INVALID_ARGUMENT: (id): The workflow could not be created. Causes: no zone"},
		{name: "Quota", fault: dataflowfake.Fault{Call: "create", Code: 429, Times: -1, Message: "Quota exceeded for concurrent jobs"}, want: "429 RESOURCE_EXHAUSTED: Quota exceeded for concurrent jobs; a quota of the project is used up"},
		{name: "NoBucket", args: []string{"--staging_location=gs://nowhere/staging"}, want: "staging_location gs://nowhere/staging cannot be written to: the bucket is not there, make it first"},
		{name: "NoTemp", args: []string{"--temp_location=gs://nowhere/tmp"}, want: "temp_location gs://nowhere/tmp cannot be written to: the bucket is not there, make it first"},
		{name: "Update", args: []string{"--update"}, want: "update is set; it is for streams"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := in(t, "broken")
			before := len(d.fake.Requests())
			if test.fault.Call != "" {
				d.fake.Order(test.fault)
			}
			defer d.fake.Heal()
			j := d.submit(input, append([]string{"--job_name=broken"}, test.args...)...)
			if code := j.exit(); code == 0 {
				t.Error("it has ended well")
			}
			if last := tail(j.log(), 1); !strings.HasPrefix(last, "backbone interactions: ") || !strings.Contains(last, test.want) {
				t.Errorf("the last line is %s\nwant %q in it", last, test.want)
			}
			if len(d.fake.Requests()) != before {
				t.Error("a job was created")
			}
		})
	}

	// What fails inside of a worker is told by its cause. The lake's bucket is there when the job is submitted, and what is read is not.
	t.Run("WorkerFails", func(t *testing.T) {
		d := in(t, "failing")
		gone := d.upload(d.files(), "gone")
		d.fake.Order(dataflowfake.Fault{Call: "create", Code: 503, Times: 2}) // time to remove it
		j := d.submit(gone)
		until(t, "the binary is there", func() bool {
			return d.fake.Calls("create") > 0 && strings.Contains(j.log(), "asking for the job again")
		})
		for name := range d.objects("gone") {
			if err := d.fake.Storage().Bucket(dataflowBucket).Object("gone/" + name).Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		j.wantExit(1)
		if last := tail(j.log(), 1); !strings.Contains(last, "job failed: ") || !strings.Contains(last, `: backbone/pipelines/interactions.processFn: store "gs://shop": open "gone/part-`) {
			t.Errorf("the last line is %s", last)
		}
	})
}

// Exports make the versions on the fake of Dataflow that they make on the direct runner, byte by byte, with the same counts.
func TestDataflowCatalog(t *testing.T) {
	slow(t)
	d := newDataflowWorld(t, &world{T: t})
	dir := marketOf(t, max(400, *eventsFlag/20))
	for n := range daysOfFaults {
		globs := map[string]string{}
		for _, table := range []string{"users", "items"} {
			globs[table] = d.upload(filepath.Join(dir, generator.CatalogDir, generator.ExportFolder(table, "full", asOfDay(n)), "*.jsonl"), fmt.Sprintf("export-%d/%s", n, table))
		}
		run := func(lake string, flags ...string) *process {
			args := slices.Concat([]string{
				"catalog", "--users", globs["users"], "--items", globs["items"], "--as_of", asOfDay(n).Format(time.RFC3339),
				"--lake", "gs://" + dataflowBucket + "/" + lake, "--shards=4", "--summary", filepath.Join(t.TempDir(), "summary.json"),
			}, flags)
			p := start(t, fmt.Sprintf("day %d, %s", n, lake), nil, args...)
			p.wantExit(0)
			return p
		}
		here, there := run("direct", "--spill_dir", t.TempDir()), run("dataflow", d.flags()...)
		if diff := cmp.Diff(versionsOf(here), versionsOf(there)); diff != "" || len(versionsOf(there)) == 0 {
			t.Errorf("day %d: what is said of versions (-direct +dataflow):\n%s", n, diff)
		}
	}
	want, got := d.versions("direct"), d.versions("dataflow")
	if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
		t.Errorf("files of %d (-direct +dataflow):\n%s", len(got), diff)
	}
	for _, lake := range []string{"direct", "dataflow"} {
		runCommand(t, "verify", "verify", "--lake", "gs://"+dataflowBucket+"/"+lake)
	}
	direct, flow := hash(t, "gs://"+dataflowBucket+"/direct"), hash(t, "gs://"+dataflowBucket+"/dataflow")
	if direct.deadLetters != flow.deadLetters {
		t.Errorf("dead letters have hash %v, want %v", flow.deadLetters, direct.deadLetters)
	}
}

// A stream of the day, read by Dataflow's own source, gives the lake that a batch gives. A worker is killed in its middle, another program takes its place, jobs are told of
// from elsewhere, and it is drained. Nothing of what is sent has a secret of the environment.
func TestDataflowStream(t *testing.T) {
	slow(t)
	const canary = "c4n4ry-s3cr3t"
	t.Setenv("AWS_SECRET_ACCESS_KEY", canary)
	t.Setenv("BACKBONE_CANARY", canary)
	w := &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)}
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	d := newDataflowWorld(t, w)
	common := []string{"--flush_interval=1s", "--labels=team=search,cost=low", "--max_num_workers=3"}
	stream := d.submit(source, common...)
	publisher := d.startPublishing(d.total.Events / 30)
	acked := func() int64 { return d.broker.stats().Acked }
	committed := func() int { return len(d.objects("lake/interactions")) }
	until(t, "rows are committed", func() bool { return committed() > 0 })

	if again := d.submit(source, common...).finish(); again.Outcome != "there" {
		t.Errorf("a second launch ends as %+v", again)
	}
	if n := len(d.fake.Requests()); n != 1 {
		t.Errorf("%d jobs were created, want 1", n)
	}
	before := acked()
	until(t, "the worker is killed", d.killWorker)
	until(t, "messages are acknowledged after that", func() bool { return acked() > before })
	until(t, "another worker runs", func() bool { return len(d.fake.Workers()) > 0 })

	// Another graph is refused before anything is sent; the same graph takes the place of the first.
	refused := d.submit(source, append(slices.Clip(common), "--update", "--aggregate=trending", `--transform_name_mapping={"nowhere":""}`)...)
	refused.wantExit(1)
	if last := tail(refused.log(), 1); !strings.Contains(last, "goes on, and cannot be updated: its graph is another (nowhere is mapped, and is no step of the job that runs)") {
		t.Errorf("the last line is %s", last)
	}
	second := d.submit(source, append(slices.Clip(common), "--update")...)
	if s := stream.finish(); s.Outcome != "stopped" || !s.Partial {
		t.Errorf("the first ends as %+v", s)
	}

	var shown jobs.Job
	if err := json.Unmarshal([]byte(d.ask("show", streamJob, "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Lake != d.lake || shown.RunID == "" || !shown.Streaming || shown.State != jobs.Running && shown.State != jobs.Starting {
		t.Errorf("the job is shown as %+v", shown)
	}
	publisher.wantExit(0)
	d.untilAllAcked(second)
	var listed []jobs.Job
	if err := json.Unmarshal([]byte(d.ask("list", "--json")), &listed); err != nil || len(listed) != 2 {
		t.Errorf("%d jobs are listed, want 2: %v", len(listed), err)
	}
	until(t, "all rows are counted", func() bool { return d.countedNow("events/read") == int64(d.total.Events) }) // all messages came again to it
	if said := d.ask("metrics", streamJob, "--json"); !strings.Contains(said, fmt.Sprintf(`"events/read": %d`, d.total.Events)) {
		t.Errorf("its metrics are %s", said)
	}
	d.ask("drain", streamJob)
	if s := second.finish(); s.Outcome != "drained" || s.Read != int64(d.total.Events) || s.DeadLettered+s.Committed+s.Duplicate != s.Read {
		t.Errorf("the second ends as %+v", s)
	}
	d.isTheTruth(0)

	for i, r := range d.fake.Requests() {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if r.Labels["team"] != "search" || r.Labels["cost"] != "low" || r.Environment.WorkerPools[0].AutoscalingSettings.MaxNumWorkers != 3 {
			t.Errorf("request %d has not the options that were set: %s", i, text)
		}
		if bytes.Contains(text, []byte(canary)) {
			t.Errorf("request %d has a secret", i)
		}
	}
	for name := range d.objects("staging/jobs") {
		r, err := d.fake.Storage().Bucket(dataflowBucket).Object("staging/jobs/" + name).NewReader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil || bytes.Contains(body, []byte(canary)) {
			t.Errorf("%s has a secret, or is not readable: %v", name, err)
		}
	}
}

// SIGTERM drains a stream that waits for its contexts, with the counts of a whole day, and with the rows and windows of a batch.
func TestDataflowDrained(t *testing.T) {
	slow(t)
	w := &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)}
	batch := emptyLake(t, w.day)
	contexts := batch.contextsOf()
	there := batch.start(batch.files(), append(slices.Clip(aggregate), "--context", contexts)...).finish()
	wantRows, wantWindows := joinedHash(t, batch.lake), batch.windowsAreTheModel()

	server := w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	if err := server.Create(t.Context(), contextTopic, contextSubscription); err != nil {
		t.Fatal(err)
	}
	d := newDataflowWorld(t, w)
	stream := d.submit(source, append(slices.Clip(settleSoon), "--flush_interval=1s", "--context", "pubsub://shop/contexts", "--context_flush", "200ms", "--context_wait", "500ms")...)
	d.publishTo(contextTopic, contexts)
	lines := countLines(t, contexts)
	// What is acknowledged is with Dataflow, and not in the lake yet.
	until(t, "the contexts are committed", func() bool { return d.countedNow("lake/committed") == lines })
	d.startPublishing(0).wantExit(0)
	until(t, "all rows are committed", func() bool { return d.countedNow("lake/committed") == there.Committed })
	d.untilSettled(stream)
	s := stream.drain()
	d.wantCounts(s, summary{
		Outcome: "drained", Read: there.Read, Committed: there.Committed, Duplicate: there.Duplicate, DeadLettered: there.DeadLettered, Partial: true,
	})
	runCommand(t, "verify", "verify", "--lake", d.lake)
	if got := joinedHash(t, d.lake); got != wantRows {
		t.Errorf("the rows have hash %s, want %s as in a batch", got, wantRows)
	}
	if got, want := hash(t, d.lake).deadLetters, hash(t, batch.lake).deadLetters; got != want {
		t.Errorf("dead letters have hash %v, want %v as in a batch", got, want)
	}
	if got := d.windowsAreTheModel(); got != wantWindows {
		t.Errorf("the windows have hash %s, want %s as in a batch", got, wantWindows)
	}
}

// streamJob is the name that the job of a stream has, by its subscription.
const streamJob = "backbone-interactions-lake"

// ask returns what a command about jobs prints.
func (d *dataflowWorld) ask(args ...string) string {
	d.Helper()
	p := start(d.T, "jobs "+args[0], nil, append(append([]string{"jobs"}, args...), "--runner=dataflow", "--project="+project, "--region="+region, "--dataflow_endpoint="+d.fake.Endpoint())...)
	p.wantExit(0)
	return p.read(p.stdout)
}

// jobs returns the jobs of the fake.
func (d *dataflowWorld) jobs() *dataflow.Jobs {
	d.Helper()
	service, err := dataflow.NewJobs(d.Context(), project, region, d.fake.Endpoint())
	if err != nil {
		d.Fatal(err)
	}
	return service
}

// counted returns a count of a job.
func (d *dataflowWorld) counted(id, count string) int64 {
	d.Helper()
	metrics, err := d.jobs().Metrics(d.Context(), id)
	if err != nil {
		d.Fatal(err)
	}
	return metrics.Counts[count]
}

// countedNow returns a count of the stream that runs, 0 where none does.
func (d *dataflowWorld) countedNow(count string) int64 {
	d.Helper()
	all, err := d.jobs().List(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	for _, j := range all {
		if j.Name == streamJob && !j.State.Ended() {
			return d.counted(j.ID, count)
		}
	}
	return 0
}

func countLines(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return int64(bytes.Count(text, []byte("\n")))
}
