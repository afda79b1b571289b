package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2view is a request as a handler sees it.
type h2view struct {
	Method, URL, Host, URI, Proto string
	Header, Trailer               http.Header
	Length                        int64
	Body                          string
	Err                           bool
}

// views keeps the requests by their paths, and answers each as its path says.
type views struct {
	mu   sync.Mutex
	seen map[string]h2view
}

func (v *views) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	v.mu.Lock()
	v.seen[r.RequestURI] = h2view{
		r.Method, r.URL.String(), r.Host, r.RequestURI, fmt.Sprint(r.Proto, r.ProtoMajor, r.ProtoMinor),
		r.Header, r.Trailer, r.ContentLength, string(body), err != nil,
	}
	v.mu.Unlock()
	h := w.Header()
	h["Date"], h["Content-Type"] = nil, nil
	h.Set("X-Answer", r.RequestURI)
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/length"):
		h.Set("Content-Length", "5")
		_, _ = io.WriteString(w, "hello")
	case strings.HasPrefix(path, "/long"):
		_, _ = w.Write(make([]byte, 50<<10))
	case strings.HasPrefix(path, "/flush"):
		_, _ = io.WriteString(w, "hel")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "lo")
	case strings.HasPrefix(path, "/trailers"):
		_ = http.NewResponseController(w).Flush()
		h[http.TrailerPrefix+"X-Sum"] = []string{"1"}
	case strings.HasPrefix(path, "/none"):
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(path, "/same"):
		w.WriteHeader(http.StatusNotModified)
	case strings.HasPrefix(path, "/early"):
		w.WriteHeader(103)
		w.WriteHeader(202)
	case strings.HasPrefix(path, "/abort"):
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// answers are what came on each stream: the headers in order, the body, and how it
// ended.
func answers(events []h2event) map[uint32]string {
	all := map[uint32]string{}
	bodies := map[uint32]int{}
	for _, e := range events {
		switch e.kind {
		case http2.FrameHeaders:
			list := slices.Clone(e.fields)
			slices.Sort(list)
			all[e.id] += fmt.Sprintf("%d bytes, %q;", bodies[e.id], list)
		case http2.FrameData:
			bodies[e.id] += len(e.data)
		case http2.FrameRSTStream:
			all[e.id] += fmt.Sprintf("%d bytes, reset with %v;", bodies[e.id], e.code)
		}
		if e.ended {
			all[e.id] += fmt.Sprintf("%d bytes, ended;", bodies[e.id])
		}
	}
	return all
}

// byOurs and byNetHTTP serve one connection, on which input comes, until so many
// streams have ended or the connection has.
func byOurs(t testing.TB, input []byte, streams int) (map[string]h2view, []h2event) {
	v := &views{seen: map[string]h2view{}}
	client, server := net.Pipe()
	ws := &workers{}
	defer ws.close()
	c := newH2(server, nil, v, ws, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		c.serve(nil)
		close(done)
	}()
	events := converseH2(t, client, input, streams)
	<-done
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		left := c.running
		c.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d handlers have not ended", left)
		}
	}
	return v.seen, events
}

func byNetHTTP(t testing.TB, input []byte, streams int) (map[string]h2view, []h2event) {
	v := &views{seen: map[string]h2view{}}
	client, server := net.Pipe()
	ln := &handoff{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	ln.conns <- server
	srv := &http.Server{
		Handler: v, MaxHeaderBytes: maxHeader, Protocols: new(http.Protocols), DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		_ = srv.Serve(ln)
		close(done)
	}()
	events := converseH2(t, client, input, streams)
	_ = srv.Close()
	<-done
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.seen), events
}

// converseH2 sends input and reads frames until so many streams have ended.
func converseH2(t testing.TB, conn net.Conn, input []byte, streams int) []h2event {
	p := &h2peer{t: t, conn: conn, events: make(chan h2event, 1<<16)}
	go p.readAll()
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = conn.Write(input)
	}()
	var events []h2event
	ended := map[uint32]bool{}
	late := time.After(20 * time.Second)
	for len(ended) < streams {
		select {
		case e := <-p.events:
			events = append(events, e)
			if e.ended || e.kind == http2.FrameRSTStream {
				ended[e.id] = true
			}
			if e.over || e.kind == http2.FrameGoAway {
				streams = 0
			}
		case <-late:
			t.Fatalf("no end: %v", answers(events))
		}
	}
	_ = conn.Close()
	<-wrote
	for range p.events { //nolint:revive // until the reader has ended
	}
	return events
}

// h2input writes the frames of a client.
type h2input struct {
	bytes.Buffer
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	next  uint32
}

func newH2Input() *h2input {
	in := &h2input{next: 1}
	in.fr = http2.NewFramer(in, nil)
	in.fr.AllowIllegalWrites = true
	in.enc = hpack.NewEncoder(&in.block)
	in.WriteString(http2.ClientPreface)
	_ = in.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = in.fr.WriteWindowUpdate(0, 1<<30)
	return in
}

