package dedup_test

import (
	"fmt"

	"backbone/transforms/dedup"
)

// Events that come twice are told from new ones.
func ExampleSet() {
	seen := dedup.NewSet(0)
	for _, id := range []string{"e1", "e2", "e1"} {
		fmt.Println(id, seen.Add(dedup.Of(id)))
	}
	fmt.Println(seen.Len())
	// Output:
	// e1 true
	// e2 true
	// e1 false
	// 2
}

// What is kept for a partition stays while it is worked on, and afterwards as long as there is room for it.
func ExampleCache() {
	cache := dedup.NewCache[*dedup.Set](1 << 20)
	for range 2 {
		ids, release := cache.Get("dt=2026-03-01", func() *dedup.Set {
			fmt.Println("read from the lake")
			return dedup.NewSet(0)
		})
		fmt.Println(ids.Add(dedup.Of("e1")))
		release(ids.Bytes())
	}
	// Output:
	// read from the lake
	// true
	// false
}
