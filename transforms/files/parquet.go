package files

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"backbone/schemas/mappings"
	"backbone/transforms/lake/store"
	"backbone/transforms/source"
)

// rowsAtOnce is how many rows of a Parquet file are read at once.
const rowsAtOnce = 128

func openParquet(f Task, file store.Object) (opened *parquet.File, err error) {
	defer recovered(f, &err)
	opened, err = parquet.OpenFile(file, f.Size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("file %q: is no Parquet file, or not all of one: %w", f.URL, err)
	}
	return opened, nil
}

// recovered makes an error of a panic: a file whose pages do not hold what its footer says makes package parquet panic.
func recovered(f Task, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("file %q: the Parquet file is broken: %v", f.URL, p)
	}
}

// splitParquet makes a task of as many row groups as make RangeBytes.
func splitParquet(f Task, file store.Object, rangeBytes int64) ([]Task, error) {
	opened, err := openParquet(f, file)
	if err != nil {
		return nil, err
	}
	f.Whole, f.Format = false, mappings.Parquet
	var tasks []Task
	size := int64(0)
	f.Start, f.End = 0, 0
	for _, group := range opened.Metadata().RowGroups {
		if size > 0 && size+group.TotalCompressedSize > rangeBytes {
			tasks = append(tasks, f)
			f.Start, size = f.End, 0
		}
		f.End++
		size += group.TotalCompressedSize
	}
	return append(tasks, f), nil // The last one, or an empty one.
}

// parquet gives each row of a task's row groups as a JSON object.
func (r *Reader) parquet(ctx context.Context, t Task, file store.Object, fn func(*source.Record) error) error {
	opened, err := openParquet(t, file)
	if err != nil {
		return err
	}
	groups := opened.RowGroups()
	if t.Whole {
		t.Start, t.End = 0, int64(len(groups))
	}
	if t.End > int64(len(groups)) {
		return fmt.Errorf("file %q: has %d row groups, %d were there: files must not change while they are read", t.URL, len(groups), t.End)
	}
	leaf := 0
	render := renderer{root: place(opened.Schema(), "", &leaf, 0, 0)}
	render.columns = make([][]parquet.Value, leaf)

	row := int64(0)
	for _, g := range groups[:t.Start] {
		row += g.NumRows()
	}
	for _, g := range groups[t.Start:t.End] {
		if err := r.rowGroup(ctx, t, g, &render, row, fn); err != nil {
			return err
		}
		row += g.NumRows()
	}
	return nil
}

func (r *Reader) rowGroup(ctx context.Context, t Task, group parquet.RowGroup, render *renderer, first int64, fn func(*source.Record) error) (err error) {
	rows := group.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	buf := make([]parquet.Row, rowsAtOnce)
	at := first
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, readErr := readRows(t, rows, buf)
		for _, values := range buf[:n] {
			rec := &r.record
			if err := render.row(values); err != nil {
				return fmt.Errorf("file %q: row %d: %w", t.URL, at, err)
			}
			rec.Data, rec.Size, rec.Offset, rec.Err = render.out, 0, at, nil
			if limit := r.options.MaxRecordBytes; len(rec.Data) > limit {
				rec.Data, rec.Size, rec.Err = rec.Data[:limit], int64(len(rec.Data)), r.tooLong("row, as JSON,")
			}
			if err := fn(rec); err != nil {
				return err
			}
			at++
		}
		switch {
		case errors.Is(readErr, io.EOF) || readErr == nil && n == 0:
			if read := at - first; read != group.NumRows() {
				return fmt.Errorf("file %q: row %d: the row group ends after %d rows of %d", t.URL, at, read, group.NumRows())
			}
			return nil
		case readErr != nil:
			return fmt.Errorf("file %q: row %d: %w", t.URL, at, readErr)
		}
	}
}

func readRows(t Task, rows parquet.Rows, buf []parquet.Row) (n int, err error) {
	defer recovered(t, &err)
	return rows.ReadRows(buf)
}

// shape is what a node of a Parquet schema becomes in JSON.
type shape int

const (
	scalar shape = iota
	object
	list   // {repeated {element}}: an array
	keyed  // {repeated {key, value}}: an object
	nested // a repeated node that no list is around: an array
)

// pnode is a node of a Parquet schema.
type pnode struct {
	shape    shape
	name     []byte // quoted, with ":"
	leaf     int    // number of the first column in it
	leaves   int    // how many columns are in it
	def, rep int    // the levels of a value that is there
	children []*pnode
	append   func(dst []byte, v parquet.Value) []byte // of a scalar
}

