package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// versionSpec says what the files of a table of versions look like.
type versionSpec struct {
	table   string
	history string // the name of the table's history
	id      string
}

// versionSpecs are the tables of versions that this version knows.
var versionSpecs = map[string]versionSpec{
	schemas.Users.Name: versionsOf(schemas.Users),
	schemas.Items.Name: versionsOf(schemas.Items),
}

// histories are the names of the tables by those of their histories.
var histories = func() map[string]string {
	names := map[string]string{}
	for name, spec := range versionSpecs {
		names[spec.history] = name
	}
	return names
}()

func versionsOf[R any](t *schemas.Table[R]) versionSpec {
	return versionSpec{table: t.Name, history: schemas.HistoryOf(t.Name), id: t.Columns[0].Name}
}

const (
	logFolder    = "_versions"
	planPrefix   = "_plan-"
	asOfPrefix   = "as_of="
	asOfLayout   = "20060102T150405Z"
	maxLineBytes = 64 << 20 // of a file of the log
)

// logged is a version as the log has it.
type logged struct {
	Number  int     `json:"number"`
	AsOf    string  `json:"as_of"`
	Mode    string  `json:"mode"`
	Input   string  `json:"input"`
	Shards  int     `json:"shards"`
	Schema  int     `json:"schema_version"`
	Current []piece `json:"current"`
	History []piece `json:"history"`
	Counts  struct {
		Live    int64 `json:"live"`
		Deleted int64 `json:"deleted"`
		Closed  int64 `json:"closed"`
		Before  int64 `json:"before"`
	} `json:"counts"`
	Histories []string `json:"histories"`
}

// piece is a file of a version as the log has it.
type piece struct {
	Shard int   `json:"shard"`
	Rows  int64 `json:"rows"`
	Live  int64 `json:"live"`
	Bytes int64 `json:"bytes"`
}

func (l *logged) time() time.Time {
	t, err := time.Parse(asOfLayout, l.AsOf)
	if err != nil {
		return time.Time{} // wellFormed has refused it
	}
	return t
}

func pieceName(shard, shards int) string {
	return fmt.Sprintf("part-%05d-of-%05d.parquet", shard, shards)
}

var pieceNames = regexp.MustCompile(`^part-\d{5}-of-(\d{5})\.parquet$`)

// maxLooks bounds how often a table is looked at that changes while it is.
const maxLooks = 3

// versionedTable looks at a table of versions and its history. When a run commits a version or removes an old one meanwhile, what seems to
// be wrong may be that, so it looks again.
func (a *auditor) versionedTable(ctx context.Context, spec versionSpec) (Versioned, error) {
	before, err := a.listing(ctx, spec)
	for look := 1; err == nil; look++ {
		one := &versionAuditor{auditor: &auditor{store: a.store, options: a.options}, spec: spec, result: Versioned{Name: spec.table}}
		if err = one.run(ctx, before); err != nil {
			break
		}
		if one.report.Wrong > 0 && look < maxLooks {
			after, err := a.listing(ctx, spec)
			if err != nil {
				return one.result, err
			}
			if !maps.Equal(before, after) {
				before = after
				continue
			}
		}
		a.report.Wrong += one.report.Wrong
		room := min(len(one.report.Findings), a.options.MaxFindings-len(a.report.Findings))
		a.report.Findings = append(a.report.Findings, one.report.Findings[:room]...)
		return one.result, nil
	}
	return Versioned{}, err
}

// listing returns all objects of a table and its history, with their sizes.
func (a *auditor) listing(ctx context.Context, spec versionSpec) (map[string]int64, error) {
	all := map[string]int64{}
	for _, table := range []string{spec.table, spec.history} {
		for e, err := range a.store.List(ctx, table+"/") {
			if err != nil {
				return nil, err
			}
			all[e.Key] = e.Size
		}
	}
	return all, nil
}

// folder holds the objects of one folder: their sizes by their names.
type folder map[string]int64

