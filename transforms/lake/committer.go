package lake

import (
	"context"
	"fmt"

	"backbone/schemas"
	"backbone/transforms/dedup"
	"backbone/transforms/lake/digest"
	"backbone/transforms/lake/store"
)

// Committer commits chunks of rows to one table without a pipeline, with the guarantees of this package. It is safe for
// several goroutines: those that commit to one slot wait for each other.
type Committer struct{ committer *committer }

// NewCommitter returns the committer of a table of the lake in st. Of o it takes Layouts, which must have that of the
// table as Fix returned it, RunID, Limits, Memory and Digests.
func NewCommitter(st *store.Store, table string, o Options) (*Committer, error) {
	c, err := openCommitter(st, table, o)
	if err != nil {
		return nil, err
	}
	return &Committer{c}, nil
}

func openCommitter(st *store.Store, table string, o Options) (*committer, error) {
	o = o.withDefaults()
	layout, ok := o.Layouts[table]
	if !ok {
		return nil, fmt.Errorf("lake: table %q has no layout", table)
	}
	var codec tableCodec
	switch table {
	case schemas.Interactions.Name:
		t := newTable(schemas.Interactions, (*schemas.Interaction).Reset)
		if o.Digests {
			t.digests = func() digester[schemas.Interaction] { return digest.NewBuilder() }
		}
		codec = t
	case schemas.Contexts.Name:
		codec = newTable(schemas.Contexts, (*schemas.ContextEvent).Reset)
	case schemas.DeadLetters.Name:
		codec = newTable(schemas.DeadLetters, (*schemas.DeadLetter).Reset)
	default:
		return nil, fmt.Errorf("lake: table %q is unknown", table)
	}
	return &committer{
		store: st, layout: layout, table: codec, runID: o.RunID, writer: newWriterID(),
		limits: o.Limits, slots: dedup.NewCache[*slot](o.Memory),
	}, nil
}

// Commit makes the rows of chunks (package rows), all of one slot, durable, each once. The chunks are not changed, and
// not needed after it returns.
func (c *Committer) Commit(ctx context.Context, at Slot, chunks [][]byte) (Receipt, error) {
	return c.committer.commit(ctx, at, chunks)
}
