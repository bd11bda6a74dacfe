package lake_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"backbone/schemas"
	"backbone/transforms/exchange"
	"backbone/transforms/lake"
	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

func init() {
	register.DoFn2x1[string, func(string, []byte), error](&packFn{})
	register.Function1x1(report)
	register.Emitter2[string, []byte]()
}

// packFn makes a row of an id, and sends it to its slot. A real one packs many rows before it flushes.
type packFn struct{ RunID, Layout string }

func (fn *packFn) ProcessElement(id string, emit func(string, []byte)) error {
	layout, err := lake.ParseLayout(fn.Layout)
	if err != nil {
		return err
	}
	spill, err := exchange.Open(run.Of(fn.RunID), "")
	if err != nil {
		return err
	}
	packer := lake.NewPacker(schemas.Interactions, layout, spill.NewBin(), func(p lake.Packet) { emit(p.Key, p.Body) })
	at := time.Date(2026, 11, 22, 14, 30, 0, 0, time.UTC)
	packer.Add(&schemas.Interaction{
		EventID: id, EventTime: schemas.Some(at.UnixMicro()), EventType: "view", UserID: "ann", ItemID: "kettle",
	})
	return packer.Flush()
}

func report(receipt []byte) error {
	var r lake.Receipt
	if err := json.Unmarshal(receipt, &r); err != nil {
		return err
	}
	fmt.Println(r.Folder, r.Files, "rows:", r.Rows, "duplicates:", r.Duplicates)
	return nil
}

// The same two rows are written by two runs: the second finds them in the lake.
func ExampleWrite() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "lake")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	st, err := store.Open(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	layout, err := lake.Fix(ctx, st, schemas.Interactions.Name, lake.Layout{Window: lake.Hour, Shards: 1})
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, id := range []string{"first-run", "second-run"} {
		p, s := beam.NewPipelineWithRoot()
		packets := beam.ParDo(s, &packFn{RunID: id, Layout: layout.String()}, beam.Create(s, "event-1", "event-2"))
		receipts, _ := lake.Write(s, beam.GroupByKey(s, packets), lake.Options{
			URL: dir, RunID: id, Bounded: true, Layouts: map[string]lake.Layout{schemas.Interactions.Name: layout},
		})
		beam.ParDo0(s, report, receipts)
		if _, err := beam.Run(ctx, "prism", p); err != nil {
			fmt.Println(err)
		}
		if err := run.Of(id).Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// interactions/dt=2026-11-22/hour=14 [part-00000-of-00001-000000.parquet] rows: 2 duplicates: 0
	// interactions/dt=2026-11-22/hour=14 [] rows: 0 duplicates: 2
}
