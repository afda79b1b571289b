package web_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/web"
)

const (
	host    = "127.0.0.1:7998"
	goodKey = "sk-canary-abcdefghijklmnopqrstuvwxyz"
	badKey  = "pk-canary-not-a-key"
)

// desk keeps logins in memory, by the rules of web.Logins.
type desk struct {
	mu     sync.Mutex
	logins map[string]*entry
	calls  int
	// broken, when set, is what Submit answers.
	broken error
	// meanwhile, when set, runs before Submit or Confirm does its work.
	meanwhile func(*authsome.Login)
	// then, when set, is the step that Submit and Confirm lead to.
	then authsome.LoginStep
}

type entry struct {
	authsome.Login
	provider *authsome.Provider
	stored   map[string]string
	state    string // of the authorization request
	code     string // that the callback brought
}

func newDesk() *desk { return &desk{logins: map[string]*entry{}} }

// begin starts a login and returns it; its ticket is derived from its id.
func (d *desk) begin(p *authsome.Provider, connection string) *authsome.Login {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := fmt.Sprintf("sess_%026d", len(d.logins)+1)
	e := &entry{provider: p, state: "state-canary-" + id, Login: authsome.Login{
		ID: id, Provider: p.Name, Connection: connection, Flow: authsome.FlowAPIKey, Status: authsome.LoginWaiting,
		Step: authsome.StepKey, Form: p.Key.Fields,
		Ticket: authsome.NewSecret("ticket-canary-" + id), ExpiresAt: time.Now().Add(5 * time.Minute),
	}}
	d.logins[id] = e
	return &e.Login
}

// end gives a login a state.
func (d *desk) end(id string, s authsome.LoginStatus, err *authsome.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logins[id].Status, d.logins[id].Err = s, err
}

// change does something to the logins while the pages may be reading them.
func (d *desk) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// state returns a login's state and what it stored.
func (d *desk) state(id string) (authsome.LoginStatus, map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logins[id].Status, maps.Clone(d.logins[id].stored)
}

func (d *desk) find(id string, ticket authsome.Secret) (*entry, error) {
	d.calls++
	e := d.logins[id]
	if e == nil || ticket.IsZero() || !e.Ticket.Equal(ticket) {
		return nil, authsome.E(authsome.ConnectionNotFound, "this login is not known, or is over")
	}
	return e, nil
}

func (d *desk) Login(_ context.Context, id string, ticket authsome.Secret) (*authsome.Login, *authsome.Provider, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(id, ticket)
	if err != nil {
		return nil, nil, err
	}
	if e.provider == nil {
		return nil, nil, authsome.E(authsome.ProviderNotFound, "the provider %s was removed", e.Provider)
	}
	l := e.Login
	return &l, e.provider, nil
}

func (d *desk) Submit(_ context.Context, id string, ticket authsome.Secret, fields map[string]authsome.Secret) (*authsome.Login, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(id, ticket)
	if err != nil {
		return nil, err
	}
	if d.meanwhile != nil {
		d.meanwhile(&e.Login)
	}
	if e.Status.Final() {
		return nil, authsome.E(authsome.AuthFailed, "log in to %s: this login is over", e.Provider)
	}
	if d.broken != nil {
		return nil, d.broken
	}
	if e.Step != authsome.StepKey && e.Step != authsome.StepClient {
		return nil, authsome.E(authsome.Invalid, "log in to %s: this login does not wait for that", e.Provider)
	}
	values := map[string]string{}
	for _, f := range e.Form {
		v := fields[f.Name].Reveal()
		if v == "" && f.Optional {
			continue
		}
		if v == "" || f.Pattern != "" && !regexp.MustCompile(`\A(?:`+f.Pattern+`)\z`).MatchString(v) {
			bad := authsome.E(authsome.Invalid, "log in to %s: the %s does not look right", e.Provider, strings.ToLower(f.Label)).WithHint("%s", f.Hint)
			bad.Field = f.Name
			return nil, bad
		}
		values[f.Name] = v
	}
	if e.stored = values; d.then != "" {
		e.Step = d.then
	} else {
		e.complete()
	}
	l := e.Login
	return &l, nil
}

func (e *entry) complete() {
	e.Status, e.Step, e.Default = authsome.LoginCompleted, "", e.Connection == authsome.DefaultConnection
}

