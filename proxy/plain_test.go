package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// TestPlainHTTP: no credential, no placeholder, and otherwise unchanged.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo)}
	go func() { _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close() }()
	w.net.add("api.openai.com", ln.Addr().String())
	c := w.client(http1)
	s := sawOf(t, w.get(c, "http://api.openai.com/a/../b%2f?q=%20", "X-Mine: 1", "Connection: x-hop", "X-Hop: 1"))
	if s.Header.Get("Authorization") != "" || s.Header.Get("X-Mine") != "1" || s.Header.Get("X-Hop") != "" || s.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the service saw %+v", s)
	}
	if !strings.HasSuffix(s.URI, "/a/../b%2f?q=%20") {
		t.Errorf("the target was changed: %s", s.URI)
	}
	for _, h := range []string{"Authorization: Bearer " + authsome.Placeholder, "Cookie: a=" + authsome.Placeholder + ".work", "Authorization: Basic " + b64("x:"+authsome.Placeholder)} {
		problem(t, w.get(c, "http://api.openai.com/", h), 403, "placeholder_misplaced")
	}
	if ends := w.broker.ends(3); ends[2].res != nil || ends[2].req.Host != "api.openai.com" {
		t.Errorf("audited as %+v", ends[2])
	}
	raw := w.dialProxy()
	br := bufio.NewReader(raw)
	problem(t, exchange(t, raw, br, "GET /x HTTP/1.1\r\nHost: api.openai.com\r\n"+basic(token)+"\r\n"), 400, "bad_request")
	problem(t, exchange(t, raw, br, "GET ftp://api.openai.com/x HTTP/1.1\r\nHost: api.openai.com\r\n"+basic(token)+"\r\n"), 400, "bad_request")
	// A tunnel may follow on the same connection.
	if _, err := fmt.Fprintf(raw, "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n%s\r\n", basic(token)); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect}); err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	w.serve("api.openai.com", echo)
	inner := tls.Client(raw, &tls.Config{RootCAs: pool(w.ours), ServerName: "api.openai.com"})
	sawOf(t, exchange(t, inner, bufio.NewReader(inner), "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"))
}

func TestPlainHTTPWithoutUpstreamProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, direct)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo)}
	go func() { _ = srv.Serve(ln) }()
	defer func() { _ = srv.Close() }()
	s := sawOf(t, w.do(w.client(http1), http.MethodPost, "http://"+ln.Addr().String()+"/a/../b%2f", strings.NewReader("x")))
	if s.URI != "/a/../b%2f" || s.Method != http.MethodPost {
		t.Errorf("the service saw %+v", s)
	}
}

// TestWholeURLOfHTTPS: a client that leaves TLS to the proxy gets what it would
// have got in a tunnel: the same routes, the same refusals, and TLS to the
// service.
func TestWholeURLOfHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, host := range []string{"api.openai.com", "api.github.com", "open.example.com", "paths.example.com"} {
		w.serve(host, echo)
	}
	raw := w.dialProxy()
	br := bufio.NewReader(raw)
	send := func(line, host string, headers ...string) *http.Response {
		t.Helper()
		return exchange(t, raw, br, line+" HTTP/1.1\r\nHost: "+host+"\r\n"+basic(token)+strings.Join(headers, "")+"\r\n")
	}
	placeholder := "Authorization: Bearer " + authsome.Placeholder + "\r\n"
	for _, tt := range []struct{ line, wantHost, wantURI, auth string }{
		{"GET https://api.openai.com/v1/x?q=%20", "api.openai.com", "/v1/x?q=%20", "Bearer " + openaiKey},
		{"GET https://API.OpenAI.com.:443/v1/%41/../b", "api.openai.com", "/v1/b", "Bearer " + openaiKey},
		{"GET https://api.github.com", "api.github.com", "/", "Bearer " + githubToken},
		{"GET https://paths.example.com/public/a", "paths.example.com", "/public/a", "Bearer " + openaiKey},
	} {
		// Host is the URL's whatever the header says (RFC 9112, section 3.2.2).
		s := sawOf(t, send(tt.line, "other.example.com", placeholder))
		if s.Host != tt.wantHost || s.URI != tt.wantURI || s.Header.Get("Authorization") != tt.auth || s.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%s: the service saw %+v", tt.line, s)
		}
	}
	// No provider is for these: unchanged, and checked by us in the child's place.
	s := sawOf(t, send("GET https://open.example.com/a/../b%2f?q", "x", "Authorization: Bearer mine\r\n"))
	if s.Host != "open.example.com" || s.URI != "/a/../b%2f?q" || s.Header.Get("Authorization") != "Bearer mine" || s.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the service saw %+v", s)
	}
	problem(t, send("GET https://open.example.com/", "x", placeholder), 403, "placeholder_misplaced")
	problem(t, send("GET https://paths.example.com/private", "x", placeholder), 403, "placeholder_misplaced")
	problem(t, send("GET https://paths.example.com/public%2f..%2fprivate", "x"), 400, "bad_request")
	problem(t, send("TRACE https://api.openai.com/", "x"), 400, "bad_request")
	problem(t, send("GET https://user@api.openai.com/", "x"), 400, "bad_request")
	problem(t, send("GET https://api.openai.com:0/", "x"), 400, "bad_request")
	problem(t, send("GET https://gone.example.com/", "x"), 502, "upstream_unreachable")
	problem(t, send("GET https://api.nobody.example/", "x"), 401, "login_required")
	w.net.add("api.openai.com:8443", w.net.services["open.example.com:443"])
	// A certificate of another host.
	problem(t, send("GET https://api.openai.com:8443/", "x"), 502, "upstream_tls")
	if got := text(t, send("GET https://"+authsome.SelfCheckHost+"/", "x")); !strings.Contains(got, "ok") {
		t.Errorf("the check of itself: %s", got)
	}
	// Who shows no token keeps no connection.
	other := w.dialProxy()
	res := exchange(t, other, bufio.NewReader(other), "GET https://api.openai.com/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if problem(t, res, 407, "proxy_authentication_required"); !res.Close {
		t.Error("the connection goes on")
	}

	before := w.broker.ends(1)
	w.broker.mu.Lock()
	w.broker.grants[token].Mode = authsome.ConnectedDeny
	w.broker.mu.Unlock()
	problem(t, send("GET https://open.example.com/", "x"), 403, "denied")
	if ends := w.broker.ends(len(before) + 1); ends[len(before)].req.Host != "open.example.com" || ends[len(before)].out.Status != 403 {
		t.Errorf("audited as %+v", ends[len(before)])
	}
	w.broker.end(token)
	problem(t, send("GET https://api.openai.com/", "x"), 407, "proxy_authentication_required")
}

// TestWholeURLOfHTTPSFromElsewhere: nothing of https is taken in the clear from
// another machine, or from where that cannot be known.
func TestWholeURLOfHTTPSFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", echo)
	ln := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- w.proxy.Serve(t.Context(), ln) }()
	child, theirs := net.Pipe()
	ln.conns <- theirs
	br := bufio.NewReader(child)
	request := "GET https://api.openai.com/ HTTP/1.1\r\nHost: x\r\n" + basic(token) + "\r\n"
	problem(t, exchange(t, child, br, request), 400, "bad_request")
	if asked, _ := w.broker.counts(); asked != 0 {
		t.Error("it was resolved")
	}
	_ = child.Close()
	_ = ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
