package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"backbone/schemas"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/source"
)

// files reads files and commits their rows: all cores read, then all cores write.
func (j *job) files(ctx context.Context, globs []string) error {
	options := files.For(j.mapping)
	tasks, err := files.Plan(ctx, globs, options)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	slots := map[lake.Slot][][]byte{}
	err = onAllCores(tasks, func() (func(files.Task) error, func() error) {
		m, err := newMaker(j)
		if err != nil {
			return nil, func() error { return err }
		}
		reader := files.NewReader(options)
		each := func(rec *source.Record) error { m.record(rec); return nil }
		read := func(t files.Task) error {
			m.rules.Now = time.Now().UnixMicro()
			return reader.Each(ctx, t, each)
		}
		return read, func() error {
			mu.Lock()
			defer mu.Unlock()
			m.take(slots)
			j.counts.Read += m.read
			return reader.Close()
		}
	})
	if err != nil {
		return err
	}
	return j.commit(ctx, slots, true)
}

// commit makes rows durable, the largest slots first. Rows of a bounded input are then complete: their partition is
// marked so.
func (j *job) commit(ctx context.Context, slots map[lake.Slot][][]byte, bounded bool) error {
	size := func(s lake.Slot) (n int) {
		for _, c := range slots[s] {
			n += len(c)
		}
		return n
	}
	order := slices.SortedFunc(maps.Keys(slots), func(a, b lake.Slot) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.Bucket, b.Bucket))
	})
	var mu sync.Mutex
	return onAllCores(order, func() (func(lake.Slot) error, func() error) {
		return func(at lake.Slot) error {
			mu.Lock()
			chunks := slots[at]
			delete(slots, at) // so that the memory of what is written is free for what is next
			mu.Unlock()
			r, err := j.tables[at.Table].Commit(ctx, at, chunks)
			if err != nil {
				return err
			}
			if bounded {
				if _, err := j.store.Commit(ctx, path.Join(r.Folder, "_SUCCESS"), nil); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if at.Table == schemas.DeadLetters.Name {
				j.counts.DeadLettered += r.Rows
			} else {
				j.counts.Committed += r.Rows
			}
			j.counts.Duplicate += r.Duplicates
			j.counts.Files += int64(len(r.Files))
			return nil
		}, nil
	})
}

// onAllCores runs a function over items, on a goroutine for each core with a state of its own. end is called on each
// after the last item.
func onAllCores[T any](items []T, start func() (each func(T) error, end func() error)) error {
	queue := make(chan T, len(items))
	for _, item := range items {
		queue <- item
	}
	close(queue)
	n := runtime.GOMAXPROCS(0)
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			each, end := start()
			if each != nil {
				for item := range queue {
					if errs[i] = each(item); errs[i] != nil {
						break
					}
				}
			}
			if end != nil {
				errs[i] = errors.Join(errs[i], end())
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}
