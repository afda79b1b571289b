package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/authsome/authsome"
	"golang.org/x/net/http/httpguts"
)

// writeTime bounds the writing of a short answer of our own.
const writeTime = 10 * time.Second

// serve takes a connection of a child from accept to its end, or to its
// hand-over to the http.Server.
func (p *Proxy) serve(c *childConn) {
	if !p.registry.add(c.tunnel) {
		_ = c.Close()
		return
	}
	defer p.rescue(c)
	if !p.converse(c, nil, nil) {
		_ = c.Close()
	}
}

// rescue is deferred: one child's connection must not take the daemon down with it.
func (p *Proxy) rescue(c *childConn) {
	if v := recover(); v != nil {
		p.log.Error("panic on a connection", "panic", v, "stack", string(debug.Stack()))
		_ = c.Close()
	}
}

// converse reads requests until one of them turns the connection into
// something else. rest is what came behind first, which was read already; nil for
// nothing. It reports whether somebody else closes c.
func (p *Proxy) converse(c *childConn, rest []byte, first *http.Request) (handedOver bool) {
	limited := &io.LimitedReader{R: io.MultiReader(bytes.NewReader(rest), c.Conn), N: headRoom}
	br := getReader(limited)
	// Into the buffer, which is what the connection goes on with.
	_, _ = br.Peek(len(rest))
	defer func() {
		if !handedOver {
			putReader(br)
		}
	}()
	for {
		// Nobody's memory: it is not known yet whose the connection is.
		limited.N = headRoom
		req := first
		if first = nil; req == nil {
			// Also between two attempts: who has shown no token keeps nothing open.
			_ = c.Conn.SetReadDeadline(time.Now().Add(headTime))
			start, err := br.Peek(len("CONNECT "))
			if err != nil {
				return false // gone, or silent for too long
			}
			if string(start) != "CONNECT " {
				_ = c.Conn.SetReadDeadline(time.Time{})
				c.tunnel.become(plain, target{}, nil)
				c.ahead = br
				p.handoff.give(&plainConn{c})
				return true
			}
			if req, err = http.ReadRequest(br); err != nil {
				prob := problemf(badRequest, "the CONNECT request is malformed")
				if limited.N <= 0 {
					prob = errLongStart()
				} else if isTimeout(err) || errors.Is(err, io.ErrUnexpectedEOF) {
					return false
				}
				p.reply(c.Conn, prob, true)
				return false
			}
			_ = c.Conn.SetReadDeadline(time.Time{})
			if !wellFormed(req) {
				p.reply(c.Conn, problemf(badRequest, "the CONNECT request is malformed"), true)
				return false
			}
		}
		prob, done := p.connect(c, br, req)
		if done {
			return true
		}
		closing := req.Close || !req.ProtoAtLeast(1, 1) || prob.Code == badRequest || prob.Code == tooManyConnections
		p.reply(c.Conn, prob, closing)
		if closing {
			return false
		}
	}
}

// wellFormed is what the http.Server asks for and http.ReadRequest does not: "Host : x"
// is a name with a space to the latter, and HTTP/2.0 a version like any other.
func wellFormed(r *http.Request) bool {
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return false
		}
	}
	return r.ProtoMajor == 1
}

// connect carries out one CONNECT. It returns either a refusal, after which the
// child may try again on the same connection, or that c and br are in other
// hands.
func (p *Proxy) connect(c *childConn, br *bufio.Reader, req *http.Request) (prob *problem, handedOver bool) {
	if req.ContentLength != 0 || len(req.TransferEncoding) > 0 {
		return problemf(badRequest, "a CONNECT request has no body"), false
	}
	epoch := p.registry.epoch.Load()
	token, ok := proxyToken(req.Header)
	if !ok {
		return errToken(), false
	}
	g, ok := p.cfg.Resolver.Grant(token)
	if !ok {
		return errToken(), false
	}
	host, port, err := parseAuthority(req.RequestURI, 0)
	if err != nil {
		return problemf(badRequest, "the target of the CONNECT is not a host and a port"), false
	}
	if !c.charge(g) {
		return p.tell(c.p.limits.of(g), &authsome.Request{Host: host, Port: port, Method: http.MethodConnect}, errConnections()), false
	}
	if p.closing.Load() {
		return problemf(shuttingDown, "the authsome daemon is stopping; send the request again"), false
	}
	to := target{g, host, port}
	verdict := authsome.Intercept
	if host != authsome.SelfCheckHost {
		verdict = p.cfg.Resolver.Host(g, host, port)
	}
	switch verdict {
	case authsome.Intercept:
		if !c.account.visit(p.ctx, host, p.limits.RunHosts) {
			return p.tell(c.account, &authsome.Request{Host: host, Port: port, Method: http.MethodConnect},
				problemf(tooManyHosts, "this run asks for too many new hosts: each needs a certificate")), false
		}
		if !c.tunnel.become(intercepted, to, nil) || p.endedSince(epoch, g) {
			return errToken(), false
		}
		p.intercept(c, br, to)
		return nil, true
	case authsome.Tunnel:
		return p.blind(c, br, to, epoch)
	default:
		p.cfg.Resolver.Finish(g, &authsome.Request{Host: host, Port: port, Method: http.MethodConnect, ID: p.requestID()}, nil,
			authsome.Outcome{Status: http.StatusForbidden, Err: "no provider is for this host, and the run refuses others"})
		return errUnknownHost(host, port), false
	}
}

// endedSince reports whether the grant has ended in a pass of Reconsider that
// may have come before its tunnel was known to be the grant's.
func (p *Proxy) endedSince(epoch int64, g *authsome.Grant) bool {
	return p.registry.epoch.Load() != epoch && !p.cfg.Resolver.Current(g, "", "", 0)
}

func errToken() *problem {
	return problemf(tokenRequired, "this proxy serves the children of `authsome run` only: the proxy URL in their environment carries a token")
}

// errUnknownHost is for runs of the deny modes.
func errUnknownHost(host string, port int) *problem {
	return &problem{
		Code: denied, Host: host,
		Message: "this run refuses " + joinAuthority(host, port, 443) + ": no connected provider is for it",
		Fix:     "authsome list",
	}
}

// established is all that a client wants to see.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"

func (p *Proxy) reply(conn net.Conn, prob *problem, closing bool) {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := conn.Write(prob.raw(closing))
	_ = conn.SetWriteDeadline(time.Time{})
	if err == nil && closing {
		// Closing with unread input would reset the connection and take the
		// answer with it.
		_ = closeWrite(conn)
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.CopyN(io.Discard, conn, 1<<20)
	}
}

func (p *Proxy) establish(c *childConn) error {
	_ = c.Conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := io.WriteString(c.Conn, established)
	_ = c.Conn.SetWriteDeadline(time.Time{})
	return err
}

// connectLate is for a CONNECT that comes on a connection which net/http
// already serves, since its first request was an http:// one.
func (p *Proxy) connectLate(w http.ResponseWriter, r *http.Request, c *childConn) {
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		problemf(badRequest, "send CONNECT over HTTP/1.1").write(w)
		return
	}
	rest, _ := rw.Reader.Peek(rw.Reader.Buffered()) // what is buffered: cannot fail
	c.tunnel.become(pending, target{}, nil)
	if !p.converse(c, bytes.Clone(rest), r) {
		_ = c.Close()
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
