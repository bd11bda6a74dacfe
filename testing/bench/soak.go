package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"backbone/runners/flink"
	"backbone/runners/jobs"
	"backbone/testing/flinkcluster"
	"backbone/testing/ledger"
)

// soakCommand is the first argument by which this program lets a stream run on Flink for long.
const soakCommand = "flinksoak"

// soakOptions are what was asked for.
type soakOptions struct {
	minutes int
	rate    int
	every   time.Duration
	flush   time.Duration
	points  time.Duration
	options string
	dir     string
	json    string
}

func (o soakOptions) length() time.Duration { return time.Duration(o.minutes) * time.Minute }

func parseSoak(args []string, out io.Writer) (soakOptions, error) {
	var o soakOptions
	flags := flag.NewFlagSet("bench "+soakCommand, flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&o.minutes, "minutes", 60, "how long events flow")
	flags.IntVar(&o.rate, "rate", 300, "events a second")
	flags.DurationVar(&o.every, "every", 20*time.Second, "time from one sample to the next; not that between flushes, or all samples are of the same moment of it")
	flags.DurationVar(&o.flush, "flush_interval", 30*time.Second, "flush interval of the stream")
	flags.DurationVar(&o.points, "checkpoints", 10*time.Second, "time from one checkpoint to the next")
	flags.StringVar(&o.options, "flink_options", "", "options of Beam's Flink runner, as `NAME=VALUE,...`")
	flags.StringVar(&o.dir, "dir", "", "`FOLDER` for all that is written, which stays there (default one in the user's cache folder, which is removed)")
	flags.StringVar(&o.json, "json", "", "`FILE` for the samples in JSON")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.minutes < 1 || o.rate < 1 || o.every < time.Second {
		return o, fmt.Errorf("minutes is %d, rate is %d, every is %v; want at least 1, 1, 1s", o.minutes, o.rate, o.every)
	}
	return o, nil
}

// moment is how a soak is at a time.
type moment struct {
	At     time.Duration      `json:"at_nanoseconds"` // since events flow
	Values map[string]float64 `json:"values"`         // by the names of figures; what could not be had is not there
}

// figures are what a sample has, in the order of the table. RSS and heap are in MB.
var figures = []string{
	"job manager", "task manager", "worker", "job server", "launcher", "tm heap", "tm threads", "worker threads", "worker files",
	"checkpoint KB", "checkpoint ms", "lag s", "backlog", "events/s",
}

// soak lets events flow through a stream on Flink at a steady rate, and tells whether any process takes more as time goes by. The lake is
// compared with the truth at the end.
func soak(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parseSoak(args, os.Stderr)
	if err != nil {
		return err
	}
	b := &bench{log: os.Stderr}
	if b.cache = o.dir; o.dir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		b.cache = filepath.Join(dir, "backbone", "bench")
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if o.dir == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	}
	cluster, err := flinkcluster.Start(ctx, flinkcluster.Options{Slots: flinkParallelism, Dir: filepath.Join(b.work, "flink"), Env: []string{"TMPDIR=" + b.work}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	server, err := startServer(ctx, b.backbone)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()

	s := &soaking{soakOptions: o, bench: b, cluster: cluster, server: server, out: out}
	if err := s.run(ctx); err != nil {
		return errors.Join(err, s.report())
	}
	return s.report()
}

// soaking is a soak under way.
type soaking struct {
	soakOptions
	*bench
	cluster *flinkcluster.Cluster
	server  *server
	out     io.Writer

	launcher *process
	jobs     *flink.Jobs
	began    time.Time
	acked    int // by the last sample
	moments  []moment
}

func (s *soaking) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx) // what was started ends with this
	defer cancel()
	lake, truth, summary := filepath.Join(s.work, "lake"), filepath.Join(s.work, "truth"), filepath.Join(s.work, "summary.json")
	if s.jobs, err = flink.NewJobs(s.cluster.Master); err != nil {
		return err
	}
	emulator := []string{"PUBSUB_EMULATOR_HOST=" + s.server.address}
	command := []string{
		"interactions", "--input", "pubsub://" + project + "/lake", "--lake", lake, "--flush_interval", s.soakOptions.flush.String(),
		"--runner=flink", "--endpoint", s.cluster.Endpoint, "--flink_master", s.cluster.Master, "--parallelism", strconv.Itoa(flinkParallelism),
		"--flink_checkpoints", s.points.String(), "--job_name=soak", "--summary", summary,
	}
	if s.soakOptions.options != "" {
		command = append(command, "--flink_options", s.soakOptions.options)
	}
	if s.launcher, err = start(ctx, emulator, s.backbone, command...); err != nil {
		return err
	}
	drained := ended(s.launcher)
	// The rate is that of all of the time; a shop has more and less. Were that held, events would be late because they wait for the publisher.
	publisher, err := start(ctx, emulator, s.backbone, "generate", "--topic", topic, "--realtime", "--duration", s.length().String(),
		"--events", strconv.Itoa(s.minutes*60*s.rate), "--seed=1", "--out", truth)
	if err != nil {
		return err
	}
	s.began = time.Now()
	published := ended(publisher)

	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for flows := true; flows; {
		select {
		case err := <-published:
			if err != nil {
				return err
			}
			flows = false
		case err := <-drained:
			return errors.Join(errors.New("the stream has ended by itself"), err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			s.sample(ctx)
		}
	}
	if err := s.server.until(ctx, func(c serverCounts) bool { return c.Backlog == 0 }); err != nil {
		return err
	}
	if err := s.launcher.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := <-drained; err != nil {
		return err
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%s\n", bytes.TrimSpace(text))
	_, verified, err := measure(ctx, s.backbone, "verify", "--lake", lake)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s\n", bytes.TrimSpace(verified))
	report, err := ledger.Check(ctx, ledger.Options{Truth: truth, Lake: lake})
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("the lake is not the truth: %v", report)
	}
	fmt.Fprintln(s.out, "the lake is the truth, event by event")
	return nil
}

