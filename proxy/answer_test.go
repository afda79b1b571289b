package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// TestTrailersBothWays, over every pair of protocols, announced and not.
func TestTrailersBothWays(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			w := newWorld(t)
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Trailer", "Grpc-Status")
				body, _ := io.ReadAll(r.Body)
				_, _ = rw.Write(body)
				rw.Header().Set("Grpc-Status", r.Trailer.Get("X-Checksum"))
				rw.Header().Set(http.TrailerPrefix+"X-Late", "yes")
				rw.Header().Set(http.TrailerPrefix+"Authorization", "never")
			}, only(upstream))
			req, err := http.NewRequest(http.MethodPost, "https://api.openai.com/", io.NopCloser(strings.NewReader("body")))
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-Checksum": {"17"}}
			res, err := w.client(child).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := text(t, res)
			_ = res.Body.Close()
			if body != "body" || res.Trailer.Get("Grpc-Status") != "17" || res.Trailer.Get("X-Late") != "yes" || res.Trailer.Get("Authorization") != "" {
				t.Errorf("%s to %s: body %q, trailers %v", child, upstream, body, res.Trailer)
			}
		}
	}
}

// TestGRPC: its content type makes the upstream speak HTTP/2, TE passes, and
// messages go both ways while the request is open.
func TestGRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("X-Proto", r.Proto)
		rw.Header().Set("X-Te", r.Header.Get("Te"))
		rw.Header().Set("Trailer", "Grpc-Status")
		_ = http.NewResponseController(rw).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = rw.Write(bytes.ToUpper(buf[:n]))
			_ = http.NewResponseController(rw).Flush()
			if err != nil {
				break
			}
		}
		rw.Header().Set("Grpc-Status", "0")
	})
	pr, pw := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://api.openai.com/svc/Method", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	req.Header.Set("Te", "trailers")
	res, err := w.client(http2).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("X-Proto") != "HTTP/2.0" || res.Header.Get("X-Te") != "trailers" {
		t.Errorf("the service saw %s, TE %q", res.Header.Get("X-Proto"), res.Header.Get("X-Te"))
	}
	for _, message := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(pw, message); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != strings.ToUpper(message) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	_ = pw.Close()
	_, _ = io.ReadAll(res.Body)
	if res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("trailers %v", res.Trailer)
	}
}

// TestInformationalAnswers: 103 is passed on with its headers, 100 comes only
// when the service wants the body, and not when it does not.
func TestInformationalAnswers(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		w := newWorld(t)
		w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Link", "</style.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			rw.Header().Del("Link")
			if r.URL.Path == "/refuse" {
				rw.WriteHeader(http.StatusExpectationFailed)
				return
			}
			_, _ = io.Copy(rw, r.Body)
		}, only(http1))
		var hints, continued []string
		trace := &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					hints = append(hints, h.Get("Link"))
				}
				return nil
			},
			Got100Continue: func() { continued = append(continued, "yes") },
		}
		for path, status := range map[string]int{"/accept": 200, "/refuse": 417} {
			hints, continued = nil, nil
			c := w.client(proto)
			c.Transport.(*http.Transport).ExpectContinueTimeout = 1 << 40
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), http.MethodPut, "https://api.openai.com"+path, strings.NewReader("upload"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Expect", "100-continue")
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := text(t, res)
			_ = res.Body.Close()
			// Over HTTP/2 a hint that comes before the body is dropped, see interim.
			if res.StatusCode != status || proto == http1 && len(hints) != 1 || len(hints) > 0 && hints[0] == "" || res.Header.Get("Link") != "" {
				t.Errorf("%s %s: %d, hints %q, header %v", proto, path, res.StatusCode, hints, res.Header)
			}
			// net/http hides from a handler that an HTTP/2 client expects a 100, so
			// there it is always told to go on.
			if accepted := path == "/accept"; proto == http1 && accepted != (len(continued) == 1) || accepted && body != "upload" {
				t.Errorf("%s %s: continued %q, body %q", proto, path, continued, body)
			}
		}
	}
}

// TestEndlessInformationalAnswers: a service that never comes to the point is
// given up on.
func TestEndlessInformationalAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		_, _ = http.ReadRequest(br)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); err != nil {
				return
			}
		}
	})
	problem(t, w.get(w.client(http1), "https://api.openai.com/"), 502, "upstream_unreachable")
}

// TestAnswersWithoutABody keep their headers.
func TestAnswersWithoutABody(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			w := newWorld(t)
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Etag", `"x"`)
				switch r.URL.Path {
				case "/204":
					rw.WriteHeader(http.StatusNoContent)
				case "/304":
					rw.WriteHeader(http.StatusNotModified)
				case "/head":
					rw.Header().Set("Content-Length", "12345")
				case "/empty":
					rw.Header().Set("Content-Length", "0")
				}
			}, only(upstream))
			c := w.client(child)
			for _, tt := range []struct {
				method, path string
				status       int
				length       int64
			}{{"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}, {"HEAD", "/head", 200, 12345}, {"GET", "/empty", 200, 0}, {"DELETE", "/204", 204, 0}} {
				res := w.do(c, tt.method, "https://api.openai.com"+tt.path, nil)
				if res.StatusCode != tt.status || res.ContentLength != tt.length || res.Header.Get("Etag") != `"x"` || text(t, res) != "" {
					t.Errorf("%s to %s: %s %s: %d, length %d", child, upstream, tt.method, tt.path, res.StatusCode, res.ContentLength)
				}
			}
		}
	}
}

// TestLengthsArePreserved: a known length stays known, a stream a stream, and a
// POST without a body says so.
func TestLengthsArePreserved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(rw, "%d %v %q %d", r.ContentLength, r.TransferEncoding, r.Header["Content-Length"], n)
	}, only(http1))
	for _, tt := range []struct {
		body func() io.Reader
		want string
	}{
		{func() io.Reader { return strings.NewReader("abc") }, `3 [] ["3"] 3`},
		{func() io.Reader { return io.NopCloser(strings.NewReader("abc")) }, `-1 [chunked] [] 3`},
		{func() io.Reader { return http.NoBody }, `0 [] ["0"] 0`},
	} {
		for _, proto := range []string{http1, http2} {
			res := w.do(w.client(proto), http.MethodPost, "https://api.openai.com/", tt.body())
			if got := text(t, res); got != tt.want {
				t.Errorf("%s: the service saw %s, want %s", proto, got, tt.want)
			}
			if res.ContentLength != int64(len(tt.want)) {
				t.Errorf("%s: the answer's length is %d", proto, res.ContentLength)
			}
		}
	}
}

// TestEarlyHints pass over every pair of protocols when there is no body.
func TestEarlyHints(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			w := newWorld(t)
			w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) {
				for _, link := range []string{"</a>", "</b>"} {
					rw.Header().Set("Link", link)
					rw.WriteHeader(http.StatusEarlyHints)
				}
				rw.Header().Del("Link")
			}, only(upstream))
			var hints []string
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, h["Link"]))
				return nil
			}})
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.openai.com/", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := w.client(child).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if !slices.Equal(hints, []string{"103 [</a>]", "103 [</b>]"}) || res.Header.Get("Link") != "" {
				t.Errorf("%s to %s: hints %q, Link %q", child, upstream, hints, res.Header.Get("Link"))
			}
		}
	}
}
