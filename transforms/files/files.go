// Package files reads records from files: JSON lines, JSON, CSV, TSV, Parquet and YAML, plain or compressed, on a local
// disk, on Google Cloud Storage or on S3.
//
// Plan turns globs into Tasks, each of them a file or a part of one. A Reader reads a task, record by record:
//
//	tasks, err := files.Plan(ctx, []string{"gs://shop/events/**/*.jsonl.gz"}, files.For(mapping))
//	reader := files.NewReader(files.For(mapping))
//	err = reader.Each(ctx, tasks[0], func(r *source.Record) error { ... })
//
// # Guarantees
//
//   - Each record of each file is given exactly once, in the order of its file, whatever the ranges are that the file is cut into:
//     a line belongs to the range that it begins in.
//   - What cannot be cut into records (a line above the limit, a CSV record with a bare quote, a JSON array that breaks off) is given
//     as a record with an Err, in its place, with the bytes as they came up to the limit. Nothing is left out but blank lines.
//   - A file that cannot be read (a truncated archive, a lost connection, a broken Parquet footer) is an error of Each, which names
//     the file and the place. The records before it were given.
//   - Memory is bounded by the options, whatever is in the files.
//
// # Limits
//
//   - Parquet files are read through random access and are not unpacked from .gz or .zst first. The offset of their records is a row number.
//   - TSV has no quoting, as its definition says: a field that is quoted as a whole is unquoted, but a line break ends a record always.
//   - Of YAML, documents that are sequences of mappings are read: one element a record, given as JSON, with the offset of the line at which it
//     begins, in what the file unpacks to, at some 2 MB a second. Anchors hold within their element; merge keys and tags of one's own are refused.
//   - After a syntax error within a JSON array nobody knows where the next element begins: the rest of the file is one record with an Err.
//   - Files must not change while they are read: one that shrinks or grows between Plan and Each is an error.
//   - Names on object stores that are no keys (package store) are not found, such as one with an empty part.
package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"backbone/schemas/mappings"
	"backbone/transforms/source"
)

// Options say how files are read.
type Options struct {
	// Format of the files. Default: what the name's extension says (.jsonl, .ndjson, .json, .csv, .tsv, .parquet, .yaml, .yml, each also with .gz or .zst).
	//
	// A file that a JSON format is given for may also be Parquet, if its name or first bytes say so, and one named .json that is
	// read as JSON lines may also hold one array: the records are the same.
	Format mappings.Format
	// Columns of CSV and TSV files without a header line. Default: the first line of each file names them.
	Columns []string
	// Splittable says that no field of a CSV file holds a line break, so that it may be cut into ranges. TSV always may. Default: false.
	Splittable bool
	// RangeBytes is how much of a file one task reads, at least 1, where the file can be cut. Default: 8 MiB.
	RangeBytes int64
	// MaxRecordBytes is the size of the largest record, at least 1. Longer ones come cut, with an Err. Default: 1 MiB.
	MaxRecordBytes int
}

// Defaults returns the options that read files by their extension.
func Defaults() Options {
	return Options{RangeBytes: 8 << 20, MaxRecordBytes: 1 << 20}
}

// For returns the options for the files that a mapping is for.
func For(m *mappings.Mapping) Options {
	o := Defaults()
	o.Format, o.Columns, o.Splittable = m.Format, m.Columns, m.Splittable
	return o
}

// ForPart returns the options for the files that a mapping, or a part of one, is for, with the sizes of o.
func ForPart(m *mappings.Mapping, o Options) Options {
	of := For(m)
	of.RangeBytes, of.MaxRecordBytes = o.RangeBytes, o.MaxRecordBytes
	return of
}

// Validate returns all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.Format != "" && !o.Format.Valid() {
		errs = append(errs, fmt.Errorf("unknown format %q: use jsonl, json, csv, tsv, parquet or yaml", o.Format))
	}
	if o.RangeBytes < 1 {
		errs = append(errs, fmt.Errorf("RangeBytes (%d) must be at least 1", o.RangeBytes))
	}
	if o.MaxRecordBytes < 1 {
		errs = append(errs, fmt.Errorf("MaxRecordBytes (%d) must be at least 1", o.MaxRecordBytes))
	}
	return errors.Join(errs...)
}

// Task is a file, or a part of one, that one reader reads. It travels as the bytes of Encode.
type Task struct {
	URL         string          // of the file, without parameters: what Record.Source becomes; a local file is an absolute path
	Parameters  string          `json:",omitempty"` // of the URL, such as "region=eu-west-1"
	Format      mappings.Format // of the records
	Compression Compression     `json:",omitempty"`
	Whole       bool            `json:",omitempty"` // the task is the whole file: its first bytes were not looked at yet, and win over its name
	Start, End  int64           // bytes [Start, End) of the file; of Parquet, row groups
	Size        int64           // of the file in bytes
	Modified    int64           // of the file in microseconds since 1970
	Columns     []string        `json:",omitempty"` // of CSV and TSV; nil: the first record names them
}

// Encode returns t as bytes.
func (t Task) Encode() ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("file task %s: %w", t.URL, err)
	}
	return b, nil
}

// Decode is the inverse of Encode.
func Decode(b []byte) (Task, error) {
	var t Task
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("file task %q: %w", b, err)
	}
	return t, nil
}

// Each calls fn for every record of the task. One Reader for many tasks is cheaper.
func (t Task) Each(ctx context.Context, o Options, fn func(*source.Record) error) error {
	r := NewReader(o)
	err := r.Each(ctx, t, fn)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// String names the task in errors and logs.
func (t Task) String() string {
	if t.Whole {
		return fmt.Sprintf("%q", t.URL)
	}
	return fmt.Sprintf("%q [%d, %d)", t.URL, t.Start, t.End)
}
