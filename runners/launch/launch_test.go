package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"backbone/transforms/lake/store"
)

const (
	// pipelineEnv makes the test binary a pipeline.
	pipelineEnv = "LAUNCH_TEST_PIPELINE"
	// launcherEnv makes it a launcher of the file that it names.
	launcherEnv = "LAUNCH_TEST_LAUNCHER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(pipelineEnv) != "":
		os.Exit(pipeline(os.Args[1:]))
	case os.Getenv(launcherEnv) != "":
		os.Exit(launcher(os.Getenv(launcherEnv)))
	}
	// Imported by clients of object stores, which start it when they are loaded.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// pipeline does what --do says, and notes in the file --runs that it has.
func pipeline(args []string) int {
	flags := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flags[name] = value
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM) // before it is known to have begun
	note, err := os.OpenFile(flags["runs"], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	fmt.Fprintf(note, "%d\n", os.Getpid())
	note.Close()
	switch do := flags["do"]; do {
	case "succeed":
		_ = os.WriteFile(flags["summary"], []byte(`{"outcome":"done","committed":7}`), 0o600)
		return 0
	case "fail":
		fmt.Fprintln(os.Stderr, "first\nthe disk is full")
		return 1
	case "refuse":
		fmt.Fprintln(os.Stderr, "lake is missing")
		return 2
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "fail once":
		if len(runs(flags["runs"])) == 1 {
			return 1
		}
		return 0
	case "stop":
		<-asked
		fmt.Fprintln(os.Stderr, "stopped before the end")
		return 1
	case "drain":
		<-asked
		return 0
	case "stay":
		select {}
	case "await": // until the file of that name is there
		for {
			if _, err := os.Stat(flags["runs"] + ".go"); err == nil {
				return 0
			}
			select {
			case <-asked:
				return 1
			case <-time.After(2 * time.Millisecond):
			}
		}
	default:
		return 2
	}
}

// launcher launches the last tick of a file, with the store beside it.
func launcher(path string) int {
	f, err := Load(path, nil)
	if err != nil {
		return 2
	}
	st, err := store.Open(context.Background(), f.Lake())
	if err != nil {
		return 2
	}
	l := &Launcher{File: f, Store: st, Program: program, Output: io.Discard, Log: slog.New(slog.DiscardHandler)}
	if r, err := l.Run(context.Background(), someTick, Options{}); err != nil || r.Outcome != Succeeded {
		return 1
	}
	return 0
}

// runs returns the ids of the processes that have run.
func runs(path string) []string {
	text, _ := os.ReadFile(path)
	return strings.Fields(string(text))
}

func program(args []string) *exec.Cmd {
	self, _ := os.Executable()
	return &exec.Cmd{Path: self, Args: append([]string{"pipeline"}, args...), Env: append(os.Environ(), pipelineEnv+"=1", launcherEnv+"=")}
}

var someTick = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

// clock is that of this machine, but that it can be set. Who sleeps wakes when it is set to later, as if that time had passed, and does not mind when it
// is set back.
type clock struct{ ahead, passed atomic.Int64 }

func (c *clock) set(now time.Time) { c.jump(now.Sub(c.Now())) }

func (c *clock) jump(d time.Duration) {
	c.ahead.Add(int64(d))
	c.passed.Add(int64(max(0, d)))
}

