package command

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// probe is a pipeline command that notes what it was given.
type probe struct {
	Lake   string
	Window time.Duration
	Topics []string
	Shards int
	AsOf   string
	err    error
}

func (p *probe) command(*environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "probe",
		GroupID: groupPipelines,
		Short:   "A pipeline that does nothing",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return p.err },
	}
	cmd.Flags().StringVar(&p.Lake, "lake", "", "")
	cmd.Flags().DurationVar(&p.Window, "window", time.Hour, "")
	cmd.Flags().StringSliceVar(&p.Topics, "topics", nil, "")
	cmd.Flags().IntVar(&p.Shards, "shards", 1, "")
	cmd.Flags().StringVar(&p.AsOf, "as_of", "", "")
	if err := cmd.MarkFlagRequired("lake"); err != nil {
		panic(err)
	}
	return cmd
}

// call runs args with p as the only pipeline, and returns the exit code and what was printed.
func call(t *testing.T, p *probe, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &environment{
		stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(&errs),
		environ: func() []string { return environ },
	}
	code = execute(t.Context(), env, assemble(env, p.command(env), newVersionCommand(env), newCompletionCommand(env)), args)
	return code, out.String(), errs.String()
}

func TestSettings(t *testing.T) {
	config := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "backbone.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    probe
	}{
		{
			name: "Defaults",
			args: []string{"--lake=/l"},
			want: probe{Lake: "/l", Window: time.Hour, Shards: 1},
		},
		{
			name: "File",
			file: "lake: /file\nwindow: 15m\ntopics: [a, b]\nshards: 1000000\nas_of: 2026-11-22T00:00:00Z\n",
			want: probe{Lake: "/file", Window: 15 * time.Minute, Topics: []string{"a", "b"}, Shards: 1000000, AsOf: "2026-11-22T00:00:00Z"},
		},
		{
			name:    "EnvironmentOverFile",
			file:    "lake: /file\nshards: 2\n",
			environ: []string{"BACKBONE_LAKE=/env", "BACKBONE_TOPICS=a,b"},
			want:    probe{Lake: "/env", Window: time.Hour, Topics: []string{"a", "b"}, Shards: 2},
		},
		{
			name:    "FlagOverEnvironmentOverFile",
			file:    "lake: /file\nshards: 2\nwindow: 2h\n",
			environ: []string{"BACKBONE_LAKE=/env", "BACKBONE_SHARDS=3"},
			args:    []string{"--lake=/flag"},
			want:    probe{Lake: "/flag", Window: 2 * time.Hour, Shards: 3},
		},
		{
			name:    "EmptyVariableIsAbsent",
			file:    "lake: /file\n",
			environ: []string{"BACKBONE_LAKE="},
			want:    probe{Lake: "/file", Window: time.Hour, Shards: 1},
		},
		{
			name: "KeyOfAnotherCommand",
			file: "lake: /file\njson: true\n",
			want: probe{Lake: "/file", Window: time.Hour, Shards: 1},
		},
		{
			name:    "UnknownVariable",
			environ: []string{"BACKBONE_DATASETS=/data", "BACKBONE_LAKE=/env"},
			want:    probe{Lake: "/env", Window: time.Hour, Shards: 1},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			environ := test.environ
			if test.file != "" {
				environ = append(environ, "BACKBONE_CONFIG="+config(t, test.file))
			}
			var got probe
			if code, _, stderr := call(t, &got, environ, append([]string{"probe"}, test.args...)...); code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(probe{})); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unknown := file("unknown.yaml", "laek: /l\n")
	list := file("list.yaml", "lake: [a, b]\n")
	nested := file("nested.yaml", "probe:\n  lake: /l\n")
	broken := file("broken.yaml", "lake: [\n")
	tests := []struct {
		name    string
		err     error
		environ []string
		args    []string
		code    int
		want    string // in the one line on stderr
	}{
		{name: "JobFailed", err: errors.New("no space left"), args: []string{"probe", "--lake=/l"}, code: 1, want: "backbone probe: no space left\n"},
		{name: "SeveralErrors", err: errors.Join(errors.New("one"), errors.New("two")), args: []string{"probe", "--lake=/l"}, code: 1, want: "backbone probe: one; two\n"},
		{name: "UsageFoundLate", err: usageErrorf("window is 7m; %w", errors.New("it must divide 24h")), args: []string{"probe", "--lake=/l"}, code: 2, want: `backbone probe: window is 7m; it must divide 24h; see "backbone probe --help"` + "\n"},
		{name: "UnknownFlag", args: []string{"probe", "--laek=/l"}, code: 2, want: `unknown flag --laek (did you mean --lake?); see "backbone probe --help"`},
		{name: "UnknownShortFlag", args: []string{"probe", "-x"}, code: 2, want: "unknown shorthand flag"},
		{name: "UnknownCommand", args: []string{"prob"}, code: 2, want: `unknown command "prob" (did you mean probe?); see "backbone --help"`},
		{name: "NothingLikeIt", args: []string{"xylophone"}, code: 2, want: `unknown command "xylophone"; see`},
		{name: "MissingFlag", args: []string{"probe"}, code: 2, want: `required flag(s) "lake" not set`},
		{name: "MissingArgument", args: []string{"completion"}, code: 2, want: "accepts 1 arg(s), received 0"},
		{name: "TooManyArguments", args: []string{"probe", "--lake=/l", "extra"}, code: 2, want: `"extra"`},
		{name: "BadValue", args: []string{"probe", "--lake=/l", "--window=soon"}, code: 2, want: `"soon"`},
		{name: "BadValueInEnvironment", environ: []string{"BACKBONE_WINDOW=soon"}, args: []string{"probe", "--lake=/l"}, code: 2, want: `environment: BACKBONE_WINDOW: `},
		{name: "UnknownKey", args: []string{"probe", "--config", unknown}, code: 2, want: `unknown.yaml": unknown key "laek" (did you mean lake?)`},
		{name: "ListForOneValue", args: []string{"probe", "--config", list}, code: 2, want: `list.yaml": lake: takes one value, not a list of 2`},
		{name: "NestedKey", args: []string{"probe", "--config", nested}, code: 2, want: `nested.yaml": unknown key "probe"`},
		{name: "BrokenFile", args: []string{"probe", "--config", broken}, code: 2, want: "broken.yaml"},
		{name: "NoFile", args: []string{"probe", "--config", filepath.Join(dir, "none")}, code: 2, want: "no such file"},
		{name: "NoSuchPipeline", args: []string{"--pipeline=probes", "--lake=/l"}, code: 2, want: `--pipeline is "probes", which is no pipeline (did you mean probe?); there is: probe; see "backbone --help"`},
		{name: "PipelineIsNoPipeline", args: []string{"--pipeline=version"}, code: 2, want: `which is no pipeline`},
		{name: "PipelineWithoutName", args: []string{"--pipeline"}, code: 2, want: "flag needs an argument: --pipeline"},
		{name: "BadLogFormat", args: []string{"version", "--log_format=xml"}, code: 2, want: `log_format is "xml"; it must be text or json`},
		{name: "WorkersFlag", args: []string{"probe", "--lake=/l", "--control_endpoint=x"}, code: 2, want: "unknown flag --control_endpoint"},
		{name: "BeamsFlagElsewhere", args: []string{"version", "--runner=flink"}, code: 2, want: "unknown flag --runner"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := call(t, &probe{err: test.err}, test.environ, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if stdout != "" {
				t.Errorf("stdout: %q, want nothing", stdout)
			}
			if !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("stderr: %q, want one line with %q", stderr, test.want)
			}
		})
	}
}

