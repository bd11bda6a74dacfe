package files

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/lake/store"
	"backbone/transforms/source"
)

// maxZstdWindow is the memory that a .zst file may ask for: that of zstd's --long.
const maxZstdWindow = 128 << 20

// Reader reads tasks. It keeps its buffers and its connections for the next one. It is for one goroutine.
type Reader struct {
	options Options
	stores  stores

	buf    []byte
	record source.Record
	fields []string
	csv    *csv.Reader
	quoted bytes.Reader // what csv reads from
}

// NewReader returns a reader. Close it once.
func NewReader(o Options) *Reader {
	return &Reader{options: o, stores: stores{}}
}

// Close frees the connections of r.
func (r *Reader) Close() error { return r.stores.Close() }

// Each calls fn for each record of t, in order, and returns the first error of fn as it is.
//
// The record and what it points to are valid until fn returns. Of a range of lines (a task that is not Whole, of JSON lines, CSV or TSV)
// Data and what aliases it stay as they are until Each returns.
func (r *Reader) Each(ctx context.Context, t Task, fn func(*source.Record) error) (err error) {
	file, err := r.stores.open(ctx, t.URL, t.Parameters)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("file %q: close: %w", t.URL, closeErr)
		}
	}()
	if file.Size() != t.Size {
		return fmt.Errorf("file %q: has %d bytes, it had %d when the job began: files must not change while they are read", t.URL, file.Size(), t.Size)
	}
	r.record = source.Record{Source: t.URL, Received: t.Modified}
	if t.Whole {
		return r.whole(ctx, t, file, fn)
	}
	switch t.Format {
	case mappings.Parquet:
		return r.parquet(ctx, t, file, fn)
	case mappings.JSONL, mappings.CSV, mappings.TSV:
		w := r.rangeWindow(t, file)
		if t.Start > 0 {
			if err := w.toLineStart(ctx, t.End); err != nil {
				return failed(t, w, err)
			}
		}
		return r.lines(ctx, t, w, t.End, fn)
	default:
		return fmt.Errorf("file %q: format %q is not read in parts", t.URL, t.Format)
	}
}

// rangeWindow is a window with room for all lines that begin in the range. It begins one byte earlier: if that byte ends a line, the
// first line of the range begins with it.
func (r *Reader) rangeWindow(t Task, file store.Object) *window {
	start := max(t.Start-1, 0)
	room := int(t.End-start) + tailBytes
	if cap(r.buf) < room {
		r.buf = make([]byte, room)
	}
	step := stepBytes
	if isRemote(t.URL) {
		step = room // one request
	}
	return &window{src: &exactly{file: file, at: start, size: t.Size}, buf: r.buf[:room], offset: start, step: step, keep: true}
}

// whole reads a file from end to end.
func (r *Reader) whole(ctx context.Context, t Task, file store.Object, fn func(*source.Record) error) error {
	step := stepBytes
	if isRemote(t.URL) {
		step = int(r.options.RangeBytes)
	}
	head, err := readHead(file)
	if err != nil {
		return fmt.Errorf("file %q: %w", t.URL, err)
	}
	t.Compression = byHead(head)
	_, named, _, err := byName(t.URL, r.options)
	if err != nil {
		return err
	}
	if t.Compression == Plain {
		t.Format = formatByHead(t.Format, named, head)
	}
	if t.Format == mappings.Parquet {
		if t.Compression != Plain {
			return fmt.Errorf("file %q: is a compressed Parquet file: unpack it, Parquet is compressed within", t.URL)
		}
		return r.parquet(ctx, t, file, fn)
	}

	unpacked, done, err := unpack(&ahead{src: &exactly{file: file, size: t.Size}, step: step}, t.Compression)
	if err != nil {
		return fmt.Errorf("file %q: %w", t.URL, err)
	}
	defer done()
	if len(r.buf) < streamBytes {
		r.buf = make([]byte, streamBytes)
	}
	w := &window{src: unpacked, buf: r.buf, step: stepBytes}
	if err := w.fill(ctx); err != nil {
		return failed(t, w, err)
	}
	if t.Compression != Plain {
		t.Format = formatByHead(t.Format, named, w.pending()[:min(headBytes, w.w)])
	}
	switch t.Format {
	case mappings.JSONL, mappings.CSV, mappings.TSV:
		return r.lines(ctx, t, w, untilEnd, fn)
	case mappings.JSON:
		return r.json(ctx, t, w, fn)
	case mappings.YAML:
		return r.yaml(ctx, t, w, fn)
	default:
		return fmt.Errorf("file %q: is a compressed Parquet file: unpack it, Parquet is compressed within", t.URL)
	}
}

