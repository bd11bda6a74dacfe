package dataflowfake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	df "google.golang.org/api/dataflow/v1b3"
)

// templatePaths are those of templates, of a region or of the whole project.
var templatePaths = regexp.MustCompile(`^/v1b3/projects/([^/]+)(?:/locations/([^/]+))?/(templates|templates:launch|flexTemplates:launch)$`)

// fromTemplate reads the request of a call of templates. Each of them has one of its own.
func (s *Server) fromTemplate(c call, kind string, body io.Reader) (any, error) {
	read := func(into any) error {
		if err := json.NewDecoder(body).Decode(into); err != nil && !errors.Is(err, io.EOF) {
			return refuse(400, "invalid JSON payload received: %v", err)
		}
		return nil
	}
	switch kind {
	case "templates":
		var r df.CreateJobFromTemplateRequest
		if err := read(&r); err != nil {
			return nil, err
		}
		c.region = cmp.Or(c.region, r.Location)
		return s.launchClassic(c, r.GcsPath, &df.LaunchTemplateParameters{JobName: r.JobName, Parameters: r.Parameters, Environment: r.Environment})
	case "templates:launch":
		var r df.LaunchTemplateParameters
		if err := read(&r); err != nil {
			return nil, err
		}
		c.region = cmp.Or(c.region, c.parameter("location"))
		job, err := s.launchClassic(c, c.parameter("gcsPath"), &r)
		return map[string]any{"job": job}, err
	default:
		var r df.LaunchFlexTemplateRequest
		if err := read(&r); err != nil {
			return nil, err
		}
		if r.LaunchParameter == nil {
			return nil, refuse(400, "(fake): launchParameter is missing")
		}
		job, err := s.launchFlex(c, r.LaunchParameter, r.ValidateOnly)
		return map[string]any{"job": job}, err
	}
}

// launchClassic makes a job of a template, which is the request for one.
func (s *Server) launchClassic(c call, at string, p *df.LaunchTemplateParameters) (any, error) {
	body, err := s.object(context.Background(), at)
	if err != nil {
		return nil, refuse(400, "(fake): Unable to open template file: %s: %v", at, err)
	}
	if err := json.Unmarshal(body, &c.body); err != nil {
		return nil, refuse(400, "(fake): Unable to parse template file '%s': %v", at, err)
	}
	if len(p.Parameters) > 0 { // pipelines in Go have none
		return nil, unknownParameters(slices.Sorted(maps.Keys(p.Parameters)))
	}
	if p.JobName == "" {
		return nil, refuse(400, "(fake): The job name is missing")
	}
	c.body.Name, c.body.TransformNameMapping = p.JobName, p.TransformNameMapping
	if c.body.Environment == nil || len(c.body.Environment.WorkerPools) == 0 {
		return nil, refuse(400, "(fake): The template has no environment")
	}
	if e := p.Environment; e != nil {
		j, pool := c.body.Environment, c.body.Environment.WorkerPools[0]
		pool.NumWorkers, pool.MachineType = cmp.Or(e.NumWorkers, pool.NumWorkers), cmp.Or(e.MachineType, pool.MachineType)
		pool.Network, pool.Subnetwork = cmp.Or(e.Network, pool.Network), cmp.Or(e.Subnetwork, pool.Subnetwork)
		pool.IpConfiguration, pool.DiskSizeGb = cmp.Or(e.IpConfiguration, pool.IpConfiguration), cmp.Or(e.DiskSizeGb, pool.DiskSizeGb)
		if e.MaxWorkers > 0 {
			pool.AutoscalingSettings = &df.AutoscalingSettings{MaxNumWorkers: e.MaxWorkers}
		}
		j.ServiceAccountEmail, j.TempStoragePrefix = cmp.Or(e.ServiceAccountEmail, j.ServiceAccountEmail), cmp.Or(e.TempLocation, j.TempStoragePrefix)
		j.WorkerRegion, j.WorkerZone = cmp.Or(e.WorkerRegion, j.WorkerRegion), cmp.Or(e.WorkerZone, e.Zone, j.WorkerZone)
		j.ServiceKmsKeyName = cmp.Or(e.KmsKeyName, j.ServiceKmsKeyName)
		j.Experiments = append(j.Experiments, e.AdditionalExperiments...)
		if len(e.AdditionalUserLabels) > 0 {
			c.body.Labels = merged(c.body.Labels, e.AdditionalUserLabels)
		}
	}
	if p.Update {
		if c.body.ReplaceJobId, err = s.runs(c); err != nil {
			return nil, err
		}
	}
	return s.create(c)
}

