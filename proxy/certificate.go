package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/authsome/authsome"
)

// certificateError is a client certificate that cannot be used. Its text holds
// no part of it.
type certificateError struct{ why string }

func (e *certificateError) Error() string { return "the client certificate " + e.why }

// clientCertificate reads a certificate and its key once, when they are first
// needed.
func clientCertificate(pem authsome.Secret) func() (*tls.Certificate, error) {
	return sync.OnceValues(func() (*tls.Certificate, error) {
		text := []byte(pem.Reveal())
		defer clear(text)
		c, err := tls.X509KeyPair(text, text)
		if err != nil {
			// Login has refused what does not fit together; what it was saved by
			// may have been another version. The error may quote the PEM.
			return nil, &certificateError{"cannot be read, or its key belongs to another"}
		}
		return &c, nil
	})
}

// certificateProblem says of a failure what the client certificate may have to do
// with it. In TLS 1.3 a service refuses one only after the handshake (RFC 8446,
// section 4.4.2.4), when the request is on its way; some just hang up.
func (x *exchange) certificateProblem(prob *problem, err error) {
	if prob.Code == upstreamUnreachable && prob.Failed == "network" && brokeOff(err) && x.p.askCertificate.has(net.JoinHostPort(x.host, strconv.Itoa(x.port))) {
		// The alert that says so is lost when the service closes while the request
		// is on its way to it: what has come is thrown away with what has not been
		// read.
		prob.Code, prob.Failed, prob.Cause = upstreamTLS, "upstream", alertPrefix+"it had asked for a client certificate"
		prob.Message = "no secure connection to " + joinAuthority(x.host, x.port, 443) + ": " + prob.Cause
	}
	if x.res.Certificate.IsZero() {
		return
	}
	again := "authsome login " + x.res.Provider + " --connection " + x.res.Connection + " --force"
	var ours *certificateError
	switch {
	case errors.As(err, &ours):
		*prob = problem{Code: reauthenticationRequired, Host: x.host, Message: ours.Error() + ": nothing was sent", Fix: again}
	case prob.Code == upstreamTLS && strings.Contains(prob.Cause, alertPrefix) && prob.Fix == "":
		prob.Fix = again
	}
}

// brokeOff reports whether a connection ended, in one of the many words that
// net/http has for it, rather than never having been one.
func brokeOff(err error) bool {
	var op *net.OpError
	return !isTimeout(err) && !(errors.As(err, &op) && op.Op == "dial")
}