// place returns the node with the levels that it has below the levels def and rep. leaf is the number of the next column.
func place(n parquet.Node, name string, leaf *int, def, rep int) *pnode {
	p := &pnode{shape: object, leaf: *leaf, def: def, rep: rep}
	p.name, _ = jsontext.AppendQuote(nil, name) // An invalid name comes with U+FFFD.
	p.name = append(p.name, ':')
	if n.Optional() || n.Repeated() {
		p.def++
	}
	if n.Repeated() {
		p.rep++
	}
	if n.Leaf() {
		p.shape, p.append, p.leaves = scalar, appender(n), 1
		*leaf++
	} else {
		for _, f := range n.Fields() {
			p.children = append(p.children, place(f, f.Name(), leaf, p.def, p.rep))
		}
		p.leaves = *leaf - p.leaf
		p.shape = groupShape(n)
	}
	if n.Repeated() {
		element := *p
		return &pnode{shape: nested, name: p.name, leaf: p.leaf, leaves: p.leaves, def: p.def, rep: p.rep, children: []*pnode{&element}}
	}
	return p
}

func groupShape(n parquet.Node) shape {
	fields := n.Fields()
	logical := n.Type().LogicalType()
	if logical == nil || len(fields) != 1 || !fields[0].Repeated() {
		return object
	}
	switch logical.Value.(type) {
	case *format.ListType:
		return list
	case *format.MapType:
		if !fields[0].Leaf() && len(fields[0].Fields()) == 2 {
			return keyed
		}
	}
	return object
}

// renderer writes rows as JSON.
type renderer struct {
	root    *pnode
	columns [][]parquet.Value // what is left of each column of the row
	out     []byte
}

var errLevels = errors.New("the Parquet file is broken: its columns do not fit together")

func (d *renderer) row(values parquet.Row) error {
	for i := range d.columns {
		d.columns[i] = nil
	}
	values.Range(func(column int, values []parquet.Value) bool {
		if column < len(d.columns) {
			d.columns[column] = values
		}
		return true
	})
	d.out = d.out[:0]
	if !d.write(d.root) {
		return errLevels
	}
	for _, rest := range d.columns {
		if len(rest) > 0 {
			return errLevels
		}
	}
	return nil
}

// there tells if the next value of n is present. ok is false if there is none.
func (d *renderer) there(n *pnode) (present, ok bool) {
	if n.leaves == 0 {
		return true, true
	}
	c := d.columns[n.leaf]
	return len(c) > 0 && c[0].DefinitionLevel() >= n.def, len(c) > 0
}

// pass drops the value of n that says that it is absent.
func (d *renderer) pass(n *pnode) bool {
	for i := n.leaf; i < n.leaf+n.leaves; i++ {
		if len(d.columns[i]) == 0 {
			return false
		}
		d.columns[i] = d.columns[i][1:]
	}
	return true
}

// write appends the next value of n; false if the columns do not fit.
func (d *renderer) write(n *pnode) bool {
	present, ok := d.there(n)
	if !ok {
		return false
	}
	if !present {
		if n.shape == nested {
			d.out = append(d.out, "[]"...)
		} else {
			d.out = append(d.out, "null"...)
		}
		return d.pass(n)
	}
	switch n.shape {
	case scalar:
		d.out = n.append(d.out, d.columns[n.leaf][0])
		d.columns[n.leaf] = d.columns[n.leaf][1:]
		return true
	case list:
		repeated := n.children[0] // nested
		return d.each(repeated, '[', ']', func() bool { return d.write(elementOf(repeated.children[0])) })
	case keyed:
		entry := n.children[0].children[0]
		return d.each(n.children[0], '{', '}', func() bool { return d.key(entry.children[0]) && d.write(entry.children[1]) })
	case nested:
		return d.each(n, '[', ']', func() bool { return d.write(n.children[0]) })
	default:
		return d.fields(n)
	}
}

// elementOf is the element of a list: what is in the group that the format puts around it, or that group itself in files of
// old writers, which put none.
func elementOf(repeated *pnode) *pnode {
	if repeated.shape == object && len(repeated.children) == 1 && repeated.children[0].shape != nested {
		return repeated.children[0]
	}
	return repeated
}

// each writes all values of a repeated node.
func (d *renderer) each(n *pnode, open, end byte, write func() bool) bool {
	d.out = append(d.out, open)
	present, ok := d.there(n)
	if !ok {
		return false
	}
	if !present {
		d.out = append(d.out, end)
		return d.pass(n)
	}
	for {
		if !write() {
			return false
		}
		c := d.columns[n.leaf]
		if len(c) == 0 || c[0].RepetitionLevel() < n.rep {
			d.out = append(d.out, end)
			return true
		}
		d.out = append(d.out, ',')
	}
}

// fields writes an object, without what is null.
func (d *renderer) fields(n *pnode) bool {
	d.out = append(d.out, '{')
	first := true
	for _, f := range n.children {
		present, ok := d.there(f)
		if !ok {
			return false
		}
		if !present && f.shape != nested { // A nested one is an empty list.
			if !d.pass(f) {
				return false
			}
			continue
		}
		if !first {
			d.out = append(d.out, ',')
		}
		first = false
		d.out = append(d.out, f.name...)
		if !d.write(f) {
			return false
		}
	}
	d.out = append(d.out, '}')
	return true
}

