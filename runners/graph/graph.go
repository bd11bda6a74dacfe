// Package graph is the form of a pipeline that runners take, and what of it decides whether one may take over the state of another.
package graph

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Marshal translates p for workers in an environment.
func Marshal(p *beam.Pipeline, environment *pipepb.Environment) (*pipepb.Pipeline, error) {
	edges, _, err := p.Build()
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	pipeline, err := graphx.Marshal(edges, &graphx.Options{Environment: environment, PipelineResourceHints: jobopts.GetPipelineResourceHints()})
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	return pipeline, nil
}

// Of returns what of a pipeline decides whether its state can be taken over, a line for each step in their order: its name and kind, the
// coders of what goes in and out, and its windows and triggers. Flink finds state by the place of its step among all others, and reads it
// with the coders; neither what functions do nor how they are configured matters.
func Of(p *pipepb.Pipeline) (steps []string) {
	g := grapher{p.GetComponents()}
	var visit func(ids []string)
	visit = func(ids []string) {
		for _, id := range ids {
			t := g.GetTransforms()[id]
			if len(t.GetSubtransforms()) > 0 {
				visit(t.GetSubtransforms())
				continue
			}
			steps = append(steps, fmt.Sprintf("%s: %s, %s -> %s", t.GetUniqueName(), t.GetSpec().GetUrn(), g.collections(t.GetInputs()), g.collections(t.GetOutputs())))
		}
	}
	visit(p.GetRootTransformIds())
	return steps
}

type grapher struct{ *pipepb.Components }

func (g grapher) collections(ids map[string]string) string {
	var all []string
	for _, tag := range slices.Sorted(maps.Keys(ids)) {
		c := g.GetPcollections()[ids[tag]]
		windows := g.GetWindowingStrategies()[c.GetWindowingStrategyId()]
		all = append(all, fmt.Sprintf("%s in %s by %s", g.coder(c.GetCoderId()), windows.GetWindowFn().GetUrn(), shape(windows.GetTrigger().ProtoReflect())))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func (g grapher) coder(id string) string {
	c := g.GetCoders()[id]
	text := c.GetSpec().GetUrn()
	if payload := c.GetSpec().GetPayload(); len(payload) > 0 {
		sum := sha256.Sum256(payload)
		text += "#" + hex.EncodeToString(sum[:4])
	}
	if len(c.GetComponentCoderIds()) == 0 {
		return text
	}
	var parts []string
	for _, part := range c.GetComponentCoderIds() {
		parts = append(parts, g.coder(part))
	}
	return text + "(" + strings.Join(parts, ", ") + ")"
}

// shape is what a trigger is made of, without its numbers: how long it waits may change.
func shape(m protoreflect.Message) string {
	var parts []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Message() == nil || f.IsMap() || !m.Has(f) {
			continue
		}
		if !f.IsList() {
			parts = append(parts, string(f.Name())+shape(m.Get(f).Message()))
			continue
		}
		for list, k := m.Get(f).List(), 0; k < list.Len(); k++ {
			parts = append(parts, string(f.Name())+shape(list.Get(k).Message()))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

// Difference returns the steps that only one of two graphs has, marked by - and +; nil where they are the same, in the same order.
func Difference(before, after []string) (lines []string) {
	if slices.Equal(before, after) {
		return nil
	}
	for _, step := range before {
		if !slices.Contains(after, step) {
			lines = append(lines, "- "+step)
		}
	}
	for _, step := range after {
		if !slices.Contains(before, step) {
			lines = append(lines, "+ "+step)
		}
	}
	if lines == nil {
		lines = []string{"the same steps in another order"}
	}
	return lines
}
