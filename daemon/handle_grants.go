package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/broker"
)

// grant serves api.PathGrants: the handler lives as long as the run does.
func (d *Daemon) grant(w http.ResponseWriter, r *http.Request, id authsome.Identity) error {
	if id.Run != "" {
		return authsome.E(authsome.Forbidden, "start a run: refused inside another run, which has a grant already").
			WithHint("a run inside a run uses the outer one's")
	}
	if !d.runs.begin() {
		return errStopping
	}
	defer d.runs.work.Done()
	conn, err := api.Upgrade(w, r, api.GrantProtocol)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	x, info, ln, err := d.openGrant(id, conn)
	if err != nil {
		d.log.Info("run refused", "pid", id.PID, "program", id.Program, "err", err)
		_ = api.SendGrantInfo(conn, api.GrantInfo{Error: api.FailureOf(err)})
		return nil
	}
	d.serveGrant(x, info, ln)
	return nil
}

// openGrant reads the request and makes or renews the grant. On success the
// run is known, and its listener is the caller's.
func (d *Daemon) openGrant(id authsome.Identity, conn *net.UnixConn) (_ *run, _ api.GrantInfo, _ net.Listener, err error) {
	ctx := d.work
	req, ln, err := api.AcceptGrant(conn)
	if err != nil {
		return nil, api.GrantInfo{}, nil, err
	}
	x := &run{pid: id.PID, port: req.ProxyPort, conn: conn}
	if ln == nil {
		x.streams = api.NewStreamListener(req.ProxyPort)
		ln = x.streams
	}
	defer func() {
		if err != nil {
			_ = ln.Close()
		}
	}()
	var secret authsome.Secret
	if req.Renew != nil {
		x.token = authsome.NewSecret(req.Renew.Token)
		secret = authsome.NewSecret(req.Renew.Secret)
		x.grant, err = d.broker.ResumeGrant(ctx, id, req.Renew.ID, x.token, secret)
	} else {
		err = d.authorities.begin(ctx, func(authority string) (err error) {
			x.grant, x.token, secret, err = d.broker.StartGrant(ctx, id, broker.GrantSpec{
				Program: req.Program, Mode: authsome.Mode(req.Mode), Choices: req.Connections, Providers: req.Providers, Authority: authority,
				Unscrubbed: req.NoScrub,
			})
			return err
		})
	}
	if err != nil {
		return nil, api.GrantInfo{}, nil, err
	}
	if err := d.runs.add(x); err != nil {
		return nil, api.GrantInfo{}, nil, err
	}
	info := d.grantInfo(x)
	info.Secret = secret.Reveal()
	info.Leaked = d.broker.Leaked(x.grant, req.Salt, req.Env)
	return x, info, ln, nil
}

// serveGrant answers the run, and serves its port until the run is over.
func (d *Daemon) serveGrant(x *run, info api.GrantInfo, ln net.Listener) {
	ctx, cancel := context.WithCancel(d.work)
	if x.streams == nil {
		// What comes while requests are brought to their end waits in the backlog of
		// the run's own socket, for the next daemon.
		defer context.AfterFunc(d.stopping, cancel)()
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := d.proxy.Serve(ctx, ln); err != nil {
			// Without its port the run is of no use: it opens a new one with us.
			d.log.Error("serve a run's proxy", "run", x.grant.ID, "err", err)
			_ = x.conn.Close()
		}
	}()
	if err := api.SendGrantInfo(x.conn, info); err == nil {
		d.log.Info("run", "run", x.grant.ID, "pid", x.pid, "program", x.grant.Program, "port", x.port)
		api.WaitClosed(x.conn)
	}
	cancel()
	<-served
	d.runs.remove(x)
	if d.runs.stopping() {
		return // the grant waits for its run in the store
	}
	if err := d.broker.EndGrant(d.work, x.grant.ID); err != nil {
		d.log.Error("end a run", "run", x.grant.ID, "err", err)
	}
	d.log.Info("run is over", "run", x.grant.ID)
}

// grantInfo is what both the run and its descendants are told.
func (d *Daemon) grantInfo(x *run) api.GrantInfo {
	env, hosts, providers := d.broker.Placeholders(x.grant)
	var authority string
	if a := d.authorities.of(x.grant); a != nil {
		authority = string(a.CertPEM())
	}
	return api.GrantInfo{
		ID: x.grant.ID, Token: x.token.Reveal(), CreatedAt: x.grant.CreatedAt, CA: authority,
		Placeholders: env, Hosts: hosts, Providers: providers, Only: x.grant.Providers, Port: x.port,
		NoScrub: x.grant.Unscrubbed,
	}
}

// grantSelf serves api.PathGrantSelf. The token is told to those only who have
// it in their environment already.
func (d *Daemon) grantSelf(_ context.Context, c *call) (any, error) {
	if c.id.Run == "" {
		return nil, authsome.E(authsome.Invalid, "this process is not inside a run")
	}
	x := d.runs.get(c.id.Run)
	if x == nil {
		return nil, authsome.E(authsome.DaemonUnavailable, "the run that this process is in has not come back to the daemon yet").
			WithHint("try again in a moment")
	}
	return d.grantInfo(x), nil
}

// stream serves api.PathGrantStream: one connection of a relayed run's child.
func (d *Daemon) stream(w http.ResponseWriter, r *http.Request, id authsome.Identity) error {
	x := d.runs.get(r.PathValue("id"))
	if x == nil || x.streams == nil || id.PID != x.pid {
		return authsome.E(authsome.Forbidden, "relay a connection: this process holds no such run")
	}
	conn, err := api.Upgrade(w, r, api.StreamProtocol)
	if err != nil {
		return err
	}
	if !x.streams.Offer(conn) {
		_ = conn.Close()
	}
	return nil
}

// upgraded are the paths whose handlers take the connection over.
var upgraded = map[string]func(*Daemon, http.ResponseWriter, *http.Request, authsome.Identity) error{
	api.PathGrants:      (*Daemon).grant,
	api.PathGrantStream: (*Daemon).stream,
}

// hijacked reports whether an error came after the connection was taken over,
// so that there is nothing to answer on.
func hijacked(err error) bool { return errors.Is(err, http.ErrHijacked) }
