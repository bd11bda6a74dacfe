package lake

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	gocmp "github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/transforms/run"
)

func init() {
	register.Function2x0(splitPacket)
	register.Emitter2[string, []byte]()
	register.DoFn1x0[[]byte](&collectFn{})
	beam.RegisterType(reflect.TypeFor[Packet]())
}

// splitPacket makes a pair of a key, a line end and a packet.
func splitPacket(b []byte, emit func(string, []byte)) {
	key, packet, _ := strings.Cut(string(b), "\n")
	emit(key, []byte(packet))
}

// collectFn puts all elements into collected, under a name.
type collectFn struct{ Name string }

var collected sync.Map // name -> *collection

type collection struct {
	mu  sync.Mutex
	all [][]byte
}

func (fn *collectFn) ProcessElement(b []byte) {
	c, _ := collected.LoadOrStore(fn.Name, &collection{})
	c.(*collection).mu.Lock()
	defer c.(*collection).mu.Unlock()
	c.(*collection).all = append(c.(*collection).all, slices.Clone(b))
}

func collect(s beam.Scope, name string, col beam.PCollection) {
	beam.ParDo0(s, &collectFn{Name: name}, col)
}

// take returns what was collected under a name.
func take(name string) [][]byte {
	c, ok := collected.LoadAndDelete(name)
	if !ok {
		return nil
	}
	return c.(*collection).all
}

// launch is a run of Write with packets that were made beforehand.
type launch struct {
	options  Options
	elements [][]byte
	bin      *Packer[schemas.Interaction]
	flush    func() error
	receipts []Receipt
	tokens   []string
}

// newLaunch prepares a launch whose chunks wait in the folder spill, or travel inline if there is none.
func newLaunch(t *testing.T, url, id, spill string) *launch {
	t.Helper()
	r := run.Of(id)
	t.Cleanup(func() { _ = r.Close() })
	layout := Layout{Window: Hour, Shards: 2}
	l := &launch{options: Options{
		URL: url, RunID: id, SpillDir: spill,
		Layouts: map[string]Layout{schemas.Interactions.Name: layout, schemas.DeadLetters.Name: {Window: Day, Shards: 1}},
	}}
	s := openSpill(t, spill)
	if spill != "" { // where the DoFns look for it
		l.options.SpillDir = spill
	}
	bin := s.NewBin()
	l.bin = NewPacker(schemas.Interactions, layout, bin, l.add)
	l.flush = func() error { return errors.Join(l.bin.Flush(), bin.Close()) }
	return l
}

func (l *launch) add(p Packet) {
	l.elements = append(l.elements, []byte(p.Key+"\n"+string(p.Body)))
}

// rows packs rows with these ids, each with a token of its own, two hours after each other in turn.
func (l *launch) rows(ids ...string) {
	for i, id := range ids {
		row := schemas.Interaction{EventID: id, EventType: "view", UserID: "u"}
		row.EventTime = schemas.Some((500_000 + int64(i%2)) * time.Hour.Microseconds())
		l.bin.Add(&row).AddToken("token of "+id, 1)
	}
}

func (l *launch) run(t *testing.T) error {
	t.Helper()
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	groups := beam.GroupByKey(s, beam.ParDo(s, splitPacket, beam.CreateList(s, l.elements)))
	receipts, acks := Write(s, groups, l.options)
	collect(s, l.options.RunID+"/receipts", receipts)
	collect(s, l.options.RunID+"/acks", acks)
	if err := ptest.Run(p); err != nil {
		return err
	}
	for _, b := range take(l.options.RunID + "/receipts") {
		var r Receipt
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		l.receipts = append(l.receipts, r)
	}
	slices.SortFunc(l.receipts, func(a, b Receipt) int { return cmp.Compare(a.Slot.Key(), b.Slot.Key()) })
	for _, b := range take(l.options.RunID + "/acks") {
		if err := EachToken(b, func(token []byte, parts int) { l.tokens = append(l.tokens, fmt.Sprintf("%s/%d", token, parts)) }); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(l.tokens)
	return nil
}

// idsIn reads all ids of a table of a lake on disk.
func idsIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "interactions", "*", "*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, parquetIDs(t, f, info.Size())...)
		_ = f.Close()
	}
	slices.Sort(ids)
	return ids
}

func tokensOf(ids ...string) []string {
	var tokens []string
	for _, id := range ids {
		tokens = append(tokens, "token of "+id+"/1")
	}
	slices.Sort(tokens)
	return tokens
}

