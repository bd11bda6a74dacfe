package dedup

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// A set of hashes says of any ids what a map of the ids themselves says.
func TestSetIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, ids := NewSet(rapid.IntRange(0, 10).Draw(t, "room")), map[string]bool{}
		id := rapid.OneOf(rapid.StringMatching(`[ab]{0,3}`), rapid.String())
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id := id.Draw(t, "id")
				if fresh := set.Add(Of(id)); fresh == ids[id] {
					t.Fatalf("Add(%q) = %v", id, fresh)
				}
				ids[id] = true
			},
			"has": func(t *rapid.T) {
				id := id.Draw(t, "id")
				if has := set.Has(Of(id)); has != ids[id] {
					t.Fatalf("Has(%q) = %v", id, has)
				}
			},
			"": func(t *rapid.T) {
				if set.Len() != len(ids) {
					t.Fatalf("Len() = %d, want %d", set.Len(), len(ids))
				}
				all := map[ID]bool{}
				for h := range set.All() {
					all[h] = true
				}
				want := map[ID]bool{}
				for id := range ids {
					want[Of(id)] = true
				}
				if !maps.Equal(all, want) {
					t.Fatalf("All() yields %d ids, want %d", len(all), len(want))
				}
			},
		})
	})
}

// Bytes is an estimate that grows with the set, so that a budget in bytes bounds it.
func TestSetBytes(t *testing.T) {
	set := NewSet(0)
	before := set.Bytes()
	for i := range 1000 { // 64 tables of about 16 ids
		set.Add(Of(fmt.Sprint(i)))
	}
	if grown := set.Bytes() - before; grown < 12*1000 || grown > 20*1000 {
		t.Errorf("1000 ids of 12 bytes are said to take %d bytes", grown)
	}
}

// Whatever is asked for and released in whatever order: what is in use stays, what is not stays within the budget,
// and the first to go is what was not used for longest.
func TestCacheProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.Int64Range(0, 100).Draw(t, "budget")
		c := NewCache[*int](budget)
		type use struct {
			key     string
			value   *int
			release func(int64)
		}
		var inUse []use
		made := 0
		t.Repeat(map[string]func(*rapid.T){
			"get": func(t *rapid.T) {
				key := rapid.StringMatching(`[a-f]`).Draw(t, "key")
				_, kept := c.byKey[key]
				before := made
				value, release := c.Get(key, func() *int { made++; return &made })
				if (made == before) != kept {
					t.Fatalf("Get(%q): made %d values, kept is %v", key, made-before, kept)
				}
				for _, u := range inUse {
					if u.key == key && !kept {
						t.Fatalf("%q was let go while in use", key)
					}
				}
				inUse = append(inUse, use{key, value, release})
			},
			"release": func(t *rapid.T) {
				if len(inUse) == 0 {
					t.Skip("nothing is in use")
				}
				i := rapid.IntRange(0, len(inUse)-1).Draw(t, "which")
				inUse[i].release(rapid.Int64Range(0, 60).Draw(t, "bytes"))
				inUse = slices.Delete(inUse, i, i+1)
				idle := int64(0)
				for _, el := range c.byKey {
					if e := el.Value.(*entry[*int]); e.inUse == 0 {
						idle += e.bytes
					}
				}
				if idle > 0 && c.used > budget {
					t.Fatalf("%d bytes are kept, %d of them of entries that nobody uses; the budget is %d", c.used, idle, budget)
				}
			},
			"": func(t *rapid.T) {
				sum, uses := int64(0), 0
				for el := c.order.Front(); el != nil; el = el.Next() {
					e := el.Value.(*entry[*int])
					sum += e.bytes
					uses += e.inUse
					if c.byKey[e.key] != el {
						t.Fatalf("%q is listed, but not found", e.key)
					}
				}
				if sum != c.used || uses != len(inUse) || c.order.Len() != len(c.byKey) {
					t.Fatalf("%d bytes, %d uses and %d entries; counted are %d, %d and %d", sum, uses, c.order.Len(), c.used, len(inUse), len(c.byKey))
				}
			},
		})
	})
}

func TestCacheLetsTheOldestGo(t *testing.T) {
	c := NewCache[string](3)
	made := ""
	get := func(key string) {
		_, release := c.Get(key, func() string { made += key; return key })
		release(1)
	}
	for _, key := range []string{"a", "b", "c", "a", "d", "a", "c", "d", "b"} {
		get(key)
	}
	if want := "abcdb"; made != want { // d pushes b out, which comes back last
		t.Errorf("made %q, want %q", made, want)
	}
}

// Several goroutines get the same value of a key as long as any of them uses it.
func TestCacheConcurrently(t *testing.T) {
	type slot struct {
		key   string
		users atomic.Int32
	}
	const budget = 20
	c := NewCache[*slot](budget)
	var living sync.Map // key -> *slot in use
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				key := fmt.Sprint((g*7 + i*i) % 10)
				s, release := c.Get(key, func() *slot { return &slot{key: key} })
				if s.key != key {
					t.Errorf("Get(%q) is the value of %q", key, s.key)
				}
				s.users.Add(1)
				if other, loaded := living.LoadOrStore(key, s); loaded && other != s && other.(*slot).users.Load() > 0 {
					t.Errorf("two values of %q are in use", key)
				}
				living.Store(key, s)
				s.users.Add(-1)
				release(int64(i % 10))
			}
		})
	}
	all.Wait()
	if c.used > budget {
		t.Errorf("%d bytes are kept, the budget is %d", c.used, budget)
	}
}

// A set takes less than 20 bytes an id, whatever its size.
func TestSetIsSmall(t *testing.T) {
	set := NewSet(0)
	for i := range 2_000_000 {
		set.Add(Of(fmt.Sprint(i)))
		if n := int64(set.Len()); i%1000 == 0 && n > 20_000 && set.Bytes() > 20*n {
			t.Fatalf("%d ids take %d bytes", n, set.Bytes())
		}
	}
	if set.Len() != 2_000_000 {
		t.Errorf("there are %d ids, want 2,000,000", set.Len())
	}
}

func BenchmarkSetAdd(b *testing.B) {
	ids := make([]ID, 1<<20)
	for i := range ids {
		ids[i] = Of(fmt.Sprint(i))
	}
	b.Run("set", func(b *testing.B) {
		for b.Loop() {
			s := NewSet(0)
			for _, id := range ids {
				s.Add(id)
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			m := map[ID]struct{}{}
			for _, id := range ids {
				m[id] = struct{}{}
			}
		}
	})
}
