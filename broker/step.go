package broker

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

// The steps of a login:
//
//	api_key, service_account, github_app, client_credentials
//	                      StepKey ─▶ connected
//	pkce, dcr_pkce        [StepConfirm] ─▶ [StepClient] ─▶ StepAuthorize ─▶ StepWorking ─▶ connected
//	device_code           [StepClient] ─▶ StepDevice ─▶ connected
//
// Those in brackets are left out where they are not needed: the server is on the
// service's own site, the client is known or can be registered.

// discover finds out how a site wants to be logged in to.
func (b *Broker) discover(ctx context.Context, req *authsome.LoginRequest) (*authsome.Provider, loginWork, error) {
	work := loginWork{Again: "authsome login " + req.URL}
	if req.Name != "" {
		work.Again += " --name " + req.Name
	}
	if req.AllowPrivate {
		work.Again += " --allow-private"
	}
	site, err := b.Flow.Discover(ctx, req.URL, req.Name, req.AllowPrivate)
	if err != nil {
		return nil, loginWork{}, undiscovered(err, work.Again)
	}
	p, err := b.Parse(req.URL, site.Definition)
	if err != nil {
		return nil, loginWork{}, err
	}
	p.Source = authsome.Custom
	if known, ok := b.Catalog.Get(p.Name); ok && (known.OAuth == nil || known.OAuth.Resource != site.URL) {
		return nil, loginWork{}, authsome.E(authsome.ProviderExists, "log in to %s: there is a provider %s already, which is another service", req.URL, p.Name).
			WithHint("authsome login %s --name NAME", req.URL)
	}
	for _, other := range b.Catalog.All() {
		// Two providers with one route: neither would get its requests.
		if other.Name != p.Name && other.OAuth != nil && other.OAuth.Resource == site.URL {
			return nil, loginWork{}, authsome.E(authsome.ProviderExists, "log in to %s: it is the provider %s already", req.URL, other.Name).
				WithHint("authsome login %s; for another account: authsome login %s --connection NAME", other.Name, other.Name)
		}
	}
	o := site.OAuth
	work.Server, work.Definition, work.found = &o, site.Definition, p
	return p, work, nil
}

// undiscovered adds to an error of discovery what the person can do about it: a
// site that does not answer may do so later, one that is set up wrongly will not.
func undiscovered(err error, again string) error {
	var e *authsome.Error
	switch {
	case !errors.As(err, &e) || e.Hint != "":
		return err
	case e.Code == authsome.Unreachable:
		return e.WithHint("try again: %s", again)
	}
	return e.WithHint("whoever runs the service has to mend that; with a key or an OAuth app of your own for it: authsome register FILE")
}

// firstStep finds out what a login has to wait for. Nobody else knows the login
// yet.
func (b *Broker) firstStep(ctx context.Context, id authsome.Identity, l *login, p *authsome.Provider) error {
	if form := flow.Form(p, l.Flow); len(form) > 0 {
		l.Step, l.Form = authsome.StepKey, form
		if p.OAuth != nil {
			l.AppsURL = p.OAuth.AppsURL
		}
		return nil
	}
	if p.OAuth == nil {
		return authsome.E(authsome.Invalid, "log in to %s: its definition has no oauth section", p.Name).WithHint("authsome inspect %s", p.Name)
	}
	if l.work.Server == nil {
		o, err := flow.At(p.OAuth, l.BaseURL)
		if err != nil {
			return err
		}
		l.work.Server = &o
	} else if server, resource := l.work.elsewhere(), hostOf(l.work.Server.Resource); server != "" {
		if err := b.outsideRun(ctx, id, "log in at another site", p.Name, l.Connection); err != nil {
			return authsome.E(authsome.Forbidden, "log in to %s: its logins are made at %s, which is another site; inside a run nobody can be asked whether that is right", resource, server).
				WithHint("in a terminal of your own, outside the run: %s", l.again())
		}
		l.Step, l.Server, l.Resource = authsome.StepConfirm, server, resource
		return nil
	}
	return b.clientStep(ctx, l, p)
}

// elsewhere names the hosts of a login by URL that are on another site than the
// service; "" when there are none. Each may be the one that the person has to
// look at: a hostile service can have the consent given at somebody else's server
// and the code sent to its own.
func (w *loginWork) elsewhere() string {
	if w.found == nil {
		return ""
	}
	var hosts []string
	for _, u := range append(secretURLs(w.Server), w.Server.Issuer) {
		if host := hostOf(u); u != "" && !flow.SameSite(u, w.Server.Resource) && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, " and ")
}

