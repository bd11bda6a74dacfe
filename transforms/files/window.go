package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
)

const (
	// stepBytes is how much is read at once from a disk: little enough to be in the processor's cache still when it is decoded.
	stepBytes = 256 << 10
	// tailBytes is how much of the last record of a range is expected to lie beyond it.
	tailBytes = 64 << 10
	// streamBytes is the buffer of a file that is read as a stream.
	streamBytes = 1 << 20
)

// window is what lies in memory of an input: buf[r:w] was read and not yet cut into records.
type window struct {
	src    io.Reader
	buf    []byte
	r, w   int
	offset int64 // of buf[0] in the file, or in what it unpacks to
	step   int
	keep   bool // bytes that were cut stay as they are until the task ends
	eof    bool
	err    error // of src
}

// at is the offset of the next byte to cut.
func (w *window) at() int64 { return w.offset + int64(w.r) }

func (w *window) pending() []byte { return w.buf[w.r:w.w] }

// fill reads more. It makes room where there is none left. An error is returned once all that was read before it is cut.
func (w *window) fill(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.w == len(w.buf) {
		w.makeRoom()
	}
	// At least as much as is pending, so that a long record is looked through a few times only.
	to := w.buf[w.w:][:min(max(w.step, w.w-w.r), len(w.buf)-w.w)]
	for len(to) > 0 && w.err == nil && !w.eof {
		n, err := w.src.Read(to)
		w.w += n
		to = to[n:]
		if w.eof = errors.Is(err, io.EOF); !w.eof {
			w.err = err
		}
	}
	return nil
}

func (w *window) makeRoom() {
	pending := w.pending()
	to := w.buf
	if w.keep || len(pending) > len(w.buf)/2 {
		to = make([]byte, max(2*len(pending), tailBytes))
	}
	w.offset += int64(w.r)
	w.w = copy(to, pending)
	w.r = 0
	w.buf = to
}

// toLineStart drops what is left of a line that began earlier, with its line end, or up to end if there is none before it.
func (w *window) toLineStart(ctx context.Context, end int64) error {
	for {
		if i := bytes.IndexByte(w.pending(), '\n'); i >= 0 {
			w.r += i + 1
			return nil
		}
		w.r = w.w
		if w.eof || w.at() >= end {
			return nil
		}
		if err := w.fill(ctx); err != nil {
			return err
		}
	}
}

// skipLine drops a line with its line end, however long it is, and returns its length without the line end.
func (w *window) skipLine(ctx context.Context) (length int64, err error) {
	var last byte // of what was dropped before
	for {
		b := w.pending()
		line := trimEnd(b[:max(lineEnd(b, w.eof), 0)])
		if n := lineEnd(b, w.eof); n >= 0 {
			w.r += n
			length += int64(len(line))
			if n == 1 && b[0] == '\n' && last == '\r' {
				length--
			}
			return length, nil
		}
		if w.eof {
			if last == '\r' {
				length--
			}
			return length, nil
		}
		if len(b) > 0 {
			last = b[len(b)-1]
		}
		length += int64(len(b))
		w.r = w.w
		if err := w.fill(ctx); err != nil {
			return 0, err
		}
	}
}

// splitter finds the end of the record that b begins with: its length with the line end, or -1 if it is not all in b. At the end of the input
// a record ends without a line end too.
type splitter func(b []byte, eof bool) int

// cut calls fn for each record that begins before end, without its line end.
//
// A record that is longer than limit, or that has no end, goes to broken with what is there of it: its first line or, where
// that is longer than limit, so much of it (then size, which is that of the record or of its first line, is above limit). It
// goes on with the next line.
func (w *window) cut(ctx context.Context, end int64, limit int, split splitter, fn func(record []byte, offset int64) error, broken func(begin []byte, offset, size int64) error) error {
	longest := limit + len("\r\n")
	for w.at() < end {
		b, at := w.pending(), w.at()
		n := split(b, w.eof)
		switch {
		case 0 < n && n <= longest:
			record := trimEnd(b[:n])
			w.r += n
			var err error
			if len(record) > limit {
				err = broken(record[:limit], at, int64(len(record)))
			} else {
				err = fn(record, at)
			}
			if err != nil {
				return err
			}
		case len(b) == 0 && w.eof:
			return nil
		case len(b) > longest || w.eof:
			begin := bytes.Clone(b[:min(len(b), limit)]) // the window moves on
			size, err := w.skipLine(ctx)
			if err != nil {
				return err
			}
			if err := broken(begin[:min(int64(len(begin)), size)], at, size); err != nil {
				return err
			}
		default:
			if err := w.fill(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// untilEnd is the end of what is not cut into ranges.
const untilEnd = math.MaxInt64

// lineEnd is the splitter of lines.
func lineEnd(b []byte, eof bool) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	if eof && len(b) > 0 {
		return len(b)
	}
	return -1
}

// trimEnd cuts the line end off: "\n", "\r\n", or a "\r" at the end of the input.
func trimEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}
