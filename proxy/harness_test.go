package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/ca"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The secrets of the tests' accounts.
const (
	openaiKey   = "sk-real-openai"
	githubToken = "ghp_real"
	anthropic   = "sk-ant-real"
)

// account is one connection in the tests' broker.
type account struct {
	secret     string
	hosts      []string // approved at login; empty means all
	private    bool
	generation int64
	expired    bool
}

// broker is a small but whole Resolver: it routes with route.Table, fills the
// slots and remembers challenges, without a vault or a database.
type broker struct {
	t     testing.TB
	table *route.Table

	mu         sync.Mutex
	grants     map[string]*authsome.Grant // by token
	accounts   map[string]*account        // by provider
	challenged map[string]bool            // by repository
	asked      []*authsome.Request
	finished   []finished
	changed    chan struct{} // closed and replaced when finished grows
}

type finished struct {
	req *authsome.Request
	res *authsome.Resolution
	out authsome.Outcome
}

func (b *broker) Grant(token string) (*authsome.Grant, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.grants[token]
	return g, ok
}

func (b *broker) Host(g *authsome.Grant, host string, port int) authsome.HostVerdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.table.Host(host, port):
		return authsome.Intercept
	case g.Mode.Denies():
		return authsome.Refuse
	default:
		return authsome.Tunnel
	}
}

func (b *broker) Resolve(_ context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, req)
	if !b.alive(g) {
		return nil, authsome.E(authsome.Forbidden, "the run is over")
	}
	entry, result := b.table.Match(req.Host, req.Port, req.Method, req.Path)
	switch result {
	case route.Ambiguous:
		return nil, authsome.E(authsome.Ambiguous, "two providers claim it")
	case route.Matched:
	default:
		if g.Mode.Denies() {
			return nil, authsome.E(authsome.Forbidden, "no provider is for %s", req.Path)
		}
		return &authsome.Resolution{Verdict: authsome.Forward}, nil
	}
	a := b.accounts[entry.Provider]
	if a == nil {
		e := authsome.E(authsome.CredentialMissing, "nobody has logged in to %s", entry.Provider).WithHint("authsome login %s", entry.Provider)
		e.Provider = entry.Provider
		return nil, e
	}
	if a.expired {
		return nil, authsome.E(authsome.TokenExpired, "the login has expired").WithHint("authsome login %s --force", entry.Provider)
	}
	res := &authsome.Resolution{
		Verdict: authsome.Inject, Provider: entry.Provider, Connection: authsome.DefaultConnection,
		Private: a.private, Generation: a.generation,
		Strip: entry.Route.Strip,
	}
	for _, in := range entry.Route.Inject {
		res.Strip = append(res.Strip, in.Name)
		held := slices.ContainsFunc(req.Header[http.CanonicalHeaderKey(in.Name)], func(v string) bool {
			if raw, ok := strings.CutPrefix(v, "Basic "); ok {
				if text, err := base64.StdEncoding.DecodeString(raw); err == nil {
					v = string(text)
				}
			}
			return strings.Contains(v, authsome.Placeholder)
		})
		switch in.When {
		case authsome.OnPlaceholder:
			if !held {
				continue
			}
		case authsome.OnChallenge:
			if !held && !req.Challenged && !b.challenged[req.Repository] {
				return &authsome.Resolution{Verdict: authsome.Challenge, Provider: entry.Provider}, nil
			}
			b.challenged[req.Repository] = true
		}
		value := strings.ReplaceAll(in.Value, "{token}", a.secret)
		if in.Slot == authsome.SlotBasic {
			value = "Basic " + base64.StdEncoding.EncodeToString([]byte(value))
		}
		res.Set = append(res.Set, authsome.SetHeader{Name: in.Name, Value: authsome.NewSecret(value)})
	}
	if len(res.Set) == 0 {
		return &authsome.Resolution{Verdict: authsome.Forward}, nil
	}
	return res, nil
}

func (b *broker) Finish(_ *authsome.Grant, req *authsome.Request, res *authsome.Resolution, out authsome.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = append(b.finished, finished{req, res, out})
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *broker) Current(g *authsome.Grant, provider, _ string, generation int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.alive(g) {
		return false
	}
	a := b.accounts[provider]
	return provider == "" || a != nil && a.generation == generation
}

func (b *broker) alive(g *authsome.Grant) bool {
	for _, other := range b.grants {
		if other == g {
			return true
		}
	}
	return false
}

// routes replaces the table.
func (b *broker) routes(entries ...route.Entry) {
	b.t.Helper()
	table, err := route.NewTable(entries)
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.table = table
}

func (b *broker) set(provider string, a *account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a == nil {
		delete(b.accounts, provider)
		return
	}
	if old := b.accounts[provider]; old != nil {
		a.generation = old.generation + 1
	}
	b.accounts[provider] = a
}

func (b *broker) end(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.grants, token)
}

// ends waits until n requests have been finished and returns them all.
func (b *broker) ends(n int) []finished {
	b.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		b.mu.Lock()
		list, changed := slices.Clone(b.finished), b.changed
		b.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-changed:
		case <-timeout:
			b.t.Fatalf("%d requests were finished, want %d", len(list), n)
		}
	}
}

