package mappings

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/schemas"
)

// Validate returns all that is wrong with m as a mapping to its table.
func (m *Mapping) Validate() error {
	switch m.Table {
	case schemas.Interactions.Name, "":
		return Validate(m, schemas.Interactions)
	case schemas.Contexts.Name:
		return Validate(m, schemas.Contexts)
	case schemas.Users.Name:
		return Validate(m, schemas.Users)
	case schemas.Items.Name:
		return Validate(m, schemas.Items)
	default:
		return fmt.Errorf("mapping %q: table %q: want %s%s", m.Name, m.Table, strings.Join(Tables(), ", "), didYouMean(m.Table, Tables()))
	}
}

// Validate returns all that is wrong with m as a mapping to a table.
func Validate[R any](m *Mapping, table *schemas.Table[R]) error {
	if m.Table != "" && m.Table != table.Name {
		return fmt.Errorf("mapping %q: is for table %s, %s are wanted: take another mapping, or correct its table", m.Name, m.Table, table.Name)
	}
	errs := validate(m, table)
	for i, p := range m.Join {
		failf := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("join %d (%q): "+format, append([]any{i + 1, p.Files}, args...)...))
		}
		if _, err := path.Match(p.Files, ""); p.Files == "" || err != nil || strings.Contains(p.Files, "/") {
			failf("files: want a glob of base names, such as %q", "tags*.csv")
		}
		if len(p.Fields) < 2 {
			failf("fields: want the id and at least one column that the files add")
		}
		for _, err := range validate(m.part(i), table) {
			failf("%w", err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("mapping %q: %w", m.Name, errors.Join(errs...))
}

func validate[R any](m *Mapping, table *schemas.Table[R]) []error {
	v := &validation{m: m, table: table.Name, columns: map[string]column{}}
	for _, c := range table.Columns {
		v.columns[c.Name] = column{kind: c.Kind, system: c.System}
		if c.Required && !c.System && !c.Made {
			v.required = append(v.required, c.Name)
		}
		if c.Kind == schemas.LineItems {
			for _, i := range schemas.LineItemColumns {
				v.columns[c.Name+"[]."+i.Name] = column{kind: i.Kind, list: c.Name}
			}
		}
	}
	for _, c := range table.Inputs {
		v.columns[c.Name] = column{kind: c.Kind}
	}
	v.whole()
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		v.field(name, m.Fields[name])
	}
	v.lists()
	return v.errs
}

// column is what a mapping has to know of one.
type column struct {
	kind   schemas.Kind
	system bool
	list   string // the list of items that it is part of
	entry  bool   // it is one entry of a map
}

// isMap tells if all entries of a map are meant.
func (c column) isMap() bool {
	return (c.kind == schemas.Map || c.kind == schemas.Numbers) && !c.entry
}

// find returns the column of a name: one of the table, or an entry of a map, such as "attributes.color".
func (v *validation) find(name string) (column, bool) {
	if c, ok := v.columns[name]; ok {
		return c, true
	}
	base, entry, _ := strings.Cut(name, ".")
	c, ok := v.columns[base]
	if !ok || entry == "" || !c.isMap() {
		return column{}, false
	}
	c.entry = true
	return c, true
}

type validation struct {
	m        *Mapping
	table    string
	columns  map[string]column
	required []string
	arrays   []string // paths of arrays whose elements are items
	errs     []error
}

