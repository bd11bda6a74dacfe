package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"backbone/testing/faults"
	"backbone/testing/objectservers"
	"backbone/testing/pubsubserver"
)

// setups are where the lake is. The quick ones run without the build tag too.
var setups = []struct {
	name  string
	quick bool
	serve func(t testing.TB) (lake string) // starts an object store; nil where the lake is on the local disk
}{
	{"local", true, nil},
	{"s3", false, objectservers.StartS3},
	{"gs", false, objectservers.StartGCS},
}

// open returns the URL of an empty lake. The network in front of an object store fails until it is healed: one of ten
// requests is answered with 429 or 503, or its connection is cut before or after the server has acted.
func open(t *testing.T, serve func(testing.TB) string) (lake string, heal func()) {
	t.Helper()
	if serve == nil {
		return filepath.Join(t.TempDir(), "lake"), func() {}
	}
	lake, network := faults.InFront(t, serve(t))
	network.FailAtRandom(seeded(t), 0.1)
	return lake, func() {
		network.Heal()
		t.Logf("%d requests went wrong", network.Failed())
	}
}

// stories are what happens to the day. Each ends with a lake that is the truth; so many dead letters may be there twice.
var stories = []struct {
	name   string
	setups string // "all", or the only one
	quick  bool
	tell   func(w *world) (deadTwice int)
}{
	{"Files", "all", true, comesInFiles},
	{"PubSub", "all", true, comesThroughPubSub},
	{"BackfillBesideTheStream", "local", false, backfillBesideTheStream},
	{"KilledAtRandom", "all", false, killedAtRandom},
	{"KilledBetweenCommitAndAck", "local", false, killedBetweenCommitAndAck},
	{"PubSubServerKilled", "local", false, pubSubServerKilled},
	{"TwoStreamsAtOnce", "all", false, twoStreamsAtOnce},
	{"ZombieComesBack", "local", false, zombieComesBack},
	{"TwoBatchesAtOnce", "all", true, twoBatchesAtOnce},
	{"StreamAndBatchAtOnce", "local", false, streamAndBatchAtOnce},
	{"BatchKilledAtRandom", "all", false, batchKilledAtRandom},
}

func TestStories(t *testing.T) {
	for _, setup := range setups {
		for _, story := range stories {
			wanted := full || setup.quick && story.quick
			if !wanted || story.setups != "all" && story.setups != setup.name {
				continue
			}
			t.Run(fmt.Sprintf("store=%s/%s", setup.name, story.name), func(t *testing.T) {
				lake, heal := open(t, setup.serve)
				w := &world{T: t, day: dayOf(t, *eventsFlag), lake: lake, rand: seeded(t)}
				deadTwice := story.tell(w)
				heal()
				w.isTheTruth(deadTwice)
			})
		}
	}
}

// seeded returns what makes the random decisions of a test, and says how they can be had again.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("random decisions: -e2e.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// The files are read. The same command again finds nothing new, and leaves the files of the lake as they were.
func comesInFiles(w *world) int {
	w.wantCounts(w.start(w.files()).finish(), summary{
		Outcome: "done", Read: int64(w.total.Events), Committed: int64(w.total.Rows),
		Duplicate: int64(w.total.Repeated), DeadLettered: int64(w.total.Broken),
	})
	before := dataFiles(w.T, w.lake)
	w.wantCounts(w.start(w.files()).finish(), summary{Outcome: "done", Read: int64(w.total.Events), Duplicate: int64(w.total.Events)})
	w.wantFiles(before)
	return 0
}

// The same events are published, and the stream is drained when all are acknowledged.
func comesThroughPubSub(w *world) int {
	server := w.startBrokerProcess()
	stream := w.startStream()
	publisher := w.startPublishing(0)
	publisher.wantExit(0)
	w.untilAllAcked(stream)
	w.wantCounts(stream.drain(), summary{
		Outcome: "drained", Read: int64(w.total.Events), Committed: int64(w.total.Rows),
		Duplicate: int64(w.total.Repeated), DeadLettered: int64(w.total.Broken),
	})
	server.signal(syscall.SIGTERM)
	server.wantExit(0)
	return 0
}

