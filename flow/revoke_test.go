package flow

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

func TestRevoke(t *testing.T) {
	access, refresh := authsome.NewSecret(canaryAccess), authsome.NewSecret(canaryRefresh)
	type call struct {
		style authsome.RevokeStyle
		token authsome.Secret
		hint  string
		url   string
	}
	usual := call{token: access, hint: "access_token"}
	github := call{style: authsome.RevokeGitHub, token: access, hint: "access_token", url: "https://auth.example.com/applications/{client_id}/token"}
	slack := call{style: authsome.RevokeBearer, token: access, hint: "access_token"}
	tests := []struct {
		name  string
		call  call
		serve http.HandlerFunc
		sent  string // method, path, authorization, body; "" is nothing
		code  authsome.Code
		cause error
	}{
		{name: "RFC 7009", call: usual, serve: says(200, "", ""), sent: "POST /revoke  client_id=the-client&client_secret=canaryClientSecret%2Fq7Wv%2B3x&token=canaryAccess_4Rf8Vb2Nm&token_type_hint=access_token"},
		{name: "a refresh token, a page for an answer", call: call{token: refresh, hint: "refresh_token"}, serve: says(200, "text/html", "<html>bye"), sent: "POST /revoke  client_id=the-client&client_secret=canaryClientSecret%2Fq7Wv%2B3x&token=canaryRefresh.5Tg9Hn1Bv&token_type_hint=refresh_token"},
		{name: "gone already", call: usual, serve: saysJSON(400, `{"error":"invalid_token"}`), sent: "POST"},
		{name: "an empty object", call: usual, serve: saysJSON(200, `{}`), sent: "POST"},
		{name: "not supported", call: usual, serve: saysJSON(400, `{"error":"unsupported_token_type"}`), sent: "POST", code: authsome.AuthFailed},
		{name: "wrong client", call: usual, serve: saysJSON(401, `{"error":"invalid_client"}`), sent: "POST", code: authsome.AuthFailed, cause: ErrInvalidClient},
		{name: "down", call: usual, serve: says(503, "", ""), sent: "POST", code: authsome.Unreachable},
		{name: "redirect", call: usual, serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://attacker.example/", http.StatusTemporaryRedirect)
		}, sent: "POST", code: authsome.Unreachable},
		{name: "GitHub", call: github, serve: says(204, "", ""), sent: `DELETE /applications/the-client/token Basic dGhlLWNsaWVudDpjYW5hcnlDbGllbnRTZWNyZXQvcTdXdiszeA== {"access_token":"canaryAccess_4Rf8Vb2Nm"}`},
		{name: "GitHub, gone", call: github, serve: saysJSON(422, `{"message":"Validation Failed"}`), sent: "DELETE"},
		{name: "GitHub, wrong secret", call: github, serve: saysJSON(401, `{"message":"Bad credentials"}`), sent: "DELETE", code: authsome.AuthFailed},
		{name: "GitHub knows no refresh tokens", call: call{style: authsome.RevokeGitHub, token: refresh, hint: "refresh_token"}},
		{name: "Slack", call: slack, serve: saysJSON(200, `{"ok":true,"revoked":true}`), sent: "POST /revoke Bearer canaryAccess_4Rf8Vb2Nm "},
		{name: "Slack, gone", call: slack, serve: saysJSON(200, `{"ok":false,"error":"token_revoked"}`), sent: "POST"},
		{name: "Slack, refused", call: slack, serve: saysJSON(200, `{"ok":false,"error":"missing_scope"}`), sent: "POST", code: authsome.AuthFailed},
		{name: "Slack knows no refresh tokens", call: call{style: authsome.RevokeBearer, token: refresh, hint: "refresh_token"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			if tt.serve != nil {
				f.handle("auth.example.com", tt.serve)
			}
			s := server()
			s.Revocation = tt.call.style
			if tt.call.url != "" {
				s.RevocationURL = tt.call.url
			}
			err := f.client().Revoke(t.Context(), s, tt.call.token, tt.call.hint)
			got := ""
			for _, r := range f.requests() {
				got += r.method + " " + strings.TrimPrefix(r.url, "https://auth.example.com") + " " + r.header.Get("Authorization") + " " + r.body
			}
			if !strings.HasPrefix(got, tt.sent) || tt.sent == "" && got != "" {
				t.Errorf("sent %s\nwant %s", got, tt.sent)
			}
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.code, tt.cause, "revoke the token at auth.example.com")
		})
	}
}
