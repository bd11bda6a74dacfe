package files_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/datasets"
	"backbone/transforms/files"
)

func TestJSON(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []seen
	}{
		{"empty", "", nil},
		{"white space", " \n\t", nil},
		{"empty array", "[]", nil},
		{"array", "[1, {\"a\":[1]},\n\"x\"]\n", []seen{{Data: "1", Offset: 1}, {Data: `{"a":[1]}`, Offset: 4}, {Data: `"x"`, Offset: 15}}},
		{"BOM", "\xef\xbb\xbf[1]", []seen{{Data: "1", Offset: 4}}},
		{"array of arrays", "[[1],[2]]", []seen{{Data: "[1]", Offset: 1}, {Data: "[2]", Offset: 5}}},
		{"one object over lines", "{\n \"a\": 1\n}\n", []seen{{Data: "{\n \"a\": 1\n}"}}},
		{"several values", "{}{}\n[1]\n2", []seen{{Data: "{}"}, {Data: "{}", Offset: 2}, {Data: "1", Offset: 6}, {Data: "2", Offset: 9}}},
		{"what is within is judged later", "[{\"a\":1,\"a\":2}, \"\xff\"]", []seen{{Data: `{"a":1,"a":2}`, Offset: 1}, {Data: "\"\xff\"", Offset: 16}}},
		{"breaks off between", `[1,2`, []seen{{Data: "1", Offset: 1}, {Data: "2", Offset: 3}, {Offset: 4, Code: schemas.CodeSyntax}}},
		{"breaks off within", `[1,{"a":`, []seen{{Data: "1", Offset: 1}, {Data: `{"a":`, Offset: 3, Code: schemas.CodeSyntax}}},
		{"syntax", `[1,{"a":tru},2]`, []seen{{Data: "1", Offset: 1}, {Data: `{"a":tru},2]`, Offset: 3, Code: schemas.CodeSyntax}}},
		{"no comma", `[1 2]`, []seen{{Data: "1", Offset: 1}, {Data: `2]`, Offset: 3, Code: schemas.CodeSyntax}}},
		{"bytes behind", `[1]]`, []seen{{Data: "1", Offset: 1}, {Data: `]`, Offset: 3, Code: schemas.CodeSyntax}}},
		{"not JSON at all", `hello`, []seen{{Data: "hello", Code: schemas.CodeSyntax}}},
		{"too long", `["123456789012345678901234",1]`, []seen{{Data: `"1234567890123456789`, Offset: 1, Code: schemas.CodeTooLarge, Over: 6}, {Data: "1", Offset: 28}}},
	} {
		for ext, pack := range packs {
			t.Run(tc.name+ext, func(t *testing.T) {
				o := files.Defaults()
				o.MaxRecordBytes = 20
				if diff := cmp.Diff(tc.want, read(t, o, write(t, "a.json"+ext, pack(tc.text)))); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// An element that is too large to be looked through ends the file, without being held in memory.
func TestHugeElement(t *testing.T) {
	o := files.Defaults()
	o.MaxRecordBytes = 1000
	text := `[1,"` + strings.Repeat("x", 5<<20) + `",2]`
	want := []seen{{Data: "1", Offset: 1}, {Data: text[3:1003], Offset: 3, Code: schemas.CodeTooLarge}}
	if diff := cmp.Diff(want, read(t, o, write(t, "a.json", text))); diff != "" {
		t.Errorf("records (-want +got):\n%.1000s", diff)
	}
}

// A file named .json holds one array or one value a line; a mapping for JSON lines reads both.
func TestNamedJSON(t *testing.T) {
	o := files.Defaults()
	o.Format = mappings.JSONL
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"a.json", "{\"a\":1}\n{\"a\":2\n{}\n", []string{`{"a":1}`, `{"a":2`, `{}`}},
		{"a.json", " \n[{\"a\":1},\n{}]\n", []string{`{"a":1}`, `{}`}},
		{"a.jsonl", "[1,\n2]\n", []string{`[1,`, `2]`}},
	} {
		for ext, pack := range packs {
			for _, o.RangeBytes = range []int64{4, 8 << 20} {
				var got []string
				for _, r := range read(t, o, write(t, tc.name+ext, pack(tc.text))) {
					got = append(got, r.Data)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("records of %s%s %q (-want +got):\n%s", tc.name, ext, tc.text, diff)
				}
			}
		}
	}
}

func TestOTTO(t *testing.T) {
	name := filepath.Join(datasets.Dir(t, "otto-sample"), "train.jsonl")
	o := files.Defaults()
	whole := read(t, o, name)
	if len(whole) != 20 {
		t.Errorf("%d sessions, want 20", len(whole))
	}
	o.RangeBytes = 1000
	if diff := cmp.Diff(whole, read(t, o, name)); diff != "" {
		t.Errorf("sessions in ranges (-whole +ranges):\n%.1000s", diff)
	}
}
