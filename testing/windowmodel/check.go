package windowmodel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/transforms/lake/store"
)

// Options say what is compared.
type Options struct {
	// Lake is the URL of the lake. Required.
	Lake string
	// Examples is how many of each kind of difference are told one by one. Default: 5.
	Examples int
	// Settings are those that the tables were made with.
	Settings
}

// checker is a check under way.
type checker struct {
	ctx    context.Context
	store  *store.Store
	report *Report
	most   int // examples of a kind
}

func (c *checker) differ(kind Kind, format string, args ...any) {
	c.report.differ(c.most, kind, format, args...)
}

// spare is how many rows behind the top the model has in a check. Rounding may let them change places with the last ones.
const spare = 20

// tolerance is by how much numbers may differ that were added up in another order, as a share of them.
const tolerance = 1e-9

// Check compares the main tables of a lake with what the model makes of its interactions. All windows must be settled.
// Differences are in the report; an error says that the comparison could not be made.
func Check(ctx context.Context, o Options) (_ *Report, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("windowmodel: %w", err)
		}
	}()
	st, err := store.Open(ctx, o.Lake)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	c := &checker{ctx, st, &Report{Tables: map[string]Table{}, Live: map[string]Live{}, Counts: map[Kind]int{}, Examples: map[Kind][]string{}}, cmp.Or(o.Examples, 5)}
	if o.Categories == nil {
		if o.Categories, err = readCategories(ctx, st); err != nil {
			return nil, err
		}
	}
	events, err := readEvents(ctx, st)
	if err != nil {
		return nil, err
	}
	c.report.Events = len(events)
	s := o.withDefaults()
	top := s.Top
	s.Top += spare
	want := Compute(events, s)

	err = compare(c, subject[schemas.Session]{
		table: schemas.Sessions, pane: func(r *schemas.Session) *schemas.Pane { return &r.Pane },
		key: func(r *schemas.Session) rowKey {
			return rowKey{Span{r.StartTime.V, r.StartTime.V}, [3]string{r.UserID, r.VisitorID}}
		},
		also:    func(r *schemas.Session) string { return r.SessionKey },
		unknown: func(r *schemas.Session) { r.SessionKey = "" },
	}, want.Sessions)
	if err != nil {
		return nil, err
	}
	if err := compare(c, trending(top), want.Trending); err != nil {
		return nil, err
	}
	err = compare(c, subject[schemas.Funnel]{
		table: schemas.Funnels, pane: func(r *schemas.Funnel) *schemas.Pane { return &r.Pane },
		key: func(r *schemas.Funnel) rowKey { return rowKey{spanOf(&r.Pane), [3]string{r.ItemID}} },
	}, want.Funnel)
	if err != nil {
		return nil, err
	}
	err = compare(c, subject[schemas.CoOccurrence]{
		table: schemas.CoOccurrences, pane: func(r *schemas.CoOccurrence) *schemas.Pane { return &r.Pane },
		key: func(r *schemas.CoOccurrence) rowKey {
			return rowKey{spanOf(&r.Pane), [3]string{r.ItemID, r.OtherItemID}}
		},
	}, want.CoOccurrence)
	if err != nil {
		return nil, err
	}
	var hashes []string
	for _, name := range tables {
		hashes = append(hashes, c.report.Tables[name].Hash)
	}
	c.report.Hash = hash(hashes)
	return c.report, nil
}

// rowKey is what a row is of: its window, or the time at which a session began, and texts of which some may be empty.
type rowKey struct {
	time  Span
	texts [3]string
}

func (k rowKey) String() string { return fmt.Sprintf("%v %q", k.time, k.texts) }

// subject is what is particular to a table.
type subject[R any] struct {
	table *schemas.Table[R]
	pane  func(*R) *schemas.Pane
	// key says what a row is of: there is one row of it, in one window.
	key func(*R) rowKey
	// also is another text that is different in all rows; nil: there is none.
	also func(*R) string
	// unknown clears what the model does not say; nil: it says all.
	unknown func(*R)
	// ranks looks at the ranks of all rows of the lake, and returns which rows of the model need not be there; nil: all have
	// to, and ranks are compared as all else is.
	ranks func(c *checker, got []R) (spared func(*R) bool)
}

