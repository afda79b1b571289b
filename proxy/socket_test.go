package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/coder/websocket"
)

const (
	gateway  = "gateway.chat.example"
	botToken = `bot"token`
)

// chat puts the token into the field d.token of messages at the gateway.
func chat(at string) map[string]func(*authsome.Request) *authsome.Resolution {
	return map[string]func(*authsome.Request) *authsome.Resolution{gateway: func(r *authsome.Request) *authsome.Resolution {
		if !strings.EqualFold(r.Upgrade, "websocket") {
			return nil
		}
		return &authsome.Resolution{Connection: "bot", Message: &authsome.Message{At: at, Value: authsome.NewSecret(botToken)}}
	}}
}

// TestGatewayLogin: a client of a chat gateway names itself with a placeholder
// in a message; the gateway reads the token there, and nowhere else.
func TestGatewayLogin(t *testing.T) {
	t.Parallel()
	w := newSlotted(t, chat("d.token"))
	var offered []string
	got := make(chan string, 10)
	w.serve(gateway, func(rw http.ResponseWriter, r *http.Request) {
		offered = r.Header["Sec-Websocket-Extensions"]
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(1 << 20)
		if err := c.Write(r.Context(), websocket.MessageText, []byte(`{"op":10}`+strings.Repeat(" ", 200<<10))); err != nil {
			return
		}
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				got <- fmt.Sprint(websocket.CloseStatus(err))
				return
			}
			got <- fmt.Sprint(kind, " ", string(message))
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, res, err := websocket.Dial(ctx, "wss://"+gateway+"/?v=10&encoding=json", &websocket.DialOptions{
		HTTPClient: w.client(http1), CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if ext := res.Header.Get("Sec-WebSocket-Extensions"); ext != "" || len(offered) != 0 {
		t.Errorf("extensions %q were offered, and %q agreed on", offered, ext)
	}
	c.SetReadLimit(1 << 20)
	if _, hello, err := c.Read(ctx); err != nil || !strings.HasPrefix(string(hello), `{"op":10}`) {
		t.Fatalf("%.20s, %v", hello, err)
	}
	send := func(kind websocket.MessageType, text string) {
		t.Helper()
		if err := c.Write(ctx, kind, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	send(websocket.MessageText, `{"op":2,"d":{"token":"`+authsome.Placeholder+`.bot","intents":7}}`)
	send(websocket.MessageText, `{"op":3,"d":{"activities":[{"name":"`+authsome.Placeholder+`"}]}}`)
	send(websocket.MessageBinary, authsome.Placeholder)
	long := strings.Repeat("x", 300<<10)
	send(websocket.MessageText, long)
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("the close handshake: %v", err)
	}
	for i, want := range []string{
		`MessageText {"op":2,"d":{"token":"bot\"token","intents":7}}`,
		`MessageText {"op":3,"d":{"activities":[{"name":"` + authsome.Placeholder + `"}]}}`,
		`MessageBinary ` + authsome.Placeholder, `MessageText ` + long, "StatusNormalClosure",
	} {
		if text := <-got; text != want {
			t.Errorf("message %d: the gateway read %.200s", i, text)
		}
	}
	var identify struct{ D struct{ Token string } }
	if err := json.Unmarshal([]byte(`{"d":{"token":"bot\"token"}}`), &identify); err != nil || identify.D.Token != botToken {
		t.Errorf("%q, %v", identify.D.Token, err)
	}
	end := w.broker.ends(1)[0]
	if end.out.Status != 101 || end.out.Err != "" || end.out.Sent == 0 || end.out.Received == 0 || end.res.Provider != "slotted" {
		t.Errorf("finished with %+v", end.out)
	}
	if strings.Contains(w.log.String(), "token") {
		t.Error("the log says too much")
	}
}

// TestOtherSocketsAreNotTouched: without messages to look at, extensions are the
// two ends' business, and so is every byte, valid or not.
func TestOtherSocketsAreNotTouched(t *testing.T) {
	t.Parallel()
	w := newSlotted(t, chat(""))
	heard := make(chan string, 1)
	w.serveRaw("api.openai.com", func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: x-mine\r\n\r\n\xff\xff\xff")
		all, _ := io.ReadAll(br)
		heard <- req.Header.Get("Sec-WebSocket-Extensions") + " " + string(all)
	})
	c, br := w.tunnel("api.openai.com:443", "api.openai.com")
	res := exchange(t, c, br, strings.Replace(handshake, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate, x-mine; a=b\r\n\r\n", 1)+"\xc1\x00"+authsome.Placeholder)
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Extensions") != "x-mine" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
	_ = c.CloseWrite()
	if got, want := <-heard, "permessage-deflate, x-mine; a=b \xc1\x00"+authsome.Placeholder; got != want {
		t.Errorf("the service heard %q", got)
	}
	if got, err := io.ReadAll(br); err != nil || string(got) != "\xff\xff\xff" {
		t.Errorf("the child heard %q, %v", got, err)
	}
}

// gatewayHandshake opens a WebSocket at the gateway by hand.
var gatewayHandshake = strings.Replace(handshake, "api.openai.com", gateway, 1)

// frameOf is a client's frame, masked with zeros.
func frameOf(bits byte, payload string) string {
	b := []byte{bits}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xfe), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0xff), uint64(n))
	}
	return string(b) + "\x00\x00\x00\x00" + payload
}

// TestRefusedMessages: what cannot be sent on ends the stream with a status for
// the child, and nothing of it reaches the service.
func TestRefusedMessages(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		raw    string
		status uint16
	}{
		"another connection": {frameOf(0x81, `{"d":{"token":"`+authsome.Placeholder+`.home"}}`), 1008},
		"too long":           {frameOf(0x81, strings.Repeat("x", 1<<20)), 1009},
		"no mask":            {"\x81\x05" + "bad-x", 1002},
		"a reserved bit":     {frameOf(0xc1, "bad-x"), 1002},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSlotted(t, chat(""))
			heard := make(chan string, 1)
			w.serveRaw(gateway, func(c *tls.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello")
				all, _ := io.ReadAll(br)
				heard <- string(all)
			})
			c, br := w.tunnel(gateway+":443", gateway)
			res := exchange(t, c, br, gatewayHandshake+frameOf(0x81, "good"))
			if res.StatusCode != 101 {
				t.Fatal(res.Status)
			}
			hello := make([]byte, len("\x81\x05hello"))
			if _, err := io.ReadFull(br, hello); err != nil || string(hello) != "\x81\x05hello" {
				t.Errorf("the child heard %q, %v", hello, err)
			}
			// As a client that goes on writing.
			go func() { _, _ = io.WriteString(c, tt.raw+strings.Repeat(frameOf(0x82, "later"), 1000)) }()
			all, err := io.ReadAll(br)
			if err != nil {
				t.Errorf("the stream broke off: %v", err)
			}
			end := string(all)
			if len(end) < 4 || end[0] != '\x88' || int(end[1]) != len(end)-2 || binary.BigEndian.Uint16([]byte(end[2:])) != tt.status || !strings.HasPrefix(end[4:], "authsome: ") {
				t.Errorf("the child heard %q", all)
			}
			if got := <-heard; got != frameOf(0x81, "good") {
				t.Errorf("the service heard %q", got)
			}
			_ = c.Close()
			if out := w.broker.ends(1)[0].out; !strings.HasPrefix(out.Err, "ended by the proxy: ") {
				t.Errorf("finished with %+v", out)
			}
		})
	}
}

