package dataflow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

// absence is how long Dataflow may not answer.
const absence = 5 * time.Minute

// rest are the jobs of a region, by Dataflow's REST service.
type rest struct {
	project, region string
	jobs            *df.ProjectsLocationsJobsService
	// absence is how long it may not answer.
	absence time.Duration
}

// dial looks for credentials. A service on this machine gets none.
func dial(ctx context.Context, project, region, endpoint string) (rest, error) {
	var options []option.ClientOption
	if endpoint != "" {
		options = append(options, option.WithEndpoint(strings.TrimRight(endpoint, "/")+"/"))
	}
	if isLocal(endpoint) {
		options = append(options, option.WithoutAuthentication())
	}
	service, err := df.NewService(context.WithoutCancel(ctx), options...)
	if err != nil {
		return rest{}, fmt.Errorf("credentials of Google Cloud: %w; log in by gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS", err)
	}
	return rest{project: project, region: region, jobs: service.Projects.Locations.Jobs, absence: absence}, nil
}

// Error is what a service of Google has refused, in a line.
type Error struct {
	// Code is the status of the reply, as that of HTTP.
	Code int
	// Status is Google's word for it, such as PERMISSION_DENIED.
	Status string
	// Message is what it has said.
	Message string
	// Reason is its word for why, such as SERVICE_DISABLED or quotaExceeded; "" where it has none.
	Reason string
	// Permission is the one that is missing, such as dataflow.jobs.create; "" where it is not named.
	Permission string
	// Service is the API that is asked, such as dataflow.googleapis.com; "" where it is not named.
	Service string
}

// Error returns code, status and message, and what to do where that is known.
func (e *Error) Error() string {
	text := fmt.Sprintf("%d %s: %s", e.Code, e.Status, e.Message)
	if hint := e.hint(); hint != "" {
		text += "; " + hint
	}
	return text
}

// quotas are the reasons that speak of one.
var quotas = []string{"quotaExceeded", "dailyLimitExceeded", "rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_QUOTA_EXCEEDED"}

// hint is what to do about it; "" where that is not known.
func (e *Error) hint() string {
	switch {
	case e.Code == http.StatusUnauthorized:
		return "the credentials are refused: log in by gcloud auth application-default login"
	case e.Code == http.StatusTooManyRequests || slices.Contains(quotas, e.Reason):
		return "a quota of the project is used up: wait, or ask for more of it"
	case e.Code != http.StatusForbidden:
		return ""
	case e.Reason == "SERVICE_DISABLED" || e.Reason == "accessNotConfigured":
		return fmt.Sprintf("the API is not enabled: gcloud services enable %s", cmp.Or(e.Service, "dataflow.googleapis.com"))
	case e.Permission != "":
		return fmt.Sprintf("whoever submits a job needs the permission %s: roles/dataflow.developer has those of jobs, roles/storage.objectAdmin those of objects", e.Permission)
	}
	return "whoever submits a job needs the role roles/dataflow.developer and objects of staging_location, and the project the Dataflow API enabled"
}

// permissions are named in messages in two ways: "Permission 'a.b.c' denied" and "does not have a.b.c access".
var permissions = regexp.MustCompile(`(?:[Pp]ermission '?|does not have )([a-z]+\.[a-zA-Z]+\.[a-zA-Z]+)\b`)

