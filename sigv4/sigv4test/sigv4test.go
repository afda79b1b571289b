// Package sigv4test checks AWS signatures as AWS does. It shares nothing with what
// makes them: neither package sigv4 nor the SDK's signer, only the description in
// AWS's user guides. Tests hold both to it, and so does the fake AWS that real
// clients talk to.
package sigv4test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Keys are those that an access key id belongs to.
type Keys struct{ Secret, Token string }

// Verified is a request whose signature is right.
type Verified struct {
	AccessKey       string
	Service, Region string
	Signed          []string // names of the signed headers
	Presigned       bool
	Chunks          int // of a body whose chunks are signed
	// Body is the body without the framing of chunks; Trailers are its trailers.
	Body     []byte
	Trailers map[string]string
}

// signature is what a request says of its own.
type signature struct {
	date, day, region, service string
	given                      string
	headers                    []string
	token                      string
	length                     string // x-amz-decoded-content-length
	Verified
}

// Verify reads a request's body and checks its signature against the keys that
// look returns for its access key id. The request is one that a server has got, or
// one that looks alike.
func Verify(r *http.Request, look func(accessKey string) (Keys, bool), now time.Time) (*Verified, error) {
	path, query := split(r)
	params, err := parse(query)
	if err != nil {
		return nil, err
	}
	s, err := read(r, params)
	if err != nil {
		return nil, err
	}
	keys, ok := look(s.AccessKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("InvalidAccessKeyId: %q", s.AccessKey)
	case s.token != keys.Token:
		return nil, errors.New("InvalidToken: the security token is not the key's")
	case !slices.Contains(s.headers, "host"):
		return nil, errors.New("the host is not signed")
	}
	if err := s.fresh(params, now); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		payload = first(params, "X-Amz-Content-Sha256")
	}
	s3 := s.service == "s3" || s.service == "s3express" || s.service == "s3-object-lambda" || s.service == "s3-outposts"
	switch {
	case payload == "" && s.Presigned && s3:
		payload = "UNSIGNED-PAYLOAD"
	case payload == "":
		payload = sum(raw)
	case len(payload) == 64 && payload != sum(raw):
		return nil, errors.New("XAmzContentSHA256Mismatch: the body is not the one of the hash")
	}
	if s3 {
		for name := range r.Header {
			if low := strings.ToLower(name); strings.HasPrefix(low, "x-amz-") && !slices.Contains(s.headers, low) {
				return nil, fmt.Errorf("AccessDenied: the header %s is not signed", low)
			}
		}
	}
	canonical := strings.Join([]string{
		r.Method, canonicalPath(path, s3), canonicalQuery(params), s.canonicalHeaders(r), strings.Join(s.headers, ";"), payload,
	}, "\n")
	scope := strings.Join([]string{s.day, s.region, s.service, "aws4_request"}, "/")
	key := []byte("AWS4" + keys.Secret)
	for _, part := range []string{s.day, s.region, s.service, "aws4_request"} {
		key = sign(key, part)
	}
	want := hex.EncodeToString(sign(key, "AWS4-HMAC-SHA256\n"+s.date+"\n"+scope+"\n"+sum([]byte(canonical))))
	if !hmac.Equal([]byte(want), []byte(s.given)) {
		return nil, fmt.Errorf("SignatureDoesNotMatch: have %s, want %s over\n%s", s.given, want, canonical)
	}
	s.Body = raw
	s.Service, s.Region, s.Signed = s.service, s.region, s.headers
	switch payload {
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
		err = s.chunks(raw, key, scope, want, false)
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
		err = s.chunks(raw, key, scope, want, true)
	case "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
		err = s.chunks(raw, nil, "", "", true)
	}
	if err != nil {
		return nil, err
	}
	return &s.Verified, nil
}

func split(r *http.Request) (path, query string) {
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	if _, rest, ok := strings.Cut(target, "://"); ok {
		target = rest[strings.IndexByte(rest, '/'):]
	}
	path, query, _ = strings.Cut(target, "?")
	return path, query
}

// param is one of the query, decoded.
type param struct{ name, value string }

func parse(query string) ([]param, error) {
	var out []param
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, errors.New("the query has a broken escape")
		}
		out = append(out, param{n, v})
	}
	return out, nil
}

