package dataflowfake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// maxStaged bounds what is read of Cloud Storage at once, in bytes.
const maxStaged = 1 << 30

// run runs a job to its end.
func (s *Server) run(j *job) {
	state, err := s.work(j)
	s.end(j)
	if err != nil {
		j.say(failure, err.Error())
	}
	j.become(state)
	close(j.over)
}

// end forgets what a job has on disk, and its messages.
func (s *Server) end(j *job) {
	for _, in := range j.sources() {
		in.close()
	}
	_ = os.RemoveAll(j.dir) // below a folder that is removed later
}

// work does the work of a job, again where it goes wrong, and returns the state that it ends in.
func (s *Server) work(j *job) (state string, err error) {
	if s.options.Idle {
		return j.idle(), nil
	}
	ctx := context.Background()
	pipeline, binary, options, err := s.fetch(ctx, j)
	if err != nil {
		return stateFailed, fmt.Errorf("workflow failed. Causes: %w", err)
	}
	j.takeOver()
	if asked, _ := j.order(); asked == stateCancelled {
		return stateCancelled, nil
	}
	if asked, _ := j.order(); asked == "" {
		j.become(stateRunning)
	}
	j.say(basic, "Worker configuration: "+j.wanted().Environment.WorkerPools[0].MachineType+" in "+j.region+".")
	for n := 1; ; n++ {
		a := &attempt{id: fmt.Sprintf("%s-%d", j.id, n), binary: binary, options: options, lost: make(chan struct{}), tally: newTally()}
		cause := s.attempt(ctx, j, a, proto.CloneOf(pipeline))
		asked, _ := j.order()
		switch {
		case asked == stateCancelled, asked == stateUpdated:
			return asked, nil
		case cause == nil && asked == stateDrained:
			return stateDrained, nil
		case cause == nil:
			return stateDone, nil
		case n == s.options.Attempts:
			j.say(failure, cause.Error())
			return stateFailed, fmt.Errorf("workflow failed. Causes: S01:work failed., The job failed because a work item has failed %d times. "+
				"Look in previous log entries for the cause of each one of the %d failures", n, n)
		}
		j.say(warning, "work is done again: "+cause.Error())
	}
}

// idle does nothing until the job is asked to end.
func (j *job) idle() (state string) {
	j.takeOver()
	asked, more := j.order()
	if asked == "" {
		j.become(stateRunning)
		if j.wanted().Type == "JOB_TYPE_BATCH" {
			return stateDone
		}
		<-more
		asked, _ = j.order()
	}
	return asked
}

// fetch reads what was staged.
func (s *Server) fetch(ctx context.Context, j *job) (p *pipepb.Pipeline, binary, options string, err error) {
	var said struct {
		Options struct {
			URL  string `json:"pipelineUrl"`
			Hash string `json:"pipelineProtoHash"`
		} `json:"options"`
	}
	raw := j.wanted().Environment.SdkPipelineOptions
	if err := json.Unmarshal(raw, &said); err != nil {
		return nil, "", "", fmt.Errorf("options of the pipeline: %w", err)
	}
	model, err := s.read(ctx, said.Options.URL, said.Options.Hash)
	if err != nil {
		return nil, "", "", fmt.Errorf("pipeline: %w", err)
	}
	p = &pipepb.Pipeline{}
	if err := proto.Unmarshal(model, p); err != nil {
		return nil, "", "", fmt.Errorf("pipeline: %w", err)
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, "", "", err
	}
	binary, options = filepath.Join(j.dir, "worker"), filepath.Join(j.dir, "options.json")
	if err := os.WriteFile(options, raw, 0o600); err != nil {
		return nil, "", "", err
	}
	for id, env := range p.GetComponents().GetEnvironments() {
		if len(env.GetDependencies()) != 1 {
			return nil, "", "", fmt.Errorf("environment %s has %d artifacts, want the worker binary only", id, len(env.GetDependencies()))
		}
		var at pipepb.ArtifactUrlPayload
		if err := proto.Unmarshal(env.GetDependencies()[0].GetTypePayload(), &at); err != nil {
			return nil, "", "", fmt.Errorf("worker binary: %w", err)
		}
		body, err := s.read(ctx, at.GetUrl(), at.GetSha256())
		if err != nil {
			return nil, "", "", fmt.Errorf("worker binary: %w", err)
		}
		if err := os.WriteFile(binary, body, 0o700); err != nil {
			return nil, "", "", err
		}
	}
	return p, binary, options, nil
}

