package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/authsome/authsome"
)

// Signed is what changes in a request that is signed again.
type Signed struct {
	Header http.Header // the whole of it; shares the values that stay
	Query  string      // raw
	// Body wraps the program's body, whose chunks carry signatures that have to be
	// made again; its length stays. It is nil when the body goes on as it is.
	Body func(io.Reader) io.Reader
}

// Hash is what Sign takes as the sum of a body.
func Hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Sign replaces the program's signature by one with the keys at the time now. Sum
// is the body's Hash where NeedsHash asks for it.
func (s *Signature) Sign(r *Request, keys *authsome.SigV4, sum string, now time.Time) (*Signed, error) {
	now = now.UTC()
	payload := s.payload
	if s.NeedsHash {
		if payload = sum; !hash.MatchString(sum) {
			return nil, errors.New("sign a request: the hash of its body is missing")
		}
	}
	own := aws.Credentials{
		AccessKeyID:     keys.AccessKeyID.Reveal(),
		SecretAccessKey: keys.SecretAccessKey.Reveal(),
		SessionToken:    keys.SessionToken.Reveal(),
	}
	out := &Signed{Header: maps.Clone(r.Header), Query: r.Query}
	// The program's own token belongs to its own keys.
	for _, name := range []string{"X-Amz-Security-Token", "X-Amz-S3session-Token"} {
		delete(out.Header, name)
	}
	if s.Presigned {
		return out, s.presign(r, out, own, payload, now)
	}
	req := s.canonical(r, r.Query)
	if err := v4.NewSigner().SignHTTP(context.Background(), own, req, payload, s.Service, s.Region, now, s.options); err != nil {
		return nil, fmt.Errorf("sign a request: %w", err)
	}
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
		if v, ok := req.Header[name]; ok {
			out.Header[name] = v
		}
	}
	if payload == signedChunks || payload == signedChunksTrail {
		_, seed, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
		key := signingKey(own.SecretAccessKey, s.Region, s.Service, now)
		scope := strings.Join([]string{now.Format("20060102"), s.Region, s.Service, terminator}, "/")
		out.Body = func(body io.Reader) io.Reader {
			return newChunks(body, key, now.Format(timeFormat), scope, seed, payload == signedChunksTrail)
		}
	}
	return out, nil
}

// presign signs in the query. The date stays, and the end too, unless it is more
// than the skew of clocks away: what goes out is used at once, and an answer that
// quotes it gives away nothing that lasts.
func (s *Signature) presign(r *Request, out *Signed, own aws.Credentials, payload string, now time.Time) error {
	latest := now.Add(skew)
	if s.date.After(latest) {
		return refuse("set the clock of the machine", "the presigned request is dated %s, which is in the future", s.date.Format(time.RFC3339))
	}
	pairs := slices.Clone(s.rest)
	if s.expires > 0 {
		bound := max(1, int(latest.Sub(s.date)/time.Second))
		pairs = append(pairs, "X-Amz-Expires="+strconv.Itoa(min(s.expires, bound)))
	}
	delete(out.Header, "X-Amz-Date")
	req := s.canonical(r, strings.Join(pairs, "&"))
	// AWS IoT takes the token of a session unsigned, behind the signature.
	after := s.Service == "iotdevicegateway" && own.SessionToken != ""
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), own, req, payload, s.Service, s.Region, s.date, s.options,
		func(o *v4.SignerOptions) { o.DisableSessionToken = after })
	if err != nil {
		return fmt.Errorf("sign a request: %w", err)
	}
	if _, out.Query, _ = strings.Cut(signed, "?"); after {
		out.Query += "&X-Amz-Security-Token=" + url.QueryEscape(own.SessionToken)
	}
	return nil
}

func (s *Signature) options(o *v4.SignerOptions) {
	o.DisableHeaderHoisting = true // a header of the program's stays one
	o.DisableURIPathEscaping = s.asIs()
}

// canonical is the request as the signer is to see it: only the headers that the
// program has signed, of those that still exist.
func (s *Signature) canonical(r *Request, query string) *http.Request {
	host := r.Host
	if r.Port != 0 && r.Port != 443 {
		host = net.JoinHostPort(r.Host, strconv.Itoa(r.Port))
	}
	path := canonicalPath(r.Path, s.asIs())
	req := &http.Request{
		Method: r.Method, Host: host, Header: http.Header{},
		URL: &url.URL{Scheme: "https", Host: host, Opaque: "//" + host + path, RawQuery: query},
	}
	for _, name := range s.headers {
		switch name {
		case "Host", "Authorization", "X-Amz-Security-Token", "X-Amz-S3session-Token":
		case "X-Amz-Date":
			// Ours in the header form; in the query form there is none.
		case "Content-Length":
			// As in the message, which may be another than the program's own.
			req.ContentLength = max(r.Length, 0)
		default:
			if v, ok := r.Header[name]; ok {
				req.Header[name] = slices.Clone(v)
			}
		}
	}
	return req
}

// canonicalPath is the path from which the signer goes on.
func canonicalPath(path string, asIs bool) string {
	if !asIs {
		// Doubled slashes count once (RFC 3986 knows no such rule; AWS does). Dot
		// segments are gone already.
		for strings.Contains(path, "//") {
			path = strings.ReplaceAll(path, "//", "/")
		}
		return path
	}
	// S3 decodes the path and escapes it again: all but letters, digits and -._~/.
	var sb strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~/%", c) >= 0:
			sb.WriteByte(c)
		default:
			fmt.Fprintf(&sb, "%%%02X", c)
		}
	}
	return sb.String()
}

// unescape decodes a part of a query as net/url does, in which the signer trusts.
func unescape(s string) (string, error) {
	if strings.Contains(s, ";") {
		return "", errors.New("a bare semicolon")
	}
	return url.QueryUnescape(s)
}
