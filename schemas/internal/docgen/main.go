// Docgen writes what is derived from the tables of package schemas for people and programs elsewhere:
//
//	docs/schemas.md               the reference of tables, event types and codes
//	docs/interaction.schema.json  JSON Schema of the native format
//
// It is run in the folder schemas, by "go generate ./schemas".
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(".", filepath.Join("..", "docs")); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// document is a file below docs.
type document struct {
	name string
	make func(sources string) ([]byte, error)
}

var documents = []document{
	{"schemas.md", reference},
	{"interaction.schema.json", interactionSchema},
}

// run writes all documents to the folder docs. Sources is the folder of package schemas.
func run(sources, docs string) error {
	for _, d := range documents {
		text, err := d.make(sources)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		err = errors.Join(os.MkdirAll(docs, 0o755), os.WriteFile(filepath.Join(docs, d.name), text, 0o644))
		if err != nil {
			return err
		}
	}
	return nil
}
