package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What the child is told, and the bounds of one HTTP/2 connection. Sections are
// those of RFC 9113 unless another one is named.
const (
	// h2MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS (section 6.5.2), and how
	// many handlers run at once.
	h2MaxStreams = 250
	// h2MaxPending is how many requests wait for a handler, when those of streams
	// that were reset have not returned yet. More is an attack (CVE-2023-44487).
	h2MaxPending = 4 * h2MaxStreams
	// h2ConnWindow and h2StreamWindow are how much of bodies that nobody has read
	// yet is held, in bytes. One stream never takes all. Half as much for a stream
	// makes uploads a sixth slower.
	h2ConnWindow   = 2 << 20
	h2StreamWindow = 512 << 10
	// h2MaxHeaders is SETTINGS_MAX_HEADER_LIST_SIZE: as much as over HTTP/1.1, and
	// the 32 bytes that count for each field (section 6.5.2), for some of them.
	h2MaxHeaders = maxHeader + 10*32
	// h2MaxContinuations bounds the frames of one header (CVE-2024-27316). As few
	// as 130 hold the largest, and what is still read of one that is larger.
	h2MaxContinuations = 256
	// h2FrameSize is the largest frame that we send, and h2MaxFrame is
	// SETTINGS_MAX_FRAME_SIZE: uploads are faster with larger ones (section 6.5.2).
	h2FrameSize = 16 << 10
	h2MaxFrame  = 64 << 10
	// h2Table is the size of the HPACK tables (RFC 7541, section 4.2).
	h2Table = 4 << 10
	// h2MaxOut is how much may wait to be written before handlers wait, in bytes.
	h2MaxOut = 64 << 10
	// h2MaxControl is how many answers to PINGs, SETTINGS and the like may wait for
	// a child that does not read.
	h2MaxControl = 10000
	// h2Window is what both windows begin with (section 6.9.2), and h2MaxWindow
	// what they may grow to (section 6.9.1).
	h2Window    = 1<<16 - 1
	h2MaxWindow = 1<<31 - 1

	// prefaceTime is how long the child may take for its preface and settings.
	prefaceTime = 10 * time.Second
	// restTime is how long the child may go on sending after the answer has ended,
	// as far as its window allows.
	restTime = 500 * time.Millisecond
	// goAwayTime is how long the child may take to read the last words on its
	// connection: closing at once with unread input would reset it.
	goAwayTime = time.Second

	// Resets, stream errors, empty frames and changed settings that are forgiven:
	// so many at once, and so many a second on average.
	h2Burst = 1000
	h2Rate  = 50
)

// h2conn serves one connection of HTTP/2. A goroutine reads frames; each request
// has one of its own, which writes its frames itself. What several of them have to
// say leaves in one write, since whoever writes takes along what the others have
// put into the buffer meanwhile.
//
// http.Server hands each frame over to a goroutine that owns the connection,
// and back, which costs as much as all the rest.
type h2conn struct {
	conn    net.Conn // TLS, its handshake done
	handler http.Handler
	workers *workers
	log     *slog.Logger
	child   *childConn
	used    func()      // called for each request
	hold    func(n int) // counts memory for bodies
	full    func() bool // there is none

	// Of the goroutine that reads.
	br       *bufio.Reader
	framer   *http2.Framer // for reading alone
	decoder  *hpack.Decoder
	block    h2block
	begun    bool // the child's first SETTINGS have come
	acked    bool // ours were acknowledged
	caused   bool // reading has put something into out
	hurried  bool // reading ends with headTime
	credit   float64
	credited time.Time

	unsent atomic.Int64 // of the connection's window, consumed and not given back

	mu      sync.Mutex
	streams map[uint32]*h2stream // that frames may come or go for
	maxID   uint32               // of the child's streams
	skipped bool                 // not all below maxID were used
	resets  []uint32             // streams that we reset, a ring
	reset   int
	running int         // handlers
	pending []*h2stream // requests that wait for a handler
	over    bool        // the connection is gone
	idle    time.Time   // since when there is no stream
	timer   *time.Timer // for idleTime

	leaving bool   // GOAWAY has been sent
	lastID  uint32 // that it named

	receive int64 // what the child may still send, over all streams
	h2sender
}

