//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/option"

	"backbone/testing/dataflowfake"
	"backbone/testing/generator"
	"backbone/testing/pubsubserver"
)

// imageOf returns the path of what stands for the image of a template: this program, by the name under which it is the command.
func imageOf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), program)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// api is Dataflow as others than this program ask it.
func (d *dataflowWorld) api() *df.ProjectsLocationsService {
	d.Helper()
	service, err := df.NewService(d.Context(), option.WithEndpoint(d.fake.Endpoint()), option.WithoutAuthentication())
	if err != nil {
		d.Fatal(err)
	}
	return service.Projects.Locations
}

const region = "europe-west1"

// ends waits until a job has ended, and returns its state and its last message.
func (d *dataflowWorld) ends(id string) (state, said string) {
	d.Helper()
	until(d.T, "the job ends", func() bool {
		j, err := d.api().Jobs.Get(project, region, id).Do()
		if err != nil {
			d.Fatal(err)
		}
		state = j.CurrentState
		return slices.Contains([]string{"JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_DRAINED"}, state)
	})
	messages, err := d.api().Jobs.Messages.List(project, region, id).MinimumImportance("JOB_MESSAGE_ERROR").Do()
	if err != nil {
		d.Fatal(err)
	}
	for _, m := range messages.JobMessages {
		said += m.MessageText + "\n"
	}
	return state, said
}

// isDone waits until a job has ended well.
func (d *dataflowWorld) isDone(j *df.Job) {
	d.Helper()
	if state, said := d.ends(j.Id); state != "JOB_STATE_DONE" {
		d.Fatalf("job %s is %s: %s", j.Name, state, said)
	}
}

// A classic template of a day of files makes the lake of a launch; the second launch of it finds all there, and changes nothing.
func TestDataflowClassicTemplate(t *testing.T) {
	slow(t)
	d := newDataflowWorld(t, &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)})
	const at = "gs://" + dataflowBucket + "/templates/day"
	args := append([]string{"template", "classic", "interactions", "--input", d.upload(d.files(), "in"), "--lake", d.lake, "--template_location=" + at}, d.flags()...)
	runCommand(t, "template", slices.DeleteFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--runner") })...)
	if n := len(d.fake.Requests()) + d.fake.Calls("list"); n != 0 || len(d.objects("lake/interactions")) > 0 {
		t.Fatalf("%d jobs and calls, and rows of the lake, before a launch", n)
	}
	launch := func(name string) *df.Job {
		answer, err := d.api().Templates.Launch(project, region, &df.LaunchTemplateParameters{JobName: name, Environment: &df.RuntimeEnvironment{MaxWorkers: 2}}).GcsPath(at).Do()
		if err != nil {
			t.Fatal(err)
		}
		return answer.Job
	}
	first := launch("day-1")
	d.isDone(first)
	d.isTheTruth(0)
	if got, want := d.counted(first.Id, "lake/committed"), int64(d.total.Rows); got != want {
		t.Errorf("%d rows were committed, want %d", got, want)
	}
	before := d.objects("lake")
	second := launch("day-2")
	d.isDone(second)
	if diff := cmp.Diff(before, d.objects("lake")); diff != "" {
		t.Errorf("the second launch has changed the lake (-before +after):\n%s", diff)
	}
	if got := d.counted(second.Id, "lake/committed") + d.counted(second.Id, "lake/dead_lettered"); got != 0 {
		t.Errorf("the second launch has committed %d rows", got)
	}
	if got, want := d.counted(second.Id, "lake/duplicate"), int64(d.total.Events); got != want {
		t.Errorf("the second launch has found %d rows, want %d", got, want)
	}
	d.isTheTruth(0)
	// Two at once are as two after each other.
	third, fourth := launch("day-3"), launch("day-4")
	d.isDone(third)
	d.isDone(fourth)
	if diff := cmp.Diff(before, d.objects("lake")); diff != "" {
		t.Errorf("two launches have changed the lake (-before +after):\n%s", diff)
	}
}

