// Package decode makes rows of records by a mapping.
//
// A record is one JSON value or one line of CSV; it becomes one row, or several where the mapping explodes an
// array. What can't become a row is reported with a code and the path of the field at fault.
//
// # Guarantees
//
// Decoding is strict: it never guesses. Input that is not well-formed JSON (RFC 8259), holds bytes that are not
// UTF-8 or lone surrogates, has a key twice in one object at any level (RFC 7493), or nests deeper than the
// limit is refused. Fields that the mapping does not know are kept in the row's extra map as JSON text.
//
// Each event of a record is handed out once: as a row or as an error.
//
// The order of a record's members changes nothing but the order of extra: of several paths, and of entries of one name, the
// mapping says which comes first. Values that are not taken are checked as the others are.
//
// # Limits
//
// Records of any size up to what the source lets through; nesting MaxDepth; 1,000 elements of an array, but for
// embeddings and exploded ones; extra MaxExtra entries and
// MaxExtraBytes bytes a row, what is over is left out and counted. IP addresses in unknown fields are replaced,
// since raw addresses are never stored.
package decode

import (
	"fmt"
	"sort"
	"strings"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/source"
)

// The limits on one record.
const (
	MaxDepth      = 64
	MaxExtra      = 64
	MaxExtraBytes = 16 << 10
	maxList       = 1000 // elements of a list column
)

// Decoder makes rows of records. It is used by one goroutine at a time.
type Decoder[R any] interface {
	// Decode calls out once for each event of the record: with the filled row, or with what is wrong with it.
	// The row is fresh (zero but for what prepare sets) and is used again after out returns; its strings may
	// alias the record.
	Decode(rec *source.Record, out func(row *R, err *schemas.FieldError))
	// Dropped returns how many unknown fields were left out of extra so far.
	Dropped() int64
}

// New returns the decoder of a mapping into a table. Rows are made fresh by reset.
func New[R any](m *mappings.Mapping, table *schemas.Table[R], reset func(*R)) (Decoder[R], error) {
	plan, err := compile(m, table)
	if err != nil {
		return nil, fmt.Errorf("mapping %q: %w", m.Name, err)
	}
	plan.reset = reset
	switch m.Format {
	case mappings.CSV, mappings.TSV:
		return &csvDecoder[R]{plan: plan}, nil
	default:
		return &jsonDecoder[R]{plan: plan}, nil
	}
}

// plan is a compiled mapping.
type plan[R any] struct {
	mapping *mappings.Mapping
	table   *schemas.Table[R]
	root    *node[R]
	element *node[R] // of the exploded array, nil if the mapping explodes none
	groups  []*group[R]
	presets []*target[R]
	ofItems []*target[R] // presets of each element of items
	idParts int
	eventID func(*R) *string
	synth   func(*R) *schemas.Bool
	offset  func(*R) *schemas.Int // time zone of the event time
	reset   func(*R)

	gathered *gathered[R] // values that are placed when all of the record is read
}

// node is a place in a record: an object with fields, an array with an element, or a value with targets.
type node[R any] struct {
	name     string
	path     string // of an object, without the numbers of elements
	children []*node[R]
	index    map[string]int // used where there are many children
	elem     *node[R]
	targets  []*target[R]
	id       int  // 1 + number of the part of the event id that this value is; 0: none
	ignore   bool // known, but neither mapped nor kept
	keep     bool // part of the event id, in no column: goes to extra too
	explode  bool
	items    func(*R) *[]schemas.LineItem // this array fills a list of items
	list     bool                         // all targets are lists, which an array of texts fills
	each     bool                         // the elements of this array fill columns by themselves
	named    []*group[R]                  // each element of this array is an entry of a map: their names
	whole    []*target[R]                 // this object's members are the entries of maps
}

func (n *node[R]) child(name string) *node[R] {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	c := &node[R]{name: name}
	n.children = append(n.children, c)
	return c
}

// find returns the index of the child of that name. It tries guess and the next ones first, since producers write
// their keys in the same order each time, and leave some out.
func (n *node[R]) find(name []byte, guess int) int {
	for i := guess; i < len(n.children) && i < guess+6; i++ {
		if n.children[i].name == string(name) {
			return i
		}
	}
	if n.index != nil {
		if i, ok := n.index[string(name)]; ok {
			return i
		}
		return -1
	}
	for i, c := range n.children {
		if c.name == string(name) {
			return i
		}
	}
	return -1
}

