package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
)

// TestRejectedToken: an upstream's 401 on a token that can be renewed brings a
// new one and one more try; never two, and never when the body is gone.
func TestRejectedToken(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t)
			var mu sync.Mutex
			var requests []string
			good := "sk-second"
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				requests = append(requests, fmt.Sprintf("%s %s %d", r.Method, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), len(body)))
				if r.Header.Get("Authorization") != "Bearer "+good {
					rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
					rw.WriteHeader(http.StatusUnauthorized)
					return
				}
				_, _ = rw.Write(body)
			})
			c := w.client(proto)
			send := func(method, body string, status int, want ...string) *http.Response {
				t.Helper()
				mu.Lock()
				requests = nil
				mu.Unlock()
				var r io.Reader
				if body != "" {
					r = strings.NewReader(body)
				}
				res := w.do(c, method, "https://api.openai.com/v1/x", r)
				if want == nil {
					return res
				}
				got := text(t, res)
				mu.Lock()
				defer mu.Unlock()
				if res.StatusCode != status || !slices.Equal(requests, want) {
					t.Errorf("%s of %d bytes: %d, the service saw %q", method, len(body), res.StatusCode, requests)
				}
				if status == http.StatusOK && got != body {
					t.Errorf("the body came back with %d bytes", len(got))
				}
				return res
			}
			small, large := strings.Repeat("s", 1000), strings.Repeat("L", 70<<10)
			w.broker.set("openai", &account{secret: "sk-first", version: 1, renewed: []string{"sk-second"}})
			send("POST", small, http.StatusOK, "POST sk-first 1000", "POST sk-second 1000")
			send("GET", "", http.StatusOK, "GET sk-second 0")
			// Too large to be sent again: the 401 is passed on, and the next one
			// has the new token.
			w.broker.set("openai", &account{secret: "sk-first", version: 1, renewed: []string{"sk-second"}})
			res := send("POST", large, http.StatusUnauthorized, "POST sk-first 71680")
			if res.Header.Get("WWW-Authenticate") == "" {
				t.Error("the service's own 401 was changed")
			}
			send("POST", large, http.StatusOK, "POST sk-second 71680")
			// The new token is refused as well: no third try.
			w.broker.set("openai", &account{secret: "sk-first", version: 1, renewed: []string{"sk-other", "sk-second"}})
			send("GET", "", http.StatusUnauthorized, "GET sk-first 0", "GET sk-other 0")
			// There is no newer one: the 401 means something else.
			w.broker.set("openai", &account{secret: "sk-first", version: 1})
			send("GET", "", http.StatusUnauthorized, "GET sk-first 0")
			// A key is never renewed.
			w.broker.set("openai", &account{secret: "sk-first"})
			send("GET", "", http.StatusUnauthorized, "GET sk-first 0")
			// It cannot be had: the agent is told what helps.
			w.broker.set("openai", &account{secret: "sk-first", version: 1, lost: true})
			got := problem(t, send("GET", "", 0), http.StatusUnauthorized, "reauthentication_required")
			if got["fix"] != "authsome login openai --force" {
				t.Errorf("fix %q", got["fix"])
			}
			ends := w.broker.ends(8)
			if len(ends) != 8 {
				t.Errorf("%d requests were finished, not 8", len(ends))
			}
			if e := ends[2]; e.out.Err == "" || e.res.Verdict != authsome.Inject {
				t.Errorf("a token that was not sent is audited as %+v", e.out)
			}
		})
	}
}

// TestRejectedTokenAndOneThatDoesNotFit: the second attempt is refused by the proxy
// itself, but the first one was sent with a credential, and is recorded.
func TestRejectedTokenAndOneThatDoesNotFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.broker.routes(route.Entry{Provider: "shop", Route: authsome.Route{
		Host: "api.shop.example", Inject: []authsome.Injection{fills(authsome.SlotCookie, "sid", "{token}")},
	}})
	w.broker.set("shop", &account{secret: "first", version: 1, private: true, renewed: []string{"a;b"}})
	w.serve("api.shop.example", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusUnauthorized) })
	problem(t, w.get(w.client(http1), "https://api.shop.example/x"), http.StatusUnauthorized, "reauthentication_required")
	if e := w.broker.ends(1)[0]; e.res == nil || e.res.Verdict != authsome.Inject || e.out.Err == "" {
		t.Errorf("the request that was sent is audited as %+v", e)
	}
}

// TestKeptBodiesAreCounted: a body that may have to be sent again counts as memory of
// the run, and is let go when the answer has come, which may be a stream of hours. It is
// not kept where there is no room for it.
func TestKeptBodiesAreCounted(t *testing.T) {
	t.Parallel()
	const size = 50_000
	for _, proto := range []string{http1, http2} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t, func(_ *world, c *proxy.Config) { c.Limits.Memory = 4 * size })
			w.broker.set("openai", &account{secret: "sk-first", version: 1, private: true, renewed: []string{"sk-second"}})
			arrived, answer := make(chan struct{}), make(chan struct{})
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				switch {
				case r.Header.Get("Authorization") != "Bearer sk-second":
					rw.WriteHeader(http.StatusUnauthorized)
				case r.URL.Path == "/stream":
					arrived <- struct{}{}
					<-answer
					_, _ = rw.Write([]byte("data: 1\n\n"))
					_ = http.NewResponseController(rw).Flush()
					<-answer
				}
			})
			c := w.client(proto)
			body := strings.Repeat("b", size)
			got := make(chan *http.Response, 1)
			go func() { got <- w.do(c, http.MethodPost, "https://api.openai.com/stream", strings.NewReader(body)) }()
			<-arrived
			if n := w.proxy.Usage().Memory; n != size {
				t.Errorf("%d bytes are counted while the answer is waited for, want %d", n, size)
			}
			answer <- struct{}{}
			res := <-got
			if _, err := io.ReadFull(res.Body, make([]byte, 9)); err != nil {
				t.Fatal(err)
			}
			if n := w.proxy.Usage().Memory; n != 0 {
				t.Errorf("%d bytes are counted of a stream", n)
			}
			close(answer)
			text(t, res)
		})
	}
	w := newWorld(t, func(_ *world, c *proxy.Config) { c.Limits.Memory = size / 2 })
	w.broker.set("openai", &account{secret: "sk-first", version: 1, private: true, renewed: []string{"sk-second"}})
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Authorization") != "Bearer sk-second" {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	})
	for _, want := range []int{http.StatusUnauthorized, http.StatusOK} {
		if res := w.do(w.client(http1), http.MethodPost, "https://api.openai.com/x", strings.NewReader(strings.Repeat("b", size))); res.StatusCode != want {
			t.Errorf("status %d, want %d", res.StatusCode, want)
		}
	}
}
