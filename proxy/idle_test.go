package proxy_test

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/proxy"
)

// Idle streams are measured with the children and the service in another process,
// which is this test's binary again.

var idleProfile = flag.String("idleprofile", "", "write heap and goroutine profiles of BenchmarkIdle to files that begin so")

// peerVariable makes the binary a peer.
const peerVariable = "AUTHSOME_TEST_PEER"

// order is what a peer is told, in this order: Authority and Certificate, then
// Streams as often as there are.
type order struct {
	Proxy, Token string
	Roots        []byte   // PEM, of the proxy's authority and the service's
	Certificate  [][]byte // of the service
	Key          []byte
	Kind         string
	Streams      int
}

// playPeer is a service and its clients.
func playPeer() error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var o order
	if err := in.Decode(&o); err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(o.Key)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(o.Roots)
	protocols := []string{"http/1.1"}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: o.Certificate, PrivateKey: key}}, NextProtos: protocols,
	})
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(ln, http.HandlerFunc(idleService)) }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	if err := out.Encode(port); err != nil {
		return err
	}
	var open []io.Closer
	shared := &http.Client{}
	for {
		if err := in.Decode(&o); err != nil {
			return nil // the test is over
		}
		target := "localhost:" + port
		tr := &http.Transport{
			Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: o.Proxy, User: url.UserPassword("authsome", o.Token)}),
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: o.Kind == "http2", DisableCompression: true,
		}
		shared.Transport = tr
		for range o.Streams {
			c, err := openIdle(o, roots, target, shared)
			if err != nil {
				return err
			}
			open = append(open, c)
		}
		if err := out.Encode(len(open)); err != nil {
			return err
		}
	}
}

// openIdle opens a stream and reads the first event of it.
func openIdle(o order, roots *x509.CertPool, target string, shared *http.Client) (io.Closer, error) {
	if o.Kind == "http2" {
		req, err := http.NewRequest(http.MethodGet, "https://"+target+"/", nil)
		if err != nil {
			return nil, err
		}
		res, err := shared.Do(req)
		if err != nil {
			return nil, err
		}
		_, err = io.ReadFull(res.Body, make([]byte, len(firstEvent)))
		return res.Body, err
	}
	raw, err := net.Dial("tcp", o.Proxy)
	if err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintf(raw, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, basic(o.Token))
	buf := make([]byte, 256)
	if n, err := raw.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200 ") {
		return nil, fmt.Errorf("CONNECT: %q, %v", buf[:n], err)
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	upgrade := ""
	if o.Kind == "websocket" {
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	}
	_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, upgrade)
	br := bufio.NewReaderSize(conn, 512)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, err
	}
	var body io.Reader = res.Body
	if upgrade != "" {
		body = br
	}
	if _, err := io.ReadFull(body, make([]byte, len(firstEvent))); err != nil {
		return nil, err
	}
	return conn, nil
}

const firstEvent = "data: hello\n\n"

func idleService(rw http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+"\x81\x0bhello again")
		_, _ = io.Copy(io.Discard, buf)
		return
	}
	rw.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(rw, firstEvent)
	_ = http.NewResponseController(rw).Flush()
	<-r.Context().Done()
}

// mate is a peer that plays.
type mate struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	o   order
}

// newMate starts one, and has its service routed when kind is not "blind".
func newMate(t testing.TB, w *world, kind string) *mate {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), peerVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	leaf, err := w.upstream.Leaf("localhost")
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p := &mate{cmd: cmd, in: json.NewEncoder(stdin), out: json.NewDecoder(stdout), o: order{
		Proxy: w.addr, Token: token, Roots: append(w.ours.CertPEM(), w.theirs.CertPEM()...), Certificate: leaf.Certificate, Key: key, Kind: kind,
	}}
	if err := p.in.Encode(p.o); err != nil {
		t.Fatal(err)
	}
	var digits string
	if err := p.out.Decode(&digits); err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "blind" {
		local(w, "localhost", port)
	}
	return p
}

// open opens so many streams more.
func (p *mate) open(t testing.TB, n int) {
	t.Helper()
	p.o.Streams = n
	if err := p.in.Encode(p.o); err != nil {
		t.Fatal(err)
	}
	var all int
	if err := p.out.Decode(&all); err != nil {
		t.Fatal("the peer has failed: ", err)
	}
}

// usage is what a process holds, in bytes.
type usage struct{ heap, stack, all float64 }

