package asof

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
	"backbone/transforms/rows"
)

// refused is the part of rows that have only an id: what else the export has of it was refused.
const refused = 255

// task is the merging of one shard of a table.
type task struct {
	store  *store.Store
	shard  int
	shards int
	before *Version // nil: there is no version yet
	mode   Mode
	asOf   int64
	rules  schemas.CatalogRules
	chunks []chunk
}

// chunk holds rows of an export. Its part is 0 for rows, from 1 on for records that are added to them, or refused.
type chunk struct {
	part byte
	body []byte
}

// shardFiles is what a shard became: files that are valid until done is called.
type shardFiles struct {
	current, history []byte // history is nil where no version was closed
	live, rows       int64
	closed           int64
	counts           Counts
	arrived          int64 // rows that the export has
	done             func()
}

// merging is a table without its type.
type merging interface {
	merge(ctx context.Context, t task) (shardFiles, error)
	schemaVersion() int
}

// mergingOf returns the merging of a table that has versions.
func mergingOf(table string) (merging, error) {
	switch table {
	case schemas.Users.Name:
		return newTyped(schemas.Users), nil
	case schemas.Items.Name:
		return newTyped(schemas.Items), nil
	}
	return nil, fmt.Errorf("table %q has no versions; users and items have", table)
}

// typed is merging of rows R.
type typed[R any] struct {
	table   *schemas.Table[R]
	past    *schemas.Table[R] // of the history
	codec   *rows.Codec[R]
	writers sync.Pool // of current and history, in turn
	pasts   sync.Pool
}

func newTyped[R any](table *schemas.Table[R]) *typed[R] {
	past := *table
	past.Name = schemas.HistoryOf(table.Name)
	return &typed[R]{table: table, past: &past, codec: rows.NewCodec(table.Columns)}
}

func (t *typed[R]) schemaVersion() int { return t.table.Version }

func writerOf[R any](pool *sync.Pool, table *schemas.Table[R]) (*rowfile.Writer[R], error) {
	if w, ok := pool.Get().(*rowfile.Writer[R]); ok {
		return w, nil
	}
	return rowfile.NewWriter(table, table.Reset)
}

// arrival is a row of the export.
type arrival struct {
	first uint64 // bytes of the id, which tell most ids apart
	id    string
	part  byte
	row   rowfile.Encoded
}

// firstOf returns a number that is in the order of ids: it is smaller, or the same, where the id is.
func firstOf(id string) uint64 {
	var b [8]byte
	copy(b[:], id)
	return binary.BigEndian.Uint64(b[:])
}

// merge makes the files of a shard: the rows of the version before, in the order of their ids, with what the export has of
// them. Only the export's rows of the shard are held in memory, and the files that come out.
func (t *typed[R]) merge(ctx context.Context, in task) (shardFiles, error) {
	arrivals, err := t.arrivals(in.chunks)
	if err != nil {
		return shardFiles{}, err
	}
	if same, ok, err := t.untouched(ctx, in, arrivals); ok || err != nil {
		return same, err
	}
	current, err := writerOf(&t.writers, t.table)
	if err != nil {
		return shardFiles{}, err
	}
	history, err := writerOf(&t.pasts, t.past)
	if err != nil {
		return shardFiles{}, err
	}
	current.Begin()
	history.Begin()
	s := &shard[R]{typed: t, task: in, ctx: ctx, left: arrivals, current: current, history: history}
	if err := s.run(); err != nil {
		return shardFiles{}, fmt.Errorf("merge shard %d of %d of table %q: %w", in.shard, in.shards, t.table.Name, err)
	}
	out := shardFiles{
		live: s.counts.Live, rows: int64(current.Rows()), closed: int64(history.Rows()), counts: s.counts, arrived: s.arrived,
		done: func() { t.writers.Put(current); t.pasts.Put(history) },
	}
	if out.current, err = current.Finish(nil); err != nil {
		return out, err
	}
	if history.Rows() > 0 {
		out.history, err = history.Finish(nil)
	}
	return out, err
}

