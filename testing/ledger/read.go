package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"

	"backbone/transforms/lake/store"
)

// keys returns the Parquet files of a table. Files and folders whose name begins with "_" or "." are none of it.
func keys(ctx context.Context, st *store.Store, table string) ([]string, error) {
	var all []string
	for entry, err := range st.List(ctx, table+"/") {
		if err != nil {
			return nil, fmt.Errorf("list the files of table %q: %w", table, err)
		}
		if strings.HasSuffix(entry.Key, ".parquet") && !strings.Contains(entry.Key, "/_") && !strings.Contains(entry.Key, "/.") {
			all = append(all, entry.Key)
		}
	}
	return all, nil
}

// eachFile calls f with each file of a table.
func eachFile(ctx context.Context, st *store.Store, table string, f func(key string, file *parquet.File) error) error {
	all, err := keys(ctx, st, table)
	if err != nil {
		return err
	}
	for _, key := range all {
		if err := withFile(ctx, st, key, f); err != nil {
			return err
		}
	}
	return nil
}

// withFile calls f with an open file.
func withFile(ctx context.Context, st *store.Store, key string, f func(key string, file *parquet.File) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", key, err)
		}
	}()
	object, err := st.Open(ctx, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, object.Close()) }()
	file, err := parquet.OpenFile(object, object.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return err
	}
	return f(key, file)
}

// eachRow calls f with the values of some columns, which must be neither lists nor within one, of each row. The values
// are valid until f returns.
func eachRow(file *parquet.File, columns []string, f func(values []parquet.Value) error) (err error) {
	for _, group := range file.RowGroups() {
		cursors := make([]*cursor, len(columns))
		for i, name := range columns {
			leaf, ok := file.Schema().Lookup(strings.Split(name, ".")...)
			if !ok {
				return fmt.Errorf("there is no column %q", name)
			}
			cursors[i] = &cursor{pages: group.ColumnChunks()[leaf.ColumnIndex].Pages()}
			defer func() { err = errors.Join(err, cursors[i].close()) }()
		}
		values := make([]parquet.Value, len(columns))
		for range group.NumRows() {
			for i, c := range cursors {
				if values[i], err = c.next(); err != nil {
					return fmt.Errorf("column %q: %w", columns[i], err)
				}
			}
			if err := f(values); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachWholeRow calls f with the values of all columns of each row, by the number of the column; they are valid until f returns.
func eachWholeRow(file *parquet.File, f func(values [][]parquet.Value)) error {
	values := make([][]parquet.Value, len(file.Schema().Columns()))
	rows := make([]parquet.Row, 256)
	for _, group := range file.RowGroups() {
		err := func() (err error) {
			reader := group.Rows()
			defer func() { err = errors.Join(err, reader.Close()) }()
			for {
				n, err := reader.ReadRows(rows)
				for _, row := range rows[:n] {
					row.Range(func(column int, v []parquet.Value) bool {
						values[column] = v
						return true
					})
					f(values)
				}
				switch {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return err
				}
			}
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// cursor reads the values of one column one after the other.
type cursor struct {
	pages  parquet.Pages
	page   parquet.Page
	reader parquet.ValueReader
	buffer [256]parquet.Value
	values []parquet.Value // of buffer, still to be returned
}

func (c *cursor) next() (parquet.Value, error) {
	for len(c.values) == 0 {
		if c.reader == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return parquet.Value{}, fmt.Errorf("it has fewer values than the file has rows: %w", err)
			}
			c.page, c.reader = page, page.Values()
		}
		n, err := c.reader.ReadValues(c.buffer[:])
		c.values = c.buffer[:n]
		if n > 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return parquet.Value{}, err
		}
		c.release()
	}
	v := c.values[0]
	c.values = c.values[1:]
	return v, nil
}

func (c *cursor) release() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	c.page, c.reader = nil, nil
}

func (c *cursor) close() error {
	c.release()
	return c.pages.Close()
}
