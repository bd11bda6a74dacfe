package command

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
)

func TestMain(m *testing.M) {
	InitBeam(nil)
	os.Exit(m.Run())
}

func init() {
	register.Function2x0(say)
	register.Function2x2(fail)
}

func say(ctx context.Context, _ []byte) {
	beamlog.Infof(ctx, "said by a transform")
	slog.InfoContext(ctx, "said without Beam")
}

func fail(_ context.Context, element []byte) ([]byte, error) { return element, errUnhappy }

var errUnhappy = errors.New("unhappy on purpose")

// What a real job logs on the direct runner: what transforms say, and nothing of Beam's own business.
func TestLogOfAJob(t *testing.T) {
	lines := logOf(t, func(ctx context.Context, p *beam.Pipeline) {
		beam.ParDo0(p.Root(), say, beam.Impulse(p.Root()))
		if _, err := beam.Run(ctx, "prism", p); err != nil {
			t.Error(err)
		}
	})
	for _, want := range []string{`level=INFO msg="said by a transform"`, `level=INFO msg="said without Beam"`} {
		if !strings.Contains(lines, want) {
			t.Errorf("got\n%s\nwant %q in it", lines, want)
		}
	}
	if got := strings.Count(lines, "level=INFO"); got != 2 {
		t.Errorf("%d lines, want the 2 of the transform:\n%s", got, lines)
	}
}

// A job that fails says why once, in the error that it returns.
func TestLogOfAFailedJob(t *testing.T) {
	var err error
	lines := logOf(t, func(ctx context.Context, p *beam.Pipeline) {
		beam.ParDo(p.Root(), fail, beam.Impulse(p.Root()))
		_, err = beam.Run(ctx, "prism", p)
	})
	if strings.Contains(lines, "unhappy") || strings.Contains(lines, "level=ERROR") {
		t.Errorf("the log says it too:\n%s", lines)
	}
	if err == nil {
		t.Fatal("the job ended well")
	}
	if got, want := oneLine(err), "backbone/runners/command.fail: unhappy on purpose"; got != want {
		t.Errorf("got %q, want %q, of\n%v", got, want, err)
	}
}

func logOf(t *testing.T, job func(ctx context.Context, p *beam.Pipeline)) string {
	t.Helper()
	var out lockedBuffer
	logger, err := newLogger(&out, "text", "info", "direct")
	if err != nil {
		t.Fatal(err)
	}
	before := slog.Default()
	useLogger(logger)
	defer func() {
		slog.SetDefault(before)
		beamlog.SetLogger(&beamlog.Structural{})
	}()
	job(t.Context(), beam.NewPipeline())
	return out.String()
}

// lockedBuffer is a buffer that is still written to while it is read.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
