package generator

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/schemas"
)

// day is long enough for everything to occur, the giant record included.
var day = Options{Events: 230_000, Users: 20_000, Items: 2_000, Seed: 7}

func mustNew(t testing.TB, o Options) *Generator {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// native is what these tests read of an event.
type native struct {
	EventID   string    `json:"event_id"`
	EventTime time.Time `json:"event_time"`
	EventType string    `json:"event_type"`
	UserID    string    `json:"user_id"`
	VisitorID string    `json:"visitor_id"`
	SessionID string    `json:"session_id"`
	ItemID    string    `json:"item_id"`
	Items     []struct {
		ItemID string `json:"item_id"`
	} `json:"items"`
	TransactionID string `json:"transaction_id"`
}

func TestSameSeedSameBytes(t *testing.T) {
	digest := func(seed uint64) [32]byte {
		h := sha256.New()
		g := mustNew(t, Options{Events: 20_000, Seed: seed})
		for e, ok := g.Next(); ok; e, ok = g.Next() {
			h.Write(fmt.Appendf(nil, "%s %d %d %v %s\n", e.Data, e.EventMicros, e.ArrivalMicros, e.Verdict, e.Code))
		}
		return [32]byte(h.Sum(nil))
	}
	first := digest(1)
	if again := digest(1); first != again {
		t.Error("the same seed gave different events")
	}
	if first == digest(2) {
		t.Error("different seeds gave the same events")
	}
}

func TestDay(t *testing.T) {
	g := mustNew(t, day)
	o := g.Options()
	originals := map[string][32]byte{}
	payloads := map[[32]byte]bool{}
	verdicts := map[Verdict]int{}
	codes := map[schemas.Code]int{}
	count := map[string]int{}
	buyers, filled := map[string]bool{}, map[string]bool{}
	shown, giants, disordered := 0, 0, 0
	hours := [24]int{}
	var last, lastTime int64
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		if e.ArrivalMicros < last {
			t.Fatalf("%s arrives before the one ahead of it", e.ID)
		}
		last = e.ArrivalMicros
		verdicts[e.Verdict]++
		sum := sha256.Sum256(e.Data)
		if bytes.ContainsAny(e.Data, "\r\n") {
			t.Fatalf("%s has a line break", e.ID)
		}
		if e.EventMicros < g.start || e.EventMicros >= g.end {
			t.Fatalf("%s happened at %d, outside %d to %d", e.ID, e.EventMicros, g.start, g.end)
		}

		delay := time.Duration(e.ArrivalMicros-e.EventMicros) * time.Microsecond
		switch e.Verdict {
		case Broken:
			codes[e.Code]++
			if payloads[sum] {
				t.Fatalf("broken event %s is a repetition", e.ID)
			}
			payloads[sum] = true
			if len(e.Data) > 1<<20 {
				giants++
			}
			continue
		case Repeated:
			if originals[e.ID] != sum {
				t.Fatalf("%s is said to repeat an event, but there was no such before", e.ID)
			}
			continue
		case Late:
			if delay < 20*time.Minute || delay > o.MaxLate {
				t.Fatalf("late event %s arrives after %v", e.ID, delay)
			}
		case Good:
			if delay <= 0 || delay > 15*time.Second {
				t.Fatalf("good event %s arrives after %v", e.ID, delay)
			}
			if e.EventMicros < lastTime {
				disordered++
			}
			lastTime = e.EventMicros
		}
		if _, known := originals[e.ID]; known {
			t.Fatalf("id %s occurs twice", e.ID)
		}
		originals[e.ID] = sum

		var got native
		if err := json.Unmarshal(e.Data, &got); err != nil {
			t.Fatalf("good event %s: %v\n%s", e.ID, err, e.Data)
		}
		if got.EventID != e.ID || got.EventTime.UnixMicro() != e.EventMicros {
			t.Fatalf("event %s at %d says that it is %s at %v", e.ID, e.EventMicros, got.EventID, got.EventTime)
		}
		kind, known := schemas.EventTypes[got.EventType]
		if !known || got.UserID == "" && got.VisitorID == "" || kind.Item && got.ItemID == "" && len(got.Items) == 0 {
			t.Fatalf("good event %s breaks a rule: %s", e.ID, e.Data)
		}
		count[got.EventType]++
		hours[got.EventTime.UTC().Hour()]++
		switch got.EventType {
		case "impression":
			shown += len(got.Items)
		case "add_to_cart":
			filled[got.SessionID] = true
		case "purchase":
			buyers[got.SessionID] = true
			if got.TransactionID == "" {
				t.Fatalf("purchase %s has no order", e.ID)
			}
		}
	}

	total := 0
	for _, n := range verdicts {
		total += n
	}
	if total != o.Events {
		t.Errorf("%d events came out, want %d", total, o.Events)
	}
	for verdict, share := range map[Verdict]float64{Repeated: o.DuplicateShare, Broken: o.BrokenShare, Late: o.LateShare} {
		mean := share * float64(total)
		if bound := 5 * math.Sqrt(mean*(1-share)); math.Abs(float64(verdicts[verdict])-mean) > bound {
			t.Errorf("%d events are %v, want %.0f ± %.0f", verdicts[verdict], verdict, mean, bound)
		}
	}
	for _, code := range allCodes {
		if codes[code] == 0 {
			t.Errorf("no event was broken with code %s", code)
		}
	}
	if giants != 1 {
		t.Errorf("%d records are larger than 1 MiB, want 1", giants)
	}
	if disordered < total/20 {
		t.Errorf("only %d good events arrive after one that happened later", disordered)
	}
	for eventType := range schemas.EventTypes {
		if count[eventType] == 0 {
			t.Errorf("no %s", eventType)
		}
	}
	between := func(what string, got, low, high float64) {
		if got < low || got > high {
			t.Errorf("%s is %.3f, want %v to %v", what, got, low, high)
		}
	}
	between("clicks for an item shown", float64(count["click"])/float64(shown), 0.04, 0.06)
	between("add_to_cart for a view", float64(count["add_to_cart"])/float64(count["view"]), 0.08, 0.12)
	between("sessions that buy, of those with a cart", float64(len(buyers))/float64(len(filled)), 0.25, 0.35)
	good := verdicts[Good] + verdicts[Late]
	allBusy := 0.0
	for hour := range hours {
		allBusy += busy(g.start + int64(hour)*3600e6)
	}
	for hour, n := range hours {
		want := busy(g.start+int64(hour)*3600e6) / allBusy
		between(fmt.Sprintf("the share of events at %d h, over that of the rhythm", hour), float64(n)/float64(good)/want, 0.85, 1.15)
	}
}

