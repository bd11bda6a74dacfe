// Package audit opens every file of a lake and says what is wrong with it.
//
// It shares no code with the sink that writes the lake, only the columns of package schemas, so that a mistake made there is not
// made here again.
//
// # Guarantees
//
// A report without findings says, of each table of the lake that it lists:
//
//   - Every file can be read in full, has a well-formed name, and has as many rows as its footer says.
//   - The files of a partition and shard are numbered from 0 without a gap, and nothing else lies beside them that a reader could take for data.
//   - Every row has its required columns, and is in the partition of its time and in the shard of its id.
//   - No id is twice in a partition. (An id has one shard, so those of different shards cannot be the same.)
//   - The rows of a file are sorted.
//
// And of each table of versions (users and items, with their history):
//
//   - The log has the versions from 1 on without a gap, each later than the one before and with all history of it.
//   - The files of the newest version, of all history, and of the older versions that were kept, are those that the log says: names, sizes
//     and rows. Their folders are marked by _SUCCESS, and no other folder is there that a reader could take for a version.
//   - Every row has its required columns and is in the shard of its id. Rows are sorted by id, in the history then by valid_from, and an id
//     is once in a version. Times agree with each other; what is deleted has no content.
//   - The versions of an id follow each other without a hole: at any time one of them holds, from the first on.
//
// And of each table of results of windows (sessions, trending, funnel, co_occurrence), with its live results:
//
//   - The name of a file says which window it is of, and for a live result which revision; its rows and its footer say the same. A window
//     has one settled result.
//   - Every row has its required columns. Main tables hold settled results, live tables all others; of a file, all rows are of one result.
//   - What a row is of (an item in a scope, a pair of items) is once in a file, and a session once in the table. Ranks go from 1 on without
//     a gap. Sessions end in their window, and not before they begin.
//   - A result is made of all files of interactions that it has to be made of, if the marks of their partitions say that it is. Without
//     marks a run may be at work, and it is counted.
//
// Numbers are not computed again: package testing/windowmodel does that.
//
// A lake may be audited while it is written to: what is committed after the list of files was read is not looked at. A table of
// versions in which something seems to be wrong is looked at again if it has changed in the meantime, up to three times.
//
// # Limits
//
//   - Ids are compared by a hash of 128 bits. In memory are 24 bytes for each row of the partitions and shards that are read at a time,
//     and the files themselves, up to 32 MiB each; larger ones are read in pieces.
//   - Of a table of versions, 72 bytes are in memory for each version of a row in the shards that are compared at a time.
//   - Of sessions, 24 bytes for each; of other results, the keys of a file while it is read.
//   - Whether a result of sessions or co_occurrence lacks files of partitions after its window cannot be told by counting.
//   - Ids that are in several partitions are counted exactly up to some millions of rows a table, and beyond that by a sample.
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
)

// Options says what to look at.
type Options struct {
	// Table is the only table to look at; one of versions is looked at with its history, one of results with its live ones. Default: all.
	Table string
	// MaxFindings is how many findings the report lists; further ones are only counted. Default: 1,000.
	MaxFindings int
	// Parallel is how many files are read at a time. Default: the number of cores.
	Parallel int
	// Progress, if set, is called from any goroutine when a file has been read, with its rows.
	Progress func(rows int64)
}

// Report says what is in a lake, and what is wrong with it.
type Report struct {
	Lake      string      `json:"lake"`
	Tables    []Table     `json:"tables"`
	Versioned []Versioned `json:"versioned_tables,omitempty"`
	Windowed  []Windowed  `json:"tables_of_windows,omitempty"`
	Skipped   []string    `json:"skipped,omitempty"` // folders of tables that this version does not know
	Wrong     int64       `json:"wrong"`             // findings, also those that are not listed
	Findings  []Finding   `json:"findings,omitempty"`
}

