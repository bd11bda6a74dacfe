package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/files"
	"backbone/transforms/source"
)

// seen is a record, kept.
type seen struct {
	Data    string
	Fields  []string
	Columns []string
	Offset  int64
	Code    schemas.Code
	Over    int64 // bytes of the record that Data lacks
}

// failer is a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// read plans a glob and reads all of its tasks.
func read(t failer, o files.Options, globs ...string) []seen {
	t.Helper()
	all, err := tryRead(o, globs...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func tryRead(o files.Options, globs ...string) ([]seen, error) {
	ctx := context.Background()
	tasks, err := files.Plan(ctx, globs, o)
	if err != nil {
		return nil, err
	}
	r := files.NewReader(o)
	var all []seen
	for _, task := range tasks {
		b, err := task.Encode()
		if err != nil {
			return nil, err
		}
		if task, err = files.Decode(b); err != nil {
			return nil, err
		}
		err = r.Each(ctx, task, func(rec *source.Record) error {
			one := seen{Data: string(rec.Data), Offset: rec.Offset, Over: max(0, rec.Size-int64(len(rec.Data)))}
			for _, f := range rec.Fields {
				one.Fields = append(one.Fields, strings.Clone(f))
			}
			if rec.Columns != nil {
				one.Columns = append(one.Columns, rec.Columns...)
			}
			if rec.Source != task.URL || rec.Received != task.Modified {
				return fmt.Errorf("record of %q at %d, want %q at %d", rec.Source, rec.Received, task.URL, task.Modified)
			}
			if rec.Err != nil {
				var field *schemas.FieldError
				if !errors.As(rec.Err, &field) || field.Message == "" {
					return fmt.Errorf("a record's Err is no FieldError with a message: %w", rec.Err)
				}
				one.Code = field.Code
			}
			all = append(all, one)
			return nil
		})
		if err != nil {
			return all, err
		}
	}
	return all, r.Close()
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gz(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text)) // A buffer takes all.
	_ = z.Close()
	return b.String()
}

func zst(text string) string {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(z.EncodeAll([]byte(text), nil))
}

func TestJSONLines(t *testing.T) {
	small := files.Defaults()
	small.MaxRecordBytes = 8
	for _, tc := range []struct {
		name, text string
		want       []seen
	}{
		{"empty", "", nil},
		{"only line ends", "\n\n\r\n \n\t\n", nil},
		{"one", "{}\n", []seen{{Data: "{}"}}},
		{"no line end at the end", "1\n2", []seen{{Data: "1"}, {Data: "2", Offset: 2}}},
		{"CRLF", "1\r\n22\r\n", []seen{{Data: "1"}, {Data: "22", Offset: 3}}},
		{"CR at the end", "1\r", []seen{{Data: "1"}}},
		{"BOM", "\xef\xbb\xbf1\n2\n", []seen{{Data: "1", Offset: 3}, {Data: "2", Offset: 5}}},
		{"only a BOM", "\xef\xbb\xbf", nil},
		{"BOM within", "1\n\xef\xbb\xbf2\n", []seen{{Data: "1"}, {Data: "\xef\xbb\xbf2", Offset: 2}}},
		{"blank lines between", "1\n\n \n2\n", []seen{{Data: "1"}, {Data: "2", Offset: 5}}},
		{"as long as may be", "12345678\n1\n", []seen{{Data: "12345678"}, {Data: "1", Offset: 9}}},
		{"as long as may be, CRLF", "12345678\r\n1\n", []seen{{Data: "12345678"}, {Data: "1", Offset: 10}}},
		{"too long", "123456789\n1\n", []seen{{Data: "12345678", Code: schemas.CodeTooLarge, Over: 1}, {Data: "1", Offset: 10}}},
		{"too long at the end", "1\n1234567890123", []seen{{Data: "1"}, {Data: "12345678", Offset: 2, Code: schemas.CodeTooLarge, Over: 5}}},
		{"bytes that are no text", "\x00\xff\n", []seen{{Data: "\x00\xff"}}},
	} {
		for name, pack := range packs {
			t.Run(tc.name+name, func(t *testing.T) {
				got := read(t, small, write(t, "a.jsonl"+name, pack(tc.text)))
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
			})
		}
		t.Run(tc.name+"/ranges", func(t *testing.T) {
			o := small
			for o.RangeBytes = 1; o.RangeBytes < int64(len(tc.text)); o.RangeBytes++ {
				got := read(t, o, write(t, "a.jsonl", tc.text))
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("records with ranges of %d bytes (-want +got):\n%s", o.RangeBytes, diff)
				}
			}
		})
	}
}

var packs = map[string]func(string) string{
	"":     func(s string) string { return s },
	".gz":  gz,
	".zst": zst,
}

// A line that is many times larger than all buffers is cut, and the lines around it are whole.
func TestHugeLine(t *testing.T) {
	huge := strings.Repeat("x", 5<<20)
	text := "before\n" + huge + "\nafter\n"
	for name, pack := range packs {
		for _, rangeBytes := range []int64{100_000, 8 << 20} {
			o := files.Defaults()
			o.RangeBytes = rangeBytes
			want := []seen{
				{Data: "before"},
				{Data: huge[:o.MaxRecordBytes], Offset: 7, Code: schemas.CodeTooLarge, Over: int64(len(huge) - o.MaxRecordBytes)},
				{Data: "after", Offset: int64(7 + len(huge) + 1)},
			}
			if diff := cmp.Diff(want, read(t, o, write(t, "a.jsonl"+name, pack(text)))); diff != "" {
				t.Errorf("%s: records (-want +got):\n%.1000s", name, diff)
			}
		}
	}
}

// Whatever the lines and whatever the ranges: each line comes once, in order, from its offset.
func TestRangesGiveEachLineOnce(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-c]{0,12}`), 0, 40).Draw(t, "lines")
		ends := rapid.SampledFrom([]string{"\n", "\r\n"})
		var text strings.Builder
		var want []seen
		o := files.Defaults()
		o.MaxRecordBytes = rapid.IntRange(1, 14).Draw(t, "limit")
		for i, line := range lines {
			if line != "" {
				one := seen{Data: line, Offset: int64(text.Len())}
				if len(line) > o.MaxRecordBytes {
					one.Data, one.Code, one.Over = line[:o.MaxRecordBytes], schemas.CodeTooLarge, int64(len(line)-o.MaxRecordBytes)
				}
				want = append(want, one)
			}
			text.WriteString(line)
			if i < len(lines)-1 || rapid.Bool().Draw(t, "last line end") {
				text.WriteString(ends.Draw(t, "line end"))
			}
		}
		o.RangeBytes = rapid.Int64Range(1, 60).Draw(t, "range")
		path := filepath.Join(dir, "a.jsonl")
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, read(t, o, path)); diff != "" {
			t.Fatalf("records of %q (-want +got):\n%s", text.String(), diff)
		}
	})
}