func first(params []param, name string) string {
	for _, p := range params {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// read takes the parts of the signature from the header or the query.
func read(r *http.Request, params []param) (*signature, error) {
	s := &signature{length: r.Header.Get("X-Amz-Decoded-Content-Length")}
	credential, signed := "", ""
	if auth := r.Header.Get("Authorization"); auth != "" {
		rest, ok := strings.CutPrefix(auth, "AWS4-HMAC-SHA256 ")
		if !ok || first(params, "X-Amz-Algorithm") != "" {
			return nil, errors.New("not one signature of version 4")
		}
		for _, part := range strings.Split(rest, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				signed = value
			case "Signature":
				s.given = value
			}
		}
		s.date, s.token = r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Security-Token")
	} else {
		if first(params, "X-Amz-Algorithm") != "AWS4-HMAC-SHA256" {
			return nil, errors.New("the request is not signed")
		}
		s.Presigned = true
		credential, signed = first(params, "X-Amz-Credential"), first(params, "X-Amz-SignedHeaders")
		s.given, s.date = first(params, "X-Amz-Signature"), first(params, "X-Amz-Date")
		s.token = first(params, "X-Amz-Security-Token")
	}
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || !strings.HasPrefix(s.date, scope[1]) {
		return nil, fmt.Errorf("the credential %q is malformed, or of another day", credential)
	}
	s.AccessKey, s.day, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
	s.headers = strings.Split(signed, ";")
	if !sort.StringsAreSorted(s.headers) {
		return nil, errors.New("the signed headers are not sorted")
	}
	return s, nil
}

// fresh checks the date: 15 minutes of skew, and the end of a presigned request.
func (s *signature) fresh(params []param, now time.Time) error {
	at, err := time.Parse("20060102T150405Z", s.date)
	if err != nil {
		return fmt.Errorf("the date %q is malformed", s.date)
	}
	end := at.Add(15 * time.Minute)
	if s.Presigned {
		seconds, err := strconv.Atoi(first(params, "X-Amz-Expires"))
		if err != nil {
			return errors.New("X-Amz-Expires is missing")
		}
		end = at.Add(time.Duration(seconds) * time.Second)
	}
	if now.After(end) || now.Before(at.Add(-15*time.Minute)) {
		return fmt.Errorf("RequestExpired: signed at %s, and it is %s", at, now)
	}
	return nil
}

func canonicalPath(path string, s3 bool) string {
	if s3 {
		// Decoded and encoded again, segment by segment.
		segments := strings.Split(path, "/")
		for i, seg := range segments {
			if plain, err := url.PathUnescape(seg); err == nil {
				segments[i] = encode(plain)
			}
		}
		return strings.Join(segments, "/")
	}
	var out []string
	for _, seg := range strings.Split(path, "/") {
		switch seg {
		case "", ".":
		case "..":
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, encode(seg))
		}
	}
	result := "/" + strings.Join(out, "/")
	if strings.HasSuffix(path, "/") && len(out) > 0 {
		result += "/"
	}
	return result
}

func canonicalQuery(params []param) string {
	var out []string
	for _, p := range params {
		if p.name != "X-Amz-Signature" {
			out = append(out, encode(p.name)+"\x00"+encode(p.value))
		}
	}
	sort.Strings(out)
	return strings.ReplaceAll(strings.Join(out, "&"), "\x00", "=")
}

func (s *signature) canonicalHeaders(r *http.Request) string {
	var sb strings.Builder
	for _, name := range s.headers {
		values := r.Header.Values(name)
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		values = slices.Clone(values)
		for i, v := range values {
			v = strings.Trim(v, " \t")
			for strings.Contains(v, "  ") {
				v = strings.ReplaceAll(v, "  ", " ")
			}
			values[i] = v
		}
		sb.WriteString(name + ":" + strings.Join(values, ",") + "\n")
	}
	return sb.String()
}

// chunks reads an aws-chunked body, and checks its signatures where there is a
// key.
func (s *signature) chunks(raw, key []byte, scope, seed string, trailers bool) error {
	last := seed
	var body []byte
	for {
		line, rest, ok := bytes.Cut(raw, []byte("\r\n"))
		if !ok {
			return errors.New("IncompleteBody: a chunk has no beginning")
		}
		digits, given, signed := strings.Cut(string(line), ";chunk-signature=")
		size, err := strconv.ParseInt(digits, 16, 64)
		if err != nil || int64(len(rest)) < size || signed != (key != nil) {
			return fmt.Errorf("IncompleteBody: the chunk %q", line)
		}
		data := rest[:size]
		if key != nil {
			s.Chunks++
			text := strings.Join([]string{"AWS4-HMAC-SHA256-PAYLOAD", s.date, scope, last, sum(nil), sum(data)}, "\n")
			if last = hex.EncodeToString(sign(key, text)); last != given {
				return fmt.Errorf("SignatureDoesNotMatch: chunk %d", s.Chunks)
			}
		}
		body = append(body, data...)
		raw = rest[size:]
		if size == 0 {
			break
		}
		if raw, ok = bytes.CutPrefix(raw, []byte("\r\n")); !ok {
			return errors.New("IncompleteBody: a chunk has no end")
		}
	}
	s.Body = body
	if s.length != "" && s.length != strconv.Itoa(len(body)) {
		return fmt.Errorf("IncompleteBody: %d bytes, and x-amz-decoded-content-length is %s", len(body), s.length)
	}
	if !trailers {
		if string(raw) != "\r\n" {
			return fmt.Errorf("IncompleteBody: %q follows the last chunk", raw)
		}
		return nil
	}
	s.Trailers = map[string]string{}
	given := ""
	var names []string
	for _, line := range strings.FieldsFunc(string(raw), func(c rune) bool { return c == '\r' || c == '\n' }) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("MalformedTrailerError: %q", line)
		}
		if name == "x-amz-trailer-signature" {
			given = value
			continue
		}
		s.Trailers[name] = strings.TrimSpace(value)
		names = append(names, name)
	}
	if key == nil {
		return nil
	}
	sort.Strings(names)
	text := ""
	for _, n := range names {
		text += n + ":" + s.Trailers[n] + "\n"
	}
	if want := hex.EncodeToString(sign(key, strings.Join([]string{"AWS4-HMAC-SHA256-TRAILER", s.date, scope, last, sum([]byte(text))}, "\n"))); want != given {
		return errors.New("SignatureDoesNotMatch: the trailers")
	}
	return nil
}

// encode escapes all but what RFC 3986, section 2.3 calls unreserved.
func encode(s string) string {
	var sb strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			sb.WriteByte(c)
		} else {
			fmt.Fprintf(&sb, "%%%02X", c)
		}
	}
	return sb.String()
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
