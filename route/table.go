package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// Pattern is an exact host, or "*.example.com": one or more labels in front of
// example.com, never example.com itself nor evilexample.com.
type Pattern struct {
	host string // without "*."
	wild bool
}

// ParsePattern reads a pattern and normalises its host.
func ParsePattern(s string) (Pattern, error) {
	rest, wild := strings.CutPrefix(s, "*.")
	host, err := Host(rest)
	if err != nil {
		return Pattern{}, fmt.Errorf("host pattern %q: %w", s, err)
	}
	if wild {
		if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") {
			return Pattern{}, fmt.Errorf("host pattern %q: a wildcard needs a domain of two labels or more behind it", s)
		}
	}
	return Pattern{host, wild}, nil
}

// Match reports whether a normalised host is covered.
func (p Pattern) Match(host string) bool {
	if !p.wild {
		return host == p.host
	}
	n := len(host) - len(p.host)
	return n > 1 && host[n-1] == '.' && host[n:] == p.host
}

// String is the pattern as it is written.
func (p Pattern) String() string {
	if p.wild {
		return "*." + p.host
	}
	return p.host
}

// Entry is one route of one provider.
type Entry struct {
	Provider string
	Route    authsome.Route
	Data     any // the caller's own, given back by Match
}

// Result is the outcome of a Match.
type Result int

// The results. With Ambiguous, two providers claim the request alike and
// neither gets it.
const (
	None Result = iota
	Matched
	Excepted // the path is one that is never injected, such as an OAuth endpoint
	Ambiguous
	Unclear // servers differ in whether the path is this route's
)

// Table finds the route of a request in time that does not grow with the
// number of providers: by host, then, for wildcards, by each of its parent
// domains. It is not changed after NewTable, and may be used from any
// goroutine.
type Table struct {
	exact map[place][]claim
	wild  map[place][]claim // by the domain behind "*."
}

type place struct {
	host string
	port int
}

// claim is one entry as it is compared.
type claim struct {
	Entry
	prefix string // Route.Path without its last slash, "" for all paths
	// The same, and Route.Except, as loose reads them.
	loosePrefix string
	looseExcept []string
}

// NewTable builds a table. Hosts and paths are normalised; one that cannot be
// is an error that names the provider.
func NewTable(entries []Entry) (*Table, error) {
	t := &Table{exact: map[place][]claim{}, wild: map[place][]claim{}}
	for _, e := range entries {
		p, err := ParsePattern(e.Route.Host)
		if err != nil {
			return nil, fmt.Errorf("route of %s: %w", e.Provider, err)
		}
		path, err := Path(e.Route.Path)
		if err != nil {
			return nil, fmt.Errorf("route of %s: %w", e.Provider, err)
		}
		c := claim{Entry: e, prefix: strings.TrimSuffix(path, "/"), loosePrefix: strings.TrimSuffix(loose(path), "/")}
		for _, except := range e.Route.Except {
			c.looseExcept = append(c.looseExcept, loose(except))
		}
		at := place{p.host, port(e.Route.Port)}
		if p.wild {
			t.wild[at] = append(t.wild[at], c)
		} else {
			t.exact[at] = append(t.exact[at], c)
		}
	}
	return t, nil
}

func port(n int) int {
	if n == 0 {
		return 443
	}
	return n
}

// Host reports whether any route is on host:port; host is normalised.
func (t *Table) Host(host string, port int) bool {
	if len(t.exact[place{host, port}]) > 0 {
		return true
	}
	for domain, ok := parent(host); ok && len(t.wild) > 0; domain, ok = parent(domain) {
		if len(t.wild[place{domain, port}]) > 0 {
			return true
		}
	}
	return false
}

// Match finds the route of a request: the longest path prefix, then one that
// names the method over one that takes all, then an exact host over a wildcard
// and a longer wildcard over a shorter one. host and path are normalised.
//
// Servers differ in what "//", "%2F" and ";x" in a path mean (see loose). Where that
// makes a difference to the route, the request is nobody's; what some of them take
// for an excepted path is one.
func (t *Table) Match(host string, port int, method, path string) (Entry, Result) {
	best, _, tied := t.match(host, port, method, path, false)
	reading := path
	if odd(path) {
		reading = loose(path)
		other, _, otherTied := t.match(host, port, method, reading, true)
		switch {
		case other == best && otherTied == tied:
		case best == nil:
			return other.Entry, Unclear
		default:
			return best.Entry, Unclear
		}
	}
	switch {
	case best == nil:
		return Entry{}, None
	case tied:
		return best.Entry, Ambiguous
	case slices.Contains(best.Route.Except, path), len(reading) > 1 && slices.Contains(best.looseExcept, strings.TrimSuffix(reading, "/")):
		return best.Entry, Excepted
	default:
		return best.Entry, Matched
	}
}

// Same reports whether a request is the same route's under another method, which
// some servers take from a header instead.
func (t *Table) Same(host string, port int, method, other, path string) bool {
	a, _, _ := t.match(host, port, method, path, false)
	b, _, _ := t.match(host, port, other, path, false)
	if a != b || !odd(path) {
		return a == b
	}
	b, _, _ = t.match(host, port, other, loose(path), true) // see Match
	return a == b
}

// Candidates names the providers of an Ambiguous match, sorted.
func (t *Table) Candidates(host string, port int, method, path string) []string {
	best, among, tied := t.match(host, port, method, path, false)
	if !tied {
		return nil
	}
	var names []string
	for i := range among {
		if c := &among[i]; c.covers(method, path, c.prefix) && !c.beats(best) && !best.beats(c) {
			names = append(names, c.Provider)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// match finds the best claim, the claims of the same pattern that it is among,
// and whether another provider's is as good. It runs for every request and
// allocates nothing.
func (t *Table) match(host string, port int, method, path string, loosely bool) (best *claim, among []claim, tied bool) {
	look := func(claims []claim) {
		for i := range claims {
			c := &claims[i]
			prefix := c.prefix
			if loosely {
				prefix = c.loosePrefix
			}
			if !c.covers(method, path, prefix) {
				continue
			}
			switch {
			case best == nil || c.beats(best):
				best, among, tied = c, claims, false
			case best.beats(c):
			// As good, but the pattern that was looked at before is the more
			// specific one.
			case &among[0] != &claims[0]:
			case c.Provider != best.Provider:
				tied = true
			}
		}
	}
	look(t.exact[place{host, port}])
	for domain, ok := parent(host); ok && len(t.wild) > 0; domain, ok = parent(domain) {
		look(t.wild[place{domain, port}])
	}
	return best, among, tied
}

// parent cuts the first label off.
func parent(host string) (string, bool) {
	_, domain, ok := strings.Cut(host, ".")
	return domain, ok
}

// covers reports whether a request of the claim's host is the claim's: its path
// lies under the prefix, at a segment boundary, and its method is named.
func (c *claim) covers(method, path, prefix string) bool {
	if n := len(prefix); n > 0 && (!strings.HasPrefix(path, prefix) || len(path) > n && path[n] != '/') {
		return false
	}
	return len(c.Route.Methods) == 0 || slices.Contains(c.Route.Methods, method)
}

// beats reports whether c says more of a request's path and method than o; both
// cover it.
func (c *claim) beats(o *claim) bool {
	if len(c.prefix) != len(o.prefix) {
		return len(c.prefix) > len(o.prefix)
	}
	return len(c.Route.Methods) > 0 && len(o.Route.Methods) == 0
}