// Table says what is in a table.
type Table struct {
	Name       string           `json:"name"`
	Window     string           `json:"window,omitempty"`
	Shards     int              `json:"shards,omitempty"`
	Partitions int64            `json:"partitions"`
	Complete   int64            `json:"complete"` // of Partitions: marked by _SUCCESS
	Files      int64            `json:"files"`
	Bytes      int64            `json:"bytes"`
	Rows       int64            `json:"rows"`
	First      *time.Time       `json:"first,omitempty"` // time of the earliest row
	Last       *time.Time       `json:"last,omitempty"`
	Codes      map[string]int64 `json:"error_codes,omitempty"` // dead letters by what was wrong
	Fields     map[string]int64 `json:"field_paths,omitempty"` // and where, with [] for any element of a list

	// Repeated is how many ids are in more than one partition: the same event came with different times. That is not wrong in itself.
	Repeated int64 `json:"repeated_ids"`
	// Estimated says that Repeated comes from a sample.
	Estimated bool `json:"repeated_ids_estimated,omitempty"`
}

// Versioned says what is in a table of versions and its history.
type Versioned struct {
	Name     string     `json:"name"`
	Versions int64      `json:"versions"`        // in the log
	Kept     int64      `json:"kept"`            // of Versions: their files are still there
	AsOf     *time.Time `json:"as_of,omitempty"` // of the newest version
	Shards   int        `json:"shards"`          // of the newest version
	Live     int64      `json:"live"`            // rows of the newest version that are not deleted
	Deleted  int64      `json:"deleted"`         // and those that are
	Closed   int64      `json:"closed"`          // rows of the history
	Files    int64      `json:"files"`           // of all versions that are kept, and of the history
	Bytes    int64      `json:"bytes"`
	// Unfinished are folders newer than the newest version: a run is at work there, or was killed. That is not wrong.
	Unfinished []string `json:"unfinished,omitempty"`
}

// Windowed says what is in a table of results of windows.
type Windowed struct {
	Name    string     `json:"name"`
	Windows int64      `json:"windows"` // that are settled
	Files   int64      `json:"files"`
	Bytes   int64      `json:"bytes"`
	Rows    int64      `json:"rows"`
	First   *time.Time `json:"first,omitempty"` // start of the earliest of Windows
	Last    *time.Time `json:"last,omitempty"`  // end of the latest
	Live    int64      `json:"live"`            // windows that have live results, and no settled one
	// LeftBehind is how many live results there are of windows that are settled. They are removed when the window is settled again.
	LeftBehind int64 `json:"left_behind,omitempty"`
	// Stale is how many of Windows are not of all files of interactions that are there now: a run is at work, or has still to be.
	Stale int64 `json:"stale,omitempty"`
}

// Finding is one thing that is wrong, once for a file however many rows it concerns.
type Finding struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file"` // or folder, within the lake
	Detail string `json:"detail"`
}

func (f Finding) String() string { return f.File + ": " + string(f.Kind) + ": " + f.Detail }

// Kind classes what is wrong.
type Kind string

// The kinds of findings.
const (
	KindLayout     Kind = "layout"          // the table does not say how it is partitioned
	KindName       Kind = "file_name"       // not a name that the lake gives, or no data file at all
	KindFolder     Kind = "folder"          // not a partition of the table
	KindShards     Kind = "shards"          // another number of shards than the table has
	KindGap        Kind = "gap"             // files are missing before this one
	KindTemporary  Kind = "temporary"       // left by a writer that was killed
	KindUnreadable Kind = "unreadable"      // no Parquet file, or a damaged one
	KindMetadata   Kind = "metadata"        // the footer lacks something, or contradicts the place of the file
	KindRows       Kind = "row_count"       // not as many rows as the footer says
	KindColumn     Kind = "column"          // a column is missing or of another type
	KindNull       Kind = "null"            // no value in a required column
	KindPartition  Kind = "wrong_partition" // rows whose time is outside of the partition
	KindShard      Kind = "wrong_shard"     // rows whose id belongs to another shard
	KindDuplicate  Kind = "duplicate_id"    // an id that is in the partition already
	KindUnsorted   Kind = "unsorted"        // rows not by user and time, or in a table of versions not by id and valid_from

	// In tables of versions there are also these.

	KindLog      Kind = "version_log"   // the log of the versions contradicts itself
	KindMissing  Kind = "missing"       // a file or folder that the log names
	KindUnmarked Kind = "not_marked"    // no _SUCCESS in the folder of a version
	KindLeftover Kind = "left_behind"   // a folder that a run has not finished, or not removed in full
	KindSize     Kind = "size"          // not as many bytes as the log says
	KindTimes    Kind = "times"         // updated_time, valid_from and valid_to that cannot be true together
	KindContent  Kind = "content"       // of a deleted row, or none of a live one
	KindHole     Kind = "history_hole"  // no version of the id begins where this one ends
	KindOrder    Kind = "history_order" // a closed version that does not begin before the current one
	KindOrphan   Kind = "history_only"  // closed versions of an id that the newest version does not have

	// In tables of results of windows, and about what they are made of, there are also these.

	KindDigest   Kind = "digest"           // a digest of a file that is not there
	KindWindow   Kind = "wrong_window"     // rows of another window than the name of the file says
	KindTwice    Kind = "duplicate_window" // a result that is there already
	KindRevision Kind = "revision"         // rows of another revision than the file
	KindPane     Kind = "pane"             // a pane that has no place in the table, or several in a file
	KindRank     Kind = "ranks"            // not 1, 2, 3 and so on
	KindStale    Kind = "stale"            // not made of all files, though the partitions are marked
)

