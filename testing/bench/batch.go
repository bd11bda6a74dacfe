package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// contender is a program that does the job once. It returns what that took, and an error where the result is wrong.
type contender struct {
	name string
	run  func(ctx context.Context, lake string, round int) (Sample, error)
}

// compare lets contenders run one after the other, for all rounds.
func (b *bench) compare(ctx context.Context, s *Section, count int64, contenders []contender) error {
	fmt.Fprintf(b.log, "%s\n", s.Title)
	for _, c := range contenders {
		s.Rows = append(s.Rows, &Row{Name: c.name, Count: count})
	}
	for round := range b.rounds {
		for i, c := range contenders {
			lake := filepath.Join(b.work, "lake")
			sample, err := c.run(ctx, lake, round)
			if err = errors.Join(err, os.RemoveAll(lake)); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(b.log, "round %d of %d: %s: %v\n", round+1, b.rounds, c.name, sample)
			s.Rows[i].Samples = append(s.Rows[i].Samples, sample)
		}
	}
	s.Compare()
	return nil
}

// batchFiles is over how many files the events of a batch are spread.
const batchFiles = 8

// batch compares plain Go, the pipeline and DuckDB.
func (b *bench) batch(ctx context.Context) (*Section, error) {
	in, err := b.events(ctx, b.options.events, batchFiles)
	if err != nil {
		return nil, err
	}
	if err := b.needDisk(in.truth.Bytes * 2); err != nil {
		return nil, err
	}
	s := &Section{Title: fmt.Sprintf("Batch: %d events, %d MB in %d files", in.truth.Events, in.truth.Bytes/1e6, batchFiles), Unit: "events"}
	same := &agreement{bench: b}
	contenders := []contender{
		{"plain Go", b.plainFiles(in, same)},
		{"backbone interactions", b.interactions(in, same)},
	}
	var sorted, unsorted *duckdb
	python, err := findPython(ctx)
	if err != nil {
		s.Notes = append(s.Notes, "DuckDB was left out: "+err.Error())
	} else {
		sorted, unsorted = &duckdb{bench: b, python: python, in: in, sorted: true}, &duckdb{bench: b, python: python, in: in}
		contenders = append(contenders, contender{"DuckDB, sorted", sorted.run}, contender{"DuckDB, not sorted", unsorted.run})
	}
	if err := b.compare(ctx, s, int64(in.truth.Events), contenders); err != nil {
		return nil, err
	}
	ours := s.Rows[1]
	s.Aims = []Aim{
		{What: "time against plain Go", Got: ours.WallRatio, Most: 1.2},
		{What: "memory in MB", Got: ours.Median(rss) / 1e6, Most: 600},
	}
	s.Notes = append(s.Notes, "plain Go and backbone: equal rows and dead letters: "+same.text)
	if sorted != nil {
		s.Aims = append(s.Aims,
			Aim{What: "times faster than DuckDB, sorted", Got: s.Rows[2].ratio(ours, wall), Least: 1.3},
			Aim{What: "times faster than DuckDB, not sorted", Got: s.Rows[3].ratio(ours, wall), Least: 1.3})
		s.Notes = append(s.Notes, sorted.note())
	}
	return s, nil
}

// agreement holds that all lakes of a comparison are equal.
type agreement struct {
	bench *bench
	text  string
}

func (a *agreement) check(ctx context.Context, lake string) error {
	text, err := a.bench.hash(ctx, lake)
	if err != nil {
		return err
	}
	return a.agree(text)
}

// agree compares a text about a lake with that about the others.
func (a *agreement) agree(text string) error {
	if a.text != "" && text != a.text {
		return fmt.Errorf("wrong result: %s, and before that %s", text, a.text)
	}
	a.text = text
	return nil
}

// plainFiles returns the run of the plain program over files.
func (b *bench) plainFiles(in *input, same *agreement) func(context.Context, string, int) (Sample, error) {
	return func(ctx context.Context, lake string, round int) (Sample, error) {
		args := append([]string{"files", "--lake", lake}, b.profile("plain", round)...)
		sample, out, err := measure(ctx, b.plain, append(args, in.glob())...)
		if err != nil {
			return sample, err
		}
		o, err := parseOutcome(out)
		if err != nil {
			return sample, err
		}
		return sample, errors.Join(o.check(in.truth), same.check(ctx, lake))
	}
}

// interactions returns the run of the pipeline over files. same may be nil.
func (b *bench) interactions(in *input, same *agreement) func(context.Context, string, int) (Sample, error) {
	return func(ctx context.Context, lake string, round int) (Sample, error) {
		args := append([]string{"--input", in.glob()}, b.profile("interactions", round)...)
		sample, o, err := b.runInteractions(ctx, lake, args...)
		if err == nil {
			err = o.check(in.truth)
		}
		if err == nil && same != nil {
			err = same.check(ctx, lake)
		}
		return sample, err
	}
}

func (b *bench) runInteractions(ctx context.Context, lake string, args ...string) (Sample, outcome, error) {
	summary := filepath.Join(b.work, "summary.json")
	args = append([]string{"interactions", "--lake", lake, "--summary", summary, "--spill_dir", filepath.Join(b.work, "spill")}, args...)
	sample, _, err := measure(ctx, b.backbone, args...)
	if err != nil {
		return sample, outcome{}, err
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return sample, outcome{}, err
	}
	o, err := parseOutcome(text)
	return sample, o, err
}

// profile returns the flags for a CPU profile, if one is wanted.
func (b *bench) profile(program string, round int) []string {
	if b.profiles == "" {
		return nil
	}
	return []string{"--cpu_profile", filepath.Join(b.profiles, program+"-"+strconv.Itoa(round+1)+".prof")}
}

// scaling measures the pipeline over inputs of several sizes, and over one file.
func (b *bench) scaling(ctx context.Context) (*Section, error) {
	s := &Section{Title: "Scaling of backbone interactions", Unit: "events"}
	half := b.options.events / 2
	for _, size := range []struct{ events, files int }{
		{half, batchFiles}, {2 * half, batchFiles}, {4 * half, batchFiles}, {8 * half, batchFiles}, {2 * half, 1},
	} {
		in, err := b.events(ctx, size.events, size.files)
		if err != nil {
			return nil, err
		}
		if err := b.needDisk(in.truth.Bytes * 2); err != nil {
			return nil, err
		}
		one := &Section{Title: s.Title}
		name := fmt.Sprintf("%.3g M events, %d files", float64(size.events)/1e6, size.files)
		if size.files == 1 {
			name = fmt.Sprintf("%.3g M events, 1 file", float64(size.events)/1e6)
		}
		if err := b.compare(ctx, one, int64(size.events), []contender{{name, b.interactions(in, nil)}}); err != nil {
			return nil, err
		}
		s.Rows = append(s.Rows, one.Rows...)
	}
	s.Compare()
	each := func(r *Row) float64 { return r.Median(wall) / float64(r.Count) }
	base := s.Rows[1]
	s.Aims = []Aim{
		{What: "time for an event at 4 times the events", Got: each(s.Rows[3]) / each(base), Most: 1.2},
		{What: "memory at 4 times the events", Got: s.Rows[3].Median(rss) / base.Median(rss), Most: 1.1},
		{What: "memory in MB at 4 times the events", Got: s.Rows[3].Median(rss) / 1e6, Most: 600},
		{What: "time with one file instead of 8", Got: s.Rows[4].Median(wall) / base.Median(wall), Most: 1.1},
	}
	return s, nil
}
