package command

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/dataflow/template"
)

var updateTemplates = flag.Bool("update_templates", false, "rewrite the golden files of templates; read them before you commit them")

// pipelineOf returns the command of a pipeline, with all flags that it has.
func pipelineOf(t *testing.T, name string) *cobra.Command {
	t.Helper()
	cmd, _, err := Tree().Find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// isGolden compares with a file.
func isGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateTemplates {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-golden +made; go test -update_templates rewrites it):\n%s", name, diff)
	}
}

// The specification of a template has the parameters that the golden file shows, and the flags that are none are there for the reasons that it shows.
func TestFlexTemplate(t *testing.T) {
	for _, pipeline := range templatePipelines {
		t.Run(pipeline, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "spec.json")
			code, _, stderr := runLine(t, "template", "flex", pipeline, "--image=shop/backbone:1", "--template_location", path,
				"--staging_location=gs://shop/staging", "--max_num_workers=8", "--labels=team=search", "--use_public_ips=false", "--autoscaling_algorithm=NONE", "--experiments=a,b")
			if code != exitDone {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			spec, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			isGolden(t, "flex-"+pipeline+".json", spec)

			var left bytes.Buffer
			flags := pipelineOf(t, pipeline).Flags()
			flags.VisitAll(func(f *pflag.Flag) {
				if why, ok := template.Left(f); ok && f.Name != "update_templates" {
					fmt.Fprintf(&left, "%s: %s\n", f.Name, why)
				}
			})
			isGolden(t, "flex-"+pipeline+"-left.txt", left.Bytes())
		})
	}
}

// Each flag of a pipeline is a parameter, or is none for a reason: what Dataflow or its launcher gives is none. What a parameter says is what the flag takes.
func TestFlexParameters(t *testing.T) {
	given := []string{
		"project", "region", "job_name", "runner", "staging_location", "temp_location", "template_location", "service_account_email", "machine_type", "num_workers",
		"max_num_workers", "network", "subnetwork", "use_public_ips", "worker_region", "worker_zone", "worker_binary", "experiments", "sdk_container_image", "update",
	}
	for _, pipeline := range templatePipelines {
		cmd := pipelineOf(t, pipeline)
		parameters := template.Parameters(pipeline, cmd.Flags())
		names := map[string]bool{}
		for _, p := range parameters {
			names[p.Name] = true
			if p.Label == "" || p.HelpText == "" || strings.Contains(p.HelpText, "`") {
				t.Errorf("%s: parameter %s has the label %q and the help %q", pipeline, p.Name, p.Label, p.HelpText)
			}
			for _, text := range p.Regexes {
				want, err := regexp.CompilePOSIX(text)
				if err != nil {
					t.Errorf("%s: parameter %s: %v", pipeline, p.Name, err)
				} else if p.DefaultValue != "" && !want.MatchString(p.DefaultValue) {
					t.Errorf("%s: the default of parameter %s is %q, which %s does not match", pipeline, p.Name, p.DefaultValue, text)
				}
			}
			if p.Name == template.PipelineParameter {
				continue
			}
			f := cmd.Flags().Lookup(p.Name)
			if _, ofBeam := f.Value.(*beamFlag); ofBeam {
				t.Errorf("%s: parameter %s is a flag of Beam's", pipeline, p.Name)
			}
			if p.DefaultValue != "" {
				if err := f.Value.Set(p.DefaultValue); err != nil {
					t.Errorf("%s: the default of parameter %s is %q: %v", pipeline, p.Name, p.DefaultValue, err)
				}
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if why, left := template.Left(f); left == names[f.Name] || left && why == "" {
				t.Errorf("%s: flag %s is a parameter: %v; it is none because %q", pipeline, f.Name, names[f.Name], why)
			}
		})
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if why, _ := template.Left(f); why != ofEnvironment || alsoOnDataflow[f.Name] != "" {
				return
			}
			value := map[string]string{"labels": "a=b", "use_public_ips": "false", "autoscaling_algorithm": "NONE", "flexrs_goal": "COST_OPTIMIZED"}[f.Name]
			var e df.FlexTemplateRuntimeEnvironment
			if ok, err := template.SetEnvironment(&e, f.Name, cmp.Or(value, "1")); !ok || err != nil || reflect.ValueOf(e).IsZero() {
				t.Errorf("%s: %s is no parameter since it is of the environment, which has no such field: %v, %v", pipeline, f.Name, ok, err)
			}
		})
		for _, name := range given {
			if names[name] {
				t.Errorf("%s: %s is a parameter, and Dataflow gives it", pipeline, name)
			}
		}
	}
}

