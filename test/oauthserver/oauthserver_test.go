package oauthserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome/test/internet"
	"github.com/authsome/authsome/test/oauthserver"
)

const (
	id       = "person-app"
	secret   = "canary-client-secret"
	verifier = "a-verifier-of-forty-three-characters-or-more-0123"
)

// client speaks OAuth to one server as a careful program would.
type client struct {
	t      *testing.T
	s      *oauthserver.Server
	n      *internet.Internet
	id     string
	secret string
	scope  string
	noPKCE bool
	extra  url.Values // added to every request
}

// start starts a server behind https://auth.example.com.
func start(t *testing.T, c oauthserver.Config) *client {
	t.Helper()
	n, err := internet.Start(t.TempDir(), internet.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	c.Host = "auth.example.com"
	if c.Clients == nil {
		c.Clients = []oauthserver.Client{oauthserver.NewClient(id, secret, "")}
	}
	s, err := oauthserver.Start(c)
	if errors.Is(err, oauthserver.ErrNotInstalled) {
		if _, derr := os.Stat("/etc/debian_version"); derr != nil {
			t.Skip(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	n.Handle(c.Host, s)
	return &client{t: t, s: s, n: n, id: id, secret: secret, scope: "read openid email"}
}

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (c *client) with(v url.Values) url.Values {
	for k, vs := range c.extra {
		v[k] = vs
	}
	return v
}

func (c *client) authorizeURL() string {
	v := url.Values{
		"client_id": {c.id}, "redirect_uri": {oauthserver.Redirect}, "response_type": {"code"},
		"scope": {c.scope}, "state": {"the-state"},
	}
	if !c.noPKCE {
		v.Set("code_challenge", challenge())
		v.Set("code_challenge_method", "S256")
	}
	return c.s.Endpoint("/auth?") + c.with(v).Encode()
}

// code logs in and returns the callback's parameters.
func (c *client) code() url.Values {
	c.t.Helper()
	p, err := c.n.Person("octocat")
	if err != nil {
		c.t.Fatal(err)
	}
	u, err := p.Authorize(c.t.Context(), c.authorizeURL())
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.HasPrefix(u.String(), oauthserver.Redirect+"?") {
		c.t.Fatalf("the callback is %s", u)
	}
	return u.Query()
}

type answer struct {
	Status       int
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
	Interval     int    `json:"interval"`
	DeviceCode   string `json:"device_code"`
	UserCode     string `json:"user_code"`
	Verification string `json:"verification_uri"`
	Complete     string `json:"verification_uri_complete"`
}

// post sends a form with the client's credentials in it.
func (c *client) post(path string, v url.Values) answer {
	c.t.Helper()
	if c.id != "" && !v.Has("client_assertion") {
		v.Set("client_id", c.id)
	}
	if c.secret != "" {
		v.Set("client_secret", c.secret)
	}
	resp, err := c.n.Client().PostForm(c.s.Endpoint(path), c.with(v))
	if err != nil {
		c.t.Error(err)
		return answer{}
	}
	return c.read(resp)
}

func (c *client) read(resp *http.Response) answer {
	c.t.Helper()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Error(err)
	}
	a := answer{Status: resp.StatusCode}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &a); err != nil {
			c.t.Errorf("%v: %s", err, body)
		}
	}
	return a
}

func (c *client) exchange(code string) answer {
	c.t.Helper()
	v := url.Values{"grant_type": {oauthserver.GrantCode}, "code": {code}, "redirect_uri": {oauthserver.Redirect}}
	if !c.noPKCE {
		v.Set("code_verifier", verifier)
	}
	return c.post("/token", v)
}

// login is code and exchange, which have to succeed.
func (c *client) login() answer {
	c.t.Helper()
	a := c.exchange(c.code().Get("code"))
	if a.Status != 200 || a.AccessToken == "" {
		c.t.Fatalf("no token: %+v", a)
	}
	return a
}

func (c *client) refresh(token string) answer {
	c.t.Helper()
	return c.post("/token", url.Values{"grant_type": {oauthserver.GrantRefresh}, "refresh_token": {token}})
}

// resource is the status of the protected resource.
func (c *client) resource(path, token string) int {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.s.Endpoint(path), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.n.Client().Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (c *client) stats() oauthserver.Stats {
	c.t.Helper()
	st, err := c.s.Stats()
	if err != nil {
		c.t.Fatal(err)
	}
	return st
}

func (c *client) state(token, want string) {
	c.t.Helper()
	got, err := c.s.Token(token)
	if err != nil || got.State != want {
		c.t.Errorf("the token is %q (%v), want %q", got.State, err, want)
	}
}

func (c *client) refused(a answer, code string) {
	c.t.Helper()
	if a.Error != code || a.Status < 400 || a.AccessToken != "" {
		c.t.Errorf("answered %d %q %q, want the error %q", a.Status, a.Error, a.Description, code)
	}
}

func TestCode(t *testing.T) {
	c := start(t, oauthserver.Config{PKCE: true})
	q := c.code()
	if q.Get("state") != "the-state" || q.Get("iss") != "https://auth.example.com" {
		t.Errorf("the callback has %v", q)
	}
	a := c.exchange(q.Get("code"))
	if a.Status != 200 || a.RefreshToken == "" || a.ExpiresIn != 3600 || a.Scope != "read openid email" {
		t.Errorf("the answer is %d %q %d %q", a.Status, a.Error, a.ExpiresIn, a.Scope)
	}
	if got := c.resource("/resource", a.AccessToken); got != 200 {
		t.Errorf("the resource answers %d to the token", got)
	}
	if got := c.resource("/me", a.AccessToken); got != 200 {
		t.Errorf("userinfo answers %d to the token", got)
	}
	for _, wrong := range []string{"", "x", a.RefreshToken} {
		if got := c.resource("/resource", wrong); got != 401 {
			t.Errorf("the resource answers %d to a wrong token", got)
		}
	}
	c.n.Handle("api.example.com", c.s.API())
	for token, want := range map[string]int{a.AccessToken: 200, "x": 401} {
		req, err := http.NewRequest(http.MethodDelete, "https://api.example.com/v1/things%2F/7?x=y", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := c.n.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("the API answers %d, want %d", resp.StatusCode, want)
		}
	}
	st := c.stats()
	if st.Resource != (oauthserver.Answers{OK: 2, Refused: 4}) || st.UserInfo.OK != 1 || st.Authorizations != 1 {
		t.Errorf("counted %+v", st)
	}
	want := oauthserver.Exchange{GrantType: oauthserver.GrantCode, ClientID: id, Auth: "body", PKCE: true}
	if len(st.Exchanges) != 1 || st.Exchanges[0] != want {
		t.Errorf("the exchanges are %+v", st.Exchanges)
	}
	// A code is good once; a second use ends what it gave.
	c.refused(c.exchange(q.Get("code")), "invalid_grant")
	c.state(a.AccessToken, "revoked")
	if got := c.resource("/resource", a.AccessToken); got != 401 {
		t.Errorf("the resource answers %d to a token whose code was replayed", got)
	}
	if c.stats().Reused != 1 {
		t.Error("the replay was not counted")
	}
}

func TestCodeRefused(t *testing.T) {
	c := start(t, oauthserver.Config{PKCE: true})
	wrong := func(change func(url.Values)) answer {
		t.Helper()
		v := url.Values{
			"grant_type": {oauthserver.GrantCode}, "code": {c.code().Get("code")}, "redirect_uri": {oauthserver.Redirect},
			"code_verifier": {verifier}, "client_id": {id}, "client_secret": {secret},
		}
		change(v)
		resp, err := c.n.Client().PostForm(c.s.Endpoint("/token"), v)
		if err != nil {
			t.Fatal(err)
		}
		return c.read(resp)
	}
	c.refused(wrong(func(v url.Values) { v.Set("code_verifier", strings.ToUpper(verifier)) }), "invalid_grant")
	c.refused(wrong(func(v url.Values) { v.Del("code_verifier") }), "invalid_grant")
	c.refused(wrong(func(v url.Values) { v.Set("redirect_uri", oauthserver.Redirect+"/") }), "invalid_grant")
	c.refused(wrong(func(v url.Values) { v.Set("client_secret", "wrong") }), "invalid_client")
	c.refused(wrong(func(v url.Values) { v.Del("client_secret") }), "invalid_client")
	if ok, refused := c.stats().Count(oauthserver.GrantCode); ok != 0 || refused != 5 {
		t.Errorf("%d were given tokens, %d refused", ok, refused)
	}

	// Without a challenge there is no code at all.
	c.noPKCE = true
	p, err := c.n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	u, err := p.Authorize(t.Context(), c.authorizeURL())
	if err != nil || u.Query().Get("error") != "invalid_request" || u.Query().Has("code") {
		t.Errorf("without PKCE: %v, %v", u, err)
	}
}

func TestDenied(t *testing.T) {
	c := start(t, oauthserver.Config{})
	p, err := c.n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	// Nobody listens on the callback's address here, so its request fails.
	var failed *url.Error
	if _, err := p.Deny(t.Context(), c.authorizeURL()); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	u, err := url.Parse(failed.URL)
	if err != nil || u.Query().Get("error") != "access_denied" || u.Query().Get("state") != "the-state" {
		t.Errorf("the callback is %v", u)
	}
	if st := c.stats(); st.Denied != 1 || st.Authorizations != 0 {
		t.Errorf("counted %+v", st)
	}
}

func TestRotation(t *testing.T) {
	c := start(t, oauthserver.Config{Rotate: true})
	first := c.login()
	second := c.refresh(first.RefreshToken)
	if second.Status != 200 || second.RefreshToken == first.RefreshToken || second.RefreshToken == "" {
		t.Fatalf("no rotation: %d %q", second.Status, second.Error)
	}
	c.state(first.RefreshToken, "used")
	c.state(second.RefreshToken, "valid")
	c.state(first.AccessToken, "valid")
	if st := c.stats(); len(st.RevokedGrants) != 0 || st.Reused != 0 {
		t.Errorf("a plain refresh counts as %+v", st)
	}

	// The first token comes again: the family ends.
	c.refused(c.refresh(first.RefreshToken), "invalid_grant")
	st := c.stats()
	if st.Reused != 1 || len(st.RevokedGrants) != 1 {
		t.Errorf("reused %d times, %d grants ended", st.Reused, len(st.RevokedGrants))
	}
	for _, token := range []string{first.AccessToken, second.AccessToken, second.RefreshToken} {
		c.state(token, "revoked")
	}
	c.refused(c.refresh(second.RefreshToken), "invalid_grant")
	if got := c.resource("/resource", second.AccessToken); got != 401 {
		t.Errorf("the resource answers %d after the reuse", got)
	}
}

// TestRotationAtOnce sends the same refresh token in two requests at the same
// time: however close they are, no token of the family survives.
func TestRotationAtOnce(t *testing.T) {
	c := start(t, oauthserver.Config{Rotate: true})
	for range 5 {
		before := c.stats()
		token := c.login().RefreshToken
		answers := make([]answer, 2)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = c.refresh(token) })
		}
		wg.Wait()
		st := c.stats()
		if st.Reused != before.Reused+1 || len(st.RevokedGrants) != len(before.RevokedGrants)+1 {
			t.Errorf("two at once: reused %d times, %d grants ended", st.Reused-before.Reused, len(st.RevokedGrants)-len(before.RevokedGrants))
		}
		for _, a := range answers {
			if a.AccessToken == "" {
				continue
			}
			c.state(a.AccessToken, "revoked")
			if got := c.resource("/resource", a.AccessToken); got != 401 {
				t.Errorf("the resource answers %d", got)
			}
		}
	}
}

