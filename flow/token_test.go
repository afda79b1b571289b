package flow

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/authsome/authsome"
)

const goodAnswer = `{"access_token":"` + canaryAccess + `","token_type":"bearer","expires_in":3600,"refresh_token":"` + canaryRefresh + `","scope":"read write"}`

func code() authsome.Secret     { return authsome.NewSecret(canaryCode) }
func verifier() authsome.Secret { return authsome.NewSecret(canaryVerifier) }

// TestTokenAnswers goes through what token endpoints answer, to the letter of
// the RFC and otherwise.
func TestTokenAnswers(t *testing.T) {
	tests := []struct {
		name   string
		serve  http.HandlerFunc
		answer authsome.TokenAnswer
		want   func(*Token) bool // nil: an error

		code  authsome.Code
		cause error
		parts []string
	}{
		{name: "RFC 6749", serve: saysJSON(200, goodAnswer), want: func(tok *Token) bool {
			return tok.Access.Reveal() == canaryAccess && tok.Refresh.Reveal() == canaryRefresh && tok.Type == "Bearer" &&
				tok.ExpiresAt.Equal(testNow.Add(time.Hour)) && slices.Equal(tok.Scopes, []string{"read", "write"})
		}},
		{name: "the least", serve: saysJSON(200, `{"access_token":"a"}`), want: func(tok *Token) bool {
			return tok.Access.Reveal() == "a" && tok.Refresh.IsZero() && tok.Type == "Bearer" && tok.ExpiresAt.IsZero() && tok.Scopes == nil
		}},
		{name: "with a byte order mark and a wrong content type", serve: says(200, "text/html", "\ufeff"+goodAnswer), want: func(tok *Token) bool { return !tok.Access.IsZero() }},
		{name: "nulls", serve: saysJSON(200, `{"access_token":"a","refresh_token":null,"expires_in":null,"scope":null,"token_type":null,"error":null}`), want: func(tok *Token) bool {
			return tok.Refresh.IsZero() && tok.ExpiresAt.IsZero() && tok.Scopes == nil
		}},
		{name: "a form, as GitHub without Accept", serve: says(200, "application/x-www-form-urlencoded; charset=utf-8", "access_token=gho_a&scope=repo%2Cgist&token_type=bearer"), want: func(tok *Token) bool {
			return tok.Access.Reveal() == "gho_a" && slices.Equal(tok.Scopes, []string{"repo", "gist"})
		}},
		{name: "a form as plain text, with expires", serve: says(200, "text/plain", "access_token=a&expires_in=5183944"), want: func(tok *Token) bool { return tok.ExpiresAt.Equal(testNow.Add(5183944 * time.Second)) }},
		{name: "expires_in as text", serve: saysJSON(200, `{"access_token":"a","expires_in":"3600"}`), want: func(tok *Token) bool { return tok.ExpiresAt.Equal(testNow.Add(time.Hour)) }},
		{name: "expires_in with a fraction", serve: saysJSON(200, `{"access_token":"a","expires_in":3600.5}`), want: func(tok *Token) bool { return tok.ExpiresAt.Equal(testNow.Add(time.Hour)) }},
		{name: "expires_in negative", serve: saysJSON(200, `{"access_token":"a","expires_in":-5}`), want: func(tok *Token) bool { return tok.ExpiresAt.IsZero() }},
		{name: "expires_in zero", serve: saysJSON(200, `{"access_token":"a","expires_in":0}`), want: func(tok *Token) bool { return tok.ExpiresAt.IsZero() }},
		{name: "expires_in ten years", serve: saysJSON(200, `{"access_token":"a","expires_in":315360000}`), want: func(tok *Token) bool { return tok.ExpiresAt.IsZero() }},
		{name: "expires_in beyond numbers", serve: saysJSON(200, `{"access_token":"a","expires_in":1e400}`), want: func(tok *Token) bool { return tok.ExpiresAt.IsZero() }},
		{name: "expires_in NaN as text", serve: saysJSON(200, `{"access_token":"a","expires_in":"NaN"}`), want: func(tok *Token) bool { return tok.ExpiresAt.IsZero() }},
		{name: "expires_in an object", serve: saysJSON(200, `{"access_token":"a","expires_in":{}}`), want: func(tok *Token) bool { return tok.ExpiresAt.IsZero() }},
		{name: "scopes as a list, mixed", serve: saysJSON(200, `{"access_token":"a","scope":["a b","c,d","a",7]}`), want: func(tok *Token) bool {
			return slices.Equal(tok.Scopes, []string{"a", "b", "c", "d"})
		}},
		{name: "an empty scope says nothing", serve: saysJSON(200, `{"access_token":"a","scope":""}`), want: func(tok *Token) bool { return tok.Scopes == nil }},
		{name: "Slack's user token", answer: authsome.TokenAnswer{
			AccessToken: "authed_user.access_token", RefreshToken: "authed_user.refresh_token", ExpiresIn: "authed_user.expires_in",
			Scope: "authed_user.scope", AccountID: "authed_user.id", AccountLabel: "team.name",
		}, serve: saysJSON(200, `{"ok":true,"app_id":"A1","authed_user":{"id":"U1","scope":"chat:write,users:read","access_token":"xoxp-1","token_type":"user","expires_in":43200,"refresh_token":"xoxe-1"},"team":{"id":"T1","name":"Acme <b>"},"enterprise":null}`), want: func(tok *Token) bool {
			return tok.Access.Reveal() == "xoxp-1" && tok.Refresh.Reveal() == "xoxe-1" && slices.Equal(tok.Scopes, []string{"chat:write", "users:read"}) &&
				tok.Account == authsome.Account{ID: "U1", Label: "Acme b"} && tok.ExpiresAt.Equal(testNow.Add(12*time.Hour))
		}},
		{name: "Slack's bot type", serve: saysJSON(200, `{"ok":true,"access_token":"xoxb-1","token_type":"bot"}`), want: func(tok *Token) bool { return tok.Type == "bot" }},
		{name: "Notion", answer: authsome.TokenAnswer{AccountID: "workspace_id", AccountLabel: "workspace_name"}, serve: saysJSON(200, `{"access_token":"ntn_1","token_type":"bearer","bot_id":"b","workspace_id":"w-1","workspace_name":"Home","owner":{"type":"user"}}`), want: func(tok *Token) bool {
			return tok.Account == authsome.Account{ID: "w-1", Label: "Home"}
		}},

		{name: "GitHub's error under 200", serve: says(200, "application/x-www-form-urlencoded", "error=bad_verification_code&error_description=The+code+passed+is+incorrect+or+expired.&error_uri=https%3A%2F%2Fdocs"), code: authsome.AuthFailed, cause: ErrInvalidGrant, parts: []string{"at auth.example.com", "bad_verification_code", "The code passed is incorrect or expired"}},
		{name: "GitHub's wrong secret", serve: saysJSON(200, `{"error":"incorrect_client_credentials","error_description":"The client_id and/or client_secret passed are incorrect."}`), code: authsome.AuthFailed, cause: ErrInvalidClient, parts: []string{"client id or secret"}},
		{name: "GitHub's wrong redirect", serve: saysJSON(200, `{"error":"redirect_uri_mismatch"}`), code: authsome.AuthFailed, parts: []string{"redirect_uri_mismatch", "enter the redirect URI"}},
		{name: "Slack's error", serve: saysJSON(200, `{"ok":false,"error":"invalid_code"}`), code: authsome.AuthFailed, cause: ErrInvalidGrant},
		{name: "Slack without an error", serve: saysJSON(200, `{"ok":false}`), code: authsome.AuthFailed},
		{name: "Notion's error", serve: saysJSON(400, `{"object":"error","status":400,"code":"validation_error","message":"body failed validation"}`), code: authsome.AuthFailed, parts: []string{"validation_error", "body failed validation"}},
		{name: "Google's", serve: saysJSON(400, `{"error":"invalid_grant","error_description":"Malformed auth code."}`), code: authsome.AuthFailed, cause: ErrInvalidGrant, parts: []string{"Malformed auth code."}},
		{name: "an error object", serve: saysJSON(400, `{"error":{"type":"invalid_grant","message":"no"}}`), code: authsome.AuthFailed, cause: ErrInvalidGrant},
		{name: "an error that is a number", serve: saysJSON(200, `{"error":7,"access_token":"a"}`), code: authsome.AuthFailed},
		{name: "an error beside a token", serve: saysJSON(200, `{"error":"invalid_scope","access_token":"a"}`), code: authsome.AuthFailed, parts: []string{"invalid_scope", "--scopes"}},
		{name: "an error with markup and colours", serve: saysJSON(400, `{"error":"x","error_description":"\u001b[31m<b>no</b>\u202e\n\r`+strings.Repeat("very ", 100)+`"}`), code: authsome.AuthFailed, parts: []string{"no /b very", "…"}},
		{name: "an error code that is none", serve: saysJSON(400, `{"error":"<script>alert(1)</script>"}`), code: authsome.AuthFailed, parts: []string{"answered 400"}},
		{name: "a server in trouble", serve: saysJSON(200, `{"error":"temporarily_unavailable"}`), code: authsome.Unreachable, parts: []string{"in trouble"}},
		{name: "500 that says invalid_grant", serve: saysJSON(500, `{"error":"invalid_grant"}`), code: authsome.Unreachable},
		{name: "503 of a gateway", serve: says(503, "text/html", "<html>down"), code: authsome.Unreachable, parts: []string{"503"}},
		{name: "429", serve: saysJSON(429, `{"error":"too_many"}`), code: authsome.Unreachable, parts: []string{"429"}},
		{name: "403 of a gateway", serve: says(403, "text/html", "<!doctype html>blocked"), code: authsome.Unreachable, parts: []string{"web page", "403"}},
		{name: "HTML", serve: says(200, "text/html", "<!doctype html>"+goodAnswer), code: authsome.Unreachable, parts: []string{"web page where JSON belongs"}},
		{name: "empty", serve: saysJSON(200, " "), code: authsome.Unreachable, parts: []string{"empty"}},
		{name: "204", serve: says(204, "", ""), code: authsome.Unreachable, parts: []string{"empty"}},
		{name: "truncated", serve: saysJSON(200, goodAnswer[:40]), code: authsome.Unreachable},
		{name: "cut off", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, goodAnswer)
		}, code: authsome.Unreachable},
		{name: "two answers", serve: saysJSON(200, goodAnswer+goodAnswer), code: authsome.Unreachable},
		{name: "a list", serve: saysJSON(200, `["`+canaryAccess+`"]`), code: authsome.Unreachable},
		{name: "a word", serve: saysJSON(200, canaryAccess), code: authsome.Unreachable},
		{name: "no token", serve: saysJSON(200, `{"token_type":"bearer"}`), code: authsome.AuthFailed, parts: []string{"is missing"}},
		{name: "an empty token", serve: saysJSON(200, `{"access_token":""}`), code: authsome.AuthFailed, parts: []string{"is empty"}},
		{name: "a number for a token", serve: saysJSON(200, `{"access_token":42}`), code: authsome.AuthFailed, parts: []string{"is no text"}},
		{name: "a token with a line break", serve: saysJSON(200, `{"access_token":"`+canaryAccess+`\r\nX-Evil: 1"}`), code: authsome.AuthFailed, parts: []string{"no header may hold"}},
		{name: "a token of 40 KB", serve: saysJSON(200, `{"access_token":"`+strings.Repeat("a", 40<<10)+`"}`), code: authsome.AuthFailed, parts: []string{"longer"}},
		{name: "a list for a refresh token", serve: saysJSON(200, `{"access_token":"a","refresh_token":["`+canaryRefresh+`"]}`), code: authsome.AuthFailed, parts: []string{"refresh token", "is no text"}},
		{name: "MAC tokens", serve: saysJSON(200, `{"access_token":"a","token_type":"MAC"}`), code: authsome.AuthFailed, parts: []string{"type mac"}},
		{name: "DPoP tokens", serve: saysJSON(200, `{"access_token":"a","token_type":"DPoP"}`), code: authsome.AuthFailed, parts: []string{"type dpop"}},
		{name: "Slack's path on another answer", answer: authsome.TokenAnswer{AccessToken: "authed_user.access_token"}, serve: saysJSON(200, goodAnswer), code: authsome.AuthFailed, parts: []string{"is missing"}},
		{name: "10 MB", serve: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"padding":"`)
			for range 160 {
				if _, err := io.WriteString(w, strings.Repeat("x", 64<<10)); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, `","access_token":"a"}`)
		}, code: authsome.Unreachable, parts: []string{"longer than 1 MiB"}},
		{name: "a redirect", serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://attacker.example/token?x="+canaryAccess, http.StatusTemporaryRedirect)
		}, code: authsome.Unreachable, parts: []string{"redirects to attacker.example", "not followed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.handle("auth.example.com", tt.serve)
			s := server()
			s.Answer = tt.answer
			token, err := f.client().Exchange(t.Context(), s, code(), verifier())
			if got := f.requests(); len(got) != 1 || got[0].url != s.TokenURL {
				t.Errorf("requests: %v", got)
			}
			if tt.want != nil {
				if err != nil {
					t.Fatal(err)
				}
				if !tt.want(token) {
					t.Errorf("got %+v", token)
				}
				return
			}
			if token != nil {
				t.Error("a token with an error")
			}
			wantError(t, err, tt.code, tt.cause, append(tt.parts, "exchange the code at auth.example.com: ")...)
		})
	}
}

