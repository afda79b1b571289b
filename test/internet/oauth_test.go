package internet

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	verifier   = "a-verifier-of-forty-three-characters-or-more-0123"
	grantCode  = "authorization_code"
	grantFresh = "refresh_token"
	grantPoll  = "urn:ietf:params:oauth:grant-type:device_code"
)

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ask sends one request. A body is a form; header names and values follow.
func ask(t *testing.T, n *Internet, method, address, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	c := n.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// fields is JSON as a map of what is at its top.
func fields(t *testing.T, body string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return m
}

// authorize has octocat consent, and returns the callback's parameters.
func authorize(t *testing.T, n *Internet, address string, v url.Values) url.Values {
	t.Helper()
	p, err := n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	u, err := p.Authorize(t.Context(), address+"?"+v.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// requestOf is an authorization request.
func requestOf(a App, scope string) url.Values {
	return url.Values{
		"client_id": {a.ID}, "redirect_uri": {Redirect}, "response_type": {"code"}, "scope": {scope}, "state": {"st"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"},
	}
}

// exchangeOf is a token request for a code.
func exchangeOf(a App, code string) url.Values {
	return url.Values{
		"client_id": {a.ID}, "client_secret": {a.Secret}, "grant_type": {grantCode}, "code": {code}, "redirect_uri": {Redirect}, "code_verifier": {verifier},
	}
}

func refreshOf(a App, token string) url.Values {
	return url.Values{"client_id": {a.ID}, "client_secret": {a.Secret}, "grant_type": {grantFresh}, "refresh_token": {token}}
}

func with(v url.Values, kv ...string) url.Values {
	out := url.Values{}
	for k := range v {
		out[k] = v[k]
	}
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == "" {
			out.Del(kv[i])
		} else {
			out.Set(kv[i], kv[i+1])
		}
	}
	return out
}

const (
	gitHubAuthorize = "https://github.com/login/oauth/authorize"
	gitHubTokenURL  = "https://github.com/login/oauth/access_token"
	asJSON          = "application/json"
)

func TestGitHub(t *testing.T) {
	n := start(t)
	o := n.OAuth("github.com")
	app := o.App()
	code := func() string {
		t.Helper()
		q := authorize(t, n, gitHubAuthorize, requestOf(app, "repo read:org"))
		if q.Get("state") != "st" {
			t.Errorf("the callback has %v", q)
		}
		return q.Get("code")
	}

	// A form, unless JSON is asked for.
	first := code()
	status, h, body := ask(t, n, "POST", gitHubTokenURL, exchangeOf(app, first).Encode())
	got, err := url.ParseQuery(body)
	if err != nil || status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "application/x-www-form-urlencoded") {
		t.Fatalf("%d %s %s", status, h.Get("Content-Type"), body)
	}
	if got.Get("scope") != "repo,read:org" || got.Get("token_type") != "bearer" || got.Has("expires_in") || got.Has("refresh_token") {
		t.Errorf("the answer has %v", got)
	}
	_, _, body = ask(t, n, "POST", gitHubTokenURL, exchangeOf(app, code()).Encode(), "Accept", asJSON)
	token := fields(t, body)["access_token"].(string)

	// The token works, with its scopes, and git takes it as well.
	status, h, body = ask(t, n, "GET", "https://api.github.com/user", "", "Authorization", "Bearer "+token)
	if status != 200 || !strings.Contains(body, `"octocat"`) || h.Get("X-Oauth-Scopes") != "repo, read:org" {
		t.Errorf("%d %q %s", status, h.Get("X-Oauth-Scopes"), body)
	}
	if status, _, _ = ask(t, n, "GET", "https://github.com/acme/secret/info/refs?service=git-upload-pack", "", "Authorization", BasicToken(token)); status != 200 {
		t.Errorf("git is answered %d", status)
	}

	// Errors, all under 200.
	for _, tt := range []struct {
		v    url.Values
		want string
	}{
		{exchangeOf(app, first), "bad_verification_code"}, // again
		{exchangeOf(app, "nonsense"), "bad_verification_code"},
		{with(exchangeOf(app, code()), "client_secret", "wrong"), "incorrect_client_credentials"},
		{with(exchangeOf(app, code()), "client_id", "wrong"), "incorrect_client_credentials"},
		{with(exchangeOf(app, code()), "redirect_uri", Redirect+"/x"), "redirect_uri_mismatch"},
		{with(exchangeOf(app, code()), "code_verifier", strings.ToUpper(verifier)), "bad_verification_code"},
		{with(exchangeOf(app, code()), "code_verifier", ""), "bad_verification_code"},
	} {
		status, _, body := ask(t, n, "POST", gitHubTokenURL, tt.v.Encode())
		if v, err := url.ParseQuery(body); err != nil || status != 200 || v.Get("error") != tt.want || v.Has("access_token") {
			t.Errorf("want %s: %d %s", tt.want, status, body)
		}
		if status, _, body = ask(t, n, "POST", gitHubTokenURL, tt.v.Encode(), "Accept", asJSON); status != 200 || fields(t, body)["error"] == nil {
			t.Errorf("want %s as JSON: %d %s", tt.want, status, body)
		}
	}
	// The code that came twice took its token with it.
	if o.Alive(got.Get("access_token")) || !o.Alive(token) {
		t.Error("a replayed code: the wrong token ended")
	}

	// Nobody is sent to an address that is not the app's; any loopback port is.
	for redirect, want := range map[string]int{Redirect + "x": 400, "http://127.0.0.1:54321/auth/callback/oauth": 200, "https://attacker.example/auth/callback/oauth": 400} {
		if status, _, body = ask(t, n, "GET", gitHubAuthorize+"?"+with(requestOf(app, ""), "redirect_uri", redirect).Encode(), ""); status != want {
			t.Errorf("%s: %d %s", redirect, status, body)
		}
	}

	// Records have no secrets, and counts are right.
	if ok, refused := o.Count("token", ""); ok != 2 || refused != 14 {
		t.Errorf("%d exchanges, %d refused", ok, refused)
	}
	x := o.Exchanges()[slices.IndexFunc(o.Exchanges(), func(x Exchange) bool { return x.Endpoint == "token" })]
	if x.Auth != "body" || x.Encoding != "form" || x.Client != app.ID || x.Params["redirect_uri"] != Redirect || x.Params["client_secret"] != "•••" || x.Params["code"] != "•••" {
		t.Errorf("recorded %+v", x)
	}

	// Revocation.
	revoke := "https://api.github.com/applications/" + app.ID + "/token"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":"+app.Secret))
	send := func(auth string) int {
		t.Helper()
		status, _, _ := ask(t, n, "DELETE", revoke, `{"access_token":"`+token+`"}`, "Content-Type", asJSON, "Authorization", auth)
		return status
	}
	if got := send("Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":wrong"))); got != 404 || !o.Alive(token) {
		t.Errorf("a stranger's revocation: %d", got)
	}
	if got := send(basic); got != 204 || o.Alive(token) {
		t.Errorf("the revocation: %d, alive: %t", got, o.Alive(token))
	}
	if got := send(basic); got != 422 {
		t.Errorf("the same again: %d", got)
	}
	if status, _, _ = ask(t, n, "GET", "https://api.github.com/user", "", "Authorization", "Bearer "+token); status != 401 {
		t.Errorf("the revoked token is answered %d", status)
	}
}

