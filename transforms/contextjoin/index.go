package contextjoin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"backbone/schemas"
	"backbone/transforms/dedup"
	"backbone/transforms/lake"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
)

// Memory is what contexts may take by default, in bytes.
const Memory = 256 << 20

// IndexOptions say how contexts are looked up.
type IndexOptions struct {
	// Layout of the table of contexts.
	Layout lake.Layout
	// TTL is how long after its event time a context holds, if no other follows. Required.
	TTL time.Duration
	// Refresh is how old the list of a partition's files may be. 0: it is read once, for an input that has ended.
	Refresh time.Duration
	// Memory that the partitions which are remembered may take, in bytes: about 150 for a session, and what it says once for all that say
	// the same. The partitions that were used last stay, also where they need more. Default: 256 MiB.
	Memory int64
}

// Index finds the context of an interaction in the table of contexts: the latest of its session at or before its time. What it
// knows is in the committed files, so it can be made anew at any time, anywhere. Its methods are safe for many goroutines.
//
// The contexts of a partition are held in memory while interactions of its time come, and of those that reach into it: some 150 bytes
// for each, besides what they say, which is held once however many say it. Of partitions that had to be let go, it is still known
// whose contexts they hold (16 bytes each), so that only interactions which have one there read them again.
type Index struct {
	store   *store.Store
	options IndexOptions
	listed  *dedup.Cache[*partition] // by their folder
	held    *dedup.Cache[*moments]   // by the folder of their partition

	// What one of them counts at most, in bytes: so the last 64 and the last 4 that were used stay, whatever their size.
	mostListed, mostHeld int64
}

// NewIndex returns the index of the table of contexts of the lake in st.
func NewIndex(st *store.Store, o IndexOptions) *Index {
	if o.Memory == 0 {
		o.Memory = Memory
	}
	forLists := o.Memory / 8
	return &Index{
		store: st, options: o,
		listed: dedup.NewCache[*partition](forLists), mostListed: forLists / 64,
		held: dedup.NewCache[*moments](o.Memory - forLists), mostHeld: (o.Memory - forLists) / 4,
	}
}

// partition is what files a partition has, and whose contexts are in them.
type partition struct {
	mu     sync.RWMutex
	listed time.Time
	files  []string
	known  map[string]struct{} // files
	keys   *dedup.Set
}

// moments are the contexts of a partition, by their key.
type moments struct {
	mu    sync.RWMutex
	files map[string]struct{} // that were read
	byKey map[dedup.ID][]moment
	said  map[uint64]*said // by their hashes
	bytes int64
}

func newMoments() *moments {
	return &moments{files: map[string]struct{}{}, byKey: map[dedup.ID][]moment{}, said: map[uint64]*said{}}
}

// moment is a context and when it began.
type moment struct {
	at   int64
	id   string // of two at the same time, the one with the greater id counts
	said *said
}

// said is what a context says. Many say the same, which is held once.
type said struct {
	context    schemas.Context
	attributes []schemas.Pair
}

// What things take in memory, about, in bytes.
const (
	momentBytes = 32 // the only one of its key
	keyBytes    = 64 // a place in byKey
	saidBytes   = 360
	pairBytes   = 48
)

func (a moment) compare(b moment) int {
	return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.id, b.id))
}

// Join looks up the context of an interaction, and adds it to what the interaction says itself, which wins. Strings that it
// puts into the row are not the caller's to change, and stay valid.
func (x *Index) Join(ctx context.Context, row *schemas.Interaction) error {
	m, found, err := x.find(ctx, schemas.ContextKey(row.SessionID, row.VisitorID), row.EventTime.V)
	if err != nil {
		return err
	}
	row.ContextJoined = schemas.Some(found)
	if found {
		row.Context.FillIn(&m.said.context)
		row.ContextAttributes = append(row.ContextAttributes[:0], m.said.attributes...)
	}
	return nil
}

// find returns the latest context of a key at or before a time, if it still holds.
func (x *Index) find(ctx context.Context, key string, at int64) (m moment, found bool, err error) {
	if key == "" {
		return m, false, nil
	}
	id := dedup.Of(key)
	since := at - x.options.TTL.Microseconds()
	// From the partition of the interaction back to that of the earliest context which may still hold.
	for t := at; t >= since; {
		start, _ := x.options.Layout.Window.Bounds(t)
		m, found, err = x.latest(ctx, start, id, at)
		if err != nil || found {
			return m, found && m.at >= since, err
		}
		t = start.UnixMicro() - 1
	}
	return m, false, nil
}

// latest returns the latest context of a key in a partition, at or before a time.
func (x *Index) latest(ctx context.Context, start time.Time, id dedup.ID, at int64) (m moment, found bool, err error) {
	folder := schemas.Contexts.Name + "/" + x.options.Layout.Window.Folder(start)
	files, err := x.filesWith(ctx, folder, id)
	if err == nil && len(files) > 0 {
		m, found, err = x.latestOf(ctx, folder, files, id, at)
	}
	if err != nil {
		return m, false, fmt.Errorf("contexts of %s: %w", folder, err)
	}
	return m, found, nil
}

