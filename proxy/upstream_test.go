package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/ca"
	"github.com/authsome/authsome/route"
	"golang.org/x/net/dns/dnsmessage"
)

// TestUntrustedUpstream: no certificate but a good one gets a credential, and
// the answer says what is wrong with it.
func TestUntrustedUpstream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	with := func(c tls.Certificate) func(*httptest.Server) {
		return func(s *httptest.Server) { s.TLS.Certificates = []tls.Certificate{c} }
	}
	foreign, err := ca.NewIssuer(w.ours).Leaf("api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.upstream.Leaf("other.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for cause, change := range map[string]func(*httptest.Server){
		"unknown authority": with(*foreign),
		"valid for":         with(*other),
		"expired":           with(expired(t, w, "api.openai.com")),
	} {
		var reached atomic.Bool
		w.serve("api.openai.com", func(http.ResponseWriter, *http.Request) { reached.Store(true) }, change)
		got := problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_tls")
		if got["host"] != "api.openai.com" || !strings.Contains(got["cause"].(string), cause) || !strings.Contains(got["message"].(string), "api.openai.com") {
			t.Errorf("%s: %v", cause, got)
		}
		if roots := strings.Contains(got["fix"].(string), "SSL_CERT_FILE"); roots != (cause == "unknown authority") {
			t.Errorf("%s: fix %v", cause, got["fix"])
		}
		if reached.Load() {
			t.Errorf("%s: the request was sent", cause)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 this is a mail server\r\n")
			_ = c.Close()
		}
	}()
	w.net.add("api.openai.com:443", ln.Addr().String())
	got := problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_tls")
	if !strings.Contains(got["cause"].(string), "does not speak TLS") {
		t.Errorf("%v", got)
	}
	if ends := w.broker.ends(4); ends[0].out.Err == "" || ends[0].out.Status != 502 {
		t.Errorf("finished with %+v", ends[0].out)
	}
}

// expired is a certificate of the services' authority that was good last year.
func expired(t *testing.T, w *world, host string) tls.Certificate {
	t.Helper()
	certDER, keyDER, err := w.theirs.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(certDER)
	if err != nil {
		t.Fatal(err)
	}
	rootKey, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(-1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, &key.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// local routes a port of this machine, by address and by name.
func local(w *world, host string, port int) {
	w.broker.routes(append(bundled(), route.Entry{Provider: "openai", Route: authsome.Route{Host: host, Port: port, Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})...)
}

// TestPrivateAddresses: a credential goes to one only where a person approved
// it; the name is looked at after DNS.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct)
	var reached atomic.Int32
	for _, host := range []string{"127.0.0.1", "localhost"} {
		srv := w.serve(host, func(rw http.ResponseWriter, r *http.Request) {
			reached.Add(1)
			echo(rw, r)
		})
		_, digits, _ := net.SplitHostPort(srv.Listener.Addr().String())
		port, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		local(w, host, port)
		url := "https://" + net.JoinHostPort(host, digits) + "/"
		w.broker.set("openai", &account{secret: openaiKey})
		c := w.client(http1)
		if got := problem(t, w.get(c, url), 403, "private_address"); got["host"] != host || got["provider"] != "openai" ||
			got["fix"] != "authsome login openai --connection default --force --allow-private" {
			t.Errorf("%v", got)
		}
		if reached.Load() != 0 {
			t.Fatalf("%s: a credential was sent to a private address", host)
		}
		w.broker.set("openai", &account{secret: openaiKey, private: true})
		if s := sawOf(t, w.get(c, url)); s.Header.Get("Authorization") != "Bearer "+openaiKey {
			t.Errorf("the service saw %v", s.Header)
		}
		// The connection that was made with approval does not serve a request
		// without.
		w.broker.mu.Lock()
		w.broker.accounts["openai"].private = false
		w.broker.mu.Unlock()
		problem(t, w.get(c, url), 403, "private_address")
		reached.Store(0)
	}
	// Behind an upstream proxy, which resolves the names, addresses are still
	// looked at.
	v := newWorld(t)
	local(v, "10.0.0.1", 443)
	v.serve("10.0.0.1", echo)
	v.broker.set("openai", &account{secret: openaiKey})
	problem(t, v.get(v.client(http1), "https://10.0.0.1/"), 403, "private_address")
	if v.net.dialled("10.0.0.1:443") != 0 {
		t.Error("the proxy was asked for a private address")
	}
}

// TestUpstreamThatInsistsOnHTTP2 by refusing http/1.1 in the handshake: tried
// once, remembered, and a body is not lost.
func TestUpstreamThatInsistsOnHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var hellos atomic.Int32
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(rw, r.Proto+" "+string(body))
	}, only(http2), func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			hellos.Add(1)
			if len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == http1 {
				// crypto/tls lets http/1.1 through to an h2 server; with another
				// protocol to offer it sends the alert of RFC 7301.
				c := s.TLS.Clone()
				c.GetConfigForClient = nil
				c.NextProtos = []string{"x-other"}
				return c, nil
			}
			return nil, nil
		}
	})
	c := w.client(http1)
	for range 3 {
		if got := text(t, w.do(c, http.MethodPost, "https://api.openai.com/", strings.NewReader("body"))); got != "HTTP/2.0 body" {
			t.Errorf("got %q", got)
		}
	}
	if n := hellos.Load(); n != 2 {
		t.Errorf("%d handshakes, want one that failed and one that is used", n)
	}
}

