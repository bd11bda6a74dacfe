package flink

import "testing"

func TestCamel(t *testing.T) {
	for name, want := range map[string]string{"backbone_run_id": "backboneRunId", "lake": "lake", "a__b": "aB"} {
		if got := camel(name); got != want {
			t.Errorf("camel(%q) = %q, want %q", name, got, want)
		}
	}
}
