package proxy_test

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
)

// internet is a CONNECT proxy in front of the tests' services: it stands where
// DNS and the network would be.
type internet struct {
	ln net.Listener

	mu       sync.Mutex
	services map[string]string // host:port → address
	dials    map[string]int
	auth     string // required user:password, or ""
	open     map[net.Conn]struct{}
}

func newInternet(t testing.TB) *internet {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &internet{ln: ln, services: map[string]string{}, dials: map[string]int{}, open: map[net.Conn]struct{}{}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go n.serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		for c := range n.open {
			_ = c.Close()
		}
		n.open = nil
	})
	return n
}

// track has a connection closed at the end of the test; false when that is now.
func (n *internet) track(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == nil {
		return false
	}
	n.open[c] = struct{}{}
	return true
}

func (n *internet) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	if !n.track(c) {
		return
	}
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	n.mu.Lock()
	addr, known := n.services[req.Host]
	n.dials[req.Host]++
	want := n.auth
	n.mu.Unlock()
	if want != "" && req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(want)) {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if req.Method != http.MethodConnect {
		req.RequestURI = ""
		req.URL.Host = addr
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		res.Close = true
		_ = res.Write(c)
		return
	}
	if !known {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	up, err := net.Dial("tcp", addr)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer func() { _ = up.Close() }()
	if !n.track(up) {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, br)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, up)
	_ = c.(*net.TCPConn).CloseWrite()
	<-done
}

func (n *internet) add(host, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.services[host] = addr
}

func (n *internet) dialled(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[host]
}

func (n *internet) proxy(*url.URL) (*url.URL, error) {
	return &url.URL{Scheme: "http", Host: n.ln.Addr().String()}, nil
}
