package decode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"backbone/schemas"
	"backbone/transforms/source"
)

// jsonDecoder reads a record once, from its first byte to its last, and puts each value where the plan says. What is
// rare (escapes in strings) is handed to package jsontext.
type jsonDecoder[R any] struct {
	plan    *plan[R]
	b       []byte
	i       int
	row     *R
	rows    [2]R // the record's own row, and the one of an exploded element
	item    *schemas.LineItem
	index   int   // of item
	at      []int // elements of the arrays around, as far as these fill columns by themselves
	id      identity
	err     *schemas.FieldError
	arena   []byte   // unescaped strings of this record
	keys    [][]byte // unknown keys of the objects that are open
	spans   []span   // elements of the exploded array
	extra   int      // bytes kept in extra
	address bool     // the value just skipped holds an IP address
	dropped int64
}

type span struct{ start, end int }

func (d *jsonDecoder[R]) Dropped() int64 { return d.dropped }

func (d *jsonDecoder[R]) Decode(rec *source.Record, out func(*R, *schemas.FieldError)) {
	if rec.Err != nil {
		out(nil, asFieldError(rec.Err))
		return
	}
	p := d.plan
	d.b, d.i, d.err, d.arena, d.extra = rec.Data, 0, nil, d.arena[:0], 0
	d.keys, d.spans, d.item, d.at = d.keys[:0], d.spans[:0], nil, d.at[:0]
	d.id.begin(p.idParts)
	d.row = &d.rows[0]
	if err := p.begin(d.row); err != nil {
		out(nil, err)
		return
	}
	if !d.record() {
		out(nil, d.err)
		return
	}
	if p.element == nil {
		if err := p.place(d.row); err != nil {
			out(nil, err)
			return
		}
		p.identify(d.row, &d.id, rec.Data)
		out(d.row, nil)
		return
	}
	d.explode(rec, out)
}

// record reads the whole record.
func (d *jsonDecoder[R]) record() bool {
	if !utf8.Valid(d.b) {
		return d.fail(schemas.CodeUTF8, "the record holds bytes that are not UTF-8")
	}
	d.space()
	if d.i == len(d.b) {
		return d.fail(schemas.CodeSyntax, "the record is empty")
	}
	if d.b[d.i] != '{' {
		if d.skip(0) && d.end() {
			d.fail(schemas.CodeWrongType, "the record is not a JSON object")
		}
		return false
	}
	return d.object(d.plan.root, 0) && d.end()
}

// explode makes an event of each element of the mapping's array.
func (d *jsonDecoder[R]) explode(rec *source.Record, out func(*R, *schemas.FieldError)) {
	if len(d.spans) == 0 {
		out(nil, &schemas.FieldError{Path: d.plan.mapping.Explode, Code: schemas.CodeMissing, Message: "the record has no events in it"})
		return
	}
	extra, gathered := d.extra, len(d.plan.gathered.values)
	var shared [16]string
	parts := append(shared[:0], d.id.parts...)
	for n, s := range d.spans {
		d.rows[1] = d.rows[0]
		d.row = &d.rows[1]
		d.err, d.extra, d.keys, d.item, d.at = nil, extra, d.keys[:0], nil, d.at[:0]
		d.plan.gathered.values = d.plan.gathered.values[:gathered]
		copy(d.id.parts, parts)
		d.id.element = n
		whole := d.b
		d.b, d.i = whole[:s.end], s.start
		ok := d.value(d.plan.element, 1)
		d.b = whole
		if !ok {
			d.within(fmt.Sprintf("%s[%d]", d.plan.mapping.Explode, n))
			out(nil, d.err)
			continue
		}
		if err := d.plan.place(d.row); err != nil {
			out(nil, err)
			continue
		}
		d.plan.identify(d.row, &d.id, rec.Data)
		out(d.row, nil)
	}
}

func (d *jsonDecoder[R]) end() bool {
	d.space()
	if d.i < len(d.b) {
		return d.fail(schemas.CodeSyntax, fmt.Sprintf("more bytes after the record's end, at byte %d", d.i))
	}
	return true
}

// fail notes what is wrong with the value being read. Its path is put together on the way out, by within.
func (d *jsonDecoder[R]) fail(code schemas.Code, message string) bool {
	if d.err == nil {
		d.err = &schemas.FieldError{Code: code, Message: message}
	}
	return false
}

