package flink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"backbone/runners/graph"
)

// stop stops a job with a savepoint, and returns its URL, if a job with this graph can begin from it. If not, the job goes on, and the
// error says what differs.
func (o Options) stop(ctx context.Context, manager rest, j job, steps []string) (savepoint string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("job %s (%s) goes on, and cannot be replaced: %w", j.Name, j.ID, err)
		}
	}()
	tags, err := manager.tags(ctx, j.ID)
	if err != nil {
		return "", err
	}
	if tags[LakeTag] != o.Lake {
		return "", fmt.Errorf("it writes to the lake %s, not to %s", tags[LakeTag], o.Lake)
	}
	before, err := graph.Saved(ctx, o.Lake, o.RunID, tags[RunTag])
	if err != nil {
		return "", err
	}
	if lines := graph.Difference(before, steps); lines != nil {
		return "", fmt.Errorf("its graph is another, so its state is of no use: drain it, and start this one without --flink_upgrade (%s)", graph.Brief(lines))
	}
	slog.Info("stopping the job with a savepoint, to begin from it", "job", j.Name, "flink_id", j.ID)
	return manager.stop(ctx, j.ID, o.SavepointDir)
}

// stop stops a job with a savepoint in a folder, that of the cluster if it is "", and returns the URL of the savepoint.
func (r rest) stop(ctx context.Context, id, folder string) (savepoint string, err error) {
	asked := map[string]any{"drain": false} // Beam's sources in Go would never end by that
	if folder != "" {
		asked["targetDirectory"] = folder
	}
	if savepoint, err = r.savepoint(ctx, id, "stop", asked); err != nil {
		return "", err
	}
	return savepoint, r.gone(ctx, id)
}

// save makes a savepoint of a job that goes on, in a folder, that of the cluster if it is "", and returns its URL.
func (r rest) save(ctx context.Context, id, folder string) (savepoint string, err error) {
	asked := map[string]any{}
	if folder != "" {
		asked["target-directory"] = folder
	}
	return r.savepoint(ctx, id, "savepoints", asked)
}

// savepoint asks for a savepoint, and returns its URL as soon as it is made.
func (r rest) savepoint(ctx context.Context, id, operation string, asked map[string]any) (savepoint string, err error) {
	var trigger struct {
		ID string `json:"request-id"`
	}
	if err := r.call(ctx, http.MethodPost, "/jobs/"+id+"/"+operation, asked, &trigger); err != nil {
		return "", err
	}
	for {
		var answer struct {
			Status struct {
				ID string `json:"id"`
			} `json:"status"`
			Operation struct {
				Location string `json:"location"`
				Failure  *struct {
					Trace string `json:"stack-trace"`
				} `json:"failure-cause"`
			} `json:"operation"`
		}
		if err := r.get(ctx, "/jobs/"+id+"/savepoints/"+trigger.ID, &answer); err != nil {
			return "", err
		}
		switch {
		case answer.Operation.Failure != nil:
			return "", fmt.Errorf("savepoint: %s", causeOf(answer.Operation.Failure.Trace))
		case answer.Status.ID == "COMPLETED":
			return answer.Operation.Location, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(errors.New("the savepoint is still being made"), ctx.Err())
		case <-time.After(every):
		}
	}
}
