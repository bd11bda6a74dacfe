package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"backbone/runners/child"
	"backbone/transforms/lake/store"
)

// Launcher runs ticks of a launch. Its methods are safe for many goroutines.
type Launcher struct {
	// File says what runs.
	File *File
	// Store is the lake, which has the record.
	Store *store.Store
	// Program returns the program that runs a command line, not started yet.
	Program func(args []string) *exec.Cmd
	// Output is where what the pipeline prints goes, a line at a time or more.
	Output io.Writer
	// Log gets what happens.
	Log *slog.Logger
	// Clock tells the time. Default: SystemClock.
	Clock Clock
	// Stop, when closed, passes the request to end on to what runs; nothing more is begun. The end of a context ends what runs at once.
	Stop <-chan struct{}
}

// Options say how a tick is run.
type Options struct {
	// Wait is for who else runs the tick, and takes over from one that has died. Default: false, to leave it to them.
	Wait bool
	// Again runs a tick that has succeeded once more.
	Again bool
}

// Report is what became of the run of a tick.
type Report struct {
	Tick time.Time
	// Outcome is that of the last result, and Running or NotBegun where there is none of this run.
	Outcome Outcome
	// Already says that the result was there before, or is another's who ran the tick at the same time.
	Already bool
	// Owner is who runs the tick, or has run it.
	Owner Owner
	// ExitCode is that of the last attempt.
	ExitCode int
	// Error is why the run has failed.
	Error string
}

// Outcomes of reports only.
const (
	Running  Outcome = "running"   // somebody else is at it
	NotBegun Outcome = "not_begun" // something before it has failed, or was stopped
)

// Done tells whether there is nothing left to do: the tick has succeeded, or somebody else is at it.
func (r Report) Done() bool { return r.Outcome == Succeeded || r.Outcome == Running }

func reportOf(res *Result, already bool) Report {
	return Report{Tick: res.Tick, Outcome: res.Outcome, Already: already, Owner: res.Owner, ExitCode: res.ExitCode, Error: res.Error}
}

func (l *Launcher) clock() Clock {
	if l.Clock != nil {
		return l.Clock
	}
	return SystemClock{}
}

// Record returns the record of the launch.
func (l *Launcher) Record() *Record { return NewRecord(l.Store, l.File.Name) }

// Args returns the command line of a tick, without the name of the program.
func (l *Launcher) Args(ctx context.Context, tick time.Time) ([]string, error) {
	return l.File.Args(tick, func() (time.Time, error) { return l.Record().Previous(ctx, tick) })
}

// Run runs a tick, unless it has succeeded, or somebody is at it. An error says that the record could not be read or written, that a macro has
// no value (a *MacroError), or that somebody else has taken the tick over in the middle.
func (l *Launcher) Run(ctx context.Context, tick time.Time, o Options) (Report, error) {
	tick = tick.UTC()
	r := Report{Tick: tick, Outcome: NotBegun}
	record := l.Record()
	before, err := record.folder(ctx, tick)
	if err != nil {
		return r, err
	}
	if before.result > 0 && !o.Again {
		res, err := record.result(ctx, tick, before.result)
		if err != nil {
			return r, err
		}
		if res.Outcome == Succeeded {
			return reportOf(res, true), nil
		}
	}
	args, err := l.Args(ctx, tick)
	if err != nil {
		return r, &MacroError{err}
	}
	k := &keeper{record: record, tick: tick, clock: l.clock(), owner: NewOwner(), ttl: l.File.Lease}
	if report, err := l.acquire(ctx, k, before.result, o.Wait); report != nil || err != nil {
		if report == nil {
			report = &r
		}
		return *report, err
	}
	return l.hold(ctx, k, before.result, args)
}

// MacroError says that a macro has no value at a tick: nothing was started, and it will fail again.
type MacroError struct{ err error }

func (e *MacroError) Error() string { return e.err.Error() }

// Unwrap gives the mistake itself.
func (e *MacroError) Unwrap() error { return e.err }

