package pubsubserver

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// codec is gRPC's own, except that messages are neither decoded nor encoded again on their way through the server.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(encoded); ok {
		return mem.BufferSlice{r.Buffer}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*publishRequest); ok {
		return r.decode(data)
	}
	return c.CodecV2.Unmarshal(data, v)
}

// encoded is a response in its encoded form.
type encoded struct{ mem.Buffer }

// publishRequest is a PublishRequest whose messages are still encoded. They alias its buffer until free.
type publishRequest struct {
	topic    string
	messages [][]byte
	buffer   mem.Buffer
}

func (r *publishRequest) free() {
	if r.buffer != nil {
		r.buffer.Free()
	}
}

// bytes is the size of the encoded request.
func (r *publishRequest) bytes() int { return r.buffer.Len() }

func (r *publishRequest) decode(data mem.BufferSlice) error {
	r.buffer = data.MaterializeToBuffer(mem.DefaultBufferPool())
	for rest := r.buffer.ReadOnlyData(); len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return protowire.ParseError(n)
		}
		rest = rest[n:]
		if typ != protowire.BytesType || num > 2 {
			if n = protowire.ConsumeFieldValue(num, typ, rest); n < 0 {
				return protowire.ParseError(n)
			}
			rest = rest[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(rest)
		if n < 0 {
			return protowire.ParseError(n)
		}
		rest = rest[n:]
		if num == 1 {
			r.topic = string(value)
		} else {
			r.messages = append(r.messages, value)
		}
	}
	return nil
}

// encodeIDs makes a PublishResponse with n consecutive message ids.
func encodeIDs(first uint64, n int) encoded {
	out := make([]byte, 0, n*(2+20))
	var id [20]byte
	for i := range uint64(n) {
		digits := strconv.AppendUint(id[:0], first+i, 10)
		out = append(out, 1<<3|byte(protowire.BytesType), byte(len(digits)))
		out = append(out, digits...)
	}
	return encoded{mem.SliceBuffer(out)}
}

// maxReceivedOverhead bounds what a ReceivedMessage takes besides its message: tags, lengths, ack id, attempt.
const maxReceivedOverhead = 1 + 5 + 2 + 3*13 + 2 + 1 + 5 + 1 + 5

// encodeReceived makes a PullResponse or, which is the same on the wire, a StreamingPullResponse. Attempts are told where
// withAttempts. The tail, encoded fields, is added to it.
func encodeReceived(subscription uint64, list []delivery, withAttempts bool, tail []byte) encoded {
	size := len(tail)
	for i := range list {
		size += len(list[i].msg.wire) + maxReceivedOverhead
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	out := (*buf)[:0]
	var id [64]byte
	for i := range list {
		d := &list[i]
		ack := appendAckID(id[:0], subscription, d.seq, d.attempt)
		body := 2 + len(ack) + 1 + protowire.SizeBytes(len(d.msg.wire))
		if withAttempts {
			body += 1 + protowire.SizeVarint(uint64(d.attempt))
		}
		out = append(out, 1<<3|byte(protowire.BytesType))
		out = binary.AppendUvarint(out, uint64(body))
		out = append(out, 1<<3|byte(protowire.BytesType), byte(len(ack)))
		out = append(out, ack...)
		out = append(out, 2<<3|byte(protowire.BytesType))
		out = binary.AppendUvarint(out, uint64(len(d.msg.wire)))
		out = append(out, d.msg.wire...)
		if withAttempts {
			out = append(out, 3<<3|byte(protowire.VarintType))
			out = binary.AppendUvarint(out, uint64(d.attempt))
		}
	}
	out = append(out, tail...)
	*buf = out
	return encoded{mem.NewBuffer(buf, pool)}
}

// appendAckID writes the name of one delivery: subscription, sequence number and attempt to the base of 36.
func appendAckID(b []byte, subscription, seq uint64, attempt uint32) []byte {
	b = strconv.AppendUint(b, subscription, 36)
	b = append(b, '-')
	b = strconv.AppendUint(b, seq, 36)
	b = append(b, '-')
	return strconv.AppendUint(b, uint64(attempt), 36)
}

func parseAckID(id string) (subscription, seq uint64, attempt uint32, err error) {
	a, rest, _ := strings.Cut(id, "-")
	b, c, ok := strings.Cut(rest, "-")
	if ok {
		var n uint64
		if subscription, err = strconv.ParseUint(a, 36, 64); err == nil {
			if seq, err = strconv.ParseUint(b, 36, 64); err == nil {
				if n, err = strconv.ParseUint(c, 36, 32); err == nil {
					return subscription, seq, uint32(n), nil
				}
			}
		}
	}
	return 0, 0, 0, fmt.Errorf("ack id %q is not one of this server", id)
}
