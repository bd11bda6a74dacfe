package audit

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
	"github.com/zeebo/xxh3"
)

// role says what the values of a column are looked at for.
type role uint8

const (
	roleID role = 1 << iota
	roleTime
	roleSort
	roleCode
	roleField
	roleItem
	roleRequired
)

// columns says what each column of a file is looked at for.
type columns struct {
	roles    []role
	sortRank []int // of a roleSort column, in spec.sort
	names    []string
}

// columns finds the columns of spec in a file.
func (a *auditor) columns(f *file, schema *parquet.Schema, spec spec) columns {
	all := schema.Columns()
	c := columns{roles: make([]role, len(all)), sortRank: make([]int, len(all)), names: make([]string, len(all))}
	for i, path := range all {
		c.names[i] = strings.Join(path, ".")
	}
	use := func(name string, r role, fits func(parquet.Type) bool, want string) {
		leaf, ok := schema.Lookup(strings.Split(name, ".")...)
		switch {
		case name == "":
		case !ok:
			a.find(KindColumn, f.key, "there is no column %q", name)
		case leaf.MaxRepetitionLevel > 0 || !fits(leaf.Node.Type()):
			a.find(KindColumn, f.key, "column %q is of type %v, want %s", name, leaf.Node.Type(), want)
		default:
			c.roles[leaf.ColumnIndex] |= r
			if r == roleSort {
				c.sortRank[leaf.ColumnIndex] = slices.Index(spec.sort, name)
			}
		}
	}
	use(spec.id, roleID, isText, "text")
	use(spec.time, roleTime, isMicros, "TIMESTAMP(MICROS, UTC)")
	use(spec.code, roleCode, isText, "text")
	use(spec.field, roleField, isText, "text")
	for _, name := range spec.sort {
		use(name, roleSort, isText, "text")
	}
	for _, name := range spec.items { // which need not be there
		if leaf, ok := schema.Lookup(strings.Split(name, ".")...); ok {
			c.roles[leaf.ColumnIndex] |= roleItem
		}
	}
	for _, name := range spec.required {
		if name != spec.id && name != spec.time && name != spec.code { // those were looked for above
			use(name, roleRequired, func(parquet.Type) bool { return true }, "")
		}
		if leaf, ok := schema.Lookup(strings.Split(name, ".")...); ok {
			c.roles[leaf.ColumnIndex] |= roleRequired
		}
	}
	return c
}

func isText(t parquet.Type) bool { return t.Kind() == parquet.ByteArray }

func isMicros(t parquet.Type) bool {
	if logical := t.LogicalType(); t.Kind() == parquet.Int64 && logical != nil {
		stamp, ok := logical.Value.(*format.TimestampType)
		if ok && stamp.IsAdjustedToUTC {
			_, ok = stamp.Unit.Value.(*format.MicroSeconds)
			return ok
		}
	}
	return false
}

// checker looks at the rows of a file, one after the other.
type checker struct {
	*auditor
	file    *file
	layout  layout
	columns columns
	content *content

	now      row
	previous row

	nulls     []rowFault // by column
	partition rowFault
	shard     rowFault
	unsorted  rowFault
}

// row is what is looked at in a row.
type row struct {
	id       []byte
	time     int64
	hasTime  bool
	user     []byte
	userRank int
	code     []byte
	field    []byte
	hasItem  bool
}

