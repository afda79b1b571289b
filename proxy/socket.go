package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome"
)

// webSocket is the value of Upgrade, which knows no case (RFC 6455, section 4.2.1).
const webSocket = "websocket"

// extensionsHeader is where the two ends agree on extensions (section 9.1).
const extensionsHeader = "Sec-Websocket-Extensions"

// offer takes the extensions out of what the child offers, when its messages are
// to be looked at: compressed, they could not be. Otherwise they are the
// business of the two ends.
func offer(h http.Header, res *authsome.Resolution) {
	if res.Message != nil {
		delete(h, extensionsHeader)
	}
}

// socket is the service's side of a WebSocket, for splice, when messages of the
// child are looked at. Written is what the child sends, read what it gets: the
// service's own bytes, as they are, and a Close frame of ours when something
// cannot be sent on.
type socket struct {
	up  io.ReadWriteCloser
	sub *messages
	out []byte

	mu      sync.Mutex
	answers boundaries
	refused *refusal
	tail    []byte // what the child gets after the service's last whole frame
	over    bool
	timer   *time.Timer
}

// Write takes bytes of the child. After a refusal they are thrown away, so that
// the child, which may be writing, comes to read why.
func (s *socket) Write(p []byte) (int, error) {
	if s.reason() != nil {
		return len(p), nil
	}
	var no *refusal
	s.out, no = s.sub.feed(s.out[:0], p)
	if len(s.out) > 0 {
		if _, err := s.up.Write(s.out); err != nil {
			return 0, err
		}
	}
	clear(s.out) // a credential may be in it
	if cap(s.out) > bigBuffer {
		s.out = nil
	}
	if no != nil {
		s.refuse(no)
	}
	return len(p), nil
}

// refuse ends the stream: at the service at once, as a connection that breaks;
// for the child with a Close frame behind the last frame that it gets.
func (s *socket) refuse(no *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = no
	if s.answers.between() {
		_ = s.up.Close() // wakes up Read
		return
	}
	s.timer = time.AfterFunc(lingering, func() { _ = s.up.Close() })
}

// reason is why the stream was ended, nil when it was not.
func (s *socket) reason() *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Read gives what the child gets.
func (s *socket) Read(p []byte) (int, error) {
	if n, done, err := s.rest(p); done {
		return n, err
	}
	n, err := s.up.Read(p)
	s.mu.Lock()
	if s.refused == nil {
		s.answers.skip(p[:n], false)
		s.mu.Unlock()
		return n, err
	}
	if !s.answers.between() {
		n = s.answers.skip(p[:n], true)
	} else {
		n = 0
	}
	if !s.answers.between() {
		s.mu.Unlock()
		return n, err // in the middle of a frame: what comes next belongs to it
	}
	s.over, s.tail = true, s.refused.closeFrame()
	s.mu.Unlock()
	_ = s.up.Close()
	if n > 0 {
		return n, nil
	}
	n, _, err = s.rest(p)
	return n, err
}

// rest gives the Close frame, and then the end, once it is time.
func (s *socket) rest(p []byte) (n int, done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.over:
		return 0, false, nil
	case len(s.tail) == 0:
		return 0, true, io.EOF
	}
	n = copy(p, s.tail)
	s.tail = s.tail[n:]
	return n, true, nil
}

// CloseWrite ends the child's direction. After a refusal there is nothing left
// to end, and what the child gets is still on its way.
func (s *socket) CloseWrite() error {
	if s.reason() != nil {
		return nil
	}
	return closeWrite(s.up)
}

// Close ends both.
func (s *socket) Close() error {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	return s.up.Close()
}

// isWebSocket reports whether an Upgrade header asks for one.
func isWebSocket(upgrade string) bool { return strings.EqualFold(upgrade, webSocket) }
