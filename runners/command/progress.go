package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

const (
	redrawEvery = time.Second      // on a terminal
	reportEvery = 10 * time.Second // in a log
)

// progress says how far a job is.
type progress struct {
	Rows        int64     // read so far
	Total       int64     // to be read; 0 where nobody knows
	DeadLetters int64     // of Rows
	Watermark   time.Time // zero where there is none yet
	// Every is how long the rows may stand still because nobody has looked again; 0 where they are counted as one looks.
	Every time.Duration
}

// startProgress shows the progress of what until stop is called: as a line that redraws itself on a terminal, as a
// log line now and then elsewhere. State is called from another goroutine; stop waits for it and may be called twice.
func (e *environment) startProgress(ctx context.Context, what string, state func() progress) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	show, every := e.logProgress(what), reportEvery
	if e.stderr.isTerminal() {
		show, every = e.drawProgress(what), redrawEvery
	}
	var reporter sync.WaitGroup
	reporter.Go(func() {
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		defer e.stderr.setStatus("")
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				show(state())
			}
		}
	})
	return func() {
		cancel()
		reporter.Wait()
	}
}

// logProgress reports to the log.
func (e *environment) logProgress(what string) func(progress) {
	rate := newRate()
	return func(p progress) {
		attrs := []any{"rows", p.Rows, "rows_per_second", rate(p)}
		if p.Total > 0 {
			attrs = append(attrs, "total", p.Total)
		}
		attrs = append(attrs, "dead_letters", p.DeadLetters)
		if !p.Watermark.IsZero() {
			attrs = append(attrs, "watermark", p.Watermark.UTC())
		}
		e.log.Info(what, attrs...)
	}
}

// drawProgress keeps a line on the terminal.
func (e *environment) drawProgress(what string) func(progress) {
	rate := newRate()
	return func(p progress) { e.stderr.setStatus(progressLine(what, p, rate(p))) }
}

// newRate makes a function that gives the rows a second since it was called before, or since they changed before where they stand still.
func newRate() func(progress) int64 {
	last, lastRows, rate := time.Now(), int64(0), int64(0)
	return func(p progress) int64 {
		now := time.Now()
		if p.Rows == lastRows && now.Sub(last) < p.Every {
			return rate
		}
		rate = int64(float64(p.Rows-lastRows) / max(now.Sub(last), time.Millisecond).Seconds())
		last, lastRows = now, p.Rows
		return rate
	}
}

func progressLine(what string, p progress, rate int64) string {
	rows := humanize.Comma(p.Rows)
	if p.Total > 0 {
		rows = fmt.Sprintf("%d%%, %s of %s", 100*p.Rows/p.Total, rows, humanize.Comma(p.Total))
	}
	line := fmt.Sprintf("%s: %s rows, %s/s", what, rows, humanize.Comma(rate))
	if p.DeadLetters > 0 {
		line += fmt.Sprintf(", %s dead letters", humanize.Comma(p.DeadLetters))
	}
	if !p.Watermark.IsZero() {
		line += ", watermark " + p.Watermark.UTC().Format(time.DateTime)
	}
	return line
}

// clearLine takes the cursor to the beginning of its line and empties the line.
const clearLine = "\r\x1b[K"

// screen is standard error: log lines, and on a terminal a status line below them. It is safe for concurrent use.
type screen struct {
	mu     sync.Mutex
	w      io.Writer
	status string // "" where there is no status line
}

func newScreen(w io.Writer) *screen { return &screen{w: w} }

// Write puts p above the status line. P must end a line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == "" {
		return s.w.Write(p)
	}
	if _, err := io.WriteString(s.w, clearLine); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	if err == nil {
		_, err = io.WriteString(s.w, s.status)
	}
	return n, err
}

// setStatus replaces the status line; an empty one takes it away.
func (s *screen) setStatus(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line == "" && s.status == "" {
		return
	}
	s.status = s.fit(line)
	// A terminal that is gone has nowhere to say so.
	_, _ = io.WriteString(s.w, clearLine+s.status)
}

// fit shortens line to the terminal's width: of a line that wraps, only the end could be taken back.
func (s *screen) fit(line string) string {
	width := 80
	if file, ok := s.w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			width = columns
		}
	}
	if runes := []rune(line); len(runes) >= width {
		return strings.TrimSpace(string(runes[:width-1]))
	}
	return line
}

func (s *screen) isTerminal() bool {
	file, ok := s.w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
