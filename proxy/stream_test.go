package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestEventsAreNotHeldBack: the service sends an event only when the child has
// told it, on another request, that the one before has come. A proxy that waits
// for more would wait for ever.
func TestEventsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	for _, child := range []string{http1, http2} {
		for _, upstream := range []string{http1, http2} {
			w := newWorld(t)
			acked := make(chan struct{})
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ack" {
					acked <- struct{}{}
					return
				}
				rw.Header().Set("Content-Type", "text/event-stream")
				_ = http.NewResponseController(rw).Flush() // the header alone
				<-acked
				for i := range 5 {
					_, _ = fmt.Fprintf(rw, "data: %d\n\n", i)
					_ = http.NewResponseController(rw).Flush()
					<-acked
				}
			}, only(upstream))
			c := w.client(child)
			res := w.get(c, "https://api.openai.com/stream")
			w.get(c, "https://api.openai.com/ack")
			br := bufio.NewReader(res.Body)
			for i := range 5 {
				line, err := br.ReadString('\n')
				if err != nil || line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("%s to %s: %q, %v", child, upstream, line, err)
				}
				_, _ = br.ReadString('\n')
				w.get(c, "https://api.openai.com/ack")
			}
			if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
				t.Errorf("%q, %v", rest, err)
			}
		}
	}
}

// TestSlowAnswerOfKnownLength: also there each part arrives by itself.
func TestSlowAnswerOfKnownLength(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next := make(chan struct{})
	w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "3")
		for _, part := range []string{"", "a", "b", "c"} {
			_, _ = io.WriteString(rw, part)
			_ = http.NewResponseController(rw).Flush()
			<-next
		}
	})
	res := w.get(w.client(http1), "https://api.openai.com/")
	next <- struct{}{}
	for _, part := range []string{"a", "b", "c"} {
		got := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != part {
			t.Fatalf("%q, %v", got, err)
		}
		next <- struct{}{}
	}
}

// table has a length that no buffer has, so that a part of the pattern cannot be
// taken for another.
var table = func() []byte {
	b := make([]byte, 65521)
	for i := range b {
		b[i] = byte(i * 2654435761 >> 16)
	}
	return b
}()

// pattern is a body of n bytes.
type pattern struct{ at, n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.n-p.at)], table[p.at%int64(len(table)):])
	p.at += int64(n)
	return n, nil
}

// equalPattern reads r and says whether it is pattern{n: n}.
func equalPattern(r io.Reader, n int64) error {
	got, expect := make([]byte, 64<<10), make([]byte, 64<<10)
	want := &pattern{n: n}
	for total := int64(0); ; {
		k, err := r.Read(got)
		_, _ = io.ReadFull(want, expect[:k])
		if !bytes.Equal(got[:k], expect[:k]) {
			return fmt.Errorf("a difference before byte %d", total+int64(k))
		}
		total += int64(k)
		if err == io.EOF && total == n {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", total, n, err)
		}
	}
}

// TestBigBodies: 100 MB up and down, of known and unknown length, without
// being held in memory.
func TestBigBodies(t *testing.T) {
	const size = 100 << 20
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.Copy(struct{ io.Writer }{rw}, &pattern{n: size})
			return
		}
		if err := equalPattern(r.Body, size); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
		}
	})
	grown := watchHeap()
	for _, proto := range []string{http1, http2} {
		c := w.client(proto)
		if err := equalPattern(w.get(c, "https://api.openai.com/").Body, size); err != nil {
			t.Errorf("%s: download: %v", proto, err)
		}
		req, err := http.NewRequest(http.MethodPut, "https://api.openai.com/", io.NopCloser(&pattern{n: size}))
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []int64{size, -1} {
			req.ContentLength, req.Body = length, io.NopCloser(&pattern{n: size})
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != 200 {
				t.Errorf("%s: upload of length %d: %s", proto, length, text(t, res))
			}
			_ = res.Body.Close()
		}
	}
	if n := grown(); n > 48<<20 {
		t.Errorf("the heap grew by %d MB", n>>20)
	}
	ends := w.broker.ends(6)
	if ends[0].out.Received != size || ends[1].out.Sent != size || ends[2].out.Sent != size {
		t.Errorf("counted %d down, %d and %d up", ends[0].out.Received, ends[1].out.Sent, ends[2].out.Sent)
	}
}

// watchHeap looks at the heap from now on. The result gives by how much it had
// grown at its highest, in bytes.
func watchHeap() func() int64 {
	before := heap()
	var peak int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var m runtime.MemStats
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&m)
				peak = max(peak, int64(m.HeapAlloc))
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return peak - before
	}
}

