package decode_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/datasets"
	"backbone/transforms/decode"
	"backbone/transforms/files"
	"backbone/transforms/source"
)

var update = flag.Bool("update_golden", false, "rewrite the golden files of presets to what was seen; read them before you commit them")

// decodeFile gives the events of a file: rows as text, or what is wrong.
func decodeFile(t *testing.T, preset, file string) (rows []schemas.Interaction, faults []schemas.FieldError) {
	t.Helper()
	ctx := context.Background()
	m, err := mappings.Load(preset)
	if err != nil {
		t.Fatal(err)
	}
	d, err := decode.New(m, schemas.Interactions, (*schemas.Interaction).Reset)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := files.Plan(ctx, []string{file}, files.For(m))
	if err != nil {
		t.Fatal(err)
	}
	rules := schemas.Rules{Now: time.Now().UnixMicro(), Types: m.EventTypes}
	for _, task := range tasks {
		err := task.Each(ctx, files.For(m), func(rec *source.Record) error {
			d.Decode(rec, func(row *schemas.Interaction, fault *schemas.FieldError) {
				if fault == nil {
					fault = row.Check(rules)
				}
				if fault != nil {
					faults = append(faults, *fault)
					return
				}
				rows = append(rows, clone(row))
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows, faults
}

// clone copies a row and its strings, which may alias a buffer.
func clone(r *schemas.Interaction) schemas.Interaction {
	c := *r
	c.Items = append([]schemas.LineItem(nil), r.Items...)
	c.ExperimentIDs = append([]string(nil), r.ExperimentIDs...)
	c.Extra = append([]schemas.Pair(nil), r.Extra...)
	for _, columns := range [][]schemas.Column[schemas.Interaction]{schemas.Interactions.Columns, schemas.Interactions.Inputs} {
		for _, col := range columns {
			if col.Str != nil {
				*col.Str(&c) = strings.Clone(*col.Str(&c))
			}
		}
	}
	for i := range c.Items {
		c.Items[i].ItemID = strings.Clone(c.Items[i].ItemID)
	}
	for i := range c.ExperimentIDs {
		c.ExperimentIDs[i] = strings.Clone(c.ExperimentIDs[i])
	}
	for i := range c.Extra {
		c.Extra[i] = schemas.Pair{Key: strings.Clone(c.Extra[i].Key), Value: strings.Clone(c.Extra[i].Value)}
	}
	return c
}

// Each preset makes the rows of its golden file of the sample that comes with it.
func TestPresets(t *testing.T) {
	samples, err := filepath.Glob("../../schemas/mappings/testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(mappings.Presets()) - 1; len(samples) != want { // native has a test of its own
		t.Errorf("%d samples, want one for each of %d presets", len(samples), want)
	}
	for _, sample := range samples {
		preset := strings.TrimSuffix(filepath.Base(sample), filepath.Ext(sample))
		t.Run(preset, func(t *testing.T) {
			rows, faults := decodeFile(t, preset, sample)
			var text strings.Builder
			for _, f := range faults {
				fmt.Fprintf(&text, "refused: %v\n", &f)
			}
			for i, r := range rows {
				if i > 0 {
					text.WriteByte('\n')
				}
				for _, columns := range [][]schemas.Column[schemas.Interaction]{schemas.Interactions.Columns, schemas.Interactions.Inputs} {
					for _, c := range columns {
						if v := c.Text(&r); v != "" {
							fmt.Fprintf(&text, "%s: %s\n", c.Name, v)
						}
					}
				}
			}
			golden := filepath.Join("testdata", "presets", preset+".golden")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(text.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text.String()); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

// Real files become as many events as their makers say, each with an id of its own.
func TestPresetsOnRealFiles(t *testing.T) {
	for _, tc := range []struct {
		preset, set, file string
		rows              int
		types             map[string]int
		sum               float64 // of value
		faults            []schemas.FieldError
	}{
		{"movielens-ratings", "movielens-latest-small", "ratings.csv", 100_836, map[string]int{"rate": 100_836}, 353083.0, nil},
		{"movielens-tags", "movielens-latest-small", "tags.csv", 3_683, map[string]int{"comment": 3_683}, 0, nil},
		{"otto", "otto-sample", "train.jsonl", 862, map[string]int{"click": 800, "add_to_cart": 52, "purchase": 10}, 0, nil},
		{"google-retail", "google-retail", "user_events.json", 4, map[string]int{"home_view": 1, "search": 2, "view": 1}, 0, nil},
		{"google-retail", "google-retail", "user_events_some_invalid.json", 3, map[string]int{"home_view": 1, "search": 1, "view": 1}, 0,
			[]schemas.FieldError{{Path: "eventType", Code: schemas.CodeUnknownType}}},
	} {
		t.Run(tc.set+"/"+tc.file, func(t *testing.T) {
			rows, faults := decodeFile(t, tc.preset, filepath.Join(datasets.Dir(t, tc.set), tc.file))
			ids, types, sum := map[string]bool{}, map[string]int{}, 0.0
			for _, r := range rows {
				ids[r.EventID] = true
				types[r.EventType]++
				sum += r.Value.V
			}
			if len(rows) != tc.rows || len(ids) != tc.rows || sum != tc.sum {
				t.Errorf("%d rows with %d ids and a sum of %v, want %d and %v", len(rows), len(ids), sum, tc.rows, tc.sum)
			}
			if diff := cmp.Diff(tc.types, types); diff != "" {
				t.Errorf("event types (-want +got):\n%s", diff)
			}
			for i := range faults {
				faults[i].Message = ""
			}
			if diff := cmp.Diff(tc.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
