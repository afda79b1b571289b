package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/proxy"
)

// echoKey is like those of real services: long, and no word.
const echoKey = "sk-proj-0123456789-AbCdEf+/=&<"

// scrubbed has the run's answers looked into, as they are by default.
func scrubbed(w *world, _ *proxy.Config) {
	w.broker.grants[token].Unscrubbed = false
	w.broker.set("openai", &account{secret: echoKey, private: true})
}

// spellings are how services tell the key.
func spellings(key string) []string {
	return []string{
		key, "Bearer " + key, base64.StdEncoding.EncodeToString([]byte("x:" + key)), base64.URLEncoding.EncodeToString([]byte("xy:" + key)),
		hex.EncodeToString([]byte(key)), url.QueryEscape(key), strings.ToUpper(hex.EncodeToString([]byte(key))),
	}
}

func gzipped(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.Bytes()
}

// TestAnswersAreScrubbed: wherever a service tells the key, the child does not
// get it.
func TestAnswersAreScrubbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scrubbed)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if key != echoKey {
			http.Error(rw, "no key", http.StatusUnauthorized)
			return
		}
		h := rw.Header()
		switch r.URL.Path {
		case "/body":
			_, _ = io.WriteString(rw, strings.Join(spellings(key), " | "))
		case "/bytewise":
			for _, c := range []byte("data: " + key + "\n\n") {
				_, _ = rw.Write([]byte{c})
				_ = http.NewResponseController(rw).Flush()
			}
		case "/header":
			h.Set("Location", "https://elsewhere.example/?key="+key)
			h.Set("X-Debug-"+key, "1")
			rw.WriteHeader(http.StatusFound)
		case "/hints":
			h.Set("Link", "</"+key+">; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			h.Del("Link")
			_, _ = io.WriteString(rw, "done")
		case "/trailer":
			h.Set("Trailer", "X-Key")
			_, _ = io.WriteString(rw, "body")
			h.Set("X-Key", key)
		case "/gzip":
			h.Set("Content-Encoding", "gzip")
			h.Set("Etag", `"1"`)
			_, _ = rw.Write(gzipped("your key is " + key))
		case "/clean-gzip":
			h.Set("Content-Encoding", "gzip")
			h.Set("Etag", `"1"`)
			_, _ = rw.Write(gzipped("nothing to see"))
		case "/unknown-coding":
			h.Set("Content-Encoding", "unknown")
			_, _ = io.WriteString(rw, "something else")
		case "/asked":
			_, _ = fmt.Fprintf(rw, "%q %q", r.Header["Accept-Encoding"], r.Header["Range"])
		}
	})
	for _, proto := range []string{http1, "h2"} {
		c := w.client(proto)
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		c.Transport.(*http.Transport).DisableCompression = true
		at := "https://api.openai.com"
		for _, path := range []string{"/body", "/bytewise", "/header", "/hints", "/trailer", "/gzip"} {
			w.broker.forget()
			res := w.get(c, at+path, "Accept-Encoding: gzip, br, unknown")
			body := text(t, res)
			all := fmt.Sprint(body, res.Header, res.Trailer, res.Status)
			for _, s := range spellings(echoKey) {
				if strings.Contains(all, s) {
					t.Errorf("%s, %s: the child got %s", proto, path, all)
				}
			}
			// What is no part of an answer's end is told as well.
			if out := w.broker.last(); path != "/hints" && out.Scrubbed == 0 {
				t.Errorf("%s, %s: no word of it in %+v", proto, path, out)
			}
			switch path {
			case "/bytewise":
				if want := "data: " + strings.Repeat("*", len(echoKey)) + "\n\n"; body != want {
					t.Errorf("%s: %q, want %q", proto, body, want)
				}
			case "/gzip":
				if want := "your key is " + strings.Repeat("*", len(echoKey)); body != want || res.Header.Get("Content-Encoding") != "" || res.Header.Get("Etag") != `W/"1"` {
					t.Errorf("%s: %q, %v", proto, body, res.Header)
				}
			case "/body":
				if n := strings.Count(body, "*"); n < 7*len(echoKey) {
					t.Errorf("%s: %d asterisks in %s", proto, n, body)
				}
			}
		}
		res := w.get(c, at+"/clean-gzip", "Accept-Encoding: gzip")
		if body := text(t, res); body != string(gzipped("nothing to see")) || res.Header.Get("Etag") != `"1"` || res.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: an answer that holds nothing came as %q, %v", proto, body, res.Header)
		}
		w.broker.forget()
		if got := text(t, w.get(c, at+"/unknown-coding")); got != "something else" || !w.broker.last().Unseen {
			t.Errorf("%s: a body in a coding that nobody asked for: %q, %+v", proto, got, w.broker.last())
		}
		if got := text(t, w.get(c, at+"/asked", "Accept-Encoding: zstd, unknown, gzip;q=0.5")); got != `["zstd, gzip;q=0.5"] []` {
			t.Errorf("%s: the service was asked for %s", proto, got)
		}
		if got := text(t, w.get(c, at+"/asked", "Accept-Encoding: gzip", "Range: bytes=0-1")); got != `["identity"] ["bytes=0-1"]` {
			t.Errorf("%s: with a range, the service was asked for %s", proto, got)
		}
	}
}

