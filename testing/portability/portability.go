// Package portability tells which features of Beam a pipeline uses, so that a test can compare them with what runners are known to have.
package portability

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// Features returns the features that p asks a runner for, in order, as its portable form has them:
//
//	the URNs of transforms, window functions, states and side inputs, and of requirements
//	trigger:KIND for each trigger, also inside of others, and trigger:late_without_early, which Flink refuses
//	pardo:WHAT for functions that are splittable, or have several outputs, timers of a time domain, or a finalizer
//	windowing:WHAT for panes that accumulate, and lateness that is bounded
//	pcollection:unbounded for a source that does not end
func Features(p *beam.Pipeline) ([]string, error) {
	edges, _, err := p.Build()
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	graph, err := graphx.Marshal(edges, &graphx.Options{Environment: &pipepb.Environment{}})
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	found := set{}
	for _, requirement := range graph.GetRequirements() {
		found.add(requirement)
	}
	for id, t := range graph.GetComponents().GetTransforms() {
		urn := t.GetSpec().GetUrn()
		if urn == "" {
			continue // a scope
		}
		found.add(urn)
		if urn != graphx.URNParDo {
			continue
		}
		if err := found.parDo(t); err != nil {
			return nil, fmt.Errorf("transform %s: %w", id, err)
		}
	}
	for _, w := range graph.GetComponents().GetWindowingStrategies() {
		found.windowing(w)
	}
	for _, c := range graph.GetComponents().GetPcollections() {
		if c.GetIsBounded() == pipepb.IsBounded_UNBOUNDED {
			found.add("pcollection:unbounded")
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

type set map[string]bool

func (s set) add(feature string) { s[feature] = true }

func (s set) parDo(t *pipepb.PTransform) error {
	var payload pipepb.ParDoPayload
	if err := proto.Unmarshal(t.GetSpec().GetPayload(), &payload); err != nil {
		return err
	}
	if len(t.GetOutputs()) > 1 {
		s.add("pardo:several_outputs")
	}
	for what, asked := range map[string]bool{
		"splittable": payload.GetRestrictionCoderId() != "", "finalizer": payload.GetRequestsFinalization(),
		"stable_input": payload.GetRequiresStableInput(), "time_sorted_input": payload.GetRequiresTimeSortedInput(),
		"window_expiration": payload.GetOnWindowExpirationTimerFamilySpec() != "",
	} {
		if asked {
			s.add("pardo:" + what)
		}
	}
	for _, side := range payload.GetSideInputs() {
		s.add(side.GetAccessPattern().GetUrn())
	}
	for _, state := range payload.GetStateSpecs() {
		s.add("state:" + kindOf(state))
	}
	for _, timer := range payload.GetTimerFamilySpecs() {
		s.add("pardo:timer_" + strings.ToLower(timer.GetTimeDomain().String()))
	}
	return nil
}

func (s set) windowing(w *pipepb.WindowingStrategy) {
	s.add(w.GetWindowFn().GetUrn())
	s.trigger(w.GetTrigger())
	if w.GetAccumulationMode() != pipepb.AccumulationMode_DISCARDING && !onlyDefault(w.GetTrigger()) {
		s.add("windowing:accumulating")
	}
	if late := w.GetAllowedLateness(); late > 0 {
		s.add("windowing:allowed_lateness")
	}
}

// onlyDefault tells whether a window has one pane at most that matters: then nothing accumulates.
func onlyDefault(t *pipepb.Trigger) bool { return t == nil || t.GetDefault() != nil }

func (s set) trigger(t *pipepb.Trigger) {
	if t == nil {
		return
	}
	s.add("trigger:" + kindOf(t))
	if end := t.GetAfterEndOfWindow(); end.GetLateFirings() != nil && (end.GetEarlyFirings() == nil || end.GetEarlyFirings().GetDefault() != nil) {
		s.add("trigger:late_without_early")
	}
	for _, inner := range slices.Concat(
		t.GetAfterAll().GetSubtriggers(), t.GetAfterAny().GetSubtriggers(), t.GetAfterEach().GetSubtriggers(),
		[]*pipepb.Trigger{
			t.GetAfterEndOfWindow().GetEarlyFirings(), t.GetAfterEndOfWindow().GetLateFirings(), t.GetRepeat().GetSubtrigger(),
			t.GetOrFinally().GetMain(), t.GetOrFinally().GetFinally(),
		},
	) {
		s.trigger(inner)
	}
}

// kindOf returns the name of the one field that is set of a message with alternatives.
func kindOf(m proto.Message) string {
	reflected := m.ProtoReflect()
	alternatives := reflected.Descriptor().Oneofs()
	if alternatives.Len() == 0 {
		return string(reflected.Descriptor().Name())
	}
	field := reflected.WhichOneof(alternatives.Get(0))
	if field == nil {
		return "none"
	}
	return string(field.Name())
}
