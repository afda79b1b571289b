package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/provider"
)

// discoverTime bounds the whole of Discover, however many documents it reads.
const discoverTime = 45 * time.Second

// Site is a service that was found by its address.
type Site struct {
	// URL is the service's resource identifier (RFC 9728, section 1.2), which is
	// also OAuth.Resource.
	URL   string
	OAuth authsome.OAuth
	// Server is the host of the authorization server.
	Server string
	// OtherSite says that the login's addresses are not all on the service's own
	// site: the person must confirm them, since hostile metadata could send a
	// login anywhere.
	OtherSite bool
	// Definition is a provider definition, schema 1, that routes exactly the
	// host and path that were asked for.
	Definition []byte
}

// resourceMetadata is what a service says about itself (RFC 9728, section 2).
type resourceMetadata struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`
}

// Discover finds out how to log in to an MCP server, or another service that
// says itself how: its 401, its metadata (RFC 9728), and that of its
// authorization server (RFC 8414 or OpenID Connect Discovery). name is what its
// provider will be called; "" makes one of the host. Nothing is registered yet,
// and nothing secret is sent.
func (c *Client) Discover(ctx context.Context, rawURL, name string, private bool) (*Site, error) {
	ctx, cancel := context.WithTimeout(ctx, discoverTime)
	defer cancel()
	r := request{doing: "log in by address", private: private} // which may hold a password
	u, err := canonical(rawURL)
	if err != nil {
		return nil, r.fail(authsome.Invalid, err.Error(), nil).WithHint("write the service's address as https://HOST/PATH")
	}
	r.doing = "log in to " + clean(u.Host+u.EscapedPath(), 120)
	challenged, err := c.challenge(ctx, r, u)
	if err != nil {
		return nil, err
	}
	about, err := c.resource(ctx, r, u, challenged.params["resource_metadata"])
	if err != nil {
		return nil, err
	}
	said := about != nil
	if !said {
		// Before RFC 9728, MCP servers were their own authorization servers
		// (MCP 2025-03-26).
		about = &resourceMetadata{Resource: u.String(), Servers: []string{u.Scheme + "://" + u.Host}}
	}
	server, err := c.firstServer(ctx, r, about.Servers)
	switch {
	case err != nil && !said && authsome.CodeOf(err) == authsome.Invalid:
		return nil, r.fail(authsome.Invalid, "it does not say how", nil).
			WithHint("if it wants an API key or an OAuth app, register a definition: authsome register FILE")
	case err != nil:
		return nil, err
	}
	if server.PKCE != nil && !slices.Contains(server.PKCE, "S256") {
		return nil, r.fail(authsome.Invalid, "its authorization server has no PKCE with S256, without which a login could be stolen", nil)
	}
	scopes := about.Scopes
	if text := challenged.params["scope"]; text != "" {
		scopes = strings.Fields(text) // what this request needed (RFC 6750, section 3)
	}
	if slices.Contains(server.Scopes, "offline_access") && len(scopes) > 0 && !slices.Contains(scopes, "offline_access") {
		scopes = append(slices.Clone(scopes), "offline_access") // or there is no refresh token
	}
	if name == "" {
		name = nameOf(u)
	}
	site := &Site{URL: about.Resource, Server: hostOf(server.Token)}
	for _, address := range []string{server.Issuer, server.Authorization, server.Token, server.Registration, server.Device, server.Revocation} {
		if address != "" && !SameSite(address, site.URL) {
			site.OtherSite = true
		}
	}
	if site.Definition, err = definition(u, name, server, site.URL, scopes); err != nil {
		return nil, r.fail(authsome.Internal, "the definition cannot be written", nil)
	}
	p, err := provider.Parse("the definition of "+clean(name, 80), site.Definition)
	if err == nil && !private {
		err = provider.CheckRegistrable(p)
	}
	if err != nil {
		return nil, err
	}
	site.OAuth = *p.OAuth
	return site, nil
}

// canonical makes a resource identifier of what a person wrote (RFC 9728,
// section 1.2; RFC 8707, section 2). A query is left out: it could not be routed.
func canonical(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	raw, _, _ = strings.Cut(raw, "#")
	if u, err := url.Parse(raw); err == nil {
		if host, err := idna.Lookup.ToASCII(u.Hostname()); err == nil && host != u.Hostname() {
			raw = strings.Replace(raw, u.Hostname(), host, 1)
		}
	}
	u, err := endpoint(raw)
	if err != nil {
		return nil, err
	}
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	u.RawQuery, u.ForceQuery = "", false
	if u.Path == "/" {
		u.Path, u.RawPath = "", ""
	}
	return u, nil
}

// initialize is the first message of an MCP client. Servers that answer a GET
// with 405 ask for a login only when there is something to protect.
const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"authsome","version":"1"}}}`

