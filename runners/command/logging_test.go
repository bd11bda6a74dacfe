package command

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamlog "github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

// inBeam is a place inside of Beam, from where a line may have been logged.
func inBeam(t *testing.T) uintptr {
	t.Helper()
	pc := reflect.ValueOf(beam.Init).Pointer() + 1 // +1: a return address is after its call
	if !isBeam(pc) {
		t.Fatal("beam.Init is not seen as Beam's")
	}
	return pc
}

// here is a place in this package.
func here() uintptr {
	pc, _, _, _ := runtime.Caller(0)
	return pc
}

func TestQuietHandler(t *testing.T) {
	worker := func(location string) slog.Attr { return slog.Group("sdk", slog.String("location", location+":7")) }
	const beamFile = "/root/go/pkg/mod/github.com/apache/beam/sdks/v2@v2.77.0/go/pkg/beam/runners/universal/runnerlib/job.go"
	tests := []struct {
		name    string
		level   string
		runner  string
		from    uintptr
		at      slog.Level
		message string
		attr    slog.Attr
		want    string // the line without its time; "" if there is to be none
	}{
		{name: "Ours", level: "info", from: here(), at: slog.LevelInfo, message: "hello", want: `level=INFO msg=hello`},
		{name: "OfPackageLog", level: "info", at: slog.LevelInfo, message: "stopping worker", want: ``},
		{name: "BeamsInformation", level: "info", from: inBeam(t), at: slog.LevelInfo, message: "Serving on port", want: ``},
		{name: "BeamsInformationForDebug", level: "debug", from: inBeam(t), at: slog.LevelInfo, message: "Serving", want: `level=DEBUG msg=Serving`},
		{name: "BeamsWarning", level: "info", from: inBeam(t), at: slog.LevelWarn, message: "odd", want: `level=WARN msg=odd`},
		{
			name: "TransformsInformation", level: "info", from: inBeam(t), at: slog.LevelInfo, message: "[SDK] committed",
			attr: worker("/src/backbone/transforms/lake/lake.go"), want: `level=INFO msg=committed`,
		},
		{
			name: "TransformsInformationForDebug", level: "debug", from: inBeam(t), at: slog.LevelInfo, message: "[SDK] committed",
			attr: worker("lake.go"), want: `level=INFO msg=committed sdk.location=lake.go:7`,
		},
		{
			name: "BeamsInformationByWorker", level: "info", from: inBeam(t), at: slog.LevelInfo, message: "[SDK] Job[1] state: RUNNING",
			attr: worker(beamFile), want: ``,
		},
		{
			name: "DirectRunnersErrorByWorker", level: "info", from: inBeam(t), at: slog.LevelError, message: "[SDK] DoFn failed",
			attr: worker(beamFile), want: ``,
		},
		{
			name: "TransformsError", level: "info", from: inBeam(t), at: slog.LevelError, message: "[SDK] disk full",
			attr: worker("lake.go"), want: `level=ERROR msg="disk full"`,
		},
		{
			name: "BeamsErrorByWorker", level: "info", runner: "flink", from: inBeam(t), at: slog.LevelError, message: "[SDK] DoFn failed",
			attr: worker(beamFile), want: `level=ERROR msg="DoFn failed"`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			logger, err := newLogger(&out, "text", test.level, test.runner)
			if err != nil {
				t.Fatal(err)
			}
			record := slog.NewRecord(time.Time{}, test.at, test.message, test.from)
			if test.attr.Key != "" {
				record.AddAttrs(test.attr)
			}
			if err := logger.Handler().Handle(t.Context(), record); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(out.String()); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestBeamLogger(t *testing.T) {
	var out bytes.Buffer
	logger, err := newLogger(&out, "text", "info", "direct")
	if err != nil {
		t.Fatal(err)
	}
	// As a transform logs: this file is not Beam's, so the line is shown.
	before := slog.Default()
	useLogger(logger)
	defer func() {
		slog.SetDefault(before)
		beamlog.SetLogger(&beamlog.Structural{})
	}()
	beamlog.Infof(context.Background(), "%d rows", 3)
	beamlog.Debug(context.Background(), "hidden")
	beamlog.Warn(context.Background(), "odd")
	if got := out.String(); !strings.Contains(got, `level=INFO msg="3 rows"`) || !strings.Contains(got, "level=WARN msg=odd") || strings.Contains(got, "hidden") {
		t.Errorf("got %q", got)
	}
}
