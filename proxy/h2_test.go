package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2peer is a client that does as it is told, right or wrong. Frames of the server
// are read from the beginning and kept, so that it never waits for the peer.
type h2peer struct {
	t       testing.TB
	conn    net.Conn
	fr      *http2.Framer // for writing
	enc     *hpack.Encoder
	buf     bytes.Buffer
	events  chan h2event
	stopped chan struct{} // closed when the server has returned
	c       *h2conn
}

// h2event is a frame of the server, or the end of the connection.
type h2event struct {
	kind   http2.FrameType
	flags  http2.Flags
	id     uint32
	fields []string // "name: value"
	data   []byte
	code   http2.ErrCode
	n      uint32 // of WINDOW_UPDATE
	ended  bool   // END_STREAM
	over   bool   // of the connection
}

func (e h2event) String() string {
	if e.over {
		return "the end of the connection"
	}
	return fmt.Sprintf("%v on %d, ended %v, %v %q %q %d", e.kind, e.id, e.ended, e.code, e.fields, e.data, e.n)
}

// status is the status of an answer's header.
func (e h2event) status() string {
	for _, f := range e.fields {
		if v, ok := strings.CutPrefix(f, ":status: "); ok {
			return v
		}
	}
	return ""
}

// newH2Peer starts a server in memory. The preface has not been sent.
func newH2Peer(t testing.TB, h http.HandlerFunc) *h2peer { return newH2PeerThat(t, h, true) }

func newH2PeerThat(t testing.TB, h http.HandlerFunc, reads bool) *h2peer {
	client, server := net.Pipe()
	ws := &workers{}
	p := &h2peer{t: t, conn: client, events: make(chan h2event, 1<<16), stopped: make(chan struct{})}
	p.fr = http2.NewFramer(client, nil)
	p.fr.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.buf)
	p.c = newH2(server, nil, h, ws, slog.New(slog.DiscardHandler))
	go func() {
		p.c.serve(nil)
		close(p.stopped)
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		if reads {
			p.readAll()
		}
	}()
	t.Cleanup(func() {
		_ = client.Close()
		<-p.stopped
		<-read
		ws.close()
	})
	return p
}

// dialH2 also sends the preface and waits for the server's.
func dialH2(t testing.TB, h http.HandlerFunc, settings ...http2.Setting) *h2peer {
	p := newH2Peer(t, h)
	p.preface(settings...)
	return p
}

func (p *h2peer) preface(settings ...http2.Setting) {
	p.t.Helper()
	p.raw(http2.ClientPreface)
	p.check(p.fr.WriteSettings(settings...))
	p.check(p.fr.WriteSettingsAck())
	p.want(http2.FrameSettings)
}

func (p *h2peer) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *h2peer) raw(s string) {
	p.t.Helper()
	_, err := io.WriteString(p.conn, s)
	p.check(err)
}

// frame writes one with whatever it is given.
func (p *h2peer) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	p.t.Helper()
	p.check(p.fr.WriteRawFrame(kind, flags, id, []byte(payload)))
}

// readAll reads the server's frames, by a reader of its own.
func (p *h2peer) readAll() {
	fr := http2.NewFramer(nil, p.conn)
	fr.SetMaxReadFrameSize(1 << 20)
	var fields []string
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) { fields = append(fields, f.Name+": "+f.Value) })
	var block h2event
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			p.events <- h2event{over: true}
			close(p.events)
			return
		}
		h := f.Header()
		e := h2event{kind: h.Type, flags: h.Flags, id: h.StreamID}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			fields = nil
			_, err = dec.Write(f.HeaderBlockFragment())
			e.ended = f.StreamEnded()
			block = e
			if !f.HeadersEnded() {
				continue
			}
			err = errors.Join(err, dec.Close())
			e.fields = fields
		case *http2.ContinuationFrame:
			_, err = dec.Write(f.HeaderBlockFragment())
			if e = block; !f.HeadersEnded() {
				continue
			}
			err = errors.Join(err, dec.Close())
			e.flags |= http2.FlagHeadersEndHeaders << 4 // there was more than one frame
			e.fields = fields
		case *http2.DataFrame:
			e.data, e.ended = bytes.Clone(f.Data()), f.StreamEnded()
		case *http2.RSTStreamFrame:
			e.code = f.ErrCode
		case *http2.GoAwayFrame:
			e.code, e.n = f.ErrCode, f.LastStreamID
		case *http2.WindowUpdateFrame:
			e.n = f.Increment
		case *http2.PingFrame:
			e.data = bytes.Clone(f.Data[:])
		}
		if err != nil {
			e.fields = []string{":status: " + err.Error()}
		}
		p.events <- e
	}
}

