package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/broker"
)

// maxBody bounds a request: a provider definition is the largest.
const maxBody = 4 << 20

// maxWait bounds how long an answer may be held back.
const maxWait = time.Minute

// call is one request, with who asks.
type call struct {
	*http.Request
	id authsome.Identity
}

// handler answers one call with what is sent as JSON; nil is an empty object.
type handler func(d *Daemon, ctx context.Context, c *call) (any, error)

// handlers are all paths of the API that answer with JSON, by path and method.
var handlers = map[string]map[string]handler{
	api.PathHealth:       {http.MethodGet: (*Daemon).health},
	api.PathWhoami:       {http.MethodGet: (*Daemon).whoami},
	api.PathDoctor:       {http.MethodGet: (*Daemon).doctor},
	api.PathStop:         {http.MethodPost: (*Daemon).stop},
	api.PathProviders:    {http.MethodGet: (*Daemon).providers, http.MethodPost: (*Daemon).register},
	api.PathProvider:     {http.MethodGet: (*Daemon).provider, http.MethodDelete: (*Daemon).remove},
	api.PathRevoke:       {http.MethodPost: (*Daemon).revoke},
	api.PathConnection:   {http.MethodGet: (*Daemon).connection},
	api.PathLogout:       {http.MethodPost: (*Daemon).logout},
	api.PathDefault:      {http.MethodPost: (*Daemon).setDefault},
	api.PathLogins:       {http.MethodPost: (*Daemon).beginLogin},
	api.PathLogin:        {http.MethodGet: (*Daemon).login, http.MethodDelete: (*Daemon).cancelLogin},
	api.PathLoginFields:  {http.MethodPost: (*Daemon).loginFields},
	api.PathLoginConfirm: {http.MethodPost: (*Daemon).confirmLogin},
	api.PathClient:       {http.MethodPut: (*Daemon).setClient, http.MethodDelete: (*Daemon).forgetClient},
	api.PathCallback:     {http.MethodPost: (*Daemon).callback},
	api.PathExport:       {http.MethodPost: (*Daemon).export},
	api.PathEvents:       {http.MethodGet: (*Daemon).events},
	api.PathCA:           {http.MethodGet: (*Daemon).authority, http.MethodPost: (*Daemon).changeAuthority},
	api.PathGrantSelf:    {http.MethodGet: (*Daemon).grantSelf},
}

// peerKey is the context key of a connection's api.Peer.
type peerKey struct{}

// apiServer is the HTTP server of the socket.
func (d *Daemon) apiServer() *http.Server {
	mux := http.NewServeMux()
	for path, methods := range handlers {
		mux.Handle(path, d.serveJSON(methods))
	}
	for path, h := range upgraded {
		mux.Handle(path, d.serveUpgrade(h))
	}
	mux.Handle("/", d.serveJSON(nil))
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
		// Work that was begun is finished, whatever becomes of the command.
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			peer, err := api.PeerOf(conn.(*net.UnixConn))
			if err != nil {
				peer = api.Peer{UID: -1}
			}
			return context.WithValue(ctx, peerKey{}, peer)
		},
	}
}

// admit is what every request must pass; it says who asks.
func (d *Daemon) admit(r *http.Request) (authsome.Identity, error) {
	if err := api.CheckRequest(r); err != nil {
		return authsome.Identity{}, err
	}
	peer, ok := r.Context().Value(peerKey{}).(api.Peer)
	if !ok {
		return authsome.Identity{}, authsome.E(authsome.Forbidden, "the local API answers on its socket only")
	}
	return d.identify(peer), nil
}

// serveJSON is the one way in and out: it decides on method, content type and
// browsers, establishes who asks, and turns an answer or an error into JSON.
func (d *Daemon) serveJSON(methods map[string]handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer d.rescue(w, r)
		id, err := d.admit(r)
		if err != nil {
			d.fail(w, r, err)
			return
		}
		h, ok := methods[r.Method]
		switch {
		case methods == nil:
			d.fail(w, r, authsome.E(authsome.Invalid, "the local API has no path %s", r.URL.EscapedPath()))
			return
		case !ok:
			d.fail(w, r, authsome.E(authsome.Invalid, "the local API has no %s on this path", r.Method))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, err := h(d, r.Context(), &call{r, id})
		if err != nil {
			d.fail(w, r, err)
			return
		}
		if out == nil {
			out = struct{}{}
		}
		d.answer(w, http.StatusOK, out)
	})
}

