package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas/mappings"
	"backbone/transforms/files"
	"backbone/transforms/source"
)

// tree makes files of one record each, and returns their folder.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var names = []string{
	"a.jsonl", "b.jsonl", "b.json", "_SUCCESS", ".hidden.jsonl", "x/a.jsonl", "x/y/a.jsonl", "x/_temporary/a.jsonl", "dt=2026-03-01/c[1].jsonl", "x/b.jsonl.gz",
}

// globs are patterns and what they match of names.
var globs = []struct {
	name  string
	globs []string
	want  []string
}{
	{"one file", []string{"a.jsonl"}, []string{"a.jsonl"}},
	{"star stays in its folder", []string{"*.jsonl"}, []string{"a.jsonl", "b.jsonl"}},
	{"question mark", []string{"?.jsonl"}, []string{"a.jsonl", "b.jsonl"}},
	{"class", []string{"[b-c].jsonl"}, []string{"b.jsonl"}},
	{"alternatives", []string{"b.{json,jsonl}"}, []string{"b.json", "b.jsonl"}},
	{"two stars", []string{"**/*.jsonl"}, []string{"a.jsonl", "b.jsonl", "dt=2026-03-01/c[1].jsonl", "x/a.jsonl", "x/y/a.jsonl"}},
	{"two stars below a folder", []string{"x/**"}, []string{"x/a.jsonl", "x/b.jsonl.gz", "x/y/a.jsonl"}},
	{"star for a folder", []string{"*/a.jsonl"}, []string{"x/a.jsonl"}},
	{"several, once each", []string{"x/*.jsonl", "b.*", "**/b.json*"}, []string{"b.json", "b.jsonl", "x/a.jsonl", "x/b.jsonl.gz"}},
	{"hidden ones if asked for", []string{".*.jsonl", "x/_*/a.jsonl"}, []string{".hidden.jsonl", "x/_temporary/a.jsonl"}},
	{"a name that looks like a glob", []string{"dt=2026-03-01/c[1].jsonl"}, []string{"dt=2026-03-01/c[1].jsonl"}},
}

