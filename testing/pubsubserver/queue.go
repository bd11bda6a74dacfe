package pubsubserver

import (
	"slices"
	"time"
)

// message is one published message; it never changes, and all subscriptions of its topic share it.
type message struct {
	wire  []byte // an encoded PubsubMessage with message id and publish time
	key   string // ordering key, or ""
	batch *batch
}

// phase says where a message of a queue stands.
type phase uint8

const (
	gone    phase = iota // acknowledged, or never seen here
	ready                // waits for a taker
	leased               // delivered; its deadline runs
	waiting              // refused; comes again when its back-off has passed
	leaving              // on its way to the dead-letter topic
	held                 // acknowledged, and retained for a seek
)

// entry is what a queue knows of one message.
type entry struct {
	msg      *message
	flow     *flow  // whose allowance the lease counts against, or nil
	due      int64  // tick at which a lease or a back-off ends
	attempts uint32 // deliveries so far; part of the ack id
	phase    phase
}

const (
	tick          = 50 * time.Millisecond // granularity of deadlines
	entriesInPage = 1024
)

type page struct {
	live    int // entries that are not gone
	entries [entriesInPage]entry
}

// run is the sequence numbers from first up to and excluding end.
type run struct{ first, end uint64 }

// runs is a list of sequence numbers in which neighbours that follow each other take the room of one.
type runs []run

func (r *runs) push(seq uint64) {
	if n := len(*r); n > 0 && (*r)[n-1].end == seq {
		(*r)[n-1].end++
		return
	}
	*r = append(*r, run{seq, seq + 1})
}

// fifo is runs to be taken from the front.
type fifo struct {
	runs runs
	head int
}

// front returns the first sequence number.
func (f *fifo) front() (uint64, bool) {
	if f.head == len(f.runs) {
		return 0, false
	}
	return f.runs[f.head].first, true
}

// pop drops the first sequence number; there must be one.
func (f *fifo) pop() {
	f.runs[f.head].first++
	if f.runs[f.head].first < f.runs[f.head].end {
		return
	}
	f.head++
	if f.head == len(f.runs) {
		f.runs, f.head = f.runs[:0], 0
	} else if f.head > 1024 && f.head > len(f.runs)/2 {
		f.runs, f.head = slices.Delete(f.runs, 0, f.head), 0
	}
}

// lane is the messages of one ordering key that wait or are out.
type lane struct {
	key     string
	pending []uint64 // ready, or the first of them waiting; ascending
	out     []uint64 // the batch that was taken, with what of it is acknowledged since; ascending
	leased  int      // of out, how many are leased
	queued  bool     // is in queue.lanes
}

// flow is the allowance of one taker: how much it may have outstanding. Zero maxima are no limit.
type flow struct {
	maxMessages, maxBytes int64
	messages, bytes       int64
}

// room says whether the taker may have one more message.
func (f *flow) room() bool {
	return f == nil || (f.maxMessages <= 0 || f.messages < f.maxMessages) && (f.maxBytes <= 0 || f.bytes < f.maxBytes)
}

func (f *flow) add(m *message) {
	if f != nil {
		f.messages++
		f.bytes += int64(len(m.wire))
	}
}

func (f *flow) done(m *message) {
	if f != nil {
		f.messages--
		f.bytes -= int64(len(m.wire))
	}
}

// delivery is one message as handed to a taker.
type delivery struct {
	seq     uint64
	attempt uint32
	msg     *message
}

// policy is the part of a subscription's settings that a queue obeys.
type policy struct {
	ordered                bool
	retainAcked            bool
	maxAttempts            uint32 // 0: no dead letters
	minBackoff, maxBackoff time.Duration
}

