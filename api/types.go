// Package api is the local API between the CLI and the daemon: the types on
// the wire, the client, and the unix socket with its check of who is at the
// other end. It is HTTP with JSON bodies; package daemon holds the handlers.
//
// Nothing but the owner's processes can reach it: the socket lies in a private
// directory, and both sides check the peer's uid.
package api

import (
	"encoding/json"
	"time"

	"github.com/authsome/authsome"
)

// Paths of the API. {p} is a provider, {c} a connection, {id} a login.
const (
	PathHealth       = "/v1/health"                      // GET → Health
	PathWhoami       = "/v1/whoami"                      // GET → Whoami
	PathDoctor       = "/v1/doctor"                      // GET → Doctor
	PathStop         = "/v1/stop"                        // POST: graceful stop
	PathProviders    = "/v1/providers"                   // GET → []Provider; POST Registration → Registered
	PathProvider     = "/v1/providers/{p}"               // GET → Provider; DELETE: remove → Removed
	PathRevoke       = "/v1/providers/{p}/revoke"        // POST → Removed
	PathConnection   = "/v1/connections/{p}/{c}"         // GET [?secret=1] → Connection; c "-" is the default
	PathLogout       = "/v1/connections/{p}/{c}/logout"  // POST → Removed
	PathDefault      = "/v1/connections/{p}/{c}/default" // POST
	PathLogins       = "/v1/logins"                      // POST LoginRequest → Login
	PathLogin        = "/v1/logins/{id}"                 // GET [?wait=30s] → Login; DELETE: cancel
	PathLoginFields  = "/v1/logins/{id}/fields"          // POST {"field":"value"} → Login
	PathLoginConfirm = "/v1/logins/{id}/confirm"         // POST → Login
	PathClient       = "/v1/providers/{p}/client"        // PUT ClientSettings; DELETE: forget
	PathCallback     = "/v1/callback"                    // POST Callback → Login; between daemons of one person
	PathExport       = "/v1/export"                      // POST ExportRequest → Export
	PathEvents       = "/v1/events"                      // GET ?limit=&after=&wait= → Events; see EventsQuery
	PathCA           = "/v1/ca"                          // GET → Authority; POST AuthorityChange → Authority
	PathGrants       = "/v1/grants"                      // GET with Upgrade: see GrantProtocol
	PathGrantSelf    = "/v1/grants/self"                 // GET → GrantInfo of the run that the peer descends from
	PathGrantStream  = "/v1/grants/{id}/stream"          // GET with Upgrade: see StreamProtocol
)

// Health is the answer of PathHealth and of http://127.0.0.1:7998/health.
type Health struct {
	Status  string `json:"status"` // "ok"
	Version string `json:"version"`
	Mode    string `json:"mode"` // "local"
	PID     int    `json:"pid,omitempty"`
	Home    string `json:"home,omitempty"`
	// Browser is the address that serves forms and callbacks,
	// "http://127.0.0.1:7998"; "" when it could not be bound.
	Browser string `json:"browser,omitempty"`
	// BrowserNote says why Browser is not on port 7998.
	BrowserNote string `json:"browser_note,omitempty"`
}

// Ready is the answer of http://127.0.0.1:7998/ready.
type Ready struct {
	Status   string            `json:"status"` // "ready" or "not_ready"
	Checks   map[string]string `json:"checks"`
	Issues   []string          `json:"issues"`
	Warnings []string          `json:"warnings"`
}

// Whoami is what `authsome whoami` prints, keys as in the Python authsome.
type Whoami struct {
	Version            string             `json:"authsome_version"`
	Home               string             `json:"home_directory"`
	Profile            string             `json:"profile"`
	DID                *string            `json:"did"`
	RegistrationStatus string             `json:"registration_status"` // "local"
	DaemonURL          string             `json:"daemon_url"`
	EncryptionBackend  string             `json:"encryption_backend"` // the master key's source
	VaultStatus        string             `json:"vault_status"`
	ConnectedCount     int                `json:"connected_providers_count"`
	Connected          []ConnectedSummary `json:"connected_providers"`
}

// ConnectedSummary is one provider with connections.
type ConnectedSummary struct {
	Name        string   `json:"name"`
	Count       int      `json:"count"`
	Connections []string `json:"connections"`
}

// Check is one line of `doctor`.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Warn bool   `json:"warn,omitempty"` // not right, but nothing is broken by it
	Text string `json:"text"`           // what was found
	Fix  string `json:"fix,omitempty"`  // the next command
}

