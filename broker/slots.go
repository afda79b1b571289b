package broker

import (
	"net/http"
	"slices"

	"github.com/authsome/authsome"
)

// slots are the places of a service's credentials: those that any of its routes
// fills, and those that the route at hand says carry credentials too. All are
// emptied before one is filled, so that no second, stale credential rides along.
type slots struct {
	headers []string         // canonical
	strip   []authsome.Place // parameters and cookies
	// look are strip, and those in path and body that the route at hand fills, and
	// a signature that it makes: where the proxy has to look before it is clear what
	// a request wants.
	look []authsome.Place
}

// slotsOfAll are those of all of a provider's routes.
func slotsOfAll(p *authsome.Provider) *slots {
	s := &slots{}
	for _, r := range p.Routes {
		for _, in := range r.Inject {
			s.add(in)
		}
	}
	return s
}

// with adds those of one route. It leaves s as it is, and gives back s itself
// where there are none.
func (s *slots) with(r authsome.Route) *slots {
	n := &slots{headers: slices.Clip(s.headers), strip: slices.Clip(s.strip)}
	for _, in := range r.Inject {
		n.add(in)
	}
	for _, name := range r.Strip {
		n.header(name)
	}
	for _, name := range r.StripQuery {
		n.field(authsome.Place{Slot: authsome.SlotQuery, Name: name})
	}
	for _, name := range r.StripCookies {
		n.field(authsome.Place{Slot: authsome.SlotCookie, Name: name})
	}
	n.look = slices.Clip(n.strip)
	for _, in := range r.Inject {
		at := authsome.Place{Slot: in.Slot, Name: in.Name}
		if (in.Slot == authsome.SlotPath || in.Slot == authsome.SlotSigV4 || in.Slot.InBody()) && !slices.Contains(n.look, at) {
			n.look = append(n.look, at)
		}
	}
	if len(n.headers) == len(s.headers) && len(n.look) == len(s.look) {
		return s
	}
	return n
}

func (s *slots) add(in authsome.Injection) {
	switch in.Slot {
	case authsome.SlotHeader, authsome.SlotBasic:
		s.header(in.Name)
	case authsome.SlotQuery, authsome.SlotCookie:
		s.field(authsome.Place{Slot: in.Slot, Name: in.Name})
	}
}

func (s *slots) header(name string) {
	if name = http.CanonicalHeaderKey(name); name != "" && !slices.Contains(s.headers, name) {
		s.headers = append(s.headers, name)
	}
}

func (s *slots) field(at authsome.Place) {
	if !slices.Contains(s.strip, at) {
		s.strip = append(s.strip, at)
	}
}