func (c *clock) Now() time.Time { return time.Now().Round(0).Add(time.Duration(c.ahead.Load())) }

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	began, passed := time.Now(), c.passed.Load()
	for time.Since(began)+time.Duration(c.passed.Load()-passed) < d {
		if err := (SystemClock{}).Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// world is a lake, a launch file and what has run.
type world struct {
	t     *testing.T
	dir   string
	store *store.Store
	file  *File
}

// newWorld has a launch whose pipeline does something; more are lines of its file.
func newWorld(t *testing.T, do string, more ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	text := fmt.Sprintf("name: nightly\npipeline: interactions\noptions:\n  lake: %s\n  do: %s\n  runs: %s\nschedule: {cron: 0 3 * * *}\n%s\n",
		filepath.Join(w.dir, "lake"), do, w.runs(), strings.Join(more, "\n"))
	path := filepath.Join(w.dir, "nightly.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.file, err = Load(path, nil); err != nil {
		t.Fatal(err)
	}
	if w.store, err = store.Open(t.Context(), w.file.Lake()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	return w
}

func (w *world) runs() string { return filepath.Join(w.dir, "runs") }

func (w *world) launcher() *Launcher {
	return &Launcher{File: w.file, Store: w.store, Program: program, Output: io.Discard, Log: slog.New(slog.DiscardHandler)}
}

// await waits until n pipelines have begun.
func (w *world) await(n int) {
	w.t.Helper()
	for len(runs(w.runs())) < n {
		if w.t.Context().Err() != nil {
			w.t.FailNow()
		}
		time.Sleep(time.Millisecond)
	}
}

// let lets pipelines that await it end.
func (w *world) let() {
	w.t.Helper()
	if err := os.WriteFile(w.runs()+".go", nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// seen is what a record says of a tick, in short: the outcomes of attempts and of the result.
func (w *world) seen(tick time.Time) string {
	w.t.Helper()
	record := NewRecord(w.store, "nightly")
	attempts, err := record.attempts(w.t.Context(), tick)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := record.Result(w.t.Context(), tick)
	if err != nil {
		w.t.Fatal(err)
	}
	var words []string
	for _, a := range attempts {
		if a.End == nil {
			words = append(words, "?")
			continue
		}
		words = append(words, fmt.Sprint(a.End.Outcome, " ", a.End.ExitCode))
	}
	if res == nil {
		return strings.Join(words, ", ") + ": none"
	}
	if got := len(res.Attempts); got != len(attempts) {
		w.t.Errorf("result %d has %d attempts, but there are %d", res.Number, got, len(attempts))
	}
	return fmt.Sprintf("%s: %s %d %s", strings.Join(words, ", "), res.Outcome, res.ExitCode, res.Error)
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		do   string
		more []string
		want Outcome
		seen string
	}{
		{"succeed", nil, Succeeded, "succeeded 0: succeeded 0 "},
		{"fail", nil, Failed, "failed 1: failed 1 the disk is full"},
		{"fail", []string{"retries: {attempts: 3, backoff: 1ms}"}, Failed, "failed 1, failed 1, failed 1: failed 1 the disk is full"},
		{"fail once", []string{"retries: {attempts: 3, backoff: 1ms}"}, Succeeded, "failed 1, succeeded 0: succeeded 0 "},
		{"refuse", []string{"retries: {attempts: 3, backoff: 1ms}"}, Refused, "refused 2: refused 2 lake is missing"},
		{"crash", []string{"retries: {attempts: 2, backoff: 1ms}"}, Failed, "failed 137, failed 137: failed 137 signal: killed"},
	} {
		t.Run(test.do+strings.Join(test.more, ""), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.do, test.more...)
			r, err := w.launcher().Run(t.Context(), someTick, Options{})
			if err != nil || r.Outcome != test.want || r.Already {
				t.Errorf("report %+v, error %v, want %s", r, err, test.want)
			}
			if got := w.seen(someTick); got != test.seen {
				t.Errorf("the record says %q, want %q", got, test.seen)
			}
		})
	}
}

// After the timeout it is asked to end, and killed where it does not; a stream that drains then has done what it had to.
func TestTimeout(t *testing.T) {
	for _, test := range []struct{ do, seen string }{
		{"stop", "timed_out 1: timed_out 1 ended after the timeout of 1h0m0s: stopped before the end"},
		{"stay", "timed_out 137: timed_out 137 ended after the timeout of 1h0m0s: "},
		{"drain", "succeeded 0: succeeded 0 "},
	} {
		t.Run(test.do, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.do, "timeout: 1h", "grace: 2h", "lease: 24h")
			l, c := w.launcher(), &clock{}
			l.Clock = c
			go func() {
				w.await(1)
				c.jump(time.Hour)
				for test.do == "stay" && t.Context().Err() == nil { // its clock runs faster than ours
					c.jump(time.Minute)
					time.Sleep(time.Millisecond)
				}
			}()
			if _, err := l.Run(t.Context(), someTick, Options{}); err != nil {
				t.Fatal(err)
			}
			if got := w.seen(someTick); got != test.seen {
				t.Errorf("the record says %q, want %q", got, test.seen)
			}
		})
	}
}

