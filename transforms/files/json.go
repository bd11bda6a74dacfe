package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"backbone/schemas"
	"backbone/transforms/source"
)

// maxElements is how many times MaxRecordBytes an element of a JSON file may have, to be known as too large and passed over. One that is
// larger ends the file.
const maxElements = 64

// errHuge says that an element is too large to find its end.
var errHuge = errors.New("element is too large")

// json reads a file of one array, or of one or several values that may span lines: each element, or value, is a record.
func (r *Reader) json(ctx context.Context, t Task, w *window, fn func(*source.Record) error) error {
	if err := skipBOM(ctx, w); err != nil {
		return failed(t, w, err)
	}
	start := w.at()
	limit := r.options.MaxRecordBytes
	in := &bounded{ctx: ctx, w: w, limit: int64(limit) * maxElements}
	// What is within an element is judged by who decodes it. Here only its end matters.
	dec := jsontext.NewDecoder(in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	rec := &r.record
	for {
		in.used = dec.InputOffset()
		kind := dec.PeekKind()
		if depth := dec.StackDepth(); depth == 0 && kind == '[' || depth == 1 && kind == ']' {
			if _, err := dec.ReadToken(); err != nil {
				return r.jsonRest(t, w, dec, in, start, err, fn)
			}
			continue
		}
		value, err := dec.ReadValue()
		if errors.Is(err, io.EOF) && in.err == nil && dec.StackDepth() == 0 {
			return nil
		}
		if err != nil {
			return r.jsonRest(t, w, dec, in, start, err, fn)
		}
		rec.Data, rec.Size, rec.Offset, rec.Err = value, 0, start+dec.InputOffset()-int64(len(value)), nil
		if len(value) > limit {
			rec.Data, rec.Size, rec.Err = value[:limit], int64(len(value)), r.tooLong("element")
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
}

// jsonRest gives what cannot be cut into elements as one record.
func (r *Reader) jsonRest(t Task, w *window, dec *jsontext.Decoder, in *bounded, start int64, cause error, fn func(*source.Record) error) error {
	if in.err != nil && !errors.Is(in.err, errHuge) {
		return failed(t, w, in.err)
	}
	at := dec.InputOffset()
	rest := bytes.Clone(dec.UnreadBuffer())
	// A comma and white space are no part of what is wrong.
	if trimmed := bytes.TrimLeft(rest, ", \t\r\n"); len(trimmed) > 0 {
		at += int64(len(rest) - len(trimmed))
		rest = trimmed
	}
	limit := r.options.MaxRecordBytes
	for len(rest) < limit && !errors.Is(in.err, errHuge) {
		more := make([]byte, limit-len(rest))
		in.used = in.read
		n, err := in.Read(more)
		rest = append(rest, more[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return failed(t, w, err)
		}
	}
	field := &schemas.FieldError{Code: schemas.CodeSyntax, Message: fmt.Sprintf("byte %d: %s; the rest of the file is not read", start+at, reason(cause))}
	if errors.Is(in.err, errHuge) {
		field = &schemas.FieldError{Code: schemas.CodeTooLarge, Message: fmt.Sprintf("byte %d: the element is longer than %d bytes; the rest of the file is not read", start+at, in.limit)}
	}
	rec := &r.record
	rec.Data, rec.Size, rec.Offset, rec.Err = rest[:min(len(rest), limit)], 0, start+at, field
	return fn(rec)
}

// reason is what package jsontext says is wrong, without its prefix and place.
func reason(err error) string {
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON breaks off"
	case errors.As(err, &syntactic) && syntactic.Err != nil:
		return strings.TrimPrefix(syntactic.Err.Error(), "jsontext: ")
	default:
		return strings.TrimPrefix(err.Error(), "jsontext: ")
	}
}

// bounded reads a window for a decoder, and fails where it has read limit bytes more than the decoder has used.
type bounded struct {
	ctx        context.Context
	w          *window
	used, read int64
	limit      int64
	err        error // other than io.EOF
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.read-b.used > b.limit {
		b.err = errHuge
		return 0, b.err
	}
	for b.w.r == b.w.w {
		if b.w.eof {
			return 0, io.EOF
		}
		if err := b.w.fill(b.ctx); err != nil {
			b.err = err
			return 0, err
		}
	}
	n := copy(p, b.w.pending())
	b.w.r += n
	b.read += int64(n)
	return n, nil
}
