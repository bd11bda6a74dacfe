package pubsubserver

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// config is settings in the form of the API, which lie in the log as the JSON of protocol buffers.
type config[M proto.Message] struct{ message M }

func settings[M proto.Message](m M) config[M] { return config[M]{m} }

func (c config[M]) MarshalJSON() ([]byte, error) { return protojson.Marshal(c.message) }

func (c *config[M]) UnmarshalJSON(b []byte) error {
	c.message = c.message.ProtoReflect().New().Interface().(M)
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, c.message)
}

// change is one change to what there is; exactly one field is set. It is applied when it is in the log, in the
// order of the log, and the same way when the log is read again.
type change struct {
	PutTopic           *topicState        `json:",omitempty"`
	DeleteTopic        uint64             `json:",omitempty"`
	PutSubscription    *subscriptionState `json:",omitempty"`
	DeleteSubscription uint64             `json:",omitempty"`
	PutSnapshot        *snapshotState     `json:",omitempty"`
	DeleteSnapshot     uint64             `json:",omitempty"`
	Seek               *seekState         `json:",omitempty"`
}

type topicState struct {
	ID      uint64
	Config  config[*pubsubpb.Topic]
	Next    uint64 // sequence number of its next message; of no effect on a topic that is there
	Deleted bool   `json:",omitempty"`
}

type subscriptionState struct {
	ID             uint64
	Topic          uint64 // of no effect on a subscription that is there
	Config         config[*pubsubpb.Subscription]
	Open, Retained runs `json:",omitempty"` // in a checkpoint: messages not settled, messages kept for a seek
}

type snapshotState struct {
	ID     uint64
	Topic  uint64
	Of     uint64 // the subscription whose backlog it begins with
	Config config[*pubsubpb.Snapshot]
	Open   runs `json:",omitempty"` // in a checkpoint
}

type seekState struct {
	Subscription uint64
	Snapshot     uint64 // 0: seek to Time
	Time         time.Time
}

// MarshalJSON writes a run as [first, end].
func (r run) MarshalJSON() ([]byte, error) { return json.Marshal([2]uint64{r.first, r.end}) }

// UnmarshalJSON reads what MarshalJSON writes.
func (r *run) UnmarshalJSON(b []byte) error {
	var pair [2]uint64
	err := json.Unmarshal(b, &pair)
	r.first, r.end = pair[0], pair[1]
	return err
}

// commit makes a change durable and applies it. The caller holds admin.
func (s *Server) commit(c change) error {
	if s.journal == nil {
		s.apply(c)
		return nil
	}
	if err := s.journal.change(c, func() { s.apply(c) }); err != nil {
		return status.Errorf(codes.Unavailable, "%v", err)
	}
	return nil
}

// apply makes a change that was checked before.
func (s *Server) apply(c change) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.PutTopic != nil:
		if t := s.topicByID[c.PutTopic.ID]; t != nil {
			t.config = c.PutTopic.Config.message
		} else {
			s.addTopic(c.PutTopic)
		}
	case c.DeleteTopic != 0:
		if t := s.topicByID[c.DeleteTopic]; t != nil && !t.deleted {
			s.deleteTopic(t)
		}
	case c.PutSubscription != nil:
		if sub := s.subscriptionByID(c.PutSubscription.ID); sub != nil {
			sub.configure(c.PutSubscription.Config.message, s.options.MaxLease)
			if sub.config.GetDetached() {
				s.detach(sub)
			}
		} else if t := s.topicByID[c.PutSubscription.Topic]; t != nil {
			s.addSubscription(c.PutSubscription, t, now)
		}
	case c.DeleteSubscription != 0:
		if sub := s.subscriptionByID(c.DeleteSubscription); sub != nil {
			s.detach(sub)
			delete(s.subscriptions, sub.name)
			sub.end(status.Errorf(codes.NotFound, "subscription %q was deleted", sub.name))
			s.dropTopic(sub.topic)
		}
	case c.PutSnapshot != nil:
		of, t := s.subscriptionByID(c.PutSnapshot.Of), s.topicByID[c.PutSnapshot.Topic]
		if of != nil && t != nil {
			s.addSnapshot(c.PutSnapshot, t, now, func(q *queue) {
				of.mu.Lock()
				q.restore(of.queue)
				of.mu.Unlock()
			})
		}
	case c.DeleteSnapshot != 0:
		if snap := s.snapshotByID(c.DeleteSnapshot); snap != nil {
			snap.topic.consumers.Lock()
			snap.topic.snapshots = slices.DeleteFunc(snap.topic.snapshots, func(o *snapshot) bool { return o == snap })
			snap.topic.consumers.Unlock()
			delete(s.snapshots, snap.config.GetName())
			snap.queue.clear()
			s.dropTopic(snap.topic)
		}
	case c.Seek != nil:
		if sub := s.subscriptionByID(c.Seek.Subscription); sub != nil {
			s.seek(sub, c.Seek)
		}
	}
}