// acquire takes the lease. The report is not nil where that was not to be: somebody else is at it, or has just ended.
func (l *Launcher) acquire(ctx context.Context, k *keeper, results int, wait bool) (*Report, error) {
	pause := min(k.ttl/4, 2*time.Second)
	watched, unchanged := 0, time.Duration(0) // a lease, and how long nobody has renewed it while we looked
	for told := false; ; {
		newest, err := k.record.newestLease(ctx, k.tick)
		if err != nil {
			return nil, err
		}
		if newest.number != watched {
			changed := watched > 0
			watched, unchanged = newest.number, 0
			if changed && !wait && !newest.free(k.clock.Now()) {
				return &Report{Tick: k.tick, Outcome: Running, Owner: newest.Owner}, nil
			}
		}
		now := k.clock.Now()
		if newest.free(now) || unchanged > newest.ttl()+clockSkew(newest.ttl()) {
			ok, err := k.take(ctx, newest.number, false)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue // somebody was faster
			}
			if newest.number > 0 && !newest.Released {
				l.Log.Warn("taking over: who ran this has not renewed its lease", "launch", l.File.Name, "tick", k.tick, "owner", newest.Owner.String())
			}
			return l.endedMeanwhile(ctx, k, results)
		}
		// An end of the lease that no right clock can have set is not believed: it is watched instead.
		if !wait && newest.plausible(now) {
			return &Report{Tick: k.tick, Outcome: Running, Owner: newest.Owner}, nil
		}
		if !told {
			told = true
			l.Log.Info("waiting for who runs this", "launch", l.File.Name, "tick", k.tick, "owner", newest.Owner.String(), "until", newest.Until)
		}
		if err := l.sleep(ctx, pause); err != nil {
			return &Report{Tick: k.tick, Outcome: NotBegun, Error: "stopped while waiting for " + newest.Owner.String()}, nil //nolint:nilerr // it is what was asked for
		}
		unchanged += pause
		if f, err := k.record.folder(ctx, k.tick); err != nil || f.result > results {
			return l.resultOf(ctx, k, f.result, err)
		}
	}
}

// endedMeanwhile gives the lease back where somebody else has made a result while it was being taken.
func (l *Launcher) endedMeanwhile(ctx context.Context, k *keeper, results int) (*Report, error) {
	f, err := k.record.folder(ctx, k.tick)
	if err == nil && f.result <= results {
		return nil, nil
	}
	return l.resultOf(ctx, k, f.result, errors.Join(err, k.release(ctx)))
}

func (l *Launcher) resultOf(ctx context.Context, k *keeper, number int, err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	res, err := k.record.result(ctx, k.tick, number)
	if err != nil {
		return nil, err
	}
	report := reportOf(res, true)
	return &report, nil
}

