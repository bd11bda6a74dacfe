package contextjoin

import (
	"hash/maphash"
	"strings"
	"sync"
)

const (
	cacheShards = 16  // a power of two; goroutines seldom meet in one
	entryBytes  = 256 // about what an entry takes besides its key: two map slots, key header, value
)

// cache remembers the value of a function of a string. It is bounded, and forgets what was not asked for lately: each shard has two
// generations; what is asked for moves into the young one; when that is full the old one is dropped. A hit allocates nothing.
type cache[V any] struct {
	fill   func(string) V
	limit  int // bytes of one generation of one shard
	seed   maphash.Seed
	shards [cacheShards]shard[V]
}

type shard[V any] struct {
	mu         sync.Mutex
	young, old map[string]*entry[V]
	bytes      int      // of young
	_          [64]byte // keeps the locks of two shards out of one cache line
}

type entry[V any] struct {
	key   string
	value V
}

// newCache returns a cache of about so many bytes over fill, which may be called by many goroutines at once.
func newCache[V any](bytes int, fill func(string) V) *cache[V] {
	c := &cache[V]{fill: fill, limit: bytes / 2 / cacheShards, seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].young, c.shards[i].old = map[string]*entry[V]{}, map[string]*entry[V]{}
	}
	return c
}

// get returns the value of key, which may alias a buffer that is used again. The value must not be changed.
func (c *cache[V]) get(key string) *V {
	s := &c.shards[maphash.String(c.seed, key)%cacheShards]
	s.mu.Lock()
	e, ok := s.young[key]
	if !ok {
		if e, ok = s.old[key]; ok {
			s.put(e, c.limit)
		}
	}
	s.mu.Unlock()
	if ok {
		return &e.value
	}

	// Outside the lock, so two goroutines may do the same at once: the value is the same.
	e = &entry[V]{key: strings.Clone(key)}
	e.value = c.fill(e.key)
	s.mu.Lock()
	s.put(e, c.limit)
	s.mu.Unlock()
	return &e.value
}

func (s *shard[V]) put(e *entry[V], limit int) {
	cost := len(e.key) + entryBytes
	if s.bytes+cost > limit {
		s.young, s.old = s.old, s.young
		clear(s.young)
		s.bytes = 0
	}
	s.young[e.key] = e
	s.bytes += cost
}
