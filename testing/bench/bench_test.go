package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/testing/generator"
	"backbone/testing/python"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"one", []float64{3}, 3},
		{"odd", []float64{9, 1, 3}, 3},
		{"even", []float64{4, 1, 2, 100}, 3}, // (2+4)/2
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := median(tc.values); got != tc.want {
				t.Errorf("median(%v) = %v, want %v", tc.values, got, tc.want)
			}
		})
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v, want NaN", got)
	}
}

// A machine that is busy in one round slows both programs down: the ratio is that of a round.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	s := &Section{Rows: []*Row{
		{Name: "a", Samples: []Sample{{Wall: 1, CPU: 2, RSS: 100}, {Wall: 10, CPU: 2, RSS: 100}, {Wall: 1, CPU: 2, RSS: 200}}},
		{Name: "b", Samples: []Sample{{Wall: 2, CPU: 3, RSS: 300}, {Wall: 20, CPU: 2, RSS: 100}, {Wall: 3, CPU: 4, RSS: 100}}},
	}}
	s.Compare()
	type ratios struct{ Wall, CPU, RSS float64 }
	got := []ratios{
		{s.Rows[0].WallRatio, s.Rows[0].CPURatio, s.Rows[0].RSSRatio},
		{s.Rows[1].WallRatio, s.Rows[1].CPURatio, s.Rows[1].RSSRatio},
	}
	want := []ratios{
		{1, 1, 1},
		{2, 1.5, 1}, // of 2, 2, 3; of 1.5, 1, 2; of 3, 1, 0.5
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
}

func TestAims(t *testing.T) {
	for _, tc := range []struct {
		aim  Aim
		met  bool
		text string
	}{
		{Aim{What: "time", Got: 1.2, Most: 1.2}, true, "time: 1.20, want at most 1.20: met"},
		{Aim{What: "time", Got: 1.21, Most: 1.2}, false, "time: 1.21, want at most 1.20: NOT met"},
		{Aim{What: "speed", Got: 0.8, Least: 0.8}, true, "speed: 0.80, want at least 0.80: met"},
		{Aim{What: "speed", Got: 0.5, Least: 0.8}, false, "speed: 0.50, want at least 0.80: NOT met"},
		{Aim{What: "nothing measured", Got: math.NaN(), Most: 1}, false, "nothing measured: NaN, want at most 1.00: NOT met"},
	} {
		if tc.aim.Met() != tc.met || tc.aim.String() != tc.text {
			t.Errorf("%+v: %v, %q; want %v, %q", tc.aim, tc.aim.Met(), tc.aim, tc.met, tc.text)
		}
	}
}