// runs returns the id of the job of the name that runs.
func (s *Server) runs(c call) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.project == c.project && j.region == c.region && j.view(false).Name == c.body.Name && !j.ended() {
			return j.id, nil
		}
	}
	return "", refuse(404, "(fake): There is no active job named %s to update", c.body.Name)
}

func merged(all ...map[string]string) map[string]string {
	sum := map[string]string{}
	for _, m := range all {
		maps.Copy(sum, m)
	}
	return sum
}

func unknownParameters(names []string) error {
	return refuse(400, "The template parameters are invalid. Details: %s: Unrecognized parameter", strings.Join(names, ", "))
}

// launchFlex makes a job of the specification of a Flex Template. The job is there at once, and its launcher says then what it does.
func (s *Server) launchFlex(c call, p *df.LaunchFlexTemplateParameter, validateOnly bool) (any, error) {
	spec := p.ContainerSpec
	if p.ContainerSpecGcsPath != "" {
		body, err := s.object(context.Background(), p.ContainerSpecGcsPath)
		if err != nil {
			return nil, refuse(400, "(fake): Unable to open template file: %s: %v", p.ContainerSpecGcsPath, err)
		}
		spec = &df.ContainerSpec{}
		if err := json.Unmarshal(body, spec); err != nil {
			return nil, refuse(400, "(fake): Invalid template file %s: %v", p.ContainerSpecGcsPath, err)
		}
	}
	switch {
	case spec == nil || spec.Image == "" || spec.SdkInfo == nil || spec.SdkInfo.Language != "GO":
		return nil, refuse(400, "(fake): Invalid template: it needs an image, and the language GO, which is all that the fake knows")
	case !names.MatchString(p.JobName):
		return nil, refuse(400, "(fake): Job name must match %s", names)
	case s.options.Launcher == "":
		return nil, refuse(400, "(fake): no launcher stands for images here: set Options.Launcher")
	}
	if err := checkParameters(spec.Metadata, p.Parameters); err != nil {
		return nil, err
	}
	if validateOnly {
		return nil, nil
	}
	args, err := s.launcherFlags(spec, p)
	if err != nil {
		return nil, err
	}
	c.body = df.Job{Name: p.JobName, Type: "JOB_TYPE_BATCH"} // until the launcher says more
	var replaced string
	if p.Update {
		c.body.Type = "JOB_TYPE_STREAMING"
		if replaced, err = s.runs(c); err != nil {
			return nil, err
		}
	}
	j, err := s.add(c, replaced)
	if err != nil {
		return nil, err
	}
	s.running.Go(func() { s.runFlex(j, args) })
	return j.view(false), nil
}

