package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
)

// In these tests token is the greedy run's. modest is the other one's.
const modest = "t0ken-of-a-modest-run"

// shared is a world of two runs.
type shared struct {
	*world
	journal *journal
}

// journal is what was logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// sharedWorld is a proxy with two runs and these limits.
func sharedWorld(t *testing.T, l proxy.Limits) *shared {
	t.Helper()
	j := &journal{}
	w := newWorld(t, func(w *world, c *proxy.Config) {
		c.Limits, c.Logger = l, slog.New(slog.NewTextHandler(j, nil))
		g := *w.broker.grants[token]
		g.ID = "run_2"
		w.broker.grants[modest] = &g
	})
	w.serve("api.openai.com", echo)
	w.serve("elsewhere.example.com", echo)
	return &shared{w, j}
}

// modestClient is one of the modest run.
func (w *world) modestClient() *http.Client {
	c := w.client(http1)
	tr := c.Transport.(*http.Transport)
	via, _ := tr.Proxy(nil)
	u := *via
	u.User = nil
	tr.Proxy = http.ProxyURL(&u)
	tr.ProxyConnectHeader = http.Header{"Proxy-Authorization": {"Basic " + b64("authsome:"+modest)}}
	return c
}

// works holds the modest run to being served, in a tunnel with a credential.
func (w *world) works(c *http.Client) {
	w.t.Helper()
	res := w.get(c, "https://api.openai.com/v1/models", "Authorization: Bearer "+authsome.Placeholder)
	if got := sawOf(w.t, res); res.StatusCode != 200 || got.Header.Get("Authorization") != "Bearer "+openaiKey {
		w.t.Errorf("the modest run got %s: %+v", res.Status, got)
	}
}

// ask sends a CONNECT of the greedy run and returns the connection and the answer.
func (w *world) ask(target string) (net.Conn, *http.Response) {
	w.t.Helper()
	c := w.dialProxy()
	_, _ = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, basic(token))
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodGet})
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK {
		res.Body = http.NoBody
	}
	return c, res
}

// limited holds an answer to being one that says what to do and when.
func limited(t *testing.T, res *http.Response, status int, code string) {
	t.Helper()
	problem(t, res, status, code)
	if res.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", res.Header.Get("Retry-After"))
	}
}

// toldOnce waits for a limit to be in the audit and in the log, and holds it to being
// there once.
func (w *shared) toldOnce(status int, code string) {
	w.t.Helper()
	n := 0
	for _, f := range w.broker.ends(1) {
		if f.res == nil && f.out.Status == status {
			n++
		}
	}
	if logged := strings.Count(w.journal.String(), "limit="+code); n != 1 || logged != 1 {
		w.t.Errorf("%s is %d times in the audit, and %d times in the log", code, n, logged)
	}
}

// TestGreedyConnections: blind and intercepted tunnels count alike. Who has too many
// is told so at once, and gets one when another one ends.
func TestGreedyConnections(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{Connections: 40, RunConnections: 20})
	calm := w.modestClient()
	w.works(calm)
	var open []net.Conn
	for i := range 20 {
		c, res := w.ask([]string{"api.openai.com:443", "elsewhere.example.com:443"}[i%2])
		if res.StatusCode != http.StatusOK {
			t.Fatalf("the %dth connection: %s", i+1, res.Status)
		}
		open = append(open, c)
	}
	for range 100 {
		c, res := w.ask("api.openai.com:443")
		limited(t, res, http.StatusTooManyRequests, "too_many_connections")
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			t.Errorf("the refused connection stays open: %d, %v", n, err)
		}
	}
	c := w.dialProxy()
	br := bufio.NewReader(c)
	res := exchange(t, c, br, "GET http://elsewhere.example.com/ HTTP/1.1\r\nHost: elsewhere.example.com\r\n"+basic(token)+"\r\n")
	limited(t, res, http.StatusTooManyRequests, "too_many_connections")
	w.works(calm)
	w.works(w.modestClient())
	w.toldOnce(http.StatusTooManyRequests, "too_many_connections")
	_ = open[0].Close()
	for end := time.Now().Add(10 * time.Second); ; {
		if _, res := w.ask("api.openai.com:443"); res.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there is no room after one has ended")
		}
	}
}

