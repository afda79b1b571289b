package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

func TestInjectsOverEveryPairOfProtocols(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			t.Run(child+" to "+upstream, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.serve("api.openai.com", echo, only(upstream))
				c := w.client(child)
				for range 2 { // the second comes from memory and pool
					s := sawOf(t, w.get(c, "https://api.openai.com/v1/models?x=1", "Authorization: Bearer "+authsome.Placeholder))
					if got := s.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer "+openaiKey {
						t.Errorf("Authorization is %q", got)
					}
					if s.URI != "/v1/models?x=1" || s.Host != "api.openai.com" {
						t.Errorf("upstream saw %+v", s)
					}
					want := map[string]string{http1: "HTTP/1.1", http2: "HTTP/2.0"}[upstream]
					if s.Proto != want {
						t.Errorf("upstream spoke %s, want %s", s.Proto, want)
					}
				}
				ends := w.broker.ends(2)
				if o := ends[1].out; o.Status != 200 || o.Received == 0 || o.Err != "" || ends[1].req.ID == ends[0].req.ID {
					t.Errorf("finished with %+v", ends)
				}
			})
		}
	}
}

func TestAddsACredentialThatTheChildDidNotSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	s := sawOf(t, w.get(w.client(http1), "https://api.openai.com/v1/responses"))
	if got := s.Header.Get("Authorization"); got != "Bearer "+openaiKey {
		t.Errorf("Authorization is %q", got)
	}
}

// TestNoTokenNoService: another user or process on the machine gets a 407, for
// every kind of request, and nothing is dialled.
func TestNoTokenNoService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	w.serve("tunnel.example.com", echo)
	for _, start := range []string{
		"CONNECT api.openai.com:443 HTTP/1.1\r\n", "CONNECT tunnel.example.com:443 HTTP/1.1\r\n",
		"CONNECT self-check.authsome.invalid:443 HTTP/1.1\r\n", "CONNECT x HTTP/1.1\r\n",
		"GET http://tunnel.example.com/ HTTP/1.1\r\nHost: tunnel.example.com\r\n", "GET / HTTP/1.1\r\nHost: x\r\n",
		"GET http://self-check.authsome.invalid/ HTTP/1.1\r\nHost: x\r\n",
	} {
		for _, auth := range []string{
			"", basic("wrong"), basic(""), basic(token) + basic(token), "Proxy-Authorization: Bearer " + token + "\r\n",
			"Proxy-Authorization: Basic !!!\r\n", "Authorization: " + strings.TrimPrefix(basic(token), "Proxy-Authorization: "),
		} {
			c := w.dialProxy()
			res := exchange(t, c, bufio.NewReader(c), start+auth+"\r\n")
			problem(t, res, 407, "proxy_authentication_required")
			if got := res.Header.Get("Proxy-Authenticate"); got != `Basic realm="authsome"` {
				t.Errorf("Proxy-Authenticate is %q", got)
			}
			_ = c.Close()
		}
	}
	if n := w.net.dialled("api.openai.com:443") + w.net.dialled("tunnel.example.com:443"); n != 0 {
		t.Errorf("%d dials without a token", n)
	}
}

// TestGitAnswersTheChallengeOnTheSameConnection: git sends nothing first.
func TestGitAnswersTheChallengeOnTheSameConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("tunnel.example.com", echo)
	for _, host := range []string{"tunnel.example.com:443", "api.openai.com:443"} {
		c := w.dialProxy()
		br := bufio.NewReader(c)
		res := exchange(t, c, br, "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\nUser-Agent: git/2.39.5\r\nProxy-Connection: Keep-Alive\r\n\r\n")
		problem(t, res, 407, "proxy_authentication_required")
		if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, host, basic(token)); err != nil {
			t.Fatal(err)
		}
		if res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect}); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %v %v", host, res, err)
		}
	}
}

// TestConnectOfOldClients: HTTP/1.0 without User-Agent, any user name, no Host.
func TestConnectOfOldClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c := w.dialProxy()
	auth := basic(token)
	res := exchange(t, c, bufio.NewReader(c), "CONNECT api.openai.com:443 HTTP/1.0\r\n"+auth+"\r\n")
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	inner := tls.Client(c, &tls.Config{RootCAs: pool(w.ours), ServerName: "api.openai.com"})
	s := sawOf(t, exchange(t, inner, bufio.NewReader(inner), "GET /v1 HTTP/1.0\r\n\r\n"))
	if s.Header.Get("Authorization") != "Bearer "+openaiKey || s.Host != "api.openai.com" {
		t.Errorf("upstream saw %+v", s)
	}
	if _, ok := s.Header["User-Agent"]; ok {
		t.Errorf("a User-Agent was added: %q", s.Header["User-Agent"])
	}
	if _, ok := s.Header["Accept-Encoding"]; ok {
		t.Errorf("an Accept-Encoding was added: %q", s.Header["Accept-Encoding"])
	}
}

