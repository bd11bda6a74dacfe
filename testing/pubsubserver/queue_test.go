package pubsubserver

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// modelMessage is what the model knows of a message.
type modelMessage struct {
	seq       uint64
	key       string
	published time.Time
	attempts  uint32
	leased    bool
	until     time.Time // of the lease
	done      bool      // acknowledged or dead-lettered
	retained  bool
}

// model is a queue as one would write it without thinking of speed: a list that is looked through each time.
type model struct {
	policy policy
	list   []*modelMessage
	dead   int
}

func (m *model) find(seq uint64) *modelMessage {
	for _, x := range m.list {
		if x.seq == seq {
			return x
		}
	}
	return nil
}

// blocked says whether an earlier message of the key is out.
func (m *model) blocked(x *modelMessage, taken map[string]bool) bool {
	if !m.policy.ordered || x.key == "" || taken[x.key] {
		return false
	}
	for _, y := range m.list {
		if y.key == x.key && !y.done && y.leased {
			return true
		}
	}
	return false
}

func (m *model) giveBack(x *modelMessage) {
	x.leased = false
	if m.policy.maxAttempts > 0 && x.attempts >= m.policy.maxAttempts {
		x.done = true
		m.dead++
		return
	}
	if m.policy.ordered && x.key != "" {
		for _, y := range m.list {
			if y.key == x.key && y.seq > x.seq {
				y.leased = false
			}
		}
	}
}

func (m *model) advance(now time.Time) {
	for _, x := range slices.SortedStableFunc(slices.Values(m.list), func(a, b *modelMessage) int { return a.until.Compare(b.until) }) {
		if x.leased && !x.until.After(now) {
			m.giveBack(x)
		}
	}
}

// ready is the messages that a taker without limits would get.
func (m *model) ready() []uint64 {
	var out []uint64
	taken := map[string]bool{}
	for _, x := range m.list {
		if !x.done && !x.leased && !m.blocked(x, taken) {
			taken[x.key] = true
			out = append(out, x.seq)
		}
	}
	return out
}

// TestQueueIsItsModel does random things to a queue and to its model: both must always offer the same messages.
func TestQueueIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy{ordered: rapid.Bool().Draw(t, "ordered"), retainAcked: rapid.Bool().Draw(t, "retain")}
		if rapid.Bool().Draw(t, "dead letters") {
			p.maxAttempts = 3
		}
		now := time.Unix(1_000_000, 0)
		const lease = 10 * time.Second
		bytes := &budget{max: 1 << 40}
		q, m := newQueue(p, now), &model{policy: p}
		next := uint64(rapid.IntRange(1, 3000).Draw(t, "first"))
		var out []delivery // all deliveries so far, also those of no effect any more
		pick := func(t *rapid.T) (delivery, *modelMessage) {
			if len(out) == 0 {
				t.Skip("nothing was delivered")
			}
			d := out[rapid.IntRange(0, len(out)-1).Draw(t, "delivery")]
			return d, m.find(d.seq)
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				n := rapid.IntRange(1, 300).Draw(t, "messages")
				in := make([]incoming, n)
				for i := range in {
					in[i] = incoming{wire: []byte("12345678"), key: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")}
				}
				b := newBatch(next, now, in, bytes, int64(n))
				bytes.force(int64(n))
				for i := range b.msgs {
					q.add(next+uint64(i), &b.msgs[i], ready)
					m.list = append(m.list, &modelMessage{seq: next + uint64(i), key: in[i].key, published: now})
				}
				b.release()
				next += uint64(n) + uint64(rapid.IntRange(0, 2000).Draw(t, "gap"))
			},
			"take": func(t *rapid.T) {
				limit := rapid.IntRange(1, 200).Draw(t, "limit")
				could := m.ready()
				f := &flow{maxMessages: int64(rapid.IntRange(1, 200).Draw(t, "allowance"))}
				got := q.take(now, lease, limit, 1<<30, f, nil)
				if want := min(limit, int(f.maxMessages), len(could)); len(got) > want {
					t.Fatalf("took %d messages of %d with limit %d and allowance %d", len(got), len(could), limit, f.maxMessages)
				} else if len(got) == 0 && want > 0 {
					t.Fatalf("took nothing of %d messages", len(could))
				} else if !p.ordered && len(got) < want {
					t.Fatalf("took %d messages, could have %d", len(got), want)
				}
				lastOf := map[string]uint64{}
				for _, d := range got {
					x := m.find(d.seq)
					if !slices.Contains(could, d.seq) {
						t.Fatalf("took message %d, %+v, which is not to be had", d.seq, x)
					}
					if p.ordered && x.key != "" {
						if d.seq < lastOf[x.key] {
							t.Fatalf("message %d of key %q came after %d", d.seq, x.key, lastOf[x.key])
						}
						lastOf[x.key] = d.seq
					}
					x.leased, x.until = true, now.Add(lease)
					x.attempts++
					if d.attempt != x.attempts {
						t.Fatalf("message %d: attempt %d, want %d", d.seq, d.attempt, x.attempts)
					}
				}
				for key, last := range lastOf { // nothing of a key was left out before the last one taken
					for _, x := range m.list {
						if x.key == key && x.seq < last && !x.done && !x.leased {
							t.Fatalf("message %d of key %q was passed over for %d", x.seq, key, last)
						}
					}
				}
				out = append(out, got...)
			},
			"ack": func(t *rapid.T) {
				d, x := pick(t)
				want := !x.done && (!p.ordered || x.key == "" || x.leased && x.attempts == d.attempt)
				if got := q.ack(d.seq, d.attempt); got != want {
					t.Fatalf("ack of message %d attempt %d: got %v, want %v; %+v", d.seq, d.attempt, got, want, x)
				}
				if want {
					x.done, x.leased, x.retained = true, false, p.retainAcked
				}
			},
			"refuse": func(t *rapid.T) {
				d, x := pick(t)
				want := x.leased && x.attempts == d.attempt
				if got := q.modify(now, d.seq, d.attempt, 0); got != want {
					t.Fatalf("nack of message %d attempt %d: got %v, want %v; %+v", d.seq, d.attempt, got, want, x)
				}
				if want {
					m.giveBack(x)
				}
			},
			"prolong": func(t *rapid.T) {
				d, x := pick(t)
				by := time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds")) * time.Second
				want := x.leased && x.attempts == d.attempt
				if got := q.modify(now, d.seq, d.attempt, by); got != want {
					t.Fatalf("prolonging message %d attempt %d: got %v, want %v", d.seq, d.attempt, got, want)
				}
				if want {
					x.until = now.Add(by)
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
				q.advance(now)
				m.advance(now)
			},
			"seek": func(t *rapid.T) {
				to := now.Add(-time.Duration(rapid.IntRange(-1, 30).Draw(t, "seconds")) * time.Second)
				q.seek(to)
				for _, x := range m.list {
					switch {
					case x.done && x.retained && !x.published.Before(to):
						x.done, x.retained, x.attempts = false, false, 0
					case !x.done && x.published.Before(to):
						x.done, x.leased, x.retained = true, false, p.retainAcked
					}
				}
				// What was delivered before may carry the attempt of a later delivery: its ack id is not to be used.
				out = nil
			},
			"": func(t *rapid.T) {
				for _, d := range q.leaving {
					q.settle(d.seq, q.at(d.seq))
					if p.retainAcked {
						m.find(d.seq).retained = true
					}
				}
				q.leaving = nil
				var open, leases int
				for _, x := range m.list {
					if !x.done {
						open++
					}
					if x.leased {
						leases++
					}
				}
				if q.backlog() != open || q.counts[leased] != leases {
					t.Fatalf("backlog %d, want %d; leased %d, want %d", q.backlog(), open, q.counts[leased], leases)
				}
			},
		})
		// In the end all that is open can be had, by taking and acknowledging again and again.
		now = now.Add(time.Hour)
		q.advance(now)
		m.advance(now)
		var want, got []uint64
		for _, x := range m.list {
			if !x.done {
				want = append(want, x.seq)
			}
		}
		for {
			list := q.take(now, lease, 100, 1<<30, nil, nil)
			if len(list) == 0 {
				break
			}
			for _, d := range list {
				if !q.ack(d.seq, d.attempt) {
					t.Fatalf("message %d could not be acknowledged", d.seq)
				}
				got = append(got, d.seq)
			}
		}
		slices.Sort(got)
		if d := gocmp.Diff(want, got); d != "" {
			t.Fatalf("left (-want +got):\n%s", d)
		}
		q.clear()
		if bytes.used != 0 || len(q.byKey) != 0 {
			t.Fatalf("the queue is empty; %d bytes are in use, and %d keys", bytes.used, len(q.byKey))
		}
	})
}

