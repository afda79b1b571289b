package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// kind is what a stream does, over and over.
type kind string

// The kinds. Those that cost little come more often.
const (
	keepAlive kind = "keep-alive"
	fresh     kind = "new connection"
	multiplex kind = "HTTP/2"
	events    kind = "events"
	messages  kind = "WebSocket"
	upload    kind = "upload"
	fetch     kind = "download"
	grpc      kind = "gRPC"
	blind     kind = "blind tunnel"
	cut       kind = "cut off" // connections that end in the middle of their beginning
)

var kinds = []kind{keepAlive, multiplex, events, messages, fresh, upload, fetch, grpc, blind, cut, keepAlive, multiplex, events, messages}

// requestTime is when a request must be over, whatever happens to it.
const requestTime = 90 * time.Second

// stream makes one request after the other.
type stream struct {
	child  *child
	n      int
	kind   kind
	rng    *rand.Rand
	client *http.Client
	asked  int
}

// shared are the clients that streams have in common: several over each connection
// of HTTP/2.
type shared struct{ h2 []*http.Client }

func newShared() *shared { return &shared{} }

// perConnection is how many streams share a connection of HTTP/2.
const perConnection = 8

func newClient(http2, again bool) *http.Client {
	// Proxy and roots are the environment's.
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: !again, DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetHTTP2(http2)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (sh *shared) client(s *stream) *http.Client {
	switch s.kind {
	case multiplex, grpc:
		if len(sh.h2) == 0 || s.n%perConnection == 0 {
			sh.h2 = append(sh.h2, newClient(true, true))
		}
		return sh.h2[len(sh.h2)-1]
	case fresh:
		return newClient(false, false)
	case events, fetch, upload:
		return newClient(s.n%2 == 0, true)
	}
	return newClient(false, true)
}

func (s *stream) play() {
	for {
		rest := s.child.enter(s)
		s.once(rest)
		s.child.leave(s)
		time.Sleep(time.Duration(s.rng.ExpFloat64() * float64(s.child.Pause)))
	}
}

// once makes one request, or cuts one off, and says what came of it.
func (s *stream) once(rest context.Context) {
	s.asked++
	c := &call{s: s, nonce: fmt.Sprintf("%s-s%d-%d", s.child.Run, s.n, s.asked), q: url.Values{}}
	hosts := []string{hostBearer, hostBearer, hostBasic, hostQuery, hostOAuth}
	if s.child.Account == "" {
		hosts = hosts[:4] // the default of the other provider is not its own
	}
	c.host = hosts[s.rng.IntN(len(hosts))]
	if s.kind == blind {
		c.host = hostBlind
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	abort := false
	switch chance := s.rng.IntN(100); {
	case s.kind == cut:
		s.cutOff(c)
		s.child.count("cut off while connecting", 1)
		return
	case chance < 8:
		abort = true
		defer time.AfterFunc(time.Duration(s.rng.IntN(80))*time.Millisecond, cancel).Stop()
	case chance < 14:
		c.do = []string{"reset", "half", "stall"}[s.rng.IntN(3)]
		c.q.Set("do", c.do)
	}
	if s.kind == events || s.kind == messages {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer context.AfterFunc(rest, stop)()
		defer stop()
	}
	c.spoilt = func() bool {
		return abort && ctx.Err() != nil || rest.Err() != nil && (s.kind == events || s.kind == messages)
	}
	if s.kind == upload && c.do != "" {
		// Whoever answers before it has read the whole body may close the connection
		// behind its answer. What must not be sent twice is not sent on that one.
		defer s.client.CloseIdleConnections()
	}
	from := time.Now()
	err := s.do(ctx, c)
	var wrong *answered
	switch {
	case err == nil && c.do != "":
		s.child.count("troubled requests", 1)
	case err == nil:
		s.child.count(string(s.kind), 1)
	case c.spoilt():
		s.child.count("cut off by the child", 1)
	case (c.do == "reset" || c.do == "half") && !errors.Is(err, context.DeadlineExceeded):
		s.child.count("cut off by the service", 1)
	default:
		f := &failure{
			Run: s.child.Run, Account: s.child.Account, Kind: s.kind, Host: c.host, Nonce: c.nonce, From: from, To: time.Now(),
			Error: err.Error(), Hung: errors.Is(err, context.DeadlineExceeded),
		}
		if errors.As(err, &wrong) {
			f.Status, f.Code = wrong.status, wrong.code
		}
		s.child.count("failed", 1)
		s.child.say(message{Failed: f})
	}
}

func (s *stream) do(ctx context.Context, c *call) error {
	switch s.kind {
	case events:
		return c.events(ctx)
	case messages:
		return c.messages(ctx)
	case upload:
		return c.upload(ctx)
	case fetch:
		return c.download(ctx)
	case grpc:
		return c.grpc(ctx)
	}
	if s.rng.IntN(4) == 0 {
		c.q.Set("echo", "1")
	}
	c.q.Set("pad", fmt.Sprint(s.rng.IntN(3000)))
	resp, err := c.ask(ctx, http.MethodGet, "get", nil)
	if err != nil {
		return err
	}
	return c.readJSON(resp, nil)
}
