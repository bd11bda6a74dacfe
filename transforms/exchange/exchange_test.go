package exchange

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"backbone/transforms/run"
)

// childEnv makes the test binary a process that spills a chunk to the folder it names, and waits to be killed.
const childEnv = "EXCHANGE_TEST_SPILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

func child(dir string) {
	s, err := newSpill(dir)
	if err == nil {
		_, err = s.NewBin().Put(chunkOf(1000))
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(s.dir + "\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// chunkOf returns n bytes that don't compress.
func chunkOf(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// open returns a spill within dir that is closed after the test. An empty dir spills nothing.
func open(t *testing.T, dir string) *Spill {
	t.Helper()
	s, err := newSpill(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// spilled returns the names of the spill files of s.
func spilled(t *testing.T, s *Spill) []string {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func put(t *testing.T, b *Bin, chunk []byte) []byte {
	t.Helper()
	packet, err := b.Put(chunk)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		name string
		dir  string
		size int
		kind byte
	}{
		{"nothing, inline", "", 0, inline},
		{"small, inline", "", 100, inline},
		{"large without a folder", "", 1 << 20, inline},
		{"small with a folder", t.TempDir(), minimum - 1, inline},
		{"at the bound", t.TempDir(), minimum, claim},
		{"large", t.TempDir(), 1 << 20, claim},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t, tc.dir)
			bin := s.NewBin()
			chunk := chunkOf(tc.size)
			packet := put(t, bin, chunk)
			if packet[0] != tc.kind {
				t.Errorf("kind %d, want %d", packet[0], tc.kind)
			}
			if tc.kind == claim && len(packet) > 4096 {
				t.Errorf("a claim of %d bytes", len(packet))
			}
			if want := int64(tc.kind) * int64(tc.size); bin.Spilled != want {
				t.Errorf("%d bytes spilled, want %d", bin.Spilled, want)
			}
			for _, buf := range [][]byte{nil, make([]byte, 10), make([]byte, 0, 2<<20)} {
				got, err := s.Get(packet, buf)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, chunk) {
					t.Error("another chunk came back")
				}
			}
			if err := errors.Join(s.Release(packet), bin.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Another process that shares the folder can read what was spilled, until it was released.
func TestOtherProcessReads(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := open(t, dir), open(t, dir)
	bin := ours.NewBin()
	chunk := chunkOf(5000)
	packet := put(t, bin, chunk)
	if err := bin.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := theirs.Get(packet, nil)
	if err != nil || !bytes.Equal(got, chunk) {
		t.Errorf("Get: error %v and %d bytes, want %d", err, len(got), len(chunk))
	}
	if err := theirs.Release(packet); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Get(packet, nil); err != nil {
		t.Errorf("what another process released is gone: %v", err)
	}
	if err := ours.Release(packet); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Spill{ours, theirs} {
		if _, err := s.Get(packet, nil); !errors.Is(err, ErrGone) {
			t.Errorf("Get of a released packet: %v, want %v", err, ErrGone)
		}
	}
}

// A packet whose bytes changed on the way, or whose spilled bytes did, is an error and never another chunk.
func TestDamage(t *testing.T) {
	text := bytes.Repeat([]byte("a row that compresses well, "), 20)
	for name, dir := range map[string]string{"inline": "", "claim": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			s := open(t, dir)
			packet := put(t, s.NewBin(), text)
			for i := range packet {
				for bit := range 8 {
					damaged := slices.Clone(packet)
					damaged[i] ^= 1 << bit
					if _, err := s.Get(damaged, nil); err == nil {
						t.Errorf("bit %d of byte %d of %d changed: no error", bit, i, len(packet))
					}
				}
			}
			for n := range packet {
				if _, err := s.Get(packet[:n], nil); err == nil {
					t.Errorf("the first %d bytes of %d: no error", n, len(packet))
				}
			}
		})
	}
	t.Run("spilled bytes", func(t *testing.T) {
		s := open(t, t.TempDir())
		bin := s.NewBin()
		first, second := put(t, bin, text), put(t, bin, chunkOf(1000))
		path := filepath.Join(s.dir, spilled(t, s)[0])
		bytesOnDisk, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bytesOnDisk[len(text)/2] ^= 1
		if err := os.WriteFile(path, bytesOnDisk, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(first, nil); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("Get of damaged bytes: %v, want an error about the checksum", err)
		}
		if _, err := s.Get(second, nil); err != nil {
			t.Errorf("Get of the bytes beside: %v", err)
		}
		if err := os.Truncate(path, int64(len(text))+999); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(second, nil); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("Get of bytes that are cut: %v, want an error", err)
		}
	})
}

// A file is there as long as one of its packets is not released or its bin is open, and no longer.
func TestReleaseRemovesFiles(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		s, err := newSpill(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				rt.Error(err)
			}
		}()
		type sent struct {
			packet []byte
			chunk  []byte
			file   string
		}
		var waiting, released []sent
		bins := []*Bin{s.NewBin(), s.NewBin()}
		pathOf := func(packet []byte) string { return string(packet[claimed:]) }
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				b := rapid.SampledFrom(bins).Draw(rt, "bin")
				chunk := chunkOf(rapid.IntRange(minimum, 2*minimum).Draw(rt, "size"))
				packet, err := b.Put(chunk)
				if err != nil {
					rt.Fatal(err)
				}
				waiting = append(waiting, sent{packet, chunk, pathOf(packet)})
			},
			"close": func(rt *rapid.T) {
				if err := rapid.SampledFrom(bins).Draw(rt, "bin").Close(); err != nil {
					rt.Fatal(err)
				}
			},
			"release": func(rt *rapid.T) {
				if len(waiting) == 0 {
					rt.Skip("nothing waits")
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(rt, "which")
				if err := s.Release(waiting[i].packet); err != nil {
					rt.Fatal(err)
				}
				released = append(released, waiting[i])
				waiting = slices.Delete(waiting, i, i+1)
			},
			"release again": func(rt *rapid.T) { // as a runner does that tries a bundle again
				if len(released) == 0 {
					rt.Skip("nothing was released")
				}
				if err := s.Release(rapid.SampledFrom(released).Draw(rt, "which").packet); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				want := map[string]bool{}
				for _, w := range waiting {
					want[w.file] = true
					got, err := s.Get(w.packet, nil)
					if err != nil || !bytes.Equal(got, w.chunk) {
						rt.Fatalf("Get: %v and %d bytes, want %d", err, len(got), len(w.chunk))
					}
				}
				for _, b := range bins {
					if b.file != nil {
						want[b.file.path] = true
					}
				}
				if got := spilled(t, s); len(got) != len(want) {
					rt.Fatalf("files %q, want %d", got, len(want))
				}
			},
		})
	})
}

