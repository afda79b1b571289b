package route

import (
	"errors"
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
)

// Table finds the route of a request in time that does not grow with the
// number of providers: by host, then, for wildcards, by each of its parent
// domains. It is not changed after NewTable.
type Table struct {
	exact map[place][]Entry
	wild  map[place][]Entry
}

type place struct {
	host string
	port int
}

// NewTable builds a table.
func NewTable(entries []Entry) (*Table, error) {
	t := &Table{exact: map[place][]Entry{}, wild: map[place][]Entry{}}
	for _, e := range entries {
		p, err := ParsePattern(e.Route.Host)
		if err != nil {
			return nil, fmt.Errorf("route of %s: %w", e.Provider, err)
		}
		if e.Route.Path != "" && e.Route.Path[0] != '/' {
			return nil, errors.New("route of " + e.Provider + ": its path does not begin with a slash")
		}
		at := place{p.host, port(e.Route.Port)}
		if p.wild {
			t.wild[at] = append(t.wild[at], e)
		} else {
			t.exact[at] = append(t.exact[at], e)
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

// candidates calls f with the entries of each pattern that covers the host,
// exact ones first, then wildcards from the longest.
func (t *Table) candidates(host string, n int, f func([]Entry) bool) {
	if es := t.exact[place{host, n}]; len(es) > 0 && !f(es) {
		return
	}
	if len(t.wild) == 0 {
		return
	}
	for i := strings.IndexByte(host, '.'); i >= 0; {
		if es := t.wild[place{host[i+1:], n}]; len(es) > 0 && i > 0 && !f(es) {
			return
		}
		next := strings.IndexByte(host[i+1:], '.')
		if next < 0 {
			return
		}
		i += 1 + next
	}
}

// Host reports whether any route is on host:port; both are normalised.
func (t *Table) Host(host string, n int) bool {
	found := false
	t.candidates(host, n, func([]Entry) bool { found = true; return false })
	return found
}

// Match finds the route of a request: the longest path prefix, then one that
// names the method over one that takes all, then an exact host over a
// wildcard. host and path are normalised.
func (t *Table) Match(host string, n int, method, path string) (Entry, Result) {
	best, _, result := t.match(host, n, method, path)
	return best, result
}

// Candidates names the providers of an Ambiguous match.
func (t *Table) Candidates(host string, n int, method, path string) []string {
	_, names, _ := t.match(host, n, method, path)
	return names
}

func (t *Table) match(host string, n int, method, path string) (best Entry, tied []string, result Result) {
	var top rank
	depth := 0
	t.candidates(host, n, func(es []Entry) bool {
		depth--
		for _, e := range es {
			if !under(path, e.Route.Path) || len(e.Route.Methods) > 0 && !slices.Contains(e.Route.Methods, method) {
				continue
			}
			r := rank{len(strings.TrimSuffix(e.Route.Path, "/")), len(e.Route.Methods) > 0, depth}
			switch c := r.compare(top); {
			case result == None || c > 0:
				best, top, result, tied = e, r, Matched, []string{e.Provider}
			case c == 0 && !slices.Contains(tied, e.Provider):
				result, tied = Ambiguous, append(tied, e.Provider)
			}
		}
		return true
	})
	if result == Matched && slices.Contains(best.Route.Except, path) {
		return best, nil, Excepted
	}
	slices.Sort(tied)
	return best, tied, result
}

// rank orders the routes that cover a request.
type rank struct {
	path   int
	method bool
	host   int // the more specific the pattern, the higher
}

func (r rank) compare(o rank) int {
	switch {
	case r.path != o.path:
		return r.path - o.path
	case r.method != o.method:
		if r.method {
			return 1
		}
		return -1
	default:
		return r.host - o.host
	}
}

// under reports whether path lies under prefix, at a segment boundary.
func under(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return prefix == "" || path == prefix || len(path) > len(prefix) && path[len(prefix)] == '/' && path[:len(prefix)] == prefix
}
