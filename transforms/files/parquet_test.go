package files_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"backbone/schemas"
	"backbone/transforms/files"
)

type kettle struct {
	ID string `parquet:"id"`
	N  *int32 `parquet:"n,optional"`
}

type all struct {
	Text     string             `parquet:"text"`
	Bytes    []byte             `parquet:"bytes"`
	Maybe    *string            `parquet:"maybe,optional"`
	Yes      bool               `parquet:"yes"`
	Int      int64              `parquet:"int"`
	Uint     uint32             `parquet:"uint"`
	Double   float64            `parquet:"double"`
	Float    float32            `parquet:"float"`
	At       time.Time          `parquet:"at,timestamp(microsecond)"`
	AtMillis int64              `parquet:"at_ms,timestamp(millisecond)"`
	AtNanos  int64              `parquet:"at_ns,timestamp(nanosecond)"`
	AtOld    deprecated.Int96   `parquet:"at_old"`
	Day      int32              `parquet:"day,date"`
	Clock    int64              `parquet:"clock,time(microsecond)"`
	Price    int64              `parquet:"price,decimal(2:10)"`
	UUID     [16]byte           `parquet:"uuid,uuid"`
	Doc      string             `parquet:"doc,json"`
	List     []string           `parquet:"list,list"`
	Lists    [][]int64          `parquet:"lists,list"`
	Bare     []int64            `parquet:"bare"`
	Kettles  []kettle           `parquet:"kettles,list"`
	Map      map[string]float64 `parquet:"map"`
	Kettle   *kettle            `parquet:"kettle,optional"`
}

// encode makes a Parquet file with a row group of each of its arguments.
func encode[T any](t *testing.T, groups ...[]T) string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	for _, rows := range groups {
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestParquetRows(t *testing.T) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 123_456_000, time.UTC)
	seven, text := int32(7), "x"
	rows := []all{
		{
			Text: "é\"\n", Bytes: []byte{0xff, 0}, Maybe: &text, Yes: true, Int: math.MinInt64, Uint: math.MaxUint32, Double: 0.1, Float: 0.1,
			At: at, AtMillis: at.UnixMilli(), AtNanos: at.UnixNano() + 7, AtOld: deprecated.Int96{1_000, 0, 2440589},
			Day: 20513, Clock: 3_600_000_001, Price: -1205, UUID: [16]byte{0: 0x12, 15: 0xef}, Doc: `{"k":[1]}`,
			List: []string{"a", ""}, Lists: [][]int64{{1, 2}, {}, {3}}, Bare: []int64{4, 5}, Kettles: []kettle{{"k1", &seven}, {"k2", nil}},
			Map: map[string]float64{"m": 1.5}, Kettle: &kettle{"k3", nil},
		},
		{Double: math.NaN(), Float: float32(math.Inf(1)), At: time.UnixMicro(-1), AtOld: deprecated.Int96{0, 0, 2440588}, Price: 5, Doc: "{"},
	}
	want := []string{
		`{"text":"é\"\n","bytes":"/wA=","maybe":"x","yes":true,"int":-9223372036854775808,"uint":4294967295,"double":0.1,"float":0.1,` +
			`"at":"2026-03-01T10:00:00.123456Z","at_ms":"2026-03-01T10:00:00.123000Z","at_ns":"2026-03-01T10:00:00.123456Z","at_old":"1970-01-02T00:00:00.000001Z",` +
			`"day":"2026-03-01","clock":"01:00:00.000001","price":-12.05,"uuid":"12000000-0000-0000-0000-0000000000ef","doc":{"k":[1]},` +
			`"list":["a",""],"lists":[[1,2],[],[3]],"bare":[4,5],"kettles":[{"id":"k1","n":7},{"id":"k2"}],"map":{"m":1.5},"kettle":{"id":"k3"}}`,
		`{"text":"","bytes":"","yes":false,"int":0,"uint":0,"double":null,"float":null,` +
			`"at":"1969-12-31T23:59:59.999999Z","at_ms":"1970-01-01T00:00:00.000000Z","at_ns":"1970-01-01T00:00:00.000000Z","at_old":"1970-01-01T00:00:00.000000Z",` +
			`"day":"1970-01-01","clock":"00:00:00","price":0.05,"uuid":"00000000-0000-0000-0000-000000000000","doc":"{",` +
			`"list":[],"lists":[],"bare":[],"kettles":[],"map":{}}`,
	}
	var got []string
	for i, r := range read(t, files.Defaults(), write(t, "a.parquet", encode(t, rows))) {
		got = append(got, r.Data)
		if r.Offset != int64(i) {
			t.Errorf("offset %d of row %d", r.Offset, i)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestParquetRowGroups(t *testing.T) {
	var groups [][]kettle
	var want []seen
	for g := range 5 {
		var rows []kettle
		for i := range 300 {
			rows = append(rows, kettle{ID: fmt.Sprintf("g%d-%d", g, i)})
			want = append(want, seen{Data: fmt.Sprintf(`{"id":"g%d-%d"}`, g, i), Offset: int64(len(want))})
		}
		groups = append(groups, rows)
	}
	text := encode(t, groups...)
	for _, file := range []string{"a.parquet", "a.jsonl", "a.json"} { // the first bytes win over the name
		for _, rangeBytes := range []int64{1, 3000, 8 << 20} {
			o := files.Defaults()
			o.RangeBytes = rangeBytes
			name := write(t, file, text)
			if diff := cmp.Diff(want, read(t, o, name)); diff != "" {
				t.Errorf("%s: rows (-want +got):\n%.1000s", file, diff)
			}
			tasks, err := files.Plan(context.Background(), []string{name}, o)
			if err != nil {
				t.Fatal(err)
			}
			if rangeBytes == 1 && len(tasks) != 5 {
				t.Errorf("%s: %d tasks, want one for each row group: 5", file, len(tasks))
			}
		}
	}
	o := files.Defaults()
	o.MaxRecordBytes = 5
	if got := read(t, o, write(t, "a.parquet", text))[0]; got.Data != `{"id"` || got.Code != schemas.CodeTooLarge {
		t.Errorf("row above the limit: %v", got)
	}
}

// A broken file is an error that names it, whatever byte is broken, or its rows are read: never a panic.
func TestBrokenParquet(t *testing.T) {
	var rows []kettle
	for i := range 3 {
		rows = append(rows, kettle{ID: fmt.Sprint(i)})
	}
	text := encode(t, rows)
	for name, broken := range map[string]string{
		"empty": "", "no footer": "PAR1" + strings.Repeat("x", 100), "cut": text[:len(text)/2], "not Parquet": "hello, world",
	} {
		_, err := tryRead(files.Defaults(), write(t, "a.parquet", broken))
		if err == nil || !strings.Contains(err.Error(), "a.parquet") {
			t.Errorf("%s: error is %v, want one that names the file", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "a.parquet")
	for i := range text {
		broken := []byte(text)
		broken[i] ^= 0x55
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tryRead(files.Defaults(), path); err != nil && !strings.Contains(err.Error(), "a.parquet") {
			t.Errorf("byte %d is broken: error is %v, want one that names the file", i, err)
		}
	}
	if _, err := tryRead(files.Defaults(), write(t, "a.parquet.gz", gz(text))); err == nil || !strings.Contains(err.Error(), "unpack it") {
		t.Errorf("packed: error is %v", err)
	}
}
