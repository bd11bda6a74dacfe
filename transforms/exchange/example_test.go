package exchange_test

import (
	"fmt"
	"os"

	"backbone/transforms/exchange"
	"backbone/transforms/run"
)

// A chunk goes to a file, and a reference to it through the shuffle; the file goes when the rows are committed.
func Example() {
	dir, err := os.MkdirTemp("", "spill")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := run.Of("example")
	defer func() { _ = r.Close() }()
	spill, err := exchange.Open(r, dir)
	if err != nil {
		fmt.Println(err)
		return
	}

	bin := spill.NewBin()
	packet, err := bin.Put(make([]byte, 1<<20))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("a small packet:", len(packet) < 1000)

	chunk, err := spill.Get(packet, nil)
	fmt.Println(len(chunk), err)
	fmt.Println(bin.Close(), spill.Release(packet))
	// Output:
	// a small packet: true
	// 1048576 <nil>
	// <nil> <nil>
}
