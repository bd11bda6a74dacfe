package pubsubserver

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"
)

// checkpoint is all that a server knows, except its messages.
type checkpoint struct {
	LastID        uint64
	Topics        []topicState
	Subscriptions []subscriptionState
	Snapshots     []snapshotState
}

// checkpoint encodes the present state. It is called when all records given to the log so far are applied or will
// be in a later segment.
func (s *Server) checkpoint() ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := checkpoint{LastID: s.lastID.Load()}
	for _, t := range s.topicByID {
		t.mu.Lock()
		c.Topics = append(c.Topics, topicState{ID: t.id, Config: settings(t.config), Next: t.next, Deleted: t.deleted})
		t.mu.Unlock()
	}
	for _, sub := range s.subscriptions {
		state := subscriptionState{ID: sub.id, Topic: sub.topic.id, Config: settings(sub.config)}
		sub.mu.Lock()
		state.Open, state.Retained = sub.queue.live()
		sub.mu.Unlock()
		c.Subscriptions = append(c.Subscriptions, state)
	}
	for _, snap := range s.snapshots {
		state := snapshotState{ID: snap.id, Topic: snap.topic.id, Config: settings(snap.config)}
		snap.mu.Lock()
		state.Open, _ = snap.queue.live()
		snap.mu.Unlock()
		c.Snapshots = append(c.Snapshots, state)
	}
	return json.Marshal(c)
}

// reader rebuilds a server from its log.
type reader struct {
	server  *Server
	batches map[uint64][]*batch // by topic, in the order of the log
}

// recover opens the log in DataDir, rebuilds what it says, and goes on in a new segment.
func (s *Server) recover() error {
	dir := s.options.DataDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := lockDir(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("log %q is in use by another server: %w", dir, err)
	}
	s.journal = &journal{dir: dir, segmentBytes: s.options.SegmentBytes, checkpoint: s.checkpoint, lock: lock}
	segments, err := segmentsIn(dir)
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	r := reader{server: s, batches: map[uint64][]*batch{}}
	for i, seg := range segments {
		if err := r.read(seg, i == len(segments)-1); err != nil {
			return errors.Join(err, lock.Close())
		}
	}
	for _, list := range r.batches {
		for _, b := range list {
			b.release() // the reader's own hold
		}
	}
	if err := s.journal.begin(segments); err != nil {
		return errors.Join(err, lock.Close())
	}
	return nil
}

// read applies the records of a segment. The end of the newest one may be torn: it is cut off.
func (r *reader) read(seg *segment, newest bool) error {
	all, err := os.ReadFile(seg.path)
	if err != nil {
		return err
	}
	seg.size.Store(int64(len(all)))
	rest := all
	for len(rest) > 0 {
		body, after, ok := nextRecord(rest)
		if !ok {
			break
		}
		if err := r.apply(body, seg); err != nil {
			return fmt.Errorf("log %q: at byte %d: %w", seg.path, len(all)-len(rest), err)
		}
		rest = after
	}
	if len(rest) == 0 {
		return nil
	}
	good := len(all) - len(rest)
	if !newest {
		return fmt.Errorf("log %q: damaged at byte %d of %d: restore it from a copy, or remove the folder to start empty", seg.path, good, len(all))
	}
	r.server.options.Logger.Warn("the end of the log was not whole and is cut off: none of it had been confirmed", "file", seg.path, "bytes", len(rest))
	seg.size.Store(int64(good))
	// Durable at once: with a later segment beside it, a torn end would be taken for damage.
	f, err := os.OpenFile(seg.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(good)), f.Sync(), f.Close())
}

func (r *reader) apply(body []byte, seg *segment) error {
	kind, body := body[0], body[1:]
	switch kind {
	case kindChange:
		var c change
		if err := json.Unmarshal(body, &c); err != nil {
			return err
		}
		r.server.apply(c)
		return nil
	case kindCheckpoint:
		var c checkpoint
		if err := json.Unmarshal(body, &c); err != nil {
			return err
		}
		return r.load(&c)
	case kindPublish:
		return r.publish(body, seg)
	case kindAck:
		return r.ack(body)
	default:
		return fmt.Errorf("a record of unknown kind %q: the log is of a newer version", kind)
	}
}

