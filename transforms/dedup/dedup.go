// Package dedup remembers which event ids a part of the lake holds already.
//
// An id is kept as a hash of 95 bits under a seed of the process, so that nobody can make ids collide on purpose. With ten
// million ids in one set, the chance that any two differ and hash alike is below 1e-14.
package dedup

import (
	"container/list"
	"iter"
	"math/rand/v2"
	"sync"

	"github.com/zeebo/xxh3"
)

// ID is the hash of an event id. It is never zero.
type ID struct {
	low  uint64
	high uint32
}

// seed differs from process to process: sets are never stored.
var seed = rand.Uint64()

// Of hashes an event id.
func Of(id string) ID {
	h := xxh3.HashString128Seed(id, seed)
	return ID{low: h.Lo | 1, high: uint32(h.Hi)}
}

// Set is a set of ids: about 16 bytes each, without a pointer, since a set is the largest thing that a stream remembers. It is
// not safe for use by several goroutines.
//
// It is many hash tables, so that only a small part of it is copied when one of them has to grow, and not all grow at once.
type Set struct {
	tables [tables]table
	n      int
}

const (
	tables  = 64
	least   = 8 // places of the smallest table
	maxLoad = 8 // of ten places
)

// table is a hash table with open addressing (Knuth, TAOCP 6.4, algorithm L). A place whose low half is 0 is free.
type table struct {
	low  []uint64
	high []uint32
	n    int
}

// NewSet returns a set with room for n ids.
func NewSet(n int) *Set {
	s := &Set{}
	if room := n / tables * 10 / maxLoad; room > least {
		for i := range s.tables {
			s.tables[i].resize(room)
		}
	}
	return s
}

// Add adds an id and reports whether it was not there.
func (s *Set) Add(id ID) bool {
	i := id.high % tables
	t := &s.tables[i]
	if t.n*10 >= len(t.low)*maxLoad {
		// By a quarter, and a little differently for each table, so that they do not grow at the same time.
		t.resize(max(least, len(t.low)+len(t.low)/4+len(t.low)*int(i)/(16*tables)))
	}
	if !t.add(id) {
		return false
	}
	s.n++
	return true
}

// Has reports whether an id is there.
func (s *Set) Has(id ID) bool {
	t := &s.tables[id.high%tables]
	return len(t.low) > 0 && t.low[t.find(id)] != 0
}

// All yields the ids in no order.
func (s *Set) All() iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for i := range s.tables {
			t := &s.tables[i]
			for at, low := range t.low {
				if low != 0 && !yield(ID{low, t.high[at]}) {
					return
				}
			}
		}
	}
}

// Len returns the number of ids.
func (s *Set) Len() int { return s.n }

// Bytes returns the memory that the set takes.
func (s *Set) Bytes() int64 {
	bytes := int64(56 * tables)
	for i := range s.tables {
		bytes += 12 * int64(len(s.tables[i].low))
	}
	return bytes
}

// find returns the place of an id, or the free one where it belongs. There is always a free place.
func (t *table) find(id ID) int {
	// The low bit is always set, and the high half chose the table.
	at := int((id.low >> 1) % uint64(len(t.low)))
	for t.low[at] != 0 && (t.low[at] != id.low || t.high[at] != id.high) {
		if at++; at == len(t.low) {
			at = 0
		}
	}
	return at
}

func (t *table) add(id ID) bool {
	at := t.find(id)
	if t.low[at] != 0 {
		return false
	}
	t.low[at], t.high[at] = id.low, id.high
	t.n++
	return true
}

func (t *table) resize(places int) {
	old := *t
	*t = table{low: make([]uint64, places), high: make([]uint32, places)}
	for at, low := range old.low {
		if low != 0 {
			t.add(ID{low, old.high[at]})
		}
	}
}

// Cache keeps values by key, the most recently used ones within a budget of bytes. What it lets go has to be made
// again from the lake.
type Cache[V any] struct {
	mu     sync.Mutex
	budget int64
	used   int64
	byKey  map[string]*list.Element
	order  *list.List // most recently used first
}

type entry[V any] struct {
	key   string
	value V
	bytes int64
	inUse int
}

// NewCache returns a cache that keeps about budget bytes.
func NewCache[V any](budget int64) *Cache[V] {
	return &Cache[V]{budget: budget, byKey: map[string]*list.Element{}, order: list.New()}
}

// Get returns the value of key, made by fresh if it is not kept. It stays until release was called with its size.
func (c *Cache[V]) Get(key string, fresh func() V) (v V, release func(bytes int64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byKey[key]
	if el == nil {
		el = c.order.PushFront(&entry[V]{key: key, value: fresh()})
		c.byKey[key] = el
	}
	c.order.MoveToFront(el)
	e := el.Value.(*entry[V])
	e.inUse++
	return e.value, func(bytes int64) { c.release(e, bytes) }
}

func (c *Cache[V]) release(e *entry[V], bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.inUse--
	c.used += bytes - e.bytes
	e.bytes = bytes
	for el := c.order.Back(); el != nil && c.used > c.budget; {
		before := el.Prev()
		if old := el.Value.(*entry[V]); old.inUse == 0 {
			c.order.Remove(el)
			delete(c.byKey, old.key)
			c.used -= old.bytes
		}
		el = before
	}
}
