package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// The keys of the metadata of a result, besides those of all files.
const (
	metaRevision = "backbone.revision"
	metaFrom     = "backbone.inputs_from"
	metaTo       = "backbone.inputs_to"
)

// resultSpec says what is looked at in a table of results of windows.
type resultSpec struct {
	name    string
	columns []resultColumn
	// key is what a row is of: it is there once.
	key []string
	// ranked is among what rows are ranked; nil: they are not.
	ranked []string
	// isSessions says that keys are once in the table, not only in a file; ofSessions that results are made of sessions.
	isSessions, ofSessions bool
}

// resultColumn is a column of one value in each row.
type resultColumn struct {
	name     string
	kind     schemas.Kind
	required bool
}

// resultSpecs are the tables of results that this version knows, and liveTables their live tables.
var (
	resultSpecs = specsOfResults(
		&resultSpec{
			name: schemas.Sessions.Name, columns: resultColumns(schemas.Sessions),
			key: []string{"user_id", "visitor_id", "start_time"}, isSessions: true, ofSessions: true,
		},
		&resultSpec{
			name: schemas.Trending.Name, columns: resultColumns(schemas.Trending),
			key: []string{"scope", "scope_value", "item_id"}, ranked: []string{"scope", "scope_value"},
		},
		&resultSpec{name: schemas.Funnels.Name, columns: resultColumns(schemas.Funnels), key: []string{"item_id"}},
		&resultSpec{
			name: schemas.CoOccurrences.Name, columns: resultColumns(schemas.CoOccurrences),
			key: []string{"item_id", "other_item_id"}, ranked: []string{"item_id"}, ofSessions: true,
		},
	)
	liveTables = namesOfLive()
)

func specsOfResults(all ...*resultSpec) map[string]*resultSpec {
	byName := map[string]*resultSpec{}
	for _, s := range all {
		byName[s.name] = s
	}
	return byName
}

func namesOfLive() map[string]string {
	tables := map[string]string{}
	for name := range resultSpecs {
		tables[schemas.LiveOf(name)] = name
	}
	return tables
}

func resultColumns[R any](t *schemas.Table[R]) (all []resultColumn) {
	for _, c := range t.Columns {
		switch c.Kind {
		case schemas.String, schemas.Int64, schemas.Float64, schemas.Boolean, schemas.Micros:
			all = append(all, resultColumn{c.Name, c.Kind, c.Required})
		}
	}
	return all
}

// resultFile is a file of results.
type resultFile struct {
	*file       // start = end: its name does not say of which window it is
	live  bool  // it is in the live table
	named int64 // revision by its name, where it is live

	// What its footer says.
	revision    int64
	hasRevision bool
	inputs      struct{ start, end int64 }
	hasInputs   bool // and a revision
}

// resultTables looks at the tables of results of windows.
func (a *auditor) resultTables(ctx context.Context, names []string) error {
	before, err := a.inputs(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		t, err := a.resultTable(ctx, resultSpecs[name], before)
		if err != nil {
			return fmt.Errorf("table %q: %w", name, err)
		}
		a.report.Windowed = append(a.report.Windowed, t)
	}
	return nil
}

// resultTable looks at a table of results, and its live table.
func (a *auditor) resultTable(ctx context.Context, spec *resultSpec, before []*inputPartition) (Windowed, error) {
	t := Windowed{Name: spec.name}
	// Live results go away after the settled one was made, so in this order none is missed.
	settled, err := a.results(ctx, spec.name, false)
	if err != nil {
		return t, err
	}
	live, err := a.results(ctx, schemas.LiveOf(spec.name), true)
	if err != nil {
		return t, err
	}
	for _, table := range []string{spec.name, schemas.LiveOf(spec.name)} {
		if err := a.temporary(table); err != nil {
			return t, err
		}
	}
	a.windowsOf(settled, live, &t)

	all := &slot{open: len(settled) + 1} // which are looked at in the end
	if spec.isSessions {                 // a session is once in the table
		for _, f := range settled {
			f.slot, all.files = all, append(all.files, f.file)
		}
	}
	var mu sync.Mutex
	err = each(ctx, a.options.Parallel, slices.Concat(settled, live), func(ctx context.Context, f *resultFile) error {
		rows, err := a.result(ctx, f, spec)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) { // it was replaced, or the window was settled
			a.find(KindUnreadable, f.key, "%v", err)
		}
		if a.options.Progress != nil {
			a.options.Progress(rows)
		}
		mu.Lock()
		defer mu.Unlock()
		if !f.live {
			t.Rows += rows
		}
		return nil
	})
	if err == nil && spec.isSessions {
		err = a.sessionsTwice(ctx, settled, all)
	}
	if err != nil || len(before) == 0 {
		return t, err
	}
	return t, a.stale(ctx, spec, settled, before, &t)
}

