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
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// pairs runs a test for each protocol of the child with each of the service.
func pairs(t *testing.T, f func(t *testing.T, child, upstream string)) {
	for _, child := range []string{"http/1.1", "h2"} {
		for _, upstream := range []string{"http/1.1", "h2"} {
			t.Run(child+" to "+upstream, func(t *testing.T) { f(t, child, upstream) })
		}
	}
}

// TestAbortsArePassedOn: whoever goes away in the middle of either body, the
// other side learns of it, and what is not whole does not look whole.
func TestAbortsArePassedOn(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, child, upstream string) {
		w := newWorld(t)
		began, gone := make(chan struct{}, 1), make(chan error, 1)
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(rw)
			_ = rc.EnableFullDuplex()
			switch r.URL.Path {
			case "/child-leaves":
				_, _ = io.WriteString(rw, "begin")
				_ = rc.Flush()
				<-r.Context().Done()
				gone <- nil
			case "/child-leaves-upload":
				_, _ = io.ReadFull(r.Body, make([]byte, 5))
				began <- struct{}{}
				_, err := io.Copy(io.Discard, r.Body)
				gone <- err
			case "/service-leaves":
				_, _ = io.WriteString(rw, "begin")
				_ = rc.Flush()
				panic(http.ErrAbortHandler)
			case "/service-leaves-upload":
				_, _ = io.ReadFull(r.Body, make([]byte, 5))
				panic(http.ErrAbortHandler)
			}
		}, only(upstream))
		c := w.client(child)
		within := func(what string) {
			t.Helper()
			select {
			case err := <-gone:
				if what == "upload" && err == nil {
					t.Error("half an upload looked whole to the service")
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s: the service was not told", what)
			}
		}
		ask := func(ctx context.Context, path string, body io.Reader) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.openai.com"+path, body)
			if err != nil {
				t.Fatal(err)
			}
			return c.Do(req)
		}

		ctx, leave := context.WithCancel(context.Background())
		res, err := ask(ctx, "/child-leaves", nil)
		if err != nil {
			t.Fatal(err)
		}
		begun(t, res)
		leave()
		within("download")
		_ = res.Body.Close()

		ctx, leave = context.WithCancel(context.Background())
		pr, pw := io.Pipe()
		go func() {
			_, _ = io.WriteString(pw, "begin")
			<-began
			leave()
			_ = pw.CloseWithError(context.Canceled)
		}()
		if res, err := ask(ctx, "/child-leaves-upload", pr); err == nil {
			_ = res.Body.Close()
			t.Errorf("half an upload was answered with %s", res.Status)
		}
		within("upload")

		if res, err = ask(context.Background(), "/service-leaves", nil); err == nil {
			if all, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("half an answer looks whole: %q", all)
			}
			_ = res.Body.Close()
		}

		pr, pw = io.Pipe()
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for {
				if _, err := io.WriteString(pw, "begin"); err != nil {
					return
				}
			}
		}()
		if res, err := ask(context.Background(), "/service-leaves-upload", pr); err == nil {
			problem(t, res, 502, "upstream_unreachable")
			_ = res.Body.Close()
		}
		// The child's upload is not left hanging.
		_ = pr.Close()
		<-wrote
	})
}

// TestAnswerBeforeTheRequestEnds: it is heard at once, over every pair of
// protocols, and the rest of an upload that goes on is read.
func TestAnswerBeforeTheRequestEnds(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, child, upstream string) {
		w := newWorld(t)
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(rw)
			_ = rc.EnableFullDuplex()
			if r.URL.Path == "/leaves" {
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			rw.WriteHeader(http.StatusAccepted)
			_ = rc.Flush()
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(rw, n)
		}, only(upstream))
		for path, status := range map[string]int{"/reads": http.StatusAccepted, "/leaves": http.StatusRequestEntityTooLarge} {
			pr, pw := io.Pipe()
			req, err := http.NewRequest(http.MethodPut, "https://api.openai.com"+path, pr)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan struct{})
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				_, _ = io.WriteString(pw, "begin")
				<-answered
				_, _ = io.WriteString(pw, " and the rest")
				_ = pw.Close()
			}()
			res, err := w.client(child).Do(req)
			close(answered)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != status {
				t.Errorf("%s: %s", path, res.Status)
			}
			if body, err := io.ReadAll(res.Body); path == "/reads" && (err != nil || string(body) != fmt.Sprint(len("begin and the rest"))) {
				t.Errorf("the service read %q, %v", body, err)
			}
			_ = res.Body.Close()
			_ = pr.Close()
			<-wrote
		}
	})
}

