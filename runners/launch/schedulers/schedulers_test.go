package schedulers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/runners/launch"
)

var update = flag.Bool("update", false, "rewrite the files in testdata; read them before you commit them")

func load(t testing.TB, name string) (*launch.File, []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := launch.Parse(path, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f, text
}

var (
	place = Options{Binary: "/usr/local/bin/backbone", Path: "/etc/backbone/all of O'Brien's {{ x }} \"shop\".yaml"}
	cloud = CloudOptions{Project: "my-shop", Region: "europe-west1", Template: "gs://shop/backbone.json", ServiceAccount: "runs@my-shop.iam.gserviceaccount.com"}
)

func TestGolden(t *testing.T) {
	nightly, text := load(t, "nightly.yaml")
	stream, _ := load(t, "stream.yaml")
	for name, write := range map[string]func() (string, error){
		"crontab.golden": func() (string, error) { return Cron(nightly, place) },
		"kubernetes.golden.yaml": func() (string, error) {
			return Kubernetes(nightly, text, KubernetesOptions{Image: "my-registry/backbone:1.0", Namespace: "shop"})
		},
		"airflow.golden.py":          func() (string, error) { return Airflow(nightly, place) },
		"cloudscheduler.golden.json": func() (string, error) { return CloudScheduler(stream, cloud) },
	} {
		got, err := write()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	nightly, text := load(t, "nightly.yaml")
	stream, _ := load(t, "stream.yaml")
	unscheduled := *nightly
	unscheduled.Schedule = nil
	for _, test := range []struct {
		name  string
		write func() (string, error)
		want  []string
	}{
		{"NoSchedule", func() (string, error) { return Cron(&unscheduled, place) }, []string{"nothing to schedule"}},
		{"Relative", func() (string, error) { return Airflow(nightly, Options{Binary: "backbone", Path: "/a\nb"}) }, []string{`binary is "backbone"`, `path is "/a\nb"`}},
		{"Backslash", func() (string, error) { return Cron(nightly, Options{Binary: "/b", Path: `/a\b`}) }, []string{"backslash"}},
		{"Percent", func() (string, error) { return Cron(nightly, Options{Binary: "/b", Path: "/100%"}) }, []string{"has a %"}},
		{"TooLong", func() (string, error) {
			return Cron(nightly, Options{Binary: "/b", Path: "/" + strings.Repeat("x", 1000)})
		}, []string{"use shorter paths"}},
		{"NoImage", func() (string, error) { return Kubernetes(nightly, text, KubernetesOptions{Namespace: "Shop"}) }, []string{"image is missing", `namespace is "Shop"`}},
		{"NoUTF8", func() (string, error) { return Kubernetes(nightly, []byte("\xff"), KubernetesOptions{Image: "i"}) }, []string{"UTF-8"}},
		{"Macros", func() (string, error) { return CloudScheduler(nightly, cloud) }, []string{"runner: it must be dataflow", "options.items: Cloud Scheduler sends", "options.as_of"}},
		{"Elsewhere", func() (string, error) {
			other := *stream
			other.Options = append(slices.Clone(other.Options), launch.Option{Name: "project", Values: []string{"other"}}, launch.Option{Name: "num_workers", Values: []string{"many"}})
			return CloudScheduler(&other, cloud)
		}, []string{`options.project: it is "other", and the job is asked for in project "my-shop"`, `options.num_workers: strconv.ParseInt: parsing "many"`}},
		{"Nowhere", func() (string, error) {
			return CloudScheduler(stream, CloudOptions{Region: "../x", Template: "/x", ServiceAccount: "x"})
		}, []string{
			"project is", "region is", "template is", "service_account is",
		}},
	} {
		got, err := test.write()
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) || got != "" {
				t.Errorf("%s: %q, error %v, want %q", test.name, got, err, want)
			}
		}
	}
}

