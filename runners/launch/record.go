package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/transforms/lake/store"
)

const (
	// runsFolder has what processes tell each other, and what was launched. Readers of tables skip it.
	runsFolder = "_runs"
	// maxObject is the size of the largest object of a record, in bytes.
	maxObject = 8 << 20
)

// Outcome is how an attempt, or a run, has ended.
type Outcome string

// The outcomes. The first four are results; of the others, attempts end so, and the tick is open still.
const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	TimedOut  Outcome = "timed_out" // it was ended after the timeout
	Refused   Outcome = "refused"   // it was called wrongly: it would fail again
	Stopped   Outcome = "stopped"   // somebody has ended the launcher
	Lost      Outcome = "lost"      // somebody else has taken the lease
	Unknown   Outcome = "unknown"   // its launcher has died, or it still runs
)

// Attempt is one try to run a tick.
type Attempt struct {
	Number  int       `json:"number"`
	Owner   Owner     `json:"owner"`
	Lease   int       `json:"lease"` // the number under which it began
	Started time.Time `json:"started"`
	Args    []string  `json:"args"` // the command line, without the program
	// End is how it has ended; nil where nobody has seen that.
	End *AttemptEnd `json:"end,omitempty"`
}

// AttemptEnd is how an attempt has ended.
type AttemptEnd struct {
	Ended    time.Time       `json:"ended"`
	Outcome  Outcome         `json:"outcome"`
	ExitCode int             `json:"exit_code"` // 128 and the number of the signal that has ended it, if one has
	Error    string          `json:"error,omitempty"`
	Summary  json.RawMessage `json:"summary,omitempty"` // what the pipeline has counted
}

// Result is what became of a tick.
type Result struct {
	Number   int             `json:"number"` // 1, or more where it was run again
	Launch   string          `json:"launch"`
	Tick     time.Time       `json:"tick"`
	Outcome  Outcome         `json:"outcome"`
	ExitCode int             `json:"exit_code"`
	Error    string          `json:"error,omitempty"`
	Owner    Owner           `json:"owner"`
	Started  time.Time       `json:"started"`
	Ended    time.Time       `json:"ended"`
	Summary  json.RawMessage `json:"summary,omitempty"`
	Attempts []Attempt       `json:"attempts"` // all that were known when it ended, those of launchers that died included
}

// Record is what is known of the runs of a launch.
type Record struct {
	store *store.Store
	name  string
}

// NewRecord returns the record of a launch in a lake.
func NewRecord(st *store.Store, name string) *Record { return &Record{store: st, name: name} }

func (r *Record) key(tick time.Time, name string) string {
	return path.Join(runsFolder, r.name, tick.UTC().Format(tickLayout), name)
}

// commit makes an object of v.
func (r *Record) commit(ctx context.Context, key string, v any) (store.Outcome, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return store.Unknown, err
	}
	return r.store.Commit(ctx, key, append(body, '\n'))
}

// folder is what there is of a tick: the highest number of each kind.
type folder struct {
	lease, attempt, result int
	ended                  map[int]bool // attempts
}

var objectName = regexp.MustCompile(`^(lease|attempt|result)-(\d{6,9})(-ended)?(\.json)?$`)

func (r *Record) folder(ctx context.Context, tick time.Time) (folder, error) {
	f := folder{ended: map[int]bool{}}
	for e, err := range r.store.ListDir(ctx, r.key(tick, "")) {
		if err != nil {
			return f, err
		}
		match := objectName.FindStringSubmatch(path.Base(e.Key))
		if match == nil {
			continue
		}
		n, err := strconv.Atoi(match[2])
		if err != nil {
			continue
		}
		switch {
		case match[1] == "lease":
			f.lease = max(f.lease, n)
		case match[1] == "result":
			f.result = max(f.result, n)
		case match[3] != "":
			f.ended[n] = true
		default:
			f.attempt = max(f.attempt, n)
		}
	}
	return f, nil
}

