package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/provider"
)

const prm = "/.well-known/oauth-protected-resource"

// unauthorized is a service's 401.
func unauthorized(challenge string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if challenge != "" {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// about is a service's metadata.
func about(resource string, servers ...string) http.HandlerFunc {
	b, _ := json.Marshal(map[string]any{"resource": resource, "authorization_servers": servers, "scopes_supported": []string{"mcp:read", "mcp:write"}})
	return saysJSON(200, string(b))
}

type serves = map[string]http.HandlerFunc

func TestDiscover(t *testing.T) {
	const (
		mcp    = "https://mcp.example.com/mcp"
		issuer = "https://auth.example.com"
	)
	good := func(change ...any) serves {
		s := serves{
			"mcp.example.com/mcp":                                     unauthorized(`Bearer realm="x", resource_metadata="https://mcp.example.com` + prm + `/mcp", scope="mcp:read"`),
			"mcp.example.com" + prm + "/mcp":                          about(mcp, issuer),
			"auth.example.com/.well-known/oauth-authorization-server": metadata(issuer),
		}
		for i := 0; i < len(change); i += 2 {
			if change[i+1] == nil {
				delete(s, change[i].(string))
				continue
			}
			s[change[i].(string)] = change[i+1].(http.HandlerFunc)
		}
		return s
	}
	const as = "auth.example.com/.well-known/oauth-authorization-server"
	tests := []struct {
		name, url, as string
		serve         serves
		want          func(*Site, *authsome.Provider) error
		code          authsome.Code
		parts         []string
	}{
		{name: "an MCP server", url: mcp, serve: good(), want: func(s *Site, p *authsome.Provider) error {
			return expect(s.URL == mcp, !s.OtherSite, s.Server == "auth.example.com", p.Name == "mcp.example.com", p.Flows[0] == authsome.FlowDCR,
				s.OAuth.Resource == mcp, s.OAuth.Issuer == issuer, s.OAuth.IssuerInCallback, s.OAuth.PKCE, slices.Equal(s.OAuth.Scopes, []string{"mcp:read"}),
				s.OAuth.RegistrationURL == issuer+"/register", s.OAuth.RevocationURL == issuer+"/revoke", s.OAuth.TokenAuth == authsome.ClientNone,
				len(p.Routes) == 1, p.Routes[0].Host == "mcp.example.com", p.Routes[0].Path == "/mcp", p.Routes[0].Inject[0].Value == "Bearer {token}")
		}},
		{name: "written otherwise", url: " https://MCP.Example.com:443/mcp?project=1#top ", as: "my-mcp", serve: good(), want: func(s *Site, p *authsome.Provider) error {
			return expect(s.URL == mcp, p.Name == "my-mcp", p.Routes[0].Path == "/mcp")
		}},
		{name: "no challenge, metadata at the path", url: mcp, serve: good("mcp.example.com/mcp", unauthorized("")), want: func(s *Site, _ *authsome.Provider) error {
			return expect(slices.Equal(s.OAuth.Scopes, []string{"mcp:read", "mcp:write"}))
		}},
		{name: "the whole host is the resource", url: mcp, serve: good("mcp.example.com/mcp", unauthorized(`Bearer resource_metadata="https://mcp.example.com`+prm+`"`), "mcp.example.com"+prm, about("https://mcp.example.com", issuer)), want: func(s *Site, p *authsome.Provider) error {
			return expect(s.URL == "https://mcp.example.com", s.OAuth.Resource == "https://mcp.example.com", p.Routes[0].Path == "/mcp")
		}},
		{name: "a host alone", url: "https://mcp.example.com/", serve: good("mcp.example.com"+prm, about("https://mcp.example.com/", issuer)), want: func(s *Site, p *authsome.Provider) error {
			return expect(s.URL == "https://mcp.example.com/", p.Routes[0].Path == "")
		}},
		{name: "a GET is not allowed", url: mcp, serve: good("mcp.example.com/mcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if b, _ := io.ReadAll(r.Body); r.Method != "POST" || !json.Valid(b) {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			unauthorized(`Bearer resource_metadata="https://mcp.example.com`+prm+`/mcp", scope="from-post"`)(w, r)
		})), want: func(s *Site, _ *authsome.Provider) error {
			return expect(slices.Equal(s.OAuth.Scopes, []string{"from-post"}))
		}},
		{name: "before RFC 9728", url: "https://auth.example.com/sse", serve: serves{"auth.example.com/sse": unauthorized(""), as: metadata(issuer)}, want: func(s *Site, p *authsome.Provider) error {
			return expect(s.URL == "https://auth.example.com/sse", p.Name == "auth.example.com", !s.OtherSite)
		}},
		{name: "a page for every address", url: "https://auth.example.com/mcp", serve: serves{"auth.example.com": says(200, "text/html", "<html>"), as: metadata(issuer)}, want: func(s *Site, _ *authsome.Provider) error { return nil }},
		{name: "the second server", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about(mcp, "https://nothing.example.com", issuer)), want: func(s *Site, _ *authsome.Provider) error { return expect(s.OAuth.Issuer == issuer) }},
		{name: "another site", url: "https://mcp.other.example/mcp", serve: serves{"mcp.other.example" + prm + "/mcp": about("https://mcp.other.example/mcp", issuer), as: metadata(issuer)}, want: func(s *Site, _ *authsome.Provider) error {
			return expect(s.OtherSite, s.Server == "auth.example.com")
		}},
		{name: "one address on another site", url: mcp, serve: good(as, metadata(issuer, "token_endpoint", "https://attacker.example/token")), want: func(s *Site, _ *authsome.Provider) error {
			return expect(s.OtherSite, s.Server == "attacker.example")
		}},
		{name: "no registration", url: mcp, serve: good(as, metadata(issuer, "registration_endpoint", nil)), want: func(s *Site, p *authsome.Provider) error {
			return expect(p.Flows[0] == authsome.FlowPKCE, s.OAuth.RegistrationURL == "")
		}},
		{name: "no word about PKCE", url: mcp, serve: good(as, metadata(issuer, "code_challenge_methods_supported", nil)), want: func(s *Site, _ *authsome.Provider) error { return expect(s.OAuth.PKCE) }},
		{name: "refresh tokens on demand", url: mcp, serve: good(as, metadata(issuer, "scopes_supported", []string{"offline_access"})), want: func(s *Site, _ *authsome.Provider) error {
			return expect(slices.Equal(s.OAuth.Scopes, []string{"mcp:read", "offline_access"}))
		}},
		{name: "a port and a path of its own", url: "https://mcp.example.com:8443/a%20b/mcp", serve: serves{"mcp.example.com:8443" + prm + "/a b/mcp": about("https://mcp.example.com:8443/a%20b/mcp", issuer), as: metadata(issuer)}, want: func(s *Site, p *authsome.Provider) error {
			return expect(p.Name == "mcp.example.com-8443", p.Routes[0].Port == 8443, p.Routes[0].Path == "/a%20b/mcp")
		}},

		{name: "a name in letters of its own", url: "https://MÜNCHEN.example/mcp", serve: serves{"xn--mnchen-3ya.example" + prm + "/mcp": about("https://xn--mnchen-3ya.example/mcp", issuer), as: metadata(issuer)}, want: func(s *Site, p *authsome.Provider) error {
			return expect(s.URL == "https://xn--mnchen-3ya.example/mcp", p.Name == "xn--mnchen-3ya.example")
		}},
		{name: "an address in letters of its own", url: "https://１２７.0.0.1/mcp", parts: []string{"private address"}},
		{name: "no login at all", url: mcp, serve: serves{"mcp.example.com": says(200, "text/html", "<html>")}, parts: []string{"log in to mcp.example.com/mcp: it does not say how", "authsome register FILE"}},
		{name: "no login and no pages", url: mcp, serve: serves{}, parts: []string{"it does not say how", "authsome register FILE"}},
		{name: "metadata of another resource", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about("https://mcp.victim.example/mcp", issuer)), parts: []string{"another resource, on mcp.victim.example"}},
		{name: "metadata of another path", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about("https://mcp.example.com/other", issuer)), parts: []string{"another resource"}},
		{name: "a tenant that names the host", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about("https://mcp.example.com", issuer)), parts: []string{"another resource"}},
		{name: "a look-alike path", url: "https://mcp.example.com/mcp2", serve: serves{"mcp.example.com/mcp2": unauthorized(`Bearer resource_metadata="https://mcp.example.com` + prm + `/mcp"`), "mcp.example.com" + prm + "/mcp": about(mcp, issuer)}, parts: []string{"another resource"}},
		{name: "metadata elsewhere", url: mcp, serve: good("mcp.example.com/mcp", unauthorized(`Bearer resource_metadata="https://attacker.example/x"`)), parts: []string{"another site, attacker.example"}},
		{name: "metadata in the clear", url: mcp, serve: good("mcp.example.com/mcp", unauthorized(`Bearer resource_metadata="http://mcp.example.com/x"`)), parts: []string{"not https"}},
		{name: "metadata on a private address", url: mcp, serve: good("mcp.example.com/mcp", unauthorized(`Bearer resource_metadata="https://127.0.0.1/x"`)), parts: []string{"another site"}},
		{name: "metadata that is not there", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", nil), parts: []string{"not where it says"}},
		{name: "metadata that redirects", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://attacker.example/", http.StatusTemporaryRedirect)
		})), parts: []string{"redirects to attacker.example"}},
		{name: "no servers", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about(mcp)), parts: []string{"no authorization server"}},
		{name: "wrong types", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", saysJSON(200, `{"resource":["a"]}`)), parts: []string{"wrong types"}},
		{name: "a server in the clear", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about(mcp, "http://auth.example.com")), parts: []string{"not https"}},
		{name: "a server on a private address", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", about(mcp, "https://169.254.169.254")), parts: []string{"private address"}},
		{name: "a server of another issuer", url: mcp, serve: good(as, metadata("https://accounts.google.com")), parts: []string{"another issuer"}},
		{name: "plain PKCE only", url: mcp, serve: good(as, metadata(issuer, "code_challenge_methods_supported", []string{"plain"})), parts: []string{"PKCE"}},
		{name: "the service is down", url: mcp, serve: good("mcp.example.com"+prm+"/mcp", saysJSON(503, "")), code: authsome.Unreachable},
		{name: "http", url: "http://mcp.example.com/mcp", parts: []string{"not https", "https://HOST/PATH"}},
		{name: "a password", url: "https://me:" + canaryCode + "@mcp.example.com/mcp", parts: []string{"user"}},
		{name: "a word", url: "notion", parts: []string{"not https"}},
		{name: "this machine", url: "https://localhost:3000/mcp", parts: []string{"private address"}},
		{name: "a bad name", url: mcp, as: "../x", serve: good(), parts: []string{"name"}},
		{name: "a short host", url: "https://intranet/mcp", serve: serves{"intranet" + prm + "/mcp": about("https://intranet/mcp", issuer), as: metadata(issuer)}, parts: []string{"short name"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			for at, h := range tt.serve {
				f.handle(at, h)
			}
			site, err := f.client().Discover(t.Context(), tt.url, tt.as, false)
			for _, got := range f.requests() {
				if strings.Contains(got.url, "attacker") || got.header.Get("Authorization") != "" || got.method != "GET" && !strings.HasPrefix(got.url, strings.Split(strings.ToLower(strings.TrimSpace(tt.url)), "?")[0]) && tt.name != "written otherwise" && !strings.Contains(got.url, "xn--") {
					t.Errorf("asked %s %s", got.method, got.url)
				}
			}
			if tt.want == nil {
				if tt.code == "" {
					tt.code = authsome.Invalid
				}
				wantError(t, err, tt.code, nil, tt.parts...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p, err := provider.Parse("x.json", site.Definition)
			if err != nil || len(p.Warnings) > 0 {
				t.Fatalf("%v %v\n%s", err, p, site.Definition)
			}
			if err := tt.want(site, p); err != nil {
				t.Errorf("%v\n%+v\n%s", err, site, site.Definition)
			}
		})
	}
}

// expect names the first condition that does not hold.
func expect(holds ...bool) error {
	if i := slices.Index(holds, false); i >= 0 {
		return fmt.Errorf("condition %d does not hold", i+1)
	}
	return nil
}

// TestDiscoverStream does not wait for the end of a stream that has none.
func TestDiscoverStream(t *testing.T) {
	f := newFake(t)
	ended := make(chan struct{}, 8)
	f.handle("auth.example.com/sse", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: endpoint\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	})
	f.handle("auth.example.com/.well-known/oauth-authorization-server", metadata("https://auth.example.com"))
	if _, err := f.client().Discover(t.Context(), "https://auth.example.com/sse", "", false); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestDiscoverEnds(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.handle("mcp.example.com", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := f.client().Discover(ctx, "https://mcp.example.com/mcp", "", false)
	wantError(t, err, authsome.Unreachable, nil)
}
