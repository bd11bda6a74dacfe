package dataflow

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/protobuf/proto"
)

const (
	urnDocker = "beam:env:docker:v1"
	// defaultImage is Beam's container for workers, without its version.
	defaultImage = "gcr.io/cloud-dataflow/v1beta3/beam_go_sdk:"
	// workerName is that of the binary among the packages of a job.
	workerName = "worker"
	// displayed is the namespace of what is displayed of a job: which lake and which launch it is of.
	displayed = "backbone"
	lakeItem  = "lake"
	runItem   = "run_id"
)

func (o Options) image() string { return cmp.Or(o.ContainerImage, defaultImage+core.SdkVersion) }

// experiments are those that portable pipelines need, and what was asked for.
func (o Options) experiments() []string {
	all := slices.Clone(o.Experiments)
	need := []string{"beam_fn_api", "use_runner_v2", "use_unified_worker", "use_portable_job_submission"}
	if o.Streaming {
		need = append(need, "enable_streaming_engine", "enable_windmill_service")
	}
	for _, e := range need {
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// staged is what a job is made of, and where it is in Cloud Storage.
type staged struct {
	worker    binary
	workerURL string
	model     []byte
	modelURL  string
}

// plan says where what is staged goes, and puts it into the pipeline. A binary is found by its hash, whoever has staged it; a pipeline is of one launch.
func (o Options) plan(p *pipepb.Pipeline, worker binary) (s staged, err error) {
	base := strings.TrimRight(o.StagingLocation, "/")
	s = staged{worker: worker, workerURL: base + "/binaries/" + worker.sha256 + "/" + workerName, modelURL: base + "/jobs/" + o.RunID + "/model"}
	artifact, err := proto.Marshal(&pipepb.ArtifactUrlPayload{Url: s.workerURL, Sha256: worker.sha256})
	if err != nil {
		return s, err
	}
	if err := graphx.UpdateDefaultEnvWorkerType(graphx.URNArtifactURLType, artifact, p); err != nil {
		return s, err
	}
	s.model, err = proto.MarshalOptions{Deterministic: true}.Marshal(p)
	return s, err
}

// item is one of what is displayed of a job.
type item struct {
	Key       string `json:"key"`
	Namespace string `json:"namespace"`
	Type      string `json:"type"`
	Value     string `json:"value"`
}

// pipelineOptions are what Dataflow and workers are told. Flags of the command are none of it: what functions need is in the pipeline.
type pipelineOptions struct {
	DisplayData []item `json:"display_data,omitempty"`
	Options     struct {
		Experiments       []string `json:"experiments,omitempty"`
		PipelineURL       string   `json:"pipelineUrl"`
		PipelineProtoHash string   `json:"pipelineProtoHash"`
		Region            string   `json:"region"`
		TempLocation      string   `json:"tempLocation"`
	} `json:"options"`
	Go struct {
		Options map[string]string `json:"options"`
	} `json:"beam:option:go_options:v1"`
}

// request is what Dataflow is asked for.
func (o Options) request(p *pipepb.Pipeline, s staged) (*df.Job, error) {
	kind, api := "JOB_TYPE_BATCH", "FNAPI_BATCH"
	if o.Streaming {
		kind, api = "JOB_TYPE_STREAMING", "FNAPI_STREAMING"
	}
	addresses := "WORKER_IP_UNSPECIFIED"
	if o.NoPublicIPs {
		addresses = "WORKER_IP_PRIVATE"
	}
	services := slices.Clone(o.ServiceOptions)
	if o.Prime && !slices.Contains(services, "enable_prime") {
		services = append(services, "enable_prime")
	}
	sum := sha256.Sum256(s.model)
	var options pipelineOptions
	options.Options.Experiments = o.experiments()
	options.Options.PipelineURL, options.Options.PipelineProtoHash = s.modelURL, hex.EncodeToString(sum[:])
	options.Options.Region, options.Options.TempLocation = o.Region, o.temp()
	options.Go.Options = map[string]string{"experiments": strings.Join(o.experiments(), ","), "temp_location": o.temp()}
	for _, shown := range []struct{ key, value string }{{lakeItem, o.Lake}, {runItem, o.RunID}, {"subscriptions", strings.Join(o.Subscriptions, ",")}} {
		if shown.value != "" {
			options.DisplayData = append(options.DisplayData, item{Key: shown.key, Namespace: displayed, Type: "STRING", Value: shown.value})
		}
	}
	var images []*df.SdkHarnessContainerImage
	environments := p.GetComponents().GetEnvironments()
	for _, id := range slices.Sorted(maps.Keys(environments)) {
		e := environments[id]
		images = append(images, &df.SdkHarnessContainerImage{
			ContainerImage: o.image(), EnvironmentId: id, Capabilities: e.GetCapabilities(),
			UseSingleCorePerContainer: !slices.Contains(e.GetCapabilities(), graphx.URNMultiCore),
		})
	}
	labels := maps.Clone(o.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[runLabel] = o.label()
	j := &df.Job{
		ProjectId: o.Project, Location: o.Region, Name: o.Name, Type: kind, ClientRequestId: o.requestID(), Labels: labels, TransformNameMapping: o.TransformNames,
		Environment: &df.Environment{
			Experiments: o.experiments(), FlexResourceSchedulingGoal: goals[o.FlexRS], ServiceAccountEmail: o.ServiceAccount,
			ServiceKmsKeyName: o.KMSKey, ServiceOptions: services, TempStoragePrefix: o.temp(),
			WorkerRegion: o.WorkerRegion, WorkerZone: o.WorkerZone,
			WorkerPools: []*df.WorkerPool{{
				Kind: "harness", NumWorkers: max(o.Workers, 1), MachineType: o.MachineType, DiskSizeGb: o.DiskSizeGB, NumThreadsPerWorker: o.Threads,
				Network: o.Network, Subnetwork: o.Subnetwork, IpConfiguration: addresses,
				AutoscalingSettings:         &df.AutoscalingSettings{Algorithm: algorithms[o.Autoscaling], MaxNumWorkers: o.MaxWorkers},
				Packages:                    []*df.Package{{Name: workerName, Location: s.workerURL, Sha256: s.worker.sha256}},
				WorkerHarnessContainerImage: o.image(), SdkHarnessContainerImages: images,
			}},
		},
	}
	for _, m := range []struct {
		at    *[]byte
		value any
	}{
		{(*[]byte)(&j.Environment.UserAgent), map[string]string{"name": core.SdkName, "version": core.SdkVersion}},
		{(*[]byte)(&j.Environment.Version), map[string]string{"job_type": api, "major": "6"}},
		{(*[]byte)(&j.Environment.SdkPipelineOptions), options},
	} {
		text, err := json.Marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		*m.at = text
	}
	return j, nil
}

// requestID is what Dataflow knows a request by that comes again. A template has none: what is launched of it is another job each time.
func (o Options) requestID() string {
	if o.TemplateLocation != "" {
		return ""
	}
	return o.RunID
}

// label is the value of runLabel.
func (o Options) label() string { return strings.ToLower(o.RunID) }

// shownOf returns what is displayed of a job under a key, as it was submitted; "" where there is nothing.
func shownOf(j *df.Job, key string) string {
	var options pipelineOptions
	if j.Environment == nil || json.Unmarshal(j.Environment.SdkPipelineOptions, &options) != nil {
		return "" // it is not known, or not one of ours
	}
	for _, shown := range options.DisplayData {
		if shown.Namespace == displayed && shown.Key == key {
			return shown.Value
		}
	}
	return ""
}
