package dataflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	df "google.golang.org/api/dataflow/v1b3"

	"backbone/runners/graph"
)

// canReplace returns why a job that runs cannot be updated to one with these steps, before anything is sent. Dataflow finds state by the names of steps: one
// that is gone needs a new name, or to be given up; one that stays needs its coders and windows.
func (o Options) canReplace(ctx context.Context, r rest, running *df.Job, steps []string) error {
	whole, err := r.get(ctx, running.Id, true)
	if err != nil {
		return err
	}
	if whole.Type != "JOB_TYPE_STREAMING" {
		return errors.New("it reads files, and ends by itself")
	}
	if at := shownOf(whole, lakeItem); at != o.Lake {
		return fmt.Errorf("it writes to the lake %q, not to %s", at, o.Lake)
	}
	before, err := graph.Saved(ctx, o.Lake, o.RunID, shownOf(whole, runItem))
	if err != nil {
		return err
	}
	if lines := incompatible(before, steps, o.TransformNames); len(lines) > 0 {
		return fmt.Errorf("its graph is another (%s): name steps by --transform_name_mapping, or drain it and start this one without --update", graph.Brief(lines))
	}
	return nil
}

// incompatible returns what keeps the state of a graph from being taken over by another, with the new names of steps by the old ones.
func incompatible(before, after []string, names map[string]string) (lines []string) {
	split := func(steps []string) map[string]string {
		shapes := map[string]string{}
		for _, step := range steps {
			name, shape, _ := strings.Cut(step, ": ")
			shapes[name] = shape
		}
		return shapes
	}
	old, now := split(before), split(after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if to := names[name]; !isStep(old, name) {
			lines = append(lines, fmt.Sprintf("%s is mapped, and is no step of the job that runs", name))
		} else if to != "" && !isStep(now, to) {
			lines = append(lines, fmt.Sprintf("%s is mapped to %s, which is no step", name, to))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		to := renamed(name, names)
		if to == "" {
			continue // its state is given up
		}
		switch shape, ok := now[to]; {
		case !ok:
			lines = append(lines, "- "+name)
		case shape != old[name]:
			lines = append(lines, fmt.Sprintf("%s was %s, and is %s", name, old[name], shape))
		}
	}
	return lines
}

// isStep tells whether a name is that of a step, or of one that has steps inside.
func isStep(shapes map[string]string, name string) bool {
	for step := range shapes {
		if step == name || strings.HasPrefix(step, name+"/") {
			return true
		}
	}
	return false
}

// renamed is the new name of a step: its own is mapped, or that of one around it.
func renamed(step string, names map[string]string) string {
	for around := step; around != ""; {
		if to, ok := names[around]; ok {
			if to == "" {
				return ""
			}
			return to + strings.TrimPrefix(step, around)
		}
		i := strings.LastIndexByte(around, '/')
		if i < 0 {
			break
		}
		around = around[:i]
	}
	return step
}
