package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// hostileAnswer is a case of what a service says.
type hostileAnswer struct {
	name string
	send string
	hang bool // and it hangs up then
	want string
}

// The outcomes: what the child gets, header, body and trailers, or one of these.
const (
	refusedAnswer = "502 upstream_unreachable"
	brokenOff     = " and broken off"
)

// TestSmuggledAnswers: a service that answers with what can be read in two ways is not
// believed, or what it says is made normal; and no byte of it becomes the answer to
// somebody else's request.
func TestSmuggledAnswers(t *testing.T) {
	t.Parallel()
	const ok, chunked = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	for _, tt := range []hostileAnswer{
		// Lengths: RFC 9112, section 6.3.
		{name: "length and chunks", send: chunked + "Content-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "200 hello"},
		{name: "chunks and a length with an answer in it", send: chunked + "Content-Length: 5\r\n\r\n0\r\n\r\n" + forged, want: "200 "},
		{name: "the same length twice", send: ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "leading zeros", send: ok + "Content-Length: 005\r\n\r\nhello", want: "200 hello"},
		{name: "two lengths", send: ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", want: refusedAnswer},
		{name: "two lengths, the first 0", send: ok + "Content-Length: 0\r\nContent-Length: 57\r\n\r\n" + forged, want: refusedAnswer},
		{name: "a list of lengths", send: ok + "Content-Length: 5, 5\r\n\r\nhello", want: refusedAnswer},
		{name: "+5", send: ok + "Content-Length: +5\r\n\r\nhello", want: refusedAnswer},
		{name: "-5", send: ok + "Content-Length: -5\r\n\r\nhello", want: refusedAnswer},
		{name: "0x5", send: ok + "Content-Length: 0x5\r\n\r\nhello", want: refusedAnswer},
		{name: "5 5", send: ok + "Content-Length: 5 5\r\n\r\nhello", want: refusedAnswer},
		{name: "an empty length", send: ok + "Content-Length: \r\n\r\nhello", want: refusedAnswer},
		{name: "length over 64 bits", send: ok + "Content-Length: 18446744073709551621\r\n\r\nhello", want: refusedAnswer},
		{name: "space before the colon of the length", send: ok + "Content-Length : 0\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "less than its length", send: ok + "Content-Length: 9\r\n\r\nhello", hang: true, want: "200 hello" + brokenOff},
		{name: "more than its length", send: ok + "Content-Length: 5\r\n\r\nhello" + forged, want: "200 hello"},
		{name: "two answers", send: ok + "Content-Length: 0\r\n\r\n" + forged + forged, want: "200 "},
		{name: "no length, and the end of the connection", send: ok + "\r\nhello", hang: true, want: "200 hello"},

		// Encodings: RFC 9112, section 6.1 and 7.
		{name: "identity", send: ok + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "xchunked", send: ok + "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "chunked, chunked", send: ok + "Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: refusedAnswer},
		{name: "chunked twice", send: chunked + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: refusedAnswer},
		{name: "gzip, chunked", send: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: refusedAnswer},
		{name: "chunked;q=1", send: ok + "Transfer-Encoding: chunked;q=1\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: refusedAnswer},
		{name: "vertical tab before chunked", send: ok + "Transfer-Encoding: \vchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: refusedAnswer},
		{name: "chunks in HTTP/1.0", send: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", hang: true, want: "200 hello"},
		{name: "chunked in disguise", send: ok + "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", want: "200 Transfer_encoding: chunked\nhello"},

		// Chunks: RFC 9112, section 7.1.
		{name: "extensions and zeros", send: chunked + "\r\n0005;a=\"b;c\"\r\nhello\r\n00;x\r\n\r\n", want: "200 hello"},
		{name: "chunk of 0x5", send: chunked + "\r\n0x5\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "chunk of +5", send: chunked + "\r\n+5\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "chunk of -1", send: chunked + "\r\n-1\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "space before a chunk's size", send: chunked + "\r\n 5\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "no size", send: chunked + "\r\n\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "size over 64 bits", send: chunked + "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "LF in an extension", send: chunked + "\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "LF behind the size", send: chunked + "\r\n5\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "CR in an extension", send: chunked + "\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", want: "200 " + brokenOff},
		{name: "longer than its size", send: chunked + "\r\n5\r\nhello!\r\n0\r\n\r\n", want: "200 hello" + brokenOff},
		{name: "an answer in the place of a chunk", send: chunked + "\r\n5\r\nhello\r\n" + forged, want: "200 hello" + brokenOff},
		{name: "an answer behind the last chunk", send: chunked + "\r\n5\r\nhello\r\n0\r\n\r\n" + forged, want: "200 hello"},
		{name: "no last chunk", send: chunked + "\r\n5\r\nhello\r\n", hang: true, want: "200 hello" + brokenOff},

		// Trailers: RFC 9110, section 6.5.1.
		{name: "trailers", send: chunked + "Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nAuthsome-Error: denied\r\nConnection: close\r\nSet-Cookie: a=b\r\n\r\n", want: "200 hello trailers Set-Cookie: a=b\nX-Sum: 1\n"},
		{name: "a trailer that is framing, announced", send: chunked + "Trailer: Content-Length\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 0\r\n\r\n", want: refusedAnswer},
		{name: "a trailer with NUL", send: chunked + "Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\x00b\r\n\r\n", want: "200 hello" + brokenOff},
		{name: "a trailer with CR", send: chunked + "Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\rb\r\n\r\n", want: "200 hello" + brokenOff},
		{name: "a folded trailer", send: chunked + "Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\r\n b\r\n\r\n", want: "200 hello trailers X-Sum: a b\n"},
		{name: "an answer in the place of trailers", send: chunked + "\r\n5\r\nhello\r\n0\r\n" + forged, want: "200 hello" + brokenOff},

		// Lines and names: RFC 9112, sections 2.2, 4 and 5.
		{name: "folded", send: ok + "X: a\r\n b\r\n\tSet-Cookie: c\r\nContent-Length: 5\r\n\r\nhello", want: "200 X: a b Set-Cookie: c\nhello"},
		{name: "bare LF", send: "HTTP/1.1 200 OK\nContent-Length: 5\nX: a\n\nhello", want: "200 X: a\nhello"},
		{name: "bare LF between two headers", send: ok + "X: a\nY: b\r\nContent-Length: 5\r\n\r\nhello", want: "200 X: a\nY: b\nhello"},
		{name: "bare LF ends the header", send: ok + "Content-Length: 5\n\nhello", want: "200 hello"},
		{name: "CR in a value", send: ok + "X: a\rSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "NUL in a value", send: ok + "X: a\x00b\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "DEL in a value", send: ok + "X: a\x7fb\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "NUL in a name", send: ok + "X\x00: a\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "space in a name", send: ok + "X Y: a\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "space before the colon", send: ok + "X : a\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "space before the first name", send: ok + " X: a\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "no colon", send: ok + "X\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "no name", send: ok + ": a\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "a pseudo-header", send: ok + ":status: 500\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "obs-text", send: ok + "X: \xe9\r\nContent-Length: 5\r\n\r\nhello", want: "200 X: \xe9\nhello"},
		{name: "Connection names others", send: ok + "Connection: x-mine, content-length, set-cookie\r\nX-Mine: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "the proxy's own header", send: ok + "Authsome-Error: denied\r\nAuthsome_Error: denied\r\nProxy-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nhello", want: "200 Authsome_error: denied\nhello"},

		// First lines.
		{name: "HTTP/0.9", send: "hello", hang: true, want: refusedAnswer},
		{name: "HTTP/0.9 by name", send: "HTTP/0.9 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "HTTP/1.2", send: "HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "HTTP/2.0", send: "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "HTTP/3.1 and the preface of another protocol", send: "SSH-2.0-x\r\n\r\n", hang: true, want: refusedAnswer},
		{name: "small letters", send: "http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "two spaces", send: "HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "status of two digits", send: "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "status of four digits", send: "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "status with a sign", send: "HTTP/1.1 +20 OK\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "status 000", send: "HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "an empty line before the answer", send: "\r\n" + ok + "Content-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "NUL before the answer", send: "\x00" + ok + "Content-Length: 5\r\n\r\nhello", want: refusedAnswer},

		// Statuses that say how an answer ends: RFC 9112, section 6.3, rules 1 and 2.
		{name: "204 with a body", send: "HTTP/1.1 204 No Content\r\nContent-Length: 57\r\n\r\n" + forged, want: "204 "},
		{name: "204 with chunks", send: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: "204 "},
		{name: "304 with a body", send: "HTTP/1.1 304 Not Modified\r\nContent-Length: 57\r\n\r\n" + forged, want: "304 "},
		{name: "101 that nobody asked for", send: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + forged, want: refusedAnswer},
		{name: "103 with a length", send: "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + ok + "Content-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "103 with a body", send: "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + ok + "Content-Length: 5\r\n\r\nhello", want: refusedAnswer},
		{name: "103 with chunks", send: "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + ok + "Content-Length: 5\r\n\r\nhello", want: "200 hello"},
		{name: "100 and nothing", send: "HTTP/1.1 100 Continue\r\n\r\n", hang: true, want: refusedAnswer},
		{name: "199", send: "HTTP/1.1 199 x\r\nX: a\r\n\r\n" + ok + "Content-Length: 5\r\n\r\nhello", want: "200 hello"},
	} {
		for _, how := range [][2]string{{"GET", http1}, {"POST", http1}, {"GET", http2}, {"POST", http2}} {
			t.Run(tt.name+", "+how[0]+" over "+how[1], func(t *testing.T) { tt.hold(t, how[0], how[1]) })
		}
	}
}

func (tt hostileAnswer) hold(t *testing.T, method, proto string) {
	w := newWorld(t)
	w.serveRaw(scoped, func(c *tls.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path != "/public/x" {
				if err := answerLine(c, r); err != nil {
					return
				}
				continue
			}
			if _, err := io.WriteString(c, tt.send); err != nil || tt.hang {
				return
			}
		}
	})
	tt.ask(t, w, method, proto)
}

// ask has a child ask the hostile service, and then twice for other things.
func (tt hostileAnswer) ask(t *testing.T, w *world, method, proto string) {
	t.Helper()
	c := w.client(proto)
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("a body")
	}
	c.Timeout = 10 * time.Second
	req, err := http.NewRequest(method, "https://"+scoped+"/public/x", body)
	if err != nil {
		t.Fatal(err)
	}
	got := brokenOff
	if res, err := c.Do(req); err == nil {
		got = told(res)
		_ = res.Body.Close()
	} else if late, ok := err.(net.Error); ok && late.Timeout() {
		got = err.Error()
	}
	// What breaks off may do so before all that was right in it has left.
	begin, broken := strings.CutSuffix(got, brokenOff)
	if whole, may := strings.CutSuffix(tt.want, brokenOff); got != tt.want && !(may && broken && strings.HasPrefix(whole, begin)) {
		t.Errorf("the child got %q, want %q", got, tt.want)
	}
	for _, client := range []*http.Client{c, w.client(http1)} {
		for _, next := range []string{http.MethodGet, http.MethodPut} {
			res := w.do(client, next, "https://"+scoped+"/public/other", nil)
			if line := text(t, res); res.StatusCode != 200 || line != next+" /public/other" {
				t.Errorf("the innocent %s got %s, %q", next, res.Status, line)
			}
		}
	}
}

// told is an answer in a line: status, headers but for the usual, body, and trailers.
func told(res *http.Response) string {
	if code := res.Header.Get("Authsome-Error"); code != "" {
		return fmt.Sprint(res.StatusCode, " ", code)
	}
	fields := func(h http.Header) (s string) {
		for _, name := range slices.Sorted(maps.Keys(h)) {
			if name != "Content-Length" && name != "Date" && name != "Trailer" {
				s += name + ": " + strings.Join(h[name], ", ") + "\n"
			}
		}
		return s
	}
	s := fmt.Sprint(res.StatusCode, " ", fields(res.Header))
	b, err := io.ReadAll(res.Body)
	if s += string(b); err != nil {
		return s + brokenOff
	}
	if len(res.Trailer) > 0 {
		s += " trailers " + fields(res.Trailer)
	}
	return s
}

// TestForgedRefusals: a service that writes what net/http writes to refuse a request gets none
// of the proxy's own answers to the child, wherever the text stands: to the child, it is
// what the service said.
func TestForgedRefusals(t *testing.T) {
	t.Parallel()
	const fields = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	const forged = "HTTP/1.1 400 Bad Request\r\n" + fields + "400 Bad Request: mine"
	const short = "400 Bad Request\r\nContent-Length: 41: mine"
	w := newWorld(t)
	w.serveRaw(scoped, func(c *tls.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		switch {
		case err != nil:
		case r.URL.Path == "/public/switch":
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(c, forged)
		case r.URL.Path == "/public/body":
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(forged)+1)
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(c, forged)
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(c, ".")
		default:
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 41\r\n"+fields+short)
		}
	})
	for path, want := range map[string]string{"header": short, "body": forged + ".", "switch": forged} {
		ask := "Pragma: x\r\nConnection: close\r\n\r\n" // not a front's to serve
		if path == "switch" {
			ask = "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
		}
		c, br := w.tunnel(scoped+":443", scoped)
		_, _ = io.WriteString(c, "GET /public/"+path+" HTTP/1.1\r\n"+hostLine+ask)
		got, err := io.ReadAll(br)
		if _, body, _ := strings.Cut(string(got), "\r\n\r\n"); err != nil || body != want {
			t.Errorf("%s: the child got %q, %v, want %q behind the header", path, got, err, want)
		}
	}
	// What net/http says by itself is still said in the proxy's words, also behind an answer.
	c, br := w.tunnel(scoped+":443", scoped)
	_ = text(t, exchange(t, c, br, getX+"Pragma: x\r\n\r\n"))
	problem(t, exchange(t, c, br, getX+"X Y: z\r\n\r\n"), 400, "bad_request")
}

// TestSmuggledUnaskedAnswers: what a service says on an idle connection is the answer to no
// request, and does not become that of the next one.
func TestSmuggledUnaskedAnswers(t *testing.T) {
	t.Parallel()
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	for name, unasked := range map[string]string{
		"an answer": forged, "two answers": forged + forged, "a part of one": "HTTP/1.1 200 OK\r\nX: ", "a byte": "\r", "a request": getX + "\r\n", "408": "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut} {
			t.Run(name+", "+method, func(t *testing.T) {
				w := newWorld(t)
				said := make(chan struct{}, 8)
				w.serveRaw(scoped, func(c *tls.Conn, br *bufio.Reader) {
					for {
						r, err := http.ReadRequest(br)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, r.Body)
						if answerLine(c, r) != nil {
							return
						}
						if r.URL.Path == "/public/first" {
							_, _ = io.WriteString(c, unasked)
							said <- struct{}{}
						}
					}
				})
				c := w.client(http1)
				for range 2 {
					_ = text(t, w.do(c, method, "https://"+scoped+"/public/first", nil))
					<-said
					// It comes through the internet's CONNECT proxy. What arrives behind the
					// next request nobody can tell from its answer.
					time.Sleep(200 * time.Millisecond)
					res := w.do(c, method, "https://"+scoped+"/public/other", nil)
					if got := text(t, res); got != method+" /public/other" {
						t.Errorf("the next request got %s, %q", res.Status, got)
					}
				}
			})
		}
	}
}

// TestSmuggledAnswersHTTP2: what HTTP/2 can carry in an answer does not get into the
// HTTP/1.1 that is spoken to a child.
func TestSmuggledAnswersHTTP2(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fields []string // name and value in turns
		want   string
	}{
		"as it should be":          {[]string{":status", "200", "x", "a", "content-length", "5"}, "200 X: a\nhello"},
		"CR LF in a value":         {[]string{":status", "200", "x", "a\r\nSet-Cookie: b"}, refusedAnswer},
		"LF in a value":            {[]string{":status", "200", "x", "a\n\nforged"}, refusedAnswer},
		"NUL in a value":           {[]string{":status", "200", "x", "a\x00"}, refusedAnswer},
		"CR LF in a name":          {[]string{":status", "200", "x: a\r\ny", "b"}, refusedAnswer},
		"colon in a name":          {[]string{":status", "200", "x:y", "b"}, refusedAnswer},
		"space in a name":          {[]string{":status", "200", "x ", "b"}, refusedAnswer},
		"capitals in a name":       {[]string{":status", "200", "Set-Cookie", "b"}, refusedAnswer},
		"no status":                {[]string{"x", "a"}, refusedAnswer},
		"CR LF in the status":      {[]string{":status", "200\r\nX: y"}, refusedAnswer},
		"status with a sign":       {[]string{":status", "+200"}, "200 hello"},
		"status of four digits":    {[]string{":status", "2000"}, refusedAnswer},
		"101":                      {[]string{":status", "101", "upgrade", "h2c"}, refusedAnswer},
		"status twice":             {[]string{":status", "200", ":status", "500"}, refusedAnswer},
		"pseudo-header of another": {[]string{":status", "200", ":path", "/admin"}, refusedAnswer},
		"pseudo-header behind":     {[]string{"x", "a", ":status", "200"}, refusedAnswer},
		"transfer-encoding":        {[]string{":status", "200", "transfer-encoding", "chunked"}, "200 hello"},
		"connection":               {[]string{":status", "200", "connection", "x", "x", "a", "keep-alive", "b"}, "200 hello"},
		"two lengths":              {[]string{":status", "200", "content-length", "5", "content-length", "6"}, "200 hello"},
		"length below the frames":  {[]string{":status", "200", "content-length", "3"}, "200 hel" + brokenOff},
		"length above the frames":  {[]string{":status", "200", "content-length", "9"}, "200 hello" + brokenOff},
		"length that is none":      {[]string{":status", "200", "content-length", "+5"}, "200 hello"},
		"the proxy's own header":   {[]string{":status", "200", "authsome-error", "denied"}, "200 hello"},
	} {
		for _, proto := range []string{http1, http2} {
			t.Run(name+" over "+proto, func(t *testing.T) {
				w := newWorld(t)
				w.serveHostileH2(tt.fields)
				hostileAnswer{want: tt.want}.ask(t, w, http.MethodGet, proto)
			})
		}
	}
}

// serveHostileH2 is a service that speaks HTTP/2 alone, by hand.
func (w *world) serveHostileH2(fields []string) {
	w.t.Helper()
	leaf, err := w.upstream.Leaf(scoped)
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"h2"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				speakH2(c, fields)
			}()
		}
	}()
	w.net.add(scoped+":443", ln.Addr().String())
}

func speakH2(c net.Conn, hostile []string) {
	if _, err := io.ReadFull(c, make([]byte, len(h2.ClientPreface))); err != nil {
		return
	}
	fr := h2.NewFramer(c, c)
	fr.AllowIllegalWrites = true
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	requests := map[uint32]*h2.MetaHeadersFrame{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		ended := false
		switch f := f.(type) {
		case *h2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *h2.MetaHeadersFrame:
			requests[f.StreamID], ended = f, f.StreamEnded()
		case *h2.DataFrame:
			ended = f.StreamEnded()
		}
		if !ended {
			continue
		}
		r := requests[f.Header().StreamID]
		list, body := hostile, "hello"
		if r.PseudoValue("path") != "/public/x" {
			list, body = []string{":status", "200"}, r.PseudoValue("method")+" "+r.PseudoValue("path")
		}
		block.Reset()
		for i := 0; i < len(list); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
		}
		_ = fr.WriteHeaders(h2.HeadersFrameParam{StreamID: r.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
		_ = fr.WriteData(r.StreamID, true, []byte(body))
	}
}
