package lake

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"backbone/transforms/lake/store"
)

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// The first use of a table decides; whoever wants another layout is told the table's own.
func TestFix(t *testing.T) {
	st := openStore(t, t.TempDir())
	ctx := t.Context()
	if _, err := LayoutOf(ctx, st, "interactions"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("layout of no table: %v, want ErrNotFound", err)
	}

	hourly := Layout{Window: Hour, Shards: 4}
	for range 2 {
		if got, err := Fix(ctx, st, "interactions", hourly); err != nil || got != hourly {
			t.Errorf("Fix = %v, %v; want %v", got, err, hourly)
		}
	}
	if got, err := LayoutOf(ctx, st, "interactions"); err != nil || got != hourly {
		t.Errorf("LayoutOf = %v, %v; want %v", got, err, hourly)
	}

	for _, other := range []Layout{{Window: Day, Shards: 4}, {Window: Hour, Shards: 1}} {
		got, err := Fix(ctx, st, "interactions", other)
		if !errors.Is(err, ErrLayout) || got != hourly {
			t.Errorf("Fix with another layout = %v, %v; want %v and ErrLayout", got, err, hourly)
		}
	}
	if got, err := Fix(ctx, st, "dead_letters", Layout{Window: Day, Shards: 1}); err != nil || got != (Layout{Window: Day, Shards: 1}) {
		t.Errorf("Fix of another table = %v, %v", got, err)
	}
}

// Launches that begin at the same time agree: one layout wins, and all learn which.
func TestFixAtOnce(t *testing.T) {
	const launches = 8
	dir := t.TempDir()
	var got [launches]Layout
	var errs [launches]error
	var all sync.WaitGroup
	for i := range launches {
		st := openStore(t, dir) // as of another process
		all.Go(func() { got[i], errs[i] = Fix(t.Context(), st, "interactions", Layout{Window: Hour, Shards: i + 1}) })
	}
	all.Wait()
	winners := 0
	for i := range launches {
		switch {
		case errs[i] == nil:
			winners++
		case !errors.Is(errs[i], ErrLayout):
			t.Errorf("launch %d: %v", i, errs[i])
		}
		if got[i] != got[0] {
			t.Errorf("launch %d goes on with %v, launch 0 with %v", i, got[i], got[0])
		}
	}
	if winners != 1 {
		t.Errorf("%d launches have got what they wanted, want 1", winners)
	}
}

func TestLayoutOfDamagedTable(t *testing.T) {
	for _, body := range []string{"", "{", `{"window":"7h","shards":1}`, `{"window":"1h"}`, `{"window":"1h","shards":-1}`} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "interactions"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "interactions", layoutName), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LayoutOf(t.Context(), openStore(t, dir), "interactions"); err == nil || !strings.Contains(err.Error(), layoutName) {
			t.Errorf("layout of %q is %v, %v; want an error that names the file", body, got, err)
		}
	}
}

func TestLayoutIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Layout{Window: windows().Draw(t, "window"), Shards: rapid.IntRange(1, 1000).Draw(t, "shards")}
		if got, err := ParseLayout(l.String()); err != nil || got != l {
			t.Fatalf("%q is read as %v, %v", l, got, err)
		}
	})
	for _, text := range []string{"", "1h", "1h/", "1h/0", "1h/-1", "1h/x", "/4", "7h/4"} {
		if l, err := ParseLayout(text); err == nil {
			t.Errorf("ParseLayout(%q) = %v, want an error", text, l)
		}
	}
}

// Where a row goes depends on its id and time only, and never changes: a row that came again under another rule
// would be in the lake twice.
func TestSlotOfARow(t *testing.T) {
	l := Layout{Window: Hour, Shards: 16}
	for id, shard := range map[string]int{"": 2, "event-1": 4, "event-2": 8, "a1b2c3": 2} {
		want := Slot{Table: "interactions", Bucket: 491_559, Shard: shard}
		if got := l.Slot("interactions", id, micros(t, "2026-01-28T15:30:00Z")); got != want {
			t.Fatalf("slot of %q is %+v, want %+v", id, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		l := Layout{Window: windows().Draw(t, "window"), Shards: rapid.IntRange(1, 1000).Draw(t, "shards")}
		at := rapid.Int64Range(year1, year9999).Draw(t, "micros")
		got := l.Slot("interactions", rapid.String().Draw(t, "id"), at)
		if got.Shard < 0 || got.Shard >= l.Shards || got.Bucket != l.Window.bucket(at) {
			t.Fatalf("%v: slot %+v", l, got)
		}
	})
}
