package lake

import (
	"encoding/binary"
	"math"

	"backbone/schemas"
	"backbone/transforms/exchange"
	"backbone/transforms/rows"
)

// The sizes of what waits to be sent to the sink.
const (
	pileBytes   = 1 << 20  // a parcel is sent when it has this size
	workerBytes = 24 << 20 // all that one goroutine holds
	freePiles   = 64       // buffers kept for later
)

// Packet is what goes through the shuffle.
type Packet struct {
	Key    string // of the Slot
	Micros int64  // the earliest event time of its rows
	Body   []byte
}

// Packer gathers rows into parcels by slot. It is used by one goroutine; several packers may share a bin.
type Packer[R any] struct {
	table  *schemas.Table[R]
	layout Layout
	codec  *rows.Codec[R]
	bin    *exchange.Bin
	out    func(Packet)

	piles map[pileKey]*Pile
	last  *Pile
	free  [][]byte
	size  int
}

type pileKey struct {
	bucket int64
	shard  int
}

// Pile is the parcel of a slot while it is being filled.
type Pile struct {
	slot   Slot
	buf    []byte // room for the parcel's length, then the chunk
	tokens []byte
	micros int64
}

// Table returns the name of the table that the pile's rows are for.
func (p *Pile) Table() string { return p.slot.Table }

// AddToken adds a token of a message whose rows the pile holds.
func (p *Pile) AddToken(token string, parts int) { p.tokens = AppendToken(p.tokens, token, parts) }

// AppendToken adds a token to a parcel's tokens: the message that it stands for came apart into so many parcels, and
// is acknowledged when all of them are durable.
func AppendToken(dst []byte, token string, parts int) []byte {
	dst = binary.AppendUvarint(dst, uint64(parts))
	dst = binary.AppendUvarint(dst, uint64(len(token)))
	return append(dst, token...)
}

// EachToken calls each for every token of a parcel's tokens.
func EachToken(tokens []byte, each func(token []byte, parts int)) error {
	for len(tokens) > 0 {
		parts, n := binary.Uvarint(tokens)
		if n <= 0 {
			return rows.ErrDamaged
		}
		size, m := binary.Uvarint(tokens[n:])
		if m <= 0 || size > uint64(len(tokens)-n-m) {
			return rows.ErrDamaged
		}
		end := n + m + int(size)
		each(tokens[n+m:end], int(parts))
		tokens = tokens[end:]
	}
	return nil
}

// NewPacker returns a packer that stores parcels in bin and hands their packets to out.
func NewPacker[R any](table *schemas.Table[R], layout Layout, bin *exchange.Bin, out func(Packet)) *Packer[R] {
	return &Packer[R]{table: table, layout: layout, codec: rows.NewCodec(table.Columns), bin: bin, out: out, piles: map[pileKey]*Pile{}}
}

// Add puts a row on its pile. The pile stays until the next Flush.
func (p *Packer[R]) Add(row *R) *Pile {
	id, micros := p.table.Slot(row)
	slot := p.layout.Slot(p.table.Name, id, micros)
	pile := p.last
	if pile == nil || pile.slot != slot {
		pile = p.pile(slot)
	}
	before := len(pile.buf)
	pile.buf = p.codec.Append(pile.buf, row)
	p.size += len(pile.buf) - before
	pile.micros = min(pile.micros, micros)
	return pile
}

func (p *Packer[R]) pile(slot Slot) *Pile {
	key := pileKey{slot.Bucket, slot.Shard}
	pile := p.piles[key]
	if pile == nil {
		pile = &Pile{slot: slot, micros: math.MaxInt64}
		if n := len(p.free); n > 0 {
			pile.buf, p.free = p.free[n-1], p.free[:n-1]
		}
		pile.buf = p.begin(pile.buf)
		p.piles[key] = pile
	}
	p.last = pile
	return pile
}

func (p *Packer[R]) begin(buf []byte) []byte {
	return p.codec.AppendHeader(append(buf[:0], 0, 0, 0, 0))
}

// SendIfLarge sends the pile if it has the size of a parcel. Call it between records.
func (p *Packer[R]) SendIfLarge(pile *Pile) error {
	if len(pile.buf) < pileBytes {
		return nil
	}
	if err := p.send(pile); err != nil {
		return err
	}
	pile.buf, pile.tokens, pile.micros = p.begin(pile.buf), pile.tokens[:0], math.MaxInt64
	return nil
}

// IsFull reports whether the piles together are so large that it is time to Flush.
func (p *Packer[R]) IsFull() bool { return p.size >= workerBytes }

// Flush sends all piles.
func (p *Packer[R]) Flush() error {
	for key, pile := range p.piles {
		if len(pile.buf) > 8 {
			if err := p.send(pile); err != nil {
				return err
			}
		}
		if len(p.free) < freePiles {
			p.free = append(p.free, pile.buf)
		}
		delete(p.piles, key)
	}
	p.last, p.size = nil, 0
	return nil
}

func (p *Packer[R]) send(pile *Pile) error {
	binary.LittleEndian.PutUint32(pile.buf, uint32(len(pile.buf)-4))
	p.size -= len(pile.buf)
	packet, err := p.bin.Put(append(pile.buf, pile.tokens...))
	if err != nil {
		return err
	}
	p.out(Packet{Key: pile.slot.Key(), Micros: pile.micros, Body: packet})
	return nil
}
