package flink

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/coder"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
)

// patience is how long a job may take to end that was cancelled.
const patience = time.Minute

// watch follows a job to its end. When ctx is cancelled it cancels the job, waits for the end of that, and returns ctx's cause.
func watch(ctx context.Context, client jobpb.JobServiceClient, manager rest, id string) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- follow(following, client, id) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	cancelling, release := context.WithTimeout(following, patience)
	defer release()
	// The job server says that the job is cancelled as soon as it waits for it no longer. In Flink, the job would go on.
	_, err := client.Cancel(cancelling, &jobpb.CancelJobRequest{JobId: id})
	if err = errors.Join(err, manager.cancel(cancelling, nameOf(id))); err != nil {
		slog.Warn("the job may still run: it could not be cancelled", "job", nameOf(id), "error", err)
	}
	return context.Cause(ctx)
}

// follow waits for the end of a job, and returns why it has failed, if it has.
func follow(ctx context.Context, client jobpb.JobServiceClient, id string) error {
	const most = 5
	var state jobpb.JobState_Enum // the last of which was told
	for tries := 1; ; tries++ {
		now, said, err := listen(ctx, client, id)
		state = cmp.Or(now, state)
		switch {
		case state == jobpb.JobState_DONE:
			return nil
		case state == jobpb.JobState_CANCELLED:
			return errors.New("the job was cancelled")
		case state == jobpb.JobState_FAILED && (said != "" || tries == most):
			return failure(said)
		case tries == most:
			return fmt.Errorf("job %s: the job server says no more, and the job may still run: %w", id, err)
		}
		// A job server ends the stream of a job that fails as soon as it has begun, and says all that there was to the next who asks.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// listen logs what a job server says of a job, from the beginning. It returns the last state of the job and the last error that was told of:
// when the job has ended, and with an error when the stream has.
func listen(ctx context.Context, client jobpb.JobServiceClient, id string) (state jobpb.JobState_Enum, said string, err error) {
	stream, err := client.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: id})
	if err != nil {
		return state, "", err
	}
	var trace string // the last stack trace: it comes ahead of an error that is only its last cause
	for {
		message, err := stream.Recv()
		if err != nil {
			return state, said, err
		}
		if m := message.GetMessageResponse(); m != nil {
			if stack.MatchString(m.GetMessageText()) {
				trace = m.GetMessageText()
			}
			if m.GetImportance() >= jobpb.JobMessage_JOB_MESSAGE_ERROR {
				if said = m.GetMessageText(); strings.Contains(trace, said) {
					said = trace
				}
			}
			slog.Debug("flink: "+m.GetMessageText(), "importance", m.GetImportance().String())
		}
		if s := message.GetStateResponse(); s != nil {
			state = s.GetState()
			slog.Debug("flink: state of the job", "id", id, "state", state.String())
		}
		switch {
		case state == jobpb.JobState_DONE, state == jobpb.JobState_CANCELLED, state == jobpb.JobState_FAILED && said != "":
			return state, said, nil
		}
	}
}

var (
	// stack is the first line of where something happened in Java.
	stack = regexp.MustCompile(`\n\s+(at [\w.$/<>]+\(|\.\.\. \d+ (more|common))`)
	// thrown are the names of classes before a message.
	thrown = regexp.MustCompile(`^([\w.$]+(Exception|Error): )+`)
	// harness is what Beam puts before the message of a worker.
	harness = regexp.MustCompile(`^Error received from SDK harness for instruction \S+: `)
)

// failure is the error of a job that failed, by what a job server says of it.
func failure(said string) error {
	cause := causeOf(said)
	if cause == "" {
		cause = "the job server does not say why; see its log, and those of the job manager and the task managers"
	}
	return fmt.Errorf("job failed: %s", cause)
}

// causeOf is what was wrong, by a stack trace of Java: the last of its causes, or one before it that says the same and more.
func causeOf(said string) string {
	var class, cause string
	for _, c := range strings.Split(said, "\nCaused by: ") {
		if at := stack.FindStringIndex(c); at != nil {
			c = c[:at[0]]
		}
		c = strings.TrimSpace(c)
		classes := thrown.FindString(c)
		message := harness.ReplaceAllString(c[len(classes):], "")
		if len(message) < len(cause) && strings.HasSuffix(cause, message) {
			continue
		}
		cause = message
		class = classes[strings.LastIndex(strings.TrimSuffix(classes, ": "), ": ")+1:]
	}
	if class = strings.TrimSpace(class); class == "" || class == "java.lang.RuntimeException:" {
		return cause
	}
	return class + " " + cause
}

// countsOf returns the counters of a job that has ended, by "namespace/name".
func countsOf(ctx context.Context, client jobpb.JobServiceClient, id string) (map[string]int64, error) {
	response, err := client.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: id})
	if err != nil {
		return nil, fmt.Errorf("counts of job %s: %w", id, err)
	}
	all := response.GetMetrics().GetAttempted()
	if len(all) == 0 { // a job that read nothing has counted elements, at least
		return nil, fmt.Errorf("job %s has ended well, but the job server has no counts of it; the lake has what it should", id)
	}
	counts := map[string]int64{}
	for _, info := range all {
		if info.GetUrn() != "beam:metric:user:sum_int64:v1" {
			continue
		}
		labels := info.GetLabels()
		n, err := coder.DecodeVarInt(bytes.NewReader(info.GetPayload()))
		if err != nil {
			return nil, fmt.Errorf("counter %s of job %s: %w", labels["NAME"], id, err)
		}
		counts[labels["NAMESPACE"]+"/"+labels["NAME"]] += n
	}
	return counts, nil
}
