// Package lock holds the committed shape of each table, and refuses changes that would make what was written by an
// older version unreadable.
//
// The shapes are the *.lock files beside this one: a line for each column, with its kind and whether it is required.
// They change with the tables, by
//
//	go test ./schemas/lock -update
//
// which refuses what the rules refuse.
//
// # Guarantees
//
// Of a table, only optional columns are added, and only at the end. No column changes its name, its kind, its place or
// whether it is required, and none goes away. The version of a table does not go back.
package lock

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"backbone/schemas"
)

// Column is what must not change of a column.
type Column struct {
	Name     string
	Kind     string
	Required bool
}

func (c Column) String() string {
	if c.Required {
		return c.Name + " " + c.Kind + " required"
	}
	return c.Name + " " + c.Kind
}

// Shape is what must not change of a table.
type Shape struct {
	Table   string
	Version int
	Columns []Column
}

// Shapes returns the shapes of all tables as they are now. The elements of interactions.items are a table of their own.
func Shapes() []Shape {
	return []Shape{
		Of(schemas.Interactions.Name, schemas.Interactions.Version, schemas.Interactions.Columns),
		Of("line_items", schemas.Interactions.Version, schemas.LineItemColumns),
		Of(schemas.DeadLetters.Name, schemas.DeadLetters.Version, schemas.DeadLetters.Columns),
		Of(schemas.Contexts.Name, schemas.Contexts.Version, schemas.Contexts.Columns),
		Of(schemas.Users.Name, schemas.Users.Version, schemas.Users.Columns),
		Of(schemas.Items.Name, schemas.Items.Version, schemas.Items.Columns),
		Of(schemas.Sessions.Name, schemas.Sessions.Version, schemas.Sessions.Columns),
		Of(schemas.Trending.Name, schemas.Trending.Version, schemas.Trending.Columns),
		Of(schemas.Funnels.Name, schemas.Funnels.Version, schemas.Funnels.Columns),
		Of(schemas.CoOccurrences.Name, schemas.CoOccurrences.Version, schemas.CoOccurrences.Columns),
	}
}

// Of returns the shape of a table with those columns.
func Of[R any](table string, version int, columns []schemas.Column[R]) Shape {
	s := Shape{Table: table, Version: version}
	for _, c := range columns {
		s.Columns = append(s.Columns, Column{Name: c.Name, Kind: KindName(c.Kind), Required: c.Required})
	}
	return s
}

// KindName is what a kind is called in lock files and in the reference. A kind without a name is a mistake in this package,
// which its test finds.
func KindName(k schemas.Kind) string {
	switch k {
	case schemas.String:
		return "string"
	case schemas.Int64:
		return "int64"
	case schemas.Float64:
		return "float64"
	case schemas.Boolean:
		return "boolean"
	case schemas.Micros:
		return "micros"
	case schemas.Strings:
		return "strings"
	case schemas.Map:
		return "map"
	case schemas.LineItems:
		return "items"
	case schemas.Bytes:
		return "bytes"
	case schemas.Floats:
		return "floats"
	case schemas.Numbers:
		return "numbers"
	}
	return "kind-" + strconv.Itoa(int(k))
}

const header = "# The committed shape of a table. It is rewritten by: go test ./schemas/lock -update\n"

// String returns the text of a lock file.
func (s Shape) String() string {
	var b strings.Builder
	b.WriteString(header)
	fmt.Fprintf(&b, "table %s\nversion %d\n", s.Table, s.Version)
	for _, c := range s.Columns {
		fmt.Fprintf(&b, "%v\n", c)
	}
	return b.String()
}

// Parse reads the text of a lock file.
func Parse(text string) (Shape, error) {
	var s Shape
	lines := bufio.NewScanner(strings.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && s.Table == "" && fields[0] == "table":
			s.Table = fields[1]
		case len(fields) == 2 && s.Version == 0 && fields[0] == "version":
			version, err := strconv.Atoi(fields[1])
			if err != nil || version < 1 {
				return s, fmt.Errorf("line %d: version is %q; it must be a number from 1", number, fields[1])
			}
			s.Version = version
		case s.Table == "" || s.Version == 0:
			return s, fmt.Errorf("line %d is %q; the first lines must be the table and its version", number, line)
		case len(fields) == 2:
			s.Columns = append(s.Columns, Column{Name: fields[0], Kind: fields[1]})
		case len(fields) == 3 && fields[2] == "required":
			s.Columns = append(s.Columns, Column{Name: fields[0], Kind: fields[1], Required: true})
		default:
			return s, fmt.Errorf("line %d is %q; it must be a column, its kind, and perhaps \"required\"", number, line)
		}
	}
	if s.Table == "" {
		return s, errors.New("it is empty")
	}
	return s, lines.Err()
}

// Allowed returns why a table must not change from the locked shape to another one, or nil. It tells everything at once.
func Allowed(locked, now Shape) error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("table %s: "+format, append([]any{locked.Table}, args...)...))
	}
	if now.Table != locked.Table {
		refuse("it must not be renamed to %s", now.Table)
	}
	if now.Version < locked.Version {
		refuse("version is %d; it must not go back from %d", now.Version, locked.Version)
	}
	for i, want := range locked.Columns {
		if i >= len(now.Columns) {
			refuse("column %d (%v) must not go away", i+1, want)
		} else if got := now.Columns[i]; got != want {
			refuse("column %d must stay %q, and is %q", i+1, want, got)
		}
	}
	names := map[string]bool{}
	for i, c := range now.Columns {
		if names[c.Name] {
			refuse("column %s is there twice", c.Name)
		}
		names[c.Name] = true
		if i >= len(locked.Columns) && c.Required {
			refuse("column %s is new and must be optional: older rows do not have it", c.Name)
		}
	}
	return errors.Join(errs...)
}
