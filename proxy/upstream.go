package proxy

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

const (
	// maxPools bounds the sets of upstream connections; the least recently used
	// is dropped.
	maxPools = 4096
	// maxIdlePerHost: net/http's default of 2 makes a new connection for almost
	// every request as soon as a few run at once.
	maxIdlePerHost = 256
	// maxIdle bounds those of a pool whose child asks ever new hosts.
	maxIdle      = 1024
	idleUpstream = 90 * time.Second
	// pingTime is how long an HTTP/2 connection is silent before it is asked
	// whether it lives. Servers of gRPC end those that ask more often than every
	// five minutes without sending data (ENHANCE_YOUR_CALM), and a stream may be
	// idle for hours; what is dead underneath, TCP's keep-alive finds sooner.
	pingTime = 6 * time.Minute
	// continueTime is how long an upload waits for a 100 that the child asked
	// for, before it is sent all the same (RFC 9110, section 10.1.1).
	continueTime = time.Second
	// maxHosts bounds the memory of what hosts speak.
	maxHosts = 1024
)

// poolKey separates upstream connections, so that an answer that lost its place
// on a connection can never reach another account or another run.
type poolKey struct {
	grant                             string // of requests without a credential
	vault, user, provider, connection string // of requests with one
	generation                        int64
	reach                             reach
	// certified connections are made with the connection's certificate: requests
	// of the same connection that do not want one are not sent over them.
	certified bool
}

// pool is the upstream connections of one key. Each transport is made when it
// is first needed.
type pool struct {
	key   poolKey
	grant *authsome.Grant // when the key is a grant's
	// certificate gives the one to present; nil for none.
	certificate func() (*tls.Certificate, error)
	sessions    tls.ClientSessionCache
	scrubbers   scrubbers

	http1            func() *links
	http2, cleartext func() *http.Transport
	mu               sync.Mutex
	made             []*http.Transport
	links            *links // nil until http1 was called
}

// pools are all of them, most recently used in front.
type pools struct {
	make func(poolKey, *authsome.Grant, authsome.Secret) *pool

	mu     sync.Mutex
	byKey  map[poolKey]*list.Element // of *pool
	recent list.List
}

// injected is the pool for a request that carries a credential, forwarded for
// one that does not.
func (p *Proxy) poolFor(g *authsome.Grant, res *authsome.Resolution) *pool {
	if res == nil || res.Verdict != authsome.Inject {
		return p.pools.get(poolKey{grant: g.ID}, g, authsome.Secret{})
	}
	r := publicAddress
	if res.Private {
		r = anyAddress
	}
	return p.pools.get(poolKey{
		vault: g.Identity.Vault, user: g.Identity.User, provider: res.Provider, connection: res.Connection,
		generation: res.Generation, reach: r, certified: !res.Certificate.IsZero(),
	}, nil, res.Certificate)
}

func (s *pools) get(k poolKey, g *authsome.Grant, certificate authsome.Secret) *pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byKey[k]; ok {
		if s.recent.Front() != e {
			s.recent.MoveToFront(e)
		}
		return e.Value.(*pool)
	}
	if s.byKey == nil {
		s.byKey = map[poolKey]*list.Element{}
	}
	s.dropFormer(k)
	n := s.make(k, g, certificate)
	s.byKey[k] = s.recent.PushFront(n)
	if s.recent.Len() > maxPools {
		s.drop(s.recent.Back())
	}
	return n
}

// dropFormer drops the pools of what a login was before it was replaced. Nobody asks
// for their connections any more, and their scrubbers know the key that it had. It is
// called with mu held.
func (s *pools) dropFormer(k poolKey) {
	for e := s.recent.Front(); e != nil && k.provider != ""; {
		next := e.Next()
		former := e.Value.(*pool).key
		if former.generation < k.generation {
			former.generation, former.reach, former.certified = k.generation, k.reach, k.certified
			if former == k {
				s.drop(e)
			}
		}
		e = next
	}
}

// drop is called with mu held. Requests under way keep their connections.
func (s *pools) drop(e *list.Element) {
	old := s.recent.Remove(e).(*pool)
	delete(s.byKey, old.key)
	old.close()
}

// dropForwarded drops the pools of grants that are over.
func (s *pools) dropForwarded(over func(*authsome.Grant) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.recent.Front(); e != nil; {
		next := e.Next()
		if g := e.Value.(*pool).grant; g != nil && over(g) {
			s.drop(e)
		}
		e = next
	}
}

// closeIdle closes what is kept open for later requests.
func (s *pools) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.recent.Front(); e != nil; e = e.Next() {
		e.Value.(*pool).closeIdle()
	}
}

func (s *pools) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.recent.Len() > 0 {
		s.drop(s.recent.Back())
	}
}

func (p *Proxy) newPool(k poolKey, g *authsome.Grant, certificate authsome.Secret) *pool {
	n := &pool{key: k, grant: g, sessions: tls.NewLRUClientSessionCache(32)}
	if k.certified {
		n.certificate = clientCertificate(certificate)
	}
	over := func(proto string) func() *http.Transport {
		return sync.OnceValue(func() *http.Transport {
			t := newTransport()
			t.DialTLSContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
				return p.dialTLS(ctx, addr, proto, n)
			}
			t.Protocols = new(http.Protocols)
			if proto == "h2" {
				t.Protocols.SetHTTP2(true)
				t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingTime, PingTimeout: 15 * time.Second}
			} else {
				t.Protocols.SetHTTP1(true)
			}
			n.keep(t)
			return t
		})
	}
	n.http2 = over("h2")
	transport := over("http/1.1")
	n.http1 = sync.OnceValue(func() *links {
		l := &links{transport: transport(), dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return p.dialTLS(ctx, addr, "http/1.1", n)
		}}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.links = l
		return l
	})
	n.cleartext = sync.OnceValue(func() *http.Transport {
		t := newTransport()
		t.TLSClientConfig = &tls.Config{RootCAs: p.cfg.Upstream.Roots, MinVersion: tls.VersionTLS12} // of an https proxy
		t.Proxy = func(r *http.Request) (*url.URL, error) { return p.requestProxy(r.URL.Host) }
		t.DialContext = p.dialPlain
		n.keep(t)
		return t
	})
	return n
}

func newTransport() *http.Transport {
	return &http.Transport{
		DisableCompression:     true, // what the child accepts is the child's to say
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxIdleConns:           maxIdle,
		IdleConnTimeout:        idleUpstream,
		ExpectContinueTimeout:  continueTime,
		MaxResponseHeaderBytes: maxHeader,
	}
}

func (n *pool) keep(t *http.Transport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made = append(n.made, t)
}

func (n *pool) closeIdle() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.made {
		t.CloseIdleConnections()
	}
	if n.links != nil {
		n.links.closeIdle()
	}
}

func (n *pool) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.made {
		t.CloseIdleConnections()
	}
	if n.links != nil {
		n.links.close()
	}
}

// hostSet remembers hosts, up to maxHosts of them; then it forgets them all, which
// costs one attempt each.
type hostSet struct {
	mu    sync.RWMutex
	hosts map[string]struct{}
}

func (s *hostSet) has(host string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.hosts[host]
	return ok
}

func (s *hostSet) set(host string, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !in {
		delete(s.hosts, host)
		return
	}
	if s.hosts == nil || len(s.hosts) >= maxHosts {
		s.hosts = map[string]struct{}{}
	}
	s.hosts[host] = struct{}{}
}
