package mappings

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"backbone/schemas"
)

//go:embed presets/*.yaml
var presets embed.FS

// NativeName is the name of the mapping of Backbone's own format; see Native. Those of users and items have "-" and the table behind it.
const NativeName = "native"

// IsNative tells if a mapping of that name is Backbone's own format of a table.
func IsNative(name string) bool { return natives()[name] != "" }

// natives returns the tables that have a format of Backbone's own, by the names of its mappings.
func natives() map[string]string {
	return map[string]string{
		NativeName:                               schemas.Interactions.Name,
		NativeName + "-" + schemas.Contexts.Name: schemas.Contexts.Name,
		NativeName + "-" + schemas.Users.Name:    schemas.Users.Name,
		NativeName + "-" + schemas.Items.Name:    schemas.Items.Name,
	}
}

// Presets returns the names that Load knows, sorted.
func Presets() []string {
	names := slices.Collect(maps.Keys(natives()))
	entries, err := presets.ReadDir("presets")
	if err != nil {
		return names // An embedded folder can always be read.
	}
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Load returns a preset by its name, or the mapping of a YAML file. A file is recognised by a "/" or by its extension .yaml or .yml.
//
// A key that means nothing, and a key that comes twice, are refused with the line where they stand. Whether the columns exist is said by Validate.
func Load(nameOrFile string) (*Mapping, error) {
	isFile := strings.ContainsAny(nameOrFile, `/\`) || slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(nameOrFile))
	switch {
	case nameOrFile == "":
		return nil, fmt.Errorf("no mapping: give the name of a preset (%s) or a YAML file", strings.Join(Presets(), ", "))
	case IsNative(nameOrFile):
		return NativeFor(natives()[nameOrFile])
	case !isFile && slices.Contains(Presets(), nameOrFile):
		text, err := PresetText(nameOrFile)
		if err != nil {
			return nil, err
		}
		return Parse(nameOrFile+".yaml", text)
	case !isFile:
		return nil, fmt.Errorf("unknown mapping %q%s: presets are %s; a file of your own ends in .yaml", nameOrFile, didYouMean(nameOrFile, Presets()), strings.Join(Presets(), ", "))
	}
	text, err := os.ReadFile(nameOrFile)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, fmt.Errorf("mapping %q: %w", nameOrFile, err)
	}
	return Parse(nameOrFile, text)
}

// PresetText returns the YAML of a preset, with its comments. Of Backbone's own formats it is made from the columns.
func PresetText(name string) ([]byte, error) {
	if IsNative(name) {
		m, err := NativeFor(natives()[name])
		if err != nil {
			return nil, err
		}
		text, err := yaml.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("mapping %q: %w", name, err)
		}
		return text, nil
	}
	text, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("unknown mapping %q%s", name, didYouMean(name, Presets()))
	}
	return text, nil
}

// Parse reads the YAML of a mapping. file is what errors call it, and what the mapping is called where it has no name.
func Parse(file string, text []byte) (*Mapping, error) {
	m := &Mapping{}
	if err := yaml.UnmarshalWithOptions(text, m, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("mapping %q: %w", file, inWords(err))
	}
	if m.Name == "" {
		m.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	if m.Format == "" {
		m.Format = JSONL
	}
	if m.Table == "" {
		m.Table = schemas.Interactions.Name
	}
	return m, nil
}

// inWords makes one line of what package yaml says, with the line of the file.
func inWords(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		return err
	}
	token := y.GetToken()
	line := token.Position.Line
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		return fmt.Errorf("line %d: unknown key %q%s", line, token.Value, didYouMean(token.Value, keysOf(token.Position.IndentNum)))
	}
	return fmt.Errorf("line %d: %s", line, y.GetMessage())
}

// keysOf returns the keys that may stand at an indentation: those of a mapping at the margin, or else of one of its fields or parts.
func keysOf(indent int) []string {
	types := []reflect.Type{reflect.TypeFor[Mapping]()}
	if indent > 0 {
		types = []reflect.Type{reflect.TypeFor[Field](), reflect.TypeFor[Part]()}
	}
	var keys []string
	for _, t := range types {
		for i := range t.NumField() {
			key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			keys = append(keys, key)
		}
	}
	return keys
}

// Native returns the mapping of Backbone's own format of interactions: JSON lines whose paths are the columns' names. Besides,
// context.user_agent and context.ip are what the context is derived from.
func Native() *Mapping {
	m := native(schemas.Interactions)
	m.Name = NativeName
	m.Doc = "Backbone's own format: JSON lines whose paths are the names of the columns."
	m.Fields["raw.user_agent"] = Field{Path: "context.user_agent"}
	m.Fields["raw.ip"] = Field{Path: "context.ip"}
	return m
}

// NativeFor returns the mapping of Backbone's own format of a table: interactions, users or items.
func NativeFor(table string) (*Mapping, error) {
	switch table {
	case schemas.Interactions.Name:
		return Native(), nil
	case schemas.Contexts.Name:
		m := native(schemas.Contexts)
		m.Fields["raw.user_agent"] = Field{Path: "context.user_agent"}
		m.Fields["raw.ip"] = Field{Path: "context.ip"}
		return m, nil
	case schemas.Users.Name:
		return native(schemas.Users), nil
	case schemas.Items.Name:
		return native(schemas.Items), nil
	default:
		return nil, fmt.Errorf("table %q: there is no mapping for it: want %s", table, strings.Join(Tables(), ", "))
	}
}

// Tables lists the tables that a mapping can fill.
func Tables() []string {
	return []string{schemas.Interactions.Name, schemas.Contexts.Name, schemas.Users.Name, schemas.Items.Name}
}

func native[R any](table *schemas.Table[R]) *Mapping {
	m := &Mapping{
		Name:   NativeName + "-" + table.Name,
		Doc:    "Backbone's own format of " + table.Name + ": JSON lines whose paths are the names of the columns. attributes is an object of texts, numbers one of numbers.",
		Table:  table.Name,
		Format: JSONL,
		Fields: map[string]Field{},
		Strict: true,
	}
	for _, c := range table.Columns {
		switch {
		case c.System:
		case c.Kind == schemas.LineItems:
			for _, i := range schemas.LineItemColumns {
				path := c.Name + "[]." + i.Name
				m.Fields[path] = Field{Path: path}
			}
		default:
			m.Fields[c.Name] = Field{Path: c.Name}
		}
	}
	return m
}

// didYouMean names the candidate that is most like word, if one is.
func didYouMean(word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+2
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is Levenshtein's: how many bytes have to be added, removed or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
