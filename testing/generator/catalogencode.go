package generator

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/text/unicode/norm"

	"backbone/schemas"
)

// Content appends what a row says as canonical JSON: an object of the columns that are present, but for the id and the
// stamp, with its members sorted by name, as RFC 8785 would have it. Times are RFC 3339 in UTC, and numbers of vectors
// have the digits that a 32-bit float needs.
func Content[R any](b []byte, table *schemas.Table[R], row *R) []byte {
	columns := slices.Clone(content(table))
	slices.SortFunc(columns, func(a, b schemas.Column[R]) int { return strings.Compare(a.Name, b.Name) })
	w := jsonWriter{b: append(b, '{')}
	for _, c := range columns {
		switch {
		case c.Map != nil:
			w.pairs(c.Name, slices.SortedFunc(slices.Values(*c.Map(row)), func(a, b schemas.Pair) int { return strings.Compare(a.Key, b.Key) }))
		default:
			writeColumn(&w, c, row)
		}
	}
	return append(w.b, '}')
}

// content returns the columns of a table that hold what is said of a row: all but those of its id and stamp.
func content[R any](table *schemas.Table[R]) []schemas.Column[R] {
	return table.Columns[table.KeyColumns:]
}

// AppendNumber appends a number as canonical JSON does. Bits is the size of the float that it comes from.
func AppendNumber(b []byte, v float64, bits int) []byte {
	if a := max(v, -v); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(b, v, 'e', -1, bits)
	}
	return strconv.AppendFloat(b, v, 'f', -1, bits)
}

// jsonWriter writes the members of an object.
type jsonWriter struct {
	b []byte
	// ascii: texts have escapes for all that is not ASCII.
	ascii bool
}

func (w *jsonWriter) separate() {
	if last := w.b[len(w.b)-1]; last != '{' && last != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *jsonWriter) name(name string) {
	w.separate()
	w.text(name)
	w.b = append(w.b, ':')
}

func (w *jsonWriter) text(s string) {
	if isPlain(s) {
		w.b = append(append(append(w.b, '"'), s...), '"')
		return
	}
	start := len(w.b)
	var err error
	if w.b, err = jsontext.AppendQuote(w.b, s); err != nil {
		panic(err) // a text of ours is valid UTF-8
	}
	if w.ascii {
		quoted := strconv.QuoteToASCII(string(w.b[start:]))
		if !strings.Contains(quoted, `\U`) && !strings.Contains(quoted, `\x`) { // which JSON does not know
			w.b = append(w.b[:start], strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1:len(quoted)-1])...)
		}
	}
}

// isPlain tells if a text is written as it is.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func (w *jsonWriter) raw(name, value string) {
	w.name(name)
	w.b = append(w.b, value...)
}

func (w *jsonWriter) member(name, text string) {
	w.name(name)
	w.text(text)
}

func (w *jsonWriter) time(name string, micros int64) {
	w.member(name, time.UnixMicro(micros).UTC().Format(time.RFC3339Nano))
}

