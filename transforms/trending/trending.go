// Package trending finds the items that most is done with in a window, and how far each of them came.
//
// It works on cells (package digest), which are partial aggregates, and on sums of them, which windows share that overlap: a window costs
// what its items are, not what its events are, and an item that has a third of all events is an item like any other.
//
// # Guarantees
//
// Results are a function of the events. Numbers are summed in one order, so they are the same to the last bit.
package trending

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake/digest"
)

// Options say what counts how much.
type Options struct {
	// Weights of an event, by its type. Others count 0.
	Weights map[string]float64
	// HalfLife is the age at which an event counts half as much for popularity.
	HalfLife time.Duration
	// Top is how many items are kept in each scope.
	Top int
	// Categories returns the scopes of an item; see Paths. nil: there are none.
	Categories func(item string) []string
}

// Weights are the default.
func Weights() map[string]float64 {
	return map[string]float64{
		"view": 1, "click": 1, "rate": 1, "play_start": 1, "comment": 2, "like": 3, "save": 3, "share": 3, "play_complete": 3,
		"add_to_cart": 4, "purchase": 10,
	}
}

// Paths returns the categories of an item and those above them: of "A > B" these are "A" and "A > B".
func Paths(categories []string) (all []string) {
	for _, c := range categories {
		for i := 0; i < len(c); {
			next := strings.Index(c[i:], separator)
			path := c
			if next >= 0 {
				path = c[:i+next]
				i += next + len(separator)
			} else {
				i = len(c)
			}
			if !slices.Contains(all, path) {
				all = append(all, path)
			}
		}
	}
	return all
}

const separator = " > "

// minute is what cells count in, in microseconds.
const minute = 60_000_000

// Sums are what the cells of a span of time come to, by item and country.
type Sums struct {
	end                     int64
	items, countries, types []string // sorted
	rows                    []sum    // sorted
	counts                  []count
}

// sum is what was done with an item from a country.
type sum struct {
	item              uint32
	country           uint16
	score, popularity float64 // the latter at the end of the span
	counts            uint32  // place of the first of its counts; they end where those of the next sum begin
}

// count is how many events of a type there were.
type count struct{ kind, n uint32 }

// Sum adds up the cells in [start, end), of whole minutes in microseconds since 1970. Of o it takes Weights and HalfLife.
func Sum(c *digest.Cells, start, end int64, o Options) *Sums {
	s := &Sums{end: end, items: c.Items, countries: c.Countries, types: c.Types}
	weights := make([]float64, len(c.Types))
	for i, name := range c.Types {
		weights[i] = o.Weights[name]
	}
	decay := decays(start, end, o.HalfLife)
	for _, cell := range c.List { // sorted by item and country
		at := int64(cell.Minute)*minute - start
		if at < 0 || at >= end-start {
			continue
		}
		if n := len(s.rows); n == 0 || s.rows[n-1].item != cell.Item || s.rows[n-1].country != cell.Country {
			s.rows = append(s.rows, sum{item: cell.Item, country: cell.Country, counts: uint32(len(s.counts))})
		}
		r := &s.rows[len(s.rows)-1]
		weight := weights[cell.Type] * float64(cell.Count)
		r.score += weight
		r.popularity += weight * decay[at/minute]
		s.count(r.counts, uint32(cell.Type), cell.Count)
	}
	s.rows, s.counts = slices.Clone(s.rows), slices.Clone(s.counts) // without room to grow: they may be kept
	return s
}

// count adds to the counts of the last row, of which there are few.
func (s *Sums) count(first, kind, n uint32) {
	for i := first; i < uint32(len(s.counts)); i++ {
		if s.counts[i].kind == kind {
			s.counts[i].n += n
			return
		}
	}
	s.counts = append(s.counts, count{kind, n})
}

// of returns the counts of a row.
func (s *Sums) of(row int) []count {
	if row+1 < len(s.rows) {
		return s.counts[s.rows[row].counts:s.rows[row+1].counts]
	}
	return s.counts[s.rows[row].counts:]
}

