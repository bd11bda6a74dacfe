package windows

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"backbone/schemas"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
)

// The keys of a result's metadata, besides those of package rowfile: its revision, and the span of event time, in microseconds since
// 1970, whose partitions it was made of.
const (
	metaRevision = "backbone.revision"
	metaFrom     = "backbone.inputs_from"
	metaTo       = "backbone.inputs_to"
)

// result is a result of a unit, as it is to be stored or as it was found.
type result struct {
	revision int64
	from, to int64 // span of the partitions that it was made of
	rows     int
	body     []byte // a Parquet file; of one that was found, none
	settled  bool
}

// files returns how many files it was made of.
func (r *result) files() int64 { return r.revision / 2 }

// over tells if the window was over when it was made.
func (r *result) over() bool { return r.revision%2 == 1 }

// encode makes the file of a result. Pane returns what all rows have.
func encode[R any](table *schemas.Table[R], rows []R, pane func(*R) *schemas.Pane, p schemas.Pane, r *result) error {
	w, err := rowfile.NewWriter(table, func(row *R) { var fresh R; *row = fresh })
	if err != nil {
		return err
	}
	w.Begin()
	for i := range rows {
		*pane(&rows[i]) = p
		if err := w.AddRow(&rows[i]); err != nil {
			return err
		}
	}
	r.rows = len(rows)
	r.body, err = w.Finish(map[string]string{
		metaRevision: strconv.FormatInt(r.revision, 10), metaFrom: strconv.FormatInt(r.from, 10), metaTo: strconv.FormatInt(r.to, 10),
	})
	return err
}

// find returns the newest result of a unit; nil where there is none. live says that results which are not settled count too.
func (e *engine) find(ctx context.Context, u Unit, live bool) (*result, error) {
	r, err := e.read(ctx, u.key())
	if err != nil {
		return nil, err
	}
	if r != nil {
		r.settled = true
		return r, nil
	}
	if !live {
		return nil, nil
	}
	keys, err := e.live(ctx, u)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	return e.read(ctx, keys[len(keys)-1])
}

// live returns the keys of the live results of a unit, by revision.
func (e *engine) live(ctx context.Context, u Unit) (keys []string, err error) {
	for entry, err := range e.store.List(ctx, u.livePrefix()) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, entry.Key)
	}
	return keys, nil
}

// read reads what the footer of a result says; nil where there is no such file.
func (e *engine) read(ctx context.Context, key string) (*result, error) {
	o, err := e.store.Open(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values, err := rowfile.Metadata(o, o.Size(), metaRevision, metaFrom, metaTo, rowfile.MetaRows)
	err = errors.Join(err, o.Close())
	if errors.Is(err, store.ErrNotFound) {
		return e.read(ctx, key) // it was removed, or replaced, since it was opened
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	var numbers [4]int64
	for i, v := range values {
		if numbers[i], err = strconv.ParseInt(v, 10, 64); err != nil {
			return nil, fmt.Errorf("%s: its footer is not that of a result of a window: %w", key, err)
		}
	}
	return &result{revision: numbers[0], from: numbers[1], to: numbers[2], rows: int(numbers[3])}, nil
}

// commitLive makes a result durable that is not settled. Of two with one revision, one is as good as the other.
func (e *engine) commitLive(ctx context.Context, u Unit, r *result) error {
	_, err := e.store.Commit(ctx, u.liveKey(r.revision), r.body)
	if errors.Is(err, store.ErrNotFound) {
		return nil // another run has settled the window, and removed it at once
	}
	return err
}

// settle makes a result the one of the main table, unless that has a newer one, and removes the live ones.
func (e *engine) settle(ctx context.Context, u Unit, r *result) error {
	for {
		outcome, err := e.store.Commit(ctx, u.key(), r.body)
		if errors.Is(err, store.ErrNotFound) {
			continue // another run has removed it at once, to replace it
		}
		if err != nil {
			return err
		}
		if outcome == store.Created {
			break
		}
		have, err := e.read(ctx, u.key())
		if err != nil {
			return err
		}
		if have != nil && have.revision >= r.revision && !e.force {
			break
		}
		// A name for two results: between the old one and the new one a reader sees none, but never both.
		if err := e.store.Remove(ctx, u.key()); err != nil {
			return err
		}
	}
	return e.removeLive(ctx, u)
}

func (e *engine) removeLive(ctx context.Context, u Unit) error {
	keys, err := e.live(ctx, u)
	for _, key := range keys {
		err = errors.Join(err, e.store.Remove(ctx, key))
	}
	return err
}

// A mark is an empty file in a partition of interactions: all windows are settled that its so many files touch.
const markPrefix = "_windows-"

func (e *engine) markName(files int) string {
	return fmt.Sprintf("%s%010d", e.marks, files)
}

// marked tells if a partition has a mark of this computation, and if that is of all its files.
func (e *engine) marked(p *partition) (ever, all bool) {
	for _, m := range p.marks {
		if strings.HasPrefix(m, e.marks) {
			ever = true
			all = all || m == e.markName(len(p.files))
		}
	}
	return ever, all
}

// mark marks a partition, and removes its older marks.
func (e *engine) mark(ctx context.Context, p *partition) error {
	name := e.markName(len(p.files))
	// Another run that has seen more files may remove it at once.
	if _, err := e.store.Commit(ctx, path.Join(p.folder, name), nil); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	var errs []error
	for _, m := range p.marks {
		if strings.HasPrefix(m, e.marks) && m < name {
			errs = append(errs, e.store.Remove(ctx, path.Join(p.folder, m)))
		}
	}
	return errors.Join(errs...)
}
