// Package ledger compares a lake with the truth about the events that went into it (package generator): every event
// id in the lake once, or in the dead letters once. And it compares the tables of users and items with the truth about
// each of their versions.
//
// It reads the files of the lake as any other reader would, with nothing of the code that wrote them but the way to
// open a store.
//
// # Limits
//
// Check holds about 100 bytes for each event of the truth, CheckCatalog about 300 for each version, CatalogHash half of
// that. The other hashes hold nothing.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/testing/generator"
	"backbone/transforms/lake/store"
)

// Options say what is compared.
type Options struct {
	// Truth is the folder with truth.parquet. Required.
	Truth string
	// Lake is the URL of the lake. Required.
	Lake string
	// Window is the span of event time of one partition, at most a day. Default: 1h.
	Window time.Duration
	// Examples is how many of each kind of difference are told one by one. Default: 5.
	Examples int
}

// Kind is a kind of difference.
type Kind int

// The kinds of differences.
const (
	RowMissing         Kind = iota // an event that must be a row is none
	RowExtra                       // a row is of no event that must be one
	RowTwice                       // a row is there again
	RowTime                        // a row has another time than its event
	RowMisplaced                   // a row is in a partition that its time does not belong to
	DeadLetterMissing              // a broken event is no dead letter
	DeadLetterExtra                // a dead letter is of no broken event
	DeadLetterTwice                // a dead letter is there again
	DeadLetterMismatch             // a dead letter has another code, field path or size than its event
	VersionMissing                 // a version of the truth is not there
	VersionExtra                   // a version is none of the truth
	VersionTwice                   // a version is there again
	VersionInterval                // a version ends at another time
	VersionMisplaced               // a version that ended is in the current state, or one that did not is in the history
	VersionContent                 // a version says something else, or is deleted where it must not be
	VersionUnhashed                // a version has no content_hash, or is deleted and has one
	StateWrong                     // as of some time, an id is something else
	kinds
)

var kindNames = [kinds]string{
	"rows missing", "rows extra", "rows twice", "rows with a wrong time", "rows in a wrong partition",
	"dead letters missing", "dead letters extra", "dead letters twice", "dead letters with wrong details",
	"versions missing", "versions extra", "versions twice", "versions with a wrong end", "versions in a wrong table",
	"versions with a wrong content", "versions with a wrong hash", "ids in a wrong state",
}

func (k Kind) String() string { return kindNames[k] }

// Report is what Check found.
type Report struct {
	Files       int               // of both tables
	Rows        int               // in the table of interactions
	DeadLetters int               // in the table of dead letters
	Want        generator.Summary // the truth's totals
	Counts      map[Kind]int      // differences; empty if there are none
	Examples    map[Kind][]string // the first of each kind
}

// OK tells whether the lake is as it must be.
func (r *Report) OK() bool { return len(r.Counts) == 0 }

// String tells all differences, a line each.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows and %d dead letters in %d files; the truth has %d and %d\n", r.Rows, r.DeadLetters, r.Files, r.Want.Rows, r.Want.Broken)
	b.WriteString(tell(r.Counts, r.Examples))
	return b.String()
}

// tell tells differences, a line each.
func tell(counts map[Kind]int, examples map[Kind][]string) string {
	var b strings.Builder
	for kind := range kinds {
		if counts[kind] == 0 {
			continue
		}
		fmt.Fprintf(&b, "%d %v:\n", counts[kind], kind)
		for _, example := range examples[kind] {
			fmt.Fprintf(&b, "  %s\n", example)
		}
		if rest := counts[kind] - len(examples[kind]); rest > 0 {
			fmt.Fprintf(&b, "  and %d more\n", rest)
		}
	}
	if len(counts) == 0 {
		b.WriteString("no differences\n")
	}
	return b.String()
}

// row is an event that must be a row, and what was seen of it.
type row struct {
	time int64
	seen int32
}

// letter is an event that must be a dead letter, and what was seen of it.
type letter struct {
	id, code, path string
	size           int64
	seen           int
}

// book is a check under way.
type book struct {
	options Options
	store   *store.Store
	rows    map[xxh3.Uint128]row // by event_id
	letters map[string]*letter   // by payload_sha256
	report  *Report
}

// Check compares a lake with the truth. Differences are in the report; an error says that the comparison
// could not be made.
func Check(ctx context.Context, o Options) (_ *Report, err error) {
	if o.Window == 0 {
		o.Window = time.Hour
	}
	if o.Examples == 0 {
		o.Examples = 5
	}
	st, err := store.Open(ctx, o.Lake)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	b := &book{
		options: o, store: st,
		rows: map[xxh3.Uint128]row{}, letters: map[string]*letter{},
		report: &Report{Counts: map[Kind]int{}, Examples: map[Kind][]string{}},
	}
	for _, step := range []func(context.Context) error{b.readTruth, b.readRows, b.readLetters, b.findMissing} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	return b.report, nil
}