func TestGitHubDenied(t *testing.T) {
	n := start(t)
	app := n.OAuth("github.com").App()
	_, _, page := ask(t, n, "GET", gitHubAuthorize+"?"+requestOf(app, "repo").Encode(), "")
	_, rest, _ := strings.Cut(page, `name="request" value="`)
	id, _, _ := strings.Cut(rest, `"`)
	form := url.Values{"request": {id}, "answer": {"deny"}}.Encode()
	status, h, _ := ask(t, n, "POST", gitHubAuthorize, form)
	u, err := url.Parse(h.Get("Location"))
	if err != nil || status != 302 || u.Query().Get("error") != "access_denied" || u.Query().Get("state") != "st" || u.Query().Has("code") {
		t.Errorf("%d %v %v", status, u, err)
	}
	if status, _, _ = ask(t, n, "POST", gitHubAuthorize, form); status != 400 {
		t.Errorf("the page answered twice: %d", status)
	}
}

func TestGitHubDevice(t *testing.T) {
	n := start(t)
	o := n.OAuth("github.com")
	o.PollInterval(time.Second)
	app := o.App()
	device := func() (string, string) {
		t.Helper()
		_, _, body := ask(t, n, "POST", "https://github.com/login/device/code", url.Values{"client_id": {app.ID}, "scope": {"repo"}}.Encode(), "Accept", asJSON)
		m := fields(t, body)
		if m["verification_uri"] != "https://github.com/login/device" || m["interval"] != 1.0 || m["expires_in"] != 900.0 {
			t.Fatalf("the device gets %v", m)
		}
		return m["device_code"].(string), m["user_code"].(string)
	}
	poll := func(code string) map[string]any {
		t.Helper()
		status, _, body := ask(t, n, "POST", gitHubTokenURL, url.Values{"client_id": {app.ID}, "device_code": {code}, "grant_type": {grantPoll}}.Encode(), "Accept", asJSON)
		if status != 200 {
			t.Errorf("a poll is answered %d", status)
		}
		return fields(t, body)
	}
	p, err := n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}

	code, user := device()
	if got := poll(code)["error"]; got != "authorization_pending" {
		t.Errorf("the first poll: %v", got)
	}
	if m := poll(code); m["error"] != "slow_down" || m["interval"] != 6.0 {
		t.Errorf("a poll at once: %v", m)
	}
	if page, err := p.Device(t.Context(), "https://github.com/login/device", user); err != nil || !strings.Contains(page.Text, "Your device is connected") {
		t.Fatalf("%q %v", page.Text, err)
	}
	fresh, user := device()
	if _, err := p.Device(t.Context(), "https://github.com/login/device", strings.ToLower(user)); err != nil {
		t.Fatal(err)
	}
	m := poll(fresh)
	if token, _ := m["access_token"].(string); !o.Alive(token) || m["scope"] != "repo" {
		t.Errorf("after the consent: %v", m)
	}
	if got := poll(fresh)["error"]; got != "incorrect_device_code" {
		t.Errorf("a code that was used: %v", got)
	}
	denied, user := device()
	if _, err := p.DenyDevice(t.Context(), "https://github.com/login/device", user); err != nil {
		t.Fatal(err)
	}
	if got := poll(denied)["error"]; got != "access_denied" {
		t.Errorf("after a no: %v", got)
	}
	late, _ := device()
	o.ExpireDevices()
	if got := poll(late)["error"]; got != "expired_token" {
		t.Errorf("after its time: %v", got)
	}
	if _, err := p.Device(t.Context(), "https://github.com/login/device", "WRNG-CODE"); err == nil {
		t.Error("a wrong code leads somewhere")
	}
}

