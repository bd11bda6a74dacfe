// Package dedup remembers which event ids a part of the lake holds already.
//
// An id is kept as a 128-bit hash under a seed of the process, so that nobody can make ids collide on purpose.
// With a billion ids in one set, the chance that any two differ and hash alike is below 1e-20.
package dedup

import (
	"container/list"
	"iter"
	"maps"
	"math/rand/v2"
	"sync"

	"github.com/zeebo/xxh3"
)

// ID is the hash of an event id.
type ID = xxh3.Uint128

// seed differs from process to process: sets are never stored.
var seed = rand.Uint64()

// Of hashes an event id.
func Of(id string) ID { return xxh3.HashString128Seed(id, seed) }

// Set is a set of ids. It is not safe for use by several goroutines.
type Set struct{ ids map[ID]struct{} }

// NewSet returns a set with room for n ids.
func NewSet(n int) *Set { return &Set{ids: make(map[ID]struct{}, n)} }

// Add adds an id and reports whether it was not there.
func (s *Set) Add(id ID) bool {
	before := len(s.ids)
	s.ids[id] = struct{}{}
	return len(s.ids) > before
}

// Has reports whether an id is there.
func (s *Set) Has(id ID) bool {
	_, ok := s.ids[id]
	return ok
}

// All yields the ids in no order.
func (s *Set) All() iter.Seq[ID] { return maps.Keys(s.ids) }

// Len returns the number of ids.
func (s *Set) Len() int { return len(s.ids) }

// Bytes estimates the memory that the set takes.
func (s *Set) Bytes() int64 { return 64 + int64(len(s.ids))*24 }

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
