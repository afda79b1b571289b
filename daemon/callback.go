package daemon

import (
	"context"
	"net/url"
	"strconv"
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
	return "", authsome.E(authsome.DaemonUnavailable, "the service has to send your browser back to port %d, but %s", d.cfg.Port, d.browser.note).
		WithHint("end that program, then: authsome daemon restart; or log in with --flow device_code where the service offers it")
}

// relayed reports whether another home's daemon serves the address, and so hands
// on to this one what browsers bring there.
func (d *Daemon) relayed(address string) bool {
	ctx, cancel := context.WithTimeout(d.work, 2*time.Second)
	defer cancel()
	for _, s := range api.Siblings(d.home) {
		h, err := s.Health(ctx)
		s.Close()
		if err == nil && h.Browser == address {
			return true
		}
	}
	return false
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
	for _, s := range api.Siblings(k.home) {
		theirs, serr := s.Callback(ctx, query.Encode())
		s.Close()
		switch authsome.CodeOf(serr) {
		case "":
			done := &authsome.Login{
				ID: theirs.ID, Provider: theirs.Provider, Connection: theirs.Connection, Flow: authsome.Flow(theirs.Flow),
				Status: theirs.Status, Default: theirs.Default, Replaced: theirs.Replaced, Notes: theirs.Notes,
			}
			if theirs.Account != nil {
				done.Account = *theirs.Account
			}
			return done, &authsome.Provider{Name: theirs.Provider, DisplayName: theirs.Provider}, nil
		case authsome.ConnectionNotFound, authsome.DaemonUnavailable, authsome.Internal:
			// Not theirs, or nobody there.
		default:
			return nil, nil, serr
		}
	}
	return l, p, err
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
