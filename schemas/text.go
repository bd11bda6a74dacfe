package schemas

import (
	"strconv"
	"strings"
	"time"
)

// Text returns the value of the column in a row as people read it, "" where it is absent. Times are RFC 3339 in UTC, lists have
// ", " between their elements.
func (c Column[R]) Text(r *R) string {
	switch {
	case c.Str != nil:
		return *c.Str(r)
	case c.Int != nil:
		v := *c.Int(r)
		switch {
		case !v.Set:
			return ""
		case c.Kind == Micros:
			return time.UnixMicro(v.V).UTC().Format(time.RFC3339Nano)
		default:
			return strconv.FormatInt(v.V, 10)
		}
	case c.Float != nil:
		if v := *c.Float(r); v.Set {
			return strconv.FormatFloat(v.V, 'f', -1, 64)
		}
	case c.Bool != nil:
		if v := *c.Bool(r); v.Set {
			return strconv.FormatBool(v.V)
		}
	case c.List != nil:
		return strings.Join(*c.List(r), ", ")
	case c.Map != nil:
		var entries []string
		for _, p := range *c.Map(r) {
			entries = append(entries, p.Key+": "+p.Value)
		}
		return strings.Join(entries, ", ")
	case c.Numbers != nil:
		var entries []string
		for _, n := range *c.Numbers(r) {
			entries = append(entries, n.Key+": "+strconv.FormatFloat(n.Value, 'f', -1, 64))
		}
		return strings.Join(entries, ", ")
	case c.Vector != nil:
		var elements []string
		for _, v := range *c.Vector(r) {
			elements = append(elements, strconv.FormatFloat(float64(v), 'g', -1, 32))
		}
		return strings.Join(elements, ", ")
	case c.Items != nil:
		var items []string
		for i := range *c.Items(r) {
			items = append(items, itemText(&(*c.Items(r))[i]))
		}
		return strings.Join(items, ", ")
	}
	return ""
}

func itemText(item *LineItem) string {
	var values []string
	for _, c := range LineItemColumns {
		if text := c.Text(item); text != "" {
			values = append(values, c.Name+": "+text)
		}
	}
	return "{" + strings.Join(values, ", ") + "}"
}
