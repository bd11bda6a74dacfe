package audit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// The keys of a file's metadata.
const (
	metaTable   = "backbone.table"
	metaVersion = "backbone.schema_version"
	metaRun     = "backbone.run_id"
	metaWriter  = "backbone.writer_id"
	metaRows    = "backbone.rows"
)

// spec says which columns of a table mean what.
type spec struct {
	id, time string
	sort     []string // rows are sorted by the first of these that is there, then by time
	version  int
	required []string
	code     string // dead letters are counted by these
	field    string
	items    []string // columns with the items of an event
}

// specs are the tables that this version knows.
var specs = map[string]spec{
	schemas.Interactions.Name: {
		id: "event_id", time: "event_time", sort: []string{"user_id", "visitor_id"},
		version: schemas.Interactions.Version, required: required(schemas.Interactions), items: []string{"item_id", "items.list.element.item_id"},
	},
	schemas.Contexts.Name: {
		id: "event_id", time: "event_time", sort: []string{"session_id", "visitor_id"},
		version: schemas.Contexts.Version, required: required(schemas.Contexts),
	},
	schemas.DeadLetters.Name: {
		id: "dead_letter_id", time: "received_time", sort: []string{"source"}, code: "error_code", field: "field_path",
		version: schemas.DeadLetters.Version, required: required(schemas.DeadLetters),
	},
}

func required[R any](t *schemas.Table[R]) []string {
	var names []string
	for _, c := range t.Columns {
		if c.Required {
			names = append(names, c.Name)
		}
	}
	return names
}

// slot is a partition and shard: what an id has to be unique in.
type slot struct {
	files []*file

	mu   sync.Mutex
	open int // files that are not read yet
	ids  []idAt
}

// idAt says where an id is.
type idAt struct {
	id   xxh3.Uint128
	file uint32 // in slot.files
	row  uint32 // in the file, from 0
}

func (x idAt) compare(y idAt) int {
	return cmp.Or(cmp.Compare(x.id.Hi, y.id.Hi), cmp.Compare(x.id.Lo, y.id.Lo), cmp.Compare(x.file, y.file), cmp.Compare(x.row, y.row))
}

// read reads all files, some at a time, and adds what is in them to t.
func (a *auditor) read(ctx context.Context, files []*file, l layout, spec spec, t *Table) error {
	// Slot by slot, so that the ids of only a few are held at a time.
	slices.SortStableFunc(files, func(x, y *file) int {
		return cmp.Or(cmp.Compare(x.folder, y.folder), cmp.Compare(x.shard, y.shard), cmp.Compare(x.seq, y.seq))
	})
	total := totals{table: t, repeated: newRepeats(maxRepeats)}
	if err := each(ctx, a.options.Parallel, files, func(ctx context.Context, f *file) error { return a.one(ctx, f, l, spec, &total) }); err != nil {
		return err
	}
	t.Repeated, t.Estimated = total.repeated.count()
	return nil
}