// counts are how often the broker was asked, and told of an end.
func (b *broker) counts() (asked, finished int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked), len(b.finished)
}

// internet is a CONNECT proxy in front of the tests' services: it stands where
// DNS and the network would be.
type internet struct {
	ln net.Listener

	mu       sync.Mutex
	services map[string]string // host:port → address
	dials    map[string]int
	auth     string // required user:password, or ""
	open     map[net.Conn]struct{}
}

func newInternet(t testing.TB) *internet {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &internet{ln: ln, services: map[string]string{}, dials: map[string]int{}, open: map[net.Conn]struct{}{}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go n.serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for c := range n.open {
			_ = c.Close()
		}
		n.open = nil
	})
	return n
}

// track has a connection closed at the end of the test; false when that is now.
func (n *internet) track(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == nil {
		return false
	}
	n.open[c] = struct{}{}
	return true
}

func (n *internet) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	if !n.track(c) {
		return
	}
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	n.mu.Lock()
	addr, known := n.services[req.Host]
	n.dials[req.Host]++
	want := n.auth
	n.mu.Unlock()
	if want != "" && req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(want)) {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if req.Method != http.MethodConnect {
		req.RequestURI = ""
		req.URL.Host = addr
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		res.Close = true
		_ = res.Write(c)
		return
	}
	if !known {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	up, err := net.Dial("tcp", addr)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer func() { _ = up.Close() }()
	if !n.track(up) {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, br)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, up)
	_ = c.(*net.TCPConn).CloseWrite()
	<-done
}

func (n *internet) add(host, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.services[host] = addr
}

func (n *internet) dialled(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[host]
}

func (n *internet) proxy(*url.URL) (*url.URL, error) {
	return &url.URL{Scheme: "http", Host: n.ln.Addr().String()}, nil
}

// world is a proxy with everything around it.
type world struct {
	t        testing.TB
	broker   *broker
	net      *internet
	proxy    *proxy.Proxy
	addr     string // of the proxy
	ours     *ca.Authority
	theirs   *ca.Authority // of the services
	upstream *ca.Issuer
	log      *strings.Builder
	stop     context.CancelFunc
	served   chan error
}

const token = "t0k_EN.x~y"

// option changes a world before it starts.
type option func(*world, *proxy.Config)

// direct has the proxy dial without the internet in between.
func direct(_ *world, c *proxy.Config) { c.Upstream.Proxy = nil }

var authorities = sync.OnceValues(func() (ours, theirs *ca.Authority) {
	now := time.Now()
	a, err := ca.New(now)
	if err != nil {
		panic(err)
	}
	b, err := ca.New(now)
	if err != nil {
		panic(err)
	}
	return a, b
})

func newWorld(t testing.TB, opts ...option) *world {
	t.Helper()
	w := &world{t: t, net: newInternet(t), log: &strings.Builder{}, served: make(chan error, 1)}
	w.ours, w.theirs = authorities()
	w.upstream = ca.NewIssuer(w.theirs)
	w.broker = &broker{
		t: t, grants: map[string]*authsome.Grant{}, accounts: map[string]*account{}, challenged: map[string]bool{},
		changed: make(chan struct{}),
	}
	w.broker.grants[token] = &authsome.Grant{
		ID: "run_1", Mode: authsome.ConnectedAllow, Program: "test",
		Identity: authsome.Identity{Vault: authsome.LocalVault, User: authsome.LocalUser},
	}
	w.broker.routes(bundled()...)
	w.broker.set("openai", &account{secret: openaiKey, private: true})
	w.broker.set("github", &account{secret: githubToken, private: true})
	w.broker.set("anthropic", &account{secret: anthropic, private: true})
	roots := pool(w.theirs)
	conf := proxy.Config{
		Resolver: w.broker, Issuer: ca.NewIssuer(w.ours), Upstream: proxy.Upstream{Proxy: w.net.proxy, Roots: roots},
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: w.log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, o := range opts {
		o(w, &conf)
	}
	w.proxy = proxy.New(conf)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() { w.served <- w.proxy.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = w.proxy.Shutdown(ctx)
	})
	return w
}

