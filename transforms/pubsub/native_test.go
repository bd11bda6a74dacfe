package pubsub

import (
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"backbone/schemas"
	"backbone/transforms/source"
)

// What a runner's own source gives of messages comes to records: data, attributes, ids and times. A time that is not given is that of the element.
func TestPack(t *testing.T) {
	published := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	var blocks [][]byte
	var times []beam.EventTime
	emit := func(at beam.EventTime, block []byte) {
		times, blocks = append(times, at), append(blocks, block)
	}
	fn := &packFn{}
	fn.StartBundle(emit)
	for i, m := range []*pubsubpb.PubsubMessage{
		{Data: []byte("a"), MessageId: "1", PublishTime: timestamppb.New(published), Attributes: map[string]string{"k": "v"}},
		{Data: []byte("b")},
	} {
		encoded, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := fn.ProcessElement(mtime.FromTime(published.Add(-time.Duration(i)*time.Second)), encoded, emit); err != nil {
			t.Fatal(err)
		}
	}
	fn.FinishBundle(emit)
	fn.FinishBundle(emit) // nothing is left
	if len(blocks) != 1 || times[0] != mtime.FromTime(published.Add(-time.Second)) {
		t.Fatalf("%d blocks at %v, want one at the time of the earliest", len(blocks), times)
	}
	type record struct {
		Data, ID, Ack string
		Received      int64
		Attributes    []schemas.Pair
	}
	var got []record
	err := EachRecord(blocks[0], "s", func(r *source.Record, ack string) error {
		got = append(got, record{string(r.Data), r.MessageID, ack, r.Received, append([]schemas.Pair(nil), r.Attributes...)})
		return nil
	})
	want := []record{
		{"a", "1", "", published.UnixMicro(), []schemas.Pair{{Key: "k", Value: "v"}}},
		{"b", "", "", published.Add(-time.Second).UnixMicro(), nil},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("records, error %v (-want +got):\n%s", err, diff)
	}
	if err := fn.ProcessElement(0, []byte{0xff}, emit); err == nil {
		t.Error("what is no message is taken for one")
	}
}
