package digest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/transforms/lake/digest"
	"backbone/transforms/lake/rowfile"
	"backbone/transforms/lake/store"
)

// noon is in the middle of a month.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// event draws a row as it is in a file.
func event(t *rapid.T) schemas.Interaction {
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	row := schemas.Interaction{
		EventID:   rapid.StringMatching(`[a-z]{8}`).Draw(t, "id"),
		EventTime: schemas.Some(noon.Add(time.Duration(rapid.Int64Range(-20*24*60, 8*24*60).Draw(t, "minute")) * time.Minute).UnixMicro()),
		UserID:    pick("user", "", "u1", "u2"), VisitorID: pick("visitor", "v1", "v2"),
		EventType: pick("type", "view", "click", "purchase", "impression"), ItemID: pick("item", "", "a", "b", "c"),
	}
	row.FeedbackKind = schemas.EventTypes[row.EventType].Kind
	row.Context.Country, row.Context.Surface = pick("country", "", "DE", "AT"), pick("surface", "", "home")
	for _, id := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "d", "e"}), 0, 3).Draw(t, "items") {
		row.Items = append(row.Items, schemas.LineItem{ItemID: id})
	}
	return row
}

// seen is an event of a digest in words.
type seen struct {
	Time                         int64
	User, Visitor, Type, Surface string
	Exposure                     bool
	Items                        []string
}

// items are those that an event is about.
func items(row *schemas.Interaction) (ids []string) {
	if row.ItemID != "" {
		ids = append(ids, row.ItemID)
	}
	for _, i := range row.Items {
		if !slices.Contains(ids, i.ItemID) {
			ids = append(ids, i.ItemID)
		}
	}
	return ids
}

// cell is a cell of a digest in words.
type cell struct {
	item, country, kind string
	minute              int64
}

// What goes in is what comes out, through bytes and through the rows of a file.
func TestRoundTrip(t *testing.T) {
	st, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(event), 1, 40).Draw(t, "rows")
		var want []seen
		counts := map[cell]uint32{}
		b := digest.NewBuilder()
		w, err := rowfile.NewWriter(schemas.Interactions, (*schemas.Interaction).Reset)
		if err != nil {
			t.Fatal(err)
		}
		w.Begin()
		for i := range rows {
			r := &rows[i]
			b.Add(r)
			if err := w.AddRow(r); err != nil {
				t.Fatal(err)
			}
			s := seen{Time: r.EventTime.V, User: r.UserID, Visitor: r.VisitorID, Type: r.EventType, Surface: r.Context.Surface, Exposure: r.EventType == "impression"}
			if !s.Exposure {
				s.Items = items(r)
			}
			want = append(want, s)
			for _, id := range items(r) {
				counts[cell{id, r.Context.Country, r.EventType, r.EventTime.V / 60_000_000}]++
			}
		}
		body, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := digest.Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		file, err := w.Finish(nil)
		if err != nil {
			t.Fatal(err)
		}
		n++
		key := "interactions/" + strings.Repeat("x", n%100+1) + "/" + time.Duration(n).String() + ".parquet"
		if _, err := st.Commit(t.Context(), key, file); err != nil {
			t.Fatal(err)
		}
		made, err := digest.Load(t.Context(), st, key) // there is none beside the file
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []*digest.Digest{d, made} {
			if diff := cmp.Diff(want, eventsOf(t, d)); diff != "" {
				t.Fatalf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(counts, cellsOf(d.Cells()), cmp.AllowUnexported(cell{})); diff != "" {
				t.Fatalf("cells (-want +got):\n%s", diff)
			}
		}
		// Merging is the same as having been together, in any order.
		cut := rapid.IntRange(0, len(rows)).Draw(t, "cut")
		first, second := digest.NewBuilder(), digest.NewBuilder()
		for i := range rows {
			if i < cut {
				first.Add(&rows[i])
			} else {
				second.Add(&rows[i])
			}
		}
		x, y := decoded(t, first).Cells(), decoded(t, second).Cells()
		if diff := cmp.Diff(d.Cells(), digest.Merge(x, y), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("merged (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(d.Cells(), digest.Merge(y, x), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("merged the other way round (-want +got):\n%s", diff)
		}
	})
}

func decoded(t *rapid.T, b *digest.Builder) *digest.Digest {
	body, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d, err := digest.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func eventsOf(t *rapid.T, d *digest.Digest) (all []seen) {
	err := d.Each(func(e *digest.Event) error {
		s := seen{e.Time, d.Users()[e.User], d.Visitors()[e.Visitor], d.Types()[e.Type], d.Surfaces()[e.Surface], e.Exposure, nil}
		for _, n := range e.Items {
			s.Items = append(s.Items, d.Items()[n])
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func cellsOf(c *digest.Cells) map[cell]uint32 {
	counts := map[cell]uint32{}
	for _, x := range c.List {
		counts[cell{c.Items[x.Item], c.Countries[x.Country], c.Types[x.Type], int64(x.Minute)}] += x.Count
	}
	return counts
}

// Damaged bytes are told, and never make it panic.
func TestDamaged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := digest.NewBuilder()
		for _, r := range rapid.SliceOfN(rapid.Custom(event), 0, 5).Draw(t, "rows") {
			b.Add(&r)
		}
		body, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		at := rapid.IntRange(0, len(body)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			body = body[:at]
		} else {
			body[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		}
		if _, err := digest.Decode(body); !errors.Is(err, digest.ErrDamaged) {
			t.Fatalf("got %v, want %v", err, digest.ErrDamaged)
		}
	})
}

func TestName(t *testing.T) {
	got := digest.Name("interactions/dt=2026-11-22/hour=14/part-00000-of-00001-000003.parquet")
	if want := "interactions/dt=2026-11-22/hour=14/_part-00000-of-00001-000003.digest"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
