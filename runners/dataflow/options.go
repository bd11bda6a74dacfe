package dataflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Options of a job.
type Options struct {
	// Name of the job: small letters, digits and hyphens. Required.
	Name string
	// RunID names the launch. Required.
	RunID string
	// Lake is the URL of the lake that the job writes to, in Cloud Storage. Required.
	Lake string
	// Streaming says that the job has a source that never ends.
	Streaming bool
	// Subscriptions are those that the job reads: projects/PROJECT/subscriptions/SUBSCRIPTION.
	Subscriptions []string

	// Project is the id of the project that the job is of. Required.
	Project string
	// Region is where it runs, such as europe-west1. Required.
	Region string
	// StagingLocation is the gs:// URL of a folder for the worker binary and the pipeline. Required.
	StagingLocation string
	// TempLocation is one for temporary files. Default: the folder tmp of StagingLocation.
	TempLocation string
	// ServiceAccount is the e-mail address of the account that workers act as. Default: that of Compute Engine.
	ServiceAccount string
	// Labels of the job.
	Labels map[string]string
	// KMSKey encrypts what the job keeps: projects/P/locations/L/keyRings/R/cryptoKeys/K. Default: a key of Google's.
	KMSKey string

	// Network is the network of workers. Default: default.
	Network string
	// Subnetwork is regions/REGION/subnetworks/NAME, or a whole URL of one. Default: that of the network.
	Subnetwork string
	// NoPublicIPs has workers without addresses of their own.
	NoPublicIPs bool
	// WorkerRegion is where workers run. Default: Region.
	WorkerRegion string
	// WorkerZone is where workers run, such as europe-west1-b. It excludes WorkerRegion. Default: as Dataflow likes.
	WorkerZone string

	// MachineType of workers. Those with Arm processors need a worker binary for them. Default: as Dataflow likes.
	MachineType string
	// DiskSizeGB is the size of a worker's disk. Default: as Dataflow likes.
	DiskSizeGB int64
	// Workers are how many there are at the beginning. Default: as Dataflow likes.
	Workers int64
	// MaxWorkers are how many there are at most. Default: as Dataflow likes.
	MaxWorkers int64
	// Autoscaling is THROUGHPUT_BASED or NONE. Default: as Dataflow likes.
	Autoscaling string
	// Threads of a worker's harness. Default: as Dataflow likes.
	Threads int64
	// NoStreamingEngine has a stream without the Streaming Engine, which is refused: streams in Go need it.
	NoStreamingEngine bool
	// Prime has Dataflow choose the resources of workers.
	Prime bool
	// FlexRS is COST_OPTIMIZED or SPEED_OPTIMIZED: when a job of files runs, and on which machines. Default: at once.
	FlexRS string
	// ContainerImage is that of workers. Default: Beam's for this version of its SDK.
	ContainerImage string
	// Experiments of Dataflow, and ServiceOptions.
	Experiments, ServiceOptions []string

	// WorkerBinary is the path of a program for Linux that is sent to workers. Default: this one, or a build of it.
	WorkerBinary string
	// Update takes the place of the stream of that name that runs, with its state.
	Update bool
	// TransformNames are the new names of steps by their names in the job that is updated. "" is a step that is gone.
	TransformNames map[string]string
	// Detach leaves the job alone as soon as it runs.
	Detach bool
	// Follow is, where a job of files of that name runs, to wait for its end as for that of this one.
	Follow bool
	// TemplateLocation is the gs:// URL of an object that gets the request, as a template; no job is made then. Default: none.
	TemplateLocation string
	// DryRun gets the request as JSON; nothing is sent then. Default: none.
	DryRun io.Writer
	// Endpoint is the URL of the REST service. Default: Google's.
	Endpoint string
}

// What options look like.
var (
	projectIDs  = regexp.MustCompile(`^[a-z]([-a-z0-9.:]*[a-z0-9])?$`)
	regionNames = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)
	zoneNames   = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+-[a-z]$`)
	jobNames    = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,998}[a-z0-9])?$`)
	labelNames  = regexp.MustCompile(`^[a-z][-_a-z0-9]{0,62}$`)
	labelValues = regexp.MustCompile(`^[-_a-z0-9]{0,63}$`)
	accounts    = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)
	keys        = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$`)
	subnetworks = regexp.MustCompile(`^(https://[^\s]+/)?(projects/[^/\s]+/)?regions/[^/\s]+/subnetworks/[^/\s]+$`)
	machines    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)
	buckets     = regexp.MustCompile(`^[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]$`)
)

