// Package oauthserver runs a real authorization server for tests: oidc-provider,
// which is certified, in a Node process of its own that ends with the test.
//
// It speaks plain HTTP on a free port of 127.0.0.1. To be found by the product,
// which trusts https only, it is put behind a name of the fake internet:
//
//	s, err := oauthserver.Start(oauthserver.Config{Host: "auth.example.com", Device: true})
//	n.Handle("auth.example.com", s)
//
// What tests ask of it and have it do (Stats, Tokens, ForgetClient, …) goes
// through the process's standard input and output, so that nobody who speaks
// HTTP can.
package oauthserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Config says what kind of server it is. The zero value has authorization codes
// with refresh tokens that do not rotate, and revocation.
type Config struct {
	// Host is the name that it has in the fake internet; the issuer is then
	// https://Host. "" makes the issuer the plain address on 127.0.0.1.
	Host string `json:"-"`
	// Clients are those that it knows from the start.
	Clients []Client `json:"clients,omitempty"`

	PKCE bool `json:"pkce"` // required of every client; public clients always need it
	// Registration lets anybody register (RFC 7591) at /reg.
	Registration bool `json:"registration"`
	// ClientDocuments lets the address of a metadata document be a client's id;
	// these are the documents that exist, by their addresses.
	ClientDocuments map[string]string `json:"documents,omitempty"`
	// AuthMethods are the token endpoint's; nil is client_secret_basic,
	// client_secret_post, private_key_jwt and none.
	AuthMethods []string `json:"auth_methods,omitempty"`

	Device            bool `json:"device"`                    // RFC 8628
	DeviceInterval    int  `json:"device_interval,omitempty"` // seconds between polls; 0 names none, which means 5
	DeviceSeconds     int  `json:"device_seconds,omitempty"`  // until the code expires; 0 is 600
	ClientCredentials bool `json:"client_credentials"`

	Refresh Refresh `json:"refresh,omitempty"`
	// Rotate gives a new refresh token at each use. One that is used twice ends
	// the whole grant, however close the two requests are.
	Rotate         bool `json:"rotate"`
	AccessSeconds  int  `json:"access_seconds,omitempty"`  // 0 is an hour
	RefreshSeconds int  `json:"refresh_seconds,omitempty"` // 0 is more than a year
	CodeSeconds    int  `json:"code_seconds,omitempty"`    // 0 is a minute

	// NoRevocation takes the revocation endpoint away (RFC 7009).
	NoRevocation bool `json:"no_revocation"`
	// Resources are the resource indicators that it knows (RFC 8707); with
	// RequireResource every request has to name one.
	Resources       []string `json:"resources,omitempty"`
	RequireResource bool     `json:"require_resource"`
	// Scopes besides openid, offline_access, email and profile; nil is read and
	// write.
	Scopes []string `json:"scopes,omitempty"`
}

// Refresh says who gets refresh tokens.
type Refresh string

// The rules.
const (
	RefreshAlways  Refresh = ""        // every client that may use them
	RefreshOffline Refresh = "offline" // with the scope offline_access, which needs prompt=consent
	RefreshNever   Refresh = "never"
)

// Client is a client's metadata by the names of RFC 7591; a missing
// token_endpoint_auth_method is client_secret_basic. See NewClient.
type Client map[string]any

// Redirect is the redirect URI that people register for authsome.
const Redirect = "http://127.0.0.1:7998/auth/callback/oauth"

// NewClient is a client with a secret, for codes, refresh tokens and devices.
// method is its way to authenticate at the token endpoint, "" for
// client_secret_post; "none" makes it public.
func NewClient(id, secret, method string, redirects ...string) Client {
	if method == "" {
		method = "client_secret_post"
	}
	c := Client{
		"client_id": id, "token_endpoint_auth_method": method,
		"grant_types":    []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "redirect_uris": append([]string{Redirect}, redirects...),
	}
	if method != "none" && method != "private_key_jwt" {
		c["client_secret"] = secret
	}
	return c
}

// With sets one more value of the metadata.
func (c Client) With(name string, value any) Client { c[name] = value; return c }

// Grants sets the grant types.
func (c Client) Grants(types ...string) Client { return c.With("grant_types", types) }

