package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"backbone/testing/flinkcluster"
)

// flinkParallelism is how many parts of a job run at once.
const flinkParallelism = 2

// fewEvents are so few that a job of them takes what any job takes.
const fewEvents = 1000

// flink compares a cluster of Flink on this machine with plain Go and with the direct runner. Its figures are those of the command, the
// cluster and the workers together; the cluster runs already.
func (b *bench) flink(ctx context.Context) (_ *Section, err error) {
	in, err := b.events(ctx, b.options.events, batchFiles)
	if err != nil {
		return nil, err
	}
	few, err := b.events(ctx, fewEvents, 1)
	if err != nil {
		return nil, err
	}
	if err := b.needDisk(in.truth.Bytes * 4); err != nil { // what waits between two steps is on the disk, too
		return nil, err
	}
	s := &Section{
		Title: fmt.Sprintf("Flink, parallelism %d: %d events, %d MB in %d files", flinkParallelism, in.truth.Events, in.truth.Bytes/1e6, batchFiles), Unit: "events",
	}
	cluster, err := flinkcluster.Start(ctx, flinkcluster.Options{Slots: flinkParallelism})
	if errors.Is(err, exec.ErrNotFound) {
		s.Notes = append(s.Notes, "Flink was left out: "+err.Error())
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	same := &agreement{bench: b}
	contenders := []contender{
		{"direct runner", b.interactions(in, same)},
		{"plain Go", b.plainFiles(in, same)},
		{"Flink", b.onFlink(cluster, in, same)},
		{fmt.Sprintf("Flink, %d events", fewEvents), b.onFlink(cluster, few, nil)},
	}
	if _, err := b.onFlink(cluster, few, nil)(ctx, filepath.Join(b.work, "first"), 0); err != nil { // Java is slow at first
		return nil, err
	}
	if err := b.compare(ctx, s, int64(in.truth.Events), contenders); err != nil {
		return nil, err
	}
	direct, flink, start := s.Rows[0], s.Rows[2], s.Rows[3]
	start.Count = fewEvents
	s.Aims = []Aim{{What: "events a second against the direct runner", Got: 1 / flink.ratio(direct, wall), Least: 0.5}}
	s.Notes = append(s.Notes,
		"all lakes are equal: "+same.text,
		fmt.Sprintf("without what a job of %d events takes, Flink has %.2f of the wall time and %.2f of the CPU time of the direct runner", fewEvents,
			(flink.Median(wall)-start.Median(wall))/direct.Median(wall), (flink.Median(cpu)-start.Median(cpu))/direct.Median(cpu)))
	return s, nil
}

// onFlink returns the run of the pipeline over files on a cluster. same may be nil.
func (b *bench) onFlink(cluster *flinkcluster.Cluster, in *input, same *agreement) func(context.Context, string, int) (Sample, error) {
	return func(ctx context.Context, lake string, _ int) (Sample, error) {
		before, err := descendants()
		if err != nil {
			return Sample{}, err
		}
		memory := watchMemory()
		summary := filepath.Join(b.work, "summary.json")
		sample, _, err := measure(ctx, b.backbone, "interactions", "--input", in.glob(), "--lake", lake, "--summary", summary,
			"--runner=flink", "--endpoint", cluster.Endpoint, "--flink_master", cluster.Master, "--parallelism", strconv.Itoa(flinkParallelism))
		sample.RSS = memory()
		if err != nil {
			return sample, err
		}
		after, err := untilIdle(ctx, len(before.processes))
		if err != nil {
			return sample, err
		}
		sample.CPU += after.cpu - before.cpu
		text, err := os.ReadFile(summary)
		if err != nil {
			return sample, err
		}
		o, err := parseOutcome(text)
		if err == nil {
			err = o.check(in.truth)
		}
		if err == nil && same != nil {
			err = same.check(ctx, lake)
		}
		return sample, err
	}
}

// flinkStream compares the stream on a cluster of Flink with the stream in one process, on a backlog of messages. The cluster runs already.
func (b *bench) flinkStream(ctx context.Context) (_ *Section, err error) {
	s := &Section{
		Title: fmt.Sprintf("Streaming on Flink, parallelism %d: a backlog of %d messages, until all are acknowledged, flush interval %v", flinkParallelism, b.messages, b.flush),
		Unit:  "messages",
	}
	cluster, err := flinkcluster.Start(ctx, flinkcluster.Options{Slots: flinkParallelism, Env: []string{"TMPDIR=" + b.work}})
	if errors.Is(err, exec.ErrNotFound) {
		s.Notes = append(s.Notes, "Flink was left out: "+err.Error())
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	same := &agreement{bench: b}
	var middle [2][]float64
	contend := func(n int, args ...string) func(context.Context, string, int) (Sample, error) {
		return func(ctx context.Context, lake string, _ int) (Sample, error) {
			run, err := b.drainBacklog(ctx, lake, func(address, lake string) ([]string, string, []string) {
				command := []string{"interactions", "--input", "pubsub://" + project + "/lake", "--lake", lake, "--flush_interval", b.flush.String()}
				return []string{"PUBSUB_EMULATOR_HOST=" + address}, b.backbone, append(command, args...)
			})
			if err != nil {
				return run.Sample, err
			}
			middle[n] = append(middle[n], run.middle)
			return run.Sample, same.check(ctx, lake)
		}
	}
	contenders := []contender{
		{"direct runner", contend(0, "--spill_dir", filepath.Join(b.work, "spill"))},
		{"Flink", contend(1, "--runner=flink", "--endpoint", cluster.Endpoint, "--flink_master", cluster.Master, "--parallelism", strconv.Itoa(flinkParallelism))},
	}
	few, err := b.events(ctx, fewEvents, 1)
	if err != nil {
		return nil, err
	}
	if _, err := b.onFlink(cluster, few, nil)(ctx, filepath.Join(b.work, "first"), 0); err != nil { // Java is slow at first
		return nil, err
	}
	if err := b.compare(ctx, s, int64(b.messages), contenders); err != nil {
		return nil, err
	}
	var ratios []float64
	for i := range middle[0] {
		ratios = append(ratios, middle[1][i]/middle[0][i])
	}
	s.Notes = append(s.Notes,
		"equal rows and dead letters: "+same.text,
		fmt.Sprintf("from a tenth of the messages to nine tenths, %.0f a second are acknowledged with the direct runner and %.0f on Flink, %.2f of it",
			median(middle[0]), median(middle[1]), median(ratios)),
		"wall is from the start of the command to the last acknowledgement, CPU until its end; CPU and RSS are those of all processes but the Pub/Sub server")
	return s, nil
}

// family is what the processes below this one have taken so far, those that have ended among them.
type family struct {
	processes []int
	cpu       float64 // seconds
	rss       int64   // bytes, of those that run
}

// clockTicks is how many there are of a second in what Linux says of processes.
const clockTicks = 100

// descendants returns what the system says of the processes below this one but some. A process that has ended counts with its parent.
func descendants(except ...int) (family, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return family{}, err
	}
	type process struct {
		parent int
		cpu    float64
		rss    int64
	}
	all := map[int]process{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		// The name of the program is in parentheses, and may have any in it.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		number := func(n int) int64 { // as proc(5) counts the fields
			v, _ := strconv.ParseInt(fields[n-3], 10, 64)
			return v
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 22 {
			return family{}, fmt.Errorf("%s has %q", path, text)
		}
		all[pid] = process{
			parent: int(number(4)), cpu: float64(number(14)+number(15)+number(16)+number(17)) / clockTicks, rss: number(24) * int64(os.Getpagesize()),
		}
	}
	var f family
	for pid, p := range all {
		if slices.Contains(except, pid) {
			continue
		}
		for above := p.parent; above > 1; above = all[above].parent {
			if above == os.Getpid() {
				f.processes, f.cpu, f.rss = append(f.processes, pid), f.cpu+p.cpu, f.rss+p.rss
				break
			}
		}
	}
	return f, nil
}

// untilIdle waits until as many processes are left as there were before a job: then what workers have taken counts with the task manager.
func untilIdle(ctx context.Context, processes int, except ...int) (family, error) {
	const most = time.Minute
	deadline := time.Now().Add(most)
	for {
		f, err := descendants(except...)
		if err != nil || len(f.processes) <= processes {
			return f, err
		}
		if time.Now().After(deadline) {
			return f, fmt.Errorf("after %v, %d processes of the cluster are left, and before the job there were %d", most, len(f.processes), processes)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return f, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// watchMemory looks at the memory of all processes below this one but some until it is asked for the most that there was.
func watchMemory(except ...int) (most func() int64) {
	ended, result := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		for {
			if f, err := descendants(except...); err == nil {
				most = max(most, f.rss)
			}
			select {
			case <-ended:
				result <- most
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(ended)
		return <-result
	}
}
