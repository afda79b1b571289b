package broker

import (
	"slices"
	"strings"
	"sync"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// routing is what the requests of an owner's runs are looked up in. It is not
// changed once made.
type routing struct {
	connected *route.Table // providers with a connection
	// configured has all providers. It is made when a run's mode asks for it:
	// that takes longer than the rest of the daemon's start.
	configured func() *route.Table

	// What the tables were made of, for those of runs that are limited to some
	// providers: *routing by their names.
	entries  []route.Entry
	all      func() []route.Entry
	narrowed sync.Map
}

func newRouting(connected []route.Entry, all func() []route.Entry) (*routing, error) {
	r := &routing{entries: connected, all: all}
	var err error
	if r.connected, err = route.NewTable(connected); err != nil {
		return nil, authsome.E(authsome.Internal, "build the routing table: %w", err)
	}
	r.configured = sync.OnceValue(func() *route.Table {
		// A definition whose routes make no table is refused when it is read.
		t, _ := route.NewTable(all())
		return t
	})
	return r, nil
}

// of is the routing for a grant. One that is limited to some providers has
// tables without the others, rather than their answers thrown away: what
// another provider would have claimed may belong to one that is allowed.
func (r *routing) of(g *authsome.Grant) *routing {
	if len(g.Providers) == 0 {
		return r
	}
	key := strings.Join(g.Providers, ",") // which is in no name
	if n, ok := r.narrowed.Load(key); ok {
		return n.(*routing)
	}
	barred := func(e route.Entry) bool { return !g.Allows(e.Provider) }
	n, err := newRouting(slices.DeleteFunc(slices.Clone(r.entries), barred), func() []route.Entry {
		return slices.DeleteFunc(slices.Clone(r.all()), barred)
	})
	if err != nil {
		return &routing{} // cannot be, since all of them make a table; routes nothing
	}
	was, _ := r.narrowed.LoadOrStore(key, n)
	return was.(*routing)
}

// tables are what a grant's requests are looked up in: the providers with a
// connection, then, in the modes that route them, all; nil otherwise.
func (b *Broker) tables(g *authsome.Grant) (connected, configured *route.Table) {
	h := b.snapshot.Load().holdings[ownerOf(g.Identity)]
	if h == nil || h.routing == nil {
		return nil, nil
	}
	r := h.routing.of(g)
	if g.Mode.Configured() {
		return r.connected, r.configured()
	}
	return r.connected, nil
}
