//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/testing/python"
)

// dags has Airflow load a folder of DAGs, and run the task of one of them for a tick, as its workers do. Of the other it takes only the command line. It prints what it has
// seen, as JSON.
const dags = `
import datetime, json, os, sys
import airflow.providers.apache.beam.hooks.beam as hook
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

folder, run, other, tick, out = sys.argv[1:]
bag = DagBag(folder)
seen = {"errors": {os.path.basename(path): text for path, text in bag.import_errors.items()}, "dags": sorted(bag.dags), "lines": {}}
started = hook.run_beam_command

def execute(name, command):
    def noted(cmd, **more):
        seen["lines"][name] = cmd
        return command(cmd=cmd, **more)
    hook.run_beam_command = noted
    [task] = bag.dags[name].tasks
    context = {"data_interval_end": datetime.datetime.fromisoformat(tick), "task": task, "dag": bag.dags[name]}
    task.render_template_fields(context)
    task.execute(context)

if not seen["errors"]:
    execute(other, lambda **_: None)
    execute(run, started)
json.dump(seen, open(out, "w"))
`

// Airflow takes the DAGs that are written for it, and its operator runs the command line that was meant: rows come into the lake, and the record has the
// tick of the run.
func TestAirflow(t *testing.T) {
	slow(t)
	began := time.Now()
	interpreter, err := python.FindAirflow(t.Context())
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Airflow was there after %v", time.Since(began).Round(time.Second))

	path, lake := launchFile(t, events(t, 1000), `schedule: {cron: "0 3 * * *"}`)
	binary := filepath.Join(t.TempDir(), program)
	copyTo(t, binary, "")
	written := start(t, "the DAG", nil, "schedule", "airflow", path, "--binary", binary)
	written.wantExit(0)
	golden, err := os.ReadFile(filepath.Join("..", "..", "runners", "launch", "schedulers", "testdata", "airflow.golden.py"))
	if err != nil {
		t.Fatal(err)
	}
	folder, out := t.TempDir(), filepath.Join(t.TempDir(), "seen.json")
	for name, text := range map[string]string{"events.py": written.read(written.stdout), "nightly.py": string(golden)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const tick = "2026-11-22T03:00:00+00:00"
	cmd := exec.CommandContext(t.Context(), interpreter, "-c", dags, folder, "events", "nightly-catalog", tick, out)
	cmd.Env = append(os.Environ(), "AIRFLOW_HOME="+t.TempDir(), "AIRFLOW__CORE__LOAD_EXAMPLES=False")
	if printed, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, tail(string(printed), 60))
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var seen struct {
		Errors map[string]string
		Dags   []string
		Lines  map[string][]string
	}
	if err := json.Unmarshal(text, &seen); err != nil {
		t.Fatal(err)
	}
	for name, line := range seen.Lines {
		seen.Lines[name] = slices.DeleteFunc(line, func(arg string) bool { return strings.HasPrefix(arg, "--labels=") }) // the version of Airflow
	}
	want := seen
	want.Errors, want.Dags = map[string]string{}, []string{"events", "nightly-catalog"}
	want.Lines = map[string][]string{
		"events": {binary, "--runner=direct", "--pipeline=launch", "--file=" + path, "--tick=" + tick, "--wait", "--worker_binary=" + binary},
		"nightly-catalog": { // as the golden file has it
			"/usr/local/bin/backbone", "--runner=direct", "--pipeline=launch", `--file=/etc/backbone/all of O'Brien's {{ x }} "shop".yaml`,
			"--tick=" + tick, "--wait", "--catch_up", "--worker_binary=/usr/local/bin/backbone",
		},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("what Airflow has seen (-want +got):\n%s", diff)
	}
	runs := history(t, path)
	if len(runs) == 0 || runs[0].State != "succeeded" || len(runs[0].Attempts) != 1 || runs[0].Tick.Format(time.RFC3339) != tickOfLaunch {
		t.Fatalf("the history is %+v, want that it begins with a success at %s", runs, tickOfLaunch)
	}
	var counted summary
	if err := json.Unmarshal(runs[0].Result.Summary, &counted); err != nil || counted.Committed == 0 {
		t.Errorf("it has counted %+v, error %v", counted, err)
	}
	runCommand(t, "verify", "verify", "--lake", lake)
}