// challenge gives the Bearer challenge of the service's 401, or an empty one.
func (c *Client) challenge(ctx context.Context, r request, u *url.URL) (challenge, error) {
	r.url, r.headersOnly, r.limit = u.String(), true, metadataTime
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r.method, r.header = method, http.Header{"Accept": {"application/json, text/event-stream"}}
		if method == http.MethodPost {
			r.body = []byte(initialize)
			r.header.Set("Content-Type", "application/json")
		}
		a, err := c.do(ctx, r)
		if err != nil {
			return challenge{}, err
		}
		if a.status != http.StatusUnauthorized {
			continue
		}
		for _, ch := range parseChallenges(a.header.Values("WWW-Authenticate")) {
			if ch.scheme == "bearer" {
				return ch, nil
			}
		}
		break
	}
	return challenge{}, nil
}

// resource reads the service's metadata: where its challenge says, else at the
// well-known places. Neither metadata nor error: it has none.
func (c *Client) resource(ctx context.Context, r request, u *url.URL, said string) (*resourceMetadata, error) {
	places := []string{wellKnownResource(u), wellKnownResource(&url.URL{Scheme: u.Scheme, Host: u.Host})}
	if said != "" {
		if _, err := endpoint(said); err != nil {
			return nil, r.fail(authsome.Invalid, "its metadata: "+err.Error(), nil)
		}
		if !SameSite(said, u.String()) {
			return nil, r.fail(authsome.Invalid, "it says that its metadata is on another site, "+hostOf(said), nil)
		}
		places = []string{said}
	}
	for _, place := range slices.Compact(places) {
		var m resourceMetadata
		found, err := c.document(ctx, r, place, &m)
		switch {
		case err != nil && (said != "" || authsome.CodeOf(err) == authsome.Unreachable):
			return nil, err
		case found:
			if err := r.checkResource(&m, u, place); err != nil {
				return nil, err
			}
			return &m, nil
		}
		// A page for every address, as single-page applications have, says nothing.
	}
	if said != "" {
		return nil, r.fail(authsome.Invalid, "its metadata is not where it says", nil)
	}
	return nil, nil
}

// wellKnownResource is where the metadata of a resource is (RFC 9728, section
// 3.1).
func wellKnownResource(u *url.URL) string {
	return u.Scheme + "://" + u.Host + "/.well-known/oauth-protected-resource" + strings.TrimRight(u.EscapedPath(), "/")
}

// checkResource checks that metadata is about the service that was asked for
// (RFC 9728, section 3.3). A document may be about more than that, such as the
// whole host, when it is at the well-known place of what it is about: only its
// owner can put it there, while any tenant of a path could name the host in a
// document of their own, and get tokens for it.
func (r request) checkResource(m *resourceMetadata, asked *url.URL, place string) error {
	wrong := r.fail(authsome.Invalid, "its metadata is that of another resource, on "+hostOf(m.Resource), nil)
	about, err := endpoint(m.Resource)
	if err != nil || about.RawQuery != "" || about.ForceQuery {
		return wrong
	}
	host := strings.TrimSuffix(strings.ToLower(about.Host), ":443")
	path, want := strings.TrimRight(about.EscapedPath(), "/"), strings.TrimRight(asked.EscapedPath(), "/")
	switch {
	case host != asked.Host:
		return wrong
	case path == want:
	case strings.HasPrefix(want, path+"/") && place == wellKnownResource(&url.URL{Scheme: "https", Host: asked.Host, Path: about.Path, RawPath: about.RawPath}):
	default:
		return wrong
	}
	if len(m.Servers) == 0 {
		return r.fail(authsome.Invalid, "its metadata names no authorization server", nil).
			WithHint("register a definition for it: authsome register FILE")
	}
	return nil
}

