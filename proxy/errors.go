package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/authsome/authsome"
)

// code is what an agent matches on: the "error" of the JSON body and the
// header Authsome-Error. The texts never change.
type code string

// The codes.
const (
	loginRequired            code = "login_required"
	reauthenticationRequired code = "reauthentication_required"
	denied                   code = "denied"
	ambiguous                code = "ambiguous"
	misdirected              code = "misdirected"
	badRequest               code = "bad_request"
	headerTooLarge           code = "header_too_large"
	bodyTooLarge             code = "body_too_large"
	urlTooLong               code = "url_too_long"
	tooManyConnections       code = "too_many_connections"
	tooManyRequests          code = "too_many_requests"
	tooManyHosts             code = "too_many_hosts"
	outOfMemory              code = "out_of_memory"
	placeholderMisplaced     code = "placeholder_misplaced"
	privateAddress           code = "private_address"
	upstreamTLS              code = "upstream_tls"
	upstreamUnreachable      code = "upstream_unreachable"
	upstreamTimeout          code = "upstream_timeout"
	tokenRequired            code = "proxy_authentication_required"
	shuttingDown             code = "shutting_down"
	internal                 code = "internal"
)

// statuses is the one table of codes.
//
//	code                           status  what happened, and what helps
//	login_required                 401     the provider has no connection; run "fix"
//	reauthentication_required      401     its connection is broken or expired; run "fix"
//	denied                         403     a rule, the run's mode, or the broker said no
//	ambiguous                      403     two providers claim the request alike
//	placeholder_misplaced          403     a placeholder was on its way to where it is not replaced
//	private_address                403     the host is on a private address that no login approved
//	misdirected                    421     Host or :authority is not the host of the CONNECT
//	bad_request                    400     the request is ambiguous or malformed
//	header_too_large               431     the header is over 1 MB
//	body_too_large                 413     the body cannot be kept for as long as its signature takes
//	url_too_long                   414     path and query are over 256 KB
//	too_many_connections           429     the run has as many open as it may
//	too_many_requests              429     the run has as many under way as it may, and waited in vain
//	too_many_hosts                 429     the run asks for too many hosts that it has not asked for before
//	out_of_memory                  503     what is kept of bodies is as much as may be, and it waited in vain
//	proxy_authentication_required  407     no token of a living run was sent
//	upstream_tls                   502     the service's certificate was refused, or TLS failed
//	upstream_unreachable           502     no connection, or it broke before an answer
//	upstream_timeout               504     the same, by waiting in vain
//	shutting_down                  503     the daemon is going; send the request again
//	internal                       500     a failure of authsome itself
var statuses = map[code]int{
	loginRequired:            http.StatusUnauthorized,
	reauthenticationRequired: http.StatusUnauthorized,
	denied:                   http.StatusForbidden,
	ambiguous:                http.StatusForbidden,
	misdirected:              http.StatusMisdirectedRequest,
	badRequest:               http.StatusBadRequest,
	headerTooLarge:           http.StatusRequestHeaderFieldsTooLarge,
	bodyTooLarge:             http.StatusRequestEntityTooLarge,
	urlTooLong:               http.StatusRequestURITooLong,
	tooManyConnections:       http.StatusTooManyRequests,
	tooManyRequests:          http.StatusTooManyRequests,
	tooManyHosts:             http.StatusTooManyRequests,
	outOfMemory:              http.StatusServiceUnavailable,
	placeholderMisplaced:     http.StatusForbidden,
	privateAddress:           http.StatusForbidden,
	upstreamTLS:              http.StatusBadGateway,
	upstreamUnreachable:      http.StatusBadGateway,
	upstreamTimeout:          http.StatusGatewayTimeout,
	tokenRequired:            http.StatusProxyAuthRequired,
	shuttingDown:             http.StatusServiceUnavailable,
	internal:                 http.StatusInternalServerError,
}

// fixes are for problems that name none of their own. A malformed request is the
// program's own to mend, and the message says what is wrong with it.
var fixes = map[code]string{
	badRequest:               "send the request again without what the message names",
	headerTooLarge:           "send a header below 1 MB",
	urlTooLong:               "send what is long in a body",
	tooManyConnections:       "close connections that are not needed, or raise run-connections: authsome doctor",
	tooManyRequests:          "send fewer requests at once, or raise run-requests: authsome doctor",
	tooManyHosts:             "send the request again later, or raise run-hosts: authsome doctor",
	outOfMemory:              "send fewer large bodies at once, or raise run-memory: authsome doctor",
	loginRequired:            "authsome list",
	reauthenticationRequired: "authsome list",
	denied:                   "authsome list",
	ambiguous:                "authsome list",
	placeholderMisplaced:     "authsome list",
	misdirected:              "open a connection of its own to the host of the request",
	tokenRequired:            "authsome run -- COMMAND",
	upstreamTLS:              "authsome daemon logs -n 20",
	upstreamUnreachable:      "authsome doctor",
	upstreamTimeout:          "authsome doctor",
	shuttingDown:             "send the request again",
	internal:                 "authsome daemon logs -n 20",
}

