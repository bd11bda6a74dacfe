package pubsub

import (
	"encoding/binary"
	"fmt"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"backbone/schemas"
	"backbone/transforms/rows"
	"backbone/transforms/source"
)

// A block is messages as they were received together, as one element:
//
//	'm', then for each message: data, id, ack id (each a uvarint length and bytes), publish time in
//	microseconds (varint), number of attributes (uvarint), and the attributes as key and value
const blockMark = 'm'

// IsBlock reports whether an element is a block of messages.
func IsBlock(b []byte) bool { return len(b) > 0 && b[0] == blockMark }

// AppendBlock appends a block of messages to dst.
func AppendBlock(dst []byte, messages []*pubsubpb.ReceivedMessage) []byte {
	dst = append(dst, blockMark)
	for _, m := range messages {
		msg := m.GetMessage()
		dst = appendText(dst, msg.GetData())
		dst = appendText(dst, msg.GetMessageId())
		dst = appendText(dst, m.GetAckId())
		at := msg.GetPublishTime()
		dst = binary.AppendVarint(dst, at.GetSeconds()*1e6+int64(at.GetNanos())/1e3)
		dst = binary.AppendUvarint(dst, uint64(len(msg.GetAttributes())))
		for k, v := range msg.GetAttributes() {
			dst = appendText(appendText(dst, k), v)
		}
	}
	return dst
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// EachRecord calls each for every message of a block, with the id that acknowledges it. The record is used again, and
// all strings alias the block.
func EachRecord(block []byte, subscription string, each func(rec *source.Record, ackID string) error) error {
	if !IsBlock(block) {
		return fmt.Errorf("element of %d bytes is not a block of messages", len(block))
	}
	r := blockReader{b: block[1:]}
	rec := source.Record{Source: subscription, Offset: -1}
	for len(r.b) > 0 {
		rec.Data = r.bytes()
		rec.MessageID = rows.Alias(r.bytes())
		ackID := rows.Alias(r.bytes())
		rec.Received = r.varint()
		rec.Attributes = rec.Attributes[:0]
		for n := r.uvarint(); n > 0 && !r.bad; n-- {
			rec.Attributes = append(rec.Attributes, schemas.Pair{Key: rows.Alias(r.bytes()), Value: rows.Alias(r.bytes())})
		}
		if r.bad {
			return fmt.Errorf("block of %d bytes is damaged, %d bytes before its end", len(block), len(r.b))
		}
		if err := each(&rec, ackID); err != nil {
			return err
		}
	}
	return nil
}

type blockReader struct {
	b   []byte
	bad bool
}

func (r *blockReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *blockReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *blockReader) bytes() []byte {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}
