package asof

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// state is what a store would know of one row.
type state struct {
	current version
	has     bool
	history []version
}

// run merges an export into the state.
func (s *state) run(t fataler, mode Mode, asOf int64, in ...version) outcome {
	m := merger{mode: mode, asOf: asOf, history: func() ([]version, error) { return s.history, nil }}
	o, err := m.merge(s.current, s.has, slices.Clone(in), false)
	if err != nil {
		t.Fatal(err)
	}
	s.current, s.has = o.current, o.has
	s.history = append(s.history, o.closed...)
	return o
}

type fataler interface{ Fatal(args ...any) }

// timeline returns the versions by their beginnings, each until the next begins, as "from-to content".
func (s *state) timeline() []string {
	all := slices.Clone(s.history)
	if s.has {
		all = append(all, s.current)
	}
	slices.SortFunc(all, func(a, b version) int { return cmp.Or(cmp.Compare(a.from, b.from), order(a, b)) })
	var out []string
	for i, v := range all {
		end := "now"
		if i+1 < len(all) {
			if all[i+1].from == v.from {
				continue
			}
			end = fmt.Sprint(all[i+1].from)
		}
		content := v.hash
		if v.deleted {
			content = "deleted"
		}
		out = append(out, fmt.Sprintf("%d-%s %s", v.from, end, content))
	}
	return out
}

func at(updated int64, hash string) version { return version{updated: updated, hash: hash} }
func gone(updated int64) version            { return version{updated: updated, deleted: true} }
func undated(asOf int64, hash string) version {
	return version{updated: asOf, undated: true, hash: hash}
}

