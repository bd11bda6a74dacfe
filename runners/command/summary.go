package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// summary says what a run did with the rows it read. Each row that was read is in exactly one of Committed, Duplicate,
// DeadLettered and Unjoined.
type summary struct {
	Command      string     `json:"command"`
	Outcome      string     `json:"outcome"`         // done, drained, submitted, stopped, there, planned or failed
	Error        string     `json:"error,omitempty"` // why it failed
	Read         int64      `json:"read"`
	Committed    int64      `json:"committed"`          // now in the lake, and not there before
	Duplicate    int64      `json:"duplicate"`          // in the lake already, or twice in this run
	DeadLettered int64      `json:"dead_lettered"`      // in the dead-letter table, with a reason
	Unjoined     int64      `json:"unjoined,omitempty"` // records of side files for which there is no row
	Late         int64      `json:"late"`               // of Committed: after their partition was marked as complete; or older than what was known
	Files        int64      `json:"files"`              // written to the lake
	Bytes        int64      `json:"bytes"`              // of Files
	Watermark    *time.Time `json:"watermark,omitempty"`
	Partial      bool       `json:"partial,omitempty"` // the counts are not all: others were made before the job was begun again
	Started      time.Time  `json:"started"`
	Seconds      float64    `json:"seconds"`
}

const (
	outcomeDone    = "done"
	outcomeDrained = "drained"
	outcomeFailed  = "failed"
	// outcomeSubmitted is a job that runs on a cluster, and is left alone.
	outcomeSubmitted = "submitted"
	// outcomeStopped is a stream that was stopped with a savepoint, from which another goes on.
	outcomeStopped = "stopped"
	// outcomeThere is a job that was there before.
	outcomeThere = "there"
	// outcomePlanned is a job of which only the request was asked for.
	outcomePlanned = "planned"
)

// finish ends a run: it logs s, writes it as JSON to the file at path, where that is not empty, and returns err. A run
// that ended well but whose counts do not balance is an error too. Outcome is outcomeDone unless s says otherwise;
// Error and Seconds are filled in.
func (e *environment) finish(path string, s summary, err error) error {
	if unbalanced := s.balance(); err == nil && unbalanced != nil {
		err = unbalanced
	}
	if s.Outcome == "" {
		s.Outcome = outcomeDone
	}
	if err != nil {
		s.Outcome, s.Error = outcomeFailed, oneLine(err)
	}
	s.Seconds = time.Since(s.Started).Seconds()
	e.log.Info(s.Command+" "+s.Outcome, "read", s.Read, "committed", s.Committed, "duplicate", s.Duplicate,
		"dead_lettered", s.DeadLettered, "late", s.Late, "files", s.Files, "bytes", s.Bytes, "seconds", s.Seconds)
	if path == "" {
		return err
	}
	return errors.Join(err, writeSummary(path, s))
}

// balance refuses counts by which a row was lost or counted twice.
func (s summary) balance() error {
	if s.Partial {
		return nil
	}
	if ended := s.Committed + s.Duplicate + s.DeadLettered + s.Unjoined; ended != s.Read {
		return fmt.Errorf("the counts do not balance: %d rows read, but %d committed + %d duplicate + %d dead-lettered + %d without a row = %d",
			s.Read, s.Committed, s.Duplicate, s.DeadLettered, s.Unjoined, ended)
	}
	return nil
}

// writeSummary writes v as JSON to the file at path, which is there in full or not at all.
func writeSummary(path string, v any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("summary %q: %w", path, err)
		}
	}()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	if _, err = temporary.Write(append(text, '\n')); err != nil {
		return errors.Join(err, temporary.Close())
	}
	if err = errors.Join(temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
