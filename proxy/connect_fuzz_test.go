package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
)

// FuzzConnect asks for a CONNECT to any text: what is asked of the routes, what the
// certificate is for, what the request in the tunnel is resolved as, and what is
// dialled, is one host and one port, and the one that net/url reads. In a tunnel,
// another Host is refused.
func FuzzConnect(f *testing.F) {
	for _, s := range []string{
		"api.openai.com:443", "API.OpenAI.com.:443", "[::1]:1", "a", "[::ffff:1.2.3.4]:80", "A.b.:65535", "münchen.example:443", "xn--mnchen-3ya.example:443", "a:b:c",
		"[x]:1", "1.2.3.4:0", "127.1:443", "0x7f.1:443", "a@b:443", "a:443 b:443", "a:443\tHTTP/1.1", "[::1%25lo]:443", "a%2eb:443", "ａ.example:0443", "a:443/x", "http://a:443", "/a:443",
	} {
		f.Add(s, s, true)
		f.Add(s, "other.example:443", false)
	}
	f.Add("api.openai.com:443", "api.openai.com:444", true)
	f.Add("api.openai.com:8443", "api.openai.com", true)
	f.Add("api.openai.com:443", "API.openai.com.", true)
	f.Add("api.openai.com:443", "api.openai.com.evil.example", true)
	seen := &sightings{}
	w := newWorld(f, func(w *world, c *proxy.Config) {
		c.Resolver, c.Issuer, c.Upstream.Proxy = &onlooker{w.broker, seen}, watched{c.Issuer, seen}, seen.listen(f)
		c.Limits.RunHosts = 1 << 30
	})
	f.Fuzz(func(t *testing.T, target, host string, intercept bool) {
		if strings.ContainsAny(target+host, "\r\n") || len(target)+len(host) > 2000 {
			return // would be other lines of the request
		}
		seen.reset(intercept)
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, host, basic(token)); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(conn)
		res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
		if err != nil {
			t.Fatalf("CONNECT %q: %v", target, err)
		}
		routed := seen.of("routed")
		if len(routed) == 0 {
			if res.StatusCode == http.StatusOK || len(seen.of("dialled"))+len(seen.of("issued")) > 0 {
				t.Fatalf("CONNECT %q was not routed, and is answered with %d; %v", target, res.StatusCode, seen.all)
			}
			return
		}
		name, port := splitName(t, routed[0])
		if normal, err := route.Host(name); len(routed) != 1 || err != nil || normal != name || port < 1 || port > 65535 {
			t.Fatalf("CONNECT %q is routed as %v (%v)", target, routed, err)
		}
		// net/url and IDNA are the second opinion on what the text means.
		u, err := url.Parse("https://" + target)
		if err != nil || u.User != nil || u.Path != "" {
			t.Fatalf("CONNECT %q is routed as %v, and is no authority to net/url: %v", target, routed, err)
		}
		if theirs, err := route.Host(u.Hostname()); err != nil || theirs != name || u.Port() == "" || strings.TrimLeft(u.Port(), "0") != strconv.Itoa(port) {
			t.Fatalf("CONNECT %q is routed as %v, and to net/url is %q, %q (%v)", target, routed, u.Hostname(), u.Port(), err)
		}
		if !intercept {
			// The internet of this test connects nobody.
			if dialled := seen.of("dialled"); res.StatusCode != http.StatusBadGateway || !slices.Equal(dialled, routed) {
				t.Fatalf("CONNECT %q is routed as %v, and dialled as %v (%d)", target, routed, dialled, res.StatusCode)
			}
			return
		}
		inside := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"http/1.1"}})
		if err := inside.Handshake(); err != nil {
			t.Fatalf("CONNECT %q: %v", target, err)
		}
		leaf := inside.ConnectionState().PeerCertificates[0]
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		if !slices.Equal(names, []string{name}) || !slices.Equal(seen.of("issued"), names) || leaf.VerifyHostname(bracketed(name)) != nil {
			t.Fatalf("CONNECT %q is routed as %v, and the certificate is for %q", target, routed, names)
		}
		if _, err := fmt.Fprintf(inside, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
			t.Fatal(err)
		}
		if res, err = http.ReadResponse(bufio.NewReader(inside), nil); err != nil {
			t.Fatalf("CONNECT %q, Host %q: %v", target, host, err)
		}
		resolved, dialled := seen.of("resolved"), seen.of("dialled")
		if len(resolved) > 0 && (!slices.Equal(resolved, routed) || !slices.Equal(dialled, routed) || !sameAuthority(host, name, port)) {
			t.Fatalf("CONNECT %q, Host %q: routed as %v, resolved as %v, dialled as %v", target, host, routed, resolved, dialled)
		}
		if len(resolved) == 0 && (len(dialled) > 0 || res.StatusCode != http.StatusMisdirectedRequest && res.StatusCode != http.StatusBadRequest) {
			t.Fatalf("CONNECT %q, Host %q: nothing was resolved, %v dialled, and the answer is %d", target, host, dialled, res.StatusCode)
		}
		if len(resolved) == 0 && host == target {
			t.Fatalf("CONNECT %q: the same Host is refused with %d", target, res.StatusCode)
		}
	})
}

