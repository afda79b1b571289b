package flow

import (
	"net/http"
	"testing"

	"github.com/authsome/authsome"
)

func TestAccount(t *testing.T) {
	get := &authsome.UserInfo{URL: "https://api.example.com/me", ID: "id", Label: []string{"name", "email"}, Headers: []authsome.Param{{Name: "Notion-Version", Value: "1"}}}
	graph := &authsome.UserInfo{URL: "https://api.example.com/me", Method: "POST", Body: `{"query":"{viewer{id email}}"}`, ID: "data.viewer.id", Label: []string{"data.viewer.email"}}
	tests := []struct {
		name  string
		u     *authsome.UserInfo
		serve http.HandlerFunc
		want  authsome.Account
		code  authsome.Code
		parts []string
	}{
		{name: "GitHub", u: get, serve: saysJSON(200, `{"id":583231,"name":"octocat","email":"o@example.com"}`), want: authsome.Account{ID: "583231", Label: "octocat"}},
		{name: "the second label", u: get, serve: saysJSON(200, `{"id":"u","name":null,"email":"o@example.com"}`), want: authsome.Account{ID: "u", Label: "o@example.com"}},
		{name: "GraphQL", u: graph, serve: saysJSON(200, `{"data":{"viewer":{"id":"u1","email":"o@example.com"}}}`), want: authsome.Account{ID: "u1", Label: "o@example.com"}},
		{name: "in a list", u: &authsome.UserInfo{URL: "https://api.example.com/me", ID: "data.0.id", Label: []string{"data.9.x", "data.0.name"}}, serve: saysJSON(200, `{"data":[{"id":1,"name":"a\u001b[31mb\nc"}]}`), want: authsome.Account{ID: "1", Label: "a [31mb c"}},
		{name: "none", u: nil},
		{name: "no scope", u: get, serve: saysJSON(403, `{"message":"Resource not accessible"}`), code: authsome.AuthFailed, parts: []string{"Resource not accessible"}},
		{name: "Slack", u: get, serve: saysJSON(200, `{"ok":false,"error":"missing_scope"}`), code: authsome.AuthFailed, parts: []string{"missing_scope"}},
		{name: "nothing in it", u: get, serve: saysJSON(200, `{"data":null}`), code: authsome.AuthFailed, parts: []string{"names no account"}},
		{name: "HTML", u: get, serve: says(200, "text/html", "<html>"), code: authsome.Unreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			s := server()
			if s.UserInfo = tt.u; tt.serve != nil {
				f.handle("api.example.com/me", tt.serve)
			}
			got, err := f.client().Account(t.Context(), s, authsome.NewSecret(canaryAccess))
			for _, r := range f.requests() {
				if r.header.Get("Authorization") != "Bearer "+canaryAccess || tt.u == get && r.header.Get("Notion-Version") != "1" || r.body != tt.u.Body || (r.method == "POST") != (tt.u.Method == "POST") {
					t.Errorf("sent %+v", r)
				}
			}
			if tt.code != "" {
				wantError(t, err, tt.code, nil, append(tt.parts, "ask api.example.com whose account it is")...)
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
