package decode_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/datasets"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

// event is what became of one event of a record.
type event struct {
	Row   schemas.Interaction
	Fault *schemas.FieldError
}

func newDecoder(t testing.TB, m *mappings.Mapping) decode.Decoder[schemas.Interaction] {
	t.Helper()
	d, err := decode.New(m, schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// events decodes a record.
func events(t testing.TB, d decode.Decoder[schemas.Interaction], rec *source.Record) []event {
	t.Helper()
	var all []event
	before := string(rec.Data)
	d.Decode(rec, func(row *schemas.Interaction, fault *schemas.FieldError) {
		e := event{Fault: fault}
		if fault == nil {
			e.Row = clone(schemas.Interactions, row)
		} else if fault.Code == "" || fault.Message == "" {
			t.Errorf("fault %+v has no code or no message", fault)
		}
		all = append(all, e)
	})
	if string(rec.Data) != before {
		t.Error("the record was changed")
	}
	return all
}

// The codes of input that is not strict JSON, of the limits that are Backbone's own, and of values.
var (
	formCodes  = []schemas.Code{schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey}
	limitCodes = []schemas.Code{schemas.CodeTooDeep, schemas.CodeTooLarge}
	valueCodes = []schemas.Code{schemas.CodeWrongType, schemas.CodeOutOfRange, schemas.CodeInvalid, schemas.CodeUnknownType, schemas.CodeMissing}
)

// isStrict reports whether data is one value of JSON as go-json-experiment takes it by default: RFC 8259 without
// invalid UTF-8 and without a name twice in an object.
func isStrict(data []byte) bool { return jsontext.Value(data).IsValid() }

// sameVerdict fails if a decoder takes what go-json-experiment does not, or the other way round. Where data is well-formed, only
// limits and values may be at fault.
func sameVerdict(t testing.TB, all []event, data []byte) {
	t.Helper()
	strict := isStrict(data)
	for _, e := range all {
		switch {
		case e.Fault == nil && !strict:
			t.Errorf("%.300q is a row, though it is not strict JSON", data)
		case e.Fault == nil:
		case slices.Contains(formCodes, e.Fault.Code) && strict:
			t.Errorf("%.300q is refused, though it is strict JSON: %v", data, e.Fault)
		case !slices.Contains(formCodes, e.Fault.Code) && !slices.Contains(limitCodes, e.Fault.Code) && !slices.Contains(valueCodes, e.Fault.Code):
			t.Errorf("%.300q is refused with a code that decoding has not: %v", data, e.Fault)
		}
	}
}

// anything is a mapping that knows next to nothing: what comes is kept in extra.
func anything() *mappings.Mapping {
	return &mappings.Mapping{Name: "anything", Format: mappings.JSONL, Fields: map[string]mappings.Field{
		"user_id": {Path: "user"}, "item_id": {Path: "deep.item"},
	}, Ignore: []string{"ignored"}}
}

// Each file of the JSON parsing test suite is accounted for once, whatever it holds, with the verdict of its name.
func TestJSONTestSuite(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(datasets.Dir(t, "json-test-suite"), "test_parsing", "*.json"))
	if err != nil || len(files) < 300 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	d := newDecoder(t, anything())
	verdicts := map[string]int{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		// The text by itself, and where a mapping keeps it, ignores it, and looks into it.
		for _, form := range []string{"%s", `{"x":%s}`, `{"ignored":%s}`, `{"deep":{"x":%s}}`, `{"user":%s}`, `{"deep":%s}`} {
			record := []byte(strings.Replace(form, "%s", string(data), 1))
			all := events(t, d, &source.Record{Data: record})
			if len(all) != 1 {
				t.Fatalf("%s in %s: %d events", name, form, len(all))
			}
			fault := all[0].Fault
			sameVerdict(t, all, record)
			if fault == nil {
				verdicts[name[:1]+" accepted"]++
			} else {
				verdicts[name[:1]+" refused"]++
			}
			isObject := jsontext.Value(record).Kind() == '{'
			keeps := form != `{"user":%s}` && form != `{"deep":%s}`
			switch {
			case name[0] == 'n' && form == "%s" && fault == nil:
				t.Errorf("%s is accepted", name)
			case name[0] != 'n' && isStrict(record) && isObject && keeps && fault != nil && fault.Code != schemas.CodeTooDeep:
				t.Errorf("%s in %s is refused: %v", name, form, fault)
			case name[0] == 'y' && fault != nil && slices.Contains(formCodes, fault.Code) && !strings.Contains(name, "duplicated"):
				t.Errorf("%s in %s is refused: %v", name, form, fault)
			}
		}
	}
	t.Logf("%d files: %v", len(files), verdicts)
}

// Each naughty string comes through as it is: as the value of each text column, as a key, written in UTF-8 or
// as escapes. The rules of rows then take it or name it.
func TestNaughtyStrings(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(datasets.Dir(t, "naughty-strings"), "blns.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	if err := json.Unmarshal(data, &all); err != nil || len(all) < 500 {
		t.Fatalf("%d strings, error %v", len(all), err)
	}
	d := newDecoder(t, mappings.Native())
	rules := schemas.Rules{Now: time.Now().UnixMicro()}
	taken := 0
	for _, naughty := range all {
		quoted, err := jsontext.AppendQuote(nil, naughty)
		if err != nil {
			t.Fatalf("%q: %v", naughty, err)
		}
		for _, text := range []string{string(quoted), escaped(naughty)} {
			record := `{"event_id":"1","event_time":"2026-03-01T10:00:00Z","user_id":"ann","event_type":"view","item_id":"x","kept":` + text + `,"experiment_ids":[` + text + `]}`
			got := one(t, d, record)
			if diff := cmp.Diff([]string{naughty}, got.ExperimentIDs); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}
			if _, err := netip.ParseAddr(naughty); err != nil {
				kept, err := jsontext.AppendUnquote(nil, got.Extra[0].Value)
				if err != nil || string(kept) != naughty {
					t.Errorf("%q is kept as %s", naughty, got.Extra[0].Value)
				}
			}
			for _, c := range schemas.Interactions.Columns {
				if c.Kind != schemas.String || c.System {
					continue
				}
				value := `"` + c.Name + `":` + text
				if outer, inner, ok := strings.Cut(c.Name, "."); ok {
					value = `"` + outer + `":{"` + inner + `":` + text + `}`
				}
				got := one(t, d, "{"+value+"}")
				want := naughty
				if c.Name == "event_id" && naughty == "" {
					want = got.EventID // synthetic
				}
				if *c.Str(&got) != want {
					t.Errorf("%s: %q became %q", c.Name, naughty, *c.Str(&got))
				}
				full := one(t, d, record)
				*c.Str(&full) = naughty
				if fault := full.Check(rules); fault == nil {
					taken++
				} else if fault.Path != c.Name || fault.Message == "" {
					t.Errorf("%s %q breaks the rule %v", c.Name, naughty, fault)
				}
			}
		}
		record := `{"user_id":"ann",` + string(quoted) + `:7}`
		if got := one(t, d, record); len(got.Extra) != 1 || got.Extra[0].Key != naughty && !isAddress(naughty) || got.Extra[0].Value != "7" {
			t.Errorf("the key %q is kept as %q", naughty, got.Extra)
		}
	}
	if taken == 0 {
		t.Error("the rules take no string at all")
	}
}