// clientStep finds the client for a login: the stored one, the definition's, one
// that is registered now, or the person's, who is then asked for it.
func (b *Broker) clientStep(ctx context.Context, l *login, p *authsome.Provider) error {
	o := l.work.Server
	redirect, err := b.redirectURI(l, o)
	if err != nil {
		return err
	}
	c, err := b.clientOf(ctx, l.Vault, o)
	if err != nil {
		return err
	}
	if c != nil && c.Registered && !b.stillRegistered(ctx, l, c, redirect) {
		c = nil
	}
	if c == nil && o.ClientID != "" {
		c = &authsome.OAuthClient{ID: o.ClientID, Auth: authsome.ClientNone}
	}
	if c == nil && l.Flow == authsome.FlowDCR {
		if c, err = b.register7591(ctx, l, p, redirect); err != nil {
			return err
		}
	}
	if c == nil {
		l.Step, l.Form, l.RedirectURI, l.AppsURL = authsome.StepClient, flow.ClientForm(o), redirect, o.AppsURL
		if l.AppsURL == "" {
			l.AppsURL = p.DocsURL
		}
		return nil
	}
	l.work.Client = sealClient(c)
	l.RedirectURI = redirect
	return b.consentStep(ctx, l)
}

// register7591 registers with the server (RFC 7591). Neither client nor error:
// the server takes no registrations.
func (b *Broker) register7591(ctx context.Context, l *login, p *authsome.Provider, redirect string) (*authsome.OAuthClient, error) {
	o := l.work.Server
	if o.RegistrationURL == "" {
		// What discovery fills in says how to register and no more: the name under
		// which the client is kept stays that of the definition's server.
		full, err := b.Flow.Complete(ctx, *o, l.AllowPrivate)
		if err != nil {
			return nil, err
		}
		if o.RegistrationURL = full.RegistrationURL; o.RegistrationURL == "" {
			return nil, nil
		}
	}
	s := b.server(l, o)
	s.RedirectURI = redirect
	c, err := b.Flow.Register(ctx, s, "authsome ("+p.DisplayName+")", b.scopesOf(l))
	if err != nil {
		return nil, err
	}
	c.Registered, c.RedirectURI = true, redirect
	l.work.NewClient = true
	return c, nil
}

// stillRegistered reports whether a registration can be used again.
func (b *Broker) stillRegistered(ctx context.Context, l *login, c *authsome.OAuthClient, redirect string) bool {
	if c.RedirectURI != redirect || !c.ExpiresAt.IsZero() && b.Now().After(c.ExpiresAt) {
		return false
	}
	s := b.server(l, l.work.Server)
	s.App, s.RedirectURI = *c, redirect
	return b.Flow.Knows(ctx, s)
}

// consentStep asks the person for consent: at an address, or with a code.
func (b *Broker) consentStep(ctx context.Context, l *login) error {
	s := b.server(l, l.work.Server)
	if l.Flow == authsome.FlowDeviceCode {
		d, err := b.Flow.StartDevice(ctx, s, b.scopesOf(l))
		if err != nil {
			return err
		}
		l.Step, l.Form = authsome.StepDevice, nil
		l.UserCode, l.VerificationURL, l.VerificationURLComplete = d.UserCode, d.VerificationURL, d.VerificationURLComplete
		l.work.Device = &sealedDevice{
			Code: d.Code.Reveal(), UserCode: d.UserCode, VerificationURL: d.VerificationURL,
			VerificationURLComplete: d.VerificationURLComplete, ExpiresAt: d.ExpiresAt, Interval: d.Interval,
		}
		// The code's own life counts, unless the person said otherwise.
		if d.ExpiresAt.After(l.ExpiresAt) && l.ExpiresAt.Sub(l.CreatedAt) == DefaultLoginTimeout {
			l.ExpiresAt = d.ExpiresAt
		}
		return nil
	}
	verifier := flow.NewVerifier()
	state := authsome.NewSecret(randomToken(32))
	address, err := s.AuthorizeURL(flow.Authorization{State: state, Verifier: verifier, Scopes: b.scopesOf(l)})
	if err != nil {
		return err
	}
	l.Step, l.Form, l.AuthorizeURL = authsome.StepAuthorize, nil, address
	l.work.State, l.work.Verifier = state.Reveal(), verifier.Reveal()
	return nil
}

// server is the authorization server as package flow wants it.
func (b *Broker) server(l *login, o *authsome.OAuth) flow.Server {
	return flow.Server{OAuth: *o, App: l.work.Client.client(), RedirectURI: l.RedirectURI, Private: l.AllowPrivate}
}

// scopesOf are the scopes to ask for.
func (b *Broker) scopesOf(l *login) []string {
	if len(l.Scopes) > 0 || l.work.Server == nil {
		return l.Scopes
	}
	return l.work.Server.Scopes
}