const (
	// runLabel has the id of the launch, in small letters.
	runLabel = "backbone_run"
	// ownLabels is how the names of labels begin that are Backbone's.
	ownLabels = "backbone_"
)

// Validate reports every mistake at once; each names the flag, its value and what would do.
func (o Options) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	form := func(flag, value string, want *regexp.Regexp, like string) {
		if value != "" && !want.MatchString(value) {
			fail("%s is %q; it must be %s", flag, value, like)
		}
	}
	required := func(flag, value string, want *regexp.Regexp, like string) {
		if value == "" {
			fail("%s is required on Dataflow: %s", flag, like)
		}
		form(flag, value, want, like)
	}
	required("project", o.Project, projectIDs, "the id of a project, such as my-shop")
	required("region", o.Region, regionNames, "a region, such as europe-west1")
	if o.StagingLocation == "" {
		fail("staging_location is required on Dataflow: a folder in Cloud Storage, such as gs://my-bucket/staging")
	}
	if _, _, err := parseURL(o.Lake); o.Lake != "" && err != nil {
		fail("lake is %q; on Dataflow it must be a folder in Cloud Storage, gs://BUCKET/FOLDER: %w", o.Lake, err)
	}
	form("job_name", o.Name, jobNames, "of small letters, digits and hyphens, begin with a letter, and not end with a hyphen")
	if o.TemplateLocation != "" {
		if _, object, err := parseURL(o.TemplateLocation); err != nil || object == "" {
			fail("template_location is %q; it must be an object in Cloud Storage, gs://BUCKET/OBJECT", o.TemplateLocation)
		}
		if o.DryRun != nil || o.Detach || o.Follow {
			fail("template_location is %q, and no job is made, which dry_run, detach and follow are for: leave them out", o.TemplateLocation)
		}
	}
	if o.NoStreamingEngine && o.Streaming {
		fail("enable_streaming_engine is false; streams in Go need it: leave it out")
	}
	if o.FlexRS != "" && o.Streaming {
		fail("flexrs_goal is %q; it is for files, a stream cannot wait: leave it out", o.FlexRS)
	}
	if o.Update && !o.Streaming {
		fail("update is set; it is for streams: leave it out, files are read again")
	}
	if len(o.TransformNames) > 0 && !o.Update {
		fail("transform_name_mapping is set, and update is not; names are mapped from the job that is updated: add --update, or leave it out")
	}
	if o.DryRun != nil && o.Detach {
		fail("dry_run and detach are set; one of them must be left out")
	}
	if o.Follow && (o.Streaming || o.Detach) {
		fail("follow is set; it is for jobs of files, whose end is waited for: leave it out, or detach")
	}
	errs = append(errs, o.ValidateEnvironment(), validEndpoint(o.Endpoint))
	if o.WorkerBinary != "" {
		errs = append(errs, checkBinary("worker_binary", o.WorkerBinary, o.arch()))
	}
	return errors.Join(errs...)
}

// ValidateEnvironment reports every mistake of what says where a job runs and on what, which is what a template has defaults of.
func (o Options) ValidateEnvironment() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	form := func(flag, value string, want *regexp.Regexp, like string) {
		if value != "" && !want.MatchString(value) {
			fail("%s is %q; it must be %s", flag, value, like)
		}
	}
	for _, at := range []struct{ flag, url string }{{"staging_location", o.StagingLocation}, {"temp_location", o.TempLocation}} {
		if _, _, err := parseURL(at.url); at.url != "" && err != nil {
			fail("%s is %q; on Dataflow it must be a folder in Cloud Storage, gs://BUCKET/FOLDER: %w", at.flag, at.url, err)
		}
	}
	form("service_account_email", o.ServiceAccount, accounts, "the e-mail address of a service account")
	form("dataflow_kms_key", o.KMSKey, keys, "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
	form("subnetwork", o.Subnetwork, subnetworks, "regions/REGION/subnetworks/NAME, or the whole URL of one")
	form("worker_region", o.WorkerRegion, regionNames, "a region, such as europe-west1")
	form("worker_zone", o.WorkerZone, zoneNames, "a zone, such as europe-west1-b")
	form("machine_type", o.MachineType, machines, "a type of Compute Engine, such as n2-standard-4")
	if o.WorkerRegion != "" && o.WorkerZone != "" {
		fail("worker_region is %q and worker_zone is %q; one of them must be left out", o.WorkerRegion, o.WorkerZone)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Labels)) {
		switch value := o.Labels[name]; {
		case strings.HasPrefix(name, ownLabels):
			fail("labels has %q; names with %s are Backbone's own", name, ownLabels)
		case !labelNames.MatchString(name) || !labelValues.MatchString(value):
			fail("labels has %q=%q; both must be of small letters, digits, _ and -, 63 at most, and a name begins with a letter", name, value)
		}
	}
	for _, n := range []struct {
		flag  string
		value int64
	}{{"num_workers", o.Workers}, {"max_num_workers", o.MaxWorkers}, {"disk_size_gb", o.DiskSizeGB}, {"number_of_worker_harness_threads", o.Threads}} {
		if n.value < 0 {
			fail("%s is %d; it must not be negative", n.flag, n.value)
		}
	}
	if o.MaxWorkers > 0 && o.Workers > o.MaxWorkers {
		fail("num_workers is %d and max_num_workers is %d; it must not be more", o.Workers, o.MaxWorkers)
	}
	if o.Autoscaling != "" && algorithms[o.Autoscaling] == "" {
		fail("autoscaling_algorithm is %q; it must be %s", o.Autoscaling, strings.Join(slices.Sorted(maps.Keys(algorithms)), " or "))
	}
	if o.FlexRS != "" && goals[o.FlexRS] == "" {
		fail("flexrs_goal is %q; it must be %s", o.FlexRS, strings.Join(slices.Sorted(maps.Keys(goals)), " or "))
	}
	if o.Prime && (o.MachineType != "" || o.FlexRS != "") {
		fail("dataflow_prime is set, and machine_type is %q, flexrs_goal is %q; Prime chooses machines by itself: leave them out", o.MachineType, o.FlexRS)
	}
	for _, e := range o.Experiments {
		if strings.HasPrefix(e, "disable_runner_v2") || e == "disable_prime_runner_v2" || e == "disable_portable_runner" {
			fail("experiments has %q; pipelines in Go need Runner v2: leave it out", e)
		}
	}
	return errors.Join(errs...)
}

