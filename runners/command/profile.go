package command

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/spf13/pflag"
)

// profiles are the files for the profiles of a run; empty: none.
type profiles struct {
	cpu  string
	heap string
}

// flags adds what asks for them.
func (p *profiles) flags(f *pflag.FlagSet) {
	f.StringVar(&p.cpu, "cpu_profile", "", "`FILE` for a CPU profile of the run, to be read with go tool pprof")
	f.StringVar(&p.heap, "heap_profile", "", "`FILE` for a profile of the memory that is in use when the run ends, to be read with go tool pprof")
}

// startProfile writes a CPU profile to the file at path until stop is called; an empty path means none.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("cpu_profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("cpu_profile %q: %w", path, errors.Join(err, file.Close()))
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

// heapProfile writes what of the memory is in use to the file at path; an empty path means none.
func heapProfile(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("heap_profile: %w", err)
	}
	runtime.GC() // without what nobody needs any more
	if err := errors.Join(pprof.WriteHeapProfile(file), file.Close()); err != nil {
		return fmt.Errorf("heap_profile %q: %w", path, err)
	}
	return nil
}
