package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestServeEnds: with its context or its listener, without an error; what was
// accepted is still served.
func TestServeEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	early := w.dialProxy() // accepted, and silent so far
	sawOf(t, w.get(w.client(http1), "https://api.openai.com/"))
	w.stop()
	if err := <-w.served; err != nil {
		t.Error(err)
	}
	sawOf(t, exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"))
	if _, err := fmt.Fprintf(early, "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n%s\r\n", basic(token)); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(early), &http.Request{Method: http.MethodConnect}); err != nil || res.StatusCode != 200 {
		t.Errorf("a connection that had been accepted was lost: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := w.proxy.Serve(context.Background(), ln); err != nil {
		t.Error(err)
	}
}

// TestShutdown: requests under way get their answer, tunnels are closed.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		echo(rw, r)
	})
	w.serve("tunnel.example.com", echo)
	_, tbr := w.connect("tunnel.example.com:443")
	_, ibr := w.tunnel("api.github.com:443", "api.github.com")
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		down <- w.proxy.Shutdown(ctx)
	}()
	close(release)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("the request under way was cut off: %v", err)
	}
	sawOf(t, res)
	for name, r := range map[string]io.Reader{"blind tunnel": tbr, "idle tunnel": ibr} {
		if _, err := io.ReadAll(r); isTimeout(err) {
			t.Errorf("the %s stayed open", name)
		}
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if err := <-w.served; err != nil {
		t.Error(err)
	}
}

// TestShutdownOverHTTP2: streams end, and their connection with them; one without
// is closed at once, and one that has just been opened soon.
func TestShutdownOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(rw).Flush()
			close(entered)
			<-release
		}
		echo(rw, r)
	})
	idle, unused := w.client(http2), w.dialProxy()
	sawOf(t, w.get(idle, "https://api.openai.com/"))
	raw, _ := w.tunnel("api.openai.com:443", "api.openai.com", http2)
	res := w.get(w.client(http2), "https://api.openai.com/slow")
	<-entered
	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		down <- w.proxy.Shutdown(ctx)
	}()
	if _, err := io.Copy(io.Discard, raw); isTimeout(err) {
		t.Error("a connection without a request stayed open")
	}
	close(release)
	sawOf(t, res)
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, unused); isTimeout(err) {
		t.Error("a connection without a CONNECT stayed open")
	}
}

// TestShutdownCutsOff: what does not end is ended when the time is up.
func TestShutdownCutsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered := make(chan struct{})
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).Flush()
		close(entered)
		<-r.Context().Done()
	})
	res := w.get(w.client(http1), "https://api.openai.com/")
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.proxy.Shutdown(ctx); err == nil {
		t.Error("Shutdown cut a request off and did not say so")
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("an answer that was cut off looks whole")
	}
	if ends := w.broker.ends(1); ends[0].out.Err == "" {
		t.Errorf("finished with %+v", ends[0].out)
	}
}
