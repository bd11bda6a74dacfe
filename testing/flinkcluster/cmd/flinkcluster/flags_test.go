package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"backbone/testing/flinkcluster"
)

// The page about Flink has all flags, and no others.
func TestFlagsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "flink.md"))
	if err != nil {
		t.Fatal(err)
	}
	set := flag.NewFlagSet("flinkcluster", flag.ContinueOnError)
	flags(set, &flinkcluster.Options{}, new(bool))
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 4 && strings.HasPrefix(cells[1], " `-") && !strings.HasPrefix(cells[1], " `--") {
			for _, name := range strings.Split(cells[1], ",") {
				name, _, _ = strings.Cut(strings.Trim(name, " `-"), " ")
				documented[name] = true
			}
		}
	}
	for name := range documented {
		if set.Lookup(name) == nil {
			t.Errorf("docs/flink.md has -%s, and the command has not", name)
		}
	}
	set.VisitAll(func(f *flag.Flag) {
		if !documented[f.Name] && f.Name != "worker_pool_port" { // which is said beside worker_pool
			t.Errorf("docs/flink.md lacks -%s", f.Name)
		}
	})
}