// The words for options by those of the REST service.
var (
	algorithms = map[string]string{"NONE": "AUTOSCALING_ALGORITHM_NONE", "THROUGHPUT_BASED": "AUTOSCALING_ALGORITHM_BASIC"}
	goals      = map[string]string{"COST_OPTIMIZED": "FLEXRS_COST_OPTIMIZED", "SPEED_OPTIMIZED": "FLEXRS_SPEED_OPTIMIZED"}
)

// Algorithms are the words of the REST service for Autoscaling.
func Algorithms() map[string]string { return maps.Clone(algorithms) }

// Goals are the words of the REST service for FlexRS.
func Goals() map[string]string { return maps.Clone(goals) }

// ParseLabels reads labels: a list NAME=VALUE,..., or a JSON object, which is how Beam's flag for Go has them.
func ParseLabels(text string) (map[string]string, error) {
	all := map[string]string{}
	if strings.HasPrefix(text, "{") {
		err := json.Unmarshal([]byte(text), &all)
		return all, err
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not of the form NAME=VALUE", part)
		}
		all[name] = value
	}
	return all, nil
}

// validEndpoint refuses to send credentials where others could read them.
func validEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	at, err := url.Parse(endpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && !isLocal(endpoint) {
		return fmt.Errorf("dataflow_endpoint is %q; it must be an https:// URL, or http:// on this machine", endpoint)
	}
	return nil
}

// isLocal tells whether a URL is one of this machine only, and without encryption: that of a fake, which takes no credentials.
func isLocal(endpoint string) bool {
	at, err := url.Parse(endpoint)
	if err != nil || at.Scheme != "http" {
		return false
	}
	ip := net.ParseIP(at.Hostname())
	return at.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// parseURL returns the parts of gs://BUCKET/FOLDER. A folder has no slash at its end.
func parseURL(text string) (bucket, folder string, err error) {
	rest, ok := strings.CutPrefix(text, "gs://")
	if !ok {
		return "", "", errors.New("it does not begin with gs://")
	}
	bucket, folder, _ = strings.Cut(rest, "/")
	if !buckets.MatchString(bucket) {
		return "", "", fmt.Errorf("%q is no name of a bucket", bucket)
	}
	return bucket, strings.Trim(folder, "/"), nil
}

// arms are the beginnings of machine types that have Arm processors.
var arms = []string{"t2a-", "c4a-", "n4a-"}

// arch is the architecture of workers, in Go's words.
func (o Options) arch() string {
	for _, family := range arms {
		if strings.HasPrefix(o.MachineType, family) {
			return "arm64"
		}
	}
	return "amd64"
}

// temp is where temporary files go.
func (o Options) temp() string {
	if o.TempLocation != "" {
		return strings.TrimRight(o.TempLocation, "/")
	}
	return strings.TrimRight(o.StagingLocation, "/") + "/tmp"
}
