package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
)

// The benchmarks compare the same requests sent directly, through a blind
// tunnel and with a credential put on. Client, proxy and service share the
// machine and the process, so only the ratios within one run say anything:
//
//	go test -bench . -run '^$' ./proxy

// ways are how a client gets to a service.
var ways = []string{"direct", "tunnel", "injected"}

// benchWorld starts a service on this machine, and a client that goes one of
// the ways to it.
func benchWorld(b *testing.B, way, proto string, clients int, h http.HandlerFunc) (*http.Client, string) {
	b.Helper()
	w := newWorld(b, direct, func(w *world, c *proxy.Config) { c.Resolver = quiet{w.broker} })
	srv := w.serve("localhost", h)
	_, digits, _ := net.SplitHostPort(srv.Listener.Addr().String())
	port, err := strconv.Atoi(digits)
	if err != nil {
		b.Fatal(err)
	}
	c := w.client(proto)
	tr := c.Transport.(*http.Transport)
	tr.MaxIdleConnsPerHost = clients
	tr.TLSClientConfig.CurvePreferences = []tls.CurveID{tls.X25519}
	switch way {
	case "injected":
		local(w, "localhost", port)
	case "direct":
		tr.Proxy = nil
		fallthrough
	default:
		tr.TLSClientConfig.RootCAs = pool(w.theirs)
	}
	return c, "https://localhost:" + digits
}

// quiet keeps no history, which would grow with the number of requests.
type quiet struct{ *broker }

func (q quiet) Resolve(ctx context.Context, g *authsome.Grant, req *authsome.Request) (*authsome.Resolution, error) {
	res, err := q.broker.Resolve(ctx, g, req)
	q.mu.Lock()
	q.asked = nil
	q.mu.Unlock()
	return res, err
}

func (q quiet) Finish(*authsome.Grant, *authsome.Request, *authsome.Resolution, authsome.Outcome) {}

func small(rw http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(rw, strings.Repeat("x", 1<<10))
}

func get(b *testing.B, c *http.Client, url string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+authsome.Placeholder)
	res, err := c.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 200 {
		b.Errorf("%s", res.Status)
	}
}

func BenchmarkKeepAlive(b *testing.B) {
	for _, proto := range []string{http1, http2} {
		for _, clients := range []int{1, 16} {
			for _, way := range ways {
				b.Run(name(proto, clients, way), func(b *testing.B) {
					c, url := benchWorld(b, way, proto, clients, small)
					get(b, c, url)
					b.ResetTimer()
					parallel(b, clients, func() { get(b, c, url) })
				})
			}
		}
	}
}

func BenchmarkNewConnection(b *testing.B) {
	for _, clients := range []int{1, 8} {
		for _, way := range ways {
			b.Run(name(http1, clients, way), func(b *testing.B) {
				c, url := benchWorld(b, way, http1, clients, small)
				c.Transport.(*http.Transport).DisableKeepAlives = true
				b.ResetTimer()
				parallel(b, clients, func() { get(b, c, url) })
			})
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	const size = 16 << 20
	block := make([]byte, 64<<10)
	for _, way := range ways {
		b.Run(way, func(b *testing.B) {
			c, url := benchWorld(b, way, http1, 1, func(rw http.ResponseWriter, _ *http.Request) {
				for range size / len(block) {
					_, _ = rw.Write(block)
				}
			})
			b.SetBytes(size)
			for b.Loop() {
				get(b, c, url)
			}
		})
	}
}

func BenchmarkUpload(b *testing.B) {
	const size = 16 << 20
	for _, way := range ways {
		b.Run(way, func(b *testing.B) {
			c, url := benchWorld(b, way, http1, 1, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
			b.SetBytes(size)
			for b.Loop() {
				res, err := c.Post(url, "application/octet-stream", io.LimitReader(zeros{}, size))
				if err != nil {
					b.Fatal(err)
				}
				_ = res.Body.Close()
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func name(proto string, clients int, way string) string {
	return strings.ReplaceAll(proto, "/", "") + "/" + strconv.Itoa(clients) + "/" + way
}

// parallel runs f b.N times, by so many clients at once.
func parallel(b *testing.B, clients int, f func()) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				f()
			}
		})
	}
	wg.Wait()
}
