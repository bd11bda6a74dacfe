package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/transforms/lake/store"
	"backbone/transforms/lake/store/driver"
)

func testCreateThenRead(t *testing.T, h Harness) {
	s := h.store(t)
	for _, size := range []int{0, 1, 63, 64, 65, 1 << 20} {
		key := fmt.Sprintf("interactions/dt=2026-11-22/hour=14/part-%d.parquet", size)
		want := body("writer", size)
		commit(t, s, key, want, store.Created)

		got, err := s.ReadAll(t.Context(), key, int64(size))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: read %d bytes, %v; want those that were written", key, len(got), err)
		}
		if size > 0 {
			if _, err := s.ReadAll(t.Context(), key, int64(size)-1); !errors.Is(err, store.ErrPermanent) {
				t.Errorf("%s: a limit below the size: got %v, want ErrPermanent", key, err)
			}
		}
		o, err := s.Open(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, read := range []struct {
			name           string
			offset, length int
		}{
			{"first bytes", 0, size / 2},
			{"last bytes", size / 2, size - size/2},
			{"past the end", size / 2, size},
			{"at the end", size, 1},
			{"after the end", size + 1, 1},
		} {
			p := make([]byte, read.length)
			n, err := o.ReadAt(p, int64(read.offset))
			tail := want[min(read.offset, size):min(read.offset+read.length, size)]
			if !bytes.Equal(p[:n], tail) {
				t.Errorf("%s: %s: got %d bytes, want %d, the same", key, read.name, n, len(tail))
			}
			// The contract of io.ReaderAt: io.EOF where fewer bytes came, and it may come with the last ones.
			ended := errors.Is(err, io.EOF)
			if short := n < read.length; short != ended && (!ended || read.offset+n != size) || err != nil && !ended {
				t.Errorf("%s: %s: %d of %d bytes with error %v", key, read.name, n, read.length, err)
			}
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := s.Metrics().Bytes.Load(); got != 0+1+63+64+65+1<<20 {
		t.Errorf("metric Bytes is %d", got)
	}
}

func testMissingIsNotFound(t *testing.T, h Harness) {
	s := h.store(t)
	commit(t, s, "a/b", body("writer", 10), store.Created)
	for _, key := range []string{"a", "a/b/c", "a/c", "c/d"} {
		if _, err := s.Open(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("open %q: got %v, want ErrNotFound", key, err)
		}
		if there, err := s.Exists(t.Context(), key); there || err != nil {
			t.Errorf("exists %q: got %v, %v", key, there, err)
		}
		if err := s.Remove(t.Context(), key); err != nil {
			t.Errorf("remove %q: %v, but a missing object is no error", key, err)
		}
	}
	if err := s.Sync(t.Context(), "no/such/folder"); err != nil {
		t.Errorf("sync of a missing folder: %v", err)
	}
	for _, prefix := range []string{"no", "no/such", "a/b/"} {
		if got := keys(t, s.List(t.Context(), prefix)); len(got) > 0 {
			t.Errorf("list %q: got %q, want nothing", prefix, got)
		}
	}
	if there, err := s.Exists(t.Context(), "a/b"); !there || err != nil {
		t.Errorf(`exists "a/b": got %v, %v`, there, err)
	}
}

func testSecondCreateIsRefused(t *testing.T, h Harness) {
	first, second := h.driver(t), h.driver(t)
	want := body("first", 1000)
	if err := first.Create(t.Context(), "a/b", want); err != nil {
		t.Fatal(err)
	}
	for _, d := range []driver.Driver{first, second} {
		for _, other := range [][]byte{want, body("second", 1000), nil} {
			if err := d.Create(t.Context(), "a/b", other); !errors.Is(err, driver.ErrExists) {
				t.Errorf("create again: got %v, want ErrExists", err)
			}
		}
	}
	s := h.store(t)
	commit(t, s, "a/b", body("second", 1000), store.Taken)
	commit(t, s, "a/b", body("second", 999), store.Taken)
	commit(t, s, "a/b", want, store.Created)
	if got := read(t, s, "a/b"); !bytes.Equal(got, want) {
		t.Error("the object has changed")
	}
	if m := s.Metrics(); m.Refused.Load() != 2 || m.Creates.Load() != 1 || m.SettledAsOwn.Load() != 1 {
		t.Errorf("metrics: %d refused, %d creates, %d settled as own; want 2, 1, 1", m.Refused.Load(), m.Creates.Load(), m.SettledAsOwn.Load())
	}
}

func testTwoWritersOneWins(t *testing.T, h Harness) {
	race(t, h, 8, 50, 2000)
}

func testTwoWritersOneWinsAbove16MiB(t *testing.T, h Harness) {
	race(t, h, 2, 3, 17<<20) // Clients send what is larger than 16 MiB in another way, if they are let.
}

// race lets each of writers, which have a driver of their own, create each of n keys at the same moment.
func race(t *testing.T, h Harness, writers, n, size int) {
	t.Helper()
	drivers := make([]driver.Driver, writers)
	for w := range drivers {
		drivers[w] = h.driver(t)
	}
	s := h.store(t)
	for k := range n {
		key := fmt.Sprintf("dt=%d/part", k)
		errs := make([]error, writers)
		bodies := make([][]byte, writers)
		for w := range bodies {
			bodies[w] = body(fmt.Sprintf("writer %d of key %d", w, k), size)
		}
		start := make(chan struct{})
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				<-start
				errs[w] = drivers[w].Create(t.Context(), key, bodies[w])
			})
		}
		close(start)
		group.Wait()
		var winners []int
		for w, err := range errs {
			switch {
			case err == nil:
				winners = append(winners, w)
			case !errors.Is(err, driver.ErrExists):
				t.Errorf("%s: a loser got %v, want ErrExists", key, err)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("%s: %d writers have won (%v), want 1", key, len(winners), winners)
		}
		if got := read(t, s, key); !bytes.Equal(got, bodies[winners[0]]) {
			t.Fatalf("%s: the bytes are not those of writer %d, who has won", key, winners[0])
		}
	}
	if got := keys(t, s.List(t.Context(), "")); len(got) != n {
		t.Errorf("%d objects, want %d", len(got), n)
	}
}

