package python_test

import (
	"path/filepath"
	"testing"

	"backbone/testing/python"
)

// One reads what the other has written.
func TestDuckDBAndPyarrow(t *testing.T) {
	got := python.Run(t, `
import sys, datetime, duckdb, pyarrow as pa, pyarrow.parquet as pq

path = sys.argv[1]
at = datetime.datetime(2026, 11, 22, 14, tzinfo=datetime.timezone.utc)
pq.write_table(pa.table({"event_id": ["a", "b"], "event_time": pa.array([at, at], pa.timestamp("us", tz="UTC"))}), path)
print(duckdb.sql(f"select count(*), count(distinct event_id), typeof(max(event_time)) from '{path}'").fetchall())
`, filepath.Join(t.TempDir(), "part.parquet"))
	if want := "[(2, 2, 'TIMESTAMP WITH TIME ZONE')]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
