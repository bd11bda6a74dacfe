package decode_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

// mapping reads the YAML of a mapping and sees to it that it is one that a user may write.
func mapping(t testing.TB, text string) *mappings.Mapping {
	t.Helper()
	m, err := mappings.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// texts gives the columns that a row fills but event_id, each as text.
func texts(row schemas.Interaction) map[string]string {
	out := map[string]string{}
	for _, columns := range [][]schemas.Column[schemas.Interaction]{schemas.Interactions.Columns, schemas.Interactions.Inputs} {
		for _, c := range columns {
			if v := c.Text(&row); v != "" && c.Name != "event_id" && c.Name != "lineage.synthetic_id" {
				out[c.Name] = v
			}
		}
	}
	return out
}

const (
	wrongType  = schemas.CodeWrongType
	outOfRange = schemas.CodeOutOfRange
	invalid    = schemas.CodeInvalid
	missing    = schemas.CodeMissing
)

func TestNative(t *testing.T) {
	d := newDecoder(t, mappings.Native())
	for _, tc := range []struct {
		name, record string
		want         map[string]string // nil: refused
		path         string
		code         schemas.Code
	}{
		{"nothing", `{}`, map[string]string{}, "", ""},
		{"every kind", `{"event_time":"2026-03-01T10:00:00.5+01:00","user_id":"ann","value":4.50,"context":{"tz_offset_min":-30,"is_bot":false},"experiment_ids":["a","b"],"items":[{"item_id":"x","position":0},{"item_id":"y","score":1e-3}]}`,
			map[string]string{"event_time": "2026-03-01T09:00:00.5Z", "user_id": "ann", "value": "4.5", "context.tz_offset_min": "-30", "context.is_bot": "false", "experiment_ids": "a, b", "items": "{item_id: x, position: 0}, {item_id: y, score: 0.001}"}, "", ""},
		{"nulls are absent", `{"event_time":null,"user_id":null,"value":null,"context":null,"experiment_ids":null,"items":null}`, map[string]string{}, "", ""},
		{"nulls within", `{"context":{"is_bot":null,"country":null},"items":[{"item_id":null,"score":null}]}`, map[string]string{"items": "{}"}, "", ""},
		{"empty lists are absent", `{"experiment_ids":[],"items":[],"context":{}}`, map[string]string{}, "", ""},
		{"raw context", `{"context":{"user_agent":"Mozilla/5.0","ip":"192.0.2.1"}}`, map[string]string{"raw.user_agent": "Mozilla/5.0", "raw.ip": "192.0.2.1"}, "", ""},
		{"offset from the time", `{"event_time":"2026-03-01T10:00:00+05:45"}`, map[string]string{"event_time": "2026-03-01T04:15:00Z", "context.tz_offset_min": "345"}, "", ""},
		{"offset of its own first", `{"context":{"tz_offset_min":1},"event_time":"2026-03-01T10:00:00+05:45"}`, map[string]string{"event_time": "2026-03-01T04:15:00Z", "context.tz_offset_min": "1"}, "", ""},
		{"offset of its own last", `{"event_time":"2026-03-01T10:00:00+05:45","context":{"tz_offset_min":1}}`, map[string]string{"event_time": "2026-03-01T04:15:00Z", "context.tz_offset_min": "1"}, "", ""},
		{"no offset from Z", `{"event_time":"2026-03-01T10:00:00Z"}`, map[string]string{"event_time": "2026-03-01T10:00:00Z"}, "", ""},
		{"no offset from another time", `{"received_time":"2026-03-01T10:00:00+01:00"}`, map[string]string{"received_time": "2026-03-01T09:00:00Z"}, "", ""},
		{"whole number with a fraction of zero", `{"context":{"local_hour":3.0,"local_dow":7e0}}`, map[string]string{"context.local_hour": "3", "context.local_dow": "7"}, "", ""},
		{"unknown fields", `{"a":1,"b":{"c":[true,null]},"context":{"d":"e"},"items":[{},{"f":1}]}`, map[string]string{"items": "{}, {}", "extra": `a: 1, b: {"c":[true,null]}, context.d: "e", items[1].f: 1`}, "", ""},
		{"a system column is unknown", `{"loaded_time":"2026-03-01T10:00:00Z","lineage":{"source":"me"}}`, map[string]string{"extra": `loaded_time: "2026-03-01T10:00:00Z", lineage: {"source":"me"}`}, "", ""},
		{"paths that are alike", `{"context.x":1,"context":{"x":2}}`, map[string]string{"extra": "context.x: 1"}, "", ""},
		{"spaces", " {\t\"user_id\" :\r\n \"ann\" } ", map[string]string{"user_id": "ann"}, "", ""},

		{"number for text", `{"user_id":5}`, nil, "user_id", wrongType},
		{"text for number", `{"value":"5"}`, nil, "value", wrongType},
		{"empty text for number", `{"value":""}`, nil, "value", wrongType},
		{"text for whole number", `{"context":{"local_hour":"3"}}`, nil, "context.local_hour", wrongType},
		{"fraction for whole number", `{"context":{"local_hour":3.5}}`, nil, "context.local_hour", wrongType},
		{"truth for number", `{"value":true}`, nil, "value", wrongType},
		{"number for truth", `{"context":{"is_bot":1}}`, nil, "context.is_bot", wrongType},
		{"number for time", `{"event_time":1772359200}`, nil, "event_time", wrongType},
		{"time without a zone", `{"event_time":"2026-03-01T10:00:00"}`, nil, "event_time", invalid},
		{"object for text", `{"user_id":{"id":1}}`, nil, "user_id", wrongType},
		{"array for text", `{"user_id":["a"]}`, nil, "user_id", wrongType},
		{"text for object", `{"context":"a"}`, nil, "context", wrongType},
		{"array for object", `{"context":[]}`, nil, "context", wrongType},
		{"object for array", `{"items":{}}`, nil, "items", wrongType},
		{"text for list", `{"experiment_ids":"a"}`, nil, "experiment_ids", wrongType},
		{"number in list", `{"experiment_ids":["a",2]}`, nil, "experiment_ids[1]", wrongType},
		{"null in list", `{"experiment_ids":[null]}`, nil, "experiment_ids[0]", wrongType},
		{"text in items", `{"items":[{},"a"]}`, nil, "items[1]", wrongType},
		{"text for number in items", `{"items":[{},{},{"position":"x"}]}`, nil, "items[2].position", wrongType},
		{"beyond a float", `{"value":1e309}`, nil, "value", outOfRange},
		{"beyond a float in items", `{"items":[{"score":-1e309}]}`, nil, "items[0].score", outOfRange},
		{"beyond 64 bits", `{"context":{"local_hour":9223372036854775808}}`, nil, "context.local_hour", outOfRange},
		{"not an object", `["a"]`, nil, "", wrongType},
		{"key twice", `{"user_id":"a","user_id":"a"}`, nil, "user_id", schemas.CodeDuplicateKey},
		{"key twice within", `{"context":{"city":"a","city":"b"}}`, nil, "context.city", schemas.CodeDuplicateKey},
		{"key twice in items", `{"items":[{},{"score":1,"score":1}]}`, nil, "items[1].score", schemas.CodeDuplicateKey},
		{"unknown key twice", `{"x":1,"x":2}`, nil, "x", schemas.CodeDuplicateKey},
		{"unknown key twice within", `{"context":{"x":1,"\u0078":2}}`, nil, "context.x", schemas.CodeDuplicateKey},
		{"unknown key twice deep in the unknown", `{"a":{"b":{"c":1,"d":[],"c":2}}}`, nil, "a.b.c", schemas.CodeDuplicateKey},
		{"object twice", `{"context":{},"context":{}}`, nil, "context", schemas.CodeDuplicateKey},
		{"bytes that are no text", "{\"user_id\":\"\xff\"}", nil, "", schemas.CodeUTF8},
		{"lone surrogate", `{"user_id":"\ud800"}`, nil, "user_id", schemas.CodeSyntax},
		{"nothing at all", ``, nil, "", schemas.CodeSyntax},
		{"two records", `{}{}`, nil, "", schemas.CodeSyntax},
		{"too many items", `{"items":[` + strings.Repeat("{},", 1000) + `{}]}`, nil, "items", schemas.CodeTooLarge},
		{"too many in a list", `{"experiment_ids":[` + strings.Repeat(`"",`, 1000) + `""]}`, nil, "experiment_ids", schemas.CodeTooLarge},
		{"too deep", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), nil, strings.Repeat("a.", 63) + "a", schemas.CodeTooDeep},
		{"too many keys", `{"a":{` + manyKeys(4097) + `}}`, nil, "a", schemas.CodeTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := events(t, d, &source.Record{Data: []byte(tc.record)})
			if len(all) != 1 {
				t.Fatalf("%d events", len(all))
			}
			checkEvent(t, all[0], tc.want, tc.path, tc.code)
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&b, `,"%d":0`, i)
	}
	return b.String()[1:]
}

