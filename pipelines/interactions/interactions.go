// Package interactions carries what users did, and where and how they did it, into the lake.
//
//	read --> process --> group by slot --> commit --> acknowledge
//	  ^         ^                             \-----> mark complete
//	  :         :                              \----> compute windows
//	  :         : join
//	contexts: read --> process --> group by slot --> commit --> acknowledge
//
// Process decodes records, checks them and derives their context; what can't become a row is a dead letter, which takes the
// same way to a table of its own. A live subscription, an export and a replay take the same graph; only what is read
// differs.
//
// Windows, where they are asked for, are computed of what is committed: sessions, what is trending, funnels, co-occurrence.
//
// Contexts, where there are any, are a table of the lake, and interactions are joined to what is committed of it: files are read
// after all contexts are, and messages wait until theirs had the time to be.
//
// # Guarantees
//
// Each event that is read ends in the lake once, or in the dead letters once, or was there already:
//
//	events/read = lake/committed + lake/duplicate + lake/dead_lettered
//
// A message is acknowledged after that, never before; by a runner that reads Pub/Sub itself (Options.Native), after it has it in a state of its own that
// survives.
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
	"backbone/transforms/windows"
)

// Plan is what a launch has found out before it begins.
type Plan struct {
	Options
	// Layouts of the tables.
	Layouts map[string]lake.Layout
	// Tasks are the files to read, or parts of them, encoded; none where a subscription is read.
	Tasks [][]byte
	// ContextTasks are the same of contexts.
	ContextTasks [][]byte
	// Bytes is the size of the files.
	Bytes int64
}

// Prepare finds the input and fixes the layout of the tables. o must have passed Validate.
//
// An error that Is lake.ErrLayout says that the table has another layout than was asked for.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	p := &Plan{Options: o}
	if !o.Streaming() {
		var err error
		if p.Tasks, err = p.plan(ctx, o.interactions()); err != nil {
			return nil, err
		}
		if o.hasContexts() {
			if p.ContextTasks, err = p.plan(ctx, o.contexts()); err != nil {
				return nil, fmt.Errorf("context: %w", err)
			}
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

// plan finds the files of an input.
func (p *Plan) plan(ctx context.Context, in input) (encoded [][]byte, err error) {
	tasks, err := files.Plan(ctx, in.urls, p.files(in.mapping))
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, t := range tasks {
		body, err := t.Encode()
		if err != nil {
			return nil, err
		}
		encoded = append(encoded, body)
		sizes[t.URL] = t.Size
	}
	for _, n := range sizes {
		p.Bytes += n
	}
	return encoded, nil
}

// layouts returns the layouts of all tables, as asked for or as they are.
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
	fix := lake.Fix
	if o.DryRun {
		fix = lake.Foresee
	}
	rows, err := fix(ctx, st, schemas.Interactions.Name, want)
	if err != nil {
		return nil, fmt.Errorf("%w: leave --window and --shards out to use the table's own, or write to another lake", err)
	}
	dead, err := fix(ctx, st, schemas.DeadLetters.Name, lake.Layout{Window: lake.Day, Shards: 1})
	if err != nil && !errors.Is(err, lake.ErrLayout) {
		return nil, err
	}
	all := map[string]lake.Layout{schemas.Interactions.Name: rows, schemas.DeadLetters.Name: dead}
	if o.hasContexts() {
		contexts, err := fix(ctx, st, schemas.Contexts.Name, lake.Layout{Window: rows.Window, Shards: 1})
		if err != nil && !errors.Is(err, lake.ErrLayout) {
			return nil, err
		}
		all[schemas.Contexts.Name] = contexts
	}
	return all, nil
}

// Build adds the pipeline to s.
func Build(s beam.Scope, p *Plan) {
	s = s.Scope("interactions")

	batches := read(s, p)            // PCollection<[]byte>: tasks or blocks of messages
	groups := Process(s, batches, p) // PCollection<CoGBK<string, []byte>>: slots and their packets
	receipts := commit(s, groups, p, p.interactions())
	if p.hasWindows() {
		windows.Compute(s, receipts, p.windows())
	}
}

// read gives batches of records: parts of files, or messages. Files are read after all contexts are committed.
func read(s beam.Scope, p *Plan) beam.PCollection {
	var contexts beam.PCollection
	if p.hasContexts() {
		contexts = commitContexts(s, p)
	}
	switch {
	case p.Streaming():
		return messages(s, p, p.interactions())
	case p.hasContexts():
		return files.ReadAfter(s, p.Tasks, contexts)
	default:
		return files.Read(s, p.Tasks)
	}
}

// commitContexts carries contexts into their table, and returns the receipts.
func commitContexts(s beam.Scope, p *Plan) (receipts beam.PCollection) {
	s = s.Scope("contexts")
	in := p.contexts()
	var batches beam.PCollection
	if p.Streaming() {
		batches = messages(s, p, in)
	} else {
		batches = files.Read(s, p.ContextTasks)
	}
	return commit(s, process(s, batches, p, in), p, in)
}

// messages gives blocks of the messages of a subscription.
func messages(s beam.Scope, p *Plan, in input) beam.PCollection {
	if p.Native {
		return pubsub.ReadNative(s, p.pubsub(in))
	}
	return pubsub.Read(s, p.pubsub(in))
}

// commit commits the rows of an input, acknowledges their messages, and marks partitions that are complete.
func commit(s beam.Scope, groups beam.PCollection, p *Plan, in input) (receipts beam.PCollection) {
	receipts, acks := lake.Write(s, groups, p.lake())
	if p.Streaming() && !p.Native {
		pubsub.Acknowledge(s, acks, p.pubsub(in))
	}
	lake.MarkComplete(s, receipts, p.lake())
	return receipts
}

// Process is the graph between the ends.
//
//	batches  PCollection<[]byte>: tasks (package files) or blocks of messages (package pubsub)
//	groups   PCollection<CoGBK<string, []byte>>: a slot of the lake, and packets of its rows
func Process(s beam.Scope, batches beam.PCollection, p *Plan) beam.PCollection {
	return process(s, batches, p, p.interactions())
}

func process(s beam.Scope, batches beam.PCollection, p *Plan, in input) beam.PCollection {
	packets := beam.ParDo(s, newProcessFn(p, in), batches)

	// A row waits the flush interval at most, whatever its event time: its partition is in its key. All rows are in the global
	// window, so that none can be too late. Each pane is committed by itself, so panes are discarded. Redelivered
	// and late rows are gathered by the same trigger, so that they do not make a file each.
	flush := trigger.Repeat(trigger.AfterAny([]trigger.Trigger{
		trigger.AfterProcessingTime().PlusDelay(in.flush),
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
		Memory: p.IDMemory, Digests: p.hasWindows(), Remote: p.Remote,
	}
}

// windows returns how windows are computed.
func (p *Plan) windows() windows.Options {
	w := p.Windows
	w.URL, w.RunID, w.Layout, w.Grace = p.Lake, p.RunID, p.Layouts[schemas.Interactions.Name].String(), p.Grace
	w.Bounded, w.Remote = !p.Streaming(), p.Remote
	return w
}

// Watermark returns what is told to the runner about a stream; the zero time where nothing is.
func Watermark(r *run.Run, p *Plan) time.Time {
	if !p.Streaming() {
		return time.Time{}
	}
	return pubsub.WatermarkOf(r, p.pubsub(p.interactions())).Report(time.Now())
}
