package authsome

import (
	"slices"
	"time"
)

// DefaultConnection is the name that a connection gets when the person gives
// none.
const DefaultConnection = "default"

// Status is the state of a connection as shown by `list`.
type Status string

// The states, spelt as the Python authsome spells them.
const (
	Connected    Status = "connected"
	NotConnected Status = "not_connected"
	Expired      Status = "expired" // may come back by itself
	Revoked      Status = "revoked"
	Broken       Status = "invalid" // the person must log in again
)

// Connection is one account at one provider, without its secrets.
type Connection struct {
	Provider  string
	Name      string // "default", "work", …
	AuthType  AuthType
	Flow      Flow
	Status    Status
	IsDefault bool
	Scopes    []string
	BaseURL   string
	Account   Account
	// Hosts are the host patterns (Route.Host, with ":port" when it is not 443)
	// that the connection was made for. They are sealed with the credential:
	// a changed definition moves no existing secret elsewhere.
	Hosts      []string
	ObtainedAt time.Time
	ExpiresAt  time.Time // zero: does not expire, as far as is known
	Renewable  bool      // a new token comes by itself when this one ends
	CreatedAt  time.Time
	UpdatedAt  time.Time
	// LastRefreshAt is when the token was refreshed last, or that was tried;
	// LastRefreshError says why it failed, "" when it did not.
	LastRefreshAt    time.Time
	LastRefreshError string
	// Version counts the credential's replacements; it is part of the
	// associated data under which the record is sealed.
	Version int64
}

// Account tells two connections of one provider apart.
type Account struct {
	ID    string `json:"id,omitempty"`
	Label string `json:"label,omitempty"` // login, e-mail or workspace
}

// Credential is what a connection yields. Fields holds "api_key" (or the
// fields of the provider's KeyForm) for keys, and "access_token",
// "refresh_token" for OAuth.
type Credential struct {
	Fields    map[string]Secret
	TokenType string
	ExpiresAt time.Time
}

// Names of well-known fields of a Credential.
const (
	FieldAPIKey       = "api_key"
	FieldAccessToken  = "access_token"
	FieldRefreshToken = "refresh_token"
	// FieldToken stands for whichever the credential has: the access token,
	// else the API key, else its only field.
	FieldToken = "token"
)

// Get returns a field. FieldToken resolves as documented there; a name that
// the credential lacks gives an empty secret.
func (c *Credential) Get(field string) Secret {
	if s, ok := c.Fields[field]; ok || field != FieldToken {
		return s
	}
	for _, f := range []string{FieldAccessToken, FieldAPIKey} {
		if s, ok := c.Fields[f]; ok {
			return s
		}
	}
	if len(c.Fields) == 1 {
		for _, s := range c.Fields {
			return s
		}
	}
	return Secret{}
}

// Identity is who acts: the person whose vault it is, and the process that
// speaks for them.
type Identity struct {
	Vault   string // vault id; LocalVault on a person's own machine
	User    string // identity within the vault; LocalUser on a person's own machine
	PID     int    // of the peer on the local socket; 0 when unknown
	Program string // its executable's base name; "" when unknown
	Run     string // grant id when the process descends from a run; else ""
}

// The vault and identity of a single-person installation.
const (
	LocalVault = "local"
	LocalUser  = "local"
)

// Mode says what happens to hosts that no credential is for.
type Mode string

// authsome's four modes. The first word says which providers have routes:
// those with a connection, or all. The second says what happens to requests
// for which there is no credential: forwarded unchanged, or refused.
const (
	ConnectedAllow  Mode = "connected_allow" // the default
	ConnectedDeny   Mode = "connected_deny"
	ConfiguredAllow Mode = "configured_allow"
	ConfiguredDeny  Mode = "configured_deny"
)

// Denies reports whether unknown hosts are refused.
func (m Mode) Denies() bool { return m == ConnectedDeny || m == ConfiguredDeny }

// Configured reports whether providers without a connection have routes.
func (m Mode) Configured() bool { return m == ConfiguredAllow || m == ConfiguredDeny }

// Grant is what one launched child may use. It lives as long as its run.
type Grant struct {
	ID       string
	Identity Identity
	Mode     Mode
	Choices  map[string]string // provider → connection, from `run --connection`
	// Providers are the only ones that the run may use, from `run --provider`,
	// sorted; none means all.
	Providers []string `json:",omitempty"`
	Program   string   // base name of the command that was launched
	CreatedAt time.Time
	// Unscrubbed runs get answers as they come, from `run --no-scrub`.
	Unscrubbed bool `json:",omitempty"`
	// Authority is the fingerprint of the certificate authority that its child
	// trusts; "" is the current one.
	Authority string `json:",omitempty"`
}

// Allows reports whether the run may use a provider.
func (g *Grant) Allows(provider string) bool {
	return len(g.Providers) == 0 || slices.Contains(g.Providers, provider)
}
