package netguard

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
)

// says is a proxy that sends parts, each after it has been asked something, and
// then nothing; it hangs up when the last part is empty.
func says(t *testing.T, parts ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			for _, part := range parts {
				if _, err := c.Read(buf); err != nil || part == "" {
					break
				}
				_, _ = io.WriteString(c, part)
			}
			if parts[len(parts)-1] != "" {
				_, _ = io.Copy(io.Discard, c) // until the other side goes
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// TestProxiesThatDoNotWork: whatever one answers, the error names it, says why
// in our words, and holds nothing of the account.
func TestProxiesThatDoNotWork(t *testing.T) {
	user := url.UserPassword("me", "hunter2")
	head := "\x05\x00"
	for name, tt := range map[string]struct {
		scheme string
		user   *url.Userinfo
		parts  []string
		want   string
	}{
		"not SOCKS":                {"socks5h", nil, []string{"HTTP/1.1 400 hunter2\r\n\r\n"}, "does not speak SOCKS5"},
		"SOCKS4":                   {"socks5h", nil, []string{"\x04\x5b"}, "does not speak SOCKS5"},
		"wants a password":         {"socks5h", nil, []string{"\x05\xff"}, "wants a user name and a password"},
		"wants something else":     {"socks5h", user, []string{"\x05\xff"}, "another authentication"},
		"chooses what was not on":  {"socks5h", nil, []string{"\x05\x02"}, "another authentication"},
		"chooses GSSAPI":           {"socks5h", user, []string{"\x05\x01"}, "another authentication"},
		"refuses":                  {"socks5h", user, []string{"\x05\x02", "\x01\x01"}, "refused the user name and the password"},
		"hangs up on the password": {"socks5h", user, []string{"\x05\x02", ""}, "refused the user name and the password"},
		"its rules":                {"socks5h", nil, []string{head, "\x05\x02\x00\x01"}, "its rules do not allow it"},
		"refused there":            {"socks5h", nil, []string{head, "\x05\x05\x00\x01"}, "the connection was refused there"},
		"a reply of its own":       {"socks5h", nil, []string{head, "\x05\x63\x00\x01"}, "number 99"},
		"an address of no kind":    {"socks5h", nil, []string{head, "\x05\x00\x00\x09"}, "does not speak SOCKS5"},
		"another version later":    {"socks5h", nil, []string{head, "\x04\x00\x00\x01"}, "does not speak SOCKS5"},
		"hangs up":                 {"socks5h", nil, []string{head, ""}, "the connection ended"},
		"not HTTP":                 {"http", user, []string{"hunter2\r\n\r\n"}, "not HTTP"},
		"403":                      {"http", user, []string{"HTTP/1.1 403 hunter2\r\n\r\n"}, "it answered 403"},
		"407":                      {"http", user, []string{"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"}, "refused the user name"},
		"407, Negotiate":           {"http", user, []string{"HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n"}, "another authentication than Basic"},
		"407, both":                {"http", nil, []string{"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM, basic realm=x\r\n\r\n"}, "wants a user name"},
		"a header without an end":  {"http", nil, []string{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxAnswer)}, "not HTTP"},
		"no TLS":                   {"https", nil, []string{"HTTP/1.1 200 OK\r\n\r\n"}, "does not speak TLS"},
		"of no scheme":             {"gopher", user, []string{"x"}, "its scheme"},
	} {
		via := &url.URL{Scheme: tt.scheme, Host: says(t, tt.parts...), User: tt.user}
		conn, err := ProxyDialer{}.Dial(t.Context(), via, "host.example", 443)
		var pe *ProxyError
		if !errors.As(err, &pe) || pe.Proxy != via.Host || !strings.Contains(pe.Cause, tt.want) || strings.Contains(err.Error(), "hunter2") || conn != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSilentProxy is given up with the context.
func TestSilentProxy(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5h"} {
		ctx, cancel := context.WithCancel(t.Context())
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			cancel()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
		if _, err := (ProxyDialer{}).Dial(ctx, &url.URL{Scheme: scheme, Host: ln.Addr().String()}, "host.example", 443); err == nil {
			t.Errorf("%s: connected", scheme)
		}
		_ = ln.Close()
		cancel()
	}
}

// TestSOCKSAddresses: what is asked for, and who resolves names. Private ones
// are not even asked for where a secret would go there.
func TestSOCKSAddresses(t *testing.T) {
	asked := make(chan string, 10)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 512)
			_, _ = io.ReadFull(c, buf[:3])
			_, _ = io.WriteString(c, "\x05\x00")
			n, _ := c.Read(buf)
			asked <- string(buf[3:n])
			// Each kind of bound address, and a service that speaks first.
			_, _ = io.WriteString(c, "\x05\x00\x00\x03\x01x\x00\x00hello")
			_ = c.Close()
		}
	}()
	for _, tt := range []struct {
		scheme, host string
		public       bool
		want         string // "" for refused
	}{
		{"socks5h", "host.example", true, "\x03\x0chost.example\x01\xbb"},
		{"socks5", "9.9.9.9", true, "\x01\x09\x09\x09\x09\x01\xbb"},
		{"socks5h", "::ffff:9.9.9.9", true, "\x01\x09\x09\x09\x09\x01\xbb"},
		{"socks5h", "2606:4700::1111", true, "\x04\x26\x06\x47\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x11\x11\x01\xbb"},
		{"socks5", "localhost", false, "\x01\x7f\x00\x00\x01\x01\xbb"},
		{"socks5h", "localhost", false, "\x03\x09localhost\x01\xbb"},
		{"socks5", "localhost", true, ""},
		{"socks5h", "10.0.0.1", true, ""},
		{"socks5h", "2130706433", true, ""},
	} {
		via := &url.URL{Scheme: tt.scheme, Host: ln.Addr().String()}
		conn, err := ProxyDialer{Public: tt.public}.Dial(t.Context(), via, tt.host, 443)
		if tt.want == "" {
			if !errors.Is(err, ErrPrivate) || len(asked) != 0 {
				t.Errorf("%s %s: %v, and it was asked", tt.scheme, tt.host, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s %s: %v", tt.scheme, tt.host, err)
		}
		first := <-asked
		if tt.host == "localhost" && tt.scheme == "socks5" && strings.HasPrefix(first, "\x04") {
			first = tt.want // ::1 first, on machines that have it
		}
		if got, err := io.ReadAll(conn); first != tt.want || string(got) != "hello" || err != nil {
			t.Errorf("%s %s: asked for %q, then %q, %v", tt.scheme, tt.host, first, got, err)
		}
		_ = conn.Close()
	}
}