// sameAuthority reports whether a Host header is that of a tunnel, by net/url.
func sameAuthority(host, name string, port int) bool {
	u, err := url.Parse("https://" + strings.Trim(host, " \t"))
	if err != nil {
		return false
	}
	theirs, err := route.Host(u.Hostname())
	return err == nil && theirs == name && (u.Port() == "" || strings.TrimLeft(u.Port(), "0") == strconv.Itoa(port))
}

func splitName(t *testing.T, s string) (string, int) {
	t.Helper()
	name, digits, err := net.SplitHostPort(s)
	port, err2 := strconv.Atoi(digits)
	if err != nil || err2 != nil {
		t.Fatalf("%q: %v, %v", s, err, err2)
	}
	return name, port
}

func bracketed(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return "[" + name + "]"
	}
	return name
}

// sightings are the names that a request showed itself under.
type sightings struct {
	mu        sync.Mutex
	all       map[string][]string
	intercept bool
}

func (s *sightings) reset(intercept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.intercept = map[string][]string{}, intercept
}

func (s *sightings) saw(where, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[where] = append(s.all[where], what)
}

func (s *sightings) of(where string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Compact(slices.Clone(s.all[where])) // a dial may be tried again
}

// listen is an upstream proxy that writes down where to, and connects nobody.
func (s *sightings) listen(f *testing.F) func(*url.URL) (*url.URL, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				line, _ := bufio.NewReader(c).ReadString('\n')
				target, _, _ := strings.Cut(strings.TrimPrefix(line, "CONNECT "), " ")
				s.saw("dialled", target)
				_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			}()
		}
	}()
	return func(*url.URL) (*url.URL, error) {
		return &url.URL{Scheme: "http", Host: ln.Addr().String()}, nil
	}
}

// onlooker has a route for every host, or for none.
type onlooker struct {
	*broker
	seen *sightings
}

func (w *onlooker) Host(_ *authsome.Grant, host string, port int) authsome.HostVerdict {
	w.seen.saw("routed", net.JoinHostPort(host, strconv.Itoa(port)))
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	if w.seen.intercept {
		return authsome.Intercept
	}
	return authsome.Tunnel
}

func (w *onlooker) Resolve(_ context.Context, _ *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	w.seen.saw("resolved", net.JoinHostPort(req.Host, strconv.Itoa(req.Port)))
	return &authsome.Resolution{Verdict: authsome.Forward}, nil
}

func (w *onlooker) Finish(*authsome.Grant, *authsome.Request, *authsome.Resolution, authsome.Outcome) {
}

// watched is an issuer.
type watched struct {
	proxy.Issuer
	seen *sightings
}

func (w watched) Leaf(g *authsome.Grant, host string) (*tls.Certificate, error) {
	w.seen.saw("issued", host)
	return w.Issuer.Leaf(g, host)
}
