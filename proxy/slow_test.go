package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
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
		drip   bool   // and then a byte every five seconds
		life   time.Duration
	}{
		"silent":                       {"", false, "", false, time.Minute},
		"half a CONNECT":               {connect[:20], false, "", false, time.Minute},
		"a CONNECT drop by drop":       {connect[:20], false, "", true, time.Minute},
		"a CONNECT, no token":          {"CONNECT a:443 HTTP/1.1\r\n\r\n", false, "", false, time.Minute},
		"no hello":                     {connect, false, "", false, time.Minute},
		"half a hello":                 {connect + "\x16\x03\x01\x02\x00", false, "", false, time.Minute},
		"a hello drop by drop":         {connect + "\x16\x03\x01\x02\x00", false, "", true, time.Minute},
		"an http:// drop by drop":      {"GET http://a/ HTTP/1.1\r\nX: ", false, "", true, time.Minute},
		"half a request header":        {connect, true, request[:20], false, time.Minute},
		"a request header by the drop": {connect, true, request[:20], true, time.Minute},
		"idle between requests":        {connect, true, "", false, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, err := ca.New(time.Now())
				if err != nil {
					t.Fatal(err)
				}
				b := &broker{t: t, grants: map[string]*authsome.Grant{token: {ID: "run_1"}}}
				p := proxy.New(proxy.Config{Resolver: b, Issuer: issuer{ca.NewIssuer(ours)}})
				ln := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
				ctx, cancel := context.WithCancel(context.Background())
				served := make(chan error, 1)
				go func() { served <- p.Serve(ctx, ln) }()
				child, theirs := net.Pipe()
				ln.conns <- theirs

				_, _ = io.WriteString(child, tt.raw)
				br := bufio.NewReader(child)
				var from io.Reader = br
				var to io.Writer = child
				if strings.HasPrefix(tt.raw, connect) {
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
					from, to = inner, conn
				}
				began := time.Now()
				dripped := make(chan struct{})
				if !tt.drip {
					close(dripped)
				} else {
					go func() {
						defer close(dripped)
						for {
							time.Sleep(5 * time.Second)
							if _, err := io.WriteString(to, "x"); err != nil {
								return
							}
						}
					}()
				}
				if _, err := io.Copy(io.Discard, from); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
				}
				if got := time.Since(began); got < tt.life || got > tt.life+10*time.Second {
					t.Errorf("dropped after %s, want %s", got, tt.life)
				}
				_ = child.Close()
				<-dripped
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
