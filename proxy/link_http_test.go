package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// linkOf reads text as if a service had sent it.
func linkOf(text string) *link {
	return &link{br: bufio.NewReaderSize(strings.NewReader(text), 4<<10)}
}

// TestUsualAnswers: real services' answers are read by us, and what is odd is
// left to net/http.
func TestUsualAnswers(t *testing.T) {
	t.Parallel()
	const length = "Content-Length: 2\r\n"
	for text, usual := range map[string]bool{
		"HTTP/1.1 200 OK\r\n" + length + "\r\n":                                                true,
		"HTTP/1.1 200 \r\n" + length + "\r\n":                                                  true,
		"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n": true,
		"HTTP/1.1 204 No Content\r\n\r\n":                                                      true,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n":                              true,
		"HTTP/1.1 200 OK\r\nConnection: close\r\n" + length + "\r\n":                           true,

		"HTTP/1.1 200 OK\r\n\r\n":                                                           false, // ends with the connection
		"HTTP/1.1 200\r\n" + length + "\r\n":                                                false,
		"HTTP/1.0 200 OK\r\n" + length + "\r\n":                                             false,
		"HTTP/1.1 103 Early Hints\r\n\r\n":                                                  false,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n":                    false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                             false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + length + "\r\n":               false,
		"HTTP/1.1 200 OK\r\n" + length + length + "\r\n":                                    false,
		"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n":                                     false,
		"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n":                                   false,
		"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999\r\n\r\n":                       false,
		"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n":                                     false,
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n" + length + "\r\n":                               false, // folded
		"HTTP/1.1 200 OK\r\nA: b\x00\r\n" + length + "\r\n":                                 false,
		"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\n" + length + "\r\n":                      false,
		"HTTP/1.1 200 OK\r\nA: b\nSet-Cookie: c\r\n" + length + "\r\n":                      false,
		"HTTP/1.1 +20 OK\r\n" + length + "\r\n":                                             false,
		"HTTP/1.1 2000 OK\r\n" + length + "\r\n":                                            false,
		"HTTP/1.1  200 OK\r\n" + length + "\r\n":                                            false,
		"HTTP/1.1 200 OK\r\n" + length + strings.Repeat("A: b\r\n", maxUsualLines) + "\r\n": false,
	} {
		if _, ok := parseAnswer(text, http.MethodGet); ok != usual {
			t.Errorf("%q: taken %v, want %v", text, ok, usual)
		}
	}
}

// FuzzAnswer: an answer that is read by us is read the same by net/http, and
// leaves the same behind it on the connection.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
		"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: u\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"HTTP/1.1 200 OK\r\npragma: no-cache\r\nCONTENT-length: 0\r\nA:\t b \r\nA: \xff\r\n\r\n",
		"HTTP/1.1 999 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, head bool) {
		r := &http.Request{Method: http.MethodGet}
		if head {
			r.Method = http.MethodHead
		}
		l := linkOf(text)
		l.left = maxHeader
		ours, err := l.readAnswer(r)
		br := bufio.NewReaderSize(strings.NewReader(text), 4<<10)
		theirs, err2 := http.ReadResponse(br, r)
		if err2 == nil && !validStatus(theirs.StatusCode) {
			err2 = errAnswer
		}
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%q: %v, net/http says %v", text, err, err2)
		}
		if err != nil {
			return
		}
		body, err := io.ReadAll(ours.Body)
		body2, err2 := io.ReadAll(theirs.Body)
		if !bytes.Equal(body, body2) || (err == nil) != (err2 == nil) ||
			errors.Is(err, io.ErrUnexpectedEOF) != errors.Is(err2, io.ErrUnexpectedEOF) {
			t.Fatalf("%q: body %q (%v), net/http reads %q (%v)", text, body, err, body2, err2)
		}
		ours.Body, theirs.Body = nil, nil
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q:\n%+v, net/http reads\n%+v", text, ours, theirs)
		}
		rest, _ := io.ReadAll(l.br)
		rest2, _ := io.ReadAll(br)
		if !bytes.Equal(rest, rest2) {
			t.Fatalf("%q: leaves %q behind, net/http %q", text, rest, rest2)
		}
	})
}

func (l *link) text(t *testing.T, r *http.Request) string {
	t.Helper()
	var buf bytes.Buffer
	l.bw = bufio.NewWriterSize(&buf, 4<<10)
	if err := l.write(r); err != nil {
		t.Fatal(err)
	}
	_ = l.bw.Flush()
	return buf.String()
}

// FuzzWrite: a request is on the wire as net/http would have put it there.
func FuzzWrite(f *testing.F) {
	f.Add("GET", "/v1/models", "a=b", "api.openai.com", "Authorization", "Bearer x", "User-Agent", "curl")
	f.Add("HEAD", "//x", "", "api.openai.com:8443", "User-Agent", "", "X", " padded\t")
	f.Add("OPTIONS", "/%2e/", "?", "[::1]", "Content-Length", "5", "Transfer-Encoding", "chunked")
	f.Add("GET", "/", "", "h", "Te", "trailers", "Connection", "x")
	f.Fuzz(func(t *testing.T, method, path, query, host, name, value, name2, value2 string) {
		to, port, err := parseAuthority(host, 443)
		if err != nil {
			return // is refused before
		}
		host = joinAuthority(to, port, 443)
		u := &url.URL{Scheme: "https", Host: host, RawQuery: query, Opaque: path}
		if strings.HasPrefix(path, "//") {
			u.Opaque = "//" + host + path
		}
		r := &http.Request{Method: method, URL: u, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}
		r.Header = http.Header{"User-Agent": nil, name: {value}}
		r.Header[name2] = append(r.Header[name2], value2, "again")
		if !new(links).takes(r) {
			return
		}
		var theirs bytes.Buffer
		if err := r.Write(&theirs); err != nil {
			return // Transport would have refused it, as the exchange has before
		}
		if ours := new(link).text(t, r); ours != theirs.String() {
			t.Fatalf("%q\nnet/http writes\n%q", ours, theirs.String())
		}
	})
}
