package command

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/source"
)

// mappingReport gathers what becomes of the fields of a sample.
type mappingReport[R any] struct {
	mapping *mappings.Mapping
	table   *schemas.Table[R]
	title   string // which part of the mapping it is about
	noun    string // what a row is called
	extra   func(*R) *[]schemas.Pair
	fills   map[string][]string // columns by the path that fills them, without []
	inner   map[string]bool     // paths of objects and arrays that hold known fields
	ignored map[string]bool
	idParts map[string]bool

	fields   []*sampleField // in the order in which they were met
	byPath   map[string]*sampleField
	waiting  []*sampleField    // those that the record being read may give an example for
	columns  map[string]string // columns that are not empty, and an example
	problems []string
	most     int            // problems to keep
	codes    map[string]int // refused events by code

	records, events, refused int
	nth                      int // event of the record
}

// sampleField is a field of the sample and an example of it.
type sampleField struct {
	path    string
	text    string
	element int      // of the exploded array that the example is of
	becomes []string // values of the columns that it fills, in the order of their names
	done    bool     // text is of an event that is good
}

func newMappingReport[R any](m *mappings.Mapping, table *schemas.Table[R], title string, problems int) *mappingReport[R] {
	r := &mappingReport[R]{
		mapping: m, table: table, title: title, most: problems, noun: "row", extra: table.Extra,
		fills: map[string][]string{}, inner: map[string]bool{}, ignored: map[string]bool{}, idParts: map[string]bool{},
		byPath: map[string]*sampleField{}, columns: map[string]string{}, codes: map[string]int{},
	}
	if table.Name == schemas.Interactions.Name {
		r.noun = "event"
	}
	for _, column := range slices.Sorted(maps.Keys(m.Fields)) {
		f := m.Fields[column]
		for _, path := range f.All() {
			r.fills[bare(path)] = append(r.fills[bare(path)], column)
			r.know(path)
		}
		if f.Key != "" {
			r.fills[bare(f.Key)] = append(r.fills[bare(f.Key)], column)
			r.know(f.Key)
		}
	}
	for _, path := range m.EventID {
		r.idParts[bare(path)] = true
		r.know(path)
	}
	for _, path := range m.Ignore {
		r.ignored[bare(path)] = true
		r.know(path)
	}
	if m.Explode != "" {
		r.inner[bare(m.Explode)] = true
	}
	return r
}

// know notes the objects and arrays around a path.
func (r *mappingReport[R]) know(path string) {
	if r.mapping.Format.Tabular() {
		return
	}
	path = bare(path)
	for i := range len(path) {
		if path[i] == '.' {
			r.inner[path[:i]] = true
		}
	}
}

var index = regexp.MustCompile(`\[[0-9]*\]`)

// bare is a path without the marks of arrays: one object may stand where an array of them is wanted.
func bare(path string) string { return index.ReplaceAllString(path, "") }

