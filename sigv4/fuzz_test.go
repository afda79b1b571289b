package sigv4

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/authsome/authsome/route"
)

// FuzzResign has a program sign a request with placeholders by the SDK's signer,
// signs it again, and has the service check it, which knows neither.
func FuzzResign(f *testing.F) {
	f.Add("PUT", "/a%20b//c%2Fd", "", "X-Amz-Meta-A", "b", "body", true, false, 0)
	f.Add("GET", "/a%20b//c%2Fd:e", "list=2&prefix=a%2Fb&filter[x]=1&filterA", "X-Amz-Meta-A", " a  b ", "body", true, false, 0)
	f.Add("POST", "/", "", "Content-Type", "application/json", "{}", false, false, 0)
	f.Add("GET", "/x", "a=b+c&~=%20", "Range", "bytes=0-9", "", true, true, 0)
	f.Add("PUT", "/x", "", "X-Amz-Acl", "private", "hello, world", true, false, 3)
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body string, s3, presign bool, size int) {
		path, err := route.Path("/" + strings.TrimPrefix(path, "/"))
		name = http.CanonicalHeaderKey(name)
		if err != nil || !token(method) || !token(name) || strings.ContainsAny(value, "\r\n\x00") || !printable(value) || !printable(query) || strings.ContainsAny(query, "#?") ||
			slices.Contains([]string{"Host", "Authorization", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-S3session-Token", "X-Amz-Region-Set", "Content-Length", "Expect", "User-Agent", "Transfer-Encoding", "X-Amzn-Trace-Id"}, name) {
			return
		}
		if _, err := url.ParseQuery(query); err != nil || strings.Contains(strings.ToLower(query), "amz") || strings.Contains(strings.ToLower(query), "sign") || strings.Contains(strings.ToLower(query), "awsaccess") {
			return
		}
		host, service := "b.s3.eu-west-1.amazonaws.com", "s3"
		if !s3 {
			host, service = "lambda.eu-west-1.amazonaws.com", "lambda"
		}
		r := &Request{Method: method, Host: host, Path: path, Query: query, Header: http.Header{name: {value}}, Length: int64(len(body))}
		u := &url.URL{Scheme: "https", Host: host, Opaque: "//" + host + path, RawQuery: query}
		child := &http.Request{Method: method, Host: host, URL: u, Header: http.Header{name: {value}}, ContentLength: r.Length}
		payload := Hash([]byte(body))
		if size > 0 && s3 && !presign {
			payload = signedChunks
			body = string(chunked([]byte(body), size))
			r.Length = int64(len(body))
			child.ContentLength = r.Length
		}
		if s3 && !presign {
			child.Header.Set("X-Amz-Content-Sha256", payload)
		}
		placeholder := aws.Credentials{AccessKeyID: "authsome-proxy-managed", SecretAccessKey: "authsome-proxy-managed", SessionToken: "authsome-proxy-managed"}
		if presign {
			u.RawQuery += "&X-Amz-Expires=60"
			if s3 {
				payload = unsignedPayload
			}
			signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), placeholder, child, payload, service, "eu-west-1", testNow)
			if err != nil {
				return
			}
			_, r.Query, _ = strings.Cut(signed, "?")
			if strings.HasPrefix(name, "X-Amz-") {
				// The signer has moved the header into the query.
				if q, _ := url.ParseQuery(r.Query); q.Has(name) || q.Has(strings.ToLower(name)) {
					delete(r.Header, name)
				}
			}
		} else {
			if err := v4.NewSigner().SignHTTP(context.Background(), placeholder, child, payload, service, "eu-west-1", testNow); err != nil {
				return
			}
			r.Header = child.Header
		}
		again, v := resign(t, r, []byte(body), keysOf("AKIDTEST", "secret", "token"), testNow)
		if v.Presigned != presign || v.Service != service {
			t.Errorf("%v", v)
		}
		// What is presigned ends sooner after us. In paths, S3's own clients escape all
		// that S3 will, and the signer leaves doubled slashes in the others', which AWS
		// does not (get-slashes-normalized of its suite).
		if presign || s3 && strings.Trim(path, s3Unescaped) != "" || !s3 && strings.Contains(path, "//") {
			return
		}
		// The program itself, had it had the keys, would have sent the same.
		real := aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "secret", SessionToken: "token"}
		u.RawQuery = query
		itself := &http.Request{Method: method, Host: host, URL: u, Header: http.Header{name: {value}}, ContentLength: child.ContentLength}
		if s3 {
			itself.Header.Set("X-Amz-Content-Sha256", payload)
		}
		if err := v4.NewSigner().SignHTTP(context.Background(), real, itself, payload, service, "eu-west-1", testNow, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = s3 }); err != nil {
			t.Fatal(err)
		}
		for name := range itself.Header {
			if !slices.Equal(again.Header[name], itself.Header[name]) {
				t.Errorf("%s is %q, and of the SDK %q", name, again.Header[name], itself.Header[name])
			}
		}
		if len(again.Header) != len(itself.Header) {
			t.Errorf("signed %q, and the SDK %q", again.Header, itself.Header)
		}
	})
}

// FuzzFind takes whatever a program sends.
func FuzzFind(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "a=b", "s3.us-east-1.amazonaws.com", "UNSIGNED-PAYLOAD")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/20260101/us-east-1/s3/aws4_request&X-Amz-Date=20260101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires=1", "b.s3.amazonaws.com", "")
	f.Add("AWS4-ECDSA-P256-SHA256 x", "", "..amazonaws.com", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	f.Fuzz(func(t *testing.T, authorization, query, host, payload string) {
		r := &Request{Method: "PUT", Host: host, Path: "/", Query: query, Header: http.Header{}, Length: -1}
		for name, v := range map[string]string{"Authorization": authorization, "X-Amz-Content-Sha256": payload} {
			if v != "" {
				r.Header.Set(name, v)
			}
		}
		s, err := Find(r)
		if s == nil {
			return
		}
		if err != nil {
			t.Fatal("a signature and an error")
		}
		e, ok := Lookup(host)
		if !ok || !slices.Contains(e.Services, s.Service) || e.Region != "" && e.Region != s.Region {
			t.Fatalf("%s in %s is signed for at %s", s.Service, s.Region, host)
		}
		signed, err := s.Sign(r, keysOf("AKIDTEST", "very-secret", ""), emptyHash, testNow)
		if err == nil && strings.Contains(signed.Query+signed.Header.Get("Authorization"), "very-secret") {
			t.Fatal("the secret is on the wire")
		}
	})
}

// FuzzChunks signs bodies again that were never meant to be.
func FuzzChunks(f *testing.F) {
	f.Add(string(chunked([]byte("hello, world"), 5)), false)
	f.Add(string(chunked([]byte("hello"), 5, "x-amz-checksum-crc32:AA==")), true)
	f.Fuzz(func(t *testing.T, body string, trailers bool) {
		key := signingKey("secret", "us-east-1", "s3", testNow)
		c := newChunks(strings.NewReader(body), key, testNow.Format(timeFormat), "scope", strings.Repeat("0", 64), trailers)
		out, err := io.ReadAll(c)
		if len(out) > len(body) || err == nil && len(out) != len(body) {
			t.Fatalf("%d bytes of %d: %v", len(out), len(body), err)
		}
	})
}

const s3Unescaped = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/%"

func token(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
