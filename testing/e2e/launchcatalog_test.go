//go:build e2e

package e2e

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/runners/launch"
	"backbone/testing/generator"
)

// nightly writes a launch file of the full exports of a market, one a day, with options of some lines.
func nightly(t *testing.T, exports, lake, runner string, options ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "nightly.yaml")
	glob := func(table string) string {
		return exports + "/" + table + `/full/as_of={{ format "20060102T150405Z" .Time }}/*.jsonl`
	}
	text := fmt.Sprintf(`name: nightly
pipeline: catalog
runner: %s
lease: 1s
schedule: {cron: "@daily"}
options:
  users: '%s'
  items: '%s'
  as_of: "{{ .AsOf }}"
  lake: %q
  shards: 4
  %s
`, runner, glob("users"), glob("items"), lake, strings.Join(options, "\n  "))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// backfills launches the nights of a range, kills the launcher in the middle, and launches the range again: it goes on, and each night is there
// once. The launcher is in the middle when its log has the marker so many times.
func backfills(t *testing.T, path, marker string, times int) {
	t.Helper()
	nights := []string{"launch", path, "--from", asOfDay(0).Format(time.DateOnly), "--to", asOfDay(daysOfFaults).Format(time.DateOnly)}
	killed := start(t, "the launcher that is killed", nil, nights...)
	until(t, "it is in the middle", func() bool { return strings.Count(killed.log(), marker) >= times || !killed.running() })
	killed.kill()
	next := start(t, "the next launcher", nil, append(nights, "--wait")...)
	next.wantExit(0)
	ran, attempts := 0, 0
	for _, r := range history(t, path, "--limit=1000") {
		if r.State == "missed" { // all nights since
			continue
		}
		ran, attempts = ran+1, attempts+len(r.Attempts)
		if r.State != "succeeded" || r.Attempts[len(r.Attempts)-1].End.Outcome != launch.Succeeded {
			t.Errorf("%s is %s: %+v", r.Tick, r.State, r.Attempts)
		}
	}
	// It may have been killed between two nights.
	if ran != daysOfFaults || attempts < daysOfFaults || attempts > daysOfFaults+1 {
		t.Errorf("%d nights have %d attempts, want %d, and one more", ran, attempts, daysOfFaults)
	}
	done := start(t, "a launcher of what is done", nil, nights...)
	done.wantExit(0)
	if log := done.log(); strings.Contains(log, marker) {
		t.Errorf("what is done is run again: %s", log)
	}
}

// Nightly exports that are launched make the versions that they make one after the other, byte by byte, wherever the pipeline runs and though a
// launcher was killed.
func TestLaunchCatalog(t *testing.T) {
	plain := newMarket(t, nil)
	for n := range daysOfFaults {
		plain.export("full", n, asOfDay(n)).wantExit(0)
	}
	want := catalogFiles(t, plain.lake)
	exports := filepath.Join(plain.dir, generator.CatalogDir)

	t.Run("Direct", func(t *testing.T) {
		lake := filepath.Join(t.TempDir(), "lake")
		backfills(t, nightly(t, exports, lake, "direct", "spill_dir: "+t.TempDir()), "making a version", 4) // of users and items, at the second night
		sameFiles(t, want, catalogFiles(t, lake))
	})
	t.Run("Flink", func(t *testing.T) {
		slow(t)
		w := newFlinkWorld(t, 1)
		lake := filepath.Join(t.TempDir(), "lake")
		backfills(t, nightly(t, exports, lake, "flink", w.launchOptions()...), "job submitted", 2)
		sameFiles(t, want, catalogFiles(t, lake))
		w.nothingIsLeft()
		w.nothingIsStaged()
	})
	t.Run("Dataflow", func(t *testing.T) {
		slow(t)
		d := newDataflowWorld(t, &world{T: t})
		for n := range daysOfFaults {
			for _, table := range []string{"users", "items"} {
				folder := generator.ExportFolder(table, "full", asOfDay(n))
				d.upload(filepath.Join(exports, folder, "*.jsonl"), "exports/"+filepath.ToSlash(folder))
			}
		}
		backfills(t, nightly(t, "gs://"+dataflowBucket+"/exports", d.lake, "dataflow", d.launchOptions()...), "job submitted", 2)
		sums := map[string]uint32{}
		for name, body := range want {
			if name = filepath.ToSlash(name); !strings.Contains(name, "/_") {
				sums[name] = crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
			}
		}
		got := d.versions("lake")
		if diff := cmp.Diff(sums, got); diff != "" || len(got) == 0 {
			t.Errorf("files of %d (-direct +dataflow):\n%s", len(got), diff)
		}
	})
}
