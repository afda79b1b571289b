package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// TestSmuggledConnect: the target of CONNECT is read once, and all else that names a
// host in it says nothing (RFC 9110, section 9.3.6). What is equal gets the credential,
// however it is spelt; what is no host and port is refused.
func TestSmuggledConnect(t *testing.T) {
	t.Parallel()
	connect := func(target, rest string) string {
		return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n" + basic(token) + rest + "\r\n"
	}
	for _, tt := range []struct {
		name, send string
		status     int // 200: intercepted; 201: another host, a blind tunnel
	}{
		{"as it is", connect("paths.example.com:443", ""), 200},
		{"mixed case", connect("PATHS.Example.COM:443", ""), 200},
		{"trailing dot", connect("paths.example.com.:443", ""), 200},
		{"leading zeros in the port", connect("paths.example.com:00443", ""), 200},
		{"full-width letters", connect("\xef\xbd\x90aths.example.com:443", ""), 200},
		{"ideographic full stop", connect("paths.example\xe3\x80\x82com:443", ""), 200},
		{"another Host", "CONNECT paths.example.com:443 HTTP/1.1\r\nHost: evil.example:443\r\n" + basic(token) + "\r\n", 200},
		{"no Host", "CONNECT paths.example.com:443 HTTP/1.1\r\n" + basic(token) + "\r\n", 200},
		{"HTTP/1.0", "CONNECT paths.example.com:443 HTTP/1.0\r\n" + basic(token) + "\r\n", 200},
		{"a folded line", connect("paths.example.com:443", "X: a\r\n Host: evil.example\r\n"), 200},
		{"bare LF", strings.ReplaceAll(connect("paths.example.com:443", ""), "\r\n", "\n"), 200},
		{"length 0", connect("paths.example.com:443", "Content-Length: 0\r\n"), 200},
		{"another host, in Cyrillic", connect("p\xd0\xb0ths.example.com:443", ""), 201},
		{"another port", connect("paths.example.com:444", ""), 201},
		{"a longer host", connect("paths.example.com.evil.example:443", ""), 201},

		{"no port", connect("paths.example.com", ""), 400},
		{"an empty port", connect("paths.example.com:", ""), 400},
		{"port 0", connect("paths.example.com:0", ""), 400},
		{"port 65536", connect("paths.example.com:65536", ""), 400},
		{"port +443", connect("paths.example.com:+443", ""), 400},
		{"port 0x1bb", connect("paths.example.com:0x1bb", ""), 400},
		{"port in full-width digits", connect("paths.example.com:\xef\xbc\x94\xef\xbc\x94\xef\xbc\x93", ""), 400},
		{"two ports", connect("paths.example.com:443:443", ""), 400},
		{"a service's name for a port", connect("paths.example.com:https", ""), 400},
		{"no host", connect(":443", ""), 400},
		{"two trailing dots", connect("paths.example.com..:443", ""), 400},
		{"a leading dot", connect(".paths.example.com:443", ""), 400},
		{"an empty label", connect("paths..example.com:443", ""), 400},
		{"a wildcard", connect("*.example.com:443", ""), 400},
		{"user", connect("user@paths.example.com:443", ""), 400},
		{"host behind a user", connect("paths.example.com:443@evil.example:443", ""), 400},
		{"a path", connect("paths.example.com/x:443", ""), 400},
		{"a path behind the port", connect("paths.example.com:443/", ""), 400},
		{"a URL", connect("https://paths.example.com:443", ""), 400},
		{"an escape", connect("paths%2eexample.com:443", ""), 400},
		{"NUL", connect("paths.example.com\x00.evil.example:443", ""), 400},
		{"a zero-width joiner", connect("paths\xe2\x80\x8d.example.com:443", ""), 400},
		{"an open bracket", connect("[::1:443", ""), 400},
		{"a name in brackets", connect("[paths.example.com]:443", ""), 400},
		{"IPv4 in brackets", connect("[127.0.0.1]:443", ""), 400},
		{"a zone", connect("[fe80::1%25eth0]:443", ""), 400},
		{"IPv6 without brackets", connect("::1:443", ""), 400},
		{"short IPv4", connect("127.1:443", ""), 400},
		{"octal IPv4", connect("0177.0.0.1:443", ""), 400},
		{"hexadecimal IPv4", connect("0x7f.0.0.1:443", ""), 400},
		{"IPv4 as a number", connect("2130706433:443", ""), 400},
		{"IPv4 in full-width digits", connect("\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1:443", ""), 400},
		{"space in the target", connect("paths.example.com:443 x", ""), 400},
		{"asterisk", connect("*", ""), 400},
		{"an empty target", "CONNECT  HTTP/1.1\r\nHost: x\r\n" + basic(token) + "\r\n", 400},
		{"a body", connect("paths.example.com:443", "Content-Length: 3\r\n") + "abc", 400},
		{"chunks", connect("paths.example.com:443", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
		{"length and chunks", connect("paths.example.com:443", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
		{"two lengths", connect("paths.example.com:443", "Content-Length: 0\r\nContent-Length: 1\r\n") + "a", 400},
		{"a header without a colon", connect("paths.example.com:443", "Host x\r\n"), 400},
		{"NUL in a header", connect("paths.example.com:443", "X: a\x00b\r\n"), 400},
		{"CR in a header", connect("paths.example.com:443", "X: a\rb\r\n"), 400},
		{"space before a colon", connect("paths.example.com:443", "X : a\r\n"), 400},
		{"another version", "CONNECT paths.example.com:443 HTTP/x\r\nHost: x\r\n" + basic(token) + "\r\n", 400},
		{"HTTP/2.0", "CONNECT paths.example.com:443 HTTP/2.0\r\nHost: x\r\n" + basic(token) + "\r\n", 400},

		{"two tokens", connect("paths.example.com:443", basic(token)), 407},
		{"a folded token", "CONNECT paths.example.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization:\r\n " + strings.TrimPrefix(basic(token), "Proxy-Authorization: ") + "\r\n", 200},
		{"the token in another header", "CONNECT paths.example.com:443 HTTP/1.1\r\nHost: x\r\nProxy_Authorization: " + strings.TrimPrefix(basic(token), "Proxy-Authorization: ") + "\r\n", 407},
	} {
		t.Run(tt.name, func(t *testing.T) { holdConnect(t, tt.send, tt.status) })
	}
	t.Run("small letters are another method", func(t *testing.T) {
		c := newWorld(t).dialProxy()
		problem(t, exchange(t, c, bufio.NewReader(c), strings.Replace(connect("paths.example.com:443", ""), "CONNECT", "connect", 1)), 400, "bad_request")
	})
}

// holdConnect sends a CONNECT, and the innocent requests behind it.
func holdConnect(t *testing.T, send string, status int) {
	w := newWorld(t)
	s := w.record(scoped)
	other := w.serve("xn--pths-53d.example.com", echo)
	for _, at := range []string{"xn--pths-53d.example.com:443", scoped + ":444", scoped + ".evil.example:443"} {
		w.net.add(at, other.Listener.Addr().String())
	}
	c := w.dialProxy()
	br := bufio.NewReader(c)
	go func() { _, _ = io.WriteString(c, send) }()
	res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	behind := ""
	switch status {
	case 200, 201:
		if res.StatusCode != 200 {
			t.Fatalf("the answer is %s", res.Status)
		}
		inner := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: scoped, NextProtos: []string{http1}})
		if err := inner.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, foreign := inner.ConnectionState().PeerCertificates[0].Verify(verifyWith(w, status == 200))
		if foreign != nil {
			t.Errorf("the certificate: %v", foreign)
		}
		if status == 200 {
			if !innocent(t, inner, bufio.NewReader(inner), "/public/inside") {
				t.Error("the tunnel is closed")
			}
			behind += innocentX("/public/inside")
		}
	case 407:
		problem(t, res, 407, "proxy_authentication_required")
	default:
		problem(t, res, 400, "bad_request")
		// Nothing of what was sent behind it is a request.
		if _, err := br.ReadByte(); err == nil {
			t.Error("the connection goes on")
		}
	}
	smuggled{}.check(t, w, s, behind)
}

// verifyWith are the roots of this proxy, or of the services.
func verifyWith(w *world, ours bool) x509.VerifyOptions {
	if ours {
		return x509.VerifyOptions{Roots: pool(w.ours), DNSName: scoped}
	}
	return x509.VerifyOptions{Roots: pool(w.theirs)}
}

// bearerAt is a route with a bearer token.
func bearerAt(host string) authsome.Route {
	return authsome.Route{Host: host, Inject: []authsome.Injection{{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"}}}
}

// TestSmuggledServerNames: of the names in CONNECT, in TLS and in the request, that of
// CONNECT counts; the others are it, or are refused.
func TestSmuggledServerNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sni, host string
		shaken    bool
		code      string
	}{
		{scoped, scoped, true, ""},
		{"", scoped, true, ""},
		{"PATHS.Example.COM", scoped, true, ""},
		{scoped, "PATHS.Example.COM.:443", true, ""},
		{"", "api.openai.com", true, "misdirected"},
		{scoped, "api.openai.com", true, "misdirected"},
		{"api.openai.com", "", false, ""},
		{"evil.example", "", false, ""},
		{"paths.example.com.evil.example", "", false, ""},
		{"example.com", "", false, ""},
		{"xn--pths-53d.example.com", "", false, ""},
		{"paths.example.com\x00.evil.example", "", false, ""},
		{"p*ths.example.com", "", false, ""},
	} {
		for _, proto := range []string{http1, http2} {
			t.Run(strings.ToValidUTF8(tt.sni+" "+tt.host+" "+proto, "?"), func(t *testing.T) {
				w := newWorld(t)
				s := w.record(scoped)
				raw, _ := w.connect(scoped + ":443")
				c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: tt.sni, NextProtos: []string{proto}})
				err := c.Handshake()
				if (err == nil) != tt.shaken {
					t.Fatalf("the handshake: %v", err)
				}
				behind := ""
				switch {
				case !tt.shaken || proto == http2: // of hosts over HTTP/2: TestSmuggledHTTP2
				case tt.code == "":
					if got := text(t, exchange(t, c, bufio.NewReader(c), "GET /public/inside HTTP/1.1\r\nHost: "+tt.host+"\r\n\r\n")); got != "GET /public/inside" {
						t.Errorf("the answer is %q", got)
					}
					behind = innocentX("/public/inside")
				default:
					problem(t, exchange(t, c, bufio.NewReader(c), "GET /public/inside HTTP/1.1\r\nHost: "+tt.host+"\r\n\r\n"), statusOf[tt.code], tt.code)
				}
				smuggled{}.check(t, w, s, behind)
			})
		}
	}
}

// TestSmuggledNamesOfOtherScripts: a host that people write in their own script is one in
// CONNECT, TLS and the request, whichever form each of them has.
func TestSmuggledNamesOfOtherScripts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const ascii, own = "xn--mnchen-3ya.example", "m\xc3\xbcnchen.example"
	w.serve(ascii, echo)
	w.broker.routes(append(bundled(), route.Entry{Provider: "openai", Route: bearerAt("M\xc3\x9cNCHEN.example")})...)
	for _, target := range []string{ascii, own, "M\xc3\x9cNCHEN.example", "XN--MNCHEN-3YA.example", "mu\xcc\x88nchen.example"} {
		for _, host := range []string{ascii, own, "M\xc3\x9cNCHEN.EXAMPLE:443"} {
			c, br := w.tunnel(target+":443", ascii)
			if s := sawOf(t, exchange(t, c, br, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")); s.Host != ascii || s.Header.Get("Authorization") != "Bearer "+openaiKey {
				t.Errorf("%s, %s: the service saw %+v", target, host, s)
			}
		}
	}
	c, br := w.tunnel(own+":443", ascii)
	problem(t, exchange(t, c, br, "GET / HTTP/1.1\r\nHost: munchen.example\r\n\r\n"), 421, "misdirected")
}