func (v *validation) failf(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

// whole checks what is not about one field.
func (v *validation) whole() {
	m := v.m
	if !m.Format.Valid() {
		names := make([]string, 0, len(Formats()))
		for _, f := range Formats() {
			names = append(names, string(f))
		}
		v.failf("format %q: want %s%s", m.Format, strings.Join(names, ", "), didYouMean(string(m.Format), names))
	}
	if !m.Format.Tabular() {
		switch {
		case m.Columns != nil:
			v.failf("columns: only csv and tsv have columns, the format is %s", m.Format)
		case m.Null != nil:
			v.failf("null: only csv and tsv have texts that mean absent, the format is %s", m.Format)
		case m.Splittable:
			v.failf("splittable: is about csv only, the format is %s", m.Format)
		}
	}
	for i, c := range m.Columns {
		if c == "" || slices.Contains(m.Columns[:i], c) {
			v.failf("columns: %q is empty or comes twice", c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.EventTypes)) {
		kind := m.EventTypes[name]
		kinds := []string{schemas.Explicit, schemas.Implicit, schemas.Exposure, schemas.Correction}
		if _, standard := schemas.EventTypes[name]; standard || name == "" {
			v.failf("event_types: %q is empty or a standard type, whose kind is known", name)
		}
		if !slices.Contains(kinds, kind) {
			v.failf("event_types: %q: feedback kind %q: want %s%s", name, kind, strings.Join(kinds, ", "), didYouMean(kind, kinds))
		}
	}
	if v.table != schemas.Interactions.Name {
		switch {
		case m.EventID != nil:
			v.failf("event_id: %s have no events: map their id", v.table)
		case m.EventTypes != nil:
			v.failf("event_types: %s have no events", v.table)
		}
	} else if m.Join != nil {
		v.failf("join: events are not joined, only users and items are")
	}
	if m.Explode != "" {
		v.explode()
	}
	for _, name := range v.required {
		if _, ok := m.Fields[name]; !ok {
			v.failf("fields: %q is missing, which every row needs", name)
		}
	}
	_, user := m.Fields["user_id"]
	_, visitor := m.Fields["visitor_id"]
	if v.table == schemas.Interactions.Name && !user && !visitor {
		v.failf(`fields: "user_id" and "visitor_id" are both missing, every row needs one`)
	}
	if _, session := m.Fields["session_id"]; v.table == schemas.Contexts.Name && !session && !visitor {
		v.failf(`fields: "session_id" and "visitor_id" are both missing, every row needs one`)
	}
}

func (v *validation) explode() {
	m := v.m
	if m.Format.Tabular() {
		v.failf("explode %q: a record of %s holds no array", m.Explode, m.Format)
		return
	}
	if why := wrongPath(m.Explode); why != "" {
		v.failf("explode %q: %s", m.Explode, why)
	} else if strings.Contains(m.Explode, "[]") {
		v.failf("explode %q: name the array without []; an array within arrays can't be exploded", m.Explode)
	}
	for _, f := range m.Fields {
		for _, path := range f.All() {
			if strings.HasPrefix(path, m.Explode+"[].") {
				return
			}
		}
	}
	v.failf("explode %q: no field has a path that begins with %q", m.Explode, m.Explode+"[].")
}

// field checks one entry of fields.
func (v *validation) field(name string, f Field) {
	failf := func(format string, args ...any) { v.failf("field %q: "+format, append([]any{name}, args...)...) }
	c, ok := v.find(name)
	switch {
	case !ok:
		failf("no such column of %s%s", v.table, didYouMean(name, v.mappable()))
		return
	case c.system:
		failf("is filled by Backbone, not by a mapping")
		return
	case c.kind == schemas.LineItems:
		failf("map the columns of its elements: %s[].item_id and others", name)
		return
	}
	paths := f.All()
	switch {
	case len(paths) == 0 && f.Const == "":
		failf("has neither path nor const")
	case f.Path != "" && f.Const != "":
		failf("has both path %q and const %q: take one", f.Path, f.Const)
	case f.Path != "" && len(f.Paths) > 0:
		failf("has both path %q and paths: take one", f.Path)
	case len(paths) > 0 && f.Const != "":
		failf("has both paths and const %q: take one", f.Const)
	case f.Const != "" && f.Default != "":
		failf("has const %q, so default %q is never used", f.Const, f.Default)
	case f.Const != "" && f.Values != nil:
		failf("has const %q, so values are never used", f.Const)
	case f.Const != "" && (f.Split != "" && c.kind != schemas.Strings || f.Pattern != "" || len(f.Bands) > 0 || f.Levels != "" || f.Money || f.Key != ""):
		failf("has const %q, so nothing is done with a path", f.Const)
	}
	if f.Only && len(f.Values) == 0 {
		failf("only: there are no values to which it is bound")
	}
	if f.Split != "" && c.kind != schemas.Strings && c.kind != schemas.Floats {
		failf("split: the column is not a list")
	}
	if c.list != "" && f.Path == "" {
		failf("a column of %s needs a path", c.list)
	}
	v.unit(failf, c, f)
	v.change(failf, c, f)
	if c.isMap() || c.kind == schemas.Floats {
		v.composite(failf, name, c, f)
	}
	if f.Key != "" {
		v.key(failf, c, f)
	}
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			failf("path %q: comes twice", path)
		}
		v.path(failf, c, f, path)
	}
	for _, text := range []string{f.Const, f.Default} {
		if why := v.value(name, c, f, text); text != "" && why != "" {
			failf("%q %s", text, why)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(f.Values)) {
		if why := v.value(name, c, f, f.Values[from]); why != "" && len(f.Bands) == 0 {
			failf("values: %q: %q %s", from, f.Values[from], why)
		}
	}
}

// change checks what is done with a value that is found.
func (v *validation) change(failf func(string, ...any), c column, f Field) {
	isText := c.kind == schemas.String || c.kind == schemas.Strings || c.kind == schemas.Map
	if f.Pattern != "" {
		switch re, err := regexp.Compile(f.Pattern); {
		case err != nil:
			failf("pattern %q: %s: see https://pkg.go.dev/regexp/syntax", f.Pattern, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		case re.NumSubexp() != 1:
			failf("pattern %q: has %d groups, want one, which matches the value: groups that only hold together begin with (?:", f.Pattern, re.NumSubexp())
		case c.kind == schemas.Floats:
			failf("pattern: an embedding is no text")
		}
	}
	if len(f.Bands) > 0 {
		switch {
		case !isText:
			failf("bands: the column is not a text")
		case f.Levels != "":
			failf("has both bands and levels: take one")
		}
		for i, from := range f.Bands[1:] {
			if from <= f.Bands[i] {
				failf("bands: %d stands behind %d: they have to rise", from, f.Bands[i])
			}
		}
	}
	if f.Levels != "" && !isText {
		failf("levels: the column is not a text")
	}
	if f.Money {
		_, priced := v.columns["currency"]
		switch {
		case c.kind != schemas.Float64 || c.list != "" || !priced:
			failf("money: the column is no amount in a currency")
		case f.Values != nil:
			failf("money: values can't translate an amount")
		}
	}
	if f.Length != 0 && c.kind != schemas.Floats {
		failf("length: the column is not an embedding")
	}
}

// composite checks a field of a whole map or of an embedding.
func (v *validation) composite(failf func(string, ...any), name string, c column, f Field) {
	if f.Const != "" || f.Default != "" {
		failf("one text can't fill it: take no const or default")
	}
	if len(f.Paths) > 0 {
		failf("paths: take one path")
	}
	switch {
	case c.isMap() && f.Key == "" && v.m.Format.Tabular():
		failf("a column of %s holds one value: name the entry that it fills, such as %q", v.m.Format, name+".color")
	case c.isMap() && f.Key == "" && strings.Contains(v.inRecord(f.Path), "[]"):
		failf("path %q: elements of an array have no names: say by key where these are", f.Path)
	case c.isMap():
	case f.Values != nil:
		failf("values: an embedding is no text")
	case f.Length < 0 || f.Length > schemas.MaxEmbedding:
		failf("length %d: want 1 to %d", f.Length, schemas.MaxEmbedding)
	case f.Split == "" && v.m.Format.Tabular():
		failf("split: is missing, which cuts a text into numbers")
	case strings.HasSuffix(f.Path, "[]"):
		failf("path %q: name the array itself, without []", f.Path)
	}
}

// key checks where the names of entries are found.
func (v *validation) key(failf func(string, ...any), c column, f Field) {
	array := f.Key[:strings.LastIndex(f.Key, "[]")+1]
	switch {
	case !c.isMap():
		failf("key: the column is not a map")
	case v.m.Format.Tabular():
		failf("key: a record of %s holds no array", v.m.Format)
	case wrongPath(f.Key) != "":
		failf("key %q: %s", f.Key, wrongPath(f.Key))
	case array == "" || strings.HasSuffix(f.Key, "[]"):
		failf("key %q: want a field of the elements of an array, such as %q", f.Key, "attributes[].key")
	case !strings.HasPrefix(f.Path, array+"]."):
		failf("key %q: path %q is not within the same array", f.Key, f.Path)
	case f.Key == f.Path:
		failf("key %q: is the path too", f.Key)
	}
}

// inRecord is a path without the exploded array in which it lies.
func (v *validation) inRecord(path string) string {
	if v.m.Explode == "" {
		return path
	}
	return strings.TrimPrefix(path, v.m.Explode+"[].")
}

// mappable lists the columns that a mapping may fill.
func (v *validation) mappable() []string {
	var names []string
	for name, c := range v.columns {
		if !c.system && c.kind != schemas.LineItems {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (v *validation) unit(failf func(string, ...any), c column, f Field) {
	units := []string{"s", "ms", "us", "ns", "rfc3339"}
	switch {
	case f.Unit == "":
	case c.kind != schemas.Micros:
		failf("unit %q: the column is not a time", f.Unit)
	case !slices.Contains(units, f.Unit) && !strings.Contains(f.Unit, "2006"):
		failf("unit %q: want %s, or a layout such as %q", f.Unit, strings.Join(units, ", "), time.DateTime)
	}
}

// path checks where the value of a field is found.
func (v *validation) path(failf func(string, ...any), c column, f Field, path string) {
	if v.m.Format.Tabular() {
		if why := v.wrongName(path); why != "" {
			failf("path %q: %s", path, why)
		}
		return
	}
	if why := wrongPath(path); why != "" {
		failf("path %q: %s", path, why)
		return
	}
	inElement := v.inRecord(path)
	array, _, isArray := strings.Cut(inElement, "[].")
	// A list has room for all elements. Of an event no more than one value is taken for a scalar column: which would be a guess.
	many := c.list == "" && (c.kind == schemas.Strings || v.table != schemas.Interactions.Name)
	switch {
	case many:
	case strings.HasSuffix(inElement, "[]"):
		failf("path %q: name the array itself, without []", path)
	case strings.Count(inElement, "[]") > 1:
		failf("path %q: an array within an array can't be mapped", path)
	case c.list == "" && isArray && v.m.Explode == "":
		failf("path %q: elements of array %q can fill %s only as a column of items, or as events of their own: name the array in explode", path, array, v.table)
	case c.list == "" && isArray:
		failf("path %q: array %q is not the one that is exploded, %q", path, array, v.m.Explode)
	case c.list != "" && !isArray:
		failf("path %q: a column of %s takes a path within an array, such as %q", path, c.list, "products[].id")
	case c.list != "":
		v.arrays = append(v.arrays, array)
	}
	if c.list != "" && len(f.Paths) > 0 {
		failf("paths: a column of %s takes one path", c.list)
	}
}

// wrongName says what is wrong with the name of a CSV or TSV column.
func (v *validation) wrongName(name string) string {
	switch {
	case strings.ContainsAny(name, "[]"):
		return "a column of a table has no elements: take its name"
	case v.m.Columns != nil && !slices.Contains(v.m.Columns, name):
		return "is not one of columns" + didYouMean(name, v.m.Columns)
	default:
		return ""
	}
}

// wrongPath says what is wrong with the form of a path.
func wrongPath(path string) string {
	for part := range strings.SplitSeq(path, ".") {
		name := strings.TrimSuffix(part, "[]")
		if name == "" {
			return "a name is empty"
		}
		if strings.ContainsAny(name, "[]") {
			return "[] may only stand at the end of a name, such as \"items[].id\""
		}
	}
	return ""
}

// value says why a text cannot be a value of a column.
func (v *validation) value(name string, c column, f Field, text string) string {
	var err error
	kind := c.kind
	if kind == schemas.Numbers {
		kind = schemas.Float64
	}
	switch kind {
	case schemas.Int64:
		_, err = strconv.ParseInt(text, 10, 64)
	case schemas.Float64:
		_, err = strconv.ParseFloat(text, 64)
	case schemas.Boolean:
		_, err = strconv.ParseBool(text)
	case schemas.Micros:
		switch {
		case f.Unit == "" || f.Unit == "rfc3339":
			_, err = time.Parse(time.RFC3339, text)
		case strings.Contains(f.Unit, "2006"):
			_, err = time.Parse(f.Unit, text)
		default:
			_, err = strconv.ParseFloat(text, 64)
		}
	}
	if err != nil {
		return "is no value of the column: want " + map[schemas.Kind]string{
			schemas.Int64: "a whole number", schemas.Float64: "a number", schemas.Boolean: "true or false", schemas.Micros: "a time in the field's unit"}[kind]
	}
	switch name {
	case "event_type":
		_, standard := schemas.EventTypes[text]
		_, own := v.m.EventTypes[text]
		if !standard && !own {
			known := slices.Sorted(maps.Keys(schemas.EventTypes))
			return fmt.Sprintf("is no standard event type and is not declared in event_types%s", didYouMean(text, slices.Concat(known, slices.Sorted(maps.Keys(v.m.EventTypes)))))
		}
	case "feedback_kind":
		if kinds := []string{schemas.Explicit, schemas.Implicit, schemas.Exposure, schemas.Correction}; !slices.Contains(kinds, text) {
			return "is no feedback kind: want " + strings.Join(kinds, ", ")
		}
	}
	return ""
}

// lists checks event_id and ignore, and that there is one list of items.
func (v *validation) lists() {
	slices.Sort(v.arrays)
	if arrays := slices.Compact(v.arrays); len(arrays) > 1 {
		v.failf("fields: columns of items come from several arrays, %q: take one", arrays)
	}
	v.arraysOnce()
	v.paths("event_id", v.m.EventID)
	v.paths("ignore", v.m.Ignore)
	for _, name := range slices.Sorted(maps.Keys(v.m.Fields)) {
		f := v.m.Fields[name]
		for _, path := range append(f.All(), f.Key) {
			if slices.Contains(v.m.Ignore, path) {
				v.failf("ignore: path %q fills %q", path, name)
			}
		}
	}
}

// arraysOnce checks that no array is mapped as a whole and by its elements.
func (v *validation) arraysOnce() {
	whole, elements := map[string]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(v.m.Fields)) {
		for _, path := range v.m.Fields[name].All() {
			whole[path] = name
			for i := range path {
				if strings.HasPrefix(path[i:], "[]") {
					elements[path[:i]] = name
				}
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(whole)) {
		if other, ok := elements[path]; ok {
			v.failf("field %q: path %q: is mapped as a whole and by its elements (%s): write %q in both fields", whole[path], path, other, path+"[]")
		}
	}
}

// paths checks a list of paths.
func (v *validation) paths(key string, paths []string) {
	for i, path := range paths {
		var why string
		switch {
		case slices.Contains(paths[:i], path):
			why = "comes twice"
		case v.m.Format.Tabular():
			why = v.wrongName(path)
		default:
			why = wrongPath(path)
		}
		if why != "" {
			v.failf("%s: path %q: %s", key, path, why)
		}
	}
}