// Audit reads a whole lake. What is wrong with the lake is in the report; an error says that it could not be looked at.
func Audit(ctx context.Context, st *store.Store, o Options) (Report, error) {
	if o.MaxFindings == 0 {
		o.MaxFindings = 1000
	}
	if o.Parallel == 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	a := &auditor{store: st, options: o, report: Report{Lake: st.URL(), Tables: []Table{}}}
	names, err := a.tables(ctx)
	if err != nil {
		return a.report, err
	}
	var results []string // are looked at when all is known that they are made of
	for _, name := range names {
		if _, known := resultSpecs[name]; known {
			results = append(results, name)
			continue
		}
		if spec, known := versionSpecs[name]; known {
			t, err := a.versionedTable(ctx, spec)
			if err != nil {
				return a.report, fmt.Errorf("table %q: %w", name, err)
			}
			a.report.Versioned = append(a.report.Versioned, t)
			continue
		}
		spec, known := specs[name]
		if !known {
			a.report.Skipped = append(a.report.Skipped, name)
			continue
		}
		if len(spec.items) > 0 {
			a.touched = map[string]minutes{}
		}
		t, err := a.table(ctx, name, spec)
		if err != nil {
			return a.report, fmt.Errorf("table %q: %w", name, err)
		}
		a.report.Tables = append(a.report.Tables, t)
	}
	if len(results) > 0 {
		if err := a.resultTables(ctx, results); err != nil {
			return a.report, err
		}
	}
	if len(a.report.Tables)+len(a.report.Versioned)+len(a.report.Windowed) == 0 {
		return a.report, fmt.Errorf("there is no table to look at in %q", st.URL())
	}
	slices.SortFunc(a.report.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Detail, y.Detail))
	})
	return a.report, nil
}

// auditor holds the report while it is made.
type auditor struct {
	store   *store.Store
	options Options

	mu     sync.Mutex
	report Report

	// touched are the minutes of partitions of interactions, by folder, in which there are events with items; nil: they were not looked at.
	touched map[string]minutes
}

func (a *auditor) find(kind Kind, file, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Wrong++
	if len(a.report.Findings) < a.options.MaxFindings {
		a.report.Findings = append(a.report.Findings, Finding{Kind: kind, File: file, Detail: fmt.Sprintf(format, args...)})
	}
}

