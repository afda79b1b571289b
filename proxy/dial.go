package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/authsome/authsome/internal/netguard"
)

const (
	dialTime = 30 * time.Second
	tlsTime  = 15 * time.Second
)

// reach says which addresses a connection may be made to.
type reach bool

const (
	anyAddress    reach = false
	publicAddress reach = true // a credential will be sent, and nobody approved a private host
)

// dialer tries IPv6 and IPv4 side by side (RFC 8305), and keeps dead peers from
// holding a silent stream for ever by TCP keep-alive.
func dialer(r reach) *net.Dialer {
	d := &net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}
	if r == publicAddress {
		d.Control = netguard.PublicOnly
	}
	return d
}

// dial makes the TCP connection to a service, through the upstream proxy when
// there is one. What is kept open for later requests makes room for it.
func (p *Proxy) dial(ctx context.Context, host string, port int, r reach) (net.Conn, error) {
	conn, err := p.dialOnce(ctx, host, port, r)
	if netguard.Exhausted(err) {
		p.pools.closeIdle()
		conn, err = p.dialOnce(ctx, host, port, r)
	}
	return conn, err
}

func (p *Proxy) dialOnce(ctx context.Context, host string, port int, r reach) (net.Conn, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	via, err := p.upstreamProxy("https", addr)
	if err != nil {
		return nil, err
	}
	if via == nil {
		return dialer(r).DialContext(ctx, "tcp", addr)
	}
	d := netguard.ProxyDialer{Roots: p.cfg.Upstream.Roots, Public: bool(r)}
	return d.Dial(ctx, via, host, port)
}

// upstreamProxy is the proxy to take to a host; nil for none.
func (p *Proxy) upstreamProxy(scheme, addr string) (*url.URL, error) {
	if p.cfg.Upstream.Proxy == nil {
		return nil, nil
	}
	via, err := p.cfg.Upstream.Proxy(&url.URL{Scheme: scheme, Host: addr})
	if err != nil {
		// Its text may quote the URL, and so a password.
		return nil, &netguard.ProxyError{Cause: "its address is not valid"}
	}
	return via, nil
}

// tlsError is a failure of TLS with a service.
type tlsError struct {
	host string
	err  error
}

func (e *tlsError) Error() string { return "TLS with " + e.host + ": " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

// errOnlyHTTP2 is a server that will not speak HTTP/1.1.
var errOnlyHTTP2 = errors.New("the server refuses http/1.1, which the request needs")

// errNoHTTP2 is a server that will not speak HTTP/2.
var errNoHTTP2 = errors.New("the server does not speak HTTP/2, which the request needs")

// dialTLS makes a connection that speaks proto ("http/1.1" or "h2"), its
// certificate verified, and with ours when the pool has one.
func (p *Proxy) dialTLS(ctx context.Context, addr, proto string, n *pool) (net.Conn, error) {
	conn, err := p.secure(ctx, addr, proto, n)
	if err != nil {
		return nil, err
	}
	if proto != "http/1.1" || conn.ConnectionState().NegotiatedProtocol != "" || p.noALPN.has(addr) {
		return conn, nil
	}
	// No choice means a server that knows no ALPN, or one that knows only h2 and
	// hangs up when it sees the request (grpc-go does). Which of them is found
	// out now, once, while nothing has been sent; and one after the other, since
	// small servers serve one connection at a time.
	_ = conn.Close()
	probe, err := p.secure(ctx, addr, "h2", n)
	if err == nil {
		_ = probe.Close()
		return nil, &tlsError{addr, errOnlyHTTP2}
	}
	if errors.Is(err, errNoHTTP2) || refusedProtocol(err) {
		p.noALPN.set(addr, true)
	}
	if conn, err = p.secure(ctx, addr, proto, n); err != nil {
		return nil, err
	}
	return conn, nil
}

// secure dials and speaks TLS. Over the connection of a server that chooses no
// protocol HTTP/1.1 is spoken, never HTTP/2.
func (p *Proxy) secure(ctx context.Context, addr, proto string, n *pool) (*tls.Conn, error) {
	host, port, err := splitAddr(addr)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{
		ServerName: host, RootCAs: p.cfg.Upstream.Roots, MinVersion: tls.VersionTLS12,
		NextProtos: []string{proto}, ClientSessionCache: n.sessions,
	}
	asked := func() { p.askCertificate.set(addr, true) }
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked()
		return new(tls.Certificate), nil // none
	}
	if n.certificate != nil {
		// Before anything is dialled.
		ours, err := n.certificate()
		if err != nil {
			return nil, err
		}
		// Whatever authorities the service names: which of them it accepts is for
		// it to say.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked()
			return ours, nil
		}
	}
	raw, err := p.dial(ctx, host, port, n.key.reach)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	ctx, cancel := context.WithTimeout(ctx, tlsTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if proto == "http/1.1" && refusedProtocol(err) {
			return nil, &tlsError{host, errors.Join(errOnlyHTTP2, err)}
		}
		return nil, &tlsError{host, err}
	}
	if proto == "h2" && conn.ConnectionState().NegotiatedProtocol != "h2" {
		_ = conn.Close()
		return nil, &tlsError{host, errNoHTTP2}
	}
	return conn, nil
}

