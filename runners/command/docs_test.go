package command

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	launches "backbone/runners/launch"
	"backbone/schemas"
	"backbone/testing/python"
)

// page reads a page of the documentation.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runLine runs a command line of the real tree and returns what it prints.
func runLine(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(&errs), environ: func() []string { return nil }}
	code = execute(t.Context(), env, newRoot(env), args)
	return code, out.String(), errs.String()
}

// The example of the page about mappings is right: what the page says becomes of it does.
func TestMappingExampleOfDocs(t *testing.T) {
	text := page(t, "docs/mapping.md")
	t.Chdir(t.TempDir())
	files := regexp.MustCompile("(?s)<!-- (\\S+) -->\n```\\w+\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(files) != 5 {
		t.Fatalf("there are %d files on the page, want 5", len(files))
	}
	for _, file := range files {
		if err := os.WriteFile(file[1], []byte(file[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := runLine(t, "mapping", "check", "shop.yaml", "events.jsonl")
	if code != exitDone || !regexp.MustCompile(`(?m)shelf.*extra`).MatchString(out) || !regexp.MustCompile(`(?m)debug.*ignored`).MatchString(out) {
		t.Errorf("mapping check ends with %d:\n%s%s", code, out, errs)
	}
	code, out, errs = runLine(t, "mapping", "check", "catalog.yaml", "catalog.jsonl", "tags.csv")
	for _, want := range []string{
		`(?m)^title +Mug \(2024\) +published_time +2024-01-01T00:00:00Z$`, `(?m)^price +9,75 € +price +9\.75$`, `(?m)^\(amount\) +currency +EUR$`, `(?m)^shelf +kitchen/mugs +categories +kitchen > mugs$`,
		`(?m)^props\[\]\.values.* +attributes +color: blue, material: stoneware, glaze$`, `(?m)^checked +2026-03-01 +extra +"2026-03-01"$`, `(?m)^op +update +is_deleted +false$`,
		`2 records, 2 rows, 0 refused\n(?s:.*)mapping catalog, join "tags\*\.csv" \(csv\) on tags\.csv: 2 records, 2 rows, 0 refused`,
	} {
		if code != exitDone || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("mapping check ends with %d and lacks %s:\n%s%s", code, want, out, errs)
		}
	}
	if code, _, errs := runLine(t, "interactions", "--input", "events.jsonl", "--mapping", "shop.yaml", "--lake", "lake"); code != exitDone {
		t.Fatalf("interactions ends with %d:\n%s", code, errs)
	}
	t.Run("Rows", func(t *testing.T) { // skipped where there is no python3
		got := python.Run(t, `import duckdb
for row in duckdb.sql("SELECT event_type, feedback_kind, item_id, len(items), revenue, context.device_class FROM 'lake/interactions/**/*.parquet' ORDER BY event_time").fetchall():
    print(row)`)
		want := `('view', 'implicit', 'mug-3', None, None, 'mobile')
('add_to_cart', 'implicit', 'mug-3', None, None, None)
('purchase', 'implicit', None, 2, 24.5, None)
('wish', 'implicit', 'pot-2', None, None, None)
`
		if got != want {
			t.Errorf("rows are\n%swant\n%s", got, want)
		}
	})
}

// Every query and every program with PyArrow that the documentation shows runs on a lake.
func TestQueriesOfDocs(t *testing.T) {
	python.Path(t) // skips where there is none, before all the work
	var queries, programs []string
	fence := regexp.MustCompile("(?ms)^```(sql|python)\n(.*?)^```")
	for _, name := range []string{"README.md", "docs/lake.md", "docs/operations.md", "docs/mapping.md", "docs/windows.md"} {
		for _, block := range fence.FindAllStringSubmatch(page(t, name), -1) {
			switch {
			case block[1] == "sql":
				queries = append(queries, strings.Split(strings.TrimSpace(block[2]), ";\n\n")...)
			case strings.Contains(block[2], "pyarrow"):
				programs = append(programs, block[2])
			}
		}
	}
	if len(queries) < 6 || len(programs) == 0 {
		t.Fatalf("%d queries and %d programs are found, there are more", len(queries), len(programs))
	}
	// Those about users and items are one session: some make what others use.
	var session []string
	for _, block := range fence.FindAllStringSubmatch(page(t, "docs/catalog.md"), -1) {
		session = append(session, strings.Split(strings.Trim(block[2], "; \n"), ";\n")...)
	}
	if len(session) < 6 {
		t.Fatalf("%d statements about users and items are found, there are more", len(session))
	}
	dir := filepath.Join(t.TempDir(), "demo")
	if printed, err := demoCommand(t.Context(), t, io.Discard, "--dir", dir, "--events", "3000"); err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	t.Chdir(dir)
	addContexts(t)
	openWindows(t)
	for _, query := range queries {
		rows := strings.TrimSpace(python.Run(t, `import duckdb, sys; print(duckdb.sql("SELECT count(*) FROM (" + sys.argv[1] + "\n)").fetchall()[0][0])`, strings.TrimRight(query, "; \n")))
		if rows == "0" && !strings.Contains(query, "HAVING count(*) > 1") {
			t.Errorf("this finds nothing:\n%s", query)
		}
	}
	counts := python.Run(t, `
import duckdb, sys
connection = duckdb.connect()
for statement in sys.argv[1:]:
    if statement.lstrip().startswith("SELECT"):
        print(connection.execute("SELECT count(*) FROM (" + statement + ")").fetchone()[0])
    else:
        connection.execute(statement)
`, session...)
	for i, rows := range strings.Fields(counts) {
		if rows == "0" {
			t.Errorf("query %d about users and items finds nothing:\n%s", i+1, strings.Join(session, ";\n"))
		}
	}
	for _, program := range programs {
		if got := strings.TrimSpace(python.Run(t, program)); got == "" || got == "0" {
			t.Errorf("this prints %q:\n%s", got, program)
		}
	}
}

// addContexts adds an interaction to the lake that is joined to a context, and one whose context comes with the next run.
func addContexts(t *testing.T) {
	t.Helper()
	view := func(id, session string) string {
		return fmt.Sprintf(`{"event_id":%q,"event_time":"2026-03-05T10:00:00Z","user_id":"u","session_id":%q,"event_type":"view","item_id":"i"}`, id, session)
	}
	for i, run := range []struct{ event, session string }{{view("a", "a") + "\n" + view("b", "b"), "a"}, {view("c", "c"), "b"}} {
		for name, text := range map[string]string{
			"events.jsonl": run.event, "contexts.jsonl": fmt.Sprintf(`{"event_time":"2026-03-05T09:00:00Z","session_id":%q,"attributes":{"weather":"sun"}}`, run.session),
		} {
			if err := os.WriteFile(fmt.Sprint(i, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args := []string{"interactions", "--input", fmt.Sprint(i, "events.jsonl"), "--context", fmt.Sprint(i, "contexts.jsonl"), "--lake", "lake", "--spill_dir", t.TempDir()}
		if code, _, stderr := runLine(t, args...); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
}

// openWindows has the last hour of what is trending as if it were not settled.
func openWindows(t *testing.T) {
	t.Helper()
	settled, err := filepath.Glob(filepath.Join("lake", "trending", "*", "*-1h.parquet"))
	if err != nil || len(settled) == 0 {
		t.Fatalf("there are no results: %v", err)
	}
	last := settled[len(settled)-1]
	live := strings.Replace(strings.Replace(last, "trending", schemas.LiveOf("trending"), 1), ".parquet", "-r0000000003.parquet", 1)
	if err := os.MkdirAll(filepath.Dir(live), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(last, live); err != nil {
		t.Fatal(err)
	}
}

// shellWord is a word of a command line, with its quotes.
var shellWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)

// commandLines returns the arguments of each call of backbone in a piece of shell.
func commandLines(shell string) [][]string {
	var calls [][]string
lines:
	for line := range strings.Lines(strings.ReplaceAll(shell, "\\\n", " ")) {
		var args []string
		called := false
		for _, word := range shellWord.FindAllString(line, -1) {
			if strings.HasPrefix(word, "#") || called && (word == ">" || word == "|" || word == "&") {
				break
			}
			word = strings.TrimSuffix(strings.NewReplacer(`'`, "", `"`, "").Replace(word), ")")
			switch {
			case called:
				args = append(args, word)
			case filepath.Base(word) == "backbone" || strings.HasSuffix(word, "(backbone"):
				called = true
			case !strings.Contains(word, "=") && word != "source": // not VARIABLE=value
				continue lines // another program
			}
		}
		if called {
			calls = append(calls, args)
		}
	}
	return calls
}

// containerLines returns the arguments of each container of ours in files of Docker and Kubernetes, by the names of the files.
func containerLines(t *testing.T) map[string][][]string {
	t.Helper()
	ours := map[string]bool{}
	for _, cmd := range Tree().Commands() {
		ours[cmd.Name()] = true
	}
	lines := map[string][][]string{}
	paths, err := filepath.Glob(filepath.Join("..", "flink", "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var look func(value any)
		look = func(value any) {
			switch value := value.(type) {
			case map[string]any:
				for key, part := range value {
					list, _ := part.([]any)
					if len(list) == 0 || key != "args" && key != "command" || !ours[fmt.Sprint(list[0])] {
						look(part)
						continue
					}
					var args []string
					for _, arg := range list {
						args = append(args, fmt.Sprint(arg))
					}
					lines[filepath.Base(path)] = append(lines[filepath.Base(path)], args)
				}
			case []any:
				for _, part := range value {
					look(part)
				}
			}
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var document any
			if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			look(document)
		}
	}
	for name, want := range map[string]int{"compose.yaml": 2, "cluster.yaml": 1, "interactions.yaml": 1} {
		if len(lines[name]) != want {
			t.Errorf("%s has %d command lines, want %d", name, len(lines[name]), want)
		}
	}
	return lines
}

// Every command line in the documentation, in files of Docker and Kubernetes and in the help of the commands, names a command that there is with flags that it
// has.
func TestCommandLinesOfDocs(t *testing.T) {
	// Beam's flags are those of the process: another test's job must not look for the job server of an example.
	flag.VisitAll(func(f *flag.Flag) {
		if before := f.Value.String(); !strings.HasPrefix(f.Name, "test.") {
			t.Cleanup(func() {
				if f.Value.String() == before {
					return
				}
				if err := f.Value.Set(before); err != nil {
					t.Error(err)
				}
			})
		}
	})
	lines := containerLines(t)
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	for _, path := range append(pages, filepath.Join("..", "..", "README.md"), filepath.Join("..", "..", "CONTRIBUTING.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			lines[filepath.Base(path)] = append(lines[filepath.Base(path)], commandLines(block[1])...)
		}
	}
	for _, cmd := range commands(Tree()) {
		lines[cmd.CommandPath()] = commandLines(cmd.Example)
	}
	total := 0
	for where, calls := range lines {
		for _, args := range calls {
			total++
			root := Tree()
			text := strings.Join(args, " ")
			args, err := pipelineAsCommand(root, args)
			if err != nil {
				t.Errorf("%s: backbone %s: %v", where, text, err)
				continue
			}
			cmd, rest, err := root.Traverse(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil && cmd.Args != nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: backbone %s: %v", where, text, err)
			}
		}
	}
	if total < 40 {
		t.Errorf("%d command lines are found, there are more", total)
	}
}

// The launch files that the documentation shows are right, down to the flags.
func TestLaunchFilesOfDocs(t *testing.T) {
	fence := regexp.MustCompile("(?ms)^ *```yaml\n(.*?)^ *```")
	found := fence.FindAllStringSubmatch(page(t, "docs/scheduling.md"), -1)
	wanted := [][]string{
		{"interactions", "--input=/data/exports/2026-11-21/*.jsonl.gz", "--lake=/data/lake"},
		{
			"interactions", "--runner=dataflow", "--job_name=backbone-daily-events-20261122t030000z-d36ff612", "--follow",
			"--input=gs://my-shop/exports/2026-11-21/*.jsonl.gz", "--lake=gs://my-shop/lake", "--project=my-shop", "--region=europe-west1",
			"--staging_location=gs://my-shop/staging", "--max_num_workers=8",
		},
	}
	if len(found) != len(wanted) {
		t.Fatalf("there are %d, want %d", len(found), len(wanted))
	}
	for i, block := range found {
		f, err := launches.Parse("docs/scheduling.md", []byte(block[1]), checkOption)
		if err != nil {
			t.Error(err)
			continue
		}
		args, err := f.Args(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), nil)
		if err != nil || !cmp.Equal(args, wanted[i]) {
			t.Errorf("arguments %q, error %v, want %q", args, err, wanted[i])
		}
	}
}
