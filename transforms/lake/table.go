package lake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"

	"backbone/transforms/lake/store"
)

// ErrLayout says that a table exists with another layout than is asked for. The caller uses the table's own.
var ErrLayout = errors.New("the table has another layout")

// Layout is how a table's rows are spread over files. It is fixed when the table is made: an event that came again
// under another layout would land elsewhere, and be there twice.
type Layout struct {
	Window Window
	Shards int
}

// Slot returns where a row belongs.
func (l Layout) Slot(table, id string, micros int64) Slot {
	s := Slot{Table: table, Bucket: l.Window.bucket(micros)}
	if l.Shards > 1 {
		s.Shard = int(xxh3.HashString(id) % uint64(l.Shards))
	}
	return s
}

// layoutName is the file that holds a table's layout. Readers skip it: its name begins with "_".
const layoutName = "_table.json"

type layoutFile struct {
	Table  string `json:"table"`
	Window string `json:"window"`
	Shards int    `json:"shards"`
}

// Fix fixes the layout of a table at its first use, and returns the one that holds. An error that Is ErrLayout says
// that the table has another one already; the layout returned with it is the table's.
func Fix(ctx context.Context, st *store.Store, table string, want Layout) (Layout, error) {
	key := table + "/" + layoutName
	body, err := json.Marshal(layoutFile{Table: table, Window: want.Window.String(), Shards: want.Shards})
	if err != nil {
		return Layout{}, err
	}
	outcome, err := st.Commit(ctx, key, append(body, '\n'))
	if err != nil {
		return Layout{}, fmt.Errorf("layout of table %q: %w", table, err)
	}
	if outcome == store.Created {
		return want, nil
	}
	have, err := LayoutOf(ctx, st, table)
	if err != nil {
		return Layout{}, err
	}
	return have, have.suits(table, want)
}

// Foresee returns what Fix would, and writes nothing: for who wants to know what a run would be.
func Foresee(ctx context.Context, st *store.Store, table string, want Layout) (Layout, error) {
	have, err := LayoutOf(ctx, st, table)
	if errors.Is(err, store.ErrNotFound) {
		return want, nil
	}
	if err != nil {
		return Layout{}, err
	}
	return have, have.suits(table, want)
}

// suits refuses a layout that is not that of the table.
func (l Layout) suits(table string, want Layout) error {
	if l != want {
		return fmt.Errorf("%w: table %q has window %v and %d shards, not window %v and %d shards", ErrLayout, table, l.Window, l.Shards, want.Window, want.Shards)
	}
	return nil
}

// LayoutOf returns the layout of a table. Its error Is store.ErrNotFound where there is no such table.
func LayoutOf(ctx context.Context, st *store.Store, table string) (Layout, error) {
	key := table + "/" + layoutName
	body, err := st.ReadAll(ctx, key, 1<<16)
	if err != nil {
		return Layout{}, fmt.Errorf("layout of table %q: %w", table, err)
	}
	var f layoutFile
	if err := json.Unmarshal(body, &f); err != nil {
		return Layout{}, fmt.Errorf("layout of table %q in %s: %w", table, key, err)
	}
	w, err := ParseWindow(f.Window)
	if err != nil || f.Shards < 1 {
		return Layout{}, fmt.Errorf("layout of table %q in %s: window %q, %d shards", table, key, f.Window, f.Shards)
	}
	return Layout{Window: w, Shards: f.Shards}, nil
}