// plain returns an error of Google's client libraries as an *Error, others as they are.
func plain(err error) error {
	var g *googleapi.Error
	if !errors.As(err, &g) {
		return err
	}
	e := &Error{Code: g.Code, Status: strings.ToUpper(http.StatusText(g.Code)), Message: strings.Join(strings.Fields(g.Message), " ")}
	var body struct {
		Error struct {
			Status  string `json:"status"`
			Details []struct {
				Reason   string            `json:"reason"`
				Metadata map[string]string `json:"metadata"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal([]byte(g.Body), &body) == nil && body.Error.Status != "" {
		e.Status = body.Error.Status
	}
	for _, d := range body.Error.Details {
		e.Reason = cmp.Or(e.Reason, d.Reason)
		e.Permission, e.Service = cmp.Or(e.Permission, d.Metadata["permission"]), cmp.Or(e.Service, d.Metadata["service"])
	}
	for _, item := range g.Errors {
		e.Reason = cmp.Or(e.Reason, item.Reason)
	}
	if found := permissions.FindStringSubmatch(e.Message); found != nil {
		e.Permission = cmp.Or(e.Permission, found[1])
	}
	if e.Message == "" {
		e.Message = "the reply has no more to say"
	}
	return e
}

// codeOf is the status of a reply, 0 where there is none.
func codeOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// passes tells whether an error may be gone when one asks again.
func passes(err error) bool {
	code := codeOf(err)
	return code == 0 || code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
}

func backoff() gax.Backoff {
	return gax.Backoff{Initial: 200 * time.Millisecond, Max: 10 * time.Second, Multiplier: 1.5}
}

// try does what can be done twice, until it is done, or refused, or has failed for too long.
func try[T any](ctx context.Context, r rest, do func(context.Context) (T, error)) (answer T, err error) {
	wait := backoff()
	for began := time.Now(); ; {
		if answer, err = do(ctx); err == nil {
			return answer, nil
		}
		err = plain(err)
		switch {
		case ctx.Err() != nil:
			return answer, context.Cause(ctx)
		case !passes(err):
			return answer, err
		case time.Since(began) > r.absence:
			return answer, fmt.Errorf("dataflow has not answered for %v: %w", r.absence, err)
		}
		slog.Debug("asking Dataflow again", "error", err)
		if err := pause(ctx, wait.Pause()); err != nil {
			return answer, err
		}
	}
}

// pause waits, and returns why it was given up, if it was.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// list returns the jobs of a name, all where it is "", and of a filter: ALL, ACTIVE or TERMINATED.
func (r rest) list(ctx context.Context, name, filter string) (all []*df.Job, err error) {
	for page := ""; ; {
		answer, err := try(ctx, r, func(ctx context.Context) (*df.ListJobsResponse, error) {
			call := r.jobs.List(r.project, r.region).Filter(filter).Context(ctx)
			if name != "" {
				call.Name(name)
			}
			if page != "" {
				call.PageToken(page)
			}
			return call.Do()
		})
		if err != nil {
			return nil, fmt.Errorf("jobs of project %s in %s: %w", r.project, r.region, err)
		}
		for _, j := range answer.Jobs {
			if name == "" || j.Name == name { // a service may know no names
				all = append(all, j)
			}
		}
		if page = answer.NextPageToken; page == "" {
			return all, nil
		}
	}
}

// get returns a job, with all that is known of it where whole.
func (r rest) get(ctx context.Context, id string, whole bool) (*df.Job, error) {
	view := "JOB_VIEW_SUMMARY"
	if whole {
		view = "JOB_VIEW_ALL"
	}
	j, err := try(ctx, r, func(ctx context.Context) (*df.Job, error) {
		return r.jobs.Get(r.project, r.region, id).View(view).Context(ctx).Do()
	})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	return j, nil
}

// ask asks a job to come into a state.
func (r rest) ask(ctx context.Context, id, state string) error {
	_, err := try(ctx, r, func(ctx context.Context) (*df.Job, error) {
		return r.jobs.Update(r.project, r.region, id, &df.Job{RequestedState: state}).Context(ctx).Do()
	})
	if err != nil {
		return fmt.Errorf("job %s: %w", id, err)
	}
	return nil
}

// messages returns what Dataflow has logged of a job since a time, in its order.
func (r rest) messages(ctx context.Context, id, since, least string) (all []*df.JobMessage, err error) {
	for page := ""; ; {
		answer, err := try(ctx, r, func(ctx context.Context) (*df.ListJobMessagesResponse, error) {
			call := r.jobs.Messages.List(r.project, r.region, id).MinimumImportance(least).Context(ctx)
			if since != "" {
				call.StartTime(since)
			}
			if page != "" {
				call.PageToken(page)
			}
			return call.Do()
		})
		if err != nil {
			return nil, fmt.Errorf("messages of job %s: %w", id, err)
		}
		all = append(all, answer.JobMessages...)
		if page = answer.NextPageToken; page == "" {
			break
		}
	}
	slices.SortStableFunc(all, func(x, y *df.JobMessage) int { return cmp.Compare(x.Time, y.Time) })
	return all, nil
}

func (r rest) metrics(ctx context.Context, id string) (*df.JobMetrics, error) {
	m, err := try(ctx, r, func(ctx context.Context) (*df.JobMetrics, error) {
		return r.jobs.GetMetrics(r.project, r.region, id).Context(ctx).Do()
	})
	if err != nil {
		return nil, fmt.Errorf("metrics of job %s: %w", id, err)
	}
	return m, nil
}