func TestWithoutRotation(t *testing.T) {
	c := start(t, oauthserver.Config{})
	token := c.login().RefreshToken
	for range 2 {
		if a := c.refresh(token); a.Status != 200 || a.RefreshToken != token {
			t.Errorf("refresh: %d %q, another token: %t", a.Status, a.Error, a.RefreshToken != token)
		}
	}
	if ok, refused := c.stats().Count(oauthserver.GrantRefresh); ok != 2 || refused != 0 {
		t.Errorf("%d refreshes, %d refused", ok, refused)
	}
	if err := c.s.EndGrants(); err != nil {
		t.Fatal(err)
	}
	c.refused(c.refresh(token), "invalid_grant")
}

func TestOfflineAccess(t *testing.T) {
	c := start(t, oauthserver.Config{Refresh: oauthserver.RefreshOffline})
	if a := c.login(); a.RefreshToken != "" {
		t.Error("a refresh token without offline_access")
	}
	c.scope = "read offline_access"
	if a := c.login(); a.RefreshToken != "" {
		t.Error("a refresh token without prompt=consent")
	}
	c.extra = url.Values{"prompt": {"consent"}}
	if a := c.login(); a.RefreshToken == "" {
		t.Error("no refresh token with offline_access and prompt=consent")
	}
}

