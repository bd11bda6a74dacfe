package store_test

import (
	"context"
	"fmt"
	"os"

	"backbone/transforms/lake/store"
)

// Two writers want the same name: the first gets it, the second is told so and takes another one.
func Example() {
	dir, err := os.MkdirTemp("", "lake")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	s, err := store.Open(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	const key = "interactions/dt=2026-11-22/hour=14/part-0-of-1-0.parquet"
	for _, body := range []string{"rows of writer 1", "rows of writer 2"} {
		outcome, err := s.Commit(ctx, key, []byte(body))
		fmt.Println(outcome, err)
	}
	body, err := s.ReadAll(ctx, key, 1<<20)
	fmt.Println(string(body), err)
	// Output:
	// created <nil>
	// taken <nil>
	// rows of writer 1 <nil>
}
