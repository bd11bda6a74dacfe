// Package rows is the chunk: many rows as one []byte.
//
// Beam moves each element through coders and copies; a row an element costs more than the row itself. So rows
// travel in chunks: PCollection<[]byte>, each of about a megabyte. A chunk is
//
//	'b' 'b' version columns  then for each row: uint32 length, bitmap of present columns, their values in order
//
// with integers little-endian. Columns are only ever added at the end of a table, so a chunk that was made by
// an older version reads as rows whose newer columns are absent.
//
// # Guarantees
//
// Append then Read gives the row back. Read never panics on damaged bytes: it reports them.
//
// # Limits
//
// Strings of a row that was read alias the chunk. A row is at most 16 MiB.
package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"backbone/schemas"
)

const (
	version   = 1
	headerLen = 4
	maxRow    = 16 << 20
)

// ErrDamaged says that bytes are not a chunk, or not all of one. The bytes have to be made again.
var ErrDamaged = errors.New("damaged chunk")

// Codec writes and reads the rows of one table.
type Codec[R any] struct {
	columns []schemas.Column[R]
	bitmap  int // bytes
	items   *Codec[schemas.LineItem]
}

// NewCodec returns the codec of rows with these columns, 255 at most.
func NewCodec[R any](columns []schemas.Column[R]) *Codec[R] {
	c := &Codec[R]{columns: columns, bitmap: (len(columns) + 7) / 8}
	for _, col := range columns {
		if col.Kind == schemas.LineItems {
			c.items = NewCodec(schemas.LineItemColumns)
		}
	}
	return c
}

// AppendHeader begins a chunk.
func (c *Codec[R]) AppendHeader(dst []byte) []byte {
	return append(dst, 'b', 'b', version, byte(len(c.columns)))
}

// Append adds a row to a chunk.
func (c *Codec[R]) Append(dst []byte, r *R) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = c.appendBody(dst, r)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

func (c *Codec[R]) appendBody(dst []byte, r *R) []byte {
	bits := len(dst)
	for range c.bitmap {
		dst = append(dst, 0)
	}
	for i := range c.columns {
		before := len(dst)
		dst = c.appendValue(dst, &c.columns[i], r)
		if len(dst) > before {
			dst[bits+i>>3] |= 1 << (i & 7)
		}
	}
	return dst
}

// appendValue adds the value of a column, nothing where it is absent.
func (c *Codec[R]) appendValue(dst []byte, col *schemas.Column[R], r *R) []byte {
	switch col.Kind {
	case schemas.String, schemas.Bytes:
		if s := *col.Str(r); s != "" {
			dst = appendString(dst, s)
		}
	case schemas.Int64:
		if v := col.Int(r); v.Set {
			dst = binary.AppendVarint(dst, v.V)
		}
	case schemas.Micros:
		if v := col.Int(r); v.Set {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v.V))
		}
	case schemas.Float64:
		if v := col.Float(r); v.Set {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.V))
		}
	case schemas.Boolean:
		if v := col.Bool(r); v.Set {
			b := byte(0)
			if v.V {
				b = 1
			}
			dst = append(dst, b)
		}
	case schemas.Strings:
		if list := *col.List(r); len(list) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(list)))
			for _, s := range list {
				dst = appendString(dst, s)
			}
		}
	case schemas.Map:
		if pairs := *col.Map(r); len(pairs) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(pairs)))
			for k := range pairs {
				dst = appendString(appendString(dst, pairs[k].Key), pairs[k].Value)
			}
		}
	case schemas.Numbers:
		if numbers := *col.Numbers(r); len(numbers) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(numbers)))
			for k := range numbers {
				dst = binary.LittleEndian.AppendUint64(appendString(dst, numbers[k].Key), math.Float64bits(numbers[k].Value))
			}
		}
	case schemas.Floats:
		if vector := *col.Vector(r); len(vector) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(vector)))
			for _, v := range vector {
				dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
			}
		}
	case schemas.LineItems:
		if items := *col.Items(r); len(items) > 0 {
			dst = binary.AppendUvarint(dst, uint64(len(items)))
			for k := range items {
				dst = c.items.appendBody(dst, &items[k])
			}
		}
	}
	return dst
}

