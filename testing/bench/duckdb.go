package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"backbone/testing/python"
)

// script does the job in SQL. It does less than the others, all of which is in its favour: it writes no dead letters,
// keeps no unknown fields, does not look into user agents, does not sync files to disk and makes no promise about what a crash
// leaves. What it can't tell, it takes: keys that come twice, bytes of unknown fields, numbers where text is wanted.
//
//go:embed sql.py
var script string

// The bounds of DuckDB. Its threads are as many as the other programs have.
const duckdbMemory = "8GB"

// duckdb is DuckDB as a contender.
type duckdb struct {
	bench  *bench
	python string
	in     *input
	sorted bool
	rows   int64 // of the last run
}

func findPython(ctx context.Context) (string, error) { return python.Find(ctx) }

func (d *duckdb) run(ctx context.Context, lake string, _ int) (Sample, error) {
	files, err := d.in.files()
	if err != nil {
		return Sample{}, err
	}
	ordered := "0"
	if d.sorted {
		ordered = "1"
	}
	args := append([]string{"-c", script, lake, ordered, strconv.Itoa(threads()), duckdbMemory}, files...)
	sample, out, err := measure(ctx, d.python, args...)
	if err != nil {
		return sample, err
	}
	if err := os.RemoveAll(lake + ".tmp"); err != nil {
		return sample, err
	}
	var result struct {
		Rows int64 `json:"rows"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return sample, fmt.Errorf("DuckDB printed %q: %w", out, err)
	}
	d.rows = result.Rows
	// All good rows must be there, and no more than all broken ones besides.
	if least := int64(d.in.truth.Rows); d.rows < least || d.rows > least+int64(d.in.truth.Broken) {
		return sample, fmt.Errorf("wrong result: %d rows; want %d, and at most the %d broken ones besides", d.rows, least, d.in.truth.Broken)
	}
	return sample, nil
}

// note tells how its result differs.
func (d *duckdb) note() string {
	return fmt.Sprintf("DuckDB took %d of the %d broken events for rows, and left no dead letters", d.rows-int64(d.in.truth.Rows), d.in.truth.Broken)
}
