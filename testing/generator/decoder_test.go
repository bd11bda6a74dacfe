package generator_test

import (
	"testing"
	"time"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/generator"
	"backbone/transforms/decode"
	"backbone/transforms/source"
)

// TestDecoderAgrees holds the verdicts against those of Backbone's own decoder and rules.
func TestDecoderAgrees(t *testing.T) {
	options := generator.Options{Events: 20_000, BrokenShare: 0.1, Seed: 2}
	g, err := generator.New(options)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := decode.New(mappings.Native(), schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		t.Fatal(err)
	}
	rules := schemas.Rules{Now: g.Options().Start.Add(48 * time.Hour).UnixMicro()}
	told := map[string]bool{}
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		if len(e.Data) > 1<<20 {
			continue // too large for a source: no decoder sees it
		}
		calls := 0
		decoder.Decode(&source.Record{Data: e.Data}, func(row *schemas.Interaction, problem *schemas.FieldError) {
			calls++
			if problem == nil {
				problem = row.Check(rules)
			}
			switch {
			case problem == nil && e.Verdict == generator.Broken:
				t.Errorf("want %s at %q, but it is a row: %.300s", e.Code, e.FieldPath, e.Data)
			case problem == nil:
				if row.EventID != e.ID || row.EventTime.V != e.EventMicros {
					t.Errorf("row is %s at %d, want %s at %d", row.EventID, row.EventTime.V, e.ID, e.EventMicros)
				}
			case e.Verdict != generator.Broken || problem.Code != e.Code || e.FieldPath != "" && problem.Path != e.FieldPath:
				if key := string(e.Code) + e.FieldPath; !told[key] { // once a kind is enough
					told[key] = true
					t.Errorf("want %v %s at %q, got %v: %.300s", e.Verdict, e.Code, e.FieldPath, problem, e.Data)
				}
			}
		})
		if calls != 1 {
			t.Errorf("%d events came out of one: %.300s", calls, e.Data)
		}
	}
	if n := decoder.Dropped(); n != 0 {
		t.Errorf("%d unknown fields were left out", n)
	}
}