// Two launches at once of a template, over a lake that has nothing yet, end with each row once.
func TestDataflowClassicTemplateAtOnce(t *testing.T) {
	slow(t)
	d := newDataflowWorld(t, &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)})
	const at = "gs://" + dataflowBucket + "/templates/day"
	runCommand(t, "template", append([]string{"interactions", "--input", d.upload(d.files(), "in"), "--lake", d.lake, "--template_location=" + at}, d.flags()...)...)
	var launched []*df.Job
	for n := range 2 {
		answer, err := d.api().Templates.Launch(project, region, &df.LaunchTemplateParameters{JobName: fmt.Sprint("day-", n)}).GcsPath(at).Do()
		if err != nil {
			t.Fatal(err)
		}
		launched = append(launched, answer.Job)
	}
	committed := int64(0)
	for _, j := range launched {
		d.isDone(j)
		committed += d.counted(j.Id, "lake/committed")
	}
	if committed != int64(d.total.Rows) {
		t.Errorf("%d rows were committed, want %d", committed, d.total.Rows)
	}
	d.isTheTruth(0)
}

// A classic template of exports makes their version; the second launch of it finds it there. Once there is a later version, a launch ends as one that is too late.
func TestDataflowClassicTemplateOfCatalog(t *testing.T) {
	slow(t)
	d := newDataflowWorld(t, &world{T: t})
	dir := marketOf(t, max(400, *eventsFlag/20))
	export := func(n int) []string {
		glob := d.upload(filepath.Join(dir, generator.CatalogDir, generator.ExportFolder("items", "full", asOfDay(n)), "*.jsonl"), fmt.Sprintf("export-%d", n))
		return append([]string{"catalog", "--items", glob, "--as_of", asOfDay(n).Format(time.RFC3339), "--lake", d.lake, "--shards=4"}, d.flags()...)
	}
	const at = "gs://" + dataflowBucket + "/templates/items"
	runCommand(t, "template", append(export(0), "--template_location="+at)...)
	launch := func(name string) *df.Job {
		answer, err := d.api().Templates.Launch(project, region, &df.LaunchTemplateParameters{JobName: name}).GcsPath(at).Do()
		if err != nil {
			t.Fatal(err)
		}
		return answer.Job
	}
	d.isDone(launch("items-1"))
	before := d.objects("lake")
	if len(before) == 0 {
		t.Fatal("there is no version")
	}
	d.isDone(launch("items-2"))
	if diff := cmp.Diff(before, d.objects("lake")); diff != "" {
		t.Errorf("the second launch has changed the lake (-before +after):\n%s", diff)
	}
	runCommand(t, "the next day", export(1)...)
	before = d.objects("lake")
	state, said := d.ends(launch("items-3").Id)
	if state != "JOB_STATE_FAILED" || !strings.Contains(said, "the version can't be made: another run has committed version 2") {
		t.Errorf("a launch after a later version is %s: %s", state, said)
	}
	if diff := cmp.Diff(before, d.objects("lake")); diff != "" {
		t.Errorf("a launch after a later version has changed the lake (-before +after):\n%s", diff)
	}
	runCommand(t, "verify", "verify", "--lake", d.lake)
}

// newFlexWorld is a world whose fake of Dataflow has an image, and in which there is a Flex Template of interactions.
func newFlexWorld(t *testing.T, w *world) (d *dataflowWorld, at string) {
	t.Helper()
	d = newDataflowWorldWith(t, w, dataflowfake.Options{Launcher: imageOf(t)})
	at = "gs://" + dataflowBucket + "/templates/interactions.json"
	runCommand(t, "template", "template", "flex", "interactions", "--image=shop/backbone:1", "--template_location", at, "--staging_location=gs://"+dataflowBucket+"/staging", "--max_num_workers=3")
	return d, at
}

// flex launches a Flex Template.
func (d *dataflowWorld) flex(p *df.LaunchFlexTemplateParameter) (*df.Job, error) {
	answer, err := d.api().FlexTemplates.Launch(project, region, &df.LaunchFlexTemplateRequest{LaunchParameter: p}).Do()
	if err != nil {
		return nil, err
	}
	return answer.Job, nil
}