// TestScrubbedEventsLeaveAtOnce: an event that does not end with what may be the
// beginning of a key is on the wire before the next one is made, also where it held
// one, and where it came encoded.
func TestScrubbedEventsLeaveAtOnce(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{http1, http2} {
		for _, coding := range []string{"identity", "gzip", "deflate", "br", "zstd"} {
			w := newWorld(t, scrubbed)
			next := make(chan struct{})
			w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/event-stream")
				var out io.Writer = rw
				flush := func() {}
				if r.Header.Get("Accept-Encoding") == coding && coding != "identity" {
					rw.Header().Set("Content-Encoding", coding)
					e := encoder(coding, rw)
					defer func() { _ = e.Close() }()
					out, flush = e, func() { _ = e.Flush() }
				}
				for i := range 5 {
					_, _ = fmt.Fprintf(out, "data: %d %s\n\n", i, r.Header.Get("Authorization"))
					flush()
					_ = http.NewResponseController(rw).Flush()
					select {
					case <-next:
					case <-r.Context().Done():
						return
					}
				}
			})
			res := w.get(w.client(proto), "https://api.openai.com/events", "Accept-Encoding: "+coding)
			buf := make([]byte, 64)
			for i := range 5 {
				want := fmt.Sprintf("data: %d Bearer %s\n\n", i, strings.Repeat("*", len(echoKey)))
				if n, err := io.ReadFull(res.Body, buf[:len(want)]); err != nil || string(buf[:n]) != want {
					t.Fatalf("%s, %s, event %d: %q, %v", proto, coding, i, buf[:n], err)
				}
				next <- struct{}{}
			}
			if rest := text(t, res); rest != "" {
				t.Errorf("%s, %s: at the end %q", proto, coding, rest)
			}
		}
	}
}

// TestRunWithoutScrubbing gets everything as it comes, and asks for what it
// likes.
func TestRunWithoutScrubbing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Header.Get("Authorization")+r.Header.Get("Accept-Encoding"))
	})
	if got := text(t, w.get(w.client(http1), "https://api.openai.com/", "Accept-Encoding: unknown")); got != "Bearer "+openaiKey+"unknown" {
		t.Errorf("the child got %q", got)
	}
}

// TestMessagesAreScrubbed: text messages of a WebSocket, in parts and with
// control frames between them; binary ones stay, and nothing is compressed.
func TestMessagesAreScrubbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scrubbed)
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		offered := r.Header.Get("Sec-WebSocket-Extensions")
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
		defer cancel()
		_ = c.Write(ctx, websocket.MessageText, []byte("offered: "+offered))
		m, _ := c.Writer(ctx, websocket.MessageText)
		for _, b := range []byte("key=" + echoKey + ";") {
			_, _ = m.Write([]byte{b})
		}
		_ = m.Close()
		_ = c.Write(ctx, websocket.MessageBinary, []byte(echoKey))
		_ = c.Write(ctx, websocket.MessageText, []byte("end "+echoKey[:5]))
		_ = c.Close(websocket.StatusNormalClosure, "")
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://api.openai.com/v1/realtime", &websocket.DialOptions{
		HTTPClient: w.client(http1), CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	for _, want := range []string{"offered: ", "key=" + strings.Repeat("*", len(echoKey)) + ";", echoKey, "end " + echoKey[:5]} {
		_, got, err := c.Read(ctx)
		if err != nil || string(got) != want {
			t.Errorf("message %q, %v, want %q", got, err, want)
		}
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the end: %v", err)
	}
	for end := time.Now().Add(10 * time.Second); w.broker.last().Scrubbed == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no word of it in the outcome")
		}
	}
}

// TestGuardedAnswers: secrets that were not put on the request are looked for
// where the broker says so.
func TestGuardedAnswers(t *testing.T) {
	t.Parallel()
	const refresh = "rt-0123456789-abcdefghij"
	w := newWorld(t, scrubbed, func(w *world, _ *proxy.Config) {
		w.broker.guard = []authsome.Secret{authsome.NewSecret(refresh)}
	})
	w.serve("api.openai.com", func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, `{"refresh_token":"`+refresh+`"}`)
	})
	if got := text(t, w.get(w.client(http1), "https://api.openai.com/oauth/token")); strings.Contains(got, refresh) || !strings.Contains(got, "****") {
		t.Errorf("the child got %s", got)
	}
}