// next is the next frame but for what concerns the connection alone.
func (p *h2peer) next() h2event {
	p.t.Helper()
	for e := range p.events {
		if e.kind == http2.FrameSettings || e.kind == http2.FrameWindowUpdate || e.kind == http2.FramePing {
			if !e.over {
				continue
			}
		}
		return e
	}
	return h2event{over: true}
}

// want skips to the next frame of a kind.
func (p *h2peer) want(kind http2.FrameType) h2event {
	p.t.Helper()
	for e := range p.events {
		if e.over {
			break
		}
		if e.kind == kind {
			return e
		}
		if e.kind == http2.FrameGoAway && kind != http2.FrameGoAway {
			p.t.Fatalf("got %v, want %v", e, kind)
		}
	}
	p.t.Fatalf("the connection ended, want %v", kind)
	return h2event{}
}

// block encodes fields, given as name and value in turns.
func (p *h2peer) block(fields ...string) string {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.buf.String()
}

// get are the fields of a usual request.
func get(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/"}, more...)
}

func post(more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":authority", "a.example", ":path", "/"}, more...)
}

// headers sends a request, or trailers.
func (p *h2peer) headers(id uint32, ended bool, fields ...string) {
	p.t.Helper()
	flags := http2.FlagHeadersEndHeaders
	if ended {
		flags |= http2.FlagHeadersEndStream
	}
	p.frame(http2.FrameHeaders, flags, id, p.block(fields...))
}

func (p *h2peer) data(id uint32, ended bool, data string) {
	p.t.Helper()
	p.check(p.fr.WriteData(id, ended, []byte(data)))
}

// h2reply is a whole answer.
type h2reply struct {
	interim  []h2event
	header   h2event
	body     []byte
	trailers []string
	reset    *http2.ErrCode // after the end, or in its place
	whole    bool
}

// reply reads an answer to its end. The windows are given back.
func (p *h2peer) reply(id uint32) h2reply {
	p.t.Helper()
	var r h2reply
	for e := range p.events {
		switch {
		case e.over || e.kind == http2.FrameGoAway:
			p.t.Fatalf("stream %d has %+v, and then comes %v", id, r, e)
		case e.id != id:
			continue
		case e.kind == http2.FrameHeaders && r.header.fields == nil && e.status() < "200":
			r.interim = append(r.interim, e)
		case e.kind == http2.FrameHeaders && r.header.fields == nil:
			r.header = e
		case e.kind == http2.FrameHeaders:
			r.trailers = e.fields
		case e.kind == http2.FrameData:
			r.body = append(r.body, e.data...)
			if n := uint32(len(e.data)); n > 0 {
				p.check(p.fr.WriteWindowUpdate(0, n))
				if !e.ended {
					p.check(p.fr.WriteWindowUpdate(id, n))
				}
			}
		case e.kind == http2.FrameRSTStream:
			r.reset = &e.code
			return r
		}
		if e.ended {
			r.whole = true
			return r
		}
	}
	return r
}

// fine shows that the connection goes on.
func (p *h2peer) fine(id uint32) {
	p.t.Helper()
	p.headers(id, true, get()...)
	if r := p.reply(id); r.header.status() != "200" || !r.whole {
		p.t.Errorf("the next request: %+v", r)
	}
}

// ok answers with what came.
func ok(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, strconv.FormatInt(n, 10))
}