func usageNow() usage {
	time.Sleep(200 * time.Millisecond) // of buffers that are given back when nothing comes
	for range 3 {                      // what pools hold goes in the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{float64(m.HeapInuse), float64(m.StackInuse), float64(m.HeapInuse + m.StackInuse + m.MSpanInuse + m.MCacheInuse)}
}

// idleWorld is a proxy that scrubs.
func idleWorld(t testing.TB) *world {
	return newWorld(t, direct, func(w *world, c *proxy.Config) {
		c.Resolver = quiet{w.broker}
		scrubbing(w, c)
		c.Logger = nil
	})
}

// BenchmarkIdle says what an idle stream holds, in bytes:
//
//	go test -run '^$' -bench Idle -benchtime 1x ./proxy
func BenchmarkIdle(b *testing.B) {
	const streams = 2000
	for _, kind := range []string{"blind", "events", "websocket", "http2"} {
		b.Run(kind, func(b *testing.B) {
			w := idleWorld(b)
			p := newMate(b, w, kind)
			p.open(b, 1)
			before := usageNow()
			p.open(b, streams)
			after := usageNow()
			b.ReportMetric((after.heap-before.heap)/streams, "heap-B/stream")
			b.ReportMetric((after.stack-before.stack)/streams, "stack-B/stream")
			b.ReportMetric((after.all-before.all)/streams, "B/stream")
			b.ReportMetric(0, "ns/op")
			if *idleProfile == "" {
				return
			}
			for _, name := range []string{"heap", "goroutine"} {
				f, err := os.Create(*idleProfile + "-" + kind + "." + name)
				if err != nil {
					b.Fatal(err)
				}
				_ = pprof.Lookup(name).WriteTo(f, 0)
				_ = f.Close()
			}
		})
	}
}

// TestIdleStreamsAreSmall: of a stream at rest stays what TLS keeps of its two
// connections, and little else.
func TestIdleStreamsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector takes memory of its own")
	}
	const streams = 200
	for kind, most := range map[string]float64{"blind": 30 << 10, "events": 60 << 10, "websocket": 80 << 10} {
		w := idleWorld(t)
		p := newMate(t, w, kind)
		p.open(t, 1)
		before := usageNow()
		p.open(t, streams)
		if each := (usageNow().all - before.all) / streams; each > most {
			t.Errorf("%s: a stream holds %.0f bytes, more than %.0f", kind, each, most)
		}
	}
}

// restTime is more than it takes a stream to come to rest.
const restTime = 250 * time.Millisecond

// TestStreamsGoOnAfterARest, whatever tells where they end, and so does the
// connection.
func TestStreamsGoOnAfterARest(t *testing.T) {
	t.Parallel()
	const whole = "data: one\n\ndata: two\n\n"
	for name, serve := range map[string]func(http.ResponseWriter, func()){
		"chunked": func(rw http.ResponseWriter, rest func()) {
			_, _ = io.WriteString(rw, whole[:5])
			rest()
			_, _ = io.WriteString(rw, whole[5:])
			rest()
		},
		"of known length": func(rw http.ResponseWriter, rest func()) {
			rw.Header().Set("Content-Length", strconv.Itoa(len(whole)))
			_, _ = io.WriteString(rw, whole[:5])
			rest()
			_, _ = io.WriteString(rw, whole[5:])
		},
		"compressed": func(rw http.ResponseWriter, rest func()) {
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			_, _ = io.WriteString(z, whole[:5])
			_ = z.Flush()
			rest()
			_, _ = io.WriteString(z, whole[5:])
			_ = z.Close()
			rest()
		},
		"nothing at first": func(rw http.ResponseWriter, rest func()) {
			rest()
			_, _ = io.WriteString(rw, whole)
		},
		"much behind it": func(rw http.ResponseWriter, rest func()) {
			_, _ = io.WriteString(rw, whole)
			rest()
			_, _ = io.WriteString(rw, strings.Repeat("x", 1<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, scrubbing)
			w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) {
				serve(rw, func() {
					_ = http.NewResponseController(rw).Flush()
					time.Sleep(restTime)
				})
			}, only(http1))
			c, br := w.tunnel("api.openai.com:443", "api.openai.com")
			for range 2 {
				res := exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\nAccept-Encoding: gzip\r\n\r\n")
				if got := text(t, res); !strings.HasPrefix(got, whole) {
					t.Fatalf("got %.100q", got)
				}
			}
		})
	}
}

// TestRestingStreamsEnd at once when either side goes, and what the service cut off
// does not look whole.
func TestRestingStreamsEnd(t *testing.T) {
	t.Parallel()
	t.Run("child", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		gone := make(chan struct{})
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
			close(gone)
		}, only(http1))
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
		time.Sleep(restTime)
		_ = c.NetConn().Close()
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Error("the service was not told that the child has gone")
		}
		if out := w.broker.last(); out.Err != "the client went away" {
			t.Errorf("recorded as %q", out.Err)
		}
	})
	t.Run("service", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, direct)
		w.serveRaw("localhost", func(c *tls.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhalf")
			time.Sleep(restTime)
			_ = c.NetConn().(*net.TCPConn).SetLinger(0)
			_ = c.NetConn().Close()
		})
		at := w.net.services["localhost:443"]
		_, port, err := net.SplitHostPort(at)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		local(w, "localhost", number)
		c, br := w.tunnel("localhost:"+port, "localhost")
		res := exchange(t, c, br, "GET / HTTP/1.1\r\nHost: localhost:"+port+"\r\n\r\n")
		if got, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q looks whole", got)
		}
	})
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		}, only(http1))
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		res := exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
		time.Sleep(restTime)
		w.broker.end(token)
		w.proxy.Reconsider()
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the stream went on, or ended as if it were whole")
		}
	})
}

// scrubbing has answers scrubbed.
func scrubbing(w *world, _ *proxy.Config) {
	g := *w.broker.grants[token]
	g.Unscrubbed = false
	w.broker.grants[token] = &g
}