// Doctor is the daemon's part of `doctor`; the CLI adds what it sees itself.
type Doctor struct {
	Checks []Check `json:"checks"`
}

// Provider is a definition with its connections.
type Provider struct {
	Name        string          `json:"name"`
	DisplayName string          `json:"display_name"`
	AuthType    string          `json:"auth_type"`
	Source      string          `json:"source"` // "bundled", "custom"
	DocsURL     string          `json:"docs_url,omitempty"`
	Flows       []string        `json:"flows"`
	Hosts       []string        `json:"hosts"` // patterns that are routed
	Warnings    []string        `json:"warnings,omitempty"`
	Definition  json.RawMessage `json:"definition,omitempty"` // only by PathProvider
	Connections []Connection    `json:"connections"`
}

// Connection is one account; its secrets are absent unless ?secret=1 was asked
// for and allowed.
type Connection struct {
	Provider         string            `json:"provider"`
	ConnectionName   string            `json:"connection_name"`
	IsDefault        bool              `json:"is_default"`
	AuthType         string            `json:"auth_type"`
	Flow             string            `json:"flow"`
	Status           string            `json:"status"`
	Scopes           []string          `json:"scopes,omitempty"`
	BaseURL          string            `json:"base_url,omitempty"`
	Account          *authsome.Account `json:"account,omitempty"`
	Hosts            []string          `json:"hosts"`
	ObtainedAt       *time.Time        `json:"obtained_at,omitempty"`
	ExpiresAt        *time.Time        `json:"expires_at,omitempty"`
	LastRefreshAt    *time.Time        `json:"last_refresh_at,omitempty"`
	LastRefreshError string            `json:"last_refresh_error,omitempty"`
	// Fields are the credential's: "***REDACTED***" for secrets, unless
	// revealed; plain for public ones (an account id).
	Fields map[string]string `json:"fields,omitempty"`
}

// Redacted stands for a secret in what `get` prints.
const Redacted = "***REDACTED***"

// Registration asks for a definition to be added.
type Registration struct {
	Filename   string `json:"filename"`   // for error messages
	Definition string `json:"definition"` // the file's text, JSON or JSONC
	Force      bool   `json:"force"`      // replace a definition of the same name
	DryRun     bool   `json:"dry_run"`    // check only
}

// Registered is the answer: the definition as it was understood.
type Registered struct {
	Provider Provider `json:"provider"`
	Replaced bool     `json:"replaced"` // a custom definition of this name existed
	Shadows  bool     `json:"shadows"`  // a bundled one of this name exists
}

// Removed says what an act of removal did.
type Removed struct {
	Provider    string   `json:"provider"`
	Connections []string `json:"connections"` // those whose credentials were deleted
	Definition  bool     `json:"definition"`  // a custom definition was deleted
	Notes       []string `json:"notes,omitempty"`
}

// LoginRequest starts a login.
type LoginRequest struct {
	Provider   string   `json:"provider"`
	URL        string   `json:"url,omitempty"`  // instead of Provider: see authsome.LoginRequest
	Name       string   `json:"name,omitempty"` // what to call the provider that URL leads to
	Connection string   `json:"connection"`
	Flow       string   `json:"flow,omitempty"`
	Scopes     []string `json:"scopes,omitempty"`
	BaseURL    string   `json:"base_url,omitempty"`
	Force      bool     `json:"force"`
	// Timeout is in seconds; 0 means the default of 300.
	Timeout int `json:"timeout,omitempty"`
	// AllowPrivate approves API hosts on private addresses.
	AllowPrivate bool `json:"allow_private,omitempty"`
}