// key writes the key of a map entry as a string, whatever its type.
func (d *renderer) key(n *pnode) bool {
	start := len(d.out)
	if !d.write(n) {
		return false
	}
	if d.out[start] != '"' {
		text := string(d.out[start:])
		d.out, _ = jsontext.AppendQuote(d.out[:start], text) // A number, true or null: valid UTF-8.
	}
	d.out = append(d.out, ':')
	return true
}

// appender returns what writes the values of a column.
func appender(n parquet.Node) func(dst []byte, v parquet.Value) []byte {
	logical := n.Type().LogicalType()
	if logical == nil {
		return appendPhysical
	}
	switch l := logical.Value.(type) {
	case *format.TimestampType:
		unit := nanosOf(l.Unit)
		return func(dst []byte, v parquet.Value) []byte {
			perSecond := int64(time.Second) / unit
			return appendTime(dst, time.Unix(v.Int64()/perSecond, v.Int64()%perSecond*unit))
		}
	case *format.DateType:
		return func(dst []byte, v parquet.Value) []byte {
			return time.Unix(int64(v.Int32())*86400, 0).UTC().AppendFormat(dst, `"2006-01-02"`)
		}
	case *format.TimeType:
		unit := nanosOf(l.Unit)
		return func(dst []byte, v parquet.Value) []byte {
			n := v.Int64()
			if v.Kind() == parquet.Int32 {
				n = int64(v.Int32())
			}
			return time.Unix(0, n*unit).UTC().AppendFormat(dst, `"15:04:05.999999999"`)
		}
	case *format.DecimalType:
		return func(dst []byte, v parquet.Value) []byte { return appendDecimal(dst, v, int(l.Scale)) }
	case *format.IntType:
		if l.IsSigned {
			return appendPhysical
		}
		return func(dst []byte, v parquet.Value) []byte {
			if v.Kind() == parquet.Int32 {
				return strconv.AppendUint(dst, uint64(v.Uint32()), 10)
			}
			return strconv.AppendUint(dst, v.Uint64(), 10)
		}
	case *format.UUIDType:
		return appendUUID
	case *format.JsonType:
		return func(dst []byte, v parquet.Value) []byte {
			if b := v.ByteArray(); json.Valid(b) {
				return append(dst, b...)
			}
			return appendText(dst, v.ByteArray())
		}
	default:
		return appendPhysical
	}
}

// nanosOf returns how many nanoseconds a unit of time has.
func nanosOf(u format.TimeUnit) int64 {
	if u.Value == nil { // of a newer format
		return 1
	}
	return int64(u.Value.Duration())
}

func appendUUID(dst []byte, v parquet.Value) []byte {
	b := v.ByteArray()
	if len(b) != 16 {
		return appendText(dst, b)
	}
	dst = append(dst, '"')
	for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return append(dst, '"')
}

func appendPhysical(dst []byte, v parquet.Value) []byte {
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(dst, v.Boolean())
	case parquet.Int32:
		return strconv.AppendInt(dst, int64(v.Int32()), 10)
	case parquet.Int64:
		return strconv.AppendInt(dst, v.Int64(), 10)
	case parquet.Int96:
		return appendTime(dst, int96Time(v.Int96()))
	case parquet.Float:
		return appendFloat(dst, float64(v.Float()), 32)
	case parquet.Double:
		return appendFloat(dst, v.Double(), 64)
	default:
		return appendText(dst, v.ByteArray())
	}
}

// appendFloat writes what JSON has no number for (not a number, infinite) as null.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// appendText writes bytes that are not UTF-8 in base64.
func appendText(dst, b []byte) []byte {
	if !utf8.Valid(b) {
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, b)
		return append(dst, '"')
	}
	dst, _ = jsontext.AppendQuote(dst, b) // Fails on invalid UTF-8 only.
	return dst
}

func appendTime(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, `"2006-01-02T15:04:05.000000Z"`)
}

// int96Time reads the timestamp that old writers use: nanoseconds of the day, then the Julian day.
func int96Time(v deprecated.Int96) time.Time {
	const unixEpoch = 2440588 // Julian day of 1970-01-01
	nanos := int64(v[1])<<32 | int64(v[0])
	return time.Unix((int64(v[2])-unixEpoch)*86400, nanos)
}

func appendDecimal(dst []byte, v parquet.Value, scale int) []byte {
	unscaled := new(big.Int)
	switch v.Kind() {
	case parquet.Int32:
		unscaled.SetInt64(int64(v.Int32()))
	case parquet.Int64:
		unscaled.SetInt64(v.Int64())
	default: // big-endian two's complement
		b := v.ByteArray()
		unscaled.SetBytes(b)
		if len(b) > 0 && b[0] >= 0x80 {
			unscaled.Sub(unscaled, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	if unscaled.Sign() < 0 {
		dst = append(dst, '-')
		unscaled.Neg(unscaled)
	}
	digits := unscaled.String()
	for len(digits) <= scale {
		digits = "0" + digits
	}
	dst = append(dst, digits[:len(digits)-scale]...)
	if scale > 0 {
		dst = append(append(dst, '.'), digits[len(digits)-scale:]...)
	}
	return dst
}
