package mappings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/schemas/mappings"
)

func TestPresets(t *testing.T) {
	names := mappings.Presets()
	for _, want := range []string{"native", "movielens-ratings", "movielens-tags", "otto", "google-retail", "snowplow", "rees46", "amazon-personalize", "native-users", "native-items"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("Presets() is %q, without %q", names, want)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			m, err := mappings.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if m.Name != name || m.Doc == "" {
				t.Errorf("name %q and doc %q, want %q and a doc", m.Name, m.Doc, name)
			}
			if err := m.Validate(); err != nil {
				t.Error(err)
			}
			text, err := mappings.PresetText(name)
			if err != nil {
				t.Fatal(err)
			}
			again, err := mappings.Parse("copy.yaml", text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, again); diff != "" {
				t.Errorf("the text of the preset is another mapping (-preset +text):\n%s", diff)
			}
		})
	}
}

// Native takes every column that is a producer's under the column's own name.
func TestNative(t *testing.T) {
	m := mappings.Native()
	for _, c := range schemas.Interactions.Columns {
		got, ok := m.Fields[c.Name]
		if want := !c.System && c.Kind != schemas.LineItems; ok != want || ok && got.Path != c.Name {
			t.Errorf("column %q: mapped is %v from %q, want %v", c.Name, ok, got.Path, want)
		}
	}
	if got := m.Fields["items[].unit_price"].Path; got != "items[].unit_price" {
		t.Errorf("items[].unit_price comes from %q", got)
	}
}

const good = `
name: shop
format: jsonl
fields:
  event_time: {path: at, unit: ms}
  event_type: {path: what, values: {pv: view}, only: true}
  user_id: {path: user.id}
  item_id: {path: sku}
`

func TestLoadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "shop.yml")
	if err := os.WriteFile(name, []byte(strings.Replace(good, "name: shop\n", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := mappings.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	want := &mappings.Mapping{Name: "shop",
		Table: "interactions", Format: mappings.JSONL, Fields: map[string]mappings.Field{
		"event_time": {Path: "at", Unit: "ms"},
		"event_type": {Path: "what", Values: map[string]string{"pv": "view"}, Only: true},
		"user_id":    {Path: "user.id"},
		"item_id":    {Path: "sku"},
	}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"", "no mapping: give the name of a preset"},
		{"oto", `unknown mapping "oto" (did you mean "otto"?)`},
		{"./nowhere.yaml", `mapping "./nowhere.yaml": no such file or directory`},
	} {
		if _, err := mappings.Load(tc.name); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Load(%q): %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", "name: a\nformatt: csv\n", `mapping "a.yaml": line 2: unknown key "formatt" (did you mean "format"?)`},
		{"unknown key of a field", "fields:\n  item_id:\n    pth: sku\n", `mapping "a.yaml": line 3: unknown key "pth" (did you mean "path"?)`},
		{"unknown key of a field in flow style", "fields:\n  item_id: {path: sku, units: ms}\n", `line 2: unknown key "units" (did you mean "unit"?)`},
		{"key twice", "name: a\nname: b\n", "line 2: "},
		{"no YAML", "fields: [\n", "line "},
		{"wrong type", "fields:\n  item_id: sku\n", "line 2: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := mappings.Parse("a.yaml", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, tc.want)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, old, new string // what is replaced in good
		want           []string
	}{
		{"unknown column", "item_id:", "itemid:", []string{`field "itemid": no such column of interactions (did you mean "item_id"?)`}},
		{"system column", "item_id:", "loaded_time:", []string{`field "loaded_time": is filled by Backbone`}},
		{"items", "item_id:", "items:", []string{"map the columns of its elements"}},
		{"format", "format: jsonl", "format: jsnl", []string{`format "jsnl": want jsonl, json, csv, tsv, parquet, yaml (did you mean "jsonl"?)`}},
		{"path and const", "{path: sku}", "{path: sku, const: a}", []string{`field "item_id": has both path "sku" and const "a"`}},
		{"neither", "{path: sku}", "{}", []string{`field "item_id": has neither path nor const`}},
		{"default of a const", "{path: sku}", "{const: a, default: b}", []string{`default "b" is never used`}},
		{"empty name in a path", "path: sku", "path: a..b", []string{`path "a..b": a name is empty`}},
		{"brackets within", "path: sku", "path: 'a[0].b'", []string{`path "a[0].b": [] may only stand at the end`}},
		{"element of an array", "path: sku", "path: 'skus[].id'", []string{"name the array in explode"}},
		{"array with brackets", "path: sku", "path: 'skus[]'", []string{"name the array itself"}},
		{"unit of a text", "path: sku", "path: sku, unit: ms", []string{`unit "ms": the column is not a time`}},
		{"unknown unit", "unit: ms", "unit: minutes", []string{`unit "minutes": want s, ms, us, ns, rfc3339`}},
		{"split of a text", "path: sku", "path: sku, split: ';'", []string{"split: the column is not a list"}},
		{"only without values", "path: sku", "path: sku, only: true", []string{"only: there are no values"}},
		{"unknown event type", "pv: view", "pv: veiw", []string{`values: "pv": "veiw" is no standard event type`, `(did you mean "view"?)`}},
		{"two mistakes", "path: sku}", "path: sku, unit: s, split: a}", []string{"unit", "split"}},
		{"no event time", "event_time: {path: at, unit: ms}", "query: {path: q}", []string{`"event_time" is missing`}},
		{"nobody", "user_id:", "session_id:", []string{`"user_id" and "visitor_id" are both missing`}},
		{"columns of JSON", "fields:", "columns: [a]\nfields:", []string{"columns: only csv and tsv have columns"}},
		{"unknown name of a column", "format: jsonl", "format: csv\ncolumns: [at, what, user.id, skuu]", []string{`path "sku": is not one of columns (did you mean "skuu"?)`}},
		{"explode nothing", "fields:", "explode: events\nfields:", []string{`no field has a path that begins with "events[]."`}},
		{"own type is standard", "fields:", "event_types: {view: implicit}\nfields:", []string{`event_types: "view" is empty or a standard type`}},
		{"feedback kind", "fields:", "event_types: {stare: implict}\nfields:", []string{`feedback kind "implict"`, `(did you mean "implicit"?)`}},
		{"ignored and mapped", "fields:", "ignore: [sku]\nfields:", []string{`ignore: path "sku" fills "item_id"`}},
		{"two arrays of items", "item_id: {path: sku}", "items[].item_id: {path: 'a[].id'}\n  items[].quantity: {path: 'b[].n'}", []string{`several arrays, ["a" "b"]`}},
		{"const of the wrong kind", "item_id: {path: sku}", "value: {const: many}", []string{`"many" is no value of the column: want a number`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.Count(good, tc.old) != 1 {
				t.Fatalf("%q is in the good mapping %d times", tc.old, strings.Count(good, tc.old))
			}
			m, err := mappings.Parse("shop.yaml", []byte(strings.Replace(good, tc.old, tc.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			err = mappings.Validate(m, schemas.Interactions)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(tc.want, `mapping "shop"`) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is\n%v\nwithout %q", err, want)
				}
			}
		})
	}
}