// TestTokenRequest looks at what is sent.
func TestTokenRequest(t *testing.T) {
	f := newFake(t)
	f.handle("auth.example.com", saysJSON(200, goodAnswer))
	c := f.client()
	send := func(t *testing.T, change func(*Server)) seen {
		t.Helper()
		s := server()
		change(&s)
		if _, err := c.Exchange(t.Context(), s, code(), verifier()); err != nil {
			t.Fatal(err)
		}
		return f.only()
	}
	base := url.Values{
		"grant_type": {"authorization_code"}, "code": {canaryCode}, "code_verifier": {canaryVerifier}, "redirect_uri": {"http://127.0.0.1:7998/auth/callback/oauth"},
	}
	with := func(more ...string) url.Values {
		out := url.Values{}
		for k, v := range base {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = []string{more[i+1]}
		}
		return out
	}
	tests := []struct {
		name   string
		change func(*Server)
		form   url.Values
		basic  string
	}{
		{"body", func(*Server) {}, with("client_id", "the-client", "client_secret", canarySecret), ""},
		{"basic, encoded first", func(s *Server) { s.TokenAuth = authsome.ClientBasic }, base, "the-client:" + url.QueryEscape(canarySecret)},
		{"none", func(s *Server) { s.TokenAuth = authsome.ClientNone }, with("client_id", "the-client"), ""},
		{"basic without a secret is none", func(s *Server) { s.TokenAuth, s.App.Secret = authsome.ClientBasic, authsome.Secret{} }, with("client_id", "the-client"), ""},
		{"a registration's method counts", func(s *Server) { s.App.Auth = authsome.ClientBasic }, base, "the-client:" + url.QueryEscape(canarySecret)},
		{"resource", func(s *Server) { s.Resource = "https://mcp.example.com/mcp" }, with("client_id", "the-client", "client_secret", canarySecret, "resource", "https://mcp.example.com/mcp"), ""},
		{"parameters that cannot take ours over", func(s *Server) {
			s.TokenParams = []authsome.Param{{Name: "audience", Value: "api"}, {Name: "code", Value: "other"}}
		}, with("client_id", "the-client", "client_secret", canarySecret, "audience", "api"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := send(t, tt.change)
			if got.method != "POST" || got.form().Encode() != tt.form.Encode() || got.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("%s %s %s", got.method, got.header.Get("Content-Type"), got.body)
			}
			r := http.Request{Header: got.header}
			user, password, _ := r.BasicAuth()
			if tt.basic != "" && user+":"+password != tt.basic || tt.basic == "" && got.header.Get("Authorization") != "" {
				t.Errorf("Authorization: %s", got.header.Get("Authorization"))
			}
			if got.header.Get("Accept") != "application/json" || !strings.HasPrefix(got.header.Get("User-Agent"), "authsome/") {
				t.Errorf("headers %v", got.header)
			}
		})
	}
	t.Run("Notion", func(t *testing.T) {
		got := send(t, func(s *Server) {
			s.TokenAuth, s.TokenBody, s.PKCE = authsome.ClientBasic, authsome.EncodeJSON, false
			s.TokenHeaders = []authsome.Param{{Name: "Notion-Version", Value: "2022-06-28"}}
		})
		var body map[string]string
		if err := json.Unmarshal([]byte(got.body), &body); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(body) != fmt.Sprint(map[string]string{"grant_type": "authorization_code", "code": canaryCode, "redirect_uri": "http://127.0.0.1:7998/auth/callback/oauth"}) ||
			got.header.Get("Notion-Version") != "2022-06-28" || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%v %s", got.header, got.body)
		}
	})
}