// serveUpgrade is serveJSON for handlers that take the connection over.
func (d *Daemon) serveUpgrade(h func(*Daemon, http.ResponseWriter, *http.Request, authsome.Identity) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer d.rescue(w, r)
		id, err := d.admit(r)
		if err == nil && r.Method != http.MethodGet {
			err = authsome.E(authsome.Invalid, "the local API has no %s on this path", r.Method)
		}
		if err == nil {
			err = h(d, w, r, id)
		}
		if err != nil && !hijacked(err) {
			d.fail(w, r, err)
		}
	})
}

// rescue answers for a handler that panicked, so that a bug costs one command
// and no run.
func (d *Daemon) rescue(w http.ResponseWriter, r *http.Request) {
	if v := recover(); v != nil {
		d.log.Error("panic", "method", r.Method, "path", r.Pattern, "panic", v, "stack", string(debug.Stack()))
		d.answer(w, http.StatusInternalServerError, api.FailureOf(errors.New("panic")))
	}
}

func (d *Daemon) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := authsome.CodeOf(err)
	var cause error
	if e := new(authsome.Error); errors.As(err, &e) {
		cause = e.Err
	}
	level := slog.LevelDebug
	if s := api.Status(code); s >= 500 {
		level = slog.LevelError
	}
	d.log.Log(r.Context(), level, "api", "method", r.Method, "path", r.Pattern, "code", code, "err", err, "cause", cause)
	d.answer(w, api.Status(code), api.FailureOf(err))
}

