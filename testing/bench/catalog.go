package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/testing/generator"
)

// catalogScript does the job in SQL. It does less than "backbone catalog", all of which is in its favour: it does not check rows, nor
// bring them into normal form (the exports are in it), hashes no content, of several updates in a delta it keeps the last one, and
// it does not sync files to disk.
//
//go:embed catalog.py
var catalogScript string

// countScript prints what of a state and its history must be the same for all.
//
// arguments: glob of the state, glob of the history or nothing
const countScript = `
import sys, duckdb
db = duckdb.connect()
db.execute("set TimeZone='UTC'")
db.execute("set threads=2")
db.execute("set enable_progress_bar=false")
def row_hash(*more):
    return f"""sum(hash(item_id, epoch_us(updated_time), epoch_us(valid_from), is_deleted, title, price, currency, tags, content,
        epoch_us(expires), embedding::varchar, attributes::varchar, {', '.join(more) or 'null'})::hugeint)"""
state, history = sys.argv[1:]
print("%d live, %d deleted, hash %d" % db.execute(f"""
    select count(*) filter (not is_deleted), count(*) filter (is_deleted), {row_hash()} from read_parquet('{state}', hive_partitioning=false)""").fetchone())
if history:
    print("%d closed, hash %d" % db.execute(f"select count(*), {row_hash('epoch_us(valid_to)')} from read_parquet('{history}', hive_partitioning=false)").fetchone())
`

// exports are the items of a shop, as of two days.
type exports struct {
	dir   string
	truth generator.CatalogSummary
}

// glob matches the files of an export.
func (e *exports) glob(mode string, day int) string {
	return filepath.Join(e.dir, generator.CatalogDir, generator.ExportFolder(schemas.Items.Name, mode, e.asOf(day)), "*.jsonl")
}

func (e *exports) asOf(day int) time.Time { return e.truth.Start.AddDate(0, 0, day+1) }

// summary tells what an export holds.
func (e *exports) summary(mode string, day int) generator.ExportSummary {
	for _, s := range e.truth.Exports {
		if s.Table == schemas.Items.Name && s.Mode == mode && s.AsOf.Equal(e.asOf(day)) {
			return s
		}
	}
	return generator.ExportSummary{}
}

// catalogExports returns the exports of so many items, which are generated where they are not there yet.
func (b *bench) catalogExports(ctx context.Context) (*exports, error) {
	version, err := b.catalogFingerprint(ctx)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("items-%d-seed-%d-", b.items, b.seed)
	e := &exports{dir: filepath.Join(b.cache, name+version)}
	if e.truth, err = generator.ReadCatalogSummary(e.dir); err == nil {
		return e, nil
	}
	old, err := filepath.Glob(filepath.Join(b.cache, name+"*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if err := b.needDisk(int64(b.items) * 3300); err != nil { // two full exports, two deltas and the truth
		return nil, err
	}
	fmt.Fprintf(b.log, "generating %d items\n", b.items)
	making := filepath.Join(b.work, "making")
	if err := b.generateCatalog(ctx, making, b.items); err != nil {
		return nil, err
	}
	if err := os.Rename(making, e.dir); err != nil {
		return nil, err
	}
	e.truth, err = generator.ReadCatalogSummary(e.dir)
	return e, err
}

// generateCatalog makes rows in normal form, none of them broken: SQL does not look for that.
func (b *bench) generateCatalog(ctx context.Context, dir string, items int) error {
	_, _, err := measure(ctx, b.backbone, "generate", "--events", "0", "--days", "2", "--users", "100", "--items", strconv.Itoa(items),
		"--odd_share", "0", "--broken_share", "0", "--files", strconv.Itoa(batchFiles), "--seed", strconv.FormatUint(b.seed, 10), "--out", dir)
	return err
}

// catalogFingerprint names what the generator makes, by a small shop.
func (b *bench) catalogFingerprint(ctx context.Context) (string, error) {
	dir := filepath.Join(b.work, "small")
	if err := b.generateCatalog(ctx, dir, 300); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(dir, generator.CatalogDir, schemas.Items.Name, "*", "*", "*.jsonl"))
	if err != nil {
		return "", err
	}
	h := xxh3.New()
	for _, name := range files { // in the order of their names
		body, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		_, _ = h.Write(body) // a hash does not fail
	}
	return fmt.Sprintf("%016x", h.Sum64()), os.RemoveAll(dir)
}

