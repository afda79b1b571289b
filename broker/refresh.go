package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

const (
	// refreshAhead is how long before its end a token is replaced, as in the
	// Python authsome; a quarter of its life where that is shorter, so that
	// tokens of a minute are not refreshed on every request.
	refreshAhead = 300 * time.Second
	// refreshAgain is how long after a failure the next try waits, while the old
	// token still works.
	refreshAgain = 30 * time.Second
	// refreshTime bounds one refresh, and lastRefresh what is left of it when
	// the daemon stops: what the server has sent by then is kept.
	refreshTime = 60 * time.Second
	lastRefresh = 5 * time.Second
	// rejectedAge is how old a token must be for a 401 to mean that it may have
	// ended early: a younger one is refused for another reason, such as a missing
	// scope, and refreshing would not help.
	rejectedAge = 30 * time.Second
	// recentUse is how long after its last use a connection counts as in use, and
	// is refreshed in the background; background is how often that is looked at.
	recentUse  = time.Hour
	background = 10 * time.Second
)

// refreshes are those under way, by connectionLock.
type refreshes struct {
	mu      sync.Mutex
	running map[string]*refreshing
	// unsaved are rows that a server has answered with and the store would not
	// take: with rotation the old token is worth nothing any more.
	unsaved map[string]unsaved
}

// unsaved is such a row, and the login that it is of.
type unsaved struct {
	row   authsome.ConnectionRow
	login string
}

// refreshing is one refresh; x and err are set before done closes.
type refreshing struct {
	done chan struct{}
	x    *held
	err  error
}

// due reports whether a token is close enough to its end to be replaced.
func (r *record) due(now time.Time) bool {
	if !r.renewable() || r.ExpiresAt.IsZero() {
		return false
	}
	ahead := refreshAhead
	if life := time.Duration(r.OAuth.Lifetime) * time.Second; life > 0 && life/4 < ahead {
		ahead = life / 4
	}
	return !now.Add(ahead).Before(r.ExpiresAt)
}

// lifetime is how long a token that has just come lives, in seconds. A part of a
// second counts as one: 0 would say that nothing is known.
func lifetime(expires, now time.Time) int64 {
	return int64((expires.Sub(now) + time.Second - 1) / time.Second)
}

// valid reports whether a token has not ended yet, as far as is known.
func (r *record) valid(now time.Time) bool {
	return r.ExpiresAt.IsZero() || now.Before(r.ExpiresAt)
}

// over reports whether so much time has passed since then. A time to come, which a
// clock that went wrong has left in the store, is no reason to wait for it.
func over(now, then time.Time, d time.Duration) bool {
	age := now.Sub(then)
	return age < 0 || age >= d
}

// fresh returns the connection with a credential that is good for a request.
// rejected is the version that the upstream has answered 401 to, or 0. A token
// that cannot be refreshed is used for as long as it is valid.
func (b *Broker) fresh(ctx context.Context, x *held, rejected int64) (*held, *record, error) {
	r, err := b.unseal(x)
	if err != nil || r.OAuth == nil {
		return x, r, err
	}
	now := b.Now()
	x.used.Store(now.Unix())
	refused := rejected != 0 && rejected == x.Version
	switch {
	case refused && r.renewable() && over(now, x.ObtainedAt, rejectedAge):
	case r.due(now) && (!r.valid(now) || over(now, x.LastRefreshAt, refreshAgain) || x.LastRefreshError == ""):
	case r.valid(now):
		return x, r, nil
	default:
		return x, r, b.ended(x, r)
	}
	next, err := b.refresh(ctx, x)
	switch {
	case err == nil:
		r, err = b.unseal(next)
		return next, r, err
	case ctx.Err() == nil && !refused && r.valid(now):
		return x, r, nil
	}
	return x, r, err
}

// ended says that a token is over and does not come back by itself.
func (b *Broker) ended(x *held, r *record) error {
	why := "has expired"
	if x.LastRefreshError != "" {
		why = "is over: " + x.LastRefreshError
	} else if r.OAuth.Dead {
		why = "is over: the service takes its refresh token no more"
	}
	return authsome.E(authsome.TokenExpired, "the login to %s (%s) %s", x.Provider, x.Name, why).
		WithHint("authsome login %s --connection %s --force", x.Provider, x.Name)
}

