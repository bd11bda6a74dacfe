package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/testing/generator"
)

// stamp is what rows of both tables begin with.
type stamp struct {
	UpdatedTime int64  `parquet:"updated_time,timestamp(microsecond)" json:"-"`
	IsDeleted   bool   `parquet:"is_deleted" json:"-"`
	ValidFrom   int64  `parquet:"valid_from,timestamp(microsecond)" json:"-"`
	ValidTo     *int64 `parquet:"valid_to,optional,timestamp(microsecond)" json:"-"`
	ContentHash string `parquet:"content_hash,optional" json:"-"`
}

type itemRow struct {
	ItemID string `parquet:"item_id" json:"-"`
	stamp
	ItemType      string             `parquet:"item_type,optional,dict" json:"item_type"`
	Title         string             `parquet:"title,optional" json:"title"`
	Categories    []string           `parquet:"categories,list" json:"categories"`
	Brand         string             `parquet:"brand,optional,dict" json:"brand"`
	Tags          []string           `parquet:"tags,list" json:"tags"`
	Price         *float64           `parquet:"price,optional" json:"price"`
	Currency      string             `parquet:"currency,optional,dict" json:"currency"`
	Availability  string             `parquet:"availability,optional,dict" json:"availability"`
	Rating        *float64           `parquet:"rating,optional" json:"rating"`
	RatingCount   *int64             `parquet:"rating_count,optional" json:"rating_count"`
	PublishedTime *time.Time         `parquet:"published_time,optional,timestamp(microsecond)" json:"published_time"`
	AvailableFrom *time.Time         `parquet:"available_from,optional,timestamp(microsecond)" json:"available_from"`
	Expires       *time.Time         `parquet:"expires,optional,timestamp(microsecond)" json:"expires"`
	Content       string             `parquet:"content,optional" json:"content"`
	Language      string             `parquet:"language,optional,dict" json:"language"`
	URI           string             `parquet:"uri,optional" json:"uri"`
	ImageURIs     []string           `parquet:"image_uris,list" json:"image_uris"`
	Embedding     []float32          `parquet:"embedding,list" json:"embedding"`
	Attributes    map[string]string  `parquet:"attributes" json:"attributes"`
	Numbers       map[string]float64 `parquet:"numbers" json:"numbers"`
	Extra         map[string]string  `parquet:"extra" json:"extra"`
}

type userRow struct {
	UserID string `parquet:"user_id" json:"-"`
	stamp
	VisitorIDs []string           `parquet:"visitor_ids,list" json:"visitor_ids"`
	Segments   []string           `parquet:"segments,list" json:"segments"`
	Country    string             `parquet:"country,optional,dict" json:"country"`
	Region     string             `parquet:"region,optional,dict" json:"region"`
	Language   string             `parquet:"language,optional,dict" json:"language"`
	Timezone   string             `parquet:"timezone,optional,dict" json:"timezone"`
	AgeBand    string             `parquet:"age_band,optional,dict" json:"age_band"`
	Plan       string             `parquet:"plan,optional,dict" json:"plan"`
	Consent    []string           `parquet:"consent,list" json:"consent"`
	Attributes map[string]string  `parquet:"attributes" json:"attributes"`
	Numbers    map[string]float64 `parquet:"numbers" json:"numbers"`
	Extra      map[string]string  `parquet:"extra" json:"extra"`
}

// catalogLake is a lake in memory: what is in which file, and the marks of what is complete.
type catalogLake struct {
	items   map[string][]itemRow
	users   map[string][]userRow
	letters map[string][]deadLetter
	marks   map[string]bool
}

