package cli_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/internal/oauthtest"
)

// lives starts the person's daemon in a world in which every address is reached
// through via, and whose roots are the certificates.
func (p *person) lives(via string, certificates ...[]byte) {
	p.t.Helper()
	roots := filepath.Join(filepath.Dir(filepath.Dir(p.home)), "roots.pem")
	var text []byte
	for _, der := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	cmd := p.command("daemon", "serve")
	cmd.Env = append(p.environ, "HTTPS_PROXY=http://"+via, "SSL_CERT_FILE="+roots, "SSL_CERT_DIR=/nonexistent")
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _, _ = cmd.Process.Wait() }) // stopAndSearch asks it to end
	p.t.Cleanup(func() { stopAndSearch(p.t, p.home) })
	c := &api.Client{Home: p.home, Wait: patience}
	defer c.Close()
	if _, err := c.Health(context.Background()); err != nil {
		p.t.Fatal(err)
	}
}

// acme gives the person the provider "acme" of an authorization server.
func acme(t *testing.T) (*person, *oauthtest.Server) {
	t.Helper()
	p, s := newPerson(t), oauthtest.New(t)
	p.lives(s.Via, s.Certificate().Raw)
	file := filepath.Join(t.TempDir(), "acme.json")
	if err := os.WriteFile(file, s.Definition(""), 0o600); err != nil {
		t.Fatal(err)
	}
	p.must("", "register", file, "--yes", "--quiet")
	return p, s
}

// hasApp sets the OAuth app that the server knows.
func (p *person) hasApp() {
	p.t.Helper()
	p.must(oauthtest.Secret, "provider", "set-client", "acme", "--client-id", "app", "--secret-stdin")
}

// oauthApp is what the page asks for.
func oauthApp() map[string]authsome.Secret {
	return map[string]authsome.Secret{
		authsome.FieldClientID: authsome.NewSecret("app"), authsome.FieldClientSecret: authsome.NewSecret(oauthtest.Secret),
	}
}

// address takes the address out of a line that says where to go.
func address(t *testing.T, line string) string {
	t.Helper()
	_, a, ok := strings.Cut(strings.TrimSpace(line), "Visit: ")
	if !ok {
		t.Fatalf("there is no address in %q", line)
	}
	return a
}

// comesBack is the person's browser: it consents at the address, and is led back.
func comesBack(t *testing.T, s *oauthtest.Server, at string) string {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil || !strings.HasPrefix(at, s.URL+"/authorize?") {
		t.Fatalf("consent is asked at %q (%v)", at, err)
	}
	return visits(t, u.Query().Get("redirect_uri")+"?"+s.Consent(t, at).Encode())
}

// visits is the page that a browser gets.
func visits(t *testing.T, at string) string {
	t.Helper()
	resp, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + " " + string(page)
}

// document is what a command printed with --json.
func document(t *testing.T, text string) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return doc
}

func want(t *testing.T, doc map[string]any, members map[string]any) {
	t.Helper()
	for name, value := range members {
		if doc[name] != value {
			t.Errorf("%s is %v, not %v", name, doc[name], value)
		}
	}
}

