package windows

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"backbone/schemas"
	"backbone/transforms/dedup"
	"backbone/transforms/lake"
	"backbone/transforms/lake/digest"
	"backbone/transforms/lake/store"
	"backbone/transforms/parallel"
	"backbone/transforms/sessions"
	"backbone/transforms/trending"
)

// inputs are the files of interactions that results are made of, and what is remembered of them. Files never change, so nothing that
// is remembered can be wrong.
type inputs struct {
	store   *store.Store
	window  lake.Window
	bounded bool // no more files are waited for
	once    sync.Once
	only    *view // where bounded
	digests *dedup.Cache[*remembered]
	cells   *dedup.Cache[*merged]
}

// Memory is what is used for what may be needed again soon, in bytes.
const Memory = digestMemory + cellMemory + sessionMemory

const (
	digestMemory = 64 << 20
	cellMemory   = 64 << 20
)

func newInputs(st *store.Store, window lake.Window, bounded bool) *inputs {
	return &inputs{store: st, window: window, bounded: bounded, digests: dedup.NewCache[*remembered](digestMemory), cells: dedup.NewCache[*merged](cellMemory)}
}

// remembered is the digest of a file, once somebody has asked for it.
type remembered struct {
	mu     sync.Mutex
	digest *digest.Digest
}

// merged are the cells of some files of a partition, and what they come to.
type merged struct {
	mu     sync.Mutex
	files  map[string]bool
	cells  *digest.Cells
	sums   *trending.Sums
	summed int // files that sums are of
}

// view is the files of some partitions as they were listed for one computation, so that it counts what it reads.
type view struct {
	in         *inputs
	mu         sync.Mutex
	partitions map[int64]*partition // by start
}

// partition is a partition of interactions.
type partition struct {
	start, end int64
	folder     string
	files      []string // keys
	marks      []string // names of the marks, of any computation
	digested   bool     // files have digests, so windows were to be computed of them
}

// view returns a view of the files as they are now. Where no more files are waited for, all views are one, so that what is counted for one
// result is what is counted for all, and for the mark: what a stream commits meanwhile is seen to be missing afterwards.
func (in *inputs) view() *view {
	if in.bounded {
		in.once.Do(func() { in.only = newView(in) })
		return in.only
	}
	return newView(in)
}

func newView(in *inputs) *view { return &view{in: in, partitions: map[int64]*partition{}} }

