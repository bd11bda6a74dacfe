package pubsubserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The limits of Pub/Sub, and those of its fields that the wire is read by.
const (
	maxRequestMessages = 1000
	maxRequestBytes    = 10_000_000
	maxMessageBytes    = 10_000_000
	maxAttributes      = 100
	maxAttributeKey    = 256
	maxAttributeValue  = 1024
	maxOrderingKey     = 1024

	fieldData        = 1
	fieldAttributes  = 2
	fieldMessageID   = 3
	fieldPublishTime = 4
	fieldOrderingKey = 5
)

// batch is the messages of one Publish call. Their bytes are one allocation, which is given back to the budget
// when no subscription needs any of them.
type batch struct {
	first     uint64 // sequence number of msgs[0]
	published int64  // nanoseconds since 1970
	msgs      []message
	arena     []byte // for each message a uvarint length and its wire

	refs    atomic.Int64
	size    int64 // bytes taken from the budget
	budget  *budget
	segment *segment // of the journal, or nil
}

func (b *batch) retain() { b.refs.Add(1) }

func (b *batch) release() {
	if b.refs.Add(-1) > 0 {
		return
	}
	b.budget.give(b.size)
	if b.segment != nil {
		b.segment.live.Add(-1)
	}
}

// perMessage is what a message costs besides its bytes: id, time, and the server's own records of it.
const perMessage = 128

// incoming is a message as a publisher sent it, checked.
type incoming struct {
	wire []byte // an encoded PubsubMessage without id and time
	key  string
}

// newBatch encodes messages with their ids and time. The caller holds one reference to the result.
func newBatch(first uint64, published time.Time, in []incoming, b *budget, size int64) *batch {
	var stamp []byte
	stamp = protowire.AppendTag(stamp, 1, protowire.VarintType)
	stamp = protowire.AppendVarint(stamp, uint64(published.Unix()))
	if n := published.Nanosecond(); n > 0 {
		stamp = protowire.AppendTag(stamp, 2, protowire.VarintType)
		stamp = protowire.AppendVarint(stamp, uint64(n))
	}
	bytes := 0
	for i := range in {
		bytes += len(in[i].wire)
	}
	const header = binary.MaxVarintLen32 + 2 + 20 + 2 // length, id, tag and length of the time
	out := &batch{first: first, published: published.UnixNano(), msgs: make([]message, len(in)), budget: b, size: size}
	out.refs.Store(1)
	arena := make([]byte, 0, bytes+len(in)*(header+len(stamp)))
	var id [20]byte
	for i := range in {
		digits := strconv.AppendUint(id[:0], first+uint64(i), 10)
		arena = binary.AppendUvarint(arena, uint64(len(in[i].wire)+2+len(digits)+2+len(stamp)))
		from := len(arena)
		arena = append(arena, in[i].wire...)
		arena = append(arena, fieldMessageID<<3|byte(protowire.BytesType), byte(len(digits)))
		arena = append(arena, digits...)
		arena = append(arena, fieldPublishTime<<3|byte(protowire.BytesType), byte(len(stamp)))
		arena = append(arena, stamp...)
		out.msgs[i] = message{wire: arena[from:len(arena):len(arena)], key: in[i].key, batch: out}
	}
	out.arena = arena
	return out
}

// readBatch is the inverse of newBatch for an arena of n messages.
func readBatch(first uint64, published int64, n int, arena []byte, b *budget) (*batch, error) {
	out := &batch{first: first, published: published, msgs: make([]message, n), budget: b, size: int64(len(arena) + n*perMessage)}
	out.refs.Store(1)
	for i := range out.msgs {
		size, used := binary.Uvarint(arena)
		if used <= 0 || size > uint64(len(arena)-used) {
			return nil, fmt.Errorf("message %d of %d is cut short", i, n)
		}
		wire := arena[used : used+int(size)]
		arena = arena[used+int(size):]
		in, err := parseMessage(wire)
		if err != nil {
			return nil, err
		}
		out.msgs[i] = message{wire: wire, key: in.key, batch: out}
	}
	return out, nil
}

