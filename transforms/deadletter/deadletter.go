// Package deadletter is the one way to reject: an input that can't become a row becomes a dead letter, with the reason, the
// path of the field at fault, and its bytes as they came.
//
// # Guarantees
//
// The same input gives the same dead letter: its id is made of its source, its place there, and its bytes.
package deadletter

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/zeebo/xxh3"

	"backbone/schemas"
	"backbone/transforms/source"
)

// MaxPayload is how much of a record a dead letter keeps, in bytes.
const MaxPayload = 1 << 20

// The stages of a pipeline that reject.
const (
	Decode   = "decode"   // what the mapping can't be applied to
	Validate = "validate" // what breaks a rule of its table
)

// Maker makes the dead letters of a pipeline. It is used by one goroutine.
type Maker struct {
	Pipeline string // named in Stage
	Version  int    // of the table that the rows are meant for

	letter schemas.DeadLetter
	id     []byte
}

// Make says why a record, or the nth event of it (from 1), is no row. The result is valid until the next call, and as long as
// the record is.
func (m *Maker) Make(rec *source.Record, nth int, stage string, fault *schemas.FieldError) *schemas.DeadLetter {
	d := &m.letter
	d.Reset()
	place := rec.MessageID
	if rec.Offset >= 0 {
		d.Offset = schemas.Some(rec.Offset)
		place = strconv.FormatInt(rec.Offset, 10)
	}
	m.id = fmt.Appendf(m.id[:0], "%s\x00%s\x00%d\x00", rec.Source, place, nth)
	m.id = append(m.id, rec.Data...)
	h := xxh3.Hash128(m.id).Bytes()
	d.DeadLetterID = hex.EncodeToString(h[:])
	d.ReceivedTime = schemas.Some(rec.Received)
	d.FailureType, d.Stage, d.Severity = failureType(stage, fault.Code), m.Pipeline+"."+stage, schemas.SeveritySevere
	d.ErrorCode, d.ErrorMessage, d.FieldPath = string(fault.Code), fault.Message, fault.Path
	payload := rec.Data[:min(len(rec.Data), MaxPayload)]
	d.Payload, d.PayloadSize = string(payload), schemas.Some(max(rec.Size, int64(len(rec.Data))))
	for _, a := range rec.Attributes {
		d.Attributes = append(d.Attributes, schemas.Pair{Key: a.Key, Value: schemas.RemoveAddress(a.Value)})
	}
	d.MessageID, d.Source, d.Attempt = rec.MessageID, rec.Source, schemas.Some(int64(1))
	d.SchemaVersion = schemas.Some(int64(m.Version))
	return d
}

// failureType classes a dead letter by what has to change: the producer's encoding, the mapping or the event.
func failureType(stage string, code schemas.Code) string {
	switch code {
	case schemas.CodeSyntax, schemas.CodeUTF8, schemas.CodeDuplicateKey, schemas.CodeTooDeep, schemas.CodeTooLarge:
		return "decode"
	}
	if stage == Decode {
		return "map"
	}
	return stage
}
