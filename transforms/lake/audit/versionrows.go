package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
)

// versionFile is a file of a version.
type versionFile struct {
	key       string
	version   *logged
	piece     piece
	isHistory bool
	lost      bool // it cannot be read, or is not what it should be
}

// read looks at all rows of a table, and then at the versions of each id.
func (v *versionAuditor) read(ctx context.Context) error {
	var mu sync.Mutex
	err := each(ctx, v.options.Parallel, v.files, func(ctx context.Context, f *versionFile) error {
		if f.lost {
			return nil
		}
		t, err := v.rowsOf(ctx, f)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			v.find(KindUnreadable, f.key, "%v", err)
			f.lost = true
		}
		if v.options.Progress != nil {
			v.options.Progress(t.rows)
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case f.isHistory:
			v.result.Closed += t.rows
		case f.version == v.newest:
			v.result.Live += t.live
			v.result.Deleted += t.rows - t.live
		}
		return nil
	})
	if err != nil || v.newest == nil {
		return err
	}
	var shards []int
	for shard := range v.newest.Shards {
		shards = append(shards, shard)
	}
	return each(ctx, v.options.Parallel, shards, v.compare)
}

// tally counts the rows of a file.
type tally struct{ rows, live int64 }

// The columns of a stamp, as far as they are looked at.
const (
	columnID = iota
	columnUpdated
	columnDeleted
	columnFrom
	columnTo
	columnHash
	stampColumns
)

// places finds the columns of the stamp in a file. Its error says which is not there, or of another type.
func (s versionSpec) places(schema *parquet.Schema) (at [stampColumns]int, err error) {
	isBoolean := func(t parquet.Type) bool { return t.Kind() == parquet.Boolean }
	for i, want := range [stampColumns]struct {
		name string
		fits func(parquet.Type) bool
		text string
	}{
		{s.id, isText, "text"},
		{"updated_time", isMicros, "TIMESTAMP(MICROS, UTC)"},
		{"is_deleted", isBoolean, "BOOLEAN"},
		{"valid_from", isMicros, "TIMESTAMP(MICROS, UTC)"},
		{"valid_to", isMicros, "TIMESTAMP(MICROS, UTC)"},
		{"content_hash", isText, "text"},
	} {
		leaf, ok := schema.Lookup(want.name)
		if !ok {
			return at, fmt.Errorf("there is no column %q", want.name)
		}
		if leaf.MaxRepetitionLevel > 0 || !want.fits(leaf.Node.Type()) {
			return at, fmt.Errorf("column %q is of type %v, want %s", want.name, leaf.Node.Type(), want.text)
		}
		at[i] = leaf.ColumnIndex
	}
	return at, nil
}

// rowsOf reads a file in full. Its error says that the file is damaged, or cannot be read.
func (v *versionAuditor) rowsOf(ctx context.Context, f *versionFile) (t tally, err error) {
	// The reader of Parquet files panics at some that are damaged.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it panics: %v", p)
		}
	}()
	pf, done, err := v.open(ctx, f.key, f.piece.Bytes)
	if err != nil {
		return t, err
	}
	defer done()
	table, _, _ := strings.Cut(f.key, "/")
	v.metadata(f.key, table, pf) // no run is named: all runs over the same exports make the same file
	if of, _ := pf.Lookup(metaVersion); of != strconv.Itoa(f.version.Schema) {
		v.find(KindMetadata, f.key, "%s is %q in the footer, but %d by the log", metaVersion, of, f.version.Schema)
	}
	at, err := v.spec.places(pf.Schema())
	if err != nil {
		v.find(KindColumn, f.key, "%v", err)
		f.lost = true
		return t, nil
	}
	c := versionChecker{versionAuditor: v, file: f, tally: &t, roles: make([]int, len(pf.Schema().Columns()))}
	for i := range c.roles {
		c.roles[i] = slices.Index(at[:], i) // -1: content
	}
	for _, group := range pf.RowGroups() {
		if err := eachRow(group, c.row); err != nil {
			return t, err
		}
	}
	c.report()
	if t.rows != pf.NumRows() {
		return t, fmt.Errorf("it has %d rows, but its footer says %d", t.rows, pf.NumRows())
	}
	if t.rows != f.piece.Rows {
		v.find(KindRows, f.key, "it has %d rows, but %d by the log", t.rows, f.piece.Rows)
	} else if !f.isHistory && t.live != f.piece.Live {
		v.find(KindRows, f.key, "%d of its rows are live, but %d by the log", t.live, f.piece.Live)
	}
	return t, nil
}

