package schedulers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"google.golang.org/api/cloudscheduler/v1"
	dataflow "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/dataflow/template"
	"backbone/runners/launch"
)

// CloudOptions say where a job of Dataflow runs, and as whom it is started.
type CloudOptions struct {
	// Project and Region are those of the job.
	Project, Region string
	// Template is the gs:// URL of the specification of the Flex Template.
	Template string
	// ServiceAccount is the address of the account that starts the job.
	ServiceAccount string
}

var (
	projects = regexp.MustCompile(`^[a-z][a-z0-9.:-]{1,62}$`)
	regions  = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)
	accounts = regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$`)
)

// Validate returns all that is wrong with o.
func (o CloudOptions) Validate() error {
	var errs []error
	if !projects.MatchString(o.Project) {
		errs = append(errs, fmt.Errorf("project is %q; it must be the id of a project of Google Cloud", o.Project))
	}
	if !regions.MatchString(o.Region) {
		errs = append(errs, fmt.Errorf("region is %q; it must be one such as europe-west1", o.Region))
	}
	if bucket, object, _ := strings.Cut(strings.TrimPrefix(o.Template, "gs://"), "/"); !strings.HasPrefix(o.Template, "gs://") || bucket == "" || object == "" {
		errs = append(errs, fmt.Errorf("template is %q; it must be the URL of the specification of a Flex Template, gs://BUCKET/OBJECT", o.Template))
	}
	if !accounts.MatchString(o.ServiceAccount) {
		errs = append(errs, fmt.Errorf("service_account is %q; it must be the address of an account that may start jobs of Dataflow", o.ServiceAccount))
	}
	return errors.Join(errs...)
}

// CloudScheduler returns a job of Cloud Scheduler, in JSON, that has Dataflow launch a Flex Template with the options of f.
//
// A job of Cloud Scheduler always sends the same request: a file with macros is refused. There is no record of what runs; Dataflow refuses a
// second job of a name while the first one runs.
func CloudScheduler(f *launch.File, o CloudOptions) (string, error) {
	errs := []error{scheduled(f), o.Validate()}
	if f.Runner != launch.RunnerDataflow {
		errs = append(errs, fmt.Errorf("%s: runner: it must be %s, which is what Cloud Scheduler starts a job on", f.Path, launch.RunnerDataflow))
	}
	parameters, environment := map[string]string{template.PipelineParameter: f.Pipeline}, &dataflow.FlexTemplateRuntimeEnvironment{}
	for _, option := range f.Options {
		for _, value := range option.Values {
			if strings.Contains(value, "{{") {
				errs = append(errs, fmt.Errorf("%s:%d: options.%s: Cloud Scheduler sends the same request at each tick, it fills no macros in", f.Path, option.Line, option.Name))
			}
			switch ok, err := template.SetEnvironment(environment, option.Name, value); {
			case err != nil:
				errs = append(errs, fmt.Errorf("%s:%d: options.%w", f.Path, option.Line, err))
				continue
			case ok:
				continue
			case option.Name == "project" && value != o.Project, option.Name == "region" && value != o.Region:
				errs = append(errs, fmt.Errorf("%s:%d: options.%s: it is %q, and the job is asked for in project %q, region %q", f.Path, option.Line, option.Name, value, o.Project, o.Region))
				continue
			case option.Name == "project", option.Name == "region", option.Name == "job_name", option.Name == "detach":
				continue // the request says it, and nobody follows the job
			}
			if option.List && strings.ContainsAny(value, `,"`) {
				value = `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
			}
			if before, ok := parameters[option.Name]; ok { // a parameter is one flag: those of lists split at commas
				value = before + "," + value
			}
			parameters[option.Name] = value
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	body, err := json.Marshal(dataflow.LaunchFlexTemplateRequest{LaunchParameter: &dataflow.LaunchFlexTemplateParameter{
		JobName: f.Name, ContainerSpecGcsPath: o.Template, Parameters: parameters, Environment: said(environment),
	}})
	if err != nil {
		return "", err
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.0fs", d.Seconds()) }
	text, err := json.MarshalIndent(cloudscheduler.Job{
		Name:        fmt.Sprintf("projects/%s/locations/%s/jobs/%s", o.Project, o.Region, f.Name),
		Description: "Launches " + f.Name,
		Schedule:    f.Schedule.Expression(), TimeZone: f.Schedule.Zone(),
		AttemptDeadline: "180s",
		RetryConfig:     &cloudscheduler.RetryConfig{RetryCount: int64(min(f.Attempts-1, 5)), MinBackoffDuration: seconds(f.Backoff), MaxBackoffDuration: seconds(f.MaxBackoff)},
		HttpTarget: &cloudscheduler.HttpTarget{
			HttpMethod: "POST",
			Uri:        fmt.Sprintf("https://dataflow.googleapis.com/v1b3/projects/%s/locations/%s/flexTemplates:launch", o.Project, o.Region),
			Headers:    map[string]string{"Content-Type": "application/json"},
			Body:       base64.StdEncoding.EncodeToString(body),
			OauthToken: &cloudscheduler.OAuthToken{ServiceAccountEmail: o.ServiceAccount, Scope: "https://www.googleapis.com/auth/cloud-platform"},
		},
	}, "", "  ")
	return string(text) + "\n", err
}

// said returns an environment in which something is set, nil for one in which nothing is.
func said(e *dataflow.FlexTemplateRuntimeEnvironment) *dataflow.FlexTemplateRuntimeEnvironment {
	if reflect.ValueOf(*e).IsZero() {
		return nil
	}
	return e
}
