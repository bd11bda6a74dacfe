package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/testing/generator"
	"backbone/transforms/lake/store"
)

// CatalogOptions say what is compared of users and items.
type CatalogOptions struct {
	// Truth is the folder in which generator.WriteCatalog has made a catalogue. Required.
	Truth string
	// Lake is the URL of the lake. Required.
	Lake string
	// Tables are those that are compared. Default: users and items.
	Tables []string
	// AsOf is the time of the last export that was loaded: what was later is not expected. Default: all was loaded.
	AsOf time.Time
	// Loaded tells whether an export was loaded, whose broken rows must be dead letters. Default: each full one.
	Loaded func(table, mode string, asOf time.Time) bool
	// Times is at how many random times the state of a table is compared. Default: 10.
	Times int
	// At are more times at which it is.
	At []time.Time
	// Seed chooses the random times.
	Seed uint64
	// Examples is how many of each kind of difference are told one by one. Default: 5.
	Examples int
}

// CatalogReport is what CheckCatalog found.
type CatalogReport struct {
	Files       int               // of all tables
	Versions    int               // in the tables and their histories
	Current     int               // of them, in the current state
	DeadLetters int               // of the exports
	Want        int               // versions of the truth
	WantLetters int               // broken rows of the truth
	Times       []time.Time       // at which states were compared
	Counts      map[Kind]int      // differences; empty if there are none
	Examples    map[Kind][]string // the first of each kind
}

// OK tells whether the lake is as it must be.
func (r *CatalogReport) OK() bool { return len(r.Counts) == 0 }

// String tells all differences, a line each.
func (r *CatalogReport) String() string {
	return fmt.Sprintf("%d versions, %d of them current, and %d dead letters in %d files; the truth has %d and %d\n",
		r.Versions, r.Current, r.DeadLetters, r.Files, r.Want, r.WantLetters) + tell(r.Counts, r.Examples)
}

// version is one version of a row, in the lake or in the truth. Versions of a table are sorted by id and the time from which
// they hold; those of the same id and time by whether they are deletions, and by the hash of their content.
type version struct {
	id       string
	from, to int64 // microseconds; math.MaxInt64: for ever
	content  xxh3.Uint128
	order    string // content_hash
	deleted  bool
	current  bool // is in the current state
}

const forever = math.MaxInt64

func compareVersions(a, b version) int {
	return cmp.Or(strings.Compare(a.id, b.id), cmp.Compare(a.from, b.from), compareBool(a.deleted, b.deleted), strings.Compare(a.order, b.order))
}

// compareBool says that what is not comes before what is.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func (v *version) String() string {
	return fmt.Sprintf("%q of %v", v.id, time.UnixMicro(v.from).UTC().Format(time.RFC3339Nano))
}

// end tells until when a version holds.
func (v *version) end() string {
	if v.to == forever {
		return "is current"
	}
	return "ends at " + time.UnixMicro(v.to).UTC().Format(time.RFC3339Nano)
}

// catalogBook is a check under way.
type catalogBook struct {
	options CatalogOptions
	store   *store.Store
	report  *CatalogReport
}

