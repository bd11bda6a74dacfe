// Package asof keeps versions of users and items: what each of them was at any time.
//
//	packets --> group by shard --> merge --> gate --> store --> seal
//	                                   \---- files ----^
//
// An export becomes a version of its table: the complete current state in a folder of its own, and the versions of rows that
// it has closed in the table's history:
//
//	<lake>/items/as_of=20261122T000000Z/part-<shard>-of-<shards>.parquet
//	<lake>/items_history/as_of=20261122T000000Z/part-<shard>-of-<shards>.parquet
//	<lake>/items/_versions/000007.json
//
// A version of a row holds from the time of its update until that of the next. What a row was at a time T is the one with
// the latest valid_from up to T, of the current state and all history; At reads it.
//
// # Guarantees
//
// To commit a version is one conditional create, that of its line in the log (_versions). Before it there is no version,
// after it there is all of it. Two runs over the same export make the same files, byte by byte, so they can run at
// once, and one that was killed is finished by the next. Of two runs over different exports, one is told to begin again.
//
// Updates may come in any order and any number of times: an older one never undoes a newer one, it goes where it belongs in the
// history. (A version that was closed keeps the valid_to that was known then: where a later export has put
// another version before that, it ends with the beginning of the other.)
//
// Nothing is written before all of the export was read and merged, and the gate has seen that it does not delete more than it may.
//
// # Limits
//
// The rows that an export has of a shard are held in memory, and the files of a shard, one shard for each core. Without a folder to spill to,
// a file of a shard is one element of the runner's: more shards make it smaller.
//
// # Metrics
//
// For each table, named after it: inserted, updated, removed, absent, late, unchanged, joined, unjoined, closed (rows).
package asof

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/schemas"
	"backbone/transforms/exchange"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/parallel"
	"backbone/transforms/run"
)

func init() {
	register.Function2x0(seed)
	register.Function2x0(await)
	register.DoFn5x1[context.Context, string, func(*[]byte) bool, func(string, []byte), func(string, []byte), error](&mergeFn{})
	register.DoFn4x1[context.Context, string, func(*[]byte) bool, func(string, []byte), error](&gateFn{})
	register.DoFn5x1[context.Context, string, func(*[]byte) bool, func(*[]byte) bool, func(string, []byte), error](&storeFn{})
	register.DoFn4x1[context.Context, string, func(*[]byte) bool, func([]byte), error](&sealFn{})
	register.Emitter2[string, []byte]()
	register.Emitter1[[]byte]()
	register.Iter1[[]byte]()
}

// Options say which version is made.
type Options struct {
	// URL of the lake. Required.
	URL string
	// Table is users or items. Required.
	Table string
	// Plan is what Prepare returned. Required.
	Plan Plan
	// Dimensions is the length of embeddings; 0: any.
	Dimensions int
	// MaxDeleteFraction is the share of the live rows that a full export may delete by not having them. Default: 0, none.
	MaxDeleteFraction float64
	// Retain is how many versions keep their files; older ones are removed. The history stays. 0: all.
	Retain int
	// RunID names the launch. Required.
	RunID string
	// SpillDir is where rows and files wait. Empty: they travel inline.
	SpillDir string
}

// Update makes a version of a table.
//
//	packets   PCollection<KV<string, []byte>>: rows of the export, as a Packer makes them
//	after     PCollection<[]byte>: what has to be there before the version is; nothing is read in it
//	versions  PCollection<[]byte>: the Version in JSON, when it is committed
func Update(s beam.Scope, packets, after beam.PCollection, o Options) (versions beam.PCollection) {
	s = s.Scope("asof.Update")

	// Each shard is merged, also one of which the export has nothing.
	var numbers []string
	for shard := range o.Plan.Shards {
		numbers = append(numbers, strconv.Itoa(shard))
	}
	seeds := beam.ParDo(s, seed, beam.CreateList(s, numbers))
	shards := beam.GroupByKey(s, beam.Flatten(s, packets, seeds))

	// A group is complete when all that goes into it is, so the gate is reached after what has to be there before.
	merged, files := beam.ParDo2(s, &mergeFn{Options: o}, shards)
	results := beam.GroupByKey(s, beam.Flatten(s, merged, beam.ParDo(s, await, after)))

	// Only counts are all in one place: where files travel inline, each waits for the gate beside those of its shard.
	passed := beam.ParDo(s, &gateFn{Options: o}, results)
	stored := beam.ParDo(s, &storeFn{Options: o}, beam.CoGroupByKey(s, passed, files))
	return beam.ParDo(s, &sealFn{Options: o}, beam.GroupByKey(s, stored))
}

