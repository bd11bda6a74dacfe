// Package trending finds the items that most is done with in a window, and how far each of them came.
//
// It works on cells (package digest), which are partial aggregates: a window costs what its cells are, not what its events are, and an
// item that has a third of all events is a cell like any other.
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

// table counts events of items, or of items in one scope.
type table struct {
	types     int
	rows      []row
	countsAll []uint32 // of each row, by type
}

type row struct {
	item              uint32
	popularity, score float64
	events            int64
}

func (t *table) add(item uint32) int {
	t.rows = append(t.rows, row{item: item})
	t.countsAll = append(t.countsAll, make([]uint32, t.types)...)
	return len(t.rows) - 1
}

func (t *table) counts(i int) []uint32 { return t.countsAll[i*t.types : (i+1)*t.types] }

// Window is what a window holds of some cells: one Cells for each partition that it touches, in order. Times are microseconds since
// 1970, of whole minutes.
type Window struct {
	items []string
	types []string
	all   *table
	// countries have a table each.
	countries map[string]*table
}

// Of counts the events in [start, end). o says how much they count; for Funnels alone it may be zero.
func Of(parts []*digest.Cells, start, end int64, o Options) *Window {
	w := &Window{countries: map[string]*table{}}
	for _, p := range parts {
		w.types = append(w.types, p.Types...)
	}
	slices.Sort(w.types)
	w.types = slices.Compact(w.types)
	weights := make([]float64, len(w.types))
	for i, name := range w.types {
		weights[i] = o.Weights[name]
	}
	decay := decays(start, end, o.HalfLife)
	w.all = &table{types: len(w.types)}
	places := map[string]uint32{}       // of items
	rows := map[*table]map[uint32]int{} // places of items in the tables of countries
	for _, p := range parts {
		kinds := make([]int, len(p.Types))
		for i, name := range p.Types {
			kinds[i], _ = slices.BinarySearch(w.types, name)
		}
		tables := make([]*table, len(p.Countries))
		for i, name := range p.Countries {
			if name == "" {
				continue
			}
			if w.countries[name] == nil {
				w.countries[name] = &table{types: len(w.types)}
				rows[w.countries[name]] = map[uint32]int{}
			}
			tables[i] = w.countries[name]
		}
		place, inCountry := uint32(0), 0
		for i, c := range p.List {
			if at := int64(c.Minute) * minute; at < start || at >= end {
				continue
			}
			fresh := i == 0 || p.List[i-1].Item != c.Item
			if fresh || !w.has(place, p.Items[c.Item]) {
				id := p.Items[c.Item]
				n, ok := places[id]
				if !ok {
					n = uint32(w.all.add(uint32(len(w.items))))
					places[id], w.items = n, append(w.items, id)
				}
				place, fresh = n, true
			}
			kind := kinds[c.Type]
			weight := weights[kind] * float64(c.Count)
			decayed := weight * decay[int64(c.Minute)-start/minute]
			w.all.count(int(place), kind, c.Count, weight, decayed)
			t := tables[c.Country]
			if t == nil {
				continue
			}
			if fresh || p.List[i-1].Country != c.Country || inCountry >= len(t.rows) || t.rows[inCountry].item != place {
				n, ok := rows[t][place]
				if !ok {
					n = t.add(place)
					rows[t][place] = n
				}
				inCountry = n
			}
			t.count(inCountry, kind, c.Count, weight, decayed)
		}
	}
	return w
}

func (w *Window) has(place uint32, id string) bool {
	return int(place) < len(w.items) && w.items[place] == id
}

func (t *table) count(i, kind int, n uint32, weight, decayed float64) {
	r := &t.rows[i]
	r.score += weight
	r.popularity += decayed
	r.events += int64(n)
	t.countsAll[i*t.types+kind] += n
}

// decays returns what is left of an event's weight at the end of a window, by its minute.
func decays(start, end int64, halfLife time.Duration) []float64 {
	all := make([]float64, (end-start)/minute)
	for i := range all {
		all[i] = 1
		if halfLife > 0 {
			age := end - start - int64(i)*minute
			all[i] = math.Exp2(-float64(age) / float64(halfLife.Microseconds()))
		}
	}
	return all
}

