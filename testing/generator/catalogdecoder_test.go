package generator

import (
	"testing"
	"time"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

// TestCatalogDecoderAgrees holds the truth about the exports against Backbone's own decoder and rules.
func TestCatalogDecoderAgrees(t *testing.T) {
	o := fair
	o.BrokenShare = 0.1
	dir, total := writeCatalog(t, o)
	t.Run("users", func(t *testing.T) {
		decoderAgrees(t, dir, total, schemas.Users)
	})
	t.Run("items", func(t *testing.T) {
		decoderAgrees(t, dir, total, schemas.Items)
	})
}

func decoderAgrees[R any](t *testing.T, dir string, total CatalogSummary, table *schemas.Table[R]) {
	t.Helper()
	mapping, err := mappings.NativeFor(table.Name)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := decode.New(mapping, table, table.Reset)
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]*BrokenRow{}
	if err := ReadBroken(dir, func(b *BrokenRow) error { c := *b; broken[b.PayloadSHA256] = &c; return nil }); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	err = ReadVersions(dir, func(v *Version) error {
		versions[v.ID+time.UnixMicro(v.ValidFrom).String()] = v.Content
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, e := range total.Exports {
		if e.Table != table.Name {
			continue
		}
		rules := schemas.CatalogRules{AsOf: e.AsOf.UnixMicro()}
		for _, line := range exportLines(t, dir, table.Name, e.Mode, e.AsOf) {
			want := broken[PayloadHash(line)]
			decoder.Decode(&source.Record{Data: line}, func(row *R, problem *schemas.FieldError) {
				if problem == nil {
					table.Clean(row)
					problem = table.Check(row, rules)
				}
				if problem == nil {
					table.Arrange(row)
				}
				switch {
				case problem == nil && want != nil:
					t.Errorf("want %s at %q, but it is a row: %.300s", want.Code, want.FieldPath, line)
				case problem == nil:
					id, from := table.Slot(row)
					content := ""
					if !table.Stamp(row).IsDeleted.V {
						content = string(Content(nil, table, row))
					}
					if got, ok := versions[id+time.UnixMicro(from).String()]; !ok || got != content {
						t.Errorf("row %s says\n%s\nwant\n%s", id, content, got)
					}
				case want == nil:
					t.Errorf("a row is refused: %v: %.600s", problem, line)
				case string(problem.Code) != want.Code || want.FieldPath != "" && problem.Path != want.FieldPath:
					if key := want.Code + want.FieldPath; !told[key] { // once a kind is enough
						told[key] = true
						t.Errorf("want %s at %q, got %v: %.300s", want.Code, want.FieldPath, problem, line)
					}
				}
			})
		}
	}
	if n := decoder.Dropped(); n != 0 {
		t.Errorf("%d unknown fields were left out", n)
	}
}
