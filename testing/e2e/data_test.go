package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"backbone/testing/datasets"
	"backbone/testing/python"
)

// Real data of others goes in by a preset, each row once, and the same command again changes nothing.
func TestPresets(t *testing.T) {
	slow(t)
	tests := []struct {
		name          string
		set, file     string
		mapping       string
		args          []string
		rows, letters int64
		query, want   string // for DuckDB; {} is the table of interactions, {dead} that of dead letters
	}{
		{
			name: "MovieLens", set: "movielens-latest-small", file: "ratings.csv", mapping: "movielens-ratings", rows: 100_836,
			query: "select count(*), count(distinct event_id), sum(value), count(distinct user_id), typeof(any_value(event_time)) from {}",
			want:  "[(100836, 100836, 353083.0, 610, 'TIMESTAMP WITH TIME ZONE')]",
		},
		{
			name: "MovieLensByMonth", set: "movielens-latest-small", file: "ratings.csv", mapping: "movielens-ratings", args: []string{"--window", "month"}, rows: 100_836,
			// The months that timestamps of the file are in, by awk: strftime("%Y-%m", $4, 1), sort -u, wc -l.
			query: "select count(*), count(distinct event_id), sum(value), count(distinct month) from {}",
			want:  "[(100836, 100836, 353083.0, 267)]",
		},
		{
			name: "MovieLensTags", set: "movielens-latest-small", file: "tags.csv", mapping: "movielens-tags", args: []string{"--window", "month"}, rows: 3_683,
			query: "select count(*), count(distinct event_id), count(distinct user_id) from {}",
			want:  "[(3683, 3683, 58)]",
		},
		{
			// 20 sessions, one a line, with 800 clicks, 52 carts and 10 orders of 510 articles.
			name: "OTTO", set: "otto-sample", file: "train.jsonl", mapping: "otto", rows: 862,
			query: "select event_type, count(*), count(distinct event_id) from {} group by all order by all",
			want:  "[('add_to_cart', 52, 52), ('click', 800, 800), ('purchase', 10, 10)]",
		},
		{
			name: "GoogleRetail", set: "google-retail", file: "user_events.json", mapping: "google-retail", rows: 4,
			query: "select count(*), count(distinct event_id), count(distinct visitor_id) from {}",
			want:  "[(4, 4, 1)]",
		},
		{
			// Line 2 has an event type that there is not.
			name: "GoogleRetailInvalid", set: "google-retail", file: "user_events_some_invalid.json", mapping: "google-retail", rows: 3, letters: 1,
			query: `select failure_type, error_code, field_path, error_message, decode(payload) from {dead}`,
			want: `[('map', 'unknown_type', 'eventType', '"invalid" is not one of the values that the mapping lists', ` +
				`'{"eventType":"invalid","visitorId":"bjbs_group1_visitor1","eventTime":"2021-12-12T10:27:42+00:00","searchQuery":"RockerJeans teenagers blue jeans"}')]`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
			input := filepath.Join(datasets.Dir(t, test.set), test.file)
			args := append([]string{"--mapping", test.mapping}, test.args...)

			w.wantCounts(w.start(input, args...).finish(), summary{Outcome: "done", Read: test.rows + test.letters, Committed: test.rows, DeadLettered: test.letters})
			before := dataFiles(t, w.lake)
			w.wantCounts(w.start(input, args...).finish(), summary{Outcome: "done", Read: test.rows + test.letters, Duplicate: test.rows + test.letters})
			w.wantFiles(before)
			if len(before) < 1000 { // thousands of files of a few rows each take a minute
				runCommand(t, "verify", "verify", "--lake", w.lake)
			}

			query := strings.NewReplacer("{}", table(w.lake, "interactions"), "{dead}", table(w.lake, "dead_letters")).Replace(test.query)
			if got := strings.TrimSpace(duckDB(t, query)); got != test.want {
				t.Errorf("%s gives\n%s\nwant\n%s", query, got, test.want)
			}
		})
	}
}

// table is how DuckDB reads a table.
func table(lake, name string) string {
	return fmt.Sprintf("read_parquet('%s', hive_partitioning = true)", filepath.Join(lake, name, "**", "*.parquet"))
}

