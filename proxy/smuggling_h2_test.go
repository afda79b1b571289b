package proxy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// smuggledH2 is a case over HTTP/2, sent on to a service that speaks HTTP/1.1.
type smuggledH2 struct {
	smuggled
	fields   []string // name and value in turns, behind those of getH2
	body     string
	ended    bool // the header ends the stream, whatever is in body
	trailers []string
	reset    bool // the stream is refused as malformed (RFC 9113, section 8.1.1)
}

// malformedH2 makes cases that are refused as malformed.
func malformedH2(cases map[string][]string) (list []smuggledH2) {
	for name, fields := range cases {
		list = append(list, smuggledH2{smuggled: smuggled{name: name}, fields: fields, reset: true, ended: true})
	}
	return list
}

// TestSmuggledHTTP2: what HTTP/2 can carry and HTTP/1.1 cannot does not get into the
// HTTP/1.1 that is spoken to the service.
func TestSmuggledHTTP2(t *testing.T) {
	t.Parallel()
	const path = ":path"
	method := []string{":method", "POST"}
	with := func(more ...string) []string { return append(append([]string(nil), method...), more...) }
	cases := []smuggledH2{
		{smuggled: smuggled{name: "cookies become one", saw: getX + keyLine + "Cookie: a=b; c=d\r\n\r\n"}, fields: []string{"cookie", "a=b", "cookie", "c=d"}, ended: true},
		{smuggled: smuggled{name: "a length that the frames keep", saw: postX + "Content-Length: 3\r\n" + keyLine + "\r\nabc"}, fields: with("content-length", "3"), body: "abc"},
		{smuggled: smuggled{name: "a request in the body", saw: chunkedX + keyLine + "\r\n1c\r\nGET /admin HTTP/1.1\r\nX: yyyy\r\n0\r\n\r\n"}, fields: with(), body: "GET /admin HTTP/1.1\r\nX: yyyy"},
		{smuggled: smuggled{name: "the end of chunks in the body", saw: chunkedX + keyLine + "\r\nb\r\n0\r\n\r\nGET / \r\n0\r\n\r\n"}, fields: with(), body: "0\r\n\r\nGET / "},
		{smuggled: smuggled{name: "mine and AUTHORIZATION", saw: seenX}, fields: []string{"authorization", "Bearer mine", "authorization", "Bearer other"}, ended: true},
		{smuggled: smuggled{name: "a length in disguise", saw: postX + "Content-Length: 3\r\n" + keyLine + "\r\nabc"}, fields: with("content-length", "3", "content_length", "0"), body: "abc"},
		{smuggled: smuggled{name: "chunks in disguise", saw: postX + "Content-Length: 3\r\n" + keyLine + "\r\nabc"}, fields: with("content-length", "3", "transfer_encoding", "chunked"), body: "abc"},
		{smuggled: smuggled{name: "another path in a header", saw: seenX}, fields: []string{"x-original-url", "/admin", "x-rewrite-url", "/admin"}, ended: true},
		{smuggled: smuggled{name: "dot segments", saw: "GET /admin HTTP/1.1\r\n" + hostLine + "\r\n"}, fields: []string{path, "/public/%2e%2e/admin"}, ended: true},
		{smuggled: smuggled{name: "a colon and an @ in the path", saw: "GET /public/@evil.example:80/ HTTP/1.1\r\n" + hostLine + keyLine + "\r\n"}, fields: []string{path, "/public/@evil.example:80/"}, ended: true},
		{smuggled: smuggled{name: "a method of one's own", saw: "GETX /public/x HTTP/1.1\r\n" + hostLine + keyLine + "\r\n"}, fields: []string{":method", "GETX"}, ended: true},
		{smuggled: smuggled{name: "host and authority, the same", saw: seenX}, fields: []string{"host", "PATHS.example.com.:443"}, ended: true},
		{smuggled: smuggled{name: "host and no authority", saw: seenX}, fields: []string{":authority", "-", "host", scoped}, ended: true},
		{smuggled: smuggled{name: "http as the scheme", saw: seenX}, fields: []string{":scheme", "http"}, ended: true},
		{
			smuggled: smuggled{name: "trailers", saw: chunkedX + "Trailer: X-Sum\r\n" + keyLine + "\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"}, fields: with("trailer", "x-sum, host, authorization, content-length"), body: "abc",
			trailers: []string{"x-sum", "1"},
		},
		{
			smuggled: smuggled{name: "trailers that were not announced", saw: chunkedX + keyLine + "\r\n3\r\nabc\r\n0\r\n\r\n"}, fields: with(), body: "abc",
			trailers: []string{"x-sum", "1", "authorization", "mine", "cookie", "a=b", "host", "evil.example", "content-length", "7", "transfer-encoding", "chunked"},
		},

		{smuggled: smuggled{name: "the path of a URL of another host", code: "bad_request"}, fields: []string{path, "//evil.example/../public/x"}, ended: true},
		{smuggled: smuggled{name: "dot segments in disguise", code: "bad_request"}, fields: []string{path, "/public/..%2fadmin"}, ended: true},
		{smuggled: smuggled{name: "space in the path", code: "bad_request"}, fields: []string{path, "/public/x HTTP/1.1"}, ended: true},
		{smuggled: smuggled{name: "space in the query", code: "bad_request"}, fields: []string{path, "/public/x?a=b HTTP/1.1"}, ended: true},
		{smuggled: smuggled{name: "backslash", code: "bad_request"}, fields: []string{path, "/public\\x"}, ended: true},
		{smuggled: smuggled{name: "fragment", code: "bad_request"}, fields: []string{path, "/public/x#y"}, ended: true},
		{smuggled: smuggled{name: "asterisk", code: "bad_request"}, fields: []string{":method", "OPTIONS", path, "*"}, ended: true},
		{smuggled: smuggled{name: "TRACE", code: "bad_request"}, fields: []string{":method", "TRACE"}, ended: true},
		{smuggled: smuggled{name: "CONNECT", code: "bad_request"}, fields: []string{":method", "CONNECT", ":scheme", "-", path, "-"}, ended: true},
		{smuggled: smuggled{name: "another authority", code: "misdirected"}, fields: []string{":authority", "api.github.com"}, ended: true},
		{smuggled: smuggled{name: "another port", code: "misdirected"}, fields: []string{":authority", scoped + ":444"}, ended: true},
		{smuggled: smuggled{name: "an empty authority", code: "misdirected"}, fields: []string{":authority", ""}, ended: true},
		{smuggled: smuggled{name: "an authority with a path", code: "misdirected"}, fields: []string{":authority", scoped + "/admin"}, ended: true},
		{smuggled: smuggled{name: "another host beside the authority", code: "misdirected"}, fields: []string{"host", "evil.example"}, ended: true},
		{smuggled: smuggled{name: "two hosts beside the authority", code: "misdirected"}, fields: []string{"host", scoped, "host", "evil.example"}, ended: true},
		{smuggled: smuggled{name: "neither host nor authority", code: "misdirected"}, fields: []string{":authority", "-"}, ended: true},

		{smuggled: smuggled{name: "a length below the frames", code: "late ", saw: postX + "Content-Length: 1\r\n" + keyLine + "\r\na"}, fields: with("content-length", "1"), body: "abc", reset: true},
		{smuggled: smuggled{name: "a length above the frames", code: "late ", saw: postX + "Content-Length: 4\r\n" + keyLine + "\r\nabcd"}, fields: with("content-length", "4"), body: "abc", reset: true},
		{smuggled: smuggled{name: "a length and no body"}, fields: with("content-length", "4"), ended: true, reset: true},
		{smuggled: smuggled{name: "LF in a trailer", code: "late ", saw: chunkedX + keyLine + "\r\n3\r\nabc\r\n0\r\n\r\n"}, fields: with(), body: "abc", trailers: []string{"x-sum", "1\nhost: evil.example"}, reset: true},
		{
			smuggled: smuggled{name: "trailers of the header, and others announced", code: "late ", saw: chunkedX + "Trailer: X-Sum\r\n" + keyLine + "\r\n3\r\nabc\r\n0\r\n\r\n"}, fields: with("trailer", "x-sum"), body: "abc",
			trailers: []string{"x-sum", "1", "authorization", "mine"}, reset: true,
		},
		{smuggled: smuggled{name: "a pseudo-header in the trailers", code: "late ", saw: chunkedX + keyLine + "\r\n3\r\nabc\r\n0\r\n\r\n"}, fields: with(), body: "abc", trailers: []string{":path", "/admin"}, reset: true},
	}
	cases = append(cases, malformedH2(map[string][]string{
		"CR LF in a value":                {"x", "a\r\nAuthorization: mine"},
		"LF in a value":                   {"x", "a\nAuthorization: mine"},
		"CR in a value":                   {"x", "a\rb"},
		"NUL in a value":                  {"x", "a\x00b"},
		"DEL in a value":                  {"x", "a\x7fb"},
		"space before a value":            {"x", " a"},
		"tab behind a value":              {"x", "a\t"},
		"CR LF in a name":                 {"x: a\r\ny", "b"},
		"colon in a name":                 {"x:y", "b"},
		"space in a name":                 {"x y", "b"},
		"space behind a name":             {"authorization ", "mine"},
		"capitals in a name":              {"Authorization", "mine"},
		"no name":                         {"", "b"},
		"NUL in a name":                   {"x\x00", "b"},
		"obs-text in a name":              {"x\xe9", "b"},
		"CR LF in the path":               {":path", "/public/x HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /"},
		"NUL in the path":                 {":path", "/public/\x00"},
		"tab in the path":                 {":path", "/public/\tx"},
		"an empty path":                   {":path", ""},
		"a path without a slash":          {":path", "public/x"},
		"a URL for a path":                {":path", "https://evil.example/public/x"},
		"CR LF in the method":             {":method", "GET /admin HTTP/1.1\r\nX: "},
		"space in the method":             {":method", "GET /admin"},
		"an empty method":                 {":method", ""},
		"CR LF in the authority":          {":authority", scoped + "\r\nX: y"},
		"user in the authority":           {":authority", "user@" + scoped},
		"host behind a user":              {":authority", scoped + "@evil.example"},
		"CR LF in the scheme":             {":scheme", "https://evil.example/\r\n"},
		"another scheme":                  {":scheme", "ftp"},
		"no path":                         {":path", "-"},
		"no method":                       {":method", "-"},
		"no scheme":                       {":scheme", "-"},
		"path twice":                      {"x", "-", ":path", "+/admin"},
		"authority twice":                 {"x", "-", ":authority", "+evil.example"},
		"a pseudo-header behind a header": {"x", "y", ":path", "+/public/x"},
		"an unknown pseudo-header":        {":x", "+y"},
		"the pseudo-header of an answer":  {":status", "+200"},
		"connection":                      {"connection", "authorization"},
		"keep-alive":                      {"keep-alive", "x"},
		"proxy-connection":                {"proxy-connection", "x"},
		"upgrade":                         {"upgrade", "h2c"},
		"transfer-encoding":               {"transfer-encoding", "chunked"},
		"te: gzip":                        {"te", "gzip"},
		"two lengths":                     {"content-length", "0", "content-length", "3"},
		"two lengths, the same":           {"content-length", "0", "content-length", "0"},
		"a list of lengths":               {"content-length", "0, 0"},
		"+0":                              {"content-length", "+0"},
		"a length with CR LF":             {"content-length", "0\r\nX: y"},
		"a length over 64 bits":           {"content-length", "18446744073709551616"},
		"an empty length":                 {"content-length", ""},
	})...)
	for _, tt := range cases {
		t.Run(tt.name, tt.hold)
	}
}

