package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

// outcome is what a login has obtained.
type outcome struct {
	cred    *authsome.Credential
	oauth   *oauthRecord // nil for a key
	scopes  []string
	account authsome.Account
	notes   []string
}

// fromFields turns what a person typed into a credential: the key itself, or a
// token that it is good for.
func (b *Broker) fromFields(ctx context.Context, v *login, p *authsome.Provider, given map[string]authsome.Secret) (*outcome, error) {
	if v.Flow == authsome.FlowAPIKey {
		cred, err := flow.Key(p, given)
		return &outcome{cred: cred}, err
	}
	fields, err := flow.Fields(p.Name, v.Form, given)
	if err != nil {
		return nil, err
	}
	o, err := flow.At(p.OAuth, v.BaseURL)
	if err != nil {
		return nil, err
	}
	rec := &oauthRecord{Server: o, Login: v.ID, Source: map[string]string{}}
	for name, value := range fields {
		rec.Source[name] = value.Reveal()
	}
	scopes := v.Scopes
	if len(scopes) == 0 {
		scopes = o.Scopes
	}
	token, err := b.fromSource(ctx, v.Flow, rec, scopes, v.AllowPrivate)
	if err != nil {
		return nil, err
	}
	return b.tokenOutcome(ctx, v, token, rec, scopes), nil
}

// fromSource gets a token in a flow that needs no person.
func (b *Broker) fromSource(ctx context.Context, f authsome.Flow, rec *oauthRecord, scopes []string, private bool) (*flow.Token, error) {
	s := flow.Server{OAuth: rec.Server, Private: private}
	source := func(name string) authsome.Secret { return authsome.NewSecret(rec.Source[name]) }
	switch f {
	case authsome.FlowClientCredentials:
		s.App = authsome.OAuthClient{ID: rec.Source[authsome.FieldClientID], Secret: source(authsome.FieldClientSecret), Key: source(authsome.FieldPrivateKey)}
		return b.Flow.ClientCredentials(ctx, s, scopes)
	case authsome.FlowServiceAccount:
		return b.Flow.ServiceAccount(ctx, s, source(authsome.FieldServiceAccount), scopes)
	case authsome.FlowGitHubApp:
		return b.Flow.GitHubApp(ctx, s, rec.Source[authsome.FieldAppID], rec.Source[authsome.FieldInstallationID], source(authsome.FieldPrivateKey))
	default:
		return nil, authsome.E(authsome.Internal, "get a token by %s: this version does not know how", f)
	}
}

// tokenLogin finishes a login with the tokens that its consent has led to.
func (b *Broker) tokenLogin(ctx context.Context, l, v *login, p *authsome.Provider, token *flow.Token) (*authsome.Login, error) {
	// The tokens exist from here on. A tab that is closed changes nothing.
	ctx = context.WithoutCancel(ctx)
	if v.work.NewClient {
		c := v.work.Client.client()
		ev := b.event(browserOf(&v.Login), authsome.EventClientSet, "ok")
		ev.Provider, ev.Detail = p.Name, "for "+hostOf(v.work.Server.TokenURL)
		if err := b.saveClient(ctx, v.Vault, v.work.Server, &c, ev); err != nil {
			// The connection has it sealed with it; the next login asks again.
			b.Logger.Error("store an OAuth client", "provider", p.Name, "err", err)
		}
	}
	rec := &oauthRecord{Server: *v.work.Server, Client: v.work.Client, RedirectURI: v.RedirectURI, Login: v.ID}
	out := b.tokenOutcome(ctx, v, token, rec, b.scopesOf(v))
	done, err := b.finish(ctx, browserOf(&v.Login), l, p, out)
	if err != nil {
		return nil, b.fail(ctx, l, err)
	}
	return done, nil
}

// tokenOutcome looks at what the server has granted, and to whom.
func (b *Broker) tokenOutcome(ctx context.Context, v *login, token *flow.Token, rec *oauthRecord, asked []string) *outcome {
	out := &outcome{oauth: rec, scopes: asked, account: token.Account}
	out.cred = &authsome.Credential{
		Fields:    map[string]authsome.Secret{authsome.FieldAccessToken: token.Access},
		TokenType: token.Type, ExpiresAt: token.ExpiresAt,
	}
	if !token.Refresh.IsZero() {
		out.cred.Fields[authsome.FieldRefreshToken] = token.Refresh
	}
	if !token.ExpiresAt.IsZero() {
		rec.Lifetime = lifetime(token.ExpiresAt, b.Now())
	}
	if token.Scopes != nil {
		out.scopes = token.Scopes
		// OpenID Connect's own are requests for claims and for a refresh token,
		// which servers do not list among what they grant.
		missing := slices.DeleteFunc(slices.Clone(asked), func(s string) bool {
			return slices.Contains(token.Scopes, s) || slices.Contains([]string{"openid", "profile", "email", "offline_access", "offline"}, s)
		})
		if len(missing) > 0 {
			out.notes = append(out.notes, "the service granted less than was asked for; missing: "+strings.Join(missing, ", "))
		}
	}
	if rec.Server.UserInfo != nil {
		s := flow.Server{OAuth: rec.Server, App: rec.Client.client(), Private: v.AllowPrivate}
		account, err := b.Flow.Account(ctx, s, token.Access)
		switch {
		case err != nil:
			b.Logger.Info("ask whose account it is", "provider", v.Provider, "err", err)
			out.notes = append(out.notes, "whose account it is could not be read: "+err.Error())
		default:
			out.account = account
		}
	}
	return out
}

