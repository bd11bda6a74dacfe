package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"backbone/testing/generator"
)

// input is generated events, and what must become of them.
type input struct {
	dir   string
	truth generator.Summary
}

// glob matches the files with the events.
func (in *input) glob() string { return filepath.Join(in.dir, generator.EventsDir, "*.jsonl") }

// files are their names.
func (in *input) files() ([]string, error) { return filepath.Glob(in.glob()) }

// events returns generated events in so many files, which are generated where they are not there yet.
func (b *bench) events(ctx context.Context, events, files int) (*input, error) {
	version, err := fingerprint(generator.Options{Events: events, Files: files, Seed: b.seed})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("events-%d-files-%d-seed-%d-", events, files, b.seed)
	in := &input{dir: filepath.Join(b.cache, name+version)}
	if in.truth, err = generator.ReadSummary(in.dir); err == nil {
		return in, nil
	}
	// Those of another version of the generator are of no use any more.
	old, err := filepath.Glob(filepath.Join(b.cache, name+"*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if err := b.needDisk(int64(events) * 700); err != nil {
		return nil, err
	}
	fmt.Fprintf(b.log, "generating %d events\n", events)
	making := filepath.Join(b.work, "making")
	if _, _, err := measure(ctx, b.backbone, "generate", "--events", strconv.Itoa(events), "--files", strconv.Itoa(files),
		"--seed", strconv.FormatUint(b.seed, 10), "--out", making); err != nil {
		return nil, err
	}
	if err := os.Rename(making, in.dir); err != nil {
		return nil, err
	}
	in.truth, err = generator.ReadSummary(in.dir)
	return in, err
}

// fingerprint names what a generator makes of its options, by the first events: it changes when the generator does.
func fingerprint(o generator.Options) (string, error) {
	g, err := generator.New(o)
	if err != nil {
		return "", err
	}
	h := xxh3.New()
	for range 2000 {
		e, ok := g.Next()
		if !ok {
			break
		}
		_, _ = h.Write(e.Data) // a hash does not fail
	}
	return fmt.Sprintf("%016x", h.Sum64()), nil
}

// needDisk refuses to go on where there is less room than needed, or nearly so.
func (b *bench) needDisk(bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.cache, &fs); err != nil {
		return fmt.Errorf("free space of %q: %w", b.cache, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < bytes+(1<<30) {
		return fmt.Errorf("%q has %d MB free, and %d MB are needed: free some, or name another folder with -cache", b.cache, free>>20, (bytes+(1<<30))>>20)
	}
	return nil
}

// outcome is what a program says became of the events.
type outcome struct {
	Read         int64 `json:"read"`
	Committed    int64 `json:"committed"`
	Duplicate    int64 `json:"duplicate"`
	DeadLettered int64 `json:"dead_lettered"`
	Files        int64 `json:"files"`
}

func parseOutcome(text []byte) (outcome, error) {
	var o outcome
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fmt.Errorf("counts %q: %w", text, err)
	}
	return o, nil
}

// check compares what became of the events with what had to.
func (o outcome) check(want generator.Summary) error {
	if int(o.Read) != want.Events || int(o.Committed) != want.Rows || int(o.Duplicate) != want.Repeated || int(o.DeadLettered) != want.Broken {
		return fmt.Errorf("wrong result: %d read, %d committed, %d repeated, %d dead letters; want %d, %d, %d, %d",
			o.Read, o.Committed, o.Duplicate, o.DeadLettered, want.Events, want.Rows, want.Repeated, want.Broken)
	}
	return nil
}