// queue is the backlog of one subscription: which messages wait, which are leased and until when. It is a plain
// state machine: it takes the time as an argument, and its owner locks it.
//
// A message is known by its sequence number in the topic. Entries lie in pages by that number. Deadlines lie in a wheel
// of ticks; a lease that is prolonged gets a second place in the wheel, and the first is found stale when its tick comes.
type queue struct {
	policy policy

	base  uint64 // sequence number of the first entry of pages[0]
	pages []*page
	next  uint64 // one past the newest message

	fresh, again fifo // ready messages without a lane: never taken, to be taken again
	lanes        []*lane
	byKey        map[string]*lane

	wheel map[int64]*runs
	now   int64 // tick up to which the wheel is settled

	leaving []delivery // reached maxAttempts; the owner forwards and then forgets them

	counts               [held + 1]int // entries in each phase; counts[gone] has no meaning
	redelivered, expired uint64
}

func newQueue(p policy, now time.Time) *queue {
	return &queue{policy: p, byKey: map[string]*lane{}, wheel: map[int64]*runs{}, now: tickOf(now)}
}

func tickOf(t time.Time) int64 { return t.UnixNano() / int64(tick) }

// dueTick is the first tick, of those still to come, at which d has passed in full.
func (q *queue) dueTick(now time.Time, d time.Duration) int64 {
	return max(q.now+1, (now.Add(d).UnixNano()+int64(tick)-1)/int64(tick))
}

// backlog is the number of messages that are neither acknowledged nor dead-lettered.
func (q *queue) backlog() int {
	return q.counts[ready] + q.counts[leased] + q.counts[waiting] + q.counts[leaving]
}

// at returns the entry of seq, or nil where it is gone.
func (q *queue) at(seq uint64) *entry {
	if seq < q.base || seq >= q.next {
		return nil
	}
	p := q.pages[(seq-q.base)/entriesInPage]
	if p == nil {
		return nil
	}
	if e := &p.entries[seq%entriesInPage]; e.phase != gone {
		return e
	}
	return nil
}

func (q *queue) move(e *entry, to phase) {
	q.counts[e.phase]--
	q.counts[to]++
	if e.phase == leased {
		e.flow.done(e.msg)
		e.flow = nil
	}
	e.phase = to
}

// add appends a message. Sequence numbers must grow; what lies between two of them is gone.
func (q *queue) add(seq uint64, m *message, as phase) {
	if len(q.pages) == 0 {
		q.base = seq - seq%entriesInPage
	}
	for uint64(len(q.pages)) <= (seq-q.base)/entriesInPage {
		q.pages = append(q.pages, nil)
		q.trim(len(q.pages) - 2) // the newest page so far was kept even if empty
	}
	i := (seq - q.base) / entriesInPage
	p := q.pages[i]
	if p == nil {
		p = new(page)
		q.pages[i] = p
	}
	p.live++
	e := &p.entries[seq%entriesInPage]
	*e = entry{msg: m, phase: as}
	m.batch.retain()
	q.counts[as]++
	q.next = seq + 1
	if as == ready {
		q.offer(seq, e, &q.fresh)
	}
}

// offer puts a ready message where takers find it.
func (q *queue) offer(seq uint64, e *entry, list *fifo) {
	if !q.policy.ordered || e.msg.key == "" {
		list.runs.push(seq)
		return
	}
	l := q.lane(e.msg.key)
	if n := len(l.pending); n == 0 || l.pending[n-1] < seq {
		l.pending = append(l.pending, seq)
	} else {
		i, _ := slices.BinarySearch(l.pending, seq)
		l.pending = slices.Insert(l.pending, i, seq)
	}
	q.enqueue(l)
}

func (q *queue) lane(key string) *lane {
	l := q.byKey[key]
	if l == nil {
		l = &lane{key: key}
		q.byKey[key] = l
	}
	return l
}