// TestGreedyRunsTogether cannot take all that there is either.
func TestGreedyRunsTogether(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{Connections: 40, RunConnections: 40})
	for n := 0; ; n++ {
		if _, res := w.ask("api.openai.com:443"); res.StatusCode != http.StatusOK {
			break
		}
		if n > 40 {
			t.Fatal("there is no limit")
		}
	}
	// A single run may have had all. It has, so others wait for it to give some back.
	w.broker.end(token)
	w.proxy.Reconsider()
	w.broker.mu.Lock()
	for i := range 4 {
		w.broker.grants[fmt.Sprint(token, i)] = &authsome.Grant{ID: fmt.Sprint("greedy_", i), Mode: authsome.ConnectedAllow, Identity: w.broker.grants[modest].Identity, Unscrubbed: true}
	}
	w.broker.mu.Unlock()
	w.works(w.modestClient())
	for range 20 {
		for i := range 4 {
			c := w.dialProxy()
			_, _ = fmt.Fprintf(c, "CONNECT api.openai.com:443 HTTP/1.1\r\n%s\r\n", basic(fmt.Sprint(token, i)))
			if _, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		w.works(w.modestClient())
	}
}

// TestGreedyRequests: what is too much waits in order for a while, and more than
// that is refused at once.
func TestGreedyRequests(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		w := sharedWorld(t, proxy.Limits{RunRequests: 3})
		release := make(chan struct{})
		arrived := make(chan struct{}, 100)
		w.serve("api.github.com", func(rw http.ResponseWriter, _ *http.Request) {
			arrived <- struct{}{}
			<-release
		})
		c := w.client(proto)
		answers := make(chan *http.Response, 100)
		var work sync.WaitGroup
		for range 3 + 3 + 10 {
			work.Go(func() {
				res, err := c.Get("https://api.github.com/")
				if err != nil {
					t.Error(err)
					return
				}
				answers <- res
			})
		}
		for range 10 {
			limited(t, <-answers, http.StatusTooManyRequests, "too_many_requests")
		}
		for range 3 {
			<-arrived
		}
		if len(arrived) != 0 {
			t.Error("more than three are under way")
		}
		w.works(w.modestClient())
		w.toldOnce(http.StatusTooManyRequests, "too_many_requests")
		close(release)
		for range 6 {
			if res := <-answers; res.StatusCode != http.StatusOK {
				t.Errorf("one that could wait got %s", res.Status)
			}
		}
		work.Wait()
	}
}

// TestGreedyStreams hold what they have for as long as they last: WebSockets and
// blind tunnels too.
func TestGreedyStreams(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{RunRequests: 2})
	w.serve("api.github.com", func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}, only(http1))
	c, br := w.tunnel("api.github.com:443", "api.github.com")
	if res := exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.github.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res.Status)
	}
	if _, res := w.ask("elsewhere.example.com:443"); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	_, res := w.ask("elsewhere.example.com:443") // waits in vain
	limited(t, res, http.StatusTooManyRequests, "too_many_requests")
	w.works(w.modestClient())
}

// TestGreedyHosts: a certificate for each of them would keep the processor from
// others.
func TestGreedyHosts(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{RunHosts: 10})
	w.broker.routes(append(bundled(), route.Entry{Provider: "openai", Route: authsome.Route{Host: "*.many.example.com", Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})...)
	for i := range 10 {
		if _, res := w.ask(fmt.Sprintf("h%d.many.example.com:443", i)); res.StatusCode != http.StatusOK {
			t.Fatalf("the %dth host: %s", i, res.Status)
		}
	}
	for i := range 50 {
		_, res := w.ask(fmt.Sprintf("more%d.many.example.com:443", i))
		limited(t, res, http.StatusTooManyRequests, "too_many_hosts")
	}
	if _, res := w.ask("h3.many.example.com:443"); res.StatusCode != http.StatusOK {
		t.Errorf("a host that it has a certificate for: %s", res.Status)
	}
	w.works(w.modestClient())
	w.toldOnce(http.StatusTooManyRequests, "too_many_hosts")
}

// TestGreedyHandshakes that are begun and not gone on with.
func TestGreedyHandshakes(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{})
	for range 200 {
		c, res := w.ask("api.openai.com:443")
		if res.StatusCode != http.StatusOK {
			t.Fatal(res.Status)
		}
		_, _ = c.Write([]byte("\x16\x03\x01\x02\x00"))
	}
	w.works(w.modestClient())
}

// TestGreedySilence: connections that have shown no token make room, the oldest
// first.
func TestGreedySilence(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{})
	first := w.dialProxy()
	for range 300 {
		w.dialProxy()
	}
	w.works(w.modestClient())
	if _, err := first.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the first is still open: %v", err)
	}
}

