package template

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	df "google.golang.org/api/dataflow/v1b3"
)

// A flag is a parameter by its type, and by what was noted of it.
func TestParameters(t *testing.T) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SortFlags = false
	f.String("input", "", "`GLOB` of files")
	f.String("mode", "full", "what `becomes` of rows")
	f.Duration("flush_interval", 30*time.Second, "how long a row waits")
	f.Int("shards", 0, "files side by side (default 1)")
	f.StringSlice("id_attributes", []string{"a", "b"}, "Dataflow: `NAMES`")
	f.Bool("prime", false, "`URL` or not.")
	f.String("summary", "", "a file")
	Form{Type: ReadFile, Regex: "^gs://", Required: true, Help: "files to read"}.Note(f, "input")
	Form{Values: []string{"full", "delta"}}.Note(f, "mode")
	Leave(f.Lookup("summary"), "it is gone")
	want := []*df.ParameterMetadata{
		{
			Name: "pipeline", Label: "Pipeline", HelpText: "The pipeline that this template is of.", ParamType: "ENUM", DefaultValue: "p",
			EnumOptions: []*df.ParameterMetadataEnumOption{{Label: "p", Value: "p"}}, Regexes: []string{"^p$"},
		},
		{Name: "input", Label: "Input", HelpText: "Files to read.", ParamType: "GCS_READ_FILE", Regexes: []string{"^gs://"}},
		{
			Name: "mode", Label: "Mode", HelpText: "What becomes of rows.", ParamType: "ENUM", DefaultValue: "full", IsOptional: true,
			EnumOptions: []*df.ParameterMetadataEnumOption{{Label: "full", Value: "full"}, {Label: "delta", Value: "delta"}},
		},
		{Name: "flush_interval", Label: "Flush interval", HelpText: "How long a row waits.", ParamType: "TEXT", DefaultValue: "30s", IsOptional: true, Regexes: []string{forms["duration"].Regex}},
		{Name: "shards", Label: "Shards", HelpText: "Files side by side (default 1).", ParamType: "NUMBER", IsOptional: true, Regexes: []string{"^[0-9]+$"}},
		{Name: "id_attributes", Label: "ID attributes", HelpText: "NAMES.", ParamType: "TEXT", DefaultValue: "a,b", IsOptional: true},
		{Name: "prime", Label: "Prime", HelpText: "URL or not.", ParamType: "BOOLEAN", DefaultValue: "false", IsOptional: true, Regexes: []string{"^(true|false)$"}},
	}
	if diff := cmp.Diff(want, Parameters("p", f), cmpopts.IgnoreUnexported(df.ParameterMetadata{})); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	if why, ok := Left(f.Lookup("summary")); !ok || why != "it is gone" {
		t.Errorf("Left() = %q, %v", why, ok)
	}
}

// A duration that Go takes is one that Dataflow lets pass.
func TestDurations(t *testing.T) {
	want := regexp.MustCompilePOSIX(forms["duration"].Regex)
	for _, text := range []string{"1s", "1h30m0s", "1.5h", "250ms", "24h0m0s"} {
		if _, err := time.ParseDuration(text); err != nil || !want.MatchString(text) {
			t.Errorf("%s is no duration: %v", text, err)
		}
	}
	for _, text := range []string{"", "soon", "1", "-1s", "1 s", "1s "} {
		if want.MatchString(text) {
			t.Errorf("%q is a duration", text)
		}
	}
}

func TestSetEnvironment(t *testing.T) {
	var e df.FlexTemplateRuntimeEnvironment
	for _, set := range []struct{ name, value, wrong string }{
		{"max_num_workers", "8", ""},
		{"labels", "team=search,cost=low", ""},
		{"experiments", "a,b", ""},
		{"experiments", "c", ""},
		{"use_public_ips", "false", ""},
		{"num_workers", "many", "num_workers: "},
		{"autoscaling_algorithm", "SOME", `autoscaling_algorithm: "SOME" is none of NONE, THROUGHPUT_BASED`},
	} {
		ok, err := SetEnvironment(&e, set.name, set.value)
		if !ok || (err == nil) != (set.wrong == "") || err != nil && !strings.HasPrefix(err.Error(), set.wrong) {
			t.Errorf("SetEnvironment(%s, %s) = %v, %v", set.name, set.value, ok, err)
		}
	}
	want := df.FlexTemplateRuntimeEnvironment{
		MaxWorkers: 8, AdditionalUserLabels: map[string]string{"team": "search", "cost": "low"}, AdditionalExperiments: []string{"a", "b", "c"}, IpConfiguration: "WORKER_IP_PRIVATE",
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if ok, err := SetEnvironment(&e, "input", "x"); ok || err != nil {
		t.Errorf("SetEnvironment(input) = %v, %v", ok, err)
	}
}

// The image calls this program as the launcher finds it.
func TestDockerfile(t *testing.T) {
	for _, want := range []string{"gcr.io/dataflow-templates-base/go-template-launcher-base", "COPY --from=build /out/backbone /template/backbone\n", "ENV FLEX_TEMPLATE_GO_BINARY=/template/backbone\n"} {
		if !strings.Contains(string(Dockerfile), want) {
			t.Errorf("the Dockerfile has no %s", want)
		}
	}
}