// record looks for fields that have no example yet. Its events come next.
func (r *mappingReport[R]) record(rec *source.Record) {
	r.records++
	r.nth = 0
	r.waiting = r.waiting[:0]
	switch {
	case rec.Err != nil:
	case rec.Columns != nil:
		for i, text := range rec.Fields {
			if text != "" && !slices.Contains(r.mapping.Null, text) {
				r.met(rec.Columns[i], text, 0)
			}
		}
	default:
		dec := jsontext.NewDecoder(bytes.NewReader(rec.Data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		// What is not well-formed is said by the event.
		_ = r.walk(dec, "", 0)
	}
}

// walk meets the fields of the next JSON value.
func (r *mappingReport[R]) walk(dec *jsontext.Decoder, path string, element int) error {
	kind := dec.PeekKind()
	if known := path == "" || r.inner[bare(path)]; !known || kind != '{' && kind != '[' {
		value, err := dec.ReadValue()
		if err != nil || kind == 'n' {
			return err
		}
		text := string(value)
		if kind == '"' {
			if s, err := jsontext.AppendUnquote(nil, value); err == nil {
				text = string(s)
			}
		}
		r.met(path, text, element)
		return nil
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for n := 0; dec.PeekKind() != '}' && dec.PeekKind() != ']'; n++ {
		child := path + "[]"
		if kind == '[' && path == r.mapping.Explode {
			element = n
		}
		if kind == '{' {
			name, err := dec.ReadToken()
			if err != nil {
				return err
			}
			child = strings.TrimPrefix(path+"."+name.String(), ".")
		}
		if err := r.walk(dec, child, element); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// met notes a value, if its field has no example of a good event.
func (r *mappingReport[R]) met(path, text string, element int) {
	key := path
	if !r.mapping.Format.Tabular() {
		key = bare(path)
	}
	f := r.byPath[key]
	if f == nil {
		f = &sampleField{path: strings.Clone(path), text: strings.Clone(text), element: element}
		r.byPath[strings.Clone(key)] = f
		r.fields = append(r.fields, f)
	} else if f.done || slices.Contains(r.waiting, f) {
		return
	} else {
		f.text, f.element = strings.Clone(text), element
	}
	r.waiting = append(r.waiting, f)
}

// event takes what became of one event of the record.
func (r *mappingReport[R]) event(rec *source.Record, row *R, fault *schemas.FieldError) {
	r.events++
	element := r.nth
	r.nth++
	if fault != nil {
		r.refused++
		r.codes[string(fault.Code)]++
		if len(r.problems) < r.most {
			path := fault.Path
			if path == "" {
				path = "(the record)"
			}
			r.problems = append(r.problems, fmt.Sprintf("%s: byte %d: %s: %s: %s", rec.Source, rec.Offset, path, fault.Code, fault.Message))
		}
		return
	}
	for _, f := range r.waiting {
		if f.done || f.element != element && r.mapping.Explode != "" && strings.HasPrefix(f.path, r.mapping.Explode+"[]") {
			continue
		}
		f.done = true
		for _, column := range r.fills[r.key(f)] {
			text := r.columnText(row, column)
			if strings.HasPrefix(column, "raw.") {
				text = "(context is derived from it, it is not stored)"
			}
			f.becomes = append(f.becomes, text)
		}
		if r.isExtra(f) {
			f.becomes = []string{r.extraText(row, f.path)}
		}
	}
	for _, c := range r.table.Columns {
		if r.columns[c.Name] == "" {
			r.columns[c.Name] = strings.Clone(c.Text(row))
		}
	}
}

func (r *mappingReport[R]) key(f *sampleField) string {
	if r.mapping.Format.Tabular() {
		return f.path
	}
	return bare(f.path)
}

func (r *mappingReport[R]) isExtra(f *sampleField) bool {
	key := r.key(f)
	return len(r.fills[key]) == 0 && !r.ignored[key] && !r.idParts[key]
}

// columnText is the value of a column, of one entry of a map, or of a column of all items.
func (r *mappingReport[R]) columnText(row *R, name string) string {
	if c, ok := r.table.Column(name); ok {
		return strings.Clone(c.Text(row))
	}
	base, sub, _ := strings.Cut(name, ".")
	c, _ := r.table.Column(strings.TrimSuffix(base, "[]"))
	switch {
	case c.Items != nil:
		var texts []string
		for _, of := range schemas.LineItemColumns {
			for i := range *c.Items(row) {
				if of.Name == sub {
					texts = append(texts, of.Text(&(*c.Items(row))[i]))
				}
			}
		}
		return strings.Join(texts, ", ")
	case c.Map != nil:
		for _, p := range *c.Map(row) {
			if p.Key == sub {
				return strings.Clone(p.Value)
			}
		}
	case c.Numbers != nil:
		for _, n := range *c.Numbers(row) {
			if n.Key == sub {
				return strconv.FormatFloat(n.Value, 'f', -1, 64)
			}
		}
	}
	return ""
}

// extraText is what was kept of an unknown field.
func (r *mappingReport[R]) extraText(row *R, path string) string {
	for _, p := range *r.extra(row) {
		if bare(p.Key) == bare(path) || p.Key == path || strings.HasSuffix(bare(path), "."+bare(p.Key)) {
			return strings.Clone(p.Value)
		}
	}
	return "(left out: extra is full)"
}

// print writes the report.
func (r *mappingReport[R]) print(out io.Writer, sample string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "mapping %s (%s) on %s: %s, %s, %d refused\n", r.title, r.mapping.Format, sample, count(r.records, "record"), count(r.events, r.noun), r.refused)

	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(cells ...string) {
		for i, c := range cells {
			cells[i] = shorten(c)
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) // A buffer takes all.
	}
	line()
	line("FIELD", "SAMPLE", "COLUMN", "BECOMES")
	filled := map[string]bool{}
	for _, f := range r.fields {
		key := r.key(f)
		becomes := func(i int) string {
			if i < len(f.becomes) {
				return f.becomes[i]
			}
			return "(refused)"
		}
		switch columns := r.fills[key]; {
		case len(columns) > 0:
			for i, c := range columns {
				line(f.path, f.text, c, becomes(i))
				filled[c] = true
				if base, _, ok := strings.Cut(c, "[]."); ok {
					filled[base] = true
				}
			}
		case r.ignored[key]:
			line(f.path, f.text, "-", "(ignored)")
		case r.idParts[key]:
			line(f.path, f.text, "event_id", "(part of the hash)")
		default:
			line(f.path, f.text, "extra", becomes(0))
		}
	}
	r.rest(line, filled)
	if err := w.Flush(); err != nil {
		return err
	}

	r.absent(&b)
	r.faults(&b)
	// No line ends in the blanks that fill a column.
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	_, err := io.WriteString(out, strings.Join(lines, "\n"))
	return err
}

// rest writes the columns that no field fills.
func (r *mappingReport[R]) rest(line func(...string), filled map[string]bool) {
	for _, c := range r.table.Columns {
		text := r.columns[c.Name]
		if text == "" || filled[c.Name] || c.System {
			continue
		}
		from := "(derived)"
		switch f, mapped := r.mapping.Fields[c.Name]; {
		case mapped && f.Const != "":
			from = "(constant)"
		case mapped:
			from = "(default)"
		case c.Map != nil || c.Numbers != nil:
			from = "(all entries)"
		case c.Name == "event_id" && len(r.mapping.EventID) > 0:
			from = "(hash of " + strings.Join(r.mapping.EventID, ", ") + ")"
		case c.Name == "event_id":
			from = "(hash of the record)"
		case c.Name == "feedback_kind":
			from = "(follows from event_type)"
		case c.Name == "currency" && r.table.Name != schemas.Interactions.Name:
			from = "(amount)"
		}
		line(from, "", c.Name, text)
	}
}

// absent writes which columns are empty, and which paths were not met.
func (r *mappingReport[R]) absent(b *bytes.Buffer) {
	var empty, unmet []string
	for _, c := range r.table.Columns {
		if !c.System && r.columns[c.Name] == "" {
			empty = append(empty, c.Name)
		}
	}
	for path := range r.fills {
		if r.byPath[path] == nil {
			unmet = append(unmet, path)
		}
	}
	slices.Sort(unmet)
	if len(empty) > 0 {
		fmt.Fprintf(b, "\nEmpty columns: %s\n", strings.Join(empty, ", "))
	}
	if len(unmet) > 0 && !mappings.IsNative(r.mapping.Name) {
		fmt.Fprintf(b, "\nIn the mapping, not in the sample: %s\n", strings.Join(unmet, ", "))
	}
}

// faults writes what was refused.
func (r *mappingReport[R]) faults(b *bytes.Buffer) {
	if r.refused == 0 {
		return
	}
	var codes []string
	for _, code := range slices.Sorted(maps.Keys(r.codes)) {
		codes = append(codes, fmt.Sprintf("%d %s", r.codes[code], code))
	}
	fmt.Fprintf(b, "\nRefused: %s\n", strings.Join(codes, ", "))
	for _, p := range r.problems {
		fmt.Fprintf(b, "  %s\n", p)
	}
	if more := r.refused - len(r.problems); more > 0 {
		fmt.Fprintf(b, "  and %d more\n", more)
	}
}

// shorten makes a text fit a cell.
func shorten(s string) string {
	const most = 48
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		s = strconv.Quote(s)
	}
	if n := []rune(s); len(n) > most {
		return string(n[:most-3]) + "..."
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
