package dataflowfake

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

const (
	urnPubSubRead  = "beam:transform:pubsub_read:v1"
	urnPubSubWrite = "beam:transform:pubsub_write:v1"
	urnParDo       = "beam:transform:pardo:v1"
	// nativeEnvironment is that of what is Dataflow's own.
	nativeEnvironment = "native"
)

// sources returns the inlets of a job.
func (j *job) sources() (all []*inlet) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, in := range j.inlets {
		all = append(all, in)
	}
	return all
}

// takeOver ends the job that this one takes the place of, and begins with the messages that it has.
func (j *job) takeOver() {
	old := j.replaces
	if old == nil {
		return
	}
	old.mu.Lock()
	old.replaced = j.id
	old.mu.Unlock()
	old.ask(stateUpdated)
	<-old.over
	old.mu.Lock()
	kept := old.inlets
	old.mu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	for subscription, in := range kept {
		j.inlets[subscription] = in
	}
}

// graft puts functions that read a local server in the place of the sources that are Dataflow's own.
func (s *Server) graft(j *job, p *pipepb.Pipeline) error {
	c := p.GetComponents()
	for id, t := range c.GetTransforms() {
		switch t.GetSpec().GetUrn() {
		case urnPubSubWrite:
			return fmt.Errorf("step %s writes to Pub/Sub by a step of Dataflow's own, which the fake does not have", t.GetUniqueName())
		case urnPubSubRead:
			if err := s.graftRead(j, p, id); err != nil {
				return fmt.Errorf("step %s: %w", t.GetUniqueName(), err)
			}
		}
	}
	return nil
}

func (s *Server) graftRead(j *job, p *pipepb.Pipeline, id string) error {
	c := p.GetComponents()
	leaf := c.GetTransforms()[id]
	var read pipepb.PubSubReadPayload
	if err := proto.Unmarshal(leaf.GetSpec().GetPayload(), &read); err != nil {
		return err
	}
	if read.GetSubscription() == "" || read.GetIdAttribute() != "" {
		return fmt.Errorf("the fake reads subscriptions, and knows messages by their ids only: %v", &read)
	}
	name, err := s.inlet(j, &read)
	if err != nil {
		return err
	}
	pipeline, scope := beam.NewPipelineWithRoot()
	beam.ParDo(scope, &readFn{Inlet: name}, beam.Impulse(scope))
	edges, _, err := pipeline.Build()
	if err != nil {
		return err
	}
	env := &pipepb.Environment{}
	for _, other := range c.GetEnvironments() {
		env.Capabilities = other.GetCapabilities()
	}
	if err := s.external(env, s.native.addr(context.Background()), ""); err != nil {
		return err
	}
	sub, err := graphx.Marshal(edges, &graphx.Options{Environment: env})
	if err != nil {
		return err
	}
	c.Environments[nativeEnvironment] = env
	prefix := "native_" + id + "_"
	rename := func(m map[string]string) {
		for tag := range m {
			m[tag] = prefix + m[tag]
		}
	}
	for k, v := range sub.GetComponents().GetCoders() {
		for i := range v.ComponentCoderIds {
			v.ComponentCoderIds[i] = prefix + v.ComponentCoderIds[i]
		}
		c.Coders[prefix+k] = v
	}
	for k, v := range sub.GetComponents().GetWindowingStrategies() {
		v.WindowCoderId = prefix + v.WindowCoderId
		v.EnvironmentId = nativeEnvironment
		c.WindowingStrategies[prefix+k] = v
	}
	for k, v := range sub.GetComponents().GetPcollections() {
		v.CoderId, v.WindowingStrategyId, v.UniqueName = prefix+v.CoderId, prefix+v.WindowingStrategyId, prefix+v.UniqueName
		c.Pcollections[prefix+k] = v
	}
	delete(c.Transforms, id)
	var added []string
	for k, v := range sub.GetComponents().GetTransforms() {
		if v.GetEnvironmentId() != "" {
			v.EnvironmentId = nativeEnvironment
		}
		rename(v.Inputs)
		rename(v.Outputs)
		if v.GetSpec().GetUrn() == urnParDo {
			var payload pipepb.ParDoPayload
			if err := proto.Unmarshal(v.GetSpec().GetPayload(), &payload); err != nil {
				return err
			}
			payload.RestrictionCoderId = prefix + payload.GetRestrictionCoderId()
			if v.Spec.Payload, err = proto.Marshal(&payload); err != nil {
				return err
			}
			// It makes the collection of the step that it stands for.
			for tag := range v.GetOutputs() {
				delete(c.Pcollections, v.Outputs[tag])
				for _, output := range leaf.GetOutputs() {
					v.Outputs[tag] = output
				}
			}
		}
		v.UniqueName = leaf.GetUniqueName() + "/" + v.GetUniqueName()
		c.Transforms[prefix+k] = v
		added = append(added, prefix+k)
	}
	replace := func(ids []string) []string {
		if i := slices.Index(ids, id); i >= 0 {
			return slices.Replace(ids, i, i+1, added...)
		}
		return ids
	}
	p.RootTransformIds = replace(p.GetRootTransformIds())
	for _, t := range c.GetTransforms() {
		t.Subtransforms = replace(t.GetSubtransforms())
	}
	p.Requirements = append(p.Requirements, sub.GetRequirements()...)
	slices.Sort(p.Requirements)
	p.Requirements = slices.Compact(p.Requirements)
	return nil
}

// inlet returns the name of a job's inlet for a subscription. It is opened once for all attempts; that of a job that was replaced goes on.
func (s *Server) inlet(j *job, read *pipepb.PubSubReadPayload) (name string, err error) {
	name = j.id + " " + read.GetSubscription()
	if _, ok := inlets.Load(name); ok {
		return name, nil
	}
	j.mu.Lock()
	kept := j.inlets[read.GetSubscription()]
	j.mu.Unlock()
	in, err := newInlet(s.options.PubSub, &inlet{name: name, subscription: read.GetSubscription(), timestamps: read.GetTimestampAttribute(), whole: read.GetWithAttributes()}, kept)
	if err != nil {
		return "", err
	}
	inlets.Store(name, in)
	j.mu.Lock()
	j.inlets[read.GetSubscription()] = in
	j.mu.Unlock()
	return name, nil
}
