package interactions

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/contextjoin"
	"backbone/transforms/deadletter"
	"backbone/transforms/decode"
	"backbone/transforms/exchange"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/parallel"
	"backbone/transforms/pubsub"
	"backbone/transforms/run"
	"backbone/transforms/source"
)

func init() {
	register.DoFn3x1[context.Context, []byte, func(beam.EventTime, string, []byte), error](&processFn{})
	register.Emitter3[beam.EventTime, string, []byte]()
}

// processFn makes rows of a table, and dead letters, of batches of records, on all cores, and sends them on in packets.
type processFn struct {
	Table              string // interactions or contexts
	Mapping            mappings.Mapping
	Files              files.Options
	PubSub             pubsub.Options
	GeoDB              string
	Rows               string // layout
	DeadLetters        string // layout
	Lake               string
	Join               *join // nil: interactions are not joined
	RunID              string
	SpillDir           string
	TimestampAttribute string
	IDAttribute        string

	run       *run.Run
	spill     *exchange.Spill
	deriver   *contextjoin.Deriver
	index     *contextjoin.Index
	watermark *pubsub.Watermark
	layouts   [2]lake.Layout
	counters  map[string]*run.Counter

	pool *parallel.Pool[[]byte]
	mu   sync.Mutex
	out  []lake.Packet
	seen tally
}

// tally is what the workers have counted and the DoFn has not yet told Beam.
type tally struct{ events, records, bytes, dropped, joined, unjoined int64 }

// join is how interactions are joined to contexts.
type join struct {
	Contexts string // layout
	TTL      time.Duration
	Refresh  time.Duration
	Memory   int64
}

// newProcessFn makes the function for one of the inputs.
func newProcessFn(p *Plan, in input) *processFn {
	fn := &processFn{
		Table: in.table, Mapping: *in.mapping, Files: p.files(in.mapping), PubSub: p.pubsub(in), GeoDB: p.GeoDB, RunID: p.RunID, SpillDir: p.SpillDir,
		Rows: p.Layouts[in.table].String(), DeadLetters: p.Layouts[schemas.DeadLetters.Name].String(), Lake: p.Lake,
		TimestampAttribute: p.TimestampAttribute, IDAttribute: p.IDAttribute,
	}
	if in.table == schemas.Interactions.Name && p.hasContexts() {
		fn.Join = &join{Contexts: p.Layouts[schemas.Contexts.Name].String(), TTL: p.ContextTTL, Memory: p.ContextMemory}
		if p.Streaming() {
			fn.Join.Refresh = contextRefresh
		}
	}
	return fn
}

func (fn *processFn) Setup(ctx context.Context) (err error) {
	fn.run = run.Of(fn.RunID)
	if fn.spill, err = exchange.Open(fn.run, fn.SpillDir); err != nil {
		return err
	}
	for i, text := range []string{fn.Rows, fn.DeadLetters} {
		if fn.layouts[i], err = lake.ParseLayout(text); err != nil {
			return err
		}
	}
	if fn.PubSub.Subscription != "" {
		fn.watermark = pubsub.WatermarkOf(fn.run, fn.PubSub)
	}
	fn.counters = map[string]*run.Counter{}
	for _, name := range []string{"read", "records", "bytes", "extra_dropped"} {
		fn.counters[name] = fn.run.Counter("events", name)
	}
	for _, name := range []string{"located", "unknown", "private", "garbage", "failed", "joined", "unjoined"} {
		fn.counters[name] = fn.run.Counter("context", name)
	}
	fn.deriver, err = run.Shared(fn.run, "contextjoin/"+fn.GeoDB, func() (*contextjoin.Deriver, error) {
		return contextjoin.New(contextjoin.Options{GeoDB: fn.GeoDB})
	})
	if err != nil || fn.Join == nil {
		return err
	}
	fn.index, err = run.Shared(fn.run, "contextjoin/index", func() (*contextjoin.Index, error) {
		layout, err := lake.ParseLayout(fn.Join.Contexts)
		if err != nil {
			return nil, err
		}
		st, err := lake.OpenStore(ctx, fn.run, fn.Lake)
		if err != nil {
			return nil, err
		}
		return contextjoin.NewIndex(st, contextjoin.IndexOptions{Layout: layout, TTL: fn.Join.TTL, Refresh: fn.Join.Refresh, Memory: fn.Join.Memory}), nil
	})
	return err
}

func (fn *processFn) StartBundle(ctx context.Context, _ func(beam.EventTime, string, []byte)) {
	fn.pool = parallel.Start(runtime.GOMAXPROCS(0), func() (func([]byte) error, func() error) {
		w, err := fn.worker(ctx)
		if err != nil {
			return func([]byte) error { return err }, nil
		}
		return func(batch []byte) error { return w.batch(ctx, batch) }, w.end
	})
}

// ProcessElement hands a batch to a worker, and emits what the workers have made so far.
func (fn *processFn) ProcessElement(ctx context.Context, batch []byte, emit func(beam.EventTime, string, []byte)) error {
	if err := fn.pool.Submit(ctx, batch); err != nil {
		return err
	}
	fn.emit(ctx, emit)
	return nil
}

