package lake

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// A parcel is what travels to the sink: a chunk of rows, and the tokens of the messages that they came in, which are
// acknowledged once the rows are durable.
//
//	uint32 length of the chunk, the chunk, the tokens

// OpenParcel returns what is in a parcel. Both alias it.
func OpenParcel(parcel []byte) (chunk, tokens []byte, err error) {
	if len(parcel) >= 4 {
		if n := binary.LittleEndian.Uint32(parcel); uint64(n) <= uint64(len(parcel)-4) {
			return parcel[4 : 4+n : 4+n], parcel[4+n:], nil
		}
	}
	return nil, nil, fmt.Errorf("a parcel of %d bytes is cut short", len(parcel))
}

// String returns the layout as a DoFn carries it: window/shards.
func (l Layout) String() string { return fmt.Sprintf("%v/%d", l.Window, l.Shards) }

// ParseLayout reads what String wrote.
func ParseLayout(s string) (Layout, error) {
	window, shards, _ := strings.Cut(s, "/")
	w, err := ParseWindow(window)
	if err != nil {
		return Layout{}, err
	}
	l := Layout{Window: w}
	if _, err := fmt.Sscan(shards, &l.Shards); err != nil || l.Shards < 1 {
		return Layout{}, fmt.Errorf("layout %q has no number of shards", s)
	}
	return l, nil
}
