package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestFinish(t *testing.T) {
	watermark := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		summary summary
		err     error
		want    summary
		wantErr string
	}{
		{
			name:    "Done",
			summary: summary{Command: "interactions", Read: 10, Committed: 7, Duplicate: 2, DeadLettered: 1, Late: 3, Files: 1, Bytes: 99, Watermark: &watermark},
			want:    summary{Command: "interactions", Outcome: outcomeDone, Read: 10, Committed: 7, Duplicate: 2, DeadLettered: 1, Late: 3, Files: 1, Bytes: 99, Watermark: &watermark},
		},
		{
			name:    "Drained",
			summary: summary{Outcome: outcomeDrained, Read: 1, Committed: 1},
			want:    summary{Outcome: outcomeDrained, Read: 1, Committed: 1},
		},
		{
			name:    "RowLost",
			summary: summary{Read: 10, Committed: 9},
			want:    summary{Outcome: outcomeFailed, Error: "the counts do not balance: 10 rows read, but 9 committed + 0 duplicate + 0 dead-lettered + 0 without a row = 9", Read: 10, Committed: 9},
			wantErr: "do not balance",
		},
		{
			name:    "Failed",
			summary: summary{Read: 10}, // what was read when it failed is nowhere yet
			err:     errors.New("disk full"),
			want:    summary{Outcome: outcomeFailed, Error: "disk full", Read: 10},
			wantErr: "disk full",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := &environment{log: slog.New(slog.DiscardHandler)}
			path := filepath.Join(t.TempDir(), "summary.json")
			test.summary.Started = time.Now()
			err := env.finish(path, test.summary, test.err)
			if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Errorf("error %v, want %q", err, test.wantErr)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got summary
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(summary{}, "Started", "Seconds")); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
				t.Errorf("files beside the summary: %v, %v", left, err)
			}
		})
	}
}

func TestFinishCannotWrite(t *testing.T) {
	env := &environment{log: slog.New(slog.DiscardHandler)}
	path := filepath.Join(t.TempDir(), "none", "summary.json")
	err := env.finish(path, summary{}, errors.New("disk full"))
	if err == nil || !strings.Contains(err.Error(), "disk full") || !strings.Contains(err.Error(), "summary") {
		t.Errorf("got %v, want both errors", err)
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	logger, err := newLogger(&out, "text", "info", "direct")
	if err != nil {
		t.Fatal(err)
	}
	env := &environment{stderr: newScreen(&out), log: logger}
	show := env.logProgress("interactions")
	show(progress{Rows: 1000, Total: 2000, DeadLetters: 5, Watermark: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)})
	for _, want := range []string{"msg=interactions", "rows=1000", "total=2000", "dead_letters=5", "watermark=2026-11-22T14:00:00.000Z"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q in it", out.String(), want)
		}
	}

	// Stopping waits, also before the first tick, and may be done twice.
	stop := env.startProgress(t.Context(), "interactions", func() progress { return progress{} })
	stop()
	stop()
}

func TestProgressLine(t *testing.T) {
	watermark := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	tests := []struct {
		p    progress
		want string
	}{
		{progress{Rows: 1234567}, "interactions: 1,234,567 rows, 2,000/s"},
		{progress{Rows: 500, Total: 2000}, "interactions: 25%, 500 of 2,000 rows, 2,000/s"},
		{
			progress{Rows: 500, DeadLetters: 1234, Watermark: watermark},
			"interactions: 500 rows, 2,000/s, 1,234 dead letters, watermark 2026-11-22 14:00:00",
		},
	}
	for _, test := range tests {
		if got := progressLine("interactions", test.p, 2000); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	expect := func(want string) {
		t.Helper()
		if got := out.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		out.Reset()
	}
	write := func(line string) {
		t.Helper()
		if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("wrote %d bytes of %d, %v", n, len(line), err)
		}
	}

	// Without a status line, nothing but the lines.
	s.setStatus("")
	write("one\n")
	expect("one\n")

	// A line goes above the status line, which is written again below it.
	s.setStatus("10 rows")
	expect(clearLine + "10 rows")
	write("two\n")
	expect(clearLine + "two\n" + "10 rows")

	// A long one is cut to one less than the 80 columns that are assumed, and is taken away at the end.
	s.setStatus(strings.Repeat("x", 100))
	expect(clearLine + strings.Repeat("x", 79))
	s.setStatus("")
	expect(clearLine)
	write("three\n")
	expect("three\n")
}