// eachRow reads all columns of a row group, and calls fn with each row.
func eachRow(group parquet.RowGroup, fn func(parquet.Row)) (err error) {
	rows := group.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	buffer := make([]parquet.Row, 128)
	for {
		n, err := rows.ReadRows(buffer)
		for _, r := range buffer[:n] {
			fn(r)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *checker) row(values parquet.Row) {
	number := c.content.rows
	c.content.rows++
	r := &c.now
	*r = row{user: r.user[:0], userRank: len(c.columns.roles)}
	for i := range values {
		v := &values[i]
		column := v.Column()
		role := c.columns.roles[column]
		if role == 0 {
			continue
		}
		null := v.IsNull() || v.Kind() == parquet.ByteArray && len(v.ByteArray()) == 0
		if null {
			if role&roleRequired != 0 {
				if c.nulls == nil {
					c.nulls = make([]rowFault, len(c.columns.roles))
				}
				c.nulls[column].add(number, "has no value")
			}
			continue
		}
		if role&roleID != 0 {
			r.id = v.ByteArray()
		}
		if role&roleTime != 0 {
			r.time, r.hasTime = v.Int64(), true
		}
		if rank := c.columns.sortRank[column]; role&roleSort != 0 && rank < r.userRank {
			r.user, r.userRank = append(r.user[:0], v.ByteArray()...), rank
		}
		if role&roleCode != 0 {
			r.code = v.ByteArray()
		}
		if role&roleField != 0 {
			r.field = v.ByteArray()
		}
		if role&roleItem != 0 {
			r.hasItem = true
		}
	}
	c.check(number)
	c.now, c.previous = c.previous, c.now
}

// check looks at the row that was just read.
func (c *checker) check(number int64) {
	r, f := &c.now, c.file
	if r.id != nil {
		id := unsafe.String(&r.id[0], len(r.id)) // only hashed and printed, both before the buffer is used again
		c.content.ids = append(c.content.ids, idAt{id: xxh3.HashString128(id), row: uint32(number)})
		if c.layout.Shards > 0 && f.shard >= 0 {
			if want := xxh3.HashString(id) % uint64(c.layout.Shards); want != uint64(f.shard) {
				c.shard.add(number, "%q belongs to shard %d", id, want)
			}
		}
	}
	if r.hasTime {
		if c.content.first > c.content.last {
			c.content.first, c.content.last = r.time, r.time
		}
		c.content.first, c.content.last = min(c.content.first, r.time), max(c.content.last, r.time)
		if f.start < f.end && (r.time < f.start || r.time >= f.end) {
			c.partition.add(number, "%v is not within %v and %v", at(r.time), at(f.start), at(f.end))
		} else if r.hasItem && f.start < f.end {
			c.content.minutes.set((r.time - f.start) / minute)
		}
	}
	if number > 0 && r.hasTime && c.previous.hasTime {
		if p := &c.previous; cmp.Or(bytes.Compare(p.user, r.user), cmp.Compare(p.time, r.time)) > 0 {
			c.unsorted.add(number, "%q at %v comes after %q at %v", r.user, at(r.time), p.user, at(p.time))
		}
	}
	if r.code != nil {
		count(&c.content.codes, string(r.code))
	}
	if r.field != nil {
		count(&c.content.fields, elements.ReplaceAllString(string(r.field), "[]"))
	}
}

// elements are the numbers of the elements of lists in a path.
var elements = regexp.MustCompile(`\[\d+\]`)

func count(counts *map[string]int64, name string) {
	*counts = addCounts(*counts, map[string]int64{name: 1})
}

func at(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// report says what is wrong with the file's rows.
func (c *checker) report() {
	key := c.file.key
	for column := range c.nulls {
		c.nulls[column].report(c.auditor, KindNull, key, c.columns.names[column])
	}
	c.partition.report(c.auditor, KindPartition, key, "its time")
	c.shard.report(c.auditor, KindShard, key, "its id")
	c.unsorted.report(c.auditor, KindUnsorted, key, "it")
}

// maxRepeats bounds the ids of a table that are held to see which are in several partitions: 32 MiB.
const maxRepeats = 4 << 20

// repeats counts ids that come more than once. When there are too many to hold, it goes on with those whose hash ends in a zero bit, then in
// two, and so on: a sample of the ids, each with all its places.
type repeats struct {
	mu    sync.Mutex
	limit int
	mask  uint64
	ids   []uint64
}

func newRepeats(limit int) *repeats { return &repeats{limit: limit} }

func (r *repeats) add(ids []idAt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range ids {
		if at.id.Lo&r.mask != 0 {
			continue
		}
		r.ids = append(r.ids, at.id.Lo)
		for len(r.ids) > r.limit && r.mask != ^uint64(0) {
			r.mask = r.mask<<1 | 1
			r.ids = slices.DeleteFunc(r.ids, func(id uint64) bool { return id&r.mask != 0 })
		}
	}
}

// count returns how many ids came more than once; estimated says that it is a projection of the sample.
func (r *repeats) count() (n int64, estimated bool) {
	slices.Sort(r.ids)
	for i := 0; i < len(r.ids); {
		end := i + 1
		for end < len(r.ids) && r.ids[end] == r.ids[i] {
			end++
		}
		if end-i > 1 {
			n++
		}
		i = end
	}
	return n * int64(r.mask+1), r.mask != 0
}
