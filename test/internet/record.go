package internet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Request is one request that arrived at a host.
type Request struct {
	Time   time.Time
	Host   string
	Method string
	Path   string // with the query
	Proto  string
	Header http.Header
	Body   []byte // the first 64 KiB
	Status int    // of the answer; 101 for an upgrade
}

// Watch has f called with every request when it has been answered. Call it
// before the first request.
func (n *Internet) Watch(f func(Request)) { n.watch = f }

// Quiet stops the recording, for measurements.
func (n *Internet) Quiet() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.quiet, n.requests, n.dialled = true, nil, nil
}

// noise is what the server says of connections that go wrong.
type noise struct{ n *Internet }

func (o noise) Write(b []byte) (int, error) {
	o.n.mu.Lock()
	quiet := o.n.quiet
	o.n.mu.Unlock()
	if quiet {
		return len(b), nil
	}
	return os.Stderr.Write(b)
}

// Requests are those that arrived at host so far, "" for all hosts.
func (n *Internet) Requests(host string) []Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Request
	for _, r := range n.requests {
		if host == "" || r.Host == host {
			out = append(out, r)
		}
	}
	return out
}

// WaitFor waits until a request for which f is true has arrived at host.
func (n *Internet) WaitFor(ctx context.Context, host string, f func(Request) bool) (Request, error) {
	for {
		for _, r := range n.Requests(host) {
			if f(r) {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return Request{}, fmt.Errorf("no such request arrived at %s: %w", host, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Forget empties the record of requests.
func (n *Internet) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests, n.dialled = nil, nil
}

// Dialled are the hosts that were asked for by CONNECT, unknown ones too.
func (n *Internet) Dialled() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.dialled...)
}

// prefix keeps the beginning of a body.
type prefix struct {
	rc io.ReadCloser
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *prefix) Read(b []byte) (int, error) {
	n, err := p.rc.Read(b)
	p.mu.Lock()
	if room := 64<<10 - p.b.Len(); room > 0 {
		p.b.Write(b[:min(n, room)])
	}
	p.mu.Unlock()
	return n, err
}

func (p *prefix) Close() error { return p.rc.Close() }

func (p *prefix) bytes() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.b.Bytes())
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	sent int
}

func (s *statusWriter) WriteHeader(code int) {
	if s.sent == 0 || s.sent < 200 {
		s.sent = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *statusWriter) code() int {
	if s.sent == 0 {
		return 200
	}
	return s.sent
}

// Unwrap lets http.ResponseController find what the writer can do.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Hijack implements http.Hijacker for upgrades.
func (s *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := s.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot be taken over")
	}
	s.sent = http.StatusSwitchingProtocols
	return h.Hijack()
}

// Flush implements http.Flusher.
func (s *statusWriter) Flush() {
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}