// Bytes returns how much memory the sums take, but for their texts.
func (s *Sums) Bytes() int64 { return int64(32*len(s.rows) + 8*len(s.counts) + 16*len(s.items)) }

// decays returns what is left of an event's weight at the end of a span, by the minutes of the span.
func decays(start, end int64, halfLife time.Duration) []float64 {
	all := make([]float64, (end-start)/minute)
	for i := range all {
		all[i] = left(end-start-int64(i)*minute, halfLife)
	}
	return all
}

// left is what is left of a weight after some time, in microseconds.
func left(age int64, halfLife time.Duration) float64 {
	return math.Exp2(-float64(age) / float64(halfLife.Microseconds()))
}

// row is an item in a scope.
type row struct {
	item              uint32 // place among the items of the window
	score, popularity float64
}

// window adds up the sums of its parts.
type window struct {
	parts     []*Sums
	items     []string
	all       []row    // of each item
	countries []string // sorted
	byCountry [][]row  // of the items with any score there
}

// Trending returns the most popular items of each scope: of all, of each category, of each country. Parts are the sums of the parts of a
// window, in the order of time, and end is its end. Of o it takes HalfLife, Top and Categories.
func Trending(parts []*Sums, end int64, o Options) (trends []schemas.Trend) {
	w := &window{parts: parts}
	w.add(end, o.HalfLife)
	trends = w.best(trends, schemas.ScopeAll, "", w.all, o.Top)
	if o.Categories != nil {
		categories := map[string][]row{}
		for _, r := range w.all {
			for _, c := range o.Categories(w.items[r.item]) {
				categories[c] = append(categories[c], r)
			}
		}
		for _, c := range slices.Sorted(maps.Keys(categories)) {
			trends = w.best(trends, schemas.ScopeCategory, c, categories[c], o.Top)
		}
	}
	for i, c := range w.countries {
		if c != "" {
			trends = w.best(trends, schemas.ScopeCountry, c, w.byCountry[i], o.Top)
		}
	}
	w.count(trends)
	return trends
}

// add adds up scores. Sums without any, such as those of what was only shown, are most, and are left out.
func (w *window) add(end int64, halfLife time.Duration) {
	for _, p := range w.parts {
		w.countries = append(w.countries, p.countries...)
	}
	slices.Sort(w.countries)
	w.countries = slices.Compact(w.countries)
	w.byCountry = make([][]row, len(w.countries))
	places := map[string]uint32{}    // of items
	inCountry := map[uint64]uint32{} // of items in the rows of countries
	for _, p := range w.parts {
		decay := left(end-p.end, halfLife)
		countries := make([]int, len(p.countries))
		for i, c := range p.countries {
			countries[i], _ = slices.BinarySearch(w.countries, c)
		}
		item, known := uint32(0), false
		for i, s := range p.rows {
			if i == 0 || p.rows[i-1].item != s.item {
				known = false
			}
			if s.score == 0 {
				continue
			}
			if !known {
				id := p.items[s.item]
				n, ok := places[id]
				if !ok {
					n = uint32(len(w.items))
					places[id], w.items, w.all = n, append(w.items, id), append(w.all, row{item: n})
				}
				item, known = n, true
			}
			w.all[item].take(s, decay)
			country := countries[s.country]
			key := uint64(item)<<16 | uint64(country)
			n, ok := inCountry[key]
			if !ok {
				n = uint32(len(w.byCountry[country]))
				inCountry[key], w.byCountry[country] = n, append(w.byCountry[country], row{item: item})
			}
			w.byCountry[country][n].take(s, decay)
		}
	}
}

func (r *row) take(s sum, decay float64) {
	r.score += s.score
	r.popularity += s.popularity * decay
}