// What helps when the daemon's own way out is wrong. The person runs it, in a
// terminal of their own: a run may not change that way.
const (
	fixProxy = "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT authsome daemon serve"
	fixRoots = "SSL_CERT_FILE=FILE authsome daemon serve"
)

// errorHeader carries the code, so that a client need not read the body. It is
// removed from what upstreams answer: only we set it.
const errorHeader = "Authsome-Error"

// problem is an answer of our own. It is written for an agent to act on.
type problem struct {
	Code    code   `json:"error"`
	Message string `json:"message"`
	// Provider is the one that the request would have gone to.
	Provider string `json:"provider,omitempty"`
	// Fix is the command that helps, or in words what the program has to do; see
	// fixes.
	Fix string `json:"fix,omitempty"`
	// Host, Failed and Cause say of an upstream failure where, who ("network",
	// "upstream proxy", "upstream") and why.
	Host   string `json:"host,omitempty"`
	Failed string `json:"failed,omitempty"`
	Cause  string `json:"cause,omitempty"`

	last bool // the connection ends with it
}

// problemf makes a problem with a formatted message.
func problemf(c code, format string, args ...any) *problem {
	return &problem{Code: c, Message: fmt.Sprintf(format, args...)}
}

// brokerCodes says what the broker's refusals are called here. Others are
// internal.
var brokerCodes = map[authsome.Code]code{
	authsome.CredentialMissing:  loginRequired,
	authsome.ConnectionNotFound: loginRequired,
	authsome.TokenExpired:       reauthenticationRequired,
	authsome.RefreshFailed:      reauthenticationRequired,
	authsome.AuthFailed:         reauthenticationRequired,
	authsome.Forbidden:          denied,
	authsome.Ambiguous:          ambiguous,
	authsome.Invalid:            badRequest,
	authsome.Unreachable:        upstreamUnreachable,
}

// fromBroker turns a refusal of the Resolver into an answer. The message of an
// *authsome.Error is meant for people and holds no secret; of any other error
// nothing is shown.
func fromBroker(err error) *problem {
	var e *authsome.Error
	if !errors.As(err, &e) {
		return problemf(internal, "the request could not be decided on")
	}
	c, ok := brokerCodes[e.Code]
	if !ok {
		c = internal
	}
	return &problem{Code: c, Message: e.Message, Provider: e.Provider, Fix: e.Hint}
}

func (p *problem) status() int { return statuses[p.Code] }

func (p *problem) body() []byte {
	full := *p
	if full.Fix == "" {
		full.Fix = fixes[p.Code]
	}
	b, err := json.Marshal(full)
	if err != nil { // strings only: cannot be
		return []byte("{}\n")
	}
	return append(b, '\n')
}

// write answers a request that came through net/http.
func (p *problem) write(w http.ResponseWriter) {
	b := p.body()
	h := w.Header()
	clear(h)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "no-store")
	h.Set(errorHeader, string(p.Code))
	if p.Code == tokenRequired {
		h.Set("Proxy-Authenticate", challengeBasic)
	}
	if p.Code == tooManyConnections || p.last {
		h.Set("Connection", "close")
	}
	if p.retry() {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(p.status())
	_, _ = w.Write(b)
}

// raw is the whole answer to a CONNECT. close says that the connection ends
// with it.
func (p *problem) raw(close bool) []byte {
	b := p.body()
	return append([]byte(p.header(len(b), close)), b...)
}

// retry reports whether the same request may do better in a moment.
func (p *problem) retry() bool {
	switch p.Code {
	case tooManyConnections, tooManyRequests, tooManyHosts, outOfMemory, shuttingDown:
		return true
	}
	return false
}

// header is the part before the body.
func (p *problem) header(length int, close bool) string {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s: %s\r\n",
		p.status(), http.StatusText(p.status()), length, errorHeader, p.Code)
	if p.Code == tokenRequired {
		// git sends its credentials only after this challenge, and on the same
		// connection (RFC 9110, section 11.7.1).
		head += "Proxy-Authenticate: " + challengeBasic + "\r\n"
	}
	if p.retry() {
		head += fmt.Sprintf("Retry-After: %d\r\n", retryAfter)
	}
	if close {
		head += "Connection: close\r\n"
	}
	return head + "\r\n"
}

const challengeBasic = `Basic realm="authsome"`
