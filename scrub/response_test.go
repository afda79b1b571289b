package scrub

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestAcceptEncoding(t *testing.T) {
	for _, tt := range []struct {
		child []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, "identity"},
		{[]string{"identity"}, "identity"},
		{[]string{"gzip"}, "gzip"},
		{[]string{"gzip, deflate, br, zstd"}, "gzip, deflate, br, zstd"},
		{[]string{"gzip, deflate, br, zstd, dcb, dcz"}, "gzip, deflate, br, zstd"},
		{[]string{"br;q=1.0, gzip;q=0.8, *;q=0.1"}, "br, gzip;q=0.8, zstd;q=0.1, deflate;q=0.1"},
		{[]string{"*"}, "gzip, br, zstd, deflate"},
		{[]string{"*;q=0"}, "identity"},
		{[]string{"gzip;q=0, *"}, "gzip;q=0, br, zstd, deflate"},
		{[]string{"gzip;q=0"}, "identity"},
		{[]string{"compress, gzip;q=0"}, "identity"},
		{[]string{"compress"}, "identity"},
		{[]string{"gzip, identity;q=0"}, "gzip, identity;q=0"},
		{[]string{"identity;q=1, *;q=0"}, "identity"},
		{[]string{"GZIP ; Q=0.50 ,, Br"}, "gzip;q=0.50, br"},
		{[]string{"x-gzip, gzip;q=0.5"}, "gzip"},
		{[]string{"gzip", "br"}, "gzip, br"},
		{[]string{"gzip;q=2, br;q=x, zstd;x=1, deflate;q=0.1234"}, "identity"},
		{[]string{"gzip;q=1e0, br;q=-1, zstd;q=+1, deflate;q=NaN"}, "identity"},
		{[]string{"gzip, gzip;q=0"}, "gzip"},
		{[]string{"gzip\r\nX: y"}, "identity"},
	} {
		if got := AcceptEncoding(tt.child); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.child, got, tt.want)
		}
	}
}

func TestAsk(t *testing.T) {
	s := New(secrets(token))
	for _, tt := range []struct{ before, after http.Header }{
		{http.Header{}, http.Header{}},
		{http.Header{"Accept-Encoding": {"br, compress"}}, http.Header{"Accept-Encoding": {"br"}}},
		{http.Header{"Accept-Encoding": {"br"}, "Range": {"bytes=0-1"}}, http.Header{"Accept-Encoding": {"identity"}, "Range": {"bytes=0-1"}}},
		{http.Header{"Range": {"bytes=0-1"}}, http.Header{"Accept-Encoding": {"identity"}, "Range": {"bytes=0-1"}}},
		{http.Header{"Grpc-Accept-Encoding": {"gzip"}}, http.Header{"Grpc-Accept-Encoding": {"identity"}}},
		{http.Header{"Connect-Accept-Encoding": {"gzip"}, "Accept-Encoding": {"gzip"}}, http.Header{"Connect-Accept-Encoding": {"identity"}, "Accept-Encoding": {"gzip"}}},
	} {
		s.Ask(tt.before)
		if d := cmp.Diff(tt.after, tt.before); d != "" {
			t.Error(d)
		}
	}
}

// answer is what a service says, and what should come of it.
type answer struct {
	method  string // GET
	status  int    // 200
	header  http.Header
	body    string
	unknown bool // its length is not known

	want    http.Header
	wantLen int64
	got     string
	hits    int
	decoded bool
	unseen  bool
}

