package broker

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

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
	work    loginWork
	version int64
	busy    bool          // a step is being taken, which another must not take too
	changed chan struct{} // closed and replaced at every change
}

// loginWork is what a login by OAuth has to remember until it is over.
type loginWork struct {
	Server *authsome.OAuth `json:"server,omitempty"` // {base_url} filled in
	Client sealedClient    `json:"client,omitzero"`
	// NewClient says that Client is to be kept once it has proven itself.
	NewClient bool          `json:"new_client,omitempty"`
	State     string        `json:"state,omitempty"` // empty again once it has been used
	Verifier  string        `json:"verifier,omitempty"`
	Device    *sealedDevice `json:"device,omitempty"`
	// Definition is the provider that a login by URL has found. It is registered
	// when the login has come to a good end.
	Definition []byte `json:"definition,omitempty"`
	// Again is the command that starts a login by URL anew: its provider is not
	// known by name before that.
	Again string `json:"again,omitempty"`

	found *authsome.Provider // Definition, parsed
}

// again is the command that starts a login anew.
func (l *login) again() string {
	again := l.work.Again
	switch {
	case again == "":
		again = "authsome login " + l.Provider + " --connection " + l.Connection
	case l.Connection != authsome.DefaultConnection:
		again += " --connection " + l.Connection
	}
	return again
}

// sealedDevice is the sealed form of a flow.Device.
type sealedDevice struct {
	Code                    string        `json:"code"`
	UserCode                string        `json:"user_code"`
	VerificationURL         string        `json:"verification_url"`
	VerificationURLComplete string        `json:"verification_url_complete,omitempty"`
	ExpiresAt               time.Time     `json:"expires_at"`
	Interval                time.Duration `json:"interval"`
}

// sealedLogin is the sealed form of a login.
//
//	{"v":1,"login":{…},"ticket":"…","work":{…}}
type sealedLogin struct {
	Version int            `json:"v"`
	Login   authsome.Login `json:"login"`
	Ticket  string         `json:"ticket"`
	Work    loginWork      `json:"work,omitzero"`
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
	stored := sealedLogin{Version: 1, Login: l.Login, Ticket: l.Ticket.Reveal(), Work: l.work}
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

// loadLogins goes on with the logins that the last daemon left. One that had
// sent its code to the server cannot know whether that arrived, and a code works
// once (RFC 6749, section 4.1.2), so it is over.
func (b *Broker) loadLogins(ctx context.Context) error {
	interrupted, gone, err := b.readLogins(ctx)
	if err != nil {
		return err
	}
	for _, l := range interrupted {
		err := b.end(ctx, l, authsome.LoginFailed, authsome.E(authsome.AuthFailed,
			"log in to %s: the daemon was stopped while the service was answering", l.Provider).
			WithHint("%s", l.again()))
		if err != nil {
			return err
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return b.Records.DeleteLogins(ctx, authsome.LocalVault, gone...)
}

func (b *Broker) readLogins(ctx context.Context) (interrupted []*login, gone []string, err error) {
	rows, err := b.Records.Logins(ctx, authsome.LocalVault)
	if err != nil {
		return nil, nil, err
	}
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
		l := &login{Login: s.Login, work: s.Work, version: r.Version, changed: make(chan struct{})}
		if len(s.Work.Definition) > 0 {
			if l.work.found, err = b.Parse(s.Login.Provider, s.Work.Definition); err != nil {
				gone = append(gone, r.ID)
				continue
			}
		}
		b.logins.byID[r.ID] = l
		if !l.Status.Final() && l.Step == authsome.StepWorking {
			interrupted = append(interrupted, l)
		}
	}
	return interrupted, gone, nil
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
		WithHint("%s", l.again()))
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
	l.forget()
	return err
}

// forget drops what a login that is over needs no more. The row keeps it until it
// is deleted, sealed.
func (l *login) forget() {
	l.Step, l.Form, l.AuthorizeURL = "", nil, ""
	l.work = loginWork{Definition: l.work.Definition, found: l.work.found}
}

// update changes a waiting login, stores it and tells those who wait.
func (b *Broker) update(ctx context.Context, l *login, change func(next *login)) error {
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	if l.Status.Final() {
		return overAlready(&l.Login)
	}
	next := *l
	change(&next)
	if err := b.saveLogin(ctx, &next); err != nil {
		return err
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.Login, l.work, l.version = next.Login, next.work, next.version
	return nil
}

func overAlready(l *authsome.Login) error {
	return authsome.E(authsome.AuthFailed, "log in to %s: this login is over (%s)", l.Provider, l.Status).
		WithHint("authsome login %s --connection %s", l.Provider, l.Connection)
}

// take claims a login for one step, so that a form that is sent twice, or a
// callback that comes twice, is acted on once. The caller releases it. view is
// the login as it is now: it may be cancelled at any time.
func (b *Broker) take(loginID string, steps ...authsome.LoginStep) (l *login, view login, err error) {
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	l = b.logins.byID[loginID]
	switch {
	case l == nil:
		return nil, login{}, unknownLogin()
	case l.Status.Final():
		return nil, login{}, overAlready(&l.Login)
	case l.busy:
		return nil, login{}, authsome.E(authsome.Invalid, "log in to %s: the last answer is still being worked on", l.Provider)
	case !slices.Contains(steps, l.Step):
		return nil, login{}, authsome.E(authsome.Invalid, "log in to %s: this login does not wait for that", l.Provider)
	}
	l.busy = true
	return l, *l, nil
}

func (b *Broker) release(l *login) {
	b.logins.mu.Lock()
	l.busy = false
	b.logins.mu.Unlock()
}

func unknownLogin() error {
	return authsome.E(authsome.ConnectionNotFound, "this login is not known, or is over").
		WithHint("authsome login PROVIDER")
}

// loginProvider is the provider that a login is for: the one that it found
// itself, or the catalog's.
func (b *Broker) loginProvider(l *login) (*authsome.Provider, error) {
	if l.work.found != nil {
		return l.work.found, nil
	}
	return b.provider(l.Provider)
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
	return l, b.shown(l.ID), nil
}

// shown is a login's provider for those who show it; nil when it is gone.
func (b *Broker) shown(loginID string) *authsome.Provider {
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	l := b.logins.byID[loginID]
	if l == nil {
		return nil
	}
	if l.work.found != nil {
		return l.work.found
	}
	p, _ := b.Catalog.Get(l.Provider)
	return p
}

// WaitLogin returns when the login has a final state, waits for another step
// than it did, or ctx ends; the state is the one that it has then.
func (b *Broker) WaitLogin(ctx context.Context, id authsome.Identity, loginID string) (*authsome.Login, *authsome.Provider, error) {
	// The state is read, and an expiry stored, whether or not the caller's
	// patience has ended meanwhile.
	var step authsome.LoginStep
	work := context.WithoutCancel(ctx)
	for first := true; ; first = false {
		l, changed, err := b.get(work, ownerOf(id), loginID)
		if err != nil {
			return nil, nil, err
		}
		if first {
			step = l.Step
		}
		if l.Status.Final() || l.Step != step || ctx.Err() != nil {
			return l, b.shown(l.ID), nil
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