// redirectURI is where the server sends the browser back to. Vendors that
// compare it to the letter with what was registered may want "localhost" in it.
func (b *Broker) redirectURI(l *login, o *authsome.OAuth) (string, error) {
	if l.Flow == authsome.FlowDeviceCode {
		return "", nil
	}
	uri, err := "", error(nil)
	if b.RedirectURI != nil {
		uri, err = b.RedirectURI()
	}
	if err != nil {
		return "", err
	}
	u, perr := url.Parse(uri)
	if uri == "" || perr != nil {
		return "", authsome.E(authsome.DaemonUnavailable, "log in to %s: the daemon has no port to which the service could send the browser back", l.Provider).
			WithHint("authsome doctor")
	}
	if own, err := url.Parse(o.RedirectURI); o.RedirectURI != "" && err == nil {
		u.Host = own.Hostname() + ":" + u.Port()
	}
	return u.String(), nil
}

// submit acts on what a person typed.
func (b *Broker) submit(ctx context.Context, id authsome.Identity, loginID string, given map[string]authsome.Secret) (*authsome.Login, error) {
	l, v, err := b.take(loginID, authsome.StepKey, authsome.StepClient)
	if err != nil {
		return nil, err
	}
	defer b.release(l)
	p, err := b.loginProvider(&v)
	if err != nil {
		return nil, err
	}
	if v.Step == authsome.StepClient {
		c, err := b.clientFrom(p, v.work.Server, given)
		if err != nil {
			return nil, err
		}
		return b.step(ctx, l, v, func(next *login) error {
			next.work.Client, next.work.NewClient = sealClient(c), true
			return b.consentStep(ctx, next)
		})
	}
	out, err := b.fromFields(ctx, &v, p, given)
	if err != nil {
		if authsome.CodeOf(err) == authsome.Invalid {
			return nil, err
		}
		return nil, b.fail(ctx, l, err)
	}
	return b.finish(ctx, id, l, p, out)
}

// confirm goes on after the person has agreed to the server.
func (b *Broker) confirm(ctx context.Context, loginID string) (*authsome.Login, error) {
	l, v, err := b.take(loginID, authsome.StepConfirm)
	if err != nil {
		return nil, err
	}
	defer b.release(l)
	p, err := b.loginProvider(&v)
	if err != nil {
		return nil, err
	}
	return b.step(ctx, l, v, func(next *login) error { return b.clientStep(ctx, next, p) })
}

// step changes a taken login by asking its server, and stores it. What the
// server refuses ends the login; input that cannot be accepted does not.
func (b *Broker) step(ctx context.Context, l *login, next login, change func(next *login) error) (*authsome.Login, error) {
	if err := change(&next); err != nil {
		if authsome.CodeOf(err) == authsome.Invalid {
			return nil, err
		}
		return nil, b.fail(ctx, l, err)
	}
	if err := b.update(ctx, l, func(to *login) { to.Login, to.work = next.Login, next.work }); err != nil {
		return nil, err
	}
	b.await(l)
	return b.copyOf(l), nil
}

func (b *Broker) copyOf(l *login) *authsome.Login {
	b.logins.mu.Lock()
	defer b.logins.mu.Unlock()
	c := l.Login
	return &c
}