func TestMerge(t *testing.T) {
	type export struct {
		mode Mode
		asOf int64
		in   []version
	}
	full := func(asOf int64, in ...version) export { return export{Full, asOf, in} }
	delta := func(in ...version) export { return export{Delta, 100, in} }
	tests := []struct {
		name    string
		exports []export
		want    []string
	}{
		{"a row", []export{full(10, at(5, "a"))}, []string{"5-now a"}},
		{"changed", []export{full(10, at(5, "a")), full(20, at(15, "b"))}, []string{"5-15 a", "15-now b"}},
		{"there again", []export{full(10, at(5, "a")), full(20, at(5, "a"))}, []string{"5-now a"}},
		{"updated to the same content", []export{full(10, at(5, "a")), full(20, at(15, "a"))}, []string{"5-15 a", "15-now a"}},
		{"absent", []export{full(10, at(5, "a")), full(20)}, []string{"5-20 a", "20-now deleted"}},
		{"absent twice", []export{full(10, at(5, "a")), full(20), full(30)}, []string{"5-20 a", "20-now deleted"}},
		{"absent and there again", []export{full(10, at(5, "a")), full(20), full(30, at(5, "a")), full(40, at(5, "a"))}, []string{"5-20 a", "20-30 deleted", "30-now a"}},
		{"absent and new", []export{full(10, at(5, "a")), full(20), full(30, at(25, "b"))}, []string{"5-20 a", "20-25 deleted", "25-now b"}},
		{"absent from an export that is older than the row", []export{delta(at(25, "a")), full(20)}, []string{"25-now a"}},
		{"a full export does not undo a newer update", []export{delta(at(25, "b")), full(30, at(5, "a"))}, []string{"25-now b"}},
		{"undated and the same", []export{full(10, undated(10, "a")), full(20, undated(20, "a"))}, []string{"10-now a"}},
		{"undated and changed", []export{full(10, undated(10, "a")), full(20, undated(20, "b"))}, []string{"10-20 a", "20-now b"}},
		{"undated and back", []export{full(10, undated(10, "a")), full(20, undated(20, "b")), full(30, undated(30, "a"))}, []string{"10-20 a", "20-30 b", "30-now a"}},
		{"several in a full export", []export{full(10, at(3, "z"), at(5, "a"), at(5, "b"))}, []string{"5-now b"}},
		{"several in a delta", []export{delta(at(5, "b"), at(3, "a"), at(3, "a"), at(5, "a"))}, []string{"3-5 a", "5-now b"}},
		{"deleted", []export{delta(at(5, "a")), delta(gone(8))}, []string{"5-8 a", "8-now deleted"}},
		{"deleted at the time of its update", []export{delta(gone(5)), delta(at(5, "a"))}, []string{"5-now deleted"}},
		{"deleted before it is known", []export{delta(gone(8)), delta(at(5, "a"))}, []string{"5-8 a", "8-now deleted"}},
		{"late", []export{delta(at(5, "b")), delta(at(3, "a"))}, []string{"3-5 a", "5-now b"}},
		{"late between others", []export{delta(at(1, "a")), delta(at(5, "c")), delta(at(3, "b"))}, []string{"1-3 a", "3-5 b", "5-now c"}},
		{"late and known", []export{delta(at(1, "a")), delta(at(5, "c")), delta(at(1, "a"))}, []string{"1-5 a", "5-now c"}},
		{"late at the time of another", []export{delta(at(1, "a")), delta(at(5, "c")), delta(at(1, "b"))}, []string{"1-5 b", "5-now c"}},
		{"late and beaten", []export{delta(at(1, "b")), delta(at(5, "c")), delta(at(1, "a"))}, []string{"1-5 b", "5-now c"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s state
			for _, e := range test.exports {
				o := s.run(t, e.mode, e.asOf, e.in...)
				if got := o.inserted + o.updated + o.deleted + o.late + o.unchanged; got != int64(len(e.in)) {
					t.Errorf("as of %d: %d of %d rows are accounted for: %+v", e.asOf, got, len(e.in), o)
				}
			}
			if diff := gocmp.Diff(test.want, s.timeline()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			seen := map[string]bool{}
			for _, h := range append(s.history, s.current) {
				key := fmt.Sprint(h.from, h.deleted, h.hash)
				if seen[key] {
					t.Errorf("version %v is there twice", key)
				}
				seen[key] = true
			}
		})
	}
}

// A row that was refused is not absent.
func TestRefusedIsNotAbsent(t *testing.T) {
	m := merger{mode: Full, asOf: 20}
	o, err := m.merge(version{updated: 5, from: 5, to: open, hash: "a"}, true, nil, true)
	if err != nil || o.current.deleted || len(o.closed) > 0 || o.absent > 0 {
		t.Errorf("%+v, %v: want what was", o, err)
	}
}

// In whatever order deltas come, and however often, they end with what a model of a few lines says.
func TestMergeIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		updates := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) version {
			v := version{updated: rapid.Int64Range(1, 8).Draw(t, "updated"), deleted: rapid.IntRange(0, 4).Draw(t, "deleted") == 0}
			if !v.deleted {
				v.hash = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "hash")
			}
			return v
		}), 1, 20).Draw(t, "updates")

		model := map[int64]version{} // the model: of each time of update, the greatest
		for _, u := range updates {
			if old, ok := model[u.updated]; !ok || order(u, old) > 0 {
				model[u.updated] = u
			}
		}
		var want state
		for _, at := range slices.Sorted(maps.Keys(model)) {
			v := model[at]
			v.from, want.has = at, true
			want.history = append(want.history, v)
		}
		want.current, want.history = want.history[len(want.history)-1], want.history[:len(want.history)-1]

		var got state
		for len(updates) > 0 {
			n := rapid.IntRange(1, len(updates)).Draw(t, "rows of a delta")
			got.run(t, Delta, 100, updates[:n]...)
			updates = updates[n:]
		}
		if diff := gocmp.Diff(want.timeline(), got.timeline()); diff != "" {
			t.Fatalf("(-model +got):\n%s", diff)
		}
		for _, h := range got.history {
			if h.from >= h.to {
				t.Fatalf("version %+v is empty", h)
			}
		}
	})
}

// Full exports end with their last state, each state holding from its update, or from the export that shows it.
func TestFullExportsAreStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s state
		shown := ""
		updated := int64(0)
		for day := int64(1); day <= 8; day++ {
			asOf := day * 10
			switch rapid.SampledFrom([]string{"same", "change", "absent"}).Draw(t, "what") {
			case "change":
				shown, updated = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "hash"), asOf-rapid.Int64Range(0, 9).Draw(t, "before")
			case "absent":
				shown = ""
			}
			if shown == "" {
				s.run(t, Full, asOf)
			} else {
				s.run(t, Full, asOf, at(updated, shown))
			}
			switch {
			case shown == "" && s.has && !s.current.deleted:
				t.Fatalf("day %d: %+v is there, and was not exported", day, s.current)
			case shown != "" && (s.current.deleted || s.current.hash != shown):
				t.Fatalf("day %d: %+v, want %q", day, s.current, shown)
			}
		}
	})
}

func TestMain(m *testing.M) { ptest.MainWithDefault(m, "prism") }