// TestLifetimes waits for tokens to end, which takes seconds because the
// protocol counts in them.
func TestLifetimes(t *testing.T) {
	c := start(t, oauthserver.Config{AccessSeconds: 2, RefreshSeconds: 4})
	a := c.login()
	if a.ExpiresIn != 2 {
		t.Errorf("expires_in is %d", a.ExpiresIn)
	}
	if got := c.resource("/resource", a.AccessToken); got != 200 {
		t.Errorf("the resource answers %d at first", got)
	}
	until(t, "the access token expires", func() bool { return !c.s.Valid(a.AccessToken) })
	c.state(a.AccessToken, "expired")
	if got := c.resource("/resource", a.AccessToken); got != 401 {
		t.Errorf("the resource answers %d to an expired token", got)
	}
	until(t, "the refresh token expires", func() bool { return !c.s.Valid(a.RefreshToken) })
	c.refused(c.refresh(a.RefreshToken), "invalid_grant")
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestDevice(t *testing.T) {
	c := start(t, oauthserver.Config{Device: true, DeviceInterval: 1, Clients: []oauthserver.Client{
		oauthserver.NewClient(id, "", "none").Grants(oauthserver.GrantDevice, oauthserver.GrantRefresh),
	}})
	c.secret = ""
	poll := func(a answer) answer {
		t.Helper()
		return c.post("/token", url.Values{"grant_type": {oauthserver.GrantDevice}, "device_code": {a.DeviceCode}})
	}
	a := c.post("/device/auth", url.Values{"scope": {c.scope}})
	if a.Status != 200 || a.Interval != 1 || a.Verification != "https://auth.example.com/device" || !strings.Contains(a.Complete, url.QueryEscape(a.UserCode)) {
		t.Fatalf("the device's answer is %+v", a)
	}
	c.refused(poll(a), "authorization_pending")
	c.refused(poll(a), "slow_down") // at once
	p, err := c.n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	page, err := p.Device(t.Context(), a.Verification, a.UserCode)
	if err != nil || !strings.Contains(page.Text, "Done") {
		t.Fatalf("%q, %v", page.Text, err)
	}
	got := poll(a)
	if got.Status != 200 || got.RefreshToken == "" || c.resource("/resource", got.AccessToken) != 200 {
		t.Errorf("after the consent: %d %q", got.Status, got.Error)
	}
	c.refused(poll(a), "invalid_grant") // good once

	denied := c.post("/device/auth", url.Values{"scope": {c.scope}})
	if page, err = p.DenyDevice(t.Context(), denied.Complete, ""); err != nil || page.Status != 200 {
		t.Fatalf("%+v, %v", page, err)
	}
	c.refused(poll(denied), "access_denied")
	st := c.stats()
	if ok, refused := st.Count(oauthserver.GrantDevice); ok != 1 || refused != 4 || st.Devices != 2 {
		t.Errorf("%d and %d of %+v", ok, refused, st)
	}
}

func TestDeviceExpires(t *testing.T) {
	c := start(t, oauthserver.Config{Device: true, DeviceSeconds: 1, Clients: []oauthserver.Client{
		oauthserver.NewClient(id, secret, "").Grants(oauthserver.GrantDevice),
	}})
	a := c.post("/device/auth", url.Values{"scope": {c.scope}})
	until(t, "the device code expires", func() bool { return !c.s.Valid(a.DeviceCode) })
	c.refused(c.post("/token", url.Values{"grant_type": {oauthserver.GrantDevice}, "device_code": {a.DeviceCode}}), "expired_token")
}

func TestRegistration(t *testing.T) {
	c := start(t, oauthserver.Config{Registration: true, PKCE: true})
	register := func(body string) (int, map[string]any) {
		t.Helper()
		resp, err := c.n.Client().Post(c.s.Endpoint("/reg"), "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var m map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, m
	}
	status, m := register(`{"client_name":"a test","redirect_uris":["` + oauthserver.Redirect + `"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"client_secret_post"}`)
	if status != 201 || m["client_id"] == "" || m["client_secret"] == "" {
		t.Fatalf("registration: %d %v", status, m["error"])
	}
	c.id, c.secret = m["client_id"].(string), m["client_secret"].(string)
	token := c.login().RefreshToken
	if status, m := register(`{"redirect_uris":[]}`); status != 400 || m["error"] != "invalid_redirect_uri" {
		t.Errorf("a registration without an address: %d %v", status, m["error"])
	}

	// The server forgets the client.
	if err := c.s.ForgetClient(c.id); err != nil {
		t.Fatal(err)
	}
	c.refused(c.refresh(token), "invalid_client")
	p, err := c.n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	if page, err := p.Consent(t.Context(), c.authorizeURL()); err != nil || page.Status != 400 || !strings.Contains(page.Text, "invalid_client") {
		t.Errorf("the page says %q, %v", page.Text, err)
	}
	if st := c.stats(); st.Registrations != 1 {
		t.Errorf("%d registrations", st.Registrations)
	}

	// Where it is off, there is none.
	closed := start(t, oauthserver.Config{})
	resp, err := closed.n.Client().Post(closed.s.Endpoint("/reg"), "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("registration that is off answers %d", resp.StatusCode)
	}
}

func TestClientAddress(t *testing.T) {
	const address = "https://client.example.org/authsome.json"
	c := start(t, oauthserver.Config{ClientDocuments: map[string]string{
		address: `{"client_id":"` + address + `","client_name":"a test","redirect_uris":["` + oauthserver.Redirect + `"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`,
	}})
	c.id, c.secret = address, ""
	if a := c.login(); a.RefreshToken == "" {
		t.Error("no refresh token")
	}
}

func TestChangedSecret(t *testing.T) {
	c := start(t, oauthserver.Config{})
	token := c.login().RefreshToken
	if err := c.s.SetClient(id, map[string]any{"client_secret": "another-secret"}); err != nil {
		t.Fatal(err)
	}
	c.refused(c.refresh(token), "invalid_client")
	c.secret = "another-secret"
	if a := c.refresh(token); a.Status != 200 {
		t.Errorf("with the new secret: %d %q", a.Status, a.Error)
	}
}

func TestRevocation(t *testing.T) {
	c := start(t, oauthserver.Config{})
	a := c.login()
	if got := c.post("/token/revocation", url.Values{"token": {a.AccessToken}}); got.Status != 200 {
		t.Fatalf("revocation: %d %q", got.Status, got.Error)
	}
	c.state(a.AccessToken, "revoked")
	b := c.login()
	if got := c.post("/token/revocation", url.Values{"token": {b.RefreshToken}, "token_type_hint": {"refresh_token"}}); got.Status != 200 {
		t.Fatalf("revocation: %d %q", got.Status, got.Error)
	}
	c.state(b.RefreshToken, "revoked")
	c.state(b.AccessToken, "revoked")
	c.post("/token/revocation", url.Values{"token": {"unknown"}})
	if got := strings.Join(c.stats().Revocations, " "); got != "AccessToken RefreshToken" {
		t.Errorf("revoked: %s", got)
	}
}

func TestEndAccessTokens(t *testing.T) {
	c := start(t, oauthserver.Config{Rotate: true})
	a := c.login()
	if err := c.s.EndAccessTokens(); err != nil {
		t.Fatal(err)
	}
	if got := c.resource("/resource", a.AccessToken); got != 401 {
		t.Errorf("the resource answers %d", got)
	}
	if b := c.refresh(a.RefreshToken); b.Status != 200 || c.resource("/resource", b.AccessToken) != 200 {
		t.Errorf("a refresh afterwards: %d %q", b.Status, b.Error)
	}
}

func TestResource(t *testing.T) {
	const mcp = "https://mcp.example.com/mcp"
	c := start(t, oauthserver.Config{Resources: []string{mcp}, RequireResource: true})
	p, err := c.n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	u, err := p.Authorize(t.Context(), c.authorizeURL())
	if err != nil || u.Query().Get("error") != "invalid_target" {
		t.Errorf("without a resource: %v, %v", u, err)
	}
	c.extra = url.Values{"resource": {"https://elsewhere.example.com/"}}
	if u, err = p.Authorize(t.Context(), c.authorizeURL()); err != nil || u.Query().Get("error") != "invalid_target" {
		t.Errorf("with another resource: %v, %v", u, err)
	}
	c.extra = url.Values{"resource": {mcp}}
	c.scope = "read"
	a := c.login()
	if got, err := c.s.Token(a.AccessToken); err != nil || got.Audience != mcp || got.Scope != "read" {
		t.Errorf("the token is for %q with %q, %v", got.Audience, got.Scope, err)
	}
	if e := c.stats().Exchanges; e[len(e)-1].Resource != mcp {
		t.Errorf("the exchange was %+v", e)
	}
}

func TestClientCredentials(t *testing.T) {
	c := start(t, oauthserver.Config{ClientCredentials: true, Clients: []oauthserver.Client{
		oauthserver.NewClient(id, secret, "").Grants(oauthserver.GrantClient).With("redirect_uris", []string{}).With("response_types", []string{}),
	}})
	a := c.post("/token", url.Values{"grant_type": {oauthserver.GrantClient}, "scope": {"read"}})
	if a.Status != 200 || a.RefreshToken != "" || c.resource("/resource", a.AccessToken) != 200 {
		t.Errorf("client credentials: %d %q", a.Status, a.Error)
	}
	c.secret = "wrong"
	c.refused(c.post("/token", url.Values{"grant_type": {oauthserver.GrantClient}}), "invalid_client")
}

// TestClientAuthentication is the four ways, and that a client has only its own;
// but a secret is taken both ways, so tests look at Exchange.Auth.
func TestClientAuthentication(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	c := start(t, oauthserver.Config{Clients: []oauthserver.Client{
		oauthserver.NewClient("basic", secret, "client_secret_basic"),
		oauthserver.NewClient("post", secret, ""),
		oauthserver.NewClient("public", "", "none"),
		oauthserver.NewClient("key", "", "private_key_jwt").With("token_endpoint_auth_signing_alg", "ES256").With("jwks", map[string]any{
			"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]), "use": "sig"}},
		}),
	}})
	assertion := func() string {
		now := time.Now().Unix()
		claims, err := json.Marshal(map[string]any{"iss": "key", "sub": "key", "aud": c.s.Issuer(), "iat": now, "exp": now + 60, "jti": rand.Text()})
		if err != nil {
			t.Fatal(err)
		}
		signed := b64([]byte(`{"alg":"ES256"}`)) + "." + b64(claims)
		sum := sha256.Sum256([]byte(signed))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return signed + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
	c.secret = ""
	tokens := map[string]string{}
	send := func(client, how string) answer {
		v := url.Values{"grant_type": {oauthserver.GrantRefresh}, "refresh_token": {tokens[client]}}
		if tokens[client] == "" {
			c.id = client
			v = url.Values{"grant_type": {oauthserver.GrantCode}, "code": {c.code().Get("code")}, "redirect_uri": {oauthserver.Redirect}, "code_verifier": {verifier}}
		}
		switch how {
		case "post":
			v.Set("client_id", client)
			v.Set("client_secret", secret)
		case "public":
			v.Set("client_id", client)
		case "key":
			v.Set("client_id", client)
			v.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
			v.Set("client_assertion", assertion())
		}
		req, err := http.NewRequest(http.MethodPost, c.s.Endpoint("/token"), strings.NewReader(v.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if how == "basic" {
			req.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(secret))
		}
		resp, err := c.n.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return c.read(resp)
	}
	secretly := map[string]bool{"basic": true, "post": true}
	ways := []string{"basic", "post", "public", "key"}
	for _, client := range ways {
		a := send(client, client)
		if a.Status != 200 {
			t.Errorf("%s: %d %q %q", client, a.Status, a.Error, a.Description)
			continue
		}
		tokens[client] = a.RefreshToken
		auth := map[string]string{"basic": "basic", "post": "body", "public": "none", "key": "jwt"}[client]
		if e := c.stats().Exchanges; e[len(e)-1].Auth != auth {
			t.Errorf("%s: recorded as %q", client, e[len(e)-1].Auth)
		}
		for _, how := range ways {
			if a := send(client, how); (a.Status == 200) != (how == client || secretly[how] && secretly[client]) {
				t.Errorf("the client %q that authenticates as %q: %d %q", client, how, a.Status, a.Error)
			}
		}
	}
}

// TestEndsWithItsInput: nothing is left behind when a test is killed, since the
// process's standard input closes then as it does here.
func TestEndsWithItsInput(t *testing.T) {
	c := start(t, oauthserver.Config{})
	c.s.Close()
	if _, err := c.s.Stats(); err == nil {
		t.Error("it still answers")
	}
}
