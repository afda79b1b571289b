package flow

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/authsome/authsome"
)

func contextWith(t *testing.T, c *http.Client) context.Context {
	return context.WithValue(t.Context(), oauth2.HTTPClient, c)
}

func TestAuthorizeURL(t *testing.T) {
	ask := Authorization{State: authsome.NewSecret(canaryState), Verifier: verifier(), Scopes: []string{"read", "write"}}
	tests := []struct {
		name   string
		change func(*Server)
		want   map[string]string // "" means absent
	}{
		{"ordinary", func(*Server) {}, map[string]string{
			"response_type": "code", "client_id": "the-client", "redirect_uri": "http://127.0.0.1:7998/auth/callback/oauth", "state": canaryState,
			"scope": "read write", "code_challenge": oauth2.S256ChallengeFromVerifier(canaryVerifier), "code_challenge_method": "S256", "resource": "",
		}},
		{"without PKCE", func(s *Server) { s.PKCE = false }, map[string]string{"code_challenge": "", "code_challenge_method": ""}},
		{"Slack", func(s *Server) { s.ScopeParam, s.ScopeSeparator = "user_scope", "," }, map[string]string{"user_scope": "read,write", "scope": ""}},
		{"Google", func(s *Server) {
			s.AuthorizeParams = []authsome.Param{{Name: "access_type", Value: "offline"}, {Name: "prompt", Value: "consent"}}
		}, map[string]string{"access_type": "offline", "prompt": "consent"}},
		{"parameters cannot take ours over", func(s *Server) {
			s.AuthorizeParams = []authsome.Param{{Name: "state", Value: "x"}, {Name: "redirect_uri", Value: "https://attacker.example"}}
		}, map[string]string{"state": canaryState, "redirect_uri": "http://127.0.0.1:7998/auth/callback/oauth"}},
		{"the address has a query", func(s *Server) { s.AuthorizationURL += "?team=a+b&client_id=other&prompt=none" }, map[string]string{"team": "a b", "client_id": "the-client", "prompt": "none"}},
		{"resource", func(s *Server) { s.Resource = "https://mcp.example.com/mcp" }, map[string]string{"resource": "https://mcp.example.com/mcp"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := server()
			tt.change(&s)
			address, err := s.AuthorizeURL(ask)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(address, "https://auth.example.com/authorize?") || strings.Contains(address, canaryVerifier) || strings.Contains(address, url.QueryEscape(canarySecret)) {
				t.Errorf("address %s", address)
			}
			q := query(t, address)
			for name, want := range tt.want {
				if q.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, q.Get(name), want)
				}
			}
		})
	}
	for name, change := range map[string]func(*Server){
		"http": func(s *Server) { s.AuthorizationURL = "http://auth.example.com/authorize" }, "script": func(s *Server) { s.AuthorizationURL = "javascript:alert(1)" },
		"option": func(s *Server) { s.AuthorizationURL = "--load-extension=/tmp/x" }, "user": func(s *Server) { s.AuthorizationURL = "https://a:b@auth.example.com/" },
		"no client": func(s *Server) { s.App.ID = "" }, "placeholder": func(s *Server) { s.AuthorizationURL = "{base_url}/authorize" },
	} {
		s := server()
		change(&s)
		if _, err := s.AuthorizeURL(ask); authsome.CodeOf(err) != authsome.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := server().AuthorizeURL(Authorization{Verifier: verifier()}); err == nil {
		t.Error("an address without a state")
	}
}

func TestNewVerifier(t *testing.T) {
	a, b := NewVerifier(), NewVerifier()
	if a.Equal(b) || a.Len() < 43 || a.Len() > 128 {
		t.Errorf("verifiers of %d bytes, equal %v", a.Len(), a.Equal(b))
	}
}