// read reads an object, which has to have a hash.
func (s *Server) read(ctx context.Context, url, hash string) (body []byte, err error) {
	if body, err = s.object(ctx, url); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != hash {
		return nil, fmt.Errorf("%s has not the hash %s that the job says", url, hash)
	}
	return body, nil
}

// object reads an object.
func (s *Server) object(ctx context.Context, url string) (body []byte, err error) {
	bucket, name, ok := strings.Cut(strings.TrimPrefix(url, "gs://"), "/")
	if !ok || !strings.HasPrefix(url, "gs://") {
		return nil, fmt.Errorf("%q is no object of Cloud Storage", url)
	}
	r, err := s.storage.Bucket(bucket).Object(name).NewReader(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if body, err = io.ReadAll(io.LimitReader(r, maxStaged)); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return body, nil
}

// patience is how long prism may take to end a job that was cancelled.
const patience = 10 * time.Second

// attempt does the work of a job once, and returns why it went wrong.
func (s *Server) attempt(ctx context.Context, j *job, a *attempt, p *pipepb.Pipeline) error {
	s.pool.add(a)
	defer s.pool.end(a)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, env := range p.GetComponents().GetEnvironments() {
		if err := s.external(env, s.pool.addr, a.id); err != nil {
			return err
		}
	}
	if err := s.graft(j, p); err != nil {
		return fmt.Errorf("sources of Pub/Sub: %w", err)
	}
	options := &structpb.Struct{}
	if err := protojson.Unmarshal(j.wanted().Environment.SdkPipelineOptions, options); err != nil {
		return fmt.Errorf("options of the pipeline: %w", err)
	}
	prepared, err := s.prism.Prepare(ctx, &jobpb.PrepareJobRequest{Pipeline: p, JobName: a.id, PipelineOptions: options})
	if err != nil {
		return fmt.Errorf("the pipeline is refused: %w", err)
	}
	begun, err := s.prism.Run(ctx, &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	if err != nil {
		return fmt.Errorf("the pipeline is refused: %w", err)
	}
	id := begun.GetJobId()
	j.begin(a, id)
	defer j.rest()
	ended := make(chan error, 1)
	go func() { ended <- s.follow(ctx, j, id) }()
	for {
		asked, more := j.order()
		switch asked {
		case stateDrained:
			for _, in := range j.sources() {
				in.drain()
			}
		case stateCancelled, stateUpdated:
			return s.cancel(ctx, id, ended)
		}
		select {
		case err := <-ended:
			return err
		case <-a.lost:
			// It ends with its work, too: then prism says so at once.
			select {
			case err := <-ended:
				return err
			case <-time.After(time.Second):
			}
			_ = s.cancel(ctx, id, ended)
			return errors.New("the worker was lost")
		case <-more:
		}
	}
}

// cancel ends a job of prism.
func (s *Server) cancel(ctx context.Context, id string, ended <-chan error) error {
	if _, err := s.prism.Cancel(ctx, &jobpb.CancelJobRequest{JobId: id}); err != nil {
		return err
	}
	select {
	case why := <-ended:
		slog.Debug("prism has ended a job that was cancelled", "job", id, "said", why)
	case <-time.After(patience):
		return fmt.Errorf("prism has not ended its job within %v", patience)
	}
	return nil
}

// external has an environment's workers started by a pool.
func (s *Server) external(env *pipepb.Environment, pool, attempt string) (err error) {
	env.Urn = "beam:env:external:v1"
	env.Payload, err = proto.Marshal(&pipepb.ExternalPayload{
		Endpoint: &pipepb.ApiServiceDescriptor{Url: pool}, Params: map[string]string{runParameter: attempt},
	})
	env.Dependencies = nil
	return err
}

// follow listens to prism until a job has ended. What was wrong is said after the state.
func (s *Server) follow(ctx context.Context, j *job, id string) error {
	stream, err := s.prism.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: id})
	if err != nil {
		return err
	}
	var state jobpb.JobState_Enum
	var said string
	for {
		m, err := stream.Recv()
		if err != nil {
			break // its end
		}
		if r := m.GetMessageResponse(); r != nil {
			if r.GetImportance() >= jobpb.JobMessage_JOB_MESSAGE_ERROR {
				said = r.GetMessageText()
			} else {
				j.say(detailed, r.GetMessageText())
			}
		}
		if r := m.GetStateResponse(); r != nil {
			state = r.GetState()
		}
	}
	if state == jobpb.JobState_DONE {
		return nil
	}
	if said == "" {
		said = "the work has ended as " + state.String()
	}
	return errors.New(said)
}
