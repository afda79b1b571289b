package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// yardstickConfig is what the yardstick is started with.
type yardstickConfig struct {
	Origin           string // its address
	Credential       string
	Certificate, Key []byte // of the root, PEM, to sign with and to trust
}

// playYardstick is the least that an interceptor on net/http does: CONNECT, TLS
// with a certificate for the host, one header overwritten, a pooled connection
// to the origin. It knows no routes, keeps no audit and looks into nothing.
func playYardstick(in *json.Decoder, out *json.Encoder) error {
	var c yardstickConfig
	if err := in.Decode(&c); err != nil {
		return err
	}
	y, err := newYardstick(c)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	inner := newHandoff(ln.Addr())
	go accept(ln, func(conn net.Conn) { y.admit(conn, inner) })
	srv := &http.Server{Handler: y, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(inner) }()
	if err := out.Encode(originReady{ln.Addr().String()}); err != nil {
		return err
	}
	var nothing any
	_ = in.Decode(&nothing) // until the input ends
	return nil
}

type yardstick struct {
	bearer    string
	root      *root
	key       *ecdsa.PrivateKey // of all certificates
	config    *tls.Config
	transport *http.Transport
	buffers   sync.Pool

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

func newYardstick(c yardstickConfig) (*yardstick, error) {
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the root's key is of another kind")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	y := &yardstick{
		bearer: "Bearer " + c.Credential, root: &root{pair.Leaf, signer}, key: key, leaves: map[string]*tls.Certificate{},
		buffers: sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }},
	}
	y.config = &tls.Config{
		NextProtos: []string{"h2", "http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519},
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return y.leaf(h.ServerName) },
	}
	var d net.Dialer
	y.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, c.Origin)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots, CurvePreferences: []tls.CurveID{tls.X25519}},
		MaxIdleConnsPerHost: 256, MaxIdleConns: 1024, DisableCompression: true, Protocols: new(http.Protocols),
	}
	y.transport.Protocols.SetHTTP1(true)
	return y, nil
}

func (y *yardstick) admit(conn net.Conn, to *handoff) {
	admit(conn, y.config, to)
}

func (y *yardstick) leaf(host string) (*tls.Certificate, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if c := y.leaves[host]; c != nil {
		return c, nil
	}
	der, err := y.root.sign(&y.key.PublicKey, host)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: y.key}
	y.leaves[host] = c
	return c, nil
}

// ServeHTTP overwrites the credential and passes everything on.
func (y *yardstick) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header["Authorization"] = []string{y.bearer}
	up := &http.Request{
		Method: r.Method, URL: &url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery},
		Header: r.Header, Host: r.Host, Body: r.Body, ContentLength: r.ContentLength,
	}
	if r.ContentLength == 0 {
		up.Body = http.NoBody
	}
	res, err := y.transport.RoundTrip(up.WithContext(r.Context()))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusSwitchingProtocols {
		switchProtocols(w, res)
		return
	}
	h := w.Header()
	for k, v := range res.Header {
		h[k] = v
	}
	w.WriteHeader(res.StatusCode)
	buf := y.buffers.Get().(*[]byte)
	defer y.buffers.Put(buf)
	rc := http.NewResponseController(w)
	for {
		n, err := res.Body.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return
			}
			if res.ContentLength < 0 {
				_ = rc.Flush()
			}
		}
		if err != nil {
			return
		}
	}
}

func switchProtocols(w http.ResponseWriter, res *http.Response) {
	up, ok := res.Body.(io.ReadWriter)
	if !ok {
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	res.Body = nil
	if err := res.Write(conn); err != nil {
		return
	}
	go func() { _, _ = io.Copy(up, rw) }()
	_, _ = io.Copy(conn, up)
}