// request adds one; a nil body is none.
func (in *h2input) request(fields []hpack.HeaderField, body []byte, trailers ...hpack.HeaderField) {
	id := in.next
	in.next += 2
	encode := func(list []hpack.HeaderField) []byte {
		in.block.Reset()
		for _, f := range list {
			_ = in.enc.WriteField(f)
		}
		return in.block.Bytes()
	}
	_ = in.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(fields), EndHeaders: true, EndStream: body == nil})
	if body != nil {
		_ = in.fr.WriteData(id, len(trailers) == 0, body)
	}
	if len(trailers) > 0 {
		_ = in.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(trailers), EndHeaders: true, EndStream: true})
	}
}

func fields(list ...string) []hpack.HeaderField {
	out := make([]hpack.HeaderField, 0, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		out = append(out, hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return out
}

// TestH2SameAsNetHTTP: the same frames give the same requests and the same answers
// as with the server of net/http.
func TestH2SameAsNetHTTP(t *testing.T) {
	t.Parallel()
	in := newH2Input()
	n := 0
	for _, path := range []string{"/", "/length", "/long", "/flush", "/trailers", "/none", "/same", "/early", "/abort", "/a%2Fb;c?d=%20&e#", "/é", "//x", "/?", "*"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "PURGE"} {
			if strings.ContainsAny(path, "#") {
				path = strings.TrimSuffix(path, "#")
			}
			if path == "*" && method != "OPTIONS" {
				continue
			}
			unique := fmt.Sprintf("%s?n=%d", path, n)
			if path == "*" {
				unique = path
			}
			n++
			list := []string{
				":method", method, ":scheme", "https", ":authority", "api.example:8443", ":path", unique,
				"user-agent", "x", "accept", "*/*", "accept", "a/b", "x-empty", "", "x-odd_name.", "\xe9\t1", "te", "trailers",
				"cookie", "a=b", "cookie", "c=d", "cookie", "", "priority", "u=1", "expect", "nothing",
			}
			if method == "POST" {
				in.request(fields(append(list, "content-length", "5")...), []byte("hello"))
				n++
				unique = strings.Replace(unique, "n=", "unknown=", 1)
				list[7] = unique
				in.request(fields(append(list, "trailer", "X-Sum, content-length", "trailer", "x-two")...), []byte("hello"), fields("x-sum", "1", "x-sum", "2", "x-else", "3")...)
			} else {
				in.request(fields(list...), nil)
			}
		}
	}
	// Without an authority; Host in its place, or the same in both.
	in.request(fields(":method", "GET", ":scheme", "http", ":path", "/1"), nil)
	in.request(fields(":path", "/2", ":scheme", "https", ":method", "GET", "host", "b.example"), nil)
	in.request(fields(":path", "/3", ":authority", "b.example", ":scheme", "https", ":method", "GET", "host", "b.example"), nil)
	in.request(fields(":path", "/4", ":authority", "", ":scheme", "https", ":method", "GET", "host", "b.example"), nil)
	in.request(fields(":path", "/another", ":authority", "a.example", ":scheme", "https", ":method", "GET", "host", "b.example"), nil)
	in.request(fields(":path", "/two", ":authority", "a/b", ":scheme", "https", ":method", "GET", "host", "b.example", "host", "c"), nil)
	in.request(fields(":method", "CONNECT", ":authority", "b.example:443"), nil)
	in.request(fields(":method", "POST", ":scheme", "https", ":path", "/5", "content-length", "0"), []byte{})
	in.request(fields(":method", "GET", ":scheme", "https", ":path", "/6", "content-length", "0"), nil)
	streams := int(in.next-1) / 2

	ours, ourEvents := byOurs(t, in.Bytes(), streams)
	theirs, theirEvents := byNetHTTP(t, in.Bytes(), streams)
	if len(ours) != streams {
		t.Errorf("%d requests of %d were handled", len(ours), streams)
	}
	if d := cmp.Diff(theirs, ours); d != "" {
		t.Errorf("requests (-net/http, +ours):\n%s", d)
	}
	if d := cmp.Diff(answers(theirEvents), answers(ourEvents)); d != "" {
		t.Errorf("answers (-net/http, +ours):\n%s", d)
	}
}

// The separators of FuzzH2Request's fields.
const betweenFields, betweenNameAndValue = "\x1e", "\x1f"

func joinFields(list ...string) string {
	var parts []string
	for i := 0; i < len(list); i += 2 {
		parts = append(parts, list[i]+betweenNameAndValue+list[i+1])
	}
	return strings.Join(parts, betweenFields)
}

// FuzzH2Request: what is handled here, net/http handles as well, and sees the same
// in it. It may refuse less.
func FuzzH2Request(f *testing.F) {
	for _, list := range [][]string{
		get(), get("host", "a.example"), get("cookie", "a", "cookie", "b"), get("te", "trailers", "content-length", "0"),
		post("content-length", "3", "expect", "100-continue"), post("trailer", "x-sum"), get("x", " a"), get("X", "a"), get("x", "a\r\nb: c"),
		{":method", "CONNECT", ":authority", "a:443"},
		{":method", "OPTIONS", ":scheme", "http", ":path", "*"},
		{":method", "GET", ":scheme", "https", ":path", "/a?b#c", ":authority", "u@b", "transfer-encoding", "chunked"},
	} {
		f.Add(joinFields(list...), []byte("abc"), true, joinFields("x-sum", "1"))
		f.Add(joinFields(list...), []byte(nil), false, "")
	}
	split := func(s string) (list []hpack.HeaderField) {
		for part := range strings.SplitSeq(s, betweenFields) {
			name, value, _ := strings.Cut(part, betweenNameAndValue)
			list = append(list, hpack.HeaderField{Name: name, Value: value})
		}
		return list
	}
	f.Fuzz(func(t *testing.T, request string, body []byte, hasBody bool, trailers string) {
		if len(request)+len(body)+len(trailers) > 10<<10 {
			return // one frame each
		}
		in := newH2Input()
		var tail []hpack.HeaderField
		if hasBody && trailers != "" {
			tail = split(trailers)
		}
		if !hasBody {
			body = nil
		} else if body == nil {
			body = []byte{}
		}
		in.request(split(request), body, tail...)
		ours, ourEvents := byOurs(t, in.Bytes(), 1)
		whole := false
		for _, e := range ourEvents {
			whole = whole || e.ended
		}
		if len(ours) == 0 || !whole {
			return
		}
		for _, v := range ours {
			if v.Err {
				return // refused by what came after the header
			}
		}
		theirs, theirEvents := byNetHTTP(t, in.Bytes(), 1)
		for uri, v := range theirs {
			// It takes what are no names for trailers, too.
			maps.DeleteFunc(v.Trailer, func(name string, _ []string) bool { return !httpguts.ValidHeaderFieldName(name) })
			if len(v.Trailer) == 0 {
				v.Trailer = nil
			}
			theirs[uri] = v
		}
		if !hasBody {
			// It asks for a body also where there is none.
			theirEvents = slices.DeleteFunc(theirEvents, func(e h2event) bool { return e.status() == "100" })
		}
		if d := cmp.Diff(theirs, ours); d != "" {
			t.Errorf("requests (-net/http, +ours):\n%s", d)
		}
		if d := cmp.Diff(answers(theirEvents), answers(ourEvents)); d != "" {
			t.Errorf("answers (-net/http, +ours):\n%s", d)
		}
	})
}

// FuzzH2: whatever comes after the preface, the connection ends when the peer has
// gone, every handler with it, and what was sent are frames.
func FuzzH2(f *testing.F) {
	usual := newH2Input()
	usual.request(fields(get()...), nil)
	usual.request(fields(post("trailer", "x")...), []byte("abc"), fields("x", "y")...)
	_ = usual.fr.WritePing(false, [8]byte{1})
	_ = usual.fr.WriteWindowUpdate(0, 1000)
	_ = usual.fr.WriteRSTStream(3, http2.ErrCodeCancel)
	_ = usual.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	_ = usual.fr.WritePriority(9, http2.PriorityParam{StreamDep: 9})
	_ = usual.fr.WriteDataPadded(3, true, []byte("x"), make([]byte, 9))
	_ = usual.fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye"))
	f.Add(usual.Bytes()[len(http2.ClientPreface):])
	f.Fuzz(func(t *testing.T, input []byte) {
		client, server := net.Pipe()
		ws := &workers{}
		defer ws.close()
		c := newH2(server, nil, &views{seen: map[string]h2view{}}, ws, slog.New(slog.DiscardHandler))
		done, read := make(chan struct{}), make(chan error, 1)
		go func() {
			c.serve(nil)
			close(done)
		}()
		go func() {
			fr := http2.NewFramer(nil, client)
			fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			for {
				if _, err := fr.ReadFrame(); err != nil {
					_, _ = io.Copy(io.Discard, client)
					read <- err
					return
				}
			}
		}()
		_, _ = io.WriteString(client, http2.ClientPreface)
		_, _ = client.Write(input)
		_ = client.Close()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("the connection has not ended")
		}
		switch err := (<-read).(type) {
		case http2.ConnectionError, http2.StreamError:
			t.Errorf("the server's frames: %v", err)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			c.mu.Lock()
			running, streams := c.running, len(c.streams)
			c.mu.Unlock()
			if running == 0 && streams == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d handlers and %d streams are left", running, streams)
			}
		}
	})
}
