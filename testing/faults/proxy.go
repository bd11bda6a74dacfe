package faults

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
)

// Proxy stands between an HTTP client and its server, and breaks writes (all requests but GET, HEAD and DELETE).
//
// What is to happen to writes is queued by Answer, DropReplies, CutBodies and Hold; writes that come after the queue is empty pass.
type Proxy struct {
	server *httptest.Server

	mu     sync.Mutex
	queue  []action
	always action // when the queue is empty; nil passes
	writes int
	random *random                    // nil: nothing fails at random
	hold   func(r *http.Request) bool // nil: nothing is held by what it is
	failed int
}

// random is what fails without being asked for by name.
type random struct {
	rand  *rand.Rand
	share float64
}

// action handles a write; pass forwards it.
type action func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// InFront starts a proxy in front of the object store of a lake, which is closed at the end of the test, and returns the lake's URL through the proxy.
//
// For s3:// it replaces the endpoint in the URL; for gs:// it sets STORAGE_EMULATOR_HOST, so the test cannot be parallel.
func InFront(t testing.TB, lake string) (proxied string, p *Proxy) {
	t.Helper()
	u, err := url.Parse(lake)
	if err != nil {
		t.Fatal(err)
	}
	switch query := u.Query(); u.Scheme {
	case "gs":
		const env = "STORAGE_EMULATOR_HOST"
		p = newProxy(t, os.Getenv(env))
		t.Setenv(env, p.server.URL)
	case "s3":
		p = newProxy(t, query.Get("endpoint"))
		query.Set("endpoint", p.server.URL)
		u.RawQuery = query.Encode()
	default:
		t.Fatalf("no network in front of %q", lake)
	}
	return u.String(), p
}

func newProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		t.Fatalf("proxy to %q: not the URL of a server: %v", target, err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	pass := &httputil.ReverseProxy{
		// The Host stays that of the client: it may be signed.
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host },
		Transport: transport,
		// No answer is made up for a connection that broke.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p := &Proxy{}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if act := p.next(r); act != nil {
			act(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *Proxy) next(r *http.Request) action {
	if act := p.nextRandom(); act != nil {
		return act
	}
	if p.holds(r) {
		return held
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	if len(p.queue) == 0 {
		return p.always
	}
	act := p.queue[0]
	p.queue = p.queue[1:]
	return act
}

// add queues an action n times; a negative n is for ever.
func (p *Proxy) add(n int, act action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 0 {
		p.always = act
	}
	for range n {
		p.queue = append(p.queue, act)
	}
}

// Writes returns how many writes have come.
func (p *Proxy) Writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes
}

// Heal forgets all that was queued, FailAtRandom and HoldWhere.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue, p.always, p.random, p.hold = nil, nil, nil, nil
}

// FailAtRandom makes a share of all requests, reads too, go wrong: the answer is 429 or 503, or the connection is
// cut in the middle of the body or after the server has acted.
func (p *Proxy) FailAtRandom(r *rand.Rand, share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.random = &random{r, share}
}

// Failed returns how many requests went wrong at random.
func (p *Proxy) Failed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *Proxy) nextRandom() action {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.random == nil || p.random.rand.Float64() >= p.random.share {
		return nil
	}
	p.failed++
	return []action{answer(http.StatusTooManyRequests), answer(http.StatusServiceUnavailable), cutBody, dropReply}[p.random.rand.IntN(4)]
}

// Answer answers n writes (for ever if negative) with an HTTP status; the server does not see them.
func (p *Proxy) Answer(n, status int) { p.add(n, answer(status)) }

// DropReplies lets n writes (for ever if negative) reach the server, and cuts the connection instead of a reply.
func (p *Proxy) DropReplies(n int) { p.add(n, dropReply) }

// CutBodies breaks n writes (for ever if negative) off after half of their body, towards both sides.
func (p *Proxy) CutBodies(n int) { p.add(n, cutBody) }

func answer(status int) action {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body) // The client may not read an answer before it has written all.
		writeError(w, r, status)
	}
}

func dropReply(_ http.ResponseWriter, r *http.Request, pass http.Handler) {
	pass.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func cutBody(_ http.ResponseWriter, r *http.Request, pass http.Handler) {
	r.Body = &half{ReadCloser: r.Body, left: r.ContentLength / 2}
	pass.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// Hold keeps the next write from the server until its client gives up, and closes arrived once it has come.
func (p *Proxy) Hold() (arrived <-chan struct{}) {
	came := make(chan struct{})
	p.add(1, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		close(came)
		held(w, r, pass)
	})
	return came
}

// HoldWhere keeps requests of any kind from the server until their clients give up, if which is true of them. It is asked about all
// requests, one at a time.
func (p *Proxy) HoldWhere(which func(r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = which
}

func (p *Proxy) holds(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hold != nil && p.hold(r)
}

func held(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // Only then the server notices that a client has gone.
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// half is a body that breaks.
type half struct {
	io.ReadCloser
	left int64
}

func (h *half) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, errors.New("cut")
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

// writeError answers in the words of the service that the client speaks to.
func writeError(w http.ResponseWriter, r *http.Request, status int) {
	if strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-") {
		code := map[int]string{
			http.StatusConflict:           "ConditionalRequestConflict",
			http.StatusPreconditionFailed: "PreconditionFailed",
			http.StatusTooManyRequests:    "SlowDown",
			http.StatusServiceUnavailable: "ServiceUnavailable",
			http.StatusForbidden:          "AccessDenied",
		}[status]
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, http.StatusText(status))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"code":%d,"message":%q}}`, status, http.StatusText(status))
}
