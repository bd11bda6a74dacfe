package lock

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
)

var update = flag.Bool("update", false, "take allowed changes of the tables into the lock files")

// TestEvolution holds the tables against their lock files.
func TestEvolution(t *testing.T) {
	for _, now := range Shapes() {
		t.Run(now.Table, func(t *testing.T) {
			name := now.Table + ".lock"
			text, err := os.ReadFile(name)
			if errors.Is(err, os.ErrNotExist) && *update {
				text, err = []byte(Shape{Table: now.Table, Version: 1}.String()), nil // a new table: its first columns may be required
				for _, c := range now.Columns {
					text = append(text, c.String()+"\n"...)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			locked, err := Parse(string(text))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := Allowed(locked, now); err != nil {
				t.Fatalf("this would make older rows unreadable:\n%v", err)
			}
			if *update {
				if err := os.WriteFile(name, []byte(now.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(locked, now); diff != "" {
				t.Errorf("the table has grown, which is allowed: run \"go test ./schemas/lock -update\" (-locked +now):\n%s", diff)
			}
		})
	}
}

// TestEveryLockHasATable finds a table that went away.
func TestEveryLockHasATable(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		table, isLock := strings.CutSuffix(file.Name(), ".lock")
		if isLock && !slices.ContainsFunc(Shapes(), func(s Shape) bool { return s.Table == table }) {
			t.Errorf("%s is of a table that is no more: tables must not go away", file.Name())
		}
	}
}

func TestAllowed(t *testing.T) {
	locked := Shape{Table: "t", Version: 2, Columns: []Column{{"a", "string", true}, {"b", "int64", false}, {"c", "map", false}}}
	tests := []struct {
		name   string
		change func(s *Shape)
		want   string // within the refusal; empty: allowed
	}{
		{"nothing", func(*Shape) {}, ""},
		{"optional column at the end", func(s *Shape) { s.Columns = append(s.Columns, Column{"d", "string", false}) }, ""},
		{"newer version", func(s *Shape) { s.Version++ }, ""},
		{"older version", func(s *Shape) { s.Version-- }, "must not go back"},
		{"rename", func(s *Shape) { s.Columns[1].Name = "bee" }, `must stay "b int64", and is "bee int64"`},
		{"retype", func(s *Shape) { s.Columns[1].Kind = "float64" }, `must stay "b int64", and is "b float64"`},
		{"reorder", func(s *Shape) { s.Columns[1], s.Columns[2] = s.Columns[2], s.Columns[1] }, "column 2 must stay"},
		{"insert", func(s *Shape) { s.Columns = slices.Insert(s.Columns, 1, Column{"d", "string", false}) }, "column 2 must stay"},
		{"remove the last", func(s *Shape) { s.Columns = s.Columns[:2] }, "must not go away"},
		{"remove the first", func(s *Shape) { s.Columns = s.Columns[1:] }, "column 1 must stay"},
		{"required new", func(s *Shape) { s.Columns = append(s.Columns, Column{"d", "string", true}) }, "must be optional"},
		{"optional to required", func(s *Shape) { s.Columns[1].Required = true }, "column 2 must stay"},
		{"required to optional", func(s *Shape) { s.Columns[0].Required = false }, "column 1 must stay"},
		{"twice", func(s *Shape) { s.Columns = append(s.Columns, Column{"b", "int64", false}) }, "twice"},
		{"rename of the table", func(s *Shape) { s.Table = "u" }, "must not be renamed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			now := locked
			now.Columns = slices.Clone(locked.Columns)
			test.change(&now)
			err := Allowed(locked, now)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error is %v, want one about %q", err, test.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, shape := range Shapes() {
		got, err := Parse(shape.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(shape, got); diff != "" {
			t.Errorf("written and read (-written +read):\n%s", diff)
		}
	}
	for name, text := range map[string]string{
		"empty":            "",
		"no version":       "table t\na string\n",
		"version of words": "table t\nversion one\n",
		"too much":         "table t\nversion 1\na string required really\n",
		"too little":       "table t\nversion 1\na\n",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%s: it was read as %+v, want an error", name, s)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for kind := schemas.String; kind <= schemas.Bytes; kind++ {
		name := KindName(kind)
		if strings.HasPrefix(name, "kind-") || seen[name] {
			t.Errorf("kind %d has the name %q", kind, name)
		}
		seen[name] = true
	}
}
