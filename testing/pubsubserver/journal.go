package pubsubserver

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The log is files of records. A record is its length, its checksum and its body, whose first byte is its kind:
//
//	4 bytes  length of the body, little endian
//	4 bytes  CRC-32C of the body
//	body
//
// Each file but the first begins with a checkpoint: all that is known at that point, except the messages themselves. So
// a file may go, wherever it lies, as soon as none of its messages is needed and a later file is there.
const (
	recordHeader = 8

	kindCheckpoint = 'C' // JSON of checkpoint
	kindChange     = 'A' // JSON of change
	kindPublish    = 'P' // uvarints topic, first, count; varint time; then the arena of the batch
	kindAck        = 'K' // uvarint subscription; for each run uvarints first, length

	segmentSuffix = ".log"
	ackDelay      = 50 * time.Millisecond // how long acknowledgements may wait for company
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is one file of the log.
type segment struct {
	path   string
	number uint64
	size   atomic.Int64
	live   atomic.Int64 // batches in it that a queue needs
}

// journal writes the log. One goroutine writes, syncs and then applies, in the order in which records were given
// to it; those who wait for the same sync share it.
type journal struct {
	dir          string
	segmentBytes int64
	checkpoint   func() ([]byte, error) // the body of a checkpoint record; called by the writer between batches
	lock         *os.File

	mu      sync.Mutex
	buffer  []byte    // records not written yet
	waiting []pending // who waits for them
	closed  bool
	failed  error // of a write; nothing is written after it
	rollNow bool

	wake     chan struct{} // capacity 1: somebody waits
	lazy     chan struct{} // capacity 1: there is something nobody waits for
	done     chan struct{} // closed when the writer has ended
	file     *os.File      // of the newest segment; the writer's
	segMu    sync.Mutex
	segments []*segment // oldest first, the newest is being written; guarded by segMu
}

// pending is a record that somebody waits for.
type pending struct {
	apply func(*segment)
	done  chan error // capacity 1
}

// begin starts a new segment after the given ones, and the writer.
func (j *journal) begin(old []*segment) error {
	j.segments = old
	j.wake, j.lazy, j.done = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
	if err := j.roll(); err != nil {
		return err
	}
	go j.write()
	return nil
}

// appendRecord frames a body that put appends.
func appendRecord(b []byte, put func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHeader)...)
	b = put(b)
	body := b[start+recordHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// publish adds a batch. Once it is durable apply is called, and then nil sent; or an error, without apply.
func (j *journal) publish(topic uint64, b *batch, apply func()) <-chan error {
	return j.append(func(out []byte) []byte {
		out = append(out, kindPublish)
		out = binary.AppendUvarint(out, topic)
		out = binary.AppendUvarint(out, b.first)
		out = binary.AppendUvarint(out, uint64(len(b.msgs)))
		out = binary.AppendVarint(out, b.published)
		return append(out, b.arena...)
	}, func(s *segment) {
		b.segment = s
		s.live.Add(1)
		apply()
	})
}

// change adds a change, and waits until it is durable and applied.
func (j *journal) change(c change, apply func()) error {
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("log %q: %w", j.dir, err)
	}
	return <-j.append(func(out []byte) []byte { return append(append(out, kindChange), body...) }, func(*segment) { apply() })
}

func (j *journal) append(put func([]byte) []byte, apply func(*segment)) <-chan error {
	p := pending{apply: apply, done: make(chan error, 1)}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		p.done <- err
		return p.done
	}
	j.buffer = appendRecord(j.buffer, put)
	j.waiting = append(j.waiting, p)
	signal(j.wake)
	return p.done
}

// ack adds acknowledgements. They are durable a little later.
func (j *journal) ack(subscription uint64, settled runs) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.usable() != nil {
		return // they come again
	}
	j.buffer = appendRecord(j.buffer, func(out []byte) []byte {
		out = append(out, kindAck)
		out = binary.AppendUvarint(out, subscription)
		for _, r := range settled {
			out = binary.AppendUvarint(out, r.first)
			out = binary.AppendUvarint(out, r.end-r.first)
		}
		return out
	})
	signal(j.lazy)
}

func (j *journal) usable() error {
	if j.failed != nil {
		return j.failed
	}
	if j.closed {
		return errors.New("the log is closed")
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the writer. It ends after close, when all is written.
func (j *journal) write() {
	defer close(j.done)
	var spare []byte
	for {
		select {
		case <-j.wake:
		case <-j.lazy:
			select {
			case <-j.wake:
			case <-time.After(ackDelay):
			}
		}
		j.mu.Lock()
		buffer, waiting, closed, roll := j.buffer, j.waiting, j.closed, j.rollNow
		j.buffer, j.waiting, j.rollNow = spare[:0], nil, false
		j.mu.Unlock()
		err := j.put(buffer, len(waiting) > 0 || closed)
		spare = buffer
		if cap(spare) > 64<<20 {
			spare = nil
		}
		active := j.active()
		for _, p := range waiting {
			if err == nil {
				p.apply(active)
			}
			p.done <- err
		}
		if err == nil && !closed && (roll || active.size.Load() >= j.segmentBytes) {
			err = j.roll()
		}
		if err != nil {
			j.fail(err)
		}
		if closed {
			return
		}
	}
}

// put writes records, and makes them durable where asked to.
func (j *journal) put(records []byte, sync bool) error {
	j.mu.Lock()
	failed := j.failed
	j.mu.Unlock()
	if failed != nil {
		return failed
	}
	n, err := j.file.Write(records)
	j.active().size.Add(int64(n))
	if err == nil && sync {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("log %q: %w", j.dir, err)
	}
	return nil
}

// fail refuses everything from now on: what a failed write or sync left on disk is not known.
func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = err
	}
	for _, p := range j.waiting {
		p.done <- j.failed
	}
	j.waiting, j.buffer = nil, nil
}

