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
	// meanwhile, when set, runs before Submit does its work.
	meanwhile func(*authsome.Login)
}

type entry struct {
	authsome.Login
	provider *authsome.Provider
	stored   map[string]string
}

func newDesk() *desk { return &desk{logins: map[string]*entry{}} }

// begin starts a login and returns it; its ticket is derived from its id.
func (d *desk) begin(p *authsome.Provider, connection string) *authsome.Login {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := fmt.Sprintf("sess_%026d", len(d.logins)+1)
	e := &entry{provider: p, Login: authsome.Login{
		ID: id, Provider: p.Name, Connection: connection, Flow: authsome.FlowAPIKey, Status: authsome.LoginWaiting,
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
	values := map[string]string{}
	for _, f := range e.provider.Key.Fields {
		v := fields[f.Name].Reveal()
		if v == "" || f.Pattern != "" && !regexp.MustCompile(`\A(?:`+f.Pattern+`)\z`).MatchString(v) {
			bad := authsome.E(authsome.Invalid, "log in to %s: the %s does not look right", e.Provider, strings.ToLower(f.Label)).WithHint("%s", f.Hint)
			bad.Field = f.Name
			return nil, bad
		}
		values[f.Name] = v
	}
	e.Status, e.stored, e.Default = authsome.LoginCompleted, values, e.Connection == authsome.DefaultConnection
	l := e.Login
	return &l, nil
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
	m := tokenPattern.FindStringSubmatch(page.body)
	if m == nil {
		b.Fatalf("no form: %d %s", page.StatusCode, page.body)
	}
	return page, cookie, m[1]
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
