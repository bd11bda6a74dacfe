// Command plain does the job of "backbone interactions" in plain Go, without Beam: the bound that it is measured against.
//
//	plain files --lake DIR [--mapping NAME] GLOB...
//	plain subscribe --lake DIR --flush_interval 1s projects/PROJECT/subscriptions/SUBSCRIPTION
//
// It shares the code of rows and files with the pipeline (decoder, rules, context, encoder, commit), so that a
// difference between the two is what the pipeline around it costs: Beam, the shuffle, spill files. Rows wait in memory,
// encoded, so it needs as much of that as its input is large.
//
// It prints its counts as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/contextjoin"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) == 0 {
		return errors.New("want files or subscribe")
	}
	flags := flag.NewFlagSet("plain "+args[0], flag.ContinueOnError)
	dir := flags.String("lake", "", "folder, or URL, of the lake")
	mapping := flags.String("mapping", mappings.NativeName, "how records become interactions")
	flushInterval := flags.Duration("flush_interval", time.Second, "how long a message waits for its commit")
	profile := flags.String("cpu_profile", "", "file for a CPU profile")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return errors.Join(err, f.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, f.Close())
		}()
	}
	debug.SetGCPercent(200) // as the pipeline

	j, err := newJob(context.WithoutCancel(ctx), *dir, *mapping)
	if err != nil {
		return err
	}
	switch {
	case args[0] == "files" && flags.NArg() > 0:
		err = j.files(ctx, flags.Args())
	case args[0] == "subscribe" && flags.NArg() == 1:
		debug.SetGCPercent(100)
		err = j.subscribe(ctx, flags.Arg(0), *flushInterval)
	default:
		err = errors.New("want files GLOB..., or subscribe SUBSCRIPTION")
	}
	if err = errors.Join(err, j.store.Close(), j.deriver.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(&j.counts)
}

// counts are what became of the events.
type counts struct {
	Read         int64 `json:"read"`
	Committed    int64 `json:"committed"`
	Duplicate    int64 `json:"duplicate"`
	DeadLettered int64 `json:"dead_lettered"`
	Files        int64 `json:"files"`
}

// job is what all goroutines share.
type job struct {
	store   *store.Store
	mapping *mappings.Mapping
	deriver *contextjoin.Deriver
	layouts map[string]lake.Layout
	tables  map[string]*lake.Committer
	counts  counts
}

func newJob(ctx context.Context, dir, mapping string) (*job, error) {
	m, err := mappings.Load(mapping)
	if err != nil {
		return nil, err
	}
	deriver, err := contextjoin.New(contextjoin.Options{})
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	j := &job{store: st, mapping: m, deriver: deriver, layouts: map[string]lake.Layout{}, tables: map[string]*lake.Committer{}}
	for table, window := range map[string]lake.Window{schemas.Interactions.Name: lake.Hour, schemas.DeadLetters.Name: lake.Day} {
		if j.layouts[table], err = lake.Fix(ctx, st, table, lake.Layout{Window: window, Shards: 1}); err != nil {
			return nil, err
		}
		if j.tables[table], err = lake.NewCommitter(st, table, lake.Options{Layouts: j.layouts, RunID: "plain"}); err != nil {
			return nil, err
		}
	}
	return j, nil
}
