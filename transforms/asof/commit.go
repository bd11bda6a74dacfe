package asof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// Plan is the version that a run is to make.
type Plan struct {
	Number int       // of the version, from 1: it builds on the one before
	AsOf   time.Time // whole seconds
	Mode   Mode
	Input  string // fingerprint of what the version is made of
	Shards int
}

// ErrDone says that the version is there already, made of the same input: there is nothing to do.
var ErrDone = errors.New("the version is there already")

// ErrConflict says that the version can't be made: that time, or a later one, has a version of other input. The caller takes a
// later time.
var ErrConflict = errors.New("the version can't be made")

// Prepare finds out which version of a table a run over some input is to make. Asked is the number of shards to have at
// least, 0: no more than there are; bytes is the size of the input, unpacked. An error that Is ErrDone or ErrConflict says that no run is needed, or of use.
func Prepare(ctx context.Context, st *store.Store, table string, asOf time.Time, mode Mode, input string, asked int, bytes int64) (Plan, error) {
	p, done, err := prepare(ctx, st, table, asOf, mode, input, asked, bytes)
	if done != nil {
		err = errors.Join(err, mark(ctx, st, table, done))
	}
	return p, err
}

// Foresee returns what Prepare does, and writes nothing: Prepare marks a version that is there as complete, where a run was killed before it did.
func Foresee(ctx context.Context, st *store.Store, table string, asOf time.Time, mode Mode, input string, asked int, bytes int64) (Plan, error) {
	p, _, err := prepare(ctx, st, table, asOf, mode, input, asked, bytes)
	return p, err
}

// prepare returns the version that is there already, if it is.
func prepare(ctx context.Context, st *store.Store, table string, asOf time.Time, mode Mode, input string, asked int, bytes int64) (p Plan, done *Version, err error) {
	p = Plan{Number: 1, AsOf: asOf.UTC().Truncate(time.Second), Mode: mode, Input: input, Shards: shardsFor(max(asked, 1), bytes)}
	if asked > 0 {
		p.Shards = asked
	}
	numbers, err := versionNumbers(ctx, st, table)
	if err != nil || len(numbers) == 0 {
		return p, nil, err
	}
	var newest *Version
	for i := len(numbers) - 1; i >= 0; i-- { // the newest first: of a long log, few are as of that time or later
		v, err := readVersion(ctx, st, table, numbers[i])
		if err != nil {
			return p, nil, err
		}
		if newest == nil {
			newest = v
		}
		if v.Time().Before(p.AsOf) {
			break
		}
		if v.Time().Equal(p.AsOf) && v.Input == input {
			return p, v, fmt.Errorf("%w: table %q as of %s", ErrDone, table, v.AsOf)
		}
	}
	if !p.AsOf.After(newest.Time()) {
		return p, nil, fmt.Errorf("%w: table %q has a version as of %s, made of other exports; as_of must be later than that (rows keep their own times of update, so a late delta is not lost by that)",
			ErrConflict, table, newest.AsOf)
	}
	p.Number = newest.Number + 1
	if asked == 0 {
		p.Shards = shardsAfter(newest, bytes)
	}
	p.Shards = max(p.Shards, newest.Shards) // it may grow, and not shrink
	return p, nil, nil
}

const (
	shardBytes  = 96 << 20 // of an export: what a shard should have at most when it is made, and half of what it may grow to
	maxShards   = 1024
	compression = 4 // how much larger rows are than their file, about
)

// shardsFor returns how many shards a table of a size should have: a power of two.
func shardsFor(least int, bytes int64) int {
	n := least
	for int64(n)*shardBytes < bytes && n < maxShards {
		n *= 2
	}
	return n
}

// shardsAfter returns how many shards the version after one should have, for an export of a size. Where shards are cut in two,
// each of the old files is read twice: so they may grow before that.
func shardsAfter(before *Version, bytes int64) int {
	bytes = max(bytes, size(before.Current)*compression)
	if bytes <= 2*shardBytes*int64(before.Shards) {
		return before.Shards
	}
	return shardsFor(before.Shards, bytes)
}

// planFile says which run may write to the folder of a version.
type planFile struct {
	Number int    `json:"number"`
	Mode   Mode   `json:"mode"`
	Input  string `json:"input"`
	Shards int    `json:"shards"`
}

