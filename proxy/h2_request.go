package proxy

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2block is a header or trailers as they come out of HPACK.
type h2block struct {
	fields  []hpack.HeaderField
	size    int64 // by section 6.5.2 of RFC 9113
	tooLong bool  // fields is not complete
	noRoom  bool  // because there is no memory for more
	held    int64 // of memory; see headRoom
	hold    func(n int)
	full    func() bool
	names   map[string]string
}

// maxKeptFields is how many fields the next block finds room for.
const maxKeptFields = 64

// add is what the decoder calls for each field.
func (b *h2block) add(f hpack.HeaderField) {
	if b.size += int64(f.Size()); b.size > h2MaxHeaders {
		b.tooLong = true
		return
	}
	for b.size-b.held > headRoom {
		if b.full() {
			b.tooLong, b.noRoom = true, true
			return
		}
		b.hold(headRoom)
		b.held += headRoom
	}
	b.fields = append(b.fields, f)
}

func (b *h2block) clear() {
	clear(b.fields)
	if b.fields = b.fields[:0]; cap(b.fields) > maxKeptFields {
		b.fields = nil
	}
	if b.held > 0 {
		b.hold(int(-b.held))
	}
	b.size, b.held, b.tooLong, b.noRoom = 0, 0, false, false
}

// readBlock decodes a header and the CONTINUATION frames that belong to it
// (section 4.3). Also of one that is refused, since the next depends on it.
func (c *h2conn) readBlock(f *http2.HeadersFrame) error {
	part, ended := f.HeaderBlockFragment(), f.HeadersEnded()
	for n, size := 0, 0; ; n++ {
		// Whoever sends far more than is allowed does not want it decoded.
		if size += len(part); size > 2*h2MaxHeaders || n > h2MaxContinuations {
			return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
		if _, err := c.decoder.Write(part); err != nil {
			return http2.ConnectionError(http2.ErrCodeCompression)
		}
		if c.block.tooLong {
			c.decoder.SetEmitEnabled(false)
		}
		if ended {
			break
		}
		c.hurry()
		head, err := c.readHead()
		if err != nil {
			return err
		}
		next, err := c.readFrame(head)
		if err != nil {
			return err
		}
		more := next.(*http2.ContinuationFrame) // the framer takes nothing else
		part, ended = more.HeaderBlockFragment(), more.HeadersEnded()
	}
	if c.hurried {
		c.hurried = false
		_ = c.conn.SetReadDeadline(time.Time{})
	}
	c.decoder.SetEmitEnabled(true)
	if c.decoder.Close() != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}

// open makes a stream of a request's header; false when the request is malformed
// (section 8.1.1).
func (c *h2conn) open(id uint32, ended bool) (*h2stream, bool) {
	s := &h2stream{c: c, id: id, ended: ended, receive: h2StreamWindow, h2answer: h2answer{length: -1}}
	s.cond.L = &c.mu
	if s.tooLong = c.block.tooLong; s.tooLong {
		s.req, s.declared = &http.Request{}, -1
	} else {
		r, declared, ok := c.block.request()
		if !ok || ended && declared > 0 {
			return nil, false
		}
		s.req, s.declared = &r, declared
	}
	expect := false
	if values := s.req.Header["Expect"]; values != nil {
		if expect = httpguts.HeaderValuesContainsToken(values, "100-continue"); expect {
			delete(s.req.Header, "Expect")
		}
	}
	if s.req.Body = http.NoBody; !ended {
		s.body = &h2body{s: s, expect: expect}
		s.body.cond.L = &s.body.mu
		s.req.Body, s.req.ContentLength = s.body, s.declared
	}
	s.head, c.block.held = c.block.held, 0
	s.life.c = c.child
	s.req = s.req.WithContext(&s.life)
	return s, true
}

// The pseudo-header fields of a request (section 8.3.1).
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
)