func (r *reader) publish(body []byte, seg *segment) error {
	in := bytes.NewReader(body)
	topic, err1 := binary.ReadUvarint(in)
	first, err2 := binary.ReadUvarint(in)
	count, err3 := binary.ReadUvarint(in)
	published, err4 := binary.ReadVarint(in)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	arena := bytes.Clone(body[len(body)-in.Len():]) // the file's bytes are not to be kept for a few messages
	if count > uint64(len(arena)) {
		return fmt.Errorf("a batch of %d messages in %d bytes", count, len(arena))
	}
	s := r.server
	b, err := readBatch(first, published, int(count), arena, s.budget)
	if err != nil {
		return err
	}
	s.budget.force(b.size)
	b.segment = seg
	seg.live.Add(1)
	r.batches[topic] = append(r.batches[topic], b)
	t := s.topicByID[topic]
	if t == nil {
		return nil // published while it was deleted
	}
	t.next = max(t.next, first+count)
	if at := time.Unix(0, published); at.After(t.last) {
		t.last = at
	}
	b.retain() // handOut ends one hold; the reader keeps its own
	s.handOut(t, b)
	t.published.Store(0)
	return nil
}

func (r *reader) ack(body []byte) error {
	in := bytes.NewReader(body)
	id, err := binary.ReadUvarint(in)
	if err != nil {
		return err
	}
	sub := r.server.subscriptionByID(id)
	for in.Len() > 0 {
		first, err1 := binary.ReadUvarint(in)
		n, err2 := binary.ReadUvarint(in)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		for seq := first; sub != nil && seq < first+n; seq++ {
			if e := sub.queue.at(seq); e != nil && e.phase != held {
				sub.queue.settle(seq, e)
			}
		}
	}
	return nil
}

// load replaces the state by that of a checkpoint. Messages are those read before it.
func (r *reader) load(c *checkpoint) error {
	s := r.server
	now := time.Now()
	for _, sub := range s.subscriptions {
		sub.queue.clear()
	}
	for _, snap := range s.snapshots {
		snap.queue.clear()
	}
	last := map[uint64]time.Time{}
	for id, t := range s.topicByID {
		last[id] = t.last
	}
	clear(s.topics)
	clear(s.topicByID)
	clear(s.subscriptions)
	clear(s.snapshots)
	s.used(c.LastID)
	for i := range c.Topics {
		t := s.addTopic(&c.Topics[i])
		t.last = last[t.id]
	}
	for i := range c.Subscriptions {
		state := &c.Subscriptions[i]
		t := s.topicByID[state.Topic]
		if t == nil {
			return fmt.Errorf("subscription %q has topic %d, which is not there", state.Config.message.GetName(), state.Topic)
		}
		sub := s.addSubscription(state, t, now)
		r.fill(sub.queue, state.Topic, state.Open, state.Retained)
	}
	for i := range c.Snapshots {
		state := &c.Snapshots[i]
		t := s.topicByID[state.Topic]
		if t == nil {
			return fmt.Errorf("snapshot %q has topic %d, which is not there", state.Config.message.GetName(), state.Topic)
		}
		s.addSnapshot(state, t, now, func(q *queue) { r.fill(q, state.Topic, state.Open, nil) })
	}
	return nil
}

// fill adds the messages that a checkpoint names.
func (r *reader) fill(q *queue, topic uint64, open, retained runs) {
	type span struct {
		run
		as phase
	}
	var spans []span
	for _, o := range open {
		spans = append(spans, span{o, ready})
	}
	for _, o := range retained {
		spans = append(spans, span{o, held})
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	list := r.batches[topic]
	for _, sp := range spans {
		for seq := sp.first; seq < sp.end; seq++ {
			i := sort.Search(len(list), func(i int) bool { return list[i].first > seq }) - 1
			if i < 0 || seq >= list[i].first+uint64(len(list[i].msgs)) {
				continue // acknowledged since, by all, and its segment removed
			}
			q.add(seq, &list[i].msgs[seq-list[i].first], sp.as)
		}
	}
}