// refresh replaces the token of a connection, unless somebody else has done so
// since x was read. However many ask at once, in this process or in others on
// the same store, the server is asked once: with rotation, a second use of a
// refresh token ends the whole family (RFC 9700, section 4.14.2).
func (b *Broker) refresh(ctx context.Context, x *held) (*held, error) {
	key := connectionLock(x.row.Vault, x.row.User, x.Provider, x.Name)
	b.refreshes.mu.Lock()
	r := b.refreshes.running[key]
	if r == nil {
		r = &refreshing{done: make(chan struct{})}
		b.refreshes.running[key] = r
		// It belongs to nobody's request: one that goes away must not take the
		// rotated token with it.
		b.spawn(func(context.Context) {
			ctx, cancel := context.WithTimeout(b.last, refreshTime)
			defer cancel()
			r.x, r.err = b.refreshOnce(ctx, key, x)
			b.refreshes.mu.Lock()
			delete(b.refreshes.running, key)
			b.refreshes.mu.Unlock()
			close(r.done)
		})
	}
	b.refreshes.mu.Unlock()
	select {
	case <-r.done:
		return r.x, r.err
	case <-ctx.Done():
		return nil, authsome.E(authsome.RefreshFailed, "refresh the login to %s (%s): the request ended first", x.Provider, x.Name)
	}
}

func (b *Broker) refreshOnce(ctx context.Context, key string, x *held) (*held, error) {
	unlock, err := b.Records.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// What is stored now counts, not what was read before the lock.
	row, err := b.Records.Connection(ctx, x.row.Vault, x.row.User, x.Provider, x.Name)
	switch {
	case err != nil:
		return nil, err
	case row == nil:
		return nil, authsome.E(authsome.CredentialMissing, "%s (%s) was logged out of", x.Provider, x.Name).
			WithHint("authsome login %s --connection %s", x.Provider, x.Name)
	case row.Connection.Version != x.Version, !bytes.Equal(row.Sealed, x.row.Sealed):
		// The latter is another login after a logout, which counts from 1 again.
		return b.adopt(*row)
	}
	r, err := b.unseal(x)
	if err != nil {
		return nil, err
	}
	next, ok := b.takeUnsaved(key, r.OAuth.Login, row.Connection.Version+1)
	if !ok {
		next, err = b.askAnew(ctx, x, r)
	}
	// What came of it is stored, also when the time is over.
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return nil, b.refreshFailed(ctx, x, r, err)
	}
	ev := b.event(authsome.Identity{Vault: next.Vault, User: next.User}, authsome.EventRefreshed, "ok")
	ev.Provider, ev.Connection = x.Provider, x.Name
	// Committed before anything uses it.
	if err := b.Records.SaveConnection(ctx, next, false, ev); err != nil {
		b.refreshes.mu.Lock()
		b.refreshes.unsaved[key] = unsaved{next, r.OAuth.Login}
		b.refreshes.mu.Unlock()
		b.Logger.Error("store a refreshed token; it is kept in memory and tried again", "provider", x.Provider, "connection", x.Name, "err", err)
		return nil, authsome.E(authsome.RefreshFailed, "refresh the login to %s (%s): the new token could not be stored: %w", x.Provider, x.Name, err).
			WithHint("authsome doctor")
	}
	return b.adopt(next)
}

// takeUnsaved gives a row that could not be stored, when it still follows what
// is stored: the same login, which may have been replaced by one to another account.
func (b *Broker) takeUnsaved(key, login string, version int64) (authsome.ConnectionRow, bool) {
	b.refreshes.mu.Lock()
	defer b.refreshes.mu.Unlock()
	u := b.refreshes.unsaved[key]
	delete(b.refreshes.unsaved, key)
	return u.row, u.login == login && u.row.Connection.Version == version
}

