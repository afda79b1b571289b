package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// The smuggling tables: what a child, or a hostile service, can do with HTTP so
// that two who read it see two things. Each case is either refused, and the service
// has seen nothing, or it is made normal, and the table has the very bytes that the
// service saw. After each, two innocent requests have to get their own answers: one
// on the same connection while it is open, one on another.
//
//	smuggling_test.go          the service that keeps every byte, and how a case is held
//	smuggling_request_test.go  requests over HTTP/1.1: framing, lines, names, trailers
//	smuggling_target_test.go   the path, the query and the host of a request
//	smuggling_h2_test.go       requests over HTTP/2
//	smuggling_connect_test.go  CONNECT, TLS, and what is told of the host in them
//	smuggling_answer_test.go   answers of a hostile service

// scoped is a host with a credential under /public and none elsewhere.
const scoped = "paths.example.com"

// Parts of the cases: sent by the child, and as the service sees them.
const (
	hostLine = "Host: " + scoped + "\r\n"
	keyLine  = "Authorization: Bearer " + openaiKey + "\r\n"
	getX     = "GET /public/x HTTP/1.1\r\n" + hostLine
	postX    = "POST /public/x HTTP/1.1\r\n" + hostLine
	chunkedX = postX + "Transfer-Encoding: chunked\r\n"
	seenX    = getX + keyLine + "\r\n" // GET, and nothing else
)

// smuggled is one case.
type smuggled struct {
	name string
	send string
	// code is that of the refusal; "" when the request is made normal. A code with
	// "late " before it may come when the beginning of saw is on its way, since
	// bodies stream; its end must not be.
	code string
	saw  string // by the service, to the byte
	next string // the answer to a second request in send
	ends bool   // the child's connection, with the answers
}

// refused makes cases that get a bad_request and end the connection.
func refused(cases ...[2]string) (list []smuggled) {
	for _, c := range cases {
		list = append(list, smuggled{name: c[0], send: c[1], code: "bad_request", ends: true})
	}
	return list
}

// statusOf are the statuses of the codes that the tables have.
var statusOf = map[string]int{"bad_request": 400, "misdirected": 421, "placeholder_misplaced": 403, "header_too_large": 431, "url_too_long": 414}

// hold sends a case and the innocent requests behind it.
func (tt smuggled) hold(t *testing.T) {
	w := newWorld(t)
	s := w.record(scoped)
	c, br := w.tunnel(scoped+":443", scoped)
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = io.WriteString(c, tt.send)
	}()
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	body := text(t, res)
	code := strings.TrimPrefix(tt.code, "late ")
	if got := res.Header.Get("Authsome-Error"); got != code || code != "" && res.StatusCode != statusOf[code] {
		t.Errorf("the answer is %s, code %q, want %q", res.Status, got, code)
	}
	if line, _, _ := strings.Cut(tt.saw, " HTTP/1.1"); code == "" && (res.StatusCode != 200 || body != line) {
		t.Errorf("the answer is %s, %q, want that to %q", res.Status, body, line)
	}
	if tt.next != "" {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("no second answer: %v", err)
		}
		if got := text(t, res); got != tt.next {
			t.Errorf("the second answer is %q, want %q", got, tt.next)
		}
	}
	<-wrote
	want := ""
	if open := innocent(t, c, br, "/same"); open == tt.ends {
		t.Errorf("the connection goes on: %v", open)
	} else if open {
		want += innocentX("/same")
	}
	tt.check(t, w, s, want)
}

// check sends the innocent request on another connection, and looks at what the service
// saw; behind is what it has to have seen behind the case.
func (tt smuggled) check(t *testing.T, w *world, s *wire, behind string) {
	t.Helper()
	if strings.HasSuffix(tt.code, "misdirected") {
		if e := w.broker.ends(1)[0]; e.res != nil || e.out.Status != 421 {
			t.Errorf("recorded as %+v", e)
		}
	}
	c, br := w.tunnel(scoped+":443", scoped)
	if !innocent(t, c, br, "/public/other") {
		t.Error("another connection was not served")
	}
	behind += innocentX("/public/other")
	attack := s.end(w)
	if strings.HasPrefix(tt.code, "late ") {
		if got := attack("POST"); !strings.HasPrefix(tt.saw, got) || got == tt.saw && got != "" {
			t.Errorf("the service saw %q, which is not the beginning of %q", got, tt.saw)
		}
		if got := attack("GET"); got != behind {
			t.Errorf("of the innocent requests the service saw %q, want %q", got, behind)
		}
		return
	}
	if want := tt.saw + behind; attack("") != want {
		t.Errorf("the service saw\n%q, want\n%q", attack(""), want)
	}
}

// innocentX is an innocent request as the service sees it.
func innocentX(path string) string {
	key := ""
	if strings.HasPrefix(path, "/public/") {
		key = keyLine
	}
	return "GET " + path + " HTTP/1.1\r\n" + hostLine + key + "\r\n"
}

// wire is a service that keeps every byte that it was sent, and answers what it
// reads in them with the line of the request.
type wire struct {
	mu    sync.Mutex
	conns sync.WaitGroup
	logs  []wireLog
}

// wireLog is what came on one connection, or a part of it.
type wireLog struct {
	conn net.Conn
	text string
}

// keep is an io.Writer for what comes in on a connection.
type keep struct {
	s *wire
	c net.Conn
}

func (k keep) Write(b []byte) (int, error) {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.logs = append(k.s.logs, wireLog{k.c, string(b)})
	return len(b), nil
}

// record puts a wire at host:443.
func (w *world) record(host string) *wire {
	w.t.Helper()
	s := &wire{}
	w.serveRaw(host, func(c *tls.Conn, _ *bufio.Reader) {
		s.conns.Add(1)
		defer s.conns.Done()
		br := bufio.NewReader(io.TeeReader(c, keep{s, c}))
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

// end ends the proxy, waits for what is on its way, and gives what came, in the order
// in which it did: on the connections whose first request has that method, or on all.
func (s *wire) end(w *world) func(method string) string {
	w.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = w.proxy.Shutdown(ctx)
	s.conns.Wait()
	return func(method string) string {
		got := ""
		first := map[net.Conn]string{}
		for _, l := range s.logs {
			if _, ok := first[l.conn]; !ok {
				first[l.conn] = l.text
			}
			if strings.HasPrefix(first[l.conn], method) {
				got += l.text
			}
		}
		return got
	}
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