var allCodes = []schemas.Code{
	schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey, schemas.CodeTooDeep, schemas.CodeTooLarge,
	schemas.CodeWrongType, schemas.CodeOutOfRange, schemas.CodeMissing, schemas.CodeInvalidID, schemas.CodeUnknownType,
	schemas.CodeInvalid,
}

// TestSteady holds that a short run is as busy at its end as at its start.
func TestSteady(t *testing.T) {
	for _, duration := range []time.Duration{10 * time.Second, 10 * time.Minute, time.Hour} {
		g := mustNew(t, Options{Events: 50_000, Duration: duration})
		var tenths [10]int
		for e, ok := g.Next(); ok; e, ok = g.Next() {
			tenths[(e.EventMicros-g.start)*10/(g.end-g.start)]++
		}
		t.Logf("%v: %v", duration, tenths)
		for i, n := range tenths {
			if n < 3500 || n > 6500 { // 50,000 / 10 ± 30 %
				t.Errorf("%v: %d events in tenth %d, want 5000 ± 1500", duration, n, i)
			}
		}
	}
}

// TestBrokenIsWhatItSays holds what a JSON parser can say of broken events against their codes.
func TestBrokenIsWhatItSays(t *testing.T) {
	seen := map[string]bool{}
	g := mustNew(t, Options{Events: 4_000, BrokenShare: 0.4})
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		if e.Verdict != Broken {
			continue
		}
		seen[string(e.Code)+" "+e.FieldPath] = true
		strict := valid(e.Data)
		switch e.Code {
		case schemas.CodeSyntax:
			if valid(e.Data, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
				t.Errorf("syntax: this parses: %s", e.Data)
			}
		case schemas.CodeUTF8:
			if strict || !valid(e.Data, jsontext.AllowInvalidUTF8(true)) {
				t.Errorf("invalid UTF-8 is not, or not only, what is wrong with %q", e.Data)
			}
		case schemas.CodeDuplicateKey:
			if strict || !valid(e.Data, jsontext.AllowDuplicateNames(true)) {
				t.Errorf("a duplicate key is not, or not only, what is wrong with %s", e.Data)
			}
		case schemas.CodeTooDeep:
			if depth := bytes.Count(e.Data, []byte("[")) + bytes.Count(e.Data, []byte("{")); depth < tooDeep {
				t.Errorf("nested at most %d deep: %.200s", depth, e.Data)
			}
		default:
			if !strict {
				t.Errorf("%s: this does not parse: %.200s", e.Code, e.Data)
			}
		}
	}
	for _, kind := range brokenKinds[1:] {
		if !seen[string(kind.Code)+" "+kind.Path] {
			t.Errorf("no event is broken with %s at %q", kind.Code, kind.Path)
		}
	}
}

