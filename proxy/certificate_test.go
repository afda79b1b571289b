package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/coder/websocket"
)

// members is an authority for client certificates.
type members struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newMembers(t testing.TB) *members {
	t.Helper()
	m := &members{t: t, pool: x509.NewCertPool()}
	var err error
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "members"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &m.key.PublicKey, m.key)
	if err != nil {
		t.Fatal(err)
	}
	if m.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	m.pool.AddCert(m.cert)
	return m
}

// member issues a certificate with its key, in PEM.
func (m *members) member(name string) authsome.Secret {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, m.cert, &key.PublicKey, m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	return authsome.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// wants makes a service ask for a certificate of m.
func (m *members) wants(versions ...uint16) func(*httptest.Server) {
	return func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, m.pool
		s.TLS.GetConfigForClient = nil
		for _, v := range versions {
			s.TLS.MinVersion, s.TLS.MaxVersion = v, v
		}
	}
}

const bank = "api.bank.example"

// certified presents a certificate, except on paths that begin with /open.
func certified(cert *authsome.Secret) map[string]func(*authsome.Request) *authsome.Resolution {
	return map[string]func(*authsome.Request) *authsome.Resolution{bank: func(r *authsome.Request) *authsome.Resolution {
		if strings.HasPrefix(r.Path, "/open") {
			return nil
		}
		return &authsome.Resolution{Certificate: *cert}
	}}
}

// whoami answers with the name in the client's certificate.
func whoami(rw http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		if c, err := websocket.Accept(rw, r, nil); err == nil {
			_ = c.Write(r.Context(), websocket.MessageText, []byte(peer(r)))
			_ = c.Close(websocket.StatusNormalClosure, "")
		}
		return
	}
	_, _ = fmt.Fprint(rw, peer(r), " by ", r.Proto)
}

func peer(r *http.Request) string {
	if len(r.TLS.PeerCertificates) == 0 {
		return "nobody"
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

// TestClientCertificate: the connection's certificate is presented to the
// service, in TLS 1.2 and 1.3, over HTTP/1.1, HTTP/2 and WebSocket, to clients
// that know nothing of it.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	m := newMembers(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, upstream := range []string{http1, http2} {
			cert := m.member("alice")
			w := newSlotted(t, certified(&cert))
			w.serve(bank, whoami, only(upstream), m.wants(version))
			for _, child := range []string{http1, http2} {
				want := map[string]string{http1: "alice by HTTP/1.1", http2: "alice by HTTP/2.0"}[upstream]
				for range 2 {
					if got := text(t, w.do(w.client(child), http.MethodPost, "https://"+bank+"/", strings.NewReader("x"))); got != want {
						t.Errorf("%s to %s, TLS %x: %s", child, upstream, version, got)
					}
				}
			}
			if upstream == http2 {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			c, _, err := websocket.Dial(ctx, "wss://"+bank+"/", &websocket.DialOptions{HTTPClient: w.client(http1)})
			if err != nil {
				t.Fatal(err)
			}
			if _, got, err := c.Read(ctx); err != nil || string(got) != "alice" {
				t.Errorf("WebSocket: %s, %v", got, err)
			}
			_ = c.CloseNow()
		}
	}
}

// TestClientCertificateStaysWithItsConnection: no request of another account, of
// another path, or after the next login is sent over a connection that was made
// with it.
func TestClientCertificateStaysWithItsConnection(t *testing.T) {
	t.Parallel()
	m := newMembers(t)
	cert := m.member("alice")
	hosts := certified(&cert)
	w := newSlotted(t, hosts)
	w.serve(bank, whoami, m.wants(), func(s *httptest.Server) { s.TLS.ClientAuth = tls.VerifyClientCertIfGiven })
	ask := func(path string) string {
		name, _, _ := strings.Cut(text(t, w.get(w.client(http1), "https://"+bank+path)), " ")
		return name
	}
	for _, path := range []string{"/", "/open", "/", "/open/x"} {
		want := "alice"
		if strings.HasPrefix(path, "/open") {
			want = "nobody"
		}
		if got := ask(path); got != want {
			t.Errorf("%s was asked for by %s", path, got)
		}
	}
	cert = m.member("bob")
	w.broker.set("slotted", &account{private: true}) // another login
	if got := ask("/"); got != "bob" {
		t.Errorf("after another login, the service saw %s", got)
	}
	alice, bob := m.member("alice"), cert
	hosts[bank] = func(r *authsome.Request) *authsome.Resolution {
		if r.Header.Get("Account") == "alice" {
			return &authsome.Resolution{Connection: "alice", Certificate: alice}
		}
		return &authsome.Resolution{Connection: "bob", Certificate: bob}
	}
	for _, who := range []string{"alice", "bob", "alice"} {
		if got := text(t, w.get(w.client(http2), "https://"+bank+"/", "Account: "+who)); !strings.HasPrefix(got, who+" ") {
			t.Errorf("as %s, the service saw %s", who, got)
		}
	}
}

