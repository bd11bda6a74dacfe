package asof

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Mode says what an export tells of the rows that it does not have.
type Mode string

// The modes.
const (
	Full  Mode = "full"  // they are deleted
	Delta Mode = "delta" // nothing: they stay as they are
)

// open is the end of a version that holds still.
const open = math.MaxInt64

// version is what merging has to know of a version of a row.
type version struct {
	updated int64 // when the source changed it
	undated bool  // the source does not say when: updated is the time of the export
	deleted bool
	hash    string // of its content
	from    int64  // it holds in [from, to)
	to      int64
	row     int // whose content it has: a number that the caller gives, -1 for what has none
}

// order says which of two versions of a row is the newer one: by the time of the update; of the same time, a deletion is,
// and of contents the one with the greater hash, so that every order of merging ends with the same.
func order(a, b version) int {
	return cmp.Or(cmp.Compare(a.updated, b.updated), compareBool(a.deleted, b.deleted), strings.Compare(a.hash, b.hash))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// outcome says what became of the incoming versions of a row.
type outcome struct {
	current version // where has is set
	has     bool
	closed  []version // to be added to the history, by their beginning

	inserted, updated, deleted, late int64 // incoming versions that changed something
	unchanged                        int64 // those that did not: known, older, or one of several in an export
	absent                           int64 // deleted since the export does not have the row
}

// merger merges the versions of one row after the other.
type merger struct {
	mode Mode
	asOf int64
	// history returns the versions of the row that is being merged which earlier runs have closed. It is called only for
	// an update that is older than the current version.
	history func() ([]version, error)
}

// merge merges what an export has of a row into what is known of it. It takes in over.
//
// keep says that the export has the row in a form that was refused: then it is not absent.
func (m *merger) merge(current version, has bool, in []version, keep bool) (outcome, error) {
	o := outcome{current: current, has: has}
	if len(in) == 0 {
		if m.mode == Full && has && !keep && !current.deleted && current.from < m.asOf {
			o.close(m.asOf)
			o.current = version{updated: m.asOf, deleted: true, from: m.asOf, to: open, row: -1}
			o.absent++
		}
		return o, nil
	}
	settled := m.settle(in)
	o.unchanged += int64(len(in) - len(settled))
	for _, v := range settled {
		if err := m.apply(&o, v); err != nil {
			return o, err
		}
	}
	slices.SortFunc(o.closed, func(a, b version) int { return cmp.Or(cmp.Compare(a.from, b.from), order(a, b)) })
	return o, nil
}

// settle orders the versions that an export has of a row, and leaves one for each time of update: that which order calls the
// newest. A full export is one state, so it leaves one.
func (m *merger) settle(in []version) []version {
	slices.SortFunc(in, order)
	if m.mode == Full {
		return in[len(in)-1:]
	}
	kept := in[:0]
	for i, v := range in {
		if i+1 == len(in) || in[i+1].updated != v.updated {
			kept = append(kept, v)
		}
	}
	return kept
}

func (m *merger) apply(o *outcome, v version) error {
	v.from, v.to = v.updated, open
	switch c := &o.current; {
	case !o.has:
		o.current, o.has = v, true
		o.count(v, &o.inserted)
	case v.undated && v.deleted == c.deleted && v.hash == c.hash:
		o.unchanged++ // it was not updated: it is only there again
	case order(v, *c) == 0:
		o.unchanged++
	case order(v, *c) > 0:
		changed := &o.updated
		if c.deleted {
			changed = &o.inserted
		}
		if v.updated > c.from {
			o.close(v.updated)
		} else {
			v.from = c.from // it takes the place of the other
		}
		o.current = v
		o.count(v, changed)
	case m.mode == Full && c.deleted && !v.deleted && c.from < m.asOf:
		// The export has what was deleted, as it was before: it is there again.
		o.close(m.asOf)
		v.from = m.asOf
		o.current = v
		o.inserted++
	case m.mode == Full:
		o.unchanged++ // the export is older than what is known
	default:
		return m.late(o, v)
	}
	return nil
}

// late puts a version between those that are known.
func (m *merger) late(o *outcome, v version) error {
	if v.updated == o.current.updated {
		o.unchanged++ // of the same time, the current one won
		return nil
	}
	known, err := m.history()
	if err != nil {
		return err
	}
	v.to = o.current.from
	for _, list := range [][]version{known, o.closed} {
		for _, k := range list {
			if k.updated == v.updated && order(v, k) <= 0 {
				o.unchanged++
				return nil
			}
			if k.from > v.from {
				v.to = min(v.to, k.from)
			}
		}
	}
	o.closed = append(o.closed, v)
	o.late++
	return nil
}

// close ends the current version.
func (o *outcome) close(at int64) {
	o.current.to = at
	o.closed = append(o.closed, o.current)
}

func (o *outcome) count(v version, changed *int64) {
	if v.deleted {
		changed = &o.deleted
	}
	*changed++
}