// The first half of the day is read from files while the rest streams in, and a quarter of the day comes both ways.
func backfillBesideTheStream(w *world) int {
	w.startBroker(pubsubserver.Options{})
	r := startReader(w.T, w.lake)
	stream := w.startStream()
	w.publishFile(w.quarter(1))
	backfill := w.start(w.quarter(0) + "," + w.quarter(1))
	w.publishFile(w.quarter(2))
	w.publishFile(w.quarter(3))
	backfill.finish()
	w.untilAllAcked(stream)
	stream.drain()
	r.end()
	return w.brokenIn(w.T, 1)
}

// While messages flow, the stream is killed at random moments, and started again each time.
func killedAtRandom(w *world) int {
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	if filepath.IsAbs(w.lake) {
		startReader(w.T, w.lake)
		startDuckDB(w.T, w.lake)
	}
	publisher := w.startPublishing(max(200, w.options.Events/45))
	kills := 0
	for publisher.running() {
		stream := w.startStream()
		life := time.Duration(w.rand.Int64N(int64(6 * time.Second)))
		select {
		case <-time.After(life):
			w.Logf("killed after %v, %d rows and dead letters acknowledged so far", life, w.broker.stats().Acked)
			stream.kill()
			kills++
		case <-stream.ended:
			w.Fatalf("%s has ended by itself", stream.name)
		case <-publisher.ended:
			stream.kill()
		}
	}
	publisher.wantExit(0)
	if kills < 5 {
		w.Errorf("the stream was killed %d times while messages flowed, want at least 5", kills)
	}
	stream := w.startStream()
	w.untilAllAcked(stream)
	stream.drain()
	return 0
}

// The stream is killed when rows of it are committed and none of their messages is acknowledged, with each quarter of
// the day.
func killedBetweenCommitAndAck(w *world) int {
	server := w.startBroker(pubsubserver.Options{})
	server.DropAcks(1 << 40)
	r := startReader(w.T, w.lake)
	for quarter := range quarters {
		before := len(dataFiles(w.T, w.lake))
		stream := w.startStream()
		w.publishFile(w.quarter(quarter))
		until(w.T, "there are new files in the lake", func() bool {
			if !stream.running() {
				w.Fatalf("%s has ended by itself", stream.name)
			}
			return len(dataFiles(w.T, w.lake)) > before
		})
		stream.kill()
		// Its messages come again at once, and not in ten minutes. What is still being sent to it has a lease, too.
		until(w.T, "the Pub/Sub server has seen that the stream is gone", func() bool { return w.broker.stats().Streams == 0 })
		if _, err := server.ExpireLeases(subscription); err != nil {
			w.Fatal(err)
		}
	}
	if stats := w.broker.stats(); stats.Acked != 0 || stats.Backlog != int64(w.total.Events) {
		w.Fatalf("messages are acknowledged: %+v", stats)
	}
	server.DropAcks(0)
	stream := w.startStream()
	w.untilAllAcked(stream)
	s := stream.drain()
	if s.Duplicate <= int64(w.total.Repeated) {
		w.Errorf("of %d messages, %d were known; %d are repeated anyway, so none that was committed came again", s.Read, s.Duplicate, w.total.Repeated)
	}
	r.end()
	return 0
}

// The Pub/Sub server is killed while the stream reads, and comes back with what is on its disk.
func pubSubServerKilled(w *world) int {
	args := []string{"--data_dir", w.TempDir(), "--max_lease", shortLease.String()}
	server := w.startBrokerProcess(args...)
	// What is not confirmed when the server dies is published again, as another message. So the publisher is done first.
	w.startPublishing(0).wantExit(0)
	stream := w.startStream("--max_outstanding", strconv.Itoa(w.options.Events/10)) // which takes some time
	kills := 0
	for range 20 {
		time.Sleep(time.Duration(w.rand.Int64N(int64(2 * time.Second))))
		backlog := w.broker.stats().Backlog
		if backlog == 0 && kills > 0 {
			break
		}
		w.Logf("killed with %d messages to go", backlog)
		server.kill()
		kills++
		server = w.startBrokerProcess(args...)
	}
	w.untilAllAcked(stream)
	stream.drain()
	return 0
}

