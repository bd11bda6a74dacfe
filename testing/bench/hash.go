package main

import (
	"context"
	"fmt"
	"io"

	"backbone/schemas"
	"backbone/testing/ledger"
)

// hashCommand makes this program print the hashes of a lake. It is a process of its own for the memory it takes; see start.
const hashCommand = "hash"

func printHashes(ctx context.Context, lake string, out io.Writer) error {
	rows, err := ledger.RowHash(ctx, lake, schemas.Interactions.Name)
	if err != nil {
		return err
	}
	dead, err := ledger.DeadLetterHash(ctx, lake)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "rows %v, dead letters %v\n", rows, dead)
	return err
}

// hash returns a text that is equal for lakes with the same rows and dead letters.
func (b *bench) hash(ctx context.Context, lake string) (string, error) {
	_, out, err := measure(ctx, b.self, hashCommand, lake)
	return string(out), err
}
