package proxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHead(t *testing.T) {
	const usual = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: api.example.com\r\naccept: */*\r\nX-Two: a\r\nx-two:\tb \r\nContent-Length: 12\r\n\r\n"
	h, ok := parseHead(usual)
	if !ok {
		t.Fatal("a usual request is not taken")
	}
	want := http.Header{"Accept": {"*/*"}, "X-Two": {"a", "b"}, "Content-Length": {"12"}}
	if d := cmp.Diff(want, h.header); d != "" || h.host != "api.example.com" || h.length != 12 || h.method != "POST" || h.target != "/v1/messages?beta=true" {
		t.Errorf("read %+v\n%s", h, d)
	}
	agree(t, usual)

	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	for name, text := range map[string]string{
		"no host":             "GET / HTTP/1.1\r\nAccept: a\r\n\r\n",
		"two hosts":           get + "Host: b\r\n\r\n",
		"empty host":          "GET / HTTP/1.1\r\nHost:\r\nAccept: a\r\n\r\n",
		"HTTP/1.0":            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
		"CONNECT":             "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
		"TRACE":               "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
		"lower-case method":   "get / HTTP/1.1\r\nHost: a\r\n\r\n",
		"whole URL":           "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"asterisk":            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"fragment":            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
		"backslash":           "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n",
		"two spaces":          "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
		"space in the target": "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
		"bad escape":          "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		"chunked":             get + "Transfer-Encoding: chunked\r\n\r\n",
		"both lengths":        get + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"two lengths":         get + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"list of lengths":     get + "Content-Length: 1, 1\r\n\r\n",
		"signed length":       get + "Content-Length: +1\r\n\r\n",
		"endless length":      get + "Content-Length: 99999999999999999999\r\n\r\n",
		"expect":              get + "Expect: 100-continue\r\n\r\n",
		"upgrade":             get + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"named connection":    get + "Connection: authorization\r\n\r\n",
		"folded line":         get + "X: a\r\n b\r\n\r\n",
		"folded first line":   "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
		"space before colon":  get + "X : a\r\n\r\n",
		"no colon":            get + "X\r\n\r\n",
		"empty name":          get + ": a\r\n\r\n",
		"bare LF":             "GET / HTTP/1.1\nHost: a\r\nX: b\r\n\r\n",
		"bare LF in a header": get + "X: a\nY: b\r\n\r\n",
		"bare CR":             get + "X: a\rY: b\r\n\r\n",
		"NUL":                 get + "X: a\x00\r\n\r\n",
		"odd name":            get + "X!: a\r\n\r\n",
		"pseudo-header":       get + ":path: /x\r\n\r\n",
		"more behind the end": get + "X: a\r\n\r\nGET",
		"no end":              get + "X: a\r\n",
		"pragma":              get + "Pragma: no-cache\r\n\r\n",
		"many lines":          get + strings.Repeat("X: a\r\n", maxUsualLines+1) + "\r\n",
	} {
		if _, ok := parseHead(text); ok {
			t.Errorf("%s: taken for a usual request", name)
		}
	}
}

// agree checks that net/http reads the same from a head that parseHead takes.
func agree(t *testing.T, text string) {
	t.Helper()
	h, ok := parseHead(text)
	if !ok {
		return
	}
	br := bufio.NewReader(strings.NewReader(text))
	r, err := http.ReadRequest(br)
	if err != nil {
		t.Fatalf("net/http refuses what is taken for usual: %v\n%q", err, text)
	}
	if n, _ := io.Copy(io.Discard, br); n != 0 {
		t.Errorf("net/http leaves %d bytes of\n%q", n, text)
	}
	got := []any{h.method, h.target, h.host, h.length, h.close, h.url, h.header}
	want := []any{r.Method, r.RequestURI, r.Host, r.ContentLength, r.Close, r.URL, r.Header}
	if d := cmp.Diff(want, got); d != "" || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 {
		t.Errorf("net/http reads another request from\n%q\n%s", text, d)
	}
}

func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b=%20c&d HTTP/1.1\r\nhost: a:443\r\ncontent-length: 3\r\nConnection: Close\r\nCookie: a=b; c\r\nCookie: d\r\n\r\n",
		"GET //a/../%2e HTTP/1.1\r\nHost: a\r\nX-Y_z:\t \r\n\r\n",
		"OPTIONS /:1 HTTP/1.1\r\nHost: [::1]\r\nConnection: keep-alive\r\nUser-Agent: \xff\r\n\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(agree)
}
