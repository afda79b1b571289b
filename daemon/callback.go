package daemon

import (
	"context"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/broker"
)

// siblingTime bounds what another home's daemon is asked while a person waits.
// It may have to exchange the code first.
const siblingTime = 45 * time.Second

// redirectURI is where authorization servers send browsers back to: the port that
// people have registered, which another home's daemon may hold and hand on from.
func (d *Daemon) redirectURI() (string, error) {
	address := "http://127.0.0.1:" + strconv.Itoa(d.cfg.Port)
	if d.browser.port() == d.cfg.Port || d.relayed(address) {
		return address + authsome.CallbackPath, nil
	}
	if free, err := listenLoopback(d.cfg.Port); err == nil {
		_ = free.Close()
		return "", authsome.E(authsome.DaemonUnavailable, "the service has to send your browser back to port %d, which was taken when the daemon started, and is free now", d.cfg.Port).
			WithHint("authsome daemon restart")
	}
	return "", authsome.E(authsome.DaemonUnavailable, "the service has to send your browser back to port %d, but %s", d.cfg.Port, d.browser.note).
		WithHint("end that program, then: authsome daemon restart; or log in with --flow device_code where the service offers it")
}

// relayed reports whether another home's daemon serves the address, and so hands
// on to this one what browsers bring there.
func (d *Daemon) relayed(address string) bool {
	ctx, cancel := context.WithTimeout(d.work, 2*time.Second)
	defer cancel()
	_, served := firstSibling(ctx, d.home, func(ctx context.Context, s *api.Client) (struct{}, bool) {
		h, err := s.Health(ctx)
		return struct{}{}, err == nil && h.Browser == address
	})
	return served
}

// firstSibling asks the daemons of the person's other homes, all at once so that
// one which hangs is not waited for, and gives the first answer that counts.
func firstSibling[T any](ctx context.Context, home string, ask func(context.Context, *api.Client) (answer T, counts bool)) (T, bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	siblings := api.Siblings(home)
	answers := make(chan T, len(siblings))
	var g sync.WaitGroup
	for _, s := range siblings {
		g.Go(func() {
			defer s.Close()
			if a, counts := ask(ctx, s); counts {
				answers <- a
			}
		})
	}
	go func() { g.Wait(); close(answers) }()
	a, found := <-answers
	return a, found
}

// desk is what the pages do with logins: the broker, and the other homes of the
// same person for callbacks that belong to none here.
type desk struct {
	*broker.Broker
	home string
}

// Callback implements web.Logins.
func (k desk) Callback(ctx context.Context, query url.Values) (*authsome.Login, *authsome.Provider, error) {
	l, p, err := k.Broker.Callback(ctx, query)
	if authsome.CodeOf(err) != authsome.ConnectionNotFound {
		return l, p, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), siblingTime)
	defer cancel()
	type answer struct {
		login api.Login
		err   error
	}
	theirs, found := firstSibling(ctx, k.home, func(ctx context.Context, s *api.Client) (answer, bool) {
		login, err := s.Callback(ctx, query.Encode())
		switch authsome.CodeOf(err) {
		case authsome.ConnectionNotFound, authsome.DaemonUnavailable, authsome.Internal:
			return answer{}, false // not theirs, or nobody there
		}
		return answer{login, err}, true
	})
	switch {
	case !found:
		return l, p, err
	case theirs.err != nil:
		return nil, nil, theirs.err
	}
	done := &authsome.Login{
		ID: theirs.login.ID, Provider: theirs.login.Provider, Connection: theirs.login.Connection, Flow: authsome.Flow(theirs.login.Flow),
		Status: theirs.login.Status, Default: theirs.login.Default, Replaced: theirs.login.Replaced, Notes: theirs.login.Notes,
	}
	if theirs.login.Account != nil {
		done.Account = *theirs.login.Account
	}
	return done, &authsome.Provider{Name: done.Provider, DisplayName: done.Provider}, nil
}

// callback takes what the daemon that holds the port has been brought for this
// home. It is not handed on again.
func (d *Daemon) callback(ctx context.Context, c *call) (any, error) {
	var req api.Callback
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(req.Query)
	if err != nil {
		return nil, authsome.E(authsome.Invalid, "read the request: the query is malformed")
	}
	return d.loginView(d.broker.Callback(context.WithoutCancel(ctx), query))
}

func (d *Daemon) confirmLogin(ctx context.Context, c *call) (any, error) {
	id := c.PathValue("id")
	if _, err := d.broker.ConfirmLogin(context.WithoutCancel(ctx), c.id, id); err != nil {
		return nil, err
	}
	return d.loginView(d.broker.LoginByID(ctx, c.id, id))
}

func (d *Daemon) setClient(ctx context.Context, c *call) (any, error) {
	var req api.ClientSettings
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	p, _ := c.names()
	fields := map[string]authsome.Secret{}
	for name, value := range map[string]string{
		authsome.FieldClientID: req.ClientID, authsome.FieldClientSecret: req.ClientSecret, authsome.FieldPrivateKey: req.PrivateKey,
	} {
		if value != "" {
			fields[name] = authsome.NewSecret(value)
		}
	}
	return nil, d.broker.SetClient(ctx, c.id, p, req.BaseURL, fields)
}

func (d *Daemon) forgetClient(ctx context.Context, c *call) (any, error) {
	p, _ := c.names()
	return nil, d.broker.ForgetClient(ctx, c.id, p, c.URL.Query().Get("base_url"))
}
