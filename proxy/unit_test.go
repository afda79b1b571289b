package proxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

func TestParseAuthority(t *testing.T) {
	for _, tt := range []struct {
		in       string
		fallback int
		host     string
		port     int
	}{
		{"api.openai.com:443", 0, "api.openai.com", 443},
		{"API.OpenAI.com.:443", 0, "api.openai.com", 443},
		{"api.openai.com", 443, "api.openai.com", 443},
		{"[::1]:8443", 0, "::1", 8443},
		{"[::1]", 443, "::1", 443},
		{"[::ffff:10.0.0.1]:1", 0, "10.0.0.1", 1},
		{"127.0.0.1:65535", 0, "127.0.0.1", 65535},
		{"under_score.example:443", 0, "under_score.example", 443},
	} {
		host, port, err := parseAuthority(tt.in, tt.fallback)
		if err != nil || host != tt.host || port != tt.port {
			t.Errorf("%q: %q %d %v", tt.in, host, port, err)
		}
	}
	for _, in := range []string{
		"", ":", ":443", "a", "a:", "a:b", "a:0", "a:00000", "a:65536", "a:443x", "a: 443", "a:-1", "a:443:443", "::1:443", "[::1", "[::1]443", "[::1]:", "[1.2.3.4]:443",
		"[a]:443", "[fe80::1%25lo]:443", "u@a:443", "a/b:443", "a b:443", "a\x00:443", "*.a.com:443", "127.1:443", "0x7f.1:443",
	} {
		if host, port, err := parseAuthority(in, 0); err == nil {
			t.Errorf("%q was read as %q, %d", in, host, port)
		}
	}
}

func TestProxyToken(t *testing.T) {
	header := func(values ...string) http.Header { return http.Header{"Proxy-Authorization": values} }
	enc := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for value, want := range map[string]string{
		"Basic " + enc("authsome:tok"):                          "tok",
		"basic  " + enc("anybody:tok"):                          "tok",
		"BASIC\t" + enc(":tok"):                                 "tok",
		"Basic " + enc("u:with:colon"):                          "with:colon",
		"Basic " + strings.TrimRight(enc("authsome:tok1"), "="): "tok1",
	} {
		if got, ok := proxyToken(header(value)); !ok || got != want {
			t.Errorf("%q: %q %v", value, got, ok)
		}
	}
	for _, values := range [][]string{
		nil,
		{""},
		{"Basic"},
		{"Basic "},
		{"Basic " + enc("tok")},
		{"Basic " + enc("u:")},
		{"Bearer " + enc("u:tok")},
		{"Basic %%%"},
		{"Basic" + enc("u:tok")},
		{"Basic " + enc("u:tok"), "Basic " + enc("u:tok")},
	} {
		if got, ok := proxyToken(header(values...)); ok {
			t.Errorf("%q: %q", values, got)
		}
	}
}

func TestRepository(t *testing.T) {
	for path, want := range map[string]string{
		"/me/repo.git/info/refs":               "/me/repo",
		"/me/repo/info/refs":                   "/me/repo",
		"/me/repo.git/git-upload-pack":         "/me/repo",
		"/me/repo.git/git-receive-pack":        "/me/repo",
		"/me/repo.git/info/lfs/objects/batch":  "/me/repo",
		"/me/repo.git/info/lfs":                "/me/repo",
		"/group/sub/repo.git/info/refs":        "/group/sub/repo",
		"/me/repo":                             "",
		"/me/repo.git":                         "",
		"/me/repo.git/info/lfsx":               "",
		"/me/repo/git-upload-pack/x":           "",
		"/":                                    "",
		"":                                     "",
		"/me/repo.git/info/lfs/locks/verify":   "/me/repo",
		"/me/repo.git/objects/info/refs/other": "",
	} {
		if got := repository(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestIsGRPC(t *testing.T) {
	for value, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC; x=y": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/json": false, "": false,
	} {
		if got := isGRPC(http.Header{"Content-Type": {value}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// TestPump: whatever the sizes of the reads, what goes in comes out, and big
// buffers are taken only while there is much to copy.
func TestPump(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef!"), 20_000)
	for name, r := range map[string]io.Reader{
		"whole":      bytes.NewReader(data),
		"halves":     iotest.HalfReader(bytes.NewReader(data)),
		"bytes":      iotest.OneByteReader(bytes.NewReader(data)),
		"with error": iotest.DataErrReader(bytes.NewReader(data)),
	} {
		var out bytes.Buffer
		n, err := pump(&out, r)
		if err != nil || n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	if _, err := pump(io.Discard, iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an error was lost: %v", err)
	}
	var b buffer
	sizes := []struct{ last, want int }{
		{0, smallBuffer}, {10, smallBuffer}, {smallBuffer, bigBuffer}, {bigBuffer, bigBuffer}, {smallBuffer, bigBuffer}, {10, smallBuffer}, {0, smallBuffer},
	}
	for i, s := range sizes {
		if got := len(b.next(s.last)); got != s.want {
			t.Errorf("step %d: a buffer of %d bytes, want %d", i, got, s.want)
		}
	}
	b.release()
}

// TestEveryCodeHasAStatus, and every refusal of the broker a code.
func TestEveryCodeHasAStatus(t *testing.T) {
	for _, c := range brokerCodes {
		if statuses[c] == 0 {
			t.Errorf("%s has no status", c)
		}
	}
	page, err := os.ReadFile("../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	for c, s := range statuses {
		if row := fmt.Sprintf("\n| `%s` | %d |", c, s); !strings.Contains(string(page), row) {
			t.Errorf("docs/proxy.md has no row %q", row[1:])
		}
		if s < 400 || !strings.Contains((&problem{Code: c}).header(2, true), http.StatusText(s)) {
			t.Errorf("%s: %d", c, s)
		}
	}
	if p := fromBroker(io.EOF); p.Code != internal || strings.Contains(p.Message, "EOF") {
		t.Errorf("a foreign error is shown: %+v", p)
	}
	if p := fromBroker(authsome.E(authsome.StoreFailed, "not recorded").WithHint("authsome doctor")); p.Code != internal || p.Fix != "authsome doctor" || p.status() != 500 {
		t.Errorf("%+v", p)
	}
	e := authsome.E(authsome.Ambiguous, "a and b")
	e.Provider = "a"
	if p := fromBroker(e); p.Code != ambiguous || p.Provider != "a" || p.status() != 403 {
		t.Errorf("%+v", p)
	}
}

// FuzzAuthority: what is accepted is a host in its one normal form and a port,
// and reads the same when it is written out again.
func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"api.openai.com:443", "[::1]:1", "a", "[::ffff:1.2.3.4]:80", "A.b.:65535", "münchen.example:443", "a:b:c", "[x]:1", "1.2.3.4:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := parseAuthority(s, 0)
		if err != nil {
			return
		}
		if port < 1 || port > 65535 || host == "" || strings.ContainsAny(host, "/@ []\\*%\r\n\x00") {
			t.Fatalf("%q was read as %q, %d", s, host, port)
		}
		if normal, err := route.Host(host); err != nil || normal != host {
			t.Fatalf("%q: %q is not normal (%q, %v)", s, host, normal, err)
		}
		again, port2, err := parseAuthority(joinAuthority(host, port, 0), 0)
		if err != nil || again != host || port2 != port {
			t.Fatalf("%q: %q %d became %q %d, %v", s, host, port, again, port2, err)
		}
	})
}
