package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"backbone/testing/generator"
	"backbone/testing/ledger"
	"backbone/testing/pubsubserver"
)

// The topic and the subscription of all stories.
const (
	project      = "shop"
	topic        = "projects/shop/topics/events"
	subscription = "projects/shop/subscriptions/lake"
	source       = "pubsub://shop/lake"
)

// shortLease is how long a message stays with a client that was killed.
const shortLease = 10 * time.Second

// world is where a story happens.
type world struct {
	*testing.T
	*day
	lake   string // URL
	heal   func() // ends the faults of the network in front of the lake, where a story wants that
	broker *broker
	rand   *rand.Rand
	n      int // processes started
}

// broker is a Pub/Sub server.
type broker struct {
	addr string
	// stats returns counts that are not older than the call.
	stats func() pubsubserver.SubscriptionStats
}

// env points processes to the Pub/Sub server.
func (w *world) env() []string {
	if w.broker == nil {
		return nil
	}
	return []string{"PUBSUB_EMULATOR_HOST=" + w.broker.addr}
}

// job is a process that runs the pipeline.
type job struct {
	*process
	summary string // paths
	spill   string
}

// start starts the pipeline. Where the lake fails, batches of work do too, so each has a spill folder of its own.
func (w *world) start(input string, args ...string) *job {
	w.Helper()
	w.n++
	j := &job{summary: filepath.Join(w.TempDir(), "summary.json"), spill: w.TempDir()}
	args = append([]string{"interactions", "--input", input, "--lake", w.lake, "--spill_dir", j.spill, "--summary", j.summary}, args...)
	j.process = start(w.T, fmt.Sprintf("run %d", w.n), w.env(), args...)
	return j
}

// startStream starts the pipeline that reads the subscription and commits often.
func (w *world) startStream(args ...string) *job {
	w.Helper()
	return w.start(source, append([]string{"--flush_interval", "500ms"}, args...)...)
}

// spilled returns the size of the chunks that wait for their commit.
func (j *job) spilled() (bytes int64) {
	j.t.Helper()
	err := filepath.WalkDir(j.spill, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreGone(err)
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return ignoreGone(err)
	})
	if err != nil {
		j.t.Fatal(err)
	}
	return bytes
}

// ignoreGone takes it that a file may go away while one looks.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// finish waits until a run has ended well.
func (j *job) finish() summary {
	j.t.Helper()
	j.wantExit(0)
	return readSummary(j.t, j.summary)
}

// drain asks a stream to end, and waits until it has ended well.
func (j *job) drain() summary {
	j.t.Helper()
	if !j.running() {
		j.t.Fatalf("%s has ended by itself", j.name)
	}
	j.signal(syscall.SIGTERM)
	s := j.finish()
	if s.Outcome != "drained" {
		j.t.Errorf("%s: the outcome is %q, want drained", j.name, s.Outcome)
	}
	return s
}

// startBroker starts a Pub/Sub server inside the test, where faults can be ordered from it.
func (w *world) startBroker(o pubsubserver.Options) *pubsubserver.Server {
	w.Helper()
	s, err := pubsubserver.New(o)
	if err != nil {
		w.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	w.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.Errorf("close the Pub/Sub server: %v", err)
		}
		if err := <-served; err != nil {
			w.Errorf("the Pub/Sub server: %v", err)
		}
	})
	if err := s.Create(w.Context(), topic, subscription); err != nil {
		w.Fatal(err)
	}
	w.broker = &broker{addr: s.Addr(), stats: func() pubsubserver.SubscriptionStats { return s.Stats().Subscriptions[subscription] }}
	return s
}

// startBrokerProcess starts backbone pubsub, on the address of the one before if there was one.
func (w *world) startBrokerProcess(args ...string) *process {
	w.Helper()
	addr := "127.0.0.1:0"
	if w.broker != nil {
		addr = w.broker.addr
	}
	args = append([]string{"pubsub", "--addr", addr, "--create", topic + ":" + subscription, "--stats", "200ms"}, args...)
	p := start(w.T, "the Pub/Sub server", nil, args...)
	until(w.T, "the Pub/Sub server is ready", func() bool {
		if !p.running() {
			w.Fatal("the Pub/Sub server has ended")
		}
		line, ready := strings.CutSuffix(p.read(p.stdout), "\n")
		if ready {
			addr = strings.TrimPrefix(line, "export PUBSUB_EMULATOR_HOST=")
		}
		return ready
	})
	w.broker = &broker{addr: addr, stats: func() pubsubserver.SubscriptionStats { return loggedStats(w.T, p) }}
	return p
}

// statsLine is what backbone pubsub logs about a subscription.
var statsLine = regexp.MustCompile(`(?m)msg=subscription .*delivered=(\d+) redelivered=(\d+) acked=(\d+) .*backlog=(\d+) outstanding=(\d+) .*$`)

