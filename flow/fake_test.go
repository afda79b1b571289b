package flow

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// fake is a network of its own: a CONNECT proxy behind which TLS servers of any
// name stand, so that definitions are tested with the addresses that they have.
type fake struct {
	t     *testing.T
	proxy *httptest.Server
	roots *x509.CertPool
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey

	mu       sync.Mutex
	handlers map[string]http.Handler // "host" or "host/path"
	seen     []seen
}

// seen is a request that arrived.
type seen struct {
	method, url string
	header      http.Header
	body        string
}

func (s seen) form() url.Values {
	v, _ := url.ParseQuery(s.body)
	return v
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, handlers: map[string]http.Handler{}, roots: x509.NewCertPool()}
	var err error
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &f.key.PublicKey, f.key)
	if err != nil {
		t.Fatal(err)
	}
	if f.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	f.roots.AddCert(f.ca)
	f.proxy = httptest.NewServer(http.HandlerFunc(f.connect))
	t.Cleanup(f.proxy.Close)
	return f
}

// connect serves a tunnel.
func (f *fake) connect(w http.ResponseWriter, r *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	tunnel := tls.Server(conn, &tls.Config{GetCertificate: f.leaf})
	done := make(chan struct{})
	one := &oneListener{conn: closeTells{tunnel, sync.OnceFunc(func() { close(done) })}, done: done}
	_ = (&http.Server{Handler: http.HandlerFunc(f.serve), ErrorLog: nil}).Serve(one)
	<-done
}

func (f *fake) leaf(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{hello.ServerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if hello.ServerName == "" {
		template.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 7)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca, &f.key.PublicKey, f.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: f.key}, err
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.mu.Lock()
	f.seen = append(f.seen, seen{r.Method, "https://" + r.Host + r.URL.RequestURI(), r.Header, string(body)})
	h, ok := f.handlers[r.Host+r.URL.Path]
	if !ok {
		h, ok = f.handlers[r.Host]
	}
	f.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	h.ServeHTTP(w, r)
}

// handle serves "host" or "host/path".
func (f *fake) handle(at string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[at] = h
}

// requests gives what has arrived since the last call.
func (f *fake) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.seen
	f.seen = nil
	return out
}

// only is the one request that has arrived.
func (f *fake) only() seen {
	f.t.Helper()
	got := f.requests()
	if len(got) != 1 {
		f.t.Fatalf("%d requests arrived, want one: %v", len(got), got)
	}
	return got[0]
}

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// client reaches the network, on a clock that stands still.
func (f *fake) client() *Client {
	return New(Config{Proxy: f.via, Roots: f.roots, Now: func() time.Time { return testNow }})
}

func (f *fake) via(*url.URL) (*url.URL, error) { return url.Parse(f.proxy.URL) }

type oneListener struct {
	conn net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	var c net.Conn
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	return nil, io.EOF
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return l.conn.LocalAddr() }

type closeTells struct {
	net.Conn
	closed func()
}

func (c closeTells) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// says answers with a status, a content type and a body.
func says(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func saysJSON(status int, body string) http.HandlerFunc {
	return says(status, "application/json", body)
}

// server is an ordinary authorization server.
func server() Server {
	return Server{
		OAuth: authsome.OAuth{
			Issuer: "https://auth.example.com", AuthorizationURL: "https://auth.example.com/authorize", TokenURL: "https://auth.example.com/token",
			DeviceURL: "https://auth.example.com/device", RegistrationURL: "https://auth.example.com/register",
			RevocationURL: "https://auth.example.com/revoke", PKCE: true,
		},
		App:         authsome.OAuthClient{ID: "the-client", Secret: authsome.NewSecret(canarySecret)},
		RedirectURI: "http://127.0.0.1:7998/auth/callback/oauth",
	}
}

// The secrets of the tests. None may be in an error.
const (
	canarySecret   = "canaryClientSecret/q7Wv+3x"
	canaryCode     = "canaryCode-8Zk2Lm0Pq"
	canaryVerifier = "canaryVerifier-aZ81bY72cX63dW54eV45fU36gT27hS18iR09"
	canaryRefresh  = "canaryRefresh.5Tg9Hn1Bv"
	canaryAccess   = "canaryAccess_4Rf8Vb2Nm"
	canaryDevice   = "canaryDevice~6Yh0Uj3Ik"
	canaryState    = "canaryState-1Qa2Ws3Ed4Rf"
)

var canaries = []string{canarySecret, canaryCode, canaryVerifier, canaryRefresh, canaryAccess, canaryDevice, canaryState}

// secretFree fails the test when an error shows a part of a secret, however it
// is printed and unwrapped.
func secretFree(t *testing.T, err error, more ...string) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		text := fmt.Sprintf("%v %+v %#v %s", e, e, e, authsome.HintOf(e))
		for _, c := range append(more, canaries...) {
			for i := 0; i+secretWindow <= len(c); i++ {
				if strings.Contains(text, c[i:i+secretWindow]) {
					t.Fatalf("the error shows a part of a secret (%q): %s", c[i:i+secretWindow], text)
				}
			}
		}
	}
}

// wantError checks code, cause and text of an error, and that it is clean.
func wantError(t *testing.T, err error, code authsome.Code, cause error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	secretFree(t, err)
	if got := authsome.CodeOf(err); got != code {
		t.Errorf("code %s, want %s: %v", got, code, err)
	}
	for _, known := range []error{ErrInvalidGrant, ErrInvalidClient, ErrDenied, ErrExpired} {
		if errors.Is(err, known) != (known == cause) {
			t.Errorf("errors.Is(%q, %q) = %v", err, known, known != cause)
		}
	}
	for _, p := range parts {
		if !strings.Contains(err.Error()+" | "+authsome.HintOf(err), p) {
			t.Errorf("error %q (hint %q) lacks %q", err, authsome.HintOf(err), p)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r<>\x1b") || strings.HasSuffix(err.Error(), ".") || len(err.Error()) > 400 {
		t.Errorf("error is no clear line: %q", err)
	}
}
