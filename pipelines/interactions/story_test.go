package interactions

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	gocmp "github.com/google/go-cmp/cmp"

	"backbone/transforms/lake"
	"backbone/transforms/pubsub"
	"backbone/transforms/run"
)

func init() { register.Function3x0(tell) }

// story is told to the pipeline step by step by Beam's TestStream: messages come, the watermark moves, time passes, and in between
// the lake is looked at. The runner waits after each step until all is quiet.
//
// It takes the place of what reads Pub/Sub, since nothing else may be the source of such a pipeline: all from there to the marks of
// complete partitions is the pipeline's own, but for acknowledgements. So --context_wait, which is how long the reader holds
// interactions back, is not part of it: a story gives interactions when their wait is over. TestContextsOfAStream has the wait.
type story struct {
	*testing.T
	options Options
	plan    *Plan
	run     *run.Run
	config  teststream.Config
	at      time.Time // the watermark
	steps   int
}

func newStory(t *testing.T) *story {
	t.Helper()
	o := withContext(t, optionsFor(t.TempDir(), "pubsub://shop/lake"), "pubsub://shop/contexts")
	o.ContextTTL, o.RunID = 10*time.Minute, nextRunID(t)
	plan, r := prepare(t, o)
	s := &story{T: t, options: o, plan: plan, run: r, config: teststream.NewConfig()}
	s.watermark(clock(0, 0, 0))
	return s
}

// What an element of the story begins with.
const (
	tellsContexts = "c"
	tellsEvents   = "e"
	tellsDeed     = "d" // and then the name of one of deeds
)

var deeds sync.Map // what the story does besides: name -> func()

// tell hands an element of the story to those whom it is for.
func tell(element []byte, contexts, events func([]byte)) {
	kind, rest := string(element[:1]), element[1:]
	switch kind {
	case tellsContexts:
		contexts(rest)
	case tellsEvents:
		events(rest)
	case tellsDeed:
		deed, _ := deeds.Load(string(rest))
		deed.(func())()
	}
}

func (s *story) add(kind string, rest []byte) {
	s.Helper()
	// Blocks of messages are of no particular time, as those that are pulled.
	if err := s.config.AddElements(0, append([]byte(kind), rest...)); err != nil {
		s.Fatal(err)
	}
}

func (s *story) block(kind string, lines ...string) {
	s.Helper()
	var messages []*pubsubpb.ReceivedMessage
	for _, line := range lines {
		s.steps++
		messages = append(messages, &pubsubpb.ReceivedMessage{
			AckId: fmt.Sprint(s.steps), Message: &pubsubpb.PubsubMessage{MessageId: fmt.Sprint(s.steps), Data: []byte(line)},
		})
	}
	s.add(kind, pubsub.AppendBlock(nil, messages))
}

// contexts and events are messages.
func (s *story) contexts(lines ...string) { s.Helper(); s.block(tellsContexts, lines...) }
func (s *story) events(lines ...string)   { s.Helper(); s.block(tellsEvents, lines...) }

// flush lets the flush intervals of both pass. Without sources that checkpoint themselves, as that of Pub/Sub does and TestStream does not,
// prism hands the panes of a processing-time trigger on when the watermark moves: so it moves, by a millisecond.
func (s *story) flush() {
	s.Helper()
	s.config.AdvanceProcessingTime((s.options.ContextFlush + s.options.FlushInterval).Milliseconds())
	s.watermark(s.at.Add(time.Millisecond))
}

// watermark moves the watermark.
func (s *story) watermark(at time.Time) {
	s.Helper()
	s.at = at
	if err := s.config.AdvanceWatermark(at.UnixMilli()); err != nil {
		s.Fatal(err)
	}
}

// clock is a time of the day of viewOf and contextOf.
func clock(hour, minute, second int) time.Time {
	return time.Date(2025, 3, 2, hour, minute, second, 0, time.UTC)
}

// do does something once all before it is done.
func (s *story) do(deed func()) {
	s.Helper()
	s.steps++
	name := fmt.Sprint(s.options.RunID, "/", s.steps)
	deeds.Store(name, deed)
	s.add(tellsDeed, []byte(name))
}

// relist waits until the join lists the files of contexts anew, which it does by the clock.
func (s *story) relist() { s.do(func() { time.Sleep(contextRefresh + 50*time.Millisecond) }) }

// drain is what the end of a stream begins with. Then TestStream ends, which sets the watermark to the end of all time.
func (s *story) drain() { s.do(s.run.Drain) }

// wantNow looks at the rows and marks of both tables.
func (s *story) wantNow(contexts, events, marks int) {
	s.do(func() {
		got := [3]int{len(rowsIn(s, s.options.Lake, "contexts", "event_id")), len(rowsIn(s, s.options.Lake, "interactions", "event_id")), len(s.marks())}
		if want := [3]int{contexts, events, marks}; got != want {
			s.Errorf("contexts, interactions and complete partitions: %v, want %v", got, want)
		}
	})
}