// TestGreedyBodies that have to be kept: those of one run wait for each other, and
// not for long; another's are taken.
func TestGreedyBodies(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{Memory: 8 << 20, RunMemory: 4 << 20})
	routeAWS(w.world)
	f := &fakeAWS{}
	w.serve(tableHost, f.ServeHTTP)
	body := bytes.Repeat([]byte("x"), 3<<20)
	signed := func(body io.Reader) *http.Request {
		req := signedBy(t, authsome.Placeholder, request(t, http.MethodPost, "https://"+tableHost+"/", nil), fmt.Sprintf("%x", sha256.Sum256(bytes.Repeat([]byte("x"), 3<<20))), "dynamodb")
		req.Body, req.ContentLength = io.NopCloser(body), 3<<20
		return req
	}
	hold := make(chan struct{})
	held := make(chan error, 1)
	greedy := w.client(http1)
	go func() {
		res, err := greedy.Do(signed(io.MultiReader(bytes.NewReader(body[:1<<20]), waitFor(hold), bytes.NewReader(body[1<<20:]))))
		if err == nil {
			_ = res.Body.Close()
		}
		held <- err
	}()
	waitUntil(t, func() bool { asked, _ := w.broker.counts(); return asked > 0 })
	time.Sleep(restTime) // until the first one's body is being read
	res, err := greedy.Do(signed(bytes.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	limited(t, res, http.StatusServiceUnavailable, "out_of_memory")
	if res, text := sent(t, w.modestClient(), signed(bytes.NewReader(body))); res.StatusCode != 200 {
		t.Errorf("the modest run got %s: %s", res.Status, text)
	}
	w.toldOnce(http.StatusServiceUnavailable, "out_of_memory")
	close(hold)
	if err := <-held; err != nil {
		t.Error(err)
	}
	if res, text := sent(t, greedy, signed(bytes.NewReader(body))); res.StatusCode != 200 {
		t.Errorf("afterwards the greedy run got %s: %s", res.Status, text)
	}
}

const tableHost = "dynamodb.eu-west-1.amazonaws.com"

// waitFor is a reader of nothing that ends with a channel.
func waitFor(c <-chan struct{}) io.Reader { return &waiting{c} }

type waiting struct{ c <-chan struct{} }

func (w *waiting) Read([]byte) (int, error) {
	<-w.c
	return 0, io.EOF
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not come to that")
		}
	}
}

// TestTooLong: what is too long is answered as everything is that the proxy answers
// itself, also where net/http reads the request.
func TestTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	long := strings.Repeat("x", 300<<10)
	huge := "X-Huge: " + strings.Repeat("x", 1<<20) + "\r\n"
	send := func(c io.Writer, text string) { _, _ = io.WriteString(c, text) }
	for name, tt := range map[string]struct {
		tunnel  bool
		request string
		status  int
		code    string
	}{
		"a path in a tunnel":     {true, "GET /" + long + " HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", 414, "url_too_long"},
		"a query in a tunnel":    {true, "GET /?" + long + " HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", 414, "url_too_long"},
		"a URL":                  {false, "GET http://gone.example/ HTTP/1.1\r\nHost: x\r\n" + basic(token) + "\r\nGET http://a.example/" + long + " HTTP/1.1\r\nHost: a.example\r\n" + basic(token) + "\r\n", 414, "url_too_long"},
		"a URL to begin with":    {false, "GET http://a.example/" + long + " HTTP/1.1\r\nHost: a.example\r\n" + basic(token) + "\r\n", 431, "header_too_large"},
		"a header in a tunnel":   {true, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n" + huge + huge + "\r\n", 431, "header_too_large"},
		"a header without one":   {false, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n" + huge + huge + "\r\n", 431, "header_too_large"},
		"a header of a CONNECT":  {false, "CONNECT a.example:443 HTTP/1.1\r\n" + huge + "\r\n", 431, "header_too_large"},
		"a malformed one inside": {true, "GET / HTTP/1.1\r\n\r\n", 400, "bad_request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c net.Conn = w.dialProxy()
			if tt.tunnel {
				var secure *tls.Conn
				secure, _ = w.tunnel("api.openai.com:443", "api.openai.com")
				c = secure
			}
			go send(c, tt.request) // the answer may come before its end
			br := bufio.NewReader(c)
			for range strings.Count(tt.request, "HTTP/1.1") - 1 {
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				problem(t, res, 502, "upstream_unreachable")
			}
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			problem(t, res, tt.status, tt.code)
		})
	}
}

