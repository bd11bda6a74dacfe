package files

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/source"
)

// errEnough ends cut after the header.
var errEnough = errors.New("enough")

// header reads the first record, which names the columns. The names do not alias the window.
func (r *Reader) header(ctx context.Context, t Task, w *window) ([]string, error) {
	if err := skipBOM(ctx, w); err != nil {
		return nil, err
	}
	var names []string
	err := w.cut(ctx, untilEnd, r.options.MaxRecordBytes, r.recordEnd(t),
		func(line []byte, _ int64) error {
			if len(line) == 0 {
				return nil
			}
			fields, err := r.split(t, line)
			if err != nil {
				return fmt.Errorf("the header, which names the columns: %w", err)
			}
			for _, f := range fields {
				names = append(names, string([]byte(f)))
			}
			return errEnough
		},
		func(_ []byte, _, size int64) error {
			return fmt.Errorf("the header, which names the columns: %w", r.noEnd(size))
		})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	for i, name := range names {
		if name != "" && slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("the header names column %q twice", name)
		}
	}
	return names, nil
}

// recordEnd is the splitter of the format.
func (r *Reader) recordEnd(t Task) splitter {
	if t.Format == mappings.TSV || r.options.Splittable {
		return lineEnd
	}
	return csvEnd
}

// noEnd is what is wrong with a record that cut found no end of. Size is that of its first line.
func (r *Reader) noEnd(size int64) error {
	if size > int64(r.options.MaxRecordBytes) {
		return r.tooLong("record")
	}
	return &schemas.FieldError{Code: schemas.CodeSyntax, Message: fmt.Sprintf(`a quote (") is opened and not closed within %d bytes; it goes on with the next line`, r.options.MaxRecordBytes)}
}

// table reads CSV and TSV.
func (r *Reader) table(ctx context.Context, t Task, w *window, end int64, fn func(*source.Record) error) error {
	columns := t.Columns
	if columns == nil {
		var err error
		if columns, err = r.header(ctx, t, w); err != nil {
			return err
		}
	}
	rec := &r.record
	rec.Columns = columns
	return w.cut(ctx, end, r.options.MaxRecordBytes, r.recordEnd(t),
		func(line []byte, offset int64) error {
			if len(line) == 0 {
				return nil
			}
			fields, err := r.split(t, line)
			if err == nil && len(fields) != len(columns) {
				err = &schemas.FieldError{Code: schemas.CodeSyntax, Message: fmt.Sprintf("byte %d: %d fields, there are %d columns", offset, len(fields), len(columns))}
			}
			if err != nil {
				fields = nil
			}
			rec.Data, rec.Size, rec.Fields, rec.Offset, rec.Err = line, 0, fields, offset, err
			return fn(rec)
		},
		func(begin []byte, offset, size int64) error {
			rec.Data, rec.Size, rec.Fields, rec.Offset, rec.Err = begin, size, nil, offset, r.noEnd(size)
			return fn(rec)
		})
}

// split cuts a record into its fields, which alias it or are valid until the next call. An error is a *schemas.FieldError.
func (r *Reader) split(t Task, record []byte) ([]string, error) {
	comma := byte(',')
	if t.Format == mappings.TSV {
		comma = '\t'
	} else if bytes.IndexByte(record, '"') >= 0 {
		return r.splitQuoted(record)
	}
	fields := r.fields[:0]
	for {
		i := bytes.IndexByte(record, comma)
		field := record
		if i >= 0 {
			field, record = record[:i], record[i+1:]
		}
		if comma == '\t' {
			field = unquote(field)
		}
		fields = append(fields, unsafe.String(unsafe.SliceData(field), len(field)))
		if i < 0 {
			r.fields = fields
			return fields, nil
		}
	}
}

// splitQuoted leaves quotes to encoding/csv.
func (r *Reader) splitQuoted(record []byte) ([]string, error) {
	r.quoted.Reset(record)
	if r.csv == nil {
		r.csv = csv.NewReader(&r.quoted)
		r.csv.FieldsPerRecord = -1
		r.csv.ReuseRecord = true
	}
	fields, err := r.csv.Read()
	if err == nil {
		return fields, nil
	}
	r.csv = nil // It may hold bytes still.
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		what := parse.Err.Error()
		switch {
		case errors.Is(err, csv.ErrBareQuote):
			what = `a quote (") within a field that does not begin with one`
		case errors.Is(err, csv.ErrQuote):
			what = `text behind the quote (") that closes a field, or a quote that is not closed`
		}
		return nil, &schemas.FieldError{Code: schemas.CodeSyntax, Message: fmt.Sprintf("column %d: %s", parse.Column, what)}
	}
	return nil, &schemas.FieldError{Code: schemas.CodeSyntax, Message: err.Error()}
}

// unquote takes the quotes off a field that is quoted as a whole.
func unquote(field []byte) []byte {
	n := len(field)
	if n < 2 || field[0] != '"' || field[n-1] != '"' {
		return field
	}
	field = field[1 : n-1]
	if bytes.IndexByte(field, '"') < 0 {
		return field
	}
	return bytes.ReplaceAll(field, []byte(`""`), []byte(`"`))
}

// csvEnd is the splitter of CSV whose fields may hold line breaks. It ends a record where encoding/csv does, also a wrong one: with the
// line in which the mistake is.
func csvEnd(b []byte, eof bool) int {
	if line := lineEnd(b, eof); line < 0 || bytes.IndexByte(b[:line], '"') < 0 {
		return line
	}
	restOfLine := func(i int) int {
		if n := lineEnd(b[i:], eof); n >= 0 {
			return i + n
		}
		if eof {
			return len(b)
		}
		return -1
	}
	i := 0
	for { // b[i:] begins with a field
		if i == len(b) || b[i] != '"' {
			end := restOfLine(i)
			if end < 0 {
				return -1
			}
			comma := bytes.IndexByte(b[i:end], ',')
			if comma < 0 || bytes.IndexByte(b[i:i+comma], '"') >= 0 {
				return end
			}
			i += comma + 1
			continue
		}
		i++
		for { // within quotes
			quote := bytes.IndexByte(b[i:], '"')
			if quote < 0 {
				return -1
			}
			i += quote + 1
			if i < len(b) && b[i] == '"' {
				i++
				continue
			}
			break
		}
		if i == len(b) && !eof {
			return -1 // The next byte may be a quote.
		}
		if i == len(b) || b[i] != ',' {
			return restOfLine(i)
		}
		i++
	}
}
