package catalog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/asof"
	"backbone/transforms/deadletter"
	"backbone/transforms/decode"
	"backbone/transforms/exchange"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/parallel"
	"backbone/transforms/run"
	"backbone/transforms/source"
)

func init() {
	register.DoFn4x1[context.Context, []byte, func(string, []byte), func(string, []byte), error](&processFn{})
	register.Emitter2[string, []byte]()
	register.Function1x0(discard)
}

func discard([]byte) {}

// processFn makes rows and dead letters of the files of one table, on all cores, and sends them on in packets.
type processFn struct {
	Table       string
	Mapping     mappings.Mapping
	Options     Options
	Shards      int
	DeadLetters string // layout

	run      *run.Run
	spill    *exchange.Spill
	layout   lake.Layout
	counters map[string]*run.Counter

	pool *parallel.Pool[[]byte]
	mu   sync.Mutex
	out  output
}

// output is what the workers have made and the DoFn has not yet told Beam.
type output struct {
	rows, dead           []packet
	read, bytes, dropped int64
}

type packet struct {
	key  string
	body []byte
}

func (fn *processFn) Setup() (err error) {
	fn.run = run.Of(fn.Options.RunID)
	if fn.spill, err = exchange.Open(fn.run, fn.Options.SpillDir); err != nil {
		return err
	}
	if fn.layout, err = lake.ParseLayout(fn.DeadLetters); err != nil {
		return err
	}
	fn.counters = map[string]*run.Counter{}
	for _, name := range []string{"read", "bytes", "extra_dropped"} {
		fn.counters[name] = fn.run.Counter("catalog", name)
	}
	return nil
}

func (fn *processFn) StartBundle(ctx context.Context, _, _ func(string, []byte)) {
	fn.pool = parallel.Start(runtime.GOMAXPROCS(0), func() (func([]byte) error, func() error) {
		w, err := fn.worker()
		if err != nil {
			return func([]byte) error { return err }, nil
		}
		return func(task []byte) error { return w.task(ctx, task) }, w.end
	})
}

// ProcessElement hands a file, or a part of one, to a worker, and emits what the workers have made so far.
func (fn *processFn) ProcessElement(ctx context.Context, task []byte, rows, dead func(string, []byte)) error {
	if err := fn.pool.Submit(ctx, task); err != nil {
		return err
	}
	fn.emit(ctx, rows, dead)
	return nil
}

// FinishBundle waits for the workers and emits the rest.
func (fn *processFn) FinishBundle(ctx context.Context, rows, dead func(string, []byte)) error {
	if err := fn.pool.Wait(); err != nil {
		return err
	}
	fn.emit(ctx, rows, dead)
	return nil
}

func (fn *processFn) emit(ctx context.Context, rows, dead func(string, []byte)) {
	fn.mu.Lock()
	out := fn.out
	fn.out = output{}
	fn.mu.Unlock()
	for _, p := range out.rows {
		rows(p.key, p.body)
	}
	for _, p := range out.dead {
		dead(p.key, p.body)
	}
	fn.counters["read"].Add(ctx, out.read)
	fn.counters["bytes"].Add(ctx, out.bytes)
	fn.counters["extra_dropped"].Add(ctx, out.dropped)
}

// worker reads files on one goroutine.
type worker interface {
	task(ctx context.Context, task []byte) error
	end() error
}

func (fn *processFn) worker() (worker, error) {
	switch fn.Table {
	case schemas.Users.Name:
		return newTableWorker(fn, schemas.Users), nil
	case schemas.Items.Name:
		return newTableWorker(fn, schemas.Items), nil
	}
	return nil, fmt.Errorf("table %q is none of a catalog", fn.Table)
}

// tableWorker makes rows R.
type tableWorker[R any] struct {
	fn      *processFn
	table   *schemas.Table[R]
	rules   schemas.CatalogRules
	parts   map[int]*part[R]
	rows    *asof.Packer[R]
	dead    *lake.Packer[schemas.DeadLetter]
	bin     *exchange.Bin
	letters deadletter.Maker

	rec    *source.Record // the one being read
	part   int
	nth    int // row of the record
	failed error
	out    output
}

