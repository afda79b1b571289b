package flow

import (
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"github.com/authsome/authsome"
)

// Authorization is what one request for consent has of its own.
type Authorization struct {
	State, Verifier authsome.Secret
	Scopes          []string
}

// NewVerifier makes a code verifier (RFC 7636, section 4.1).
func NewVerifier() authsome.Secret { return authsome.NewSecret(oauth2.GenerateVerifier()) }

// AuthorizeURL is the address at which the person gives consent (RFC 6749,
// section 4.1.1). A query that the endpoint's address has is kept. The address
// carries the state, but no secret that is good for anything without the
// callback.
func (s Server) AuthorizeURL(a Authorization) (string, error) {
	r := request{doing: "ask for consent at " + hostOf(s.AuthorizationURL)}
	u, err := endpoint(s.AuthorizationURL)
	switch {
	case err != nil:
		return "", r.fail(authsome.Invalid, err.Error(), nil)
	case s.App.ID == "":
		return "", r.fail(authsome.Invalid, "there is no client id", nil)
	case a.State.IsZero() || s.PKCE && a.Verifier.IsZero():
		return "", r.fail(authsome.Internal, "state or verifier is missing", nil)
	}
	q := u.Query()
	for _, p := range s.AuthorizeParams {
		q.Set(p.Name, p.Value)
	}
	q.Set("response_type", "code")
	q.Set("client_id", s.App.ID)
	q.Set("redirect_uri", s.RedirectURI)
	q.Set("state", a.State.Reveal())
	if s.PKCE {
		q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(a.Verifier.Reveal()))
		q.Set("code_challenge_method", "S256")
	}
	s.addScopes(q, a.Scopes)
	if s.Resource != "" { // RFC 8707, section 2.1
		q.Set("resource", s.Resource)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Callback checks what a redirect has brought against the state of the login
// and the server's issuer, and gives the code. It looks at the sender first: an
// error, too, counts only when it comes from the right server (RFC 9207,
// section 2.4).
func (s Server) Callback(query url.Values, state authsome.Secret) (code authsome.Secret, err error) {
	r := request{doing: "log in at " + hostOf(s.AuthorizationURL), secrets: []authsome.Secret{state}}
	one := func(name string) (string, bool) {
		values := query[name]
		if len(values) != 1 {
			return "", false
		}
		return values[0], true
	}
	given, ok := one("state")
	if !ok || state.IsZero() || !authsome.NewSecret(given).Equal(state) {
		return code, r.fail(authsome.Invalid, "the state that came back is not the one of this login", nil)
	}
	issuer, ok := one("iss")
	switch {
	case !ok && query.Has("iss"):
		return code, r.fail(authsome.AuthFailed, "the answer names several issuers", nil)
	case ok && s.Issuer != "" && issuer != s.Issuer:
		return code, r.fail(authsome.AuthFailed, "the answer comes from another server: its issuer is "+r.quote(hostOf(issuer)), nil)
	case !ok && s.IssuerInCallback:
		return code, r.fail(authsome.AuthFailed, "the answer does not say which server it comes from, although this one always does", nil)
	}
	if query.Has("error") {
		return code, r.refused(&answer{status: http.StatusBadRequest}, refusal{query.Get("error"), query.Get("error_description")})
	}
	text, ok := one("code")
	if !ok {
		return code, r.fail(authsome.AuthFailed, "the answer holds no code", nil)
	}
	if code, bad := tokenText(text); bad == "" {
		return code, nil
	}
	return code, r.fail(authsome.AuthFailed, "the code in the answer is not valid", nil)
}
