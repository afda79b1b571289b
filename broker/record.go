package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/route"
)

// record is what is sealed for a connection: the secrets, and everything that
// decides where they may go, so that neither a changed definition nor a changed
// row can send them elsewhere.
//
//	{"v":1,"fields":{"api_key":"…"},"hosts":["api.example.com"],"private":false, …}
type record struct {
	Version   int               `json:"v"` // 1
	Fields    map[string]string `json:"fields"`
	Public    []string          `json:"public,omitempty"` // names of fields that are no secrets
	TokenType string            `json:"token_type,omitempty"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
	// Hosts are route.Pattern texts with ":port" when the port is not 443.
	Hosts []string `json:"hosts"`
	// Private approves upstreams on private addresses.
	Private bool `json:"private,omitempty"`
	// OAuth is what refreshing and revoking need; nil for keys.
	OAuth *oauthRecord `json:"oauth,omitempty"`

	patterns []boundHost
	cred     *authsome.Credential
}

// oauthRecord is the part of a record that a login by OAuth adds: every address
// that may receive its secrets, and the client that they belong to.
type oauthRecord struct {
	Server      authsome.OAuth `json:"server"`
	Client      sealedClient   `json:"client,omitzero"`
	RedirectURI string         `json:"redirect_uri,omitempty"`
	// Source is what the person handed over in the flows that make a token of
	// it. It is neither shown nor exported.
	Source map[string]string `json:"source,omitempty"`
	// Login is the id of the login that made the connection: two records with
	// the same one differ by refreshes only.
	Login string `json:"login"`
	// Lifetime of the access token when it came, in seconds; 0: not said.
	Lifetime int64 `json:"lifetime,omitempty"`
	// Dead says that the server takes the refresh token no more.
	Dead bool `json:"dead,omitempty"`
}

// boundHost is one entry of record.Hosts, parsed.
type boundHost struct {
	pattern route.Pattern
	port    int
}

// newRecord makes the record of a login's result.
func newRecord(p *authsome.Provider, baseURL string, c *authsome.Credential, private bool, o *oauthRecord) *record {
	r := &record{
		Version: 1, Fields: map[string]string{}, TokenType: c.TokenType, ExpiresAt: c.ExpiresAt,
		Hosts: boundHosts(p, baseURL), Private: private, OAuth: o,
	}
	for name, secret := range c.Fields {
		r.Fields[name] = secret.Reveal()
	}
	for _, f := range p.Key.Fields {
		if _, ok := r.Fields[f.Name]; ok && f.Public {
			r.Public = append(r.Public, f.Name)
		}
	}
	return r
}

// boundHosts lists where a provider's credential goes, as it stands now.
func boundHosts(p *authsome.Provider, baseURL string) []string {
	var hosts []string
	seen := map[string]bool{}
	for _, r := range routesOf(p, baseURL) {
		h := r.Host
		if r.Port != 0 && r.Port != 443 {
			h = net.JoinHostPort(h, strconv.Itoa(r.Port))
		}
		if !seen[h] {
			seen[h] = true
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// ownHost stands in SelfManaged routes for the host of a connection's address.
const ownHost = "{host}"

// routesOf are the routes of a provider's connection: the vendor's own, or, with
// an address of the person's own service, those there.
func routesOf(p *authsome.Provider, baseURL string) []authsome.Route {
	u, err := url.Parse(baseURL)
	if baseURL == "" || err != nil {
		return p.Routes
	}
	host, port := u.Hostname(), 0
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && n != 443 {
		port = int(n)
	}
	var endpoints []string // never injected
	if p.OAuth != nil {
		if o, err := flow.At(p.OAuth, baseURL); err == nil {
			for _, e := range secretURLs(&o) {
				if eu, err := url.Parse(e); err == nil && eu.Host == u.Host {
					endpoints = append(endpoints, eu.EscapedPath())
				}
			}
		}
	}
	out := make([]authsome.Route, 0, len(p.SelfManaged))
	for _, r := range p.SelfManaged {
		if r.Host == ownHost {
			r.Host, r.Port = host, port
			r.Except = append(slices.Clone(r.Except), endpoints...)
		}
		out = append(out, r)
	}
	return out
}

// secretURLs are the addresses of a server to which secrets of a login or a
// connection are sent, and those that a person is sent to. The user-info request
// is an ordinary one of the API.
func secretURLs(o *authsome.OAuth) []string {
	return slices.DeleteFunc([]string{
		o.AuthorizationURL, o.TokenURL, o.DeviceURL, o.RegistrationURL, o.RevocationURL,
	}, func(s string) bool { return s == "" })
}

func (r *record) marshal() ([]byte, error) { return json.Marshal(r) }

// unmarshalRecord reads a record that the vault has opened. It is authentic, so
// what is wrong with it is a bug or a newer version's.
func unmarshalRecord(data []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		// The decoder's error may quote a part of the text.
		return nil, errors.New("a sealed record is not what this version writes")
	}
	if r.Version != 1 {
		return nil, fmt.Errorf("a sealed record has version %d, which this version does not know", r.Version)
	}
	for _, h := range r.Hosts {
		b, err := parseBoundHost(h)
		if err != nil {
			return nil, fmt.Errorf("a sealed record names the host %q: %w", h, err)
		}
		r.patterns = append(r.patterns, b)
	}
	r.credential()
	return &r, nil
}

// credential makes cred of what is sealed.
func (r *record) credential() {
	r.cred = &authsome.Credential{Fields: make(map[string]authsome.Secret, len(r.Fields)), TokenType: r.TokenType, ExpiresAt: r.ExpiresAt}
	for name, v := range r.Fields {
		r.cred.Fields[name] = authsome.NewSecret(v)
	}
}

func parseBoundHost(s string) (boundHost, error) {
	host, port := s, 443
	// A bare IPv6 literal has several colons; with a port it is in brackets.
	if strings.HasPrefix(s, "[") || strings.Count(s, ":") == 1 {
		h, digits, err := net.SplitHostPort(s)
		if err != nil {
			return boundHost{}, err
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return boundHost{}, errors.New("its port is not a number")
		}
		host, port = h, int(n)
	}
	p, err := route.ParsePattern(host)
	return boundHost{p, port}, err
}

// covers reports whether the connection was made for host:port.
func (r *record) covers(host string, port int) bool {
	for _, b := range r.patterns {
		if b.port == port && b.pattern.Match(host) {
			return true
		}
	}
	return false
}

// secrets are all values of a record that nobody may see.
func (r *record) secrets() []string {
	var out []string
	for name, v := range r.Fields {
		if !slices.Contains(r.Public, name) {
			out = append(out, v)
		}
	}
	if r.OAuth != nil {
		for name, v := range r.OAuth.Source {
			if name != authsome.FieldClientID && name != authsome.FieldAppID && name != authsome.FieldInstallationID {
				out = append(out, v)
			}
		}
		out = append(out, r.OAuth.Client.Secret, r.OAuth.Client.Key)
	}
	return slices.DeleteFunc(out, func(v string) bool { return v == "" })
}

// binding is the associated data under which a connection is sealed.
func binding(vault, user string, c *authsome.Connection) authsome.Binding {
	return authsome.Binding{
		Kind: "connection", Vault: vault, User: user,
		Provider: c.Provider, Name: c.Name, Version: c.Version,
	}
}

// unseal opens a connection's record, once.
func (b *Broker) unseal(x *held) (*record, error) {
	x.open.Do(func() {
		plain, err := b.Sealer.Unseal(binding(x.row.Vault, x.row.User, &x.Connection), x.row.Sealed)
		if err == nil {
			x.record, err = unmarshalRecord(plain)
			clear(plain)
		}
		if err != nil {
			x.openErr = (&authsome.Error{
				Code: authsome.VaultFailed, Err: err,
				Message: fmt.Sprintf("open the credential of %s (%s): the stored record does not open", x.Provider, x.Name),
			}).WithHint("authsome login %s --connection %s --force", x.Provider, x.Name)
		}
	})
	return x.record, x.openErr
}