// sleep waits, or returns an error where the launcher is asked to end.
func (l *Launcher) sleep(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.Stop != nil {
		stop := l.Stop
		go func() {
			select {
			case <-stop:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return l.clock().Sleep(ctx, d)
}

// hold runs the tick while the lease is kept, and records the result.
func (l *Launcher) hold(ctx context.Context, k *keeper, results int, args []string) (Report, error) {
	// What has happened is recorded also when all is to end at once.
	recording := context.WithoutCancel(ctx)
	keeping, cancel := context.WithCancel(recording)
	lost := make(chan struct{})
	var lostTo error
	var keep sync.WaitGroup
	keep.Go(func() {
		lostTo = k.keep(keeping, func(err error) {
			l.Log.Warn("the lease cannot be renewed, trying again", "launch", l.File.Name, "tick", k.tick, "error", err)
		})
		if lostTo != nil {
			close(lost)
		}
	})
	first := k.held.number
	began := k.clock.Now().UTC()
	last, err := l.attempts(ctx, recording, k, first, args, lost)
	cancel()
	keep.Wait()
	report := Report{Tick: k.tick, Outcome: Unknown, Owner: k.owner}
	if last.End != nil {
		report.Outcome, report.ExitCode, report.Error = last.End.Outcome, last.End.ExitCode, last.End.Error
	}
	if err = errors.Join(err, lostTo); err != nil {
		return report, err
	}
	if report.Outcome == Stopped {
		return report, k.release(recording)
	}
	// A result is of who holds the lease, also if it has slept.
	if err := k.renew(recording); err != nil {
		return report, err
	}
	all, err := k.record.attempts(recording, k.tick)
	if err != nil {
		return report, err
	}
	res := &Result{
		Number: results + 1, Launch: l.File.Name, Tick: k.tick, Outcome: report.Outcome, ExitCode: report.ExitCode, Error: report.Error, Owner: k.owner,
		Started: began, Ended: k.clock.Now().UTC(), Summary: last.End.Summary, Attempts: all,
	}
	outcome, err := k.record.commit(recording, k.record.key(k.tick, fmt.Sprintf("result-%06d.json", res.Number)), res)
	if err != nil {
		return report, err
	}
	if outcome == store.Taken {
		theirs, err := k.record.result(recording, k.tick, res.Number)
		if err != nil {
			return report, err
		}
		l.Log.Warn("somebody else has run this at the same time, and has ended first", "launch", l.File.Name, "tick", k.tick, "owner", theirs.Owner.String())
		report = reportOf(theirs, true)
	}
	return report, k.release(recording)
}

// attempts tries the tick until it succeeds, or there is no use in another.
func (l *Launcher) attempts(ctx, recording context.Context, k *keeper, lease int, args []string, lost <-chan struct{}) (Attempt, error) {
	wait := l.File.Backoff
	for n := 1; ; n++ {
		a, err := k.record.begin(recording, k.tick, Attempt{Owner: k.owner, Lease: lease, Started: k.clock.Now().UTC(), Args: args})
		if err != nil {
			return a, err
		}
		l.Log.Info("launching", "launch", l.File.Name, "tick", k.tick, "attempt", a.Number, "command", strings.Join(args, " "))
		end := l.attempt(ctx, args, lost)
		end.Ended = k.clock.Now().UTC()
		a.End = &end
		if err := k.record.end(recording, k.tick, a); err != nil {
			return a, err
		}
		if end.Outcome == Succeeded {
			l.Log.Info("launch has succeeded", "launch", l.File.Name, "tick", k.tick, "attempt", a.Number)
			return a, nil
		}
		again := (end.Outcome == Failed || end.Outcome == TimedOut) && n < l.File.Attempts
		attributes := []any{"launch", l.File.Name, "tick", k.tick, "attempt", a.Number, "outcome", end.Outcome, "exit_code", end.ExitCode, "error", end.Error}
		if !again {
			l.Log.Error("launch has not succeeded", attributes...)
			return a, nil
		}
		l.Log.Warn("launch has failed, trying again", append(attributes, "in", wait)...)
		waiting, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-lost:
				cancel()
			case <-waiting.Done():
			}
		}()
		err = l.sleep(waiting, wait)
		cancel()
		if err != nil { // the failure stands, but it is no result: attempts are left
			a.End = &AttemptEnd{Ended: end.Ended, Outcome: Stopped, ExitCode: end.ExitCode, Error: "stopped before another attempt: " + end.Error}
			return a, nil //nolint:nilerr // it is what was asked for
		}
		wait = min(2*wait, l.File.MaxBackoff)
	}
}

// killAfter is how long a pipeline that is to end at once may take for it.
const killAfter = 10 * time.Second

// attempt runs the pipeline once.
func (l *Launcher) attempt(ctx context.Context, args []string, lost <-chan struct{}) AttemptEnd {
	failed := func(err error) AttemptEnd { return AttemptEnd{Outcome: Failed, ExitCode: 1, Error: err.Error()} }
	select {
	case <-l.Stop: // nothing is begun any more
		return AttemptEnd{Outcome: Stopped, ExitCode: 1, Error: "stopped before it began"}
	default:
	}
	dir, err := os.MkdirTemp("", "backbone-launch-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // among the temporary files, it does no harm
	summary := filepath.Join(dir, "summary.json")
	if l.File.Pipeline != Windows { // which counts nothing
		args = append(append([]string{}, args...), "--summary="+summary)
	}
	cmd := l.Program(args)
	last := &lastLine{w: l.Output}
	cmd.Stdout, cmd.Stderr = l.Output, last
	cmd.WaitDelay = killAfter // what it has started may hold its output open
	p, err := child.Start(l.File.Name, "", cmd)
	if err != nil {
		return failed(err)
	}
	why := l.await(ctx, p, lost)
	_ = p.Stop(0) // what it has left behind goes with it
	end := AttemptEnd{Outcome: why, ExitCode: p.ExitCode(), Error: last.String()}
	end.Summary, end.Error = readSummary(summary, end.Error)
	switch {
	case end.ExitCode == 0 && why != Lost:
		// Also where it was asked to end: a stream that has drained has done all that it had to.
		end.Outcome, end.Error = Succeeded, ""
	case why == TimedOut:
		end.Error = fmt.Sprintf("ended after the timeout of %v: %s", l.File.Timeout, end.Error)
	case why == "" && end.ExitCode == 2:
		end.Outcome = Refused
	case why == "":
		end.Outcome = Failed
	}
	if end.Error == "" && end.Outcome != Succeeded {
		end.Error = p.Exit().Error()
	}
	return end
}

// await waits for the end of the process, and tells it to end where that is due; the outcome says why, "" where it has ended by itself.
func (l *Launcher) await(ctx context.Context, p *child.Process, lost <-chan struct{}) (why Outcome) {
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// after has a channel closed when a duration has passed.
	after := func(d time.Duration) <-chan struct{} {
		passed := make(chan struct{})
		go func() {
			if l.clock().Sleep(waiting, d) == nil {
				close(passed)
			}
		}()
		return passed
	}
	stop, hard := l.Stop, ctx.Done()
	var timeout, kill <-chan struct{}
	if l.File.Timeout > 0 {
		timeout = after(l.File.Timeout)
	}
	for {
		select {
		case <-p.Ended():
			return why
		case <-stop: // it may take as long as it needs: a second signal does not
			why, stop, timeout = Stopped, nil, nil
			p.Signal(syscall.SIGTERM)
		case <-hard:
			why, hard, stop, timeout, kill = Stopped, nil, nil, nil, after(killAfter)
			p.Signal(syscall.SIGTERM)
		case <-lost:
			why, lost, timeout, kill = Lost, nil, nil, after(l.File.Grace)
			p.Signal(syscall.SIGTERM)
		case <-timeout:
			why, timeout, kill = TimedOut, nil, after(l.File.Grace)
			p.Signal(syscall.SIGTERM)
		case <-kill:
			_ = p.Stop(0) // it ends now
			kill = nil
		}
	}
}

// readSummary returns the summary at path, nil where there is none, and why the pipeline has failed: as the summary says, or else as said.
func readSummary(path, said string) (json.RawMessage, string) {
	file, err := os.Open(path)
	if err != nil {
		return nil, said
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	var summary struct {
		Error string `json:"error"`
	}
	if err != nil || json.Unmarshal(text, &summary) != nil {
		return nil, said
	}
	if summary.Error != "" {
		said = summary.Error
	}
	return text, said
}

// lastLine passes on what is written, and remembers the last line of it.
type lastLine struct {
	w    io.Writer
	mu   sync.Mutex
	tail []byte
}

// maxLine is how much of the last line is remembered, in bytes.
const maxLine = 4 << 10

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.tail = append(l.tail, p...)
	l.tail = bytes.Clone(l.tail[max(0, len(l.tail)-maxLine):])
	l.mu.Unlock()
	return l.w.Write(p)
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := bytes.TrimSpace(l.tail)
	text = text[bytes.LastIndexByte(text, '\n')+1:]
	var logged struct {
		Message string `json:"msg"`
	}
	if json.Unmarshal(text, &logged) == nil && logged.Message != "" { // --log_format json
		return logged.Message
	}
	return strings.ToValidUTF8(string(text), "?")
}
