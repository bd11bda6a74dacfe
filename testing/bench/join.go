package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"backbone/testing/python"
)

// joinScript joins and counts in Bytewax, in one process. It does less than "backbone interactions", all of which is in its favour: it
// has one context a session and keeps all of them for good, checks and derives nothing, drops no duplicates, and writes nothing.
//
//go:embed join.py
var joinScript string

// countJoinedScript counts what the pipeline has joined.
//
// arguments: LAKE
const countJoinedScript = `
import sys, duckdb
print('{"joined": %d, "unjoined": %d}' % duckdb.connect().execute(f"""
    select count(*) filter (context_joined), count(*) filter (not context_joined) from read_parquet('{sys.argv[1]}/interactions/**/*.parquet')""").fetchone())
`

// Contexts begin all day long, and hold for a day: at its end all of them are open.
var joinDay = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

const joinTTL = 24 * time.Hour

// unknownOf is how many interactions there are for each that is of a session without a context.
const unknownOf = 10

// join measures what it takes to have the contexts of many sessions at hand: against the same interactions without contexts, and
// against Bytewax.
func (b *bench) join(ctx context.Context) ([]*Section, error) {
	n := b.sessions
	if err := b.needDisk(int64(n) * 1500); err != nil {
		return nil, err
	}
	contexts, ordered, unordered := filepath.Join(b.work, "contexts.jsonl"), filepath.Join(b.work, "ordered.jsonl"), filepath.Join(b.work, "unordered.jsonl")
	for name, write := range map[string]func(io.Writer) error{
		contexts:  func(w io.Writer) error { return writeContexts(w, n) },
		ordered:   func(w io.Writer) error { return writeVisits(w, n, 1) },
		unordered: func(w io.Writer) error { return writeVisits(w, n, stride) },
	} {
		if err := writeFile(name, write); err != nil {
			return nil, err
		}
	}
	counter, err := findPython(ctx)
	if err != nil {
		return nil, err // nobody else can tell if all were joined
	}
	same := &agreement{bench: b}
	joined := func(events string) func(context.Context, string, int) (Sample, error) {
		run := b.visits(2*n, "--input", events, "--context", contexts, "--context_ttl", joinTTL.String())
		return func(ctx context.Context, lake string, round int) (Sample, error) {
			sample, err := run(ctx, lake, round)
			if err != nil {
				return sample, err
			}
			_, out, err := measure(ctx, counter, "-c", countJoinedScript, lake)
			if err != nil {
				return sample, err
			}
			return sample, errors.Join(checkJoined(out, n), same.check(ctx, lake))
		}
	}

	state := &Section{Title: fmt.Sprintf("Join: %d sessions open, an interaction of each, from files", n), Unit: "interactions"}
	if err := b.compare(ctx, state, int64(n), []contender{
		{"without contexts", b.visits(n, "--input", ordered)},
		{"joined, in order", joined(ordered)},
		{"joined, in no order", joined(unordered)},
	}); err != nil {
		return nil, err
	}
	for _, r := range state.Rows[1:] {
		state.Aims = append(state.Aims, Aim{What: "memory in MB, " + r.Name, Got: r.Median(rss) / 1e6, Most: 1000})
	}
	state.Notes = append(state.Notes, "contexts are read and committed by the same run, and one in ten interactions has none", "equal rows in both orders: "+same.text)
	sections := []*Section{state}

	interpreter, err := python.FindBytewax(ctx)
	if err != nil {
		state.Notes = append(state.Notes, "Bytewax was left out: "+err.Error())
	} else {
		peer := &Section{Title: fmt.Sprintf("Join and count: %d interactions, %d sessions", n, n), Unit: "interactions"}
		if err := b.compare(ctx, peer, int64(n), []contender{
			{"backbone interactions", joined(ordered)},
			{"Bytewax", func(ctx context.Context, _ string, _ int) (Sample, error) {
				sample, out, err := measure(ctx, interpreter, "-c", joinScript, contexts, ordered, strconv.Itoa(int(joinTTL.Seconds())))
				if err != nil {
					return sample, err
				}
				return sample, checkJoined(out, n)
			}},
		}); err != nil {
			return nil, err
		}
		peer.Aims = []Aim{
			{What: "times faster than Bytewax", Got: peer.Rows[1].WallRatio, Least: 1},
			{What: "times less CPU time than Bytewax", Got: peer.Rows[1].CPURatio, Least: 1},
		}
		peer.Notes = []string{"Bytewax joins and counts in one process; backbone commits contexts and interactions to the lake, too, on all cores"}
		sections = append(sections, peer)
	}
	return sections, nil
}

