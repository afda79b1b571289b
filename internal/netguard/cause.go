package netguard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"
)

// Cause names what went wrong between this machine and a server. It quotes
// nothing that was sent or answered but names in a certificate.
func Cause(err error) string {
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.Is(err, ErrPrivate):
		return "it is on a private address"
	case errors.As(err, &verify):
		cause := "its certificate was refused: " + strings.TrimPrefix(verify.Err.Error(), "x509: ")
		if unknown := (x509.UnknownAuthorityError{}); errors.As(verify.Err, &unknown) && len(verify.UnverifiedCertificates) > 0 {
			cause += " (issuer " + verify.UnverifiedCertificates[0].Issuer.String() + ")"
		}
		return cause
	case errors.As(err, &record):
		return "it does not speak TLS"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the name does not exist"
	case errors.As(err, &dns):
		return "the name could not be looked up"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host"
	case errors.As(err, &op) && op.Op == "remote error":
		return "it ended the TLS handshake: " + op.Err.Error()
	case errors.Is(err, context.Canceled):
		return "it was given up"
	case isTimeout(err):
		return "it took too long"
	default:
		return "the connection ended before an answer came"
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
