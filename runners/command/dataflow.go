package command

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/spf13/pflag"

	"backbone/runners/dataflow"
	"backbone/runners/dataflow/template"
	"backbone/transforms/pubsub"
)

const runnerDataflow = "dataflow"

// forRunner marks the flags that only one runner has a use for.
const forRunner = "runner"

// dataflowOptions are those of the Dataflow runner, and what its flags say in other words.
type dataflowOptions struct {
	dataflow.Options
	publicIPs       bool
	streamingEngine bool
	transformNames  string
	dryRun          bool
}

func dataflowDefaults() dataflowOptions {
	return dataflowOptions{publicIPs: true, streamingEngine: true}
}

// dataflowFlags are of the Dataflow runner. They have the names that they have everywhere in Beam.
func dataflowFlags(all *pflag.FlagSet, o *dataflowOptions) {
	f := pflag.NewFlagSet(runnerDataflow, pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&o.Project, "project", "", "Dataflow: Google Cloud `PROJECT` of the job (default GOOGLE_CLOUD_PROJECT)")
	f.StringVar(&o.Region, "region", "", "Dataflow: `REGION` where it runs, such as europe-west1 (default CLOUDSDK_COMPUTE_REGION)")
	f.StringVar(&o.StagingLocation, "staging_location", "", "Dataflow: gs:// `URL` of a folder for the worker binary and the pipeline")
	f.StringVar(&o.TempLocation, "temp_location", "", "Dataflow: gs:// `URL` of a folder for temporary files (default tmp below staging_location)")
	f.StringVar(&o.ServiceAccount, "service_account_email", "", "Dataflow: `ADDRESS` of the account that workers act as (default that of Compute Engine)")
	f.StringVar(&o.MachineType, "machine_type", "", "Dataflow: `TYPE` of the workers' machines; those with Arm processors need a program of their own, see --worker_binary")
	f.Int64Var(&o.Workers, "num_workers", 0, "Dataflow: workers at the beginning (default as Dataflow likes)")
	f.Int64Var(&o.MaxWorkers, "max_num_workers", 0, "Dataflow: workers at most (default as Dataflow likes)")
	f.StringVar(&o.Autoscaling, "autoscaling_algorithm", "", "Dataflow: THROUGHPUT_BASED or NONE (default as Dataflow likes)")
	f.Int64Var(&o.Threads, "number_of_worker_harness_threads", 0, "Dataflow: bundles that a worker works on at once (default as Dataflow likes)")
	f.Int64Var(&o.DiskSizeGB, "disk_size_gb", 0, "Dataflow: size of a worker's disk (default as Dataflow likes)")
	f.StringVar(&o.Network, "network", "", "Dataflow: `NAME` of the workers' network")
	f.StringVar(&o.Subnetwork, "subnetwork", "", "Dataflow: the workers' subnetwork, as regions/`REGION/subnetworks/NAME`")
	f.BoolVar(&o.publicIPs, "use_public_ips", o.publicIPs, "Dataflow: whether workers have public addresses")
	f.StringVar(&o.WorkerRegion, "worker_region", "", "Dataflow: `REGION` of the workers, where it is another")
	f.StringVar(&o.WorkerZone, "worker_zone", "", "Dataflow: `ZONE` of the workers")
	f.StringVar(&o.KMSKey, "dataflow_kms_key", "", "Dataflow: `KEY` that encrypts what the job keeps: projects/P/locations/L/keyRings/R/cryptoKeys/K")
	f.Var((*labels)(&o.Labels), "labels", "Dataflow: labels of the job, as `NAME=VALUE`,... or a JSON object")
	f.BoolVar(&o.Prime, "dataflow_prime", false, "Dataflow: have Prime choose the resources of workers")
	f.StringVar(&o.FlexRS, "flexrs_goal", "", "Dataflow: COST_OPTIMIZED or SPEED_OPTIMIZED, for files that can wait for cheap machines")
	f.BoolVar(&o.streamingEngine, "enable_streaming_engine", o.streamingEngine, "Dataflow: streams always have it, so false is refused")
	f.StringSliceVar(&o.ServiceOptions, "dataflow_service_options", nil, "Dataflow: other `OPTIONS` of the service")
	f.StringVar(&o.ContainerImage, "sdk_container_image", "", "Dataflow: `IMAGE` of workers (default Beam's for Go)")
	f.BoolVar(&o.Update, "update", false, "Dataflow: take the place of the stream of that name that runs, with its state")
	f.StringVar(&o.transformNames, "transform_name_mapping", "", "Dataflow: new names of steps for --update, as `JSON`: {\"OLD\": \"NEW\"}, \"\" for one that is gone")
	f.StringVar(&o.TemplateLocation, "template_location", "", "Dataflow: gs:// `URL` of an object that gets the request for the job, as a template; no job is made")
	f.BoolVar(&o.dryRun, "dry_run", false, "Dataflow: print the request for the job as JSON; nothing is sent, nor written")
	f.StringVar(&o.Endpoint, "dataflow_endpoint", "", "Dataflow: `URL` of the REST service (default Google's)")
	f.VisitAll(func(flag *pflag.Flag) {
		flag.Annotations = map[string][]string{forRunner: {runnerDataflow}}
		if reason := notOfTemplates[flag.Name]; reason != "" {
			template.Leave(flag, reason)
		}
		all.AddFlag(flag)
	})
}