// enqueue makes a lane available once nothing of it is out, and forgets it once it is empty.
func (q *queue) enqueue(l *lane) {
	if l.leased > 0 {
		return
	}
	l.out = l.out[:0]
	for len(l.pending) > 0 && q.at(l.pending[0]) == nil {
		l.pending = l.pending[1:]
	}
	if len(l.pending) == 0 {
		if !l.queued {
			delete(q.byKey, l.key)
		}
		return
	}
	if !l.queued && q.at(l.pending[0]).phase == ready {
		l.queued = true
		q.lanes = append(q.lanes, l)
	}
}

// take leases up to limit messages of up to maxBytes together, but at least one, until lease has passed, and
// appends them to out.
func (q *queue) take(now time.Time, lease time.Duration, limit, maxBytes int, f *flow, out []delivery) []delivery {
	due := q.dueTick(now, lease)
	slot := q.wheel[due]
	if slot == nil {
		slot = new(runs)
	}
	full := func() bool { return limit <= 0 || maxBytes <= 0 || !f.room() }
	lend := func(seq uint64, e *entry) {
		q.move(e, leased)
		if e.attempts > 0 {
			q.redelivered++
		}
		e.attempts++
		e.due, e.flow = due, f
		f.add(e.msg)
		slot.push(seq)
		limit--
		maxBytes -= len(e.msg.wire)
		out = append(out, delivery{seq, e.attempts, e.msg})
	}
	before := len(out)
	for _, list := range [...]*fifo{&q.again, &q.fresh} {
		for !full() {
			seq, ok := list.front()
			if !ok {
				break
			}
			list.pop()
			if e := q.at(seq); e != nil && e.phase == ready {
				lend(seq, e)
			}
		}
	}
	for !full() && len(q.lanes) > 0 {
		l := q.lanes[0]
		q.lanes[0] = nil
		q.lanes = q.lanes[1:]
		l.queued = false
		for !full() && len(l.pending) > 0 {
			seq := l.pending[0]
			e := q.at(seq)
			if e != nil && e.phase != ready {
				break // backs off: all of its lane waits
			}
			l.pending = l.pending[1:]
			if e == nil {
				continue
			}
			lend(seq, e)
			l.out = append(l.out, seq)
			l.leased++
		}
		q.enqueue(l)
	}
	if len(out) > before {
		q.wheel[due] = slot
	}
	return out
}

// ack settles a message and says whether that changed anything. The attempt is the one of the delivery that is
// acknowledged. A late one still counts, since its work was done, except on an ordering key: there the message may
// be about to come again after an earlier one, and must.
func (q *queue) ack(seq uint64, attempt uint32) bool {
	e := q.at(seq)
	if e == nil || e.phase == held || e.phase == leaving {
		return false
	}
	if q.policy.ordered && e.msg.key != "" && (e.phase != leased || e.attempts != attempt) {
		return false
	}
	q.settle(seq, e)
	return true
}

// settle acknowledges a message whatever its phase.
func (q *queue) settle(seq uint64, e *entry) {
	was, m := e.phase, e.msg
	if q.policy.retainAcked {
		q.move(e, held)
	} else {
		q.forget(seq, e)
	}
	if was == leased {
		q.left(m.key)
	}
}

// left tells a lane that one of its leased messages is no longer so.
func (q *queue) left(key string) {
	if !q.policy.ordered || key == "" {
		return
	}
	if l := q.byKey[key]; l != nil {
		l.leased--
		q.enqueue(l)
	}
}

// forget drops a message for good.
func (q *queue) forget(seq uint64, e *entry) {
	m := e.msg
	q.move(e, gone)
	e.msg = nil
	m.batch.release()
	i := (seq - q.base) / entriesInPage
	p := q.pages[i]
	p.live--
	// The newest page stays: it is still filled.
	if p.live > 0 || int(i) == len(q.pages)-1 {
		return
	}
	q.trim(int(i))
}

// trim lets go of page i if it is empty, and of the empty pages at the front.
func (q *queue) trim(i int) {
	if i < 0 || q.pages[i] != nil && q.pages[i].live > 0 {
		return
	}
	q.pages[i] = nil
	drop := 0
	for drop < len(q.pages)-1 && q.pages[drop] == nil {
		drop++
	}
	q.pages = q.pages[drop:]
	q.base += uint64(drop) * entriesInPage
}

