// Package digest is what windows need of a file of interactions, in a few bytes an event.
//
// A file of interactions has a digest beside it, in a file of its own:
//
//	dt=2026-11-22/hour=14/part-00000-of-00001-000003.parquet
//	dt=2026-11-22/hour=14/_part-00000-of-00001-000003.digest
//
// It has two parts. Cells are partial aggregates: how many events of a type an item had in a minute from a country. They can
// be merged. Events are the events themselves, reduced to who, when, what and where, from which sessions are made.
//
// # Guarantees
//
// A digest is a function of its file: where it is missing or damaged, Load makes it of the rows, and it is the same. So nothing depends
// on a digest being written, or being written once.
package digest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
)

// Suffix is what the names of digests end with.
const Suffix = ".digest"

// Name returns the key of the digest of a file.
func Name(file string) string {
	dir, name := path.Split(file)
	return dir + "_" + strings.TrimSuffix(name, ".parquet") + Suffix
}

// Digest is what windows need of one file.
type Digest struct {
	items, countries, types, surfaces, users, visitors []string

	first    int64 // minute of the month's beginning, from which cells count
	cells    []packed
	earliest int64
	events   []byte
	count    int // of events
}

// packed is a cell: 28 bits of item, 10 of country, 10 of type, 16 of the minute since the month began. How many
// events it stands for is beside it. Countries are of two letters, types those that a mapping declares, and a partition is a month at most.
type packed struct {
	key   uint64
	count uint32
}

const (
	minuteBits  = 16
	typeBits    = 10
	countryBits = 10
	itemBits    = 28
)

// An Event is an event of a digest. Its numbers are places in the digest's dictionaries.
type Event struct {
	Time     int64 // microseconds since 1970
	User     uint32
	Visitor  uint32
	Type     uint32
	Surface  uint32
	Exposure bool
	Items    []uint32 // none where Exposure
}

// projection is the table of interactions with the columns that a digest is made of.
var projection = schemas.Interactions.Only(
	"event_time", "user_id", "visitor_id", "event_type", "feedback_kind", "item_id", "items", "context.country", "context.surface",
)

// Load returns the digest of a file of interactions: the one beside it, or else one that it makes of the rows. It writes nothing.
func Load(ctx context.Context, st *store.Store, file string) (*Digest, error) {
	body, err := st.ReadAll(ctx, Name(file), maxBytes)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if d, err := Decode(body); err == nil {
		return d, nil
	}
	return Make(ctx, st, file)
}

// maxBytes is more than the digest of any file takes.
const maxBytes = 1 << 30

// Make makes the digest of a file of its rows.
func Make(ctx context.Context, st *store.Store, file string) (*Digest, error) {
	o, err := st.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	b := NewBuilder()
	err = rowfile.Each(o, o.Size(), projection, (*schemas.Interaction).Reset, func(part []schemas.Interaction) error {
		for i := range part {
			b.Add(&part[i])
		}
		return nil
	})
	if err = errors.Join(err, o.Close(), b.err); err != nil {
		return nil, fmt.Errorf("digest of %s: %w", file, err)
	}
	return b.digest(), nil
}

// Len returns how many events the digest has.
func (d *Digest) Len() int { return d.count }

// Earliest returns the time of the earliest event.
func (d *Digest) Earliest() int64 { return d.earliest }

// Bytes returns how much memory the digest takes.
func (d *Digest) Bytes() int64 {
	n := int64(len(d.events) + 16*len(d.cells))
	for _, list := range [][]string{d.items, d.countries, d.types, d.surfaces, d.users, d.visitors} {
		for _, s := range list {
			n += int64(len(s)) + 16
		}
	}
	return n
}

// Items returns the dictionary of Event.Items.
func (d *Digest) Items() []string { return d.items }

// Types returns the dictionary of Event.Type.
func (d *Digest) Types() []string { return d.types }

// Surfaces returns the dictionary of Event.Surface. Place 0 is the empty text: none; so it is of users and visitors.
func (d *Digest) Surfaces() []string { return d.surfaces }

// Users returns the dictionary of Event.User.
func (d *Digest) Users() []string { return d.users }

// Visitors returns the dictionary of Event.Visitor.
func (d *Digest) Visitors() []string { return d.visitors }

// EachMinute calls fn for the minutes in which there are cells, some of them several times, in microseconds since 1970.
func (d *Digest) EachMinute(fn func(micros int64)) {
	last := int64(-1)
	for _, c := range d.cells {
		if since := c.since(); since != last {
			fn((d.first + since) * minute)
			last = since
		}
	}
}

