package daemon

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/provider"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/store"
	"github.com/authsome/authsome/vault"
	"github.com/authsome/authsome/web"
	"github.com/gofrs/flock"
)

// Files of the home that only the daemon knows.
const (
	databaseFile = "authsome.db"
	spoolFile    = "audit.spool"
)

// Daemon is one running daemon.
type Daemon struct {
	cfg  Config
	home string
	pid  int
	log  *slog.Logger

	lock        *flock.Flock
	logFile     *logFile
	store       *store.Store
	vault       *vault.Vault
	catalog     *provider.Catalog
	authorities *authorities
	spool       *recorder
	broker      *broker.Broker
	proxy       *proxy.Proxy
	pages       http.Handler
	browser     *browserPort
	socket      *api.Listener
	upstream    proxy.Upstream
	limits      proxy.Limits

	runs  *runs
	self  selfCheck
	ready readiness

	loadedAt time.Time
	// work is the context of what must be finished even while the daemon
	// stops; stopping ends when it is asked to.
	work     context.Context
	endWork  context.CancelFunc
	stopping context.Context
	stopNow  context.CancelFunc
	// onStop is called before anything is shut down; nil does nothing. It gives
	// signals their own effect back, so that the next one ends the process.
	onStop func()
}

// open takes the home and brings up every part, in the order in which they
// need each other; nothing is served yet. On an error everything that was
// taken is given back.
func open(ctx context.Context, c Config) (_ *Daemon, err error) {
	d := &Daemon{pid: os.Getpid(), runs: &runs{
		byGrant: map[string]*run{}, byPID: map[int]*run{}, sleeping: map[int]authsome.Grant{},
	}}
	d.work, d.endWork = context.WithCancel(context.WithoutCancel(ctx))
	d.stopping, d.stopNow = context.WithCancel(ctx)
	if d.home, err = c.home(); err != nil {
		d.close()
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		d.close()
		if !errors.Is(err, errHeld) {
			api.ReportFailure(d.home, err)
		}
	}()
	if d.cfg, err = c.withDefaults(); err != nil {
		return nil, err
	}
	if d.upstream, err = upstream(d.cfg.Getenv); err != nil {
		return nil, err
	}
	if d.limits, err = parseLimits(d.cfg.Getenv(limitsVariable)); err != nil {
		return nil, err
	}
	if err := api.EnsureHome(d.home); err != nil {
		return nil, err
	}
	if d.lock, err = lockHome(d.home); err != nil {
		return nil, err
	}
	api.ClearFailure(d.home)
	if d.logFile, err = openLog(d.home); err != nil {
		return nil, err
	}
	d.log = d.logFile.logger(d.cfg)
	if err := d.openRecords(ctx); err != nil {
		d.log.Error("start", "err", err, "cause", causeOf(err))
		return nil, err
	}
	return d, nil
}

// openRecords brings up what lasts, and what is made from it.
func (d *Daemon) openRecords(ctx context.Context) error {
	var err error
	if d.store, err = store.Open(ctx, store.Config{Path: filepath.Join(d.home, databaseFile)}); err != nil {
		return err
	}
	d.catalog = provider.NewCatalog()
	if d.vault, err = vault.Open(ctx, vault.Config{
		Home: d.home, Getenv: d.cfg.Getenv, Keyring: d.cfg.Keyring, Headers: d.store,
	}); err != nil {
		return err
	}
	spool, err := audit.OpenSpool(filepath.Join(d.home, spoolFile))
	if err != nil {
		return authsome.E(authsome.StoreFailed, "open the audit: %w", err)
	}
	d.spool = newRecorder(spool, d.store)
	// What the last daemon could not store any more comes first.
	if err := d.spool.drain(ctx); err != nil {
		return authsome.E(authsome.StoreFailed, "store the audit of the last daemon: %w", err)
	}
	if d.authorities, err = d.openAuthorities(ctx); err != nil {
		return err
	}
	d.broker = broker.New(broker.Config{
		Records: d.store, Sealer: d.vault, Recorder: d.spool, Catalog: d.catalog,
		Parse: provider.Parse, Check: provider.CheckRegistrable, Logger: d.log,
		Flow:        flow.New(flow.Config{Proxy: d.upstream.Proxy, Roots: d.upstream.Roots}),
		RedirectURI: d.redirectURI,
	})
	d.self = selfCheck{Broker: d.broker, token: authsome.NewSecret(randomName())}
	d.proxy = proxy.New(proxy.Config{Resolver: &d.self, Issuer: d.authorities, Upstream: d.upstream, Logger: d.log, Limits: d.limits})
	d.broker.Subscribe(d.proxy.Reconsider)
	d.loadedAt = time.Now()
	if err := d.broker.Load(ctx); err != nil {
		return err
	}
	if err := d.authorities.tend(ctx); err != nil {
		return err
	}
	d.runs.sleep(d.broker.Runs())
	if err := d.refuseRunsOwn(); err != nil {
		return err
	}
	d.pages = web.New(web.Config{
		Logins: desk{d.broker, d.home}, Health: d.publicHealth, Ready: d.publicReady,
		Host:   func() string { return d.browser.host() },
		Logger: d.log,
	})
	return nil
}