// Trending returns the most popular items of each scope: of all, of each category, of each country.
func (w *Window) Trending(o Options) (all []schemas.Trend) {
	add := func(scope, value string, t *table, best []int) {
		for i, n := range best {
			r := t.rows[n]
			all = append(all, schemas.Trend{
				Scope: scope, ScopeValue: value, Rank: schemas.Some(int64(i + 1)), ItemID: w.items[r.item],
				Popularity: schemas.Some(r.popularity), Score: schemas.Some(r.score), Events: schemas.Some(r.events),
				EventsByType: w.byType(t.counts(n)),
			})
		}
	}
	every := w.best(w.all, o.Top)
	for i := range w.all.rows {
		every.add(i)
	}
	add(schemas.ScopeAll, "", w.all, every.list())

	if o.Categories != nil {
		best := map[string]*top{}
		for i, r := range w.all.rows {
			for _, c := range o.Categories(w.items[r.item]) {
				if best[c] == nil {
					best[c] = w.best(w.all, o.Top)
				}
				best[c].add(i)
			}
		}
		for _, c := range slices.Sorted(maps.Keys(best)) {
			add(schemas.ScopeCategory, c, w.all, best[c].list())
		}
	}
	for _, c := range slices.Sorted(maps.Keys(w.countries)) {
		t := w.countries[c]
		best := w.best(t, o.Top)
		for i := range t.rows {
			best.add(i)
		}
		add(schemas.ScopeCountry, c, t, best.list())
	}
	return all
}

func (w *Window) byType(counts []uint32) []schemas.Number {
	var numbers []schemas.Number
	for i, n := range counts {
		if n > 0 {
			numbers = append(numbers, schemas.Number{Key: w.types[i], Value: float64(n)})
		}
	}
	return numbers
}

// top keeps the best rows of a table.
type top struct {
	window *Window
	table  *table
	n      int
	places []int // sorted and cut whenever there are twice as many as are kept
}

func (w *Window) best(t *table, n int) *top { return &top{window: w, table: t, n: n} }

// add takes a row, if it has any score.
func (b *top) add(place int) {
	if b.table.rows[place].score <= 0 {
		return
	}
	if b.places = append(b.places, place); len(b.places) >= 2*b.n {
		b.list()
	}
}

// list returns the best so far, by popularity and then by id.
func (b *top) list() []int {
	slices.SortFunc(b.places, func(i, k int) int {
		x, y := b.table.rows[i], b.table.rows[k]
		return cmp.Or(cmp.Compare(y.popularity, x.popularity), cmp.Compare(b.window.items[x.item], b.window.items[y.item]))
	})
	b.places = b.places[:min(b.n, len(b.places))]
	return b.places
}

// Funnels returns how far each item came, sorted by item. Items of which nothing is known but other events are left out.
func (w *Window) Funnels() (all []schemas.Funnel) {
	kind := func(name string) int {
		n, ok := slices.BinarySearch(w.types, name)
		if !ok {
			return -1
		}
		return n
	}
	kinds := [5]int{kind("impression"), kind("view"), kind("click"), kind("add_to_cart"), kind("purchase")}
	order := make([]int, len(w.items))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(w.items[a], w.items[b]) })
	for _, i := range order {
		var n [5]int64
		counts := w.all.counts(i)
		for k, place := range kinds {
			if place >= 0 {
				n[k] = int64(counts[place])
			}
		}
		if n == [5]int64{} {
			continue
		}
		f := schemas.Funnel{
			ItemID: w.items[i], Impressions: schemas.Some(n[0]), Views: schemas.Some(n[1]), Clicks: schemas.Some(n[2]),
			Carts: schemas.Some(n[3]), Purchases: schemas.Some(n[4]),
		}
		if shown, clicked := n[0], n[2]; shown > 0 {
			low, high := wilson(min(clicked, shown), shown)
			f.CTR, f.CTRLow, f.CTRHigh = schemas.Some(float64(clicked)/float64(shown)), schemas.Some(low), schemas.Some(high)
		}
		all = append(all, f)
	}
	return all
}

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