// TestUpstreamThatHangsUpOnHTTP1: it chooses no protocol, and closes when it sees
// an HTTP/1.1 request; a server that merely knows no ALPN gets HTTP/1.1.
func TestUpstreamThatHangsUpOnHTTP1(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.Proto) }, only(http2))
	if got := text(t, w.get(w.client(http1), "https://api.openai.com/")); got != "HTTP/2.0" {
		t.Errorf("got %q", got)
	}
	w.serve("api.github.com", func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.Proto) }, only(http1),
		func(s *httptest.Server) { s.TLS.NextProtos = nil; s.TLS.GetConfigForClient = noALPN(s) })
	for range 2 {
		if got := text(t, w.get(w.client(http2), "https://api.github.com/")); got != "HTTP/1.1" {
			t.Errorf("got %q", got)
		}
	}
	got := problem(t, w.do(w.client(http2), http.MethodPost, "https://api.github.com/", strings.NewReader("x"), "Content-Type: application/grpc"), 502, "upstream_tls")
	if !strings.Contains(got["cause"].(string), "HTTP/2") {
		t.Errorf("%v", got)
	}
}

// noALPN makes a server that has never heard of ALPN.
func noALPN(s *httptest.Server) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := s.TLS.Clone()
		c.GetConfigForClient, c.NextProtos = nil, nil
		return c, nil
	}
}

// TestStaleUpstreamConnections: one that the service has closed meanwhile costs
// the child nothing, for requests that may be repeated.
func TestStaleUpstreamConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			// Keep-alive by its own account, and closed all the same.
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	c := w.client(http1)
	for range 20 {
		if res := w.get(c, "https://api.openai.com/"); res.StatusCode != 200 || text(t, res) != "ok" {
			t.Errorf("%s", res.Status)
		}
	}
}

// TestNonRepeatableRequestIsSentOnce: a POST whose connection breaks after the
// body has left is reported, not repeated.
func TestNonRepeatableRequestIsSentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var posts atomic.Int32
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if req.Method == http.MethodPost {
				posts.Add(1)
				_, _ = io.Copy(io.Discard, req.Body)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	c := w.client(http1)
	text(t, w.get(c, "https://api.openai.com/")) // so that the POST meets a used connection
	problem(t, w.do(c, http.MethodPost, "https://api.openai.com/", strings.NewReader("charge me once")), 502, "upstream_unreachable")
	if n := posts.Load(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// TestResumesSessionsWithServices: the second connection to a service saves the
// handshake's signatures, and no session goes from one account to the next.
func TestResumesSessionsWithServices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(rw, r.TLS.DidResume)
	}, only(http1), func(s *httptest.Server) { s.TLS.GetConfigForClient = nil }) // which would make new ticket keys each time
	srv.Config.SetKeepAlivesEnabled(false)
	c := w.client(http1)
	for i, want := range []string{"false", "true", "true", "false", "true"} {
		if i == 3 {
			w.broker.set("openai", &account{secret: "sk-another", private: true})
		}
		if got := text(t, w.get(c, "https://api.openai.com/")); got != want {
			t.Errorf("connection %d: resumed is %s", i, got)
		}
	}
}