// A tick that has succeeded is run once more only where that is asked for, one that has failed always.
func TestAgain(t *testing.T) {
	w := newWorld(t, "succeed")
	for i, test := range []struct {
		again   bool
		already bool
		runs    int
	}{{false, false, 1}, {false, true, 1}, {true, false, 2}, {false, true, 2}} {
		r, err := w.launcher().Run(t.Context(), someTick, Options{Again: test.again})
		if err != nil || r.Outcome != Succeeded || r.Already != test.already || len(runs(w.runs())) != test.runs {
			t.Errorf("run %d: %+v, error %v, %d runs; want already %v, %d runs", i, r, err, len(runs(w.runs())), test.already, test.runs)
		}
	}
	res, err := NewRecord(w.store, "nightly").Result(t.Context(), someTick)
	if err != nil || res.Number != 2 || len(res.Attempts) != 2 || !strings.Contains(string(res.Summary), `"committed": 7`) {
		t.Errorf("result %+v, error %v, want the second of 2 attempts, with its counts", res, err)
	}
}

// Of many launches of a tick at once one runs it. The others say who does, or wait for the end.
func TestManyAtOnce(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(fmt.Sprint("wait=", wait), func(t *testing.T) {
			w := newWorld(t, "await", "lease: 1m")
			var all sync.WaitGroup
			reports := make([]Report, 8)
			for i := range reports {
				all.Go(func() {
					l := w.launcher()
					c := &clock{}
					l.Clock = c
					var err error
					if reports[i], err = l.Run(t.Context(), someTick, Options{Wait: wait}); err != nil {
						t.Error(err)
					}
				})
			}
			w.await(1)
			history, err := NewRecord(w.store, "nightly").History(t.Context(), nil, time.Now(), 1)
			if err != nil || len(history) != 1 || history[0].State != StateRunning {
				t.Errorf("history %+v, error %v, want one that runs", history, err)
			}
			w.let()
			all.Wait()
			ran := 0
			for _, r := range reports {
				switch {
				case r.Outcome == Succeeded && !r.Already:
					ran++
				case r.Outcome == Running && wait, r.Outcome != Running && r.Outcome != Succeeded:
					t.Errorf("report %+v", r)
				}
			}
			if got := runs(w.runs()); ran != 1 || len(got) != 1 {
				t.Errorf("%d say that they ran it, and %d did; want 1", ran, len(got))
			}
			if got, want := w.seen(someTick), "succeeded 0: succeeded 0 "; got != want {
				t.Errorf("the record says %q, want %q", got, want)
			}
		})
	}
}

// While the owner lives, nobody else runs the tick, however long that takes: the lease is renewed, and old ones are removed.
func TestRenewed(t *testing.T) {
	w := newWorld(t, "await", "lease: 1m")
	c := &clock{}
	l := w.launcher()
	l.Clock = c
	done := make(chan Report)
	go func() {
		r, err := l.Run(t.Context(), someTick, Options{})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	w.await(1)
	for n := 1; n <= 5; n++ {
		for f := (folder{}); f.lease <= n; time.Sleep(10 * time.Millisecond) {
			var err error
			c.jump(time.Second)
			if f, err = l.Record().folder(t.Context(), someTick); err != nil {
				t.Fatal(err)
			}
		}
		other := w.launcher()
		other.Clock = c
		if r, err := other.Run(t.Context(), someTick, Options{}); err != nil || r.Outcome != Running {
			t.Errorf("another reports %+v, error %v, want that somebody runs it", r, err)
		}
	}
	w.let()
	if r := <-done; r.Outcome != Succeeded {
		t.Errorf("report %+v", r)
	}
	names, err := filepath.Glob(filepath.Join(w.dir, "lake", "_runs", "nightly", "*", "lease-*"))
	if err != nil || len(names) > 2 {
		t.Errorf("leases %v, error %v, want the last two", names, err)
	}
}

// A launcher that is killed takes its pipeline with it. The next one runs the tick when the lease has run out, and the record has both.
func TestLauncherIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends processes whose parent is gone")
	}
	w := newWorld(t, "await", "lease: 1s")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	killed := exec.CommandContext(t.Context(), self)
	killed.Env = append(os.Environ(), launcherEnv+"="+w.file.Path)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	w.await(1)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // killed
	w.let()
	r, err := w.launcher().Run(t.Context(), someTick, Options{Wait: true})
	if err != nil || r.Outcome != Succeeded || r.Already {
		t.Errorf("report %+v, error %v, want success", r, err)
	}
	if got, want := w.seen(someTick), "?, succeeded 0: succeeded 0 "; got != want {
		t.Errorf("the record says %q, want %q", got, want)
	}
}