// Each calls fn for each event, in the order of the file. The event is valid until fn returns.
func (d *Digest) Each(fn func(e *Event) error) error {
	// This is read several times for each result: numbers are taken by an index, and most of them are of one byte.
	b, at := d.events, 0
	var e Event
	var n uint64
	users, visitors, types, surfaces, items := len(d.users), len(d.visitors), len(d.types), len(d.surfaces), len(d.items)
	for range d.count {
		n, at = number(b, at)
		e.Time += zigzag(n)
		n, at = number(b, at)
		e.User = uint32(int64(e.User) + zigzag(n))
		n, at = number(b, at)
		e.Visitor = uint32(int64(e.Visitor) + zigzag(n))
		n, at = number(b, at)
		e.Exposure, e.Type = n&1 != 0, uint32(n>>1)
		n, at = number(b, at)
		e.Surface = uint32(n)
		var own uint64
		own, at = number(b, at)
		if int(e.User) >= users || int(e.Visitor) >= visitors || int(e.Type) >= types || int(e.Surface) >= surfaces || own > uint64(len(b)) {
			return ErrDamaged
		}
		e.Items = e.Items[:0]
		for range own {
			n, at = number(b, at)
			if n >= uint64(items) {
				return ErrDamaged
			}
			e.Items = append(e.Items, uint32(n))
		}
		if at > len(b) {
			return ErrDamaged
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
	return nil
}

// number reads a number at a place, and returns the place after it; one beyond the end if there is none.
func number(b []byte, at int) (uint64, int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 {
		return uint64(b[at]), at + 1
	}
	return long(b, at)
}

func long(b []byte, at int) (uint64, int) {
	if at < len(b) {
		if v, n := binary.Uvarint(b[at:]); n > 0 {
			return v, at + n
		}
	}
	return 0, len(b) + 1
}

func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// ErrDamaged says that bytes are not a digest, or not all of one.
var ErrDamaged = errors.New("damaged digest")

// Builder makes the digest of the rows of a file, in their order. It is used by one goroutine.
type Builder struct {
	items, countries, types, surfaces, users, visitors dictionary

	first    int64
	keys     []uint64
	earliest int64
	events   []byte
	count    int
	last     Event
	own      []uint32 // items of the row
	err      error
}

// dictionary numbers texts by their first appearance.
type dictionary struct {
	list  []string
	place map[string]uint32
	last  uint32
}

func newDictionary(first ...string) dictionary {
	d := dictionary{place: map[string]uint32{}}
	for _, s := range first {
		d.of(s)
	}
	return d
}

func (d *dictionary) of(s string) uint32 {
	if len(d.list) > 0 && d.list[d.last] == s { // rows are sorted: neighbours are alike
		return d.last
	}
	n, ok := d.place[s]
	if !ok {
		s = strings.Clone(s)
		n = uint32(len(d.list))
		d.list, d.place[s] = append(d.list, s), n
	}
	d.last = n
	return n
}

// NewBuilder returns a builder for one file.
func NewBuilder() *Builder {
	return &Builder{
		items: newDictionary(), countries: newDictionary(), types: newDictionary(),
		surfaces: newDictionary(""), users: newDictionary(""), visitors: newDictionary(""),
	}
}

// minute is what cells count in, in microseconds.
const minute = 60_000_000

// Add adds a row. Its strings may change afterwards.
func (b *Builder) Add(row *schemas.Interaction) {
	b.own = b.own[:0]
	if row.ItemID != "" {
		b.own = append(b.own, b.items.of(row.ItemID))
	}
	for i := range row.Items {
		if n := b.items.of(row.Items[i].ItemID); !slices.Contains(b.own, n) {
			b.own = append(b.own, n)
		}
	}
	kind := b.types.of(row.EventType)
	if len(b.own) > 0 {
		b.addCells(row, kind)
	}
	e := Event{
		Time: row.EventTime.V, User: b.users.of(row.UserID), Visitor: b.visitors.of(row.VisitorID), Type: kind,
		Surface: b.surfaces.of(row.Context.Surface), Exposure: row.FeedbackKind == schemas.Exposure,
	}
	b.events = binary.AppendVarint(b.events, e.Time-b.last.Time)
	b.events = binary.AppendVarint(b.events, int64(e.User)-int64(b.last.User))
	b.events = binary.AppendVarint(b.events, int64(e.Visitor)-int64(b.last.Visitor))
	head := uint64(kind) << 1
	if e.Exposure {
		head |= 1
		b.own = b.own[:0]
	}
	b.events = binary.AppendUvarint(b.events, head)
	b.events = binary.AppendUvarint(b.events, uint64(e.Surface))
	b.events = binary.AppendUvarint(b.events, uint64(len(b.own)))
	for _, n := range b.own {
		b.events = binary.AppendUvarint(b.events, uint64(n))
	}
	if b.count == 0 || e.Time < b.earliest {
		b.earliest = e.Time
	}
	b.last = e
	b.count++
}

func (b *Builder) addCells(row *schemas.Interaction, kind uint32) {
	at := row.EventTime.V / minute
	if len(b.keys) == 0 {
		// Rows are not sorted by time, and those of a partition are of one month.
		t := time.UnixMicro(row.EventTime.V).UTC()
		b.first = time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).Unix() / 60
	}
	country := b.countries.of(row.Context.Country)
	since := at - b.first
	if since < 0 || since >= 1<<minuteBits || country >= 1<<countryBits || kind >= 1<<typeBits || len(b.items.list) > 1<<itemBits {
		b.err = fmt.Errorf("%d items, %d countries and %d event types at minute %d are more than a digest has room for: use a smaller --window",
			len(b.items.list), len(b.countries.list), len(b.types.list), since)
		return
	}
	for _, n := range b.own {
		b.keys = append(b.keys, uint64(n)<<(countryBits+typeBits+minuteBits)|uint64(country)<<(typeBits+minuteBits)|uint64(kind)<<minuteBits|uint64(since))
	}
}

func (b *Builder) digest() *Digest {
	d := &Digest{
		items: b.items.list, countries: b.countries.list, types: b.types.list, surfaces: b.surfaces.list, users: b.users.list,
		visitors: b.visitors.list, first: b.first, earliest: b.earliest, events: b.events, count: b.count,
	}
	slices.Sort(b.keys)
	for i, key := range b.keys {
		if i == 0 || key != b.keys[i-1] {
			d.cells = append(d.cells, packed{key: key})
		}
		d.cells[len(d.cells)-1].count++
	}
	return d
}

// The form of a digest: magic, version, checksum of what follows, and compressed (s2): the dictionaries, the first minute, the cells
// (differences of their keys, and counts), the earliest time, the events.
const (
	magic   = "bbdg"
	version = 1
	header  = len(magic) + 1 + 8
)

// Encode returns the digest of the rows that were added, as it is stored.
func (b *Builder) Encode() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.digest().encode(), nil
}

