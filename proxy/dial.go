package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
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
		d.Control = publicOnly
	}
	return d
}

// dial makes the TCP connection to a service, through the upstream proxy when
// there is one.
func (p *Proxy) dial(ctx context.Context, host string, port int, r reach) (net.Conn, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	var via *url.URL
	if p.cfg.Upstream.Proxy != nil {
		var err error
		if via, err = p.cfg.Upstream.Proxy(&url.URL{Scheme: "https", Host: addr}); err != nil {
			return nil, &proxyError{cause: "its address is not valid"}
		}
	}
	if via == nil {
		return dialer(r).DialContext(ctx, "tcp", addr)
	}
	// The upstream proxy resolves names, so only literals can be checked.
	if ip, err := netip.ParseAddr(host); err == nil && r == publicAddress && isPrivate(ip) {
		return nil, errPrivate
	}
	conn, err := p.dialVia(ctx, via, addr)
	if err != nil {
		var pe *proxyError
		if !errors.As(err, &pe) {
			err = &proxyError{proxy: via.Host, cause: plainCause(err), timeout: isTimeout(err)}
		}
	}
	return conn, err
}

// proxyError is a failure of the upstream proxy.
type proxyError struct {
	proxy   string // host:port, never the URL, which may hold a password
	cause   string
	timeout bool
}

func (e *proxyError) Error() string { return "upstream proxy " + e.proxy + ": " + e.cause }

// dialVia asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func (p *Proxy) dialVia(ctx context.Context, via *url.URL, addr string) (conn net.Conn, err error) {
	port := via.Port()
	switch {
	case via.Scheme != "http" && via.Scheme != "https":
		return nil, &proxyError{proxy: via.Host, cause: "its scheme is " + strconv.Quote(via.Scheme) + ", and only http and https are known"}
	case port == "" && via.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	conn, err = dialer(anyAddress).DialContext(ctx, "tcp", net.JoinHostPort(via.Hostname(), port))
	if err != nil {
		return nil, err
	}
	ok := false
	raw := conn
	defer func() {
		if !ok {
			_ = raw.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = raw.SetDeadline(time.Now().Add(dialTime))
	if via.Scheme == "https" {
		conn = tls.Client(raw, &tls.Config{ServerName: via.Hostname(), RootCAs: p.cfg.Upstream.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	req := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if u := via.User; u != nil {
		password, _ := u.Password()
		req += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		return nil, err
	}
	br := bufio.NewReader(io.LimitReader(conn, 64<<10))
	res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		if isTimeout(err) {
			return nil, err
		}
		return nil, &proxyError{proxy: via.Host, cause: "its answer to CONNECT is not HTTP"}
	}
	if res.StatusCode != http.StatusOK {
		return nil, &proxyError{
			proxy: via.Host, cause: fmt.Sprintf("it answered %d to CONNECT %s", res.StatusCode, addr),
			timeout: res.StatusCode == http.StatusGatewayTimeout,
		}
	}
	if !stop() {
		return nil, ctx.Err()
	}
	_ = raw.SetDeadline(time.Time{})
	ok = true
	if n := br.Buffered(); n > 0 { // a service that speaks first
		rest, _ := br.Peek(n)
		return &aheadConn{Conn: conn, ahead: rest}, nil
	}
	return conn, nil
}

// aheadConn gives back what was read with the proxy's answer.
type aheadConn struct {
	net.Conn
	ahead []byte
}

func (c *aheadConn) Read(b []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// CloseWrite ends one direction.
func (c *aheadConn) CloseWrite() error { return closeWrite(c.Conn) }

// tlsError is a failure of TLS with a service.
type tlsError struct {
	host string
	err  error
}

func (e *tlsError) Error() string { return "TLS with " + e.host + ": " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

// errOnlyHTTP2 is a server that will not speak HTTP/1.1.
var errOnlyHTTP2 = errors.New("the server refuses http/1.1")

// errNoHTTP2 is a server that will not speak HTTP/2.
var errNoHTTP2 = errors.New("the server does not speak HTTP/2, which the request needs")

// dialTLS makes a connection that speaks proto ("http/1.1" or "h2"), its
// certificate verified.
func (p *Proxy) dialTLS(ctx context.Context, addr, proto string, r reach, sessions tls.ClientSessionCache) (net.Conn, error) {
	host, port, err := splitAddr(addr)
	if err != nil {
		return nil, err
	}
	raw, err := p.dial(ctx, host, port, r)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName: host, RootCAs: p.cfg.Upstream.Roots, MinVersion: tls.VersionTLS12,
		NextProtos: []string{proto}, ClientSessionCache: sessions,
	})
	ctx, cancel := context.WithTimeout(ctx, tlsTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		if proto == "http/1.1" && refusedProtocol(err) {
			return nil, &tlsError{host, errors.Join(errOnlyHTTP2, err)}
		}
		return nil, &tlsError{host, err}
	}
	chosen := conn.ConnectionState().NegotiatedProtocol
	if proto == "h2" && chosen != "h2" {
		_ = conn.Close()
		return nil, &tlsError{host, errNoHTTP2}
	}
	// No choice means a server that knows no ALPN, or one that knows only h2 and
	// hangs up when it sees the request (grpc-go does). Which of them is found
	// out now, once, while nothing has been sent.
	if proto == "http/1.1" && chosen == "" && !p.noALPN.has(addr) {
		if probe, err := p.dialTLS(ctx, addr, "h2", r, nil); err == nil {
			_, _ = probe.Close(), conn.Close()
			return nil, &tlsError{host, errOnlyHTTP2}
		}
		p.noALPN.set(addr, true)
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
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
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
	prob := &problem{Code: upstreamUnreachable, Host: host, Failed: "network", Cause: plainCause(err)}
	var pe *proxyError
	var te *tlsError
	switch {
	case errors.Is(err, errPrivate):
		return &problem{
			Code: privateAddress, Host: host,
			Message: where + " is on a private address, and the login did not approve that: no credential was sent",
		}
	case errors.As(err, &pe):
		prob.Failed, prob.Cause = "upstream proxy", pe.Error()
		if pe.timeout {
			prob.Code = upstreamTimeout
		}
	case errors.As(err, &te):
		prob.Code, prob.Failed, prob.Cause = upstreamTLS, "upstream", tlsCause(te.err)
		prob.Message = "no secure connection to " + where + ": " + prob.Cause
		return prob
	case isTimeout(err):
		prob.Code = upstreamTimeout
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
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "the TLS handshake took too long"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return "the server ended the TLS handshake: " + op.Err.Error()
	}
	return "the TLS handshake failed"
}

// errAnswer is an answer that is not HTTP, or none.
var errAnswer = errors.New("the connection ended before an answer came")

// plainCause names a network error without quoting anything from outside.
func plainCause(err error) string {
	var dns *net.DNSError
	switch {
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
	case isTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	default:
		return errAnswer.Error()
	}
}