// within says that what failed is within a field, or within an element such as "[2]". It returns false.
func (d *jsonDecoder[R]) within(outer string) bool {
	d.err.Path = join(outer, d.err.Path)
	return false
}

// join appends to a path.
func join(outer, inner string) string {
	if outer == "" || inner == "" || inner[0] == '[' {
		return outer + inner
	}
	return outer + "." + inner
}

func (d *jsonDecoder[R]) syntax(want string) bool {
	if d.i >= len(d.b) {
		return d.fail(schemas.CodeSyntax, "the record ends where "+want+" is wanted")
	}
	return d.fail(schemas.CodeSyntax, fmt.Sprintf("%q at byte %d where %s is wanted", d.b[d.i], d.i, want))
}

func (d *jsonDecoder[R]) space() {
	for d.i < len(d.b) && d.b[d.i] <= ' ' && (d.b[d.i] == ' ' || d.b[d.i] == '\t' || d.b[d.i] == '\n' || d.b[d.i] == '\r') {
		d.i++
	}
}

// next skips space and takes c if it comes next.
func (d *jsonDecoder[R]) next(c byte) bool {
	if d.i < len(d.b) && d.b[d.i] == c {
		d.i++
		return true
	}
	d.space()
	if d.i < len(d.b) && d.b[d.i] == c {
		d.i++
		return true
	}
	return false
}

// object reads an object whose first byte comes next. It checks for keys that come twice: known ones by a bit each,
// unknown ones by a list.
func (d *jsonDecoder[R]) object(n *node[R], depth int) bool {
	if depth >= MaxDepth {
		return d.fail(schemas.CodeTooDeep, fmt.Sprintf("nested deeper than %d", MaxDepth))
	}
	d.i++ // {
	if d.next('}') {
		return true
	}
	var seen uint64
	mark, guess := len(d.keys), 0
	for {
		d.space()
		name, ok := d.str("a key")
		if !ok {
			return false
		}
		child := n.find(name, guess)
		if child >= 0 {
			guess = child + 1
			c := n.children[child]
			if seen&(1<<child) != 0 {
				d.fail(schemas.CodeDuplicateKey, "the key comes twice")
				return d.within(c.name)
			}
			seen |= 1 << child
			if !d.colon() {
				return d.within(c.name)
			}
			start := d.i
			if !d.value(c, depth+1) {
				return d.within(c.name)
			}
			if c.keep {
				d.address = schemas.IsAddress(d.id.parts[c.id-1])
				d.keep(n, name, d.b[start:d.i])
			}
		} else if !d.unknown(n, name, mark, depth) {
			return false
		}
		if d.next(',') {
			continue
		}
		if d.next('}') {
			d.keys = d.keys[:mark]
			return true
		}
		return d.syntax("',' or '}'")
	}
}

func (d *jsonDecoder[R]) colon() bool {
	if !d.next(':') {
		return d.syntax("':'")
	}
	d.space()
	return true
}

// once notes an unknown key of the object whose keys begin at mark.
func (d *jsonDecoder[R]) once(name []byte, mark int) bool {
	for _, k := range d.keys[mark:] {
		if bytes.Equal(k, name) {
			d.fail(schemas.CodeDuplicateKey, "the key comes twice")
			return d.within(string(name))
		}
	}
	if len(d.keys)-mark >= 4096 {
		return d.fail(schemas.CodeTooLarge, "more than 4096 unknown keys in one object")
	}
	d.keys = append(d.keys, name)
	return true
}

// unknown keeps a field that the mapping does not know as JSON text in extra.
func (d *jsonDecoder[R]) unknown(n *node[R], name []byte, mark, depth int) bool {
	if !d.once(name, mark) || !d.colon() {
		return false
	}
	start := d.i
	d.address = false
	if n.whole != nil && d.i < len(d.b) && d.b[d.i] != '{' && d.b[d.i] != '[' {
		return d.member(n, name)
	}
	if !d.skip(depth + 1) {
		return d.within(string(name))
	}
	if n.whole != nil && d.plan.mapping.Strict {
		d.fail(schemas.CodeWrongType, "a single value is wanted in a map")
		return d.within(string(name))
	}
	d.keep(n, name, d.b[start:d.i])
	return true
}