// marks are the partitions that are marked complete.
func (s *story) marks() (marks []string) {
	s.Helper()
	all, err := filepath.Glob(filepath.Join(s.options.Lake, "*", "*", "*", "_SUCCESS"))
	if err != nil {
		s.Error(err)
	}
	for _, path := range all {
		marks = append(marks, strings.TrimPrefix(filepath.Dir(path), s.options.Lake+string(os.PathSeparator)))
	}
	return marks
}

// end tells the story, and returns what was counted.
func (s *story) end() map[string]int64 {
	s.Helper()
	p, root := beam.NewPipelineWithRoot()
	contexts, events := beam.ParDo2(root, tell, teststream.Create(root, s.config))
	for _, part := range []struct {
		batches beam.PCollection
		in      input
	}{{contexts, s.plan.contexts()}, {events, s.plan.interactions()}} {
		scope := root.Scope(part.in.table)
		receipts, _ := lake.Write(scope, process(scope, part.batches, s.plan, part.in), s.plan.lake())
		lake.MarkComplete(scope, receipts, s.plan.lake())
	}
	ptest.RunAndValidate(s.T, p)
	return balanced(s, s.run.Counts())
}

// A context joins that is before its interaction or at the same time, and was committed when the interaction is looked at; not one
// that does not hold any more, nor one that comes after the wait. What was joined without a context stays so. The watermark
// has no say in any of it.
func TestStoryOfTheJoin(t *testing.T) {
	for _, test := range []struct {
		name      string
		watermark func(s *story, at time.Time)
	}{
		{"watermark stands still", func(*story, time.Time) {}},
		{"watermark follows the events", (*story).watermark},
		{"watermark is hours ahead", func(s *story, at time.Time) { s.watermark(at.Add(5 * time.Hour)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStory(t)
			test.watermark(s, clock(14, 29, 0))
			s.contexts(contextOf("1", "s", 0, "sun"), contextOf("2", "s", 30, "rain"))
			s.flush()
			s.events(viewOf("before", "s", -1), viewOf("at", "s", 0), viewOf("after", "s", 10), viewOf("next", "s", 30))
			s.events(viewOf("as long as it holds", "s", 30+600), viewOf("longer than it holds", "s", 30+601), viewOf("other", "t", 10))
			s.flush()
			test.watermark(s, clock(14, 40, 0))

			s.events(viewOf("ahead of its context", "u", 10))
			s.flush()
			s.contexts(contextOf("3", "u", 5, "snow"))
			s.flush()
			s.relist()
			test.watermark(s, clock(14, 50, 0))
			s.events(viewOf("ahead of its context", "u", 10), viewOf("after its context", "u", 11)) // the first comes again
			s.flush()
			s.drain()

			c := s.end()
			wantCounts(t, c, 3+9, 1, 0)
			want := []string{
				"after: sun", "after its context: snow", "ahead of its context: -", "as long as it holds: rain", "at: sun", "before: -",
				"longer than it holds: -", "next: rain", "other: -",
			}
			if diff := gocmp.Diff(want, joinedRows(t, s.options.Lake)); diff != "" {
				t.Errorf("joined rows (-want +got):\n%s", diff)
			}
		})
	}
}

// While the watermark stands still (as good as: see flush), rows are committed when their flush interval is over, and what waits at the end is committed
// then; nothing is marked complete. Not even by the end, which is none of the stream: it goes on with the next start.
func TestStoryOfAWatermarkThatStandsStill(t *testing.T) {
	s := newStory(t)
	s.contexts(contextOf("1", "s", 0, "sun"))
	s.events(viewOf("1", "s", 1))
	s.wantNow(0, 0, 0) // the flush interval is not over
	s.flush()
	s.wantNow(1, 1, 0)
	const hour = 3600
	for n := 2; n <= 5; n++ { // of the hours after it, too
		s.contexts(contextOf(fmt.Sprint(n), "s", n*hour, "rain"))
		s.events(viewOf(fmt.Sprint(n), "s", n*hour+1))
		s.flush()
		s.wantNow(n, n, 0)
	}
	s.contexts(contextOf("6", "s", 2, "fog"))
	s.events(viewOf("6", "s", 3))
	s.wantNow(5, 5, 0)
	s.drain()
	wantCounts(t, s.end(), 6+6, 0, 0)
	if marks := s.marks(); len(marks) != 0 {
		t.Errorf("complete are %q, want none", marks)
	}
}

// When the watermark moves on, the partitions that it has passed are marked, by the grace period later: those of both tables.
func TestStoryOfAWatermarkThatMovesOn(t *testing.T) {
	s := newStory(t)
	s.contexts(contextOf("1", "s", 0, "sun"))
	s.events(viewOf("1", "s", 1), viewOf("2", "s", 3600))
	s.flush()
	s.watermark(clock(15, 14, 0)) // grace is 15 minutes
	s.wantNow(1, 2, 0)
	s.watermark(clock(15, 17, 0))
	s.wantNow(1, 2, 2)
	s.drain()
	s.end()
	want := []string{"contexts/dt=2025-03-02/hour=14", "interactions/dt=2025-03-02/hour=14"}
	if diff := gocmp.Diff(want, s.marks()); diff != "" {
		t.Errorf("complete partitions (-want +got):\n%s", diff)
	}
}
