// Package schemas holds the rows of the lake: their columns, their rules and their evolution.
//
// Each table is a Go struct and a Table that lists its columns. The list is the one source of truth:
// the Parquet schema, the binary chunk in which rows travel, the native JSON format, the reference in
// docs/schemas.md, the JSON Schema and the lock file are all derived from it.
//
// # Guarantees
//
// Columns are only ever added at the end, and what is added is optional: schemas/lock holds the
// committed shape and a test refuses anything else. So a chunk or a file that an older version wrote can
// always be read.
package schemas

import "slices"

// Opt is a value that may be absent. The zero Opt is absent.
type Opt[T any] struct {
	V   T
	Set bool
}

// Some returns a present value.
func Some[T any](v T) Opt[T] { return Opt[T]{V: v, Set: true} }

// Or returns the value, or other where it is absent.
func (o Opt[T]) Or(other T) T {
	if o.Set {
		return o.V
	}
	return other
}

// The optional scalars of a row. A string needs none: an empty string is an absent one.
type (
	Int   = Opt[int64]
	Float = Opt[float64]
	Bool  = Opt[bool]
	// Time is a point in time in microseconds since 1970-01-01T00:00:00Z.
	Time = Opt[int64]
)

// Pair is one entry of a map column. Maps keep the order in which they were filled.
type Pair struct{ Key, Value string }

// Number is one entry of a map column whose values are numbers.
type Number struct {
	Key   string
	Value float64
}

// AddNumber adds to the entry of a key, which is made where there is none. It looks at all entries: there should be few.
func AddNumber(numbers *[]Number, key string, n float64) {
	for i := range *numbers {
		if (*numbers)[i].Key == key {
			(*numbers)[i].Value += n
			return
		}
	}
	*numbers = append(*numbers, Number{Key: key, Value: n})
}

// Kind is the type of a column's values.
type Kind uint8

// The kinds, with the accessor of Column that holds them and their Parquet type.
const (
	String    Kind = iota + 1 // Str; BYTE_ARRAY (STRING)
	Int64                     // Int; INT64
	Float64                   // Float; DOUBLE
	Boolean                   // Bool; BOOLEAN
	Micros                    // Int; INT64 (TIMESTAMP(MICROS, UTC))
	Strings                   // List; LIST<STRING>
	Map                       // Map; MAP<STRING, STRING>
	LineItems                 // Items; LIST<STRUCT> with the columns of LineItemColumns
	Bytes                     // Str; BYTE_ARRAY, not necessarily UTF-8
	Floats                    // Vector; LIST<FLOAT>
	Numbers                   // Numbers; MAP<STRING, DOUBLE>
)

// Column is one column of a table whose rows are R. Of the accessors, the one that Kind names is set; it
// returns the place of the value in a row.
type Column[R any] struct {
	Name     string // path in the row, such as "context.country"
	Kind     Kind
	Required bool // never null
	Enum     bool // few distinct values: worth a dictionary
	System   bool // filled by Backbone, never taken from a producer's event
	Made     bool // where the source has none, Backbone makes one: a mapping may leave it out
	Doc      string

	Str   func(*R) *string
	Int   func(*R) *Int
	Float func(*R) *Float
	Bool  func(*R) *Bool
	List  func(*R) *[]string
	Map   func(*R) *[]Pair
	Items func(*R) *[]LineItem

	Vector  func(*R) *[]float32
	Numbers func(*R) *[]Number
}

// Table lists the columns of rows R. Its order is the order of the encoded row and of the file.
type Table[R any] struct {
	Name    string // folder of the table in the lake
	Version int    // grows by one with each release that adds columns
	Columns []Column[R]

	// Inputs are values that a mapping can fill and that are not stored.
	Inputs []Column[R]
	// Extra returns where unknown fields are kept; nil: they are not.
	Extra func(*R) *[]Pair

	// Slot returns what places a row: its id, which is unique in the table, and its event time.
	Slot func(*R) (id string, eventMicros int64)
	// SortBy returns the first of the keys that rows are sorted by in a file; the second is event time.
	SortBy func(*R) string
	// KeyColumns is how many of the first columns Slot, SortBy and Stamp look at.
	KeyColumns int

	// Stamp returns what tells the versions of a row apart; nil: rows of the table have no versions. Of a table with
	// versions, the following are set too.
	Stamp func(*R) *Stamp
	// Reset makes a row fresh. Clean and then Arrange bring it into its normal form; Check, between them, returns the first
	// rule that it breaks, and where.
	Reset   func(*R)
	Clean   func(*R)
	Check   func(*R, CatalogRules) *FieldError
	Arrange func(*R)
}

// Column returns the column or the input with that path.
func (t *Table[R]) Column(name string) (Column[R], bool) {
	for _, columns := range [][]Column[R]{t.Columns, t.Inputs} {
		for _, c := range columns {
			if c.Name == name {
				return c, true
			}
		}
	}
	return Column[R]{}, false
}

// Only returns the table with some of its columns only, in its order: for reading no others.
func (t *Table[R]) Only(names ...string) *Table[R] {
	only := *t
	only.Columns = nil
	for _, c := range t.Columns {
		if slices.Contains(names, c.Name) {
			only.Columns = append(only.Columns, c)
		}
	}
	return &only
}

// FieldError says which field of an event broke which rule.
type FieldError struct {
	Path    string // path of the field in the event as it came, such as "items[2].item_id"; empty: the whole event
	Code    Code
	Message string
}

func (e *FieldError) Error() string {
	if e.Path == "" {
		return string(e.Code) + ": " + e.Message
	}
	return string(e.Code) + ": " + e.Path + ": " + e.Message
}

// Code classes what is wrong with an event. Codes are stable: people alert on them.
type Code string

// The codes of dead letters.
const (
	CodeSyntax       Code = "syntax"        // not well-formed
	CodeUTF8         Code = "invalid_utf8"  // bytes that are not UTF-8
	CodeDuplicateKey Code = "duplicate_key" // a key twice in one object, at any level
	CodeTooDeep      Code = "too_deep"      // nested deeper than the limit
	CodeTooLarge     Code = "too_large"     // record, field or list longer than its limit
	CodeWrongType    Code = "wrong_type"    // such as a number where text is wanted
	CodeOutOfRange   Code = "out_of_range"  // a number or time outside its bounds
	CodeMissing      Code = "missing"       // a required field is absent
	CodeInvalidID    Code = "invalid_id"    // an id that breaks the rules of ids
	CodeUnknownType  Code = "unknown_type"  // an event type that neither Backbone nor the mapping knows
	CodeInvalid      Code = "invalid"       // any other broken rule
)
