package broker

import (
	"context"
	"slices"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

// DefaultLoginTimeout is how long a login waits for the person: the Python
// authsome's session life.
const DefaultLoginTimeout = 300 * time.Second

// MaxLoginTimeout bounds what --timeout may ask for.
const MaxLoginTimeout = 24 * time.Hour

// Begin starts a login. When the connection works already, has what is asked
// for, and Force is not set, the answer is completed with Already set and
// nothing is stored. A login by URL asks the site here how it wants to be logged
// in to, and an OAuth one registers here where it has to, so that what cannot
// work is said at once.
func (b *Broker) Begin(ctx context.Context, id authsome.Identity, req authsome.LoginRequest) (*authsome.Login, *authsome.Provider, error) {
	l, p, err := b.prepare(ctx, id, req)
	if err != nil || l.Already {
		if l == nil {
			return nil, nil, err
		}
		return &l.Login, p, err
	}
	b.sweepLogins(ctx)
	if waiting := b.waitingLogins(); waiting >= maxLogins {
		return nil, nil, authsome.E(authsome.Invalid, "log in to %s: %d logins are waiting to be finished", p.Name, waiting).
			WithHint("finish or cancel some in the browser, or wait until they time out")
	}
	if err := b.firstStep(ctx, id, l, p); err != nil {
		return nil, nil, b.explain(ctx, l, err)
	}
	if err := b.saveLogin(ctx, l); err != nil {
		return nil, nil, err
	}
	// The caller gets a copy: from here on the login changes under the lock.
	begun := l.Login
	b.logins.mu.Lock()
	b.logins.byID[l.ID] = l
	b.logins.mu.Unlock()
	b.await(l)
	return &begun, p, nil
}

// prepare checks what is asked for and makes a login of it that nobody knows of
// yet.
func (b *Broker) prepare(ctx context.Context, id authsome.Identity, req authsome.LoginRequest) (*login, *authsome.Provider, error) {
	if req.Connection == "" {
		req.Connection = authsome.DefaultConnection
	}
	var work loginWork
	var p *authsome.Provider
	var err error
	if req.AllowPrivate && req.URL != "" {
		if err := b.outsideRun(ctx, id, "approve a private address", "", ""); err != nil {
			return nil, nil, err
		}
	}
	if req.URL == "" {
		p, err = b.provider(req.Provider)
	} else {
		p, work, err = b.discover(ctx, &req)
	}
	if err != nil {
		return nil, nil, err
	}
	if !authsome.IsConnectionName(req.Connection) {
		return nil, nil, authsome.E(authsome.Invalid, "log in to %s: %s is no name for a connection", p.Name, quote(req.Connection, "what was given")).
			WithHint("use up to 64 letters, digits, dots, dashes, underscores or @, such as `--connection work`")
	}
	asked := req.Flow
	if req.Flow, err = chooseFlow(p, req.Flow); err != nil {
		return nil, nil, err
	}
	if req.AllowPrivate && len(flow.Form(p, req.Flow)) == 0 {
		// No page of ours says so to the person before something is sent there.
		if err := b.outsideRun(ctx, id, "approve a private address", p.Name, req.Connection); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case req.Timeout == 0:
		req.Timeout = DefaultLoginTimeout
	case req.Timeout < 0 || req.Timeout > MaxLoginTimeout:
		return nil, nil, authsome.E(authsome.Invalid, "log in to %s: a login may wait from 1 second to 24 hours", p.Name)
	}
	if req.BaseURL, err = ownAddress(p, req.BaseURL); err != nil {
		return nil, nil, err
	}
	now := b.Now().UTC()
	l := &login{changed: make(chan struct{}), work: work, Login: authsome.Login{
		ID: "sess_" + randomToken(16), Vault: id.Vault, User: id.User,
		Provider: p.Name, Connection: req.Connection, Flow: req.Flow, Force: req.Force,
		Scopes: req.Scopes, BaseURL: req.BaseURL, AllowPrivate: req.AllowPrivate,
		Status: authsome.LoginWaiting, Ticket: authsome.NewSecret(randomToken(32)),
		CreatedAt: now, ExpiresAt: now.Add(req.Timeout),
	}}
	h := b.snapshot.Load().of(ownerOf(id))
	x, err := h.find(p.Name, req.Connection)
	if err != nil {
		return l, p, nil
	}
	l.Replaced = true
	same := x.Status == authsome.Connected && b.current(p, x) && x.BaseURL == req.BaseURL &&
		(asked == "" || asked == x.Flow) && holdsAll(x.Scopes, req.Scopes)
	if same && !req.Force {
		l.Status, l.Already, l.Account = authsome.LoginCompleted, true, x.Account
		l.Default = h.byProvider[p.Name].deflt == x.Name
	}
	if req.Flow.OAuth() && x.Flow.OAuth() && len(req.Scopes) > 0 {
		// Asking for more keeps what there is.
		l.Scopes = union(x.Scopes, req.Scopes)
	}
	return l, p, nil
}

// ownAddress checks the address of a service that people host themselves. The
// vendor's own counts as none.
func ownAddress(p *authsome.Provider, baseURL string) (string, error) {
	if baseURL == "" {
		return "", nil
	}
	if p.OAuth == nil || p.OAuth.BaseURL == "" {
		return "", authsome.E(authsome.Invalid, "log in to %s: its definition knows no --base-url: the vendor alone hosts it", p.Name).
			WithHint("authsome login %s", p.Name)
	}
	o, err := flow.At(p.OAuth, baseURL)
	if err != nil {
		return "", err
	}
	if o.BaseURL == p.OAuth.BaseURL {
		return "", nil
	}
	return o.BaseURL, nil
}

// holdsAll reports whether have has every element of want.
func holdsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(have, s) })
}

