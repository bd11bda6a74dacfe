// Package interactions carries what users did, and where and how they did it, into the lake.
//
//	read --> process --> group by slot --> commit --> acknowledge
//	                                          \-----> mark complete
//
// Process decodes records, checks them and derives their context; what can't become a row is a dead letter, which takes the
// same way to a table of its own. A live subscription, an export and a replay take the same graph; only what is read
// differs.
//
// # Guarantees
//
// Each event that is read ends in the lake once, or in the dead letters once, or was there already:
//
//	events/read = lake/committed + lake/duplicate + lake/dead_lettered
//
// A message is acknowledged after that, never before.
package interactions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window/trigger"

	"backbone/schemas"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/pubsub"
	"backbone/transforms/run"
)

// Plan is what a launch has found out before it begins.
type Plan struct {
	Options
	// Layouts of the tables.
	Layouts map[string]lake.Layout
	// Tasks are the files to read, or parts of them, encoded; none where a subscription is read.
	Tasks [][]byte
	// Bytes is the size of the files.
	Bytes int64
}

// Prepare finds the input and fixes the layout of the tables. o must have passed Validate.
//
// An error that Is lake.ErrLayout says that the table has another layout than was asked for.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	p := &Plan{Options: o}
	if !o.Streaming() {
		tasks, err := files.Plan(ctx, o.Input, o.files())
		if err != nil {
			return nil, err
		}
		sizes := map[string]int64{}
		for _, t := range tasks {
			body, err := t.Encode()
			if err != nil {
				return nil, err
			}
			p.Tasks = append(p.Tasks, body)
			sizes[t.URL] = t.Size
		}
		for _, n := range sizes {
			p.Bytes += n
		}
	}
	st, err := lake.OpenStore(ctx, run.Of(o.RunID), o.Lake)
	if err != nil {
		return nil, err
	}
	if p.Layouts, err = layouts(ctx, st, o); err != nil {
		return nil, err
	}
	return p, nil
}

// layouts returns the layouts of both tables, as asked for or as they are.
func layouts(ctx context.Context, st *store.Store, o Options) (map[string]lake.Layout, error) {
	want, err := lake.LayoutOf(ctx, st, schemas.Interactions.Name)
	if errors.Is(err, store.ErrNotFound) {
		want, err = lake.Layout{Window: lake.Hour, Shards: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	if o.Window != (lake.Window{}) {
		want.Window = o.Window
	}
	if o.Shards > 0 {
		want.Shards = o.Shards
	}
	rows, err := lake.Fix(ctx, st, schemas.Interactions.Name, want)
	if err != nil {
		return nil, fmt.Errorf("%w: leave --window and --shards out to use the table's own, or write to another lake", err)
	}
	dead, err := lake.Fix(ctx, st, schemas.DeadLetters.Name, lake.Layout{Window: lake.Day, Shards: 1})
	if err != nil && !errors.Is(err, lake.ErrLayout) {
		return nil, err
	}
	return map[string]lake.Layout{schemas.Interactions.Name: rows, schemas.DeadLetters.Name: dead}, nil
}

// Build adds the pipeline to s.
func Build(s beam.Scope, p *Plan) {
	s = s.Scope("interactions")

	batches := read(s, p)            // PCollection<[]byte>: tasks or blocks of messages
	groups := Process(s, batches, p) // PCollection<CoGBK<string, []byte>>: slots and their packets

	receipts, acks := lake.Write(s, groups, p.lake())
	if p.Streaming() {
		pubsub.Acknowledge(s, acks, p.pubsub())
	}
	lake.MarkComplete(s, receipts, p.lake())
}

// read gives batches of records: parts of files, or messages.
func read(s beam.Scope, p *Plan) beam.PCollection {
	if p.Streaming() {
		return pubsub.Read(s, p.pubsub())
	}
	return files.Read(s, p.Tasks)
}

// Process is the graph between the ends.
//
//	batches  PCollection<[]byte>: tasks (package files) or blocks of messages (package pubsub)
//	groups   PCollection<CoGBK<string, []byte>>: a slot of the lake, and packets of its rows
func Process(s beam.Scope, batches beam.PCollection, p *Plan) beam.PCollection {
	packets := beam.ParDo(s, newProcessFn(p), batches)

	// A row waits FlushInterval at most, whatever its event time: its partition is in its key. All rows are in the global
	// window, so that none can be too late. Each pane is committed by itself, so panes are discarded. Redelivered
	// and late rows are gathered by the same trigger, so that they do not make a file each.
	flush := trigger.Repeat(trigger.AfterAny([]trigger.Trigger{
		trigger.AfterProcessingTime().PlusDelay(p.FlushInterval),
		trigger.AfterCount(maxPackets),
	}))
	windowed := beam.WindowInto(s, window.NewGlobalWindows(), packets, beam.Trigger(flush), beam.PanesDiscard())
	return beam.GroupByKey(s, windowed)
}

// maxPackets is the number of packets of one slot that are committed before the flush interval is over. Packets have up
// to a megabyte.
const maxPackets = 64

// lake returns how the lake is written.
func (p *Plan) lake() lake.Options {
	return lake.Options{
		URL: p.Lake, Layouts: p.Layouts, RunID: p.RunID, SpillDir: p.SpillDir, Bounded: !p.Streaming(), Limits: p.Limits, Grace: p.Grace,
		Memory: p.IDMemory,
	}
}

// Watermark returns what is told to the runner about a stream; the zero time where nothing is.
func Watermark(r *run.Run, p *Plan) time.Time {
	if !p.Streaming() {
		return time.Time{}
	}
	return pubsub.WatermarkOf(r, p.pubsub()).Report(time.Now())
}
