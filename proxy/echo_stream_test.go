package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/authsome/authsome/proxy"
)

// TestScrubbedOverHTTP2: a service that speaks HTTP/2 alone tells the key in frames of
// one byte, in every coding, and in trailers.
func TestScrubbedOverHTTP2(t *testing.T) {
	t.Parallel()
	const said = "your key is " + rawKey + ", is it?"
	want := strings.ReplaceAll(said, rawKey, rawStars)
	w := newWorld(t, holding(rawKey))
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		coding, size := r.Header.Get("Accept-Encoding"), 1
		body := said
		if coding != "identity" {
			rw.Header().Set("Content-Encoding", coding)
			body = coded(coding, said[:20], said[20:])
		}
		if r.URL.Path == "/whole" {
			size = len(body)
		}
		rw.Header().Set("Trailer", "X-Last, X-"+rawKey)
		rw.Header().Set("Link", "<"+rawKey+">")
		rw.WriteHeader(http.StatusEarlyHints)
		for body != "" {
			_, _ = io.WriteString(rw, body[:min(size, len(body))])
			_ = http.NewResponseController(rw).Flush()
			body = body[min(size, len(body)):]
		}
		rw.Header().Set("X-Last", rawKey)
		rw.Header().Set("X-"+rawKey, "1")
	}, only(http2))
	for _, proto := range []string{http1, http2} {
		for _, coding := range []string{"identity", "gzip", "deflate", "br", "zstd"} {
			for _, path := range []string{"/whole", "/bytes"} {
				w.broker.forget()
				h := w.listen(proto, "GET", "https://api.openai.com"+path, "Accept-Encoding: "+coding)
				// The field of the early answer is in the last one as well.
				if out := w.broker.last(); h.err != nil || h.body != want || leaks(h.bytes, rawKey) != nil || out.Scrubbed != 5 || out.Unseen {
					t.Errorf("%s, %s%s: %q, %v, %+v: %.500q", proto, coding, path, h.body, h.err, out, h.bytes)
				}
				if h.Trailer.Get("X-Last") != rawStars || h.Trailer.Get("X-"+rawStars) != "1" || len(h.early) != 1 || h.early[0].Get("Link") != "<"+rawStars+">" {
					t.Errorf("%s, %s%s: early %v, trailers %v", proto, coding, path, h.early, h.Trailer)
				}
			}
		}
	}
}

// TestEndlessAnswers: what never comes to an end is given up where nothing can be done
// with it, and goes on for as long as the child listens where it can.
func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	zipped := coded("gzip", strings.Repeat("x", 1000)+rawKey)
	for name, tt := range map[string]struct{ begin, again, code, want string }{
		"1xx":            {"", "HTTP/1.1 103 Early Hints\r\nLink: <" + rawKey + ">\r\n\r\n", "upstream_unreachable", ""},
		"100":            {"", "HTTP/1.1 100 Continue\r\n\r\n", "upstream_unreachable", ""},
		"102":            {"", "HTTP/1.1 102 Processing\r\n\r\n", "upstream_unreachable", ""},
		"a status line":  {"HTTP/1.1 200 ", strings.Repeat("x", 1000), "upstream_unreachable", ""},
		"a header":       {ok, "X-More: " + strings.Repeat("x", 1000) + "\r\n", "upstream_unreachable", ""},
		"a field":        {ok + "X-More: ", strings.Repeat("x", 1000), "upstream_unreachable", ""},
		"a body":         {ok + "\r\n", strings.Repeat("x", 1000) + rawKey, "", strings.Repeat("x", 1000) + rawStars},
		"chunks":         {ok + "Transfer-Encoding: chunked\r\n\r\n", chunk(strings.Repeat("x", 1000) + rawKey), "", strings.Repeat("x", 1000) + rawStars},
		"members":        {ok + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(zipped), "", strings.Repeat("x", 1000) + rawStars},
		"chunks' margin": {ok + "Transfer-Encoding: chunked\r\n\r\n3", strings.Repeat(";x", 500), "cut", ""},
		"trailers":       {ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "X-More: " + strings.Repeat("x", 1000) + "\r\n", "cut", "x"},
	} {
		for _, proto := range []string{http1, http2} {
			t.Run(name+"/"+proto, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, holding(rawKey))
				gone := make(chan struct{}, 10)
				w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					_, err := io.WriteString(c, tt.begin)
					for err == nil {
						_, err = io.WriteString(c, tt.again)
					}
					gone <- struct{}{}
				})
				res, err := w.client(proto).Get("https://api.openai.com/")
				if tt.code == "cut" && err != nil {
					<-gone
					return // before its header was out
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				switch tt.code {
				case "":
					got := make([]byte, 100*len(tt.want))
					if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != strings.Repeat(tt.want, 100) {
						t.Errorf("%.2000q, %v", got, err)
					}
				case "cut":
					if got, err := io.ReadAll(res.Body); err == nil || !strings.HasPrefix(tt.want, string(got)) {
						t.Errorf("%.100q, %v", got, err)
					}
				default:
					problem(t, res, 502, tt.code)
				}
				_ = res.Body.Close()
				<-gone
				if out := w.broker.last(); out.Err == "" {
					t.Errorf("finished with %+v", out)
				}
			})
		}
	}
}