// refuseRunsOwn refuses to be a daemon that a run's descendant made to its own
// taste, after it killed the one before: it would send every key where the
// descendant likes. A run itself may start one, with the environment that
// api.Connect leaves.
func (d *Daemon) refuseRunsOwn() error {
	if !knowsProcesses || d.runs.of(d.pid) == "" {
		return nil
	}
	for _, name := range steering {
		if d.cfg.Getenv(name) != "" || os.Getenv(name) != "" {
			return authsome.E(authsome.Forbidden, "start the daemon: a process inside a run may not give it %s", name).
				WithHint("start it in a terminal of your own: authsome daemon start")
		}
	}
	return nil
}

// close gives back what open took, in the opposite order. It may be called on
// a half-made Daemon.
func (d *Daemon) close() {
	d.stopNow()
	d.endWork()
	if d.spool != nil {
		d.spool.close()
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Error("close the database", "err", err)
		}
	}
	if d.logFile != nil {
		_ = d.logFile.Close()
	}
	if d.lock != nil {
		_ = d.lock.Unlock()
	}
}

// recorder is the spool with somebody who empties it: requests are recorded in
// the spool before their credential leaves, and stored in batches.
type recorder struct {
	spool *audit.Spool
	store *store.Store
	// fresh has an element when something came that is not stored.
	fresh chan struct{}
	once  sync.Once
}

// batchEvery is how long events are gathered: `log -f` shows a request with
// this delay at most.
const batchEvery = 200 * time.Millisecond

// storeAgain is when storing is tried again that has failed, if no event comes before.
const storeAgain = 10 * time.Second

func newRecorder(spool *audit.Spool, st *store.Store) *recorder {
	return &recorder{spool: spool, store: st, fresh: make(chan struct{}, 1)}
}

// Append implements broker.Recorder.
func (r *recorder) Append(ev authsome.Event) error { return r.add(r.spool.Append(ev)) }

// AppendLater implements broker.Recorder.
func (r *recorder) AppendLater(ev authsome.Event) error { return r.add(r.spool.AppendLater(ev)) }

func (r *recorder) add(err error) error {
	if err == nil {
		r.wake()
	}
	return err
}

func (r *recorder) wake() {
	select {
	case r.fresh <- struct{}{}:
	default:
	}
}

func (r *recorder) drain(ctx context.Context) error {
	return r.spool.Drain(func(source string, batch []authsome.Event) error {
		return r.store.AppendFrom(ctx, source, batch...)
	})
}

// run stores what comes until stopping ends; ctx is for the storing.
func (r *recorder) run(ctx context.Context, stopping <-chan struct{}, log *slog.Logger) {
	for {
		select {
		case <-stopping:
			return
		case <-r.fresh:
		}
		select {
		case <-stopping:
			return
		case <-time.After(batchEvery):
		}
		if err := r.drain(ctx); err != nil {
			// It stays in the spool. A full disk refuses events, and so may leave none
			// that would have it tried again.
			log.Error("store the audit", "err", err)
			time.AfterFunc(storeAgain, r.wake)
		}
	}
}

func (r *recorder) close() { r.once.Do(func() { _ = r.spool.Close() }) }

func randomName() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return base32.StdEncoding.EncodeToString(b[:])
}
