package ledger

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/testing/generator"
	"backbone/transforms/lake/store"
)

// field is a column of users or items that says something of a row, and where it is in a file.
type field struct {
	name         string
	kind         schemas.Kind
	value, names int // columns of the file; names: of the keys of a map
}

// fieldsOf returns the columns of a table that hold what was said of a row, sorted by name, and the name of the id.
func fieldsOf(table string) (id string, fields []field, err error) {
	switch table {
	case schemas.Users.Name:
		return schemas.Users.Columns[0].Name, fieldsOfColumns(schemas.Users), nil
	case schemas.Items.Name:
		return schemas.Items.Columns[0].Name, fieldsOfColumns(schemas.Items), nil
	}
	return "", nil, fmt.Errorf("table %q has no versions; users and items have", table)
}

var stampNames = []string{"updated_time", "is_deleted", "valid_from", "valid_to", "content_hash"}

func fieldsOfColumns[R any](table *schemas.Table[R]) (fields []field) {
	for _, c := range table.Columns[1:] {
		if !slices.Contains(stampNames, c.Name) {
			fields = append(fields, field{name: c.Name, kind: c.Kind})
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

// readVersions returns the versions of a table and its history, sorted, with the time until which they really hold, and
// how many files there are. It calls unhashed with what is deleted and has a content_hash, or is not and has none.
func readVersions(ctx context.Context, st *store.Store, table string, unhashed func(row string)) (versions []version, files int, err error) {
	if _, _, err := fieldsOf(table); err != nil {
		return nil, 0, err
	}
	last := ""
	err = eachVersion(ctx, st, table, func(key string, v *version, text []byte) {
		if key != last {
			files, last = files+1, key
		}
		if v.deleted != (v.order == "") {
			unhashed(fmt.Sprintf("%v: deleted: %v, content_hash: %q in %s", v, v.deleted, v.order, key))
		}
		kept := *v
		kept.content = xxh3.Hash128(text)
		versions = append(versions, kept)
	})
	slices.SortFunc(versions, compareVersions)
	for i := range versions {
		// A version that was closed before a late one came between it and the next ends where that begins.
		for j := i + 1; j < len(versions) && versions[j].id == versions[i].id; j++ {
			if versions[j].from > versions[i].from {
				versions[i].to = min(versions[i].to, versions[j].from)
				break
			}
		}
	}
	return versions, files, err
}

// eachVersion calls f with each row of a table's current state and of its history, and what it says as canonical JSON. The
// version is valid until f returns, but for its texts.
func eachVersion(ctx context.Context, st *store.Store, table string, f func(key string, v *version, text []byte)) error {
	current, err := newest(ctx, st, table)
	if err != nil {
		return err
	}
	all, err := keys(ctx, st, schemas.HistoryOf(table))
	if err != nil {
		return err
	}
	if current != "" {
		of, err := keys(ctx, st, table)
		if err != nil {
			return err
		}
		for _, key := range of {
			if path.Dir(key) == current {
				all = append(all, key)
			}
		}
	}
	for _, key := range all {
		err := withFile(ctx, st, key, func(key string, file *parquet.File) error {
			return eachVersionOf(file, table, func(v *version, text []byte) {
				v.current = path.Dir(key) == current
				f(key, v, text)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// newest returns the folder of the current state: the last that is complete. "": there is none.
func newest(ctx context.Context, st *store.Store, table string) (folder string, err error) {
	for entry, err := range st.List(ctx, table+"/") {
		if err != nil {
			return "", fmt.Errorf("list the files of table %q: %w", table, err)
		}
		dir, name := path.Split(entry.Key)
		if dir = path.Clean(dir); name == "_SUCCESS" && strings.HasPrefix(dir, table+"/as_of=") {
			folder = max(folder, dir)
		}
	}
	return folder, nil
}

// versionReader reads the rows of one file.
type versionReader struct {
	fields                     []field
	id, from, to, deleted, sum int // columns of the file
	text                       []byte
}

// eachVersionOf calls f with each row of a file.
func eachVersionOf(file *parquet.File, table string, f func(v *version, text []byte)) error {
	r, err := newVersionReader(file, table)
	if err != nil {
		return err
	}
	return eachWholeRow(file, func(values [][]parquet.Value) {
		v := r.version(values)
		f(&v, r.text)
	})
}

func newVersionReader(file *parquet.File, table string) (*versionReader, error) {
	id, fields, err := fieldsOf(table)
	if err != nil {
		return nil, err
	}
	r := &versionReader{}
	columns := map[string]int{}
	for i, c := range file.Schema().Columns() {
		name := c[0]
		if c[len(c)-1] == "key" {
			name += " key"
		}
		columns[name] = i
	}
	for _, f := range fields {
		var ok bool
		if f.value, ok = columns[f.name]; !ok {
			continue // a file that is older than the column
		}
		f.names = columns[f.name+" key"]
		r.fields = append(r.fields, f)
	}
	for name, at := range map[string]*int{id: &r.id, "valid_from": &r.from, "valid_to": &r.to, "is_deleted": &r.deleted, "content_hash": &r.sum} {
		var ok bool
		if *at, ok = columns[name]; !ok {
			return nil, fmt.Errorf("there is no column %q", name)
		}
	}
	return r, nil
}

// version reads a row. What it says is in r.text; a deleted row that says nothing has an empty text.
func (r *versionReader) version(values [][]parquet.Value) version {
	v := version{
		id: string(values[r.id][0].ByteArray()), from: values[r.from][0].Int64(), to: forever,
		deleted: values[r.deleted][0].Boolean(), order: string(values[r.sum][0].ByteArray()),
	}
	if to := values[r.to][0]; !to.IsNull() {
		v.to = to.Int64()
	}
	r.text = append(r.text[:0], '{')
	for _, f := range r.fields {
		all := values[f.value]
		if len(all) == 1 && all[0].IsNull() {
			continue
		}
		if len(r.text) > 1 {
			r.text = append(r.text, ',')
		}
		r.text = append(appendText(r.text, f.name), ':')
		switch f.kind {
		case schemas.Strings, schemas.Floats:
			r.text = append(r.text, '[')
			for i, one := range all {
				if i > 0 {
					r.text = append(r.text, ',')
				}
				r.text = appendValue(r.text, f.kind, one)
			}
			r.text = append(r.text, ']')
		case schemas.Map, schemas.Numbers:
			r.text = appendMap(r.text, f.kind, values[f.names], all)
		default:
			r.text = appendValue(r.text, f.kind, all[0])
		}
	}
	if r.text = append(r.text, '}'); v.deleted && len(r.text) == 2 {
		r.text = r.text[:0]
	}
	return v
}

func appendMap(b []byte, kind schemas.Kind, names, values []parquet.Value) []byte {
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		return strings.Compare(string(names[i].ByteArray()), string(names[j].ByteArray()))
	})
	b = append(b, '{')
	for n, i := range order {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, string(names[i].ByteArray())), ':')
		b = appendValue(b, kind, values[i])
	}
	return append(b, '}')
}

// appendValue appends one value of a column of a kind.
func appendValue(b []byte, kind schemas.Kind, v parquet.Value) []byte {
	switch kind {
	case schemas.Int64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case schemas.Float64, schemas.Numbers:
		return generator.AppendNumber(b, v.Double(), 64)
	case schemas.Floats:
		return generator.AppendNumber(b, float64(v.Float()), 32)
	case schemas.Boolean:
		return strconv.AppendBool(b, v.Boolean())
	case schemas.Micros:
		return appendText(b, time.UnixMicro(v.Int64()).UTC().Format(time.RFC3339Nano))
	}
	return appendText(b, string(v.ByteArray()))
}

// appendText appends a text as JSON. The bytes of one that is not UTF-8 are replaced: it will differ from the truth.
func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, strings.ToValidUTF8(s, "\uFFFD"))
	return b
}
