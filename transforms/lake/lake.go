// Package lake writes windowed Parquet, from a stream or from files. The file name is the commit.
//
// A table is plain, hive-partitioned Parquet that any reader takes with a glob, at every moment:
//
//	<lake>/interactions/dt=2026-11-22/hour=14/part-<shard>-of-<shards>-<seq>.parquet
//
// # Guarantees
//
// Each row is in the table once, whatever is retried, restarted, redelivered or run twice at the same time. A commit
// is one conditional create of the next seq of a (partition, shard); before it, rows whose id the (partition, shard)
// already has are dropped. If somebody else took the name, their ids are read, the rows dropped again, and the next name
// is tried. So the lake is the only state that has to survive.
//
// A reader never sees a part of a file. Rows in a file are sorted by user (or visitor) and event time. No row is too
// late: a row that comes after its partition was marked complete is counted, and committed.
//
// # Limits
//
// The layout of a table (window and shards) is fixed at its first use. A file holds at most Limits of rows, which are
// held in memory while it is made, one file for each core.
//
// # Metrics
//
//   - lake/committed, lake/duplicate, lake/late: rows. Those of dead letters are counted as lake/dead_lettered when
//     committed.
//   - lake/files, lake/bytes: files committed and their size.
package lake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/schemas"
	"backbone/transforms/exchange"
	"backbone/transforms/lake/store"
	"backbone/transforms/parallel"
	"backbone/transforms/run"
)

func init() {
	register.DoFn4x1[context.Context, string, func(*[]byte) bool, func(beam.EventTime, int, []byte), error](&writeFn{})
	register.Function4x0(sortOut)
	register.Iter1[[]byte]()
	register.Emitter3[beam.EventTime, int, []byte]()
	register.Emitter1[[]byte]()
}

// Options say where rows go and how they are spread over files.
type Options struct {
	// URL of the lake: a folder, gs://bucket/prefix or s3://bucket/prefix.
	URL string
	// Layouts of the tables that are written, by name, as Fix returned them.
	Layouts map[string]Layout
	// RunID names the launch. It is written to each file.
	RunID string
	// SpillDir is where chunks wait (see package exchange). Empty: they travel inline.
	SpillDir string
	// Bounded says that the input ends and does not come back: chunks that are gone are a failure, not a repetition.
	Bounded bool
	// Limits of a file. Default: 64 MiB of encoded rows, 1,000,000 rows.
	Limits Limits
	// Grace is how long after its end a partition awaits rows until MarkComplete marks it.
	Grace time.Duration
	// Memory that remembered event ids may take, in bytes: 16 for each. Default: 128 MiB.
	Memory int64
	// Remote says that the launcher is in another process; see Signal.
	Remote bool
	// Digests has a digest written beside each file of interactions (package digest), for who computes windows.
	Digests bool
}

func (o Options) withDefaults() Options {
	if o.Limits.Bytes == 0 {
		o.Limits.Bytes = 64 << 20
	}
	if o.Limits.Rows == 0 {
		o.Limits.Rows = 1_000_000
	}
	if o.Memory == 0 {
		o.Memory = 128 << 20
	}
	return o
}

// Write commits groups of packets.
//
//	groups    PCollection<CoGBK<string, []byte>>: a Slot's key, and packets of package exchange. Each holds a
//	          Parcel: a chunk of rows of that slot, and the tokens that acknowledge them.
//	receipts  PCollection<[]byte>: a Receipt in JSON for each pane, after its rows are durable
//	acks      PCollection<[]byte>: the tokens of the parcels whose rows are durable
func Write(s beam.Scope, groups beam.PCollection, o Options) (receipts, acks beam.PCollection) {
	s = s.Scope("lake.Write")
	layouts := map[string]string{}
	for table, l := range o.Layouts {
		layouts[table] = l.String()
	}
	o = o.withDefaults()
	written := beam.ParDo(s, &writeFn{
		URL: o.URL, Layouts: layouts, RunID: o.RunID, SpillDir: o.SpillDir, Bounded: o.Bounded,
		FileBytes: o.Limits.Bytes, FileRows: o.Limits.Rows, Memory: o.Memory, GraceMicros: o.Grace.Microseconds(),
		Digests: o.Digests,
	}, groups)
	// The direct runner keeps a core busy while a stage without a consumer runs, so there is always one.
	return beam.ParDo2(s, sortOut, beam.Reshuffle(s, written))
}