// keep puts a field of n into extra, as far as there is room. The value is JSON text.
func (d *jsonDecoder[R]) keep(n *node[R], name, value []byte) {
	if d.plan.table.Extra == nil {
		return
	}
	if d.address {
		value = removeAddresses(value)
	}
	if schemas.IsAddress(alias(name)) {
		name = []byte(schemas.AddressRemoved)
	}
	path := join(n.path, alias(name))
	if d.item != nil {
		at := strings.LastIndex(n.path, "[]")
		path = join(fmt.Sprintf("%s[%d]%s", n.path[:at], d.index, n.path[at+len("[]"):]), alias(name))
	} else if len(d.at) > 0 {
		path = join(d.place(n.path), alias(name))
	}
	list := d.plan.table.Extra(d.row)
	for i := range *list {
		if (*list)[i].Key == path { // such as of a.b and of b within a: the keys of a map must differ
			d.dropped++
			return
		}
	}
	if len(*list) >= MaxExtra || d.extra+len(path)+len(value) > MaxExtraBytes {
		d.dropped++
		return
	}
	d.extra += len(path) + len(value)
	*list = append(*list, schemas.Pair{Key: path, Value: alias(value)})
}

// place puts the numbers of elements into a path, from its end.
func (d *jsonDecoder[R]) place(path string) string {
	for i := len(d.at) - 1; i >= 0; i-- {
		at := strings.LastIndex(path, "[]")
		if at < 0 {
			break
		}
		path = fmt.Sprintf("%s[%d]%s", path[:at], d.at[i], path[at+len("[]"):])
	}
	return path
}

// member reads a scalar that is an entry of the maps that an object fills.
func (d *jsonDecoder[R]) member(n *node[R], name []byte) bool {
	var text string
	var token byte
	switch d.b[d.i] {
	case 'n':
		return d.literal("null") || d.within(string(name))
	case 't', 'f':
		text, token = "true", 't'
		if d.b[d.i] == 'f' {
			text = "false"
		}
		if !d.literal(text) {
			return d.within(string(name))
		}
	case '"':
		s, ok := d.str("a string")
		if !ok {
			return d.within(string(name))
		}
		text, token = alias(s), '"'
	default:
		s, ok := d.number()
		if !ok {
			return d.within(string(name))
		}
		text, token = alias(s), '0'
	}
	for _, t := range n.whole {
		switch {
		case !t.takes(token):
			d.fail(schemas.CodeWrongType, jsonType(token)+" where "+wants(t.kind)+" is wanted")
		case len(name) == 0:
			d.fail(schemas.CodeInvalid, "an entry needs a name")
		case text == "" && t.convert, text == "" && t.kind == schemas.Map: // absent
		default:
			if code, message := t.setOne(d.row, nil, alias(name), text, nil); code != "" {
				d.fail(code, message)
			}
		}
		if d.err != nil {
			return d.within(string(name))
		}
	}
	return true
}

// value reads the value of a known field.
func (d *jsonDecoder[R]) value(n *node[R], depth int) bool {
	if d.i >= len(d.b) {
		return d.syntax("a value")
	}
	if n.ignore && n.id == 0 {
		return d.skip(depth)
	}
	switch c := d.b[d.i]; c {
	case '"':
		s, ok := d.str("a string")
		return ok && d.set(n, alias(s), '"')
	case '{':
		if n.elem != nil && !n.explode && n.items != nil && !d.plan.mapping.Strict {
			return d.element(n, 0, depth) // a single one where a list is wanted
		}
		if n.each && !d.plan.mapping.Strict {
			return d.eachElement(n, 0, depth)
		}
		if len(n.children) == 0 && n.whole == nil {
			return d.wrong(n, "an object", depth)
		}
		if len(n.targets) > 0 || n.id > 0 {
			return d.wrong(n, "an object", depth)
		}
		return d.object(n, depth)
	case '[':
		return d.array(n, depth)
	case 't':
		return d.literal("true") && d.set(n, "true", 't')
	case 'f':
		return d.literal("false") && d.set(n, "false", 't')
	case 'n':
		return d.literal("null")
	default:
		s, ok := d.number()
		return ok && d.set(n, alias(s), '0')
	}
}

// wrong refuses a value of the wrong JSON type, unless it is not well-formed either.
func (d *jsonDecoder[R]) wrong(n *node[R], what string, depth int) bool {
	if !d.skip(depth) {
		return false
	}
	return d.fail(schemas.CodeWrongType, what+" where "+n.wants()+" is wanted")
}

