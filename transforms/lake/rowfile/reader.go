package rowfile

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unsafe"

	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
)

// ErrDamaged says that a file is not one that a Writer of the table has made, or not all of one.
var ErrDamaged = errors.New("damaged file")

// Each reads a file, and calls fn with its rows, some at a time, in their order. The rows and what they refer to are valid
// until fn returns. Columns that the file does not have, since an older version wrote it, are absent; those that the table
// does not have are left out.
func Each[R any](r io.ReaderAt, size int64, table *schemas.Table[R], reset func(*R), fn func(part []R) error) (err error) {
	defer func() { // the reader of Parquet files panics at some that are damaged
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: reading it panics: %v", ErrDamaged, p)
		}
	}()
	// Each column has a buffer of its own: of small files, all of them together would be many times the file.
	buffer := min(1<<18, max(1<<9, int(size/16)))
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(buffer))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var columns []*source[R]
	for i, path := range f.Schema().Columns() {
		l, err := newLeaf(table, path, i)
		if err != nil {
			continue // a newer version has added it
		}
		columns = append(columns, &source[R]{leaf: l, name: strings.Join(path, ".")})
	}
	part := make([]R, min(int64(batch), f.NumRows()))
	for _, group := range f.RowGroups() {
		if err := eachOf(group, columns, part, reset, fn); err != nil {
			return err
		}
	}
	return nil
}

// Metadata returns what the footer of a file says under some keys; empty where it says nothing.
func Metadata(r io.ReaderAt, size int64, keys ...string) (values []string, err error) {
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(1<<12))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, key := range keys {
		v, _ := f.Lookup(key)
		values = append(values, v)
	}
	return values, nil
}

// eachOf reads a row group, column by column for each part.
func eachOf[R any](group parquet.RowGroup, columns []*source[R], part []R, reset func(*R), fn func(part []R) error) (err error) {
	chunks := group.ColumnChunks()
	for _, c := range columns {
		c.open(chunks[c.leaf.number])
	}
	defer func() {
		for _, c := range columns {
			err = errors.Join(err, c.close())
		}
	}()
	for left := group.NumRows(); left > 0; {
		n := int(min(left, int64(len(part))))
		for i := range part[:n] {
			reset(&part[i])
		}
		for _, c := range columns {
			c.release()
			if err := c.fill(part[:n]); err != nil {
				return fmt.Errorf("%w: column %q: %w", ErrDamaged, c.name, err)
			}
		}
		if err := fn(part[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// source reads the values of one column.
type source[R any] struct {
	leaf   *leaf[R]
	name   string
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    []parquet.Value
	next   int // in buf
	used   []parquet.Page
}

func (c *source[R]) open(chunk parquet.ColumnChunk) {
	c.pages, c.page, c.values, c.buf, c.next = chunk.Pages(), nil, nil, c.buf[:0], 0
}

// release gives back the pages that no row refers to any more.
func (c *source[R]) release() {
	for _, p := range c.used {
		parquet.Release(p)
	}
	c.used = c.used[:0]
}

func (c *source[R]) close() error {
	c.release()
	if c.page != nil {
		parquet.Release(c.page)
		c.page = nil
	}
	return c.pages.Close()
}

// peek returns the next value without taking it, and io.EOF after the last.
func (c *source[R]) peek() (*parquet.Value, error) {
	for c.next == len(c.buf) {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return nil, err
			}
			if c.page != nil {
				c.used = append(c.used, c.page)
			}
			c.page, c.values = page, page.Values()
		}
		if cap(c.buf) == 0 {
			c.buf = make([]parquet.Value, min(int64(batch), max(1, c.page.NumValues())))
		}
		n, err := c.values.ReadValues(c.buf[:cap(c.buf)])
		c.buf, c.next = c.buf[:n], 0
		if errors.Is(err, io.EOF) {
			c.values = nil
		} else if err != nil {
			return nil, err
		}
	}
	return &c.buf[c.next], nil
}

// fill puts the values of the column into rows.
func (c *source[R]) fill(part []R) error {
	for i := range part {
		v, err := c.peek()
		if err != nil {
			return unexpected(err)
		}
		c.next++
		c.leaf.set(&part[i], v, 0)
		for element := 1; c.leaf.repeats(); element++ {
			more, err := c.peek()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if more.RepetitionLevel() == 0 {
				break
			}
			c.next++
			c.leaf.set(&part[i], more, element)
		}
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// repeats tells if a row may have several values of the column.
func (l *leaf[R]) repeats() bool {
	switch l.column.Kind {
	case schemas.Strings, schemas.Map, schemas.LineItems, schemas.Floats, schemas.Numbers:
		return true
	}
	return false
}

// set puts a value into a row; of a list it is element number n.
func (l *leaf[R]) set(row *R, v *parquet.Value, n int) {
	c := &l.column
	if l.repeats() {
		least := l.def
		if l.item != nil {
			least = 2 // the element is there, its value perhaps not
		}
		if v.DefinitionLevel() >= least {
			l.setElement(row, v, n)
		}
		return
	}
	if v.IsNull() {
		return
	}
	switch c.Kind {
	case schemas.String, schemas.Bytes:
		*c.Str(row) = textOf(v)
	case schemas.Int64, schemas.Micros:
		*c.Int(row) = schemas.Some(v.Int64())
	case schemas.Float64:
		*c.Float(row) = schemas.Some(v.Double())
	case schemas.Boolean:
		*c.Bool(row) = schemas.Some(v.Boolean())
	}
}

func (l *leaf[R]) setElement(row *R, v *parquet.Value, n int) {
	c := &l.column
	switch c.Kind {
	case schemas.Strings:
		list := c.List(row)
		*list = append(*list, textOf(v))
	case schemas.Floats:
		vector := c.Vector(row)
		*vector = append(*vector, v.Float())
	case schemas.Map:
		entry := at(c.Map(row), n)
		if l.key {
			entry.Key = textOf(v)
		} else {
			entry.Value = textOf(v)
		}
	case schemas.Numbers:
		entry := at(c.Numbers(row), n)
		if l.key {
			entry.Key = textOf(v)
		} else {
			entry.Value = v.Double()
		}
	case schemas.LineItems:
		item := at(c.Items(row), n)
		if v.IsNull() {
			return
		}
		switch l.item.Kind {
		case schemas.String:
			*l.item.Str(item) = textOf(v)
		case schemas.Int64:
			*l.item.Int(item) = schemas.Some(v.Int64())
		case schemas.Float64:
			*l.item.Float(item) = schemas.Some(v.Double())
		}
	}
}

// at returns element number n of a list, which it makes where it is not there yet: the columns of a list are read one after
// the other.
func at[T any](list *[]T, n int) *T {
	for len(*list) <= n {
		var fresh T
		*list = append(*list, fresh)
	}
	return &(*list)[n]
}

// textOf returns a text without a copy: it is valid as long as its page is.
func textOf(v *parquet.Value) string {
	b := v.ByteArray()
	return unsafe.String(unsafe.SliceData(b), len(b))
}