// versionChecker looks at the rows of a file, one after the other.
type versionChecker struct {
	*versionAuditor
	file  *versionFile
	tally *tally
	roles []int // by column: which of the stamp, or -1

	now, previous stampRow

	nulls    [stampColumns]rowFault
	shard    rowFault
	unsorted rowFault
	twice    rowFault
	times    rowFault
	content  rowFault
}

// stampRow is what is looked at in a row.
type stampRow struct {
	id         []byte
	has        [stampColumns]bool
	micros     [stampColumns]int64 // of the columns that are times
	deleted    bool
	hasContent bool
}

func (c *versionChecker) row(values parquet.Row) {
	r := &c.now
	*r = stampRow{id: r.id[:0]}
	for i := range values {
		value := &values[i]
		if value.IsNull() || value.Kind() == parquet.ByteArray && len(value.ByteArray()) == 0 {
			continue
		}
		role := c.roles[value.Column()]
		if role < 0 {
			r.hasContent = true
			continue
		}
		r.has[role] = true
		switch role {
		case columnID:
			r.id = append(r.id, value.ByteArray()...) // the buffer is used again
		case columnDeleted:
			r.deleted = value.Boolean()
		case columnUpdated, columnFrom, columnTo:
			r.micros[role] = value.Int64()
		}
	}
	c.check(c.tally.rows)
	c.tally.rows++
	if !r.deleted {
		c.tally.live++
	}
	c.now, c.previous = c.previous, c.now
}

// check looks at the row that was just read.
func (c *versionChecker) check(number int64) {
	r, p := &c.now, &c.previous
	complete := true
	for _, column := range []int{columnID, columnUpdated, columnDeleted, columnFrom, columnTo} {
		if !r.has[column] && (column != columnTo || c.file.isHistory) {
			c.nulls[column].add(number, "has no value")
			complete = false
		}
	}
	if !complete {
		return
	}
	if want := xxh3.Hash(r.id) % uint64(c.file.version.Shards); want != uint64(c.file.piece.Shard) {
		c.shard.add(number, "%q belongs to shard %d", r.id, want)
	}
	if number > 0 {
		order := bytes.Compare(p.id, r.id)
		switch {
		case order > 0:
			c.unsorted.add(number, "%q comes after %q", r.id, p.id)
		case order == 0 && !c.file.isHistory:
			c.twice.add(number, "%q is that of the row before", r.id)
		case order == 0 && p.micros[columnFrom] > r.micros[columnFrom]:
			c.unsorted.add(number, "%q from %v comes after that from %v", r.id, at(r.micros[columnFrom]), at(p.micros[columnFrom]))
		}
	}
	c.checkTimes(number)
	switch {
	case r.deleted && r.has[columnHash]:
		c.content.add(number, "%q is deleted, but has a content_hash", r.id)
	case r.deleted && r.hasContent:
		c.content.add(number, "%q is deleted, but has content", r.id)
	case !r.deleted && !r.has[columnHash]:
		c.content.add(number, "%q is not deleted, but has no content_hash", r.id)
	}
}

