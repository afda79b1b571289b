package daemon

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/broker"
)

func (d *Daemon) beginLogin(ctx context.Context, c *call) (any, error) {
	var req api.LoginRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	if req.Timeout < 0 || req.Timeout > int(broker.MaxLoginTimeout/time.Second) {
		return nil, authsome.E(authsome.Invalid, "log in to %s: a login may wait from 1 second to 24 hours", req.Provider)
	}
	return d.loginView(d.broker.Begin(ctx, c.id, authsome.LoginRequest{
		Provider: req.Provider, URL: req.URL, Name: req.Name, Connection: req.Connection, Flow: authsome.Flow(req.Flow), Scopes: req.Scopes,
		BaseURL: req.BaseURL, Force: req.Force, Timeout: time.Duration(req.Timeout) * time.Second, AllowPrivate: req.AllowPrivate,
	}))
}

func (d *Daemon) login(ctx context.Context, c *call) (any, error) {
	wctx, cancel, waits, err := d.wait(ctx, c)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if waits {
		return d.loginView(d.broker.WaitLogin(wctx, c.id, c.PathValue("id")))
	}
	return d.loginView(d.broker.LoginByID(ctx, c.id, c.PathValue("id")))
}

func (d *Daemon) loginFields(ctx context.Context, c *call) (any, error) {
	var plain map[string]string
	if err := c.decode(&plain); err != nil {
		return nil, err
	}
	fields := make(map[string]authsome.Secret, len(plain))
	for name, v := range plain {
		fields[name] = authsome.NewSecret(v)
	}
	id := c.PathValue("id")
	if _, err := d.broker.SubmitFields(ctx, c.id, id, fields); err != nil {
		return nil, err
	}
	return d.loginView(d.broker.LoginByID(ctx, c.id, id))
}

func (d *Daemon) cancelLogin(ctx context.Context, c *call) (any, error) {
	return nil, d.broker.AbortLogin(ctx, c.id, c.PathValue("id"))
}

// loginView is a login as a command sees it. The address carries the ticket,
// by which whoever is shown it may finish the login.
func (d *Daemon) loginView(l *authsome.Login, _ *authsome.Provider, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	out := api.Login{
		ID: l.ID, Provider: l.Provider, Connection: l.Connection, Flow: string(l.Flow), Status: l.Status,
		Step: l.Step, Notes: l.Notes, Already: l.Already, Replaced: l.Replaced, Default: l.Default, ExpiresAt: l.ExpiresAt,
	}
	if l.Err != nil {
		out.Error, out.Code, out.Hint = l.Err.Message, string(l.Err.Code), l.Err.Hint
	}
	if l.Account != (authsome.Account{}) {
		out.Account = &l.Account
	}
	if l.Status.Final() {
		if why := d.authorities.repeat(localIdentity); l.Status == authsome.LoginCompleted && why != "" {
			out.Notes = append(slices.Clone(out.Notes), why+": authsome ca install")
		}
		return out, nil
	}
	out.RedirectURI, out.AppsURL, out.Server, out.Resource = l.RedirectURI, l.AppsURL, l.Server, l.Resource
	out.UserCode, out.VerificationURL, out.VerificationURLComplete = l.UserCode, l.VerificationURL, l.VerificationURLComplete
	switch l.Step {
	case authsome.StepAuthorize:
		out.URL = l.AuthorizeURL
	case authsome.StepDevice:
		out.URL = cmp.Or(l.VerificationURLComplete, l.VerificationURL)
	default:
		out.URL = "http://" + d.browser.host() + "/auth/sessions/" + l.ID + "/input?ticket=" + l.Ticket.Reveal()
	}
	for _, f := range l.Form {
		out.Fields = append(out.Fields, api.LoginField{
			Name: f.Name, Label: f.Label, Hint: f.Hint, Public: f.Public, Optional: f.Optional, Multiline: f.Multiline,
		})
	}
	return out, nil
}