// results lists a table of results, and looks at all that names tell.
func (a *auditor) results(ctx context.Context, table string, live bool) (all []*resultFile, err error) {
	for e, err := range a.store.List(ctx, table+"/") {
		if err != nil {
			return nil, err
		}
		folder, name := path.Split(strings.TrimPrefix(e.Key, table+"/"))
		if hidden(name) {
			continue
		}
		f := &resultFile{file: &file{key: e.Key, size: e.Size, folder: strings.TrimSuffix(folder, "/")}, live: live}
		f.slot = &slot{files: []*file{f.file}, open: 1}
		all = append(all, f)
		if wrong := f.parseName(name); wrong != nil {
			// What is in it is read by those who read the lake, so it is looked at, too.
			a.find(KindName, e.Key, "%v", wrong)
			f.start, f.end = 0, 0
			continue
		}
		if want := time.UnixMicro(f.start).UTC().Format("dt=2006-01-02"); f.folder != want {
			a.find(KindFolder, e.Key, "a window that begins then is in %s", want)
		}
	}
	return all, nil
}

var resultName = regexp.MustCompile(`^(\d{8}T\d{6}Z)-(?:(month)|(\d{1,6})([hm]))(?:-r(\d{10}))?\.parquet$`)

// parseName reads the name of a result: the window, and the revision of a live one.
func (f *resultFile) parseName(name string) error {
	form := "a result is called by the start of its window and its size, such as 20261122T140000Z-1h.parquet"
	if f.live {
		form += ", and its revision: 20261122T140000Z-1h-r0000000007.parquet"
	}
	m := resultName.FindStringSubmatch(name)
	if m == nil || f.live != (m[5] != "") {
		return errors.New(form)
	}
	start, err := time.Parse("20060102T150405Z", m[1])
	if err != nil {
		return fmt.Errorf("%s: %w", form, err)
	}
	month, isFirst := start.AddDate(0, 1, 0), start.Day() == 1
	end := month
	if m[2] == "" {
		n, err := strconv.Atoi(m[3])
		if err != nil || n == 0 || m[3][0] == '0' {
			return errors.New(form)
		}
		unit := time.Minute
		if m[4] == "h" {
			unit = time.Hour
		}
		end = start.Add(time.Duration(n) * unit)
		if unit == time.Minute && n%60 == 0 || isFirst && end.Equal(month) {
			return fmt.Errorf("%s; sizes of whole hours are in h, and one of a month is month", form)
		}
	} else if !isFirst {
		return fmt.Errorf("%s: a month begins with its first day", form)
	}
	f.start, f.end = start.UnixMicro(), end.UnixMicro()
	f.named, err = strconv.ParseInt(cmp.Or(m[5], "0"), 10, 64)
	return err
}

