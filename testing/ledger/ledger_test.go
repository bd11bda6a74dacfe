package ledger

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"backbone/testing/generator"
)

// interaction has some of the columns of the table, of each shape one.
type interaction struct {
	EventID    string            `parquet:"event_id"`
	EventTime  int64             `parquet:"event_time,timestamp(microsecond)"`
	Value      *float64          `parquet:"value,optional"`
	LoadedTime int64             `parquet:"loaded_time,timestamp(microsecond)"`
	Items      []item            `parquet:"items,list"`
	Context    where             `parquet:"context"`
	Lineage    lineage           `parquet:"lineage"`
	Extra      map[string]string `parquet:"extra"`
}

type item struct {
	ItemID   string `parquet:"item_id"`
	Position *int64 `parquet:"position,optional"`
}

type where struct {
	Country string `parquet:"country,optional,dict"`
}

type lineage struct {
	Source string `parquet:"source,optional"`
}

type deadLetter struct {
	ID        string `parquet:"dead_letter_id"`
	Payload   []byte `parquet:"payload"`
	Size      int64  `parquet:"payload_size"`
	Code      string `parquet:"error_code,dict"`
	FieldPath string `parquet:"field_path,optional,dict"`
	Message   string `parquet:"error_message,optional"`
	Source    string `parquet:"source,optional"`
}

// lake is a lake in memory: what is in which file.
type lake struct {
	rows    map[string][]interaction
	letters map[string][]deadLetter
}

// write writes l to a new folder.
func (l lake) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, rows := range l.rows {
		writeParquet(t, filepath.Join(dir, name), rows)
	}
	for name, rows := range l.letters {
		writeParquet(t, filepath.Join(dir, name), rows)
	}
	return dir
}

func writeParquet[R any](t *testing.T, name string, rows []R) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := parquet.WriteFile(name, rows); err != nil {
		t.Fatal(err)
	}
}

func partOf(micros int64) string {
	return "interactions/" + time.UnixMicro(micros).UTC().Format("dt=2006-01-02/hour=15") + "/part-00000-of-00001-000000.parquet"
}

const lettersPart = "dead_letters/dt=2026-03-02/hour=00/part-00000-of-00001-000000.parquet"