func testReplyLostAfterCommit(t *testing.T, h Harness) {
	loseReplies(t, h, 1)
}

func testAlwaysLostReplies(t *testing.T, h Harness) {
	loseReplies(t, h, -1)
}

// loseReplies commits while the first n replies (all if negative) are lost: our own object is ours, somebody else's is not.
func loseReplies(t *testing.T, h Harness, n int) {
	t.Helper()
	theirs := body("theirs", 5000)
	commit(t, h.store(t), "a/theirs", theirs, store.Created)

	for _, size := range []int{0, 5000, 17 << 20} {
		key, ours := fmt.Sprintf("a/ours-%d", size), body("ours", size)
		s := h.lossy(t, n)
		commit(t, s, key, ours, store.Created)
		if got := s.Metrics().SettledAsOwn.Load(); got != 1 {
			t.Errorf("metric SettledAsOwn is %d, want 1", got)
		}
		if got := read(t, s, key); !bytes.Equal(got, ours) {
			t.Errorf("%s: the bytes are not ours", key)
		}
	}
	s := h.lossy(t, n)
	commit(t, s, "a/theirs", body("ours", 5000), store.Taken)
	if got := read(t, s, "a/theirs"); !bytes.Equal(got, theirs) {
		t.Error("their object has changed")
	}
}

// lossy returns a store whose next n replies to a create (all if negative) are lost, as close to the wire as the backend has one.
func (h Harness) lossy(t *testing.T, n int) *store.Store {
	t.Helper()
	if h.Network != nil {
		h.Network.Heal()
		h.Network.DropReplies(n)
		return h.store(t)
	}
	return h.storeOf(t, &lossy{Driver: h.driver(t), left: n})
}

// lossy performs creates and then says that it does not know.
type lossy struct {
	driver.Driver
	left int
}