func seed(shard string, emit func(string, []byte)) { emit(shard, nil) }

// await makes the version wait for an element.
func await(_ []byte, emit func(string, []byte)) { emit(ofVersion, nil) }

// ofVersion is the key of all results of a version.
const ofVersion = "version"

// Packer gathers rows of an export into packets. It is used by one goroutine.
type Packer[R any] struct {
	table  *schemas.Table[R]
	shards int
	bin    *exchange.Bin
	out    func(key string, packet []byte)
	parts  map[byte]*lake.Packer[R]
}

// NewPacker returns a packer that stores rows in bin and hands their packets, and the keys of these, to out.
func NewPacker[R any](table *schemas.Table[R], shards int, bin *exchange.Bin, out func(key string, packet []byte)) *Packer[R] {
	return &Packer[R]{table: table, shards: shards, bin: bin, out: out, parts: map[byte]*lake.Packer[R]{}}
}

// Add adds a row. Its part is 0 for a row of the export, and from 1 on for a record whose values are added to the row of the same id.
func (p *Packer[R]) Add(part int, row *R) error { return p.add(byte(part), row) }

// Refuse says that the export has a row of that id which can't be taken: it is not absent.
func (p *Packer[R]) Refuse(id string) error {
	var row R
	*p.table.Columns[0].Str(&row) = id
	return p.add(refused, &row)
}

func (p *Packer[R]) add(part byte, row *R) error {
	packer := p.parts[part]
	if packer == nil {
		packer = lake.NewPacker(p.table, lake.Layout{Shards: p.shards}, p.bin, func(packet lake.Packet) {
			slot, err := lake.ParseKey(packet.Key)
			if err != nil {
				return // it is one of a slot
			}
			p.out(strconv.Itoa(slot.Shard), append([]byte{part}, packet.Body...))
		})
		p.parts[part] = packer
	}
	return packer.SendIfLarge(packer.Add(row))
}

// IsFull reports whether it is time to Flush.
func (p *Packer[R]) IsFull() bool {
	for _, packer := range p.parts {
		if packer.IsFull() {
			return true
		}
	}
	return false
}

// Flush sends all rows.
func (p *Packer[R]) Flush() error {
	for _, part := range slices.Sorted(maps.Keys(p.parts)) {
		if err := p.parts[part].Flush(); err != nil {
			return err
		}
	}
	return nil
}

// result is what became of a shard, on its way from merge to seal.
type result struct {
	Shard   int
	Counts  Counts
	Arrived int64
	Current Part
	History *Part `json:",omitempty"`
}

// mergeOutput is what the workers have made of shards, and the DoFn has not yet told Beam.
type mergeOutput struct {
	results [][]byte
	files   []filePacket
}

// filePacket is a file of a shard on its way to the store: the table of it, and a packet of package exchange.
type filePacket struct {
	shard int
	body  []byte
}

// The tables of files.
const (
	ofState byte = iota
	ofHistory
)

// mergeFn merges shards, several at a time.
type mergeFn struct {
	Options Options

	run    *run.Run
	store  *store.Store
	spill  *exchange.Spill
	desks  chan struct{}
	before *Version
	table  merging

	pool *parallel.Pool[group]
	mu   sync.Mutex
	out  mergeOutput
}