// union is a with what b has besides.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (b *Broker) waitingLogins() int {
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	n := 0
	for _, l := range b.logins.byID {
		if !l.Status.Final() {
			n++
		}
	}
	return n
}

// current reports whether a connection may serve all that its provider's
// definition routes: one made before the definition moved may not, and a login
// without --force is then no repetition.
func (b *Broker) current(p *authsome.Provider, x *held) bool {
	r, err := b.unseal(x)
	if err != nil {
		return false
	}
	return holdsAll(r.Hosts, boundHosts(p, x.BaseURL))
}

func chooseFlow(p *authsome.Provider, f authsome.Flow) (authsome.Flow, error) {
	if len(p.Flows) == 0 {
		return "", authsome.E(authsome.Invalid, "log in to %s: its definition offers no way to log in that this version knows", p.Name).
			WithHint("authsome inspect %s", p.Name)
	}
	if f == "" {
		return p.Flows[0], nil
	}
	if !p.Accepts(f) {
		return "", authsome.E(authsome.Invalid, "log in to %s: it has no flow %s, only %v", p.Name, quote(string(f), "of that name"), p.Flows).
			WithHint("authsome login %s --flow %s", p.Name, p.Flows[0])
	}
	return f, nil
}

// SubmitFields hands over what the caller's login asks for: the key, or the
// credentials of an OAuth app. When a value is refused the error is of code
// Invalid and the login goes on waiting. The login that is returned may wait for
// its next step.
func (b *Broker) SubmitFields(ctx context.Context, id authsome.Identity, loginID string, fields map[string]authsome.Secret) (*authsome.Login, error) {
	if _, _, err := b.get(ctx, ownerOf(id), loginID); err != nil {
		return nil, err
	}
	return b.submit(ctx, id, loginID, fields)
}

// ConfirmLogin says for the caller that the authorization server on another site
// may be asked. It is refused to the descendants of a run: it is the person who
// must have seen the name.
func (b *Broker) ConfirmLogin(ctx context.Context, id authsome.Identity, loginID string) (*authsome.Login, error) {
	l, _, err := b.get(ctx, ownerOf(id), loginID)
	if err != nil {
		return nil, err
	}
	if err := b.outsideRun(ctx, id, "confirm an authorization server", l.Provider, l.Connection); err != nil {
		return nil, err
	}
	return b.confirm(ctx, loginID)
}

// AbortLogin cancels a waiting login of the caller's.
func (b *Broker) AbortLogin(ctx context.Context, id authsome.Identity, loginID string) error {
	if _, _, err := b.get(ctx, ownerOf(id), loginID); err != nil {
		return err
	}
	return b.cancel(ctx, loginID)
}

// Login returns the login that a browser's ticket opens.
func (b *Broker) Login(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, *authsome.Provider, error) {
	l, err := b.ticketed(ctx, loginID, ticket)
	if err != nil {
		return nil, nil, err
	}
	p := b.shown(l.ID)
	if p == nil {
		return nil, nil, authsome.E(authsome.ProviderNotFound, "the provider %s was removed while its login was waiting", l.Provider)
	}
	return l, p, nil
}

// Submit is SubmitFields for a browser's form.
func (b *Broker) Submit(ctx context.Context, loginID string, ticket authsome.Secret, fields map[string]authsome.Secret) (*authsome.Login, error) {
	l, err := b.ticketed(ctx, loginID, ticket)
	if err != nil {
		return nil, err
	}
	return b.submit(ctx, browserOf(l), loginID, fields)
}

// Confirm is ConfirmLogin for a browser's form.
func (b *Broker) Confirm(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, error) {
	if _, err := b.ticketed(ctx, loginID, ticket); err != nil {
		return nil, err
	}
	return b.confirm(ctx, loginID)
}

// CancelLogin cancels a waiting login from a browser.
func (b *Broker) CancelLogin(ctx context.Context, loginID string, ticket authsome.Secret) error {
	if _, err := b.ticketed(ctx, loginID, ticket); err != nil {
		return err
	}
	return b.cancel(ctx, loginID)
}

// browserOf is who acts in a browser: the login's own person.
func browserOf(l *authsome.Login) authsome.Identity {
	return authsome.Identity{Vault: l.Vault, User: l.User, Program: "browser"}
}

// ticketed finds a login by its ticket. A wrong ticket and an unknown login
// give the same answer.
func (b *Broker) ticketed(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, error) {
	b.logins.mu.Lock()
	l := b.logins.byID[loginID]
	ok := l != nil && !ticket.IsZero() && l.Ticket.Equal(ticket)
	b.logins.mu.Unlock()
	if !ok {
		return nil, unknownLogin()
	}
	c, _, err := b.get(ctx, owner{l.Vault, l.User}, loginID)
	return c, err
}

func (b *Broker) cancel(ctx context.Context, loginID string) error {
	b.logins.mu.Lock()
	l := b.logins.byID[loginID]
	b.logins.mu.Unlock()
	if l == nil {
		return unknownLogin()
	}
	return b.end(ctx, l, authsome.LoginCancelled, authsome.E(authsome.Cancelled, "log in to %s: cancelled", l.Provider))
}
