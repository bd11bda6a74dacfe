package interactions

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	gocmp "github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/schemas/mappings"
	"backbone/testing/datasets"
	"backbone/testing/pubsubserver"
	"backbone/testing/pubsubserver/pubsubtest"
)

// withContext adds an input of contexts to options.
func withContext(t testing.TB, o Options, context ...string) Options {
	t.Helper()
	m, err := mappings.NativeFor(schemas.Contexts.Name)
	if err != nil {
		t.Fatal(err)
	}
	o.Context, o.ContextMapping = context, m
	return o
}

// viewOf is an interaction in a session, so many seconds after 14:30.
func viewOf(id, session string, seconds int) string {
	return fmt.Sprintf(`{"event_id":%q,"event_time":%q,"user_id":"ann","session_id":%q,"event_type":"view","item_id":"kettle"}`, id, second(seconds), session)
}

// contextOf is a context of a session from so many seconds after 14:30 on, with a device and the weather.
func contextOf(id, session string, seconds int, weather string) string {
	return fmt.Sprintf(`{"event_id":%q,"event_time":%q,"session_id":%q,"context":{"device_class":"mobile","country":"AT"},"attributes":{"weather":%q}}`, id, second(seconds), session, weather)
}

func second(n int) string {
	return time.Date(2025, 3, 2, 14, 30, n, 0, time.UTC).Format(time.RFC3339)
}

// joinedRows returns what interactions were joined to, as "id: weather", or "id: -".
func joinedRows(t testing.TB, lakeDir string) []string {
	t.Helper()
	var out []string
	for _, r := range rowsIn(t, lakeDir, "interactions", "event_id", "context_joined", "context_attributes.key_value.value", "context.device_class") {
		weather := "-"
		if r["context_joined"] == true {
			weather = fmt.Sprint(r["context_attributes.key_value.value"].([]any)[0])
			if r["context.device_class"] != "mobile" {
				t.Errorf("%v is joined and has device %v", r["event_id"], r["context.device_class"])
			}
		}
		out = append(out, fmt.Sprintf("%v: %s", r["event_id"], weather))
	}
	return out
}

// In a batch, contexts are committed before interactions are read, wherever they are in their files.
func TestContextsOfFiles(t *testing.T) {
	events := writeFile(t, "events.jsonl", strings.Join([]string{
		viewOf("before", "s", -1), viewOf("at", "s", 0), viewOf("after", "s", 10), viewOf("next", "s", 30), viewOf("long after", "s", 700), viewOf("other", "t", 10),
	}, "\n"))
	contexts := writeFile(t, "contexts.jsonl", strings.Join([]string{
		contextOf("2", "s", 30, "rain"), contextOf("1", "s", 0, "sun"), contextOf("1", "s", 0, "sun"), `{"event_id":"3"}`,
	}, "\n"))
	o := withContext(t, optionsFor(t.TempDir(), events), contexts)
	o.ContextTTL = 10 * time.Minute
	c := launch(t, o)
	wantCounts(t, c, 6+2, 1, 1)
	if c["context/joined"] != 3 || c["context/unjoined"] != 3 {
		t.Errorf("%d joined, %d not; want 3 and 3", c["context/joined"], c["context/unjoined"])
	}
	want := []string{"after: sun", "at: sun", "before: -", "long after: -", "next: rain", "other: -"}
	if diff := gocmp.Diff(want, joinedRows(t, o.Lake)); diff != "" {
		t.Errorf("joined rows (-want +got):\n%s", diff)
	}
	wantCounts(t, launch(t, o), 0, 8+2, 0)

	// Without contexts there is nothing to be joined to, which is not the same as not joined.
	plain := optionsFor(t.TempDir(), events)
	launch(t, plain)
	for _, r := range rowsIn(t, plain.Lake, "interactions", "event_id", "context_joined") {
		if joined, ok := r["context_joined"]; ok {
			t.Errorf("%v has context_joined %v", r["event_id"], joined)
		}
	}
}

