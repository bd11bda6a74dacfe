package pubsubserver

import (
	"context"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// The size of a response: at most so many messages, and about so many bytes, so that it stays below the 4 MB which gRPC
// clients take by default unless a single message is larger.
const (
	maxResponseMessages = 1000
	maxResponseBytes    = 1 << 20
)

// subscription is a queue and those who take from it.
type subscription struct {
	id     uint64
	name   string
	topic  *topic
	config *pubsubpb.Subscription // never changed in place; guarded by Server.mu

	mu        sync.Mutex
	queue     *queue
	lease     time.Duration // when the taker does not say
	retention time.Duration
	takers    []*taker
	ended     error // why there is nothing to take any more, or nil

	delivered, acked, deadLettered int64
}

// taker is a StreamingPull or Pull call.
type taker struct {
	flow
	wake chan struct{} // capacity 1
	idle bool          // found nothing, or had no room; guarded by subscription.mu
	quit context.CancelCauseFunc
}

func newSubscription(id uint64, t *topic, c *pubsubpb.Subscription, maxLease time.Duration, now time.Time) *subscription {
	sub := &subscription{id: id, name: c.GetName(), topic: t}
	sub.queue = newQueue(policyOf(c), now)
	sub.configure(c, maxLease)
	return sub
}

// configure takes over settings. A maxLease of 0 is no limit. The caller holds Server.mu.
func (sub *subscription) configure(c *pubsubpb.Subscription, maxLease time.Duration) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.config = c
	sub.queue.policy = policyOf(c)
	sub.lease = cut(c.GetAckDeadlineSeconds(), maxLease)
	sub.retention = c.GetMessageRetentionDuration().AsDuration()
	if !sub.queue.policy.retainAcked && sub.queue.counts[held] > 0 {
		sub.queue.each(func(seq uint64, e *entry) bool {
			if e.phase == held {
				sub.queue.forget(seq, e)
			}
			return true
		})
	}
}

// cut is a lease of so many seconds, but not longer than limit where that is set.
func cut(seconds int32, limit time.Duration) time.Duration {
	d := time.Duration(seconds) * time.Second
	if limit > 0 {
		return min(d, limit)
	}
	return d
}

func policyOf(c *pubsubpb.Subscription) policy {
	p := policy{ordered: c.GetEnableMessageOrdering(), retainAcked: c.GetRetainAckedMessages()}
	if d := c.GetDeadLetterPolicy(); d != nil {
		p.maxAttempts = uint32(d.GetMaxDeliveryAttempts())
	}
	if r := c.GetRetryPolicy(); r != nil {
		p.minBackoff, p.maxBackoff = r.GetMinimumBackoff().AsDuration(), r.GetMaximumBackoff().AsDuration()
	}
	return p
}

// add appends a batch.
func (sub *subscription) add(b *batch) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	for i := range b.msgs {
		sub.queue.add(b.first+uint64(i), &b.msgs[i], ready)
	}
	sub.rouse()
}

// rouse wakes as many idle takers as there is work for. The caller holds mu.
func (sub *subscription) rouse() {
	work := sub.queue.counts[ready]
	for _, t := range sub.takers {
		if work <= 0 {
			return
		}
		if t.idle && t.room() {
			t.idle = false
			t.nudge()
			work -= maxResponseMessages
		}
	}
}

func (t *taker) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// join adds a taker; leave has to follow.
func (sub *subscription) join(t *taker) error {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.ended != nil {
		return sub.ended
	}
	sub.takers = append(sub.takers, t)
	return nil
}

func (sub *subscription) leave(t *taker) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	for i, other := range sub.takers {
		if other == t {
			sub.takers = append(sub.takers[:i], sub.takers[i+1:]...)
			break
		}
	}
	sub.rouse() // it may have been woken for work that it will not do
}

// end closes all calls on the subscription with err, now and later.
func (sub *subscription) end(err error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.ended = err
	for _, t := range sub.takers {
		t.quit(err)
	}
	sub.queue.clear()
}

// take leases messages for t and appends them to out. If there are none, t is woken when that changes.
func (sub *subscription) take(t *taker, lease time.Duration, limit int, out []delivery) []delivery {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if lease == 0 {
		lease = sub.lease
	}
	out = sub.queue.take(time.Now(), lease, limit, maxResponseBytes, &t.flow, out)
	sub.delivered += int64(len(out))
	t.idle = len(out) == 0
	return out
}

// advance ends leases that are due and, where expire, drops what is older than the retention.
func (sub *subscription) advance(now time.Time, expire bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.queue.advance(now)
	if expire {
		sub.queue.expire(now.Add(-sub.retention))
	}
	sub.rouse()
}

// ack settles deliveries. It returns the sequence numbers of those that this changed, also with an error.
func (sub *subscription) ack(ids []string, drop func() bool) (settled runs, err error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	for _, id := range ids {
		seq, attempt, err := sub.delivery(id)
		if err != nil {
			return settled, err
		}
		if !drop() && sub.queue.ack(seq, attempt) {
			settled.push(seq)
			sub.acked++
		}
	}
	sub.rouse()
	return settled, nil
}

// modify sets new deadlines: for the ith id d(i) from now, where 0 gives the message back.
func (sub *subscription) modify(ids []string, d func(i int) time.Duration) error {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	now := time.Now()
	for i, id := range ids {
		seq, attempt, err := sub.delivery(id)
		if err != nil {
			return err
		}
		sub.queue.modify(now, seq, attempt, d(i))
	}
	sub.rouse()
	return nil
}

// giveBack ends the leases of deliveries that did not leave the server.
func (sub *subscription) giveBack(list []delivery) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	now := time.Now()
	for _, d := range list {
		sub.queue.modify(now, d.seq, d.attempt, 0)
	}
	sub.rouse()
}

// delivery is what an ack id of this subscription names.
func (sub *subscription) delivery(id string) (seq uint64, attempt uint32, err error) {
	owner, seq, attempt, err := parseAckID(id)
	if err != nil {
		return 0, 0, invalid("%v", err)
	}
	if owner != sub.id {
		return 0, 0, invalid("ack id %q is not one of subscription %q", id, sub.name)
	}
	return seq, attempt, nil
}

func messageID(seq uint64) string { return strconv.FormatUint(seq, 10) }
