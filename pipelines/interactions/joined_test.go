package interactions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	gocmp "github.com/google/go-cmp/cmp"

	"backbone/testing/generator"
	"backbone/testing/ledger"
	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
)

// holds is how long a context holds in the tests of this file.
const holds = 30 * time.Minute

// occurrence is a good event of a generated day, as a plain reader of its JSON sees it.
type occurrence struct {
	ID      string    `json:"event_id"`
	At      time.Time `json:"event_time"`
	Session string    `json:"session_id"`
	Visitor string    `json:"visitor_id"`
	Context struct {
		Network string `json:"network"`
	} `json:"context"`
}

// situation is a context, of a session or of a visitor.
type situation struct {
	id, session, visitor string
	at                   time.Time
	weather, network     string
}

func (c situation) line() []byte {
	return fmt.Appendf(nil, `{"event_id":%q,"event_time":%q,"session_id":%q,"visitor_id":%q,"context":{"network":%q},"attributes":{"weather":%q}}`,
		c.id, c.at.UTC().Format(time.RFC3339Nano), c.session, c.visitor, c.network, c.weather)
}

// joined is what the join adds to a row.
type joined struct {
	Found            bool
	Weather, Network string
}

// asOf is the join as it is defined, and shares nothing with the one that is tested: of the contexts of the event's session, or of
// its visitor where it has no session, the latest that is not after the event, if it still holds; of two at the same time
// that with the greater id. What the event says itself stays.
func asOf(all []situation, e occurrence) joined {
	var best *situation
	for i := range all {
		c := &all[i]
		ofIt := c.session == e.Session
		if e.Session == "" {
			ofIt = c.session == "" && c.visitor == e.Visitor
		}
		if !ofIt || c.at.After(e.At) || e.At.Sub(c.at) > holds {
			continue
		}
		if best == nil || c.at.After(best.at) || c.at.Equal(best.at) && c.id > best.id {
			best = c
		}
	}
	out := joined{Network: e.Context.Network}
	if best != nil {
		out.Found, out.Weather = true, best.weather
		if out.Network == "" {
			out.Network = best.network
		}
	}
	return out
}

// dayWithContexts is a generated day: its records in the order of their arrival, those of them that are good, and contexts around them.
type dayWithContexts struct {
	records  [][]byte
	good     []occurrence
	contexts []situation // in the order of their times
}

// newDayWithContexts makes a day. Some of the sessions are known by their visitor only. Contexts are before, at, between and
// after the events of a session, some so early that they do not hold any more and some at the same time; some sessions have none.
func newDayWithContexts(t *testing.T, random *rand.Rand) dayWithContexts {
	t.Helper()
	g, err := generator.New(generator.Options{Events: 3000, Seed: 11, BrokenShare: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	var day dayWithContexts
	var order []string // of sessions
	sessions := map[string][]occurrence{}
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		data := bytes.Clone(e.Data)
		if e.Verdict != generator.Broken {
			var seen occurrence
			if err := json.Unmarshal(data, &seen); err != nil {
				t.Fatal(err)
			}
			session := seen.Session
			if seen.Visitor != "" && strings.ContainsAny(session[len(session)-1:], "048c") {
				data = bytes.Replace(data, fmt.Appendf(nil, `"session_id":%q,`, session), nil, 1)
				seen.Session = ""
			}
			if e.Verdict != generator.Repeated {
				if sessions[session] == nil {
					order = append(order, session)
				}
				sessions[session] = append(sessions[session], seen)
				day.good = append(day.good, seen)
			}
		}
		day.records = append(day.records, data)
	}
	for _, session := range order {
		events := sessions[session]
		for range random.IntN(5) {
			about := events[random.IntN(len(events))]
			offset := []time.Duration{-45 * time.Minute, -holds, -time.Minute, -time.Microsecond, 0, 0, time.Second}[random.IntN(7)]
			day.contexts = append(day.contexts, situation{
				id: fmt.Sprintf("c%04d", random.IntN(1e4)*10_000+len(day.contexts)), session: about.Session, visitor: about.Visitor, at: about.At.Add(offset),
				weather: fmt.Sprint("w", random.IntN(20)), network: []string{"wifi", "ethernet"}[random.IntN(2)],
			})
		}
	}
	slices.SortStableFunc(day.contexts, func(a, b situation) int { return a.at.Compare(b.at) })
	return day
}

// The same day ends as the same two tables whichever way it came: from files, as a stream in order, and as a stream in any order of
// which a tenth was published twice. And what interactions are joined to is what the definition of the join says.
//
// What a stream guarantees is for contexts that are ahead: committed before their interactions are looked at, which is the sum of
// context_wait, context_flush and some seconds after they came. In order, contexts come with their interactions, and that time is all they
// have. In any order they may be as late as the stream is long: there, all of them are committed before the first interaction is
// published. A context that is later than that is committed too, but what was joined without it stays (see
// TestStoryOfTheJoin).
func TestJoinedDayIsTheSameHoweverItComes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	day := newDayWithContexts(t, random)
	want := map[string]joined{}
	for _, e := range day.good {
		want[e.ID] = asOf(day.contexts, e)
	}

	batch := func(t *testing.T) string {
		t.Helper()
		var events, contexts bytes.Buffer
		for _, record := range day.records {
			events.Write(append(record, '\n'))
		}
		for _, c := range day.contexts {
			contexts.Write(append(c.line(), '\n'))
		}
		o := withContext(t, optionsFor(t.TempDir(), writeFile(t, "events.jsonl", events.String())), writeFile(t, "contexts.jsonl", contexts.String()))
		o.ContextTTL, o.RangeBytes = holds, 100<<10
		launch(t, o)
		return o.Lake
	}
	inOrder := func(t *testing.T) string {
		t.Helper()
		s := startTwoTopics(t)
		s.publish(contextTopic, linesOf(day.contexts)...)
		s.publish(eventTopic, day.records...)
		o := s.options()
		o.ContextWait = 3 * time.Second
		stream(t, o, int64(len(day.records)+len(day.contexts)))
		return o.Lake
	}
	shuffled := func(t *testing.T) string {
		t.Helper()
		s := startTwoTopics(t)
		contexts, records := shuffleAndRepeat(random, linesOf(day.contexts)), shuffleAndRepeat(random, day.records)
		s.publish(contextTopic, contexts...)
		go func() { // what is acknowledged is committed
			for s.server.Stats().Subscriptions[contextSubscription].Acked < int64(len(contexts)) && t.Context().Err() == nil {
				time.Sleep(20 * time.Millisecond)
			}
			s.publish(eventTopic, records...)
		}()
		o := s.options()
		o.ContextWait = 0
		c := stream(t, o, int64(len(records)+len(contexts)))
		if c["lake/duplicate"] < int64(len(day.contexts)/20) {
			t.Errorf("%d duplicates: nothing was published twice", c["lake/duplicate"])
		}
		return o.Lake
	}

	var first string
	for _, way := range []struct {
		name string
		run  func(t *testing.T) (lake string)
	}{{"batch", batch}, {"stream in order", inOrder}, {"stream in any order, some of it twice", shuffled}} {
		t.Run(way.name, func(t *testing.T) {
			lake := way.run(t)
			if diff := gocmp.Diff(want, joinedColumns(t, lake)); diff != "" {
				t.Errorf("joined columns (-want by definition +got):\n%s", diff)
			}
			var hashes []string
			for _, table := range []string{"contexts", "interactions"} {
				h, err := ledger.RowHash(t.Context(), lake, table)
				if err != nil {
					t.Fatal(err)
				}
				hashes = append(hashes, fmt.Sprintf("%s: %v", table, h))
			}
			got := strings.Join(hashes, ", ")
			t.Log(got)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("tables have hashes\n%s, want those of the batch\n%s", got, first)
			}
		})
	}

	found, visitors := 0, 0
	for _, e := range day.good {
		if want[e.ID].Found {
			found++
			if e.Session == "" {
				visitors++
			}
		}
	}
	if found < len(want)/4 || found > len(want)*3/4 || visitors < found/20 {
		t.Errorf("of %d events %d are joined, %d of them by visitor: the day says little about the join", len(want), found, visitors)
	}
	t.Logf("%d of %d events are joined, %d of them by visitor", found, len(want), visitors)
}

