package schedulers

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// airflowEnv names a Python interpreter that has apache-airflow and its providers apache-beam and google: a quarter of an hour of installing,
// so that it is not done here.
const airflowEnv = "BACKBONE_TEST_AIRFLOW_PYTHON"

// Airflow takes the DAG, and its operator builds the command line that was meant.
func TestAirflow(t *testing.T) {
	python := os.Getenv(airflowEnv)
	if python == "" {
		t.Skipf("needs Airflow: set %s to a Python that has it", airflowEnv)
	}
	dag, err := filepath.Abs(filepath.Join("testdata", "airflow.golden.py"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "line.json")
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import datetime, gc, importlib.util, json, sys
import airflow.providers.apache.beam.hooks.beam as hook
from airflow.providers.apache.beam.operators.beam import BeamRunGoPipelineOperator
called = []
hook.run_beam_command = lambda cmd, **_: called.append(cmd)
spec = importlib.util.spec_from_file_location("dag", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
[task] = [o for o in gc.get_objects() if isinstance(o, BeamRunGoPipelineOperator)]
context = {"data_interval_end": datetime.datetime(2026, 11, 22, 2, tzinfo=datetime.timezone.utc), "task": task, "dag": task.dag}
task.render_template_fields(context)
task.execute(context)
[line] = called
json.dump(line, open(sys.argv[2], "w"))
`, dag, out)
	cmd.Env = append(os.Environ(), "AIRFLOW_HOME="+t.TempDir())
	if printed, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var all, got []string
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, arg := range all {
		if len(arg) < 9 || arg[:9] != "--labels=" { // the version of Airflow
			got = append(got, arg)
		}
	}
	want := []string{
		place.Binary, "--runner=direct", "--pipeline=launch", "--file=" + place.Path, "--tick=2026-11-22T02:00:00+00:00", "--wait", "--catch_up", "--worker_binary=" + place.Binary,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
