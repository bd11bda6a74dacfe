package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/runners/command"
)

func TestReferenceIsUpToDate(t *testing.T) {
	got, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reference(command.Tree()), string(got)); diff != "" {
		t.Errorf("docs/commands.md is not what the commands say; run: go generate ./runners/command (-want +got):\n%s", diff)
	}
}