// Grant types, as requests and the metadata of clients name them.
const (
	GrantCode    = "authorization_code"
	GrantRefresh = "refresh_token"
	GrantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
	GrantClient  = "client_credentials"
)

// Server is running from Start to Close.
type Server struct {
	issuer  string
	address string
	cmd     *exec.Cmd
	front   http.Handler

	mu  sync.Mutex // held over one question and its answer
	n   int
	in  io.WriteCloser
	out *bufio.Reader
	err lockedBuffer
}

// Start starts the server. Without Node or oidc-provider the error is
// ErrNotInstalled.
func Start(c Config) (*Server, error) {
	dir, err := npm()
	if err != nil {
		return nil, err
	}
	s := &Server{cmd: exec.Command(node(dir), filepath.Join(dir, "oauthserver.mjs"))}
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NODE_ENV=test"}
	s.cmd.Stderr = &s.err
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if c.Host != "" {
		s.issuer = "https://" + c.Host
	}
	var up struct{ Address, Issuer string }
	first := struct {
		Issuer string `json:"issuer"`
		Config
	}{s.issuer, c}
	if err := s.exchange(first, &up); err != nil {
		s.Close()
		return nil, fmt.Errorf("start oidc-provider: %w\n%s", err, s.err.String())
	}
	s.issuer, s.address = up.Issuer, up.Address
	to := &url.URL{Scheme: "http", Host: s.address}
	s.front = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
	}}
	return s, nil
}

// ErrNotInstalled is returned by Start where test/install.sh has not been run.
var ErrNotInstalled = errors.New("oidc-provider is missing: run test/install.sh")

// npm finds test/npm from a directory inside the repository.
func npm() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		for _, dir := range []string{filepath.Join(at, "npm"), filepath.Join(at, "test", "npm")} {
			if _, err := os.Stat(filepath.Join(dir, "oauthserver.mjs")); err != nil {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider")); err != nil {
				return "", ErrNotInstalled
			}
			return dir, nil
		}
		up := filepath.Dir(at)
		if up == at {
			return "", ErrNotInstalled
		}
		at = up
	}
}

// node is the Node that test/install.sh installs, else the system's.
func node(dir string) string {
	own := filepath.Join(dir, "node_modules", ".bin", "node")
	if _, err := os.Stat(own); err == nil {
		return own
	}
	return "node"
}

// Close ends the process.
func (s *Server) Close() {
	_ = s.in.Close()
	end := time.AfterFunc(5*time.Second, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	end.Stop()
}

// Issuer is the server's identifier.
func (s *Server) Issuer() string { return s.issuer }

// Endpoint is one of its addresses: "/auth", "/token", "/device/auth",
// "/token/revocation", "/token/introspection", "/reg", "/me" (userinfo),
// "/resource" (a protected resource), "/.well-known/openid-configuration".
func (s *Server) Endpoint(path string) string { return s.issuer + path }

// ServeHTTP makes the server a host of the fake internet.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.front.ServeHTTP(w, r) }

// API is a host of its own whose every path is the protected resource: 200 and
// whose token it is, or 401.
func (s *Server) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = "/resource", ""
		s.front.ServeHTTP(w, r)
	})
}

// exchange writes one line and reads one.
func (s *Server) exchange(in, out any) error {
	line, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		return err
	}
	if line, err = s.out.ReadBytes('\n'); err != nil {
		return err
	}
	return json.Unmarshal(line, out)
}

