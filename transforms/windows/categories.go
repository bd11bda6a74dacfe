package windows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/asof"
	"backbone/transforms/lake/store"
	"backbone/transforms/trending"
)

// categories are what the table of items says of them, by its versions.
type categories struct {
	store *store.Store

	mu      sync.Mutex
	version int // that of known; 0: none
	known   *paths
}

// paths are the categories of the items of a version, and those above them. Of the ids it has hashes of 64 bits: among five million,
// two are the same in one of a million tables.
type paths struct {
	place map[uint64]uint32
	lists [][]string
}

func newCategories(st *store.Store) *categories { return &categories{store: st} }

// projection is the table of items with the columns that are needed.
var projection = func() *schemas.Table[schemas.Item] {
	t := *schemas.Items
	t.Columns = slices.Clone(t.Columns[:t.KeyColumns])
	if c, ok := schemas.Items.Column("categories"); ok {
		t.Columns = append(t.Columns, c)
	}
	return &t
}()

// at returns the scopes of items as they were at a time: in the newest version of the table then, or else in its first. nil where there
// is no such table.
func (c *categories) at(ctx context.Context, micros int64) (func(item string) []string, error) {
	versions, err := asof.Versions(ctx, c.store, schemas.Items.Name)
	if err != nil || len(versions) == 0 {
		return nil, err
	}
	version := versions[0]
	for _, v := range versions {
		if v.Time().UnixMicro() <= micros {
			version = v
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != version.Number {
		known, err := c.load(ctx, version)
		if err != nil {
			return nil, fmt.Errorf("categories of items: %w", err)
		}
		c.version, c.known = version.Number, known
	}
	known := c.known
	return func(item string) []string { return known.lists[known.place[xxh3.HashString(item)]] }, nil
}

func (c *categories) load(ctx context.Context, version *asof.Version) (*paths, error) {
	p := &paths{place: map[uint64]uint32{}, lists: [][]string{nil}}
	lists := map[string]uint32{"": 0}
	err := asof.At(ctx, c.store, projection, version.Time(), func(row *schemas.Item) error {
		if len(row.Categories) == 0 {
			return nil
		}
		key := strings.Join(row.Categories, "\x00")
		n, ok := lists[key]
		if !ok {
			n = uint32(len(p.lists))
			list := trending.Paths(row.Categories)
			for i := range list {
				list[i] = strings.Clone(list[i])
			}
			lists[strings.Clone(key)] = n
			p.lists = append(p.lists, list)
		}
		p.place[xxh3.HashString(row.ItemID)] = n
		return nil
	})
	if errors.Is(err, asof.ErrNoVersion) {
		err = nil
	}
	return p, err
}