// maxServers bounds how many of the named authorization servers are asked.
const maxServers = 3

// firstServer takes the first authorization server whose metadata can be used.
func (c *Client) firstServer(ctx context.Context, r request, issuers []string) (*serverMetadata, error) {
	var first error
	for _, issuer := range issuers[:min(len(issuers), maxServers)] {
		m, err := c.serverMetadata(ctx, issuer, r.private)
		if m != nil {
			return m, nil
		}
		if err == nil {
			err = r.fail(authsome.Invalid, "its authorization server, "+hostOf(issuer)+", does not say how", nil).
				WithHint("register a definition for it: authsome register FILE")
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// nameOf makes a provider's name of a host.
func nameOf(u *url.URL) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
			return c
		}
		return '-' // the colons of a port and of IPv6
	}, u.Host)
	name = strings.Trim(name, "-.")
	if len(name) > 64 {
		name = strings.Trim(name[len(name)-64:], "-.")
	}
	return name
}

// scopeOK is what a scope may be made of (RFC 6749, section 3.3).
func scopeOK(scope string) bool {
	return scope != "" && len(scope) <= 256 && !strings.ContainsFunc(scope, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' })
}

// definition writes down how to log in to a service, as a definition file.
func definition(u *url.URL, name string, m *serverMetadata, resource string, scopes []string) ([]byte, error) {
	type oauth struct {
		AuthorizationURL string              `json:"authorization_url"`
		TokenURL         string              `json:"token_url"`
		DeviceURL        string              `json:"device_authorization_url,omitempty"`
		RevocationURL    string              `json:"revocation_url,omitempty"`
		Issuer           string              `json:"issuer"`
		IssuerInCallback bool                `json:"issuer_in_callback,omitempty"`
		Resource         string              `json:"resource"`
		Scopes           []string            `json:"scopes,omitempty"`
		PKCE             bool                `json:"pkce"`
		TokenAuth        authsome.ClientAuth `json:"token_auth,omitempty"`
	}
	type registration struct {
		Endpoint string `json:"registration_endpoint"`
	}
	d := struct {
		SchemaVersion int           `json:"schema_version"`
		Name          string        `json:"name"`
		DisplayName   string        `json:"display_name"`
		AuthType      string        `json:"auth_type"`
		Flow          authsome.Flow `json:"flow"`
		APIURL        string        `json:"api_url"`
		OAuth         oauth         `json:"oauth"`
		Registration  *registration `json:"registration,omitempty"`
	}{
		SchemaVersion: 1, Name: name, DisplayName: u.Host, AuthType: string(authsome.AuthOAuth2), Flow: authsome.FlowPKCE, APIURL: u.String(),
		OAuth: oauth{
			AuthorizationURL: m.Authorization, TokenURL: m.Token, DeviceURL: m.Device, RevocationURL: m.Revocation,
			Issuer: m.Issuer, IssuerInCallback: m.IssuerInCallback, Resource: resource, PKCE: true, TokenAuth: m.auth(),
		},
	}
	for _, s := range scopes {
		if scopeOK(s) && len(d.OAuth.Scopes) < 200 && !slices.Contains(d.OAuth.Scopes, s) {
			d.OAuth.Scopes = append(d.OAuth.Scopes, s)
		}
	}
	if m.Registration != "" {
		d.Flow, d.Registration = authsome.FlowDCR, &registration{m.Registration}
	}
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write a definition: %w", err)
	}
	return append(out, '\n'), nil
}
