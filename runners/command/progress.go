package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
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
}

// startProgress shows the progress of what until stop is called: as a line that redraws itself on a terminal, as a
// log line now and then elsewhere. State is called from another goroutine; stop waits for it and may be called twice.
func (e *environment) startProgress(ctx context.Context, what string, state func() progress) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	show, every := e.logProgress(what), reportEvery
	if e.stderr.isTerminal() {
		show, every = e.stderr.drawProgress(what), redrawEvery
	}
	var reporter sync.WaitGroup
	reporter.Go(func() {
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		defer e.stderr.endProgress()
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
	last, lastRows := time.Now(), int64(0)
	return func(p progress) {
		now := time.Now()
		attrs := []any{"rows", p.Rows, "rows_per_second", int64(float64(p.Rows-lastRows) / now.Sub(last).Seconds())}
		last, lastRows = now, p.Rows
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

// screen is standard error: log lines, and on a terminal a progress line below them. It is safe for concurrent use.
type screen struct {
	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar // nil unless a progress line is shown
}

func newScreen(w io.Writer) *screen { return &screen{w: w} }

// Write puts p above the progress line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		if err := s.bar.Clear(); err != nil {
			return 0, err
		}
	}
	return s.w.Write(p)
}

func (s *screen) isTerminal() bool {
	file, ok := s.w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// drawProgress shows a progress line until endProgress.
func (s *screen) drawProgress(what string) func(progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bar = progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(s.w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("rows"),
		progressbar.OptionSetWidth(20),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish(),
	)
	return func(p progress) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.Total > 0 && s.bar.GetMax64() != p.Total {
			s.bar.ChangeMax64(p.Total)
		}
		s.bar.Describe(describe(what, p))
		// A terminal that is gone has nowhere to say so.
		_ = s.bar.Set64(p.Rows)
	}
}

// endProgress takes the progress line away.
func (s *screen) endProgress() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear() // as above
		s.bar = nil
	}
}

func describe(what string, p progress) string {
	if p.DeadLetters > 0 {
		what += fmt.Sprintf(", %s dead letters", humanize.Comma(p.DeadLetters))
	}
	if !p.Watermark.IsZero() {
		what += ", watermark " + p.Watermark.UTC().Format(time.DateTime)
	}
	return what
}