func (d *Daemon) answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		d.log.Error("encode an answer", "err", err)
		status, data = http.StatusInternalServerError, []byte(`{"error":"InternalError","message":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// decode reads a JSON body into v.
func (c *call) decode(v any) error {
	dec := json.NewDecoder(c.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		// Not quoted: the body may hold a key.
		return authsome.E(authsome.Invalid, "read the request: the body is not what this path takes")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return authsome.E(authsome.Invalid, "read the request: something follows the body")
	}
	return nil
}

// names gives provider and connection; "-" is the default, "".
func (c *call) names() (provider, connection string) {
	provider, connection = c.PathValue("p"), c.PathValue("c")
	if connection == "-" {
		connection = ""
	}
	return provider, connection
}

// wait bounds ctx by ?wait= and by the daemon's end; ok is false when nothing
// is to be waited for.
func (d *Daemon) wait(ctx context.Context, c *call) (_ context.Context, cancel func(), ok bool, err error) {
	text := c.URL.Query().Get("wait")
	if text == "" {
		return ctx, func() {}, false, nil
	}
	patience, err := time.ParseDuration(text)
	if err != nil || patience < 0 {
		return nil, nil, false, authsome.E(authsome.Invalid, "read the request: wait=%q is no duration", text)
	}
	wctx, cancelWait := context.WithTimeout(ctx, min(patience, maxWait))
	stop := context.AfterFunc(d.stopping, cancelWait)
	return wctx, func() { stop(); cancelWait() }, true, nil
}

func (d *Daemon) health(context.Context, *call) (any, error) {
	return d.healthNow(), nil
}

func (d *Daemon) stop(_ context.Context, c *call) (any, error) {
	if c.id.Run != "" {
		return nil, authsome.E(authsome.Forbidden, "stop the daemon: refused inside a run").
			WithHint("run the command in a terminal of your own, outside the run")
	}
	d.log.Info("asked to stop", "pid", c.id.PID, "program", c.id.Program)
	d.stopNow()
	return nil, nil
}

func (d *Daemon) whoami(_ context.Context, c *call) (any, error) {
	out := api.Whoami{
		Version: d.cfg.Version, Home: d.home, Profile: authsome.LocalUser, RegistrationStatus: "local",
		DaemonURL: "http://" + d.browser.host(), EncryptionBackend: d.vault.Source(), VaultStatus: "ok",
		Connected: []api.ConnectedSummary{},
	}
	for _, v := range d.broker.Providers(c.id) {
		if len(v.Connections) == 0 {
			continue
		}
		s := api.ConnectedSummary{Name: v.Provider.Name, Count: len(v.Connections)}
		for _, conn := range v.Connections {
			s.Connections = append(s.Connections, conn.Name)
		}
		out.Connected = append(out.Connected, s)
	}
	out.ConnectedCount = len(out.Connected)
	return out, nil
}

func (d *Daemon) providers(_ context.Context, c *call) (any, error) {
	views := d.broker.Providers(c.id)
	out := make([]api.Provider, 0, len(views))
	for _, v := range views {
		out = append(out, providerView(v, false))
	}
	return out, nil
}

func (d *Daemon) provider(_ context.Context, c *call) (any, error) {
	p, _ := c.names()
	v, err := d.broker.Provider(c.id, p)
	if err != nil {
		return nil, err
	}
	return providerView(v, true), nil
}

func (d *Daemon) register(ctx context.Context, c *call) (any, error) {
	var req api.Registration
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	reg, err := d.broker.Register(ctx, c.id, req.Filename, []byte(req.Definition), req.Force, req.DryRun)
	if err != nil {
		return nil, err
	}
	view := broker.View{Provider: reg.Provider}
	if v, err := d.broker.Provider(c.id, reg.Provider.Name); err == nil {
		view.Connections = v.Connections
	}
	out := api.Registered{Provider: providerView(view, true), Replaced: reg.Replaced, Shadows: reg.Shadows}
	out.Provider.Warnings = append(out.Provider.Warnings, reg.Notes...)
	return out, nil
}

func (d *Daemon) remove(ctx context.Context, c *call) (any, error) {
	p, _ := c.names()
	return removedView(d.broker.Remove(ctx, c.id, p))
}

func (d *Daemon) revoke(ctx context.Context, c *call) (any, error) {
	p, _ := c.names()
	return removedView(d.broker.Revoke(ctx, c.id, p))
}

func (d *Daemon) logout(ctx context.Context, c *call) (any, error) {
	p, conn := c.names()
	return removedView(d.broker.Logout(ctx, c.id, p, conn))
}

func (d *Daemon) setDefault(ctx context.Context, c *call) (any, error) {
	p, conn := c.names()
	return nil, d.broker.SetDefault(ctx, c.id, p, conn)
}

func (d *Daemon) connection(ctx context.Context, c *call) (any, error) {
	p, name := c.names()
	if c.URL.Query().Get("secret") == "1" {
		conn, cred, err := d.broker.Reveal(ctx, c.id, p, name)
		if err != nil {
			return nil, err
		}
		out := connectionView(conn)
		out.Fields = map[string]string{}
		for field, secret := range cred.Fields {
			out.Fields[field] = secret.Reveal()
		}
		return out, nil
	}
	conn, _, err := d.broker.Connection(c.id, p, name)
	if err != nil {
		return nil, err
	}
	out := connectionView(conn)
	fields, err := d.broker.FieldNames(c.id, p, conn.Name)
	if err != nil {
		return nil, err
	}
	out.Fields = map[string]string{}
	for field, public := range fields {
		if public == "" {
			public = api.Redacted
		}
		out.Fields[field] = public
	}
	return out, nil
}

func (d *Daemon) export(ctx context.Context, c *call) (any, error) {
	var req api.ExportRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	vars, err := d.broker.Export(ctx, c.id, req.Provider, req.Connection)
	if err != nil {
		return nil, err
	}
	out := api.Export{Credentials: make([]api.ExportedVar, 0, len(vars))}
	for _, v := range vars {
		out.Credentials = append(out.Credentials, api.ExportedVar{
			Name: v.Name, Value: v.Value.Reveal(), Provider: v.Provider, Connection: v.Connection,
		})
	}
	return out, nil
}

// limits of a page of events.
const (
	defaultEvents = 50
	maxEvents     = 1000
)

func (d *Daemon) events(ctx context.Context, c *call) (any, error) {
	q := c.URL.Query()
	limit, after, last := defaultEvents, int64(0), true
	var err error
	if s := q.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxEvents {
			return nil, authsome.E(authsome.Invalid, "read the log: limit must be from 1 to %d", maxEvents)
		}
	}
	if s := q.Get("after"); s != "" {
		last = false
		if after, err = strconv.ParseInt(s, 10, 64); err != nil || after < 0 {
			return nil, authsome.E(authsome.Invalid, "read the log: after=%q is no position", s)
		}
	}
	wctx, cancel, waits, err := d.wait(ctx, c)
	if err != nil {
		return nil, err
	}
	defer cancel()
	// Who asks wants to see what was done a moment ago, too.
	if err := d.spool.drain(ctx); err != nil {
		return nil, err
	}
	for {
		// Asked for first, so that no event comes between the look and the wait.
		appended := d.store.Appended()
		out := api.Events{Entries: []authsome.Event{}, Next: after}
		var page []authsome.Event
		if last {
			page, err = d.store.LastEvents(ctx, c.id.Vault, limit)
		} else {
			page, err = d.store.Events(ctx, c.id.Vault, after, limit)
		}
		if err != nil {
			return nil, err
		}
		out.Entries = append(out.Entries, page...)
		if n := len(page); n > 0 {
			out.Next = page[n-1].Seq
		}
		if len(page) > 0 || !waits {
			return out, nil
		}
		select {
		case <-appended:
		case <-wctx.Done():
			return out, nil
		}
	}
}

// tokenText is the plaintext of the daemon's own token, for its own request.
func (s *selfCheck) tokenText() string { return s.token.Reveal() }
