package schedulers

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"backbone/runners/launch"
)

//go:embed airflow.py.tmpl
var airflowText string

// Airflow returns a DAG of Apache Airflow, in Python, that launches f with BeamRunGoPipelineOperator.
//
// Each run of the DAG is a tick. The operator takes flags only, and so names the command by --pipeline; the runner is that of the launch file.
func Airflow(f *launch.File, o Options) (string, error) {
	if err := errors.Join(scheduled(f), o.Validate()); err != nil {
		return "", err
	}
	t, err := template.New("airflow").Funcs(template.FuncMap{"py": Python, "plain": func(text string) string { return Python(jinja(text)) }}).Parse(airflowText)
	if err != nil {
		return "", fmt.Errorf("template of the DAG: %w", err)
	}
	runner := f.Runner
	if runner == "" {
		runner = launch.RunnerDirect
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Name": f.Name, "Cron": f.Schedule.Expression(), "Zone": f.Schedule.Zone(), "Binary": o.Binary, "Path": o.Path, "Runner": runner,
		"CatchUp": f.CatchUp > 0, "RetryDelay": int(f.Lease.Seconds()),
	})
	return b.String(), err
}

// Python returns a literal of Python for exactly this text, which must be valid UTF-8.
func Python(text string) string {
	return strconv.QuoteToASCII(text) // of what it writes for such a text, Python reads all as Go does
}

// jinja returns a template of Jinja that becomes exactly this text.
func jinja(text string) string {
	return strings.ReplaceAll(text, "{", "{{ '{' }}")
}