func TestErrorAsJSON(t *testing.T) {
	code, _, stderr := call(t, &probe{err: errors.New("no space left")}, nil, "probe", "--lake=/l", "--log_format=json")
	if want := `"level":"ERROR","msg":"no space left","command":"backbone probe","exit_code":1}`; code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, stderr %q, want 1 and %q", code, stderr, want)
	}
}

func TestPipelineFlag(t *testing.T) {
	for _, args := range [][]string{
		{"--pipeline=probe", "--lake=/l", "--shards=4"},
		{"--pipeline", "probe", "--lake=/l", "--shards=4"},
		{"--lake=/l", "--pipeline=probe", "--shards", "4"},
		{"--lake", "/l", "--shards=4", "--pipeline=probe"},
		{"--lake=/l", "--job_name=j", "--shards=4", "--pipeline=probe"},
	} {
		var got probe
		if code, _, stderr := call(t, &got, nil, args...); code != 0 {
			t.Errorf("%q: exit code %d: %s", args, code, stderr)
		}
		if got.Lake != "/l" || got.Shards != 4 {
			t.Errorf("%q: got %+v", args, got)
		}
	}
}

func TestBeamFlags(t *testing.T) {
	goflags := flag.NewFlagSet("beam", flag.ContinueOnError)
	runner := goflags.String("runner", "", "")
	update := goflags.Bool("update", false, "")
	goflags.String("id", "", "")
	lake := goflags.String("lake", "beam's own", "")
	var overrides several
	goflags.Var(&overrides, "override", "")

	var p probe
	cmd := p.command(nil)
	addBeamFlags(cmd, goflags)
	err := cmd.ParseFlags([]string{"--runner=flink", "--update", "--lake=/l", "--override=a", "--override=b"})
	if err != nil {
		t.Fatal(err)
	}
	if *runner != "flink" || !*update || fmt.Sprint(overrides) != "[a b]" {
		t.Errorf("runner %q, update %v, overrides %v: want flink, true, [a b]", *runner, *update, overrides)
	}
	if p.Lake != "/l" || *lake != "beam's own" {
		t.Errorf("lake %q and Beam's %q: a command's own flag must win", p.Lake, *lake)
	}
	if cmd.Flags().Lookup("id") != nil {
		t.Error("--id is for workers, and must not be a flag of a launcher")
	}
	if cmd.Flags().Lookup("runner").Hidden || !cmd.Flags().Lookup("update").Hidden {
		t.Error("help must show --runner and not --update")
	}
	// What a runner sends to its workers is what package flag knows to have been set.
	var set []string
	goflags.Visit(func(f *flag.Flag) { set = append(set, f.Name) })
	if diff := cmp.Diff([]string{"override", "runner", "update"}, set); diff != "" {
		t.Errorf("flags that were set (-want +got):\n%s", diff)
	}
}