// loggedStats waits for the second line that a server logs from now on, and reads it.
func loggedStats(t *testing.T, p *process) (s pubsubserver.SubscriptionStats) {
	t.Helper()
	before := len(statsLine.FindAllString(p.log(), -1))
	until(t, "the Pub/Sub server logs its counts", func() bool {
		if !p.running() {
			t.Fatal("the Pub/Sub server has ended")
		}
		all := statsLine.FindAllStringSubmatch(p.log(), -1)
		if len(all) < before+2 {
			return false
		}
		for i, count := range []*int64{&s.Delivered, &s.Redelivered, &s.Acked, &s.Backlog, &s.Outstanding} {
			var err error
			if *count, err = strconv.ParseInt(all[len(all)-1][i+1], 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	return s
}

// startPublishing publishes the whole day, at a rate where that is not zero.
func (w *world) startPublishing(rate int) *process {
	w.Helper()
	return start(w.T, "the publisher", w.env(), "generate", "--topic", topic, "--rate", strconv.Itoa(rate),
		"--events", strconv.Itoa(w.options.Events), "--seed", strconv.FormatUint(w.options.Seed, 10))
}

// publishFile publishes the events of a file, one after the other.
func (w *world) publishFile(path string) {
	w.Helper()
	w.publishTo(topic, path)
}

// publishTo publishes the lines of a file to a topic.
func (w *world) publishTo(topic, path string) {
	w.Helper()
	file, err := os.Open(path)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	w.publish(topic, func(add func(data []byte)) {
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			add(slices.Clone(lines.Bytes()))
		}
		if err := lines.Err(); err != nil {
			w.Fatal(err)
		}
	})
}

// publish publishes what is added, and returns when the server has all of it.
func (w *world) publish(topic string, events func(add func(data []byte))) {
	w.Helper()
	client, err := pubsub.NewClient(w.Context(), project, option.WithEndpoint(w.broker.addr), option.WithoutAuthentication(),
		option.WithTelemetryDisabled(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = client.Close() }() // all results are known
	publisher := client.Publisher(topic)
	publisher.PublishSettings = generator.PublishSettings()
	var results []*pubsub.PublishResult
	events(func(data []byte) {
		results = append(results, publisher.Publish(w.Context(), &pubsub.Message{Data: data}))
	})
	publisher.Stop()
	for _, r := range results {
		if _, err := r.Get(context.WithoutCancel(w.Context())); err != nil {
			w.Fatalf("publish: %v", err)
		}
	}
}

// untilAllAcked waits until nothing that was published is left.
func (w *world) untilAllAcked(streams ...*job) {
	w.Helper()
	until(w.T, "all messages are acknowledged", func() bool {
		for _, j := range streams {
			if !j.running() {
				w.Fatalf("%s has ended by itself", j.name)
			}
		}
		return w.broker.stats().Backlog == 0
	})
}

// isTheTruth compares the lake with the truth and with that of the run to compare with. So many dead letters may be
// there twice: those of broken events that came from two sources, each of which has its dead letter.
func (w *world) isTheTruth(deadTwice int) {
	w.Helper()
	report, err := ledger.Check(w.Context(), ledger.Options{Truth: w.dir, Lake: w.lake})
	if err != nil {
		w.Fatal(err)
	}
	if report.Counts[ledger.DeadLetterTwice] == deadTwice {
		delete(report.Counts, ledger.DeadLetterTwice)
	}
	if !report.OK() {
		w.Errorf("the lake is not the truth (%d dead letters may be there twice): %v", deadTwice, report)
	}
	want, got := w.wanted(w.T), hash(w.T, w.lake)
	if got.rows != want.rows {
		w.Errorf("the rows have hash %v, want %v", got.rows, want.rows)
	}
	if deadTwice == 0 && got.deadLetters != want.deadLetters {
		w.Errorf("the dead letters have hash %v, want %v", got.deadLetters, want.deadLetters)
	}
	runCommand(w.T, "verify", "verify", "--lake", w.lake)
	w.Logf("%d rows and %d dead letters in %d files, as they must be: %v", report.Rows, report.DeadLetters, report.Files, got.rows)
}

// dataFiles returns the size and time of change of the files in a lake on the local disk, by their paths. A folder may
// be made while it looks.
func dataFiles(t *testing.T, lake string) map[string]fileState {
	t.Helper()
	all := map[string]fileState{}
	err := filepath.WalkDir(lake, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all[path] = fileState{info.Size(), info.ModTime()}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Errorf("look through the lake: %v", err)
	}
	return all
}

// fileState is what does not change of a file that is committed.
type fileState struct {
	size     int64
	modified time.Time
}
