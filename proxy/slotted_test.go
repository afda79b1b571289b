package proxy_test

import (
	"context"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
)

// slotted is the tests' broker with routes whose credential goes elsewhere than
// onto the request.
type slotted struct {
	*broker
	hosts map[string]func(*authsome.Request) *authsome.Resolution
}

func (s *slotted) Resolve(ctx context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	res, err := s.broker.Resolve(ctx, g, req)
	of := s.hosts[req.Host]
	if err != nil || of == nil {
		return res, err
	}
	own := of(req)
	if own == nil {
		return res, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own.Verdict, own.Provider, own.Private = authsome.Inject, "slotted", true
	if own.Connection == "" {
		own.Connection = authsome.DefaultConnection
	}
	own.Generation = s.accounts["slotted"].generation
	return own, nil
}

// newSlotted is a world with such routes.
func newSlotted(t testing.TB, hosts map[string]func(*authsome.Request) *authsome.Resolution, opts ...option) *world {
	t.Helper()
	w := newWorld(t, append([]option{func(w *world, c *proxy.Config) { c.Resolver = &slotted{w.broker, hosts} }}, opts...)...)
	entries := bundled()
	for host := range hosts {
		entries = append(entries, route.Entry{Provider: "slotted", Route: authsome.Route{Host: host}})
	}
	w.broker.routes(entries...)
	w.broker.set("slotted", &account{private: true})
	return w
}