func (n *node[R]) wants() string {
	if len(n.targets) == 0 {
		if n.elem != nil {
			return "an array"
		}
		return "an object"
	}
	return wants(n.targets[0].kind)
}

// wants says in errors what a column takes.
func wants(kind schemas.Kind) string {
	switch kind {
	case schemas.String, schemas.Bytes, schemas.Map:
		return "a string"
	case schemas.Int64, schemas.Float64, schemas.Numbers:
		return "a number"
	case schemas.Boolean:
		return "true or false"
	case schemas.Strings:
		return "an array of strings"
	case schemas.Floats:
		return "an array of numbers"
	default:
		return "a time"
	}
}

// set puts a scalar into its targets. The token is '"' for a string, '0' for a number and 't' for a boolean.
func (d *jsonDecoder[R]) set(n *node[R], text string, token byte) bool {
	if n.id > 0 {
		d.id.set(n.id, text)
	}
	if len(n.targets) == 0 {
		if n.id > 0 {
			return true
		}
		if n.each && len(n.elem.targets) > 0 && !d.plan.mapping.Strict {
			return d.set(n.elem, text, token) // a single one where a list is wanted
		}
		return d.fail(schemas.CodeWrongType, "a single value where "+n.wants()+" is wanted")
	}
	for _, t := range n.targets {
		if !t.takes(token) {
			return d.fail(schemas.CodeWrongType, jsonType(token)+" where "+n.wants()+" is wanted")
		}
		if text == "" && token == '"' && t.kind == schemas.String && t.field.Default != "" {
			continue // an empty text is an absent value
		}
		if text == "" && token == '"' && t.kind != schemas.String {
			if t.convert {
				continue // an empty text is an absent value
			}
			return d.fail(schemas.CodeWrongType, "an empty string where "+n.wants()+" is wanted")
		}
		if t.special {
			d.plan.gathered.isNumber = token == '0'
		}
		if code, message := t.setText(d.row, d.item, text, d.plan.offset); code != "" {
			return d.fail(code, message)
		}
	}
	return true
}

func jsonType(token byte) string {
	switch token {
	case '"':
		return "a string"
	case '0':
		return "a number"
	}
	return "true or false"
}

// takes reports whether a column takes that JSON type.
func (t *target[R]) takes(token byte) bool {
	switch t.kind {
	case schemas.String, schemas.Bytes, schemas.Map:
		return token == '"' || t.convert || token == '0' && len(t.field.Bands) > 0
	case schemas.Strings:
		if t.field.Split != "" {
			return token == '"'
		}
		return t.convert || t.group != nil && token == '"'
	case schemas.Int64, schemas.Float64, schemas.Numbers:
		return token == '0' || t.convert && token == '"'
	case schemas.Boolean:
		return token == 't' || t.convert && (token != '0' || t.field.Values != nil)
	case schemas.Micros:
		if t.unit.perSecond != 0 {
			return token == '0' || t.convert && token == '"'
		}
		return token == '"' || t.convert && t.unit.layout != "" // such as a year
	case schemas.Floats:
		return t.field.Split != "" && token == '"'
	}
	return false
}

func (d *jsonDecoder[R]) array(n *node[R], depth int) bool {
	if depth >= MaxDepth {
		return d.fail(schemas.CodeTooDeep, fmt.Sprintf("nested deeper than %d", MaxDepth))
	}
	list := n.list
	if !list && n.items == nil && !n.explode && !n.each {
		if len(n.targets) == 1 && n.targets[0].kind == schemas.Floats {
			return d.vector(n.targets[0])
		}
		return d.wrong(n, "an array", depth)
	}
	d.i++ // [
	if d.next(']') {
		return true
	}
	if list {
		for _, t := range n.targets {
			if t.group == nil {
				t.clearDefault(d.row)
			}
		}
	}
	for index := 0; ; index++ {
		d.space()
		if index == maxList && !n.explode {
			return d.fail(schemas.CodeTooLarge, fmt.Sprintf("more than %d elements", maxList))
		}
		var ok bool
		switch {
		case n.explode:
			start := d.i
			ok = d.skip(depth + 1)
			d.spans = append(d.spans, span{start, d.i})
		case n.items != nil:
			ok = d.element(n, index, depth)
		case n.each:
			ok = d.eachElement(n, index, depth)
		default:
			ok = d.listElement(n)
		}
		if !ok {
			return d.within(fmt.Sprintf("[%d]", index))
		}
		if d.next(',') {
			continue
		}
		if d.next(']') {
			return true
		}
		return d.syntax("',' or ']'")
	}
}