// part reads the files of one part of the mapping.
type part[R any] struct {
	reader  *files.Reader
	decoder decode.Decoder[R]
	dropped int64
}

func newTableWorker[R any](fn *processFn, table *schemas.Table[R]) *tableWorker[R] {
	w := &tableWorker[R]{
		fn: fn, table: table, parts: map[int]*part[R]{}, bin: fn.spill.NewBin(),
		rules:   schemas.CatalogRules{AsOf: fn.Options.AsOf.UnixMicro(), Dimensions: fn.Mapping.Dimensions()},
		letters: deadletter.Maker{Pipeline: "catalog", Version: table.Version},
	}
	w.rows = asof.NewPacker(table, fn.Shards, w.bin, func(key string, body []byte) { w.out.rows = append(w.out.rows, packet{key, body}) })
	w.dead = lake.NewPacker(schemas.DeadLetters, fn.layout, w.bin, func(p lake.Packet) { w.out.dead = append(w.out.dead, packet{p.Key, p.Body}) })
	return w
}

// partFor returns what reads a file.
func (w *tableWorker[R]) partFor(url string) (*part[R], error) {
	m, number := w.fn.Mapping.For(url)
	w.part = number
	if p := w.parts[number]; p != nil {
		return p, nil
	}
	d, err := decode.New(m, w.table, w.table.Reset)
	if err != nil {
		return nil, err
	}
	p := &part[R]{decoder: d, reader: files.NewReader(files.ForPart(m, w.fn.Options.files()))}
	w.parts[number] = p
	return p, nil
}

func (w *tableWorker[R]) task(ctx context.Context, encoded []byte) error {
	task, err := files.Decode(encoded)
	if err != nil {
		return err
	}
	p, err := w.partFor(task.URL)
	if err != nil {
		return err
	}
	err = p.reader.Each(ctx, task, func(rec *source.Record) error {
		w.rec, w.nth, w.failed = rec, 0, nil
		p.decoder.Decode(rec, w.row)
		w.out.bytes += max(rec.Size, int64(len(rec.Data))) + 1
		if w.failed == nil && (w.rows.IsFull() || w.dead.IsFull()) {
			return w.flush()
		}
		return w.failed
	})
	if err != nil {
		return err
	}
	w.out.dropped += p.decoder.Dropped() - p.dropped
	p.dropped = p.decoder.Dropped()
	w.handOver()
	return nil
}

func (w *tableWorker[R]) flush() error { return errors.Join(w.rows.Flush(), w.dead.Flush()) }

// end sends what waits in the piles.
func (w *tableWorker[R]) end() error {
	errs := []error{w.flush(), w.bin.Close()}
	for _, p := range w.parts {
		errs = append(errs, p.reader.Close())
	}
	w.handOver()
	return errors.Join(errs...)
}

// handOver gives what was made to the DoFn's goroutine.
func (w *tableWorker[R]) handOver() {
	out := &w.fn.out
	w.fn.mu.Lock()
	defer w.fn.mu.Unlock()
	out.rows, out.dead = append(out.rows, w.out.rows...), append(out.dead, w.out.dead...)
	out.read += w.out.read
	out.bytes += w.out.bytes
	out.dropped += w.out.dropped
	w.out = output{}
}

// row takes one row of the record, or what is wrong with it.
func (w *tableWorker[R]) row(row *R, fault *schemas.FieldError) {
	w.out.read++
	w.nth++
	stage := deadletter.Decode
	if fault == nil {
		w.table.Clean(row)
		stage = deadletter.Validate
		fault = w.table.Check(row, w.rules)
	}
	if fault == nil {
		w.table.Arrange(row)
		w.failed = errors.Join(w.failed, w.rows.Add(w.part, row))
		return
	}
	if id := w.table.Columns[0].Name; stage == deadletter.Validate && w.part == 0 && fault.Path != id {
		// The export has it, though not in a form that can be taken: it was not deleted.
		known, _ := w.table.Slot(row)
		w.failed = errors.Join(w.failed, w.rows.Refuse(known))
	}
	w.failed = errors.Join(w.failed, w.dead.SendIfLarge(w.dead.Add(w.letters.Make(w.rec, w.nth, stage, fault))))
}
