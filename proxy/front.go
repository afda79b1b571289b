package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// front serves the HTTP/1.1 requests of one intercepted tunnel. It is there for
// speed: http.Server hands every request over between goroutines, and through
// more layers than are needed here. It takes usual requests alone (see
// parseHead), and at the first other one gives the connection to the http.Server,
// to be read from where that request begins.
type front struct {
	p    *Proxy
	conn *tls.Conn
	c    *childConn
	br   *bufio.Reader
	bw   *bufio.Writer // nil when nothing is being written; see writer

	// state lets Shutdown close a front that waits for a request, and no other.
	state atomic.Int32

	watch watch
}

// The states of a front.
const (
	frontIdle   = iota // waiting for the first byte of a request
	frontActive        // reading, serving or answering one
	frontOver          // closed, or in the hands of the http.Server
)

const (
	// watchAfter is how long a request runs before somebody listens whether the
	// child is still there. Most are answered sooner.
	watchAfter = 20 * time.Millisecond
	// maxUnread is how much of a body that nobody wanted is read, so that the
	// connection can go on.
	maxUnread = 256 << 10
	// unreadTime bounds the waiting for it.
	unreadTime = 2 * time.Second
)

// writers are 4 KB: head and body of a short answer leave in one record.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}

// serveFront takes over a connection whose handshake is done. The caller has counted
// it in fronts.
func (p *Proxy) serveFront(conn *tls.Conn, c *childConn) {
	f := &front{p: p, conn: conn, c: c, br: getReader(conn)}
	f.watch.front = f
	c.tunnel.unused.Store(true)
	c.tunnel.front.Store(f)
	defer p.rescue(c)
	defer func() {
		c.tunnel.front.Store(nil)
		p.fronts.Add(-1)
	}()
	for f.next() {
	}
	if f.state.Swap(frontOver) == frontActive && f.br != nil && f.br.Buffered() > 0 {
		// A request that is not a usual one, or the beginning of one.
		_ = conn.SetReadDeadline(time.Time{})
		p.handoff.give(&resumed{conn, f.br})
		return
	}
	putReader(f.br)
	_ = conn.Close()
}

// next serves one request. It is false when there are no more, or when what is
// in br is for the http.Server.
func (f *front) next() bool {
	_ = f.conn.SetReadDeadline(time.Now().Add(idleTime))
	if _, err := f.br.Peek(1); err != nil || !f.state.CompareAndSwap(frontIdle, frontActive) {
		f.state.Store(frontOver)
		return false
	}
	f.c.tunnel.unused.Store(false)
	text, err := f.readHead()
	if err != nil {
		f.state.Store(frontOver)
		return false
	}
	h, ok := parseHead(text)
	if !ok {
		return false
	}
	_, _ = f.br.Discard(len(text)) // from the buffer: cannot fail
	_ = f.conn.SetReadDeadline(time.Time{})
	if !f.serve(h) || f.p.closing.Load() {
		f.state.Store(frontOver)
		return false
	}
	f.state.Store(frontIdle)
	return true
}

// endOfHead finds the empty line that ends a head, and how long the head is with
// it; 0 when it has not come. A line may end in a bare LF (RFC 9112, section 2.2):
// who waited for CR LF alone would wait for what never comes. Such a head is not a
// usual one.
func endOfHead(buf []byte) (n int, usual bool) {
	for i := 0; ; {
		k := bytes.IndexByte(buf[i:], '\n')
		if k < 0 {
			return 0, true
		}
		i += k + 1
		rest := buf[i:]
		switch {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1, false
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2, i > 1 && buf[i-2] == '\r'
		}
	}
}

// readHead reads until the end of a head is in br. It returns "" when br is full
// before, or the head is not a usual one, and an error when the child is gone, or
// silent for too long.
func (f *front) readHead() (string, error) {
	slow := false
	for {
		n := f.br.Buffered()
		buf, _ := f.br.Peek(n) // from the buffer: cannot fail
		if end, usual := endOfHead(buf); end > 0 {
			if !usual {
				end = 0
			}
			return string(buf[:end]), nil
		}
		if n == f.br.Size() {
			return "", nil
		}
		if !slow {
			slow = true
			_ = f.conn.SetReadDeadline(time.Now().Add(headTime))
		}
		if _, err := f.br.Peek(n + 1); err != nil {
			return "", err
		}
	}
}

// serve handles a request; false when the connection ends with it.
func (f *front) serve(h head) (again bool) {
	ctx := &life{c: f.c}
	defer ctx.end(nil)
	r := (&http.Request{
		Method: h.method, URL: h.url, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h.header,
		Body: http.NoBody, ContentLength: h.length, Host: h.host, RequestURI: h.target, Close: h.close,
	}).WithContext(ctx)
	var body *frontBody
	if h.length > 0 {
		body = &frontBody{f: f}
		body.left.Store(h.length)
		r.Body = body
	}
	w := &frontWriter{f: f, body: body, head: h.method == http.MethodHead, length: -1, close: h.close || f.p.closing.Load()}
	defer func() {
		f.watch.stop()
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				f.p.log.Error("panic on a request", "panic", v, "stack", string(debug.Stack()))
			}
			again = false
		}
		if body != nil && !again {
			body.end()
		}
		if f.bw != nil {
			f.bw.Reset(nil)
			writers.Put(f.bw)
			f.bw = nil
		}
	}()
	f.watch.start(ctx, body == nil)
	f.p.ServeHTTP(w, r)
	f.watch.stop()
	return w.finish() && (body == nil || body.finish()) && !w.close
}