func (l *lossy) Create(ctx context.Context, key string, body []byte) error {
	err := l.Driver.Create(ctx, key, body)
	if l.left == 0 {
		return err
	}
	l.left--
	return errors.New("reply lost")
}

func testAnswer(status int) func(*testing.T, Harness) {
	return func(t *testing.T, h Harness) {
		if h.Network == nil {
			t.Skip("this backend has no network")
		}
		s := h.store(t)
		theirs := body("theirs", 3000)
		commit(t, s, "a/theirs", theirs, store.Created)

		h.Network.Answer(2, status)
		commit(t, s, "a/ours", body("ours", 3000), store.Created)
		if got := s.Metrics().Retries.Load(); got != 2 {
			t.Errorf("metric Retries is %d, want 2: one for each answer %d", got, status)
		}
		h.Network.Answer(2, status)
		commit(t, s, "a/theirs", body("ours", 3000), store.Taken)

		h.Network.Heal()
		h.Network.Answer(-1, status)
		if outcome, err := s.Commit(t.Context(), "a/never", body("ours", 3000)); outcome != store.Unknown || !errors.Is(err, store.ErrTransient) {
			t.Errorf("always %d: got %v, %v; want ErrTransient", status, outcome, err)
		}
		h.Network.Heal()
		if got, want := keys(t, s.List(t.Context(), "")), []string{"a/ours", "a/theirs"}; !cmp.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
}

func testForbidden(t *testing.T, h Harness) {
	if h.Network == nil {
		t.Skip("this backend has no network")
	}
	s := h.store(t)
	h.Network.Answer(-1, 403)
	before := h.Network.Writes()
	if outcome, err := s.Commit(t.Context(), "a", body("ours", 10)); outcome != store.Unknown || !errors.Is(err, store.ErrPermanent) {
		t.Errorf("got %v, %v; want ErrPermanent", outcome, err)
	}
	if got := h.Network.Writes() - before; got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

func testBrokenUpload(t *testing.T, h Harness) {
	if h.Network == nil {
		t.Skip("this backend has no network")
	}
	d, s := h.driver(t), h.store(t)
	for _, size := range []int{5000, 17 << 20} {
		key := fmt.Sprintf("a/%d", size)
		h.Network.CutBodies(1)
		if err := d.Create(t.Context(), key, body("ours", size)); err == nil || errors.Is(err, driver.ErrExists) || errors.Is(err, driver.ErrPermanent) {
			t.Errorf("%s: create with half a body: got %v, want an error that trying again may help", key, err)
		}
		if there, err := s.Exists(t.Context(), key); there || err != nil {
			t.Errorf("%s: half an object is there (%v, %v)", key, there, err)
		}
		h.Network.CutBodies(1)
		commit(t, s, key, body("ours", size), store.Created)
		if got := read(t, s, key); !bytes.Equal(got, body("ours", size)) {
			t.Errorf("%s: the bytes are not ours", key)
		}
	}
}

func testServerThatNeverAnswers(t *testing.T, h Harness) {
	if h.Network == nil {
		t.Skip("this backend has no network")
	}
	o := patient()
	o.AttemptTimeout = time.Second // Waited once; the next attempt has as long, on whatever machine this is.
	s, err := store.New(h.driver(t), o)
	if err != nil {
		t.Fatal(err)
	}
	h.Network.Hold()
	commit(t, s, "a/b", body("ours", 1000), store.Created)
	if got := s.Metrics().Retries.Load(); got == 0 {
		t.Error("nothing was tried again, but the first request was never answered")
	}
}

func testCancelledCreateLeavesNothing(t *testing.T, h Harness) {
	d, s := h.driver(t), h.store(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Create(cancelled, "a/before", body("ours", 100)); !errors.Is(err, context.Canceled) {
		t.Errorf("create with a cancelled ctx: got %v, want context.Canceled", err)
	}
	if outcome, err := s.Commit(cancelled, "a/before", body("ours", 100)); outcome != store.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("commit with a cancelled ctx: got %v, %v; want context.Canceled", outcome, err)
	}
	if h.Network != nil {
		for _, size := range []int{100, 17 << 20} {
			ctx, cancel := context.WithCancel(t.Context())
			arrived := h.Network.Hold()
			var group sync.WaitGroup
			group.Go(func() {
				<-arrived
				cancel()
			})
			if outcome, err := s.Commit(ctx, "a/during", body("ours", size)); outcome != store.Unknown || !errors.Is(err, context.Canceled) {
				t.Errorf("commit that was cancelled: got %v, %v; want context.Canceled", outcome, err)
			}
			cancel()
			group.Wait()
		}
	}
	if got := keys(t, s.List(t.Context(), "")); len(got) > 0 {
		t.Errorf("%q are there", got)
	}
	commit(t, s, "a/before", body("ours", 100), store.Created)
}

func testFailingClose(t *testing.T, h Harness) {
	s := h.storeOf(t, &failingClose{Driver: h.driver(t), left: 2})
	ours := body("ours", 1000)
	commit(t, s, "a/b", ours, store.Created)
	if got := read(t, s, "a/b"); !bytes.Equal(got, ours) {
		t.Error("the bytes are not ours")
	}
	s = h.storeOf(t, &failingClose{Driver: h.driver(t), left: 2})
	commit(t, s, "a/b", body("others", 1000), store.Taken)
	s = h.storeOf(t, &failingClose{Driver: h.driver(t), left: -1})
	if outcome, err := s.Commit(t.Context(), "a/c", ours); outcome != store.Unknown || err == nil {
		t.Errorf("a close that always fails: got %v, %v; want an error: what was read back cannot be relied on", outcome, err)
	}
}

// failingClose is a driver whose objects cannot be closed left times.
type failingClose struct {
	driver.Driver
	left int
}

func (f *failingClose) Open(ctx context.Context, key string) (driver.Object, error) {
	o, err := f.Driver.Open(ctx, key)
	if err != nil || f.left == 0 {
		return o, err
	}
	f.left--
	return unclosable{o}, nil
}

type unclosable struct{ driver.Object }

func (u unclosable) Close() error { return errors.Join(errors.New("close failed"), u.Object.Close()) }

func testListIsSortedByKey(t *testing.T, h Harness) {
	s := h.store(t)
	// "-" < "." < "/" < "0": a folder sorts by its name with the "/" behind it.
	want := []string{"a-b/x", "a.b", "a/b-c/x", "a/b/c", "a/b0", "a0", "ab/c", "b"}
	for _, key := range []string{"b", "a/b/c", "a0", "a-b/x", "a.b", "a/b0", "ab/c", "a/b-c/x"} {
		commit(t, s, key, body(key, 100), store.Created)
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "a-", "ab", "b", "c", "a/c", "a-b/x/"} {
		var wanted []string
		for _, key := range want {
			if strings.HasPrefix(key, prefix) {
				wanted = append(wanted, key)
			}
		}
		if diff := cmp.Diff(wanted, keys(t, s.List(t.Context(), prefix))); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", prefix, diff)
		}
	}
	for e, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if e.Size != 100 || time.Since(e.Modified).Abs() > time.Hour {
			t.Errorf("%q has size %d, want 100; modified %v, want now", e.Key, e.Size, e.Modified)
		}
		if e.Key == "a/b/c" {
			break // A reader may stop.
		}
	}
}

