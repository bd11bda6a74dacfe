// Package exchange takes chunks through a shuffle.
//
// A runner copies what goes through a shuffle many times, so a packet is small: where writer and reader share a
// folder, the bytes of a chunk are spilled to a file there and the packet is a claim check, a reference to them. A chunk
// below a size, or without a folder, is in the packet itself, compressed. One type hides which.
//
// # Guarantees
//
// Open gives back what was put, or an error: every packet has a checksum. Spilled bytes stay until all packets of their
// file were released, which is done after their rows are committed. What a killed process left is removed by the
// next one that spills to the same folder.
package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"

	"backbone/transforms/run"
)

// A packet is: kind, uint32 checksum of the rest and the kind, and then the compressed chunk, or a claim: uint64 offset,
// uint32 size and uint32 checksum of the chunk, path of the file. Integers are little-endian.
const (
	inline  = 0
	claim   = 1
	sealed  = 1 + 4       // bytes before the compressed chunk or the claim
	claimed = sealed + 16 // bytes before the path of a claim
	rotate  = 64 << 20    // bytes of a spill file before the next is begun
	minimum = 256         // bytes: smaller chunks are cheaper inline
	roundUp = 64 << 10    // bytes: so that a buffer fits the next chunk, too
)

// ErrGone says that the bytes a packet refers to were removed: their rows were committed, or their messages were
// never acknowledged and come back. A run whose input does not come back has to fail.
var ErrGone = errors.New("the spilled bytes of a packet are gone")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Spill is the spilled bytes of one process.
type Spill struct {
	dir  string // "" : all packets are inline
	lock *os.File

	mu    sync.Mutex
	files map[string]*file
	next  int
}

type file struct {
	*os.File
	path    string
	size    int64
	pending map[int64]bool // offsets of the packets not yet released: a bundle that is tried again releases twice
	full    bool           // nothing more is appended
}

// Open returns the spill of a run in this process. It makes a folder of its own within dir; an empty dir means that
// nothing is spilled.
func Open(r *run.Run, dir string) (*Spill, error) {
	return run.Shared(r, "exchange/"+dir, func() (*Spill, error) { return newSpill(dir) })
}

func newSpill(dir string) (*Spill, error) {
	s := &Spill{files: map[string]*file{}}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spill folder: %w", err)
	}
	sweep(dir)
	own, err := os.MkdirTemp(dir, "spill-")
	if err != nil {
		return nil, fmt.Errorf("spill folder: %w", err)
	}
	// The lock gets its name when it is taken: another process that sweeps must not see it before.
	unnamed := filepath.Join(own, "lock.new")
	lock, err := os.OpenFile(unnamed, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		err = os.Rename(unnamed, filepath.Join(own, "lock"))
	}
	if err != nil {
		return nil, fmt.Errorf("lock of spill folder %q: %w", own, err)
	}
	s.dir, s.lock = own, lock
	return s, nil
}

// sweep removes what processes that are gone have left: their lock can be taken.
func sweep(dir string) {
	old, err := filepath.Glob(filepath.Join(dir, "spill-*"))
	if err != nil {
		return
	}
	for _, d := range old {
		lock, err := os.OpenFile(filepath.Join(d, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // being made or being removed
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(d) // what can't be removed now is swept later
		}
		_ = lock.Close()
	}
}

// Close removes the folder and all that is still in it.
func (s *Spill) Close() error {
	if s.dir == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		_ = f.Close() // only read from here on, and removed next
	}
	s.files = map[string]*file{}
	return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
}

// Bin is where one goroutine puts chunks.
type Bin struct {
	spill *Spill
	file  *file
	// Spilled counts the bytes that went to files.
	Spilled int64
}

// NewBin returns a place to put chunks. Close it to let its file go.
func (s *Spill) NewBin() *Bin { return &Bin{spill: s} }

