package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func threads() int { return runtime.GOMAXPROCS(0) }

const (
	project      = "bench"
	topic        = "projects/" + project + "/topics/events"
	subscription = "projects/" + project + "/subscriptions/lake"
)

// stream compares a plain subscriber and the pipeline on a backlog of messages.
func (b *bench) stream(ctx context.Context) (*Section, error) {
	s := &Section{
		Title: fmt.Sprintf("Streaming: a backlog of %d messages, until all are acknowledged, flush interval %v", b.messages, b.flush),
		Unit:  "messages",
	}
	same := &agreement{bench: b}
	var server []float64
	contend := func(begin func(address, lake string) (environ []string, name string, args []string)) func(context.Context, string, int) (Sample, error) {
		return func(ctx context.Context, lake string, _ int) (Sample, error) {
			run, err := b.drainBacklog(ctx, lake, begin)
			server = append(server, run.serverCPU)
			if err != nil {
				return run.Sample, err
			}
			return run.Sample, same.check(ctx, lake)
		}
	}
	emulator := func(address string) []string { return []string{"PUBSUB_EMULATOR_HOST=" + address} }
	err := b.compare(ctx, s, int64(b.messages), []contender{
		{"plain Go", contend(func(address, lake string) ([]string, string, []string) {
			args := append([]string{"subscribe", "--lake", lake, "--flush_interval", b.flush.String()}, b.profile("plain-stream", 0)...)
			return emulator(address), b.plain, append(args, subscription)
		})},
		{"backbone interactions", contend(func(address, lake string) ([]string, string, []string) {
			args := []string{
				"interactions", "--input", "pubsub://" + project + "/lake", "--lake", lake, "--flush_interval", b.flush.String(),
				"--spill_dir", b.work + "/spill",
			}
			return emulator(address), b.backbone, append(args, b.profile("interactions-stream", 0)...)
		})},
	})
	if err != nil {
		return nil, err
	}
	ours := s.Rows[1]
	s.Aims = []Aim{{What: "messages per second, against the plain subscriber", Got: 1 / ours.WallRatio, Least: 0.8}}
	s.Notes = append(s.Notes,
		"equal rows and dead letters: "+same.text,
		fmt.Sprintf("wall is from the start of the process to the last acknowledgement, CPU and RSS until its end; the server took %.2f s of CPU besides (median)", median(server)))
	return s, nil
}

// backlogRun is what it took to empty a subscription.
type backlogRun struct {
	Sample
	serverCPU float64 // seconds that the server took meanwhile
	middle    float64 // messages a second, from when a tenth was acknowledged to when nine tenths were
}

// drainBacklog starts a server, fills it, and lets a subscriber empty it. CPU and RSS are those of all processes below this one but the server:
// the subscriber may be a command that has a cluster work.
func (b *bench) drainBacklog(ctx context.Context, lake string, begin func(address, lake string) ([]string, string, []string)) (run backlogRun, err error) {
	server, err := startServer(ctx, b.backbone)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	publish, err := start(ctx, []string{"PUBSUB_EMULATOR_HOST=" + server.address}, b.backbone, "generate",
		"--events", strconv.Itoa(b.messages), "--seed", strconv.FormatUint(b.seed, 10), "--topic", topic)
	if err != nil {
		return run, err
	}
	if _, _, err := publish.wait(); err != nil {
		return run, err
	}
	if err := server.until(ctx, func(c serverCounts) bool { return c.Backlog == b.messages }); err != nil {
		return run, err
	}

	serverID := server.cmd.Process.Pid
	serverBefore := cpuOf(serverID)
	before, err := descendants(serverID)
	if err != nil {
		return run, err
	}
	memory := watchMemory(serverID)
	environ, name, args := begin(server.address, lake)
	subscriber, err := start(ctx, environ, name, args...)
	if err != nil {
		return run, err
	}
	middle, acked := server.rate(ctx, b.messages/10, b.messages*9/10)
	if acked == nil {
		acked = server.until(ctx, func(c serverCounts) bool { return c.Acked == b.messages })
	}
	wall := time.Since(subscriber.began)
	serverCPU := cpuOf(serverID) - serverBefore
	sample, _, err := subscriber.end()
	run = backlogRun{Sample: sample, serverCPU: serverCPU, middle: middle}
	run.Wall, run.RSS = wall.Seconds(), max(sample.RSS, memory())
	if err := errors.Join(acked, err); err != nil {
		return run, err
	}
	after, err := untilIdle(ctx, len(before.processes), serverID)
	run.CPU += after.cpu - before.cpu
	return run, err
}

// rate waits until one number of messages is acknowledged, and then until another is, and returns how many were in a second between.
func (s *server) rate(ctx context.Context, from, to int) (float64, error) {
	var counts [2]serverCounts
	var at [2]time.Time
	for i, least := range []int{from, to} {
		if err := s.until(ctx, func(c serverCounts) bool { counts[i] = c; return c.Acked >= least }); err != nil {
			return 0, err
		}
		at[i] = time.Now()
	}
	return float64(counts[1].Acked-counts[0].Acked) / at[1].Sub(at[0]).Seconds(), nil
}

// server is "backbone pubsub" as a process.
type server struct {
	cmd     *exec.Cmd
	address string

	mu     sync.Mutex
	counts serverCounts
	lines  chan struct{} // gets a value for each new line with counts; closed at the end
}

// serverCounts are of the subscription.
type serverCounts struct {
	Msg         string `json:"msg"`
	Acked       int    `json:"acked"`
	Backlog     int    `json:"backlog"`
	Outstanding int    `json:"outstanding"`
}

// statsEvery is how often the server tells its counts, and so how exact the end of a run is known.
const statsEvery = 50 * time.Millisecond

func startServer(ctx context.Context, program string) (*server, error) {
	s := &server{lines: make(chan struct{}, 1)}
	s.cmd = exec.CommandContext(ctx, program, "pubsub", "--addr", "127.0.0.1:0", "--create", topic+":"+subscription,
		"--max_memory", "8GiB", "--stats", statsEvery.String(), "--log_format", "json")
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go s.follow(stderr)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("backbone pubsub: %w", err), s.stop())
	}
	_, s.address, _ = strings.Cut(strings.TrimSpace(line), "PUBSUB_EMULATOR_HOST=")
	return s, nil
}

// follow reads what the server logs.
func (s *server) follow(stderr io.Reader) {
	defer close(s.lines)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		var c serverCounts
		if json.Unmarshal(lines.Bytes(), &c) != nil || c.Msg != "subscription" {
			continue
		}
		s.mu.Lock()
		s.counts = c
		s.mu.Unlock()
		select {
		case s.lines <- struct{}{}:
		default:
		}
	}
}

// until waits until the counts are as wanted. Five minutes without a new acknowledgement are an error.
func (s *server) until(ctx context.Context, wanted func(serverCounts) bool) error {
	last, since := serverCounts{}, time.Now()
	for {
		s.mu.Lock()
		c := s.counts
		s.mu.Unlock()
		if wanted(c) {
			return nil
		}
		if c != last {
			last, since = c, time.Now()
		}
		if time.Since(since) > 5*time.Minute {
			return fmt.Errorf("nothing happens any more: %+v", c)
		}
		select {
		case _, ok := <-s.lines:
			if !ok {
				return errors.New("backbone pubsub has ended")
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for range s.lines { // until its log ends
	}
	return s.cmd.Wait()
}

// cpuOf returns the processor time of a process that runs in seconds, or 0 where that cannot be told.
func cpuOf(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return (user + system) / 100 // the kernel's clock ticks, the same on all of today's machines
}
