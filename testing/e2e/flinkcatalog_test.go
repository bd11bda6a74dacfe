//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/testing/datasets"
)

// newMarket returns a market whose runs are on the direct runner, or on a cluster with flags.
func newMarket(t *testing.T, flags []string) *market {
	t.Helper()
	m := &market{T: t, dir: marketOf(t, max(400, *eventsFlag/20)), lake: filepath.Join(t.TempDir(), "lake"), rand: seeded(t), days: daysOfFaults, flags: flags}
	if err := os.MkdirAll(filepath.Dir(m.summary()), 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

// versionLine is what a run says of a version that it has committed: its table, its number and the counts of its rows.
var versionLine = regexp.MustCompile(`msg="version is committed" (.*)`)

// versionsOf returns what a run has said of its versions, in order.
func versionsOf(p *process) (said []string) {
	for _, line := range versionLine.FindAllStringSubmatch(p.log(), -1) {
		said = append(said, line[1])
	}
	return said
}

// On a cluster, exports make the versions that they make on the direct runner, byte by byte, with the same counts; what is cancelled makes
// none.
func TestFlinkCatalog(t *testing.T) {
	slow(t)
	shared := newFlinkWorld(t, 2)
	in := func(t *testing.T) *flinkWorld {
		t.Helper()
		w := *shared
		w.world = &world{T: t, day: shared.day}
		return &w
	}
	flags := slices.Concat(shared.flags(), shared.endpoint())

	// Both do the same, one run after the other.
	both := func(t *testing.T, run func(m *market, n int) *process, runs int) (cluster *market) {
		t.Helper()
		direct, cluster := newMarket(t, nil), newMarket(t, flags)
		for n := range runs {
			here, there := run(direct, n), run(cluster, n)
			here.wantExit(0)
			there.wantExit(0)
			if diff := cmp.Diff(versionsOf(here), versionsOf(there)); diff != "" || len(versionsOf(there)) == 0 {
				t.Errorf("run %d: what is said of versions (-direct +flink):\n%s", n, diff)
			}
			if diff := cmp.Diff(readMarketSummary(direct), readMarketSummary(cluster)); diff != "" {
				t.Errorf("run %d: summary (-direct +flink):\n%s", n, diff)
			}
		}
		sameFiles(t, catalogFiles(t, direct.lake), catalogFiles(t, cluster.lake))
		if got, want := hash(t, cluster.lake).deadLetters, hash(t, direct.lake).deadLetters; got != want {
			t.Errorf("dead letters have hash %v, want %v", got, want)
		}
		in(t).nothingIsLeft()
		return cluster
	}

	t.Run("FullExports", func(t *testing.T) {
		m := both(t, func(m *market, n int) *process { return m.export("full", n, asOfDay(n)) }, daysOfFaults)
		m.isTheTruth("full")

		// The same again changes nothing.
		before := catalogFiles(t, m.lake)
		m.export("full", daysOfFaults-1, asOfDay(daysOfFaults-1)).wantExit(0)
		if s := readMarketSummary(m); s.Read != 0 {
			t.Errorf("the same exports again: %+v, want nothing read", s)
		}
		sameFiles(t, before, catalogFiles(t, m.lake))
	})

	// Deltas, of which the first comes last: all of its rows are late.
	t.Run("LateDeltas", func(t *testing.T) {
		m := both(t, func(m *market, n int) *process {
			return m.export("delta", []int{1, 2, 0}[n], asOfDay(daysOfMarket).Add(time.Duration(n)*time.Hour))
		}, daysOfFaults)
		m.isTheTruth("delta")
		if s := readMarketSummary(m); s.Late == 0 {
			t.Errorf("%+v: no row was late", s)
		}
	})

	t.Run("MovieLens", func(t *testing.T) {
		dir := datasets.Dir(t, "movielens-latest-small")
		m := both(t, func(m *market, _ int) *process {
			m.n++
			args := slices.Concat([]string{
				"catalog", "--items", strings.Join([]string{filepath.Join(dir, "movies.csv"), filepath.Join(dir, "tags.csv"), filepath.Join(dir, "links.csv")}, ","),
				"--items_mapping", "movielens-movies", "--as_of", "2018-09-26T00:00:00Z", "--lake", m.lake, "--summary", m.summary(),
			}, m.flags)
			return start(m.T, fmt.Sprintf("run %d", m.n), nil, args...)
		}, 1)
		if s := readMarketSummary(m); s.Committed != 9_742+3_683+9_742 { // movies, their tags and their links
			t.Errorf("%+v: want 23167 records committed", s)
		}
		runCommand(t, "verify", "verify", "--lake", m.lake)
	})

	// Whoever is interrupted leaves no version, and the same command makes it.
	t.Run("Cancel", func(t *testing.T) {
		w := in(t)
		direct, m := newMarket(t, nil), newMarket(t, flags)
		direct.export("full", 0, asOfDay(0)).wantExit(0)
		p := m.export("full", 0, asOfDay(0))
		until(t, "a worker runs", func() bool { return len(w.workers()) > 0 })
		p.signal(syscall.SIGINT)
		p.wantExit(1)
		if log := p.log(); !strings.Contains(log, "backbone catalog: stopped before the end: there is no new version") || strings.Contains(log, "may still run") {
			t.Errorf("it has said: %s", log)
		}
		w.nothingIsLeft()
		for _, table := range []string{schemas.Users.Name, schemas.Items.Name} {
			versions, err := filepath.Glob(filepath.Join(m.lake, table, "_versions", "*"))
			if err != nil || len(versions) > 0 {
				t.Errorf("%s has versions %v, error %v; want none", table, versions, err)
			}
		}
		m.export("full", 0, asOfDay(0)).wantExit(0)
		sameFiles(t, catalogFiles(t, direct.lake), catalogFiles(t, m.lake))
		runCommand(t, "verify", "verify", "--lake", m.lake)
	})

	// What goes wrong inside of a worker is told in a line.
	t.Run("Gate", func(t *testing.T) {
		m := newMarket(t, flags)
		m.export("full", 0, asOfDay(0)).wantExit(0)
		before := catalogFiles(t, m.lake)
		p := m.export("full", 1, asOfDay(1), "--max_delete_fraction=0", "--flink_restarts=0")
		p.wantExit(1)
		last := tail(p.log(), 1)
		if !strings.HasPrefix(last, "backbone catalog: ") || !strings.Contains(last, "nothing was changed. Is it complete?") {
			t.Errorf("the last line is %s", last)
		}
		after := catalogFiles(t, m.lake)
		for name := range after { // of the two tables, one may have passed
			if _, known := before[name]; !known && strings.Contains(last, `"`+strings.Split(name, "/")[0]+`"`) {
				t.Errorf("%s is new", name)
			}
		}
	})
}

func readMarketSummary(m *market) summary {
	m.Helper()
	return readSummary(m.T, m.summary())
}
