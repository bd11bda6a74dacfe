package interactions

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/datasets"
	"backbone/testing/generator"
	"backbone/testing/ledger"
	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
	"backbone/transforms/lake"
	"backbone/transforms/run"
	"backbone/transforms/windows"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/*.golden anew; read the difference before you commit it")

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

func init() {
	register.DoFn2x0[string, func(*[]byte) bool](&keysFn{})
	register.Iter1[[]byte]()
}

// writeFile makes an input file, last modified on 2025-03-03.
func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 3, 3, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	return path
}

// optionsFor returns options that read input into a lake.
func optionsFor(lakeDir string, input ...string) Options {
	o := Defaults()
	o.Input, o.Lake, o.FlushInterval = input, lakeDir, 100*time.Millisecond
	return o
}

var launches struct {
	sync.Mutex
	n int
}

func nextRunID(t testing.TB) string {
	t.Helper()
	launches.Lock()
	defer launches.Unlock()
	launches.n++
	return fmt.Sprintf("%s/%d", t.Name(), launches.n)
}

// prepare validates and prepares a launch; its run ends with the test.
func prepare(t *testing.T, o Options) (*Plan, *run.Run) {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	r := run.Of(o.RunID)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	plan, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return plan, r
}

// launch runs the pipeline over files to its end, and returns what it counted.
func launch(t *testing.T, o Options) map[string]int64 {
	t.Helper()
	o.RunID = nextRunID(t)
	plan, r := prepare(t, o)
	p, s := beam.NewPipelineWithRoot()
	Build(s, plan)
	ptest.RunAndValidate(t, p)
	return balanced(t, r.Counts())
}

// stream runs the pipeline over a subscription until so many events are settled, then drains it.
func stream(t *testing.T, o Options, events int64) map[string]int64 {
	t.Helper()
	o.RunID = nextRunID(t)
	plan, r := prepare(t, o)
	p, s := beam.NewPipelineWithRoot()
	Build(s, plan)
	ended := make(chan error, 1)
	go func() { ended <- ptest.Run(p) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for settled(r.Counts()) < events {
		select {
		case err := <-ended:
			t.Fatalf("the pipeline ended: %v", err)
		case <-ctx.Done():
			t.Fatalf("%v: counters %v, want %d events", ctx.Err(), r.Counts(), events)
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.Drain()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return balanced(t, r.Counts())
}

func settled(c map[string]int64) int64 {
	return c["lake/committed"] + c["lake/duplicate"] + c["lake/dead_lettered"]
}

// balanced sees that every event has become a row, a dead letter, or was there.
func balanced(t testing.TB, c map[string]int64) map[string]int64 {
	t.Helper()
	if c["events/read"] != settled(c) {
		t.Errorf("counters %v: events/read is not what was settled", c)
	}
	return c
}

func wantCounts(t testing.TB, c map[string]int64, committed, duplicate, dead int64) {
	t.Helper()
	if c["lake/committed"] != committed || c["lake/duplicate"] != duplicate || c["lake/dead_lettered"] != dead {
		t.Errorf("%d committed, %d duplicate, %d dead; want %d, %d, %d",
			c["lake/committed"], c["lake/duplicate"], c["lake/dead_lettered"], committed, duplicate, dead)
	}
}

// row is a row by the names of its columns, the absent ones left out.
type row map[string]any

// rowsIn reads some columns of a table, or all, sorted by the first.
func rowsIn(t testing.TB, lakeDir, table string, columns ...string) []row {
	t.Helper()
	var all []row
	eachParquet(t, lakeDir, table, func(path string, f *parquet.File) {
		names := f.Schema().Columns()
		for _, group := range f.RowGroups() {
			reader := group.Rows()
			for {
				buffer := make([]parquet.Row, 16)
				n, err := reader.ReadRows(buffer)
				for _, values := range buffer[:n] {
					r := row{}
					values.Range(func(i int, values []parquet.Value) bool {
						name := strings.Join(names[i], ".")
						if values[0].IsNull() && len(values) == 1 || len(columns) > 0 && !slices.Contains(columns, name) {
							return true
						}
						if strings.Contains(name, ".list.") || strings.Contains(name, ".key_value.") {
							var list []any
							for _, v := range values {
								list = append(list, plain(v))
							}
							r[name] = list
						} else {
							r[name] = plain(values[0])
						}
						return true
					})
					all = append(all, r)
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
			}
			_ = reader.Close()
		}
	})
	if len(columns) > 0 {
		slices.SortFunc(all, func(a, b row) int {
			return cmp.Compare(fmt.Sprint(a[columns[0]]), fmt.Sprint(b[columns[0]]))
		})
	}
	return all
}

func plain(v parquet.Value) any {
	switch v.Kind() {
	case parquet.ByteArray:
		return string(v.ByteArray())
	case parquet.Double:
		return v.Double()
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int64:
		return v.Int64()
	}
	return nil
}

func eachParquet(t testing.TB, lakeDir, table string, each func(path string, f *parquet.File)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(lakeDir, table), func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".parquet" {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
		if err == nil {
			each(path, f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

const chromeOnMac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_3) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0.3987.87 Safari/537.36"

// An export with what exports hold: rows, one of them twice, and three kinds of broken events.
const export = `{"event_id":"e1","event_time":"2025-03-02T14:30:00Z","user_id":"ann","event_type":"view","item_id":"kettle","shelf":3}
{"event_id":"e2",
{"event_id":"e3","event_time":"2025-03-02T14:31:00Z","event_type":"view","item_id":"mug"}
{"event_id":"e4","event_time":"2025-03-02T14:32:00Z","user_id":"ann","event_type":"teleport","item_id":"mug"}
{"event_id":"e1","event_time":"2025-03-02T14:30:00Z","user_id":"ann","event_type":"view","item_id":"kettle","shelf":3}

{"event_id":"e6","event_time":"2025-03-02T15:00:00Z","visitor_id":"v","event_type":"purchase","items":[{"item_id":"pot","quantity":2}],"revenue":9.5}`

// Rows go to the hour that they belong to, the rest to the dead letters with what is wrong; running it again commits nothing.
func TestRowsAndDeadLetters(t *testing.T) {
	dir := t.TempDir()
	input := writeFile(t, "export.jsonl", export)
	wantCounts(t, launch(t, optionsFor(dir, input)), 2, 1, 3)

	at := time.Date(2025, 3, 2, 14, 30, 0, 0, time.UTC).UnixMicro()
	want := []row{
		{"event_id": "e1", "event_time": at, "user_id": "ann", "event_type": "view", "feedback_kind": "implicit", "item_id": "kettle",
			"extra.key_value.key": []any{"shelf"}, "extra.key_value.value": []any{"3"}, "lineage.source": input, "lineage.offset": int64(0)},
		{"event_id": "e6", "event_time": at + 30*time.Minute.Microseconds(), "visitor_id": "v", "event_type": "purchase", "feedback_kind": "implicit", "revenue": 9.5,
			"items.list.element.item_id": []any{"pot"}, "items.list.element.quantity": []any{int64(2)},
			"lineage.source": input, "lineage.offset": int64(strings.Index(export, `{"event_id":"e6"`))},
	}
	got := rowsIn(t, dir, "interactions", "event_id", "event_time", "user_id", "visitor_id", "event_type", "feedback_kind", "item_id", "revenue",
		"items.list.element.item_id", "items.list.element.quantity", "extra.key_value.key", "extra.key_value.value", "lineage.source", "lineage.offset")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}

	lines := strings.Split(export, "\n")
	letter := func(line int, failure, stage, code, path string) row {
		r := row{"failure_type": failure, "stage": stage, "error_code": code, "payload": lines[line], "payload_size": int64(len(lines[line])),
			"offset": int64(strings.Index(export, lines[line])), "received_time": time.Date(2025, 3, 3, 0, 0, 0, 0, time.UTC).UnixMicro()}
		if path != "" {
			r["field_path"] = path
		}
		return r
	}
	want = []row{
		letter(1, "decode", "interactions.decode", "syntax", ""),
		letter(2, "validate", "interactions.validate", "missing", "user_id"),
		letter(3, "validate", "interactions.validate", "unknown_type", "event_type"),
	}
	got = rowsIn(t, dir, "dead_letters", "payload", "failure_type", "stage", "error_code", "field_path", "payload_size", "offset", "received_time")
	slices.SortFunc(got, func(a, b row) int { return cmp.Compare(a["offset"].(int64), b["offset"].(int64)) })
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}

	folders, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range folders {
		name, _ := filepath.Rel(dir, f)
		names = append(names, name)
	}
	if diff := gocmp.Diff([]string{
		"dead_letters/dt=2025-03-03/_SUCCESS", "dead_letters/dt=2025-03-03/part-00000-of-00001-000000.parquet",
		"interactions/dt=2025-03-02/hour=14", "interactions/dt=2025-03-02/hour=15",
	}, names); diff != "" {
		t.Errorf("files and folders (-want +got):\n%s", diff)
	}

	wantCounts(t, launch(t, optionsFor(dir, input)), 0, 6, 0)
}

// What a generator knows about its events is what the lake holds, also where files are read in parts and chunks wait
// on disk.
func TestLakeHoldsTheTruth(t *testing.T) {
	events := t.TempDir()
	g, err := generator.New(generator.Options{Events: 3000, Files: 2, Seed: 7, BrokenShare: 0.05})
	if err != nil {
		t.Fatal(err)
	}
	truth, err := g.WriteFiles(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	o := optionsFor(t.TempDir(), filepath.Join(events, generator.EventsDir, "*.jsonl"))
	o.SpillDir, o.Shards, o.RangeBytes = t.TempDir(), 2, 100<<10
	wantCounts(t, launch(t, o), int64(truth.Rows), int64(truth.Repeated), int64(truth.Broken))
	wantCounts(t, launch(t, o), 0, int64(truth.Events), 0)
	report, err := ledger.Check(t.Context(), ledger.Options{Truth: events, Lake: o.Lake})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Error(report)
	}
}

// A mapping declares a site's own types; others are refused.
func TestEventTypesOfAMapping(t *testing.T) {
	m := *mappings.Native()
	m.EventTypes = map[string]string{"teleport": schemas.Explicit}
	o := optionsFor(t.TempDir(), writeFile(t, "export.jsonl", export))
	o.Mapping = &m
	wantCounts(t, launch(t, o), 3, 1, 2)
	got := rowsIn(t, o.Lake, "interactions", "event_id", "event_type", "feedback_kind")
	if want := (row{"event_id": "e4", "event_type": "teleport", "feedback_kind": "explicit"}); gocmp.Diff(want, got[1]) != "" {
		t.Errorf("row %v, want %v", got[1], want)
	}
}

// A table keeps its layout: a launch that says nothing takes it, one that wants another is told.
func TestLayoutOfTheTable(t *testing.T) {
	o := optionsFor(t.TempDir(), writeFile(t, "export.jsonl", export))
	o.Window, o.Shards = lake.Day, 3
	launch(t, o)
	same := o
	same.Window, same.Shards = lake.Window{}, 0
	wantCounts(t, launch(t, same), 0, 6, 0)

	other := o
	other.Shards, other.RunID = 2, nextRunID(t)
	t.Cleanup(func() { _ = run.Of(other.RunID).Close() })
	if _, err := Prepare(t.Context(), other); !errors.Is(err, lake.ErrLayout) || !strings.Contains(err.Error(), "--shards") {
		t.Errorf("Prepare = %v, want ErrLayout and what to do", err)
	}
}

const address = "81.2.69.142"

// Place and device are derived, and the address is nowhere in the lake but in the payloads of dead letters, which
// are as they came.
func TestAddressesAreNotStored(t *testing.T) {
	db := filepath.Join(datasets.Dir(t, "maxmind-db"), "GeoIP2-City-Test.mmdb")
	o := optionsFor(t.TempDir(), writeFile(t, "export.jsonl", strings.Join([]string{
		`{"event_id":"e1","event_time":"2025-03-02T14:30:00Z","user_id":"ann","event_type":"view","item_id":"kettle","context":{"ip":"` + address + `","user_agent":"` + chromeOnMac + `","tz_offset_min":60}}`,
		`{"event_id":"e2","event_time":"2025-03-02T14:30:00Z","user_id":"ann","event_type":"view","item_id":"mug","client_ip":"` + address + `","net":{"from":"` + address + `","via":["` + address + `"]}}`,
		`{"event_id":"e3","event_time":"2025-03-02T14:30:00Z","user_id":"ann","event_type":"view","item_id":"pot","context":{"ip":"` + address + `, 10.0.0.1"}}`,
		`{"event_id":"e4","event_time":"2025-03-02T14:30:00Z","user_id":"ann","event_type":"view","item_id":"cup","context":{"ip":["` + address + `"]}}`,
		`{"event_id":"e5","event_time":"2025-03-02T14:30:00Z","event_type":"view","context":{"ip":"` + address + `"}}`,
		`{"event_id":"e6","context":{"ip":"` + address + `"}`,
	}, "\n")))
	o.GeoDB = db
	wantCounts(t, launch(t, o), 3, 0, 3)

	london := row{"context.country": "GB", "context.city": "London"}
	device := row{"context.device_class": "desktop", "context.os": "macos", "context.browser": "chrome", "context.local_hour": int64(15)}
	want := []row{{"event_id": "e1"}, {"event_id": "e2"}, {"event_id": "e3"}}
	for _, more := range []row{london, device} {
		for k, v := range more {
			want[0][k] = v
		}
	}
	for k, v := range london {
		want[2][k] = v
	}
	got := rowsIn(t, o.Lake, "interactions", "event_id", "context.country", "context.city", "context.device_class", "context.os", "context.browser", "context.local_hour")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("contexts (-want +got):\n%s", diff)
	}

	payloads := 0
	for _, table := range []string{"interactions", "dead_letters"} {
		for _, r := range rowsIn(t, o.Lake, table) {
			for name, value := range r {
				switch found := strings.Contains(fmt.Sprint(value), address); {
				case found && table == "dead_letters" && name == "payload":
					payloads++
				case found:
					t.Errorf("%s: column %s has %v", table, name, value)
				}
			}
		}
	}
	if payloads != 3 {
		t.Errorf("the address is in %d payloads; the search for it must find 3", payloads)
	}
}

// flat is a mapping of records that every format can hold.
func flat() *mappings.Mapping {
	return &mappings.Mapping{
		Name: "flat", Format: mappings.JSONL,
		Fields: map[string]mappings.Field{
			"event_id": {Path: "id"}, "event_time": {Path: "at", Unit: "ms"}, "event_type": {Path: "type"},
			"user_id": {Path: "user"}, "item_id": {Path: "item"}, "value": {Path: "value"},
		},
	}
}

type flatRecord struct {
	ID    string  `parquet:"id"`
	At    int64   `parquet:"at"`
	Type  string  `parquet:"type"`
	User  string  `parquet:"user"`
	Item  string  `parquet:"item"`
	Value float64 `parquet:"value"`
}

// The same events make the same rows, whatever file they come in.
func TestFormatsMakeTheSameRows(t *testing.T) {
	const events = 30
	var jsonl, csv, tsv strings.Builder
	var array []string
	var records []flatRecord
	csv.WriteString("id,at,type,user,item,value\n")
	tsv.WriteString("id\tat\ttype\tuser\titem\tvalue\n")
	for i := range events {
		r := flatRecord{fmt.Sprintf("e%d", i), 1_740_000_000_000 + int64(i)*600_000, "view", fmt.Sprintf("user %d", i%4), "é, \"tea\"", float64(i) / 4}
		line := fmt.Sprintf(`{"id":%q,"at":%d,"type":%q,"user":%q,"item":"é, \"tea\"","value":%v}`, r.ID, r.At, r.Type, r.User, r.Value)
		jsonl.WriteString(line + "\n")
		array = append(array, line)
		fmt.Fprintf(&csv, "%s,%d,%s,%s,\"é, \"\"tea\"\"\",%v\n", r.ID, r.At, r.Type, r.User, r.Value)
		fmt.Fprintf(&tsv, "%s\t%d\t%s\t%s\té, \"tea\"\t%v\n", r.ID, r.At, r.Type, r.User, r.Value)
		records = append(records, r)
	}
	var table bytes.Buffer
	if err := parquet.Write(&table, records); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(csv.String())); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	zstandard, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer zstandard.Close()

	var first ledger.Hash
	for i, in := range []struct {
		name   string
		format mappings.Format
		text   string
	}{
		{"events.jsonl", mappings.JSONL, jsonl.String()},
		{"events.json", mappings.JSON, "[" + strings.Join(array, ",\n") + "]"},
		{"events.csv", mappings.CSV, csv.String()},
		{"events.tsv", mappings.TSV, tsv.String()},
		{"events.parquet", mappings.Parquet, table.String()},
		{"events.csv.gz", mappings.CSV, zipped.String()},
		{"events.jsonl.zst", mappings.JSONL, string(zstandard.EncodeAll([]byte(jsonl.String()), nil))},
	} {
		t.Run(in.name, func(t *testing.T) {
			o := optionsFor(t.TempDir(), writeFile(t, in.name, in.text))
			o.Mapping = flat()
			o.Mapping.Format = in.format
			wantCounts(t, launch(t, o), events, 0, 0)
			hash, err := ledger.RowHash(t.Context(), o.Lake, "interactions")
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = hash
			}
			if hash != first || hash.Rows != events {
				t.Errorf("hash %v, that of %s is %v", hash, "events.jsonl", first)
				t.Log(rowsIn(t, o.Lake, "interactions", "event_id", "event_time", "user_id", "item_id", "value")[0])
			}
		})
	}
}

// startPubSub starts a server with the subscription pubsub://shop/lake and publishes messages to it.
func startPubSub(t *testing.T, messages ...*pubsubpb.PubsubMessage) *pubsubserver.Server {
	t.Helper()
	server := pubsubtest.Start(t, pubsubserver.Options{})
	t.Setenv("PUBSUB_EMULATOR_HOST", server.Addr())
	const topic = "projects/shop/topics/events"
	if err := server.Create(t.Context(), topic, "projects/shop/subscriptions/lake"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Publish(t.Context(), topic, messages...); err != nil {
		t.Fatal(err)
	}
	return server
}

func wantAcked(t testing.TB, server *pubsubserver.Server, messages int64) {
	t.Helper()
	if s := server.Stats().Subscriptions["projects/shop/subscriptions/lake"]; s.Acked != messages || s.Backlog != 0 {
		t.Errorf("the server says %+v, want %d messages acknowledged and none left", s, messages)
	}
}

// A message gives rows and dead letters to several files, and is acknowledged once, when all are durable.
func TestExplodedMessages(t *testing.T) {
	otto, err := mappings.Load("otto")
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Hour.Milliseconds()
	at := time.Date(2025, 3, 2, 14, 0, 0, 0, time.UTC).UnixMilli()
	server := startPubSub(t,
		&pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, `{"session":1,"events":[{"aid":1,"ts":%d,"type":"clicks"},{"aid":2,"ts":%d,"type":"carts"},{"aid":3,"ts":%d,"type":"flights"}]}`, at, at+hour, at)},
		&pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, `{"session":2,"events":[{"aid":1,"ts":%d,"type":"clicks"}]}`, at)},
	)
	o := optionsFor(t.TempDir(), "pubsub://shop/lake")
	o.Mapping = otto
	counts := stream(t, o, 4)
	wantCounts(t, counts, 3, 0, 1)
	wantAcked(t, server, 2)
	if n := counts["pubsub/acknowledged"]; n != 2 {
		t.Errorf("pubsub/acknowledged is %d, want 2", n)
	}
	if got := rowsIn(t, o.Lake, "interactions", "item_id", "session_id", "event_type"); len(got) != 3 {
		t.Errorf("rows %v, want 3", got)
	}
}

// Messages of which nothing comes are acknowledged too, or they would come for ever.
func TestMessagesWithoutEvents(t *testing.T) {
	otto, err := mappings.Load("otto")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 3, 2, 14, 0, 0, 0, time.UTC).UnixMilli()
	server := startPubSub(t,
		&pubsubpb.PubsubMessage{Data: []byte(`{"session":1,"events":[]}`)},
		&pubsubpb.PubsubMessage{Data: []byte(`{"session":1}`)},
		&pubsubpb.PubsubMessage{Attributes: map[string]string{"empty": "yes"}},
		&pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, `{"session":2,"events":[{"aid":1,"ts":%d,"type":"clicks"}]}`, at)},
	)
	o := optionsFor(t.TempDir(), "pubsub://shop/lake")
	o.Mapping = otto
	counts := stream(t, o, 4)
	wantCounts(t, counts, 1, 0, 3)
	wantAcked(t, server, 4)
}

// Id and time may be in attributes, which are kept; what the event says itself is stronger.
func TestAttributes(t *testing.T) {
	attributes := map[string]string{"id": "from-attribute", "at": "2025-03-02T14:30:00.5Z", "client_ip": address}
	server := startPubSub(t,
		&pubsubpb.PubsubMessage{Attributes: attributes, Data: []byte(`{"user_id":"ann","event_type":"view","item_id":"kettle"}`)},
		&pubsubpb.PubsubMessage{Attributes: attributes, Data: []byte(`{"event_id":"own","event_time":"2025-03-02T10:00:00Z","user_id":"bob","event_type":"view","item_id":"mug"}`)},
		&pubsubpb.PubsubMessage{Attributes: map[string]string{"id": "numeric", "at": "1740925800500"}, Data: []byte(`{"user_id":"eve","event_type":"view","item_id":"mug"}`)},
		&pubsubpb.PubsubMessage{Attributes: map[string]string{"id": "when", "at": "yesterday"}, Data: []byte(`{"user_id":"zoe","event_type":"view","item_id":"mug"}`)},
	)
	o := optionsFor(t.TempDir(), "pubsub://shop/lake")
	o.IDAttribute, o.TimestampAttribute = "id", "at"
	wantCounts(t, stream(t, o, 4), 3, 0, 1)
	wantAcked(t, server, 4)

	half := time.Date(2025, 3, 2, 14, 30, 0, 500e6, time.UTC).UnixMicro()
	want := []row{
		{"event_id": "from-attribute", "event_time": half, "user_id": "ann", "lineage.source": "projects/shop/subscriptions/lake"},
		{"event_id": "numeric", "event_time": half, "user_id": "eve", "lineage.source": "projects/shop/subscriptions/lake"},
		{"event_id": "own", "event_time": time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC).UnixMicro(), "user_id": "bob", "lineage.source": "projects/shop/subscriptions/lake"},
	}
	got := rowsIn(t, o.Lake, "interactions", "event_id", "event_time", "user_id", "lineage.synthetic_id", "lineage.source")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	kept := rowsIn(t, o.Lake, "interactions", "event_id", "lineage.attributes.key_value.key", "lineage.attributes.key_value.value")[0]
	if keys, values := fmt.Sprint(kept["lineage.attributes.key_value.key"]), fmt.Sprint(kept["lineage.attributes.key_value.value"]); !strings.Contains(keys, "client_ip") || strings.Contains(values, address) {
		t.Errorf("attributes %s with the values %s, want all of them, but no address", keys, values)
	}
}

// keysFn notes the keys of groups, and how many packets each has.
type keysFn struct{ Name string }

var seenKeys sync.Map // name -> *sync.Map of key -> packets

func (fn *keysFn) ProcessElement(key string, packets func(*[]byte) bool) {
	n := 0
	for packet := []byte(nil); packets(&packet); packet = nil {
		n++
	}
	m, _ := seenKeys.LoadOrStore(fn.Name, &sync.Map{})
	m.(*sync.Map).Store(key, n)
}

// Process gives a group for each slot that has rows or dead letters.
func TestProcess(t *testing.T) {
	o := optionsFor(t.TempDir(), writeFile(t, "export.jsonl", export))
	o.RunID = nextRunID(t)
	plan, _ := prepare(t, o)
	p, s := beam.NewPipelineWithRoot()
	groups := Process(s, beam.CreateList(s, plan.Tasks), plan)
	beam.ParDo0(s, &keysFn{Name: t.Name()}, groups)
	ptest.RunAndValidate(t, p)

	var got []string
	if m, ok := seenKeys.Load(t.Name()); ok {
		m.(*sync.Map).Range(func(key, n any) bool {
			got = append(got, fmt.Sprintf("%v: %v", key, n))
			return true
		})
	}
	slices.Sort(got)
	hour := time.Date(2025, 3, 2, 14, 0, 0, 0, time.UTC).Unix() / 3600
	day := time.Date(2025, 3, 3, 0, 0, 0, 0, time.UTC).Unix() / 86400
	want := []string{
		fmt.Sprintf("dead_letters|%d|0: 1", day), fmt.Sprintf("interactions|%d|0: 1", hour), fmt.Sprintf("interactions|%d|0: 1", hour+1),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("groups and their packets (-want +got):\n%s", diff)
	}
}

// The names of steps are a promise: dashboards show them, and runners find the state of a job by them when it is
// updated.
func TestGraph(t *testing.T) {
	subscription := func(o *Options) { o.Input = []string{"pubsub://shop/lake"} }
	whole := func(o *Options) {
		*o = withContext(t, *o, "pubsub://shop/contexts")
		o.Windows.Tables = windows.Tables
	}
	native := func(o *Options) { o.Native, o.Remote = true, true }
	for name, change := range map[string][]func(*Options){
		"files": nil, "subscription": {subscription}, "subscription_whole": {subscription, whole}, "native": {subscription, native}, "native_whole": {subscription, native, whole},
	} {
		t.Run(name, func(t *testing.T) {
			o := optionsFor(t.TempDir(), writeFile(t, "export.jsonl", export))
			for _, change := range change {
				change(&o)
			}
			o.RunID = nextRunID(t)
			plan, _ := prepare(t, o)
			p, s := beam.NewPipelineWithRoot()
			Build(s, plan)
			edges, _, err := p.Build()
			if err != nil {
				t.Fatal(err)
			}
			graph, err := graphx.Marshal(edges, &graphx.Options{Environment: &pipepb.Environment{}})
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			var write func(ids []string, indent string)
			write = func(ids []string, indent string) {
				for _, id := range ids {
					step := graph.Components.Transforms[id]
					fmt.Fprintf(&text, "%s%s\n", indent, step.UniqueName)
					write(step.Subtransforms, indent+"  ")
				}
			}
			write(graph.RootTransformIds, "")
			golden(t, "graph_"+name+".golden", text.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test -rewrite makes it", err)
	}
	if diff := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