// ask puts one question.
func (s *Server) ask(op string, args map[string]any, result any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	q := map[string]any{"id": s.n, "op": op}
	for k, v := range args {
		q[k] = v
	}
	var a struct {
		ID     int             `json:"id"`
		Result json.RawMessage `json:"result"`
		Error  string          `json:"error"`
	}
	if err := s.exchange(q, &a); err != nil {
		return fmt.Errorf("ask oidc-provider for %s: %w\n%s", op, err, s.err.String())
	}
	if a.Error != "" || a.ID != s.n {
		return fmt.Errorf("ask oidc-provider for %s: %s", op, a.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// Exchange is one request to the token endpoint that got as far as its
// parameters.
type Exchange struct {
	GrantType string `json:"grant_type"`
	ClientID  string `json:"client_id"`
	Auth      string `json:"auth"` // "basic", "body", "jwt" or "none"
	Scope     string `json:"scope"`
	Resource  string `json:"resource"`
	PKCE      bool   `json:"pkce"`  // a code_verifier was sent
	Error     string `json:"error"` // of the answer; "" when tokens were given
	Detail    string `json:"description"`
}

// Stats is what has happened so far.
type Stats struct {
	Exchanges []Exchange `json:"exchanges"`
	// Reused counts refresh tokens and codes that came a second time, whether
	// after the first use or together with it.
	Reused int `json:"reused"`
	// RevokedGrants are the ids of grants that were ended, by reuse, revocation
	// or EndGrants.
	RevokedGrants  []string `json:"revoked_grants"`
	Revocations    []string `json:"revocations"` // kinds of the tokens that clients revoked, in order
	Registrations  int      `json:"registrations"`
	Authorizations int      `json:"authorizations"` // consents given, for codes and devices
	Denied         int      `json:"denied"`
	Devices        int      `json:"devices"` // device codes given out
	UserInfo       Answers  `json:"userinfo"`
	Resource       Answers  `json:"resource"` // of /resource
}

// Answers counts requests to something that wants an access token.
type Answers struct {
	OK      int `json:"ok"`
	Refused int `json:"refused"` // 401
}

// Count counts the token requests of a grant type: those that were given
// tokens, and those that were refused.
func (s Stats) Count(grantType string) (ok, refused int) {
	for _, e := range s.Exchanges {
		switch {
		case e.GrantType != grantType:
		case e.Error == "":
			ok++
		default:
			refused++
		}
	}
	return ok, refused
}

// Stats tells what has happened so far.
func (s *Server) Stats() (Stats, error) {
	var st Stats
	return st, s.ask("stats", nil, &st)
}

// Token is one that was issued, codes included.
type Token struct {
	Kind     string `json:"kind"`  // "AccessToken", "RefreshToken", "AuthorizationCode", "DeviceCode", "ClientCredentials"
	Value    string `json:"value"` // as the client got it
	ClientID string `json:"client_id"`
	Login    string `json:"login"`
	Grant    string `json:"grant"` // the consent that it comes from; all of one grant are a family
	Scope    string `json:"scope"`
	Audience string `json:"audience"`
	Issued   int64  `json:"issued"`  // Unix seconds
	Expires  int64  `json:"expires"` // Unix seconds
	State    string `json:"state"`   // "valid", "expired", "used" (a code, or a refresh token that was rotated), "revoked"
}

// Tokens are all that were ever issued.
func (s *Server) Tokens() ([]Token, error) {
	var ts []Token
	return ts, s.ask("tokens", nil, &ts)
}

// Token finds one by its value.
func (s *Server) Token(value string) (Token, error) {
	var t Token
	return t, s.ask("token", map[string]any{"value": value}, &t)
}

// Valid says whether a token would be accepted now.
func (s *Server) Valid(value string) bool {
	t, err := s.Token(value)
	return err == nil && t.State == "valid"
}

// Clients are those that it knows, registered ones included.
func (s *Server) Clients() ([]Client, error) {
	var cs []Client
	return cs, s.ask("clients", nil, &cs)
}

// ForgetClient makes the server know nothing of a client any more.
func (s *Server) ForgetClient(id string) error {
	return s.ask("forget_client", map[string]any{"client_id": id}, nil)
}

// SetClient changes values of a client's metadata, such as its client_secret.
func (s *Server) SetClient(id string, metadata map[string]any) error {
	return s.ask("set_client", map[string]any{"client_id": id, "metadata": metadata}, nil)
}

// EndToken ends one token before its time; the rest of its grant goes on.
func (s *Server) EndToken(value string) error {
	return s.ask("end_token", map[string]any{"value": value}, nil)
}

// EndAccessTokens ends every access token that was issued so far. Refresh
// tokens go on.
func (s *Server) EndAccessTokens() error { return s.ask("end_access_tokens", nil, nil) }

// EndGrants takes every consent back, as a person does in the service's
// settings: access and refresh tokens end.
func (s *Server) EndGrants() error { return s.ask("end_grants", nil, nil) }

// lockedBuffer is a buffer that a process's output goes to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.b.String())
}
