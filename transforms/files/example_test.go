package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"backbone/transforms/files"
	"backbone/transforms/source"
)

// Two files, read in parts of 20 bytes: each record comes once, with the place where it was.
func Example() {
	dir, err := os.MkdirTemp("", "events")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{
		"a.jsonl": "{\"item\":\"kettle\"}\n{\"item\":\"mug\"}\n",
		"b.csv":   "item,n\nkettle,2\n\"pot, blue\",1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			fmt.Println(err)
			return
		}
	}

	ctx := context.Background()
	options := files.Defaults()
	options.RangeBytes = 20
	tasks, err := files.Plan(ctx, []string{dir + "/*"}, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	reader := files.NewReader(options)
	defer reader.Close()
	for _, task := range tasks {
		err := reader.Each(ctx, task, func(r *source.Record) error {
			fmt.Printf("%s, byte %d: %s %q\n", filepath.Base(r.Source), r.Offset, r.Data, r.Fields)
			return nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// a.jsonl, byte 0: {"item":"kettle"} []
	// a.jsonl, byte 18: {"item":"mug"} []
	// b.csv, byte 7: kettle,2 ["kettle" "2"]
	// b.csv, byte 16: "pot, blue",1 ["pot, blue" "1"]
}
