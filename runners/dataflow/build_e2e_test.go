//go:build e2e

package dataflow

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"path/filepath"
	"testing"

	df "google.golang.org/api/dataflow/v1b3"
)

// For each architecture of workers, the sources of the project make a program of it, the same each time, and a request names it by its hash.
func TestBuild(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	for arch, test := range map[string]struct {
		machineType string
		machine     elf.Machine
	}{"arm64": {"t2a-standard-4", elf.EM_AARCH64}, "amd64": {"n2-standard-4", elf.EM_X86_64}} {
		t.Run(arch, func(t *testing.T) {
			path, stop, err := build(t.Context(), arch)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			f, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != test.machine || f.Type != elf.ET_EXEC {
				t.Errorf("it is a %v for %v, want a program for %v", f.Type, f.Machine, test.machine)
			}
			if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
				t.Errorf("it needs %v, %v: a container may not have that", libraries, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			made, err := describe(path)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			o := good(t, "")
			o.MachineType, o.DryRun = test.machineType, &got
			if o.WorkerBinary = path; arch == "arm64" {
				o.WorkerBinary = "" // on machines that are not Arm, it is built
			}
			if err := o.Validate(); err != nil {
				t.Fatal(err)
			}
			if _, err := New(o).Submit(t.Context(), pipeline()); err != nil {
				t.Fatal(err)
			}
			var job df.Job
			if err := json.Unmarshal(got.Bytes(), &job); err != nil {
				t.Fatal(err)
			}
			worker := job.Environment.WorkerPools[0].Packages[0]
			if worker.Sha256 != made.sha256 || worker.Location != "gs://shop/staging/binaries/"+made.sha256+"/worker" {
				t.Errorf("the worker is %s with the hash %s, want %s", worker.Location, worker.Sha256, made.sha256)
			}
		})
	}
}