// TestUpperCaseHost: another spelling of a host is the same host, also for the
// rules that refuse.
func TestUpperCaseHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.github.com", echo)
	for _, target := range []string{"API.GITHUB.COM:443", "Api.GitHub.com.:443", "api.github.com:443"} {
		c, br := w.tunnel(target, "api.github.com")
		s := sawOf(t, exchange(t, c, br, "GET /user HTTP/1.1\r\nHost: API.github.COM\r\n\r\n"))
		if s.Header.Get("Authorization") != "Bearer "+githubToken || s.Host != "api.github.com" {
			t.Errorf("%s: upstream saw %+v", target, s)
		}
	}
	w.broker.set("github", nil)
	c, br := w.tunnel("API.GITHUB.COM:443", "api.github.com")
	problem(t, exchange(t, c, br, "GET /user HTTP/1.1\r\nHost: api.github.com\r\n\r\n"), 401, "login_required")
}

func TestHeaderTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c := w.dialProxy()
	go func() {
		_, _ = io.WriteString(c, "CONNECT api.openai.com:443 HTTP/1.1\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	problem(t, res, 431, "header_too_large")

	inner, br := w.tunnel("api.openai.com:443", "api.openai.com")
	go func() {
		_, _ = io.WriteString(inner, "GET / HTTP/1.1\r\nHost: api.openai.com\r\nX: "+strings.Repeat("x", 1<<20+8<<10)+"\r\n\r\n")
	}()
	res, err = http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 431 {
		t.Errorf("inner request: %s", res.Status)
	}
	asked, _ := w.broker.counts()
	if asked != 0 {
		t.Error("the broker was asked about it")
	}
}

// TestBlindTunnel: what no provider is for is passed on undecrypted, in both
// directions and with half-closing, also when it is no TLS at all.
func TestBlindTunnel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("tunnel.example.com", echo)
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		c.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool(w.theirs) // their certificate, not ours
		s := sawOf(t, w.get(c, "https://tunnel.example.com/x", "Authorization: Bearer "+authsome.Placeholder))
		if s.Header.Get("Authorization") != "Bearer "+authsome.Placeholder {
			t.Errorf("upstream saw %q", s.Header.Get("Authorization"))
		}
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "first ") // a service that speaks first
		all, _ := io.ReadAll(c)            // until the client's half has ended
		_, _ = c.Write(append([]byte("heard "), all...))
	}()
	w.net.add("ssh.example.com:22", ln.Addr().String())
	c, br := w.connect("ssh.example.com:22")
	_, _ = io.WriteString(c, "all I have to say")
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(br)
	if err != nil || string(got) != "first heard all I have to say" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, n := w.broker.counts(); n != 0 {
		t.Error("a blind tunnel was accounted for as a request")
	}
}

// TestEarlyBytesOfATunnel: what a client sends right behind its CONNECT gets to the
// service, also on a connection that had an http:// request before.
func TestEarlyBytesOfATunnel(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "GET http://nowhere.example/ HTTP/1.1\r\nHost: nowhere.example\r\n" + basic(token) + "\r\n"} {
		w := newWorld(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			if c, err := ln.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}
		}()
		w.net.add("ssh.example.com:22", ln.Addr().String())
		c := w.dialProxy()
		br := bufio.NewReader(c)
		if before != "" {
			_ = text(t, exchange(t, c, br, before))
		}
		_, _ = io.WriteString(c, "CONNECT ssh.example.com:22 HTTP/1.1\r\nHost: ssh.example.com:22\r\n"+basic(token)+"\r\nearly")
		_ = c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(br)
		if _, heard, _ := strings.Cut(string(got), "\r\n\r\n"); err != nil || heard != "early" {
			t.Errorf("behind %q the client got %q, %v", before, got, err)
		}
	}
}

// TestOtherPortsAreTunnelled: a route is for its port alone, so another service on
// the same machine is not decrypted.
func TestOtherPortsAreTunnelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	w.serveAt("api.openai.com", 8443, echo)
	c := w.client(http1)
	sawOf(t, w.get(c, "https://api.openai.com/"))
	c.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool(w.theirs)
	c.Transport.(*http.Transport).CloseIdleConnections()
	s := sawOf(t, w.get(c, "https://api.openai.com:8443/", "Authorization: Bearer mine"))
	if s.Header.Get("Authorization") != "Bearer mine" {
		t.Errorf("the service saw %+v", s)
	}
}