// TestGreedyDecoders: when memory gets short, services are asked for what costs
// little to decode.
func TestGreedyDecoders(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{RunMemory: 6 << 20})
	for _, token := range []string{token, modest} {
		w.broker.grants[token].Unscrubbed = false
	}
	w.broker.set("github", &account{secret: "ghp_0123456789abcdef", private: true})
	asked := make(chan string, 10)
	w.serve("api.github.com", func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Accept-Encoding")
		rw.Header().Set("Content-Encoding", "br")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	}, only(http1))
	c := w.client(http1)
	for i, want := range []string{"br, zstd, gzip;q=0.5", "gzip;q=0.5"} {
		res := w.get(c, "https://api.github.com/", "Accept-Encoding: br, zstd, gzip;q=0.5")
		if got := <-asked; got != want || res.StatusCode != 200 {
			t.Errorf("for the %dth answer the service was asked for %q, want %q", i+1, got, want)
		}
	}
	if w.get(w.modestClient(), "https://api.github.com/", "Accept-Encoding: br"); <-asked != "br" {
		t.Error("another run has to do without br")
	}
}

// TestGreedyMessages of WebSockets, which are kept until they are whole.
func TestGreedyMessages(t *testing.T) {
	t.Parallel()
	w := newSlotted(t, chat(""), func(_ *world, c *proxy.Config) { c.Limits = proxy.Limits{RunMemory: 1000} })
	w.serveRaw(gateway, func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, br)
	})
	open := func() (*tls.Conn, *bufio.Reader) {
		c, br := w.tunnel(gateway+":443", gateway)
		if res := exchange(t, c, br, gatewayHandshake); res.StatusCode != 101 {
			t.Fatal(res.Status)
		}
		return c, br
	}
	first, br := open()
	for range 5 { // what is whole is kept no more
		message := frameOf(0x81, strings.Repeat("x", 500))
		_, _ = io.WriteString(first, message)
		if _, err := io.ReadFull(br, make([]byte, len(message))); err != nil {
			t.Fatal(err)
		}
	}
	second, br := open()
	_, _ = io.WriteString(first, frameOf(0x81, strings.Repeat("x", 600))[:300])
	_, _ = io.WriteString(second, frameOf(0x81, strings.Repeat("x", 2000)))
	end, err := io.ReadAll(br)
	if err != nil || len(end) < 4 || end[0] != 0x88 || int(end[2])<<8|int(end[3]) != 1013 {
		t.Errorf("the child heard %q, %v", end, err)
	}
	_ = first.Close()
	_ = second.Close()
	waitUntil(t, func() bool { return w.proxy.Usage() == proxy.Usage{} })
}

// exhausted is a listener that has no descriptor at first.
type exhausted struct {
	net.Listener
	times int
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.times--; e.times >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return e.Listener.Accept()
}

// TestOutOfDescriptors: what is kept open for later requests makes room, and nobody
// spins or gives up.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{})
	gone := make(chan struct{})
	w.serve("api.github.com", echo, only(http1), func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(gone)
			}
		}
	})
	_ = text(t, w.get(w.client(http1), "https://api.github.com/"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.proxy.Serve(ctx, &exhausted{ln, 4}) }()
	w.addr = ln.Addr().String()
	w.works(w.modestClient())
	<-gone
	if n := strings.Count(w.journal.String(), "msg=accept"); n != 4 {
		t.Errorf("%d refusals to accept are logged, want 4", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestGreedyUploads over HTTP/2 to a service that reads nothing: what has come is
// held up to a point, and then the stream ends.
func TestGreedyUploads(t *testing.T) {
	t.Parallel()
	w := sharedWorld(t, proxy.Limits{RunMemory: 1 << 20})
	release := make(chan struct{})
	w.serve("api.github.com", func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) }) // before the service is closed
	c := w.client(http2)
	ended := make(chan error, 10)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range cap(ended) {
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.github.com/", io.NopCloser(&tireless{}))
			if err == nil {
				var res *http.Response
				if res, err = c.Do(req); err == nil {
					_ = res.Body.Close()
				}
			}
			ended <- err
		}()
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "ENHANCE_YOUR_CALM") {
		t.Errorf("the first upload that was too much ended with %v", err)
	}
	if u := w.proxy.Usage(); u.Memory > 1<<20+10*64<<10 {
		t.Errorf("%d bytes are held", u.Memory)
	}
	calm := w.modestClient()
	w.works(calm)
	for range 3 {
		res := w.do(calm, http.MethodPost, "https://api.openai.com/", &io.LimitedReader{R: tireless{}, N: 3 << 20})
		if res.StatusCode != http.StatusOK {
			t.Errorf("the modest run's upload: %s", res.Status)
		}
	}
	w.toldOnce(http.StatusServiceUnavailable, "out_of_memory")
	cancel()
	waitUntil(t, func() bool { return w.proxy.Usage().Memory == 0 })
}

