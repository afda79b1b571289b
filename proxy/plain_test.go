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
	problem(t, exchange(t, raw, br, "GET https://api.openai.com/x HTTP/1.1\r\nHost: api.openai.com\r\n"+basic(token)+"\r\n"), 400, "bad_request")
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