// several is a flag that can be given more than once.
type several []string

func (s *several) String() string         { return fmt.Sprint(*s) }
func (s *several) Set(value string) error { *s = append(*s, value); return nil }

func TestIsWorker(t *testing.T) {
	tests := []struct {
		args []string
		want bool
	}{
		{[]string{"--worker=true", "--id=1"}, true},
		{[]string{"--id=1", "-worker"}, true},
		{[]string{"--worker"}, true},
		{[]string{"--worker=false"}, false},
		{[]string{"--worker=maybe"}, false},
		{[]string{"interactions", "--worker"}, false},
		{[]string{"--worker_binary=x"}, false},
		{[]string{"--", "--worker"}, false},
		{nil, false},
	}
	for _, test := range tests {
		if got := isWorker(test.args); got != test.want {
			t.Errorf("isWorker(%q) = %v, want %v", test.args, got, test.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	candidates := []string{"lake", "input", "flush_interval", "window"}
	tests := []struct{ word, want string }{
		{"laek", " (did you mean --lake?)"},                      // two replaced
		{"flush_intervall", " (did you mean --flush_interval?)"}, // one too many
		{"window", " (did you mean --window?)"},
		{"zebra", ""},
		{"", ""},
	}
	for _, test := range tests {
		if got := didYouMean("--", test.word, candidates); got != test.want {
			t.Errorf("didYouMean(%q) = %q, want %q", test.word, got, test.want)
		}
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, cmd := range commands(Tree()) {
		name, _ := strings.CutPrefix(cmd.CommandPath(), "backbone")
		args := append(strings.Fields(name), "--help")
		var out, errs bytes.Buffer
		env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(&errs), environ: os.Environ}
		if code := execute(context.Background(), env, newRoot(env), args); code != 0 {
			t.Errorf("%q: exit code %d: %s", args, code, &errs)
		}
		if !strings.Contains(out.String(), "Usage:") || errs.Len() > 0 {
			t.Errorf("%q: help must be on stdout; stderr has %q", args, &errs)
		}
	}
}
