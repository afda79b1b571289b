package proxy

import (
	"container/list"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

// account is what one run uses.
type account struct {
	grant      *authsome.Grant
	shares     [resources]share
	handshakes slots

	mu sync.Mutex
	// hosts have been asked for; room is for how many others, as of since.
	hosts map[string]struct{}
	room  float64
	since time.Time
	told  map[code]time.Time
}

// accounts are those of the runs that there are.
type accounts struct {
	mu   sync.Mutex
	byID map[string]*account
}

func (s *limiter) of(g *authsome.Grant) *account {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	a := s.accounts.byID[g.ID]
	if a == nil {
		a = &account{grant: g, handshakes: newHandshakes(), room: float64(s.RunHosts), since: time.Now()}
		if s.accounts.byID == nil {
			s.accounts.byID = map[string]*account{}
		}
		s.accounts.byID[g.ID] = a
	}
	return a
}

// drop forgets the runs that are over. What they still use, they give back.
func (s *limiter) drop(over func(*authsome.Grant) bool) {
	s.accounts.mu.Lock()
	defer s.accounts.mu.Unlock()
	for id, a := range s.accounts.byID {
		if over(a.grant) {
			delete(s.accounts.byID, id)
		}
	}
}

// maxKnownHosts is how many hosts of a run are remembered as asked for; then all of
// them are forgotten, which costs the run its turns once more.
const maxKnownHosts = 4096

// visit is false when the run has asked for too many new hosts, also in a while.
func (a *account) visit(ctx context.Context, host string, perMinute int) bool {
	a.mu.Lock()
	if _, ok := a.hosts[host]; ok {
		a.mu.Unlock()
		return true
	}
	now := time.Now()
	each := time.Minute / time.Duration(perMinute)
	a.room = min(a.room+float64(now.Sub(a.since))/float64(each), float64(perMinute))
	a.since = now
	wait := time.Duration((1 - a.room) * float64(each))
	if wait > patience {
		a.mu.Unlock()
		return false
	}
	a.room-- // below 0 are those that wait
	if a.hosts == nil || len(a.hosts) >= maxKnownHosts {
		a.hosts = map[string]struct{}{}
	}
	a.hosts[host] = struct{}{}
	a.mu.Unlock()
	if wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// first reports whether a limit has to be told.
func (a *account) first(c code) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if last, ok := a.told[c]; ok && now.Sub(last) < tellAgain {
		return false
	}
	if a.told == nil {
		a.told = map[code]time.Time{}
	}
	a.told[c] = now
	return true
}

// tell has a limit that was hit logged and recorded, the first time; a child that
// goes on would fill both.
func (p *Proxy) tell(a *account, req *authsome.Request, prob *problem) *problem {
	if !a.first(prob.Code) {
		return prob
	}
	p.log.Warn("a run has come to a limit", "run", a.grant.ID, "program", a.grant.Program, "limit", prob.Code, "message", prob.Message)
	if req.ID == "" {
		req.ID = p.requestID()
	}
	p.cfg.Resolver.Finish(a.grant, req, nil, authsome.Outcome{Status: prob.status(), Err: prob.Message})
	return prob
}

// charge counts a connection as the run's, once it is known whose it is; false when
// the run has too many, or when the connection is closed.
func (c *childConn) charge(g *authsome.Grant) bool {
	if c.account != nil && c.account.grant.ID == g.ID {
		return true
	}
	a := c.p.limits.of(g)
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	if c.discharged || !c.p.limits.try(a, connections, 1) {
		return false
	}
	if c.account != nil {
		c.p.limits.give(c.account, connections, 1)
	}
	c.account = a
	c.heading.of(a)
	c.unknown.remove(c.tunnel)
	return true
}

// discharge is called once, when the connection is closed.
func (c *childConn) discharge() {
	c.tunnel.mu.Lock()
	defer c.tunnel.mu.Unlock()
	c.discharged = true
	c.answering.Store(true) // no header is counted any more
	c.heading.next(c.p.limits)
	if c.account != nil {
		c.p.limits.give(c.account, connections, 1)
	}
	c.unknown.remove(c.tunnel)
}

func errConnections() *problem {
	return problemf(tooManyConnections, "too many connections are open: those of this run, or of all runs together")
}

func errRequests() *problem {
	return problemf(tooManyRequests, "too many requests are under way: those of this run, or of all runs together")
}

// enter counts a request as under way, when there is room for it in time; leave is
// called at its end.
func (p *Proxy) enter(w http.ResponseWriter, r *http.Request, a *account, host string, port int) bool {
	if p.limits.await(r.Context(), a, requests, 1) {
		return true
	}
	p.tell(a, &authsome.Request{Host: host, Port: port, Method: r.Method}, errRequests()).write(w)
	return false
}

func (p *Proxy) leave(a *account) { p.limits.give(a, requests, 1) }

// keepRoom makes sure that there is room for what is kept of a body, up to limit
// bytes of it.
func (x *exchange) keepRoom(limit int) *problem {
	n := int64(limit)
	if x.r.ContentLength >= 0 {
		n = min(n, x.r.ContentLength)
	}
	return x.reserve(n)
}

// reserve waits for memory; release gives back what the exchange has.
func (x *exchange) reserve(n int64) *problem {
	if x.p.limits.await(x.r.Context(), x.c.account, memory, n) {
		x.reserved += n
		return nil
	}
	return x.p.tell(x.c.account, &authsome.Request{Host: x.host, Port: x.port, Method: x.r.Method}, errMemory())
}

// keep has the body kept, so that the request can be sent again, when it is short
// and there is room for it. Nobody waits for that.
func (x *exchange) keep() {
	if x.body == nil || x.r.ContentLength > maxReplay {
		return
	}
	n := int64(maxReplay)
	if x.r.ContentLength >= 0 {
		n = x.r.ContentLength
	}
	if x.p.limits.try(x.c.account, memory, n) {
		x.reserved, x.again = x.reserved+n, n
		x.body.keep()
	}
}

// forget ends keep: the answer may be a stream of hours.
func (x *exchange) forget() {
	if x.again == 0 {
		return
	}
	x.body.forget()
	x.p.limits.give(x.c.account, memory, x.again)
	x.reserved, x.again = x.reserved-x.again, 0
}

// messageRoom is what messages ask for memory.
func (x *exchange) messageRoom(n int) bool {
	if n < 0 {
		x.p.limits.give(x.c.account, memory, int64(-n))
		return true
	}
	if x.p.limits.try(x.c.account, memory, int64(n)) {
		return true
	}
	x.p.tell(x.c.account, &authsome.Request{Host: x.host, Port: x.port, Method: x.r.Method}, problemf(outOfMemory, "%s", noRoom.reason))
	return false
}

// hold counts what has come of bodies over HTTP/2 and was not read yet.
func (p *Proxy) hold(a *account, n int) {
	if n < 0 {
		p.limits.give(a, memory, int64(-n))
	} else {
		p.limits.force(a, memory, int64(n))
	}
}

// full reports whether no more of bodies can be held for the run.
func (p *Proxy) full(c *childConn) bool {
	if p.limits.has(c.account, memory, h2Chunk) {
		return false
	}
	p.tell(c.account, &authsome.Request{Host: c.host, Port: c.port}, errMemory())
	return true
}

// headRoom of a header is free, in bytes. What goes beyond counts as memory, in steps of
// as much, and is refused while it is not known whose that would be.
const headRoom = 64 << 10

// heading is what has come of the header that net/http reads on a connection, and
// what it takes of memory, in bytes. net/http reads in two goroutines.
type heading struct {
	mu         sync.Mutex
	run        *account // nil until it is known
	holder     *account // that held is of; another one when the connection has become another run's
	size, held int64
}

// of says whose header comes next.
func (h *heading) of(run *account) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run = run
}