// TestGreedyHeaders: long headers count as memory, whole ones and those that have begun.
// What is too much is refused, and given back at the end.
func TestGreedyHeaders(t *testing.T) {
	t.Parallel()
	t.Run(http1, func(t *testing.T) {
		t.Parallel()
		w := sharedWorld(t, proxy.Limits{Memory: 4 << 20, RunMemory: 1 << 20})
		w.serve("api.openai.com", echo)
		const begun = "GET / HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: x\r\n"
		long := strings.Repeat("X-Long: "+strings.Repeat("v", 4000)+"\r\n", 120)
		var open []*tls.Conn
		for range 2 {
			c, _ := w.tunnel("api.openai.com:443", "api.openai.com", http1)
			_, _ = io.WriteString(c, begun+long)
			open = append(open, c)
		}
		eventually(t, "the headers are counted", func() bool { return w.proxy.Usage().Memory > 700<<10 })
		c, br := w.tunnel("api.openai.com:443", "api.openai.com", http1)
		res := exchange(t, c, br, begun+long)
		if problem(t, res, http.StatusServiceUnavailable, "out_of_memory"); res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		// A usual one needs none, and a long one has its answer where there is room.
		if res := w.get(w.client(http1), "https://api.openai.com/"); res.StatusCode != http.StatusOK {
			t.Errorf("a short header: %s", res.Status)
		}
		_ = open[0].Close()
		res = exchange(t, open[1], bufio.NewReader(open[1]), "\r\n")
		if _ = text(t, res); res.StatusCode != http.StatusOK {
			t.Errorf("a long header: %s", res.Status)
		}
		eventually(t, "all is given back", func() bool { return w.proxy.Usage().Memory == 0 })
	})
	// Before it is known whose it is, nobody's memory can be counted.
	t.Run("of no run yet", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.serve("api.openai.com", echo)
		for _, first := range []string{"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n", "GET http://api.openai.com/ HTTP/1.1\r\nHost: x\r\n"} {
			for size, want := range map[int]int{60 << 10: 200, 80 << 10: 431} {
				raw := w.dialProxy()
				go func() {
					_, _ = io.WriteString(raw, first+"X-Long: "+strings.Repeat("v", size)+"\r\n"+basic(token)+"\r\n")
				}()
				res, err := http.ReadResponse(bufio.NewReader(raw), &http.Request{Method: strings.Fields(first)[0]})
				if err != nil {
					t.Fatalf("%.7s: %v", first, err)
				}
				if want == 431 {
					problem(t, res, want, "header_too_large")
				} else if res.StatusCode == 431 || res.StatusCode == 407 {
					t.Errorf("%.7s of %d bytes: %s", first, size, res.Status)
				}
			}
		}
	})
	t.Run(http2, func(t *testing.T) {
		t.Parallel()
		w := sharedWorld(t, proxy.Limits{Memory: 4 << 20, RunMemory: 1 << 20})
		arrived, answer := make(chan struct{}, 3), make(chan struct{})
		w.serve("api.openai.com", func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-answer
		}, func(s *httptest.Server) { s.Config.MaxHeaderBytes = 2 << 20 })
		c := w.client(http2)
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.openai.com/", nil)
			if err != nil {
				return err
			}
			for i := range 120 {
				req.Header.Set(fmt.Sprintf("X-Long-%d", i), strings.Repeat("v", 4000))
			}
			res, err := c.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = res.Body.Close() }()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("status %s", res.Status)
			}
			return nil
		}
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- ask() }()
			<-arrived
		}
		if err := ask(); err == nil || !strings.Contains(err.Error(), "ENHANCE_YOUR_CALM") {
			t.Errorf("one too many: %v", err)
		}
		close(answer)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		eventually(t, "all is given back", func() bool { return w.proxy.Usage().Memory == 0 })
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: " + what)
		}
	}
}