// TestGitHubExpiringTokens is the kind of app whose tokens rotate, with errors
// under 200.
func TestGitHubExpiringTokens(t *testing.T) {
	n := start(t)
	o := n.OAuth("github.com")
	app := o.AddApp(App{Secret: "another-secret", Rotating: true})
	_, _, body := ask(t, n, "POST", gitHubTokenURL, exchangeOf(app, authorize(t, n, gitHubAuthorize, requestOf(app, "")).Get("code")).Encode(), "Accept", asJSON)
	first := fields(t, body)
	if first["expires_in"] != 28800.0 || first["scope"] != "" {
		t.Errorf("the answer has %v", first)
	}
	refresh := func(m map[string]any) map[string]any {
		t.Helper()
		status, _, body := ask(t, n, "POST", gitHubTokenURL, refreshOf(app, m["refresh_token"].(string)).Encode(), "Accept", asJSON)
		if status != 200 {
			t.Errorf("answered %d", status)
		}
		return fields(t, body)
	}
	second := refresh(first)
	if o.Alive(first["access_token"].(string)) || !o.Alive(second["access_token"].(string)) {
		t.Error("the refresh left the wrong token alive")
	}
	if got := refresh(first)["error"]; got != "bad_refresh_token" || o.Alive(second["access_token"].(string)) {
		t.Errorf("a refresh token that comes again: %v", got)
	}
}

func TestGitHubEnterprise(t *testing.T) {
	n := start(t)
	o := n.OAuth("ghe.example.com")
	app := o.App()
	q := authorize(t, n, "https://ghe.example.com/login/oauth/authorize", requestOf(app, "repo"))
	_, _, body := ask(t, n, "POST", "https://ghe.example.com/login/oauth/access_token", exchangeOf(app, q.Get("code")).Encode(), "Accept", asJSON)
	token := fields(t, body)["access_token"].(string)
	for address, want := range map[string]int{"https://ghe.example.com/api/v3/user": 200, "https://api.github.com/user": 401} {
		if status, _, _ := ask(t, n, "GET", address, "", "Authorization", "Bearer "+token); status != want {
			t.Errorf("%s: %d", address, status)
		}
	}
}