// request makes the request, and gives the length of its body as declared, or -1.
// It is false for one that section 8 calls malformed.
func (b *h2block) request() (r http.Request, declared int64, ok bool) {
	var scheme string
	seen, i := 0, 0
	for ; i < len(b.fields); i++ {
		f := &b.fields[i]
		if !f.IsPseudo() {
			break
		}
		which := 0
		switch f.Name {
		case ":method":
			which, r.Method = pseudoMethod, f.Value
		case ":scheme":
			which, scheme = pseudoScheme, f.Value
		case ":authority":
			which, r.Host = pseudoAuthority, f.Value
		case ":path":
			which, r.RequestURI = pseudoPath, f.Value
		}
		if which == 0 || seen&which != 0 || !validValue(f.Value) {
			return r, 0, false
		}
		seen |= which
	}
	if !httpguts.ValidHeaderFieldName(r.Method) {
		return r, 0, false
	}
	if r.Header, declared, ok = b.header(b.fields[i:]); !ok {
		return r, 0, false
	}
	if strings.Contains(r.Host, "@") {
		return r, 0, false
	}
	// Section 8.3.1. A Host beside an authority stays in the header: exchange holds
	// both to the host of the tunnel, and the audit shows who tries what.
	if hosts := r.Header["Host"]; r.Host == "" && len(hosts) > 0 {
		r.Host = hosts[0]
	}
	if r.Method == http.MethodConnect {
		// Section 8.5. What it is answered is up to the proxy.
		if seen != pseudoMethod|pseudoAuthority || r.Host == "" {
			return r, 0, false
		}
		r.URL, r.RequestURI = &url.URL{Host: r.Host}, r.Host
	} else {
		if seen|pseudoAuthority != pseudoMethod|pseudoScheme|pseudoAuthority|pseudoPath || scheme != "https" && scheme != "http" ||
			r.RequestURI == "" || r.RequestURI[0] != '/' && r.RequestURI != "*" {
			return r, 0, false
		}
		var err error
		if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil {
			return r, 0, false
		}
	}
	for _, v := range r.Header["Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			switch {
			case !httpguts.ValidHeaderFieldName(name), name == "Transfer-Encoding", name == "Trailer", name == "Content-Length":
				continue
			case r.Trailer == nil:
				r.Trailer = http.Header{}
			}
			r.Trailer[name] = nil
		}
	}
	delete(r.Header, "Trailer")
	r.Proto, r.ProtoMajor = "HTTP/2.0", 2
	return r, declared, true
}

// header makes the header of a request.
func (b *h2block) header(list []hpack.HeaderField) (h http.Header, length int64, ok bool) {
	out := newFields(len(list))
	h, length = out.header, -1
	var cookies []string
	for i := range list {
		f := &list[i]
		if !validField(f) {
			return nil, 0, false
		}
		name := b.canonical(f.Name)
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
			return nil, 0, false // section 8.2.2
		case "Te":
			if f.Value != "trailers" && f.Value != "" || h[name] != nil {
				return nil, 0, false // section 8.2.2
			}
		case "Content-Length":
			if length >= 0 || f.Value == "" || len(f.Value) > maxLengthDigits {
				return nil, 0, false
			}
			length = 0
			for _, digit := range []byte(f.Value) {
				if digit < '0' || digit > '9' {
					return nil, 0, false
				}
				length = 10*length + int64(digit-'0')
			}
		case "Cookie":
			if cookies = append(cookies, f.Value); len(cookies) > 1 {
				continue
			}
		}
		out.add(name, f.Value)
	}
	if len(cookies) > 1 {
		h["Cookie"][0] = strings.Join(cookies, "; ") // section 8.2.3
	}
	return h, length, true
}

// maxLengthDigits are those of the largest body that fits an int64.
const maxLengthDigits = 18

// validField holds a field to section 8.2.1.
func validField(f *hpack.HeaderField) bool {
	if f.Name == "" {
		return false
	}
	for i := range len(f.Name) {
		switch c := f.Name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		case c >= 0x80 || 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)):
			return false
		}
	}
	return validValue(f.Value)
}

// validValue is validField for the value, also of a pseudo-header field.
func validValue(v string) bool {
	return v == trimmed(v) && httpguts.ValidHeaderFieldValue(v)
}

