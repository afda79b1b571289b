//go:build unix

package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/route"
)

// The account at the upstream proxies. tinyproxy's configuration takes letters
// and digits only; the other password has what URLs take for something else.
const (
	chainUser     = "me"
	plainPassword = "corporateSecret"
	oddPassword   = "co:rp@or/ate%Secret"
)

// chained is a world behind a proxy program from Debian, which is asked for
// services on this machine.
func chained(t *testing.T, scheme, addr string, user *url.Userinfo) *world {
	t.Helper()
	w := newWorld(t, func(_ *world, c *proxyConfig) {
		c.Upstream.Proxy = func(*url.URL) (*url.URL, error) { return &url.URL{Scheme: scheme, Host: addr, User: user}, nil }
	})
	w.broker.set("openai", &account{secret: openaiKey, private: true})
	return w
}

// here is a service of this machine with a route of its own, by address or by
// name.
func here(w *world, host string) (srv *httptest.Server, authority string) {
	w.t.Helper()
	srv = w.serve(host, echo)
	_, digits, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	port, err := strconv.Atoi(digits)
	if err != nil {
		w.t.Fatal(err)
	}
	w.broker.routes(append(bundled(), route.Entry{Provider: "openai", Route: authsome.Route{Host: host, Port: port, Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})...)
	return srv, net.JoinHostPort(host, digits)
}

// program starts a proxy and waits until it answers. Tests are skipped where it
// is not installed.
func program(t *testing.T, name string, args func(port string) []string) (addr string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	// A port that was free a moment ago may be taken by now.
	for range 5 {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = ln.Addr().String()
		_, port, _ := net.SplitHostPort(addr)
		_ = ln.Close()
		cmd := exec.Command(path, args(port)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		stop := func() { _ = cmd.Process.Kill(); <-ended }
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if c, err := net.Dial("tcp", addr); err == nil {
				_ = c.Close()
				t.Cleanup(stop)
				return addr
			}
			select {
			case <-ended:
				end = time.Time{}
			default:
			}
		}
		stop()
	}
	t.Fatalf("%s does not start", name)
	return ""
}

// tinyproxy is an HTTP proxy that wants a user name and a password.
func tinyproxy(t *testing.T) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	return program(t, "tinyproxy", func(port string) []string {
		text := fmt.Sprintf("Port %s\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Critical\nBasicAuth %s %s\n", port, chainUser, plainPassword)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"-d", "-c", conf}
	})
}

// microsocks is a SOCKS5 server that wants a user name and a password.
func microsocks(t *testing.T) string {
	t.Helper()
	return program(t, "microsocks", func(port string) []string {
		return []string{"-i", "127.0.0.1", "-p", port, "-u", chainUser, "-P", oddPassword}
	})
}

