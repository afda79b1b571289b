package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
	"github.com/coder/websocket"
)

// endless streams until the request is given up, and says when that is.
func endless(gone chan<- struct{}) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "begin")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}
}

// begun reads the beginning of an endless answer.
func begun(t *testing.T, res *http.Response) {
	t.Helper()
	if _, err := io.ReadFull(res.Body, make([]byte, len("begin"))); err != nil {
		t.Fatal(err)
	}
}

// ended reads until the connection ends, and fails when it stays open.
func ended(t *testing.T, what string, r io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, r); isTimeout(err) {
		t.Errorf("%s stayed open", what)
	}
}

// TestRevokedTokenOnOpenTunnels: when a run is over, so are its tunnels of every
// kind, whatever goes on in them.
func TestRevokedTokenOnOpenTunnels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := make(chan struct{}, 10)
	w.serve("api.openai.com", endless(gone))
	w.serve("tunnel.example.com", echo)
	w.serve("api.github.com", func(rw http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(rw, r, nil); err == nil {
			_, _, _ = c.Read(context.Background())
			gone <- struct{}{}
		}
	})
	const other = "another-token"
	w.broker.grants[other] = &authsome.Grant{ID: "run_2", Mode: authsome.ConnectedAllow}

	blind, blindR := w.connect("tunnel.example.com:443")
	defer func() { _ = blind.Close() }()
	idle, idleR := w.tunnel("api.anthropic.com:443", "api.anthropic.com")
	defer func() { _ = idle.Close() }()
	stream1, stream2 := w.get(w.client(http1), "https://api.openai.com/"), w.get(w.client(http2), "https://api.openai.com/")
	begun(t, stream1)
	begun(t, stream2)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://api.github.com/", &websocket.DialOptions{HTTPClient: w.client(http1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()

	w.broker.end(token)
	w.proxy.Reconsider()
	ended(t, "the blind tunnel", blindR)
	ended(t, "the idle tunnel", idleR)
	ended(t, "the HTTP/1.1 stream", stream1.Body)
	ended(t, "the HTTP/2 stream", stream2.Body)
	if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the WebSocket stayed open: %v", err)
	}
	for range 3 {
		<-gone
	}
	if ends := w.broker.ends(3); len(ends) != 3 {
		t.Errorf("%d requests were finished, want 3", len(ends))
	}
	c := w.dialProxy()
	problem(t, exchange(t, c, bufio.NewReader(c), "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n"), 407, "proxy_authentication_required")
	// Another run goes on.
	c = w.dialProxy()
	if _, err := fmt.Fprintf(c, "CONNECT tunnel.example.com:443 HTTP/1.1\r\nHost: x\r\n%s\r\n", basic(other)); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect}); err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
}

// TestRevokedTokenOnTheNextRequest: even before the tunnel is closed, nothing is
// injected any more.
func TestRevokedTokenOnTheNextRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	sawOf(t, exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"))
	w.broker.end(token)
	problem(t, exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"), 403, "denied")
}

// TestLoginDuringTheRun: a blind tunnel to a host that becomes routed is closed,
// so that the child's next connection gets the credential.
func TestLoginDuringTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.new.example", echo)
	w.serve("tunnel.example.com", echo)
	_, becomes := w.connect("api.new.example:443")
	stays, _ := w.connect("tunnel.example.com:443")
	w.broker.routes(append(bundled(), route.Entry{Provider: "openai", Route: authsome.Route{Host: "api.new.example", Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})...)
	w.proxy.Reconsider()
	ended(t, "the tunnel to a routed host", becomes)
	s := sawOf(t, w.get(w.client(http1), "https://api.new.example/"))
	if s.Header.Get("Authorization") != "Bearer "+openaiKey {
		t.Errorf("the service saw %v", s.Header)
	}
	inner := tls.Client(stays, &tls.Config{RootCAs: pool(w.theirs), ServerName: "tunnel.example.com", NextProtos: []string{http1}})
	sawOf(t, exchange(t, inner, bufio.NewReader(inner), "GET / HTTP/1.1\r\nHost: tunnel.example.com\r\n\r\n"))
}

// TestReplacedCredentialEndsItsStreams, and no others.
func TestReplacedCredentialEndsItsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := make(chan struct{}, 10)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			echo(rw, r)
			return
		}
		endless(gone)(rw, r)
	})
	others := make(chan struct{}, 10)
	w.serve("api.github.com", endless(others))
	c := w.client(http2)
	mine, theirs := w.get(c, "https://api.openai.com/"), w.get(w.client(http1), "https://api.github.com/")
	begun(t, mine)
	begun(t, theirs)
	w.broker.set("openai", &account{secret: "sk-new", private: true})
	w.proxy.Reconsider()
	ended(t, "the stream of the old credential", mine.Body)
	<-gone
	// The same tunnel goes on with the new one, over another upstream connection.
	before := w.net.dialled("api.openai.com:443")
	if s := sawOf(t, w.get(c, "https://api.openai.com/echo")); s.Header.Get("Authorization") != "Bearer sk-new" {
		t.Errorf("the service saw %v", s.Header)
	}
	if w.net.dialled("api.openai.com:443") == before {
		t.Error("the upstream connection of the old credential was used again")
	}
	if len(others) != 0 {
		t.Error("another provider's stream was ended too")
	}
}

// TestReconsiderRacesWithRequests: a request that was resolved before a change
// and sent after it does not slip through, and nothing hangs.
func TestReconsiderRacesWithRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // never answers by itself
	})
	c := w.client(http1)
	for range 50 {
		done := make(chan int, 1)
		go func() {
			res, err := c.Get("https://api.openai.com/")
			if err != nil {
				done <- 0
				return
			}
			_ = res.Body.Close()
			done <- res.StatusCode
		}()
		for ok := false; !ok; {
			w.broker.set("openai", &account{secret: openaiKey, private: true})
			w.proxy.Reconsider()
			select {
			case status := <-done:
				if status != http.StatusForbidden && status != 0 {
					t.Errorf("status %d", status)
				}
				ok = true
			case <-time.After(time.Millisecond):
			}
		}
	}
}
