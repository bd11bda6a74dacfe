package generator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// EventsDir is the folder, beside the truth, that holds the events.
const EventsDir = "interactions"

// progressEvery is how many events pass between two calls of Options.Progress.
const progressEvery = 10_000

// WriteFiles writes all events, one a line, to dir/interactions/part-0000.jsonl and so on, each file holding those that
// arrive in one stretch of time, and the truth about them to dir/truth.parquet and dir/truth.json. It makes dir and its
// folders, and refuses to write where there are events already. It is to be called once, before any Next.
func (g *Generator) WriteFiles(ctx context.Context, dir string) (total Summary, err error) {
	events := filepath.Join(dir, EventsDir)
	if err := os.MkdirAll(events, 0o755); err != nil {
		return total, fmt.Errorf("generator: make the folder of the events: %w", err)
	}
	switch there, err := os.ReadDir(events); {
	case err != nil:
		return total, fmt.Errorf("generator: %w", err)
	case len(there) > 0:
		return total, fmt.Errorf("generator: %q is not empty: remove what is in it or choose another folder", events)
	}
	truth, err := newTruthWriter(dir, g.options)
	if err != nil {
		return total, fmt.Errorf("generator: %w", err)
	}
	defer func() {
		var closeErr error
		total, closeErr = truth.close()
		if err = errors.Join(err, closeErr); err != nil {
			err = fmt.Errorf("generator: %w", err)
		}
	}()
	for file := range g.options.Files {
		// The events that end with this file, when they are spread evenly.
		until := int(int64(g.options.Events) * int64(file+1) / int64(g.options.Files))
		if err := g.writeFile(ctx, filepath.Join(events, fmt.Sprintf("part-%04d.jsonl", file)), until, truth); err != nil {
			return total, err
		}
	}
	return total, nil
}

// writeFile writes events until so many have been written in all.
func (g *Generator) writeFile(ctx context.Context, name string, until int, truth *truthWriter) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("create a file of events: %w", err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	defer func() { err = errors.Join(err, w.Flush(), file.Close()) }()
	for truth.tally.summary.Events < until {
		e, ok := g.Next()
		if !ok {
			return nil
		}
		if _, err := w.Write(e.Data); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		if err := w.WriteByte('\n'); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		if err := truth.add(&e); err != nil {
			return err
		}
		if n := truth.tally.summary.Events; n%progressEvery == 0 {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("stopped after %d events: %w", n, err)
			}
			g.progress(n)
		}
	}
	return nil
}

func (g *Generator) progress(events int) {
	if g.options.Progress != nil {
		g.options.Progress(events)
	}
}