func TestResponse(t *testing.T) {
	clean := strings.Repeat(someText, 30)
	dirty := strings.Replace(clean, "no such key", "bad key "+token, 7)
	starred := strings.ReplaceAll(dirty, token, stars48)
	big := strings.Repeat(dirty, 400)
	h := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	length := func(s string) string { return strconv.Itoa(len(s)) }
	zipped := func(s string) string { return string(encode(s, "gzip")) }
	tests := map[string]answer{
		"in place": {
			header: h("Content-Length", length(dirty), "Etag", `"a"`, "Content-Md5", "x", "Accept-Ranges", "bytes"), body: dirty, got: starred, hits: 7,
			want: h("Content-Length", length(dirty), "Etag", `"a"`, "Content-Md5", "x", "Accept-Ranges", "bytes"), wantLen: int64(len(dirty)),
		},
		"in place, of unknown length": {header: h("Content-Encoding", "identity"), body: dirty, unknown: true, got: starred, hits: 7, want: h("Content-Encoding", "identity"), wantLen: -1},
		"header":                      {header: h("X-Echo", "Bearer "+token), body: "x", got: "x", hits: 1, want: h("X-Echo", "Bearer "+stars48), wantLen: 1},
		"a range": {
			status: 206, header: h("Content-Range", "bytes 0-9/10", "Content-Length", length(dirty)), body: dirty, got: starred, hits: 7,
			want: h("Content-Range", "bytes 0-9/10", "Content-Length", length(dirty)), wantLen: int64(len(dirty)),
		},
		"ranges": {
			status: 206, header: h("Content-Type", "multipart/byteranges; boundary=x"), body: "--x\r\nContent-Range: bytes 0-47/99\r\n\r\n" + token + "\r\n--x--\r\n", hits: 1,
			got: "--x\r\nContent-Range: bytes 0-47/99\r\n\r\n" + stars48 + "\r\n--x--\r\n", want: h("Content-Type", "multipart/byteranges; boundary=x"), wantLen: 94,
		},
		"a range of an encoded body": {
			status: 206, header: h("Content-Encoding", "gzip", "Etag", `"a"`), body: zipped(dirty)[:100], got: zipped(dirty)[:100], unseen: true,
			want: h("Content-Encoding", "gzip", "Etag", `"a"`), wantLen: 100,
		},
		"an unknown coding":   {header: h("Content-Encoding", "utf-8"), body: dirty, got: starred, hits: 7, unseen: true, want: h("Content-Encoding", "utf-8"), wantLen: int64(len(dirty))},
		"compressed messages": {header: h("Grpc-Encoding", "gzip"), body: zipped(dirty), got: zipped(dirty), unseen: true, want: h("Grpc-Encoding", "gzip"), wantLen: int64(len(zipped(dirty)))},
		"compressed messages of Connect": {
			header: h("Connect-Content-Encoding", "br"), body: "\x00" + dirty, got: "\x00" + starred, hits: 7, unseen: true, want: h("Connect-Content-Encoding", "br"), wantLen: int64(len(dirty)) + 1,
		},
		"messages": {header: h("Grpc-Encoding", "identity"), body: dirty, got: starred, hits: 7, want: h("Grpc-Encoding", "identity"), wantLen: int64(len(dirty))},
		"small and clean": {
			header: h("Content-Encoding", "gzip", "Etag", `"a"`, "Content-Digest", "x"), body: zipped(clean), got: zipped(clean),
			want: h("Content-Encoding", "gzip", "Etag", `"a"`, "Content-Digest", "x"), wantLen: int64(len(zipped(clean))),
		},
		"small and dirty": {
			header: h("Content-Encoding", "gzip", "Content-Length", length(zipped(dirty)), "Etag", `"a"`, "Content-Digest", "x", "Repr-Digest", "x", "Digest", "x", "Content-Md5", "x",
				"X-Amz-Checksum-Crc32", "x", "X-Goog-Hash", "x", "Accept-Ranges", "bytes", "Vary", "Accept-Encoding"),
			body: zipped(dirty), got: starred, hits: 7, decoded: true, want: h("Etag", `W/"a"`, "Vary", "Accept-Encoding"), wantLen: -1,
		},
		"small, and cut off":        {header: h("Content-Encoding", "gzip"), body: zipped(dirty)[:150], decoded: true, hits: 7, got: "…", want: h(), wantLen: -1},
		"small, and no gzip at all": {header: h("Content-Encoding", "gzip"), body: "plain", decoded: true, got: "…", want: h(), wantLen: -1},
		"small, and a bomb":         {header: h("Content-Encoding", "gzip"), body: string(bomb(12 << 20)), decoded: true, got: strings.Repeat("\x00", 12<<20), want: h(), wantLen: -1},
		"of unknown length and clean": {
			header: h("Content-Encoding", "br", "Etag", `W/"a"`), body: string(encode(clean, "br")), unknown: true, got: clean, decoded: true, want: h("Etag", `W/"a"`), wantLen: -1,
		},
		"big":             {header: h("Content-Encoding", "zstd"), body: string(encode(big, "zstd")) + strings.Repeat("\x50\x2a\x4d\x18\x00\x00\x00\x00", 9<<10), got: strings.ReplaceAll(big, token, stars48), hits: 2800, decoded: true, want: h(), wantLen: -1},
		"two codings":     {header: h("Content-Encoding", "deflate", "Content-Encoding", "br"), body: string(encode(dirty, "raw, br")), got: starred, hits: 7, decoded: true, want: h(), wantLen: -1},
		"three codings":   {header: h("Content-Encoding", "gzip, gzip, gzip"), body: "x", got: "x", unseen: true, want: h("Content-Encoding", "gzip, gzip, gzip"), wantLen: 1},
		"HEAD":            {method: "HEAD", header: h("Content-Encoding", "gzip", "Content-Length", "99", "X-Echo", token), hits: 1, want: h("Content-Encoding", "gzip", "Content-Length", "99", "X-Echo", stars48)},
		"204":             {status: 204, header: h("X-Echo", token), hits: 1, want: h("X-Echo", stars48)},
		"304":             {status: 304, header: h("Etag", `"a"`, "Content-Encoding", "gzip"), want: h("Etag", `"a"`, "Content-Encoding", "gzip")},
		"switching":       {status: 101, header: h("Upgrade", "websocket", "X-Echo", token), body: token, got: token, hits: 1, want: h("Upgrade", "websocket", "X-Echo", stars48), wantLen: 48},
		"an empty answer": {header: h("Content-Encoding", "gzip"), unknown: true, decoded: true, want: h(), wantLen: -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := New(secrets(token))
			res := &http.Response{
				Status: "200 OK " + token, StatusCode: tt.status, Header: tt.header, ContentLength: int64(len(tt.body)), Request: &http.Request{Method: tt.method},
				Body: io.NopCloser(strings.NewReader(tt.body)), Trailer: http.Header{"X-Last": {token}, "Content-Digest": {"x"}},
			}
			if tt.status == 0 {
				res.StatusCode = 200
			}
			if tt.unknown {
				res.ContentLength = -1
			}
			report := s.Response(res)
			if res.Status != "200 OK "+stars48 {
				t.Errorf("status line %q", res.Status)
			}
			if d := cmp.Diff(tt.want, res.Header); d != "" {
				t.Error(d)
			}
			if res.ContentLength != tt.wantLen {
				t.Errorf("length %d, want %d", res.ContentLength, tt.wantLen)
			}
			got, err := io.ReadAll(res.Body)
			if broken := tt.got == "…"; (err != nil) != broken || !broken && string(got) != tt.got {
				t.Errorf("%d bytes, %v: %.200q", len(got), err, got)
			}
			if strings.Contains(string(got), token) && tt.status != 101 {
				t.Error("the value is in the body")
			}
			hits := tt.hits + 1 // that of the status line
			if err == nil && len(tt.body) > 0 && tt.status != 101 && tt.method == "" {
				hits++ // that of the trailers
				if res.Trailer.Get("X-Last") != stars48 {
					t.Errorf("trailers %v", res.Trailer)
				}
				if changed := tt.decoded || string(got) != tt.body; (res.Trailer.Get("Content-Digest") == "") != changed {
					t.Errorf("trailers %v", res.Trailer)
				}
			}
			if tt.got != "…" && tt.body != "" && report.Hits().Total() != hits || report.Decoded != tt.decoded || report.Unseen != tt.unseen {
				t.Errorf("%+v, %v; want %d", report, report.Hits(), hits)
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestResponseOfServer goes through net/http on both sides, with every coding, and
// looks at what a client gets: events at once, trailers, a reusable connection.
func TestResponseOfServer(t *testing.T) {
	s := New(secrets("Bearer " + token))
	const events = 20
	next := make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		coding := r.Header.Get("Accept-Encoding")
		var out io.Writer = w
		flush := func() {}
		if coding != "identity" {
			w.Header().Set("Content-Encoding", coding)
			e := encoder(coding, w)
			defer e.Close()
			out, flush = e, func() { _ = e.Flush() }
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Trailer", "X-Last")
		for i := range events {
			fmt.Fprintf(out, "data: %d %s\n\n", i, r.Header.Get("Authorization"))
			flush()
			w.(http.Flusher).Flush()
			<-next
		}
		w.Header().Set("X-Last", r.Header.Get("Authorization"))
	}))
	defer origin.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxConnsPerHost: 1}}
	for _, coding := range []string{"identity", "gzip", "deflate", "br", "zstd"} {
		t.Run(coding, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodGet, origin.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Accept-Encoding": {coding}, "Authorization": {"Bearer " + token}}
			s.Ask(req.Header)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			report := s.Response(res)
			lines := bufio.NewReader(res.Body)
			for i := range events {
				line, err := lines.ReadString('\n')
				if err != nil || line != fmt.Sprintf("data: %d Bearer %s\n", i, stars48) {
					t.Fatalf("%q, %v", line, err)
				}
				if _, err := lines.Discard(1); err != nil {
					t.Fatal(err)
				}
				next <- struct{}{} // only now goes the next one
			}
			if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
				t.Errorf("%q, %v", rest, err)
			}
			if res.Trailer.Get("X-Last") != "Bearer "+stars48 || report.Hits().Total() != events+1 || report.Decoded != (coding != "identity") {
				t.Errorf("%v, %v, %+v", res.Trailer, report.Hits(), report)
			}
			_ = res.Body.Close()
		})
	}
}

