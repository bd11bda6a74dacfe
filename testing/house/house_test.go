// Package house tests what the repository promises of itself: which way imports point, that packages and commands are
// documented, that links lead somewhere.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"backbone/runners/command"
)

// folders are the top-level folders, and what each is for. A new one is a decision: it is added here with its reason.
var folders = map[string]string{
	".ci":        "what has to hold before a change is merged",
	".github":    "calls .ci/run",
	"docs":       "for readers outside of the code",
	"pipelines":  "one folder a pipeline",
	"runners":    "how a pipeline is handed over, watched and stopped",
	"schemas":    "rows, their rules, their evolution",
	"testing":    "sub-packages for tests, importable by users",
	"transforms": "reusable transforms",
}

// notOurs are folders that are not part of the repository: what git, builds and editors leave.
var notOurs = map[string]bool{".git": true, ".cache": true, "bin": true, "lake": true, ".idea": true, ".vscode": true}

func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() || notOurs[entry.Name()] {
			continue
		}
		if folders[entry.Name()] == "" {
			t.Errorf("folder %q: the top level is agreed on; put it below %v, or add it to the list in this test", entry.Name(), sorted(folders))
		}
	}
}

// layers are the folders with code, from the one that knows all the others to the one that knows none.
var layers = []string{"main", "runners", "pipelines", "transforms", "schemas"}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		from := layer(p.ImportPath)
		if from == "testing" {
			continue // it may know everything, and so may the tests of each package
		}
		for _, imported := range p.Imports {
			if to := layer(imported); to != "" && !mayImport(p.ImportPath, imported) {
				t.Errorf("%s imports %s: imports point from main to runners, pipelines, transforms, schemas, never back", p.ImportPath, imported)
			}
			if (from == "transforms" || from == "schemas") && knowsFlags[imported] {
				t.Errorf("%s imports %s: %s know no flags; take a struct of options", p.ImportPath, imported, from)
			}
		}
	}
}

var knowsFlags = map[string]bool{"flag": true, "github.com/spf13/pflag": true, "github.com/spf13/cobra": true}

// layer is the top-level folder of a package of ours, "main" for the root, and "" for others' packages.
func layer(importPath string) string {
	if importPath == "backbone" {
		return "main"
	}
	below, ours := strings.CutPrefix(importPath, "backbone/")
	if !ours {
		return ""
	}
	top, _, _ := strings.Cut(below, "/")
	return top
}

func mayImport(importer, imported string) bool {
	from, to := layer(importer), layer(imported)
	if to == "testing" {
		return importer == "backbone/runners/command" // which has the local Pub/Sub and the generator as commands
	}
	return slices.Index(layers, from) <= slices.Index(layers, to)
}

func TestMayImport(t *testing.T) {
	tests := []struct {
		importer, imported string
		want               bool
	}{
		{"backbone", "backbone/runners/command", true},
		{"backbone/runners/command", "backbone/pipelines/interactions", true},
		{"backbone/runners/command", "backbone/testing/pubsubserver", true},
		{"backbone/runners/direct", "backbone/testing/pubsubserver", false},
		{"backbone/pipelines/interactions", "backbone/runners/direct", false},
		{"backbone/transforms/lake", "backbone/schemas", true},
		{"backbone/transforms/lake", "backbone/transforms/dedup", true},
		{"backbone/transforms/lake", "backbone/pipelines/interactions", false},
		{"backbone/schemas", "backbone/transforms/rows", false},
		{"backbone/schemas", "backbone/testing/generator", false},
	}
	for _, test := range tests {
		if got := mayImport(test.importer, test.imported); got != test.want {
			t.Errorf("%s imports %s: %v, want %v", test.importer, test.imported, got, test.want)
		}
	}
}

func TestPackagesHaveComments(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		if p.Doc == "" || (p.Name != "main" && !strings.HasPrefix(p.Doc, "Package "+p.Name+" ")) {
			t.Errorf("%s: its comment is %q; say what it is: Package %s ...", p.ImportPath, p.Doc, p.Name)
		}
	}
}