// escaped writes a string with \u escapes alone.
func escaped(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		} else {
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return string(append(b, '"'))
}

// one decodes a record that is one good event.
func one(t testing.TB, d decode.Decoder[schemas.Interaction], record string) schemas.Interaction {
	t.Helper()
	all := events(t, d, &source.Record{Data: []byte(record)})
	if len(all) != 1 || all[0].Fault != nil {
		t.Fatalf("%.300s: %d events, the first with fault %v", record, len(all), all[0].Fault)
	}
	return all[0].Row
}

// seeds are records with something of everything that a decoder has to tell apart.
var seeds = []string{
	`{}`, ` {"event_id":"1"} `, `{"event_id":"1","event_id":"2"}`, `{"x":1,"x":2}`, `{"x":1,"\u0078":2}`, `{"event_id":"1","event\u005fid":"2"}`,
	`{"event_id":"018f","event_time":"2026-03-01T10:00:00.123+01:00","user_id":"ann","event_type":"view","item_id":"book","value":4.5,"value_unit":"stars"}`,
	`{"items":[{"item_id":"a","position":0,"quantity":2,"unit_price":19.99,"score":-0.5e-3,"propensity":1},{"item_id":"b","colour":"red"}]}`,
	`{"context":{"tz_offset_min":60,"country":"AT","is_bot":false,"user_agent":"Mozilla/5.0","ip":"192.0.2.1","x":{"y":[1,"2"]}}}`,
	`{"experiment_ids":["a","b\n","\u00e9"],"page":{"path":"/p/12","depth":3},"tags":["spring",null,true,false]}`,
	`{"client":"192.0.2.1","more":{"10.0.0.1":"x","a":["::1","fe80::1%eth0"]}}`,
	`{"context.x":1,"context":{"x":2}}`, `{"items":[{"x":1},{"x":2}]}`, `{"items":[{"item_id":"a","item_id":"b"}]}`, `{"items":[{}],"items":[{}]}`,
	`{"event_time":5}`, `{"event_time":""}`, `{"event_time":"2026-02-29T00:00:00Z"}`, `{"value":"4.5"}`, `{"value":1e400}`, `{"value":-0}`, `{"value":01}`, `{"value":.5}`, `{"value":1.}`, `{"value":+1}`, `{"value":1e}`,
	`{"context":{"local_hour":3.0}}`, `{"context":{"local_hour":3.5}}`, `{"context":{"local_hour":9223372036854775808}}`, `{"context":[]}`, `{"context":null}`, `{"items":null}`, `{"items":[null]}`, `{"items":{}}`, `{"experiment_ids":[1]}`, `{"experiment_ids":"a"}`,
	`{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `{"a":"\ude00\ud83d"}`, `{"a":"\u00"}`, `{"a":"\x"}`, `{"a":"` + "\t" + `"}`, `{"a":"\"\\\/\b\f\n\r\t"}`, "{\"a\":\"\x00\"}", "{\"\xff\":1}", "{\"a\":\"\xed\xa0\x80\"}", "\xef\xbb\xbf{}",
	`{"a":1,}`, `{,"a":1}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `{"a":1}}`, `{"a":1} {}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":[}`, `{"a":{]}`, `{"a"`, `{"a":`, `{"a":"`, `{"a":"\`, `{`, ``, ` `, `[]`, `[{"a":1}]`, `null`, `true`, `"a"`, `1`, `-`, `tru`, `nul`, `{"a":nulll}`, `{"a":NaN}`,
	`{"events":[{"ts":1,"type":"clicks","aid":5},{"ts":"x"},{"aid":{"a":1}},null,[],"s"],"session":9}`, `{"session":1,"events":[]}`, `{"events":{},"session":"a"}`, `{"events":[{"a":1,"a":2}]}`, `{"session":9,"at":1700000000000,"who":{"id":7},"list":{"sku":"a","n":"3"},"tags":["a"]}`,
	`{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64), strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
	`{"kept":"` + strings.Repeat("x", 20_000) + `","also":1}`, `{"` + strings.Repeat("k", 300) + `":1}`,
	"{\r\n\t\"event_id\" : \"1\" ,\n \"value\" : 1.0E+2 }", `{"":1,"a":{"":2}}`, `{"[":1,"a.b":2,"context":{"[0]":3}}`,
}

// exploding is a mapping with an event for each element of an array, and conversions.
func exploding() *mappings.Mapping {
	return &mappings.Mapping{Name: "exploding", Format: mappings.JSONL, Explode: "events", EventID: []string{"session", "events[].aid", "events[].ts"},
		Fields: map[string]mappings.Field{
			"event_time":            {Path: "events[].ts", Unit: "ms"},
			"event_type":            {Path: "events[].type", Values: map[string]string{"clicks": "click"}, Only: true, Default: "view"},
			"item_id":               {Path: "events[].aid"},
			"value":                 {Path: "events[].n"},
			"session_id":            {Path: "session"},
			"user_id":               {Path: "who.id"},
			"context.is_bot":        {Path: "bot"},
			"context.city":          {Path: "events[].place.city"},
			"items[].item_id":       {Path: "events[].list[].sku"},
			"items[].quantity":      {Path: "events[].list[].n", Default: "1"},
			"experiment_ids":        {Path: "tags", Split: ";"},
			"received_time":         {Path: "at", Unit: "2006-01-02 15:04:05"},
			"context.campaign":      {Const: "spring"},
			"context.tz_offset_min": {Path: "tz", Default: "60"},
		}, Ignore: []string{"debug", "events[].debug"}}
}

// Whatever the bytes, Backbone's decoder says of them what go-json-experiment says, and gives the values that it gives.
func FuzzDecodeAgainstJSONExperiment(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	native, other, split := newDecoder(f, mappings.Native()), newDecoder(f, anything()), newDecoder(f, exploding())
	f.Fuzz(func(t *testing.T, data []byte) {
		before := native.Dropped()
		all := events(t, native, &source.Record{Data: data})
		if len(all) != 1 {
			t.Fatalf("%d events of a record", len(all))
		}
		sameVerdict(t, all, data)
		if isStrict(data) {
			compare(t, data, all[0], native.Dropped() > before)
		}

		all = events(t, other, &source.Record{Data: data})
		if len(all) != 1 {
			t.Fatalf("%d events of a record", len(all))
		}
		sameVerdict(t, all, data)

		all = events(t, split, &source.Record{Data: data})
		sameVerdict(t, all, data)
		want := 1
		if isStrict(data) && all[0].Fault == nil || len(all) > 1 {
			record, err := parse(jsontext.NewDecoder(bytes.NewReader(data)))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range record.(object) {
				if list, ok := m.value.([]any); ok && m.name == "events" {
					want = len(list)
				}
			}
		}
		if len(all) != want {
			t.Fatalf("%d events come out, want %d", len(all), want)
		}
	})
}

// object is a JSON object with its members in their order, number the text of a number.
type (
	object []member
	member struct {
		name  string
		value any
	}
	number string
)

// parse reads a value with go-json-experiment: nil, bool, number, string, []any or object.
func parse(d *jsontext.Decoder) (any, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		return nil, nil
	case 't', 'f':
		return token.Bool(), nil
	case '"':
		return token.String(), nil
	case '0':
		return number(token.String()), nil
	case '[':
		list := []any{}
		for d.PeekKind() != ']' {
			v, err := parse(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.ReadToken()
		return list, err
	case '{':
		o := object{}
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			m := member{name: name.String()}
			if m.value, err = parse(d); err != nil {
				return nil, err
			}
			o = append(o, m)
		}
		_, err := d.ReadToken()
		return o, err
	}
	return nil, errors.New("no value")
}

// reference decodes the native format in the plainest way there is.
type reference struct {
	columns map[string]schemas.Column[schemas.Interaction]
	row     schemas.Interaction
	offset  schemas.Int // of the event time
	broken  bool        // a value is not of its column
	large   bool        // a list is
}

func newReference() *reference {
	r := &reference{columns: map[string]schemas.Column[schemas.Interaction]{}}
	for name, field := range mappings.Native().Fields {
		if c, ok := schemas.Interactions.Column(name); ok {
			r.columns[field.Path] = c
		}
	}
	c, _ := schemas.Interactions.Column("items")
	r.columns["items"] = c
	return r
}

func (r *reference) object(path string, o object) {
	for _, m := range o {
		c, known := r.columns[join(path, m.name)]
		switch {
		case path == "" && m.name == "context":
			if inner, ok := m.value.(object); ok {
				r.object("context", inner)
			} else if m.value != nil {
				r.broken = true
			}
		case !known || strings.Contains(m.name, "."):
			r.keep(join(path, m.name), m.value)
		case m.value == nil:
		case c.Kind == schemas.LineItems:
			list, ok := m.value.([]any)
			r.broken = r.broken || !ok
			r.large = r.large || len(list) > 1000
			for i, v := range list {
				r.item(i, v)
			}
		case c.Kind == schemas.Strings:
			list, ok := m.value.([]any)
			r.broken = r.broken || !ok
			r.large = r.large || len(list) > 1000
			for _, v := range list {
				s, ok := v.(string)
				r.broken = r.broken || !ok
				r.row.ExperimentIDs = append(r.row.ExperimentIDs, s)
			}
		default:
			set(r, c, &r.row, m.value)
		}
	}
}

func (r *reference) item(i int, v any) {
	o, ok := v.(object)
	if !ok {
		r.broken = true
		return
	}
	var item schemas.LineItem
	for _, m := range o {
		at := slices.IndexFunc(schemas.LineItemColumns, func(c schemas.Column[schemas.LineItem]) bool { return c.Name == m.name })
		if at < 0 {
			r.keep(join(fmt.Sprintf("items[%d]", i), m.name), m.value)
		} else if m.value != nil {
			set(r, schemas.LineItemColumns[at], &item, m.value)
		}
	}
	r.row.Items = append(r.row.Items, item)
}

func set[R any](r *reference, c schemas.Column[R], row *R, value any) {
	switch v := value.(type) {
	case string:
		switch c.Kind {
		case schemas.String:
			*c.Str(row) = v
		case schemas.Micros:
			at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(v))
			if err != nil || !rfc3339.MatchString(v) {
				r.broken = true
				return
			}
			*c.Int(row) = schemas.Some(at.UnixMicro())
			if _, seconds := at.Zone(); c.Name == "event_time" && !strings.HasSuffix(strings.ToUpper(v), "Z") && !strings.HasSuffix(v, "-00:00") {
				r.offset = schemas.Some(int64(seconds / 60))
			}
		default:
			r.broken = true
		}
	case bool:
		if c.Kind != schemas.Boolean {
			r.broken = true
			return
		}
		*c.Bool(row) = schemas.Some(v)
	case number:
		f, _ := strconv.ParseFloat(string(v), 64)
		switch c.Kind {
		case schemas.Float64:
			*c.Float(row) = schemas.Some(f)
			r.broken = r.broken || math.IsInf(f, 0)
		case schemas.Int64:
			i, err := strconv.ParseInt(string(v), 10, 64)
			if err != nil {
				i = int64(f)
				r.broken = r.broken || f != math.Trunc(f) || math.Abs(f) >= 1<<53
			}
			*c.Int(row) = schemas.Some(i)
		default:
			r.broken = true
		}
	default:
		r.broken = true
	}
}