// visits returns the run of the pipeline that has so many rows to commit.
func (b *bench) visits(rows int, args ...string) func(context.Context, string, int) (Sample, error) {
	return func(ctx context.Context, lake string, round int) (Sample, error) {
		sample, o, err := b.runInteractions(ctx, lake, append(args, b.profile("join", round)...)...)
		if err == nil && (o.Read != int64(rows) || o.Committed != int64(rows)) {
			err = fmt.Errorf("wrong result: %d read, %d committed; want %d", o.Read, o.Committed, rows)
		}
		return sample, err
	}
}

// checkJoined compares what a script has counted with what it has to.
func checkJoined(out []byte, n int) error {
	var got struct{ Joined, Unjoined int }
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("it printed %q: %w", out, err)
	}
	if unjoined := (n + unknownOf - 1) / unknownOf; got.Joined != n-unjoined || got.Unjoined != unjoined {
		return fmt.Errorf("wrong result: %d joined, %d not; want %d and %d", got.Joined, got.Unjoined, n-unjoined, unjoined)
	}
	return nil
}

// stride is the step in which interactions are taken in no order: a prime, so that each is taken once.
const stride = 611_953

// sessionOf returns a session that looks like none before it.
func sessionOf(i int) string { return fmt.Sprintf("s%016x", uint64(i)*0x9E3779B97F4A7C15) }

// startOf is when a session starts: all of them within the day.
func startOf(i, n int) time.Time {
	return joinDay.Add(time.Duration(float64(24*time.Hour) * float64(i) / float64(n))).Truncate(time.Millisecond)
}

const joinTime = "2006-01-02T15:04:05.000Z"

// writeContexts writes a context for each of n sessions, of some thousand kinds.
func writeContexts(w io.Writer, n int) error {
	for i := range n {
		_, err := fmt.Fprintf(w, `{"event_id":"c%08d-0b4e-4d1c-9f5e-7a6b5c4d3e2f","event_time":%q,"session_id":%q,"context":{"country":%q,"device_class":"mobile","os":"ios","browser":"safari","network":"wifi","app_version":"7.%d","locale":"en-US","city":"city %d"},"attributes":{"weather":"w%d","temperature":"%d"}}`+"\n",
			i, startOf(i, n).Format(joinTime), sessionOf(i), [...]string{"US", "DE", "AT", "FR", "GB"}[i%5], i%50, i%2000, i%20, i%40)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeVisits writes an interaction for each of n sessions within its first two hours, in steps of so many sessions. One in
// unknownOf is of another session.
func writeVisits(w io.Writer, n, step int) error {
	for k := range n {
		i := k * step % n
		session := sessionOf(i)
		if i%unknownOf == 0 {
			session = "unknown " + session
		}
		at := startOf(i, n).Add(time.Duration(i*7919%7200) * time.Second)
		_, err := fmt.Fprintf(w, `{"event_id":"e%08d-5c1d-4a2b-8e3f-1d2c3b4a5f6e","event_time":%q,"user_id":"u%d","session_id":%q,"event_type":"view","item_id":"p%d"}`+"\n",
			i, at.Format(joinTime), i%100_000, session, i%5000)
		if err != nil {
			return err
		}
	}
	return nil
}
