package decode

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"backbone/schemas"
	"backbone/schemas/mappings"
)

// change is what is done with a text before it is a value of the column.
type change struct {
	pattern *regexp.Regexp
	bands   []int64
	names   []string // of bands: one more
	levels  string
}

// compileChange returns nil where nothing is done.
func compileChange(f mappings.Field) (*change, error) {
	if f.Pattern == "" && len(f.Bands) == 0 && f.Levels == "" {
		return nil, nil
	}
	c := &change{bands: f.Bands, levels: f.Levels}
	if f.Pattern != "" {
		re, err := regexp.Compile(f.Pattern)
		if err != nil {
			return nil, fmt.Errorf("pattern: %w", err)
		}
		if re.NumSubexp() != 1 {
			return nil, fmt.Errorf("pattern %q: has %d groups, want one", f.Pattern, re.NumSubexp())
		}
		c.pattern = re
	}
	for i, from := range f.Bands {
		name := "under " + strconv.FormatInt(from, 10)
		if i > 0 {
			name = bandName(f.Bands[i-1], from-1)
		}
		c.names = append(c.names, name)
	}
	if n := len(f.Bands); n > 0 {
		c.names = append(c.names, strconv.FormatInt(f.Bands[n-1], 10)+"+")
	}
	return c, nil
}

func bandName(from, to int64) string {
	if from == to {
		return strconv.FormatInt(from, 10)
	}
	return strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(to, 10)
}

// match returns what the group of the pattern matches, or false.
func (c *change) match(text string) (string, bool) {
	if c == nil || c.pattern == nil {
		return text, true
	}
	m := c.pattern.FindStringSubmatchIndex(text)
	if m == nil || m[2] < 0 || m[2] == m[3] {
		return "", false
	}
	return text[m[2]:m[3]], true
}

// finish makes a band, or a path of categories.
func (c *change) finish(text string) (string, schemas.Code, string) {
	switch {
	case c == nil, text == "":
	case len(c.bands) > 0:
		v, code, message := number(text)
		if code != "" {
			return "", code, message
		}
		i := 0
		for i < len(c.bands) && math.Floor(v) >= float64(c.bands[i]) {
			i++
		}
		return c.names[i], "", ""
	case c.levels != "":
		var levels []string
		for level := range strings.SplitSeq(text, c.levels) {
			if level = strings.TrimSpace(level); level != "" {
				levels = append(levels, level)
			}
		}
		return strings.Join(levels, " > "), "", ""
	}
	return text, "", ""
}

// setSpecial is setText of a target with values, a change or a group. A list column is cut before the rest is done, so that it is done
// with each element.
func (t *target[R]) setSpecial(row *R, item *schemas.LineItem, text string, offset func(*R) *schemas.Int) (schemas.Code, string) {
	if t.isKey {
		t.group.key = text
		return "", ""
	}
	if t.kind != schemas.Strings {
		return t.setOne(row, item, "", text, offset)
	}
	if t.group == nil {
		t.clearDefault(row)
	}
	if t.field.Split == "" {
		return t.setOne(row, item, "", text, offset)
	}
	for part := range strings.SplitSeq(text, t.field.Split) {
		if part == "" {
			continue
		}
		if code, message := t.setOne(row, item, "", part, offset); code != "" {
			return code, message
		}
	}
	return "", ""
}

// setOne takes one value: of a scalar column, an element of a list, or an entry of a map.
func (t *target[R]) setOne(row *R, item *schemas.LineItem, key, text string, offset func(*R) *schemas.Int) (schemas.Code, string) {
	text, ok := t.change.match(text)
	if !ok {
		return "", ""
	}
	text, code, message := t.translate(text)
	if code != "" {
		return code, message
	}
	if text, code, message = t.change.finish(text); code != "" {
		return code, message
	}
	switch {
	case t.group != nil:
		return t.add(key, text, offset)
	case t.kind == schemas.Strings:
		if text != "" {
			list := t.column.List(row)
			*list = append(*list, text)
		}
		return "", ""
	default:
		return t.put(row, item, text, offset)
	}
}

// splitVector cuts a text into the elements of an embedding.
func (t *target[R]) splitVector(row *R, text string) (schemas.Code, string) {
	if t.field.Split == "" {
		return schemas.CodeWrongType, "a text where an array of numbers is wanted: say by split what stands between the numbers"
	}
	vector := t.column.Vector(row)
	*vector = (*vector)[:0]
	for part := range strings.SplitSeq(text, t.field.Split) {
		if code, message := t.addElement(row, strings.TrimSpace(part)); code != "" {
			return code, fmt.Sprintf("element %d: %s", len(*vector), message)
		}
	}
	return t.checkLength(row)
}

// addElement adds a number to an embedding.
func (t *target[R]) addElement(row *R, text string) (schemas.Code, string) {
	v, code, message := number(text)
	if code != "" {
		return code, message
	}
	if math.Abs(v) > math.MaxFloat32 {
		return schemas.CodeOutOfRange, quote(text) + " is larger than a 32-bit float"
	}
	vector := t.column.Vector(row)
	if len(*vector) == schemas.MaxEmbedding {
		return schemas.CodeTooLarge, fmt.Sprintf("more than %d elements", schemas.MaxEmbedding)
	}
	*vector = append(*vector, float32(v))
	return "", ""
}

func (t *target[R]) checkLength(row *R) (schemas.Code, string) {
	if n := len(*t.column.Vector(row)); t.field.Length > 0 && n != t.field.Length {
		return schemas.CodeInvalid, fmt.Sprintf("%d elements; the mapping says that there are %d", n, t.field.Length)
	}
	return "", ""
}
