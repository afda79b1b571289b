package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// The smuggling tables: what a child, or a hostile service, can do with HTTP so
// that two who read it see two things. Each case is either refused, and the service
// has seen nothing, or it is made normal, and the table has the very bytes that the
// service saw. After each, two innocent requests have to get their own answers: one
// on the same connection while it is open, one on another.
//
//	smuggling_test.go          the service that keeps every byte, and how a case is held
//	smuggling_request_test.go  requests over HTTP/1.1: framing, header, path, host
//	smuggling_h2_test.go       requests over HTTP/2
//	smuggling_connect_test.go  CONNECT, TLS, and what is told of the host in them
//	smuggling_answer_test.go   answers of a hostile service

// scoped is a host with a credential under /public and none elsewhere.
const scoped = "paths.example.com"

// wire is a service that keeps every byte that it was sent, and answers what it
// reads in them with the line of the request.
type wire struct {
	mu  sync.Mutex
	got bytes.Buffer
}

// Write implements io.Writer for what comes in.
func (s *wire) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

// take gives all that has come since the last time.
func (s *wire) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.got.Reset()
	return s.got.String()
}

// record puts a wire at host:443.
func (w *world) record(host string) *wire {
	w.t.Helper()
	s := &wire{}
	w.serveRaw(host, func(c *tls.Conn, _ *bufio.Reader) {
		br := bufio.NewReader(io.TeeReader(c, s))
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			if err := answerLine(c, r); err != nil {
				return
			}
		}
	})
	return s
}

// answerLine answers a request with its own method and target.
func answerLine(c io.Writer, r *http.Request) error {
	text := r.Method + " " + r.RequestURI
	if r.Method == http.MethodHead {
		text = ""
	}
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	return err
}

// withKey and withoutKey are requests as the service sees them, their header lines in
// the order in which they are sent.
func withKey(line string, header ...string) string {
	return onWire(line, "Authorization: Bearer "+openaiKey, header...)
}

func withoutKey(line string, header ...string) string { return onWire(line, "", header...) }

func onWire(line, key string, header ...string) string {
	lines := []string{line + " HTTP/1.1", "Host: " + scoped}
	for _, h := range header {
		if key != "" && h > key {
			lines = append(lines, key)
			key = ""
		}
		lines = append(lines, h)
	}
	if key != "" {
		lines = append(lines, key)
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// innocent sends a request of another path on a connection, and wants its own
// answer. It is false when the connection is closed, without an answer.
func innocent(t *testing.T, c net.Conn, br *bufio.Reader, path string) bool {
	t.Helper()
	_, werr := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, scoped)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || werr != nil || isReset(err) {
			return false
		}
		t.Fatalf("the innocent request: %v", err)
	}
	if got := text(t, res); res.StatusCode != 200 || got != "GET "+path {
		t.Errorf("the innocent request for %s got %s, %q", path, res.Status, got)
	}
	return true
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// own is the code of the proxy's own answer, or "".
func own(res *http.Response) string { return res.Header.Get("Authsome-Error") }