func spanOf(p *schemas.Pane) Span { return Span{p.WindowStart.V, p.WindowEnd.V} }

// compare compares a main table with its rows of the model.
func compare[R any](c *checker, s subject[R], want []R) error {
	got, windows, err := read(c, s)
	if err != nil {
		return err
	}
	spared := func(*R) bool { return false }
	if s.ranks != nil {
		spared = s.ranks(c, got)
	}
	wanted, rows, seen, also := map[rowKey]*R{}, map[Span]int{}, map[rowKey]bool{}, map[string]bool{}
	for i := range want {
		r := &want[i]
		wanted[s.key(r)] = r
		rows[spanOf(s.pane(r))]++
	}
	for i := range got {
		r := &got[i]
		key := s.key(r)
		if seen[key] || s.also != nil && also[s.also(r)] {
			c.differ(RowTwice, "%s: %v", s.table.Name, key)
			continue
		}
		if seen[key] = true; s.also != nil {
			also[s.also(r)] = true
		}
		model, ok := wanted[key]
		switch span := spanOf(s.pane(r)); {
		case ok:
			if same, diff := s.same(model, r); !same {
				c.differ(RowDifferent, "%s: %v (-want +got):\n%s", s.table.Name, key, diff)
			}
		case rows[span] > 0: // a window that is extra is told in whole
			c.differ(RowExtra, "%s: %v", s.table.Name, key)
		}
	}
	for span := range windows {
		if rows[span] == 0 {
			c.differ(WindowExtra, "%s: %v in %s", s.table.Name, span, windows[span])
		}
	}
	missing := map[Span]bool{}
	t := c.report.Tables[s.table.Name]
	for i := range want {
		r := &want[i]
		key := s.key(r)
		if !seen[key] && spared(r) {
			continue
		}
		t.Want++
		switch span := spanOf(s.pane(r)); {
		case seen[key]:
		case windows[span] != "":
			c.differ(RowMissing, "%s: %v", s.table.Name, key)
		case !missing[span]:
			missing[span] = true
			c.differ(WindowMissing, "%s: %v, with %d rows", s.table.Name, span, rows[span])
		}
	}
	c.report.Tables[s.table.Name] = t
	return live(c, s, windows)
}

// read returns the rows of a main table, and in which file each window is. It checks what can be said of each file, and
// hashes the rows. If a window is in two files, the rows of the second are left out, since they would all be there twice.
func read[R any](c *checker, s subject[R]) (got []R, windows map[Span]string, err error) {
	files, err := keys(c.ctx, c.store, s.table.Name, "dt=*/*.parquet")
	if err != nil {
		return nil, nil, err
	}
	windows = map[Span]string{}
	var sums []string
	rows := 0
	for _, key := range files {
		spans := map[Span]bool{}
		err := eachResult(c.ctx, c.store, key, s.table, func(r R) {
			pane := s.pane(&r)
			span := spanOf(pane)
			sum := sha256.Sum256([]byte(s.text(&r)))
			sums = append(sums, string(sum[:16]))
			if rows++; pane.Timing != schemas.PaneSettled {
				c.differ(RowUnsettled, "%s: %v is %q in %s", s.table.Name, s.key(&r), pane.Timing, key)
			}
			first, known := windows[span]
			if !known {
				windows[span] = key
			}
			if !spans[span] && known {
				c.differ(WindowTwice, "%s: %v in %s and %s", s.table.Name, span, first, key)
			}
			start := time.UnixMicro(span.Start).UTC()
			if name := start.Format("dt=2006-01-02/20060102T150405Z-"); !spans[span] && !strings.HasPrefix(key, path.Join(s.table.Name, name)) {
				c.differ(FileMisnamed, "%s has %v, want %s...", key, span, name)
			}
			if spans[span] = true; !known || first == key {
				got = append(got, r)
			}
		})
		if err != nil {
			return nil, nil, err
		}
		if len(spans) > 1 {
			c.differ(FileMixed, "%s has %d", key, len(spans))
		}
	}
	c.report.Tables[s.table.Name] = Table{Files: len(files), Windows: len(windows), Rows: rows, Hash: hash(sums)}
	return got, windows, nil
}