// A template is launched by the names that flags have in Beam, too, and by its words for them.
func TestOtherNamesOnDataflow(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want string // in the error; "": the request has what was set
	}{
		{"Taken", []string{"--runner=DataflowRunner", "--worker_machine_type=n2-standard-4", "--zone=europe-west1-b", "--no_use_public_ips=true", `--labels={"team":"search"}`, "--worker_harness_container_image=shop/beam:1"}, ""},
		{"Twice", []string{"--runner=dataflow", "--worker_machine_type=n2-standard-4", "--machine_type=n2-standard-8"}, `worker_machine_type is "n2-standard-4" and machine_type is "n2-standard-8", which says the same`},
		{"Labels", []string{"--runner=dataflow", "--labels=team"}, `"team" is not of the form NAME=VALUE`},
		{"Labels in JSON", []string{"--runner=dataflow", `--labels={"team":`}, `invalid argument "{\"team\":"`},
		{"Refused", []string{"--runner=dataflow", "--disk_type=pd-ssd"}, `disk_type is "pd-ssd", which the Dataflow runner does not have: leave it out`},
		{"Unknown", []string{"--runner=dataflow", "--streaming=true"}, "unknown flag --streaming"},
		{"Template and dry run", []string{"--runner=dataflow", "--template_location=gs://shop/t", "--dry_run"}, "leave them out"},
		{"Template", []string{"--runner=dataflow", "--template_location=t.json"}, `template_location is "t.json"; it must be an object in Cloud Storage`},
		{"Template elsewhere", []string{"--template_location=gs://shop/t"}, "but the runner is not dataflow"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keepBeamFlags(t)
			var cluster clusterOptions
			cmd := &cobra.Command{Use: "p", Args: cobra.NoArgs}
			cluster = clusterDefaults()
			clusterFlags(cmd.Flags(), &cluster)
			addBeamFlags(cmd, flag.CommandLine)
			cmd.SetFlagErrorFunc(flagError)
			lake, spill := "gs://shop/lake", ""
			var out bytes.Buffer
			common := []string{"--project=shop", "--region=europe-west1", "--staging_location=gs://shop/staging"}
			if test.want == "" {
				common = append(common, "--dry_run")
			}
			err := cmd.ParseFlags(append(common, test.args...))
			if err != nil {
				err = flagError(cmd, err)
			} else {
				_, err = runnerOf(cmd.Flags(), cluster, request{command: "interactions", runID: "r", lake: &lake, spillDir: &spill, stdout: &out})
			}
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q in it", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			said := cluster.dataflow
			if err := said.also(cmd.Flags()); err != nil || said.MachineType != "n2-standard-4" || said.WorkerZone != "europe-west1-b" || said.publicIPs ||
				said.Labels["team"] != "search" || said.ContainerImage != "shop/beam:1" {
				t.Errorf("options %+v, error %v", said, err)
			}
		})
	}
}

// keepBeamFlags has the flags of the process as they were after the test.
func keepBeamFlags(t *testing.T) {
	t.Helper()
	flag.VisitAll(func(f *flag.Flag) {
		if before := f.Value.String(); !strings.HasPrefix(f.Name, "test.") {
			t.Cleanup(func() {
				if f.Value.String() != before {
					if err := f.Value.Set(before); err != nil {
						t.Error(err)
					}
				}
			})
		}
	})
}
