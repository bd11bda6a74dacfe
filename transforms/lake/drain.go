package lake

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"regexp"
	"sync"
	"time"

	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

// runsFolder has what the processes of a launch tell each other: <lake>/_runs/<run id>/. Readers of tables skip it.
const runsFolder = "_runs"

// askEvery is how often a process asks the lake whether its run drains.
const askEvery = time.Second

// Signal is how the parts of a run learn that it drains. Where all of them are in the process of the launcher, its Run says so. Where they are
// in others, which know nothing of each other, they share the lake: there, an object says so.
type Signal struct {
	run   *run.Run
	store *store.Store // nil: the run is in this process
	stop  func()
}

// SignalOf returns the signal of a run in this process. Remote says that the launcher is in another; then r drains as soon as the lake at url
// has been seen to ask for that.
func SignalOf(ctx context.Context, r *run.Run, url string, remote bool) (*Signal, error) {
	if !remote {
		return &Signal{run: r}, nil
	}
	return run.Shared(r, "lake/signal/"+url, func() (*Signal, error) {
		st, err := OpenStore(ctx, r, url)
		if err != nil {
			return nil, err
		}
		asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
		var asker sync.WaitGroup
		s := &Signal{run: r, store: st, stop: func() {
			cancel()
			asker.Wait()
		}}
		asker.Go(func() { s.follow(asking) })
		return s, nil
	})
}

// follow asks until the run drains, or ctx ends.
func (s *Signal) follow(ctx context.Context) {
	for {
		draining, err := s.IsDraining(ctx)
		if draining {
			return
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("cannot see whether the run is to be drained, asking again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(askEvery):
		}
	}
}

// IsDraining tells whether the run drains, as of now: what a source has seen of that, who asks after it sees, too.
func (s *Signal) IsDraining(ctx context.Context) (bool, error) {
	if s.store == nil || s.run.IsDraining() {
		return s.run.IsDraining(), nil
	}
	asked, err := IsDrainRequested(ctx, s.store, s.run.ID)
	if asked {
		s.run.Drain()
	}
	return asked, err
}

// Close ends the asking.
func (s *Signal) Close() error {
	s.stop()
	return nil
}

// RequestDrain asks a run to drain, in whatever processes its parts are. It can't be taken back; to ask again does nothing.
func RequestDrain(ctx context.Context, st *store.Store, runID string) error {
	return Note(ctx, st, runID, drainName, nil)
}

// IsDrainRequested tells whether a run was asked to drain.
func IsDrainRequested(ctx context.Context, st *store.Store, runID string) (bool, error) {
	key, err := noteKey(runID, drainName)
	if err != nil {
		return false, err
	}
	return st.Exists(ctx, key)
}

const drainName = "drain"

// Note keeps something of a launch in the lake, for its other processes and for who comes later. Of two notes of one name, the first stays.
func Note(ctx context.Context, st *store.Store, runID, name string, body []byte) error {
	key, err := noteKey(runID, name)
	if err != nil {
		return err
	}
	_, err = st.Commit(ctx, key, body)
	return err
}

// NoteOf returns what Note keeps. An error that Is store.ErrNotFound says that there is none.
func NoteOf(ctx context.Context, st *store.Store, runID, name string) ([]byte, error) {
	key, err := noteKey(runID, name)
	if err != nil {
		return nil, err
	}
	return st.ReadAll(ctx, key, maxNote)
}

// maxNote is the size of the largest note, in bytes.
const maxNote = 16 << 20

// runIDs are the ids that have notes: a folder is called so.
var runIDs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func noteKey(runID, name string) (string, error) {
	if !runIDs.MatchString(runID) {
		return "", fmt.Errorf("run id is %q; it must be of letters, digits, dots, underscores and hyphens", runID)
	}
	return path.Join(runsFolder, runID, name), nil
}