// TestExpectContinueOverEveryPair over every pair of protocols: a body that is wanted comes
// whole, and of one that is not a child that waits has sent nothing.
func TestExpectContinueOverEveryPair(t *testing.T) {
	t.Parallel()
	pairs(t, func(t *testing.T, child, upstream string) {
		w := newWorld(t)
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/refuse" {
				rw.WriteHeader(http.StatusExpectationFailed)
				return
			}
			n, err := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(rw, n, err)
		}, only(upstream))
		const size = 300 << 10
		for path, want := range map[string]int{"/accept": 200, "/refuse": 417} {
			c := w.client(child)
			c.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			body := &counted{Reader: strings.NewReader(strings.Repeat("x", size))}
			res := w.do(c, http.MethodPut, "https://api.openai.com"+path, body, "Expect: 100-continue")
			got := text(t, res)
			if res.StatusCode != want || want == 200 && got != fmt.Sprint(size, nil) {
				t.Errorf("%s: %s %q", path, res.Status, got)
			}
			// net/http hides from a handler that an HTTP/2 client waits.
			if sent := body.n.Load(); child == http1 && want != 200 && sent != 0 {
				t.Errorf("%d bytes of a body that is not wanted were sent", sent)
			}
		}
	})
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// TestChunkedBothWays: chunks of any size, with extensions that are nobody's
// business, arrive as the bytes that they are.
func TestChunkedBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || !slices.Equal(req.TransferEncoding, []string{"chunked"}) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;name=value\r\n<\r\n%x\r\n%s\r\n0001\r\n>\r\n000\r\n\r\n", len(body), body)
	})
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	long := strings.Repeat("0123456789abcdef", 1<<13)
	res := exchange(t, c, br, fmt.Sprintf("PUT / HTTP/1.1\r\nHost: api.openai.com\r\nTransfer-Encoding: chunked\r\n\r\n1;x=\"y\"\r\na\r\n%X\r\n%s\r\n0\r\n\r\n", len(long), long))
	if got := text(t, res); got != "<a"+long+">" || res.ContentLength != -1 {
		t.Errorf("%d bytes came back, length %d", len(got), res.ContentLength)
	}
}

// TestNoExtendedConnect: RFC 8441 is not offered, so that clients open their
// WebSockets over HTTP/1.1, and one that tries all the same is refused.
func TestNoExtendedConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c, _ := w.tunnel("api.openai.com:443", "api.openai.com", h2.NextProtoTLS)
	_, _ = io.WriteString(c, h2.ClientPreface)
	fr := h2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var head strings.Builder
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":path", "/"}, {":authority", "api.openai.com"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	if err := fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(head.String()), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for refused := false; !refused; {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *h2.SettingsFrame:
			if v, ok := f.Value(h2.SettingEnableConnectProtocol); ok && v != 0 {
				t.Error("extended CONNECT is offered")
			}
		case *h2.RSTStreamFrame, *h2.GoAwayFrame:
			refused = true
		case *h2.MetaHeadersFrame:
			if refused = true; f.PseudoValue("status") < "400" {
				t.Errorf("extended CONNECT is answered with %s", f.PseudoValue("status"))
			}
		}
	}
	if asked, _ := w.broker.counts(); asked != 0 {
		t.Error("the broker was asked")
	}
}

// deadlines is a listener whose connections remember what they are armed with.
type deadlines struct {
	net.Listener
	mu    sync.Mutex
	conns []*deadlined
}

type deadlined struct {
	net.Conn
	mu          sync.Mutex
	read, write time.Time
}

func (l *deadlines) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	d := &deadlined{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, d)
	return d, nil
}

func (c *deadlined) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *deadlined) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

func (c *deadlined) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}

func (c *deadlined) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// armed are the deadlines that are still to come.
func (l *deadlines) armed() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.mu.Lock()
		// What is past only woke somebody up.
		for what, t := range map[string]time.Time{"reading": c.read, "writing": c.write} {
			if time.Now().Before(t) {
				list = append(list, fmt.Sprintf("%s ends in %s", what, time.Until(t).Round(time.Second)))
			}
		}
		c.mu.Unlock()
	}
	return list
}

