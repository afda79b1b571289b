package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

// links sends requests to services over HTTP/1.1. Those without a body, which
// may be repeated, it writes and reads in the goroutine that waits for the
// answer, where http.Transport hands each over to two others and back. All others
// are Transport's.
type links struct {
	dial      func(ctx context.Context, addr string) (net.Conn, error)
	transport *http.Transport
	// opaque is set when it cannot be told whether an idle connection is still
	// good: none is kept then, and Transport does better.
	opaque atomic.Bool

	mu     sync.Mutex
	idle   map[string][]*link // the one used last is last
	count  int                // of all in idle
	sweeps bool
	closed bool
}

// link is a connection to a service.
type link struct {
	addr  string
	conn  net.Conn
	raw   syscall.RawConn // nil when it cannot be waited for
	br    *bufio.Reader
	bw    *bufio.Writer // nil but while a request is sent
	left  int64         // bytes that may be read, of a header
	byte  [1]byte
	since time.Time
	// quiet reports whether the connection is open and nothing has come on it; nil
	// when it cannot be told.
	quiet func() bool
}

func (l *link) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errAnswer
	}
	n, err := l.conn.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}

// send sends a request that takes has said yes to; pass gets the 1xx answers.
// ctx ends both the waiting and the reading of the body. addr is "host:port".
func (s *links) send(ctx context.Context, addr string, r *http.Request, pass func(int, textproto.MIMEHeader) error) (*http.Response, error) {
	for {
		l, err := s.get(ctx, addr)
		if err != nil {
			return nil, err
		}
		used := !l.since.IsZero()
		res, begun, err := s.exchange(ctx, l, r, pass)
		if err == nil {
			return res, nil
		}
		_ = l.conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// The service has closed it at the moment when the request was sent.
		// Sending it again is safe: see takes.
		if !used || begun {
			return nil, err
		}
	}
}

