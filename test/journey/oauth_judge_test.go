package journey

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/oauthserver"
)

// TestCertifiedLogin logs in at a certified server, with a definition that the
// person has registered, in real Chromium: by code and PKCE with rotating refresh
// tokens, then as a device. A logout revokes what there is.
func TestCertifiedLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const secret = "canaryJudgeClientSecret0123456789"
	j := newJudge(t, w, "judge", oauthserver.Config{
		PKCE: true, Rotate: true, AccessSeconds: 4, Device: true, DeviceInterval: 1,
		Clients: []oauthserver.Client{oauthserver.NewClient("judged-app", secret, "client_secret_basic", w.Redirect()).
			Grants(oauthserver.GrantCode, oauthserver.GrantRefresh, oauthserver.GrantDevice)},
	})
	define(t, w, "judge", fmt.Sprintf(`{
		"schema_version": 1, "name": "judge", "auth_type": "oauth2", "flow": "pkce", "flows": ["pkce", "device_code"], "api_url": "https://api.judge.example",
		"oauth": {
			"issuer": %q, "authorization_url": %q, "token_url": %q, "device_authorization_url": %q, "revocation_url": %q,
			"token_auth": "basic", "scopes": ["openid", "email", "read"], "user_info": {"url": %q, "id": "sub", "label": ["email"]}
		}
	}`, j.Issuer(), j.Endpoint("/auth"), j.Endpoint("/token"), j.Endpoint("/device/auth"), j.Endpoint("/token/revocation"), j.Endpoint("/me")))
	must(t, w.Command("provider", "set-client", "judge", "--client-id", "judged-app", "--secret-stdin").Input(secret))
	d := newDesktop(t, w)
	b := chromium(t, w)

	s := onTerminal(t, w.Command("login", "judge").Env(d.env...).Cmd())
	page, err := b.Consent(within(t), d.next())
	if err != nil || !strings.Contains(page.Text, "judge is connected as octocat@example.com") {
		t.Fatalf("%v; the page is %s: %q", err, page.URL, page.Text)
	}
	s.ends(0, "Logged in to judge (default) as octocat@example.com.")
	st := j.stats()
	if len(st.Exchanges) != 1 || !st.Exchanges[0].PKCE || st.Exchanges[0].Auth != "basic" || st.Authorizations != 1 {
		t.Errorf("the server saw %+v", st)
	}

	// The device's code is entered by somebody else, in another browser.
	dev := onTerminal(t, w.Command("login", "judge", "--flow", "device_code", "--connection", "device").Env(d.env...).Cmd())
	if page, err = person(t, w, "hubot").Device(within(t), dev.line("Visit:"), dev.line("Code:")); err != nil || !strings.Contains(page.Text, "You can close this page.") {
		t.Fatalf("%v; the page is %s: %q", err, page.URL, page.Text)
	}
	dev.ends(0, "Logged in to judge (device) as hubot@example.com.")

	// Each works, before the end of its token and after.
	began := time.Now()
	for _, who := range []string{"octocat", "hubot"} {
		name := map[string]string{"octocat": "default", "hubot": "device"}[who]
		ask := func() {
			t.Helper()
			code, body := status(t, w, []string{"--connection", "judge=" + name}, "https://api.judge.example/v1/me")
			contains(t, code+body, "200", fmt.Sprintf(`"login":%q`, who))
		}
		ask()
		waitUntil(expires(t, w, "judge", name))
		ask()
	}
	// A machine that is slow enough comes to the end of the next tokens as well.
	most := 3 + int(time.Since(began)/(3*time.Second))
	if ok, _ := j.stats().Count(oauthserver.GrantRefresh); ok < 2 || ok > most {
		t.Errorf("%d refreshes, want 2 (at most %d)", ok, most)
	}
	j.approves()
	for _, tok := range j.tokens() {
		if tok.State == "revoked" {
			t.Errorf("a %s was revoked", tok.Kind)
		}
	}

	// A logout ends what is the connection's, and nothing else.
	contains(t, w.Command("logout", "judge").Run().Stderr, "revoked at auth.judge.example")
	for _, tok := range j.tokens() {
		if tok.State == "valid" && tok.Login != "hubot" || tok.State == "revoked" && tok.Login != "octocat" {
			t.Errorf("after octocat's logout, the %s of %s is %s", tok.Kind, tok.Login, tok.State)
		}
	}
	must(t, w.Command("logout", "judge", "--connection", "device"))
	for _, tok := range j.tokens() {
		if tok.State == "valid" {
			t.Errorf("a %s works after the logout", tok.Kind)
		}
	}
	holds(t, w, "judge")
	j.approves()
	sweep(t, w, s.text()+dev.text()+page.Text, append(j.secrets(), secret)...)
}

// TestCertifiedRegistration introduces itself to a certified server, which is
// found by its issuer, and again when that has forgotten it.
func TestCertifiedRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	j := newJudge(t, w, "open", oauthserver.Config{PKCE: true, Rotate: true, Registration: true})
	define(t, w, "open", fmt.Sprintf(`{
		"schema_version": 1, "name": "open", "auth_type": "oauth2", "flow": "dcr_pkce", "api_url": "https://api.open.example",
		"oauth": {"issuer": %q, "authorization_url": %q, "token_url": %q, "revocation_url": %q, "scopes": ["read"]}
	}`, j.Issuer(), j.Endpoint("/auth"), j.Endpoint("/token"), j.Endpoint("/token/revocation")))
	var printed strings.Builder
	login := func(name string) {
		t.Helper()
		a := attempts(t, w, "open", "--connection", name)
		if page := consents(t, w, a.visit()); page.Status != 200 {
			t.Fatalf("%s: %d %s", name, page.Status, page.Text)
		}
		a.succeeds()
		printed.WriteString(a.printed())
		code, _ := status(t, w, []string{"--connection", "open=" + name}, "https://api.open.example/v1/me")
		if code != "200" {
			t.Errorf("%s: %s", name, code)
		}
	}
	clients := func() []string {
		t.Helper()
		all, err := j.Clients()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, c := range all {
			ids = append(ids, fmt.Sprint(c["client_id"]))
			if uris := fmt.Sprint(c["redirect_uris"]); !strings.Contains(uris, w.Redirect()) {
				t.Errorf("a client was registered for %s", uris)
			}
		}
		return ids
	}
	login("one")
	login("two")
	first := clients()
	if st := j.stats(); st.Registrations != 1 || len(first) != 1 {
		t.Errorf("%d registrations, and the clients are %q", st.Registrations, first)
	}
	if err := j.ForgetClient(first[0]); err != nil {
		t.Fatal(err)
	}
	login("three")
	if second := clients(); len(second) != 1 || second[0] == first[0] || j.stats().Registrations != 2 {
		t.Errorf("%d registrations, and the clients are %q", j.stats().Registrations, second)
	}
	holds(t, w, "open", "open/one connected", "open/two connected", "open/three connected")
	// Whether a client is still known is asked by a refresh token that nobody has:
	// the answer names the token, or the client.
	var refused []string
	for _, x := range j.stats().Exchanges {
		if x.Error != "" {
			refused = append(refused, x.GrantType+" "+x.Error)
		} else if !x.PKCE {
			t.Errorf("a code was exchanged without PKCE: %+v", x)
		}
	}
	if got := strings.Join(refused, ", "); got != "refresh_token invalid_grant, refresh_token invalid_client" {
		t.Errorf("the server has refused %s", got)
	}
	sweep(t, w, printed.String(), j.secrets()...)
}