// live notes what the table of open windows has. Its files go away while it is read.
func live[R any](c *checker, s subject[R], settled map[Span]string) error {
	files, err := keys(c.ctx, c.store, schemas.LiveOf(s.table.Name), "dt=*/*.parquet")
	if err != nil {
		return err
	}
	l := Live{Revisions: map[Span]int64{}}
	for _, key := range files {
		err := eachResult(c.ctx, c.store, key, s.table, func(r R) {
			pane := s.pane(&r)
			span := spanOf(pane)
			if _, known := l.Revisions[span]; !known && settled[span] != "" {
				l.Settled++
			}
			l.Revisions[span] = max(l.Revisions[span], pane.Revision.V)
			if !slices.Contains(l.Panes, pane.Timing) {
				l.Panes = append(l.Panes, pane.Timing)
			}
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	slices.Sort(l.Panes)
	c.report.Live[s.table.Name] = l
	return nil
}

// same compares two rows, but for what the model does not know.
func (s subject[R]) same(want, got *R) (same bool, diff string) {
	a, b := *want, *got
	for _, r := range []*R{&a, &b} {
		p := s.pane(r)
		p.Revision, p.Timing = schemas.Int{}, ""
		if s.unknown != nil {
			s.unknown(r)
		}
	}
	if equal(s.table, &a, &b) {
		return true, ""
	}
	return false, gocmp.Diff(a, b, gocmp.Comparer(near))
}

// equal is what cmp.Equal says, a hundred times as fast.
func equal[R any](table *schemas.Table[R], a, b *R) bool {
	for _, c := range table.Columns {
		ok := true
		switch c.Kind {
		case schemas.String:
			ok = *c.Str(a) == *c.Str(b)
		case schemas.Int64, schemas.Micros:
			ok = *c.Int(a) == *c.Int(b)
		case schemas.Boolean:
			ok = *c.Bool(a) == *c.Bool(b)
		case schemas.Float64:
			ok = c.Float(a).Set == c.Float(b).Set && near(c.Float(a).V, c.Float(b).V)
		case schemas.Strings:
			ok = slices.Equal(*c.List(a), *c.List(b))
		case schemas.Numbers:
			ok = slices.Equal(*c.Numbers(a), *c.Numbers(b))
		}
		if !ok {
			return false
		}
	}
	return true
}

// near tells whether two numbers differ by rounding only. Numbers may be 0 but for rounding, too.
func near(a, b float64) bool {
	return a == b || math.Abs(a-b) <= max(tolerance*max(math.Abs(a), math.Abs(b)), 1e-15)
}

// text writes down what counts for the hash of a row.
func (s subject[R]) text(r *R) string {
	var b []byte
	for _, c := range s.table.Columns {
		if c.Name == "revision" || c.Name == "pane" {
			continue
		}
		b = append(append(b, c.Name...), '=')
		switch c.Kind {
		case schemas.String:
			b = strconv.AppendQuote(b, *c.Str(r))
		case schemas.Strings:
			for _, one := range *c.List(r) {
				b = strconv.AppendQuote(b, one)
			}
		case schemas.Numbers:
			for _, n := range *c.Numbers(r) {
				b = strconv.AppendFloat(strconv.AppendQuote(b, n.Key), n.Value, 'e', 11, 64)
			}
		case schemas.Int64, schemas.Micros:
			if n := *c.Int(r); n.Set {
				b = strconv.AppendInt(b, n.V, 10)
			}
		case schemas.Boolean:
			b = fmt.Append(b, *c.Bool(r))
		case schemas.Float64:
			if f := *c.Float(r); f.Set {
				b = strconv.AppendFloat(b, f.V, 'e', 11, 64)
			}
		}
	}
	return string(b)
}

// hash hashes texts in the order of their bytes.
func hash(texts []string) string {
	slices.Sort(texts)
	sum := sha256.New()
	for _, text := range texts {
		sum.Write(append([]byte(text), '\n'))
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:16])
}
