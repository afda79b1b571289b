package proxy

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// head is the beginning of a usual request.
type head struct {
	method, target, host string
	url                  *url.URL
	header               http.Header
	length               int64 // of the body, in bytes
	close                bool  // the connection ends with this request
}

const (
	// maxUsualLines is how many header lines a usual request has at most.
	maxUsualLines = 100
	// maxUsualDigits keeps the length of a body far from where integers end.
	maxUsualDigits = 15
)

// parseHead reads the head of a usual request, with the empty line that ends it.
// It is false for every other: whatever is rare, odd, ambiguous or wrong is left
// to net/http, which reads it from the start. What parseHead does take, net/http
// takes as well, and sees the same in it; FuzzHead holds the two together.
func parseHead(text string) (head, bool) {
	var h head
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok {
		return h, false
	}
	h.method, line, ok = strings.Cut(line, " ")
	if !ok || !usualMethod(h.method) {
		return h, false
	}
	var proto string
	h.target, proto, ok = strings.Cut(line, " ")
	if !ok || proto != "HTTP/1.1" || !usualTarget(h.target) {
		return h, false
	}
	var err error
	if h.url, err = url.ParseRequestURI(h.target); err != nil {
		return h, false
	}
	lines := strings.Count(rest, "\r\n") - 1
	if lines < 1 || lines > maxUsualLines {
		return h, false
	}
	fields := newFields(lines)
	length := false
	for {
		var name, value string
		if name, value, rest, ok = nextField(rest); !ok {
			return h, false
		}
		if name == "" {
			break
		}
		switch name {
		case "Host":
			if h.host != "" || value == "" {
				return h, false
			}
			h.host = value
			continue
		case "Content-Length":
			if length {
				return h, false
			}
			if h.length, length = usualLength(value); !length {
				return h, false
			}
		case "Connection":
			if fields.header[name] != nil {
				return h, false
			}
			if h.close, ok = usualConnection(value); !ok {
				return h, false
			}
		// Framing, other protocols, and what net/http changes in passing.
		case "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Http2-Settings", "Pragma", "Keep-Alive", "Proxy-Connection":
			return h, false
		}
		fields.add(name, value)
	}
	h.header = fields.header
	return h, rest == "" && h.host != ""
}

// fieldList is the fields of a header, with one array for all of their first values.
type fieldList struct {
	header http.Header
	values []string
}

func newFields(n int) fieldList { return fieldList{make(http.Header, n), make([]string, 0, n)} }

func (f *fieldList) add(name, value string) {
	if had := f.header[name]; had != nil {
		f.header[name] = append(had, value)
		return
	}
	f.values = append(f.values, value)
	n := len(f.values)
	f.header[name] = f.values[n-1 : n : n]
}

// nextField takes the first line off a usual header. name is "" at the empty line
// that ends it.
func nextField(text string) (name, value, rest string, ok bool) {
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok || line == "" {
		return "", "", rest, ok
	}
	if name, value, ok = strings.Cut(line, ":"); !ok || !usualName(name) {
		return "", "", "", false
	}
	value = strings.Trim(value, " \t")
	return textproto.CanonicalMIMEHeaderKey(name), value, rest, usualValue(value)
}

// usualLength reads a Content-Length.
func usualLength(value string) (n int64, ok bool) {
	if value == "" || len(value) > maxUsualDigits || strings.Trim(value, "0123456789") != "" {
		return 0, false
	}
	for _, digit := range []byte(value) {
		n = 10*n + int64(digit-'0')
	}
	return n, true
}

// usualConnection reads a Connection that names no field.
func usualConnection(value string) (end, ok bool) {
	end = strings.EqualFold(value, "close")
	return end, end || strings.EqualFold(value, "keep-alive")
}

// usualMethod leaves out CONNECT and TRACE, which are refused with reasons.
func usualMethod(s string) bool {
	switch s {
	case "GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// usualTarget is an origin-form without anything that a URL does not hold as it
// is (RFC 3986).
func usualTarget(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~!$&'()*+,;=:@/?%", c) < 0:
			return false
		}
	}
	return true
}

// usualName is a token (RFC 9110, section 5.6.2) of what real headers are made of.
func usualName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != ""
}

// usualValue has no control characters but tabs.
func usualValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
