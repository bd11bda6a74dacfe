// Package catalog carries who the users are and what can be shown to them into versioned tables of the lake.
//
//	read --> process --> asof.Update: group by shard, merge, gate, store, seal
//	            \-----> dead letters: group by slot, commit ----^
//
// Process decodes the records of an export, brings them into their normal form and checks them. A version of each table is made
// of its rows and of the version before (package asof); what can't become a row is a dead letter, with the file, the
// place and the field.
//
// # Guarantees
//
// The same exports again change nothing; a run that is killed leaves no version, and the next one finishes what it began.
// For what a version is, and how updates that come late are treated, see package asof.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/transforms/asof"
	"backbone/transforms/files"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

// Plan is what a launch has found out before it begins.
type Plan struct {
	Options
	// Tables are the tables of which a version is to be made; none where all of them are there already.
	Tables []TablePlan
	// Done names the tables whose version is there already, made of the same exports.
	Done []string
	// DeadLetters is the layout of their table.
	DeadLetters lake.Layout
	// Bytes is the size of the files.
	Bytes int64
}

// TablePlan is the part of a plan that one table has.
type TablePlan struct {
	Table   string
	Mapping *mappings.Mapping
	Version asof.Plan
	Tasks   [][]byte // the files to read, or parts of them, encoded
}

// Prepare finds the exports and the versions that they make. o must have passed Validate.
//
// An error that Is asof.ErrConflict says that such a version can't be made.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	p := &Plan{Options: o}
	st, err := lake.OpenStore(ctx, run.Of(o.RunID), o.Lake)
	if err != nil {
		return nil, err
	}
	for _, t := range []struct {
		table   string
		globs   []string
		mapping *mappings.Mapping
	}{
		{schemas.Users.Name, o.Users, o.UsersMapping}, {schemas.Items.Name, o.Items, o.ItemsMapping},
	} {
		if len(t.globs) == 0 {
			continue
		}
		if err := p.add(ctx, st, t.table, t.globs, t.mapping); err != nil {
			return nil, err
		}
	}
	if len(p.Tables) == 0 {
		return p, nil
	}
	fix := lake.Fix
	if o.DryRun {
		fix = lake.Foresee
	}
	p.DeadLetters, err = fix(ctx, st, schemas.DeadLetters.Name, lake.Layout{Window: lake.Day, Shards: 1})
	if err != nil && !errors.Is(err, lake.ErrLayout) {
		return nil, err
	}
	return p, nil
}

// add plans a version of one table.
func (p *Plan) add(ctx context.Context, st *store.Store, table string, globs []string, m *mappings.Mapping) error {
	parts, err := files.PlanParts(ctx, globs, m, p.files())
	if err != nil {
		return err
	}
	t := TablePlan{Table: table, Mapping: m}
	sizes := map[string]int64{}
	for _, task := range slices.Concat(parts...) {
		body, err := task.Encode()
		if err != nil {
			return err
		}
		t.Tasks = append(t.Tasks, body)
		sizes[task.URL] = task.Size
	}
	bytes := int64(0)
	for _, n := range sizes {
		bytes += n
	}
	unpacked := bytes
	if packed(parts) {
		unpacked *= unpacking
	}
	input, err := fingerprint(p.Mode, m, sizes)
	if err != nil {
		return err
	}
	prepare := asof.Prepare
	if p.DryRun {
		prepare = asof.Foresee
	}
	t.Version, err = prepare(ctx, st, table, p.AsOf, p.Mode, input, p.Shards, unpacked)
	if errors.Is(err, asof.ErrDone) {
		p.Done = append(p.Done, table)
		return nil
	}
	if err != nil {
		return err
	}
	p.Tables = append(p.Tables, t)
	p.Bytes += bytes
	return nil
}

// unpacking is how much larger files are than they are packed, about.
const unpacking = 4

// packed tells if any of the files is compressed.
func packed(parts [][]files.Task) bool {
	for _, t := range slices.Concat(parts...) {
		if t.Compression != files.Plain || t.Format == mappings.Parquet {
			return true
		}
	}
	return false
}

// fingerprint tells inputs apart: by mode, mapping, and names and sizes of the files.
func fingerprint(mode asof.Mode, m *mappings.Mapping, sizes map[string]int64) (string, error) {
	b, err := json.Marshal(struct {
		Mode    asof.Mode
		Mapping *mappings.Mapping
		Sizes   map[string]int64 // Marshal sorts it
	}{mode, m, sizes})
	if err != nil {
		return "", err
	}
	h := xxh3.Hash128(b).Bytes()
	return fmt.Sprintf("%x", h), nil
}

// Build adds the pipeline to s. There must be a table to make a version of.
func Build(s beam.Scope, p *Plan) {
	s = s.Scope("catalog")
	var rows, refused []beam.PCollection
	for i := range p.Tables {
		t := &p.Tables[i]
		good, dead := process(s, files.Read(s, t.Tasks), p, t)
		rows, refused = append(rows, good), append(refused, dead)
	}
	// Dead letters are a table like that of interactions. All of the exports' are committed at their end, and before the
	// versions: where a version is there, nobody looks at its exports again.
	groups := beam.GroupByKey(s, beam.Flatten(s, refused...))
	receipts, _ := lake.Write(s, groups, p.lake())
	for i := range p.Tables {
		versions := asof.Update(s, rows[i], receipts, p.version(&p.Tables[i]))
		beam.ParDo0(s, discard, beam.Reshuffle(s, versions)) // prism spins while a stage without a consumer runs
	}
}

// process makes rows and dead letters of the files of a table.
//
//	rows  PCollection<KV<string, []byte>>: a shard of the table, and packets of its rows
//	dead  PCollection<KV<string, []byte>>: a slot of the lake, and packets of its dead letters
func process(s beam.Scope, tasks beam.PCollection, p *Plan, t *TablePlan) (rows, dead beam.PCollection) {
	s = s.Scope("process " + t.Table)
	return beam.ParDo2(s, &processFn{
		Table: t.Table, Mapping: *t.Mapping, Options: p.Options, Shards: t.Version.Shards, DeadLetters: p.DeadLetters.String(),
	}, tasks)
}

// version returns how the version of a table is made.
func (p *Plan) version(t *TablePlan) asof.Options {
	return asof.Options{
		URL: p.Lake, Table: t.Table, Plan: t.Version, Dimensions: t.Mapping.Dimensions(), MaxDeleteFraction: p.MaxDeleteFraction,
		Retain: p.Retain, RunID: p.RunID, SpillDir: p.SpillDir,
	}
}

// lake returns how dead letters are written.
func (p *Plan) lake() lake.Options {
	return lake.Options{
		URL: p.Lake, Layouts: map[string]lake.Layout{schemas.DeadLetters.Name: p.DeadLetters}, RunID: p.RunID, SpillDir: p.SpillDir, Bounded: true,
	}
}
