package proxy

import (
	"bufio"
	"net/http"

	"github.com/authsome/authsome"
)

// blind connects the child with a host that no provider is for and passes the
// bytes on as they are. It returns a refusal, with br still the caller's, or
// true when the tunnel has come and gone.
func (p *Proxy) blind(c *childConn, br *bufio.Reader, to target, epoch int64) (*problem, bool) {
	if !p.limits.await(p.ctx, c.account, requests, 1) {
		return p.tell(c.account, &authsome.Request{Host: to.host, Port: to.port, Method: http.MethodConnect}, errRequests()), false
	}
	defer p.leave(c.account)
	up, err := p.dial(p.ctx, to.host, to.port, anyAddress)
	if err != nil {
		return p.upstreamProblem(err, to.host, to.port), false
	}
	if !c.tunnel.become(blind, to, up) ||
		p.registry.epoch.Load() != epoch && p.cfg.Resolver.Host(to.grant, to.host, to.port) != authsome.Tunnel ||
		p.endedSince(epoch, to.grant) {
		_ = up.Close()
		c.tunnel.become(pending, target{}, nil)
		// The next attempt is decided on anew.
		return problemf(upstreamUnreachable, "the routes changed while %s was being connected; try again", to.host), false
	}
	c.ahead = br
	if p.establish(c) == nil {
		_, _, _ = splice(c, c, up)
	}
	_ = up.Close()
	_ = c.Close()
	return nil, true
}
