package launch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const full = `# Users and items, each night.
name: nightly-catalog
pipeline: catalog
runner: flink
options:
  lake: gs://shop/lake
  items: ["gs://shop/{{ .Date }}/items.jsonl", "gs://shop/a,b.jsonl"]
  as_of: "{{ .AsOf }}"
  retain: 7
schedule:
  cron: 0 3 * * 1-5
  time_zone: Europe/Berlin
retries:
  attempts: 3
  backoff: 30s
  max_backoff: 10m
timeout: 6h
grace: 2m
lease: 90s
catch_up: 7
`

func TestParse(t *testing.T) {
	f, err := Parse("nightly.yaml", []byte(full), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &File{
		Path: "nightly.yaml", Name: "nightly-catalog", Pipeline: "catalog", Runner: RunnerFlink,
		Options: []Option{
			{Name: "lake", Values: []string{"gs://shop/lake"}, Line: 6},
			{Name: "items", Values: []string{"gs://shop/{{ .Date }}/items.jsonl", "gs://shop/a,b.jsonl"}, List: true, Line: 7},
			{Name: "as_of", Values: []string{"{{ .AsOf }}"}, Line: 8},
			{Name: "retain", Values: []string{"7"}, Line: 9},
		},
		Attempts: 3, Backoff: 30 * time.Second, MaxBackoff: 10 * time.Minute, Timeout: 6 * time.Hour, Grace: 2 * time.Minute, Lease: 90 * time.Second, CatchUp: 7,
	}
	if diff := cmp.Diff(want, f, cmpopts.IgnoreFields(File{}, "Schedule"), cmpopts.IgnoreUnexported(Option{})); diff != "" {
		t.Error(diff)
	}
	if f.Schedule.Expression() != "0 3 * * 1-5" || f.Schedule.Zone() != "Europe/Berlin" || f.Lake() != "gs://shop/lake" || !f.Ordered() {
		t.Errorf("schedule %q in %s, lake %q, ordered %v", f.Schedule.Expression(), f.Schedule.Zone(), f.Lake(), f.Ordered())
	}
	// 02:00 in UTC is 03:00 in Berlin. A list's value with a comma stays one.
	args, err := f.Args(time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC), nil)
	if want := []string{
		"catalog", "--runner=flink", "--job_name=backbone-nightly-catalog-20261123t020000z-68a0a2b3", "--follow", "--lake=gs://shop/lake", "--items=gs://shop/2026-11-23/items.jsonl", `--items="gs://shop/a,b.jsonl"`,
		"--as_of=2026-11-23T02:00:00Z", "--retain=7",
	}; err != nil || !cmp.Equal(args, want) {
		t.Errorf("arguments %q, error %v, want %q", args, err, want)
	}

	f, err = Parse("w.yaml", []byte(`{name: w, pipeline: windows, options: {lake: l, aggregate: trending, to: "{{ date .Time }}T00:00:00Z", from: "{{ date (addDays -1 .Time) }}T00:00:00Z"}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	args, err = f.Args(someTick, nil)
	if want := []string{"windows", "--rebuild", "--lake=l", "--aggregate=trending", "--", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"}; err != nil || !cmp.Equal(args, want) {
		t.Errorf("arguments %q, error %v, want %q", args, err, want)
	}
}

// All mistakes are said at once, with their lines and fields.
func TestMistakes(t *testing.T) {
	const good = "name: n\npipeline: interactions\noptions: {lake: l}\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"Empty", "# nothing\n", []string{"f:1: the file is empty; it needs name, pipeline and options"}},
		{"NoYAML", "name: [", []string{"f:1: sequence end token ']' not found"}},
		{"List", "- name\n", []string{"f:1: the file: it must be a mapping of catch_up, grace, ", "f:1: name: it is missing", "f:1: pipeline: it is missing", "f:1: options: it is missing"}},
		{"Missing", "grace: 1m\n", []string{"f:1: name: it is missing", "f:1: pipeline: it is missing", "f:1: options: it is missing"}},
		{"Many", "name: N\npipeline: stream\nrunner: spark\noptions:\n  lake: l\ntimeout: soon\nretries:\n  attempts: 0\n  times: 3\nlease: 1ms\n", []string{
			`f:1: name: "N" must be of at most 52 lower-case letters`, `f:2: pipeline: "stream" must be one of catalog, interactions, windows`,
			`f:3: runner: "spark" must be one of direct, flink, dataflow`, `f:6: timeout: "soon" must be a duration of at least 1s`,
			`f:8: retries.attempts: "0" must be a whole number from 1 to 100`, `f:9: retries.times: unknown key; there is attempts, backoff, max_backoff`,
			`f:10: lease: "1ms" must be a duration of at least 1s`,
		}},
		{"Schedule", good + "schedule:\n  cron: 0 3 * *\n  time_zone: Berlin\n", []string{`f:5: schedule.cron: "0 3 * *" must be five fields`, `f:6: schedule.time_zone: "Berlin" must be a name of the IANA database`}},
		{"NoCron", good + "schedule: {time_zone: UTC}\n", []string{"f:4: schedule.cron: it is missing"}},
		{"CatchUp", good + "catch_up: 3\n", []string{"f:4: catch_up: without a schedule, no tick is missed"}},
		{"Backoff", good + "retries: {backoff: 2h, max_backoff: 1h}\n", []string{"f:4: retries.max_backoff: it is 1h0m0s, less than backoff"}},
		{"Options", "name: n\npipeline: interactions\noptions:\n  lake: lake-{{ .Date }}\n  input:\n  mapping: {{ .Date }}\n", []string{"f:6: "}},
		{"OptionValues", "name: n\npipeline: interactions\noptions:\n  lake: lake-{{ .Date }}\n  input:\n  mapping: {a: b}\n  window: []\n  geo: gs://me:secret@bucket/x\n  summary: s\n", []string{
			"f:4: options.lake: it must be the same at each tick", "f:5: options.input: it has no value", `f:6: options.mapping: it takes one value; a value that begins with a macro needs quotes: "{{ .Date }}"`,
			"f:7: options.window: the list is empty", "f:8: options.geo: credentials do not belong into a launch file", "f:9: options.summary: leave it out: the record of a run has it",
		}},
		{"Macros", "name: n\npipeline: interactions\noptions:\n  lake: l\n  input: e-{{ .Day }}\n  mapping: \"{{ addDays 1 }}\"\n  geo: '{{ \"x\\n\" }}'\n", []string{
			"f:5: options.input: macro: ", "f:6: options.mapping: macro: ", "f:7: options.geo: line breaks and other control characters are not allowed",
		}},
		{"Endless", "name: n\npipeline: interactions\noptions: {lake: l, input: \"{{ range 100000 }}xxxxxxxxxx{{ end }}\"}\n", []string{"f:3: options.input: macro: the value is longer than 65536 bytes"}},
		{"NoLake", "name: n\npipeline: windows\noptions: {aggregate: trending}\nrunner: flink\n", []string{
			"f:3: options.lake: it is missing", "f:3: options.from: it is missing", "f:3: options.to: it is missing", `f:4: runner: "flink" does not run windows`,
		}},
		{"Jobs", "name: n\npipeline: catalog\nrunner: dataflow\noptions:\n  lake: gs://shop/lake\n  job_name: mine\n  follow: false\n  dry_run: true\n", []string{
			"f:6: options.job_name: leave it out: a job of files is named after the launch", "f:7: options.follow: leave it out", "f:8: options.dry_run: leave it out: give it to the command",
		}},
		{"Twice", good + "name: m\n", []string{`f:4: mapping key "name" already defined`}},
		{"Checked", "name: n\npipeline: interactions\noptions: {lake: l, flush: 3s}\n", []string{"f:3: options.flush: no such flag"}},
		{"TwoDocuments", good + "---\n" + good, []string{"f:5: a launch file has one document"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("f", []byte(test.text), func(_ string, o Option) error {
				if o.Name == "flush" {
					return errors.New("no such flag")
				}
				return nil
			})
			if err == nil {
				t.Fatal("it is taken")
			}
			got := strings.Split(err.Error(), "\n")
			for i, line := range got {
				if i >= len(test.want) || !strings.HasPrefix(line, test.want[i]) {
					t.Errorf("errors\n%s\nwant those that begin with\n%s", err, strings.Join(test.want, "\n"))
					break
				}
			}
			if len(got) < len(test.want) {
				t.Errorf("errors\n%s\nwant %d", err, len(test.want))
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v tells a secret", err)
			}
		})
	}
}

func TestMacros(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.Date(2026, 10, 25, 23, 30, 0, 0, time.UTC) // 00:30 of the next day in Berlin, after the clocks were set back
	for _, test := range []struct{ text, first, later string }{
		{"plain", "plain", "plain"},
		{"{{ .Date }}", "2026-10-26", "2026-10-26"},
		{"{{ .AsOf }}", "2026-10-25T23:30:00Z", "2026-10-25T23:30:00Z"},
		{"{{ .Time }}", "2026-10-26T00:30:00+01:00", "2026-10-26T00:30:00+01:00"},
		{"{{ addDays -1 .Date }}", "2026-10-25T00:00:00+02:00", "2026-10-25T00:00:00+02:00"},
		{"{{ date (addDays -1 .Time) }}", "2026-10-25", "2026-10-25"},
		{"{{ utc (startOfDay .Time) }}", "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z"},
		{"{{ utc (startOfDay (addDays -1 .Time)) }}", "2026-10-24T22:00:00Z", "2026-10-24T22:00:00Z"}, // a day of 25 hours
		{`{{ .Time | startOfMonth | format "2006/01" }}`, "2026/10", "2026/10"},
		{`{{ .Time | startOfHour | add "-30m" | format "15:04" }}`, "23:30", "23:30"},
		{`{{ .Time | addMonths 1 | date }}`, "2026-11-26", "2026-11-26"},
		{"{{ .Name }}", "n", "n"},
		{"{{ .Previous | date }}", "", "2026-10-24"},
		{"{{ .PreviousOr (addDays -7 .Time) | date }}", "2026-10-19", "2026-10-24"},
		{"{{ if .HasPrevious }}delta{{ else }}full{{ end }}", "full", "delta"},
	} {
		for i, want := range []string{test.first, test.later} {
			previous := time.Time{}
			if i == 1 {
				previous = time.Date(2026, 10, 24, 1, 0, 0, 0, time.UTC)
			}
			data := newTickData("n", tick, berlin, func() (time.Time, error) { return previous, nil })
			got, err := data.fill(test.text)
			if want == "" {
				if err == nil || !strings.Contains(err.Error(), "there is no success before this tick") {
					t.Errorf("%s is %q, error %v, want that there is no previous one", test.text, got, err)
				}
				continue
			}
			if err != nil || got != want {
				t.Errorf("%s is %q, error %v, want %q", test.text, got, err, want)
			}
		}
	}
}

// A job of files has the name of its tick, and who launches it waits for the end of one that runs. A stream is the same at each tick.
func TestJobArgs(t *testing.T) {
	const files, stream = "input: gs://shop/*.jsonl", "input: pubsub://shop/events"
	for _, test := range []struct {
		runner string
		more   []string
		want   []string
	}{
		{"direct", []string{files}, nil},
		{"flink", []string{files}, []string{"--job_name=backbone-n-20261122t030000z-68a0a2b3", "--follow"}},
		{"dataflow", []string{files}, []string{"--job_name=backbone-n-20261122t030000z-68a0a2b3", "--follow"}},
		{"dataflow", []string{files, "detach: true"}, []string{"--job_name=backbone-n-20261122t030000z-68a0a2b3", "--detach=true"}},
		{"dataflow", []string{stream}, nil},
		{"dataflow", []string{stream, "job_name: mine"}, []string{"--job_name=mine"}},
		{"dataflow", []string{"input: [\"pubsub://shop/{{ .Name }}\"]", "detach: true"}, []string{"--detach=true"}},
	} {
		text := fmt.Sprintf("name: n\npipeline: interactions\nrunner: %s\noptions:\n  lake: gs://shop/lake\n  %s\n", test.runner, strings.Join(test.more, "\n  "))
		f, err := Parse("f", []byte(text), nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		args, err := f.Args(someTick, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var got []string
		for _, arg := range args {
			if strings.HasPrefix(arg, "--job_name") || strings.HasPrefix(arg, "--follow") || strings.HasPrefix(arg, "--detach") {
				got = append(got, arg)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
}
