package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// unusual is a header line that has the http.Server read a request, instead of
// the front.
const unusual = "Pragma: x\r\n"

// answers are what a service may say, by path.
func answers(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h["Date"] = []string{"Mon, 23 Nov 2026 12:00:00 GMT"}
	switch r.URL.Path {
	case "/length":
		h.Set("Content-Length", "5")
		_, _ = io.WriteString(rw, "hello")
	case "/chunked":
		for range 3 {
			_, _ = io.WriteString(rw, "part")
			_ = http.NewResponseController(rw).Flush()
		}
	case "/nothing":
		h.Set("Content-Length", "0")
	case "/no-content":
		h.Set("Etag", `"1"`)
		rw.WriteHeader(http.StatusNoContent)
	case "/not-modified":
		h.Set("Etag", `"1"`)
		rw.WriteHeader(http.StatusNotModified)
	case "/hints":
		h.Set("Link", "</a>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		h.Del("Link")
		_, _ = io.WriteString(rw, "after the hints")
	case "/trailers":
		h.Set("Trailer", "X-Sum")
		_, _ = io.WriteString(rw, "body")
		h.Set("X-Sum", "7")
		h.Set(http.TrailerPrefix+"X-Late", "8")
	case "/trailers-alone":
		h.Set("Trailer", "X-Sum")
		_ = http.NewResponseController(rw).Flush()
		h.Set("X-Sum", "7")
	case "/big":
		_, _ = io.WriteString(rw, strings.Repeat("0123456789abcdef", 64<<10))
	case "/big-length":
		h.Set("Content-Length", fmt.Sprint(1<<20))
		_, _ = io.WriteString(rw, strings.Repeat("0123456789abcdef", 64<<10))
	case "/cookies":
		h["Set-Cookie"] = []string{"a=b", "c=d"}
		h.Set("Content-Type", "text/plain")
		rw.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(rw, "tea")
	case "/odd-status":
		rw.WriteHeader(799)
		_, _ = io.WriteString(rw, "odd")
	case "/echo":
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(rw, "%s %d %s", r.Method, len(b), r.Header.Get("Authorization"))
	}
}

type answer struct {
	Status   string
	Header   http.Header
	Body     string
	Length   int64
	Encoding []string
	Trailer  http.Header
	Close    bool
}

func readAnswer(t *testing.T, br *bufio.Reader, method string) answer {
	t.Helper()
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode < 200 {
			continue
		}
		return answer{res.Status, res.Header, string(b), res.ContentLength, res.TransferEncoding, res.Trailer, res.Close}
	}
}

// TestFrontAnswersLikeNetHTTP sends every kind of answer through the front and
// through the http.Server.
func TestFrontAnswersLikeNetHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", answers)
	front, fromFront := w.tunnel("api.openai.com:443", "api.openai.com")
	server, fromServer := w.tunnel("api.openai.com:443", "api.openai.com")
	for _, request := range []string{
		"GET /length", "GET /chunked", "GET /nothing", "GET /no-content", "GET /not-modified", "GET /hints", "GET /trailers",
		"GET /trailers-alone", "GET /big", "GET /big-length", "GET /cookies", "GET /odd-status", "GET /echo",
		"HEAD /length", "HEAD /chunked", "HEAD /nothing", "HEAD /big-length", "HEAD /no-content",
		"POST /echo", "PUT /echo", "DELETE /length", "OPTIONS /cookies", "GET /a/..%2fb",
	} {
		method, path, _ := strings.Cut(request, " ")
		head := method + " " + path + " HTTP/1.1\r\nHost: api.openai.com\r\n"
		body := "\r\n"
		if method == "POST" || method == "PUT" {
			body = "Content-Length: 70000\r\n\r\n" + strings.Repeat("b", 70000)
		}
		go func() { _, _ = io.WriteString(front, head+body) }()
		got := readAnswer(t, fromFront, method)
		go func() { _, _ = io.WriteString(server, head+unusual+body) }()
		want := readAnswer(t, fromServer, method)
		// Our own refusals are dated.
		delete(got.Header, "Date")
		delete(want.Header, "Date")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: the front's answer (+) is not the server's (-):\n%s", request, d)
		}
	}
}

// TestFrontInterimWithALength: a length in a 1xx is of nothing, and does not get to a child
// that may read a body there.
func TestFrontInterimWithALength(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	for _, by := range []string{"", unusual} {
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: api.openai.com\r\nConnection: close\r\n"+by+"\r\n")
		got, err := io.ReadAll(br)
		if before, _, _ := strings.Cut(string(got), "HTTP/1.1 200"); err != nil || before != "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" {
			t.Errorf("with %q the child got %q, %v", by, got, err)
		}
	}
}