// rfc3339 is the form of a time.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func join(path, name string) string {
	if path == "" || name == "" || name[0] == '[' {
		return path + name
	}
	return path + "." + name
}

// keep notes an unknown field, its value with its members sorted and without addresses.
func (r *reference) keep(path string, value any) {
	r.row.Extra = append(r.row.Extra, schemas.Pair{Key: path, Value: canonical(value)})
}

func canonical(value any) string {
	v := jsontext.Value(write(value))
	if err := v.Canonicalize(); err != nil {
		return "not canonical: " + err.Error() + string(v)
	}
	return string(v)
}

func write(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case number:
		return string(v)
	case string:
		b, err := jsontext.AppendQuote(nil, v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	case []any:
		parts := []string{}
		for _, e := range v {
			parts = append(parts, write(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	default:
		parts := []string{}
		for _, m := range v.(object) {
			parts = append(parts, write(m.name)+":"+write(m.value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// mayHold reports whether an address is among the names and strings of a value.
func mayHold(value any) bool {
	switch v := value.(type) {
	case string:
		return schemas.IsAddress(v) || isAddress(v)
	case []any:
		return slices.ContainsFunc(v, mayHold)
	case object:
		return slices.ContainsFunc(v, func(m member) bool { return mayHold(m.name) || mayHold(m.value) })
	}
	return false
}

// compare holds the verdict and the values against the reference's. Dropped tells that there were too many fields for extra.
func compare(t *testing.T, data []byte, got event, dropped bool) {
	t.Helper()
	value, err := parse(jsontext.NewDecoder(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	record, ok := value.(object)
	r := newReference()
	r.object("", record)
	r.broken = r.broken || !ok
	if got.Fault != nil {
		if !r.broken && !slices.Contains(limitCodes, got.Fault.Code) {
			t.Errorf("is refused, though nothing is wrong with it: %v", got.Fault)
		}
		if got.Fault.Code == schemas.CodeTooLarge && !r.large && len(data) < 4096 {
			t.Errorf("is said to be too large: %v", got.Fault)
		}
		return
	}
	if r.broken || r.large {
		t.Fatalf("is a row, though one of its values is not of its column or a list is too long")
	}
	want, have := r.row, got.Row
	if !want.Context.TZOffsetMin.Set {
		want.Context.TZOffsetMin = r.offset
	}
	if want.EventID == "" {
		if len(have.EventID) != 32 || !have.Lineage.SyntheticID.V {
			t.Errorf("the synthetic id is %q", have.EventID)
		}
		have.EventID, have.Lineage.SyntheticID = "", schemas.Bool{}
	}
	compareExtra(t, want.Extra, have.Extra, dropped)
	want.Extra, have.Extra = nil, nil
	if diff := cmp.Diff(want, have, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
}

func compareExtra(t *testing.T, want, got []schemas.Pair, dropped bool) {
	t.Helper()
	size := 0
	left := map[string][]string{}
	for _, p := range want {
		left[p.Key] = append(left[p.Key], p.Value)
	}
	seen := map[string]bool{}
	for _, p := range got {
		size += len(p.Key) + len(p.Value)
		if seen[p.Key] {
			t.Errorf("extra has %q twice", p.Key)
		}
		seen[p.Key] = true
		value, err := parse(jsontext.NewDecoder(strings.NewReader(p.Value)))
		if err != nil || !isStrict([]byte(p.Value)) {
			t.Errorf("extra has %q under %q, which is not JSON: %v", p.Value, p.Key, err)
			continue
		}
		if mayHold(value) || mayHold(p.Key) {
			t.Errorf("extra has an address: %q under %q", p.Value, p.Key)
		}
		if strings.Contains(p.Key+p.Value, schemas.AddressRemoved) {
			continue
		}
		if !slices.Contains(left[p.Key], canonical(value)) {
			t.Errorf("extra has %q under %q, want one of %q", p.Value, p.Key, left[p.Key])
		}
	}
	if len(got) > decode.MaxExtra || size > decode.MaxExtraBytes {
		t.Errorf("extra has %d entries of %d bytes", len(got), size)
	}
	if !dropped && len(got) != len(want) {
		t.Errorf("extra has %d entries, want %d: %q", len(got), len(want), got)
	}
}