// TestChains: requests, tunnels and http:// through real upstream proxies of
// every kind, by addresses and by names; a wrong or a missing password is named
// and never shown.
func TestChains(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https", "socks5", "socks5h"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			addr, password := "", plainPassword
			switch scheme {
			case "http":
				addr = tinyproxy(t)
			case "https":
				addr = overTLS(t, tinyproxy(t))
			default:
				addr, password = microsocks(t), oddPassword
			}
			w := chained(t, scheme, addr, url.UserPassword(chainUser, password))
			for _, host := range []string{"127.0.0.1", "localhost"} {
				_, authority := here(w, host)
				for _, proto := range []string{http1, http2} {
					s := sawOf(t, w.do(w.client(proto), http.MethodPost, "https://"+authority+"/v1/x?q=1", strings.NewReader("body")))
					if s.Header.Get("Authorization") != "Bearer "+openaiKey || s.URI != "/v1/x?q=1" || s.Header.Get("Proxy-Authorization") != "" {
						t.Errorf("%s by %s: the service saw %+v", host, proto, s)
					}
				}
			}
			// No provider is for this one.
			blind := w.serve("127.0.0.1", echo)
			c := w.client(http1)
			c.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool(w.theirs)
			sawOf(t, w.get(c, "https://"+blind.Listener.Addr().String()+"/"))

			var reached atomic.Int32
			plain := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { reached.Add(1); echo(rw, r) }))
			defer plain.Close()
			s := sawOf(t, w.do(w.client(http1), http.MethodPost, plain.URL+"/a/../b%2f?q=%20", strings.NewReader("x")))
			if s.URI != "/a/../b%2f?q=%20" || s.Header.Get("Proxy-Authorization") != "" || s.Header.Get("Authorization") != "" {
				t.Errorf("http://: the service saw %+v", s)
			}

			for name, tt := range map[string]struct {
				user *url.Userinfo
				want string
			}{
				"wrong": {url.UserPassword(chainUser, "wrong-"+password), "refused the user name and the password"},
				"none":  {nil, "wants a user name and a password"},
			} {
				w := chained(t, scheme, addr, tt.user)
				_, authority := here(w, "127.0.0.1")
				reached.Store(0)
				targets := []string{"https://" + authority + "/", plain.URL + "/"}
				if name == "wrong" && strings.HasPrefix(scheme, "http") {
					// tinyproxy answers with 401, which could be the service's as well.
					if res := w.get(w.client(http1), targets[1]); res.StatusCode != http.StatusUnauthorized || strings.Contains(text(t, res), password) {
						t.Errorf("http://, with a wrong password: %s", res.Status)
					}
					targets = targets[:1]
				}
				for _, target := range targets {
					got := problem(t, w.get(w.client(http1), target), 502, "upstream_unreachable")
					if got["failed"] != "upstream proxy" || !strings.Contains(got["fix"].(string), "USER:PASSWORD@") || !strings.Contains(got["cause"].(string), tt.want) || !strings.Contains(got["cause"].(string), addr) {
						t.Errorf("%s password, %s: %v", name, target, got)
					}
					if strings.Contains(fmt.Sprint(got)+w.log.String(), password) {
						t.Errorf("%s password, %s: it is shown", name, target)
					}
				}
				// A tunnel is refused before it is there.
				c := w.dialProxy()
				_, _ = fmt.Fprintf(c, "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n%s\r\n", basic(token))
				res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodGet})
				if err != nil {
					t.Fatal(err)
				}
				problem(t, res, 502, "upstream_unreachable")
				if reached.Load() != 0 {
					t.Error("the service was asked")
				}
			}
		})
	}
}

// overTLS puts TLS in front of a proxy, with a certificate of the services'
// authority.
func overTLS(t *testing.T, addr string) string {
	t.Helper()
	w := newWorld(t)
	leaf, err := w.upstream.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*leaf}})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		work.Wait()
	})
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				up, err := net.Dial("tcp", addr)
				if err != nil {
					_ = c.Close()
					return
				}
				stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), up.Close() })
				defer stop()
				work.Go(func() {
					_, _ = io.Copy(up, c)
					_ = up.(*net.TCPConn).CloseWrite()
				})
				_, _ = io.Copy(c, up)
				_ = c.Close()
			})
		}
	})
	return ln.Addr().String()
}

// TestChainOfLogins: tokens are fetched the same way as requests go.
func TestChainOfLogins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := w.serve("127.0.0.1", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"access_token":"fresh","token_type":"Bearer","expires_in":3600}`)
	})
	for _, tt := range []struct{ scheme, addr, password string }{
		{"http", tinyproxy(t), plainPassword}, {"socks5", microsocks(t), oddPassword}, {"socks5h", microsocks(t), oddPassword},
	} {
		for password, want := range map[string]string{tt.password: "", "wrong-secret": "refused the user name and the password"} {
			client := flow.New(flow.Config{Roots: pool(w.theirs), Proxy: func(*url.URL) (*url.URL, error) {
				return &url.URL{Scheme: tt.scheme, Host: tt.addr, User: url.UserPassword(chainUser, password)}, nil
			}})
			token, err := client.ClientCredentials(context.Background(), flow.Server{
				OAuth: authsome.OAuth{TokenURL: "https://" + srv.Listener.Addr().String() + "/token"}, Private: true,
				App: authsome.OAuthClient{ID: "id", Secret: authsome.NewSecret("client-secret")},
			}, nil)
			switch {
			case want == "" && (err != nil || token == nil):
				t.Errorf("%s: %v", tt.scheme, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), password)):
				t.Errorf("%s, with a wrong password: %v", tt.scheme, err)
			}
		}
	}
}