// A bin begins another file when its own is large.
func TestRotate(t *testing.T) {
	s := open(t, t.TempDir())
	bin := s.NewBin()
	chunk := chunkOf(rotate/2 + 1)
	var packets [][]byte
	for range 3 {
		packets = append(packets, put(t, bin, chunk))
	}
	if got := spilled(t, s); len(got) != 2 {
		t.Fatalf("files %q, want 2", got)
	}
	for _, packet := range packets[:2] {
		if err := s.Release(packet); err != nil {
			t.Fatal(err)
		}
	}
	if got := spilled(t, s); len(got) != 1 {
		t.Fatalf("files %q once the first was released, want 1", got)
	}
	if got, err := s.Get(packets[2], nil); err != nil || !bytes.Equal(got, chunk) {
		t.Errorf("Get: error %v and %d bytes, want %d", err, len(got), len(chunk))
	}
}

// What a killed process left is removed by the next that begins; what a living one has is not.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*exec.Cmd, string) {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		if _, err := cmd.StdinPipe(); err != nil { // held open: the child waits
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return cmd, line[:len(line)-1]
	}
	killed, killedDir := start()
	living, livingDir := start()
	if err := killed.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // killed
	own := open(t, dir)
	keep := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	for path, want := range map[string]bool{killedDir: false, livingDir: true, own.dir: true, keep: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
	if err := living.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = living.Wait() // killed
	open(t, dir)
	if _, err := os.Stat(livingDir); err == nil {
		t.Errorf("%s is still there", livingDir)
	}
}