// serveH2 serves a connection whose handshake is done. The caller has counted it in
// fronts.
func (p *Proxy) serveH2(conn *tls.Conn, child *childConn) {
	c := newH2(conn, child, p, &p.workers, p.log)
	unused := &child.tunnel.unused
	unused.Store(true)
	c.used = func() { unused.Store(false) }
	c.hold = func(n int) { p.hold(child.account, n) }
	c.full = func() bool { return p.full(child) }
	child.tunnel.h2.Store(c)
	defer p.rescue(child)
	defer func() {
		child.tunnel.h2.Store(nil)
		p.fronts.Add(-1)
	}()
	if strong(conn.ConnectionState()) {
		c.serve(nil)
	} else {
		c.serve(http2.ConnectionError(http2.ErrCodeInadequateSecurity))
	}
}

// newH2 is a connection that serve has to be called for.
func newH2(conn net.Conn, child *childConn, handler http.Handler, workers *workers, log *slog.Logger) *h2conn {
	c := &h2conn{
		conn: conn, child: child, handler: handler, workers: workers, log: log, used: func() {}, hold: func(int) {}, full: func() bool { return false },
		br: getReader(conn), receive: h2ConnWindow, credit: h2Burst,
		streams: map[uint32]*h2stream{}, idle: time.Now(),
		h2sender: h2sender{window: h2Window, initial: h2Window, frame: h2FrameSize},
	}
	c.block.hold, c.block.full = func(n int) { c.hold(n) }, func() bool { return c.full() }
	c.framer = http2.NewFramer(nil, c.br)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(h2MaxFrame)
	c.decoder = hpack.NewDecoder(h2Table, c.block.add)
	c.decoder.SetMaxStringLength(h2MaxHeaders)
	c.encoder = hpack.NewEncoder(h2out{c})
	c.encoder.SetMaxDynamicTableSizeLimit(h2Table)
	return c
}

// serve reads frames until the connection ends. refuse is why it is not served at
// all; nil when it is.
func (c *h2conn) serve(refuse error) {
	defer c.end()
	c.mu.Lock()
	c.timer = time.AfterFunc(idleTime, c.checkIdle)
	c.putSettings()
	c.putWindowUpdate(0, h2ConnWindow-h2Window)
	c.mu.Unlock()
	c.kick()
	_ = c.conn.SetReadDeadline(time.Now().Add(prefaceTime))
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(c.br, preface[:]); err != nil {
		return
	}
	err := refuse
	if string(preface[:]) != http2.ClientPreface {
		err = http2.ConnectionError(http2.ErrCodeProtocol)
	}
	for err == nil {
		err = c.next()
	}
	var wrong http2.ConnectionError
	switch {
	case errors.As(err, &wrong):
	case errors.Is(err, http2.ErrFrameTooLarge):
		wrong = http2.ConnectionError(http2.ErrCodeFrameSize)
	case errors.Is(err, errMalformed):
		wrong = http2.ConnectionError(http2.ErrCodeFrameSize)
	default:
		return // the child is gone, or was closed
	}
	c.log.Debug("closed an HTTP/2 connection for what the child sent", "err", wrong)
	c.mu.Lock()
	c.goAway(http2.ErrCode(wrong))
	streams := c.dropAll()
	c.mu.Unlock()
	c.kick()
	for _, s := range streams {
		s.stop(errChildGone)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(goAwayTime))
	_, _ = io.Copy(io.Discard, c.conn)
}