// filesWith returns the files of a partition, or none where they hold nothing of a key.
func (x *Index) filesWith(ctx context.Context, folder string, id dedup.ID) ([]string, error) {
	p, release := x.listed.Get(folder, func() *partition { return &partition{known: map[string]struct{}{}, keys: dedup.NewSet(0)} })
	p.mu.RLock()
	defer func() {
		size := p.keys.Bytes()
		p.mu.RUnlock()
		release(min(size, x.mostListed))
	}()
	if !x.fresh(p) {
		p.mu.RUnlock()
		err := x.refresh(ctx, folder, p)
		p.mu.RLock()
		if err != nil {
			return nil, err
		}
	}
	if !p.keys.Has(id) {
		return nil, nil
	}
	return p.files, nil // it only grows at its end
}

// fresh tells if what is known of a partition is new enough.
func (x *Index) fresh(p *partition) bool {
	return !p.listed.IsZero() && (x.options.Refresh == 0 || time.Since(p.listed) < x.options.Refresh)
}

// refresh sees which files of a partition are new, and whose contexts they hold.
func (x *Index) refresh(ctx context.Context, folder string, p *partition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.fresh(p) {
		return nil // another goroutine has done it
	}
	listed := time.Now()
	for e, err := range x.store.List(ctx, folder+"/part-") {
		if err != nil {
			return err
		}
		if _, ok := p.known[e.Key]; ok {
			continue
		}
		if err := x.each(ctx, e.Key, keysOnly, func(part []schemas.ContextEvent) {
			for i := range part {
				p.keys.Add(dedup.Of(part[i].Key()))
			}
		}); err != nil {
			return err
		}
		p.files, p.known[e.Key] = append(p.files, e.Key), struct{}{}
	}
	p.listed = listed
	return nil
}

// latestOf returns the latest context of a key at or before a time, of a partition that has these files.
func (x *Index) latestOf(ctx context.Context, folder string, files []string, id dedup.ID, at int64) (m moment, found bool, err error) {
	h, release := x.held.Get(folder, newMoments)
	h.mu.RLock()
	defer func() {
		size := h.bytes
		h.mu.RUnlock()
		release(min(size, x.mostHeld))
	}()
	if len(h.files) < len(files) {
		h.mu.RUnlock()
		err := x.hold(ctx, h, files)
		h.mu.RLock()
		if err != nil {
			return m, false, err
		}
	}
	all := h.byKey[id]
	n, _ := slices.BinarySearchFunc(all, at+1, func(m moment, at int64) int { return cmp.Compare(m.at, at) })
	if n == 0 {
		return m, false, nil
	}
	return all[n-1], true, nil // a copy: the list may be sorted anew
}

// hold reads the files that were not read yet.
func (x *Index) hold(ctx context.Context, h *moments, files []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, file := range files {
		if _, ok := h.files[file]; ok {
			continue
		}
		touched := map[dedup.ID]struct{}{}
		err := x.each(ctx, file, schemas.Contexts, func(part []schemas.ContextEvent) { h.add(part, touched) })
		for id := range touched {
			slices.SortFunc(h.byKey[id], moment.compare)
		}
		if err != nil {
			return err
		}
		h.files[file] = struct{}{}
	}
	return nil
}

// add takes contexts, and notes the keys that have more than one.
func (h *moments) add(part []schemas.ContextEvent, touched map[dedup.ID]struct{}) {
	// All ids in one piece of memory: they are let go together.
	var text strings.Builder
	for i := range part {
		text.WriteString(part[i].EventID)
	}
	ids := text.String()
	h.bytes += int64(len(ids))
	for i := range part {
		r := &part[i]
		m := moment{at: r.EventTime.V, id: ids[:len(r.EventID)], said: h.share(r)}
		ids = ids[len(r.EventID):]
		h.bytes += momentBytes
		id := dedup.Of(r.Key())
		if all := h.byKey[id]; len(all) > 0 {
			touched[id] = struct{}{}
			h.byKey[id] = append(all, m)
		} else {
			h.byKey[id] = []moment{m}
			h.bytes += keyBytes
		}
	}
}

var seed = maphash.MakeSeed()

// share returns what a context says, which is held once however many say it.
func (h *moments) share(r *schemas.ContextEvent) *said {
	var hash maphash.Hash
	hash.SetSeed(seed)
	maphash.WriteComparable(&hash, r.Context)
	for _, a := range r.Attributes {
		maphash.WriteComparable(&hash, a)
	}
	sum := hash.Sum64()
	if s := h.said[sum]; s != nil && s.context == r.Context && slices.Equal(s.attributes, r.Attributes) {
		return s
	}
	s := &said{context: r.Context}
	h.bytes += saidBytes
	for i := range schemas.ContextColumns {
		if c := &schemas.ContextColumns[i]; c.Str != nil {
			text := c.Str(&s.context)
			*text = strings.Clone(*text)
			h.bytes += int64(len(*text))
		}
	}
	for _, a := range r.Attributes {
		s.attributes = append(s.attributes, schemas.Pair{Key: strings.Clone(a.Key), Value: strings.Clone(a.Value)})
		h.bytes += pairBytes + int64(len(a.Key)+len(a.Value))
	}
	h.said[sum] = s
	return s
}

// keysOnly is the table of contexts with the columns that make their key.
var keysOnly = schemas.Contexts.Only("session_id", "visitor_id")

// each calls fn with the rows of a file, as Each of package rowfile does.
func (x *Index) each(ctx context.Context, key string, table *schemas.Table[schemas.ContextEvent], fn func(part []schemas.ContextEvent)) error {
	o, err := x.store.Open(ctx, key)
	if err != nil {
		return err
	}
	err = rowfile.Each(o, o.Size(), table, (*schemas.ContextEvent).Reset, func(part []schemas.ContextEvent) error {
		fn(part)
		return nil
	})
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