// ended waits for the end of a process.
func ended(p *process) <-chan error {
	c := make(chan error, 1)
	go func() {
		_, _, err := p.wait()
		c <- err
	}()
	return c
}

// sample looks at everything once. What does not answer now is left out.
func (s *soaking) sample(ctx context.Context) {
	m := moment{At: time.Since(s.began).Round(time.Second), Values: map[string]float64{}}
	s.server.mu.Lock()
	counts := s.server.counts
	s.server.mu.Unlock()
	m.Values["backlog"] = float64(counts.Backlog)
	before := time.Duration(0)
	if n := len(s.moments); n > 0 {
		before = s.moments[n-1].At
	}
	m.Values["events/s"] = float64(counts.Acked-s.acked) / (m.At - before).Seconds()
	s.acked = counts.Acked

	manager := s.cluster.Process(flinkcluster.TaskManager(0)).PID()
	for name, pid := range map[string]int{
		"job manager": s.cluster.Process(flinkcluster.JobManager).PID(), "task manager": manager,
		"job server": s.cluster.Process(flinkcluster.JobServer).PID(), "launcher": s.launcher.cmd.Process.Pid,
	} {
		if u, err := usageOf(pid); err == nil {
			m.Values[name] = u.rss / 1e6
			if name == "task manager" {
				m.Values["tm threads"] = u.threads
			}
		}
	}
	for _, pid := range childrenOf(manager) {
		if u, err := usageOf(pid); err == nil {
			m.Values["worker"] += u.rss / 1e6
			m.Values["worker threads"] += u.threads
			m.Values["worker files"] += u.files
		}
	}
	if heap, err := heapOfTaskManager(ctx, s.cluster.Master); err == nil {
		m.Values["tm heap"] = heap / 1e6
	}
	if all, err := s.jobs.List(ctx); err == nil && len(all) > 0 {
		if metrics, err := s.jobs.Metrics(ctx, all[0].ID); err == nil {
			m.take(metrics)
		}
	}
	s.moments = append(s.moments, m)
	fmt.Fprintf(s.log, "%v", m.At)
	for _, name := range figures {
		fmt.Fprintf(s.log, "  %s %s", name, number(m.value(name)))
	}
	fmt.Fprintf(s.log, "  checkpoints %s (%s failed)  restarts %s\n",
		number(m.value("checkpoints")), number(m.value("checkpoints failed")), number(m.value("restarts")))
}

// take takes what a job says of itself.
func (m *moment) take(metrics jobs.Metrics) {
	m.Values["restarts"] = float64(metrics.Restarts)
	if metrics.Watermark != nil {
		m.Values["lag s"] = time.Since(*metrics.Watermark).Seconds()
	}
	if c := metrics.Checkpoints; c != nil {
		m.Values["checkpoints"], m.Values["checkpoints failed"] = float64(c.Completed), float64(c.Failed)
		if c.Last != nil {
			m.Values["checkpoint KB"], m.Values["checkpoint ms"] = float64(c.Last.Bytes)/1e3, c.Last.Seconds*1e3
		}
	}
}

