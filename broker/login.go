package broker

import (
	"context"
	"encoding/json"
	"regexp"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

// DefaultLoginTimeout is how long a login waits for the person: the Python
// authsome's session life.
const DefaultLoginTimeout = 300 * time.Second

// MaxLoginTimeout bounds what --timeout may ask for.
const MaxLoginTimeout = 24 * time.Hour

// maxLogins bounds the logins that may be waiting at once, since a process
// inside a run may start them.
const maxLogins = 256

// logins are those in progress, and those that ended lately, so that a browser
// tab can say how its login ended. Each is a sealed row too and survives a
// restart.
type logins struct {
	mu   sync.Mutex
	byID map[string]*login
}

// login is one login with what waits for it. Whose it is and what it is for never
// change and may be read by anybody; the rest only under the lock.
type login struct {
	authsome.Login
	version int64
	changed chan struct{} // closed and replaced at every change
}

// sealedLogin is the sealed form of a login.
//
//	{"v":1,"login":{…},"ticket":"…"}
type sealedLogin struct {
	Version int            `json:"v"`
	Login   authsome.Login `json:"login"`
	Ticket  string         `json:"ticket"`
}

// connectionName is what a connection may be called, at most maxName bytes.
var connectionName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._@-]*$`)

const maxName = 64

// Begin starts a login. When the connection works already and Force is not
// set, the answer is completed with Already set and nothing is stored.
func (b *Broker) Begin(ctx context.Context, id authsome.Identity, req authsome.LoginRequest) (*authsome.Login, *authsome.Provider, error) {
	p, err := b.provider(req.Provider)
	if err != nil {
		return nil, nil, err
	}
	if req.Connection == "" {
		req.Connection = authsome.DefaultConnection
	}
	if len(req.Connection) > maxName || !connectionName.MatchString(req.Connection) {
		return nil, nil, authsome.E(authsome.Invalid, "log in to %s: %s is no name for a connection", p.Name, quote(req.Connection, "what was given")).
			WithHint("use up to 64 letters, digits, dots, dashes, underscores or @, such as `--connection work`")
	}
	if req.Flow, err = chooseFlow(p, req.Flow); err != nil {
		return nil, nil, err
	}
	switch {
	case req.Timeout == 0:
		req.Timeout = DefaultLoginTimeout
	case req.Timeout < 0 || req.Timeout > MaxLoginTimeout:
		return nil, nil, authsome.E(authsome.Invalid, "log in to %s: a login may wait from 1 second to 24 hours", p.Name)
	}
	now := b.Now().UTC()
	l := &login{changed: make(chan struct{}), Login: authsome.Login{
		ID: "sess_" + randomToken(16), Vault: id.Vault, User: id.User,
		Provider: p.Name, Connection: req.Connection, Flow: req.Flow, Force: req.Force,
		Scopes: req.Scopes, BaseURL: req.BaseURL, AllowPrivate: req.AllowPrivate,
		Status: authsome.LoginWaiting, Ticket: authsome.NewSecret(randomToken(32)),
		CreatedAt: now, ExpiresAt: now.Add(req.Timeout),
	}}
	h := b.snapshot.Load().of(ownerOf(id))
	if x, err := h.find(p.Name, req.Connection); err == nil {
		l.Replaced = true
		if !req.Force && x.Status == authsome.Connected && b.current(p, x) {
			l.Status, l.Already = authsome.LoginCompleted, true
			l.Default = h.byProvider[p.Name].deflt == x.Name
			return &l.Login, p, nil
		}
	}
	b.sweepLogins(ctx)
	b.logins.mu.Lock()
	waiting := 0
	for _, other := range b.logins.byID {
		if !other.Status.Final() {
			waiting++
		}
	}
	b.logins.mu.Unlock()
	if waiting >= maxLogins {
		return nil, nil, authsome.E(authsome.Invalid, "log in to %s: %d logins are waiting to be finished", p.Name, waiting).
			WithHint("finish or cancel some in the browser, or wait until they time out")
	}
	if err := b.saveLogin(ctx, l); err != nil {
		return nil, nil, err
	}
	// The caller gets a copy: from here on the login changes under the lock.
	begun := l.Login
	b.logins.mu.Lock()
	b.logins.byID[l.ID] = l
	b.logins.mu.Unlock()
	return &begun, p, nil
}

// current reports whether a connection may serve all that its provider's
// definition routes: one made before the definition moved may not, and a login
// without --force is then no repetition.
func (b *Broker) current(p *authsome.Provider, x *held) bool {
	r, err := b.unseal(x)
	if err != nil {
		return false
	}
	have := map[string]bool{}
	for _, h := range r.Hosts {
		have[h] = true
	}
	for _, h := range boundHosts(p) {
		if !have[h] {
			return false
		}
	}
	return true
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

// saveLogin seals and stores a login as it is.
func (b *Broker) saveLogin(ctx context.Context, l *login, ev ...authsome.Event) error {
	row, err := b.sealLogin(l)
	if err != nil {
		return err
	}
	return b.Records.SaveLogin(ctx, l.Vault, row, ev...)
}

func (b *Broker) sealLogin(l *login) (authsome.SealedRow, error) {
	l.version++
	stored := sealedLogin{Version: 1, Login: l.Login, Ticket: l.Ticket.Reveal()}
	stored.Login.Ticket = authsome.Secret{}
	plain, err := json.Marshal(stored)
	if err != nil {
		return authsome.SealedRow{}, authsome.E(authsome.Internal, "store a login: %w", err)
	}
	defer clear(plain)
	sealed, err := b.Sealer.Seal(loginBinding(l.Vault, l.ID, l.version), plain)
	return authsome.SealedRow{ID: l.ID, User: l.User, Version: l.version, ExpiresAt: l.ExpiresAt.Unix(), Sealed: sealed}, err
}

func loginBinding(vault, id string, version int64) authsome.Binding {
	return authsome.Binding{Kind: "login", Vault: vault, Name: id, Version: version}
}

func (b *Broker) loadLogins(ctx context.Context) error {
	rows, err := b.Records.Logins(ctx, authsome.LocalVault)
	if err != nil {
		return err
	}
	var gone []string
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	for _, r := range rows {
		var s sealedLogin
		plain, err := b.Sealer.Unseal(loginBinding(authsome.LocalVault, r.ID, r.Version), r.Sealed)
		if err == nil {
			err = json.Unmarshal(plain, &s)
			clear(plain)
		}
		if err != nil || s.Version != 1 || b.Now().After(s.Login.ExpiresAt) {
			gone = append(gone, r.ID)
			continue
		}
		s.Login.Ticket = authsome.NewSecret(s.Ticket)
		b.logins.byID[r.ID] = &login{Login: s.Login, version: r.Version, changed: make(chan struct{})}
	}
	if len(gone) == 0 {
		return nil
	}
	return b.Records.DeleteLogins(ctx, authsome.LocalVault, gone...)
}

// sweepLogins forgets logins an hour after their time, and fails those whose
// time is over.
func (b *Broker) sweepLogins(ctx context.Context) {
	now := b.Now()
	var expired []*login
	var gone []string
	b.logins.mu.Lock()
	for id, l := range b.logins.byID {
		switch {
		case now.After(l.ExpiresAt.Add(time.Hour)):
			delete(b.logins.byID, id)
			gone = append(gone, id)
		case !l.Status.Final() && now.After(l.ExpiresAt):
			expired = append(expired, l)
		}
	}
	b.logins.mu.Unlock()
	for _, l := range expired {
		b.expire(ctx, l)
	}
	if len(gone) > 0 {
		if err := b.Records.DeleteLogins(ctx, authsome.LocalVault, gone...); err != nil {
			b.Logger.Warn("forget ended logins", "err", err)
		}
	}
}

// expire ends a login whose time is over.
func (b *Broker) expire(ctx context.Context, l *login) {
	err := b.end(ctx, l, authsome.LoginExpired, authsome.E(authsome.TimedOut,
		"log in to %s: nobody finished the login in time", l.Provider).
		WithHint("authsome login %s --connection %s", l.Provider, l.Connection))
	if err != nil {
		b.Logger.Warn("record an expired login", "login", l.ID, "err", err)
	}
}

// end gives a waiting login a final state that is no success. It tells those
// who wait even when the state cannot be stored: the person needs the answer.
func (b *Broker) end(ctx context.Context, l *login, status authsome.LoginStatus, cause *authsome.Error) error {
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	if l.Status.Final() {
		return nil
	}
	cause.Err = nil // the row keeps what people see
	next := *l
	next.Status, next.Err = status, cause
	ev := b.event(authsome.Identity{Vault: l.Vault, User: l.User}, authsome.EventLoginFailed, string(status))
	ev.Provider, ev.Connection, ev.Detail = l.Provider, l.Connection, cause.Message
	err := b.saveLogin(ctx, &next, ev)
	close(l.changed)
	l.changed = make(chan struct{})
	l.Status, l.Err, l.version = next.Status, next.Err, next.version
	return err
}

// get returns a copy of the login, after ending it if its time is over, and
// the channel that closes when it changes. Only its own owner finds it.
func (b *Broker) get(ctx context.Context, who owner, loginID string) (*authsome.Login, <-chan struct{}, error) {
	b.logins.mu.Lock()
	l := b.logins.byID[loginID]
	if l == nil || (owner{l.Vault, l.User}) != who {
		b.logins.mu.Unlock()
		return nil, nil, authsome.E(authsome.ConnectionNotFound, "there is no such login, or it ended long ago").
			WithHint("authsome login PROVIDER")
	}
	over := !l.Status.Final() && b.Now().After(l.ExpiresAt)
	b.logins.mu.Unlock()
	if over {
		b.expire(ctx, l)
	}
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	c := l.Login
	return &c, l.changed, nil
}

// LoginByID returns a login of the caller.
func (b *Broker) LoginByID(ctx context.Context, id authsome.Identity, loginID string) (*authsome.Login, *authsome.Provider, error) {
	l, _, err := b.get(ctx, ownerOf(id), loginID)
	if err != nil {
		return nil, nil, err
	}
	p, _ := b.Catalog.Get(l.Provider)
	return l, p, nil
}

// WaitLogin returns when the login has a final state or ctx ends, in which
// case the state is the one that it has then.
func (b *Broker) WaitLogin(ctx context.Context, id authsome.Identity, loginID string) (*authsome.Login, *authsome.Provider, error) {
	// The state is read, and an expiry stored, whether or not the caller's
	// patience has ended meanwhile.
	work := context.WithoutCancel(ctx)
	for {
		l, changed, err := b.get(work, ownerOf(id), loginID)
		if err != nil {
			return nil, nil, err
		}
		p, _ := b.Catalog.Get(l.Provider)
		if l.Status.Final() || ctx.Err() != nil {
			return l, p, nil
		}
		timer := time.NewTimer(max(l.ExpiresAt.Sub(b.Now()), 0) + time.Millisecond)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// SubmitFields finishes an API-key login of the caller's. When a value is
// refused the error is of code Invalid and the login goes on waiting.
func (b *Broker) SubmitFields(ctx context.Context, id authsome.Identity, loginID string, fields map[string]authsome.Secret) (*authsome.Login, error) {
	if _, _, err := b.get(ctx, ownerOf(id), loginID); err != nil {
		return nil, err
	}
	return b.submit(ctx, id, loginID, fields)
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
	p, ok := b.Catalog.Get(l.Provider)
	if !ok {
		return nil, nil, authsome.E(authsome.ProviderNotFound, "the provider %s was removed while its login was waiting", l.Provider)
	}
	return l, p, nil
}

// Submit finishes an API-key login from a browser's form; see SubmitFields.
func (b *Broker) Submit(ctx context.Context, loginID string, ticket authsome.Secret, fields map[string]authsome.Secret) (*authsome.Login, error) {
	l, err := b.ticketed(ctx, loginID, ticket)
	if err != nil {
		return nil, err
	}
	return b.submit(ctx, authsome.Identity{Vault: l.Vault, User: l.User, Program: "browser"}, loginID, fields)
}

// CancelLogin cancels a waiting login from a browser.
func (b *Broker) CancelLogin(ctx context.Context, loginID string, ticket authsome.Secret) error {
	if _, err := b.ticketed(ctx, loginID, ticket); err != nil {
		return err
	}
	return b.cancel(ctx, loginID)
}

// ticketed finds a login by its ticket. A wrong ticket and an unknown login
// give the same answer.
func (b *Broker) ticketed(ctx context.Context, loginID string, ticket authsome.Secret) (*authsome.Login, error) {
	b.logins.mu.Lock()
	l := b.logins.byID[loginID]
	ok := l != nil && !ticket.IsZero() && l.Ticket.Equal(ticket)
	b.logins.mu.Unlock()
	if !ok {
		return nil, authsome.E(authsome.ConnectionNotFound, "this login is not known, or is over").
			WithHint("authsome login PROVIDER")
	}
	c, _, err := b.get(ctx, owner{l.Vault, l.User}, loginID)
	return c, err
}

func (b *Broker) cancel(ctx context.Context, loginID string) error {
	b.logins.mu.Lock()
	l := b.logins.byID[loginID]
	b.logins.mu.Unlock()
	if l == nil {
		return authsome.E(authsome.ConnectionNotFound, "this login is not known, or is over").
			WithHint("authsome login PROVIDER")
	}
	return b.end(ctx, l, authsome.LoginCancelled, authsome.E(authsome.Cancelled, "log in to %s: cancelled", l.Provider))
}

// submit checks the fields, seals them and stores the connection, the login's
// end and the event in one transaction.
func (b *Broker) submit(ctx context.Context, id authsome.Identity, loginID string, fields map[string]authsome.Secret) (*authsome.Login, error) {
	l, err := b.finish(ctx, id, loginID, fields)
	if err == nil {
		b.changed()
	}
	return l, err
}

func (b *Broker) finish(ctx context.Context, id authsome.Identity, loginID string, fields map[string]authsome.Secret) (*authsome.Login, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	l := b.logins.byID[loginID]
	switch {
	case l == nil:
		return nil, authsome.E(authsome.ConnectionNotFound, "this login is not known, or is over")
	case l.Status.Final():
		return nil, authsome.E(authsome.AuthFailed, "log in to %s: this login is over (%s)", l.Provider, l.Status).
			WithHint("authsome login %s --connection %s", l.Provider, l.Connection)
	case l.Flow != authsome.FlowAPIKey:
		return nil, authsome.E(authsome.Invalid, "log in to %s: this login takes no key", l.Provider)
	}
	p, err := b.provider(l.Provider)
	if err != nil {
		return nil, err
	}
	cred, err := flow.Key(p, fields)
	if err != nil {
		return nil, err
	}
	who := owner{l.Vault, l.User}
	h := b.snapshot.Load().of(who).clone()
	now := b.Now().UTC()
	conn := authsome.Connection{
		Provider: p.Name, Name: l.Connection, AuthType: authsome.AuthAPIKey, Flow: l.Flow,
		Status: authsome.Connected, BaseURL: l.BaseURL, Hosts: boundHosts(p),
		ObtainedAt: now, CreatedAt: now, UpdatedAt: now, Version: 1,
	}
	makeDefault := l.Force
	a := h.byProvider[p.Name]
	if a == nil || a.deflt == "" {
		// The first login is the default, whatever its name.
		makeDefault = true
	}
	replaced := false
	if a != nil {
		if x := a.byName[l.Connection]; x != nil {
			conn.CreatedAt, conn.Version = x.CreatedAt, x.Version+1
			replaced = true
		}
	}
	conn.IsDefault = makeDefault || (a != nil && a.deflt == conn.Name)
	plain, err := newRecord(p, cred, l.AllowPrivate).marshal()
	if err != nil {
		return nil, authsome.E(authsome.Internal, "log in to %s: %w", p.Name, err)
	}
	sealed, err := b.Sealer.Seal(binding(l.Vault, l.User, &conn), plain)
	clear(plain)
	if err != nil {
		return nil, err
	}
	row := authsome.ConnectionRow{Connection: conn, Vault: l.Vault, User: l.User, Sealed: sealed}

	next := *l
	next.Status, next.Replaced, next.Default = authsome.LoginCompleted, replaced, conn.IsDefault
	loginRow, err := b.sealLogin(&next)
	if err != nil {
		return nil, err
	}
	ev := b.event(id, authsome.EventLogin, "ok")
	ev.Provider, ev.Connection, ev.Detail = p.Name, conn.Name, string(l.Flow)
	if err := b.Records.FinishLogin(ctx, row, makeDefault, loginRow, ev); err != nil {
		return nil, err
	}
	h.put(b.hold(row))
	if err := b.publish(who, h); err != nil {
		return nil, err
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.Status, l.Replaced, l.Default, l.version = next.Status, next.Replaced, next.Default, next.version
	c := l.Login
	return &c, nil
}