func (w *jsonWriter) list(name string, elements []string) {
	w.name(name)
	w.b = append(w.b, '[')
	for _, s := range elements {
		w.separate()
		w.text(s)
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) vector(name string, elements []float32) {
	w.name(name)
	w.b = append(w.b, '[')
	for _, v := range elements {
		w.separate()
		w.b = AppendNumber(w.b, float64(v), 32)
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) pairs(name string, pairs []schemas.Pair) {
	if len(pairs) == 0 {
		return
	}
	w.name(name)
	w.b = append(w.b, '{')
	for _, p := range pairs {
		w.member(p.Key, p.Value)
	}
	w.b = append(w.b, '}')
}

func (w *jsonWriter) numbers(name string, numbers []schemas.Number) {
	w.name(name)
	w.b = append(w.b, '{')
	for _, n := range numbers {
		w.name(n.Key)
		w.b = AppendNumber(w.b, n.Value, 64)
	}
	w.b = append(w.b, '}')
}

// writeColumn writes the value of a column, if there is one.
func writeColumn[R any](w *jsonWriter, c schemas.Column[R], row *R) {
	switch {
	case c.Str != nil && *c.Str(row) != "":
		w.member(c.Name, *c.Str(row))
	case c.Int != nil && c.Int(row).Set && c.Kind == schemas.Micros:
		w.time(c.Name, c.Int(row).V)
	case c.Int != nil && c.Int(row).Set:
		w.raw(c.Name, strconv.FormatInt(c.Int(row).V, 10))
	case c.Float != nil && c.Float(row).Set:
		w.name(c.Name)
		w.b = AppendNumber(w.b, c.Float(row).V, 64)
	case c.List != nil && len(*c.List(row)) > 0:
		w.list(c.Name, *c.List(row))
	case c.Map != nil:
		w.pairs(c.Name, *c.Map(row))
	case c.Numbers != nil && len(*c.Numbers(row)) > 0:
		w.numbers(c.Name, *c.Numbers(row))
	case c.Vector != nil && len(*c.Vector(row)) > 0:
		w.vector(c.Name, *c.Vector(row))
	}
}

// exporter writes rows as a source would. It owns its memory.
type exporter[R any] struct {
	catalog *catalog
	people  *population[R]
	row     R
	idText  []byte
}

// append appends one version of number n. What is odd about it follows from the export, so that the same version is
// written one way in one export and another way in the next.
func (e *exporter[R]) append(b []byte, n int, s stage, export uint64) []byte {
	p := e.people
	p.reset(&e.row)
	d := newDice(e.catalog.seed, p.kind, uint64(n), forExport, export, uint64(s.day))
	odd := d.unit() < e.catalog.options.OddShare
	w := jsonWriter{b: append(b, '{'), ascii: odd && d.one(4)}
	e.idText = p.id(e.idText[:0], n)
	w.member(p.table.Columns[0].Name, string(e.idText))
	w.member("updated_time", exportTime(s.from, odd, &d))
	if s.deleted {
		w.raw("is_deleted", "true")
		if !odd {
			return append(w.b, '}')
		}
		// Some sources tell what was there: nothing of it is kept.
	} else if odd && d.one(3) {
		w.raw("is_deleted", "false")
	}
	p.fill(&e.row, n, s.edition)
	for _, c := range content(p.table) {
		switch {
		case c.Name == "extra":
			for _, pair := range *c.Map(&e.row) {
				w.raw(pair.Key, pair.Value)
			}
		case c.Name == "price" && c.Float(&e.row).Set:
			w.raw(c.Name, strconv.FormatFloat(c.Float(&e.row).V, 'f', 2, 64))
		default:
			if odd {
				distort(c, &e.row, &d)
				if c.Str != nil && *c.Str(&e.row) == "" && d.one(4) {
					w.raw(c.Name, "null")
				}
			}
			writeColumn(&w, c, &e.row)
		}
	}
	return append(w.b, '}')
}

// exportTime writes a time in UTC, or as some clock elsewhere shows it.
func exportTime(micros int64, odd bool, d *dice) string {
	t := time.UnixMicro(micros).UTC()
	if odd {
		t = t.In(time.FixedZone("", countries[d.below(len(countries))].offset*60))
	}
	return t.Format(time.RFC3339Nano)
}

// distort writes the value of a column otherwise, so that it means the same.
func distort[R any](c schemas.Column[R], row *R, d *dice) {
	switch {
	case c.Str != nil && *c.Str(row) != "":
		s := c.Str(row)
		if c.Name == "content" && d.below(3) > 0 {
			*s = markup(*s, d)
			return
		}
		*s = sloppy(*s, d)
	case c.Name == "categories":
		list := *c.List(row)
		for i, path := range list {
			list[i] = sloppy(strings.ReplaceAll(path, " > ", pick(d, []string{">", " >", ">  ", " >> ", "\t>\u00a0"})), d)
		}
		*c.List(row) = again(list, d)
	case c.Name == "image_uris":
		*c.List(row) = again(*c.List(row), d)
	case c.List != nil:
		list := again(*c.List(row), d)
		for i := range list {
			j := d.below(i + 1)
			list[i], list[j] = list[j], list[i]
		}
		if c.Name != "visitor_ids" { // ids are as they are
			for i := range list {
				list[i] = sloppy(list[i], d)
			}
		}
		*c.List(row) = list
	case c.Map != nil:
		pairs := *c.Map(row)
		slices.Reverse(pairs)
		for i := range pairs {
			pairs[i].Key, pairs[i].Value = sloppy(pairs[i].Key, d), sloppy(pairs[i].Value, d)
		}
		if len(pairs) > 0 && d.one(4) {
			*c.Map(row) = append(pairs, schemas.Pair{Key: "old", Value: " "})
		}
	case c.Numbers != nil:
		slices.Reverse(*c.Numbers(row))
	}
}

// again repeats an element of a list at its end.
func again(list []string, d *dice) []string {
	if len(list) == 0 || d.one(2) {
		return list
	}
	return append(list, pick(d, list))
}

// sloppy returns a text with decomposed accents, white space around it, or as it is.
func sloppy(s string, d *dice) string {
	switch d.below(4) {
	case 0:
		return norm.NFD.String(s)
	case 1:
		return pick(d, []string{" ", "\t", "\u00a0"}) + s + pick(d, []string{"", " ", "\n", "\r\n"})
	case 2:
		return norm.NFD.String(s) + " "
	}
	return s
}

// markup returns a plain text as a page of HTML that reads the same.
func markup(s string, d *dice) string {
	var b strings.Builder
	if d.one(3) {
		b.WriteString(pick(d, []string{"<!-- made by hand -->\n", "<style>p > b { color: #c00 }</style>", `<script>if (1 < 2) document.write("<p>no</p>")</script>`}))
	}
	if d.one(4) {
		s = norm.NFD.String(s)
	}
	s = strings.ReplaceAll(s, "&", "&amp;")
	if d.one(2) {
		s = strings.ReplaceAll(s, "é", pick(d, []string{"&eacute;", "&#233;", "&#xE9;"}))
	}
	opening := pick(d, []string{"<p>", `<div class="text">`, "<li>"})
	closing := "</" + strings.TrimLeft(strings.FieldsFunc(opening, func(r rune) bool { return r == ' ' || r == '>' })[0], "<") + ">"
	for line := range strings.SplitSeq(s, "\n") {
		b.WriteString(opening)
		first, rest, more := strings.Cut(line, " ")
		b.WriteString("<b>" + first + "</b>")
		if more {
			b.WriteString(pick(d, []string{" ", "  ", "&nbsp;", " \t"}))
			b.WriteString(rest)
		}
		b.WriteString(closing)
		b.WriteString(pick(d, []string{"", "\n", "<br/>", "<hr>"}))
	}
	return b.String()
}

// truncateAfter cuts an object anywhere after its first so many bytes, but not within a character nor at its end.
func truncateAfter(b []byte, least int, random uint64) []byte {
	cut := least + int(random>>1%uint64(len(b)-least))
	for !isStart(b[cut]) {
		cut--
	}
	return bytes.TrimRight(b[:cut], "\n")
}

func isStart(b byte) bool { return b&0xc0 != 0x80 }
