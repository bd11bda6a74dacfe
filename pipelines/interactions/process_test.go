package interactions

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/transforms/deadletter"
	"backbone/transforms/lake"
	"backbone/transforms/run"
	"backbone/transforms/source"
)

// newTestWorker is a worker of a run that has o, which needs neither an input nor a lake.
func newTestWorker(t *testing.T, o Options) *eventWorker[schemas.Interaction] {
	t.Helper()
	o.RunID = t.Name()
	fn := newProcessFn(&Plan{Options: o, Layouts: map[string]lake.Layout{
		schemas.Interactions.Name: {Window: lake.Hour, Shards: 1},
		schemas.DeadLetters.Name:  {Window: lake.Day, Shards: 1},
	}}, o.interactions())
	if err := fn.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Of(o.RunID).Close(); err != nil {
			t.Error(err)
		}
	})
	made, err := fn.worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := made.(*eventWorker[schemas.Interaction])
	w.rules.Now = time.Now().UnixMicro()
	return w
}

func TestAddressesInAttributesAreRemoved(t *testing.T) {
	w := newTestWorker(t, Defaults())
	w.rec = &source.Record{Offset: -1, Attributes: []schemas.Pair{
		{Key: "client_ip", Value: "192.0.2.7"}, {Key: "proxy", Value: "2001:db8::1"}, {Key: "version", Value: "1.2.3"},
	}}
	want := []schemas.Pair{
		{Key: "client_ip", Value: schemas.AddressRemoved}, {Key: "proxy", Value: schemas.AddressRemoved}, {Key: "version", Value: "1.2.3"},
	}
	var row schemas.Interaction
	w.complete(&row)
	if diff := cmp.Diff(want, row.Lineage.Attributes); diff != "" {
		t.Errorf("of a row (-want +got):\n%s", diff)
	}
	letter := w.letters.Make(w.rec, 1, deadletter.Validate, &schemas.FieldError{Code: schemas.CodeMissing})
	if diff := cmp.Diff(want, letter.Attributes); diff != "" {
		t.Errorf("of a dead letter (-want +got):\n%s", diff)
	}
	if w.rec.Attributes[0].Value != "192.0.2.7" {
		t.Error("the record was changed")
	}
}

func TestPayloadSizeIsThatOfTheRecord(t *testing.T) {
	o := Defaults()
	o.MaxRecordBytes = 100
	message := `{"event_id":"` + strings.Repeat("x", 200) + `"}`
	cut := &schemas.FieldError{Code: schemas.CodeTooLarge}
	for _, test := range []struct {
		name   string
		record source.Record
		want   int64
	}{
		{"broken, of a file", source.Record{Data: []byte("{")}, 1},
		{"cut, of a file", source.Record{Data: []byte(message[:100]), Size: 5000, Err: cut}, 5000},
		{"a message over the limit", source.Record{Data: []byte(message), Offset: -1}, int64(len(message))},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newTestWorker(t, o)
			if err := w.record(&test.record, ""); err != nil {
				t.Fatal(err)
			}
			if w.letter.PayloadSize.V != test.want {
				t.Errorf("payload_size is %d, want %d", w.letter.PayloadSize.V, test.want)
			}
			if test.want > 1 && (w.letter.ErrorCode != string(schemas.CodeTooLarge) || len(w.letter.Payload) != o.MaxRecordBytes) {
				t.Errorf("%d bytes are kept, with %s; want %d and %s", len(w.letter.Payload), w.letter.ErrorCode, o.MaxRecordBytes, schemas.CodeTooLarge)
			}
		})
	}
}