// Login is one login in progress or ended.
type Login struct {
	ID         string               `json:"session_id"` // "sess_…"
	Provider   string               `json:"provider"`
	Connection string               `json:"connection"`
	Flow       string               `json:"flow"`
	Status     authsome.LoginStatus `json:"status"`
	Step       authsome.LoginStep   `json:"step,omitempty"` // what a waiting login waits for
	// URL is the page on which the person finishes the login; "" when no
	// browser port is bound.
	URL    string       `json:"auth_url,omitempty"`
	Fields []LoginField `json:"fields,omitempty"` // what to ask for
	// RedirectURI and AppsURL go with the fields of a person's own OAuth app.
	RedirectURI string `json:"redirect_uri,omitempty"`
	AppsURL     string `json:"apps_url,omitempty"`
	// UserCode is to be typed at VerificationURL (RFC 8628).
	UserCode                string `json:"user_code,omitempty"`
	VerificationURL         string `json:"verification_uri,omitempty"`
	VerificationURLComplete string `json:"verification_uri_complete,omitempty"`
	// Server asks for confirmation: it would log in to Resource, and is on
	// another site.
	Server    string            `json:"authorization_server,omitempty"`
	Resource  string            `json:"resource,omitempty"`
	Account   *authsome.Account `json:"account,omitempty"`
	Notes     []string          `json:"notes,omitempty"`
	Already   bool              `json:"already,omitempty"`
	Replaced  bool              `json:"replaced,omitempty"`
	Default   bool              `json:"is_default,omitempty"`
	Error     string            `json:"error,omitempty"`
	Code      string            `json:"code,omitempty"` // authsome.Code of Error
	Hint      string            `json:"hint,omitempty"`
	ExpiresAt time.Time         `json:"expires_at"`
}

// ClientSettings is the person's own OAuth app at a provider.
type ClientSettings struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"`
	PrivateKey   string `json:"private_key,omitempty"` // PEM, for private_key_jwt
	BaseURL      string `json:"base_url,omitempty"`    // of a service that the person hosts
}

// Callback is what an authorization server's redirect brought to the daemon that
// holds port 7998, for the one whose login it is.
type Callback struct {
	Query string `json:"query"` // as it came, percent-encoded
}

// LoginField is one thing to ask for.
type LoginField struct {
	Name   string `json:"name"`
	Label  string `json:"label"`
	Hint   string `json:"hint,omitempty"`
	Public bool   `json:"public,omitempty"`
	// Optional may be left empty; Multiline is a text of several lines.
	Optional  bool `json:"optional,omitempty"`
	Multiline bool `json:"multiline,omitempty"`
}

// ExportRequest asks for plaintext credentials. An empty Provider means all.
type ExportRequest struct {
	Provider   string `json:"provider,omitempty"`
	Connection string `json:"connection,omitempty"`
}

// Export is plaintext, for a person's own shell: name → value. Refresh tokens
// are never in it.
type Export struct {
	Credentials []ExportedVar `json:"credentials"`
}

// ExportedVar is one variable.
type ExportedVar struct {
	Name       string `json:"name"`
	Value      string `json:"value"`
	Provider   string `json:"provider"`
	Connection string `json:"connection"`
}

// Events is a page of the audit, oldest first.
type Events struct {
	Entries []authsome.Event `json:"entries"`
	// Next is the Seq to pass as after= for what comes later.
	Next int64 `json:"next"`
}

// CAFile is the file in the home with the certificates of the authorities in
// use, as PEM.
const CAFile = "ca.pem"

// Authority is the home's certificate authority. Nothing in it is secret.
type Authority struct {
	Path string `json:"path"` // of CAFile
	PEM  string `json:"pem"`  // the certificate of the one that new runs get
	// Former counts those that living runs' children still trust.
	Former int `json:"former"`
	// Routed are the host patterns that a root to install would be for.
	Routed []string `json:"routed"`
	// Root is what was made to be installed, PEM; "" when nothing was, or for an
	// earlier authority only. Permitted are the names that it is limited to.
	Root      string   `json:"root,omitempty"`
	Permitted []string `json:"permitted,omitempty"`
	// Roots are all that were made to be installed since the last uninstall, Root
	// included, PEM.
	Roots []string `json:"roots"`
	// Stale says that ActInstall would make another root.
	Stale bool `json:"stale"`
	// Repeat says why `ca install` is to be repeated; "" when it is not.
	Repeat string `json:"repeat,omitempty"`
}

// AuthorityChange asks for one of the acts, which are refused inside a run.
type AuthorityChange struct {
	Act string `json:"act"`
	// InsideRun says that the caller's environment is a run's. The daemon knows
	// better, where it can tell processes apart.
	InsideRun bool `json:"inside_run,omitempty"`
}

// The acts.
const (
	ActCheck   = "check"   // nothing but whether the others are allowed
	ActInstall = "install" // make the root to install, unless there is one for just what is routed
	ActForget  = "forget"  // all roots that were made are in no store any more
	ActRotate  = "rotate"  // make a new authority for the runs to come
)

// Failure is the body of every answer that is not 2xx.
type Failure struct {
	Error   string `json:"error"` // authsome.Code
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}