// read reads an object into v.
func (r *Record) read(ctx context.Context, key string, v any) error {
	body, err := r.store.ReadAll(ctx, key, maxObject)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (r *Record) result(ctx context.Context, tick time.Time, number int) (*Result, error) {
	res := &Result{}
	return res, r.read(ctx, r.key(tick, fmt.Sprintf("result-%06d.json", number)), res)
}

// Result returns the last result of a tick, nil where there is none.
func (r *Record) Result(ctx context.Context, tick time.Time) (*Result, error) {
	f, err := r.folder(ctx, tick)
	if err != nil || f.result == 0 {
		return nil, err
	}
	return r.result(ctx, tick, f.result)
}

// begin records that an attempt begins.
func (r *Record) begin(ctx context.Context, tick time.Time, a Attempt) (Attempt, error) {
	f, err := r.folder(ctx, tick)
	if err != nil {
		return a, err
	}
	for a.Number = f.attempt + 1; ; a.Number++ { // another may record one, too, where clocks are wrong
		outcome, err := r.commit(ctx, r.key(tick, fmt.Sprintf("attempt-%06d.json", a.Number)), a)
		if err != nil || outcome == store.Created {
			return a, err
		}
	}
}

// end records how an attempt has ended.
func (r *Record) end(ctx context.Context, tick time.Time, a Attempt) error {
	_, err := r.commit(ctx, r.key(tick, fmt.Sprintf("attempt-%06d-ended.json", a.Number)), a.End)
	return err
}

// attempts returns all attempts of a tick.
func (r *Record) attempts(ctx context.Context, tick time.Time) ([]Attempt, error) {
	f, err := r.folder(ctx, tick)
	if err != nil {
		return nil, err
	}
	var all []Attempt
	for n := 1; n <= f.attempt; n++ {
		var a Attempt
		if err := r.read(ctx, r.key(tick, fmt.Sprintf("attempt-%06d.json", n)), &a); err != nil {
			return nil, err
		}
		if f.ended[n] {
			a.End = &AttemptEnd{}
			if err := r.read(ctx, r.key(tick, fmt.Sprintf("attempt-%06d-ended.json", n)), a.End); err != nil {
				return nil, err
			}
		}
		all = append(all, a)
	}
	return all, nil
}

// Ticks returns the ticks of which something is recorded, in their order.
func (r *Record) Ticks(ctx context.Context) ([]time.Time, error) {
	var ticks []time.Time
	for e, err := range r.store.ListDir(ctx, path.Join(runsFolder, r.name)) {
		if err != nil {
			return nil, err
		}
		if t, err := time.Parse(tickLayout, path.Base(strings.TrimSuffix(e.Key, "/"))); err == nil {
			ticks = append(ticks, t)
		}
	}
	slices.SortFunc(ticks, time.Time.Compare)
	return ticks, nil
}

// Previous returns the last tick before another whose last result is a success; the zero time where there is none.
func (r *Record) Previous(ctx context.Context, before time.Time) (time.Time, error) {
	ticks, err := r.Ticks(ctx)
	if err != nil {
		return time.Time{}, err
	}
	for _, t := range slices.Backward(ticks) {
		if !t.Before(before) {
			continue
		}
		res, err := r.Result(ctx, t)
		if err != nil {
			return time.Time{}, err
		}
		if res != nil && res.Outcome == Succeeded {
			return t, nil
		}
	}
	return time.Time{}, nil
}

// Run is a tick in the history of a launch.
type Run struct {
	Tick time.Time `json:"tick"`
	// State is the outcome of the last result, or running, interrupted (begun, and nobody is at it) or missed (never begun).
	State    string    `json:"state"`
	Owner    *Owner    `json:"owner,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"`
	Result   *Result   `json:"result,omitempty"`
}

// The states of runs that have no result.
const (
	StateRunning     = "running"
	StateInterrupted = "interrupted"
	StateMissed      = "missed"
)

// History returns what became of the ticks up to now, in their order, the last limit of them. With a schedule, they include those since the
// first of the record that were missed.
func (r *Record) History(ctx context.Context, s *Schedule, now time.Time, limit int) ([]Run, error) {
	ticks, err := r.Ticks(ctx)
	if err != nil || len(ticks) == 0 {
		return nil, err
	}
	recorded := map[time.Time]bool{}
	for _, t := range ticks {
		recorded[t] = true
	}
	if s != nil {
		due, _ := s.Between(ticks[0], now, limit)
		for _, t := range due {
			if !recorded[t] {
				ticks = append(ticks, t)
			}
		}
		slices.SortFunc(ticks, time.Time.Compare)
	}
	var runs []Run
	for _, t := range ticks[max(0, len(ticks)-limit):] {
		run := Run{Tick: t, State: StateMissed}
		if recorded[t] {
			if run, err = r.run(ctx, t, now); err != nil {
				return nil, err
			}
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// run returns what is known of a tick.
func (r *Record) run(ctx context.Context, tick, now time.Time) (Run, error) {
	run := Run{Tick: tick, State: StateInterrupted}
	newest, err := r.newestLease(ctx, tick)
	if err != nil {
		return run, err
	}
	attempts, err := r.attempts(ctx, tick)
	if err != nil {
		return run, err
	}
	res, err := r.Result(ctx, tick)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return run, err
	}
	run.Attempts, run.Result = attempts, res
	switch {
	case !newest.free(now):
		run.State, run.Owner = StateRunning, &newest.Owner
	case res != nil:
		run.State, run.Owner = string(res.Outcome), &res.Owner
	}
	return run, nil
}