func TestCallback(t *testing.T) {
	state := authsome.NewSecret(canaryState)
	ok := func(more ...string) url.Values {
		q := url.Values{"state": {canaryState}, "code": {canaryCode}, "iss": {"https://auth.example.com"}}
		for i := 0; i < len(more); i += 2 {
			q[more[i]] = nil
			if more[i+1] != "" {
				q.Set(more[i], more[i+1])
			} else {
				delete(q, more[i])
			}
		}
		return q
	}
	tests := []struct {
		name   string
		query  url.Values
		change func(*Server)
		code   authsome.Code // "" for success
		cause  error
		parts  []string
	}{
		{name: "ordinary", query: ok()},
		{name: "without iss", query: ok("iss", "")},
		{name: "with more", query: ok("scope", "a b", "session_state", "x")},
		{name: "issuer unknown", query: ok("iss", "https://other.example"), change: func(s *Server) { s.Issuer = "" }},
		{name: "iss demanded and given", query: ok(), change: func(s *Server) { s.IssuerInCallback = true }},
		{name: "iss demanded and missing", query: ok("iss", ""), change: func(s *Server) { s.IssuerInCallback = true }, code: authsome.AuthFailed, parts: []string{"which server"}},
		{name: "another issuer", query: ok("iss", "https://attacker.example"), code: authsome.AuthFailed, parts: []string{"another server", "attacker.example"}},
		{name: "another issuer by a slash", query: ok("iss", "https://auth.example.com/"), code: authsome.AuthFailed},
		{name: "another issuer's error", query: ok("iss", "https://attacker.example", "error", "access_denied"), code: authsome.AuthFailed, parts: []string{"another server"}},
		{name: "two issuers", query: url.Values{"state": {canaryState}, "code": {canaryCode}, "iss": {"https://auth.example.com", "https://x.example"}}, code: authsome.AuthFailed},
		{name: "no state", query: ok("state", ""), code: authsome.Invalid, parts: []string{"state"}},
		{name: "forged state", query: ok("state", "forged"), code: authsome.Invalid},
		{name: "two states", query: url.Values{"state": {canaryState, "x"}, "code": {canaryCode}}, code: authsome.Invalid},
		{name: "no code", query: ok("code", ""), code: authsome.AuthFailed, parts: []string{"no code"}},
		{name: "two codes", query: url.Values{"state": {canaryState}, "code": {canaryCode, "other"}}, code: authsome.AuthFailed},
		{name: "a code with a line break", query: ok("code", canaryCode+"\r\n"), code: authsome.AuthFailed, parts: []string{"not valid"}},
		{name: "a huge code", query: ok("code", strings.Repeat("a", 64<<10)), code: authsome.AuthFailed},
		{name: "denied", query: ok("error", "access_denied", "error_description", "The user said no"), code: authsome.Cancelled, cause: ErrDenied, parts: []string{"consent was denied (The user said no)"}},
		{name: "denied with a code", query: ok("error", "access_denied"), code: authsome.Cancelled, cause: ErrDenied},
		{name: "scope refused", query: ok("error", "invalid_scope", "error_description", "<img src=x onerror=alert(1)>"), code: authsome.AuthFailed, parts: []string{"invalid_scope", "--scopes"}},
		{name: "app refused", query: ok("error", "unauthorized_client"), code: authsome.AuthFailed, cause: ErrInvalidClient},
		{name: "busy", query: ok("error", "temporarily_unavailable"), code: authsome.Unreachable},
		{name: "a description that quotes the state", query: ok("error", "server_said_no", "error_description", "state "+canaryState), code: authsome.AuthFailed},
		{name: "an error that is none", query: ok("error", "\x1b]0;x\x07"), code: authsome.AuthFailed},
		{name: "an empty error", query: url.Values{"state": {canaryState}, "error": {""}}, code: authsome.AuthFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := server()
			if tt.change != nil {
				tt.change(&s)
			}
			got, err := s.Callback(tt.query, state)
			if tt.code == "" {
				if err != nil || got.Reveal() != canaryCode {
					t.Fatalf("%v", err)
				}
				return
			}
			if !got.IsZero() {
				t.Error("a code with an error")
			}
			wantError(t, err, tt.code, tt.cause, tt.parts...)
		})
	}
	if _, err := server().Callback(url.Values{"state": {""}, "code": {"x"}}, authsome.Secret{}); err == nil {
		t.Error("an empty state matched an empty state")
	}
}
