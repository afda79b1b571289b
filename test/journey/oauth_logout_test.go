package journey

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome/test/internet"
	"github.com/authsome/authsome/test/oauthserver"
)

// hangs never answers.
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// TestLogoutRevokes ends logins at servers of each kind, at one that hangs, and at
// one that is not there: here they are over in any case, and each command says
// what has become of the rest.
func TestLogoutRevokes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.Internet
	o := appIsSet(t, w, n.OAuth("github.com").App().Secret)
	connect := func(args ...string) {
		t.Helper()
		a := attempts(t, w, args...)
		consents(t, w, a.visit())
		a.succeeds()
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		connect("github", "--flow", "pkce", "--connection", name)
	}
	const secret = "canaryLeavingClientSecret0123456789"
	j := newJudge(t, w, "leaving", oauthserver.Config{
		Rotate: true, Clients: []oauthserver.Client{oauthserver.NewClient("leaver", secret, "", w.Redirect())},
	})
	definition := `{
		"schema_version": 1, "name": %q, "auth_type": "oauth2", "flow": "pkce", "api_url": "https://api.leaving.example/%[1]s",
		"oauth": {"authorization_url": %q, "token_url": %q, "scopes": ["read"]%s}
	}`
	define(t, w, "leaving", fmt.Sprintf(definition, "leaving", j.Endpoint("/auth"), j.Endpoint("/token"), fmt.Sprintf(`, "revocation_url": %q`, j.Endpoint("/token/revocation"))))
	define(t, w, "staying", fmt.Sprintf(definition, "staying", j.Endpoint("/auth"), j.Endpoint("/token"), ""))
	for _, name := range []string{"leaving", "staying"} {
		must(t, w.Command("provider", "set-client", name, "--client-id", "leaver", "--secret-stdin").Input(secret))
		connect(name)
	}
	absent, _ := n.AddMCP(internet.MCP{Host: "mcp.absent.example", Path: "/mcp"})
	connect(absent.URL())
	n.Handle(absent.Server, nil)

	// Nobody answers for two of GitHub's tokens. It takes its time, meanwhile the
	// rest goes on.
	revocation := "/applications/" + o.App().ID + "/token"
	n.Replace("api.github.com", revocation, http.HandlerFunc(hangs))
	hung := starts(t, w.Command("logout", "github", "--connection", "one", "--json").Cmd())
	until(t, patience, "the logout has asked GitHub", func() bool {
		for _, r := range n.Requests("api.github.com") {
			if r.Path == revocation {
				return true
			}
		}
		return false
	})
	n.Replace("api.github.com", revocation, nil)
	// What is logged out of is over at once, whatever the server does.
	holds(t, w, "leaving", "leaving/default connected", "staying", "staying/default connected", "mcp.absent.example", "mcp.absent.example/default connected",
		"github/two connected", "github/three connected", "github/four connected")

	says := func(words string, args ...string) {
		t.Helper()
		r := w.Command(args...).Run()
		if r.Code != 0 || !strings.Contains(r.Stderr, words) {
			t.Errorf("%q: exit code %d, and not %q:\n%s%s", args, r.Code, words, r.Stdout, r.Stderr)
		}
	}
	says("revoked at api.github.com", "logout", "github", "--connection", "two")
	says("revoked at auth.leaving.example", "logout", "leaving")
	says("auth.leaving.example has no way to revoke a token", "logout", "staying")
	says("not revoked at auth.mcp.absent.example", "logout", "mcp.absent.example")
	says("there was nothing to log out of", "logout", "mcp.absent.example")
	alive := func(want ...string) {
		t.Helper()
		var got []string
		for i, tok := range o.Tokens() {
			if tok.Alive() {
				got = append(got, fmt.Sprint(i+1))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("of GitHub's tokens %v work, want %v", got, want)
		}
	}
	alive("1", "3", "4")
	st := j.stats()
	for _, tok := range j.tokens() {
		if tok.Kind != "AuthorizationCode" && tok.State != "valid" && len(st.RevokedGrants) == 0 {
			t.Errorf("a %s is %s", tok.Kind, tok.State)
		}
	}
	if len(st.Revocations) == 0 {
		t.Error("the certified server was told nothing")
	}

	// revoke ends all that is left of a service, and remove the definition too.
	says("revoked at api.github.com", "revoke", "github")
	alive("1")
	says("comes with authsome and stays", "remove", "github")
	connect("staying", "--force")
	says("has no way to revoke a token", "remove", "staying")
	says("", "remove", "leaving")
	holds(t, w, "mcp.absent.example")

	v := hung.ends()
	if v.Code != 0 || v.Status != "logged_out" || !strings.Contains(hung.stdout.String(), "deleted here, but not revoked at api.github.com") {
		t.Errorf("the logout at a server that hangs: %+v\n%s", v, hung.printed())
	}
	if code, _ := status(t, w, nil, "https://api.github.com/user"); code != "401" {
		t.Errorf("after all logouts GitHub answers %s", code)
	}
	bearer(t, w, "api.github.com", "/user", "")
	sweep(t, w, hung.printed(), append(append(o.Secrets(), j.secrets()...), secret)...)
}