// target is a column that a value goes to, and how.
type target[R any] struct {
	column  schemas.Column[R]
	item    *schemas.Column[schemas.LineItem] // set instead where the column is one of an element of items
	kind    schemas.Kind
	field   mappings.Field
	unit    unit
	convert bool // from other JSON types
	isEvent bool // the event time, whose offset is the user's time zone
	special bool // what is found is not put into the row as it is
	change  *change
	group   *group[R] // set where the value is gathered
	rank    int       // of the path among those of the group
	isKey   bool      // the value is the name of an entry of the group
}

func compile[R any](m *mappings.Mapping, table *schemas.Table[R]) (*plan[R], error) {
	p := &plan[R]{mapping: m, table: table, root: &node[R]{}, gathered: &gathered[R]{}}
	if c, ok := table.Column("event_id"); ok {
		p.eventID = c.Str
	}
	if c, ok := table.Column("lineage.synthetic_id"); ok {
		p.synth = c.Bool
	}
	if c, ok := table.Column("context.tz_offset_min"); ok {
		p.offset = c.Int
	}
	if m.Explode != "" {
		n, err := p.at(m.Explode + "[]")
		if err != nil {
			return nil, err
		}
		p.element = n
	}
	columns := make([]string, 0, len(m.Fields))
	for name := range m.Fields {
		columns = append(columns, name)
	}
	sort.Slice(columns, func(i, j int) bool {
		a, b := order(table, columns[i]), order(table, columns[j])
		return a < b || a == b && columns[i] < columns[j]
	})
	for _, name := range columns {
		if err := p.add(name, m.Fields[name]); err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
	}
	for _, path := range m.EventID {
		n, err := p.at(path)
		if err != nil {
			return nil, fmt.Errorf("event_id: %w", err)
		}
		if n.id == 0 {
			p.idParts++
			n.id = p.idParts
		}
	}
	for _, path := range m.Ignore {
		n, err := p.at(path)
		if err != nil {
			return nil, fmt.Errorf("ignore: %w", err)
		}
		n.ignore = true
	}
	if err := p.root.finish(m.Explode != "", p.element); err != nil {
		return nil, err
	}
	p.gathered.sortGroups(p.groups)
	return p, nil
}

// order keeps the children of a node in the order of the table, which is a producer's likely order too.
func order[R any](table *schemas.Table[R], column string) int {
	base, _, _ := strings.Cut(column, "[]")
	for i, c := range table.Columns {
		if c.Name == base {
			return i
		}
	}
	if c, entry := columnOf(table, column); entry != "" {
		return order(table, c.Name)
	}
	return len(table.Columns)
}

// columnOf returns the column of a name: one of the table, or the map of an entry such as "attributes.color", and which entry.
func columnOf[R any](table *schemas.Table[R], name string) (c schemas.Column[R], entry string) {
	if c, ok := table.Column(name); ok {
		return c, ""
	}
	base, entry, _ := strings.Cut(name, ".")
	if c, ok := table.Column(base); ok && (c.Kind == schemas.Map || c.Kind == schemas.Numbers) && !c.System {
		return c, entry
	}
	return schemas.Column[R]{}, ""
}

// at returns the node of a path such as "a.b" or "events[].aid", making what is missing.
func (p *plan[R]) at(path string) (*node[R], error) {
	n := p.root
	for part := range strings.SplitSeq(path, ".") {
		name, isArray := strings.CutSuffix(part, "[]")
		if name == "" || strings.ContainsAny(name, "[]") {
			return nil, fmt.Errorf("path %q: %q is not the name of a field", path, part)
		}
		n = n.child(name)
		if isArray {
			if n.elem == nil {
				n.elem = &node[R]{}
			}
			n = n.elem
		}
	}
	return n, nil
}