// group is a shard with the packets of its rows.
type group struct {
	shard   int
	packets [][]byte
}

func (fn *mergeFn) Setup(ctx context.Context) (err error) {
	fn.run = run.Of(fn.Options.RunID)
	if fn.store, err = lake.OpenStore(ctx, fn.run, fn.Options.URL); err != nil {
		return err
	}
	if fn.spill, err = exchange.Open(fn.run, fn.Options.SpillDir); err != nil {
		return err
	}
	// A runner may work on many bundles at once; their number must not decide how much memory is needed.
	fn.desks, err = run.Shared(fn.run, "asof/desks", func() (chan struct{}, error) {
		return make(chan struct{}, runtime.GOMAXPROCS(0)), nil
	})
	if err != nil {
		return err
	}
	// Its writers are used again by all bundles.
	fn.table, err = run.Shared(fn.run, "asof/"+fn.Options.Table, func() (merging, error) { return mergingOf(fn.Options.Table) })
	if err != nil {
		return err
	}
	if n := fn.Options.Plan.Number - 1; n > 0 {
		fn.before, err = readVersion(ctx, fn.store, fn.Options.Table, n)
	}
	return err
}

func (fn *mergeFn) StartBundle(ctx context.Context, _, _ func(string, []byte)) {
	fn.out = mergeOutput{}
	fn.pool = parallel.Start(runtime.GOMAXPROCS(0), func() (func(group) error, func() error) {
		return func(g group) error { return fn.merge(ctx, g) }, nil
	})
}

func (fn *mergeFn) ProcessElement(ctx context.Context, key string, packets func(*[]byte) bool, results, files func(string, []byte)) error {
	shard, err := strconv.Atoi(key)
	if err != nil {
		return fmt.Errorf("%q is no shard: %w", key, err)
	}
	g := group{shard: shard}
	for packet := []byte(nil); packets(&packet); packet = nil {
		if len(packet) > 0 { // none of a seed
			g.packets = append(g.packets, packet)
		}
	}
	if err := fn.pool.Submit(ctx, g); err != nil {
		return err
	}
	fn.emit(results, files)
	return nil
}

// FinishBundle waits for the workers and emits the rest.
func (fn *mergeFn) FinishBundle(_ context.Context, results, files func(string, []byte)) error {
	if err := fn.pool.Wait(); err != nil {
		return err
	}
	fn.emit(results, files)
	return nil
}

func (fn *mergeFn) emit(results, files func(string, []byte)) {
	fn.mu.Lock()
	out := fn.out
	fn.out = mergeOutput{}
	fn.mu.Unlock()
	for _, r := range out.results {
		results(ofVersion, r)
	}
	for _, f := range out.files {
		files(strconv.Itoa(f.shard), f.body)
	}
}

// merge merges a shard and lets its files wait for the gate. It runs on a worker's goroutine.
func (fn *mergeFn) merge(ctx context.Context, g group) error {
	fn.desks <- struct{}{}
	defer func() { <-fn.desks }()
	o := fn.Options
	t := task{
		store: fn.store, shard: g.shard, shards: o.Plan.Shards, before: fn.before, mode: o.Plan.Mode, asOf: o.Plan.AsOf.UnixMicro(),
		rules: schemas.CatalogRules{AsOf: o.Plan.AsOf.UnixMicro(), Dimensions: o.Dimensions},
	}
	for _, packet := range g.packets {
		parcel, err := fn.spill.Get(packet[1:], nil)
		if err != nil {
			return err
		}
		body, _, err := lake.OpenParcel(parcel)
		if err != nil {
			return err
		}
		t.chunks = append(t.chunks, chunk{part: packet[0], body: body})
	}
	files, err := fn.table.merge(ctx, t)
	if err != nil {
		return err
	}
	defer files.done()
	r := result{
		Shard: g.shard, Counts: files.counts, Arrived: files.arrived,
		Current: Part{Shard: g.shard, Rows: files.rows, Live: files.live, Bytes: int64(len(files.current))},
	}
	packets := []filePacket{{body: files.current}}
	if files.history != nil {
		r.History = &Part{Shard: g.shard, Rows: files.closed, Bytes: int64(len(files.history))}
		packets = append(packets, filePacket{body: files.history})
	}
	bin := fn.spill.NewBin()
	for kind := range packets { // in the order of their constants
		packet, err := bin.Put(packets[kind].body)
		if err != nil {
			return err
		}
		packets[kind] = filePacket{shard: g.shard, body: append([]byte{byte(kind)}, packet...)}
	}
	if err := bin.Close(); err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	fn.out.results, fn.out.files = append(fn.out.results, b), append(fn.out.files, packets...)
	return nil
}

