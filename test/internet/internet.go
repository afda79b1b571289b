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
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
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

// Request is one request that arrived at a host.
type Request struct {
	Time   time.Time
	Host   string
	Method string
	Path   string // with the query
	Proto  string
	Header http.Header
	Body   []byte // the first 64 KiB
	Status int    // of the answer; 101 for an upgrade
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

// RootPEM is the private root that signs every server's certificate.
func (n *Internet) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.root.Raw})
}

// Client speaks to the hosts of this internet, and to nobody else.
func (n *Internet) Client() *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(n.root)
	proxy := &url.URL{Scheme: "http", Host: n.proxy.Addr().String()}
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
}

// Key is the fingerprint of the key that is in the certificate of every host
// (but of a distrusted one), as browsers pin it: base64 of the SHA-256 of the
// SubjectPublicKeyInfo.
func (n *Internet) Key() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&n.leafKey.PublicKey)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// Close ends everything.
func (n *Internet) Close() {
	_ = n.proxy.Close()
	_ = n.srv.Close()
	_ = n.inner.Close()
	n.servers.Wait()
}

// Watch has f called with every request when it has been answered. Call it
// before the first request.
func (n *Internet) Watch(f func(Request)) { n.watch = f }

// Distrust has a host show a certificate that nobody signed but itself.
func (n *Internet) Distrust(host string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := leafTemplate(host, big.NewInt(2))
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaves[host] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return nil
}

// Trust has it show a good one again.
func (n *Internet) Trust(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.leaves, host)
}

// HangUp has every host close the connections on which nothing is under way, as
// servers do after a while.
func (n *Internet) HangUp() {
	n.srv.SetKeepAlivesEnabled(false)
	n.srv.SetKeepAlivesEnabled(true)
}

// Quiet stops the recording, for measurements.
func (n *Internet) Quiet() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.quiet, n.requests, n.dialled = true, nil, nil
}

// noise is what the server says of connections that go wrong.
type noise struct{ n *Internet }

func (o noise) Write(b []byte) (int, error) {
	o.n.mu.Lock()
	quiet := o.n.quiet
	o.n.mu.Unlock()
	if quiet {
		return len(b), nil
	}
	return os.Stderr.Write(b)
}

// Requests are those that arrived at host so far, "" for all hosts.
func (n *Internet) Requests(host string) []Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Request
	for _, r := range n.requests {
		if host == "" || r.Host == host {
			out = append(out, r)
		}
	}
	return out
}

// Forget empties the record of requests.
func (n *Internet) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests, n.dialled = nil, nil
}

// Dialled are the hosts that were asked for by CONNECT, unknown ones too.
func (n *Internet) Dialled() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.dialled...)
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

func (n *Internet) makeRoot() error {
	var err error
	if n.rootKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	if n.leafKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake internet root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &n.rootKey.PublicKey, n.rootKey)
	if err != nil {
		return err
	}
	n.root, err = x509.ParseCertificate(der)
	return err
}

func leafTemplate(host string, serial *big.Int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

func (n *Internet) leaf(host string) (*tls.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.leaves[host]; c != nil {
		return c, nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leafTemplate(host, serial), n.root, &n.leafKey.PublicKey, n.rootKey)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: n.leafKey}
	n.leaves[host] = c
	return c, nil
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

// prefix keeps the beginning of a body.
type prefix struct {
	rc io.ReadCloser
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *prefix) Read(b []byte) (int, error) {
	n, err := p.rc.Read(b)
	p.mu.Lock()
	if room := 64<<10 - p.b.Len(); room > 0 {
		p.b.Write(b[:min(n, room)])
	}
	p.mu.Unlock()
	return n, err
}

func (p *prefix) Close() error { return p.rc.Close() }

func (p *prefix) bytes() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.b.Bytes())
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	sent int
}

func (s *statusWriter) WriteHeader(code int) {
	if s.sent == 0 || s.sent < 200 {
		s.sent = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *statusWriter) code() int {
	if s.sent == 0 {
		return 200
	}
	return s.sent
}

// Unwrap lets http.ResponseController find what the writer can do.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack implements http.Hijacker for upgrades.
func (s *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := s.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot be taken over")
	}
	s.sent = http.StatusSwitchingProtocols
	return h.Hijack()
}

// Flush implements http.Flusher.
func (s *statusWriter) Flush() {
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// WaitFor waits until a request for which f is true has arrived at host.
func (n *Internet) WaitFor(ctx context.Context, host string, f func(Request) bool) (Request, error) {
	for {
		for _, r := range n.Requests(host) {
			if f(r) {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return Request{}, fmt.Errorf("no such request arrived at %s: %w", host, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
