package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
)

// plain carries out a request with a whole URL that comes on the connection
// itself, not in a tunnel. One for http:// goes on as it is: never with a
// credential, and never with a placeholder, which would show on the wire where
// somebody tries to have one replaced.
func (p *Proxy) plain(w http.ResponseWriter, r *http.Request, c *childConn) {
	if r.Method == http.MethodConnect {
		p.connectLate(w, r, c)
		return
	}
	epoch := p.registry.epoch.Load()
	token, ok := proxyToken(r.Header)
	var g *authsome.Grant
	if ok {
		g, ok = p.cfg.Resolver.Grant(token)
	}
	if !ok {
		// net/http would wait for the next request for idleTime, of whomever it is.
		prob := errToken()
		prob.last = true
		prob.write(w)
		return
	}
	scheme, usual := "http", 80
	if r.URL.Scheme == "https" {
		scheme, usual = "https", 443
	}
	raw, ok := originForm(r, scheme)
	if !ok || strings.HasPrefix(r.RequestURI, "/") {
		problemf(badRequest, "this is a proxy: send CONNECT host:port for https, or the whole URL").write(w)
		return
	}
	host, port, err := parseAuthority(r.URL.Host, usual)
	if err != nil {
		problemf(badRequest, "the URL names no valid host").write(w)
		return
	}
	if scheme == "https" && !onThisMachine(c) {
		problemf(badRequest, "send CONNECT %s for https: a request for it is taken in the clear on this machine only", joinAuthority(host, port, 0)).write(w)
		return
	}
	if host == authsome.SelfCheckHost {
		selfCheck(w)
		return
	}
	if len(raw) > maxURL {
		problemf(urlTooLong, "the path and the query have more than %d KB", maxURL>>10).write(w)
		return
	}
	if !c.charge(g) {
		p.tell(p.limits.of(g), &authsome.Request{Host: host, Port: port, Method: r.Method}, errConnections()).write(w)
		return
	}
	if !p.enter(w, r, c.account, host, port) {
		return
	}
	defer p.leave(c.account)
	x := &exchange{p: p, w: w, r: r, c: c, target: target{g, host, port}, scheme: scheme, started: time.Now()}
	defer x.release()
	if scheme == "https" && p.cfg.Resolver.Host(g, host, port) == authsome.Intercept {
		if prob := x.check(); prob != nil {
			prob.write(w)
			return
		}
		x.run()
		return
	}
	x.res = &authsome.Resolution{Verdict: authsome.Forward}
	x.path, x.query, x.asked = strings.Cut(raw, "?")
	x.upgrade = upgradeOf(r)
	x.trailers = hasToken(r.Header["Te"], "trailers")
	removeHopByHop(r.Header)
	x.body = newBody(r)
	refuse := func(prob *problem) {
		req := &authsome.Request{Host: host, Port: port, Method: r.Method, Path: x.path, Header: r.Header, ID: p.requestID()}
		p.cfg.Resolver.Finish(g, req, nil, authsome.Outcome{Status: prob.status(), Err: prob.Message, Duration: time.Since(x.started)})
		prob.write(w)
	}
	if g.Mode.Denies() {
		if scheme == "https" {
			refuse(errUnknownHost(host, port))
		} else {
			refuse(&problem{Code: denied, Host: host, Message: "this run refuses http:// requests: no credential is for them", Fix: "ask for https://" + host})
		}
		return
	}
	if x.body != nil {
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	defer x.stop()
	answer, prob := x.attempt(epoch)
	switch {
	case x.refused:
		refuse(prob)
	case prob != nil:
		prob.write(w)
	default:
		x.deliver(answer)
	}
}

// onThisMachine reports whether what the child sends stays on this machine.
// Some clients (axios 1.7, which much is built on) send `GET https://…` where
// others send CONNECT, and leave TLS to the proxy. On loopback that is no worse
// than a tunnel: the request holds a placeholder, and only what may read the
// child's memory reads what goes over the wire.
func onThisMachine(c *childConn) bool {
	for _, a := range []net.Addr{c.LocalAddr(), c.RemoteAddr()} {
		switch a := a.(type) {
		case *net.TCPAddr:
			if !a.IP.IsLoopback() {
				return false
			}
		case *net.UnixAddr:
		default:
			return false
		}
	}
	return true
}

// requestProxy is the HTTP proxy that http:// requests to a host go to as they
// are, with their whole URL; nil when there is none. SOCKS knows connections
// only.
func (p *Proxy) requestProxy(host string) (*url.URL, error) {
	via, err := p.upstreamProxy("http", host)
	if err != nil || via == nil || strings.HasPrefix(via.Scheme, "socks") {
		return nil, err
	}
	if err := netguard.CheckProxy(via); err != nil {
		return nil, &netguard.ProxyError{Proxy: via.Host, Cause: err.Error()}
	}
	return via, nil
}

// dialPlain makes the connections of http:// requests: to the service, through
// SOCKS perhaps, or to the HTTP proxy.
func (p *Proxy) dialPlain(ctx context.Context, network, addr string) (net.Conn, error) {
	via, err := p.upstreamProxy("http", addr)
	if err != nil {
		return nil, err
	}
	if via == nil || !strings.HasPrefix(via.Scheme, "socks") {
		return dialer(anyAddress).DialContext(ctx, network, addr)
	}
	host, port, err := splitAddr(addr)
	if err != nil {
		return nil, err
	}
	return netguard.ProxyDialer{}.Dial(ctx, via, host, port)
}

// viaProxy reports whether the request's target is the whole URL.
func (x *exchange) viaProxy(host string) bool {
	if x.scheme != "http" {
		return false
	}
	via, err := x.p.requestProxy(host)
	return err == nil && via != nil
}

// sendPlain sends an http:// request, and tells the failures of an HTTP proxy
// from those of the service.
func (x *exchange) sendPlain(send func() (*http.Response, error)) (*http.Response, error) {
	via, err := x.p.requestProxy(joinAuthority(x.host, x.port, 80))
	if err != nil {
		return nil, err
	}
	res, err := send()
	if via == nil {
		return res, err
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return nil, &netguard.ProxyError{Proxy: via.Host, Cause: netguard.Cause(err), Timeout: isTimeout(err)}
	}
	// The child would take it for a 407 of ours, and its own token for wrong.
	if err == nil && res.StatusCode == http.StatusProxyAuthRequired {
		discard(res)
		return nil, netguard.ProxyRefusal(via, res)
	}
	return res, err
}