func (p *plan[R]) add(name string, f mappings.Field) error {
	t := &target[R]{field: f, convert: !p.mapping.Strict}
	entry := ""
	if sub, ok := strings.CutPrefix(name, "items[]."); ok {
		list, found := p.table.Column("items")
		i := indexOf(schemas.LineItemColumns, sub)
		if !found || i < 0 {
			return fmt.Errorf("no such column")
		}
		t.item, t.kind = &schemas.LineItemColumns[i], schemas.LineItemColumns[i].Kind
		if f.Path == "" {
			return fmt.Errorf("a column of items needs a path")
		}
		at := strings.LastIndex(f.Path, "[]") // an exploded array may be around it
		if at >= 0 && at+len("[]") == len(f.Path) {
			return fmt.Errorf("path %q has no field of the element", f.Path)
		}
		if at >= 0 {
			n, err := p.at(f.Path[:at])
			if err != nil {
				return err
			}
			n.items = list.Items
		}
	} else {
		t.column, entry = columnOf(p.table, name)
		if t.kind = t.column.Kind; t.kind == 0 {
			return fmt.Errorf("no such column")
		}
		t.isEvent = name == "event_time"
	}
	var err error
	if t.unit, err = parseUnit(f.Unit, t.kind); err != nil {
		return err
	}
	if t.change, err = compileChange(f); err != nil {
		return err
	}
	t.special = f.Values != nil || t.change != nil
	paths := f.All()
	if t.gathers(p.mapping, paths) {
		t.special = true
		t.group = &group[R]{field: f, column: t.column, entry: entry, places: p.gathered}
		p.groups = append(p.groups, t.group)
	}
	if f.Const != "" || f.Default != "" {
		if t.item != nil {
			p.ofItems = append(p.ofItems, t)
		} else {
			p.presets = append(p.presets, t)
		}
	}
	for rank, path := range paths {
		if at := strings.LastIndex(path, "[]"); p.eventID != nil && t.item == nil && t.kind != schemas.Strings && at >= 0 && path[:at] != p.mapping.Explode {
			return fmt.Errorf("array %q: its elements fill neither items nor events of their own: map them to items[], or name it in explode", path[:at])
		}
		n, err := p.at(path)
		if err != nil {
			return err
		}
		ranked := *t
		ranked.rank = rank
		if (t.kind == schemas.Map || t.kind == schemas.Numbers) && entry == "" && f.Key == "" {
			n.whole = append(n.whole, &ranked)
			continue
		}
		n.targets = append(n.targets, &ranked)
	}
	if f.Key != "" {
		return p.addKey(t)
	}
	return nil
}

// addKey makes the names of entries known to the array whose elements they name.
func (p *plan[R]) addKey(t *target[R]) error {
	at := strings.LastIndex(t.field.Key, "[]")
	if at < 0 || !strings.HasPrefix(t.field.Path, t.field.Key[:at]+"[].") {
		return fmt.Errorf("key %q: path %q is not within the same array", t.field.Key, t.field.Path)
	}
	array, err := p.at(t.field.Key[:at])
	if err != nil {
		return err
	}
	array.named = append(array.named, t.group)
	n, err := p.at(t.field.Key)
	if err != nil {
		return err
	}
	n.targets = append(n.targets, &target[R]{kind: schemas.String, convert: t.convert, special: true, group: t.group, isKey: true})
	return nil
}

func indexOf[R any](columns []schemas.Column[R], name string) int {
	for i, c := range columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

// finish checks the tree and makes it ready to use.
func (n *node[R]) finish(exploding bool, element *node[R]) error {
	n.keep = n.id > 0 && len(n.targets) == 0 && !n.ignore
	n.list = len(n.targets) > 0
	for _, t := range n.targets {
		n.list = n.list && t.kind == schemas.Strings
	}
	if len(n.children) > 64 {
		return fmt.Errorf("%d fields in one object: 64 are possible", len(n.children))
	}
	if len(n.children) > 8 {
		n.index = make(map[string]int, len(n.children))
		for i, c := range n.children {
			n.index[c.name] = i
		}
	}
	if n.elem != nil {
		n.explode = exploding && n.elem == element
		n.elem.path = n.path + "[]"
		n.each = n.items == nil && !n.explode && !hasIDs(n.elem)
		if n.each && len(n.targets) > 0 {
			return fmt.Errorf("array %q is mapped as a whole and by its elements: write %q in both places", n.name, n.name+"[]")
		}
		if err := n.elem.finish(exploding, element); err != nil {
			return err
		}
	}
	for _, c := range n.children {
		c.path = join(n.path, c.name)
		if err := c.finish(exploding, element); err != nil {
			return err
		}
	}
	return nil
}

// hasIDs tells if a value in n is part of the event id: of an array there is no one value that could be.
func hasIDs[R any](n *node[R]) bool {
	if n.id > 0 {
		return true
	}
	for _, c := range n.children {
		if hasIDs(c) {
			return true
		}
	}
	return n.elem != nil && hasIDs(n.elem)
}

// begin makes row fresh and fills constants and defaults.
func (p *plan[R]) begin(row *R) *schemas.FieldError {
	p.reset(row)
	p.gathered.reset()
	return p.preset(p.presets, row, nil)
}

// preset fills constants and defaults. They are values of the column, so the mapping's values do not translate them.
func (p *plan[R]) preset(targets []*target[R], row *R, item *schemas.LineItem) *schemas.FieldError {
	for _, t := range targets {
		text := t.field.Const
		if text == "" {
			text = t.field.Default
		}
		if code, message := t.put(row, item, text, p.offset); code != "" {
			return &schemas.FieldError{Path: t.field.Path, Code: code, Message: "constant or default of the mapping: " + message}
		}
	}
	return nil
}
