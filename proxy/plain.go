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

// plain carries out a request for an http:// URL: as it is, never with a
// credential, and never with a placeholder, which would show on the wire where
// somebody tries to have one replaced.
func (p *Proxy) plain(w http.ResponseWriter, r *http.Request, c *childConn) {
	if r.Method == http.MethodConnect {
		p.connectLate(w, r, c)
		return
	}
	epoch := p.registry.epoch.Load()
	token, ok := proxyToken(r.Header)
	if !ok {
		errToken().write(w)
		return
	}
	g, ok := p.cfg.Resolver.Grant(token)
	if !ok {
		errToken().write(w)
		return
	}
	raw, ok := originForm(r, "http")
	if !ok || strings.HasPrefix(r.RequestURI, "/") {
		problemf(badRequest, "this is a proxy: send CONNECT host:port for https, or the whole http:// URL").write(w)
		return
	}
	host, port, err := parseAuthority(r.URL.Host, 80)
	if err != nil {
		problemf(badRequest, "the URL names no valid host").write(w)
		return
	}
	if host == authsome.SelfCheckHost {
		selfCheck(w)
		return
	}
	x := &exchange{p: p, w: w, r: r, c: c, target: target{g, host, port}, scheme: "http", started: time.Now(), res: &authsome.Resolution{Verdict: authsome.Forward}}
	x.path, x.query, x.asked = strings.Cut(raw, "?")
	x.upgrade = upgradeOf(r)
	x.trailers = hasToken(r.Header["Te"], "trailers")
	removeHopByHop(r.Header)
	x.body = newBody(r, false)
	refuse := func(prob *problem) {
		req := &authsome.Request{Host: host, Port: port, Method: r.Method, Path: x.path, Header: r.Header, ID: p.requestID()}
		p.cfg.Resolver.Finish(g, req, nil, authsome.Outcome{Status: prob.status(), Err: prob.Message, Duration: time.Since(x.started)})
		prob.write(w)
	}
	if g.Mode.Denies() {
		refuse(&problem{Code: denied, Host: host, Message: "this run refuses http:// requests: no credential is for them"})
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
func (x *exchange) sendPlain(over func(*http.Transport) (*http.Response, error), t *http.Transport) (*http.Response, error) {
	via, err := x.p.requestProxy(joinAuthority(x.host, x.port, 80))
	if err != nil {
		return nil, err
	}
	res, err := over(t)
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
