package decode_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	m := load(t, preset)
	rules := schemas.Rules{Now: time.Now().UnixMicro(), Types: m.EventTypes}
	return decodeTable(t, m, file, schemas.Interactions, (*schemas.Interaction).Reset, func(r *schemas.Interaction) *schemas.FieldError { return r.Check(rules) })
}

// asOf is the time that exports of users and items are as of.
var asOf = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func decodeItems(t *testing.T, preset, file string) ([]schemas.Item, []schemas.FieldError) {
	t.Helper()
	m := load(t, preset)
	return decodeTable(t, m, file, schemas.Items, (*schemas.Item).Reset, func(r *schemas.Item) *schemas.FieldError {
		r.Normalize()
		return r.Check(schemas.CatalogRules{AsOf: asOf, Dimensions: m.Dimensions()})
	})
}

func decodeUsers(t *testing.T, preset, file string) ([]schemas.User, []schemas.FieldError) {
	t.Helper()
	return decodeTable(t, load(t, preset), file, schemas.Users, (*schemas.User).Reset, func(r *schemas.User) *schemas.FieldError {
		r.Normalize()
		return r.Check(schemas.CatalogRules{AsOf: asOf})
	})
}

func load(t *testing.T, preset string) *mappings.Mapping {
	t.Helper()
	m, err := mappings.Load(preset)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// decodeTable gives the rows of a file that check lets through, and what is wrong with the others. Of a side file the part of the mapping is taken.
func decodeTable[R any](t *testing.T, m *mappings.Mapping, file string, table *schemas.Table[R], reset func(*R), check func(*R) *schemas.FieldError) (rows []R, faults []schemas.FieldError) {
	t.Helper()
	ctx := t.Context()
	m, _ = m.For(file)
	d, err := decode.New(m, table, reset)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := files.Plan(ctx, []string{file}, files.For(m))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		err := task.Each(ctx, files.For(m), func(rec *source.Record) error {
			d.Decode(rec, func(row *R, fault *schemas.FieldError) {
				if fault == nil {
					fault = check(row)
				}
				if fault != nil {
					faults = append(faults, *fault)
					return
				}
				rows = append(rows, clone(table, row))
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
func clone[R any](table *schemas.Table[R], r *R) R {
	c := *r
	for _, columns := range [][]schemas.Column[R]{table.Columns, table.Inputs} {
		for _, col := range columns {
			switch {
			case col.Str != nil:
				*col.Str(&c) = strings.Clone(*col.Str(&c))
			case col.List != nil:
				list := slices.Clone(*col.List(r))
				for i := range list {
					list[i] = strings.Clone(list[i])
				}
				*col.List(&c) = list
			case col.Map != nil:
				pairs := slices.Clone(*col.Map(r))
				for i, p := range pairs {
					pairs[i] = schemas.Pair{Key: strings.Clone(p.Key), Value: strings.Clone(p.Value)}
				}
				*col.Map(&c) = pairs
			case col.Numbers != nil:
				numbers := slices.Clone(*col.Numbers(r))
				for i, n := range numbers {
					numbers[i].Key = strings.Clone(n.Key)
				}
				*col.Numbers(&c) = numbers
			case col.Vector != nil:
				*col.Vector(&c) = slices.Clone(*col.Vector(r))
			case col.Items != nil:
				items := slices.Clone(*col.Items(r))
				for i := range items {
					items[i].ItemID = strings.Clone(items[i].ItemID)
				}
				*col.Items(&c) = items
			}
		}
	}
	return c
}

// golden writes the rows of a table as a golden file does.
func golden[R any](table *schemas.Table[R], rows []R, faults []schemas.FieldError) string {
	var text strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&text, "refused: %v\n", &f)
	}
	for i, r := range rows {
		if i > 0 {
			text.WriteByte('\n')
		}
		for _, columns := range [][]schemas.Column[R]{table.Columns, table.Inputs} {
			for _, c := range columns {
				if v := c.Text(&r); v != "" {
					fmt.Fprintf(&text, "%s: %s\n", c.Name, v)
				}
			}
		}
	}
	return text.String()
}

// Each preset makes the rows of its golden file of the sample that comes with it.
func TestPresets(t *testing.T) {
	samples, err := filepath.Glob("../../schemas/mappings/testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(mappings.Presets()) - len(mappings.Tables()); len(samples) != want { // Backbone's own formats have tests of their own
		t.Errorf("%d samples, want one for each of %d presets", len(samples), want)
	}
	for _, sample := range samples {
		preset := strings.TrimSuffix(filepath.Base(sample), filepath.Ext(sample))
		t.Run(preset, func(t *testing.T) {
			var text string
			switch load(t, preset).Table {
			case schemas.Users.Name:
				rows, faults := decodeUsers(t, preset, sample)
				text = golden(schemas.Users, rows, faults)
			case schemas.Items.Name:
				rows, faults := decodeItems(t, preset, sample)
				text = golden(schemas.Items, rows, faults)
			default:
				rows, faults := decodeFile(t, preset, sample)
				text = golden(schemas.Interactions, rows, faults)
			}
			name := filepath.Join("testdata", "presets", preset+".golden")
			if *update {
				if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text); diff != "" {
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

// All of a real catalog becomes rows.
func TestItemsOfRealFiles(t *testing.T) {
	for _, tc := range []struct {
		preset, set, file string
		rows              int
		faults            []schemas.FieldError
		first             string // some of the first row
	}{
		{"movielens-movies", "movielens-latest-small", "movies.csv", 9_742, nil,
			"item_id: 1\nitem_type: movie\ntitle: Toy Story (1995)\ncategories: Adventure, Animation, Children, Comedy, Fantasy\npublished_time: 1995-01-01T00:00:00Z\n"},
		{"movielens-movies", "movielens-latest-small", "links.csv", 9_742, nil, "item_id: 1\nattributes: imdb_id: 0114709, tmdb_id: 862\n"},
		{"movielens-movies", "movielens-latest-small", "tags.csv", 3_683, nil, "item_id: 60756\ntags: funny\n"},
		{"google-retail-products", "google-retail", "products.json", 316, nil,
			"price: 16\ncurrency: USD\navailability: in_stock\navailable_from: 2021-10-11T12:00:00Z\n"},
		{"google-retail-products", "google-retail", "products_some_invalid.json", 2, []schemas.FieldError{{Path: "availability", Code: schemas.CodeUnknownType}}, "item_id: GGPRAHPL107110\n"},
		{"retail-demo-products", "retail-demo-store", "products.yaml", 2_465, nil,
			"item_id: 6579c22f-be2b-444c-a52b-0116dd82df6c\nitem_type: product\ntitle: Adventure-Ready Expedition Backpack\ncategories: accessories\nprice: 129.99\ncurrency: USD\n"},
	} {
		t.Run(tc.set+"/"+tc.file, func(t *testing.T) {
			rows, faults := decodeItems(t, tc.preset, filepath.Join(datasets.Dir(t, tc.set), tc.file))
			ids := map[string]bool{}
			for _, r := range rows {
				ids[r.ItemID] = true
			}
			if want := tc.rows; len(rows) != want || tc.file != "tags.csv" && len(ids) != want {
				t.Errorf("%d rows with %d ids, want %d", len(rows), len(ids), want)
			}
			checkFaults(t, tc.faults, faults)
			if got := golden(schemas.Items, rows[:1], nil); !strings.Contains(got, tc.first) {
				t.Errorf("first row is\n%swithout\n%s", got, tc.first)
			}
		})
	}
}

func TestUsersOfRealFiles(t *testing.T) {
	for file, want := range map[string]int{"users.json.gz": 5_250, "cstore_users.json.gz": 750} {
		t.Run(file, func(t *testing.T) {
			rows, faults := decodeUsers(t, "retail-demo-users", filepath.Join(datasets.Dir(t, "retail-demo-store"), file))
			ids := map[string]bool{}
			for _, r := range rows {
				ids[r.UserID] = true
				if len(r.VisitorIDs) != 3 || r.Country != "US" || len(r.Region) != 2 || len(r.Segments) == 0 || r.AgeBand == "" || len(r.Attributes) != 2 || len(r.Extra) > 0 {
					t.Fatalf("user %+v", r)
				}
			}
			if len(rows) != want || len(ids) != want {
				t.Errorf("%d rows with %d ids, want %d", len(rows), len(ids), want)
			}
			checkFaults(t, nil, faults)
		})
	}
}

// What movies.csv says is counted by other means: 34 have no genres, 13 no year at their end.
func TestMoviesOfRealFile(t *testing.T) {
	rows, _ := decodeItems(t, "movielens-movies", filepath.Join(datasets.Dir(t, "movielens-latest-small"), "movies.csv"))
	noGenres, noYear, genres := 0, 0, 0
	for _, r := range rows {
		genres += len(r.Categories)
		if len(r.Categories) == 0 {
			noGenres++
		}
		if !r.PublishedTime.Set {
			noYear++
		}
	}
	if noGenres != 34 || noYear != 13 || genres != 22_050 {
		t.Errorf("%d movies without genres, %d without a year, %d genres", noGenres, noYear, genres)
	}
}

func checkFaults(t *testing.T, want, got []schemas.FieldError) {
	t.Helper()
	for i := range got {
		got[i].Message = ""
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%.2000s", diff)
	}
}
