package flink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// rest is the REST service of a job manager.
type rest struct {
	master string // HOST:PORT
}

// call makes a request, and decodes its answer into answer, unless that is nil.
func (r rest) call(ctx context.Context, method, path string, answer any) error {
	return r.send(ctx, method, path, nil, answer)
}

// send is call with a body, unless that is nil.
func (r rest) send(ctx context.Context, method, path string, body, answer any) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("job manager %s: %s %s: %w", r.master, method, path, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+r.master+path, sent)
	if err != nil {
		return err
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			return wrapped.Err // the method and the address are said already
		}
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return &statusError{code: response.StatusCode, message: messageOf(text)}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// statusError is a refusal.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.message) }

// isNotFound tells whether the job manager does not know what it was asked about.
func isNotFound(err error) bool {
	var refused *statusError
	return errors.As(err, &refused) && refused.code == http.StatusNotFound
}

// messageOf is what is wrong, by the body of a refusal: a list of stack traces.
func messageOf(body []byte) string {
	var said struct {
		Errors []string `json:"errors"`
	}
	if err := json.Unmarshal(body, &said); err != nil || len(said.Errors) == 0 {
		return fmt.Sprintf("%.300s", body)
	}
	return fmt.Sprintf("%.1000s", causeOf(said.Errors[len(said.Errors)-1]))
}

// job is a job as Flink knows it.
type job struct {
	ID    string `json:"jid"`
	Name  string `json:"name"`
	State string `json:"state"`
	Start int64  `json:"start-time"` // in milliseconds since 1970
	End   int64  `json:"end-time"`   // -1 where it has not ended
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

// find returns the job of a name; ok is false where there is none. Of several it is the one that has not ended, or else the last that began:
// a job manager remembers those that have ended.
func (r rest) find(ctx context.Context, name string) (found job, ok bool, err error) {
	all, err := r.jobs(ctx)
	for _, j := range all {
		if j.Name != name {
			continue
		}
		if !ok || found.ended() && !j.ended() || found.ended() == j.ended() && j.Start > found.Start {
			found, ok = j, true
		}
	}
	return found, ok, err
}

// jobs returns the jobs that the job manager knows.
func (r rest) jobs(ctx context.Context) ([]job, error) {
	var overview struct {
		Jobs []job `json:"jobs"`
	}
	err := r.call(ctx, http.MethodGet, "/jobs/overview", &overview)
	return overview.Jobs, err
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