// gateFn lets the files of a version through, when all of them are there and they do not delete too much.
type gateFn struct {
	Options Options

	store *store.Store
}

func (fn *gateFn) Setup(ctx context.Context) (err error) {
	fn.store, err = lake.OpenStore(ctx, run.Of(fn.Options.RunID), fn.Options.URL)
	return err
}

func (fn *gateFn) ProcessElement(ctx context.Context, _ string, results func(*[]byte) bool, emit func(string, []byte)) error {
	all, err := collect(results, fn.Options.Plan.Shards)
	if err != nil {
		return fmt.Errorf("table %q: %w", fn.Options.Table, err)
	}
	var total Counts
	arrived := int64(0)
	for _, r := range all {
		total.Add(r.Counts)
		arrived += r.Arrived
	}
	if err := fn.Options.check(total, arrived); err != nil {
		return err
	}
	if err := fn.Options.claim(ctx, fn.store); err != nil {
		return err
	}
	for _, r := range all {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		emit(strconv.Itoa(r.Shard), b)
	}
	return nil
}

// collect reads the results of all shards, in their order.
func collect(results func(*[]byte) bool, shards int) ([]result, error) {
	var all []result
	for b := []byte(nil); results(&b); b = nil {
		if len(b) == 0 {
			continue // what was waited for
		}
		var r result
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("result of a shard: %w", err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b result) int { return a.Shard - b.Shard })
	for i, r := range all {
		if r.Shard != i {
			return nil, fmt.Errorf("shard %d is missing, or there twice", i)
		}
	}
	if len(all) != shards {
		return nil, fmt.Errorf("there are %d shards, want %d", len(all), shards)
	}
	return all, nil
}

// check refuses an export that is suspiciously small.
func (o *Options) check(c Counts, arrived int64) error {
	if o.Plan.Mode != Full {
		return nil
	}
	if arrived == 0 {
		return fmt.Errorf("table %q: the full export has no row that can be taken; nothing was changed", o.Table)
	}
	if share := float64(c.Absent) / float64(max(1, c.Before)); c.Absent > 0 && share > o.MaxDeleteFraction {
		return fmt.Errorf("table %q: the full export does not have %d of %d rows, a share of %.3f; nothing was changed. Is it complete? If so, run it with --max_delete_fraction=%.2f",
			o.Table, c.Absent, c.Before, share, min(1, share+0.01))
	}
	return nil
}

// storeFn writes the files of shards, several at a time.
type storeFn struct {
	Options Options

	store *store.Store
	spill *exchange.Spill
	pool  *parallel.Pool[storing]
	mu    sync.Mutex
	done  [][]byte
}

// storing is the storing of the files of a shard, each with its table.
type storing struct {
	result []byte
	files  [][]byte
}

func (fn *storeFn) Setup(ctx context.Context) (err error) {
	r := run.Of(fn.Options.RunID)
	if fn.store, err = lake.OpenStore(ctx, r, fn.Options.URL); err != nil {
		return err
	}
	fn.spill, err = exchange.Open(r, fn.Options.SpillDir)
	return err
}

