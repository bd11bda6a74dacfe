package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"backbone/transforms/lake/audit"
)

// deadLetter is a row of a lake that is small enough to be written here.
type deadLetter struct {
	ID       string    `parquet:"dead_letter_id"`
	Received time.Time `parquet:"received_time,timestamp(microsecond)"`
	Type     string    `parquet:"failure_type"`
	Code     string    `parquet:"error_code"`
	Path     string    `parquet:"field_path,optional"`
	Source   string    `parquet:"source,optional"`
}

const deadFile = "dead_letters/dt=2026-11-22/part-00000-of-00001-000000.parquet"

// smallLake writes a lake of dead letters, and returns its folder.
func smallLake(t *testing.T, rows ...deadLetter) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, filepath.FromSlash(deadFile))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	layout := `{"table":"dead_letters","window":"day","shards":1}`
	if err := os.WriteFile(filepath.Join(dir, "dead_letters", "_table.json"), []byte(layout), 0o600); err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	w := parquet.NewGenericWriter[deadLetter](&body)
	for key, value := range map[string]string{
		"backbone.table": "dead_letters", "backbone.run_id": "r", "backbone.writer_id": "w", "backbone.rows": "2", "backbone.schema_version": "1",
	} {
		w.SetKeyValueMetadata(key, value)
	}
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func callVerify(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &environment{
		stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(&errs), environ: func() []string { return nil },
	}
	code = execute(t.Context(), env, assemble(env, newVerifyCommand(env)), append([]string{"verify"}, args...))
	return code, out.String(), errs.String()
}

func TestVerify(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	good := []deadLetter{{"a", noon, "validate", "missing", "user_id", "in.jsonl"}, {"b", noon, "decode", "syntax", "", "in.jsonl"}}
	twice := []deadLetter{{"a", noon, "validate", "missing", "user_id", "in.jsonl"}, {"a", noon, "decode", "syntax", "", "in.jsonl"}}
	tests := []struct {
		name   string
		rows   []deadLetter
		code   int
		stdout []string
		stderr string
		wrong  int64
	}{
		{"Good", good, exitDone, []string{
			"dead_letters  1           0         1      ", "2026-11-22T12:00:00Z", "dead_letters by reason  rows\nmissing                 1\nsyntax                  1",
			"dead_letters by field  rows\nuser_id                1", "nothing is wrong",
		}, "", 0},
		{"Twice", twice, exitFailed, []string{deadFile + ": duplicate_id: 1 rows, the first is row 1"}, "1 thing is wrong in lake", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lake := smallLake(t, test.rows...)
			summary := filepath.Join(t.TempDir(), "verify.json")
			code, stdout, stderr := callVerify(t, "--lake", lake, "--summary", summary)
			if code != test.code || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d; stderr:\n%s", code, test.code, stderr)
			}
			for _, want := range test.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("stdout is\n%s\nwant in it\n%s", stdout, want)
				}
			}
			text, err := os.ReadFile(summary)
			if err != nil {
				t.Fatal(err)
			}
			var report audit.Report
			if err := json.Unmarshal(text, &report); err != nil {
				t.Fatal(err)
			}
			if report.Lake != lake || report.Wrong != test.wrong || len(report.Findings) != int(test.wrong) || report.Tables[0].Rows != 2 {
				t.Errorf("the summary is %s", text)
			}
		})
	}
}