// element reads one element of a list of items.
func (d *jsonDecoder[R]) element(n *node[R], index, depth int) bool {
	if d.i >= len(d.b) || d.b[d.i] != '{' {
		if !d.skip(depth + 1) {
			return false
		}
		return d.fail(schemas.CodeWrongType, "an element of items has to be an object")
	}
	list := n.items(d.row)
	*list = append(*list, schemas.LineItem{})
	outer := d.item
	d.item, d.index = &(*list)[len(*list)-1], index
	if d.err = d.plan.preset(d.plan.ofItems, d.row, d.item); d.err != nil {
		return false
	}
	ok := d.object(n.elem, depth+1)
	d.item = outer
	return ok
}

// eachElement reads an element of an array whose elements fill columns by themselves.
func (d *jsonDecoder[R]) eachElement(n *node[R], index, depth int) bool {
	from := 0
	for _, g := range n.named {
		from = g.begin()
	}
	d.at = append(d.at, index)
	ok := d.value(n.elem, depth+1)
	d.at = d.at[:len(d.at)-1]
	if !ok {
		return false
	}
	for _, g := range n.named {
		if !g.end(from) {
			d.fail(schemas.CodeMissing, "an entry needs a name")
			_, inner, _ := strings.Cut(g.field.Key[strings.LastIndex(g.field.Key, "[]"):], ".")
			return d.within(inner)
		}
	}
	return true
}

// vector reads an array of numbers.
func (d *jsonDecoder[R]) vector(t *target[R]) bool {
	d.i++ // [
	*t.column.Vector(d.row) = (*t.column.Vector(d.row))[:0]
	if d.next(']') {
		return true
	}
	for index := 0; ; index++ {
		d.space()
		if !d.vectorElement(t) {
			return d.within(fmt.Sprintf("[%d]", index))
		}
		if d.next(',') {
			continue
		}
		if !d.next(']') {
			return d.syntax("',' or ']'")
		}
		code, message := t.checkLength(d.row)
		return code == "" || d.fail(code, message)
	}
}

// vectorElement reads a number of an embedding.
func (d *jsonDecoder[R]) vectorElement(t *target[R]) bool {
	if d.i < len(d.b) && d.b[d.i] != '-' && d.b[d.i]-'0' > 9 {
		return d.skip(0) && d.fail(schemas.CodeWrongType, "an element of an embedding has to be a number")
	}
	s, ok := d.number()
	if !ok {
		return false
	}
	code, message := t.addElement(d.row, alias(s))
	return code == "" || d.fail(code, message)
}

// listElement reads one element of a list of strings.
func (d *jsonDecoder[R]) listElement(n *node[R]) bool {
	if d.i >= len(d.b) || d.b[d.i] != '"' {
		if !d.skip(0) {
			return false
		}
		return d.fail(schemas.CodeWrongType, "an element of the list has to be a string")
	}
	s, ok := d.str("a string")
	if !ok {
		return false
	}
	for _, t := range n.targets {
		if t.special {
			if code, message := t.setOne(d.row, nil, "", alias(s), nil); code != "" {
				return d.fail(code, message)
			}
			continue
		}
		list := t.column.List(d.row)
		*list = append(*list, alias(s))
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str reads a string. The result aliases the record, or the arena where it had escapes.
func (d *jsonDecoder[R]) str(want string) ([]byte, bool) {
	b, i := d.b, d.i
	if i >= len(b) || b[i] != '"' {
		return nil, d.syntax(want)
	}
	i++
	start := i
	for i+8 <= len(b) {
		// Eight bytes at once: a byte of special is not zero where one is '"', '\\' or below ' '.
		w := binary.LittleEndian.Uint64(b[i:])
		q, s := w^(ones*'"'), w^(ones*'\\')
		special := ((q - ones) &^ q) | ((s - ones) &^ s) | ((w - ones*' ') &^ w)
		if special &= highs; special != 0 {
			i += bits.TrailingZeros64(special) / 8
			break
		}
		i += 8
	}
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			d.i = i + 1
			return b[start:i], true
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			d.i = i
			return nil, d.fail(schemas.CodeSyntax, fmt.Sprintf("control character 0x%02x in a string, at byte %d", c, i))
		}
	}
	d.i = len(b)
	return nil, d.fail(schemas.CodeSyntax, "the record ends within a string")
}

