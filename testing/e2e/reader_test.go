package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/testing/python"
)

// reader looks at a lake on the local disk again and again while it is written to, as any other program would, by a glob:
// every file can be read in full at every moment, none ever changes or goes away, and no id is ever there twice.
type reader struct {
	t     *testing.T
	lake  string
	stop  chan struct{}
	done  sync.WaitGroup
	looks int
	files map[string]fileState
	ids   map[xxh3.Uint128]string // the file that has it
}

// startReader starts to look. Call end before the lake is compared with the truth.
func startReader(t *testing.T, lake string) *reader {
	t.Helper()
	r := &reader{t: t, lake: lake, stop: make(chan struct{}), files: map[string]fileState{}, ids: map[xxh3.Uint128]string{}}
	r.done.Go(func() {
		for {
			r.look()
			select {
			case <-r.stop:
				r.look() // at how it ends
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	t.Cleanup(r.end)
	return r
}

// end looks once more, and stops.
func (r *reader) end() {
	select {
	case <-r.stop:
		return
	default:
	}
	close(r.stop)
	r.done.Wait()
	r.t.Logf("a reader looked %d times, and has seen %d files with %d ids", r.looks, len(r.files), len(r.ids))
}

func (r *reader) look() {
	r.looks++
	now := dataFiles(r.t, r.lake)
	for path, state := range now {
		before, known := r.files[path]
		switch {
		case known && before != state:
			r.t.Errorf("%s was changed: %v, before %v", path, state, before)
		case !known:
			if err := r.read(path); err != nil {
				r.t.Errorf("%s cannot be read: %v", path, err)
			}
		}
	}
	for path := range r.files {
		if _, there := now[path]; !there {
			r.t.Errorf("%s has gone", path)
		}
	}
	r.files = now
}

// read reads the ids of a file.
func (r *reader) read(path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f, err := parquet.OpenFile(file, info.Size())
	if err != nil {
		return err
	}
	column := "event_id"
	if strings.Contains(path, "/"+schemas.DeadLetters.Name+"/") {
		column = "dead_letter_id"
	}
	leaf, ok := f.Schema().Lookup(column)
	if !ok {
		return fmt.Errorf("there is no column %q", column)
	}
	rows := int64(0)
	for _, group := range f.RowGroups() {
		pages := group.ColumnChunks()[leaf.ColumnIndex].Pages()
		defer func() { err = errors.Join(err, pages.Close()) }()
		values := make([]parquet.Value, 1024)
		for {
			page, err := pages.ReadPage()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			for reader := page.Values(); ; {
				n, err := reader.ReadValues(values)
				for _, v := range values[:n] {
					rows++
					id := xxh3.Hash128(v.ByteArray())
					if other, twice := r.ids[id]; twice {
						r.t.Errorf("id %q is in %s and in %s", v.ByteArray(), other, path)
					}
					r.ids[id] = path
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
			}
			parquet.Release(page)
		}
	}
	if rows != f.NumRows() || rows == 0 {
		return fmt.Errorf("there are %d ids and %d rows", rows, f.NumRows())
	}
	return nil
}

// startDuckDB lets DuckDB count again and again while the lake is written to, until end is called: the number of rows is
// always that of different ids, and never shrinks.
func startDuckDB(t *testing.T, lake string) (end func()) {
	t.Helper()
	interpreter := python.Path(t)
	stop := filepath.Join(t.TempDir(), "stop")
	var out, problems bytes.Buffer
	cmd := exec.Command(interpreter, "-c", `
import duckdb, glob, os, sys, time
pattern, stop = sys.argv[1:]
db = duckdb.connect()
db.execute("set threads = 1")
looks = last = 0
ending = False
while not ending:
    ending = os.path.exists(stop)
    if glob.glob(pattern, recursive=True):
        rows, ids = db.execute(f"select count(*), count(distinct event_id) from read_parquet('{pattern}', hive_partitioning = true)").fetchone()
        looks += 1
        assert rows == ids, f"{rows} rows with {ids} ids"
        assert rows >= last, f"{rows} rows, before {last}"
        last = rows
    time.sleep(0.2)
print(looks, "times, at last", last, "rows")
`, filepath.Join(lake, schemas.Interactions.Name, "**", "*.parquet"), stop)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := os.WriteFile(stop, nil, 0o600); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("DuckDB: %v\n%s", err, &problems)
		}
		t.Logf("DuckDB looked %s", &out)
	})
	t.Cleanup(end)
	return end
}
