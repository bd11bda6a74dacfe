package parallel_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"backbone/transforms/parallel"
)

// Each worker sums what comes to it, and adds its sum to the total at its end.
func Example() {
	var total atomic.Int64
	pool := parallel.Start(4, func() (each func(int) error, end func() error) {
		sum := 0
		return func(i int) error {
				sum += i
				return nil
			}, func() error {
				total.Add(int64(sum))
				return nil
			}
	})
	for i := range 101 {
		if err := pool.Submit(context.Background(), i); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(pool.Wait(), total.Load())
	// Output: <nil> 5050
}
