package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
	"github.com/authsome/authsome/route"
	"github.com/authsome/authsome/sigv4"
)

// lost is a broker whose store has failed.
type lost struct{ *broker }

func (l lost) Resolve(context.Context, *authsome.Grant, *authsome.Request) (*authsome.Resolution, error) {
	return nil, errors.New("disk: sk-real-openai is on fire")
}

// TestEveryRefusal provokes every code of docs/proxy.md, and no other: each with
// the status of the table, a fix, and the code in body and header alike.
func TestEveryRefusal(t *testing.T) {
	t.Parallel()
	connect := func(w *world, head string) *http.Response {
		c := w.dialProxy()
		return exchange(t, c, bufio.NewReader(c), head)
	}
	inner := func(w *world, request string) *http.Response {
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		return exchange(t, c, br, request)
	}
	provoke := map[string]func(w *world) *http.Response{
		"login_required": func(w *world) *http.Response {
			return w.get(w.client(http1), "https://api.nobody.example/")
		},
		"reauthentication_required": func(w *world) *http.Response {
			w.broker.set("openai", &account{expired: true})
			return w.get(w.client(http2), "https://api.openai.com/")
		},
		"denied": func(w *world) *http.Response {
			w.broker.grants[token].Mode = authsome.ConnectedDeny
			return connect(w, "CONNECT www.example.com:443 HTTP/1.1\r\nHost: x\r\n"+basic(token)+"\r\n")
		},
		"ambiguous": func(w *world) *http.Response {
			w.broker.routes(append(bundled(), route.Entry{Provider: "other", Route: authsome.Route{Host: "api.openai.com", Inject: []authsome.Injection{
				{Slot: authsome.SlotHeader, Name: "Authorization", Value: "{token}"},
			}}})...)
			return w.get(w.client(http1), "https://api.openai.com/")
		},
		"placeholder_misplaced": func(w *world) *http.Response {
			return w.get(w.client(http2), "https://api.openai.com/", "X-Other: "+authsome.Placeholder)
		},
		"private_address": func(w *world) *http.Response {
			local(w, "10.0.0.1", 443)
			w.broker.set("openai", &account{secret: openaiKey})
			return w.get(w.client(http1), "https://10.0.0.1/")
		},
		"misdirected": func(w *world) *http.Response {
			return inner(w, "GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n")
		},
		"bad_request": func(w *world) *http.Response {
			return inner(w, "GET /..%2fadmin HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
		},
		"header_too_large": func(w *world) *http.Response {
			c := w.dialProxy()
			go func() {
				_, _ = io.WriteString(c, "CONNECT api.openai.com:443 HTTP/1.1\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
			}()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			return res
		},
		"url_too_long": func(w *world) *http.Response {
			return w.get(w.client(http2), "https://api.openai.com/?q="+strings.Repeat("x", 300<<10))
		},
		"too_many_connections": func(w *world) *http.Response {
			w.connect("api.openai.com:443")
			return connect(w, "CONNECT api.openai.com:443 HTTP/1.1\r\n"+basic(token)+"\r\n")
		},
		"too_many_requests": func(w *world) *http.Response {
			entered, release := make(chan struct{}, 2), make(chan struct{})
			w.serve("api.github.com", func(http.ResponseWriter, *http.Request) {
				entered <- struct{}{}
				<-release
			})
			w.t.Cleanup(func() { close(release) })
			answers := make(chan *http.Response, 3)
			for range 3 { // one that goes on, one that waits, one too many
				c, br := w.tunnel("api.github.com:443", "api.github.com")
				go func() {
					_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n")
					if res, err := http.ReadResponse(br, nil); err == nil {
						answers <- res
					}
				}()
			}
			<-entered
			return <-answers
		},
		"too_many_hosts": func(w *world) *http.Response {
			w.connect("api.openai.com:443")
			return connect(w, "CONNECT api.github.com:443 HTTP/1.1\r\n"+basic(token)+"\r\n")
		},
		"out_of_memory": func(w *world) *http.Response {
			routeAWS(w)
			req := request(t, "POST", "https://"+tableHost+"/", &blank{100})
			return w.do(w.client(http1), "POST", req.URL.String(), req.Body,
				"Authorization: "+signedBy(t, authsome.Placeholder, req, "", "dynamodb").Header.Get("Authorization"))
		},
		"body_too_large": func(w *world) *http.Response {
			routeAWS(w)
			req := request(t, "PUT", "https://"+bucketHost+"/k", &blank{sigv4.MaxBody + 1})
			return w.do(w.client(http1), "PUT", req.URL.String(), req.Body,
				"Authorization: "+signedBy(t, authsome.Placeholder, req, "", "s3").Header.Get("Authorization"))
		},
		"proxy_authentication_required": func(w *world) *http.Response {
			return connect(w, "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		},
		"upstream_tls": func(w *world) *http.Response {
			other := w.serve("other.example.com", echo)
			w.net.add("api.openai.com:443", other.Listener.Addr().String())
			return w.get(w.client(http1), "https://api.openai.com/")
		},
		"upstream_unreachable": func(w *world) *http.Response {
			return w.get(w.client(http1), "https://api.openai.com/")
		},
		"upstream_timeout": func(w *world) *http.Response {
			w.net.add("api.openai.com:443", "127.0.0.1:1") // which its proxy calls a timeout
			return w.get(w.client(http1), "https://api.openai.com/")
		},
		"shutting_down": func(w *world) *http.Response {
			// A request under way keeps the daemon from going at once.
			entered, release := make(chan struct{}), make(chan struct{})
			w.serve("api.github.com", func(http.ResponseWriter, *http.Request) {
				close(entered)
				<-release
			})
			w.t.Cleanup(func() { close(release) })
			busy, _ := w.tunnel("api.github.com:443", "api.github.com")
			_, _ = io.WriteString(busy, "GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n")
			<-entered
			begun := make([]io.ReadWriter, 200)
			for i := range begun {
				c := w.dialProxy()
				_, _ = io.WriteString(c, "CONNECT api.openai.com:443 HTTP/1.1\r\n")
				begun[i] = c
			}
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				_ = w.proxy.Shutdown(ctx)
			}()
			for _, c := range begun {
				_, _ = io.WriteString(c, "Host: x\r\n"+basic(token)+"\r\n")
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != http.StatusOK {
					return res
				}
				time.Sleep(time.Millisecond) // it was not there yet
			}
			t.Fatal("the proxy never began to stop")
			return nil
		},
		"internal": func(w *world) *http.Response {
			return w.get(w.client(http1), "https://api.openai.com/")
		},
	}
	narrow := map[string]proxy.Limits{
		"too_many_connections": {RunConnections: 1},
		"too_many_requests":    {RunRequests: 1},
		"too_many_hosts":       {RunHosts: 1},
		"out_of_memory":        {RunMemory: 1},
	}
	page, err := os.ReadFile("../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d{3}) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]], _ = strconv.Atoi(row[2])
	}
	if got, want := slices.Sorted(maps.Keys(provoke)), slices.Sorted(maps.Keys(documented)); !slices.Equal(got, want) {
		t.Fatalf("provoked are %q, documented %q", got, want)
	}
	for code, status := range documented {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			var opts []option
			if code == "internal" {
				opts = append(opts, func(w *world, c *proxy.Config) { c.Resolver = lost{w.broker} })
			}
			opts = append(opts, func(_ *world, c *proxy.Config) { c.Limits = narrow[code] })
			w := newWorld(t, opts...)
			res := provoke[code](w)
			got := problem(t, res, status, code)
			for field, v := range got {
				if s, ok := v.(string); !ok || s == "" || strings.Contains(s, openaiKey) || s != strings.TrimSpace(s) {
					t.Errorf("%s is %v", field, v)
				}
			}
			if got["fix"] == nil || got["message"] == nil {
				t.Errorf("an agent cannot act on %v", got)
			}
		})
	}
}
