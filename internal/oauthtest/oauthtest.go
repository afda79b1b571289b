// Package oauthtest has an authorization server that several packages are tested
// against: as strict about refresh tokens as one can be, in process, and with a
// switch for each way in which services go wrong. The certified servers of the
// test module are the judges of the protocol; this one counts.
package oauthtest

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Server is an authorization server with rotation and reuse detection, as
// strict as RFC 9700 wants it: a refresh token that comes a second time ends all
// tokens of its family. Unless Lenient is set: then one is taken again, as often as
// it comes, for as long as its successor was not used, as some servers allow.
type Server struct {
	*httptest.Server
	// URL is https://auth.example.com, which is found through Via.
	URL   string
	Via   string // address of a CONNECT proxy that leads to the server and nowhere else
	roots *x509.CertPool
	open  atomic.Int32 // tunnels

	mu       sync.Mutex
	Lenient  bool
	Silent   bool             // token answers have no expires_in
	Fail     http.HandlerFunc // answers token requests instead, unless nil
	Account  string
	codes    map[string]authCode
	Families map[string]*Family // by refresh token, old ones included
	access   map[string]*Family
	devices  map[string]string // code → "pending", "granted", "denied"
	calls    map[string]int    // token requests by grant_type, and paths
	Reused   int               // refresh tokens that came a second time
	Clients  map[string]string
	held     string      // grant type whose answers are held back
	arrived  chan func() // gets what releases one
}

type authCode struct{ challenge, redirect string }

// Family is one grant: its newest tokens, and whether it lives.
type Family struct {
	refresh, access, previous string
	revoked                   bool
}

// Secret is the client secret of the app "app".
const Secret = "canary-client-secret-0123456789"

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{
		Account: "octocat", codes: map[string]authCode{}, Families: map[string]*Family{}, access: map[string]*Family{},
		devices: map[string]string{}, calls: map[string]int{}, Clients: map[string]string{"app": Secret},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", s.revoke)
	mux.HandleFunc("POST /device", s.device)
	mux.HandleFunc("GET /userinfo", s.userinfo)
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // clients that are killed
	s.StartTLS()
	t.Cleanup(s.Close)
	s.roots = x509.NewCertPool()
	s.roots.AddCert(s.Certificate())
	s.URL = "https://auth.example.com"
	via, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = via.Close() })
	s.Via = via.Addr().String()
	go s.tunnel(via)
	return s
}

// Pool is what trusts the server; nil when there is none.
func (s *Server) Pool() *x509.CertPool {
	if s == nil {
		return nil
	}
	return s.roots
}

// Definition is a provider on the server, whose API is api.acme.example.
func (s *Server) Definition(extra string) []byte {
	return fmt.Appendf(nil, `{
		"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "oauth2", "flow": "pkce",
		"flows": ["pkce", "device_code"], "api_url": "api.acme.example",
		"oauth": {
			"authorization_url": "%[1]s/authorize", "token_url": "%[1]s/token", "revocation_url": "%[1]s/revoke",
			"device_authorization_url": "%[1]s/device", "scopes": ["read"], "apps_url": "https://acme.example/apps",
			"user_info": {"url": "%[1]s/userinfo", "id": "id", "label": ["login"]}%[2]s
		},
		"export": {"ACME_TOKEN": "ACCESS_TOKEN"}
	}`, s.URL, extra)
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return "canary_" + hex.EncodeToString(b[:])
}

