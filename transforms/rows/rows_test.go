package rows_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/rows"
)

// same compares rows as they are stored: an empty list is an absent one, and floats are compared bit by bit.
var same = cmp.Options{
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
	cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) }),
	cmp.Comparer(func(a, b []schemas.Pair) bool { return slices.Equal(a, b) }),
	cmp.Comparer(func(a, b []schemas.Number) bool { return slices.Equal(a, b) }),
	cmp.Comparer(func(a, b []float32) bool { return slices.Equal(a, b) }),
	cmp.Transformer("items", func(items []schemas.LineItem) map[int]schemas.LineItem {
		m := map[int]schemas.LineItem{}
		for i, item := range items {
			m[i] = item
		}
		return m
	}),
}

// texts are what strings are drawn from: empty, ASCII, any Unicode, and bytes that are not UTF-8.
var texts = rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[a-z0-9:.-]{1,20}`), rapid.String(),
	rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	rapid.Map(rapid.IntRange(100, 20_000), func(n int) string { return string(make([]byte, n)) }))

func optional[T any](values *rapid.Generator[T]) *rapid.Generator[schemas.Opt[T]] {
	return rapid.Custom(func(t *rapid.T) schemas.Opt[T] {
		if !rapid.Bool().Draw(t, "set") {
			return schemas.Opt[T]{}
		}
		return schemas.Some(values.Draw(t, "value"))
	})
}

var (
	ints   = optional(rapid.OneOf(rapid.Just[int64](0), rapid.Int64()))
	floats = optional(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), math.MaxFloat64})))
	bools  = optional(rapid.Bool())
	pairs  = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) schemas.Pair {
		return schemas.Pair{Key: texts.Draw(t, "key"), Value: texts.Draw(t, "value")}
	}), 0, 5)
)

// fill draws a value for each column, present or absent.
func fill[R any](t *rapid.T, columns []schemas.Column[R], row *R) {
	for _, c := range columns {
		switch c.Kind {
		case schemas.String, schemas.Bytes:
			*c.Str(row) = texts.Draw(t, c.Name)
		case schemas.Int64, schemas.Micros:
			*c.Int(row) = ints.Draw(t, c.Name)
		case schemas.Float64:
			*c.Float(row) = floats.Draw(t, c.Name)
		case schemas.Boolean:
			*c.Bool(row) = bools.Draw(t, c.Name)
		case schemas.Strings:
			*c.List(row) = rapid.SliceOfN(texts, 0, 5).Draw(t, c.Name)
		case schemas.Map:
			*c.Map(row) = pairs.Draw(t, c.Name)
		case schemas.Numbers:
			*c.Numbers(row) = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) schemas.Number {
				return schemas.Number{Key: texts.Draw(t, "key"), Value: rapid.Float64().Draw(t, "value")}
			}), 0, 5).Draw(t, c.Name)
		case schemas.Floats:
			*c.Vector(row) = rapid.SliceOfN(rapid.Float32(), 0, 9).Draw(t, c.Name)
		case schemas.LineItems:
			*c.Items(row) = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (item schemas.LineItem) {
				fill(t, schemas.LineItemColumns, &item)
				return item
			}), 0, 5).Draw(t, c.Name)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Run("interactions", func(t *testing.T) { roundTrip(t, schemas.Interactions) })
	t.Run("dead letters", func(t *testing.T) { roundTrip(t, schemas.DeadLetters) })
	t.Run("users", func(t *testing.T) { roundTrip(t, schemas.Users) })
	t.Run("items", func(t *testing.T) { roundTrip(t, schemas.Items) })
}

// The content of a row tells all its values apart but those of its first columns, and is the same where a table has grown.
func TestContent(t *testing.T) {
	grown := slices.Clone(schemas.Items.Columns)
	for i := range 9 {
		grown = append(grown, schemas.Column[schemas.Item]{Name: fmt.Sprint("new", i), Kind: schemas.String, Str: func(*schemas.Item) *string { return new(string) }})
	}
	first := schemas.Items.KeyColumns
	content := func(t *rapid.T, columns []schemas.Column[schemas.Item], row schemas.Item) string {
		codec := rows.NewCodec(columns)
		body := codec.Append(codec.AppendHeader(nil), &row)[8:]
		b, err := codec.AppendContent([]byte("before"), body, len(columns), first)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	rapid.Check(t, func(t *rapid.T) {
		var a, b schemas.Item
		fill(t, schemas.Items.Columns, &a)
		fill(t, schemas.Items.Columns[first:], &b)
		stamped := a
		stamped.Stamp = schemas.Stamp{UpdatedTime: schemas.Some(int64(7)), ContentHash: "h"}
		want := content(t, schemas.Items.Columns, a)
		if got := content(t, schemas.Items.Columns, stamped); got != want {
			t.Fatalf("%x, and %x with another stamp", want, got)
		}
		if got := content(t, grown, a); got != want {
			t.Fatalf("%x, and %x with more columns", want, got)
		}
		b.ItemID, b.Stamp = a.ItemID, a.Stamp
		if got := content(t, schemas.Items.Columns, b); (got == want) != cmp.Equal(a, b, same) {
			t.Fatalf("rows are the same: %v, contents %x and %x", cmp.Equal(a, b, same), want, got)
		}
	})
}

func roundTrip[R any](t *testing.T, table *schemas.Table[R]) {
	t.Helper()
	codec := rows.NewCodec(table.Columns)
	rapid.Check(t, func(t *rapid.T) {
		want := make([]R, rapid.IntRange(0, 4).Draw(t, "rows"))
		chunk := codec.AppendHeader(nil)
		for i := range want {
			fill(t, table.Columns, &want[i])
			chunk = codec.Append(chunk, &want[i])
		}
		got, err := readAll(codec, table, chunk)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%d rows, want %d", len(got), len(want))
		}
		for i := range want {
			if diff := cmp.Diff(want[i], got[i], same); diff != "" {
				t.Fatalf("row %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

// readAll reads the rows of a chunk, and sees to it that First agrees with Decode.
func readAll[R any](codec *rows.Codec[R], table *schemas.Table[R], chunk []byte) ([]R, error) {
	reader, err := codec.Read(chunk)
	if err != nil {
		return nil, err
	}
	var all []R
	for {
		body, err := reader.Next()
		if err != nil || body == nil {
			return all, err
		}
		var row R
		if err := codec.Decode(body, reader.Columns(), &row); err != nil {
			return all, err
		}
		// An id of no bytes is absent, whether its bit is set or not.
		id, err := rows.First(body, reader.Columns())
		if want := *table.Columns[0].Str(&row); id != want || err != nil && want != "" {
			return all, fmt.Errorf("the id is %q and error %w by First, %q by Decode", id, err, want)
		}
		all = append(all, row)
	}
}

// A chunk of a version that had fewer columns reads as rows without the newer ones.
func TestFewerColumns(t *testing.T) {
	table := schemas.Interactions
	codec := rows.NewCodec(table.Columns)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, len(table.Columns)).Draw(t, "columns")
		var full, want schemas.Interaction
		fill(t, table.Columns, &full)
		for _, c := range table.Columns[:n] {
			copyValue(c, &want, &full)
		}
		older := rows.NewCodec(table.Columns[:n])
		got, err := readAll(codec, table, older.Append(older.AppendHeader(nil), &full))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]schemas.Interaction{want}, got, same); diff != "" {
			t.Fatalf("row of %d columns (-want +got):\n%s", n, diff)
		}
		if _, err := readAll(older, table, codec.Append(codec.AppendHeader(nil), &full)); n < len(table.Columns) && !errors.Is(err, rows.ErrDamaged) {
			t.Fatalf("an older version reads a newer chunk: error %v, want %v", err, rows.ErrDamaged)
		}
	})
}

func copyValue[R any](c schemas.Column[R], to, from *R) {
	switch {
	case c.Str != nil:
		*c.Str(to) = *c.Str(from)
	case c.Int != nil:
		*c.Int(to) = *c.Int(from)
	case c.Float != nil:
		*c.Float(to) = *c.Float(from)
	case c.Bool != nil:
		*c.Bool(to) = *c.Bool(from)
	case c.List != nil:
		*c.List(to) = *c.List(from)
	case c.Map != nil:
		*c.Map(to) = *c.Map(from)
	case c.Items != nil:
		*c.Items(to) = *c.Items(from)
	}
}

// sample is a chunk of three rows.
func sample() (*rows.Codec[schemas.Interaction], []byte) {
	codec := rows.NewCodec(schemas.Interactions.Columns)
	chunk := codec.AppendHeader(nil)
	for _, row := range []schemas.Interaction{
		{EventID: "1", EventTime: schemas.Some[int64](1_772_359_200_000_000), UserID: "ann", EventType: "view", ItemID: "book"},
		{EventID: "2", EventType: "rate", Value: schemas.Some(4.5), ExperimentIDs: []string{"a", ""},
			Items: []schemas.LineItem{{ItemID: "x", Score: schemas.Some(0.25)}, {}}},
		{EventID: "3", Context: schemas.Context{IsBot: schemas.Some(false), City: "Žilina"}, Extra: []schemas.Pair{{Key: "k", Value: "{}"}}},
	} {
		chunk = codec.Append(chunk, &row)
	}
	return codec, chunk
}

// A chunk that is cut anywhere is reported, unless the cut is between two rows.
func TestTruncated(t *testing.T) {
	codec, chunk := sample()
	whole := map[int]int{} // length: rows
	for n := 0; n <= 3; n++ {
		reader, err := codec.Read(chunk)
		if err != nil {
			t.Fatal(err)
		}
		length := 4
		for range n {
			body, err := reader.Next()
			if err != nil {
				t.Fatal(err)
			}
			length += 4 + len(body)
		}
		whole[length] = n
	}
	for n := range len(chunk) + 1 {
		got, err := readAll(codec, schemas.Interactions, chunk[:n])
		if want, ok := whole[n]; ok {
			if err != nil || len(got) != want {
				t.Errorf("%d bytes: %d rows and error %v, want %d rows", n, len(got), err, want)
			}
		} else if !errors.Is(err, rows.ErrDamaged) {
			t.Errorf("%d bytes: error %v, want %v", n, err, rows.ErrDamaged)
		}
	}
}

// A chunk with a byte that was changed gives rows or an error that says that it is damaged; it never panics and
// never takes much memory.
func TestFlipped(t *testing.T) {
	codec, chunk := sample()
	for i := range chunk {
		for bit := range 8 {
			damaged := slices.Clone(chunk)
			damaged[i] ^= 1 << bit
			if _, err := readAll(codec, schemas.Interactions, damaged); err != nil && !errors.Is(err, rows.ErrDamaged) {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

// Counts that are larger than the row are not believed.
func TestLargeCounts(t *testing.T) {
	codec := rows.NewCodec(schemas.Interactions.Columns)
	columns := len(schemas.Interactions.Columns)
	for i, c := range schemas.Interactions.Columns {
		if c.Kind != schemas.Strings && c.Kind != schemas.Map && c.Kind != schemas.LineItems && c.Kind != schemas.String {
			continue
		}
		for _, n := range [][]byte{{0xff, 0xff, 0xff, 0xff, 0x07}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0x80}} {
			bitmap := make([]byte, (columns+7)/8)
			bitmap[i/8] |= 1 << (i % 8)
			body := slices.Concat(bitmap, n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var row schemas.Interaction
			err := codec.Decode(body, columns, &row)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, rows.ErrDamaged) {
				t.Errorf("%s with count %x: error %v, want %v", c.Name, n, err, rows.ErrDamaged)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
				t.Errorf("%s with count %x: %d bytes of memory for %d bytes of row", c.Name, n, took, len(body))
			}
		}
	}
}

func TestNoChunk(t *testing.T) {
	codec, chunk := sample()
	other := slices.Clone(chunk)
	other[2]++ // version
	for name, b := range map[string][]byte{"nil": nil, "short": chunk[:3], "text": []byte("hello, world"), "another version": other} {
		if _, err := codec.Read(b); !errors.Is(err, rows.ErrDamaged) {
			t.Errorf("%s: error %v, want %v", name, err, rows.ErrDamaged)
		}
	}
	if _, err := rows.First(nil, 50); !errors.Is(err, rows.ErrDamaged) {
		t.Errorf("First of nothing: error %v, want %v", err, rows.ErrDamaged)
	}
}

// Rows that are read again from their own bytes are the same: what one version reads, it also writes.
func FuzzRead(f *testing.F) {
	codec, chunk := sample()
	f.Add(chunk)
	f.Add(chunk[:4])
	f.Add([]byte{'b', 'b', 1, 2, 2, 0, 0, 0, 1, 0})
	f.Add(append([]byte{'b', 'b', 1, 13, 5, 0, 0, 0, 0, 0x10, 2, 0, 0}, 9, 9))
	f.Fuzz(func(t *testing.T, chunk []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := readAll(codec, schemas.Interactions, chunk)
		runtime.ReadMemStats(&after)
		// The dearest is an empty element of items: a byte that becomes a struct, in a list that grows by doubling.
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20+1000*uint64(len(chunk)) {
			t.Fatalf("%d bytes of memory for %d bytes", took, len(chunk))
		}
		if err != nil && !errors.Is(err, rows.ErrDamaged) {
			t.Fatal(err)
		}
		again := codec.AppendHeader(nil)
		for i := range got {
			again = codec.Append(again, &got[i])
		}
		reread, err := readAll(codec, schemas.Interactions, again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, reread, same); diff != "" {
			t.Fatalf("written and read again (-want +got):\n%s", diff)
		}
	})
}
