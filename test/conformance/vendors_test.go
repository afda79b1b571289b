package conformance

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/provider"
	"github.com/authsome/authsome/test/internet"
)

// vendors is the fake internet with a client that lives in it.
func vendors(t *testing.T) (*internet.Internet, *flow.Client) {
	t.Helper()
	n, err := internet.Start(t.TempDir(), internet.Credentials{OpenAI: "sk-x", Anthropic: "sk-ant-x", GitHub: []string{"ghp_x"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(n.RootPEM())
	return n, flow.New(flow.Config{Roots: roots, Proxy: func(*url.URL) (*url.URL, error) { return url.Parse(n.Proxy()) }})
}

// bundled is the server of a bundled definition.
func bundled(t *testing.T, name, base string) (*authsome.Provider, authsome.OAuth) {
	t.Helper()
	catalog := provider.NewCatalog()
	p, ok := catalog.Get(name)
	if !ok || p.OAuth == nil {
		t.Fatalf("there is no OAuth definition %s", name)
	}
	o, err := flow.At(p.OAuth, base)
	if err != nil {
		t.Fatal(err)
	}
	return p, o
}

// login gives consent and exchanges the code.
func login(t *testing.T, n *internet.Internet, c *flow.Client, s flow.Server) *flow.Token {
	t.Helper()
	person, err := n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	state, verifier := authsome.NewSecret(rand.Text()), flow.NewVerifier()
	address, err := s.AuthorizeURL(flow.Authorization{State: state, Verifier: verifier, Scopes: s.Scopes})
	if err != nil {
		t.Fatal(err)
	}
	back, err := person.Authorize(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	code, err := s.Callback(back.Query(), state)
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.Exchange(t.Context(), s, code, verifier)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestVendors logs in with the bundled definitions at servers that are as odd as
// their originals.
func TestVendors(t *testing.T) {
	n, c := vendors(t)
	for _, tt := range []struct {
		provider, base, server string
		rotating, refreshes    bool
	}{
		{provider: "github", server: "github.com"},
		{provider: "github", server: "github.com", rotating: true, refreshes: true},
		{provider: "github", base: "https://ghe.example.com", server: "ghe.example.com"},
		{provider: "google", server: "accounts.google.com", refreshes: true},
		{provider: "notion", server: "api.notion.com"},
		{provider: "slack", server: "slack.com"},
		{provider: "slack", server: "slack.com", rotating: true, refreshes: true},
	} {
		t.Run(tt.provider+" "+tt.base, func(t *testing.T) {
			srv := n.OAuth(tt.server)
			app := srv.App()
			app.Rotating = tt.rotating
			srv.AddApp(app)
			_, o := bundled(t, tt.provider, tt.base)
			s := flow.Server{OAuth: o, App: authsome.OAuthClient{ID: app.ID, Secret: authsome.NewSecret(app.Secret)}, RedirectURI: internet.Redirect}
			if o.RedirectURI != "" {
				s.RedirectURI = o.RedirectURI
			}
			srv.AllowRedirect(s.RedirectURI)
			token := login(t, n, c, s)
			if !srv.Alive(token.Access.Reveal()) || token.Refresh.IsZero() && tt.refreshes {
				t.Fatalf("token %+v", token)
			}
			for _, scope := range token.Scopes {
				if strings.ContainsAny(scope, ", ") {
					t.Errorf("scopes %q", token.Scopes)
				}
			}
			if s.UserInfo != nil {
				if who, err := c.Account(t.Context(), s, token.Access); err != nil || who.ID == "" || who.Label == "" {
					t.Errorf("account %+v, %v", who, err)
				}
			} else if token.Account.Label == "" {
				t.Error("nothing tells whose account it is")
			}
			if tt.refreshes {
				next, err := c.Refresh(t.Context(), s, token.Refresh, nil)
				if err != nil || !srv.Alive(next.Access.Reveal()) {
					t.Fatalf("refresh: %v", err)
				}
				if tt.rotating {
					_, err := c.Refresh(t.Context(), s, token.Refresh, nil)
					wants(t, err, authsome.TokenExpired, flow.ErrInvalidGrant)
				}
				token = next
			}
			if s.RevocationURL != "" {
				if err := c.Revoke(t.Context(), s, token.Access, "access_token"); err != nil || srv.Alive(token.Access.Reveal()) {
					t.Errorf("revoke: %v", err)
				}
				if err := c.Revoke(t.Context(), s, token.Access, "access_token"); err != nil {
					t.Errorf("revoke a second time: %v", err)
				}
			}
			s.App.Secret = authsome.NewSecret("canaryWrongSecret1234567890")
			_, err := c.Exchange(t.Context(), s, authsome.NewSecret("canaryCode1234567890"), flow.NewVerifier())
			wants(t, err, authsome.AuthFailed, flow.ErrInvalidClient)
		})
	}
}

// TestVendorsWithoutBrowser gets tokens by device code, key file and app key.
func TestVendorsWithoutBrowser(t *testing.T) {
	n, c := vendors(t)
	github := n.OAuth("github.com")
	github.PollInterval(time.Second)
	_, o := bundled(t, "github", "")
	s := flow.Server{OAuth: o, App: authsome.OAuthClient{ID: github.App().ID}}
	d, err := c.StartDevice(t.Context(), s, o.Scopes)
	if err != nil {
		t.Fatal(err)
	}
	person, err := n.Person("octocat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := person.Device(t.Context(), d.VerificationURL, d.UserCode); err != nil {
		t.Fatal(err)
	}
	if token, err := c.AwaitDevice(t.Context(), s, d); err != nil || !github.Alive(token.Access.Reveal()) {
		t.Errorf("device: %v", err)
	}

	file, err := n.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	_, o = bundled(t, "google-cloud", "")
	token, err := c.ServiceAccount(t.Context(), flow.Server{OAuth: o}, authsome.NewSecret(string(file)), o.Scopes)
	if err != nil || !n.OAuth("accounts.google.com").Alive(token.Access.Reveal()) {
		t.Errorf("service account: %v", err)
	}

	app, err := n.GitHubApp()
	if err != nil {
		t.Fatal(err)
	}
	_, o = bundled(t, "github-app", "")
	token, err = c.GitHubApp(t.Context(), flow.Server{OAuth: o}, app.AppID, app.InstallationID, authsome.NewSecret(app.PrivateKey))
	if err != nil || !github.Alive(token.Access.Reveal()) {
		t.Errorf("GitHub App: %v", err)
	}
	_, err = c.GitHubApp(t.Context(), flow.Server{OAuth: o}, "999", app.InstallationID, authsome.NewSecret(app.PrivateKey))
	wants(t, err, authsome.AuthFailed, flow.ErrInvalidGrant)
}

// site logs in to an MCP server by its address, up to the tokens.
func site(t *testing.T, n *internet.Internet, c *flow.Client, address string) (*flow.Site, flow.Server, error) {
	t.Helper()
	found, err := c.Discover(t.Context(), address, "", false)
	if err != nil {
		return nil, flow.Server{}, err
	}
	s := flow.Server{OAuth: found.OAuth, RedirectURI: internet.Redirect}
	if found.OtherSite {
		return found, s, nil // the person is asked first
	}
	app, err := c.Register(t.Context(), s, "authsome", found.OAuth.Scopes)
	if err != nil {
		return found, s, err
	}
	s.App = *app
	return found, s, nil
}

// TestMCP logs in to MCP servers of several kinds by their address alone.
func TestMCP(t *testing.T) {
	n, c := vendors(t)
	for _, m := range []internet.MCP{
		{Host: "one-mcp.example", Path: "/mcp"},
		{Host: "two-mcp.example", Path: "/mcp", Tenant: "/tenant1"},
		{Host: "three-mcp.example", Path: "/a/b", OpenID: true},
		{Host: "four-mcp.example", Path: "/mcp", NoChallenge: true},
		{Host: "five-mcp.example", Path: "/mcp", Tenant: "/tenant1", OpenID: true},
		{Host: "six-mcp.example", NoChallenge: true},
	} {
		t.Run(m.Host, func(t *testing.T) {
			m, srv := n.AddMCP(m)
			found, s, err := site(t, n, c, m.URL())
			if err != nil {
				t.Fatal(err)
			}
			if found.OtherSite || found.OAuth.Resource != m.URL() || found.OAuth.Issuer != m.Issuer() {
				t.Errorf("found %+v", found)
			}
			token := login(t, n, c, s)
			if !srv.Alive(token.Access.Reveal()) {
				t.Error("the token is not alive")
			}
			if !token.Refresh.IsZero() {
				if next, err := c.Refresh(t.Context(), s, token.Refresh, nil); err != nil || !srv.Alive(next.Access.Reveal()) {
					t.Errorf("refresh: %v", err)
				}
			}
			if !c.Knows(t.Context(), s) {
				t.Error("the server does not know its own registration")
			}
			srv.ForgetApp(s.App.ID)
			if c.Knows(t.Context(), s) {
				t.Error("the server knows a registration that it has forgotten")
			}
		})
	}
}

// TestHostiles: whatever is wrong about an MCP server, nobody but it learns that
// somebody came, and there is one clear line.
func TestHostiles(t *testing.T) {
	t.Parallel()
	n, c := vendors(t)
	for _, h := range n.AddHostiles() {
		found, s, err := site(t, n, c, h.URL)
		if h.Confirm {
			if err != nil || !found.OtherSite {
				t.Errorf("%s (%s): %v, %v", h.Name, h.Why, found, err)
			}
			continue
		}
		if err == nil {
			_, err = c.Exchange(t.Context(), s, authsome.NewSecret("canaryHostileCode"), flow.NewVerifier())
		}
		var e *authsome.Error
		if !errors.As(err, &e) || strings.ContainsAny(e.Message, "\n<>") || strings.Contains(e.Message, "canary") {
			t.Errorf("%s (%s): %v", h.Name, h.Why, err)
		}
	}
	if got := n.Requests(internet.Attacker); len(got) != 0 {
		t.Errorf("the attacker was asked: %v", got)
	}
	for _, host := range n.Dialled() {
		if !strings.HasSuffix(host, "-mcp.example") && host != "login.other-site.example" {
			t.Errorf("dialled %s", host)
		}
	}
}

// TestBadAnswers takes nothing that cannot be a token.
func TestBadAnswers(t *testing.T) {
	n, c := vendors(t)
	_, o := bundled(t, "github", "")
	s := flow.Server{OAuth: o, App: authsome.OAuthClient{ID: "x", Secret: authsome.NewSecret(secret)}, RedirectURI: internet.Redirect}
	for _, bad := range internet.BadTokenAnswers() {
		n.Replace("github.com", "/login/oauth/access_token", bad.Serve)
		for _, ask := range []func() (*flow.Token, error){
			func() (*flow.Token, error) {
				return c.Exchange(t.Context(), s, authsome.NewSecret("canaryBadCode"), flow.NewVerifier())
			},
			func() (*flow.Token, error) {
				return c.Refresh(t.Context(), s, authsome.NewSecret("canaryBadRefresh"), nil)
			},
		} {
			token, err := ask()
			if bad.Tokens {
				if err != nil || token.ExpiresAt.After(time.Now().Add(366*24*time.Hour)) || !token.ExpiresAt.IsZero() && token.ExpiresAt.Before(time.Now()) {
					t.Errorf("%s: %+v, %v", bad.Name, token, err)
				}
				continue
			}
			if token != nil || err == nil || strings.Contains(err.Error(), "canary") || errors.Is(err, flow.ErrInvalidGrant) {
				t.Errorf("%s: %v, %v", bad.Name, token, err)
			}
		}
	}
	if got := n.Requests(internet.Attacker); len(got) != 0 {
		t.Errorf("the attacker was asked: %v", got)
	}
}
