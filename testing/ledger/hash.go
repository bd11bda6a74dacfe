package ledger

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// Hash is a hash over the rows of a table that depends neither on their order nor on how they are spread over files.
// Equal tables have equal hashes; two that differ have not, but by a chance that does not matter.
type Hash struct {
	Rows      int64
	High, Low uint64 // the sum of the 128-bit hashes of the rows
}

func (h Hash) String() string { return fmt.Sprintf("%016x%016x over %d rows", h.High, h.Low, h.Rows) }

// plus returns the hash of the rows of both.
func (h Hash) plus(other Hash) Hash {
	low, carry := bits.Add64(h.Low, other.Low, 0)
	high, _ := bits.Add64(h.High, other.High, carry)
	return Hash{Rows: h.Rows + other.Rows, High: high, Low: low}
}

// RowHash hashes the rows of a table of a lake. It leaves out what tells how and when a row came there: the columns
// of lineage, loaded_time and received_time. A column that is null is as one that is not there.
func RowHash(ctx context.Context, lake, table string) (Hash, error) {
	return tableHash(ctx, lake, table, func(column string) bool {
		return column != "loaded_time" && column != "received_time" && !strings.HasPrefix(column, "lineage.")
	})
}

// DeadLetterHash hashes what was wrong with which bytes in a lake: payload, error_code and field_path of the dead letters.
func DeadLetterHash(ctx context.Context, lake string) (Hash, error) {
	return tableHash(ctx, lake, schemas.DeadLetters.Name, func(column string) bool {
		return column == "payload" || column == "error_code" || column == "field_path"
	})
}

// tableHash hashes the columns of a table that are wanted, by as many goroutines as there are processors.
func tableHash(ctx context.Context, lake, table string, wanted func(column string) bool) (total Hash, err error) {
	st, err := store.Open(ctx, lake)
	if err != nil {
		return total, fmt.Errorf("hash: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	all, err := keys(ctx, st, table)
	if err != nil {
		return total, fmt.Errorf("hash: %w", err)
	}

	next := make(chan string)
	var mu sync.Mutex
	var errs []error
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for key := range next {
				var sum Hash
				err := withFile(ctx, st, key, func(_ string, file *parquet.File) (err error) {
					sum, err = fileHash(file, wanted)
					return err
				})
				mu.Lock()
				total = total.plus(sum)
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, key := range all {
		next <- key
	}
	close(next)
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return Hash{}, fmt.Errorf("hash: %w", err)
	}
	return total, nil
}

// fileHash hashes the rows of a file.
func fileHash(file *parquet.File, wanted func(column string) bool) (Hash, error) {
	columns := file.Schema().Columns()
	// Rows are written down by the names of their columns, in the order of the names, so that the order of the columns
	// in the file does not matter.
	names := make([]string, len(columns))
	var order []int
	for i, path := range columns {
		names[i] = strings.Join(path, ".")
		if wanted(names[i]) {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(names[a], names[b]) })

	var total Hash
	var text []byte
	err := eachWholeRow(file, func(values [][]parquet.Value) {
		text = text[:0]
		for _, column := range order {
			text = appendValues(text, names[column], values[column])
		}
		sum := xxh3.Hash128(text)
		total = total.plus(Hash{Rows: 1, High: sum.Hi, Low: sum.Lo})
	})
	return total, err
}

// appendValues writes down the values of one column of a row, so that different ones are written differently.
func appendValues(b []byte, name string, values []parquet.Value) []byte {
	if len(values) == 1 && values[0].IsNull() && values[0].DefinitionLevel() == 0 {
		return b
	}
	b = append(append(b, name...), 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(values)))
	for _, v := range values {
		b = append(b, byte(v.RepetitionLevel()), byte(v.DefinitionLevel()))
		if v.IsNull() {
			continue
		}
		start := len(b)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = v.AppendBytes(b)
		binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	}
	return b
}
