// Package mappings says how other people's formats become rows: mapping files, and presets for common ones.
//
// A mapping file is YAML. It names for each column of a table where its value is found:
//
//	name: shop
//	format: jsonl
//	fields:
//	  event_id:   {path: id}
//	  event_time: {path: at, unit: ms}
//	  event_type: {path: what, values: {pv: view, buy: purchase}, only: true}
//	  user_id:    {path: customer.id}
//	  item_id:    {path: sku}
//	ignore: [debug]
//
// Load reads one, or one of the presets that Presets lists. What a field means is said at Mapping and Field.
package mappings

import (
	"path"
	"slices"
	"strings"
)

// Mapping tells for each column where its value is found in a source record.
type Mapping struct {
	Name string `yaml:"name"`
	Doc  string `yaml:"doc,omitempty"`
	// Table is the one that is filled: interactions, users or items. Parse makes interactions of an absent one.
	Table  string `yaml:"table,omitempty"`
	Format Format `yaml:"format"`
	// Explode is the path of an array; each of its elements is an event of its own. Paths of fields
	// that begin with "<explode>[]." are seen from the element, the others from the record.
	Explode string `yaml:"explode,omitempty"`
	// Fields maps a column, such as "item_id" or "items[].item_id", to where its value comes from.
	// An entry of a map has the name of the column before it: "attributes.color", "numbers.stock".
	// Besides the columns of interactions there are "raw.user_agent" and "raw.ip", from which context is
	// derived and which are never stored.
	Fields map[string]Field `yaml:"fields"`
	// EventID lists the paths that identify an event, where the source has no id: the id is a hash of them and of Name.
	EventID []string `yaml:"event_id,omitempty"`
	// EventTypes declares a site's own event types: name to feedback kind.
	EventTypes map[string]string `yaml:"event_types,omitempty"`
	// Ignore lists paths that are neither mapped nor kept in extra.
	Ignore []string `yaml:"ignore,omitempty"`
	// Columns names the columns of a CSV or TSV file that has no header line.
	Columns []string `yaml:"columns,omitempty"`
	// Null lists the texts that mean "absent" in a CSV or TSV file, besides the empty one.
	Null []string `yaml:"null,omitempty"`
	// Splittable says that no field of the CSV or TSV file holds a line break, so that one big file may be
	// read in parts by several readers.
	Splittable bool `yaml:"splittable,omitempty"`
	// Strict refuses a value whose JSON type is not the column's, instead of converting it.
	Strict bool `yaml:"strict,omitempty"`
	// Join lists the side files of an export of users or items.
	Join []Part `yaml:"join,omitempty"`
}

// Part reads the side files of an export, whose records add to the row of the same id. What it does not say is as in its mapping,
// but for Columns and Splittable, which are about one kind of file.
type Part struct {
	// Files is a glob that the base name of a file matches, such as "tags*.csv". A file named tags.csv.gz matches it too.
	Files string `yaml:"files"`
	// The others mean what they do in Mapping.
	Format     Format           `yaml:"format,omitempty"`
	Explode    string           `yaml:"explode,omitempty"`
	Fields     map[string]Field `yaml:"fields"`
	Ignore     []string         `yaml:"ignore,omitempty"`
	Columns    []string         `yaml:"columns,omitempty"`
	Null       []string         `yaml:"null,omitempty"`
	Splittable bool             `yaml:"splittable,omitempty"`
}

// For returns the mapping that reads a file, and its number: 0 for m itself, n for the nth of m.Join. The first part whose glob
// matches the base name is the one.
func (m *Mapping) For(url string) (sub *Mapping, part int) {
	base := path.Base(strings.ReplaceAll(url, `\\`, "/"))
	for i, p := range m.Join {
		for _, name := range []string{base, strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".zst")} {
			if ok, err := path.Match(p.Files, name); ok && err == nil {
				return m.part(i), i + 1
			}
		}
	}
	return m, 0
}