// used keeps an id from being given again.
func (s *Server) used(id uint64) {
	if id > s.lastID.Load() {
		s.lastID.Store(id)
	}
}

func (s *Server) addTopic(state *topicState) *topic {
	t := &topic{id: state.ID, config: state.Config.message, next: state.Next, deleted: state.Deleted}
	s.topicByID[t.id] = t
	if !t.deleted {
		s.topics[t.config.GetName()] = t
	}
	s.used(t.id)
	return t
}

func (s *Server) addSubscription(state *subscriptionState, t *topic, now time.Time) *subscription {
	sub := newSubscription(state.ID, t, state.Config.message, s.options.MaxLease, now)
	s.subscriptions[sub.name] = sub
	s.used(sub.id)
	if sub.config.GetDetached() {
		s.detach(sub)
	} else if !t.deleted {
		t.consumers.Lock()
		t.readers = append(t.readers, sub)
		t.consumers.Unlock()
	}
	return sub
}

// addSnapshot makes a snapshot; fill gives it the messages that it begins with.
func (s *Server) addSnapshot(state *snapshotState, t *topic, now time.Time, fill func(*queue)) {
	snap := &snapshot{id: state.ID, topic: t, config: state.Config.message, queue: newQueue(policy{}, now)}
	s.snapshots[snap.config.GetName()] = snap
	s.used(snap.id)
	// No batch comes between the first messages and the later ones.
	t.consumers.Lock()
	defer t.consumers.Unlock()
	fill(snap.queue)
	if !t.deleted {
		t.snapshots = append(t.snapshots, snap)
	}
}

// deleteTopic leaves the subscriptions of a topic what they have.
func (s *Server) deleteTopic(t *topic) {
	delete(s.topics, t.config.GetName())
	t.deleted = true
	t.consumers.Lock()
	readers := t.readers
	t.readers, t.snapshots = nil, nil
	t.consumers.Unlock()
	for _, sub := range readers {
		orphan := proto.CloneOf(sub.config)
		orphan.Topic = deletedTopic
		sub.configure(orphan, s.options.MaxLease)
	}
	s.dropTopic(t)
}

// dropTopic forgets a deleted topic that nothing leads to any more.
func (s *Server) dropTopic(t *topic) {
	if !t.deleted {
		return
	}
	for _, sub := range s.subscriptions {
		if sub.topic == t {
			return
		}
	}
	for _, snap := range s.snapshots {
		if snap.topic == t {
			return
		}
	}
	delete(s.topicByID, t.id)
}

// detach ends what a topic gives to a subscription, and what the subscription has.
func (s *Server) detach(sub *subscription) {
	t := sub.topic
	t.consumers.Lock()
	t.readers = slices.DeleteFunc(t.readers, func(o *subscription) bool { return o == sub })
	t.consumers.Unlock()
	if sub.config.GetDetached() {
		sub.end(status.Errorf(codes.FailedPrecondition, "subscription %q is detached from its topic", sub.name))
	}
}