// askAnew asks the server for a new token and seals it as the row's next version.
func (b *Broker) askAnew(ctx context.Context, x *held, r *record) (authsome.ConnectionRow, error) {
	var token *flow.Token
	var err error
	next := *r
	rec := *r.OAuth
	next.OAuth, next.Fields, next.patterns, next.cred = &rec, maps.Clone(r.Fields), nil, nil
	rec.Server = b.serverNow(x, r)
	rec.Client = b.clientNow(ctx, x.row.Vault, r)
	if len(rec.Source) > 0 {
		token, err = b.fromSource(ctx, x.Flow, &rec, x.Scopes, r.Private)
	} else {
		s := flow.Server{OAuth: rec.Server, App: rec.Client.client(), RedirectURI: rec.RedirectURI, Private: r.Private}
		// The scopes are left as they are (RFC 6749, section 6).
		token, err = b.Flow.Refresh(ctx, s, authsome.NewSecret(r.Fields[authsome.FieldRefreshToken]), nil)
	}
	if err != nil {
		return authsome.ConnectionRow{}, err
	}
	now := b.Now().UTC()
	next.Fields[authsome.FieldAccessToken] = token.Access.Reveal()
	if !token.Refresh.IsZero() {
		next.Fields[authsome.FieldRefreshToken] = token.Refresh.Reveal()
	}
	next.TokenType, next.ExpiresAt, rec.Lifetime = token.Type, token.ExpiresAt, 0
	if !token.ExpiresAt.IsZero() {
		rec.Lifetime = lifetime(token.ExpiresAt, now)
	}
	conn := x.Connection
	conn.Version++
	conn.Status, conn.ExpiresAt, conn.ObtainedAt, conn.UpdatedAt = authsome.Connected, token.ExpiresAt, now, now
	conn.LastRefreshAt, conn.LastRefreshError, conn.Renewable = now, "", next.renewable()
	if token.Scopes != nil {
		conn.Scopes = token.Scopes
	}
	return b.sealConnection(x.row.Vault, x.row.User, conn, &next)
}

// serverNow is the server that a connection's tokens come from. Addresses are
// the sealed ones; the rest may follow the definition when that still means the
// same addresses, so that what a newer version knows of a vendor's habits helps
// old logins too.
func (b *Broker) serverNow(x *held, r *record) authsome.OAuth {
	sealed := r.OAuth.Server
	p, ok := b.Catalog.Get(x.Provider)
	if !ok || p.OAuth == nil {
		return sealed
	}
	now, err := flow.At(p.OAuth, x.BaseURL)
	if err != nil || now.TokenURL != sealed.TokenURL || now.RevocationURL != sealed.RevocationURL ||
		now.AuthorizationURL != sealed.AuthorizationURL || now.Resource != sealed.Resource || now.Issuer != sealed.Issuer ||
		userInfoURL(&now) != userInfoURL(&sealed) {
		return sealed
	}
	return now
}

func userInfoURL(o *authsome.OAuth) string {
	if o.UserInfo == nil {
		return ""
	}
	return o.UserInfo.URL
}

// clientNow is the client that a connection was made with, with the secret that
// the person has given it since.
func (b *Broker) clientNow(ctx context.Context, vault string, r *record) sealedClient {
	c, err := b.clientOf(ctx, vault, &r.OAuth.Server)
	if err != nil || c == nil || c.ID != r.OAuth.Client.ID {
		return r.OAuth.Client
	}
	return sealClient(c)
}

// refreshFailed stores and records why there is no new token, and says so.
func (b *Broker) refreshFailed(ctx context.Context, x *held, r *record, cause error) error {
	dead := errors.Is(cause, flow.ErrInvalidGrant)
	why := cause.Error()
	e := authsome.E(authsome.RefreshFailed, "refresh the login to %s (%s): %s", x.Provider, x.Name, why)
	e.Err, e.Provider = cause, x.Provider
	switch {
	case dead:
		e.Code = authsome.TokenExpired
		e = e.WithHint("authsome login %s --connection %s --force", x.Provider, x.Name)
	case errors.Is(cause, flow.ErrInvalidClient):
		e = e.WithHint("authsome provider set-client %s, then authsome login %s --connection %s --force", x.Provider, x.Provider, x.Name)
	default:
		e = e.WithHint("try again; if it stays so: authsome login %s --connection %s --force", x.Provider, x.Name)
	}
	rec := *r.OAuth
	next := *r
	next.OAuth, rec.Dead = &rec, rec.Dead || dead
	conn := x.Connection
	conn.Version++
	conn.LastRefreshAt, conn.UpdatedAt, conn.LastRefreshError = b.Now().UTC(), b.Now().UTC(), why
	conn.Renewable = next.renewable()
	switch {
	case dead:
		conn.Status = authsome.Broken
	case !r.valid(b.Now()):
		conn.Status = authsome.Expired
	}
	ev := b.event(authsome.Identity{Vault: x.row.Vault, User: x.row.User}, authsome.EventRefreshFailed, "failed")
	ev.Provider, ev.Connection, ev.Detail = x.Provider, x.Name, why
	row, err := b.sealConnection(x.row.Vault, x.row.User, conn, &next)
	if err == nil {
		err = b.Records.SaveConnection(ctx, row, false, ev)
	}
	if err == nil {
		_, err = b.adopt(row)
	}
	if err != nil {
		b.Logger.Error("record a failed refresh", "provider", x.Provider, "connection", x.Name, "err", err)
	}
	return e
}

