package windowmodel

import (
	"cmp"
	"slices"

	"backbone/schemas"
)

// trending is the table of trends. Items whose popularity differs by rounding only may have each other's ranks, and of
// those at the end of the top any may be there. So the rows of a scope need to be in the order of the popularity that they
// say they have, which is compared with that of the model by itself; and none may be missing that is surely more popular.
func trending(top int) subject[schemas.Trend] {
	return subject[schemas.Trend]{
		table: schemas.Trending, pane: func(r *schemas.Trend) *schemas.Pane { return &r.Pane },
		key: func(r *schemas.Trend) rowKey {
			return rowKey{spanOf(&r.Pane), [3]string{r.Scope, r.ScopeValue, r.ItemID}}
		},
		unknown: func(r *schemas.Trend) { r.Rank = schemas.Int{} },
		ranks: func(c *checker, got []schemas.Trend) (spared func(*schemas.Trend) bool) {
			scopes := map[rowKey][]*schemas.Trend{}
			for i := range got {
				r := &got[i]
				scopes[scopeOf(r)] = append(scopes[scopeOf(r)], r)
			}
			last := map[rowKey]float64{} // the popularity of the last row of scopes that are full
			for s, rows := range scopes {
				slices.SortStableFunc(rows, func(a, b *schemas.Trend) int {
					return cmp.Or(cmp.Compare(b.Popularity.V, a.Popularity.V), cmp.Compare(a.ItemID, b.ItemID))
				})
				for i, r := range rows {
					if r.Rank.V != int64(i+1) || i >= top {
						c.differ(RowMisranked, "trending: %v %q has rank %d, want %d, of at most %d", s, r.ItemID, r.Rank.V, i+1, top)
					}
				}
				if len(rows) >= top {
					last[s] = rows[len(rows)-1].Popularity.V
				}
			}
			return func(r *schemas.Trend) bool {
				least, full := last[scopeOf(r)]
				return r.Rank.V > int64(top) || full && (r.Popularity.V <= least || near(r.Popularity.V, least))
			}
		},
	}
}

// scopeOf returns what an item is ranked in.
func scopeOf(r *schemas.Trend) rowKey {
	return rowKey{spanOf(&r.Pane), [3]string{r.Scope, r.ScopeValue}}
}