// The survey of drivers: each answer was given in a situation. Split into answers and situations, and joined, it is the survey again.
func TestSurveyIsJoinedAgain(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(datasets.Dir(t, "in-vehicle-coupon"), "*.csv"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	file, err := os.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	survey, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	head, survey := survey[0], survey[1:]
	situation := map[string]bool{}
	for _, name := range []string{"destination", "passanger", "weather", "temperature", "time", "toCoupon_GEQ5min", "toCoupon_GEQ15min", "toCoupon_GEQ25min", "direction_same", "direction_opp"} {
		situation[name] = true
	}

	line := func(b *strings.Builder, v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(text, '\n'))
	}
	type object = map[string]any
	var answers, situations strings.Builder
	begin := time.Date(2025, 3, 2, 0, 0, 0, 0, time.UTC)
	for i, values := range survey {
		at := begin.Add(time.Duration(i) * 10 * time.Second) // a day and a half
		session := fmt.Sprint("s", i/3)                      // three answers a session, each in another situation
		answer := object{"event_id": fmt.Sprint(i), "event_time": at, "user_id": fmt.Sprint("u", i/3), "session_id": session, "event_type": "view", "item_id": "coupon"}
		attributes := object{}
		for k, name := range head {
			if situation[name] {
				attributes[name] = values[k]
			} else {
				answer["survey_"+name] = values[k]
			}
		}
		line(&answers, answer)
		line(&situations, object{"event_id": fmt.Sprint(i), "event_time": at.Add(-time.Second), "session_id": session, "attributes": attributes})
	}
	o := withContext(t, optionsFor(t.TempDir(), writeFile(t, "answers.jsonl", answers.String())), writeFile(t, "situations.jsonl", situations.String()))
	o.RangeBytes = 1 << 20
	c := launch(t, o)
	wantCounts(t, c, int64(2*len(survey)), 0, 0)
	if c["context/joined"] != int64(len(survey)) {
		t.Errorf("%d of %d are joined", c["context/joined"], len(survey))
	}

	var got []string
	for _, r := range rowsIn(t, o.Lake, "interactions") {
		values := map[string]string{}
		take := func(column, prefix string, unquote bool) {
			keys, texts := r[column+".key_value.key"].([]any), r[column+".key_value.value"].([]any)
			for i, key := range keys {
				text := fmt.Sprint(texts[i])
				if unquote {
					if err := json.Unmarshal([]byte(text), &text); err != nil {
						t.Fatal(err)
					}
				}
				values[strings.TrimPrefix(fmt.Sprint(key), prefix)] = text
			}
		}
		take("context_attributes", "", false)
		take("extra", "survey_", true)
		row := make([]string, len(head))
		for k, name := range head {
			row[k] = values[name]
		}
		got = append(got, strings.Join(row, "\x00"))
	}
	var want []string
	for _, values := range survey {
		want = append(want, strings.Join(values, "\x00"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d rows are not the %d of the survey", len(got), len(want))
		for i := range want {
			if i < len(got) && got[i] != want[i] {
				t.Fatalf("the first that differs is %q, want %q", got[i], want[i])
			}
		}
	}
}

// In a stream, a context joins that comes after its interaction, but not too late; an interaction without one goes on.
func TestContextsOfAStream(t *testing.T) {
	server := pubsubtest.Start(t, pubsubserver.Options{})
	t.Setenv("PUBSUB_EMULATOR_HOST", server.Addr())
	const events, contexts = "projects/shop/topics/events", "projects/shop/topics/contexts"
	for topic, subscription := range map[string]string{events: "projects/shop/subscriptions/lake", contexts: "projects/shop/subscriptions/contexts"} {
		if err := server.Create(t.Context(), topic, subscription); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(topic string, lines ...string) {
		var messages []*pubsubpb.PubsubMessage
		for _, line := range lines {
			messages = append(messages, &pubsubpb.PubsubMessage{Data: []byte(line)})
		}
		if _, err := server.Publish(t.Context(), topic, messages...); err != nil {
			t.Fatal(err)
		}
	}
	publish(contexts, contextOf("1", "s", 0, "sun"))
	publish(events, viewOf("at", "s", 0), viewOf("before", "s", -1), viewOf("other", "t", 10))
	time.AfterFunc(1500*time.Millisecond, func() { publish(events, viewOf("late", "u", 10)) })
	time.AfterFunc(3*time.Second, func() { publish(contexts, contextOf("2", "u", 5, "rain")) })

	o := withContext(t, optionsFor(t.TempDir(), "pubsub://shop/lake"), "pubsub://shop/contexts")
	o.ContextWait, o.ContextFlush = 5*time.Second, 200*time.Millisecond
	c := stream(t, o, 6)
	wantCounts(t, c, 6, 0, 0)
	want := []string{"at: sun", "before: -", "late: rain", "other: -"}
	if diff := gocmp.Diff(want, joinedRows(t, o.Lake)); diff != "" {
		t.Errorf("joined rows (-want +got):\n%s", diff)
	}
	wantAcked(t, server, 4)
	if s := server.Stats().Subscriptions["projects/shop/subscriptions/contexts"]; s.Acked != 2 {
		t.Errorf("contexts: %+v, want 2 acknowledged", s)
	}
}