// TestMessages scrubs the frames of a WebSocket's messages in place, as a caller
// does who sees frames: what is held back goes in front of the next frame.
func TestMessages(t *testing.T) {
	s := New(secrets(token))
	st := s.NewStream()
	type frame struct {
		payload string
		last    bool
	}
	var sent []string
	var held []byte
	for _, f := range []frame{
		{"hello", true}, {"key " + token[:10], false}, {token[10:30], false}, {token[30:] + " end", true}, {"sk-proj", true}, {token, true}, {"", true},
	} {
		buf := append(held, f.payload...)
		n := st.Overwrite(buf, f.last)
		sent = append(sent, string(buf[:n]))
		held = bytes.Clone(buf[n:])
		if f.last && len(held) > 0 {
			t.Fatalf("%q was held back at the end of a message", held)
		}
	}
	want := []string{"hello", "key ", "", stars48 + " end", "sk-proj", stars48, ""}
	if d := cmp.Diff(want, sent); d != "" {
		t.Error(d)
	}
	if st.Hits().Total() != 2 {
		t.Errorf("hits %v", st.Hits())
	}
}

// TestCloseDuringRead is what an abort looks like: the read ends with the error of
// the body, and nothing is used twice.
func TestCloseDuringRead(t *testing.T) {
	s := New(secrets(token))
	in, out := io.Pipe()
	res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"gzip"}}, ContentLength: -1, Request: &http.Request{}, Body: in}
	s.Response(res)
	go func() {
		_, _ = out.Write(encode("hello", "gzip")[:12])
		_ = res.Body.Close()
	}()
	if got, err := io.ReadAll(res.Body); err != io.ErrClosedPipe {
		t.Errorf("%q, %v", got, err)
	}
}

