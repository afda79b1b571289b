//go:build unix

package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/ca"
)

// internet is a CONNECT proxy behind which every host is one TLS server, with
// certificates of a root that only SSL_CERT_FILE names.
type internet struct {
	proxy string // its address
	roots string // file
	mu    sync.Mutex
	asked []string // "CONNECT host:port", "GET host/path authorization"
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	root, err := ca.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer := ca.NewIssuer(root)
	n := &internet{roots: filepath.Join(t.TempDir(), "roots.pem")}
	if err := os.WriteFile(n.roots, root.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.proxy = ln.Addr().String()
	serverTLS := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return issuer.Leaf(h.ServerName) }}
	var work sync.WaitGroup
	var conns sync.Map
	work.Add(1)
	go func() {
		defer work.Done()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Store(conn, nil)
			work.Add(1)
			go func() {
				defer work.Done()
				defer conn.Close()
				n.serve(conn, serverTLS)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		conns.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		work.Wait()
	})
	return n
}

func (n *internet) serve(conn net.Conn, cfg *tls.Config) {
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	n.note("CONNECT " + req.Host)
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	tc := tls.Server(conn, cfg)
	for tr := bufio.NewReader(tc); ; {
		req, err := http.ReadRequest(tr)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		n.note(req.Method + " " + req.Host + req.URL.Path + " " + req.Header.Get("Authorization"))
		_, _ = io.WriteString(tc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
	}
}

func (n *internet) note(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, s)
}

// A daemon that a person starts goes out by HTTPS_PROXY and trusts
// SSL_CERT_FILE; the child's placeholder leaves as the key; the log tells of
// it, and tells nothing of the key.
func TestRequestOfARun(t *testing.T) {
	n := newInternet(t)
	home, port := newHome(t)
	cmd := program(t, "serve", "v1", fmt.Sprint(port))
	cmd.Env = append(os.Environ(), "AUTHSOME_HOME="+home, "HTTPS_PROXY=http://"+n.proxy, "SSL_CERT_FILE="+n.roots, "SSL_CERT_DIR=/nowhere", "NO_PROXY=", "no_proxy=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	c := &api.Client{Home: home, Wait: 10 * time.Second}
	defer c.Close()
	login(t, c, "openai", "", openaiKey)
	start, err := c.Events(ctx, api.EventsQuery{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g, info, err := c.OpenGrant(ctx, ln, api.GrantRequest{Program: "child"})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(info.CA))
	child := &http.Client{Transport: &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: ln.Addr().String(), User: url.UserPassword("x", info.Token)}),
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequest(http.MethodGet, "https://api.openai.com/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+info.Placeholders["OPENAI_API_KEY"])
	resp, err := child.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	n.mu.Lock()
	var connects, requests []string
	for _, a := range n.asked {
		if strings.HasPrefix(a, "CONNECT ") {
			connects = append(connects, a)
		} else {
			requests = append(requests, a)
		}
	}
	n.mu.Unlock()
	if c := slices.Compact(connects); resp.StatusCode != 200 || len(c) != 1 || c[0] != "CONNECT api.openai.com:443" ||
		len(requests) != 1 || requests[0] != "GET api.openai.com/v1/models Bearer "+openaiKey {
		t.Errorf("HTTP %d; the internet was asked %q, %q", resp.StatusCode, connects, requests)
	}
	// The event goes by the spool and comes to who follows the log.
	injected := false
	for after, end := start.Next, time.Now().Add(10*time.Second); !injected && time.Now().Before(end); {
		page, err := c.Events(ctx, api.EventsQuery{After: after, Wait: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range page.Entries {
			injected = injected || ev.Type == authsome.EventInjected && ev.Host == "api.openai.com" && ev.Run == info.ID
		}
		after = page.Next
	}
	if !injected {
		t.Error("the log does not tell of the request")
	}
	searchFiles(t, home, []string{"canary", info.Token})
}

// What was recorded just before a crash is in the log after the next start,
// once.
func TestSpoolOfADeadDaemonIsStored(t *testing.T) {
	home, port := newHome(t)
	c := connect(t, options(home, "v1", port))
	pid := health(t, c).PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for syscall.Kill(pid, 0) == nil {
		time.Sleep(time.Millisecond)
	}
	const line = `{"event_id":"audit_left","timestamp":"2026-01-02T03:04:05Z","event":"proxy.injected","status":"ok","vault":"local","identity":"local","host":"api.openai.com"}` + "\n"
	f, err := os.OpenFile(filepath.Join(home, spoolFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(line + line[:40]); err != nil { // and one that was cut short
		t.Fatal(err)
	}
	_ = f.Close()
	for range 2 {
		c := connect(t, options(home, "v1", port))
		ev, err := c.Events(context.Background(), api.EventsQuery{FromStart: true, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, e := range ev.Entries {
			if e.ID == "audit_left" {
				found++
			}
		}
		if found != 1 {
			t.Errorf("the event is there %d times", found)
		}
		if _, err := api.StopDaemon(context.Background(), home); err != nil {
			t.Fatal(err)
		}
	}
}
