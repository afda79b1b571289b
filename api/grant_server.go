package api

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

// AcceptGrant reads a run's request from a connection that was upgraded to
// GrantProtocol, and with it the listening socket of the child's proxy, which
// is the caller's to close. For a relayed grant the listener is nil: see
// StreamListener. The connection stays the caller's, too.
func AcceptGrant(conn *net.UnixConn) (GrantRequest, net.Listener, error) {
	_ = conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	var req GrantRequest
	refuse := func(err error) (GrantRequest, net.Listener, error) {
		return GrantRequest{}, nil, authsome.E(authsome.Invalid, "open a grant: %w", err)
	}
	if peer, err := PeerOf(conn); err != nil || !ownPeer(peer) {
		return GrantRequest{}, nil, authsome.E(authsome.Forbidden, "open a grant: the process that asks belongs to another user")
	}
	var sockets receivedSockets
	defer sockets.close()
	line, err := readLine(func(b []byte) (int, error) { return sockets.read(conn, b) })
	if err != nil {
		return refuse(err)
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return refuse(errors.New("the request is no JSON of this protocol")) // not quoted: it may hold a token
	}
	if req.ProxyPort < 1 || req.ProxyPort > 65535 {
		return refuse(errors.New("the request names no port"))
	}
	if req.Relay {
		if sockets.count() != 0 {
			return refuse(errors.New("a relayed grant hands over no socket"))
		}
		return req, nil, nil
	}
	ln, err := sockets.listener(req.ProxyPort)
	if err != nil {
		return refuse(err)
	}
	return req, ln, nil
}

// SendGrantInfo answers a GrantRequest.
func SendGrantInfo(conn *net.UnixConn, info GrantInfo) error {
	return writeLine(conn, info, conn.Write)
}

// WaitClosed returns when the run's end of a granted connection has closed,
// which is when the run is over, however it ended. A run that says anything
// more breaks the protocol and counts as over.
func WaitClosed(conn *net.UnixConn) {
	var b [1]byte
	_, _ = io.ReadFull(conn, b[:])
}

// StreamListener is the daemon's end of a relayed grant: the streams that the
// run opens come out of it as connections.
type StreamListener struct {
	addr    *net.TCPAddr
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// NewStreamListener makes one for a run whose proxy listens on port.
func NewStreamListener(port int) *StreamListener {
	return &StreamListener{
		addr:    &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
		streams: make(chan net.Conn),
		closed:  make(chan struct{}),
	}
}

// Offer gives a stream to whoever accepts. It reports whether it was taken;
// the stream is the caller's otherwise.
func (l *StreamListener) Offer(conn net.Conn) bool {
	select {
	case l.streams <- conn:
		return true
	case <-l.closed:
		return false
	}
}

// Accept implements net.Listener.
func (l *StreamListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.streams:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It may be called again.
func (l *StreamListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener: the address of the run's own listener.
func (l *StreamListener) Addr() net.Addr { return l.addr }