// windowsOf counts windows, and looks for those that are in two files.
func (a *auditor) windowsOf(settled, live []*resultFile, t *Windowed) {
	type window struct{ start, end, revision int64 }
	twice := func(seen map[window]string, w window, f *resultFile) {
		if f.start == f.end {
			return
		}
		if first, there := seen[w]; there {
			a.find(KindTwice, f.key, "the same is in %s", first)
			return
		}
		seen[w] = f.key
	}
	windows := map[window]string{}
	for _, f := range settled {
		t.Files++
		t.Bytes += f.size
		twice(windows, window{f.start, f.end, 0}, f)
		start, end := time.UnixMicro(f.start).UTC(), time.UnixMicro(f.end).UTC()
		switch {
		case f.start == f.end:
			continue
		case t.First == nil || start.Before(*t.First):
			t.First = &start
		}
		if t.Last == nil || end.After(*t.Last) {
			t.Last = &end
		}
	}
	t.Windows = int64(len(windows))
	results, open := map[window]string{}, map[window]bool{}
	for _, f := range live {
		twice(results, window{f.start, f.end, f.named}, f)
		w := window{f.start, f.end, 0}
		switch _, isSettled := windows[w]; {
		case isSettled:
			t.LeftBehind++
		case f.start < f.end:
			open[w] = true
		}
	}
	t.Live = int64(len(open))
}

// result reads a result in full. Its error says that it is damaged, or cannot be read.
func (a *auditor) result(ctx context.Context, f *resultFile, spec *resultSpec) (rows int64, err error) {
	defer func() {
		// The reader of Parquet files panics at some that are damaged.
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it panics: %v", p)
		}
	}()
	c := resultChecker{auditor: a, file: f, spec: spec}
	defer func() { a.keys(f, c.ids) }()
	pf, done, err := a.open(ctx, f.key, f.size)
	if err != nil {
		return 0, err
	}
	defer done()
	a.metadata(f.key, spec.name, pf)
	f.readFooter(a, pf)
	c.begin(pf.Schema())
	for _, group := range pf.RowGroups() {
		if err := eachRow(group, c.row); err != nil {
			return c.rows, err
		}
	}
	c.report()
	if c.rows != pf.NumRows() {
		return c.rows, fmt.Errorf("it has %d rows, but its footer says %d", c.rows, pf.NumRows())
	}
	return c.rows, nil
}

// keys adds the keys of a file to its slot, and with the last file looks for those that are there twice.
func (a *auditor) keys(f *resultFile, ids []idAt) {
	s := f.slot
	number := uint32(slices.Index(s.files, f.file))
	s.mu.Lock()
	for _, at := range ids {
		at.file = number
		s.ids = append(s.ids, at)
	}
	s.open--
	done := s.open == 0
	s.mu.Unlock()
	if done {
		a.duplicates(s)
		s.ids = nil
	}
}

// sessionsTwice looks for sessions that are in two windows. A session moves on to the next window when more of it comes: what was seen in a
// file that was replaced in the meantime tells nothing.
func (a *auditor) sessionsTwice(ctx context.Context, files []*resultFile, s *slot) error {
	slices.SortFunc(s.ids, idAt.compare)
	suspects := map[uint32]bool{}
	for i := 1; i < len(s.ids); i++ {
		if s.ids[i].id == s.ids[i-1].id {
			suspects[s.ids[i].file], suspects[s.ids[i-1].file] = true, true
		}
	}
	for number := range suspects {
		replaced, err := a.replaced(ctx, files[number])
		if err != nil {
			return err
		}
		if replaced {
			s.ids = slices.DeleteFunc(s.ids, func(at idAt) bool { return at.file == number })
		}
	}
	a.duplicates(s)
	return nil
}

// replaced tells if a result is not the one that was read.
func (a *auditor) replaced(ctx context.Context, f *resultFile) (bool, error) {
	pf, done, err := a.open(ctx, f.key, f.size)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer done()
	v, _ := pf.Lookup(metaRevision)
	return v != strconv.FormatInt(f.revision, 10), nil
}