// TestFiveGigabytes up and down: no limit of size or of time cuts them, none of
// the counters is of 32 bits, and none of it stays in memory. What the bytes are
// is TestBigBodies' business.
func TestFiveGigabytes(t *testing.T) {
	size := int64(5 << 30)
	if testing.Short() {
		size = 256 << 20
	}
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			_, _ = io.Copy(struct{ io.Writer }{rw}, &io.LimitedReader{R: tireless{}, N: size})
			return
		}
		_, _ = fmt.Fprint(rw, n, err)
	})
	grown := watchHeap()
	c := w.client(http1)
	if n, err := io.Copy(io.Discard, w.get(c, "https://api.openai.com/").Body); n != size || err != nil {
		t.Errorf("%d bytes came down, %v", n, err)
	}
	body := &io.LimitedReader{R: tireless{}, N: size}
	if got, want := text(t, w.do(c, http.MethodPut, "https://api.openai.com/", io.NopCloser(body))), fmt.Sprint(size, nil); got != want {
		t.Errorf("%s bytes went up", got)
	}
	if n := grown(); n > 32<<20 {
		t.Errorf("the heap grew by %d MB", n>>20)
	}
	if ends := w.broker.ends(2); ends[0].out.Received != size || ends[1].out.Sent != size {
		t.Errorf("counted %d down, %d up", ends[0].out.Received, ends[1].out.Sent)
	}
}

// tireless gives bytes of any value, without making them.
type tireless struct{}

func (tireless) Read(b []byte) (int, error) { return len(b), nil }

// TestChildGoesAway: the upstream request is given up, in the middle of either
// body, and that is what the audit says.
func TestChildGoesAway(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			w := newWorld(t)
			began, gone := make(chan struct{}), make(chan struct{})
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				defer close(gone)
				if r.Method == http.MethodPost {
					_, _ = io.ReadFull(r.Body, make([]byte, 5))
					close(began)
					_, _ = io.Copy(io.Discard, r.Body)
					return
				}
				_, _ = io.WriteString(rw, "begin")
				_ = http.NewResponseController(rw).Flush()
				close(began)
				<-r.Context().Done()
			})
			ctx, cancel := context.WithCancel(context.Background())
			pr, pw := io.Pipe()
			var body io.Reader
			if method == http.MethodPost {
				body = pr
				go func() { _, _ = io.WriteString(pw, "begin") }()
			}
			req, err := http.NewRequestWithContext(ctx, method, "https://api.openai.com/", body)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-began
				cancel()
				_ = pw.CloseWithError(context.Canceled) // the client waits for its body
			}()
			res, err := w.client(proto).Do(req)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			<-gone
			if ends := w.broker.ends(1); len(ends) != 1 || !strings.Contains(ends[0].out.Err, "client") {
				t.Errorf("%s %s: finished with %+v", proto, method, ends)
			}
			_ = pw.Close()
		}
	}
}

// TestUpstreamBreaksOff: an answer that is not whole does not look whole.
func TestUpstreamBreaksOff(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		for _, head := range []string{"Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz"} {
			w := newWorld(t)
			w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
				_, _ = http.ReadRequest(br)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head)
			})
			res, err := w.client(proto).Get("https://api.openai.com/")
			if err != nil {
				continue // cut before the header was out: as good
			}
			if got, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s: %q looks whole", proto, got)
			}
			_ = res.Body.Close()
			if ends := w.broker.ends(1); ends[0].out.Err == "" {
				t.Errorf("finished with %+v", ends[0].out)
			}
		}
	}
}

// TestEarlyAnswer: an upstream that answers before it has read the body is
// heard, as when it refuses an upload.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		rw.WriteHeader(http.StatusRequestEntityTooLarge)
		_ = http.NewResponseController(rw).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	}, only(http1))
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	res := exchange(t, c, br, "POST / HTTP/1.1\r\nHost: api.openai.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%s", res.Status)
	}
	_ = c.Close()
}

// TestUnusualBodies: a GET with a body, one that ends without a length, and an
// answer that ends with its connection.
func TestUnusualBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		_, _ = fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n%s %s", req.Method, body)
	})
	for _, proto := range []string{http1, http2} {
		for _, method := range []string{"GET", "DELETE", "PATCH", "REPORT", "get"} {
			res := w.do(w.client(proto), method, "https://api.openai.com/", io.NopCloser(strings.NewReader("body")))
			if got := text(t, res); got != method+" body" {
				t.Errorf("%s: %q", proto, got)
			}
		}
	}
}
