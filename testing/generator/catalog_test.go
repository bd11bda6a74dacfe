package generator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"backbone/schemas"
)

// fair is a catalogue in which everything occurs.
var fair = CatalogOptions{
	Days: 5, Users: 1_500, Items: 2_000, Seed: 7, Files: 3,
	NewShare: 0.03, ChangeShare: 0.2, DeleteShare: 0.05, RecreateShare: 0.3,
	DuplicateShare: 0.05, OlderShare: 0.1, BrokenShare: 0.05,
}

// writeCatalog writes a catalogue to a new folder.
func writeCatalog(t testing.TB, o CatalogOptions) (dir string, total CatalogSummary) {
	t.Helper()
	dir = t.TempDir()
	total, err := WriteCatalog(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, total
}

// exportLines returns the lines of an export.
func exportLines(t testing.TB, dir, table, mode string, asOf time.Time) (lines [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, CatalogDir, table, mode, "as_of="+asOf.Format("20060102T150405Z"), "part-*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of the export as of %v: %v", asOf, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(bytes.NewReader(text))
		scanner.Buffer(nil, 4<<20)
		for scanner.Scan() {
			lines = append(lines, bytes.Clone(scanner.Bytes()))
		}
	}
	return lines
}

// record is a row as this test reads it, by nothing of the code that Backbone reads it by.
type record struct {
	id      string
	from    int64
	deleted bool
	content string
}

// parse reads a line of an export. It knows the kinds of columns, and has the row normalised and checked.
func parse[R any](t testing.TB, table *schemas.Table[R], check func(*R) *schemas.FieldError, line []byte) record {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	var row R
	into := func(name string, v any) bool {
		text, ok := members[name]
		delete(members, name)
		if ok {
			if err := json.Unmarshal(text, v); err != nil {
				t.Fatalf("%s: %v: %s", name, err, line)
			}
		}
		return ok && string(text) != "null"
	}
	for _, c := range table.Columns {
		if c.System {
			continue
		}
		switch c.Kind {
		case schemas.String:
			into(c.Name, c.Str(&row))
		case schemas.Strings:
			into(c.Name, c.List(&row))
		case schemas.Floats:
			into(c.Name, c.Vector(&row))
		case schemas.Int64:
			c.Int(&row).Set = into(c.Name, &c.Int(&row).V)
		case schemas.Float64:
			c.Float(&row).Set = into(c.Name, &c.Float(&row).V)
		case schemas.Boolean:
			c.Bool(&row).Set = into(c.Name, &c.Bool(&row).V)
		case schemas.Micros:
			var at time.Time
			if into(c.Name, &at) {
				*c.Int(&row) = schemas.Some(at.UnixMicro())
			}
		case schemas.Map:
			var texts map[string]string
			into(c.Name, &texts)
			for key, value := range texts {
				*c.Map(&row) = append(*c.Map(&row), schemas.Pair{Key: key, Value: value})
			}
		case schemas.Numbers:
			var numbers map[string]float64
			into(c.Name, &numbers)
			for key, value := range numbers {
				*c.Numbers(&row) = append(*c.Numbers(&row), schemas.Number{Key: key, Value: value})
			}
		default:
			t.Fatalf("column %s has a kind that this test does not know", c.Name)
		}
	}
	for name, text := range members {
		*table.Extra(&row) = append(*table.Extra(&row), schemas.Pair{Key: name, Value: string(text)})
	}
	id, from := table.Slot(&row)
	any(&row).(interface{ Normalize() }).Normalize()
	if err := check(&row); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	r := record{id: id, from: from, deleted: table.Stamp(&row).IsDeleted.V}
	if !r.deleted {
		r.content = string(Content(nil, table, &row))
	}
	return r
}

func parseLine(t testing.TB, table string, asOf time.Time, line []byte) record {
	t.Helper()
	rules := schemas.CatalogRules{AsOf: asOf.UnixMicro()}
	if table == schemas.Users.Name {
		return parse(t, schemas.Users, func(r *schemas.User) *schemas.FieldError { return r.Check(rules) }, line)
	}
	return parse(t, schemas.Items, func(r *schemas.Item) *schemas.FieldError { return r.Check(rules) }, line)
}

// replay reads the exports of a mode and returns the versions that they make: the model of what a pipeline has to do.
func replay(t testing.TB, dir string, total CatalogSummary, table, mode string, order func([]ExportSummary)) map[string][]record {
	t.Helper()
	broken := map[string]bool{}
	if err := ReadBroken(dir, func(b *BrokenRow) error { broken[b.PayloadSHA256] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	exports := slices.DeleteFunc(slices.Clone(total.Exports), func(e ExportSummary) bool { return e.Table != table || e.Mode != mode })
	if order != nil {
		order(exports)
	}
	versions := map[string]map[int64]record{}
	add := func(r record) {
		if versions[r.id] == nil {
			versions[r.id] = map[int64]record{}
		}
		if old, ok := versions[r.id][r.from]; ok && old != r {
			t.Fatalf("a version that says one thing and another:\n%+v\n%+v", old, r)
		}
		versions[r.id][r.from] = r
	}
	for _, e := range exports {
		there := map[string]bool{}
		for _, line := range exportLines(t, dir, table, mode, e.AsOf) {
			if broken[PayloadHash(line)] {
				continue
			}
			r := parseLine(t, table, e.AsOf, line)
			there[r.id] = true
			add(r)
		}
		for id, of := range versions {
			if last := slices.Max(slices.Collect(maps.Keys(of))); mode == Full && !there[id] && !of[last].deleted {
				add(record{id: id, from: e.AsOf.UnixMicro(), deleted: true})
			}
		}
	}
	all := map[string][]record{}
	for id, of := range versions {
		all[id] = slices.SortedFunc(maps.Values(of), func(a, b record) int { return int(a.from - b.from) })
	}
	return all
}

// truthOf returns the versions of a table that the truth has.
func truthOf(t testing.TB, dir, table string) map[string][]record {
	t.Helper()
	all := map[string][]record{}
	ends := map[string]int64{}
	err := ReadVersions(dir, func(v *Version) error {
		if v.Table != table {
			return nil
		}
		if len(all[v.ID]) > 0 && ends[v.ID] != v.ValidFrom {
			t.Errorf("%s: a version ends at %d, and the next begins at %d", v.ID, ends[v.ID], v.ValidFrom)
		}
		ends[v.ID] = v.ValidTo
		all[v.ID] = append(all[v.ID], record{v.ID, v.ValidFrom, v.IsDeleted, v.Content})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, end := range ends {
		if end != 0 {
			t.Errorf("%s has no current version", id)
		}
	}
	return all
}

// Whichever way the exports are taken, what they say is the truth.
func TestExportsImplyTruth(t *testing.T) {
	dir, total := writeCatalog(t, fair)
	ways := map[string]struct {
		mode  string
		order func([]ExportSummary)
	}{
		"Full":           {Full, nil},
		"Delta":          {Delta, nil},
		"DeltaBackwards": {Delta, slices.Reverse[[]ExportSummary]},
	}
	for _, table := range []string{"users", "items"} {
		want := truthOf(t, dir, table)
		for name, way := range ways {
			t.Run(table+"/"+name, func(t *testing.T) {
				got := replay(t, dir, total, table, way.mode, way.order)
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
					t.Errorf("versions (-truth +exports):\n%.2000s", diff)
				}
			})
		}
	}
}

func TestExportsImplyTruthAlways(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		share := rapid.SampledFrom([]float64{-1, 0, 0.3})
		o := CatalogOptions{
			Days: rapid.IntRange(1, 6).Draw(rt, "days"), Users: 30, Items: 20, Seed: rapid.Uint64().Draw(rt, "seed"),
			NewShare: rapid.SampledFrom([]float64{-1, 0, 0.2}).Draw(rt, "new"), ChangeShare: share.Draw(rt, "change"), DeleteShare: share.Draw(rt, "delete"),
			RecreateShare: share.Draw(rt, "recreate"), DuplicateShare: share.Draw(rt, "duplicate"), OlderShare: share.Draw(rt, "older"),
			BrokenShare: share.Draw(rt, "broken"), OddShare: share.Draw(rt, "odd"), Files: rapid.IntRange(1, 3).Draw(rt, "files"),
		}
		dir, total := writeCatalog(t, o)
		for _, table := range []string{"users", "items"} {
			want := truthOf(t, dir, table)
			for _, mode := range []string{Full, Delta} {
				if diff := cmp.Diff(want, replay(t, dir, total, table, mode, nil), cmp.AllowUnexported(record{})); diff != "" {
					rt.Errorf("%s, %s: versions (-truth +exports):\n%.2000s", table, mode, diff)
				}
			}
		}
	})
}

// The times of versions are what a pipeline relies on.
func TestVersionTimes(t *testing.T) {
	dir, total := writeCatalog(t, fair)
	first, days := total.Start.UnixMicro(), map[string]bool{}
	err := ReadVersions(dir, func(v *Version) error {
		day := (v.ValidFrom - first - 1) / dayMicros
		if v.ValidFrom <= first || day >= int64(total.Days) {
			t.Errorf("%s has a version of %v", v.ID, time.UnixMicro(v.ValidFrom).UTC())
		}
		if key := fmt.Sprint(v.Table, v.ID, day); days[key] {
			t.Errorf("%s changes twice on day %d", v.ID, day)
		} else {
			days[key] = true
		}
		if v.IsDeleted && (v.ValidFrom-first)%dayMicros != 0 {
			t.Errorf("%s is deleted at %v, which is not the end of a day", v.ID, time.UnixMicro(v.ValidFrom).UTC())
		}
		if v.IsDeleted != (v.Content == "") {
			t.Errorf("%s: deleted is %v, content is %q", v.ID, v.IsDeleted, v.Content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The totals are those of what was written, and everything occurs.
func TestCatalogTotals(t *testing.T) {
	dir, total := writeCatalog(t, fair)
	if kept, err := ReadCatalogSummary(dir); err != nil || !cmp.Equal(kept, total) {
		t.Errorf("truth.json differs (%v):\n%s", err, cmp.Diff(total, kept))
	}
	if len(total.Exports) != 2*2*fair.Days {
		t.Fatalf("there are %d exports", len(total.Exports))
	}
	codes := map[string]int{}
	payloads := map[string]bool{}
	broken := map[string]int{}
	err := ReadBroken(dir, func(b *BrokenRow) error {
		if payloads[b.PayloadSHA256] {
			t.Errorf("two broken rows are the same: %+v", b)
		}
		payloads[b.PayloadSHA256] = true
		codes[b.Table+" "+b.Code]++
		broken[b.Table+b.Mode+time.UnixMicro(b.AsOf).UTC().String()]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"users", "items"} {
		for _, code := range []schemas.Code{schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey, schemas.CodeWrongType, schemas.CodeMissing, schemas.CodeInvalidID, schemas.CodeOutOfRange, schemas.CodeInvalid, schemas.CodeTooLarge, schemas.CodeTooDeep} {
			if codes[table+" "+string(code)] == 0 {
				t.Errorf("no row of %s was broken with code %s", table, code)
			}
		}
	}
	live := map[string]int{}
	for i, e := range total.Exports {
		lines := exportLines(t, dir, e.Table, e.Mode, e.AsOf)
		found, seen, repeated := 0, map[string]bool{}, 0
		for _, line := range lines {
			if payloads[PayloadHash(line)] {
				found++
			}
			if seen[string(line)] {
				repeated++
			}
			seen[string(line)] = true
			if len(line) > 16<<10 && !bytes.Contains(line, []byte("[[[[")) {
				t.Errorf("a line of %d bytes: %.100s", len(line), line)
			}
		}
		if e.Lines != len(lines) || e.Lines != e.Rows+e.Older+e.Repeated+e.Broken || found != e.Broken || e.Broken != broken[e.Table+e.Mode+e.AsOf.String()] || repeated != e.Repeated {
			t.Errorf("export %d has %d lines, of them %d broken and %d repeated; its totals are %+v", i, len(lines), found, repeated, e)
		}
		if e.Mode == Full {
			live[e.Table] += e.New + e.Recreated - e.Deleted
			if e.Rows != live[e.Table] {
				t.Errorf("a full export of %s has %d rows, want %d", e.Table, e.Rows, live[e.Table])
			}
		} else if e.Rows != e.New+e.Changed+e.Deleted+e.Recreated {
			t.Errorf("a delta has %d rows: %+v", e.Rows, e)
		}
		if i >= 8 && (e.New == 0 || e.Changed == 0 || e.Deleted == 0 || e.Recreated == 0 || e.Older == 0 || e.Repeated == 0) {
			t.Errorf("something does not occur: %+v", e)
		}
	}
	for table, s := range total.Tables {
		if s.Live != live[table] || s.Versions <= s.IDs || s.IDs <= s.Live {
			t.Errorf("%s: %+v, want %d that live", table, s, live[table])
		}
	}
}

func TestSameSeedSameCatalog(t *testing.T) {
	o := fair
	o.Users, o.Items = 200, 200
	read := func(seed uint64) map[string]string {
		o.Seed = seed
		dir, _ := writeCatalog(t, o)
		texts := map[string]string{}
		err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(name)
			texts[strings.TrimPrefix(name, dir)] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return texts
	}
	first := read(1)
	if again := read(1); !maps.Equal(first, again) {
		t.Error("the same seed gave different catalogues")
	}
	if maps.Equal(first, read(2)) {
		t.Error("different seeds gave the same catalogue")
	}
}

// What the truth holds is in normal form, no two editions say the same, and texts are as long as those of a shop.
func TestCatalogRows(t *testing.T) {
	o := CatalogOptions{Days: 1, Users: 3_000, Items: 3_000, Seed: 3}.Defaults()
	c := &catalog{options: o, seed: mix(o.Seed + 1), shop: newTraits(o.Seed)}
	rules := schemas.CatalogRules{AsOf: o.asOf(0), Dimensions: o.Dimensions}
	var sizes []int
	for n := range o.Items {
		seen := map[string]bool{}
		for edition := range 4 {
			var item schemas.Item
			c.item(&item, n, edition)
			text := string(Content(nil, schemas.Items, &item))
			item.Normalize()
			if again := string(Content(nil, schemas.Items, &item)); again != text || !norm.NFC.IsNormalString(text) {
				t.Fatalf("not in normal form:\n%s\n%s", text, again)
			}
			if err := item.Check(rules); err != nil {
				t.Fatal(err)
			}
			if seen[text] {
				t.Fatalf("two editions say the same: %s", text)
			}
			seen[text] = true
			if item.Content != "" && edition == 0 {
				sizes = append(sizes, len(item.Content))
			}
			if len(item.Content) > 2000 || !utf8.ValidString(item.Content) {
				t.Fatalf("content of %d bytes: %s", len(item.Content), item.Content)
			}
			var user schemas.User
			c.user(&user, n, edition)
			text = string(Content(nil, schemas.Users, &user))
			user.Normalize()
			if again := string(Content(nil, schemas.Users, &user)); again != text {
				t.Fatalf("not in normal form:\n%s\n%s", text, again)
			}
			if err := user.Check(rules); err != nil {
				t.Fatal(err)
			}
			if seen[text] {
				t.Fatalf("two editions say the same: %s", text)
			}
			seen[text] = true
		}
	}
	slices.Sort(sizes)
	if median, longest := sizes[len(sizes)/2], sizes[len(sizes)-1]; sizes[0] < 50 || median < 100 || median > 500 || longest < 1800 {
		t.Errorf("contents have %d to %d bytes, most of them %d", sizes[0], longest, median)
	}
}

// The ids are those of the events of the same shop, and users live and items cost there what they do here.
func TestCatalogIsOfTheShop(t *testing.T) {
	g := mustNew(t, Options{Events: 2_000, Users: 50, Items: 40, Seed: 5})
	dir, _ := writeCatalog(t, CatalogOptions{Days: 1, Users: 50, Items: 40, Seed: 5, NewShare: -1})
	known := map[string]bool{}
	visitors := map[string]bool{}
	err := ReadVersions(dir, func(v *Version) error {
		known[v.ID] = true
		var user struct {
			VisitorIDs []string `json:"visitor_ids"`
		}
		if err := json.Unmarshal([]byte(v.Content), &user); err != nil {
			return err
		}
		for _, id := range user.VisitorIDs {
			visitors[id] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	met := 0
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		if e.Verdict == Broken {
			continue
		}
		var got native
		if err := json.Unmarshal(e.Data, &got); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{got.UserID, got.ItemID} {
			if id != "" && !known[id] {
				t.Fatalf("%q is not in the catalogue", id)
			}
		}
		if visitors[got.VisitorID] {
			met++
		}
	}
	if met == 0 {
		t.Error("no event has a visitor that the catalogue knows")
	}
}

func TestCatalogRefuses(t *testing.T) {
	tests := []struct {
		name string
		o    CatalogOptions
		want string
	}{
		{"no days", CatalogOptions{}, "days is 0; it must be 1 to 366"},
		{"shares", CatalogOptions{Days: 2, ChangeShare: 0.7, DeleteShare: 0.6}, "sum to 1.2999999999999998; they must not exceed 1"},
		{"share", CatalogOptions{Days: 2, OddShare: 2}, "odd share is 2; it must not exceed 1"},
		{"new", CatalogOptions{Days: 12, NewShare: 0.1}, "new share is 0.1 on each of 11 days; together they must not exceed 1"},
		{"fraction", CatalogOptions{Days: 1, Start: time.Unix(1e9, 1)}, "start is 2001-09-09T01:46:40.000000001Z"},
		{"all", CatalogOptions{Days: 1, Users: -1, Items: -2, Files: 1001, Dimensions: 9000}, "users is -1; it must be 1 to 20000000\nitems is -2; it must be 1 to 20000000\ndimensions is 9000; it must not exceed 8192\nfiles is 1001; it must be 1 to 1000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.o.Start = test.o.Start.UTC()
			if _, err := WriteCatalog(context.Background(), t.TempDir(), test.o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}
	dir, _ := writeCatalog(t, CatalogOptions{Days: 1})
	if _, err := WriteCatalog(context.Background(), dir, CatalogOptions{Days: 1}); err == nil || !strings.Contains(err.Error(), "has a catalogue already") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := WriteCatalog(ctx, t.TempDir(), CatalogOptions{Days: 1}); err == nil || !strings.Contains(err.Error(), "stopped at") {
		t.Errorf("error is %v", err)
	}
}

func BenchmarkCatalog(b *testing.B) {
	o := CatalogOptions{Days: 1, Users: 1, Items: 20_000}
	for b.Loop() {
		_, total := writeCatalog(b, o)
		b.ReportMetric(float64(total.Exports[2].Bytes)/float64(total.Exports[2].Lines), "B/row")
	}
}