// Consent is what the person's browser would bring back from the address.
func (s *Server) Consent(t testing.TB, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || address == "" {
		t.Fatalf("no address to consent at: %q, %v", address, err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("client_id") != "app" || q.Get("state") == "" {
		t.Fatalf("the authorization request is %s", u.RawQuery)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	code := random()
	s.codes[code] = authCode{q.Get("code_challenge"), q.Get("redirect_uri")}
	return url.Values{"code": {code}, "state": {q.Get("state")}}
}

func (s *Server) answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *Server) refuse(w http.ResponseWriter, code string) {
	s.answer(w, http.StatusBadRequest, map[string]any{"error": code})
}

// issue gives a family its next tokens, for a refresh token unless they are its
// first ones. The caller holds mu.
func (s *Server) issue(w http.ResponseWriter, f *Family, given string) {
	f.previous, f.refresh, f.access = given, random(), random()
	s.Families[f.refresh], s.access[f.access] = f, f
	body := map[string]any{"access_token": f.access, "refresh_token": f.refresh, "token_type": "Bearer", "scope": "read"}
	if !s.Silent {
		body["expires_in"] = 3600
	}
	s.answer(w, http.StatusOK, body)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	arrived := s.decideToken(rec, r)
	if arrived != nil {
		released := make(chan struct{})
		select {
		case arrived <- func() { close(released) }:
			<-released
		default:
		}
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// Hold has the next answer to a grant type wait, after the server has decided on
// it, until the function that arrived gets is called. "" ends that.
func (s *Server) Hold(grant string, arrived chan func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.arrived = grant, arrived
}

// decideToken answers a token request; it returns who is told before the answer
// is sent.
func (s *Server) decideToken(w http.ResponseWriter, r *http.Request) (arrived chan func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	grant := r.PostFormValue("grant_type")
	s.calls[grant]++
	if s.held != "" && s.held == grant {
		arrived = s.arrived
	}
	if s.Fail != nil {
		s.Fail(w, r)
		return arrived
	}
	if id := r.PostFormValue("client_id"); s.Clients[id] == "" || s.Clients[id] != r.PostFormValue("client_secret") {
		s.answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return arrived
	}
	switch grant {
	case "authorization_code":
		c, ok := s.codes[r.PostFormValue("code")]
		delete(s.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge || c.redirect != r.PostFormValue("redirect_uri") {
			s.refuse(w, "invalid_grant")
			return arrived
		}
		s.issue(w, &Family{}, "")
	case "refresh_token":
		given := r.PostFormValue("refresh_token")
		f := s.Families[given]
		switch {
		case f == nil || f.revoked:
			s.refuse(w, "invalid_grant")
		case given == f.refresh, s.Lenient && given == f.previous:
			s.issue(w, f, given)
		default:
			s.Reused++
			f.revoked = true
			s.refuse(w, "invalid_grant")
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		switch s.devices[r.PostFormValue("device_code")] {
		case "granted":
			delete(s.devices, r.PostFormValue("device_code"))
			s.issue(w, &Family{}, "")
		case "denied":
			s.refuse(w, "access_denied")
		case "pending":
			s.refuse(w, "authorization_pending")
		default:
			s.refuse(w, "expired_token")
		}
	default:
		s.refuse(w, "unsupported_grant_type")
	}
	return arrived
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls["revoke"]++
	token := r.PostFormValue("token")
	if f := s.Families[token]; f != nil {
		f.revoked = true
	}
	delete(s.access, token)
	w.WriteHeader(http.StatusOK)
}

func (s *Server) device(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := random()
	s.devices[code] = "pending"
	s.answer(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": "WDJB-MJHT", "verification_uri": s.URL + "/activate", "expires_in": 900, "interval": 1,
	})
}

// Decide answers every pending device code.
func (s *Server) Decide(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code := range s.devices {
		s.devices[code] = how
	}
}

func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls["userinfo"]++
	if !s.accepts(r.Header.Get("Authorization")) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.answer(w, http.StatusOK, map[string]any{"id": "id-" + s.Account, "login": s.Account})
}

// accepts reports whether a resource would take the header. The caller holds mu.
func (s *Server) accepts(header string) bool {
	f := s.access[trimBearer(header)]
	return f != nil && !f.revoked
}

func trimBearer(header string) string {
	const scheme = "Bearer "
	if len(header) > len(scheme) && header[:len(scheme)] == scheme {
		return header[len(scheme):]
	}
	return ""
}

// Valid is accepts for those who do not hold mu.
func (s *Server) Valid(header string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepts(header)
}

// Count is how many token requests of a grant type, or requests of a path, came.
func (s *Server) Count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[what]
}

// Set changes how the server behaves.
func (s *Server) Set(change func(s *Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// Trusting is a TLS configuration for clients of a server.
func Trusting(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// Elsewhere stands for a server of another process: only its certificate and the
// way to it are known.
func Elsewhere(roots *x509.CertPool, via string) *Server { return &Server{roots: roots, Via: via} }

// Proxy leads to the server, whatever the address; nil when there is none.
func (s *Server) Proxy() func(*url.URL) (*url.URL, error) {
	if s == nil {
		return nil
	}
	return func(*url.URL) (*url.URL, error) { return &url.URL{Scheme: "http", Host: s.Via}, nil }
}

// tunnel accepts CONNECTs until the listener closes.
func (s *Server) tunnel(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s.open.Add(1)
		go func() {
			defer s.open.Add(-1)
			defer func() { _ = c.Close() }()
			r := bufio.NewReader(c)
			req, err := http.ReadRequest(r)
			if err != nil || req.Method != http.MethodConnect {
				return
			}
			up, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
				return
			}
			defer func() { _ = up.Close() }()
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			go func() { _, _ = io.Copy(up, r); _ = up.(*net.TCPConn).CloseWrite() }()
			_, _ = io.Copy(c, up)
			// What a client sent before it was killed is answered all the same.
			_, _ = io.Copy(io.Discard, up)
		}()
	}
}

// Settle waits until every client has gone and what each has sent is answered. A
// client that stays would have it wait for ever.
func (s *Server) Settle() {
	for s.open.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
}
