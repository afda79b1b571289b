package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/authsome/authsome"
	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"
)

// call is one request under way.
type call struct {
	s     *stream
	host  string
	nonce string
	do    string // the trouble that the service is asked for
	q     url.Values
	// spoilt says that it is cut off on purpose, or that all are to rest.
	spoilt func() bool
}

// answered is an answer that is no success.
type answered struct {
	status     int
	code, text string
}

func (a *answered) Error() string { return a.text }

// request has the placeholder in the host's place.
func (c *call) request(ctx context.Context, method, what string, body io.Reader) (*http.Request, error) {
	if c.host == hostQuery {
		c.q.Set("key", authsome.Placeholder)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.host+"/n/"+c.nonce+"/"+what+"?"+c.q.Encode(), body)
	if err != nil {
		return nil, err
	}
	switch c.host {
	case hostBearer, hostOAuth:
		req.Header.Set("Authorization", "Bearer "+authsome.Placeholder)
	case hostBasic:
		req.SetBasicAuth("soak", authsome.Placeholder)
	}
	return req, nil
}

// ask sends a request and checks the head of its answer.
func (c *call) ask(ctx context.Context, method, what string, body io.Reader) (*http.Response, error) {
	req, err := c.request(ctx, method, what, body)
	if err != nil {
		return nil, err
	}
	return c.send(req)
}

func (c *call) send(req *http.Request) (*http.Response, error) {
	resp, err := c.s.client.Do(req)
	if err != nil {
		return nil, err
	}
	return resp, c.checkHead(resp, http.StatusOK)
}

func (c *call) checkHead(resp *http.Response, want int) error {
	if strings.Contains(fmt.Sprint(resp.Header), canary) {
		c.s.child.broken("a key is in the header of the answer to %s: %q", c.nonce, resp.Header)
	}
	if resp.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		_ = resp.Body.Close()
		return &answered{resp.StatusCode, resp.Header.Get("Authsome-Error"), strings.TrimSpace(string(text))}
	}
	c.compare("header", resp.Header.Get(fieldNonce), resp.Header.Get(fieldAccount))
	return nil
}

// compare is where cross-talk is seen: the answer is to this request, and of this
// run's account.
func (c *call) compare(where, nonce, account string) {
	own := c.s.child.Account
	if nonce != c.nonce || account != own && own != "" && c.host != hostBlind {
		c.s.child.broken("CROSS-TALK: the %s of the answer to %s of %q is of %s of %q", where, c.nonce, own, nonce, account)
	}
}

// readJSON reads a whole answer.
func (c *call) readJSON(resp *http.Response, into map[string]string) error {
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	c.look(body)
	if into == nil {
		into = map[string]string{}
	}
	if err := json.Unmarshal(body, &into); err != nil {
		return fmt.Errorf("the answer is %d bytes of something else: %w", len(body), err)
	}
	c.compare("body", into["nonce"], into["account"])
	return nil
}

// look looks for secrets.
func (c *call) look(b []byte) {
	if bytes.Contains(b, []byte(canary)) {
		c.s.child.broken("a key is in the body of the answer to %s (%s)", c.nonce, c.s.kind)
	}
}

func (c *call) upload(ctx context.Context) error {
	n := c.s.rng.IntN(64 << 10)
	if c.s.rng.IntN(20) == 0 {
		n = 1 << 20
	}
	content := contentOf(c.nonce, n)
	var body io.Reader = bytes.NewReader(content)
	if c.s.rng.IntN(2) == 0 {
		body = &slowly{body, c.s.rng.IntN(20)} // without a length: in chunks
	}
	resp, err := c.ask(ctx, http.MethodPost, "up", body)
	if err != nil {
		return err
	}
	got := map[string]string{}
	if err := c.readJSON(resp, got); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	if got["bytes"] != fmt.Sprint(n) || got["sha256"] != hex.EncodeToString(sum[:]) {
		c.s.child.broken("%d bytes of %s arrived as %s other ones", n, c.nonce, got["bytes"])
	}
	return nil
}

// slowly is a body that takes its time.
type slowly struct {
	io.Reader
	ms int
}

func (s *slowly) Read(b []byte) (int, error) {
	time.Sleep(time.Duration(s.ms) * time.Millisecond)
	return s.Reader.Read(b[:min(len(b), 8<<10)])
}

