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

// LoginRequest asks for a login to begin.
type LoginRequest struct {
	Provider   string
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
