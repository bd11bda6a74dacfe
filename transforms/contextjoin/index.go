package contextjoin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// IndexOptions say how contexts are looked up.
type IndexOptions struct {
	// Layout of the table of contexts.
	Layout lake.Layout
	// TTL is how long after its event time a context holds, if no other follows. Required.
	TTL time.Duration
	// Refresh is how old the list of a partition's files may be. 0: it is read once, for an input that has ended.
	Refresh time.Duration
	// Memory that the partitions which are remembered may take, in bytes. Default: 256 MiB.
	Memory int64
}

// Index finds the context of an interaction in the table of contexts: the latest of its session at or before its time. What it
// knows is in the committed files, so it can be made anew at any time, anywhere. Its methods are safe for many goroutines.
//
// The contexts of a partition are held in memory while interactions of its time come, and of those that reach into it.
type Index struct {
	store      *store.Store
	options    IndexOptions
	partitions *dedup.Cache[*partition]
}

// NewIndex returns the index of the table of contexts of the lake in st.
func NewIndex(st *store.Store, o IndexOptions) *Index {
	if o.Memory == 0 {
		o.Memory = 256 << 20
	}
	return &Index{store: st, options: o, partitions: dedup.NewCache[*partition](o.Memory)}
}

// partition is the contexts of one partition, by their key.
type partition struct {
	mu     sync.RWMutex
	listed time.Time
	files  map[string]bool // that were read
	byKey  map[string][]moment
	bytes  int64
}

// moment is a context and when it began.
type moment struct {
	at         int64
	id         string // of two at the same time, the one with the greater id counts
	context    schemas.Context
	attributes []schemas.Pair
}

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
		row.Context.FillIn(&m.context)
		row.ContextAttributes = append(row.ContextAttributes[:0], m.attributes...)
	}
	return nil
}

// find returns the latest context of a key at or before a time, if it still holds.
func (x *Index) find(ctx context.Context, key string, at int64) (m moment, found bool, err error) {
	if key == "" {
		return m, false, nil
	}
	since := at - x.options.TTL.Microseconds()
	// From the partition of the interaction back to that of the earliest context which may still hold.
	for t := at; t >= since; {
		start, _ := x.options.Layout.Window.Bounds(t)
		m, found, err = x.latest(ctx, start, key, at)
		if err != nil || found {
			return m, found && m.at >= since, err
		}
		t = start.UnixMicro() - 1
	}
	return m, false, nil
}

// latest returns the latest context of a key in a partition, at or before a time.
func (x *Index) latest(ctx context.Context, start time.Time, key string, at int64) (m moment, found bool, err error) {
	folder := schemas.Contexts.Name + "/" + x.options.Layout.Window.Folder(start)
	p, release := x.partitions.Get(folder, func() *partition {
		return &partition{files: map[string]bool{}, byKey: map[string][]moment{}}
	})
	p.mu.RLock()
	defer func() {
		size := p.bytes
		p.mu.RUnlock()
		release(size)
	}()
	if !x.fresh(p) {
		p.mu.RUnlock()
		err := x.refresh(ctx, folder, p)
		p.mu.RLock()
		if err != nil {
			return m, false, fmt.Errorf("contexts of %s: %w", folder, err)
		}
	}
	moments := p.byKey[key]
	n, _ := slices.BinarySearchFunc(moments, at+1, func(m moment, at int64) int { return cmp.Compare(m.at, at) })
	if n == 0 {
		return m, false, nil
	}
	return moments[n-1], true, nil // a copy: the list may be sorted anew
}

// fresh tells if what is known of a partition is new enough.
func (x *Index) fresh(p *partition) bool {
	return !p.listed.IsZero() && (x.options.Refresh == 0 || time.Since(p.listed) < x.options.Refresh)
}

// refresh reads the files of a partition that were not read yet.
func (x *Index) refresh(ctx context.Context, folder string, p *partition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.fresh(p) {
		return nil // another goroutine has done it
	}
	listed := time.Now()
	touched := map[string]bool{}
	for e, err := range x.store.List(ctx, folder+"/part-") {
		if err != nil {
			return err
		}
		if p.files[e.Key] {
			continue
		}
		if err := x.read(ctx, e.Key, p, touched); err != nil {
			return fmt.Errorf("%s: %w", e.Key, err)
		}
		p.files[e.Key] = true
	}
	for key := range touched {
		slices.SortFunc(p.byKey[key], moment.compare)
	}
	p.listed = listed
	return nil
}

func (x *Index) read(ctx context.Context, key string, p *partition, touched map[string]bool) error {
	o, err := x.store.Open(ctx, key)
	if err != nil {
		return err
	}
	err = rowfile.Each(o, o.Size(), schemas.Contexts, (*schemas.ContextEvent).Reset, func(part []schemas.ContextEvent) error {
		for i := range part {
			r := &part[i]
			m := moment{at: r.EventTime.V, id: strings.Clone(r.EventID), context: r.Context}
			p.bytes += 400 + int64(len(m.id))
			for k := range schemas.ContextColumns {
				if c := &schemas.ContextColumns[k]; c.Str != nil {
					s := c.Str(&m.context)
					*s = strings.Clone(*s)
					p.bytes += int64(len(*s))
				}
			}
			for _, a := range r.Attributes {
				a = schemas.Pair{Key: strings.Clone(a.Key), Value: strings.Clone(a.Value)}
				m.attributes = append(m.attributes, a)
				p.bytes += int64(len(a.Key) + len(a.Value) + 32)
			}
			id := strings.Clone(r.Key()) // also of one that is known: a map takes the new string for the old one
			p.byKey[id] = append(p.byKey[id], m)
			touched[id] = true
		}
		return nil
	})
	return errors.Join(err, o.Close())
}