// escaped reads a string that has a backslash at byte i.
func (d *jsonDecoder[R]) escaped(start, i int) ([]byte, bool) {
	for ; i < len(d.b); i++ {
		switch d.b[i] {
		case '\\':
			i++
		case '"':
			before := len(d.arena)
			out, err := jsontext.AppendUnquote(d.arena, d.b[start-1:i+1])
			if err != nil {
				return nil, d.fail(schemas.CodeSyntax, fmt.Sprintf("string at byte %d: %v", start-1, err))
			}
			d.arena, d.i = out, i+1
			return out[before:len(out):len(out)], true
		}
	}
	d.i = len(d.b)
	return nil, d.fail(schemas.CodeSyntax, "the record ends within a string")
}

// number reads a number as RFC 8259 writes it.
func (d *jsonDecoder[R]) number() ([]byte, bool) {
	b, i := d.b, d.i
	start := i
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i]-'1' < 9:
		i = digits(b, i)
	default:
		d.i = i
		return nil, d.syntax("a value")
	}
	if i < len(b) && b[i] == '.' {
		from := i + 1
		if i = digits(b, from); i == from {
			d.i = i
			return nil, d.syntax("a digit")
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		if i = digits(b, from); i == from {
			d.i = i
			return nil, d.syntax("a digit")
		}
	}
	d.i = i
	return b[start:i], true
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	return i
}

func (d *jsonDecoder[R]) literal(s string) bool {
	if len(d.b)-d.i >= len(s) && string(d.b[d.i:d.i+len(s)]) == s {
		d.i += len(s)
		return true
	}
	return d.syntax("a value")
}

// skip reads a value that nobody wants as strictly as any other.
func (d *jsonDecoder[R]) skip(depth int) bool {
	if d.i >= len(d.b) {
		return d.syntax("a value")
	}
	switch d.b[d.i] {
	case '"':
		s, ok := d.str("a string")
		if ok && !d.address {
			d.address = schemas.IsAddress(alias(s))
		}
		return ok
	case '{':
		return d.skipObject(depth)
	case '[':
		if depth >= MaxDepth {
			return d.fail(schemas.CodeTooDeep, fmt.Sprintf("nested deeper than %d", MaxDepth))
		}
		d.i++
		if d.next(']') {
			return true
		}
		for {
			d.space()
			if !d.skip(depth + 1) {
				return false
			}
			if d.next(',') {
				continue
			}
			if d.next(']') {
				return true
			}
			return d.syntax("',' or ']'")
		}
	case 't':
		return d.literal("true")
	case 'f':
		return d.literal("false")
	case 'n':
		return d.literal("null")
	default:
		_, ok := d.number()
		return ok
	}
}

func (d *jsonDecoder[R]) skipObject(depth int) bool {
	if depth >= MaxDepth {
		return d.fail(schemas.CodeTooDeep, fmt.Sprintf("nested deeper than %d", MaxDepth))
	}
	d.i++
	if d.next('}') {
		return true
	}
	mark := len(d.keys)
	for {
		d.space()
		name, ok := d.str("a key")
		if !ok || !d.once(name, mark) || !d.colon() {
			return false
		}
		if !d.skip(depth + 1) {
			return d.within(string(name))
		}
		d.address = d.address || schemas.IsAddress(alias(name))
		if d.next(',') {
			continue
		}
		if d.next('}') {
			d.keys = d.keys[:mark]
			return true
		}
		return d.syntax("',' or '}'")
	}
}

// removeAddresses replaces the IP addresses among the strings of a well-formed JSON value.
func removeAddresses(value []byte) []byte {
	dec := jsontext.NewDecoder(bytes.NewReader(value))
	var out bytes.Buffer
	enc := jsontext.NewEncoder(&out)
	for {
		token, err := dec.ReadToken()
		if err != nil {
			break // the end: the value was checked before
		}
		if token.Kind() == '"' && schemas.IsAddress(token.String()) {
			token = jsontext.String(schemas.AddressRemoved)
		}
		if enc.WriteToken(token) != nil {
			return []byte(`"` + schemas.AddressRemoved + `"`)
		}
	}
	return bytes.TrimSpace(out.Bytes())
}

// alias returns b as a string without a copy.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
