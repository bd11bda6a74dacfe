package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"backbone/runners/launch"
)

// launchFile writes a launch file about input, and returns its path and that of its lake.
func launchFile(t *testing.T, input string, more ...string) (path, lake string) {
	t.Helper()
	dir := t.TempDir()
	path, lake = filepath.Join(dir, "launch.yaml"), filepath.Join(dir, "lake")
	text := fmt.Sprintf("name: events\npipeline: interactions\noptions:\n  input: %q\n  lake: %q\n  spill_dir: %q\n%s\n", input, lake, filepath.Join(dir, "spill"), strings.Join(more, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, lake
}

// history is what the record of a launch says.
func history(t *testing.T, path string, args ...string) []launch.Run {
	t.Helper()
	p := start(t, "the history", nil, append([]string{"launch", path, "--history", "--json"}, args...)...)
	p.wantExit(0)
	var runs []launch.Run
	if err := json.Unmarshal([]byte(p.read(p.stdout)), &runs); err != nil {
		t.Fatal(err)
	}
	return runs
}

// launched counts the results in the record of a launch.
func launched(lake string) int {
	found, _ := filepath.Glob(filepath.Join(lake, "_runs", "events", "*", "result-*.json")) // the pattern is right
	return len(found)
}

// events generates files of events.
func events(t *testing.T, n int) (input string) {
	t.Helper()
	dir := t.TempDir()
	runCommand(t, "generate", "generate", "--events", fmt.Sprint(n), "--seed", "7", "--out", dir)
	return filepath.Join(dir, "interactions", "*.jsonl")
}

const tickOfLaunch = "2026-11-22T03:00:00Z"

// Of several launches of a tick at once one runs it, and all of them end well.
func TestLaunchAtOnce(t *testing.T) {
	path, lake := launchFile(t, events(t, *eventsFlag))
	var all []*process
	for i := range 4 {
		args := []string{"launch", path, "--tick", tickOfLaunch}
		if i%2 == 1 {
			args = append(args, "--wait")
		}
		all = append(all, start(t, fmt.Sprint("launch ", i), nil, args...))
	}
	ran := 0
	for _, p := range all {
		p.wantExit(0)
		ran += strings.Count(p.log(), "interactions done")
	}
	runs := history(t, path)
	if ran != 1 || len(runs) != 1 || runs[0].State != "succeeded" || len(runs[0].Attempts) != 1 {
		t.Errorf("it ran %d times; the history is %+v", ran, runs)
	}
	runCommand(t, "verify", "verify", "--lake", lake)
}

// A launcher that is killed in the middle takes its pipeline with it. The next one takes the tick over when its lease has run out, finishes it, and
// the record has both attempts.
func TestLaunchIsKilled(t *testing.T) {
	path, lake := launchFile(t, events(t, 20*max(*eventsFlag, 10_000)), "lease: 2s")
	killed := start(t, "the launch that is killed", nil, "launch", path, "--tick", tickOfLaunch)
	spilled := filepath.Join(filepath.Dir(lake), "spill")
	until(t, "the pipeline is at work", func() bool {
		entries, _ := os.ReadDir(spilled)
		return len(entries) > 0 || !killed.running()
	})
	if !killed.running() {
		t.Skip("it has ended before it was killed")
	}
	killed.kill()
	if got := history(t, path); len(got) != 1 || got[0].Result != nil {
		t.Skipf("it has ended before it was killed: %+v", got)
	}
	next := start(t, "the next launch", nil, "launch", path, "--tick", tickOfLaunch, "--wait")
	next.wantExit(0)
	runs := history(t, path)
	if len(runs) != 1 || runs[0].State != "succeeded" || len(runs[0].Attempts) != 2 || runs[0].Attempts[0].End != nil || runs[0].Attempts[1].End.Outcome != launch.Succeeded {
		t.Errorf("the history is %+v, want a success after an attempt whose end nobody has seen", runs)
	}
	if !strings.Contains(next.log(), "taking over") {
		t.Errorf("it says nothing of taking over:\n%s", next.log())
	}
	runCommand(t, "verify", "verify", "--lake", lake)
}

// The daemon runs each tick when it comes, once though there are two, and ends on SIGTERM.
func TestScheduleRun(t *testing.T) {
	slow(t)
	path, lake := launchFile(t, events(t, 1000), `schedule: {cron: "* * * * *"}`)
	daemons := []*process{start(t, "a daemon", nil, "schedule", "run", path), start(t, "another daemon", nil, "schedule", "run", path)}
	until(t, "two ticks have run", func() bool { return launched(lake) >= 2 })
	runs := history(t, path)
	for _, run := range runs[:2] {
		if len(run.Attempts) != 1 || run.State != "succeeded" {
			t.Errorf("%s has %d attempts, want 1", run.Tick, len(run.Attempts))
		}
	}
	if !runs[1].Tick.Equal(runs[0].Tick.Add(time.Minute)) {
		t.Errorf("ticks %s and %s, want a minute between", runs[0].Tick, runs[1].Tick)
	}
	for _, d := range daemons {
		d.signal(syscall.SIGTERM)
		d.wantExit(0)
	}
	runCommand(t, "verify", "verify", "--lake", lake)
}
