package command

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"

	"backbone/testing/generator"
)

const shopTopic = "projects/shop/topics/events"

// serveTopic starts a server with shopTopic, which clients find by the environment.
func serveTopic(t *testing.T) *pstest.Server {
	t.Helper()
	server := pstest.NewServer()
	t.Setenv("PUBSUB_EMULATOR_HOST", server.Addr)
	client, err := pubsub.NewClient(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.TopicAdminClient.CreateTopic(t.Context(), &pubsubpb.Topic{Name: shopTopic}); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// generate runs the command and returns the totals that it prints.
func generate(t *testing.T, args ...string) (generator.Summary, error) {
	t.Helper()
	var out bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(io.Discard), log: slog.New(slog.DiscardHandler)}
	cmd := newGenerateCommand(env)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	var total generator.Summary
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		return total, err
	}
	return total, json.Unmarshal(out.Bytes(), &total)
}

func TestGeneratePublishes(t *testing.T) {
	server := serveTopic(t)
	dir := t.TempDir()
	total, err := generate(t, "--events", "500", "--topic", shopTopic, "--out", dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(server.Messages()); got != 500 || total.Events != 500 {
		t.Errorf("%d messages were published and %d told of, want 500", got, total.Events)
	}
	kept, err := generator.ReadSummary(dir)
	if err != nil || kept.Rows != total.Rows {
		t.Errorf("the truth has %d rows (%v), the output %d", kept.Rows, err, total.Rows)
	}
}

func TestGenerateStopsWhenAsked(t *testing.T) {
	server := serveTopic(t)
	go func() {
		for len(server.Messages()) == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}()
	total, err := generate(t, "--events", "1000000", "--rate", "1000", "--realtime", "--topic", shopTopic)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(server.Messages()); got == 0 || got == 1_000_000 || got != total.Events {
		t.Errorf("%d messages were published and %d told of", got, total.Events)
	}
}