// foreign leaves the lease and the attempt of somebody who has died.
func (w *world) foreign(until time.Time) Owner {
	w.t.Helper()
	owner := Owner{ID: "other", Host: "elsewhere", PID: 7}
	record := NewRecord(w.store, "nightly")
	l := lease{Owner: owner, Taken: until.Add(-w.file.Lease), Until: until, Seconds: w.file.Lease.Seconds()}
	if _, err := record.commit(w.t.Context(), record.key(someTick, "lease-000001"), l); err != nil {
		w.t.Fatal(err)
	}
	if _, err := record.begin(w.t.Context(), someTick, Attempt{Owner: owner, Started: l.Taken}); err != nil {
		w.t.Fatal(err)
	}
	return owner
}

// A lease that has run out is taken over; one that has run out for less than clocks may differ is not. An end that no right clock can have set
// is not believed, in either direction: such a lease is watched.
func TestDeadOwner(t *testing.T) {
	for _, test := range []struct {
		name string
		left time.Duration // of the lease, by our clock; it is for 1 minute
		wait bool
		want Outcome
	}{
		{"Holds", 50 * time.Second, false, Running},
		{"RunOutWithinSkew", -20 * time.Second, false, Running},
		{"RunOut", -31 * time.Second, false, Succeeded},
		{"ClockAhead", time.Hour, false, Succeeded},
		{"ClockAheadWait", time.Hour, true, Succeeded},
		{"HoldsWait", 50 * time.Second, true, Succeeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "succeed", "lease: 1m")
			owner := w.foreign(time.Now().Add(test.left))
			l, c := w.launcher(), &clock{}
			l.Clock = c
			ended := make(chan struct{})
			var hurry sync.WaitGroup
			hurry.Go(func() { // its clock runs faster than ours
				for started := false; ; c.jump(2 * time.Second) {
					f, _ := l.Record().folder(context.Background(), someTick)
					started = started || f.attempt > 1
					select {
					case <-ended:
						return
					case <-time.After(5 * time.Millisecond):
					}
					if started {
						<-ended
						return
					}
				}
			})
			if test.want == Running {
				close(ended)
				hurry.Wait()
				c.set(time.Now())
			}
			r, err := l.Run(t.Context(), someTick, Options{Wait: test.wait})
			if test.want != Running {
				close(ended)
				hurry.Wait()
			}
			if err != nil || r.Outcome != test.want {
				t.Fatalf("report %+v, error %v, want %s", r, err, test.want)
			}
			if test.want == Running {
				if r.Owner != owner {
					t.Errorf("owner %v, want %v", r.Owner, owner)
				}
				return
			}
			if got, want := w.seen(someTick), "?, succeeded 0: succeeded 0 "; got != want {
				t.Errorf("the record says %q, want %q", got, want)
			}
		})
	}
}

