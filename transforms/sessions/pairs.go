package sessions

import (
	"cmp"
	"math"
	"slices"

	"backbone/schemas"
)

// MaxPaired bounds the different items of a session that are paired: pairs grow by the square of them.
const MaxPaired = 100

// Pairs counts which items sessions had together.
type Pairs struct {
	place    map[string]uint32
	items    []string
	sessions []uint32 // of each item
	both     map[uint64]uint32
	own      []uint32 // of the session
}

// NewPairs returns an empty count.
func NewPairs() *Pairs { return &Pairs{place: map[string]uint32{}, both: map[uint64]uint32{}} }

// Add adds the items of a session.
func (p *Pairs) Add(items []string) {
	p.own = p.own[:0]
	for _, id := range items {
		n, ok := p.place[id]
		if !ok {
			n = uint32(len(p.items))
			p.place[id], p.items, p.sessions = n, append(p.items, id), append(p.sessions, 0)
		}
		if slices.Contains(p.own, n) {
			continue
		}
		if p.own = append(p.own, n); len(p.own) == MaxPaired {
			break
		}
	}
	for i, a := range p.own {
		p.sessions[a]++
		for _, b := range p.own[:i] {
			p.both[uint64(min(a, b))<<32|uint64(max(a, b))]++
		}
	}
}

// neighbour is an item that goes with another.
type neighbour struct {
	place, sessions uint32
	similarity      float64
}

// Top returns up to n items for each, those with most sessions first, then the most similar; sorted by item and rank.
func (p *Pairs) Top(n int) []schemas.CoOccurrence {
	with := make([][]neighbour, len(p.items))
	for pair, sessions := range p.both {
		a, b := uint32(pair>>32), uint32(pair)
		similarity := float64(sessions) / math.Sqrt(float64(p.sessions[a])*float64(p.sessions[b]))
		with[a] = append(with[a], neighbour{b, sessions, similarity})
		with[b] = append(with[b], neighbour{a, sessions, similarity})
	}
	order := make([]uint32, 0, len(p.items))
	total := 0
	for i := range p.items {
		if len(with[i]) > 0 {
			order = append(order, uint32(i))
			total += min(n, len(with[i]))
		}
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(p.items[a], p.items[b]) })
	all := make([]schemas.CoOccurrence, 0, total)
	for _, i := range order {
		slices.SortFunc(with[i], func(a, b neighbour) int {
			return cmp.Or(cmp.Compare(b.sessions, a.sessions), cmp.Compare(b.similarity, a.similarity), cmp.Compare(p.items[a.place], p.items[b.place]))
		})
		for k, o := range with[i][:min(n, len(with[i]))] {
			all = append(all, schemas.CoOccurrence{
				ItemID: p.items[i], OtherItemID: p.items[o.place], Rank: schemas.Some(int64(k + 1)),
				Sessions: schemas.Some(int64(o.sessions)), ItemSessions: schemas.Some(int64(p.sessions[i])),
				OtherSessions: schemas.Some(int64(p.sessions[o.place])), Similarity: schemas.Some(o.similarity),
			})
		}
	}
	return all
}