// duckDB returns the rows of a query, as Python writes them.
func duckDB(t *testing.T, query string) string {
	t.Helper()
	return python.Run(t, `
import duckdb, sys
db = duckdb.connect()
db.execute("set enable_progress_bar = false")
print(db.execute(sys.argv[1]).fetchall())
`, query)
}

// The files of a day are what DuckDB and pyarrow expect: each opens by itself and has the types that the schema says, and
// rows are sorted by user, or visitor, and time.
func TestOthersReadTheLake(t *testing.T) {
	slow(t)
	w := &world{T: t, day: dayOf(t, *eventsFlag), lake: filepath.Join(t.TempDir(), "lake")}
	w.start(w.files()).finish()

	for _, test := range []struct{ table, column, want string }{
		{"interactions", "event_id", "VARCHAR"},
		{"interactions", "event_time", "TIMESTAMP WITH TIME ZONE"},
		{"interactions", "loaded_time", "TIMESTAMP WITH TIME ZONE"},
		{"interactions", "value", "DOUBLE"},
		{"interactions", "experiment_ids", "VARCHAR[]"},
		{"interactions", "items", `STRUCT(item_id VARCHAR, "position" BIGINT, quantity BIGINT, unit_price DOUBLE, score DOUBLE, propensity DOUBLE)[]`},
		{"interactions", "extra", "MAP(VARCHAR, VARCHAR)"},
		{"interactions", "context.local_hour", "BIGINT"},
		{"interactions", "context.is_bot", "BOOLEAN"},
		{"interactions", "lineage.attributes", "MAP(VARCHAR, VARCHAR)"},
		{"interactions", "dt", "DATE"}, // of the folder
		{"dead_letters", "received_time", "TIMESTAMP WITH TIME ZONE"},
		{"dead_letters", "payload", "BLOB"},
		{"dead_letters", "attributes", "MAP(VARCHAR, VARCHAR)"},
	} {
		got := strings.TrimSpace(duckDB(t, fmt.Sprintf("select distinct typeof(%s) from %s", test.column, table(w.lake, test.table))))
		if want := fmt.Sprintf("[(%s,)]", pythonText(test.want)); got != want {
			t.Errorf("DuckDB sees %s of %s as %s, want %s", test.column, test.table, got, want)
		}
	}

	out := python.Run(t, `
import glob, sys
import duckdb
import pyarrow as pa, pyarrow.parquet as pq

lake = sys.argv[1]
utc = pa.timestamp("us", tz="UTC")
files = rows = 0
for path in sorted(glob.glob(lake + "/*/**/*.parquet", recursive=True)):
    table = pq.ParquetFile(path).read()
    schema = table.schema
    ours, theirs = table.num_rows, duckdb.connect().execute(f"select count(*) from '{path}'").fetchone()[0]
    assert ours == theirs > 0, f"{path}: pyarrow reads {ours} rows, DuckDB {theirs}"
    files, rows = files + 1, rows + ours
    if "/interactions/" in path:
        assert schema.field("event_time").type == utc, schema
        assert schema.field("event_id").type == pa.string() and not schema.field("event_id").nullable, schema
        assert pa.types.is_list(schema.field("items").type) and pa.types.is_struct(schema.field("items").type.value_type), schema
        assert pa.types.is_map(schema.field("extra").type), schema
        assert pa.types.is_struct(schema.field("context").type), schema
        # Of who is not known, the visitor: bytes are compared, as the writer does.
        keys = [((u or v or "").encode(), t) for u, v, t in zip(
            table["user_id"].to_pylist(), table["visitor_id"].to_pylist(), table["event_time"].cast(pa.int64()).to_pylist())]
        assert keys == sorted(keys), f"{path} is not sorted"
    else:
        assert schema.field("received_time").type == utc, schema
        assert schema.field("payload").type == pa.binary(), schema
print(files, rows)
`, w.lake)
	var files, rows int
	if _, err := fmt.Sscan(out, &files, &rows); err != nil {
		t.Fatal(err)
	}
	if want := w.total.Rows + w.total.Broken; files != len(dataFiles(t, w.lake)) || rows != want {
		t.Errorf("%d rows in %d files, want %d in %d", rows, files, want, len(dataFiles(t, w.lake)))
	}
}

// pythonText is how Python writes a text.
func pythonText(s string) string { return "'" + s + "'" }
