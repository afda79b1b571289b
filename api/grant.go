package api

import "time"

// GrantProtocol is the Upgrade token of PathGrants. After the 101 the
// connection belongs to one run for as long as its child lives:
//
//	run → daemon   GrantRequest as one JSON line; on Unix the listening socket
//	               of the proxy port rides along as SCM_RIGHTS
//	daemon → run   GrantInfo as one JSON line
//	…              nothing, until one side closes
//
// The run's end of the connection closing ends the grant. The daemon's end
// closing means that the daemon died: the run starts it again and sends the
// same GrantRequest with Renew set, and the child, whose connections wait in
// the backlog of the listening socket, notices a delay at most.
const GrantProtocol = "authsome-grant/1"

// StreamProtocol is the Upgrade token of PathGrantStream. After the 101 the
// connection carries the bytes of one of the child's connections to the proxy.
const StreamProtocol = "authsome-stream/1"

// maxLine bounds the JSON line of either side: some thousand variables.
const maxLine = 4 << 20

// handshakeTimeout bounds everything up to the GrantInfo.
const handshakeTimeout = 10 * time.Second

// GrantRequest asks for, or renews, a grant.
type GrantRequest struct {
	Program     string            `json:"program"`               // base name of the command
	Mode        string            `json:"mode,omitempty"`        // authsome.Mode; "" is the default
	Connections map[string]string `json:"connections,omitempty"` // provider → connection
	Providers   []string          `json:"providers,omitempty"`   // the only ones that the run may use; none means all
	NoScrub     bool              `json:"no_scrub,omitempty"`    // answers come as the services send them
	ProxyPort   int               `json:"proxy_port"`            // of the run's listening socket on 127.0.0.1
	// Relay says that no socket is handed over (Windows cannot): the run
	// accepts the child's connections itself and carries each over one of its
	// own, made at PathGrantStream.
	Relay bool `json:"relay,omitempty"`
	// Salt and Env let the daemon find variables whose value equals a stored
	// secret without seeing the others: Env maps a variable's name to
	// hex(SHA-256(salt || value)).
	Salt string            `json:"salt,omitempty"`
	Env  map[string]string `json:"env,omitempty"`
	// Renew holds the id, token and renewal secret of the grant that an earlier
	// daemon gave; nil for a new one.
	Renew *Renewal `json:"renew,omitempty"`
}

// Renewal proves that a run owns a grant. The renewal secret, unlike the
// token, is never in the child's environment.
type Renewal struct {
	ID     string `json:"id"`
	Token  string `json:"token"`
	Secret string `json:"secret"`
}

// GrantInfo is what `run` needs to start the child.
type GrantInfo struct {
	ID        string    `json:"id"`
	Token     string    `json:"token"`
	Secret    string    `json:"secret,omitempty"` // renewal secret
	CreatedAt time.Time `json:"created_at"`
	// CA is the proxy's root certificate, PEM.
	CA string `json:"ca"`
	// Placeholders are the variables of connected providers: name → value,
	// "authsome-proxy-managed" or an address.
	Placeholders map[string]string `json:"placeholders"`
	// Hosts are the host patterns that are routed now, so that NO_PROXY
	// entries that would go round the proxy can be filtered.
	Hosts []string `json:"hosts"`
	// Providers are the connected ones, by name → connection that will be used.
	Providers map[string]string `json:"providers"`
	// Only are the providers that the run is limited to; none means all.
	Only []string `json:"only,omitempty"`
	// NoScrub says that answers come as the services send them.
	NoScrub bool `json:"no_scrub,omitempty"`
	// Leaked are the variables of GrantRequest.Env that hold a stored secret.
	Leaked []string `json:"leaked,omitempty"`
	// Error is set instead of all else when the grant was refused.
	Error *Failure `json:"error,omitempty"`
	// Port is the proxy's, for PathGrantSelf.
	Port int `json:"port,omitempty"`
}