func testListDirShowsOneFolder(t *testing.T, h Harness) {
	s := h.store(t)
	for _, key := range []string{"a/b/c", "a/b-c/x", "a/b0", "a/c", "a-b/x", "b"} {
		commit(t, s, key, body(key, 100), store.Created)
	}
	for dir, want := range map[string][]string{
		"":     {"a-b/", "a/", "b"},
		"a":    {"a/b-c/", "a/b/", "a/b0", "a/c"},
		"a/":   {"a/b-c/", "a/b/", "a/b0", "a/c"},
		"a/b":  {"a/b/c"},
		"a/b0": nil,
		"no":   nil,
	} {
		if diff := cmp.Diff(want, keys(t, s.ListDir(t.Context(), dir))); diff != "" {
			t.Errorf("list folder %q (-want +got):\n%s", dir, diff)
		}
	}
}

func testListShowsOnlyWholeObjects(t *testing.T, h Harness) {
	const size, n = 300_000, 40
	d, s := h.driver(t), h.store(t)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range n {
			if err := d.Create(t.Context(), fmt.Sprintf("dt=%d/part", i%4+4*(i/4)), body("writer", size)); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { <-written })
	want := body("writer", size)
	for last := false; !last; {
		select {
		case <-written:
			last = true
		default:
		}
		listed := 0
		for e, err := range s.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			listed++
			if e.Size != size {
				t.Errorf("%q is listed with %d of %d bytes", e.Key, e.Size, size)
			}
			if rand.IntN(10) == 0 && !bytes.Equal(read(t, s, e.Key), want) {
				t.Errorf("%q is not whole", e.Key)
			}
		}
		if last && listed != n {
			t.Errorf("%d objects are listed, want %d", listed, n)
		}
	}
}

