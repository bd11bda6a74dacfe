package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"backbone/testing/generator"
	"backbone/testing/python"
)

// demoCommand runs the command with its output going to out as well, and returns what it has printed.
func demoCommand(ctx context.Context, t *testing.T, out io.Writer, args ...string) (string, error) {
	t.Helper()
	var printed bytes.Buffer
	env := &environment{
		stdin: strings.NewReader(""), stdout: io.MultiWriter(&printed, out), stderr: newScreen(io.Discard),
		log: slog.New(slog.DiscardHandler), logFormat: "text", logLevel: "error",
	}
	cmd := newDemoCommand(env)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return printed.String(), err
}

// The queries that the demo ends with work, and a second demo in the same folder ends as the first.
func TestDemoEndsWithAQuery(t *testing.T) {
	t.Setenv("PUBSUB_EMULATOR_HOST", "nobody:1")
	dir := filepath.Join(t.TempDir(), "a 'shop'")
	for _, which := range []string{"first", "second"} {
		printed, err := demoCommand(t.Context(), t, io.Discard, "--dir", dir, "--events", "3000")
		if err != nil {
			t.Fatalf("%s demo: %v\n%s", which, err, printed)
		}
		if got := os.Getenv("PUBSUB_EMULATOR_HOST"); got != "nobody:1" {
			t.Errorf("PUBSUB_EMULATOR_HOST is %q after the %s demo", got, which)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("the %s demo has left %q behind, %v", which, left, err)
		}
		queries := regexp.MustCompile(`(?m)^   duckdb -c "(.*)"$`).FindAllStringSubmatch(printed, -1)
		if len(queries) != 2 {
			t.Fatalf("there are not 2 queries in\n%s", printed)
		}
		summary, err := generator.ReadSummary(filepath.Join(dir, "shop"))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(which, func(t *testing.T) { // skipped where there is no python3
			sum := python.Run(t, `import duckdb, sys; print(sum(n for _, n, _ in duckdb.sql(sys.argv[1]).fetchall()))`, queries[0][1])
			if got := strings.TrimSpace(sum); got != strconv.Itoa(summary.Rows) {
				t.Errorf("the query counts %s events, want %d", got, summary.Rows)
			}
			trends := python.Run(t, `import duckdb, sys; print(*duckdb.sql(sys.argv[1]).fetchall(), sep="\n")`, queries[1][1])
			if !regexp.MustCompile(`(?m)^\('[A-Z]{2}', 1, '.+', [0-9.e-]+\)$`).MatchString(trends) {
				t.Errorf("what is trending in a country is\n%s", trends)
			}
		})
	}
}

// Wherever it is stopped, the demo ends, says so, and can be run again.
func TestDemoStops(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	for _, at := range []string{"1. ", "2. ", "3. ", "4. ", "5. ", "6. "} {
		ctx, stop := context.WithCancel(t.Context())
		printed, err := demoCommand(ctx, t, &onText{at, stop}, "--dir", dir, "--events", "2000")
		stop()
		if err == nil || !strings.HasPrefix(err.Error(), "stopped before the end") || strings.Contains(printed, "Try:") {
			t.Errorf("stopped at %q: %v\n%s", at, err, printed)
		}
	}
	if printed, err := demoCommand(t.Context(), t, io.Discard, "--dir", dir, "--events", "2000", "--keep=false"); err != nil {
		t.Fatalf("after all that: %v\n%s", err, printed)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 { // the folder was there before
		t.Errorf("%v is left in the folder, %v", there, err)
	}
}

func TestDemoFindsWhatIsWrong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	// Once all is loaded, somebody takes a file away.
	take := &onText{"4. ", func() {
		files, err := filepath.Glob(filepath.Join(dir, "lake", "interactions", "*", "*", "*.parquet"))
		if err != nil || len(files) == 0 {
			t.Errorf("there are no files in the lake: %v", err)
			return
		}
		if err := os.Remove(files[len(files)-1]); err != nil {
			t.Error(err)
		}
	}}
	printed, err := demoCommand(t.Context(), t, take, "--dir", dir, "--events", "2000")
	var usage *UsageError
	if err == nil || errors.As(err, &usage) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a file is missing, and the demo ends with %v\n%s", err, printed)
	}
}

// onText does something when a text is printed.
type onText struct {
	text string
	do   func()
}

func (o *onText) Write(p []byte) (int, error) {
	if strings.Contains(string(p), o.text) {
		o.do()
	}
	return len(p), nil
}

func TestDemoLeavesOtherFoldersAlone(t *testing.T) {
	for _, name := range []string{"mine.txt", "lake/mine.txt"} {
		dir := t.TempDir()
		mine := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(mine), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := demoCommand(t.Context(), t, io.Discard, "--dir", dir)
		var usage *UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%s: %v, want wrong usage", name, err)
		}
		if _, err := os.Stat(mine); err != nil {
			t.Errorf("%s has gone: %v", name, err)
		}
	}
}