func (d *desk) Confirm(_ context.Context, id string, ticket authsome.Secret) (*authsome.Login, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(id, ticket)
	if err != nil {
		return nil, err
	}
	if d.meanwhile != nil {
		d.meanwhile(&e.Login)
	}
	switch {
	case e.Status.Final():
		return nil, authsome.E(authsome.AuthFailed, "log in to %s: this login is over", e.Provider)
	case d.broken != nil:
		return nil, d.broken
	case e.Step != authsome.StepConfirm:
		return nil, authsome.E(authsome.Invalid, "log in to %s: this login does not wait for that", e.Provider)
	}
	e.Step = d.then
	l := e.Login
	return &l, nil
}

func (d *desk) Callback(_ context.Context, query url.Values) (*authsome.Login, *authsome.Provider, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.broken != nil {
		return nil, nil, d.broken
	}
	for _, e := range d.logins {
		if e.Status.Final() || e.Step != authsome.StepAuthorize || query.Get("state") != e.state {
			continue
		}
		if query.Get("error") == "access_denied" {
			e.Status, e.Err = authsome.LoginCancelled, authsome.E(authsome.Cancelled, "log in to %s: you said no there", e.Provider)
			return nil, e.provider, e.Err.WithHint("authsome login %s", e.Provider)
		}
		e.code = query.Get("code")
		e.complete()
		l := e.Login
		return &l, e.provider, nil
	}
	return nil, nil, authsome.E(authsome.ConnectionNotFound, "this login is not known, or is over").WithHint("authsome login PROVIDER")
}

func (d *desk) CancelLogin(_ context.Context, id string, ticket authsome.Secret) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(id, ticket)
	if err == nil && !e.Status.Final() {
		e.Status = authsome.LoginCancelled
	}
	return err
}

func openai() *authsome.Provider {
	return &authsome.Provider{
		Name: "openai", DisplayName: "OpenAI", Source: authsome.Bundled, DocsURL: "https://platform.openai.com/api-keys",
		Routes: []authsome.Route{{Host: "api.openai.com"}, {Host: "api.openai.com", Path: "/v1"}, {Host: "eu.api.openai.com", Port: 8443}},
		Key: authsome.KeyForm{Fields: []authsome.KeyField{{
			Name: "api_key", Label: "API key", Pattern: "sk-[A-Za-z0-9_-]{20,}", Hint: "OpenAI API keys start with sk-.",
		}}},
	}
}

func twilio() *authsome.Provider {
	return &authsome.Provider{
		Name: "twilio", DisplayName: "Twilio", Routes: []authsome.Route{{Host: "api.twilio.com"}},
		Key: authsome.KeyForm{Fields: []authsome.KeyField{
			{Name: "account_sid", Label: "Account SID", Public: true, Pattern: "AC[0-9a-f]{4}", Hint: "An account SID is AC and 4 hex digits."},
			{Name: "auth_token", Label: "Auth token", Pattern: "[0-9a-z-]{8,}", Hint: "An auth token has 8 letters or more."},
		}},
	}
}

// github logs in by OAuth.
func github() *authsome.Provider {
	return &authsome.Provider{
		Name: "github", DisplayName: "GitHub", Source: authsome.Bundled, DocsURL: "https://docs.github.com/apps",
		Routes:      []authsome.Route{{Host: "api.github.com"}},
		OAuth:       &authsome.OAuth{BaseURL: "https://github.com", TokenURL: "{base_url}/login/oauth/access_token"},
		SelfManaged: []authsome.Route{{Host: "{host}", Path: "/api"}},
	}
}

// clientForm asks for an OAuth app.
var clientForm = []authsome.KeyField{
	{Name: authsome.FieldClientID, Label: "Client ID", Public: true},
	{Name: authsome.FieldClientSecret, Label: "Client secret", Optional: true},
	{Name: authsome.FieldPrivateKey, Label: "Private key", Optional: true, Multiline: true},
}

// consent is where GitHub asks.
const consent = "https://github.com/login/oauth/authorize?client_id=x%20y&redirect_uri=http%3A%2F%2F127.0.0.1%3A7998%2Fauth%2Fcallback%2Foauth&state=a'b%2Bc"

