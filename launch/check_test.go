package launch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// answers is a proxy of few words: it reads a CONNECT, says something, and
// then shows a certificate and answers a request, as far as each is set.
type answers struct {
	connect string
	cert    *tls.Certificate
	answer  string
	seen    chan string // the token and the host that were asked for
}

func (a answers) serve(t *testing.T) Proxy {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, a.connect)
				if a.cert == nil {
					return
				}
				tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*a.cert}})
				inner, err := http.ReadRequest(bufio.NewReader(tc))
				if err != nil {
					return
				}
				if a.seen != nil {
					a.seen <- req.Method + " " + req.Host + " " + req.Header.Get("Proxy-Authorization") + " " + inner.Host
				}
				_, _ = io.WriteString(tc, a.answer)
			}()
		}
	}()
	return Proxy{Port: ln.Addr().(*net.TCPAddr).Port, Token: testToken}
}

func TestCheck(t *testing.T) {
	const (
		yes = "HTTP/1.1 200 Connection established\r\n\r\n"
		ok  = "HTTP/1.1 204 No Content\r\n\r\n"
	)
	soon := time.Now().Add(time.Hour)
	own, ca := newCA(t)
	other, _ := newCA(t)
	right := own.leaf(t, authsome.SelfCheckHost, soon)
	foreign := other.leaf(t, authsome.SelfCheckHost, soon)
	expired := own.leaf(t, authsome.SelfCheckHost, time.Now().Add(-time.Minute))
	misnamed := own.leaf(t, "api.openai.com", soon)
	tests := []struct {
		name   string
		server answers
		code   authsome.Code
		says   string
	}{
		{"right", answers{connect: yes, cert: &right, answer: ok}, "", ""},
		{"refused token", answers{connect: "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"}, authsome.NotReady, "does not know this run"},
		{"refused host", answers{connect: "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"}, authsome.NotReady, "403 Forbidden"},
		{"no proxy", answers{connect: "SSH-2.0-OpenSSH\r\n\r\n"}, authsome.DaemonUnavailable, "does not answer"},
		{"hangs up", answers{}, authsome.DaemonUnavailable, "does not answer"},
		{"hangs up before TLS", answers{connect: yes}, authsome.DaemonUnavailable, "does not answer"},
		{"foreign authority", answers{connect: yes, cert: &foreign}, authsome.NotReady, "another authority"},
		{"expired", answers{connect: yes, cert: &expired}, authsome.NotReady, "this machine's time"},
		{"another host", answers{connect: yes, cert: &misnamed}, authsome.NotReady, "other hosts"},
		{"no answer inside", answers{connect: yes, cert: &right}, authsome.DaemonUnavailable, "does not answer"},
		{"an error inside", answers{connect: yes, cert: &right, answer: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"}, authsome.NotReady, "502 Bad Gateway"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.server.seen = make(chan string, 1)
			err := Check(context.Background(), tt.server.serve(t), ca)
			if authsome.CodeOf(err) != tt.code {
				t.Fatalf("got %v (%s)", err, authsome.CodeOf(err))
			}
			if err == nil {
				const want = "CONNECT self-check.authsome.invalid:443 Basic YXV0aHNvbWU6czNjcjN0LXRva2Vu self-check.authsome.invalid"
				if got := <-tt.server.seen; got != want {
					t.Errorf("the proxy saw %q", got)
				}
				return
			}
			if !strings.Contains(err.Error(), tt.says) || authsome.HintOf(err) != "authsome doctor" {
				t.Errorf("got %q, %q", err, authsome.HintOf(err))
			}
			if strings.Contains(err.Error(), testToken) {
				t.Error("it says the token")
			}
		})
	}
}

func TestCheckOfADeadProxy(t *testing.T) {
	_, ca := newCA(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := Proxy{Port: ln.Addr().(*net.TCPAddr).Port, Token: testToken}
	// One that listens and never accepts: the backlog takes the connection.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := Check(ctx, proxy, ca); authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), "no answer in 5s") {
		t.Errorf("silent: %v", err)
	}
	_ = ln.Close()
	if err := Check(context.Background(), proxy, ca); authsome.CodeOf(err) != authsome.DaemonUnavailable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("gone: %v", err)
	}
}

// The bundle that is checked is the one on disk.
func TestTrustCheckLooksIntoTheBundle(t *testing.T) {
	_, ca := newCA(t)
	_, another := newCA(t)
	roots := "SSL_CERT_FILE=" + file(t, "roots", another)
	for name, spoil := range map[string]func(path string, data []byte) error{
		"missing":       func(path string, _ []byte) error { return os.Remove(path) },
		"empty":         func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"truncated":     func(path string, data []byte) error { return os.WriteFile(path, data[:len(data)-1], 0o600) },
		"without ours":  func(path string, data []byte) error { return os.WriteFile(path, bytes.TrimSuffix(data, ca), 0o600) },
		"another's":     func(path string, _ []byte) error { return os.WriteFile(path, another, 0o600) },
		"a byte is off": func(path string, data []byte) error { data[len(data)-60] ^= 1; return os.WriteFile(path, data, 0o600) },
	} {
		trust := write(t, GatherRoots([]string{roots}, runtime.GOOS), t.TempDir(), ca)
		if err := trust.Check(ca); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(trust.Bundle())
		if err != nil || !bytes.HasSuffix(data, ca) {
			t.Fatalf("%v; the bundle is %q", err, data)
		}
		if err := spoil(trust.Bundle(), data); err != nil {
			t.Fatal(err)
		}
		if err := trust.Check(ca); authsome.CodeOf(err) != authsome.NotReady || !strings.Contains(err.Error(), "lacks this installation's root") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Where the person's own file has it already, it does not stand at the end.
	trust := write(t, GatherRoots([]string{"SSL_CERT_FILE=" + file(t, "both", ca, another)}, runtime.GOOS), t.TempDir(), ca)
	if err := trust.Check(ca); err != nil {
		t.Error(err)
	}
	if err := trust.Check(nil); authsome.CodeOf(err) != authsome.NotReady {
		t.Errorf("without a root to look for: %v", err)
	}
}
