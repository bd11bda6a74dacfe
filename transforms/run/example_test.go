package run_test

import (
	"fmt"

	"backbone/transforms/run"
)

// A DoFn holds the id of its run, and gets from it what all DoFns of the process share.
func ExampleShared() {
	opened := 0
	for range 3 { // as if three DoFns were set up
		r := run.Of("my-run")
		cache, err := run.Shared(r, "my/cache", func() (map[string]string, error) {
			opened++
			return map[string]string{"key": "value"}, nil
		})
		fmt.Println(cache["key"], err)
	}
	fmt.Println("opened", opened)
	fmt.Println(run.Of("my-run").Close())
	// Output:
	// value <nil>
	// value <nil>
	// value <nil>
	// opened 1
	// <nil>
}
