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
	// Overrides are the methods that the service may take in the place of Method, since
	// headers or the query ask for it, or since it knows no case.
	Overrides []string
	// Upgrade is the protocol that the child asks to switch to, "" for none.
	Upgrade string
	// ID ties the intent and the completion of one request in the audit.
	ID string
	// Connection is the one that the child asks for by ConnectionHeader; "" for
	// none.
	Connection string
	// Inspection is nil until a Resolution with the verdict Inspect asked for it.
	Inspection *Inspection
}

// ConnectionHeader is a header by which a child says for one request which
// connection is meant. It goes no further than the proxy.
const ConnectionHeader = "Authsome-Connection"

// Inspection is what the proxy has found in the places beyond the header: that
// there is room for a credential, and whether our placeholder stands there, but
// not what else does.
type Inspection struct {
	// Found are the places that this request has: all of its query and its
	// cookies, a path that is like the template, a body of the slot's kind that
	// has the field or an object for it.
	Found []Found
	// Path is Request.Path with a placeholder where a value of the child's own
	// stood in the path's slot: what the audit shows.
	Path string
	// Denied is the first of the calls of Resolution.Deny that the request is, in
	// a few words; "" when it is none.
	Denied string
	// Refused says why a credential cannot be put on the request; nil when one can.
	Refused *Error
}

// Found is one place that a request has.
type Found struct {
	Place
	Placeholder bool
	Connection  string // that the placeholder names after its dot; "" for none
}

// In returns what was found in a place; nil when the request has none such, or
// nobody has looked.
func (i *Inspection) In(p Place) *Found {
	if i == nil {
		return nil
	}
	for n := range i.Found {
		if i.Found[n].Place == p {
			return &i.Found[n]
		}
	}
	return nil
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
	// Inspect asks again with Request.Inspection set: which credential it is
	// depends on what stands in the places of Resolution.Look.
	Inspect Verdict = "inspect"
)

// Resolution is the broker's answer to one request.
type Resolution struct {
	Verdict    Verdict
	Provider   string
	Connection string
	Strip      []string    // header names to remove first
	Set        []SetHeader // then to set
	Look       []Place     // with Inspect: where to look
	// Rewrite is what changes beyond whole headers; nil when nothing does.
	Rewrite *Rewrite
	// Message is what is put into the messages of the WebSocket that the request
	// opens; nil when they pass as they are.
	Message *Message
	// Certificate is the client certificate to connect to the service with, and
	// its key, in PEM; empty when it gets none.
	Certificate Secret
	// Sign are the keys to sign the request with again, as AWS wants it; nil when
	// it is not signed.
	Sign *SigV4
	// Deny, with Inspect, are the calls to look for.
	Deny []Denial
	// Private permits an upstream on a private address: the person approved
	// this host at login.
	Private bool
	// Generation changes whenever the connection's credential is replaced or
	// removed; a stream that was opened under another one is ended.
	Generation int64
	// Version counts the credential's replacements, refreshes included.
	Version int64
	// Guard are secrets that must not come back in the answer, besides what is put
	// on the request.
	Guard []Secret
	// Renewable says that a 401 may mean no more than that the token is old, or
	// that the login is over: the proxy then asks again with Request.Rejected set.
	Renewable bool
}

// SetHeader is one header to put on a request.
type SetHeader struct {
	Name  string
	Value Secret
}

// SigV4 are the keys that a request to AWS is signed with. SessionToken is empty
// unless they are those of a session.
type SigV4 struct {
	AccessKeyID     Secret
	SecretAccessKey Secret
	SessionToken    Secret
}

// Rewrite is what changes in a request's query, path, cookies or body. What is
// not named stays as the child sent it, byte for byte.
type Rewrite struct {
	Strip []Place // parameters of the query and cookies to remove first
	Set   []SetPlace
}

// SetPlace is one place to fill. The value is not encoded yet.
type SetPlace struct {
	Place
	Value Secret
}

// Message says what replaces our placeholder in the text messages that the child
// sends: Value, which is not encoded yet, in the field At as in SlotMessage.
type Message struct {
	At    string
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
	Unseen   bool   // the answer's body came in a form that could not be looked into
	Scrubbed int    // how often the answer held a secret, which was overwritten
	Err      string // cause in a few words, without addresses of secrets; "" when it went well
}