// ofEnvironment is why an option is no parameter of a template: it has a field in the environment that each launch is given, which has defaults in the
// template.
const ofEnvironment = "Dataflow gives it, of the environment of the launch"

// notOfTemplates are the options that are no parameters of a Flex Template, and why.
var notOfTemplates = map[string]string{
	"project": "Dataflow gives it", "region": "Dataflow gives it", "update": "Dataflow gives it", "transform_name_mapping": "Dataflow gives it",
	"template_location": "Dataflow gives it",
	"staging_location":  ofEnvironment, "temp_location": ofEnvironment, "service_account_email": ofEnvironment, "machine_type": ofEnvironment,
	"num_workers": ofEnvironment, "max_num_workers": ofEnvironment, "autoscaling_algorithm": ofEnvironment, "disk_size_gb": ofEnvironment,
	"network": ofEnvironment, "subnetwork": ofEnvironment, "use_public_ips": ofEnvironment, "worker_region": ofEnvironment, "worker_zone": ofEnvironment,
	"dataflow_kms_key": ofEnvironment, "labels": ofEnvironment, "flexrs_goal": ofEnvironment, "sdk_container_image": ofEnvironment,
	"enable_streaming_engine": "streams always have it",
	"dry_run":                 "whoever launches a template wants a job",
	"dataflow_endpoint":       "no job is made by the launcher",
}

// labels is a flag of labels, as a list or, as Beam has it, in JSON.
type labels map[string]string

func (l *labels) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		parts = append(parts, name+"="+(*l)[name])
	}
	return strings.Join(parts, ",")
}

func (l *labels) Type() string { return "labels" }

func (l *labels) Set(text string) error {
	more, err := dataflow.ParseLabels(text)
	if err != nil {
		return err
	}
	if *l == nil {
		*l = labels{}
	}
	maps.Copy(*l, more)
	return nil
}

// alsoOnDataflow are other names that flags have in Beam, which Dataflow's own launcher may use.
var alsoOnDataflow = map[string]string{
	"worker_harness_container_image": "sdk_container_image", "worker_machine_type": "machine_type", "zone": "worker_zone", "no_use_public_ips": "use_public_ips",
}

// notOnDataflow are flags of Beam that have no effect here, and what to do instead.
var notOnDataflow = map[string]string{
	"endpoint": "--dataflow_endpoint", "environment_type": "--sdk_container_image", "environment_config": "--sdk_container_image",
	"parallelism": "--num_workers", "async": "--detach", "execute_async": "--detach",
	"min_cpu_platform": "--experiments=min_cpu_platform=...", "teardown_policy": "", "cpu_profiling": "", "disk_type": "",
	"disk_provisioned_iops": "", "disk_provisioned_throughput_mibps": "", "session_recording": "",
}