// trailers takes those of a request; false when they are malformed.
func (b *h2block) trailers(s *h2stream) bool {
	if b.tooLong {
		return false
	}
	h := http.Header{}
	for i := range b.fields {
		f := &b.fields[i]
		if !validField(f) {
			return false // pseudo-header fields are not tokens
		}
		name := b.canonical(f.Name)
		if len(s.req.Trailer) > 0 && !httpguts.ValidTrailerHeader(name) {
			return false
		}
		h[name] = append(h[name], f.Value)
	}
	s.body.mu.Lock()
	defer s.body.mu.Unlock()
	s.body.trailer = h
	return true
}

// commonFields are the names of fields that most requests and answers are made
// of, as http.Header has them.
var commonFields = sync.OnceValue(func() (both struct{ canonical, lower map[string]string }) {
	names := strings.Fields(`
		Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Credentials Access-Control-Allow-Headers
		Access-Control-Allow-Methods Access-Control-Allow-Origin Access-Control-Expose-Headers Access-Control-Max-Age
		Access-Control-Request-Headers Access-Control-Request-Method Age Allow Alt-Svc Anthropic-Beta Anthropic-Version Authorization
		Baggage Cache-Control Cf-Cache-Status Cf-Ray Content-Disposition Content-Encoding Content-Language Content-Length Content-Location
		Content-Range Content-Security-Policy Content-Type Cookie Date Dnt Etag Expect Expires Forwarded From Grpc-Accept-Encoding
		Grpc-Encoding Grpc-Message Grpc-Status Grpc-Timeout Host If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since
		Last-Modified Link Location Max-Forwards Openai-Organization Openai-Processing-Ms Openai-Version Origin Pragma Priority
		Proxy-Authenticate Proxy-Authorization Range Referer Referrer-Policy Refresh Request-Id Retry-After Sec-Fetch-Dest Sec-Fetch-Mode
		Sec-Fetch-Site Sec-Fetch-User Server Server-Timing Set-Cookie Strict-Transport-Security Te Traceparent Tracestate Trailer Trailers
		Upgrade-Insecure-Requests User-Agent Vary Via Www-Authenticate X-Api-Key X-Content-Type-Options X-Forwarded-For X-Forwarded-Host
		X-Forwarded-Proto X-Frame-Options X-Github-Api-Version X-Github-Media-Type X-Github-Request-Id X-Goog-Api-Client X-Goog-Api-Key
		X-Ratelimit-Limit X-Ratelimit-Remaining X-Ratelimit-Reset X-Ratelimit-Resource X-Ratelimit-Used X-Request-Id X-Requested-With
		X-Stainless-Arch X-Stainless-Async X-Stainless-Lang X-Stainless-Os X-Stainless-Package-Version X-Stainless-Retry-Count
		X-Stainless-Runtime X-Stainless-Runtime-Version X-Stainless-Timeout X-Xss-Protection`)
	both.canonical, both.lower = make(map[string]string, len(names)), make(map[string]string, len(names))
	for _, name := range names {
		low := strings.ToLower(name)
		both.canonical[low], both.lower[name] = name, low
	}
	return both
})

// maxNames bounds the other names that a connection remembers.
const maxNames = 64

// canonical is the name as http.Header has it.
func (b *h2block) canonical(low string) string {
	if name, ok := commonFields().canonical[low]; ok {
		return name
	}
	if name, ok := b.names[low]; ok {
		return name
	}
	name := textproto.CanonicalMIMEHeaderKey(low)
	if b.names == nil {
		b.names = map[string]string{}
	}
	if len(b.names) < maxNames && len(low) < maxNames {
		b.names[low] = name
	}
	return name
}

// lowerName is the name as it is sent; "" for what is none.
func (c *h2sender) lowerName(name string) string {
	if low, ok := commonFields().lower[name]; ok {
		return low
	}
	if low, ok := c.lower[name]; ok {
		return low
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return ""
	}
	low := strings.ToLower(name)
	if c.lower == nil {
		c.lower = map[string]string{}
	}
	if len(c.lower) < maxNames && len(name) < maxNames {
		c.lower[name] = low
	}
	return low
}