func checkEvent(t *testing.T, got event, want map[string]string, path string, code schemas.Code) {
	t.Helper()
	if want == nil {
		if got.Fault == nil || got.Fault.Path != path || got.Fault.Code != code {
			t.Errorf("fault %v, want %s at %q", got.Fault, code, path)
		}
		return
	}
	if got.Fault != nil {
		t.Fatalf("fault %v, want a row", got.Fault)
	}
	if diff := cmp.Diff(want, texts(got.Row)); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
}

func TestMapping(t *testing.T) {
	for _, tc := range []struct {
		name, fields, record string
		want                 map[string]string // nil: refused
		path                 string
		code                 schemas.Code
	}{
		{"paths", "user_id: {path: a.b.c}\n  item_id: {path: a.d}", `{"a":{"d":"x","b":{"c":"y"}}}`, map[string]string{"user_id": "y", "item_id": "x"}, "", ""},
		{"one path for two columns", "user_id: {path: a}\n  visitor_id: {path: a}", `{"a":"x"}`, map[string]string{"user_id": "x", "visitor_id": "x"}, "", ""},
		{"number to text", "user_id: {path: a}", `{"a":12.50}`, map[string]string{"user_id": "12.50"}, "", ""},
		{"truth to text", "user_id: {path: a}", `{"a":true}`, map[string]string{"user_id": "true"}, "", ""},
		{"text to number", "value: {path: a}", `{"a":"12.50"}`, map[string]string{"value": "12.5"}, "", ""},
		{"empty text to number", "value: {path: a}", `{"a":""}`, map[string]string{}, "", ""},
		{"words to number", "value: {path: a}", `{"a":"many"}`, nil, "a", wrongType},
		{"hexadecimal to number", "value: {path: a}", `{"a":"0x10"}`, nil, "a", wrongType},
		{"NaN", "value: {path: a}", `{"a":"NaN"}`, nil, "a", wrongType},
		{"infinity", "value: {path: a}", `{"a":"-Inf"}`, nil, "a", wrongType},
		{"text to whole number", "context.local_hour: {path: a}", `{"a":"3"}`, map[string]string{"context.local_hour": "3"}, "", ""},
		{"text to truth", "context.is_bot: {path: a}", `{"a":"True"}`, map[string]string{"context.is_bot": "true"}, "", ""},
		{"digit to truth", "context.is_bot: {path: a}", `{"a":"0"}`, map[string]string{"context.is_bot": "false"}, "", ""},
		{"words to truth", "context.is_bot: {path: a}", `{"a":"perhaps"}`, nil, "a", wrongType},
		{"truth to number", "value: {path: a}", `{"a":true}`, nil, "a", wrongType},
		{"single item for a list", "items[].item_id: {path: 'p[].id'}", `{"p":{"id":1}}`, map[string]string{"items": "{item_id: 1}"}, "", ""},
		{"nested within items", "items[].item_id: {path: 'p[].product.id'}\n  items[].quantity: {path: 'p[].n'}", `{"p":[{"n":"2","product":{"id":"x","colour":"red"}}]}`,
			map[string]string{"items": "{item_id: x, quantity: 2}", "extra": `p[0].product.colour: "red"`}, "", ""},
		{"fault nested within items", "items[].quantity: {path: 'p[].product.n'}", `{"p":[{},{"product":{"n":"two"}}]}`, nil, "p[1].product.n", wrongType},

		{"seconds", "event_time: {path: a, unit: s}", `{"a":1772359200.25}`, map[string]string{"event_time": "2026-03-01T10:00:00.25Z"}, "", ""},
		{"milliseconds in a text", "event_time: {path: a, unit: ms}", `{"a":"1772359200250"}`, map[string]string{"event_time": "2026-03-01T10:00:00.25Z"}, "", ""},
		{"microseconds", "event_time: {path: a, unit: us}", `{"a":1772359200250000}`, map[string]string{"event_time": "2026-03-01T10:00:00.25Z"}, "", ""},
		{"nanoseconds", "event_time: {path: a, unit: ns}", `{"a":1772359200250000999}`, map[string]string{"event_time": "2026-03-01T10:00:00.25Z"}, "", ""},
		{"layout", "event_time: {path: a, unit: '02.01.2006 15:04 -0700'}", `{"a":"01.03.2026 11:00 +0100"}`, map[string]string{"event_time": "2026-03-01T10:00:00Z"}, "", ""},
		{"not of the layout", "event_time: {path: a, unit: '02.01.2006'}", `{"a":"2026-03-01"}`, nil, "a", invalid},
		{"year alone", "event_time: {path: a, unit: '2006'}", `{"a":2026}`, map[string]string{"event_time": "2026-01-01T00:00:00Z"}, "", ""},
		{"number that is not of the layout", "event_time: {path: a, unit: '2006'}", `{"a":20260}`, nil, "a", invalid},
		{"text for a unit", "event_time: {path: a, unit: s}", `{"a":"soon"}`, nil, "a", wrongType},
		{"time too large", "event_time: {path: a, unit: s}", `{"a":1e18}`, nil, "a", outOfRange},

		{"const", "event_type: {const: view}\n  context.is_bot: {const: 'false'}\n  value: {const: '1.5'}", `{}`, map[string]string{"event_type": "view", "context.is_bot": "false", "value": "1.5"}, "", ""},
		{"default", "event_type: {path: a, default: view}", `{}`, map[string]string{"event_type": "view"}, "", ""},
		{"default for null", "event_type: {path: a, default: view}", `{"a":null}`, map[string]string{"event_type": "view"}, "", ""},
		{"default for the empty text", "event_type: {path: a, default: view}", `{"a":""}`, map[string]string{"event_type": "view"}, "", ""},
		{"no default where there is a value", "event_type: {path: a, default: view}", `{"a":"click"}`, map[string]string{"event_type": "click"}, "", ""},
		{"default of a list", "experiment_ids: {path: a, default: none}", `{}`, map[string]string{"experiment_ids": "none"}, "", ""},
		{"no default of a list where there is one", "experiment_ids: {path: a, default: none}", `{"a":["b","c"]}`, map[string]string{"experiment_ids": "b, c"}, "", ""},
		{"default of a column of items", "items[].item_id: {path: 'p[].id'}\n  items[].quantity: {path: 'p[].n', default: '1'}", `{"p":[{"id":"x"},{"id":"y","n":2}]}`, map[string]string{"items": "{item_id: x, quantity: 1}, {item_id: y, quantity: 2}"}, "", ""},
		{"values", "event_type: {path: a, values: {pv: view, '1': click}}", `{"a":"pv"}`, map[string]string{"event_type": "view"}, "", ""},
		{"values of a number", "event_type: {path: a, values: {pv: view, '1': click}}", `{"a":1}`, map[string]string{"event_type": "click"}, "", ""},
		{"values leave others", "event_type: {path: a, values: {pv: view}}", `{"a":"like"}`, map[string]string{"event_type": "like"}, "", ""},
		{"only these values", "event_type: {path: a, values: {pv: view}, only: true}", `{"a":"like"}`, nil, "a", schemas.CodeUnknownType},
		{"only these values, or the default", "event_type: {path: a, values: {pv: view}, only: true, default: click}", `{}`, map[string]string{"event_type": "click"}, "", ""},
		{"a default is not translated", "event_type: {path: a, values: {view: click}, default: view}", `{}`, map[string]string{"event_type": "view"}, "", ""},
		{"split", "experiment_ids: {path: a, split: '|'}", `{"a":"b||c|"}`, map[string]string{"experiment_ids": "b, c"}, "", ""},
		{"split takes an array too", "experiment_ids: {path: a, split: '|'}", `{"a":["b|c","d"]}`, map[string]string{"experiment_ids": "b|c, d"}, "", ""},
		{"split of a number", "experiment_ids: {path: a, split: '|'}", `{"a":1}`, nil, "a", wrongType},
		{"ignored", "user_id: {path: a}\nignore: [b, c.d]", `{"a":"x","b":{"y":1},"c":{"d":1,"e":2}}`, map[string]string{"user_id": "x", "extra": "c.e: 2"}, "", ""},
		{"ignored is strict all the same", "user_id: {path: a}\nignore: [b]", `{"a":"x","b":{"y":1,"y":1}}`, nil, "b.y", schemas.CodeDuplicateKey},
		{"strict", "user_id: {path: a}\nstrict: true", `{"a":1}`, nil, "a", wrongType},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDecoder(t, mapping(t, "fields:\n  "+tc.fields))
			for range 2 { // what one record leaves behind must not be in the next
				all := events(t, d, &source.Record{Data: []byte(tc.record)})
				if len(all) != 1 {
					t.Fatalf("%d events", len(all))
				}
				checkEvent(t, all[0], tc.want, tc.path, tc.code)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no such column", "fields: {itemid: {path: a}}", `field "itemid": no such column`},
		{"no such column of items", "fields: {'items[].id': {path: 'a[].b'}}", `no such column`},
		{"items without a path", "fields: {'items[].item_id': {const: a}}", "needs a path"},
		{"items without a field", "fields: {'items[].item_id': {path: 'a[]'}}", `path "a[]" has no field of the element`},
		{"unit of a text", "fields: {item_id: {path: a, unit: s}}", `unit "s": the column is not a time`},
		{"unknown unit", "fields: {event_time: {path: a, unit: hours}}", `unit "hours": want s, ms`},
		{"empty name", "fields: {item_id: {path: a..b}}", `"" is not the name of a field`},
		{"array of nothing", "fields: {item_id: {path: 'a[].b'}}", `array "a": its elements fill neither items nor events`},
		{"bad event id", "fields: {item_id: {path: a}}\nevent_id: ['']", `event_id: path ""`},
		{"bad ignore", "fields: {item_id: {path: a}}\nignore: ['a[b']", `ignore: path "a[b"`},
		{"too many fields", "fields: {item_id: {path: a}}\nignore: [" + strings.TrimSuffix(strings.Repeat("f%d, ", 64), ", ") + "]", "65 fields in one object: 64 are possible"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i := 0; strings.Contains(tc.text, "%d"); i++ {
				tc.text = strings.Replace(tc.text, "%d", fmt.Sprint(i), 1)
			}
			_, err := decode.New(mapping(t, tc.text), schemas.Interactions, (*schemas.Interaction).Reset)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `mapping "test"`) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

const shop = `
name: shop
explode: events
fields:
  session_id: {path: session}
  user_id: {path: who}
  experiment_ids: {path: tags}
  item_id: {path: 'events[].aid'}
  event_time: {path: 'events[].ts', unit: ms}
  event_type: {path: 'events[].type'}
  items[].item_id: {path: 'events[].list[].sku'}
`

// Each element of the array is an event with the record's own fields, wherever in the record those stand.
func TestExplode(t *testing.T) {
	d := newDecoder(t, mapping(t, shop))
	array := `"events":[{"aid":1,"ts":1000,"x":1},{"aid":2,"ts":"soon"},{"aid":3,"ts":3000,"list":[{"sku":"a"},{"sku":"b","y":2}]},5]`
	rest := `"session":"s","who":"ann","tags":["t","u"],"page":7`
	for name, record := range map[string]string{"fields first": "{" + rest + "," + array + "}", "fields last": "{" + array + "," + rest + "}"} {
		t.Run(name, func(t *testing.T) {
			all := events(t, d, &source.Record{Data: []byte(record)})
			if len(all) != 4 {
				t.Fatalf("%d events, want 4", len(all))
			}
			shared := map[string]string{"session_id": "s", "user_id": "ann", "experiment_ids": "t, u", "extra": "page: 7"}
			with := func(more map[string]string) map[string]string {
				want := maps.Clone(shared)
				maps.Copy(want, more)
				return want
			}
			checkEvent(t, all[0], with(map[string]string{"item_id": "1", "event_time": "1970-01-01T00:00:01Z", "extra": "page: 7, events[].x: 1"}), "", "")
			checkEvent(t, all[1], nil, "events[1].ts", wrongType)
			checkEvent(t, all[2], with(map[string]string{"item_id": "3", "event_time": "1970-01-01T00:00:03Z", "items": "{item_id: a}, {item_id: b}", "extra": "page: 7, events[].list[1].y: 2"}), "", "")
			checkEvent(t, all[3], nil, "events[3]", wrongType)
		})
	}
	for _, tc := range []struct {
		record, path string
		code         schemas.Code
	}{
		{`{"session":"s"}`, "events", missing},
		{`{"events":[]}`, "events", missing},
		{`{"events":null}`, "events", missing},
		{`{"events":{}}`, "events", wrongType},
		{`{"events":"a"}`, "events", wrongType},
		{`{"events":[{"aid":1},{"aid":2,"z":{"a":1,"a":1}}]}`, "events[1].z.a", schemas.CodeDuplicateKey},
		{`{"events":[{"aid":1},{"aid":}]}`, "events[1].aid", schemas.CodeSyntax},
		{`{"events":[{"aid":1}],"who":{}}`, "who", wrongType},
		{`{"events":[{"aid":1}]`, "", schemas.CodeSyntax},
	} {
		all := events(t, d, &source.Record{Data: []byte(tc.record)})
		if len(all) != 1 {
			t.Fatalf("%s: %d events, want 1", tc.record, len(all))
		}
		checkEvent(t, all[0], nil, tc.path, tc.code)
	}
}

// An exploded array may have any number of elements. Each has an id of its own, the same each time it is read.
func TestExplodeMany(t *testing.T) {
	const n = 5000
	record := []byte(`{"session":"s","events":[{"aid":1,"ts":1}` + strings.Repeat(`,{"aid":1,"ts":1}`, n-1) + `]}`)
	ids := func() map[string]bool {
		all := events(t, newDecoder(t, mapping(t, shop)), &source.Record{Data: record})
		out := map[string]bool{}
		for i, e := range all {
			if e.Fault != nil || e.Row.ItemID != "1" || !e.Row.Lineage.SyntheticID.V {
				t.Fatalf("event %d: fault %v, row %v", i, e.Fault, texts(e.Row))
			}
			out[e.Row.EventID] = true
		}
		return out
	}
	first := ids()
	if len(first) != n {
		t.Errorf("%d ids of %d events", len(first), n)
	}
	if !maps.Equal(first, ids()) {
		t.Error("read again, the events have other ids")
	}
}

// An id that is made is a hash of the fields that the mapping names, or else of the record: the same for the same,
// another for others.
func TestSyntheticIDs(t *testing.T) {
	id := func(t *testing.T, m, record string) string {
		t.Helper()
		row := one(t, newDecoder(t, mapping(t, m)), record)
		if !row.Lineage.SyntheticID.V || len(row.EventID) != 32 || strings.Trim(row.EventID, "0123456789abcdef") != "" {
			t.Errorf("id %q, said to be synthetic: %v", row.EventID, row.Lineage.SyntheticID)
		}
		return row.EventID
	}
	named := "name: a\nfields: {user_id: {path: u}}\nevent_id: [u, at.x]"
	other := strings.Replace(named, "name: a", "name: b", 1)
	whole := "name: a\nfields: {user_id: {path: u}}"
	for _, tc := range []struct {
		name   string
		m1, r1 string
		m2, r2 string
		same   bool
	}{
		{"same fields", named, `{"u":"ann","at":{"x":5},"z":1}`, named, `{"z":2, "at":{"x":5},"u":"ann"}`, true},
		{"another field", named, `{"u":"ann","at":{"x":5}}`, named, `{"u":"ann","at":{"x":6}}`, false},
		{"a field is absent", named, `{"u":"ann","at":{"x":5}}`, named, `{"u":"ann"}`, false},
		{"parts that run together", named, `{"u":"ab","at":{"x":"c"}}`, named, `{"u":"a","at":{"x":"bc"}}`, false},
		{"parts that change places", named, `{"u":"a","at":{"x":"b"}}`, named, `{"u":"b","at":{"x":"a"}}`, false},
		{"another mapping", named, `{"u":"ann","at":{"x":5}}`, other, `{"u":"ann","at":{"x":5}}`, false},
		{"same record", whole, `{"u":"ann"}`, whole, `{"u":"ann"}`, true},
		{"another record", whole, `{"u":"ann"}`, whole, `{"u":"ann","z":1}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if a, b := id(t, tc.m1, tc.r1), id(t, tc.m2, tc.r2); (a == b) != tc.same {
				t.Errorf("ids %s and %s, want the same: %v", a, b, tc.same)
			}
		})
	}
	// It must not change from release to release: rows that are there already would come again.
	if got, want := id(t, named, `{"u":"ann","at":{"x":5}}`), "20958ce9855781b2d88ba8070728c831"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	row := one(t, newDecoder(t, mapping(t, "fields: {event_id: {path: id}}\nevent_id: [id]")), `{"id":"mine"}`)
	if row.EventID != "mine" || row.Lineage.SyntheticID.Set {
		t.Errorf("id %q, said to be synthetic: %v", row.EventID, row.Lineage.SyntheticID)
	}
}

// Two records have the same id exactly if the fields that the mapping names are the same.
func TestSyntheticIDsDiffer(t *testing.T) {
	d := newDecoder(t, mapping(t, "fields: {user_id: {path: u}}\nevent_id: [u, at.x]"))
	rapid.Check(t, func(rt *rapid.T) {
		u := rapid.StringMatching(`[ab]{0,3}`)
		r := func() (string, string) {
			a, b := u.Draw(rt, "u"), u.Draw(rt, "x")
			return a + "," + b, one(t, d, fmt.Sprintf(`{"u":%q,"at":{"x":%q}}`, a, b)).EventID
		}
		k1, id1 := r()
		k2, id2 := r()
		if (k1 == k2) != (id1 == id2) {
			rt.Fatalf("ids of %q and %q: %s and %s", k1, k2, id1, id2)
		}
	})
}

// What the mapping does not know is kept up to the limits; the rest is counted.
func TestExtraLimits(t *testing.T) {
	d := newDecoder(t, mappings.Native())
	row := one(t, d, "{"+manyKeys(decode.MaxExtra+3)+"}")
	if len(row.Extra) != decode.MaxExtra || d.Dropped() != 3 {
		t.Errorf("%d kept and %d left out, want %d and 3", len(row.Extra), d.Dropped(), decode.MaxExtra)
	}
	long := strings.Repeat("x", decode.MaxExtraBytes)
	row = one(t, d, `{"a":"`+long+`","b":"`+long[:decode.MaxExtraBytes-5]+`","c":1,"d":1,"`+long+`":1}`) // there is room for c, none for d
	if d.Dropped() != 6 || len(row.Extra) != 2 {
		t.Errorf("%d left out, want 6; kept %d", d.Dropped(), len(row.Extra))
	}
	if row := one(t, d, `{"a":1}`); len(row.Extra) != 1 || d.Dropped() != 6 {
		t.Errorf("the next record has %d entries", len(row.Extra))
	}
}

// No address of a user gets into extra: alone, nested, as a key, however it is written.
func TestAddressesAreRemoved(t *testing.T) {
	const removed = `"` + schemas.AddressRemoved + `"`
	d := newDecoder(t, mappings.Native())
	for _, tc := range []struct{ record, want string }{
		{`{"a":"192.0.2.1"}`, "a: " + removed},
		{`{"a":"2001:db8::1"}`, "a: " + removed},
		{`{"a":"\u003127.0.0.1"}`, "a: " + removed},
		{`{"a":{"b":["x",{"c":"::ffff:192.0.2.1","d":1.50}]}}`, `a: {"b":["x",{"c":` + removed + `,"d":1.50}]}`},
		{`{"a":["192.0.2.1","198.51.100.7"]}`, "a: [" + removed + "," + removed + "]"},
		{`{"context":{"forwarded_for":"192.0.2.1"}}`, "context.forwarded_for: " + removed},
		{`{"items":[{"seen_from":"192.0.2.1"}]}`, "items[0].seen_from: " + removed},
		{`{"192.0.2.1":5}`, schemas.AddressRemoved + ": 5"},
		{`{"hits":{"192.0.2.1":5}}`, `hits: {` + removed + `:5}`},
		{`{"hits":{"192.0.2.1":5,"192.0.2.2":6}}`, "hits: " + removed},
		{`{"version":"10.2.1","time":"12:30","ids":[1,2]}`, `version: "10.2.1", time: "12:30", ids: [1,2]`},
	} {
		if got := texts(one(t, d, tc.record))["extra"]; got != tc.want {
			t.Errorf("%s is kept as\n%s, want\n%s", tc.record, got, tc.want)
		}
	}
	csv := newDecoder(t, mapping(t, "format: csv\nfields: {user_id: {path: u}}"))
	all := events(t, csv, record([]string{"u", "from"}, "192.0.2.9", "2001:db8::1"))
	checkEvent(t, all[0], map[string]string{"user_id": "192.0.2.9", "extra": "from: " + removed}, "", "")
}

// record is a record of CSV.
func record(columns []string, fields ...string) *source.Record {
	return &source.Record{Data: []byte(strings.Join(fields, ",")), Columns: columns, Fields: fields}
}

func TestCSV(t *testing.T) {
	const text = `
format: csv
"null": ["\\N", "-"]
fields:
  user_id: {path: u}
  item_id: {path: i, values: {old: new}}
  value: {path: v, default: "3"}
  event_time: {path: t, unit: s}
  context.is_bot: {path: bot}
  experiment_ids: {path: tags, split: "|", default: none}
  items[].item_id: {path: sku}
  items[].quantity: {path: n, default: "1"}
ignore: [junk]
`
	d := newDecoder(t, mapping(t, text))
	header := []string{"u", "i", "v", "t", "bot", "tags", "junk", "more"}
	for _, tc := range []struct {
		name    string
		columns []string
		fields  []string
		want    map[string]string
		path    string
		code    schemas.Code
	}{
		{"everything", header, []string{"ann", "old", "4.5", "1772359200", "t", "a|b", "x", "kept"},
			map[string]string{"user_id": "ann", "item_id": "new", "value": "4.5", "event_time": "2026-03-01T10:00:00Z", "context.is_bot": "true", "experiment_ids": "a, b", "extra": `more: "kept"`}, "", ""},
		{"absent", header, []string{"", `\N`, "-", "", "-", "", "", `\N`}, map[string]string{"value": "3", "experiment_ids": "none"}, "", ""},
		{"another order", []string{"v", "u"}, []string{"1", "bob"}, map[string]string{"user_id": "bob", "value": "1", "experiment_ids": "none"}, "", ""},
		{"as many others", []string{"x", "y"}, []string{"1", "bob"}, map[string]string{"value": "3", "experiment_ids": "none", "extra": `x: "1", y: "bob"`}, "", ""},
		{"quotes in what is kept", []string{"more"}, []string{"say \"\u00e9\"\n"}, map[string]string{"value": "3", "experiment_ids": "none", "extra": `more: "say \"` + "\u00e9" + `\"\n"`}, "", ""},
		{"items", []string{"u", "sku"}, []string{"ann", "x"}, map[string]string{"user_id": "ann", "value": "3", "experiment_ids": "none", "items": "{item_id: x, quantity: 1}"}, "", ""},
		{"no items", []string{"u", "sku", "n"}, []string{"ann", "", "-"}, map[string]string{"user_id": "ann", "value": "3", "experiment_ids": "none"}, "", ""},
		{"no number", header, []string{"ann", "", "much", "", "", "", "", ""}, nil, "v", wrongType},
		{"no time", header, []string{"ann", "", "", "1e300", "", "", "", ""}, nil, "t", outOfRange},
		{"no truth", header, []string{"ann", "", "", "", "yes", "", "", ""}, nil, "bot", wrongType},
		{"no text", []string{"u"}, []string{"\xff"}, nil, "", schemas.CodeUTF8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := events(t, d, record(tc.columns, tc.fields...))
			if len(all) != 1 {
				t.Fatalf("%d events", len(all))
			}
			checkEvent(t, all[0], tc.want, tc.path, tc.code)
		})
	}
}

// Extra has the same limits for CSV.
func TestCSVExtraLimits(t *testing.T) {
	d := newDecoder(t, mapping(t, "format: tsv\nfields: {user_id: {path: u}}"))
	columns, fields := []string{}, []string{}
	for i := range decode.MaxExtra + 3 {
		columns, fields = append(columns, fmt.Sprint("c", i)), append(fields, "x")
	}
	all := events(t, d, record(columns, fields...))
	if len(all[0].Row.Extra) != decode.MaxExtra || d.Dropped() != 3 {
		t.Errorf("%d kept and %d left out, want %d and 3", len(all[0].Row.Extra), d.Dropped(), decode.MaxExtra)
	}
}

// A record that could not be cut out of its input is refused for that reason.
func TestBrokenRecord(t *testing.T) {
	want := &schemas.FieldError{Code: schemas.CodeTooLarge, Message: "a line of 2 MiB"}
	for _, m := range []string{"fields: {user_id: {path: u}}", "format: csv\nfields: {user_id: {path: u}}"} {
		d := newDecoder(t, mapping(t, m))
		for err, want := range map[error]*schemas.FieldError{
			want:                         want,
			fmt.Errorf("file: %w", want): want,
			errors.New("odd"):            {Code: schemas.CodeSyntax, Message: "odd"},
		} {
			all := events(t, d, &source.Record{Err: err, Data: []byte("{}")})
			if len(all) != 1 {
				t.Fatalf("%d events", len(all))
			}
			if diff := cmp.Diff(*want, *all[0].Fault); diff != "" {
				t.Errorf("fault (-want +got):\n%s", diff)
			}
		}
	}
}

// Rows are fresh: nothing of one record is in the next, whatever came before.
func TestRowsAreFresh(t *testing.T) {
	natives := slices.Clone(seeds)
	used := newDecoder(t, mappings.Native())
	rapid.Check(t, func(rt *rapid.T) {
		first, second := rapid.SampledFrom(natives).Draw(rt, "first"), rapid.SampledFrom(natives).Draw(rt, "second")
		events(t, used, &source.Record{Data: []byte(first)})
		got := events(t, used, &source.Record{Data: []byte(second)})
		want := events(t, newDecoder(t, mappings.Native()), &source.Record{Data: []byte(second)})
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("after another record (-want +got):\n%s", diff)
		}
	})
}

// Every time of RFC 3339 is read as package time reads it, with its offset where it says one.
func TestTimesAsOfPackageTime(t *testing.T) {
	d := newDecoder(t, mappings.Native())
	rapid.Check(t, func(rt *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, 253_402_300_799_999_999).Draw(rt, "micros"))
		minutes := rapid.IntRange(-23*60-59, 23*60+59).Draw(rt, "offset")
		at = at.In(time.FixedZone("", minutes*60))
		if at.Year() > 9999 {
			rt.Skip("RFC 3339 ends")
		}
		row := one(t, d, `{"event_time":"`+at.Format("2006-01-02T15:04:05.999999-07:00")+`"}`)
		if row.EventTime.V != at.UnixMicro() || row.Context.TZOffsetMin != schemas.Some(int64(minutes)) {
			if minutes != 0 || row.EventTime.V != at.UnixMicro() {
				rt.Fatalf("%v became %d with offset %v", at, row.EventTime.V, row.Context.TZOffsetMin)
			}
		}
	})
}

// What is named in event_id, and fills no column, is kept as any other field is, unless it is ignored.
func TestPartsOfIDsAreKept(t *testing.T) {
	const m = "fields: {user_id: {path: u}}\nevent_id: [u, seq, at.x, note]\nignore: [note]"
	for _, tc := range []struct{ record, want string }{
		{`{"u":"ann","seq":7,"at":{"x":"a\tb","y":1},"note":"n"}`, `seq: 7, at.x: "a\tb", at.y: 1`},
		{`{"u":"ann","seq":"\u0031.2.3.4","at":{"x":true}}`, `seq: "` + schemas.AddressRemoved + `", at.x: true`},
		{`{"u":"192.0.2.1","seq":null}`, `seq: null`},
	} {
		if got := texts(one(t, newDecoder(t, mapping(t, m)), tc.record))["extra"]; got != tc.want {
			t.Errorf("%s is kept as\n%s, want\n%s", tc.record, got, tc.want)
		}
	}
	// Ignored or not, it is a part of the id.
	with, without := one(t, newDecoder(t, mapping(t, m)), `{"u":"a","note":"1"}`), one(t, newDecoder(t, mapping(t, m)), `{"u":"a","note":"2"}`)
	if with.EventID == without.EventID {
		t.Error("events that differ in an ignored part of their ids have the same id")
	}
	// Limits are those of all that is kept.
	d := newDecoder(t, mapping(t, m))
	if one(t, d, `{"seq":1,`+manyKeys(decode.MaxExtra)+`}`); d.Dropped() != 1 {
		t.Errorf("%d are left out, want 1", d.Dropped())
	}
	const exploding = "fields: {user_id: {path: u}, item_id: {path: 'e[].i'}}\nexplode: e\nevent_id: [s, 'e[].n']"
	all := events(t, newDecoder(t, mapping(t, exploding)), &source.Record{Data: []byte(`{"s":9,"u":"ann","e":[{"i":"a","n":1},{"i":"b","n":2}]}`)})
	for i, want := range []string{"s: 9, e[].n: 1", "s: 9, e[].n: 2"} {
		if got := texts(all[i].Row)["extra"]; got != want {
			t.Errorf("element %d is kept as %s, want %s", i, got, want)
		}
	}
	csv := newDecoder(t, mapping(t, "format: csv\n"+m))
	all = events(t, csv, record([]string{"u", "seq", "note", "z"}, "ann", "7", "n", "1"))
	checkEvent(t, all[0], map[string]string{"user_id": "ann", "extra": `seq: "7", z: "1"`}, "", "")
}