func (l catalogLake) write(t *testing.T) string {
	t.Helper()
	dir := lake{letters: l.letters}.write(t)
	for name, rows := range l.items {
		writeParquet(t, filepath.Join(dir, name), rows)
	}
	for name, rows := range l.users {
		writeParquet(t, filepath.Join(dir, name), rows)
	}
	for folder := range l.marks {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "_SUCCESS"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const catalogDays = 4

// folderOf is the folder of the run of a day, from 0.
func folderOf(table string, day int) string {
	return fmt.Sprintf("%s/as_of=2026030%dT000000Z", table, day+2)
}

func partIn(table string, day int) string {
	return folderOf(table, day) + "/part-00000-of-00001.parquet"
}

var (
	itemsNow = partIn("items", catalogDays-1)
	itemsOld = partIn("items_history", 2)
)

// rightCatalog makes exports in a folder, and the lake that is right for the full ones up to a day.
func rightCatalog(t *testing.T, last int) (truth string, l catalogLake) {
	t.Helper()
	truth = t.TempDir()
	o := generator.CatalogOptions{
		Days: catalogDays, Users: 60, Items: 80, Seed: 5,
		NewShare: 0.05, ChangeShare: 0.3, DeleteShare: 0.1, RecreateShare: 0.4, BrokenShare: 0.1,
	}
	if _, err := generator.WriteCatalog(context.Background(), truth, o); err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	dayOf := func(micros int64) int { return int((micros - start - 1) / (24 * time.Hour).Microseconds()) }
	l = catalogLake{items: map[string][]itemRow{}, users: map[string][]userRow{}, letters: map[string][]deadLetter{}, marks: map[string]bool{}}
	for day := range last + 1 {
		for _, table := range []string{"users", "items", "users_history", "items_history"} {
			l.marks[folderOf(table, day)] = true
		}
	}
	err := generator.ReadVersions(truth, func(v *generator.Version) error {
		if dayOf(v.ValidFrom) > last {
			return nil
		}
		s := stamp{UpdatedTime: v.ValidFrom, IsDeleted: v.IsDeleted, ValidFrom: v.ValidFrom}
		part := partIn(v.Table, last)
		if end := v.ValidTo; end != 0 && dayOf(end) <= last {
			s.ValidTo = &end
			part = partIn(v.Table+"_history", dayOf(v.ValidTo))
		}
		content := v.Content
		if v.IsDeleted {
			content = "{}"
		} else {
			s.ContentHash = fmt.Sprintf("%x", content[:12])
		}
		if v.Table == "users" {
			row := userRow{UserID: v.ID, stamp: s}
			l.users[part] = append(l.users[part], row)
			return json.Unmarshal([]byte(content), &l.users[part][len(l.users[part])-1])
		}
		l.items[part] = append(l.items[part], itemRow{ItemID: v.ID, stamp: s})
		return json.Unmarshal([]byte(content), &l.items[part][len(l.items[part])-1])
	})
	if err != nil {
		t.Fatal(err)
	}
	l.letters[lettersPart] = append(lettersOf(t, truth, last), deadLetter{ID: "x", Payload: []byte("an event"), Source: "events.jsonl"})
	return truth, l
}

// lettersOf returns the dead letters of the full exports up to a day.
func lettersOf(t *testing.T, truth string, last int) (letters []deadLetter) {
	t.Helper()
	payloads := map[string]string{}
	files, err := filepath.Glob(filepath.Join(truth, "catalog", "*", "full", "*", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			payloads[generator.PayloadHash([]byte(line))] = line
		}
	}
	err = generator.ReadBroken(truth, func(b *generator.BrokenRow) error {
		if b.Mode == generator.Full && b.AsOf <= time.Date(2026, 3, last+2, 0, 0, 0, 0, time.UTC).UnixMicro() {
			letters = append(letters, deadLetter{
				ID: b.PayloadSHA256[:8], Payload: []byte(payloads[b.PayloadSHA256]), Size: b.PayloadSize, Code: b.Code, FieldPath: b.FieldPath,
				Source: "/tmp/shop/catalog/" + b.Table + "/full/as_of=20260302T000000Z/part-0000.jsonl",
			})
		}
		return nil
	})
	if err != nil || len(letters) == 0 {
		t.Fatalf("%d dead letters: %v", len(letters), err)
	}
	return letters
}

// closed returns a version in the history.
func closed(l catalogLake) *itemRow {
	for i, row := range l.items[itemsOld] {
		if !row.IsDeleted {
			return &l.items[itemsOld][i]
		}
	}
	panic("there is no closed version")
}

// alive returns a row of the current state that has all that an item can have.
func alive(l catalogLake) *itemRow {
	for i, row := range l.items[itemsNow] {
		if !row.IsDeleted && row.Price != nil && row.Embedding != nil && row.Numbers != nil && len(row.Tags) > 1 {
			return &l.items[itemsNow][i]
		}
	}
	panic("there is no such row")
}

func TestCheckCatalog(t *testing.T) {
	const some = -1
	tests := []struct {
		name  string
		spoil func(l catalogLake)
		want  map[Kind]int
	}{
		{"right", func(catalogLake) {}, map[Kind]int{}},
		{"two files", func(l catalogLake) {
			l.items[strings.Replace(itemsNow, "00000-of-00001", "00001-of-00002", 1)] = l.items[itemsNow][:9]
			l.items[itemsNow] = l.items[itemsNow][9:]
		}, map[Kind]int{}},
		{"a version that was closed too late", func(l catalogLake) {
			*closed(l).ValidTo += 1e12
		}, map[Kind]int{}},
		{"a run that is not complete", func(l catalogLake) {
			l.items[partIn("items", 7)] = l.items[itemsNow][:5]
		}, map[Kind]int{}},
		{"an older state", func(l catalogLake) {
			l.items[partIn("items", 0)] = l.items[itemsNow][:5]
		}, map[Kind]int{}},
		{"a row is lost", func(l catalogLake) { l.items[itemsNow] = l.items[itemsNow][1:] }, map[Kind]int{VersionMissing: 1, StateWrong: some}},
		{"history is lost", func(l catalogLake) {
			n := 0
			for name := range l.users {
				if strings.HasPrefix(name, "users_history") {
					n += len(l.users[name])
					delete(l.users, name)
				}
			}
		}, map[Kind]int{VersionMissing: some, StateWrong: some}},
		{"a version is doubled", func(l catalogLake) {
			l.items[itemsOld] = append(l.items[itemsOld], l.items[itemsOld][0])
		}, map[Kind]int{VersionTwice: 1, StateWrong: some}},
		{"a closed version stays", func(l catalogLake) {
			row := *closed(l)
			row.ValidTo = nil
			l.items[itemsNow] = append(l.items[itemsNow], row)
		}, map[Kind]int{VersionTwice: 1, StateWrong: some}},
		{"a version is invented", func(l catalogLake) {
			row := l.items[itemsNow][0]
			row.ItemID = "invented"
			l.items[itemsNow] = append(l.items[itemsNow], row)
		}, map[Kind]int{VersionExtra: 1, StateWrong: some}},
		{"a version ends too early", func(l catalogLake) { *closed(l).ValidTo-- }, map[Kind]int{VersionInterval: 1}},
		{"a current version ends", func(l catalogLake) {
			row := alive(l)
			end := row.ValidFrom + 1e12
			row.ValidTo = &end
		}, map[Kind]int{VersionInterval: 1}},
		{"a current version is in the history", func(l catalogLake) {
			l.items[itemsOld] = append(l.items[itemsOld], l.items[itemsNow][0])
			l.items[itemsNow] = l.items[itemsNow][1:]
		}, map[Kind]int{VersionMisplaced: 1}},
		{"a version has another time", func(l catalogLake) { closed(l).ValidFrom++ }, map[Kind]int{VersionMissing: 1, VersionExtra: 1, StateWrong: some}},
		{"another title", func(l catalogLake) { alive(l).Title += "!" }, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"no price", func(l catalogLake) { alive(l).Price = nil }, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"another number", func(l catalogLake) { alive(l).Numbers["stock"]++ }, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"another attribute", func(l catalogLake) { alive(l).Attributes["a"] = "b" }, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"another vector", func(l catalogLake) { alive(l).Embedding[1] += 0.001 }, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"tags in disorder", func(l catalogLake) {
			tags := alive(l).Tags
			tags[0], tags[1] = tags[1], tags[0]
		}, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"the title of a deleted one", func(l catalogLake) {
			for i := range l.items[itemsNow] {
				if row := &l.items[itemsNow][i]; row.IsDeleted {
					row.Title = "ghost"
					return
				}
			}
			panic("nothing is deleted")
		}, map[Kind]int{VersionContent: 1}},
		{"deleted by mistake", func(l catalogLake) {
			row := alive(l)
			*row = itemRow{ItemID: row.ItemID, stamp: row.stamp}
			row.IsDeleted, row.ContentHash = true, ""
		}, map[Kind]int{VersionContent: 1, StateWrong: some}},
		{"no hash", func(l catalogLake) { alive(l).ContentHash = "" }, map[Kind]int{VersionUnhashed: 1}},
		{"dead letters are lost", func(l catalogLake) { l.letters[lettersPart] = l.letters[lettersPart][2:] }, map[Kind]int{DeadLetterMissing: 2}},
		{"a dead letter is doubled", func(l catalogLake) {
			l.letters[lettersPart] = append(l.letters[lettersPart], l.letters[lettersPart][0])
		}, map[Kind]int{DeadLetterTwice: 1}},
		{"a dead letter of a good row", func(l catalogLake) {
			letter := l.letters[lettersPart][0]
			letter.Payload = []byte(`{"item_id":"p000001"}`)
			l.letters[lettersPart] = append(l.letters[lettersPart], letter)
		}, map[Kind]int{DeadLetterExtra: 1}},
		{"a dead letter with another reason", func(l catalogLake) { l.letters[lettersPart][0].Code = "mood" }, map[Kind]int{DeadLetterMismatch: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			truth, l := rightCatalog(t, catalogDays-1)
			test.spoil(l)
			end := time.Date(2026, 3, catalogDays+1, 0, 0, 0, 0, time.UTC)
			report, err := CheckCatalog(context.Background(), CatalogOptions{Truth: truth, Lake: l.write(t), Times: 20, At: []time.Time{end}, Examples: 1})
			if err != nil {
				t.Fatal(err)
			}
			got := maps.Clone(report.Counts)
			for kind, n := range test.want {
				if n == some && got[kind] > 0 {
					got[kind] = some
				}
			}
			if _, told := test.want[StateWrong]; !told && len(test.want) == 1 && test.want[VersionInterval] == 1 {
				delete(got, StateWrong) // only where a time falls between the two ends
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("differences (-want +got):\n%s\n%v", diff, report)
			}
			if report.OK() != (len(test.want) == 0) || len(report.Times) != 2*21 || report.Versions == 0 || report.Current == 0 || report.DeadLetters == 0 {
				t.Errorf("OK is %v: %+v", report.OK(), report)
			}
			for kind := range test.want {
				if !strings.Contains(report.String(), fmt.Sprintf("%d %v:\n  ", report.Counts[kind], kind)) {
					t.Errorf("%v are not in the report:\n%v", kind, report)
				}
			}
		})
	}
}

// A lake is right after each of the runs.
func TestCheckCatalogDayByDay(t *testing.T) {
	for day := range catalogDays {
		truth, l := rightCatalog(t, day)
		report, err := CheckCatalog(context.Background(), CatalogOptions{Truth: truth, Lake: l.write(t), AsOf: time.Date(2026, 3, day+2, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK() {
			t.Errorf("day %d: %v", day, report)
		}
	}
}

func TestCheckCatalogCannot(t *testing.T) {
	if _, err := CheckCatalog(context.Background(), CatalogOptions{Truth: t.TempDir(), Lake: t.TempDir()}); err == nil {
		t.Error("a truth that is not there gave no error")
	}
	truth, l := rightCatalog(t, 0)
	if _, err := CheckCatalog(context.Background(), CatalogOptions{Truth: truth, Lake: l.write(t), Tables: []string{"interactions"}}); err == nil || !strings.Contains(err.Error(), "no versions") {
		t.Errorf("a table without versions: error is %v", err)
	}
}

func TestCatalogHash(t *testing.T) {
	hash := func(change func(l catalogLake)) Hash {
		t.Helper()
		_, l := rightCatalog(t, catalogDays-1)
		change(l)
		h, err := CatalogHash(context.Background(), l.write(t), "items")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash(func(catalogLake) {})
	if first.Rows == 0 {
		t.Fatal("nothing was hashed")
	}
	same := map[string]func(l catalogLake){
		"order": func(l catalogLake) { rows := l.items[itemsNow]; rows[0], rows[1] = rows[1], rows[0] },
		"other runs": func(l catalogLake) {
			l.items[partIn("items_history", 3)] = append(l.items[partIn("items_history", 3)], l.items[itemsOld]...)
			delete(l.items, itemsOld)
		},
		"closed too late": func(l catalogLake) { *closed(l).ValidTo += 1e12 },
		"the other table": func(l catalogLake) { clear(l.users) },
	}
	for name, change := range same {
		if got := hash(change); got != first {
			t.Errorf("%s: hash is %v, want %v", name, got, first)
		}
	}
	different := map[string]func(l catalogLake){
		"row lost":     func(l catalogLake) { l.items[itemsNow] = l.items[itemsNow][1:] },
		"row doubled":  func(l catalogLake) { l.items[itemsOld] = append(l.items[itemsOld], l.items[itemsOld][0]) },
		"ends earlier": func(l catalogLake) { *closed(l).ValidTo-- },
		"content":      func(l catalogLake) { alive(l).Brand = "Other" },
		"deleted":      func(l catalogLake) { alive(l).IsDeleted = true },
		"id":           func(l catalogLake) { alive(l).ItemID = "other" },
	}
	for name, change := range different {
		if got := hash(change); got == first {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}
