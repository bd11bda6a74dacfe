package command

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestPubSub runs the server as a person would, three times on one folder: publish, receive, stop by a signal.
func TestPubSub(t *testing.T) {
	dir := t.TempDir()
	const topic, subscription = "projects/shop.example:live/topics/events", "projects/shop.example:live/subscriptions/lake"
	for life, want := range []string{"", "first", "second"} {
		out, in := io.Pipe()
		var errs bytes.Buffer
		env := &environment{stdin: strings.NewReader(""), stdout: in, stderr: newScreen(&errs), environ: func() []string { return nil }}
		ended := make(chan int, 1)
		go func() {
			defer in.Close()
			ended <- execute(t.Context(), env, assemble(env, newPubSubCommand(env)), []string{
				"pubsub", "--addr=127.0.0.1:0", "--data_dir", dir, "--create", topic + ":" + subscription, "--create", topic, "--stats=1h",
			})
		}()
		stdout := bufio.NewReader(out)
		line, err := stdout.ReadString('\n')
		match := regexp.MustCompile(`^export PUBSUB_EMULATOR_HOST=(127\.0\.0\.1:\d+)\n$`).FindStringSubmatch(line)
		if err != nil || match == nil {
			t.Fatalf("life %d: printed %q, %v; exit code %d, %s", life, line, err, <-ended, errs.String())
		}
		conn, err := grpc.NewClient(match[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			r, err := pubsubpb.NewSubscriberClient(conn).Pull(t.Context(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 10})
			if err != nil || len(r.GetReceivedMessages()) != 1 || string(r.GetReceivedMessages()[0].GetMessage().GetData()) != want {
				t.Fatalf("life %d: pulled %v, %v; want %q", life, r, err, want)
			}
			if _, err := pubsubpb.NewSubscriberClient(conn).Acknowledge(t.Context(), &pubsubpb.AcknowledgeRequest{
				Subscription: subscription, AckIds: []string{r.GetReceivedMessages()[0].GetAckId()},
			}); err != nil {
				t.Fatal(err)
			}
		}
		next := []string{"first", "second", "third"}[life]
		if _, err := pubsubpb.NewPublisherClient(conn).Publish(t.Context(), &pubsubpb.PublishRequest{
			Topic: topic, Messages: []*pubsubpb.PubsubMessage{{Data: []byte(next)}},
		}); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		kill(t, syscall.SIGTERM)
		rest, err := io.ReadAll(stdout)
		if code := <-ended; code != 0 || len(rest) > 0 || err != nil {
			t.Errorf("life %d: exit code %d, then printed %q, %v; %s", life, code, rest, err, errs.String())
		}
		if !strings.Contains(errs.String(), "backlog=1") {
			t.Errorf("life %d: the counts at the end are not in %q", life, errs.String())
		}
	}
}

func TestPubSubWrongUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--max_memory", "much"}, exitUsage, `max_memory is "much"; it must be a size such as`},
		{[]string{"--max_memory", "0"}, exitUsage, `max_memory is "0"`},
		{[]string{"--create", "events"}, exitUsage, `create is "events"; it must be projects/`},
		{[]string{"--create", "projects/p/topics/t:projects/p/topics/s"}, exitUsage, `it must be projects/`},
		{[]string{"--max_lease=-1s", "--stats=-1s"}, exitUsage, "max_lease is -1s; it must not be negative; stats is -1s"},
		{[]string{"--addr", "nowhere"}, exitFailed, "nowhere"},
		{[]string{"--addr", "127.0.0.1:0", "--create", "projects/p/topics/1"}, exitFailed, "ID begins with a letter"},
		{[]string{"extra"}, exitUsage, "extra"},
	} {
		var out, errs bytes.Buffer
		env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: newScreen(&errs), environ: func() []string { return nil }}
		code := execute(t.Context(), env, assemble(env, newPubSubCommand(env)), append([]string{"pubsub"}, test.args...))
		if code != test.code || !strings.Contains(errs.String(), test.want) {
			t.Errorf("%q: exit code %d, want %d; got %q, want %q in it", test.args, code, test.code, errs.String(), test.want)
		}
	}
}

// TestPubSubEndsWithItsOutput: a reader that is gone is an error, not a server that nobody can find.
func TestPubSubEndsWithItsOutput(t *testing.T) {
	out, in := io.Pipe()
	if err := out.CloseWithError(errors.New("nobody reads")); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: in, stderr: newScreen(&errs), environ: func() []string { return nil }}
	if code := execute(t.Context(), env, assemble(env, newPubSubCommand(env)), []string{"pubsub", "--addr=127.0.0.1:0"}); code != exitFailed || !strings.Contains(errs.String(), "nobody reads") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}
