package decode

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/zeebo/xxh3"

	"backbone/schemas"
)

// identity gathers the parts of a source record that identify its event.
type identity struct {
	parts   []string
	buf     []byte
	element int // of an exploded array, -1 outside
}

func (id *identity) begin(parts int) {
	id.element = -1
	id.parts = id.parts[:0]
	for range parts {
		id.parts = append(id.parts, "")
	}
}

func (id *identity) set(part int, text string) { id.parts[part-1] = text }

// identify gives a row without an event id one that is the same each time the event is read: a hash of the
// fields that the mapping names, or else of the whole record.
func (p *plan[R]) identify(row *R, id *identity, record []byte) {
	if p.eventID == nil || *p.eventID(row) != "" {
		return
	}
	b := append(id.buf[:0], p.mapping.Name...)
	if p.idParts > 0 {
		for _, part := range id.parts {
			b = binary.AppendUvarint(b, uint64(len(part)))
			b = append(b, part...)
		}
	} else {
		b = binary.AppendVarint(b, int64(id.element))
		b = append(b, record...)
	}
	id.buf = b
	h := xxh3.Hash128(b).Bytes()
	*p.eventID(row) = hex.EncodeToString(h[:])
	if p.synth != nil {
		*p.synth(row) = schemas.Some(true)
	}
}

func appendJSONString(dst []byte, s string) []byte {
	out, err := jsontext.AppendQuote(dst, s)
	if err != nil { // not UTF-8: callers have checked that it is
		return append(dst, `""`...)
	}
	return out
}
