package flow

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// metadata is what a good server says about itself.
func metadata(issuer string, change ...any) http.HandlerFunc {
	m := map[string]any{
		"issuer": issuer, "authorization_endpoint": "https://auth.example.com/authorize", "token_endpoint": "https://auth.example.com/token",
		"registration_endpoint": "https://auth.example.com/register", "revocation_endpoint": "https://auth.example.com/revoke",
		"device_authorization_endpoint": "https://auth.example.com/device", "code_challenge_methods_supported": []string{"plain", "S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "none"}, "authorization_response_iss_parameter_supported": true,
		"response_types_supported": []string{"code"}, "unknown": map[string]any{"a": []int{1}},
	}
	for i := 0; i < len(change); i += 2 {
		if change[i+1] == nil {
			maps.DeleteFunc(m, func(k string, _ any) bool { return k == change[i] })
			continue
		}
		m[change[i].(string)] = change[i+1]
	}
	b, _ := json.Marshal(m)
	return saysJSON(200, string(b))
}

func TestComplete(t *testing.T) {
	const (
		rfc8414 = "auth.example.com/.well-known/oauth-authorization-server"
		oidc    = "auth.example.com/.well-known/openid-configuration"
		issuer  = "https://auth.example.com"
	)
	given := authsome.OAuth{AuthorizationURL: "https://auth.example.com/authorize", TokenURL: "https://auth.example.com/own-token"}
	tenant := authsome.OAuth{Issuer: "https://auth.example.com/tenant/", TokenURL: "https://auth.example.com/token"}
	tests := []struct {
		name  string
		o     authsome.OAuth
		serve map[string]http.HandlerFunc
		want  func(authsome.OAuth) bool
		code  authsome.Code
		parts []string
	}{
		{name: "RFC 8414", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer)}, want: func(o authsome.OAuth) bool {
			return o.Issuer == issuer && o.IssuerInCallback && o.TokenURL == "https://auth.example.com/own-token" && o.RegistrationURL == "https://auth.example.com/register" &&
				o.RevocationURL == "https://auth.example.com/revoke" && o.DeviceURL == "https://auth.example.com/device" && o.TokenAuth == authsome.ClientNone
		}},
		{name: "OpenID Connect", o: given, serve: map[string]http.HandlerFunc{oidc: metadata(issuer+"/", "token_endpoint_auth_methods_supported", []string{"client_secret_basic", "client_secret_post"})}, want: func(o authsome.OAuth) bool {
			return o.Issuer == issuer+"/" && o.RegistrationURL != "" && o.TokenAuth == authsome.ClientBody
		}},
		{name: "the second place when the first is a page", o: given, serve: map[string]http.HandlerFunc{rfc8414: says(200, "text/html", "<html>"), oidc: metadata(issuer)}, want: func(o authsome.OAuth) bool { return o.RegistrationURL != "" }},
		{name: "path in the issuer, inserted", o: tenant, serve: map[string]http.HandlerFunc{rfc8414 + "/tenant": metadata("https://auth.example.com/tenant/")}, want: func(o authsome.OAuth) bool { return o.RegistrationURL != "" && o.IssuerInCallback }},
		{name: "path in the issuer, appended", o: tenant, serve: map[string]http.HandlerFunc{"auth.example.com/tenant/.well-known/openid-configuration": metadata("https://auth.example.com/tenant")}, want: func(o authsome.OAuth) bool {
			return o.RegistrationURL != "" && o.Issuer == "https://auth.example.com/tenant/" && !o.IssuerInCallback
		}},
		{name: "nothing there", o: given, want: func(o authsome.OAuth) bool { return o.RegistrationURL == "" && o.Issuer == "" }},

		{name: "another issuer", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata("https://accounts.google.com"), oidc: metadata("https://accounts.google.com")}, parts: []string{"another issuer: accounts.google.com"}},
		{name: "another tenant's issuer", o: tenant, serve: map[string]http.HandlerFunc{rfc8414 + "/tenant": metadata("https://auth.example.com/other")}, parts: []string{"another issuer"}},
		{name: "no issuer", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "issuer", nil)}, parts: []string{"names no issuer"}},
		{name: "token in the clear", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "token_endpoint", "http://auth.example.com/token")}, parts: []string{"token_endpoint", "not https"}},
		{name: "registration in the clear", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "registration_endpoint", "http://auth.example.com/r")}, parts: []string{"registration_endpoint"}},
		{name: "revocation on a private address", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "revocation_endpoint", "https://169.254.169.254/r")}, parts: []string{"revocation_endpoint", "private address"}},
		{name: "device on this machine", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "device_authorization_endpoint", "https://localhost/d")}, parts: []string{"private address"}},
		{name: "a script for a page", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "authorization_endpoint", "javascript:alert(1)")}, parts: []string{"authorization_endpoint"}},
		{name: "a user in an address", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "token_endpoint", "https://a:b@auth.example.com/token")}, parts: []string{"user"}},
		{name: "wrong types", o: given, serve: map[string]http.HandlerFunc{rfc8414: metadata(issuer, "token_endpoint", 42)}, parts: []string{"wrong types"}},
		{name: "cut short", o: given, serve: map[string]http.HandlerFunc{rfc8414: saysJSON(200, `{"issuer":"https://auth.exa`)}, parts: []string{"read the metadata of auth.example.com"}},
		{name: "a redirect", o: given, serve: map[string]http.HandlerFunc{rfc8414: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://attacker.example/", http.StatusFound)
		}}, parts: []string{"redirects to attacker.example"}},
		{name: "huge", o: given, serve: map[string]http.HandlerFunc{rfc8414: saysJSON(200, `{"a":"`+strings.Repeat("x", maxAnswer)+`"}`)}, code: authsome.Unreachable, parts: []string{"1 MiB"}},
		{name: "down", o: given, serve: map[string]http.HandlerFunc{rfc8414: says(503, "", "")}, code: authsome.Unreachable},
		{name: "no https", o: authsome.OAuth{AuthorizationURL: "http://auth.example.com"}, parts: []string{"not https"}},
		{name: "query in the issuer", o: authsome.OAuth{Issuer: "https://auth.example.com/?x"}, parts: []string{"query"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			for at, h := range tt.serve {
				f.handle(at, h)
			}
			o, err := f.client().Complete(t.Context(), tt.o, false)
			for _, got := range f.requests() {
				if got.method != "GET" || !strings.HasPrefix(got.url, "https://auth.example.com/") {
					t.Errorf("asked %s %s", got.method, got.url)
				}
			}
			if tt.want != nil {
				if err != nil || !tt.want(o) {
					t.Errorf("%+v, %v", o, err)
				}
				return
			}
			if tt.code == "" {
				tt.code = authsome.Invalid
			}
			wantError(t, err, tt.code, nil, tt.parts...)
		})
	}
}