// arrivals returns the rows of chunks by their ids; of the same id, rows come first.
func (t *typed[R]) arrivals(chunks []chunk) ([]arrival, error) {
	n := 0
	for _, c := range chunks {
		r, err := t.codec.Read(c.body)
		if err != nil {
			return nil, err
		}
		for body, err := r.Next(); body != nil && err == nil; body, err = r.Next() {
			n++
		}
	}
	all := make([]arrival, 0, n) // growing it would take longer, and twice the memory
	for _, c := range chunks {
		r, err := t.codec.Read(c.body)
		if err != nil {
			return nil, err
		}
		for {
			body, err := r.Next()
			if err != nil {
				return nil, err
			}
			if body == nil {
				break
			}
			id, err := rows.First(body, r.Columns())
			if err != nil {
				return nil, err
			}
			all = append(all, arrival{first: firstOf(id), id: id, part: c.part, row: rowfile.Encoded{Body: body, Columns: r.Columns()}})
		}
	}
	slices.SortFunc(all, func(a, b arrival) int {
		// Chunks come in any order, and what is made of them must not depend on it.
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.part, b.part), bytes.Compare(a.row.Body, b.row.Body))
	})
	return all, nil
}

// untouched returns the file of the version before, where nothing can have changed in it.
func (t *typed[R]) untouched(ctx context.Context, in task, arrivals []arrival) (shardFiles, bool, error) {
	if len(arrivals) > 0 || in.mode == Full || in.before == nil || in.before.Shards != in.shards || in.before.Schema != t.table.Version {
		return shardFiles{}, false, nil
	}
	for _, p := range in.before.Current {
		if p.Shard == in.shard {
			body, err := in.store.ReadAll(ctx, in.before.Folder(t.table.Name)+"/"+partName(in.shard, in.shards), maxPartBytes)
			counts := Counts{Live: p.Live, Deleted: p.Rows - p.Live, Before: p.Live}
			return shardFiles{current: body, live: p.Live, rows: p.Rows, counts: counts, done: func() {}}, true, err
		}
	}
	return shardFiles{}, false, nil
}

// maxPartBytes bounds the file of a shard.
const maxPartBytes = 4 << 30

// shard is a shard while it is merged.
type shard[R any] struct {
	*typed[R]
	task
	ctx     context.Context
	left    []arrival
	current *rowfile.Writer[R]
	history *rowfile.Writer[R]
	past    map[string][]version // of the history so far, once it was needed
	counts  Counts
	arrived int64

	// What merging a row takes, again for the next.
	merger  merger
	id      string // of the row that is merged
	own     []rowfile.Encoded
	in      []version
	content []byte
	first   R // its id and stamp
	row     R
	stamp   schemas.Stamp
	edit    func(*R)
}

func (s *shard[R]) run() error {
	s.merger = merger{mode: s.mode, asOf: s.asOf, history: func() ([]version, error) { return s.historyOf(s.id) }}
	s.edit = func(row *R) { *s.table.Stamp(row) = s.stamp }
	if err := s.eachBefore(func(part []R) error {
		for i := range part {
			id, _ := s.table.Slot(&part[i])
			if shardOf(id, s.shards) != s.shard { // the table had fewer shards
				continue
			}
			if err := s.upTo(id); err != nil {
				return err
			}
			if err := s.one(id, &part[i], s.take(id)); err != nil {
				return err
			}
		}
		return errors.Join(s.current.Flush(), s.history.Flush()) // they must not refer to part any more
	}); err != nil {
		return err
	}
	return s.upTo("")
}