// versionAuditor looks at one table of versions.
type versionAuditor struct {
	*auditor
	spec   versionSpec
	result Versioned

	log    []*logged // ascending; those that are not well-formed are left out
	newest *logged   // nil: there is none, or its line in the log is not well-formed
	broken bool      // the log has not all that it should have
	files  []*versionFile
}

func (v *versionAuditor) run(ctx context.Context, listing map[string]int64) error {
	if err := v.readLog(ctx, listing); err != nil {
		return err
	}
	states, pasts := v.folders(listing, v.spec.table), v.folders(listing, v.spec.history)
	for _, l := range v.log {
		v.stateOf(l, states)
		v.historyOf(l, pasts)
	}
	v.unnamed(states, pasts)
	for _, table := range []string{v.spec.table, v.spec.history} {
		if err := v.temporary(table); err != nil {
			return err
		}
	}
	return v.read(ctx)
}

// readLog reads the log and looks at what it says of itself.
func (v *versionAuditor) readLog(ctx context.Context, listing map[string]int64) error {
	prefix := v.spec.table + "/" + logFolder + "/"
	var numbers []int
	for key := range listing {
		name, inLog := strings.CutPrefix(key, prefix)
		if !inLog || hidden(name) {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSuffix(name, ".json"))
		if err != nil || n < 1 || name != lineName(n) {
			v.find(KindName, key, "a file of the log is called by the number of its version, such as %s", lineName(1))
			continue
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	v.result.Versions = int64(len(numbers))
	next := 1
	var before *logged
	for _, n := range numbers {
		if n > next {
			v.find(KindLog, prefix+lineName(next), "missing: versions are numbered from 1 without a gap, and there is number %d", n)
			v.broken, before = true, nil
		}
		next = n + 1
		key := prefix + lineName(n)
		l, err := v.readLine(ctx, key)
		if errors.Is(err, errLine) {
			v.find(KindLog, key, "%v", err)
			v.broken, before, v.newest = true, nil, nil
			continue
		}
		if err != nil {
			return err
		}
		if err := l.wellFormed(n); err != nil {
			v.find(KindLog, key, "%v", err)
			v.broken, before, v.newest = true, nil, nil
			continue
		}
		if before != nil || n == 1 {
			if err := l.follows(before); err != nil {
				v.find(KindLog, key, "%v", err)
			}
		}
		v.log = append(v.log, l)
		v.newest, before = l, l
	}
	if v.newest != nil {
		asOf := v.newest.time()
		v.result.AsOf, v.result.Shards = &asOf, v.newest.Shards
	}
	return nil
}

func lineName(number int) string { return fmt.Sprintf("%06d.json", number) }

// errLine says that a file of the log is not what it should be.
var errLine = errors.New("it cannot be read as a version")

func (v *versionAuditor) readLine(ctx context.Context, key string) (*logged, error) {
	body, err := v.store.ReadAll(ctx, key, maxLineBytes)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", errLine, err)
	}
	if err != nil {
		return nil, err
	}
	l := &logged{}
	if err := json.Unmarshal(body, l); err != nil {
		return nil, fmt.Errorf("%w: %w", errLine, err)
	}
	return l, nil
}

// wellFormed says what is wrong with a version by itself.
func (l *logged) wellFormed(number int) error {
	if l.Number != number {
		return fmt.Errorf("number is %d, want %d as in the name of the file", l.Number, number)
	}
	if t, err := time.Parse(asOfLayout, l.AsOf); err != nil || t.Format(asOfLayout) != l.AsOf {
		return fmt.Errorf("as_of is %q, want a time such as %s", l.AsOf, asOfLayout)
	}
	if l.Mode != "full" && l.Mode != "delta" {
		return fmt.Errorf("mode is %q, want full or delta", l.Mode)
	}
	if l.Input == "" || l.Schema < 1 {
		return fmt.Errorf("input is %q and schema_version %d; both are needed", l.Input, l.Schema)
	}
	if l.Shards < 1 || bits.OnesCount(uint(l.Shards)) != 1 {
		return fmt.Errorf("shards is %d, want a power of two", l.Shards)
	}
	if len(l.Current) != l.Shards {
		return fmt.Errorf("current has %d files, want %d, one for each shard", len(l.Current), l.Shards)
	}
	var live, rows, closed int64
	for i, p := range l.Current {
		if p.Shard != i || p.Live < 0 || p.Rows < p.Live {
			return fmt.Errorf("file %d of current is shard %d with %d rows, %d of them live", i, p.Shard, p.Rows, p.Live)
		}
		live, rows = live+p.Live, rows+p.Rows
	}
	last := -1
	for i, p := range l.History {
		if p.Shard <= last || p.Shard >= l.Shards || p.Rows < 1 {
			return fmt.Errorf("file %d of history is shard %d with %d rows", i, p.Shard, p.Rows)
		}
		last, closed = p.Shard, closed+p.Rows
	}
	if c := l.Counts; c.Live != live || c.Deleted != rows-live || c.Closed != closed {
		return fmt.Errorf("counts say %d live, %d deleted and %d closed rows, but its files have %d, %d and %d", c.Live, c.Deleted, c.Closed, live, rows-live, closed)
	}
	return nil
}

// follows says what is wrong with a version after another; before is nil for the first.
func (l *logged) follows(before *logged) error {
	if before == nil {
		before = &logged{}
	}
	if l.AsOf <= before.AsOf { // as texts they are in the order of time
		return fmt.Errorf("as_of is %s, but that of the version before is %s already", l.AsOf, before.AsOf)
	}
	if l.Shards < before.Shards {
		return fmt.Errorf("shards is %d, but the version before has %d: they never become fewer", l.Shards, before.Shards)
	}
	want := slices.Clone(before.Histories)
	if len(l.History) > 0 {
		want = append(want, l.AsOf)
	}
	if !slices.Equal(l.Histories, want) {
		return fmt.Errorf("histories is %q, want %q: those of the version before, and its own if it has closed anything", l.Histories, want)
	}
	if l.Counts.Before != before.Counts.Live {
		return fmt.Errorf("counts say that %d rows were live before, but the version before says %d", l.Counts.Before, before.Counts.Live)
	}
	return nil
}

// folders returns the folders of versions of a table, by the times in their names.
func (v *versionAuditor) folders(listing map[string]int64, table string) map[string]folder {
	all, wrong := map[string]folder{}, map[string]bool{}
	for key, size := range listing {
		rest, ours := strings.CutPrefix(key, table+"/")
		if !ours || hidden(rest) {
			continue
		}
		dir, name := path.Split(rest)
		dir = strings.TrimSuffix(dir, "/")
		asOf, ok := strings.CutPrefix(dir, asOfPrefix)
		if t, err := time.Parse(asOfLayout, asOf); !ok || err != nil || t.Format(asOfLayout) != asOf {
			if !wrong[dir] {
				v.find(KindFolder, path.Join(table, dir), "it has %s, but data is in folders of versions, which are called %s%s", name, asOfPrefix, asOfLayout)
			}
			wrong[dir] = true
			continue
		}
		if all[asOf] == nil {
			all[asOf] = folder{}
		}
		all[asOf][name] = size
	}
	return all
}

// stateOf looks at the names in the folder of a version. Those of old ones may have been removed.
func (v *versionAuditor) stateOf(l *logged, states map[string]folder) {
	key := v.spec.table + "/" + asOfPrefix + l.AsOf
	f := states[l.AsOf]
	isNewest := l == v.newest
	_, marked := f[successName]
	switch {
	case f == nil && isNewest:
		v.find(KindMissing, key, "the folder of version %d, the newest, is not there", l.Number)
	case f == nil: // it was removed, as it may be
	case !isNewest && !marked && f.count(l.Current, l.Shards) < len(l.Current):
		v.find(KindLeftover, key, "it has %d of the %d files of version %d and no %s: its removal was begun and not finished. The next run with --retain goes on with it",
			f.count(l.Current, l.Shards), len(l.Current), l.Number, successName)
	default:
		v.result.Kept++
		v.check(key, f, l, l.Current, false)
	}
}

// historyOf looks at the names in the folder of what a version has closed. It stays for ever.
func (v *versionAuditor) historyOf(l *logged, pasts map[string]folder) {
	key := v.spec.history + "/" + asOfPrefix + l.AsOf
	f := pasts[l.AsOf]
	switch {
	case f == nil && len(l.History) > 0:
		v.find(KindMissing, key, "the folder of what version %d has closed is not there", l.Number)
		v.lose(l)
	case f != nil:
		v.check(key, f, l, l.History, true)
	}
}

// count returns how many of some files are there.
func (f folder) count(pieces []piece, shards int) (n int) {
	for _, p := range pieces {
		if _, there := f[pieceName(p.Shard, shards)]; there {
			n++
		}
	}
	return n
}

// check compares the names and sizes in a folder with those in the log. What is as it says is read later.
func (v *versionAuditor) check(key string, f folder, l *logged, pieces []piece, isHistory bool) {
	expected := map[string]bool{}
	for _, p := range pieces {
		name := pieceName(p.Shard, l.Shards)
		expected[name] = true
		file := &versionFile{key: key + "/" + name, version: l, piece: p, isHistory: isHistory}
		v.files = append(v.files, file)
		size, there := f[name]
		switch {
		case !there:
			v.find(KindMissing, file.key, "version %d has this file, says the log", l.Number)
			file.lost = true
		case size != p.Bytes:
			v.find(KindSize, file.key, "it has %d bytes, but %d by the log: it is not the file that was committed, and is not looked at", size, p.Bytes)
			file.lost = true
		}
		if there {
			v.result.Files++
			v.result.Bytes += size
		}
	}
	for name := range f {
		if hidden(name) || expected[name] {
			continue
		}
		if m := pieceNames.FindStringSubmatch(name); m != nil && m[1] != fmt.Sprintf("%05d", l.Shards) {
			v.find(KindShards, key+"/"+name, "version %d has %d shards", l.Number, l.Shards)
			continue
		}
		v.find(KindName, key+"/"+name, "version %d has no such file, says the log", l.Number)
	}
	if _, marked := f[successName]; !marked && len(pieces) > 0 {
		v.find(KindUnmarked, key, "there is no %s: who waits for that does not see version %d", successName, l.Number)
	}
}

// lose remembers the files of a history that is not there.
func (v *versionAuditor) lose(l *logged) {
	for _, p := range l.History {
		v.files = append(v.files, &versionFile{version: l, piece: p, isHistory: true, lost: true})
	}
}

// unnamed looks at folders that no version in the log names.
func (v *versionAuditor) unnamed(states, pasts map[string]folder) {
	if v.broken {
		return // a version that was there may have made them
	}
	known := map[string]bool{}
	for _, l := range v.log {
		known[l.AsOf] = true
	}
	all := maps.Clone(states)
	maps.Copy(all, pasts)
	for _, asOf := range slices.Sorted(maps.Keys(all)) {
		if known[asOf] {
			continue
		}
		key := v.spec.table + "/" + asOfPrefix + asOf
		if states[asOf] == nil {
			key = v.spec.history + "/" + asOfPrefix + asOf
		}
		isPlanned, isMarked := false, false
		for name := range states[asOf] {
			isPlanned = isPlanned || strings.HasPrefix(name, planPrefix)
		}
		for _, f := range []folder{states[asOf], pasts[asOf]} {
			_, marked := f[successName]
			isMarked = isMarked || marked
		}
		switch {
		case v.newest != nil && asOf < v.newest.AsOf:
			v.find(KindLeftover, key, "no version in the log is of this time, and later ones are there: a run has left it unfinished. The next run removes it")
		case isMarked:
			v.find(KindFolder, key, "it has %s, but no version in the log is of this time", successName)
		case !isPlanned:
			v.find(KindFolder, key, "no version in the log is of this time, and no run has begun one: there is no %s*.json", planPrefix)
		default:
			v.result.Unfinished = append(v.result.Unfinished, key)
		}
	}
}
