package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/audit"
	"golang.org/x/sync/errgroup"
)

// sweepEvery is how often what waits for nobody is ended.
const sweepEvery = time.Minute

// Serve runs a daemon until it is asked to stop: by a signal (SIGTERM, SIGINT,
// SIGHUP), by `authsome daemon stop`, or by ctx. It returns nil then. A second
// signal ends the process at once.
func Serve(ctx context.Context, c Config) error {
	ctx, restore := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer restore()
	// A reader of stderr that is gone must not end the daemon (os/signal,
	// "SIGPIPE").
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	d, err := open(ctx, c)
	if err != nil {
		return err
	}
	defer d.close()
	d.onStop = restore
	err = d.serve(ctx)
	if err != nil {
		d.log.Error("serve", "err", err, "cause", causeOf(err))
		api.ReportFailure(d.home, err)
	}
	return err
}

// serve listens, serves, and drains.
func (d *Daemon) serve(ctx context.Context) error {
	last, _ := api.ReadRecord(d.home)
	var err error
	if d.browser, err = listenBrowser(ctx, d.cfg.Port, last.Browser); err != nil {
		return err
	}
	defer func() { _ = d.browser.ln.Close() }()
	if d.socket, err = api.Listen(d.home); err != nil {
		return err
	}
	defer func() { _ = d.socket.Close() }()
	if err := d.announce(ctx); err != nil {
		return err
	}
	apiSrv := d.apiServer()
	webSrv := &http.Server{
		Handler: d.pages, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	var g errgroup.Group
	g.Go(func() error { return d.listen(apiSrv, d.socket) })
	g.Go(func() error { return d.listen(webSrv, d.browser.ln) })
	g.Go(func() error { d.spool.run(d.work, d.stopping.Done(), d.log); return nil })
	g.Go(func() error { d.sweep(); return nil })
	g.Go(func() error { d.broker.Run(d.stopping); return nil })
	g.Go(func() error { d.warm(); return nil })

	<-d.stopping.Done()
	if d.onStop != nil {
		d.onStop()
	}
	d.shutdown(apiSrv, webSrv)
	return g.Wait()
}

// warmAfter gives way to whoever has started the daemon.
const warmAfter = time.Second

// warm reads all definitions, so that the first `list` need not.
func (d *Daemon) warm() {
	select {
	case <-d.stopping.Done():
	case <-time.After(warmAfter):
		d.catalog.All()
		// The start leaves more behind than the daemon then needs for days.
		debug.FreeOSMemory()
	}
}

// announce lets commands find the daemon, and records its start.
func (d *Daemon) announce(ctx context.Context) error {
	err := writeRecord(d.home, api.Record{
		PID: d.pid, Version: d.cfg.Version, Socket: d.socket.Path(), Browser: d.browser.port(),
	})
	if err != nil {
		return authsome.E(authsome.Invalid, "use the home %s: it is not writable: %w", d.home, err)
	}
	if err := d.store.Append(ctx, d.event(authsome.EventDaemonStarted)); err != nil {
		return err
	}
	d.log.Info("ready", "version", d.cfg.Version, "pid", d.pid, "home", d.home, "socket", d.socket.Path(),
		"browser", d.browser.host(), "vault", d.vault.Source())
	if d.browser.note != "" {
		d.log.Warn("browser", "note", d.browser.note)
	}
	return nil
}

// listen serves until the server is shut down. A server that fails takes the
// daemon down, which the next command starts anew.
func (d *Daemon) listen(s *http.Server, ln net.Listener) error {
	err := s.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	d.stopNow()
	return authsome.E(authsome.Internal, "serve %s: %w", ln.Addr(), err)
}

// shutdown stops accepting, lets what is under way finish until the deadline,
// then cuts it off.
func (d *Daemon) shutdown(apiSrv, webSrv *http.Server) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(d.work, d.cfg.Drain)
	defer cancel()
	var g errgroup.Group
	// The socket goes first: a command or a run that comes now waits for the
	// next daemon.
	g.Go(func() error { return apiSrv.Shutdown(ctx) })
	g.Go(func() error { return webSrv.Shutdown(ctx) })
	g.Go(func() error { return d.proxy.Shutdown(ctx) })
	if err := g.Wait(); err != nil {
		d.log.Warn("not everything came to its end in time", "err", err)
	}
	_ = apiSrv.Close()
	_ = webSrv.Close()
	hard, cancelHard := context.WithTimeout(d.work, time.Second)
	defer cancelHard()
	d.runs.close(hard)
	d.broker.Wait()
	if err := d.spool.drain(d.work); err != nil {
		d.log.Error("store the audit; it stays in the spool", "err", err)
	}
	if err := d.store.Append(d.work, d.event(authsome.EventDaemonStopped)); err != nil {
		d.log.Error("record the end", "err", err)
	}
	d.log.Info("stopped", "after", time.Since(began).Round(time.Millisecond))
}

// sweep ends what waits for nobody, from time to time.
func (d *Daemon) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.stopping.Done():
			return
		case <-tick.C:
			d.broker.Sweep(d.work, d.loadedAt)
			d.runs.forget(d.broker.Knows)
			if err := d.authorities.tend(d.work); err != nil {
				d.log.Error("renew the certificate authority", "err", err)
			}
		}
	}
}

func (d *Daemon) event(t authsome.EventType) authsome.Event {
	return authsome.Event{
		ID: audit.NewID(), Time: time.Now().UTC(), Type: t, Status: "ok",
		Vault: authsome.LocalVault, Identity: authsome.LocalUser, PID: d.pid, Program: programOf(d.pid),
		Detail: "version " + d.cfg.Version,
	}
}

// causeOf is what an error keeps for the log.
func causeOf(err error) error {
	var e *authsome.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return nil
}
