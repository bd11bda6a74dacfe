package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
	"backbone/transforms/windows"
)

// windowsReader looks at the main tables of windows on the local disk again and again while they are written to, as any other
// program would, by a glob: no window is ever there twice, and no session. That one is not there is allowed.
type windowsReader struct {
	t     *testing.T
	lake  string
	stop  chan struct{}
	done  sync.WaitGroup
	looks int
	files map[string]windowFile
	gone  int // files that went away, or were replaced
}

// windowFile is what a file has that must not be in another.
type windowFile struct {
	fileState
	window  [2]int64
	session []string // keys
}

// startWindowsReader starts to look. Call end before the lake is compared with the model.
func startWindowsReader(t *testing.T, lake string) *windowsReader {
	t.Helper()
	r := &windowsReader{t: t, lake: lake, stop: make(chan struct{}), files: map[string]windowFile{}}
	r.done.Go(func() {
		for {
			for _, table := range windows.Tables {
				r.look(table)
			}
			r.looks++
			select {
			case <-r.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	t.Cleanup(r.end)
	return r
}

// end stops.
func (r *windowsReader) end() {
	select {
	case <-r.stop:
		return
	default:
	}
	close(r.stop)
	r.done.Wait()
	r.t.Logf("a reader of windows looked %d times, has seen %d files, and %d that were replaced", r.looks, len(r.files), r.gone)
}

func (r *windowsReader) look(table string) {
	paths, err := filepath.Glob(filepath.Join(r.lake, table, "dt=*", "*.parquet"))
	if err != nil {
		r.t.Error(err)
	}
	seen := map[any]string{}
	for _, path := range paths {
		file, err := r.read(table, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // it was replaced
		case err != nil:
			r.t.Errorf("%s cannot be read: %v", path, err)
			continue
		}
		if file.window != [2]int64{} { // else it has no rows any more
			r.once(seen, file.window, path)
		}
		for _, key := range file.session {
			r.once(seen, key, path)
		}
	}
}

// once notes that something is in a file.
func (r *windowsReader) once(seen map[any]string, what any, path string) {
	other, twice := seen[what]
	seen[what] = path
	if !twice {
		return
	}
	// A glob takes its time: it is twice there only if both files still are.
	for _, file := range []string{other, path} {
		if now, err := stateOf(file); err != nil || now != r.files[file].fileState {
			return
		}
	}
	r.t.Errorf("%v is in %s and in %s", what, other, path)
}

func (r *windowsReader) read(table, path string) (windowFile, error) {
	state, err := stateOf(path)
	if err != nil {
		return windowFile{}, err
	}
	known, ok := r.files[path]
	if ok && known.fileState == state {
		return known, nil
	}
	if ok {
		r.gone++
	}
	file := windowFile{fileState: state}
	type pane struct {
		Start int64 `parquet:"window_start,timestamp(microsecond)"`
		End   int64 `parquet:"window_end,timestamp(microsecond)"`
	}
	if table == schemas.Sessions.Name {
		rows, err := parquet.ReadFile[struct {
			Key string `parquet:"session_key"`
			pane
		}](path)
		if err != nil {
			return file, err
		}
		for _, row := range rows {
			file.window = [2]int64{row.Start, row.End}
			file.session = append(file.session, row.Key)
		}
	} else {
		rows, err := parquet.ReadFile[pane](path)
		if err != nil {
			return file, err
		}
		if len(rows) > 0 {
			file.window = [2]int64{rows[0].Start, rows[0].End}
		}
	}
	r.files[path] = file
	return file, nil
}

func stateOf(path string) (fileState, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}, err
	}
	return fileState{info.Size(), info.ModTime()}, nil
}
