package flow

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/authsome/authsome"
)

// FuzzTokenAnswer: whatever a token endpoint says, there is a usable token or a
// clear error.
func FuzzTokenAnswer(f *testing.F) {
	for _, s := range []string{
		goodAnswer, `{"access_token":"a","expires_in":"1e3","scope":["a"]}`, "access_token=a&scope=b%2Cc", "error=bad_verification_code&error_description=x",
		`{"ok":false,"error":"x"}`, `{"authed_user":{"access_token":"a","id":1}}`, `{"error":{"message":"x","code":"y"}}`, "<html>", "", `{"a":`, `[[[[`, "{}{}", `{"access_token":"\u0000"}`, "\xef\xbb\xbf{}",
	} {
		f.Add(200, "application/json", s, "")
		f.Add(400, "text/plain", s, "authed_user.access_token")
	}
	f.Fuzz(func(t *testing.T, status int, kind, body, path string) {
		r := request{doing: "test", secrets: []authsome.Secret{authsome.NewSecret(canarySecret)}}
		a := &answer{status: status, header: http.Header{"Content-Type": {kind}, "Location": {body}}, body: []byte(body), asked: testNow}
		token, err := r.readToken(a, authsome.TokenAnswer{AccessToken: path, AccountID: path, AccountLabel: path})
		if (token == nil) == (err == nil) {
			t.Fatal("both or neither of token and error")
		}
		if err != nil {
			oneLine(t, err)
			if strings.Contains(err.Error(), canarySecret) {
				t.Error("a secret")
			}
			return
		}
		if token.Access.IsZero() || strings.ContainsFunc(token.Access.Reveal()+token.Refresh.Reveal(), func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			t.Errorf("token %q", token.Access.Reveal())
		}
		if !token.ExpiresAt.IsZero() && (!token.ExpiresAt.After(testNow) || token.ExpiresAt.After(testNow.Add(longest))) {
			t.Errorf("ends at %v", token.ExpiresAt)
		}
		for _, text := range append(token.Scopes, token.Type, token.Account.ID, token.Account.Label) {
			if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) || len(text) > 4*301 {
				t.Errorf("text %q", text)
			}
		}
	})
}

// FuzzChallenge: no header stops the parser or makes it give what is not there.
func FuzzChallenge(f *testing.F) {
	for _, s := range []string{
		`Bearer realm="a, b", scope="x y"`, `Basic realm="a", Bearer resource_metadata=https://h/x=y`, `Negotiate YWJj==, Bearer`, `Bearer a="\"`, `"`, `=`, `,,=,`, "a b c=d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		for _, c := range parseChallenges([]string{header, header}) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || !strings.Contains(strings.ToLower(header), c.scheme) {
				t.Errorf("scheme %q", c.scheme)
			}
			for name, value := range c.params {
				if name == "" || name != strings.ToLower(name) || len(value) > len(header) {
					t.Errorf("%q = %q", name, value)
				}
			}
		}
	})
}

// FuzzCallback: a code comes out only with the right state and issuer.
func FuzzCallback(f *testing.F) {
	for _, s := range []string{
		"state=" + canaryState + "&code=abc", "state=" + canaryState + "&code=abc&iss=https%3A%2F%2Fauth.example.com", "state=" + canaryState + "&error=access_denied&error_description=%3Cb%3E",
		"state=x&code=abc", "code=a&code=b&state=" + canaryState, "state=" + canaryState + "&iss=a&iss=b&code=c", "%zz", "state=" + canaryState + "&code=a%0d%0a",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, raw string, always bool) {
		query, _ := url.ParseQuery(raw)
		s := server()
		s.IssuerInCallback = always
		code, err := s.Callback(query, authsome.NewSecret(canaryState))
		if code.IsZero() == (err == nil) {
			t.Fatal("both or neither of code and error")
		}
		if err != nil {
			oneLine(t, err)
			if strings.Contains(err.Error(), canaryState) {
				t.Errorf("the state is in %q", err)
			}
			return
		}
		if query.Get("state") != canaryState || query.Has("error") || query.Get("code") != code.Reveal() || query.Has("iss") && query.Get("iss") != s.Issuer || always && !query.Has("iss") {
			t.Errorf("%q gave a code", raw)
		}
	})
}

// FuzzMetadata: documents that lie give an error or addresses that may be used.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{
		`{"issuer":"https://auth.example.com","authorization_endpoint":"https://a.example/a","token_endpoint":"https://a.example/t"}`,
		`{"issuer":"https://auth.example.com/","authorization_endpoint":"javascript:1","token_endpoint":"https://[::1]/"}`, `{"issuer":7}`, `null`, `[]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := New(Config{})
		c.public = roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: readCloser{strings.NewReader(body)}}, nil
		})
		m, err := c.serverMetadata(t.Context(), "https://auth.example.com", false)
		if err != nil {
			oneLine(t, err)
			return
		}
		if m == nil {
			return
		}
		for _, address := range []string{m.Authorization, m.Token, m.Registration, m.Device, m.Revocation} {
			if address != "" && !strings.HasPrefix(strings.ToLower(address), "https://") {
				t.Errorf("address %q", address)
			}
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// oneLine checks that an error is fit to be shown.
func oneLine(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) || strings.ContainsAny(text, "<>") || len(text) > 1000 {
		t.Errorf("error %q", text)
	}
}