// adopt makes a stored row what requests are decided on. Streams that were
// opened before a refresh go on; those before another login do not.
func (b *Broker) adopt(row authsome.ConnectionRow) (*held, error) {
	x, relogin, err := b.swap(row)
	if relogin {
		b.changed()
	}
	return x, err
}

func (b *Broker) swap(row authsome.ConnectionRow) (x *held, relogin bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	who := owner{row.Vault, row.User}
	h := b.snapshot.Load().of(who).clone()
	c := row.Connection
	var old *held
	if a := h.byProvider[c.Provider]; a != nil {
		old = a.byName[c.Name]
	}
	if old != nil && old.Version > c.Version {
		return old, false, nil
	}
	x = b.hold(row)
	r, err := b.unseal(x)
	if err != nil {
		return nil, false, err
	}
	if old != nil {
		before, err := b.unseal(old)
		if err == nil && before.OAuth != nil && r.OAuth != nil && before.OAuth.Login == r.OAuth.Login {
			x.generation, x.used = old.generation, old.used
			x.IsDefault = false // where the default is has not changed
			h.put(x)
			now := b.snapshot.Load().of(who)
			h.routing = now.routing
			return x, false, b.publishAs(who, h)
		}
	}
	h.put(x)
	return x, true, b.publish(who, h)
}

// keepFresh refreshes what is in use before it ends, until ctx does.
func (b *Broker) keepFresh(ctx context.Context) {
	tick := time.NewTicker(background)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, x := range b.dueSoon() {
			if _, err := b.refresh(ctx, x); err != nil {
				b.Logger.Warn("refresh in the background", "provider", x.Provider, "connection", x.Name, "err", err)
			}
		}
	}
}

// dueSoon are the connections in use whose token is close to its end.
func (b *Broker) dueSoon() []*held {
	now := b.Now()
	var out []*held
	for _, h := range b.snapshot.Load().holdings {
		for _, a := range h.byProvider {
			for _, x := range a.byName {
				used := x.used.Load()
				if used == 0 || now.Sub(time.Unix(used, 0)) > recentUse {
					continue
				}
				r, err := b.unseal(x)
				if err != nil || !r.due(now) || x.LastRefreshError != "" && !over(now, x.LastRefreshAt, refreshAgain) {
					continue
				}
				out = append(out, x)
			}
		}
	}
	return out
}

// withdraw revokes a connection's tokens at the service, and says in one line
// each what came of it. The connection is deleted here already.
func (b *Broker) withdraw(ctx context.Context, x *held) []string {
	r, err := b.unseal(x)
	if err != nil || r.OAuth == nil {
		return nil
	}
	s := flow.Server{OAuth: b.serverNow(x, r), App: b.clientNow(ctx, x.row.Vault, r).client(), RedirectURI: r.OAuth.RedirectURI, Private: r.Private}
	host := hostOf(s.TokenURL)
	if s.RevocationURL == "" {
		until := "until it is revoked there"
		if !r.ExpiresAt.IsZero() && r.Fields[authsome.FieldRefreshToken] == "" {
			until = "until it expires"
		}
		return []string{fmt.Sprintf("deleted here; %s has no way to revoke a token, so it stays valid there %s", host, until)}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer cancel()
	var failed error
	revoked := false
	// The refresh token first: many servers end the whole grant with it (RFC
	// 7009, section 2.1).
	for _, f := range []string{authsome.FieldRefreshToken, authsome.FieldAccessToken} {
		token := r.Fields[f]
		if token == "" {
			continue
		}
		if err := b.Flow.Revoke(ctx, s, authsome.NewSecret(token), f); err != nil {
			failed = err
			continue
		}
		revoked = true
	}
	switch {
	case failed == nil:
		return []string{"revoked at " + hostOf(s.RevocationURL)}
	case revoked:
		return []string{fmt.Sprintf("revoked in part at %s: %s", hostOf(s.RevocationURL), failed)}
	default:
		return []string{fmt.Sprintf("deleted here, but not revoked at %s: %s; revoke it in the account's settings there", hostOf(s.RevocationURL), failed)}
	}
}

// withdrawTime bounds the revoking of one connection, as in the Python authsome.
const withdrawTime = 15 * time.Second