// catalog compares "backbone catalog" and DuckDB: the first export of all items, the next day's, and what has changed in it.
func (b *bench) catalog(ctx context.Context) ([]*Section, error) {
	in, err := b.catalogExports(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.needDisk(in.summary(generator.Full, 0).Bytes * 3); err != nil {
		return nil, err
	}
	python, err := findPython(ctx)
	if err != nil {
		return nil, err // nobody else can tell if a state is right
	}
	base := filepath.Join(b.work, "base") // states after the first day, on which the others build
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(base) }()
	var sections []*Section
	for _, job := range []struct {
		title, mode string
		day         int
	}{
		{"first load", generator.Full, 0}, {"full export of the next day", generator.Full, 1}, {"delta of the next day", generator.Delta, 1},
	} {
		export := in.summary(job.mode, job.day)
		s := &Section{
			Title: fmt.Sprintf("Catalog of %d items, %s: %d rows, %d MB", b.items, job.title, export.Lines, export.Bytes/1e6),
			Unit:  "rows",
		}
		same := &agreement{}
		c := &catalogJob{bench: b, python: python, in: in, base: base, mode: job.mode, day: job.day, same: same}
		// Also with a delta, all of the table is written again.
		if err := b.compare(ctx, s, int64(in.summary(generator.Full, job.day).Lines), []contender{
			{"backbone catalog", c.backbone}, {"DuckDB", c.duckdb},
		}); err != nil {
			return nil, err
		}
		s.Aims = []Aim{
			{What: "times faster than DuckDB", Got: s.Rows[1].WallRatio, Least: 1},
			{What: "memory in MB", Got: s.Rows[0].Median(rss) / 1e6, Most: 1000},
		}
		s.Notes = append(s.Notes, "equal rows: "+strings.ReplaceAll(strings.TrimSpace(same.text), "\n", ", "))
		sections = append(sections, s)
	}
	return sections, nil
}

// catalogJob is one export that is carried into a table.
type catalogJob struct {
	bench  *bench
	python string
	in     *exports
	base   string
	mode   string
	day    int
	same   *agreement
}

func (j *catalogJob) backbone(ctx context.Context, lake string, round int) (Sample, error) {
	if j.day > 0 { // nobody changes files that are there: they need not be copied
		if _, _, err := measure(ctx, "cp", "-al", filepath.Join(j.base, "backbone"), lake); err != nil {
			return Sample{}, err
		}
	}
	b := j.bench
	summary := filepath.Join(b.work, "summary.json")
	asOf := j.in.asOf(j.day)
	args := []string{
		"catalog", "--items", j.in.glob(j.mode, j.day), "--mode", j.mode, "--as_of", asOf.Format(time.RFC3339), "--lake", lake,
		"--summary", summary, "--spill_dir", filepath.Join(b.work, "spill"),
	}
	sample, _, err := measure(ctx, b.backbone, append(args, b.profile(fmt.Sprintf("catalog-%s-%d", j.mode, j.day), round)...)...)
	if err != nil {
		return sample, err
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return sample, err
	}
	o, err := parseOutcome(text)
	if err != nil {
		return sample, err
	}
	if want := j.in.summary(j.mode, j.day).Lines; int(o.Read) != want || o.DeadLettered != 0 {
		return sample, fmt.Errorf("wrong result: %d rows read, %d dead letters; want %d, none", o.Read, o.DeadLettered, want)
	}
	files := func(table string) string {
		return filepath.Join(lake, table, "as_of="+asOf.Format("20060102T150405Z"), "*.parquet")
	}
	return sample, j.end(ctx, "backbone", lake, files(schemas.Items.Name), files(schemas.HistoryOf(schemas.Items.Name)))
}

func (j *catalogJob) duckdb(ctx context.Context, lake string, _ int) (Sample, error) {
	before := ""
	if j.day > 0 {
		before = filepath.Join(j.base, "duckdb", "state.parquet")
	}
	files, err := filepath.Glob(j.in.glob(j.mode, j.day))
	if err != nil {
		return Sample{}, err
	}
	args := []string{"-c", catalogScript, j.mode, before, lake, j.in.asOf(j.day).Format(time.RFC3339), strconv.Itoa(threads()), duckdbMemory}
	sample, _, err := measure(ctx, j.python, append(args, files...)...)
	if err = errors.Join(err, os.RemoveAll(lake+".tmp")); err != nil {
		return sample, err
	}
	return sample, j.end(ctx, "duckdb", lake, filepath.Join(lake, "state.parquet"), filepath.Join(lake, "history.parquet"))
}

// end compares what a run has made with that of the others. The first state is kept for the days after it.
func (j *catalogJob) end(ctx context.Context, name, lake, state, history string) error {
	if j.day == 0 {
		history = ""
	}
	_, out, err := measure(ctx, j.python, "-c", countScript, state, history)
	if err != nil {
		return err
	}
	if err := j.same.agree(string(out)); err != nil {
		return err
	}
	if kept := filepath.Join(j.base, name); j.day == 0 {
		if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) {
			return os.Rename(lake, kept)
		}
	}
	return nil
}