// TestLocalServices: loopback goes through when no provider is for it, in plain
// text as well (a ws:// inside CONNECT).
func TestLocalServices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo)}
	go func() { _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close() }()
	c, br := w.connect(ln.Addr().String())
	s := sawOf(t, exchange(t, c, br, "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: mine\r\n\r\n"))
	if s.URI != "/mcp" || s.Header.Get("Authorization") != "mine" {
		t.Errorf("the service saw %+v", s)
	}
	// In absolute form, as clients without NO_PROXY send it.
	s = sawOf(t, w.get(w.client(http1), "http://"+ln.Addr().String()+"/mcp?a=b"))
	if s.URI != "/mcp?a=b" || s.Host != ln.Addr().String() || s.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the service saw %+v", s)
	}
}

func TestDenyModeRefusesUnknownHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("tunnel.example.com", echo)
	w.serve("api.openai.com", echo)
	w.broker.grants[token].Mode = authsome.ConnectedDeny
	c := w.dialProxy()
	br := bufio.NewReader(c)
	res := exchange(t, c, br, "CONNECT tunnel.example.com:443 HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
	problem(t, res, 403, "denied")
	// The connection stays good for what is allowed.
	if _, err := fmt.Fprintf(c, "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n%s\r\n", basic(token)); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect}); err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	problem(t, w.get(w.client(http1), "http://plain.example.com/"), 403, "denied")
	problem(t, w.get(w.client(http1), "https://paths.example.com/private"), 403, "denied")
	if n := w.net.dialled("tunnel.example.com:443") + w.net.dialled("plain.example.com"); n != 0 {
		t.Errorf("%d dials", n)
	}
	ends := w.broker.ends(2)
	if ends[0].res != nil || ends[0].req.Host != "tunnel.example.com" || ends[0].out.Status != 403 || ends[1].req.Host != "plain.example.com" {
		t.Errorf("audited as %+v", ends)
	}
}

func TestUnreachableHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.net.add("down.example.com:443", "127.0.0.1:1")
	for host, code := range map[string]string{"down.example.com:443": "upstream_timeout", "unknown.example.com:443": "upstream_unreachable"} {
		c := w.dialProxy()
		res := exchange(t, c, bufio.NewReader(c), "CONNECT "+host+" HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
		status := map[string]int{"upstream_timeout": 504, "upstream_unreachable": 502}[code]
		got := problem(t, res, status, code)
		if got["failed"] != "upstream proxy" || got["fix"] != "authsome doctor" || !strings.Contains(got["cause"].(string), w.net.ln.Addr().String()) {
			t.Errorf("%s: %v", host, got)
		}
	}
	d := newWorld(t, direct)
	c := d.dialProxy()
	res := exchange(t, c, bufio.NewReader(c), "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
	got := problem(t, res, 502, "upstream_unreachable")
	if got["failed"] != "network" || got["cause"] != "connection refused" || got["host"] != "127.0.0.1" {
		t.Errorf("%v", got)
	}
	c = d.dialProxy()
	res = exchange(t, c, bufio.NewReader(c), "CONNECT nowhere.invalid:443 HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
	if got := problem(t, res, 502, "upstream_unreachable"); !strings.Contains(got["cause"].(string), "name") {
		t.Errorf("%v", got)
	}
}

// TestPlaintextOnRoutedHost: only TLS is let into a tunnel to a host with a
// credential.
func TestPlaintextOnRoutedHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	c, br := w.connect("api.openai.com:443")
	_, _ = io.WriteString(c, "GET /v1 HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
	if _, err := br.ReadByte(); err == nil {
		t.Error("plain text was answered")
	}
	if n := w.net.dialled("api.openai.com:443"); n != 0 {
		t.Error("the host was dialled")
	}
}

// TestHalfAHello: a client that stops in the middle of its TLS hello, or that
// sends garbage, is dropped without harm to others.
func TestHalfAHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	for _, hello := range []string{"\x16\x03\x01\x02\x00\x01\x00", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 100), "\x16"} {
		c, br := w.connect("api.openai.com:443")
		_, _ = io.WriteString(c, hello)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, br)
	}
	sawOf(t, w.get(w.client(http1), "https://api.openai.com/"))
}