// unpack returns what an archive unpacks to. done frees what that takes.
func unpack(packed io.Reader, c Compression) (unpacked io.Reader, done func(), err error) {
	switch c {
	case Gzip:
		z, err := gzip.NewReader(packed)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return z, func() { _ = z.Close() }, nil // Close repeats the error of Read.
	case Zstd:
		z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return z, z.Close, nil
	default:
		return packed, func() {}, nil
	}
}

// lines reads the records of a format that has one a line, or nearly so.
func (r *Reader) lines(ctx context.Context, t Task, w *window, end int64, fn func(*source.Record) error) error {
	if w.at() == 0 {
		if err := skipBOM(ctx, w); err != nil {
			return failed(t, w, err)
		}
		end = max(end, w.at()+1) // The first line belongs to the first range, also if that is shorter than the BOM.
	}
	var user error // of fn, which is returned as it is
	give := func(rec *source.Record) error {
		user = fn(rec)
		return user
	}
	var err error
	if t.Format == mappings.JSONL {
		err = r.jsonLines(ctx, w, end, give)
	} else {
		err = r.table(ctx, t, w, end, give)
	}
	if user != nil {
		return user
	}
	return failed(t, w, err)
}

func (r *Reader) jsonLines(ctx context.Context, w *window, end int64, fn func(*source.Record) error) error {
	rec := &r.record
	return w.cut(ctx, end, r.options.MaxRecordBytes, lineEnd,
		func(line []byte, offset int64) error {
			if blank(line) {
				return nil
			}
			rec.Data, rec.Size, rec.Offset, rec.Err = line, 0, offset, nil
			return fn(rec)
		},
		func(begin []byte, offset, size int64) error {
			rec.Data, rec.Size, rec.Offset, rec.Err = begin, size, offset, r.tooLong("line")
			return fn(rec)
		})
}

func (r *Reader) tooLong(what string) error {
	return &schemas.FieldError{Code: schemas.CodeTooLarge, Message: fmt.Sprintf("the %s is longer than %d bytes", what, r.options.MaxRecordBytes)}
}

// blank tells if a line has nothing but white space.
func blank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

func skipBOM(ctx context.Context, w *window) error {
	for w.w-w.r < len(bom) && !w.eof {
		if err := w.fill(ctx); err != nil {
			return err
		}
	}
	if bytes.HasPrefix(w.pending(), bom) {
		w.r += len(bom)
	}
	return nil
}

// failed says where reading failed.
func failed(t Task, w *window, err error) error {
	if err == nil {
		return nil
	}
	at := "byte"
	if t.Compression != Plain {
		at = "after unpacking byte"
	}
	return fmt.Errorf("file %q: %s %d: %w", t.URL, at, w.offset+int64(w.w), err)
}

// exactly reads a file of a known size. An end that comes earlier is an error, not the end of the input.
type exactly struct {
	file     io.ReaderAt
	at, size int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.at == e.size {
		return 0, io.EOF
	}
	n, err := e.file.ReadAt(p[:min(int64(len(p)), e.size-e.at)], e.at)
	e.at += int64(n)
	switch {
	case n > 0:
		return n, nil // What is wrong comes again.
	case err == nil || errors.Is(err, io.EOF):
		return 0, fmt.Errorf("it ends here, and had %d bytes before: files must not change while they are read", e.size)
	default:
		return 0, err
	}
}

// ahead reads in steps, whatever small pieces it is asked for: a request to an object store each.
type ahead struct {
	src  io.Reader
	step int
	buf  []byte
	r, w int
}

func (a *ahead) Read(p []byte) (int, error) {
	if a.r == a.w {
		if len(p) >= a.step {
			return a.src.Read(p)
		}
		if a.buf == nil {
			a.buf = make([]byte, a.step)
		}
		n, err := a.src.Read(a.buf)
		a.r, a.w = 0, n
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, a.buf[a.r:a.w])
	a.r += n
	return n, nil
}
