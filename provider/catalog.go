package provider

import (
	"embed"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/authsome/authsome"
)

//go:embed defs/*.jsonc
var defs embed.FS

// Catalog holds the bundled providers and the registered ones over them. It
// may be used from any goroutine.
type Catalog struct {
	bundled map[string]func() *authsome.Provider

	mu     sync.RWMutex
	custom map[string]*authsome.Provider
	sorted []*authsome.Provider // nil when it has to be made anew
}

// bundled are the definitions by name, each parsed once per process, when it is
// asked for: most people use a few, and all of them take longer to read than
// anything else that the daemon does before it answers. That each can be read is
// for the tests to say; one that could not would be missing.
var bundled = sync.OnceValue(func() map[string]func() *authsome.Provider {
	entries, _ := defs.ReadDir("defs") // in memory: cannot fail
	out := make(map[string]func() *authsome.Provider, len(entries))
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".jsonc")
		out[name] = sync.OnceValue(func() *authsome.Provider {
			data, _ := defs.ReadFile("defs/" + name + ".jsonc")
			p, err := Parse(name+".jsonc", data)
			if err != nil || p.Name != name {
				return nil
			}
			return p
		})
	}
	return out
})

// NewCatalog makes a catalog of the bundled providers.
func NewCatalog() *Catalog {
	return &Catalog{bundled: bundled(), custom: map[string]*authsome.Provider{}}
}

// Get finds a provider; a registered one is in front of a bundled one.
func (c *Catalog) Get(name string) (*authsome.Provider, bool) {
	c.mu.RLock()
	p, ok := c.custom[name]
	c.mu.RUnlock()
	if ok {
		return p, true
	}
	if parse := c.bundled[name]; parse != nil {
		p = parse()
	}
	return p, p != nil
}

// All lists the providers by name. The list is not to be changed.
func (c *Catalog) All() []*authsome.Provider {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sorted == nil {
		c.sorted = make([]*authsome.Provider, 0, len(c.bundled)+len(c.custom))
		for name, parse := range c.bundled {
			if _, shadowed := c.custom[name]; shadowed {
				continue
			}
			if p := parse(); p != nil {
				c.sorted = append(c.sorted, p)
			}
		}
		for _, p := range c.custom {
			c.sorted = append(c.sorted, p)
		}
		sort.Slice(c.sorted, func(i, j int) bool { return c.sorted[i].Name < c.sorted[j].Name })
	}
	return c.sorted
}

// SetCustom adds or replaces a registered provider.
func (c *Catalog) SetCustom(p *authsome.Provider) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.custom[p.Name], c.sorted = p, nil
}

// RemoveCustom takes a registered provider away, and reports whether there was
// one.
func (c *Catalog) RemoveCustom(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.custom[name]
	delete(c.custom, name)
	c.sorted = nil
	return ok
}

// Bundled reports whether a definition of that name comes with authsome.
func (c *Catalog) Bundled(name string) bool {
	_, ok := c.bundled[name]
	return ok
}

// Nearest gives up to three names that somebody who wrote name may have meant.
func (c *Catalog) Nearest(name string) []string {
	type near struct {
		name string
		d    int
	}
	name = strings.ToLower(name)
	if len(name) > 64 {
		return nil
	}
	var found []near
	for _, p := range c.All() {
		d := distance(name, strings.ToLower(p.Name))
		if strings.Contains(p.Name, name) && len(name) > 2 {
			d = min(d, 1)
		}
		if d <= max(1, len(name)/3) {
			found = append(found, near{p.Name, d})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return a.d - b.d })
	var out []string
	for _, n := range found[:min(3, len(found))] {
		out = append(out, n.name)
	}
	return out
}

// distance is Damerau's: insertions, deletions, substitutions, and swaps of
// neighbours, each counting one.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
