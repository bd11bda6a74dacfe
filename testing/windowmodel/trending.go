package windowmodel

import (
	"cmp"
	"fmt"
	"slices"

	"backbone/schemas"
)

// trending is the table of trends. Items whose popularity differs by rounding only may have each other's ranks, and of
// those at the end of the top any may be there. So the rows of a scope need to be in the order of the popularity that they
// say they have, which is compared with that of the model by itself; and none may be missing that is surely more popular.
func trending(top int) subject[schemas.Trend] {
	return subject[schemas.Trend]{
		table: schemas.Trending, pane: func(r *schemas.Trend) *schemas.Pane { return &r.Pane },
		key:     func(r *schemas.Trend) string { return fmt.Sprint(scopeOf(r), " ", r.ItemID) },
		unknown: func(r *schemas.Trend) { r.Rank = schemas.Int{} },
		ranks: func(c *checker, got []schemas.Trend) (spared func(*schemas.Trend) bool) {
			scopes := map[scope][]*schemas.Trend{}
			for i := range got {
				r := &got[i]
				scopes[scopeOf(r)] = append(scopes[scopeOf(r)], r)
			}
			last := map[scope]float64{} // the popularity of the last row of scopes that are full
			for s, rows := range scopes {
				slices.SortStableFunc(rows, func(a, b *schemas.Trend) int {
					return cmp.Or(cmp.Compare(b.Popularity.V, a.Popularity.V), cmp.Compare(a.ItemID, b.ItemID))
				})
				for i, r := range rows {
					if r.Rank.V != int64(i+1) || i >= top {
						c.differ(RowMisranked, "trending: %v %s has rank %d, want %d, of at most %d", s, r.ItemID, r.Rank.V, i+1, top)
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

// scope is what has ranks of its own.
type scope struct {
	window      Span
	name, value string
}

func scopeOf(r *schemas.Trend) scope { return scope{spanOf(&r.Pane), r.Scope, r.ScopeValue} }

func (s scope) String() string { return fmt.Sprintf("%v %s %q", s.window, s.name, s.value) }