// roll begins a new segment with a checkpoint. All records before are applied, so the checkpoint has them.
func (j *journal) roll() error {
	body, err := j.checkpoint()
	if err != nil {
		return fmt.Errorf("log %q: checkpoint: %w", j.dir, err)
	}
	if j.file != nil { // only the newest segment may have a torn end
		if err := j.file.Sync(); err != nil {
			return fmt.Errorf("log %q: %w", j.dir, err)
		}
	}
	number := uint64(1)
	j.segMu.Lock()
	if n := len(j.segments); n > 0 {
		number = j.segments[n-1].number + 1
	}
	j.segMu.Unlock()
	next := &segment{number: number, path: filepath.Join(j.dir, fmt.Sprintf("%016d%s", number, segmentSuffix))}
	record := appendRecord(nil, func(out []byte) []byte { return append(append(out, kindCheckpoint), body...) })
	f, err := os.OpenFile(next.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("log %q: %w", j.dir, err)
	}
	_, err = f.Write(record)
	if err = errors.Join(err, f.Sync(), syncDir(j.dir)); err != nil {
		return errors.Join(fmt.Errorf("log %q: %w", j.dir, err), f.Close())
	}
	if j.file != nil {
		if err := j.file.Close(); err != nil {
			return errors.Join(fmt.Errorf("log %q: %w", j.dir, err), f.Close())
		}
	}
	next.size.Store(int64(len(record)))
	j.file = f
	j.segMu.Lock()
	j.segments = append(j.segments, next)
	j.segMu.Unlock()
	return j.sweep()
}

// sweep removes the segments whose messages nobody needs. The newest stays.
func (j *journal) sweep() error {
	j.segMu.Lock()
	defer j.segMu.Unlock()
	var errs []error
	newest := j.segments[len(j.segments)-1]
	j.segments = slices.DeleteFunc(j.segments, func(s *segment) bool {
		if s == newest || s.live.Load() > 0 {
			return false
		}
		err := os.Remove(s.path)
		errs = append(errs, err)
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
	return errors.Join(errs...)
}

// tidy lets go of what is not needed any more, also when nothing is published.
func (j *journal) tidy() {
	if err := j.sweep(); err != nil {
		j.fail(fmt.Errorf("log %q: %w", j.dir, err))
	}
	// Where all is acknowledged, a new segment makes the newest one superfluous; not for a few bytes, though.
	if s := j.active(); s.live.Load() == 0 && s.size.Load() > min(j.segmentBytes/4, 1<<20) {
		j.mu.Lock()
		j.rollNow = true
		j.mu.Unlock()
		signal(j.wake)
	}
}

func (j *journal) active() *segment {
	j.segMu.Lock()
	defer j.segMu.Unlock()
	return j.segments[len(j.segments)-1]
}

func (j *journal) bytes() int64 {
	j.segMu.Lock()
	defer j.segMu.Unlock()
	var n int64
	for _, s := range j.segments {
		n += s.size.Load()
	}
	return n
}

// close writes what is left.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	signal(j.wake)
	<-j.done
	j.mu.Lock()
	failed := j.failed
	j.mu.Unlock()
	return errors.Join(failed, j.file.Close(), j.lock.Close())
}

// segmentsIn lists the files of a log, oldest first.
func segmentsIn(dir string) ([]*segment, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []*segment
	for _, f := range files {
		base, ok := strings.CutSuffix(f.Name(), segmentSuffix)
		if !ok {
			continue
		}
		s := &segment{path: filepath.Join(dir, f.Name())}
		if _, err := fmt.Sscanf(base, "%d", &s.number); err != nil {
			return nil, fmt.Errorf("log %q: file %q is not one of a log", dir, f.Name())
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *segment) int { return int(a.number) - int(b.number) })
	return out, nil
}

// nextRecord returns the body of the first record of b and what follows it; ok is false where no whole record is.
func nextRecord(b []byte) (body, rest []byte, ok bool) {
	if len(b) < recordHeader {
		return nil, b, false
	}
	n, sum := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if n == 0 || uint64(n) > uint64(len(b)-recordHeader) {
		return nil, b, false
	}
	body = b[recordHeader : recordHeader+int(n)]
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, b, false
	}
	return body, b[recordHeader+int(n):], true
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