// modify gives a lease a new deadline; d of 0 ends it at once. What is not leased by that delivery is left alone.
func (q *queue) modify(now time.Time, seq uint64, attempt uint32, d time.Duration) bool {
	e := q.at(seq)
	if e == nil || e.phase != leased || e.attempts != attempt {
		return false
	}
	if d <= 0 {
		q.giveBack(now, seq, e)
		return true
	}
	e.due = q.dueTick(now, d)
	q.plan(e.due, seq)
	return true
}

func (q *queue) plan(due int64, seq uint64) {
	slot := q.wheel[due]
	if slot == nil {
		slot = new(runs)
		q.wheel[due] = slot
	}
	slot.push(seq)
}

// giveBack ends a lease without an acknowledgement.
func (q *queue) giveBack(now time.Time, seq uint64, e *entry) {
	key := e.msg.key
	if q.policy.maxAttempts > 0 && e.attempts >= q.policy.maxAttempts {
		q.move(e, leaving)
		q.leaving = append(q.leaving, delivery{seq, e.attempts, e.msg})
		q.left(key)
		return
	}
	backoff := q.backoff(e.attempts)
	if backoff > 0 {
		q.move(e, waiting)
		e.due = q.dueTick(now, backoff)
		q.plan(e.due, seq)
	} else {
		q.move(e, ready)
	}
	if !q.policy.ordered || key == "" {
		if backoff <= 0 {
			q.again.runs.push(seq)
		}
		return
	}
	// What was delivered after it, and is not acknowledged yet, has to come after it again.
	l := q.byKey[key]
	l.leased--
	at, _ := slices.BinarySearch(l.out, seq)
	back := []uint64{seq}
	for _, later := range l.out[min(at+1, len(l.out)):] {
		if f := q.at(later); f != nil && f.phase == leased {
			q.move(f, ready)
			l.leased--
			back = append(back, later)
		}
	}
	l.out = l.out[:at]
	sorted := len(l.pending) == 0 || back[len(back)-1] < l.pending[0]
	l.pending = append(back, l.pending...)
	if !sorted { // a seek has brought back an earlier one while these were out
		slices.Sort(l.pending)
	}
	q.enqueue(l)
}

// backoff is how long a message waits after its nth delivery failed.
func (q *queue) backoff(attempts uint32) time.Duration {
	d := q.policy.minBackoff
	for ; attempts > 1 && d < q.policy.maxBackoff; attempts-- {
		d *= 2
	}
	return min(d, q.policy.maxBackoff)
}

// advance ends the leases and back-offs that are due.
func (q *queue) advance(now time.Time) {
	to := tickOf(now)
	if to-q.now > int64(len(q.wheel)) {
		// After a long pause it is cheaper to look through the wheel than through the ticks.
		var due []int64
		for t := range q.wheel {
			if t <= to {
				due = append(due, t)
			}
		}
		slices.Sort(due)
		for _, t := range due {
			q.fire(now, t)
		}
	} else {
		for t := q.now + 1; t <= to; t++ {
			q.fire(now, t)
		}
	}
	q.now = max(q.now, to)
}

func (q *queue) fire(now time.Time, at int64) {
	slot := q.wheel[at]
	if slot == nil {
		return
	}
	delete(q.wheel, at)
	for _, r := range *slot {
		for seq := r.first; seq < r.end; seq++ {
			e := q.at(seq)
			switch {
			case e == nil || e.due != at:
			case e.phase == leased:
				q.giveBack(now, seq, e)
			case e.phase == waiting:
				q.move(e, ready)
				if q.policy.ordered && e.msg.key != "" {
					q.enqueue(q.lane(e.msg.key))
				} else {
					q.again.runs.push(seq)
				}
			}
		}
	}
}

