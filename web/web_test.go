package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/authsome/authsome"
)

// everywhere is one address of each kind.
func everywhere(l *authsome.Login) []string {
	return []string{"/", "/health", "/ready", "/static/style.css", "/nothing", authsome.CallbackPath + "?state=x", path(l), link(l)}
}

func TestHost(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	for _, h := range []string{"127.0.0.1:7998", "localhost:7998", "[::1]:7998"} {
		if a := b.ask("GET", "/", "", "Host", h); a.StatusCode != http.StatusOK {
			t.Errorf("Host %s: status %d", h, a.StatusCode)
		}
	}
	before := b.calls
	for _, h := range []string{
		"evil.example", "evil.example:7998", "127.0.0.1", "localhost", "127.0.0.1:80", "127.0.0.1:07998", "127.0.0.1:",
		"localhost.:7998", "LOCALHOST:7998", "localhost.evil.example:7998", "127.0.0.1.nip.example:7998", "127.1:7998",
		"0.0.0.0:7998", "[::]:7998", "::1:7998", "[::ffff:127.0.0.1]:7998", "user@127.0.0.1:7998", "",
	} {
		for _, target := range everywhere(l) {
			a := b.ask("GET", target, "", "Host", h)
			b.want(a, http.StatusMisdirectedRequest, "127.0.0.1, localhost or [::1]")
			if len(a.Cookies()) > 0 || h != "" && strings.Contains(a.body, "evil") {
				t.Errorf("Host %q at %s: a cookie, or the name itself: %s", h, target, a.body)
			}
		}
		b.want(b.ask("POST", path(l), "x=y", "Host", h), http.StatusMisdirectedRequest)
	}
	if b.calls != before {
		t.Error("a request under another host reached the logins")
	}
}

// TestHostUnbound: while the port is not bound, no host is ours.
func TestHostUnbound(t *testing.T) {
	for _, served := range []string{"", "127.0.0.1", "127.0.0.1:"} {
		b := newBench(t, served)
		for _, h := range []string{"", "127.0.0.1:", "127.0.0.1:7998"} {
			b.want(b.ask("GET", "/health", "", "Host", h), http.StatusMisdirectedRequest)
		}
	}
}

// TestNoProxy speaks to a real server, since httptest's requests have no
// request target of their own.
func TestNoProxy(t *testing.T) {
	var b *bench
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.pages.ServeHTTP(w, r) }))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	b = newBench(t, addr)
	tests := []struct {
		name, request string
		status        int
	}{
		{"plain", "GET / HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", 200},
		{"absolute form of our own", "GET http://" + addr + "/ HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", 421},
		{"absolute form of another", "GET http://api.example/ HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", 421},
		{"absolute form, https", "GET https://api.example/ HTTP/1.1\r\nHost: api.example\r\n\r\n", 421},
		{"CONNECT", "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n", 421},
		{"CONNECT to ourselves", "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", 421},
		{"proxy credentials", "GET / HTTP/1.1\r\nHost: " + addr + "\r\nProxy-Authorization: Basic Y2FuYXJ5\r\n\r\n", 421},
		{"empty proxy credentials", "GET / HTTP/1.1\r\nHost: " + addr + "\r\nProxy-Authorization:\r\n\r\n", 421},
		{"no host", "GET / HTTP/1.0\r\n\r\n", 421},
		{"two slashes are a path", "GET //evil.example/ HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	want := map[string]string{
		"Content-Security-Policy":      "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"X-Content-Type-Options":       "nosniff",
		"Cache-Control":                "no-store",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
	}
	check := func(what string, a answer) {
		t.Helper()
		for name, value := range want {
			if got := a.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", what, name, got, value)
			}
		}
		for name := range a.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s lets other sites read the answer", what, name)
			}
		}
	}
	for _, target := range everywhere(l) {
		for _, method := range []string{"GET", "POST", "OPTIONS", "PUT"} {
			check(method+" "+target, b.ask(method, target, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"))
		}
	}
	check("another host", b.ask("GET", "/", "", "Host", "evil.example"))
	page, _, _ := b.open(l)
	// A form under no-referrer would be sent with "Origin: null".
	want["Referrer-Policy"] = "same-origin"
	check("form", page)
}

func TestMethods(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "default")
	for _, target := range everywhere(l) {
		form, callback := strings.HasPrefix(target, path(l)), strings.HasPrefix(target, authsome.CallbackPath)
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} {
			a := b.ask(method, target, "")
			switch {
			case target == "/nothing":
				b.want(a, http.StatusNotFound)
			case form && method == "POST":
				b.want(a, http.StatusForbidden)
			default:
				b.want(a, http.StatusMethodNotAllowed)
				want := "GET, HEAD"
				if form {
					want = "GET, HEAD, POST"
				} else if callback {
					want = "GET"
				}
				if allow := a.Header.Get("Allow"); allow != want {
					t.Errorf("%s %s: Allow is %q", method, target, allow)
				}
			}
		}
		if callback {
			b.want(b.ask("HEAD", target, ""), http.StatusMethodNotAllowed)
		} else if get, head := b.ask("GET", target, ""), b.ask("HEAD", target, ""); get.StatusCode != head.StatusCode {
			t.Errorf("%s: HEAD answers %d, GET %d", target, head.StatusCode, get.StatusCode)
		}
	}
}

func TestHealthAndReady(t *testing.T) {
	b := newBench(t, host)
	for target, want := range map[string]struct {
		status int
		body   map[string]any
	}{
		"/health": {200, map[string]any{"status": "ok", "version": "v1"}},
		"/ready":  {503, map[string]any{"status": "not_ready", "issues": []any{"<vault>"}}},
	} {
		a := b.ask("GET", target, "")
		var got map[string]any
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if a.StatusCode != want.status || fmt.Sprint(got) != fmt.Sprint(want.body) || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", target, a.StatusCode, a.body)
		}
	}
}

func TestPagesWithoutALogin(t *testing.T) {
	b := newBench(t, host)
	l := b.begin(openai(), "secret-name")
	home := b.ask("GET", "/", "")
	b.want(home, 200, "authsome is running", "authsome login")
	if strings.Contains(home.body, "OpenAI") || strings.Contains(home.body, l.Connection) {
		t.Error("the front page tells about connections")
	}
	for _, target := range []string{
		"/nothing", "/health/", "//", "//evil.example", "/../", "/./", "/%2e%2e/", "/static/", "/static/../web.go", "/static/%2e%2e/web.go",
		"/static/other.css", "/pages/form.html", "/auth/sessions/", "/auth/sessions//input", "/auth/sessions/a/", "/auth/sessions/a/input/",
		"/auth/sessions/a%2fb/input", "/auth/sessions/a;b/input", "/auth/sessions/../input", "/auth/sessions/" + strings.Repeat("a", 65) + "/input",
		"/auth/sessions/a%0d%0aSet-Cookie:x/input", "/auth/%73essions/a/input",
	} {
		a := b.ask("GET", target, "")
		b.want(a, http.StatusNotFound, "<title>No such page · authsome</title>")
	}
	if b.calls != 0 {
		t.Error("a page without a login asked for one")
	}
	css := b.ask("GET", "/static/style.css", "")
	b.want(css, 200, "prefers-color-scheme: dark")
	if got := css.Header.Get("Content-Type"); got != "text/css; charset=utf-8" {
		t.Errorf("the style sheet is %q", got)
	}
	icon := b.ask("GET", "/static/icon.svg", "")
	if got := icon.Header.Get("Content-Type"); icon.StatusCode != 200 || got != "image/svg+xml" {
		t.Errorf("the icon is %d %q", icon.StatusCode, got)
	}
}