// Two launches of the same stream share the messages.
func twoStreamsAtOnce(w *world) int {
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	// Neither can take all, however fast it is: what it may hold is a part of the day, until it is committed.
	part := []string{"--max_outstanding", strconv.Itoa(w.options.Events / 10)}
	one, other := w.startStream(part...), w.startStream(part...)
	until(w.T, "both read", func() bool { return w.broker.stats().Streams == 2*runtime.GOMAXPROCS(0) })
	w.startPublishing(0).wantExit(0)
	w.untilAllAcked(one, other)
	first, second := one.drain(), other.drain()
	if first.Read == 0 || second.Read == 0 {
		w.Error("one of them has read all")
	}
	w.wantTogether(first, second)
	return 0
}

// A stream stands still in the middle of its work for so long that another does it in its place, and then goes on.
func zombieComesBack(w *world) int {
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	r := startReader(w.T, w.lake)
	// What it receives it holds until it is drained, and it has received something for sure when a message waits that does
	// not fit any more.
	part := w.options.Events / 10
	zombie := w.startStream("--flush_interval", "5m", "--max_outstanding", strconv.Itoa(part))
	w.startPublishing(0).wantExit(0)
	until(w.T, "the stream has what it may have", func() bool { return w.broker.stats().Outstanding >= int64(part) })
	until(w.T, "the stream has packed it", func() bool { return zombie.spilled() > 0 })
	zombie.signal(syscall.SIGSTOP)
	other := w.startStream()
	w.untilAllAcked(other)
	zombie.signal(syscall.SIGCONT)
	s := zombie.drain()
	if s.Duplicate == 0 {
		w.Errorf("the zombie had nothing that was committed in the meantime: %+v", s)
	}
	w.wantTogether(s, other.drain())
	r.end()
	return 0
}

// Two launches of the same batch read the same files.
func twoBatchesAtOnce(w *world) int {
	one, other := w.start(w.files()), w.start(w.files())
	w.wantTogether(one.finish(), other.finish())
	return 0
}

// The same events come through Pub/Sub and from files. Broken ones come from two sources, each with its dead letter.
func streamAndBatchAtOnce(w *world) int {
	w.startBroker(pubsubserver.Options{})
	stream := w.startStream()
	publisher := w.startPublishing(0)
	w.start(w.files()).finish()
	publisher.wantExit(0)
	w.untilAllAcked(stream)
	stream.drain()
	return w.total.Broken
}

// A batch is killed again and again, and once is not.
func batchKilledAtRandom(w *world) int {
	for range 5 {
		batch := w.start(w.files())
		select {
		case <-time.After(time.Duration(w.rand.Int64N(int64(3 * time.Second)))):
		case <-batch.ended:
		}
		batch.kill()
	}
	w.start(w.files()).finish()
	return 0
}

// wantCounts compares what a run says of itself with what it should. How many rows are late and how many files there
// are depends on how fast the run is, compared with the events.
func (w *world) wantCounts(got, want summary) {
	w.Helper()
	if want.Committed > 0 {
		want.Late, want.Files = got.Late, got.Files
	}
	if got != want {
		w.Errorf("the summary is %+v, want %+v", got, want)
	}
}

// wantTogether compares what two runs have committed together with the truth.
func (w *world) wantTogether(one, other summary) {
	w.Helper()
	if got := one.Committed + other.Committed; got != int64(w.total.Rows) {
		w.Errorf("%d + %d rows were committed, want %d together", one.Committed, other.Committed, w.total.Rows)
	}
	w.Logf("one: %+v, other: %+v", one, other)
}

// wantFiles compares the files of the lake with what they were.
func (w *world) wantFiles(before map[string]fileState) {
	w.Helper()
	now := dataFiles(w.T, w.lake)
	if len(now) != len(before) {
		w.Errorf("there are %d files, before %d", len(now), len(before))
	}
	for path, state := range before {
		if now[path] != state {
			w.Errorf("%s was changed: %v, before %v", path, now[path], state)
		}
	}
}
