package dataflowfake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/option"
)

// Options of a fake.
type Options struct {
	// Addr is HOST:PORT to listen at. Default: a free port of this machine.
	Addr string
	// StorageAddr is HOST:PORT for Cloud Storage. Default: a free port of this machine.
	StorageAddr string
	// Buckets are those that Cloud Storage has at the beginning.
	Buckets []string
	// PubSub is HOST:PORT of the Pub/Sub server that jobs read. Default: none.
	PubSub string
	// Dir is where binaries of workers are put. Default: a temporary folder, which is removed.
	Dir string
	// Env is added to the environment of workers.
	Env []string
	// Attempts are how often the work of a job is done that goes wrong. Default: 4.
	Attempts int
	// Idle has jobs without work: a batch is done at once, and a stream runs until it is asked to end. Nothing of what was staged is read.
	Idle bool
	// Launcher is the path of the program that stands for the images of Flex Templates. Default: none, they are refused.
	Launcher string
	// Output gets what workers and launchers print. Default: nobody does.
	Output io.Writer
}

// Server is a fake that runs.
type Server struct {
	options  Options
	dir      string
	listener net.Listener
	http     *http.Server
	gcs      *fakestorage.Server
	storage  *storage.Client
	prism    jobpb.JobServiceClient
	pool     *pool
	native   *nativePool
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex
	jobs   []*job // in the order of their creation
	faults []*Fault
	calls  map[string]int
}

// Start starts a fake. It runs until Close is called.
func Start(ctx context.Context, o Options) (s *Server, err error) {
	o.Attempts = cmp.Or(o.Attempts, 4)
	s = &Server{options: o, dir: o.Dir, calls: map[string]int{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("dataflow fake: %w", errors.Join(err, s.Close()))
		}
	}()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "backbone-dataflowfake-"); err != nil {
			return s, err
		}
	}
	if err := s.startStorage(ctx); err != nil {
		return s, err
	}
	if s.prism, err = prism.CreateJobServer(ctx, prism.Options{}); err != nil {
		return s, err
	}
	if s.pool, err = startPool(o); err != nil {
		return s, err
	}
	s.pool.env = append(s.pool.env, s.Env()...)
	if s.native, err = startNative(ctx); err != nil {
		return s, err
	}
	if s.listener, err = net.Listen("tcp", cmp.Or(o.Addr, "127.0.0.1:0")); err != nil {
		return s, err
	}
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		BaseContext: func(net.Listener) context.Context { return working },
	}
	s.running.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the fake of Dataflow has ended", "error", err)
		}
	})
	return s, nil
}

func (s *Server) startStorage(ctx context.Context) (err error) {
	host, port, err := net.SplitHostPort(cmp.Or(s.options.StorageAddr, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	o := fakestorage.Options{Scheme: "http", Host: host}
	if _, err := fmt.Sscan(port, &o.Port); err != nil {
		return fmt.Errorf("port of Cloud Storage: %w", err)
	}
	if s.gcs, err = fakestorage.NewServerWithOptions(o); err != nil {
		return fmt.Errorf("cloud storage: %w", err)
	}
	for _, name := range s.options.Buckets {
		s.gcs.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: name})
	}
	s.storage, err = storage.NewClient(ctx, option.WithEndpoint(s.gcs.URL()+"/storage/v1/"), option.WithoutAuthentication(), storage.WithJSONReads())
	return err
}

// Endpoint is the URL of the REST service.
func (s *Server) Endpoint() string { return "http://" + s.listener.Addr().String() + "/" }

// Env are the variables by which programs find what was started with the fake: NAME=VALUE.
func (s *Server) Env() []string {
	env := []string{"STORAGE_EMULATOR_HOST=" + strings.TrimPrefix(s.gcs.URL(), "http://")}
	if s.options.PubSub != "" {
		env = append(env, "PUBSUB_EMULATOR_HOST="+s.options.PubSub)
	}
	return env
}