// Put stores a chunk and returns the packet to send through the shuffle.
func (b *Bin) Put(chunk []byte) ([]byte, error) {
	if b.spill.dir == "" || len(chunk) < minimum {
		packet := make([]byte, sealed+s2.MaxEncodedLen(len(chunk)))
		n := len(s2.Encode(packet[sealed:], chunk))
		return seal(packet[:sealed+n], inline), nil
	}
	if b.file == nil {
		f, err := b.spill.create()
		if err != nil {
			return nil, err
		}
		b.file = f
	}
	f := b.file
	if _, err := f.WriteAt(chunk, f.size); err != nil {
		return nil, fmt.Errorf("spill %d bytes (set another --spill_dir if the disk is full): %w", len(chunk), err)
	}
	packet := make([]byte, sealed, claimed+len(f.path))
	packet = binary.LittleEndian.AppendUint64(packet, uint64(f.size))
	packet = binary.LittleEndian.AppendUint32(packet, uint32(len(chunk)))
	packet = binary.LittleEndian.AppendUint32(packet, crc32.Checksum(chunk, castagnoli))
	packet = seal(append(packet, f.path...), claim)
	b.spill.mu.Lock()
	f.pending[f.size] = true
	b.spill.mu.Unlock()
	f.size += int64(len(chunk))
	b.Spilled += int64(len(chunk))
	if f.size >= rotate {
		return packet, b.Close()
	}
	return packet, nil
}

// seal writes the kind and the checksum of a packet.
func seal(packet []byte, kind byte) []byte {
	packet[0] = kind
	binary.LittleEndian.PutUint32(packet[1:], checksum(packet))
	return packet
}

func checksum(packet []byte) uint32 {
	return crc32.Update(crc32.Checksum(packet[:1], castagnoli), castagnoli, packet[sealed:])
}

// Close says that nothing more is put into the bin's file. The bin can be used on.
func (b *Bin) Close() error {
	if b.file == nil {
		return nil
	}
	f := b.file
	b.file = nil
	b.spill.mu.Lock()
	defer b.spill.mu.Unlock()
	f.full = true
	return b.spill.drop(f)
}

func (s *Spill) create() (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	path := filepath.Join(s.dir, fmt.Sprintf("%06d", s.next))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spill file: %w", err)
	}
	s.files[path] = &file{File: f, path: path, pending: map[int64]bool{}}
	return s.files[path], nil
}

// drop removes a file that nobody needs any more.
func (s *Spill) drop(f *file) error {
	if !f.full || len(f.pending) > 0 {
		return nil
	}
	delete(s.files, f.path)
	return errors.Join(f.Close(), os.Remove(f.path))
}

// Get returns the chunk of a packet. It reads into buf where that is large enough.
func (s *Spill) Get(packet, buf []byte) ([]byte, error) {
	if len(packet) < sealed {
		return nil, fmt.Errorf("packet of %d bytes is cut short", len(packet))
	}
	if checksum(packet) != binary.LittleEndian.Uint32(packet[1:]) {
		return nil, fmt.Errorf("packet of %d bytes: the checksum is wrong", len(packet))
	}
	if packet[0] == inline {
		chunk, err := s2.Decode(buf[:cap(buf)], packet[sealed:])
		if err != nil {
			return nil, fmt.Errorf("inline packet of %d bytes: %w", len(packet), err)
		}
		return chunk, nil
	}
	if packet[0] != claim || len(packet) <= claimed {
		return nil, fmt.Errorf("packet of kind %d with %d bytes is not one of this version", packet[0], len(packet))
	}
	offset := offsetOf(packet)
	size := int(binary.LittleEndian.Uint32(packet[sealed+8:]))
	sum := binary.LittleEndian.Uint32(packet[sealed+12:])
	path := string(packet[claimed:])

	s.mu.Lock()
	f := s.files[path]
	s.mu.Unlock()
	var from *os.File
	if f != nil {
		from = f.File
	} else {
		other, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s", ErrGone, path)
		}
		if err != nil {
			return nil, fmt.Errorf("spilled chunk: %w", err)
		}
		defer func() { _ = other.Close() }() // only read
		from = other
	}
	if cap(buf) < size {
		buf = make([]byte, (size+roundUp-1)/roundUp*roundUp)
	}
	buf = buf[:size]
	if _, err := from.ReadAt(buf, offset); err != nil {
		return nil, fmt.Errorf("spilled chunk %s at byte %d: %w", path, offset, err)
	}
	if crc32.Checksum(buf, castagnoli) != sum {
		return nil, fmt.Errorf("spilled chunk %s at byte %d, %d bytes: the checksum is wrong", path, offset, size)
	}
	return buf, nil
}

func offsetOf(packet []byte) int64 { return int64(binary.LittleEndian.Uint64(packet[sealed:])) }

// Release says that the rows of a packet are committed. To release it again does nothing.
func (s *Spill) Release(packet []byte) error {
	if len(packet) <= claimed || packet[0] != claim {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[string(packet[claimed:])]
	if f == nil {
		return nil // spilled by another process, which removes it when it ends
	}
	delete(f.pending, offsetOf(packet))
	return s.drop(f)
}
