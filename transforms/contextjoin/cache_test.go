package contextjoin

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is asked in whatever order, the answer is that of the function, and memory is bounded.
func TestCacheProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		calls := 0
		c := newCache(8<<10, func(key string) string { calls++; return "<" + key + ">" })
		keys := rapid.SliceOf(rapid.StringMatching(`[a-d]{0,4}`)).Draw(t, "keys")
		for _, key := range keys {
			if got := *c.get(key); got != "<"+key+">" {
				t.Fatalf("get(%q) = %q", key, got)
			}
		}
		if calls > len(keys) {
			t.Fatalf("%d calls for %d keys", calls, len(keys))
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	const bytes = 64 << 10
	c := newCache(bytes, func(key string) int { return len(key) })
	for i := range 10_000 {
		c.get(fmt.Sprint("key ", i))
	}
	entries := 0
	for i := range c.shards {
		entries += len(c.shards[i].young) + len(c.shards[i].old)
	}
	if most := bytes / entryBytes; entries > most || entries < most/8 {
		t.Errorf("%d entries in a cache for about %d", entries, most)
	}
}

func TestCacheRemembersWhatIsAskedForOften(t *testing.T) {
	calls := map[string]int{}
	c := newCache(64<<10, func(key string) int { calls[key]++; return 0 })
	for i := range 10_000 {
		c.get("often")
		c.get(fmt.Sprint("once ", i))
	}
	if calls["often"] != 1 {
		t.Errorf("the value of a key that is always asked for was made %d times, want once", calls["often"])
	}
}

// A key that is larger than the cache is answered all the same.
func TestCacheOfLargeKeys(t *testing.T) {
	c := newCache(0, func(key string) int { return len(key) })
	for i := range 100 {
		if got := *c.get(fmt.Sprint(i)); got != len(fmt.Sprint(i)) {
			t.Fatalf("get(%d) = %d", i, got)
		}
	}
}