// at starts a login by OAuth that waits in a step.
func (d *desk) at(step authsome.LoginStep, connection string) *authsome.Login {
	l := d.begin(github(), connection)
	l.Flow, l.Step, l.Form = authsome.FlowPKCE, step, nil
	switch step {
	case authsome.StepClient:
		l.Form, l.RedirectURI, l.AppsURL = clientForm, "http://"+host+authsome.CallbackPath, "https://github.com/settings/developers"
	case authsome.StepConfirm:
		l.Resource, l.Server = "mcp.example.com", "auth.elsewhere.example"
	case authsome.StepAuthorize:
		l.AuthorizeURL = consent
	case authsome.StepDevice:
		l.Flow, l.UserCode, l.VerificationURL = authsome.FlowDeviceCode, "WDJB-MJHT", "https://github.com/login/device"
		l.VerificationURLComplete = "https://github.com/login/device?user_code=WDJB-MJHT"
	}
	return l
}

// bench is a desk, the pages on top of it and what they logged.
type bench struct {
	*testing.T
	*desk
	pages http.Handler
	mu    sync.Mutex
	log   bytes.Buffer
}

func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// newBench serves the pages under addr. When the test is over, the log must be
// free of canaries.
func newBench(t *testing.T, addr string) *bench {
	b := &bench{T: t, desk: newDesk()}
	b.pages = web.New(web.Config{
		Logins: b.desk,
		Health: func() any { return map[string]string{"status": "ok", "version": "v1"} },
		Ready: func(context.Context) (bool, any) {
			return false, map[string]any{"status": "not_ready", "issues": []string{"<vault>"}}
		},
		Host:   func() string { return addr },
		Logger: slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	t.Cleanup(func() {
		if strings.Contains(b.logged(), "canary") {
			t.Errorf("the log holds a secret: %s", b.logged())
		}
	})
	return b
}

// answer is what a browser got.
type answer struct {
	*http.Response
	body string
}

// ask sends a request of a browser; header holds pairs, of which "Host" sets
// the Host header. A body is a form.
func (b *bench) ask(method, target, body string, header ...string) answer {
	b.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = host
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.pages.ServeHTTP(w, r)
	resp := w.Result()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return answer{resp, string(data)}
}

// want checks the status and that the page has each of the texts.
func (b *bench) want(a answer, status int, texts ...string) {
	b.Helper()
	if a.StatusCode != status {
		b.Errorf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			b.Errorf("no %q in: %s", text, a.body)
		}
	}
	if strings.Contains(a.body, "canary") {
		b.Errorf("the page holds a secret: %s", a.body)
	}
}

func path(l *authsome.Login) string { return "/auth/sessions/" + l.ID + "/input" }

func link(l *authsome.Login) string { return path(l) + "?ticket=" + l.Ticket.Reveal() }

var tokenPattern = regexp.MustCompile(`name="form_token" value="([^"]+)"`)

// open follows a login's link as a browser does, and returns the form, its
// cookie and its token.
func (b *bench) open(l *authsome.Login) (page answer, cookie, token string) {
	b.Helper()
	first := b.ask("GET", link(l), "")
	if first.StatusCode != http.StatusSeeOther || len(first.Cookies()) != 1 {
		b.Fatalf("the link answers %d with %d cookies: %s", first.StatusCode, len(first.Cookies()), first.body)
	}
	c := first.Cookies()[0]
	cookie = c.Name + "=" + c.Value
	page = b.ask("GET", first.Header.Get("Location"), "", "Cookie", cookie)
	checkMarkup(b.T, page.body)
	m := tokenPattern.FindStringSubmatch(page.body)
	if m == nil {
		b.Fatalf("no form: %d %s", page.StatusCode, page.body)
	}
	return page, cookie, m[1]
}

// page follows a login's link to a page that may have no form.
func (b *bench) page(l *authsome.Login) (page answer, cookie string) {
	b.Helper()
	c := b.ask("GET", link(l), "").Cookies()
	if len(c) != 1 {
		b.Fatal("the link gives no cookie")
	}
	cookie = c[0].Name + "=" + c[0].Value
	page = b.ask("GET", path(l), "", "Cookie", cookie)
	checkMarkup(b.T, page.body)
	return page, cookie
}

// send sends a form as a browser does.
func (b *bench) send(l *authsome.Login, cookie, token string, values ...string) answer {
	b.Helper()
	form := url.Values{"form_token": {token}}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	return b.ask("POST", path(l), form.Encode(), "Cookie", cookie, "Sec-Fetch-Site", "same-origin", "Origin", "http://"+host)
}

// untouched checks that a login is waiting and has stored nothing.
func (b *bench) untouched(l *authsome.Login) {
	b.Helper()
	if s, stored := b.state(l.ID); s != authsome.LoginWaiting || stored != nil {
		b.Errorf("the login is %s and has stored %d fields", s, len(stored))
	}
}