func TestWrite(t *testing.T) {
	s := &Section{
		Title: "Batch: 1000 events", Unit: "events",
		Rows: []*Row{
			{Name: "plain Go", Count: 1000, Samples: []Sample{{Wall: 1, CPU: 2, RSS: 100e6}}},
			{Name: "backbone", Count: 1000, Samples: []Sample{{Wall: 1.5, CPU: 3, RSS: 50e6}}},
		},
		Aims:  []Aim{{What: "time", Got: 1.5, Most: 1.2}},
		Notes: []string{"equal rows"},
	}
	s.Compare()
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := `
Batch: 1000 events

            wall   CPU   RSS  wall s    (range)  CPU s  RSS MB  events/s  µs/event
  plain Go  1.00  1.00  1.00    1.00  1.00-1.00   2.00     100      1000   1000.00
  backbone  1.50  1.50  0.50    1.50  1.50-1.50   3.00      50       667   1500.00
aim: time: 1.50, want at most 1.20: NOT met
note: equal rows
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-events", "300000", "-rounds", "1", "-only", "batch,stream", "-items", "2000"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if o.events != 300_000 || o.rounds != 1 || o.items != 2000 || strings.Join(o.only, " ") != "batch stream" || o.cache == "" {
		t.Errorf("got %+v", o)
	}
	for _, args := range []string{"-only fast", "-events 10", "-rounds 0", "-items 1", "more", "-speed 3"} {
		if _, err := parse(strings.Fields(args), &bytes.Buffer{}); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestMeasure(t *testing.T) {
	// The test is its own program to measure: see TestMain.
	t.Setenv("BENCH_TEST_PROGRAM", "32")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, out, err := measure(t.Context(), self, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != "hello\n" || s.Wall <= 0 || s.CPU <= 0 || s.RSS < 32<<20 {
		t.Errorf("a program that holds 32 MiB printed %q and took %+v", out, s)
	}
	t.Setenv("BENCH_TEST_PROGRAM", "fail")
	if _, _, err := measure(t.Context(), self); err == nil || !strings.Contains(err.Error(), "it went wrong") {
		t.Errorf("a program that failed gave %v, want what it said", err)
	}
}

func TestOutcome(t *testing.T) {
	o, err := parseOutcome([]byte(`{"command":"interactions","read":10,"committed":7,"duplicate":2,"dead_lettered":1,"files":3}`))
	if err != nil {
		t.Fatal(err)
	}
	want := generator.Summary{Events: 10, Rows: 7, Repeated: 2, Broken: 1}
	if err := o.check(want); err != nil {
		t.Error(err)
	}
	want.Rows++
	if err := o.check(want); err == nil {
		t.Error("a row that is missing is not seen")
	}
}

func TestFingerprint(t *testing.T) {
	printed := func(o generator.Options) string {
		t.Helper()
		s, err := fingerprint(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := printed(generator.Options{Events: 3000, Seed: 1})
	if b := printed(generator.Options{Events: 3000, Seed: 1}); a != b {
		t.Errorf("the same generator has fingerprints %s and %s", a, b)
	}
	if b := printed(generator.Options{Events: 3000, Seed: 2}); a == b {
		t.Errorf("two seeds have the same fingerprint %s", a)
	}
}

// Each rating is another event, and their hours are as many as asked for.
func TestRatings(t *testing.T) {
	var out bytes.Buffer
	if err := writeRatings(&out, 500, 40); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 501 || lines[0] != "userId,movieId,rating,timestamp" {
		t.Fatalf("%d lines, the first is %q", len(lines), lines[0])
	}
	ratings, hours := map[string]bool{}, map[int64]bool{}
	for _, line := range lines[1:] {
		var user, film, at int64
		var stars float64
		if _, err := fmt.Sscanf(line, "%d,%d,%f,%d", &user, &film, &stars, &at); err != nil || stars < 0.5 || stars > 5 {
			t.Fatalf("%q: %v", line, err)
		}
		ratings[fmt.Sprint(user, film)] = true
		hours[at/3600] = true
	}
	if len(ratings) != 500 || len(hours) != 40 {
		t.Errorf("%d different ratings in %d hours, want 500 in 40", len(ratings), len(hours))
	}
}

func TestCPUOf(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	if got := cpuOf(os.Getpid()); got < 0 || got > 3600 {
		t.Errorf("this process took %v s", got)
	}
	if got := cpuOf(-1); got != 0 {
		t.Errorf("no process took %v s", got)
	}
}

// The script keeps all good events, once, in their partitions.
func TestScript(t *testing.T) {
	python.Path(t) // or skip
	path, err := findPython(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	truth, err := generate(t.Context(), filepath.Join(dir, "in"), generator.Options{Events: 2000, Files: 2, Seed: 7, BrokenShare: 0.05})
	if err != nil {
		t.Fatal(err)
	}
	for _, sorted := range []bool{false, true} {
		t.Run(fmt.Sprintf("sorted=%v", sorted), func(t *testing.T) {
			d := &duckdb{bench: &bench{}, python: path, in: &input{dir: filepath.Join(dir, "in"), truth: truth}, sorted: sorted}
			lake := filepath.Join(dir, fmt.Sprint("lake", sorted))
			if _, err := d.run(t.Context(), lake, 0); err != nil {
				t.Fatal(err)
			}
			got := python.Run(t, `
import sys, duckdb
lake, truth = sys.argv[1:]
db = duckdb.connect()
db.execute("set TimeZone='UTC'")
db.execute(f"create view rows as select * from read_parquet('{lake}/**/*.parquet', hive_types_autocast=false)")
db.execute(f"create view good as select * from '{truth}/truth.parquet' where verdict in ('good', 'late')")
print(db.execute("""select count(*) filter (r.event_id is null), count(*) filter (r.event_time <> g.event_time),
    count(*) filter (strftime(r.event_time, '%Y-%m-%d %H') <> r.dt || ' ' || r.hour)
    from good g left join rows r using (event_id)""").fetchone())
print(db.execute("select count(*) - count(distinct event_id) from rows").fetchone())
`, lake, d.in.dir)
			if want := "(0, 0, 0)\n(0,)\n"; got != want {
				t.Errorf("good events missing, at the wrong time, in the wrong partition, and ids twice: %q, want %q", got, want)
			}
			if d.rows == int64(truth.Rows+truth.Broken) {
				t.Errorf("all %d broken events became rows: the rules hold nothing back", truth.Broken)
			}
		})
	}
}

func generate(ctx context.Context, dir string, o generator.Options) (generator.Summary, error) {
	g, err := generator.New(o)
	if err != nil {
		return generator.Summary{}, err
	}
	return g.WriteFiles(ctx, dir)
}

// TestMain lets the test's program stand for one that is measured.
func TestMain(m *testing.M) {
	switch os.Getenv("BENCH_TEST_PROGRAM") {
	case "":
		os.Exit(m.Run())
	case "fail":
		fmt.Fprintln(os.Stderr, errors.New("it went wrong"))
		os.Exit(1)
	default:
		held := bytes.Repeat([]byte{1}, 32<<20)
		fmt.Println(os.Args[1])
		if held[len(held)-1] != 1 {
			os.Exit(2)
		}
	}
}

// In whatever order visits are written, they are the same, one of each session; nine of ten have a context.
func TestVisits(t *testing.T) {
	const n = 2000
	var contexts, ordered, unordered bytes.Buffer
	if err := errors.Join(writeContexts(&contexts, n), writeVisits(&ordered, n, 1), writeVisits(&unordered, n, stride)); err != nil {
		t.Fatal(err)
	}
	lines := func(b *bytes.Buffer) []string { return strings.Split(strings.TrimSpace(b.String()), "\n") }
	a, b := lines(&ordered), lines(&unordered)
	if cmp.Equal(a, b) {
		t.Error("both are in the same order")
	}
	slices.Sort(a)
	slices.Sort(b)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("visits (-ordered +unordered):\n%s", diff)
	}
	session := regexp.MustCompile(`"session_id":"([^"]*)"`)
	begun := map[string]bool{}
	for _, line := range lines(&contexts) {
		begun[session.FindStringSubmatch(line)[1]] = true
	}
	joined := 0
	for _, line := range a {
		if begun[session.FindStringSubmatch(line)[1]] {
			joined++
		}
	}
	if len(begun) != n || joined != n-n/unknownOf {
		t.Errorf("%d contexts, %d of %d visits have one; want %d and %d", len(begun), joined, len(a), n, n-n/unknownOf)
	}
}