func (c *versionChecker) checkTimes(number int64) {
	r := &c.now
	updated, from, to := r.micros[columnUpdated], r.micros[columnFrom], r.micros[columnTo]
	// An update from further ahead is refused; readers rely on it to know which history they need not read.
	latest := c.file.version.time().UnixMicro() + schemas.MaxAheadMicros
	switch {
	case updated > from: // it may be earlier: what was deleted and came back as it was holds from then on
		c.times.add(number, "%q was updated at %v, after its valid_from %v", r.id, at(updated), at(from))
	case !c.file.isHistory && r.has[columnTo]:
		c.times.add(number, "%q has the valid_to %v, but is of the current state", r.id, at(to))
	case c.file.isHistory && from >= to:
		c.times.add(number, "%q ended at %v, not after its valid_from %v", r.id, at(to), at(from))
	case max(from, to) > latest:
		c.times.add(number, "%q has a time later than %v, a day after as_of", r.id, at(latest))
	}
}

// report says what is wrong with the file's rows.
func (c *versionChecker) report() {
	key := c.file.key
	for i, name := range []string{c.spec.id, "updated_time", "is_deleted", "valid_from", "valid_to"} {
		c.nulls[i].report(c.auditor, KindNull, key, name)
	}
	c.shard.report(c.auditor, KindShard, key, "its id")
	c.unsorted.report(c.auditor, KindUnsorted, key, "id")
	c.twice.report(c.auditor, KindDuplicate, key, "the id")
	c.times.report(c.auditor, KindTimes, key, "id")
	c.content.report(c.auditor, KindContent, key, "id")
}

// stamp is a version of a row, without its content.
type stamp struct {
	id                xxh3.Uint128
	hash              xxh3.Uint128 // of its content_hash
	updated, from, to int64
	file              uint32 // in the files that are compared, 0: that of the state
	row               uint32 // in the file, from 0
	deleted           bool
}

// compare looks at all versions of the ids of a shard: those of the history and the current one.
func (v *versionAuditor) compare(ctx context.Context, shard int) error {
	files := v.filesOf(shard)
	if files == nil {
		return nil
	}
	var all []stamp
	var err error
	for i, f := range files {
		if all, err = v.stamps(ctx, all, f, uint32(i), shard); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			v.find(KindUnreadable, f.key, "%v", err) // it could be read just now
			return nil
		}
	}
	slices.SortFunc(all, func(a, b stamp) int {
		return cmp.Or(
			cmp.Compare(a.id.Hi, b.id.Hi), cmp.Compare(a.id.Lo, b.id.Lo), cmp.Compare(a.from, b.from), cmp.Compare(a.updated, b.updated),
			cmp.Compare(a.hash.Hi, b.hash.Hi), cmp.Compare(a.hash.Lo, b.hash.Lo), cmp.Compare(a.file, b.file), cmp.Compare(a.row, b.row))
	})
	faults := make([]lifeFaults, len(files))
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].id == all[0].id {
			n++
		}
		checkLife(all[:n], files, faults)
		all = all[n:]
	}
	for i, f := range files {
		faults[i].twice.report(v.auditor, KindDuplicate, f.key, "the version")
		faults[i].hole.report(v.auditor, KindHole, f.key, "the version")
		faults[i].late.report(v.auditor, KindOrder, f.key, "the version")
		faults[i].orphan.report(v.auditor, KindOrphan, f.key, "the id")
	}
	return nil
}

// filesOf returns the file of a shard of the newest version, and those of the history that may have ids of it: shards are powers of two, so
// when they become more, each is cut in two. It returns nil if one of them is lost: what follows from that is not said again.
func (v *versionAuditor) filesOf(shard int) []*versionFile {
	var files []*versionFile
	for _, f := range v.files {
		isState := !f.isHistory && f.version == v.newest && f.piece.Shard == shard
		// No version has more shards than the newest, or the log was wrong.
		isPast := f.isHistory && f.piece.Shard%min(v.newest.Shards, f.version.Shards) == shard%min(v.newest.Shards, f.version.Shards)
		if !isState && !isPast {
			continue
		}
		if f.lost {
			return nil
		}
		if isState {
			files = slices.Insert(files, 0, f)
		} else {
			files = append(files, f)
		}
	}
	if len(files) == 0 || files[0].isHistory {
		return nil // the newest version is not there
	}
	return files
}

// lifeFaults gathers what is wrong with the versions of a file.
type lifeFaults struct{ twice, hole, late, orphan rowFault }