func (c *call) download(ctx context.Context) error {
	n := 1000 + c.s.rng.IntN(64<<10)
	if c.s.rng.IntN(20) == 0 {
		n = 1 << 20
	}
	coding := []string{"", "gzip", "br", "zstd"}[c.s.rng.IntN(4)]
	c.q.Set("n", fmt.Sprint(n))
	c.q.Set("coding", coding)
	req, err := c.request(ctx, http.MethodGet, "down", nil)
	if err != nil {
		return err
	}
	if coding != "" {
		req.Header.Set("Accept-Encoding", coding)
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	// The proxy may have decoded it.
	from, err := decoded(resp)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	c.look(body)
	if !bytes.Equal(body, contentOf(c.nonce, n)) {
		c.s.child.broken("the %d bytes of %s (%q) are other ones, %d", n, c.nonce, coding, len(body))
	}
	return nil
}

func decoded(resp *http.Response) (io.Reader, error) {
	switch resp.Header.Get("Content-Encoding") {
	case "gzip":
		return gzip.NewReader(resp.Body)
	case "br":
		return brotli.NewReader(resp.Body), nil
	case "zstd":
		d, err := zstd.NewReader(resp.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return resp.Body, nil
}

func (c *call) events(ctx context.Context) error {
	n, every := 5+c.s.rng.IntN(40), 20+c.s.rng.IntN(400)
	c.q.Set("n", fmt.Sprint(n))
	c.q.Set("every", fmt.Sprint(every))
	resp, err := c.ask(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		f := strings.Split(text, " ")
		if len(f) != 3 {
			return fmt.Errorf("a strange event: %q", text)
		}
		c.compare("event", f[0], f[1])
		if f[2] != fmt.Sprint(got) {
			c.s.child.broken("event %d of %s has the number %s", got, c.nonce, f[2])
		}
		got++
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%d of %d events came", got, n)
	}
	return nil
}

func (c *call) messages(ctx context.Context) error {
	req, err := c.request(ctx, http.MethodGet, "ws", nil)
	if err != nil {
		return err
	}
	ws, resp, err := websocket.Dial(ctx, req.URL.String(), &websocket.DialOptions{HTTPClient: c.s.client, HTTPHeader: req.Header})
	if err != nil {
		if resp == nil || resp.Body == nil {
			return err
		}
		if wrong := c.checkHead(resp, http.StatusSwitchingProtocols); wrong != nil {
			return wrong
		}
		return err
	}
	defer func() { _ = ws.CloseNow() }()
	if err := c.checkHead(resp, http.StatusSwitchingProtocols); err != nil {
		return err
	}
	_, first, err := ws.Read(ctx)
	if err != nil {
		return err
	}
	c.look(first)
	if f := strings.Split(string(first), " "); len(f) < 2 {
		return fmt.Errorf("a strange message: %q", first)
	} else {
		c.compare("message", f[0], f[1])
	}
	for i := range 3 + c.s.rng.IntN(30) {
		text := fmt.Sprintf("%s %d %s", c.nonce, i, strings.Repeat("m", c.s.rng.IntN(2000)))
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			return err
		}
		_, got, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		if string(got) != text {
			c.s.child.broken("message %d of %s came back as %.60q", i, c.nonce, got)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(c.s.rng.IntN(300)) * time.Millisecond):
		}
	}
	return ws.Close(websocket.StatusNormalClosure, "")
}

func (c *call) grpc(ctx context.Context) error {
	content := contentOf(c.nonce, 100+c.s.rng.IntN(8000))
	req, err := c.request(ctx, http.MethodPost, "grpc", bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if !bytes.Equal(body, content) {
		c.s.child.broken("the %d bytes of %s come back as %d other ones", len(content), c.nonce, len(body))
	}
	if resp.Trailer.Get("Grpc-Status") != "0" {
		return fmt.Errorf("no trailer: %v", resp.Trailer)
	}
	c.compare("trailer", resp.Trailer.Get(fieldNonce+"-Trailer"), c.s.child.Account)
	return nil
}

// cutOff opens a connection to the proxy and ends it somewhere on the way to the
// first request: in the CONNECT, behind it, or in the handshake.
func (s *stream) cutOff(c *call) {
	proxy, err := url.Parse(os.Getenv("HTTPS_PROXY"))
	if err != nil {
		s.child.broken("the proxy's address: %v", err)
		return
	}
	conn, err := net.DialTimeout("tcp", proxy.Host, patience)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	password, _ := proxy.User.Password()
	token := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
	text := "CONNECT " + c.host + ":443 HTTP/1.1\r\nHost: " + c.host + ":443\r\nProxy-Authorization: Basic " + token + "\r\n\r\n"
	at := s.rng.IntN(3)
	if at == 0 {
		text = text[:s.rng.IntN(len(text))]
	}
	_, _ = io.WriteString(conn, text)
	if at > 0 {
		_, _ = conn.Read(make([]byte, 4096))
	}
	if at > 1 {
		// The beginning of a ClientHello (RFC 8446, sections 5.1 and 4.1.2).
		_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3})
	}
	time.Sleep(time.Duration(s.rng.IntN(100)) * time.Millisecond)
	if s.rng.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
}