// eachBefore reads the rows of the version before that may be in the shard, in the order of their ids.
func (s *shard[R]) eachBefore(fn func(part []R) error) error {
	if s.before == nil {
		return nil
	}
	key := s.before.Folder(s.table.Name) + "/" + partName(s.shard%s.before.Shards, s.before.Shards)
	o, err := s.store.Open(s.ctx, key)
	if err != nil {
		return err
	}
	err = rowfile.Each(o, o.Size(), s.table, s.table.Reset, fn)
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// shardOf returns the shard of an id. Shards are a power of two, so a table can have more of them later: each is cut in two.
func shardOf(id string, shards int) int {
	return lake.Layout{Shards: shards}.Slot("", id, 0).Shard
}

// upTo merges the rows that come before an id and are not in the version before; "" is after all.
func (s *shard[R]) upTo(id string) error {
	for len(s.left) > 0 && (id == "" || s.left[0].id < id) {
		first := s.left[0].id
		if err := s.one(first, nil, s.take(first)); err != nil {
			return err
		}
	}
	return nil
}

// take takes what arrived of an id.
func (s *shard[R]) take(id string) []arrival {
	n := 0
	for n < len(s.left) && s.left[n].id == id {
		n++
	}
	taken := s.left[:n]
	s.left = s.left[n:]
	return taken
}

// The rows of versions that are none of those that arrived.
const (
	noRow     = -1 // of a deletion
	rowBefore = -2 // of the version before
)

// one merges one row. before is nil where it is new.
func (s *shard[R]) one(id string, before *R, arrived []arrival) error {
	var known version
	if before != nil {
		st := s.table.Stamp(before)
		known = version{
			updated: st.UpdatedTime.V, deleted: st.IsDeleted.V, hash: st.ContentHash, from: st.ValidFrom.V, to: open, row: rowBefore,
		}
		if !known.deleted {
			s.counts.Before++
		}
	}
	own, keep, err := s.join(arrived)
	if err != nil {
		return err
	}
	in, err := s.versions(own)
	if err != nil {
		return err
	}
	s.arrived += int64(len(in))
	s.id = id
	o, err := s.merger.merge(known, before != nil, in, keep)
	if err != nil {
		return err
	}
	s.counts.Inserted += o.inserted
	s.counts.Updated += o.updated
	s.counts.Removed += o.deleted
	s.counts.Absent += o.absent
	s.counts.Late += o.late
	s.counts.Unchanged += o.unchanged
	s.counts.Closed += int64(len(o.closed))
	for _, v := range o.closed {
		if err := s.write(s.history, id, v, before, own); err != nil {
			return err
		}
	}
	if !o.has {
		return nil
	}
	if o.current.deleted {
		s.counts.Deleted++
	} else {
		s.counts.Live++
	}
	return s.write(s.current, id, o.current, before, own)
}

// write adds a version of a row to a file.
func (s *shard[R]) write(w *rowfile.Writer[R], id string, v version, before *R, own []rowfile.Encoded) error {
	s.stamp = schemas.Stamp{
		UpdatedTime: schemas.Some(v.updated), IsDeleted: schemas.Some(v.deleted), ValidFrom: schemas.Some(v.from), ContentHash: v.hash,
	}
	if v.to != open {
		s.stamp.ValidTo = schemas.Some(v.to)
	}
	switch {
	case v.row == rowBefore:
		s.row = *before
		s.edit(&s.row)
		return w.AddRow(&s.row)
	case v.row == noRow || v.deleted:
		var row R
		*s.table.Columns[0].Str(&row), *s.table.Stamp(&row) = id, s.stamp
		return w.AddRow(&row)
	default:
		return w.AddEdited(own[v.row], s.edit)
	}
}

// join returns the rows among what arrived of an id, with the records of other parts added to them, and whether the export has
// the id in a form that was refused.
func (s *shard[R]) join(arrived []arrival) (own []rowfile.Encoded, keep bool, err error) {
	n := 0
	own = s.own[:0]
	for n < len(arrived) && arrived[n].part == 0 {
		own = append(own, arrived[n].row)
		n++
	}
	s.own = own
	more := arrived[n:]
	for len(more) > 0 && more[len(more)-1].part == refused {
		keep, more = true, more[:len(more)-1]
	}
	if len(more) == 0 {
		return own, keep, nil
	}
	if len(own) == 0 {
		s.counts.Unjoined += int64(len(more))
		return nil, keep, nil
	}
	for i := range own {
		var row, part R
		if err := s.codec.Decode(own[i].Body, own[i].Columns, &row); err != nil {
			return nil, false, err
		}
		for _, m := range more {
			s.table.Reset(&part)
			if err := s.codec.Decode(m.row.Body, m.row.Columns, &part); err != nil {
				return nil, false, err
			}
			fillIn(s.table.Columns[s.table.KeyColumns:], &row, &part)
		}
		s.table.Arrange(&row)
		if !s.isRight(&row) { // together they are too many: the row stays as it came
			s.counts.Unjoined += int64(len(more))
			return own, keep, nil
		}
		own[i] = rowfile.Encoded{Body: s.codec.Append(nil, &row)[4:], Columns: len(s.table.Columns)}
	}
	s.counts.Joined += int64(len(more))
	return own, keep, nil
}

// isRight tells if a row breaks no rule.
func (s *shard[R]) isRight(row *R) bool { return s.table.Check(row, s.rules) == nil }

// fillIn adds to a row what another one has: elements to lists, entries to maps, and values where there are none.
func fillIn[R any](columns []schemas.Column[R], row, more *R) {
	for i := range columns {
		c := &columns[i]
		switch {
		case c.Str != nil:
			if to := c.Str(row); *to == "" {
				*to = *c.Str(more)
			}
		case c.Int != nil:
			if to := c.Int(row); !to.Set {
				*to = *c.Int(more)
			}
		case c.Float != nil:
			if to := c.Float(row); !to.Set {
				*to = *c.Float(more)
			}
		case c.Bool != nil:
			if to := c.Bool(row); !to.Set {
				*to = *c.Bool(more)
			}
		case c.List != nil:
			*c.List(row) = append(*c.List(row), *c.List(more)...)
		case c.Map != nil:
			to := c.Map(row)
			for _, entry := range *c.Map(more) {
				if !slices.ContainsFunc(*to, func(p schemas.Pair) bool { return p.Key == entry.Key }) {
					*to = append(*to, entry)
				}
			}
		case c.Numbers != nil:
			*c.Numbers(row) = append(*c.Numbers(row), *c.Numbers(more)...)
		case c.Vector != nil:
			if to := c.Vector(row); len(*to) == 0 {
				*to = append(*to, *c.Vector(more)...)
			}
		}
	}
}

// versions returns what merging has to know of rows that arrived.
func (s *shard[R]) versions(own []rowfile.Encoded) ([]version, error) {
	in := s.in[:0]
	for i, e := range own {
		*s.table.Stamp(&s.first) = schemas.Stamp{}
		if err := s.codec.DecodeFirst(e.Body, e.Columns, s.table.KeyColumns, &s.first); err != nil {
			return nil, err
		}
		st := s.table.Stamp(&s.first)
		v := version{updated: st.UpdatedTime.V, deleted: st.IsDeleted.V, row: i}
		if !st.UpdatedTime.Set {
			v.updated, v.undated = s.asOf, true
		}
		if !v.deleted {
			var err error
			if s.content, err = s.codec.AppendContent(s.content[:0], e.Body, e.Columns, s.table.KeyColumns); err != nil {
				return nil, err
			}
			h := xxh3.Hash128(s.content).Bytes()
			v.hash = hex.EncodeToString(h[:])
		}
		in = append(in, v)
	}
	s.in = in
	return in, nil
}

// historyOf returns the closed versions of a row.
func (s *shard[R]) historyOf(id string) ([]version, error) {
	if s.past == nil {
		s.past = map[string][]version{}
		if err := s.eachClosed(func(id string, v version) { s.past[id] = append(s.past[id], v) }); err != nil {
			return nil, err
		}
	}
	return s.past[id], nil
}

// eachClosed calls fn for every closed version of a row of the shard. It reads the stamps only.
func (s *shard[R]) eachClosed(fn func(id string, v version)) error {
	if s.before == nil {
		return nil
	}
	stamps := *s.table
	stamps.Columns = stamps.Columns[:stamps.KeyColumns]
	return eachHistory(s.ctx, s.store, &stamps, s.before, s.shard, s.shards, func(part []R) error {
		for i := range part {
			id, _ := s.table.Slot(&part[i])
			if shardOf(id, s.shards) != s.shard {
				continue
			}
			st := s.table.Stamp(&part[i])
			fn(string([]byte(id)), version{
				updated: st.UpdatedTime.V, deleted: st.IsDeleted.V, hash: string([]byte(st.ContentHash)), from: st.ValidFrom.V, to: st.ValidTo.V,
			})
		}
		return nil
	})
}

// eachHistory reads the closed versions that may be of a shard: all history up to a version. Each file is in the order of ids.
func eachHistory[R any](ctx context.Context, st *store.Store, table *schemas.Table[R], newest *Version, shard, shards int, fn func(part []R) error) error {
	past := schemas.HistoryOf(table.Name)
	for _, asOf := range newest.Histories {
		folder := past + "/as_of=" + asOf
		for e, err := range st.List(ctx, folder+"/part-") {
			if err != nil {
				return err
			}
			var number, of int
			name := e.Key[len(folder)+1:]
			if n, err := fmt.Sscanf(name, "part-%d-of-%d.parquet", &number, &of); n != 2 || err != nil || name != partName(number, of) {
				return fmt.Errorf("%s is no file of a version", e.Key)
			}
			if number%shards != shard%of { // of a power of two of shards, each is a part of one of fewer
				continue
			}
			o, err := st.Open(ctx, e.Key)
			if err != nil {
				return err
			}
			err = rowfile.Each(o, o.Size(), table, table.Reset, fn)
			if err = errors.Join(err, o.Close()); err != nil {
				return fmt.Errorf("%s: %w", e.Key, err)
			}
		}
	}
	return nil
}