// best adds the n best rows of a scope to the trends: by popularity, then by id.
func (w *window) best(trends []schemas.Trend, scope, value string, rows []row, n int) []schemas.Trend {
	var best []row
	cut := func() {
		slices.SortFunc(best, func(a, b row) int {
			return cmp.Or(cmp.Compare(b.popularity, a.popularity), cmp.Compare(w.items[a.item], w.items[b.item]))
		})
		best = best[:min(n, len(best))]
	}
	least := math.Inf(-1) // of those that may still be among the best, so that a long tail is not sorted
	for _, r := range rows {
		if r.score <= 0 || r.popularity < least {
			continue
		}
		if best = append(best, r); len(best) >= 2*n+1000 {
			cut()
			least = best[n-1].popularity
		}
	}
	cut()
	for i, r := range best {
		trends = append(trends, schemas.Trend{
			Scope: scope, ScopeValue: value, Rank: schemas.Some(int64(i + 1)), ItemID: w.items[r.item],
			Popularity: schemas.Some(r.popularity), Score: schemas.Some(r.score), Events: schemas.Some[int64](0),
		})
	}
	return trends
}

// count adds to the trends how many events of each type they had.
func (w *window) count(trends []schemas.Trend) {
	byItem := map[string][]*schemas.Trend{}
	for i := range trends {
		byItem[trends[i].ItemID] = append(byItem[trends[i].ItemID], &trends[i])
	}
	for _, p := range w.parts {
		for i, s := range p.rows {
			if i > 0 && p.rows[i-1].item == s.item {
				continue
			}
			of := byItem[p.items[s.item]]
			for k := i; len(of) > 0 && k < len(p.rows) && p.rows[k].item == s.item; k++ {
				for _, t := range of {
					if t.Scope == schemas.ScopeCountry && t.ScopeValue != p.countries[p.rows[k].country] {
						continue
					}
					for _, c := range p.of(k) {
						t.Events.V += int64(c.n)
						schemas.AddNumber(&t.EventsByType, p.types[c.kind], float64(c.n))
					}
				}
			}
		}
	}
	for i := range trends {
		slices.SortFunc(trends[i].EventsByType, func(a, b schemas.Number) int { return strings.Compare(a.Key, b.Key) })
	}
}

// Funnels returns how far each item came, sorted by item. Items of which only other events are known are left out.
func Funnels(parts []*Sums) (all []schemas.Funnel) {
	places := map[string]int{}
	for _, p := range parts {
		steps := make([]int, len(p.types))
		for i, name := range p.types {
			steps[i] = slices.Index(funnelSteps, name)
		}
		for i, s := range p.rows {
			for _, c := range p.of(i) {
				if steps[c.kind] < 0 {
					continue
				}
				n, ok := places[p.items[s.item]]
				if !ok {
					n = len(all)
					places[p.items[s.item]] = n
					zero := schemas.Some[int64](0)
					all = append(all, schemas.Funnel{ItemID: p.items[s.item], Impressions: zero, Views: zero, Clicks: zero, Carts: zero, Purchases: zero})
				}
				f := &all[n]
				[]*schemas.Int{&f.Impressions, &f.Views, &f.Clicks, &f.Carts, &f.Purchases}[steps[c.kind]].V += int64(c.n)
			}
		}
	}
	slices.SortFunc(all, func(a, b schemas.Funnel) int { return strings.Compare(a.ItemID, b.ItemID) })
	for i := range all {
		f := &all[i]
		if shown, clicked := f.Impressions.V, f.Clicks.V; shown > 0 {
			low, high := wilson(min(clicked, shown), shown)
			f.CTR, f.CTRLow, f.CTRHigh = schemas.Some(float64(clicked)/float64(shown)), schemas.Some(low), schemas.Some(high)
		}
	}
	return all
}

// funnelSteps are the event types of a funnel.
var funnelSteps = []string{"impression", "view", "click", "add_to_cart", "purchase"}

// wilson returns the bounds of a proportion k of n at 95 % (E. B. Wilson, Probable inference, JASA 22, 1927).
func wilson(k, n int64) (low, high float64) {
	const z = 1.959963984540054
	size := float64(n)
	p := float64(k) / size
	middle := p + z*z/(2*size)
	half := z * math.Sqrt(p*(1-p)/size+z*z/(4*size*size))
	scale := 1 + z*z/size
	return max(0, (middle-half)/scale), min(1, (middle+half)/scale)
}
