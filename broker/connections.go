package broker

import (
	"context"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

// View is a provider with the caller's connections, the default first and the
// others by name.
type View struct {
	Provider    *authsome.Provider
	Connections []authsome.Connection
}

// Removal says what a logout, revoke or remove did.
type Removal struct {
	Provider    string
	Connections []string // whose credentials were deleted
	Definition  bool     // a registered definition was deleted
	Notes       []string // one line each for the person
}

func ownerOf(id authsome.Identity) owner { return owner{id.Vault, id.User} }

// Providers lists every provider, by name.
func (b *Broker) Providers(id authsome.Identity) []View {
	h := b.snapshot.Load().of(ownerOf(id))
	all := b.Catalog.All()
	views := make([]View, 0, len(all))
	for _, p := range all {
		views = append(views, View{p, h.list(p.Name, b.Now())})
	}
	return views
}

// Provider returns one provider; the error for an unknown name gives the
// nearest known ones.
func (b *Broker) Provider(id authsome.Identity, name string) (View, error) {
	p, err := b.provider(name)
	if err != nil {
		return View{}, err
	}
	return View{p, b.snapshot.Load().of(ownerOf(id)).list(name, b.Now())}, nil
}

func (b *Broker) provider(name string) (*authsome.Provider, error) {
	if p, ok := b.Catalog.Get(name); ok {
		return p, nil
	}
	e := authsome.E(authsome.ProviderNotFound, "there is no provider %s", quote(name, "of that name"))
	if near := b.Catalog.Nearest(name); len(near) > 0 {
		return nil, e.WithHint("did you mean %s? `authsome list` shows all", strings.Join(near, ", "))
	}
	return nil, e.WithHint("`authsome list` shows all; `authsome register FILE` adds one")
}

// list returns the connections of a provider, the default first.
func (h *holdings) list(provider string, now time.Time) []authsome.Connection {
	a := h.byProvider[provider]
	if a == nil {
		return nil
	}
	out := make([]authsome.Connection, 0, len(a.byName))
	for _, x := range a.byName {
		c := x.shown(now)
		c.IsDefault = c.Name == a.deflt
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].IsDefault != out[j].IsDefault {
			return out[i].IsDefault
		}
		return out[i].Name < out[j].Name
	})
	return out
}

// shown is a connection with the status that it has now: a token that has ended
// and does not come back by itself is expired, whatever is stored.
func (x *held) shown(now time.Time) authsome.Connection {
	c := x.Connection
	if c.Status == authsome.Connected && !c.ExpiresAt.IsZero() && now.After(c.ExpiresAt) && (!c.Renewable || c.LastRefreshError != "") {
		c.Status = authsome.Expired
	}
	return c
}

// find returns one connection; name "" means the default.
func (h *holdings) find(provider, name string) (*held, error) {
	a := h.byProvider[provider]
	if a == nil || len(a.byName) == 0 {
		return nil, authsome.E(authsome.ConnectionNotFound, "%s is not connected", provider).
			WithHint("authsome login %s", provider)
	}
	if name == "" {
		if name = a.deflt; name == "" {
			return nil, authsome.E(authsome.ConnectionNotFound, "%s has no default connection", provider).
				WithHint("authsome set-default %s %s", provider, a.names()[0])
		}
	}
	if x := a.byName[name]; x != nil {
		return x, nil
	}
	return nil, authsome.E(authsome.ConnectionNotFound, "%s has no connection %s, only %s",
		provider, quote(name, "of that name"), strings.Join(a.names(), ", ")).
		WithHint("authsome login %s --connection NAME", provider)
}