// parseMessage checks an encoded PubsubMessage against the limits of Pub/Sub.
func parseMessage(wire []byte) (incoming, error) {
	in := incoming{wire: wire}
	data, attributes, known := 0, 0, true
	for rest := wire; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return in, invalid("a message is not a PubsubMessage: %v", protowire.ParseError(n))
		}
		rest = rest[n:]
		if typ != protowire.BytesType || num < fieldData || num > fieldOrderingKey {
			known = false
			if n = protowire.ConsumeFieldValue(num, typ, rest); n < 0 {
				return in, invalid("a message is not a PubsubMessage: %v", protowire.ParseError(n))
			}
			rest = rest[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(rest)
		if n < 0 {
			return in, invalid("a message is not a PubsubMessage: %v", protowire.ParseError(n))
		}
		rest = rest[n:]
		switch num {
		case fieldData:
			data = len(value)
		case fieldAttributes:
			attributes++
			if err := checkAttribute(value); err != nil {
				return in, err
			}
		case fieldOrderingKey:
			if len(value) > maxOrderingKey {
				return in, invalid("an ordering key has %d bytes: at most %d", len(value), maxOrderingKey)
			}
			if !utf8.Valid(value) {
				return in, invalid("ordering key %q is not valid UTF-8", value)
			}
			in.key = string(value)
		default:
			known = false // the id and the time are the server's to give
		}
	}
	if data == 0 && attributes == 0 {
		return in, invalid("a message has neither data nor attributes: give it one of them")
	}
	if attributes > maxAttributes {
		return in, invalid("a message has %d attributes: at most %d", attributes, maxAttributes)
	}
	if len(wire) > maxMessageBytes+maxAttributes*(maxAttributeKey+maxAttributeValue) || data > maxMessageBytes {
		return in, invalid("a message has %d bytes: at most %d", data, maxMessageBytes)
	}
	if known {
		return in, nil
	}
	return in, in.strip()
}

// strip leaves only what a publisher may set.
func (in *incoming) strip() error {
	var m pubsubpb.PubsubMessage
	if err := proto.Unmarshal(in.wire, &m); err != nil {
		return invalid("a message is not a PubsubMessage: %v", err)
	}
	var err error
	in.wire, err = proto.Marshal(&pubsubpb.PubsubMessage{Data: m.GetData(), Attributes: m.GetAttributes(), OrderingKey: m.GetOrderingKey()})
	return err
}

func checkAttribute(pair []byte) error {
	var key, value []byte
	for len(pair) > 0 {
		num, typ, n := protowire.ConsumeTag(pair)
		if n < 0 || typ != protowire.BytesType {
			return invalid("an attribute is not a pair of strings")
		}
		text, m := protowire.ConsumeBytes(pair[n:])
		if m < 0 {
			return invalid("an attribute is not a pair of strings: %v", protowire.ParseError(m))
		}
		pair = pair[n+m:]
		if num == 1 {
			key = text
		} else {
			value = text
		}
	}
	switch {
	case !utf8.Valid(key) || !utf8.Valid(value):
		return invalid("attribute %q is not valid UTF-8", key)
	case len(key) == 0:
		return invalid("an attribute has an empty key")
	case len(key) > maxAttributeKey:
		return invalid("the key of attribute %q has %d bytes: at most %d", key[:32], len(key), maxAttributeKey)
	case len(value) > maxAttributeValue:
		return invalid("the value of attribute %q has %d bytes: at most %d", key, len(value), maxAttributeValue)
	case len(key) >= 4 && string(key[:4]) == "goog":
		return invalid("attribute %q: keys that begin with goog are reserved", key)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// budget bounds the bytes that messages take.
type budget struct {
	max int64

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when something was given back and somebody waits; else nil
}

// take waits until n bytes are free, for at most patience.
func (b *budget) take(ctx context.Context, n int64, patience time.Duration) error {
	if n > b.max {
		return status.Errorf(codes.ResourceExhausted, "a request of %d bytes exceeds the server's memory of %d: raise it", n, b.max)
	}
	var late <-chan time.Time
	for {
		b.mu.Lock()
		if b.used+n <= b.max {
			b.used += n
			b.mu.Unlock()
			return nil
		}
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed, used := b.freed, b.used
		b.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-late:
			return status.Errorf(codes.ResourceExhausted, "%d of %d bytes hold messages that are not acknowledged: acknowledge some, or raise the limit", used, b.max)
		}
	}
}

// force takes n bytes whether they are free or not.
func (b *budget) force(n int64) {
	b.mu.Lock()
	b.used += n
	b.mu.Unlock()
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
	b.mu.Unlock()
}