// The kinds of what writeFn emits.
const (
	isReceipt = iota
	isAcks
)

// writeFn commits the panes of slots, several at a time.
type writeFn struct {
	URL       string
	Layouts   map[string]string // table: window/shards
	RunID     string
	SpillDir  string
	Bounded   bool
	FileBytes int64
	FileRows  int
	Memory    int64
	Digests   bool

	GraceMicros int64

	run        *run.Run
	spill      *exchange.Spill
	committers map[string]*committer
	counters   counters
	desks      desks

	pool *parallel.Pool[pane]
	mu   sync.Mutex
	done []result
}

type counters struct{ committed, dead, duplicate, late, files, bytes, gone *run.Counter }

// pane is what one call of ProcessElement was given.
type pane struct {
	slot    Slot
	packets [][]byte
}

// result is what became of a pane.
type result struct {
	receipt Receipt
	acks    [][]byte
	gone    int64
}

// OpenStore returns the store of a lake in this process.
func OpenStore(ctx context.Context, r *run.Run, url string) (*store.Store, error) {
	return run.Shared(r, "lake/store/"+url, func() (*store.Store, error) { return store.Open(context.WithoutCancel(ctx), url) })
}

func (fn *writeFn) Setup(ctx context.Context) error {
	fn.run = run.Of(fn.RunID)
	st, err := OpenStore(ctx, fn.run, fn.URL)
	if err != nil {
		return err
	}
	if fn.spill, err = exchange.Open(fn.run, fn.SpillDir); err != nil {
		return err
	}
	fn.committers = map[string]*committer{}
	for table, text := range fn.Layouts {
		if fn.committers[table], err = fn.committer(st, table, text); err != nil {
			return err
		}
	}
	if fn.desks, err = run.Shared(fn.run, "lake/desks", newDesks); err != nil {
		return err
	}
	count := func(name string) *run.Counter { return fn.run.Counter("lake", name) }
	fn.counters = counters{count("committed"), count("dead_lettered"), count("duplicate"), count("late"), count("files"), count("bytes"), count("gone")}
	return nil
}

// committer returns the one committer of a table in this process: its slots are shared by all bundles.
func (fn *writeFn) committer(st *store.Store, table, text string) (*committer, error) {
	return run.Shared(fn.run, "lake/committer/"+fn.URL+"/"+table, func() (*committer, error) {
		layout, err := ParseLayout(text)
		if err != nil {
			return nil, err
		}
		return openCommitter(st, table, Options{
			Layouts: map[string]Layout{table: layout}, RunID: fn.RunID,
			Limits: Limits{Bytes: fn.FileBytes, Rows: fn.FileRows}, Memory: fn.Memory, Digests: fn.Digests,
		})
	})
}

func (fn *writeFn) StartBundle(ctx context.Context, _ func(beam.EventTime, int, []byte)) error {
	fn.done = nil
	fn.pool = parallel.Start(runtime.GOMAXPROCS(0), func() (func(pane) error, func() error) {
		return func(p pane) error { return fn.write(ctx, p) }, nil
	})
	return nil
}

// ProcessElement hands a pane to a worker.
func (fn *writeFn) ProcessElement(ctx context.Context, key string, packets func(*[]byte) bool, emit func(beam.EventTime, int, []byte)) error {
	at, err := ParseKey(key)
	if err != nil {
		return err
	}
	p := pane{slot: at}
	for packet := []byte(nil); packets(&packet); packet = nil {
		p.packets = append(p.packets, packet)
	}
	if err := fn.pool.Submit(ctx, p); err != nil {
		return err
	}
	return fn.emit(ctx, emit)
}

// FinishBundle waits for the workers: the bundle is done when its rows are durable.
func (fn *writeFn) FinishBundle(ctx context.Context, emit func(beam.EventTime, int, []byte)) error {
	if err := fn.pool.Wait(); err != nil {
		return err
	}
	return fn.emit(ctx, emit)
}

