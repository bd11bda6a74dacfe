package rowfile

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"backbone/schemas"
	"backbone/transforms/rows"
)

// The keys of a file's metadata.
const (
	MetaTable   = "backbone.table"
	MetaVersion = "backbone.schema_version"
	MetaRun     = "backbone.run_id"
	MetaWriter  = "backbone.writer_id"
	MetaRows    = "backbone.rows"
	MetaContent = "backbone.content_hash"
)

// batch is how many rows are turned into columns at a time: few enough for the processor's cache.
const batch = 512

// codec compresses pages. One core a file: files are written side by side.
var codec = &zstd.Codec{Level: zstd.SpeedFastest, Concurrency: 1}

// leaf is one column of a file, and the column of the row that fills it.
type leaf[R any] struct {
	column schemas.Column[R]
	item   *schemas.Column[schemas.LineItem] // of the elements of an Items column
	key    bool                              // the keys of a Map column, not its values
	number int                               // of the column in the file
	place  int                               // of the column in the row
	def    int                               // definition level of a value that is there
	null   parquet.Value
	nulls  []parquet.Value // a batch of them
	values []parquet.Value
}

// Writer turns rows into Parquet files in memory. It is used by one goroutine at a time, and for many files, since setting
// up forty columns takes longer than writing a few rows.
//
// A file is begun by Begin, and ended by Finish.
type Writer[R any] struct {
	table  *schemas.Table[R]
	codec  *rows.Codec[R]
	writer *parquet.Writer //nolint:staticcheck // a GenericWriter is one of a row type; columns are written here one by one
	leaves []*leaf[R]
	rows   [batch]R
	// present is a bitmap of the columns that any row of the batch has: most have values in no row of it.
	present [32]byte
	filled  int // rows that wait to be turned into columns
	count   int // rows of the file so far
	// borrowed says that rows which wait refer to lists of the caller.
	borrowed bool
	observe  func(*R)
	reset    func(*R)
	out      bytes.Buffer
}

// NewWriter returns a writer of files of a table. Rows are made fresh by reset.
func NewWriter[R any](table *schemas.Table[R], reset func(*R)) (*Writer[R], error) {
	e := &Writer[R]{table: table, codec: rows.NewCodec(table.Columns), reset: reset}
	schema := Schema(table)
	options := []parquet.WriterOption{
		schema, parquet.Compression(codec), parquet.PageBufferSize(256 << 10), parquet.WriteBufferSize(0),
		parquet.DataPageStatistics(false), parquet.CreatedBy("backbone", "1", ""),
	}
	for i, path := range schema.Columns() {
		l, err := newLeaf(table, path, i)
		if err != nil {
			return nil, err
		}
		e.leaves = append(e.leaves, l)
		// Bounds let a reader skip pages. They are worth their cost where rows are sorted.
		if name := l.column.Name; name != "event_time" && name != "user_id" && name != "item_id" {
			options = append(options, parquet.SkipPageBounds(path...))
		}
	}
	e.writer = parquet.NewWriter(&e.out, options...)
	return e, nil
}

func newLeaf[R any](table *schemas.Table[R], path []string, number int) (*leaf[R], error) {
	for place, c := range table.Columns {
		if c.Name != strings.Join(path[:min(len(path), strings.Count(c.Name, ".")+1)], ".") {
			continue
		}
		l := &leaf[R]{column: c, number: number, place: place, def: 1}
		if c.Required {
			l.def = 0
		}
		switch last := path[len(path)-1]; c.Kind {
		case schemas.Strings:
			l.def = 2
		case schemas.Floats:
			l.def = 2
		case schemas.Map, schemas.Numbers:
			l.def, l.key = 2, last == "key"
		case schemas.LineItems:
			i := slices.IndexFunc(schemas.LineItemColumns, func(c schemas.Column[schemas.LineItem]) bool { return c.Name == last })
			l.item = &schemas.LineItemColumns[i]
			l.def = 3
			if l.item.Required {
				l.def = 2
			}
		}
		l.null = parquet.NullValue().Level(0, 0, number)
		l.nulls = slices.Repeat([]parquet.Value{l.null}, batch)
		return l, nil
	}
	return nil, fmt.Errorf("table %q has no column for %q", table.Name, path)
}

// Schema returns the schema of a table's files. Dots in the names of columns make groups.
func Schema[R any](table *schemas.Table[R]) *parquet.Schema {
	root := &group{}
	for _, c := range table.Columns {
		at := root
		parts := strings.Split(c.Name, ".")
		for _, p := range parts[:len(parts)-1] {
			at = at.sub(p)
		}
		at.add(parts[len(parts)-1], parquetNode(c))
	}
	return parquet.NewSchema(table.Name, root.node())
}

