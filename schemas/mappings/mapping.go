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

import "slices"

// Mapping tells for each column where its value is found in a source record.
type Mapping struct {
	Name   string `yaml:"name"`
	Doc    string `yaml:"doc,omitempty"`
	Format Format `yaml:"format"`
	// Explode is the path of an array; each of its elements is an event of its own. Paths of fields
	// that begin with "<explode>[]." are seen from the element, the others from the record.
	Explode string `yaml:"explode,omitempty"`
	// Fields maps a column, such as "item_id" or "items[].item_id", to where its value comes from.
	// Besides the columns of the table there are "raw.user_agent" and "raw.ip", from which context is
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
)

// Formats lists all of them.
func Formats() []Format { return []Format{JSONL, JSON, CSV, TSV, Parquet} }

// Valid tells if f is one of Formats.
func (f Format) Valid() bool { return slices.Contains(Formats(), f) }

// Tabular tells if records have columns, not paths.
func (f Format) Tabular() bool { return f == CSV || f == TSV }

// Field is where the value of a column comes from: Path or Const.
type Field struct {
	// Path is a path in the record: "a", "a.b", "events[].aid"; the name of a column in CSV and TSV.
	Path string `yaml:"path,omitempty"`
	// Const is the value of every row.
	Const string `yaml:"const,omitempty"`
	// Default is the value where the path has none.
	Default string `yaml:"default,omitempty"`
	// Values translates what is found; what it does not list stays as it is, or is refused if Only is set.
	Values map[string]string `yaml:"values,omitempty"`
	Only   bool              `yaml:"only,omitempty"`
	// Unit of a time: s, ms, us, ns (a number since 1970), rfc3339, or a layout of Go's package time. Default: rfc3339.
	Unit string `yaml:"unit,omitempty"`
	// Split cuts a text into the elements of a list column.
	Split string `yaml:"split,omitempty"`
}