// each calls fn with all of work, some at a time, and ends with the first error.
func each[T any](ctx context.Context, parallel int, work []T, fn func(ctx context.Context, w T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan T)
	var workers sync.WaitGroup
	for range min(parallel, max(1, len(work))) {
		workers.Go(func() {
			for w := range queue {
				if err := fn(ctx, w); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, w := range work {
		select {
		case queue <- w:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// totals adds up what is in the files of a table.
type totals struct {
	mu       sync.Mutex
	table    *Table
	repeated *repeats
}

// content is what was seen in one file.
type content struct {
	rows          int64
	first, last   int64 // times; first > last: none
	ids           []idAt
	codes, fields map[string]int64
	minutes       minutes // with events that have items
}

// one reads a file, and with the last one of its slot looks for ids that are there twice.
func (a *auditor) one(ctx context.Context, f *file, l layout, spec spec, total *totals) error {
	c, err := a.contentOf(ctx, f, l, spec)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		a.find(KindUnreadable, f.key, "%v", err)
	}
	total.add(c)
	a.addMinutes(f.folder, c.minutes)
	if a.options.Progress != nil {
		a.options.Progress(c.rows)
	}

	s := f.slot
	number := uint32(slices.Index(s.files, f))
	s.mu.Lock()
	for _, at := range c.ids {
		at.file = number
		s.ids = append(s.ids, at)
	}
	s.open--
	done := s.open == 0
	s.mu.Unlock()
	if done {
		a.duplicates(s)
		total.repeated.add(s.ids)
		s.ids = nil
	}
	return nil
}

func (t *totals) add(c content) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table.Rows += c.rows
	if c.first <= c.last {
		first, last := time.UnixMicro(c.first).UTC(), time.UnixMicro(c.last).UTC()
		if t.table.First == nil || first.Before(*t.table.First) {
			t.table.First = &first
		}
		if t.table.Last == nil || last.After(*t.table.Last) {
			t.table.Last = &last
		}
	}
	t.table.Codes = addCounts(t.table.Codes, c.codes)
	t.table.Fields = addCounts(t.table.Fields, c.fields)
}

// maxCounted bounds the names that a count is kept of.
const maxCounted = 1000

func addCounts(to, from map[string]int64) map[string]int64 {
	for name, n := range from {
		if to == nil {
			to = map[string]int64{}
		}
		if _, counted := to[name]; !counted && len(to) >= maxCounted {
			name = "(others)"
		}
		to[name] += n
	}
	return to
}

// duplicates sorts the ids of a slot, and drops from them what is there twice.
func (a *auditor) duplicates(s *slot) {
	slices.SortFunc(s.ids, idAt.compare)
	wrong := make([]rowFault, len(s.files))
	unique := s.ids[:0]
	for _, at := range s.ids {
		if n := len(unique); n > 0 && unique[n-1].id == at.id {
			first := unique[n-1]
			wrong[at.file].add(int64(at.row), "is that of row %d of %s", first.row, s.files[first.file].key)
			continue
		}
		unique = append(unique, at)
	}
	s.ids = unique
	for i := range wrong {
		wrong[i].report(a, KindDuplicate, s.files[i].key, "the id")
	}
}

// rowFault gathers rows of a file that have the same thing wrong with them.
type rowFault struct {
	rows   int64
	first  int64
	detail string
}

func (f *rowFault) add(row int64, format string, args ...any) {
	if f.rows == 0 {
		f.first, f.detail = row, fmt.Sprintf(format, args...)
	}
	f.rows++
}

func (f *rowFault) report(a *auditor, kind Kind, key, what string) {
	if f.rows > 0 {
		a.find(kind, key, "%d rows, the first is row %d: %s %s", f.rows, f.first, what, f.detail)
	}
}

// inMemory is the size of files that are read at once.
const inMemory = 32 << 20

// contentOf reads a file in full. Its error says that the file is damaged, or cannot be read.
func (a *auditor) contentOf(ctx context.Context, f *file, l layout, spec spec) (c content, err error) {
	// The reader of Parquet files panics at some that are damaged.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it panics: %v", p)
		}
	}()
	c = content{first: 1, last: 0}
	pf, done, err := a.open(ctx, f.key, f.size)
	if err != nil {
		return c, err
	}
	defer done()
	table, _, _ := strings.Cut(f.key, "/")
	a.metadata(f.key, table, pf, metaRun, metaWriter)
	check := checker{auditor: a, file: f, layout: l, columns: a.columns(f, pf.Schema(), spec), content: &c}
	for _, group := range pf.RowGroups() {
		if err := eachRow(group, check.row); err != nil {
			return c, err
		}
	}
	check.report()
	if c.rows != pf.NumRows() {
		return c, fmt.Errorf("it has %d rows, but its footer says %d", c.rows, pf.NumRows())
	}
	return c, nil
}

// open opens a Parquet file; done is to be called when it was read.
func (a *auditor) open(ctx context.Context, key string, size int64) (pf *parquet.File, done func(), err error) {
	var r io.ReaderAt
	done = func() {}
	if size <= inMemory {
		body, err := a.store.ReadAll(ctx, key, inMemory)
		if err != nil {
			return nil, nil, err
		}
		r, size = bytes.NewReader(body), int64(len(body))
	} else {
		o, err := a.store.Open(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		done = func() { closeObject(o) }
		r, size = o, o.Size()
	}
	pf, err = parquet.OpenFile(r, size, parquet.ReadBufferSize(1<<20), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		done()
	}
	return pf, done, err
}

// closeObject closes what was only read from.
func closeObject(o store.Object) { _ = o.Close() }

// metadata looks at what the footer says of the file of a table, in which needed have to be.
func (a *auditor) metadata(key, table string, pf *parquet.File, needed ...string) {
	for _, name := range needed {
		if v, _ := pf.Lookup(name); v == "" {
			a.find(KindMetadata, key, "the footer has no %s", name)
		}
	}
	if v, _ := pf.Lookup(metaTable); v != table {
		a.find(KindMetadata, key, "%s is %q in the footer, want %q", metaTable, v, table)
	}
	v, _ := pf.Lookup(metaVersion)
	if n, err := strconv.Atoi(v); err != nil || n < 1 {
		a.find(KindMetadata, key, "%s is %q in the footer, want a number from 1", metaVersion, v)
	}
	v, _ = pf.Lookup(metaRows)
	if n, err := strconv.ParseInt(v, 10, 64); err != nil {
		a.find(KindMetadata, key, "%s is %q in the footer, want a number", metaRows, v)
	} else if n != pf.NumRows() {
		a.find(KindRows, key, "%s is %d in the footer, but the file has %d rows", metaRows, n, pf.NumRows())
	}
}
