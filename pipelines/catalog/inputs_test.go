package catalog

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/datasets"
	"backbone/transforms/asof"
	"backbone/transforms/lake/rowfile"
)

// table is a mapping of a CSV export.
func table() *mappings.Mapping {
	return &mappings.Mapping{
		Name: "shop", Table: schemas.Items.Name, Format: mappings.CSV,
		Fields: map[string]mappings.Field{"item_id": {Path: "id"}, "title": {Path: "name"}, "tags": {Path: "tags", Split: "|"}},
	}
}

func write(t testing.TB, name string, body []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t testing.TB, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// letters returns the dead letters of a lake, as "code field: payload".
func (w *world) letters() []string {
	w.Helper()
	var out []string
	st := w.store()
	for e, err := range st.List(w.Context(), schemas.DeadLetters.Name+"/dt=") {
		if err != nil {
			w.Fatal(err)
		}
		if !strings.HasSuffix(e.Key, ".parquet") {
			continue
		}
		body, err := st.ReadAll(w.Context(), e.Key, 1<<30)
		if err != nil {
			w.Fatal(err)
		}
		err = rowfile.Each(bytes.NewReader(body), int64(len(body)), schemas.DeadLetters, (*schemas.DeadLetter).Reset, func(part []schemas.DeadLetter) error {
			for _, d := range part {
				if d.Source == "" || !d.Offset.Set || d.Stage == "" {
					w.Errorf("dead letter without its place: %+v", d)
				}
				out = append(out, fmt.Sprintf("%s %s: %s", d.ErrorCode, d.FieldPath, d.Payload))
			}
			return nil
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

// What exports of real systems look like: rows and dead letters.
func TestTables(t *testing.T) {
	const head = "id,name,tags\n"
	tests := []struct {
		name    string
		file    string
		body    []byte
		rows    []string
		letters []string
	}{
		{"plain", "a.csv", []byte(head + "1,Cup,a|b\n2,Mug,\n"), []string{"1 Cup", "2 Mug"}, nil},
		{"byte-order mark", "a.csv", []byte("\xef\xbb\xbf" + head + "1,Cup,a\n"), []string{"1 Cup"}, nil},
		{"CRLF", "a.csv", []byte("id,name,tags\r\n1,Cup,a\r\n2,Mug,b\r\n"), []string{"1 Cup", "2 Mug"}, nil},
		{"quoted line breaks", "a.csv", []byte(head + "1,\"Cup\nof tea\",a\n2,\"Mug \"\"big\"\"\",b\n"), []string{"1 Cup\nof tea", "2 Mug \"big\""}, nil},
		{"too few and too many fields", "a.csv", []byte(head + "1,Cup,a\n2,Mug\n3,Pot,a,b\n"), []string{"1 Cup"}, []string{"syntax : 2,Mug", "syntax : 3,Pot,a,b"}},
		{"Latin-1", "a.csv", []byte(head + "1,Caf\xe9,a\n2,Mug,b\n"), []string{"2 Mug"}, []string{"invalid_utf8 : 1,Caf\xe9,a"}},
		{"no id", "a.csv", []byte(head + ",Cup,a\n2,Mug,b\n"), []string{"2 Mug"}, []string{"missing item_id: ,Cup,a"}},
		{"gzip", "a.csv.gz", zipped(t, head+"1,Cup,a\n"), []string{"1 Cup"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			o := w.options(day(2), write(t, test.file, test.body))
			o.ItemsMapping = table()
			w.mustRun(o)
			if diff := cmp.Diff(test.rows, w.titlesAt(day(3))); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.letters, w.letters()); diff != "" {
				t.Errorf("dead letters (-want +got):\n%s", diff)
			}
		})
	}
}

// What can't be read in full is an error that names the file, and never a part of a version.
func TestFilesThatCannotBeRead(t *testing.T) {
	type record struct {
		ID string `parquet:"item_id"`
	}
	var whole bytes.Buffer
	if err := parquet.Write(&whole, []record{{"1"}, {"2"}}); err != nil {
		t.Fatal(err)
	}
	footer := bytes.Clone(whole.Bytes())
	copy(footer[len(footer)-8:], "\xff\xff\xff\x7f")
	long := strings.Repeat(`{"item_id":"1","title":"Cup"}`+"\n", 1000)
	tests := []struct {
		name, file string
		body       []byte
		want       string
	}{
		{"truncated gzip", "items.jsonl.gz", zipped(t, long)[:60], "items.jsonl.gz"},
		{"gzip with garbage", "items.jsonl.gz", append(zipped(t, long), "garbage"...), "items.jsonl.gz"},
		{"Parquet with a wrong footer", "items.parquet", footer, "items.parquet"},
		{"truncated Parquet", "items.parquet", whole.Bytes()[:whole.Len()-9], "items.parquet"},
		{"empty", "items.jsonl", nil, "no row"},
		{"only a header", "items.csv", []byte("item_id,title\n"), "no row"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			good := export(t, "good.jsonl", item("cup", 1, "Cup"))
			o := w.options(day(2), write(t, test.file, test.body))
			if test.want != "no row" {
				o.Items = append(o.Items, good) // what can be read does not make a version either
			}
			if strings.HasSuffix(test.file, ".csv") {
				o.ItemsMapping = table()
				o.ItemsMapping.Fields["item_id"] = mappings.Field{Path: "item_id"}
			}
			if _, err := w.run(o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want an error that tells of %q", err, test.want)
			}
			for name := range filesOf(t, w.lake) {
				if strings.HasPrefix(name, "items") {
					t.Errorf("there is %s", name)
				}
			}
		})
	}
}

// An export that can't be found is said so at once.
func TestNoFiles(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run(w.options(day(2), filepath.Join(t.TempDir(), "*.jsonl"))); err == nil || !strings.Contains(err.Error(), "*.jsonl") {
		t.Errorf("%v, want an error with the glob", err)
	}
}

// Real exports, with their presets.
func TestPresets(t *testing.T) {
	load := func(t *testing.T, name string) *mappings.Mapping {
		t.Helper()
		m, err := mappings.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	t.Run("MovieLens", func(t *testing.T) {
		dir := datasets.Dir(t, "movielens-latest-small")
		w := newWorld(t)
		o := w.options(day(2), filepath.Join(dir, "movies.csv"), filepath.Join(dir, "tags.csv"), filepath.Join(dir, "links.csv"))
		o.ItemsMapping = load(t, "movielens-movies")
		c := w.mustRun(o)
		// 3,683 tags and 9,742 links, all of movies that there are.
		if c["items/inserted"] != 9742 || c["items/joined"] != 3683+9742 || c["lake/dead_lettered"] != 0 {
			t.Errorf("counted %v", c)
		}
		movie, err := asof.Find(t.Context(), w.store(), schemas.Items, "60756", day(2))
		if err != nil || movie == nil {
			t.Fatal(movie, err)
		}
		if movie.Title != "Step Brothers (2008)" || !slices.Equal(movie.Categories, []string{"Comedy"}) ||
			!slices.Equal(movie.Tags, []string{"Highly quotable", "comedy", "funny", "will ferrell"}) ||
			movie.PublishedTime.V != time.Date(2008, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() ||
			!slices.Equal(movie.Attributes, []schemas.Pair{{Key: "imdb_id", Value: "0838283"}, {Key: "tmdb_id", Value: "12133"}}) {
			t.Errorf("movie %+v", movie)
		}
	})
	t.Run("Google Retail", func(t *testing.T) {
		dir := datasets.Dir(t, "google-retail")
		for name, want := range map[string][2]int64{"products.json": {316, 0}, "products_some_invalid.json": {2, 1}} {
			w := newWorld(t)
			o := w.options(day(2), filepath.Join(dir, name))
			o.ItemsMapping = load(t, "google-retail-products")
			c := w.mustRun(o)
			if c["items/inserted"] != want[0] || c["lake/dead_lettered"] != want[1] {
				t.Errorf("%s: counted %v, want %v", name, c, want)
			}
			if letters := w.letters(); want[1] > 0 && (len(letters) != 1 || !strings.HasPrefix(letters[0], "unknown_type availability: {\"id\": \"GGCOGOAC101259\"")) {
				t.Errorf("dead letters %q", letters)
			}
		}
	})
	t.Run("Retail Demo Store", func(t *testing.T) {
		dir := datasets.Dir(t, "retail-demo-store")
		w := newWorld(t)
		o := w.options(day(2), filepath.Join(dir, "products.yaml"))
		o.ItemsMapping = load(t, "retail-demo-products")
		o.Users, o.UsersMapping = []string{filepath.Join(dir, "*users.json.gz")}, load(t, "retail-demo-users")
		c := w.mustRun(o)
		if c["items/inserted"] != 2465 || c["users/inserted"] != 5250+750 || c["lake/dead_lettered"] != 0 {
			t.Errorf("counted %v", c)
		}
		user, err := asof.Find(t.Context(), w.store(), schemas.Users, "1", day(2))
		if err != nil || user == nil || !slices.Equal(user.Segments, []string{"furniture", "homedecor", "housewares"}) || user.AgeBand != "25-34" || user.Country != "US" {
			t.Errorf("user %+v, %v", user, err)
		}
	})
}