// refusedProtocol reports whether a handshake failed in one of the ways in
// which servers refuse a protocol: the alert of RFC 7301, section 3.2, or by
// hanging up.
func refusedProtocol(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return strings.Contains(op.Err.Error(), "no application protocol")
	}
	return hungUp(err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func splitAddr(addr string) (string, int, error) {
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(digits)
	return host, port, err
}

// upstreamProblem says what went wrong on the way to a service: where, who
// failed, and why. Texts of errors are not passed on as they are, since net/http
// quotes what servers answered.
func (p *Proxy) upstreamProblem(err error, host string, port int) *problem {
	where := joinAuthority(host, port, 443)
	prob := &problem{Code: upstreamUnreachable, Host: host, Failed: "network", Cause: netguard.Cause(err)}
	var pe *netguard.ProxyError
	var te *tlsError
	switch {
	case errors.Is(err, netguard.ErrPrivate):
		return &problem{
			Code: privateAddress, Host: host,
			Message: where + " is on a private address, and the login did not approve that: no credential was sent",
		}
	case errors.As(err, &pe):
		prob.Failed, prob.Cause = "upstream proxy", pe.Error()
		if pe.Denied {
			prob.Fix = fixProxy
		}
		if pe.Timeout {
			prob.Code = upstreamTimeout
		}
	case errors.As(err, &te):
		prob.Code, prob.Failed, prob.Cause = upstreamTLS, "upstream", tlsCause(te.err)
		prob.Message = "no secure connection to " + where + ": " + prob.Cause
		if unknown := (x509.UnknownAuthorityError{}); errors.As(te.err, &unknown) {
			prob.Fix = fixRoots
		}
		return prob
	case isTimeout(err):
		prob.Code = upstreamTimeout
	case alertOf(err) != "":
		prob.Code, prob.Failed, prob.Cause = upstreamTLS, "upstream", alertOf(err)
	case errors.Is(err, errAnswer):
		prob.Failed = "upstream"
	}
	prob.Message = "no answer from " + where + ": " + prob.Cause
	return prob
}

// tlsCause names what is wrong with a certificate or a handshake. Errors of
// crypto/x509 name hosts, dates and issuers, never a secret.
func tlsCause(err error) string {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &verify):
		cause := strings.TrimPrefix(verify.Err.Error(), "x509: ")
		var unknown x509.UnknownAuthorityError
		if errors.As(verify.Err, &unknown) && len(verify.UnverifiedCertificates) > 0 {
			cause += fmt.Sprintf(" (issuer %q)", verify.UnverifiedCertificates[0].Issuer)
		}
		return "its certificate was refused: " + cause
	case errors.As(err, &record):
		return "the server does not speak TLS"
	case errors.Is(err, errNoHTTP2):
		return errNoHTTP2.Error()
	case errors.Is(err, errOnlyHTTP2) && !hungUp(err):
		return errOnlyHTTP2.Error()
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "the TLS handshake took too long"
	}
	if alert := alertOf(err); alert != "" {
		return alert
	}
	return "the TLS handshake failed"
}

const alertPrefix = "the server ended TLS: "

// alertOf gives the alert by which a server has ended TLS, in the handshake or
// right behind it, "" when it has sent none.
func alertOf(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return alertPrefix + strings.TrimPrefix(op.Err.Error(), "tls: ")
	}
	return ""
}

// errAnswer is an answer that is not HTTP, or none.
var errAnswer = errors.New("the connection ended before an answer came")
