package flow

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/authsome/authsome"
)

// Token requests are written here, not by x/oauth2: that knows neither JSON
// bodies, nor assertions of clients, nor tokens in other places than the top of
// the answer; it puts the old refresh token into answers without one, which
// hides whether the server rotates; and its errors print the answer's body.

// Exchange turns the code of a callback into tokens (RFC 6749, section 4.1.3).
func (c *Client) Exchange(ctx context.Context, s Server, code, verifier authsome.Secret) (*Token, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code.Reveal()}, "redirect_uri": {s.RedirectURI}}
	secrets := []authsome.Secret{code}
	if s.PKCE && !verifier.IsZero() {
		form.Set("code_verifier", verifier.Reveal())
		secrets = append(secrets, verifier)
	}
	return c.token(ctx, s, "exchange the code at ", form, secrets...)
}

// ClientCredentials gets a token for the app itself (RFC 6749, section 4.4).
func (c *Client) ClientCredentials(ctx context.Context, s Server, scopes []string) (*Token, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	s.addScopes(form, scopes)
	return c.token(ctx, s, "get a token from ", form)
}

// Knows reports whether the server still has the client: registrations that
// were never used are often deleted. It asks to refresh a token that cannot
// exist: a server looks at the client first (RFC 6749, sections 3.2.1 and 5.2).
// When it cannot be found out, the answer is yes.
func (c *Client) Knows(ctx context.Context, s Server) bool {
	_, err := c.Refresh(ctx, s, authsome.NewSecret(rand.Text()), nil)
	return !errors.Is(err, ErrInvalidClient)
}

// token makes a token request. doing ends in what comes before the host.
func (c *Client) token(ctx context.Context, s Server, doing string, form url.Values, secrets ...authsome.Secret) (*Token, error) {
	r, err := s.tokenRequest(c, doing, form, secrets)
	if err != nil {
		return nil, err
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if form.Get("grant_type") == "refresh_token" {
		// Slack answers a refresh of a user's token at the top, where in an
		// exchange the app's own token is.
		return r.readToken(a, s.Answer, authsome.TokenAnswer{})
	}
	return r.readToken(a, s.Answer)
}

// tokenRequest writes a request to the token endpoint.
func (s Server) tokenRequest(c *Client, doing string, form url.Values, secrets []authsome.Secret) (request, error) {
	r := request{
		doing: doing + hostOf(s.TokenURL), method: http.MethodPost, url: s.TokenURL, private: s.Private,
		header: http.Header{}, secrets: secrets,
	}
	for _, h := range s.TokenHeaders {
		r.header.Set(h.Name, h.Value)
	}
	for _, p := range s.TokenParams {
		if !form.Has(p.Name) {
			form.Set(p.Name, p.Value)
		}
	}
	if s.Resource != "" { // RFC 8707, section 2.2
		form.Set("resource", s.Resource)
	}
	if err := s.authenticate(c, &r, form); err != nil {
		return r, err
	}
	r.setBody(form, s.TokenBody)
	return r, nil
}

// setBody writes parameters as the body.
func (r *request) setBody(form url.Values, as authsome.Encoding) {
	r.header.Set("Accept", "application/json")
	if as == authsome.EncodeJSON {
		m := make(map[string]string, len(form))
		for name := range form {
			m[name] = form.Get(name)
		}
		r.body, _ = json.Marshal(m) // a map of texts always can be
		r.header.Set("Content-Type", "application/json")
		return
	}
	r.body = []byte(form.Encode())
	r.header.Set("Content-Type", "application/x-www-form-urlencoded")
}

// method is how the client proves itself. Without anything to prove it with, it
// is a public one.
func (s Server) method() authsome.ClientAuth {
	m := s.App.Auth
	if m == "" {
		m = s.TokenAuth
	}
	if m == "" {
		m = authsome.ClientBody
	}
	if m != authsome.ClientJWT && s.App.Secret.IsZero() {
		m = authsome.ClientNone
	}
	return m
}

// authenticate adds the client to a request (RFC 6749, section 2.3).
func (s Server) authenticate(c *Client, r *request, form url.Values) error {
	if s.App.ID == "" {
		return r.fail(authsome.Invalid, "there is no client id", nil).WithHint("give the OAuth app's client id")
	}
	r.secrets = append(r.secrets, s.App.Secret)
	switch s.method() {
	case authsome.ClientBasic:
		// Both are encoded as in a form first; for the ids and secrets of vendors
		// that do not know this, it changes nothing.
		pair := url.QueryEscape(s.App.ID) + ":" + url.QueryEscape(s.App.Secret.Reveal())
		basic := base64.StdEncoding.EncodeToString([]byte(pair))
		r.header.Set("Authorization", "Basic "+basic)
		r.secrets = append(r.secrets, authsome.NewSecret(basic))
	case authsome.ClientJWT:
		assertion, err := c.clientAssertion(s)
		if err != nil {
			return r.fail(authsome.Invalid, err.Error(), nil).WithHint("give the OAuth app's private key as PEM")
		}
		form.Set("client_id", s.App.ID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion.Reveal())
		r.secrets = append(r.secrets, assertion, s.App.Key)
	case authsome.ClientNone:
		form.Set("client_id", s.App.ID)
	default:
		form.Set("client_id", s.App.ID)
		form.Set("client_secret", s.App.Secret.Reveal())
	}
	return nil
}

// addScopes adds the parameter for scopes, if there are any.
func (s Server) addScopes(form url.Values, scopes []string) {
	if len(scopes) == 0 {
		return
	}
	name, separator := s.ScopeParam, s.ScopeSeparator
	if name == "" {
		name = "scope"
	}
	if separator == "" {
		separator = " "
	}
	form.Set(name, strings.Join(scopes, separator))
}
