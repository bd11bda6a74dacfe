package windows

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/teststream"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/testing/pubsubserver"
	"backbone/testing/windowmodel"
	"backbone/transforms/lake"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
	"backbone/transforms/rows"
	"backbone/transforms/run"
)

func init() {
	register.DoFn3x1[context.Context, string, func([]byte), error](&commitFn{})
	register.Emitter1[[]byte]()
}

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }

var day = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// at is a time of the day.
func at(hour, minute int) time.Time {
	return day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
}

// testLayout is that of the table of interactions.
var testLayout = lake.Layout{Window: lake.Hour, Shards: 1}

// testOptions are those of a lake in a folder of its own.
func testOptions(t testing.TB) Options {
	t.Helper()
	o := Defaults()
	o.URL, o.RunID, o.Layout, o.Tables = t.TempDir(), t.Name(), testLayout.String(), Tables
	o.Windows, o.Early, o.Grace = []string{"1h"}, 2*time.Second, 15*time.Minute
	t.Cleanup(func() { _ = run.Of(o.RunID).Close() })
	return o
}

func openStore(t testing.TB, url string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// event describes an event: hour:minute who type item.
type event string

func (e event) row() *schemas.Interaction {
	var hour, minute int
	var who, kind, item string
	if _, err := fmt.Sscanf(string(e), "%d:%d %s %s %s", &hour, &minute, &who, &kind, &item); err != nil {
		panic(fmt.Sprintf("event %q: %v", e, err))
	}
	return &schemas.Interaction{
		EventID: strings.ReplaceAll(string(e), " ", "-"), EventTime: schemas.Some(at(hour, minute).UnixMicro()), UserID: who, EventType: kind,
		FeedbackKind: schemas.EventTypes[kind].Kind, ItemID: item,
	}
}

// commit makes a file of events, which are of one partition.
func commit(ctx context.Context, st *store.Store, digests bool, events ...event) (lake.Receipt, error) {
	c, err := lake.NewCommitter(st, schemas.Interactions.Name, lake.Options{
		Layouts: map[string]lake.Layout{schemas.Interactions.Name: testLayout}, RunID: "test", Digests: digests,
	})
	if err != nil {
		return lake.Receipt{}, err
	}
	codec := rows.NewCodec(schemas.Interactions.Columns)
	chunk := codec.AppendHeader(nil)
	var slot lake.Slot
	for _, e := range events {
		row := e.row()
		chunk = codec.Append(chunk, row)
		slot = testLayout.Slot(schemas.Interactions.Name, row.EventID, row.EventTime.V)
	}
	return c.Commit(ctx, slot, [][]byte{chunk})
}

// commitFn commits events, one to a line, and gives the receipt.
type commitFn struct{ URL string }

func (fn *commitFn) ProcessElement(ctx context.Context, lines string, emit func([]byte)) error {
	st, err := store.Open(ctx, fn.URL)
	if err != nil {
		return err
	}
	var events []event
	for line := range strings.Lines(lines) {
		events = append(events, event(strings.TrimSpace(line)))
	}
	r, err := commit(ctx, st, true, events...)
	if err != nil {
		return err
	}
	body, err := json.Marshal(r)
	emit(body)
	return err
}

// stream runs a stream of events, which are committed when they come. It begins without what is stale: on prism a TestStream does not wait for
// what goes through a Flatten.
func stream(t *testing.T, o Options, steps func(c *teststream.Config)) {
	t.Helper()
	c := teststream.NewConfig()
	steps(&c)
	p, s := beam.NewPipelineWithRoot()
	receipts := beam.ParDo(s, &commitFn{URL: o.URL}, teststream.Create(s, c))
	results(s, beam.ParDo(s, &touchedFn{Options: o}, receipts), o)
	ptest.RunAndValidate(t, p)
}

// come is events that come together.
func come(t *testing.T, c *teststream.Config, events ...string) {
	t.Helper()
	first := event(events[0]).row().EventTime.V
	if err := c.AddElements(mtime.FromTime(time.UnixMicro(first)).Milliseconds(), strings.Join(events, "\n")); err != nil {
		t.Fatal(err)
	}
}

func watermark(t *testing.T, c *teststream.Config, at time.Time) {
	t.Helper()
	if err := c.AdvanceWatermark(mtime.FromTime(at).Milliseconds()); err != nil {
		t.Fatal(err)
	}
}

// end is the end of a stream.
func end(t *testing.T, c *teststream.Config) {
	t.Helper()
	if err := c.AdvanceWatermarkToInfinity(); err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass. Prism does what is due by then when the watermark moves, or when more comes.
func pass(t *testing.T, c *teststream.Config, d time.Duration, then time.Time) {
	t.Helper()
	c.AdvanceProcessingTime(d.Milliseconds())
	watermark(t, c, then)
}

// subscribe collects the updates that are published to a topic, in their order of revisions.
func subscribe(t *testing.T) (topic string, updates func() []Update) {
	t.Helper()
	server, err := pubsubserver.New(pubsubserver.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve() }() // it ends with Close
	t.Cleanup(func() { _ = server.Close() })
	t.Setenv("PUBSUB_EMULATOR_HOST", server.Addr())
	topic = "projects/shop/topics/trends"
	const subscription = "projects/shop/subscriptions/trends"
	if err := server.Create(t.Context(), topic, subscription); err != nil {
		t.Fatal(err)
	}
	return topic, func() (all []Update) {
		client, err := pubsub.NewClient(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		n := server.Stats().Subscriptions[subscription].Backlog
		if n == 0 {
			stop()
		}
		err = client.Subscriber(subscription).Receive(ctx, func(_ context.Context, m *pubsub.Message) {
			mu.Lock()
			defer mu.Unlock()
			var u Update
			if err := json.Unmarshal(m.Data, &u); err != nil {
				t.Error(err)
			}
			all = append(all, u)
			m.Ack()
			if int64(len(all)) == n {
				stop()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = client.Close() // all was received
		slices.SortStableFunc(all, func(a, b Update) int { return int(a.Revision - b.Revision) })
		return all
	}
}

// show is an update in a line.
func (u Update) show() string {
	var items []string
	for _, i := range u.Items {
		items = append(items, fmt.Sprintf("%s %v", i.ItemID, i.Score))
	}
	return fmt.Sprintf("%s %s r%d %s: %s", u.WindowStart.Format("15:04"), u.WindowEnd.Format("15:04"), u.Revision, u.Pane, strings.Join(items, ", "))
}

// A window has early panes, one on time, late ones, and a settled one, which is replaced when more comes.
func TestPanes(t *testing.T) {
	o := testOptions(t)
	topic, updates := subscribe(t)
	o.Topic = topic
	stream(t, o, func(c *teststream.Config) {
		watermark(t, c, at(10, 0))
		come(t, c, "10:05 u view a")
		pass(t, c, 5*time.Second, at(10, 1))
		come(t, c, "10:10 u view b", "10:10 w view b")
		pass(t, c, 5*time.Second, at(10, 2))
		pass(t, c, 5*time.Second, at(10, 3)) // nothing has come: no pane
		pass(t, c, 5*time.Second, at(11, 0))
		come(t, c, "10:20 u view c") // late
		pass(t, c, 5*time.Second, at(11, 1))
		pass(t, c, 5*time.Second, at(11, 15))
		come(t, c, "10:30 u purchase a") // later still
		pass(t, c, 5*time.Second, at(11, 16))
		end(t, c)
	})
	var got []string
	for _, u := range updates() {
		got = append(got, u.show())
	}
	want := []string{
		"10:00 11:00 r2 early: a 1",
		"10:00 11:00 r4 early: b 2, a 1",
		"10:00 11:00 r5 on_time: b 2, a 1",
		"10:00 11:00 r7 late: b 2, c 1, a 1",
		"10:00 11:00 r9 settled: a 11, b 2, c 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("updates (-want +got):\n%s", diff)
	}
	check(t, o)
}

// As long as the watermark stands still, but for a millisecond, no window is over, whatever the time is and however much comes.
func TestWatermarkStandsStill(t *testing.T) {
	o := testOptions(t)
	topic, updates := subscribe(t)
	o.Topic = topic
	stream(t, o, func(c *teststream.Config) {
		watermark(t, c, at(10, 59))
		for i := range 5 {
			come(t, c, fmt.Sprintf("10:%d u view a", 10+i), fmt.Sprintf("10:%d w view a", 10+i))
			come(t, c, fmt.Sprintf("12:%d u view a", 10+i))
			pass(t, c, time.Hour, at(10, 59).Add(time.Duration(i+1)*time.Millisecond))
		}
		pass(t, c, time.Hour, at(11, 0))
		pass(t, c, time.Hour, at(13, 0))
		end(t, c)
	})
	panes := map[string][]string{} // by window
	for _, u := range updates() {
		w := u.WindowStart.Format("15:04")
		panes[w] = append(panes[w], u.Pane)
	}
	for w, want := range map[string][]string{"10:00": {"early", "on_time"}, "12:00": {"early", "on_time"}} {
		if got := slices.Compact(panes[w]); !slices.Equal(got, want) {
			t.Errorf("the window of %s has panes %q, want %q", w, got, want)
		}
		if len(panes[w]) < 4 {
			t.Errorf("the window of %s has panes %q: too few early ones", w, panes[w])
		}
	}
	check(t, o)
}

// sessionsOf returns the sessions of the main table: who, begin, end and revision.
func sessionsOf(t *testing.T, o Options) (all []string) {
	t.Helper()
	for _, s := range readSessions(t, o) {
		clock := func(micros int64) string { return time.UnixMicro(micros).UTC().Format("15:04") }
		all = append(all, fmt.Sprintf("%s %s-%s r%d %s", s.UserID, clock(s.StartTime.V), clock(s.EndTime.V), s.Pane.Revision.V, s.Pane.Timing))
	}
	return all
}

// overlap says which sessions of the main table have the same time of the same user.
func overlap(t testing.TB, o Options) string {
	t.Helper()
	all := readSessions(t, o)
	for i, a := range all {
		for _, b := range all[:i] {
			if a.UserID == b.UserID && a.StartTime.V <= b.EndTime.V && b.StartTime.V <= a.EndTime.V {
				return fmt.Sprintf("%+v\nand\n%+v\nhave the same events", a, b)
			}
		}
	}
	return ""
}

func readSessions(t testing.TB, o Options) (all []schemas.Session) {
	t.Helper()
	st := openStore(t, o.URL)
	for entry, err := range st.List(t.Context(), schemas.Sessions.Name+"/") {
		if err != nil {
			t.Fatal(err)
		}
		f, err := st.Open(t.Context(), entry.Key)
		if err != nil {
			t.Fatal(err)
		}
		err = rowfile.Each(f, f.Size(), schemas.Sessions, (*schemas.Session).Reset, func(part []schemas.Session) error {
			for _, s := range part {
				s.UserID, s.Pane.Timing = strings.Clone(s.UserID), strings.Clone(s.Pane.Timing)
				all = append(all, s)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close() // it was only read from
	}
	return all
}

// An event that comes after all is settled makes longer, joins or moves the sessions around it.
func TestLateEventChangesSessions(t *testing.T) {
	tests := []struct {
		name   string
		before []string
		first  []string
		late   string
		want   []string
	}{
		{
			"joins two", []string{"10:00 u view a", "10:50 u view b", "10:51 w view b"},
			[]string{"u 10:00-10:00 r7 settled", "u 10:50-10:50 r7 settled", "w 10:51-10:51 r7 settled"},
			"10:25 u view c",
			[]string{"u 10:00-10:50 r9 settled", "w 10:51-10:51 r9 settled"},
		},
		{
			"lengthens one", []string{"10:00 u view a"}, []string{"u 10:00-10:00 r3 settled"},
			"10:10 u view c", []string{"u 10:00-10:10 r5 settled"},
		},
		{
			"moves one to the next partition", []string{"10:50 u view a"}, []string{"u 10:50-10:50 r3 settled"},
			"11:10 u view c", []string{"u 10:50-11:10 r5 settled"},
		},
		{
			"gives one of the next partition an earlier beginning", []string{"11:10 u view a"}, []string{"u 11:10-11:10 r3 settled"},
			"10:50 u view c", []string{"u 10:50-11:10 r5 settled"},
		},
		{
			"joins those of three partitions", []string{"10:50 u view a", "11:20 u view a", "11:45 u view b", "12:05 u view d"},
			[]string{"u 10:50-10:50 r5 settled", "u 11:20-12:05 r9 settled"},
			"11:10 u view c", []string{"u 10:50-12:05 r11 settled"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := testOptions(t)
			stream(t, o, func(c *teststream.Config) {
				watermark(t, c, at(10, 0))
				for _, e := range test.before {
					come(t, c, e)
				}
				end(t, c)
			})
			if diff := cmp.Diff(test.first, sessionsOf(t, o)); diff != "" {
				t.Errorf("sessions before (-want +got):\n%s", diff)
			}
			_ = run.Of(o.RunID).Close()
			stream(t, o, func(c *teststream.Config) {
				watermark(t, c, at(23, 0))
				come(t, c, test.late)
				end(t, c)
			})
			if diff := cmp.Diff(test.want, sessionsOf(t, o)); diff != "" {
				t.Errorf("sessions after (-want +got):\n%s", diff)
			}
			check(t, o)
		})
	}
}

// check holds the main tables against the model, and demands that nothing is live.
func check(t testing.TB, o Options) {
	t.Helper()
	if wrong := differences(t, o); wrong != "" {
		t.Error(wrong)
	}
}

// differences says what is wrong with the tables.
func differences(t testing.TB, o Options) string {
	t.Helper()
	settings := windowmodel.Settings{Gap: o.SessionGap, HalfLife: o.HalfLife, Top: o.Top, TopPairs: o.TopPairs}
	for _, s := range o.specs() {
		settings.Windows = append(settings.Windows, windowmodel.Windows{Size: s.Size, Period: s.Period})
	}
	r, err := windowmodel.Check(t.Context(), windowmodel.Options{Lake: o.URL, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() {
		return fmt.Sprintf("the tables are not those of the model:\n%v", r)
	}
	for _, table := range Tables {
		live, err := filepath.Glob(filepath.Join(o.URL, schemas.LiveOf(table), "*", "*"))
		if err != nil || len(live) > 0 {
			return fmt.Sprintf("there are live results of settled windows: %v %v", live, err)
		}
	}
	return ""
}

// A drained stream says nothing of windows that are not over.
func TestDrain(t *testing.T) {
	o := testOptions(t)
	run.Of(o.RunID).Drain()
	stream(t, o, func(c *teststream.Config) {
		come(t, c, "10:00 u view a")
		end(t, c)
	})
	for _, table := range Tables {
		if files, err := filepath.Glob(filepath.Join(o.URL, table, "*", "*")); err != nil || len(files) > 0 {
			t.Errorf("%s has %v, %v", table, files, err)
		}
	}
	// The next start finds what was not settled.
	_ = run.Of(o.RunID).Close()
	p, s := beam.NewPipelineWithRoot()
	Compute(s, beam.ParDo(s, &commitFn{URL: o.URL}, beam.Create(s, "12:00 u view a")), o)
	ptest.RunAndValidate(t, p)
	check(t, o)
}

// Whatever is committed, computed, forgotten and in whichever order, in the end there is what the model says.
func TestAnyOrder(t *testing.T) {
	cases := 0
	rapid.Check(t, func(rt *rapid.T) {
		if cases++; cases > 20 {
			return // each takes some time, since files are made durable
		}
		o := testOptions(t)
		o.Windows = rapid.SampledFrom([][]string{{"1h"}, {"30m", "2h/1h"}, {"3h/1h", "1h"}}).Draw(rt, "windows")
		o.SessionGap = time.Duration(rapid.SampledFrom([]int{10, 30, 70}).Draw(rt, "gap")) * time.Minute
		st := openStore(t, o.URL)
		engines := make([]*engine, 2) // processes
		restart := func(i int) {
			var err error
			if engines[i], err = newEngine(st, o); err != nil {
				rt.Fatal(err)
			}
		}
		restart(0)
		restart(1)
		var units []Unit // that notice was given of
		n := 0
		rt.Repeat(map[string]func(*rapid.T){ // 30 of these on average
			"commit": func(rt *rapid.T) {
				hour := rapid.IntRange(0, 4).Draw(rt, "hour")
				var events []event
				for range rapid.IntRange(1, 3).Draw(rt, "events") {
					n++
					events = append(events, event(fmt.Sprintf("%d:%d %s %s i%d", hour, rapid.IntRange(0, 59).Draw(rt, "minute"),
						rapid.SampledFrom([]string{"u", "v"}).Draw(rt, "who"), rapid.SampledFrom([]string{"view", "click", "impression", "purchase"}).Draw(rt, "type"), n%7)))
				}
				r, err := commit(t.Context(), st, rapid.Bool().Draw(rt, "digest"), events...)
				if err != nil {
					rt.Fatal(err)
				}
				if len(r.Files) == 0 || rapid.Bool().Draw(rt, "killed") {
					return // before anybody was told
				}
				e := engines[rapid.IntRange(0, 1).Draw(rt, "process")]
				v := e.in.view()
				p, err := v.partition(t.Context(), r.Start)
				if err != nil {
					rt.Fatal(err)
				}
				touched, err := e.touched(t.Context(), v, p, []string{path.Join(r.Folder, r.Files[0])})
				if err != nil {
					rt.Fatal(err)
				}
				units = append(append(units, slices.SortedFunc(maps.Keys(touched), Unit.compare)...), Unit{schemas.Interactions.Name, r.Start, r.End})
			},
			"compute": func(rt *rapid.T) {
				if len(units) == 0 {
					rt.Skip("nothing to compute")
				}
				u := rapid.SampledFrom(units).Draw(rt, "unit")
				why := rapid.SampledFrom([]reason{early, over, settled}).Draw(rt, "why")
				if err := engines[rapid.IntRange(0, 1).Draw(rt, "process")].ensure(t.Context(), u, why, tally{}); err != nil {
					rt.Fatal(err)
				}
				if twice := overlap(t, o); twice != "" {
					rt.Fatal(twice)
				}
			},
			"restart": func(rt *rapid.T) { restart(rapid.IntRange(0, 1).Draw(rt, "process")) },
		})
		if n == 0 {
			return
		}
		restart(0)
		err := engines[0].stale(t.Context(), func(p *partition) error { return engines[0].settlePartition(t.Context(), p.start, tally{}) })
		if err != nil {
			rt.Fatal(err)
		}
		if wrong := differences(t, o); wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// A session that moves on to another partition is never in both.
func TestSessionMovesOn(t *testing.T) {
	o := testOptions(t)
	st := openStore(t, o.URL)
	e, err := newEngine(st, o)
	if err != nil {
		t.Fatal(err)
	}
	sessionsIn := func(hour int) Unit {
		return Unit{schemas.Sessions.Name, at(hour, 0).UnixMicro(), at(hour+1, 0).UnixMicro()}
	}
	for _, step := range []struct {
		events []event
		hour   int
	}{{[]event{"10:50 u view a"}, 10}, {[]event{"11:10 u view b"}, 11}, {[]event{"11:35 u view b"}, 11}, {[]event{"12:01 u view c"}, 12}} {
		if _, err := commit(t.Context(), st, true, step.events...); err != nil {
			t.Fatal(err)
		}
		if err := e.ensure(t.Context(), sessionsIn(step.hour), settled, tally{}); err != nil {
			t.Fatal(err)
		}
		if got := sessionsOf(t, o); len(got) != 1 {
			t.Errorf("after %s there are %d sessions: %q", step.events[0], len(got), got)
		}
	}
}

// What comes in the next partition after the gap changes no session, so the settled file is left alone.
func TestSettledIsLeftAlone(t *testing.T) {
	o := testOptions(t)
	st := openStore(t, o.URL)
	e, err := newEngine(st, o)
	if err != nil {
		t.Fatal(err)
	}
	u := Unit{schemas.Sessions.Name, at(10, 0).UnixMicro(), at(11, 0).UnixMicro()}
	done := tally{}
	for _, e2 := range []event{"10:50 u view a", "11:30 u view b", "11:50 w view b"} {
		if _, err := commit(t.Context(), st, true, e2); err != nil {
			t.Fatal(err)
		}
		if err := e.ensure(t.Context(), u, settled, done); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(tally{schemas.PaneSettled: 1}, done); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

// What a start has to look at: what was not finished, however old it is, but not history from before there were windows.
func TestStale(t *testing.T) {
	o := testOptions(t)
	o.Windows = []string{"1h"}
	st := openStore(t, o.URL)
	e, err := newEngine(st, o)
	if err != nil {
		t.Fatal(err)
	}
	other := o
	other.Top++
	e2, err := newEngine(st, other)
	if err != nil {
		t.Fatal(err)
	}
	put := func(digests bool, e event) int64 {
		r, err := commit(t.Context(), st, digests, e)
		if err != nil {
			t.Fatal(err)
		}
		return r.Start
	}
	settle := func(e *engine, start int64) {
		if err := e.settlePartition(t.Context(), start, tally{}); err != nil {
			t.Fatal(err)
		}
	}
	put(false, "-200:10 u view a")           // history
	put(true, "-190:10 u view a")            // killed before anybody was told
	settle(e, put(true, "-180:10 u view a")) // done
	settle(e, put(true, "-170:10 u view a"))
	put(true, "-170:20 u view a")             // more has come
	settle(e2, put(true, "-160:10 u view a")) // another computation
	put(false, "9:10 u view a")               // of late
	settle(e, put(true, "10:10 u view a"))
	var got []string
	err = e.stale(t.Context(), func(p *partition) error {
		got = append(got, p.folder)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, hour := range []int{-190, -170, 9} {
		want = append(want, schemas.Interactions.Name+"/"+lake.Hour.Folder(at(hour, 0)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stale partitions (-want +got):\n%s", diff)
	}
}