// claim takes the folders of the version for runs over this input. What older runs have left there goes away.
func (o *Options) claim(ctx context.Context, st *store.Store) error {
	p := o.Plan
	newest, err := Newest(ctx, st, o.Table)
	if err != nil {
		return err
	}
	if newest != nil && newest.Number >= p.Number && !o.is(newest) {
		return o.overtaken(newest)
	}
	folder := o.Table + "/" + FolderOf(p.AsOf)
	plan := fmt.Sprintf("%s%06d.json", planPrefix, p.Number)
	stale := false
	for e, err := range st.List(ctx, folder+"/"+planPrefix) {
		if err != nil {
			return err
		}
		stale = stale || path.Base(e.Key) != plan
	}
	if stale { // made for another number, which has been taken since: it can never be committed
		for _, table := range []string{o.Table, schemas.HistoryOf(o.Table)} {
			if err := removeFolder(ctx, st, table+"/"+FolderOf(p.AsOf)); err != nil {
				return err
			}
		}
	}
	body, err := json.Marshal(planFile{Number: p.Number, Mode: p.Mode, Input: p.Input, Shards: p.Shards})
	if err != nil {
		return err
	}
	outcome, err := st.Commit(ctx, folder+"/"+plan, append(body, '\n'))
	if err != nil {
		return err
	}
	if outcome == store.Taken {
		return fmt.Errorf("%w: a run over other exports has begun version %d of table %q as of %s. Run that one again to finish it, take another --as_of, or remove the folder %s if it is given up",
			ErrConflict, p.Number, o.Table, FolderOf(p.AsOf), folder)
	}
	return nil
}

// is tells if a version is the one that the run is to make.
func (o *Options) is(v *Version) bool {
	return v.Number == o.Plan.Number && v.Time().Equal(o.Plan.AsOf) && v.Input == o.Plan.Input
}

func (o *Options) overtaken(by *Version) error {
	return fmt.Errorf("%w: another run has committed version %d of table %q as of %s in the meantime. Run again, to build on it", ErrConflict, by.Number, o.Table, by.AsOf)
}

// seal commits the version.
func (o *Options) seal(ctx context.Context, st *store.Store, all []result) (*Version, error) {
	p := o.Plan
	table, err := mergingOf(o.Table)
	if err != nil {
		return nil, err
	}
	v := &Version{
		Number: p.Number, AsOf: p.AsOf.Format(folderTime), Mode: p.Mode, Input: p.Input, Shards: p.Shards, Schema: table.schemaVersion(),
		History: []Part{}, Histories: []string{},
	}
	for _, r := range all {
		v.Counts.Add(r.Counts)
		v.Current = append(v.Current, r.Current)
		if r.History != nil {
			v.History = append(v.History, *r.History)
		}
	}
	if p.Number > 1 {
		before, err := readVersion(ctx, st, o.Table, p.Number-1)
		if err != nil {
			return nil, err
		}
		v.Histories = append(v.Histories, before.Histories...)
	}
	if len(v.History) > 0 {
		v.Histories = append(v.Histories, v.AsOf)
	}
	ours, err := commitVersion(ctx, st, o.Table, v)
	if err != nil {
		return nil, err
	}
	if !ours {
		other, err := readVersion(ctx, st, o.Table, p.Number)
		if err != nil {
			return nil, err
		}
		return nil, o.overtaken(other)
	}
	if err := mark(ctx, st, o.Table, v); err != nil {
		return nil, err
	}
	return v, o.sweep(ctx, st, v)
}

// sweep removes the files of versions that are older than those to retain, and what runs have left that were never
// finished. The state of the newest version and all history of versions stay.
func (o *Options) sweep(ctx context.Context, st *store.Store, newest *Version) error {
	// What runs have left before the last hundred versions was seen by one of these.
	recent, all, err := lastVersions(ctx, st, o.Table, max(100, o.Retain))
	if err != nil {
		return err
	}
	committed := map[string]bool{}
	for _, v := range recent {
		committed[v.AsOf] = true
	}
	kept := recent
	if o.Retain > 0 {
		kept = recent[max(0, len(recent)-o.Retain):]
	}
	states, err := folders(ctx, st, o.Table)
	if err != nil {
		return err
	}
	histories, err := folders(ctx, st, schemas.HistoryOf(o.Table))
	if err != nil {
		return err
	}
	for folder, at := range states {
		unfinished := !committed[asOfOf(folder)] && at.Before(newest.Time()) && (all || at.After(recent[0].Time()))
		old := o.Retain > 0 && at.Before(kept[0].Time())
		if unfinished || old {
			if err := removeFolder(ctx, st, folder); err != nil {
				return err
			}
		}
	}
	for folder, at := range histories {
		if at.Before(newest.Time()) && !slices.Contains(newest.Histories, asOfOf(folder)) {
			if err := removeFolder(ctx, st, folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// asOfOf returns the time in the name of a folder.
func asOfOf(folder string) string {
	_, asOf, _ := strings.Cut(path.Base(folder), "=")
	return asOf
}