// value returns a figure, or NaN where there is none.
func (m moment) value(name string) float64 {
	if v, ok := m.Values[name]; ok {
		return v
	}
	return math.NaN()
}

func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.Abs(v) < 10 && v != math.Trunc(v):
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// report prints the figures of each sixth of the time, how much each grows in an hour by the second half, and what there was in all.
func (s *soaking) report() error {
	if len(s.moments) == 0 {
		return nil
	}
	if s.json != "" {
		text, err := json.MarshalIndent(s.moments, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return writeSoak(s.out, s.moments, s.length())
}

// soakParts is of how many parts of the time the means are told.
const soakParts = 6

func writeSoak(out io.Writer, moments []moment, length time.Duration) error {
	fmt.Fprintf(out, "\nMeans of the time before; memory in MB\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	step := length / soakParts
	fmt.Fprint(t, "minute\t")
	for i := range soakParts {
		fmt.Fprintf(t, "%s\t", number((time.Duration(i+1) * step).Minutes()))
	}
	fmt.Fprint(t, "least\tmost\tgrowth an hour\t\n")
	for _, name := range figures {
		fmt.Fprintf(t, "%s\t", name)
		for i := range soakParts {
			from := time.Duration(i) * step
			_, values := seriesOf(moments, name, from, from+step)
			fmt.Fprintf(t, "%s\t", number(mean(values)))
		}
		_, all := seriesOf(moments, name, 0, math.MaxInt64)
		if len(all) == 0 {
			fmt.Fprint(t, "-\t-\t-\t\n")
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", number(slices.Min(all)), number(slices.Max(all)), growth(seriesOf(moments, name, length/2, math.MaxInt64)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	last := moments[len(moments)-1]
	_, err := fmt.Fprintf(out, "%s checkpoints, %s failed; %s restarts\n",
		number(last.value("checkpoints")), number(last.value("checkpoints failed")), number(last.value("restarts")))
	return err
}

// seriesOf returns the values of a figure in a span of time, and when they were, in hours.
func seriesOf(moments []moment, name string, from, to time.Duration) (hours, values []float64) {
	for _, m := range moments {
		if v := m.value(name); m.At > from && m.At <= to && !math.IsNaN(v) {
			hours, values = append(hours, m.At.Hours()), append(values, v)
		}
	}
	return hours, values
}

// growth is by how much of their mean values grow in an hour, as the line says that fits them best (least squares).
func growth(hours, values []float64) string {
	slope, middle := slopeOf(hours, values), mean(values)
	if math.IsNaN(slope) || middle == 0 {
		return "-"
	}
	return fmt.Sprintf("%+.1f %%", 100*slope/middle)
}

// slopeOf is the slope of the line that fits points best; NaN where there are too few.
func slopeOf(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	var xy, xx float64
	for i := range x {
		xy, xx = xy+(x[i]-mx)*(y[i]-my), xx+(x[i]-mx)*(x[i]-mx)
	}
	return xy / xx
}

// mean is NaN of nothing.
func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// usage is what the system says of a process.
type usage struct{ rss, threads, files float64 }

var statusLine = regexp.MustCompile(`(?m)^(VmRSS|Threads):\s+(\d+)`)

func usageOf(pid int) (u usage, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for _, match := range statusLine.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return u, err
		}
		if match[1] == "VmRSS" {
			u.rss = n * 1024
		} else {
			u.threads = n
		}
	}
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	u.files = float64(len(files))
	return u, err
}

// childrenOf returns the processes that one has started.
func childrenOf(pid int) (children []int) {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil // there are none
	}
	for _, id := range strings.Fields(string(out)) {
		if n, err := strconv.Atoi(id); err == nil {
			children = append(children, n)
		}
	}
	return children
}

// heapOfTaskManager returns how much of its heap the only task manager of a cluster uses, in bytes.
func heapOfTaskManager(ctx context.Context, master string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+master+"/taskmanagers/metrics?get=Status.JVM.Memory.Heap.Used&agg=max", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // only read
	var values []struct {
		Max float64 `json:"max"`
	}
	if err := json.NewDecoder(response.Body).Decode(&values); err != nil {
		return 0, fmt.Errorf("%s says %s: %w", master, response.Status, err)
	}
	if len(values) == 0 {
		return 0, fmt.Errorf("%s tells no heap", master)
	}
	return values[0].Max, nil
}
