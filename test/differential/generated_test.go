package differential

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/authsome/authsome/route"
)

// segments are what the paths are made of: names of the routes in all disguises, and all
// that some server reads as a slash, as a dot, or as the end.
var segments = []string{
	"v1", "v1", "v1", "v1", "allowed", "allowed", "allowed", "other", "other", "none", "x", "", "", ".", "..", "..",
	"%2e", "%2E%2e", ".%2e", "...", "..x", "%2f", "%2F..", "..%2f", "v1%2fallowed", "v1%2Fother", "allowed%2fx", "%2e%2e%2fother", "%5c", "..%5c", "\\", "%76%31", "%61llowed", "%6Fther",
	"%2561llowed", "%252e%252e", "%252f", "%25252e%25252e", "allowed%252Fx", ";", ";x=y", "..;", "..;/", "allowed;x", "v1;y", "other;..", "%3b", "allowed%3bx",
	"%3f", "allowed%3Fx", "%23", "allowed%23x", "%00", "allowed%00", "%0a", "%20", "allowed%20", "allowed.", "ALLOWED", "V1", "\xc3\xa9", "%c3%A9", "%ff", "%c0%ae%c0%ae", "%c0%af", "%e0%80%ae",
	"~", "%7e", "a:b", "@", "a=b", "*", "+", "%", "%2", "%zz", "%u002e", "|", "{}", "\"", "<", "^", "`",
}

// headers are sent beside, and must neither end a request nor begin another.
var headers = []string{
	"X_Key: mine", "x-key: mine", "X-KEY:mine", "X-Original-URL: /v1/allowed", "X-Rewrite-URL: /v1/other", "X-Http-Method-Override: GET", "Connection: x-key", "Connection: keep-alive, X-Key",
	"X: a\r\n b", "X:\t\xe9", "Content_Length: 7", "Transfer_Encoding: chunked", "Content-Length: 0", "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "Te: trailers", "Trailer: X-Key", "Upgrade: h2c",
	"Expect: 100-continue", "Pragma: no-cache", "Cookie: a=b", "Cookie: c=d", "Referer: https://evil.example/", "Range: bytes=0-",
}

// TestGenerated: whatever is made out of the grammar, nginx and net/http's ServeMux serve
// a provider's path with that provider's key, and all else without one; and both see the
// path that authsome has.
func TestGenerated(t *testing.T) {
	w := newWorld(t)
	serveNginx(t, w)
	connect(t, w, nginxHost, muxHost)
	r := startRun(t, w)
	rnd := rand.New(rand.NewPCG(2026, 9112)) // the same each time
	const requests = 2500
	seen := map[string]int{}
	tunnels := map[string]*tunnel{}
	for range requests {
		var path strings.Builder
		if rnd.IntN(2) == 0 {
			path.WriteString([]string{"/v1/allowed", "/v1/other", "/v1/none"}[rnd.IntN(3)])
		}
		for range rnd.IntN(6) {
			path.WriteString("/" + segments[rnd.IntN(len(segments))])
		}
		if path.Len() == 0 {
			path.WriteString("/")
		}
		normal, err := route.Path(path.String())
		target := path.String()
		if rnd.IntN(4) == 0 {
			target += "?" + segments[rnd.IntN(len(segments))]
		}
		head := ""
		for range rnd.IntN(4) {
			// nginx refuses some that come twice.
			if h := headers[rnd.IntN(len(headers))] + "\r\n"; !strings.Contains(head, h) {
				head += h
			}
		}
		for _, host := range []string{nginxHost, muxHost} {
			c := tunnels[host]
			if c == nil {
				c = r.tunnel(host)
			}
			request := "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + head + "\r\n"
			status, code, body, open := c.ask(t, request)
			if tunnels[host] = c; !open {
				tunnels[host] = nil
			}
			switch {
			case code != "":
				if seen["refused "+host]++; code != "bad_request" {
					t.Errorf("%q: %d %s", request, status, code)
				}
				continue
			case err != nil:
				t.Errorf("%q: went through, though its path is %v", request, err)
			case host == muxHost && status/100 == 3:
				seen["redirected "+host]++ // to the path in net/http's own normal form
				continue
			case status != 200:
				t.Errorf("%q: %d, %q", request, status, body)
				continue
			}
			var got reading
			var where string
			if host == nginxHost {
				got = readNginx(t, body)
				where = under(got.Path)
			} else if got = readJSON(t, body); got.Mux != "none" {
				where = got.Mux
			}
			seen[strings.TrimSpace("served "+host+" "+where)]++
			// What the program sends elsewhere is its own.
			if got.Key != keyOf[where] && (where != "" || !strings.HasPrefix(got.Key, "mine")) {
				t.Errorf("%q: %s serves %q (%s) with the key %q", request, host, got.Path, where, got.Key)
			}
			if sent, _, _ := strings.Cut(got.Target, "?"); sent != normal {
				t.Errorf("%q: %s was sent %q, and authsome routed on %q", request, host, sent, normal)
			}
			if host == nginxHost && got.Path != asNginx(t, normal) {
				t.Errorf("%q: nginx resolved %q, authsome %q", request, got.Path, normal)
			}
			if got.Host != host || got.Method != "GET" {
				t.Errorf("%q: %s read %s for %s", request, host, got.Method, got.Host)
			}
		}
	}
	t.Logf("of %d requests: %v", requests, seen)
	// A grammar that is refused as a whole would prove nothing.
	for _, host := range []string{nginxHost, muxHost} {
		for _, what := range []string{"refused " + host, "served " + host, "served " + host + " allowed", "served " + host + " other"} {
			if seen[what] < requests/20 {
				t.Errorf("%d requests were %s", seen[what], what)
			}
		}
	}
}
