package cli_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// site is an MCP server whose logins are made on another site, with what leads
// there.
type site struct {
	via         string // address of a proxy
	certificate []byte // DER
	asked       atomic.Int32
}

// elsewhere starts https://mcp.tools.example/mcp, which names
// https://login.elsewhere.example.
func elsewhere(t *testing.T) *site {
	t.Helper()
	s := &site{}
	answer := func(w http.ResponseWriter, status int, v map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("mcp.tools.example/mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="https://mcp.tools.example/.well-known/oauth-protected-resource/mcp"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	mux.HandleFunc("mcp.tools.example/.well-known/oauth-protected-resource/mcp", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{
			"resource": "https://mcp.tools.example/mcp", "authorization_servers": []string{"https://login.elsewhere.example"},
		})
	})
	const server = "https://login.elsewhere.example"
	mux.HandleFunc("login.elsewhere.example/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{
			"issuer": server, "authorization_endpoint": server + "/authorize", "token_endpoint": server + "/token",
			"registration_endpoint": server + "/register", "response_types_supported": []string{"code"},
			"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none"},
		})
	})
	mux.HandleFunc("login.elsewhere.example/register", func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		answer(w, http.StatusCreated, map[string]any{"client_id": "registered", "token_endpoint_auth_method": "none"})
	})
	mux.HandleFunc("login.elsewhere.example/token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("resource") != "https://mcp.tools.example/mcp" || r.PostFormValue("code") != "canary-code" {
			answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_target"})
			return
		}
		answer(w, http.StatusOK, map[string]any{"access_token": "canary-token", "token_type": "Bearer"})
	})

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mcp.tools.example", "login.elsewhere.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if s.certificate, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{s.certificate}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	s.via = ln.Addr().String()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go tunnel(c, srv.Listener.Addr().String())
		}
	}()
	return s
}

// tunnel answers one CONNECT, whatever its host.
func tunnel(c net.Conn, to string) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	if req, err := http.ReadRequest(r); err != nil || req.Method != http.MethodConnect {
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(up, r); _ = up.Close() }()
	_, _ = io.Copy(c, up)
}

// TestLoginByAddress: without a terminal the question whether another site may be
// asked is shown, and answered on its page.
func TestLoginByAddress(t *testing.T) {
	t.Parallel()
	p, s := newPerson(t), elsewhere(t)
	p.lives(s.via, s.certificate)
	w := p.begins("login", "https://mcp.tools.example/mcp", "--name", "tools", "--no-browser")
	w.says("mcp.tools.example says that its logins are made at login.elsewhere.example, which is another site.")
	page := address(t, w.says("Visit: http://127.0.0.1:"))
	id := loginID(t, page)
	if s.asked.Load() != 0 {
		t.Error("the server was told of a client before anybody agreed")
	}
	doc := document(t, p.must("", "login", "--status", id))
	want(t, doc, map[string]any{
		"step": "confirm", "provider": "tools", "authorization_server": "login.elsewhere.example", "resource": "mcp.tools.example", "auth_url": page,
	})
	if c, _, _ := p.does("", "inspect", "tools"); c != 4 {
		t.Errorf("the provider exists before anybody agreed: %d", c)
	}
	if _, err := p.client().ConfirmLogin(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(address(t, w.says("Visit: https://login.elsewhere.example/authorize?")))
	if err != nil {
		t.Fatal(err)
	}
	q := at.Query()
	back := q.Get("redirect_uri") + "?" + url.Values{"code": {"canary-code"}, "state": {q.Get("state")}}.Encode()
	if page := visits(t, back); !strings.HasPrefix(page, "200") || strings.Contains(page, canary) {
		t.Errorf("the browser shows %s", page)
	}
	if c, stdout, stderr := w.ends(); c != 0 || !strings.Contains(stdout, "Logged in to tools (default).") {
		t.Errorf("exit code %d, %s%s", c, stdout, stderr)
	}
	want(t, document(t, p.must("", "inspect", "tools")), map[string]any{"name": "tools", "source": "custom"})
}
