package files_test

import (
	"context"
	"strings"
	"testing"

	"backbone/transforms/files"
	"backbone/transforms/source"
)

// BenchmarkRead reads 64 MB of a format, with lines of about 370 bytes, from the page cache on one core.
func BenchmarkRead(b *testing.B) {
	line := `{"event_id":"` + strings.Repeat("0123456789", 34) + `","n":1}`
	csv := "1234,5678,4.5,964982703"
	for _, bm := range []struct {
		file, text string
	}{
		{"a.jsonl", strings.Repeat(line+"\n", 64<<20/len(line))},
		{"a.json", "[" + strings.Repeat(line+",\n", 64<<20/len(line)) + "{}]"},
		{"a.csv", "a,b,c,d\n" + strings.Repeat(csv+"\n", 64<<20/len(csv))},
		{"a.jsonl.gz", gz(strings.Repeat(line+"\n", 64<<20/len(line)))},
		{"a.jsonl.zst", zst(strings.Repeat(line+"\n", 64<<20/len(line)))},
	} {
		b.Run(bm.file, func(b *testing.B) {
			ctx := context.Background()
			o := files.Defaults()
			tasks, err := files.Plan(ctx, []string{write(b, bm.file, bm.text)}, o)
			if err != nil {
				b.Fatal(err)
			}
			r := files.NewReader(o)
			b.ReportAllocs()
			for b.Loop() {
				n := int64(0)
				for _, task := range tasks {
					if err := r.Each(ctx, task, func(rec *source.Record) error { n += int64(len(rec.Data)) + 1; return nil }); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(n)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
