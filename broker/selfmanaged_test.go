package broker_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
)

// forge is a service that people also host themselves, with its API elsewhere
// than the vendor has it.
const forge = `{
	"schema_version": 1, "name": "forge", "auth_type": "oauth2", "flow": "pkce", "api_url": "api.forge.example",
	"oauth": {
		"base_url": "https://auth.example.com", "authorization_url": "{base_url}/authorize", "token_url": "{base_url}/token",
		"revocation_url": "{base_url}/revoke", "scopes": ["read"]
	},
	"self_managed": {"routes": [{"host": "{host}", "path": "/", "inject": [{"header": "Authorization", "value": "Bearer {token}"}]}]}
}`

// TestServiceOfOnesOwn: --base-url moves the login and the API, and each host
// gets the token that was made for it, and no other.
func TestServiceOfOnesOwn(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	if _, err := w.Register(ctx, me, "forge.jsonc", []byte(forge), false, false); err != nil {
		t.Fatal(err)
	}
	connect := func(name, base string) {
		t.Helper()
		l := w.app(w.begin(authsome.LoginRequest{Provider: "forge", Connection: name, BaseURL: base}))
		u, err := url.Parse(l.AuthorizeURL)
		if want := strings.TrimRight(strings.Replace(base, "https://", "", 1), "/"); err != nil || want != "" && u.Host != want {
			t.Fatalf("consent is asked for at %s", l.AuthorizeURL)
		}
		if _, _, err := w.Callback(ctx, w.auth.Consent(t, l.AuthorizeURL)); err != nil {
			t.Fatal(err)
		}
	}
	connect("public", "")
	g := w.grant(broker.GrantSpec{})
	if w.Host(g, "git.example.com", 443) != authsome.Tunnel {
		t.Error("a host is routed that nobody has logged in to")
	}
	// Another client: the person's app at the vendor is none at the company.
	connect("company", "https://git.example.com/")
	if w.Host(g, "git.example.com", 443) != authsome.Intercept || w.Host(g, "api.forge.example", 443) != authsome.Intercept {
		t.Error("the company's host is not routed, or the vendor's no more")
	}
	tokens := map[string]string{}
	for host, connection := range map[string]string{"git.example.com": "company", "api.forge.example": "public"} {
		res, err := w.Resolve(ctx, g, request(host, "/v1/me"))
		if err != nil || res.Verdict != authsome.Inject || res.Connection != connection {
			t.Fatalf("%s: %+v, %v", host, res, err)
		}
		tokens[host] = set(res, "Authorization")
		if !w.auth.Valid(tokens[host]) {
			t.Errorf("%s gets no token of the server's", host)
		}
	}
	if tokens["git.example.com"] == tokens["api.forge.example"] {
		t.Error("both hosts get the same token")
	}
	// Logging in is the client's own business.
	if res, err := w.Resolve(ctx, g, request("git.example.com", "/token")); err != nil || res.Verdict != authsome.Forward {
		t.Errorf("the token endpoint gets a credential: %+v, %v", res, err)
	}
	// The connection that was named is the one that is used, or none.
	named := w.grant(broker.GrantSpec{Choices: map[string]string{"forge": "public"}})
	_, err := w.Resolve(ctx, named, request("git.example.com", "/v1/me"))
	wantCode(t, err, authsome.Forbidden)
	if c, _, err := w.Connection(me, "forge", "company"); err != nil || c.BaseURL != "https://git.example.com" || !slices.Equal(c.Hosts, []string{"git.example.com"}) {
		t.Errorf("connection: %+v, %v", c, err)
	}
	w.restart()
	if g := w.grant(broker.GrantSpec{}); w.Host(g, "git.example.com", 443) != authsome.Intercept {
		t.Error("after a restart the company's host is not routed")
	}
	for _, bad := range []string{"http://git.example.com", "https://me:pw@git.example.com", "git.example.com", "https://"} {
		if _, _, err := w.Begin(ctx, me, authsome.LoginRequest{Provider: "forge", Connection: "x", BaseURL: bad}); authsome.CodeOf(err) != authsome.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, _, err := w.Begin(ctx, me, authsome.LoginRequest{Provider: "acme", Connection: "x", BaseURL: "https://git.example.com"}); authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("a service that the vendor alone hosts: %v", err)
	}
}