// TestH2ConnectionErrors end the connection, with the code that RFC 9113 names.
func TestH2ConnectionErrors(t *testing.T) {
	t.Parallel()
	const protocol, size, flow, closed, hpackErr = http2.ErrCodeProtocol, http2.ErrCodeFrameSize, http2.ErrCodeFlowControl, http2.ErrCodeStreamClosed, http2.ErrCodeCompression
	for name, tt := range map[string]struct {
		code http2.ErrCode
		send func(p *h2peer)
	}{
		"3.4 no SETTINGS":                 {protocol, nil},
		"4.1 a long frame":                {size, func(p *h2peer) { p.frame(http2.FrameData, 0, 1, strings.Repeat("x", 65537)) }},
		"4.2 a long header":               {size, func(p *h2peer) { p.frame(http2.FrameHeaders, 4, 1, strings.Repeat("x", 65537)) }},
		"4.3 an index that HPACK has not": {hpackErr, func(p *h2peer) { p.frame(http2.FrameHeaders, 5, 1, "\xff\xff\xff\x01") }},
		"4.3 half a field":                {hpackErr, func(p *h2peer) { p.frame(http2.FrameHeaders, 5, 1, "\x40\x0a") }},
		"4.3 a larger table":              {hpackErr, func(p *h2peer) { p.frame(http2.FrameHeaders, 5, 1, "\x3f\xe2\x1f"+p.block(get()...)) }},
		"4.3 a frame inside of a header": {protocol, func(p *h2peer) {
			p.frame(http2.FrameHeaders, 1, 1, p.block(get()...))
			p.frame(http2.FramePing, 0, 0, "12345678")
		}},
		"4.3 another stream inside of a header": {protocol, func(p *h2peer) { p.frame(http2.FrameHeaders, 1, 1, p.block(get()...)); p.data(3, true, "") }},
		"5.1 idle, DATA":                        {protocol, func(p *h2peer) { p.data(1, true, "x") }},
		"5.1 idle, RST_STREAM":                  {protocol, func(p *h2peer) { p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) }},
		"5.1 idle, WINDOW_UPDATE":               {protocol, func(p *h2peer) { p.check(p.fr.WriteWindowUpdate(1, 1)) }},
		"5.1 closed, HEADERS":                   {closed, func(p *h2peer) { p.headers(1, true, get()...); p.reply(1); p.headers(1, true, get()...) }},
		"5.1.1 an even stream":                  {protocol, func(p *h2peer) { p.headers(2, true, get()...) }},
		"5.1.1 a stream below the last":         {protocol, func(p *h2peer) { p.headers(5, true, get()...); p.reply(5); p.headers(3, true, get()...) }},
		"6.1 DATA for no stream":                {protocol, func(p *h2peer) { p.data(0, true, "x") }},
		"6.1 more padding than payload":         {protocol, func(p *h2peer) { p.headers(1, false, post()...); p.frame(http2.FrameData, 8, 1, "\x05abcd") }},
		"6.1 padding without a length":          {size, func(p *h2peer) { p.headers(1, false, post()...); p.frame(http2.FrameData, 8, 1, "") }},
		"6.2 HEADERS for no stream":             {protocol, func(p *h2peer) { p.headers(0, true, get()...) }},
		"6.2 more padding than payload":         {protocol, func(p *h2peer) { p.frame(http2.FrameHeaders, 4|8, 1, "\xff"+p.block(get()...)) }},
		"6.2 half a priority":                   {size, func(p *h2peer) { p.frame(http2.FrameHeaders, 4|0x20, 1, "\x00\x00") }},
		"6.3 PRIORITY for no stream":            {protocol, func(p *h2peer) { p.frame(http2.FramePriority, 0, 0, "\x00\x00\x00\x00\x01") }},
		"6.4 RST_STREAM for no stream":          {protocol, func(p *h2peer) { p.frame(http2.FrameRSTStream, 0, 0, "\x00\x00\x00\x08") }},
		"6.4 a short RST_STREAM":                {size, func(p *h2peer) { p.headers(1, false, post()...); p.frame(http2.FrameRSTStream, 0, 1, "\x00\x00\x08") }},
		"6.5 SETTINGS on a stream":              {protocol, func(p *h2peer) { p.frame(http2.FrameSettings, 0, 1, "") }},
		"6.5 an acknowledgement with settings":  {size, func(p *h2peer) { p.frame(http2.FrameSettings, 1, 0, "\x00\x03\x00\x00\x00\x01") }},
		"6.5 half a setting":                    {size, func(p *h2peer) { p.frame(http2.FrameSettings, 0, 0, "\x00\x03\x00") }},
		"6.5 acknowledged twice":                {protocol, func(p *h2peer) { p.check(p.fr.WriteSettingsAck()) }},
		"6.5.2 ENABLE_PUSH":                     {protocol, func(p *h2peer) { p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})) }},
		"6.5.2 INITIAL_WINDOW_SIZE": {flow, func(p *h2peer) {
			p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
		}},
		"6.5.2 MAX_FRAME_SIZE, small": {protocol, func(p *h2peer) { p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16383})) }},
		"6.5.2 MAX_FRAME_SIZE, large": {protocol, func(p *h2peer) {
			p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 24}))
		}},
		"6.6 PUSH_PROMISE":             {protocol, func(p *h2peer) { p.frame(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02"+p.block(get()...)) }},
		"6.7 PING on a stream":         {protocol, func(p *h2peer) { p.frame(http2.FramePing, 0, 1, "12345678") }},
		"6.7 a short PING":             {size, func(p *h2peer) { p.frame(http2.FramePing, 0, 0, "1234567") }},
		"6.8 GOAWAY on a stream":       {protocol, func(p *h2peer) { p.frame(http2.FrameGoAway, 0, 1, "\x00\x00\x00\x00\x00\x00\x00\x00") }},
		"6.9 WINDOW_UPDATE by nothing": {protocol, func(p *h2peer) { p.check(p.fr.WriteWindowUpdate(0, 0)) }},
		"6.9 a short WINDOW_UPDATE":    {size, func(p *h2peer) { p.frame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x01") }},
		"6.9.1 a window too large":     {flow, func(p *h2peer) { p.check(p.fr.WriteWindowUpdate(0, 1<<31-1)) }},
		"6.9.2 a window that grows too large": {flow, func(p *h2peer) {
			p.headers(1, false, post()...)
			p.check(p.fr.WriteWindowUpdate(1, 1<<31-1-h2Window))
			p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window + 1}))
		}},
		"6.10 CONTINUATION after nothing": {protocol, func(p *h2peer) { p.frame(http2.FrameContinuation, 4, 1, p.block(get()...)) }},
		"6.10 CONTINUATION after the end": {protocol, func(p *h2peer) { p.headers(1, true, get()...); p.frame(http2.FrameContinuation, 4, 1, "") }},
		"6.10 CONTINUATION of another stream": {protocol, func(p *h2peer) {
			p.frame(http2.FrameHeaders, 1, 1, p.block(get()...))
			p.frame(http2.FrameContinuation, 4, 3, "")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p *h2peer
				if tt.send == nil {
					p = newH2Peer(t, ok)
					p.raw(http2.ClientPreface)
					p.frame(http2.FramePing, 0, 0, "12345678")
				} else {
					p = dialH2(t, ok)
					tt.send(p)
				}
				if e := p.want(http2.FrameGoAway); e.code != tt.code {
					t.Errorf("got %v, want %v", e, tt.code)
				}
				<-p.stopped // also when the peer does not close
			})
		})
	}
	t.Run("3.4 another preface", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newH2Peer(t, ok)
			p.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			p.want(http2.FrameGoAway)
			<-p.stopped
		})
	})
}