func valid(data []byte, options ...jsontext.Options) bool {
	return jsontext.Value(data).IsValid(options...)
}

// TestAnySize holds that small, short and odd shops keep the promises too.
func TestAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Events:   rapid.IntRange(1, 300).Draw(t, "events"),
			Users:    rapid.IntRange(1, 50).Draw(t, "users"),
			Items:    rapid.IntRange(1, 50).Draw(t, "items"),
			Seed:     rapid.Uint64().Draw(t, "seed"),
			Duration: time.Duration(rapid.Int64Range(int64(time.Second), int64(800*time.Hour)).Draw(t, "duration")),
			MaxLate:  time.Duration(rapid.Int64Range(int64(time.Second), int64(48*time.Hour)).Draw(t, "max late")),

			DuplicateShare: rapid.Float64Range(0.001, 0.2).Draw(t, "repeated"),
			LateShare:      rapid.Float64Range(0.001, 0.2).Draw(t, "late"),
			BrokenShare:    -1,
		}
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		n, seen, last := 0, map[string]string{}, int64(0)
		for e, ok := g.Next(); ok; e, ok = g.Next() {
			n++
			if e.EventMicros < g.start || e.EventMicros >= g.end || e.ArrivalMicros < last || e.ArrivalMicros < e.EventMicros {
				t.Fatalf("event %d of %d happened at %d and arrives at %d, after %d; the shop is open %d to %d", n, o.Events, e.EventMicros, e.ArrivalMicros, last, g.start, g.end)
			}
			last = e.ArrivalMicros
			if !valid(e.Data) {
				t.Fatalf("not JSON: %s", e.Data)
			}
			if first, repeated := seen[e.ID]; repeated != (e.Verdict == Repeated) || repeated && first != string(e.Data) {
				t.Fatalf("%s is %v, first %q, now %q", e.ID, e.Verdict, first, e.Data)
			}
			seen[e.ID] = string(e.Data)
		}
		if n != o.Events {
			t.Fatalf("%d events, want %d", n, o.Events)
		}
	})
}

