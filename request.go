package authsome

import (
	"net/http"
	"time"
)

// Request is what the broker needs to know of a child's request: everything but
// the query and the body. The header is the child's own, which may hold
// credentials of its own, and is read only.
type Request struct {
	Host   string // normalised: lower-case, no trailing dot, IDNA, no port
	Port   int
	Method string
	Path   string // normalised and escaped, as it will be forwarded; no query
	Header http.Header
	// Challenged is true when the upstream has answered 401 to this very
	// request without our credential.
	Challenged bool
	// Rejected is the Resolution.Version that the upstream has answered 401 to,
	// for this very request; 0 when it has not.
	Rejected int64
	// Repository is the git repository that Path lies in, "" when none: what a
	// challenge is remembered for.
	Repository string
	// ID ties the intent and the completion of one request in the audit.
	ID string
}

// Verdict is what the proxy does with a request.
type Verdict string

// The verdicts.
const (
	Forward Verdict = "forward" // unchanged
	Inject  Verdict = "inject"  // with Set and Strip applied
	// Challenge forwards with the child's own placeholder removed, and asks
	// again with Challenged set when the upstream answers 401.
	Challenge Verdict = "challenge"
)

// Resolution is the broker's answer to one request.
type Resolution struct {
	Verdict    Verdict
	Provider   string
	Connection string
	Strip      []string    // header names to remove first
	Set        []SetHeader // then to set
	// Private permits an upstream on a private address: the person approved
	// this host at login.
	Private bool
	// Generation changes whenever the connection's credential is replaced or
	// removed; a stream that was opened under another one is ended.
	Generation int64
	// Version counts the credential's replacements, refreshes included.
	Version int64
	// Renewable says that a 401 may mean no more than that the token is old, or
	// that the login is over: the proxy then asks again with Request.Rejected set.
	Renewable bool
}

// SetHeader is one header to put on a request.
type SetHeader struct {
	Name  string
	Value Secret
}

// HostVerdict is what the proxy does with a CONNECT.
type HostVerdict string

// The verdicts on a host.
const (
	Tunnel    HostVerdict = "tunnel"    // blind: never decrypted
	Intercept HostVerdict = "intercept" // some route exists there
	Refuse    HostVerdict = "refuse"    // the run denies unknown hosts
)

// Outcome is how a request ended.
type Outcome struct {
	Status   int // upstream's, 0 when none came
	Sent     int64
	Received int64
	Duration time.Duration
	Err      string // cause in a few words, without addresses of secrets; "" when it went well
}
