package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// aggregates are the tables of windows.
var aggregates = []string{"sessions", "trending", "funnel", "co_occurrence"}

// windows measures what the results of windows and the join of contexts cost, against the same events without.
func (b *bench) windows(ctx context.Context) (*Section, error) {
	in, err := b.events(ctx, b.options.events, batchFiles)
	if err != nil {
		return nil, err
	}
	if err := b.needDisk(in.truth.Bytes * 2); err != nil {
		return nil, err
	}
	contexts := filepath.Join(b.work, "contexts.jsonl")
	n, err := in.writeContexts(contexts)
	if err != nil {
		return nil, err
	}
	s := &Section{Title: fmt.Sprintf("Windows and contexts: %d events, %d contexts, one of each session", in.truth.Events, n), Unit: "events"}
	rows, results, joined := &agreement{bench: b}, &agreement{bench: b}, &agreement{bench: b}
	with := func(same *agreement, args ...string) func(context.Context, string, int) (Sample, error) {
		return func(ctx context.Context, lake string, round int) (Sample, error) {
			sample, _, err := b.runInteractions(ctx, lake, slices.Concat(args, []string{"--input", in.glob()}, b.profile("windows", round))...)
			if err != nil {
				return sample, err
			}
			err = same.check(ctx, lake)
			if slices.Contains(args, "--aggregate") {
				text, hashErr := hashResults(lake)
				err = errors.Join(err, hashErr, results.agree(text))
			}
			return sample, err
		}
	}
	windows := []string{"--aggregate", strings.Join(aggregates, ",")}
	joins := []string{"--context", contexts}
	if err := b.compare(ctx, s, int64(in.truth.Events), []contender{
		{"interactions", with(rows)},
		{"with windows", with(rows, windows...)},
		{"with contexts", with(joined, joins...)},
		{"with both", with(joined, slices.Concat(windows, joins)...)},
	}); err != nil {
		return nil, err
	}
	both := s.Rows[3]
	s.Aims = []Aim{
		{What: "time with both against without", Got: both.WallRatio, Most: 1.6},
		{What: "CPU time with both against without", Got: both.CPURatio, Most: 1.6},
		{What: "memory in MB", Got: both.Median(rss) / 1e6, Most: 1000},
	}
	s.Notes = []string{"equal rows with and without windows: " + rows.text, "equal results with and without contexts: " + results.text}
	return s, nil
}

// writeContexts writes a context for each session of the events, from its first event in the files on.
func (in *input) writeContexts(name string) (n int, err error) {
	files, err := in.files()
	if err != nil {
		return 0, err
	}
	seen := map[uint64]bool{}
	err = writeFile(name, func(w io.Writer) error {
		for _, file := range files {
			if err := eachLine(file, func(line []byte) error {
				var e struct {
					SessionID string `json:"session_id"`
					EventTime any    `json:"event_time"`
				}
				wellFormed := json.Unmarshal(line, &e) == nil // some are broken on purpose
				if !wellFormed || e.SessionID == "" || e.EventTime == nil {
					return nil
				}
				key := xxh3.HashString(e.SessionID)
				if seen[key] {
					return nil
				}
				seen[key] = true
				n++
				at, err := json.Marshal(e.EventTime)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(w, `{"event_id":"c%d","event_time":%s,"session_id":%q,"context":{"city":"city %d","network":"wifi"},"attributes":{"weather":"w%d"}}`+"\n",
					n, at, e.SessionID, n%500, n%20)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

func eachLine(file string, fn func(line []byte) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read from
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if err := fn(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// hashResults is of the names and bytes of all results of windows.
func hashResults(lake string) (string, error) {
	h := xxh3.New()
	files := 0
	for _, table := range aggregates {
		err := filepath.WalkDir(filepath.Join(lake, table), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			files++
			_, _ = h.WriteString(table + "/" + entry.Name()) // a hash does not fail
			_, _ = h.Write(body)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%016x over %d files", h.Sum64(), files), nil
}
