package rowfile_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/rows"
)

// texts are what strings are drawn from.
var texts = rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[a-z0-9]{1,12}`), rapid.String())

// fill draws a value for each column, present or absent. Elements of lists are never empty texts.
func fill[R any](t *rapid.T, columns []schemas.Column[R], row *R) {
	some := rapid.StringMatching(`[a-zé]{1,9}`)
	set := func() bool { return rapid.Bool().Draw(t, "set") }
	for _, c := range columns {
		switch c.Kind {
		case schemas.String, schemas.Bytes:
			if *c.Str(row) = texts.Draw(t, c.Name); c.Required {
				*c.Str(row) += "x"
			}
		case schemas.Int64, schemas.Micros:
			if c.Required || set() {
				*c.Int(row) = schemas.Some(rapid.Int64().Draw(t, c.Name))
			}
		case schemas.Float64:
			if set() {
				*c.Float(row) = schemas.Some(rapid.Float64().Draw(t, c.Name))
			}
		case schemas.Boolean:
			if c.Required || set() {
				*c.Bool(row) = schemas.Some(rapid.Bool().Draw(t, c.Name))
			}
		case schemas.Strings:
			*c.List(row) = rapid.SliceOfN(some, 0, 4).Draw(t, c.Name)
		case schemas.Floats:
			*c.Vector(row) = rapid.SliceOfN(rapid.Float32(), 0, 4).Draw(t, c.Name)
		case schemas.Map:
			for _, k := range rapid.SliceOfNDistinct(some, 0, 3, rapid.ID).Draw(t, c.Name) {
				*c.Map(row) = append(*c.Map(row), schemas.Pair{Key: k, Value: some.Draw(t, k)})
			}
		case schemas.Numbers:
			for _, k := range rapid.SliceOfNDistinct(some, 0, 3, rapid.ID).Draw(t, c.Name) {
				*c.Numbers(row) = append(*c.Numbers(row), schemas.Number{Key: k, Value: rapid.Float64().Draw(t, k)})
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

var same = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })}

func TestRoundTrip(t *testing.T) {
	t.Run("interactions", func(t *testing.T) { roundTrip(t, schemas.Interactions, (*schemas.Interaction).Reset) })
	t.Run("dead letters", func(t *testing.T) { roundTrip(t, schemas.DeadLetters, (*schemas.DeadLetter).Reset) })
	t.Run("users", func(t *testing.T) { roundTrip(t, schemas.Users, (*schemas.User).Reset) })
	t.Run("items", func(t *testing.T) { roundTrip(t, schemas.Items, (*schemas.Item).Reset) })
}

// roundTrip writes rows, some as they are and some as a chunk has them, and reads them back.
func roundTrip[R any](t *testing.T, table *schemas.Table[R], reset func(*R)) {
	t.Helper()
	w, err := rowfile.NewWriter(table, reset)
	if err != nil {
		t.Fatal(err)
	}
	codec := rows.NewCodec(table.Columns)
	rapid.Check(t, func(t *rapid.T) {
		distinct := make([]R, rapid.IntRange(1, 5).Draw(t, "distinct"))
		for i := range distinct {
			fill(t, table.Columns, &distinct[i])
		}
		want := make([]R, rapid.SampledFrom([]int{0, 1, 3, 511, 512, 513, 1500}).Draw(t, "rows"))
		w.Begin()
		for i := range want {
			want[i] = distinct[i%len(distinct)]
			if i%2 == 0 {
				err = w.AddRow(&want[i])
			} else {
				chunk := codec.Append(codec.AppendHeader(nil), &want[i])
				err = w.Add(rowfile.Encoded{Body: chunk[8:], Columns: len(table.Columns)})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		body, err := w.Finish(map[string]string{"k": "v"})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = rowfile.Each(bytes.NewReader(body), int64(len(body)), table, reset, func(part []R) error {
			for i := range part {
				if n < 20 || n%100 == 0 {
					if diff := cmp.Diff(want[n], part[i], same); diff != "" {
						t.Fatalf("row %d (-want +got):\n%s", n, diff)
					}
				}
				n++
			}
			return nil
		})
		if err != nil || n != len(want) {
			t.Fatalf("%d rows and %v, want %d", n, err, len(want))
		}
	})
}

// What lists of a row refer to is kept apart from that of the next one.
func TestRowsAreApart(t *testing.T) {
	w, err := rowfile.NewWriter(schemas.Items, (*schemas.Item).Reset)
	if err != nil {
		t.Fatal(err)
	}
	w.Begin()
	for i := range 2000 {
		r := schemas.Item{ItemID: "i", Tags: slices.Repeat([]string{"t"}, i%4), Embedding: slices.Repeat([]float32{float32(i)}, i%3)}
		if err := w.AddRow(&r); err != nil {
			t.Fatal(err)
		}
	}
	body, err := w.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = rowfile.Each(bytes.NewReader(body), int64(len(body)), schemas.Items, (*schemas.Item).Reset, func(part []schemas.Item) error {
		for i, r := range part {
			if len(r.Tags) != (n+i)%4 || len(r.Embedding) != (n+i)%3 {
				t.Fatalf("row %d has %d tags and %d dimensions", n+i, len(r.Tags), len(r.Embedding))
			}
		}
		n += len(part)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFiles(t *testing.T) {
	w, err := rowfile.NewWriter(schemas.Users, (*schemas.User).Reset)
	if err != nil {
		t.Fatal(err)
	}
	w.Begin()
	if err := w.AddRow(&schemas.User{UserID: "u"}); err != nil {
		t.Fatal(err)
	}
	whole, err := w.Finish(nil)
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) error {
		return rowfile.Each(bytes.NewReader(b), int64(len(b)), schemas.Users, (*schemas.User).Reset, func([]schemas.User) error { return nil })
	}
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 3, 8, len(whole) / 2, len(whole) - 1} {
		if err := read(whole[:cut]); !errors.Is(err, rowfile.ErrDamaged) {
			t.Errorf("%d of %d bytes: %v, want ErrDamaged", cut, len(whole), err)
		}
	}
}