func TestCheckJoined(t *testing.T) {
	for out, right := range map[string]bool{
		`{"joined": 1801, "unjoined": 201}`: true, `{"joined": 1802, "unjoined": 200}`: false, `{"joined": 1801, "unjoined": 0}`: false, ``: false,
	} {
		if err := checkJoined([]byte(out), 2002); (err == nil) != right {
			t.Errorf("checkJoined(%s) = %v", out, err)
		}
	}
}

// What a process takes counts while it runs, and with its parent afterwards.
func TestDescendants(t *testing.T) {
	before, err := descendants()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	during, err := descendants()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(during.processes, cmd.Process.Pid) {
		t.Errorf("processes are %v, want %d among them", during.processes, cmd.Process.Pid)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
	after, err := untilIdle(t.Context(), len(before.processes))
	if err != nil || slices.Contains(after.processes, cmd.Process.Pid) {
		t.Errorf("processes are %v, error %v; want %d no longer", after.processes, err, cmd.Process.Pid)
	}
}

func TestParseSoak(t *testing.T) {
	o, err := parseSoak([]string{"-minutes", "10", "-rate", "50", "-every", "5s"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if o.minutes != 10 || o.rate != 50 || o.every != 5*time.Second || o.flush != 30*time.Second || o.points != 10*time.Second {
		t.Errorf("got %+v", o)
	}
	for _, args := range []string{"-minutes 0", "-rate 0", "-every 1ms", "more", "-speed 3"} {
		if _, err := parseSoak(strings.Fields(args), &bytes.Buffer{}); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// Of an hour, each sixth has its mean, and growth is that of the second half: what comes before is warming up.
func TestWriteSoak(t *testing.T) {
	var moments []moment
	for minute := 5.0; minute <= 60; minute += 5 {
		m := moment{At: time.Duration(minute) * time.Minute, Values: map[string]float64{"job manager": 300, "task manager": min(minute, 30) * 10, "backlog": 0}}
		if minute > 30 {
			m.Values["worker"] = 70 + minute // of which 117.5 is the mean of the second half
		}
		if minute == 60 {
			m.Values["checkpoints"], m.Values["checkpoints failed"], m.Values["restarts"] = 360, 1, 0
		}
		moments = append(moments, m)
	}
	var out bytes.Buffer
	if err := writeSoak(&out, moments, time.Hour); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(out.String()) {
		for _, name := range []string{"minute", "job manager", "task manager", "worker", "job server", "backlog"} {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), name+"  "); ok {
				got[name] = strings.Join(strings.Fields(rest), " ")
			}
		}
	}
	want := map[string]string{
		"minute":       "10 20 30 40 50 60 least most growth an hour",
		"job manager":  "300 300 300 300 300 300 300 300 +0.0 %",
		"task manager": "75 175 275 300 300 300 50 300 +0.0 %", // (50+100)/2, ...
		"worker":       "- - - 108 118 128 105 130 +51.1 %",    // (105+110)/2, ...; 60 an hour, of 117.5
		"job server":   "- - - - - - - - -",
		"backlog":      "0 0 0 0 0 0 0 0 -",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if !strings.HasSuffix(out.String(), "360 checkpoints, 1 failed; 0 restarts\n") {
		t.Errorf("its end is %q", tail(out.Bytes(), 100))
	}
}

func TestSlope(t *testing.T) {
	for _, tc := range []struct {
		name string
		x, y []float64
		want float64
	}{
		{"a line", []float64{1, 2, 3}, []float64{10, 12, 14}, 2},
		{"up and down", []float64{0, 1, 2, 3}, []float64{0, 3, 0, 3}, 0.6}, // (1.5*1.5*2 - 0.5*1.5*2) / 5
		{"one point", []float64{1}, []float64{5}, math.NaN()},
		{"none", nil, nil, math.NaN()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := slopeOf(tc.x, tc.y); math.Abs(got-tc.want) > 1e-9 || math.IsNaN(got) != math.IsNaN(tc.want) {
				t.Errorf("slope is %v, want %v", got, tc.want)
			}
		})
	}
}

// This process has memory and threads, and what it has started is among its children.
func TestUsage(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if children := childrenOf(os.Getpid()); !slices.Contains(children, cmd.Process.Pid) {
		t.Errorf("children are %v, want %d among them", children, cmd.Process.Pid)
	}
	u, err := usageOf(os.Getpid())
	if err != nil || u.rss < 1<<20 || u.threads < 1 || u.files < 3 {
		t.Errorf("this process takes %+v, error %v", u, err)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}