// TestResponseBreaksOff has a small encoded body end before its length: what came is
// passed on, and then the error, which tells the child that it is not whole.
func TestResponseBreaksOff(t *testing.T) {
	s := New(secrets(token))
	data := encode(strings.Repeat(someText, 20)+token, "gzip")
	for cause, want := range map[error]error{nil: io.ErrUnexpectedEOF, io.ErrClosedPipe: io.ErrClosedPipe} {
		var body io.Reader = bytes.NewReader(data[:len(data)-8]) // all but the checksum
		if cause != nil {
			body = io.MultiReader(body, iotest.ErrReader(cause))
		}
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"gzip"}}, ContentLength: int64(len(data)), Body: io.NopCloser(body)}
		report := s.Response(res)
		got, err := io.ReadAll(res.Body)
		if err != want || string(got) != strings.Repeat(someText, 20)+stars48 || !report.Decoded {
			t.Errorf("%v: %d bytes, %v", cause, len(got), err)
		}
	}
}

// TestLimitsOfSmallBodies: an encoded body that holds nothing keeps its coding up to
// maxWhole, when it is no more than maxTrial without it.
func TestLimitsOfSmallBodies(t *testing.T) {
	s := New(secrets(token))
	decoded := func(data []byte) bool {
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"gzip"}}, ContentLength: int64(len(data)), Body: io.NopCloser(bytes.NewReader(data))}
		report := s.Response(res)
		got, err := io.ReadAll(res.Body)
		if err != nil || !report.Decoded && !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
		return report.Decoded
	}
	// of pads what it encodes to a length, by the extra field of gzip's header.
	of := func(length int) []byte {
		var extra []byte
		for {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Extra = extra
			_, _ = io.WriteString(w, someText)
			_ = w.Close()
			if b.Len() >= length {
				return b.Bytes()
			}
			extra = make([]byte, length-b.Len()-2)
		}
	}
	if decoded(of(maxWhole)) || !decoded(of(maxWhole+1)) {
		t.Error("maxWhole is another one")
	}
	if decoded(encode(strings.Repeat("0", maxTrial), "gzip")) || !decoded(encode(strings.Repeat("0", maxTrial+1), "gzip")) {
		t.Error("maxTrial is another one")
	}
}