func TestRuns(t *testing.T) {
	var f fifo
	for _, seq := range []uint64{1, 2, 3, 10, 11, 7} {
		f.runs.push(seq)
	}
	if d := gocmp.Diff("[{1 4} {10 12} {7 8}]", fmt.Sprint(f.runs)); d != "" {
		t.Errorf("runs (-want +got):\n%s", d)
	}
	var got []uint64
	for seq, ok := f.front(); ok; seq, ok = f.front() {
		got = append(got, seq)
		f.pop()
	}
	if d := gocmp.Diff([]uint64{1, 2, 3, 10, 11, 7}, got); d != "" {
		t.Errorf("fifo (-want +got):\n%s", d)
	}
}

func TestAckIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sub, seq, attempt := rapid.Uint64().Draw(t, "sub"), rapid.Uint64().Draw(t, "seq"), rapid.Uint32().Draw(t, "attempt")
		id := string(appendAckID(nil, sub, seq, attempt))
		a, b, c, err := parseAckID(id)
		if err != nil || cmp.Compare(a, sub)|cmp.Compare(b, seq)|cmp.Compare(c, attempt) != 0 {
			t.Fatalf("%q: got %d, %d, %d, %v; want %d, %d, %d", id, a, b, c, err, sub, seq, attempt)
		}
	})
}

func TestExpireDropsOldMessages(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, p := range []policy{{}, {ordered: true}, {retainAcked: true}} {
		q := newQueue(p, now)
		bytes := &budget{max: 1 << 30}
		for i := range uint64(10) {
			b := newBatch(100+i, now.Add(time.Duration(i)*time.Minute), []incoming{{wire: []byte("x"), key: "k"}}, bytes, 1)
			bytes.force(1)
			q.add(100+i, &b.msgs[0], ready)
			b.release()
		}
		list := q.take(now, time.Minute, 3, 100, nil, nil)
		q.ack(list[0].seq, list[0].attempt)
		q.expire(now.Add(5 * time.Minute)) // 0 to 4 are older
		if got := q.backlog(); got != 5 {
			t.Errorf("%+v: the backlog is %d, want 5", p, got)
		}
		if q.expired != 4 { // one of five was acknowledged
			t.Errorf("%+v: expired %d, want 4", p, q.expired)
		}
		if got := q.take(now, time.Minute, 10, 100, nil, nil); len(got) != 5 || got[0].seq != 105 {
			t.Errorf("%+v: took %v, want 5 messages from 105 on", p, got)
		}
	}
}
