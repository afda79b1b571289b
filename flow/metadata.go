package flow

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
)

// Metadata is read here rather than by the MCP SDK's oauthex: that follows
// redirects, takes http addresses on this machine, treats every 4xx as "no
// metadata", does not look at all of the endpoints, and gives up its check of
// addresses when it is given a dialer.

// serverMetadata is what an authorization server says about itself: RFC 8414,
// section 2, and OpenID Connect Discovery, section 3.
type serverMetadata struct {
	Issuer           string   `json:"issuer"`
	Authorization    string   `json:"authorization_endpoint"`
	Token            string   `json:"token_endpoint"`
	Registration     string   `json:"registration_endpoint"`
	Device           string   `json:"device_authorization_endpoint"` // RFC 8628, section 4
	Revocation       string   `json:"revocation_endpoint"`
	Scopes           []string `json:"scopes_supported"`
	PKCE             []string `json:"code_challenge_methods_supported"`
	TokenAuth        []string `json:"token_endpoint_auth_methods_supported"`
	IssuerInCallback bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207, section 3
}

// Complete fills in what a definition leaves out and the server says about
// itself: where to register, its issuer, device and revocation endpoints. It is
// asked at o.Issuer, else at the origin of the authorization URL. A server that
// says nothing about itself leaves o as it is.
func (c *Client) Complete(ctx context.Context, o authsome.OAuth, private bool) (authsome.OAuth, error) {
	issuer := o.Issuer
	if issuer == "" {
		u, err := endpoint(o.AuthorizationURL)
		if err != nil {
			return o, request{doing: "read the metadata of " + hostOf(o.AuthorizationURL)}.fail(authsome.Invalid, err.Error(), nil)
		}
		issuer = u.Scheme + "://" + u.Host
	}
	m, err := c.serverMetadata(ctx, issuer, private)
	if err != nil || m == nil {
		return o, err
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&o.Issuer, m.Issuer},
		{&o.AuthorizationURL, m.Authorization},
		{&o.TokenURL, m.Token},
		{&o.RegistrationURL, m.Registration},
		{&o.DeviceURL, m.Device},
		{&o.RevocationURL, m.Revocation},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	if o.Issuer == m.Issuer && m.IssuerInCallback {
		o.IssuerInCallback = true
	}
	if o.TokenAuth == "" {
		o.TokenAuth = m.auth()
	}
	return o, nil
}

// serverMetadata reads what a server says about itself. Neither document nor
// error: it says nothing.
func (c *Client) serverMetadata(ctx context.Context, issuer string, private bool) (*serverMetadata, error) {
	r := request{doing: "read the metadata of " + hostOf(issuer), private: private}
	u, err := endpoint(issuer)
	if err != nil || u.RawQuery != "" || u.ForceQuery {
		return nil, r.fail(authsome.Invalid, "the issuer: "+orText(err, "its address has a query"), nil)
	}
	var refused error
	for _, address := range metadataAddresses(u) {
		var m serverMetadata
		found, err := c.document(ctx, r, address, &m)
		if err == nil && found {
			err = r.checkServer(&m, issuer)
			if err == nil {
				return &m, nil
			}
		}
		if authsome.CodeOf(err) == authsome.Unreachable {
			return nil, err
		}
		if refused == nil {
			refused = err
		}
	}
	return nil, refused
}

// metadataAddresses are the places of the document: RFC 8414, section 3.1, the
// same for OpenID Connect, and OpenID Connect Discovery, section 4.1.
func metadataAddresses(issuer *url.URL) []string {
	origin, path := issuer.Scheme+"://"+issuer.Host, strings.TrimRight(issuer.EscapedPath(), "/")
	out := []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + "/.well-known/openid-configuration" + path,
	}
	if path != "" {
		out = append(out, origin+path+"/.well-known/openid-configuration")
	}
	return out
}

// document reads one metadata document. Not found, no error: there is none at
// that address. What is there and no such document is an error of code Invalid.
func (c *Client) document(ctx context.Context, r request, address string, into any) (found bool, err error) {
	r.method, r.url, r.header, r.limit = http.MethodGet, address, http.Header{"Accept": {"application/json"}}, metadataTime
	a, err := c.do(ctx, r)
	if err != nil {
		return false, err
	}
	switch {
	case a.status >= 500 || a.status == http.StatusTooManyRequests:
		return false, r.unreadable(a)
	case a.status >= 400:
		return false, nil
	}
	if v, ok := decode(a); !ok || a.status != http.StatusOK || v.(map[string]any) == nil {
		e := r.unreadable(a)
		e.Code = authsome.Invalid
		return false, e
	}
	if json.Unmarshal(a.body, into) != nil {
		return false, r.fail(authsome.Invalid, "its metadata holds values of wrong types", nil)
	}
	return true, nil
}

// checkServer checks that a document is that of the issuer which was asked (RFC
// 8414, section 3.3), and that its addresses may be used. A slash at the end of
// an issuer is the only difference that is let pass: to the letter it is another
// name, but the same address, and some servers write it the one way here and
// the other way there.
func (r request) checkServer(m *serverMetadata, issuer string) error {
	if m.Issuer == "" {
		return r.fail(authsome.Invalid, "its metadata names no issuer", nil)
	}
	if strings.TrimSuffix(m.Issuer, "/") != strings.TrimSuffix(issuer, "/") {
		return r.fail(authsome.Invalid, "its metadata is that of another issuer: "+hostOf(m.Issuer), nil)
	}
	for _, e := range []struct {
		name, address string
		required      bool
	}{
		{"authorization_endpoint", m.Authorization, true},
		{"token_endpoint", m.Token, true},
		{"registration_endpoint", m.Registration, false},
		{"device_authorization_endpoint", m.Device, false},
		{"revocation_endpoint", m.Revocation, false},
	} {
		if e.address == "" && !e.required {
			continue
		}
		u, err := endpoint(e.address)
		if err != nil {
			return r.fail(authsome.Invalid, "its "+e.name+": "+err.Error(), nil)
		}
		if !r.private && netguard.HostIsPrivate(u.Hostname()) {
			return r.fail(authsome.Invalid, "its "+e.name+": it is on a private address, which this login did not approve", nil)
		}
	}
	return nil
}

// auth chooses how the client proves itself: without a secret where that is
// possible. A server that does not say is asked when the client is registered.
func (m *serverMetadata) auth() authsome.ClientAuth {
	for _, auth := range []authsome.ClientAuth{authsome.ClientNone, authsome.ClientBody, authsome.ClientBasic} {
		if slices.Contains(m.TokenAuth, authNames[auth]) {
			return auth
		}
	}
	return ""
}
