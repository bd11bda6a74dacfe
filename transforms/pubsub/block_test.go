package pubsub

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/source"
)

// delivery is a record and the id that acknowledges it.
type delivery struct {
	source.Record
	AckID string
}

func recordsOf(block []byte) (all []delivery, err error) {
	err = EachRecord(block, "projects/p/subscriptions/s", func(rec *source.Record, ackID string) error {
		d := delivery{*rec, strings.Clone(ackID)}
		d.Data, d.Attributes = slices.Clone(rec.Data), slices.Clone(rec.Attributes)
		all = append(all, d)
		return nil
	})
	return all, err
}

func message(id string, data string, attributes map[string]string) *pubsubpb.ReceivedMessage {
	return &pubsubpb.ReceivedMessage{AckId: "ack " + id, Message: &pubsubpb.PubsubMessage{
		MessageId: id, Data: []byte(data), Attributes: attributes, PublishTime: timestamppb.New(time.UnixMicro(1_795_357_800_123_456)),
	}}
}

func TestBlockHoldsItsMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var messages []*pubsubpb.ReceivedMessage
		var want []delivery
		for range rapid.IntRange(0, 5).Draw(t, "messages") {
			m := message(rapid.String().Draw(t, "id"), string(rapid.SliceOf(rapid.Byte()).Draw(t, "data")),
				rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "attributes"))
			at := rapid.Int64Range(-1e15, 1e16).Draw(t, "published")
			m.Message.PublishTime = timestamppb.New(time.UnixMicro(at))
			d := delivery{AckID: m.AckId, Record: source.Record{
				Source: "projects/p/subscriptions/s", Offset: -1, Data: m.Message.Data, MessageID: m.Message.MessageId, Received: at,
			}}
			for k, v := range m.Message.Attributes {
				d.Attributes = append(d.Attributes, schemas.Pair{Key: k, Value: v})
			}
			messages, want = append(messages, m), append(want, d)
		}
		got, err := recordsOf(AppendBlock(nil, messages))
		if err != nil {
			t.Fatal(err)
		}
		for _, all := range [][]delivery{got, want} {
			for i := range all {
				if len(all[i].Data) == 0 {
					all[i].Data = nil
				}
				if len(all[i].Attributes) == 0 {
					all[i].Attributes = nil
				}
				slices.SortFunc(all[i].Attributes, func(a, b schemas.Pair) int { return strings.Compare(a.Key, b.Key) })
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
	})
}

// A task of files is no block, and the other way round.
func TestIsBlock(t *testing.T) {
	if !IsBlock(AppendBlock(nil, nil)) || IsBlock(nil) || IsBlock([]byte(`{"URL":"/a.jsonl"}`)) {
		t.Error("a block is not told from a task")
	}
	if _, err := recordsOf([]byte("{}")); err == nil {
		t.Error("EachRecord took what is no block")
	}
}

// A block that was cut anywhere gives the messages before the cut, and an error unless the cut is between messages.
func TestCutBlocks(t *testing.T) {
	first := AppendBlock(nil, []*pubsubpb.ReceivedMessage{message("1", "one", map[string]string{"k": "v"})})
	both := append(slices.Clone(first), AppendBlock(nil, []*pubsubpb.ReceivedMessage{message("2", "two", nil)})[1:]...)
	for n := 1; n <= len(both); n++ {
		got, err := recordsOf(both[:n])
		want := 0
		if n >= len(first) {
			want = 1
		}
		if n == len(both) {
			want = 2
		}
		whole := n == 1 || n == len(first) || n == len(both)
		if len(got) != want || (err == nil) != whole {
			t.Errorf("the first %d of %d bytes: %d messages, %v; want %d", n, len(both), len(got), err, want)
		}
	}
}

func TestErrorsEndABlock(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	err := EachRecord(AppendBlock(nil, []*pubsubpb.ReceivedMessage{message("1", "", nil), message("2", "", nil)}), "s", func(*source.Record, string) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls, %v; want 1 and the error", calls, err)
	}
}

// Damaged bytes are an error, never a panic, and are not believed when they say how much is to come.
func FuzzBlock(f *testing.F) {
	f.Add(AppendBlock(nil, []*pubsubpb.ReceivedMessage{message("1", "data", map[string]string{"k": "v"})}))
	f.Add([]byte("m"))
	f.Add([]byte{'m', 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Add([]byte{'m', 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Add([]byte{'m', 0, 0, 0, 0, 255, 255, 255, 255, 127, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		size := 0
		_ = EachRecord(b, "s", func(rec *source.Record, ackID string) error {
			size += 5 + len(rec.Data) + len(rec.MessageID) + len(ackID) + 2*len(rec.Attributes)
			return nil
		})
		if size > len(b) {
			t.Errorf("%d bytes gave messages of at least %d", len(b), size)
		}
	})
}

func TestDamagedCountsAllocateLittle(t *testing.T) {
	block := []byte{'m', 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1, 'k', 1, 'v'}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := recordsOf(block); err == nil {
		t.Error("a block of 2^64 attributes was taken")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated for a block of %d", n, len(block))
	}
}