// renewable reports whether a new token comes without the person.
func (r *record) renewable() bool {
	return r.OAuth != nil && !r.OAuth.Dead && (r.Fields[authsome.FieldRefreshToken] != "" || len(r.OAuth.Source) > 0)
}

// finish seals what a login has obtained and stores the connection, the login's
// end, the definition that it found, and the events, in one transaction.
func (b *Broker) finish(ctx context.Context, id authsome.Identity, l *login, p *authsome.Provider, out *outcome) (*authsome.Login, error) {
	// A refresh of the connection that is replaced must not come in between.
	unlock, err := b.Records.Lock(ctx, connectionLock(l.Vault, l.User, p.Name, l.Connection))
	if err != nil {
		return nil, err
	}
	done, err := b.commit(ctx, id, l, p, out)
	unlock()
	if err == nil {
		b.changed()
	}
	return done, err
}

func (b *Broker) commit(ctx context.Context, id authsome.Identity, l *login, p *authsome.Provider, out *outcome) (*authsome.Login, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	if l.Status.Final() {
		return nil, overAlready(&l.Login)
	}
	who := owner{l.Vault, l.User}
	h := b.snapshot.Load().of(who).clone()
	old, err := b.Records.Connection(ctx, l.Vault, l.User, p.Name, l.Connection)
	if err != nil {
		return nil, err
	}
	rec := newRecord(p, l.BaseURL, out.cred, l.AllowPrivate, out.oauth)
	now := b.Now().UTC()
	conn := authsome.Connection{
		Provider: p.Name, Name: l.Connection, AuthType: authsome.AuthAPIKey, Flow: l.Flow,
		Status: authsome.Connected, Scopes: out.scopes, BaseURL: l.BaseURL, Account: out.account, Hosts: rec.Hosts,
		ObtainedAt: now, CreatedAt: now, UpdatedAt: now, ExpiresAt: out.cred.ExpiresAt, Renewable: rec.renewable(), Version: 1,
	}
	if l.Flow.OAuth() {
		conn.AuthType = authsome.AuthOAuth2
	}
	if old != nil {
		conn.CreatedAt, conn.Version = old.Connection.CreatedAt, old.Connection.Version+1
	}
	a := h.byProvider[p.Name]
	// The first login is the default, whatever its name.
	makeDefault := l.Force || a == nil || a.deflt == ""
	conn.IsDefault = makeDefault || a.deflt == conn.Name
	row, err := b.sealConnection(l.Vault, l.User, conn, rec)
	if err != nil {
		return nil, err
	}

	next := *l
	next.Status, next.Replaced, next.Default = authsome.LoginCompleted, old != nil, conn.IsDefault
	next.Account, next.Notes = out.account, append(append(out.notes, a.sameAccount(&conn)...), noteWeak(p, rec, out.cred)...)
	definition, found := l.work.Definition, l.work.found
	next.forget()
	loginRow, err := b.sealLogin(&next)
	if err != nil {
		return nil, err
	}
	ev := b.event(id, authsome.EventLogin, "ok")
	ev.Provider, ev.Connection, ev.Detail = p.Name, conn.Name, string(l.Flow)
	events := []authsome.Event{ev}
	var def *authsome.DefinitionRow
	if found != nil {
		def = &authsome.DefinitionRow{Vault: l.Vault, Name: p.Name, Definition: definition}
		registered := b.event(id, authsome.EventRegistered, "ok")
		registered.Provider, registered.Detail = p.Name, "hosts: "+strings.Join(rec.Hosts, " ")
		events = append(events, registered)
	}
	if err := b.Records.FinishLogin(ctx, row, makeDefault, loginRow, def, events...); err != nil {
		return nil, err
	}
	if found != nil {
		b.Catalog.SetCustom(found)
	}
	h.put(b.hold(row))
	if err := b.publish(who, h); err != nil {
		return nil, err
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.Login, l.work, l.version = next.Login, next.work, next.version
	c := l.Login
	return &c, nil
}

// sealConnection makes the row of a connection.
func (b *Broker) sealConnection(vault, user string, conn authsome.Connection, rec *record) (authsome.ConnectionRow, error) {
	plain, err := rec.marshal()
	if err != nil {
		return authsome.ConnectionRow{}, authsome.E(authsome.Internal, "store the connection %s (%s): %w", conn.Provider, conn.Name, err)
	}
	sealed, err := b.Sealer.Seal(binding(vault, user, &conn), plain)
	clear(plain)
	return authsome.ConnectionRow{Connection: conn, Vault: vault, User: user, Sealed: sealed}, err
}

// sameAccount says which other connections are the account that was logged in
// to now: people who want two accounts find out that the browser was still
// logged in to the first.
func (a *accounts) sameAccount(conn *authsome.Connection) []string {
	if a == nil || conn.Account.ID == "" {
		return nil
	}
	var notes []string
	for _, name := range a.names() {
		x := a.byName[name]
		if name != conn.Name && x.Account.ID == conn.Account.ID && x.BaseURL == conn.BaseURL {
			notes = append(notes, fmt.Sprintf("this is the same account as %s (%s): to connect another one, log out of %s in the browser first",
				name, conn.Account.Label, conn.Provider))
		}
	}
	return notes
}

// connectionLock names the lock under which a connection's credential changes.
func connectionLock(vault, user, provider, name string) string {
	return strings.Join([]string{"connection", vault, user, provider, name}, "/")
}