// rightLake makes events in a folder, and the lake that is right for them.
func rightLake(t *testing.T) (truth string, l lake) {
	t.Helper()
	truth = t.TempDir()
	g, err := generator.New(generator.Options{Events: 2_000, BrokenShare: 0.05, Seed: 11})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteFiles(context.Background(), truth); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(truth, generator.EventsDir, "part-0000.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 4<<20)
	l = lake{rows: map[string][]interaction{}, letters: map[string][]deadLetter{}}
	err = generator.ReadTruth(truth, func(e *generator.Truth) error {
		if !lines.Scan() {
			t.Fatal("there are fewer events than rows of truth")
		}
		switch e.Verdict {
		case generator.Good.String(), generator.Late.String():
			part := partOf(e.EventTime)
			value, place := 0.5, int64(len(l.rows[part]))
			l.rows[part] = append(l.rows[part], interaction{
				EventID: e.EventID, EventTime: e.EventTime, Value: &value,
				Items:   []item{{ItemID: "p1", Position: &place}, {ItemID: "p2"}},
				Context: where{"DE"}, Lineage: lineage{"a.jsonl"}, Extra: map[string]string{"build": "4711"},
			})
		case generator.Broken.String():
			payload := []byte(lines.Text())
			l.letters[lettersPart] = append(l.letters[lettersPart], deadLetter{
				ID: e.EventID, Payload: payload[:min(len(payload), generator.PayloadLimit)], Size: int64(len(payload)), Code: e.Code, FieldPath: e.FieldPath,
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return truth, l
}

// busiest is a partition that has rows in every shop.
const busiest = "interactions/dt=2026-03-01/hour=20/part-00000-of-00001-000000.parquet"

func TestCheck(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(l lake)
		want  map[Kind]int
	}{
		{"right", func(lake) {}, map[Kind]int{}},
		{"one row of two files", func(l lake) {
			l.rows[strings.Replace(busiest, "-000000.", "-000001.", 1)] = l.rows[busiest][:3]
			l.rows[busiest] = l.rows[busiest][3:]
		}, map[Kind]int{}},
		{"hidden files are none", func(l lake) {
			l.rows["interactions/_spill/part-00000-of-00001-000000.parquet"] = l.rows[busiest]
			l.rows["interactions/dt=2026-03-01/hour=20/.part.parquet"] = l.rows[busiest]
		}, map[Kind]int{}},
		{"a row is lost", func(l lake) { l.rows[busiest] = l.rows[busiest][1:] }, map[Kind]int{RowMissing: 1}},
		{"a row is doubled", func(l lake) { l.rows[busiest] = append(l.rows[busiest], l.rows[busiest][0]) }, map[Kind]int{RowTwice: 1}},
		{"a row is invented", func(l lake) {
			row := l.rows[busiest][0]
			row.EventID = "invented"
			l.rows[busiest] = append(l.rows[busiest], row)
		}, map[Kind]int{RowExtra: 1}},
		{"a row has another time", func(l lake) { l.rows[busiest][0].EventTime++ }, map[Kind]int{RowTime: 1}},
		{"a file is in another partition", func(l lake) {
			l.rows[strings.Replace(busiest, "hour=20", "hour=19", 1)+".parquet"] = l.rows[busiest][:2]
			l.rows[busiest] = l.rows[busiest][2:]
		}, map[Kind]int{RowMisplaced: 2}},
		{"dead letters are lost", func(l lake) { delete(l.letters, lettersPart) }, map[Kind]int{DeadLetterMissing: -1}},
		{"a dead letter is doubled", func(l lake) {
			l.letters[lettersPart+".parquet"] = l.letters[lettersPart][:1]
		}, map[Kind]int{DeadLetterTwice: 1}},
		{"a dead letter of a good event", func(l lake) {
			l.letters[lettersPart] = append(l.letters[lettersPart], deadLetter{Payload: []byte(`{"event_id":"x"}`)})
		}, map[Kind]int{DeadLetterExtra: 1}},
		{"a dead letter is cut", func(l lake) {
			p := &l.letters[lettersPart][0].Payload
			*p = (*p)[1:]
		}, map[Kind]int{DeadLetterExtra: 1, DeadLetterMissing: 1}},
		{"a dead letter with another reason", func(l lake) {
			l.letters[lettersPart][0].Code = "mood"
			l.letters[lettersPart][1].Size++
		}, map[Kind]int{DeadLetterMismatch: 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			truth, l := rightLake(t)
			if n := len(l.letters[lettersPart]); test.want[DeadLetterMissing] < 0 {
				test.want[DeadLetterMissing] = n
			}
			test.spoil(l)
			report, err := Check(context.Background(), Options{Truth: truth, Lake: l.write(t), Examples: 1})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, report.Counts); diff != "" {
				t.Errorf("differences (-want +got):\n%s\n%v", diff, report)
			}
			if report.OK() != (len(test.want) == 0) {
				t.Errorf("OK is %v", report.OK())
			}
			text := report.String()
			for kind, n := range test.want {
				if !strings.Contains(text, fmt.Sprintf("%d %v:\n  ", n, kind)) {
					t.Errorf("%d %v are not in the report:\n%s", n, kind, text)
				}
			}
		})
	}
}

func TestCheckCannot(t *testing.T) {
	truth, l := rightLake(t)
	l.rows["interactions/part-00000-of-00001-000000.parquet"] = l.rows[busiest]
	if _, err := Check(context.Background(), Options{Truth: truth, Lake: l.write(t)}); err == nil || !strings.Contains(err.Error(), "no partition") {
		t.Errorf("a file outside of all partitions: error is %v", err)
	}
	if _, err := Check(context.Background(), Options{Truth: t.TempDir(), Lake: t.TempDir()}); err == nil {
		t.Error("a truth that is not there gave no error")
	}
}

func TestRowHash(t *testing.T) {
	hash := func(change func(l lake)) Hash {
		t.Helper()
		_, l := rightLake(t)
		change(l)
		h, err := RowHash(context.Background(), l.write(t), "interactions")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash(func(lake) {})
	if first.Rows == 0 {
		t.Fatal("no rows were hashed")
	}
	same := map[string]func(l lake){
		"nothing": func(lake) {},
		"order":   func(l lake) { rows := l.rows[busiest]; rows[0], rows[1] = rows[1], rows[0] },
		"files": func(l lake) {
			l.rows[busiest+".parquet"] = l.rows[busiest][:2]
			l.rows[busiest] = l.rows[busiest][2:]
		},
		"lineage": func(l lake) { l.rows[busiest][0].Lineage.Source = "b.jsonl" },
		"loaded":  func(l lake) { l.rows[busiest][0].LoadedTime = 7 },
	}
	for name, change := range same {
		if got := hash(change); got != first {
			t.Errorf("%s: hash is %v, want %v", name, got, first)
		}
	}
	half := 0.25
	different := map[string]func(l lake){
		"row lost":      func(l lake) { l.rows[busiest] = l.rows[busiest][1:] },
		"row doubled":   func(l lake) { l.rows[busiest] = append(l.rows[busiest], l.rows[busiest][0]) },
		"value":         func(l lake) { l.rows[busiest][0].Value = &half },
		"null":          func(l lake) { l.rows[busiest][0].Value = nil },
		"context":       func(l lake) { l.rows[busiest][0].Context.Country = "AT" },
		"item":          func(l lake) { l.rows[busiest][0].Items[1].ItemID = "p3" },
		"item order":    func(l lake) { items := l.rows[busiest][0].Items; items[0], items[1] = items[1], items[0] },
		"items lost":    func(l lake) { l.rows[busiest][0].Items = nil },
		"extra":         func(l lake) { l.rows[busiest][0].Extra["build"] = "4712" },
		"value swapped": func(l lake) { l.rows[busiest][0].Value, l.rows[busiest][1].Value = &half, nil },
	}
	for name, change := range different {
		if got := hash(change); got == first {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}

func TestDeadLetterHash(t *testing.T) {
	hash := func(change func(l *deadLetter)) Hash {
		t.Helper()
		_, l := rightLake(t)
		change(&l.letters[lettersPart][0])
		h, err := DeadLetterHash(context.Background(), l.write(t))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash(func(*deadLetter) {})
	if got := hash(func(l *deadLetter) { l.Source, l.ID, l.Message = "b", "c", "d" }); got != first {
		t.Errorf("hash is %v for another source, want %v", got, first)
	}
	for name, change := range map[string]func(l *deadLetter){
		"payload": func(l *deadLetter) { l.Payload[0]++ },
		"code":    func(l *deadLetter) { l.Code = "x" },
		"path":    func(l *deadLetter) { l.FieldPath = "x" },
	} {
		if got := hash(change); got == first {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}
