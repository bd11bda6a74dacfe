package audit

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"backbone/schemas"
)

// minute is one, in microseconds.
const minute = 60_000_000

// minutes is a set of minutes of a partition, by their numbers in it.
type minutes []uint64

func (m *minutes) set(n int64) {
	for int64(len(*m)) <= n/64 {
		*m = append(*m, 0)
	}
	(*m)[n/64] |= 1 << (n % 64)
}

// any tells if there is one in [from, to).
func (m minutes) any(from, to int64) bool {
	for n := max(from, 0); n < min(to, int64(64*len(m))); n++ {
		if m[n/64]&(1<<(n%64)) != 0 {
			return true
		}
	}
	return false
}

// addMinutes notes when a partition of interactions has events with items.
func (a *auditor) addMinutes(folder string, more minutes) {
	if len(more) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.touched[folder]
	for len(m) < len(more) {
		m = append(m, 0)
	}
	for i, bits := range more {
		m[i] |= bits
	}
	a.touched[folder] = m
}

// inputPartition is a partition of interactions: what results of windows are made of.
type inputPartition struct {
	start, end int64
	files      int64
	// marks are the partition's marks: for how many files a computation has settled all windows, by what identifies the computation.
	marks   map[string]int64
	touched minutes
}

// markName is that of a mark: all windows are settled that the partition's so many files touch.
var markName = regexp.MustCompile(`^_windows-([0-9a-f]+)-(\d{10})$`)

// inputs lists the partitions of interactions, in the order of time. Without a layout there are none: that is said where interactions
// are looked at.
func (a *auditor) inputs(ctx context.Context) (all []*inputPartition, err error) {
	table := schemas.Interactions.Name
	l, ok, err := a.readLayout(ctx, table)
	if errors.Is(err, errLayout) {
		return nil, nil
	}
	if err != nil || !ok {
		return nil, err
	}
	byFolder := map[string]*inputPartition{}
	for e, err := range a.store.List(ctx, table+"/") {
		if err != nil {
			return nil, err
		}
		folder, name := path.Split(strings.TrimPrefix(e.Key, table+"/"))
		folder = strings.TrimSuffix(folder, "/")
		p := byFolder[folder]
		if p == nil {
			start, end, err := l.window.partition(folder)
			if err != nil {
				continue
			}
			p = &inputPartition{start: start, end: end, marks: map[string]int64{}, touched: a.touched[folder]}
			byFolder[folder] = p
			all = append(all, p)
		}
		if _, _, _, isData := parseFileName(name); isData {
			p.files++
		} else if m := markName.FindStringSubmatch(name); m != nil {
			if n, err := strconv.ParseInt(m[2], 10, 64); err == nil {
				p.marks[m[1]] = max(p.marks[m[1]], n)
			}
		}
	}
	all = slices.DeleteFunc(all, func(p *inputPartition) bool { return p.files == 0 })
	slices.SortFunc(all, func(p, q *inputPartition) int { return int(min(1, max(-1, p.start-q.start))) })
	return all, nil
}

// overlapping returns those of the partitions that overlap [from, to).
func overlapping(all []*inputPartition, from, to int64) []*inputPartition {
	first, _ := slices.BinarySearchFunc(all, from, func(p *inputPartition, at int64) int {
		if p.end <= at {
			return -1
		}
		return 1
	})
	last := first
	for last < len(all) && all[last].start < to {
		last++
	}
	return all[first:last]
}

func countFiles(all []*inputPartition) (n int64) {
	for _, p := range all {
		n += p.files
	}
	return n
}

// marked tells if everybody who has computed windows of any of the partitions has settled those of all of them, with the files that
// they have now.
func marked(all []*inputPartition) bool {
	for _, p := range all {
		if len(p.marks) == 0 || len(p.marks) != len(all[0].marks) {
			return false
		}
		for who, n := range p.marks {
			if _, other := all[0].marks[who]; !other || n != p.files {
				return false
			}
		}
	}
	return len(all) > 0
}

// stale looks for results that are not made of what is there. The partitions are as they were before the results were read.
func (a *auditor) stale(ctx context.Context, spec *resultSpec, results []*resultFile, before []*inputPartition, t *Windowed) error {
	var after []*inputPartition
	for _, r := range results {
		if !r.hasInputs {
			continue
		}
		// What certainly had to be counted: it cannot be more than what was.
		certain := overlapping(before, r.inputs.start, min(r.inputs.end, r.end))
		sure := true
		if !spec.ofSessions { // a partition is part of it if it has events with items then
			sure = a.touched != nil
			touching := certain
			certain = nil
			for _, p := range touching {
				if !sure || p.touched.any((r.start-p.start)/minute, (r.end-p.start)/minute) {
					certain = append(certain, p)
				}
			}
		}
		files := r.revision / 2
		if needed := countFiles(certain); files < needed {
			t.Stale++
			if sure && marked(certain) {
				a.find(KindStale, r.key, "it was made of %d files, but there are %d that it has to be made of, and their partitions are marked as done", files, needed)
			}
			continue
		}
		if files <= countFiles(overlapping(before, r.inputs.start, r.inputs.end)) {
			continue
		}
		if after == nil { // they may have come in the meantime
			var err error
			if after, err = a.inputs(ctx); err != nil {
				return err
			}
		}
		now := overlapping(after, r.inputs.start, r.inputs.end)
		if there := countFiles(now); files > there {
			t.Stale++
			if marked(now) {
				a.find(KindStale, r.key, "it was made of %d files, but there are only %d, and their partitions are marked as done", files, there)
			}
		}
	}
	return nil
}
