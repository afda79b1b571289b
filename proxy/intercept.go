package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/authsome/authsome/route"
)

// recordHandshake is the first byte of TLS (RFC 8446, section 5.1).
const recordHandshake = 0x16

// childTLS is the one configuration towards children: shared, so that session
// tickets work for all of them.
func (p *Proxy) childTLS() *tls.Config {
	// Without a certificate crypto/tls answers unrecognized_name (RFC 6066,
	// section 3), which says to the client what is wrong.
	otherHost := &tls.Config{SessionTicketsDisabled: true}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// Without the post-quantum share: on loopback there is nobody to record
		// the traffic, and it costs 13 to 30 % of a handshake.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
		// It runs on resumption as well, when GetCertificate does not.
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName == "" {
				return nil, nil
			}
			name, err := route.Host(hello.ServerName)
			if err != nil || name != hello.Conn.(*childConn).host {
				return otherHost, nil
			}
			return nil, nil
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := hello.Conn.(*childConn)
			return p.cfg.Issuer.Leaf(c.grant, c.host)
		},
	}
}

// intercept answers the CONNECT, speaks TLS in the name of its host, and hands
// the connection to the protocol that was agreed on.
func (p *Proxy) intercept(c *childConn, br *bufio.Reader, to target) {
	c.target, c.addr = to, net.JoinHostPort(to.host, strconv.Itoa(to.port))
	if err := p.establish(c); err != nil {
		_ = c.Close()
		return
	}
	// Until the handshake is over: a child that says nothing would be kept for
	// ever.
	_ = c.Conn.SetReadDeadline(time.Now().Add(headTime))
	first, err := br.Peek(1)
	if err == nil && first[0] != recordHandshake {
		// Plain text on a routed host: a key in the clear, or a guess at what
		// the proxy does with it.
		p.log.Warn("closed a tunnel that carries no TLS to a host with a credential", "host", to.host, "port", to.port)
		err = errors.New("no TLS")
	}
	c.ahead = br
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(headTime))
	if !c.account.handshakes.await(p.ctx) {
		p.log.Warn("closed a connection: the run begins too many at once", "host", to.host, "program", to.grant.Program)
		_ = c.Close()
		return
	}
	conn := tls.Server(c, p.tls)
	err = conn.HandshakeContext(p.ctx)
	c.account.handshakes.give()
	if err != nil {
		// Which alert a client sends that does not trust us varies, so the cause
		// is logged as it is.
		p.log.Warn("TLS handshake with the child broke off", "host", to.host, "program", to.grant.Program, "err", err,
			"hint", "a client that does not trust the certificate authority of authsome does this")
		_ = c.Close()
		return
	}
	// conn's own method, so that a write that was cut short by it is noticed.
	_ = conn.SetDeadline(time.Time{})
	serve := p.serveFront
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		serve = p.serveH2
	}
	// On a stack of its own: that of a handshake is deep, and would be held for as
	// long as the connection lasts.
	p.fronts.Add(1)
	go serve(conn, c)
}