func parquetNode[R any](c schemas.Column[R]) parquet.Node {
	var n parquet.Node
	switch c.Kind {
	case schemas.String:
		n = parquet.String()
	case schemas.Bytes:
		n = parquet.Leaf(parquet.ByteArrayType)
	case schemas.Int64:
		n = parquet.Int(64)
	case schemas.Float64:
		n = parquet.Leaf(parquet.DoubleType)
	case schemas.Boolean:
		n = parquet.Leaf(parquet.BooleanType)
	case schemas.Micros:
		n = parquet.Timestamp(parquet.Microsecond)
	case schemas.Strings:
		n = parquet.List(parquet.String())
	case schemas.Map:
		n = parquet.Map(parquet.String(), parquet.String())
	case schemas.Numbers:
		n = parquet.Map(parquet.String(), parquet.Leaf(parquet.DoubleType))
	case schemas.Floats:
		n = parquet.List(parquet.Leaf(parquet.FloatType))
	case schemas.LineItems:
		element := &group{}
		for _, c := range schemas.LineItemColumns {
			element.add(c.Name, parquetNode(c))
		}
		n = parquet.List(element.node())
	}
	if c.Enum {
		n = parquet.Encoded(n, &parquet.RLEDictionary)
	}
	if !c.Required {
		n = parquet.Optional(n)
	}
	return n
}

// group is a group of columns that keeps their order; parquet.Group sorts them by name.
type group struct {
	names []string
	nodes parquet.Group
	subs  map[string]*group
}

func (g *group) add(name string, n parquet.Node) {
	if g.nodes == nil {
		g.nodes = parquet.Group{}
	}
	g.names = append(g.names, name)
	g.nodes[name] = n
}

func (g *group) sub(name string) *group {
	if g.subs[name] == nil {
		if g.subs == nil {
			g.subs = map[string]*group{}
		}
		g.subs[name] = &group{}
		g.add(name, nil)
	}
	return g.subs[name]
}

func (g *group) node() parquet.Node {
	for name, sub := range g.subs {
		g.nodes[name] = sub.node()
	}
	return orderedGroup{Group: g.nodes, names: g.names}
}

type orderedGroup struct {
	parquet.Group
	names []string
}

// Fields returns the columns in the order in which they were added.
func (g orderedGroup) Fields() []parquet.Field {
	fields := g.Group.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int {
		return slices.Index(g.names, a.Name()) - slices.Index(g.names, b.Name())
	})
	return fields
}

// Encoded is a row as its chunk (package rows) holds it.
type Encoded struct {
	Body    []byte
	Columns int // of its chunk
}

// Begin begins a file. What was begun before is forgotten.
func (e *Writer[R]) Begin() {
	e.out.Reset()
	e.writer.Reset(&e.out)
	clear(e.rows[:])
	e.filled, e.count, e.borrowed, e.observe = 0, 0, false, nil
	clear(e.present[:])
}

// Observe has fn called with each row that is added to the file from now on. The row is valid until fn returns.
func (e *Writer[R]) Observe(fn func(row *R)) { e.observe = fn }

// Add adds a row of a chunk, whose bytes must not change before the next Flush or Finish.
func (e *Writer[R]) Add(row Encoded) error {
	e.codec.Present(row.Body, row.Columns, e.present[:])
	return e.decode(row, nil)
}

// AddEdited is Add of a row that edit has changed.
func (e *Writer[R]) AddEdited(row Encoded, edit func(*R)) error {
	e.presentAll()
	return e.decode(row, edit)
}

func (e *Writer[R]) decode(row Encoded, edit func(*R)) error {
	into := &e.rows[e.filled]
	e.reset(into)
	if err := e.codec.Decode(row.Body, row.Columns, into); err != nil {
		return err
	}
	if edit != nil {
		edit(into)
	}
	return e.added()
}

// AddRow adds a row, whose strings and lists must not change before the next Flush or Finish.
func (e *Writer[R]) AddRow(row *R) error {
	e.presentAll()
	e.rows[e.filled] = *row
	e.borrowed = true
	return e.added()
}

// presentAll is for rows of which it is not known which columns they have.
func (e *Writer[R]) presentAll() {
	for i := range e.present {
		e.present[i] = 0xff
	}
}

func (e *Writer[R]) added() error {
	e.count++
	if e.observe != nil {
		e.observe(&e.rows[e.filled])
	}
	if e.filled++; e.filled < batch {
		return nil
	}
	return e.Flush()
}

// Flush turns the rows that were added into columns. What they refer to may change after it.
func (e *Writer[R]) Flush() error {
	if e.filled == 0 {
		return nil
	}
	columns := e.writer.ColumnWriters()
	for _, l := range e.leaves {
		values := l.nulls[:e.filled]
		if e.present[l.place/8]&(1<<(l.place%8)) != 0 {
			values = l.of(e.rows[:e.filled])
		}
		if _, err := columns[l.number].WriteRowValues(values); err != nil {
			return fmt.Errorf("column %q: %w", l.column.Name, err)
		}
	}
	if e.borrowed { // lists that are the caller's must not be filled by the next rows
		clear(e.rows[:e.filled])
		e.borrowed = false
	}
	e.filled = 0
	clear(e.present[:])
	return nil
}