// TestClientCertificateRefused: a service that does not take it, and what it
// says, is named in either version of TLS; so is one that wants one of a
// connection without.
func TestClientCertificateRefused(t *testing.T) {
	t.Parallel()
	m, strangers := newMembers(t), newMembers(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, upstream := range []string{http1, http2} {
			cert := strangers.member("mallory")
			w := newSlotted(t, certified(&cert))
			var reached atomic.Bool
			w.serve(bank, func(http.ResponseWriter, *http.Request) { reached.Store(true) }, only(upstream), m.wants(version))
			got := problem(t, w.get(w.client(http1), "https://"+bank+"/"), 502, "upstream_tls")
			if !strings.Contains(got["cause"].(string), "certificate") || got["failed"] != "upstream" || got["fix"] != "authsome login slotted --connection default --force" {
				t.Errorf("TLS %x, %s: %v", version, upstream, got)
			}
			got = problem(t, w.get(w.client(http1), "https://"+bank+"/open"), 502, "upstream_tls")
			if !strings.Contains(got["cause"].(string), "the server ended TLS") || strings.Contains(got["fix"].(string), "login") {
				t.Errorf("TLS %x, %s, without a certificate: %v", version, upstream, got)
			}
			if reached.Load() {
				t.Error("the service answered all the same")
			}
		}
	}
}

// TestClientCertificateThatIsNone: what cannot be read is named before anything
// is dialled, and no part of it is shown.
func TestClientCertificateThatIsNone(t *testing.T) {
	t.Parallel()
	m := newMembers(t)
	one, other := m.member("one").Reveal(), m.member("other").Reveal()
	certOf, keyOf := one[:strings.Index(one, "-----BEGIN PRIVATE")], other[strings.Index(other, "-----BEGIN PRIVATE"):]
	for _, bad := range []string{"canary-certificate", certOf, keyOf, certOf + keyOf, "-----BEGIN canary-certificate-----\n"} {
		cert := authsome.NewSecret(bad)
		w := newSlotted(t, certified(&cert))
		w.serve(bank, whoami, m.wants())
		got := problem(t, w.get(w.client(http1), "https://"+bank+"/"), 401, "reauthentication_required")
		if got["fix"] != "authsome login slotted --connection default --force" || strings.Contains(fmt.Sprint(got, w.log.String()), "canary") {
			t.Errorf("%v", got)
		}
		if w.net.dialled(bank+":443") != 0 {
			t.Error("the service was dialled")
		}
	}
}

// TestClientCertificateWithOpenSSL: another implementation of the other side.
func TestClientCertificateWithOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	m := newMembers(t)
	cert := m.member("alice")
	w := newSlotted(t, certified(&cert))
	leaf, err := w.upstream.Leaf(bank)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		var b bytes.Buffer
		for _, block := range blocks {
			_ = pem.Encode(&b, block)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	own := write("own.pem", &pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	trusted := write("trusted.pem", &pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Raw})
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		_ = ln.Close()
		cmd := exec.Command(openssl, "s_server", "-accept", addr, "-www", "-quiet", version, "-cert", own, "-CAfile", trusted, "-Verify", "1", "-verify_return_error")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if c, err := net.Dial("tcp", addr); err == nil {
				_ = c.Close()
				break
			}
		}
		w.net.add(net.JoinHostPort(bank, strconv.Itoa(443)), addr)
		if got := text(t, w.get(w.client(http1), "https://"+bank+"/")); !strings.Contains(got, "CN=alice") && !strings.Contains(got, "CN = alice") {
			t.Errorf("%s: %s", version, got)
		}
		got := problem(t, w.get(w.client(http1), "https://"+bank+"/open"), 502, "upstream_tls")
		if !strings.Contains(got["cause"].(string), "the server ended TLS") {
			t.Errorf("%s, without a certificate: %v", version, got)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		w.broker.set("slotted", &account{private: true}) // a fresh pool
	}
}
