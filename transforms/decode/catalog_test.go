package decode_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

// itemOf decodes one record into an item in normal form.
func itemOf(t *testing.T, d decode.Decoder[schemas.Item], rec *source.Record) (string, *schemas.FieldError) {
	t.Helper()
	var got string
	var wrong *schemas.FieldError
	n := 0
	d.Decode(rec, func(row *schemas.Item, fault *schemas.FieldError) {
		n++
		if wrong = fault; fault == nil {
			row.Normalize()
			got = golden(schemas.Items, []schemas.Item{clone(schemas.Items, row)}, nil)
		}
	})
	if n != 1 {
		t.Fatalf("%d rows", n)
	}
	return strings.TrimSuffix(strings.ReplaceAll(got, "\n", "; "), "; "), wrong
}

// itemMapping parses a mapping of items, and decoders of it.
func itemMapping(t *testing.T, text string) decode.Decoder[schemas.Item] {
	t.Helper()
	m, err := mappings.Parse("test.yaml", []byte("table: items\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"item_id"} { // which most cases leave out
		if _, ok := m.Fields[p]; !ok {
			m.Fields[p] = mappings.Field{Const: "i"}
		}
	}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := decode.New(m, schemas.Items, (*schemas.Item).Reset)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestItemMapping(t *testing.T) {
	const missing, unknown = schemas.CodeMissing, schemas.CodeUnknownType
	for _, tc := range []struct {
		name, fields, record string
		want                 string // without the id; "" with code: refused
		path                 string
		code                 schemas.Code
	}{
		{"all elements into a list", "image_uris: {path: 'images[].uri'}", `{"images":[{"uri":"a"},{},{"uri":null},{"uri":"b"}]}`, "image_uris: a, b", "", ""},
		{"one object for an array", "image_uris: {path: 'images[].uri'}", `{"images":{"uri":"a"}}`, "image_uris: a", "", ""},
		{"no element", "image_uris: {path: 'images[].uri'}", `{"images":[]}`, "", "", ""},
		{"first element into a scalar", "title: {path: 'names[].text'}", `{"names":[{},{"text":""},{"text":"a"},{"text":"b"}]}`, "title: a", "", ""},
		{"first text into a scalar", "brand: {path: 'brands[]'}", `{"brands":["a","b"]}`, "brand: a", "", ""},
		{"one text for an array", "brand: {path: 'brands[]'}", `{"brands":"a"}`, "brand: a", "", ""},
		{"one text for a list", "tags: {path: a}", `{"a":"x"}`, "tags: x", "", ""},
		{"elements into a list", "tags: {path: 'a[]'}", `{"a":["x",7,null]}`, "tags: 7, x", "", ""},
		{"arrays within arrays", "tags: {path: 'a[].b.c[]'}", `{"a":[{"b":{"c":["x","y"]}},{"b":{"c":["z"]}}]}`, "tags: x, y, z", "", ""},
		{"one array for two columns", "tags: {path: 'a[].t'}\n  title: {path: 'a[].n'}", `{"a":[{"t":"x","n":"m"},{"n":"k","t":"y"}]}`, "title: m; tags: x, y", "", ""},
		{"unknown fields of elements", "tags: {path: 'a[].b[].t'}", `{"a":[{"b":[{"t":"x"},{"u":1}]},{"b":[{"u":2}],"v":3}]}`, "tags: x; extra: a[0].b[1].u: 1, a[1].b[0].u: 2, a[1].v: 3", "", ""},
		{"every element is looked at", "rating: {path: 'a[].r'}", `{"a":[{"r":1},{"r":"good"}]}`, "", "a[1].r", wrongType},
		{"element that is no object", "tags: {path: 'a[].b'}", `{"a":["x"]}`, "", "a[0]", wrongType},
		{"too many elements", "tags: {path: 'a[].b'}", `{"a":[` + strings.Repeat("{},", 1000) + `{}]}`, "", "a", schemas.CodeTooLarge},

		{"several paths of a list", "categories: {paths: [a.x, b]}", `{"b":["3","4"],"a":{"x":"1"}}`, "categories: 1, 3, 4", "", ""},
		{"several paths of a scalar", "title: {paths: [a, b]}", `{"b":"2","a":"1"}`, "title: 1", "", ""},
		{"the second path", "title: {paths: [a, b]}", `{"b":"2","a":null}`, "title: 2", "", ""},
		{"default of several paths", "title: {paths: [a, b], default: none}\n  tags: {paths: [c, d], default: none}", `{}`, "title: none; tags: none", "", ""},
		{"no default where there is one", "title: {paths: [a, b], default: none}\n  tags: {paths: [c, d], default: none}", `{"b":"x","d":["y"]}`, "title: x; tags: y", "", ""},
		{"a fault in the path that is not taken", "price: {paths: [a, b]}", `{"a":1,"b":"many"}`, "", "b", wrongType},

		{"entry", "attributes.color: {path: colour}\n  numbers.stock: {path: n}", `{"colour":"red","n":"7"}`, "attributes: color: red; numbers: stock: 7", "", ""},
		{"entry of several values", "attributes.sizes: {path: 'sizes[]'}\n  numbers.n: {path: 'ns[]'}", `{"sizes":["S","M"],"ns":[3,4]}`, "attributes: sizes: S, M; numbers: n: 3", "", ""},
		{"entry of the first path", "attributes.a: {paths: [x, y]}", `{"y":"2","x":"1"}`, "attributes: a: 1", "", ""},
		{"entry with a constant and one with a default", "attributes.a: {const: '1'}\n  attributes.b: {path: b, default: '2'}\n  numbers.c: {path: c, default: '3'}", `{"c":4}`, "attributes: a: 1, b: 2; numbers: c: 4", "", ""},
		{"entry that is no number", "numbers.stock: {path: n}", `{"n":"many"}`, "", "n", wrongType},
		{"named entries", "attributes: {path: 'a[].v.text[]', key: 'a[].k'}\n  numbers: {path: 'a[].v.num[]', key: 'a[].k'}",
			`{"a":[{"k":"x","v":{"text":["1","2"]}},{"v":{"num":[3,4]},"k":"y"},{"k":"x","v":{"text":["5"]}},{"k":"z"}]}`, "attributes: x: 1, 2, 5; numbers: y: 3", "", ""},
		{"entry without a name", "attributes: {path: 'a[].v', key: 'a[].k'}", `{"a":[{"k":"x","v":"1"},{"v":"2"}]}`, "", "a[1].k", missing},
		{"what the mapping names comes first", "attributes.x: {path: x}\n  attributes: {path: 'a[].v', key: 'a[].k'}", `{"a":[{"k":"x","v":"1"},{"k":"y","v":"2"}],"x":"0"}`, "attributes: x: 0, y: 2", "", ""},
		{"whole object", "attributes: {path: traits}\nignore: [traits.secret]", `{"traits":{"a":"x","b":1,"c":true,"d":null,"e":"","secret":"s","f":[1]}}`, "attributes: a: x, b: 1, c: true; extra: traits.f: [1]", "", ""},
		{"whole object of numbers", "numbers: {path: m}", `{"m":{"a":1,"b":"2.5"}}`, "numbers: a: 1, b: 2.5", "", ""},
		{"whole object that is none", "attributes: {path: traits}", `{"traits":"x"}`, "", "traits", wrongType},
		{"member that is no number", "numbers: {path: m}", `{"m":{"a":true}}`, "", "m.a", wrongType},
		{"member twice", "attributes: {path: m}", `{"m":{"a":"1","a":"2"}}`, "", "m.a", schemas.CodeDuplicateKey},

		{"embedding", "embedding: {path: v, length: 3}", `{"v":[0.5, -1,2e1]}`, "embedding: 0.5, -1, 20", "", ""},
		{"embedding in a text", "embedding: {path: v, length: 2, split: ' '}", `{"v":"0.5 1"}`, "embedding: 0.5, 1", "", ""},
		{"embedding of another length", "embedding: {path: v, length: 3}", `{"v":[1,2]}`, "", "v", invalid},
		{"embedding in a text of another length", "embedding: {path: v, length: 3, split: ','}", `{"v":"1,2"}`, "", "v", invalid},
		{"embedding with a hole", "embedding: {path: v}", `{"v":[1,null]}`, "", "v[1]", wrongType},
		{"embedding out of range", "embedding: {path: v}", `{"v":[1,1e39]}`, "", "v[1]", outOfRange},
		{"embedding without split", "embedding: {path: v}", `{"v":"1,2"}`, "", "v", wrongType},
		{"no embedding", "embedding: {path: v, length: 3}", `{"v":null}`, "", "", ""},
		{"too long an embedding", "embedding: {path: v}", `{"v":[` + strings.Repeat("0,", schemas.MaxEmbedding) + `0]}`, "", "v[8192]", schemas.CodeTooLarge},

		{"pattern", `published_time: {path: t, pattern: '\((\d{4})\)\s*$', unit: "2006"}`, `{"t":"A (B) (1995) "}`, "published_time: 1995-01-01T00:00:00Z", "", ""},
		{"no match", `published_time: {path: t, pattern: '\((\d{4})\)\s*$', unit: "2006"}`, `{"t":"A"}`, "", "", ""},
		{"pattern of elements", `tags: {path: t, split: "|", pattern: '^#(.*)$'}`, `{"t":"#a|b|#c"}`, "tags: a, c", "", ""},
		{"year", `published_time: {path: y, unit: "2006"}`, `{"y":1995}`, "published_time: 1995-01-01T00:00:00Z", "", ""},
		{"levels", "categories: {path: c, split: '|', levels: /}", `{"c":"a/b|/c/|d"}`, "categories: a > b, c, d", "", ""},
		{"levels of elements", "categories: {path: c, levels: /}", `{"c":["a/b"]}`, "categories: a > b", "", ""},
		{"values of elements", "tags: {path: c, values: {a: x, b: ''}}", `{"c":["a","b","c"]}`, "tags: c, x", "", ""},
		{"values of what is cut", "tags: {path: c, split: ';', values: {a: x, b: y}, only: true}", `{"c":"a;b"}`, "tags: x, y", "", ""},
		{"only values of elements", "tags: {path: c, values: {a: x}, only: true}", `{"c":["a","b"]}`, "", "c[1]", unknown},
		{"deleted", "is_deleted: {path: op, values: {delete: 'true', insert: 'false', update: 'false'}, only: true}", `{"op":"delete"}`, "is_deleted: true", "", ""},
		{"deleted by a number", "is_deleted: {path: op, values: {'2': 'true', '1': 'false'}, only: true}", `{"op":2}`, "is_deleted: true", "", ""},
		{"unknown operation", "is_deleted: {path: op, values: {delete: 'true'}, only: true}", `{"op":"drop"}`, "", "op", unknown},

		{"money with a code", "price: {path: p, money: true}", `{"p":"USD 1,299.00"}`, "price: 1299; currency: USD", "", ""},
		{"money with a sign", "price: {path: p, money: true}", `{"p":"12,50 €"}`, "price: 12.5; currency: EUR", "", ""},
		{"money with a sign of many currencies", "price: {path: p, money: true}\n  currency: {const: USD}", `{"p":"$16.99"}`, "price: 16.99; currency: USD", "", ""},
		{"money as a number", "price: {path: p, money: true}", `{"p":1.299}`, "price: 1.299", "", ""},
		{"money that says more than the default", "price: {path: p, money: true}\n  currency: {path: c, default: USD}", `{"p":"EUR 1"}`, "price: 1; currency: EUR", "", ""},
		{"money in two currencies", "price: {path: p, money: true}\n  currency: {path: c}", `{"p":"EUR 1","c":"USD"}`, "", "p", wrongType},
		{"money that is ambiguous", "price: {path: p, money: true}", `{"p":"1,299"}`, "", "p", wrongType},
		{"no money", "price: {path: p, money: true}", `{"p":"on request"}`, "", "p", wrongType},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := itemMapping(t, "fields:\n  "+tc.fields)
			records := []string{tc.record, tc.record} // what one record leaves behind must not be in the next
			if tc.code == "" && !strings.Contains(tc.want, "extra: ") {
				records = append(records, backwards(t, tc.record)) // the order of members changes nothing
			}
			for _, record := range records {
				got, fault := itemOf(t, d, &source.Record{Data: []byte(record)})
				if tc.code != "" {
					if fault == nil || fault.Code != tc.code || fault.Path != tc.path {
						t.Fatalf("row %q and fault %v, want %s at %q", got, fault, tc.code, tc.path)
					}
					continue
				}
				if fault != nil {
					t.Fatal(fault)
				}
				if got = strings.TrimPrefix(strings.TrimPrefix(got, "item_id: i"), "; "); got != tc.want {
					t.Errorf("row %q, want %q", got, tc.want)
				}
			}
		})
	}
}

