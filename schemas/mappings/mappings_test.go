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
	for _, want := range []string{"native", "movielens-ratings", "movielens-tags", "otto", "google-retail", "snowplow", "rees46", "amazon-personalize", "movielens-movies", "google-retail-products", "retail-demo-users", "retail-demo-products", "personalize-users", "personalize-items", "native-users", "native-items"} {
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

const goodItems = `name: catalog
table: items
format: jsonl
fields:
  item_id: {path: id}
  title: {path: name}
  embedding: {path: vector, length: 64}
  attributes: {path: "more[].value", key: "more[].name"}
  price: {path: price, money: true}
join:
  - files: "tags*.csv"
    format: csv
    fields: {item_id: {path: id}, tags: {path: tag}}
`

func TestValidateRefusesItems(t *testing.T) {
	good, err := mappings.Parse("catalog.yaml", []byte(goodItems))
	if err != nil {
		t.Fatal(err)
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, old, new string // what is replaced in goodItems
		want           []string
	}{
		{"unknown table", "table: items", "table: itms", []string{`table "itms": want interactions, contexts, users, items (did you mean "items"?)`}},
		{"no id", "item_id: {path: id}\n  title", "title", []string{`"item_id" is missing`}},
		{"event id", "format: jsonl", "format: jsonl\nevent_id: [id]", []string{"event_id: items have no events"}},
		{"event types", "format: jsonl", "format: jsonl\nevent_types: {a: implicit}", []string{"event_types: items have no events"}},
		{"unknown entry", "title: {", "atributes.a: {", []string{`field "atributes.a": no such column`}},
		{"entry of a system column", "title: {", "extra.a: {", []string{`field "extra.a": is filled by Backbone`}},
		{"path and paths", "path: name", "path: name, paths: [a]", []string{"has both path"}},
		{"paths and const", "path: name", "paths: [a, b], const: c", []string{"has both paths and const"}},
		{"path twice", "path: name", "paths: [a, a]", []string{`path "a": comes twice`}},
		{"empty path", "path: name", "paths: [a, '']", []string{"a name is empty"}},
		{"const that is changed", "path: name", "const: a, pattern: '(a)'", []string{`has const "a", so nothing is done with a path`}},
		{"pattern that is none", "path: name", "path: name, pattern: '(a'", []string{`pattern "(a": missing closing )`}},
		{"pattern without a group", "path: name", "path: name, pattern: 'a'", []string{`pattern "a": has 0 groups, want one`}},
		{"pattern with two groups", "path: name", "path: name, pattern: '(a)(b)'", []string{"has 2 groups, want one"}},
		{"bands that fall", "path: name", "path: name, bands: [25, 18]", []string{"bands: 18 stands behind 25"}},
		{"bands of a number", "price: {path: price, money: true}", "rating: {path: r, bands: [1]}", []string{"bands: the column is not a text"}},
		{"bands and levels", "path: name", "path: name, bands: [1], levels: /", []string{"has both bands and levels"}},
		{"levels of a number", "price: {path: price, money: true}", "rating: {path: r, levels: /}", []string{"levels: the column is not a text"}},
		{"money in a text", "path: name", "path: name, money: true", []string{"money: the column is no amount"}},
		{"money that is translated", "money: true", "money: true, values: {a: '1'}", []string{"money: values can't translate"}},
		{"length of a text", "path: name", "path: name, length: 3", []string{"length: the column is not an embedding"}},
		{"length", "length: 64", "length: 9000", []string{"length 9000: want 1 to 8192"}},
		{"values of an embedding", "length: 64", "values: {a: b}", []string{"values: an embedding is no text"}},
		{"const embedding", "path: vector, length: 64", "const: '1'", []string{"one text can't fill it"}},
		{"elements of an embedding", "path: vector", "path: 'vector[]'", []string{"name the array itself"}},
		{"key of a text", "path: name", "path: 'a[].b', key: 'a[].c'", []string{"key: the column is not a map"}},
		{"key elsewhere", `key: "more[].name"`, `key: "other[].name"`, []string{`path "more[].value" is not within the same array`}},
		{"key that is no field", `key: "more[].name"`, `key: "name"`, []string{"want a field of the elements of an array"}},
		{"array without a key", `, key: "more[].name"`, "", []string{"say by key where these are"}},
		{"key that is the path", `key: "more[].name"`, `key: "more[].value"`, []string{"is the path too"}},
		{"array as a whole and by its elements", "path: name", "path: 'vector[]'", []string{`path "vector": is mapped as a whole and by its elements`}},
		{"ignored key", "format: jsonl", "format: jsonl\nignore: ['more[].name']", []string{`ignore: path "more[].name" fills "attributes"`}},
		{"values of the wrong kind", "price: {path: price, money: true}", "numbers.a: {path: a, values: {x: many}}", []string{`"many" is no value of the column: want a number`}},
		{"embedding in a table", "format: jsonl", "format: csv", []string{`field "embedding": split: is missing`, `field "attributes": key: a record of csv holds no array`}},
		{"glob", `"tags*.csv"`, `"a/tags*.csv"`, []string{"join 1 (\"a/tags*.csv\"): files: want a glob of base names"}},
		{"broken glob", `"tags*.csv"`, `"tags[.csv"`, []string{"files: want a glob of base names"}},
		{"id alone", ", tags: {path: tag}", "", []string{"join 1 (\"tags*.csv\"): fields: want the id and at least one column"}},
		{"join without an id", "{item_id: {path: id}, tags", "{title: {path: id}, tags", []string{`join 1 ("tags*.csv"): fields: "item_id" is missing`}},
		{"wrong field of a join", "tags: {path: tag}", "tags: {path: 'tag[]'}", []string{`join 1 ("tags*.csv"): field "tags": path "tag[]"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.Count(goodItems, tc.old) != 1 {
				t.Fatalf("%q is in the good mapping %d times", tc.old, strings.Count(goodItems, tc.old))
			}
			m, err := mappings.Parse("catalog.yaml", []byte(strings.Replace(goodItems, tc.old, tc.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			err = m.Validate()
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(tc.want, `mapping "catalog"`) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is\n%v\nwithout %q", err, want)
				}
			}
		})
	}
}

// A mapping is for one table, and events are not joined.
func TestValidateOtherTable(t *testing.T) {
	m, err := mappings.Load("movielens-movies")
	if err != nil {
		t.Fatal(err)
	}
	want := `mapping "movielens-movies": is for table items, interactions are wanted`
	if err := mappings.Validate(m, schemas.Interactions); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	events, err := mappings.Load("movielens-tags")
	if err != nil {
		t.Fatal(err)
	}
	events.Join = m.Join
	if err := events.Validate(); err == nil || !strings.Contains(err.Error(), "join: events are not joined") {
		t.Errorf("error %v", err)
	}
}

func TestFor(t *testing.T) {
	m, err := mappings.Load("movielens-movies")
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]int{
		"movies.csv": 0, "/a/movies.csv": 0, "tags.csv": 1, "/data/tags-2.csv": 1, "gs://b/x/links.csv.gz": 2, "links.csv.zst": 2, "/tags/movies.csv": 0, "mytags.csv": 0,
	} {
		sub, part := m.For(url)
		if part != want || sub.Table != "items" || sub.Format != mappings.CSV || part > 0 && len(sub.Fields) < 2 || part == 0 && sub != m {
			t.Errorf("%s is read by part %d, %+v, want %d", url, part, sub, want)
		}
		if diff := cmp.Diff(m.Null, sub.Null); diff != "" {
			t.Errorf("null of part %d (-want +got):\n%s", part, diff)
		}
	}
	if n := m.Dimensions(); n != 0 {
		t.Errorf("%d dimensions", n)
	}
	m.Join[1].Fields["embedding"] = mappings.Field{Path: "v", Length: 8}
	if n := m.Dimensions(); n != 8 {
		t.Errorf("%d dimensions, want 8", n)
	}
}

func TestNativeFor(t *testing.T) {
	for _, table := range mappings.Tables() {
		m, err := mappings.NativeFor(table)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Validate(); err != nil || m.Table != table || !m.Strict || !mappings.IsNative(m.Name) {
			t.Errorf("%s: %v, %+v", table, err, m)
		}
	}
	if _, err := mappings.NativeFor("dead_letters"); err == nil || !strings.Contains(err.Error(), "want interactions, contexts, users, items") {
		t.Errorf("error %v", err)
	}
}