func TestPlanGlobs(t *testing.T) {
	dir := tree(t, names...)
	for _, root := range []string{dir, "file://" + dir, "file://localhost" + dir} {
		for _, tc := range globs {
			t.Run(tc.name, func(t *testing.T) {
				var full []string
				for _, g := range tc.globs {
					full = append(full, root+"/"+g)
				}
				tasks, err := files.Plan(context.Background(), full, files.Defaults())
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, task := range tasks {
					got = append(got, strings.TrimPrefix(task.URL, dir+"/"))
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A relative path is the same file as the absolute one: what is read twice under two names has the same source.
func TestPlanRelative(t *testing.T) {
	dir := tree(t, "x/a.jsonl")
	t.Chdir(dir)
	for _, glob := range []string{"x/a.jsonl", "./x/*.jsonl", "x/../x/a.jsonl", "**/a.jsonl"} {
		tasks, err := files.Plan(context.Background(), []string{glob, filepath.Join(dir, "x/a.jsonl")}, files.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		if len(tasks) != 1 || !strings.HasSuffix(tasks[0].URL, "/x/a.jsonl") || !filepath.IsAbs(tasks[0].URL) {
			t.Errorf("Plan(%q) is %v", glob, tasks)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	dir := tree(t, "a.jsonl", "b.txt", "x/a.jsonl")
	for _, tc := range []struct {
		name  string
		globs []string
		want  string
	}{
		{"nothing", nil, "no input files"},
		{"no match", []string{dir + "/*.csv"}, `/*.csv": no file matches`},
		{"no such file", []string{dir + "/no.csv"}, `/no.csv": no file matches`},
		{"one of two", []string{dir + "/a.jsonl", dir + "/no.csv"}, `/no.csv": no file matches`},
		{"a folder", []string{dir + "/x"}, `/x/*"`},
		{"open bracket", []string{dir + "/[a.jsonl"}, "not well-formed"},
		{"unknown scheme", []string{"hdfs://a/b.jsonl"}, `unknown scheme "hdfs"`},
		{"unknown extension", []string{dir + "/b.txt"}, `file "b.txt": its name does not tell the format`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := files.Plan(context.Background(), tc.globs, files.Defaults())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
	_, err := files.Plan(context.Background(), []string{dir + "/a.jsonl"}, files.Options{Format: "xml"})
	for _, want := range []string{`"xml"`, "RangeBytes", "MaxRecordBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error of wrong options is %v, want %q", err, want)
		}
	}
}

// A plain file of lines is cut, and only that.
func TestPlanCuts(t *testing.T) {
	lines := "a,b\n" + strings.Repeat("1,2\n", 24) // 100 bytes
	for _, tc := range []struct {
		file string
		text string
		o    files.Options
		want [][2]int64
	}{
		{"a.jsonl", lines, files.Options{}, [][2]int64{{0, 40}, {40, 80}, {80, 100}}},
		{"a.tsv", lines, files.Options{}, [][2]int64{{4, 44}, {44, 84}, {84, 100}}},
		{"a.tsv", lines, files.Options{Columns: []string{"x"}}, [][2]int64{{0, 40}, {40, 80}, {80, 100}}},
		{"a.csv", lines, files.Options{}, [][2]int64{{0, 100}}},
		{"a.tsv", strings.Repeat("x", 39) + "\t" + strings.Repeat("x", 60), files.Options{MaxRecordBytes: 100}, [][2]int64{{100, 100}}}, // only a header
		{"a.csv", lines, files.Options{Splittable: true}, [][2]int64{{4, 44}, {44, 84}, {84, 100}}},
		{"a.json", lines, files.Options{}, [][2]int64{{0, 100}}},
		{"a.json", lines, files.Options{Format: mappings.JSONL}, [][2]int64{{0, 40}, {40, 80}, {80, 100}}},
		{"a.json", "[" + lines[1:], files.Options{Format: mappings.JSONL}, [][2]int64{{0, 100}}},
		{"a.jsonl.gz", gz(lines)[:20] + strings.Repeat("x", 80), files.Options{}, [][2]int64{{0, 100}}},
		{"a.jsonl", gz(lines)[:20] + strings.Repeat("x", 80), files.Options{}, [][2]int64{{0, 100}}}, // the first bytes win over the name
		{"a.jsonl.gz", lines, files.Options{}, [][2]int64{{0, 40}, {40, 80}, {80, 100}}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			tc.o.RangeBytes, tc.o.MaxRecordBytes = 40, max(tc.o.MaxRecordBytes, 40)
			name := write(t, tc.file, tc.text)
			tasks, err := files.Plan(context.Background(), []string{name}, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			var got [][2]int64
			for _, task := range tasks {
				got = append(got, [2]int64{task.Start, task.End})
				if task.Size != 100 || task.Modified == 0 {
					t.Errorf("size %d and time %d, want 100 and that of the file", task.Size, task.Modified)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

// An archive that breaks off, or whose bytes were changed, fails the job after the records before it.
func TestBrokenArchives(t *testing.T) {
	line := strings.Repeat("0123456789", 10) + "\n"
	text := strings.Repeat(line, 20_000)
	changed := func(s string) string { return s[:len(s)-6] + "\x00\x01\x02\x03\x04\x05" }
	cut := func(s string) string { return s[:len(s)*3/4] }
	for _, ext := range []string{".gz", ".zst"} {
		for name, spoil := range map[string]func(string) string{"cut": cut, "changed": changed, "bytes behind": func(s string) string { return s + "garbage" }} {
			t.Run(name+ext, func(t *testing.T) {
				got, err := tryRead(files.Defaults(), write(t, "a.jsonl"+ext, spoil(packs[ext](text))))
				if err == nil || !strings.Contains(err.Error(), "a.jsonl"+ext) || !strings.Contains(err.Error(), "byte ") {
					t.Errorf("error is %v, want one that names file and place", err)
				}
				if len(got) == 0 || len(got) > 20_000 {
					t.Errorf("%d records before it, want some of 20000", len(got))
				}
				for _, r := range got {
					if r.Data+"\n" != line {
						t.Fatalf("record %q, want whole lines only", r.Data)
					}
				}
			})
		}
	}
}

func TestChangedFile(t *testing.T) {
	name := write(t, "a.jsonl", "1\n2\n")
	tasks, err := files.Plan(context.Background(), []string{name}, files.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = tasks[0].Each(context.Background(), files.Defaults(), func(*source.Record) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "has 2 bytes, it had 4") {
		t.Errorf("error is %v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	err = tasks[0].Each(context.Background(), files.Defaults(), func(*source.Record) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error is %v", err)
	}
}

// An error of fn ends the reading and comes back as it is; so does the end of the context.
func TestEachStops(t *testing.T) {
	for file, text := range map[string]string{"a.jsonl": "1\n2\n3\n", "a.csv": "a\n1\n2\n3\n", "a.json": "[1,2,3]"} {
		tasks, err := files.Plan(context.Background(), []string{write(t, file, text)}, files.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = tasks[0].Each(context.Background(), files.Defaults(), func(r *source.Record) error {
			got = append(got, string(r.Data))
			if len(got) == 2 {
				return os.ErrClosed
			}
			return nil
		})
		if err != os.ErrClosed || //nolint:errorlint // it comes back as it is
			!slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("%s: error %v after %q, want that of fn after 2 records", file, err, got)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := tasks[0].Each(ctx, files.Defaults(), func(*source.Record) error { return nil }); err == nil {
			t.Errorf("%s: no error with a context that has ended", file)
		}
	}
}

// Each file is planned as the part of the mapping says that reads it.
func TestPlanParts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"movies.csv": "id,title\n1,a\n", "tags-1.csv": "1\tx\n1\ty\n2\tz\n", "tags-2.csv": "3\tx\n", "links.jsonl.gz": "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := &mappings.Mapping{Name: "m", Format: mappings.CSV, Join: []mappings.Part{
		{Files: "links*"}, {Files: "tags*.csv", Format: mappings.TSV, Columns: []string{"id", "tag"}}, {Files: "none*"},
	}}
	o := files.Defaults()
	o.RangeBytes = 5
	parts, err := files.PlanParts(t.Context(), []string{filepath.Join(dir, "*")}, m, o)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, tasks := range parts {
		var names []string
		for _, task := range tasks {
			names = append(names, fmt.Sprintf("%s %s %v %d", filepath.Base(task.URL), task.Format, task.Columns, task.End))
		}
		got = append(got, names)
	}
	want := [][]string{
		{"movies.csv csv [] 13"}, // not splittable
		{"links.jsonl.gz csv [] 2"},
		{"tags-1.csv tsv [id tag] 5", "tags-1.csv tsv [id tag] 10", "tags-1.csv tsv [id tag] 12", "tags-2.csv tsv [id tag] 4"},
		nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks by part (-want +got):\n%s", diff)
	}
	if _, err := files.PlanParts(t.Context(), nil, m, o); err == nil || !strings.Contains(err.Error(), "no input files") {
		t.Errorf("error %v", err)
	}
	if _, err := files.PlanParts(t.Context(), []string{filepath.Join(dir, "no*")}, m, files.Options{}); err == nil || !strings.Contains(err.Error(), "RangeBytes (0)") {
		t.Errorf("error %v", err)
	}
}