// text is any text without control characters: what paths may be.
func text() *rapid.Generator[string] {
	special := []rune(` '"%$&;|<>(){}[]*?~#!` + "`,:-@=ä\u00a0\u2028世😀" + `\`)
	return rapid.StringOf(rapid.OneOf(rapid.SampledFrom(special), rapid.Rune())).Filter(func(s string) bool {
		return !strings.ContainsFunc(s, unicode.IsControl) && !strings.ContainsRune(s, unicode.ReplacementChar)
	})
}

// A shell that cron calls reads the words that were meant.
func TestCronIsQuoted(t *testing.T) {
	plain := strings.NewReplacer(`\`, "", "%", "") // which are refused
	f, _ := load(t, "nightly.yaml")
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Binary: "/" + plain.Replace(text().Draw(t, "binary")), Path: "/" + plain.Replace(text().Draw(t, "path"))}
		lines, err := Cron(f, o)
		if err != nil {
			t.Skip(err) // too long
		}
		all := strings.Split(strings.TrimSuffix(lines, "\n"), "\n")
		if len(all) != 3 {
			t.Fatalf("%d lines, want 3:\n%s", len(all), lines)
		}
		command, ok := strings.CutPrefix(all[2], "0 3 * * * ")
		if !ok {
			t.Fatalf("line %q", all[2])
		}
		out, err := exec.Command("/bin/sh", "-c", `printf '%s\0' `+command).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Split(string(out), "\x00"), []string{o.Binary, "launch", o.Path, "--wait", "--catch_up", ""}; !cmp.Equal(got, want) {
			t.Fatalf("the shell reads %q, want %q", got, want)
		}
	})
}

// What YAML says is what was meant: the file in a ConfigMap, the arguments, the image.
func TestKubernetesIsQuoted(t *testing.T) {
	f, _ := load(t, "nightly.yaml")
	lines := rapid.StringOf(rapid.OneOf(rapid.SampledFrom([]rune("\n\n  \t:#-'\"{}[]|>&*!%@`,?\\ab")), rapid.Rune()))
	rapid.Check(t, func(t *rapid.T) {
		content := strings.ToValidUTF8(lines.Draw(t, "file"), "")
		o := KubernetesOptions{Image: "i" + text().Draw(t, "image")}
		got, err := Kubernetes(f, []byte(content), o)
		if err != nil {
			t.Fatal(err)
		}
		var config struct{ Data map[string]string }
		var job struct {
			Spec struct {
				JobTemplate struct {
					Spec struct {
						Template struct {
							Spec struct{ Containers []struct{ Image string } }
						}
					}
				} `yaml:"jobTemplate"`
			}
		}
		d := yaml.NewDecoder(bytes.NewReader([]byte(got)))
		if err := errors.Join(d.Decode(&config), d.Decode(&job)); err != nil {
			t.Fatalf("%v:\n%s", err, got)
		}
		if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
			t.Fatalf("there are more objects: %v\n%s", err, got)
		}
		image := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Image
		if config.Data["launch.yaml"] != content || image != o.Image {
			t.Fatalf("file %q and image %q, want %q and %q; of\n%s", config.Data["launch.yaml"], image, content, o.Image, got)
		}
	})
}

// Python reads the text that was meant.
func TestPythonIsQuoted(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	reader := exec.CommandContext(t.Context(), python, "-c", `
import ast, json, sys
for line in sys.stdin:
    print(json.dumps(ast.literal_eval(line)), flush=True)`)
	in, err := reader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	read := json.NewDecoder(out)
	rapid.Check(t, func(t *rapid.T) {
		want := strings.ToValidUTF8(rapid.OneOf(text(), rapid.String()).Draw(t, "text"), "?")
		var got string
		if _, err := fmt.Fprintln(in, Python(want)); err != nil {
			t.Fatal(err)
		}
		if err := read.Decode(&got); err != nil || got != want {
			t.Fatalf("%s is %q, error %v, want %q", Python(want), got, err, want)
		}
	})
	if err := errors.Join(in.Close(), reader.Wait()); err != nil {
		t.Error(err)
	}
}

// The request to Dataflow has the options that the launch has.
func TestCloudRequest(t *testing.T) {
	f, _ := load(t, "stream.yaml")
	f.Options = append(f.Options, launch.Option{Name: "context", Values: []string{"a,b", `c"d`}, List: true})
	for name, value := range map[string]string{ // which a launch has in its environment, or in the URL
		"project": cloud.Project, "region": cloud.Region, "staging_location": "gs://shop/staging", "max_num_workers": "8", "use_public_ips": "false", "labels": "team=search", "detach": "true",
	} {
		f.Options = append(f.Options, launch.Option{Name: name, Values: []string{value}})
	}
	text, err := CloudScheduler(f, cloud)
	if err != nil {
		t.Fatal(err)
	}
	var job struct{ HTTPTarget struct{ URI, Body string } }
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(job.HTTPTarget.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"launchParameter": map[string]any{
		"jobName": "shop-stream", "containerSpecGcsPath": "gs://shop/backbone.json",
		"parameters": map[string]any{
			"pipeline": "interactions", "lake": "gs://shop/lake", "input": "pubsub://shop/events", "aggregate": "sessions,trending", "context": `"a,b","c""d"`,
		},
		"environment": map[string]any{
			"stagingLocation": "gs://shop/staging", "maxWorkers": 8., "ipConfiguration": "WORKER_IP_PRIVATE", "additionalUserLabels": map[string]any{"team": "search"},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