// A Flex Template of interactions, launched with its parameters, ends in the rows of the direct runner. What it does not take is refused, and what goes wrong in the
// launcher is told.
func TestDataflowFlexTemplate(t *testing.T) {
	slow(t)
	d, at := newFlexWorld(t, &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)})
	t.Setenv("BACKBONE_WINDOW", "month") // which is nothing to a launcher
	input := d.upload(d.files(), "in")
	parameters := func(more ...string) map[string]string {
		p := map[string]string{"pipeline": "interactions", "input": input, "lake": d.lake}
		for i := 0; i < len(more); i += 2 {
			p[more[i]] = more[i+1]
		}
		return p
	}
	job, err := d.flex(&df.LaunchFlexTemplateParameter{
		JobName: "day", ContainerSpecGcsPath: at, Parameters: parameters("window", "1h", "aggregate", "sessions,trending"),
		Environment: &df.FlexTemplateRuntimeEnvironment{MachineType: "n2-standard-4", IpConfiguration: "WORKER_IP_PRIVATE", AdditionalUserLabels: map[string]string{"team": "search"}, AdditionalExperiments: []string{"some_experiment"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.isDone(job)
	d.isTheTruth(0)
	made := d.fake.Requests()
	r := made[len(made)-1]
	pool := r.Environment.WorkerPools[0]
	if r.Name != "day" || r.Labels["team"] != "search" || pool.MachineType != "n2-standard-4" || pool.IpConfiguration != "WORKER_IP_PRIVATE" ||
		pool.AutoscalingSettings.MaxNumWorkers != 3 || !slices.Contains(r.Environment.Experiments, "some_experiment") {
		t.Errorf("the job is %+v on %+v", r, pool)
	}
	// The rows of the direct runner.
	direct := filepath.Join(t.TempDir(), "lake")
	runCommand(t, "direct", "interactions", "--input", d.files(), "--lake", direct, "--window=1h")
	if got, want := hash(t, d.lake), hash(t, direct); got.rows != want.rows {
		t.Errorf("rows have hash %v, want %v", got.rows, want.rows)
	}

	for name, test := range map[string]struct {
		parameters map[string]string
		want       string
	}{
		"Unknown":  {parameters("machine_type", "n2-standard-4"), "machine_type: Unrecognized parameter"},
		"Missing":  {map[string]string{"pipeline": "interactions", "lake": d.lake}, "input: Missing required parameter"},
		"Form":     {parameters("flush_interval", "soon"), `flush_interval: Unmatched value "soon"`},
		"Local":    {parameters("lake", "/data/lake"), `lake: Unmatched value "/data/lake"`},
		"Pipeline": {parameters("pipeline", "catalog"), `pipeline: Unmatched value "catalog"`},
	} {
		if _, err := d.flex(&df.LaunchFlexTemplateParameter{JobName: "wrong", ContainerSpecGcsPath: at, Parameters: test.parameters}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, test.want)
		}
	}
	wrong, err := d.flex(&df.LaunchFlexTemplateParameter{JobName: "wrong", ContainerSpecGcsPath: at, Parameters: parameters("mapping", "nothing-like-it")})
	if err != nil {
		t.Fatal(err)
	}
	if state, said := d.ends(wrong.Id); state != "JOB_STATE_FAILED" || !strings.Contains(said, `backbone interactions: unknown mapping "nothing-like-it"`) {
		t.Errorf("a mistake ends as %s: %s", state, said)
	}
}

// The request that is written for Cloud Scheduler starts the right job, with what the launch file says of its environment.
func TestDataflowCloudScheduler(t *testing.T) {
	slow(t)
	d, at := newFlexWorld(t, &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)})
	file := filepath.Join(t.TempDir(), "day.yaml")
	text := fmt.Sprintf(`name: shop-day
pipeline: interactions
runner: dataflow
options:
  input: [%q]
  lake: %s
  project: %s
  region: %s
  staging_location: gs://%s/staging
  num_workers: 2
  labels: team=search
schedule: {cron: "@daily"}
`, d.upload(d.files(), "in"), d.lake, project, region, dataflowBucket)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "schedule", nil, "schedule", "cloud-scheduler", file, "--project="+project, "--region="+region, "--template="+at, "--service_account=runs@shop.iam.gserviceaccount.com")
	p.wantExit(0)
	var tick struct {
		HTTPTarget struct {
			URI, Body, HTTPMethod string
			Headers               map[string]string
		} `json:"httpTarget"`
	}
	if err := json.Unmarshal([]byte(p.read(p.stdout)), &tick); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(tick.HTTPTarget.Body)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(tick.HTTPTarget.URI)
	if err != nil {
		t.Fatal(err)
	}
	send := func() (*df.Job, string) {
		r, err := http.NewRequestWithContext(t.Context(), tick.HTTPTarget.HTTPMethod, strings.TrimRight(d.fake.Endpoint(), "/")+to.Path, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range tick.HTTPTarget.Headers {
			r.Header.Set(name, value)
		}
		answer, err := new(http.Client).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		var made df.LaunchFlexTemplateResponse
		if answer.StatusCode == http.StatusOK {
			if err := json.Unmarshal(said, &made); err != nil {
				t.Fatal(err)
			}
		}
		return made.Job, fmt.Sprint(answer.StatusCode, " ", string(said))
	}
	job, said := send()
	if job == nil {
		t.Fatal(said)
	}
	if second, said := send(); second != nil || !strings.Contains(said, "409") { // while the first one runs
		t.Errorf("a second tick at once: %s", said)
	}
	d.isDone(job)
	d.isTheTruth(0)
	made := d.fake.Requests()
	if r := made[len(made)-1]; r.Name != "shop-day" || r.Labels["team"] != "search" || r.Environment.WorkerPools[0].NumWorkers != 2 {
		t.Errorf("the job is %+v", r)
	}
	before := d.objects("lake")
	if job, said = send(); job == nil {
		t.Fatal(said)
	}
	d.isDone(job)
	for name, sum := range before {
		if d.objects("lake")[name] != sum {
			t.Errorf("%s was changed by the second tick", name)
		}
	}
	d.isTheTruth(0)
}

