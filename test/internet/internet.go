// Package internet is a small internet of our own: one CONNECT proxy in front
// of TLS servers for api.openai.com, api.github.com, github.com and others,
// with a private root. Names exist inside it only, and it dials nothing real.
//
// The product is pointed at it with HTTPS_PROXY and SSL_CERT_FILE of an
// explicit `authsome daemon serve`, as a company's network would be, so no part
// of the product knows that it is being tested. Every request that arrives is
// recorded, for tests to ask what the real host would have seen.
package internet

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Credentials are what the services accept. A service whose credential is
// empty refuses everybody.
type Credentials struct {
	OpenAI    string
	Anthropic string
	GitHub    []string // tokens; the first is octocat's, the second hubot's
	Gemini    string
	Packages  string // for PackagesHost
}

// Internet is running from Start to Close.
type Internet struct {
	cred    Credentials
	root    *x509.Certificate
	rootKey *ecdsa.PrivateKey
	leafKey *ecdsa.PrivateKey
	proxy   net.Listener
	inner   *chanListener
	servers sync.WaitGroup
	srv     *http.Server
	hosts   map[string]http.Handler
	repos   *repositories
	model   *model
	oauth   map[string]*OAuth
	app     *gitHubApp
	robot   *signer

	mu       sync.Mutex
	replaced map[string]http.Handler // by host and path
	raw      map[string]func(net.Conn)
	leaves   map[string]*tls.Certificate
	requests []Request
	dialled  []string // hosts of CONNECT requests, unknown ones too
	watch    func(Request)
	quiet    bool
}

// Start makes an internet. dir is where it keeps its git repositories.
func Start(dir string, cred Credentials) (*Internet, error) {
	n := &Internet{cred: cred, leaves: map[string]*tls.Certificate{}, inner: newChanListener(), model: newModel()}
	if err := n.makeRoot(); err != nil {
		return nil, err
	}
	var err error
	if n.repos, err = makeRepositories(dir); err != nil {
		return nil, err
	}
	github, enterprise := newGitHub("github.com"), newGitHub("ghe.example.com")
	google, notion, slack := newGoogle(), newNotion(), newSlack()
	n.oauth = map[string]*OAuth{
		"github.com": github, "ghe.example.com": enterprise, "accounts.google.com": google, "api.notion.com": notion, "slack.com": slack,
	}
	n.replaced = map[string]http.Handler{}
	n.hosts = map[string]http.Handler{
		"api.openai.com":            n.openai(),
		"chatgpt.com":               http.HandlerFunc(refuse),
		"api.anthropic.com":         n.anthropic(),
		"platform.claude.com":       http.HandlerFunc(n.hello),
		"api.github.com":            n.gitHubAPI(github, ""),
		"github.com":                n.githubGit(github),
		"ghe.example.com":           n.gitHubEnterprise(enterprise, "ghe.example.com"),
		"api.notion.com":            n.notion(notion),
		"slack.com":                 n.slack(slack),
		"echo.example.com":          echo(),
		PackagesHost:                n.packages(),
		"raw.githubusercontent.com": http.HandlerFunc(refuse),
		"ab.chatgpt.com":            http.HandlerFunc(refuse),
	}
	n.googleHosts(google)
	n.hosts["generativelanguage.googleapis.com"] = n.gemini()
	n.AddMCP(MCP{Host: "mcp.example.com", Path: "/mcp", Server: "mcp-auth.example.com"})
	if n.proxy, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	n.srv = &http.Server{
		Handler:           http.HandlerFunc(n.serve),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(noise{n}, "", log.LstdFlags),
	}
	n.servers.Add(2)
	go func() { defer n.servers.Done(); _ = n.srv.Serve(n.inner) }()
	go func() { defer n.servers.Done(); n.accept() }()
	return n, nil
}

// Proxy is the URL for HTTPS_PROXY.
func (n *Internet) Proxy() string { return "http://" + n.proxy.Addr().String() }

// Client speaks to the hosts of this internet, and to nobody else.
func (n *Internet) Client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(n.root)
	proxy := &url.URL{Scheme: "http", Host: n.proxy.Addr().String()}
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
}

// Close ends everything.
func (n *Internet) Close() {
	_ = n.proxy.Close()
	_ = n.srv.Close()
	_ = n.inner.Close()
	n.servers.Wait()
}

// HangUp has every host close the connections on which nothing is under way, as
// servers do after a while.
func (n *Internet) HangUp() {
	n.srv.SetKeepAlivesEnabled(false)
	n.srv.SetKeepAlivesEnabled(true)
}

// Handle adds a host, or replaces one.
func (n *Internet) Handle(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = h
}

// Replace has one path of a host answered by h, until h is nil. What was there
// before is reached by Handler.
func (n *Internet) Replace(host, path string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h == nil {
		delete(n.replaced, host+path)
		return
	}
	n.replaced[host+path] = h
}

