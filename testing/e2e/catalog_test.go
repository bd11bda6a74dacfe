package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"backbone/schemas"
	"backbone/testing/generator"
	"backbone/testing/ledger"
	"backbone/transforms/asof"
	"backbone/transforms/lake/store"
)

// market is ten days of exports of users and items, and where they go.
type market struct {
	*testing.T
	dir   string // with exports and truth
	lake  string
	days  int
	rand  *rand.Rand
	flags []string // of the runner; by default the direct one
	n     int      // runs
}

// daysOfMarket is how many exports there are of each kind. A store that fails takes its time, so only some of them go there.
const daysOfMarket, daysOfFaults = 10, 3

var markets struct {
	sync.Mutex
	made map[int]string
}

// marketOf returns the folder of exports of so many items, which are made once.
func marketOf(t *testing.T, items int) string {
	t.Helper()
	markets.Lock()
	defer markets.Unlock()
	if dir := markets.made[items]; dir != "" {
		return dir
	}
	dir := filepath.Join(scratch, fmt.Sprintf("market-%d", items))
	total, err := generator.WriteCatalog(t.Context(), dir, generator.CatalogOptions{Days: daysOfMarket, Users: items / 4, Items: items, Seed: 5, BrokenShare: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	var all generator.ExportSummary
	for _, e := range total.Exports {
		all.Broken, all.Older, all.Repeated = all.Broken+e.Broken, all.Older+e.Older, all.Repeated+e.Repeated
		all.Changed, all.Deleted, all.Recreated = all.Changed+e.Changed, all.Deleted+e.Deleted, all.Recreated+e.Recreated
	}
	if all.Broken == 0 || all.Older == 0 || all.Repeated == 0 || all.Changed == 0 || all.Deleted == 0 || all.Recreated == 0 {
		t.Fatalf("the exports have not all that they need: %+v", all)
	}
	if markets.made == nil {
		markets.made = map[int]string{}
	}
	markets.made[items] = dir
	return dir
}

// asOfDay is the time of the nth export, from 0.
func asOfDay(n int) time.Time { return time.Date(2026, 3, 2+n, 0, 0, 0, 0, time.UTC) }

// export starts the pipeline over the export of a day, as of another time where it is given.
func (m *market) export(mode string, n int, asOf time.Time, args ...string) *process {
	m.Helper()
	m.n++
	glob := func(table string) string {
		return filepath.Join(m.dir, generator.CatalogDir, generator.ExportFolder(table, mode, asOfDay(n)), "*.jsonl")
	}
	args = append([]string{
		"catalog", "--users", glob("users"), "--items", glob("items"), "--mode", mode, "--as_of", asOf.Format(time.RFC3339),
		"--lake", m.lake, "--shards", "4", "--summary", m.summary(),
	}, args...)
	if m.flags != nil {
		args = append(args, m.flags...)
	} else {
		args = append(args, "--spill_dir", m.TempDir())
	}
	return start(m.T, fmt.Sprintf("run %d, %s of day %d", m.n, mode, n), nil, args...)
}

func (m *market) summary() string { return filepath.Join(scratch, m.Name(), fmt.Sprint(m.n)) + ".json" }

// marketStories are the ways in which the exports come. Each ends with the truth.
var marketStories = []struct {
	name  string
	quick bool
	tell  func(m *market) (mode string)
}{
	{"FullExports", true, func(m *market) string {
		for n := range m.days {
			m.export("full", n, asOfDay(n)).wantExit(0)
		}
		return "full"
	}},
	{"Deltas", true, func(m *market) string {
		for n := range m.days {
			m.export("delta", n, asOfDay(n)).wantExit(0)
		}
		return "delta"
	}},
	// Late ones are processed when they come; rows have their own times.
	{"ShuffledDeltas", true, func(m *market) string {
		for i, n := range m.rand.Perm(m.days) {
			m.export("delta", n, asOfDay(daysOfMarket).Add(time.Duration(i)*time.Hour)).wantExit(0)
		}
		return "delta"
	}},
	{"KilledAtRandom", false, func(m *market) string {
		for n := range m.days {
			for range 3 {
				p := m.export("full", n, asOfDay(n))
				select {
				case <-time.After(time.Duration(m.rand.Int64N(int64(time.Second)))):
				case <-p.ended:
				}
				p.kill()
			}
			m.export("full", n, asOfDay(n)).wantExit(0)
		}
		return "full"
	}},
	{"TwoRunsAtOnce", false, func(m *market) string {
		for n := range m.days {
			one, other := m.export("full", n, asOfDay(n)), m.export("full", n, asOfDay(n))
			one.wantExit(0)
			other.wantExit(0)
		}
		return "full"
	}},
}

// However the exports of ten days come, the tables are the same, and the truth at any time.
func TestCatalogStories(t *testing.T) {
	items := max(400, *eventsFlag/20)
	for _, setup := range setups {
		for _, story := range marketStories {
			wanted := full || setup.quick && story.quick
			if !wanted || setup.name != "local" && story.name == "TwoRunsAtOnce" {
				continue
			}
			t.Run(fmt.Sprintf("store=%s/%s", setup.name, story.name), func(t *testing.T) {
				lake, heal := open(t, setup.serve)
				m := &market{T: t, dir: marketOf(t, items), lake: lake, rand: seeded(t), days: daysOfMarket}
				if setup.serve != nil {
					m.days = daysOfFaults
				}
				if err := os.MkdirAll(filepath.Dir(m.summary()), 0o755); err != nil {
					t.Fatal(err)
				}
				mode := story.tell(m)
				heal()
				m.isTheTruth(mode)
			})
		}
	}
}

// isTheTruth compares the lake with the truth, at a hundred times, and with that of an undisturbed run.
func (m *market) isTheTruth(mode string) {
	m.Helper()
	report, err := ledger.CheckCatalog(m.Context(), ledger.CatalogOptions{
		Truth: m.dir, Lake: m.lake, Times: 100, Seed: m.rand.Uint64(), AsOf: asOfDay(m.days - 1),
		Loaded: func(_, loaded string, asOf time.Time) bool { return loaded == mode && !asOf.After(asOfDay(m.days-1)) },
	})
	if err != nil {
		m.Fatal(err)
	}
	if !report.OK() {
		m.Errorf("the lake is not the truth: %v", report)
	}
	if story := filepath.Base(m.Name()); story == "FullExports" || story == "ShuffledDeltas" {
		readerAgrees(m, schemas.Users)
		readerAgrees(m, schemas.Items)
	}
	for _, table := range []string{schemas.Users.Name, schemas.Items.Name} {
		got, err := ledger.CatalogHash(m.Context(), m.lake, table)
		if err != nil {
			m.Fatal(err)
		}
		if want := m.wanted(table); got != want {
			m.Errorf("table %s has hash %v, want %v", table, got, want)
		}
		m.Logf("%s: %v", table, got)
	}
	runCommand(m.T, "verify", "verify", "--lake", m.lake)
	m.Logf("%v", report)
}

// readerAgrees compares what the Go reader gives with the truth, at random times: all rows of a table as they were then.
func readerAgrees[R any](m *market, table *schemas.Table[R]) {
	m.Helper()
	times := 100
	if !full || !filepath.IsAbs(m.lake) { // a bucket that is asked for each file takes its time
		times = 5
	}
	var truth []generator.Version
	err := generator.ReadVersions(m.dir, func(v *generator.Version) error {
		if v.Table == table.Name {
			truth = append(truth, *v)
		}
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
	st, err := store.Open(m.Context(), m.lake)
	if err != nil {
		m.Fatal(err)
	}
	defer func() { _ = st.Close() }() // only read
	begin, end := asOfDay(-1), asOfDay(m.days-1)
	for range times {
		at := begin.Add(time.Duration(m.rand.Int64N(int64(end.Sub(begin)))))
		want := map[string]string{}
		for _, v := range truth {
			if v.ValidFrom <= at.UnixMicro() && (v.ValidTo == 0 || v.ValidTo > at.UnixMicro()) && !v.IsDeleted {
				want[v.ID] = v.Content
			}
		}
		rows := 0
		err := asof.At(m.Context(), st, table, at, func(row *R) error {
			id, _ := table.Slot(row)
			if content := string(generator.Content(nil, table, row)); content != want[id] {
				m.Errorf("%s of %s as of %v is\n%s\nwant\n%s", id, table.Name, at, content, want[id])
			}
			rows++
			return nil
		})
		if err != nil {
			m.Fatal(err)
		}
		if rows != len(want) {
			m.Errorf("there are %d %s as of %v, want %d", rows, table.Name, at, len(want))
		}
		if m.Failed() {
			return
		}
	}
}

var wantedCatalogs sync.Map // folder, days and table -> ledger.Hash

// wanted returns the hash that a table must have: that of the first story, whose lake is the truth.
func (m *market) wanted(table string) ledger.Hash {
	m.Helper()
	if h, ok := wantedCatalogs.Load(fmt.Sprint(m.dir, m.days, table)); ok {
		return h.(ledger.Hash)
	}
	h, err := ledger.CatalogHash(m.Context(), m.lake, table)
	if err != nil {
		m.Fatal(err)
	}
	wantedCatalogs.Store(fmt.Sprint(m.dir, m.days, table), h)
	return h
}

// A run that is killed, at any moment, and run again, makes the bytes of one that was not.
func TestCatalogKilledIsTheSame(t *testing.T) {
	slow(t)
	dir := marketOf(t, max(400, *eventsFlag/20))
	undisturbed := &market{T: t, dir: dir, lake: filepath.Join(t.TempDir(), "lake"), rand: seeded(t)}
	killed := &market{T: t, dir: dir, lake: filepath.Join(t.TempDir(), "lake"), rand: undisturbed.rand}
	if err := os.MkdirAll(filepath.Dir(killed.summary()), 0o755); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for n := range 4 {
		began := time.Now()
		undisturbed.export("full", n, asOfDay(n)).wantExit(0)
		takes := time.Since(began)
		for part := 3; part < 10; part++ { // tenths of what a whole run takes: the first of them hit it for sure
			p := killed.export("full", n, asOfDay(n))
			select {
			case <-time.After(takes*time.Duration(part)/10 + time.Duration(killed.rand.Int64N(int64(takes/10)))):
				kills++
			case <-p.ended:
			}
			p.kill()
		}
		killed.export("full", n, asOfDay(n)).wantExit(0)
	}
	if kills < 5 {
		t.Errorf("it was killed %d times, want at least 5", kills)
	}
	want, got := catalogFiles(t, undisturbed.lake), catalogFiles(t, killed.lake)
	sameFiles(t, want, got)
	t.Logf("%d files are the same after %d kills", len(want), kills)
}

// catalogFiles returns the files of the tables of users and items, and their histories.
func catalogFiles(t *testing.T, lake string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"items/*/*", "items_history/*/*", "users/*/*", "users_history/*/*"} {
		names, err := filepath.Glob(filepath.Join(lake, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(filepath.Base(name), ".") {
				continue // of a writer that was killed
			}
			body, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			relative, _ := filepath.Rel(lake, name)
			all[relative] = body
		}
	}
	return all
}

// sameFiles wants the files that want has, byte by byte, and no others.
func sameFiles(t *testing.T, want, got map[string][]byte) {
	t.Helper()
	for name, body := range want {
		if !bytes.Equal(got[name], body) {
			t.Errorf("%s differs", name)
		}
	}
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("there are %d files, want %d, and some at least", len(got), len(want))
	}
}