// A clock jumps in the middle of a run: that of who runs the tick, or that of another who then launches it. Where the other is made to believe that the lease has
// run out, it takes the tick over: the one that has lost it ends when it renews it, there is one result, and the record says of each attempt
// what it was. Else the other leaves the tick alone.
func TestClockJumps(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name    string
		ofFirst time.Duration
		ofOther time.Duration
		other   Outcome // what the other reports
		first   Outcome
		seen    string
	}{
		{"OtherForward", 0, day, Succeeded, Lost, "lost 1, succeeded 0: succeeded 0 "},
		{"OtherBack", 0, -day, Running, Succeeded, "succeeded 0: succeeded 0 "},
		{"FirstForward", day, 0, Running, Succeeded, "succeeded 0: succeeded 0 "},
		{"FirstBack", -day, 0, Succeeded, Lost, "lost 1, succeeded 0: succeeded 0 "},
		{"BothForward", day, day, Running, Succeeded, "succeeded 0: succeeded 0 "},
		{"BothBack", -day, -day, Running, Succeeded, "succeeded 0: succeeded 0 "},
		{"FirstBackWithinWhatClocksMay", -29 * time.Second, 0, Running, Succeeded, "succeeded 0: succeeded 0 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "await", "lease: 1m")
			first, other := w.launcher(), w.launcher()
			clocks := [2]*clock{{}, {}}
			first.Clock, other.Clock = clocks[0], clocks[1]
			type ended struct {
				Report
				err error
			}
			run := func(l *Launcher) <-chan ended {
				done := make(chan ended, 1)
				go func() {
					r, err := l.Run(t.Context(), someTick, Options{})
					done <- ended{r, err}
				}()
				return done
			}
			one := run(first)
			w.await(1)
			newest := func() lease {
				l, err := first.Record().newestLease(t.Context(), someTick)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			// renewed has the first renew its lease, if it can, by a clock that has passed the time for it.
			renewed := func() {
				for before := newest().number; newest().number == before && len(one) == 0; time.Sleep(time.Millisecond) {
					clocks[0].passed.Add(int64(time.Second))
				}
			}
			clocks[0].jump(test.ofFirst)
			renewed() // by the wrong clock
			clocks[1].jump(test.ofOther)
			two := run(other)
			if test.other == Running {
				// What the other does not believe it watches until it is renewed.
				for len(two) == 0 {
					renewed()
				}
				if r := <-two; r.err != nil || r.Outcome != Running {
					t.Errorf("the other reports %+v, error %v, want that somebody runs it", r.Report, r.err)
				}
				w.let()
			} else {
				w.await(2)
				for len(one) == 0 {
					clocks[0].passed.Add(int64(time.Second)) // it is time to renew
					time.Sleep(time.Millisecond)
				}
				w.let()
				if r := <-two; r.err != nil || r.Outcome != test.other || r.Already {
					t.Errorf("the other reports %+v, error %v, want %s", r.Report, r.err, test.other)
				}
			}
			if r := <-one; errors.Is(r.err, errLost) != (test.first == Lost) || r.Outcome != test.first {
				t.Errorf("the first reports %+v, error %v, want %s", r.Report, r.err, test.first)
			}
			if got := w.seen(someTick); got != test.seen {
				t.Errorf("the record says %q, want %q", got, test.seen)
			}
		})
	}
}

// Two that end at once, since a clock has jumped, have one result: that of the one who holds the lease.
func TestOneResult(t *testing.T) {
	w := newWorld(t, "await", "lease: 24h")
	first, second := w.launcher(), w.launcher()
	ahead := &clock{}
	ahead.jump(48 * time.Hour)
	second.Clock = ahead
	errs := make([]error, 2)
	reports := make([]Report, 2)
	var both sync.WaitGroup
	for i, l := range []*Launcher{first, second} {
		both.Go(func() { reports[i], errs[i] = l.Run(t.Context(), someTick, Options{}) })
		w.await(i + 1)
	}
	w.let()
	both.Wait()
	if !errors.Is(errs[0], errLost) || errs[1] != nil || reports[1].Outcome != Succeeded {
		t.Errorf("reports %+v, errors %v, want that the first has lost its lease", reports, errs)
	}
	res, err := first.Record().Result(t.Context(), someTick)
	if err != nil || res.Number != 1 || res.Owner != reports[1].Owner {
		t.Errorf("result %+v, error %v, want the first, of %v", res, err, reports[1].Owner)
	}
}