// checkParameters refuses what the metadata of a template do not have, or do not take.
func checkParameters(m *df.TemplateMetadata, given map[string]string) error {
	if m == nil {
		return nil
	}
	known := map[string]*df.ParameterMetadata{}
	for _, p := range m.Parameters {
		known[p.Name] = p
		if _, ok := given[p.Name]; !ok && !p.IsOptional {
			return refuse(400, "The template parameters are invalid. Details: %s: Missing required parameter", p.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p := known[name]
		if p == nil {
			return unknownParameters([]string{name})
		}
		for _, text := range p.Regexes {
			want, err := regexp.CompilePOSIX(text)
			if err != nil {
				return refuse(400, "(fake): parameter %s: %v", name, err)
			}
			if !want.MatchString(given[name]) {
				return refuse(400, "The template parameters are invalid. Details: %s: Unmatched value %q for regex %s", name, given[name], text)
			}
		}
		if values := p.EnumOptions; len(values) > 0 && !slices.ContainsFunc(values, func(o *df.ParameterMetadataEnumOption) bool { return o.Value == given[name] }) {
			return refuse(400, "The template parameters are invalid. Details: %s: %q is none of its options", name, given[name])
		}
	}
	return nil
}

// launcherFlags are those that a launcher gives to its program, but for where the job is to be written: the parameters, and what the environment says, which is
// that of the template where the launch has none.
func (s *Server) launcherFlags(spec *df.ContainerSpec, p *df.LaunchFlexTemplateParameter) ([]string, error) {
	flags := merged(p.Parameters)
	var errs []error
	for _, e := range []*df.FlexTemplateRuntimeEnvironment{spec.DefaultEnvironment, p.Environment} {
		if e == nil {
			continue
		}
		for name, value := range map[string]string{
			"staging_location": e.StagingLocation, "temp_location": e.TempLocation, "service_account_email": e.ServiceAccountEmail,
			"worker_machine_type": e.MachineType, "network": e.Network, "subnetwork": e.Subnetwork, "worker_region": e.WorkerRegion,
			"worker_zone": cmp.Or(e.WorkerZone, e.Zone), "dataflow_kms_key": e.KmsKeyName, "sdk_container_image": e.SdkContainerImage,
			"experiments":           strings.Join(e.AdditionalExperiments, ","),
			"autoscaling_algorithm": map[string]string{"AUTOSCALING_ALGORITHM_NONE": "NONE", "AUTOSCALING_ALGORITHM_BASIC": "THROUGHPUT_BASED"}[e.AutoscalingAlgorithm],
			"flexrs_goal":           strings.TrimPrefix(e.FlexrsGoal, "FLEXRS_"),
			"no_use_public_ips":     map[string]string{"WORKER_IP_PRIVATE": "true"}[e.IpConfiguration],
		} {
			if value != "" {
				flags[name] = value
			}
		}
		for name, value := range map[string]int64{"num_workers": e.NumWorkers, "max_num_workers": e.MaxWorkers, "disk_size_gb": e.DiskSizeGb} {
			if value > 0 {
				flags[name] = fmt.Sprint(value)
			}
		}
		if len(e.AdditionalUserLabels) > 0 {
			text, err := json.Marshal(e.AdditionalUserLabels) // as Beam's flag for Go has it
			errs = append(errs, err)
			flags["labels"] = string(text)
		}
	}
	if p.Update {
		flags["update"] = "true"
		if len(p.TransformNameMappings) > 0 {
			text, err := json.Marshal(p.TransformNameMappings)
			errs = append(errs, err)
			flags["transform_name_mapping"] = string(text)
		}
	}
	if flags["staging_location"] == "" { // Dataflow makes a bucket for that
		if len(s.options.Buckets) == 0 {
			return nil, refuse(400, "(fake): there is no bucket to stage to")
		}
		flags["staging_location"] = "gs://" + s.options.Buckets[0] + "/dataflow-staging"
	}
	flags["temp_location"] = cmp.Or(flags["temp_location"], flags["staging_location"]+"/tmp")
	var args []string
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		args = append(args, "--"+name+"="+flags[name])
	}
	return args, errors.Join(errs...)
}

// runFlex runs the launcher of a job, and then the job as the launcher has written it.
func (s *Server) runFlex(j *job, args []string) {
	request, err := s.launch(j, args)
	if asked, _ := j.order(); asked == stateCancelled {
		s.end(j)
		j.become(stateCancelled)
		close(j.over)
		return
	}
	if err != nil {
		s.end(j)
		j.say(failure, err.Error())
		j.say(failure, "Error occurred in the launcher container: Template launch failed. See console logs.")
		j.become(stateFailed)
		close(j.over)
		return
	}
	j.fill(request)
	s.run(j)
}

// launch runs the launcher's program, with an environment of its own and nothing of this process's but where programs are. It returns the request that the program
// has written.
func (s *Server) launch(j *job, args []string) (request *df.Job, err error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		for {
			asked, more := j.order()
			if asked == stateCancelled {
				stop()
			}
			select {
			case <-ctx.Done():
				return
			case <-more:
			}
		}
	}()
	home := filepath.Join(j.dir, "launcher")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	var staging string
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--staging_location="); ok {
			staging = strings.TrimRight(value, "/")
		}
	}
	at := staging + "/template_launches/" + j.id + "/job_object"
	args = append(slices.Clone(args), "--job_name="+j.view(false).Name, "--project="+j.project, "--region="+j.region, "--runner=DataflowRunner", "--template_location="+at)
	slices.Sort(args)
	cmd := exec.CommandContext(ctx, s.options.Launcher, args...)
	cmd.Dir = home
	cmd.Env = append(slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home}, s.options.Env), s.Env()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if s.options.Output != nil {
		_, _ = s.options.Output.Write(said)
	}
	if err != nil {
		return nil, fmt.Errorf("launcher: %w: %s", err, lastLine(said))
	}
	body, err := s.object(context.Background(), at)
	if err != nil {
		return nil, fmt.Errorf("failed to read the job file: %w", err)
	}
	request = &df.Job{}
	if err := json.Unmarshal(body, request); err != nil {
		return nil, fmt.Errorf("failed to read the job file %s: %w", at, err)
	}
	return request, nil
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// fill gives a job of a Flex Template the request that its launcher has made. Its name stays.
func (j *job) fill(request *df.Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	request.Name = j.request.Name
	j.request = request
}
