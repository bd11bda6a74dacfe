package flink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// rest is the REST service of a job manager.
type rest struct {
	master string // HOST:PORT
}

// call makes a request, and decodes its answer into answer, unless that is nil.
func (r rest) call(ctx context.Context, method, path string, answer any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("job manager %s: %s %s: %w", r.master, method, path, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+r.master+path, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %.300s", response.Status, body)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}

// job is a job as Flink knows it.
type job struct {
	ID    string `json:"jid"`
	Name  string `json:"name"`
	State string `json:"state"`
}

// ended tells whether the job runs no longer, and will not again.
func (j job) ended() bool {
	return j.State == "FINISHED" || j.State == "CANCELED" || j.State == "FAILED"
}

// nameOf is the name that the job server gives a job in Flink, by the id that it gives it itself.
func nameOf(id string) string {
	i := strings.LastIndexByte(id, '_')
	return id[:max(i, 0)]
}

// find returns the job of a name; ok is false where there is none.
func (r rest) find(ctx context.Context, name string) (found job, ok bool, err error) {
	var overview struct {
		Jobs []job `json:"jobs"`
	}
	if err := r.call(ctx, http.MethodGet, "/jobs/overview", &overview); err != nil {
		return job{}, false, err
	}
	for _, j := range overview.Jobs {
		if j.Name == name {
			return j, true, nil
		}
	}
	return job{}, false, nil
}

// lag is how much later than a job server takes a job it can be in Flink.
const lag = 10 * time.Second

// cancel cancels the job of a name, and waits for its end. A job that is not there may be on its way from the job server: it is waited for
// as long as lag.
func (r rest) cancel(ctx context.Context, name string) error {
	if r.master == "" {
		return errors.New("flink_master is not given, and a job server does not cancel jobs of files")
	}
	asked := false
	for since := time.Now(); ; {
		found, ok, err := r.find(ctx, name)
		switch {
		case err != nil:
			return err
		case ok && found.ended(), !ok && time.Since(since) > lag:
			return nil
		case ok && !asked:
			if err := r.call(ctx, http.MethodPatch, "/jobs/"+found.ID+"?mode=cancel", nil); err != nil {
				return err
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("job %s has not ended: %w", name, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