// expireLeases ends all leases as if their deadlines had passed, and returns how many.
func (q *queue) expireLeases(now time.Time) int {
	n := q.counts[leased]
	q.each(func(seq uint64, e *entry) bool {
		if e.phase == leased {
			q.giveBack(now, seq, e)
		}
		return true
	})
	return n
}

// each calls f with each entry that is not gone, oldest first, until f returns false. f may forget that entry.
func (q *queue) each(f func(seq uint64, e *entry) bool) {
	pages, base := q.pages, q.base // forget may cut q.pages at the front
	for i, p := range pages {
		if p == nil {
			continue
		}
		for j := range p.entries {
			if e := &p.entries[j]; e.phase != gone && !f(base+uint64(i*entriesInPage+j), e) {
				return
			}
		}
	}
}

// expire drops messages that were published before t, acknowledged or not.
func (q *queue) expire(t time.Time) {
	cut := t.UnixNano()
	q.each(func(seq uint64, e *entry) bool {
		if e.msg.batch.published >= cut {
			return false
		}
		if e.phase == leaving {
			return true
		}
		if e.phase != held {
			q.expired++
		}
		was, key := e.phase, e.msg.key
		q.forget(seq, e)
		switch {
		case !q.policy.ordered || key == "":
		case was == leased:
			q.left(key)
		case was == waiting: // nothing else would call on its lane again
			q.enqueue(q.lane(key))
		}
		return true
	})
}

// seek acknowledges all messages published before t, and takes back the acknowledgement of the retained others.
func (q *queue) seek(t time.Time) {
	cut := t.UnixNano()
	q.each(func(seq uint64, e *entry) bool {
		switch {
		case e.phase == leaving:
		case e.msg.batch.published >= cut:
			if e.phase == held {
				q.move(e, ready)
				e.attempts = 0
			}
		case e.phase == held:
		case q.policy.retainAcked:
			q.move(e, held)
		default:
			q.forget(seq, e)
		}
		return true
	})
	q.relist()
}

// relist makes the lists of ready messages anew from the entries.
func (q *queue) relist() {
	q.fresh, q.again, q.lanes = fifo{}, fifo{}, nil
	clear(q.byKey)
	q.each(func(seq uint64, e *entry) bool {
		ordered := q.policy.ordered && e.msg.key != ""
		switch {
		case e.phase == ready:
			q.offer(seq, e, &q.fresh)
		case ordered && e.phase == waiting:
			q.offer(seq, e, &q.fresh)
		case ordered && e.phase == leased:
			l := q.lane(e.msg.key)
			l.out = append(l.out, seq)
			l.leased++
		}
		return true
	})
	// A lane may have been made available by its first message before a leased one was found.
	q.lanes = slices.DeleteFunc(q.lanes, func(l *lane) bool {
		if l.leased > 0 {
			l.queued = false
		}
		return l.leased > 0
	})
}

// live returns the sequence numbers of the messages that are not settled, and of those retained.
func (q *queue) live() (open, retained runs) {
	q.each(func(seq uint64, e *entry) bool {
		if e.phase == held {
			retained.push(seq)
		} else {
			open.push(seq)
		}
		return true
	})
	return open, retained
}

// clear forgets all messages.
func (q *queue) clear() {
	q.each(func(seq uint64, e *entry) bool {
		q.forget(seq, e)
		return true
	})
	q.pages, q.leaving = nil, nil
	q.relist()
}

// restore replaces all messages by those of another queue that are not settled there.
func (q *queue) restore(from *queue) {
	q.clear()
	from.each(func(seq uint64, e *entry) bool {
		if e.phase != held {
			q.add(seq, e.msg, ready)
		}
		return true
	})
}

// stay ends the leave of a message that found no dead-letter topic.
func (q *queue) stay(seq uint64, e *entry) {
	q.move(e, ready)
	q.offer(seq, e, &q.again)
}