// strong reports whether the cipher suite is not one of those that section 9.2.2
// and appendix A forbid with TLS 1.2.
func strong(s tls.ConnectionState) bool {
	switch s.CipherSuite {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return s.Version >= tls.VersionTLS13
}

// drop forgets a stream; mu is held. No frame of it is sent any more.
func (c *h2conn) drop(s *h2stream) {
	if s.gone {
		return
	}
	s.gone = true
	delete(c.streams, s.id)
	s.cond.Broadcast()
	if len(c.streams) > 0 {
		return
	}
	c.idle = time.Now()
	if c.leaving && !c.over {
		c.linger()
	}
}

// dropAll forgets all streams, for good, and gives those that it has dropped; mu
// is held.
func (c *h2conn) dropAll() []*h2stream {
	all := make([]*h2stream, 0, len(c.streams))
	for _, s := range c.streams {
		all = append(all, s)
	}
	for _, s := range all {
		c.drop(s)
	}
	return all
}

// done is called when a handler has returned. It gives the next one that waits.
func (c *h2conn) done() *h2stream {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 {
			c.running--
			c.mu.Unlock()
			return nil
		}
		next := c.pending[0]
		c.pending[0] = nil
		c.pending = c.pending[1:]
		gone := next.gone
		c.mu.Unlock()
		if !gone {
			return next
		}
		next.release()
	}
}

// goAway says that no more streams are served; mu is held.
func (c *h2conn) goAway(code http2.ErrCode) {
	if c.leaving && code == http2.ErrCodeNo {
		return
	}
	if !c.leaving {
		c.leaving, c.lastID = true, c.maxID
	}
	var b [8]byte
	putUint32(b[:4], c.lastID)
	putUint32(b[4:], uint32(code))
	c.putFrame(http2.FrameGoAway, 0, 0, b[:])
}

// leave lets streams end and no more begin. When there are none, the child has
// goAwayTime to close the connection.
func (c *h2conn) leave() {
	c.mu.Lock()
	c.goAway(http2.ErrCodeNo)
	none := len(c.streams) == 0
	c.mu.Unlock()
	c.kick()
	if none {
		c.linger()
	}
}

// linger closes the connection when the child had time to read what was sent.
func (c *h2conn) linger() { time.AfterFunc(goAwayTime, func() { _ = c.conn.Close() }) }

// checkIdle ends a connection on which nothing has been asked for a while.
func (c *h2conn) checkIdle() {
	c.mu.Lock()
	left := idleTime
	if len(c.streams) == 0 {
		left -= time.Since(c.idle)
	}
	if left > 0 && !c.over {
		c.timer.Reset(left)
	}
	c.mu.Unlock()
	if left <= 0 {
		c.leave()
	}
}

// closeIdle is called again and again by Shutdown: it lets streams end, and
// closes the connection as soon as there is none.
func (c *h2conn) closeIdle() {
	c.mu.Lock()
	c.goAway(http2.ErrCodeNo)
	none, written := len(c.streams) == 0, len(c.out) == 0 && !c.writing
	c.mu.Unlock()
	c.kick()
	if none && written {
		_ = c.conn.Close()
	}
}

// end is called when no more is read.
func (c *h2conn) end() {
	c.mu.Lock()
	c.over = true
	c.timer.Stop()
	streams := c.dropAll()
	pending := c.pending
	c.pending = nil
	c.out = nil
	c.mu.Unlock()
	for _, s := range pending {
		s.release()
	}
	for _, s := range streams {
		s.stop(errChildGone)
	}
	_ = c.conn.Close()
	putReader(c.br)
}

// giveBack lets the child send as much again, on some stream.
func (c *h2conn) giveBack(n int64) {
	// Not each time: the child has the other half of the window meanwhile.
	if c.unsent.Add(n) < h2ConnWindow/2 {
		return
	}
	c.mu.Lock()
	if n = c.unsent.Swap(0); n > 0 && !c.over {
		c.receive += n
		c.putWindowUpdate(0, n)
	}
	c.mu.Unlock()
	c.kick()
}

// The ends of a stream that its handler did not bring about.
var (
	errChildGone   = errors.New("the child's connection has ended")
	errStreamReset = errors.New("the stream was reset")
)