// TestDeadAddress: a service with several addresses is reached while one of
// them answers (RFC 8305).
func TestDeadAddress(t *testing.T) { // not parallel: the resolver is the process's
	old := net.DefaultResolver
	defer func() { net.DefaultResolver = old }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerDNS(there, func(_ string, kind dnsmessage.Type) []dnsmessage.ResourceBody {
			return map[dnsmessage.Type][]dnsmessage.ResourceBody{
				dnsmessage.TypeA:    {&dnsmessage.AResource{A: [4]byte{127, 0, 0, 2}}, &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}},
				dnsmessage.TypeAAAA: {&dnsmessage.AAAAResource{AAAA: [16]byte{15: 1}}},
			}[kind]
		})
		return here, nil
	}}
	w := newWorld(t, direct)
	srv := w.serve("two.example.com", echo) // on 127.0.0.1 alone
	_, digits, _ := net.SplitHostPort(srv.Listener.Addr().String())
	port, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	local(w, "two.example.com", port)
	if s := sawOf(t, w.get(w.client(http1), "https://two.example.com:"+digits+"/")); s.Header.Get("Authorization") != "Bearer "+openaiKey {
		t.Errorf("the service saw %+v", s)
	}
}

// answerDNS answers queries of DNS over a stream (RFC 1035, section 4.2.2).
func answerDNS(c net.Conn, records func(name string, kind dnsmessage.Type) []dnsmessage.ResourceBody) {
	defer func() { _ = c.Close() }()
	for {
		var length uint16
		if binary.Read(c, binary.BigEndian, &length) != nil {
			return
		}
		raw := make([]byte, length)
		if _, err := io.ReadFull(c, raw); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(raw) != nil || len(m.Questions) != 1 {
			return
		}
		q := m.Questions[0]
		m.Header.Response, m.Additionals = true, nil
		for _, body := range records(q.Name.String(), q.Type) {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: body})
		}
		out, err := m.Pack()
		if err != nil {
			return
		}
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
	}
}

// TestUpstreamProxy: with a user name and a password, for tunnels and for
// requests; a wrong password is named, without the password.
func TestUpstreamProxy(t *testing.T) {
	t.Parallel()
	const password = "corporate-secret"
	w := newWorld(t, func(w *world, _ *proxyConfig) { w.net.auth = "me:" + password }, withProxyUser("me", password))
	w.serve("api.openai.com", echo)
	w.serve("tunnel.example.com", echo)
	sawOf(t, w.get(w.client(http1), "https://api.openai.com/"))
	c := w.client(http1)
	c.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool(w.theirs)
	sawOf(t, w.get(c, "https://tunnel.example.com/"))

	w = newWorld(t, func(w *world, _ *proxyConfig) { w.net.auth = "me:other" }, withProxyUser("me", password))
	got := problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_unreachable")
	if got["failed"] != "upstream proxy" || !strings.Contains(got["fix"].(string), "HTTPS_PROXY") || !strings.Contains(got["cause"].(string), "407") || strings.Contains(fmt.Sprint(got)+w.log.String(), password) {
		t.Errorf("%v", got)
	}
	w = newWorld(t, func(_ *world, c *proxyConfig) {
		c.Upstream.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse("ftp://127.0.0.1:1") }
	})
	got = problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_unreachable")
	if !strings.Contains(got["cause"].(string), "none of http, https, socks5 and socks5h") {
		t.Errorf("%v", got)
	}
}

// TestUpstreamProxyOverTLS: an https:// proxy, and a service that has spoken
// before the tunnel is even announced.
func TestUpstreamProxyOverTLS(t *testing.T) {
	t.Parallel()
	var at string
	w := newWorld(t, func(_ *world, c *proxyConfig) {
		c.Upstream.Proxy = func(*url.URL) (*url.URL, error) { return &url.URL{Scheme: "https", Host: at}, nil }
	})
	leaf, err := w.upstream.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*leaf}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	at = ln.Addr().String()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nSSH-2.0-early ")
				_, _ = io.Copy(c, br)
			}()
		}
	}()
	c, br := w.connect("ssh.example.com:22")
	_, _ = io.WriteString(c, "echo")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(br); err != nil || string(got) != "SSH-2.0-early echo" {
		t.Errorf("%q, %v", got, err)
	}
}
