package decode

import (
	"slices"
	"strings"

	"backbone/schemas"
	"backbone/schemas/mappings"
)

// gathered holds the values of a record that are placed when all of it is read: which of several is taken, and what an entry is
// called, is not known before.
type gathered[R any] struct {
	values  []value[R]
	sorted  []value[R] // place's own
	scratch R          // to which values are put to see if they are right

	isNumber bool // the value that comes is a JSON number, which is written in one way only
}

// value is a right value of a group.
type value[R any] struct {
	group    *group[R]
	rank     int
	key      string // of an entry
	text     string
	currency string // of an amount
}

// group is a field whose values are gathered: of several paths, of elements of an array, of entries of a map, or an amount of money.
type group[R any] struct {
	field  mappings.Field
	column schemas.Column[R]
	entry  string // the one entry of a map that is filled
	order  int    // in which groups are placed
	places *gathered[R]

	key string // of the element that is being read
}

// gathers tells if the values of a column are gathered.
func (t *target[R]) gathers(m *mappings.Mapping, paths []string) bool {
	if t.item != nil {
		return false
	}
	if t.kind == schemas.Map || t.kind == schemas.Numbers || t.field.Money || len(paths) > 1 {
		return true
	}
	for _, path := range paths {
		if m.Explode != "" {
			path = strings.TrimPrefix(path, m.Explode+"[].")
		}
		if strings.Contains(path, "[]") {
			return true
		}
	}
	return false
}

// sortGroups gives the groups their order. Of two entries of one name the first is kept: those that the mapping names come before those
// that the record names. Amounts come last, when the currency is known.
func (g *gathered[R]) sortGroups(groups []*group[R]) {
	for i, group := range groups {
		group.order = i
		switch isMap := group.column.Kind == schemas.Map || group.column.Kind == schemas.Numbers; {
		case group.field.Money:
			group.order += 2 * len(groups)
		case isMap && group.entry == "":
			group.order += len(groups)
		}
	}
}

func (g *gathered[R]) reset() { g.values = g.values[:0] }

// add takes a value of t, if it is right.
func (t *target[R]) add(key, text string, offset func(*R) *schemas.Int) (schemas.Code, string) {
	g := t.group.places
	v := value[R]{group: t.group, rank: t.rank, key: key, text: text}
	switch t.kind {
	case schemas.String, schemas.Strings, schemas.Map:
		if text == "" {
			return "", ""
		}
	case schemas.Numbers:
		if _, code, message := number(text); code != "" {
			return code, message
		}
	default:
		if t.field.Money && !g.isNumber {
			var ok bool
			if v.text, v.currency, ok = parseMoney(text); !ok {
				return schemas.CodeWrongType, quote(text) + " is no amount of money, or it may be read in several ways"
			}
		}
		if code, message := t.put(&g.scratch, nil, v.text, offset); code != "" {
			return code, message
		}
	}
	g.values = append(g.values, v)
	return "", ""
}

// begin begins the next element of an array whose elements are entries.
func (g *group[R]) begin() int {
	g.key = ""
	return len(g.places.values)
}

// end gives the values that were found since begin their name. It returns false where they have none.
func (g *group[R]) end(from int) bool {
	named := true
	for i := range g.places.values[from:] {
		if v := &g.places.values[from+i]; v.group == g {
			v.key = g.key
			named = named && g.key != ""
		}
	}
	return named
}

// place fills the row with what was gathered.
func (p *plan[R]) place(row *R) *schemas.FieldError {
	g := p.gathered
	if len(g.values) == 0 {
		return nil
	}
	g.sorted = append(g.sorted[:0], g.values...)
	slices.SortStableFunc(g.sorted, func(a, b value[R]) int {
		if a.group != b.group {
			return a.group.order - b.group.order
		}
		return a.rank - b.rank
	})
	for i := 0; i < len(g.sorted); {
		n := i + 1
		for n < len(g.sorted) && g.sorted[n].group == g.sorted[i].group {
			n++
		}
		if err := p.placeGroup(row, g.sorted[i].group, g.sorted[i:n]); err != nil {
			return err
		}
		i = n
	}
	return nil
}