// FinishBundle waits for the workers and emits the rest.
func (fn *processFn) FinishBundle(ctx context.Context, emit func(beam.EventTime, string, []byte)) error {
	if err := fn.pool.Wait(); err != nil {
		return err
	}
	fn.emit(ctx, emit)
	return nil
}

func (fn *processFn) emit(ctx context.Context, emit func(beam.EventTime, string, []byte)) {
	fn.mu.Lock()
	out, seen := fn.out, fn.seen
	fn.out, fn.seen = nil, tally{}
	fn.mu.Unlock()
	for _, p := range out {
		emit(mtime.FromTime(time.UnixMicro(p.Micros)), p.Key, p.Body)
	}
	fn.counters["read"].Add(ctx, seen.events)
	fn.counters["records"].Add(ctx, seen.records)
	fn.counters["bytes"].Add(ctx, seen.bytes)
	fn.counters["extra_dropped"].Add(ctx, seen.dropped)
	fn.counters["joined"].Add(ctx, seen.joined)
	fn.counters["unjoined"].Add(ctx, seen.unjoined)
	places := fn.deriver.TakeStats()
	fn.counters["located"].Add(ctx, places.Located)
	fn.counters["unknown"].Add(ctx, places.Unknown)
	fn.counters["private"].Add(ctx, places.Private)
	fn.counters["garbage"].Add(ctx, places.Garbage)
	fn.counters["failed"].Add(ctx, places.Failed)
}

// worker makes rows of batches, on one goroutine.
type worker interface {
	batch(ctx context.Context, batch []byte) error
	end() error
}

func (fn *processFn) worker(ctx context.Context) (worker, error) {
	switch fn.Table {
	case schemas.Interactions.Name:
		w, err := newWorker(fn, schemas.Interactions, (*schemas.Interaction).Reset)
		if err != nil {
			return nil, err
		}
		w.parts = func(row *schemas.Interaction) parts {
			return parts{&row.EventID, &row.EventTime, &row.ReceivedTime, &row.LoadedTime, &row.Lineage}
		}
		w.derive = fn.deriver.Interaction
		w.check = (*schemas.Interaction).Check
		if fn.index != nil {
			w.join = func(row *schemas.Interaction) error {
				err := fn.index.Join(ctx, row)
				if row.ContextJoined.V {
					w.seen.joined++
				} else {
					w.seen.unjoined++
				}
				return err
			}
		}
		return w, nil
	case schemas.Contexts.Name:
		w, err := newWorker(fn, schemas.Contexts, (*schemas.ContextEvent).Reset)
		if err != nil {
			return nil, err
		}
		w.parts = func(row *schemas.ContextEvent) parts {
			return parts{&row.EventID, &row.EventTime, &row.ReceivedTime, &row.LoadedTime, &row.Lineage}
		}
		w.derive = fn.deriver.ContextEvent
		w.check = (*schemas.ContextEvent).Check
		return w, nil
	}
	return nil, fmt.Errorf("table %q is none of events", fn.Table)
}

// parts are what all events have.
type parts struct {
	id                     *string
	time, received, loaded *schemas.Time
	lineage                *schemas.Lineage
}

// eventWorker makes rows R.
type eventWorker[R any] struct {
	fn      *processFn
	table   *schemas.Table[R]
	reader  *files.Reader
	decoder decode.Decoder[R]
	rules   schemas.Rules
	rows    *lake.Packer[R]
	dead    *lake.Packer[schemas.DeadLetter]
	bin     *exchange.Bin
	letters deadletter.Maker
	letter  *schemas.DeadLetter // the latest

	parts  func(*R) parts
	derive func(*R)
	check  func(*R, schemas.Rules) *schemas.FieldError
	join   func(*R) error // nil: rows are not joined

	rec     *source.Record // the one being read
	latest  int64          // event time in the batch
	touched []*lake.Pile   // by the record
	nth     int            // event of the record
	failed  error          // to join one of them
	seen    tally
	packets []lake.Packet
}

func newWorker[R any](fn *processFn, table *schemas.Table[R], reset func(*R)) (*eventWorker[R], error) {
	d, err := decode.New(&fn.Mapping, table, reset)
	if err != nil {
		return nil, err
	}
	w := &eventWorker[R]{
		fn: fn, table: table, decoder: d, reader: files.NewReader(fn.Files), bin: fn.spill.NewBin(),
		rules:   schemas.Rules{Types: fn.Mapping.EventTypes},
		letters: deadletter.Maker{Pipeline: "interactions", Version: table.Version},
	}
	send := func(p lake.Packet) { w.packets = append(w.packets, p) }
	w.rows = lake.NewPacker(table, fn.layouts[0], w.bin, send)
	w.dead = lake.NewPacker(schemas.DeadLetters, fn.layouts[1], w.bin, send)
	return w, nil
}

