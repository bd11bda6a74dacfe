package command

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"time"

	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

// newLogger makes the logger of the command. Format is text or json; level is debug, info, warn or error. Runner is the
// value of --runner, or nothing.
func newLogger(w io.Writer, format, level, runner string) (*slog.Logger, error) {
	var lowest slog.Level
	if err := lowest.UnmarshalText([]byte(level)); err != nil {
		return nil, usageErrorf("log_level is %q; it must be debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: lowest}
	var handler slog.Handler
	switch format {
	case "text":
		handler = slog.NewTextHandler(w, options)
	case "json":
		handler = slog.NewJSONHandler(w, options)
	default:
		return nil, usageErrorf("log_format is %q; it must be text or json", format)
	}
	quiet := slog.LevelInfo
	if runner == "" || runner == "direct" || runner == "prism" {
		quiet = slog.LevelError
	}
	return slog.New(&quietHandler{handler, quiet}), nil
}

// useLogger makes logger the one that Beam writes to as well. Parts of Beam log through slog's default, others
// through Beam's log package, so both are set.
func useLogger(logger *slog.Logger) {
	slog.SetDefault(logger)
	beamlog.SetLogger(beamLogger{logger})
}

// beamModule is in the name of each function of Beam's SDK, and in the path of each of its files.
const beamModule = "github.com/apache/beam/sdks/"

// quietHandler passes on what Beam itself logs as information only when debug is wanted: it speaks of ports, tokens
// and states that mean nothing to someone who runs a pipeline. The direct runner's errors are quiet too: each part of
// it logs the same failure once more, and all of them are in the error that the job returns. Beam's warnings pass, and
// so does what a transform logs.
type quietHandler struct {
	slog.Handler
	quiet slog.Level // of Beam's lines, LevelInfo and this one are quiet
}

// Handle implements slog.Handler.
func (h *quietHandler) Handle(ctx context.Context, record slog.Record) error {
	debug := h.Enabled(ctx, slog.LevelDebug)
	byBeam := isBeam(record.PC)

	// The direct runner writes down what its workers log, in this form. Who logged it is in the attributes, which
	// are of no use otherwise, but for debugging.
	if message, ok := strings.CutPrefix(record.Message, "[SDK] "); ok && byBeam {
		byBeam = strings.Contains(workerLocation(record), beamModule)
		if debug {
			record.Message = message
		} else {
			record = slog.NewRecord(record.Time, record.Level, message, record.PC)
		}
	}
	if byBeam && (record.Level == slog.LevelInfo || record.Level == h.quiet) {
		if !debug {
			return nil
		}
		record.Level = slog.LevelDebug
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h *quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &quietHandler{h.Handler.WithAttrs(attrs), h.quiet}
}

// WithGroup implements slog.Handler.
func (h *quietHandler) WithGroup(name string) slog.Handler {
	return &quietHandler{h.Handler.WithGroup(name), h.quiet}
}

// isBeam says whether pc, where a line was logged, is in Beam's SDK. A line without such a place came through package log,
// which only Beam uses: for what a worker logs while its connection to the runner closes.
func isBeam(pc uintptr) bool {
	if pc == 0 {
		return true
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	return strings.HasPrefix(frame.Function, beamModule)
}

// workerLocation is the file and line where a worker logged record, as the direct runner notes it.
func workerLocation(record slog.Record) (location string) {
	record.Attrs(func(attr slog.Attr) bool {
		if attr.Key != "sdk" || attr.Value.Kind() != slog.KindGroup {
			return true
		}
		for _, of := range attr.Value.Group() {
			if of.Key == "location" {
				location = of.Value.String()
			}
		}
		return false
	})
	return location
}

// beamLogger writes what is logged through Beam's log package, by Beam or by a transform, to a slog.Logger, under
// the name of the function that logged it.
type beamLogger struct {
	logger *slog.Logger
}

// Log implements the Logger of Beam's log package.
func (l beamLogger) Log(ctx context.Context, severity beamlog.Severity, calldepth int, message string) {
	level := slog.LevelInfo
	switch severity {
	case beamlog.SevDebug:
		level = slog.LevelDebug
	case beamlog.SevWarn:
		level = slog.LevelWarn
	case beamlog.SevError, beamlog.SevFatal:
		level = slog.LevelError
	}
	if !l.logger.Enabled(ctx, level) {
		return
	}
	var pcs [1]uintptr
	runtime.Callers(calldepth+2, pcs[:]) // 2: runtime.Callers and this function
	// A log that cannot be written has nowhere to say so.
	_ = l.logger.Handler().Handle(ctx, slog.NewRecord(time.Now(), level, message, pcs[0]))
}