// Storage is a client of Cloud Storage, which is closed with the fake.
func (s *Server) Storage() *storage.Client { return s.storage }

// Close cancels all jobs, and ends what was started.
func (s *Server) Close() error {
	var errs []error
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	s.mu.Lock()
	for _, j := range s.jobs {
		j.ask(stateCancelled)
	}
	s.mu.Unlock()
	if s.stop != nil {
		defer s.stop()
	}
	s.running.Wait()
	if s.native != nil {
		errs = append(errs, s.native.close())
	}
	if s.pool != nil {
		s.pool.close()
	}
	if s.storage != nil {
		errs = append(errs, s.storage.Close())
	}
	if s.gcs != nil {
		s.gcs.Stop()
	}
	if s.options.Dir == "" && s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// Workers returns the process ids of workers that run.
func (s *Server) Workers() []int { return s.pool.pids() }

// Requests returns the requests by which jobs were created, in their order, those included that were refused by an order.
func (s *Server) Requests() (all []*df.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		all = append(all, j.wanted())
	}
	return all
}

// Calls returns how often a call was made: create, get, list, update, messages, metrics.
func (s *Server) Calls(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}

// Fault is a failure of a call.
type Fault struct {
	// Call is create, get, list, update, messages or metrics.
	Call string
	// Code is the status of the reply. Default: there is none, the connection is cut.
	Code int
	// Status is Google's word for it, such as PERMISSION_DENIED. Default: that of Code.
	Status string
	// Message is what is wrong. Default: a word.
	Message string
	// Reason is Google's word for why, such as SERVICE_DISABLED, and Details what it says with that: permission, service. Default: none.
	Reason  string
	Details map[string]string
	// Done says that the call has had its effect: only its reply is lost.
	Done bool
	// Times is how often it happens; less than 0 is always. Default: 1.
	Times int
}

// Order has calls fail from now on.
func (s *Server) Order(f Fault) {
	f.Times = cmp.Or(f.Times, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal forgets what was ordered.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault returns what happens to a call; nil: nothing.
func (s *Server) fault(call string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[call]++
	for _, f := range s.faults {
		if f.Call == call && f.Times != 0 {
			f.Times--
			return f
		}
	}
	return nil
}

// statuses are Google's words for the codes of HTTP.
var statuses = map[int]string{
	400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS",
	429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}

// refusal is a reply that says what was wrong.
type refusal struct {
	code            int
	status, message string
	reason          string
	details         map[string]string
}

func (r *refusal) Error() string { return r.message }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, status: statuses[code], message: fmt.Sprintf(format, args...)}
}

// paths are those of jobs, of a region or of the whole project.
var paths = regexp.MustCompile(`^/v1b3/projects/([^/]+)(?:/locations/([^/]+))?/jobs(?:(:aggregated)|/([^/:]+)(?:/(messages|metrics))?)?$`)

// maxRequest bounds a request, as Dataflow does.
const maxRequest = 10 << 20

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if part := templatePaths.FindStringSubmatch(r.URL.Path); part != nil && r.Method == http.MethodPost {
		c := call{project: part[1], region: part[2], query: r.URL.Query()}
		answer, err := s.fromTemplate(c, part[3], http.MaxBytesReader(w, r.Body, maxRequest))
		reply(w, answer, err)
		return
	}
	part := paths.FindStringSubmatch(r.URL.Path)
	if part == nil {
		reply(w, nil, refuse(404, "there is no %s", r.URL.Path))
		return
	}
	c := call{project: part[1], region: part[2], id: part[4], query: r.URL.Query()}
	calls := map[string]func(call) (any, error){
		"POST ": s.create, "GET ": s.list, "GET :aggregated": s.list, "GET job": s.get, "PUT job": s.update, "GET messages": s.messages, "GET metrics": s.metrics,
	}
	names := map[string]string{
		"POST ": "create", "GET ": "list", "GET :aggregated": "list", "GET job": "get", "PUT job": "update", "GET messages": "messages", "GET metrics": "metrics",
	}
	key := r.Method + " " + part[3]
	if c.id != "" {
		key = r.Method + " " + cmp.Or(part[5], "job")
	}
	serve := calls[key]
	if serve == nil {
		reply(w, nil, refuse(404, "there is no %s of %s", r.Method, r.URL.Path))
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&c.body); err != nil && !errors.Is(err, io.EOF) {
		reply(w, nil, refuse(400, "invalid JSON payload received: %v", err))
		return
	}
	f := s.fault(names[key])
	var answer any
	var err error
	if f == nil || f.Done {
		answer, err = serve(c)
	}
	switch {
	case f == nil:
		reply(w, answer, err)
	case f.Code == 0:
		panic(http.ErrAbortHandler) // cuts the connection
	default:
		reply(w, nil, &refusal{
			code: f.Code, status: cmp.Or(f.Status, statuses[f.Code]), message: cmp.Or(f.Message, "as it was ordered"), reason: f.Reason, details: f.Details,
		})
	}
}