// readFooter reads what the footer says of how the result was made.
func (f *resultFile) readFooter(a *auditor, pf *parquet.File) {
	number := func(name string) (int64, bool) {
		v, _ := pf.Lookup(name)
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			a.find(KindMetadata, f.key, "%s is %q in the footer, want a number from 0", name, v)
			return 0, false
		}
		return n, true
	}
	f.revision, f.hasRevision = number(metaRevision)
	from, ok1 := number(metaFrom)
	to, ok2 := number(metaTo)
	f.inputs.start, f.inputs.end, f.hasInputs = from, to, ok1 && ok2 && f.hasRevision && f.start < f.end
	if f.hasInputs && (from > f.start || to < f.end) {
		a.find(KindMetadata, f.key, "it was made of what happened from %v to %v, which is less than its window", at(from), at(to))
		f.hasInputs = false
	}
	switch {
	case !f.hasRevision:
	case f.live && f.start < f.end && f.revision != f.named:
		a.find(KindMetadata, f.key, "%s is %d in the footer, want %d as in the name of the file", metaRevision, f.revision, f.named)
	case !f.live && f.revision%2 == 0:
		a.find(KindMetadata, f.key, "%s is %d in the footer, but that of a window that is over is odd", metaRevision, f.revision)
	}
}

// resultChecker looks at the rows of a result, one after the other.
type resultChecker struct {
	*auditor
	file   *resultFile
	spec   *resultSpec
	places []int           // of the columns of the file in those of the spec; -1: not looked at
	at     map[string]int  // places of the columns of the spec that the file has
	values []parquet.Value // of the row, by the columns of the spec

	rows   int64
	ids    []idAt
	first  string // the pane of the first row
	groups map[string][]int64

	nulls                                    []rowFault // by the columns of the spec
	window, revision, pane, times, whose     rowFault
	windowColumns, sessionColumns, hasAllKey bool
}

// begin finds the columns of the spec in a file.
func (c *resultChecker) begin(schema *parquet.Schema) {
	c.places = slices.Repeat([]int{-1}, len(schema.Columns()))
	c.at, c.groups = map[string]int{}, map[string][]int64{}
	c.values, c.nulls = make([]parquet.Value, len(c.spec.columns)), make([]rowFault, len(c.spec.columns))
	for i, column := range c.spec.columns {
		leaf, ok := schema.Lookup(column.name)
		switch {
		case !ok && (column.required || slices.Contains(c.spec.key, column.name)):
			c.find(KindColumn, c.file.key, "there is no column %q", column.name)
		case !ok:
		case leaf.MaxRepetitionLevel > 0 || !fitsKind(leaf.Node.Type(), column.kind):
			c.find(KindColumn, c.file.key, "column %q is of type %v, which is not that of the table", column.name, leaf.Node.Type())
		default:
			c.places[leaf.ColumnIndex] = i
			c.at[column.name] = i
		}
	}
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { _, ok := c.at[name]; return !ok })
	}
	c.windowColumns = has("window_start", "window_end")
	c.sessionColumns = c.spec.isSessions && has("start_time", "end_time")
	c.hasAllKey = has(c.spec.key...) && has(c.spec.ranked...)
}

func fitsKind(t parquet.Type, k schemas.Kind) bool {
	switch k {
	case schemas.String:
		return isText(t)
	case schemas.Micros:
		return isMicros(t)
	case schemas.Int64:
		return t.Kind() == parquet.Int64
	case schemas.Float64:
		return t.Kind() == parquet.Double
	default:
		return t.Kind() == parquet.Boolean
	}
}

// text, int and has return what the row has in a column; empty and 0 where there is nothing.
func (c *resultChecker) text(name string) string {
	if i, ok := c.at[name]; ok && !c.values[i].IsNull() {
		return string(c.values[i].ByteArray())
	}
	return ""
}

func (c *resultChecker) int(name string) int64 {
	if i, ok := c.at[name]; ok && !c.values[i].IsNull() {
		return c.values[i].Int64()
	}
	return 0
}

func (c *resultChecker) has(name string) bool {
	i, ok := c.at[name]
	return ok && !c.values[i].IsNull()
}