// TestStreamsMayBeIdle: once a request of any kind is under way, nothing on the
// child's connection runs out, however long it or its answer takes.
func TestStreamsMayBeIdle(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		proto, path string
		upload      bool
	}{
		"answer over HTTP/1.1": {http1, "/download", false},
		"answer over HTTP/2":   {"h2", "/download", false},
		"upload over HTTP/1.1": {http1, "/upload", true},
		"upload over HTTP/2":   {"h2", "/upload", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			began, release := make(chan struct{}), make(chan struct{})
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, 5))
				if r.URL.Path == "/download" {
					_, _ = io.WriteString(rw, "begin")
					_ = http.NewResponseController(rw).Flush()
				}
				close(began)
				<-release
				_, _ = io.Copy(io.Discard, r.Body)
			})
			ln := w.listenAgain()
			c := w.client(tt.proto)
			c.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: ln.Addr().String(), User: url.UserPassword("authsome", token)})
			var body io.Reader
			pr, pw := io.Pipe()
			if tt.upload {
				body = pr
				go func() { _, _ = io.WriteString(pw, "begin") }()
			}
			done := make(chan error, 1)
			go func() {
				req, err := http.NewRequest(http.MethodPost, "https://api.openai.com"+tt.path, body)
				if err == nil {
					var res *http.Response
					if res, err = c.Do(req); err == nil {
						_, err = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
				}
				done <- err
			}()
			<-began
			if list := ln.armed(); len(list) != 0 {
				t.Errorf("%q", list)
			}
			close(release)
			_ = pw.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	for name, raw := range map[string]string{
		"blind tunnel": "CONNECT ssh.example.com:22 HTTP/1.1\r\n" + basic(token) + "\r\n",
		"http://":      "GET http://plain.example.com/ HTTP/1.1\r\nHost: plain.example.com\r\n" + basic(token) + "\r\n",
		"http:// WebSocket": "GET http://plain.example.com/ HTTP/1.1\r\nHost: plain.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" +
			basic(token) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, direct)
			ln := w.listenAgain()
			up, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = up.Close() }()
			raw := strings.NewReplacer("ssh.example.com:22", up.Addr().String(), "plain.example.com", up.Addr().String()).Replace(raw)
			came := make(chan net.Conn, 1)
			go func() {
				c, err := up.Accept()
				if err != nil {
					return
				}
				switch {
				case strings.HasPrefix(raw, "CONNECT"):
					_, _ = io.WriteString(c, "x")
				case strings.Contains(raw, "Upgrade"):
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nx")
				default:
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
				}
				came <- c
			}()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(c, raw)
			for b := []byte{0}; b[0] != 'x'; {
				if _, err := c.Read(b); err != nil {
					t.Fatal(err)
				}
			}
			if list := ln.armed(); len(list) != 0 {
				t.Errorf("%q", list)
			}
			_ = (<-came).Close()
		})
	}
}

// listenAgain is one more port of the proxy, which is watched for deadlines.
func (w *world) listenAgain() *deadlines {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	d := &deadlines{Listener: ln}
	done := make(chan error, 1)
	go func() { done <- w.proxy.Serve(context.Background(), d) }()
	w.t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return d
}

// TestSilentHandshake: a client that says neither whom it wants nor what it
// speaks gets HTTP/1.1 with the host of its CONNECT.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	raw, _ := w.connect("api.openai.com:443")
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	s := sawOf(t, exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"))
	state := c.ConnectionState()
	if s.Header.Get("Authorization") != "Bearer "+openaiKey || state.NegotiatedProtocol != "" || state.PeerCertificates[0].VerifyHostname("api.openai.com") != nil {
		t.Errorf("the service saw %+v by %q", s, state.NegotiatedProtocol)
	}
}

// TestUpgradeWithHTTP2Alone: a service that speaks nothing else cannot have a
// WebSocket opened over HTTP/1.1, and the answer says so; other requests go on.
func TestUpgradeWithHTTP2Alone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo, only("h2"))
	for range 2 {
		sawOf(t, w.get(w.client(http1), "https://api.openai.com/"))
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		got := problem(t, exchange(t, c, br, handshake), 502, "upstream_tls")
		if !strings.Contains(got["cause"].(string), "http/1.1") {
			t.Errorf("%v", got)
		}
	}
}

// TestTooManyHeaders: a megabyte of them is refused with an answer over HTTP/2 as
// well, and a service that sends as much is not listened to.
func TestTooManyHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var reached bool
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/answer" {
			rw.Header().Set("X-Long", strings.Repeat("x", 1<<20+16<<10))
			return
		}
		reached = true
	}, func(s *httptest.Server) { s.EnableHTTP2 = false })
	c := w.client("h2")
	req, err := http.NewRequest(http.MethodGet, "https://api.openai.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		req.Header.Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 4<<10))
	}
	if res, err := c.Do(req); err == nil {
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s", res.Status)
		}
		_ = res.Body.Close()
	}
	if reached {
		t.Error("it was sent on")
	}
	problem(t, w.get(w.client(http1), "https://api.openai.com/answer"), 502, "upstream_unreachable")
	if asked, _ := w.broker.counts(); asked != 1 {
		t.Errorf("the broker was asked %d times", asked)
	}
}