// A stream of a Flex Template is replaced by another launch of it, and drained.
func TestDataflowFlexTemplateStream(t *testing.T) {
	slow(t)
	w := &world{T: t, day: dayOf(t, *eventsFlag), rand: seeded(t)}
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	d, at := newFlexWorld(t, w)
	p := &df.LaunchFlexTemplateParameter{
		JobName: "stream", ContainerSpecGcsPath: at, Parameters: map[string]string{"pipeline": "interactions", "input": source, "lake": d.lake, "flush_interval": "1s"},
	}
	first, err := d.flex(p)
	if err != nil {
		t.Fatal(err)
	}
	runs := func(id string) func() bool {
		return func() bool {
			j, err := d.api().Jobs.Get(project, region, id).Do()
			if err != nil {
				t.Fatal(err)
			}
			if j.CurrentState == "JOB_STATE_FAILED" {
				_, said := d.ends(id)
				t.Fatal(said)
			}
			return j.CurrentState == "JOB_STATE_RUNNING"
		}
	}
	until(t, "the stream runs", runs(first.Id))
	d.startPublishing(0).wantExit(0)
	until(t, "rows are committed", func() bool { return len(d.objects("lake/interactions")) > 0 })
	p.Update = true
	second, err := d.flex(p)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "another runs", runs(second.Id))
	until(t, "all is counted", func() bool { return d.counted(second.Id, "events/read") == int64(d.total.Events) }) // all messages came again to it
	if _, err := d.api().Jobs.Update(project, region, second.Id, &df.Job{RequestedState: "JOB_STATE_DRAINED"}).Do(); err != nil {
		t.Fatal(err)
	}
	if state, said := d.ends(second.Id); state != "JOB_STATE_DRAINED" {
		t.Errorf("the stream is %s: %s", state, said)
	}
	if j, err := d.api().Jobs.Get(project, region, first.Id).Do(); err != nil || j.CurrentState != "JOB_STATE_UPDATED" {
		t.Errorf("the first is %+v, %v", j, err)
	}
	d.isTheTruth(0)
}