// placeGroup fills a column with the values of one group.
func (p *plan[R]) placeGroup(row *R, g *group[R], values []value[R]) *schemas.FieldError {
	t := target[R]{column: g.column, kind: g.column.Kind, field: g.field, group: g}
	var err error
	if t.unit, err = parseUnit(g.field.Unit, t.kind); err != nil {
		return &schemas.FieldError{Path: g.path(), Code: schemas.CodeInvalid, Message: err.Error()}
	}
	t.isEvent = g.column.Name == "event_time"
	if g.field.Default != "" {
		g.clearDefault(row)
	}
	switch t.kind {
	case schemas.Strings:
		list := g.column.List(row)
		for _, v := range values {
			*list = append(*list, v.text)
		}
	case schemas.Map:
		g.placePairs(row, values)
	case schemas.Numbers:
		g.placeNumbers(row, values)
	default:
		if code, message := t.put(row, nil, values[0].text, p.offset); code != "" {
			return &schemas.FieldError{Path: g.path(), Code: code, Message: message}
		}
		return p.placeCurrency(row, g, values[0].currency)
	}
	return nil
}

// path names the group in errors.
func (g *group[R]) path() string { return g.field.All()[0] }

// clearDefault takes the mapping's default out of a list or of an entry. The list itself may be shared with other rows.
func (g *group[R]) clearDefault(row *R) {
	switch g.column.Kind {
	case schemas.Strings:
		*g.column.List(row) = nil
	case schemas.Map:
		pairs := g.column.Map(row)
		*pairs = slices.DeleteFunc(slices.Clone(*pairs), func(p schemas.Pair) bool { return p.Key == g.entry })
	case schemas.Numbers:
		numbers := g.column.Numbers(row)
		*numbers = slices.DeleteFunc(slices.Clone(*numbers), func(n schemas.Number) bool { return n.Key == g.entry })
	}
}

// placePairs adds entries. What is in the map already, of another group, is kept. There is no end to what one record may hold, but to
// what the rules let through: the rest is left out.
func (g *group[R]) placePairs(row *R, values []value[R]) {
	pairs := g.column.Map(row)
	before, rank := len(*pairs), values[0].rank
	for _, v := range values {
		key := v.key
		if g.entry != "" {
			if key = g.entry; v.rank != rank {
				return
			}
		}
		switch i := slices.IndexFunc(*pairs, func(p schemas.Pair) bool { return p.Key == key }); {
		case i < 0 && len(*pairs) <= schemas.MaxAttributes:
			*pairs = append(*pairs, schemas.Pair{Key: key, Value: v.text})
		case i >= before && len((*pairs)[i].Value) <= schemas.MaxAttribute:
			(*pairs)[i].Value += ", " + v.text
		}
	}
}

func (g *group[R]) placeNumbers(row *R, values []value[R]) {
	numbers := g.column.Numbers(row)
	for _, v := range values {
		key := v.key
		if g.entry != "" {
			key = g.entry
		}
		known := slices.ContainsFunc(*numbers, func(n schemas.Number) bool { return n.Key == key })
		if f, _, _ := number(v.text); !known && len(*numbers) <= schemas.MaxAttributes {
			*numbers = append(*numbers, schemas.Number{Key: key, Value: f})
		}
	}
}

// placeCurrency fills the currency of an amount that says one.
func (p *plan[R]) placeCurrency(row *R, g *group[R], code string) *schemas.FieldError {
	c, ok := p.table.Column("currency")
	if code == "" || !ok {
		return nil
	}
	switch has := c.Str(row); {
	case *has == "" || *has == p.mapping.Fields["currency"].Default:
		*has = code
	case *has != code:
		return &schemas.FieldError{Path: g.path(), Code: schemas.CodeWrongType, Message: "the amount is in " + code + ", the currency is " + quote(*has)}
	}
	return nil
}