// TestLoginConsent goes through consent in a browser, and looks at what is shown
// of the account afterwards.
func TestLoginConsent(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	p.hasApp()
	w := p.begins("login", "acme", "--flow", "pkce", "--no-browser", "--json")
	at := address(t, w.says("Visit: https://auth.example.com/authorize?"))
	if page := comesBack(t, s, at); !strings.HasPrefix(page, "200") || !strings.Contains(page, "Acme is connected as octocat") {
		t.Errorf("the browser shows %s", page)
	}
	c, stdout, stderr := w.ends()
	doc := document(t, stdout)
	want(t, doc, map[string]any{
		"status": "success", "provider": "acme", "connection": "default", "record_status": "connected",
		"is_default": true, "step": nil, "auth_url": nil, "poll": nil, "error": nil,
	})
	if account, _ := doc["account"].(map[string]any); c != 0 || account["label"] != "octocat" {
		t.Errorf("exit code %d, %s%s", c, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, canary) {
		t.Errorf("a secret was printed: %s%s", stdout, stderr)
	}

	// The tab is reloaded.
	u, _ := url.Parse(at)
	if page := visits(t, u.Query().Get("redirect_uri")+"?code=x&state="+url.QueryEscape(u.Query().Get("state"))); !strings.HasPrefix(page, "400") {
		t.Errorf("a replay is answered with %s", page)
	}

	// Another account, under another name; then the same one again.
	s.Set(func(s *oauthtest.Server) { s.Account = "hubot" })
	w = p.begins("login", "acme", "--flow", "pkce", "--no-browser", "--connection", "work")
	comesBack(t, s, address(t, w.says("Visit: https://")))
	if c, stdout, _ := w.ends(); c != 0 || !strings.Contains(stdout, "Logged in to acme (work) as hubot.\n") {
		t.Errorf("exit code %d, %s", c, stdout)
	}
	w = p.begins("login", "acme", "--flow", "pkce", "--no-browser", "--connection", "third")
	comesBack(t, s, address(t, w.says("Visit: https://")))
	if c, _, stderr := w.ends(); c != 0 || !strings.Contains(stderr, "Note: this is the same account as work (hubot)") {
		t.Errorf("exit code %d, %s", c, stderr)
	}
	list := p.must("", "list")
	for _, row := range []string{"default (default)  octocat", "work               hubot"} {
		if !strings.Contains(list, row) {
			t.Errorf("no %q in\n%s", row, list)
		}
	}

	// What there is to know of a connection.
	for field, value := range map[string]string{
		"account": "octocat", "scopes": "read", "status": "connected", "flow": "pkce", "last_refresh_error": "", "last_refresh_at": "", "base_url": "",
	} {
		if got := p.must("", "get", "acme", "--field", field); got != value+"\n" {
			t.Errorf("%s is %q, not %q", field, got, value)
		}
	}
	at = strings.TrimSpace(p.must("", "get", "acme", "--field", "expires_at"))
	if expires, err := time.Parse(time.RFC3339, at); err != nil || time.Until(expires) < 30*time.Minute || time.Until(expires) > time.Hour {
		t.Errorf("it expires at %q", at)
	}
	if got := document(t, p.must("", "get", "acme", "--field", "last_refresh_error", "--json")); got["last_refresh_error"] != nil || got["provider"] != "acme" {
		t.Errorf("as JSON: %v", got)
	}
	if c, _, _ := p.does("", "get", "acme", "--field", "nope"); c != 1 {
		t.Errorf("an unknown field: exit code %d", c)
	}

	// Out again: the server is told, and what was done is said.
	c, stdout, stderr = p.does("", "logout", "acme", "--connection", "work")
	if c != 0 || s.Count("revoke") == 0 || stderr == "" {
		t.Errorf("exit code %d, the server was told %d times, %s%s", c, s.Count("revoke"), stdout, stderr)
	}
	doc = document(t, p.must("", "revoke", "acme", "--json"))
	if notes, _ := doc["notes"].([]any); doc["status"] != "revoked" || len(notes) == 0 {
		t.Errorf("revoke says %v", doc)
	}
}

// TestLoginDenied: the person says no at the service.
func TestLoginDenied(t *testing.T) {
	t.Parallel()
	p, _ := acme(t)
	p.hasApp()
	w := p.begins("login", "acme", "--flow", "pkce", "--no-browser")
	u, err := url.Parse(address(t, w.says("Visit: https://")))
	if err != nil {
		t.Fatal(err)
	}
	back := u.Query().Get("redirect_uri") + "?" + url.Values{
		"error": {"access_denied"}, "error_description": {"<b>no\x1b[2J"}, "state": {u.Query().Get("state")},
	}.Encode()
	if page := visits(t, back); !strings.HasPrefix(page, "400") || strings.Contains(page, "<b>") || !strings.Contains(page, "Nothing was stored.") {
		t.Errorf("the browser shows %s", page)
	}
	if c, stdout, stderr := w.ends(); c != 2 || stdout != "" || !strings.Contains(stderr, "Hint: authsome login acme") {
		t.Errorf("exit code %d, %s%s", c, stdout, stderr)
	}
	if c, _, _ := p.does("", "get", "acme"); c != 3 {
		t.Errorf("something was stored: %d", c)
	}
}

// TestLoginAsksForApp goes through the page that asks for an OAuth app, as an
// agent that polls sees it and as a command that waits does.
func TestLoginAsksForApp(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	c, stdout, stderr := p.does("", "login", "acme", "--flow", "pkce", "--no-wait", "--json")
	doc := document(t, stdout)
	id, _ := doc["session_id"].(string)
	want(t, doc, map[string]any{
		"status": "started", "step": "client", "record_status": "not_connected", "apps_url": "https://acme.example/apps",
		"poll": "authsome login --status " + id,
	})
	page, _ := doc["auth_url"].(string)
	redirect, _ := doc["redirect_uri"].(string)
	if c != 0 || !strings.HasPrefix(page, "http://127.0.0.1:") || !strings.HasSuffix(redirect, authsome.CallbackPath) || !strings.Contains(stderr, "Visit: "+page) {
		t.Errorf("exit code %d, %s%s", c, stdout, stderr)
	}
	want(t, document(t, p.must("", "login", "--status", id)), map[string]any{"status": "waiting_for_user", "step": "client", "auth_url": page})

	w := p.begins("login", "acme", "--flow", "pkce", "--no-browser", "--connection", "waits")
	waits := loginID(t, w.says("Visit: http://127.0.0.1:"))
	for _, l := range []string{id, waits} {
		if _, err := p.client().SubmitLogin(t.Context(), l, oauthApp()); err != nil {
			t.Fatal(err)
		}
	}
	// The command notices the next step, without having been told.
	comesBack(t, s, address(t, w.says("Visit: https://auth.example.com/authorize?")))
	if c, stdout, _ := w.ends(); c != 0 || !strings.Contains(stdout, "Logged in to acme (waits) as octocat.") {
		t.Errorf("exit code %d, %s", c, stdout)
	}
	doc = document(t, p.must("", "login", "--status", id))
	want(t, doc, map[string]any{"status": "waiting_for_user", "step": "authorize"})
	at, _ := doc["auth_url"].(string)
	comesBack(t, s, at)
	want(t, document(t, p.must("", "login", "--status", id)), map[string]any{
		"status": "completed", "step": nil, "auth_url": nil, "poll": nil, "record_status": "connected",
	})

	// An app that the server does not know says how it is replaced.
	p.must("canary-wrong", "provider", "set-client", "acme", "--client-id", "app", "--secret-stdin")
	w = p.begins("login", "acme", "--flow", "pkce", "--no-browser", "--force")
	comesBack(t, s, address(t, w.says("Visit: https://")))
	if c, _, stderr := w.ends(); c != 2 || !strings.Contains(stderr, "Hint: authsome provider set-client acme") {
		t.Errorf("exit code %d, %s", c, stderr)
	}
	if got := document(t, p.must("", "provider", "set-client", "acme", "--forget", "--json")); got["status"] != "forgotten" {
		t.Errorf("it says %v", got)
	}
	want(t, document(t, p.must("", "login", "acme", "--flow", "pkce", "--force", "--no-wait", "--json")), map[string]any{"step": "client", "record_status": "connected"})
}

// TestLoginByCode logs in where there is no display, as over SSH, and as an
// agent's session does.
func TestLoginByCode(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	p.hasApp()
	w := p.begins("login", "acme")
	w.says("There is no display here, so this login is by a code that is entered on any device. In a browser on this machine: --flow pkce")
	w.says("Visit: https://auth.example.com/activate")
	w.says("Code:  WDJB-MJHT")
	s.Decide("granted")
	if c, stdout, stderr := w.ends(); c != 0 || !strings.Contains(stdout, "Logged in to acme (default) as octocat.") {
		t.Errorf("exit code %d, %s%s", c, stdout, stderr)
	}
	// It works, so that nothing is begun by another flow either.
	if got := p.must("", "login", "acme"); !strings.HasPrefix(got, "Already logged in to acme (default) as octocat.") {
		t.Errorf("a second login says %q", got)
	}

	c, stdout, stderr := p.does("", "login", "acme", "--connection", "agent", "--no-wait", "--json")
	doc := document(t, stdout)
	want(t, doc, map[string]any{
		"status": "started", "step": "device", "user_code": "WDJB-MJHT", "verification_uri": "https://auth.example.com/activate",
		"verification_uri_complete": nil, "record_status": "not_connected",
	})
	if c != 0 || strings.ContainsAny(stdout+stderr, "▀▄█") || !strings.Contains(stderr, "Code:  WDJB-MJHT") {
		t.Errorf("exit code %d, %s%s", c, stdout, stderr)
	}
	poll := strings.Fields(doc["poll"].(string))[1:]
	want(t, document(t, p.must("", poll...)), map[string]any{"status": "waiting_for_user", "user_code": "WDJB-MJHT"})
	s.Decide("granted")
	ended := func() (int, map[string]any) {
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			c, stdout, _ := p.does("", poll...)
			if doc := document(t, stdout); doc["status"] != "waiting_for_user" || time.Now().After(end) {
				return c, doc
			}
		}
	}
	c, doc = ended()
	if want(t, doc, map[string]any{"status": "completed", "record_status": "connected"}); c != 0 {
		t.Errorf("exit code %d of a login that has worked", c)
	}

	// No, at the service.
	doc = document(t, p.must("", "login", "acme", "--flow", "device_code", "--connection", "denied", "--no-wait", "--json"))
	poll = strings.Fields(doc["poll"].(string))[1:]
	s.Decide("denied")
	c, doc = ended()
	if message, _ := doc["message"].(string); c != 2 || doc["error"] == nil || message == "" || doc["record_status"] != "not_connected" {
		t.Errorf("exit code %d, %v", c, doc)
	}

	// The session ended before anybody did.
	w = p.begins("login", "acme", "--connection", "late", "--timeout", "1s", "--json")
	w.says("Code:")
	if c, stdout, _ := w.ends(); c != 2 || document(t, stdout)["error"] != string(authsome.TimedOut) {
		t.Errorf("exit code %d, %s", c, stdout)
	}
}

// TestLoginByCodeInterrupted: Ctrl-C ends the waiting; the login goes on.
func TestLoginByCodeInterrupted(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	p.hasApp()
	w := p.begins("login", "acme", "--flow", "device_code")
	w.says("Waiting until the code is entered there. Ctrl-C ends the waiting, not the login.")
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c, _, stderr := w.ends()
	if c != 2 || !strings.Contains(stderr, "the login goes on") || !strings.Contains(stderr, "Hint: finish it at https://auth.example.com/activate") {
		t.Errorf("exit code %d, %s", c, stderr)
	}
	s.Decide("granted")
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if c, _, _ := p.does("", "get", "acme"); c == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatal("the login ended with the command")
		}
	}
}
