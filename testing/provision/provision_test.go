package provision

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A thing is made once, by whoever comes first; what was not made as a whole is made again, in an empty folder.
func TestOnce(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	broken := errors.New("broken")
	if _, err := Once("thing", []byte("1"), func(dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o600))
	}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	times := 0
	fill := func(dir string) error {
		times++
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("it has %v, error %v", left, err)
		}
		return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o600)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			dir, err := Once("thing", []byte("1"), fill)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if times != 1 {
		t.Errorf("it was made %d times", times)
	}
	if _, err := Once("thing", []byte("2"), fill); err != nil || times != 2 {
		t.Errorf("another was made %d times, error %v", times-1, err)
	}
}

func TestRun(t *testing.T) {
	err := Run(t.Context(), t.TempDir(), "sh", "-c", "echo first; echo no room >&2; exit 3")
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3\nfirst\nno room") {
		t.Errorf("error %v", err)
	}
}