// Processes that begin at the same moment do not take each other's new folders for old ones.
func TestBeginTogether(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				s, err := newSpill(dir)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.NewBin().Put(chunkOf(minimum)); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %q, error %v", left, err)
	}
}

// Writers with a bin each, and readers that release, at the same time.
func TestConcurrently(t *testing.T) {
	s := open(t, t.TempDir())
	packets := make(chan []byte, 16)
	var writers, readers sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			bin := s.NewBin()
			for i := range 50 {
				packet, err := bin.Put(bytes.Repeat([]byte{byte(g), byte(i)}, minimum))
				if err != nil {
					t.Error(err)
				}
				packets <- packet
				if i%10 == 9 {
					if err := bin.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	var mu sync.Mutex
	seen := map[[2]byte]int{}
	for range 3 {
		readers.Go(func() {
			var buf []byte
			for packet := range packets {
				var err error
				if buf, err = s.Get(packet, buf); err != nil {
					t.Error(err)
					continue
				}
				mu.Lock()
				seen[[2]byte(buf)]++
				mu.Unlock()
				if err := s.Release(packet); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(packets)
	readers.Wait()
	if len(seen) != 200 {
		t.Errorf("%d chunks came, want 200", len(seen))
	}
	if got := spilled(t, s); len(got) > 0 {
		t.Errorf("files are left: %q", got)
	}
}

// A full disk is an error that says what to do. What was put before stays, and what fits later can be put.
func TestDiskIsFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no device that is always full: %v", err)
	}
	defer func() { _ = full.Close() }() // nothing was written to it
	s := open(t, t.TempDir())
	bin := s.NewBin()
	before := put(t, bin, chunkOf(1000))
	whole := bin.file.File
	bin.file.File = full
	if _, err := bin.Put(chunkOf(2000)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Put: %v, want %v", err, unix.ENOSPC)
	}
	bin.file.File = whole
	after := put(t, bin, chunkOf(3000))
	for packet, want := range map[string][]byte{string(before): chunkOf(1000), string(after): chunkOf(3000)} {
		if got, err := s.Get([]byte(packet), nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Get: error %v and %d bytes, want %d", err, len(got), len(want))
		}
	}
	if bin.Spilled != 4000 {
		t.Errorf("%d bytes spilled, want 4000", bin.Spilled)
	}
}

func TestOpen(t *testing.T) {
	r := run.Of(t.Name())
	dir := filepath.Join(t.TempDir(), "made", "where", "needed")
	s, err := Open(r, dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Open(r, dir); again != s || err != nil {
		t.Errorf("opened again: error %v, another is %v", err, again != s)
	}
	put(t, s.NewBin(), chunkOf(1000))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, error %v", left, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newSpill(file); err == nil {
		t.Error("a file is taken for a folder")
	}
}

// A packet that nobody made is an error, and so is one that was made and says what is not so: no panic, and no other
// chunk than the one that was put.
func FuzzGet(f *testing.F) {
	s, err := newSpill(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() }) // its folder is a temporary one
	chunk := chunkOf(1000)
	packet, err := s.NewBin().Put(chunk)
	if err != nil {
		f.Fatal(err)
	}
	path := packet[claimed:]
	f.Add(packet[0], packet[sealed:claimed])
	f.Add(byte(inline), []byte("\x05\x10hello"))
	f.Add(byte(7), []byte{})
	f.Fuzz(func(t *testing.T, kind byte, claim []byte) {
		if len(claim) > 12 && kind == packet[0] {
			claim[11], claim[10] = 0, 0 // sizes below 64 KiB: memory is taken for what a sealed claim says
		}
		made := append(make([]byte, sealed), claim...)
		if kind == packet[0] {
			made = append(made, path...)
		}
		got, err := s.Get(seal(made, kind), nil)
		if kind == packet[0] && err == nil && !bytes.Contains(chunk, got) {
			t.Errorf("%d bytes that nobody put", len(got))
		}
		if _, err := s.Get(claim, nil); err == nil && len(claim) < sealed {
			t.Error("a packet that is cut short is not noticed")
		}
	})
}