// partition lists the partition of a time.
func (v *view) partition(ctx context.Context, micros int64) (*partition, error) {
	start, end := v.in.window.Bounds(micros)
	v.mu.Lock()
	p := v.partitions[start.UnixMicro()]
	v.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p = &partition{start: start.UnixMicro(), end: end.UnixMicro(), folder: schemas.Interactions.Name + "/" + v.in.window.Folder(start)}
	for e, err := range v.in.store.ListDir(ctx, p.folder) {
		if err != nil {
			return nil, err
		}
		p.add(e.Key)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if other := v.partitions[p.start]; other != nil { // of two that list it at once, one is right
		return other, nil
	}
	v.partitions[p.start] = p
	return p, nil
}

// list lists the partitions that overlap [from, to) side by side: in an object store each takes a request or more.
func (v *view) list(ctx context.Context, from, to int64) error {
	pool := parallel.Start(8, func() (func(int64) error, func() error) {
		return func(at int64) error {
			_, err := v.partition(ctx, at)
			return err
		}, nil
	})
	var err error
	for at := from; at < to && err == nil; {
		_, end := v.in.window.Bounds(at)
		err = pool.Submit(ctx, at)
		at = end.UnixMicro()
	}
	return errors.Join(err, pool.Wait())
}

// add takes what is in the folder of the partition.
func (p *partition) add(key string) {
	switch name := path.Base(key); {
	case strings.HasPrefix(name, "part-") && strings.HasSuffix(name, ".parquet"):
		p.files = append(p.files, key)
	case strings.HasPrefix(name, markPrefix):
		p.marks = append(p.marks, name)
	case strings.HasSuffix(name, digest.Suffix):
		p.digested = true
	}
}

// count returns how many files the partitions have that overlap [from, to). Of the last one, these are only the files with events before to:
// others can come for long after what is counted is settled, and do not change it.
func (v *view) count(ctx context.Context, from, to int64) (n int64, err error) {
	for at := from; at < to; {
		p, err := v.partition(ctx, at)
		if err != nil {
			return 0, err
		}
		at = p.end
		if to >= p.end {
			n += int64(len(p.files))
			continue
		}
		digests, err := v.in.loadAll(ctx, p.files)
		if err != nil {
			return 0, err
		}
		for _, d := range digests {
			if d.Earliest() < to {
				n++
			}
		}
	}
	return n, nil
}

// load returns the digest of a file.
func (in *inputs) load(ctx context.Context, file string) (*digest.Digest, error) {
	r, release := in.digests.Get(file, func() *remembered { return &remembered{} })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.digest == nil {
		d, err := digest.Load(ctx, in.store, file)
		if err != nil {
			release(0)
			return nil, err
		}
		r.digest = d
	}
	release(r.digest.Bytes())
	return r.digest, nil
}

// loadAll returns the digests of files, which are read side by side.
func (in *inputs) loadAll(ctx context.Context, files []string) ([]*digest.Digest, error) {
	all := make([]*digest.Digest, len(files))
	if len(files) == 0 {
		return all, nil
	}
	pool := parallel.Start(min(8, len(files)), func() (func(int) error, func() error) {
		return func(i int) (err error) {
			all[i], err = in.load(ctx, files[i])
			return err
		}, nil
	})
	for i := range files {
		if err := pool.Submit(ctx, i); err != nil {
			return nil, errors.Join(err, pool.Wait())
		}
	}
	return all, pool.Wait()
}

// timeline gives sessions what they ask for.
func (v *view) timeline(ctx context.Context, micros int64) (sessions.Partition, error) {
	p, err := v.partition(ctx, micros)
	if err != nil {
		return sessions.Partition{}, err
	}
	digests, err := v.in.loadAll(ctx, p.files)
	return sessions.Partition{Start: p.start, End: p.end, Digests: digests}, err
}

// sums returns what the partitions that overlap [from, to) come to in it.
func (v *view) sums(ctx context.Context, from, to int64, o trending.Options) (all []*trending.Sums, err error) {
	for at := from; at < to; {
		p, err := v.partition(ctx, at)
		if err != nil {
			return nil, err
		}
		if len(p.files) > 0 {
			part, err := v.in.sum(ctx, p, max(from, p.start), min(to, p.end), o)
			if err != nil {
				return nil, fmt.Errorf("cells of %s: %w", p.folder, err)
			}
			all = append(all, part)
		}
		at = p.end
	}
	return all, nil
}

// sum returns what a partition comes to in [from, to), and remembers it if that is all of it.
func (in *inputs) sum(ctx context.Context, p *partition, from, to int64, o trending.Options) (*trending.Sums, error) {
	whole := from == p.start && to == p.end
	m, release := in.cells.Get(p.folder, func() *merged { return &merged{files: map[string]bool{}, cells: &digest.Cells{}} })
	m.mu.Lock()
	defer func() {
		n := m.cells.Bytes()
		if m.sums != nil {
			n += m.sums.Bytes()
		}
		m.mu.Unlock()
		release(n)
	}()
	if whole && m.sums != nil && m.summed == len(p.files) {
		return m.sums, nil
	}
	cells, err := in.merge(ctx, m, p)
	if err != nil {
		return nil, err
	}
	sums := trending.Sum(cells, from, to, o)
	if whole {
		m.sums, m.summed = sums, len(p.files)
		if in.bounded { // no file will come to those that were merged
			m.cells, m.files = &digest.Cells{}, map[string]bool{}
		}
	}
	return sums, nil
}

// merge returns the cells of a partition's files. What was merged before is taken from there.
func (in *inputs) merge(ctx context.Context, m *merged, p *partition) (*digest.Cells, error) {
	var fresh []string
	for _, file := range p.files {
		if !m.files[file] {
			fresh = append(fresh, file)
		}
	}
	if len(m.files)+len(fresh) > len(p.files) {
		// Somebody has listed the partition later, and merged more than is asked for.
		return in.mergeAll(ctx, &digest.Cells{}, p.files)
	}
	cells, err := in.mergeAll(ctx, m.cells, fresh)
	if err != nil {
		return nil, err
	}
	for _, file := range fresh {
		m.files[file] = true
	}
	m.cells = cells
	return cells, nil
}

func (in *inputs) mergeAll(ctx context.Context, cells *digest.Cells, files []string) (*digest.Cells, error) {
	digests, err := in.loadAll(ctx, files)
	if err != nil {
		return nil, err
	}
	for _, d := range digests {
		cells = digest.Merge(cells, d.Cells())
	}
	return cells, nil
}

// partitions calls each for all partitions of the table that have files.
func (in *inputs) partitions(ctx context.Context, each func(p *partition) error) error {
	table := schemas.Interactions.Name + "/"
	var p *partition
	flush := func() error {
		if p == nil || len(p.files) == 0 {
			return nil
		}
		return each(p)
	}
	for e, err := range in.store.List(ctx, table) {
		if err != nil {
			return err
		}
		folder := path.Dir(e.Key)
		if p == nil || p.folder != folder {
			if err := flush(); err != nil {
				return err
			}
			p = nil
			start, ok := in.startOf(strings.TrimPrefix(folder, table))
			if !ok {
				continue
			}
			from, to := in.window.Bounds(start.UnixMicro())
			p = &partition{start: from.UnixMicro(), end: to.UnixMicro(), folder: folder}
		}
		p.add(e.Key)
	}
	return flush()
}

// startOf returns when the partition of a folder begins.
func (in *inputs) startOf(folder string) (time.Time, bool) {
	for _, form := range []string{"month=2006-01", "dt=2006-01-02", "dt=2006-01-02/hour=15", "dt=2006-01-02/hour=15/minute=04"} {
		if t, err := time.Parse(form, folder); err == nil {
			return t, in.window.Folder(t) == folder
		}
	}
	return time.Time{}, false
}