// abort ends the request under way, if any.
func (f *front) abort() {
	f.watch.mu.Lock()
	defer f.watch.mu.Unlock()
	if l := f.watch.life; l != nil {
		l.end(nil)
	}
}

// closeIdle closes a front that waits for a request.
func (f *front) closeIdle() {
	if f.state.CompareAndSwap(frontIdle, frontOver) {
		_ = f.conn.Close()
	}
}

// resumed is a connection of which something was read already.
type resumed struct {
	*tls.Conn
	ahead *bufio.Reader // nil once drained; read by one goroutine only
}

func (c *resumed) Read(b []byte) (int, error) {
	n, err := c.read(b)
	return c.NetConn().(*childConn).headed(c.Conn, n, err)
}

func (c *resumed) read(b []byte) (int, error) {
	if c.ahead != nil && len(b) > 0 {
		n, _ := c.ahead.Read(b[:min(len(b), c.ahead.Buffered())]) // from the buffer: cannot fail
		if c.ahead.Buffered() == 0 {
			putReader(c.ahead)
			c.ahead = nil
		}
		if n > 0 {
			return n, nil
		}
	}
	return c.Conn.Read(b)
}

// errClosedBody is what is read of a body whose request is answered.
var errClosedBody = errors.New("the request has been answered")

// frontBody is a request's body of known length. Reading and finish may be
// called by two goroutines.
type frontBody struct {
	f    *front
	mu   sync.Mutex
	left atomic.Int64 // changed with mu held
	err  error
}

func (b *frontBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.left.Load()
	switch {
	case b.err != nil:
		return 0, b.err
	case left == 0:
		return 0, io.EOF
	case int64(len(p)) > left:
		p = p[:left]
	}
	n, err := b.f.br.Read(p)
	switch {
	case b.left.Add(-int64(n)) == 0:
		b.f.watch.ready()
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return n, err
}

// Close is for net/http; what is left is finish's to read.
func (b *frontBody) Close() error { return nil }

// end ends reading, also one under way: whoever sends the body on may still be at
// it when the answer has broken off, and the front's reader is another child's next.
func (b *frontBody) end() {
	if !b.mu.TryLock() {
		_ = b.f.conn.SetReadDeadline(time.Unix(1, 0))
		b.mu.Lock()
	}
	b.err = errClosedBody
	b.mu.Unlock()
}

// finish ends reading, also one under way, and reads a short rest. It is false
// when the connection cannot go on.
func (b *frontBody) finish() bool {
	conn := b.f.conn
	interrupted := !b.mu.TryLock()
	if interrupted {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	ended := b.err == nil && !interrupted
	b.err = errClosedBody
	left := b.left.Load()
	if left == 0 && ended {
		return true
	}
	_ = conn.SetReadDeadline(time.Now().Add(unreadTime))
	n, _ := io.CopyN(io.Discard, b.f.br, min(left, maxUnread))
	if b.left.Add(-n) == 0 {
		return true
	}
	// Closing with unread input would reset the connection and take the answer
	// with it.
	_ = conn.CloseWrite()
	_, _ = io.CopyN(io.Discard, b.f.br, maxUnread)
	return false
}

// watch notices that the child hangs up while a request is under way. Whoever
// waits for an answer does not read; so when it takes a while, another goroutine
// does, for as long as it takes.
type watch struct {
	front *front
	timer *time.Timer

	mu      sync.Mutex
	life    *life // of the request under way; nil when there is none
	armed   bool  // nothing else reads
	reading bool
	ended   chan struct{} // closed when reading has ended
}

// start begins with a request; now says that nothing of it is left to be read.
func (w *watch) start(l *life, now bool) {
	w.mu.Lock()
	w.life, w.armed = l, false
	w.mu.Unlock()
	if now {
		w.ready()
	}
}

// ready is called when all of a request has been read.
func (w *watch) ready() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = w.life != nil
	switch {
	case !w.armed:
	case w.timer == nil:
		w.timer = time.AfterFunc(watchAfter, w.read)
	default:
		w.timer.Reset(watchAfter)
	}
}

// read waits for the child to send something, which is its next request, or to
// go.
func (w *watch) read() {
	w.mu.Lock()
	if !w.armed || w.reading {
		w.mu.Unlock()
		return
	}
	w.reading, w.ended = true, make(chan struct{})
	l := w.life
	w.mu.Unlock()

	err := w.front.awaitChild()

	w.mu.Lock()
	w.reading = false
	close(w.ended)
	gone := err != nil && w.life != nil
	w.mu.Unlock()
	if gone {
		l.end(nil)
	}
}

// stop ends watching. It may be called more than once.
func (w *watch) stop() {
	w.mu.Lock()
	if w.life == nil {
		w.mu.Unlock()
		return
	}
	w.life, w.armed = nil, false
	if w.timer != nil {
		w.timer.Stop()
	}
	reading, ended := w.reading, w.ended
	w.mu.Unlock()
	if reading {
		// A deadline that has passed ends the read; it is no error that stays, in
		// crypto/tls and bufio either.
		_ = w.front.conn.SetReadDeadline(time.Unix(1, 0))
		<-ended
		_ = w.front.conn.SetReadDeadline(time.Time{})
	}
}

// drainFronts lets requests under way finish until ctx ends.
func (p *Proxy) drainFronts(ctx context.Context) error {
	for wait := time.Millisecond; p.fronts.Load() > 0; wait = min(2*wait, 50*time.Millisecond) {
		for _, t := range p.registry.all() {
			switch f, c := t.front.Load(), t.h2.Load(); {
			case t.unused.Load():
			case f != nil:
				f.closeIdle()
			case c != nil:
				c.closeIdle()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}

var _ net.Conn = (*resumed)(nil)