func (a *accounts) names() []string {
	names := make([]string, 0, len(a.byName))
	for n := range a.byName {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Connection returns one connection and its provider; c "" means the default.
func (b *Broker) Connection(id authsome.Identity, p, c string) (authsome.Connection, *authsome.Provider, error) {
	x, def, err := b.lookup(id, p, c)
	if err != nil {
		return authsome.Connection{}, nil, err
	}
	conn := x.shown(b.Now())
	conn.IsDefault = b.snapshot.Load().of(ownerOf(id)).byProvider[p].deflt == conn.Name
	return conn, def, nil
}

// lookup finds a connection. Its provider may be nil: a registered definition
// can be broken or gone while its connections are still there to be removed.
func (b *Broker) lookup(id authsome.Identity, p, c string) (*held, *authsome.Provider, error) {
	h := b.snapshot.Load().of(ownerOf(id))
	if _, ok := h.byProvider[p]; !ok {
		if _, err := b.provider(p); err != nil {
			return nil, nil, err
		}
	}
	x, err := h.find(p, c)
	if err != nil {
		return nil, nil, err
	}
	def, _ := b.Catalog.Get(p)
	return x, def, nil
}

// FieldNames gives the names of a connection's fields: the value of those that
// are no secrets (an account id), "" for secrets.
func (b *Broker) FieldNames(id authsome.Identity, p, c string) (map[string]string, error) {
	x, _, err := b.lookup(id, p, c)
	if err != nil {
		return nil, err
	}
	r, err := b.unseal(x)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(r.Fields))
	for name, v := range r.Fields {
		if !slices.Contains(r.Public, name) {
			v = ""
		}
		out[name] = v
	}
	return out, nil
}

// Reveal gives a person the plaintext of one connection. It is refused to the
// descendants of a run.
func (b *Broker) Reveal(ctx context.Context, id authsome.Identity, p, c string) (authsome.Connection, *authsome.Credential, error) {
	if err := b.outsideRun(ctx, id, "show a secret", p, c); err != nil {
		return authsome.Connection{}, nil, err
	}
	x, _, err := b.lookup(id, p, c)
	if err != nil {
		return authsome.Connection{}, nil, err
	}
	r, err := b.unseal(x)
	if err != nil {
		return authsome.Connection{}, nil, err
	}
	ev := b.event(id, authsome.EventRevealed, "ok")
	ev.Provider, ev.Connection = x.Provider, x.Name
	if err := b.Records.Append(ctx, ev); err != nil {
		return authsome.Connection{}, nil, err
	}
	conn, _, err := b.Connection(id, p, x.Name)
	return conn, r.cred, err
}

// SetDefault makes c the connection that is used when none is named.
func (b *Broker) SetDefault(ctx context.Context, id authsome.Identity, p, c string) error {
	if err := b.setDefault(ctx, id, p, c); err != nil {
		return err
	}
	b.changed()
	return nil
}

func (b *Broker) setDefault(ctx context.Context, id authsome.Identity, p, c string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, _, err := b.lookup(id, p, c)
	if err != nil {
		return err
	}
	ev := b.event(id, authsome.EventDefaultSet, "ok")
	ev.Provider, ev.Connection = p, x.Name
	if err := b.Records.SetDefault(ctx, id.Vault, id.User, p, x.Name, ev); err != nil {
		return err
	}
	h := b.snapshot.Load().of(ownerOf(id)).clone()
	h.byProvider[p].deflt = x.Name
	return b.publish(ownerOf(id), h)
}

// Logout deletes one connection; c "" means the default. One that does not
// exist counts as logged out. An OAuth connection's tokens are then revoked at
// the service where that is possible; a service that cannot be reached changes
// nothing here.
func (b *Broker) Logout(ctx context.Context, id authsome.Identity, p, c string) (Removal, error) {
	out := Removal{Provider: p}
	x, _, err := b.lookup(id, p, c)
	if authsome.CodeOf(err) == authsome.ConnectionNotFound {
		out.Notes = append(out.Notes, "there was nothing to log out of")
		return out, nil
	}
	if err != nil {
		return out, err
	}
	// Not in the middle of a refresh, whose token would be left behind.
	unlock, err := b.Records.Lock(ctx, connectionLock(id.Vault, id.User, p, x.Name))
	if err != nil {
		return out, err
	}
	defer unlock()
	x, err = b.logout(ctx, id, p, x.Name, &out)
	if err == nil && x != nil {
		b.changed()
		out.Notes = append(out.Notes, b.withdraw(ctx, x)...)
	}
	return out, err
}

// logout deletes one connection and returns what it was; nil when it is gone
// meanwhile.
func (b *Broker) logout(ctx context.Context, id authsome.Identity, p, name string, out *Removal) (*held, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, _, err := b.lookup(id, p, name)
	if authsome.CodeOf(err) == authsome.ConnectionNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := b.snapshot.Load().of(ownerOf(id)).clone()
	a := h.byProvider[p]
	next, wasDefault := a.deflt, a.deflt == x.Name
	delete(a.byName, x.Name)
	if wasDefault {
		next = a.oldest()
	}
	ev := b.event(id, authsome.EventLogout, "ok")
	ev.Provider, ev.Connection = p, x.Name
	if err := b.Records.DeleteConnections(ctx, id.Vault, id.User, p, []string{x.Name}, next, ev); err != nil {
		return nil, err
	}
	out.Connections = []string{x.Name}
	if a.deflt = next; len(a.byName) == 0 {
		delete(h.byProvider, p)
	} else if wasDefault {
		out.Notes = append(out.Notes, "the default connection of "+p+" is now "+next)
	}
	return x, b.publish(ownerOf(id), h)
}

// oldest names the connection that was made first: the one that takes over
// when the default is logged out.
func (a *accounts) oldest() string {
	best := ""
	for _, name := range a.names() {
		if best == "" || a.byName[name].CreatedAt.Before(a.byName[best].CreatedAt) {
			best = name
		}
	}
	return best
}

// Revoke deletes all of the caller's connections of a provider, and nobody
// else's, and revokes their tokens as Logout does. The OAuth client stays: it is
// no account.
func (b *Broker) Revoke(ctx context.Context, id authsome.Identity, p string) (Removal, error) {
	return b.clearAndWithdraw(ctx, id, p, false)
}

// Remove is Revoke, and deletes the definition if it was registered. A bundled
// one stays.
func (b *Broker) Remove(ctx context.Context, id authsome.Identity, p string) (Removal, error) {
	if err := b.outsideRun(ctx, id, "remove a provider", p, ""); err != nil {
		return Removal{}, err
	}
	return b.clearAndWithdraw(ctx, id, p, true)
}

func (b *Broker) clearAndWithdraw(ctx context.Context, id authsome.Identity, p string, definition bool) (Removal, error) {
	if a := b.snapshot.Load().of(ownerOf(id)).byProvider[p]; a != nil {
		for _, name := range a.names() {
			unlock, err := b.Records.Lock(ctx, connectionLock(id.Vault, id.User, p, name))
			if err != nil {
				return Removal{Provider: p}, err
			}
			defer unlock()
		}
	}
	out, gone, err := b.clear(ctx, id, p, definition)
	if err != nil {
		return out, err
	}
	b.changed()
	// Side by side, so that a service that does not answer costs its time once.
	notes := make([][]string, len(gone))
	var wg sync.WaitGroup
	for i, x := range gone {
		wg.Go(func() { notes[i] = b.withdraw(ctx, x) })
	}
	wg.Wait()
	for i, lines := range notes {
		for _, line := range lines {
			out.Notes = append(out.Notes, gone[i].Name+": "+line)
		}
	}
	return out, nil
}

func (b *Broker) clear(ctx context.Context, id authsome.Identity, p string, definition bool) (_ Removal, gone []*held, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Removal{Provider: p}
	old := b.snapshot.Load().of(ownerOf(id))
	def, known := b.Catalog.Get(p)
	if _, connected := old.byProvider[p]; !known && !connected {
		_, err := b.provider(p)
		return out, nil, err
	}
	h := old.clone()
	if a := h.byProvider[p]; a != nil {
		names := a.names()
		events := make([]authsome.Event, len(names))
		for i, name := range names {
			events[i] = b.event(id, authsome.EventRevoked, "ok")
			events[i].Provider, events[i].Connection = p, name
		}
		if err := b.Records.DeleteConnections(ctx, id.Vault, id.User, p, names, "", events...); err != nil {
			return out, nil, err
		}
		for _, name := range names {
			gone = append(gone, a.byName[name])
		}
		delete(h.byProvider, p)
		out.Connections = names
	}
	if definition && known && def.Source == authsome.Custom {
		ev := b.event(id, authsome.EventDeleted, "ok")
		ev.Provider = p
		if err := b.Records.DeleteDefinition(ctx, id.Vault, p, ev); err != nil {
			return out, nil, err
		}
		b.Catalog.RemoveCustom(p)
		out.Definition = true
		if b.Catalog.Bundled(p) {
			out.Notes = append(out.Notes, "the bundled definition of "+p+" is in force again")
		}
	} else if definition {
		out.Notes = append(out.Notes, "the definition of "+p+" comes with authsome and stays")
	}
	return out, gone, b.publish(ownerOf(id), h)
}

// quote repeats a name in an error if it can be no key, and gives other words
// in its place otherwise: people paste keys where a name belongs, and errors end
// up in logs. Keys are longer than names.
func quote(name, instead string) string {
	if len(name) > 20 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return instead
	}
	return strconv.Quote(name)
}

// clip keeps a name from outside short in an error.
func clip(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