func TestWriteFiles(t *testing.T) {
	o := Options{Events: 10_000, Files: 3, Seed: 3}
	dir := t.TempDir()
	told := 0
	o.Progress = func(n int) { told = n }
	total, err := mustNew(t, o).WriteFiles(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if told != o.Events {
		t.Errorf("progress ended at %d, want %d", told, o.Events)
	}

	var truth []Truth
	if err := ReadTruth(dir, func(r *Truth) error { truth = append(truth, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	again := mustNew(t, o)
	for i := range 3 {
		file, err := os.Open(filepath.Join(dir, EventsDir, fmt.Sprintf("part-%04d.jsonl", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 4<<20)
		n := 0
		for ; lines.Scan(); n++ {
			e, ok := again.Next()
			if !ok || !bytes.Equal(lines.Bytes(), e.Data) {
				t.Fatalf("file %d, line %d is not the next event", i, n)
			}
			want := Truth{EventID: e.ID, EventTime: e.EventMicros, ArrivalTime: e.ArrivalMicros, Verdict: e.Verdict.String()}
			if e.Verdict == Broken {
				want.Code, want.FieldPath, want.PayloadSize, want.PayloadSHA256 = string(e.Code), e.FieldPath, int64(len(e.Data)), PayloadHash(e.Data)
			}
			if diff := cmp.Diff(want, truth[0]); diff != "" {
				t.Fatalf("file %d, line %d: truth (-want +got):\n%s", i, n, diff)
			}
			truth = truth[1:]
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
		if want := []int{3333, 3333, 3334}[i]; n != want { // 10,000 * 1/3, 2/3, 3/3, rounded down
			t.Errorf("file %d has %d lines, want %d", i, n, want)
		}
	}
	if len(truth) != 0 {
		t.Errorf("%d rows of truth are about no event", len(truth))
	}

	if total.Events != o.Events || total.Rows != total.Good+total.Late || total.Events != total.Rows+total.Repeated+total.Broken {
		t.Errorf("the totals do not add up: %+v", total)
	}
	read, err := ReadSummary(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(total, read); diff != "" {
		t.Errorf("summary (-returned +read):\n%s", diff)
	}

	if _, err := mustNew(t, o).WriteFiles(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second run into the same folder: %v, want a refusal", err)
	}
}

func TestWriteFilesStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := mustNew(t, Options{Events: 50_000}).WriteFiles(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		want    string // within the message; empty: valid
	}{
		{"defaults", Options{Events: 1}, ""},
		{"no events", Options{}, "events is 0"},
		{"negative users", Options{Events: 1, Users: -1}, "users is -1"},
		{"negative items", Options{Events: 1, Items: -2}, "items is -2"},
		{"old", Options{Events: 1, Start: time.Unix(0, 0)}, "start is 1970"},
		{"short", Options{Events: 1, Duration: time.Millisecond}, "duration is 1ms"},
		{"not late", Options{Events: 1, MaxLate: time.Millisecond}, "max late is 1ms"},
		{"files", Options{Events: 1, Files: -1}, "files is -1"},
		{"shares", Options{Events: 1, LateShare: 0.6}, "shares"},
		{"not a number", Options{Events: 1, LateShare: math.NaN()}, "shares"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.options)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error is %v, want none", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error is %v, want one about %q", err, test.want)
			}
		})
	}
}

func TestAppendTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(86_400_000_000, 4_102_444_800_000_000).Draw(t, "micros")) // 1970-01-02 to 2100
		offset := rapid.IntRange(-840, 840).Draw(t, "offset")
		got := string(appendTime(nil, at.UnixMicro(), offset, false))
		want := at.In(time.FixedZone("", offset*60)).Format("2006-01-02T15:04:05.000000-07:00")
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		got = string(appendTime(nil, at.UnixMicro(), noOffset, true))
		if want := at.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestAppendThousandths(t *testing.T) {
	for v, want := range map[int64]string{0: "0", 1: "0.001", 20: "0.02", 300: "0.3", 1000: "1", 4500: "4.5", 12345: "12.345"} {
		if got := string(appendThousandths(nil, v)); got != want {
			t.Errorf("%d/1000 is written %s, want %s", v, got, want)
		}
	}
}

func TestPopularity(t *testing.T) {
	p := newPopularity(4, 1)
	const draws = 100_000
	var got [4]int
	r := rand.New(rand.NewPCG(1, 2))
	for range draws {
		got[p.draw(r)]++
	}
	for i, n := range got {
		want := 1 / float64(i+1) / (1 + 1.0/2 + 1.0/3 + 1.0/4)
		if math.Abs(float64(n)/draws-want) > 0.01 {
			t.Errorf("%d was drawn %d times of %d, want a share of %.3f", i, n, draws, want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	g := mustNew(b, Options{Events: b.N})
	b.ReportAllocs()
	b.ResetTimer()
	size := 0
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		size += len(e.Data)
	}
	b.ReportMetric(float64(size)/float64(b.N), "bytes/event")
}