// CheckCatalog compares the tables of users and items, their histories and their dead letters with the truth: each version
// is there once, the last of each id in the current state and the others in the history; each holds as long as it did;
// and at any time the state is the one that was. Dead letters of other sources are passed over. Differences are in the
// report; an error says that the comparison could not be made.
func CheckCatalog(ctx context.Context, o CatalogOptions) (_ *CatalogReport, err error) {
	if len(o.Tables) == 0 {
		o.Tables = []string{schemas.Users.Name, schemas.Items.Name}
	}
	if o.Times == 0 {
		o.Times = 10
	}
	if o.Examples == 0 {
		o.Examples = 5
	}
	if o.Loaded == nil {
		o.Loaded = func(_, mode string, _ time.Time) bool { return mode == generator.Full }
	}
	st, err := store.Open(ctx, o.Lake)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	b := &catalogBook{options: o, store: st, report: &CatalogReport{Counts: map[Kind]int{}, Examples: map[Kind][]string{}}}
	for _, table := range o.Tables {
		if err := b.checkTable(ctx, table); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	if err := b.checkLetters(ctx); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return b.report, nil
}

// CatalogHash hashes what a lake says of a table and its history: id, valid_from, the valid_to that counts, is_deleted and
// content of each version, however they are spread over runs and files.
func CatalogHash(ctx context.Context, lake, table string) (total Hash, err error) {
	st, err := store.Open(ctx, lake)
	if err != nil {
		return total, fmt.Errorf("hash: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	versions, _, err := readVersions(ctx, st, table, func(string) {})
	if err != nil {
		return total, fmt.Errorf("hash: %w", err)
	}
	for _, v := range versions {
		sum := xxh3.HashString128(fmt.Sprintf("%q %d %d %v %x %x", v.id, v.from, v.to, v.deleted, v.content.Hi, v.content.Lo))
		total = total.plus(Hash{Rows: 1, High: sum.Hi, Low: sum.Lo})
	}
	return total, nil
}

func (b *catalogBook) differ(kind Kind, format string, args ...any) {
	b.report.Counts[kind]++
	if len(b.report.Examples[kind]) < b.options.Examples {
		b.report.Examples[kind] = append(b.report.Examples[kind], fmt.Sprintf(format, args...))
	}
}

// wanted returns the versions of a table that the truth has, as they were known at AsOf.
func (b *catalogBook) wanted(table string) (versions []version, err error) {
	until := int64(forever)
	if !b.options.AsOf.IsZero() {
		until = b.options.AsOf.UnixMicro()
	}
	err = generator.ReadVersions(b.options.Truth, func(t *generator.Version) error {
		if t.Table != table || t.ValidFrom > until {
			return nil
		}
		v := version{id: t.ID, from: t.ValidFrom, to: t.ValidTo, deleted: t.IsDeleted, content: xxh3.HashString128(t.Content)}
		if v.to == 0 || v.to > until {
			v.to, v.current = forever, true
		}
		versions = append(versions, v)
		return nil
	})
	slices.SortFunc(versions, compareVersions)
	return versions, err
}

// checkTable compares the versions of a table, and its states.
func (b *catalogBook) checkTable(ctx context.Context, table string) error {
	want, err := b.wanted(table)
	if err != nil {
		return err
	}
	b.report.Want += len(want)
	got, files, err := readVersions(ctx, b.store, table, func(row string) {
		b.differ(VersionUnhashed, "%s: %s", table, row)
	})
	if err != nil {
		return err
	}
	b.report.Files += files
	b.report.Versions += len(got)

	wrong := map[string]bool{} // what has another content, of which more is told
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch order := compareHeads(want[i:], got[j:]); {
		case order < 0:
			b.differ(VersionMissing, "%s: %v", table, &want[i])
			i++
		case order > 0:
			b.differ(VersionExtra, "%s: %v", table, &got[j])
			j++
		default:
			// Of several, the one that is where it must be is the right one.
			right, end := j, j
			for ; end < len(got) && got[end].id == want[i].id && got[end].from == want[i].from; end++ {
				if got[end].current == want[i].current && got[right].current != want[i].current {
					right = end
				}
			}
			b.compare(table, &want[i], &got[right], wrong)
			for range end - j - 1 {
				b.differ(VersionTwice, "%s: %v", table, &want[i])
			}
			i, j = i+1, end
		}
	}
	for _, v := range got {
		if v.current {
			b.report.Current++
		}
	}
	b.checkStates(table, want, got)
	return b.tellContent(ctx, table, wrong)
}

// compareHeads tells which of two lists begins with the earlier version.
func compareHeads(a, b []version) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return cmp.Or(strings.Compare(a[0].id, b[0].id), cmp.Compare(a[0].from, b[0].from))
}

// compare compares a version with itself in the truth.
func (b *catalogBook) compare(table string, want, got *version, wrong map[string]bool) {
	if want.to != got.to {
		b.differ(VersionInterval, "%s: %v %s, want that it %s", table, got, got.end(), want.end())
	}
	if want.current != got.current {
		b.differ(VersionMisplaced, "%s: %v: is in the current state: %v, want %v", table, got, got.current, want.current)
	}
	if want.deleted != got.deleted || want.content != got.content {
		b.report.Counts[VersionContent]++
		if len(wrong) < b.options.Examples {
			wrong[got.String()] = true
		}
	}
}

// tellContent tells both contents of some versions. They are read again, since only hashes are kept of the others.
func (b *catalogBook) tellContent(ctx context.Context, table string, wrong map[string]bool) error {
	if len(wrong) == 0 {
		return nil
	}
	texts := map[string]string{}
	err := eachVersion(ctx, b.store, table, func(_ string, v *version, text []byte) {
		if key := v.String(); wrong[key] {
			texts[key] = fmt.Sprintf("deleted: %v, %s", v.deleted, text)
		}
	})
	if err != nil {
		return err
	}
	return generator.ReadVersions(b.options.Truth, func(t *generator.Version) error {
		v := version{id: t.ID, from: t.ValidFrom}
		if key := v.String(); t.Table == table && wrong[key] && len(b.report.Examples[VersionContent]) < b.options.Examples {
			got, want := texts[key], fmt.Sprintf("deleted: %v, %s", t.IsDeleted, t.Content)
			at := differAt(got, want)
			b.report.Examples[VersionContent] = append(b.report.Examples[VersionContent],
				fmt.Sprintf("%s: %s: from byte %d on it is %.200q, want %.200q", table, key, at, got[at:], want[at:]))
		}
		return nil
	})
}

// differAt returns a little less than the length of what two texts begin with.
func differAt(a, b string) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return max(0, i-40)
}