// also sets what flags say by their other names.
func (o *dataflowOptions) also(flags *pflag.FlagSet) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(alsoOnDataflow)) {
		value, ok := given(flags, name)
		if !ok {
			continue
		}
		same := alsoOnDataflow[name]
		if said, ok := given(flags, same); ok {
			errs = append(errs, fmt.Errorf("%s is %q and %s is %q, which says the same: leave --%s out", name, value, same, said, name))
			continue
		}
		switch same {
		case "sdk_container_image":
			o.ContainerImage = value
		case "machine_type":
			o.MachineType = value
		case "worker_zone":
			o.WorkerZone = value
		case "use_public_ips":
			o.publicIPs = value != "true"
		}
	}
	return errors.Join(errs...)
}

// dataflowOf returns what runs a pipeline on Dataflow.
func dataflowOf(flags *pflag.FlagSet, said dataflowOptions, r request) (*backend, error) {
	errs := []error{said.also(flags)}
	o := said.Options
	flags.VisitAll(func(f *pflag.Flag) {
		instead, known := notOnDataflow[f.Name]
		switch {
		case f.Changed && known && instead != "":
			errs = append(errs, fmt.Errorf("%s is %q, which the Dataflow runner does not have: use %s", f.Name, f.Value, instead))
		case f.Changed && (known || strings.HasPrefix(f.Name, "flink_")):
			errs = append(errs, fmt.Errorf("%s is %q, which the Dataflow runner does not have: leave it out", f.Name, f.Value))
		}
	})
	if dir, ok := given(flags, "spill_dir"); ok {
		errs = append(errs, fmt.Errorf("spill_dir is %q; on Dataflow, rows wait in its own memory and disks: leave --spill_dir out", dir))
	}
	*r.spillDir = ""
	for _, p := range r.paths {
		if *p != "" && !strings.HasPrefix(*p, "gs://") && !strings.HasPrefix(*p, "pubsub://") {
			errs = append(errs, fmt.Errorf("%q cannot be read by workers of Dataflow: put it into a bucket of Cloud Storage, gs://", *p))
		}
	}
	o.Project = cmp.Or(o.Project, os.Getenv("GOOGLE_CLOUD_PROJECT"), os.Getenv("CLOUDSDK_CORE_PROJECT"))
	o.Region = cmp.Or(o.Region, os.Getenv("CLOUDSDK_COMPUTE_REGION"))
	o.Name, o.RunID, o.Lake, o.Streaming = *jobopts.JobName, r.runID, *r.lake, r.streaming
	if o.Name == "" {
		o.Name = "backbone-" + r.command + "-" + strings.ToLower(r.runID)
		if r.streaming { // one stream reads a subscription
			o.Name = strings.ToLower("backbone-" + r.command + "-" + strings.NewReplacer("_", "-", ".", "-", "~", "-", "+", "-", "%", "-").Replace(path.Base(*r.paths[0])))
		}
	}
	for _, p := range r.paths {
		if name, ok, err := pubsub.ParseURL(*p); ok && err == nil {
			o.Subscriptions = append(o.Subscriptions, name)
		}
	}
	o.NoPublicIPs, o.NoStreamingEngine = !said.publicIPs, !said.streamingEngine
	o.Experiments, o.WorkerBinary = jobopts.GetExperiments(), *jobopts.WorkerBinary
	if text, ok := given(flags, "detach"); ok {
		o.Detach = text == "true"
	}
	if text, ok := given(flags, "follow"); ok {
		o.Follow = text == "true"
	}
	if said.dryRun {
		o.DryRun = r.stdout
	}
	if said.transformNames != "" {
		if err := json.Unmarshal([]byte(said.transformNames), &o.TransformNames); err != nil {
			errs = append(errs, fmt.Errorf(`transform_name_mapping is %q; it must be JSON such as {"OLD": "NEW"}: %w`, said.transformNames, err))
		}
	}
	if err := errors.Join(append(errs, o.Validate())...); err != nil {
		return nil, err
	}
	l := dataflow.New(o)
	b := &backend{submit: l.Submit, native: true, drain: l.Drain, dryRun: said.dryRun}
	if !o.Detach && !said.dryRun && o.TemplateLocation == "" {
		b.seen = &elsewhere{meter: l, every: lookEvery}
	}
	return b, nil
}
