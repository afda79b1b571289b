package proxy

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/authsome/authsome"
)

// kind is what a child's connection has become.
type kind int

const (
	pending     kind = iota // nothing decided yet
	blind                   // spliced to the upstream, never decrypted
	intercepted             // TLS with a leaf of ours
	plain                   // absolute-form http:// requests
)

// target is what a CONNECT was for.
type target struct {
	grant *authsome.Grant
	host  string // normalised
	port  int
}

// tunnel is one connection of a child, from accept to close. The registry holds
// all of them, so that any can be ended from outside.
type tunnel struct {
	conn net.Conn // the child's TCP connection
	// unused is true between the hand-over to the http.Server and the first
	// request.
	unused atomic.Bool
	// front serves it, when that is not the http.Server.
	front atomic.Pointer[front]
	h2    atomic.Pointer[h2conn]

	mu     sync.Mutex
	kind   kind
	target target // of blind and intercepted tunnels
	closed bool
	// upstream is the other side of a blind tunnel.
	upstream io.Closer
	streams  map[*stream]struct{}
}

// become says what the tunnel is from now on; false when it was ended
// meanwhile.
func (t *tunnel) become(k kind, to target, upstream io.Closer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kind, t.target, t.upstream = k, to, upstream
	return !t.closed
}

// close ends the tunnel and everything on it. It may be called more than once.
func (t *tunnel) close() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.closed = true
	up := t.upstream
	t.mu.Unlock()
	_ = t.conn.Close()
	if f := t.front.Load(); f != nil {
		f.abort()
	}
	if up != nil {
		_ = up.Close()
	}
}

// stream is one request in flight, or an upgraded connection.
type stream struct {
	grant      *authsome.Grant
	provider   string // "" when nothing was injected
	connection string
	generation int64
	cancel     context.CancelCauseFunc
}

func (t *tunnel) begin(s *stream) {
	t.mu.Lock()
	if t.streams == nil {
		t.streams = map[*stream]struct{}{}
	}
	t.streams[s] = struct{}{}
	t.mu.Unlock()
}

func (t *tunnel) end(s *stream) {
	t.mu.Lock()
	delete(t.streams, s)
	t.mu.Unlock()
}

// registry is every tunnel there is.
type registry struct {
	mu      sync.Mutex
	tunnels map[*tunnel]struct{}
	closed  bool
	// epoch counts Reconsider's passes. Whoever decides on something first and
	// registers it afterwards compares it, and decides again when a pass may
	// have missed him.
	epoch    atomic.Int64
	handlers atomic.Int64 // requests being handled
}

// add registers a connection; false when the proxy is closing for good.
func (r *registry) add(t *tunnel) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.tunnels == nil {
		r.tunnels = map[*tunnel]struct{}{}
	}
	r.tunnels[t] = struct{}{}
	return true
}

func (r *registry) remove(t *tunnel) {
	r.mu.Lock()
	delete(r.tunnels, t)
	r.mu.Unlock()
}

// all copies the list, so that nothing is called with the lock held.
func (r *registry) all() []*tunnel {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*tunnel, 0, len(r.tunnels))
	for t := range r.tunnels {
		list = append(list, t)
	}
	return list
}

func (r *registry) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tunnels) == 0 && r.handlers.Load() == 0
}

// Reconsider ends what is no longer right: tunnels of grants that are over,
// blind tunnels to hosts that are routed or refused now, and requests under way
// with a credential that was replaced or removed. The daemon calls it after
// every such change; it returns when the ends have been set in motion.
func (p *Proxy) Reconsider() {
	p.registry.epoch.Add(1)
	alive := map[*authsome.Grant]bool{}
	living := func(g *authsome.Grant) bool {
		ok, seen := alive[g]
		if !seen {
			ok = p.cfg.Resolver.Current(g, "", "", 0)
			alive[g] = ok
		}
		return ok
	}
	for _, t := range p.registry.all() {
		t.mu.Lock()
		k, to := t.kind, t.target
		streams := slices.Collect(maps.Keys(t.streams))
		t.mu.Unlock()
		switch {
		case to.grant != nil && !living(to.grant):
			t.close()
			continue
		case k == blind && p.cfg.Resolver.Host(to.grant, to.host, to.port) != authsome.Tunnel:
			t.close()
			continue
		}
		for _, s := range streams {
			if !living(s.grant) || s.provider != "" && !p.cfg.Resolver.Current(s.grant, s.provider, s.connection, s.generation) {
				s.cancel(errReconsidered)
			}
		}
	}
	over := func(g *authsome.Grant) bool { return !living(g) }
	p.pools.dropForwarded(over)
	p.limits.drop(over)
}

// childConn is the child's connection with what was read ahead of its
// hand-over. net/http serves it, or crypto/tls on top of it.
type childConn struct {
	net.Conn
	tunnel *tunnel
	p      *Proxy
	target               // of an intercepted tunnel
	addr   string        // its host:port
	ahead  *bufio.Reader // nil once drained; read by one goroutine only
	once   sync.Once
	// account is the run's, nil until that is known; for the goroutine that serves
	// the connection.
	account    *account
	discharged bool // guarded by the tunnel's mu
	// answering is set from when the http.Server has read a header until it waits for
	// the next: what it writes is a handler's, or is written after a switch of
	// protocols. And when the connection is over.
	answering atomic.Bool
	heading   heading
	unknown   *unknown // of the port; nil where there is none
}

func (c *childConn) Read(b []byte) (int, error) {
	if c.ahead == nil {
		return c.Conn.Read(b)
	}
	n := c.ahead.Buffered()
	if n > 0 {
		n, _ = c.ahead.Read(b[:min(n, len(b))]) // from the buffer: cannot fail
	}
	if c.ahead.Buffered() == 0 {
		putReader(c.ahead)
		c.ahead = nil
	}
	if n > 0 || len(b) == 0 {
		return n, nil
	}
	return c.Conn.Read(b)
}

// Close also takes the tunnel out of the registry.
func (c *childConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.tunnel.close()
		c.p.registry.remove(c.tunnel)
		c.discharge()
	})
	return err
}

// SetLinger is for reset.
func (c *childConn) SetLinger(int) error {
	reset(c.Conn)
	return nil
}

// CloseWrite lets crypto/tls and our splices end one direction.
func (c *childConn) CloseWrite() error { return closeWrite(c.Conn) }

// readers are 4 KB: a CONNECT with its headers is some 200 bytes.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func getReader(r io.Reader) *bufio.Reader {
	br := readers.Get().(*bufio.Reader)
	br.Reset(r)
	return br
}

func putReader(br *bufio.Reader) {
	br.Reset(nil)
	readers.Put(br)
}
