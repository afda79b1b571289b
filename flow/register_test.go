package flow

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

func TestRegister(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Server)
		serve  []http.HandlerFunc // one per attempt; the last goes on
		want   func(*authsome.OAuthClient) bool
		asked  []string // methods

		code  authsome.Code
		parts []string
	}{
		{name: "a public client", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c-1","token_endpoint_auth_method":"none"}`)}, asked: []string{"none"}, want: func(c *authsome.OAuthClient) bool {
			return c.ID == "c-1" && c.Secret.IsZero() && c.Auth == authsome.ClientNone && c.Registered && c.RedirectURI == server().RedirectURI && c.CreatedAt.Equal(testNow) && c.ExpiresAt.IsZero()
		}},
		{name: "the server decides", serve: []http.HandlerFunc{saysJSON(200, `{"client_id":"c-1","client_secret":"`+canarySecret+`","client_secret_expires_at":1800000000,"token_endpoint_auth_method":"client_secret_basic","redirect_uris":["http://127.0.0.1:7998/auth/callback/oauth"]}`)}, asked: []string{"none"}, want: func(c *authsome.OAuthClient) bool {
			return c.Secret.Reveal() == canarySecret && c.Auth == authsome.ClientBasic && c.ExpiresAt.Equal(time.Unix(1800000000, 0))
		}},
		{name: "none is refused, post is not", serve: []http.HandlerFunc{saysJSON(400, `{"error":"invalid_client_metadata"}`), saysJSON(201, `{"client_id":"c","client_secret":"s","client_secret_expires_at":0}`)}, asked: []string{"none", "client_secret_post"}, want: func(c *authsome.OAuthClient) bool {
			return c.Auth == authsome.ClientBody && c.Secret.Reveal() == "s" && c.ExpiresAt.IsZero()
		}},
		{name: "a secret that nobody asks for", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"none"}`)}, want: func(c *authsome.OAuthClient) bool { return c.Secret.IsZero() }},
		{name: "the definition decides", change: func(s *Server) { s.TokenAuth = authsome.ClientBasic }, serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c","client_secret":"s"}`)}, asked: []string{"client_secret_basic"}, want: func(c *authsome.OAuthClient) bool { return c.Auth == authsome.ClientBasic }},
		{name: "for a device", change: func(s *Server) { s.RedirectURI = "" }, serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c"}`)}, want: func(c *authsome.OAuthClient) bool { return c.ID == "c" }},

		{name: "all methods are refused", serve: []http.HandlerFunc{saysJSON(400, `{"error":"invalid_client_metadata","error_description":"no"}`)}, asked: []string{"none", "client_secret_post", "client_secret_basic"}, code: authsome.AuthFailed, parts: []string{"invalid_client_metadata (no)", "by hand"}},
		{name: "redirect URI refused", serve: []http.HandlerFunc{saysJSON(400, `{"error":"invalid_redirect_uri"}`)}, asked: []string{"none"}, code: authsome.AuthFailed, parts: []string{"invalid_redirect_uri"}},
		{name: "closed", serve: []http.HandlerFunc{saysJSON(401, `{"error":"invalid_token"}`)}, code: authsome.AuthFailed, parts: []string{"by hand"}},
		{name: "no client id", serve: []http.HandlerFunc{saysJSON(201, `{"client_secret":"`+canarySecret+`"}`)}, code: authsome.AuthFailed, parts: []string{"no client id"}},
		{name: "a number for an id", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":7}`)}, code: authsome.AuthFailed},
		{name: "a list for a secret", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c","client_secret":["`+canarySecret+`"]}`)}, code: authsome.AuthFailed},
		{name: "no secret where one is wanted", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c","token_endpoint_auth_method":"client_secret_post"}`)}, code: authsome.AuthFailed, parts: []string{"no client secret"}},
		{name: "an unknown method", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c","token_endpoint_auth_method":"tls_client_auth"}`)}, code: authsome.AuthFailed, parts: []string{"does not know"}},
		{name: "another redirect URI", serve: []http.HandlerFunc{saysJSON(201, `{"client_id":"c","redirect_uris":["https://attacker.example/cb"]}`)}, code: authsome.AuthFailed, parts: []string{"another redirect URI"}},
		{name: "private_key_jwt", change: func(s *Server) { s.TokenAuth = authsome.ClientJWT }, serve: []http.HandlerFunc{saysJSON(500, "")}, code: authsome.Invalid},
		{name: "HTML", serve: []http.HandlerFunc{says(200, "text/html", "<html>"+canarySecret)}, code: authsome.Unreachable},
		{name: "a redirect", serve: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://attacker.example/register", http.StatusTemporaryRedirect)
		}}, code: authsome.Unreachable, parts: []string{"redirects to attacker.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			n := 0
			f.handle("auth.example.com/register", func(w http.ResponseWriter, r *http.Request) {
				tt.serve[min(n, len(tt.serve)-1)](w, r)
				n++
			})
			s := server()
			s.App = authsome.OAuthClient{}
			if tt.change != nil {
				tt.change(&s)
			}
			c, err := f.client().Register(t.Context(), s, "authsome (Example)", []string{"a", "b"})
			for i, got := range f.requests() {
				var ask registration
				if err := json.Unmarshal([]byte(got.body), &ask); err != nil || got.method != "POST" || got.header.Get("Content-Type") != "application/json" || got.url != s.RegistrationURL {
					t.Errorf("%v: %+v", err, got)
				}
				if tt.asked != nil && (i >= len(tt.asked) || ask.TokenAuth != tt.asked[i]) {
					t.Errorf("attempt %d asks for %s, want %v", i, ask.TokenAuth, tt.asked)
				}
				if ask.ApplicationType != "native" || ask.Scope != "a b" || ask.ClientName != "authsome (Example)" || len(ask.GrantTypes) != 2 || (len(ask.RedirectURIs) == 1) != (s.RedirectURI != "") {
					t.Errorf("asked for %s", got.body)
				}
			}
			if tt.asked != nil && n != len(tt.asked) {
				t.Errorf("%d attempts, want %d", n, len(tt.asked))
			}
			if tt.want == nil {
				wantError(t, err, tt.code, nil, append(tt.parts, "register at auth.example.com")...)
				return
			}
			if err != nil || !tt.want(c) {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}
