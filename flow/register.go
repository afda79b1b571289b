package flow

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// Registration is written here rather than taken from the MCP SDK's oauthex:
// that prints the answer, client secret included, in its errors, follows
// redirects, does not offer another authentication method when the first is
// refused, and brings a second JSON decoder into the binary.

// registration is what is asked for (RFC 7591, section 2).
type registration struct {
	ClientName      string   `json:"client_name"`
	RedirectURIs    []string `json:"redirect_uris,omitempty"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	TokenAuth       string   `json:"token_endpoint_auth_method"`
	ApplicationType string   `json:"application_type"` // OpenID Connect Registration, section 2
	Scope           string   `json:"scope,omitempty"`
}

// authNames are the methods under the names of RFC 7591.
var authNames = map[authsome.ClientAuth]string{
	authsome.ClientNone: "none", authsome.ClientBody: "client_secret_post", authsome.ClientBasic: "client_secret_basic",
}

// Register registers a client at s.RegistrationURL (RFC 7591): a program on the
// person's machine, with s.RedirectURI, or for the device flow when that is "".
// Where the definition names no method, a client without a secret is preferred,
// since a program on everybody's machine keeps none, and PKCE protects the code.
func (c *Client) Register(ctx context.Context, s Server, name string, scopes []string) (*authsome.OAuthClient, error) {
	try := []authsome.ClientAuth{authsome.ClientNone, authsome.ClientBody, authsome.ClientBasic}
	if s.TokenAuth != "" {
		if authNames[s.TokenAuth] == "" {
			return nil, request{doing: "register at " + hostOf(s.RegistrationURL)}.fail(authsome.Invalid,
				"clients that prove themselves by "+string(s.TokenAuth)+" cannot be registered", nil)
		}
		try = []authsome.ClientAuth{s.TokenAuth}
	}
	var client *authsome.OAuthClient
	var err error
	for _, auth := range try {
		again := false
		if client, again, err = c.register(ctx, s, auth, name, scopes); !again {
			break
		}
	}
	return client, err
}

// register makes one attempt; again says that another method may do.
func (c *Client) register(ctx context.Context, s Server, auth authsome.ClientAuth, name string, scopes []string) (client *authsome.OAuthClient, again bool, err error) {
	r := request{doing: "register at " + hostOf(s.RegistrationURL), method: http.MethodPost, url: s.RegistrationURL, private: s.Private}
	ask := registration{
		ClientName: name, TokenAuth: authNames[auth], ApplicationType: "native", Scope: strings.Join(scopes, " "),
		RedirectURIs: []string{s.RedirectURI}, GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
	}
	if s.RedirectURI == "" {
		ask.RedirectURIs, ask.ResponseTypes = nil, []string{}
		ask.GrantTypes[0] = "urn:ietf:params:oauth:grant-type:device_code"
	}
	r.body, err = json.Marshal(ask)
	if err != nil {
		return nil, false, r.fail(authsome.Internal, "the request cannot be written", nil)
	}
	r.header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, false, err
	}
	v, ok := decode(a)
	if !ok {
		return nil, false, r.unreadable(a)
	}
	if no, is := refusalOf(v, a.status); is {
		e := r.refused(a, no)
		if e.Hint == "" && e.Code == authsome.AuthFailed {
			e.Hint = "create an OAuth app at the service by hand, and give its client id"
		}
		return nil, a.status == http.StatusBadRequest && no.code == "invalid_client_metadata", e
	}
	return r.readRegistration(a, v, s, auth)
}

// readRegistration takes what the server has made of the request: it may have
// changed anything (RFC 7591, section 3.2.1).
func (r request) readRegistration(a *answer, v any, s Server, auth authsome.ClientAuth) (*authsome.OAuthClient, bool, error) {
	id, bad := tokenText(find(v, "", "client_id"))
	if bad != "" || id.Len() > 2048 {
		return nil, false, r.fail(authsome.AuthFailed, "its answer holds no client id", nil)
	}
	client := &authsome.OAuthClient{ID: id.Reveal(), Auth: auth, Registered: true, RedirectURI: s.RedirectURI, CreatedAt: a.asked}
	if secret := find(v, "", "client_secret"); secret != nil && secret != "" {
		if client.Secret, bad = tokenText(secret); bad != "" {
			return nil, false, r.fail(authsome.AuthFailed, "the client secret in its answer "+bad, nil)
		}
	}
	if method, _ := find(v, "", "token_endpoint_auth_method").(string); method != "" {
		client.Auth = ""
		for known, name := range authNames {
			if name == method {
				client.Auth = known
			}
		}
		if client.Auth == "" {
			return nil, false, r.fail(authsome.AuthFailed, "it wants clients to prove themselves in a way that authsome does not know", nil)
		}
	}
	switch {
	case client.Auth == authsome.ClientNone:
		// Some servers give every client a secret that nobody will ask for.
		client.Secret = authsome.Secret{}
	case client.Secret.IsZero():
		return nil, false, r.fail(authsome.AuthFailed, "its answer holds no client secret, although it wants one at the token endpoint", nil)
	}
	if uris, ok := find(v, "", "redirect_uris").([]any); ok && len(uris) > 0 && s.RedirectURI != "" && !slices.Contains(uris, any(s.RedirectURI)) {
		return nil, false, r.fail(authsome.AuthFailed, "it registered another redirect URI than the one asked for", nil)
	}
	if n, ok := find(v, "", "client_secret_expires_at").(json.Number); ok && !client.Secret.IsZero() {
		if seconds, err := n.Int64(); err == nil && seconds > 0 && seconds < 1<<40 {
			client.ExpiresAt = time.Unix(seconds, 0).UTC()
		}
	}
	return client, false, nil
}
