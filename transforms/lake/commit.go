package lake

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/dedup"
	"backbone/transforms/lake/digest"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
	"backbone/transforms/rows"
)

// Receipt says what became of the rows of one pane of one slot. Their files are durable.
type Receipt struct {
	Slot       Slot
	Folder     string   // of the partition, within the lake
	Start, End int64    // of the partition, in microseconds since 1970
	Files      []string // within the folder
	Rows       int64    // committed
	Duplicates int64    // already in the lake, or twice in the pane
	Late       int64    // of Rows: committed to a partition that was complete
	Bytes      int64    // of Files
	Due        int64    // when the partition may be marked complete, in microseconds since 1970
}

// Limits bound a file.
type Limits struct {
	Bytes int64 // of encoded rows, before compression
	Rows  int
}

// committer commits the rows of one table.
type committer struct {
	store  *store.Store
	layout Layout
	limits Limits
	runID  string
	writer string // id of this process as a writer
	slots  *dedup.Cache[*slot]
	table  tableCodec
}

// slot is what is known of a (partition, shard): the ids that its files hold and the number of the next file.
type slot struct {
	mu     sync.Mutex
	loaded bool
	seen   *dedup.Set
	next   int
}

// tableCodec is a table without its type: what the sink does with rows.
type tableCodec interface {
	// scan calls each for every row of a chunk: its id, and its bytes, which alias the chunk.
	scan(chunk []byte, each func(id string, row rowfile.Encoded)) error
	// file sorts rows and makes a file of them, and its digest where there is one. The result is valid until done is called.
	file(all []rowfile.Encoded, runID, writerID string) (body, digest []byte, done func(), err error)
	idColumn() string
}

func newWriterID() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// commit makes the rows of some chunks durable, each once, and adds what became of them to the receipt.
func (c *committer) commit(ctx context.Context, at Slot, chunks [][]byte) (Receipt, error) {
	start, end := c.layout.Window.bounds(at.Bucket)
	r := Receipt{
		Slot: at, Folder: path.Join(at.Table, c.layout.Window.folder(at.Bucket)), Start: start.UnixMicro(), End: end.UnixMicro(),
	}
	s, release := c.slots.Get(at.Key(), func() *slot { return &slot{} })
	s.mu.Lock()
	defer func() {
		bytes := int64(0)
		if s.loaded {
			bytes = s.seen.Bytes()
		}
		s.mu.Unlock()
		release(bytes)
	}()
	err := c.write(ctx, s, at, chunks, &r)
	if err != nil {
		s.loaded, s.seen = false, nil // it may hold ids of rows that were not committed
		return r, fmt.Errorf("commit to %s, shard %d: %w", r.Folder, at.Shard, err)
	}
	return r, nil
}

