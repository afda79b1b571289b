// Package broker is the choke point: every use of a credential, every login
// and every change of a connection passes through it. It decides whether the
// caller may, finds the connection, opens what is sealed, and records the act
// in the same transaction as the change, or, for a request, before the
// credential leaves.
//
// Who calls is always an explicit argument, never a context value.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/route"
)

// Records is the storage that the broker needs; package store implements it.
// Every method that changes something commits the events that it is given in
// the same transaction.
type Records interface {
	Connections(ctx context.Context, vault, user string) ([]authsome.ConnectionRow, error)
	Connection(ctx context.Context, vault, user, provider, name string) (*authsome.ConnectionRow, error)
	SaveConnection(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, ev authsome.Event) error
	DeleteConnections(ctx context.Context, vault, user, provider string, names []string, newDefault string, ev ...authsome.Event) error
	SetDefault(ctx context.Context, vault, user, provider, name string, ev authsome.Event) error
	Definitions(ctx context.Context, vault string) ([]authsome.DefinitionRow, error)
	SaveDefinition(ctx context.Context, row authsome.DefinitionRow, ev authsome.Event) error
	DeleteDefinition(ctx context.Context, vault, name string, ev authsome.Event) error
	Logins(ctx context.Context, vault string) ([]authsome.SealedRow, error)
	SaveLogin(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error
	FinishLogin(ctx context.Context, row authsome.ConnectionRow, makeDefault bool, login authsome.SealedRow, def *authsome.DefinitionRow, ev ...authsome.Event) error
	DeleteLogins(ctx context.Context, vault string, ids ...string) error
	Grants(ctx context.Context, vault string) ([]authsome.SealedRow, error)
	SaveGrant(ctx context.Context, vault string, row authsome.SealedRow, ev ...authsome.Event) error
	DeleteGrants(ctx context.Context, vault string, ids []string, ev ...authsome.Event) error
	Item(ctx context.Context, vault, kind, name string) (sealed []byte, version int64, err error)
	SaveItem(ctx context.Context, vault, kind, name string, sealed []byte, version int64, ev ...authsome.Event) error
	DeleteItem(ctx context.Context, vault, kind, name string, ev ...authsome.Event) error
	Append(ctx context.Context, ev ...authsome.Event) error
	// Lock takes a lock that no other broker on the same storage holds, and that
	// ends with its holder.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

// Sealer encrypts records under their binding; package vault implements it.
type Sealer interface {
	Seal(b authsome.Binding, plaintext []byte) ([]byte, error)
	Unseal(b authsome.Binding, sealed []byte) ([]byte, error)
}

// Recorder takes the events of requests, which are too many for a transaction
// each; package audit's Spool implements it. An error refuses the request.
type Recorder interface {
	Append(ev authsome.Event) error
	// AppendLater may keep the event in memory for a moment.
	AppendLater(ev authsome.Event) error
}

// Catalog knows the providers; package provider implements it.
type Catalog interface {
	Get(name string) (*authsome.Provider, bool)
	All() []*authsome.Provider
	SetCustom(p *authsome.Provider)
	RemoveCustom(name string) bool
	Bundled(name string) bool
	Nearest(name string) []string
}

// Config is what a Broker is made of. All fields but RedirectURI, Logger and Now
// are needed.
type Config struct {
	Records  Records
	Sealer   Sealer
	Recorder Recorder
	Catalog  Catalog
	// Parse reads a definition file; Check holds it to what may be registered.
	Parse func(filename string, data []byte) (*authsome.Provider, error)
	Check func(p *authsome.Provider) error
	// Flow speaks to authorization servers.
	Flow *flow.Client
	// RedirectURI is where they send the browser back to; nil, an empty answer or
	// an error: nowhere, so that flows that need a browser on this machine are
	// refused.
	RedirectURI func() (string, error)
	// Logger takes what is no event; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Broker is made by New and must be Loaded before use. Its methods may be
// called from any goroutine.
type Broker struct {
	Config

	// mu serialises changes: a change reads what is, commits to the store, then
	// publishes a new snapshot. Readers of snapshots never wait for it.
	mu          sync.Mutex
	snapshot    atomic.Pointer[snapshot]
	generation  atomic.Int64
	subscribers []func()

	logins    logins
	grants    grants
	refreshes refreshes

	// life ends when Run does, and with it what waits in the background; last is
	// lastRefresh longer, for what must not be lost. work counts both.
	life, last       context.Context
	endLife, endLast context.CancelFunc
	work             work
}

// work is what goes on in the background. More may begin while somebody waits for
// its end, which a sync.WaitGroup does not permit.
type work struct {
	mu   sync.Mutex
	cond sync.Cond
	n    int
}

func (w *work) begin(f func()) {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	go func() {
		defer func() {
			w.mu.Lock()
			w.n--
			w.cond.Broadcast()
			w.mu.Unlock()
		}()
		f()
	}()
}

func (w *work) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.n > 0 {
		w.cond.Wait()
	}
}

// snapshot is everything that a request is decided on. It is never changed
// once published.
type snapshot struct {
	holdings map[owner]*holdings
}

// owner is whose connections are meant.
type owner struct{ vault, user string }

// holdings are the connections of one owner, with the routing that follows from
// them.
type holdings struct {
	byProvider map[string]*accounts
	routing    *routing
}

// accounts are the connections of one owner at one provider.
type accounts struct {
	byName map[string]*held
	deflt  string
}

// held is one connection in memory. Its credential is opened on first use.
type held struct {
	authsome.Connection
	row        authsome.ConnectionRow
	generation int64
	used       *atomic.Int64 // when a request used it last, in Unix seconds; 0: never
	open       sync.Once
	record     *record
	openErr    error
}

// New makes a Broker that does nothing until Load.
func New(c Config) *Broker {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	b := &Broker{Config: c}
	b.logins.byID = map[string]*login{}
	b.grants.byHash = map[[32]byte]*grant{}
	b.grants.byID = map[string]*grant{}
	b.refreshes.running = map[string]*refreshing{}
	b.refreshes.unsaved = map[string]unsaved{}
	b.life, b.endLife = context.WithCancel(context.Background())
	b.last, b.endLast = context.WithCancel(context.Background())
	b.work.cond.L = &b.work.mu
	b.snapshot.Store(&snapshot{holdings: map[owner]*holdings{}})
	return b
}

// Run goes on with the logins that wait for a service, and refreshes what is in
// use, until ctx ends. It returns when everything that the broker has begun in
// the background is over: a refresh that is under way is finished, since its
// token would be lost.
func (b *Broker) Run(ctx context.Context) {
	b.logins.mu.Lock()
	waiting := slices.Collect(maps.Values(b.logins.byID))
	b.logins.mu.Unlock()
	for _, l := range waiting {
		b.await(l)
	}
	b.keepFresh(ctx)
	b.endLife()
	time.AfterFunc(lastRefresh, b.endLast)
	b.Wait()
}

// Wait returns when nothing goes on in the background any more. Requests that are
// brought to their end after Run's may still begin a refresh, so it is called when
// they are over.
func (b *Broker) Wait() { b.work.wait() }

// spawn runs f in the background; its context ends when Run does.
func (b *Broker) spawn(f func(life context.Context)) {
	b.work.begin(func() { f(b.life) })
}

// Load reads what is stored: registered definitions, connections, logins in
// progress and the grants of runs that outlived the last daemon.
func (b *Broker) Load(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defs, err := b.Records.Definitions(ctx, authsome.LocalVault)
	if err != nil {
		return err
	}
	for _, d := range defs {
		p, err := b.Parse(d.Name, d.Definition)
		if err != nil {
			// One that an older version accepted must not keep the rest from
			// working; `doctor` names it too.
			b.Logger.Warn("registered definition left out", "provider", d.Name, "err", err)
			continue
		}
		p.Source = authsome.Custom
		b.Catalog.SetCustom(p)
	}
	rows, err := b.Records.Connections(ctx, authsome.LocalVault, authsome.LocalUser)
	if err != nil {
		return err
	}
	h := &holdings{byProvider: map[string]*accounts{}}
	for _, r := range rows {
		h.put(b.hold(r))
	}
	if err := b.publish(owner{authsome.LocalVault, authsome.LocalUser}, h); err != nil {
		return err
	}
	if err := b.loadLogins(ctx); err != nil {
		return err
	}
	return b.loadGrants(ctx)
}

// hold wraps a row under a generation of its own.
func (b *Broker) hold(r authsome.ConnectionRow) *held {
	return &held{Connection: r.Connection, row: r, generation: b.generation.Add(1), used: new(atomic.Int64)}
}

// put adds or replaces a connection; the row's IsDefault moves the default.
func (h *holdings) put(x *held) {
	a := h.byProvider[x.Provider]
	if a == nil {
		a = &accounts{byName: map[string]*held{}}
		h.byProvider[x.Provider] = a
	}
	a.byName[x.Name] = x
	if x.IsDefault {
		a.deflt = x.Name
	}
}

// clone copies the maps, not the connections, for a change.
func (h *holdings) clone() *holdings {
	n := &holdings{byProvider: make(map[string]*accounts, len(h.byProvider))}
	for p, a := range h.byProvider {
		c := &accounts{byName: make(map[string]*held, len(a.byName)), deflt: a.deflt}
		for name, x := range a.byName {
			c.byName[name] = x
		}
		n.byProvider[p] = c
	}
	return n
}

// of returns an owner's holdings; never nil.
func (s *snapshot) of(o owner) *holdings {
	if h := s.holdings[o]; h != nil {
		return h
	}
	return &holdings{byProvider: map[string]*accounts{}}
}

// publish makes h what requests are decided on. The caller holds mu.
func (b *Broker) publish(o owner, h *holdings) error {
	if err := b.retable(h); err != nil {
		return err
	}
	return b.publishAs(o, h)
}

// publishAs publishes holdings that have their routing tables. The caller holds
// mu.
func (b *Broker) publishAs(o owner, h *holdings) error {
	old := b.snapshot.Load()
	next := &snapshot{holdings: make(map[owner]*holdings, len(old.holdings)+1)}
	for k, v := range old.holdings {
		next.holdings[k] = v
	}
	next.holdings[o] = h
	b.snapshot.Store(next)
	return nil
}

// retable makes the routing tables anew.
func (b *Broker) retable(h *holdings) error {
	var connected []route.Entry
	for _, name := range slices.Sorted(maps.Keys(h.byProvider)) {
		if p, ok := b.Catalog.Get(name); ok {
			connected = append(connected, connectedRoutes(p, h.byProvider[name].addresses(), nil)...)
		}
	}
	var err error
	h.routing, err = newRouting(connected, func() []route.Entry {
		var configured []route.Entry
		for _, p := range b.Catalog.All() {
			every := slotsOfAll(p)
			for _, r := range p.Routes {
				configured = append(configured, route.Entry{Provider: p.Name, Route: r, Data: every.with(r)})
			}
			others := slices.DeleteFunc(h.byProvider[p.Name].addresses(), func(baseURL string) bool { return baseURL == "" })
			configured = append(configured, connectedRoutes(p, others, every)...)
		}
		return configured
	})
	return err
}

// connectedRoutes are a provider's routes at the addresses of its connections;
// every is slotsOfAll, when it is at hand.
func connectedRoutes(p *authsome.Provider, addresses []string, every *slots) (out []route.Entry) {
	if every == nil {
		every = slotsOfAll(p)
	}
	for _, baseURL := range addresses {
		for _, r := range routesOf(p, baseURL) {
			out = append(out, route.Entry{Provider: p.Name, Route: r, Data: every.with(r)})
		}
	}
	return out
}

// addresses are the different BaseURLs of an owner's connections, "" for the
// vendor's own service.
func (a *accounts) addresses() []string {
	if a == nil {
		return nil
	}
	var out []string
	for _, name := range a.names() {
		if u := a.byName[name].BaseURL; !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out
}

// routed reports whether any route of the grant is on a host.
func (b *Broker) routed(g *authsome.Grant, host string, port int) bool {
	connected, configured := b.tables(g)
	return connected != nil && connected.Host(host, port) || configured != nil && configured.Host(host, port)
}

// Subscribe has f called after every change of connections, definitions or
// grants, without locks held. It must be called before Load.
func (b *Broker) Subscribe(f func()) { b.subscribers = append(b.subscribers, f) }

// changed tells the subscribers. The caller does not hold mu.
func (b *Broker) changed() {
	for _, f := range b.subscribers {
		f()
	}
}

// event starts an event about who.
func (b *Broker) event(id authsome.Identity, t authsome.EventType, status string) authsome.Event {
	return authsome.Event{
		ID: "audit_" + randomHex(16), Time: b.Now().UTC(), Type: t, Status: status,
		Vault: id.Vault, Identity: id.User, Run: id.Run, PID: id.PID, Program: id.Program,
	}
}

// OutsideRun refuses, and records, an act that is not the broker's own and that
// only a person outside a run may do.
func (b *Broker) OutsideRun(ctx context.Context, id authsome.Identity, what string) error {
	return b.outsideRun(ctx, id, what, "", "")
}

// outsideRun refuses what only a person outside a run may do, and records the
// attempt: the process asking descends from `authsome run`, so it may be the
// agent that must not see a secret.
func (b *Broker) outsideRun(ctx context.Context, id authsome.Identity, what, provider, connection string) error {
	if id.Run == "" {
		return nil
	}
	ev := b.event(id, authsome.EventDenied, "denied")
	ev.Provider, ev.Connection, ev.Detail = provider, connection, what
	if err := b.Records.Append(ctx, ev); err != nil {
		return err
	}
	return authsome.E(authsome.Forbidden, "%s: refused inside `authsome run`, where an agent could ask for it", what).
		WithHint("run the command in a terminal of your own, outside the run")
}

// randomHex returns n random bytes as hex.
func randomHex(n int) string {
	buf := make([]byte, n)
	_, _ = rand.Read(buf) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(buf)
}

// randomToken returns n random bytes in letters and digits that stand in a URL
// and a proxy's user information without quoting.
func randomToken(n int) string {
	buf := make([]byte, n)
	_, _ = rand.Read(buf)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(buf))
}
