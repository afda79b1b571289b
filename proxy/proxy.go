// Package proxy is the way of a child's requests: it accepts the connections
// of `authsome run`'s children, tunnels what no provider is for, decrypts what
// one is for, asks the broker, puts the credential on, and passes everything
// else through as it is.
//
// One file is one step: connect.go reads the CONNECT and knows the grant by its
// token; blind.go tunnels; intercept.go speaks TLS in the host's name; front.go
// reads the usual requests of HTTP/1.1 and leaves all others to net/http; h2.go
// and the files beside it serve HTTP/2; exchange.go takes one request through
// resolving, sending and answering; answer.go streams the response, upgrade.go what
// follows a 101; plain.go is for requests with a whole URL, outside of a tunnel;
// upstream.go, dial.go and link.go own the connections to the services; limits.go
// and quota.go divide what there is among runs; errors.go holds every answer of our
// own; tunnel.go ends what is no longer right.
package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/internal/netguard"
)

// Limits. There is none on the duration of a request, a response or a tunnel:
// models think for minutes and clones run for hours.
const (
	// headTime is how long a child may take for a CONNECT, a TLS handshake, or
	// a request's header, once it has begun.
	headTime = time.Minute
	// idleTime is how long a connection may stay open between two requests.
	idleTime = 10 * time.Minute
	// maxHeader is the size limit of a header, in bytes.
	maxHeader = 1 << 20
	// unusedTime is how long Shutdown waits for the first request on a
	// connection.
	unusedTime = 200 * time.Millisecond
	// settleTime is how long Shutdown waits, after closing everything, for the
	// last handlers to return.
	settleTime = 2 * time.Second
)

// Resolver decides; package broker implements it. Hosts are normalised by
// package route.
type Resolver interface {
	// Grant finds the grant of a token; false when it is unknown or ended.
	Grant(token string) (*authsome.Grant, bool)
	// Host says what to do with a CONNECT.
	Host(g *authsome.Grant, host string, port int) authsome.HostVerdict
	// Resolve decides on a request. When it returns a credential, the intent
	// has been recorded. The error is an *authsome.Error.
	Resolve(ctx context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error)
	// Finish is called once for every request that Resolve returned a
	// resolution for, with the last one; and with nil for a request that the
	// proxy itself refused.
	Finish(g *authsome.Grant, req *authsome.Request, res *authsome.Resolution, out authsome.Outcome)
	// Current reports whether a stream that was opened under this generation of
	// a credential may go on; with provider "", whether the grant lives.
	Current(g *authsome.Grant, provider, connection string, generation int64) bool
}

// Issuer makes the certificates shown to children. Which authority signs one
// depends on the grant: a run's child trusts the one that there was when it was
// started.
type Issuer interface {
	Leaf(g *authsome.Grant, host string) (*tls.Certificate, error)
}

// Upstream says how the services are reached. It comes from the daemon's
// configuration, never from a run.
type Upstream struct {
	// Proxy gives the upstream proxy for a URL, as http.ProxyFromEnvironment
	// does; nil, or a nil result, dials directly. The schemes are http, https,
	// socks5 and socks5h; others are an error.
	//
	// Where there is one, it resolves the names (socks5 excepted), so only
	// addresses that are written out can be held to be public.
	Proxy func(*url.URL) (*url.URL, error)
	// Roots verify the services' certificates; nil means the system's.
	Roots *x509.CertPool
}

// Config is what a Proxy is made of. Resolver and Issuer are needed.
type Config struct {
	Resolver Resolver
	Issuer   Issuer
	Upstream Upstream
	// Logger takes what an operator may want to know; nil discards. No header,
	// query or body is ever logged.
	Logger *slog.Logger
	// Limits of what children may use.
	Limits Limits
}

// Proxy serves children. Its methods may be called from any goroutine.
type Proxy struct {
	cfg      Config
	log      *slog.Logger
	tls      *tls.Config // towards children
	ctx      context.Context
	cancel   context.CancelFunc
	registry registry
	limits   *limiter
	pools    pools
	h2only   hostSet // speak HTTP/2 alone
	noALPN   hostSet // choose no protocol, and speak HTTP/1.1
	// askCertificate have asked for a client certificate.
	askCertificate hostSet

	server  *http.Server
	handoff *handoff
	start   sync.Once
	closing atomic.Bool
	fronts  atomic.Int64 // and connections of HTTP/2
	workers workers

	idPrefix string
	ids      atomic.Int64
}