// checkStates compares the states as of some times, as a reader sees them: each id has the version whose time is up last, and
// that is the one that holds then.
func (b *catalogBook) checkStates(table string, want, got []version) {
	if len(want) == 0 {
		return
	}
	times := slices.Clone(b.options.At)
	first, last := want[0].from, want[0].from
	for _, v := range want {
		first, last = min(first, v.from), max(last, v.from)
	}
	r := rand.New(rand.NewPCG(b.options.Seed, uint64(len(table))))
	for i := range b.options.Times {
		at := want[r.IntN(len(want))].from // just when something changes
		if i%2 == 0 {
			at = first + r.Int64N(last-first+1)
		}
		times = append(times, time.UnixMicro(at).UTC())
	}
	for _, t := range times {
		at := t.UnixMicro()
		b.report.Times = append(b.report.Times, t)
		i, j := 0, 0
		for i < len(want) || j < len(got) {
			var id string
			switch {
			case j == len(got) || i < len(want) && want[i].id <= got[j].id:
				id = want[i].id
			default:
				id = got[j].id
			}
			wanted, _, next := asOf(want, i, id, at)
			found, holding, nextGot := asOf(got, j, id, at)
			i, j = next, nextGot
			switch {
			case (wanted == nil) != (found == nil):
				b.differ(StateWrong, "%s as of %v: %q is there: %v, want %v", table, t, id, found != nil, wanted != nil)
			case wanted != nil && (wanted.content != found.content || wanted.from != found.from):
				b.differ(StateWrong, "%s as of %v: %v, want %v", table, t, found, wanted)
			case holding > 1:
				b.differ(StateWrong, "%s as of %v: %q has %d versions that hold", table, t, id, holding)
			}
		}
	}
}

// asOf returns the version of an id, whose versions begin at i, that is not deleted and that it has as of a time; how many
// hold then by their interval; and where the next id begins.
func asOf(versions []version, i int, id string, at int64) (found *version, holding, next int) {
	for ; i < len(versions) && versions[i].id == id; i++ {
		v := &versions[i]
		if v.from <= at {
			found = v
		}
		if v.from <= at && at < v.to {
			holding++
		}
	}
	if found != nil && found.deleted {
		found = nil
	}
	return found, holding, i
}

// checkLetters compares the dead letters of the exports with the broken rows.
func (b *catalogBook) checkLetters(ctx context.Context) error {
	letters := map[string]*letter{}
	var order []string
	err := generator.ReadBroken(b.options.Truth, func(t *generator.BrokenRow) error {
		asOf := time.UnixMicro(t.AsOf).UTC()
		if !slices.Contains(b.options.Tables, t.Table) || !b.options.AsOf.IsZero() && asOf.After(b.options.AsOf) || !b.options.Loaded(t.Table, t.Mode, asOf) {
			return nil
		}
		letters[t.PayloadSHA256] = &letter{id: fmt.Sprintf("%s/%s of %v", t.Table, t.Mode, asOf.Format(time.RFC3339)), code: t.Code, path: t.FieldPath, size: t.PayloadSize}
		order = append(order, t.PayloadSHA256)
		return nil
	})
	if err != nil {
		return err
	}
	b.report.WantLetters = len(letters)
	columns := []string{"payload", "payload_size", "error_code", "field_path", "dead_letter_id", "source", "error_message"}
	err = eachFile(ctx, b.store, schemas.DeadLetters.Name, func(key string, file *parquet.File) error {
		b.report.Files++
		return eachRow(file, columns, func(values []parquet.Value) error {
			payload, size := values[0].ByteArray(), values[1].Int64()
			code, fieldPath, id, source := string(values[2].ByteArray()), string(values[3].ByteArray()), values[4].ByteArray(), string(values[5].ByteArray())
			want, wanted := letters[generator.PayloadHash(payload)]
			if !wanted {
				if b.isOurs(source) {
					b.report.DeadLetters++
					b.differ(DeadLetterExtra, "%s (%s %q: %s) of %s in %s: %.200q", id, code, fieldPath, values[6].ByteArray(), source, key, payload)
				}
				return nil
			}
			b.report.DeadLetters++
			if want.seen++; want.seen > 1 {
				b.differ(DeadLetterTwice, "%s of %s again in %s", id, want.id, key)
			}
			// The truth has no path where none is certain.
			if code != want.code || want.path != "" && fieldPath != want.path || size != want.size {
				b.differ(DeadLetterMismatch, "a row of %s is %s at %q with %d bytes, want %s at %q with %d: %.200q",
					want.id, code, fieldPath, size, want.code, want.path, want.size, payload)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, hash := range order {
		if l := letters[hash]; l.seen == 0 {
			b.differ(DeadLetterMissing, "a row of %s, %s at %q, %d bytes", l.id, l.code, l.path, l.size)
		}
	}
	return nil
}

// isOurs tells whether a dead letter comes from a file of the exports that are compared.
func (b *catalogBook) isOurs(source string) bool {
	for _, table := range b.options.Tables {
		for _, mode := range []string{generator.Full, generator.Delta} {
			if strings.Contains(source, generator.CatalogDir+"/"+table+"/"+mode+"/as_of=") {
				return true
			}
		}
	}
	return false
}