func (c *committer) write(ctx context.Context, s *slot, at Slot, chunks [][]byte, r *Receipt) error {
	total := 0
	for _, chunk := range chunks {
		total += len(chunk)
	}
	if !s.loaded {
		if err := c.load(ctx, s, at, r.Folder, total/512); err != nil {
			return err
		}
	}
	var pending []rowfile.Encoded
	var size int64
	for _, chunk := range chunks {
		var failed error
		err := c.table.scan(chunk, func(id string, row rowfile.Encoded) {
			if failed != nil {
				return
			}
			if !s.seen.Add(dedup.Of(id)) {
				r.Duplicates++
				return
			}
			pending = append(pending, row)
			if size += int64(len(row.Body)); size >= c.limits.Bytes || len(pending) >= c.limits.Rows {
				failed = c.flush(ctx, s, at, pending, r)
				pending, size = pending[:0], 0
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	if len(pending) == 0 {
		return nil
	}
	return c.flush(ctx, s, at, pending, r)
}

// flush commits rows as the next file of the slot. Where somebody else was first, their rows are dropped from ours
// and the next name is tried.
func (c *committer) flush(ctx context.Context, s *slot, at Slot, pending []rowfile.Encoded, r *Receipt) error {
	for len(pending) > 0 {
		body, summary, done, err := c.table.file(pending, c.runID, c.writer)
		if err != nil {
			return err
		}
		name := fileName(at.Shard, c.layout.Shards, s.next)
		outcome, err := c.store.Commit(ctx, r.Folder+"/"+name, body)
		size := int64(len(body))
		done()
		if err != nil {
			return err
		}
		s.next++
		if outcome == store.Created {
			if summary != nil { // if this process is killed before, readers make it of the rows
				if _, err := c.store.Commit(ctx, digest.Name(r.Folder+"/"+name), summary); err != nil {
					return err
				}
			}
			late, err := c.store.Exists(ctx, r.Folder+"/"+successName)
			if err != nil {
				return err
			}
			r.Files = append(r.Files, name)
			r.Rows += int64(len(pending))
			r.Bytes += size
			if late {
				r.Late += int64(len(pending))
			}
			return nil
		}
		theirs := dedup.NewSet(0)
		if err := c.readIDs(ctx, r.Folder+"/"+name, theirs); err != nil {
			return err
		}
		if pending, err = c.without(pending, theirs, s, r); err != nil {
			return err
		}
	}
	return nil
}

// without drops the rows whose ids somebody else has committed, and notes those ids as seen.
func (c *committer) without(pending []rowfile.Encoded, theirs *dedup.Set, s *slot, r *Receipt) ([]rowfile.Encoded, error) {
	var kept []rowfile.Encoded
	for _, row := range pending {
		id, err := rows.First(row.Body, row.Columns)
		if err != nil {
			return nil, err
		}
		if theirs.Has(dedup.Of(id)) {
			r.Duplicates++
		} else {
			kept = append(kept, row)
		}
	}
	for id := range theirs.All() {
		s.seen.Add(id)
	}
	return kept, nil
}

// load reads what the lake holds of a slot.
func (c *committer) load(ctx context.Context, s *slot, at Slot, folder string, room int) error {
	s.seen, s.next = dedup.NewSet(room), 0
	found := false
	for entry, err := range c.store.ListDir(ctx, folder) {
		if err != nil {
			return err
		}
		shard, shards, seq, ok := parseFileName(path.Base(entry.Key))
		if !ok {
			continue
		}
		if shards != c.layout.Shards {
			return fmt.Errorf("%s has %d shards, the table has %d: it was not written by Backbone, or the table's %s was changed", entry.Key, shards, c.layout.Shards, layoutName)
		}
		if shard != at.Shard {
			continue
		}
		if err := c.readIDs(ctx, entry.Key, s.seen); err != nil {
			return err
		}
		s.next, found = max(s.next, seq+1), true
	}
	if found {
		// What was read may not be durable yet where another process was killed in mid-commit, and rows that are
		// dropped because of it are acknowledged.
		if err := c.store.Sync(ctx, folder); err != nil {
			return err
		}
	}
	s.loaded = true
	return nil
}

// readIDs adds the ids of a file to a set.
func (c *committer) readIDs(ctx context.Context, key string, into *dedup.Set) error {
	o, err := c.store.Open(ctx, key)
	if err != nil {
		return err
	}
	err = eachText(o, o.Size(), c.table.idColumn(), func(id string) { into.Add(dedup.Of(id)) })
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("ids of %s: %w", key, err)
	}
	return nil
}

// eachText calls each with every value of a required text column of a Parquet file.
func eachText(r io.ReaderAt, size int64, column string, each func(string)) error {
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(1<<18))
	if err != nil {
		return err
	}
	leaf, ok := f.Schema().Lookup(strings.Split(column, ".")...)
	if !ok {
		return fmt.Errorf("there is no column %q", column)
	}
	values := make([]parquet.Value, 1024)
	for _, group := range f.RowGroups() {
		pages := group.ColumnChunks()[leaf.ColumnIndex].Pages()
		err := eachValue(pages, values, each)
		if err = errors.Join(err, pages.Close()); err != nil {
			return err
		}
	}
	return nil
}

func eachValue(pages parquet.Pages, values []parquet.Value, each func(string)) error {
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reader := page.Values()
		for {
			n, err := reader.ReadValues(values)
			for _, v := range values[:n] {
				each(rows.Alias(v.ByteArray()))
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		parquet.Release(page)
	}
}

// sortKey is a row with what it is sorted by.
type sortKey struct {
	prefix uint64 // first bytes of user, so that most comparisons are of one number
	time   int64
	user   string
	row    rowfile.Encoded
}

func newSortKey(user string, micros int64, row rowfile.Encoded) sortKey {
	var first [8]byte
	copy(first[:], user)
	return sortKey{prefix: binary.BigEndian.Uint64(first[:]), time: micros, user: user, row: row}
}

func (a sortKey) compare(b sortKey) int {
	if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
		return c
	}
	if c := strings.Compare(a.user, b.user); c != 0 {
		return c
	}
	if c := cmp.Compare(a.time, b.time); c != 0 {
		return c
	}
	return bytes.Compare(a.row.Body, b.row.Body)
}

// typedTable is the table codec of rows R.
type typedTable[R any] struct {
	table   *schemas.Table[R]
	reset   func(*R)
	codec   *rows.Codec[R]
	digests func() digester[R] // nil: files have none
	writers sync.Pool
}

// digester makes the digest of a file of its rows, in their order.
type digester[R any] interface {
	Add(row *R)
	Encode() ([]byte, error)
}

func newTable[R any](table *schemas.Table[R], reset func(*R)) *typedTable[R] {
	return &typedTable[R]{table: table, reset: reset, codec: rows.NewCodec(table.Columns)}
}

func (t *typedTable[R]) idColumn() string { return t.table.Columns[0].Name }

func (t *typedTable[R]) scan(chunk []byte, each func(id string, row rowfile.Encoded)) error {
	r, err := t.codec.Read(chunk)
	if err != nil {
		return err
	}
	for {
		body, err := r.Next()
		if err != nil || body == nil {
			return err
		}
		id, err := rows.First(body, r.Columns())
		if err != nil {
			return err
		}
		each(id, rowfile.Encoded{Body: body, Columns: r.Columns()})
	}
}

// file sorts rows by (user, event time, id): neighbours that are alike compress well, and a reader of one user finds
// their rows together.
func (t *typedTable[R]) file(all []rowfile.Encoded, runID, writerID string) (body, summary []byte, done func(), err error) {
	keys := make([]sortKey, len(all))
	var row R
	for i, e := range all {
		t.reset(&row)
		if err := t.codec.DecodeFirst(e.Body, e.Columns, t.table.KeyColumns, &row); err != nil {
			return nil, nil, nil, err
		}
		_, micros := t.table.Slot(&row)
		keys[i] = newSortKey(t.table.SortBy(&row), micros, e)
	}
	slices.SortFunc(keys, sortKey.compare)
	hash := xxh3.New()
	sorted := make([]rowfile.Encoded, len(all))
	for i := range keys {
		sorted[i] = keys[i].row
		_, _ = hash.Write(sorted[i].Body) // a hash does not fail
	}
	e, ok := t.writers.Get().(*rowfile.Writer[R])
	if !ok {
		if e, err = rowfile.NewWriter(t.table, t.reset); err != nil {
			return nil, nil, nil, err
		}
	}
	e.Begin()
	var d digester[R]
	if t.digests != nil {
		d = t.digests()
		e.Observe(d.Add)
	}
	for _, row := range sorted {
		if err := e.Add(row); err != nil {
			return nil, nil, nil, err
		}
	}
	body, err = e.Finish(map[string]string{
		rowfile.MetaRun: runID, rowfile.MetaWriter: writerID, rowfile.MetaContent: fmt.Sprintf("%016x", hash.Sum64()),
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("encode %d rows of %q: %w", len(all), t.table.Name, err)
	}
	if d != nil {
		if summary, err = d.Encode(); err != nil {
			return nil, nil, nil, err
		}
	}
	return body, summary, func() { t.writers.Put(e) }, nil
}
