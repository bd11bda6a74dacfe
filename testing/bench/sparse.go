package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// A sparse history, such as ratings of films over 22 years: few rows in each of many hours.
const (
	sparseRows  = 100_000
	sparseHours = 8_000
)

// sparse compares plain Go and the pipeline where there are many more partitions than megabytes.
func (b *bench) sparse(ctx context.Context) (*Section, error) {
	input := filepath.Join(b.work, "ratings.csv")
	if err := writeFile(input, func(w io.Writer) error { return writeRatings(w, sparseRows, sparseHours) }); err != nil {
		return nil, err
	}
	s := &Section{Title: fmt.Sprintf("Sparse history: %d ratings in %d hours of 22 years", sparseRows, sparseHours), Unit: "rows"}
	same := &agreement{bench: b}
	check := func(ctx context.Context, o outcome, lake string) error {
		if o.Read != sparseRows || o.Committed != sparseRows || o.Files != sparseHours {
			return fmt.Errorf("wrong result: %d read, %d committed, %d files; want %d, %d, %d", o.Read, o.Committed, o.Files, sparseRows, sparseRows, sparseHours)
		}
		return same.check(ctx, lake)
	}
	const mapping = "movielens-ratings"
	err := b.compare(ctx, s, sparseRows, []contender{
		{"plain Go", func(ctx context.Context, lake string, _ int) (Sample, error) {
			sample, out, err := measure(ctx, b.plain, "files", "--lake", lake, "--mapping", mapping, input)
			if err != nil {
				return sample, err
			}
			o, err := parseOutcome(out)
			return sample, errors.Join(err, check(ctx, o, lake))
		}},
		{"backbone interactions", func(ctx context.Context, lake string, _ int) (Sample, error) {
			sample, o, err := b.runInteractions(ctx, lake, "--mapping", mapping, "--input", input)
			if err != nil {
				return sample, err
			}
			return sample, check(ctx, o, lake)
		}},
	})
	if err != nil {
		return nil, err
	}
	for _, r := range s.Rows {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %.2f ms a partition", r.Name, r.Median(wall)*1e3/sparseHours))
	}
	return s, nil
}

// writeRatings writes a MovieLens ratings.csv. Ratings are sorted by user, as there.
func writeRatings(w io.Writer, rows, hours int) error {
	random := rand.New(rand.NewPCG(1, 2))
	first := time.Date(1996, time.March, 29, 0, 0, 0, 0, time.UTC).Unix()
	const span = 22 * 365 * 24 // hours
	if _, err := fmt.Fprintln(w, "userId,movieId,rating,timestamp"); err != nil {
		return err
	}
	for i := range rows {
		// Each hour once, then any of them.
		hour := i
		if i >= hours {
			hour = random.IntN(hours)
		}
		at := first + int64(hour)*(span/int64(hours))*3600 + random.Int64N(3600)
		// No user rates a film twice.
		_, err := fmt.Fprintf(w, "%d,%d,%.1f,%d\n", 1+i/160, 1+i%160*60+random.IntN(60), 0.5*float64(1+random.IntN(10)), at)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file by write.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(write(w), w.Flush(), f.Close())
}