func testRemoveThenCreate(t *testing.T, h Harness) {
	s := h.store(t)
	commit(t, s, "a/b", body("first", 100), store.Created)
	o, err := s.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, s.List(t.Context(), "")); len(got) > 0 {
		t.Errorf("%q are there", got)
	}
	commit(t, s, "a/b", body("second", 100), store.Created)
	// The old reader reads the old bytes, or nothing: never a mixture.
	p := make([]byte, 100)
	if _, err := o.ReadAt(p, 0); err == nil || errors.Is(err, io.EOF) {
		if !bytes.Equal(p, body("first", 100)) {
			t.Error("a reader of the first object has read other bytes")
		}
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func testKeysFromDataAreRefused(t *testing.T, h Harness) {
	s := h.store(t)
	for _, key := range []string{
		"", "/", "/etc/passwd", "..", "../a", "a/../../b", "a/..", ".", "./a", "a/.", "a//b", "a/", "//", "a\x00b", "a\nb", "a\x7fb", "a\u0085b",
		`a\b`, `..\a`, "a\xffb", ".tmp-1", "a/.tmp-1", "a/.tmp-1/b", strings.Repeat("x", 256), strings.Repeat("x/", 512) + "x",
	} {
		if outcome, err := s.Commit(t.Context(), key, []byte("x")); outcome != store.Unknown || !errors.Is(err, store.ErrPermanent) {
			t.Errorf("commit %q: got %v, %v; want ErrPermanent", key, outcome, err)
		}
		if _, err := s.Open(t.Context(), key); !errors.Is(err, store.ErrPermanent) {
			t.Errorf("open %q: got %v, want ErrPermanent", key, err)
		}
		if err := s.Remove(t.Context(), key); !errors.Is(err, store.ErrPermanent) {
			t.Errorf("remove %q: got %v, want ErrPermanent", key, err)
		}
	}
	for _, prefix := range []string{"/", "..", "../", "a//", "a/../", `a\`} {
		for e, err := range s.List(t.Context(), prefix) {
			if !errors.Is(err, store.ErrPermanent) {
				t.Errorf("list %q: got %q, %v; want ErrPermanent", prefix, e.Key, err)
			}
		}
	}
	if got := keys(t, s.List(t.Context(), "")); len(got) > 0 {
		t.Errorf("%q are there", got)
	}
}

func testOddKeysAreKept(t *testing.T, h Harness) {
	s := h.store(t)
	want := []string{
		" a b ", "%2F", "%2e%2e", "+", "..a", "a=1&b=2?c#d", "a..b/c", "é/日本", "~*'\"<>|:;,!@$^()[]{}`",
		strings.Repeat("x", 255), strings.Repeat("y", 200) + "/" + strings.Repeat("z", 200) + "/w",
	}
	for _, key := range want {
		commit(t, s, key, []byte(key), store.Created)
		if got := read(t, s, key); string(got) != key {
			t.Errorf("%q: read %q", key, got)
		}
		if got := keys(t, s.List(t.Context(), key)); !cmp.Equal(got, []string{key}) {
			t.Errorf("list %q: got %q", key, got)
		}
	}
	if got := keys(t, s.List(t.Context(), "")); len(got) != len(want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	for _, key := range want {
		if err := s.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	if got := keys(t, s.List(t.Context(), "")); len(got) > 0 {
		t.Errorf("not removed: %q", got)
	}
}

func testFullDisk(t *testing.T, h Harness) {
	if h.Full == nil {
		t.Skip("this backend has no end of space")
	}
	s := h.storeOf(t, h.Full(t))
	commit(t, s, "a/small", body("ours", 1<<20), store.Created)
	if outcome, err := s.Commit(t.Context(), "a/large", body("ours", 4<<20)); outcome != store.Unknown || !errors.Is(err, store.ErrPermanent) || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v, %v; want an ErrPermanent that says what is full", outcome, err)
	}
	if got := s.Metrics().Retries.Load(); got != 0 {
		t.Errorf("%d retries, want none: trying again does not make space", got)
	}
	if got := keys(t, s.List(t.Context(), "")); !cmp.Equal(got, []string{"a/small"}) {
		t.Errorf("listed %q", got)
	}
	// Once there is space again, the same store goes on.
	if err := s.Remove(t.Context(), "a/small"); err != nil {
		t.Fatal(err)
	}
	commit(t, s, "a/large", body("ours", 1<<20), store.Created)
}

func testKillBetweenWriteAndLink(t *testing.T, h Harness) {
	if h.KillBeforeLink == nil {
		t.Skip("this backend's objects are written by another process")
	}
	s := h.store(t)
	for i, size := range []int{100, 1 << 20} {
		key := fmt.Sprintf("dt=%d/part", i)
		h.KillBeforeLink(t, key, body("killed", size))
		if got := keys(t, s.List(t.Context(), key)); len(got) > 0 {
			t.Fatalf("%q is there", got)
		}
		commit(t, s, key, body("next", size), store.Created)
		// What the kill has left is nothing that a list shows beside it.
		for _, got := range [][]string{keys(t, s.List(t.Context(), key[:5])), keys(t, s.ListDir(t.Context(), key[:4]))} {
			if !cmp.Equal(got, []string{key}) {
				t.Errorf("listed %q, want %q", got, key)
			}
		}
	}
}

// store returns a store on a driver of its own.
func (h Harness) store(t *testing.T) *store.Store {
	t.Helper()
	return h.storeOf(t, h.driver(t))
}

func (h Harness) storeOf(t *testing.T, d driver.Driver) *store.Store {
	t.Helper()
	s, err := store.New(d, patient())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// patient returns options with short waits.
func patient() store.Options {
	o := store.Defaults()
	o.MaxAttempts, o.BaseDelay, o.MaxDelay = 5, time.Millisecond, 10*time.Millisecond
	return o
}

// driver returns a new driver, which is closed at the end of the test.
func (h Harness) driver(t *testing.T) driver.Driver {
	t.Helper()
	d, err := h.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// body returns size bytes that only this writer has.
func body(writer string, size int) []byte {
	p := bytes.Repeat([]byte(writer+"|"), size/(len(writer)+1)+1)[:size]
	for i := 0; i+8 < size; i += 4096 { // So that a page in the wrong place shows.
		copy(p[i:], fmt.Sprintf("%08d", i))
	}
	return p
}

func commit(t *testing.T, s *store.Store, key string, body []byte, want store.Outcome) {
	t.Helper()
	if got, err := s.Commit(t.Context(), key, body); err != nil || got != want {
		t.Fatalf("commit %q: got %v, %v; want %v", key, got, err, want)
	}
}

func read(t *testing.T, s *store.Store, key string) []byte {
	t.Helper()
	p, err := s.ReadAll(t.Context(), key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func keys(t *testing.T, entries iter.Seq2[store.Entry, error]) []string {
	t.Helper()
	var got []string
	for e, err := range entries {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Key)
	}
	return got
}
