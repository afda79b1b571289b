package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/coder/websocket"
)

// TestCodexWebSocket: GET wss://api.openai.com/v1/responses over HTTP/1.1, with
// compression agreed on by the two ends, carries the key.
func TestCodexWebSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var handshake http.Header
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		handshake = r.Header.Clone()
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(8 << 20)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, bytes.ToUpper(message)); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, res, err := websocket.Dial(ctx, "wss://api.openai.com/v1/responses", &websocket.DialOptions{
		HTTPClient: w.client(http1), CompressionMode: websocket.CompressionContextTakeover,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + authsome.Placeholder}, "Openai-Beta": {"responses_websockets=2026-02-06"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(8 << 20)
	if got := handshake["Authorization"]; !slices.Equal(got, []string{"Bearer " + openaiKey}) || handshake.Get("Openai-Beta") == "" {
		t.Errorf("the service saw %v", handshake)
	}
	if !strings.Contains(res.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Errorf("extensions %q", res.Header.Get("Sec-WebSocket-Extensions"))
	}
	for _, message := range []string{"prewarm", strings.Repeat("compress me ", 1000), string(bytes.Repeat([]byte("0123456789abcdef"), 1<<18))} {
		if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != strings.ToUpper(message) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("the close handshake: %v", err)
	}
	end := w.broker.ends(1)[0]
	if end.out.Status != 101 || end.out.Sent == 0 || end.out.Received == 0 || end.res.Provider != "openai" || end.out.Err != "" {
		t.Errorf("finished with %+v", end.out)
	}
}

// TestWebSocketRefused: 426 and others come through as they are, for Codex falls
// back at once only on 426.
func TestWebSocketRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var status int
	w.serve("api.openai.com", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Upgrade", r.Header.Get("Upgrade"))
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, "no")
	})
	for _, status = range []int{426, 401, 500} {
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		res := exchange(t, c, br, handshake)
		if got := text(t, res); res.StatusCode != status || got != "no" || res.Header.Get("X-Upgrade") != "websocket" {
			t.Errorf("%s %q", res.Status, got)
		}
		// The connection goes on.
		if res := exchange(t, c, br, "GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"); res.StatusCode != status {
			t.Errorf("the next request: %s", res.Status)
		}
	}
}

const handshake = "GET /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// TestFramesAroundThe101: neither those that the service sends in the same
// write as its 101 nor those that the child sends right behind its request are
// lost, and half-closing ends the stream in order.
func TestFramesAroundThe101(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	heard := make(chan string, 1)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\nX-Other: y\r\n\r\nearly frame")
		got := make([]byte, len("eager frame"))
		_, _ = io.ReadFull(br, got)
		heard <- string(got)
		_, _ = io.WriteString(c, " last frame")
	})
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	res := exchange(t, c, br, handshake+"eager frame")
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "x" || res.Header.Get("X-Other") != "y" ||
		res.Header.Get("Upgrade") != "WebSocket" || !strings.EqualFold(res.Header.Get("Connection"), "upgrade") {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	if got := <-heard; got != "eager frame" {
		t.Errorf("the service heard %q", got)
	}
	if got, err := io.ReadAll(br); err != nil || string(got) != "early frame last frame" {
		t.Errorf("the child heard %q, %v", got, err)
	}
	_ = c.Close()
	if out := w.broker.ends(1)[0].out; out.Sent != 11 || out.Received != 22 {
		t.Errorf("counted %+v", out)
	}
}

// TestUpgradeWithABody: the body of a request that asks for another protocol gets to the
// service (Docker's attach has one), which cannot switch before it has ended.
func TestUpgradeWithABody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	heard := make(chan string, 1)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if r.URL.Path == "/whole" {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
		all, _ := io.ReadAll(br)
		heard <- string(all)
	})
	const head = " HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 6\r\n\r\n"
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	if res := exchange(t, c, br, "POST /whole"+head+"a body"+"a frame"); res.StatusCode != 101 {
		t.Errorf("%s", res.Status)
	}
	_ = c.CloseWrite()
	if got := <-heard; got != "a frame" {
		t.Errorf("the service heard %q", got)
	}
	c, br = w.tunnel("api.openai.com:443", "api.openai.com")
	problem(t, exchange(t, c, br, "POST /early"+head+"a "), 502, "upstream_unreachable")
	<-heard
}

// TestUnaskedUpgrade: a service cannot turn an ordinary request's connection
// into something else, and a child cannot smuggle requests behind h2c.
func TestUnaskedUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\nX-Asked: %s\r\n\r\n", req.Header.Get("Upgrade"))
		_, _ = io.Copy(io.Discard, br)
	})
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n",
		handshake,
		strings.Replace(handshake, "websocket", "h2c", 1),
		strings.Replace(handshake, "websocket", "websocket, other", 1),
		strings.Replace(handshake, "keep-alive, Upgrade", "keep-alive", 1),
	} {
		c, br := w.tunnel("api.openai.com:443", "api.openai.com")
		problem(t, exchange(t, c, br, request), 502, "upstream_unreachable")
	}
}