func (fn *storeFn) StartBundle(ctx context.Context, _ func(string, []byte)) {
	fn.done = nil
	fn.pool = parallel.Start(runtime.GOMAXPROCS(0), func() (func(storing) error, func() error) {
		return func(s storing) error { return fn.put(ctx, s) }, nil
	})
}

func (fn *storeFn) ProcessElement(ctx context.Context, shard string, results, files func(*[]byte) bool, _ func(string, []byte)) error {
	var s storing
	if !results(&s.result) {
		return fmt.Errorf("table %q: the files of shard %s have not passed the gate", fn.Options.Table, shard)
	}
	for f := []byte(nil); files(&f); f = nil {
		s.files = append(s.files, f)
	}
	return fn.pool.Submit(ctx, s)
}

// FinishBundle waits until the files of the bundle are durable.
func (fn *storeFn) FinishBundle(_ context.Context, emit func(string, []byte)) error {
	if err := fn.pool.Wait(); err != nil {
		return err
	}
	for _, d := range fn.done {
		emit(ofVersion, d)
	}
	return nil
}

func (fn *storeFn) put(ctx context.Context, s storing) error {
	var r result
	if err := json.Unmarshal(s.result, &r); err != nil {
		return fmt.Errorf("result of a shard: %w", err)
	}
	want := 1
	if r.History != nil {
		want = 2
	}
	if len(s.files) != want {
		return fmt.Errorf("table %q: shard %d has %d files, want %d", fn.Options.Table, r.Shard, len(s.files), want)
	}
	for _, f := range s.files {
		if err := fn.commit(ctx, r.Shard, f); err != nil {
			return err
		}
	}
	fn.mu.Lock()
	defer fn.mu.Unlock()
	fn.done = append(fn.done, s.result)
	return nil
}

// commit makes a file of a shard durable.
func (fn *storeFn) commit(ctx context.Context, shard int, file []byte) error {
	o := fn.Options
	table := o.Table
	if file[0] == ofHistory {
		table = schemas.HistoryOf(table)
	}
	body, err := fn.spill.Get(file[1:], nil)
	if err != nil {
		return err
	}
	key := table + "/" + FolderOf(o.Plan.AsOf) + "/" + partName(shard, o.Plan.Shards)
	outcome, err := fn.store.Commit(ctx, key, body)
	if err == nil && outcome == store.Taken {
		err = fmt.Errorf("%s is there with other bytes: the exports have changed since the run that made it, which was not finished. Run with a later --as_of, or remove the folder", key)
	}
	return err
}

// sealFn commits a version, when all of its files are durable.
type sealFn struct {
	Options Options

	store    *store.Store
	counters func(name string) *run.Counter
}

func (fn *sealFn) Setup(ctx context.Context) (err error) {
	r := run.Of(fn.Options.RunID)
	fn.counters = func(name string) *run.Counter { return r.Counter(fn.Options.Table, name) }
	fn.store, err = lake.OpenStore(ctx, r, fn.Options.URL)
	return err
}

func (fn *sealFn) ProcessElement(ctx context.Context, _ string, results func(*[]byte) bool, emit func([]byte)) error {
	all, err := collect(results, fn.Options.Plan.Shards)
	if err != nil {
		return fmt.Errorf("table %q: %w", fn.Options.Table, err)
	}
	v, err := fn.Options.seal(ctx, fn.store, all)
	if err != nil {
		return err
	}
	c := v.Counts
	for name, n := range map[string]int64{
		"inserted": c.Inserted, "updated": c.Updated, "removed": c.Removed, "absent": c.Absent, "late": c.Late, "unchanged": c.Unchanged,
		"joined": c.Joined, "unjoined": c.Unjoined, "closed": c.Closed, "files": int64(len(v.Current) + len(v.History)), "bytes": size(v.Current) + size(v.History),
	} {
		fn.counters(name).Add(ctx, n)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	emit(b)
	return nil
}

func size(parts []Part) (bytes int64) {
	for _, p := range parts {
		bytes += p.Bytes
	}
	return bytes
}
