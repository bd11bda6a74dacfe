package asof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
	"backbone/transforms/rows"
)

// ErrNoVersion says that a table has no version yet.
var ErrNoVersion = errors.New("the table has no version")

// At calls fn for each row of a table that was there at a time, as it was then. Rows come shard by shard, in the order of their ids.
// A row is valid until fn returns. The error Is ErrNoVersion where the table has none.
func At[R any](ctx context.Context, st *store.Store, table *schemas.Table[R], at time.Time, fn func(row *R) error) error {
	newest, err := Newest(ctx, st, table.Name)
	if err != nil {
		return err
	}
	if newest == nil {
		return fmt.Errorf("%w: %q", ErrNoVersion, table.Name)
	}
	for shard := range newest.Shards {
		if err := shardAt(ctx, st, table, newest, shard, at.UnixMicro(), "", fn); err != nil {
			return err
		}
	}
	return nil
}

// Find returns a row of a table as it was at a time; nil where it was not there.
func Find[R any](ctx context.Context, st *store.Store, table *schemas.Table[R], id string, at time.Time) (*R, error) {
	newest, err := Newest(ctx, st, table.Name)
	if err != nil {
		return nil, err
	}
	if newest == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoVersion, table.Name)
	}
	codec := rows.NewCodec(table.Columns)
	var found *R
	err = shardAt(ctx, st, table, newest, shardOf(id, newest.Shards), at.UnixMicro(), id, func(row *R) error {
		found = new(R)
		return codec.Decode(codec.Append(nil, row)[4:], len(table.Columns), found) // a copy
	})
	return found, err
}

// candidate is a closed version of a row that may be the one of the time.
type candidate struct {
	version
	body []byte // encoded
}

// shardAt calls fn for the rows of a shard; with only set, for the one of that id.
func shardAt[R any](ctx context.Context, st *store.Store, table *schemas.Table[R], newest *Version, shard int, at int64, only string, fn func(row *R) error) error {
	codec := rows.NewCodec(table.Columns)
	past := map[string]candidate{}
	known := *newest
	known.Histories = nil
	for _, asOf := range newest.Histories {
		// What a version has closed ended a day after it at the latest.
		if t, err := time.Parse(folderTime, asOf); err == nil && t.UnixMicro()+schemas.MaxAheadMicros > at {
			known.Histories = append(known.Histories, asOf)
		}
	}
	err := eachHistory(ctx, st, table, &known, shard, newest.Shards, func(part []R) error {
		for i := range part {
			id, _ := table.Slot(&part[i])
			s := table.Stamp(&part[i])
			if s.ValidFrom.V > at || s.ValidTo.V <= at || only != "" && id != only {
				continue
			}
			v := version{updated: s.UpdatedTime.V, deleted: s.IsDeleted.V, hash: strings.Clone(s.ContentHash), from: s.ValidFrom.V}
			if c, ok := past[id]; ok && cmp.Or(cmp.Compare(c.from, v.from), order(c.version, v)) >= 0 {
				continue
			}
			past[strings.Clone(id)] = candidate{version: v, body: codec.Append(nil, &part[i])[4:]}
		}
		return nil
	})
	if err != nil {
		return err
	}
	key := newest.Folder(table.Name) + "/" + partName(shard, newest.Shards)
	o, err := st.Open(ctx, key)
	if err != nil {
		return err
	}
	err = rowfile.Each(o, o.Size(), table, table.Reset, func(part []R) error {
		var old R
		for i := range part {
			row := &part[i]
			id, _ := table.Slot(row)
			if only != "" && id != only {
				continue
			}
			if table.Stamp(row).ValidFrom.V > at {
				c, ok := past[id]
				if !ok {
					continue // it was not there yet
				}
				table.Reset(&old)
				if err := codec.Decode(c.body, len(table.Columns), &old); err != nil {
					return err
				}
				row = &old
			}
			if table.Stamp(row).IsDeleted.V {
				continue
			}
			if err := fn(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