// backwards returns a JSON object with its members, and theirs, in the opposite order. Elements of arrays stay in their order.
func backwards(t *testing.T, record string) string {
	t.Helper()
	value, err := parse(jsontext.NewDecoder(strings.NewReader(record)))
	if err != nil {
		t.Fatal(err)
	}
	var write func(any) string
	write = func(value any) string {
		switch v := value.(type) {
		case object:
			var members []string
			for _, m := range slices.Backward(v) {
				members = append(members, strconv.Quote(m.name)+":"+write(m.value))
			}
			return "{" + strings.Join(members, ",") + "}"
		case []any:
			var elements []string
			for _, e := range v {
				elements = append(elements, write(e))
			}
			return "[" + strings.Join(elements, ",") + "]"
		case string:
			return strconv.Quote(v)
		case nil:
			return "null"
		default:
			return fmt.Sprint(v)
		}
	}
	return write(value)
}

func TestItemMappingCSV(t *testing.T) {
	d := itemMapping(t, `format: csv
fields:
  item_id: {path: id}
  is_deleted: {path: op, values: {delete: "true", insert: "false", update: "false"}, only: true}
  categories: {paths: [c1, c2], split: "|", levels: "/"}
  price: {path: price, money: true}
  embedding: {path: vector, split: ";", length: 2}
  attributes.color: {path: colour}
  numbers.stock: {paths: [stock, left]}
`)
	columns := []string{"left", "id", "op", "c2", "c1", "price", "vector", "colour", "stock", "more"}
	for _, tc := range []struct{ name, fields, want string }{
		{"all", "7,a,insert,z,x/y|w,1.299,1;2", "price: wrong_type"},
		{"good", "7,a,insert,z,x/y|w,EUR 1.30,1;2,red,,m", `item_id: a; is_deleted: false; categories: x > y, w, z; price: 1.3; currency: EUR; embedding: 1, 2; attributes: color: red; numbers: stock: 7; extra: more: "m"`},
		{"deleted", ",a,delete", "item_id: a; is_deleted: true"},
		{"wrong length", ",a,update,,,,1;2;3", "vector: invalid"},
		{"unknown operation", ",a,drop", "op: unknown_type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fields := strings.Split(tc.fields, ",")
			fields = append(fields, make([]string, len(columns)-len(fields))...)
			got, fault := itemOf(t, d, &source.Record{Data: []byte(tc.fields), Columns: columns, Fields: fields})
			if fault != nil {
				got = fault.Path + ": " + string(fault.Code)
			}
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// Each element that is exploded has its own values, and those of the record around it.
func TestItemsOfExplodedArray(t *testing.T) {
	d := itemMapping(t, `explode: variants
fields:
  item_id: {path: "variants[].sku"}
  title: {path: name}
  tags: {paths: ["tags[]", "variants[].tags[]"]}
  attributes: {path: "variants[].more[].v", key: "variants[].more[].k"}
  attributes.material: {path: material}
`)
	var got []string
	record := `{"tags":["t"],"material":"clay","variants":[{"sku":"a","tags":["x"],"more":[{"k":"c","v":"red"}]},{"sku":"b","tags":["y"],"u":1}],"name":"Mug"}`
	d.Decode(&source.Record{Data: []byte(record)}, func(row *schemas.Item, fault *schemas.FieldError) {
		if fault != nil {
			t.Fatal(fault)
		}
		got = append(got, strings.ReplaceAll(golden(schemas.Items, []schemas.Item{*row}, nil), "\n", "; "))
	})
	want := []string{
		"item_id: a; title: Mug; tags: t, x; attributes: material: clay, c: red; ",
		"item_id: b; title: Mug; tags: t, y; attributes: material: clay; extra: variants[].u: 1; ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

func TestBands(t *testing.T) {
	m, err := mappings.Parse("test.yaml", []byte("table: users\nfields: {user_id: {path: id}, age_band: {path: age, bands: [18, 25, 26, 65]}}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := decode.New(m, schemas.Users, (*schemas.User).Reset)
	if err != nil {
		t.Fatal(err)
	}
	for age, want := range map[string]string{"0": "under 18", "17.9": "under 18", "18": "18-24", "24.5": "18-24", `"25"`: "25", "26": "26-64", "65": "65+", "120": "65+", "null": "", `""`: "", `"old"`: "age: wrong_type", "true": "age: wrong_type"} {
		d.Decode(&source.Record{Data: []byte(`{"id":"u","age":` + age + `}`)}, func(row *schemas.User, fault *schemas.FieldError) {
			var got string
			if fault != nil {
				got = fault.Path + ": " + string(fault.Code)
			} else {
				got = row.AgeBand
			}
			if got != want {
				t.Errorf("%s becomes %q, want %q", age, got, want)
			}
		})
	}
}

// The format of Backbone's own takes each column under its name, and no other type.
func TestNativeCatalog(t *testing.T) {
	m := load(t, "native-items")
	d, err := decode.New(m, schemas.Items, (*schemas.Item).Reset)
	if err != nil {
		t.Fatal(err)
	}
	got, fault := itemOf(t, d, &source.Record{Data: []byte(`{"item_id":"a","updated_time":"2025-05-01T10:00:00Z","is_deleted":false,"categories":["A > B"],"price":1.5,"currency":"EUR","rating_count":3,` +
		`"embedding":[1,2],"attributes":{"color":"red"},"numbers":{"stock":7},"more":1}`)})
	want := "item_id: a; updated_time: 2025-05-01T10:00:00Z; is_deleted: false; categories: A > B; price: 1.5; currency: EUR; rating_count: 3; embedding: 1, 2; attributes: color: red; numbers: stock: 7; extra: more: 1"
	if fault != nil || got != want {
		t.Errorf("row %q and fault %v, want %q", got, fault, want)
	}
	for record, path := range map[string]string{
		`{"item_id":1}`:                           "item_id",
		`{"item_id":"a","price":"1"}`:             "price",
		`{"item_id":"a","attributes":{"a":1}}`:    "attributes.a",
		`{"item_id":"a","attributes":{"a":[]}}`:   "attributes.a",
		`{"item_id":"a","numbers":{"a":"1"}}`:     "numbers.a",
		`{"item_id":"a","tags":"x"}`:              "tags",
		`{"item_id":"a","embedding":["1"]}`:       "embedding[0]",
		`{"item_id":"a","is_deleted":"true"}`:     "is_deleted",
		`{"item_id":"a","updated_time":17000000}`: "updated_time",
	} {
		if _, fault := itemOf(t, d, &source.Record{Data: []byte(record)}); fault == nil || fault.Path != path || fault.Code != wrongType {
			t.Errorf("%s: fault %v, want %s at %q", record, fault, wrongType, path)
		}
	}
}

// Whatever the bytes, a record becomes one row or one fault, the same each time; what is not strict JSON is never a row.
func FuzzItems(f *testing.F) {
	for _, s := range []string{
		`{"id":"a","images":[{"uri":"x"},{"u":1}],"props":[{"k":"a","v":["1"],"n":[2]},{"v":[]}],"traits":{"a":"b","c":[1]},"m":{"x":1},"vector":[1,2],"p":"1,299.00 €","t":"A (1995)","c":["a/b"]}`,
		`{"id":1,"images":{"uri":"x"},"props":{"k":"a","v":"1"},"traits":null,"m":{"x":"1"},"vector":"1 2","p":1,"c":"a","op":"delete"}`,
		`{"props":[{"k":"a","v":["1",["2"]]}],"traits":{"":"x"},"vector":[1,2,3]}`,
		`{"id":"a","names":["x"],"b":"y","traits":{"a":1,"a":2}}`, `[]`, `{`,
	} {
		f.Add([]byte(s))
	}
	m, err := mappings.Parse("test.yaml", []byte(`table: items
fields:
  item_id: {paths: [id, name]}
  is_deleted: {path: op, values: {delete: "true"}, only: true}
  title: {paths: ["names[]", b]}
  published_time: {path: t, pattern: '\((\d{4})\)$', unit: "2006"}
  price: {path: p, money: true}
  categories: {path: c, levels: /}
  image_uris: {path: "images[].uri"}
  embedding: {path: vector, length: 2, split: " "}
  attributes.x: {path: "xs[].y[]", default: z}
  attributes: {path: traits}
  numbers: {path: "props[].n[]", key: "props[].k"}
  tags: {path: "props[].v[]"}
ignore: [debug, "images[].debug"]
`))
	if err != nil {
		f.Fatal(err)
	}
	if err := m.Validate(); err != nil {
		f.Fatal(err)
	}
	d, err := decode.New(m, schemas.Items, (*schemas.Item).Reset)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		row, fault := itemOf(t, d, &source.Record{Data: data})
		again, faultAgain := itemOf(t, d, &source.Record{Data: data})
		if diff := cmp.Diff(fault, faultAgain); row != again || diff != "" {
			t.Errorf("%q becomes %q and then %q, %s", data, row, again, diff)
		}
		if fault == nil && !isStrict(data) {
			t.Errorf("%q becomes %q, and is not strict JSON", data, row)
		}
		d.Decode(&source.Record{Data: data}, func(row *schemas.Item, fault *schemas.FieldError) {
			if fault == nil {
				row.Normalize()
				_ = row.Check(schemas.CatalogRules{AsOf: asOf, Dimensions: 2})
			}
		})
	})
}