// TestH2StreamErrors end a stream with the code that RFC 9113 names, and no other.
func TestH2StreamErrors(t *testing.T) {
	t.Parallel()
	const protocol = http2.ErrCodeProtocol
	malformed := func(fields ...string) func(p *h2peer) { return func(p *h2peer) { p.headers(1, true, fields...) } }
	without := func(name string) []string {
		f := get()
		i := slices.Index(f, name)
		return slices.Delete(f, i, i+2)
	}
	with := func(name, value string) []string {
		f := get()
		f[slices.Index(f, name)+1] = value
		return f
	}
	for name, tt := range map[string]struct {
		code http2.ErrCode
		send func(p *h2peer)
	}{
		"5.1 half-closed, DATA":    {http2.ErrCodeStreamClosed, func(p *h2peer) { p.headers(1, true, with(":path", "/wait")...); p.data(1, true, "x") }},
		"5.1 half-closed, HEADERS": {http2.ErrCodeStreamClosed, func(p *h2peer) { p.headers(1, true, with(":path", "/wait")...); p.headers(1, true, get()...) }},
		"5.1 closed, DATA":         {http2.ErrCodeStreamClosed, func(p *h2peer) { p.headers(1, true, get()...); p.reply(1); p.data(1, true, "x") }},
		"6.9 WINDOW_UPDATE by nothing": {protocol, func(p *h2peer) {
			p.headers(1, true, with(":path", "/wait")...)
			p.check(p.fr.WriteWindowUpdate(1, 0))
		}},
		"6.9.1 a window too large": {http2.ErrCodeFlowControl, func(p *h2peer) {
			p.headers(1, true, with(":path", "/wait")...)
			p.check(p.fr.WriteWindowUpdate(1, 1<<31-1))
		}},
		"6.9.1 more than the window": {http2.ErrCodeFlowControl, func(p *h2peer) {
			p.headers(1, false, with(":path", "/wait")...)
			for range h2StreamWindow/16384 + 1 {
				p.data(1, false, strings.Repeat("x", 16384))
			}
		}},
		"8.1 trailers without the end":  {protocol, func(p *h2peer) { p.headers(1, false, post("trailer", "a")...); p.headers(1, false, "a", "b") }},
		"8.1 pseudo-header in trailers": {protocol, func(p *h2peer) { p.headers(1, false, post("trailer", "a")...); p.headers(1, true, ":path", "/") }},
		"8.1 a trailer that must not be one": {protocol, func(p *h2peer) {
			p.headers(1, false, post("trailer", "a")...)
			p.headers(1, true, "content-length", "1")
		}},
		"8.1.1 less than declared":           {protocol, func(p *h2peer) { p.headers(1, false, post("content-length", "3")...); p.data(1, true, "xx") }},
		"8.1.1 more than declared":           {protocol, func(p *h2peer) { p.headers(1, false, post("content-length", "3")...); p.data(1, false, "xxxx") }},
		"8.1.1 less than declared, trailers": {protocol, func(p *h2peer) { p.headers(1, false, post("content-length", "3")...); p.headers(1, true, "a", "b") }},
		// curl 7.88 waits for ever when it has given up its body, and nothing comes then.
		"8.1.1 less than declared, answered": {protocol, func(p *h2peer) {
			f := post("content-length", "3")
			f[7] = "/early"
			p.headers(1, false, f...)
			if r := p.reply(1); !r.whole {
				p.t.Errorf("%+v", r)
			}
			p.data(1, true, "")
		}},
		"8.1.1 nothing of what was declared":    {protocol, malformed(post("content-length", "3")...)},
		"8.1.1 two lengths":                     {protocol, malformed(get("content-length", "0", "content-length", "0")...)},
		"8.1.1 a list of lengths":               {protocol, malformed(get("content-length", "0, 0")...)},
		"8.1.1 a signed length":                 {protocol, malformed(get("content-length", "+0")...)},
		"8.1.1 an empty length":                 {protocol, malformed(get("content-length", "")...)},
		"8.1.1 a length beyond all":             {protocol, malformed(get("content-length", "9999999999999999999")...)},
		"8.2 capitals":                          {protocol, malformed(get("X-Up", "a")...)},
		"8.2.1 a blank in a name":               {protocol, malformed(get("x y", "a")...)},
		"8.2.1 a colon in a name":               {protocol, malformed(get("x:y", "a")...)},
		"8.2.1 no name":                         {protocol, malformed(get("", "a")...)},
		"8.2.1 a name that is no ASCII":         {protocol, malformed(get("x\xc3\xa9", "a")...)},
		"8.2.1 NUL":                             {protocol, malformed(get("x", "a\x00b")...)},
		"8.2.1 CR":                              {protocol, malformed(get("x", "a\rb")...)},
		"8.2.1 LF":                              {protocol, malformed(get("x", "a\nb")...)},
		"8.2.1 another control character":       {protocol, malformed(get("x", "a\x7fb")...)},
		"8.2.1 a blank in front of a value":     {protocol, malformed(get("x", " a")...)},
		"8.2.1 a tab behind a value":            {protocol, malformed(get("x", "a\t")...)},
		"8.2.1 CR LF in the path":               {protocol, malformed(with(":path", "/ HTTP/1.1\r\nx: y")...)},
		"8.2.1 CR LF in the authority":          {protocol, malformed(with(":authority", "a\r\nx: y")...)},
		"8.2.1 CR LF in the method":             {protocol, malformed(with(":method", "GET /\r\nx: y")...)},
		"8.2.1 in trailers":                     {protocol, func(p *h2peer) { p.headers(1, false, post()...); p.headers(1, true, "x", "a\nb") }},
		"8.2.2 connection":                      {protocol, malformed(get("connection", "close")...)},
		"8.2.2 keep-alive":                      {protocol, malformed(get("keep-alive", "1")...)},
		"8.2.2 proxy-connection":                {protocol, malformed(get("proxy-connection", "close")...)},
		"8.2.2 transfer-encoding":               {protocol, malformed(post("transfer-encoding", "chunked")...)},
		"8.2.2 upgrade":                         {protocol, malformed(get("upgrade", "h2c")...)},
		"8.2.2 te":                              {protocol, malformed(get("te", "gzip")...)},
		"8.2.2 te, also":                        {protocol, malformed(get("te", "trailers, gzip")...)},
		"8.3 pseudo-header behind a header":     {protocol, malformed(":method", "GET", ":scheme", "https", "x", "a", ":path", "/")},
		"8.3 an unknown pseudo-header":          {protocol, malformed(append([]string{":x", "a"}, get()...)...)},
		"8.3 a pseudo-header of answers":        {protocol, malformed(append([]string{":status", "200"}, get()...)...)},
		"8.3 a pseudo-header twice":             {protocol, malformed(append([]string{":path", "/"}, get()...)...)},
		"8.3.1 :method twice":                   {protocol, malformed(append([]string{":method", "GET"}, get()...)...)},
		"8.3.1 :authority twice, once empty":    {protocol, malformed(append([]string{":authority", ""}, get()...)...)},
		"8.3.1 no :method":                      {protocol, malformed(without(":method")...)},
		"8.3.1 no :scheme":                      {protocol, malformed(without(":scheme")...)},
		"8.3.1 no :path":                        {protocol, malformed(without(":path")...)},
		"8.3.1 an empty :path":                  {protocol, malformed(with(":path", "")...)},
		"8.3.1 a :path without a slash":         {protocol, malformed(with(":path", "x")...)},
		"8.3.1 a whole URL as :path":            {protocol, malformed(with(":path", "https://a.example/")...)},
		"8.3.1 an escape that is none in :path": {protocol, malformed(with(":path", "/%zz")...)},
		"8.3.1 an empty :method":                {protocol, malformed(with(":method", "")...)},
		"8.3.1 a :method that is no token":      {protocol, malformed(with(":method", "GE T")...)},
		"8.3.1 another :scheme":                 {protocol, malformed(with(":scheme", "ftp")...)},
		"8.3.1 user information":                {protocol, malformed(with(":authority", "u@a.example")...)},
		"8.5 CONNECT with a path":               {protocol, malformed(with(":method", "CONNECT")...)},
		"8.5 CONNECT to nowhere":                {protocol, malformed(":method", "CONNECT")},
		"RFC 8441, section 4, extended CONNECT": {protocol, malformed(append([]string{":protocol", "websocket"}, with(":method", "CONNECT")...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handled := 0
				p := dialH2(t, func(w http.ResponseWriter, r *http.Request) {
					handled++
					switch r.URL.Path {
					case "/early":
						return
					case "/wait":
						<-r.Context().Done()
						panic(http.ErrAbortHandler)
					}
					ok(w, r)
				})
				tt.send(p)
				if e := p.want(http2.FrameRSTStream); e.code != tt.code || e.id != 1 {
					t.Errorf("got %v, want %v on 1", e, tt.code)
				}
				synctest.Wait()
				if at := name[:3]; handled != 0 && (at == "8.2" || at == "8.3" || at == "8.5") && name != "8.2.1 in trailers" {
					t.Error("it was handled")
				}
				p.fine(3)
				synctest.Wait()
				p.c.mu.Lock()
				defer p.c.mu.Unlock()
				if len(p.c.streams) != 0 || p.c.running != 0 {
					t.Errorf("%d streams and %d handlers are left", len(p.c.streams), p.c.running)
				}
			})
		})
	}
}