// TestLikeOAuth2 holds the ordinary requests to what x/oauth2 sends.
func TestLikeOAuth2(t *testing.T) {
	var bodies, auths []string
	there := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies, auths = append(bodies, string(b)), append(auths, r.Header.Get("Authorization"))
		saysJSON(200, goodAnswer)(w, r)
	}))
	defer there.Close()
	for auth, style := range map[authsome.ClientAuth]oauth2.AuthStyle{authsome.ClientBody: oauth2.AuthStyleInParams, authsome.ClientBasic: oauth2.AuthStyleInHeader} {
		s := server()
		s.AuthorizationURL, s.TokenURL, s.TokenAuth, s.Private = there.URL+"/authorize?tenant=1", there.URL+"/token", auth, true
		conf := oauth2.Config{
			ClientID: s.App.ID, ClientSecret: canarySecret, RedirectURL: s.RedirectURI, Scopes: []string{"a", "b"},
			Endpoint: oauth2.Endpoint{AuthURL: s.AuthorizationURL, TokenURL: s.TokenURL, AuthStyle: style},
		}
		ours, err := s.AuthorizeURL(Authorization{State: authsome.NewSecret(canaryState), Verifier: verifier(), Scopes: []string{"a", "b"}})
		if err != nil {
			t.Fatal(err)
		}
		theirs := conf.AuthCodeURL(canaryState, oauth2.S256ChallengeOption(canaryVerifier))
		if query(t, ours).Encode() != query(t, theirs).Encode() {
			t.Errorf("authorize URLs differ:\n%s\n%s", ours, theirs)
		}
		c := New(Config{Roots: there.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
		ctx := contextWith(t, there.Client())
		if _, err := c.Exchange(t.Context(), s, code(), verifier()); err != nil {
			t.Fatal(err)
		}
		if _, err := conf.Exchange(ctx, canaryCode, oauth2.VerifierOption(canaryVerifier)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Refresh(t.Context(), s, authsome.NewSecret(canaryRefresh), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := conf.TokenSource(ctx, &oauth2.Token{RefreshToken: canaryRefresh}).Token(); err != nil {
			t.Fatal(err)
		}
	}
	if len(bodies) != 8 {
		t.Fatalf("%d requests", len(bodies))
	}
	for i := 0; i < len(bodies); i += 2 {
		if bodies[i] != bodies[i+1] || auths[i] != auths[i+1] {
			t.Errorf("requests differ:\n%s %s\n%s %s", bodies[i], auths[i], bodies[i+1], auths[i+1])
		}
	}
}

func TestRefresh(t *testing.T) {
	f := newFake(t)
	c := f.client()
	refresh := authsome.NewSecret(canaryRefresh)
	f.handle("auth.example.com", saysJSON(200, `{"access_token":"new","expires_in":60}`))
	token, err := c.Refresh(t.Context(), server(), refresh, nil)
	if err != nil || token.Access.Reveal() != "new" || !token.Refresh.IsZero() {
		t.Fatalf("%+v, %v: a refresh token that did not come must not be made up", token, err)
	}
	if got := f.only().form(); got.Get("grant_type") != "refresh_token" || got.Get("refresh_token") != canaryRefresh || got.Has("scope") {
		t.Errorf("sent %v", got)
	}
	if _, err := c.Refresh(t.Context(), server(), refresh, []string{"a", "b"}); err != nil || f.only().form().Get("scope") != "a b" {
		t.Errorf("with scopes: %v", err)
	}
	slack := server()
	slack.Answer = authsome.TokenAnswer{AccessToken: "authed_user.access_token", RefreshToken: "authed_user.refresh_token", ExpiresIn: "authed_user.expires_in"}
	f.handle("auth.example.com", saysJSON(200, `{"ok":true,"access_token":"xoxe.xoxp-2","refresh_token":"xoxe-2","expires_in":43200,"token_type":"user"}`))
	token, err = c.Refresh(t.Context(), slack, refresh, nil)
	if err != nil || token.Access.Reveal() != "xoxe.xoxp-2" || token.Refresh.Reveal() != "xoxe-2" || !token.ExpiresAt.Equal(testNow.Add(12*time.Hour)) {
		t.Errorf("Slack answers a refresh at the top: %+v, %v", token, err)
	}
	for _, dead := range []string{
		`{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`,
		`{"error":"bad_refresh_token"}`,
		`{"ok":false,"error":"invalid_refresh_token"}`,
	} {
		f.handle("auth.example.com", saysJSON(200, dead))
		_, err := c.Refresh(t.Context(), server(), refresh, nil)
		wantError(t, err, authsome.TokenExpired, ErrInvalidGrant, "refresh the token at auth.example.com")
	}
	f.handle("auth.example.com", saysJSON(401, `{"error":"invalid_client"}`))
	_, err = c.Refresh(t.Context(), server(), refresh, nil)
	wantError(t, err, authsome.AuthFailed, ErrInvalidClient)
	f.handle("auth.example.com", saysJSON(502, `{}`))
	_, err = c.Refresh(t.Context(), server(), refresh, nil)
	wantError(t, err, authsome.Unreachable, nil)
	f.requests()
	_, err = c.Refresh(t.Context(), server(), authsome.Secret{}, nil)
	wantError(t, err, authsome.TokenExpired, ErrInvalidGrant)
	if got := f.requests(); len(got) != 0 {
		t.Errorf("an empty refresh token was sent: %v", got)
	}
}

func TestClientCredentials(t *testing.T) {
	f := newFake(t)
	f.handle("auth.example.com", saysJSON(200, goodAnswer))
	s := server()
	s.TokenAuth, s.ScopeSeparator = authsome.ClientBasic, ","
	if _, err := f.client().ClientCredentials(t.Context(), s, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if got := f.only(); got.form().Encode() != "grant_type=client_credentials&scope=a%2Cb" || got.header.Get("Authorization") == "" {
		t.Errorf("sent %v", got)
	}
	s.App.ID = ""
	_, err := f.client().ClientCredentials(t.Context(), s, nil)
	wantError(t, err, authsome.Invalid, nil, "no client id")
}

func TestKnows(t *testing.T) {
	f := newFake(t)
	c := f.client()
	for _, tt := range []struct {
		serve http.HandlerFunc
		want  bool
	}{
		{saysJSON(400, `{"error":"invalid_grant"}`), true},
		{saysJSON(401, `{"error":"invalid_client"}`), false},
		{saysJSON(400, `{"error":"unauthorized_client"}`), false},
		{saysJSON(500, `{"error":"invalid_client"}`), true},
		{says(200, "text/html", "<html>"), true},
	} {
		f.handle("auth.example.com", tt.serve)
		if got := c.Knows(t.Context(), server()); got != tt.want {
			t.Errorf("knows = %v after %s", got, f.only().body)
		}
	}
}

func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range u.Query() {
		if len(values) != 1 {
			t.Errorf("%s is there %d times in %s", name, len(values), address)
		}
	}
	return u.Query()
}