// came counts what has come; when that is too much, it says so, and of which run.
func (h *heading) came(c *childConn, n int) (*problem, *account) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.answering.Load() {
		return nil, nil
	}
	for h.size += int64(n); h.size-h.held > headRoom; h.held += headRoom {
		if h.run == nil {
			return errLongStart(), nil
		}
		if !c.p.limits.try(h.run, memory, headRoom) {
			return errMemory(), h.run
		}
		h.holder = h.run
	}
	return nil, nil
}

// next is called when another header may come, and the last one is not needed any more.
func (h *heading) next(l *limiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held > 0 {
		l.give(h.holder, memory, h.held)
	}
	h.size, h.held = 0, 0
}

// headed is a Read of conn, which net/http reads requests from.
func (c *childConn) headed(conn net.Conn, n int, err error) (int, error) {
	prob, run := c.heading.came(c, n)
	if prob == nil {
		return n, err
	}
	if run != nil {
		prob = c.p.tell(run, &authsome.Request{Host: c.host, Port: c.port}, prob)
	}
	c.p.reply(conn, prob, true)
	return 0, io.EOF
}

func errLongStart() *problem {
	prob := problemf(headerTooLarge, "the header is over %d bytes, and it is not known yet which run it is of", headRoom)
	prob.Fix = "begin a connection with a header below 64 KB"
	return prob
}

func errMemory() *problem {
	return problemf(outOfMemory, "the requests of this run, or of all runs together, keep too much of their bodies in memory")
}

func (x *exchange) release() { x.p.limits.give(x.c.account, memory, x.reserved) }

// unknown are the connections to one port that have shown no token yet, the oldest
// in front.
type unknown struct {
	mu   sync.Mutex
	list list.List // of stranger
	at   map[*tunnel]*list.Element
	left chan struct{} // of one, filled when somebody goes
}

type stranger struct {
	*tunnel
	since time.Time
}

func newUnknown() *unknown {
	return &unknown{at: map[*tunnel]*list.Element{}, left: make(chan struct{}, 1)}
}

// add waits until there is room for one more. Who has been there for unknownTime has
// to go for it; who has not may have sent its token, and nobody has read it yet: many
// connect at once. When ctx ends meanwhile, the new one is closed.
func (u *unknown) add(ctx context.Context, t *tunnel) {
	for {
		oldest, wait := u.tryAdd(t)
		if wait <= 0 {
			if oldest != nil {
				oldest.close()
			}
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-u.left:
		case <-timer.C:
		case <-ctx.Done():
			t.close()
			return
		}
		timer.Stop()
	}
}

// tryAdd returns who has to go for the new one, or nil, or else how long the new one
// has to wait for that.
func (u *unknown) tryAdd(t *tunnel) (oldest *tunnel, wait time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.list.Len() >= maxUnknown {
		first := u.list.Front().Value.(stranger)
		if wait = time.Until(first.since.Add(unknownTime)); wait > 0 {
			return nil, wait
		}
		oldest = first.tunnel
		u.list.Remove(u.list.Front())
		delete(u.at, oldest)
	}
	u.at[t] = u.list.PushBack(stranger{t, time.Now()})
	return oldest, 0
}

func (u *unknown) remove(t *tunnel) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.at[t]; e != nil {
		u.list.Remove(e)
		delete(u.at, t)
		select {
		case u.left <- struct{}{}:
		default:
		}
	}
}