// Handler is what answers for a host but for replaced paths; nil when there is
// none.
func (n *Internet) Handler(host string) http.Handler { return n.handler(host) }

func (n *Internet) handler(host string) http.Handler {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[host]
}

func refuse(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, `{"error":"not here"}`, http.StatusForbidden)
}

// unknown answers for plain http to a host that does not exist, as a company's
// proxy would.
func unknown(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no such host", http.StatusBadGateway)
}

// serve records a request and hands it to its host.
func (n *Internet) serve(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	n.mu.Lock()
	quiet := n.quiet
	n.mu.Unlock()
	if quiet {
		if h := n.handler(host); h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	rec := Request{
		Time: time.Now(), Host: host, Method: r.Method, Path: r.URL.RequestURI(), Proto: r.Proto, Header: r.Header.Clone(),
	}
	body := &prefix{rc: r.Body}
	r.Body = body
	sw := &statusWriter{ResponseWriter: w}
	n.mu.Lock()
	at := len(n.requests)
	n.requests = append(n.requests, rec)
	n.mu.Unlock()
	h := n.handler(host)
	if h == nil {
		h = http.HandlerFunc(unknown)
	}
	n.mu.Lock()
	if other := n.replaced[host+r.URL.Path]; other != nil {
		h = other
	}
	n.mu.Unlock()
	h.ServeHTTP(sw, r)
	rec.Body, rec.Status = body.bytes(), sw.code()
	n.mu.Lock()
	if at < len(n.requests) && n.requests[at].Time.Equal(rec.Time) {
		n.requests[at] = rec
	}
	watch := n.watch
	n.mu.Unlock()
	if watch != nil {
		watch(rec)
	}
}

// accept serves the proxy: CONNECT to a host that exists is answered by that
// host's own TLS, everything else by 502.
func (n *Internet) accept() {
	for {
		conn, err := n.proxy.Accept()
		if err != nil {
			return
		}
		go n.connect(conn)
	}
}

func (n *Internet) connect(conn net.Conn) {
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		_ = conn.Close()
		return
	}
	if req.Method != http.MethodConnect {
		n.plain(conn, br, req)
		return
	}
	host, port, err := net.SplitHostPort(req.Host)
	n.mu.Lock()
	if !n.quiet {
		n.dialled = append(n.dialled, strings.ToLower(host))
	}
	n.mu.Unlock()
	if err != nil || n.handler(strings.ToLower(host)) == nil || port != "443" {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nX-Internet: no such host\r\n\r\n")
		_ = conn.Close()
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	host = strings.ToLower(host)
	if serve := n.rawHost(host); serve != nil {
		n.serveRaw(&buffered{conn, br}, host, serve)
		return
	}
	n.inner.offer(tls.Server(&buffered{conn, br}, &tls.Config{
		NextProtos: []string{"h2", "http/1.1"},
		// Whoever has one shows it; what it is worth is for the host to say.
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return n.leaf(host)
		},
	}))
}

// plain answers absolute-form http requests, which carry no TLS.
func (n *Internet) plain(conn net.Conn, br *bufio.Reader, req *http.Request) {
	defer func() { _ = conn.Close() }()
	for {
		if req.Body == nil {
			req.Body = http.NoBody
		}
		rw := &memory{header: http.Header{}}
		n.serve(rw, req)
		resp := &http.Response{
			StatusCode: rw.status(), ProtoMajor: 1, ProtoMinor: 1, Header: rw.header,
			Body: io.NopCloser(&rw.body), ContentLength: int64(rw.body.Len()),
		}
		if err := resp.Write(conn); err != nil {
			return
		}
		var err error
		if req, err = http.ReadRequest(br); err != nil {
			return
		}
	}
}

// memory is an http.ResponseWriter that keeps the answer.
type memory struct {
	header http.Header
	sent   int
	body   bytes.Buffer
}

func (m *memory) Header() http.Header { return m.header }
func (m *memory) WriteHeader(code int) {
	if m.sent == 0 {
		m.sent = code
	}
}
func (m *memory) Write(b []byte) (int, error) { m.WriteHeader(200); return m.body.Write(b) }
func (m *memory) status() int {
	if m.sent == 0 {
		return 200
	}
	return m.sent
}

// buffered is a connection whose first bytes were read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// SetLinger lets a handler that has taken the connection over reset it.
func (b *buffered) SetLinger(sec int) error {
	c, ok := b.Conn.(*net.TCPConn)
	if !ok {
		return errors.ErrUnsupported
	}
	return c.SetLinger(sec)
}

// chanListener turns connections into a net.Listener's.
type chanListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newChanListener() *chanListener {
	return &chanListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *chanListener) offer(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		_ = c.Close()
	}
}

func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *chanListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *chanListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
