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
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// kind is what a stream does, over and over.
type kind string

// The kinds. Those that cost little come more often.
const (
	keepAlive kind = "keep-alive"
	fresh     kind = "new connection"
	multiplex kind = "HTTP/2"
	events    kind = "events"
	messages  kind = "WebSocket"
	upload    kind = "upload"
	fetch     kind = "download"
	grpc      kind = "gRPC"
	blind     kind = "blind tunnel"
	cut       kind = "cut off" // connections that end in the middle of their beginning
)

var kinds = []kind{keepAlive, multiplex, events, messages, fresh, upload, fetch, grpc, blind, cut, keepAlive, multiplex, events, messages}

// requestTime is when a request must be over, whatever happens to it.
const requestTime = 90 * time.Second

// stream makes one request after the other.
type stream struct {
	child  *child
	n      int
	kind   kind
	rng    *rand.Rand
	client *http.Client
	asked  int
}

// shared are the clients that streams have in common: several over each connection
// of HTTP/2.
type shared struct{ h2 []*http.Client }

func newShared() *shared { return &shared{} }

// perConnection is how many streams share a connection of HTTP/2.
const perConnection = 8

func newClient(http2, again bool) *http.Client {
	// Proxy and roots are the environment's.
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: !again, DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetHTTP2(http2)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (sh *shared) client(s *stream) *http.Client {
	switch s.kind {
	case multiplex, grpc:
		if len(sh.h2) == 0 || s.n%perConnection == 0 {
			sh.h2 = append(sh.h2, newClient(true, true))
		}
		return sh.h2[len(sh.h2)-1]
	case fresh:
		return newClient(false, false)
	case events, fetch, upload:
		return newClient(s.n%2 == 0, true)
	}
	return newClient(false, true)
}

func (s *stream) play() {
	for {
		rest := s.child.enter(s)
		s.once(rest)
		s.child.leave(s)
		time.Sleep(time.Duration(s.rng.ExpFloat64() * float64(s.child.Pause)))
	}
}

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

// once makes one request, or cuts one off, and says what came of it.
func (s *stream) once(rest context.Context) {
	s.asked++
	c := &call{s: s, nonce: fmt.Sprintf("%s-s%d-%d", s.child.Run, s.n, s.asked), q: url.Values{}}
	hosts := []string{hostBearer, hostBearer, hostBasic, hostQuery, hostOAuth}
	if s.child.Account == "" {
		hosts = hosts[:4] // the default of the other provider is not its own
	}
	c.host = hosts[s.rng.IntN(len(hosts))]
	if s.kind == blind {
		c.host = hostBlind
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	abort := false
	switch chance := s.rng.IntN(100); {
	case s.kind == cut:
		s.cutOff(c)
		s.child.count("cut off while connecting", 1)
		return
	case chance < 8:
		abort = true
		defer time.AfterFunc(time.Duration(s.rng.IntN(80))*time.Millisecond, cancel).Stop()
	case chance < 14:
		c.do = []string{"reset", "half", "stall"}[s.rng.IntN(3)]
		c.q.Set("do", c.do)
	}
	if s.kind == events || s.kind == messages {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer context.AfterFunc(rest, stop)()
		defer stop()
	}
	c.spoilt = func() bool {
		return abort && ctx.Err() != nil || rest.Err() != nil && (s.kind == events || s.kind == messages)
	}
	from := time.Now()
	err := s.do(ctx, c)
	var wrong *answered
	switch {
	case err == nil && c.do != "":
		s.child.count("troubled requests", 1)
	case err == nil:
		s.child.count(string(s.kind), 1)
	case c.spoilt():
		s.child.count("cut off by the child", 1)
	case (c.do == "reset" || c.do == "half") && !errors.Is(err, context.DeadlineExceeded):
		s.child.count("cut off by the service", 1)
	default:
		f := &failure{
			Run: s.child.Run, Account: s.child.Account, Kind: s.kind, Host: c.host, Nonce: c.nonce, From: from, To: time.Now(),
			Error: err.Error(), Hung: errors.Is(err, context.DeadlineExceeded),
		}
		if errors.As(err, &wrong) {
			f.Status, f.Code = wrong.status, wrong.code
		}
		s.child.count("failed", 1)
		s.child.say(message{Failed: f})
	}
}

// answered is an answer that is no success.
type answered struct {
	status     int
	code, text string
}

func (a *answered) Error() string { return a.text }

func (s *stream) do(ctx context.Context, c *call) error {
	switch s.kind {
	case events:
		return c.events(ctx)
	case messages:
		return c.messages(ctx)
	case upload:
		return c.upload(ctx)
	case fetch:
		return c.download(ctx)
	case grpc:
		return c.grpc(ctx)
	}
	if s.rng.IntN(4) == 0 {
		c.q.Set("echo", "1")
	}
	c.q.Set("pad", fmt.Sprint(s.rng.IntN(3000)))
	resp, err := c.ask(ctx, http.MethodGet, "get", nil)
	if err != nil {
		return err
	}
	return c.readJSON(resp, nil)
}

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