// tables returns the names of the tables to look at.
func (a *auditor) tables(ctx context.Context) ([]string, error) {
	var names []string
	for e, err := range a.store.ListDir(ctx, "") {
		if err != nil {
			return nil, err
		}
		name, isFolder := strings.CutSuffix(e.Key, "/")
		if !isFolder || hidden(name) {
			continue
		}
		if table, isHistory := histories[name]; isHistory { // it is looked at with its table, which comes before it if it is there
			name = table
		}
		if table, isLive := liveTables[name]; isLive {
			name = table
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if table, isHistory := histories[a.options.Table]; isHistory {
		a.options.Table = table
	}
	if table, isLive := liveTables[a.options.Table]; isLive {
		a.options.Table = table
	}
	_, isVersioned := versionSpecs[a.options.Table]
	_, isResults := resultSpecs[a.options.Table]
	switch {
	case a.options.Table == "":
		return names, nil
	case !slices.Contains(names, a.options.Table):
		return nil, fmt.Errorf("there is no table %q in %q, which has %q", a.options.Table, a.store.URL(), names)
	case specs[a.options.Table].id == "" && !isVersioned && !isResults:
		known := slices.Concat(slices.Collect(maps.Keys(specs)), slices.Collect(maps.Keys(versionSpecs)), slices.Collect(maps.Keys(resultSpecs)))
		return nil, fmt.Errorf("table %q is not one that can be looked at: these are %q", a.options.Table, slices.Sorted(slices.Values(known)))
	}
	return []string{a.options.Table}, nil
}

// hidden tells if readers of the lake skip a name.
func hidden(name string) bool { return name[0] == '_' || name[0] == '.' }

const (
	layoutName  = "_table.json"
	successName = "_SUCCESS"
)

// layout is how a table is spread over folders and files.
type layout struct {
	Window string `json:"window"`
	Shards int    `json:"shards"`
	window window
}

// table looks at one table.
func (a *auditor) table(ctx context.Context, name string, spec spec) (Table, error) {
	t := Table{Name: name}
	l, err := a.layout(ctx, name)
	if err != nil {
		return t, err
	}
	t.Window, t.Shards = l.Window, l.Shards

	files, err := a.list(ctx, l, &t)
	if err != nil {
		return t, err
	}
	if err := a.temporary(name); err != nil {
		return t, err
	}
	return t, a.read(ctx, files, l, spec, &t)
}

// layout reads how the table is laid out. Without that, what depends on it is not looked at.
func (a *auditor) layout(ctx context.Context, table string) (layout, error) {
	l, ok, err := a.readLayout(ctx, table)
	switch key := table + "/" + layoutName; {
	case errors.Is(err, errLayout):
		a.find(KindLayout, key, "%v: partitions and shards cannot be looked at", err)
		return layout{}, nil
	case err == nil && !ok:
		a.find(KindLayout, key, "missing: partitions and shards cannot be looked at")
	}
	return l, err
}

// errLayout says that a layout is none.
var errLayout = errors.New("no layout")

// readLayout reads a layout; ok is false where there is none.
func (a *auditor) readLayout(ctx context.Context, table string) (l layout, ok bool, err error) {
	body, err := a.store.ReadAll(ctx, table+"/"+layoutName, 1<<16)
	if errors.Is(err, store.ErrNotFound) {
		return layout{}, false, nil
	}
	if err != nil {
		return layout{}, false, err
	}
	err = json.Unmarshal(body, &l)
	if err == nil {
		l.window, err = parseWindow(l.Window)
	}
	if err == nil && l.Shards < 1 {
		err = fmt.Errorf("%d shards", l.Shards)
	}
	if err != nil {
		return layout{}, false, fmt.Errorf("%w: %w", errLayout, err)
	}
	return l, true, nil
}

// file is a data file whose name is well-formed.
type file struct {
	key        string
	size       int64
	shard, seq int
	folder     string
	start, end int64 // of the partition, in microseconds; start = end where it is not known
	slot       *slot
}

// list reads the names in a table and looks at all that names tell.
func (a *auditor) list(ctx context.Context, l layout, t *Table) ([]*file, error) {
	type slotKey struct {
		folder string
		shard  int
	}
	var files []*file
	folders := map[string]bool{} // false: not a partition
	slots := map[slotKey]*slot{}
	var digests, keys []string
	for e, err := range a.store.List(ctx, t.Name+"/") {
		if err != nil {
			return nil, err
		}
		folder, name := path.Split(strings.TrimPrefix(e.Key, t.Name+"/"))
		folder = strings.TrimSuffix(folder, "/")
		if m := digestName.FindStringSubmatch(name); m != nil {
			digests = append(digests, path.Join(t.Name, folder, m[1]+".parquet"))
		}
		if hidden(name) && name != successName {
			continue
		}
		keys = append(keys, e.Key)
		f := &file{key: e.Key, size: e.Size, folder: folder}
		var wrong error
		if l.Window != "" {
			if f.start, f.end, wrong = l.window.partition(folder); wrong != nil {
				if _, seen := folders[folder]; !seen {
					a.find(KindFolder, path.Join(t.Name, folder), "%v", wrong)
				}
			}
		}
		folders[folder] = wrong == nil
		if name == successName {
			t.Complete++
			continue
		}
		t.Files++
		t.Bytes += e.Size
		var shards int
		var ok bool
		if f.shard, shards, f.seq, ok = parseFileName(name); !ok {
			a.find(KindName, e.Key, "a data file is called part-<shard>-of-<shards>-<number>.parquet, with 5, 5 and 6 digits")
			// What is in it is read by those who read the lake, so it is looked at, too.
			f.shard, f.seq = -1, -1
		} else if l.Shards > 0 && (shards != l.Shards || f.shard >= shards) {
			a.find(KindShards, e.Key, "shard %d of %d, but the table has %d", f.shard, shards, l.Shards)
		}
		key := slotKey{folder, f.shard}
		if slots[key] == nil {
			slots[key] = &slot{}
		}
		f.slot = slots[key]
		f.slot.files = append(f.slot.files, f)
		files = append(files, f)
	}
	for _, partition := range folders {
		if partition {
			t.Partitions++
		}
	}
	a.digests(digests, keys)
	for _, s := range slots {
		if err := a.gaps(ctx, s); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// digestName is that of what windows need of a file of interactions, beside it.
var digestName = regexp.MustCompile(`^_(part-.*)\.digest$`)

// digests looks for digests of files that are not there. They are written after their file.
func (a *auditor) digests(of, keys []string) {
	slices.Sort(keys)
	for _, file := range of {
		if _, there := slices.BinarySearch(keys, file); !there {
			a.find(KindDigest, file, "there is a digest of it, but no such file")
		}
	}
}

// gaps looks for numbers that are missing among the files of a slot.
func (a *auditor) gaps(ctx context.Context, s *slot) error {
	s.open = len(s.files)
	next := 0
	for _, f := range s.files { // in the order of their numbers: names have leading zeros
		if f.seq < next {
			continue // not one of ours, or another number of shards: that was said already
		}
		for ; next < f.seq; next++ {
			// It may have been committed while the list was read, behind the place that was reached.
			key := strings.TrimSuffix(f.key, fmt.Sprintf("%06d.parquet", f.seq)) + fmt.Sprintf("%06d.parquet", next)
			there, err := a.store.Exists(ctx, key)
			if err != nil {
				return err
			}
			if !there {
				a.find(KindGap, f.key, "files are numbered from 0 without a gap, but there is no number %d before it", next)
				break
			}
		}
		next = f.seq + 1
	}
	return nil
}

var fileName = regexp.MustCompile(`^part-(\d{5})-of-(\d{5})-(\d{6})\.parquet$`)

func parseFileName(name string) (shard, shards, seq int, ok bool) {
	m := fileName.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, 0, false
	}
	var errs [3]error
	shard, errs[0] = strconv.Atoi(m[1])
	shards, errs[1] = strconv.Atoi(m[2])
	seq, errs[2] = strconv.Atoi(m[3])
	return shard, shards, seq, errors.Join(errs[:]...) == nil
}

// temporary looks for what killed writers left on a local disk. What is younger than an hour may be in use.
func (a *auditor) temporary(table string) error {
	root := a.store.URL()
	if strings.Contains(root, "://") {
		return nil // object stores have none
	}
	return filepath.WalkDir(filepath.Join(root, table), func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the table has no history, or it went away in the meantime
		}
		if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), driver.TempPrefix) {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if age := time.Since(info.ModTime()); age > time.Hour {
			key, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			a.find(KindTemporary, filepath.ToSlash(key), "left %v ago by a writer that was killed: it can be removed", age.Round(time.Minute))
		}
		return nil
	})
}