// getH2 is the header of a GET of /public/x, changed by pairs: a pseudo-header in its
// place, or taken out by "-"; one with "+" before its value, and all else, goes behind.
func getH2(pairs []string) [][2]string {
	list := [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", scoped}, {":path", "/public/x"}}
	for i := 0; i < len(pairs); i += 2 {
		name, value := pairs[i], pairs[i+1]
		more, also := strings.CutPrefix(value, "+")
		if strings.HasPrefix(name, ":") && !also {
			for k := range list {
				if list[k][0] == name {
					list[k][1] = value
				}
			}
			continue
		}
		if !strings.HasPrefix(name, ":") {
			more = value
		}
		list = append(list, [2]string{name, more})
	}
	var out [][2]string
	for _, f := range list {
		if f[1] != "-" {
			out = append(out, f)
		}
	}
	return out
}

func (tt smuggledH2) hold(t *testing.T) {
	w := newWorld(t)
	s := w.record(scoped)
	c, br := w.tunnel(scoped+":443", scoped, "h2")
	fr := h2.NewFramer(c, br)
	fr.AllowIllegalWrites = true
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := c.Write([]byte(h2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	_ = fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	header := func(id uint32, ended bool, list [][2]string) {
		block.Reset()
		for _, f := range list {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		_ = fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ended})
	}
	header(1, tt.ended, getH2(tt.fields))
	if !tt.ended {
		_ = fr.WriteData(1, tt.trailers == nil, []byte(tt.body))
	}
	if tt.trailers != nil {
		var list [][2]string
		for i := 0; i < len(tt.trailers); i += 2 {
			list = append(list, [2]string{tt.trailers[i], tt.trailers[i+1]})
		}
		header(1, true, list)
	}
	status, code, body := readH2(t, fr, 1)
	line, _, _ := strings.Cut(tt.saw, " HTTP/1.1")
	switch {
	case tt.reset:
		if status != "reset with PROTOCOL_ERROR" {
			t.Errorf("the answer is %s, %q; want a reset", status, body)
		}
	case tt.code != "":
		if code != tt.code || status != fmt.Sprint(statusOf[code]) {
			t.Errorf("the answer is %s, code %q, want %q", status, code, tt.code)
		}
	case status != "200" || code != "" || body != line:
		t.Errorf("the answer is %s, code %q, %q, want that to %q", status, code, body, line)
	}
	header(3, true, getH2([]string{":path", "/same"}))
	if status, _, body := readH2(t, fr, 3); status != "200" || body != "GET /same" {
		t.Errorf("the innocent stream got %s, %q", status, body)
	}
	tt.check(t, w, s, innocentX("/same"))
}

// readH2 reads the answer of a stream.
func readH2(t *testing.T, fr *h2.Framer, id uint32) (status, code, body string) {
	t.Helper()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("no answer on stream %d: %v", id, err)
		}
		ended := false
		switch f := f.(type) {
		case *h2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *h2.GoAwayFrame:
			t.Fatalf("the connection ends with %v", f.ErrCode)
		case *h2.RSTStreamFrame:
			if f.StreamID == id {
				return fmt.Sprint("reset with ", f.ErrCode), "", ""
			}
		case *h2.MetaHeadersFrame:
			if f.StreamID != id {
				continue
			}
			status = f.PseudoValue("status")
			for _, field := range f.RegularFields() {
				if field.Name == "authsome-error" {
					code = field.Value
				}
			}
			ended = f.StreamEnded()
		case *h2.DataFrame:
			if f.StreamID == id {
				body += string(f.Data())
				ended = f.StreamEnded()
			}
		}
		if ended {
			return status, code, body
		}
	}
}