func (c *resultChecker) row(values parquet.Row) {
	number := c.rows
	c.rows++
	clear(c.values)
	for i := range values {
		if place := c.places[values[i].Column()]; place >= 0 {
			c.values[place] = values[i]
		}
	}
	for _, i := range c.at {
		v := &c.values[i]
		if c.spec.columns[i].required && (v.IsNull() || v.Kind() == parquet.ByteArray && len(v.ByteArray()) == 0) {
			c.nulls[i].add(number, "has no value")
		}
	}
	c.check(number)
}

// check looks at the row that was just read.
func (c *resultChecker) check(number int64) {
	f := c.file
	if start, end := c.int("window_start"), c.int("window_end"); c.windowColumns && f.start < f.end && (start != f.start || end != f.end) {
		c.window.add(number, "is from %v to %v", at(start), at(end))
	}
	if r := c.int("revision"); c.has("revision") && f.hasRevision && r != f.revision {
		c.revision.add(number, "is %d, but that of the file is %d", r, f.revision)
	}
	if c.has("pane") {
		pane := c.text("pane")
		if number == 0 {
			c.first = pane
		}
		switch {
		case pane != c.first:
			c.pane.add(number, "is %q, but that of row 0 is %q", pane, c.first)
		case f.live != slices.Contains([]string{schemas.PaneEarly, schemas.PaneOnTime, schemas.PaneLate}, pane), !f.live && pane != schemas.PaneSettled:
			c.pane.add(number, "is %q, which has no place in this table", pane)
		case f.live && f.hasRevision && (pane == schemas.PaneEarly) != (f.revision%2 == 0):
			c.pane.add(number, "is %q, but revisions are even before the window is over, and odd then: it is %d", pane, f.revision)
		}
	}
	if c.sessionColumns {
		c.session(number)
	}
	if !c.hasAllKey {
		return
	}
	c.ids = append(c.ids, idAt{id: xxh3.HashString128(c.join(c.spec.key)), row: uint32(number)})
	if c.spec.ranked != nil && c.has("rank") {
		group := c.join(c.spec.ranked)
		c.groups[group] = append(c.groups[group], c.int("rank"))
	}
}

// session looks at a session.
func (c *resultChecker) session(number int64) {
	f, start, end := c.file, c.int("start_time"), c.int("end_time")
	switch {
	case !c.has("start_time") || !c.has("end_time"):
	case start > end:
		c.times.add(number, "begins at %v, after its end at %v", at(start), at(end))
	case f.start < f.end && (end < f.start || end >= f.end):
		c.times.add(number, "ends at %v, which is outside of the window", at(end))
	}
	if c.has("user_id") == c.has("visitor_id") {
		c.whose.add(number, "must have one of user_id and visitor_id")
	}
}

// join returns the values of columns as one text.
func (c *resultChecker) join(columns []string) string {
	parts := make([]string, len(columns))
	for i, name := range columns {
		if c.spec.columns[c.at[name]].kind == schemas.String {
			parts[i] = strconv.Quote(c.text(name))
		} else {
			parts[i] = strconv.FormatInt(c.int(name), 10)
		}
	}
	return strings.Join(parts, " ")
}

// report says what is wrong with the file's rows.
func (c *resultChecker) report() {
	key := c.file.key
	for i := range c.nulls {
		c.nulls[i].report(c.auditor, KindNull, key, c.spec.columns[i].name)
	}
	c.window.report(c.auditor, KindWindow, key, "its window")
	c.revision.report(c.auditor, KindRevision, key, "its revision")
	c.pane.report(c.auditor, KindPane, key, "its pane")
	c.times.report(c.auditor, KindTimes, key, "the session")
	c.whose.report(c.auditor, KindContent, key, "the session")
	wrong, example := 0, ""
	for _, group := range slices.Sorted(maps.Keys(c.groups)) {
		ranks := c.groups[group]
		slices.Sort(ranks)
		for i, r := range ranks {
			if r != int64(i+1) {
				if wrong++; wrong == 1 {
					example = fmt.Sprintf("among %s, %d should be %d", group, r, i+1)
				}
				break
			}
		}
	}
	if wrong > 0 {
		c.find(KindRank, key, "of %d scopes or items, the first: %s", wrong, example)
	}
}