// chunk is one of a body.
func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// served is a frame of a service.
func served(bits byte, payload string) string {
	if len(payload) > 125 {
		panic("too long for one byte")
	}
	return string([]byte{bits, byte(len(payload))}) + payload
}

// TestSocketsAreScrubbed: whatever frames a service sends, in whatever pieces, their
// number and lengths stay, and text does not tell the key.
func TestSocketsAreScrubbed(t *testing.T) {
	t.Parallel()
	const key = "sk-0123456789abcdef"
	stars := strings.Repeat("*", len(key))
	encoded := base64.StdEncoding.EncodeToString([]byte("user:" + key))
	for name, tt := range map[string]struct {
		says, want string
		places     int
		unseen     bool
	}{
		"a text": {served(0x81, "a "+key), served(0x81, "a "+stars), 1, false},
		"parts, and pings between them": {
			served(0x01, "a "+key[:3]) + served(0x89, "?") + served(0x00, key[3:9]) + served(0x8a, "") + served(0x00, "") + served(0x80, key[9:]+" b") + served(0x81, key),
			served(0x01, "a "+stars[:3]) + served(0x89, "?") + served(0x00, stars[3:9]) + served(0x8a, "") + served(0x00, "") + served(0x80, stars[9:]+" b") + served(0x81, stars), 2, false,
		},
		"a reason":             {served(0x88, "\x0f\xa0bad key "+key), served(0x88, "\x0f\xa0bad key "+stars), 1, false},
		"a reason amid a text": {served(0x01, key[:9]) + served(0x88, "\x0f\xa0"+key), served(0x01, key[:9]) + served(0x88, "\x0f\xa0"+stars), 1, false},
		"Base64":               {served(0x81, encoded), served(0x81, encoded[:7]+strings.Repeat("*", len(encoded)-7)), 1, false},
		"binary, which stays":  {served(0x82, key), served(0x82, key), 0, false},
		"masked":               {"\x81\x93abcd" + masked(key, "abcd"), "\x81\x93abcd" + masked(key, "abcd"), 0, true},
		"compressed":           {served(0xc1, coded("raw", key)), served(0xc1, coded("raw", key)), 0, true},
		"no frames":            {"\x81\x7e\x00\x01" + key, "\x81\x7e\x00\x01" + key, 0, true},
	} {
		for _, size := range []int{1, 5, 1000} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, holding(key))
				w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
					trickle(c, tt.says, size)
				})
				c, br := w.tunnel("api.openai.com:443", "api.openai.com")
				if res := exchange(t, c, br, handshake); res.StatusCode != 101 {
					t.Fatal(res.Status)
				}
				if got, err := io.ReadAll(br); err != nil || string(got) != tt.want {
					t.Errorf("%q, %v, want %q", got, err, tt.want)
				}
				_ = c.Close()
				if out := w.broker.last(); out.Scrubbed != tt.places || out.Unseen != tt.unseen {
					t.Errorf("%+v", out)
				}
			})
		}
	}
}

func masked(text, key string) string {
	b := []byte(text)
	for i := range b {
		b[i] ^= key[i&3]
	}
	return string(b)
}

// TestOtherProtocolsAreUnseen: what a connection is used for after a switch to
// something else than WebSocket is nobody's to understand, and that is said.
func TestOtherProtocolsAreUnseen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, holding(rawKey))
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shell\r\nX-Debug: "+rawKey+"\r\n\r\n"+rawKey)
	})
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	res := exchange(t, c, br, strings.Replace(handshake, "websocket", "shell", 1))
	if res.StatusCode != 101 || res.Header.Get("X-Debug") != rawStars {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	if got, err := io.ReadAll(br); err != nil || string(got) != rawKey {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()
	if out := w.broker.last(); out.Scrubbed != 1 || !out.Unseen {
		t.Errorf("%+v", out)
	}
}

// TestExtensionIsTakenOutOfTheOffer where messages are scrubbed, and only there.
func TestExtensionIsTakenOutOfTheOffer(t *testing.T) {
	t.Parallel()
	for _, unscrubbed := range []bool{false, true} {
		w := newWorld(t, holding(rawKey), func(w *world, _ *proxy.Config) { w.broker.grants[token].Unscrubbed = unscrubbed })
		offered := make(chan []string, 1)
		w.serveRaw("api.openai.com", func(_ *tls.Conn, br *bufio.Reader) {
			if req, err := http.ReadRequest(br); err == nil {
				offered <- req.Header["Sec-Websocket-Extensions"]
			}
		})
		c, _ := w.tunnel("api.openai.com:443", "api.openai.com")
		_, _ = io.WriteString(c, strings.Replace(handshake, "Sec-WebSocket-Key", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Key", 1))
		if got := <-offered; (len(got) == 1) != unscrubbed {
			t.Errorf("unscrubbed %t: offered %q", unscrubbed, got)
		}
		_ = c.Close()
	}
}
