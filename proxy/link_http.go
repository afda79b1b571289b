package proxy

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// write puts a request that has no body on the connection, as
// http.Request.Write would, byte for byte.
func (l *link) write(r *http.Request) error {
	w := l.bw
	for _, s := range [...]string{r.Method, " ", r.URL.RequestURI(), " HTTP/1.1\r\nHost: ", r.Host, "\r\n"} {
		_, _ = w.WriteString(s) // the error stays
	}
	field := func(name string, values []string) {
		for _, v := range values {
			for _, s := range [...]string{name, ": ", textproto.TrimString(v), "\r\n"} {
				_, _ = w.WriteString(s)
			}
		}
	}
	if v := r.Header["User-Agent"]; len(v) > 0 && v[0] != "" {
		field("User-Agent", v[:1])
	}
	var room [32]string
	names := room[:0]
	for name := range r.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		field(name, r.Header[name])
	}
	_, err := w.WriteString("\r\n")
	return err
}

// readAnswer reads the header of an answer. What is not usual is net/http's to
// read, from its first byte.
func (l *link) readAnswer(r *http.Request) (*http.Response, error) {
	for {
		n := l.br.Buffered()
		buf, _ := l.br.Peek(n) // from the buffer: cannot fail
		if end, usual := endOfHead(buf); end > 0 {
			if !usual {
				break
			}
			n = end
			res, ok := parseAnswer(string(buf[:n]), r.Method)
			if !ok {
				break
			}
			_, _ = l.br.Discard(n) // from the buffer: cannot fail
			res.Request = r
			if res.Body == nil {
				res.Body = &lengthBody{l, res.ContentLength}
			}
			return res, nil
		}
		if n == l.br.Size() {
			break
		}
		if _, err := l.br.Peek(n + 1); err != nil {
			break // whoever reads it says what is wrong
		}
	}
	res, err := http.ReadResponse(l.br, r)
	if err == nil && !validStatus(res.StatusCode) {
		return nil, errAnswer
	}
	return res, err
}

// validStatus is RFC 9110, section 15. net/http takes whatever strconv.Atoi does:
// "+20", "000", and over HTTP/2 "2000".
func validStatus(status int) bool { return status >= 100 && status <= 999 }

// parseAnswer reads the header of a usual answer, with the empty line that ends
// it: HTTP/1.1, and a body of announced length, or none. Body is nil when there is
// one. It is false for every other. What it does take, http.ReadResponse takes as
// well, and sees the same in it; FuzzAnswer holds the two together.
func parseAnswer(text, method string) (*http.Response, bool) {
	line, rest, _ := strings.Cut(text, "\r\n")
	status, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(status) < len("200 ") || status[3] != ' ' || !usualValue(status) || strings.Contains(status, "\t") {
		return nil, false
	}
	code := 0
	for _, c := range []byte(status[:3]) {
		if c < '0' || c > '9' {
			return nil, false
		}
		code = 10*code + int(c-'0')
	}
	if code < 200 {
		return nil, false
	}
	res := &http.Response{Status: status, StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}
	lines := strings.Count(rest, "\r\n") - 1
	if lines < 0 || lines > maxUsualLines {
		return nil, false
	}
	fields := newFields(lines + 2) // deliver may add two
	for {
		var name, value string
		if name, value, rest, ok = nextField(rest); !ok {
			return nil, false
		}
		if name == "" {
			break
		}
		switch name {
		case "Content-Length":
			if res.ContentLength >= 0 {
				return nil, false
			}
			if res.ContentLength, ok = usualLength(value); !ok {
				return nil, false
			}
		case "Connection":
			if res.Close || fields.header[name] != nil {
				return nil, false
			}
			if res.Close, ok = usualConnection(value); !ok {
				return nil, false
			}
			if res.Close {
				continue // net/http leaves it out
			}
		// Framing, other protocols, and what net/http changes in passing.
		case "Transfer-Encoding", "Trailer", "Upgrade", "Pragma":
			return nil, false
		}
		fields.add(name, value)
	}
	res.Header = fields.header
	switch {
	case rest != "":
		return nil, false
	case method == http.MethodHead:
		res.Body = http.NoBody
	case code == http.StatusNoContent || code == http.StatusNotModified:
		res.Body, res.ContentLength = http.NoBody, 0
	case res.ContentLength < 0:
		return nil, false // ends with the connection
	case res.ContentLength == 0:
		res.Body = http.NoBody
	}
	return res, true
}

// lengthBody is a body of announced length.
type lengthBody struct {
	link *link
	left int64
}

func (b *lengthBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.link.br.Read(p)
	b.left -= int64(n)
	switch {
	case b.left == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer.
func (b *lengthBody) Close() error { return nil }
