package lake

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/exchange"
	"backbone/transforms/rows"
	"backbone/transforms/run"
)

// openSpill returns the spill of a run that ends with the test.
func openSpill(t testing.TB, dir string) *exchange.Spill {
	t.Helper()
	r := run.Of(t.Name() + " spill " + dir)
	spill, err := exchange.Open(r, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return spill
}

type aToken struct {
	Text  string
	Parts int
}

// Each row that is packed comes out once, in a parcel of its slot; each token comes out as often as it was added.
func TestPackerLosesNothing(t *testing.T) {
	spill := openSpill(t, t.TempDir())
	layout := Layout{Window: Hour, Shards: 2}
	codec := rows.NewCodec(schemas.Interactions.Columns)
	rapid.Check(t, func(rt *rapid.T) {
		bin := spill.NewBin()
		var packets []Packet
		packer := NewPacker(schemas.Interactions, layout, bin, func(p Packet) { packets = append(packets, p) })
		wantRows := map[string]map[string]bool{} // by key of the slot
		wantTokens := map[string][]aToken{}
		for i := range rapid.IntRange(0, 30).Draw(rt, "rows") {
			row := schemas.Interaction{EventID: fmt.Sprint(i), UserID: strings.Repeat("u", rapid.IntRange(0, 300).Draw(rt, "size")), EventType: "view"}
			row.EventTime = schemas.Some(rapid.Int64Range(-2, 2).Draw(rt, "hour") * time.Hour.Microseconds())
			key := layout.Slot("interactions", row.EventID, row.EventTime.V).Key()
			pile := packer.Add(&row)
			if wantRows[key] == nil {
				wantRows[key] = map[string]bool{}
			}
			wantRows[key][row.EventID] = true
			if rapid.Bool().Draw(rt, "has a token") {
				token := aToken{fmt.Sprintf("token %d", i), rapid.IntRange(1, 3).Draw(rt, "parts")}
				pile.AddToken(token.Text, token.Parts)
				wantTokens[key] = append(wantTokens[key], token)
			}
			if rapid.IntRange(0, 9).Draw(rt, "flush") == 0 {
				if err := packer.Flush(); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := packer.Flush(); err != nil {
			rt.Fatal(err)
		}
		if err := bin.Close(); err != nil {
			rt.Fatal(err)
		}

		gotRows := map[string]map[string]bool{}
		gotTokens := map[string][]aToken{}
		for _, p := range packets {
			parcel, err := spill.Get(p.Body, nil)
			if err != nil {
				rt.Fatal(err)
			}
			chunk, tokens, err := OpenParcel(parcel)
			if err != nil {
				rt.Fatal(err)
			}
			earliest := int64(1 << 62)
			r, err := codec.Read(chunk)
			if err != nil {
				rt.Fatal(err)
			}
			for body, err := r.Next(); body != nil; body, err = r.Next() {
				var row schemas.Interaction
				if err := errors.Join(err, codec.Decode(body, r.Columns(), &row)); err != nil {
					rt.Fatal(err)
				}
				if gotRows[p.Key] == nil {
					gotRows[p.Key] = map[string]bool{}
				}
				if gotRows[p.Key][row.EventID] {
					rt.Fatalf("row %q comes twice", row.EventID)
				}
				gotRows[p.Key][strings.Clone(row.EventID)] = true
				earliest = min(earliest, row.EventTime.V)
			}
			if earliest != p.Micros {
				rt.Fatalf("the packet's time is %d, the earliest of its rows is %d", p.Micros, earliest)
			}
			err = EachToken(tokens, func(token []byte, parts int) {
				gotTokens[p.Key] = append(gotTokens[p.Key], aToken{string(token), parts})
			})
			if err != nil {
				rt.Fatal(err)
			}
			if err := spill.Release(p.Body); err != nil {
				rt.Fatal(err)
			}
		}
		if diff := cmp.Diff(wantRows, gotRows); diff != "" {
			rt.Fatalf("rows by slot (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantTokens, gotTokens); diff != "" {
			rt.Fatalf("tokens by slot (-want +got):\n%s", diff)
		}
	})
}

// A pile that has the size of a parcel is sent at once, with its tokens, and the next row begins another.
func TestLargePilesAreSent(t *testing.T) {
	spill := openSpill(t, "")
	var packets []Packet
	packer := NewPacker(schemas.Interactions, Layout{Window: Hour, Shards: 1}, spill.NewBin(), func(p Packet) { packets = append(packets, p) })
	row := schemas.Interaction{EventID: "e", EventType: "view", UserID: "u", Query: strings.Repeat("q", pileBytes/4)}
	for i := range 6 {
		row.EventTime = schemas.Some(int64(100 - i))
		pile := packer.Add(&row)
		pile.AddToken(fmt.Sprint(i), 1)
		if err := packer.SendIfLarge(pile); err != nil {
			t.Fatal(err)
		}
	}
	if len(packets) != 1 { // 4 rows
		t.Fatalf("%d packets before the flush, want 1", len(packets))
	}
	if err := packer.Flush(); err != nil {
		t.Fatal(err)
	}
	if packer.IsFull() {
		t.Error("the packer is full after a flush")
	}
	var got []string
	for _, p := range packets {
		parcel, err := spill.Get(p.Body, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, tokens, err := OpenParcel(parcel)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(p.Micros, ":")
		if err := EachToken(tokens, func(token []byte, _ int) { text += " " + string(token) }); err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	if diff := cmp.Diff([]string{"97: 0 1 2 3", "95: 4 5"}, got); diff != "" {
		t.Errorf("earliest time and tokens of packets (-want +got):\n%s", diff)
	}
}

// Damaged bytes are an error, never a panic.
func FuzzParcel(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0, 'b', 'b', 1, 3, 'a', 'b', 'c'})
	f.Add([]byte{255, 255, 255, 255, 0})
	f.Add(AppendToken([]byte{0, 0, 0, 0}, "token", 2))
	f.Add([]byte{0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		chunk, tokens, err := OpenParcel(b)
		if err != nil {
			return
		}
		if 4+len(chunk)+len(tokens) != len(b) {
			t.Errorf("%d bytes are a chunk of %d and tokens of %d", len(b), len(chunk), len(tokens))
		}
		size := 0
		if err := EachToken(tokens, func(token []byte, _ int) { size += 2 + len(token) }); err == nil && size > len(tokens) {
			t.Errorf("tokens of %d bytes in %d", size, len(tokens))
		}
	})
}
