package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"
)

// The hosts. Each takes its key in another place; nobody routes the last.
const (
	hostBearer = "api.soak.example"
	hostBasic  = "basic.soak.example"
	hostQuery  = "query.soak.example"
	hostOAuth  = "api.soakauth.example"
	hostBlind  = "free.elsewhere.example"

	providerKey   = "soak"
	providerOAuth = "soakauth"
)

// The header fields of every answer: what the request said it was, and whose key
// came with it.
const (
	fieldNonce   = "X-Soak-Nonce"
	fieldAccount = "X-Soak-Account"
)

// arrival is one request that came with a key.
type arrival struct {
	nonce, provider, account string
	at                       time.Time
}

// services are all hosts. They keep what arrived until it is taken.
type services struct {
	keys  *keyring
	auth  *authServer
	judge *judge
	runs  *roster

	mu       sync.Mutex
	arrivals []arrival
	total    int
	nameless int // requests without a key that anybody knows
}

// take gives what has arrived since the last time.
func (s *services) take() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.arrivals
	s.arrivals = nil
	return out
}

// handler answers for one host: /n/NONCE/WHAT.
func (s *services) handler(host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce, what, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/n/"), "/")
		if !ok {
			http.Error(w, "no nonce", http.StatusNotFound)
			return
		}
		w.Header().Set(fieldNonce, nonce)
		value := secretOf(host, r)
		if host == hostBlind {
			if value != "" || strings.Contains(fmt.Sprint(r.Header, r.URL), canary) {
				s.judge.violate("a key went to %s, which nobody routes (%s)", host, nonce)
			}
			s.answer(w, r, nonce, what, "")
			return
		}
		k, known := s.keys.who(value)
		if host == hostOAuth {
			k, known = s.auth.who(value)
		}
		if !known {
			s.mu.Lock()
			s.nameless++
			s.mu.Unlock()
			http.Error(w, `{"error":"who are you"}`, http.StatusUnauthorized)
			return
		}
		now := time.Now()
		s.mu.Lock()
		s.arrivals = append(s.arrivals, arrival{nonce, k.provider, k.account, now})
		s.total++
		s.mu.Unlock()
		if k.stale(now) {
			s.judge.violate("a key of %s (%s) came %s after it was replaced (%s)", k.account, k.provider, now.Sub(k.retired).Round(time.Second), nonce)
		}
		s.runs.check(nonce, k.provider, k.account)
		w.Header().Set(fieldAccount, k.account)
		s.answer(w, r, nonce, what, value)
		if again, _ := s.keys.who(value); again.stale(time.Now()) {
			s.judge.violate("a stream with a key of %s goes on %s after it was replaced (%s)", k.account, time.Since(again.retired).Round(time.Second), nonce)
		}
		s.runs.over(nonce)
	})
}

// secretOf is what came in the host's own place.
func secretOf(host string, r *http.Request) string {
	switch host {
	case hostBasic:
		_, password, _ := r.BasicAuth()
		return password
	case hostQuery:
		return r.URL.Query().Get("key")
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// answer does what the path says, after the trouble that the query asks for.
func (s *services) answer(w http.ResponseWriter, r *http.Request, nonce, what, secret string) {
	q := r.URL.Query()
	switch q.Get("do") {
	case "reset":
		reset(w)
		return
	case "half":
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 5000))
		_ = http.NewResponseController(w).Flush()
		reset(w)
		return
	case "stall":
		select {
		case <-time.After(2 * time.Second):
		case <-r.Context().Done():
			return
		}
	}
	number := func(name string) int { n, _ := strconv.Atoi(q.Get(name)); return n }
	account := w.Header().Get(fieldAccount)
	switch what {
	case "get":
		out := map[string]string{"nonce": nonce, "account": account, "pad": strings.Repeat("x", number("pad"))}
		if q.Get("echo") != "" {
			w.Header().Set("X-Echo", "you sent "+secret)
			out["echo"] = "you sent " + secret
		}
		writeJSON(w, out)
	case "up":
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			return
		}
		writeJSON(w, map[string]string{"nonce": nonce, "account": account, "bytes": strconv.FormatInt(n, 10), "sha256": hex.EncodeToString(h.Sum(nil))})
	case "down":
		download(w, nonce, number("n"), q.Get("coding"))
	case "events":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range number("n") {
			if _, err := fmt.Fprintf(w, "data: %s %s %d\n\n", nonce, account, i); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Duration(number("every")) * time.Millisecond):
			}
		}
	case "ws":
		echoMessages(w, r, nonce, account, secret)
	case "grpc":
		// As gRPC ends: the status comes in the trailer.
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, "+fieldNonce+"-Trailer")
		if _, err := io.Copy(w, r.Body); err != nil {
			return
		}
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(fieldNonce+"-Trailer", nonce)
	default:
		http.Error(w, "no such thing", http.StatusNotFound)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// reset ends the connection as a crash would: by RST, or the stream of HTTP/2.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if t, ok := conn.(*tls.Conn); ok {
		if l, ok := t.NetConn().(interface{ SetLinger(int) error }); ok {
			_ = l.SetLinger(0)
		}
		_ = t.NetConn().Close()
		return
	}
	_ = conn.Close()
}

// contentOf is what a download of n bytes consists of. It is other bytes for every
// nonce, so that an answer that is partly another's is seen.
func contentOf(nonce string, n int) []byte {
	line := []byte(nonce + " 0123456789abcdefghijklmnopqrstuvwxyz\n")
	return bytes.Repeat(line, n/len(line)+1)[:n]
}

func download(w http.ResponseWriter, nonce string, n int, coding string) {
	var to io.WriteCloser
	switch coding {
	case "gzip":
		to = gzip.NewWriter(w)
	case "br":
		to = brotli.NewWriterLevel(w, 4)
	case "zstd":
		var err error
		// One window and no goroutines: there are many at once.
		if to, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true)); err != nil {
			panic(err)
		}
	default:
		_, _ = w.Write(contentOf(nonce, n))
		return
	}
	w.Header().Set("Content-Encoding", coding)
	w.Header().Set("Content-Type", "text/plain")
	_, _ = to.Write(contentOf(nonce, n))
	_ = to.Close()
}

func echoMessages(w http.ResponseWriter, r *http.Request, nonce, account, secret string) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	// The first message is what a careless service says.
	if err := c.Write(r.Context(), websocket.MessageText, []byte(nonce+" "+account+" you sent "+secret)); err != nil {
		return
	}
	for {
		t, text, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), t, text) != nil {
			return
		}
	}
}
