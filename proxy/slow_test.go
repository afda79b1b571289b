package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/ca"
	"github.com/authsome/authsome/proxy"
)

// pipes is a listener in memory, so that hours pass in no time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowChildren: whoever keeps a connection open without ever finishing what
// it began is dropped after a minute; an idle tunnel may stay longer.
func TestSlowChildren(t *testing.T) {
	connect := "CONNECT " + authsome.SelfCheckHost + ":443 HTTP/1.1\r\n" + basic(token) + "\r\n"
	request := "GET / HTTP/1.1\r\nHost: " + authsome.SelfCheckHost + "\r\n\r\n"
	for name, tt := range map[string]struct {
		raw    string // before TLS
		secure bool
		inside string // in TLS, once a whole request has been answered
		life   time.Duration
	}{
		"silent":                {"", false, "", time.Minute},
		"half a CONNECT":        {connect[:20], false, "", time.Minute},
		"a CONNECT, no token":   {"CONNECT a:443 HTTP/1.1\r\n\r\n", false, "", time.Minute},
		"no hello":              {connect, false, "", time.Minute},
		"half a hello":          {connect + "\x16\x03\x01\x02\x00", false, "", time.Minute},
		"half a request header": {connect, true, request[:20], time.Minute},
		"idle between requests": {connect, true, "", 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, err := ca.New(time.Now())
				if err != nil {
					t.Fatal(err)
				}
				b := &broker{t: t, grants: map[string]*authsome.Grant{token: {ID: "run_1"}}}
				p := proxy.New(proxy.Config{Resolver: b, Issuer: ca.NewIssuer(ours)})
				ln := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
				ctx, cancel := context.WithCancel(context.Background())
				served := make(chan error, 1)
				go func() { served <- p.Serve(ctx, ln) }()
				child, theirs := net.Pipe()
				ln.conns <- theirs

				_, _ = io.WriteString(child, tt.raw)
				br := bufio.NewReader(child)
				var from io.Reader = br
				if len(tt.raw) >= len(connect) {
					if _, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect}); err != nil {
						t.Fatal(err)
					}
				}
				if tt.secure {
					conn := tls.Client(child, &tls.Config{RootCAs: pool(ours), ServerName: authsome.SelfCheckHost, NextProtos: []string{http1}})
					inner := bufio.NewReader(conn)
					if res := exchange(t, conn, inner, request); text(t, res) == "" {
						t.Fatal("no answer")
					}
					_, _ = io.WriteString(conn, tt.inside)
					from = inner
				}
				began := time.Now()
				if _, err := io.Copy(io.Discard, from); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
				}
				if got := time.Since(began); got < tt.life || got > tt.life+10*time.Second {
					t.Errorf("dropped after %s, want %s", got, tt.life)
				}
				_ = child.Close()
				cancel()
				if err := <-served; err != nil {
					t.Error(err)
				}
				if err := p.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