// Groups go in; the lake has their rows, each pane has its receipt, and all tokens come out. The same again commits
// nothing, and gives out all tokens again: their messages came again too.
func TestWrite(t *testing.T) {
	for name, spill := range map[string]string{"inline": "", "spilled": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
			for n, wantRows := range []int64{8, 0} {
				l := newLaunch(t, dir, fmt.Sprintf("%s/%d", t.Name(), n), spill)
				l.rows(ids...)
				if err := l.run(t); err != nil {
					t.Fatal(err)
				}
				if got := idsIn(t, dir); !slices.Equal(got, ids) {
					t.Errorf("launch %d: the lake has %q, want %q", n, got, ids)
				}
				if diff := gocmp.Diff(tokensOf(ids...), l.tokens); diff != "" {
					t.Errorf("launch %d: tokens (-want +got):\n%s", n, diff)
				}
				var rows, duplicates, files, bytes int64
				for _, r := range l.receipts {
					rows += r.Rows
					duplicates += r.Duplicates
					files += int64(len(r.Files))
					bytes += r.Bytes
					for _, name := range r.Files {
						if _, err := os.Stat(filepath.Join(dir, r.Folder, name)); err != nil {
							t.Errorf("launch %d: receipt of a file that is not there: %v", n, err)
						}
					}
				}
				if rows != wantRows || rows+duplicates != 8 {
					t.Errorf("launch %d: %d rows and %d duplicates, want %d and %d", n, rows, duplicates, wantRows, 8-wantRows)
				}
				counts := run.Of(l.options.RunID).Counts()
				want := map[string]int64{
					"lake/committed": rows, "lake/duplicate": duplicates, "lake/files": files, "lake/bytes": bytes,
					"lake/late": 0, "lake/dead_lettered": 0, "lake/gone": 0,
					"lake/commit_milliseconds_count": int64(len(l.receipts)),
				}
				delete(counts, "lake/commit_milliseconds_sum") // which is a time
				if diff := gocmp.Diff(want, counts); diff != "" {
					t.Errorf("launch %d: counters (-want +got):\n%s", n, diff)
				}
			}
		})
	}
}

// A pane that is larger than a file is committed a file at a time.
func TestWriteCutsLargePanes(t *testing.T) {
	dir := t.TempDir()
	l := newLaunch(t, dir, t.Name(), "")
	l.options.Limits = Limits{Rows: 2}
	ids := idsOf(9)
	l.rows(ids...)
	if err := l.run(t); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	if got := idsIn(t, dir); !slices.Equal(got, ids) {
		t.Errorf("the lake has %q, want %q", got, ids)
	}
	for _, r := range l.receipts {
		if want := int(r.Rows+1) / 2; len(r.Files) != want {
			t.Errorf("%d rows are in %d files, want %d", r.Rows, len(r.Files), want)
		}
	}
}

// Dead letters are counted as such.
func TestWriteDeadLetters(t *testing.T) {
	l := newLaunch(t, t.TempDir(), t.Name(), "")
	spill := openSpill(t, "")
	packer := NewPacker(schemas.DeadLetters, l.options.Layouts[schemas.DeadLetters.Name], spill.NewBin(), l.add)
	packer.Add(&schemas.DeadLetter{DeadLetterID: "d", ReceivedTime: schemas.Some[int64](1), FailureType: "decode", ErrorCode: "syntax"})
	if err := packer.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := l.run(t); err != nil {
		t.Fatal(err)
	}
	counts := run.Of(l.options.RunID).Counts()
	if counts["lake/dead_lettered"] != 1 || counts["lake/committed"] != 0 {
		t.Errorf("counters %v, want 1 dead letter and no other row", counts)
	}
}

// Spilled bytes that are gone end a bounded run. An unbounded one goes on without: their messages come again, since
// their tokens do not come out.
func TestWriteWithoutSpilledBytes(t *testing.T) {
	for _, bounded := range []bool{true, false} {
		t.Run(fmt.Sprintf("bounded=%v", bounded), func(t *testing.T) {
			dir, spill := t.TempDir(), t.TempDir()
			l := newLaunch(t, dir, t.Name(), spill)
			l.options.Bounded = bounded
			l.rows(idsOf(200)...) // enough not to travel inline
			if err := l.flush(); err != nil {
				t.Fatal(err)
			}
			spilled, err := filepath.Glob(filepath.Join(spill, "spill-*", "0*"))
			if err != nil || len(spilled) == 0 {
				t.Fatalf("nothing was spilled: %v", err)
			}
			for _, path := range spilled {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			err = l.run(t)
			if bounded {
				if err == nil || !strings.Contains(err.Error(), "gone") {
					t.Errorf("the run ended with %v, want an error that says that bytes are gone", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ids := idsIn(t, dir); len(ids) != 0 || len(l.tokens) != 0 {
				t.Errorf("the lake has %q, and tokens %q came out", ids, l.tokens)
			}
			if got, want := run.Of(l.options.RunID).Counts()["lake/gone"], int64(len(l.elements)); got != want {
				t.Errorf("lake/gone is %d, want %d", got, want)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		element string
		want    string
	}{
		"no key of a slot": {"here\nx", `"here" is not the key of a slot`},
		"an unknown table": {"tables|1|0\nx", `table "tables" of slot "tables|1|0" has no layout`},
		"no packet":        {"interactions|1|0\n?", "packet of 1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLaunch(t, t.TempDir(), t.Name(), "")
			l.elements = [][]byte{[]byte(tc.element)}
			if err := l.run(t); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the run ended with %v, want %q in it", err, tc.want)
			}
		})
	}
}