// TestFrontHandsOver: a connection goes on at the http.Server with the first
// request that is not a usual one, and nothing of it is lost.
func TestFrontHandsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", answers)
	const host = "Host: api.openai.com\r\n"
	get := "GET /echo HTTP/1.1\r\n" + host
	chunked := "POST /echo HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	large := get + "X-Large: " + strings.Repeat("x", 6000) + "\r\n\r\n"
	for name, requests := range map[string][]string{
		"one after another": {get + "\r\n", chunked, get + "\r\n", large},
		"large first":       {large, get + "\r\n"},
		"large later":       {get + "\r\n", large, chunked},
		"expecting":         {get + "\r\n", "POST /echo HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", get + "\r\n"},
	} {
		for _, together := range []bool{false, true} {
			c, br := w.tunnel("api.openai.com:443", "api.openai.com")
			if together {
				go func() { _, _ = io.WriteString(c, strings.Join(requests, "")) }()
			}
			for i, r := range requests {
				if !together {
					go func() { _, _ = io.WriteString(c, r) }()
				}
				method, _, _ := strings.Cut(r, " ")
				want := method + " 0 Bearer " + openaiKey
				if method == "POST" {
					want = "POST 3 Bearer " + openaiKey
				}
				if a := readAnswer(t, br, method); a.Body != want {
					t.Errorf("%s (all at once: %v): answer %d is %q, want %q", name, together, i, a.Body, want)
				}
			}
		}
	}
}

// TestFrontEnds: what ends a connection of the front, and that the answer before
// that is whole.
func TestFrontEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			rw.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		answers(rw, r)
	})
	for name, c := range map[string]struct {
		request string
		status  string
		open    bool
	}{
		"asked for":           {"GET /length HTTP/1.1\r\nHost: api.openai.com\r\nConnection: close\r\n\r\n", "200 OK", false},
		"kept":                {"GET /length HTTP/1.1\r\nHost: api.openai.com\r\nConnection: keep-alive\r\n\r\n", "200 OK", true},
		"another host":        {"GET /length HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", "421 Misdirected Request", true},
		"a body nobody wants": {"POST /length HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: 3\r\n\r\nabc", "421 Misdirected Request", true},
		"half a body":         {"POST /early HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 1000000\r\n\r\nabc", "413 Request Entity Too Large", false},
	} {
		conn, br := w.tunnel("api.openai.com:443", "api.openai.com")
		_, _ = io.WriteString(conn, c.request)
		a := readAnswer(t, br, "GET")
		if a.Status != c.status {
			t.Errorf("%s: the answer is %s, want %s", name, a.Status, c.status)
		}
		if a.Close == c.open {
			t.Errorf("%s: the answer says that the connection ends: %v", name, a.Close)
		}
		if c.open {
			_, _ = io.WriteString(conn, "GET /length HTTP/1.1\r\nHost: api.openai.com\r\n\r\n")
			if a := readAnswer(t, br, "GET"); a.Body != "hello" {
				t.Errorf("%s: the next answer is %+v", name, a)
			}
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := io.Copy(io.Discard, br); n > 0 || err != nil && isTimeout(err) {
			t.Errorf("%s: the connection gives %d more bytes, and then %v", name, n, err)
		}
	}
}

// TestFrontBodyEndsWithItsRequest has answers break off while the child still sends
// its body. Whoever sends the body on must not go on reading: the front's reader is
// another child's by then.
func TestFrontBodyEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			body, _ := io.ReadAll(r.Body)
			_, _ = rw.Write(body)
			return
		}
		_, _ = r.Body.Read(make([]byte, 1000))
		rw.Header().Set("Content-Length", "5000")
		_, _ = io.WriteString(rw, "only this")
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	var children sync.WaitGroup
	for range 8 {
		children.Go(func() {
			for range 6 {
				conn, _ := w.tunnel("api.openai.com:443", "api.openai.com")
				_, err := io.WriteString(conn, "POST /broken HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: 100000000\r\n\r\n")
				for n := 0; err == nil && n < 10_000; n++ {
					_, err = io.WriteString(conn, strings.Repeat("x", 1000))
				}
				other, br := w.tunnel("api.openai.com:443", "api.openai.com")
				body := strings.Repeat("o", 3000)
				_, _ = fmt.Fprintf(other, "POST /whole HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				if a := readAnswer(t, br, "POST"); a.Body != body {
					t.Errorf("another child's body came as %q", a.Body)
				}
				_, _ = conn.Close(), other.Close()
			}
		})
	}
	children.Wait()
}