// TestSmallBodiesBesidesTheText: what decoders pass over is no reason to send a small
// body on as it came.
func TestSmallBodiesBesidesTheText(t *testing.T) {
	s := New(secrets(token))
	commented := func(comment string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Comment = comment
		_, _ = io.WriteString(w, someText)
		_ = w.Close()
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"a comment":       commented("key " + token),
		"behind the end":  append(commented(""), "\nfatal error: "+token...),
		"a frame of zstd": append([]byte("\x50\x2a\x4d\x18\x30\x00\x00\x00"+token), encode(someText, "zstd")...),
	} {
		coding := "gzip"
		if data[0] == 0x50 {
			coding = "zstd"
		}
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {coding}}, ContentLength: int64(len(data)), Body: io.NopCloser(bytes.NewReader(data))}
		s.Response(res)
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != someText {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestBehindTheEnd: what follows an encoded body is read up to maxBehind for the sake of
// the trailers, and no further.
func TestBehindTheEnd(t *testing.T) {
	s := New(secrets(token))
	for behind, whole := range map[int]bool{0: true, maxBehind: true, 16 * maxBehind: false} {
		rest := bytes.NewReader(append(encode(someText, "deflate"), make([]byte, behind)...))
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"deflate"}}, ContentLength: -1, Body: io.NopCloser(rest)}
		s.Response(res)
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != someText {
			t.Fatalf("%q, %v", got, err)
		}
		// A decoder may have read some of it ahead.
		if (rest.Len() == 0) != whole || rest.Len() < behind-2*maxBehind {
			t.Errorf("of %d bytes behind the end, %d were not read", behind, rest.Len())
		}
	}
}