// TestManyHosts: each host that a child asks for costs a certificate, and none
// of them is kept for ever.
func TestManyHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes thousands of handshakes")
	}
	const hosts = 10_000
	w := newWorld(t, func(_ *world, c *proxyConfig) { c.Limits.RunHosts = 1 << 20 })
	w.broker.routes(route.Entry{Provider: "openai", Route: authsome.Route{Host: "*.many.example.com", Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})
	roots := pool(w.ours)
	var wrong atomic.Int64
	visit := func(from, to int) {
		var work sync.WaitGroup
		for worker := range 4 {
			work.Go(func() {
				for i := from + worker; i < to; i += 4 {
					host := fmt.Sprintf("h%d.many.example.com", i)
					c, err := net.Dial("tcp", w.addr)
					if err != nil {
						wrong.Add(1)
						continue
					}
					_, _ = fmt.Fprintf(c, "CONNECT %s:443 HTTP/1.1\r\n%s\r\n", host, basic(token))
					answer := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
					_, err = io.ReadFull(c, answer)
					if err == nil {
						err = tls.Client(c, &tls.Config{RootCAs: roots, ServerName: host}).Handshake()
					}
					if err != nil {
						wrong.Add(1)
					}
					_ = c.Close()
				}
			})
		}
		work.Wait()
	}
	visit(0, 3_000) // more than are kept
	before := heap()
	visit(3_000, hosts)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d KB with %d more hosts", grown>>10, hosts-3_000)
	}
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d hosts were not served", n)
	}
}

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools held comes free by the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestResumptionStaysWithTheHost: a session ticket of one host does not open a
// tunnel of another under the first one's name.
func TestResumptionStaysWithTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	w.serve("api.github.com", echo)
	cache := tls.NewLRUClientSessionCache(4)
	shake := func(target string) (*tls.Conn, error) {
		raw, _ := w.connect(target)
		c := tls.Client(raw, &tls.Config{RootCAs: pool(w.ours), ServerName: "api.openai.com", ClientSessionCache: cache})
		err := c.Handshake()
		return c, err
	}
	for i := range 2 {
		c, err := shake("api.openai.com:443")
		if err != nil {
			t.Fatal(err)
		}
		_ = text(t, exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"))
		if got := c.ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("handshake %d resumed: %v", i, got)
		}
	}
	if _, err := shake("api.github.com:443"); err == nil {
		t.Error("a tunnel to api.github.com was opened as api.openai.com")
	}
}

// TestClientsOfEveryAge: TLS 1.2, no ALPN, no SNI, names with underscores, IP
// literals.
func TestClientsOfEveryAge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("under_score.example.com", echo)
	for _, conf := range []*tls.Config{
		{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, ServerName: "under_score.example.com"},
		{ServerName: "under_score.example.com", NextProtos: []string{"http/1.1"}},
		{ServerName: "under_score.example.com", CurvePreferences: []tls.CurveID{tls.CurveP256}},
	} {
		conf.RootCAs = pool(w.ours)
		raw, _ := w.connect("under_score.example.com:443")
		c := tls.Client(raw, conf)
		s := sawOf(t, exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: under_score.example.com\r\n\r\n"))
		if s.Header.Get("Authorization") == "" {
			t.Error("no credential")
		}
	}
	raw, _ := w.connect("api.openai.com:443")
	old := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, ServerName: "api.openai.com", RootCAs: pool(w.ours)})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestIPLiterals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		w.broker.routes(append(bundled(), route.Entry{Provider: "openai", Route: authsome.Route{Host: host, Port: 8443, Inject: []authsome.Injection{
			{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
		}}})...)
		w.serveAt(host, 8443, echo)
		target := net.JoinHostPort(host, "8443")
		c, br := w.tunnel(target, host)
		s := sawOf(t, exchange(t, c, br, "GET / HTTP/1.1\r\nHost: "+target+"\r\n\r\n"))
		if s.Header.Get("Authorization") != "Bearer "+openaiKey || s.Host != target {
			t.Errorf("upstream saw %+v", s)
		}
	}
}

func TestSelfCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, proto := range []string{http1, http2} {
		res := w.get(w.client(proto), "https://"+authsome.SelfCheckHost+"/anything")
		if got := text(t, res); res.StatusCode != 200 || got != "{\"status\":\"ok\"}\n" {
			t.Errorf("%d %q", res.StatusCode, got)
		}
	}
	w.broker.grants[token].Mode = authsome.ConfiguredDeny
	res := w.get(w.client(http1), "http://"+authsome.SelfCheckHost+"/")
	if got := text(t, res); res.StatusCode != 200 || got != "{\"status\":\"ok\"}\n" {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	if asked, finished := w.broker.counts(); asked+finished != 0 || w.net.dialled(authsome.SelfCheckHost+":443") != 0 {
		t.Error("the self-check went further than the proxy")
	}
}
