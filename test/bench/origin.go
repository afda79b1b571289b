package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// originConfig is what the origin is started with.
type originConfig struct {
	Certificate, Key []byte // PEM
	Credential       string
}

// originReady is its answer.
type originReady struct{ Addr string }

// playOrigin is the service behind every way: net/http over TLS, HTTP/1.1 and
// HTTP/2. It refuses whoever does not bring the real credential. A connection
// that begins with a CONNECT, to whatever host, is taken for one through a
// company's proxy: this is how authsome reaches hosts that exist nowhere.
func playOrigin(in *json.Decoder, out *json.Encoder) error {
	var c originConfig
	if err := in.Decode(&c); err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"},
		// The one that all proxies know, so that all do the same.
		CurvePreferences: []tls.CurveID{tls.X25519},
	}
	inner := newHandoff(ln.Addr())
	go accept(ln, func(conn net.Conn) { admit(conn, config, inner) })
	srv := &http.Server{Handler: service(c.Credential), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(inner) }()
	if err := out.Encode(originReady{ln.Addr().String()}); err != nil {
		return err
	}
	var nothing any
	_ = in.Decode(&nothing) // until the input ends
	return nil
}

// accept runs serve for every connection of ln.
func accept(ln net.Listener, serve func(net.Conn)) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

// admit answers a CONNECT, if one comes, and hands the TLS behind it over.
func admit(conn net.Conn, config *tls.Config, to *handoff) {
	c := &readAhead{Conn: conn}
	host, err := c.connect()
	if err != nil {
		_ = conn.Close()
		return
	}
	if host != "" {
		if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			_ = conn.Close()
			return
		}
	}
	to.give(tls.Server(c, config))
}

// readAhead is a connection whose first bytes were read already.
type readAhead struct {
	net.Conn
	ahead []byte
}

func (c *readAhead) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// connect reads a CONNECT and gives its host, "" when the connection begins with
// something else, which then is ahead.
func (c *readAhead) connect() (string, error) {
	var buf [4096]byte
	n := 0
	for {
		k, err := c.Conn.Read(buf[n:])
		if err != nil {
			return "", err
		}
		if n += k; buf[0] != 'C' {
			c.ahead = append([]byte(nil), buf[:n]...)
			return "", nil
		}
		if head, rest, ok := strings.Cut(string(buf[:n]), "\r\n\r\n"); ok {
			f := strings.Fields(head)
			if len(f) < 3 || f[0] != http.MethodConnect {
				return "", fmt.Errorf("no CONNECT: %q", head)
			}
			c.ahead = []byte(rest)
			host, _, err := net.SplitHostPort(f[1])
			return host, err
		}
		if n == len(buf) {
			return "", fmt.Errorf("a CONNECT of over %d bytes", n)
		}
	}
}

// handoff turns connections into a net.Listener's.
type handoff struct {
	conns chan net.Conn
	addr  net.Addr
	once  sync.Once
	done  chan struct{}
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{conns: make(chan net.Conn), addr: addr, done: make(chan struct{})}
}

func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error   { h.once.Do(func() { close(h.done) }); return nil }
func (h *handoff) Addr() net.Addr { return h.addr }

// service answers the requests:
//
//	/small            1 KB of JSON
//	/bytes?n=N        N bytes of text
//	/sink             reads what comes, and says how much it was
//	/stream?every=D   events with the time, every D; without it one, and silence
//	/ws               a WebSocket that says everything back
func service(credential string) http.Handler {
	// Text, not zeros: whoever looks into answers has something to look at.
	random := make([]byte, 48<<10)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(random)
	bulk := []byte(base64.StdEncoding.EncodeToString(random)) // 64 KB
	small := []byte(`{"data":"` + string(bulk[:1000]) + `"}`)
	want := "Bearer " + credential
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/small":
			w.Header()["Content-Type"] = []string{"application/json"}
			_, _ = w.Write(small)
		case "/bytes":
			n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
			for n > 0 {
				k, err := w.Write(bulk[:min(n, int64(len(bulk)))])
				if err != nil {
					return
				}
				n -= int64(k)
			}
		case "/sink":
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 6664<<10))
			if err != nil {
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"received":%d}`, n)
		case "/stream":
			stream(w, r)
		case "/ws":
			serveWebSocket(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// stream sends server-sent events until the client goes. Each holds the time at
// which it was sent, in nanoseconds.
func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	event := func() error {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano()); err != nil {
			return err
		}
		return rc.Flush()
	}
	if event() != nil {
		return
	}
	every, err := time.ParseDuration(r.FormValue("every"))
	if err != nil {
		<-r.Context().Done()
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if event() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// serveWebSocket switches protocols and says every message back.
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: "+webSocketAccept(key)+"\r\n\r\n"); err != nil {
		return
	}
	echoWebSocket(conn, bufio.NewReaderSize(io.MultiReader(rw.Reader, conn), 664<<10))
}
