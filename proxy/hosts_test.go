package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/ca"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
)

// forgetful keeps no account of requests.
type forgetful struct{ *broker }

func (forgetful) Finish(*authsome.Grant, *authsome.Request, *authsome.Resolution, authsome.Outcome) {}

// TestHundredThousandHosts that a child asks for: refused ones, ones that cannot
// be reached, and certificates for routed ones. None of them stays in memory.
// TestManyHosts goes through the handshakes as well.
func TestHundredThousandHosts(t *testing.T) {
	hosts := 100_000
	if testing.Short() {
		hosts = 20_000
	}
	w := newWorld(t, func(w *world, c *proxy.Config) { c.Resolver, c.Logger = forgetful{w.broker}, nil })
	w.broker.routes(route.Entry{Provider: "openai", Route: authsome.Route{Host: "*.many.example.com", Inject: []authsome.Injection{
		{Slot: authsome.SlotHeader, Name: "Authorization", Value: "Bearer {token}"},
	}}})
	const denied = "token-of-a-run-that-denies"
	w.broker.grants[denied] = &authsome.Grant{ID: "run_2", Mode: authsome.ConfiguredDeny}
	var wrong atomic.Int64
	ask := func(token string, from, to, status int) {
		var work sync.WaitGroup
		for worker := range 4 {
			work.Go(func() {
				c := w.dialProxy()
				defer func() { _ = c.Close() }()
				br := bufio.NewReader(c)
				for i := from + worker; i < to; i += 4 {
					_, _ = fmt.Fprintf(c, "CONNECT h%d.example.net:443 HTTP/1.1\r\n%s\r\n", i, basic(token))
					res, err := http.ReadResponse(br, &http.Request{Method: http.MethodGet})
					if err != nil {
						wrong.Add(1)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					if res.StatusCode != status {
						wrong.Add(1)
					}
				}
			})
		}
		work.Wait()
	}
	issuer := ca.NewIssuer(w.ours)
	leaves := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := issuer.Leaf(fmt.Sprintf("h%d.many.example.com", i)); err != nil {
				wrong.Add(1)
			}
		}
	}
	visit := func(from, to int) {
		ask(denied, from, to, http.StatusForbidden)
		ask(token, from, from+(to-from)/20, http.StatusBadGateway) // each dials the upstream proxy
		leaves(from, from+(to-from)/10)
	}
	visit(0, 5_000)
	leaves(0, 5_000) // more than are kept
	before := heap()
	visit(5_000, hosts)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the heap grew by %d KB", grown>>10)
	}
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d answers are wrong", n)
	}
}