// batch reads a task or a block of messages.
func (w *eventWorker[R]) batch(ctx context.Context, batch []byte) error {
	w.rules.Now = time.Now().UnixMicro()
	w.latest = 0
	if pubsub.IsBlock(batch) {
		if err := pubsub.EachRecord(batch, w.fn.PubSub.Subscription, w.record); err != nil {
			return err
		}
		if w.latest > 0 {
			w.fn.watermark.Observe(time.Now(), w.latest)
		}
	} else {
		task, err := files.Decode(batch)
		if err != nil {
			return err
		}
		if err := w.reader.Each(ctx, task, func(rec *source.Record) error { return w.record(rec, "") }); err != nil {
			return err
		}
	}
	w.handOver()
	return nil
}

// end sends what waits in the piles.
func (w *eventWorker[R]) end() error {
	err := errors.Join(w.rows.Flush(), w.dead.Flush(), w.bin.Close(), w.reader.Close())
	w.handOver()
	return err
}

// handOver gives what was made to the DoFn's goroutine.
func (w *eventWorker[R]) handOver() {
	dropped := w.decoder.Dropped()
	w.fn.mu.Lock()
	defer w.fn.mu.Unlock()
	w.fn.out = append(w.fn.out, w.packets...)
	w.fn.seen.events += w.seen.events
	w.fn.seen.records += w.seen.records
	w.fn.seen.bytes += w.seen.bytes
	w.fn.seen.dropped += dropped - w.seen.dropped
	w.fn.seen.joined += w.seen.joined
	w.fn.seen.unjoined += w.seen.unjoined
	w.packets, w.seen = w.packets[:0], tally{dropped: dropped}
}

// record makes rows and dead letters of one record. Its token goes with them.
func (w *eventWorker[R]) record(rec *source.Record, token string) error {
	if limit := w.fn.Files.MaxRecordBytes; len(rec.Data) > limit { // a message: files are cut by their reader
		cut := *rec
		cut.Data, cut.Size = rec.Data[:limit], int64(len(rec.Data))
		cut.Err = &schemas.FieldError{Code: schemas.CodeTooLarge, Message: fmt.Sprintf("the message is longer than %d bytes", limit)}
		rec = &cut
	}
	w.rec, w.nth, w.touched = rec, 0, w.touched[:0]
	w.decoder.Decode(rec, w.event)
	if w.failed != nil {
		return w.failed
	}
	w.seen.records++
	w.seen.bytes += max(rec.Size, int64(len(rec.Data))) + 1
	if token != "" {
		for _, pile := range w.touched {
			pile.AddToken(token, len(w.touched))
		}
	}
	for _, pile := range w.touched {
		send := w.rows.SendIfLarge
		if pile.Table() == schemas.DeadLetters.Name {
			send = w.dead.SendIfLarge
		}
		if err := send(pile); err != nil {
			return err
		}
	}
	if w.rows.IsFull() || w.dead.IsFull() {
		return errors.Join(w.rows.Flush(), w.dead.Flush())
	}
	return nil
}

// event takes one event of the record: a row, or what is wrong with it.
func (w *eventWorker[R]) event(row *R, fault *schemas.FieldError) {
	w.seen.events++
	w.nth++
	stage := deadletter.Decode
	if fault == nil {
		w.complete(row)
		stage = deadletter.Validate
		fault = w.check(row, w.rules)
	}
	var pile *lake.Pile
	if fault != nil {
		w.letter = w.letters.Make(w.rec, w.nth, stage, fault)
		pile = w.dead.Add(w.letter)
	} else {
		if w.join != nil {
			w.failed = errors.Join(w.failed, w.join(row))
		}
		_, micros := w.table.Slot(row)
		w.latest = max(w.latest, micros)
		pile = w.rows.Add(row)
	}
	for _, p := range w.touched {
		if p == pile {
			return
		}
	}
	w.touched = append(w.touched, pile)
}

// complete fills what the event itself does not say.
func (w *eventWorker[R]) complete(row *R) {
	rec := w.rec
	p := w.parts(row)
	l := p.lineage
	l.Source, l.MessageID, l.SchemaVersion = rec.Source, rec.MessageID, schemas.Some(int64(w.table.Version))
	*p.loaded = schemas.Some(w.rules.Now)
	if rec.Offset >= 0 {
		l.Offset = schemas.Some(rec.Offset)
	} else if !p.received.Set {
		*p.received = schemas.Some(rec.Received)
	}
	if len(rec.Attributes) > 0 {
		w.attributes(p)
	}
	w.derive(row)
}

// attributes takes what the message says of its event.
func (w *eventWorker[R]) attributes(p parts) {
	for _, a := range w.rec.Attributes {
		switch {
		case a.Key == w.fn.IDAttribute && (*p.id == "" || p.lineage.SyntheticID.V):
			*p.id, p.lineage.SyntheticID = a.Value, schemas.Bool{}
		case a.Key == w.fn.TimestampAttribute && !p.time.Set:
			if micros, ok := parseTimestamp(a.Value); ok {
				*p.time = schemas.Some(micros)
			}
		}
		a.Value = schemas.RemoveAddress(a.Value)
		p.lineage.Attributes = append(p.lineage.Attributes, a)
	}
}

// parseTimestamp reads a timestamp attribute: RFC 3339, or milliseconds since 1970.
func parseTimestamp(s string) (micros int64, ok bool) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return ms * 1000, true
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UnixMicro(), err == nil
}