// A number of a lease that was removed can be made once more by who has slept for long. It is not the newest, so it holds nothing.
func TestOldNumber(t *testing.T) {
	w := newWorld(t, "succeed", "lease: 1m")
	record := NewRecord(w.store, "nightly")
	keep := func(id string) *keeper {
		return &keeper{record: record, tick: someTick, clock: SystemClock{}, owner: Owner{ID: id}, ttl: w.file.Lease}
	}
	awake, asleep := keep("awake"), keep("asleep")
	if ok, err := awake.take(t.Context(), 0, false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for range 4 {
		if err := awake.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := asleep.take(t.Context(), 1, false); ok || err != nil {
		t.Errorf("lease 2 of 5 is taken: %v, error %v", ok, err)
	}
	if err := awake.renew(t.Context()); err != nil {
		t.Error(err)
	}
}

// The request to end is passed on; what was stopped has no result, and is run by the next at once. A second one ends it at once.
func TestStop(t *testing.T) {
	for _, test := range []struct {
		do   string
		want Outcome
		seen string
	}{{"stop", Stopped, "stopped 1: none"}, {"drain", Succeeded, "succeeded 0: succeeded 0 "}} {
		t.Run(test.do, func(t *testing.T) {
			w := newWorld(t, test.do, "lease: 1h", "retries: {attempts: 3}")
			l := w.launcher()
			stop := make(chan struct{})
			l.Stop = stop
			go func() {
				w.await(1)
				close(stop)
			}()
			r, err := l.Run(t.Context(), someTick, Options{})
			if err != nil || r.Outcome != test.want {
				t.Errorf("report %+v, error %v, want %s", r, err, test.want)
			}
			if got := w.seen(someTick); got != test.seen {
				t.Errorf("the record says %q, want %q", got, test.seen)
			}
			history, err := l.Record().History(t.Context(), nil, time.Now(), 1)
			if err != nil || len(history) != 1 || history[0].State == StateRunning {
				t.Errorf("history %+v, error %v, want one that nobody runs", history, err)
			}
		})
	}
	t.Run("AtOnce", func(t *testing.T) {
		w := newWorld(t, "stay", "lease: 1h")
		l, c := w.launcher(), &clock{}
		l.Clock = c
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			w.await(1)
			cancel()
			for t.Context().Err() == nil { // its clock runs faster than ours
				c.jump(time.Second)
				time.Sleep(time.Millisecond)
			}
		}()
		if r, err := l.Run(ctx, someTick, Options{}); err != nil || r.Outcome != Stopped {
			t.Errorf("report %+v, error %v, want that it was stopped", r, err)
		}
		if got, want := w.seen(someTick), "stopped 137: none"; got != want {
			t.Errorf("the record says %q, want %q", got, want)
		}
	})
	t.Run("BetweenAttempts", func(t *testing.T) {
		w := newWorld(t, "fail", "retries: {attempts: 3, backoff: 24h, max_backoff: 24h}")
		l := w.launcher()
		stop := make(chan struct{})
		l.Stop = stop
		go func() {
			for t.Context().Err() == nil {
				if f, _ := l.Record().folder(t.Context(), someTick); len(f.ended) > 0 {
					close(stop)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if r, err := l.Run(t.Context(), someTick, Options{}); err != nil || r.Outcome != Stopped {
			t.Errorf("report %+v, error %v, want that it was stopped", r, err)
		}
		if got, want := w.seen(someTick), "failed 1: none"; got != want {
			t.Errorf("the record says %q, want %q", got, want)
		}
	})
}

func days(n int) []time.Time {
	var all []time.Time
	for i := range n {
		all = append(all, someTick.AddDate(0, 0, i))
	}
	return all
}

// outcomes are those of reports, with a star where it was so before.
func outcomes(reports []Report) []string {
	var all []string
	for _, r := range reports {
		word := string(r.Outcome)
		if r.Already {
			word += "*"
		}
		all = append(all, word)
	}
	return all
}

func TestRunAll(t *testing.T) {
	w := newWorld(t, "fail once")
	l := w.launcher()
	if got, want := outcomes(l.RunAll(t.Context(), days(1), 1, Options{})), []string{"failed"}; !cmp.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	// What has failed is run again, what is done is not.
	if got, want := outcomes(l.RunAll(t.Context(), days(2), 2, Options{})), []string{"succeeded", "succeeded"}; !cmp.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	if got, want := outcomes(l.RunAll(t.Context(), days(3), 3, Options{})), []string{"succeeded*", "succeeded*", "succeeded"}; !cmp.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}

	// A catalog is made version by version: after one that has failed, there is no use in the next.
	w = newWorld(t, "fail once")
	w.file.Pipeline = "catalog"
	if got, want := outcomes(w.launcher().RunAll(t.Context(), days(3), 3, Options{})), []string{"failed", "not_begun", "not_begun"}; !cmp.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}

	// No more than parallel at a time.
	w = newWorld(t, "await")
	done := make(chan []Report)
	go func() { done <- w.launcher().RunAll(t.Context(), days(6), 2, Options{}) }()
	w.await(2)
	if got := len(runs(w.runs())); got != 2 {
		t.Errorf("%d run at a time, want 2", got)
	}
	w.let()
	if got := outcomes(<-done); strings.Join(got, " ") != strings.TrimSpace(strings.Repeat("succeeded ", 6)) {
		t.Errorf("outcomes %v", got)
	}

	// After a request to end, nothing is begun.
	w = newWorld(t, "stop")
	l = w.launcher()
	stop := make(chan struct{})
	l.Stop = stop
	go func() {
		w.await(1)
		close(stop)
	}()
	if got, want := outcomes(l.RunAll(t.Context(), days(3), 1, Options{})), []string{"stopped", "not_begun", "not_begun"}; !cmp.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
}

// What was missed since the last success is due, as much of it as the file says, and then the latest.
func TestDue(t *testing.T) {
	w := newWorld(t, "succeed", "catch_up: 2")
	l := w.launcher()
	now := someTick.AddDate(0, 0, 4).Add(time.Hour)
	due, more, err := l.Due(t.Context(), now)
	if err != nil || more != 0 || !cmp.Equal(due, days(5)[4:]) {
		t.Errorf("due %v, %d more, error %v, want the latest: nothing has run yet", due, more, err)
	}
	l.RunAll(t.Context(), days(1), 1, Options{})
	due, more, err = l.Due(t.Context(), now)
	if err != nil || more != 1 || !cmp.Equal(due, days(5)[2:]) {
		t.Errorf("due %v, %d more, error %v, want the last three of four", due, more, err)
	}
	history, err := l.Record().History(t.Context(), w.file.Schedule, now, 10)
	var states []string
	for _, run := range history {
		states = append(states, run.State)
	}
	if want := []string{"succeeded", "missed", "missed", "missed", "missed"}; err != nil || !cmp.Equal(states, want) {
		t.Errorf("states %v, error %v, want %v", states, err, want)
	}
	previous, err := l.Record().Previous(t.Context(), someTick)
	if err != nil || !previous.IsZero() {
		t.Errorf("previous %v, error %v, want none before the first", previous, err)
	}
}

// Each tick is run once when it comes, also where the clock jumps over some, or back.
func TestFollow(t *testing.T) {
	w := newWorld(t, "succeed", "catch_up: 1")
	c := &clock{}
	stop := make(chan struct{})
	l := w.launcher()
	l.Clock, l.Stop = c, stop
	if r, err := l.Run(t.Context(), someTick, Options{}); err != nil || r.Outcome != Succeeded {
		t.Fatalf("report %+v, error %v", r, err)
	}
	// It begins three ticks later, of which one is caught up besides the latest.
	c.set(days(4)[3].Add(time.Minute))
	var following sync.WaitGroup
	following.Go(func() { l.Follow(t.Context(), true) })
	done := func(tick time.Time) {
		t.Helper()
		for {
			res, err := l.Record().Result(t.Context(), tick)
			if err != nil {
				t.Fatal(err)
			}
			if res != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	done(days(4)[3])
	c.jump(24 * time.Hour)
	done(days(5)[4])
	c.jump(-24 * time.Hour) // what has run is not run again
	c.jump(48 * time.Hour)
	done(days(6)[5])
	close(stop)
	following.Wait()
	ticks, err := l.Record().Ticks(t.Context())
	if want := []time.Time{days(6)[0], days(6)[2], days(6)[3], days(6)[4], days(6)[5]}; err != nil || !cmp.Equal(ticks, want) {
		t.Errorf("ticks %v, error %v, want %v", ticks, err, want)
	}
	if got := len(runs(w.runs())); got != 5 {
		t.Errorf("%d runs, want 5", got)
	}
}
