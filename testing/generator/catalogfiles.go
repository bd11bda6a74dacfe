package generator

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"backbone/schemas"
)

// catalog makes exports of a shop.
type catalog struct {
	options CatalogOptions
	seed    uint64
	shop    *shop

	mu    sync.Mutex
	lines int // that all exports have written
}

// WriteCatalog writes the exports of users and items, and the truth about them, to dir/catalog:
//
//	users/full/as_of=20260302T000000Z/part-0000.jsonl   all users at the end of the first day
//	users/delta/as_of=20260302T000000Z/part-0000.jsonl  those that changed in it
//	items/...                                           as users
//	truth.parquet                                       each version of each (Version)
//	truth_broken.parquet                                what must become a dead letter (BrokenRow)
//	truth.json                                          the totals (CatalogSummary)
//
// Rows of a file are in no order. It makes dir and its folders, and refuses to write where there is a catalogue already.
func WriteCatalog(ctx context.Context, dir string, o CatalogOptions) (CatalogSummary, error) {
	var none CatalogSummary
	if err := o.Validate(); err != nil {
		return none, fmt.Errorf("generator: %w", err)
	}
	o = o.Defaults()
	dir = filepath.Join(dir, CatalogDir)
	there, err := filepath.Glob(filepath.Join(dir, "*", "*", "as_of=*"))
	if err != nil {
		return none, fmt.Errorf("generator: look into %q: %w", dir, err)
	}
	if len(there) > 0 {
		return none, fmt.Errorf("generator: %q has a catalogue already: remove it or choose another folder", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return none, fmt.Errorf("generator: make the folder of the catalogue: %w", err)
	}
	c := &catalog{options: o, seed: mix(o.Seed + 1), shop: newTraits(o.Seed)}
	total := CatalogSummary{Tables: map[string]TableSummary{}, Seed: o.Seed, Start: o.Start.UTC(), Days: o.Days}
	if err := c.write(ctx, dir, &total); err != nil {
		return none, fmt.Errorf("generator: %w", err)
	}
	return total, nil
}

func (c *catalog) write(ctx context.Context, dir string, total *CatalogSummary) (err error) {
	broken, closeBroken, err := newParquet[BrokenRow](filepath.Join(dir, BrokenFile), truthRows)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBroken()) }()
	for day := range c.options.Days {
		var exports [4]*export
		group, ctx := errgroup.WithContext(ctx)
		for i, mode := range []string{Full, Delta} {
			group.Go(func() (err error) {
				exports[i], err = writeExport(ctx, c, c.people(), dir, mode, day)
				return err
			})
			group.Go(func() (err error) {
				exports[i+2], err = writeExport(ctx, c, c.goods(), dir, mode, day)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for _, e := range exports {
			total.Exports = append(total.Exports, e.summary)
			if _, err := broken.Write(e.broken); err != nil {
				return fmt.Errorf("write %s: %w", BrokenFile, err)
			}
		}
	}
	if err := c.writeTruth(ctx, dir, total); err != nil {
		return err
	}
	return writeSummary(dir, total)
}

// export is one export under way.
type export struct {
	summary ExportSummary
	broken  []BrokenRow
	files   []*bufio.Writer
	counted int // lines that catalog.lines has
}

// ExportFolder is the folder of the export of a table in a mode as of a time, below CatalogDir.
func ExportFolder(table, mode string, asOf time.Time) string {
	return filepath.Join(table, mode, "as_of="+asOf.UTC().Format("20060102T150405Z"))
}

// writeExport writes the export of a population in a mode at the end of a day.
func writeExport[R any](ctx context.Context, c *catalog, people *population[R], dir, mode string, day int) (e *export, err error) {
	o := &c.options
	table := people.table.Name
	asOf := time.UnixMicro(o.asOf(day)).UTC()
	e = &export{summary: ExportSummary{Table: table, Mode: mode, AsOf: asOf, BrokenCodes: map[string]int{}}}
	folder := filepath.Join(dir, ExportFolder(table, mode, asOf))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of an export: %w", err)
	}
	for i := range o.Files {
		file, err := os.Create(filepath.Join(folder, fmt.Sprintf("part-%04d.jsonl", i)))
		if err != nil {
			return nil, fmt.Errorf("create a file of an export: %w", err)
		}
		w := bufio.NewWriterSize(file, 1<<17)
		e.files = append(e.files, w)
		defer func() { err = errors.Join(err, w.Flush(), file.Close()) }()
	}

	// Which export it is, and dice for what is in it besides its rows.
	number := uint64(day)*2 + 1
	if mode == Full {
		number++
	}
	d := newDice(c.seed, people.kind, forOrder, number)
	order := newShuffle(people.count, &d)
	kinds := brokenOf(table)
	next := d.below(len(kinds))
	rows := &exporter[R]{catalog: c, people: people}
	var line []byte
	var stages []stage
	var recent [64]struct { // rows that went out not long ago
		n     int
		stage stage
	}
	for i := range people.count {
		if i%progressEvery == 0 {
			if err := ctx.Err(); err != nil {
				return e, fmt.Errorf("stopped at %s: %w", folder, err)
			}
			c.progress(e)
		}
		n := order.at(i)
		stages = o.stages(stages[:0], people.kind, uint64(n), day)
		if len(stages) == 0 {
			continue
		}
		last := len(stages) - 1
		now := stages[last]
		e.count(stages, day)
		if mode == Full && now.deleted || mode == Delta && now.day != day {
			continue
		}

		older := -1
		if last > 0 && d.unit() < o.OlderShare {
			if older = d.below(last); stages[older].deleted {
				older = -1
			}
		}
		first := d.one(2)
		if older >= 0 && first {
			e.summary.Older++
			line = rows.append(line[:0], n, stages[older], number)
			err = e.write(line, &d)
		}
		e.summary.Rows++
		line = rows.append(line[:0], n, now, number)
		err = errors.Join(err, e.write(line, &d))
		if older >= 0 && !first {
			e.summary.Older++
			line = rows.append(line[:0], n, stages[older], number)
			err = errors.Join(err, e.write(line, &d))
		}

		recent[(e.summary.Rows-1)%len(recent)].n, recent[(e.summary.Rows-1)%len(recent)].stage = n, now
		if d.unit() < o.DuplicateShare {
			again := recent[d.below(min(e.summary.Rows, len(recent)))]
			e.summary.Repeated++
			line = rows.append(line[:0], again.n, again.stage, number)
			err = errors.Join(err, e.write(line, &d))
		}
		if d.unit() < o.BrokenShare {
			reference := fmt.Sprintf("%s-%s-%d-%d", table, mode, asOf.Unix(), e.summary.Broken)
			at := o.asOf(day-1) + 1 + int64(d.roll()>>1%uint64(dayMicros))
			kind := kinds[next%len(kinds)]
			next++
			line = appendBroken(line[:0], kind, people.table.Columns[0].Name, reference, at, d.roll())
			e.note(kind, people.table.Columns[0].Name, line)
			err = errors.Join(err, e.write(line, &d))
		}
		if err != nil {
			return e, fmt.Errorf("write to %s: %w", folder, err)
		}
	}
	c.progress(e)
	return e, nil
}

// count notes what happened to an id on the day of an export.
func (e *export) count(stages []stage, day int) {
	switch now := stages[len(stages)-1]; {
	case now.day != day:
	case len(stages) == 1:
		e.summary.New++
	case now.deleted:
		e.summary.Deleted++
	case now.again:
		e.summary.Recreated++
	default:
		e.summary.Changed++
	}
}

// note writes down a broken row.
func (e *export) note(kind brokenRow, idName string, line []byte) {
	s := &e.summary
	s.Broken++
	s.BrokenCodes[string(kind.Code)]++
	e.broken = append(e.broken, BrokenRow{
		Table: s.Table, Mode: s.Mode, AsOf: s.AsOf.UnixMicro(), Code: string(kind.Code), FieldPath: kind.path(idName),
		PayloadSize: int64(len(line)), PayloadSHA256: PayloadHash(line),
	})
}

// write writes a line to one of the files.
func (e *export) write(line []byte, d *dice) error {
	e.summary.Lines++
	e.summary.Bytes += int64(len(line))
	w := e.files[d.below(len(e.files))]
	if _, err := w.Write(line); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

func (c *catalog) progress(e *export) {
	if c.options.Progress == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines += e.summary.Lines - e.counted
	e.counted = e.summary.Lines
	c.options.Progress(c.lines)
}

// shuffle puts the numbers from 0 to n-1 into another order, without a list of them.
type shuffle struct{ n, factor, offset uint64 }

func newShuffle(n int, d *dice) shuffle {
	s := shuffle{n: uint64(n), factor: 1, offset: uint64(d.below(n))}
	for range 100 {
		if f := uint64(1 + d.below(n)); gcd(f, s.n) == 1 {
			s.factor = f
			break
		}
	}
	return s
}

func (s shuffle) at(i int) int {
	high, low := bits.Mul64(uint64(i), s.factor)
	_, rest := bits.Div64(high%s.n, low, s.n)
	return int((rest + s.offset) % s.n)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// versionsOfGroup is how many rows a row group of the truth holds, and so how much of it is in memory.
const versionsOfGroup = 50_000

// writeTruth writes truth.parquet.
func (c *catalog) writeTruth(ctx context.Context, dir string, total *CatalogSummary) (err error) {
	w, closeAll, err := newParquet[Version](filepath.Join(dir, TruthFile), versionsOfGroup)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	write := func(rows []Version) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped in the truth: %w", err)
		}
		if _, err := w.Write(rows); err != nil {
			return fmt.Errorf("write %s: %w", TruthFile, err)
		}
		return nil
	}
	if total.Tables[schemas.Users.Name], err = eachVersion(c, c.people(), write); err != nil {
		return err
	}
	total.Tables[schemas.Items.Name], err = eachVersion(c, c.goods(), write)
	return err
}

// eachVersion calls f with the versions of a population, some at a time.
func eachVersion[R any](c *catalog, people *population[R], f func([]Version) error) (total TableSummary, err error) {
	const some = 1024
	batch := make([]Version, 0, some+c.options.Days)
	var stages []stage
	var row R
	var id, text []byte
	for n := range people.count {
		stages = c.options.stages(stages[:0], people.kind, uint64(n), c.options.Days-1)
		id = people.id(id[:0], n)
		for i, s := range stages {
			v := Version{Table: people.table.Name, ID: string(id), ValidFrom: s.from, IsDeleted: s.deleted}
			if i+1 < len(stages) {
				v.ValidTo = stages[i+1].from
			}
			if !s.deleted {
				people.reset(&row)
				people.fill(&row, n, s.edition)
				text = Content(text[:0], people.table, &row)
				v.Content = string(text)
			}
			batch = append(batch, v)
		}
		if len(stages) > 0 {
			total.IDs++
			total.Versions += len(stages)
			if !stages[len(stages)-1].deleted {
				total.Live++
			}
		}
		if len(batch) >= some || n == people.count-1 {
			if err := f(batch); err != nil {
				return total, err
			}
			batch = batch[:0]
		}
	}
	return total, nil
}