// takes reports whether a request is simple enough: nothing follows its header,
// it may be sent twice (RFC 9110, section 9.2.2), and Transport would not refuse
// it.
func (s *links) takes(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions ||
		r.Body != http.NoBody || len(r.Trailer) > 0 || r.Header["Upgrade"] != nil || s.opaque.Load() {
		return false
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}

// exchange sends a request and reads the header of its answer; begun says that
// some of the answer has come.
func (s *links) exchange(ctx context.Context, l *link, r *http.Request, pass func(int, textproto.MIMEHeader) error) (res *http.Response, begun bool, err error) {
	stop, ok := l.endWith(ctx)
	if !ok {
		return nil, false, context.Canceled
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	l.left = maxHeader
	l.bw = writers.Get().(*bufio.Writer)
	l.bw.Reset(l.conn)
	if err = l.write(r); err == nil {
		err = l.bw.Flush()
	}
	l.bw.Reset(nil)
	writers.Put(l.bw)
	l.bw = nil
	// A service that refuses may answer and hang up before it has read everything.
	if _, peekErr := l.br.Peek(1); peekErr != nil {
		if err == nil {
			err = peekErr
		}
		return nil, false, err
	}
	for {
		l.left = maxHeader
		if res, err = l.readAnswer(r); err != nil {
			return nil, true, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		if err = pass(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
			return nil, true, err
		}
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		err = errAnswer // to a request that asked for no switch
		return nil, true, err
	}
	l.left = math.MaxInt64
	body := &linkBody{links: s, link: l, stop: stop, body: res.Body, reuse: !res.Close && !r.Close}
	if res.Body == http.NoBody || r.Method == http.MethodHead {
		body.end(true)
		return res, true, nil
	}
	res.Body = body
	return res, true, nil
}

// endWith has the connection closed when ctx ends before stop, whose result says
// that it has not; ok is false when ctx has ended already.
func (l *link) endWith(ctx context.Context) (stop func() bool, ok bool) {
	if life, is := ctx.(*life); is {
		return life.release, life.hold(l)
	}
	if ctx.Err() != nil {
		return nil, false
	}
	return context.AfterFunc(ctx, func() { _ = l.conn.Close() }), true
}

// get takes an idle connection that is good, or makes one.
func (s *links) get(ctx context.Context, addr string) (*link, error) {
	for {
		s.mu.Lock()
		list := s.idle[addr]
		if len(list) == 0 {
			s.mu.Unlock()
			break
		}
		l := list[len(list)-1]
		if list = list[:len(list)-1]; len(list) == 0 {
			delete(s.idle, addr)
		} else {
			s.idle[addr] = list
		}
		s.count--
		s.mu.Unlock()
		if time.Since(l.since) < idleUpstream && l.silent() {
			return l, nil
		}
		_ = l.conn.Close()
	}
	conn, err := s.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	l := &link{addr: addr, conn: conn}
	if t, ok := conn.(*tls.Conn); ok {
		l.quiet = newProbe(t.NetConn())
		l.raw = rawConn(t.NetConn())
	}
	l.br = getReader(l)
	return l, nil
}

// silent reports whether an idle connection is open and the service has sent
// nothing on it. What comes before a request is asked for is the answer to no
// request, and must not become that of the next one.
func (l *link) silent() bool {
	if l.br.Buffered() > 0 {
		return false
	}
	if l.quiet == nil || !l.quiet() {
		return false
	}
	// And nothing that crypto/tls has read already: with a deadline that has
	// passed it asks the network for nothing more, and the error is not one that
	// stays.
	_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	n, err := l.conn.Read(l.byte[:])
	_ = l.conn.SetReadDeadline(time.Time{})
	late, ok := err.(net.Error)
	return n == 0 && ok && late.Timeout()
}

// put keeps a connection for the next request.
func (s *links) put(l *link) {
	if l.quiet == nil {
		s.opaque.Store(true)
		_ = l.conn.Close()
		return
	}
	l.since = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.idle[l.addr]
	if s.closed || len(list) >= maxIdlePerHost || s.count >= maxIdle {
		go func() { _ = l.conn.Close() }() // not with mu held: it writes
		return
	}
	if s.idle == nil {
		s.idle = map[string][]*link{}
	}
	s.idle[l.addr] = append(list, l)
	s.count++
	if !s.sweeps {
		s.sweeps = true
		time.AfterFunc(idleUpstream, s.sweep)
	}
}

// sweep closes what nobody has used for a while.
func (s *links) sweep() {
	var old []*link
	s.mu.Lock()
	for addr, list := range s.idle {
		n := 0
		for n < len(list) && time.Since(list[n].since) >= idleUpstream {
			n++
		}
		old = append(old, list[:n]...)
		if n == len(list) {
			delete(s.idle, addr)
		} else {
			s.idle[addr] = append([]*link(nil), list[n:]...)
		}
		s.count -= n
	}
	if s.sweeps = s.count > 0; s.sweeps {
		time.AfterFunc(idleUpstream/2, s.sweep)
	}
	s.mu.Unlock()
	for _, l := range old {
		_ = l.conn.Close()
	}
}

// close closes what is idle; what is in use is closed after its request.
func (s *links) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.closeIdle()
}

func (s *links) closeIdle() {
	s.mu.Lock()
	all := s.idle
	s.idle, s.count = nil, 0
	s.mu.Unlock()
	for _, list := range all {
		for _, l := range list {
			_ = l.conn.Close()
		}
	}
}

// linkBody is the body of an answer. Its end gives the connection back.
type linkBody struct {
	links *links
	link  *link
	stop  func() bool // false: the request was ended from outside
	body  io.ReadCloser
	reuse bool
	once  sync.Once
	over  bool // the link may be somebody else's
	// others rest when the service is quiet; nil for nobody.
	others rester
}

func (b *linkBody) Read(p []byte) (int, error) {
	if len(p) <= smallBuffer && !b.over {
		if err := b.link.rest(b.others); err != nil {
			b.over = true
			b.end(false)
			return 0, err
		}
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.over = true
		b.end(err == io.EOF)
	}
	return n, err
}

// Close gives up what has not been read.
func (b *linkBody) Close() error {
	b.end(false)
	return nil
}

func (b *linkBody) end(whole bool) {
	b.once.Do(func() {
		switch {
		case b.stop() && whole && b.reuse && b.link.br.Buffered() == 0:
			b.links.put(b.link)
		default:
			_ = b.link.conn.Close()
		}
	})
}
