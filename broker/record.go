package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/authsome/authsome"
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

	patterns []boundHost
	cred     *authsome.Credential
}

// boundHost is one entry of record.Hosts, parsed.
type boundHost struct {
	pattern route.Pattern
	port    int
}

// newRecord makes the record of a login's result.
func newRecord(p *authsome.Provider, c *authsome.Credential, private bool) *record {
	r := &record{
		Version: 1, Fields: map[string]string{}, TokenType: c.TokenType, ExpiresAt: c.ExpiresAt,
		Hosts: boundHosts(p), Private: private,
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
func boundHosts(p *authsome.Provider) []string {
	var hosts []string
	seen := map[string]bool{}
	for _, r := range p.Routes {
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
	r.cred = &authsome.Credential{Fields: make(map[string]authsome.Secret, len(r.Fields)), TokenType: r.TokenType, ExpiresAt: r.ExpiresAt}
	for name, v := range r.Fields {
		r.cred.Fields[name] = authsome.NewSecret(v)
	}
	return &r, nil
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
