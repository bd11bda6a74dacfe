package asof_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"backbone/schemas"
	"backbone/transforms/asof"
	"backbone/transforms/exchange"
	"backbone/transforms/lake/store"
	"backbone/transforms/run"
)

func init() {
	register.DoFn2x1[string, func(string, []byte), error](&itemFn{})
}

// itemFn makes an item of its title. A real one reads exports, and packs many rows before it flushes.
type itemFn struct{ RunID string }

func (fn *itemFn) ProcessElement(title string, emit func(string, []byte)) error {
	spill, err := exchange.Open(run.Of(fn.RunID), "")
	if err != nil {
		return err
	}
	packer := asof.NewPacker(schemas.Items, 1, spill.NewBin(), emit)
	if err := packer.Add(0, &schemas.Item{ItemID: "kettle", Title: title}); err != nil {
		return err
	}
	return packer.Flush()
}

// Two exports, a day apart, make two versions. What the kettle was on the first day is still known.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "lake")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is among the temporary files
	st, err := store.Open(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = st.Close() }() // only read

	for day, title := range []string{"Kettle", "Kettle, red"} {
		at := time.Date(2026, 3, 2+day, 0, 0, 0, 0, time.UTC)
		runID := "example-" + title
		plan, err := asof.Prepare(ctx, st, "items", at, asof.Full, title, 0, 0)
		if err != nil {
			fmt.Println(err)
			return
		}
		p, s := beam.NewPipelineWithRoot()
		packets := beam.ParDo(s, &itemFn{RunID: runID}, beam.Create(s, title))
		nothingBefore := beam.CreateList(s, [][]byte{{}})
		asof.Update(s, packets, nothingBefore, asof.Options{URL: dir, Table: "items", Plan: plan, RunID: runID})
		err = ptest.Run(p)
		if closeErr := run.Of(runID).Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	for day := 2; day <= 3; day++ {
		at := time.Date(2026, 3, day, 12, 0, 0, 0, time.UTC)
		kettle, err := asof.Find(ctx, st, schemas.Items, "kettle", at)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(at.Format(time.DateOnly), kettle.Title)
	}
	// Output:
	// 2026-03-02 Kettle
	// 2026-03-03 Kettle, red
}