// TestRefusalWaitsForTheFrame: what the child gets from us does not land in the
// middle of what it is getting from the service.
func TestRefusalWaitsForTheFrame(t *testing.T) {
	t.Parallel()
	w := newSlotted(t, chat(""))
	rest := make(chan struct{})
	w.serveRaw(gateway, func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x0afirst")
		<-rest
		_, _ = io.WriteString(c, " rest\x81\x05never")
		_, _ = io.Copy(io.Discard, br)
	})
	c, br := w.tunnel(gateway+":443", gateway)
	if res := exchange(t, c, br, gatewayHandshake); res.StatusCode != 101 {
		t.Fatal(res.Status)
	}
	begin := make([]byte, 7)
	if _, err := io.ReadFull(br, begin); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "\x81\x01x")
	// The refusal is behind us once what follows it has been thrown away.
	_, _ = io.WriteString(c, strings.Repeat("x", 8<<20))
	close(rest)
	all, err := io.ReadAll(br)
	if err != nil {
		t.Error(err)
	}
	if got := string(all); !strings.HasPrefix(got, " rest\x88") || strings.Contains(got, "never") && !strings.HasPrefix(got, " rest\x81\x05never\x88") {
		t.Errorf("the child heard %q", got)
	}
}

// TestExtensionNobodyOffered: a service that uses one would not be understood.
func TestExtensionNobodyOffered(t *testing.T) {
	t.Parallel()
	w := newSlotted(t, chat(""))
	w.serveRaw(gateway, func(c *tls.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
		_, _ = io.Copy(io.Discard, br)
	})
	c, br := w.tunnel(gateway+":443", gateway)
	got := problem(t, exchange(t, c, br, strings.Replace(gatewayHandshake, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)), 502, "upstream_unreachable")
	if !strings.Contains(got["message"].(string), "extension") {
		t.Errorf("%v", got)
	}
}

// TestWatchedSocketEnds: with its credential, or with either side, as other
// streams do.
func TestWatchedSocketEnds(t *testing.T) {
	t.Parallel()
	w := newSlotted(t, chat(""))
	w.serveRaw(gateway, func(c *tls.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		switch req.URL.Path {
		case "/half": // says more after the child has ended its side
			all, _ := io.ReadAll(br)
			_, _ = c.Write(append([]byte("\x81\x05heard"), all...))
		case "/cut":
			_, _ = io.WriteString(c.NetConn(), "\x17\x03\x03\x00\x20half") // a record of TLS
			_ = c.NetConn().Close()
		default:
			_, _ = io.Copy(io.Discard, br)
		}
	})
	open := func(path string) (*tls.Conn, *bufio.Reader) {
		c, br := w.tunnel(gateway+":443", gateway)
		if res := exchange(t, c, br, strings.Replace(gatewayHandshake, "/v1/responses", path, 1)); res.StatusCode != 101 {
			t.Fatal(res.Status)
		}
		return c, br
	}
	c, br := open("/half")
	_, _ = io.WriteString(c, frameOf(0x81, authsome.Placeholder))
	_ = c.CloseWrite()
	if all, err := io.ReadAll(br); err != nil || string(all) != "\x81\x05heard"+frameOf(0x81, `bot\"token`) {
		t.Errorf("%q, %v", all, err)
	}
	_ = c.Close()
	_, br = open("/cut")
	if _, err := io.ReadAll(br); err == nil {
		t.Error("a stream that broke off looks whole")
	}
	_, br = open("/")
	w.broker.set("slotted", &account{private: true})
	w.proxy.Reconsider()
	if _, err := br.ReadByte(); err == nil || isTimeout(err) {
		t.Errorf("the stream outlived its credential: %v", err)
	}
}
