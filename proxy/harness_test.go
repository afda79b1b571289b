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
	"os"
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

func TestMain(m *testing.M) {
	if os.Getenv(peerVariable) != "" {
		if err := playPeer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// The secrets of the tests' accounts.
const (
	openaiKey   = "sk-real-openai"
	githubToken = "ghp_real"
	anthropic   = "sk-ant-real"
)

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
		// The services of most tests tell what they saw.
		Unscrubbed: true,
	}
	w.broker.routes(bundled()...)
	w.broker.set("openai", &account{secret: openaiKey, private: true})
	w.broker.set("github", &account{secret: githubToken, private: true})
	w.broker.set("anthropic", &account{secret: anthropic, private: true})
	roots := pool(w.theirs)
	conf := proxy.Config{
		Resolver: w.broker, Issuer: issuer{ca.NewIssuer(w.ours)}, Upstream: proxy.Upstream{Proxy: w.net.proxy, Roots: roots},
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
	if f, _ := got["fix"].(string); f == "" {
		t.Errorf("no fix in %s", body)
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

// serveRaw puts a hand-made TLS service at host:443.
func (w *world) serveRaw(host string, handle func(*tls.Conn, *bufio.Reader)) {
	w.t.Helper()
	leaf, err := w.upstream.Leaf(host)
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				handle(c.(*tls.Conn), bufio.NewReader(c))
			}()
		}
	}()
	w.t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	w.net.add(net.JoinHostPort(host, "443"), ln.Addr().String())
}

// issuer is one authority for every grant.
type issuer struct{ *ca.Issuer }

func (i issuer) Leaf(_ *authsome.Grant, host string) (*tls.Certificate, error) {
	return i.Issuer.Leaf(host)
}