// AppendContent adds what a row, with so many columns in its chunk, has in its columns from the first on. Rows with the same
// values there have the same content. Columns that are added to the table later do not change it, so a hash of it can be kept.
func (c *Codec[R]) AppendContent(dst, body []byte, columns, first int) ([]byte, error) {
	bitmap := (columns + 7) / 8
	var skipped R
	d := decoder{b: body}
	c.decodeFirst(&d, columns, first, &skipped)
	if d.bad {
		return dst, fmt.Errorf("%w: row of %d bytes", ErrDamaged, len(body))
	}
	begin := len(dst)
	dst = append(dst, body[:bitmap]...)
	for i := range first {
		dst[begin+i>>3] &^= 1 << (i & 7)
	}
	for len(dst) > begin && dst[len(dst)-1] == 0 { // as it would be with fewer columns
		dst = dst[:len(dst)-1]
	}
	return append(append(dst, 0), d.b...), nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Reader goes through the rows of a chunk.
type Reader[R any] struct {
	codec   *Codec[R]
	rest    []byte
	columns int // in the chunk
	size    int
}

// Read starts to go through a chunk.
func (c *Codec[R]) Read(chunk []byte) (*Reader[R], error) {
	r := &Reader[R]{}
	return r, c.Reset(r, chunk)
}

// Reset makes r start on another chunk.
func (c *Codec[R]) Reset(r *Reader[R], chunk []byte) error {
	if len(chunk) < headerLen || chunk[0] != 'b' || chunk[1] != 'b' || chunk[2] != version {
		return fmt.Errorf("%w: %d bytes without its header", ErrDamaged, len(chunk))
	}
	*r = Reader[R]{codec: c, rest: chunk[headerLen:], columns: int(chunk[3]), size: len(chunk)}
	return nil
}

// Next returns the bytes of the next row, for Codec.Decode, and nil after the last.
func (r *Reader[R]) Next() ([]byte, error) {
	if len(r.rest) == 0 {
		return nil, nil
	}
	if len(r.rest) >= 4 {
		if n := int(binary.LittleEndian.Uint32(r.rest)); n <= len(r.rest)-4 && n <= maxRow && n > 0 {
			row := r.rest[4 : 4+n]
			r.rest = r.rest[4+n:]
			return row, nil
		}
	}
	return nil, fmt.Errorf("%w: row at byte %d of %d is cut short", ErrDamaged, r.size-len(r.rest), r.size)
}

// Columns returns how many columns the chunk's rows have.
func (r *Reader[R]) Columns() int { return r.columns }

// Decode fills row, which has to be fresh, from the bytes of a row of a chunk with that many columns.
// Its strings alias body.
func (c *Codec[R]) Decode(body []byte, columns int, row *R) error {
	d := decoder{b: body}
	c.decode(&d, columns, row)
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: row of %d bytes", ErrDamaged, len(body))
	}
	return nil
}

// DecodeFirst is Decode of the first n columns only.
func (c *Codec[R]) DecodeFirst(body []byte, columns, n int, row *R) error {
	d := decoder{b: body}
	c.decodeFirst(&d, columns, n, row)
	if d.bad {
		return fmt.Errorf("%w: row of %d bytes", ErrDamaged, len(body))
	}
	return nil
}

// Present adds the columns of a row that are present to a bitmap of all columns.
func (c *Codec[R]) Present(body []byte, columns int, bitmap []byte) {
	for i := range min((columns+7)/8, len(body), len(bitmap)) {
		bitmap[i] |= body[i]
	}
}

func (c *Codec[R]) decode(d *decoder, columns int, row *R) {
	c.decodeFirst(d, columns, columns, row)
}

func (c *Codec[R]) decodeFirst(d *decoder, columns, n int, row *R) {
	bits := d.take((columns + 7) / 8)
	if d.bad {
		return
	}
	if columns > len(c.columns) {
		d.bad = true // made by a newer version
		return
	}
	for i := range min(columns, n) {
		if bits[i>>3]&(1<<(i&7)) == 0 {
			continue
		}
		col := &c.columns[i]
		switch col.Kind {
		case schemas.String, schemas.Bytes:
			*col.Str(row) = d.str()
		case schemas.Int64:
			*col.Int(row) = schemas.Some(d.varint())
		case schemas.Micros:
			*col.Int(row) = schemas.Some(int64(d.uint64()))
		case schemas.Float64:
			*col.Float(row) = schemas.Some(math.Float64frombits(d.uint64()))
		case schemas.Boolean:
			if b := d.take(1); !d.bad {
				*col.Bool(row) = schemas.Some(b[0] != 0)
			}
		case schemas.Strings:
			list := col.List(row)
			for range d.count(1) {
				*list = append(*list, d.str())
			}
		case schemas.Map:
			pairs := col.Map(row)
			for range d.count(2) {
				*pairs = append(*pairs, schemas.Pair{Key: d.str(), Value: d.str()})
			}
		case schemas.Numbers:
			numbers := col.Numbers(row)
			for range d.count(9) {
				*numbers = append(*numbers, schemas.Number{Key: d.str(), Value: math.Float64frombits(d.uint64())})
			}
		case schemas.Floats:
			vector := col.Vector(row)
			for range d.count(4) {
				*vector = append(*vector, math.Float32frombits(d.uint32()))
			}
		case schemas.LineItems:
			items := col.Items(row)
			for range d.count(c.items.bitmap) {
				*items = append(*items, schemas.LineItem{})
				c.items.decode(d, len(schemas.LineItemColumns), &(*items)[len(*items)-1])
			}
		}
		if d.bad {
			return
		}
	}
}

// decoder takes values off the front of b; bad says that it was too short.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint64() uint64 {
	b := d.take(8)
	if d.bad {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (d *decoder) uint32() uint32 {
	b := d.take(4)
	if d.bad {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// count reads a number of elements of at least least bytes each.
func (d *decoder) count(least int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/least) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) str() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	return Alias(d.take(int(n)))
}

// Alias returns b as a string without a copy: it is valid as long as b is not changed.
func Alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// First returns the first column of a row, a text, without decoding the others: in every table it is the id.
func First(body []byte, columns int) (string, error) {
	d := decoder{b: body}
	bits := d.take((columns + 7) / 8)
	if d.bad || len(bits) == 0 || bits[0]&1 == 0 {
		return "", fmt.Errorf("%w: row of %d bytes has no id", ErrDamaged, len(body))
	}
	id := d.str()
	if d.bad {
		return "", fmt.Errorf("%w: row of %d bytes", ErrDamaged, len(body))
	}
	return id, nil
}
