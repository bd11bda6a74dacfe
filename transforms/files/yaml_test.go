package files_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/testing/datasets"
	"backbone/transforms/files"
	"backbone/transforms/source"
)

// yamlRecords reads a file and gives each record as "offset: data", or "offset: code: message".
func yamlRecords(t *testing.T, name string, text []byte, o files.Options) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tasks, err := files.Plan(t.Context(), []string{file}, o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, task := range tasks {
		err := task.Each(t.Context(), o, func(rec *source.Record) error {
			var fault *schemas.FieldError
			switch {
			case rec.Err == nil:
				got = append(got, fmt.Sprintf("%d: %s", rec.Offset, rec.Data))
			case errors.As(rec.Err, &fault):
				got = append(got, fmt.Sprintf("%d: %s: %s", rec.Offset, fault.Code, fault.Message))
			default:
				t.Errorf("error %v is no *FieldError", rec.Err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func TestYAML(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"comments only", "# a\n---\n\n...\n", nil},
		{"two elements", "- a: 1\n  b: x\n- a: 2\n", []string{`0: {"a":1,"b":"x"}`, `14: {"a":2}`}},
		{"no line end", "- a: 1\n- a: 2", []string{`0: {"a":1}`, `7: {"a":2}`}},
		{"CRLF", "- a: 1\r\n  b: 2\r\n- a: 3\r\n", []string{`0: {"a":1,"b":2}`, `16: {"a":3}`}},
		{"BOM", "\ufeff- a: 1\n", []string{`3: {"a":1}`}},
		{"header and comments", "%YAML 1.2\n# c\n---\n- a: 1\n# c\n\n- a: 2 # d\n", []string{`18: {"a":1}`, `30: {"a":2}`}},
		{"indented", "# c\n  - a: 1\n    b: [x, y]\n  - a: 2\n", []string{`4: {"a":1,"b":["x","y"]}`, `27: {"a":2}`}},
		{"element on the next line", "-\n  a: 1\n-\n  a: 2\n", []string{`0: {"a":1}`, `9: {"a":2}`}},
		{"documents", "- a: 1\n---\n  - a: 2\n", []string{`0: {"a":1}`, `11: {"a":2}`}},
		{"nested sequence", "- a:\n  - 1\n  - b: 2\n- a:\n    - 3\n", []string{`0: {"a":[1,{"b":2}]}`, `20: {"a":[3]}`}},
		{"texts of several lines", "- a: |\n    - x\n    y\n  b: >-\n    f\n    g\n  c: p\n    q\n  d: 'r\n    s'\n", []string{`0: {"a":"- x\ny\n","b":"f g","c":"p q","d":"r s"}`}},
		{"scalars", "- {a: 1.50, b: true, c: ~, d: no, e: '1', f: 2020-01-02, g: !!str 7, h: -2e3}\n", []string{`0: {"a":1.50,"b":true,"c":null,"d":"no","e":"1","f":"2020-01-02","g":"7","h":"-2e3"}`}},
		{"numbers that JSON does not have stay as they are written", "- {a: 007, b: 0x1F, c: 1_000, d: .5, e: .inf, f: +1}\n", []string{`0: {"a":"007","b":"0x1F","c":"1_000","d":".5","e":".inf","f":"+1"}`}},
		{"anchor", "- a: &x {b: 1}\n  c: *x\n", []string{`0: {"a":{"b":1},"c":{"b":1}}`}},
		{"number as a key", "- 1: a\n", []string{`0: {"1":"a"}`}},
		{"JSON", "[{\"a\":1},\n{\"a\":2}]", []string{`1: {"a":1}`, `10: {"a":2}`}},

		{"broken element", "- a: 1\n- a: [1\n  b: 2\n- a: 3\n", []string{`0: {"a":1}`, `7: syntax: line 3: `, `22: {"a":3}`}},
		{"place of a mistake", "- a: 1\n\n- a: 1\n  b: 2\n c: 3\n- a: 2\n", []string{`0: {"a":1}`, `8: syntax: line 5: `, `28: {"a":2}`}},
		{"key twice", "- a: 1\n  b: 2\n  a: 3\n- a: 4\n", []string{`0: duplicate_key: line 3: a key comes twice`, `21: {"a":4}`}},
		{"no sequence", "a: 1\nb:\n- c: 2\n---\n- d: 1\n", []string{`0: syntax: line 1: no element of a sequence`, `19: {"d":1}`}},
		{"unknown alias", "- a: 1\n  b: *x\n", []string{`0: syntax: line 2: alias "x": its anchor is not before it`}},
		{"alias within its anchor", "- a: &x\n    b: *x\n", []string{`0: syntax: line 2: alias "x"`}},
		{"merge key", "- a: &x {b: 1}\n  <<: *x\n", []string{`0: syntax: line 2: merge keys (<<) are not taken`}},
		{"unknown tag", "- a: !ruby/object 1\n", []string{`0: syntax: line 1: tag "!ruby/object" is not known`}},
		{"key that is no text", "- ? [a]\n  : 1\n", []string{`0: syntax: line 2: `}},
		{"not UTF-8", "- a: \xff\n- a: 1\n", []string{`0: invalid_utf8: line 1: `, `7: {"a":1}`}},
		{"deep brackets", "- a: " + strings.Repeat("[", 10_000) + "\n- a: 1\n", []string{`0: too_deep: line 1: `, `10006: {"a":1}`}},
		{"deep marks", strings.Repeat("- ", 10_000) + "a\n- a: 1\n", []string{`0: too_deep: line 1: `, `20002: {"a":1}`}},
		{"bomb of aliases", "- a: &a [x,x,x,x,x,x,x,x]\n" + bomb() + "- a: 1\n", []string{`0: too_large: line `, ": {\"a\":1}"}},
		{"too long", "- a: 1\n- a: " + strings.Repeat("x", 2<<20) + "\n  b: y\n- a: 3\n", []string{`0: {"a":1}`, `7: too_large: line 2: the element is longer than 1048576 bytes`, ": {\"a\":3}"}},
		{"too long in many lines", "- a: 1\n- a: |\n" + strings.Repeat("    xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 100_000) + "- b: [\n", []string{`0: {"a":1}`, `7: too_large: line 2: `, ": syntax: line 100003: "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := files.Defaults()
			got := yamlRecords(t, "a.yaml", []byte(tc.text), o)
			if len(got) != len(tc.want) {
				t.Fatalf("%d records %.200q, want %q", len(got), got, tc.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tc.want[i]) {
					t.Errorf("record %d is %.200q, want %q", i, got[i], tc.want[i])
				}
			}
			// A packed file has the same records, with the same offsets.
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			if _, err := z.Write([]byte(tc.text)); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, yamlRecords(t, "a.yml.gz", packed.Bytes(), o)); diff != "" {
				t.Errorf("records of the packed file (-plain +packed):\n%s", diff)
			}
		})
	}
}

// bomb returns anchors each of which holds the one before eight times: 8^20 texts.
func bomb() string {
	var b strings.Builder
	for i := range 20 {
		of := "*" + string(rune('a'+i))
		fmt.Fprintf(&b, "  %c: &%c [%s]\n", 'b'+i, 'b'+i, strings.Repeat(of+",", 7)+of)
	}
	return b.String()
}

// Each element of a real file is a record.
func TestYAMLOnRealFiles(t *testing.T) {
	name := filepath.Join(datasets.Dir(t, "retail-demo-store"), "products.yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got := yamlRecords(t, "products.yaml", text, files.Defaults())
	if len(got) != 2465 || !strings.HasPrefix(got[0], `0: {"id":"6579c22f-be2b-444c-a52b-0116dd82df6c","current_stock":15,"name":"Adventure-Ready Expedition Backpack"`) {
		t.Errorf("%d records, the first is %.200q", len(got), got[0])
	}
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{"- a: 1\n- b: [x]\n", "a: 1\n", "- a: &x 1\n  b: *x\n", "---\n- - - a\n", "[{}]", "- a: |\n   x\n", "- ? b\n"} {
		f.Add([]byte(s))
	}
	o := files.Defaults()
	o.MaxRecordBytes = 256
	f.Fuzz(func(t *testing.T, text []byte) { yamlRecords(t, "a.yaml", text, o) })
}
