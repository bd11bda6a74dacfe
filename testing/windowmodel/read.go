package windowmodel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// keys returns the files of a table that match a pattern below it, such as dt=*/*.parquet, sorted. Those in or below what
// begins with "_" or "." are none. With the pattern "" all depths match.
func keys(ctx context.Context, st *store.Store, table, pattern string) (all []string, err error) {
	for entry, err := range st.List(ctx, table+"/") {
		if err != nil {
			return nil, fmt.Errorf("list the files of table %q: %w", table, err)
		}
		matches := strings.HasSuffix(entry.Key, ".parquet")
		if pattern != "" {
			if matches, err = path.Match(table+"/"+pattern, entry.Key); err != nil {
				return nil, err
			}
		}
		if matches && !strings.Contains(entry.Key, "/_") && !strings.Contains(entry.Key, "/.") {
			all = append(all, entry.Key)
		}
	}
	slices.Sort(all)
	return all, nil
}

// readEvents returns all rows of the table of interactions.
func readEvents(ctx context.Context, st *store.Store) (all []Event, err error) {
	files, err := keys(ctx, st, schemas.Interactions.Name, "")
	if err != nil {
		return nil, err
	}
	known := map[string]string{} // most texts are there many times: hold each once
	text := func(values []parquet.Value) string {
		if len(values) == 0 {
			return ""
		}
		s, ok := known[string(values[0].ByteArray())]
		if !ok {
			s = string(values[0].ByteArray())
			known[s] = s
		}
		return s
	}
	columns := []string{"event_time", "user_id", "visitor_id", "event_type", "feedback_kind", "item_id", "context.country", "context.surface", "items.item_id"}
	for _, key := range files {
		err := eachRow(ctx, st, key, columns, func(v [][]parquet.Value) {
			e := Event{
				Time: v[0][0].Int64(), User: text(v[1]), Visitor: text(v[2]), Type: text(v[3]), Kind: text(v[4]),
				Item: text(v[5]), Country: text(v[6]), Surface: text(v[7]),
			}
			for i := range v[8] {
				e.Items = append(e.Items, text(v[8][i:]))
			}
			all = append(all, e)
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readCategories returns the categories of all items in the version that was the newest at a time, or in the first one if
// all are later. Without a version, there are none.
func readCategories(ctx context.Context, st *store.Store) (at func(micros int64) map[string][]string, err error) {
	type version struct {
		asOf       int64
		categories map[string][]string
	}
	var versions []version
	for entry, err := range st.List(ctx, schemas.Items.Name+"/") {
		if err != nil {
			return nil, fmt.Errorf("list the versions of items: %w", err)
		}
		folder, name := path.Split(entry.Key)
		asOf, err := time.Parse("as_of=20060102T150405Z", path.Base(folder))
		if name != "_SUCCESS" || err != nil { // what is no version, or not complete
			continue
		}
		files, err := keys(ctx, st, path.Clean(folder), "*.parquet")
		if err != nil {
			return nil, err
		}
		v := version{asOf.UnixMicro(), map[string][]string{}}
		for _, key := range files {
			err := eachRow(ctx, st, key, []string{"item_id", "categories"}, func(values [][]parquet.Value) {
				for _, category := range values[1] {
					id := string(values[0][0].ByteArray())
					v.categories[id] = append(v.categories[id], string(category.ByteArray()))
				}
			})
			if err != nil {
				return nil, err
			}
		}
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b version) int { return int(a.asOf/1e6 - b.asOf/1e6) })
	return func(micros int64) (newest map[string][]string) {
		for i, v := range versions {
			if i == 0 || v.asOf <= micros {
				newest = v.categories
			}
		}
		return newest
	}, nil
}

// eachResult calls f with each row of a file of a table of results.
func eachResult[R any](ctx context.Context, st *store.Store, key string, table *schemas.Table[R], f func(R)) error {
	var names []string
	for _, c := range table.Columns {
		if c.Kind == schemas.Numbers {
			names = append(names, c.Name+".key", c.Name+".value")
		} else {
			names = append(names, c.Name)
		}
	}
	return eachRow(ctx, st, key, names, func(values [][]parquet.Value) {
		var r R
		next := func() []parquet.Value {
			first := values[0]
			values = values[1:]
			return first
		}
		for _, c := range table.Columns {
			all := next()
			if c.Kind == schemas.Numbers {
				for i, value := range next() {
					*c.Numbers(&r) = append(*c.Numbers(&r), schemas.Number{Key: string(all[i].ByteArray()), Value: value.Double()})
				}
			}
			for _, v := range all {
				switch c.Kind {
				case schemas.String:
					*c.Str(&r) = string(v.ByteArray())
				case schemas.Strings:
					*c.List(&r) = append(*c.List(&r), string(v.ByteArray()))
				case schemas.Int64, schemas.Micros:
					*c.Int(&r) = schemas.Some(v.Int64())
				case schemas.Float64:
					*c.Float(&r) = schemas.Some(v.Double())
				case schemas.Boolean:
					*c.Bool(&r) = schemas.Some(v.Boolean())
				}
			}
		}
		f(r)
	})
}

// eachRow calls f with the values of columns of each row of a file: one, none, or those of a list. A column of a list or
// map is named without the levels that Parquet puts between: items.item_id, events_by_type.key. What the file does not
// have is absent in all rows. The values are valid until f returns.
func eachRow(ctx context.Context, st *store.Store, key string, columns []string, f func(values [][]parquet.Value)) (err error) {
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
	number := map[string]int{}
	for i, levels := range file.Schema().Columns() {
		levels = slices.DeleteFunc(slices.Clone(levels), func(s string) bool { return s == "list" || s == "element" || s == "key_value" })
		number[strings.Join(levels, ".")] = i
	}
	for _, group := range file.RowGroups() {
		cursors := make([]*cursor, len(columns))
		for i, name := range columns {
			if n, ok := number[name]; ok {
				cursors[i] = &cursor{pages: group.ColumnChunks()[n].Pages()}
				defer func() { err = errors.Join(err, cursors[i].pages.Close()) }()
			}
		}
		values := make([][]parquet.Value, len(columns))
		for range group.NumRows() {
			for i, c := range cursors {
				if c == nil {
					continue
				}
				if values[i], err = c.row(); err != nil {
					return fmt.Errorf("column %q: %w", columns[i], err)
				}
			}
			f(values)
		}
	}
	return nil
}

// cursor reads a column row by row.
type cursor struct {
	pages  parquet.Pages
	page   parquet.ValueReader
	buffer [256]parquet.Value
	values []parquet.Value // of buffer, still to be returned
	all    []parquet.Value // of the row
}

// row returns the values of the next row that are there.
func (c *cursor) row() ([]parquet.Value, error) {
	c.all = c.all[:0]
	for first := true; ; first = false {
		if err := c.fill(); errors.Is(err, io.EOF) && !first {
			return c.all, nil
		} else if err != nil {
			return nil, fmt.Errorf("it has fewer values than the file has rows: %w", err)
		}
		if !first && c.values[0].RepetitionLevel() == 0 {
			return c.all, nil
		}
		if !c.values[0].IsNull() {
			// The next page may take the place of this one while the row is not over.
			c.all = append(c.all, c.values[0].Clone())
		}
		c.values = c.values[1:]
	}
}

// fill makes sure that there is a value.
func (c *cursor) fill() error {
	for len(c.values) == 0 {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return err
			}
			c.page = page.Values()
		}
		n, err := c.page.ReadValues(c.buffer[:])
		if c.values = c.buffer[:n]; n == 0 {
			c.page = nil
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
	}
	return nil
}