// call is what a request asks for.
type call struct {
	project, region, id string
	query               map[string][]string
	body                df.Job
}

func (c call) parameter(name string) string {
	if all := c.query[name]; len(all) > 0 {
		return all[0]
	}
	return ""
}

func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if err != nil {
		r := new(refusal)
		if !errors.As(err, &r) {
			r = &refusal{code: 500, status: statuses[500], message: err.Error()}
		}
		w.WriteHeader(r.code)
		said := map[string]any{"code": r.code, "message": r.message, "status": r.status}
		if r.reason != "" {
			said["details"] = []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": r.reason, "domain": "googleapis.com", "metadata": r.details}}
		}
		answer = map[string]any{"error": said}
	}
	_ = json.NewEncoder(w).Encode(answer) // who has asked may be gone
}

// names are what a job may be called, and what its labels may be.
var (
	names  = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,998}[a-z0-9])?$`)
	labels = regexp.MustCompile(`^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$`)
)

func check(c call) error {
	b := c.body
	switch {
	case !names.MatchString(b.Name):
		return refuse(400, "(fake): The workflow could not be created. Causes: (fake): Job name must match %s", names)
	case b.Type != "JOB_TYPE_BATCH" && b.Type != "JOB_TYPE_STREAMING":
		return refuse(400, "(fake): The workflow could not be created. Causes: (fake): Unknown job type %q", b.Type)
	case b.Environment == nil || len(b.Environment.WorkerPools) != 1 || len(b.Environment.SdkPipelineOptions) == 0:
		return refuse(400, "(fake): The workflow could not be created. Causes: (fake): environment is incomplete")
	case b.ProjectId != "" && b.ProjectId != c.project:
		return refuse(400, "(fake): The project of the job is %q, and that of the request %q", b.ProjectId, c.project)
	}
	for key, value := range b.Labels {
		if key == "" || !labels.MatchString(key) || !labels.MatchString(value) {
			return refuse(400, "(fake): The workflow could not be created. Causes: (fake): Invalid label %q: %q", key, value)
		}
	}
	return nil
}

func (s *Server) create(c call) (any, error) {
	c.region = cmp.Or(c.region, "us-central1")
	if err := check(c); err != nil {
		return nil, err
	}
	j, err := s.add(c, c.body.ReplaceJobId)
	if err != nil {
		return nil, err
	}
	s.running.Go(func() { s.run(j) })
	return j.view(false), nil
}

// add adds a job, which takes the place of another where replaces is the id of one.
func (s *Server) add(c call, replaces string) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var replaced *job
	for _, j := range s.jobs {
		if j.project != c.project || j.region != c.region {
			continue
		}
		switch {
		case c.body.ClientRequestId != "" && j.wanted().ClientRequestId == c.body.ClientRequestId && j.wanted().Name == c.body.Name:
			return nil, refuse(409, "(fake): The workflow could not be created because it was already created with the same client request id: %s", j.id)
		case j.id == replaces && replaces != "":
			replaced = j
		case j.wanted().Name == c.body.Name && !j.ended():
			return nil, refuse(409, "(fake): The workflow could not be created. Causes: (fake): There is already an active job named %s (%s). If you want to submit a second job, try again by setting a different name.", j.wanted().Name, j.id)
		}
	}
	if replaces != "" {
		switch {
		case replaced == nil:
			return nil, refuse(404, "(fake): Could not find job %s to replace", replaces)
		case replaced.ended() || replaced.wanted().Type != "JOB_TYPE_STREAMING" || c.body.Type != "JOB_TYPE_STREAMING":
			return nil, refuse(400, "(fake): The workflow could not be created. Causes: (fake): Job %s cannot be updated", replaced.id)
		}
	}
	j := newJob(fmt.Sprintf("%s-%d", time.Now().UTC().Format("2006-01-02_15_04_05"), len(s.jobs)+1), c, filepath.Join(s.dir, fmt.Sprint(len(s.jobs)+1)))
	j.replaces = replaced
	s.jobs = append(s.jobs, j)
	return j, nil
}

func (s *Server) list(c call) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list df.ListJobsResponse
	for _, j := range slices.Backward(s.jobs) {
		if j.project != c.project || c.region != "" && j.region != c.region {
			continue
		}
		ended := j.ended()
		if f := c.parameter("filter"); f == "ACTIVE" && ended || f == "TERMINATED" && !ended {
			continue
		}
		if name := c.parameter("name"); name != "" && name != j.wanted().Name {
			continue
		}
		list.Jobs = append(list.Jobs, j.view(false))
	}
	// Pages, as there are where there are many jobs.
	const page = 3
	var from int
	if _, err := fmt.Sscan(c.parameter("pageToken"), &from); err != nil && c.parameter("pageToken") != "" {
		return nil, refuse(400, "invalid page token")
	}
	list.Jobs = list.Jobs[min(from, len(list.Jobs)):]
	if len(list.Jobs) > page {
		list.Jobs, list.NextPageToken = list.Jobs[:page], fmt.Sprint(from+page)
	}
	return &list, nil
}

func (s *Server) find(c call) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.id == c.id && j.project == c.project && (c.region == "" || j.region == c.region) {
			return j, nil
		}
	}
	return nil, refuse(404, "(fake): Information about job %s could not be found in our system. Please double check the id and region.", c.id)
}

func (s *Server) get(c call) (any, error) {
	j, err := s.find(c)
	if err != nil {
		return nil, err
	}
	return j.view(c.parameter("view") == "JOB_VIEW_ALL"), nil
}

func (s *Server) update(c call) (any, error) {
	j, err := s.find(c)
	if err != nil {
		return nil, err
	}
	switch asked := c.body.RequestedState; {
	case asked != stateDrained && asked != stateCancelled:
		return nil, refuse(400, "(fake): A job cannot be asked to be %q", asked)
	case j.ended():
		return nil, refuse(400, "(fake): Cannot modify a terminated job.")
	case asked == stateDrained && j.wanted().Type != "JOB_TYPE_STREAMING":
		return nil, refuse(400, "(fake): Drain is only supported for streaming jobs.")
	default:
		j.ask(asked)
	}
	return j.view(false), nil
}

func (s *Server) messages(c call) (any, error) {
	j, err := s.find(c)
	if err != nil {
		return nil, err
	}
	return &df.ListJobMessagesResponse{JobMessages: j.said(c.parameter("startTime"), c.parameter("minimumImportance"))}, nil
}

func (s *Server) metrics(c call) (any, error) {
	j, err := s.find(c)
	if err != nil {
		return nil, err
	}
	updates, err := s.metricsOf(j)
	if err != nil {
		return nil, err
	}
	return &df.JobMetrics{MetricTime: time.Now().UTC().Format(time.RFC3339Nano), Metrics: updates}, nil
}