func (s *Server) seek(sub *subscription, to *seekState) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if to.Snapshot == 0 {
		sub.queue.seek(to.Time)
		sub.rouse()
		return
	}
	snap := s.snapshotByID(to.Snapshot)
	if snap == nil {
		return
	}
	snap.mu.Lock()
	defer snap.mu.Unlock()
	sub.queue.restore(snap.queue)
	sub.rouse()
}

func (s *Server) subscriptionByID(id uint64) *subscription {
	for _, sub := range s.subscriptions {
		if sub.id == id {
			return sub
		}
	}
	return nil
}

func (s *Server) snapshotByID(id uint64) *snapshot {
	for _, snap := range s.snapshots {
		if snap.id == id {
			return snap
		}
	}
	return nil
}

// forward publishes what has been delivered too often to the dead-letter topic of a subscription. Only what is
// stored there is settled here, so a crash between the two makes a message come twice, not never.
func (s *Server) forward(sub *subscription) {
	sub.mu.Lock()
	list := sub.queue.leaving
	sub.queue.leaving = nil
	sub.mu.Unlock()
	for len(list) > 0 {
		n, bytes := 0, 0
		for n < min(len(list), maxRequestMessages) && bytes < maxRequestBytes {
			bytes += len(list[n].msg.wire)
			n++
		}
		s.forwardPart(sub, list[:n])
		list = list[n:]
	}
}

func (s *Server) forwardPart(sub *subscription, part []delivery) {
	config := s.subscriptionConfig(sub)
	t, err := s.topic(config.GetDeadLetterPolicy().GetDeadLetterTopic())
	if err == nil {
		var in []incoming
		if in, err = deadLetters(config.GetName(), part); err == nil {
			_, err = s.store(s.closing, t, in, true) // forced: it takes no more memory than it is about to give back
		}
	}
	var settled runs
	sub.mu.Lock()
	for _, d := range part {
		e := sub.queue.at(d.seq)
		switch {
		case e == nil || e.phase != leaving: // deleted, or sought back, meanwhile
		case err != nil:
			sub.queue.stay(d.seq, e)
		default:
			sub.queue.settle(d.seq, e)
			sub.deadLettered++
			settled.push(d.seq)
		}
	}
	sub.rouse()
	sub.mu.Unlock()
	if s.journal != nil && len(settled) > 0 {
		s.journal.ack(sub.id, settled)
	}
	if err != nil {
		s.options.Logger.Warn("messages could not go to the dead-letter topic, and come again",
			"subscription", sub.name, "messages", len(part), "err", err)
	}
}

// deadLetters are messages with the attributes that say where they come from.
func deadLetters(subscription string, list []delivery) ([]incoming, error) {
	const prefix = "CloudPubSubDeadLetterSource"
	parts := strings.Split(subscription, "/") // projects/PROJECT/subscriptions/ID
	out := make([]incoming, len(list))
	for i, d := range list {
		var m pubsubpb.PubsubMessage
		if err := proto.Unmarshal(d.msg.wire, &m); err != nil {
			return nil, err
		}
		if m.Attributes == nil {
			m.Attributes = map[string]string{}
		}
		m.Attributes[prefix+"Subscription"] = parts[3]
		m.Attributes[prefix+"SubscriptionProject"] = parts[1]
		m.Attributes[prefix+"DeliveryCount"] = strconv.Itoa(int(d.attempt))
		m.Attributes[prefix+"TopicPublishTime"] = m.GetPublishTime().AsTime().Format(time.RFC3339Nano)
		m.MessageId, m.PublishTime = "", nil
		wire, err := proto.Marshal(&m)
		if err != nil {
			return nil, err
		}
		out[i] = incoming{wire: wire, key: m.GetOrderingKey()}
	}
	return out, nil
}