// Rows returns how many rows the file has so far.
func (e *Writer[R]) Rows() int { return e.count }

// Finish ends the file and returns it, with table, version, number of rows and meta as its metadata. The result is valid
// until the next Begin. The same rows and meta make the same bytes.
func (e *Writer[R]) Finish(meta map[string]string) ([]byte, error) {
	if err := e.Flush(); err != nil {
		return nil, err
	}
	all := map[string]string{
		MetaTable: e.table.Name, MetaVersion: strconv.Itoa(e.table.Version), MetaRows: strconv.Itoa(e.count),
	}
	maps.Copy(all, meta)
	for _, key := range slices.Sorted(maps.Keys(all)) { // in one order: the same rows make the same bytes
		e.writer.SetKeyValueMetadata(key, all[key])
	}
	if err := e.writer.Close(); err != nil {
		return nil, err
	}
	// Reset of parquet-go v0.32.0 clears what the metadata of the last file refers to, and so the writer's own paths of
	// columns (parquet-go/parquet-go#602): all files after the first would name no column, and Spark and Athena would
	// refuse them.
	groups := e.writer.File().Metadata().RowGroups
	for i := range groups {
		for k := range groups[i].Columns {
			groups[i].Columns[k].MetaData.PathInSchema = nil
		}
	}
	return e.out.Bytes(), nil
}

// of returns the values of the leaf in some rows, of which one at least has any.
func (l *leaf[R]) of(part []R) []parquet.Value {
	v := l.values[:0]
	c := &l.column
	switch c.Kind {
	case schemas.String, schemas.Bytes:
		for i := range part {
			if s := *c.Str(&part[i]); s != "" || c.Required {
				v = append(v, text(s).Level(0, l.def, l.number))
			} else {
				v = append(v, l.null)
			}
		}
	case schemas.Int64, schemas.Micros:
		for i := range part {
			if o := c.Int(&part[i]); o.Set || c.Required {
				v = append(v, parquet.Int64Value(o.V).Level(0, l.def, l.number))
			} else {
				v = append(v, l.null)
			}
		}
	case schemas.Float64:
		for i := range part {
			if o := c.Float(&part[i]); o.Set || c.Required {
				v = append(v, parquet.DoubleValue(o.V).Level(0, l.def, l.number))
			} else {
				v = append(v, l.null)
			}
		}
	case schemas.Boolean:
		for i := range part {
			if o := c.Bool(&part[i]); o.Set || c.Required {
				v = append(v, parquet.BooleanValue(o.V).Level(0, l.def, l.number))
			} else {
				v = append(v, l.null)
			}
		}
	case schemas.Strings:
		for i := range part {
			v = repeat(l, v, *c.List(&part[i]), func(s *string) parquet.Value { return text(*s) })
		}
	case schemas.Map:
		for i := range part {
			v = repeat(l, v, *c.Map(&part[i]), func(p *schemas.Pair) parquet.Value {
				if l.key {
					return text(p.Key)
				}
				return text(p.Value)
			})
		}
	case schemas.Numbers:
		for i := range part {
			v = repeat(l, v, *c.Numbers(&part[i]), func(n *schemas.Number) parquet.Value {
				if l.key {
					return text(n.Key)
				}
				return parquet.DoubleValue(n.Value)
			})
		}
	case schemas.Floats:
		for i := range part {
			v = repeat(l, v, *c.Vector(&part[i]), func(f *float32) parquet.Value { return parquet.FloatValue(*f) })
		}
	case schemas.LineItems:
		for i := range part {
			v = repeat(l, v, *c.Items(&part[i]), l.ofItem)
		}
	}
	l.values = v
	return v
}

// repeat appends the values of a list: the first begins the row (repetition level 0), the others go on with it.
func repeat[R, E any](l *leaf[R], v []parquet.Value, list []E, value func(*E) parquet.Value) []parquet.Value {
	if len(list) == 0 {
		return append(v, l.null)
	}
	for i := range list {
		def := l.def
		x := value(&list[i])
		if x.IsNull() {
			def--
		}
		v = append(v, x.Level(min(i, 1), def, l.number))
	}
	return v
}

func (l *leaf[R]) ofItem(item *schemas.LineItem) parquet.Value {
	switch c := l.item; c.Kind {
	case schemas.String:
		return text(*c.Str(item))
	case schemas.Int64:
		if o := c.Int(item); o.Set {
			return parquet.Int64Value(o.V)
		}
	case schemas.Float64:
		if o := c.Float(item); o.Set {
			return parquet.DoubleValue(o.V)
		}
	}
	return parquet.NullValue()
}

// text makes a value without a copy. The writer copies it into its column.
func text(s string) parquet.Value {
	return parquet.ByteArrayValue(unsafe.Slice(unsafe.StringData(s), len(s)))
}
