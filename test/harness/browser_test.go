package harness_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
	"github.com/authsome/authsome/test/oauthserver"
)

// TestBrowser clicks through the pages of every authorization server in real
// Chromium, up to a callback on a port of this machine.
func TestBrowser(t *testing.T) {
	n, err := internet.Start(t.TempDir(), internet.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	calls := make(chan url.Values, 100)
	callback := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/auth/callback/oauth" {
			calls <- r.URL.Query()
			_, _ = io.WriteString(w, "<!doctype html><p>You can close <b>this tab</b>.</p>")
		}
	}))
	t.Cleanup(callback.Close)
	redirect := callback.URL + "/auth/callback/oauth"
	n.AllowRedirect(redirect)
	s, err := oauthserver.Start(oauthserver.Config{
		Host: "auth.example.com", Device: true, Clients: []oauthserver.Client{
			oauthserver.NewClient("app", "secret", "", redirect).Grants(oauthserver.GrantCode, oauthserver.GrantRefresh, oauthserver.GrantDevice),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	n.Handle("auth.example.com", s)
	b, err := harness.StartBrowser(t.Context(), n, "hubot")
	if errors.Is(err, harness.ErrNoBrowser) {
		if _, derr := os.Stat("/etc/debian_version"); derr != nil {
			t.Skip(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a browser that hangs
	t.Cleanup(cancel)

	sum := sha256.Sum256([]byte(strings.Repeat("v", 43)))
	ask := func(address, id string, more ...string) string {
		v := url.Values{
			"client_id": {id}, "redirect_uri": {redirect}, "response_type": {"code"}, "state": {"the-state"}, "owner": {"user"},
			"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return address + "?" + v.Encode()
	}
	mcp, o := n.AddMCP(internet.MCP{Host: "browser.example.com", Path: "/mcp", NoRegistration: true})
	o.AllowRedirect(redirect)
	id := func(host string) string { return n.OAuth(host).App().ID }
	for name, address := range map[string]string{
		"oidc-provider": ask("https://auth.example.com/auth", "app", "scope", "openid read"),
		"GitHub":        ask("https://github.com/login/oauth/authorize", id("github.com"), "scope", "repo"),
		"Google":        ask("https://accounts.google.com/o/oauth2/v2/auth", id("accounts.google.com"), "scope", "email"),
		"Notion":        ask("https://api.notion.com/v1/oauth/authorize", id("api.notion.com")),
		"Slack":         ask("https://slack.com/oauth/v2/authorize", id("slack.com"), "scope", "chat:write"),
		"MCP":           ask(mcp.Issuer()+"/authorize", o.App().ID, "resource", mcp.URL()),
	} {
		page, err := b.Consent(ctx, address)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		q := <-calls
		if page.Text != "You can close this tab." || q.Get("code") == "" || q.Get("state") != "the-state" {
			t.Errorf("%s ends at %s with %q; the callback has %v", name, page.URL, page.Text, q)
		}
	}
	if _, err := b.Deny(ctx, ask("https://github.com/login/oauth/authorize", id("github.com"))); err != nil {
		t.Fatal(err)
	}
	if q := <-calls; q.Get("error") != "access_denied" || q.Has("code") {
		t.Errorf("after a no, the callback has %v", q)
	}
	tokens, err := s.Tokens()
	if err != nil || len(tokens) == 0 || tokens[0].Login != "hubot" {
		t.Errorf("the name that was typed has not arrived: %+v %v", tokens, err)
	}

	// A device, by its code and by the address that has it.
	for _, complete := range []bool{false, true} {
		resp, err := n.Client().PostForm("https://auth.example.com/device/auth", url.Values{"client_id": {"app"}, "client_secret": {"secret"}, "scope": {"read"}})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		field := func(name string) string {
			_, rest, _ := strings.Cut(string(data), `"`+name+`":"`)
			v, _, _ := strings.Cut(rest, `"`)
			return v
		}
		address, code := field("verification_uri"), field("user_code")
		if complete {
			address, code = field("verification_uri_complete"), ""
		}
		page, err := b.Device(ctx, address, code)
		if err != nil || !strings.Contains(page.Text, "You can close this page.") {
			t.Errorf("%q: %v", page.Text, err)
		}
	}

	// Chromium asked nobody of its own accord.
	for _, host := range n.Dialled() {
		if n.Handler(host) == nil || strings.HasPrefix(host, "www.google") {
			t.Errorf("Chromium called %s", host)
		}
	}

	// A host whose certificate nobody vouches for is not shown.
	if err := n.Distrust("echo.example.com"); err != nil {
		t.Fatal(err)
	}
	if page, err := b.Open(ctx, "https://echo.example.com/small"); err == nil {
		t.Errorf("an untrusted host shows %q", page.Text)
	}
	if page, err := b.Open(ctx, "https://api.notion.com/v1/users/me"); err != nil || !strings.Contains(page.Text, "unauthorized") {
		t.Errorf("%q: %v", page.Text, err)
	}
}