// emit gives out what the workers have finished, from the goroutine that Beam allows.
func (fn *writeFn) emit(ctx context.Context, emit func(beam.EventTime, int, []byte)) error {
	fn.mu.Lock()
	done := fn.done
	fn.done = nil
	fn.mu.Unlock()
	for _, d := range done {
		c := fn.counters
		if d.receipt.Slot.Table == schemas.DeadLetters.Name {
			c.dead.Add(ctx, d.receipt.Rows)
		} else {
			c.committed.Add(ctx, d.receipt.Rows)
		}
		c.duplicate.Add(ctx, d.receipt.Duplicates)
		c.late.Add(ctx, d.receipt.Late)
		c.files.Add(ctx, int64(len(d.receipt.Files)))
		c.bytes.Add(ctx, d.receipt.Bytes)
		c.gone.Add(ctx, d.gone)
		d.receipt.Due = d.receipt.End + fn.GraceMicros
		body, err := json.Marshal(d.receipt)
		if err != nil {
			return err
		}
		emit(mtime.MinTimestamp, isReceipt, body)
		for _, a := range d.acks {
			emit(mtime.MinTimestamp, isAcks, a)
		}
	}
	return nil
}

// desks are the places of a process at which panes are written, one for each core. A runner may work on many bundles at
// once; their number must not decide how much memory is needed.
type desks chan *buffers

func newDesks() (desks, error) {
	d := make(desks, runtime.GOMAXPROCS(0))
	for range cap(d) {
		d <- &buffers{}
	}
	return d, nil
}

// buffers hold the chunks of a pane, and are used again for the next.
type buffers struct{ list [][]byte }

func (b *buffers) get(i int) []byte {
	for len(b.list) <= i {
		b.list = append(b.list, nil)
	}
	return b.list[i]
}

// write commits the rows of a pane, a file's worth of chunks at a time, so that a pane of any size needs the memory of
// one file. It runs on a worker's goroutine.
func (fn *writeFn) write(ctx context.Context, p pane) error {
	b := <-fn.desks
	defer func() { fn.desks <- b }()
	c := fn.committers[p.slot.Table]
	if c == nil {
		return fmt.Errorf("lake: table %q of slot %q has no layout", p.slot.Table, p.slot.Key())
	}
	var all result
	for len(p.packets) > 0 {
		var chunks [][]byte
		var acks [][]byte
		size, n := int64(0), 0
		for _, packet := range p.packets {
			if size >= fn.FileBytes {
				break
			}
			n++
			buf, err := fn.spill.Get(packet, b.get(len(chunks)))
			if errors.Is(err, exchange.ErrGone) && !fn.Bounded {
				all.gone++ // committed before, or not acknowledged: then its messages come back
				continue
			}
			if err != nil {
				return err
			}
			b.list[len(chunks)] = buf
			chunk, tokens, err := OpenParcel(buf)
			if err != nil {
				return err
			}
			chunks = append(chunks, chunk)
			size += int64(len(chunk))
			if len(tokens) > 0 {
				acks = append(acks, append([]byte(nil), tokens...))
			}
		}
		r, err := c.commit(ctx, p.slot, chunks)
		if err != nil {
			return err
		}
		for _, packet := range p.packets[:n] {
			if err := fn.spill.Release(packet); err != nil {
				return err
			}
		}
		p.packets = p.packets[n:]
		all.add(r, acks)
	}
	fn.mu.Lock()
	fn.done = append(fn.done, all)
	fn.mu.Unlock()
	return nil
}

func (r *result) add(part Receipt, acks [][]byte) {
	part.Files = append(r.receipt.Files, part.Files...)
	part.Rows += r.receipt.Rows
	part.Duplicates += r.receipt.Duplicates
	part.Late += r.receipt.Late
	part.Bytes += r.receipt.Bytes
	r.receipt = part
	r.acks = append(r.acks, acks...)
}

// sortOut parts receipts from acknowledgements. It is a function, as is all here that needs no configuration: the
// registration of each DoFn's type adds some 3,000 functions to what is compiled.
func sortOut(kind int, value []byte, receipts, acks func([]byte)) {
	if kind == isAcks {
		acks(value)
	} else {
		receipts(value)
	}
}
