package authsome

import "time"

// LoginStatus is the state of a login.
type LoginStatus string

// The states of a login; all but LoginWaiting are final.
const (
	LoginWaiting   LoginStatus = "waiting_for_user"
	LoginCompleted LoginStatus = "completed"
	LoginFailed    LoginStatus = "failed"
	LoginExpired   LoginStatus = "expired"
	LoginCancelled LoginStatus = "cancelled"
)

// Final reports whether the state will not change any more.
func (s LoginStatus) Final() bool { return s != LoginWaiting }

// LoginStep is what a waiting login waits for.
type LoginStep string

// The steps. A login may go through several: first the OAuth app's
// credentials, then the consent.
const (
	StepKey       LoginStep = "key"       // the values of Form
	StepClient    LoginStep = "client"    // the values of Form: the person's own OAuth app
	StepConfirm   LoginStep = "confirm"   // whether Login.Server may be asked, which is on another site than the service
	StepAuthorize LoginStep = "authorize" // consent at Login.AuthorizeURL
	StepDevice    LoginStep = "device"    // Login.UserCode typed at Login.VerificationURL
	StepWorking   LoginStep = "working"   // nothing: the daemon asks the server
)

// Names of the fields in StepClient's form and in those of the flows without a
// browser.
const (
	FieldClientID     = "client_id"
	FieldClientSecret = "client_secret"
	FieldPrivateKey   = "private_key" // PEM
	FieldCertificate  = "certificate" // PEM, with what it was issued by
	// AWS's keys. The token is for keys of a session, which end with it.
	FieldAccessKeyID     = "access_key_id"
	FieldSecretAccessKey = "secret_access_key"
	FieldSessionToken    = "session_token"
	FieldServiceAccount  = "service_account" // Google's key file, JSON
	FieldAppID           = "app_id"          // GitHub App
	FieldInstallationID  = "installation_id" // GitHub App
)

// LoginRequest asks for a login to begin.
type LoginRequest struct {
	Provider string
	// URL is given instead of Provider to log in to an MCP server, or another
	// site that says itself how (RFC 9728); Name is what its provider will be
	// called, "" makes one of the host.
	URL        string
	Name       string
	Connection string // "" is DefaultConnection
	Flow       Flow   // "" is the definition's first
	Scopes     []string
	BaseURL    string
	Force      bool          // replace a working connection, and make it the default
	Timeout    time.Duration // 0 is 300 s, the Python authsome's session life
	// AllowPrivate approves API hosts on private addresses for this connection:
	// a self-managed service in the office network.
	AllowPrivate bool
}

// Login is one login in progress, or ended. It holds no secret but Ticket.
type Login struct {
	ID         string // "sess_" and 26 base32 letters
	Vault      string
	User       string
	Provider   string
	Connection string
	Flow       Flow
	Force      bool
	Scopes     []string
	BaseURL    string
	Status     LoginStatus
	// Step is what a waiting login waits for, and the fields below are what it
	// needs; the others are empty.
	Step                    LoginStep
	Form                    []KeyField
	RedirectURI             string // to be entered at the vendor, with Form in StepClient
	AppsURL                 string // where the vendor lets people create OAuth apps
	AuthorizeURL            string
	UserCode                string
	VerificationURL         string
	VerificationURLComplete string // with the code in it; "" when the server gives none
	Server                  string // hosts of the login that are on another site, in StepConfirm
	Resource                string // host of the service, in StepConfirm
	// Account and Notes are what a completed login found: who it is, and what
	// the person should know, such as that another connection is the same
	// account.
	Account Account
	Notes   []string
	// AllowPrivate: see LoginRequest.
	AllowPrivate bool
	// Ticket opens the form in a browser: whoever holds the URL that carries it
	// may finish the login. It is compared in constant time.
	Ticket    Secret
	Already   bool // nothing was done: the connection worked, and Force was not set
	Replaced  bool // the connection existed before
	Default   bool // the connection is the provider's default now
	Err       *Error
	CreatedAt time.Time
	ExpiresAt time.Time
}