// bundled are the routes of the tests.
func bundled() []route.Entry {
	bearer := []authsome.Injection{{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"}}
	git := []authsome.Injection{{Slot: authsome.SlotBasic, Name: "Authorization", Value: "x-access-token:{token}", When: authsome.OnChallenge}}
	return []route.Entry{
		{Provider: "openai", Route: authsome.Route{Host: "api.openai.com", Inject: bearer}},
		{Provider: "github", Route: authsome.Route{Host: "api.github.com", Inject: bearer}},
		{Provider: "github", Route: authsome.Route{Host: "github.com", Inject: git}},
		{Provider: "anthropic", Route: authsome.Route{Host: "api.anthropic.com", Strip: []string{"Authorization"}, Inject: []authsome.Injection{
			{Slot: authsome.SlotHeader, Name: "X-Api-Key", Value: "{token}"},
		}}},
		{Provider: "openai", Route: authsome.Route{Host: "under_score.example.com", Inject: bearer}},
		{Provider: "openai", Route: authsome.Route{Host: "paths.example.com", Path: "/public", Inject: bearer}},
		{Provider: "openai", Route: authsome.Route{Host: "when.example.com", Inject: []authsome.Injection{
			{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}", When: authsome.OnPlaceholder},
		}}},
		{Provider: "nobody", Route: authsome.Route{Host: "api.nobody.example", Inject: bearer}},
	}
}

func pool(a *ca.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(a.CertPEM())
	return p
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// serve puts a TLS service at host:443 of the internet.
func (w *world) serve(host string, h http.HandlerFunc, change ...func(*httptest.Server)) *httptest.Server {
	w.t.Helper()
	return w.serveAt(host, 443, h, change...)
}

func (w *world) serveAt(host string, port int, h http.HandlerFunc, change ...func(*httptest.Server)) *httptest.Server {
	w.t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }}
	leaf, err := w.upstream.Leaf(host)
	if err != nil {
		w.t.Fatal(err)
	}
	srv.TLS.Certificates = []tls.Certificate{*leaf}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	for _, c := range change {
		c(srv)
	}
	srv.StartTLS()
	w.t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	w.net.add(net.JoinHostPort(host, strconv.Itoa(port)), srv.Listener.Addr().String())
	return srv
}

// protocols for client.
const (
	http1 = "http/1.1"
	http2 = "h2"
)

// client is a child's HTTP client.
func (w *world) client(proto string) *http.Client {
	tr := &http.Transport{
		Proxy:              http.ProxyURL(&url.URL{Scheme: "http", Host: w.addr, User: url.UserPassword("authsome", token)}),
		TLSClientConfig:    &tls.Config{RootCAs: pool(w.ours)},
		Protocols:          new(http.Protocols),
		DisableCompression: true,
	}
	tr.Protocols.SetHTTP1(proto == http1)
	tr.Protocols.SetHTTP2(proto == http2)
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get sends a request with headers, given as "Name: value".
func (w *world) get(c *http.Client, url string, headers ...string) *http.Response {
	w.t.Helper()
	return w.do(c, http.MethodGet, url, nil, headers...)
}

func (w *world) do(c *http.Client, method, url string, body io.Reader, headers ...string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func text(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// problem reads an answer of the proxy's own and holds it to its form.
func problem(t testing.TB, res *http.Response, status int, code string) map[string]any {
	t.Helper()
	body := text(t, res)
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("status %d, body %q: %v", res.StatusCode, body, err)
	}
	if res.StatusCode != status || got["error"] != code || res.Header.Get("Authsome-Error") != code || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v (header %q, type %q), want %d %s", res.StatusCode, got, res.Header.Get("Authsome-Error"), res.Header.Get("Content-Type"), status, code)
	}
	if m, _ := got["message"].(string); m == "" {
		t.Errorf("no message in %s", body)
	}
	return got
}

// echo answers with what it saw.
func echo(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(seen{r.Proto, r.Method, r.Host, r.RequestURI, r.Header})
}

type seen struct {
	Proto, Method, Host, URI string
	Header                   http.Header
}

func sawOf(t testing.TB, res *http.Response) seen {
	t.Helper()
	var s seen
	body := text(t, res)
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("status %d, body %q: %v", res.StatusCode, body, err)
	}
	return s
}

// dialProxy opens a raw connection to the proxy.
func (w *world) dialProxy() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// basic is the header with a token.
func basic(token string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("authsome:"+token)) + "\r\n"
}

// connect opens a tunnel by hand and returns it with the answer's status.
func (w *world) connect(target string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c := w.dialProxy()
	_, _ = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, basic(token))
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		w.t.Fatalf("CONNECT %s: %s", target, res.Status)
	}
	return c, br
}

// tunnel opens a tunnel and speaks TLS in it.
func (w *world) tunnel(target, serverName string, proto ...string) (*tls.Conn, *bufio.Reader) {
	w.t.Helper()
	raw, _ := w.connect(target)
	c := tls.Client(raw, &tls.Config{
		RootCAs: pool(w.ours), ServerName: serverName, NextProtos: proto,
	})
	if err := c.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// exchange writes a raw request and reads the answer.
func exchange(t testing.TB, c net.Conn, br *bufio.Reader, raw string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

type proxyConfig = proxy.Config

// withProxyUser puts a user into the URL of the upstream proxy.
func withProxyUser(user, password string) option {
	return func(w *world, c *proxy.Config) {
		c.Upstream.Proxy = func(*url.URL) (*url.URL, error) {
			return &url.URL{Scheme: "http", Host: w.net.ln.Addr().String(), User: url.UserPassword(user, password)}, nil
		}
	}
}

// only makes a service speak one protocol and refuse others.
func only(proto string) func(*httptest.Server) {
	return func(s *httptest.Server) {
		s.EnableHTTP2 = proto == http2
		s.TLS.NextProtos = []string{proto}
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(proto == http1)
		s.Config.Protocols.SetHTTP2(proto == http2)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