// New makes a Proxy that does nothing until Serve.
func New(c Config) *Proxy {
	p := &Proxy{cfg: c, log: c.Logger}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.tls = p.childTLS()
	p.limits = newLimiter(c.Limits)
	p.pools.make = p.newPool
	p.handoff = &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
	p.server = &http.Server{
		Handler: p,
		// HTTP/2 is h2.go's.
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: headTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		// An answer to `OPTIONS *` would be the service's to give.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return p.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, childKey{}, childOf(c))
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			child := childOf(c)
			child.tunnel.unused.Store(s == http.StateNew)
			if s == http.StateNew || s == http.StateIdle {
				child.answering.Store(false)
				child.heading.next(p.limits)
			}
		},
	}
	p.server.Protocols.SetHTTP1(true)
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	p.idPrefix = hex.EncodeToString(b[:]) + "-"
	return p
}

// childOf finds the child's connection under the TLS.
func childOf(c net.Conn) *childConn {
	switch t := c.(type) {
	case *tls.Conn:
		c = t.NetConn()
	case *resumed:
		c = t.NetConn()
	case *plainConn:
		return t.childConn
	}
	return c.(*childConn)
}

// childKey is the context key of a request's *childConn.
type childKey struct{}

// Serve accepts children from ln until ctx ends or ln is closed, and closes ln.
// Any number may run at once, one for each grant's port; a listener that
// another process shares goes on in that process. Connections that were
// accepted are served to their end, also after Serve has returned.
func (p *Proxy) Serve(ctx context.Context, ln net.Listener) error {
	p.start.Do(func() { go func() { _ = p.server.Serve(p.handoff) }() })
	defer func() { _ = ln.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	stopToo := context.AfterFunc(p.ctx, func() { _ = ln.Close() })
	defer stopToo()
	var wait time.Duration
	strangers := newUnknown()
	for {
		conn, err := ln.Accept()
		if err == nil {
			wait = 0
			t := &tunnel{conn: conn}
			strangers.add(ctx, t)
			go p.serve(&childConn{Conn: conn, tunnel: t, p: p, unknown: strangers})
			continue
		}
		if ctx.Err() != nil || p.closing.Load() || errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Out of file descriptors, or a connection that was gone before it was
		// accepted: both pass.
		if t, ok := err.(interface{ Temporary() bool }); !ok || !t.Temporary() {
			return authsome.E(authsome.Internal, "accept connections of a run: %w", err)
		}
		if netguard.Exhausted(err) {
			p.pools.closeIdle()
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		p.log.Warn("accept", "err", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// Shutdown lets requests under way finish until ctx ends, then closes
// everything. Tunnels and upgraded connections, which may never end by
// themselves, are closed once the requests are done. The Serve calls return.
// The error is ctx's when something had to be cut off.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.closing.Store(true)
	// http.Server waits 5 s for connections that have carried no request yet;
	// children open some ahead of time.
	unused := time.AfterFunc(unusedTime, func() {
		for _, t := range p.registry.all() {
			if t.unused.Load() {
				t.close()
			}
		}
	})
	defer unused.Stop()
	drained := make(chan error, 1)
	go func() { drained <- p.drainFronts(ctx) }()
	err := p.server.Shutdown(ctx)
	if ferr := <-drained; err == nil {
		err = ferr
	}
	p.cancel()
	_ = p.server.Close()
	p.handoff.close()
	p.registry.mu.Lock()
	p.registry.closed = true
	p.registry.mu.Unlock()
	for _, t := range p.registry.all() {
		t.close()
	}
	for end := time.Now().Add(settleTime); !p.registry.idle() && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
	p.workers.close()
	p.pools.close()
	return err
}

// requestID names a request in the audit.
func (p *Proxy) requestID() string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var b [13]byte
	i := len(b)
	for n := p.ids.Add(1); n > 0; n /= int64(len(digits)) {
		i--
		b[i] = digits[n%int64(len(digits))]
	}
	return p.idPrefix + string(b[i:])
}

// handoff is the listener of the http.Server: connections come to it after the
// CONNECT and the handshake.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) close() { h.once.Do(func() { close(h.done) }) }

// Close implements net.Listener.
func (h *handoff) Close() error { h.close(); return nil }

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return &net.TCPAddr{} }

// give hands a connection to the http.Server, or closes it when that is over.
func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}