// part returns a part of m as a mapping of its own.
func (m *Mapping) part(i int) *Mapping {
	p := m.Join[i]
	sub := &Mapping{
		Name: m.Name, Doc: m.Doc, Table: m.Table, Format: p.Format, Explode: p.Explode, Fields: p.Fields, Ignore: p.Ignore,
		Columns: p.Columns, Null: p.Null, Splittable: p.Splittable, Strict: m.Strict,
	}
	if sub.Format == "" {
		sub.Format = m.Format
	}
	if sub.Null == nil && sub.Format.Tabular() {
		sub.Null = m.Null
	}
	return sub
}

// Dimensions returns the length that every embedding has to have; 0: the mapping does not say.
func (m *Mapping) Dimensions() int {
	if n := m.Fields["embedding"].Length; n > 0 {
		return n
	}
	for _, p := range m.Join {
		if n := p.Fields["embedding"].Length; n > 0 {
			return n
		}
	}
	return 0
}

// Format is how records are laid out in a file.
type Format string

// The formats.
const (
	JSONL   Format = "jsonl"
	JSON    Format = "json" // one array of records
	CSV     Format = "csv"
	TSV     Format = "tsv"
	Parquet Format = "parquet"
	YAML    Format = "yaml" // one sequence of records
)

// Formats lists all of them.
func Formats() []Format { return []Format{JSONL, JSON, CSV, TSV, Parquet, YAML} }

// Valid tells if f is one of Formats.
func (f Format) Valid() bool { return slices.Contains(Formats(), f) }

// Tabular tells if records have columns, not paths.
func (f Format) Tabular() bool { return f == CSV || f == TSV }

// Field is where the value of a column comes from: Path, Paths or Const.
//
// What is found is cut by Split, matched with Pattern and translated by Values, in this order; what comes out becomes one of Bands or
// a path of Levels, or is a value of the column as it is.
type Field struct {
	// Path is a path in the record: "a", "a.b", "events[].aid", "images[]"; the name of a column in CSV and TSV. Of elements of an array a
	// list column takes all, a scalar column of users and items the first that has a value.
	Path string `yaml:"path,omitempty"`
	// Paths are several: a list column takes the values of all, in this order, a scalar column those of the first that has one.
	Paths []string `yaml:"paths,omitempty"`
	// Key is where the names of the entries of a map column are found, within the same array as Path. Without a key, Path is that of an
	// object whose members are the entries.
	Key string `yaml:"key,omitempty"`
	// Const is the value of every row.
	Const string `yaml:"const,omitempty"`
	// Default is the value where the path has none.
	Default string `yaml:"default,omitempty"`
	// Values translates what is found; what it does not list stays as it is, or is refused if Only is set.
	Values map[string]string `yaml:"values,omitempty"`
	Only   bool              `yaml:"only,omitempty"`
	// Unit of a time: s, ms, us, ns (a number since 1970), rfc3339, or a layout of Go's package time. Default: rfc3339.
	Unit string `yaml:"unit,omitempty"`
	// Split cuts a text into the elements of a list column, or of an embedding.
	Split string `yaml:"split,omitempty"`
	// Pattern is a regular expression with one group: what the group matches is the value. No match: absent.
	Pattern string `yaml:"pattern,omitempty"`
	// Bands are the whole numbers, rising, at which bands begin: of 18 and 25 a number becomes "under 18", "18-24" or "25+".
	Bands []int64 `yaml:"bands,omitempty"`
	// Levels separates the levels of a path of categories, which is written with " > ".
	Levels string `yaml:"levels,omitempty"`
	// Length is how many elements an embedding has to have. Default: any number.
	Length int `yaml:"length,omitempty"`
	// Money takes an amount as people write it, such as "USD 1,299.00". A code or a sign that says which currency fills currency where nothing else does.
	Money bool `yaml:"money,omitempty"`
}

// All returns Path or Paths.
func (f Field) All() []string {
	if f.Path != "" {
		return append([]string{f.Path}, f.Paths...)
	}
	return f.Paths
}