// joinedColumns returns what the rows of a lake were joined to, by their ids.
func joinedColumns(t *testing.T, lake string) map[string]joined {
	t.Helper()
	out := map[string]joined{}
	for _, r := range rowsIn(t, lake, "interactions", "event_id", "context_joined", "context_attributes.key_value.value", "context.network") {
		var j joined
		j.Found, _ = r["context_joined"].(bool)
		j.Network, _ = r["context.network"].(string)
		if weather, ok := r["context_attributes.key_value.value"].([]any); ok {
			j.Weather, _ = weather[0].(string)
		}
		out[r["event_id"].(string)] = j
	}
	return out
}

const (
	eventTopic          = "projects/shop/topics/events"
	contextTopic        = "projects/shop/topics/contexts"
	contextSubscription = "projects/shop/subscriptions/contexts"
)

// twoTopics is a server with a subscription of events and one of contexts.
type twoTopics struct {
	t      *testing.T
	server *pubsubserver.Server
}

func startTwoTopics(t *testing.T) *twoTopics {
	t.Helper()
	s := &twoTopics{t, pubsubtest.Start(t, pubsubserver.Options{})}
	t.Setenv("PUBSUB_EMULATOR_HOST", s.server.Addr())
	for topic, subscription := range map[string]string{eventTopic: "projects/shop/subscriptions/lake", contextTopic: contextSubscription} {
		if err := s.server.Create(t.Context(), topic, subscription); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *twoTopics) publish(topic string, data ...[]byte) {
	var messages []*pubsubpb.PubsubMessage
	for _, d := range data {
		messages = append(messages, &pubsubpb.PubsubMessage{Data: d})
	}
	if _, err := s.server.Publish(s.t.Context(), topic, messages...); err != nil {
		s.t.Error(err)
	}
}

// options are those of a stream of both into a new lake.
func (s *twoTopics) options() Options {
	o := withContext(s.t, optionsFor(s.t.TempDir(), "pubsub://shop/lake"), "pubsub://shop/contexts")
	o.ContextTTL, o.ContextFlush = holds, 100*time.Millisecond
	return o
}

func linesOf(contexts []situation) (lines [][]byte) {
	for _, c := range contexts {
		lines = append(lines, c.line())
	}
	return lines
}

// shuffleAndRepeat returns records in any order, about a tenth of them twice.
func shuffleAndRepeat(random *rand.Rand, records [][]byte) [][]byte {
	out := slices.Clone(records)
	for _, r := range records {
		if random.IntN(10) == 0 {
			out = append(out, r)
		}
	}
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
