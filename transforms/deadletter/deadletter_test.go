package deadletter_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backbone/schemas"
	"backbone/transforms/deadletter"
	"backbone/transforms/source"
)

func TestMake(t *testing.T) {
	m := deadletter.Maker{Pipeline: "interactions", Version: 3}
	rec := &source.Record{
		Data: []byte(`{"a":`), Source: "/a.jsonl", Offset: 7, Received: 42, Attributes: []schemas.Pair{{Key: "from", Value: "81.2.69.142"}, {Key: "k", Value: "v"}},
	}
	got := *m.Make(rec, 1, deadletter.Decode, &schemas.FieldError{Path: "a", Code: schemas.CodeSyntax, Message: "ends"})
	want := schemas.DeadLetter{
		DeadLetterID: got.DeadLetterID, ReceivedTime: schemas.Some[int64](42), FailureType: "decode", Stage: "interactions.decode", Severity: "severe",
		ErrorCode: "syntax", ErrorMessage: "ends", FieldPath: "a", Payload: `{"a":`, PayloadSize: schemas.Some[int64](5),
		Attributes: []schemas.Pair{{Key: "from", Value: schemas.AddressRemoved}, {Key: "k", Value: "v"}},
		Source:     "/a.jsonl", Offset: schemas.Some[int64](7), Attempt: schemas.Some[int64](1), SchemaVersion: schemas.Some[int64](3),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The id tells inputs apart by where they are, which event of theirs it is, and what they say.
func TestIDs(t *testing.T) {
	fault := &schemas.FieldError{Code: schemas.CodeMissing}
	base := source.Record{Data: []byte("x"), Source: "/a", Offset: 7}
	id := func(nth int, change func(r *source.Record)) string {
		rec := base
		change(&rec)
		return strings.Clone((&deadletter.Maker{}).Make(&rec, nth, deadletter.Validate, fault).DeadLetterID)
	}
	first := id(1, func(*source.Record) {})
	if again := id(1, func(*source.Record) {}); again != first {
		t.Errorf("%s, and then %s", first, again)
	}
	for name, other := range map[string]string{
		"event":   id(2, func(*source.Record) {}),
		"source":  id(1, func(r *source.Record) { r.Source = "/b" }),
		"place":   id(1, func(r *source.Record) { r.Offset = 8 }),
		"message": id(1, func(r *source.Record) { r.Offset, r.MessageID = -1, "8" }),
		"bytes":   id(1, func(r *source.Record) { r.Data = []byte("y") }),
	} {
		if other == first {
			t.Errorf("another %s has the same id", name)
		}
	}
}

func TestFailureTypes(t *testing.T) {
	for _, test := range []struct {
		stage string
		code  schemas.Code
		want  string
	}{
		{deadletter.Decode, schemas.CodeSyntax, "decode"},
		{deadletter.Decode, schemas.CodeWrongType, "map"},
		{deadletter.Validate, schemas.CodeTooLarge, "decode"},
		{deadletter.Validate, schemas.CodeMissing, "validate"},
	} {
		d := (&deadletter.Maker{}).Make(&source.Record{}, 1, test.stage, &schemas.FieldError{Code: test.code})
		if d.FailureType != test.want {
			t.Errorf("%s at %s is %q, want %q", test.code, test.stage, d.FailureType, test.want)
		}
	}
}