// jwt signs claims with a PEM key.
func jwt(t *testing.T, alg, key string, c map[string]any) string {
	t.Helper()
	block, _ := pem.Decode([]byte(key))
	if block == nil {
		t.Fatal("no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	header, _ := json.Marshal(map[string]any{"alg": alg, "typ": "JWT"})
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, parsed.(*rsa.PrivateKey), crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestGitHubApp(t *testing.T) {
	n := start(t)
	app, err := n.GitHubApp()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := newSigner("RSA PRIVATE KEY")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	for _, tt := range []struct {
		name, alg, key, installation string
		iss                          any
		iat, exp                     int64
		status                       int
	}{
		{"by the app's id", "RS256", app.PrivateKey, app.InstallationID, app.AppID, now - 60, now + 540, 201},
		{"by its number", "RS256", app.PrivateKey, app.InstallationID, 123456, now - 60, now + 540, 201},
		{"by its client id", "RS256", app.PrivateKey, app.InstallationID, app.ClientID, now - 60, now + 600, 201},
		{"another app", "RS256", app.PrivateKey, app.InstallationID, "654321", now - 60, now + 540, 404},
		{"another installation", "RS256", app.PrivateKey, "1", app.AppID, now - 60, now + 540, 404},
		{"another key", "RS256", stranger.pem, app.InstallationID, app.AppID, now - 60, now + 540, 401},
		{"another algorithm", "RS512", app.PrivateKey, app.InstallationID, app.AppID, now - 60, now + 540, 401},
		{"longer than ten minutes", "RS256", app.PrivateKey, app.InstallationID, app.AppID, now - 60, now + 700, 401},
		{"from the future", "RS256", app.PrivateKey, app.InstallationID, app.AppID, now + 120, now + 540, 401},
		{"from the past", "RS256", app.PrivateKey, app.InstallationID, app.AppID, now - 600, now - 60, 401},
	} {
		token := jwt(t, tt.alg, tt.key, map[string]any{"iss": tt.iss, "iat": tt.iat, "exp": tt.exp})
		status, _, body := ask(t, n, "POST", "https://api.github.com/app/installations/"+tt.installation+"/access_tokens", "", "Authorization", "Bearer "+token)
		if status != tt.status {
			t.Errorf("%s: %d %s", tt.name, status, body)
		}
		if status != 201 {
			continue
		}
		m := fields(t, body)
		expires, err := time.Parse(time.RFC3339, m["expires_at"].(string))
		if err != nil || time.Until(expires) > time.Hour {
			t.Errorf("expires_at: %v, %v", m["expires_at"], err)
		}
		auth := []string{"Authorization", "Bearer " + m["token"].(string)}
		if status, _, _ := ask(t, n, "GET", "https://api.github.com/installation/repositories", "", auth...); status != 200 {
			t.Errorf("the installation's repositories: %d", status)
		}
		if status, _, _ := ask(t, n, "GET", "https://api.github.com/user", "", auth...); status != 403 {
			t.Errorf("an installation as a user: %d", status)
		}
	}
	if ok, refused := n.OAuth("github.com").Count("installation", ""); ok != 3 || refused != 7 {
		t.Errorf("%d and %d", ok, refused)
	}
}

func TestGoogle(t *testing.T) {
	const authorizeURL, tokenURL, scope = "https://accounts.google.com/o/oauth2/v2/auth", "https://oauth2.googleapis.com/token", "openid https://www.googleapis.com/auth/drive"
	n := start(t)
	o := n.OAuth("accounts.google.com")
	app := o.App()
	login := func(kv ...string) map[string]any {
		t.Helper()
		q := authorize(t, n, authorizeURL, with(requestOf(app, scope), kv...))
		if q.Get("scope") != scope || q.Get("code") == "" {
			t.Fatalf("the callback has %v", q)
		}
		status, _, body := ask(t, n, "POST", tokenURL, exchangeOf(app, q.Get("code")).Encode())
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		return fields(t, body)
	}
	// A refresh token at the first consent, if it is asked for offline.
	if m := login(); m["refresh_token"] != nil || m["expires_in"] != 3599.0 {
		t.Errorf("without offline: %v", m)
	}
	o.EndAll()
	first := login("access_type", "offline")
	if first["refresh_token"] == nil {
		t.Error("no refresh token at the first consent")
	}
	if m := login("access_type", "offline"); m["refresh_token"] != nil {
		t.Error("a refresh token at the second consent")
	}
	last := login("access_type", "offline", "prompt", "consent")
	if last["refresh_token"] == nil {
		t.Error("no refresh token with prompt=consent")
	}

	refresh := func(a App, token any) (int, map[string]any) {
		t.Helper()
		status, _, body := ask(t, n, "POST", tokenURL, refreshOf(a, token.(string)).Encode())
		return status, fields(t, body)
	}
	status, m := refresh(app, first["refresh_token"])
	if status != 200 || m["refresh_token"] != nil || !o.Alive(m["access_token"].(string)) {
		t.Errorf("a refresh: %d %v", status, m)
	}
	if status, _, body := ask(t, n, "GET", "https://openidconnect.googleapis.com/v1/userinfo", "", "Authorization", "Bearer "+m["access_token"].(string)); status != 200 || fields(t, body)["email"] != "octocat@example.com" {
		t.Errorf("userinfo: %d %s", status, body)
	}
	if status, m := refresh(App{ID: app.ID, Secret: "wrong"}, first["refresh_token"]); status != 401 || m["error"] != "invalid_client" {
		t.Errorf("a wrong secret: %d %v", status, m)
	}
	// One revocation ends the consent.
	if status, _, _ := ask(t, n, "POST", "https://oauth2.googleapis.com/revoke", url.Values{"token": {m["access_token"].(string)}}.Encode()); status != 200 {
		t.Errorf("revocation: %d", status)
	}
	if status, m := refresh(app, first["refresh_token"]); status != 400 || m["error"] != "invalid_grant" {
		t.Errorf("after the revocation: %d %v", status, m)
	}
	if status, _, _ := ask(t, n, "GET", "https://www.googleapis.com/oauth2/v3/userinfo", "", "Authorization", "Bearer "+m["access_token"].(string)); status != 401 {
		t.Errorf("userinfo after the revocation: %d", status)
	}
	p, err := n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	u, err := p.Authorize(t.Context(), authorizeURL+"?"+requestOf(app, "nonsense").Encode())
	if err != nil || u.Query().Get("error") != "invalid_scope" {
		t.Errorf("an unknown scope: %v %v", u, err)
	}

	// Devices find the address under another name than the standard's.
	_, _, body := ask(t, n, "POST", "https://oauth2.googleapis.com/device/code", url.Values{"client_id": {app.ID}, "scope": {"email"}}.Encode())
	d := fields(t, body)
	poll := with(refreshOf(app, ""), "grant_type", grantPoll, "device_code", d["device_code"].(string))
	if status, _, body := ask(t, n, "POST", tokenURL, poll.Encode()); status != 428 || fields(t, body)["error"] != "authorization_pending" {
		t.Errorf("a poll: %d %s", status, body)
	}
	if status, _, body := ask(t, n, "POST", tokenURL, poll.Encode()); status != 403 || fields(t, body)["error"] != "slow_down" {
		t.Errorf("a poll at once: %d %s", status, body)
	}
	if page, err := p.Device(t.Context(), d["verification_url"].(string), d["user_code"].(string)); err != nil || !strings.Contains(page.Text, "connected") {
		t.Errorf("%q %v", page.Text, err)
	}
}

func TestServiceAccount(t *testing.T) {
	const aud, scope = "https://oauth2.googleapis.com/token", "https://www.googleapis.com/auth/cloud-platform"
	n := start(t)
	file, err := n.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	var key struct {
		Email    string `json:"client_email"`
		Key      string `json:"private_key"`
		TokenURI string `json:"token_uri"`
	}
	if err := json.Unmarshal(file, &key); err != nil || key.TokenURI != aud {
		t.Fatalf("%v %s", err, key.TokenURI)
	}
	now := time.Now().Unix()
	claims := func(kv ...any) map[string]any {
		c := map[string]any{"iss": key.Email, "aud": aud, "scope": scope, "iat": now, "exp": now + 3600}
		for i := 0; i < len(kv); i += 2 {
			c[kv[i].(string)] = kv[i+1]
		}
		return c
	}
	for _, tt := range []struct {
		name, alg string
		c         map[string]any
		want      string
	}{
		{"right", "RS256", claims(), ""},
		{"another audience", "RS256", claims("aud", "https://accounts.google.com"), "invalid_grant"},
		{"somebody else", "RS256", claims("iss", "x@example.com"), "invalid_grant"},
		{"too long", "RS256", claims("exp", now+7200), "invalid_grant"},
		{"over", "RS256", claims("iat", now-7200, "exp", now-3600), "invalid_grant"},
		{"no scope", "RS256", claims("scope", ""), "invalid_scope"},
		{"another algorithm", "none", claims(), "invalid_grant"},
	} {
		v := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {jwt(t, tt.alg, key.Key, tt.c)}}
		status, _, body := ask(t, n, "POST", aud, v.Encode())
		m := fields(t, body)
		if tt.want != "" {
			if status != 400 || m["error"] != tt.want {
				t.Errorf("%s: %d %v", tt.name, status, m)
			}
			continue
		}
		token, _ := m["access_token"].(string)
		if !n.OAuth("accounts.google.com").Alive(token) || m["refresh_token"] != nil {
			t.Errorf("%s: %d %v", tt.name, status, m)
		}
	}
}

func TestNotion(t *testing.T) {
	const tokenURL = "https://api.notion.com/v1/oauth/token"
	n := start(t)
	o := n.OAuth("api.notion.com")
	app := o.App()
	code := func() string {
		t.Helper()
		return authorize(t, n, "https://api.notion.com/v1/oauth/authorize", with(requestOf(app, ""), "owner", "user", "code_challenge", "")).Get("code")
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":"+app.Secret))
	in := func(v map[string]string) string {
		b, _ := json.Marshal(v)
		return string(b)
	}
	exchange := func() string {
		return in(map[string]string{"grant_type": grantCode, "code": code(), "redirect_uri": Redirect})
	}
	for name, tt := range map[string]struct {
		body   string
		header []string
		status int
	}{
		"a form":               {url.Values{"grant_type": {grantCode}, "code": {code()}, "redirect_uri": {Redirect}}.Encode(), []string{"Authorization", basic}, 400},
		"a secret in the body": {in(map[string]string{"grant_type": grantCode, "code": code(), "redirect_uri": Redirect, "client_id": app.ID, "client_secret": app.Secret}), []string{"Content-Type", asJSON}, 401},
		"a wrong secret":       {exchange(), []string{"Content-Type", asJSON, "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(app.ID+":x"))}, 401},
		"no redirect_uri":      {in(map[string]string{"grant_type": grantCode, "code": code()}), []string{"Content-Type", asJSON, "Authorization", basic}, 400},
	} {
		if status, _, body := ask(t, n, "POST", tokenURL, tt.body, tt.header...); status != tt.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	status, _, body := ask(t, n, "POST", tokenURL, exchange(), "Content-Type", asJSON, "Authorization", basic)
	m := fields(t, body)
	if status != 200 || m["workspace_name"] != "Octocat's Notion" || m["bot_id"] != "bot-octocat" || m["owner"] == nil || m["expires_in"] != nil {
		t.Fatalf("%d %v", status, m)
	}
	token := m["access_token"].(string)
	for want, header := range map[int][]string{200: {"Authorization", "Bearer " + token, "Notion-Version", "2022-06-28"}, 400: {"Authorization", "Bearer " + token}, 401: {"Notion-Version", "2022-06-28"}} {
		if status, _, body := ask(t, n, "GET", "https://api.notion.com/v1/users/me", "", header...); status != want {
			t.Errorf("%d, want %d: %s", status, want, body)
		}
	}
	refresh := in(map[string]string{"grant_type": grantFresh, "refresh_token": m["refresh_token"].(string)})
	if status, _, body = ask(t, n, "POST", tokenURL, refresh, "Content-Type", asJSON, "Authorization", basic); status != 200 || fields(t, body)["refresh_token"] == m["refresh_token"] {
		t.Errorf("a refresh: %d %s", status, body)
	}
	if status, _, _ = ask(t, n, "POST", tokenURL, refresh, "Content-Type", asJSON, "Authorization", basic); status != 400 || o.Alive(token) {
		t.Errorf("the same refresh again: %d", status)
	}
	if ok, _ := o.Count("userinfo", ""); ok != 1 {
		t.Errorf("%d requests for the user succeeded", ok)
	}
}

func TestSlack(t *testing.T) {
	const authorizeURL, tokenURL = "https://slack.com/oauth/v2/authorize", "https://slack.com/api/oauth.v2.access"
	n := start(t)
	o := n.OAuth("slack.com")
	rotating := o.AddApp(App{Secret: "rotating-secret", Rotating: true})
	for _, app := range []App{o.App(), rotating} {
		code := func() string {
			t.Helper()
			return authorize(t, n, authorizeURL, with(requestOf(app, "chat:write,channels:read"), "user_scope", "search:read")).Get("code")
		}
		status, _, body := ask(t, n, "POST", tokenURL, exchangeOf(app, code()).Encode())
		m := fields(t, body)
		user, _ := m["authed_user"].(map[string]any)
		if status != 200 || m["ok"] != true || m["scope"] != "chat:write,channels:read" || user["scope"] != "search:read" || user["token_type"] != "user" {
			t.Fatalf("%d %v", status, m)
		}
		if (user["refresh_token"] != nil) != app.Rotating || (user["expires_in"] == 43200.0) != app.Rotating {
			t.Errorf("the person's token has %v", user)
		}
		token := user["access_token"].(string)
		if app.Rotating {
			refresh := refreshOf(app, user["refresh_token"].(string)).Encode()
			_, _, body = ask(t, n, "POST", tokenURL, refresh)
			m := fields(t, body)
			if m["ok"] != true || m["token_type"] != "user" || m["scope"] != "search:read" {
				t.Errorf("a refresh: %v", m)
			}
			token = m["access_token"].(string)
			if _, _, body = ask(t, n, "POST", tokenURL, refresh); fields(t, body)["error"] != "invalid_refresh_token" {
				t.Errorf("the same refresh again: %s", body)
			}
		}
		if _, _, body = ask(t, n, "POST", "https://slack.com/api/auth.test", "", "Authorization", "Bearer "+token); fields(t, body)["team"] != "Acme" {
			t.Errorf("auth.test: %s", body)
		}
		for want, v := range map[string]url.Values{
			"bad_client_secret": with(exchangeOf(app, code()), "client_secret", "x"), "invalid_client_id": with(exchangeOf(app, code()), "client_id", "x"),
			"invalid_code": exchangeOf(app, "x"), "bad_redirect_uri": with(exchangeOf(app, code()), "redirect_uri", Redirect+"x"),
		} {
			if status, _, body := ask(t, n, "POST", tokenURL, v.Encode()); status != 200 || fields(t, body)["error"] != want || fields(t, body)["ok"] != false {
				t.Errorf("want %s: %d %s", want, status, body)
			}
		}
		if _, _, body = ask(t, n, "POST", "https://slack.com/api/auth.revoke", "", "Authorization", "Bearer "+token); fields(t, body)["revoked"] != true || o.Alive(token) {
			t.Errorf("auth.revoke: %s", body)
		}
	}
	p, err := n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	if u, err := p.Authorize(t.Context(), authorizeURL+"?"+requestOf(o.App(), "chat:write channels:read").Encode()); err != nil || u.Query().Get("error") != "invalid_scope" {
		t.Errorf("scopes separated by spaces: %v %v", u, err)
	}
}

// discover does what a client of MCP does first.
func discover(t *testing.T, n *Internet, resource string) (server map[string]any) {
	t.Helper()
	status, h, _ := ask(t, n, "POST", resource, "{}", "Content-Type", asJSON)
	_, rest, ok := strings.Cut(h.Get("WWW-Authenticate"), `resource_metadata="`)
	if status != 401 || !ok {
		t.Fatalf("%d %q", status, h.Get("WWW-Authenticate"))
	}
	address, _, _ := strings.Cut(rest, `"`)
	_, _, body := ask(t, n, "GET", address, "")
	doc := fields(t, body)
	if doc["resource"] != resource {
		t.Fatalf("the metadata is of %v", doc["resource"])
	}
	issuer, err := url.Parse(doc["authorization_servers"].([]any)[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	_, _, body = ask(t, n, "GET", issuer.Scheme+"://"+issuer.Host+"/.well-known/oauth-authorization-server"+issuer.Path, "")
	server = fields(t, body)
	if server["issuer"] != issuer.String() {
		t.Fatalf("the issuer is %v", server["issuer"])
	}
	return server
}

func TestMCP(t *testing.T) {
	n := start(t)
	tenant, _ := n.AddMCP(MCP{Host: "tenant.example.com", Path: "/v1/mcp", Server: "tenant.example.com", Tenant: "/t1"})
	for _, resource := range []string{"https://mcp.example.com/mcp", tenant.URL()} {
		server := discover(t, n, resource)
		at := func(name string) string { return server[name].(string) }
		status, _, body := ask(t, n, "POST", at("registration_endpoint"), `{"client_name":"x","redirect_uris":["`+Redirect+`"],"token_endpoint_auth_method":"none"}`, "Content-Type", asJSON)
		app := App{ID: fields(t, body)["client_id"].(string)}
		if status != 201 {
			t.Fatalf("registration: %d %s", status, body)
		}
		request := with(requestOf(app, "mcp:read"), "resource", resource)
		q := authorize(t, n, at("authorization_endpoint"), request)
		if q.Get("iss") != server["issuer"] {
			t.Errorf("the callback has %v", q)
		}
		status, _, body = ask(t, n, "POST", at("token_endpoint"), with(exchangeOf(app, q.Get("code")), "resource", resource, "client_secret", "").Encode())
		m := fields(t, body)
		if status != 200 || m["expires_in"] != 3600.0 {
			t.Fatalf("%d %v", status, m)
		}
		call := func(token string) (int, string) {
			t.Helper()
			status, _, body := ask(t, n, "POST", resource, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami"}}`, "Content-Type", asJSON, "Authorization", "Bearer "+token)
			return status, body
		}
		if status, body := call(m["access_token"].(string)); status != 200 || !strings.Contains(body, "You are octocat.") {
			t.Errorf("%d %s", status, body)
		}
		if status, _ := call(m["refresh_token"].(string)); status != 401 {
			t.Errorf("a refresh token is answered %d", status)
		}
		refresh := with(refreshOf(app, m["refresh_token"].(string)), "resource", resource, "client_secret", "")
		_, _, body = ask(t, n, "POST", at("token_endpoint"), refresh.Encode())
		second := fields(t, body)["access_token"].(string)
		if status, _ := call(second); status != 200 {
			t.Errorf("after a refresh: %d", status)
		}
		if status, _, _ := ask(t, n, "POST", at("token_endpoint"), refresh.Encode()); status != 400 {
			t.Errorf("a refresh token that comes again: %d", status)
		}
		if status, _ := call(second); status != 401 {
			t.Errorf("after the reuse: %d", status)
		}

		// What is asked wrongly is refused in the callback, with the issuer's name.
		p, err := n.Person("octocat")
		if err != nil {
			t.Fatal(err)
		}
		for want, v := range map[string]url.Values{
			"invalid_target": with(request, "resource", "https://other.example.com/mcp"), "invalid_scope": with(request, "scope", "admin"),
			"invalid_request": with(request, "code_challenge", ""),
		} {
			if u, err := p.Authorize(t.Context(), at("authorization_endpoint")+"?"+v.Encode()); err != nil || u.Query().Get("error") != want {
				t.Errorf("want %s: %v %v", want, u, err)
			}
		}
	}
	// A token of one resource is none of another.
	o := n.OAuth("mcp-auth.example.com")
	if tokens := o.Tokens(); len(tokens) == 0 || tokens[0].Resource != "https://mcp.example.com/mcp" {
		t.Errorf("%+v", tokens)
	}
	o.ForgetApp(o.Tokens()[0].Client)
	if _, _, body := ask(t, n, "POST", "https://mcp-auth.example.com/token", refreshOf(App{ID: o.Tokens()[0].Client}, "x").Encode()); fields(t, body)["error"] != "invalid_client" {
		t.Errorf("a forgotten client: %s", body)
	}
}

func TestMCPClientDocument(t *testing.T) {
	n := start(t)
	const id = "https://client.example.org/authsome.json"
	n.Handle("client.example.org", body(asJSON, `{"client_id":"`+id+`","redirect_uris":["`+Redirect+`"]}`))
	m, o := n.AddMCP(MCP{Host: "cimd.example.com", Path: "/mcp", ClientDocuments: true, NoRegistration: true, OpenID: true})
	if status, _, _ := ask(t, n, "POST", m.Issuer()+"/register", "{}", "Content-Type", asJSON); status != 404 {
		t.Errorf("registration answers %d", status)
	}
	if _, _, body := ask(t, n, "GET", m.Issuer()+"/.well-known/openid-configuration", ""); fields(t, body)["client_id_metadata_document_supported"] != true {
		t.Errorf("the metadata is %s", body)
	}
	app := App{ID: id}
	q := authorize(t, n, m.Issuer()+"/authorize", with(requestOf(app, "mcp:read"), "resource", m.URL()))
	_, _, body := ask(t, n, "POST", m.Issuer()+"/token", with(exchangeOf(app, q.Get("code")), "resource", m.URL(), "client_secret", "").Encode())
	if token, _ := fields(t, body)["access_token"].(string); !o.Alive(token) {
		t.Errorf("no token: %s", body)
	}
}

// TestHostiles looks at each as its victim would, so that a test that relies on
// one tests what its name says.
func TestHostiles(t *testing.T) {
	n := start(t)
	for _, h := range n.AddHostiles() {
		u, err := url.Parse(h.URL)
		if err != nil {
			t.Fatal(err)
		}
		status, header, _ := ask(t, n, "GET", h.URL, "")
		if status != 401 || h.Why == "" {
			t.Errorf("%s: %d", h.Name, status)
		}
		var seen strings.Builder
		seen.WriteString(header.Get("WWW-Authenticate"))
		for _, address := range []string{
			"https://" + u.Host + "/.well-known/oauth-protected-resource/mcp", "https://auth." + u.Host + "/.well-known/oauth-authorization-server",
		} {
			if strings.HasPrefix(address, "https://auth.") && (h.Name == "silent-server" || h.Name == "other-site") {
				continue
			}
			status, header, body := ask(t, n, "GET", address, "")
			if status >= 400 {
				t.Errorf("%s: %s answers %d", h.Name, address, status)
			}
			if len(body) > 10<<20 {
				body = "10 MB"
			}
			seen.WriteString(header.Get("Location") + header.Get("Content-Type") + body)
		}
		want := map[string]string{
			"other-site": "login.other-site.example", "mixed": Attacker + "/token", "wrong-issuer": `"issuer":"https://accounts.google.com"`, "no-issuer": `"token_endpoint"`,
			"other-resource": `"resource":"https://mcp.example.com/mcp"`, "metadata-elsewhere": Attacker, "http-server": `"http://auth.`, "http-token": `"http://auth.`,
			"http-register": `"http://auth.`, "private-server": "169.254.169.254", "private-token": "10.0.0.7", "loopback-token": "127.0.0.1:8443",
			"localhost-register": "https://localhost:7998", "mapped-token": "[::ffff:10.0.0.7]", "script-page": "javascript:", "file-page": "file:///",
			"option-page": `"--load-extension`, "no-pkce": `["plain"]`, "wrong-types": `"token_endpoint":42`, "no-servers": `"authorization_servers":[]`,
			"redirecting-resource": Attacker, "redirecting-server": Attacker, "redirecting-register": `"issuer"`, "redirecting-token": `"issuer"`,
			"huge-resource": "10 MB", "huge-server": "10 MB", "html-resource": "<!doctype html>", "cut-server": `"token_endp`, "silent-server": `"resource"`,
		}[h.Name]
		if want == "" || !strings.Contains(seen.String(), want) {
			t.Errorf("%s (%s): %q is not in %s", h.Name, h.Why, want, seen.String())
		}
	}
	for _, h := range []string{"redirecting-token", "redirecting-register"} {
		path := strings.TrimPrefix(h, "redirecting-")
		status, header, _ := ask(t, n, "POST", "https://auth."+h+"-mcp.example/"+path, "x=y")
		if status != 307 || header.Get("Location") != "https://"+Attacker+"/"+path {
			t.Errorf("%s: %d %s", h, status, header.Get("Location"))
		}
	}
}

func TestReplace(t *testing.T) {
	n := start(t)
	o := n.OAuth("github.com")
	app := o.App()
	for _, bad := range BadTokenAnswers() {
		n.Replace("github.com", "/login/oauth/access_token", bad.Serve)
		status, h, body := ask(t, n, "POST", gitHubTokenURL, exchangeOf(app, "x").Encode())
		var m map[string]any
		good := json.Unmarshal([]byte(body), &m) == nil && m["access_token"] == "canaryBadAnswerToken" && m["token_type"] == "Bearer"
		if bad.Tokens != (good || bad.Name == "a lifetime beyond numbers") {
			t.Errorf("%s: %d %v %.200s", bad.Name, status, h, body)
		}
	}
	n.Replace("github.com", "/login/oauth/access_token", nil)
	if _, _, body := ask(t, n, "POST", gitHubTokenURL, exchangeOf(app, "x").Encode()); !strings.Contains(body, "bad_verification_code") {
		t.Errorf("afterwards: %s", body)
	}
}

func TestGrantOnly(t *testing.T) {
	n := start(t)
	o := n.OAuth("github.com")
	o.GrantOnly("repo")
	q := authorize(t, n, gitHubAuthorize, requestOf(o.App(), "repo read:org"))
	_, _, body := ask(t, n, "POST", gitHubTokenURL, exchangeOf(o.App(), q.Get("code")).Encode(), "Accept", asJSON)
	if got := fields(t, body)["scope"]; got != "repo" {
		t.Errorf("the scope is %v", got)
	}
}

func TestLifetime(t *testing.T) {
	n := start(t)
	o := n.OAuth("github.com")
	login := func() string {
		t.Helper()
		q := authorize(t, n, gitHubAuthorize, requestOf(o.App(), "repo"))
		_, _, body := ask(t, n, "POST", gitHubTokenURL, exchangeOf(o.App(), q.Get("code")).Encode(), "Accept", asJSON)
		return fields(t, body)["access_token"].(string)
	}
	long := login()
	o.Lifetime(time.Millisecond)
	short := login()
	for end := time.Now().Add(10 * time.Second); o.Alive(short) && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if o.Alive(short) || !o.Alive(long) {
		t.Errorf("alive: %t and %t", o.Alive(short), o.Alive(long))
	}
	if s := o.Secrets(); !slices.Contains(s, short) || !slices.Contains(s, long) || !slices.Contains(s, o.App().Secret) {
		t.Error("a secret is not among the secrets")
	}
	o.End(long)
	if o.Alive(long) {
		t.Error("the token goes on")
	}
}
