package differential

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/authsome/authsome/route"
)

// TestRequests: nginx and net/http read from odd but legal requests what authsome has
// read: the method, the path, the host, the headers, and the body to the last byte.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	serveNginx(t, w)
	connect(t, w, nginxHost, echoHost, muxHost)
	r := startRun(t, w)
	long := strings.Repeat("x", 30<<10)
	for _, tt := range []struct {
		name string
		send string   // HOST stands for the host
		path string   // as routed, "" for what was sent
		head []string // the headers X and Y
		body string
	}{
		{name: "usual", send: "GET /v1/allowed/x?q=1 HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "no credential", send: "GET /v1/none HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "dot segments", send: "GET /v1/other/../allowed/./x HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed/x"},
		{name: "escaped dot segments", send: "GET /v1/allowed/%2e%2E/other/x HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/other/x"},
		{name: "above the root", send: "GET /../../v1/allowed HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed"},
		{name: "escaped letters", send: "GET /%76%31/%61llowed/%7E HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed/~"},
		{name: "escapes that stay", send: "GET /v1/allowed/a%2fb%3fc%23d%25e%20f HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed/a%2Fb%3Fc%23d%25e%20f"},
		{name: "doubled slashes inside", send: "GET /v1/allowed//x///y HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "parameters of a segment", send: "GET /v1/allowed/x;y=z;w HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "all that a path may hold", send: "GET /v1/allowed/-._~!$&'()*+,;=:@ HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "UTF-8", send: "GET /v1/allowed/\xc3\xa9%C3%A9 HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed/%C3%A9%C3%A9"},
		{name: "what is no UTF-8", send: "GET /v1/allowed/%ff%FE HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed/%FF%FE"},
		{name: "odd query", send: "GET /v1/allowed?/../v1/other?a=%2e&;b&&=c%zz HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "empty query", send: "GET /v1/allowed? HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "a whole URL", send: "GET https://HOST/v1/allowed/x HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/v1/allowed/x"},
		{name: "a whole URL without a path", send: "GET https://HOST?x HTTP/1.1\r\nHost: HOST\r\n\r\n", path: "/"},
		{name: "mixed case, dot and port of the host", send: "GET /v1/allowed HTTP/1.1\r\nhOST: HOST.:443\r\n\r\n"},
		{name: "HTTP/1.0", send: "GET /v1/allowed HTTP/1.0\r\nHost: HOST\r\n\r\n"},
		{name: "bare LF", send: "GET /v1/allowed HTTP/1.1\nHost: HOST\nX: a\nY: b\n\n", head: []string{"a", "b"}},
		{name: "folded", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\nY: c\r\n\r\n", head: []string{"a b", "c"}},
		{name: "space around values", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nX:\t a \t\r\nY:b\r\n\r\n", head: []string{"a", "b"}},
		{name: "an empty value", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nX:\r\nY: b\r\n\r\n", head: []string{"", "b"}},
		{name: "a long value", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nX: " + long + "\r\nY: b\r\n\r\n", head: []string{long, "b"}},
		{name: "many headers", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\n" + strings.Repeat("Z: z\r\n", 300) + "X: a\r\nY: b\r\n\r\n", head: []string{"a", "b"}},
		{name: "odd names", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nX!#$%&'*+-.^`|~: 1\r\nX: a\r\nY: b\r\n\r\n", head: []string{"a", "b"}},
		{name: "the key in disguise", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nX_Key: mine\r\nx-kEY: mine\r\nConnection: x-key, keep-alive\r\nX: a\r\n\r\n", head: []string{"a", ""}},
		{name: "named in Connection", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nConnection: x, keep-alive\r\nX: a\r\nY: b\r\n\r\n", head: []string{"", "b"}},
		{name: "length", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
		{name: "length with zeros", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0005\r\n\r\nhello", body: "hello"},
		{name: "length 0", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"},
		{name: "no length", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\n\r\n"},
		{name: "the same length twice", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
		{name: "a GET with a body", send: "GET /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
		{name: "chunks", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", body: "hello"},
		{name: "chunks with extensions and trailers", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: CHUNKED\r\nTrailer: X-Sum\r\n\r\n0005;a=\"b;c\"\r\nhello\r\n0;d\r\nX-Sum: 1\r\nX-Key: mine\r\nHost: evil.example\r\n\r\n", body: "hello"},
		{name: "chunks and length", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", body: "hello"},
		{name: "a request in the body", send: "POST /v1/other HTTP/1.1\r\nHost: HOST\r\nContent-Length: 45\r\n\r\nGET /v1/allowed HTTP/1.1\r\nHost: a.example\r\n\r\n", body: "GET /v1/allowed HTTP/1.1\r\nHost: a.example\r\n\r\n"},
		{name: "a body like chunks", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 15\r\n\r\n5\r\nhello\r\n0\r\n\r\n", body: "5\r\nhello\r\n0\r\n\r\n"},
		{name: "expecting 100", send: "POST /v1/allowed HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
		{name: "PATCH, PUT and methods of one's own", send: "PURGE /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello", body: "hello"},
		{name: "a long body", send: "PUT /v1/allowed HTTP/1.1\r\nHost: HOST\r\nContent-Length: 30720\r\n\r\n" + long, body: long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, _, _ := strings.Cut(tt.send, "\n")
			part := strings.Fields(first)
			path, query, asked := strings.Cut(part[1], "?")
			if tt.path != "" {
				path = tt.path
			}
			target := path
			if asked {
				target += "?" + query
			}
			for _, host := range []string{nginxHost, echoHost, muxHost} {
				if host == nginxHost && tt.body != "" {
					continue // which does not read one
				}
				c := r.tunnel(host)
				status, code, body, _ := c.ask(t, strings.ReplaceAll(tt.send, "HOST", host))
				if host == muxHost && strings.Contains(path, "//") && status/100 == 3 {
					continue // to what it takes for the normal form
				}
				if status != 200 {
					t.Errorf("%s: %d %s %q", host, status, code, body)
					continue
				}
				var got reading
				if host == nginxHost {
					got = readNginx(t, body)
				} else {
					got = readJSON(t, body)
				}
				want := reading{Method: part[0], Target: target, Host: host, Key: keyOf[under(path)], Body: tt.body}
				if len(tt.head) > 0 {
					want.X, want.Y = tt.head[0], tt.head[1]
				}
				if under(got.Path) != under(path) || host == muxHost && got.Mux != cmp.Or(under(path), "none") {
					t.Errorf("%s resolved %q (%s), authsome %q", host, got.Path, got.Mux, path)
				}
				resolved := asNginx(t, path)
				if host == echoHost {
					resolved = strings.ToValidUTF8(resolved, "\ufffd\ufffd") // in its JSON, two bytes at once
				}
				if host != muxHost && got.Path != resolved {
					t.Errorf("%s resolved %q, want %q", host, got.Path, resolved)
				}
				if n := got.Length; n != "" && n != "-1" && n != "0" && n != fmt.Sprint(len(tt.body)) {
					t.Errorf("%s read the length %s of %d bytes", host, n, len(tt.body))
				}
				got.Path, got.Mux, got.Length = "", "", ""
				if got != want {
					t.Errorf("%s read\n%+.300v, want\n%+.300v", host, got, want)
				}
				// The connection is where it should be.
				if status, _, body, _ := r.tunnel(host).ask(t, "GET /v1/none/innocent HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); status != 200 || !strings.Contains(body, "/v1/none/innocent") || strings.Contains(body, "canary") {
					t.Errorf("%s: the next request got %d, %q", host, status, body)
				}
			}
		})
	}
}

// asNginx is what nginx makes of a path in its normal form: it merges slashes and decodes.
func asNginx(t *testing.T, path string) string {
	t.Helper()
	if normal, err := route.Path(path); err != nil || normal != path {
		t.Fatalf("%q is not normal: %q, %v", path, normal, err)
	}
	text, err := url.PathUnescape(path)
	if err != nil {
		t.Fatal(err)
	}
	for strings.Contains(text, "//") {
		text = strings.ReplaceAll(text, "//", "/")
	}
	return text
}
