package decode

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"backbone/schemas"
	"backbone/transforms/source"
)

// csvDecoder makes a row of each CSV or TSV record.
type csvDecoder[R any] struct {
	plan    *plan[R]
	header  []string
	nodes   []*node[R] // of each column of header; nil: unknown
	row     R
	id      identity
	dropped int64
}

func (d *csvDecoder[R]) Dropped() int64 { return d.dropped }

func (d *csvDecoder[R]) Decode(rec *source.Record, out func(*R, *schemas.FieldError)) {
	if err := d.decode(rec); err != nil {
		out(nil, err)
		return
	}
	out(&d.row, nil)
}

func (d *csvDecoder[R]) decode(rec *source.Record) *schemas.FieldError {
	if rec.Err != nil {
		return asFieldError(rec.Err)
	}
	if !utf8.Valid(rec.Data) {
		return &schemas.FieldError{Code: schemas.CodeUTF8, Message: "the record holds bytes that are not UTF-8"}
	}
	if !slices.Equal(rec.Columns, d.header) {
		d.bind(rec.Columns)
	}
	if err := d.plan.begin(&d.row); err != nil {
		return err
	}
	d.id.begin(d.plan.idParts)
	var item schemas.LineItem
	if err := d.plan.preset(d.plan.ofItems, &d.row, &item); err != nil {
		return err
	}
	var items func(*R) *[]schemas.LineItem
	extra := 0
	for i, text := range rec.Fields {
		n := d.nodes[i]
		if text == "" || slices.Contains(d.plan.mapping.Null, text) {
			continue
		}
		if n == nil {
			extra = d.keep(rec.Columns[i], text, extra)
			continue
		}
		if n.id > 0 {
			d.id.set(n.id, text)
		}
		if n.keep {
			extra = d.keep(rec.Columns[i], text, extra)
		}
		for _, t := range n.targets {
			if t.item != nil {
				c, _ := d.plan.table.Column("items")
				items = c.Items
			}
			if code, message := t.setText(&d.row, &item, text, d.plan.offset); code != "" {
				return &schemas.FieldError{Path: rec.Columns[i], Code: code, Message: message}
			}
		}
	}
	if items != nil {
		list := items(&d.row)
		*list = append(*list, item)
	}
	if err := d.plan.place(&d.row); err != nil {
		return err
	}
	d.plan.identify(&d.row, &d.id, rec.Data)
	return nil
}

func (d *csvDecoder[R]) bind(header []string) {
	d.header = slices.Clone(header)
	d.nodes = make([]*node[R], len(header))
	for i, name := range header {
		d.nodes[i] = lookup(d.plan.root, name)
	}
}

// lookup returns the node at a path that is in the tree already.
func lookup[R any](n *node[R], path string) *node[R] {
	for part := range strings.SplitSeq(path, ".") {
		i := n.find([]byte(part), 0)
		if i < 0 {
			return nil
		}
		n = n.children[i]
	}
	return n
}

// keep puts a column that the mapping does not know into extra.
func (d *csvDecoder[R]) keep(name, text string, used int) int {
	if d.plan.table.Extra == nil {
		return used
	}
	list := d.plan.table.Extra(&d.row)
	value := string(appendJSONString(nil, schemas.RemoveAddress(text)))
	if len(*list) == MaxExtra || used+len(name)+len(value) > MaxExtraBytes {
		d.dropped++
		return used
	}
	*list = append(*list, schemas.Pair{Key: name, Value: value})
	return used + len(name) + len(value)
}

func asFieldError(err error) *schemas.FieldError {
	var fe *schemas.FieldError
	if errors.As(err, &fe) {
		return fe
	}
	return &schemas.FieldError{Code: schemas.CodeSyntax, Message: err.Error()}
}