// Callback takes what an authorization server's redirect brought, from whoever
// holds the browser. The state is what ties it to a login, once.
func (b *Broker) Callback(ctx context.Context, query url.Values) (*authsome.Login, *authsome.Provider, error) {
	l, v, err := b.callbackFor(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	defer b.release(l)
	p, err := b.loginProvider(&v)
	if err != nil {
		return nil, nil, err
	}
	s := b.server(&v, v.work.Server)
	state, verifier := authsome.NewSecret(v.work.State), authsome.NewSecret(v.work.Verifier)
	code, err := s.Callback(query, state)
	if err != nil {
		return nil, p, b.fail(ctx, l, err)
	}
	// From here on the state is used up, whatever happens.
	if err := b.update(ctx, l, func(next *login) {
		next.Step, next.AuthorizeURL, next.work.State, next.work.Verifier = authsome.StepWorking, "", "", ""
	}); err != nil {
		return nil, p, err
	}
	token, err := b.Flow.Exchange(ctx, s, code, verifier)
	if err != nil {
		return nil, p, b.fail(ctx, l, err)
	}
	done, err := b.tokenLogin(ctx, l, &v, p, token)
	return done, p, err
}

// callbackFor finds and takes the login that waits for a callback.
func (b *Broker) callbackFor(ctx context.Context, query url.Values) (l *login, view login, err error) {
	given := query["state"]
	if len(given) != 1 || given[0] == "" {
		return nil, login{}, authsome.E(authsome.Invalid, "the address has no state, so it belongs to no login").
			WithHint("authsome login PROVIDER")
	}
	state := authsome.NewSecret(given[0])
	b.logins.mu.Lock()
	for _, other := range b.logins.byID {
		// Every one is compared, each in constant time.
		if other.work.State != "" && authsome.NewSecret(other.work.State).Equal(state) {
			l = other
		}
	}
	b.logins.mu.Unlock()
	if l == nil {
		return nil, login{}, unknownLogin()
	}
	// This ends it when its time is over.
	if _, _, err := b.get(ctx, owner{l.Vault, l.User}, l.ID); err != nil {
		return nil, login{}, err
	}
	return b.take(l.ID, authsome.StepAuthorize)
}

// await polls for a login by device code, in the background.
func (b *Broker) await(l *login) {
	b.logins.mu.Lock()
	v := *l
	b.logins.mu.Unlock()
	if v.Status.Final() || v.Step != authsome.StepDevice || v.work.Device == nil {
		return
	}
	b.spawn(func(life context.Context) {
		ctx, cancel := context.WithTimeout(life, v.ExpiresAt.Sub(b.Now()))
		defer cancel()
		stop := b.whenOver(l, cancel)
		defer stop()
		d := v.work.Device
		token, err := b.Flow.AwaitDevice(ctx, b.server(&v, v.work.Server), &flow.Device{
			Code: authsome.NewSecret(d.Code), UserCode: d.UserCode, VerificationURL: d.VerificationURL,
			VerificationURLComplete: d.VerificationURLComplete, ExpiresAt: d.ExpiresAt, Interval: d.Interval,
		})
		if err != nil && life.Err() != nil || errors.Is(err, context.Canceled) {
			return // the daemon stops, and the next one goes on; or the login was cancelled
		}
		// What came is stored, even if the waiting has just ended.
		ctx = context.WithoutCancel(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			b.expire(ctx, l)
			return
		}
		p, perr := b.loginProvider(&v)
		if err = cmp.Or(err, perr); err == nil {
			_, err = b.tokenLogin(ctx, l, &v, p, token)
		} else {
			err = b.fail(ctx, l, err)
		}
		if err != nil {
			b.Logger.Info("a login by device code did not end well", "provider", v.Provider, "err", err)
		}
	})
}

// whenOver calls f when a login gets a final state by another hand.
func (b *Broker) whenOver(l *login, f func()) (stop func()) {
	ended := make(chan struct{})
	go func() {
		for {
			b.logins.mu.Lock()
			final, changed := l.Status.Final(), l.changed
			b.logins.mu.Unlock()
			if final {
				f()
				return
			}
			select {
			case <-changed:
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended) }
}

// fail ends a login with what went wrong, and returns that.
func (b *Broker) fail(ctx context.Context, l *login, err error) error {
	b.logins.mu.Lock()
	v := *l
	b.logins.mu.Unlock()
	expired := errors.Is(err, flow.ErrExpired)
	err = b.explain(ctx, &v, err)
	var e *authsome.Error
	if !errors.As(err, &e) {
		b.Logger.Error("log in", "provider", l.Provider, "err", err)
		e = authsome.E(authsome.Internal, "log in to %s: it went wrong inside; the log says how", l.Provider).
			WithHint("authsome daemon logs")
	}
	status := authsome.LoginFailed
	if expired {
		status = authsome.LoginExpired
	}
	shown := *e
	if end := b.end(context.WithoutCancel(ctx), l, status, &shown); end != nil {
		b.Logger.Error("record a failed login", "login", l.ID, "err", end)
	}
	return e
}

// explain adds what the person can do about an error of the server's. A
// registration that the server knows no more is forgotten, so that the next
// login registers anew.
func (b *Broker) explain(ctx context.Context, l *login, err error) error {
	var e *authsome.Error
	if !errors.As(err, &e) {
		return err
	}
	if errors.Is(err, flow.ErrInvalidClient) && l.work.Server != nil {
		if l.work.Client.Registered {
			if err := b.Records.DeleteItem(ctx, l.Vault, clientKind, clientName(l.work.Server)); err != nil {
				b.Logger.Warn("forget a registration", "err", err)
			}
			return e.WithHint("%s registers anew", l.again())
		}
		if _, known := b.Catalog.Get(l.Provider); !known {
			return e.WithHint("%s, with the right client id and secret", l.again())
		}
		change := "authsome provider set-client " + l.Provider
		if l.BaseURL != "" {
			change += " --base-url " + l.BaseURL
		}
		return e.WithHint("%s", change)
	}
	if e.Hint == "" {
		return e.WithHint("%s", l.again())
	}
	return err
}

// hostOf is the host of an address, for people.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
