package lake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/testing/python"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/rows"
)

// chunkOf puts rows into a chunk.
func chunkOf[R any](table *schemas.Table[R], all ...R) []byte {
	codec := rows.NewCodec(table.Columns)
	chunk := codec.AppendHeader(nil)
	for i := range all {
		chunk = codec.Append(chunk, &all[i])
	}
	return chunk
}

// encodeFile makes a file of rows as the sink does.
func encodeFile[R any](t testing.TB, c *typedTable[R], run, writer string, all ...R) []byte {
	t.Helper()
	var pending []rowfile.Encoded
	if err := c.scan(chunkOf(c.table, all...), func(_ string, row rowfile.Encoded) { pending = append(pending, row) }); err != nil {
		t.Fatal(err)
	}
	body, _, done, err := c.file(pending, run, writer)
	if err != nil {
		t.Fatal(err)
	}
	body = bytes.Clone(body)
	done()
	return body
}

// record is a row as its path to values: one value of a plain column, several of a list.
type record map[string][]any

// read reads a file back, without anything of the code that wrote it. It checks what levels say of lists.
func read(t testing.TB, body []byte) (*parquet.File, []record) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	paths := f.Schema().Columns()
	for _, group := range f.Metadata().RowGroups {
		for i, c := range group.Columns { // by which Spark finds a column
			if got := c.MetaData.PathInSchema; !slices.Equal(got, paths[i]) {
				t.Fatalf("column %q is named %q in its metadata", paths[i], got)
			}
		}
	}
	var out []record
	buffer := make([]parquet.Row, 64)
	for _, group := range f.RowGroups() {
		reader := group.Rows()
		for {
			n, err := reader.ReadRows(buffer)
			for _, row := range buffer[:n] {
				rec := record{}
				row.Range(func(column int, values []parquet.Value) bool {
					leaf, _ := f.Schema().Lookup(paths[column]...)
					for i, v := range values {
						if v.RepetitionLevel() != min(i, leaf.MaxRepetitionLevel) {
							t.Fatalf("%s: value %d has repetition level %d", paths[column], i, v.RepetitionLevel())
						}
						if !v.IsNull() && v.DefinitionLevel() != leaf.MaxDefinitionLevel {
							t.Fatalf("%s: value %v has definition level %d of %d", paths[column], v, v.DefinitionLevel(), leaf.MaxDefinitionLevel)
						}
						if v.IsNull() && v.DefinitionLevel() == 0 {
							continue // absent
						}
						rec[strings.Join(paths[column], ".")] = append(rec[strings.Join(paths[column], ".")], plain(v))
					}
					return true
				})
				out = append(out, rec)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return f, out
}

func plain(v parquet.Value) any {
	if v.IsNull() {
		return nil
	}
	switch v.Kind() {
	case parquet.ByteArray:
		return string(v.ByteArray())
	case parquet.Double:
		return math.Float64bits(v.Double())
	case parquet.Boolean:
		return v.Boolean()
	}
	return v.Int64()
}

// wanted is the record that a row must become.
func wanted[R any](columns []schemas.Column[R], row *R) record {
	rec := record{}
	for _, c := range columns {
		switch c.Kind {
		case schemas.String, schemas.Bytes:
			if s := *c.Str(row); s != "" {
				rec[c.Name] = []any{s}
			}
		case schemas.Int64, schemas.Micros:
			if v := *c.Int(row); v.Set {
				rec[c.Name] = []any{v.V}
			}
		case schemas.Float64:
			if v := *c.Float(row); v.Set {
				rec[c.Name] = []any{math.Float64bits(v.V)}
			}
		case schemas.Boolean:
			if v := *c.Bool(row); v.Set {
				rec[c.Name] = []any{v.V}
			}
		case schemas.Strings:
			for _, s := range *c.List(row) {
				rec[c.Name+".list.element"] = append(rec[c.Name+".list.element"], s)
			}
		case schemas.Map:
			for _, p := range *c.Map(row) {
				rec[c.Name+".key_value.key"] = append(rec[c.Name+".key_value.key"], p.Key)
				rec[c.Name+".key_value.value"] = append(rec[c.Name+".key_value.value"], p.Value)
			}
		case schemas.LineItems:
			for _, item := range *c.Items(row) {
				one := wanted(schemas.LineItemColumns, &item)
				for _, ic := range schemas.LineItemColumns {
					path := c.Name + ".list.element." + ic.Name
					value := any(nil) // an element that is there, without this field
					if v := one[ic.Name]; len(v) == 1 {
						value = v[0]
					}
					rec[path] = append(rec[path], value)
				}
			}
		}
	}
	return rec
}

// fill draws a row: any of its columns may be absent, but for the required ones.
func fill[R any](t *rapid.T, columns []schemas.Column[R], row *R) {
	text := rapid.StringN(0, 12, 40)
	present := rapid.Bool()
	for _, c := range columns {
		switch c.Kind {
		case schemas.String:
			*c.Str(row) = text.Draw(t, c.Name)
			if c.Required && *c.Str(row) == "" {
				*c.Str(row) = "x"
			}
		case schemas.Bytes:
			*c.Str(row) = string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, c.Name))
		case schemas.Int64, schemas.Micros:
			if c.Required || present.Draw(t, c.Name+" is there") {
				*c.Int(row) = schemas.Some(rapid.Int64().Draw(t, c.Name))
			}
		case schemas.Float64:
			if present.Draw(t, c.Name+" is there") {
				*c.Float(row) = schemas.Some(rapid.Float64().Draw(t, c.Name))
			}
		case schemas.Boolean:
			if present.Draw(t, c.Name+" is there") {
				*c.Bool(row) = schemas.Some(present.Draw(t, c.Name))
			}
		case schemas.Strings:
			*c.List(row) = rapid.SliceOfN(text, 0, 3).Draw(t, c.Name)
		case schemas.Map:
			for range rapid.IntRange(0, 3).Draw(t, c.Name) {
				*c.Map(row) = append(*c.Map(row), schemas.Pair{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")})
			}
		case schemas.LineItems:
			for range rapid.IntRange(0, 3).Draw(t, c.Name) {
				var item schemas.LineItem
				fill(t, schemas.LineItemColumns, &item)
				*c.Items(row) = append(*c.Items(row), item)
			}
		}
	}
}

func newInteractions() *typedTable[schemas.Interaction] {
	return newTable(schemas.Interactions, (*schemas.Interaction).Reset)
}

func newDeadLetters() *typedTable[schemas.DeadLetter] {
	return newTable(schemas.DeadLetters, (*schemas.DeadLetter).Reset)
}

// What a reader finds in a file is what was written, sorted by user (or visitor) and time.
func TestFileHoldsItsRows(t *testing.T) {
	c := newInteractions() // for all files, as in a process: encoders are used again
	rapid.Check(t, func(rt *rapid.T) {
		all := make([]schemas.Interaction, rapid.SampledFrom([]int{1, 2, 3, 7}).Draw(rt, "rows"))
		for i := range all {
			fill(rt, schemas.Interactions.Columns, &all[i])
			all[i].UserID = rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(rt, "user")
		}
		_, got := read(t, encodeFile(t, c, "run", "writer", all...))
		compareRows(rt, c.table, got, all)
	})
}

func TestFileHoldsItsDeadLetters(t *testing.T) {
	c := newDeadLetters()
	rapid.Check(t, func(rt *rapid.T) {
		all := make([]schemas.DeadLetter, rapid.IntRange(1, 4).Draw(rt, "rows"))
		for i := range all {
			fill(rt, schemas.DeadLetters.Columns, &all[i])
		}
		_, got := read(t, encodeFile(t, c, "run", "writer", all...))
		compareRows(rt, c.table, got, all)
	})
}

// compareRows sees that got is all, sorted.
func compareRows[R any](t interface{ Fatalf(string, ...any) }, table *schemas.Table[R], got []record, all []R) {
	want := make([]record, len(all))
	for i := range all {
		want[i] = wanted(table.Columns, &all[i])
	}
	sortKey := func(r record) (string, int64) {
		names := []string{"user_id", "visitor_id"}
		at := "event_time"
		if table.Name == schemas.DeadLetters.Name {
			names, at = []string{"source"}, "received_time"
		}
		for _, name := range names {
			if v := r[name]; len(v) == 1 {
				return v[0].(string), r[at][0].(int64)
			}
		}
		return "", r[at][0].(int64)
	}
	for i := 1; i < len(got); i++ {
		user, at := sortKey(got[i-1])
		next, nextAt := sortKey(got[i])
		if user > next || user == next && at > nextAt {
			t.Fatalf("row %d is of %q at %d, the next of %q at %d", i-1, user, at, next, nextAt)
		}
	}
	byText := func(all []record) {
		slices.SortFunc(all, func(a, b record) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	got = slices.Clone(got)
	byText(got)
	byText(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("rows (-want +got):\n%s", diff)
	}
}

// More rows than are turned into columns at a time, some columns of which are empty in one part and not in the next.
func TestFileOfSeveralBatches(t *testing.T) {
	c := newInteractions()
	all := make([]schemas.Interaction, 2*512+3)
	for i := range all {
		all[i] = schemas.Interaction{EventID: strconv.Itoa(i), EventTime: schemas.Some(int64(i)), EventType: "view", UserID: fmt.Sprintf("%06d", i)}
		if i > 512 {
			all[i].ExperimentIDs = []string{"a", "b"}
			all[i].Items = []schemas.LineItem{{ItemID: "x"}, {ItemID: "y", Score: schemas.Some(0.5)}}
			all[i].Context.IsBot = schemas.Some(i%2 == 0)
		}
	}
	file, got := read(t, encodeFile(t, c, "run", "writer", all...))
	if file.NumRows() != int64(len(all)) {
		t.Errorf("the file has %d rows, want %d", file.NumRows(), len(all))
	}
	compareRows(t, c.table, got, all)
}

// An absent list and an empty one are null; an element without a field is there, and its field is null.
func TestLevels(t *testing.T) {
	row := schemas.Interaction{
		EventID: "e", EventTime: schemas.Some[int64](7), EventType: "purchase", VisitorID: "v",
		Items:         []schemas.LineItem{{ItemID: "i", Quantity: schemas.Some[int64](0)}, {ItemID: "j", UnitPrice: schemas.Some(0.0)}},
		ExperimentIDs: []string{"", "b"},
		Extra:         []schemas.Pair{{Key: "k", Value: ""}},
	}
	row.Lineage.Attributes = []schemas.Pair{}
	body := encodeFile(t, newInteractions(), "run", "writer", row)
	f, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	reader := f.RowGroups()[0].Rows()
	defer reader.Close()
	var buffer [1]parquet.Row
	if _, err := reader.ReadRows(buffer[:]); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	buffer[0].Range(func(column int, values []parquet.Value) bool {
		var text []string
		for _, v := range values {
			text = append(text, fmt.Sprintf("%v r%d d%d", v, v.RepetitionLevel(), v.DefinitionLevel()))
		}
		got[strings.Join(f.Schema().Columns()[column], ".")] = strings.Join(text, ", ")
		return true
	})
	for path, want := range map[string]string{
		"event_id":                           "e r0 d0",
		"event_time":                         "7 r0 d0",
		"user_id":                            "<null> r0 d0",
		"visitor_id":                         "v r0 d1",
		"context.country":                    "<null> r0 d0",
		"items.list.element.item_id":         "i r0 d2, j r1 d2",
		"items.list.element.quantity":        "0 r0 d3, <null> r1 d2",
		"items.list.element.unit_price":      "<null> r0 d2, 0 r1 d3",
		"experiment_ids.list.element":        " r0 d2, b r1 d2",
		"extra.key_value.key":                "k r0 d2",
		"extra.key_value.value":              " r0 d2",
		"lineage.attributes.key_value.key":   "<null> r0 d0",
		"lineage.attributes.key_value.value": "<null> r0 d0",
		"lineage.synthetic_id":               "<null> r0 d0",
	} {
		if got[path] != want {
			t.Errorf("%s is %q, want %q", path, got[path], want)
		}
	}
}

func TestMetadata(t *testing.T) {
	row := schemas.Interaction{EventID: "e", EventTime: schemas.Some[int64](7), EventType: "view", UserID: "u"}
	c := newInteractions()
	for range 2 { // the second file is made by the encoder of the first
		file, _ := read(t, encodeFile(t, c, "run-7", "writer-8", row))
		got := map[string]string{}
		for _, kv := range file.Metadata().KeyValueMetadata {
			got[kv.Key] = kv.Value
		}
		content := got[rowfile.MetaContent]
		delete(got, rowfile.MetaContent)
		want := map[string]string{rowfile.MetaTable: "interactions", rowfile.MetaVersion: "1", rowfile.MetaRun: "run-7", rowfile.MetaWriter: "writer-8", rowfile.MetaRows: "1"}
		if diff := cmp.Diff(want, got); diff != "" || len(content) != 16 {
			t.Errorf("content hash %q; metadata (-want +got):\n%s", content, diff)
		}
	}
}

// The same rows in any order make the same file, for one writer; the content hash is the same for every writer.
func TestFileDependsOnItsRowsOnly(t *testing.T) {
	one, two := newInteractions(), newInteractions()
	rapid.Check(t, func(rt *rapid.T) {
		all := make([]schemas.Interaction, rapid.IntRange(1, 5).Draw(rt, "rows"))
		for i := range all {
			fill(rt, schemas.Interactions.Columns, &all[i])
			all[i].UserID = rapid.SampledFrom([]string{"ann", "bob"}).Draw(rt, "user")
			all[i].EventTime = schemas.Some(rapid.Int64Range(0, 1).Draw(rt, "time"))
		}
		first := encodeFile(t, one, "run", "writer", all...)
		shuffled := rapid.Permutation(all).Draw(rt, "order")
		if !bytes.Equal(first, encodeFile(t, two, "run", "writer", shuffled...)) {
			rt.Fatal("the same rows in another order make another file")
		}
		content := func(body []byte) string {
			f, _ := read(t, body)
			hash, _ := f.Lookup(rowfile.MetaContent)
			return hash
		}
		other := encodeFile(t, one, "other run", "other writer", shuffled...)
		if bytes.Equal(first, other) || content(first) != content(other) {
			rt.Fatal("files of two writers are the same, or their content hashes differ")
		}
	})
}

// Columns are compressed with zstd, and few distinct values are a dictionary.
func TestColumnsAreCompressed(t *testing.T) {
	row := schemas.Interaction{EventID: "e", EventTime: schemas.Some[int64](7), EventType: "view", UserID: "u"}
	file, _ := read(t, encodeFile(t, newInteractions(), "run", "writer", row))
	for _, c := range file.Metadata().RowGroups[0].Columns {
		if name := c.MetaData.Codec.String(); name != "ZSTD" {
			t.Errorf("column %v is compressed with %s", c.MetaData.PathInSchema, name)
		}
		if slices.Equal(c.MetaData.PathInSchema, []string{"event_type"}) && c.MetaData.DictionaryPageOffset == 0 {
			t.Error("event_type has no dictionary")
		}
	}
}

// DuckDB and pyarrow read the file, with the types that are promised.
func TestOthersReadTheFile(t *testing.T) {
	row := schemas.Interaction{
		EventID: "e-1", EventTime: schemas.Some(micros(t, "2026-11-22T14:30:00.123456Z")), EventType: "purchase", UserID: "Zoë",
		Value: schemas.Some(1.5), ExperimentIDs: []string{"a", "b"},
		Items: []schemas.LineItem{{ItemID: "i", Quantity: schemas.Some[int64](2)}, {ItemID: "j", UnitPrice: schemas.Some(9.99)}},
		Extra: []schemas.Pair{{Key: "shelf", Value: "3"}},
	}
	row.Context.Country, row.Context.IsBot = "AT", schemas.Some(false)
	row.Lineage.Offset = schemas.Some[int64](12)
	path := filepath.Join(t.TempDir(), "part.parquet")
	c := newInteractions()
	encodeFile(t, c, "run", "writer", row) // so that the encoder is not fresh
	if err := os.WriteFile(path, encodeFile(t, c, "run", "writer", row), 0o600); err != nil {
		t.Fatal(err)
	}
	out := python.Run(t, `
import sys, json, duckdb, pyarrow.parquet as pq
path = sys.argv[1]
def short(v):
    if isinstance(v, dict): return {k: short(x) for k, x in v.items() if x is not None}
    if isinstance(v, list): return [short(x) for x in v if x is not None]
    if isinstance(v, tuple): return list(v)
    return v if isinstance(v, (int, float, str, bool)) else str(v)
arrow = pq.read_table(path)
columns = pq.ParquetFile(path).metadata.row_group(0)
duck = duckdb.sql("""select epoch_us(event_time) as at, event_id, user_id, value, experiment_ids, items[2].unit_price as price,
    items[1].quantity as quantity, extra['shelf'] as shelf, context.country as country, context.is_bot as bot,
    lineage."offset" as byte, visitor_id is null as nobody, typeof(event_time) as kind from read_parquet(?)""", params=[path])
print(json.dumps({"arrow": short(arrow.to_pylist()[0]), "type": str(arrow.schema.field("event_time").type),
    "column": columns.column(0).path_in_schema, "required": not arrow.schema.field("event_id").nullable, "duck": dict(zip(duck.columns, short(list(duck.fetchall()[0]))))}))
`, path)
	var got, want any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal([]byte(`{
		"type": "timestamp[us, tz=UTC]", "column": "event_id", "required": true,
		"arrow": {
			"event_id": "e-1", "event_time": "2026-11-22 14:30:00.123456+00:00", "user_id": "Zoë", "event_type": "purchase", "value": 1.5,
			"items": [{"item_id": "i", "quantity": 2}, {"item_id": "j", "unit_price": 9.99}], "experiment_ids": ["a", "b"],
			"context": {"country": "AT", "is_bot": false}, "lineage": {"offset": 12}, "extra": [["shelf", "3"]]
		},
		"duck": {
			"at": 1795357800123456, "event_id": "e-1", "user_id": "Zoë", "value": 1.5, "experiment_ids": ["a", "b"], "price": 9.99, "quantity": 2,
			"shelf": "3", "country": "AT", "bot": false, "byte": 12, "nobody": true, "kind": "TIMESTAMP WITH TIME ZONE"
		}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what Python reads (-want +got):\n%s", diff)
	}
}
