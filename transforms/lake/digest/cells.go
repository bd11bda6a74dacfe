package digest

import (
	"cmp"
	"slices"
)

// Cell is how many events of a type an item had in a minute from a country. Item, Country and Type are places in the dictionaries of
// Cells.
type Cell struct {
	Item    uint32
	Country uint16
	Type    uint16
	Minute  int32 // since 1970
	Count   uint32
}

func (c Cell) compare(o Cell) int {
	if c.Item != o.Item {
		return cmp.Compare(c.Item, o.Item)
	}
	if c.Country != o.Country {
		return cmp.Compare(c.Country, o.Country)
	}
	if c.Minute != o.Minute {
		return cmp.Compare(c.Minute, o.Minute)
	}
	return cmp.Compare(c.Type, o.Type)
}

// Cells are the cells of some files, with sorted dictionaries, sorted by item, country, minute and type. The same events make the
// same Cells, however they are spread over files.
type Cells struct {
	Items, Countries, Types []string
	List                    []Cell
}

// Cells returns the cells of the digest.
func (d *Digest) Cells() *Cells {
	c := &Cells{List: make([]Cell, len(d.cells))}
	var item, country, kind []uint32
	c.Items, item = sortedPlaces(d.items)
	c.Countries, country = sortedPlaces(d.countries)
	c.Types, kind = sortedPlaces(d.types)
	for i, p := range d.cells {
		c.List[i] = Cell{
			Item: item[p.item()], Country: uint16(country[p.country()]), Type: uint16(kind[p.kind()]),
			Minute: int32(d.first + p.since()), Count: p.count,
		}
	}
	slices.SortFunc(c.List, Cell.compare)
	return c
}

// sortedPlaces sorts a dictionary, and returns where each of its texts is then.
func sortedPlaces(list []string) (sorted []string, place []uint32) {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(list[a], list[b]) })
	sorted, place = make([]string, len(list)), make([]uint32, len(list))
	for at, i := range order {
		sorted[at], place[i] = list[i], uint32(at)
	}
	return sorted, place
}

// Bytes returns how much memory the cells take.
func (c *Cells) Bytes() int64 {
	n := int64(16 * cap(c.List))
	for _, list := range [][]string{c.Items, c.Countries, c.Types} {
		for _, s := range list {
			n += int64(len(s)) + 16
		}
	}
	return n
}

// Merge returns the cells of both. Neither is changed.
func Merge(a, b *Cells) *Cells {
	out := &Cells{List: make([]Cell, 0, len(a.List)+len(b.List))}
	var itemA, itemB, countryA, countryB, typeA, typeB []uint32
	out.Items, itemA, itemB = union(a.Items, b.Items)
	out.Countries, countryA, countryB = union(a.Countries, b.Countries)
	out.Types, typeA, typeB = union(a.Types, b.Types)
	moved := func(c Cell, item, country, kind []uint32) Cell {
		c.Item, c.Country, c.Type = item[c.Item], uint16(country[c.Country]), uint16(kind[c.Type])
		return c
	}
	for i, k := 0, 0; i < len(a.List) || k < len(b.List); {
		if i == len(a.List) {
			out.List = append(out.List, moved(b.List[k], itemB, countryB, typeB))
			k++
			continue
		}
		x := moved(a.List[i], itemA, countryA, typeA)
		if k == len(b.List) {
			out.List = append(out.List, x)
			i++
			continue
		}
		y := moved(b.List[k], itemB, countryB, typeB)
		switch order := x.compare(y); {
		case order < 0:
			out.List = append(out.List, x)
			i++
		case order > 0:
			out.List = append(out.List, y)
			k++
		default:
			x.Count += y.Count
			out.List = append(out.List, x)
			i++
			k++
		}
	}
	return out
}

// union merges two sorted dictionaries, and returns where the texts of each are then.
func union(a, b []string) (out []string, placeA, placeB []uint32) {
	placeA, placeB = make([]uint32, len(a)), make([]uint32, len(b))
	for i, k := 0, 0; i < len(a) || k < len(b); {
		n := uint32(len(out))
		switch {
		case k == len(b) || i < len(a) && a[i] < b[k]:
			out, placeA[i] = append(out, a[i]), n
			i++
		case i == len(a) || b[k] < a[i]:
			out, placeB[k] = append(out, b[k]), n
			k++
		default:
			out, placeA[i], placeB[k] = append(out, a[i]), n, n
			i++
			k++
		}
	}
	return out, placeA, placeB
}
