package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

const (
	// routed is a provider's host: requests are intercepted and injected.
	routed = "api.bench.example"
	// blind is nobody's: requests go through a tunnel.
	blind = "blind.bench.example"
)

// origin is the host behind all targets: 1 KB of JSON for the real credential,
// 401 otherwise, and bulk.
func origin(n *internet.Internet) {
	body := []byte(`{"data":"` + strings.Repeat("x", 1000) + `"}`)
	bulk := make([]byte, 64<<10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/small":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		case "/bytes":
			for range 64 << 20 / len(bulk) {
				if _, err := w.Write(bulk); err != nil {
					return
				}
			}
		case "/sink":
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	n.Handle(routed, h)
	n.Handle(blind, h)
	n.Quiet()
}

// target is one way to the origin.
type target struct {
	name  string
	host  string
	token string
	proxy *url.URL
	roots *x509.CertPool
}

// client makes a client of a target; h2 has it insist on HTTP/2.
func (t target) client(keepAlive, h2 bool) *http.Client {
	tr := &http.Transport{
		Proxy: http.ProxyURL(t.proxy), DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: 100,
		DisableCompression: true, ReadBufferSize: 64 << 10,
		TLSClientConfig: &tls.Config{RootCAs: t.roots, CurvePreferences: []tls.CurveID{tls.X25519}},
		Protocols:       new(http.Protocols),
	}
	if h2 {
		tr.Protocols.SetHTTP2(true)
	} else {
		tr.Protocols.SetHTTP1(true)
	}
	return &http.Client{Transport: tr}
}

// workload is one thing to measure; its figure is operations or bytes per
// second.
type workload struct {
	name    string
	clients int
	h2      bool
	fresh   bool // a connection for every request
	path    string
	upload  int
	floor   string // what docs/performance.md aims at, as a ratio to direct
}

var workloads = []workload{
	{name: "keep-alive, 1 client", clients: 1, path: "/small", floor: ".32"},
	{name: "keep-alive, 16 clients", clients: 16, path: "/small", floor: ".36"},
	{name: "new connection each, 1 client", clients: 1, fresh: true, path: "/small", floor: ".68"},
	{name: "new connection each, 8 clients", clients: 8, fresh: true, path: "/small", floor: ".75"},
	{name: "HTTP/2, 1 connection × 16", clients: 16, h2: true, path: "/small", floor: ".48"},
	{name: "download, 1 client", clients: 1, path: "/bytes", floor: ".44"},
	{name: "upload, 1 client", clients: 1, path: "/sink", upload: 64 << 20, floor: ".48"},
}

func proxies(w *harness.World, rounds int, only *regexp.Regexp) error {
	// One run holds the grant for all measurements.
	cmd := w.Command("run", "--", "sh", "-c", `echo "$HTTPS_PROXY"; cat "$SSL_CERT_FILE"; echo END; exec sleep 3600`).Cmd()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func(c *exec.Cmd) { _ = c.Process.Kill(); _ = c.Wait() }(cmd)
	br := bufio.NewReader(out)
	line, err := br.ReadString('\n')
	if err != nil {
		return err
	}
	var pem bytes.Buffer
	for {
		l, err := br.ReadString('\n')
		if err != nil {
			return err
		}
		if l == "END\n" {
			break
		}
		pem.WriteString(l)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.Bytes())
	ours, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	straight, err := url.Parse(w.Internet.Proxy())
	if err != nil {
		return err
	}
	targets := []target{
		{"direct", routed, key, straight, roots},
		{"blind tunnel", blind, key, ours, roots},
		{"authsome", routed, "authsome-proxy-managed", ours, roots},
	}
	fmt.Println("| rate as a ratio to direct | blind tunnel | authsome | floor | direct | CPU of authsome |")
	fmt.Println("|---|--:|--:|--:|--:|--:|")
	for _, wl := range workloads {
		if only != nil && !only.MatchString(wl.name) {
			continue
		}
		var tunnel, inject, absolute, used []float64
		for round := range rounds {
			rates := make([]float64, len(targets))
			for i := range targets {
				at := (i + round) % len(targets)
				before, err := cpu(w.DaemonPID())
				if err != nil {
					return err
				}
				n, took, err := measure(targets[at], wl)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", wl.name, targets[at].name, err)
				}
				rates[at] = float64(n) / took.Seconds()
				if at == 2 {
					after, err := cpu(w.DaemonPID())
					if err != nil {
						return err
					}
					used = append(used, (after-before).Seconds()/float64(n))
				}
			}
			absolute = append(absolute, rates[0])
			tunnel, inject = append(tunnel, rates[1]/rates[0]), append(inject, rates[2]/rates[0])
		}
		direct := fmt.Sprintf("%.0f/s", median(absolute))
		cost := fmt.Sprintf("%.0f ms per 1,000", median(used)*1e6)
		if wl.path != "/small" {
			direct = fmt.Sprintf("%.0f MB/s", median(absolute)/1e6)
			cost = fmt.Sprintf("%.2f s per GB", median(used)*1e9)
		}
		fmt.Printf("| %s | %.2f | %.2f | %s | %s | %s |\n", wl.name, median(tunnel), median(inject), wl.floor, direct, cost)
	}
	return nil
}

// measure runs a workload for a while in a closed loop and counts requests, or
// bytes for bulk.
func measure(t target, wl workload) (n int64, took time.Duration, err error) {
	const duration = 1500 * time.Millisecond
	c := t.client(!wl.fresh, wl.h2)
	defer c.CloseIdleConnections()
	one := func(ctx context.Context) (int64, error) {
		method, body := http.MethodGet, io.Reader(nil)
		if wl.upload > 0 {
			method, body = http.MethodPost, io.LimitReader(zeros{}, int64(wl.upload))
		}
		req, err := http.NewRequestWithContext(ctx, method, "https://"+t.host+wl.path, body)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+t.token)
		resp, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 64<<10))
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("status %s", resp.Status)
		}
		switch {
		case wl.upload > 0:
			return int64(wl.upload), nil
		case wl.path == "/bytes":
			return got, nil
		}
		return 1, nil
	}
	// Warm up: connections, certificates, pools.
	for range 3 {
		if _, err := one(context.Background()); err != nil {
			return 0, 0, err
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for range wl.clients {
		wg.Go(func() {
			for time.Since(began) < duration {
				k, oneErr := one(context.Background())
				mu.Lock()
				n += k
				if oneErr != nil && err == nil {
					err = oneErr
				}
				mu.Unlock()
				if oneErr != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return n, time.Since(began), err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