// checkLife looks at all versions of an id, by their beginnings.
//
// A version that was closed ended where another one began, which is still there: a later one, or an older one that came late, may only
// have come in between. So where no version begins at its end, one was lost.
func checkLife(life []stamp, files []*versionFile, faults []lifeFaults) {
	current := slices.IndexFunc(life, func(s stamp) bool { return s.file == 0 })
	if current < 0 {
		s := life[0]
		faults[s.file].orphan.add(int64(s.row), "is not in the newest version, and nothing is ever dropped from that")
		return
	}
	for i, s := range life {
		if s.file == 0 {
			continue // of the state, in which an id that is there twice was found already
		}
		f := &faults[s.file]
		if i > 0 && same(life[i-1], s) {
			f.twice.add(int64(s.row), "from %v is that of row %d of %s", at(s.from), life[i-1].row, files[life[i-1].file].key)
			continue
		}
		if s.from >= life[current].from {
			f.late.add(int64(s.row), "begins at %v, not before the current one, which does at %v", at(s.from), at(life[current].from))
			continue
		}
		next, found := slices.BinarySearchFunc(life, s.to, func(o stamp, to int64) int { return cmp.Compare(o.from, to) })
		switch {
		case found || s.to <= s.from: // of the latter, its times were found wrong already
		case life[next-1].from > s.from:
			f.hole.add(int64(s.row), "from %v ended at %v, but the version that began then is not there", at(s.from), at(s.to))
		default: // the current one begins later
			f.hole.add(int64(s.row), "from %v ended at %v, but the next one begins at %v", at(s.from), at(s.to), at(life[next].from))
		}
	}
}

// same tells if two versions are one that is there twice. Two of the same beginning may have the same content: what came back then,
// and what was updated then by an export that came late.
func same(a, b stamp) bool {
	return a.from == b.from && a.updated == b.updated && a.deleted == b.deleted && a.hash == b.hash
}

// stamps appends the versions of a file that are of a shard of the newest version. It reads no content.
func (v *versionAuditor) stamps(ctx context.Context, all []stamp, f *versionFile, number uint32, shard int) (_ []stamp, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it panics: %v", p)
		}
	}()
	pf, done, err := v.open(ctx, f.key, f.piece.Bytes)
	if err != nil {
		return nil, err
	}
	defer done()
	places, err := v.spec.places(pf.Schema())
	if err != nil {
		return nil, err
	}
	row := uint32(0)
	for _, group := range pf.RowGroups() {
		part := make([]stamp, group.NumRows())
		ours := make([]bool, group.NumRows())
		chunks := group.ColumnChunks()
		for column, place := range places {
			err := eachValue(chunks[place], func(i int, value *parquet.Value) {
				if i >= len(part) || value.IsNull() {
					return
				}
				s := &part[i]
				switch column {
				case columnID:
					id := value.ByteArray()
					s.id, s.file, s.row = xxh3.Hash128(id), number, row+uint32(i)
					ours[i] = xxh3.Hash(id)%uint64(v.newest.Shards) == uint64(shard)
				case columnUpdated:
					s.updated = value.Int64()
				case columnDeleted:
					s.deleted = value.Boolean()
				case columnFrom:
					s.from = value.Int64()
				case columnTo:
					s.to = value.Int64()
				case columnHash:
					s.hash = xxh3.Hash128(value.ByteArray())
				}
			})
			if err != nil {
				return nil, err
			}
		}
		for i := range part {
			if ours[i] {
				all = append(all, part[i])
			}
		}
		row += uint32(len(part))
	}
	return all, nil
}

// eachValue calls fn for each value of a column that has one in each row.
func eachValue(chunk parquet.ColumnChunk, fn func(row int, value *parquet.Value)) (err error) {
	pages := chunk.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	var buffer [512]parquet.Value
	for row := 0; ; {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		values := page.Values()
		for {
			n, err := values.ReadValues(buffer[:])
			for i := range buffer[:n] {
				fn(row, &buffer[i])
				row++
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