func TestCommandsAreDocumented(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		name := cmd.CommandPath()
		if !strings.Contains(cmd.Example, "backbone") {
			t.Errorf("%s: Example is %q; show a command line to paste", name, cmd.Example)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 90 {
			t.Errorf("%s: Short is %q; it is one line without a full stop, in the list of commands", name, cmd.Short)
		}
		if cmd.Long == "" {
			t.Errorf("%s: Long is missing; say what the command does", name)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Hidden {
				return
			}
			if f.Usage == "" {
				t.Errorf("%s --%s: Usage is missing", name, f.Name)
			}
			if strings.ContainsFunc(f.Name, func(r rune) bool { return r == '-' || unicode.IsUpper(r) }) {
				t.Errorf("%s --%s: flags are snake_case", name, f.Name)
			}
		})
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(command.Tree())
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
)

func TestLinksAreAlive(t *testing.T) {
	eachFile(t, func(name string, text []byte) {
		if path.Ext(name) != ".md" {
			return
		}
		for _, match := range link.FindAllSubmatch(fence.ReplaceAll(text, nil), -1) {
			target := string(match[1])
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			if file == "" {
				file = path.Base(name)
			}
			file = path.Join(path.Dir(name), file)
			linked, err := os.ReadFile(filepath.Join(root(t), file))
			if err != nil {
				if info, statErr := os.Stat(filepath.Join(root(t), file)); statErr != nil || !info.IsDir() {
					t.Errorf("%s: the link %q leads nowhere", name, target)
				}
				continue
			}
			if anchor != "" && !slices.Contains(anchors(linked), anchor) {
				t.Errorf("%s: the link %q leads to %s, which has no heading of that name", name, target, file)
			}
		}
	})
}

// anchors are the names by which a page's headings can be linked to.
func anchors(page []byte) []string {
	var names []string
	for _, match := range heading.FindAllSubmatch(page, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			default:
				return -1
			}
		}, strings.TrimSpace(string(match[1])))
		names = append(names, name)
	}
	return names
}

func TestAnchors(t *testing.T) {
	got := anchors([]byte("# Backbone\n\ntext\n\n## 2. The lake: `file` names\n"))
	if want := []string{"backbone", "2-the-lake-file-names"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// foreign are words about how the project came to be, and not about what it is. They are put together here so that this
// file does not have them.
var foreign = []string{
	".." + "/shared", "/work" + "/main", "/work" + "/shared", "DESIGN" + ".md", "STYLE" + ".md", "helper-" + "brief", "co-authored" + "-by",
	"ai " + "assistant", "generated" + " with [",
}

func TestStandsAlone(t *testing.T) {
	eachFile(t, func(name string, text []byte) {
		lower := bytes.ToLower(text)
		for _, word := range foreign {
			if at := bytes.Index(lower, []byte(strings.ToLower(word))); at >= 0 {
				t.Errorf("%s:%d: %q is about how the project is built, not about what it is", name, 1+bytes.Count(text[:at], []byte("\n")), word)
			}
		}
	})
}

var (
	saysGenerated = regexp.MustCompile(`(?i)\bcode generated\b|\bgenerated by\b.*\bdo not edit\b`)
	header        = regexp.MustCompile(`Code generated .* DO NOT EDIT\.`)
)

func TestGeneratedFilesSaySo(t *testing.T) {
	eachFile(t, func(name string, text []byte) {
		beginning := bytes.Join(bytes.SplitN(text, []byte("\n"), 6)[:min(5, bytes.Count(text, []byte("\n")))], []byte("\n"))
		generated := saysGenerated.Match(beginning) || slices.Contains(generatedFiles, name)
		if generated && !header.Match(beginning) {
			t.Errorf("%s: a generated file has %q in its first five lines, so that people and tools leave it alone", name, "Code generated by PROGRAM; DO NOT EDIT.")
		}
	})
}

// generatedFiles are those that programs of this repository write.
var generatedFiles = []string{"docs/commands.md", "docs/schemas.md", "docs/interaction.schema.json"}

// goPackage is what "go list" knows of a package.
type goPackage struct {
	ImportPath, Name, Doc string
	GoFiles, Imports      []string
}

// packages lists the packages of the module.
func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Doc,GoFiles,Imports", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 2 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// root is the folder of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eachFile calls f with each text file of the repository, with its slash-separated path. Samples of other people's
// data, below testdata, are left out.
func eachFile(t *testing.T, f func(name string, text []byte)) {
	t.Helper()
	files := os.DirFS(root(t))
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if notOurs[name] || entry.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := fs.ReadFile(files, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody is working here
		}
		if err == nil && utf8.Valid(text) {
			f(name, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sorted(m map[string]string) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
