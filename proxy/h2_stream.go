package proxy

import (
	"io"
	"net/http"
	"runtime/debug"
	"sync"
)

// h2stream is one request and its answer, as an http.ResponseWriter.
type h2stream struct {
	c       *h2conn
	id      uint32
	req     *http.Request
	life    life    // the request's context
	body    *h2body // nil when the request has none
	tooLong bool    // its header was
	head    int64   // bytes of memory that it takes

	declared int64 // length of the body; -1 when it is not known

	// mu of the connection guards these.
	gone     bool  // no frame of it is sent any more
	ended    bool  // the child has ended its side
	answered bool  // and we ours, before that
	got      int64 // of the body
	receive  int64 // what the child may still send
	window   int64 // what may still be sent; may be negative
	cond     sync.Cond
	waits    bool

	h2answer
}

// run has the request handled.
func (s *h2stream) run() {
	whole := false
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			s.c.log.Error("panic on a request", "panic", v, "stack", string(debug.Stack()))
		}
		s.life.end(nil)
		s.release()
		s.finish(whole)
	}()
	if s.tooLong {
		problemf(headerTooLarge, "the header is over %d bytes", maxHeader).write(s)
	} else {
		s.c.handler.ServeHTTP(s, s.req)
	}
	whole = true
}

// release gives back what the request takes of memory. It is called once.
func (s *h2stream) release() {
	if s.body != nil {
		s.body.close()
	}
	if s.head > 0 {
		s.c.hold(int(-s.head))
	}
}

// stop is called when the stream ended before its handler.
func (s *h2stream) stop(err error) {
	if s.body != nil {
		s.body.end(err)
	}
	s.life.end(nil)
}

// giveBack lets the child send as much again; not when it has ended.
func (s *h2stream) giveBack(n int64) {
	c := s.c
	c.mu.Lock()
	some := !s.ended && !s.gone
	if some {
		s.receive += n
		c.putWindowUpdate(s.id, n)
	}
	c.mu.Unlock()
	if some {
		c.kick()
	}
}

// h2Chunk is the size of the buffers that hold what has come of a body.
const h2Chunk = 16 << 10

var h2Chunks = sync.Pool{New: func() any { return new([h2Chunk]byte) }}

// h2body is a request's body. It may be read and closed by two goroutines, also
// after the stream has ended, so that it is never used again.
type h2body struct {
	s *h2stream

	mu       sync.Mutex
	cond     sync.Cond
	chunks   []*[h2Chunk]byte // what is unread is behind from in the first, and before upTo in the last
	from     int
	upTo     int
	filling  bool  // the rest of the last one is being written to
	err      error // after what is in chunks
	closed   bool
	consumed int64 // and not given back to the stream
	trailer  http.Header
	expect   bool // the child waits for a 100
}

// fill adds n bytes that are read from the connection, or passes over them when
// nobody will read them.
func (b *h2body) fill(c *h2conn, n int64) error {
	for n > 0 {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			if err := c.skip(n); err != nil {
				return err
			}
			c.giveBack(n)
			return nil
		}
		if len(b.chunks) == 0 || b.upTo == h2Chunk {
			b.chunks, b.upTo = append(b.chunks, h2Chunks.Get().(*[h2Chunk]byte)), 0
			c.hold(h2Chunk)
		}
		into := b.chunks[len(b.chunks)-1][b.upTo:]
		b.filling = true
		b.mu.Unlock()

		k, err := c.readSome(into[:min(n, int64(len(into)))])

		b.mu.Lock()
		b.filling = false
		left := int64(0)
		if b.closed {
			left = int64(k)
		} else {
			b.upTo += k
			b.cond.Signal()
		}
		b.mu.Unlock()
		if left > 0 {
			c.giveBack(left)
		}
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// end says that nothing more will come.
func (b *h2body) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.cond.Broadcast()
}

// unread is how many bytes have come and were not read; mu is held.
func (b *h2body) unread() int {
	if len(b.chunks) == 0 {
		return 0
	}
	return (len(b.chunks)-1)*h2Chunk + b.upTo - b.from
}

// Read implements io.Reader.
func (b *h2body) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.expect {
		b.expect = false
		b.mu.Unlock()
		b.s.sendContinue()
		b.mu.Lock()
	}
	for b.unread() == 0 && b.err == nil && !b.closed && len(p) > 0 {
		b.cond.Wait()
	}
	switch {
	case b.closed:
		b.mu.Unlock()
		return 0, errClosedBody
	case b.unread() == 0:
		defer b.mu.Unlock()
		if b.err == io.EOF {
			// Those that were announced, and no others.
			for name, values := range b.trailer {
				if _, ok := b.s.req.Trailer[name]; ok {
					b.s.req.Trailer[name] = values
				}
			}
			b.trailer = nil
		}
		return 0, b.err
	}
	n := 0
	for n < len(p) && b.unread() > 0 {
		upTo, last := h2Chunk, len(b.chunks) == 1
		if last {
			upTo = b.upTo
		}
		k := copy(p[n:], b.chunks[0][b.from:upTo])
		n += k
		if b.from += k; b.from == upTo && !(last && b.filling) {
			h2Chunks.Put(b.chunks[0])
			b.s.c.hold(-h2Chunk)
			b.chunks[0] = nil
			b.chunks, b.from = b.chunks[1:], 0
		}
	}
	b.consumed += int64(n)
	more := int64(0)
	if b.consumed >= h2StreamWindow/2 && b.err == nil {
		more, b.consumed = b.consumed, 0
	}
	b.mu.Unlock()
	if more > 0 {
		b.s.giveBack(more)
	}
	b.s.c.giveBack(int64(n))
	return n, nil
}

// Close implements io.Closer. The handler's end closes the body, too.
func (b *h2body) Close() error {
	b.close()
	return nil
}

func (b *h2body) close() {
	b.mu.Lock()
	left := int64(0)
	if !b.closed {
		left = int64(b.unread())
		for i, chunk := range b.chunks {
			if !b.filling || i < len(b.chunks)-1 {
				h2Chunks.Put(chunk)
			}
		}
		b.s.c.hold(-h2Chunk * len(b.chunks))
		b.chunks, b.closed = nil, true
		b.cond.Broadcast()
	}
	b.mu.Unlock()
	if left > 0 {
		b.s.c.giveBack(left)
	}
}

// sendContinue asks for the body (RFC 9110, section 15.2.1), unless the answer
// has begun.
func (s *h2stream) sendContinue() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.gone && !s.sent {
		c.putHeaders(s.id, 0, http.StatusContinue, nil, nil, nil)
		c.write(1)
	}
}