// differ notes a difference.
func (b *book) differ(kind Kind, format string, args ...any) {
	b.report.Counts[kind]++
	if len(b.report.Examples[kind]) < b.options.Examples {
		b.report.Examples[kind] = append(b.report.Examples[kind], fmt.Sprintf(format, args...))
	}
}

func (b *book) readTruth(context.Context) error {
	want := &b.report.Want
	return generator.ReadTruth(b.options.Truth, func(t *generator.Truth) error {
		want.Events++
		switch t.Verdict {
		case generator.Good.String(), generator.Late.String():
			want.Rows++
			b.rows[xxh3.HashString128(t.EventID)] = row{time: t.EventTime}
		case generator.Repeated.String():
			want.Repeated++
		case generator.Broken.String():
			want.Broken++
			b.letters[t.PayloadSHA256] = &letter{id: t.EventID, code: t.Code, path: t.FieldPath, size: t.PayloadSize}
		default:
			return fmt.Errorf("event %q of the truth: verdict is %q, which is none", t.EventID, t.Verdict)
		}
		return nil
	})
}

func (b *book) readRows(ctx context.Context) error {
	return eachFile(ctx, b.store, schemas.Interactions.Name, func(key string, file *parquet.File) error {
		b.report.Files++
		start, err := partition(path.Dir(key))
		if err != nil {
			return err
		}
		end := start.Add(b.options.Window)
		return eachRow(file, []string{"event_id", "event_time"}, func(values []parquet.Value) error {
			b.report.Rows++
			id, at := values[0].ByteArray(), values[1].Int64()
			hash := xxh3.Hash128(id)
			want, wanted := b.rows[hash]
			if !wanted {
				b.differ(RowExtra, "%q in %s", id, key)
				return nil
			}
			want.seen++
			b.rows[hash] = want
			if want.seen > 1 {
				b.differ(RowTwice, "%q again in %s", id, key)
			}
			if at != want.time {
				b.differ(RowTime, "%q has %v, want %v", id, time.UnixMicro(at).UTC(), time.UnixMicro(want.time).UTC())
			}
			if t := time.UnixMicro(at); t.Before(start) || !t.Before(end) {
				b.differ(RowMisplaced, "%q of %v in %s", id, t.UTC(), key)
			}
			return nil
		})
	})
}

func (b *book) readLetters(ctx context.Context) error {
	columns := []string{"payload", "payload_size", "error_code", "field_path", "dead_letter_id", "error_message"}
	return eachFile(ctx, b.store, schemas.DeadLetters.Name, func(key string, file *parquet.File) error {
		b.report.Files++
		return eachRow(file, columns, func(values []parquet.Value) error {
			b.report.DeadLetters++
			payload, size := values[0].ByteArray(), values[1].Int64()
			code, fieldPath := string(values[2].ByteArray()), string(values[3].ByteArray())
			want, wanted := b.letters[generator.PayloadHash(payload)]
			if !wanted {
				b.differ(DeadLetterExtra, "%s (%s %q: %s) in %s: %.200q", values[4].ByteArray(), code, fieldPath, values[5].ByteArray(), key, payload)
				return nil
			}
			want.seen++
			if want.seen > 1 {
				b.differ(DeadLetterTwice, "%s of event %q again in %s", values[4].ByteArray(), want.id, key)
			}
			// The truth has no path where none is certain.
			if code != want.code || want.path != "" && fieldPath != want.path || size != want.size {
				b.differ(DeadLetterMismatch, "event %q is %s at %q with %d bytes, want %s at %q with %d: %.200q",
					want.id, code, fieldPath, size, want.code, want.path, want.size, payload)
			}
			return nil
		})
	})
}

// findMissing reads the truth again, since rows are known by the hash of their id only.
func (b *book) findMissing(context.Context) error {
	return generator.ReadTruth(b.options.Truth, func(t *generator.Truth) error {
		switch t.Verdict {
		case generator.Good.String(), generator.Late.String():
			if b.rows[xxh3.HashString128(t.EventID)].seen == 0 {
				b.differ(RowMissing, "%q of %v, %s", t.EventID, time.UnixMicro(t.EventTime).UTC(), t.Verdict)
			}
		case generator.Broken.String():
			if b.letters[t.PayloadSHA256].seen == 0 {
				b.differ(DeadLetterMissing, "event %q, %s at %q, %d bytes", t.EventID, t.Code, t.FieldPath, t.PayloadSize)
			}
		}
		return nil
	})
}

// partition returns the start of the span that a folder is for, such as interactions/dt=2026-11-22/hour=14.
func partition(folder string) (time.Time, error) {
	_, parts, _ := strings.Cut(folder, "/")
	for _, layout := range []string{"dt=2006-01-02", "dt=2006-01-02/hour=15", "dt=2006-01-02/hour=15/minute=04"} {
		if t, err := time.Parse(layout, parts); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no partition of hours, such as dt=2026-11-22/hour=14", folder)
}
