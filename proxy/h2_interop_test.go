package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// doorOf is a port behind which there is the tunnel to target, for clients that
// know no proxies.
func (w *world) doorOf(target string) string {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = c.Close() }()
				up, err := net.Dial("tcp", w.addr)
				if err != nil {
					return
				}
				defer func() { _ = up.Close() }()
				_, _ = fmt.Fprintf(up, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, basic(token))
				answer := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
				if _, err := io.ReadFull(up, answer); err != nil {
					return
				}
				all.Go(func() {
					_, _ = io.Copy(up, c)
					_ = up.(*net.TCPConn).CloseWrite()
				})
				_, _ = io.Copy(c, up)
			})
		}
	})
	w.t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

// runClient runs a program and gives what it printed.
func runClient(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, errs.String())
	}
	return string(out)
}

// bodies is a service with answers and bodies of all sizes.
func bodies(rw http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/up":
		if err := equalPattern(r.Body, 3<<20); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(rw, "all of it")
	case "/down":
		_, _ = io.Copy(rw, &pattern{n: 3 << 20})
	case "/early":
		rw.WriteHeader(http.StatusRequestEntityTooLarge)
	default:
		echo(rw, r)
	}
}

// caFile holds the authority that the child trusts.
func (w *world) caFile() string {
	path := filepath.Join(w.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, w.ours.CertPEM(), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// TestCurlOverHTTP2: as agents use it, with bodies of both directions.
func TestCurlOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", bodies)
	file := filepath.Join(t.TempDir(), "up")
	up, err := io.ReadAll(&pattern{n: 3 << 20})
	if err == nil {
		err = os.WriteFile(file, up, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	curl := func(args ...string) string {
		t.Helper()
		return runClient(t, "curl", append([]string{
			"-sS", "--http2", "--proxy", "http://authsome:" + token + "@" + w.addr, "--cacert", w.caFile(), "-w", "\n%{http_version} %{http_code}",
		}, args...)...)
	}
	if got := curl("https://api.openai.com/"); !strings.Contains(got, "Bearer "+openaiKey) || !strings.HasSuffix(got, "\n2 200") {
		t.Errorf("%s", got)
	}
	if got := curl("-T", file, "https://api.openai.com/up"); got != "all of it\n2 200" {
		t.Errorf("%s", got)
	}
	if got := curl("-T", file, "-H", "Expect: 100-continue", "https://api.openai.com/up"); got != "all of it\n2 200" {
		t.Errorf("%s", got)
	}
	if got := curl("-m", "20", "-T", file, "https://api.openai.com/early"); got != "\n2 413" {
		t.Errorf("%s", got)
	}
	if got := curl("https://api.openai.com/down", "-o", "/dev/null", "-w", "%{size_download}"); got != fmt.Sprint(3<<20) {
		t.Errorf("%s bytes", got)
	}
	if got := curl("-I", "https://api.openai.com/"); !strings.Contains(got, "HTTP/2 200") {
		t.Errorf("%s", got)
	}
	// Many at once on one connection, some of them given up.
	args := []string{"-Z", "--parallel-max", "40", "-o", "/dev/null", "https://api.openai.com/down?[1-40]"}
	if got := curl(args...); strings.Count(got, "2 200") != 40 {
		t.Errorf("%s", got)
	}
}

// TestNghttpOverHTTP2: the reference implementation, which is strict with servers.
func TestNghttpOverHTTP2(t *testing.T) {
	if testing.Short() {
		t.Skip("Go's own client does the same")
	}
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", bodies)
	door := w.doorOf("api.openai.com:443")
	_, port, _ := net.SplitHostPort(door)
	// Its TLS takes the name from the URL, so that the tunnel's host is given there.
	got := runClient(t, "nghttp", "-v", "--no-dep", "-m", "20", "-H", ":authority: api.openai.com", "https://"+door+"/down")
	if strings.Count(got, "END_STREAM") < 20 || strings.Contains(got, "GOAWAY frame <length=8, flags=0x00, stream_id=0>\n          (last_stream_id=0, error_code=PROTOCOL_ERROR") {
		t.Errorf("port %s: %s", port, got[:min(len(got), 2000)])
	}
}

// TestH2loadOverHTTP2: thousands of requests, a hundred at once on each of several
// connections; each comes back whole.
func TestH2loadOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", bodies)
	door := w.doorOf("api.openai.com:443")
	n := "2000"
	if testing.Short() {
		n = "200"
	}
	got := runClient(t, "h2load", "-n", n, "-c", "4", "-m", "100", "-H", ":authority: api.openai.com", "https://"+door+"/")
	if !strings.Contains(got, n+" succeeded, 0 failed, 0 errored") || !strings.Contains(got, n+" 2xx") {
		t.Errorf("%s", got)
	}
}

// TestNodeOverHTTP2: Node's own client, with trailers, an upload, pings, and
// streams that are given up.
func TestNodeOverHTTP2(t *testing.T) {
	if testing.Short() {
		t.Skip("Go's own client does the same")
	}
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", bodies)
	script := filepath.Join(t.TempDir(), "client.cjs")
	if err := os.WriteFile(script, []byte(`
const [addr, ca, auth] = process.argv.slice(2), [host, port] = addr.split(':')
const http = require('http'), tls = require('tls'), http2 = require('http2'), fs = require('fs')
http.request({host, port, method: 'CONNECT', path: 'api.openai.com:443', headers: {'Proxy-Authorization': auth}}).on('connect', (res, socket) => {
  const client = http2.connect('https://api.openai.com', {createConnection: () => tls.connect({socket, servername: 'api.openai.com', ALPNProtocols: ['h2'], ca: fs.readFileSync(ca)})})
  const ask = (headers, body) => new Promise((resolve, reject) => {
    const req = client.request(headers, {endStream: body === undefined})
    let status, n = 0, text = ''
    req.on('response', h => { status = h[':status'] }).on('data', d => { n += d.length; if (n < 4096) text += d }).on('end', () => resolve({status, n, text})).on('error', reject)
    if (body !== undefined) req.end(body)
  })
  ;(async () => {
    const seen = JSON.parse((await ask({':path': '/', 'X-Mine': 'a', cookie: ['b=1', 'c=2']})).text)
    const many = await Promise.all(Array.from({length: 50}, () => ask({':path': '/down'})))
    const up = await ask({':method': 'POST', ':path': '/up'}, Buffer.alloc(10))
    for (let i = 0; i < 20; i++) { const r = client.request({':path': '/down'}); r.on('error', () => {}); r.close(http2.constants.NGHTTP2_CANCEL) }
    await new Promise((ok, no) => client.ping((err) => err ? no(err) : ok()))
    const after = await ask({':path': '/'})
    console.log(JSON.stringify({auth: seen.Header.Authorization, cookie: seen.Header.Cookie, many: many.every(r => r.status === 200 && r.n === 3 << 20), up: up.status, after: after.status}))
    client.close()
  })().catch(e => { console.error(e); process.exit(1) })
}).end()
`), 0o600); err != nil {
		t.Fatal(err)
	}
	auth := strings.TrimSuffix(strings.TrimPrefix(basic(token), "Proxy-Authorization: "), "\r\n")
	got := runClient(t, "node", script, w.addr, w.caFile(), auth)
	if want := `{"auth":["Bearer ` + openaiKey + `"],"cookie":["b=1; c=2"],"many":true,"up":400,"after":200}` + "\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestManyStreamsOverHTTP2: Go's client with more at once than one connection
// allows, with bodies that come back, and some that are given up.
func TestManyStreamsOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Who", r.Header.Get("X-Who"))
		_ = http.NewResponseController(rw).EnableFullDuplex()
		_, _ = io.Copy(rw, r.Body)
	})
	c := w.client(http2)
	many, each := 300, 5
	if testing.Short() {
		many = 100
	}
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			for k := range each {
				who, size := fmt.Sprintf("%d/%d", i, k), int64(i*k*97)
				ctx, cancel := context.WithCancel(context.Background())
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.openai.com/", &pattern{n: size})
				if err != nil {
					t.Error(err)
				}
				req.Header.Set("X-Who", who)
				// With as many as this, net/http may choose a connection that has no place
				// for one more when the stream is to be opened.
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(&pattern{n: size}), nil }
				if i%10 == 9 {
					time.AfterFunc(time.Duration(k)*time.Millisecond, cancel)
				}
				res, err := c.Do(req)
				if err != nil {
					if i%10 != 9 {
						t.Error(err)
					}
					cancel()
					continue
				}
				if res.StatusCode != 200 || res.Header.Get("X-Who") != who {
					t.Errorf("%s was answered %s of %s", who, res.Status, res.Header.Get("X-Who"))
				}
				if err := equalPattern(res.Body, size); err != nil && i%10 != 9 {
					t.Errorf("%s: %v", who, err)
				}
				_ = res.Body.Close()
				cancel()
			}
		})
	}
	all.Wait()
	res := w.get(c, "https://api.openai.com/", "X-Who: last")
	if res.Header.Get("X-Who") != "last" {
		t.Errorf("%s", res.Status)
	}
}

// TestAuthorityOverHTTP2: :authority and Host are both held to the host of the
// tunnel, and what does not agree is in the audit.
func TestAuthorityOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reached := false
	w.serve("api.openai.com", func(http.ResponseWriter, *http.Request) { reached = true })
	door := w.doorOf("api.openai.com:443")
	for _, host := range []string{"evil.example", "api.openai.com:444", "api.openai.com.evil.example"} {
		req, err := http.NewRequest(http.MethodGet, "https://api.openai.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := w.client(http2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		problem(t, res, http.StatusMisdirectedRequest, "misdirected")
		_ = res.Body.Close()
		got := runClient(t, "nghttp", "-H", ":authority: api.openai.com", "-H", "host: "+host, "-v", "--no-dep", "https://"+door+"/")
		if !strings.Contains(got, ":status: 421") || !strings.Contains(got, "authsome-error: misdirected") {
			t.Errorf("%s: %s", host, got)
		}
	}
	if reached {
		t.Error("the service was reached")
	}
	if ends := w.broker.ends(6); ends[0].out.Status != http.StatusMisdirectedRequest {
		t.Errorf("%+v", ends[0])
	}
}
