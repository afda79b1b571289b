package proxy

import (
	"net/http"
	"strings"
	"time"

	"github.com/authsome/authsome"
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