func (d *Digest) encode() []byte {
	var out []byte
	for _, list := range [][]string{d.items, d.countries, d.types, d.surfaces, d.users, d.visitors} {
		out = binary.AppendUvarint(out, uint64(len(list)))
		for _, s := range list {
			out = append(binary.AppendUvarint(out, uint64(len(s))), s...)
		}
	}
	out = binary.AppendVarint(out, d.first)
	out = binary.AppendUvarint(out, uint64(len(d.cells)))
	last := uint64(0)
	for _, c := range d.cells {
		out = binary.AppendUvarint(out, c.key-last)
		out = binary.AppendUvarint(out, uint64(c.count))
		last = c.key
	}
	out = binary.AppendVarint(out, d.earliest)
	out = binary.AppendUvarint(out, uint64(d.count))
	out = append(out, d.events...)
	body := s2.Encode(nil, out)
	head := append([]byte(magic), version)
	head = binary.LittleEndian.AppendUint64(head, xxh3.Hash(body))
	return append(head, body...)
}

// Decode reads what Encode wrote. Its error Is ErrDamaged.
func Decode(b []byte) (*Digest, error) {
	if len(b) < header || string(b[:len(magic)]) != magic || b[len(magic)] != version || binary.LittleEndian.Uint64(b[len(magic)+1:]) != xxh3.Hash(b[header:]) {
		return nil, ErrDamaged
	}
	plain, err := s2.Decode(nil, b[header:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r := reader{b: plain}
	d := &Digest{}
	for _, list := range []*[]string{&d.items, &d.countries, &d.types, &d.surfaces, &d.users, &d.visitors} {
		*list = make([]string, 0, r.count())
		for range cap(*list) {
			*list = append(*list, r.text())
		}
	}
	d.first = r.varint()
	d.cells = make([]packed, 0, r.count())
	last := uint64(0)
	for range cap(d.cells) {
		last += r.uvarint()
		c := packed{key: last, count: uint32(r.uvarint())}
		if c.item() >= len(d.items) || c.country() >= len(d.countries) || c.kind() >= len(d.types) {
			r.bad = true
		}
		d.cells = append(d.cells, c)
	}
	d.earliest = r.varint()
	d.count = r.count()
	d.events = r.b
	if r.bad {
		return nil, ErrDamaged
	}
	return d, nil
}

func (c packed) item() int    { return int(c.key >> (countryBits + typeBits + minuteBits)) }
func (c packed) country() int { return int(c.key >> (typeBits + minuteBits) & (1<<countryBits - 1)) }
func (c packed) kind() int    { return int(c.key >> minuteBits & (1<<typeBits - 1)) }
func (c packed) since() int64 { return int64(c.key & (1<<minuteBits - 1)) }

// reader takes numbers and texts off the front of b; bad says that it was too short.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := number(r.b, 0)
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 { return zigzag(r.uvarint()) }

// count reads how many there are of something that takes a byte at least.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
