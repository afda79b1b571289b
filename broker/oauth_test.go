package broker_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/internal/oauthtest"
)

// newOAuthWorld is a world with the provider acme on an authorization server.
func newOAuthWorld(t testing.TB, extra string) *world {
	t.Helper()
	auth := oauthtest.New(t)
	w := newWorldWith(t, auth)
	if _, err := w.Register(context.Background(), me, "acme.jsonc", auth.Definition(extra), false, false); err != nil {
		t.Fatal(err)
	}
	return w
}

func acmeLogin(connection string) authsome.LoginRequest {
	return authsome.LoginRequest{Provider: "acme", Connection: connection, AllowPrivate: true}
}

// app hands over the credentials of the person's OAuth app, if they are asked for.
func (w *world) app(l *authsome.Login) *authsome.Login {
	w.t.Helper()
	if l.Step != authsome.StepClient {
		return l
	}
	next, err := w.SubmitFields(context.Background(), me, l.ID, fields("client_id", "app", "client_secret", oauthtest.Secret))
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// connect logs in to acme through the browser.
func (w *world) connect(req authsome.LoginRequest) *authsome.Login {
	w.t.Helper()
	l := w.app(w.begin(req))
	done, _, err := w.Callback(context.Background(), w.auth.Consent(w.t, l.AuthorizeURL))
	if err != nil {
		w.t.Fatal(err)
	}
	if done.Status != authsome.LoginCompleted {
		w.t.Fatalf("status %s", done.Status)
	}
	return done
}

func api(header ...string) *authsome.Request { return request("api.acme.example", "/v1/me", header...) }

// ask resolves one request and gives what the upstream would see.
func (w *world) ask(g *authsome.Grant) (string, error) {
	res, err := w.Resolve(context.Background(), g, api())
	if err != nil {
		return "", err
	}
	return set(res, "Authorization"), nil
}

// noCanary fails when an error, a login or the audit shows a secret. The test
// server's tokens and codes all begin alike.
func (w *world) noCanary(texts ...string) {
	w.t.Helper()
	for _, ev := range w.events() {
		texts = append(texts, ev.Detail+ev.Path+ev.Program)
	}
	for _, s := range texts {
		if strings.Contains(s, "canary") {
			w.t.Errorf("a secret is shown in %q", s)
		}
	}
}

func TestLoginByConsent(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	l := w.begin(acmeLogin("work"))
	if l.Step != authsome.StepClient || l.RedirectURI != redirectURI || l.AppsURL != "https://acme.example/apps" || len(l.Form) < 2 || l.AuthorizeURL != "" {
		t.Fatalf("the first login asks for the app: %+v", l)
	}
	if _, err := w.SubmitFields(ctx, me, l.ID, fields("client_secret", oauthtest.Secret)); authsome.CodeOf(err) != authsome.Invalid {
		t.Fatalf("an app without an id was taken: %v", err)
	}
	l = w.app(l)
	if l.Step != authsome.StepAuthorize || !strings.HasPrefix(l.AuthorizeURL, w.auth.URL+"/authorize?") {
		t.Fatalf("then comes the consent: %+v", l)
	}
	back := w.auth.Consent(t, l.AuthorizeURL)
	done, p, err := w.Callback(ctx, back)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "acme" || done.Status != authsome.LoginCompleted || !done.Default || done.Account.Label != "octocat" || done.AuthorizeURL != "" {
		t.Errorf("done: %+v", done)
	}
	c, _, err := w.Connection(me, "acme", "")
	if err != nil || c.AuthType != authsome.AuthOAuth2 || c.Flow != authsome.FlowPKCE || !c.Renewable || c.ExpiresAt.IsZero() ||
		c.Account.ID != "id-octocat" || !slices.Equal(c.Scopes, []string{"read"}) || !slices.Equal(c.Hosts, []string{"api.acme.example"}) {
		t.Errorf("connection: %+v, %v", c, err)
	}
	header, err := w.ask(w.grant(broker.GrantSpec{}))
	if err != nil || !w.auth.Valid(header) {
		t.Errorf("what is injected is no token of the server's: %v", err)
	}
	// A replay, an old tab.
	_, _, err = w.Callback(ctx, back)
	wantCode(t, err, authsome.ConnectionNotFound)
	// The app was asked for once.
	if l := w.begin(acmeLogin("personal")); l.Step != authsome.StepAuthorize {
		t.Errorf("the second login waits for %s", l.Step)
	}
	if !w.recorded(authsome.EventLogin, "ok") || !w.recorded(authsome.EventClientSet, "ok") {
		t.Error("the login, or its client, is not in the audit")
	}
	vars, err := w.Export(ctx, me, "acme", "")
	if err != nil || len(vars) != 1 || vars[0].Name != "ACME_TOKEN" || !w.auth.Valid("Bearer "+vars[0].Value.Reveal()) {
		t.Errorf("export: %d variables, %v", len(vars), err)
	}
	w.noCanary()
}

func TestCallbackRefusals(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	l := w.app(w.begin(acmeLogin("")))
	good := w.auth.Consent(t, l.AuthorizeURL)
	for name, q := range map[string]url.Values{
		"no state":      {"code": good["code"]},
		"empty state":   {"code": good["code"], "state": {""}},
		"forged state":  {"code": good["code"], "state": {"x" + good.Get("state")}},
		"two states":    {"code": good["code"], "state": {good.Get("state"), good.Get("state")}},
		"state's start": {"code": good["code"], "state": {good.Get("state")[:10]}},
	} {
		if _, _, err := w.Callback(ctx, q); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if l, _, _ := w.LoginByID(ctx, me, l.ID); l.Status != authsome.LoginWaiting {
		t.Fatalf("strangers' callbacks ended the login: %s", l.Status)
	}
	// The person says no: the command that waits is told at once.
	waited := make(chan *authsome.Login, 1)
	go func() {
		l, _, _ := w.WaitLogin(ctx, me, l.ID)
		waited <- l
	}()
	_, _, err := w.Callback(ctx, url.Values{"state": good["state"], "error": {"access_denied"}, "error_description": {"<b>no</b>"}})
	if err == nil || authsome.HintOf(err) == "" {
		t.Fatalf("a refusal is no success: %v", err)
	}
	if l := <-waited; l.Status != authsome.LoginFailed || l.Err == nil {
		t.Errorf("who waits sees %s", l.Status)
	}
	if _, _, err := w.Callback(ctx, good); err == nil {
		t.Error("a login that failed was finished")
	}
	if names, _ := w.names("acme"); len(names) != 0 {
		t.Errorf("stored: %v", names)
	}
	if !w.recorded(authsome.EventLoginFailed, "failed") {
		t.Error("the failure is not in the audit")
	}
	w.noCanary(err.Error(), authsome.HintOf(err))

	// A code that the server does not take, for a wrong verifier here.
	l = w.app(w.begin(acmeLogin("")))
	q := w.auth.Consent(t, l.AuthorizeURL)
	q.Set("code", "canary_wrong")
	_, _, err = w.Callback(ctx, q)
	wantCode(t, err, authsome.AuthFailed)
	w.noCanary(err.Error(), authsome.HintOf(err))
	// Time is up.
	l = w.app(w.begin(acmeLogin("")))
	q = w.auth.Consent(t, l.AuthorizeURL)
	w.now = w.now.Add(time.Hour)
	if _, _, err = w.Callback(ctx, q); err == nil {
		t.Error("a login whose time is over was finished")
	}
}

func TestLoginByConsentSurvivesRestart(t *testing.T) {
	w := newOAuthWorld(t, "")
	l := w.app(w.begin(acmeLogin("")))
	w.restart()
	done, _, err := w.Callback(context.Background(), w.auth.Consent(t, l.AuthorizeURL))
	if err != nil || done.Status != authsome.LoginCompleted {
		t.Fatalf("after a restart: %v", err)
	}
}

func TestWrongClientSaysHowToReplaceIt(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	l := w.begin(acmeLogin(""))
	l, err := w.SubmitFields(ctx, me, l.ID, fields("client_id", "app", "client_secret", "canary-wrong-secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.Callback(ctx, w.auth.Consent(t, l.AuthorizeURL))
	wantCode(t, err, authsome.AuthFailed)
	if !strings.Contains(authsome.HintOf(err), "authsome provider set-client acme") {
		t.Errorf("hint %q", authsome.HintOf(err))
	}
	w.noCanary(err.Error(), authsome.HintOf(err))
	// It was never good, so it was not kept; set-client replaces what is.
	if l := w.begin(acmeLogin("")); l.Step != authsome.StepClient {
		t.Errorf("a client that never worked was kept: %s", l.Step)
	}
	if err := w.SetClient(ctx, me, "acme", "", fields("client_id", "app", "client_secret", oauthtest.Secret)); err != nil {
		t.Fatal(err)
	}
	w.connect(acmeLogin(""))
	if err := w.SetClient(ctx, authsome.Identity{Vault: me.Vault, User: me.User, Run: "run_x"}, "acme", "", fields("client_id", "evil")); authsome.CodeOf(err) != authsome.Forbidden {
		t.Errorf("inside a run: %v", err)
	}
	if err := w.ForgetClient(ctx, me, "acme", ""); err != nil {
		t.Fatal(err)
	}
	if l := w.begin(acmeLogin("other")); l.Step != authsome.StepClient {
		t.Errorf("a client that was forgotten is used: %s", l.Step)
	}
}

func TestClientIsNotBorrowed(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	// The same token endpoint, but people are sent elsewhere.
	other := strings.Replace(string(w.auth.Definition("")), w.auth.URL+"/authorize", w.auth.URL+"/other", 1)
	other = strings.Replace(strings.Replace(other, `"acme"`, `"evil"`, 1), "api.acme.example", "api.evil.example", 1)
	if _, err := w.Register(context.Background(), me, "evil.jsonc", []byte(other), false, false); err != nil {
		t.Fatal(err)
	}
	if l := w.begin(authsome.LoginRequest{Provider: "evil", AllowPrivate: true}); l.Step != authsome.StepClient {
		t.Errorf("another server's client was borrowed: %s", l.Step)
	}
}

func TestScopesWidenAndAccountsAreToldApart(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin("work"))
	req := acmeLogin("work")
	if l := w.begin(req); !l.Already {
		t.Error("a login that works was begun again")
	}
	req.Scopes = []string{"read"}
	if l := w.begin(req); !l.Already {
		t.Error("the scopes are there already")
	}
	req.Scopes = []string{"write"}
	l := w.begin(req)
	u, err := url.Parse(l.AuthorizeURL)
	if err != nil || u.Query().Get("scope") != "read write" {
		t.Errorf("widening asks for %q", u.Query().Get("scope"))
	}
	done := w.connect(acmeLogin("personal"))
	if len(done.Notes) != 1 || !strings.Contains(done.Notes[0], "same account as work") {
		t.Errorf("the same account under another name: %q", done.Notes)
	}
	w.auth.Set(func(s *oauthtest.Server) { s.Account = "hubot" })
	if done := w.connect(acmeLogin("third")); len(done.Notes) != 0 || done.Account.Label != "hubot" {
		t.Errorf("another account: %q, %+v", done.Notes, done.Account)
	}
}

func TestNoPortForTheBrowser(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.noBrowser = authsome.E(authsome.DaemonUnavailable, "port 7998 is held by process 1")
	_, _, err := w.Begin(context.Background(), me, acmeLogin(""))
	wantCode(t, err, authsome.DaemonUnavailable)
	req := acmeLogin("")
	req.Flow = authsome.FlowDeviceCode
	if l := w.begin(req); l.Step != authsome.StepClient || l.RedirectURI != "" {
		t.Errorf("a device code needs no port: %+v", l)
	}
}

func TestDeviceCode(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	begin := func(name string) *authsome.Login {
		req := acmeLogin(name)
		req.Flow = authsome.FlowDeviceCode
		return w.app(w.begin(req))
	}
	l := begin("")
	if l.Step != authsome.StepDevice || l.UserCode != "WDJB-MJHT" || l.VerificationURL != w.auth.URL+"/activate" {
		t.Fatalf("the code is shown: %+v", l)
	}
	// Its life is the server's, not the 300 s of other logins.
	if d := l.ExpiresAt.Sub(l.CreatedAt); d < 890*time.Second {
		t.Errorf("the login waits %v", d)
	}
	w.restart() // the next daemon goes on polling
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { w.Run(running); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
	w.auth.Decide("granted")
	done, _, err := w.WaitLogin(ctx, me, l.ID)
	if err != nil || done.Status != authsome.LoginCompleted {
		t.Fatalf("after the consent: %+v, %v", done, err)
	}
	if header, err := w.ask(w.grant(broker.GrantSpec{})); err != nil || !w.auth.Valid(header) {
		t.Errorf("no token of the server's: %v", err)
	}
	l = begin("denied")
	w.auth.Decide("denied")
	if done, _, _ := w.WaitLogin(ctx, me, l.ID); done.Status != authsome.LoginFailed || done.Err == nil {
		t.Errorf("denied: %s", done.Status)
	}
	l = begin("over")
	w.auth.Decide("expired")
	if done, _, _ := w.WaitLogin(ctx, me, l.ID); done.Status != authsome.LoginExpired {
		t.Errorf("expired: %s", done.Status)
	}
	l = begin("cancelled")
	if err := w.AbortLogin(ctx, me, l.ID); err != nil {
		t.Fatal(err)
	}
	w.auth.Decide("granted")
	if done, _, _ := w.WaitLogin(ctx, me, l.ID); done.Status != authsome.LoginCancelled {
		t.Errorf("cancelled: %s", done.Status)
	}
	w.noCanary()
}

func TestLogoutRevokesAtTheService(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.connect(acmeLogin("work"))
	w.auth.Set(func(s *oauthtest.Server) { s.Account = "hubot" })
	w.connect(acmeLogin("personal"))
	header, err := w.ask(w.grant(broker.GrantSpec{}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.Logout(ctx, me, "acme", "work")
	if err != nil || !slices.Equal(out.Connections, []string{"work"}) || !strings.Contains(strings.Join(out.Notes, "\n"), "revoked at auth.example.com") {
		t.Errorf("logout: %+v, %v", out, err)
	}
	if w.auth.Valid(header) || w.auth.Count("revoke") != 2 {
		t.Errorf("the token still works, or not both were revoked (%d requests)", w.auth.Count("revoke"))
	}
	// A service that does not answer changes nothing here.
	w.auth.Server.Close()
	out, err = w.Revoke(ctx, me, "acme")
	if err != nil || !slices.Equal(out.Connections, []string{"personal"}) || !strings.Contains(strings.Join(out.Notes, "\n"), "not revoked at auth.example.com") {
		t.Errorf("revoke: %+v, %v", out, err)
	}
	if names, _ := w.names("acme"); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
	w.noCanary(out.Notes...)
}

func TestTwoOwnersKeepTheirs(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	other := authsome.Identity{Vault: authsome.LocalVault, User: "somebody"}
	if out, err := w.Revoke(context.Background(), other, "acme"); err != nil || len(out.Connections) != 0 {
		t.Errorf("somebody else's revoke: %+v, %v", out, err)
	}
	if names, _ := w.names("acme"); len(names) != 1 || w.auth.Count("revoke") != 0 {
		t.Errorf("mine are %v, and %d tokens were revoked", names, w.auth.Count("revoke"))
	}
}

// failAll answers token requests with what no token is in.
func failAll(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestBadTokenAnswersStoreNothing(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.connect(acmeLogin("first")) // so that the app is known
	for name, h := range map[string]http.HandlerFunc{
		"html":           failAll(200, "text/html", "<html>canary_body</html>"),
		"empty":          failAll(200, "application/json", ""),
		"truncated":      failAll(200, "application/json", `{"access_token":"canary_tr`),
		"no token":       failAll(200, "application/json", `{"token_type":"bearer"}`),
		"wrong type":     failAll(200, "application/json", `{"access_token":["canary_x"]}`),
		"error in 200":   failAll(200, "application/json", `{"error":"bad_verification_code","error_description":"The code is wrong."}`),
		"other scheme":   failAll(200, "application/json", `{"access_token":"canary_x","token_type":"mac"}`),
		"gateway":        failAll(502, "text/html", "canary_bad gateway"),
		"refused scopes": failAll(400, "application/json", `{"error":"invalid_scope"}`),
	} {
		w.auth.Set(func(s *oauthtest.Server) { s.Fail = h })
		l := w.begin(acmeLogin("second"))
		_, _, err := w.Callback(ctx, w.auth.Consent(t, l.AuthorizeURL))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if strings.Contains(err.Error(), "\n") || authsome.HintOf(err) == "" || authsome.CodeOf(err) == authsome.Internal {
			t.Errorf("%s: %q, hint %q, code %s", name, err, authsome.HintOf(err), authsome.CodeOf(err))
		}
		w.noCanary(err.Error(), authsome.HintOf(err))
	}
	if names, _ := w.names("acme"); !slices.Equal(names, []string{"first"}) {
		t.Errorf("stored: %v", names)
	}
}
